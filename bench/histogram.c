/* SPDX-License-Identifier: MIT */
/* Log-linear histogram: merging, differences and quantiles. Recording is inline in the header. */
#include "histogram.h"

#include <math.h>

void bench_histogram_merge(struct bench_histogram *histogram, const struct bench_histogram *from)
{
    /* relaxed: pair with the stores in add; a count may be there before its bucket or after */
    for (unsigned i = 0; i < BENCH_HISTOGRAM_BUCKETS; i++)
        histogram->buckets[i] += __atomic_load_n(&from->buckets[i], __ATOMIC_RELAXED);
    histogram->count += __atomic_load_n(&from->count, __ATOMIC_RELAXED);
    uint64_t max = __atomic_load_n(&from->max, __ATOMIC_RELAXED);
    if (max > histogram->max)
        histogram->max = max;
}

void bench_histogram_add_many(struct bench_histogram *histogram, uint64_t value, uint64_t count)
{
    uint32_t *bucket = &histogram->buckets[bench_histogram_bucket(value)];
    const uint32_t added = (uint32_t)cp_min_u64(count, UINT32_MAX - *bucket);
    *bucket += added;
    histogram->count += added;
    if (added > 0 && value > histogram->max)
        histogram->max = value;
}

/* The largest value that falls into a bucket. */
static uint64_t bucket_top(unsigned bucket)
{
    unsigned group = bucket >> BENCH_HISTOGRAM_SUB_BITS;
    uint64_t sub = bucket & ((1u << BENCH_HISTOGRAM_SUB_BITS) - 1);
    if (group == 0)
        return sub;
    return ((sub + (1u << BENCH_HISTOGRAM_SUB_BITS) + 1) << (group - 1)) - 1;
}

void bench_histogram_difference(struct bench_histogram *histogram,
                                const struct bench_histogram *later)
{
    uint64_t count = 0, max = 0;
    for (unsigned i = 0; i < BENCH_HISTOGRAM_BUCKETS; i++) {
        histogram->buckets[i] = later->buckets[i] - histogram->buckets[i];
        count += histogram->buckets[i];
        if (histogram->buckets[i] > 0)
            max = cp_min_u64(bucket_top(i), later->max);
    }
    histogram->count = count;
    histogram->max = max;
}

uint64_t bench_histogram_quantile(const struct bench_histogram *histogram, double fraction)
{
    if (histogram->count == 0)
        return 0;
    uint64_t rank = (uint64_t)ceil(fraction * (double)histogram->count);
    if (rank < 1)
        rank = 1;
    uint64_t seen = 0;
    for (unsigned i = 0; i < BENCH_HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen >= rank)
            return cp_min_u64(bucket_top(i), histogram->max);
    }
    return histogram->max;
}
