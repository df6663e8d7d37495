/* SPDX-License-Identifier: MIT */
/*
 * The pager's front: opens a store, checks page numbers and hands on to the engine. Where the bytes
 * are is the engine's business, which pages are allocated spacemap.c's, what is durable
 * checkpoint.c's.
 */
#include "inspect.h"
#include "internal.h"
#include "records.h"
#include "rules.h"

#include <clockpool/base/assert.h>
#include <clockpool/base/bits.h>
#include <clockpool/base/error.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the log has room for before a page is zeroed, whose record takes some 20 bytes: other
 * threads append between the two. */
#define INIT_ROOM_BYTES 65536u

/* ---- life -------------------------------------------------------------------------------------
 */

static int check_options(const char *directory, const struct cp_pager_options *options)
{
    const char *bad = NULL, *hint = NULL;
    if (options->engine != CP_ENGINE_POOL && options->engine != CP_ENGINE_MMAP) {
        bad = "engine";
        hint = "CP_ENGINE_POOL or CP_ENGINE_MMAP";
    } else if (options->page_size != 0 &&
               (!cp_is_power_of_two(options->page_size) || options->page_size < CP_PAGE_SIZE_MIN ||
                options->page_size > CP_PAGE_SIZE_MAX)) {
        bad = "page_size";
        hint = "a power of two from 4096 to 65536, or 0";
    } else if (options->create && options->read_only) {
        bad = "read_only";
        hint = "a store cannot be created without writing: leave out one of the two";
    } else if (options->advice < CP_ADVICE_RANDOM || options->advice > CP_ADVICE_SEQUENTIAL) {
        bad = "advice";
        hint = "one of enum cp_mmap_advice";
    } else if (options->caching < CP_IO_DIRECT_IF_POSSIBLE || options->caching > CP_IO_BUFFERED) {
        bad = "caching";
        hint = "one of enum cp_io_caching";
    } else if (options->max_budget_bytes != 0 &&
               options->max_budget_bytes < options->budget_bytes) {
        bad = "max_budget_bytes";
        hint = "at least budget_bytes, or 0";
    } else if (options->unsafe_in_place && options->engine != CP_ENGINE_MMAP) {
        bad = "unsafe_in_place";
        hint = "only the mmap engine can change pages in place: choose CP_ENGINE_MMAP";
    } else if (options->unsafe_in_place && options->read_only) {
        bad = "unsafe_in_place";
        hint = "changing pages in place needs a writable store: leave out read_only";
    } else if (options->background < CP_BACKGROUND_THREAD ||
               options->background > CP_BACKGROUND_NONE) {
        bad = "background";
        hint = "one of enum cp_background";
    } else if (options->torn_pages < CP_TORN_AUTO || options->torn_pages > CP_TORN_IMAGES) {
        bad = "torn_pages";
        hint = "one of enum cp_torn_pages";
    } else if (options->log_sync < CP_WAL_SYNC_PROBE || options->log_sync > CP_WAL_SYNC_FDATASYNC) {
        bad = "log_sync";
        hint = "one of enum cp_wal_sync";
    } else if (options->log_buffer_bytes != 0 &&
               (!cp_is_power_of_two(options->log_buffer_bytes) ||
                options->log_buffer_bytes < CP_WAL_BUFFER_BYTES_MIN)) {
        bad = "log_buffer_bytes";
        hint = "a power of two from 256 KiB, or 0";
    } else if (options->budget_bytes < CP_BUFPOOL_BUDGET_MIN) {
        return cp_error_set(
            CP_EBUDGET, directory, CP_NO_PAGE, CP_NO_LSN, "budget_bytes must be at least 512 KiB",
            "open a store with %llu bytes of memory", (unsigned long long)options->budget_bytes);
    }
    if (bad == NULL)
        return 0;
    return cp_error_set(-EINVAL, directory, CP_NO_PAGE, CP_NO_LSN, hint, "open a store: option %s",
                        bad);
}

