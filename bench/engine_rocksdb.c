/* SPDX-License-Identifier: MIT */
/*
 * Engine "rocksdb": each page a value under an integer key, through RocksDB's C interface.
 *
 * RocksDB has no way to change a part of a value, so an update gets the page and puts all of it,
 * under one of many locks, since two threads may meet on a page. commit: sync=1. Relaxed: sync=0,
 * and the log is synced now and then. update-random: no log. No compression, as in all engines.
 */
#include "kv.h"

#include <inttypes.h>
#include <pthread.h>
#include <rocksdb/c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef BENCH_ROCKSDB_VERSION
#define BENCH_ROCKSDB_VERSION "unknown"
#endif

#define LOCK_COUNT     1024u
#define WRITE_BUFFER   (UINT64_C(64) << 20) /* RocksDB's default; at most an eighth of memory */
#define OPEN_FILES_MAX 256

struct rocksdb_engine {
    const struct bench_setup *setup;
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_block_based_table_options_t *table;
    rocksdb_cache_t *cache;
    rocksdb_readoptions_t *reading;
    rocksdb_writeoptions_t *writing;
    pthread_mutex_t locks[LOCK_COUNT]; /* a page is got and put under one of them */
};

struct rocksdb_thread {
    struct rocksdb_engine *engine;
    struct bench_thread_setup setup;
    uint32_t content_size;
    char *buffer;
};

static const char *version(void)
{
    return "RocksDB " BENCH_ROCKSDB_VERSION;
}

/* Levels hold old and new versions while they are merged. */
static uint64_t disk_bytes(uint64_t page_count, uint32_t page_size)
{
    return page_count * page_size * 2 + (UINT64_C(512) << 20);
}

/* Take over RocksDB's description, which is ours to free. */
static int fail(struct bench_error *error, char *text, const char *what)
{
    bench_fail(error, "%s: %s", what, text);
    rocksdb_free(text);
    return -1;
}

/* Big-endian, so that the order of the keys is that of the pages. */
static void make_key(uint64_t page, char *key)
{
    for (int i = 7; i >= 0; i--, page >>= 8)
        key[i] = (char)(page & 0xff);
}

/* ---- opening ----------------------------------------------------------------------------------
 */

static void close_engine(void *handle)
{
    struct rocksdb_engine *engine = handle;
    if (engine->db != NULL)
        rocksdb_close(engine->db);
    rocksdb_writeoptions_destroy(engine->writing);
    rocksdb_readoptions_destroy(engine->reading);
    rocksdb_options_destroy(engine->options);
    rocksdb_block_based_options_destroy(engine->table);
    rocksdb_cache_destroy(engine->cache);
    for (unsigned i = 0; i < LOCK_COUNT; i++)
        pthread_mutex_destroy(&engine->locks[i]);
    free(engine);
}

static struct rocksdb_engine *open_database(const struct bench_setup *setup, bool create,
                                            struct bench_error *error)
{
    char *text = NULL;
    uint64_t buffer = WRITE_BUFFER < setup->mem_bytes / 8 ? WRITE_BUFFER : setup->mem_bytes / 8;
    struct rocksdb_engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL) {
        bench_fail(error, "out of memory");
        return NULL;
    }
    engine->setup = setup;
    for (unsigned i = 0; i < LOCK_COUNT; i++)
        pthread_mutex_init(&engine->locks[i], NULL);
    engine->options = rocksdb_options_create();
    engine->table = rocksdb_block_based_options_create();
    engine->cache = rocksdb_cache_create_lru(bench_kv_cache_bytes(setup));
    engine->reading = rocksdb_readoptions_create();
    engine->writing = rocksdb_writeoptions_create();
    rocksdb_block_based_options_set_block_cache(engine->table, engine->cache);
    rocksdb_options_set_block_based_table_factory(engine->options, engine->table);
    rocksdb_options_set_create_if_missing(engine->options, create);
    rocksdb_options_set_compression(engine->options, rocksdb_no_compression);
    rocksdb_options_set_write_buffer_size(engine->options, buffer);
    rocksdb_options_set_max_open_files(engine->options, OPEN_FILES_MAX);
    rocksdb_writeoptions_set_sync(engine->writing, setup->workload == BENCH_COMMIT ||
                                                       setup->workload == BENCH_MIXED);
    rocksdb_writeoptions_disable_WAL(engine->writing,
                                     create || setup->workload == BENCH_UPDATE_RANDOM);
    engine->db = rocksdb_open(engine->options, setup->data.directory, &text);
    if (text != NULL) {
        fail(error, text, "cannot open the RocksDB database");
        close_engine(engine);
        return NULL;
    }
    return engine;
}

