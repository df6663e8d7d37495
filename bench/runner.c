/* SPDX-License-Identifier: MIT */
/*
 * Carrying out a plan.
 *
 *     for each size:      make a data set for each format, read it through once
 *       for each workload and distribution:
 *         for each repetition:
 *           for each engine, in turn:   one process, which runs all the engine's cells
 *
 * Whatever happens, the data sets and cgroups made here are removed: after a failure, and after a
 * signal, which is noticed between any two steps.
 */
#include "runner.h"

#include "cgroup.h"
#include "common/signals.h"
#include "environment.h"
#include "json_file.h"
#include "process.h"
#include "progress.h"
#include "recover.h"
#include "report/page.h"
#include "results.h"
#include "scratch.h"
#include "table.h"

#include <clockpool/clockpool.h>
#include <clockpool/base/bits.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* For the estimate of the time left only. */
#define CREATE_BYTES_PER_S 700e6
#define READ_BYTES_PER_S   1500e6
#define LOG_BYTES_PER_S    20e6 /* written by commits */
#define WARM_THREADS       16   /* as in child.c */
#define START_SECONDS      0.4

struct runner {
    const struct bench_plan *plan;
    struct bench_place place;
    char scratch[PATH_MAX];
    bool equal_memory;
    char equal_reason[700];
    struct bench_results results;
    struct bench_progress progress;
    struct bench_error error;
    /* the process that runs */
    const struct bench_engine *engine;
    unsigned first_row; /* of its cells */
    unsigned cell_count, cells_done;
};

/* ---- what has to be measured
 * ----------------------------------------------------------------------- */

/* Scans know no distribution: they are run once. */
static unsigned dist_count(const struct bench_plan *plan, enum bench_workload workload)
{
    return workload == BENCH_READ_SCAN ? 1 : plan->dist_count;
}

static int add_rows(struct runner *runner, unsigned size, unsigned workload, unsigned dist)
{
    const struct bench_plan *plan = runner->plan;
    struct bench_cell cells[BENCH_CELLS_MAX];
    enum bench_workload kind = plan->workloads[workload];
    for (unsigned e = 0; e < plan->engine_count; e++) {
        unsigned count = bench_plan_cells(plan, plan->engines[e], kind, cells);
        for (unsigned c = 0; c < count; c++) {
            struct bench_row row = {
                .engine = plan->engines[e],
                .workload = kind,
                .size_index = size,
                .dist_index = dist,
                .size_bytes = plan->sizes[size],
                .mem_bytes = plan->mems[size],
                .fits = bench_plan_fits(plan->sizes[size], plan->mems[size]),
                .has_durability = bench_workload_writes(kind),
                .durability = bench_plan_durability(plan->engines[e], kind),
                .cell = cells[c],
                .access = bench_plan_access_name(plan->engines[e], kind, cells[c].access),
            };
            snprintf(row.dist, sizeof row.dist, "%s",
                     kind == BENCH_READ_SCAN ? "sequential" : plan->dists[dist].name);
            if (bench_results_add(&runner->results, &row) < 0)
                return bench_fail(&runner->error, "out of memory");
        }
    }
    return 0;
}

static int add_all_rows(struct runner *runner)
{
    const struct bench_plan *plan = runner->plan;
    for (unsigned s = 0; s < plan->size_count; s++)
        for (unsigned w = 0; w < plan->workload_count; w++)
            for (unsigned d = 0; d < dist_count(plan, plan->workloads[w]); d++)
                if (add_rows(runner, s, w, d) != 0)
                    return -1;
    return 0;
}

/* The first engine of a format makes the data set for all of that format. */
static bool is_first_of_format(const struct bench_plan *plan, unsigned engine)
{
    for (unsigned i = 0; i < engine; i++)
        if (strcmp(plan->engines[i]->format, plan->engines[engine]->format) == 0)
            return false;
    return true;
}

static uint64_t disk_needed(const struct bench_plan *plan, unsigned size)
{
    uint64_t bytes = 0;
    for (unsigned e = 0; e < plan->engine_count; e++)
        if (is_first_of_format(plan, e))
            bytes +=
                plan->engines[e]->disk_bytes(plan->sizes[size] / plan->page_size, plan->page_size);
    return bytes;
}

