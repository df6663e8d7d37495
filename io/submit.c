/* SPDX-License-Identifier: MIT */
/* Rings: putting requests and submitting them. Invariants and locks: ring.h. */
#include "ring.h"

#include <clockpool/base/assert.h>
#include <clockpool/base/bits.h>

#include <errno.h>
#include <string.h>

/* Worth a system call: so many requests, and this share of those in flight. */
#define BATCH_LEAST 4u
#define BATCH_SHARE 8u

/* A request that ends without the kernel. The reaper calls its callback. */
static void finish_unsent(struct cp_io_ring *ring, struct cp_io_request *request, int code)
{
    struct cp_io__tally tally = {{0}};
    request->result = code;
    cp_io__count_finished(request, &tally);
    cp_io__add(ring->io, &tally);
    cp_io__push(&ring->finished, request);
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
        cp_io__push(&ring->incoming, request);
}

static void run_synchronously(struct cp_io_ring *ring)
{
    struct cp_io_request *request;
    struct cp_io__tally tally = {{0}};

    /* ends: a batch per outside put */
    while ((request = cp_io__take_all(&ring->incoming)) != NULL) {
        while (request != NULL) {
            struct cp_io_request *next = request->next;
            cp_io__run(request, &tally);
            tally.count[CP_IO__SUBMIT_CALLS]++;
            tally.count[CP_IO__SUBMITTED]++;
            cp_io__push(&ring->finished, request);
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
    struct cp_io_request *request = cp_io__take_all(&ring->incoming);
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
     * back here itself; see finish_batch in ring.c */
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

void cp_io__submit_all(struct cp_io_ring *ring)
{
    if (ring->raw == NULL) {
        if (!cp_io__stack_empty(&ring->incoming))
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
    if (!cp_io__stack_empty(&ring->finished) &&
        atomic_load_explicit(&ring->role_taken, memory_order_seq_cst))
        cp_io__wake_reaper(ring);
}

void cp_io_ring_submit(struct cp_io_ring *ring)
{
    if (!cp_io__same_process(ring))
        return;
    cp_io__submit_all(ring);
    cp_io__kick(ring);
}

void cp_io_ring_submit_pending(struct cp_io_ring *ring)
{
    if (!cp_io__stack_empty(&ring->incoming)) /* what this thread has put is there, or was taken */
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
    if (!cp_io__same_process(ring))
        return;
    /* relaxed: what is missed here goes with the next call */
    uint64_t in_flight = atomic_load_explicit(&ring->in_flight, memory_order_relaxed);
    uint64_t all = atomic_load_explicit(&ring->outstanding, memory_order_relaxed);
    bool enough =
        ring->raw != NULL && all >= in_flight + cp_max_u64(BATCH_LEAST, in_flight / BATCH_SHARE);
    if (enough || owed_to_waiter(ring))
        cp_io_ring_submit(ring);
}
