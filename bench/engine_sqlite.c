/* SPDX-License-Identifier: MIT */
/*
 * Engine "sqlite": each page a blob in a row, in WAL mode; every thread has a connection. The
 * database's pages are twice as large as the values, so that two of these lie in a leaf. In pages
 * as large as they are none would: each would have a part in a leaf, and the rest in an overflow
 * page.
 *
 * An update opens a transaction (BEGIN IMMEDIATE; SQLite has one writer at a time) and changes 104
 * bytes of the blob in place. commit: synchronous=FULL. Relaxed: NORMAL, where the log is synced
 * only before a checkpoint, so what can be lost is bounded by the checkpoint's threshold of 1000
 * pages. update-random: OFF.
 */
#include "kv.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PAGE_FACTOR      2u
#define PAGE_BYTES_MAX   65536u        /* SQLite has no larger ones: those values overflow */
#define BUSY_MS          60000         /* for whom another's write transaction is in the way */
#define CACHE_KIB        INT64_C(2048) /* of each connection, SQLite's default; the rest: page cache */
#define DATABASE         "pages.db"
#define CHECKPOINT_PAGES 1000u /* SQLite's default */

struct sqlite_engine {
    const struct bench_setup *setup;
    sqlite3 *db; /* keeps the database open, and with it the log */
    const char *synchronous;
};

struct sqlite_thread {
    struct sqlite_engine *engine;
    struct bench_thread_setup setup;
    sqlite3 *db;
    sqlite3_stmt *begin, *commit, *rollback;
    sqlite3_blob *blob; /* moved from row to row */
    char *buffer;
};

static const char *version(void)
{
    return sqlite3_libversion();
}

static uint32_t database_page(uint32_t page_size)
{
    return page_size * PAGE_FACTOR < PAGE_BYTES_MAX ? page_size * PAGE_FACTOR : PAGE_BYTES_MAX;
}

/* Two values fill a leaf, and the tree above is small. With overflow pages, one for each value, the
 * first eighths of seven share a leaf. And a log of some size. */
static uint64_t disk_bytes(uint64_t page_count, uint32_t page_size)
{
    uint64_t percent = database_page(page_size) > page_size ? 102 : 116;
    return page_count * page_size / 100 * percent + (UINT64_C(64) << 20);
}

static int fail(struct bench_error *error, sqlite3 *db, const char *what)
{
    return bench_fail(error, "%s: %s", what, db != NULL ? sqlite3_errmsg(db) : "out of memory");
}

static int run(sqlite3 *db, const char *sql, struct bench_error *error)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : fail(error, db, sql);
}

static int open_database(const struct bench_data *data, const char *synchronous, bool create,
                         uint64_t checkpoint_pages, sqlite3 **out_db, struct bench_error *error)
{
    char path[PATH_MAX + 16], sql[300];
    snprintf(path, sizeof path, "%s/" DATABASE, data->directory);
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (create ? SQLITE_OPEN_CREATE : 0);
    *out_db = NULL;
    if (sqlite3_open_v2(path, out_db, flags, NULL) != SQLITE_OK)
        return fail(error, *out_db, "cannot open the database");
    sqlite3_busy_timeout(*out_db, BUSY_MS);
    snprintf(sql, sizeof sql,
             "PRAGMA page_size=%u; PRAGMA journal_mode=WAL; PRAGMA synchronous=%s; "
             "PRAGMA cache_size=-%" PRId64 "; PRAGMA wal_autocheckpoint=%" PRIu64,
             database_page(data->page_size), synchronous, CACHE_KIB, checkpoint_pages);
    return run(*out_db, sql, error);
}

/* ---- creating ---------------------------------------------------------------------------------
 */

static int put_values(sqlite3 *db, sqlite3_stmt *insert, const struct bench_data *data,
                      uint64_t first, uint64_t count, struct bench_error *error)
{
    uint32_t size = bench_content_size(data->page_size);
    char *buffer = malloc(size);
    int result = buffer == NULL ? bench_fail(error, "out of memory") : run(db, "BEGIN", error);
    for (uint64_t page = first; result == 0 && page < first + count; page++) {
        bench_content_fill(buffer, size, data->seed, page);
        sqlite3_bind_int64(insert, 1, (sqlite3_int64)page);
        sqlite3_bind_blob(insert, 2, buffer, (int)size, SQLITE_STATIC);
        if (sqlite3_step(insert) != SQLITE_DONE)
            result = fail(error, db, "cannot store a page");
        sqlite3_reset(insert);
    }
    free(buffer);
    return result == 0 ? run(db, "COMMIT", error) : -1;
}

