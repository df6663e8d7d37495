/* SPDX-License-Identifier: MIT */
/* The library's own store under test, by engine: the parts that its subjects are made of. */
#ifndef BENCH_CRASH_SUBJECT_PAGER_H
#define BENCH_CRASH_SUBJECT_PAGER_H

#include <clockpool/pager.h>
#include "fuse_recorder.h"
#include "subject.h"

struct crash_pager_kind {
    enum cp_engine engine;
    bool in_place; /* options.unsafe_in_place */
    /* Recorded from outside: the store does its own I/O, and the marks are told there. NULL: the
     * recorder is the store's backend. */
    const struct crash_fuse_place *place;
    void (*between)(void *ctx); /* called between the steps; NULL: nothing is */
    void *ctx;
};

int crash_pager_record(const struct crash_pager_kind *kind, struct crash_session *session);
void *crash_pager_check_begin(void);
void crash_pager_check_end(void *checker);
void crash_pager_check(const struct crash_pager_kind *kind, void *checker,
                       const struct crash_image *image, struct crash_verdict *verdict);
/* One thread, no background: the seed repeats it exactly. */
bool crash_pager_deterministic(const struct crash_plan *plan);

#endif
