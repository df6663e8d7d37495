/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>
#include "report/figure.h"
#include "report_rows.h"

static json_t *list; /* results; borrowed from the part */
static struct report_part part;
static struct report_rows rows;
static struct report_group *groups;
static unsigned group_count;
static json_t *figure;

static int setup(void **state)
{
    (void)state;
    list = json_array();
    part.name = "file.json";
    part.root = make_file(list);
    figure = NULL;
    groups = NULL;
    group_count = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    json_decref(figure);
    report_groups_free(groups, group_count);
    report_rows_fini(&rows);
    json_decref(part.root);
    return 0;
}

static json_t *add(const char *engine, unsigned threads, unsigned depth, double ops)
{
    json_t *row = make_row(engine, threads, depth, ops, 100);
    assert_int_equal(json_array_append_new(list, row), 0);
    return row;
}

/* Read what was added; it must make so many groups. */
static void read_groups(unsigned wanted)
{
    struct bench_error error = {""};
    assert_int_equal(report_check(part.name, part.root, &error), 0);
    assert_int_equal(report_rows_read(&part, 1, &rows, &error), 0);
    assert_int_equal(report_groups_make(&rows, &groups, &group_count, &error), 0);
    assert_int_equal(group_count, wanted);
}

static const char *text_at(const json_t *array, size_t index, const char *name)
{
    const char *text = json_string_value(json_object_get(json_array_get(array, index), name));
    return text != NULL ? text : "";
}

static double number_at(const json_t *array, size_t index)
{
    assert_true(json_is_number(json_array_get(array, index)));
    return json_number_value(json_array_get(array, index));
}

static void groups_other_promises_stand_apart(void **state)
{
    (void)state;
    json_object_set_new(add("pool", 1, 1, 10), "durability", json_string("durable on return"));
    json_object_set_new(add("lmdb", 1, 1, 20), "durability", json_string("none"));
    json_object_set_new(add("mmap", 1, 1, 20), "durability", json_string("durable on return"));
    json_object_set_new(add("raw", 1, 1, 20), "size_bytes", json_integer(5));
    json_object_set_new(add("raw", 1, 1, 20), "rate", json_integer(5000));
    read_groups(4);
    assert_int_equal(groups[0].count, 2);
    assert_string_equal(groups[0].rows[1]->engine, "mmap");
}

static void rates_rows_are_under_their_number_of_threads(void **state)
{
    (void)state;
    add("pool", 8, 1, 30);
    add("pool", 1, 1, 10);
    add("pool", 1, 32, 20);
    add("mmap", 8, 1, 40);
    read_groups(1);
    figure = report_figure_rates(&groups[0]);
    const json_t *lines = json_object_get(figure, "rows");
    assert_int_equal(json_array_size(lines), 6);
    assert_string_equal(text_at(lines, 0, "heading"), "one thread");
    assert_string_equal(text_at(lines, 1, "label"), "pool");
    assert_string_equal(text_at(lines, 2, "label"), "pool, 32 in flight");
    assert_string_equal(text_at(lines, 3, "heading"), "8 threads");
    assert_string_equal(text_at(lines, 5, "color"), "mmap");
    assert_string_equal(text_at(lines, 1, "text"), "10 ±5 %");
}

static void rates_single_repetition_has_no_spread(void **state)
{
    (void)state;
    json_object_set_new(add("pool", 1, 1, 10), "repeats", json_integer(1));
    read_groups(1);
    figure = report_figure_rates(&groups[0]);
    const json_t *lines = json_object_get(figure, "rows");
    assert_string_equal(text_at(lines, 1, "text"), "10");
    assert_true(json_is_null(json_object_get(json_array_get(lines, 1), "low")));
}

static void rates_failed_row_has_no_value(void **state)
{
    (void)state;
    add("pool", 1, 1, 10);
    fail_row(add("mmap", 1, 1, 10), "it broke");
    read_groups(1);
    figure = report_figure_rates(&groups[0]);
    const json_t *mmap = json_array_get(json_object_get(figure, "rows"), 2);
    assert_true(json_is_null(json_object_get(mmap, "value")));
    assert_string_equal(json_string_value(json_object_get(mmap, "text")), "failed");
}

