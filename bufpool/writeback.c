/* SPDX-License-Identifier: MIT */
/*
 * Write-back: dirty frames to their files, in batches, sorted, neighbours merged, the log first.
 *
 * The order of a batch, which is the write-ahead rule: the frames are claimed shared (so the images
 * hold still); before_write logs what must be logged first; the gate is asked once for the largest
 * LSN; durability is asserted for each page; images are sealed and written; on completion the dirty
 * mark goes and the claim is released. A page that could not be written keeps its mark and stays in
 * memory.
 *
 * Waiting. All writes go through one ring, and writes_in_flight is raised before a batch is put
 * there. A thread that wants a page exclusively and finds it held shared waits on that ring while
 * writes are in flight, reaping them itself; if it went to sleep on the word just before, the batch
 * wakes it (wake_sleepers) after raising the count: each side writes first and looks second.
 */
#include "internal.h"

static cp_lsn lsn_of(const struct cp_frame *frame)
{
    return atomic_load_explicit(&frame->lsn, memory_order_relaxed);
}

static uint64_t *word_of(const struct cp_frame *frame)
{
    return atomic_load_explicit(&frame->word, memory_order_relaxed);
}

/*
 * Two writers of one page would seal it under each other's write, and the first to complete takes
 * the LSN from the second. Eviction claims free pages only, but a flush joins readers.
 */
bool cp_writeback__claim(struct cp_bufpool *pool, uint64_t *word, uint64_t seen)
{
    if (!cp_state__cas(word, &seen, seen + 1))
        return false;
    struct cp_frame *frame = cp_bufpool__frame_of(pool, seen);
    /* acquire: pairs with the release in cp_writeback__let_go */
    if (atomic_exchange_explicit(&frame->writing, 1, memory_order_acquire) != 0) {
        cp_shield__release_shared(pool, word);
        return false;
    }
    atomic_fetch_add_explicit(&pool->writes_claimed, 1, memory_order_relaxed);
    if ((cp_word_load(word) & CP_WORD_DIRTY) != 0)
        return true;
    cp_writeback__let_go(pool, frame); /* another writer finished while we joined */
    return false;
}

void cp_writeback__let_go(struct cp_bufpool *pool, struct cp_frame *frame)
{
    atomic_fetch_sub_explicit(&pool->writes_claimed, 1, memory_order_relaxed);
    /* release: pairs with the acquire in cp_writeback__claim */
    atomic_store_explicit(&frame->writing, 0, memory_order_release);
    cp_shield__release_shared(pool, word_of(frame));
}

/* ---- completion ---------------------------------------------------------------------------------
 */

static void finish_page(struct cp_transfer *transfer, struct cp_frame *frame, int result)
{
    struct cp_bufpool *pool = transfer->pool;
    uint64_t *word = word_of(frame);

    if (result == 0) {
        atomic_store_explicit(&frame->lsn, 0, memory_order_relaxed);
        uint64_t held = cp_word_load(word);
        while (!cp_state__cas(word, &held, held & ~CP_WORD_DIRTY)) {
        } /* ends: a failure means that a reader's change succeeded */
        cp_debug_assert((held & CP_WORD_DIRTY) != 0); /* nobody else writes it */
        atomic_fetch_sub_explicit(&pool->pages_dirty, 1, memory_order_relaxed);
        atomic_fetch_sub_explicit(&transfer->file->dirty_pages, 1, memory_order_relaxed);
    }
    cp_writeback__let_go(pool, frame);
}

static void complete_write(struct cp_io_request *request)
{
    struct cp_transfer *transfer = request->user;
    struct cp_bufpool *pool = transfer->pool;
    struct cp_write_wait *wait = transfer->wait;
    uint32_t count = transfer->count;
    int result = request->result;

    cp_bufpool__count(pool, CP_COUNT_WRITES, 1);
    CP_PROBE3(write_done, transfer->file->path, transfer->first_page, result);
    if (result == 0) {
        cp_bufpool__count(pool, CP_COUNT_PAGES_WRITTEN, count);
        cp_bufpool__count(pool, CP_COUNT_PAGES_MERGED, count > 1 ? count : 0);
    } else {
        cp_bufpool__count(pool, CP_COUNT_WRITE_ERRORS, 1);
        atomic_store_explicit(&transfer->file->write_error, result, memory_order_relaxed);
    }
    for (uint32_t i = 0; i < count; i++)
        finish_page(transfer, transfer->frames[i], result);
    cp_transfer__free(transfer);

    if (wait != NULL) {
        int none = 0;
        if (result == 0)
            atomic_fetch_add_explicit(&wait->written, count, memory_order_relaxed);
        else
            atomic_compare_exchange_strong_explicit(&wait->error, &none, result,
                                                    memory_order_relaxed, memory_order_relaxed);
        /* release: pairs with the acquire in none_pending; *wait may be gone afterwards */
        atomic_fetch_sub_explicit(&wait->pending, 1, memory_order_release);
    }
    atomic_fetch_add_explicit(&pool->write_completions, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&pool->writes_in_flight, count, memory_order_release);
}

