/* SPDX-License-Identifier: MIT */
/* Rings: reaping, waiting, waking; creation and end. Invariants and locks: ring.h. */
#include "ring.h"

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
/* Pause after a failed reap, which no known kernel shows: long enough not to burn a core. */
#define REAP_FAILED_PAUSE_NS 1000000u

enum waiter_word {
    ASLEEP = 0,
    SATISFIED = 1,  /* done() was true: leave without looking again */
    LOOK_AGAIN = 2, /* the reaper's role is free and there is work */
};

/* A thread inside cp_io_ring_wait; lives in its stack frame, in `sleepers` while it sleeps. */
struct cp_io__waiter {
    struct cp_io__waiter *next; /* lock */
    bool (*done)(void *ctx);
    void *ctx;
    uint32_t word; /* enum waiter_word; the futex, so accessed by the __atomic builtins */
};

/*
 * Could a reaper get something, now or by sleeping in the kernel? Without a kernel there is nothing
 * but what has been put: a reaper carries it out.
 */
static bool has_work(struct cp_io_ring *ring)
{
    if (!cp_io__stack_empty(&ring->finished))
        return true;
    return ring->raw != NULL ? cp_io__outstanding(ring) != 0 : !cp_io__stack_empty(&ring->incoming);
}

/* ---- waking -----------------------------------------------------------------------------------
 */

/*
 * Unlink every sleeper whose condition holds, and return them as a list. They stay asleep until
 * wake_list, so their frames stay valid. Under lock.
 */
static struct cp_io__waiter *collect_satisfied(struct cp_io_ring *ring)
{
    struct cp_io__waiter *satisfied = NULL;
    struct cp_io__waiter **link = &ring->sleepers;
    uint32_t count = 0;

