/* SPDX-License-Identifier: MIT */
/*
 * The process of one engine: open it, warm up, run the cells, report.
 *
 * Equal memory. Each engine's process has a limit of mem_bytes and some slack for code, stacks and
 * tables. The pool is told mem_bytes; an engine that caches in the page cache would use what is
 * left of the slack too. So there the slack is filled with ballast: memory that is touched, locked
 * where allowed, and never used.
 */
#include "job.h"
#include "recover.h"
#include "tracker.h"

#include <clockpool/base/bits.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define WARM_THREADS       16u /* enough to keep a device busy, whatever the engine */
#define WARM_SCAN_THREADS  2u
#define THREAD_ROOM_BYTES  (UINT64_C(96) << 10) /* stack, worker and histogram of a thread */
#define VERIFY_PAGES_MAX   1000u                /* read back after a measurement with updates */
#define BALLAST_STEP_BYTES (UINT64_C(1) << 20)
#define BALLAST_ROOM_BYTES (UINT64_C(3) << 20) /* the engine's own tables and page tables */

struct child {
    struct bench_job job;
    const struct bench_engine *engine;
    int out_fd;
    const char *phase;
    void *handle;
    struct bench_dist dist;
    struct bench_tracker tracker; /* pages NULL: nothing is updated */
    uint64_t ballast_bytes;
};

/* Write one line and free the object. A closed pipe means that the parent is gone. */
static int answer(struct child *child, json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    if (text == NULL)
        return -1;
    int result = dprintf(child->out_fd, "%s\n", text) < 0 ? -1 : 0;
    free(text);
    return result;
}

static int answer_error(struct child *child, const struct bench_error *error)
{
    answer(child, json_pack("{s:s}", "error", error->text));
    return 1;
}

/* The last answer: what the engine says of itself. The exit status. */
static int answer_done(struct child *child, const struct bench_engine_stats *stats)
{
    return answer(child, json_pack("{s:b,s:s,s:b,s:I}", "done", 1, "details", stats->details,
                                   "synchronous", stats->synchronous, "ballast_bytes",
                                   (json_int_t)child->ballast_bytes)) == 0
               ? 0
               : 1;
}

static int report_progress(void *ctx, double fraction, double ops_per_s)
{
    struct child *child = ctx;
    return answer(child, json_pack("{s:f,s:s,s:f}", "progress", fraction, "phase", child->phase,
                                   "ops_per_s", ops_per_s));
}

/* ---- creating a data set
 * ------------------------------------------------------------------------- */

struct create_progress {
    struct child *child;
    double last;
};

static int report_create(void *ctx, uint64_t done, uint64_t total)
{
    struct create_progress *progress = ctx;
    double fraction = (double)done / (double)total;
    if (fraction - progress->last < 0.02 && done != total)
        return 0;
    progress->last = fraction;
    return report_progress(progress->child, fraction, 0);
}

static int create_data(struct child *child)
{
    struct create_progress progress = {child, 0};
    struct bench_progress_sink sink = {report_create, &progress};
    const struct bench_engine_stats none = {.synchronous = false};
    struct bench_error error = {""};
    child->phase = "creating data";
    if (child->engine->create(&child->job.setup.data, &sink, &error) != 0)
        return answer_error(child, &error);
    return answer_done(child, &none);
}

/* ---- equal memory
 * -------------------------------------------------------------------------------- */

static uint64_t read_number(const char *path)
{
    uint64_t value = 0;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%" SCNu64, &value) != 1)
        value = 0;
    fclose(file);
    return value;
}

