/* SPDX-License-Identifier: MIT */
/* The table people read: at most 120 columns, units in the headings, footnotes for what differs. */
#ifndef BENCH_TABLE_H
#define BENCH_TABLE_H

#include <stdio.h>
#include "results.h"

struct bench_table_facts {
    bool equal_memory;
    const char *equal_reason; /* why not; NULL when equal */
};

void bench_table_print(FILE *out, const struct bench_results *results,
                       const struct bench_plan *plan, const struct bench_table_facts *facts);

#endif