static double create_seconds(const struct bench_plan *plan, unsigned size)
{
    return (double)plan->sizes[size] * (1 / CREATE_BYTES_PER_S + 1 / READ_BYTES_PER_S);
}

/* An engine's process: opening, warming up, and its cells. */
static double process_seconds(const struct bench_plan *plan, unsigned size, unsigned cell_count)
{
    double warm = START_SECONDS + (double)cp_min_u64(plan->sizes[size], plan->mems[size]) / 250e6;
    if (warm > plan->warmup_seconds + START_SECONDS)
        warm = plan->warmup_seconds + START_SECONDS;
    return warm + cell_count * (plan->seconds + 0.05);
}

static double recover_seconds(const struct bench_plan *plan, const struct bench_row *row)
{
    return 2 * START_SECONDS + (row->cell.log_bytes == 0
                                    ? plan->seconds
                                    : (double)row->cell.log_bytes / LOG_BYTES_PER_S);
}

static double planned_seconds(const struct runner *runner)
{
    const struct bench_plan *plan = runner->plan;
    double total = 0;
    for (unsigned s = 0; s < plan->size_count; s++)
        for (unsigned e = 0; e < plan->engine_count; e++)
            if (is_first_of_format(plan, e))
                total += create_seconds(plan, s);
    for (unsigned i = 0; i < runner->results.count; i++) {
        const struct bench_row *row = &runner->results.rows[i];
        bool first = i == 0 || row[-1].engine != row->engine ||
                     row[-1].size_index != row->size_index || row[-1].workload != row->workload ||
                     row[-1].dist_index != row->dist_index;
        if (row->workload == BENCH_RECOVER) {
            total += plan->repeat * recover_seconds(plan, row);
            continue;
        }
        total += plan->repeat * (plan->seconds + 0.05);
        if (first)
            total += plan->repeat * process_seconds(plan, row->size_index, 0);
    }
    return total;
}

/* ---- can it be done here
 * ----------------------------------------------------------------------------- */

static int check_disk(struct runner *runner)
{
    const struct bench_plan *plan = runner->plan;
    uint64_t most = 0;
    char need[32], have[32];
    for (unsigned s = 0; s < plan->size_count; s++)
        most = cp_max_u64(most, disk_needed(plan, s));
    most += most / 20;
    bench_format_size(need, sizeof need, cp_align_up(most, 1 << 20));
    bench_format_size(have, sizeof have, cp_align_down(runner->place.free_bytes, 1 << 20));
    if (most > runner->place.free_bytes)
        return bench_fail(&runner->error,
                          "not enough disk space in %s: %s needed, %s free; name another directory "
                          "with --dir, or use a smaller --size",
                          runner->place.path, need, have);
    bench_progress_note(&runner->progress, "Working in %s (%s): %s of disk needed, %s free.",
                        runner->place.path, runner->place.type, need, have);
    return 0;
}

static int check_memory(struct runner *runner)
{
    const struct bench_plan *plan = runner->plan;
    uint64_t most = 0;
    for (unsigned s = 0; s < plan->size_count; s++)
        most = cp_max_u64(most, plan->mems[s]);
    return bench_memory_check(most + plan->slack_bytes, &runner->error);
}

static void check_fairness(struct runner *runner)
{
    struct bench_error reason = {""};
    char parent[PATH_MAX];
    int version;
    runner->equal_memory = bench_cgroup_probe(&version, parent, sizeof parent, &reason) == 0;
    if (!runner->equal_memory) {
        snprintf(runner->equal_reason, sizeof runner->equal_reason, "%s", reason.text);
        bench_progress_note(&runner->progress,
                            "warning: no memory limit can be set (%s): mmap and lmdb may use more "
                            "memory than the pool, and the comparison is not equal.",
                            reason.text);
    }
    runner->results.in_memory = runner->place.in_memory;
    if (runner->place.in_memory)
        bench_progress_note(&runner->progress,
                            "warning: %s is a %s: no device is behind it, and reads cost nothing.",
                            runner->place.path, runner->place.type);
}

