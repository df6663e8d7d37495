/* SPDX-License-Identifier: MIT */
/*
 * The end of a mini-transaction, in this order:
 *
 *     1. compare each page with its before-image: records that point into the pages
 *     2. mark the changed pages dirty (checkpoint.c relies on it)
 *     3. with space to give or take: change the map pages, under alloc_mutex
 *     4. append one group to the log. Up to here everything can be taken back
 *     5. tell the frames their LSN; let go of freed pages; give the map pages back
 *     6. let go of all pages; wait for the log if the commit is a durable one
 */
#include "diff.h"
#include "mtr.h"
#include "records.h"

#include <clockpool/base/assert.h>
#include <clockpool/base/bits.h>
#include <clockpool/base/error.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Beyond so many ranges a page is logged from its first change to its last. */
#define RANGES_MAX 64u

/* ---- records ----------------------------------------------------------------------------------
 */

static int add_record(struct cp_mtr *mtr, const struct cp_wal_record *record)
{
    if (mtr->record_count == mtr->record_capacity) {
        uint32_t capacity = mtr->record_capacity == 0 ? 32 : mtr->record_capacity * 2;
        struct cp_wal_record *grown = realloc(mtr->records, capacity * sizeof *grown);
        if (grown == NULL)
            return cp_error_set(-ENOMEM, mtr->pager->data_path, CP_NO_PAGE, CP_NO_LSN, NULL,
                                "commit a mini-transaction");
        mtr->records = grown;
        mtr->record_capacity = capacity;
    }
    mtr->records[mtr->record_count++] = *record;
    return 0;
}

static int add_range(struct cp_mtr *mtr, const struct cp_mtr_page *entry, uint32_t start,
                     uint32_t end)
{
    const struct cp_wal_record record = {
        .type = CP_RECORD_RANGE,
        .page = entry->fix.page,
        .offset = (uint16_t)start,
        .size_bytes = end - start,
        .data = (const unsigned char *)entry->fix.data + start,
    };
    return add_record(mtr, &record);
}

/* The records of one page. */
static int describe_page(struct cp_mtr *mtr, struct cp_mtr_page *entry)
{
    const uint32_t size_bytes = mtr->pager->payload_size;
    uint32_t start, end, from = 0, ranges = 0;
    int code = 0;
    if (entry->fresh) {
        const struct cp_wal_record init = {.type = CP_RECORD_INIT, .page = entry->fix.page};
        entry->changed = true;
        code = add_record(mtr, &init);
    }
    while (code == 0 &&
           cp_diff__next(entry->before, entry->fix.data, from, size_bytes, &start, &end)) {
        entry->changed = true;
        if (ranges == RANGES_MAX) { /* the rest joins the last one */
            struct cp_wal_record *last = &mtr->records[mtr->record_count - 1];
            last->size_bytes = end - last->offset;
        } else {
            code = add_range(mtr, entry, start, end);
            ranges++;
        }
        from = end;
    }
    return code;
}

static int describe_pages(struct cp_mtr *mtr)
{
    const uint32_t count = atomic_load_explicit(&mtr->page_count, memory_order_relaxed);
    int code = 0;
    for (uint32_t i = 0; code == 0 && i < count; i++) {
        struct cp_mtr_page *entry = &mtr->pages[i];
        if (entry->exclusive && entry->fix.data != NULL && !entry->freed)
            code = describe_page(mtr, entry);
    }
    return code;
}

/* ---- space ------------------------------------------------------------------------------------
 */

static int compare_ops(const void *a, const void *b)
{
    const struct cp_map_op *x = a, *y = b;
    return (x->first > y->first) - (x->first < y->first);
}

static bool freed_again(const struct cp_mtr *mtr, uint32_t from, uint64_t page)
{
    for (uint32_t i = from; i < mtr->op_count; i++) {
        if (mtr->ops[i].kind == CP_MTR_FREE_OWN && mtr->ops[i].page == page)
            return true;
    }
    return false;
}

