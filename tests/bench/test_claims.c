/* SPDX-License-Identifier: MIT */
/* The verdicts: each rule comes out each way, by figures that differ in one thing. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include "claims.h"

#define MIB 1048576.0

static char reason[800];

static struct claims_values three(double a, double b, double c)
{
    return (struct claims_values){{a, b, c}, 3};
}

/* Repetitions that differ by little. */
static struct claims_values about(double value)
{
    return three(value * 0.99, value, value * 1.01);
}

static void compare_margin_is_ten_percent_or_the_spreads(void **state)
{
    (void)state;
    struct claims_values a = about(100), b = about(109), c = about(115);
    assert_int_equal(claims_compare(&a, &b), CLAIMS_SAME);
    assert_int_equal(claims_compare(&a, &c), CLAIMS_LOWER);
    assert_int_equal(claims_compare(&c, &a), CLAIMS_HIGHER);
    /* medians of 100 and 150, but their repetitions differ by 30 % each way: no difference */
    struct claims_values restless = three(70, 100, 130), other = three(120, 150, 210);
    assert_int_equal(claims_compare(&restless, &other), CLAIMS_SAME);
    struct claims_values far = three(160, 200, 240);
    assert_int_equal(claims_compare(&restless, &far), CLAIMS_LOWER);
    struct claims_values zero = three(0, 0, 0);
    assert_int_equal(claims_compare(&zero, &zero), CLAIMS_SAME);
    assert_int_equal(claims_compare(&zero, &a), CLAIMS_LOWER);
}

static enum claims_verdict predictability(double cv, double p999, bool filled)
{
    const struct claims_predictability figures = {
        {about(cv), about(0.20)}, {about(p999), about(1000)}, filled};
    return claims_judge_predictability(&figures, reason, sizeof reason);
}

static void predictability_one_better_and_none_worse(void **state)
{
    (void)state;
    assert_int_equal(predictability(0.10, 500, true), CLAIMS_SUPPORTED);
    assert_int_equal(predictability(0.10, 1000, true), CLAIMS_SUPPORTED);
    assert_int_equal(predictability(0.20, 500, true), CLAIMS_SUPPORTED);
    assert_int_equal(predictability(0.20, 1000, true), CLAIMS_NOT_SUPPORTED);
    assert_int_equal(predictability(0.10, 2000, true), CLAIMS_NOT_SUPPORTED);
    assert_int_equal(predictability(0.40, 500, true), CLAIMS_NOT_SUPPORTED);
    assert_non_null(strstr(reason, "variation is higher (40.0 % to 20.0 %)"));
    assert_non_null(strstr(reason, "p99.9 is lower (500 to 1000 us)"));
    assert_int_equal(predictability(0.10, 500, false), CLAIMS_NOT_MEASURED);
    assert_non_null(strstr(reason, "--seconds"));
    const struct claims_predictability nothing = {.filled = true};
    assert_int_equal(claims_judge_predictability(&nothing, reason, sizeof reason),
                     CLAIMS_NOT_MEASURED);
}

static enum claims_verdict log_order(uint64_t pool, uint64_t in_place)
{
    const struct claims_log_order figures = {{7000, pool}, {9000, 0}, {9000, in_place}};
    return claims_judge_log_order(&figures, reason, sizeof reason);
}

static void log_order_one_write_decides(void **state)
{
    (void)state;
    assert_int_equal(log_order(0, 5), CLAIMS_SUPPORTED);
    assert_int_equal(log_order(1, 5), CLAIMS_NOT_SUPPORTED);
    assert_int_equal(log_order(0, 0), CLAIMS_NOT_SUPPORTED);
    assert_non_null(strstr(reason, "mmap-in-place 0 of 9000"));
    const struct claims_log_order idle = {{0, 0}, {9000, 0}, {9000, 5}};
    assert_int_equal(claims_judge_log_order(&idle, reason, sizeof reason), CLAIMS_NOT_MEASURED);
    assert_non_null(strstr(reason, "the pool"));
}

static void log_order_without_fuse_is_not_measured(void **state)
{
    (void)state;
    static struct claims_claim claim;
    struct order_result results[ORDER_ENGINES] = {
        {.measured = true, .counts = {.page_writes = 100}},
        {.measured = true, .counts = {.page_writes = 100}}};
    claims_conclude_log_order(&claim, results, "no /dev/fuse");
    assert_int_equal(claim.verdict, CLAIMS_NOT_MEASURED);
    assert_non_null(strstr(claim.reason, "no /dev/fuse"));
    assert_int_equal(claim.figure_count, 6); /* of the two that were measured */
}

static enum claims_verdict latency(double p999, double pool_faults, double mmap_faults,
                                   bool reached)
{
    const struct claims_latency figures = {
        {about(p999), about(1000)}, {about(pool_faults), about(mmap_faults)}, reached};
    return claims_judge_latency(&figures, reason, sizeof reason);
}

