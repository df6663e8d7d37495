/* SPDX-License-Identifier: MIT */
/* Making the store that a fuzzer spoils, and using what it made of it. */
#ifndef CLOCKPOOL_TESTS_FUZZ_USE_H
#define CLOCKPOOL_TESTS_FUZZ_USE_H

#include <stdbool.h>
#include <clockpool/clockpool.h>

enum fuzz_end {
    FUZZ_CLEAN,   /* closed */
    FUZZ_CRASHED, /* abandoned: its last changes are in the log alone */
};

/* A small cache, a small log, nothing in the background. */
struct cp_pager_options fuzz_options(enum cp_engine engine);

/* A small store with a few pages, some of them freed. Aborts when it cannot be made. */
void fuzz_make_store(const char *path, enum fuzz_end end);

/*
 * Open the store, read every page it says it has (the first few hundred), fix, allocate, free,
 * check, sync, close. Returns what opening it said; what follows may fail with any code.
 */
int fuzz_use_store(const char *path, enum cp_engine engine, bool read_only);

#endif
