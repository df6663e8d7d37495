/* SPDX-License-Identifier: MIT */
/*
 * Rings: putting, submitting, reaping, waiting. README.md tells the protocol as a whole.
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
#include "internal.h"

#include <clockpool/base/assert.h>
#include <clockpool/base/bits.h>
#include <clockpool/base/error.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_DEPTH 256u
#define MAX_DEPTH     8192u /* twice that, plus wakes, stays below the kernel's limit on CQ entries */
#define REAP_BATCH    64u   /* 768 bytes of stack */
/* Worth a system call: so many requests, and this share of those in flight. */
#define BATCH_LEAST 4u
#define BATCH_SHARE 8u
/* Pause after a failed reap, which no known kernel shows: long enough not to burn a core. */
#define REAP_FAILED_PAUSE_NS 1000000u

enum waiter_word {
    ASLEEP = 0,
    SATISFIED = 1,  /* done() was true: leave without looking again */
    LOOK_AGAIN = 2, /* the reaper's role is free and there is work */
};

/* A thread inside cp_io_ring_wait; lives in its stack frame, in `sleepers` while it sleeps. */
struct waiter {
    struct waiter *next; /* lock */
    bool (*done)(void *ctx);
    void *ctx;
    uint32_t word; /* enum waiter_word; the futex, so accessed by the __atomic builtins */
};

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
    struct waiter *reaper;
    bool offered; /* a sleeper has been woken to take the role and has not looked yet */
    struct waiter *sleepers, **sleepers_end;
    bool wake_sent; /* the reaper has been told to look at its condition */
    uint64_t waits, handovers;
};

/* ---- stacks of requests -----------------------------------------------------------------------
 */

static void push(_Atomic(struct cp_io_request *) *stack, struct cp_io_request *request)
{
    struct cp_io_request *top = atomic_load_explicit(stack, memory_order_relaxed);
    do { /* ends: a failure means that another thread's push succeeded */
        request->next = top;
        /* seq_cst: release pairs with the acquire in take_all; the order against sleeper_count
         * keeps a kick from being lost (invariant 3) */
    } while (!atomic_compare_exchange_weak_explicit(stack, &top, request, memory_order_seq_cst,
                                                    memory_order_relaxed));
}

static bool stack_empty(_Atomic(struct cp_io_request *) *stack)
{
    return atomic_load_explicit(stack, memory_order_seq_cst) == NULL;
}

/* Take everything, oldest first. */
static struct cp_io_request *take_all(_Atomic(struct cp_io_request *) *stack)
{
    struct cp_io_request *oldest_first = NULL;
    if (stack_empty(stack))
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

static uint64_t outstanding(struct cp_io_ring *ring)
{
    return atomic_load_explicit(&ring->outstanding, memory_order_seq_cst);
}

/*
 * Could a reaper get something, now or by sleeping in the kernel? Without a kernel there is nothing
 * but what has been put: a reaper carries it out.
 */
static bool has_work(struct cp_io_ring *ring)
{
    if (!stack_empty(&ring->finished))
        return true;
    return ring->raw != NULL ? outstanding(ring) != 0 : !stack_empty(&ring->incoming);
}

static bool same_process(const struct cp_io_ring *ring)
{
    return cp_fork_guard_same(&ring->io->guard);
}

/* ---- waking -----------------------------------------------------------------------------------
 */

/*
 * Unlink every sleeper whose condition holds, and return them as a list. They stay asleep until
 * wake_list, so their frames stay valid. Under lock.
 */
static struct waiter *collect_satisfied(struct cp_io_ring *ring)
{
    struct waiter *satisfied = NULL;
    struct waiter **link = &ring->sleepers;
    uint32_t count = 0;