static void take_ballast(struct child *child)
{
    const struct bench_job *job = &child->job;
    uint64_t room = BALLAST_ROOM_BYTES + job->setup.threads_max * THREAD_ROOM_BYTES;
    if (BENCH_SANITIZED || job->usage_file[0] == '\0' || !child->engine->uses_page_cache ||
        child->engine->needs_slack)
        return;
    char *memory = mmap(NULL, job->slack_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return;
    /* Step by step, and asking: the kernel counts page tables and the like as well. */
    while (child->ballast_bytes + BALLAST_STEP_BYTES <= job->slack_bytes &&
           read_number(job->usage_file) + room + BALLAST_STEP_BYTES <= job->slack_bytes) {
        memset(memory + child->ballast_bytes, 1, BALLAST_STEP_BYTES);
        /* against swapping, where there is swap; refused without privilege */
        mlock(memory + child->ballast_bytes, BALLAST_STEP_BYTES);
        child->ballast_bytes += BALLAST_STEP_BYTES;
    }
}

/* ---- warming up
 * ---------------------------------------------------------------------------------- */

/* Read files into the page cache, in order, until budget bytes are used up. */
static void fill_page_cache(const char *directory, uint64_t *budget)
{
    DIR *dir = opendir(directory);
    char *buffer = malloc(1 << 20);
    struct dirent *entry;
    while (dir != NULL && buffer != NULL && *budget > 0 && (entry = readdir(dir)) != NULL) {
        char path[PATH_MAX];
        struct stat info;
        if (entry->d_name[0] == '.' ||
            snprintf(path, sizeof path, "%s/%s", directory, entry->d_name) >= (int)sizeof path ||
            stat(path, &info) != 0)
            continue;
        if (S_ISDIR(info.st_mode)) {
            fill_page_cache(path, budget);
            continue;
        }
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        ssize_t n;
        while (*budget > 0 && (n = read(fd, buffer, 1 << 20)) > 0)
            *budget -= cp_min_u64(*budget, (uint64_t)n);
        close(fd);
    }
    free(buffer);
    if (dir != NULL)
        closedir(dir);
}

static int warm_up(struct child *child, struct bench_error *error)
{
    const struct bench_setup *setup = &child->job.setup;
    struct bench_cell_input input = {.engine = child->engine,
                                     .handle = child->handle,
                                     .setup = setup,
                                     .dist = &child->dist,
                                     .stream = UINT64_C(0xffffffff),
                                     .seconds = child->job.warmup_seconds,
                                     .report = report_progress,
                                     .ctx = child};
    struct bench_cell_result ignored;
    if (child->job.cold)
        return 0;
    child->phase = "warm-up";
    if (report_progress(child, 0, 0) != 0)
        return bench_fail(error, "interrupted");
    if (child->engine->uses_page_cache) {
        uint64_t budget = setup->fits ? UINT64_MAX : setup->mem_bytes;
        fill_page_cache(setup->data.directory, &budget);
    }
    if (setup->fits) {
        input.cell = (struct bench_cell){BENCH_FIX, WARM_SCAN_THREADS, 1, 0, 0};
        input.pass = BENCH_SCAN_ONCE;
        if (bench_cell_run(&input, &ignored, error) != 0)
            return -1;
        /* What a cache does at the first hit of a page (the pool gives it a bias) is over then. */
        input.pass = BENCH_ACCESS_ONCE;
        return bench_cell_run(&input, &ignored, error);
    }
    if (!child->engine->keeps_cache || child->job.warmup_seconds == 0)
        return 0;
    /* The page cache is full already: then a part of it suffices to leave the order of the files.
     */
    struct bench_setup warm = *setup;
    if (bench_workload_writes(setup->workload))
        warm.workload = BENCH_READ_RANDOM;
    input.setup = &warm;
    input.cell = (struct bench_cell){BENCH_FIX, WARM_THREADS, 1, 0, 0};
    if (setup->workload == BENCH_READ_SCAN)
        input.cell.threads = WARM_SCAN_THREADS;
    input.until_read_bytes =
        setup->mem_bytes / (child->engine->uses_page_cache ? 2 : 1) + setup->mem_bytes / 8;
    return bench_cell_run(&input, &ignored, error);
}

/* ---- measuring
 * ------------------------------------------------------------------------------------ */

/* Arrays rather than objects: there may be hundreds of them in the line. */
static json_t *series_json(const struct bench_series *series)
{
    json_t *points = json_array();
    for (unsigned i = 0; i < series->count; i++) {
        const struct bench_point *point = &series->points[i];
        json_array_append_new(points, json_pack("[f,f,f,f,f]", point->t_s, point->ops_per_s,
                                                point->p99_us, point->max_us, point->read_bytes));
    }
    return points;
}

static json_t *footprint_json(const struct bench_footprint *footprint)
{
    return json_pack("[f,f,f,f,f]", footprint->charged_bytes, footprint->anon_bytes,
                     footprint->cache_bytes, footprint->file_cached_bytes,
                     footprint->tlb_shootdowns);
}

static json_t *result_json(const struct bench_cell_result *result)
{
    return json_pack(
        "{s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:I,s:I,s:I,s:f,s:o,s:f,s:f,s:f,s:f,s:f,s:f,s:o}",
        "ops_per_s", result->ops_per_s, "p50_us", result->p50_us, "p99_us", result->p99_us,
        "p999_us", result->p999_us, "max_us", result->max_us, "cpu_us_per_op",
        result->cpu_us_per_op, "read_bytes_per_op", result->read_bytes_per_op,
        "written_bytes_per_op", result->written_bytes_per_op, "hit_ratio", result->hit_ratio, "ops",
        (json_int_t)result->op_count, "timed", (json_int_t)result->timed_count, "verified",
        (json_int_t)result->verified_count, "seconds", result->seconds, "series",
        series_json(&result->series), "ops_per_s_cv", result->ops_per_s_cv, "due",
        result->due_count, "major_faults_per_op", result->major_faults_per_op, "log_bytes",
        result->log_bytes, "recovered_pages", result->recovered_pages, "p999_full_us",
        result->p999_full_us, "footprint", footprint_json(&result->footprint));
}

static int fail_cell(struct child *child, unsigned index, const char *text)
{
    return answer(child, json_pack("{s:i,s:s}", "cell", (int)index, "error", text));
}

static struct bench_cell_input cell_input(struct child *child, unsigned index)
{
    return (struct bench_cell_input){.engine = child->engine,
                                     .handle = child->handle,
                                     .setup = &child->job.setup,
                                     .cell = child->job.cells[index],
                                     .dist = &child->dist,
                                     .stream = child->job.streams[index],
                                     .write_share = child->job.write_share,
                                     .tracker =
                                         child->tracker.pages != NULL ? &child->tracker : NULL,
                                     .seconds = child->job.seconds,
                                     .full_bytes = child->job.cold ? child->job.setup.mem_bytes : 0,
                                     .report = report_progress,
                                     .ctx = child};
}

static int answer_cell(struct child *child, unsigned index, const struct bench_cell_result *result)
{
    return answer(child, json_pack("{s:i,s:o}", "cell", (int)index, "result", result_json(result)));
}

/* Where the memory went in the cell that has just ended, ballast left out. */
static void add_footprint(struct child *child, double shootdowns_before,
                          struct bench_footprint *out)
{
    bench_footprint_take(child->job.usage_file, child->job.setup.data.directory, out);
    if (out->charged_bytes >= 0)
        out->charged_bytes -= (double)child->ballast_bytes;
    if (out->anon_bytes >= 0)
        out->anon_bytes -= (double)child->ballast_bytes;
    if (out->tlb_shootdowns >= 0)
        out->tlb_shootdowns -= shootdowns_before;
}

static int run_cell(struct child *child, unsigned index)
{
    double shootdowns_before = 0;
    static struct bench_cell_result result; /* static: large */
    struct bench_error error = {""};
    struct bench_cell_input input = cell_input(child, index);
    child->phase = "measuring";
    if (child->job.footprint)
        shootdowns_before = bench_tlb_shootdowns();
    if (bench_cell_run(&input, &result, &error) != 0)
        return fail_cell(child, index, error.text);
    if (child->job.footprint)
        add_footprint(child, shootdowns_before, &result.footprint);
    if (result.op_count == 0)
        return fail_cell(child, index, "no operation ended in the time given (--seconds)");
    if (input.tracker != NULL &&
        bench_verify_updates(&input, VERIFY_PAGES_MAX, &result.verified_count, &error) != 0)
        return fail_cell(child, index, error.text);
    return answer_cell(child, index, &result);
}

/* Committed is committed: close the engine, open it again, and look. */
static int verify_reopened(struct child *child, struct bench_error *error)
{
    uint64_t ignored = 0;
    struct bench_cell_input input = cell_input(child, 0);
    if (!bench_workload_commits(child->job.setup.workload) || child->engine->verify != NULL)
        return 0;
    child->engine->close(child->handle);
    child->handle = NULL;
    if (child->engine->open(&child->job.setup, &child->handle, error) != 0) {
        child->handle = NULL;
        return -1;
    }
    input.handle = child->handle;
    return bench_verify_updates(&input, VERIFY_PAGES_MAX, &ignored, error);
}

static int run_cells(struct child *child)
{
    struct bench_error error = {""};
    if (bench_workload_writes(child->job.setup.workload) &&
        bench_tracker_init(&child->tracker, child->job.setup.data.page_count) != 0) {
        bench_fail(&error, "out of memory");
        return answer_error(child, &error);
    }
    if (warm_up(child, &error) != 0)
        return answer_error(child, &error);
    for (unsigned i = 0; i < child->job.cell_count; i++)
        if (run_cell(child, i) != 0)
            return 1;
    struct bench_engine_stats stats = {.synchronous = false};
    child->engine->stats(child->handle, &stats);
    if (verify_reopened(child, &error) != 0)
        return answer_error(child, &error);
    return answer_done(child, &stats);
}

static int run_engine(struct child *child)
{
    struct bench_error error = {""};
    const struct bench_data *data = &child->job.setup.data;
    bench_dist_init(&child->dist, child->job.zipf, child->job.theta, data->page_count, data->seed);
    take_ballast(child);
    child->phase = "opening";
    if (child->engine->open(&child->job.setup, &child->handle, &error) != 0)
        return answer_error(child, &error);
    int result = run_cells(child);
    bench_tracker_fini(&child->tracker);
    if (child->handle != NULL)
        child->engine->close(child->handle);
    return result;
}

/* ---- recover
 * -------------------------------------------------------------------------------------- */

static int recover(struct child *child)
{
    static struct bench_cell_result result; /* static: large */
    const struct bench_data *data = &child->job.setup.data;
    struct bench_engine_stats stats = {.synchronous = false};
    struct bench_error error = {""};
    struct bench_cell_input input = cell_input(child, 0);
    bool fill = child->job.recover == BENCH_RECOVER_FILL;
    bench_dist_init(&child->dist, child->job.zipf, child->job.theta, data->page_count, data->seed);
    take_ballast(child);
    child->phase = fill ? "filling the log" : "opening";
    int code = fill ? bench_recover_fill(&input, &error)
                    : bench_recover_open(&input, &result, &stats, &error);
    if (code != 0)
        return answer_error(child, &error);
    if (!fill && answer_cell(child, 0, &result) != 0)
        return 1;
    int status = answer_done(child, &stats);
    if (fill)
        kill(getpid(), SIGKILL); /* and so nothing is closed */
    return status;
}

static int read_job(int fd, struct bench_job *job)
{
    char *at = (char *)job;
    size_t left = sizeof *job;
    while (left > 0) {
        ssize_t n = read(fd, at, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        at += n;
        left -= (size_t)n;
    }
    return job->magic == BENCH_JOB_MAGIC && job->size_bytes == sizeof *job ? 0 : -1;
}

int bench_child_main(int in_fd, int out_fd)
{
    static struct child child;        /* static: too large for a small stack */
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a parent that was killed leaves no child behind */
    child.out_fd = out_fd;
    if (read_job(in_fd, &child.job) != 0)
        return 2;
    child.engine = bench_engine_find(child.job.engine);
    if (child.engine == NULL || child.engine->not_built != NULL)
        return 2;
    if (child.job.create)
        return create_data(&child);
    return child.job.recover != BENCH_RECOVER_NONE ? recover(&child) : run_engine(&child);
}
