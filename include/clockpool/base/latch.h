/* SPDX-License-Identifier: MIT */
/*
 * A latch in the low bits of a 64-bit word that also says what it guards (after vmcache: the whole
 * of a page's state in one word). Both engines use it.
 *
 *     bits 0-7    latch: 0 free, 1..250 shared holders, 254 loading, 255 exclusive
 *     bit  8      waiters: somebody sleeps on the low half of the word
 *     bit  9      ref: touched since the sweep last looked
 *     bit  10     dirty: changed since it was last written
 *     bit  11     biased: readers may hold it by a pin slot (base/pins.h) instead of a count. Who
 *                 swaps a biased word to exclusive owns nothing before it has searched the slots.
 *                 For owners that use slots; the others leave the bit clear
 *     bits 12..   the owner's: where the page's bytes are
 *     the top     version, from a bit the owner chooses (version_one) up: so it wraps by itself,
 * and what lies below is had by a mask, without a shift by a variable number of bits
 *
 * All bits zero means "absent". A word is changed by compare-and-swap only, and never touched after
 * a release: when the last holder lets go, the owner may unmap the memory it lies in.
 */
#ifndef CLOCKPOOL_BASE_LATCH_H
#define CLOCKPOOL_BASE_LATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <clockpool/status.h>
#include <clockpool/base/assert.h>
#include <clockpool/base/thread.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CP_WORD_LATCH       UINT64_C(0xff)
#define CP_WORD_WAITERS     UINT64_C(0x100)
#define CP_WORD_REF         UINT64_C(0x200)
#define CP_WORD_DIRTY       UINT64_C(0x400)
#define CP_WORD_BIASED      UINT64_C(0x800)
#define CP_WORD_OWNER_SHIFT 12u

#define CP_LATCH_FREE       0u
#define CP_LATCH_SHARED_MAX 250u
#define CP_LATCH_LOADING    254u
#define CP_LATCH_EXCLUSIVE  255u

/* Loads of the word before it sleeps: about a microsecond, the cost of a futex round trip. */
#define CP_LATCH_SPIN_LIMIT 64u

/* How a page is fixed. */
enum cp_latch_mode {
    CP_SHARED = 1,
    CP_EXCLUSIVE = 2,
};

/* False for a mode that was never set: it would be one thing at fix and the other at unfix. */
static inline bool cp_latch_mode_valid(enum cp_latch_mode mode)
{
    return mode == CP_SHARED || mode == CP_EXCLUSIVE;
}

/* The error of a mode that is not valid: -EINVAL, described. path: of the file; any thread. */
CP_API int cp_latch_mode_refuse(enum cp_latch_mode mode, const char *path,
                                uint64_t page) CP_MUST_CHECK;

static inline unsigned cp_word_latch(uint64_t word)
{
    return (unsigned)(word & CP_WORD_LATCH);
}

/* Free or held shared: a shared holder may join, an optimistic reader may look. */
static inline bool cp_word_readable(uint64_t word)
{
    return cp_word_latch(word) <= CP_LATCH_SHARED_MAX;
}

/* The word with another latch value. */
static inline uint64_t cp_word_with_latch(uint64_t word, unsigned latch)
{
    return (word & ~CP_WORD_LATCH) | latch;
}

/* The word with its version one higher. */
static inline uint64_t cp_word_next_version(uint64_t word, uint64_t version_one)
{
    return word + version_one;
}

/*
 * Compare-and-swap with acquire and release order. On failure *expected is what was found. Builtins
 * rather than <stdatomic.h>, which C++ does not have.
 */
static inline bool cp_word_cas(uint64_t *word, uint64_t *expected, uint64_t desired)
{
    return __atomic_compare_exchange_n(word, expected, desired, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
}

/* acquire: pairs with the release half of the compare-and-swap that published the state */
static inline uint64_t cp_word_load(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

/*
 * Let go of one shared hold, or of the exclusive one (then the version rises).
 * Wakes the waiters when the word becomes free. Never touches the word afterwards.
 */
CP_API void cp_latch_release_shared(uint64_t *word);
CP_API void cp_latch_release_exclusive(uint64_t *word, uint64_t version_one);

/* The same, without a call where nobody waits and nobody interferes. */
static inline void cp_latch_release_shared_fast(uint64_t *word)
{
    uint64_t old = __atomic_load_n(word, __ATOMIC_RELAXED);
    cp_debug_assert(cp_word_latch(old) >= 1);
    cp_debug_assert(cp_word_latch(old) <= CP_LATCH_SHARED_MAX);
    if (__builtin_expect((old & CP_WORD_WAITERS) != 0 || !cp_word_cas(word, &old, old - 1), 0))
        cp_latch_release_shared(word);
}

static inline void cp_latch_release_exclusive_fast(uint64_t *word, uint64_t version_one)
{
    uint64_t old = __atomic_load_n(word, __ATOMIC_RELAXED);
    uint64_t next = cp_word_next_version(old, version_one) & ~CP_WORD_LATCH;
    cp_debug_assert(cp_word_latch(old) == CP_LATCH_EXCLUSIVE);
    if (__builtin_expect((old & CP_WORD_WAITERS) != 0 || !cp_word_cas(word, &old, next), 0))
        cp_latch_release_exclusive(word, version_one);
}

/* Set a word that the caller holds (loading or exclusive) to desired and wake its waiters. */
CP_API void cp_latch_publish(uint64_t *word, uint64_t desired);

/*
 * Wait until the word may have changed from seen: spin, then announce a waiter, ask still_wait
 * (when not NULL) whether sleeping is right, and sleep. deadline_ns is in cp_now_ns() time, 0 for
 * none. Returns 0, or CP_ETIMEDOUT.
 */
CP_API int cp_latch_wait(uint64_t *word, uint64_t seen, bool (*still_wait)(void *ctx), void *ctx,
                         uint64_t deadline_ns) CP_MUST_CHECK;

/* Wake sleepers without changing the state, so that they look again (and take another way). */
CP_API void cp_latch_wake(uint64_t *word);

#ifdef __cplusplus
}
#endif
#endif
