/* SPDX-License-Identifier: MIT */
/*
 * Random pages of a store are changed by small transactions whose commits do not wait; now and then
 * one wait makes all of them durable. So the log's durable end lags behind what memory contains,
 * while the data does not fit into memory and pages have to be written. What is written when is up
 * to the engine, or to the kernel.
 */
#include "order_work.h"

#include "common/signals.h"
#include "crash/fuse_recorder.h"
#include "crash/recorder.h"
#include "random.h"

#include <clockpool/clockpool.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOAD_BATCH 1024u /* pages between two syncs while loading: they must fit into no cache */

struct work {
    const struct order_job *job;
    const char *store; /* the directory of the store */
    struct cp_io *io;  /* NULL: the pager's own */
    void (*loaded)(void *ctx);
    void *ctx;
    char *text;
    size_t text_capacity;
    struct cp_pager *pager;
    uint64_t first, count; /* pages */
    int data_fd;           /* of the data file, to nudge the kernel with; -1: never */
};

static int fail(const struct work *work, const char *what)
{
    char error[512];
    snprintf(work->text, work->text_capacity, "%s: %s", what, cp_error_format(error, sizeof error));
    return -1;
}

static int open_store(struct work *work)
{
    const struct order_job *job = work->job;
    const bool pool = job->engine == CP_ENGINE_POOL;
    const struct cp_pager_options options = {
        .engine = job->engine,
        .create = true,
        .exclusive = true,
        .page_size = job->page_size,
        /* The mmap engine's budget is for changed pages alone; the page cache gets the rest. */
        .budget_bytes = pool ? job->mem_bytes : job->mem_bytes / 4,
        .unsafe_in_place = job->in_place,
        .background = CP_BACKGROUND_NONE, /* nobody else makes commits durable */
        .io = work->io,
    };
    return cp_pager_open(work->store, &options, &work->pager) == 0 ? 0
                                                                   : fail(work, "create the store");
}

static int load(struct work *work)
{
    work->count = work->job->size_bytes / work->job->page_size;
    if (cp_pager_allocate_run(work->pager, work->count, &work->first) != 0)
        return fail(work, "allocate pages");
    for (uint64_t i = 0; i < work->count; i++) {
        struct cp_fix fix;
        if (cp_pager_fix_new(work->pager, work->first + i, &fix) != 0)
            return fail(work, "fill a page");
        memset(fix.data, (int)(i & 0xff), cp_pager_payload_size(work->pager));
        cp_pager_unfix(work->pager, &fix);
        if (i % LOAD_BATCH == LOAD_BATCH - 1 && cp_pager_sync(work->pager) != 0)
            return fail(work, "sync");
    }
    return cp_pager_sync(work->pager) == 0 ? 0 : fail(work, "sync");
}

/* One transaction; *out_lsn is its commit's. */
static int change_pages(struct work *work, struct bench_random *random, uint64_t number,
                        cp_lsn *out_lsn)
{
    struct cp_mtr *mtr;
    const uint32_t room = cp_pager_payload_size(work->pager) - ORDER_CHANGED_BYTES;
    if (cp_mtr_begin(work->pager, &mtr) != 0)
        return fail(work, "begin");
    for (unsigned i = 0; i < ORDER_PAGES_PER_TRANSACTION; i++) {
        void *data;
        uint64_t page = work->first + bench_random_below(random, work->count);
        if (cp_mtr_fix(mtr, page, CP_EXCLUSIVE, &data) != 0) {
            cp_mtr_abort(mtr);
            return fail(work, "fix a page");
        }
        unsigned char *at = (unsigned char *)data + bench_random_below(random, room);
        for (unsigned k = 0; k < ORDER_CHANGED_BYTES; k++)
            at[k] = (unsigned char)(number >> k % 8 * 8 ^ k);
    }
    return cp_mtr_commit(mtr, CP_COMMIT_RELAXED, out_lsn) == 0 ? 0 : fail(work, "commit");
}