/* ---- processes
 * ---------------------------------------------------------------------------------------- */

static void on_progress(void *ctx, const char *phase, double fraction, double ops_per_s)
{
    struct runner *runner = ctx;
    bool measuring = strcmp(phase, "measuring") == 0;
    double share = measuring ? 0.3 + 0.7 * (runner->cells_done + fraction) / runner->cell_count
                   : runner->cell_count > 0 ? 0.3 * fraction
                                            : fraction;
    bench_progress_update(&runner->progress, share, ops_per_s, phase);
}

static void on_cell(void *ctx, unsigned index, const struct bench_cell_result *result)
{
    struct runner *runner = ctx;
    struct bench_row *row = &runner->results.rows[runner->first_row + index];
    runner->cells_done++;
    if (bench_results_add_run(row, result) != 0)
        bench_results_fail(row, "out of memory");
}

static void on_cell_failed(void *ctx, unsigned index, const char *text)
{
    struct runner *runner = ctx;
    struct bench_row *row = &runner->results.rows[runner->first_row + index];
    runner->cells_done++;
    bench_progress_note(&runner->progress, "FAILED: %s, %u threads, depth %u: %s",
                        row->engine->name, row->cell.threads, row->cell.depth, text);
    bench_results_fail(row, text);
}

static struct bench_process_events events_for(struct runner *runner)
{
    return (struct bench_process_events){on_progress, on_cell, on_cell_failed, runner};
}

static void fill_job(struct runner *runner, unsigned size, const struct bench_engine *engine,
                     struct bench_job *job)
{
    const struct bench_plan *plan = runner->plan;
    memset(job, 0, sizeof *job);
    job->magic = BENCH_JOB_MAGIC;
    job->size_bytes = sizeof *job;
    snprintf(job->engine, sizeof job->engine, "%s", engine->name);
    struct bench_setup *setup = &job->setup;
    if (snprintf(setup->data.directory, sizeof setup->data.directory, "%s/%u-%s", runner->scratch,
                 size, engine->format) >= (int)sizeof setup->data.directory)
        setup->data.directory[0] = '\0';
    setup->data.page_count = plan->sizes[size] / plan->page_size;
    setup->data.page_size = plan->page_size;
    setup->data.seed = plan->seed;
    setup->mem_bytes = plan->mems[size];
    setup->fits = bench_plan_fits(plan->sizes[size], plan->mems[size]);
    setup->batch = plan->batch;
    job->seconds = plan->seconds;
    job->warmup_seconds = plan->warmup_seconds;
    job->write_share = plan->write_share;
    job->slack_bytes = plan->slack_bytes;
}

/* Which page sequence a cell gets: every engine the same one, every repetition another. */
static uint64_t stream_of(const struct bench_row *row, unsigned repeat)
{
    uint64_t stream = row->size_index;
    stream = bench_mix(stream * 31 + row->workload + 1);
    stream = bench_mix(stream * 31 + row->dist_index);
    stream = bench_mix(stream * 31 + row->cell.threads);
    stream = bench_mix(stream * 31 + row->cell.depth);
    stream = bench_mix(stream * 31 + row->cell.log_bytes);
    stream = bench_mix(stream * 31 + row->cell.rate);
    return bench_mix(stream * 31 + repeat) >> 16;
}

static void fill_cells(struct runner *runner, unsigned repeat, struct bench_job *job)
{
    const struct bench_plan *plan = runner->plan;
    const struct bench_row *first = &runner->results.rows[runner->first_row];
    const struct bench_plan_dist *dist = &plan->dists[first->dist_index];
    job->setup.workload = first->workload;
    job->setup.advice = bench_plan_advice(plan, first->workload);
    job->setup.threads_max =
        first->workload == BENCH_RECOVER ? BENCH_RECOVER_THREADS : WARM_THREADS;
    job->zipf = dist->zipf;
    job->theta = dist->theta;
    job->cell_count = runner->cell_count;
    for (unsigned i = 0; i < runner->cell_count; i++) {
        job->cells[i] = first[i].cell;
        job->streams[i] = stream_of(&first[i], repeat);
        if (first[i].cell.threads > job->setup.threads_max)
            job->setup.threads_max = first[i].cell.threads;
        if (first[i].cell.depth > job->setup.depth_max)
            job->setup.depth_max = first[i].cell.depth;
    }
}

