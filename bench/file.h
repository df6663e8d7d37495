/* SPDX-License-Identifier: MIT */
/* A result in a file, whole or not at all. */
#ifndef BENCH_FILE_H
#define BENCH_FILE_H

#include "engine.h"

#include <stddef.h>

/*
 * Write size_bytes at bytes to path; "-" is standard output. A file is written beside its place and
 * renamed, so that a reader never finds half of it; what is no regular file (/dev/null, a pipe) is
 * written to. what: as errors on standard output call it.
 * 0, or -1 with a description.
 */
int bench_file_write(const char *path, const void *bytes, size_t size_bytes, const char *what,
                     struct bench_error *error);

/*
 * Before the work whose result is for path: could it be written? A file is made beside its place
 * and removed; what is no regular file is not touched. 0, or -1 with a description.
 */
int bench_file_check(const char *path, struct bench_error *error);

/* The same of an option of `clockpool-bench COMMAND`; path is NULL where it was not given. 0, or
 * the exit status 2 after a message. */
int bench_file_check_option(const char *command, const char *option, const char *path);

/*
 * Before the work: is path, which the option names to be written, another file than other? What
 * both name would be lost. NULL, "-" and what is no regular file (/dev/null, a pipe) are never the
 * same. other_is: as the message calls it. 0, or the exit status 2 after a message.
 */
int bench_file_check_other(const char *command, const char *option, const char *path,
                           const char *other, const char *other_is);

#endif
