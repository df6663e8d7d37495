/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "report/compare.h"
#include "report_rows.h"

static json_t *rows[2]; /* old, new; borrowed from the parts */
static struct report_part parts[2];
static struct report_comparison comparison;
static struct bench_error error;

static int setup(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        rows[i] = json_array();
        parts[i].name = i == 0 ? "old.json" : "new.json";
        parts[i].root = make_file(rows[i]);
    }
    error.text[0] = '\0';
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    report_comparison_fini(&comparison);
    json_decref(parts[0].root);
    json_decref(parts[1].root);
    return 0;
}

static void add(unsigned file, json_t *row)
{
    assert_int_equal(json_array_append_new(rows[file], row), 0);
}

static int compare(void)
{
    return report_compare(&parts[0], &parts[1], &comparison, &error);
}

static const struct report_difference *difference(unsigned pair, enum report_metric metric)
{
    assert_true(pair < comparison.pair_count);
    return &comparison.pairs[pair].differences[metric];
}

static void compare_ratio_is_new_over_old(void **state)
{
    (void)state;
    add(0, make_row("pool", 1, 1, 1000, 100));
    add(1, make_row("pool", 1, 1, 2000, 150));
    assert_int_equal(compare(), 0);
    assert_true(fabs(difference(0, REPORT_OPS)->ratio - 2) < 1e-9);
    assert_true(fabs(difference(0, REPORT_P99)->ratio - 1.5) < 1e-9);
    assert_true(fabs(difference(0, REPORT_PEAK)->ratio - 1) < 1e-9);
    assert_true(isnan(difference(0, REPORT_OPEN)->ratio));
}

static void compare_overlapping_ranges_are_not_resolved(void **state)
{
    (void)state;
    add(0, make_row("pool", 1, 1, 1000, 100));
    add(0, make_row("pool", 2, 1, 1000, 100));
    add(1, make_row("pool", 1, 1, 1090, 100)); /* from 1035: the old one reaches 1050 */
    add(1, make_row("pool", 2, 1, 1120, 100)); /* from 1064 */
    assert_int_equal(compare(), 0);
    assert_int_equal(difference(0, REPORT_OPS)->resolution, REPORT_NOT_RESOLVED);
    assert_int_equal(difference(1, REPORT_OPS)->resolution, REPORT_RESOLVED);
    /* the rows have no extremes of the p99 */
    assert_int_equal(difference(0, REPORT_P99)->resolution, REPORT_UNKNOWN);
}

/* One repetition has a range of one point: it tells nothing, whatever the difference. */
static void compare_single_repetition_resolves_nothing(void **state)
{
    (void)state;
    for (unsigned file = 0; file < 2; file++)
        for (unsigned i = 0; i < 2; i++) {
            json_t *row = make_row("pool", i + 1, 1, file == 0 ? 1000 : 2000, 100);
            json_object_set_new(row, "repeats", json_integer(file == 1 && i == 0 ? 1 : 2));
            add(file, row);
        }
    assert_int_equal(compare(), 0);
    assert_int_equal(difference(0, REPORT_OPS)->resolution, REPORT_UNKNOWN);
    assert_int_equal(difference(0, REPORT_P50)->resolution, REPORT_UNKNOWN);
    assert_int_equal(difference(1, REPORT_OPS)->resolution, REPORT_RESOLVED);
    json_t *json = report_compare_json(&comparison, &parts[0], &parts[1]);
    const json_t *row = json_array_get(json_object_get(json, "rows"), 0);
    const json_t *ops = json_object_get(json_object_get(row, "metrics"), "ops_per_s");
    assert_true(json_is_null(json_object_get(ops, "resolved")));
    json_decref(json);
    /* a condition is judged all the same */
    const struct report_condition more = {REPORT_OPS, true, 1.5};
    assert_int_equal(report_judge(&comparison.pairs[0], &more), REPORT_BREAKS);
}

static void compare_rows_match_by_all_that_was_asked_for(void **state)
{
    (void)state;
    static const char *const texts[] = {"engine", "workload",   "dist",
                                        "access", "durability", "advice"};
    static const char *const numbers[] = {"threads", "depth", "size_bytes",  "mem_bytes",
                                          "rate",    "batch", "write_share", "page_size_bytes"};
    const unsigned text_count = sizeof texts / sizeof *texts;
    const unsigned number_count = sizeof numbers / sizeof *numbers;
    add(0, make_row("pool", 1, 1, 1000, 100));
    add(1, make_row("pool", 1, 1, 1000, 100));
    for (unsigned i = 0; i < text_count; i++) {
        json_t *row = make_row("pool", 1, 1, 1000, 100);
        json_object_set_new(row, texts[i], json_string("another"));
        add(1, row);
    }
    for (unsigned i = 0; i < number_count; i++) {
        json_t *row = make_row("pool", 1, 1, 1000, 100);
        json_object_set_new(row, numbers[i], json_integer(7777));
        add(1, row);
    }
    assert_int_equal(compare(), 0);
    assert_int_equal(comparison.pair_count, 1);
    assert_int_equal(comparison.lonely_count, text_count + number_count);
    assert_int_equal(comparison.lonely[0]->part, 1);
}

