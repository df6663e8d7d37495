/* SPDX-License-Identifier: MIT */
/*
 * Engines "pool" and "mmap": Clockpool's pager with each of its two engines, over the same store
 * (storefile.h).
 *
 * Keeping many reads in flight (pool): a ticket for each slot; with --access optimistic a look
 * without a latch comes first. Updates are prefetched and then fixed one by one, oldest first:
 * holding several exclusive fixes at once, in random order, two threads would wait for each other.
 */
#include "storefile.h"

#include <clockpool/clockpool.h>
#include <clockpool/base/bits.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UPDATE_REAP_DIVISOR 4u /* fix a quarter of the slots at a time, the rest keep coming */

struct pager_engine {
    const struct bench_setup *setup;
    struct cp_pager *pager;
    struct bench_extents extents;
};

struct pager_thread {
    struct pager_engine *engine;
    struct cp_pager *pager;
    const struct cp_page_map *map; /* NULL with the mmap engine */
    struct bench_thread_setup setup;
    struct bench_op **ops;     /* of each slot */
    struct cp_ticket *tickets; /* of each slot */
    struct cp_ticket **flying; /* those of slots in flight; updates: oldest first */
    unsigned flying_count;
    unsigned prefetched; /* of these, the first so many were handed to prefetch (updates) */
    uint64_t *pages;     /* scratch: as many as a batch or a depth needs */
    struct cp_fix *fixes;
};

static const char *version(void)
{
    return cp_version();
}

/* Take over the library's description of the last error. */
static int fail(struct bench_error *error, const char *what)
{
    char text[600];
    return bench_fail(error, "%s: %s", what, cp_error_format(text, sizeof text));
}

static uint64_t locate(void *handle, uint64_t page)
{
    const struct pager_engine *engine = handle;
    return bench_extents_locate(&engine->extents, page);
}

/* ---- opening -----------------------------------------------------------------------------------
 */

static void close_engine(void *handle)
{
    struct pager_engine *engine = handle;
    if (engine->pager != NULL) {
        char text[600];
        const int code = cp_pager_close(engine->pager);
        if (code != 0)
            fprintf(stderr, "clockpool-bench: closing the store: %s\n",
                    cp_error_format(text, sizeof text));
        if (code == CP_EPINNED) /* it is open yet; a worker that failed leaves pages fixed */
            cp_pager_abandon(engine->pager);
    }
    bench_extents_free(&engine->extents);
    free(engine);
}

static int open_pager(const struct bench_setup *setup, enum cp_engine kind, void **out_engine,
                      struct bench_error *error)
{
    static const enum cp_mmap_advice advice[] = {[BENCH_ADVICE_RANDOM] = CP_ADVICE_RANDOM,
                                                 [BENCH_ADVICE_NORMAL] = CP_ADVICE_NORMAL,
                                                 [BENCH_ADVICE_SEQUENTIAL] = CP_ADVICE_SEQUENTIAL};
    struct pager_engine *engine = calloc(1, sizeof *engine);
    char path[PATH_MAX];
    if (engine == NULL)
        return bench_fail(error, "out of memory");
    engine->setup = setup;
    if (bench_store_path(&setup->data, "store", path, error) != 0 ||
        bench_extents_load(&setup->data, &engine->extents, error) != 0)
        goto fail_engine;
    struct cp_pager_options options = {.engine = kind,
                                       .page_size = setup->data.page_size,
                                       .read_only = !bench_workload_writes(setup->workload),
                                       .budget_bytes = setup->mem_bytes,
                                       .register_buffers = true, /* as raw's */
                                       .caching = setup->buffered ? CP_IO_BUFFERED
                                                                  : CP_IO_DIRECT_IF_POSSIBLE,
                                       .advice = advice[setup->advice]};
    if (setup->workload == BENCH_RECOVER) { /* all of it counts: half for the log's records */
        options.recovery_bytes = setup->mem_bytes / 2;
        options.budget_bytes -= options.recovery_bytes;
    }
    if (setup->log_bytes > 0) { /* no checkpoint before the kill, which may come a little late */
        options.log_limit_bytes =
            2 * (setup->log_bytes + setup->mem_bytes) + CP_PAGER_LOG_LIMIT_MAX;
        options.checkpoint_ms = UINT32_MAX;
    }
    /* The mmap engine's budget is for changed pages alone; the page cache needs the rest. */
    if (kind == CP_ENGINE_MMAP)
        options.budget_bytes = setup->mem_bytes / 4;
    if (cp_pager_open(path, &options, &engine->pager) != 0) {
        engine->pager = NULL;
        fail(error, "cannot open the store");
        goto fail_engine;
    }
    *out_engine = engine;
    return 0;

fail_engine:
    close_engine(engine);
    return -1;
}

