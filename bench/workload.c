/* SPDX-License-Identifier: MIT */
/*
 * The workloads: choose pages, have the engine fetch them, verify, time. See workload.h.
 *
 * Threads: each worker owns its struct worker; main reads `op_count` and `histogram` (relaxed, for
 * the series and progress) while it runs and everything after the join. `gate` holds the workers
 * back until all have begun.
 */
#include "workload.h"

#include "openloop.h"
#include "tracker.h"
#include "usage.h"

#include <clockpool/base/bits.h>
#include <clockpool/base/thread.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define REPORT_PERIOD_NS     (BENCH_SYNC_MS * UINT64_C(1000000))
#define SCAN_SAMPLE_RESIDENT 64u /* of resident pages scanned, one in so many is timed */
#define WAITING_STEPS        65536u
#define GATE_WAIT            0u
#define GATE_GO              1u
#define GATE_LEAVE           2u

struct run {
    const struct bench_cell_input *input;
    _Atomic int stop;
    uint32_t gate; /* futex word */
    _Atomic uint32_t begun;
    uint64_t clock_ns; /* what reading the clock twice costs */
    uint64_t begin_ns; /* of the arrivals, when there is a rate; set before the gate is opened */
    uint64_t end_ns;   /* when the workers were told to stop */
    struct bench_error sync_error;
    bool sync_failed;
    struct bench_sampler sampler; /* main's */
};

struct worker {
    struct run *run;
    unsigned index;
    pthread_t thread;
    int result;
    struct bench_error error;
    struct bench_check check;
    struct bench_random random;
    void *driver;
    bool wrote;                           /* the operation fetched last was an update or a commit */
    _Atomic uint64_t op_count;            /* one writer */
    uint64_t uncounted;                   /* fetched as well, but not in the time of the rate */
    uint64_t busy_ns;                     /* what the rate is counted over */
    uint64_t turn;                        /* open loop: of its arrivals, so many were begun */
    uint64_t page_time_ns;                /* scan: when the last page came */
    struct bench_histogram histogram;     /* one writer */
    struct bench_op ops[BENCH_DEPTH_MAX]; /* a round or a batch; with slots: the ops to come */
    struct bench_op slots[BENCH_DEPTH_MAX];
    uint64_t started_ns[BENCH_DEPTH_MAX];
    unsigned free_slots[BENCH_DEPTH_MAX];
    unsigned finished[BENCH_DEPTH_MAX];
};

static uint64_t clock_cost_ns(void)
{
    uint64_t best = UINT64_MAX;
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t begin = cp_now_ns(), cost = cp_now_ns() - begin;
        if (cost < best)
            best = cost;
    }
    return best;
}

static bool stopping(const struct worker *worker)
{
    /* relaxed: the flag carries no data */
    return atomic_load_explicit(&worker->run->stop, memory_order_relaxed) != 0;
}

static void count_ops(struct worker *worker, uint64_t count)
{
    /* relaxed: main reads it for the series and progress only, until the join */
    uint64_t so_far = atomic_load_explicit(&worker->op_count, memory_order_relaxed);
    atomic_store_explicit(&worker->op_count, so_far + count, memory_order_relaxed);
}

/* ---- choosing and verifying ---------------------------------------------------------------------
 */

void bench_op_choose(struct bench_op *op, const struct bench_dist *dist,
                     struct bench_random *random, uint32_t content_size)
{
    uint32_t words = content_size / 8 - BENCH_WORD_STABLE;
    op->page = bench_dist_next(dist, random);
    op->offset_bytes = (uint32_t)(BENCH_WORD_STABLE + bench_random_below(random, words)) * 8;
    op->value = 0;
}

bool bench_ops_verify(struct bench_check *check, const struct bench_op *ops, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (!bench_check_word(check, ops[i].page, ops[i].offset_bytes / 8, 0, ops[i].value))
            return false;
    return true;
}

static void make_ops(struct worker *worker, struct bench_op *ops, unsigned count)
{
    const struct bench_cell_input *input = worker->run->input;
    for (unsigned i = 0; i < count; i++) {
        bench_op_choose(&ops[i], input->dist, &worker->random, worker->check.content_size);
        ops[i].where = bench_locate(input, ops[i].page);
    }
}

static void record(struct worker *worker, uint64_t ns)
{
    uint64_t cost = worker->run->clock_ns;
    bench_histogram_add(&worker->histogram, ns > cost ? ns - cost : 0);
}

