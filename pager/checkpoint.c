/* SPDX-License-Identifier: MIT */
/*
 * Checkpoints: from when on the log is needed. Fuzzy, that is beside all other work:
 *
 *     1. choose the redo point, the log's end (images.c: from now on pages written over get a base
 *        behind it), and note page_count
 *     2. make the log durable up to it
 *     3. flush the engine's dirty pages, space map included
 *     4. make the log durable again: what was freed since was dropped and not written
 *     5. sync the data file
 *     6. write the other superblock with the redo point and the page count, and sync again
 *     7. give back the log before the redo point; when pages at the end were given up, cut the
 *        file, which now nobody claims
 *
 * Why step 3 meets every change before the redo point: who logs a change marks its page dirty
 * first, under the exclusive latch, and keeps the latch until the change is logged. So a record
 * before the redo point belongs to a page that was dirty when the flush began, and whose latch the
 * flush waits for. A write that was under way keeps the mark until it is complete.
 *
 * A failure before step 5 leaves everything dirty in memory, and another checkpoint can be tried. A
 * failed sync is for ever (store.c). A sync is a checkpoint after the map was trimmed.
 */
#include "internal.h"
#include "rules.h"

#include <clockpool/base/probe.h>

#include <errno.h>

static int trim(struct cp_pager *pager)
{
    pthread_mutex_lock(&pager->alloc_mutex);
    int code = cp_pager__map_trim(pager);
    pthread_mutex_unlock(&pager->alloc_mutex);
    return code;
}

/*
 * Cut the file behind page_count, which the durable superblock does not exceed: allocations since
 * only raise it. slack: leave what was allocated ahead, unless pages were given up.
 */
static int cut_file(struct cp_pager *pager, bool slack)
{
    int code = 0;
    pthread_mutex_lock(&pager->alloc_mutex);
    uint64_t end = cp_pager__page_count(pager) * pager->page_size;
    if (end < pager->file_bytes && (pager->trimmed || !slack)) {
        code = pager->engine->ops->shrink(pager->engine, end);
        if (code == 0)
            code = cp_io_file_resize(pager->file, end);
        if (code == 0) {
            pager->file_bytes = end;
            pager->trimmed = false;
        } else if (pager->engine->ops->grow(pager->engine, pager->file_bytes) != 0) {
            /* The file is as long as before and not all of it is reachable: its end is unused. */
            pager->file_bytes = end;
        }
    }
    pthread_mutex_unlock(&pager->alloc_mutex);
    return code;
}

static int sync_and_publish(struct cp_pager *pager, uint32_t flags, uint64_t page_count,
                            cp_lsn redo)
{
    int code = 0;
    pthread_mutex_lock(&pager->superblock_mutex);
    if (!CP_BREAK_CHECKPOINT_ORDER)
        code = cp_pager__file_sync(pager);
    if (code == 0)
        code = cp_pager__superblock_write(pager, flags, page_count, redo);
    pthread_mutex_unlock(&pager->superblock_mutex);
    return code;
}

void cp_pager__log_trim(struct cp_pager *pager)
{
    if (CP_BREAK_BACKUP_HOLD || !cp_pager__backup_held(pager))
        cp_wal_trim(pager->wal, atomic_load_explicit(&pager->redo_lsn, memory_order_relaxed));
}

/* Step 3. */
static int flush(struct cp_pager *pager, bool paced)
{
    struct cp_pace pace;
    if (!paced)
        return pager->engine->ops->flush(pager->engine, NULL, NULL);
    cp_pager__pace_begin(pager, &pace);
    return pager->engine->ops->flush(pager->engine, cp_pager__pace, &pace);
}

