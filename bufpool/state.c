/* SPDX-License-Identifier: MIT */
/*
 * The legal transitions of a page's word.
 *
 *     absent --claim--> loading --publish--> free, shared, exclusive
 *                          '----fail-------> absent
 *     free --fix--> shared, exclusive      shared --fix, unfix--> shared, free
 *     exclusive --unfix--> free (next version)      --drop--> absent
 *
 * The marks: ref is set by readers and cleared by the sweep; waiters is set by who goes to sleep;
 * dirty is set under exclusive and cleared under shared, by the write-back that holds it; biased is
 * set on free and shared words and cleared under exclusive, after a search of the pin slots. Frame
 * number and version change only on the edges claim, publish, unfix and drop. An exclusive word
 * that is still biased is held by its taker for the time of that search; it goes back to free, or
 * loses the mark, and nothing else may happen to it.
 */
#include "state.h"

enum state { ABSENT, LOADING, FREE, SHARED, EXCLUSIVE, STATES };

#define IGNORED (CP_WORD_REF | CP_WORD_WAITERS) /* marks that may change at any time */

static enum state state_of(uint64_t word)
{
    unsigned latch = cp_word_latch(word);

    if (word == 0)
        return ABSENT;
    if (latch == CP_LATCH_FREE)
        return FREE;
    if (latch <= CP_LATCH_SHARED_MAX)
        return SHARED;
    return latch == CP_LATCH_LOADING ? LOADING : latch == CP_LATCH_EXCLUSIVE ? EXCLUSIVE : STATES;
}

static const struct {
    enum state from, to;
    bool same_payload; /* frame, version and dirty mark stay as they are */
    const char *what;
} edges[] = {
    {ABSENT, LOADING, false, "claim"},
    {LOADING, ABSENT, false, "fail"},
    {LOADING, FREE, false, "publish"},
    {LOADING, SHARED, false, "publish to a reader"},
    {LOADING, EXCLUSIVE, false, "publish to a writer"},
    {LOADING, LOADING, true, "mark"},
    {FREE, SHARED, true, "fix, or claim for writing"},
    {FREE, EXCLUSIVE, true, "fix, or claim for dropping; if biased, only tried"},
    {FREE, FREE, true, "mark"},
    {SHARED, SHARED, true, "fix, unfix, mark"},
    {SHARED, FREE, true, "unfix"},
    {EXCLUSIVE, FREE, false, "unfix"},
    {EXCLUSIVE, ABSENT, false, "drop"},
    {EXCLUSIVE, EXCLUSIVE, true, "mark"},
};

static const uint64_t payload = ~(CP_WORD_LATCH | IGNORED);

/*
 * The dirty mark alone: set by the writer, cleared by the write-back that holds the page. The
 * biased mark alone: set by readers, cleared by the writer or evictor who found no slot that holds
 * it.
 */
static bool may_mark(enum state before, enum state after, uint64_t changed, uint64_t to)
{
    bool sets = (to & changed) != 0;

    if (changed == CP_WORD_DIRTY)
        return (before == EXCLUSIVE && sets && (to & CP_WORD_BIASED) == 0) ||
               (before == SHARED && !sets);
    if (changed == CP_WORD_BIASED)
        return sets ? before != EXCLUSIVE && after != EXCLUSIVE
                    : before == EXCLUSIVE && after == EXCLUSIVE;
    return false;
}

const char *cp_state__transition(uint64_t from, uint64_t to)
{
    enum state before = state_of(from), after = state_of(to);

    for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++) {
        if (edges[i].from != before || edges[i].to != after)
            continue;
        uint64_t changed = (from ^ to) & payload;
        if (!edges[i].same_payload || changed == 0)
            return edges[i].what;
        return may_mark(before, after, changed, to) ? "mark" : NULL;
    }
    return NULL;
}
