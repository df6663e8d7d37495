/* SPDX-License-Identifier: MIT */
/*
 * Thread slots, futex, fork guard, clock.
 *
 * Invariant: a slot number below CP_THREAD_SLOTS is held by at most one live thread. A slot is
 * taken by setting its bit in `slots_taken` and given back by a key destructor when the thread
 * ends; the destructor's release pairs with the acquire of the next taker, so counts written by the
 * old owner are seen by the new one.
 */
#include <clockpool/base/thread.h>

#include "internal.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static _Atomic uint64_t slots_taken;
static pthread_once_t slot_once = PTHREAD_ONCE_INIT;
static pthread_key_t slot_key;
static bool slot_key_valid;

__thread unsigned cp_thread_slot_plus_one;

static void return_slot(void *value)
{
    unsigned slot = (unsigned)(uintptr_t)value - 1;
    cp_pin__thread_ends(); /* later destructors of this thread have no slots any more */
    /* release: pairs with the acquire in take_slot of the next owner */
    atomic_fetch_and_explicit(&slots_taken, ~(UINT64_C(1) << slot), memory_order_release);
    cp_thread_slot_plus_one = CP_THREAD_SLOT_SHARED + 1;
}

static void make_slot_key(void)
{
    slot_key_valid = pthread_key_create(&slot_key, return_slot) == 0;
}

static unsigned take_slot(void)
{
    pthread_once(&slot_once, make_slot_key);
    if (!slot_key_valid)
        return CP_THREAD_SLOT_SHARED;
    uint64_t taken = atomic_load_explicit(&slots_taken, memory_order_relaxed);
    while (taken != UINT64_MAX) { /* ends: each failure means that another thread changed a bit */
        unsigned slot = (unsigned)__builtin_ctzll(~taken);
        /* acquire: pairs with the release in return_slot */
        if (!atomic_compare_exchange_weak_explicit(&slots_taken, &taken,
                                                   taken | (UINT64_C(1) << slot),
                                                   memory_order_acquire, memory_order_relaxed))
            continue;
        if (pthread_setspecific(slot_key, (void *)(uintptr_t)(slot + 1)) == 0)
            return slot;
        atomic_fetch_and_explicit(&slots_taken, ~(UINT64_C(1) << slot), memory_order_release);
        return CP_THREAD_SLOT_SHARED;
    }
    return CP_THREAD_SLOT_SHARED;
}

unsigned cp_thread_slot_take(void)
{
    cp_thread_slot_plus_one = take_slot() + 1;
    return cp_thread_slot_plus_one - 1;
}

bool cp_futex_wait(const uint32_t *address, uint32_t expected, uint64_t timeout_ns)
{
    struct timespec limit = {(time_t)(timeout_ns / 1000000000u), (long)(timeout_ns % 1000000000u)};
    int saved_errno = errno;
    long result = syscall(SYS_futex, address, FUTEX_WAIT_PRIVATE, expected,
                          timeout_ns != 0 ? &limit : NULL, NULL, 0);
    bool timed_out = result != 0 && errno == ETIMEDOUT;
    errno = saved_errno;
    return !timed_out;
}

void cp_futex_wake(const uint32_t *address, unsigned count)
{
    int saved_errno = errno;
    syscall(SYS_futex, address, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
    errno = saved_errno;
}

uint64_t cp_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int cp_fork_guard_init(struct cp_fork_guard *guard)
{
    size_t page_size = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return -errno;
    if (madvise(page, page_size, MADV_WIPEONFORK) != 0) {
        int code = -errno;
        munmap(page, page_size);
        return code;
    }
    guard->word = page;
    *guard->word = 1;
    return 0;
}

void cp_fork_guard_fini(struct cp_fork_guard *guard)
{
    munmap(guard->word, (size_t)sysconf(_SC_PAGESIZE));
    guard->word = NULL;
}
