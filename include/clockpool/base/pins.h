/* SPDX-License-Identifier: MIT */
/*
 * Pin slots: how a reader says what it holds without writing to memory that others write.
 *
 * Each thread has a few slots of its own. A reader that wants to hold an object stores the object's
 * address in a free slot and then looks at the object's state once more: is it still free to be
 * held, it is held. Whoever wants the object for himself changes the state first, makes every
 * running thread pass a barrier (membarrier(2)), and then searches the slots. Of the two at least
 * one sees the other:
 *
 *     reader                                  taker
 *       slot = address                          state = taken   (compare-and-swap)
 *       (compiler barrier only)                 cp_pin_barrier()
 *       state still free? held : let go         slot == address? put the state back : taken
 *
 * The reader has no locked instruction and no fence; the taker, who is rare, pays for the order of
 * both. After the asymmetric Dekker locks of BRAVO (Dice and Kogan, ATC 2019) and hazard pointers
 * (Michael, 2004).
 *
 * A slot is filled by the thread it belongs to and may be emptied by any. It outlives its thread:
 * the thread's successor finds it in use until it is released.
 */
#ifndef CLOCKPOOL_BASE_PINS_H
#define CLOCKPOOL_BASE_PINS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <clockpool/status.h>
#include <clockpool/base/thread.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CP_PIN_SLOTS 16u /* of a thread: two cache lines */
#define CP_PIN_BLOCK_BYTES                                                                         \
    256u /* a slot's block is found by clearing the low bits of its address */

/* What belongs to one thread. Only `slot` and `watchers` stand on the hit path. */
struct cp_pin_block {
    uint64_t slot[CP_PIN_SLOTS]; /* addresses of what is held, 0 for free slots */
    uint32_t watchers;           /* threads that wait for one of the slots to be released */
    uint32_t releases;           /* futex: raised by a release that found watchers */
    uint32_t ticks;              /* the owner's, for choosing one out of many */
} __attribute__((aligned(CP_PIN_BLOCK_BYTES)));

/*
 * The calling thread's block. Until the thread has asked for a slot, and where it cannot have one
 * (see cp_thread_slot), a block whose slots are all in use.
 */
extern CP_API __thread struct cp_pin_block *cp_pin_own __attribute__((tls_model("initial-exec")));

/* cp_pin_own, with what the compiler cannot know of it. */
static inline struct cp_pin_block *cp_pin_block_own(void)
{
    void *own = __builtin_assume_aligned(cp_pin_own, CP_PIN_BLOCK_BYTES);
    if (own == NULL)
        __builtin_unreachable();
    return (struct cp_pin_block *)own;
}

/* The block of the thread that has thread slot `slot`; blocks lie side by side in that order. */
CP_API struct cp_pin_block *cp_pin_block(unsigned slot);

/*
 * May slots be used? False where the kernel refuses membarrier, and where the environment has
 * CLOCKPOOL_COUNTED_PINS. Readers have to be counted then. Asks the kernel; not for the hit path.
 */
CP_API bool cp_pin_available(void);

/* Every thread of the process passes a full barrier before this returns. */
CP_API void cp_pin_barrier(void);

/*
 * Fill a free slot of the calling thread with address. NULL when it has none left. The caller looks
 * at the object again afterwards (as cp_pin_announce says) and releases the slot if it came late.
 */
CP_API uint64_t *cp_pin_take(const void *address);

/*
 * Which of count (at most 64) addresses are held in a slot, as a mask. To be asked after
 * cp_pin_barrier. acquire: what a reader did before its release has happened.
 */
CP_API uint64_t cp_pin_search(const void *const *addresses, uint32_t count);

/* How many slots hold address. */
CP_API uint32_t cp_pin_count(const void *address);

/* The addresses in all slots, at most capacity, in out_addresses. Returns how many there are. */
CP_API uint32_t cp_pin_collect(uint64_t *out_addresses, uint32_t capacity);
#define CP_PIN_SLOTS_ALL (CP_PIN_SLOTS * CP_THREAD_SLOTS)

/*
 * Wait until a slot that holds address is released. True at once when none does; false when
 * deadline_ns (in cp_now_ns() time, 0 for none) has come first. Whether others hold the address is
 * the caller's to ask again.
 */
CP_API bool cp_pin_wait(const void *address, uint64_t deadline_ns);

/* Wake who waits for a slot of block: the slow half of cp_pin_release. */
CP_API void cp_pin_wake(struct cp_pin_block *block);

/*
 * Fill one of the calling thread's slots. False when it is in use. The load of the object's state
 * that must follow is kept behind the store by the compiler, and by the taker's cp_pin_barrier.
 */
static inline bool cp_pin_announce(uint64_t *slot, const void *address)
{
    /* acquire: pairs with the release of whoever emptied the slot */
    if (__builtin_expect(__atomic_load_n(slot, __ATOMIC_ACQUIRE) != 0, 0))
        return false;
    /* release: a search that reads this value instead of the 0 before it must not miss that one */
    __atomic_store_n(slot, (uint64_t)(uintptr_t)address, __ATOMIC_RELEASE);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return true;
}

/* Empty a slot. May be done by any thread; touches nothing of the object. */
static inline void cp_pin_release(uint64_t *slot)
{
    struct cp_pin_block *block =
        (struct cp_pin_block *)((uintptr_t)slot & ~(uintptr_t)(CP_PIN_BLOCK_BYTES - 1));
    /* release: pairs with the acquire in cp_pin_search */
    __atomic_store_n(slot, 0, __ATOMIC_RELEASE);
    /* The load stays behind the store: here by the compiler, else by cp_pin_wait's barrier. */
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (__builtin_expect(__atomic_load_n(&block->watchers, __ATOMIC_RELAXED) != 0, 0))
        cp_pin_wake(block);
}

#ifdef __cplusplus
}
#endif
#endif