/* Steps 1 to 6, and the log's part of 7. sync_mutex held. */
static int write_checkpoint(struct cp_pager *pager, uint32_t flags, bool paced)
{
    const uint64_t begun_ns = cp_now_ns();
    cp_lsn redo = cp_images__choose_redo(&pager->images);
    const uint64_t page_count = cp_pager__page_count(pager);

    CP_PROBE2(checkpoint_start, pager->data_path, redo);
    int code = cp_pager__log_flush(pager, redo);
    if (code == 0)
        code = flush(pager, paced);
    if (code == 0) {
        /* Pages freed meanwhile were dropped and not written, though they had changes from before
         * the redo point: their freeing must be durable before that counts. And the last checkpoint
         * of a session needs nothing of the log any more, the images that its flush has logged
         * included: the next session begins behind them, or its LSNs would be below those in pages.
         */
        const cp_lsn end = cp_wal_end(pager->wal);
        if ((flags & CP_FORMAT_FLAG_UNCLEAN) == 0)
            redo = end;
        code = cp_pager__log_flush(pager, end);
    }
    if (code == 0)
        code = sync_and_publish(pager, flags, page_count, redo);
    CP_PROBE3(checkpoint_done, pager->data_path, redo, code);
    if (code != 0) {
        atomic_fetch_add_explicit(&pager->checkpoint_errors, 1, memory_order_relaxed);
        return code;
    }
    const uint64_t now_ns = cp_now_ns();
    atomic_store_explicit(&pager->redo_lsn, redo, memory_order_relaxed);
    atomic_store_explicit(&pager->checkpoint_ns, now_ns, memory_order_relaxed);
    atomic_store_explicit(&pager->checkpoint_last_us, (now_ns - begun_ns) / 1000,
                          memory_order_relaxed);
    atomic_fetch_add_explicit(&pager->checkpoint_count, 1, memory_order_relaxed);
    cp_pager__log_trim(pager);
    return 0;
}

static bool written_to(const struct cp_pager *pager)
{
    /* acquire: pairs with the release in write_unclean */
    return atomic_load_explicit(&pager->unclean_written, memory_order_acquire);
}

/* sync_mutex held; after the wait for it another checkpoint may have failed. */
static int checkpoint_locked(struct cp_pager *pager, bool paced)
{
    int code = cp_pager__begin_write(pager);
    return code != 0 ? code : write_checkpoint(pager, CP_FORMAT_FLAG_UNCLEAN, paced);
}

int cp_pager_sync(struct cp_pager *pager)
{
    int code = cp_pager__check_process(pager);
    if (code != 0 || !written_to(pager))
        return code;
    cp_pager__lock_sync(pager);
    code = cp_pager__begin_write(pager);
    if (code == 0)
        code = trim(pager);
    if (code == 0)
        code = write_checkpoint(pager, CP_FORMAT_FLAG_UNCLEAN, false);
    if (code == 0)
        code = cut_file(pager, true);
    if (code == 0)
        atomic_fetch_add_explicit(&pager->sync_count, 1, memory_order_relaxed);
    pthread_mutex_unlock(&pager->sync_mutex);
    return code;
}

int cp_pager_checkpoint(struct cp_pager *pager)
{
    int code = cp_pager__check_process(pager);
    if (code != 0 || !written_to(pager))
        return code;
    cp_pager__lock_sync(pager);
    code = checkpoint_locked(pager, false);
    pthread_mutex_unlock(&pager->sync_mutex);
    return code;
}

int cp_pager__try_checkpoint(struct cp_pager *pager, bool paced)
{
    if (pthread_mutex_trylock(&pager->sync_mutex) != 0)
        return -EBUSY;
    int code = checkpoint_locked(pager, paced);
    pthread_mutex_unlock(&pager->sync_mutex);
    return code;
}

uint64_t cp_pager__log_since_checkpoint(const struct cp_pager *pager)
{
    cp_lsn redo = atomic_load_explicit(&pager->redo_lsn, memory_order_relaxed);
    cp_lsn end = cp_wal_end(pager->wal);
    return end > redo ? end - redo : 0;
}

uint64_t cp_pager__log_debt(const struct cp_pager *pager)
{
    uint64_t bytes = cp_pager__log_since_checkpoint(pager);
    if (pager->images.needed)
        bytes += pager->engine->ops->dirty_pages(pager->engine) * pager->page_size;
    return bytes;
}

int cp_pager__finish(struct cp_pager *pager)
{
    if (!written_to(pager))
        return 0;
    int code = cp_pager__begin_write(pager);
    if (code == 0)
        code = trim(pager);
    if (code == 0)
        code = write_checkpoint(pager, 0, false);
    if (code == 0)
        code = cut_file(pager, false);
    return code;
}