static void take_result(struct runner *runner, const struct bench_process_result *result,
                        const char *failure)
{
    for (unsigned i = 0; i < runner->cell_count; i++) {
        struct bench_row *row = &runner->results.rows[runner->first_row + i];
        if (failure != NULL)
            bench_results_fail(row, failure);
        row->peak_mem_bytes = cp_max_u64(row->peak_mem_bytes, result->peak_bytes);
        row->synchronous = row->synchronous || result->synchronous;
        if (result->details[0] != '\0')
            memcpy(row->details, result->details, sizeof row->details);
    }
}

/* Have a process do a job on cells that fill_cells put there. False: it failed. */
static bool run_job(struct runner *runner, struct bench_job *job)
{
    struct bench_process_events events = events_for(runner);
    struct bench_process_result result = {0};
    struct bench_cgroup group = {0};
    struct bench_error error = {""};
    bench_drop_cache(job->setup.data.directory);
    if (runner->equal_memory) {
        if (bench_cgroup_create(&group, runner->engine->name,
                                job->setup.mem_bytes + job->slack_bytes, &error) != 0) {
            take_result(runner, &result, error.text);
            return false;
        }
        bench_cgroup_usage_file(&group, job->usage_file, sizeof job->usage_file);
    }
    runner->cells_done = 0;
    int code =
        bench_process_run(job, runner->equal_memory ? &group : NULL, &events, &result, &error);
    bench_cgroup_remove(&group);
    if (code != 0 && signals_caught() == 0)
        bench_progress_note(&runner->progress, "FAILED: %s: %s", runner->engine->name, error.text);
    take_result(runner, &result, code != 0 ? error.text : NULL);
    return code == 0;
}

/* One engine's turn. */
static void run_process(struct runner *runner, unsigned size, unsigned repeat)
{
    static struct bench_job job; /* static: too large for a small stack */
    const struct bench_plan *plan = runner->plan;
    const struct bench_row *row = &runner->results.rows[runner->first_row];
    fill_job(runner, size, runner->engine, &job);
    fill_cells(runner, repeat, &job);
    bench_progress_step(&runner->progress, process_seconds(plan, size, runner->cell_count),
                        "%s %s, turn %u of %u, %s", bench_workload_names[row->workload], row->dist,
                        repeat + 1, plan->repeat, runner->engine->name);
    run_job(runner, &job);
}

/* The same for the workload recover: for each size of log a process that dies, and one that opens.
 */
static void run_recover(struct runner *runner, unsigned size, unsigned repeat)
{
    static struct bench_job job;
    unsigned first = runner->first_row, count = runner->cell_count;
    for (unsigned i = 0; i < count && signals_caught() == 0; i++) {
        char text[32];
        const struct bench_row *row = &runner->results.rows[first + i];
        runner->first_row = first + i;
        runner->cell_count = 1;
        if (row->failed[0] != '\0')
            continue;
        fill_job(runner, size, runner->engine, &job);
        fill_cells(runner, repeat, &job);
        bench_progress_step(&runner->progress, recover_seconds(runner->plan, row) / 2,
                            "recover, turn %u of %u, %s: a log of %s", repeat + 1,
                            runner->plan->repeat, runner->engine->name,
                            bench_format_size(text, sizeof text, row->cell.log_bytes));
        job.recover = BENCH_RECOVER_FILL;
        job.setup.log_bytes = row->cell.log_bytes;
        if (runner->engine != &bench_engine_raw && !run_job(runner, &job))
            continue;
        bench_progress_step(&runner->progress, recover_seconds(runner->plan, row) / 2,
                            "recover, turn %u of %u, %s: opening", repeat + 1, runner->plan->repeat,
                            runner->engine->name);
        job.recover = BENCH_RECOVER_OPEN;
        job.setup.log_bytes = 0;
        run_job(runner, &job);
    }
}

