/* SPDX-License-Identifier: MIT */
/*
 * Engine "lmdb": each page a value under an integer key, one environment, one database.
 *
 * A value is page_size - 32 bytes, which with LMDB's own 16-byte header fills whole overflow pages,
 * as the pager's trailer fills the pager's. Each thread keeps one read transaction, reset and
 * renewed every RENEW_PERIOD reads as LMDB advises, so that no reader holds old pages for ever.
 * Updates: one write transaction each, not synced (MDB_NOSYNC). Commits: one write transaction each
 * in LMDB's default mode, which syncs it. Relaxed: MDB_NOSYNC, and mdb_env_sync now and then. Not
 * in order: until that sync the kernel writes pages as it likes, and a crash of the machine may
 * leave a database that is lost as a whole. So its class is "none".
 *
 * Without the package liblmdb-dev, engine_lmdb_absent.c stands in for this file.
 */
#include "engine.h"

#include <errno.h>
#include <inttypes.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RENEW_PERIOD      256u
#define VALUES_PER_COMMIT 4096u /* a load commits now and then, to bound its dirty pages */

struct lmdb_engine {
    MDB_env *env;
    MDB_dbi dbi;
    uint32_t content_size;
    bool no_readahead, no_sync;
};

struct lmdb_thread {
    struct lmdb_engine *engine;
    struct bench_thread_setup setup;
    MDB_txn *txn; /* for reading; reset between operations when there are updates */
    unsigned reads;
    char *buffer; /* one value, for updates */
};

static const char *version(void)
{
    return mdb_version(NULL, NULL, NULL);
}

static int fail(struct bench_error *error, int code, const char *what)
{
    return bench_fail(error, "%s: %s", what, mdb_strerror(code));
}

static uint64_t value_pages(uint32_t page_size)
{
    uint64_t os_page = (uint64_t)sysconf(_SC_PAGESIZE);
    return (page_size + os_page - 1) / os_page * os_page;
}

/* Values, 24-byte branch entries on half-full pages, and room for transactions. */
static uint64_t disk_bytes(uint64_t page_count, uint32_t page_size)
{
    return page_count * (value_pages(page_size) + 64) + (UINT64_C(4) << 20);
}

/* The map must be large enough for ever; address space costs nothing. */
static uint64_t map_bytes(const struct bench_data *data)
{
    return 2 * disk_bytes(data->page_count, data->page_size) + (UINT64_C(1) << 30);
}

static int open_env(const struct bench_data *data, unsigned flags, unsigned readers,
                    struct lmdb_engine *engine, struct bench_error *error)
{
    int code = mdb_env_create(&engine->env);
    if (code != 0)
        return fail(error, code, "mdb_env_create");
    if ((code = mdb_env_set_mapsize(engine->env, map_bytes(data))) != 0 ||
        (code = mdb_env_set_maxreaders(engine->env, readers)) != 0 ||
        (code = mdb_env_open(engine->env, data->directory, flags, 0600)) != 0) {
        mdb_env_close(engine->env);
        return fail(error, code, "cannot open the LMDB environment");
    }
    return 0;
}

/* ---- creating ---------------------------------------------------------------------------------
 */

static int put_values(struct lmdb_engine *engine, const struct bench_data *data, uint64_t first,
                      uint64_t count, struct bench_error *error)
{
    MDB_txn *txn;
    int code = mdb_txn_begin(engine->env, NULL, 0, &txn);
    if (code != 0)
        return fail(error, code, "mdb_txn_begin");
    code = mdb_dbi_open(txn, NULL, MDB_INTEGERKEY, &engine->dbi);
    for (uint64_t page = first; code == 0 && page < first + count; page++) {
        MDB_val key = {sizeof page, &page};
        MDB_val value = {bench_content_size(data->page_size), NULL};
        code = mdb_put(txn, engine->dbi, &key, &value, MDB_APPEND | MDB_RESERVE);
        if (code == 0)
            bench_content_fill(value.mv_data, bench_content_size(data->page_size), data->seed,
                               page);
    }
    if (code != 0) {
        mdb_txn_abort(txn);
        return fail(error, code, "cannot store a page");
    }
    code = mdb_txn_commit(txn);
    return code == 0 ? 0 : fail(error, code, "mdb_txn_commit");
}

