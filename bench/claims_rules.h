/* SPDX-License-Identifier: MIT */
/*
 * What `clockpool-bench claims` may conclude from what it measured. No measuring here: each rule is
 * a function of figures, which can come out either way, and the tests have it do so. The rules in
 * words (claims_rules_texts) are printed before anything is measured.
 *
 * Two engines' figures differ when the ratio of their medians is above 1 + margin. The margin is
 * 10 %, or the sum of both spreads (half the range over the median) when that is more: what the
 * repetitions of one engine differ by proves nothing about another.
 */
#ifndef BENCH_CLAIMS_RULES_H
#define BENCH_CLAIMS_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CLAIMS_COUNT        4u
#define CLAIMS_REPEAT       3u
#define CLAIMS_MARGIN       0.10
#define CLAIMS_COPY_SHARE   0.01 /* of the memory: so little in the page cache is no copy */
#define CLAIMS_CHARGE_RANGE 0.05 /* a charge that differs by more between repetitions surprises */

enum claims_verdict { CLAIMS_NOT_MEASURED = 0, CLAIMS_SUPPORTED, CLAIMS_NOT_SUPPORTED };

extern const char *const claims_verdict_names[3];
extern const char *const claims_texts[CLAIMS_COUNT];       /* the claims, from 1 to 4 */
extern const char *const claims_rules_texts[CLAIMS_COUNT]; /* when they count as supported */

/* One figure of one engine, by repetition. */
struct claims_values {
    double of[CLAIMS_REPEAT];
    unsigned count;
};

enum claims_order { CLAIMS_SAME = 0, CLAIMS_LOWER, CLAIMS_HIGHER };

/* Is a's figure lower than b's, higher, or within the margin? Figures are 0 or more. */
enum claims_order claims_compare(const struct claims_values *a, const struct claims_values *b);

/* The figures a verdict needs of the pool and the mapping. */
struct claims_pair {
    struct claims_values pool, mmap;
};

/* All judges: the verdict, and why in a sentence or two. */

/* 1. cv: of the rate, from the time memory was full. filled: it was, in every repetition. */
struct claims_predictability {
    struct claims_pair cv, p999_us;
    bool filled;
};
enum claims_verdict claims_judge_predictability(const struct claims_predictability *figures,
                                                char *reason, size_t capacity);

/* 2. Page writes, and those ahead of the log. */
struct claims_writes {
    uint64_t page_writes, ahead;
};
struct claims_log_order {
    struct claims_writes pool, mmap, in_place;
};
enum claims_verdict claims_judge_log_order(const struct claims_log_order *figures, char *reason,
                                           size_t capacity);

/* 3. faults: that waited for the device, per page read from it. reached: the rate, every time. */
struct claims_latency {
    struct claims_pair p999_us, faults;
    bool reached;
};
enum claims_verdict claims_judge_latency(const struct claims_latency *figures, char *reason,
                                         size_t capacity);

/* 4. copy: bytes of the file in the page cache; buffered: the same of a pool that reads through it.
 * charge: bytes the cgroup is charged with; per_hit: the charge over the hit ratio. */
struct claims_memory {
    struct claims_values copy, buffered_copy, charge;
    struct claims_pair per_hit;
    double mem_bytes, slack_bytes; /* the budget, and what the limit allows beyond */
};
enum claims_verdict claims_judge_memory(const struct claims_memory *figures, char *reason,
                                        size_t capacity);

#endif
