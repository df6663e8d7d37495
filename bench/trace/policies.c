/* SPDX-License-Identifier: MIT */
/* The list of simulated policies. */
#include "policy.h"

#include <stddef.h>
#include <string.h>

const struct trace_policy *const trace_policies[TRACE_POLICIES] = {
    &trace_policy_clockpool, &trace_policy_clock,  &trace_policy_lru,
    &trace_policy_sieve,     &trace_policy_2q,     &trace_policy_arc,
    &trace_policy_lirs,      &trace_policy_s3fifo, &trace_policy_min,
};

const struct trace_policy *trace_policy_find(const char *name)
{
    for (unsigned i = 0; i < TRACE_POLICIES; i++)
        if (strcmp(trace_policies[i]->name, name) == 0)
            return trace_policies[i];
    return NULL;
}