/* Both figures and the table are too long otherwise; and it is said that something is left out. */
static void rates_of_very_many_rows_show_the_best_of_each_engine(void **state)
{
    (void)state;
    for (unsigned threads = 1; threads <= 30; threads++) {
        add("pool", threads, 1, 1000 - threads);
        add("mmap", threads, 1, threads);
    }
    read_groups(1);
    figure = report_figure_rates(&groups[0]);
    const json_t *lines = json_object_get(figure, "rows");
    assert_int_equal(json_array_size(lines), 4);
    assert_string_equal(text_at(lines, 0, "heading"), "one thread");
    assert_string_equal(text_at(lines, 1, "label"), "pool");
    assert_string_equal(text_at(lines, 2, "heading"), "30 threads");
    assert_non_null(strstr(json_string_value(json_object_get(figure, "caption")), "Too many rows"));
}

static void labels_name_the_access_where_it_matters(void **state)
{
    (void)state;
    char text[200];
    json_object_set_new(add("pool", 1, 1, 10), "access", json_string("optimistic"));
    add("pool", 1, 1, 10);
    add("mmap", 1, 1, 10);
    read_groups(1);
    assert_string_equal(report_row_label(text, sizeof text, &groups[0], groups[0].rows[0], true),
                        "pool (optimistic)");
    assert_string_equal(report_row_label(text, sizeof text, &groups[0], groups[0].rows[1], true),
                        "pool (fix)");
    assert_string_equal(report_row_label(text, sizeof text, &groups[0], groups[0].rows[2], true),
                        "mmap");
}

static void latency_a_zero_has_no_place_on_a_log_scale(void **state)
{
    (void)state;
    json_object_set_new(add("pool", 1, 1, 10), "p50_us", json_real(0));
    read_groups(1);
    figure = report_figure_latency(&groups[0]);
    const json_t *line = json_array_get(json_object_get(figure, "rows"), 1);
    const json_t *values = json_object_get(line, "values");
    assert_true(json_is_null(json_array_get(values, 0)));
    assert_true(number_at(values, 1) == 100 && number_at(values, 3) == 1000);
}

static void scaling_one_number_of_threads_is_no_figure(void **state)
{
    (void)state;
    add("pool", 8, 1, 10);
    add("pool", 8, 32, 10);
    read_groups(1);
    assert_null(report_figure_threads(&groups[0]));
    figure = report_figure_depths(&groups[0]);
    assert_non_null(figure);
}

static void scaling_has_a_line_for_each_engine_and_depth(void **state)
{
    (void)state;
    add("pool", 1, 1, 10);
    add("pool", 8, 1, 40);
    add("pool", 1, 32, 50);
    add("pool", 8, 32, 60);
    add("mmap", 1, 1, 7);
    read_groups(1);
    figure = report_figure_threads(&groups[0]);
    const json_t *series = json_object_get(figure, "series");
    assert_int_equal(json_array_size(series), 2); /* a point of mmap is no line */
    assert_string_equal(text_at(series, 0, "label"), "pool");
    assert_string_equal(text_at(series, 1, "label"), "pool, 32 in flight");
    const json_t *deep = json_array_get(series, 1);
    assert_true(number_at(json_object_get(deep, "values"), 1) == 60);
    assert_true(number_at(json_object_get(deep, "low"), 1) == 57);
    assert_int_equal(json_integer_value(json_object_get(deep, "dash")), 1);
    assert_non_null(strstr(json_string_value(json_object_get(figure, "caption")), "only: mmap."));
}

