/* SPDX-License-Identifier: MIT */
/*
 * Pin slots: the registry, the barrier, the search, the wait.
 *
 * Invariants
 *  1. A slot changes from 0 by the thread that owns its block, to 0 by whoever releases.
 *  2. A block below blocks_used may have slots in use, no other has. A thread raises blocks_used
 *     before it first fills a slot, so a search that follows a barrier either sees the raise or
 *     comes before the reader's second look at the object, which then fails.
 *  3. A thread sleeps on `releases` only after it has raised `watchers`, passed a barrier, and
 * found the slot still in use. A release empties the slot and looks at `watchers` afterwards: one
 * of the two sees the other, as in the header.
 *
 * A block is never given back: blocks are as many as thread slots, and a thread's successor goes on
 * with what it left.
 */
#include <clockpool/base/pins.h>

#include "internal.h"

#include <clockpool/base/assert.h>

#include <errno.h>
#include <limits.h>
#include <linux/membarrier.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

_Static_assert(sizeof(struct cp_pin_block) == CP_PIN_BLOCK_BYTES, "found by its slots' addresses");

/* The last one is for threads without a slot of their own: always full. */
static struct cp_pin_block blocks[CP_THREAD_SLOTS + 1] = {
    [CP_THREAD_SLOT_SHARED] = {.slot = {[0 ... CP_PIN_SLOTS - 1] = UINT64_MAX}},
};
static _Atomic uint32_t blocks_used;

__thread struct cp_pin_block *cp_pin_own = &blocks[CP_THREAD_SLOT_SHARED];

struct cp_pin_block *cp_pin_block(unsigned slot)
{
    return &blocks[slot];
}

static long membarrier(int command)
{
    int saved_errno = errno;
    long result = syscall(SYS_membarrier, command, 0, 0);
    errno = saved_errno;
    return result;
}

bool cp_pin_available(void)
{
    if (getenv("CLOCKPOOL_COUNTED_PINS") != NULL)
        return false;
    /* Registering again does nothing, and is needed in a forked child. */
    return membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0;
}

void cp_pin_barrier(void)
{
    /* A taker that cannot see the readers would take what they hold. */
    cp_assert(membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0);
}

/* The calling thread's block, its own now if it can have one. */
static struct cp_pin_block *own_block(void)
{
    struct cp_pin_block *shared = &blocks[CP_THREAD_SLOT_SHARED];

    if (__builtin_expect(cp_pin_own != shared, 1))
        return cp_pin_own;
    unsigned slot = cp_thread_slot();
    if (slot == CP_THREAD_SLOT_SHARED)
        return shared;
    uint32_t used = atomic_load_explicit(&blocks_used, memory_order_relaxed);
    while (used < slot + 1 &&
           !atomic_compare_exchange_weak_explicit(&blocks_used, &used, slot + 1,
                                                  memory_order_seq_cst, memory_order_relaxed)) {
    } /* ends: a failure means that another thread has raised it */
    cp_pin_own = &blocks[slot];
    return cp_pin_own;
}

void cp_pin__thread_ends(void)
{
    cp_pin_own = &blocks[CP_THREAD_SLOT_SHARED];
}

uint64_t *cp_pin_take(const void *address)
{
    struct cp_pin_block *own = own_block();

    for (uint32_t i = 0; i < CP_PIN_SLOTS; i++) {
        if (cp_pin_announce(&own->slot[i], address))
            return &own->slot[i];
    }
    return NULL;
}

uint64_t cp_pin_search(const void *const *addresses, uint32_t count)
{
    uint32_t used = atomic_load_explicit(&blocks_used, memory_order_relaxed);
    uint64_t found = 0;

    cp_debug_assert(count <= 64);
    for (uint32_t b = 0; b < used; b++) {
        for (uint32_t i = 0; i < CP_PIN_SLOTS; i++) {
            /* acquire: pairs with the release in cp_pin_release */
            uint64_t held = __atomic_load_n(&blocks[b].slot[i], __ATOMIC_ACQUIRE);
            if (held == 0)
                continue;
            for (uint32_t a = 0; a < count; a++) {
                if (held == (uint64_t)(uintptr_t)addresses[a])
                    found |= UINT64_C(1) << a;
            }
        }
    }
    return found;
}

