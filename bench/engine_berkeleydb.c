/* SPDX-License-Identifier: MIT */
/*
 * Engine "berkeleydb": each page a value under an integer key of a DB_BTREE database, with
 * transactions. (DB_RECNO writes through its root, which then stays locked until the commit: no two
 * could be under way.)
 *
 * An update is a transaction that gets the value for writing (DB_RMW) and puts 104 bytes of it; no
 * more than that is logged. Transactions that meet wait; one that the detector of deadlocks chose
 * is tried again. The database's pages are four times as large as the values, so that a value
 * lies in a page rather than in overflow pages, which would be logged whole. commit: DB_TXN_SYNC.
 * Relaxed: DB_TXN_NOSYNC, and log_flush now and then. Half of the memory is the cache.
 */
#include "kv.h"

#include <db.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGES           "pages.bdb"
#define PAGE_FACTOR     4u
#define PAGE_BYTES_MAX  65536u
#define CACHE_MIN       (UINT64_C(2) << 20)
#define LOG_BUFFER      (UINT32_C(4) << 20)
#define LOCKS_MAX       20000u
#define CHECKPOINT_KIB  131072u /* of log between checkpoints, as in the pager */
#define CHECKPOINT_TURN 1024u   /* updates of a thread between looks whether it is time */

struct bdb_engine {
    const struct bench_setup *setup;
    DB_ENV *env;
    DB *db;
    bool durable;
};

struct bdb_thread {
    struct bdb_engine *engine;
    struct bench_thread_setup setup;
    unsigned updates;
    char *buffer;
};

static const char *version(void)
{
    return db_version(NULL, NULL, NULL);
}

/* Pages a quarter free at worst, and the log. */
static uint64_t disk_bytes(uint64_t page_count, uint32_t page_size)
{
    return page_count * page_size / 2 * 3 + (UINT64_C(512) << 20);
}

static int fail(struct bench_error *error, int code, const char *what)
{
    return bench_fail(error, "%s: %s", what, db_strerror(code));
}

static uint32_t database_page(uint32_t page_size)
{
    return page_size * PAGE_FACTOR < PAGE_BYTES_MAX ? page_size * PAGE_FACTOR : PAGE_BYTES_MAX;
}

/* Big-endian: the order of the keys is that of the pages. */
static void make_key(uint64_t page, unsigned char *bytes, DBT *key)
{
    for (int i = 7; i >= 0; i--, page >>= 8)
        bytes[i] = (unsigned char)page;
    *key = (DBT){.data = bytes, .size = 8};
}

/* ---- opening ----------------------------------------------------------------------------------
 */

static void close_engine(void *handle)
{
    struct bdb_engine *engine = handle;
    if (engine->db != NULL)
        engine->db->close(engine->db, 0);
    if (engine->env != NULL)
        engine->env->close(engine->env, 0);
    free(engine);
}

static int open_env(struct bdb_engine *engine, uint64_t cache_bytes, uint32_t flags,
                    struct bench_error *error)
{
    DB_ENV *env;
    if (cache_bytes < CACHE_MIN)
        cache_bytes = CACHE_MIN;
    int code = db_env_create(&env, 0);
    if (code != 0)
        return fail(error, code, "db_env_create");
    engine->env = env;
    if ((code = env->set_cachesize(env, (uint32_t)(cache_bytes >> 30),
                                   (uint32_t)(cache_bytes & ((UINT64_C(1) << 30) - 1)), 1)) != 0 ||
        (code = env->set_lk_detect(env, DB_LOCK_DEFAULT)) != 0 ||
        (code = env->set_lk_max_locks(env, LOCKS_MAX)) != 0 ||
        (code = env->set_lk_max_objects(env, LOCKS_MAX)) != 0 ||
        (code = env->set_lg_bsize(env, LOG_BUFFER)) != 0 ||
        (code = env->log_set_config(env, DB_LOG_AUTO_REMOVE, 1)) != 0 ||
        (code = env->open(env, engine->setup->data.directory,
                          DB_CREATE | DB_PRIVATE | DB_THREAD | flags, 0600)) != 0)
        return fail(error, code, "cannot open the Berkeley DB environment");
    return 0;
}

static int open_database(struct bdb_engine *engine, uint32_t flags, struct bench_error *error)
{
    uint32_t page_size = engine->setup->data.page_size;
    DB *db;
    int code = db_create(&db, engine->env, 0);
    if (code != 0)
        return fail(error, code, "db_create");
    engine->db = db;
    if ((code = db->set_pagesize(db, database_page(page_size))) != 0 ||
        (code = db->open(db, NULL, PAGES, NULL, DB_BTREE, DB_THREAD | flags, 0600)) != 0)
        return fail(error, code, "cannot open the database");
    return 0;
}