/* ---- waiting ------------------------------------------------------------------------------------
 */

struct completion_watch {
    struct cp_bufpool *pool;
    uint64_t completions;
};

static bool some_completed(void *ctx)
{
    const struct completion_watch *watch = ctx;
    return atomic_load_explicit(&watch->pool->writes_in_flight, memory_order_acquire) == 0 ||
           atomic_load_explicit(&watch->pool->write_completions, memory_order_relaxed) !=
               watch->completions;
}

void cp_writeback__wait_any(struct cp_bufpool *pool)
{
    struct completion_watch watch = {
        pool, atomic_load_explicit(&pool->write_completions, memory_order_relaxed)};
    cp_io_ring_wait(pool->write_ring, some_completed, &watch);
}

struct pending_watch {
    struct cp_write_wait *wait;
    uint32_t left;
};

static bool few_pending(void *ctx)
{
    const struct pending_watch *watch = ctx;
    /* acquire: pairs with the release in complete_write */
    return atomic_load_explicit(&watch->wait->pending, memory_order_acquire) <= watch->left;
}

int cp_writeback__wait_left(struct cp_bufpool *pool, struct cp_write_wait *wait, uint32_t left)
{
    struct pending_watch watch = {wait, left};

    if (!few_pending(&watch))
        cp_io_ring_wait(pool->write_ring, few_pending, &watch);
    int error = atomic_load_explicit(&wait->error, memory_order_relaxed);
    if (error == 0)
        return 0;
    return cp_error_set(error, NULL, CP_NO_PAGE, CP_NO_LSN, NULL,
                        "writing dirty pages back; they stay in memory, dirty");
}

int cp_writeback__wait(struct cp_bufpool *pool, struct cp_write_wait *wait)
{
    return cp_writeback__wait_left(pool, wait, 0);
}

/* ---- starting -----------------------------------------------------------------------------------
 */

static bool before(const struct cp_frame *a, const struct cp_frame *b)
{
    return a->file != b->file ? a->file->index < b->file->index : a->page < b->page;
}

/* Shell sort (Ciura's gaps): in place and without allocation, for at most a batch. */
static void sort_frames(struct cp_frame **frames, uint32_t count)
{
    static const uint32_t gaps[] = {57, 23, 10, 4, 1};

    for (uint32_t g = 0; g < sizeof gaps / sizeof gaps[0]; g++) {
        for (uint32_t i = gaps[g]; i < count; i++) {
            struct cp_frame *moved = frames[i];
            uint32_t j = i;
            for (; j >= gaps[g] && before(moved, frames[j - gaps[g]]); j -= gaps[g])
                frames[j] = frames[j - gaps[g]];
            frames[j] = moved;
        }
    }
}

/*
 * Let the file's owner log what has to be logged before these images replace those in the file.
 * Returns how many frames (moved to the front) may go on; the others have been let go.
 */
static uint32_t log_ahead(struct cp_bufpool *pool, struct cp_frame **frames, uint32_t count,
                          int *status)
{
    const struct cp_bufpool_file *file = frames[0]->file;
    uint32_t allowed = 0;

    if (file->before_write == NULL)
        return count;
    for (uint32_t i = 0; i < count; i++) {
        cp_lsn lsn = lsn_of(frames[i]);
        void *data = cp_bufpool__unit_data(pool, frames[i]->unit);
        int code = file->before_write(file->ctx, data, frames[i]->page, &lsn);
        if (code == 0) {
            atomic_store_explicit(&frames[i]->lsn, lsn, memory_order_relaxed);
            frames[allowed++] = frames[i];
        } else {
            *status = code;
            cp_writeback__let_go(pool, frames[i]);
        }
    }
    return allowed;
}

/*
 * Ask the gate for the frames of one file, sorted. Returns how many frames (moved to the front) may
 * be written; the others have been let go. *status: the gate's failure.
 */
static uint32_t pass_gate(struct cp_bufpool *pool, struct cp_frame **frames, uint32_t count,
                          enum cp_gate_use gate_use, int *status)
{
    const struct cp_bufpool_file *file = frames[0]->file;
    const struct cp_lsn_gate *gate = &file->gate;
    uint32_t allowed = 0, durable_count = 0;
    cp_lsn largest = 0;

