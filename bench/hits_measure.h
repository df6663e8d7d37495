/* SPDX-License-Identifier: MIT */
/*
 * What a page that is in memory costs: engines opened side by side in one process, measured in
 * turns so short that all of them meet the machine in the same state.
 *
 * `run` gives each engine a process of its own, memory of its own and a second or more at a time. A
 * shared machine changes its state in less, so that two engines' figures may be of two machines.
 * Here a turn is HITS_OPS reads of each engine, microseconds, and a ratio is of one turn.
 */
#ifndef BENCH_HITS_MEASURE_H
#define BENCH_HITS_MEASURE_H

#include "engine.h"

#define HITS_OPS      256u
#define HITS_BATCH    16u
#define HITS_ROWS_MAX 32u

enum { HITS_LOWER, HITS_MEDIAN, HITS_UPPER, HITS_QUARTILES };

struct hits_settings {
    char directory[PATH_MAX]; /* exists, empty; data sets are left in it */
    uint64_t size_bytes, turns, seed;
    uint32_t page_size;
    bool zipf;
    double theta;
    unsigned threads;
};

/* One engine and one way of access. */
struct hits_row {
    const struct bench_engine *engine; /* set by the caller, and access */
    enum bench_access access;
    double ns[HITS_QUARTILES];    /* a page */
    double ratio[HITS_QUARTILES]; /* of the first row's time in the same turn */
};

/* Memory that count engines need together. */
uint64_t hits_memory(const struct hits_settings *settings, unsigned count);

/*
 * Measure all rows; every value read is compared with what the page must hold. on_progress: called
 * now and then by the calling thread with a fraction of the whole and what is being done; nonzero:
 * stop with an error. 0, or -1 with a description. Starts threads, and has joined them on return.
 */
int hits_measure(const struct hits_settings *settings, struct hits_row *rows, unsigned row_count,
                 int (*on_progress)(void *ctx, double fraction, const char *what), void *ctx,
                 struct bench_error *error);

#endif