static int open_pool(const struct bench_setup *setup, void **out_engine, struct bench_error *error)
{
    return open_pager(setup, CP_ENGINE_POOL, out_engine, error);
}

static int open_mmap(const struct bench_setup *setup, void **out_engine, struct bench_error *error)
{
    return open_pager(setup, CP_ENGINE_MMAP, out_engine, error);
}

/* How the log did, after what was said already. */
static void describe_log(const struct cp_pager_stats *stats, struct bench_engine_stats *out_stats)
{
    size_t length = strlen(out_stats->details);
    if (stats->wal.flushes == 0)
        return;
    snprintf(
        out_stats->details + length, sizeof out_stats->details - length,
        "; log by %s (probe: O_DSYNC %u us, fdatasync %u us), %.1f commits a flush, %.0f %% of "
        "the flushes beside another, up to %" PRIu64 " at a time, %.0f %% filler, %" PRIu64
        " checkpoints",
        stats->wal.sync_method, stats->wal.probe_dsync_us, stats->wal.probe_fdatasync_us,
        (double)stats->mtr_commits / (double)stats->wal.flushes,
        100.0 * (double)stats->wal.flights_beside / (double)stats->wal.flushes,
        stats->wal.flights_most,
        100.0 * (double)stats->wal.filler_bytes / (double)(stats->wal.appended_bytes + 1),
        stats->checkpoints);
}

static void pool_stats(void *handle, struct bench_engine_stats *out_stats)
{
    struct pager_engine *engine = handle;
    struct cp_pager_stats stats;
    cp_pager_stats(engine->pager, &stats);
    out_stats->synchronous = strcmp(stats.pool.io_backend, cp_io_backend_sync()->name) == 0;
    snprintf(out_stats->details, sizeof out_stats->details,
             "%s; %s, %u ring%s, buffers: %.0f MiB, %s; budget %" PRIu64
             " MiB, used at most %.1f MiB",
             stats.direct ? "O_DIRECT" : stats.direct_reason, stats.pool.io_backend,
             stats.pool.ring_count, stats.pool.ring_count == 1 ? "" : "s",
             (double)stats.pool.registered_bytes / 1048576.0, stats.pool.buffers_reason,
             stats.pool.budget_bytes >> 20, (double)stats.pool.peak_bytes / 1048576.0);
    describe_log(&stats, out_stats);
}

static void mmap_stats(void *handle, struct bench_engine_stats *out_stats)
{
    static const char *const names[] = {[BENCH_ADVICE_RANDOM] = "random",
                                        [BENCH_ADVICE_NORMAL] = "normal",
                                        [BENCH_ADVICE_SEQUENTIAL] = "sequential"};
    struct pager_engine *engine = handle;
    struct cp_pager_stats stats;
    cp_pager_stats(engine->pager, &stats);
    snprintf(out_stats->details, sizeof out_stats->details,
             "read-only map, advice %s; changed pages in private frames",
             names[engine->setup->advice]);
    describe_log(&stats, out_stats);
}

/* ---- threads -----------------------------------------------------------------------------------
 */