    while (*link != NULL) {
        struct waiter *waiter = *link;
        if (!waiter->done(waiter->ctx)) {
            link = &waiter->next;
            continue;
        }
        *link = waiter->next;
        waiter->next = satisfied;
        satisfied = waiter;
        count++;
    }
    ring->sleepers_end = link;
    if (count != 0)
        atomic_fetch_sub_explicit(&ring->sleeper_count, count, memory_order_relaxed);
    return satisfied;
}

/* Tell kick whether somebody reaps or is on the way to it. Under lock. */
static void publish_role(struct cp_io_ring *ring)
{
    /* seq_cst: ordered against the reads of outstanding and finished in has_work, as the writes of
     * those are against the read of role_taken in kick (invariant 3) */
    atomic_store_explicit(&ring->role_taken, ring->reaper != NULL || ring->offered,
                          memory_order_seq_cst);
}

static void set_reaper(struct cp_io_ring *ring, struct waiter *waiter)
{
    ring->reaper = waiter;
    ring->offered = false;
    ring->wake_sent = false;
    publish_role(ring);
}

/*
 * The reaper's role is free: if there is work and somebody sleeps, unlink the first sleeper, which
 * the caller wakes with LOOK_AGAIN. Under lock.
 */
static struct waiter *choose_successor(struct cp_io_ring *ring)
{
    struct waiter *waiter = ring->sleepers;

