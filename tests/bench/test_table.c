/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "table.h"

static struct bench_plan plan;
static struct bench_results results;
static char *text;

static struct bench_row *add(const struct bench_engine *engine, unsigned depth, double ops_per_s,
                             unsigned runs)
{
    struct bench_row row = {.engine = engine,
                            .workload = BENCH_READ_RANDOM,
                            .dist = "uniform",
                            .size_bytes = UINT64_C(8) << 30,
                            .mem_bytes = UINT64_C(1) << 30,
                            .cell = {BENCH_OPTIMISTIC, 32, depth, 0, 0},
                            .access = engine->access != NULL ? engine->access : "optimistic"};
    int index = bench_results_add(&results, &row);
    assert_true(index >= 0);
    for (unsigned i = 0; i < runs; i++) {
        struct bench_cell_result run = {.ops_per_s = ops_per_s * (0.9 + 0.1 * i),
                                        .p50_us = 12.5,
                                        .p99_us = 999.94,
                                        .p999_us = 7654.3 + i,
                                        .max_us = 99999.0 + i,
                                        .cpu_us_per_op = 12.34,
                                        .read_bytes_per_op = 3584,
                                        .hit_ratio = 0.125,
                                        .op_count = 1000};
        assert_int_equal(bench_results_add_run(&results.rows[index], &run), 0);
    }
    results.rows[index].peak_mem_bytes = UINT64_C(1050) << 20;
    return &results.rows[index];
}

static int setup(void **state)
{
    (void)state;
    bench_plan_defaults(&plan);
    add(&bench_engine_raw, 1, 15000, 3);
    add(&bench_engine_raw, 32, 65000, 3);
    add(&bench_engine_pool, 32, 130000, 3);
    add(&bench_engine_mmap, 1, 12000, 3);
    bench_results_fail(add(&bench_engine_lmdb, 1, 100, 1), "it broke");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    bench_results_fini(&results);
    free(text);
    text = NULL;
    return 0;
}

static void print(bool equal)
{
    size_t size;
    struct bench_table_facts facts = {equal, equal ? NULL : "not permitted"};
    FILE *file = open_memstream(&text, &size);
    assert_non_null(file);
    bench_results_finish(&results);
    bench_table_print(file, &results, &plan, &facts);
    fclose(file);
}

static void finish_medians_extremes_and_ratio(void **state)
{
    (void)state;
    bench_results_finish(&results);
    const struct bench_row *pool = &results.rows[2];
    assert_true(pool->ops_per_s.median == 130000);
    assert_true(pool->ops_per_s.min < 117001 && pool->ops_per_s.max > 142999);
    assert_true(pool->ratio_to_raw > 1.999 && pool->ratio_to_raw < 2.001);
    assert_true(results.rows[3].ratio_to_raw > 0.799 && results.rows[3].ratio_to_raw < 0.801);
    assert_true(pool->max_us == 100001);
    assert_true(pool->median.p999_us > 7655.2 && pool->median.p999_us < 7655.4);
    assert_int_equal(results.failed_count, 1);
}

static void finish_no_raw_at_that_depth_no_ratio(void **state)
{
    (void)state;
    add(&bench_engine_pool, 8, 1000, 3);
    bench_results_finish(&results);
    assert_true(results.rows[5].ratio_to_raw == 0);
}

static void finish_row_without_measurement_has_failed(void **state)
{
    (void)state;
    add(&bench_engine_pool, 1, 1, 0);
    bench_results_finish(&results);
    assert_int_equal(results.failed_count, 2);
    assert_string_equal(results.rows[5].failed, "not measured");
}

/* Columns a terminal shows: bytes that do not continue a UTF-8 character. */
static unsigned columns(const char *line, size_t length)
{
    unsigned count = 0;
    for (size_t i = 0; i < length; i++)
        count += ((unsigned char)line[i] & 0xc0) != 0x80;
    return count;
}

static void table_fits_120_columns(void **state)
{
    (void)state;
    print(true);
    for (const char *line = text; *line != '\0';) {
        size_t length = strcspn(line, "\n");
        if (columns(line, length) > 120)
            fail_msg("%u columns: %.*s", columns(line, length), (int)length, line);
        line += length + (line[length] == '\n');
    }
}

static void table_says_what_differs(void **state)
{
    (void)state;
    print(false);
    assert_non_null(strstr(text, "NOT AN EQUAL COMPARISON"));
    assert_non_null(strstr(text, "not permitted"));
    assert_non_null(strstr(text, "depth 1 only"));
    assert_non_null(strstr(text, "FAILED: it broke"));
    assert_non_null(strstr(text, "130,000"));
    assert_non_null(strstr(text, "8 GiB of data on 1 GiB of memory"));
}

