/* SPDX-License-Identifier: MIT */
/*
 * Tests of a rule that a naive pool would break. The same source is built twice: against the pool
 * as it is, and against one with the rule broken (CP_EXPECT_BREAKAGE), where the test passes only
 * when HOLDS finds the rule violated; any other failure, or none, is a failure of that test.
 */
#ifndef CLOCKPOOL_TESTS_BUFPOOL_RULES_H
#define CLOCKPOOL_TESTS_BUFPOOL_RULES_H

#include <stdio.h>
#include <unistd.h>
#include "helpers.h"

#ifdef CP_EXPECT_BREAKAGE
#define HOLDS(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("the broken rule was detected: %s\n", #condition);                              \
            fflush(stdout);                                                                        \
            _exit(0);                                                                              \
        }                                                                                          \
    } while (0)
#else
#define HOLDS(condition) assert_true(condition)
#endif

/* runs: how often at most; more than once where only a race shows the breakage. */
static inline int run_rule_tests(const struct CMUnitTest *tests, size_t count, unsigned runs)
{
    int failed = 0;
    for (unsigned run = 0; run < runs && failed == 0; run++)
        failed = _cmocka_run_group_tests("rules", tests, count, NULL, NULL);
#ifdef CP_EXPECT_BREAKAGE
    printf("the broken rule went unnoticed\n");
    return failed != 0 ? failed : 1;
#else
    return failed;
#endif
}

#endif
