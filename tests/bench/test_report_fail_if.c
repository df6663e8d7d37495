/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include "report/fail_if.h"

static struct report_conditions conditions;
static struct bench_error error;

static int setup(void **state)
{
    (void)state;
    memset(&conditions, 0, sizeof conditions);
    memset(&error, 0, sizeof error);
    return 0;
}

static void conditions_one_is_read(void **state)
{
    (void)state;
    assert_int_equal(report_conditions_add(&conditions, "p99>1.10", &error), 0);
    assert_int_equal(conditions.count, 1);
    assert_int_equal(conditions.list[0].metric, REPORT_P99);
    assert_true(conditions.list[0].greater);
    assert_true(conditions.list[0].ratio > 1.0999 && conditions.list[0].ratio < 1.1001);
}

static void conditions_several_blanks_and_field_names_are_read(void **state)
{
    (void)state;
    assert_int_equal(report_conditions_add(&conditions, " p999_us > 2 ,ops<.9", &error), 0);
    assert_int_equal(report_conditions_add(&conditions, "mem>1", &error), 0);
    assert_int_equal(conditions.count, 3);
    assert_int_equal(conditions.list[0].metric, REPORT_P999);
    assert_int_equal(conditions.list[1].metric, REPORT_OPS);
    assert_false(conditions.list[1].greater);
    assert_int_equal(conditions.list[2].metric, REPORT_PEAK);
}

static void conditions_every_metric_has_its_name(void **state)
{
    (void)state;
    char text[100];
    for (unsigned i = 0; i < REPORT_METRIC_COUNT; i++) {
        snprintf(text, sizeof text, "%s>1,%s<1", report_metrics[i].name, report_metrics[i].field);
        assert_int_equal(report_conditions_add(&conditions, text, &error), 0);
        assert_int_equal(conditions.list[2 * i].metric, i);
        assert_int_equal(conditions.list[2 * i + 1].metric, i);
    }
}

/* What is refused leaves no trace, and the message has the text that is wrong. */
static void conditions_nonsense_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",       "p99",    "p99>",   ">1",           "p98>1",   "p99>x",
        "p99>-1", "p99>0",  "p99>1x", "p99>nan",      "p99>inf", "p99=1",
        "p99>=1", "ops<1,", ",ops<1", "ops<1,,p50>1", "p99>1>2", "ops<1 p99>1"};
    assert_int_equal(report_conditions_add(&conditions, "ops<0.5", &error), 0);
    for (unsigned i = 0; i < sizeof texts / sizeof *texts; i++) {
        error.text[0] = '\0';
        if (report_conditions_add(&conditions, texts[i], &error) == 0)
            fail_msg("\"%s\" was accepted", texts[i]);
        assert_int_not_equal(error.text[0], '\0');
        assert_int_equal(conditions.count, 1);
    }
}

static void conditions_one_bad_one_refuses_all_of_the_text(void **state)
{
    (void)state;
    assert_int_equal(report_conditions_add(&conditions, "ops<1,cool>2", &error), -1);
    assert_int_equal(conditions.count, 0);
    assert_non_null(strstr(error.text, "\"cool\""));
    assert_non_null(strstr(error.text, "p999"));
}

static void conditions_too_many_are_refused(void **state)
{
    (void)state;
    for (unsigned i = 0; i < REPORT_CONDITIONS_MAX; i++)
        assert_int_equal(report_conditions_add(&conditions, "ops<1", &error), 0);
    assert_int_equal(report_conditions_add(&conditions, "ops<1", &error), -1);
}

static void condition_holds_beyond_its_ratio_only(void **state)
{
    (void)state;
    const struct report_condition greater = {REPORT_P99, true, 1.5},
                                  less = {REPORT_OPS, false, 0.5};
    assert_true(report_condition_holds(&greater, 1.51));
    assert_false(report_condition_holds(&greater, 1.5));
    assert_false(report_condition_holds(&greater, 0.1));
    assert_true(report_condition_holds(&less, 0.49));
    assert_false(report_condition_holds(&less, 0.5));
    assert_false(report_condition_holds(&less, 9));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(conditions_one_is_read, setup),
        cmocka_unit_test_setup(conditions_several_blanks_and_field_names_are_read, setup),
        cmocka_unit_test_setup(conditions_every_metric_has_its_name, setup),
        cmocka_unit_test_setup(conditions_nonsense_is_refused, setup),
        cmocka_unit_test_setup(conditions_one_bad_one_refuses_all_of_the_text, setup),
        cmocka_unit_test_setup(conditions_too_many_are_refused, setup),
        cmocka_unit_test_setup(condition_holds_beyond_its_ratio_only, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
