/* SPDX-License-Identifier: MIT */
/*
 * Pages that were allocated and never written (CP_EUNWRITTEN), as a bulk load leaves them that was
 * not finished: counted, and told in runs of neighbours, since there may be millions.
 */
#ifndef TOOLS_UNWRITTEN_H
#define TOOLS_UNWRITTEN_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UNWRITTEN_RUNS_KEPT 10000u

struct unwritten_run {
    uint64_t first, last;
};

/* Begins as zeros. */
struct unwritten {
    uint64_t pages;
    struct unwritten_run *runs; /* owned; up to UNWRITTEN_RUNS_KEPT; NULL: none yet, or no memory */
    uint32_t run_count;
    bool more; /* there are pages in none of them */
};

/* The next such page: their numbers rise. Without memory for its run it is counted all the same. */
void unwritten_add(struct unwritten *unwritten, uint64_t page);
void unwritten_free(struct unwritten *unwritten);
/* "3 pages were allocated and never written: 7, 9 to 10", into text. */
char *unwritten_line(char *text, size_t capacity, const struct unwritten *unwritten);
/* Set "unwritten_pages", a number, and "unwritten", an array of [first, last], of an object. */
void unwritten_to_json(const struct unwritten *unwritten, json_t *object);

#endif
