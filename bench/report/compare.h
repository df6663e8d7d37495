/* SPDX-License-Identifier: MIT */
/*
 * Comparing two files of results: which rows measure the same, by what ratio they differ, and
 * whether that is more than either's own spread.
 */
#ifndef BENCH_REPORT_COMPARE_H
#define BENCH_REPORT_COMPARE_H

#include "fail_if.h"

/* Is a difference one, or may it be chance? */
enum report_resolution {
    REPORT_UNKNOWN = 0, /* a file does not have the metric's extremes */
    REPORT_RESOLVED,    /* the ranges of the repetitions do not touch */
    REPORT_NOT_RESOLVED,
};

struct report_difference {
    double ratio; /* new over old; INFINITY: the old one is 0; NAN: one of them does not have it */
    enum report_resolution resolution;
};

struct report_pair {
    const struct report_row *old, *new; /* borrowed */
    struct report_difference differences[REPORT_METRIC_COUNT];
};

struct report_comparison {
    struct report_rows rows[2]; /* old, new */
    struct report_pair *pairs;
    unsigned pair_count;
    const struct report_row **lonely; /* in one file only: part 0 is the old one, 1 the new one */
    unsigned lonely_count;
};

/*
 * Match the rows of two files that passed report_check. 0; -1 when they have no row in common, when
 * one has the same row twice, or out of memory. The files must stay until fini.
 */
int report_compare(const struct report_part *old_part, const struct report_part *new_part,
                   struct report_comparison *out_comparison, struct bench_error *error);
void report_comparison_fini(struct report_comparison *comparison);

/* What compare does with a pair and a condition. */
enum report_outcome { REPORT_PASSES = 0, REPORT_BREAKS, REPORT_CANNOT_TELL };

/* A row that had the metric before and now fails, or lacks it, breaks every condition on it. */
enum report_outcome report_judge(const struct report_pair *pair,
                                 const struct report_condition *condition);
/* So does one that is in the old file only. */
enum report_outcome report_judge_lonely(const struct report_row *row,
                                        const struct report_condition *condition);

/* "pool, read-random uniform fix, 8 threads, depth 32, 2 GiB on 256 MiB, advice random". Returns
 * text. */
char *report_pair_name(char *text, size_t capacity, const struct report_row *row);

/* The table, for a person. */
void report_compare_print(FILE *out, const struct report_comparison *comparison);
/* The same as JSON; the caller owns it. */
json_t *report_compare_json(const struct report_comparison *comparison,
                            const struct report_part *old_part, const struct report_part *new_part);

#endif
