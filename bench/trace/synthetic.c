/* SPDX-License-Identifier: MIT */
/*
 * Sequences that are made up, each for one thing that a policy can do well or badly:
 *
 *   scan   Zipf over 10,000 pages (theta 0.9); after each 30,000 of these accesses a scan over
 *          the next 10,000 of 60,000 other pages, each once
 *   loop   a loop over 10,000 pages, 40 rounds; between its pages, one access in ten, a Zipf page
 *          of 1,000 others
 *   shift  Zipf over 20,000 pages (theta 0.8); after each 100,000 accesses the hot ones are others
 */
#include "sequence.h"

#include "random.h"

const char *const trace_synthetic_kinds[TRACE_SYNTHETIC_KINDS] = {"scan", "loop", "shift"};

#define OTHERS UINT64_C(1000000) /* page numbers of the second kind begin here */

static int make_scan(struct bench_random *random, struct trace_builder *builder)
{
    struct bench_zipf zipf;
    int result = 0;
    bench_zipf_init(&zipf, 10000, 0.9);
    for (uint64_t scan = 0; scan < 12; scan++) {
        for (uint32_t i = 0; i < 30000 && result == 0; i++)
            result = trace_builder_add(builder, bench_zipf_next(&zipf, random));
        for (uint64_t i = 0; i < 10000 && result == 0; i++)
            result = trace_builder_add(builder, OTHERS + (scan * 10000 + i) % 60000);
    }
    return result;
}

static int make_loop(struct bench_random *random, struct trace_builder *builder)
{
    struct bench_zipf zipf;
    int result = 0;
    bench_zipf_init(&zipf, 1000, 0.8);
    for (uint32_t round = 0; round < 40; round++) {
        for (uint64_t page = 0; page < 10000 && result == 0; page++) {
            result = trace_builder_add(builder, page);
            if (result == 0 && page % 9 == 0)
                result = trace_builder_add(builder, OTHERS + bench_zipf_next(&zipf, random));
        }
    }
    return result;
}

static int make_shift(struct bench_random *random, struct trace_builder *builder)
{
    int result = 0;
    for (uint32_t phase = 0; phase < 5; phase++) {
        struct bench_dist dist;
        bench_dist_init(&dist, true, 0.8, 20000, bench_random_next(random));
        for (uint32_t i = 0; i < 100000 && result == 0; i++)
            result = trace_builder_add(builder, bench_dist_next(&dist, random));
    }
    return result;
}

int trace_synthetic_make(unsigned kind, uint64_t seed, struct trace_builder *builder)
{
    struct bench_random random;
    bench_random_init(&random, seed, kind);
    switch (kind) {
    case 0:
        return make_scan(&random, builder);
    case 1:
        return make_loop(&random, builder);
    default:
        return make_shift(&random, builder);
    }
}
