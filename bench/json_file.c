/* SPDX-License-Identifier: MIT */
/* JSON to a file. */
#include "json_file.h"

#include "file.h"

#include <clockpool/version.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *command_words; /* lives as long as the process */

void bench_command_keep(int argc, char **argv)
{
    json_decref(command_words);
    command_words = json_array();
    for (int i = 0; i < argc; i++)
        json_array_append_new(command_words, json_string(argv[i]));
}

json_t *bench_json_root(json_t *rest)
{
    json_t *words = command_words != NULL ? json_incref(command_words) : json_array();
    json_t *root = json_pack("{s:i,s:s,s:o}", "format", BENCH_JSON_FORMAT, "version", cp_version(),
                             "command", words);
    if (json_object_update_new(root, rest) == 0)
        return root;
    json_decref(root);
    return NULL;
}

int bench_json_write(const char *path, const json_t *root, struct bench_error *error)
{
    char *text = root != NULL ? json_dumps(root, JSON_INDENT(2)) : NULL;
    if (text == NULL)
        return bench_fail(error, "out of memory while writing JSON");
    size_t length = strlen(text);
    text[length] = '\n'; /* in place of the end, which is not written */
    int result = bench_file_write(path, text, length + 1, "JSON", error);
    free(text);
    return result;
}

int bench_json_finish(const char *command, const char *path, json_t *root)
{
    struct bench_error error;
    const int code = bench_json_write(path, root, &error);
    json_decref(root);
    if (code != 0)
        fprintf(stderr, "clockpool-bench %s: %s\n", command, error.text);
    return code == 0 ? 0 : 1;
}
