/* SPDX-License-Identifier: MIT */
/*
 * The pager's front: checks page numbers and hands on to the engine. Where the bytes are is the
 * engine's business, which pages are allocated spacemap.c's, what is durable checkpoint.c's.
 */
#include "inspect.h"
#include "internal.h"
#include "records.h"

#include <clockpool/base/bits.h>
#include <clockpool/base/error.h>

#include <errno.h>
#include <stdio.h>

/* What the log has room for before a page is zeroed, whose record takes some 20 bytes: other
 * threads append between the two. */
#define INIT_ROOM_BYTES 65536u

/* ---- numbers ----------------------------------------------------------------------------------
 */

uint32_t cp_pager_page_size(const struct cp_pager *pager)
{
    return pager->page_size;
}

uint32_t cp_pager_payload_size(const struct cp_pager *pager)
{
    return pager->payload_size;
}

uint64_t cp_pager_page_count(const struct cp_pager *pager)
{
    return cp_pager__page_count(pager);
}

uint64_t cp_pager_first_page(const struct cp_pager *pager)
{
    return pager->first_map_page + 1;
}

int cp_pager__no_page(const struct cp_pager *pager, uint64_t page)
{
    const uint64_t page_count = cp_pager__page_count(pager);
    if (page >= page_count)
        return cp_error_set(CP_ENOPAGE, pager->data_path, page, CP_NO_LSN,
                            "allocate pages before using them", "the store ends before page %llu",
                            (unsigned long long)page_count);
    return cp_error_set(CP_ENOPAGE, pager->data_path, page, CP_NO_LSN,
                        "use page numbers that an allocation returned",
                        "the page belongs to the store itself");
}

int cp_pager__check_process(const struct cp_pager *pager)
{
    if (cp_fork_guard_same(&pager->fork_guard))
        return 0;
    return cp_error_set(CP_EFORKED, pager->data_path, CP_NO_PAGE, CP_NO_LSN,
                        "open the store again in the child", "use the store");
}

/*
 * The log of a store that was closed has not been looked at. What this session commits is recovered
 * from where it ends: were that not there, commits would be durable and lost all the same. Before
 * the superblock says unclean: the store stays closed, and its pages can be read.
 */
static int check_log_end(struct cp_pager *pager)
{
    const struct cp_superblock *block = &pager->superblock;
    /* The old version had epochs up to the generation, see cp_pager__next_epoch. */
    const uint64_t epoch =
        block->version == CP_FORMAT_VERSION_OLD ? block->generation : block->epoch;
    int code = cp_wal_check_end(pager->wal, block->checkpoint_lsn,
                                (uint32_t)cp_min_u64(epoch, UINT32_MAX));
    if (code == CP_EDAMAGED || code == CP_ELOG) {
        struct cp_error error = *cp_error_info();
        snprintf(error.hint, sizeof error.hint,
                 "restore data and log from one backup, or copy the pages, which can be read, "
                 "into a new store");
        cp_error_restore(&error);
    }
    return cp_pager__bad_checkpoint(pager->directory, code, block->checkpoint_lsn);
}

/* The superblock's epoch is durable, and no session before had it. A log that did not start does
 * not start later either. superblock_mutex held. */
static int start_log(struct cp_pager *pager)
{
    int code = cp_wal_start(pager->wal, pager->superblock.checkpoint_lsn,
                            (uint32_t)pager->superblock.epoch);
    if (code != 0)
        atomic_store_explicit(&pager->failed, true, memory_order_relaxed);
    else
        cp_pager__log_trim(pager); /* to the log, all that the last session left is in use */
    return code;
}

/* The first change since opening: the superblock says unclean before any page can reach the disk.
 */
static int write_unclean(struct cp_pager *pager)
{
    int code = 0;
    pthread_mutex_lock(&pager->superblock_mutex);
    if (!atomic_load_explicit(&pager->unclean_written, memory_order_relaxed)) {
        code = check_log_end(pager);
        if (code == 0)
            code = cp_pager__superblock_begin(pager);
        if (code == 0)
            code = start_log(pager);
        if (code == 0) /* release: pairs with the acquire in begin_write */
            atomic_store_explicit(&pager->unclean_written, true, memory_order_release);
    }
    pthread_mutex_unlock(&pager->superblock_mutex);
    if (code == 0)
        cp_pager__background_start(pager);
    return code;
}