/* All repetitions of a workload and one distribution; rows first_row .. belong to it. */
static void run_group(struct runner *runner, unsigned size, enum bench_workload workload,
                      unsigned *first_row)
{
    const struct bench_plan *plan = runner->plan;
    struct bench_cell ignored[BENCH_CELLS_MAX];
    unsigned row = *first_row;
    for (unsigned repeat = 0; repeat < plan->repeat; repeat++) {
        row = *first_row;
        for (unsigned e = 0; e < plan->engine_count; e++) {
            runner->engine = plan->engines[e];
            runner->first_row = row;
            runner->cell_count = bench_plan_cells(plan, runner->engine, workload, ignored);
            row += runner->cell_count;
            /* A data set that could not be made has failed its rows already. */
            if (signals_caught() == 0 && runner->cell_count > 0 &&
                runner->results.rows[runner->first_row].failed[0] == '\0')
                workload == BENCH_RECOVER ? run_recover(runner, size, repeat)
                                          : run_process(runner, size, repeat);
        }
    }
    *first_row = row;
}

/* ---- data sets
 * ----------------------------------------------------------------------------------------- */

struct reading {
    struct runner *runner;
    uint64_t done, total;
};

static int on_read(void *ctx, uint64_t bytes)
{
    struct reading *reading = ctx;
    reading->done += bytes;
    bench_progress_update(&reading->runner->progress,
                          (double)reading->done / (double)reading->total, 0, "reading through");
    return signals_caught();
}

static int make_data(struct runner *runner, unsigned size, const struct bench_engine *engine)
{
    static struct bench_job job;
    struct bench_process_events events = events_for(runner);
    struct bench_process_result result;
    struct reading reading = {runner, 0, runner->plan->sizes[size]};
    char text[32];
    double seconds = (double)runner->plan->sizes[size] / CREATE_BYTES_PER_S;
    fill_job(runner, size, engine, &job);
    job.create = true;
    runner->cell_count = 0;
    bench_progress_step(&runner->progress, seconds, "creating %s of data, format %s",
                        bench_format_size(text, sizeof text, runner->plan->sizes[size]),
                        engine->format);
    if (mkdir(job.setup.data.directory, 0700) != 0)
        return bench_fail_errno(&runner->error, errno, "cannot make %s", job.setup.data.directory);
    if (bench_process_run(&job, NULL, &events, &result, &runner->error) != 0)
        return -1;
    bench_progress_step(&runner->progress, create_seconds(runner->plan, size) - seconds,
                        "reading the data through once, format %s", engine->format);
    bench_drop_cache(job.setup.data.directory);
    return bench_read_through(job.setup.data.directory, on_read, &reading, &runner->error);
}

static void fail_format(struct runner *runner, unsigned size, const char *format)
{
    char text[800];
    snprintf(text, sizeof text, "no data: %s", runner->error.text);
    bench_progress_note(&runner->progress, "FAILED: data of format %s: %s", format,
                        runner->error.text);
    for (unsigned i = 0; i < runner->results.count; i++) {
        struct bench_row *row = &runner->results.rows[i];
        if (row->size_index == size && strcmp(row->engine->format, format) == 0)
            bench_results_fail(row, text);
    }
}

static void run_size(struct runner *runner, unsigned size, unsigned *first_row)
{
    const struct bench_plan *plan = runner->plan;
    for (unsigned e = 0; e < plan->engine_count && signals_caught() == 0; e++)
        if (is_first_of_format(plan, e) && make_data(runner, size, plan->engines[e]) != 0 &&
            signals_caught() == 0)
            fail_format(runner, size, plan->engines[e]->format);
    for (unsigned w = 0; w < plan->workload_count; w++)
        for (unsigned d = 0; d < dist_count(plan, plan->workloads[w]); d++)
            run_group(runner, size, plan->workloads[w], first_row);
    for (unsigned e = 0; e < plan->engine_count; e++) {
        char path[PATH_MAX];
        if (snprintf(path, sizeof path, "%s/%u-%s", runner->scratch, size,
                     plan->engines[e]->format) < (int)sizeof path)
            bench_remove_tree(path);
    }
}

