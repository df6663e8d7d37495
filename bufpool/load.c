/* SPDX-License-Identifier: MIT */
/*
 * Loading: from "absent" over "loading" to a resident page, or back.
 *
 * A thread that needs one page reads it itself, with one synchronous read: no ring, no lock, no
 * other thread's completion (docs/adr/0002). Many pages go through a ring as requests of up to
 * CP_TRANSFER_PAGES neighbours; whoever reaps the request publishes its pages, each with the latch
 * its ticket asked for. While a word is "loading" its version field tells waiters which ring to
 * reap (number plus 1), or 0: the loading thread itself will publish.
 *
 * A request that failed fails all its pages silently: their words become absent again, and whoever
 * fixes them reads them singly and gets the error with page and path.
 *
 * Version reuse. A resident page's version starts one above the last version that any page had in
 * this frame (slots[].generation), so a (page, frame, version) triple does not come back until the
 * counter wraps: 2^30 exclusive latches of one page in a pool of up to 16 GiB, while one optimistic
 * read is preempted.
 */
#include "internal.h"

#include <errno.h>

/* Transfers kept for writes, so that a full set of reads cannot stop them. */
#define WRITE_RESERVE 8u

bool cp_load__claim(struct cp_bufpool_file *file, uint64_t page, struct cp_frame *frame,
                    uint32_t ring_plus_one)
{
    struct cp_bufpool *pool = file->pool;
    uint64_t *word = &file->map.words[page];
    uint64_t expected = 0;

    frame->file = file;
    frame->page = page;
    cp_shield__uncover(pool, frame);
    CP_HOOK("claim", file, page);
    if (!cp_state__cas(word, &expected,
                       cp_bufpool__make_word(pool, frame->unit, ring_plus_one, CP_LATCH_LOADING)))
        return false;
    CP_HOOK("claimed", file, page);
    /* release: pairs with the acquire in look_at and claim_unit */
    atomic_store_explicit(&frame->word, word, memory_order_release);
    cp_evict__enter(pool, frame);
    return true;
}

void cp_load__publish(struct cp_bufpool *pool, struct cp_frame *frame, unsigned latch)
{
#ifdef CP_BREAK_VERSION
    uint32_t generation = 1;
#else
    uint32_t generation = ++pool->slots[frame->unit].generation;
#endif
    uint64_t *word = atomic_load_explicit(&frame->word, memory_order_relaxed);

    atomic_fetch_add_explicit(&pool->pages_resident, 1, memory_order_relaxed);
    if (latch == CP_LATCH_FREE)
        cp_shield__cover(pool, frame);
    /* Not biased: most pages that miss are not hit before they go, and go without a search then. */
    cp_latch_publish(word, cp_bufpool__make_word(pool, frame->unit, generation, latch));
}

void cp_load__fail(struct cp_bufpool *pool, struct cp_frame *frame)
{
    cp_evict__drop_page(pool, frame);
    cp_memory__frame_free(pool, frame);
}

static int verify(struct cp_bufpool_file *file, struct cp_frame *frame)
{
    unsigned char *data = cp_bufpool__unit_data(file->pool, frame->unit);

    if (file->verify == NULL)
        return 0;
    int status = file->verify(file->ctx, data, frame->page);
    if (status != 0)
        cp_bufpool__count(file->pool, CP_COUNT_VERIFY_ERRORS, 1);
    return status;
}

int cp_load__read_now(struct cp_bufpool_file *file, struct cp_frame *frame)
{
    struct cp_bufpool *pool = file->pool;
    unsigned char *data = cp_bufpool__unit_data(pool, frame->unit);

    cp_bufpool__count(pool, CP_COUNT_READS, 1);
    int status = cp_io_read(file->io_file, data, file->page_size, frame->page * file->page_size);
    if (status != 0) {
        cp_bufpool__count(pool, CP_COUNT_READ_ERRORS, 1);
        return cp_error_set(status, file->path, frame->page, CP_NO_LSN, NULL, "reading the page");
    }
    cp_bufpool__count(pool, CP_COUNT_PAGES_READ, 1);
    return verify(file, frame);
}

/* ---- through a ring
 * -------------------------------------------------------------------------------- */

