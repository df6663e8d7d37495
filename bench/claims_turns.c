/* SPDX-License-Identifier: MIT */
/*
 * Having engines measured for `claims`, as `run` does it: each in a process and a memory cgroup of
 * its own, on one data set that was read through once and is dropped from the page cache before
 * each turn.
 */
#include "claims.h"

#include "common/signals.h"
#include "process.h"

#include <clockpool/base/bits.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define WARM_THREADS   16u /* as in child.c */
#define WARMUP_SECONDS 10.0

const char *const claims_engine_names[CLAIMS_ENGINES] = {"pool", "mmap", "pool-buffered"};

/* What the process says while it runs. */
struct listening {
    struct claims *claims;
    struct bench_cell_result *result;
    bool measured;
    char failure[700];
};

static void on_progress(void *ctx, const char *phase, double fraction, double ops_per_s)
{
    struct listening *listening = ctx;
    bench_progress_update(&listening->claims->progress, fraction, ops_per_s, phase);
}

static void on_cell(void *ctx, unsigned index, const struct bench_cell_result *result)
{
    struct listening *listening = ctx;
    (void)index;
    *listening->result = *result;
    listening->measured = true;
}

static void on_cell_failed(void *ctx, unsigned index, const char *text)
{
    struct listening *listening = ctx;
    (void)index;
    snprintf(listening->failure, sizeof listening->failure, "%s", text);
}

static void fill_job(const struct claims *claims, const struct bench_engine *engine,
                     struct bench_job *job)
{
    const struct claims_plan *plan = claims->plan;
    memset(job, 0, sizeof *job);
    job->magic = BENCH_JOB_MAGIC;
    job->size_bytes = sizeof *job;
    snprintf(job->engine, sizeof job->engine, "%s", engine->name);
    struct bench_setup *setup = &job->setup;
    if (snprintf(setup->data.directory, sizeof setup->data.directory, "%s/%s", claims->scratch,
                 engine->format) >= (int)sizeof setup->data.directory)
        setup->data.directory[0] = '\0';
    setup->data.page_count = plan->size_bytes / CLAIMS_PAGE_SIZE;
    setup->data.page_size = CLAIMS_PAGE_SIZE;
    setup->data.seed = plan->seed;
    setup->mem_bytes = plan->mem_bytes;
    setup->workload = BENCH_READ_RANDOM;
    setup->batch = setup->depth_max = 1;
    job->warmup_seconds = WARMUP_SECONDS;
    job->slack_bytes = plan->slack_bytes;
}

static int on_read(void *ctx, uint64_t bytes)
{
    (void)ctx;
    (void)bytes;
    return signals_caught();
}

int claims_make_data(struct claims *claims)
{
    static struct bench_job job; /* static: too large for a small stack */
    struct bench_process_result result;
    struct listening listening = {.claims = claims};
    struct bench_process_events events = {on_progress, on_cell, on_cell_failed, &listening};
    fill_job(claims, &bench_engine_pool, &job);
    job.create = true;
    if (mkdir(job.setup.data.directory, 0700) != 0)
        return bench_fail_errno(&claims->error, errno, "cannot make %s", job.setup.data.directory);
    if (bench_process_run(&job, NULL, &events, &result, &claims->error) != 0)
        return -1;
    bench_drop_cache(job.setup.data.directory);
    return bench_read_through(job.setup.data.directory, on_read, NULL, &claims->error);
}

static void fill_turn(const struct claims_turn *turn, struct bench_job *job)
{
    job->cold = turn->cold;
    job->footprint = true;
    job->seconds = turn->seconds;
    job->setup.buffered = turn->engine == CLAIMS_BUFFERED;
    job->setup.threads_max = turn->threads > WARM_THREADS ? turn->threads : WARM_THREADS;
    job->cell_count = 1;
    job->cells[0] = (struct bench_cell){
        .access = BENCH_OPTIMISTIC, .threads = turn->threads, .depth = 1, .rate = turn->rate};
    /* The engines see the same pages, the repetitions others. */
    job->streams[0] = bench_mix(turn->repeat * 31 + turn->threads + turn->rate) >> 16;
}

int claims_run_turn(struct claims *claims, const struct claims_turn *turn,
                    struct bench_cell_result *out_result)
{
    static struct bench_job job;
    const struct bench_engine *engine =
        turn->engine == CLAIMS_MMAP ? &bench_engine_mmap : &bench_engine_pool;
    struct bench_process_result result = {0};
    struct bench_cgroup group = {0};
    struct listening listening = {.claims = claims, .result = out_result};
    struct bench_process_events events = {on_progress, on_cell, on_cell_failed, &listening};
    fill_job(claims, engine, &job);
    fill_turn(turn, &job);
    bench_drop_cache(job.setup.data.directory);
    if (bench_cgroup_create(&group, engine->name, job.setup.mem_bytes + job.slack_bytes,
                            &claims->error) != 0)
        return -1;
    bench_cgroup_usage_file(&group, job.usage_file, sizeof job.usage_file);
    int code = bench_process_run(&job, &group, &events, &result, &claims->error);
    bench_cgroup_remove(&group);
    if (code == 0 && !listening.measured)
        code = bench_fail(&claims->error, "%s", listening.failure);
    return code;
}