/* ---- random reads and updates, one at a time
 * ------------------------------------------------------ */

typedef int change_fn(void *thread, struct bench_op *op);

/* Which of the driver's functions changes a page; NULL: the ops are to be read. */
static change_fn *choose_change(struct worker *worker)
{
    const struct bench_cell_input *input = worker->run->input;
    switch (input->setup->workload) {
    case BENCH_UPDATE_RANDOM:
        return input->engine->update;
    case BENCH_COMMIT:
    case BENCH_COMMIT_RELAXED:
    case BENCH_RECOVER:
        return input->engine->commit;
    case BENCH_MIXED:
        if (bench_random_unit(&worker->random) < input->write_share)
            return input->engine->commit;
        return NULL;
    default:
        return NULL;
    }
}

/* Fetch ops: read them, or change each. */
static int fetch(struct worker *worker, struct bench_op *ops, unsigned count)
{
    change_fn *change = choose_change(worker);
    worker->wrote = change != NULL;
    if (change == NULL)
        return worker->run->input->engine->read(worker->driver, ops, count);
    for (unsigned i = 0; i < count; i++)
        if (change(worker->driver, &ops[i]) != 0)
            return -1;
    return 0;
}

static bool check_ops(struct worker *worker, const struct bench_op *ops, unsigned count)
{
    struct bench_tracker *tracker = worker->check.tracker;
    if (!worker->wrote)
        bench_ops_verify(&worker->check, ops, count);
    else if (tracker != NULL && !worker->check.failed)
        for (unsigned i = 0; i < count; i++)
            bench_tracker_note_done(tracker, ops[i].page);
    return !worker->check.failed;
}

/* Operations that are one call to the engine: a batch, or one. */
static unsigned unit_size(const struct bench_cell_input *input)
{
    if (input->cell.access != BENCH_BATCH || input->engine->access != NULL ||
        input->setup->workload != BENCH_READ_RANDOM)
        return 1;
    return input->cell.depth > 1 ? input->cell.depth : input->setup->batch;
}

/*
 * Resident data: rounds, and one timed operation after each. At least one, here and below: on a
 * busy machine a thread may first run when a short measurement is over already.
 */
static int run_rounds(struct worker *worker)
{
    unsigned unit = unit_size(worker->run->input);
    do { /* ends: when the time is over */
        make_ops(worker, worker->ops, BENCH_ROUND);
        uint64_t begin = cp_now_ns();
        if (fetch(worker, worker->ops, BENCH_ROUND) != 0)
            return -1;
        worker->busy_ns += cp_now_ns() - begin;
        if (!check_ops(worker, worker->ops, BENCH_ROUND))
            return 0;
        count_ops(worker, BENCH_ROUND);

        make_ops(worker, worker->ops, unit);
        begin = cp_now_ns();
        if (fetch(worker, worker->ops, unit) != 0)
            return -1;
        record(worker, cp_now_ns() - begin);
        worker->uncounted += unit;
        if (!check_ops(worker, worker->ops, unit))
            return 0;
    } while (!stopping(worker));
    return 0;
}

/* Data larger than memory, or commits: each operation (or batch) timed. */
static int run_singles(struct worker *worker)
{
    unsigned unit = unit_size(worker->run->input);
    uint64_t begin = cp_now_ns(), now = begin;
    do { /* ends: when the time is over */
        make_ops(worker, worker->ops, unit);
        uint64_t asked = cp_now_ns();
        if (fetch(worker, worker->ops, unit) != 0)
            return -1;
        now = cp_now_ns();
        record(worker, now - asked);
        if (!check_ops(worker, worker->ops, unit))
            return 0;
        count_ops(worker, unit);
    } while (!stopping(worker));
    worker->busy_ns = now - begin;
    return 0;
}

/* Open loop: operations have a time to begin at, and are late if the one before still runs. */
static int run_arrivals(struct worker *worker)
{
    const struct bench_cell *cell = &worker->run->input->cell;
    const struct bench_schedule schedule = {worker->run->begin_ns, cell->rate, cell->threads,
                                            worker->index};
    bench_wait_punctually();
    for (;; worker->turn++) { /* ends: waiting tells when to stop */
        const uint64_t due_ns = bench_schedule_ns(&schedule, worker->turn);
        make_ops(worker, worker->ops, 1);
        if (!bench_wait_until(due_ns, &worker->run->stop))
            return 0;
        if (fetch(worker, worker->ops, 1) != 0)
            return -1;
        record(worker, cp_now_ns() - due_ns);
        if (!check_ops(worker, worker->ops, 1))
            return 0;
        if (stopping(worker)) /* done, but not in the time of the rate */
            worker->uncounted++;
        else
            count_ops(worker, 1);
    }
}