    cp_debug_assert(ring->reaper == NULL);
    if (waiter == NULL || ring->offered || !has_work(ring))
        return NULL;
    ring->offered = true; /* until the chosen one has looked */
    publish_role(ring);
    ring->sleepers = waiter->next;
    if (ring->sleepers == NULL)
        ring->sleepers_end = &ring->sleepers;
    atomic_fetch_sub_explicit(&ring->sleeper_count, 1, memory_order_relaxed);
    ring->handovers++;
    waiter->next = NULL;
    return waiter;
}

static void wake_list(struct waiter *waiter, uint32_t word)
{
    while (waiter != NULL) {
        struct waiter *next = waiter->next; /* the frame is gone once the word is set */
        uint32_t *address = &waiter->word;
        /* release: pairs with the acquire in sleep_on_word */
        __atomic_store_n(address, word, __ATOMIC_RELEASE);
        cp_futex_wake(address, 1);
        waiter = next;
    }
}

/* After something became reapable: if threads sleep and nobody reaps, wake one. */
static void kick(struct cp_io_ring *ring)
{
    if (atomic_load_explicit(&ring->sleeper_count, memory_order_seq_cst) == 0 ||
        atomic_load_explicit(&ring->role_taken, memory_order_seq_cst))
        return;
    pthread_mutex_lock(&ring->lock);
    struct waiter *successor = ring->reaper == NULL ? choose_successor(ring) : NULL;
    pthread_mutex_unlock(&ring->lock);
    wake_list(successor, LOOK_AGAIN);
}

/* Make a reaper that sleeps in the kernel return. */
static void wake_reaper(struct cp_io_ring *ring)
{
    if (ring->raw == NULL || ring->io->backend->ring_wake == NULL)
        return;
    pthread_mutex_lock(&ring->submit_lock);
    ring->io->backend->ring_wake(ring->io->ctx, ring->raw);
    pthread_mutex_unlock(&ring->submit_lock);
}

/* ---- submitting -------------------------------------------------------------------------------
 */

/* A request that ends without the kernel. The reaper calls its callback. */
static void finish_unsent(struct cp_io_ring *ring, struct cp_io_request *request, int code)
{
    struct cp_io__tally tally = {{0}};
    request->result = code;
    cp_io__count_finished(request, &tally);
    cp_io__add(ring->io, &tally);
    push(&ring->finished, request);
}

void cp_io_ring_put(struct cp_io_ring *ring, struct cp_io_request *request)
{
    int code = cp_io__prepare(request);
    if (code == 0 && request->untorn && !cp_io__untorn_possible(request))
        code = -EOPNOTSUPP;
    /* seq_cst, before the push: outstanding never lags behind what can be taken */
    atomic_fetch_add_explicit(&ring->outstanding, 1, memory_order_seq_cst);
    if (code != 0)
        finish_unsent(ring, request, code);
    else
        push(&ring->incoming, request);
}

static void run_synchronously(struct cp_io_ring *ring)
{
    struct cp_io_request *request;
    struct cp_io__tally tally = {{0}};

    while ((request = take_all(&ring->incoming)) != NULL) { /* ends: a batch per outside put */
        while (request != NULL) {
            struct cp_io_request *next = request->next;
            cp_io__run(request, &tally);
            tally.count[CP_IO__SUBMIT_CALLS]++;
            tally.count[CP_IO__SUBMITTED]++;
            push(&ring->finished, request);
            request = next;
        }
    }
    cp_io__add(ring->io, &tally);
}

/*
 * Hand the queued requests to the kernel. What it does not take now stays queued without counting
 * as in flight, so the next reap round tries again. Submitter's role.
 */
static void submit_queued(struct cp_io_ring *ring, struct cp_io__tally *tally)
{
    uint32_t count = ring->queued_count;
    if (count == 0)
        return;
    /* release, before the system call: pairs with the acquire in finish_batch, and shows the
     * requests' fields to whoever reaps them */
    atomic_fetch_add_explicit(&ring->in_flight, count, memory_order_release);
    int taken = ring->io->backend->ring_submit(ring->io->ctx, ring->raw);
    tally->count[CP_IO__SUBMIT_CALLS]++;
    uint32_t left = count;
    if (taken > 0) {
        cp_assert((uint32_t)taken <= count);
        tally->count[CP_IO__SUBMITTED] += (uint32_t)taken;
        left = count - (uint32_t)taken;
    }
    if (left != 0) /* seq_cst: as the sub in finish_batch */
        atomic_fetch_sub_explicit(&ring->in_flight, left, memory_order_seq_cst);
    if (taken < 0) { /* the backend has forgotten them: they end here */
        for (uint32_t i = 0; i < count; i++)
            finish_unsent(ring, ring->queued[i], taken);
        left = 0;
    }
    memmove(ring->queued, ring->queued + (count - left), left * sizeof *ring->queued);
    ring->queued_count = left;
}

/* Append what has been put to the backlog. Submitter's role. */
static void take_incoming(struct cp_io_ring *ring)
{
    struct cp_io_request *request = take_all(&ring->incoming);
    if (request == NULL)
        return;
    if (ring->backlog_head == NULL)
        ring->backlog_head = request;
    else
        ring->backlog_tail->next = request;
    while (request->next != NULL)
        request = request->next;
    ring->backlog_tail = request;
}

/* Submit as much as depth allows. Submitter's role, under submit_lock. */
static void submit_backlog(struct cp_io_ring *ring, struct cp_io__tally *tally)
{
    const struct cp_io_backend *backend = ring->io->backend;

    take_incoming(ring);
    /* seq_cst: a reaper that frees depth after this read sees outstanding > in_flight and comes
     * back here itself; see finish_batch */
    uint64_t in_flight = atomic_load_explicit(&ring->in_flight, memory_order_seq_cst);
    while (ring->backlog_head != NULL && in_flight + ring->queued_count < ring->facts.depth) {
        struct cp_io_request *request = ring->backlog_head;
        struct cp_io_request *next = request->next;
        int code = backend->ring_queue(ring->io->ctx, ring->raw, request->file->fd, request);
        if (code == -EAGAIN) {
            uint32_t before = ring->queued_count;
            submit_queued(ring, tally);
            if (ring->queued_count == before)
                break; /* the kernel takes nothing now; the next reap tries again */
            in_flight += before - ring->queued_count;
            continue;
        }
        ring->backlog_head = next;
        if (code != 0) {
            finish_unsent(ring, request, code);
            continue;
        }
        ring->queued[ring->queued_count++] = request;
    }
    submit_queued(ring, tally);
}

/* Submit what has been put, or leave it to the thread that is just doing so. */
static void submit_all(struct cp_io_ring *ring)
{
    if (ring->raw == NULL) {
        if (!stack_empty(&ring->incoming))
            run_synchronously(ring);
        return;
    }
    /* acq_rel: the role passes from its last holder to the next; the holder that finds the number
     * changed looks again, so nothing put before this line is left behind */
    if (atomic_fetch_add_explicit(&ring->submitters, 1, memory_order_acq_rel) != 0)
        return;
    struct cp_io__tally tally = {{0}};
    uint32_t seen;
    pthread_mutex_lock(&ring->submit_lock);
    do { /* ends: one round per thread that came meanwhile */
        seen = atomic_load_explicit(&ring->submitters, memory_order_acquire);
        submit_backlog(ring, &tally);
    } while (!atomic_compare_exchange_strong_explicit(&ring->submitters, &seen, 0,
                                                      memory_order_acq_rel, memory_order_acquire));
    pthread_mutex_unlock(&ring->submit_lock);
    cp_io__add(ring->io, &tally);
    /* The reaper may sleep in the kernel while something has ended without it. */
    if (!stack_empty(&ring->finished) &&
        atomic_load_explicit(&ring->role_taken, memory_order_seq_cst))
        wake_reaper(ring);
}

void cp_io_ring_submit(struct cp_io_ring *ring)
{
    if (!same_process(ring))
        return;
    submit_all(ring);
    kick(ring);
}

void cp_io_ring_submit_pending(struct cp_io_ring *ring)
{
    if (!stack_empty(&ring->incoming)) /* what this thread has put is there, or was taken */
        cp_io_ring_submit(ring);
}

/*
 * Might somebody wait for what has just been put, whom nothing else wakes? A sleeper, while nobody
 * reaps: as in kick. Or a reaper who went to sleep in the kernel over nothing, having seen that
 * something was outstanding before it was in line. Whoever else waits comes here by himself: when
 * something completes, or on the way to sleep, when has_work shows it to him.
 */
static bool owed_to_waiter(struct cp_io_ring *ring)
{
    /* seq_cst, all three: after the push, as in kick; the reaper lowers in_flight before it looks
     * for more to submit */
    if (!atomic_load_explicit(&ring->role_taken, memory_order_seq_cst))
        return atomic_load_explicit(&ring->sleeper_count, memory_order_seq_cst) != 0;
    return ring->raw != NULL && atomic_load_explicit(&ring->in_flight, memory_order_seq_cst) == 0;
}

void cp_io_ring_submit_batch(struct cp_io_ring *ring)
{
    if (!same_process(ring))
        return;
    /* relaxed: what is missed here goes with the next call */
    uint64_t in_flight = atomic_load_explicit(&ring->in_flight, memory_order_relaxed);
    uint64_t all = atomic_load_explicit(&ring->outstanding, memory_order_relaxed);
    bool enough =
        ring->raw != NULL && all >= in_flight + cp_max_u64(BATCH_LEAST, in_flight / BATCH_SHARE);
    if (enough || owed_to_waiter(ring))
        cp_io_ring_submit(ring);
}

/* ---- reaping ----------------------------------------------------------------------------------
 */

/* Run the callbacks of what ended without the kernel. Reaper's role, no lock. */
static uint32_t finish_unsent_ones(struct cp_io_ring *ring)
{
    uint32_t count = 0;
    struct cp_io_request *request = take_all(&ring->finished);
    while (request != NULL) {
        struct cp_io_request *next = request->next;
        request->complete(request);
        count++;
        request = next;
    }
    return count;
}

/* Take in raw results and run the callbacks of what is finished. Reaper's role, no lock. */
static uint32_t finish_batch(struct cp_io_ring *ring, struct cp_io_request **requests,
                             const int *results, uint32_t count)
{
    struct cp_io__tally tally = {{0}};
    uint32_t finished_count = 0;

    /* acquire: pairs with the release in submit_backlog. seq_cst: see there */
    atomic_fetch_sub_explicit(&ring->in_flight, count, memory_order_seq_cst);
    for (uint32_t i = 0; i < count; i++) {
        if (i + 1 < count && requests[i + 1]->iov_count > 0) /* what was read is looked at next */
            __builtin_prefetch(requests[i + 1]->iov->iov_base);
        if (!cp_io__advance(requests[i], results[i], &tally)) {
            push(&ring->incoming, requests[i]);
            continue;
        }
        finished_count++;
        requests[i]->complete(requests[i]);
    }
    cp_io__add(ring->io, &tally);
    return finished_count;
}

/* Callbacks may have put requests, and completions have made room for the backlog. */
static void submit_if_needed(struct cp_io_ring *ring)
{
    if (outstanding(ring) > atomic_load_explicit(&ring->in_flight, memory_order_seq_cst))
        submit_all(ring);
}

/* One round: reap, finish, submit what that made possible. Reaper's role, no lock. */
static uint32_t reap_round(struct cp_io_ring *ring, bool wait, uint32_t *out_raw_count)
{
    struct cp_io_request *requests[REAP_BATCH];
    int results[REAP_BATCH];
    int raw_count = 0;

    submit_if_needed(ring);
    uint32_t finished_count = finish_unsent_ones(ring);

    if (ring->raw != NULL) {
        raw_count = ring->io->backend->ring_reap(
            ring->io->ctx, ring->raw, wait && finished_count == 0, requests, results, REAP_BATCH);
        if (raw_count < 0) {
            static const uint32_t never;
            if (wait)
                cp_futex_wait(&never, never, REAP_FAILED_PAUSE_NS);
            raw_count = 0;
        }
        if (raw_count > 0)
            finished_count += finish_batch(ring, requests, results, (uint32_t)raw_count);
    }
    if (finished_count != 0) /* release: pairs with readers that free the ring or what it served */
        atomic_fetch_sub_explicit(&ring->outstanding, finished_count, memory_order_seq_cst);
    submit_if_needed(ring);
    *out_raw_count = (uint32_t)raw_count;
    return finished_count;
}

/* In a forked child nothing can be reaped: everything put here ends with CP_EFORKED. */
static uint32_t finish_forked(struct cp_io_ring *ring)
{
    uint32_t count = finish_unsent_ones(ring);
    struct cp_io_request *request;
    while ((request = take_all(&ring->incoming)) != NULL) { /* ends: when callbacks put no more */
        while (request != NULL) {
            struct cp_io_request *next = request->next;
            request->result = CP_EFORKED;
            request->complete(request);
            count++;
            request = next;
        }
    }
    atomic_fetch_sub_explicit(&ring->outstanding, count, memory_order_relaxed);
    return count;
}

/* Is there anything that a poll could do? May say yes without need. */
static bool worth_polling(struct cp_io_ring *ring)
{
    const struct cp_io_backend *backend = ring->io->backend;

    if (ring->raw == NULL || backend->ring_ready == NULL || !stack_empty(&ring->finished))
        return true;
    return outstanding(ring) > atomic_load_explicit(&ring->in_flight, memory_order_relaxed) ||
           backend->ring_ready(ring->io->ctx, ring->raw);
}

uint32_t cp_io_ring_poll(struct cp_io_ring *ring)
{
    struct waiter self = {.done = NULL};
    uint32_t count = 0;
    uint32_t raw_count;

    if (!same_process(ring))
        return finish_forked(ring);
    if (!worth_polling(ring))
        return 0;
    submit_all(ring);
    if (!has_work(ring))
        return 0;
    pthread_mutex_lock(&ring->lock);
    bool mine = ring->reaper == NULL;
    if (mine)
        set_reaper(ring, &self);
    pthread_mutex_unlock(&ring->lock);
    if (!mine)
        return 0;
    uint64_t round_limit = ring->facts.depth / REAP_BATCH + 1;
    do {
        count += reap_round(ring, false, &raw_count);
    } while (raw_count == REAP_BATCH && --round_limit > 0);

    pthread_mutex_lock(&ring->lock);
    set_reaper(ring, NULL);
    struct waiter *satisfied = collect_satisfied(ring);
    struct waiter *successor = choose_successor(ring);
    pthread_mutex_unlock(&ring->lock);
    wake_list(satisfied, SATISFIED);
    wake_list(successor, LOOK_AGAIN);
    return count;
}

/* ---- waiting ----------------------------------------------------------------------------------
 */

/*
 * Reap for all until the own condition holds or there is nothing left to reap. Called and left
 * under lock, which is released in between.
 */
static void reap_for_all(struct cp_io_ring *ring, struct waiter *self)
{
    uint32_t ignored;

    set_reaper(ring, self);
    for (;;) { /* ends: has_work, or the condition */
        pthread_mutex_unlock(&ring->lock);
        reap_round(ring, true, &ignored);
        pthread_mutex_lock(&ring->lock);
        ring->waits++;
        ring->wake_sent = false;
        struct waiter *satisfied = collect_satisfied(ring);
        bool finished = self->done(self->ctx) || !has_work(ring);
        if (finished)
            set_reaper(ring, NULL);
        if (satisfied != NULL) {
            pthread_mutex_unlock(&ring->lock);
            wake_list(satisfied, SATISFIED);
            pthread_mutex_lock(&ring->lock);
        }
        if (finished)
            return;
    }
}

/* Sleep until woken; returns the word. Called under lock, which is released. */
static uint32_t sleep_on_word(struct cp_io_ring *ring, struct waiter *self)
{
    uint32_t word;

    self->next = NULL;
    __atomic_store_n(&self->word, ASLEEP, __ATOMIC_RELAXED);
    *ring->sleepers_end = self;
    ring->sleepers_end = &self->next;
    /* seq_cst: either the thread that makes work sees this sleeper, or this one sees the work */
    atomic_fetch_add_explicit(&ring->sleeper_count, 1, memory_order_seq_cst);
    if (ring->reaper == NULL) {
        struct waiter *successor = choose_successor(ring);
        if (successor == self) {
            pthread_mutex_unlock(&ring->lock);
            return LOOK_AGAIN;
        }
        if (successor != NULL) {
            pthread_mutex_unlock(&ring->lock);
            wake_list(successor, LOOK_AGAIN);
            pthread_mutex_lock(&ring->lock);
        }
    }
    ring->waits++;
    pthread_mutex_unlock(&ring->lock);
    /* acquire: pairs with the release in wake_list */
    while ((word = __atomic_load_n(&self->word, __ATOMIC_ACQUIRE)) == ASLEEP)
        cp_futex_wait(&self->word, ASLEEP, 0);
    return word;
}

void cp_io_ring_wait(struct cp_io_ring *ring, bool (*done)(void *ctx), void *ctx)
{
    struct waiter self = {.done = done, .ctx = ctx};

    if (!same_process(ring)) {
        finish_forked(ring);
        return;
    }
    submit_all(ring);
    pthread_mutex_lock(&ring->lock);
    while (!done(ctx)) { /* ends: the contract */
        if (ring->reaper == NULL && has_work(ring)) {
            reap_for_all(ring, &self);
            continue;
        }
        if (sleep_on_word(ring, &self) == SATISFIED)
            return;
        pthread_mutex_lock(&ring->lock);
        ring->offered = false;
        publish_role(ring);
    }
    struct waiter *successor = ring->reaper == NULL ? choose_successor(ring) : NULL;
    pthread_mutex_unlock(&ring->lock);
    wake_list(successor, LOOK_AGAIN);
}

void cp_io_ring_notify(struct cp_io_ring *ring)
{
    if (!same_process(ring))
        return;
    pthread_mutex_lock(&ring->lock);
    struct waiter *satisfied = collect_satisfied(ring);
    struct waiter *reaper = ring->reaper;
    bool wake =
        reaper != NULL && reaper->done != NULL && !ring->wake_sent && reaper->done(reaper->ctx);
    if (wake)
        ring->wake_sent = true;
    pthread_mutex_unlock(&ring->lock);
    wake_list(satisfied, SATISFIED);
    if (wake)
        wake_reaper(ring);
}

/* ---- creation, end, facts ---------------------------------------------------------------------
 */

static const char nothing_registered[] = "no part of them is registered";

static int create_raw(struct cp_io_ring *ring, const struct cp_io_ring_options *options)
{
    const struct cp_io_backend *backend = ring->io->backend;

    ring->facts.buffers_reason = options->buffer_bytes == 0 ? "nothing to register was given"
                                                            : "the backend registers nothing";
    if (backend->ring_create == NULL)
        return 0;
    ring->queued = calloc(ring->facts.depth, sizeof(struct cp_io_request *));
    if (ring->queued == NULL)
        return cp_error_set(-ENOMEM, NULL, CP_NO_PAGE, CP_NO_LSN, NULL, "creating a ring");
    if (options->buffer_bytes > 0)
        ring->facts.buffers_reason = nothing_registered;
    int code = backend->ring_create(ring->io->ctx, options, &ring->raw, &ring->facts);
    ring->buffer_bytes = options->buffer_bytes;
    ring->piece_bytes = options->buffer_piece_bytes;
    if (code != 0)
        return cp_error_set(code, NULL, CP_NO_PAGE, CP_NO_LSN,
                            "lower the depth, raise RLIMIT_MEMLOCK, or use synchronous I/O",
                            "creating a ring of depth %u", ring->facts.depth);
    return 0;
}

int cp_io_ring_create(struct cp_io *io, const struct cp_io_ring_options *options,
                      struct cp_io_ring **out_ring)
{
    struct cp_io_ring_options chosen = {0};
    if (options != NULL)
        chosen = *options;
    if (chosen.depth == 0)
        chosen.depth = DEFAULT_DEPTH;
    if (chosen.depth > MAX_DEPTH)
        chosen.depth = MAX_DEPTH;
    if (chosen.buffer_bytes != 0 && chosen.buffer_piece_bytes == 0)
        return cp_error_set(-EINVAL, NULL, CP_NO_PAGE, CP_NO_LSN, "say how large a piece is",
                            "creating a ring with buffers in pieces of 0 bytes");

