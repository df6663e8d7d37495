/* SPDX-License-Identifier: MIT */
/*
 * Files that a report or a comparison is made from: reading them, and saying what is wrong with
 * one. A file has at least one of results[] (run), claims[] (claims) and curves[] (trace, which may
 * call them traces[]).
 */
#ifndef BENCH_REPORT_INPUT_H
#define BENCH_REPORT_INPUT_H

#include <jansson.h>
#include "engine.h"

/* A file, or results that were never in one. Borrows both, and changes neither. */
struct report_part {
    const char *name; /* for a person */
    json_t *root;
};

/*
 * Is root something that the functions here can work with? Every field that they rely on is there
 * and of its type; the names of fields that are not are in the error. 0, or -1.
 */
int report_check(const char *name, const json_t *root, struct bench_error *error);

/* Read and check a file; the caller owns the JSON. 0, or -1. */
int report_load(const char *path, json_t **out_root, struct bench_error *error);

#endif
