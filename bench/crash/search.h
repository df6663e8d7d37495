/* SPDX-License-Identifier: MIT */
/*
 * The search: seeds become workloads, their traces become states, and each state is opened and
 * compared with the oracle, in worker processes. A worker that dies or hangs is itself a finding.
 *
 * A seed chooses the workload too, unless one is named, so that a triple SEED/POINT/MASK says it
 * all. A fifth and sixth part, as in SEED/POINT/MASK/POINT/MASK, name a crash of the recovery from
 * the first crash, and of the work that followed it.
 */
#ifndef BENCH_CRASH_SEARCH_H
#define BENCH_CRASH_SEARCH_H

#include "subject.h"

#define CRASH_TRIPLE_BYTES   112u
#define CRASH_FINDINGS_MAX   32u /* described; all are counted */
#define CRASH_STATES_DEFAULT UINT64_C(50000)
#define CRASH_JOBS_MAX       64u

struct crash_search_options {
    const struct crash_subject *subject;
    const struct crash_workload *workload; /* NULL: all that the subject supports */
    uint64_t seed;
    uint64_t states;          /* distinct ones to check; 0: CRASH_STATES_DEFAULT */
    uint64_t states_per_seed; /* 0: enough seeds that each workload has several */
    unsigned jobs;            /* worker processes; 0: one for each processor */
    unsigned timeout_s;       /* of one check; 0: 30 */
    bool fail_flushes;        /* a flush fails in each workload, once */
    bool shear;               /* sectors torn within too; the store may refuse these */
    bool stop_at_finding;     /* enough is known after the first */
    const char *dir;          /* where to work; NULL: memory */
    unsigned events;          /* how many a reproduction tells of */
    bool save_traces;         /* of findings that cannot be repeated from the seed */
    const char *keep;         /* directory for the traces of all findings; NULL: where they are
                                 saved they go to /tmp */
    /* Called in the parent now and then, and when it is over. NULL: not. True: stop now. */
    bool (*progress)(void *ctx, uint64_t states, uint64_t wanted, const uint64_t *classes);
    void *progress_ctx;
};

struct crash_finding {
    enum crash_class class;
    char triple[CRASH_TRIPLE_BYTES];
    char workload[32];
    char text[384];
    char trace[256]; /* where the trace is kept; "" when the triple alone is enough */
};

struct crash_report {
    uint64_t states; /* distinct images checked */
    uint64_t checks; /* some images are checked again, where more is asked of them */
    uint64_t points; /* crash points at which states were looked for */
    uint64_t legal;  /* states found, of which `states` were checked */
    uint64_t traces, recovery_traces;
    uint64_t by_class[CRASH_CLASSES];
    uint64_t creation_failed; /* apart, for a subject with creation_apart */
    uint64_t failed_runs;     /* workloads that could not be run at all; failed_text says why */
    char failed_text[384];
    uint32_t finding_count;
    struct crash_finding findings[CRASH_FINDINGS_MAX];
    double seconds;
};

/* 0, or a negative code and *out_text: the environment does not permit the search. When there was
 * no room left after something had been found, 0, and *out_text says so. */
int crash_search(const struct crash_search_options *options, struct crash_report *out_report,
                 char *out_text, size_t capacity);

struct crash_reproduction {
    bool found; /* the triple names a state */
    uint64_t image_hash;
    uint32_t pending;
    char workload[32];
    char event[160]; /* the last before the crash */
    char *history;   /* the last `events` lines of the trace before it; to be freed */
    struct crash_verdict verdict;
    bool fine;
};

/*
 * Make one state again and check it. trace: a kept trace to take it from, or NULL: the workload is
 * run again. keep: directory in which the image is left, or NULL. The check runs in this process,
 * so that a debugger can look at it.
 */
int crash_reproduce(const struct crash_search_options *options, const char *triple,
                    const char *trace, struct crash_reproduction *out, char *out_text,
                    size_t capacity);

const char *crash_class_name(enum crash_class class);

#endif
