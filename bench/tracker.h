/* SPDX-License-Identifier: MIT */
/*
 * Who loses updates? The tracker counts, outside of the engine, the acknowledged updates of a part
 * of the pages. What a page's counter was before the first of them is the lowest value that any
 * update found. In the end the counter must be that plus the number of acknowledged updates: an
 * update that was lost as a whole, or made twice, shows.
 *
 * Any thread may call note_begun and note_done; the rest is for one thread, when the others have
 * ended.
 */
#ifndef BENCH_TRACKER_H
#define BENCH_TRACKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define BENCH_TRACKED_MAX 65536u /* 1 MiB of counts, part of the memory for code and stacks */

struct bench_tracked {
    _Atomic uint64_t before; /* lowest counter found by an update; UINT64_MAX: none */
    _Atomic uint64_t done;   /* acknowledged updates */
};

struct bench_tracker {
    uint64_t page_count;
    unsigned shift; /* every page whose low bits, so many of them, are 0 is tracked */
    struct bench_tracked *pages;
};

/* 0, or -1: out of memory. */
int bench_tracker_init(struct bench_tracker *tracker, uint64_t page_count);
void bench_tracker_fini(struct bench_tracker *tracker);

/* An update has begun, and found the page's counter at this value. */
void bench_tracker_note_begun(struct bench_tracker *tracker, uint64_t page, uint64_t counter);
/* An update was acknowledged. */
void bench_tracker_note_done(struct bench_tracker *tracker, uint64_t page);

/* The first page at or after page that is tracked and was updated; UINT64_MAX: none. */
uint64_t bench_tracker_next(const struct bench_tracker *tracker, uint64_t page);
/* What the counter of such a page must be. */
uint64_t bench_tracker_expected(const struct bench_tracker *tracker, uint64_t page);
/* Acknowledged updates of a page, which must be tracked. */
uint64_t bench_tracker_done(const struct bench_tracker *tracker, uint64_t page);

static inline bool bench_tracker_has(const struct bench_tracker *tracker, uint64_t page)
{
    return (page & ((UINT64_C(1) << tracker->shift) - 1)) == 0;
}

#endif
