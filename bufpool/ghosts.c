/* SPDX-License-Identifier: MIT */
/*
 * Ghosts in buckets of 21 entries, a cache line each. An entry has 24 bits, in two arrays of the
 * bucket so that a search goes over neighbours:
 *
 *     16  fingerprint, never 0; 0 is an empty entry
 *      7  epoch: now_units / epoch_units when the page was evicted, modulo 128
 *      1  from main, the highest bit of that byte
 *
 * An epoch is 1/32 of the pool, so 7 bits reach four times as far as an entry counts, and an entry
 * that no eviction has replaced by then would be taken for a young one. It is one in a bucket into
 * which nothing was put for four pools' worth of misses, where 3.5 buckets' worth are expected.
 *
 * Bucket and fingerprint come from the key by a hash; the bucket is the hash's upper half scaled to
 * the number of buckets, which need not be a power of two.
 */
#include "ghosts.h"

#include <clockpool/base/assert.h>
#include <clockpool/base/bits.h>

#include <stddef.h>
#include <string.h>

/* find reads whole words of the fingerprints. */
_Static_assert(offsetof(struct cp_ghost_bucket, tags) + CP_GHOST_WAYS >=
                   (CP_GHOST_WAYS + 3) / 4 * 8,
               "a search stays in the bucket");

#define EPOCHS         128u
#define FROM_MAIN      0x80u
#define EPOCHS_PER_AGE 32u /* epochs in size_units */
/* The size may rise by 1/8 before the buckets are counted again, and fall so far that what they
 * take, 3.5 bytes a unit, is not more than the 4 that are paid for each (CP_UNIT_OVERHEAD). */
#define GROWTH_PER_MILLE 1125u
#define SHRINK_PER_MILLE 880u

static uint32_t buckets_for(uint64_t size_units)
{
    uint64_t buckets = size_units * CP_GHOST_PER_MILLE / 1000 / CP_GHOST_WAYS;
    return buckets > 0 ? (uint32_t)buckets : 1;
}

uint64_t cp_ghosts__bytes(uint64_t size_units)
{
    return (uint64_t)buckets_for(size_units) * sizeof(struct cp_ghost_bucket);
}

void cp_ghosts__init(struct cp_ghosts *ghosts, void *memory)
{
    *ghosts = (struct cp_ghosts){.buckets = memory, .epoch_units = 1};
}

void cp_ghosts__resize(struct cp_ghosts *ghosts, uint64_t size_units)
{
    if (size_units * 1000 <= ghosts->size_units * GROWTH_PER_MILLE &&
        size_units * 1000 >= ghosts->size_units * SHRINK_PER_MILLE)
        return;
    ghosts->size_units = size_units;
    __atomic_store_n(&ghosts->bucket_count, buckets_for(size_units), __ATOMIC_RELAXED);
    ghosts->epoch_units = size_units >= EPOCHS_PER_AGE ? size_units / EPOCHS_PER_AGE : 1;
}

