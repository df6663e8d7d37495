/* SPDX-License-Identifier: MIT */
/*
 * Threads: each worker owns its struct worker; main reads `turn` (relaxed) while they run, and all
 * after the join. `stop` is set by whoever met an error, or by main.
 */
#include "hits_measure.h"

#include "workload.h"

#include <clockpool/base/bits.h>
#include <clockpool/base/thread.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define WATCH_NS 20000000

/* An engine that is open, and its data set. */
struct opened {
    const struct bench_engine *engine;
    struct bench_setup setup;
    void *handle;
};

struct session {
    const struct hits_settings *settings;
    const struct hits_row *rows;
    unsigned row_count;
    struct opened opened[HITS_ROWS_MAX];
    unsigned opened_count;
    struct bench_dist dist;
    _Atomic int stop;
};

struct worker {
    struct session *session;
    unsigned index;
    pthread_t thread;
    void *drivers[HITS_ROWS_MAX];
    unsigned begun; /* of drivers */
    struct bench_check check;
    struct bench_random random;
    struct bench_error error;
    int result;
    _Atomic uint64_t turn;
    double *ns; /* [row][turn] */
    struct bench_op ops[HITS_OPS];
};

uint64_t hits_memory(const struct hits_settings *settings, unsigned count)
{
    return count * (settings->size_bytes + settings->size_bytes / 4);
}

static struct opened *find_opened(struct session *session, const struct bench_engine *engine)
{
    for (unsigned i = 0; i < session->opened_count; i++)
        if (session->opened[i].engine == engine)
            return &session->opened[i];
    return NULL;
}

/* ---- opening ----------------------------------------------------------------------------------
 */

static int make_data(const struct bench_engine *engine, const struct bench_data *data,
                     const struct bench_progress_sink *sink, struct bench_error *error)
{
    if (mkdir(data->directory, 0700) != 0)
        return errno == EEXIST ? 0 /* another engine's of the same format */
                               : bench_fail_errno(error, errno, "cannot make %s", data->directory);
    return engine->create(data, sink, error);
}

static int open_engine(struct session *session, const struct bench_engine *engine,
                       const struct bench_progress_sink *sink, struct bench_error *error)
{
    const struct hits_settings *settings = session->settings;
    struct opened *opened = &session->opened[session->opened_count];
    *opened = (struct opened){
        .engine = engine,
        .setup = {.data = {.page_count = settings->size_bytes / settings->page_size,
                           .page_size = settings->page_size,
                           .seed = settings->seed},
                  .mem_bytes = hits_memory(settings, 1),
                  .fits = true,
                  .workload = BENCH_READ_RANDOM,
                  .threads_max = settings->threads,
                  .depth_max = 1,
                  .batch = HITS_BATCH},
    };
    if (snprintf(opened->setup.data.directory, sizeof opened->setup.data.directory, "%s/%s",
                 settings->directory, engine->format) >= (int)sizeof opened->setup.data.directory)
        return bench_fail(error, "the path of the directory is too long");
    if (make_data(engine, &opened->setup.data, sink, error) != 0)
        return -1;
    if (engine->open(&opened->setup, &opened->handle, error) != 0)
        return -1;
    session->opened_count++;
    return 0;
}

static void close_all(struct session *session)
{
    while (session->opened_count > 0) {
        struct opened *last = &session->opened[--session->opened_count];
        last->engine->close(last->handle);
    }
}

static int open_all(struct session *session, const struct bench_progress_sink *sink,
                    struct bench_error *error)
{
    for (unsigned i = 0; i < session->row_count; i++) {
        const struct bench_engine *engine = session->rows[i].engine;
        if (find_opened(session, engine) == NULL && open_engine(session, engine, sink, error) != 0)
            return -1;
    }
    return 0;
}

/* ---- working ----------------------------------------------------------------------------------
 */

static int begin_drivers(struct worker *worker)
{
    struct session *session = worker->session;
    for (; worker->begun < session->row_count; worker->begun++) {
        const struct hits_row *row = &session->rows[worker->begun];
        struct bench_thread_setup setup = {.workload = BENCH_READ_RANDOM,
                                           .access = row->access,
                                           .depth = 1,
                                           .batch = HITS_BATCH,
                                           .index = worker->index,
                                           .check = &worker->check,
                                           .error = &worker->error};
        if (row->engine->thread_begin(find_opened(session, row->engine)->handle, &setup,
                                      &worker->drivers[worker->begun]) != 0)
            return -1;
    }
    return 0;
}

static void end_drivers(struct worker *worker)
{
    while (worker->begun > 0) {
        worker->begun--;
        worker->session->rows[worker->begun].engine->thread_end(worker->drivers[worker->begun]);
    }
}