int cp_pager__begin_write(struct cp_pager *pager)
{
    if (__builtin_expect(atomic_load_explicit(&pager->failed, memory_order_relaxed), 0))
        return cp_error_set(
            CP_EFAILED, pager->data_path, CP_NO_PAGE, CP_NO_LSN,
            "close the store, check the device, open it again",
            "the log could not be started, or an earlier write or sync of it, or sync of the data "
            "file, failed");
    /* acquire: pairs with the release in write_unclean */
    if (__builtin_expect(atomic_load_explicit(&pager->unclean_written, memory_order_acquire), 1))
        return cp_pager__check_process(pager);
    if (pager->read_only)
        return cp_error_set(CP_EREADONLY, pager->data_path, CP_NO_PAGE, CP_NO_LSN,
                            "open it without options.read_only", "change the store");
    int code = cp_pager__check_process(pager);
    return code != 0 ? code : write_unclean(pager);
}

/* The log never works again in this session, so neither does the store. */
static void note_log_failure(struct cp_pager *pager)
{
    struct cp_wal_stats stats;
    cp_wal_stats(pager->wal, &stats);
    if (stats.failed)
        atomic_store_explicit(&pager->failed, true, memory_order_relaxed);
}

int cp_pager__log(struct cp_pager *pager, const struct cp_wal_record *records, uint32_t count,
                  cp_lsn *out_end)
{
    int code = cp_wal_append(pager->wal, records, count, out_end);
    if (__builtin_expect(code != 0, 0))
        note_log_failure(pager);
    return code;
}

int cp_pager__log_flush(struct cp_pager *pager, cp_lsn upto)
{
    int code = cp_wal_flush(pager->wal, upto);
    if (__builtin_expect(code != 0, 0))
        note_log_failure(pager);
    return code;
}

/* ---- allocation -------------------------------------------------------------------------------
 */

/*
 * Commit what is reserved as a group of its own, with an INIT record if wanted: the page is latched
 * and dirty then. After an error it is still reserved. alloc_mutex held.
 */
static int log_allocation(struct cp_pager *pager, uint64_t first, uint64_t count, bool init,
                          cp_lsn *out_lsn)
{
    struct cp_wal_record records[2];
    struct cp_map_fix fix;
    uint32_t fix_count, record_count;
    const struct cp_map_op op = {.first = first, .count = (uint32_t)count, .set = true};
    *out_lsn = 0;
    int code = cp_pager__map_apply(pager, &op, 1, &fix, &fix_count, records, &record_count);
    if (code != 0)
        return code;
    if (init)
        records[record_count++] = (struct cp_wal_record){.type = CP_RECORD_INIT, .page = first};
    code = cp_pager__log(pager, records, record_count, out_lsn);
    cp_pager__map_finish(pager, &op, 1, &fix, fix_count, code == 0 ? *out_lsn : 0);
    return code;
}

/* alloc_mutex held. */
static int free_logged(struct cp_pager *pager, const struct cp_map_op *op)
{
    struct cp_wal_record record;
    struct cp_map_fix fix;
    uint32_t fix_count, record_count;
    cp_lsn lsn = 0;
    int code = cp_pager__map_apply(pager, op, 1, &fix, &fix_count, &record, &record_count);
    if (code != 0)
        return code;
    code = cp_pager__log(pager, &record, record_count, &lsn);
    cp_pager__map_finish(pager, op, 1, &fix, fix_count, code == 0 ? lsn : 0);
    return code;
}

int cp_pager__reserve_page(struct cp_pager *pager, uint64_t *out_page)
{
    pthread_mutex_lock(&pager->alloc_mutex);
    int code = cp_pager__map_reserve(pager, 1, out_page);
    pthread_mutex_unlock(&pager->alloc_mutex);
    return code;
}

