/* SPDX-License-Identifier: MIT */
/*
 * Pseudo-random numbers, and the page distributions of the workloads.
 *
 * A stream is reproduced by its seed. Sources: splitmix64 and xoshiro256** (Blackman and Vigna,
 * "Scrambled linear pseudorandom number generators", 2021); Zipf numbers by rejection-inversion
 * (Hörmann and Derflinger, "Rejection-inversion to generate variates from monotone discrete
 * distributions", 1996), which is exact for every theta >= 0 and needs no table.
 */
#ifndef BENCH_RANDOM_H
#define BENCH_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

struct bench_random {
    uint64_t state[4];
};

/* A strong mix of 64 bits: every input bit reaches every output bit. */
static inline uint64_t bench_mix(uint64_t value)
{
    value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
    return value ^ (value >> 31);
}

/* Start a stream. Streams of different numbers under one seed are independent. */
void bench_random_init(struct bench_random *random, uint64_t seed, uint64_t stream);

static inline uint64_t bench_random_next(struct bench_random *random)
{
    uint64_t *s = random->state;
    uint64_t result = s[1] * 5;
    result = ((result << 7) | (result >> 57)) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = (s[3] << 45) | (s[3] >> 19);
    return result;
}

/* Uniform in [0, bound); the bias is below bound / 2^64. bound >= 1. */
static inline uint64_t bench_random_below(struct bench_random *random, uint64_t bound)
{
    __extension__ typedef unsigned __int128 wide;
    return (uint64_t)(((wide)bench_random_next(random) * bound) >> 64);
}

/* Uniform in [0, 1), 53 bits. */
static inline double bench_random_unit(struct bench_random *random)
{
    return (double)(bench_random_next(random) >> 11) * 0x1.0p-53;
}

/* Numbers 1 .. count with probability proportional to 1 / k^theta. */
struct bench_zipf {
    uint64_t count;
    double theta;
    double h_x1, h_count, s; /* constants of the method, see random.c */
};

void bench_zipf_init(struct bench_zipf *zipf, uint64_t count, double theta);
uint64_t bench_zipf_next(const struct bench_zipf *zipf, struct bench_random *random);

/*
 * A bijection of 0 .. count-1 (a four-round Feistel network, walked until the result is in range):
 * it spreads the hot numbers of a Zipf distribution over the file, so that neighbours do not profit
 * from each other.
 */
struct bench_scramble {
    uint64_t count;
    uint64_t key[4];
    unsigned half_bits;
};

void bench_scramble_init(struct bench_scramble *scramble, uint64_t count, uint64_t seed);
uint64_t bench_scramble_apply(const struct bench_scramble *scramble, uint64_t value);

/* Which page comes next. */
struct bench_dist {
    bool zipf; /* else uniform */
    double theta;
    uint64_t count;
    struct bench_zipf zipf_state;
    struct bench_scramble scramble;
};

void bench_dist_init(struct bench_dist *dist, bool zipf, double theta, uint64_t count,
                     uint64_t seed);

static inline uint64_t bench_dist_next(const struct bench_dist *dist, struct bench_random *random)
{
    if (!dist->zipf)
        return bench_random_below(random, dist->count);
    return bench_scramble_apply(&dist->scramble, bench_zipf_next(&dist->zipf_state, random) - 1);
}

#endif