static void thread_end(void *handle)
{
    struct pager_thread *thread = handle;
    free(thread->ops);
    free(thread->tickets);
    free(thread->flying);
    free(thread->pages);
    free(thread->fixes);
    free(thread);
}

static int thread_begin(void *handle, const struct bench_thread_setup *setup, void **out_thread)
{
    struct pager_engine *engine = handle;
    struct pager_thread *thread = calloc(1, sizeof *thread);
    if (thread == NULL)
        return bench_fail(setup->error, "out of memory");
    thread->engine = engine;
    thread->pager = engine->pager;
    thread->map = cp_pager_page_map(engine->pager);
    thread->setup = *setup;
    size_t scratch = setup->batch;
    if (scratch < setup->depth)
        scratch = setup->depth;
    thread->ops = calloc(setup->depth, sizeof *thread->ops);
    thread->tickets = calloc(setup->depth, sizeof *thread->tickets);
    thread->flying = calloc(setup->depth, sizeof(struct cp_ticket *));
    thread->pages = calloc(scratch, sizeof *thread->pages);
    thread->fixes = calloc(scratch, sizeof *thread->fixes);
    if (thread->ops == NULL || thread->tickets == NULL || thread->flying == NULL ||
        thread->pages == NULL || thread->fixes == NULL) {
        thread_end(thread);
        return bench_fail(setup->error, "out of memory");
    }
    *out_thread = thread;
    return 0;
}

/* ---- one at a time, and batches
 * ------------------------------------------------------------------ */

static int read_fail(struct pager_thread *thread)
{
    return fail(thread->setup.error, "cannot read a page");
}

/* Look at a resident page without a latch. False: absent, or it changed meanwhile. */
static inline bool look(const struct cp_page_map *map, struct bench_op *op)
{
    const uint64_t page = op->where; /* loaded once: the fence in validate forgets what op holds */
    uint64_t word;
    const char *data = cp_optimistic_begin(map, page, &word);
    if (__builtin_expect(data == NULL, 0))
        return false;
    uint64_t value = __atomic_load_n((const uint64_t *)(const void *)(data + op->offset_bytes),
                                     __ATOMIC_RELAXED);
    if (__builtin_expect(!cp_optimistic_validate(map, page, word), 0))
        return false;
    op->value = value;
    return true;
}

/* Through a map in registers, as a program with a loop of reads would: so do the other two. */
static int read_optimistic_mapped(struct pager_thread *thread, struct bench_op *ops, unsigned count)
{
    const struct cp_page_map map = *thread->map;
    for (unsigned i = 0; i < count; i++) {
        if (__builtin_expect(look(&map, &ops[i]), 1))
            continue;
        if (cp_pager_read(thread->pager, ops[i].where, ops[i].offset_bytes, &ops[i].value, 8) != 0)
            return read_fail(thread);
    }
    return 0;
}

static int read_optimistic(struct pager_thread *thread, struct bench_op *ops, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (cp_pager_read(thread->pager, ops[i].where, ops[i].offset_bytes, &ops[i].value, 8) != 0)
            return read_fail(thread);
    }
    return 0;
}

static int read_fix_mapped(struct pager_thread *thread, struct bench_op *ops, unsigned count)
{
    const struct cp_page_map map = *thread->map;
    for (unsigned i = 0; i < count; i++) {
        struct cp_fix fix;
        if (__builtin_expect(cp_page_map_fix(&map, ops[i].where, &fix) != 0, 0))
            return read_fail(thread);
        memcpy(&ops[i].value, (const char *)fix.data + ops[i].offset_bytes, 8);
        cp_page_map_unfix(&fix);
    }
    return 0;
}

static int read_fix(struct pager_thread *thread, struct bench_op *ops, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct cp_fix fix;
        if (cp_pager_fix(thread->pager, ops[i].where, CP_SHARED, &fix) != 0)
            return read_fail(thread);
        memcpy(&ops[i].value, (const char *)fix.data + ops[i].offset_bytes, 8);
        cp_pager_unfix(thread->pager, &fix);
    }
    return 0;
}

