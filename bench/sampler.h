/* SPDX-License-Identifier: MIT */
/*
 * A measurement over time: throughput and latencies, interval by interval.
 *
 * Workers count and time for themselves alone, as they would without a sampler. Now and then one
 * other thread reads what they have so far and takes the difference to what it read before; the
 * workers share nothing and notice nothing.
 */
#ifndef BENCH_SAMPLER_H
#define BENCH_SAMPLER_H

#include <stdbool.h>
#include <stdint.h>
#include "histogram.h"

#define BENCH_SERIES_MAX       600u
#define BENCH_SERIES_INTERVALS 10u /* at least so many, if a measurement is short */

/* One interval. */
struct bench_point {
    double t_s;            /* its end, from the beginning of the measurement */
    double ops_per_s;      /* by the clock on the wall, whatever the workers spent the time on */
    double p99_us, max_us; /* of what was timed in it, to 1.6 %; 0: nothing was */
    double read_bytes; /* that the process had read from devices, from the beginning to its end */
};

struct bench_series {
    struct bench_point points[BENCH_SERIES_MAX];
    unsigned count;
};

/* What the workers and the kernel have counted so far, all together. */
struct bench_sample {
    uint64_t now_ns, ops, read_bytes;
    struct bench_histogram times;
};

struct bench_sampler {
    struct bench_series *series; /* borrows it until the end */
    uint64_t begin_ns, interval_ns, due_ns;
    struct bench_sample last;
    uint64_t full_bytes; /* read from devices, they fill memory; 0: it does not matter */
    bool full;           /* so much was read: then times has what was timed before that interval */
    struct bench_histogram times;
};

/* Length of an interval: a second; less when there would be few, more when there would be many. */
double bench_series_interval_s(double seconds);

/* Begin. full_bytes: see there. first: what was counted before, with the time; series: emptied,
 * borrowed. */
void bench_sampler_begin(struct bench_sampler *sampler, double seconds, uint64_t full_bytes,
                         const struct bench_sample *first, struct bench_series *series);

/* When the next sample is due. */
static inline uint64_t bench_sampler_due_ns(const struct bench_sampler *sampler)
{
    return sampler->due_ns;
}

/* An interval ends with this sample. Late is no harm: the interval is as long as it was. */
void bench_sampler_add(struct bench_sampler *sampler, const struct bench_sample *sample);

/*
 * The measurement ends with this sample: what has passed since the last one becomes an interval if
 * it is at least half as long as one, or would be the only one.
 */
void bench_sampler_end(struct bench_sampler *sampler, const struct bench_sample *sample);

/*
 * After the end: the value at or below which fraction of all lie that were timed from the interval
 * on in which memory was full, in microseconds; -1: it never was. To be asked once.
 */
double bench_sampler_full_us(struct bench_sampler *sampler, const struct bench_sample *sample,
                             double fraction);

/*
 * Coefficient of variation of ops_per_s, standard deviation over mean, of the intervals that end
 * after from_s. 0 for fewer than two, or where nothing was done.
 */
double bench_series_variation(const struct bench_series *series, double from_s);

#endif
