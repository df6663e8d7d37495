/* SPDX-License-Identifier: MIT */
/*
 * Open loop: operations arrive at a fixed rate, whether the ones before have ended or not.
 *
 * In a closed loop a thread that waits for a slow operation asks for nothing meanwhile, and the
 * operations that would have had to wait too are never counted ("coordinated omission"). Here the
 * time of each is settled beforehand and its latency counts from then, late start included.
 *
 * Arrival k of all is due k / rate after the beginning; they are dealt out to the threads in turn.
 */
#ifndef BENCH_OPENLOOP_H
#define BENCH_OPENLOOP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define BENCH_RATE_MAX 1000000000u

/* The arrivals of one thread of several. */
struct bench_schedule {
    uint64_t begin_ns, rate; /* rate: per second, in all */
    unsigned threads, index;
};

/* When the thread's turn-th arrival (from 0) is due. */
uint64_t bench_schedule_ns(const struct bench_schedule *schedule, uint64_t turn);

/* How many of the thread's arrivals are due in the first elapsed_ns. */
uint64_t bench_turns_due(const struct bench_schedule *schedule, uint64_t elapsed_ns);

/* How many arrivals of all threads are due in the first elapsed_ns. */
uint64_t bench_arrivals_due(uint64_t rate, uint64_t elapsed_ns);

/*
 * Was the rate kept? done of due arrivals have ended. Each thread may be at one, and one in a
 * hundred may wait; more than that is a queue, and latency then says how long it had time to grow.
 */
bool bench_rate_reached(uint64_t due, uint64_t done, unsigned threads);

/*
 * Have this thread woken up as punctually as the kernel can; by default it may be 50 us late, which
 * would be counted as latency.
 */
void bench_wait_punctually(void);

/* Wait until then, or until *stop is not 0: false. */
bool bench_wait_until(uint64_t until_ns, const _Atomic int *stop);

#endif