static int fill(sqlite3 *db, const struct bench_data *data, const struct bench_progress_sink *sink,
                struct bench_error *error)
{
    sqlite3_stmt *insert = NULL;
    int result = 0;
    if (run(db, "CREATE TABLE pages(id INTEGER PRIMARY KEY, content BLOB NOT NULL)", error) != 0)
        return -1;
    if (sqlite3_prepare_v2(db, "INSERT INTO pages VALUES(?, ?)", -1, &insert, NULL) != SQLITE_OK)
        return fail(error, db, "cannot prepare");
    for (uint64_t page = 0; result == 0 && page < data->page_count; page += BENCH_KV_LOAD_VALUES) {
        uint64_t count = data->page_count - page;
        if (count > BENCH_KV_LOAD_VALUES)
            count = BENCH_KV_LOAD_VALUES;
        result = put_values(db, insert, data, page, count, error);
        if (result == 0 && sink->report(sink->ctx, page + count, data->page_count) != 0)
            result = bench_fail(error, "interrupted");
    }
    sqlite3_finalize(insert);
    return result == 0 ? run(db, "PRAGMA wal_checkpoint(TRUNCATE)", error) : -1;
}

static int create(const struct bench_data *data, const struct bench_progress_sink *sink,
                  struct bench_error *error)
{
    sqlite3 *db = NULL;
    int result = open_database(data, "NORMAL", true, CHECKPOINT_PAGES, &db, error);
    if (result == 0)
        result = fill(db, data, sink, error);
    if (sqlite3_close(db) != SQLITE_OK && result == 0)
        result = fail(error, db, "cannot close the database");
    return result;
}

/* ---- opening ----------------------------------------------------------------------------------
 */

static uint64_t checkpoint_pages(const struct bench_setup *setup)
{
    return setup->log_bytes == 0 ? CHECKPOINT_PAGES : 0; /* 0: never by itself */
}

static void close_engine(void *handle)
{
    struct sqlite_engine *engine = handle;
    sqlite3_close(engine->db);
    free(engine);
}

static int open_engine(const struct bench_setup *setup, void **out_engine,
                       struct bench_error *error)
{
    struct sqlite_engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL)
        return bench_fail(error, "out of memory");
    engine->setup = setup;
    engine->synchronous = setup->workload == BENCH_COMMIT_RELAXED  ? "NORMAL"
                          : setup->workload == BENCH_UPDATE_RANDOM ? "OFF"
                                                                   : "FULL";
    if (open_database(&setup->data, engine->synchronous, false, checkpoint_pages(setup),
                      &engine->db, error) != 0 ||
        run(engine->db, "SELECT max(id) FROM pages", error) != 0) { /* reads the log, if any */
        close_engine(engine);
        return -1;
    }
    *out_engine = engine;
    return 0;
}

static void stats(void *handle, struct bench_engine_stats *out_stats)
{
    struct sqlite_engine *engine = handle;
    snprintf(out_stats->details, sizeof out_stats->details,
             "values in pages of %u KiB, WAL, synchronous=%s, checkpoint at %u pages; cache of "
             "%" PRId64 " KiB a connection, and the page cache",
             database_page(engine->setup->data.page_size) >> 10, engine->synchronous,
             (unsigned)checkpoint_pages(engine->setup), CACHE_KIB);
}

/* ---- threads ----------------------------------------------------------------------------------
 */

static void thread_end(void *handle)
{
    struct sqlite_thread *thread = handle;
    if (thread->blob != NULL)
        sqlite3_blob_close(thread->blob);
    sqlite3_finalize(thread->begin);
    sqlite3_finalize(thread->commit);
    sqlite3_finalize(thread->rollback);
    sqlite3_close(thread->db);
    free(thread->buffer);
    free(thread);
}

