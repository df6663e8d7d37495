/* SPDX-License-Identifier: MIT */
/*
 * Biased words: readers in pin slots, and how the page is taken from them.
 *
 * A word with the biased mark may be held by readers who have said so in a pin slot of their thread
 * (base/pins.h) and left no trace in the word. So a word that goes from free to exclusive is not
 * its taker's yet while the mark is on: everyone passes a barrier, the slots are searched, and then
 * the mark goes (nobody holds the page), or the word goes back to free, mark and all (somebody
 * does).
 *
 * Rules
 *  1. The mark is set on free and shared words only, by a counted reader of a resident page.
 *  2. It is cleared by the exclusive holder who has searched the slots and found none, by no one
 *     else. So "not biased" means that no slot holds the page.
 *  3. A reader fills its slot first and looks at the word afterwards; it holds the page when the
 *     word is biased and readable then.
 *  4. Nobody waits between taking a biased word and searching the slots, so a reader that meets the
 *     word in between waits for a moment only, whatever it holds.
 *
 * The bias is given back late to pages that are written: a page that nobody has written since it
 * was loaded gets it at its first counted fix, any other at one counted fix in BIAS_CHANCE. An
 * exclusive fix of a biased page costs a barrier, about as much as 50 counted fixes.
 */
#include "internal.h"

#define BIAS_CHANCE 64u

int cp_bias__consider(struct cp_bufpool_file *file, uint64_t page)
{
    struct cp_bufpool *pool = file->pool;
    uint64_t *word = &file->map.words[page];
    uint32_t *ticks = &cp_pin_own->ticks; /* threads without a block share one, roughly */
    uint32_t tick = __atomic_load_n(ticks, __ATOMIC_RELAXED) + 1;
    __atomic_store_n(ticks, tick, __ATOMIC_RELAXED);
    uint64_t held = cp_word_load(word);

    if ((held & (CP_WORD_BIASED | CP_WORD_WAITERS)) != 0)
        return 0;
    bool written =
        (held & CP_WORD_DIRTY) != 0 || pool->slots[cp_bufpool__unit_of(pool, held)].generation !=
                                           (uint32_t)cp_bufpool__word_version(pool, held);
    if (!written || tick % BIAS_CHANCE == 0)
        (void)cp_state__cas(word, &held, held | CP_WORD_BIASED); /* or the next reader does it */
    return 0;
}

/* The slots have been searched: the word, held exclusively, is its holder's alone. */
static void settle(uint64_t *word)
{
    uint64_t held = cp_word_load(word);

    while (!cp_state__cas(word, &held, held & ~CP_WORD_BIASED)) {
    } /* ends: only marks of waiters and optimistic readers come in between */
}

/* A reader holds the page: as if it had not been taken, but for the marks. */
static void give_back(uint64_t *word, uint64_t marks)
{
    uint64_t held = cp_word_load(word);

    cp_debug_assert(cp_word_latch(held) == CP_LATCH_EXCLUSIVE);
    cp_debug_assert((held & CP_WORD_BIASED) != 0);
    cp_latch_publish(word, cp_word_with_latch(held, CP_LATCH_FREE) | marks);
}

uint64_t cp_bias__settle(uint64_t *const *words, uint32_t count, uint64_t marks)
{
    uint64_t biased = 0, pinned = 0;

    for (uint32_t i = 0; i < count; i++) {
        if ((cp_word_load(words[i]) & CP_WORD_BIASED) != 0)
            biased |= UINT64_C(1) << i;
    }
    if (biased == 0)
        return 0;
#ifndef CP_BREAK_BARRIER /* rule breakers for the tests: search too early, or not at all */
    cp_pin_barrier();
#endif
#ifndef CP_BREAK_SEARCH
    pinned = cp_pin_search((const void *const *)words, count) & biased;
#endif
    for (uint32_t i = 0; i < count; i++) {
        if ((pinned >> i & 1) != 0)
            give_back(words[i], marks);
        else if ((biased >> i & 1) != 0)
            settle(words[i]);
    }
    return pinned;
}

bool cp_bias__settle_one(uint64_t *word)
{
    uint64_t *const words[] = {word};
    return cp_bias__settle(words, 1, 0) == 0;
}

void cp_bias__wait(struct cp_bufpool *pool, uint64_t *word)
{
    uint64_t seen = cp_word_load(word);

    cp_bufpool__count(pool, CP_COUNT_LATCH_WAITS, 1);
    /* Readers that come now count themselves, so that the slots run dry: see try_slot in fix.c. */
    if (cp_word_latch(seen) == CP_LATCH_FREE && (seen & CP_WORD_BIASED) != 0)
        (void)cp_state__cas(word, &seen, seen | CP_WORD_WAITERS);
    (void)cp_pin_wait(word, 0); /* without a deadline the wait cannot time out */
}
