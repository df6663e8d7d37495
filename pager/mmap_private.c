/* SPDX-License-Identifier: MIT */
/*
 * Private frames of the mmap engine: where changed pages live until they are written.
 *
 *     exclusive fix   copies the page from the map into a frame (cp_mmap__frame_get)
 *     mark_dirty      sets the dirty bit in the word
 *     write-back      holds the page shared, asks the gate, seals, writes, then drops the frame in
 *                     the compare-and-swap that lets go, when no reader has joined meanwhile
 *     unfix, clean    drops the frame: the map has the same bytes
 *
 * A frame that a reader kept from being dropped stays, clean, until the sweep or an exclusive fix
 * meets it again. The version rises whenever a frame is dropped, so an optimistic reader never
 * mixes the two images.
 *
 * Locks: flush_mutex, latches, resize_mutex, write_mutex, in this order. Nobody who holds
 * resize_mutex or write_mutex waits for a latch; nobody who waits for a latch in flush holds
 * another one, nor write_mutex. Hence a thread may come for a frame, or for another budget, with
 * pages latched.
 *
 * A flush goes through the frames while the budget changes. It meets every page that was dirty when
 * it began, or that page has been written since:
 *   - A dirty page keeps its frame until it is written (or discarded), and is written while the
 *     word still says dirty: what has left its frame before the flush came there is in the file.
 *   - frame_limit rises before the allocator gets the frames, and falls when it has lost all of
 *     them, which were empty then: no frame from frame_limit on is ever in use.
 *   - info and flush_list reach up to frame_max, so a limit that was read stays good to walk to.
 */
#include "mmap_engine.h"

#include <clockpool/arena.h>
#include <clockpool/base/assert.h>
#include <clockpool/base/bits.h>
#include <clockpool/base/error.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define PAUSE_NS           50000 /* about one device write */
#define SMALL_EXTENT_BYTES (UINT64_C(64) << 10)
#define SMALL_BUDGET_BYTES (UINT64_C(64) << 20) /* below it, extents are small */

enum claim { CLAIM_TAKEN, CLAIM_BUSY, CLAIM_NOTHING };

static void pause_briefly(void)
{
    const struct timespec pause = {0, PAUSE_NS};
    (void)nanosleep(&pause, NULL);
}

static uint32_t frame_order(const struct mmap_engine *engine)
{
    return engine->page_shift - CP_BUDDY_UNIT_SHIFT;
}

/* ---- frames -----------------------------------------------------------------------------------
 */

static bool try_frame(struct mmap_engine *engine, uint64_t page, uint32_t *out_frame)
{
    unsigned char *block = cp_buddy_alloc(engine->buddy, frame_order(engine));
    if (block == NULL)
        return false;
    uint32_t frame = (uint32_t)((uint64_t)(block - engine->frames) >> engine->page_shift);
    struct mmap_frame *info = &engine->info[frame];
    atomic_store_explicit(&info->lsn, 0, memory_order_relaxed);
    atomic_store_explicit(&info->page_plus_one, page + 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&engine->private_count, 1, memory_order_relaxed);
    *out_frame = frame;
    return true;
}

void cp_mmap__frame_put(struct mmap_engine *engine, uint32_t frame)
{
    atomic_store_explicit(&engine->info[frame].page_plus_one, 0, memory_order_relaxed);
    atomic_fetch_sub_explicit(&engine->private_count, 1, memory_order_relaxed);
    cp_buddy_free(engine->buddy, mmap_frame_at(engine, frame), frame_order(engine));
}

/* ---- a batch: claim, write, let go ------------------------------------------------------------
 */

/* Hold a page shared for writing back. free_only: leave pages alone that anybody else holds. */
static enum claim claim_page(struct mmap_engine *engine, uint64_t page, bool free_only,
                             struct mmap_entry *out_entry)
{
    uint64_t *word = &engine->words[page];
    uint64_t seen = cp_word_load(word);
    do { /* ends: a failure means that another thread's change succeeded */
        if (mmap_word_frame(seen) == 0)
            return CLAIM_NOTHING;
        unsigned latch = cp_word_latch(seen);
        if (latch >= CP_LATCH_SHARED_MAX || (free_only && latch != CP_LATCH_FREE))
            return CLAIM_BUSY;
    } while (!cp_word_cas(word, &seen, seen + 1));
    *out_entry = (struct mmap_entry){
        .page = page,
        .frame = mmap_word_frame(seen) - 1,
        .dirty = (seen & CP_WORD_DIRTY) != 0,
    };
    return CLAIM_TAKEN;
}

