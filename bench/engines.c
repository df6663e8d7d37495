/* SPDX-License-Identifier: MIT */
/* The list of engines. A new one is added here and in CMakeLists.txt, and nowhere else. */
#include "engine.h"

#include <string.h>

/* Engines of the tests (tests/bench/engine_test.c), linked into the tests' copy of the tool. */
extern const struct bench_engine *const bench_engines_extra[] __attribute__((weak));

static const struct bench_engine *const engines[] = {
    &bench_engine_raw,     &bench_engine_pool,       &bench_engine_mmap,
    &bench_engine_lmdb,    &bench_engine_sqlite,     &bench_engine_wiredtiger,
    &bench_engine_rocksdb, &bench_engine_berkeleydb, &bench_engine_bdb_memp,
    &bench_engine_floor,
};

#define ENGINE_COUNT (sizeof engines / sizeof *engines)

const struct bench_engine *bench_engine_at(unsigned index)
{
    if (index < ENGINE_COUNT)
        return engines[index];
    if (bench_engines_extra == NULL)
        return NULL;
    for (unsigned i = 0; bench_engines_extra[i] != NULL; i++)
        if (i == index - ENGINE_COUNT)
            return bench_engines_extra[i];
    return NULL;
}

bool bench_engine_is_extra(unsigned index)
{
    return index >= ENGINE_COUNT;
}

const struct bench_engine *bench_engine_find(const char *name)
{
    for (unsigned i = 0; bench_engine_at(i) != NULL; i++)
        if (strcmp(bench_engine_at(i)->name, name) == 0)
            return bench_engine_at(i);
    return NULL;
}
