/* SPDX-License-Identifier: MIT */
/*
 * `clockpool-bench claims`: the project's four claims, measured. Internal to the command:
 *
 *     claims.c            the command line; one experiment after the other
 *     claims_turns.c      an engine's turn: its process, its cgroup; the data set
 *     claims_figures.c    from measurements to figures and verdicts
 *     claims_rules.c      the verdicts
 *     claims_report.c     what is printed and written
 */
#ifndef BENCH_CLAIMS_H
#define BENCH_CLAIMS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "options.h"
#include "claims_rules.h"
#include "order_measure.h"
#include "progress.h"
#include "scratch.h"
#include "workload.h"

#define CLAIMS_FIGURES_MAX 48u
#define CLAIMS_PAGE_SIZE   4096u
#define CLAIMS_RATE_SHARE                                                                          \
    0.6 /* of what the slower engine can do: it keeps that, and waits little */

struct claims_plan {
    uint64_t size_bytes, mem_bytes, slack_bytes, seed;
    double seconds; /* of the longest measurement; the others are parts of it */
    struct bench_common common;
};

/* The engines of the experiments with `run`'s machinery. */
enum claims_engine { CLAIMS_POOL = 0, CLAIMS_MMAP, CLAIMS_BUFFERED, CLAIMS_ENGINES };
extern const char *const claims_engine_names[CLAIMS_ENGINES];

/* What one engine does when its turn comes. */
struct claims_turn {
    enum claims_engine engine;
    bool cold; /* begin with nothing in memory */
    unsigned threads, repeat;
    uint64_t rate; /* open loop; 0: closed */
    double seconds;
};

/* One engine's measurements in an experiment. */
struct claims_turns {
    struct bench_cell_result results[CLAIMS_REPEAT];
    unsigned count;
};

struct claims_figure {
    const char *name, *engine, *unit;
    double value, spread; /* median, half the range over it */
};

struct claims_claim {
    enum claims_verdict verdict;
    char reason[800];
    struct claims_figure figures[CLAIMS_FIGURES_MAX];
    unsigned figure_count;
};

struct claims {
    const struct claims_plan *plan;
    struct bench_place place;
    char scratch[PATH_MAX]; /* empty: not made */
    bool equal_memory, failed;
    char equal_reason[700];
    struct bench_progress progress;
    struct bench_error error;
    struct claims_claim claims[CLAIMS_COUNT];
    struct claims_turns over_time[CLAIMS_ENGINES]; /* kept for the series */
};

/* ---- claims_turns.c */

/* Write the data set into the scratch directory and read it through. 0 or -1 with claims->error. */
int claims_make_data(struct claims *claims);
/* 0, or -1 with claims->error. */
int claims_run_turn(struct claims *claims, const struct claims_turn *turn,
                    struct bench_cell_result *out_result);

/* ---- claims_figures.c: each fills in a claim's figures and verdict */

/* When the interval began in which the process had read as much as memory holds; -1: never, or
 * fewer than three intervals before the end. */
double claims_full_s(const struct bench_series *series, double mem_bytes);

/* What the first claim judges a repetition by, all of the time from full_s on. */
struct claims_once_full {
    double full_s, cv, slowest, p999_us; /* slowest: interval, as a part of the mean */
};

/* False: memory never was full, as claims_full_s says it; then out_figures stays as it was. */
bool claims_find_once_full(const struct bench_cell_result *result, double mem_bytes,
                           struct claims_once_full *out_figures);

void claims_conclude_predictability(struct claims_claim *claim, const struct claims_turns *turns,
                                    uint64_t mem_bytes);
void claims_conclude_log_order(struct claims_claim *claim, const struct order_result *results,
                               const char *no_fuse);
void claims_conclude_latency(struct claims_claim *claim, const struct claims_turns *turns,
                             const double *capacity, uint64_t rate, unsigned threads);
void claims_conclude_memory(struct claims_claim *claim, const struct claims_turns *turns,
                            const struct claims_plan *plan);

/* ---- claims_report.c */

/* The claims and rules, before anything is measured. */
void claims_print_rules(const struct claims *claims);
void claims_print(const struct claims *claims);
/* The whole JSON output; the caller owns it. */
json_t *claims_json(const struct claims *claims);

#endif
