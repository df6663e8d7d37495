/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "report/input.h"
#include "report_rows.h"

static struct bench_error error;

/* Takes root. The message, or NULL when the file can be used. */
static const char *check(json_t *root)
{
    assert_non_null(root);
    error.text[0] = '\0';
    int code = report_check("file.json", root, &error);
    json_decref(root);
    assert_int_equal(code != 0, error.text[0] != '\0');
    return code == 0 ? NULL : error.text;
}

static void assert_says(const char *message, const char *text)
{
    assert_non_null(message);
    assert_non_null(strstr(message, "file.json"));
    if (strstr(message, text) == NULL)
        fail_msg("no \"%s\" in \"%s\"", text, message);
}

static void check_any_of_the_three_lists_is_enough(void **state)
{
    (void)state;
    assert_null(check(make_file(json_array())));
    assert_null(check(json_pack("{s:[{s:i,s:s,s:s}]}", "claims", "id", 1, "claim", "c", "verdict",
                                "not measured")));
    assert_null(check(json_pack("{s:[{s:s,s:s,s:[{s:i,s:f}]}]}", "curves", "trace", "t", "policy",
                                "p", "points", "frames", 1, "miss_ratio", 0.5)));
}

static void check_other_json_is_refused(void **state)
{
    (void)state;
    assert_says(check(json_pack("[i]", 1)), "not an object");
    assert_says(check(json_object()), "none of \"results\"");
    assert_says(check(json_pack("{s:i}", "results", 1)), "no");
    assert_says(check(json_pack("{s:i,s:i}", "format", 1, "results", 1)), "not an array");
}

static void check_another_format_is_refused(void **state)
{
    (void)state;
    json_t *root = make_file(json_array());
    json_object_set_new(root, "format", json_integer(2));
    assert_says(check(root), "format is 2");
    root = make_file(json_array());
    json_object_del(root, "format");
    assert_says(check(root), "no field \"format\"");
}

static void check_every_field_of_a_result_is_needed(void **state)
{
    (void)state;
    static const char *const fields[] = {
        "engine",        "workload",  "dist",           "access",  "threads",   "depth",
        "size_bytes",    "mem_bytes", "peak_mem_bytes", "failed",  "ops_per_s", "ops_per_s_min",
        "ops_per_s_max", "p50_us",    "p99_us",         "p999_us", "max_us",    "cpu_us_per_op"};
    for (unsigned i = 0; i < sizeof fields / sizeof *fields; i++) {
        char text[100];
        json_t *row = make_row("pool", 1, 1, 10, 100);
        json_object_del(row, fields[i]);
        snprintf(text, sizeof text, "results[1] has no field \"%s\"", fields[i]);
        assert_says(check(make_file(json_pack("[o,o]", make_row("pool", 1, 1, 10, 100), row))),
                    text);
        row = make_row("pool", 1, 1, 10, 100);
        json_object_set_new(row, fields[i], json_true());
        snprintf(text, sizeof text, "field \"%s\" is not", fields[i]);
        assert_says(check(make_file(json_pack("[o]", row))), text);
    }
}

static void check_negative_counts_are_refused(void **state)
{
    (void)state;
    json_t *row = make_row("pool", 1, 1, 10, 100);
    json_object_set_new(row, "threads", json_integer(-1));
    assert_says(check(make_file(json_pack("[o]", row))), "\"threads\" is not a whole number");
}

static void check_sizes_that_may_be_missing_are_whole_numbers(void **state)
{
    (void)state;
    json_t *row = make_row("pool", 1, 1, 10, 100);
    json_object_set_new(row, "page_size_bytes", json_real(1e300));
    assert_says(check(make_file(json_pack("[o]", row))), "\"page_size_bytes\" is not a whole");
}

static void check_peaks_may_be_unknown(void **state)
{
    (void)state;
    json_t *row = make_row("pool", 1, 1, 10, 100);
    json_object_set_new(row, "peak_mem_bytes", json_null());
    assert_null(check(make_file(json_pack("[o]", row))));
}

static void check_failed_rows_need_no_figures(void **state)
{
    (void)state;
    json_t *row = make_row("pool", 1, 1, 10, 100);
    fail_row(row, "broken");
    json_object_del(row, "p99_us");
    assert_null(check(make_file(json_pack("[o]", row))));
}

static void check_claims_and_curves_are_looked_at(void **state)
{
    (void)state;
    assert_says(check(json_pack("{s:[{s:i,s:s,s:s}]}", "claims", "id", 1, "claim", "c", "verdict",
                                "perhaps")),
                "\"perhaps\"");
    assert_says(check(json_pack("{s:[{s:i,s:s}]}", "claims", "id", 1, "claim", "c")),
                "no field \"verdict\"");
    assert_says(check(json_pack("{s:[{s:s,s:s}]}", "curves", "trace", "t", "policy", "p")),
                "no array \"points\"");
    assert_says(check(json_pack("{s:[{s:s,s:s,s:[{s:i}]}]}", "curves", "trace", "t", "policy", "p",
                                "points", "frames", 1)),
                "points[0] has no field \"miss_ratio\"");
}

static void load_what_cannot_be_read_is_named(void **state)
{
    (void)state;
    json_t *root = NULL;
    assert_int_equal(report_load("/nonexistent/file.json", &root, &error), -1);
    assert_says(error.text, "/nonexistent/file.json");
    assert_null(root);
}

/* What `clockpool-bench trace` writes. */
static void load_traces_become_curves(void **state)
{
    (void)state;
    static const char text[] =
        "{\"seed\": 1, \"traces\": [{\"trace\": \"t\", \"policies\": [{\"policy\": "
        "\"LRU\", \"points\": [{\"frames\": 8, \"miss_ratio\": 0.5}]}, "
        "{\"policy\": \"2Q\", \"points\": []}]}, "
        "{\"trace\": \"t\", \"policies\": [{\"policy\": \"LRU\", \"points\": []}]}]}";
    char path[] = "/tmp/clockpool-report-XXXXXX";
    int fd = mkstemp(path);
    json_t *root = NULL;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, sizeof text - 1), (ssize_t)sizeof text - 1);
    close(fd);
    int code = report_load(path, &root, &error);
    unlink(path);
    assert_int_equal(code, 0);
    const json_t *curves = json_object_get(root, "curves");
    assert_int_equal(json_array_size(curves), 3);
    const json_t *second = json_array_get(curves, 1);
    assert_string_equal(json_string_value(json_object_get(second, "policy")), "2Q");
    assert_string_equal(json_string_value(json_object_get(second, "trace")), "t");
    /* another of the same name is no part of the first */
    const json_t *other = json_array_get(curves, 2);
    assert_string_equal(json_string_value(json_object_get(other, "trace")), "t (2)");
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_any_of_the_three_lists_is_enough),
        cmocka_unit_test(check_other_json_is_refused),
        cmocka_unit_test(check_another_format_is_refused),
        cmocka_unit_test(check_every_field_of_a_result_is_needed),
        cmocka_unit_test(check_negative_counts_are_refused),
        cmocka_unit_test(check_sizes_that_may_be_missing_are_whole_numbers),
        cmocka_unit_test(check_peaks_may_be_unknown),
        cmocka_unit_test(check_failed_rows_need_no_figures),
        cmocka_unit_test(check_claims_and_curves_are_looked_at),
        cmocka_unit_test(load_traces_become_curves),
        cmocka_unit_test(load_what_cannot_be_read_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