    struct cp_io_ring *ring = aligned_alloc(alignof(struct cp_io_ring), sizeof *ring);
    if (ring == NULL)
        return cp_error_set(-ENOMEM, NULL, CP_NO_PAGE, CP_NO_LSN, NULL, "creating a ring");
    memset(ring, 0, sizeof *ring);
    ring->io = io;
    ring->facts.depth = chosen.depth;
    ring->sleepers_end = &ring->sleepers;
    int code = -pthread_mutex_init(&ring->lock, NULL);
    if (code != 0)
        goto free_ring;
    code = -pthread_mutex_init(&ring->submit_lock, NULL);
    if (code != 0)
        goto destroy_lock;
    code = create_raw(ring, &chosen);
    if (code != 0)
        goto destroy_submit_lock;
    *out_ring = ring;
    return 0;

destroy_submit_lock:
    free(ring->queued);
    pthread_mutex_destroy(&ring->submit_lock);
destroy_lock:
    pthread_mutex_destroy(&ring->lock);
free_ring:
    free(ring);
    return code;
}

static bool all_completed(void *ctx)
{
    return outstanding(ctx) == 0;
}

void cp_io_ring_destroy(struct cp_io_ring *ring)
{
    if (ring == NULL)
        return;
    if (same_process(ring))
        cp_io_ring_wait(ring, all_completed, ring);
    else
        finish_forked(ring);
    if (ring->raw != NULL)
        ring->io->backend->ring_destroy(ring->io->ctx, ring->raw);
    if (same_process(ring)) { /* a child may have inherited the mutexes locked */
        pthread_mutex_destroy(&ring->submit_lock);
        pthread_mutex_destroy(&ring->lock);
    }
    free(ring->queued);
    free(ring);
}

void cp_io_ring_stats(struct cp_io_ring *ring, struct cp_io_ring_stats *out_stats)
{
    *out_stats = ring->facts;
    if (!same_process(ring))
        return;
    pthread_mutex_lock(&ring->submit_lock);
    *out_stats = ring->facts;
    pthread_mutex_unlock(&ring->submit_lock);
    uint64_t in_flight = atomic_load_explicit(&ring->in_flight, memory_order_relaxed);
    uint64_t all = outstanding(ring);
    out_stats->in_flight = in_flight;
    out_stats->backlog = all > in_flight ? all - in_flight : 0;
    pthread_mutex_lock(&ring->lock);
    out_stats->waits = ring->waits;
    out_stats->handovers = ring->handovers;
    pthread_mutex_unlock(&ring->lock);
}

/* What the kernel says to memory that is to be registered. */
static const char *refusal(int code)
{
    switch (code) {
    case -ENOMEM:
        return "refused (ENOMEM): RLIMIT_MEMLOCK is smaller than the buffers";
    case -EFAULT:
        return "refused (EFAULT): part of the memory is not mapped";
    case -EOPNOTSUPP:
        return "refused (EOPNOTSUPP): the memory belongs to a file";
    case -EPERM:
        return "refused (EPERM)";
    default:
        return "refused by the kernel";
    }
}

/* Under submit_lock: nothing is queued meanwhile that could name the piece. */
static int change_registration(struct cp_io_ring *ring, uint32_t piece, bool on)
{
    const struct cp_io_backend *backend = ring->io->backend;
    uint64_t piece_bytes = ring->piece_bytes;

    if (ring->raw == NULL || backend->ring_register == NULL || piece_bytes == 0 ||
        !same_process(ring))
        return -EOPNOTSUPP;
    uint64_t at = piece * piece_bytes;
    uint64_t bytes = cp_min_u64(piece_bytes, ring->buffer_bytes - at);
    pthread_mutex_lock(&ring->submit_lock);
    int code = backend->ring_register(ring->io->ctx, ring->raw, piece, on);
    if (code == 0) {
        ring->facts.registered_bytes += on ? bytes : -bytes;
        ring->facts.buffers_reason =
            ring->facts.registered_bytes > 0 ? "registered" : nothing_registered;
    } else if (on && code != -ENXIO) {
        ring->facts.buffers_reason = refusal(code);
    }
    pthread_mutex_unlock(&ring->submit_lock);
    return code;
}

int cp_io_ring_register(struct cp_io_ring *ring, uint32_t piece)
{
    return change_registration(ring, piece, true);
}

void cp_io_ring_unregister(struct cp_io_ring *ring, uint32_t piece)
{
    (void)change_registration(ring, piece, false);
}
