/* SPDX-License-Identifier: MIT */
/*
 * What the user sees while a run goes on, on standard error: one line rewritten on a terminal,
 * cut to its width (phase, percent, time left, operations per second), plain lines at changes of
 * phase otherwise.
 */
#ifndef BENCH_PROGRESS_H
#define BENCH_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct bench_progress {
    bool quiet, terminal;
    double planned_s; /* the time all steps were thought to take */
    double done_s;    /* of these, in the steps that have ended */
    uint64_t begin_ns, shown_ns;
    char phase[128];
    double step_s; /* planned length of the present step */
};

void bench_progress_begin(struct bench_progress *progress, bool quiet, double planned_s);
/* The present step is over; a new one begins. phase: a few words. */
void bench_progress_step(struct bench_progress *progress, double step_s, const char *phase, ...)
    __attribute__((format(printf, 3, 4)));
/* Within a step. fraction of the step, 0 to 1; ops_per_s 0: not shown. Cheap to call often. */
void bench_progress_update(struct bench_progress *progress, double fraction, double ops_per_s,
                           const char *detail);
/* A line that stays. */
void bench_progress_note(struct bench_progress *progress, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void bench_progress_end(struct bench_progress *progress);

#endif