static void series_of_rows_meet_at_their_times(void **state)
{
    (void)state;
    json_object_set_new(add("pool", 1, 1, 10), "series",
                        json_pack("[{s:f,s:f,s:f},{s:f,s:f,s:n},{s:f,s:f,s:f}]", "t_s", 0.1,
                                  "ops_per_s", 5.0, "p99_us", 7.0, "t_s", 0.20000001, "ops_per_s",
                                  0.0, "p99_us", "t_s", 0.3, "ops_per_s", 6.0, "p99_us", 8.0));
    json_object_set_new(add("mmap", 1, 1, 10), "series",
                        json_pack("[{s:f,s:f},{s:f,s:f}]", "t_s", 0.2, "ops_per_s", 3.0, "t_s", 0.4,
                                  "ops_per_s", 4.0));
    read_groups(1);
    figure = report_figure_series(&groups[0], 1, "ops_per_s");
    const json_t *times = json_object_get(json_object_get(figure, "x"), "values");
    const json_t *pool =
        json_object_get(json_array_get(json_object_get(figure, "series"), 0), "values");
    const json_t *mmap =
        json_object_get(json_array_get(json_object_get(figure, "series"), 1), "values");
    assert_int_equal(json_array_size(times), 4);
    assert_true(number_at(pool, 1) == 0 && number_at(mmap, 1) == 3);
    assert_true(json_is_null(json_array_get(pool, 3)));
    json_decref(figure);
    /* An interval in which nothing ended has no p99, and those after it are there all the same. */
    figure = report_figure_series(&groups[0], 1, "p99_us");
    pool = json_object_get(json_array_get(json_object_get(figure, "series"), 0), "values");
    assert_int_equal(json_array_size(pool), 2);
    assert_true(number_at(pool, 0) == 7 && number_at(pool, 1) == 8);
}

static void series_of_equal_intervals_is_read(void **state)
{
    (void)state;
    json_t *row = add("pool", 1, 1, 10);
    json_object_set_new(row, "series_ops_per_s", json_pack("[f,f]", 4.0, 5.0));
    json_object_set_new(row, "series_interval_s", json_real(0.5));
    read_groups(1);
    figure = report_figure_series(&groups[0], 1, "ops_per_s");
    const json_t *times = json_object_get(json_object_get(figure, "x"), "values");
    assert_true(number_at(times, 0) == 0.5 && number_at(times, 1) == 1);
    assert_null(report_figure_series(&groups[0], 1, "p99_us"));
    assert_null(report_figure_series(&groups[0], 2, "ops_per_s"));
}

static void memory_has_each_engine_once_and_the_limit(void **state)
{
    (void)state;
    add("pool", 1, 1, 10);
    json_object_set_new(add("pool", 8, 1, 10), "peak_mem_bytes", json_integer(400 << 20));
    json_object_set_new(add("mmap", 1, 1, 10), "peak_mem_bytes", json_integer(0));
    read_groups(1);
    figure = report_figure_memory(&groups[0], 48 << 20);
    const json_t *lines = json_object_get(figure, "rows");
    assert_int_equal(json_array_size(lines), 2);
    assert_true(json_number_value(json_object_get(json_array_get(lines, 0), "value")) == 400);
    assert_string_equal(text_at(lines, 1, "text"), "not measured");
    assert_true(json_number_value(json_object_get(json_object_get(figure, "mark"), "value")) ==
                256 + 48);
}

static void memory_not_measured_is_no_figure(void **state)
{
    (void)state;
    json_object_set_new(add("pool", 1, 1, 10), "peak_mem_bytes", json_integer(0));
    read_groups(1);
    assert_null(report_figure_memory(&groups[0], 0));
}

/* What such a file says is the process's own size, whatever page cache it had. */
static void memory_without_a_limit_is_no_figure(void **state)
{
    (void)state;
    add("pool", 1, 1, 10);
    json_object_set_new(part.root, "equal_memory", json_false());
    read_groups(1);
    assert_null(report_figure_memory(&groups[0], 48 << 20));
}

static void curves_of_one_trace_share_their_frames(void **state)
{
    (void)state;
    json_t *curves = json_pack(
        "[{s:s,s:s,s:[{s:i,s:f},{s:i,s:f},{s:i,s:f}]},{s:s,s:s,s:[{s:i,s:f}]},{s:s,s:s,s:[]}]",
        "trace", "a", "policy", "LRU", "points", "frames", 0, "miss_ratio", 1.0, "frames", 20,
        "miss_ratio", 0.5, "frames", 10, "miss_ratio", 0.6, "trace", "a", "policy", "2Q", "points",
        "frames", 20, "miss_ratio", 0.4, "trace", "b", "policy", "LRU", "points");
    figure = report_figure_curves(curves, "a");
    const json_t *series = json_object_get(figure, "series");
    assert_int_equal(json_array_size(series), 2);
    assert_true(number_at(json_object_get(json_array_get(series, 0), "values"), 0) == 0.6);
    assert_true(
        json_is_null(json_array_get(json_object_get(json_array_get(series, 1), "values"), 0)));
    assert_null(report_figure_curves(curves, "b"));
    json_decref(curves);
}

