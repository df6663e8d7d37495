/* SPDX-License-Identifier: MIT */
/* Running policies over sequences, and what came out. */
#ifndef BENCH_TRACE_SIMULATE_H
#define BENCH_TRACE_SIMULATE_H

#include "policy.h"
#include "sequence.h"

#define TRACE_SIZES_MAX 64u
#define TRACE_FILES_MAX 32u

/* One policy over one sequence with one number of frames. */
struct trace_count {
    uint64_t misses;
    uint64_t steps; /* slots that the hand looked at; 0: no hand */
    /* What 1 + i/8 times the frames would miss, by the policy's ghosts; 0: it has none. */
    uint64_t estimates[TRACE_AGE_STEPS + 1];
};

/* Count the misses. 0, or -1: no memory. */
int trace_simulate(const struct trace_policy *policy, const struct trace_sequence *sequence,
                   uint32_t frames, struct trace_count *out_count);

/* All results of one sequence. */
struct trace_result {
    struct trace_sequence sequence;
    unsigned size_count;
    uint32_t frames[TRACE_SIZES_MAX]; /* rising */
    struct trace_count counts[TRACE_SIZES_MAX][TRACE_POLICIES];
    uint64_t larger[TRACE_SIZES_MAX][3]; /* misses of the first policy at trace_factors, if asked */
};

static inline double trace_miss_ratio(const struct trace_result *result, unsigned size,
                                      unsigned policy)
{
    return (double)result->counts[size][policy].misses / (double)result->sequence.access_count;
}

/*
 * By how much a policy's miss ratio is below that of another, in percent of the latter, mean over
 * the sizes of one sequence. The measure of the eviction study.
 */
double trace_reduction(const struct trace_result *result, unsigned policy, unsigned base);

#endif
