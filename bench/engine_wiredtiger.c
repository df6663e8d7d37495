/* SPDX-License-Identifier: MIT */
/*
 * Engine "wiredtiger": each page a value under an integer key, in a table that is logged.
 *
 * An update is a transaction that modifies 104 bytes of the value (WT_CURSOR.modify, so no more
 * than that is logged), and is tried again when it meets another. commit: the log is synced by
 * fsync. Relaxed: it is not, and a call of log_flush now and then does. Leaf pages hold a value or
 * two, the best for random access. WiredTiger's cache has half of the memory.
 */
#include "kv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wiredtiger.h>

#define TABLE          "table:pages"
#define CACHE_MIN      (UINT64_C(4) << 20)
#define LOG_CHECKPOINT (UINT64_C(128) << 20) /* of log between checkpoints, as in the pager */

struct wt_engine {
    const struct bench_setup *setup;
    WT_CONNECTION *connection;
    WT_SESSION *session; /* of sync and log_bytes, which one thread calls */
    bool durable;
};

struct wt_thread {
    struct wt_engine *engine;
    struct bench_thread_setup setup;
    WT_SESSION *session;
    WT_CURSOR *cursor;
    char *buffer;
};

static const char *version(void)
{
    return wiredtiger_version(NULL, NULL, NULL);
}

/* Blocks of 4 KiB, two values with their headers in three; and the log. */
static uint64_t disk_bytes(uint64_t page_count, uint32_t page_size)
{
    return page_count * page_size * 2 + (UINT64_C(512) << 20);
}

static int fail(struct bench_error *error, int code, const char *what)
{
    return bench_fail(error, "%s: %s", what, wiredtiger_strerror(code));
}

static int connect_to(const struct bench_data *data, uint64_t cache_bytes, const char *more,
                      WT_CONNECTION **out_connection, struct bench_error *error)
{
    char config[600];
    if (cache_bytes < CACHE_MIN)
        cache_bytes = CACHE_MIN;
    snprintf(config, sizeof config, "create,session_max=400,cache_size=%" PRIu64 ",%s", cache_bytes,
             more);
    int code = wiredtiger_open(data->directory, NULL, config, out_connection);
    return code == 0 ? 0 : fail(error, code, "cannot open the WiredTiger database");
}

/* ---- creating ---------------------------------------------------------------------------------
 */

static int put_values(WT_SESSION *session, const struct bench_data *data,
                      const struct bench_progress_sink *sink, struct bench_error *error)
{
    WT_CURSOR *cursor;
    uint32_t size = bench_content_size(data->page_size);
    char *buffer = malloc(size);
    if (buffer == NULL)
        return bench_fail(error, "out of memory");
    int result = 0, code = session->open_cursor(session, TABLE, NULL, "bulk", &cursor);
    if (code != 0)
        result = fail(error, code, "cannot open a cursor");
    for (uint64_t page = 0; result == 0 && page < data->page_count; page++) {
        WT_ITEM value = {.data = buffer, .size = size};
        bench_content_fill(buffer, size, data->seed, page);
        cursor->set_key(cursor, page);
        cursor->set_value(cursor, &value);
        code = cursor->insert(cursor);
        if (code != 0)
            result = fail(error, code, "cannot store a page");
        else if ((page + 1) % BENCH_KV_LOAD_VALUES == 0 &&
                 sink->report(sink->ctx, page + 1, data->page_count) != 0)
            result = bench_fail(error, "interrupted");
    }
    free(buffer);
    return result;
}

static int create(const struct bench_data *data, const struct bench_progress_sink *sink,
                  struct bench_error *error)
{
    WT_CONNECTION *connection;
    WT_SESSION *session;
    char config[200];
    if (connect_to(data, UINT64_C(64) << 20, "log=(enabled=true)", &connection, error) != 0)
        return -1;
    snprintf(config, sizeof config,
             "key_format=Q,value_format=u,allocation_size=4KB,leaf_page_max=%uKB,"
             "leaf_value_max=%uKB",
             2 * data->page_size >> 10, 2 * data->page_size >> 10);
    int result = 0, code = connection->open_session(connection, NULL, NULL, &session);
    if (code == 0)
        code = session->create(session, TABLE, config);
    if (code != 0)
        result = fail(error, code, "cannot make the table");
    else
        result = put_values(session, data, sink, error);
    code = connection->close(connection, NULL); /* with a checkpoint, synced */
    if (code != 0 && result == 0)
        result = fail(error, code, "cannot close the database");
    return result;
}

