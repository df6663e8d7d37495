/* SPDX-License-Identifier: MIT */
/*
 * The driver interface of a store under test. bench/crash/subject_pager.c is an example.
 *
 * A subject does two things. `record` runs a plan (oracle.h) on a new store while everything that
 * happens to its files goes into a trace, with the marks of trace.h in between. `check` is shown a
 * directory as a crash may have left it and finds out what is in there.
 *
 * The search, not the subject, decides what may be missing: check only reports, for each lane,
 * which transaction the store contains, having made sure that it contains that one exactly (see
 * crash_model_*), and the search compares this with the marks.
 *
 *     record(session) for each seed, in a process of its own:
 *         open or create the store below session->root, through the recorder
 *         mark CREATED
 *         for each step of session->plan:
 *             carry out the transaction's operations
 *             mark ATTEMPTED, commit, mark COMMITTED, and DURABLE when that was acknowledged
 *             where a copy is to be made: mark COPYING, make it, mark COPIED
 *     check(image), thousands of times in one process:
 *         open the store below image->root (creating it is allowed before CREATED)
 *         read it all, compare, close without needing to clean up: the search restores the files
 */
#ifndef BENCH_CRASH_SUBJECT_H
#define BENCH_CRASH_SUBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "oracle.h"
#include "trace.h"

/* What is wrong with a crash state, gravest last. */
enum crash_class {
    CRASH_FINE = 0,
    CRASH_OPEN_FAILED, /* the store does not open */
    CRASH_LOST,    /* an acknowledged transaction is missing, or more than was attempted there */
    CRASH_TORN,    /* part of a transaction is there, part is not; pages of different versions */
    CRASH_CORRUPT, /* bytes that were never written, unreadable pages, a wrong space map */
    CRASH_SIGNAL,  /* the process died or hung (found by the search itself) */
    CRASH_CLASSES,
};

/* One copy of the store, by its number in the marks. */
struct crash_copy_found {
    bool there;  /* it has its name: then it must be whole */
    bool looked; /* versions are those in it: not every check looks into every copy */
    crash_version versions[CRASH_LANES_MAX];
};

struct crash_verdict {
    enum crash_class class;
    /* The store, or its root, does not exist yet: legal until CREATED, or the first DURABLE. */
    bool no_store; /* there is none, and none was opened or created */
    bool no_root;  /* it opened, and nothing is in it */
    bool no_space; /* the check had no room for its files: the rest says nothing about the store */
    /* The version of each lane that is wholly there; see crash_version in oracle.h. */
    crash_version versions[CRASH_LANES_MAX];
    struct crash_copy_found copies[CRASH_COPIES_MAX];
    char text[384]; /* what was found, when class is not CRASH_FINE */
};

/* Fill in class and text (printf-like), unless a graver finding is already there. */
void crash_find(struct crash_verdict *verdict, enum crash_class class, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

struct crash_session {
    const char *root; /* existing directory; empty, or (recover) a crash image */
    const struct crash_plan *plan;
    struct crash_trace *trace; /* append to it; the baseline is already in it */
    uint64_t seed;             /* for whatever the recording chooses, e.g. the completions' order */
    /* The store is there already, as a crash left it, and the plan continues it: open it without
     * creating it, and let the recording see the recovery. */
    bool recover;
    /* Not 0: the flush (fsync, O_DSYNC write) of this number fails with EIO, once. For subjects
     * whose recorder can do it; others ignore it. */
    uint64_t fail_flush;
    bool no_space;  /* it failed because there was no room for the files */
    char text[384]; /* why it failed */
};

struct crash_image {
    const char *root;
    const struct crash_plan *plan;
    bool created;    /* creation was acknowledged before the crash: the store must open as it is */
    bool deep;       /* now and then: check more than usual, cost what it may */
    uint64_t number; /* of the check, to vary what need not be done every time */
};

struct crash_subject {
    const char *name;      /* as on the command line */
    const char *summary;   /* in a few words: what it is, and which durability it claims */
    const char *not_built; /* not NULL: why it is not in this build; the functions are NULL then */
    /* It is known not to keep its promises (a control): finding a loss is what the search is for.
     */
    bool control;
    /* States before CREATED are counted apart and fail nothing ("creation_failed"). */
    bool creation_apart;
    /* record needs no recorder of its own to be repeated exactly from the seed. */
    bool (*deterministic)(const struct crash_plan *plan);

    /* Workloads of oracle.h that it can do; NULL: all. */
    bool (*supports)(const struct crash_workload *workload);
    /* NULL, or: can it run here at all? Returns NULL, or why not ("no /dev/fuse"). */
    const char *(*unavailable)(void);

    /*
     * 0, or -1 with session->text: the workload could not be run (not a finding about crashes). A
     * store that fails as told to by session (fault injection) ends with CRASH_MARK_FAILED and 0.
     */
    int (*record)(struct crash_session *session);

    /* One checker per process. begin may return NULL when there is nothing to keep. */
    void *(*check_begin)(void);
    void (*check_end)(void *checker);
    void (*check)(void *checker, const struct crash_image *image, struct crash_verdict *verdict);
};

/* All subjects, NULL at the end; `not_built` ones included. */
const struct crash_subject *crash_subject_at(unsigned index);
const struct crash_subject *crash_subject_find(const char *name);

extern const struct crash_subject crash_subject_pool;
extern const struct crash_subject crash_subject_mmap;
extern const struct crash_subject crash_subject_mmap_in_place;
extern const struct crash_subject crash_subject_lmdb;
extern const struct crash_subject crash_subject_lmdb_nosync;

#endif
