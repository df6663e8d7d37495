/* SPDX-License-Identifier: MIT */
/*
 * One trace of the search: recording it, listing its states, checking them. Used by the workers of
 * search.c, each with directories of its own.
 */
#ifndef BENCH_CRASH_RUN_H
#define BENCH_CRASH_RUN_H

#include "image.h"
#include "search.h"
#include "states.h"

/* What the marks say of one copy of the store: see CRASH_MARK_COPYING. */
struct crash_copy_bounds {
    bool begun, done;              /* not begun: it may not be there; done: it must be */
    int code;                      /* done: with which it failed */
    int64_t low[CRASH_LANES_MAX];  /* durable when it was begun */
    int64_t high[CRASH_LANES_MAX]; /* attempted while it was made */
};

/* What the marks say at a point of a trace. Transactions of each lane; -1: not even an empty lane.
 */
struct crash_bounds {
    bool created;
    int64_t low[CRASH_LANES_MAX], high[CRASH_LANES_MAX];
    struct crash_copy_bounds copies[CRASH_COPIES_MAX];
};

struct crash_candidate {
    uint64_t hash, point;
    struct crash_mask mask;
    uint64_t order;             /* smaller: more worth checking */
    struct crash_bounds bounds; /* low at the last point that has this state, high at the first */
};

struct crash_run {
    const struct crash_subject *subject;
    uint64_t seed;                      /* of the trace */
    struct crash_plan *plan;            /* owned */
    struct crash_trace *trace;          /* owned */
    struct crash_bounds start;          /* at the baseline */
    char prefix[CRASH_TRIPLE_BYTES];    /* of a triple: "SEED/", or "SEED/POINT/MASK/" */
    bool repeatable;                    /* the seed gives the same trace again */
    bool no_space;                      /* recording failed because there was no room */
    struct crash_candidate *candidates; /* owned; in the order of their points */
    uint64_t candidate_count, legal, points;
};

uint64_t crash_run_seed(const struct crash_search_options *options, uint64_t number);
const struct crash_workload *crash_run_workload(const struct crash_search_options *options,
                                                uint64_t seed);

/* Prepare a run from a seed. record: carry the workload out in directory root, which is emptied
 * first; else the trace is to be loaded. 0 or -1 with text. */
int crash_run_record(struct crash_run *run, const struct crash_search_options *options,
                     uint64_t seed, const char *root, char *text, size_t capacity);
/*
 * Prepare the run that follows the crash `candidate` of `first`, whose check has found versions. It
 * is recorded in root. 0, or -1 with text.
 */
int crash_run_continue(struct crash_run *run, const struct crash_search_options *options,
                       const struct crash_run *first, const struct crash_candidate *candidate,
                       const crash_version *versions, const char *root, char *text,
                       size_t capacity);
/*
 * Take a kept trace, in place of recording, for a run that was prepared without a directory.
 * *out_second: it is that of a recovery and the work behind it. 0 or a negative code.
 */
int crash_run_load(struct crash_run *run, const char *path, bool *out_second);
void crash_run_clear(struct crash_run *run);

/* Go through the trace and list at most limit states, chosen by seed. shear: sheared ones too. */
void crash_run_list(struct crash_run *run, uint64_t limit, bool shear);

/* The marks before a point, from those of an earlier one. */
void crash_bounds_advance(struct crash_bounds *bounds, const struct crash_trace *trace,
                          uint64_t from, uint64_t to);

/* Check the image in root, and judge what was found by the bounds. A store may refuse to open when
 * a sector was sheared: then verdict says no_store, and why in text. */
void crash_run_check(const struct crash_run *run, void *checker, const char *root,
                     const struct crash_bounds *bounds, struct crash_mask mask, uint64_t number,
                     bool deep, struct crash_verdict *verdict);

/* Remove what is below root, not root itself. */
void crash_empty_directory(const char *root);

#endif
