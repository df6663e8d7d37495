/* SPDX-License-Identifier: MIT */
/* The workload of `clockpool-bench order`, and recording what one engine makes of it. */
#ifndef BENCH_ORDER_WORK_H
#define BENCH_ORDER_WORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <clockpool/pager.h>
#include "cgroup.h"
#include "crash/trace.h"

#define ORDER_PAGES_PER_TRANSACTION 2u
#define ORDER_CHANGED_BYTES         104u /* of each page, as in `run --workload commit` */

struct order_job {
    const char *name; /* of the engine, for people */
    enum cp_engine engine;
    bool in_place;
    uint64_t size_bytes; /* of the data */
    uint64_t mem_bytes;  /* what the engine may use */
    uint32_t page_size;
    uint64_t transactions;
    uint64_t group; /* transactions made durable together */
    uint64_t nudge; /* transactions, on average, between two requests to the kernel to write back;
                       0: never */
    uint64_t seed;
    const struct bench_cgroup *limit; /* the workload's process joins it; NULL: none */
    char *text;                       /* why it failed */
    size_t text_capacity;
};

/*
 * Run the job on a new store in root, an existing empty directory. fuse: record from outside, else
 * by the library's own I/O backend, which does not see what the kernel writes from a mapping. The
 * store is loaded first; the mark CRASH_MARK_CREATED ends that. 0, or -1 with job->text.
 */
int order_record(struct order_job *job, const char *root, bool fuse, struct crash_trace *trace);

#endif
