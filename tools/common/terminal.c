/* SPDX-License-Identifier: MIT */
/* The line of progress. No state; any thread. */
#include "common/terminal.h"

#include <stdbool.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define COLUMNS_UNKNOWN 80u

/* Of the window now: it may be made narrower between two lines. */
static unsigned window_columns(void)
{
    struct winsize window = {0};
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) != 0 || window.ws_col == 0)
        return COLUMNS_UNKNOWN;
    return window.ws_col;
}

/* Bytes of the first characters of a text. */
static int leading_bytes(const char *text, unsigned characters)
{
    int size = 0;
    for (; text[size] != '\0'; size++) {
        const bool begins = (text[size] & 0xc0) != 0x80; /* not a later byte of a character */
        if (begins && characters-- == 0)
            break;
    }
    return size;
}

void terminal_rewrite(const char *text)
{
    /* Less one: with the last column filled some terminals are in the next line. */
    fprintf(stderr, "\r\033[K%.*s", leading_bytes(text, window_columns() - 1), text);
    fflush(stderr);
}

void terminal_clear(void)
{
    fputs("\r\033[K", stderr);
}