/* ---- opening ----------------------------------------------------------------------------------
 */

static void close_engine(void *handle)
{
    struct wt_engine *engine = handle;
    if (engine->connection != NULL)
        engine->connection->close(engine->connection, NULL);
    free(engine);
}

static int open_engine(const struct bench_setup *setup, void **out_engine,
                       struct bench_error *error)
{
    char more[300], checkpoint[60] = "";
    struct wt_engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL)
        return bench_fail(error, "out of memory");
    engine->setup = setup;
    engine->durable = setup->workload == BENCH_COMMIT || setup->workload == BENCH_MIXED;
    if (setup->log_bytes > 0) /* no checkpoint, and the log's length is asked for */
        snprintf(checkpoint, sizeof checkpoint, ",statistics=(fast)");
    else
        snprintf(checkpoint, sizeof checkpoint, ",checkpoint=(log_size=%" PRIu64 ",wait=60)",
                 LOG_CHECKPOINT);
    snprintf(more, sizeof more,
             "log=(enabled=true,recover=on),transaction_sync=(enabled=%s,"
             "method=fsync)%s",
             engine->durable ? "true" : "false", checkpoint);
    if (connect_to(&setup->data, bench_kv_cache_bytes(setup), more, &engine->connection, error) !=
        0) {
        engine->connection = NULL;
        close_engine(engine);
        return -1;
    }
    int code = engine->connection->open_session(engine->connection, NULL, NULL, &engine->session);
    if (code != 0) {
        close_engine(engine);
        return fail(error, code, "cannot open a session");
    }
    *out_engine = engine;
    return 0;
}

static void stats(void *handle, struct bench_engine_stats *out_stats)
{
    struct wt_engine *engine = handle;
    snprintf(out_stats->details, sizeof out_stats->details,
             "log on, transaction_sync %s; cache of %" PRIu64 " MiB, and the page cache",
             engine->durable ? "fsync" : "off", bench_kv_cache_bytes(engine->setup) >> 20);
}

static int sync_log(void *handle, struct bench_error *error)
{
    struct wt_engine *engine = handle;
    int code = engine->session->log_flush(engine->session, "sync=on");
    return code == 0 ? 0 : fail(error, code, "log_flush");
}

/* ---- threads ----------------------------------------------------------------------------------
 */

static void thread_end(void *handle)
{
    struct wt_thread *thread = handle;
    if (thread->session != NULL)
        thread->session->close(thread->session, NULL);
    free(thread->buffer);
    free(thread);
}

static int thread_begin(void *handle, const struct bench_thread_setup *setup, void **out_thread)
{
    struct wt_engine *engine = handle;
    WT_CONNECTION *connection = engine->connection;
    struct wt_thread *thread = calloc(1, sizeof *thread);
    if (thread == NULL)
        return bench_fail(setup->error, "out of memory");
    thread->engine = engine;
    thread->setup = *setup;
    thread->buffer = malloc(bench_content_size(engine->setup->data.page_size));
    if (thread->buffer == NULL) {
        thread_end(thread);
        return bench_fail(setup->error, "out of memory");
    }
    int code = connection->open_session(connection, NULL, "isolation=snapshot", &thread->session);
    if (code == 0)
        code = thread->session->open_cursor(thread->session, TABLE, NULL, NULL, &thread->cursor);
    if (code != 0) {
        thread_end(thread);
        return fail(setup->error, code, "cannot open a session");
    }
    *out_thread = thread;
    return 0;
}

static int fail_page(struct wt_thread *thread, int code, const char *verb, uint64_t page)
{
    return bench_fail(thread->setup.error, "cannot %s page %" PRIu64 ": %s", verb, page,
                      wiredtiger_strerror(code));
}

/* Position the cursor, and copy size_bytes of the value, from offset_bytes on. 0 or WiredTiger's
 * code. */
