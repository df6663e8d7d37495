/* SPDX-License-Identifier: MIT */
/* What a run shall compare: the options of `clockpool-bench run`, checked. */
#ifndef BENCH_PLAN_H
#define BENCH_PLAN_H

#include <stdbool.h>
#include <stdint.h>
#include "job.h"
#include "openloop.h"
#include "units.h"

#define BENCH_REPEAT_MAX 1000u

struct bench_plan_dist {
    char name[32]; /* "uniform", "zipf:0.99" */
    bool zipf;
    double theta;
};

struct bench_plan {
    const struct bench_engine *engines[BENCH_LIST_MAX];
    unsigned engine_count;
    enum bench_workload workloads[BENCH_LIST_MAX];
    unsigned workload_count;
    struct bench_plan_dist dists[BENCH_LIST_MAX];
    unsigned dist_count;
    uint64_t sizes[BENCH_LIST_MAX], mems[BENCH_LIST_MAX]; /* mems[i] goes with sizes[i] */
    unsigned size_count;
    enum bench_access accesses[BENCH_LIST_MAX];
    unsigned access_count;
    unsigned threads[BENCH_LIST_MAX], thread_list_count;
    unsigned depths[BENCH_LIST_MAX], depth_count;
    uint64_t log_sizes[BENCH_LIST_MAX]; /* recover */
    unsigned log_size_count;
    uint64_t rates[BENCH_LIST_MAX]; /* open loop: arrivals per second */
    unsigned rate_count;            /* 0: closed loop */
    double write_share;             /* mixed */
    uint32_t page_size;
    unsigned batch, repeat;
    bool advice_given; /* else what suits the workload best: see bench_plan_advice */
    enum bench_advice advice;
    double seconds, warmup_seconds;
    uint64_t seed, slack_bytes;
    const char *dir, *json_path, *html_path; /* NULL: not given */
    bool quiet;
};

extern const char *const bench_workload_names[BENCH_WORKLOAD_COUNT];
extern const char *const bench_access_names[3];
extern const char *const bench_advice_names[3];

/* Fill in what `make bench` uses. */
void bench_plan_defaults(struct bench_plan *plan);

/*
 * Read the options of `run` (argv[0] is "run"). 0; 1 when help was asked for and printed; 2 after a
 * message on standard error about what is wrong and what is accepted. plan borrows from argv.
 */
int bench_plan_parse(struct bench_plan *plan, int argc, char **argv);

/* The data set of a size: what fits counts as resident. */
bool bench_plan_fits(uint64_t size_bytes, uint64_t mem_bytes);

/* The cells of one engine and workload. Returns how many: at most BENCH_CELLS_MAX, which
 * bench_plan_parse has seen to. */
unsigned bench_plan_cells(const struct bench_plan *plan, const struct bench_engine *engine,
                          enum bench_workload workload, struct bench_cell *out_cells);

/* As --advice says; else random for random access and sequential for scans, the fair baselines. */
enum bench_advice bench_plan_advice(const struct bench_plan *plan, enum bench_workload workload);

/* What an engine promises of an update in this workload; reads have no class. */
enum bench_durability bench_plan_durability(const struct bench_engine *engine,
                                            enum bench_workload workload);
/* "durable on return", "relaxed, bounded", "none". */
extern const char *const bench_durability_names[3];

/* What the field "access" says of a cell. */
const char *bench_plan_access_name(const struct bench_engine *engine, enum bench_workload workload,
                                   enum bench_access access);

#endif