static bool hits_in_json(unsigned index)
{
    json_t *array = bench_results_json(&results, &plan, true);
    const json_t *hits = json_object_get(json_array_get(array, index), "hit_ratio");
    const bool is_known = json_is_real(hits);
    assert_true(is_known || json_is_null(hits));
    json_decref(array);
    return is_known;
}

/* Bytes read say how many pages were found only where a page that is not is read, and that alone.
 */
static void table_and_json_hits_only_where_reads_are_pages(void **state)
{
    (void)state;
    bench_results_fini(&results);
    add(&bench_engine_pool, 1, 2000, 2);   /* 0: known */
    add(&bench_engine_mmap, 1, 2000, 2);   /* 1: known */
    add(&bench_engine_sqlite, 1, 2000, 2); /* 2: reads blocks */
    add(&bench_engine_pool, 1, 2000, 2);   /* 3: reads more than its pages */
    bench_results_finish(&results);
    assert_true(hits_in_json(0) && hits_in_json(1));
    assert_false(hits_in_json(2));
    results.rows[3].runs[0].read_bytes_per_op = results.rows[3].runs[1].read_bytes_per_op = 9000;
    print(true);
    assert_false(hits_in_json(3));
    assert_non_null(strstr(text, " 3,584  12.5 "));
    assert_non_null(strstr(text, " 3,584     - "));
    assert_non_null(strstr(text, " 9,000     - "));
    /* raw that commits reads nothing, and has nothing in memory */
    results.rows[0].engine = &bench_engine_raw;
    assert_true(hits_in_json(0));
    results.rows[0].workload = BENCH_MIXED;
    assert_false(hits_in_json(0));
    /* a mapping reads pages of the kernel */
    plan.page_size = 8192;
    assert_false(hits_in_json(1));
    results.rows[0].workload = BENCH_READ_RANDOM;
    assert_true(hits_in_json(0));
    /* without a device nothing is read, whatever is found */
    results.in_memory = true;
    assert_false(hits_in_json(0));
}

static bool note_in_json(unsigned index, bool equal, const char *words)
{
    json_t *array = bench_results_json(&results, &plan, equal);
    const json_t *notes = json_object_get(json_array_get(array, index), "notes"), *note;
    bool found = false;
    size_t i;
    json_array_foreach(notes, i, note)
    {
        found = found || strstr(json_string_value(note), words) != NULL;
    }
    json_decref(array);
    return found;
}

/* Who gets more memory than the others carries a mark. */
static void table_and_json_say_who_may_cache_in_the_slack(void **state)
{
    (void)state;
    static const char said[] = "its cache may use the --slack too: up to 48 MiB more memory";
    struct bench_engine needy = bench_engine_mmap;
    needy.name = "needy";
    needy.needs_slack = true;
    plan.slack_bytes = UINT64_C(48) << 20;
    print(true);
    assert_null(strstr(text, said));
    free(text);
    add(&needy, 1, 1000, 3);
    print(true);
    const char *row = strstr(text, "\nneedy "), *note = strstr(text, said);
    assert_true(row != NULL && note != NULL);
    const char letter = note[-3];
    assert_true(letter >= 'a' && letter <= 'z');
    const char *letters = strstr(row, " 1050 ");
    assert_non_null(letters);
    assert_non_null(memchr(letters, letter, strcspn(letters, "\n")));
    assert_true(note_in_json(5, true, said));
    assert_false(note_in_json(3, true, said));
    free(text);
    /* without a limit, it is one of many that have more */
    print(false);
    assert_null(strstr(text, said));
    assert_false(note_in_json(5, false, said));
}

/* A depth above 1 that was none. */
static void table_and_json_say_who_had_no_io_uring(void **state)
{
    (void)state;
    static const char said[] = "no io_uring here: one transfer at a time";
    print(true);
    assert_null(strstr(text, said));
    free(text);
    results.rows[2].synchronous = true;
    print(true);
    const char *note = strstr(text, said);
    assert_non_null(note);
    const char *letters = strstr(strstr(text, "\npool "), " 1050 ");
    assert_non_null(memchr(letters, note[-3], strcspn(letters, "\n")));
    assert_true(note_in_json(2, true, said));
    assert_false(note_in_json(1, true, said));
}

/* With --quiet nothing else says it. */
static void table_says_that_no_device_is_behind_the_data(void **state)
{
    (void)state;
    static const char said[] = "NO DEVICE: the data lie on tmpfs or the like";
    print(true);
    assert_null(strstr(text, said));
    free(text);
    results.in_memory = true;
    print(true);
    assert_non_null(strstr(text, said));
}

