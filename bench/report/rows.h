/* SPDX-License-Identifier: MIT */
/*
 * The rows of results[], read once: by name what was measured, with its spread where the file has
 * it. A row's texts belong to the JSON it was read from.
 */
#ifndef BENCH_REPORT_ROWS_H
#define BENCH_REPORT_ROWS_H

#include <stdbool.h>
#include "input.h"

/* What rows are compared by. */
enum report_metric {
    REPORT_OPS = 0,
    REPORT_P50,
    REPORT_P99,
    REPORT_P999,
    REPORT_MAX,
    REPORT_CPU,
    REPORT_PEAK,
    REPORT_OPEN, /* workload recover only, which has no others but the peak */
    REPORT_METRIC_COUNT,
};

struct report_metric_info {
    const char *field; /* in the JSON; its extremes have _min and _max behind it */
    const char *name;  /* on a command line */
    const char *title; /* over a column */
    bool more_is_better;
};

extern const struct report_metric_info report_metrics[REPORT_METRIC_COUNT];

/* NAN: the file does not have it; of one repetition there are no extremes. */
struct report_value {
    double value, min, max;
};

struct report_row {
    unsigned part; /* index of the file */
    const char *engine, *workload, *dist, *access;
    const char *durability, *failed; /* NULL: none */
    const char *advice;              /* NULL: the file does not say */
    unsigned threads, depth;
    double size_bytes, mem_bytes, page_size_bytes, log_size_bytes;
    double rate;        /* open loop: operations asked for, per second; NAN: closed loop */
    double batch;       /* pages of one call; NAN: one at a time, or the file does not say */
    double write_share; /* mixed: of the operations, so many commit; NAN: not mixed */
    struct report_value values[REPORT_METRIC_COUNT];
    const json_t *json;
};

struct report_rows {
    struct report_row *rows;
    unsigned count;
};

/* All rows of the parts, in their order; parts passed report_check. -1: out of memory. */
int report_rows_read(const struct report_part *parts, unsigned count, struct report_rows *out_rows,
                     struct bench_error *error);
void report_rows_fini(struct report_rows *rows);

/* Rows that may be ranked against each other, by threads, size of the log, and as in the file. */
struct report_group {
    const struct report_row **rows; /* owned; the rows are borrowed */
    unsigned count;
};

/* Cut rows into groups, in the order of their first rows. The caller frees with report_groups_free.
 * -1: out of memory. */
int report_groups_make(const struct report_rows *rows, struct report_group **out_groups,
                       unsigned *out_count, struct bench_error *error);
void report_groups_free(struct report_group *groups, unsigned count);

/* A number of a row by its name; NAN when there is none. */
double report_row_number(const struct report_row *row, const char *field);

/* The workload recover measures the time to open, at a size of log, and no rate. */
bool report_row_recovers(const struct report_row *row);

/* May they be ranked against each other: of one file, doing the same, promising the same. */
bool report_rows_comparable(const struct report_row *a, const struct report_row *b);

/* "read-random · uniform · 2 GiB of data on 256 MiB of memory (does not fit)"; the rate of an open
 * loop as well. Returns text. */
char *report_row_heading(char *text, size_t capacity, const struct report_row *row);

#endif
