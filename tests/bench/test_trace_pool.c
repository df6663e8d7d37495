/* SPDX-License-Identifier: MIT */
/*
 * The pool itself against the simulator: the same sequence of pages, the same number of frames.
 * They run the same policy, but the pool claims several victims at a time, grows extent by extent,
 * and clears marks by swaps; their misses may differ by 2 %.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <clockpool/bufpool.h>
#include <clockpool/base/thread.h>

#include "random.h"
#include "simulate.h"

#define PAGE_BYTES 4096u
#define MIB        (UINT64_C(1) << 20)
#define TOLERANCE  0.02

struct run {
    uint64_t misses, frames;
    double steps; /* a miss */
};

/* Send a sequence through a pool over a file of holes. */
static void run_pool(const struct trace_sequence *sequence, uint64_t budget_bytes,
                     bool counted_pins, struct run *out_run)
{
    char path[64];
    struct cp_io *io;
    struct cp_io_file *io_file;
    struct cp_bufpool *pool;
    struct cp_bufpool_file *file;
    struct cp_bufpool_stats stats;
    const struct cp_io_options io_options = {.backend = cp_io_backend_sync()};
    const struct cp_io_file_options file_options = {.create = true, .truncate = true};

    snprintf(path, sizeof path, "trace-pool-%d.dat", (int)getpid());
    assert_int_equal(cp_io_create(&io_options, &io), 0);
    assert_int_equal(cp_io_file_open(io, path, &file_options, &io_file), 0);
    assert_int_equal(truncate(path, (off_t)sequence->page_count * PAGE_BYTES), 0);
    const struct cp_bufpool_options options = {
        .budget_bytes = budget_bytes, .io = io, .counted_pins = counted_pins};
    assert_int_equal(cp_bufpool_create(&options, &pool), 0);
    const struct cp_bufpool_file_options attach = {
        .file = io_file, .page_size = PAGE_BYTES, .max_pages = sequence->page_count};
    assert_int_equal(cp_bufpool_attach(pool, &attach, &file), 0);
    for (uint32_t i = 0; i < sequence->access_count; i++) {
        struct cp_fix fix;
        assert_int_equal(cp_bufpool_fix(file, sequence->accesses[i], CP_SHARED, &fix), 0);
        cp_bufpool_unfix(&fix);
    }
    cp_bufpool_stats(pool, 0, &stats);
    assert_int_equal(stats.hits + stats.misses, sequence->access_count);
    out_run->misses = stats.misses;
    /* Frames that victims have just left are part of the pool. */
    out_run->frames = stats.frame_bytes / PAGE_BYTES;
    out_run->steps = (double)stats.sweep_steps / (double)stats.misses;
    assert_int_equal(cp_bufpool_detach(file), 0);
    cp_bufpool_destroy(pool);
    assert_int_equal(cp_io_file_close(io_file), 0);
    assert_int_equal(cp_io_unlink(io, path), 0);
    cp_io_destroy(io);
}

static void compare(const struct trace_sequence *sequence, uint64_t budget_bytes, bool counted_pins)
{
    struct run run;
    struct trace_count count, clock;
    run_pool(sequence, budget_bytes, counted_pins, &run);
    uint32_t frames = (uint32_t)run.frames;
    assert_int_equal(trace_simulate(&trace_policy_clockpool, sequence, frames, &count), 0);
    assert_int_equal(trace_simulate(&trace_policy_clock, sequence, frames, &clock), 0);
    double ratio = (double)run.misses / (double)count.misses;
    print_message("%s, %u frames%s: %llu misses, simulated %llu (%+.2f %%), CLOCK %llu; %.2f steps "
                  "a miss, simulated %.2f\n",
                  sequence->name, frames, counted_pins ? ", counted pins" : "",
                  (unsigned long long)run.misses, (unsigned long long)count.misses,
                  100 * (ratio - 1), (unsigned long long)clock.misses, run.steps,
                  (double)count.steps / (double)count.misses);
    assert_true(ratio > 1 - TOLERANCE);
    assert_true(ratio < 1 + TOLERANCE);
    assert_true(run.steps < 2 * (double)count.steps / (double)count.misses + 1);
}

