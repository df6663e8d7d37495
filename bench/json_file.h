/* SPDX-License-Identifier: MIT */
/* Writing what was measured to a file. */
#ifndef BENCH_JSON_FILE_H
#define BENCH_JSON_FILE_H

#include <jansson.h>
#include "engine.h"

#define BENCH_JSON_FORMAT 1 /* "format" of the files: what they mean, for who reads them later */

/*
 * Write root to path as bench_file_write does. root: borrowed; NULL counts as out of memory. 0, or
 * -1 with a description.
 */
int bench_json_write(const char *path, const json_t *root, struct bench_error *error);

/*
 * The same as the last step of `clockpool-bench COMMAND`: takes root over, tells an error on stderr
 * and returns the exit status, 0 or 1.
 */
int bench_json_finish(const char *command, const char *path, json_t *root);

/*
 * Keep the words of this process's command line, for bench_json_root. Once, by main, before a
 * command reads its options: it may take lists apart in place.
 */
void bench_command_keep(int argc, char **argv);

/*
 * What each file begins with, "format", "version" and "command" (the words that were kept, program
 * first), and then the rest, which is taken over. NULL, also of NULL: out of memory.
 */
json_t *bench_json_root(json_t *rest);

#endif
