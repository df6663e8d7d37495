/* SPDX-License-Identifier: MIT */
/* What `trace` shows: tables, a curve, JSON. */
#ifndef BENCH_TRACE_REPORT_H
#define BENCH_TRACE_REPORT_H

#include "engine.h"
#include "simulate.h"

#include <stdbool.h>
#include <stdio.h>

struct trace_report {
    const struct trace_result *results; /* one a sequence */
    unsigned result_count;
    bool chosen[TRACE_POLICIES];
    uint64_t seed; /* of made-up sequences */
};

void trace_print_tables(const struct trace_report *report, FILE *out);
/* The miss ratios of one sequence over the number of frames. Two sizes or more. */
void trace_print_curve(const struct trace_report *report, const struct trace_result *result,
                       FILE *out);
/*
 * What the pool's ghosts say that pools of 5/4, 3/2 and twice the frames would miss, beside what
 * they do miss (larger: by size and factor). The policy is the pool's own.
 */
#define TRACE_FACTORS 3u
extern const double trace_factors[TRACE_FACTORS];
void trace_print_estimates(const struct trace_result *result, FILE *out);
/* As bench_json_write. */
int trace_write_json(const struct trace_report *report, const char *path,
                     struct bench_error *error);

#endif