/*
 * After the end: what was due and not begun is there with the time that it had waited by then. It
 * would have taken longer; left out, the slowest would be, and no others.
 */
static void record_waiting(const struct run *run, struct worker *worker)
{
    const struct bench_cell *cell = &run->input->cell;
    const struct bench_schedule schedule = {run->begin_ns, cell->rate, cell->threads,
                                            worker->index};
    const uint64_t end = bench_turns_due(&schedule, run->end_ns - run->begin_ns);
    /* At a rate far out of reach there are millions: several at once then. */
    const uint64_t left = end > worker->turn ? end - worker->turn : 0;
    const uint64_t step = left / WAITING_STEPS + 1;
    for (uint64_t turn = worker->turn; turn < end; turn += step) {
        const uint64_t due_ns = bench_schedule_ns(&schedule, turn);
        if (due_ns < run->end_ns)
            bench_histogram_add_many(&worker->histogram, run->end_ns - due_ns,
                                     cp_min_u64(step, end - turn));
    }
}

/* ---- many in flight
 * ------------------------------------------------------------------------------- */

struct flight {
    struct worker *worker;
    unsigned depth, free_count;
    unsigned next, expected; /* of worker->ops, the first not yet started, not yet told */
    uint64_t started;        /* ops so far */
    uint64_t excluded_ns;    /* resident data: time spent making ops, but not checking */
    bool resident;
};

/* One slot has finished, at now (0: no longer timed). False: wrong bytes. */
static bool land(struct flight *flight, unsigned slot, uint64_t now)
{
    struct worker *worker = flight->worker;
    if (now != 0 && worker->started_ns[slot] != 0) /* of resident data few are timed */
        record(worker, now - worker->started_ns[slot]);
    flight->worker->free_slots[flight->free_count++] = slot;
    return check_ops(worker, &worker->slots[slot], 1);
}

/* Tell the engine which ops come next, up to count of them. */
static void tell_expected(struct flight *flight, unsigned count)
{
    struct worker *worker = flight->worker;
    const struct bench_engine *engine = worker->run->input->engine;
    unsigned left = BENCH_ROUND - flight->next;
    unsigned told = (unsigned)cp_min_u64(cp_min_u64(count, left), BENCH_EXPECT_MAX);
    if (engine->expect != NULL)
        engine->expect(worker->driver, &worker->ops[flight->next], told);
    flight->expected = flight->next + told;
}

/* Start ops in all free slots. Returns how many were finished at once, or -1. */
static int take_off(struct flight *flight)
{
    struct worker *worker = flight->worker;
    const struct bench_engine *engine = worker->run->input->engine;
    int finished = 0;
    for (unsigned tries = flight->free_count; tries > 0; tries--) {
        if (flight->next == BENCH_ROUND) {
            const uint64_t begin = cp_now_ns(); /* what was started before took its time */
            make_ops(worker, worker->ops, BENCH_ROUND);
            flight->next = flight->expected = 0;
            flight->excluded_ns += cp_now_ns() - begin;
        }
        if (flight->next == flight->expected)
            tell_expected(flight, tries);
        unsigned slot = worker->free_slots[--flight->free_count];
        bool timed = !flight->resident || flight->started++ % BENCH_ROUND == 0;
        worker->slots[slot] = worker->ops[flight->next++];
        /* Each its own: what was started before it took its time, and that of pages found. */
        worker->started_ns[slot] = timed ? cp_now_ns() : 0;
        int state = engine->start(worker->driver, slot, &worker->slots[slot]);
        if (state < 0)
            return -1;
        if (state == 0)
            continue;
        finished++;
        if (!land(flight, slot, timed ? cp_now_ns() : 0))
            return finished;
    }
    return finished;
}

