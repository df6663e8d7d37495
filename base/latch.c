/* SPDX-License-Identifier: MIT */
/*
 * Slow paths of the word latch: release with waiters, publish, sleep.
 *
 * Invariant: a thread sleeps only while the waiters bit was set after it last found the word busy;
 * every transition that could end its wait clears the bit in the same compare-and-swap and wakes
 * all sleepers of the word. A wake after the swap touches no memory (a private futex is found by
 * its address), so the word may be gone by then.
 */
#include <clockpool/base/latch.h>

#include <clockpool/base/assert.h>
#include <clockpool/base/error.h>

#include <errno.h>
#include <limits.h>
#include <stddef.h>

/* The half of the word that holds latch and waiters; little endian. */
static const uint32_t *futex_of(const uint64_t *word)
{
    return (const uint32_t *)(const void *)word;
}

static void wake_all(const uint64_t *word)
{
    cp_futex_wake(futex_of(word), INT_MAX);
}

void cp_latch_release_shared(uint64_t *word)
{
    uint64_t old = __atomic_load_n(word, __ATOMIC_RELAXED);
    uint64_t next;
    do { /* ends: a failure means that another thread's change succeeded */
        cp_debug_assert(cp_word_latch(old) >= 1);
        cp_debug_assert(cp_word_latch(old) <= CP_LATCH_SHARED_MAX);
        next = old - 1;
        /* A full house that opens one seat ends the wait of those who want to share. */
        if (cp_word_latch(next) == CP_LATCH_FREE || cp_word_latch(old) == CP_LATCH_SHARED_MAX)
            next &= ~CP_WORD_WAITERS;
    } while (!cp_word_cas(word, &old, next));
    if ((old & ~next & CP_WORD_WAITERS) != 0)
        wake_all(word);
}

void cp_latch_release_exclusive(uint64_t *word, uint64_t version_one)
{
    uint64_t old = __atomic_load_n(word, __ATOMIC_RELAXED);
    uint64_t next;
    do {
        cp_debug_assert(cp_word_latch(old) == CP_LATCH_EXCLUSIVE);
        next = cp_word_next_version(old, version_one) & ~(CP_WORD_LATCH | CP_WORD_WAITERS);
    } while (!cp_word_cas(word, &old, next));
    if ((old & CP_WORD_WAITERS) != 0)
        wake_all(word);
}

void cp_latch_publish(uint64_t *word, uint64_t desired)
{
    uint64_t old = __atomic_load_n(word, __ATOMIC_RELAXED);
    do {
        cp_debug_assert(cp_word_latch(old) >= CP_LATCH_LOADING);
    } while (!cp_word_cas(word, &old, desired & ~CP_WORD_WAITERS));
    if ((old & CP_WORD_WAITERS) != 0)
        wake_all(word);
}

void cp_latch_wake(uint64_t *word)
{
    /*
     * The caller has changed what still_wait looks at. That store must be visible before the
     * waiters bit is read; otherwise a waiter could set the bit, find the old condition and sleep,
     * while we find no bit and wake nobody. Pairs with the swap in cp_latch_wait.
     */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    uint64_t old = __atomic_load_n(word, __ATOMIC_RELAXED);
    while ((old & CP_WORD_WAITERS) != 0) { /* ends: each failure means that another change won */
        if (cp_word_cas(word, &old, old & ~CP_WORD_WAITERS)) {
            wake_all(word);
            return;
        }
    }
}

int cp_latch_wait(uint64_t *word, uint64_t seen, bool (*still_wait)(void *ctx), void *ctx,
                  uint64_t deadline_ns)
{
    const uint64_t ignored = CP_WORD_WAITERS | CP_WORD_REF;
    uint64_t now_word = seen;

    for (unsigned spin = 0; spin < CP_LATCH_SPIN_LIMIT; spin++) {
        now_word = cp_word_load(word);
        if (((now_word ^ seen) & ~ignored) != 0)
            return 0;
        cp_cpu_relax();
    }
    while ((now_word & CP_WORD_WAITERS) == 0) {
        /* The swap is a full barrier on every target: still_wait sees what preceded a wake. */
        if (__atomic_compare_exchange_n(word, &now_word, now_word | CP_WORD_WAITERS, false,
                                        __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE)) {
            now_word |= CP_WORD_WAITERS;
            break;
        }
        if (((now_word ^ seen) & ~ignored) != 0)
            return 0;
    }
    if (still_wait != NULL && !still_wait(ctx))
        return 0;
    uint64_t timeout_ns = 0;
    if (deadline_ns != 0) {
        uint64_t now_ns = cp_now_ns();
        if (now_ns >= deadline_ns)
            return CP_ETIMEDOUT;
        timeout_ns = deadline_ns - now_ns;
    }
    return cp_futex_wait(futex_of(word), (uint32_t)now_word, timeout_ns) ? 0 : CP_ETIMEDOUT;
}

int cp_latch_mode_refuse(enum cp_latch_mode mode, const char *path, uint64_t page)
{
    return cp_error_set(-EINVAL, path, page, CP_NO_LSN, "use CP_SHARED or CP_EXCLUSIVE",
                        "fixing a page in mode %u", (unsigned)mode);
}