static void fill_defaults(struct cp_pager_options *options)
{
    if (options->budget_bytes == 0)
        options->budget_bytes = CP_PAGER_BUDGET_DEFAULT;
    if (options->max_budget_bytes == 0)
        options->max_budget_bytes =
            options->budget_bytes > UINT64_MAX / 4 ? UINT64_MAX : options->budget_bytes * 4;
    if (options->log_limit_bytes == 0)
        options->log_limit_bytes =
            options->budget_bytes > CP_PAGER_LOG_LIMIT_MAX / 2
                ? CP_PAGER_LOG_LIMIT_MAX
                : cp_max_u64(CP_PAGER_LOG_LIMIT_MIN, 2 * options->budget_bytes);
    if (options->checkpoint_ms == 0)
        options->checkpoint_ms = CP_PAGER_CHECKPOINT_MS;
    if (options->relaxed_ms == 0)
        options->relaxed_ms = CP_PAGER_RELAXED_MS;
    if (options->recovery_bytes == 0)
        options->recovery_bytes = CP_PAGER_RECOVERY_BYTES;
}

/* A copy without the slashes at its end. */
static char *copy_directory(const char *directory)
{
    size_t length = strlen(directory);
    while (length > 1 && directory[length - 1] == '/')
        length--;
    return strndup(directory, length);
}

/* Give everything back but the engine. */
static void free_pager(struct cp_pager *pager)
{
    struct cp_error saved = *cp_error_info();
    cp_pager__mtr_fini(pager);
    cp_pager__background_fini(pager);
    cp_pager__map_fini(pager);
    cp_wal_close(pager->wal);
    cp_pager__store_close(pager);
    if (pager->owns_io)
        cp_io_destroy(pager->io);
    if (pager->fork_guard.word != NULL)
        cp_fork_guard_fini(&pager->fork_guard);
    pthread_mutex_destroy(&pager->superblock_mutex);
    pthread_mutex_destroy(&pager->alloc_mutex);
    pthread_mutex_destroy(&pager->sync_mutex);
    free(pager->directory);
    free(pager);
    cp_error_restore(&saved);
}

/* Without writing there is no log to append to; a store that needs recovery needs writing. */
static int open_log(struct cp_pager *pager)
{
    const struct cp_wal_options options = {
        .store_id = pager->superblock.store_id,
        .buffer_bytes = pager->options.log_buffer_bytes,
        .sync = pager->options.log_sync,
        .caching = pager->options.caching,
    };
    if (pager->read_only && pager->was_unclean)
        return cp_error_set(CP_EREADONLY, pager->data_path, CP_NO_PAGE, CP_NO_LSN,
                            "open it once for writing, or run `clockpool recover`",
                            "the store was not closed and must recover first");
    if (pager->read_only)
        return 0;
    int code = cp_wal_open(pager->io, pager->wal_path, &options, &pager->wal);
    return cp_pager__missing_log(pager->directory, code);
}

static void set_up_images(struct cp_pager *pager)
{
    struct cp_io_file_info info;
    cp_io_file_info(pager->file, &info);
    pager->direct = info.direct;
    pager->images.wal = pager->wal;
    pager->untorn_writes = pager->options.torn_pages == CP_TORN_AUTO &&
                           pager->options.engine == CP_ENGINE_POOL &&
                           info.atomic_write_max_bytes >= pager->page_size;
    pager->images.needed = !pager->untorn_writes;
    cp_images__begin(&pager->images, &pager->superblock);
    pager->format.images = pager->wal != NULL ? &pager->images : NULL;
}

static cp_lsn gate_durable_lsn(void *ctx)
{
    return cp_wal_durable(((const struct cp_pager *)ctx)->wal);
}

/* The log's own gate would not tell the store that the log has failed. */
static int gate_make_durable(void *ctx, cp_lsn upto)
{
    return cp_pager__log_flush(ctx, upto);
}

/* The log is open, or there is none. */
static int open_engine(struct cp_pager *pager, const struct cp_pager_options *options)
{
    const struct cp_lsn_gate gate = {pager, gate_durable_lsn, gate_make_durable};
    const struct cp_engine_setup setup = {
        .options = options,
        .io = pager->io,
        .file = pager->file,
        .format = &pager->format,
        .gate = pager->wal != NULL && !CP_BREAK_GATE ? &gate : NULL,
        .file_bytes = pager->file_bytes,
        .short_of_clean = options->background == CP_BACKGROUND_THREAD && !options->read_only
                              ? cp_pager__background_clean
                              : NULL,
        .short_of_clean_ctx = pager,
        .untorn_writes = pager->untorn_writes,
        .page_count = pager->superblock.page_count,
    };
    int code = options->engine == CP_ENGINE_POOL ? cp_pager__pool_open(&setup, &pager->engine)
                                                 : cp_pager__mmap_open(&setup, &pager->engine);
    if (code == 0)
        pager->pool_file = pager->engine->pool_file;
    return code;
}

