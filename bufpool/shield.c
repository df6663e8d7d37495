/* SPDX-License-Identifier: MIT */
/*
 * Use after unfix as a report: in builds for AddressSanitizer and valgrind, a resident frame that
 * nobody holds is poisoned.
 *
 * The race to avoid: one thread lets go as the last and poisons, while another has just joined and
 * unpoisoned. So in these builds, and only there, a small lock per word (striped) covers "count the
 * holders, poison, release" and "unpoison after joining". Whoever joins unpoisons after it has the
 * latch or the slot; whoever is last, as the word's count and the slots show it, poisons before it
 * lets go. A reader whose slot the search misses unpoisons afterwards.
 */
#include "internal.h"

#if CP_POISONS

#define STRIPES 64u
static pthread_mutex_t stripes[STRIPES] = {[0 ... STRIPES - 1] = PTHREAD_MUTEX_INITIALIZER};

static pthread_mutex_t *stripe_of(const uint64_t *word)
{
    return &stripes[((uintptr_t)word >> 3) % STRIPES];
}

void cp_shield__cover(struct cp_bufpool *pool, const struct cp_frame *frame)
{
    CP_POISON(cp_bufpool__unit_data(pool, frame->unit), cp_frame__bytes(frame));
}

void cp_shield__uncover(struct cp_bufpool *pool, const struct cp_frame *frame)
{
    CP_UNPOISON(cp_bufpool__unit_data(pool, frame->unit), cp_frame__bytes(frame));
    CP_DEFINED(cp_bufpool__unit_data(pool, frame->unit), cp_frame__bytes(frame));
}

void cp_shield__raise(struct cp_bufpool *pool, uint64_t *word, uint64_t held)
{
    pthread_mutex_t *stripe = stripe_of(word);
    pthread_mutex_lock(stripe);
    cp_shield__uncover(pool, cp_bufpool__frame_of(pool, held));
    pthread_mutex_unlock(stripe);
}

void cp_shield__release_slot(struct cp_bufpool *pool, uint64_t *word, uint64_t *slot)
{
    pthread_mutex_t *stripe = stripe_of(word);
    pthread_mutex_lock(stripe);
    uint64_t held = cp_word_load(word);
    if (cp_word_latch(held) == CP_LATCH_FREE && cp_pin_count(word) == 1)
        cp_shield__cover(pool, cp_bufpool__frame_of(pool, held));
    cp_pin_release(slot);
    pthread_mutex_unlock(stripe);
}

void cp_shield__release_shared(struct cp_bufpool *pool, uint64_t *word)
{
    pthread_mutex_t *stripe = stripe_of(word);
    pthread_mutex_lock(stripe);
    uint64_t held = cp_word_load(word);
    if (cp_word_latch(held) == 1 && cp_pin_count(word) == 0)
        cp_shield__cover(pool, cp_bufpool__frame_of(pool, held));
    cp_latch_release_shared(word);
    pthread_mutex_unlock(stripe);
}

void cp_shield__release_exclusive(struct cp_bufpool *pool, uint64_t *word)
{
    pthread_mutex_t *stripe = stripe_of(word);
    pthread_mutex_lock(stripe);
    cp_shield__cover(pool, cp_bufpool__frame_of(pool, cp_word_load(word)));
    cp_latch_release_exclusive(word, pool->version_one);
    pthread_mutex_unlock(stripe);
}

#else

void cp_shield__cover(struct cp_bufpool *pool, const struct cp_frame *frame)
{
    (void)pool;
    (void)frame;
}

void cp_shield__uncover(struct cp_bufpool *pool, const struct cp_frame *frame)
{
    (void)pool;
    (void)frame;
}

void cp_shield__raise(struct cp_bufpool *pool, uint64_t *word, uint64_t held)
{
    (void)pool;
    (void)word;
    (void)held;
}

void cp_shield__release_slot(struct cp_bufpool *pool, uint64_t *word, uint64_t *slot)
{
    (void)pool;
    (void)word;
    cp_pin_release(slot);
}

void cp_shield__release_shared(struct cp_bufpool *pool, uint64_t *word)
{
    (void)pool;
    cp_latch_release_shared(word);
}

void cp_shield__release_exclusive(struct cp_bufpool *pool, uint64_t *word)
{
    cp_latch_release_exclusive(word, pool->version_one);
}

#endif
