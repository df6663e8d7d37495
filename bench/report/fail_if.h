/* SPDX-License-Identifier: MIT */
/* Conditions of `compare --fail-if`: METRIC>RATIO or METRIC<RATIO, several separated by commas. */
#ifndef BENCH_REPORT_FAIL_IF_H
#define BENCH_REPORT_FAIL_IF_H

#include "rows.h"

#define REPORT_CONDITIONS_MAX 32u

struct report_condition {
    enum report_metric metric;
    bool greater; /* else less */
    double ratio; /* new over old */
};

struct report_conditions {
    struct report_condition list[REPORT_CONDITIONS_MAX];
    unsigned count;
};

/*
 * Add the conditions of a text, "p99>1.10,ops<0.9". Metrics are called as in report_metrics, by
 * name or by field. 0, or -1 with a description; conditions are untouched then.
 */
int report_conditions_add(struct report_conditions *conditions, const char *text,
                          struct bench_error *error);

/* Is it broken by that ratio? A condition says what must not be. */
bool report_condition_holds(const struct report_condition *condition, double ratio);

/* "p99>1.1". Returns text. */
char *report_condition_format(char *text, size_t capacity,
                              const struct report_condition *condition);

#endif
