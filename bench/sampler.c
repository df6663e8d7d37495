/* SPDX-License-Identifier: MIT */
/* Intervals: when they end, what happened in them, how much they differ. */
#include "sampler.h"

#include <math.h>

double bench_series_interval_s(double seconds)
{
    if (seconds < BENCH_SERIES_INTERVALS)
        return seconds / BENCH_SERIES_INTERVALS;
    return seconds <= BENCH_SERIES_MAX ? 1.0 : ceil(seconds / BENCH_SERIES_MAX);
}

void bench_sampler_begin(struct bench_sampler *sampler, double seconds, uint64_t full_bytes,
                         const struct bench_sample *first, struct bench_series *series)
{
    sampler->series = series;
    sampler->full_bytes = full_bytes;
    sampler->full = false;
    sampler->begin_ns = first->now_ns;
    sampler->interval_ns = (uint64_t)(bench_series_interval_s(seconds) * 1e9);
    if (sampler->interval_ns == 0)
        sampler->interval_ns = 1;
    sampler->due_ns = first->now_ns + sampler->interval_ns;
    sampler->last = *first;
    series->count = 0;
}

void bench_sampler_add(struct bench_sampler *sampler, const struct bench_sample *sample)
{
    struct bench_series *series = sampler->series;
    struct bench_sample *last = &sampler->last;
    const uint64_t elapsed_ns = sample->now_ns - last->now_ns;
    if (elapsed_ns == 0 || series->count == BENCH_SERIES_MAX)
        return;
    const double read_before = series->count > 0 ? series->points[series->count - 1].read_bytes : 0;
    const double read = read_before + (double)(sample->read_bytes - last->read_bytes);
    if (sampler->full_bytes > 0 && !sampler->full && read >= (double)sampler->full_bytes) {
        sampler->full = true;
        sampler->times = last->times;
    }
    struct bench_histogram *times = &last->times; /* becomes the interval's, then the sample's */
    bench_histogram_difference(times, &sample->times);
    struct bench_point *point = &series->points[series->count++];
    *point = (struct bench_point){
        .t_s = (double)(sample->now_ns - sampler->begin_ns) * 1e-9,
        .ops_per_s = (double)(sample->ops - last->ops) * 1e9 / (double)elapsed_ns,
        .p99_us = (double)bench_histogram_quantile(times, 0.99) * 1e-3,
        .max_us = (double)times->max * 1e-3,
        .read_bytes = read,
    };
    *last = *sample;
    /* Kept to the beginning, so that lateness does not add up. */
    const uint64_t passed = (sample->now_ns - sampler->begin_ns) / sampler->interval_ns;
    sampler->due_ns = sampler->begin_ns + (passed + 1) * sampler->interval_ns;
}

void bench_sampler_end(struct bench_sampler *sampler, const struct bench_sample *sample)
{
    if (sampler->series->count == 0 ||
        2 * (sample->now_ns - sampler->last.now_ns) >= sampler->interval_ns)
        bench_sampler_add(sampler, sample);
}

double bench_sampler_full_us(struct bench_sampler *sampler, const struct bench_sample *sample,
                             double fraction)
{
    if (!sampler->full)
        return -1;
    bench_histogram_difference(&sampler->times, &sample->times);
    return (double)bench_histogram_quantile(&sampler->times, fraction) * 1e-3;
}

double bench_series_variation(const struct bench_series *series, double from_s)
{
    double sum = 0, squares = 0;
    unsigned count = 0;
    for (unsigned i = 0; i < series->count; i++)
        if (series->points[i].t_s > from_s) {
            sum += series->points[i].ops_per_s;
            count++;
        }
    const double mean = count > 0 ? sum / count : 0;
    for (unsigned i = 0; i < series->count; i++) {
        const double off = series->points[i].ops_per_s - mean;
        squares += series->points[i].t_s > from_s ? off * off : 0;
    }
    return count > 1 && mean > 0 ? sqrt(squares / (count - 1)) / mean : 0;
}