/* One repetition has no spread; 0 would say that there is none. */
static void table_and_json_single_repetition_has_no_spread(void **state)
{
    (void)state;
    bench_results_fini(&results);
    plan.repeat = 1;
    add(&bench_engine_raw, 1, 15000, 1);
    add(&bench_engine_pool, 1, 30000, 3);
    print(true);
    assert_non_null(strstr(text, " 13,500    - "));
    assert_non_null(strstr(text, " 30,000   10 "));
    assert_null(strstr(text, "Medians of 1"));
    json_t *array = bench_results_json(&results, &plan, true);
    assert_true(json_is_null(json_object_get(json_array_get(array, 0), "spread")));
    assert_true(json_is_real(json_object_get(json_array_get(array, 1), "spread")));
    json_decref(array);
}

/* What no cgroup counted is not known: a process's own size is something else. */
static void table_and_json_peak_not_counted_is_not_shown(void **state)
{
    (void)state;
    results.rows[2].peak_mem_bytes = 0;
    print(true);
    assert_non_null(strstr(text, " 12.5   1050 "));
    assert_non_null(strstr(text, " 12.5      - "));
    assert_null(strstr(text, " 12.5      0 "));
    json_t *array = bench_results_json(&results, &plan, true);
    assert_true(json_is_integer(json_object_get(json_array_get(array, 0), "peak_mem_bytes")));
    assert_true(json_is_null(json_object_get(json_array_get(array, 2), "peak_mem_bytes")));
    json_decref(array);
}

static void json_failed_row_has_nulls_and_a_reason(void **state)
{
    (void)state;
    bench_results_finish(&results);
    json_t *array = bench_results_json(&results, &plan, true);
    const json_t *row = json_array_get(array, 4);
    assert_string_equal(json_string_value(json_object_get(row, "failed")), "it broke");
    assert_true(json_is_null(json_object_get(row, "ops_per_s")));
    assert_true(json_is_null(json_object_get(json_array_get(array, 0), "failed")));
    json_decref(array);
}

/* A relaxed commit of each class, and raw of the first. */
static void add_classes(void)
{
    const struct bench_engine *engines[3] = {&bench_engine_raw, &bench_engine_pool,
                                             &bench_engine_lmdb};
    for (unsigned i = 0; i < 3; i++) {
        struct bench_row *row = add(engines[i], 1, 1000 * (i + 1), 3);
        row->workload = BENCH_COMMIT_RELAXED;
        row->access = "commit";
        row->has_durability = true;
        row->durability = i < 2 ? BENCH_DURABILITY_RELAXED : BENCH_DURABILITY_NONE;
        for (unsigned r = 0; r < 3; r++) {
            row->runs[r].series.count = 2;
            row->runs[r].series.points[0] = (struct bench_point){0.5, 10 * r, 20, 30, 0};
            row->runs[r].series.points[1] = (struct bench_point){1.0, 10 * r + 1, 21, 31, 0};
            row->runs[r].ops_per_s_cv = 0.1 * r;
        }
    }
}

static void table_classes_stand_apart(void **state)
{
    (void)state;
    add_classes();
    print(true);
    const char *relaxed = strstr(text, "commit-relaxed · durability: relaxed, bounded");
    const char *none = strstr(text, "commit-relaxed · durability: none");
    assert_non_null(relaxed);
    assert_non_null(none);
    assert_true(relaxed < none);
    const char *lmdb = strstr(relaxed, "\nlmdb ");
    assert_true(lmdb != NULL && lmdb > none); /* in its own, and only there */
    assert_null(strstr(none, "\npool "));
}

static void finish_other_class_no_ratio(void **state)
{
    (void)state;
    add_classes();
    bench_results_finish(&results);
    assert_true(results.rows[6].ratio_to_raw > 1.99 && results.rows[6].ratio_to_raw < 2.01);
    assert_true(results.rows[7].ratio_to_raw == 0);
}

static void json_classes_and_the_series_of_the_median_run(void **state)
{
    (void)state;
    add_classes();
    bench_results_finish(&results);
    json_t *array = bench_results_json(&results, &plan, true);
    const json_t *pool = json_array_get(array, 6), *lmdb = json_array_get(array, 7);
    assert_string_equal(json_string_value(json_object_get(pool, "durability")), "relaxed, bounded");
    assert_string_equal(json_string_value(json_object_get(lmdb, "durability")), "none");
    assert_true(json_is_null(json_object_get(json_array_get(array, 0), "durability")));
    const json_t *series = json_object_get(pool, "series");
    assert_int_equal(json_array_size(series), 2);
    const json_t *point = json_array_get(series, 1); /* of run 1 of 0 to 2 */
    assert_true(json_real_value(json_object_get(point, "t_s")) == 1.0);
    assert_true(json_real_value(json_object_get(point, "ops_per_s")) == 11);
    assert_true(json_real_value(json_object_get(point, "p99_us")) == 21);
    assert_true(json_real_value(json_object_get(point, "max_us")) == 31);
    assert_true(json_real_value(json_object_get(pool, "ops_per_s_cv")) > 0.09);
    json_decref(array);
}