static int run_slots(struct worker *worker)
{
    const struct bench_cell_input *input = worker->run->input;
    struct flight flight = {.worker = worker,
                            .depth = input->cell.depth,
                            .next = BENCH_ROUND,
                            .expected = BENCH_ROUND,
                            .resident = input->setup->fits};
    for (unsigned i = 0; i < flight.depth; i++)
        worker->free_slots[flight.free_count++] = i;
    worker->wrote = input->setup->workload == BENCH_UPDATE_RANDOM;
    uint64_t begin = cp_now_ns(), now = begin;
    do { /* ends: when the time is over, or something was wrong */
        int done = take_off(&flight);
        if (done < 0)
            return -1;
        if (done == 0) {
            done = input->engine->reap(worker->driver, worker->finished, flight.depth);
            if (done < 0)
                return -1;
            now = cp_now_ns();
            for (int i = 0; i < done; i++)
                land(&flight, worker->finished[i], now);
        }
        count_ops(worker, (uint64_t)done);
    } while (!stopping(worker) && !worker->check.failed);
    now = cp_now_ns();
    worker->busy_ns = now - begin - (flight.resident ? flight.excluded_ns : 0);
    while (flight.free_count < flight.depth) { /* ends: the engine finishes what is in flight */
        int done = input->engine->reap(worker->driver, worker->finished, flight.depth);
        if (done < 0)
            return -1;
        worker->uncounted += (uint64_t)done;
        for (int i = 0; i < done; i++)
            land(&flight, worker->finished[i], 0);
    }
    return 0;
}

/* ---- scanning
 * --------------------------------------------------------------------------------------- */

static void note_page(void *ctx)
{
    struct worker *worker = ctx;
    count_ops(worker, 1);
    uint64_t count = atomic_load_explicit(&worker->op_count, memory_order_relaxed);
    bool resident = worker->run->input->setup->fits;
    uint64_t now = 0;
    if (!resident || count % SCAN_SAMPLE_RESIDENT < 2)
        now = cp_now_ns();
    if (now != 0 && worker->page_time_ns != 0)
        record(worker, now - worker->page_time_ns);
    worker->page_time_ns = now;
}

/* The pages first .. end-1 are the worker's. */
static void own_part(const struct worker *worker, uint64_t *out_first, uint64_t *out_end)
{
    const struct bench_cell_input *input = worker->run->input;
    uint64_t pages = input->setup->data.page_count;
    *out_first = pages * worker->index / input->cell.threads;
    *out_end = pages * (worker->index + 1) / input->cell.threads;
}

/* Each thread walks its own part of the pages: once, or again and again. */
static int run_scan(struct worker *worker)
{
    const struct bench_cell_input *input = worker->run->input;
    uint64_t first, end;
    own_part(worker, &first, &end);
    uint64_t begin = cp_now_ns();
    worker->check.stop = &worker->run->stop;
    worker->check.on_page = note_page;
    worker->check.ctx = worker;
    while (end > first && !stopping(worker) && !worker->check.failed) {
        if (input->engine->scan(worker->driver, first, end - first) != 0)
            return -1;
        if (input->pass == BENCH_SCAN_ONCE)
            break;
    }
    worker->busy_ns = cp_now_ns() - begin;
    return 0;
}

/* Each page of its own part once, as operations. */
static int run_access_once(struct worker *worker)
{
    const struct bench_cell_input *input = worker->run->input;
    uint64_t page, end;
    own_part(worker, &page, &end);
    while (page < end && !stopping(worker)) {
        unsigned count = (unsigned)cp_min_u64(end - page, BENCH_ROUND);
        for (unsigned i = 0; i < count; i++, page++)
            worker->ops[i] = (struct bench_op){.page = page,
                                               .where = bench_locate(input, page),
                                               .offset_bytes = BENCH_WORD_STABLE * 8};
        if (input->engine->read(worker->driver, worker->ops, count) != 0)
            return -1;
        if (!bench_ops_verify(&worker->check, worker->ops, count))
            return 0;
    }
    return 0;
}

/* ---- a cell
 * -------------------------------------------------------------------------------------------- */

static int run_worker(struct worker *worker)
{
    const struct bench_cell_input *input = worker->run->input;
    if (input->pass == BENCH_ACCESS_ONCE)
        return run_access_once(worker);
    if (input->pass == BENCH_SCAN_ONCE || input->setup->workload == BENCH_READ_SCAN)
        return run_scan(worker);
    if (input->cell.rate > 0)
        return run_arrivals(worker);
    bool batch = input->cell.access == BENCH_BATCH && input->engine->access == NULL;
    if (input->cell.depth > 1 && input->engine->deep && !batch)
        return run_slots(worker);
    bool rounds = input->setup->fits && !bench_workload_commits(input->setup->workload);
    return rounds ? run_rounds(worker) : run_singles(worker);
}