void cp_pager__unreserve_page(struct cp_pager *pager, uint64_t page)
{
    pthread_mutex_lock(&pager->alloc_mutex);
    cp_pager__map_unreserve(pager, page, 1);
    pthread_mutex_unlock(&pager->alloc_mutex);
}

int cp_pager__fix_new(struct cp_pager *pager, uint64_t page, struct cp_fix *out_fix)
{
    return pager->engine->ops->fix_new(pager->engine, page, cp_wal_end(pager->wal), out_fix);
}

int cp_pager_allocate(struct cp_pager *pager, struct cp_fix *out_fix)
{
    uint64_t page = 0;
    cp_lsn lsn = 0;
    int code = cp_pager__begin_write(pager);
    if (code == 0)
        code = cp_pager__reserve_page(pager, &page);
    if (code != 0)
        return code;
    /* Outside the mutex: this may wait for a frame, and for somebody who still holds the page. */
    code = cp_pager__fix_new(pager, page, out_fix);
    if (code != 0) {
        cp_pager__unreserve_page(pager, page);
        return code;
    }
    pthread_mutex_lock(&pager->alloc_mutex);
    code = log_allocation(pager, page, 1, true, &lsn);
    pthread_mutex_unlock(&pager->alloc_mutex);
    if (code != 0) {
        const struct cp_error saved = *cp_error_info();
        pager->engine->ops->unfix(pager->engine, out_fix);
        (void)pager->engine->ops->discard(pager->engine, page, 1);
        cp_pager__unreserve_page(pager, page);
        return cp_error_restore(&saved);
    }
    cp_pager__page_set_base_lsn(&pager->format, out_fix->data, lsn);
    pager->engine->ops->mark_dirty(pager->engine, out_fix, lsn);
    cp_pager__background_notice(pager, true);
    return 0;
}

int cp_pager_allocate_run(struct cp_pager *pager, uint64_t count, uint64_t *out_first)
{
    uint64_t first = 0;
    cp_lsn lsn;
    int code = cp_pager__begin_write(pager);
    if (code != 0)
        return code;
    pthread_mutex_lock(&pager->alloc_mutex);
    code = cp_pager__map_reserve(pager, count, &first);
    if (code == 0) {
        code = log_allocation(pager, first, count, false, &lsn);
        if (code != 0)
            cp_pager__map_unreserve(pager, first, count);
    }
    pthread_mutex_unlock(&pager->alloc_mutex);
    if (code != 0)
        return code;
    *out_first = first;
    cp_pager__background_notice(pager, true);
    return 0;
}

/* alloc_mutex held. */
static int free_locked(struct cp_pager *pager, uint64_t first, uint64_t count)
{
    const struct cp_engine_ops *ops = pager->engine->ops;
    const struct cp_map_op op = {.first = first, .count = (uint32_t)count, .set = false};
    int code = cp_pager__map_doom(pager, first, count);
    if (code != 0)
        return code;
    for (uint64_t page = first; code == 0 && page < first + count; page++) {
        if (ops->page_pinned(pager->engine, page))
            code = cp_error_set(CP_EPINNED, pager->data_path, page, CP_NO_LSN,
                                "unfix the page first; cp_pager_list_pins tells who holds it",
                                "free a page");
    }
    if (code == 0)
        code = free_logged(pager, &op);
    if (code != 0) {
        cp_pager__map_spare(pager, first, count);
        return code;
    }
    /* Their bytes matter no more. A page that a write-back holds just now stays in the cache; the
     * next allocation of its number starts with zeros anyway. */
    for (uint64_t page = first; page < first + count; page++)
        (void)ops->discard(pager->engine, page, 1);
    return 0;
}

int cp_pager_free(struct cp_pager *pager, uint64_t first, uint64_t count)
{
    if (count == 0)
        return cp_error_set(-EINVAL, pager->data_path, first, CP_NO_LSN, "free at least one page",
                            "free no pages");
    int code = cp_pager__begin_write(pager);
    if (code != 0)
        return code;
    pthread_mutex_lock(&pager->alloc_mutex);
    code = free_locked(pager, first, count);
    pthread_mutex_unlock(&pager->alloc_mutex);
    if (code == 0)
        cp_pager__background_notice(pager, true);
    return code;
}