static void latency_tail_and_mechanism_both(void **state)
{
    (void)state;
    assert_int_equal(latency(500, 0, 0.99, true), CLAIMS_SUPPORTED);
    assert_int_equal(latency(950, 0, 0.99, true), CLAIMS_NOT_SUPPORTED);
    assert_int_equal(latency(2000, 0, 0.99, true), CLAIMS_NOT_SUPPORTED);
    assert_int_equal(latency(500, 0.2, 0.99, true), CLAIMS_NOT_SUPPORTED);
    assert_int_equal(latency(500, 0, 0.1, true), CLAIMS_NOT_SUPPORTED);
    assert_int_equal(latency(500, 0, 0.99, false), CLAIMS_NOT_MEASURED);
    assert_non_null(strstr(reason, "did not keep the rate"));
}

/* What speaks for the claim, for one thing at a time to be changed. */
static struct claims_memory good_memory(void)
{
    return (struct claims_memory){.copy = three(0, 0.1 * MIB, 0),
                                  .buffered_copy = about(40 * MIB),
                                  .charge = about(265 * MIB),
                                  .per_hit = {about(1060 * MIB), about(1100 * MIB)},
                                  .mem_bytes = 256 * MIB,
                                  .slack_bytes = 48 * MIB};
}

static enum claims_verdict memory(const struct claims_memory *figures)
{
    return claims_judge_memory(figures, reason, sizeof reason);
}

static void memory_each_part_can_fail_alone(void **state)
{
    (void)state;
    struct claims_memory figures = good_memory();
    assert_int_equal(memory(&figures), CLAIMS_SUPPORTED);
    figures.copy = three(0, 0, 3 * MIB); /* in one repetition */
    assert_int_equal(memory(&figures), CLAIMS_NOT_SUPPORTED);
    figures = good_memory();
    figures.charge = about(290 * MIB); /* within the limit, not within half of the slack */
    assert_int_equal(memory(&figures), CLAIMS_NOT_SUPPORTED);
    figures = good_memory();
    figures.charge = three(240 * MIB, 250 * MIB, 260 * MIB);
    assert_int_equal(memory(&figures), CLAIMS_NOT_SUPPORTED);
    figures = good_memory();
    figures.per_hit.pool = about(1400 * MIB);
    assert_int_equal(memory(&figures), CLAIMS_NOT_SUPPORTED);
    assert_non_null(strstr(reason, "mapping's: higher"));
    figures = good_memory();
    figures.buffered_copy = about(1 * MIB); /* the probe sees nothing: no evidence */
    assert_int_equal(memory(&figures), CLAIMS_NOT_MEASURED);
    assert_non_null(strstr(reason, "cannot see"));
    figures = good_memory();
    figures.per_hit.mmap.count = 0;
    assert_int_equal(memory(&figures), CLAIMS_NOT_MEASURED);
}

static void full_the_interval_in_which_as_much_was_read_begins_it(void **state)
{
    (void)state;
    static struct bench_series series;
    for (unsigned i = 0; i < 6; i++)
        series.points[series.count++] = (struct bench_point){i + 1, 100, 1, 2, 100.0 * (i + 1)};
    assert_true(claims_full_s(&series, 250) == 2); /* read 300 at 3 s */
    assert_true(claims_full_s(&series, 300) == 2);
    assert_true(claims_full_s(&series, 50) == 0);
    assert_true(claims_full_s(&series, 400) == 3); /* 3 to 6: three intervals */
    assert_true(claims_full_s(&series, 401) < 0);  /* 4 to 6: too few to speak of variation */
}

/* Repetitions of two engines, of which the mapping stops every other second. */
static void conclude_series_of_a_restless_mapping_supports(void **state)
{
    (void)state;
    static struct claims_turns turns[CLAIMS_ENGINES];
    static struct claims_claim claim;
    for (unsigned e = 0; e < 2; e++)
        for (turns[e].count = 0; turns[e].count < CLAIMS_REPEAT; turns[e].count++) {
            struct bench_cell_result *result = &turns[e].results[turns[e].count];
            result->p999_us = e == 0 ? 9000 : 1000; /* while memory filled: it decides nothing */
            result->p999_full_us = e == 0 ? 500 : 1000;
            for (unsigned i = 0; i < 8; i++)
                result->series.points[result->series.count++] = (struct bench_point){
                    i + 1, e == 1 && i % 2 == 1 ? 10 : 100 + i % 3, 1, 2, 1e6 * (i + 1)};
        }
    claims_conclude_predictability(&claim, turns, 2000000);
    assert_int_equal(claim.verdict, CLAIMS_SUPPORTED);
    assert_string_equal(claim.figures[1].name, "memory full after");
    assert_true(claim.figures[1].value == 1);
    assert_non_null(strstr(claim.reason, "its p99.9 is lower (500 to 1000 us)"));
    claims_conclude_predictability(&claim, turns, 7000000);
    assert_int_equal(claim.verdict, CLAIMS_NOT_MEASURED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compare_margin_is_ten_percent_or_the_spreads),
        cmocka_unit_test(predictability_one_better_and_none_worse),
        cmocka_unit_test(log_order_one_write_decides),
        cmocka_unit_test(log_order_without_fuse_is_not_measured),
        cmocka_unit_test(latency_tail_and_mechanism_both),
        cmocka_unit_test(memory_each_part_can_fail_alone),
        cmocka_unit_test(full_the_interval_in_which_as_much_was_read_begins_it),
        cmocka_unit_test(conclude_series_of_a_restless_mapping_supports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
