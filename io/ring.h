/* SPDX-License-Identifier: MIT */
/*
 * A ring and what its two sides share. ring.c reaps and waits, submit.c puts and submits; README.md
 * tells the protocol as a whole.
 *
 * A request's way:
 *
 *     put ──> incoming ──take──> backlog ──queue──> kernel ──reap──> advance ──> complete()
 *                ^                                                      │
 *                └─────────── short transfer, EINTR, EAGAIN ────────────┘
 *     synchronous backend: submit takes `incoming`, runs each request, pushes it to `finished`
 *
 * Invariants
 * 1. outstanding counts requests put and not yet completed; in_flight those handed to the backend.
 *    outstanding > in_flight tells a reaper that there is something to submit.
 * 2. One thread at a time has the submitter's role (`submitters` > 0 taken from 0), one the
 *    reaper's (`reaper` != NULL). The backend's submission side is touched under submit_lock only,
 *    its completion side by the reaper only.
 * 3. While there is work to reap and a thread sleeps on its own word, somebody has the reaper's
 *    role, or has been woken to take it. Every release of the role and every submit sees to that.
 *    What is in line is work too: who asks for a batch submits where a sleeper may wait for it.
 *
 * Locks: `lock` and `submit_lock` are leaves, never held together, and neither is held over a
 * callback. submit_lock is held over the submitting system call, lock over none but futex wakes of
 * overflowing wake lists.
 */
#ifndef CLOCKPOOL_IO_RING_H
#define CLOCKPOOL_IO_RING_H

#include "internal.h"

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>

struct cp_io__waiter; /* ring.c */

struct cp_io_ring {
    struct cp_io *io; /* borrows */
    void *raw;        /* owns: the backend's ring; NULL when requests are carried out at submit */
    struct cp_io_ring_stats facts;      /* depth, registration */
    uint64_t buffer_bytes, piece_bytes; /* piece_bytes 0: nothing can be registered */

    /* lock-free */
    alignas(64) _Atomic(struct cp_io_request *) incoming; /* stack, newest first */
    _Atomic(struct cp_io_request *) finished;             /* stack; result is final */
    _Atomic uint64_t outstanding;
    alignas(64) _Atomic uint64_t in_flight;
    _Atomic uint32_t submitters;
    _Atomic uint32_t sleeper_count; /* written under lock */
    _Atomic bool role_taken;        /* reaper != NULL or offered; written under lock */

    /* the submitter's role */
    alignas(64) pthread_mutex_t submit_lock;
    struct cp_io_request *backlog_head, *backlog_tail;
    struct cp_io_request **queued; /* owns: [depth], queued and not yet taken by the kernel */
    uint32_t queued_count;

    /* lock */
    alignas(64) pthread_mutex_t lock;
    struct cp_io__waiter *reaper;
    bool offered; /* a sleeper has been woken to take the role and has not looked yet */
    struct cp_io__waiter *sleepers, **sleepers_end;
    bool wake_sent; /* the reaper has been told to look at its condition */
    uint64_t waits, handovers;
};

/* ---- stacks of requests -----------------------------------------------------------------------
 */

static inline void cp_io__push(_Atomic(struct cp_io_request *) *stack,
                               struct cp_io_request *request)
{
    struct cp_io_request *top = atomic_load_explicit(stack, memory_order_relaxed);
    do { /* ends: a failure means that another thread's push succeeded */
        request->next = top;
        /* seq_cst: release pairs with the acquire in take_all; the order against sleeper_count
         * keeps a kick from being lost (invariant 3) */
    } while (!atomic_compare_exchange_weak_explicit(stack, &top, request, memory_order_seq_cst,
                                                    memory_order_relaxed));
}

static inline bool cp_io__stack_empty(_Atomic(struct cp_io_request *) *stack)
{
    return atomic_load_explicit(stack, memory_order_seq_cst) == NULL;
}

/* Take everything, oldest first. */
static inline struct cp_io_request *cp_io__take_all(_Atomic(struct cp_io_request *) *stack)
{
    struct cp_io_request *oldest_first = NULL;
    if (cp_io__stack_empty(stack))
        return NULL;
    /* acquire: pairs with the release in push */
    struct cp_io_request *request = atomic_exchange_explicit(stack, NULL, memory_order_acquire);
    while (request != NULL) {
        struct cp_io_request *next = request->next;
        request->next = oldest_first;
        oldest_first = request;
        request = next;
    }
    return oldest_first;
}

static inline uint64_t cp_io__outstanding(struct cp_io_ring *ring)
{
    return atomic_load_explicit(&ring->outstanding, memory_order_seq_cst);
}

static inline bool cp_io__same_process(const struct cp_io_ring *ring)
{
    return cp_fork_guard_same(&ring->io->guard);
}

/* ---- ring.c -----------------------------------------------------------------------------------
 */

/* After something became reapable: if threads sleep and nobody reaps, wake one. */
void cp_io__kick(struct cp_io_ring *ring);
/* Make a reaper that sleeps in the kernel return. */
void cp_io__wake_reaper(struct cp_io_ring *ring);

/* ---- submit.c ---------------------------------------------------------------------------------
 */

/* Submit what has been put, or leave it to the thread that is just doing so. */
void cp_io__submit_all(struct cp_io_ring *ring);

#endif
