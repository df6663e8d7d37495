/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>
#include "sampler.h"

#define SECOND UINT64_C(1000000000)

static struct bench_sampler sampler;
static struct bench_series series;
static struct bench_sample sample;

/* Begin at 100 s, with counts that were there before. */
static int begin(void **state)
{
    (void)state;
    memset(&sample, 0, sizeof sample);
    sample.now_ns = 100 * SECOND;
    sample.ops = 7;
    sample.read_bytes = 4096;
    bench_histogram_add(&sample.times, 900000);
    bench_sampler_begin(&sampler, 20, 10 * 4096, &sample, &series);
    return 0;
}

/* After so long, so many operations of this length more. */
static void add(double after_s, unsigned ops, uint64_t each_ns)
{
    sample.now_ns += (uint64_t)(after_s * 1e9);
    sample.ops += ops;
    for (unsigned i = 0; i < ops; i++)
        bench_histogram_add(&sample.times, each_ns);
    bench_sampler_add(&sampler, &sample);
}

static bool near(double a, double b)
{
    return fabs(a - b) <= 0.02 * fabs(b) + 1e-9;
}

static void interval_ten_points_at_least_and_six_hundred_at_most(void **state)
{
    (void)state;
    assert_true(bench_series_interval_s(1) == 0.1);
    assert_true(bench_series_interval_s(10) == 1);
    assert_true(bench_series_interval_s(600) == 1);
    assert_true(bench_series_interval_s(601) == 2);
    assert_true(86400 / bench_series_interval_s(86400) <= BENCH_SERIES_MAX);
}

static void sampler_points_are_of_their_interval_alone(void **state)
{
    (void)state;
    add(1, 1000, 50000);
    sample.read_bytes += 8192;
    add(2, 500, 100000);
    assert_int_equal(series.count, 2);
    assert_true(near(series.points[0].t_s, 1) && near(series.points[1].t_s, 3));
    assert_true(near(series.points[0].ops_per_s, 1000));
    assert_true(near(series.points[1].ops_per_s, 250)); /* as long as it was, not as it should be */
    /* neither what was before the beginning nor what was in the interval before */
    assert_true(near(series.points[0].p99_us, 50) && near(series.points[0].max_us, 50));
    assert_true(near(series.points[1].p99_us, 100) && near(series.points[1].max_us, 100));
    assert_true(series.points[0].read_bytes == 0 && series.points[1].read_bytes == 8192);
}

static void sampler_full_counts_from_the_interval_in_which_it_was(void **state)
{
    (void)state;
    add(1, 1000, 500000); /* while memory filled */
    sample.read_bytes += 9 * 4096;
    add(1, 1000, 400000);
    assert_true(bench_sampler_full_us(&sampler, &sample, 0.999) == -1);
    sample.read_bytes += 4096;
    add(1, 1000, 50000);
    add(1, 1000, 60000);
    sample.read_bytes += 100 * 4096;
    for (unsigned i = 0; i < 100; i++) /* after the last interval, and counted */
        bench_histogram_add(&sample.times, 70000);
    assert_true(near(bench_sampler_full_us(&sampler, &sample, 0.4), 50));
    bench_sampler_begin(&sampler, 20, 0, &sample, &series);
    add(1, 1, 5);
    assert_true(bench_sampler_full_us(&sampler, &sample, 0.999) == -1); /* it was not asked for */
}

static void sampler_full_leaves_out_what_was_slower_before(void **state)
{
    (void)state;
    add(1, 1000, 500000);
    sample.read_bytes += 10 * 4096;
    add(1, 1000, 50000);
    assert_true(near(bench_sampler_full_us(&sampler, &sample, 0.999), 50));
}

static void sampler_interval_without_work_is_zero(void **state)
{
    (void)state;
    add(1, 10, 5000);
    add(1, 0, 0);
    assert_true(series.points[1].ops_per_s == 0 && series.points[1].p99_us == 0 &&
                series.points[1].max_us == 0);
}

static void sampler_late_sample_does_not_shift_the_next(void **state)
{
    (void)state;
    assert_int_equal(bench_sampler_due_ns(&sampler), 101 * SECOND);
    add(1.4, 1, 5);
    assert_int_equal(bench_sampler_due_ns(&sampler), 102 * SECOND);
    add(2.7, 1, 5); /* at 4.1 s: what was missed is not made up for */
    assert_int_equal(bench_sampler_due_ns(&sampler), 105 * SECOND);
}

static void sampler_end_takes_half_an_interval_or_the_only_one(void **state)
{
    (void)state;
    sample.now_ns += SECOND / 10;
    sample.ops += 5;
    bench_sampler_end(&sampler, &sample);
    assert_int_equal(series.count, 1);
    sample.now_ns += SECOND / 10 * 4;
    bench_sampler_end(&sampler, &sample);
    assert_int_equal(series.count, 1);
    sample.now_ns += SECOND / 10 * 2;
    bench_sampler_end(&sampler, &sample);
    assert_int_equal(series.count, 2);
}

static void sampler_full_series_stays(void **state)
{
    (void)state;
    for (unsigned i = 0; i < BENCH_SERIES_MAX + 10; i++)
        add(1, 1, 5);
    assert_int_equal(series.count, BENCH_SERIES_MAX);
}

static void variation_of_known_values(void **state)
{
    (void)state;
    static const double rates[] = {1000, 8, 12, 10, 10};
    series.count = 0;
    assert_true(bench_series_variation(&series, 0) == 0);
    for (unsigned i = 0; i < 5; i++)
        series.points[series.count++] = (struct bench_point){i + 1, rates[i], 0, 0, 0};
    /* the first ends before: mean 10, squares 4 + 4, over 3 */
    assert_true(near(bench_series_variation(&series, 1), sqrt(8.0 / 3) / 10));
    assert_true(bench_series_variation(&series, 0) > 1);
    assert_true(bench_series_variation(&series, 4) == 0); /* one value has none */
    memset(&series, 0, sizeof series);
    series.count = 3;
    assert_true(bench_series_variation(&series, -1) == 0); /* nothing was done */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(interval_ten_points_at_least_and_six_hundred_at_most),
        cmocka_unit_test_setup(sampler_points_are_of_their_interval_alone, begin),
        cmocka_unit_test_setup(sampler_full_counts_from_the_interval_in_which_it_was, begin),
        cmocka_unit_test_setup(sampler_full_leaves_out_what_was_slower_before, begin),
        cmocka_unit_test_setup(sampler_interval_without_work_is_zero, begin),
        cmocka_unit_test_setup(sampler_late_sample_does_not_shift_the_next, begin),
        cmocka_unit_test_setup(sampler_end_takes_half_an_interval_or_the_only_one, begin),
        cmocka_unit_test_setup(sampler_full_series_stays, begin),
        cmocka_unit_test(variation_of_known_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