static int open_engine(const struct bench_setup *setup, void **out_engine,
                       struct bench_error *error)
{
    struct rocksdb_engine *engine = open_database(setup, false, error);
    if (engine == NULL)
        return -1;
    *out_engine = engine;
    return 0;
}

static void stats(void *handle, struct bench_engine_stats *out_stats)
{
    struct rocksdb_engine *engine = handle;
    enum bench_workload workload = engine->setup->workload;
    snprintf(out_stats->details, sizeof out_stats->details,
             "%s; whole pages are put; block cache of %" PRIu64 " MiB, and the page cache",
             workload == BENCH_COMMIT || workload == BENCH_MIXED ? "sync=1"
             : workload == BENCH_UPDATE_RANDOM                   ? "no log"
                                                                 : "sync=0",
             bench_kv_cache_bytes(engine->setup) >> 20);
}

static int sync_log(void *handle, struct bench_error *error)
{
    struct rocksdb_engine *engine = handle;
    char *text = NULL;
    rocksdb_flush_wal(engine->db, 1, &text);
    return text == NULL ? 0 : fail(error, text, "cannot sync the log");
}

/* ---- creating ---------------------------------------------------------------------------------
 */

static int put(struct rocksdb_engine *engine, uint64_t page, const char *buffer, uint32_t size,
               struct bench_error *error)
{
    char key[8], *text = NULL;
    make_key(page, key);
    rocksdb_put(engine->db, engine->writing, key, sizeof key, buffer, size, &text);
    return text == NULL ? 0 : fail(error, text, "cannot store a page");
}

static int flush(struct rocksdb_engine *engine, struct bench_error *error)
{
    char *text = NULL;
    rocksdb_flushoptions_t *options = rocksdb_flushoptions_create();
    rocksdb_flush(engine->db, options, &text);
    rocksdb_flushoptions_destroy(options);
    return text == NULL ? 0 : fail(error, text, "cannot write out the data");
}

static int create(const struct bench_data *data, const struct bench_progress_sink *sink,
                  struct bench_error *error)
{
    struct bench_setup setup = {.data = *data, .mem_bytes = UINT64_C(512) << 20};
    uint32_t size = bench_content_size(data->page_size);
    char *buffer = malloc(size);
    struct rocksdb_engine *engine = open_database(&setup, true, error);
    int result = engine == NULL || buffer == NULL ? -1 : 0;
    for (uint64_t page = 0; result == 0 && page < data->page_count; page++) {
        bench_content_fill(buffer, size, data->seed, page);
        result = put(engine, page, buffer, size, error);
        if (result == 0 && (page + 1) % BENCH_KV_LOAD_VALUES == 0 &&
            sink->report(sink->ctx, page + 1, data->page_count) != 0)
            result = bench_fail(error, "interrupted");
    }
    if (result == 0)
        result = flush(engine, error);
    if (engine != NULL)
        close_engine(engine);
    free(buffer);
    return result;
}

/* ---- threads ----------------------------------------------------------------------------------
 */

static void thread_end(void *handle)
{
    struct rocksdb_thread *thread = handle;
    free(thread->buffer);
    free(thread);
}

