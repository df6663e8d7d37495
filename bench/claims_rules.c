/* SPDX-License-Identifier: MIT */
/* The rules of the verdicts: see claims_rules.h. */
#include "claims_rules.h"

#include "summary.h"

#include <inttypes.h>
#include <stdio.h>

const char *const claims_verdict_names[3] = {"not measured", "supported", "not supported here"};

const char *const claims_texts[CLAIMS_COUNT] = {
    "a pool that picks its victims itself is more predictable than the kernel's replacement",
    "a pool can write the log before it evicts a dirty page, a shared mapping cannot",
    "page faults make a mapping's latency unpredictable, a pool's misses are ordinary reads",
    "O_DIRECT removes the second copy in the page cache and makes memory use predictable",
};

const char *const claims_rules_texts[CLAIMS_COUNT] = {
    "from the interval in which memory is full, the pool's variation of ops/s, or its p99.9, is "
    "lower "
    "by more than the margin, and neither is higher by more than it",
    "the pool writes pages, none of them ahead of the log, and the shared writable mapping "
    "(mmap-in-place) writes some ahead of it",
    "at one rate of arrivals that both keep, the pool's p99.9 is lower by more than the margin; "
    "and "
    "of the pages read from the device the mapping waits for half or more in page faults, the pool "
    "for one in a hundred at most",
    "of the file, at most 1 % of the memory's size is in the page cache under the pool, and more "
    "than that when it reads without O_DIRECT (or the probe is blind); it is charged at most its "
    "budget and half of the slack, and 5 % apart at most from one repetition to the next; and per "
    "hit the charge is not higher than the mapping's by more than the margin",
};

enum claims_order claims_compare(const struct claims_values *a, const struct claims_values *b)
{
    const struct bench_summary x = bench_summarize(a->of, a->count);
    const struct bench_summary y = bench_summarize(b->of, b->count);
    double margin = x.spread + y.spread;
    if (margin < CLAIMS_MARGIN)
        margin = CLAIMS_MARGIN;
    if (y.median > x.median * (1 + margin))
        return CLAIMS_LOWER;
    return x.median > y.median * (1 + margin) ? CLAIMS_HIGHER : CLAIMS_SAME;
}

static double median(const struct claims_values *values)
{
    return bench_summarize(values->of, values->count).median;
}

static bool measured(const struct claims_pair *pair)
{
    return pair->pool.count > 0 && pair->mmap.count > 0;
}

static const char *order_word(enum claims_order order)
{
    static const char *const words[3] = {"within the margin", "lower", "higher"};
    return words[order];
}

static enum claims_verdict verdict(bool supported)
{
    return supported ? CLAIMS_SUPPORTED : CLAIMS_NOT_SUPPORTED;
}

enum claims_verdict claims_judge_predictability(const struct claims_predictability *figures,
                                                char *reason, size_t capacity)
{
    if (!figures->filled) {
        snprintf(
            reason, capacity,
            "memory was not full three intervals before the end: more --seconds, or less --mem");
        return CLAIMS_NOT_MEASURED;
    }
    if (!measured(&figures->cv) || !measured(&figures->p999_us)) {
        snprintf(reason, capacity, "there are no figures of both engines");
        return CLAIMS_NOT_MEASURED;
    }
    const enum claims_order cv = claims_compare(&figures->cv.pool, &figures->cv.mmap);
    const enum claims_order p999 = claims_compare(&figures->p999_us.pool, &figures->p999_us.mmap);
    snprintf(reason, capacity,
             "the pool's variation is %s (%.1f %% to %.1f %%), its p99.9 is %s (%.0f to %.0f us)",
             order_word(cv), median(&figures->cv.pool) * 100, median(&figures->cv.mmap) * 100,
             order_word(p999), median(&figures->p999_us.pool), median(&figures->p999_us.mmap));
    return verdict((cv == CLAIMS_LOWER || p999 == CLAIMS_LOWER) && cv != CLAIMS_HIGHER &&
                   p999 != CLAIMS_HIGHER);
}

