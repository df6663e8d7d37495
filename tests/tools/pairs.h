/* SPDX-License-Identifier: MIT */
/*
 * A store whose content can be judged by itself. It holds pairs of pages; both pages of a pair
 * always have the same bytes, changed together in one mini-transaction: a version that rises by one
 * with each change, and the number of an extra page, or 0. The extra page is allocated by one
 * change and freed by the next that has to do with it; it says whose it is. So after any crash or
 * copy
 *
 *   - the pages of each pair are equal, and their version is at least the last acknowledged one;
 *   - exactly the pairs' pages and the extra pages that they name are allocated.
 */
#ifndef TESTS_TOOLS_PAIRS_H
#define TESTS_TOOLS_PAIRS_H

#include <clockpool/pager.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct pair_content {
    uint64_t pair, version, extra; /* extra: page number, or 0 */
};

/* Create a store in directory with pairs 0 .. count-1 at version 1, and close it. */
int pairs_create(const char *directory, uint32_t page_size, uint64_t count);

/* What the tests open such a store with: a small cache and a short log, so that pages are evicted,
 * checkpoints written and segments used again. */
struct cp_pager_options pairs_options(void);

/* Number of pairs of an open store. */
int pairs_count(struct cp_pager *pager, uint64_t *out_count);

/*
 * Change a random pair, durably, and raise its acknowledgement when that is not NULL. random: state
 * of a generator. Any thread. Returns a code of the library.
 */
int pairs_change(struct cp_pager *pager, uint64_t count, uint64_t *random, _Atomic uint64_t *acks);

/*
 * Is everything as promised? acks (may be NULL): for each pair, the version that it has at least.
 * Prints what is wrong to standard output. Returns the number of changes, or a negative code;
 * CP_EFORMAT when something is wrong.
 */
int64_t pairs_verify(struct cp_pager *pager, const _Atomic uint64_t *acks);

/* Put a value into both superblocks of a closed store, and make their checksums right
 * (docs/file-format.md). False when that cannot be done. */
bool pairs_forge(const char *directory, unsigned offset, uint64_t value);

#endif