/* Mixes all bits of the key into all of the result (the finaliser of splitmix64, Steele 2014). */
static uint64_t mix(uint64_t key)
{
    key = (key ^ (key >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    key = (key ^ (key >> 27)) * UINT64_C(0x94d049bb133111eb);
    return key ^ (key >> 31);
}

static struct cp_ghost_bucket *bucket_of(const struct cp_ghosts *ghosts, uint64_t hash)
{
    /* relaxed: cp_ghosts__prefetch comes without the lock */
    uint64_t count = __atomic_load_n(&ghosts->bucket_count, __ATOMIC_RELAXED);
    return &ghosts->buckets[((hash >> 32) * count) >> 32];
}

static uint16_t fingerprint_of(uint64_t hash)
{
    uint16_t fingerprint = (uint16_t)hash;
    return fingerprint != 0 ? fingerprint : 1;
}

/*
 * The first entry with this fingerprint, or CP_GHOST_WAYS. Four are compared at a time, as parts of
 * a word: the lowest part that is zero shows as its highest bit.
 */
static uint32_t find(const struct cp_ghost_bucket *bucket, uint16_t fingerprint)
{
    const uint64_t ones = UINT64_C(0x0001000100010001), highs = ones << 15;

    for (uint32_t i = 0; i < CP_GHOST_WAYS; i += 4) {
        uint64_t four;
        memcpy(&four, &bucket->fingerprints[i],
               sizeof four); /* the last ones reach into the tags */
        four ^= ones * fingerprint;
        uint64_t zeros = (four - ones) & ~four & highs;
        if (zeros != 0)
            return (uint32_t)cp_min_u64(i + (unsigned)__builtin_ctzll(zeros) / 16, CP_GHOST_WAYS);
    }
    return CP_GHOST_WAYS;
}

static uint32_t epoch_now(const struct cp_ghosts *ghosts)
{
    return (uint32_t)(ghosts->now_units / ghosts->epoch_units % EPOCHS);
}

/* Epochs since an entry was made. */
static uint32_t epochs_since(uint8_t tag, uint32_t now)
{
    return (now - tag) % EPOCHS;
}

/* Eight numbers of 7 bits in the bytes of a word; the highest bits keep borrows apart. */
#define BYTES UINT64_C(0x0101010101010101)
#define HIGHS (BYTES << 7)

/* Epochs since, of eight entries. */
static uint64_t eight_ages(const uint8_t *tags, uint32_t now)
{
    uint64_t eight;
    memcpy(&eight, tags, sizeof eight);
    return ((BYTES * (now % EPOCHS) | HIGHS) - (eight & ~HIGHS)) & ~HIGHS;
}

static uint64_t eight_larger(uint64_t a, uint64_t b)
{
    uint64_t not_less = ((a | HIGHS) - b) & HIGHS;
    uint64_t take_a = not_less - (not_less >> 7);
    return (a & take_a) | (b & ~take_a);
}

/* The first of the oldest entries: a full bucket is searched at each eviction, so all at once. */
static uint32_t find_oldest(const struct cp_ghost_bucket *bucket, uint32_t now)
{
    static const uint32_t places[3] = {0, 8, CP_GHOST_WAYS - 8}; /* some are looked at twice */
    uint64_t ages[3], oldest = 0;

    for (uint32_t i = 0; i < 3; i++) {
        ages[i] = eight_ages(&bucket->tags[places[i]], now);
        oldest = eight_larger(oldest, ages[i]);
    }
    for (unsigned shift = 32; shift >= 8; shift /= 2)
        oldest = eight_larger(oldest, oldest >> shift);
    uint64_t wanted = BYTES * (oldest & (EPOCHS - 1));
    for (uint32_t i = 0; i < 3; i++) {
        uint64_t equal = (HIGHS - (ages[i] ^ wanted)) & HIGHS;
        if (equal != 0)
            return places[i] + (uint32_t)__builtin_ctzll(equal) / 8;
    }
    return 0; /* not reached: one of them is the oldest */
}

void cp_ghosts__prefetch(const struct cp_ghosts *ghosts, uint64_t key)
{
    __builtin_prefetch(bucket_of(ghosts, mix(key)), 1);
}

void cp_ghosts__put(struct cp_ghosts *ghosts, uint64_t key, bool from_main)
{
    if (ghosts->bucket_count == 0)
        return;
    uint64_t hash = mix(key);
    struct cp_ghost_bucket *bucket = bucket_of(ghosts, hash);
    uint16_t fingerprint = fingerprint_of(hash);
    uint32_t now = epoch_now(ghosts);
    uint32_t place = find(bucket, fingerprint); /* the same page, or taken for it */

    if (place == CP_GHOST_WAYS)
        place = find(bucket, 0);
    if (place == CP_GHOST_WAYS)
        place = find_oldest(bucket, now);
    bucket->fingerprints[place] = fingerprint;
    bucket->tags[place] = (uint8_t)(now | (uint32_t)from_main * FROM_MAIN);
}

bool cp_ghosts__take(struct cp_ghosts *ghosts, uint64_t key, bool *out_from_main,
                     uint64_t *out_age_units)
{
    if (ghosts->bucket_count == 0)
        return false;
    uint64_t hash = mix(key);
    struct cp_ghost_bucket *bucket = bucket_of(ghosts, hash);
    uint32_t place = find(bucket, fingerprint_of(hash));

    if (place == CP_GHOST_WAYS)
        return false;
    uint8_t tag = bucket->tags[place];
    bucket->fingerprints[place] = 0;
    uint64_t age = epochs_since(tag, epoch_now(ghosts)) * ghosts->epoch_units;
    if (age > ghosts->size_units)
        return false;
    *out_from_main = (tag & FROM_MAIN) != 0;
    *out_age_units = age;
    return true;
}
