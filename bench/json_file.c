/* SPDX-License-Identifier: MIT */
/* JSON to a file, whole or not at all. */
#include "json_file.h"

#include <errno.h>
#include <linux/limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

json_t *bench_command_json(int argc, char **argv)
{
    json_t *words = json_array();
    for (int i = 0; i < argc; i++)
        json_array_append_new(words, json_string(argv[i]));
    return words;
}

int bench_json_write(const char *path, const json_t *root, struct bench_error *error)
{
    char temporary[PATH_MAX];
    int result = 0;
    if (root == NULL)
        return bench_fail(error, "out of memory while writing JSON");
    if (strcmp(path, "-") == 0) {
        if (json_dumpf(root, stdout, JSON_INDENT(2)) != 0 || printf("\n") < 0)
            result = bench_fail(error, "cannot write JSON to standard output");
    } else if (snprintf(temporary, sizeof temporary, "%s.%d.tmp", path, (int)getpid()) >=
               (int)sizeof temporary) {
        result = bench_fail(error, "the path %s is too long", path);
    } else if (json_dump_file(root, temporary, JSON_INDENT(2)) != 0 ||
               rename(temporary, path) != 0) {
        result = bench_fail_errno(error, errno, "cannot write %s", path);
        unlink(temporary);
    }
    return result;
}
