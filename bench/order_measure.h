/* SPDX-License-Identifier: MIT */
/* Which page writes of an engine ran ahead of the log: for the commands order and claims. */
#ifndef BENCH_ORDER_MEASURE_H
#define BENCH_ORDER_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <clockpool/pager.h>
#include "order_count.h"

#define ORDER_ENGINES 3u

struct order_engine {
    const char *name;
    enum cp_engine engine;
    bool in_place; /* changes pages in a shared writable mapping */
};

extern const struct order_engine order_engines[ORDER_ENGINES]; /* pool, mmap, mmap-in-place */

struct order_settings {
    uint64_t size_bytes, mem_bytes, page_size, transactions, group, nudge, seed; /* order_job's */
    const char *dir;     /* where to work; NULL: /dev/shm, else $TMPDIR, else /tmp */
    const char *no_fuse; /* why not from outside (crash_fuse_unavailable); NULL: from outside */
};

#define ORDER_SETTINGS_DEFAULT                                                                     \
    {                                                                                              \
        .size_bytes = UINT64_C(16) << 20, .mem_bytes = UINT64_C(4) << 20, .page_size = 4096,       \
        .transactions = 5000, .group = 1024, .nudge = 256, .seed = 1,                              \
    }

struct order_result {
    bool measured;
    char skipped[512]; /* why, when it was not; the caller's to fill in */
    struct order_counts counts;
    bool limited; /* under a cgroup */
    double seconds;
};

/*
 * Measure one engine; everything made is removed. 0, or -1: it could not be measured, and text says
 * why. Without FUSE an engine that is in_place must not be asked for: nobody sees what it writes.
 */
int order_measure(const struct order_settings *settings, const struct order_engine *engine,
                  struct order_result *out, char *text, size_t capacity);

#endif
