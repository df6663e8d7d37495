/* SPDX-License-Identifier: MIT */
/*
 * Running one cell: an opened engine, a number of threads and a depth, for some seconds.
 *
 * What is timed. Data that do not fit in memory: every operation, from asking for the page to
 * having its bytes. Data that fit: an operation takes a few tens of nanoseconds, as much as reading
 * the clock, so operations are run in rounds of BENCH_ROUND and only one after each round is timed
 * on its own; the rate counts the rounds' time alone, without making page numbers and checking
 * bytes. At a depth above 1 only making page numbers is left out: operations are checked as they
 * come, one by one, and two more looks at the clock would take longer than that.
 *
 * With a rate (open loop) every operation is timed, from the time it was due: see openloop.h.
 */
#ifndef BENCH_WORKLOAD_H
#define BENCH_WORKLOAD_H

#include "engine.h"
#include "footprint.h"
#include "sampler.h"

#define BENCH_ROUND 256u

struct bench_cell {
    enum bench_access access;
    unsigned threads, depth;
    uint64_t log_bytes; /* recover: of log to go through; 0 otherwise */
    uint64_t rate;      /* open loop: arrivals per second, of all threads; 0: closed loop */
};

/* What the threads do: */
enum bench_pass {
    BENCH_FOR_A_TIME,  /* the workload, for `seconds` */
    BENCH_SCAN_ONCE,   /* scan every page, each thread its part; the workload does not matter */
    BENCH_ACCESS_ONCE, /* read every page, each thread its part, with the cell's access */
};

struct bench_cell_input {
    const struct bench_engine *engine;
    void *handle; /* of the opened engine */
    const struct bench_setup *setup;
    struct bench_cell cell;
    const struct bench_dist *dist;
    uint64_t stream;               /* tells this cell's page sequence from others; not the engine */
    double write_share;            /* mixed: of the operations, so many commit */
    struct bench_tracker *tracker; /* of the updates; NULL: none is kept */
    enum bench_pass pass;
    double seconds;
    uint64_t until_read_bytes; /* warm-up: stop early when so much was read; 0: never */
    uint64_t full_bytes;       /* from an empty cache on: what memory holds; 0: begun warm */
    /* Called about ten times a second; nonzero: stop. May be NULL. */
    int (*report)(void *ctx, double fraction, double ops_per_s);
    void *ctx;
};

/* Choose a page and a word of it that no update changes; where it lies is left to the caller. */
void bench_op_choose(struct bench_op *op, const struct bench_dist *dist,
                     struct bench_random *random, uint32_t content_size);

/* Compare what such ops have read, until one is wrong. */
bool bench_ops_verify(struct bench_check *check, const struct bench_op *ops, unsigned count);

/* The page's number in the engine's file. */
static inline uint64_t bench_locate(const struct bench_cell_input *input, uint64_t page)
{
    return input->engine->locate == NULL ? page : input->engine->locate(input->handle, page);
}

struct bench_cell_result {
    double ops_per_s;
    double p50_us, p99_us, p999_us, max_us;
    double cpu_us_per_op, read_bytes_per_op, written_bytes_per_op, hit_ratio;
    double major_faults_per_op; /* faults that waited for the device */
    uint64_t op_count, timed_count, verified_count;
    double seconds;
    struct bench_series series;
    double due_count;                 /* open loop: arrivals in the time measured; 0: closed loop */
    double ops_per_s_cv;              /* the series' coefficient of variation */
    double p999_full_us;              /* from the interval on in which memory was full; -1: never */
    struct bench_footprint footprint; /* at the end, if the job asked; tlb_shootdowns: in all */
    /* recover: seconds is the time that opening took */
    double log_bytes;       /* that it had to go through, as the engine counts them */
    double recovered_pages; /* -1: the engine does not say */
};

/* 0, or -1 with a description: an engine's error, or wrong bytes with page, offset and values. */
int bench_cell_run(const struct bench_cell_input *input, struct bench_cell_result *out_result,
                   struct bench_error *error);

/*
 * Look whether the updates that the tracker counted are there. limit: of the pages looked at.
 * out_count is raised by their number. 0, or -1 with a description of the first that was lost.
 */
int bench_verify_updates(const struct bench_cell_input *input, uint64_t limit, uint64_t *out_count,
                         struct bench_error *error);

#endif