/* What remains of the ops: pages allocated and freed again are nobody's business. */
static uint32_t net_ops(struct cp_mtr *mtr)
{
    uint32_t count = 0;
    bool any_own = false;
    for (uint32_t i = 0; i < mtr->op_count; i++)
        any_own |= mtr->ops[i].kind == CP_MTR_FREE_OWN;
    for (uint32_t i = 0; i < mtr->op_count; i++) {
        const struct cp_mtr_op *op = &mtr->ops[i];
        if (op->kind == CP_MTR_FREE_OWN)
            continue;
        if (op->kind == CP_MTR_ALLOCATE && any_own && freed_again(mtr, i + 1, op->page))
            continue;
        mtr->map_ops[count++] =
            (struct cp_map_op){.first = op->page, .count = 1, .set = op->kind == CP_MTR_ALLOCATE};
    }
    if (count > 1)
        qsort(mtr->map_ops, count, sizeof *mtr->map_ops, compare_ops);
    return count;
}

/* Let go of what was freed, before anybody can be given its number. alloc_mutex held. */
static void drop_freed(struct cp_mtr *mtr)
{
    struct cp_pager *pager = mtr->pager;
    const uint32_t count = atomic_load_explicit(&mtr->page_count, memory_order_relaxed);
    for (uint32_t i = 0; i < count; i++) {
        struct cp_mtr_page *entry = &mtr->pages[i];
        if (!entry->freed || entry->fix.data == NULL)
            continue;
        /* Until the discard it may be written, waiting for the log only up to the frame's LSN: that
         * of the bytes of before. */
        if (entry->exclusive && !entry->fresh)
            memcpy(entry->fix.data, entry->before, pager->payload_size);
        pager->engine->ops->unfix(pager->engine, &entry->fix);
        entry->fix.data = NULL;
        atomic_store_explicit(&entry->page, CP_NO_PAGE, memory_order_relaxed);
    }
    for (uint32_t i = 0; i < mtr->op_count; i++) {
        const struct cp_mtr_op *op = &mtr->ops[i];
        if (op->kind == CP_MTR_ALLOCATE)
            continue;
        (void)pager->engine->ops->discard(pager->engine, op->page, 1);
        if (op->kind == CP_MTR_FREE_OWN)
            cp_pager__map_unreserve(pager, op->page, 1);
    }
}

/* ---- the log ----------------------------------------------------------------------------------
 */

static void mark_changed(struct cp_mtr *mtr, cp_lsn lsn)
{
    struct cp_pager *pager = mtr->pager;
    const uint32_t count = atomic_load_explicit(&mtr->page_count, memory_order_relaxed);
    for (uint32_t i = 0; i < count; i++) {
        struct cp_mtr_page *entry = &mtr->pages[i];
        if (!entry->changed)
            continue;
        if (lsn != 0 && entry->fresh)
            cp_pager__page_set_base_lsn(&pager->format, entry->fix.data, lsn);
        pager->engine->ops->mark_dirty(pager->engine, &entry->fix, lsn);
    }
}

static int check_group(const struct cp_mtr *mtr)
{
    const struct cp_pager *pager = mtr->pager;
    const uint64_t bytes = cp_wal_group_bytes(mtr->records, mtr->record_count);
    if (bytes <= cp_wal_group_max(pager->wal) && mtr->record_count <= CP_WAL_GROUP_RECORDS_MAX)
        return 0;
    return cp_error_set(CP_ETOOLARGE, pager->data_path, CP_NO_PAGE, CP_NO_LSN,
                        "commit in smaller parts, or raise log_buffer_bytes",
                        "a mini-transaction changes %llu bytes in %u places, the log takes %llu at "
                        "a time",
                        (unsigned long long)bytes, mtr->record_count,
                        (unsigned long long)cp_wal_group_max(pager->wal));
}

/* Room for the records of the map, behind those of the pages. */
static int reserve_records(struct cp_mtr *mtr, uint32_t count)
{
    const uint32_t before = mtr->record_count;
    const struct cp_wal_record none = {0};
    int code = 0;
    for (uint32_t i = 0; code == 0 && i < count; i++)
        code = add_record(mtr, &none);
    mtr->record_count = before;
    return code;
}