static void locate(const struct opened *opened, struct bench_op *op)
{
    op->where = opened->engine->locate != NULL ? opened->engine->locate(opened->handle, op->page)
                                               : op->page;
}

static int check_ops(struct worker *worker, const struct bench_engine *engine, unsigned count)
{
    if (bench_ops_verify(&worker->check, worker->ops, count))
        return 0;
    return bench_fail(&worker->error, "%s: page %llu has wrong bytes at offset %u", engine->name,
                      (unsigned long long)worker->check.page, worker->check.offset_bytes);
}

/* The row's share of a turn: HITS_OPS pages, chosen and checked outside of the time. */
static int take_turn(struct worker *worker, unsigned row_index, uint64_t turn)
{
    struct session *session = worker->session;
    const struct bench_engine *engine = session->rows[row_index].engine;
    const struct opened *opened = find_opened(session, engine);
    for (unsigned i = 0; i < HITS_OPS; i++) {
        struct bench_op *op = &worker->ops[i];
        bench_op_choose(op, &session->dist, &worker->random, worker->check.content_size);
        locate(opened, op);
    }
    uint64_t begin_ns = cp_now_ns();
    if (engine->read(worker->drivers[row_index], worker->ops, HITS_OPS) != 0)
        return -1;
    worker->ns[row_index * session->settings->turns + turn] =
        (double)(cp_now_ns() - begin_ns) / HITS_OPS;
    return check_ops(worker, engine, HITS_OPS);
}

/* Every page of the thread's share, twice: the second time it is known to be in memory. */
static int warm_up(struct worker *worker, unsigned row_index)
{
    struct session *session = worker->session;
    const struct bench_engine *engine = session->rows[row_index].engine;
    const struct opened *opened = find_opened(session, engine);
    const uint64_t pages = opened->setup.data.page_count;
    const uint64_t first = pages * worker->index / session->settings->threads;
    const uint64_t end = pages * (worker->index + 1) / session->settings->threads;
    for (unsigned pass = 0; pass < 2; pass++) {
        for (uint64_t page = first; page < end;) {
            unsigned count = 0;
            for (; count < HITS_OPS && page < end; count++, page++) {
                worker->ops[count] =
                    (struct bench_op){.page = page, .offset_bytes = BENCH_WORD_STABLE * 8};
                locate(opened, &worker->ops[count]);
            }
            if (atomic_load_explicit(&session->stop, memory_order_relaxed) != 0)
                return 0;
            if (engine->read(worker->drivers[row_index], worker->ops, count) != 0 ||
                check_ops(worker, engine, count) != 0)
                return -1;
        }
    }
    return 0;
}

static int work(struct worker *worker)
{
    struct session *session = worker->session;
    for (unsigned i = 0; i < session->row_count; i++)
        if (warm_up(worker, i) != 0)
            return -1;
    for (uint64_t turn = 0; turn < session->settings->turns; turn++) {
        if (atomic_load_explicit(&session->stop, memory_order_relaxed) != 0)
            return 0;
        /* Another one begins each time: nobody always comes after the same. */
        for (unsigned i = 0; i < session->row_count; i++)
            if (take_turn(worker, (unsigned)((i + turn) % session->row_count), turn) != 0)
                return -1;
        atomic_store_explicit(&worker->turn, turn + 1, memory_order_relaxed);
    }
    return 0;
}

static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    worker->result = begin_drivers(worker);
    if (worker->result == 0)
        worker->result = work(worker);
    if (worker->result != 0)
        atomic_store_explicit(&worker->session->stop, 1, memory_order_relaxed);
    end_drivers(worker);
    /* The last word: main waits for it. */
    atomic_store_explicit(&worker->turn, UINT64_MAX, memory_order_relaxed);
    return NULL;
}

/* ---- figures ----------------------------------------------------------------------------------
 */

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void quartiles(double *values, uint64_t count, double *out)
{
    qsort(values, count, sizeof *values, compare_doubles);
    out[HITS_LOWER] = values[count / 4];
    out[HITS_MEDIAN] = values[count / 2];
    out[HITS_UPPER] = values[count - 1 - count / 4];
}

static int fill_rows(const struct session *session, const struct worker *workers,
                     struct hits_row *rows, struct bench_error *error)
{
    const struct hits_settings *settings = session->settings;
    const uint64_t count = settings->turns * settings->threads;
    double *values = malloc(count * sizeof *values);
    if (values == NULL)
        return bench_fail(error, "out of memory");
    for (unsigned row = 0; row < session->row_count; row++) {
        for (unsigned ratio = 0; ratio < 2; ratio++) {
            uint64_t at = 0;
            for (unsigned t = 0; t < settings->threads; t++)
                for (uint64_t turn = 0; turn < settings->turns; turn++) {
                    double ns = workers[t].ns[row * settings->turns + turn];
                    values[at++] = ratio != 0 ? ns / workers[t].ns[turn] : ns;
                }
            quartiles(values, count, ratio != 0 ? rows[row].ratio : rows[row].ns);
        }
    }
    free(values);
    return 0;
}