/* Let go of a claimed page that need not be written any more; drop its frame when nobody else has
 * joined. True when the frame is free. */
static bool release_clean(struct mmap_engine *engine, const struct mmap_entry *entry)
{
    uint64_t *word = &engine->words[entry->page];
    uint64_t seen = cp_word_load(word), desired;
    bool last;
    do { /* ends: a failure means that another thread's change succeeded */
        cp_debug_assert(cp_word_latch(seen) >= 1);
        cp_debug_assert(cp_word_latch(seen) <= CP_LATCH_SHARED_MAX);
        last = cp_word_latch(seen) == 1;
        desired = ((seen & ~CP_WORD_DIRTY) | MMAP_VERIFIED) - 1; /* the map has the image now */
        if (last)
            desired = cp_word_next_version(desired & ~MMAP_FRAME_MASK, MMAP_VERSION_ONE);
    } while (!cp_word_cas(word, &seen, desired));
    if ((seen & CP_WORD_WAITERS) != 0 && (last || cp_word_latch(seen) == CP_LATCH_SHARED_MAX))
        cp_latch_wake(word);
    if (last)
        cp_mmap__frame_put(engine, entry->frame);
    return last;
}

static int compare_entries(const void *a, const void *b)
{
    const struct mmap_entry *x = a, *y = b;
    return (x->page > y->page) - (x->page < y->page);
}

static void write_done(struct cp_io_request *request)
{
    struct mmap_write *write = request->user;
    /* release: pairs with the acquire in all_done; the result was stored before */
    atomic_fetch_sub_explicit(write->remaining, 1, memory_order_release);
}

static bool all_done(void *ctx)
{
    /* acquire: pairs with the release in write_done */
    return atomic_load_explicit((_Atomic uint32_t *)ctx, memory_order_acquire) == 0;
}

/* Log what must be logged before the batch's images replace those in the file. */
static int log_ahead(struct mmap_engine *engine, uint32_t count)
{
    int status = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct mmap_entry *entry = &engine->batch[i];
        if (!entry->dirty)
            continue;
        _Atomic uint64_t *kept = &engine->info[entry->frame].lsn;
        cp_lsn lsn = atomic_load_explicit(kept, memory_order_relaxed);
        int code = cp_pager__page_before_write(engine->format, mmap_frame_at(engine, entry->frame),
                                               entry->page, &lsn);
        if (code == 0) {
            atomic_store_explicit(kept, lsn, memory_order_relaxed);
        } else {
            status = code;
            entry->dirty = false; /* for this batch: the word keeps its mark */
            entry->failed = true;
        }
    }
    return status;
}

/* Have the log durable up to what the batch needs. */
static int ask_gate(struct mmap_engine *engine, uint32_t count)
{
    uint64_t needed = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (engine->batch[i].dirty)
            needed =
                cp_max_u64(needed, atomic_load_explicit(&engine->info[engine->batch[i].frame].lsn,
                                                        memory_order_relaxed));
    }
    if (!engine->has_gate || needed == 0)
        return 0;
    const struct cp_lsn_gate *gate = &engine->gate;
    if (gate->durable_lsn(gate->ctx) < needed && gate->make_durable(gate->ctx, needed) != 0)
        return cp_error_set(CP_EGATE, engine->format->path, CP_NO_PAGE, needed, NULL,
                            "make the log durable before pages are written");
    cp_assert(gate->durable_lsn(gate->ctx) >= needed);
    return 0;
}