static int thread_begin(void *handle, const struct bench_thread_setup *setup, void **out_thread)
{
    struct rocksdb_engine *engine = handle;
    struct rocksdb_thread *thread = calloc(1, sizeof *thread);
    if (thread == NULL)
        return bench_fail(setup->error, "out of memory");
    thread->engine = engine;
    thread->setup = *setup;
    thread->content_size = bench_content_size(engine->setup->data.page_size);
    thread->buffer = malloc(thread->content_size);
    if (thread->buffer == NULL) {
        free(thread);
        return bench_fail(setup->error, "out of memory");
    }
    *out_thread = thread;
    return 0;
}

/* Find a page's value. It stays where it is until the slice, the caller's, is destroyed. NULL:
 * there is none of its size. */
static rocksdb_pinnableslice_t *pin(struct rocksdb_thread *thread, uint64_t page,
                                    const char **out_value)
{
    char key[8], *text = NULL;
    size_t size = 0;
    make_key(page, key);
    rocksdb_pinnableslice_t *slice =
        rocksdb_get_pinned(thread->engine->db, thread->engine->reading, key, sizeof key, &text);
    if (text != NULL) {
        fail(thread->setup.error, text, "cannot read a page");
        return NULL;
    }
    *out_value = rocksdb_pinnableslice_value(slice, &size);
    if (*out_value != NULL && size == thread->content_size)
        return slice;
    rocksdb_pinnableslice_destroy(slice);
    bench_fail(thread->setup.error, "page %" PRIu64 " has %zu bytes instead of %u", page, size,
               thread->content_size);
    return NULL;
}

static int get(void *handle, uint64_t page, void *buffer)
{
    struct rocksdb_thread *thread = handle;
    const char *value;
    rocksdb_pinnableslice_t *slice = pin(thread, page, &value);
    if (slice == NULL)
        return -1;
    memcpy(buffer, value, thread->content_size);
    rocksdb_pinnableslice_destroy(slice);
    return 0;
}

static int get_word(void *handle, uint64_t page, uint32_t offset_bytes, uint64_t *out_word)
{
    const char *value;
    rocksdb_pinnableslice_t *slice = pin(handle, page, &value);
    if (slice == NULL)
        return -1;
    memcpy(out_word, value + offset_bytes, sizeof *out_word);
    rocksdb_pinnableslice_destroy(slice);
    return 0;
}

static int read_ops(void *handle, struct bench_op *ops, unsigned count)
{
    struct rocksdb_thread *thread = handle;
    return bench_kv_read(get_word, thread, ops, count);
}

static int update_op(void *handle, struct bench_op *op)
{
    struct rocksdb_thread *thread = handle;
    pthread_mutex_t *lock = &thread->engine->locks[bench_mix(op->where) % LOCK_COUNT];
    pthread_mutex_lock(lock);
    int result = get(thread, op->where, thread->buffer);
    if (result == 0 && bench_check_update(thread->setup.check, op->page, thread->buffer))
        result = put(thread->engine, op->where, thread->buffer, thread->content_size,
                     thread->setup.error);
    pthread_mutex_unlock(lock);
    return result;
}

static int scan_pages(void *handle, uint64_t first, uint64_t count)
{
    struct rocksdb_thread *thread = handle;
    return bench_kv_scan(get, thread, thread->buffer, thread->setup.check, first, count);
}

const struct bench_engine bench_engine_rocksdb = {
    .name = "rocksdb",
    .summary = "RocksDB: each page a value under an integer key",
    .format = "rocksdb",
    .access = "get",
    .uses_page_cache = true,
    .needs_slack = true,
    .keeps_cache = true,
    .reads = BENCH_READS_BLOCKS,
    .relaxed = BENCH_DURABILITY_RELAXED,
    .version = version,
    .disk_bytes = disk_bytes,
    .create = create,
    .open = open_engine,
    .close = close_engine,
    .stats = stats,
    .thread_begin = thread_begin,
    .thread_end = thread_end,
    .read = read_ops,
    .update = update_op,
    .commit = update_op, /* the options of writing make the difference */
    .sync = sync_log,
    .scan = scan_pages,
};