static int log_with_space(struct cp_mtr *mtr, uint32_t op_count, cp_lsn *out_lsn)
{
    struct cp_pager *pager = mtr->pager;
    uint32_t fix_count = 0, map_records = 0;
    cp_lsn lsn = 0;
    int code = reserve_records(mtr, op_count);
    if (code != 0)
        return code;
    pthread_mutex_lock(&pager->alloc_mutex);
    code = cp_pager__map_apply(pager, mtr->map_ops, op_count, mtr->map_fixes, &fix_count,
                               &mtr->records[mtr->record_count], &map_records);
    if (code == 0) {
        mtr->record_count += map_records;
        code = check_group(mtr);
        if (code == 0)
            code = cp_pager__log(pager, mtr->records, mtr->record_count, &lsn);
        if (code == 0) {
            mark_changed(mtr, lsn);
            drop_freed(mtr);
        }
        cp_pager__map_finish(pager, mtr->map_ops, op_count, mtr->map_fixes, fix_count,
                             code == 0 ? lsn : 0);
    }
    pthread_mutex_unlock(&pager->alloc_mutex);
    if (code == 0)
        *out_lsn = lsn;
    return code;
}

static int log_pages(struct cp_mtr *mtr, cp_lsn *out_lsn)
{
    int code = check_group(mtr);
    if (code == 0)
        code = cp_pager__log(mtr->pager, mtr->records, mtr->record_count, out_lsn);
    if (code == 0)
        mark_changed(mtr, *out_lsn);
    return code;
}

/* Allocated and freed again, nothing else: give the numbers back. */
static void forget_own(struct cp_mtr *mtr)
{
    pthread_mutex_lock(&mtr->pager->alloc_mutex);
    drop_freed(mtr);
    pthread_mutex_unlock(&mtr->pager->alloc_mutex);
}

static int log_changes(struct cp_mtr *mtr, cp_lsn *out_lsn)
{
    int code = describe_pages(mtr);
    if (code != 0)
        return code;
    const uint32_t op_count = net_ops(mtr);
    *out_lsn = 0;
    mark_changed(mtr, 0);
    if (op_count > 0)
        return log_with_space(mtr, op_count, out_lsn);
    if (mtr->record_count > 0)
        code = log_pages(mtr, out_lsn);
    if (code == 0 && mtr->op_count > 0)
        forget_own(mtr);
    return code;
}

/* Codes that promise that nothing was changed must not come from here: the change is in the log, if
 * not surely on the device, and in memory. */
static int make_durable(struct cp_pager *pager, cp_lsn lsn)
{
    int code = cp_pager__log_flush(pager, lsn);
    if (code != CP_EFAILED && code != -ENOSPC)
        return code;
    return cp_error_set(
        -EIO, pager->data_path, CP_NO_PAGE, lsn,
        "close the store and open it again: it recovers, with this commit or without",
        "make a commit durable (%s)", cp_status_name(code));
}

int cp_mtr_commit(struct cp_mtr *mtr, enum cp_commit commit, cp_lsn *out_lsn)
{
    struct cp_pager *pager = mtr->pager;
    cp_lsn lsn;
    int code = cp_pager__check_process(pager);
    if (code != 0)
        return code; /* the parent's: nothing of it is ours to end */
    code = log_changes(mtr, &lsn);
    if (code != 0) {
        cp_mtr_abort(mtr);
        return code;
    }
    atomic_fetch_add_explicit(&pager->mtr_commits, 1, memory_order_relaxed);
    cp_mtr__release(mtr, false);
    if (out_lsn != NULL)
        *out_lsn = lsn;
    if (lsn == 0)
        return 0;
    cp_pager__background_notice(pager, commit == CP_COMMIT_RELAXED);
    return commit == CP_COMMIT_DURABLE ? make_durable(pager, lsn) : 0;
}

int cp_pager_wait_durable(struct cp_pager *pager, cp_lsn lsn)
{
    int code = cp_pager__check_process(pager);
    if (code != 0 || lsn == 0)
        return code;
    /* acquire: pairs with the release in write_unclean. Nothing changed: all there is is durable */
    if (!atomic_load_explicit(&pager->unclean_written, memory_order_acquire))
        return 0;
    return cp_pager__log_flush(pager, lsn);
}

cp_lsn cp_pager_durable_lsn(const struct cp_pager *pager)
{
    /* acquire: as above; before the first change the log has not begun */
    return atomic_load_explicit(&pager->unclean_written, memory_order_acquire)
               ? cp_wal_durable(pager->wal)
               : atomic_load_explicit(&pager->redo_lsn, memory_order_relaxed);
}
