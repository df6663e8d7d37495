/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "openloop.h"

#include <clockpool/base/thread.h>

#define SECOND UINT64_C(1000000000)

static void schedule_threads_take_turns_evenly(void **state)
{
    (void)state;
    /* 1000 per second over 4 threads: 1 ms from one to the next, 4 ms for each thread */
    for (unsigned index = 0; index < 4; index++) {
        struct bench_schedule schedule = {7 * SECOND, 1000, 4, index};
        for (uint64_t turn = 0; turn < 10; turn++)
            assert_int_equal(bench_schedule_ns(&schedule, turn),
                             7 * SECOND + (turn * 4 + index) * 1000000);
    }
}

static void schedule_uneven_rate_does_not_drift(void **state)
{
    (void)state;
    /* 7 per second: 142857142.857... ns, which added up would lose a microsecond a day */
    struct bench_schedule schedule = {0, 7, 1, 0};
    assert_int_equal(bench_schedule_ns(&schedule, 7 * UINT64_C(86400)), 86400 * SECOND);
    assert_int_equal(bench_schedule_ns(&schedule, 1), 142857142);
}

static void schedule_long_and_fast_does_not_overflow(void **state)
{
    (void)state;
    struct bench_schedule schedule = {0, BENCH_RATE_MAX, 256, 255};
    uint64_t turns = 86400 * SECOND / 256;
    assert_true(bench_schedule_ns(&schedule, turns) >= 86400 * SECOND);
    assert_true(bench_schedule_ns(&schedule, turns) < 86401 * SECOND);
}

static void due_is_the_rate_times_the_time(void **state)
{
    (void)state;
    assert_int_equal(bench_arrivals_due(1000, SECOND / 2), 500);
    assert_int_equal(bench_arrivals_due(1000, 0), 0);
    assert_int_equal(bench_arrivals_due(BENCH_RATE_MAX, 86400 * SECOND), 86400 * SECOND);
}

static void turns_due_of_all_threads_are_the_arrivals(void **state)
{
    (void)state;
    for (uint64_t due = 0; due < 20; due++) {
        uint64_t sum = 0;
        for (unsigned index = 0; index < 4; index++) {
            struct bench_schedule schedule = {0, 1000, 4, index};
            const uint64_t turns = bench_turns_due(&schedule, due * SECOND / 1000);
            sum += turns;
            if (turns > 0)
                assert_true(bench_schedule_ns(&schedule, turns - 1) < due * SECOND / 1000);
        }
        assert_int_equal(sum, due);
    }
}

static void reached_one_a_thread_and_one_in_a_hundred_may_be_left(void **state)
{
    (void)state;
    assert_true(bench_rate_reached(1000, 1000, 1));
    assert_true(bench_rate_reached(1000, 982, 8));
    assert_false(bench_rate_reached(1000, 981, 8));
    assert_true(bench_rate_reached(3, 1, 2)); /* few arrivals: nothing can be said against it */
    assert_false(bench_rate_reached(3, 0, 2));
}

static void wait_past_returns_at_once_and_stop_ends_it(void **state)
{
    (void)state;
    _Atomic int stop = 0;
    bench_wait_punctually();
    assert_true(bench_wait_until(1, &stop));
    uint64_t until = cp_now_ns() + 500000;
    assert_true(bench_wait_until(until, &stop));
    assert_true(cp_now_ns() >= until); /* never early: the latency would be negative */
    stop = 1;
    assert_false(bench_wait_until(cp_now_ns() + 1000 * SECOND, &stop));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schedule_threads_take_turns_evenly),
        cmocka_unit_test(schedule_uneven_rate_does_not_drift),
        cmocka_unit_test(schedule_long_and_fast_does_not_overflow),
        cmocka_unit_test(due_is_the_rate_times_the_time),
        cmocka_unit_test(turns_due_of_all_threads_are_the_arrivals),
        cmocka_unit_test(reached_one_a_thread_and_one_in_a_hundred_may_be_left),
        cmocka_unit_test(wait_past_returns_at_once_and_stop_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