static enum bench_workload thread_workload(const struct bench_cell_input *input)
{
    switch (input->pass) {
    case BENCH_SCAN_ONCE:
        return BENCH_READ_SCAN;
    case BENCH_ACCESS_ONCE:
        return BENCH_READ_RANDOM;
    case BENCH_FOR_A_TIME:
        break;
    }
    return input->setup->workload;
}

static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    struct run *run = worker->run;
    const struct bench_cell_input *input = run->input;
    struct bench_thread_setup setup = {.workload = thread_workload(input),
                                       .access = input->cell.access,
                                       .depth = input->cell.depth,
                                       .batch = input->setup->batch,
                                       .index = worker->index,
                                       .check = &worker->check,
                                       .error = &worker->error};
    if (setup.access == BENCH_BATCH && setup.depth > 1)
        setup.batch = setup.depth;
    bool begun = input->engine->thread_begin(input->handle, &setup, &worker->driver) == 0;
    if (!begun)
        worker->result = -1;
    /* acq_rel: pairs with the acquire load in await_workers, which then sees worker->result */
    atomic_fetch_add_explicit(&run->begun, 1, memory_order_acq_rel);
    uint32_t gate;
    /* acquire: pairs with the release store in open_gate; ends when main has decided */
    while ((gate = __atomic_load_n(&run->gate, __ATOMIC_ACQUIRE)) == GATE_WAIT)
        cp_futex_wait(&run->gate, GATE_WAIT, 0);
    if (begun && gate == GATE_GO)
        worker->result = run_worker(worker);
    if (worker->result != 0 || worker->check.failed) /* nothing to wait for: let the others stop */
        atomic_store_explicit(&run->stop, 1, memory_order_relaxed);
    if (begun)
        input->engine->thread_end(worker->driver);
    return NULL;
}

static void await_workers(struct run *run, unsigned threads)
{
    struct timespec pause = {.tv_nsec = 200000};
    /* acquire: pairs with the acq_rel increment of each worker; ends when all have begun */
    while (atomic_load_explicit(&run->begun, memory_order_acquire) < threads)
        nanosleep(&pause, NULL);
}

static void open_gate(struct run *run, unsigned threads, uint32_t gate)
{
    /* release: pairs with the acquire load in worker_main */
    __atomic_store_n(&run->gate, gate, __ATOMIC_RELEASE);
    cp_futex_wake(&run->gate, threads);
}

static uint64_t total_ops(struct worker *const *workers, unsigned count)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < count; i++)
        sum += atomic_load_explicit(&workers[i]->op_count, memory_order_relaxed);
    return sum;
}

/* ---- watching
 * --------------------------------------------------------------------------------------- */

/* What the workers have so far. */
static void take_sample(struct worker *const *workers, unsigned count, struct bench_sample *out)
{
    uint64_t ignored;
    memset(out, 0, sizeof *out);
    for (unsigned i = 0; i < count; i++)
        bench_histogram_merge(&out->times, &workers[i]->histogram);
    out->ops = total_ops(workers, count);
    bench_process_io(&out->read_bytes, &ignored);
    out->now_ns = cp_now_ns();
}

/* Relaxed commits become durable within BENCH_SYNC_MS in every engine. False: it failed. */
static bool sync_relaxed(struct run *run)
{
    const struct bench_cell_input *input = run->input;
    if (input->setup->workload != BENCH_COMMIT_RELAXED || input->engine->sync == NULL)
        return true;
    run->sync_failed = input->engine->sync(input->handle, &run->sync_error) != 0;
    return !run->sync_failed;
}

static void sleep_until(uint64_t until_ns)
{
    uint64_t now = cp_now_ns();
    if (until_ns <= now)
        return;
    struct timespec pause = {.tv_sec = (time_t)((until_ns - now) / UINT64_C(1000000000)),
                             .tv_nsec = (long)((until_ns - now) % UINT64_C(1000000000))};
    nanosleep(&pause, NULL);
}