static void finish_page(struct cp_transfer *transfer, uint32_t i, int result)
{
    struct cp_bufpool *pool = transfer->pool;
    struct cp_frame *frame = transfer->frames[i];
    struct cp_ticket *ticket = transfer->tickets[i];

    CP_DEFINED(cp_bufpool__unit_data(pool, frame->unit), transfer->file->page_size);
    /* What publishing writes has left the processor's cache meanwhile: it comes back during verify.
     */
    __builtin_prefetch(atomic_load_explicit(&frame->word, memory_order_relaxed), 1);
    __builtin_prefetch(&pool->slots[frame->unit], 1);
    if (ticket != NULL)
        __builtin_prefetch(ticket, 1);
    if (result == 0)
        result = verify(transfer->file, frame);
    if (result != 0) {
        if (ticket != NULL) {
            /* Told before the word is absent: as long as the ticket is LOADING, so is its word, on
             * the ring where its owner waits. */
            ticket->status = result;
            /* release: pairs with the acquire in ticket_arrived */
            __atomic_store_n(&ticket->state, CP_TICKET_RETRY, __ATOMIC_RELEASE);
        }
        cp_load__fail(pool, frame);
        return;
    }
    if (ticket == NULL) {
        cp_load__publish(pool, frame, CP_LATCH_FREE);
        return;
    }
    ticket->fix.data = cp_bufpool__unit_data(pool, frame->unit);
    cp_load__publish(pool, frame, ticket->fix.mode == CP_EXCLUSIVE ? CP_LATCH_EXCLUSIVE : 1);
    __atomic_store_n(&ticket->state, CP_TICKET_FIXED, __ATOMIC_RELEASE);
}

static void complete_read(struct cp_io_request *request)
{
    struct cp_transfer *transfer = request->user;
    struct cp_bufpool *pool = transfer->pool;
    uint32_t count = transfer->count;
    int result = request->result;

    cp_bufpool__count(pool, CP_COUNT_READS, 1);
    cp_bufpool__count(pool, result == 0 ? CP_COUNT_PAGES_READ : CP_COUNT_READ_ERRORS,
                      result == 0 ? count : 1);
    for (uint32_t i = 0; i < count; i++)
        finish_page(transfer, i, result);
    cp_transfer__free(transfer);
    atomic_fetch_sub_explicit(&pool->transfers_reading, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&pool->reads_in_flight, count, memory_order_release);
}

void cp_load__run_init(struct cp_load_run *run, struct cp_bufpool_file *file)
{
    run->file = file;
    run->transfer = NULL;
    run->ring = cp_bufpool__own_ring(file->pool);
}

static struct cp_transfer *read_transfer(struct cp_bufpool *pool)
{
    uint32_t reading = atomic_fetch_add_explicit(&pool->transfers_reading, 1, memory_order_relaxed);
    struct cp_transfer *transfer = NULL;

    if (reading + WRITE_RESERVE < pool->transfer_limit)
        transfer = cp_transfer__alloc(pool);
    if (transfer == NULL)
        atomic_fetch_sub_explicit(&pool->transfers_reading, 1, memory_order_relaxed);
    return transfer;
}

int cp_load__run_enter(struct cp_load_run *run, uint64_t page, bool may_wait)
{
    int status = cp_table__enter(run->file, page, false);

    if (status != -EAGAIN || !may_wait)
        return status;
    cp_load__run_submit(run);
    return cp_table__enter(run->file, page, true);
}

bool cp_load__run_reserve(struct cp_load_run *run, uint64_t page)
{
    if (run->transfer != NULL && run->transfer->count > 0 &&
        !cp_transfer__continues(run->transfer, run->file, page))
        cp_load__run_put(run);
    if (run->transfer == NULL) {
        run->transfer = read_transfer(run->file->pool);
        if (run->transfer == NULL)
            return false;
        run->transfer->file = run->file;
    }
    if (run->transfer->count == 0)
        run->transfer->first_page = page;
    return true;
}

void cp_load__run_append(struct cp_load_run *run, struct cp_frame *frame, struct cp_ticket *ticket)
{
    run->transfer->tickets[run->transfer->count] = ticket;
    cp_transfer__add_page(run->transfer, frame);
}

void cp_load__run_put(struct cp_load_run *run)
{
    struct cp_transfer *transfer = run->transfer;
    struct cp_bufpool *pool = run->file->pool;

    if (transfer == NULL)
        return;
    run->transfer = NULL;
    if (transfer->count == 0) {
        cp_transfer__free(transfer);
        atomic_fetch_sub_explicit(&pool->transfers_reading, 1, memory_order_relaxed);
        return;
    }
    struct cp_io_request *request = &transfer->request;
    request->op = CP_IO_OP_READ;
    request->file = run->file->io_file;
    request->offset_bytes = transfer->first_page * run->file->page_size;
    request->complete = complete_read;
    atomic_fetch_add_explicit(&pool->reads_in_flight, transfer->count, memory_order_relaxed);
    cp_io_ring_put(pool->rings[run->ring], request);
}

void cp_load__run_submit(struct cp_load_run *run)
{
    cp_load__run_put(run);
    cp_io_ring_submit(run->file->pool->rings[run->ring]);
}