int cp_pager_is_allocated(struct cp_pager *pager, uint64_t page)
{
    int code = cp_pager__check_process(pager);
    if (code != 0)
        return code;
    pthread_mutex_lock(&pager->alloc_mutex);
    code = cp_pager__map_test(pager, page, 1);
    pthread_mutex_unlock(&pager->alloc_mutex);
    return code;
}

/* ---- pages ------------------------------------------------------------------------------------
 */

int cp_pager_fix(struct cp_pager *pager, uint64_t page, enum cp_latch_mode mode,
                 struct cp_fix *out_fix)
{
    if (__builtin_expect(!cp_pager__page_valid(pager, page), 0))
        return cp_pager__no_page(pager, page);
    /* What a call through the table costs shows here: its loads come before the latch. */
    if (pager->pool_file != NULL)
        return cp_bufpool_fix(pager->pool_file, page, mode, out_fix);
    return pager->engine->ops->fix(pager->engine, page, mode, out_fix);
}

int cp_pager_fix_new(struct cp_pager *pager, uint64_t page, struct cp_fix *out_fix)
{
    if (!cp_pager__page_valid(pager, page))
        return cp_pager__no_page(pager, page);
    int code = cp_pager__begin_write(pager);
    if (code == 0) /* before what the page holds is gone */
        code = cp_wal_reserve(pager->wal, INIT_ROOM_BYTES);
    if (code == 0)
        code = cp_pager__fix_new(pager, page, out_fix);
    if (code != 0)
        return code;
    const struct cp_wal_record record = {.type = CP_RECORD_INIT, .page = page};
    cp_lsn lsn;
    code = cp_pager__log(pager, &record, 1, &lsn);
    if (code != 0) { /* the log has failed, and with it the store: the zeros are never written */
        pager->engine->ops->unfix(pager->engine, out_fix);
        return code;
    }
    cp_pager__page_set_base_lsn(&pager->format, out_fix->data, lsn);
    pager->engine->ops->mark_dirty(pager->engine, out_fix, lsn);
    return 0;
}

void cp_pager_unfix(struct cp_pager *pager, struct cp_fix *fix)
{
    if (pager->pool_file != NULL)
        cp_bufpool_unfix(fix);
    else
        pager->engine->ops->unfix(pager->engine, fix);
}

int cp_pager_mark_dirty(struct cp_pager *pager, struct cp_fix *fix)
{
    int code = cp_pager__begin_write(pager);
    if (__builtin_expect(code != 0, 0))
        return code;
    /* Everything logged about this page lies before the log's end: so a recovery that finds the
     * page on disk with this LSN repeats none of it. */
    pager->engine->ops->mark_dirty(pager->engine, fix, cp_wal_end(pager->wal));
    return 0;
}

int cp_pager_read(struct cp_pager *pager, uint64_t page, uint32_t offset_bytes, void *buffer,
                  uint32_t size_bytes)
{
    if (__builtin_expect(!cp_pager__page_valid(pager, page), 0))
        return cp_pager__no_page(pager, page);
    if (__builtin_expect(offset_bytes > pager->payload_size ||
                             size_bytes > pager->payload_size - offset_bytes,
                         0))
        return cp_error_set(-EINVAL, pager->data_path, page, CP_NO_LSN,
                            "stay within cp_pager_payload_size()",
                            "read %u bytes at offset %u of a page", size_bytes, offset_bytes);
    return pager->engine->ops->read(pager->engine, page, offset_bytes, buffer, size_bytes);
}

static int check_many(const struct cp_pager *pager, const uint64_t *pages, uint32_t count)
{
    if (count > CP_BUFPOOL_FIX_MANY_MAX)
        return cp_error_set(-EINVAL, pager->data_path, CP_NO_PAGE, CP_NO_LSN,
                            "ask for at most 1024 pages in one call", "fix %u pages", count);
    for (uint32_t i = 0; i < count; i++) {
        if (!cp_pager__page_valid(pager, pages[i]))
            return cp_pager__no_page(pager, pages[i]);
    }
    return 0;
}

