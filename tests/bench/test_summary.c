/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "summary.h"

static void summary_odd_count_takes_the_middle(void **state)
{
    (void)state;
    const double values[] = {30, 10, 20};
    struct bench_summary summary = bench_summarize(values, 3);
    assert_true(summary.median == 20 && summary.min == 10 && summary.max == 30);
    assert_true(summary.spread == 0.5);
    assert_true(values[0] == 30);
}

static void summary_even_count_takes_the_mean_of_two(void **state)
{
    (void)state;
    const double values[] = {4, 1, 3, 2};
    assert_true(bench_summarize(values, 4).median == 2.5);
}

static void summary_one_value_has_no_spread(void **state)
{
    (void)state;
    const double value = 5;
    struct bench_summary summary = bench_summarize(&value, 1);
    assert_true(summary.median == 5 && summary.spread == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(summary_odd_count_takes_the_middle),
        cmocka_unit_test(summary_even_count_takes_the_mean_of_two),
        cmocka_unit_test(summary_one_value_has_no_spread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