/* ---- all of it --------------------------------------------------------------------------------
 */

struct sink_ctx {
    int (*on_progress)(void *ctx, double fraction, const char *what);
    void *ctx;
};

static int on_create(void *ctx, uint64_t done, uint64_t total)
{
    const struct sink_ctx *sink = ctx;
    (void)done, (void)total;
    return sink->on_progress(sink->ctx, 0, "writing the data set");
}

/* Until all workers are done. Nonzero: somebody wants to stop. */
static int watch(struct session *session, const struct worker *workers, unsigned count,
                 const struct sink_ctx *sink)
{
    const uint64_t turns = session->settings->turns;
    int stopped = 0;
    for (;;) { /* ends: every worker says UINT64_MAX at its end */
        uint64_t least = UINT64_MAX;
        for (unsigned i = 0; i < count; i++)
            least = cp_min_u64(least, atomic_load_explicit(&workers[i].turn, memory_order_relaxed));
        if (least == UINT64_MAX)
            return stopped;
        if (stopped == 0)
            stopped = sink->on_progress(sink->ctx, (double)least / (double)turns,
                                        least == 0 ? "warm-up" : "turns");
        if (stopped != 0)
            atomic_store_explicit(&session->stop, 1, memory_order_relaxed);
        nanosleep(&(struct timespec){.tv_nsec = WATCH_NS}, NULL);
    }
}

static int run_workers(struct session *session, struct worker *workers, const struct sink_ctx *sink,
                       struct bench_error *error)
{
    unsigned started = 0;
    int code = 0;
    for (; started < session->settings->threads && code == 0; started += code == 0)
        code = pthread_create(&workers[started].thread, NULL, worker_main, &workers[started]);
    if (code != 0) {
        atomic_store_explicit(&session->stop, 1, memory_order_relaxed);
        bench_fail_errno(error, code, "cannot start thread %u", started + 1);
    } else if (watch(session, workers, started, sink) != 0) {
        code = bench_fail(error, "stopped");
    }
    for (unsigned i = 0; i < started; i++) {
        pthread_join(workers[i].thread, NULL);
        if (code == 0 && workers[i].result != 0)
            code = bench_fail(error, "%s", workers[i].error.text);
    }
    return code == 0 ? 0 : -1;
}

static int make_workers(struct session *session, struct worker **out_workers)
{
    const struct hits_settings *settings = session->settings;
    struct worker *workers = calloc(settings->threads, sizeof *workers);
    *out_workers = workers;
    for (unsigned i = 0; workers != NULL && i < settings->threads; i++) {
        workers[i].session = session;
        workers[i].index = i;
        workers[i].check = (struct bench_check){
            .seed = settings->seed, .content_size = bench_content_size(settings->page_size)};
        bench_random_init(&workers[i].random, settings->seed, i);
        workers[i].ns = calloc(session->row_count * settings->turns, sizeof *workers[i].ns);
        if (workers[i].ns == NULL)
            return -1;
    }
    return workers != NULL ? 0 : -1;
}

static void free_workers(struct worker *workers, unsigned count)
{
    for (unsigned i = 0; workers != NULL && i < count; i++)
        free(workers[i].ns);
    free(workers);
}

int hits_measure(const struct hits_settings *settings, struct hits_row *rows, unsigned row_count,
                 int (*on_progress)(void *ctx, double fraction, const char *what), void *ctx,
                 struct bench_error *error)
{
    struct sink_ctx sink = {on_progress, ctx};
    const struct bench_progress_sink create_sink = {on_create, &sink};
    struct worker *workers = NULL;
    struct session *session = calloc(1, sizeof *session);
    if (session == NULL)
        return bench_fail(error, "out of memory");
    session->settings = settings;
    session->rows = rows;
    session->row_count = row_count;
    bench_dist_init(&session->dist, settings->zipf, settings->theta,
                    settings->size_bytes / settings->page_size, settings->seed);
    int code = open_all(session, &create_sink, error);
    if (code == 0 && make_workers(session, &workers) != 0)
        code = bench_fail(error, "out of memory");
    if (code == 0)
        code = run_workers(session, workers, &sink, error);
    if (code == 0)
        code = fill_rows(session, workers, rows, error);
    free_workers(workers, settings->threads);
    close_all(session);
    free(session);
    return code;
}