int cp_pager_fix_many(struct cp_pager *pager, const uint64_t *pages, uint32_t count,
                      enum cp_latch_mode mode, struct cp_fix *out_fixes)
{
    int code = check_many(pager, pages, count);
    if (code != 0 || count == 0)
        return code;
    return pager->engine->ops->fix_many(pager->engine, pages, count, mode, out_fixes);
}

void cp_pager_unfix_many(struct cp_pager *pager, struct cp_fix *fixes, uint32_t count)
{
    pager->engine->ops->unfix_many(pager->engine, fixes, count);
}

int cp_pager_prefetch(struct cp_pager *pager, const uint64_t *pages, uint32_t count)
{
    int code = check_many(pager, pages, count);
    if (code != 0 || count == 0)
        return code;
    return pager->engine->ops->prefetch(pager->engine, pages, count);
}

void cp_pager_expect(struct cp_pager *pager, const uint64_t *pages, uint32_t count)
{
    if (pager->engine->ops->expect != NULL)
        pager->engine->ops->expect(pager->engine, pages, count);
}

int cp_pager_begin(struct cp_pager *pager, const uint64_t *pages, uint32_t count,
                   enum cp_latch_mode mode, struct cp_ticket *out_tickets)
{
    int code = check_many(pager, pages, count);
    if (code != 0 || count == 0)
        return code;
    return pager->engine->ops->begin(pager->engine, pages, count, mode, out_tickets);
}

bool cp_pager_poll(struct cp_pager *pager, struct cp_ticket *ticket)
{
    return pager->engine->ops->poll(pager->engine, ticket);
}

uint32_t cp_pager_wait_some(struct cp_pager *pager, struct cp_ticket **tickets, uint32_t count)
{
    return pager->engine->ops->wait_some(pager->engine, tickets, count);
}

int cp_pager_wait(struct cp_pager *pager, struct cp_ticket *ticket)
{
    return pager->engine->ops->wait(pager->engine, ticket);
}

void cp_pager_cancel(struct cp_pager *pager, struct cp_ticket *ticket)
{
    pager->engine->ops->cancel(pager->engine, ticket);
}

int cp_pager_scan_begin(struct cp_pager *pager, uint64_t first, uint64_t count,
                        struct cp_scan *out_scan)
{
    uint64_t end = cp_pager_page_count(pager);
    if (first > end)
        first = end;
    if (count > end - first)
        count = end - first;
    return pager->engine->ops->scan_begin(pager->engine, first, count, out_scan);
}

int cp_pager_scan_next(struct cp_pager *pager, struct cp_scan *scan, struct cp_fix *out_fix)
{
    /* The pager's own pages are read with the others, which costs less than to read around them. */
    while (scan->next < scan->end && !cp_pager__page_valid(pager, scan->next)) {
        if (scan->next >= cp_pager_page_count(pager))
            return 0; /* the store has shrunk */
        scan->next++;
    }
    return pager->engine->ops->scan_next(pager->engine, scan, out_fix);
}

const struct cp_page_map *cp_pager_page_map(const struct cp_pager *pager)
{
    return pager->engine->ops->page_map(pager->engine);
}

int cp_pager_resize(struct cp_pager *pager, uint64_t budget_bytes)
{
    int code = cp_pager__check_process(pager);
    if (code != 0)
        return code;
    code = pager->engine->ops->resize(pager->engine, budget_bytes);
    if (code == 0)
        atomic_store_explicit(&pager->budget_bytes, budget_bytes, memory_order_relaxed);
    return code;
}

uint32_t cp_pager_list_pins(struct cp_pager *pager, struct cp_pin *pins, uint32_t capacity)
{
    if (!cp_fork_guard_same(&pager->fork_guard))
        return 0; /* and its lock may be held by who was left behind in the parent */
    return pager->engine->ops->list_pins(pager->engine, pins, capacity);
}