    while (*link != NULL) {
        struct cp_io__waiter *waiter = *link;
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

static void set_reaper(struct cp_io_ring *ring, struct cp_io__waiter *waiter)
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
static struct cp_io__waiter *choose_successor(struct cp_io_ring *ring)
{
    struct cp_io__waiter *waiter = ring->sleepers;

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

static void wake_list(struct cp_io__waiter *waiter, uint32_t word)
{
    while (waiter != NULL) {
        struct cp_io__waiter *next = waiter->next; /* the frame is gone once the word is set */
        uint32_t *address = &waiter->word;
        /* release: pairs with the acquire in sleep_on_word */
        __atomic_store_n(address, word, __ATOMIC_RELEASE);
        cp_futex_wake(address, 1);
        waiter = next;
    }
}

void cp_io__kick(struct cp_io_ring *ring)
{
    if (atomic_load_explicit(&ring->sleeper_count, memory_order_seq_cst) == 0 ||
        atomic_load_explicit(&ring->role_taken, memory_order_seq_cst))
        return;
    pthread_mutex_lock(&ring->lock);
    struct cp_io__waiter *successor = ring->reaper == NULL ? choose_successor(ring) : NULL;
    pthread_mutex_unlock(&ring->lock);
    wake_list(successor, LOOK_AGAIN);
}

void cp_io__wake_reaper(struct cp_io_ring *ring)
{
    if (ring->raw == NULL || ring->io->backend->ring_wake == NULL)
        return;
    pthread_mutex_lock(&ring->submit_lock);
    ring->io->backend->ring_wake(ring->io->ctx, ring->raw);
    pthread_mutex_unlock(&ring->submit_lock);
}

/* ---- reaping ----------------------------------------------------------------------------------
 */

/* Run the callbacks of what ended without the kernel. Reaper's role, no lock. */
static uint32_t finish_unsent_ones(struct cp_io_ring *ring)
{
    uint32_t count = 0;
    struct cp_io_request *request = cp_io__take_all(&ring->finished);
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

    /* acquire: pairs with the release in submit_queued. seq_cst: see submit_backlog */
    atomic_fetch_sub_explicit(&ring->in_flight, count, memory_order_seq_cst);
    for (uint32_t i = 0; i < count; i++) {
        if (i + 1 < count && requests[i + 1]->iov_count > 0) /* what was read is looked at next */
            __builtin_prefetch(requests[i + 1]->iov->iov_base);
        if (!cp_io__advance(requests[i], results[i], &tally)) {
            cp_io__push(&ring->incoming, requests[i]);
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
    if (cp_io__outstanding(ring) > atomic_load_explicit(&ring->in_flight, memory_order_seq_cst))
        cp_io__submit_all(ring);
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
    /* ends: when callbacks put no more */
    while ((request = cp_io__take_all(&ring->incoming)) != NULL) {
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

    if (ring->raw == NULL || backend->ring_ready == NULL || !cp_io__stack_empty(&ring->finished))
        return true;
    return cp_io__outstanding(ring) >
               atomic_load_explicit(&ring->in_flight, memory_order_relaxed) ||
           backend->ring_ready(ring->io->ctx, ring->raw);
}

uint32_t cp_io_ring_poll(struct cp_io_ring *ring)
{
    struct cp_io__waiter self = {.done = NULL};
    uint32_t count = 0;
    uint32_t raw_count;

    if (!cp_io__same_process(ring))
        return finish_forked(ring);
    if (!worth_polling(ring))
        return 0;
    cp_io__submit_all(ring);
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
    struct cp_io__waiter *satisfied = collect_satisfied(ring);
    struct cp_io__waiter *successor = choose_successor(ring);
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
static void reap_for_all(struct cp_io_ring *ring, struct cp_io__waiter *self)
{
    uint32_t ignored;

    set_reaper(ring, self);
    for (;;) { /* ends: has_work, or the condition */
        pthread_mutex_unlock(&ring->lock);
        reap_round(ring, true, &ignored);
        pthread_mutex_lock(&ring->lock);
        ring->waits++;
        ring->wake_sent = false;
        struct cp_io__waiter *satisfied = collect_satisfied(ring);
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
static uint32_t sleep_on_word(struct cp_io_ring *ring, struct cp_io__waiter *self)
{
    uint32_t word;

    self->next = NULL;
    __atomic_store_n(&self->word, ASLEEP, __ATOMIC_RELAXED);
    *ring->sleepers_end = self;
    ring->sleepers_end = &self->next;
    /* seq_cst: either the thread that makes work sees this sleeper, or this one sees the work */
    atomic_fetch_add_explicit(&ring->sleeper_count, 1, memory_order_seq_cst);
    if (ring->reaper == NULL) {
        struct cp_io__waiter *successor = choose_successor(ring);
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
    struct cp_io__waiter self = {.done = done, .ctx = ctx};

    if (!cp_io__same_process(ring)) {
        finish_forked(ring);
        return;
    }
    cp_io__submit_all(ring);
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
    struct cp_io__waiter *successor = ring->reaper == NULL ? choose_successor(ring) : NULL;
    pthread_mutex_unlock(&ring->lock);
    wake_list(successor, LOOK_AGAIN);
}

void cp_io_ring_notify(struct cp_io_ring *ring)
{
    if (!cp_io__same_process(ring))
        return;
    pthread_mutex_lock(&ring->lock);
    struct cp_io__waiter *satisfied = collect_satisfied(ring);
    struct cp_io__waiter *reaper = ring->reaper;
    bool wake =
        reaper != NULL && reaper->done != NULL && !ring->wake_sent && reaper->done(reaper->ctx);
    if (wake)
        ring->wake_sent = true;
    pthread_mutex_unlock(&ring->lock);
    wake_list(satisfied, SATISFIED);
    if (wake)
        cp_io__wake_reaper(ring);
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
    return cp_io__outstanding(ctx) == 0;
}

void cp_io_ring_destroy(struct cp_io_ring *ring)
{
    if (ring == NULL)
        return;
    if (cp_io__same_process(ring))
        cp_io_ring_wait(ring, all_completed, ring);
    else
        finish_forked(ring);
    if (ring->raw != NULL)
        ring->io->backend->ring_destroy(ring->io->ctx, ring->raw);
    if (cp_io__same_process(ring)) { /* a child may have inherited the mutexes locked */
        pthread_mutex_destroy(&ring->submit_lock);
        pthread_mutex_destroy(&ring->lock);
    }
    free(ring->queued);
    free(ring);
}

void cp_io_ring_stats(struct cp_io_ring *ring, struct cp_io_ring_stats *out_stats)
{
    if (!cp_io__same_process(ring)) { /* its only thread: nobody else writes them */
        *out_stats = ring->facts;
        return;
    }
    pthread_mutex_lock(&ring->submit_lock);
    *out_stats = ring->facts;
    pthread_mutex_unlock(&ring->submit_lock);
    uint64_t in_flight = atomic_load_explicit(&ring->in_flight, memory_order_relaxed);
    uint64_t all = cp_io__outstanding(ring);
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
        !cp_io__same_process(ring))
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
