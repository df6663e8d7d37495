/* SPDX-License-Identifier: MIT */
/*
 * What is in a store of the library under test: shared by who works on it (subject_pager.c) and who
 * checks it (subject_pager_check.c).
 *
 *     first page of the store   super page: which page is the root of which lane
 *     root of a lane            version, and the page number of each slot (0: empty)
 *     page of a slot            cells, as the oracle says (oracle.h)
 *
 * Each transaction writes its lane's root, so the root's version says which transactions the store
 * contains, and everything else must agree with it: contents, live slots, and the space map, which
 * may hold the super page, the roots and the pages of live slots and nothing else.
 *
 * A loose workload has pages beside these, changed outside transactions. They promise less: a crash
 * may leave each allocated or not, with what it had once or unwritten, but never torn.
 */
#ifndef BENCH_CRASH_SUBJECT_PAGER_INTERNAL_H
#define BENCH_CRASH_SUBJECT_PAGER_INTERNAL_H

#include "random.h"
#include "subject_pager.h"

#define CRASH_SUPER_MAGIC UINT64_C(0x7265707573)
#define CRASH_ROOT_MAGIC  UINT64_C(0x746f6f72)
#define CRASH_LOOSE_MAGIC UINT64_C(0x65736f6f6c)

struct super_page {
    uint64_t magic, lanes, roots[CRASH_LANES_MAX];
};

struct lane_root {
    uint64_t magic;
    uint32_t lane;
    crash_version version;
    uint64_t pages[CRASH_SLOTS_MAX];
};

/* All words of a loose page are made of its first two, so that a mixture shows. */
static inline uint64_t crash_pager__loose_word(uint64_t page, uint64_t round, uint32_t index)
{
    return bench_mix(page << 40 ^ round << 16 ^ index);
}

/* The options with which a store is created and opened, by both. */
void crash_pager__options(const struct crash_pager_kind *kind,
                          const struct crash_workload *workload, struct cp_io *io,
                          struct cp_pager_options *options);

/*
 * Where the copy of this number is. A plan that goes on after a crash gives its copies other names:
 * what is in the earlier ones is not for it to know.
 */
void crash_pager__copy_path(const char *root, const struct crash_plan *plan, unsigned number,
                            char *out_path, size_t capacity);

#endif