static int change_all(struct work *work)
{
    const struct order_job *job = work->job;
    struct bench_random random, nudges;
    cp_lsn lsn = 0;
    bench_random_init(&random, job->seed, 0);
    bench_random_init(&nudges, job->seed, 1);
    for (uint64_t i = 1; i <= job->transactions; i++) {
        if (change_pages(work, &random, i, &lsn) != 0)
            return -1;
        if (i % job->group == 0 && cp_pager_wait_durable(work->pager, lsn) != 0)
            return fail(work, "make a group durable");
        /* Starts the write-back of what is dirty in the page cache, and does not wait for it. At
         * random, so as not to keep step with the groups. */
        if (work->data_fd >= 0 && bench_random_below(&nudges, job->nudge) == 0 &&
            sync_file_range(work->data_fd, 0, 0, SYNC_FILE_RANGE_WRITE) != 0) {
            snprintf(work->text, work->text_capacity, "sync_file_range: %s", strerror(errno));
            return -1;
        }
    }
    return 0;
}

static int do_work(struct work *work)
{
    char path[PATH_MAX + 8];
    work->data_fd = -1;
    if (open_store(work) != 0)
        return -1;
    int result = load(work);
    if (result == 0 && work->job->nudge > 0) {
        snprintf(path, sizeof path, "%s/data", work->store);
        work->data_fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    if (result == 0) {
        work->loaded(work->ctx);
        result = change_all(work);
    }
    if (work->data_fd >= 0)
        close(work->data_fd);
    if (result != 0)
        cp_pager_abandon(work->pager);
    else if (cp_pager_close(work->pager) != 0)
        result = fail(work, "close the store");
    return result;
}

/* ---- from outside -----------------------------------------------------------------------------
 */

static void mark_in_mount(void *ctx)
{
    crash_fuse_mark(ctx, CRASH_MARK_CREATED, 0, 0, 0);
}

static int work_in_mount(void *ctx, const struct crash_fuse_place *place)
{
    char store[PATH_MAX + 8];
    snprintf(store, sizeof store, "%s/store", place->path);
    struct work work = {
        .job = ctx,
        .store = store,
        .loaded = mark_in_mount,
        .ctx = (void *)(uintptr_t)place,
        .text = place->text,
        .text_capacity = place->text_capacity,
    };
    return do_work(&work);
}

static void join_limit(void *ctx)
{
    const struct order_job *job = ctx;
    char path[PATH_MAX + 64];
    if (job->limit == NULL)
        return;
    int fd = open(bench_cgroup_join_file(job->limit, path, sizeof path), O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!write(fd, "0", 1); /* without it the kernel writes back later: no harm */
        close(fd);
    }
}

/* ---- by the library's own backend -------------------------------------------------------------
 */

static void mark_in_trace(void *ctx)
{
    crash_trace_mark(ctx, CRASH_MARK_CREATED, 0, 0, 0);
}

static int work_on_recorder(struct order_job *job, const char *root, struct crash_trace *trace)
{
    char store[PATH_MAX + 8];
    snprintf(store, sizeof store, "%s/store", root);
    struct crash_recorder *recorder = crash_recorder_create(root, trace, job->seed);
    const struct cp_io_options options = {
        .backend = crash_recorder_backend(recorder),
        .backend_ctx = recorder,
    };
    struct work work = {
        .job = job,
        .store = store,
        .loaded = mark_in_trace,
        .ctx = trace,
        .text = job->text,
        .text_capacity = job->text_capacity,
    };
    int result = cp_io_create(&options, &work.io) == 0 ? 0 : fail(&work, "create the backend");
    if (result == 0) {
        result = do_work(&work);
        cp_io_destroy(work.io);
    }
    crash_recorder_destroy(recorder);
    return result;
}

int order_record(struct order_job *job, const char *root, bool fuse, struct crash_trace *trace)
{
    crash_trace_baseline(trace);
    if (!fuse)
        return work_on_recorder(job, root, trace);
    const struct crash_fuse_options options = {
        .root = root,
        .trace = trace,
        .workload = work_in_mount,
        .ctx = job,
        .prepare = join_limit,
        .interrupted = signals_caught,
    };
    return crash_fuse_record(&options, job->text, job->text_capacity);
}
