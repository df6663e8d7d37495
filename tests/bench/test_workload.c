/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <sched.h>

#include <clockpool/base/thread.h>

#include "usage.h"
#include "workload.h"

#define PAGES   UINT64_C(1000)
#define SEED    5
#define SPIN_NS UINT64_C(2000)

/* An engine that has every page, and counts how many it was asked for. */
static uint64_t fetched;

static int thread_begin(void *engine, const struct bench_thread_setup *setup, void **out_thread)
{
    (void)setup;
    *out_thread = engine;
    return 0;
}

static void thread_end(void *thread)
{
    (void)thread;
}

static int read_ops(void *thread, struct bench_op *ops, unsigned count)
{
    (void)thread;
    for (unsigned i = 0; i < count; i++)
        ops[i].value = bench_content_word(SEED, ops[i].page, ops[i].offset_bytes / 8, 0);
    fetched += count;
    return 0;
}

/* One page, at once, but never in less than SPIN_NS. */
static int start(void *thread, unsigned slot, struct bench_op *op)
{
    const uint64_t begin = cp_now_ns();
    (void)slot;
    read_ops(thread, op, 1);
    while (cp_now_ns() - begin < SPIN_NS) { /* ends: time goes on */
    }
    return 1;
}

static const struct bench_engine engine = {.name = "counting",
                                           .deep = true,
                                           .thread_begin = thread_begin,
                                           .thread_end = thread_end,
                                           .read = read_ops,
                                           .start = start};

static struct bench_cell_result run_engine(const struct bench_engine *of, struct bench_cell cell,
                                           unsigned batch, bool fits, double seconds)
{
    struct bench_setup setup = {.data = {.page_count = PAGES, .page_size = 4096, .seed = SEED},
                                .fits = fits,
                                .workload = BENCH_READ_RANDOM,
                                .batch = batch};
    struct bench_dist dist;
    struct bench_error error = {""};
    static struct bench_cell_result result;
    int handle = 0;
    bench_dist_init(&dist, false, 0, PAGES, SEED);
    const struct bench_cell_input input = {.engine = of,
                                           .handle = &handle,
                                           .setup = &setup,
                                           .cell = cell,
                                           .dist = &dist,
                                           .seconds = seconds};
    fetched = 0;
    assert_int_equal(bench_cell_run(&input, &result, &error), 0);
    return result;
}

static struct bench_cell_result run(enum bench_access access, unsigned batch, unsigned depth)
{
    return run_engine(&engine, (struct bench_cell){.access = access, .threads = 1, .depth = depth},
                      batch, true, 0.2);
}

/*
 * What is used per operation, times the operations, is what was used: not more than the process did
 * meanwhile, all told. A batch of a whole round makes as many operations beside the rate as in it.
 */
static void resident_figures_are_per_operation_that_was_fetched(void **state)
{
    (void)state;
    const double before = bench_process_cpu_s();
    const struct bench_cell_result result = run(BENCH_BATCH, BENCH_ROUND, 1);
    const double used = bench_process_cpu_s() - before;
    assert_int_equal(fetched, 2 * result.op_count);
    assert_true(result.cpu_us_per_op > 0);
    assert_true(result.cpu_us_per_op * (double)fetched <= used * 1e6 * 1.001);
}

/* Of many started one after the other each is timed from its own start, not from the first. */
static void latency_at_a_depth_is_of_the_operation_alone(void **state)
{
    (void)state;
    const struct bench_cell_result result =
        run_engine(&engine, (struct bench_cell){.access = BENCH_FIX, .threads = 1, .depth = 100}, 1,
                   false, 0.2);
    assert_true(result.op_count > 0);
    assert_true(result.p50_us >= (double)SPIN_NS * 1e-3 * 0.9);
    assert_true(result.p50_us < (double)SPIN_NS * 1e-3 * 20); /* the middle one waited for 50 */
}

/* ---- an engine that is told what comes ---------------------------------------------------------
 */

static uint64_t told[BENCH_EXPECT_MAX];
static unsigned told_count, told_next;
static bool surprised;

static void be_told(void *thread, const struct bench_op *ops, unsigned count)
{
    (void)thread;
    surprised = surprised || count == 0 || count > BENCH_EXPECT_MAX || told_next != told_count;
    for (unsigned i = 0; i < count && i < BENCH_EXPECT_MAX; i++)
        told[i] = ops[i].page;
    told_count = count;
    told_next = 0;
}

static int start_told(void *thread, unsigned slot, struct bench_op *op)
{
    surprised = surprised || told_next == told_count || told[told_next] != op->page;
    told_next++;
    return start(thread, slot, op);
}