enum claims_verdict claims_judge_log_order(const struct claims_log_order *figures, char *reason,
                                           size_t capacity)
{
    const struct claims_writes *pool = &figures->pool, *in_place = &figures->in_place;
    if (pool->page_writes == 0 || in_place->page_writes == 0) {
        snprintf(reason, capacity, "no page was written by %s: nothing to be ahead of the log",
                 pool->page_writes == 0 ? "the pool" : "mmap-in-place");
        return CLAIMS_NOT_MEASURED;
    }
    snprintf(reason, capacity,
             "ahead of the log: pool %" PRIu64 " of %" PRIu64 " page writes, mmap (private frames) "
             "%" PRIu64 " of %" PRIu64 ", mmap-in-place %" PRIu64 " of %" PRIu64,
             pool->ahead, pool->page_writes, figures->mmap.ahead, figures->mmap.page_writes,
             in_place->ahead, in_place->page_writes);
    return verdict(pool->ahead == 0 && in_place->ahead > 0);
}

enum claims_verdict claims_judge_latency(const struct claims_latency *figures, char *reason,
                                         size_t capacity)
{
    if (!measured(&figures->p999_us) || !measured(&figures->faults)) {
        snprintf(reason, capacity, "there are no figures of both engines");
        return CLAIMS_NOT_MEASURED;
    }
    if (!figures->reached) {
        snprintf(reason, capacity,
                 "an engine did not keep the rate: its latency is that of a "
                 "queue, on a machine busier than when the rate was chosen");
        return CLAIMS_NOT_MEASURED;
    }
    const enum claims_order p999 = claims_compare(&figures->p999_us.pool, &figures->p999_us.mmap);
    const double pool = median(&figures->faults.pool), mmap = median(&figures->faults.mmap);
    snprintf(
        reason, capacity,
        "the pool's p99.9 is %s (%.0f to %.0f us); faults that wait, per page read: pool %.3f, "
        "mmap %.3f",
        order_word(p999), median(&figures->p999_us.pool), median(&figures->p999_us.mmap), pool,
        mmap);
    return verdict(p999 == CLAIMS_LOWER && mmap >= 0.5 && pool <= 0.01);
}

/* Largest over smallest value, less 1. */
static double range_of(const struct claims_values *values)
{
    const struct bench_summary summary = bench_summarize(values->of, values->count);
    return summary.min > 0 ? summary.max / summary.min - 1 : 1;
}

static double largest(const struct claims_values *values)
{
    return bench_summarize(values->of, values->count).max;
}

enum claims_verdict claims_judge_memory(const struct claims_memory *figures, char *reason,
                                        size_t capacity)
{
    const double mib = 1048576.0, little = figures->mem_bytes * CLAIMS_COPY_SHARE;
    if (!measured(&figures->per_hit) || figures->copy.count == 0 || figures->charge.count == 0 ||
        figures->buffered_copy.count == 0) {
        snprintf(reason, capacity, "there are no figures of both engines and of the control");
        return CLAIMS_NOT_MEASURED;
    }
    if (median(&figures->buffered_copy) <= little) {
        snprintf(reason, capacity,
                 "the control, a pool that reads without O_DIRECT, shows no "
                 "second copy either: the probe cannot see one here");
        return CLAIMS_NOT_MEASURED;
    }
    const enum claims_order per_hit =
        claims_compare(&figures->per_hit.pool, &figures->per_hit.mmap);
    const double copy = largest(&figures->copy), charge = largest(&figures->charge);
    const double range = range_of(&figures->charge);
    snprintf(reason, capacity,
             "in the page cache: %.1f MiB of the file, without O_DIRECT %.1f; charged %.1f MiB for "
             "a budget of %.0f, range %.1f %%; charge per hit against the mapping's: %s",
             copy / mib, median(&figures->buffered_copy) / mib, charge / mib,
             figures->mem_bytes / mib, range * 100, order_word(per_hit));
    return verdict(copy <= little && charge <= figures->mem_bytes + figures->slack_bytes / 2 &&
                   range <= CLAIMS_CHARGE_RANGE && per_hit != CLAIMS_HIGHER);
}