static int open_engine(const struct bench_setup *setup, void **out_engine,
                       struct bench_error *error)
{
    struct bdb_engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL)
        return bench_fail(error, "out of memory");
    engine->setup = setup;
    engine->durable = setup->workload == BENCH_COMMIT || setup->workload == BENCH_MIXED;
    if (open_env(engine, bench_kv_cache_bytes(setup),
                 DB_INIT_MPOOL | DB_INIT_TXN | DB_INIT_LOG | DB_INIT_LOCK | DB_RECOVER,
                 error) != 0 ||
        open_database(engine, DB_AUTO_COMMIT, error) != 0) {
        close_engine(engine);
        return -1;
    }
    *out_engine = engine;
    return 0;
}

static void stats(void *handle, struct bench_engine_stats *out_stats)
{
    struct bdb_engine *engine = handle;
    snprintf(out_stats->details, sizeof out_stats->details,
             "values in pages of %u KiB, %s, checkpoint each %u MiB of log; cache of %" PRIu64
             " MiB, and the page cache",
             database_page(engine->setup->data.page_size) >> 10,
             engine->durable ? "DB_TXN_SYNC" : "DB_TXN_NOSYNC", CHECKPOINT_KIB >> 10,
             bench_kv_cache_bytes(engine->setup) >> 20);
}

static int sync_log(void *handle, struct bench_error *error)
{
    struct bdb_engine *engine = handle;
    int code = engine->env->log_flush(engine->env, NULL);
    return code == 0 ? 0 : fail(error, code, "log_flush");
}

/* ---- creating ---------------------------------------------------------------------------------
 */

static int put_values(struct bdb_engine *engine, const struct bench_progress_sink *sink,
                      struct bench_error *error)
{
    const struct bench_data *data = &engine->setup->data;
    uint32_t size = bench_content_size(data->page_size);
    char *buffer = malloc(size);
    int result = buffer == NULL ? bench_fail(error, "out of memory") : 0;
    for (uint64_t page = 0; result == 0 && page < data->page_count; page++) {
        unsigned char bytes[8];
        DBT key;
        DBT value = {.data = buffer, .size = size};
        make_key(page, bytes, &key);
        bench_content_fill(buffer, size, data->seed, page);
        int code = engine->db->put(engine->db, NULL, &key, &value, 0);
        if (code != 0)
            result = fail(error, code, "cannot store a page");
        else if ((page + 1) % BENCH_KV_LOAD_VALUES == 0 &&
                 sink->report(sink->ctx, page + 1, data->page_count) != 0)
            result = bench_fail(error, "interrupted");
    }
    free(buffer);
    return result;
}

/* Without transactions: a log of all the data would be thrown away at once. */
static int create(const struct bench_data *data, const struct bench_progress_sink *sink,
                  struct bench_error *error)
{
    struct bench_setup setup = {.data = *data};
    struct bdb_engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL)
        return bench_fail(error, "out of memory");
    engine->setup = &setup;
    int result = open_env(engine, UINT64_C(64) << 20, DB_INIT_MPOOL, error);
    if (result == 0)
        result = open_database(engine, DB_CREATE, error);
    if (result == 0)
        result = put_values(engine, sink, error);
    if (result == 0) {
        int code = engine->db->sync(engine->db, 0);
        if (code != 0)
            result = fail(error, code, "cannot write out the data");
    }
    close_engine(engine);
    return result;
}

/* ---- threads ----------------------------------------------------------------------------------
 */

static void thread_end(void *handle)
{
    struct bdb_thread *thread = handle;
    free(thread->buffer);
    free(thread);
}

static int thread_begin(void *handle, const struct bench_thread_setup *setup, void **out_thread)
{
    struct bdb_engine *engine = handle;
    struct bdb_thread *thread = calloc(1, sizeof *thread);
    if (thread == NULL)
        return bench_fail(setup->error, "out of memory");
    thread->engine = engine;
    thread->setup = *setup;
    thread->buffer = malloc(bench_content_size(engine->setup->data.page_size));
    if (thread->buffer == NULL) {
        free(thread);
        return bench_fail(setup->error, "out of memory");
    }
    *out_thread = thread;
    return 0;
}

static int fail_page(struct bdb_thread *thread, int code, const char *verb, uint64_t page)
{
    return bench_fail(thread->setup.error, "cannot %s page %" PRIu64 ": %s", verb, page,
                      db_strerror(code));
}

/* Part of a record. */
struct part {
    uint32_t offset_bytes, size_bytes;
};

