/* SPDX-License-Identifier: MIT */
/*
 * Engine "bdb-memp": Berkeley DB's buffer pool alone (DB_MPOOLFILE get and put), over the same file
 * of pages as raw, pool and mmap. Beside "berkeleydb", which goes through a B-tree, it shows what
 * another pool of its own costs for a page.
 *
 * Pages are read through the page cache: Debian's library is built without O_DIRECT. So half of the
 * memory is the cache, as for the other peers. Data that fit are an exception: the cache is all of
 * the memory then, and the page cache, which is not needed once the pages are in, gives way. With
 * half, a third of the reads of 1 GiB missed at 1200 MiB.
 *
 * Reads only. To change a page one gets it with DB_MPOOL_DIRTY, but in 5.3.28 the public get drops
 * that flag before it looks for the page (__memp_fget_pp clears it in order to check the other
 * flags): memp_stat shows no dirty page, the change is lost at the next eviction, and two threads
 * have the page at once.
 */
#include "kv.h"
#include "storefile.h"

#include <db.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CACHE_MIN (UINT64_C(2) << 20)

struct memp_engine {
    const struct bench_setup *setup;
    DB_ENV *env;
    DB_MPOOLFILE *file;
    struct bench_extents extents;
    atomic_flag counting; /* the counts of hits and misses begin after the scan that warms up */
};

struct memp_thread {
    struct memp_engine *engine;
    struct bench_thread_setup setup;
};

static const char *version(void)
{
    return db_version(NULL, NULL, NULL);
}

static int fail(struct bench_error *error, int code, const char *what)
{
    return bench_fail(error, "%s: %s", what, db_strerror(code));
}

static uint64_t locate(void *handle, uint64_t page)
{
    const struct memp_engine *engine = handle;
    return bench_extents_locate(&engine->extents, page);
}

/* ---- opening ----------------------------------------------------------------------------------
 */

static void close_engine(void *handle)
{
    struct memp_engine *engine = handle;
    if (engine->file != NULL)
        engine->file->close(engine->file, 0);
    if (engine->env != NULL)
        engine->env->close(engine->env, 0);
    bench_extents_free(&engine->extents);
    free(engine);
}

static uint64_t cache_size(const struct bench_setup *setup)
{
    uint64_t bytes = setup->fits ? setup->mem_bytes : bench_kv_cache_bytes(setup);
    return bytes < CACHE_MIN ? CACHE_MIN : bytes;
}

static int open_env(struct memp_engine *engine, struct bench_error *error)
{
    uint64_t cache_bytes = cache_size(engine->setup);
    DB_ENV *env;
    int code = db_env_create(&env, 0);
    if (code != 0)
        return fail(error, code, "db_env_create");
    engine->env = env;
    if ((code = env->set_cachesize(env, (uint32_t)(cache_bytes >> 30),
                                   (uint32_t)(cache_bytes & ((UINT64_C(1) << 30) - 1)), 1)) != 0 ||
        (code = env->open(env, engine->setup->data.directory,
                          DB_CREATE | DB_PRIVATE | DB_THREAD | DB_INIT_MPOOL, 0600)) != 0)
        return fail(error, code, "cannot open the Berkeley DB environment");
    return 0;
}

static int open_file(struct memp_engine *engine, struct bench_error *error)
{
    const struct bench_data *data = &engine->setup->data;
    char path[PATH_MAX];
    DB_MPOOLFILE *file;
    if (bench_store_path(data, "store/data", path, error) != 0)
        return -1;
    int code = engine->env->memp_fcreate(engine->env, &file, 0);
    if (code != 0)
        return fail(error, code, "memp_fcreate");
    engine->file = file;
    /* Without DB_NOMMAP a small file that is only read would be mapped instead of cached. */
    code = file->open(file, path, DB_NOMMAP | DB_RDONLY, 0, data->page_size);
    if (code != 0)
        return fail(error, code, "cannot open the file of pages");
    return 0;
}

static int open_engine(const struct bench_setup *setup, void **out_engine,
                       struct bench_error *error)
{
    struct memp_engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL)
        return bench_fail(error, "out of memory");
    engine->setup = setup;
    atomic_flag_clear_explicit(&engine->counting, memory_order_relaxed);
    if (bench_extents_load(&setup->data, &engine->extents, error) != 0 ||
        open_env(engine, error) != 0 || open_file(engine, error) != 0) {
        close_engine(engine);
        return -1;
    }
    *out_engine = engine;
    return 0;
}

