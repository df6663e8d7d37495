/* SPDX-License-Identifier: MIT */
/* Random streams, Zipf numbers, the scramble. See random.h for the sources. */
#include "random.h"

#include <clockpool/base/bits.h>

#include <math.h>

#define GOLDEN UINT64_C(0x9e3779b97f4a7c15)

void bench_random_init(struct bench_random *random, uint64_t seed, uint64_t stream)
{
    uint64_t x = bench_mix(seed + GOLDEN) ^ bench_mix(stream * GOLDEN + 1);
    for (unsigned i = 0; i < 4; i++) {
        x += GOLDEN;
        random->state[i] = bench_mix(x);
    }
}

/* (exp(x) - 1) / x, exact near 0. */
static double expm1_over(double x)
{
    return fabs(x) > 1e-8 ? expm1(x) / x : 1.0 + x * 0.5;
}

/* log(1 + x) / x, exact near 0. */
static double log1p_over(double x)
{
    return fabs(x) > 1e-8 ? log1p(x) / x : 1.0 - x * 0.5;
}

/* The integral of x^-theta from 1 to x. One formula for every theta, 1 included. */
static double h_integral(double x, double theta)
{
    double log_x = log(x);
    return expm1_over((1.0 - theta) * log_x) * log_x;
}

static double h(double x, double theta)
{
    return exp(-theta * log(x));
}

static double h_integral_inverse(double x, double theta)
{
    double t = x * (1.0 - theta);
    if (t < -1.0) /* a rounding error below the smallest value the integral takes */
        t = -1.0;
    return exp(log1p_over(t) * x);
}

void bench_zipf_init(struct bench_zipf *zipf, uint64_t count, double theta)
{
    zipf->count = count;
    zipf->theta = theta;
    zipf->h_x1 = h_integral(1.5, theta) - 1.0;
    zipf->h_count = h_integral((double)count + 0.5, theta);
    zipf->s = 2.0 - h_integral_inverse(h_integral(2.5, theta) - h(2.0, theta), theta);
}

uint64_t bench_zipf_next(const struct bench_zipf *zipf, struct bench_random *random)
{
    /* Ends: a draw is accepted with a probability above 2/3, whatever theta and count. */
    for (;;) {
        double u = zipf->h_count + bench_random_unit(random) * (zipf->h_x1 - zipf->h_count);
        double x = h_integral_inverse(u, zipf->theta);
        double k = floor(x + 0.5);
        if (k < 1.0)
            k = 1.0;
        else if (k > (double)zipf->count)
            k = (double)zipf->count;
        if (k - x <= zipf->s || u >= h_integral(k + 0.5, zipf->theta) - h(k, zipf->theta))
            return (uint64_t)k;
    }
}

void bench_scramble_init(struct bench_scramble *scramble, uint64_t count, uint64_t seed)
{
    scramble->count = count;
    unsigned bits = count > 1 ? cp_log2_ceil(count) : 1;
    scramble->half_bits = (bits + 1) / 2;
    for (unsigned i = 0; i < 4; i++)
        scramble->key[i] = bench_mix(seed + (i + 1) * GOLDEN);
}

uint64_t bench_scramble_apply(const struct bench_scramble *scramble, uint64_t value)
{
    unsigned bits = scramble->half_bits;
    uint64_t mask = (UINT64_C(1) << bits) - 1;
    /* Ends: a walk along a cycle of a bijection comes back to where it began, which is in range. */
    do {
        uint64_t left = value >> bits, right = value & mask;
        for (unsigned i = 0; i < 4; i++) {
            uint64_t next = left ^ (bench_mix(right + scramble->key[i]) & mask);
            left = right;
            right = next;
        }
        value = left << bits | right;
    } while (value >= scramble->count);
    return value;
}

void bench_dist_init(struct bench_dist *dist, bool zipf, double theta, uint64_t count,
                     uint64_t seed)
{
    dist->zipf = zipf;
    dist->theta = theta;
    dist->count = count;
    bench_zipf_init(&dist->zipf_state, count, theta);
    bench_scramble_init(&dist->scramble, count, seed);
}
