/* SPDX-License-Identifier: MIT */
/*
 * The states of a page's word, and the one list of legal transitions (state.c). Everything in the
 * pool that changes a word from free, shared, or absent goes through cp_state__cas, which in debug
 * builds stops at a change that is not on the list; release and publish (base/latch.h) start from
 * held words and assert so themselves.
 */
#ifndef CLOCKPOOL_BUFPOOL_STATE_H
#define CLOCKPOOL_BUFPOOL_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <clockpool/base/assert.h>
#include <clockpool/base/latch.h>

/* What a change is made for; NULL when it is not on the list. */
const char *cp_state__transition(uint64_t from, uint64_t to);

static inline bool cp_state__cas(uint64_t *word, uint64_t *expected, uint64_t desired)
{
    cp_debug_assert(cp_state__transition(*expected, desired) != NULL);
    return cp_word_cas(word, expected, desired);
}

#endif