/* What is due every REPORT_PERIOD_NS. False: stop. */
static bool report_period(struct run *run, struct worker *const *workers, uint64_t begin_ns,
                          uint64_t read_before)
{
    const struct bench_cell_input *input = run->input;
    double elapsed_s = (double)(cp_now_ns() - begin_ns) * 1e-9;
    double ops = (double)total_ops(workers, input->cell.threads);
    if (input->report != NULL &&
        input->report(input->ctx, elapsed_s / input->seconds, ops / elapsed_s) != 0)
        return false;
    if (!input->engine->syncs_itself && !sync_relaxed(run))
        return false;
    if (input->until_read_bytes == 0)
        return true;
    uint64_t read_now, ignored;
    bench_process_io(&read_now, &ignored);
    return read_now - read_before < input->until_read_bytes;
}

/* Sleep until the time is over, or enough was read, or somebody stops. Samples on the way. */
static void supervise(struct run *run, struct worker *const *workers,
                      struct bench_cell_result *result)
{
    const struct bench_cell_input *input = run->input;
    struct bench_sampler *sampler = &run->sampler;
    struct bench_sample sample;
    take_sample(workers, input->cell.threads, &sample);
    const uint64_t begin = sample.now_ns, end = begin + (uint64_t)(input->seconds * 1e9);
    const uint64_t read_before = sample.read_bytes;
    uint64_t report_ns = begin + REPORT_PERIOD_NS;
    bench_sampler_begin(sampler, input->seconds, input->full_bytes, &sample, &result->series);
    while (atomic_load_explicit(&run->stop, memory_order_relaxed) == 0) {
        uint64_t until = cp_min_u64(report_ns, bench_sampler_due_ns(sampler));
        sleep_until(cp_min_u64(until, end));
        uint64_t now = cp_now_ns();
        if (now >= end)
            break;
        if (now >= bench_sampler_due_ns(sampler)) {
            take_sample(workers, input->cell.threads, &sample);
            bench_sampler_add(sampler, &sample);
        }
        if (now < report_ns)
            continue;
        report_ns = now + REPORT_PERIOD_NS;
        if (!report_period(run, workers, begin, read_before))
            break;
    }
    take_sample(workers, input->cell.threads, &sample);
    bench_sampler_end(sampler, &sample);
    run->end_ns = cp_now_ns();
    atomic_store_explicit(&run->stop, 1, memory_order_relaxed);
    result->ops_per_s_cv = bench_series_variation(&result->series, 0);
}

/* What was timed, all of it: also what ended, or waited, after the last sample. */
static void finish_times(struct run *run, struct worker *const *workers,
                         struct bench_cell_result *result)
{
    const struct bench_cell *cell = &run->input->cell;
    struct bench_sample sample;
    for (unsigned i = 0; i < cell->threads && cell->rate > 0; i++)
        record_waiting(run, workers[i]);
    take_sample(workers, cell->threads, &sample);
    result->p999_full_us = bench_sampler_full_us(&run->sampler, &sample, 0.999);
}

static int first_failure(const struct bench_cell_input *input, struct worker *const *workers,
                         unsigned count, struct bench_error *error)
{
    for (unsigned i = 0; i < count; i++) {
        const struct bench_check *check = &workers[i]->check;
        if (check->failed)
            return bench_fail(error,
                              "wrong bytes: engine %s, page %" PRIu64 ", offset %" PRIu32
                              ": expected 0x%016" PRIx64 ", found 0x%016" PRIx64,
                              input->engine->name, check->page, check->offset_bytes,
                              check->expected, check->found);
        if (workers[i]->result != 0)
            return bench_fail(error, "%s", workers[i]->error.text);
    }
    return 0;
}

static void add_up(struct worker *const *workers, unsigned count, uint32_t page_size,
                   struct bench_cell_result *result)
{
    struct bench_histogram *histogram = &workers[0]->histogram;
    double scale = 1e-3;  /* ns to us */
    uint64_t fetched = 0; /* what the resources were used for: more than the rate counts */
    for (unsigned i = 0; i < count; i++) {
        uint64_t ops = atomic_load_explicit(&workers[i]->op_count, memory_order_relaxed);
        result->op_count += ops;
        fetched += ops + workers[i]->uncounted;
        result->verified_count += workers[i]->check.verified_count;
        if (workers[i]->busy_ns > 0)
            result->ops_per_s += (double)ops * 1e9 / (double)workers[i]->busy_ns;
        if (i > 0)
            bench_histogram_merge(histogram, &workers[i]->histogram);
    }
    result->timed_count = histogram->count;
    result->p50_us = (double)bench_histogram_quantile(histogram, 0.5) * scale;
    result->p99_us = (double)bench_histogram_quantile(histogram, 0.99) * scale;
    result->p999_us = (double)bench_histogram_quantile(histogram, 0.999) * scale;
    result->max_us = (double)histogram->max * scale;
    if (fetched == 0)
        return;
    result->cpu_us_per_op /= (double)fetched;
    result->read_bytes_per_op /= (double)fetched;
    result->written_bytes_per_op /= (double)fetched;
    result->major_faults_per_op /= (double)fetched;
    double missed = result->read_bytes_per_op / page_size;
    result->hit_ratio = missed < 1.0 ? 1.0 - missed : 0.0;
}