/* One request for each run of neighbours among the dirty pages of the sorted batch. */
static uint32_t build_writes(struct mmap_engine *engine, uint32_t count,
                             _Atomic uint32_t *remaining)
{
    const uint32_t run_max = CP_IO_MAX_TRANSFER_BYTES >> engine->page_shift;
    uint32_t writes = 0;
    for (uint32_t i = 0; i < count;) {
        const struct mmap_entry *first = &engine->batch[i];
        if (!first->dirty) {
            i++;
            continue;
        }
        uint32_t run = 0;
        while (i + run < count && run < run_max && first[run].dirty &&
               first[run].page == first->page + run) {
            unsigned char *data = mmap_frame_at(engine, first[run].frame);
            uint64_t lsn =
                atomic_load_explicit(&engine->info[first[run].frame].lsn, memory_order_relaxed);
            cp_pager__page_seal(engine->format, data, first[run].page, lsn);
            engine->iov[i + run] = (struct iovec){data, engine->page_size};
            run++;
        }
        struct mmap_write *write = &engine->writes[writes++];
        write->remaining = remaining;
        write->first = i;
        write->count = run;
        write->request = (struct cp_io_request){
            .op = CP_IO_OP_WRITE,
            .file = engine->file,
            .offset_bytes = first->page << engine->page_shift,
            .iov = &engine->iov[i],
            .iov_count = run,
            .complete = write_done,
            .user = write,
        };
        i += run;
    }
    return writes;
}

/* Write the dirty pages of the batch. Sets failed in the entries that were not written. */
static int write_batch(struct mmap_engine *engine, uint32_t count)
{
    _Atomic uint32_t remaining = 0;
    qsort(engine->batch, count, sizeof engine->batch[0], compare_entries);
    int code = log_ahead(engine, count);
    int gate_code = ask_gate(engine, count);
    if (gate_code != 0) {
        for (uint32_t i = 0; i < count; i++)
            engine->batch[i].failed |= engine->batch[i].dirty;
        return gate_code;
    }
    uint32_t writes = build_writes(engine, count, &remaining);
    atomic_store_explicit(&remaining, writes, memory_order_relaxed);
    for (uint32_t i = 0; i < writes; i++)
        cp_io_ring_put(engine->ring, &engine->writes[i].request);
    if (writes > 0)
        cp_io_ring_wait(engine->ring, all_done, &remaining);
    for (uint32_t i = 0; i < writes; i++) {
        const struct mmap_write *write = &engine->writes[i];
        if (write->request.result == 0) {
            atomic_fetch_add_explicit(&engine->pages_written, write->count, memory_order_relaxed);
            atomic_fetch_add_explicit(&engine->writes_done, 1, memory_order_relaxed);
            continue;
        }
        atomic_fetch_add_explicit(&engine->write_errors, 1, memory_order_relaxed);
        for (uint32_t k = 0; k < write->count; k++)
            engine->batch[write->first + k].failed = true;
        if (code == 0)
            code = cp_error_set(write->request.result, engine->format->path,
                                engine->batch[write->first].page, CP_NO_LSN, NULL,
                                "write %u pages back; they stay in memory", write->count);
    }
    return code;
}

/* Write a claimed batch and let go of it. *out_freed frames are free now. write_mutex held. */
static int finish_batch(struct mmap_engine *engine, uint32_t count, uint32_t *out_freed)
{
    uint32_t freed = 0;
    int code = write_batch(engine, count);
    for (uint32_t i = 0; i < count; i++) {
        const struct mmap_entry *entry = &engine->batch[i];
        if (entry->failed) {
            cp_latch_release_shared(&engine->words[entry->page]);
            continue;
        }
        if (entry->dirty)
            atomic_fetch_sub_explicit(&engine->dirty_count, 1, memory_order_relaxed);
        freed += release_clean(engine, entry);
    }
    *out_freed = freed;
    return code;
}

/* ---- making room ------------------------------------------------------------------------------
 */