/* A row that matches no other is told from it by name, and in the JSON. */
static void compare_names_say_what_differs(void **state)
{
    (void)state;
    char name[400];
    json_t *row = make_row("pool", 1, 1, 1000, 100);
    json_object_set_new(row, "batch", json_integer(8));
    json_object_set_new(row, "write_share", json_real(0.05));
    json_object_set_new(row, "advice", json_string("normal"));
    add(0, make_row("pool", 1, 1, 1000, 100));
    add(1, make_row("pool", 1, 1, 1000, 100));
    add(1, row);
    assert_int_equal(compare(), 0);
    report_pair_name(name, sizeof name, comparison.lonely[0]);
    assert_non_null(strstr(name, ", batches of 8, write share 0.05, advice normal"));
    json_t *json = report_compare_json(&comparison, &parts[0], &parts[1]);
    const json_t *lonely = json_array_get(json_object_get(json, "only_new"), 0);
    assert_int_equal(json_integer_value(json_object_get(lonely, "batch")), 8);
    assert_true(json_real_value(json_object_get(lonely, "write_share")) == 0.05);
    assert_string_equal(json_string_value(json_object_get(lonely, "advice")), "normal");
    json_decref(json);
}

static void compare_nothing_in_common_is_an_error(void **state)
{
    (void)state;
    add(0, make_row("pool", 1, 1, 1000, 100));
    add(1, make_row("pool", 2, 1, 1000, 100));
    assert_int_equal(compare(), -1);
    assert_non_null(strstr(error.text, "no row in common"));
}

static void compare_a_file_without_results_is_named(void **state)
{
    (void)state;
    add(0, make_row("pool", 1, 1, 1000, 100));
    assert_int_equal(compare(), -1);
    assert_non_null(strstr(error.text, "new.json"));
}

static void compare_the_same_row_twice_is_an_error(void **state)
{
    (void)state;
    add(0, make_row("pool", 1, 1, 1000, 100));
    add(1, make_row("pool", 1, 1, 1000, 100));
    add(1, make_row("pool", 1, 1, 900, 100));
    assert_int_equal(compare(), -1);
    assert_non_null(strstr(error.text, "new.json: has two results of pool"));
}

static void judge_row_that_fails_now_breaks(void **state)
{
    (void)state;
    const struct report_condition ops = {REPORT_OPS, false, 0.5}, open = {REPORT_OPEN, true, 2};
    add(0, make_row("pool", 1, 1, 1000, 100));
    add(0, make_row("mmap", 1, 1, 1000, 100));
    add(0, make_row("lmdb", 1, 1, 1000, 100));
    for (unsigned i = 0; i < 3; i++)
        add(1, json_deep_copy(json_array_get(rows[0], i)));
    fail_row(json_array_get(rows[1], 0), "lost");
    fail_row(json_array_get(rows[0], 1), "lost");
    assert_int_equal(compare(), 0);
    assert_int_equal(report_judge(&comparison.pairs[0], &ops), REPORT_BREAKS);
    assert_int_equal(report_judge(&comparison.pairs[1], &ops), REPORT_CANNOT_TELL);
    assert_int_equal(report_judge(&comparison.pairs[2], &ops), REPORT_PASSES);
    /* it never had that figure */
    assert_int_equal(report_judge(&comparison.pairs[0], &open), REPORT_CANNOT_TELL);
}

static void judge_figure_that_is_gone_breaks(void **state)
{
    (void)state;
    const struct report_condition peak = {REPORT_PEAK, true, 100}, ops = {REPORT_OPS, false, 0.5};
    add(0, make_row("pool", 1, 1, 1000, 100));
    add(1, make_row("pool", 1, 1, 1000, 100));
    json_object_set_new(json_array_get(rows[1], 0), "peak_mem_bytes", json_integer(0));
    assert_int_equal(compare(), 0);
    assert_int_equal(report_judge(&comparison.pairs[0], &peak), REPORT_BREAKS);
    assert_int_equal(report_judge(&comparison.pairs[0], &ops), REPORT_PASSES);
}

