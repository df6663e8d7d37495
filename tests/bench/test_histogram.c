/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include "histogram.h"
#include "random.h"

#define VALUES 20000u

static struct bench_histogram histogram, other;

static int reset(void **state)
{
    (void)state;
    histogram = (struct bench_histogram){0};
    other = (struct bench_histogram){0};
    return 0;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void quantile_random_values_within_its_error(void **state)
{
    (void)state;
    static uint64_t values[VALUES];
    static const double fractions[] = {0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0};
    struct bench_random random;
    bench_random_init(&random, 3, 1);
    for (unsigned i = 0; i < VALUES; i++) {
        values[i] = bench_random_next(&random) >> (24 + i % 40); /* all orders of magnitude */
        bench_histogram_add(&histogram, values[i]);
    }
    qsort(values, VALUES, sizeof *values, compare);
    for (unsigned i = 0; i < sizeof fractions / sizeof *fractions; i++) {
        double exact = (double)values[(unsigned)(fractions[i] * VALUES + 0.5) - 1];
        double got = (double)bench_histogram_quantile(&histogram, fractions[i]);
        assert_true(got >= exact && got <= exact * (1 + 1.0 / 64) + 1);
    }
    assert_int_equal(histogram.max, values[VALUES - 1]);
}

static void bucket_rises_with_the_value(void **state)
{
    (void)state;
    unsigned last = 0;
    for (uint64_t value = 0; value < 1 << 20; value++) {
        unsigned bucket = bench_histogram_bucket(value);
        assert_true(bucket == last || bucket == last + 1);
        last = bucket;
    }
    assert_int_equal(bench_histogram_bucket(UINT64_MAX), BENCH_HISTOGRAM_BUCKETS - 1);
}

static void quantile_empty_is_zero(void **state)
{
    (void)state;
    assert_int_equal(bench_histogram_quantile(&histogram, 0.5), 0);
}

/* What docs/benchmark.md says of few samples: one slow one is the p99.9 until there are 1,000. */
static void quantile_of_few_is_the_longest(void **state)
{
    (void)state;
    bench_histogram_add(&histogram, 5000000);
    for (unsigned count = 1; count < 1000; count++) {
        assert_int_equal(bench_histogram_quantile(&histogram, 0.999), 5000000);
        bench_histogram_add(&histogram, 10);
    }
    assert_int_equal(bench_histogram_quantile(&histogram, 0.999), 10);
}

static void merge_is_as_if_recorded_together(void **state)
{
    (void)state;
    struct bench_histogram all = {0};
    for (uint64_t i = 0; i < 1000; i++) {
        bench_histogram_add(i % 3 == 0 ? &histogram : &other, i * i);
        bench_histogram_add(&all, i * i);
    }
    bench_histogram_merge(&histogram, &other);
    assert_memory_equal(&histogram, &all, sizeof all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(quantile_random_values_within_its_error, reset),
        cmocka_unit_test_setup(bucket_rises_with_the_value, reset),
        cmocka_unit_test_setup(quantile_empty_is_zero, reset),
        cmocka_unit_test_setup(quantile_of_few_is_the_longest, reset),
        cmocka_unit_test_setup(merge_is_as_if_recorded_together, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
