/* SPDX-License-Identifier: MIT */
/* Describing an error; see engine.h. */
#include "engine.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int bench_fail(struct bench_error *error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error->text, sizeof error->text, format, args);
    va_end(args);
    return -1;
}

int bench_fail_errno(struct bench_error *error, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error->text, sizeof error->text, format, args);
    va_end(args);
    size_t length = strlen(error->text);
    snprintf(error->text + length, sizeof error->text - length, ": %s", strerror(code));
    return -1;
}
