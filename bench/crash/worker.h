/* SPDX-License-Identifier: MIT */
/* What the search's parent and its workers share, in memory mapped before the fork. */
#ifndef BENCH_CRASH_WORKER_H
#define BENCH_CRASH_WORKER_H

#include <limits.h>
#include <stdatomic.h>
#include <sys/types.h>
#include "run.h"

enum crash_phase { CRASH_PHASE_RECORD, CRASH_PHASE_CHECK, CRASH_PHASE_CONTINUE };

/* Of one worker; written by it, read by the parent once it is dead, or slow. */
struct crash_slot {
    pid_t pid;
    _Atomic uint64_t started_ns; /* of what it is doing; 0: nothing that could hang */
    _Atomic int phase;
    uint64_t number; /* of the trace */
    uint64_t next;   /* the candidate to go on with, should it die */
    bool resume;     /* number and next hold work to be continued */
    char triple[CRASH_TRIPLE_BYTES];
    char workload[32];
};

struct crash_shared {
    _Atomic uint64_t next_number;
    _Atomic uint64_t states, checks, points, legal, traces, recovery_traces, creation_failed;
    _Atomic uint64_t by_class[CRASH_CLASSES];
    _Atomic uint64_t failed_runs;
    _Atomic bool stop;
    _Atomic bool no_space;          /* that is why it was stopped */
    _Atomic uint32_t finding_count; /* may exceed what is described */
    struct crash_finding findings[CRASH_FINDINGS_MAX];
    char failed_text[384];
    struct crash_slot slots[CRASH_JOBS_MAX];
    uint64_t table_mask;
    _Atomic uint64_t table[]; /* hashes of images seen */
};

struct crash_worker {
    const struct crash_search_options *options;
    struct crash_shared *shared;
    struct crash_slot *slot;
    uint64_t wanted, states_per_seed;
    char directory[PATH_MAX - 64]; /* its own; `image`, `record` and `trace` are made in it */
};

/* Work until enough states have been checked. In a process of its own. */
void crash_worker_run(struct crash_worker *worker);

/* Stop all workers because their directory is full: nothing more can be found out in it. */
void crash_worker_stop_full(struct crash_shared *shared);

/* Note a finding. trace: to be kept, or NULL. */
void crash_worker_report(struct crash_shared *shared, const struct crash_search_options *options,
                         enum crash_class class, const char *triple, const char *workload,
                         const char *text, const struct crash_trace *trace);

#endif
