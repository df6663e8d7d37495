/* SPDX-License-Identifier: MIT */
/*
 * A pager's life: its options, the parts it opens in their order, and closing. The files themselves
 * are store.c's, recovery recovery.c's, what a clean end takes checkpoint.c's.
 */
#include "inspect.h"
#include "internal.h"
#include "rules.h"

#include <clockpool/base/bits.h>
#include <clockpool/base/error.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool is_size(uint32_t bytes, uint32_t min, uint32_t max)
{
    return bytes == 0 || (cp_is_power_of_two(bytes) && bytes >= min && bytes <= max);
}

/* The first option that cannot be had, or NULL. */
static const char *find_refused(const struct cp_pager_options *options, const char **out_hint)
{
    const bool in_place = options->unsafe_in_place;
    const struct {
        bool refused;
        const char *option, *hint;
    } rules[] = {
        {options->engine != CP_ENGINE_POOL && options->engine != CP_ENGINE_MMAP, "engine",
         "CP_ENGINE_POOL or CP_ENGINE_MMAP"},
        {!is_size(options->page_size, CP_PAGE_SIZE_MIN, CP_PAGE_SIZE_MAX), "page_size",
         "a power of two from 4096 to 65536, or 0"},
        {options->create && options->read_only, "read_only",
         "a store cannot be created without writing: leave out one of the two"},
        {options->advice < CP_ADVICE_RANDOM || options->advice > CP_ADVICE_SEQUENTIAL, "advice",
         "one of enum cp_mmap_advice"},
        {options->caching < CP_IO_DIRECT_IF_POSSIBLE || options->caching > CP_IO_BUFFERED,
         "caching", "one of enum cp_io_caching"},
        {options->max_budget_bytes != 0 && options->max_budget_bytes < options->budget_bytes,
         "max_budget_bytes", "at least budget_bytes, or 0"},
        {in_place && options->engine != CP_ENGINE_MMAP, "unsafe_in_place",
         "only the mmap engine can change pages in place: choose CP_ENGINE_MMAP"},
        {in_place && options->read_only, "unsafe_in_place",
         "changing pages in place needs a writable store: leave out read_only"},
        {options->background < CP_BACKGROUND_THREAD || options->background > CP_BACKGROUND_NONE,
         "background", "one of enum cp_background"},
        {options->torn_pages < CP_TORN_AUTO || options->torn_pages > CP_TORN_IMAGES, "torn_pages",
         "one of enum cp_torn_pages"},
        {options->log_sync < CP_WAL_SYNC_PROBE || options->log_sync > CP_WAL_SYNC_FDATASYNC,
         "log_sync", "one of enum cp_wal_sync"},
        {!is_size(options->log_buffer_bytes, CP_WAL_BUFFER_BYTES_MIN, UINT32_MAX),
         "log_buffer_bytes", "a power of two from 256 KiB, or 0"},
    };
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        *out_hint = rules[i].hint;
        if (rules[i].refused)
            return rules[i].option;
    }
    return NULL;
}

static int check_options(const char *directory, const struct cp_pager_options *options)
{
    const char *hint;
    const char *refused = find_refused(options, &hint);
    if (refused != NULL)
        return cp_error_set(-EINVAL, directory, CP_NO_PAGE, CP_NO_LSN, hint,
                            "open a store: option %s", refused);
    if (options->budget_bytes < CP_BUFPOOL_BUDGET_MIN)
        return cp_error_set(
            CP_EBUDGET, directory, CP_NO_PAGE, CP_NO_LSN, "budget_bytes must be at least 512 KiB",
            "open a store with %llu bytes of memory", (unsigned long long)options->budget_bytes);
    return 0;
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