/* Claim up to max unfixed frames among [from, end), in the hand's order. write_mutex held. */
static uint32_t sweep(struct mmap_engine *engine, uint64_t from, uint64_t end, uint32_t max)
{
    uint32_t count = 0;
    uint64_t steps = end - from;
    if (engine->hand < from || engine->hand >= end)
        engine->hand = from;
    while (steps-- > 0 && count < max) {
        uint64_t page =
            atomic_load_explicit(&engine->info[engine->hand].page_plus_one, memory_order_relaxed);
        if (++engine->hand == end)
            engine->hand = from;
        /* The page may have got another frame meanwhile: that one does as well. */
        if (page != 0 && claim_page(engine, page - 1, true, &engine->batch[count]) == CLAIM_TAKEN)
            count++;
    }
    return count;
}

int cp_mmap__frame_get(struct mmap_engine *engine, uint64_t page, bool wait, uint32_t *out_frame)
{
    if (try_frame(engine, page, out_frame))
        return 0;
    const uint64_t deadline_ns = cp_now_ns() + CP_BUFPOOL_WAIT_LIMIT_MS * UINT64_C(1000000);
    atomic_fetch_add_explicit(&engine->frame_waits, 1, memory_order_relaxed);
    for (;;) { /* ends: a frame, an error, or the deadline */
        uint32_t freed = 0;
        int code = 0;
        pthread_mutex_lock(&engine->write_mutex);
        bool found = try_frame(engine, page, out_frame);
        if (!found) {
            uint64_t limit = atomic_load_explicit(&engine->frame_limit, memory_order_relaxed);
            uint32_t max = (uint32_t)cp_min_u64(MMAP_WRITE_BATCH, cp_max_u64(limit / 4, 1));
            uint32_t count = sweep(engine, 0, limit, max);
            if (count > 0)
                code = finish_batch(engine, count, &freed);
            found = try_frame(engine, page, out_frame);
        }
        pthread_mutex_unlock(&engine->write_mutex);
        if (found)
            return 0;
        if (code != 0 && freed == 0)
            return code;
        if (!wait || cp_now_ns() > deadline_ns)
            return cp_error_set(CP_ENOFRAMES, engine->format->path, page, CP_NO_LSN,
                                "fix fewer pages exclusively at a time, or raise budget_bytes",
                                "all private frames are in use by fixed pages");
        if (freed == 0)
            pause_briefly();
    }
}

/* ---- flush ------------------------------------------------------------------------------------
 */