static int read_batch(struct pager_thread *thread, struct bench_op *ops, unsigned count)
{
    for (unsigned at = 0; at < count; at += thread->setup.batch) {
        unsigned n = (unsigned)cp_min_u64(thread->setup.batch, count - at);
        for (unsigned i = 0; i < n; i++)
            thread->pages[i] = ops[at + i].where;
        if (cp_pager_fix_many(thread->pager, thread->pages, n, CP_SHARED, thread->fixes) != 0)
            return read_fail(thread);
        for (unsigned i = 0; i < n; i++)
            memcpy(&ops[at + i].value,
                   (const char *)thread->fixes[i].data + ops[at + i].offset_bytes, 8);
        cp_pager_unfix_many(thread->pager, thread->fixes, n);
    }
    return 0;
}

static int read_batch_mapped(struct pager_thread *thread, struct bench_op *ops, unsigned count)
{
    const struct cp_page_map map = *thread->map;
    uint64_t *pages = thread->pages;
    struct cp_fix *fixes = thread->fixes;
    while (count > 0) {
        unsigned n = (unsigned)cp_min_u64(thread->setup.batch, count);
        for (unsigned i = 0; i < n; i++) {
            pages[i] = ops[i].where;
            cp_page_map_prefetch_line(&map, ops[i].where, ops[i].offset_bytes);
        }
        if (__builtin_expect(cp_page_map_fix_many(&map, pages, n, fixes) != 0, 0))
            return read_fail(thread);
        for (unsigned i = 0; i < n; i++)
            memcpy(&ops[i].value, (const char *)fixes[i].data + ops[i].offset_bytes, 8);
        cp_page_map_unfix_many(fixes, n);
        ops += n;
        count -= n;
    }
    return 0;
}

static int read_ops(void *handle, struct bench_op *ops, unsigned count)
{
    struct pager_thread *thread = handle;
    const bool mapped = thread->map != NULL;
    switch (thread->setup.access) {
    case BENCH_OPTIMISTIC:
        return (mapped ? read_optimistic_mapped : read_optimistic)(thread, ops, count);
    case BENCH_BATCH:
        return (mapped ? read_batch_mapped : read_batch)(thread, ops, count);
    case BENCH_FIX:
        break;
    }
    return (mapped ? read_fix_mapped : read_fix)(thread, ops, count);
}

static int update_op(void *handle, struct bench_op *op)
{
    struct pager_thread *thread = handle;
    struct cp_fix fix;
    if (cp_pager_fix(thread->pager, op->where, CP_EXCLUSIVE, &fix) != 0)
        return fail(thread->setup.error, "cannot fix a page for writing");
    int code = 0;
    if (bench_check_update(thread->setup.check, op->page, fix.data))
        code = cp_pager_mark_dirty(thread->pager, &fix);
    cp_pager_unfix(thread->pager, &fix);
    return code == 0 ? 0 : fail(thread->setup.error, "cannot mark a page dirty");
}

/*
 * One mini-transaction. Nobody holds a page while he waits for another, so a deadlock cannot
 * happen; it is tried again all the same, as the interface asks.
 */
static int commit_op(void *handle, struct bench_op *op)
{
    struct pager_thread *thread = handle;
    bool durable = thread->setup.workload == BENCH_COMMIT || thread->setup.workload == BENCH_MIXED;
    struct cp_mtr *mtr;
    void *data;
    int code;
    do { /* ends: of those that wait for each other one goes on */
        if (cp_mtr_begin(thread->pager, &mtr) != 0)
            return fail(thread->setup.error, "cannot begin");
        code = cp_mtr_fix(mtr, op->where, CP_EXCLUSIVE, &data);
        if (code != 0)
            cp_mtr_abort(mtr);
    } while (code == CP_EDEADLOCK);
    if (code != 0)
        return fail(thread->setup.error, "cannot fix a page for writing");
    if (!bench_check_update(thread->setup.check, op->page, data)) {
        cp_mtr_abort(mtr);
        return 0;
    }
    if (cp_mtr_commit(mtr, durable ? CP_COMMIT_DURABLE : CP_COMMIT_RELAXED, NULL) != 0)
        return fail(thread->setup.error, "cannot commit");
    return 0;
}

