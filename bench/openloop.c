/* SPDX-License-Identifier: MIT */
/* The arithmetic of arrivals, and waiting for them. */
#include "openloop.h"

#include <clockpool/base/bits.h>
#include <clockpool/base/thread.h>

#include <sys/prctl.h>
#include <time.h>

#define SECOND_NS  UINT64_C(1000000000)
#define LOOK_NS    (SECOND_NS / 50) /* how soon a waiting thread sees that it shall stop */
#define LATE_SHARE 100u             /* of the arrivals due, one in so many may be late at the end */

uint64_t bench_schedule_ns(const struct bench_schedule *schedule, uint64_t turn)
{
    __extension__ typedef unsigned __int128 wide; /* hours at a high rate overflow 64 bits */
    const wide number = (wide)turn * schedule->threads + schedule->index;
    return schedule->begin_ns + (uint64_t)(number * SECOND_NS / schedule->rate);
}

uint64_t bench_arrivals_due(uint64_t rate, uint64_t elapsed_ns)
{
    __extension__ typedef unsigned __int128 wide;
    return (uint64_t)((wide)rate * elapsed_ns / SECOND_NS);
}

uint64_t bench_turns_due(const struct bench_schedule *schedule, uint64_t elapsed_ns)
{
    const uint64_t all = bench_arrivals_due(schedule->rate, elapsed_ns);
    return all > schedule->index
               ? (all - schedule->index + schedule->threads - 1) / schedule->threads
               : 0;
}

bool bench_rate_reached(uint64_t due, uint64_t done, unsigned threads)
{
    return done + threads + due / LATE_SHARE >= due;
}

void bench_wait_punctually(void)
{
    prctl(PR_SET_TIMERSLACK, 1UL); /* ns; of this thread */
}

bool bench_wait_until(uint64_t until_ns, const _Atomic int *stop)
{
    uint64_t now = cp_now_ns();
    /* relaxed: the flag carries no data; ends with the time, or when told to stop */
    while (atomic_load_explicit(stop, memory_order_relaxed) == 0) {
        if (now >= until_ns)
            return true;
        uint64_t wake = cp_min_u64(until_ns, now + LOOK_NS);
        struct timespec at = {.tv_sec = (time_t)(wake / SECOND_NS),
                              .tv_nsec = (long)(wake % SECOND_NS)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
        now = cp_now_ns();
    }
    return false;
}
