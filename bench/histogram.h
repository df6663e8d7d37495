/* SPDX-License-Identifier: MIT */
/*
 * A histogram of times with logarithmic ranges, each cut into equal steps: constant memory, a
 * relative error below 1/64 (1.6 %), nothing lost at the top. After the idea of HdrHistogram.
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>
#include <clockpool/base/bits.h>

#define BENCH_HISTOGRAM_SUB_BITS 6u
#define BENCH_HISTOGRAM_TOP_BITS 40u /* 2^40 ns is 18 minutes; longer counts as that */
#define BENCH_HISTOGRAM_BUCKETS                                                                    \
    ((BENCH_HISTOGRAM_TOP_BITS - BENCH_HISTOGRAM_SUB_BITS + 1) << BENCH_HISTOGRAM_SUB_BITS)

/* One writer; about 9 KiB. All zero is empty. Another thread may merge from it meanwhile. */
struct bench_histogram {
    uint64_t count, max;
    uint32_t buckets[BENCH_HISTOGRAM_BUCKETS];
};

static inline unsigned bench_histogram_bucket(uint64_t value)
{
    const uint64_t top = (UINT64_C(1) << BENCH_HISTOGRAM_TOP_BITS) - 1;
    if (value > top)
        value = top;
    if (value < UINT64_C(1) << BENCH_HISTOGRAM_SUB_BITS)
        return (unsigned)value;
    unsigned shift = cp_log2_floor(value) - BENCH_HISTOGRAM_SUB_BITS;
    return ((shift + 1) << BENCH_HISTOGRAM_SUB_BITS) +
           (unsigned)((value >> shift) - (UINT64_C(1) << BENCH_HISTOGRAM_SUB_BITS));
}

static inline void bench_histogram_add(struct bench_histogram *histogram, uint64_t value)
{
    uint32_t *bucket = &histogram->buckets[bench_histogram_bucket(value)];
    /* relaxed: pair with the loads in merge, which need no order among them; one writer */
    __atomic_store_n(bucket, *bucket + 1, __ATOMIC_RELAXED);
    __atomic_store_n(&histogram->count, histogram->count + 1, __ATOMIC_RELAXED);
    if (value > histogram->max)
        __atomic_store_n(&histogram->max, value, __ATOMIC_RELAXED);
}

/* Add value so many times, while nobody merges. */
void bench_histogram_add_many(struct bench_histogram *histogram, uint64_t value, uint64_t count);

/* Add all of from, which may be written to meanwhile, to histogram. */
void bench_histogram_merge(struct bench_histogram *histogram, const struct bench_histogram *from);

/*
 * histogram is an earlier state of later: make it what came in between. Its max is then the top of
 * a bucket, to 1.6 %, and its count what the buckets say.
 */
void bench_histogram_difference(struct bench_histogram *histogram,
                                const struct bench_histogram *later);

/* The value below or at which fraction (0 to 1) of all values lie; 0 when empty. */
uint64_t bench_histogram_quantile(const struct bench_histogram *histogram, double fraction);

#endif
