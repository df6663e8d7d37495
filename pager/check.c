/* SPDX-License-Identifier: MIT */
/* Statistics, and the walk over all pages that says which of them are good. */
#include "internal.h"

#include <clockpool/base/assert.h>
#include <clockpool/base/bits.h>
#include <clockpool/base/error.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void fill_log_stats(struct cp_pager *pager, struct cp_pager_stats *stats)
{
    const memory_order relaxed = memory_order_relaxed;
    stats->checkpoint_lsn = atomic_load_explicit(&pager->redo_lsn, relaxed);
    stats->checkpoints = atomic_load_explicit(&pager->checkpoint_count, relaxed);
    stats->checkpoint_errors = atomic_load_explicit(&pager->checkpoint_errors, relaxed);
    stats->checkpoint_paused_us = atomic_load_explicit(&pager->checkpoint_paused_us, relaxed);
    stats->checkpoint_last_us = atomic_load_explicit(&pager->checkpoint_last_us, relaxed);
    stats->mtr_commits = atomic_load_explicit(&pager->mtr_commits, relaxed);
    stats->mtr_aborts = atomic_load_explicit(&pager->mtr_aborts, relaxed);
    stats->mtr_deadlocks = atomic_load_explicit(&pager->mtr_deadlocks, relaxed);
    stats->mtr_waits = atomic_load_explicit(&pager->mtr_waits, relaxed);
    stats->atomic_pages = pager->untorn_writes;
    stats->page_images = atomic_load_explicit(&pager->images.logged, relaxed);
    stats->recovered_groups = pager->recovered.groups;
    stats->recovered_bytes = pager->recovered.bytes;
    stats->recovered_pages = pager->recovered.pages;
    stats->recovery_us = pager->recovered.duration_us;
}

/* What locks guard. In a forked child somebody may hold them who was left behind in the parent. */
static void fill_guarded(struct cp_pager *pager, struct cp_pager_stats *stats)
{
    const struct cp_space_map *map = &pager->map;
    pthread_mutex_lock(&pager->alloc_mutex);
    stats->page_count = cp_pager__page_count(pager);
    stats->file_bytes = pager->file_bytes;
    /* free_total counts to the end of the last span, which page_count may not reach. */
    uint64_t in_spans = map->span_count * pager->span;
    uint64_t in_store = stats->page_count - pager->first_map_page;
    stats->allocated_pages = in_spans - map->free_total - map->span_count;
    for (uint64_t span = 0; span < map->span_count; span++)
        stats->allocated_pages -= map->pending[span].taken_count;
    stats->free_pages = in_store - stats->allocated_pages - map->span_count;
    pthread_mutex_unlock(&pager->alloc_mutex);
    pthread_mutex_lock(&pager->superblock_mutex);
    stats->generation = pager->superblock.generation;
    pthread_mutex_unlock(&pager->superblock_mutex);
}

void cp_pager_stats(struct cp_pager *pager, struct cp_pager_stats *out_stats)
{
    struct cp_pager_stats stats = {
        .engine = pager->engine->ops->name,
        .path = pager->data_path,
        .store_id = pager->format.store_id,
        .unclean = pager->was_unclean,
        .read_only = pager->read_only,
        .failed = atomic_load_explicit(&pager->failed, memory_order_relaxed),
        .page_size = pager->page_size,
        .wal.sync_method = "",
        .syncs = atomic_load_explicit(&pager->sync_count, memory_order_relaxed),
    };
    if (cp_fork_guard_same(&pager->fork_guard))
        fill_guarded(pager, &stats);
    if (pager->wal != NULL)
        cp_wal_stats(pager->wal, &stats.wal);
    fill_log_stats(pager, &stats);
    pager->engine->ops->stats(pager->engine, &stats);
    *out_stats = stats;
}

/* ---- check ------------------------------------------------------------------------------------
 */

struct check {
    struct cp_pager *pager;
    void (*report)(void *ctx, uint64_t page, const struct cp_error *error);
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
    unsigned char *buffer; /* CP_IO_MAX_TRANSFER_BYTES */
    uint64_t *bits;        /* a copy of one map page's payload */
    uint64_t page_count;
    uint64_t bad;
};

static void bad_page(struct check *check, uint64_t page)
{
    check->bad++;
    if (check->report != NULL) {
        struct cp_error error = *cp_error_info();
        check->report(check->ctx, page, &error);
    }
}

static bool is_set(const uint64_t *bits, uint64_t bit)
{
    return (bits[bit / 64] >> (bit % 64) & 1) != 0;
}

