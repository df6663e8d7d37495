/* SPDX-License-Identifier: MIT */
/*
 * The search itself, on a toy store: it passes the correct one, finds each mistake, survives checks
 * that die or hang, and makes the state of a triple again.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "search.h"
#include "toy.h"

static uint64_t seed(void)
{
    const char *text = getenv("CP_TEST_SEED");
    uint64_t value = text != NULL ? strtoull(text, NULL, 10) : 1;
    printf("CP_TEST_SEED=%" PRIu64 "\n", value);
    return value;
}

static struct crash_report search(enum toy_mistake mistake, uint64_t states, bool fail_flushes)
{
    struct crash_search_options options = {.subject = toy_subject(mistake),
                                           .seed = seed(),
                                           .states = states,
                                           .jobs = 2,
                                           .timeout_s = mistake == TOY_HANGS ? 1 : 0,
                                           .fail_flushes = fail_flushes,
                                           .stop_at_finding = mistake != TOY_CORRECT};
    struct crash_report report;
    char text[384] = "";
    assert_int_equal(crash_search(&options, &report, text, sizeof text), 0);
    printf("%s: %" PRIu64 " states, %" PRIu64 " points, %" PRIu64 " traces, %" PRIu64
           " recoveries, %.0f states/s\n",
           options.subject->name, report.states, report.points, report.traces,
           report.recovery_traces, (double)report.states / report.seconds);
    for (uint32_t i = 0; i < report.finding_count && i < 3; i++)
        printf("  %s %s (%s): %s\n", report.findings[i].triple,
               crash_class_name(report.findings[i].class), report.findings[i].workload,
               report.findings[i].text);
    assert_int_equal(report.failed_runs, 0);
    return report;
}

static void search_correct_store_passes(void **state)
{
    (void)state;
    struct crash_report report = search(TOY_CORRECT, 20000, false);
    assert_true(report.states >= 20000);
    assert_int_equal(report.finding_count, 0);
    report = search(TOY_CORRECT, 5000, true);
    assert_int_equal(report.finding_count, 0);
}

static void search_broken_store_is_found(void **state)
{
    (void)state;
    for (enum toy_mistake mistake = TOY_CORRECT + 1; mistake < TOY_MISTAKES; mistake++) {
        struct crash_report report = search(mistake, 30000, mistake == TOY_RETRY_SYNC);
        assert_true(report.finding_count > 0);
        bool killed = mistake == TOY_DIES || mistake == TOY_HANGS;
        assert_int_equal(report.findings[0].class == CRASH_SIGNAL, killed);
    }
}

static void search_triple_reproduces_image_and_finding(void **state)
{
    (void)state;
    static const enum toy_mistake mistakes[] = {TOY_NO_CHECKSUM, TOY_RECOVERY};
    for (unsigned i = 0; i < 2; i++) {
        struct crash_report report = search(mistakes[i], 30000, false);
        struct crash_search_options options = {.subject = toy_subject(mistakes[i])};
        struct crash_reproduction first, second;
        char text[384] = "";
        assert_true(report.finding_count > 0);
        for (unsigned turn = 0; turn < 2; turn++)
            assert_int_equal(crash_reproduce(&options, report.findings[0].triple, NULL,
                                             turn == 0 ? &first : &second, text, sizeof text),
                             0);
        assert_true(first.found && second.found);
        assert_true(first.image_hash == second.image_hash && first.image_hash != 0);
        assert_false(first.fine);
        assert_int_equal(first.verdict.class, report.findings[0].class);
        assert_string_equal(first.verdict.text, report.findings[0].text);
    }
}

static void search_wrong_triple_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "", "x", "1", "1/2", "1/2/q3", "1/2/m0/3", "1/2/m0/3/p1/4", "1/2/p", "-1/2/p0"};
    struct crash_search_options options = {.subject = toy_subject(TOY_CORRECT)};
    struct crash_reproduction out;
    char text[384] = "";
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_true(crash_reproduce(&options, wrong[i], NULL, &out, text, sizeof text) < 0);
    assert_int_equal(crash_reproduce(&options, "1/99999999/p0", NULL, &out, text, sizeof text), 0);
    assert_false(out.found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(search_correct_store_passes),
        cmocka_unit_test(search_broken_store_is_found),
        cmocka_unit_test(search_triple_reproduces_image_and_finding),
        cmocka_unit_test(search_wrong_triple_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