static int thread_begin(void *handle, const struct bench_thread_setup *setup, void **out_thread)
{
    struct sqlite_engine *engine = handle;
    const struct bench_data *data = &engine->setup->data;
    struct sqlite_thread *thread = calloc(1, sizeof *thread);
    if (thread == NULL)
        return bench_fail(setup->error, "out of memory");
    thread->engine = engine;
    thread->setup = *setup;
    thread->buffer = malloc(bench_content_size(data->page_size));
    if (thread->buffer == NULL) {
        thread_end(thread);
        return bench_fail(setup->error, "out of memory");
    }
    if (open_database(data, engine->synchronous, false, checkpoint_pages(engine->setup),
                      &thread->db, setup->error) != 0) {
        thread_end(thread);
        return -1;
    }
    if (sqlite3_prepare_v2(thread->db, "BEGIN IMMEDIATE", -1, &thread->begin, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(thread->db, "COMMIT", -1, &thread->commit, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(thread->db, "ROLLBACK", -1, &thread->rollback, NULL) != SQLITE_OK) {
        fail(setup->error, thread->db, "cannot prepare");
        thread_end(thread);
        return -1;
    }
    *out_thread = thread;
    return 0;
}

static int fail_page(struct sqlite_thread *thread, const char *verb, uint64_t page)
{
    return bench_fail(thread->setup.error, "cannot %s page %" PRIu64 ": %s", verb, page,
                      sqlite3_errmsg(thread->db));
}

static int step(sqlite3_stmt *statement)
{
    int code = sqlite3_step(statement);
    sqlite3_reset(statement);
    return code == SQLITE_DONE ? 0 : -1;
}

/* Move the handle to a page. An update of the row by another connection expires it: open anew. */
static int seek(struct sqlite_thread *thread, uint64_t page)
{
    sqlite3_int64 row = (sqlite3_int64)page;
    if (thread->blob != NULL && sqlite3_blob_reopen(thread->blob, row) == SQLITE_OK)
        return 0;
    if (thread->blob != NULL)
        sqlite3_blob_close(thread->blob);
    thread->blob = NULL;
    int writable = bench_workload_writes(thread->engine->setup->workload) &&
                   bench_workload_writes(thread->setup.workload);
    int code =
        sqlite3_blob_open(thread->db, "main", "pages", "content", row, writable, &thread->blob);
    return code == SQLITE_OK ? 0 : -1;
}

/* An open handle is an open transaction: closed after each operation, so that others can write. */
static void leave(struct sqlite_thread *thread)
{
    if (thread->blob != NULL)
        sqlite3_blob_close(thread->blob);
    thread->blob = NULL;
}

static int fetch(struct sqlite_thread *thread, uint64_t page, void *buffer, uint32_t size_bytes,
                 uint32_t offset_bytes)
{
    bool failed =
        seek(thread, page) != 0 ||
        sqlite3_blob_read(thread->blob, buffer, (int)size_bytes, (int)offset_bytes) != SQLITE_OK;
    if (failed)
        fail_page(thread, "read", page);
    if (bench_workload_writes(thread->engine->setup->workload))
        leave(thread);
    return failed ? -1 : 0;
}

static int get(void *handle, uint64_t page, void *buffer)
{
    struct sqlite_thread *thread = handle;
    return fetch(thread, page, buffer, bench_content_size(thread->engine->setup->data.page_size),
                 0);
}

static int get_word(void *handle, uint64_t page, uint32_t offset_bytes, uint64_t *out_word)
{
    return fetch(handle, page, out_word, sizeof *out_word, offset_bytes);
}

static int read_ops(void *handle, struct bench_op *ops, unsigned count)
{
    struct sqlite_thread *thread = handle;
    return bench_kv_read(get_word, thread, ops, count);
}

/* Change the bytes of an update within the open transaction. 1: nothing to commit. */
static int change(struct sqlite_thread *thread, const struct bench_op *op)
{
    char *buffer = thread->buffer;
    if (seek(thread, op->where) != 0 ||
        sqlite3_blob_read(thread->blob, buffer, BENCH_UPDATE_SEES, 0) != SQLITE_OK)
        return -1;
    if (!bench_check_update(thread->setup.check, op->page, buffer))
        return 1;
    int code = sqlite3_blob_write(thread->blob, buffer + BENCH_UPDATE_OFFSET, BENCH_UPDATE_BYTES,
                                  BENCH_UPDATE_OFFSET);
    return code == SQLITE_OK ? 0 : -1;
}

static int update_op(void *handle, struct bench_op *op)
{
    struct sqlite_thread *thread = handle;
    if (step(thread->begin) != 0)
        return fail_page(thread, "begin to update", op->page);
    int changed = change(thread, op);
    if (changed < 0)
        fail_page(thread, "update", op->page);
    leave(thread);
    if (changed != 0) {
        step(thread->rollback);
        return changed < 0 ? -1 : 0;
    }
    return step(thread->commit) == 0 ? 0 : fail_page(thread, "commit", op->page);
}

/* The log is a file that is used from the front again only after a checkpoint. */
static uint64_t log_bytes(void *handle)
{
    struct sqlite_engine *engine = handle;
    char path[PATH_MAX + 32];
    struct stat info;
    snprintf(path, sizeof path, "%s/" DATABASE "-wal", engine->setup->data.directory);
    return stat(path, &info) == 0 ? (uint64_t)info.st_size : 0;
}

static int scan_pages(void *handle, uint64_t first, uint64_t count)
{
    struct sqlite_thread *thread = handle;
    return bench_kv_scan(get, thread, thread->buffer, thread->setup.check, first, count);
}

const struct bench_engine bench_engine_sqlite = {
    .name = "sqlite",
    .summary = "SQLite in WAL mode: each page a blob in a row",
    .format = "sqlite",
    .access = "blob",
    .uses_page_cache = true,
    .keeps_cache = true,
    .reads = BENCH_READS_BLOCKS,
    .syncs_itself = true,
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
    .log_bytes = log_bytes,
    .scan = scan_pages,
};
