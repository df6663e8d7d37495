/* SPDX-License-Identifier: MIT */
/* What was measured: one row per engine, workload, distribution, size, access, threads and depth.
 */
#ifndef BENCH_RESULTS_H
#define BENCH_RESULTS_H

#include <jansson.h>
#include "plan.h"
#include "summary.h"

struct bench_row {
    /* what */
    const struct bench_engine *engine;
    enum bench_workload workload;
    char dist[32]; /* "sequential" for scans */
    unsigned size_index, dist_index;
    uint64_t size_bytes, mem_bytes;
    bool fits;
    bool has_durability; /* the workload writes */
    enum bench_durability durability;
    struct bench_cell cell;
    const char *access;
    /* measured, by repetition */
    struct bench_cell_result *runs;
    unsigned run_count;
    uint64_t peak_mem_bytes; /* the largest; 0: no cgroup counted it */
    char details[400];
    bool synchronous; /* in a repetition, as in struct bench_engine_stats */
    char failed[700]; /* empty, or why: then the summary below means nothing */
    /* computed by bench_results_finish */
    struct bench_summary ops_per_s;
    struct bench_cell_result median; /* each figure's own median */
    double max_us;                   /* of all repetitions */
    bool rate_missed;                /* open loop: in a repetition the rate was not kept */
    double ratio_to_raw;             /* 0: there is no such row of raw, of this class */
    unsigned typical_run;            /* index of the run whose rate is the (lower) median */
};

struct bench_results {
    struct bench_row *rows;
    unsigned count, capacity;
    unsigned failed_count; /* valid after finish */
    bool in_memory;        /* the data lie on tmpfs or the like: nothing is read from a device */
};

void bench_results_fini(struct bench_results *results);

/* Add a row without measurements. Its index, or -1 when out of memory. */
int bench_results_add(struct bench_results *results, const struct bench_row *row);
/* Add one repetition's figures. 0, or -1 when out of memory. */
int bench_results_add_run(struct bench_row *row, const struct bench_cell_result *run);
/* Note a failure; the first one stays. */
void bench_results_fail(struct bench_row *row, const char *text);

/*
 * Do the bytes read say how many pages were found in memory? Only where one that is not there is
 * read from a device, as a page and no more.
 */
bool bench_results_know_hits(const struct bench_results *results, const struct bench_row *row,
                             const struct bench_plan *plan);

/* What is to be said of a row that is synchronous. */
#define BENCH_SYNCHRONOUS_NOTE                                                                     \
    "no io_uring here: one transfer at a time in each thread, whatever the depth"

/* What is to be said of an engine with needs_slack under a memory limit. Returns text. */
char *bench_results_slack_note(char *text, size_t capacity, const struct bench_plan *plan);

/* Compute medians and ratios. A row without measurements is failed. */
void bench_results_finish(struct bench_results *results);

/* A series as an array of objects; the caller owns it. */
json_t *bench_series_json(const struct bench_series *series);

/* The array results[] of the JSON output; the caller owns it. NULL when out of memory. */
json_t *bench_results_json(const struct bench_results *results, const struct bench_plan *plan,
                           bool equal_memory);

#endif