/* What lies behind the files: log, engine, space map; after a crash, recovery. */
static int open_parts(struct cp_pager *pager, const struct cp_pager_options *options)
{
    int code = open_log(pager);
    if (code != 0)
        return code;
    set_up_images(pager);
    atomic_init(&pager->redo_lsn, pager->superblock.checkpoint_lsn);
    code = open_engine(pager, options);
    if (code != 0)
        return code;
    return pager->was_unclean ? cp_pager__recover(pager) : cp_pager__map_load(pager);
}

int cp_pager_open(const char *directory, const struct cp_pager_options *options,
                  struct cp_pager **out_pager)
{
    struct cp_pager_options filled = {0};
    if (directory == NULL || directory[0] == '\0')
        return cp_error_set(-EINVAL, directory, CP_NO_PAGE, CP_NO_LSN, "name a directory",
                            "open a store");
    if (options != NULL)
        filled = *options;
    fill_defaults(&filled);
    int code = check_options(directory, &filled);
    if (code != 0)
        return code;
    struct cp_pager *pager = calloc(1, sizeof *pager);
    if (pager == NULL)
        return cp_error_set(-ENOMEM, directory, CP_NO_PAGE, CP_NO_LSN, NULL, "open a store");
    pager->lock.fd = -1;
    pager->read_only = filled.read_only;
    pager->options = filled;
    atomic_init(&pager->budget_bytes, filled.budget_bytes);
    pager->io = filled.io;
    cp_pager__mtr_init(pager);
    cp_pager__background_init(pager);
    pthread_mutex_init(&pager->sync_mutex, NULL);
    pthread_mutex_init(&pager->alloc_mutex, NULL);
    pthread_mutex_init(&pager->superblock_mutex, NULL);
    pager->directory = copy_directory(directory);
    code = pager->directory == NULL ? -ENOMEM : cp_fork_guard_init(&pager->fork_guard);
    if (code != 0)
        code = cp_error_set(code, directory, CP_NO_PAGE, CP_NO_LSN, NULL, "open a store");
    if (code == 0 && pager->io == NULL) {
        const struct cp_io_options io_options = {.kind = CP_IO_AUTO};
        code = cp_io_create(&io_options, &pager->io);
        pager->owns_io = code == 0;
    }
    if (code == 0)
        code = cp_pager__store_open(pager, &filled);
    if (code == 0)
        code = open_parts(pager, &filled);
    if (code != 0) {
        struct cp_error saved = *cp_error_info();
        cp_pager__background_stop(pager);
        if (pager->engine != NULL)
            pager->engine->ops->close(pager->engine);
        free_pager(pager);
        return cp_error_restore(&saved);
    }
    if (pager->was_unclean)
        cp_pager__background_start(pager); /* recovered pages wait to be written */
    *out_pager = pager;
    return 0;
}

/* Does the caller still use the store? 0 or CP_EPINNED. */
static int refuse_in_use(struct cp_pager *pager)
{
    struct cp_pin pin;
    if (cp_pager__mtr_any(pager))
        return cp_error_set(CP_EPINNED, pager->data_path, CP_NO_PAGE, CP_NO_LSN,
                            "commit or abort all mini-transactions first", "close the store");
    if (!pager->engine->ops->any_pinned(pager->engine))
        return 0;
    uint64_t page =
        pager->engine->ops->list_pins(pager->engine, &pin, 1) > 0 ? pin.page : CP_NO_PAGE;
    return cp_error_set(CP_EPINNED, pager->data_path, page, CP_NO_LSN,
                        "unfix all pages first; cp_pager_list_pins names them", "close the store");
}

int cp_pager_close(struct cp_pager *pager)
{
    int code = cp_pager__check_process(pager);
    /* Before the thread is waited for: its checkpoint may be waiting for the caller's page. */
    if (code == 0)
        code = refuse_in_use(pager);
    if (code != 0)
        return code;
    cp_pager__background_stop(pager);
    code = cp_pager__finish(pager);
    cp_pager_abandon(pager);
    return code;
}

void cp_pager_abandon(struct cp_pager *pager)
{
    struct cp_error saved = *cp_error_info();
    if (!cp_fork_guard_same(&pager->fork_guard))
        return; /* the parent's: nothing of it is ours to close */
    cp_pager__background_stop(pager);
    pager->engine->ops->close(pager->engine);
    free_pager(pager);
    cp_error_restore(&saved);
}

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