static void stats(void *handle, struct bench_engine_stats *out_stats)
{
    struct memp_engine *engine = handle;
    DB_MPOOL_STAT *memp;
    uint64_t hits = 0, misses = 0;
    if (engine->env->memp_stat(engine->env, &memp, NULL, 0) == 0) {
        hits = memp->st_cache_hit;
        misses = memp->st_cache_miss;
        free(memp);
    }
    snprintf(out_stats->details, sizeof out_stats->details,
             "DB_MPOOLFILE, through the page cache; cache of %" PRIu64 " MiB, %s; hits %.1f %%",
             cache_size(engine->setup) >> 20,
             engine->setup->fits ? "all of the memory since the data fit" : "half of the memory",
             hits + misses > 0 ? 100.0 * (double)hits / (double)(hits + misses) : 0);
}

/* ---- threads ----------------------------------------------------------------------------------
 */

static void thread_end(void *handle)
{
    free(handle);
}

static void clear_counts(struct memp_engine *engine)
{
    DB_MPOOL_STAT *memp;
    if (engine->env->memp_stat(engine->env, &memp, NULL, DB_STAT_CLEAR) == 0)
        free(memp);
}

static int thread_begin(void *handle, const struct bench_thread_setup *setup, void **out_thread)
{
    struct memp_thread *thread = calloc(1, sizeof *thread);
    if (thread == NULL)
        return bench_fail(setup->error, "out of memory");
    thread->engine = handle;
    thread->setup = *setup;
    if (setup->workload != BENCH_READ_SCAN &&
        !atomic_flag_test_and_set_explicit(&thread->engine->counting, memory_order_relaxed))
        clear_counts(thread->engine);
    *out_thread = thread;
    return 0;
}

static int fail_page(struct memp_thread *thread, int code, uint64_t page)
{
    return bench_fail(thread->setup.error, "cannot get or put page %" PRIu64 " of the file: %s",
                      page, db_strerror(code));
}

/* Get a page, pinned until put. 0 or Berkeley DB's code. */
static int get(struct memp_thread *thread, uint64_t where, void **out_page)
{
    DB_MPOOLFILE *file = thread->engine->file;
    db_pgno_t number = (db_pgno_t)where;
    return file->get(file, &number, NULL, 0, out_page);
}

static int put(struct memp_thread *thread, void *page)
{
    DB_MPOOLFILE *file = thread->engine->file;
    return file->put(file, page, DB_PRIORITY_UNCHANGED, 0);
}

static int read_ops(void *handle, struct bench_op *ops, unsigned count)
{
    struct memp_thread *thread = handle;
    for (unsigned i = 0; i < count; i++) {
        void *page;
        int code = get(thread, ops[i].where, &page);
        if (code != 0)
            return fail_page(thread, code, ops[i].where);
        memcpy(&ops[i].value, (const char *)page + ops[i].offset_bytes, 8);
        if ((code = put(thread, page)) != 0)
            return fail_page(thread, code, ops[i].where);
    }
    return 0;
}

static int scan_pages(void *handle, uint64_t first, uint64_t count)
{
    struct memp_thread *thread = handle;
    for (uint64_t i = first; i < first + count; i++) {
        const uint64_t where = locate(thread->engine, i);
        void *page;
        int code = get(thread, where, &page);
        if (code != 0)
            return fail_page(thread, code, where);
        const bool more = bench_check_scan(thread->setup.check, i, page);
        if ((code = put(thread, page)) != 0)
            return fail_page(thread, code, where);
        if (!more)
            break;
    }
    return 0;
}

const struct bench_engine bench_engine_bdb_memp = {
    .name = "bdb-memp",
    .summary = "Berkeley DB's buffer pool alone, over the same file of pages; reads only",
    .format = BENCH_STORE_FORMAT,
    .access = "fix",
    .uses_page_cache = true,
    .needs_slack = true,
    .keeps_cache = true,
    .reads = BENCH_READS_BLOCKS,
    .version = version,
    .disk_bytes = bench_store_disk_bytes,
    .create = bench_store_create,
    .open = open_engine,
    .close = close_engine,
    .locate = locate,
    .stats = stats,
    .thread_begin = thread_begin,
    .thread_end = thread_end,
    .read = read_ops,
    .scan = scan_pages,
};