static int sync_log(void *handle, struct bench_error *error)
{
    struct pager_engine *engine = handle;
    struct cp_pager_stats stats;
    cp_pager_stats(engine->pager, &stats);
    if (cp_pager_wait_durable(engine->pager, stats.wal.end) != 0)
        return fail(error, "cannot make commits durable");
    return 0;
}

static uint64_t log_bytes(void *handle)
{
    struct pager_engine *engine = handle;
    struct cp_pager_stats stats;
    cp_pager_stats(engine->pager, &stats);
    return stats.wal.end - stats.checkpoint_lsn;
}

static void recovered(void *handle, uint64_t *out_log_bytes, uint64_t *out_pages)
{
    struct pager_engine *engine = handle;
    struct cp_pager_stats stats;
    cp_pager_stats(engine->pager, &stats);
    *out_log_bytes = stats.recovered_bytes;
    *out_pages = stats.recovered_pages;
}

/* ---- many at a time (pool)
 * ------------------------------------------------------------------------ */

static int start_op(void *handle, unsigned slot, struct bench_op *op)
{
    struct pager_thread *thread = handle;
    if (thread->setup.workload != BENCH_UPDATE_RANDOM) {
        if (thread->setup.access == BENCH_OPTIMISTIC && look(thread->map, op))
            return 1;
        if (cp_pager_begin(thread->pager, &op->where, 1, CP_SHARED, &thread->tickets[slot]) != 0)
            return read_fail(thread);
    }
    thread->ops[slot] = op;
    thread->flying[thread->flying_count++] = &thread->tickets[slot];
    return 0;
}

static void expect_ops(void *handle, const struct bench_op *ops, unsigned count)
{
    struct pager_thread *thread = handle;
    uint64_t pages[BENCH_EXPECT_MAX];
    for (unsigned i = 0; i < count; i++)
        pages[i] = ops[i].where;
    cp_pager_expect(thread->pager, pages, count);
}

static int finish_ticket(struct pager_thread *thread, unsigned slot)
{
    struct cp_ticket *ticket = &thread->tickets[slot];
    struct bench_op *op = thread->ops[slot];
    if (cp_pager_wait(thread->pager, ticket) != 0)
        return read_fail(thread);
    memcpy(&op->value, (const char *)ticket->fix.data + op->offset_bytes, 8);
    cp_pager_unfix(thread->pager, &ticket->fix);
    return 0;
}

/* The slot of a ticket in flight. */
static unsigned slot_of(const struct pager_thread *thread, unsigned index)
{
    return (unsigned)(thread->flying[index] - thread->tickets);
}

/* The first count of those in flight are done. */
static void landed(struct pager_thread *thread, unsigned count)
{
    thread->flying_count -= count;
    memmove(thread->flying, thread->flying + count,
            thread->flying_count * sizeof(struct cp_ticket *));
}

static int reap_reads(struct pager_thread *thread, unsigned *out_slots, unsigned capacity)
{
    unsigned ready = cp_pager_wait_some(thread->pager, thread->flying, thread->flying_count);
    unsigned done = (unsigned)cp_min_u64(ready, capacity);
    for (unsigned i = 0; i < done; i++) {
        out_slots[i] = slot_of(thread, i);
        if (finish_ticket(thread, out_slots[i]) != 0)
            return -1;
    }
    landed(thread, done);
    return (int)done;
}