uint32_t cp_pin_count(const void *address)
{
    uint32_t used = atomic_load_explicit(&blocks_used, memory_order_relaxed);
    uint32_t count = 0;

    for (uint32_t b = 0; b < used; b++) {
        for (uint32_t i = 0; i < CP_PIN_SLOTS; i++) {
            uint64_t held = __atomic_load_n(&blocks[b].slot[i], __ATOMIC_ACQUIRE);
            count += held == (uint64_t)(uintptr_t)address;
        }
    }
    return count;
}

uint32_t cp_pin_collect(uint64_t *out_addresses, uint32_t capacity)
{
    uint32_t used = atomic_load_explicit(&blocks_used, memory_order_relaxed);
    uint32_t count = 0;

    for (uint32_t b = 0; b < used; b++) {
        for (uint32_t i = 0; i < CP_PIN_SLOTS; i++) {
            uint64_t held = __atomic_load_n(&blocks[b].slot[i], __ATOMIC_ACQUIRE);
            if (held == 0)
                continue;
            if (count < capacity)
                out_addresses[count] = held;
            count++;
        }
    }
    return count;
}

/* ---- waiting ------------------------------------------------------------------------------------
 */

/* Loads of a slot before its watcher sleeps: as long as a reader holds a page that it only reads.
 */
#define SPIN_LIMIT 64u

static const uint64_t *find(uint64_t address)
{
    uint32_t used = atomic_load_explicit(&blocks_used, memory_order_relaxed);

    for (uint32_t b = 0; b < used; b++) {
        for (uint32_t i = 0; i < CP_PIN_SLOTS; i++) {
            if (__atomic_load_n(&blocks[b].slot[i], __ATOMIC_ACQUIRE) == address)
                return &blocks[b].slot[i];
        }
    }
    return NULL;
}

/* Sleep until a slot of block is released. False when the time ran out. */
static bool sleep_on(struct cp_pin_block *block, const uint64_t *slot, uint64_t address,
                     uint64_t deadline_ns)
{
    uint64_t timeout_ns = 0;
    bool in_time = true;

    __atomic_fetch_add(&block->watchers, 1, __ATOMIC_SEQ_CST);
    /* acquire: pairs with the release in cp_pin_wake */
    uint32_t releases = __atomic_load_n(&block->releases, __ATOMIC_ACQUIRE);
    cp_pin_barrier();
    if (__atomic_load_n(slot, __ATOMIC_ACQUIRE) == address) {
        if (deadline_ns != 0) {
            uint64_t now_ns = cp_now_ns();
            in_time = now_ns < deadline_ns;
            timeout_ns = in_time ? deadline_ns - now_ns : 0;
        }
        if (in_time)
            in_time = cp_futex_wait(&block->releases, releases, timeout_ns);
    }
    __atomic_fetch_sub(&block->watchers, 1, __ATOMIC_RELAXED);
    return in_time;
}

bool cp_pin_wait(const void *address, uint64_t deadline_ns)
{
    uint64_t held = (uint64_t)(uintptr_t)address;
    const uint64_t *slot = find(held);

    if (slot == NULL)
        return true;
    for (uint32_t spin = 0; spin < SPIN_LIMIT; spin++) {
        if (__atomic_load_n(slot, __ATOMIC_ACQUIRE) != held)
            return true;
        cp_cpu_relax();
    }
    struct cp_pin_block *block = &blocks[((uintptr_t)slot - (uintptr_t)blocks) / sizeof *block];
    while (__atomic_load_n(slot, __ATOMIC_ACQUIRE) == held) {
        /* ends: each round is a release by its owner, or the deadline */
        if (!sleep_on(block, slot, held, deadline_ns))
            return false;
    }
    return true;
}

void cp_pin_wake(struct cp_pin_block *block)
{
    /* release: pairs with the acquire in sleep_on */
    __atomic_fetch_add(&block->releases, 1, __ATOMIC_RELEASE);
    cp_futex_wake(&block->releases, INT_MAX);
}