static int fetch(struct wt_thread *thread, uint64_t page, void *buffer, uint32_t size_bytes,
                 uint32_t offset_bytes)
{
    WT_ITEM value;
    WT_CURSOR *cursor = thread->cursor;
    cursor->set_key(cursor, page);
    int code = cursor->search(cursor);
    if (code == 0)
        code = cursor->get_value(cursor, &value);
    if (code == 0 && value.size < (size_t)offset_bytes + size_bytes)
        code = WT_NOTFOUND;
    if (code == 0)
        memcpy(buffer, (const char *)value.data + offset_bytes, size_bytes);
    return code;
}

static int get_part(struct wt_thread *thread, uint64_t page, void *buffer, uint32_t size_bytes,
                    uint32_t offset_bytes)
{
    int code = fetch(thread, page, buffer, size_bytes, offset_bytes);
    thread->cursor->reset(thread->cursor);
    return code == 0 ? 0 : fail_page(thread, code, "read", page);
}

static int get(void *handle, uint64_t page, void *buffer)
{
    struct wt_thread *thread = handle;
    return get_part(thread, page, buffer, bench_content_size(thread->engine->setup->data.page_size),
                    0);
}

static int get_word(void *handle, uint64_t page, uint32_t offset_bytes, uint64_t *out_word)
{
    return get_part(handle, page, out_word, sizeof *out_word, offset_bytes);
}

static int read_ops(void *handle, struct bench_op *ops, unsigned count)
{
    struct wt_thread *thread = handle;
    return bench_kv_read(get_word, thread, ops, count);
}

/* Within a transaction. 0, 1: nothing to commit, or WiredTiger's code. */
static int change(struct wt_thread *thread, const struct bench_op *op, bool *out_wrong)
{
    WT_CURSOR *cursor = thread->cursor;
    int code = fetch(thread, op->where, thread->buffer, BENCH_UPDATE_SEES, 0);
    if (code != 0)
        return code;
    *out_wrong = !bench_check_update(thread->setup.check, op->page, thread->buffer);
    if (*out_wrong)
        return 0;
    WT_MODIFY modify = {
        .data = {.data = thread->buffer + BENCH_UPDATE_OFFSET, .size = BENCH_UPDATE_BYTES},
        .offset = BENCH_UPDATE_OFFSET,
        .size = BENCH_UPDATE_BYTES};
    return cursor->modify(cursor, &modify, 1);
}

static int update_op(void *handle, struct bench_op *op)
{
    struct wt_thread *thread = handle;
    WT_SESSION *session = thread->session;
    int code;
    do { /* ends: of transactions that meet one goes on */
        bool wrong = false;
        code = session->begin_transaction(session, NULL);
        if (code != 0)
            break;
        code = change(thread, op, &wrong);
        if (code == 0 && !wrong)
            code = session->commit_transaction(session, NULL);
        else
            session->rollback_transaction(session, NULL);
    } while (code == WT_ROLLBACK);
    thread->cursor->reset(thread->cursor);
    return code == 0 ? 0 : fail_page(thread, code, "update", op->page);
}

static uint64_t log_bytes(void *handle)
{
    struct wt_engine *engine = handle;
    WT_SESSION *session = engine->session;
    WT_CURSOR *cursor;
    const char *name, *text;
    int64_t value = 0;
    if (session->open_cursor(session, "statistics:", NULL, NULL, &cursor) != 0)
        return 0;
    cursor->set_key(cursor, WT_STAT_CONN_LOG_BYTES_WRITTEN);
    if (cursor->search(cursor) != 0 || cursor->get_value(cursor, &name, &text, &value) != 0)
        value = 0;
    cursor->close(cursor);
    return (uint64_t)value;
}

static int scan_pages(void *handle, uint64_t first, uint64_t count)
{
    struct wt_thread *thread = handle;
    return bench_kv_scan(get, thread, thread->buffer, thread->setup.check, first, count);
}

const struct bench_engine bench_engine_wiredtiger = {
    .name = "wiredtiger",
    .summary = "WiredTiger: each page a value under an integer key, logged",
    .format = "wiredtiger",
    .access = "cursor",
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
    .commit = update_op, /* the connection's setting makes the difference */
    .sync = sync_log,
    .log_bytes = log_bytes,
    .scan = scan_pages,
};