static void judge_more_than_nothing_is_infinitely_more(void **state)
{
    (void)state;
    const struct report_condition more = {REPORT_CPU, true, 1e6}, less = {REPORT_CPU, false, 0.5};
    add(0, make_row("pool", 1, 1, 1000, 100));
    add(1, make_row("pool", 1, 1, 1000, 100));
    json_object_set_new(json_array_get(rows[0], 0), "cpu_us_per_op", json_real(0));
    assert_int_equal(compare(), 0);
    assert_true(isinf(difference(0, REPORT_CPU)->ratio));
    assert_int_equal(report_judge(&comparison.pairs[0], &more), REPORT_BREAKS);
    assert_int_equal(report_judge(&comparison.pairs[0], &less), REPORT_PASSES);
    report_comparison_fini(&comparison);
    json_object_set_new(json_array_get(rows[1], 0), "cpu_us_per_op", json_real(0));
    assert_int_equal(compare(), 0);
    assert_true(difference(0, REPORT_CPU)->ratio == 1);
    assert_int_equal(report_judge(&comparison.pairs[0], &more), REPORT_PASSES);
}

static void judge_follows_the_ratio_resolved_or_not(void **state)
{
    (void)state;
    const struct report_condition slower = {REPORT_OPS, false, 0.99};
    add(0, make_row("pool", 1, 1, 1000, 100));
    add(0, make_row("pool", 2, 1, 1000, 100));
    add(1, make_row("pool", 1, 1, 980, 100));
    add(1, make_row("pool", 2, 1, 995, 100));
    assert_int_equal(compare(), 0);
    assert_int_equal(difference(0, REPORT_OPS)->resolution, REPORT_NOT_RESOLVED);
    assert_int_equal(report_judge(&comparison.pairs[0], &slower), REPORT_BREAKS);
    assert_int_equal(report_judge(&comparison.pairs[1], &slower), REPORT_PASSES);
}

static void print_marks_and_names(void **state)
{
    (void)state;
    char *text = NULL;
    size_t length;
    add(0, make_row("pool", 1, 1, 1000, 100));
    add(0, make_row("mmap", 1, 1, 1000, 100));
    add(0, make_row("lmdb", 1, 1, 1000, 100));
    add(1, make_row("pool", 1, 1, 1010, 100));
    add(1, make_row("mmap", 1, 1, 2500, 100));
    add(1, make_row("raw", 1, 1, 1000, 100));
    assert_int_equal(compare(), 0);
    FILE *out = open_memstream(&text, &length);
    assert_non_null(out);
    report_compare_print(out, &comparison);
    fclose(out);
    assert_non_null(strstr(text, " 1.01~"));
    assert_non_null(strstr(text, " 2.50 "));
    assert_non_null(strstr(text, "only in the old file: lmdb, read-random uniform fix"));
    assert_non_null(strstr(text, "only in the new file: raw, read-random uniform fix"));
    free(text);
}

static void json_has_pairs_and_lonely_rows(void **state)
{
    (void)state;
    add(0, make_row("pool", 1, 1, 1000, 100));
    add(0, make_row("lmdb", 1, 1, 1000, 100));
    add(1, make_row("pool", 1, 1, 2000, 100));
    assert_int_equal(compare(), 0);
    json_t *json = report_compare_json(&comparison, &parts[0], &parts[1]);
    const json_t *row = json_array_get(json_object_get(json, "rows"), 0);
    const json_t *ops = json_object_get(json_object_get(row, "metrics"), "ops_per_s");
    const json_t *p99 = json_object_get(json_object_get(row, "metrics"), "p99_us");
    assert_true(json_real_value(json_object_get(ops, "ratio")) > 1.99);
    assert_true(json_is_true(json_object_get(ops, "resolved")));
    assert_true(json_is_null(json_object_get(p99, "resolved")));
    assert_int_equal(json_array_size(json_object_get(json, "only_old")), 1);
    assert_int_equal(json_array_size(json_object_get(json, "only_new")), 0);
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(compare_ratio_is_new_over_old, setup, teardown),
        cmocka_unit_test_setup_teardown(compare_overlapping_ranges_are_not_resolved, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(compare_single_repetition_resolves_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(compare_rows_match_by_all_that_was_asked_for, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(compare_names_say_what_differs, setup, teardown),
        cmocka_unit_test_setup_teardown(compare_nothing_in_common_is_an_error, setup, teardown),
        cmocka_unit_test_setup_teardown(compare_a_file_without_results_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(compare_the_same_row_twice_is_an_error, setup, teardown),
        cmocka_unit_test_setup_teardown(judge_row_that_fails_now_breaks, setup, teardown),
        cmocka_unit_test_setup_teardown(judge_figure_that_is_gone_breaks, setup, teardown),
        cmocka_unit_test_setup_teardown(judge_more_than_nothing_is_infinitely_more, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(judge_follows_the_ratio_resolved_or_not, setup, teardown),
        cmocka_unit_test_setup_teardown(print_marks_and_names, setup, teardown),
        cmocka_unit_test_setup_teardown(json_has_pairs_and_lonely_rows, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