static void table_commits_show_their_variation(void **state)
{
    (void)state;
    print(true);
    assert_null(strstr(text, "cv %"));
    free(text);
    add_classes();
    print(true);
    const char *relaxed = strstr(text, "commit-relaxed ");
    assert_non_null(relaxed);
    assert_non_null(strstr(relaxed, "cv %"));
    assert_non_null(strstr(relaxed, " 32  10.0 ")); /* threads, and cv of run 1 */
}

/* One that kept its rate of 500/s for two seconds, and one that was at half of it in the end. */
static void table_and_json_say_whether_the_rate_was_reached(void **state)
{
    (void)state;
    plan.rates[0] = 50000;
    plan.rate_count = 1;
    for (unsigned i = 0; i < 2; i++) {
        struct bench_row *row = add(&bench_engine_pool, 1, i == 0 ? 50000 : 25000, 3);
        row->cell.rate = 50000;
        for (unsigned r = 0; r < 3; r++) {
            row->runs[r].due_count = 100000;
            row->runs[r].op_count = i == 1 && r == 2 ? 50000 : 99990;
        }
    }
    print(true);
    assert_non_null(strstr(text, "latency is counted from the intended start"));
    assert_non_null(strstr(text, "at a rate of 50,000"));
    assert_non_null(strstr(text, "rate not reached: 25,000 of 50,000"));
    json_t *array = bench_results_json(&results, &plan, true);
    const json_t *kept = json_array_get(array, 5), *missed = json_array_get(array, 6);
    assert_int_equal(json_integer_value(json_object_get(kept, "rate")), 50000);
    assert_true(json_is_true(json_object_get(kept, "rate_reached")));
    assert_true(json_is_false(json_object_get(missed, "rate_reached")));
    assert_true(json_is_null(json_object_get(json_array_get(array, 0), "rate")));
    json_decref(array);
}

static void table_recovery_shows_seconds_and_rates(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct bench_row *row = add(i == 0 ? &bench_engine_raw : &bench_engine_pool, 1, 2.0 - i, 3);
        row->workload = BENCH_RECOVER;
        row->has_durability = true;
        row->durability = BENCH_DURABILITY_FULL;
        row->cell.log_bytes = UINT64_C(64) << 20;
        for (unsigned r = 0; r < 3; r++) {
            row->runs[r].seconds = i == 0 ? 0.05 : 0.1;
            row->runs[r].log_bytes = 64e6;
            row->runs[r].recovered_pages = i == 0 ? -1 : 12345;
        }
    }
    print(true);
    const char *pool = strstr(text, "\npool           64 MiB");
    assert_non_null(pool);
    assert_non_null(strstr(pool, "0.100"));
    assert_non_null(strstr(pool, "640"));
    assert_non_null(strstr(pool, "0.50"));
    assert_non_null(strstr(pool, "12,345"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(finish_medians_extremes_and_ratio, setup, teardown),
        cmocka_unit_test_setup_teardown(finish_no_raw_at_that_depth_no_ratio, setup, teardown),
        cmocka_unit_test_setup_teardown(finish_row_without_measurement_has_failed, setup, teardown),
        cmocka_unit_test_setup_teardown(table_fits_120_columns, setup, teardown),
        cmocka_unit_test_setup_teardown(table_says_what_differs, setup, teardown),
        cmocka_unit_test_setup_teardown(table_classes_stand_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(finish_other_class_no_ratio, setup, teardown),
        cmocka_unit_test_setup_teardown(json_classes_and_the_series_of_the_median_run, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(table_commits_show_their_variation, setup, teardown),
        cmocka_unit_test_setup_teardown(table_and_json_say_whether_the_rate_was_reached, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(table_recovery_shows_seconds_and_rates, setup, teardown),
        cmocka_unit_test_setup_teardown(table_and_json_hits_only_where_reads_are_pages, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(table_and_json_say_who_may_cache_in_the_slack, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(table_says_that_no_device_is_behind_the_data, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(table_and_json_single_repetition_has_no_spread, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(table_and_json_say_who_had_no_io_uring, setup, teardown),
        cmocka_unit_test_setup_teardown(table_and_json_peak_not_counted_is_not_shown, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(json_failed_row_has_nulls_and_a_reason, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