/* Run the workers and wait for them. busy: the part that is measured. */
static int run_workers(const struct bench_cell_input *input, struct worker **workers,
                       struct bench_cell_result *result, struct bench_error *error)
{
    struct run run = {.input = input, .clock_ns = clock_cost_ns()};
    unsigned started = 0;
    int code = 0;
    for (; started < input->cell.threads; started++) {
        struct worker *worker = workers[started];
        worker->run = &run;
        worker->index = started;
        worker->check.seed = input->setup->data.seed;
        worker->check.content_size = bench_content_size(input->setup->data.page_size);
        worker->check.tracker = input->tracker;
        bench_random_init(&worker->random, input->setup->data.seed,
                          (input->stream << 16) + started);
        code = pthread_create(&worker->thread, NULL, worker_main, worker);
        if (code != 0)
            break;
    }
    await_workers(&run, started);
    uint64_t read_before, written_before, read_after, written_after, begin = cp_now_ns();
    bench_process_io(&read_before, &written_before);
    double cpu_before = bench_process_cpu_s();
    uint64_t faults_before = bench_process_major_faults();
    run.begin_ns = run.end_ns = cp_now_ns();
    open_gate(&run, started, started == input->cell.threads ? GATE_GO : GATE_LEAVE);
    if (code == 0 && input->pass == BENCH_FOR_A_TIME)
        supervise(&run, workers, result);
    for (unsigned i = 0; i < started; i++)
        pthread_join(workers[i]->thread, NULL);
    uint64_t joined = cp_now_ns();
    if (!run.sync_failed) /* what was put off counts */
        sync_relaxed(&run);
    for (unsigned i = 0; i < started; i++)
        workers[i]->busy_ns += cp_now_ns() - joined;
    if (input->cell.rate > 0) { /* the time is given, however much of it was spent waiting */
        for (unsigned i = 0; i < started; i++)
            workers[i]->busy_ns = run.end_ns - run.begin_ns;
        result->due_count = (double)bench_arrivals_due(input->cell.rate, run.end_ns - run.begin_ns);
    }
    result->cpu_us_per_op = (bench_process_cpu_s() - cpu_before) * 1e6;
    result->major_faults_per_op = (double)(bench_process_major_faults() - faults_before);
    bench_process_io(&read_after, &written_after);
    result->read_bytes_per_op = (double)(read_after - read_before);
    result->written_bytes_per_op = (double)(written_after - written_before);
    result->seconds = (double)(cp_now_ns() - begin) * 1e-9;
    if (code == 0 && input->pass == BENCH_FOR_A_TIME)
        finish_times(&run, workers, result);
    if (code != 0)
        return bench_fail_errno(error, code, "cannot start thread %u of %u", started + 1,
                                input->cell.threads);
    if (run.sync_failed)
        return bench_fail(error, "%s", run.sync_error.text);
    return first_failure(input, workers, started, error);
}

int bench_cell_run(const struct bench_cell_input *input, struct bench_cell_result *out_result,
                   struct bench_error *error)
{
    unsigned count = input->cell.threads;
    struct bench_cell_result result = {0};
    int code = -1;
    struct worker **workers = calloc(count, sizeof *workers);
    if (workers == NULL)
        return bench_fail(error, "out of memory");
    for (unsigned i = 0; i < count; i++) {
        workers[i] = calloc(1, sizeof **workers);
        if (workers[i] == NULL) {
            bench_fail(error, "out of memory");
            goto free_workers;
        }
    }
    code = run_workers(input, workers, &result, error);
    if (code == 0) {
        add_up(workers, count, input->setup->data.page_size, &result);
        *out_result = result;
    }

free_workers:
    for (unsigned i = 0; i < count; i++)
        free(workers[i]);
    free(workers);
    return code;
}
