/* SPDX-License-Identifier: MIT */
/* One policy over one sequence. */
#include "simulate.h"

#include <stddef.h>

int trace_simulate(const struct trace_policy *policy, const struct trace_sequence *sequence,
                   uint32_t frames, struct trace_count *out_count)
{
    const struct trace_setup setup = {
        .frames = frames,
        .page_count = sequence->page_count,
        .accesses = sequence->accesses,
        .access_count = sequence->access_count,
    };
    void *state = policy->create(&setup);
    if (state == NULL)
        return -1;
    uint64_t misses = 0;
    for (uint32_t at = 0; at < sequence->access_count; at++)
        misses += !policy->access(state, sequence->accesses[at], at);
    out_count->misses = misses;
    out_count->steps = policy->steps != NULL ? policy->steps(state) : 0;
    out_count->estimates[0] = policy->ghost_hits != NULL ? misses : 0;
    for (unsigned i = 0; i < TRACE_AGE_STEPS; i++) {
        uint64_t hits = policy->ghost_hits != NULL ? policy->ghost_hits(state, i) : 0;
        out_count->estimates[i + 1] = out_count->estimates[i] - hits;
    }
    policy->destroy(state);
    return 0;
}

double trace_reduction(const struct trace_result *result, unsigned policy, unsigned base)
{
    double sum = 0;
    for (unsigned s = 0; s < result->size_count; s++)
        sum +=
            1 - (double)result->counts[s][policy].misses / (double)result->counts[s][base].misses;
    return result->size_count > 0 ? 100 * sum / result->size_count : 0;
}