    count = log_ahead(pool, frames, count, status);
    CP_HOOK("logged", NULL, count);
    if (count == 0 || !file->has_gate) /* without a page of it the file may be gone */
        return count;
    cp_lsn durable = gate->durable_lsn(gate->ctx);
    for (uint32_t i = 0; i < count; i++) {
        largest = cp_max_u64(largest, lsn_of(frames[i]));
        durable_count += lsn_of(frames[i]) <= durable;
    }
    bool ask = gate_use == CP_GATE_ALL || (gate_use == CP_GATE_IF_NONE && durable_count == 0);
    if (largest > durable && ask) {
        cp_bufpool__count(pool, CP_COUNT_GATE_CALLS, 1);
        CP_PROBE2(gate_wait, file->path, largest);
        int code = gate->make_durable(gate->ctx, largest);
        if (code != 0) {
            cp_bufpool__count(pool, CP_COUNT_GATE_FAILURES, 1);
            *status = cp_error_set(CP_EGATE, file->path, frames[0]->page, largest,
                                   "the log failed: close the store and reopen it to recover",
                                   "making the log durable before writing pages (%s)",
                                   cp_status_name(code));
        }
        durable = gate->durable_lsn(gate->ctx);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (lsn_of(frames[i]) <= durable)
            frames[allowed++] = frames[i];
        else
            cp_writeback__let_go(pool, frames[i]);
    }
    return allowed;
}

/* The last look before an image leaves: its log is durable, then it is sealed. */
static void prepare_image(struct cp_bufpool *pool, const struct cp_frame *frame)
{
    struct cp_bufpool_file *file = frame->file;
    unsigned char *data = cp_bufpool__unit_data(pool, frame->unit);

    cp_assert(!file->has_gate || lsn_of(frame) <= file->gate.durable_lsn(file->gate.ctx));
    if (file->seal != NULL)
        file->seal(file->ctx, data, frame->page, lsn_of(frame));
}

static void put_transfer(struct cp_transfer *transfer)
{
    struct cp_io_request *request = &transfer->request;

    request->op = CP_IO_OP_WRITE;
    request->untorn = transfer->file->untorn_writes;
    request->file = transfer->file->io_file;
    request->offset_bytes = transfer->first_page * transfer->file->page_size;
    request->complete = complete_write;
    CP_PROBE3(write_start, transfer->file->path, transfer->first_page, transfer->count);
    cp_io_ring_put(transfer->pool->write_ring, request);
}

/* A transfer for writing; some are reserved for writes, so waiting for one ends. */
static struct cp_transfer *wait_for_transfer(struct cp_bufpool *pool)
{
    for (;;) { /* ends: the writes that have the transfers complete */
        /* Read before the attempt: what completes after it ends the wait. Our own pages count as in
         * flight already, so "none in flight" would not. */
        struct completion_watch watch = {
            pool, atomic_load_explicit(&pool->write_completions, memory_order_relaxed)};
        struct cp_transfer *transfer = cp_transfer__alloc(pool);
        if (transfer != NULL)
            return transfer;
        CP_HOOK("no_transfer", NULL, 0);
        cp_io_ring_wait(pool->write_ring, some_completed, &watch);
    }
}

/* Put the frames of one file, sorted, in line: one request for each run of neighbours. */
static void put_runs(struct cp_bufpool *pool, struct cp_frame **frames, uint32_t count,
                     struct cp_write_wait *wait)
{
    struct cp_transfer *transfer = NULL;

    for (uint32_t i = 0; i < count; i++) {
        struct cp_frame *frame = frames[i];
        prepare_image(pool, frame);
        if (transfer != NULL && (frame->file->untorn_writes ||
                                 !cp_transfer__continues(transfer, frame->file, frame->page))) {
            put_transfer(transfer);
            transfer = NULL;
        }
        if (transfer == NULL) {
            transfer = wait_for_transfer(pool);
            transfer->file = frame->file;
            transfer->first_page = frame->page;
            transfer->wait = wait;
            if (wait != NULL)
                atomic_fetch_add_explicit(&wait->pending, 1, memory_order_relaxed);
        }
        cp_transfer__add_page(transfer, frame);
    }
    put_transfer(transfer);
}

/* See "Waiting" above. */
static void wake_sleepers(struct cp_frame **frames, uint32_t count)
{
    atomic_thread_fence(memory_order_seq_cst);
    for (uint32_t i = 0; i < count; i++)
        cp_latch_wake(word_of(frames[i]));
}

int cp_writeback__start(struct cp_bufpool *pool, struct cp_frame **frames, uint32_t count,
                        enum cp_gate_use gate_use, struct cp_write_wait *wait)
{
    int status = 0;

    for (uint32_t i = 0; i < count; i++)
        cp_shield__raise(pool, word_of(frames[i]), cp_word_load(word_of(frames[i])));
    sort_frames(frames, count);
    for (uint32_t first = 0; first < count;) {
        uint32_t end = first + 1;
        while (end < count && frames[end]->file == frames[first]->file)
            end++;
        uint32_t allowed = pass_gate(pool, &frames[first], end - first, gate_use, &status);
        if (allowed > 0) {
            atomic_fetch_add_explicit(&pool->writes_in_flight, allowed, memory_order_seq_cst);
            wake_sleepers(&frames[first], allowed);
            put_runs(pool, &frames[first], allowed, wait);
        }
        first = end;
    }
    cp_io_ring_submit(pool->write_ring);
    return status;
}