static uint64_t seed_of_test(void)
{
    const char *given = getenv("CP_TEST_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : cp_now_ns();
    print_message("CP_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

static void own(struct trace_builder *builder, const char *name, struct trace_sequence *out)
{
    snprintf(out->name, sizeof out->name, "%s", name);
    out->accesses = builder->accesses;
    out->access_count = builder->count;
    out->page_count = builder->page_count;
    builder->accesses = NULL;
    trace_builder_fini(builder);
}

/* A hot set, skewed, and scans over much that is used once. */
static void trace_pool_scans_as_simulated(void **state)
{
    (void)state;
    struct trace_builder builder = {0};
    struct trace_sequence sequence;
    struct bench_random random;
    struct bench_zipf zipf;
    bench_random_init(&random, seed_of_test(), 0);
    bench_zipf_init(&zipf, 3000, 0.8);
    for (uint32_t scan = 0; scan < 10; scan++) {
        for (uint32_t i = 0; i < 8000; i++)
            assert_int_equal(trace_builder_add(&builder, bench_zipf_next(&zipf, &random)), 0);
        for (uint32_t i = 0; i < 2000; i++)
            assert_int_equal(trace_builder_add(&builder, 10000 + scan * 2000 + i), 0);
    }
    own(&builder, "scans", &sequence);
    compare(&sequence, 2 * MIB, false);
    compare(&sequence, 8 * MIB, false);
    compare(&sequence, 8 * MIB, true);
    trace_sequence_close(&sequence);
}

/* Loops: over a little more than the pool holds, and over far more. */
static void trace_pool_loops_as_simulated(void **state)
{
    (void)state;
    const uint32_t lengths[] = {1150, 1500, 4000};
    for (unsigned l = 0; l < 3; l++) {
        struct trace_builder builder = {0};
        struct trace_sequence sequence;
        for (uint32_t i = 0; i < 20 * lengths[l]; i++)
            assert_int_equal(trace_builder_add(&builder, i % lengths[l]), 0);
        own(&builder, "loop", &sequence);
        compare(&sequence, 4 * MIB, false);
        trace_sequence_close(&sequence);
    }
}

/* The hot set moves: the sizes of probation and main have to follow. */
static void trace_pool_moving_hot_set_as_simulated(void **state)
{
    (void)state;
    struct trace_builder builder = {0};
    struct trace_sequence sequence;
    struct bench_random random;
    bench_random_init(&random, seed_of_test(), 1);
    for (uint32_t phase = 0; phase < 4; phase++) {
        struct bench_dist dist;
        bench_dist_init(&dist, true, 0.9, 6000, bench_random_next(&random));
        for (uint32_t i = 0; i < 30000; i++)
            assert_int_equal(trace_builder_add(&builder, bench_dist_next(&dist, &random)), 0);
    }
    own(&builder, "moving hot set", &sequence);
    compare(&sequence, 4 * MIB, false);
    compare(&sequence, 8 * MIB, false);
    trace_sequence_close(&sequence);
}

/* Recorded traces, where the folder with them lies beside the sources. */
static void trace_pool_recorded_as_simulated(void **state)
{
    (void)state;
    const char *const names[] = {"multi2", "sprite", "2_pools"};
    char path[512], text[256];
    snprintf(path, sizeof path, "%s/sprite.txt.gz", CP_TEST_TRACES);
    if (access(path, R_OK) != 0) {
        print_message("skipped: no traces in %s\n", CP_TEST_TRACES);
        skip();
    }
    for (unsigned i = 0; i < 3; i++) {
        struct trace_sequence sequence;
        snprintf(path, sizeof path, "%s/%s.txt.gz", CP_TEST_TRACES, names[i]);
        if (trace_sequence_open(path, 0, &sequence, text, sizeof text) != 0)
            fail_msg("%s", text);
        compare(&sequence, 3 * MIB, false);
        compare(&sequence, 10 * MIB, false);
        trace_sequence_close(&sequence);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trace_pool_scans_as_simulated),
        cmocka_unit_test(trace_pool_loops_as_simulated),
        cmocka_unit_test(trace_pool_moving_hot_set_as_simulated),
        cmocka_unit_test(trace_pool_recorded_as_simulated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
