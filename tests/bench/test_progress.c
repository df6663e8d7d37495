/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "progress.h"

#define BEFORE "\r\033[K" /* each line */

/* A line that is longer than a window of 80 columns, on a terminal with so many (0: unknown).
 * Returns what was written to it, in text. */
static void show_on_terminal(unsigned short columns, char *text, size_t capacity)
{
    const struct winsize window = {.ws_row = 24, .ws_col = columns};
    struct bench_progress progress;
    int master = posix_openpt(O_RDWR | O_NOCTTY), saved = dup(STDERR_FILENO);
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0) {
        print_message("skipped: there are no pseudo terminals\n");
        skip();
    }
    int terminal = open(ptsname(master), O_RDWR | O_NOCTTY);
    assert_true(terminal >= 0);
    assert_int_equal(ioctl(terminal, TIOCSWINSZ, &window), 0);
    fflush(stderr);
    dup2(terminal, STDERR_FILENO);
    bench_progress_begin(&progress, false, 100);
    bench_progress_step(&progress, 1, "read-random zipf:0.99, turn 1 of 3, %s",
                        "wiredtiger: 32 threads at depth 32, data that do not fit in memory");
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    ssize_t n = read(master, text, capacity - 1);
    text[n > 0 ? n : 0] = '\0';
    close(terminal);
    close(master);
}

static unsigned count_columns(const char *text)
{
    unsigned columns = 0;
    for (; *text != '\0'; text++)
        columns += (*text & 0xc0) != 0x80;
    return columns;
}

static void a_line_that_is_too_long_is_cut_to_the_window(void **state)
{
    (void)state;
    static const unsigned short widths[] = {80, 40, 9, 1, 0};
    char text[1000], whole[1000];
    show_on_terminal(500, whole, sizeof whole);
    assert_non_null(strstr(whole, "do not fit in memory"));
    for (unsigned i = 0; i < sizeof widths / sizeof *widths; i++) {
        const unsigned columns = widths[i] != 0 ? widths[i] : 80;
        show_on_terminal(widths[i], text, sizeof text);
        assert_int_equal(strncmp(text, BEFORE, strlen(BEFORE)), 0);
        /* the dots have two bytes and one column; the last column stays free */
        assert_int_equal(count_columns(text + strlen(BEFORE)), columns - 1);
        assert_int_equal(strncmp(text, whole, strlen(text)), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_that_is_too_long_is_cut_to_the_window),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
