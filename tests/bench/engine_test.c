/* SPDX-License-Identifier: MIT */
/*
 * Engines of the tests: raw, with something wrong about it.
 *
 *     faulty    one page in 97 comes with a bit flipped
 *     crash     the process ends by a signal during the first measurement
 *     refuses   cannot be opened
 */
#include "engine.h"

#include <stdlib.h>

static int read_faulty(void *thread, struct bench_op *ops, unsigned count)
{
    int code = bench_engine_raw.read(thread, ops, count);
    for (unsigned i = 0; code == 0 && i < count; i++)
        if (ops[i].page % 97 == 5)
            ops[i].value ^= 4;
    return code;
}

static int read_crash(void *thread, struct bench_op *ops, unsigned count)
{
    (void)thread;
    (void)ops;
    (void)count;
    abort();
}

static int open_refuses(const struct bench_setup *setup, void **out_engine,
                        struct bench_error *error)
{
    (void)setup;
    (void)out_engine;
    return bench_fail(error, "this engine refuses");
}

static const char *version(void)
{
    return "test";
}

static struct bench_engine faulty, crash, refuses;

extern const struct bench_engine *const bench_engines_extra[];
const struct bench_engine *const bench_engines_extra[] = {&faulty, &crash, &refuses, NULL};

__attribute__((constructor)) static void make_engines(void)
{
    faulty = crash = refuses = bench_engine_raw;
    faulty.name = "faulty";
    crash.name = "crash";
    refuses.name = "refuses";
    faulty.version = crash.version = refuses.version = version;
    faulty.deep = crash.deep = refuses.deep = false;
    faulty.read = read_faulty;
    crash.read = read_crash;
    refuses.open = open_refuses;
}