static void over_time_has_a_line_for_each_repetition(void **state)
{
    (void)state;
    json_t *claim =
        json_pack("{s:i,s:s,s:[{s:s,s:i,s:[{s:f,s:f},{s:f,s:f}]},{s:s,s:i,s:[{s:f,s:f}]}]}", "id",
                  1, "claim", "c", "over_time", "engine", "pool", "repetition", 1, "series", "t_s",
                  0.5, "ops_per_s", 7.0, "t_s", 1.0, "ops_per_s", 8.0, "engine", "pool",
                  "repetition", 2, "series", "t_s", 1.0, "ops_per_s", 9.0);
    figure = report_figure_over_time(claim);
    const json_t *series = json_object_get(figure, "series");
    assert_int_equal(json_array_size(series), 2);
    assert_string_equal(text_at(series, 1, "label"), "pool, repetition 2");
    assert_true(number_at(json_object_get(json_array_get(series, 1), "values"), 1) == 9);
    json_object_del(claim, "over_time");
    assert_null(report_figure_over_time(claim));
    json_decref(claim);
}

static void table_has_every_value_and_escapes_names(void **state)
{
    (void)state;
    struct html html = {0};
    add("<b>", 1, 1, 12345);
    add("mmap", 8, 1, 777);
    read_groups(1);
    figure = report_figure_rates(&groups[0]);
    report_figure_table(&html, figure);
    assert_non_null(strstr(html.data, "<th scope=\"row\">&lt;b&gt;</th><td>12,345</td>"));
    assert_non_null(strstr(html.data, "<td>777</td>"));
    assert_non_null(strstr(html.data, "8 threads"));
    assert_null(strstr(html.data, "<b>"));
    html_fini(&html);
}

static void format_any_number_fits(void **state)
{
    (void)state;
    static const char *const formats[] = {"count", "us", "mib", "s", "ratio"};
    char text[64];
    for (unsigned i = 0; i < sizeof formats / sizeof *formats; i++) {
        assert_string_equal(report_format(text, sizeof text, formats[i], 1e300), "1e+300");
        assert_string_equal(report_format(text, sizeof text, formats[i], -1.5), "-1.5");
        assert_string_equal(report_format(text, sizeof text, formats[i], NAN), "–");
    }
    assert_string_equal(report_format(text, sizeof text, "count", 1234567), "1,234,567");
    assert_string_equal(report_format(text, sizeof text, "us", 1.234), "1.23");
    assert_string_equal(report_format(text, sizeof text, "ratio", 0.5), "0.5000");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(groups_other_promises_stand_apart),
        TEST(rates_rows_are_under_their_number_of_threads),
        TEST(rates_single_repetition_has_no_spread),
        TEST(rates_failed_row_has_no_value),
        TEST(rates_of_very_many_rows_show_the_best_of_each_engine),
        TEST(labels_name_the_access_where_it_matters),
        TEST(latency_a_zero_has_no_place_on_a_log_scale),
        TEST(scaling_one_number_of_threads_is_no_figure),
        TEST(scaling_has_a_line_for_each_engine_and_depth),
        TEST(series_of_rows_meet_at_their_times),
        TEST(series_of_equal_intervals_is_read),
        TEST(memory_has_each_engine_once_and_the_limit),
        TEST(memory_not_measured_is_no_figure),
        TEST(memory_without_a_limit_is_no_figure),
        TEST(curves_of_one_trace_share_their_frames),
        TEST(over_time_has_a_line_for_each_repetition),
        TEST(format_any_number_fits),
        TEST(table_has_every_value_and_escapes_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
