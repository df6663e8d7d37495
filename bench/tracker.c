/* SPDX-License-Identifier: MIT */
/* Counting acknowledged updates. See tracker.h. */
#include "tracker.h"

#include <stdlib.h>

static uint64_t tracked_count(const struct bench_tracker *tracker)
{
    return ((tracker->page_count - 1) >> tracker->shift) + 1;
}

int bench_tracker_init(struct bench_tracker *tracker, uint64_t page_count)
{
    tracker->page_count = page_count;
    tracker->shift = 0;
    while (tracked_count(tracker) > BENCH_TRACKED_MAX)
        tracker->shift++;
    uint64_t count = tracked_count(tracker);
    tracker->pages = calloc(count, sizeof *tracker->pages);
    if (tracker->pages == NULL)
        return -1;
    for (uint64_t i = 0; i < count; i++)
        atomic_init(&tracker->pages[i].before, UINT64_MAX);
    return 0;
}

void bench_tracker_fini(struct bench_tracker *tracker)
{
    free(tracker->pages);
    tracker->pages = NULL;
}

/* relaxed, all of them: counts alone, read after the threads that count were joined */

void bench_tracker_note_begun(struct bench_tracker *tracker, uint64_t page, uint64_t counter)
{
    if (!bench_tracker_has(tracker, page))
        return;
    _Atomic uint64_t *before = &tracker->pages[page >> tracker->shift].before;
    uint64_t known = atomic_load_explicit(before, memory_order_relaxed);
    /* ends: the value only falls */
    while (counter < known &&
           !atomic_compare_exchange_weak_explicit(before, &known, counter, memory_order_relaxed,
                                                  memory_order_relaxed)) {
    }
}

void bench_tracker_note_done(struct bench_tracker *tracker, uint64_t page)
{
    if (bench_tracker_has(tracker, page))
        atomic_fetch_add_explicit(&tracker->pages[page >> tracker->shift].done, 1,
                                  memory_order_relaxed);
}

uint64_t bench_tracker_done(const struct bench_tracker *tracker, uint64_t page)
{
    return atomic_load_explicit(&tracker->pages[page >> tracker->shift].done, memory_order_relaxed);
}

uint64_t bench_tracker_next(const struct bench_tracker *tracker, uint64_t page)
{
    uint64_t count = tracked_count(tracker);
    uint64_t first = page >> tracker->shift;
    if (!bench_tracker_has(tracker, page))
        first++;
    for (uint64_t i = first; i < count; i++)
        if (atomic_load_explicit(&tracker->pages[i].done, memory_order_relaxed) > 0)
            return i << tracker->shift;
    return UINT64_MAX;
}

uint64_t bench_tracker_expected(const struct bench_tracker *tracker, uint64_t page)
{
    const struct bench_tracked *tracked = &tracker->pages[page >> tracker->shift];
    uint64_t before = atomic_load_explicit(&tracked->before, memory_order_relaxed);
    if (before == UINT64_MAX) /* acknowledged without having begun: no counter is right */
        return UINT64_MAX;
    return before + atomic_load_explicit(&tracked->done, memory_order_relaxed);
}