static int reap_updates(struct pager_thread *thread, unsigned *out_slots, unsigned capacity)
{
    unsigned fresh = thread->flying_count - thread->prefetched;
    for (unsigned i = 0; i < fresh; i++)
        thread->pages[i] = thread->ops[slot_of(thread, thread->prefetched + i)]->where;
    if (fresh > 0 && cp_pager_prefetch(thread->pager, thread->pages, fresh) < 0)
        return fail(thread->setup.error, "cannot prefetch pages");
    unsigned count = thread->flying_count / UPDATE_REAP_DIVISOR;
    count = (unsigned)cp_min_u64(count == 0 ? 1 : count, capacity);
    for (unsigned i = 0; i < count; i++) {
        out_slots[i] = slot_of(thread, i);
        if (update_op(thread, thread->ops[out_slots[i]]) != 0)
            return -1;
    }
    landed(thread, count);
    thread->prefetched = thread->flying_count;
    return (int)count;
}

static int reap_ops(void *handle, unsigned *out_slots, unsigned capacity)
{
    struct pager_thread *thread = handle;
    if (thread->setup.workload == BENCH_UPDATE_RANDOM)
        return reap_updates(thread, out_slots, capacity);
    return reap_reads(thread, out_slots, capacity);
}

/* ---- scanning
 * --------------------------------------------------------------------------------------- */

static int scan_pages(void *handle, uint64_t first, uint64_t count)
{
    struct pager_thread *thread = handle;
    uint64_t begin = locate(thread->engine, first);
    uint64_t end = locate(thread->engine, first + count - 1) + 1;
    struct cp_scan scan;
    struct cp_fix fix;
    bool more = true;
    if (cp_pager_scan_begin(thread->pager, begin, end - begin, &scan) != 0)
        return fail(thread->setup.error, "cannot begin a scan");
    for (uint64_t page = first; more && page < first + count; page++) {
        scan.next = locate(thread->engine, page); /* pages between extents were never written */
        int code = cp_pager_scan_next(thread->pager, &scan, &fix);
        if (code < 0)
            return read_fail(thread);
        if (code == 0)
            return bench_fail(thread->setup.error, "a scan ended before page %" PRIu64, page);
        more = bench_check_scan(thread->setup.check, page, fix.data);
        cp_pager_unfix(thread->pager, &fix);
    }
    return 0;
}

const struct bench_engine bench_engine_pool = {
    .name = "pool",
    .summary = "Clockpool's buffer pool: clock sweep, O_DIRECT, io_uring",
    .format = BENCH_STORE_FORMAT,
    .deep = true,
    .keeps_cache = true,
    .syncs_itself = true,
    .relaxed = BENCH_DURABILITY_RELAXED,
    .version = version,
    .disk_bytes = bench_store_disk_bytes,
    .create = bench_store_create,
    .open = open_pool,
    .close = close_engine,
    .locate = locate,
    .stats = pool_stats,
    .thread_begin = thread_begin,
    .thread_end = thread_end,
    .read = read_ops,
    .start = start_op,
    .expect = expect_ops,
    .reap = reap_ops,
    .update = update_op,
    .commit = commit_op,
    .sync = sync_log,
    .log_bytes = log_bytes,
    .recovered = recovered,
    .scan = scan_pages,
};

const struct bench_engine bench_engine_mmap = {
    .name = "mmap",
    .summary = "Clockpool's mmap engine: the file mapped, the kernel's page cache caching",
    .format = BENCH_STORE_FORMAT,
    .uses_page_cache = true,
    .keeps_cache = true,
    .reads = BENCH_READS_KERNEL_PAGES,
    .syncs_itself = true,
    .relaxed = BENCH_DURABILITY_RELAXED,
    .version = version,
    .disk_bytes = bench_store_disk_bytes,
    .create = bench_store_create,
    .open = open_mmap,
    .close = close_engine,
    .locate = locate,
    .stats = mmap_stats,
    .thread_begin = thread_begin,
    .thread_end = thread_end,
    .read = read_ops,
    .update = update_op,
    .commit = commit_op,
    .sync = sync_log,
    .log_bytes = log_bytes,
    .recovered = recovered,
    .scan = scan_pages,
};
