/* SPDX-License-Identifier: MIT */
/* Writing what was measured to a file. */
#ifndef BENCH_JSON_FILE_H
#define BENCH_JSON_FILE_H

#include <jansson.h>
#include "engine.h"

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

/* The words of a command line, for the record; the caller owns it. */
json_t *bench_command_json(int argc, char **argv);

#endif
