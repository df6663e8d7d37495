/* SPDX-License-Identifier: MIT */
/*
 * json_value FILE PATH: print a value of a JSON file, a path such as log.segments or
 * findings.0.name. An array or object prints its size. Exit status 1 when FILE is no JSON or has
 * nothing there; so `json_value FILE .` asks only whether it parses.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    json_error_t where;
    if (argc != 3)
        return 2;
    json_t *root = json_load_file(argv[1], JSON_REJECT_DUPLICATES, &where);
    const json_t *value = root;
    if (root == NULL) {
        fprintf(stderr, "%s:%d: %s\n", argv[1], where.line, where.text);
        return 1;
    }
    for (char *name = strtok(argv[2], "."); name != NULL && value != NULL; name = strtok(NULL, "."))
        value = json_is_array(value) ? json_array_get(value, strtoul(name, NULL, 10))
                                     : json_object_get(value, name);
    if (value == NULL) {
        fprintf(stderr, "%s: nothing there\n", argv[1]);
    } else if (json_is_string(value)) {
        puts(json_string_value(value));
    } else if (json_is_array(value)) {
        printf("%zu\n", json_array_size(value));
    } else if (json_is_object(value)) {
        printf("%zu\n", json_object_size(value));
    } else {
        json_dumpf(value, stdout, JSON_ENCODE_ANY);
        putchar('\n');
    }
    int status = value == NULL ? 1 : 0;
    json_decref(root);
    return status;
}
