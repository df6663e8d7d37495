/* SPDX-License-Identifier: MIT */
/*
 * The search, tried on stores of which we know what must come out: LMDB as it comes must pass, LMDB
 * told not to sync must fail, and so must pages changed in place in a shared mapping. Skipped, with
 * the reason, where FUSE or LMDB is missing. CP_CRASH_STATES: how many states
 * each (a fifth of the usual under sanitizers).
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "image.h"
#include "job.h"
#include "run.h"
#include "search.h"

static uint64_t number_of(const char *variable, uint64_t otherwise)
{
    const char *text = getenv(variable);
    return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

/* A directory for the traces that no seed repeats, removed in the end. */
static char keep[PATH_MAX];

static int make_keep(void **state)
{
    (void)state;
    return crash_workplace_create(NULL, keep, sizeof keep);
}

static int remove_keep(void **state)
{
    (void)state;
    crash_empty_directory(keep);
    return rmdir(keep);
}

static void skip_unless_possible(const struct crash_subject *subject)
{
    const char *reason = subject->not_built;
    if (reason == NULL)
        reason = subject->unavailable();
    if (reason == NULL)
        return;
    print_message("skipped: %s: %s\n", subject->name, reason);
    skip();
}

static struct crash_report search(const struct crash_subject *subject, uint64_t states)
{
    struct crash_search_options options = {
        .subject = subject,
        .seed = number_of("CP_TEST_SEED", 1),
        .states = number_of("CP_CRASH_STATES", BENCH_SANITIZED ? states / 5 : states),
        .jobs = 2,
        .keep = keep,
    };
    struct crash_report report;
    char text[384] = "";
    skip_unless_possible(subject);
    print_message("seed: CP_TEST_SEED=%" PRIu64 "\n", options.seed);
    if (crash_search(&options, &report, text, sizeof text) != 0)
        fail_msg("%s", text);
    print_message("%s: %" PRIu64 " states, %" PRIu64 " points, %" PRIu64
                  " traces, %.0f states/s; open failed %" PRIu64 ", lost %" PRIu64 ", torn %" PRIu64
                  ", corrupt %" PRIu64 ", signal %" PRIu64 "; while being created %" PRIu64 "\n",
                  subject->name, report.states, report.points, report.traces,
                  (double)report.states / report.seconds, report.by_class[CRASH_OPEN_FAILED],
                  report.by_class[CRASH_LOST], report.by_class[CRASH_TORN],
                  report.by_class[CRASH_CORRUPT], report.by_class[CRASH_SIGNAL],
                  report.creation_failed);
    for (uint32_t i = 0; i < report.finding_count && i < 3; i++)
        print_message("  %s %s (%s): %s\n", report.findings[i].triple,
                      crash_class_name(report.findings[i].class), report.findings[i].workload,
                      report.findings[i].text);
    if (report.failed_runs > 0)
        fail_msg("%s", report.failed_text);
    assert_true(report.states >= options.states * 9 / 10);
    return report;
}

static void controls_lmdb_keeps_every_commit(void **state)
{
    (void)state;
    struct crash_report report = search(&crash_subject_lmdb, 4000);
    assert_int_equal(report.finding_count, 0);
    assert_true(report.creation_failed < report.states / 10);
}

static void controls_lmdb_without_sync_loses_commits(void **state)
{
    (void)state;
    struct crash_report report = search(&crash_subject_lmdb_nosync, 1500);
    /* Most states are bad: a search that finds one here and there has missed much. */
    assert_true(report.by_class[CRASH_FINE] < report.states / 2);
    assert_true(report.by_class[CRASH_LOST] > 0);
    assert_true(report.by_class[CRASH_CORRUPT] + report.by_class[CRASH_TORN] > 0);
}

static void controls_mapping_changed_in_place_breaks(void **state)
{
    (void)state;
    struct crash_report report = search(&crash_subject_mmap_in_place, 600);
    assert_true(report.finding_count > 0);
    assert_int_equal(report.by_class[CRASH_SIGNAL], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(controls_lmdb_keeps_every_commit),
        cmocka_unit_test(controls_lmdb_without_sync_loses_commits),
        cmocka_unit_test(controls_mapping_changed_in_place_breaks),
    };
    return cmocka_run_group_tests(tests, make_keep, remove_keep);
}
