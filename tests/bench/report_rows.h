/* SPDX-License-Identifier: MIT */
/* Results for the tests of the report, made by hand. */
#ifndef TESTS_BENCH_REPORT_ROWS_H
#define TESTS_BENCH_REPORT_ROWS_H

#include <jansson.h>

/* A row that passes report_check: a rate with a spread of 10 %, percentiles from p99 on. */
static inline json_t *make_row(const char *engine, unsigned threads, unsigned depth, double ops,
                               double p99)
{
    return json_pack(
        "{s:s,s:s,s:s,s:s,s:i,s:i,s:i,s:i,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:i,s:n}",
        "engine", engine, "workload", "read-random", "dist", "uniform", "access", "fix", "threads",
        (int)threads, "depth", (int)depth, "size_bytes", 1 << 30, "mem_bytes", 1 << 28, "ops_per_s",
        ops, "ops_per_s_min", ops * 0.95, "ops_per_s_max", ops * 1.05, "p50_us", p99 / 2,
        "p50_us_min", p99 / 2, "p50_us_max", p99 / 2, "p99_us", p99, "p999_us", p99 * 2, "max_us",
        p99 * 10, "cpu_us_per_op", 1.0, "hit_ratio", 0.5, "peak_mem_bytes", 300 << 20, "failed");
}

static inline void fail_row(json_t *row, const char *why)
{
    json_object_set_new(row, "failed", json_string(why));
    json_object_set_new(row, "ops_per_s", json_null());
}

/* Takes rows; a file of results. */
static inline json_t *make_file(json_t *rows)
{
    return json_pack("{s:i,s:s,s:o}", "format", 1, "version", "0.1.0", "results", rows);
}

#endif
