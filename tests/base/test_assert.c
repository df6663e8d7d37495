/* SPDX-License-Identifier: MIT */
/* A failed assertion says where and what on standard error, in one line, and aborts. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <clockpool/base/assert.h>

#define TEXT_BYTES 1024u

/* Run misuse in a child; its standard error goes to text, its end to *out_status. */
static void run_in_child(void (*misuse)(void), char text[TEXT_BYTES], int *out_status)
{
    int ends[2];
    fflush(NULL);
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit no_core = {0, 0};
        /* cmocka's handler, inherited, would run the rest of the tests in the child */
        signal(SIGABRT, SIG_DFL);
        setrlimit(RLIMIT_CORE, &no_core);
        dup2(ends[1], STDERR_FILENO);
        misuse();
        _exit(0);
    }
    close(ends[1]);
    size_t length = 0;
    ssize_t got;
    while ((got = read(ends[0], text + length, TEXT_BYTES - 1 - length)) > 0)
        length += (size_t)got;
    text[length] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(child, out_status, 0), child);
}

static void fail_plainly(void)
{
    int left = 1;
    cp_assert(left == 2);
}

static void fail_at_length(void)
{
    char condition[TEXT_BYTES];
    memset(condition, 'c', sizeof condition - 1);
    condition[sizeof condition - 1] = '\0';
    cp_assert_fail(condition, "file.c", 7, "function");
}

static void assert_failed_names_the_place_and_aborts(void **state)
{
    char text[TEXT_BYTES];
    int status;
    (void)state;
    run_in_child(fail_plainly, text, &status);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_non_null(strstr(text, "test_assert.c:"));
    assert_non_null(strstr(text, "fail_plainly: assertion failed: left == 2\n"));
}

static void assert_failed_with_a_long_text_keeps_the_line_whole(void **state)
{
    char text[TEXT_BYTES];
    int status;
    (void)state;
    run_in_child(fail_at_length, text, &status);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_memory_equal(text, "clockpool: file.c:7: function: assertion failed: ccc", 52);
    assert_true(strlen(text) > 200);
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

static void assert_held_evaluates_once(void **state)
{
    unsigned count = 0;
    (void)state;
    cp_assert(++count == 1);
    assert_int_equal(count, 1);
}

static void assert_debug_evaluates_in_debug_builds_only(void **state)
{
    unsigned count = 0;
    (void)state;
    cp_debug_assert(++count == 1);
#ifdef CP_DEBUG
    assert_int_equal(count, 1);
#else
    assert_int_equal(count, 0);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(assert_failed_names_the_place_and_aborts),
        cmocka_unit_test(assert_failed_with_a_long_text_keeps_the_line_whole),
        cmocka_unit_test(assert_held_evaluates_once),
        cmocka_unit_test(assert_debug_evaluates_in_debug_builds_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