/* ---- the report
 * ------------------------------------------------------------------------------------------ */

/* All that is known about the run; the caller owns it. NULL after a description of why not. */
static json_t *root_json(struct runner *runner)
{
    json_t *root = bench_json_root(
        json_pack("{s:o,s:b,s:s,s:I,s:I,s:i,s:f,s:o}", "environment",
                  bench_environment_json(&runner->place), "equal_memory", runner->equal_memory,
                  "equal_memory_reason", runner->equal_reason, "slack_bytes",
                  (json_int_t)runner->plan->slack_bytes, "seed", (json_int_t)runner->plan->seed,
                  "repeat", (int)runner->plan->repeat, "seconds", runner->plan->seconds, "results",
                  bench_results_json(&runner->results, runner->plan, runner->equal_memory)));
    if (root == NULL)
        bench_fail(&runner->error, "out of memory while writing JSON");
    return root;
}

/* The files that were asked for. */
static int write_files(struct runner *runner)
{
    const struct bench_plan *plan = runner->plan;
    if (plan->json_path == NULL && plan->html_path == NULL)
        return 0;
    json_t *root = root_json(runner);
    int result = root == NULL ? -1 : 0;
    if (result == 0 && plan->json_path != NULL)
        result = bench_json_write(plan->json_path, root, &runner->error);
    if (result == 0 && plan->html_path != NULL) {
        const struct report_part part = {"clockpool-bench run", root};
        result = report_write(plan->html_path, &part, 1, &runner->error);
    }
    json_decref(root);
    return result;
}

static bool is_stdout(const char *path)
{
    return path != NULL && strcmp(path, "-") == 0;
}

static int report(struct runner *runner)
{
    struct bench_table_facts facts = {runner->equal_memory, runner->equal_reason};
    const struct bench_plan *plan = runner->plan;
    bench_results_finish(&runner->results);
    if (!is_stdout(plan->json_path) && !is_stdout(plan->html_path))
        bench_table_print(stdout, &runner->results, plan, &facts);
    if (write_files(runner) != 0) {
        fprintf(stderr, "clockpool-bench: %s\n", runner->error.text);
        return 1;
    }
    if (plan->json_path != NULL && !is_stdout(plan->json_path))
        bench_progress_note(&runner->progress, "Results: %s", plan->json_path);
    if (plan->html_path != NULL && !is_stdout(plan->html_path))
        bench_progress_note(&runner->progress, "Report: %s", plan->html_path);
    if (runner->results.failed_count > 0) {
        fprintf(stderr, "clockpool-bench: %u of %u configurations failed\n",
                runner->results.failed_count, runner->results.count);
        return 1;
    }
    return 0;
}

/* ---- all of it
 * --------------------------------------------------------------------------------------------- */

static int run_plan(struct runner *runner)
{
    unsigned row = 0;
    if (bench_place_choose(runner->plan->dir, &runner->place, &runner->error) != 0 ||
        add_all_rows(runner) != 0)
        return 2;
    bench_progress_begin(&runner->progress, runner->plan->quiet, planned_seconds(runner));
    if (check_disk(runner) != 0 || check_memory(runner) != 0 ||
        bench_scratch_create(&runner->place, runner->scratch, sizeof runner->scratch,
                             &runner->error) != 0)
        return 2;
    check_fairness(runner);
    for (unsigned s = 0; s < runner->plan->size_count && signals_caught() == 0; s++)
        run_size(runner, s, &row);
    bench_remove_tree(runner->scratch);
    bench_progress_end(&runner->progress);
    if (signals_caught() != 0)
        return 1;
    return report(runner);
}

int bench_run(const struct bench_plan *plan)
{
    struct runner runner = {.plan = plan};
    signals_catch();
    int status = run_plan(&runner);
    if (status == 2)
        fprintf(stderr, "clockpool-bench: %s\n", runner.error.text);
    bench_results_fini(&runner.results);
    if (signals_caught() != 0) {
        fprintf(stderr, "\nclockpool-bench: interrupted; everything it made has been removed\n");
        signals_raise_again();
    }
    return status;
}