static int create(const struct bench_data *data, const struct bench_progress_sink *sink,
                  struct bench_error *error)
{
    struct lmdb_engine engine = {0};
    if (open_env(data, MDB_NOSYNC, 8, &engine, error) != 0)
        return -1;
    int result = -1;
    for (uint64_t page = 0; page < data->page_count; page += VALUES_PER_COMMIT) {
        uint64_t count = data->page_count - page;
        if (count > VALUES_PER_COMMIT)
            count = VALUES_PER_COMMIT;
        if (put_values(&engine, data, page, count, error) != 0)
            goto close_env;
        if (sink->report(sink->ctx, page + count, data->page_count) != 0) {
            bench_fail(error, "interrupted");
            goto close_env;
        }
    }
    int code = mdb_env_sync(engine.env, 1);
    result = code == 0 ? 0 : fail(error, code, "mdb_env_sync");

close_env:
    mdb_env_close(engine.env);
    return result;
}

/* ---- opening ----------------------------------------------------------------------------------
 */

static int open_engine(const struct bench_setup *setup, void **out_engine,
                       struct bench_error *error)
{
    struct lmdb_engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL)
        return bench_fail(error, "out of memory");
    engine->content_size = bench_content_size(setup->data.page_size);
    engine->no_readahead = setup->advice == BENCH_ADVICE_RANDOM;
    engine->no_sync = setup->workload == BENCH_UPDATE_RANDOM ||
                      setup->workload == BENCH_COMMIT_RELAXED || setup->workload == BENCH_RECOVER;
    unsigned flags = engine->no_sync ? MDB_NOSYNC : 0;
    if (engine->no_readahead)
        flags |= MDB_NORDAHEAD;
    if (open_env(&setup->data, flags, setup->threads_max + 8, engine, error) != 0) {
        free(engine);
        return -1;
    }
    MDB_txn *txn;
    int code = mdb_txn_begin(engine->env, NULL, MDB_RDONLY, &txn);
    if (code == 0) {
        code = mdb_dbi_open(txn, NULL, 0, &engine->dbi);
        if (code == 0)
            code = mdb_txn_commit(txn);
        else
            mdb_txn_abort(txn);
    }
    if (code != 0) {
        mdb_env_close(engine->env);
        free(engine);
        return fail(error, code, "cannot open the LMDB database");
    }
    *out_engine = engine;
    return 0;
}

static void close_engine(void *handle)
{
    struct lmdb_engine *engine = handle;
    mdb_env_close(engine->env);
    free(engine);
}

static void stats(void *handle, struct bench_engine_stats *out_stats)
{
    struct lmdb_engine *engine = handle;
    snprintf(out_stats->details, sizeof out_stats->details,
             "%s; %sread transaction per thread, renewed every %u reads",
             engine->no_readahead ? "MDB_NORDAHEAD" : "kernel read-ahead on",
             engine->no_sync ? "MDB_NOSYNC: a crash may corrupt all since the last sync; " : "",
             RENEW_PERIOD);
}

/* ---- threads ----------------------------------------------------------------------------------
 */

static void thread_end(void *handle)
{
    struct lmdb_thread *thread = handle;
    if (thread->txn != NULL)
        mdb_txn_abort(thread->txn);
    free(thread->buffer);
    free(thread);
}

static int thread_begin(void *handle, const struct bench_thread_setup *setup, void **out_thread)
{
    struct lmdb_thread *thread = calloc(1, sizeof *thread);
    if (thread == NULL)
        return bench_fail(setup->error, "out of memory");
    thread->engine = handle;
    thread->setup = *setup;
    int code = 0;
    if (bench_workload_writes(setup->workload)) {
        thread->buffer = malloc(thread->engine->content_size);
        code = thread->buffer == NULL ? ENOMEM : 0;
    }
    if (code == 0)
        code = mdb_txn_begin(thread->engine->env, NULL, MDB_RDONLY, &thread->txn);
    if (code == 0 && thread->buffer != NULL) /* held, it would keep all old pages in use */
        mdb_txn_reset(thread->txn);
    if (code != 0) {
        thread_end(thread);
        return fail(setup->error, code, "cannot begin");
    }
    *out_thread = thread;
    return 0;
}

static int fail_page(struct lmdb_thread *thread, int code, const char *verb, uint64_t page)
{
    return bench_fail(thread->setup.error, "cannot %s page %" PRIu64 ": %s", verb, page,
                      mdb_strerror(code));
}