/* What is started at a depth has been announced: all of it, in order, a few at a time. */
static void an_engine_is_told_what_it_will_start(void **state)
{
    (void)state;
    struct bench_engine of = engine;
    of.start = start_told;
    of.expect = be_told;
    surprised = false;
    told_count = told_next = 0;
    const struct bench_cell_result result = run_engine(
        &of, (struct bench_cell){.access = BENCH_FIX, .threads = 1, .depth = 100}, 1, false, 0.2);
    assert_true(result.op_count > BENCH_ROUND);
    assert_false(surprised);
}

/* Time that the engine took is never left out, wherever in it new page numbers were made. */
static void resident_rate_at_a_depth_is_no_more_than_the_engine_does(void **state)
{
    (void)state;
    const struct bench_cell_result result = run(BENCH_FIX, 1, 100);
    assert_true(result.op_count > 0);
    assert_true(result.ops_per_s * (double)SPIN_NS * 1e-9 <= 1.0);
}

/* ---- an engine that finishes what it started only when it is asked ------------------------------
 */

static struct bench_op *in_flight[BENCH_DEPTH_MAX];

static int start_and_keep(void *thread, unsigned slot, struct bench_op *op)
{
    (void)thread;
    in_flight[slot] = op;
    return 0;
}

static int reap_all(void *thread, unsigned *out_slots, unsigned capacity)
{
    unsigned count = 0;
    for (unsigned slot = 0; slot < capacity; slot++) {
        if (in_flight[slot] == NULL)
            continue;
        read_ops(thread, in_flight[slot], 1);
        in_flight[slot] = NULL;
        out_slots[count++] = slot;
    }
    return (int)count;
}

/* Of resident data one in BENCH_ROUND is timed; the others have no start to count from. */
static void resident_latency_at_a_depth_is_of_what_was_timed(void **state)
{
    (void)state;
    const double seconds = 0.2;
    struct bench_engine of = engine;
    of.start = start_and_keep;
    of.reap = reap_all;
    const uint64_t begin = cp_now_ns();
    const struct bench_cell_result result = run_engine(
        &of, (struct bench_cell){.access = BENCH_FIX, .threads = 1, .depth = 32}, 1, true, seconds);
    const double elapsed_us = (double)(cp_now_ns() - begin) * 1e-3;
    assert_true(result.op_count > 0);
    assert_true(result.p50_us < elapsed_us);
    assert_true(result.max_us < elapsed_us);
    assert_true(result.timed_count >= result.op_count / BENCH_ROUND);
    assert_true(result.timed_count <= fetched / BENCH_ROUND + 1);
}

#define STALL_NS     UINT64_C(50000000)
#define RATE         10000
#define OPEN_SECONDS 1.0

/* The engine hangs once, from STALL_NS before the end of the time until well after it, as told from
 * its first call. */
static uint64_t first_ns, stalled_ns;

static int read_and_stall(void *thread, struct bench_op *ops, unsigned count)
{
    const uint64_t begin = cp_now_ns();
    if (first_ns == 0)
        first_ns = begin;
    if (stalled_ns == 0 && begin >= first_ns + (uint64_t)(OPEN_SECONDS * 1e9) - STALL_NS) {
        while (cp_now_ns() - begin < 4 * STALL_NS) /* ends: time goes on */
            sched_yield();                         /* or main comes too late to end it */
        stalled_ns = begin;
    }
    return read_ops(thread, ops, count);
}

/*
 * Arrivals that had to wait when the time was over count, with what they had waited: else the
 * slowest, and only they, are left out. 50 ms of a second are 5 %, far more than the slowest 0.1 %.
 */
static void open_loop_arrivals_waiting_at_the_end_are_slow_ones(void **state)
{
    (void)state;
    struct bench_engine stalls = engine;
    stalls.read = read_and_stall;
    first_ns = stalled_ns = 0;
    const struct bench_cell_result result =
        run_engine(&stalls, (struct bench_cell){BENCH_FIX, 1, 1, 0, RATE}, 1, true, OPEN_SECONDS);
    assert_true(stalled_ns != 0);
    assert_true(result.p999_us >= 4000);
    /* each of those due is there once, done or not */
    assert_true((double)result.timed_count >= result.due_count - 1);
    assert_true((double)result.timed_count <= result.due_count + 1);
    /* but only what was done counts as done */
    assert_true((double)result.op_count < result.due_count - 0.5 * RATE * (double)STALL_NS * 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resident_figures_are_per_operation_that_was_fetched),
        cmocka_unit_test(resident_rate_at_a_depth_is_no_more_than_the_engine_does),
        cmocka_unit_test(latency_at_a_depth_is_of_the_operation_alone),
        cmocka_unit_test(resident_latency_at_a_depth_is_of_what_was_timed),
        cmocka_unit_test(an_engine_is_told_what_it_will_start),
        cmocka_unit_test(open_loop_arrivals_waiting_at_the_end_are_slow_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
