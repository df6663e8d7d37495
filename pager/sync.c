/* SPDX-License-Identifier: MIT */
/*
 * Making changes durable, in an order in which no step relies on a later one:
 *
 *     1. note page_count: all that it covers is in the cache or on its way
 *     2. flush the engine's dirty pages, space map included
 *     3. sync the data file
 *     4. write the other superblock with the page count of step 1, and sync again
 *     5. when pages at the end were given up: cut the file, which now nobody claims
 *
 * A failure before step 3 leaves everything dirty in memory, and sync can be called again. A failed
 * sync is for ever (store.c). Allocation and page writes go on meanwhile; what they change after
 * step 1 belongs to the next sync.
 */
#include "internal.h"

#include <clockpool/base/assert.h>
#include <clockpool/base/bits.h>
#include <clockpool/base/error.h>

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

/* sync_mutex held. */
static int sync_locked(struct cp_pager *pager, uint32_t flags)
{
    int code = trim(pager);
    if (code != 0)
        return code;
    const uint64_t page_count = cp_pager__page_count(pager);
    code = pager->engine->ops->flush(pager->engine);
    if (code != 0)
        return code;
    pthread_mutex_lock(&pager->superblock_mutex);
    code = cp_pager__file_sync(pager);
    if (code == 0)
        code = cp_pager__superblock_write(pager, flags, page_count);
    pthread_mutex_unlock(&pager->superblock_mutex);
    if (code == 0)
        atomic_fetch_add_explicit(&pager->sync_count, 1, memory_order_relaxed);
    return code;
}

static bool written_to(const struct cp_pager *pager)
{
    /* acquire: pairs with the release in write_unclean */
    return atomic_load_explicit(&pager->unclean_written, memory_order_acquire);
}

int cp_pager_sync(struct cp_pager *pager)
{
    int code = cp_pager__check_process(pager);
    if (code != 0 || !written_to(pager))
        return code;
    pthread_mutex_lock(&pager->sync_mutex);
    code = cp_pager__begin_write(pager); /* after the wait: another sync may have failed */
    if (code == 0)
        code = sync_locked(pager, CP_FORMAT_FLAG_UNCLEAN);
    if (code == 0)
        code = cut_file(pager, true);
    pthread_mutex_unlock(&pager->sync_mutex);
    return code;
}

int cp_pager__finish(struct cp_pager *pager)
{
    if (!written_to(pager))
        return 0;
    int code = cp_pager__begin_write(pager);
    if (code == 0)
        code = sync_locked(pager, 0);
    if (code == 0)
        code = cut_file(pager, false);
    return code;
}