/* Verify the allocated pages among count pages from page on, as the file has them. */
static void check_chunk(struct check *check, uint64_t page, uint64_t count, uint64_t bit)
{
    struct cp_pager *pager = check->pager;
    const uint32_t page_size = pager->page_size;
    int whole = cp_io_read(pager->file, check->buffer, count * page_size, page * page_size);
    for (uint64_t i = 0; i < count; i++) {
        unsigned char *data = check->buffer + i * page_size;
        int code = 0;
        if (!is_set(check->bits, bit + i))
            continue;
        if (whole != 0) /* which of them was it? */
            code = cp_io_read(pager->file, data, page_size, (page + i) * page_size);
        if (code != 0) {
            struct cp_error error = *cp_error_info();
            error.page = page + i;
            cp_error_restore(&error);
        } else {
            code = cp_pager__page_verify(&pager->format, data, page + i);
        }
        if (code != 0)
            bad_page(check, page + i);
    }
}

static bool chunk_empty(const struct check *check, uint64_t bit, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        if (is_set(check->bits, bit + i))
            return false;
    }
    return true;
}

/* The map page itself: copied for the walk, and compared with what the store says. */
static int check_map(struct check *check, uint64_t span)
{
    struct cp_pager *pager = check->pager;
    const uint64_t page = pager->first_map_page + span * pager->span;
    struct cp_fix fix;
    int code = pager->engine->ops->fix(pager->engine, page, CP_SHARED, &fix);
    if (code != 0)
        return code;
    memcpy(check->bits, fix.data, pager->payload_size);
    pager->engine->ops->unfix(pager->engine, &fix);
    uint64_t set = 0, wrong = 0;
    for (uint64_t bit = 0; bit < pager->span; bit++) {
        set += is_set(check->bits, bit);
        wrong += is_set(check->bits, bit) && page + bit >= check->page_count;
    }
    if (!is_set(check->bits, 0) || wrong != 0) {
        cp_error_set(CP_EFORMAT, pager->data_path, page, CP_NO_LSN, "restore from a backup",
                     "the space map names %llu pages behind the end", (unsigned long long)wrong);
        bad_page(check, page);
    } else if (pager->span - set !=
               pager->map.free_counts[span] + cp_pager__map_taken(pager, span)) {
        cp_error_set(CP_EFORMAT, pager->data_path, page, CP_NO_LSN,
                     "a fault in memory or in the library: reopen the store",
                     "the space map has %llu free pages here, %u were counted",
                     (unsigned long long)(pager->span - set), pager->map.free_counts[span]);
        bad_page(check, page);
    }
    return 0;
}

static void check_span(struct check *check, uint64_t span)
{
    struct cp_pager *pager = check->pager;
    const uint64_t base = pager->first_map_page + span * pager->span;
    const uint64_t end = cp_min_u64(base + pager->span, check->page_count);
    const uint64_t chunk = CP_IO_MAX_TRANSFER_BYTES / pager->page_size;

    pthread_mutex_lock(&pager->alloc_mutex); /* the map and its counts stand still */
    int code = span < pager->map.span_count ? check_map(check, span) : 0;
    pthread_mutex_unlock(&pager->alloc_mutex);
    if (code != 0) {
        bad_page(check, base);
        return;
    }
    for (uint64_t page = base; page < end; page += chunk) {
        uint64_t count = cp_min_u64(chunk, end - page);
        if (!chunk_empty(check, page - base, count))
            check_chunk(check, page, count, page - base);
        if (check->progress != NULL)
            check->progress(check->ctx, page + count - pager->first_map_page,
                            check->page_count - pager->first_map_page);
    }
}

int64_t cp_pager_check(struct cp_pager *pager,
                       void (*report)(void *ctx, uint64_t page, const struct cp_error *error),
                       void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx)
{
    struct check check = {.pager = pager, .report = report, .progress = progress, .ctx = ctx};
    int code = cp_pager__check_process(pager);
    if (code != 0)
        return code;
    check.buffer = aligned_alloc(CP_FORMAT_BLOCK_BYTES, CP_IO_MAX_TRANSFER_BYTES);
    check.bits = malloc(pager->page_size);
    if (check.buffer == NULL || check.bits == NULL) {
        code =
            cp_error_set(-ENOMEM, pager->data_path, CP_NO_PAGE, CP_NO_LSN, NULL, "check a store");
        goto out;
    }
    cp_pager__lock_sync(pager);
    /* The walk reads the file, so what is dirty goes there first. A store that takes no writes is
     * checked as it lies on disk. */
    if (!pager->read_only && !atomic_load_explicit(&pager->failed, memory_order_relaxed))
        code = pager->engine->ops->flush(pager->engine, NULL, NULL);
    check.page_count = cp_pager__page_count(pager);
    uint64_t spans = (check.page_count - pager->first_map_page + pager->span - 1) / pager->span;
    for (uint64_t span = 0; code == 0 && span < spans; span++)
        check_span(&check, span);
    pthread_mutex_unlock(&pager->sync_mutex);
out:
    free(check.buffer);
    free(check.bits);
    return code != 0 ? code : (int64_t)check.bad;
}
