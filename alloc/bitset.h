/* SPDX-License-Identifier: MIT */
/*
 * Ordered sets of small integers as trees of 64-bit words: the lowest member in O(log64 n).
 *
 * Level 0 has one bit per integer. A bit of level i+1 summarises one word of level i: in a
 * cp_bitset it says "some bit is set", in a cp_fullset (see below) "all bits are set". Both start
 * out empty from zero-filled memory, so a tree over a lazily touched mapping costs memory only
 * where it was used. A van Emde Boas tree of fixed fan-out; the idea of summaries is theirs (van
 * Emde Boas, Kaas, Zijlstra, 1977).
 *
 * The caller provides the words and the locking.
 */
#ifndef CLOCKPOOL_ALLOC_BITSET_H
#define CLOCKPOOL_ALLOC_BITSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CP_BITSET_LEVELS 6u /* 64^6 integers: more than 32 bits can name */
#define CP_BITSET_NONE   UINT32_MAX

struct cp_bitset {
    uint64_t *level[CP_BITSET_LEVELS];
    uint32_t level_count;
    uint32_t size; /* members are below this */
};

/* Words that a set of members below size needs, all levels together. */
static inline size_t cp_bitset_words(uint32_t size)
{
    size_t words = ((size_t)size + 63) / 64, total = words;
    while (words > 1) {
        words = (words + 63) / 64;
        total += words;
    }
    return total;
}

/* Lay an empty set over cp_bitset_words(size) zeroed words. size >= 1. */
static inline void cp_bitset_init(struct cp_bitset *set, uint32_t size, uint64_t *words)
{
    size_t count = ((size_t)size + 63) / 64;
    set->size = size;
    set->level_count = 1;
    set->level[0] = words;
    while (count > 1) {
        words += count;
        count = (count + 63) / 64;
        set->level[set->level_count++] = words;
    }
}

static inline bool cp_bitset_has(const struct cp_bitset *set, uint32_t member)
{
    return (set->level[0][member / 64] >> (member % 64) & 1) != 0;
}

static inline void cp_bitset_insert(struct cp_bitset *set, uint32_t member)
{
    for (uint32_t i = 0; i < set->level_count; i++) {
        uint64_t *word = &set->level[i][member / 64];
        uint64_t before = *word;
        *word = before | UINT64_C(1) << (member % 64);
        if (before != 0)
            return; /* the levels above already say so */
        member /= 64;
    }
}

static inline void cp_bitset_erase(struct cp_bitset *set, uint32_t member)
{
    for (uint32_t i = 0; i < set->level_count; i++) {
        uint64_t *word = &set->level[i][member / 64];
        *word &= ~(UINT64_C(1) << (member % 64));
        if (*word != 0)
            return;
        member /= 64;
    }
}

/* The lowest member, or CP_BITSET_NONE. */
static inline uint32_t cp_bitset_first(const struct cp_bitset *set)
{
    uint32_t position = 0;
    for (uint32_t i = set->level_count; i-- > 0;) {
        uint64_t word = set->level[i][position];
        if (word == 0)
            return CP_BITSET_NONE;
        position = position * 64 + (uint32_t)__builtin_ctzll(word);
    }
    return position;
}

/* The same words, but summaries mean "full": finds the lowest integer that is NOT a member. */
struct cp_fullset {
    struct cp_bitset bits;
};

static inline void cp_fullset_insert(struct cp_fullset *set, uint32_t member)
{
    for (uint32_t i = 0; i < set->bits.level_count; i++) {
        uint64_t *word = &set->bits.level[i][member / 64];
        *word |= UINT64_C(1) << (member % 64);
        if (*word != UINT64_MAX)
            return;
        member /= 64;
    }
}

static inline void cp_fullset_erase(struct cp_fullset *set, uint32_t member)
{
    for (uint32_t i = 0; i < set->bits.level_count; i++) {
        uint64_t *word = &set->bits.level[i][member / 64];
        uint64_t before = *word;
        *word = before & ~(UINT64_C(1) << (member % 64));
        if (before != UINT64_MAX)
            return;
        member /= 64;
    }
}

/* The lowest integer below size that is not a member, or CP_BITSET_NONE. */
static inline uint32_t cp_fullset_first_missing(const struct cp_fullset *set)
{
    uint64_t position = 0;
    for (uint32_t i = set->bits.level_count; i-- > 0;) {
        /* Bits past the end are never inserted, so they look missing: the path may lead there. */
        uint64_t word = set->bits.level[i][position];
        if (word == UINT64_MAX)
            return CP_BITSET_NONE;
        position = position * 64 + (uint64_t)__builtin_ctzll(~word);
        uint64_t words_below = i > 0 ? (uint64_t)(set->bits.level[i] - set->bits.level[i - 1]) : 0;
        if (i > 0 && position >= words_below)
            return CP_BITSET_NONE;
    }
    return position < set->bits.size ? (uint32_t)position : CP_BITSET_NONE;
}

#endif
