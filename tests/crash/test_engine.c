/* SPDX-License-Identifier: MIT */
/*
 * test_engine ENGINE: the crash search over one engine, as the test suite runs it. How many states
 * is for CP_CRASH_STATES to say; builds that run many times slower check fewer, and say so.
 *
 * Built with one of the library's rules broken (CP_EXPECT_BREAKAGE), it passes only when the search
 * finds a loss.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "search.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLOW_BUILD 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SLOW_BUILD 1
#endif
#endif

#define STATES_DEFAULT UINT64_C(50000) /* two engines: 100,000 in `make test` */
#define STATES_SLOW    UINT64_C(2500)
#define STATES_BROKEN  UINT64_C(60000) /* at most, until the breakage is found */

static uint64_t number_of_states(void)
{
    const char *text = getenv("CP_CRASH_STATES");
    if (text != NULL && strtoull(text, NULL, 10) > 0)
        return strtoull(text, NULL, 10);
#ifdef CP_EXPECT_BREAKAGE
    return STATES_BROKEN;
#endif
#ifdef SLOW_BUILD
    printf("a sanitizer makes each check slow: %" PRIu64 " states instead of %" PRIu64
           " (CP_CRASH_STATES changes it)\n",
           STATES_SLOW, STATES_DEFAULT);
    return STATES_SLOW;
#else
    return STATES_DEFAULT;
#endif
}

static int judge(const struct crash_report *report, uint64_t wanted)
{
    uint64_t found = 0;
    for (unsigned i = CRASH_FINE + 1; i < CRASH_CLASSES; i++)
        found += report->by_class[i];
#ifdef CP_EXPECT_BREAKAGE
    (void)wanted;
    printf(found > 0 ? "the broken rule was detected\n" : "the broken rule went unnoticed\n");
    return found > 0 ? 0 : 1;
#else
    if (found > 0 || report->failed_runs > 0)
        return 1;
    if (report->states < wanted)
        printf("too few states\n");
    return report->states < wanted ? 1 : 0;
#endif
}

int main(int argc, char **argv)
{
    const char *seed = getenv("CP_TEST_SEED");
    struct crash_search_options options = {.seed = seed != NULL ? strtoull(seed, NULL, 10) : 1,
                                           .states = number_of_states()};
    struct crash_report report;
    char text[384] = "";
    options.subject = argc >= 2 ? crash_subject_find(argv[1]) : NULL;
    if (options.subject == NULL) {
        fprintf(stderr, "usage: test_engine ENGINE [fail-flush | shear | WORKLOAD]\n");
        return 2;
    }
    options.fail_flushes = argc >= 3 && strcmp(argv[2], "fail-flush") == 0;
    options.shear = argc >= 3 && strcmp(argv[2], "shear") == 0;
    if (argc >= 3 && !options.fail_flushes && !options.shear &&
        (options.workload = crash_workload_find(argv[2])) == NULL) {
        fprintf(stderr, "test_engine: no workload \"%s\"\n", argv[2]);
        return 2;
    }
#ifndef CP_EXPECT_BREAKAGE
    options.save_traces = true; /* something to look at afterwards */
#else
    options.stop_at_finding = true;
    options.timeout_s = 5;
    options.states_per_seed = 1500; /* many workloads rather than many states of each */
#endif
    printf("CP_TEST_SEED=%" PRIu64 " CP_CRASH_STATES=%" PRIu64 "\n", options.seed, options.states);
    if (crash_search(&options, &report, text, sizeof text) != 0) {
        printf("%s\n", text);
        return 1;
    }
    printf("%s: %" PRIu64 " distinct states of %" PRIu64 " listed, %" PRIu64
           " crash points, %" PRIu64 " workloads, %" PRIu64 " recoveries, %.1f s, %.0f states/s\n",
           options.subject->name, report.states, report.legal, report.points, report.traces,
           report.recovery_traces, report.seconds, (double)report.states / report.seconds);
    for (uint32_t i = 0; i < report.finding_count && i < 5; i++)
        printf("%s %s (%s): %s %s\n", report.findings[i].triple,
               crash_class_name(report.findings[i].class), report.findings[i].workload,
               report.findings[i].text, report.findings[i].trace);
    if (report.failed_runs > 0)
        printf("%" PRIu64 " workloads could not be run: %s\n", report.failed_runs,
               report.failed_text);
    return judge(&report, options.states);
}