static int compare_pages(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Every page that is dirty now, sorted, into flush_list. */
static uint64_t list_dirty(struct mmap_engine *engine)
{
    uint64_t count = 0;
    uint64_t limit = atomic_load_explicit(&engine->frame_limit, memory_order_relaxed);
    for (uint64_t frame = 0; frame < limit; frame++) {
        uint64_t page =
            atomic_load_explicit(&engine->info[frame].page_plus_one, memory_order_relaxed);
        if (page != 0 && (cp_word_load(&engine->words[page - 1]) & CP_WORD_DIRTY) != 0)
            engine->flush_list[count++] = page - 1;
    }
    qsort(engine->flush_list, count, sizeof engine->flush_list[0], compare_pages);
    uint64_t kept = 0; /* a page that changed frames meanwhile is there twice */
    for (uint64_t i = 0; i < count; i++) {
        if (i == 0 || engine->flush_list[i] != engine->flush_list[kept - 1])
            engine->flush_list[kept++] = engine->flush_list[i];
    }
    return kept;
}

/* Write count pages back; those that are busy are stored at busy_pages[(*inout_busy)++]. */
static int flush_some(struct mmap_engine *engine, const uint64_t *pages, uint32_t count,
                      uint64_t *busy_pages, uint64_t *inout_busy)
{
    uint32_t claimed = 0, freed;
    int code = 0;
    pthread_mutex_lock(&engine->write_mutex);
    for (uint32_t i = 0; i < count; i++) {
        enum claim claim = claim_page(engine, pages[i], false, &engine->batch[claimed]);
        claimed += claim == CLAIM_TAKEN;
        if (claim == CLAIM_BUSY)
            busy_pages[(*inout_busy)++] = pages[i];
    }
    if (claimed > 0)
        code = finish_batch(engine, claimed, &freed);
    pthread_mutex_unlock(&engine->write_mutex);
    return code;
}

/* A page that was held exclusively: wait for its holder, holding nothing, until it is written. */
static int flush_busy(struct mmap_engine *engine, uint64_t page)
{
    uint64_t *word = &engine->words[page];
    uint64_t busy = 1;
    int code = 0;
    while (code == 0 && busy != 0) { /* ends: holders let go */
        uint64_t seen = cp_word_load(word);
        if (cp_word_latch(seen) >= CP_LATCH_SHARED_MAX) {
            (void)!cp_latch_wait(word, seen, NULL, NULL, 0);
            continue;
        }
        uint64_t again;
        busy = 0;
        code = flush_some(engine, &page, 1, &again, &busy);
    }
    return code;
}

int cp_mmap__flush(struct mmap_engine *engine,
                   void (*pace)(void *ctx, uint64_t done, uint64_t total), void *ctx)
{
    pthread_mutex_lock(&engine->flush_mutex);
    uint64_t count = list_dirty(engine), busy = 0;
    int code = 0;
    for (uint64_t i = 0; code == 0 && i < count; i += MMAP_WRITE_BATCH) {
        uint64_t pages[MMAP_WRITE_BATCH]; /* the list's front is overwritten by busy pages */
        uint32_t part = (uint32_t)cp_min_u64(MMAP_WRITE_BATCH, count - i);
        memcpy(pages, &engine->flush_list[i], part * sizeof pages[0]);
        code = flush_some(engine, pages, part, engine->flush_list, &busy);
        if (pace != NULL && code == 0)
            pace(ctx, i + part, count);
    }
    for (uint64_t i = 0; code == 0 && i < busy; i++)
        code = flush_busy(engine, engine->flush_list[i]);
    pthread_mutex_unlock(&engine->flush_mutex);
    return code;
}

/* ---- dropping ---------------------------------------------------------------------------------
 */

static int discard_page(struct mmap_engine *engine, uint64_t page)
{
    uint64_t *word = &engine->words[page];
    uint64_t seen = cp_word_load(word), desired;
    const uint64_t state = MMAP_FRAME_MASK | MMAP_VERIFIED | CP_WORD_DIRTY;
    do {
        if (cp_word_latch(seen) != CP_LATCH_FREE)
            return cp_error_set(CP_EPINNED, engine->format->path, page, CP_NO_LSN,
                                "unfix the page first", "drop a page from the cache");
        if ((seen & state) == 0)
            return 0;
        desired = cp_word_next_version(seen & ~state, MMAP_VERSION_ONE);
    } while (!cp_word_cas(word, &seen, desired));
    if ((seen & CP_WORD_DIRTY) != 0)
        atomic_fetch_sub_explicit(&engine->dirty_count, 1, memory_order_relaxed);
    if (mmap_word_frame(seen) != 0)
        cp_mmap__frame_put(engine, mmap_word_frame(seen) - 1);
    return 0;
}

int cp_mmap__discard(struct mmap_engine *engine, uint64_t first, uint64_t count)
{
    int code = 0;
    /* Write-backs hold pages for a while under this mutex: whoever holds one now has it fixed. */
    pthread_mutex_lock(&engine->write_mutex);
    uint64_t end = cp_min_u64(first + count, engine->base.page_limit);
    for (uint64_t page = first; code == 0 && page < end; page++)
        code = discard_page(engine, page);
    pthread_mutex_unlock(&engine->write_mutex);
    return code;
}

/* ---- budget -----------------------------------------------------------------------------------
 */

static void set_limit(struct mmap_engine *engine, uint64_t bytes)
{
    /* relaxed: whoever has got a frame saw this before, through the allocator's locks */
    atomic_store_explicit(&engine->frame_limit, bytes >> engine->page_shift, memory_order_relaxed);
}

/* Extents that lie in so many bytes, the last of them perhaps in part: a budget ends at a frame,
 * and an extent may be a huge page. What is beyond the budget in the last one is not in use, but
 * keeps its memory after a shrink. */
static uint64_t extents_of(const struct mmap_engine *engine, uint64_t bytes)
{
    return cp_align_up(bytes, engine->extent_bytes) / engine->extent_bytes;
}

/* write_mutex held, or nobody there yet. */
static int grow_frames(struct mmap_engine *engine, uint64_t from_bytes, uint64_t to_bytes)
{
    uint64_t first = extents_of(engine, from_bytes), end = extents_of(engine, to_bytes);
    int code = cp_arena_commit(engine->arena, first, end - first);
    if (code != 0)
        return code;
    set_limit(engine, to_bytes); /* first: a flush must meet whatever gets one of the frames */
    int added = cp_buddy_add(engine->buddy, from_bytes, to_bytes - from_bytes);
    cp_assert(added == 0); /* within the range, and not there yet */
    return 0;
}

/* Empty a batch of frames and take them from the allocator. -EBUSY: not all of them yet.
 * write_mutex held. */
static int remove_frames(struct mmap_engine *engine, uint64_t from_bytes, uint64_t to_bytes)
{
    uint32_t freed, count = sweep(engine, from_bytes >> engine->page_shift,
                                  to_bytes >> engine->page_shift, MMAP_WRITE_BATCH);
    int code = count > 0 ? finish_batch(engine, count, &freed) : 0;
    if (code == 0)
        code = cp_buddy_remove(engine->buddy, from_bytes, to_bytes - from_bytes);
    return code;
}

/* The allocator gets back what it had, after a shrink that failed. write_mutex held. */
static void restore_frames(struct mmap_engine *engine, uint64_t from_bytes, uint64_t to_bytes)
{
    if (from_bytes == to_bytes)
        return;
    int added = cp_buddy_add(engine->buddy, from_bytes, to_bytes - from_bytes);
    cp_assert(added == 0); /* it was there */
}

/* From the top, a batch at a time: what is gone stays gone, so others who change pages meanwhile
 * cannot undo it, and those whom a whole range would leave without a frame find one. */
static int shrink_frames(struct mmap_engine *engine, uint64_t from_bytes, uint64_t to_bytes)
{
    const uint64_t wait_ns = CP_BUFPOOL_WAIT_LIMIT_MS * UINT64_C(1000000);
    const uint64_t first = extents_of(engine, from_bytes);
    uint64_t deadline_ns = cp_now_ns() + wait_ns, end = to_bytes;
    int code = 0;
    while (code == 0 && end > from_bytes) { /* ends: each batch does, or at its deadline */
        const uint64_t batch_bytes = (uint64_t)MMAP_WRITE_BATCH << engine->page_shift;
        uint64_t start = end - cp_min_u64(batch_bytes, end - from_bytes);
        pthread_mutex_lock(&engine->write_mutex);
        code = remove_frames(engine, start, end);
        pthread_mutex_unlock(&engine->write_mutex);
        if (code == 0) {
            end = start;
            deadline_ns = cp_now_ns() + wait_ns;
        } else if (code == -EBUSY && cp_now_ns() < deadline_ns) {
            code = 0;
            pause_briefly();
        }
    }
    pthread_mutex_lock(&engine->write_mutex); /* so that nobody misses what may come back */
    if (code == 0)
        code = cp_arena_decommit(engine->arena, first, extents_of(engine, to_bytes) - first);
    if (code == 0)
        set_limit(engine, from_bytes);
    else
        restore_frames(engine, end, to_bytes);
    pthread_mutex_unlock(&engine->write_mutex);
    if (code == -EBUSY)
        return cp_error_set(CP_EPINNED, engine->format->path, CP_NO_PAGE, CP_NO_LSN,
                            "unfix pages first", "shrink the budget to %llu bytes",
                            (unsigned long long)from_bytes);
    return code;
}

int cp_mmap__resize(struct mmap_engine *engine, uint64_t budget_bytes)
{
    const uint64_t max_bytes = engine->max_budget_bytes;
    if (budget_bytes < CP_BUFPOOL_BUDGET_MIN || budget_bytes > max_bytes)
        return cp_error_set(CP_EBUDGET, engine->format->path, CP_NO_PAGE, CP_NO_LSN,
                            "the largest budget is set at opening (max_budget_bytes)",
                            "resize to %llu bytes, which is not within %llu and %llu",
                            (unsigned long long)budget_bytes,
                            (unsigned long long)CP_BUFPOOL_BUDGET_MIN,
                            (unsigned long long)max_bytes);
    pthread_mutex_lock(&engine->resize_mutex);
    uint64_t now = atomic_load_explicit(&engine->frame_limit, memory_order_relaxed)
                   << engine->page_shift;
    uint64_t wanted = cp_align_down(budget_bytes, engine->page_size);
    int code = 0;
    if (wanted > now) {
        pthread_mutex_lock(&engine->write_mutex);
        code = grow_frames(engine, now, wanted);
        pthread_mutex_unlock(&engine->write_mutex);
    } else if (wanted < now) {
        code = shrink_frames(engine, wanted, now);
    }
    if (code == 0)
        atomic_store_explicit(&engine->budget_bytes, budget_bytes, memory_order_relaxed);
    pthread_mutex_unlock(&engine->resize_mutex);
    return code;
}

/* ---- life -------------------------------------------------------------------------------------
 */

int cp_mmap__frames_init(struct mmap_engine *engine, const struct cp_engine_setup *setup)
{
    const struct cp_pager_options *options = setup->options;
    const uint64_t frames_limit_bytes = MMAP_FRAMES_MAX << engine->page_shift;
    if (options->budget_bytes > frames_limit_bytes) /* cp_pager_open looks at the least */
        return cp_error_set(CP_EBUDGET, engine->format->path, CP_NO_PAGE, CP_NO_LSN,
                            "budget_bytes must be at most 16,777,214 pages (2^24 - 2)",
                            "open the mmap engine with a budget of %llu bytes",
                            (unsigned long long)options->budget_bytes);
    engine->extent_bytes =
        options->budget_bytes < SMALL_BUDGET_BYTES ? SMALL_EXTENT_BYTES : CP_ARENA_HUGE_BYTES;
    engine->max_budget_bytes = cp_max_u64(
        options->budget_bytes, cp_min_u64(options->max_budget_bytes, frames_limit_bytes));
    const uint64_t max_bytes = cp_align_down(engine->max_budget_bytes, engine->page_size);
    const uint64_t start_bytes = cp_align_down(options->budget_bytes, engine->page_size);
    engine->frame_max = max_bytes >> engine->page_shift;
    atomic_init(&engine->budget_bytes, options->budget_bytes);
    engine->info = cp_arena_reserve_table(engine->frame_max * sizeof *engine->info);
    engine->flush_list = cp_arena_reserve_table(engine->frame_max * sizeof *engine->flush_list);
    if (engine->info == NULL || engine->flush_list == NULL)
        return cp_error_set(-ENOMEM, engine->format->path, CP_NO_PAGE, CP_NO_LSN, NULL,
                            "open the mmap engine");
    const struct cp_arena_options arena_options = {
        .reserve_bytes = max_bytes,
        .extent_bytes = engine->extent_bytes,
        .huge_pages = options->huge_pages,
    };
    int code = cp_arena_create(&arena_options, &engine->arena);
    if (code != 0)
        return code;
    engine->frames = cp_arena_base(engine->arena);
    const struct cp_buddy_options buddy_options = {
        .base = engine->frames,
        .size_bytes = max_bytes,
        .max_order = cp_log2_floor(engine->extent_bytes / CP_BUDDY_UNIT_BYTES),
        .cached_order = frame_order(engine),
        .cache_blocks = 8,
    };
    code = cp_buddy_create(&buddy_options, &engine->buddy);
    if (code == 0)
        code = grow_frames(engine, 0, start_bytes);
    const struct cp_io_ring_options ring_options = {.depth = MMAP_WRITE_BATCH};
    if (code == 0)
        code = cp_io_ring_create(setup->io, &ring_options, &engine->ring);
    return code;
}

void cp_mmap__frames_fini(struct mmap_engine *engine)
{
    cp_io_ring_destroy(engine->ring);
    cp_buddy_destroy(engine->buddy);
    cp_arena_destroy(engine->arena);
    if (engine->flush_list != NULL)
        munmap(engine->flush_list, engine->frame_max * sizeof *engine->flush_list);
    if (engine->info != NULL)
        munmap(engine->info, engine->frame_max * sizeof *engine->info);
}