static int check_size(struct lmdb_thread *thread, const MDB_val *value, uint64_t page)
{
    if (value->mv_size == thread->engine->content_size)
        return 0;
    return bench_fail(thread->setup.error, "page %" PRIu64 " has %zu bytes instead of %u", page,
                      value->mv_size, thread->engine->content_size);
}

static int renew(struct lmdb_thread *thread)
{
    thread->reads = 0;
    mdb_txn_reset(thread->txn);
    int code = mdb_txn_renew(thread->txn);
    return code == 0 ? 0 : fail(thread->setup.error, code, "mdb_txn_renew");
}

static int read_ops(void *handle, struct bench_op *ops, unsigned count)
{
    struct lmdb_thread *thread = handle;
    bool updates = thread->buffer != NULL;
    for (unsigned i = 0; i < count; i++) {
        if ((updates || ++thread->reads == RENEW_PERIOD) && renew(thread) != 0)
            return -1;
        MDB_val value, key = {sizeof ops[i].where, &ops[i].where};
        int code = mdb_get(thread->txn, thread->engine->dbi, &key, &value);
        if (code != 0)
            return fail_page(thread, code, "read", ops[i].page);
        if (check_size(thread, &value, ops[i].page) != 0)
            return -1;
        memcpy(&ops[i].value, (const char *)value.mv_data + ops[i].offset_bytes, 8);
        if (updates)
            mdb_txn_reset(thread->txn);
    }
    return 0;
}

static int update_op(void *handle, struct bench_op *op)
{
    struct lmdb_thread *thread = handle;
    MDB_val value, key = {sizeof op->where, &op->where};
    MDB_txn *txn;
    int code = mdb_txn_begin(thread->engine->env, NULL, 0, &txn);
    if (code != 0)
        return fail_page(thread, code, "update", op->page);
    code = mdb_get(txn, thread->engine->dbi, &key, &value);
    if (code == 0 && check_size(thread, &value, op->page) != 0) {
        mdb_txn_abort(txn);
        return -1;
    }
    if (code == 0) {
        memcpy(thread->buffer, value.mv_data, value.mv_size);
        if (!bench_check_update(thread->setup.check, op->page, thread->buffer)) {
            mdb_txn_abort(txn);
            return 0;
        }
        value.mv_data = thread->buffer;
        code = mdb_put(txn, thread->engine->dbi, &key, &value, 0);
    }
    if (code != 0)
        mdb_txn_abort(txn);
    else
        code = mdb_txn_commit(txn);
    return code == 0 ? 0 : fail_page(thread, code, "update", op->page);
}

static int sync_env(void *handle, struct bench_error *error)
{
    struct lmdb_engine *engine = handle;
    int code = mdb_env_sync(engine->env, 1);
    return code == 0 ? 0 : fail(error, code, "mdb_env_sync");
}

static int scan_pages(void *handle, uint64_t first, uint64_t count)
{
    struct lmdb_thread *thread = handle;
    MDB_cursor *cursor;
    if (renew(thread) != 0)
        return -1;
    int code = mdb_cursor_open(thread->txn, thread->engine->dbi, &cursor);
    if (code != 0)
        return fail(thread->setup.error, code, "mdb_cursor_open");
    uint64_t page = first;
    MDB_val value, key = {sizeof page, &page};
    MDB_cursor_op step = MDB_SET_KEY;
    int result = 0;
    for (; page < first + count; page++, step = MDB_NEXT) {
        code = mdb_cursor_get(cursor, &key, &value, step);
        if (code != 0)
            result = fail_page(thread, code, "read", page);
        else
            result = check_size(thread, &value, page);
        if (result != 0 || !bench_check_scan(thread->setup.check, page, value.mv_data))
            break;
    }
    mdb_cursor_close(cursor);
    return result;
}

const struct bench_engine bench_engine_lmdb = {
    .name = "lmdb",
    .summary = "LMDB: each page a value under an integer key",
    .format = "lmdb",
    .access = "get",
    .uses_page_cache = true,
    .keeps_cache = true,
    .reads = BENCH_READS_KERNEL_PAGES,
    .relaxed = BENCH_DURABILITY_NONE,
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
    .commit = update_op, /* the environment's flags make the difference */
    .sync = sync_env,
    .scan = scan_pages,
};
