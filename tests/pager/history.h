/* SPDX-License-Identifier: MIT */
/*
 * An oracle for stores that went through something: what each page held after each transaction, and
 * which transactions must be there. What a store holds later must be the state after some
 * transaction k, as a whole: acked <= k <= count. Pages tell page and version by their content.
 *
 * One writer at a time, so the history is a line. Version 0 of a page means "not allocated"; the
 * state at the beginning is row 0; transaction number k writes version k + 1.
 */
#ifndef CLOCKPOOL_TESTS_PAGER_HISTORY_H
#define CLOCKPOOL_TESTS_PAGER_HISTORY_H

#include "helpers.h"

#define HISTORY_PAGES 168u
#define HISTORY_ROWS  100u
#define SEEN_ERROR    UINT32_MAX       /* reading gave a code */
#define SEEN_WRONG    (UINT32_MAX - 1) /* it gave bytes that nobody wrote there */

struct history {
    uint64_t first; /* the page that index 0 stands for */
    uint32_t count; /* transactions; the row behind is being prepared */
    uint32_t acked; /* those that must be there */
    uint32_t version[HISTORY_ROWS][HISTORY_PAGES];
};

/* What a store holds, page by page. */
struct seen {
    uint32_t version[HISTORY_PAGES];
    uint32_t errors;
    int first_error;
};

/* Content: every 16th word depends on page and version, the others on the page alone. */
void history_fill(void *data, uint32_t payload, uint64_t page, uint32_t version);
/* The version that the content is, or SEEN_WRONG. */
uint32_t history_version(const void *data, uint32_t payload, uint64_t page);

/* Row 0: pages 0 .. allocated-1 in version 1. */
void history_init(struct history *history, uint64_t first, uint32_t allocated);
/* Prepare the next transaction, in which pages get the version that is returned. */
uint32_t history_begin(struct history *history);
void history_set(struct history *history, uint64_t page, uint32_t version);
/* It was committed, and perhaps acknowledged as durable. */
void history_commit(struct history *history, bool acked);
/* What the last committed transaction left. */
uint32_t history_now(const struct history *history, uint64_t page);

/* Look at every page. */
void history_look(const struct history *history, struct cp_pager *pager, struct seen *seen);
/*
 * The latest k that fits, or -1. Errors fit any version when they are allowed. stale: a page may be
 * older than it should (its write was lost), if it is whole.
 */
int64_t history_match(const struct history *history, const struct seen *seen, bool errors_allowed);
/* Is each page some version that it once had? How many are not as after transaction k = count? */
bool history_whole(const struct history *history, const struct seen *seen, uint32_t *out_stale);
/* Print how seen differs from the rows between acked and count. */
void history_explain(const struct history *history, const struct seen *seen);

#endif
