/* SPDX-License-Identifier: MIT */
/*
 * The memory budget: one limit, one sum, and a sum for each purpose.
 *
 * Invariant: what is taken has been paid for before it is touched, so what is in use never exceeds
 * the limit; only a shrink lowers the limit below the sum, and returns once it holds again. A take
 * that did not notice in time puts its bytes back, and fails.
 */
#include "internal.h"

bool cp_budget__take(struct cp_budget *budget, enum cp_purpose purpose, uint64_t bytes)
{
    uint64_t limit = atomic_load_explicit(&budget->limit_bytes, memory_order_relaxed);
    uint64_t used = atomic_load_explicit(&budget->used_bytes, memory_order_relaxed);

    CP_HOOK("take", NULL, bytes);
    do { /* ends: a failed swap means that another thread's succeeded */
        if (used + bytes > limit)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&budget->used_bytes, &used, used + bytes,
                                                    memory_order_seq_cst, memory_order_relaxed));
    /* seq_cst, both: a resize sets the limit first and looks at the use second (cp_memory__shrink),
     * so that either it sees these bytes, or its limit is seen here. */
    if (used + bytes > atomic_load_explicit(&budget->limit_bytes, memory_order_seq_cst)) {
        atomic_fetch_sub_explicit(&budget->used_bytes, bytes, memory_order_relaxed);
        return false;
    }
    atomic_fetch_add_explicit(&budget->by_purpose[purpose], bytes, memory_order_relaxed);

    uint64_t peak = atomic_load_explicit(&budget->peak_bytes, memory_order_relaxed);
    while (peak < used + bytes &&
           !atomic_compare_exchange_weak_explicit(&budget->peak_bytes, &peak, used + bytes,
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
    return true;
}

void cp_budget__give(struct cp_budget *budget, enum cp_purpose purpose, uint64_t bytes)
{
    uint64_t before =
        atomic_fetch_sub_explicit(&budget->by_purpose[purpose], bytes, memory_order_relaxed);
    cp_assert(before >= bytes);
    before = atomic_fetch_sub_explicit(&budget->used_bytes, bytes, memory_order_relaxed);
    cp_assert(before >= bytes);
}