/* Get part of a record. 0 or Berkeley DB's code. */
static int fetch(struct bdb_thread *thread, DB_TXN *txn, uint64_t page, struct part part,
                 uint32_t flags, void *buffer)
{
    DB *db = thread->engine->db;
    unsigned char bytes[8];
    DBT key;
    make_key(page, bytes, &key);
    DBT value = {.data = buffer,
                 .ulen = part.size_bytes,
                 .doff = part.offset_bytes,
                 .dlen = part.size_bytes,
                 .flags = DB_DBT_USERMEM | DB_DBT_PARTIAL};
    int code = db->get(db, txn, &key, &value, flags);
    return code == 0 && value.size != part.size_bytes ? EIO : code;
}

static int get_part(struct bdb_thread *thread, uint64_t page, struct part part, void *buffer)
{
    int code;
    do /* ends: the detector lets one of those that wait for each other go on */
        code = fetch(thread, NULL, page, part, 0, buffer);
    while (code == DB_LOCK_DEADLOCK);
    return code == 0 ? 0 : fail_page(thread, code, "read", page);
}

static int get(void *handle, uint64_t page, void *buffer)
{
    struct bdb_thread *thread = handle;
    const struct part all = {0, bench_content_size(thread->engine->setup->data.page_size)};
    return get_part(thread, page, all, buffer);
}

static int get_word(void *handle, uint64_t page, uint32_t offset_bytes, uint64_t *out_word)
{
    const struct part word = {offset_bytes, sizeof *out_word};
    return get_part(handle, page, word, out_word);
}

static int read_ops(void *handle, struct bench_op *ops, unsigned count)
{
    struct bdb_thread *thread = handle;
    return bench_kv_read(get_word, thread, ops, count);
}

static int change(struct bdb_thread *thread, DB_TXN *txn, const struct bench_op *op,
                  bool *out_wrong)
{
    DB *db = thread->engine->db;
    const struct part head = {0, BENCH_UPDATE_SEES};
    int code = fetch(thread, txn, op->where, head, DB_RMW, thread->buffer);
    if (code != 0)
        return code;
    *out_wrong = !bench_check_update(thread->setup.check, op->page, thread->buffer);
    if (*out_wrong)
        return 0;
    unsigned char bytes[8];
    DBT key;
    make_key(op->where, bytes, &key);
    DBT value = {.data = thread->buffer + BENCH_UPDATE_OFFSET,
                 .size = BENCH_UPDATE_BYTES,
                 .doff = BENCH_UPDATE_OFFSET,
                 .dlen = BENCH_UPDATE_BYTES,
                 .flags = DB_DBT_PARTIAL};
    return db->put(db, txn, &key, &value, 0);
}

static int update_op(void *handle, struct bench_op *op)
{
    struct bdb_thread *thread = handle;
    struct bdb_engine *engine = thread->engine;
    uint32_t flags = engine->durable ? DB_TXN_SYNC : DB_TXN_NOSYNC;
    int code;
    do { /* ends: the detector lets one of those that wait for each other go on */
        bool wrong = false;
        DB_TXN *txn;
        code = engine->env->txn_begin(engine->env, NULL, &txn, flags);
        if (code != 0)
            break;
        code = change(thread, txn, op, &wrong);
        if (code == 0 && !wrong)
            code = txn->commit(txn, flags);
        else
            txn->abort(txn);
    } while (code == DB_LOCK_DEADLOCK);
    if (code == 0 && engine->setup->log_bytes == 0 && ++thread->updates % CHECKPOINT_TURN == 0)
        code = engine->env->txn_checkpoint(engine->env, CHECKPOINT_KIB, 0, 0);
    return code == 0 ? 0 : fail_page(thread, code, "update", op->page);
}

static uint64_t log_bytes(void *handle)
{
    struct bdb_engine *engine = handle;
    DB_LOG_STAT *log;
    if (engine->env->log_stat(engine->env, &log, 0) != 0)
        return 0;
    uint64_t bytes =
        ((uint64_t)log->st_wc_mbytes << 20) + log->st_wc_bytes; /* since a checkpoint */
    free(log);
    return bytes;
}

static int scan_pages(void *handle, uint64_t first, uint64_t count)
{
    struct bdb_thread *thread = handle;
    return bench_kv_scan(get, thread, thread->buffer, thread->setup.check, first, count);
}

const struct bench_engine bench_engine_berkeleydb = {
    .name = "berkeleydb",
    .summary = "Berkeley DB: each page a value under an integer key, in transactions",
    .format = "berkeleydb",
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
    .commit = update_op, /* the environment's setting makes the difference */
    .sync = sync_log,
    .log_bytes = log_bytes,
    .scan = scan_pages,
};
