/* SPDX-License-Identifier: MIT */
/*
 * A workload for stores whose I/O fails: mini-transactions of every kind, allocation, growth,
 * eviction, a checkpoint, log segments used again. Deterministic. Each transaction's fate goes into
 * a history. It goes on after errors, as a host would, until the store refuses writes.
 */
#ifndef CLOCKPOOL_TESTS_PAGER_WORKLOAD_H
#define CLOCKPOOL_TESTS_PAGER_WORKLOAD_H

#include "history.h"

#define WORKLOAD_PAGES  130u /* allocated at the beginning: more than the cache holds */
#define WORKLOAD_BUDGET (UINT64_C(512) << 10)

struct workload {
    struct cp_pager *pager;
    struct history *history;
    uint64_t random;
    unsigned errors;
    int first_error;
    bool wrong;             /* a page held what it should not, and no code said so */
    bool stale_allowed;     /* writes were lost on purpose: an old page is not wrong */
    const char *first_call; /* of the first error; static storage */
};

/* Options for a store under test: small, deterministic, nothing in the background. */
struct cp_pager_options workload_options(struct cp_io *io);
/* Make the store that a workload begins with, closed; its history. */
void workload_create(const char *path, struct history *history);
/* After an opening that recovered: find out which state it is, to go on from there. False when
 * pages cannot be read, so that this cannot be said, or when it is none. */
bool workload_settle(struct workload *work);
/* One transaction, committed durably. */
void workload_commit(struct workload *work);
/* The first and the second half. */
void workload_first(struct workload *work);
void workload_second(struct workload *work);

#endif
