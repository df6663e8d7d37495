/* SPDX-License-Identifier: MIT */
/* The end of a failed assertion: one line on standard error, then abort, so that a core tells. */
#include <clockpool/base/assert.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void cp_assert_fail(const char *condition, const char *file, int line, const char *function)
{
    char text[256];
    int length = snprintf(text, sizeof text, "clockpool: %s:%d: %s: assertion failed: %s\n", file,
                          line, function, condition);
    if (length > (int)sizeof text - 1) {
        length = (int)sizeof text - 1;
        text[length - 1] = '\n';
    }
    /* write, not stdio: no lock that the failing thread may hold. Its failure changes nothing. */
    if (length > 0 && write(STDERR_FILENO, text, (size_t)length) < 0)
        abort();
    abort();
}
