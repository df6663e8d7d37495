/* SPDX-License-Identifier: MIT */
/*
 * One engine's page writes ahead of the log: work on a new store in a scratch directory, recorded
 * from outside where FUSE is possible, and the recording counted.
 */
#include "order_measure.h"

#include "crash/image.h"
#include "job.h"
#include "order_work.h"
#include "scratch.h"

#include <clockpool/base/thread.h>

#include <stdio.h>
#include <string.h>

#if BENCH_SANITIZED
#define SLACK_BYTES (UINT64_C(1) << 30)
#else
#define SLACK_BYTES (UINT64_C(16) << 20) /* the program, the log's buffer of 8 MiB, the mount */
#endif

const struct order_engine order_engines[ORDER_ENGINES] = {
    {"pool", CP_ENGINE_POOL, false},
    {"mmap", CP_ENGINE_MMAP, false},
    {"mmap-in-place", CP_ENGINE_MMAP, true},
};

/* Put the mmap engines under a limit, so that the kernel runs short of memory as the pool does. */
static bool make_limit(const struct order_settings *settings, const struct order_engine *engine,
                       struct bench_cgroup *out_group)
{
    struct bench_error error;
    return engine->engine == CP_ENGINE_MMAP && settings->no_fuse == NULL &&
           bench_cgroup_create(out_group, engine->name, settings->mem_bytes + SLACK_BYTES,
                               &error) == 0;
}

/* 0, or -1: it could not be measured, and text says why. */
static int measure(const struct order_settings *settings, const struct order_engine *engine,
                   const char *root, struct order_result *out, char *text, size_t capacity)
{
    struct bench_cgroup group = {0};
    const uint64_t begin_ns = cp_now_ns();
    struct crash_trace *trace = crash_trace_create();
    out->limited = make_limit(settings, engine, &group);
    struct order_job job = {
        .name = engine->name,
        .engine = engine->engine,
        .in_place = engine->in_place,
        .size_bytes = settings->size_bytes,
        .mem_bytes = settings->mem_bytes,
        .page_size = (uint32_t)settings->page_size,
        .transactions = settings->transactions,
        .group = settings->group,
        .nudge = settings->nudge,
        .seed = settings->seed,
        .limit = out->limited ? &group : NULL,
        .text = text,
        .text_capacity = capacity,
    };
    int result = order_record(&job, root, settings->no_fuse == NULL, trace);
    if (out->limited)
        bench_cgroup_remove(&group);
    if (result == 0 && order_count(trace, &out->counts) != 0) {
        snprintf(text, capacity, "the recording has no store in it");
        result = -1;
    }
    crash_trace_destroy(trace);
    out->measured = result == 0;
    out->seconds = (double)(cp_now_ns() - begin_ns) * 1e-9;
    return result;
}

int order_measure(const struct order_settings *settings, const struct order_engine *engine,
                  struct order_result *out, char *text, size_t capacity)
{
    char root[PATH_MAX];
    int code = crash_workplace_create(settings->dir, root, sizeof root);
    if (code != 0) {
        crash_workplace_error(settings->dir, code, text, capacity);
        return -1;
    }
    int result = measure(settings, engine, root, out, text, capacity);
    bench_remove_tree(root);
    return result;
}
