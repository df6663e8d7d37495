/* SPDX-License-Identifier: MIT */
/* Starting the process of an engine, and listening to it. */
#ifndef BENCH_PROCESS_H
#define BENCH_PROCESS_H

#include <jansson.h>
#include "cgroup.h"
#include "job.h"

struct bench_process_result {
    uint64_t peak_bytes; /* of the cgroup, without ballast; 0: unknown */
    char details[400];
    bool synchronous; /* as in struct bench_engine_stats */
};

struct bench_process_events {
    void (*progress)(void *ctx, const char *phase, double fraction, double ops_per_s);
    void (*cell)(void *ctx, unsigned index, const struct bench_cell_result *result);
    void (*cell_failed)(void *ctx, unsigned index, const char *text);
    void *ctx;
};

/*
 * Have a new process do the job, in group when that is not NULL. Returns when it has ended: 0, or
 * -1 with the reason (its own description, the signal that killed it, lack of memory, or
 * "interrupted").
 */
int bench_process_run(const struct bench_job *job, const struct bench_cgroup *group,
                      const struct bench_process_events *events,
                      struct bench_process_result *out_result, struct bench_error *error);

#endif
