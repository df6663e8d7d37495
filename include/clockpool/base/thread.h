/* SPDX-License-Identifier: MIT */
/*
 * Threads, as the library needs them: slots for per-thread statistics, a futex, a guard that
 * notices fork, and clocks.
 */
#ifndef CLOCKPOOL_BASE_THREAD_H
#define CLOCKPOOL_BASE_THREAD_H

#include <stdbool.h>
#include <stdint.h>
#include <clockpool/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Slots 0 .. CP_THREAD_SLOTS-1 belong to one live thread each; CP_THREAD_SLOT_SHARED to the rest.
 */
#define CP_THREAD_SLOTS       64u
#define CP_THREAD_SLOT_SHARED CP_THREAD_SLOTS

/*
 * The calling thread's slot. The first CP_THREAD_SLOTS live threads own theirs exclusively (a plain
 * increment is enough there); all others share CP_THREAD_SLOT_SHARED and must add atomically. A
 * slot returns to the free ones when its thread ends. Never blocks.
 *
 * The number plus 1 is kept in a thread-local variable, 0 while the thread has not asked. It is
 * addressed in the initial-exec way, two instructions instead of a call: it stands on the hit path.
 */
extern CP_API __thread unsigned cp_thread_slot_plus_one __attribute__((tls_model("initial-exec")));
CP_API unsigned cp_thread_slot_take(void); /* the slow half of cp_thread_slot */

static inline unsigned cp_thread_slot(void)
{
    unsigned slot_plus_one = cp_thread_slot_plus_one;
    return __builtin_expect(slot_plus_one != 0, 1) ? slot_plus_one - 1 : cp_thread_slot_take();
}

/*
 * Sleep while the 32-bit word at address equals expected, at most timeout_ns (0: no limit).
 * Returns true unless the time ran out. Spurious returns are possible.
 */
CP_API bool cp_futex_wait(const uint32_t *address, uint32_t expected, uint64_t timeout_ns);

/* Wake at most count threads sleeping on address. */
CP_API void cp_futex_wake(const uint32_t *address, unsigned count);

/* Nanoseconds of CLOCK_MONOTONIC. */
CP_API uint64_t cp_now_ns(void);

/*
 * A page that the kernel clears in a forked child (MADV_WIPEONFORK): a check without a system call.
 * init takes one page of memory until fini. Returns 0 or -errno.
 */
struct cp_fork_guard {
    uint32_t *word;
};
CP_API int cp_fork_guard_init(struct cp_fork_guard *guard) CP_MUST_CHECK;
CP_API void cp_fork_guard_fini(struct cp_fork_guard *guard);

/* True in the process that called init, false in its forked children. */
static inline bool cp_fork_guard_same(const struct cp_fork_guard *guard)
{
    return __atomic_load_n(guard->word, __ATOMIC_RELAXED) != 0;
}

/* A hint to the processor inside a spin loop. */
static inline void cp_cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield" ::: "memory");
#endif
}

#ifdef __cplusplus
}
#endif
#endif
