/* SPDX-License-Identifier: MIT */
/* Working until the kill, and opening after it. See recover.h. */
#include "recover.h"

#include "tracker.h"
#include "usage.h"

#include <clockpool/base/bits.h>
#include <clockpool/base/thread.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define FILL_SECONDS  900.0 /* at most */
#define SAMPLE_PAGES  1000u
#define EXPECTED_NAME "expected"

struct filling {
    const struct bench_cell_input *input;
    void *handle;
    bool full;
};

/* ---- before the kill ---------------------------------------------------------------------------
 */

/* Stops the workers once the log has its size. */
static int report_fill(void *ctx, double fraction, double ops_per_s)
{
    struct filling *filling = ctx;
    const struct bench_cell_input *input = filling->input;
    uint64_t wanted = input->cell.log_bytes;
    if (wanted > 0) {
        uint64_t now = input->engine->log_bytes(filling->handle);
        fraction = (double)now / (double)wanted;
        filling->full = now >= wanted;
    }
    return input->report(input->ctx, fraction, ops_per_s) != 0 || filling->full;
}

static int open_expected(const struct bench_cell_input *input, const char *mode, FILE **out_file,
                         struct bench_error *error)
{
    char path[PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/" EXPECTED_NAME, input->setup->data.directory);
    *out_file = fopen(path, mode);
    return *out_file != NULL ? 0 : bench_fail_errno(error, errno, "cannot open %s", path);
}

/* The log's size, and pages with their counters. */
static int write_expected(const struct bench_cell_input *input, const struct bench_tracker *tracker,
                          uint64_t log_bytes, struct bench_error *error)
{
    FILE *file;
    uint64_t count = 0, number = 0;
    if (open_expected(input, "we", &file, error) != 0)
        return -1;
    for (uint64_t page = bench_tracker_next(tracker, 0); page != UINT64_MAX;
         page = bench_tracker_next(tracker, page + 1))
        count++;
    fprintf(file, "%" PRIu64 "\n", log_bytes);
    for (uint64_t page = bench_tracker_next(tracker, 0); page != UINT64_MAX;
         page = bench_tracker_next(tracker, page + 1))
        if (number++ % (1 + count / SAMPLE_PAGES) == 0)
            fprintf(file, "%" PRIu64 " %" PRIu64 "\n", page, bench_tracker_expected(tracker, page));
    bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed)
        return bench_fail_errno(error, errno, "cannot write what is expected");
    return 0;
}

static int fill(struct filling *filling, struct bench_tracker *tracker, struct bench_error *error)
{
    static struct bench_cell_result ignored; /* static: large */
    const struct bench_cell_input *input = filling->input;
    struct bench_cell_input run = *input;
    run.handle = filling->handle;
    run.tracker = tracker;
    run.cell.threads = BENCH_RECOVER_THREADS;
    run.report = report_fill;
    run.ctx = filling;
    if (input->cell.log_bytes > 0)
        run.seconds = FILL_SECONDS;
    if (bench_cell_run(&run, &ignored, error) != 0)
        return -1;
    if (input->cell.log_bytes > 0 && !filling->full)
        return bench_fail(error, "the log did not grow to its size");
    if (input->engine->sync != NULL && input->engine->sync(filling->handle, error) != 0)
        return -1;
    uint64_t log_bytes =
        input->engine->log_bytes != NULL ? input->engine->log_bytes(filling->handle) : 0;
    return write_expected(input, tracker, log_bytes, error);
}

int bench_recover_fill(const struct bench_cell_input *input, struct bench_error *error)
{
    struct filling filling = {.input = input};
    struct bench_tracker tracker;
    if (bench_tracker_init(&tracker, input->setup->data.page_count) != 0)
        return bench_fail(error, "out of memory");
    int result = input->engine->open(input->setup, &filling.handle, error);
    if (result == 0)
        result = fill(&filling, &tracker, error);
    bench_tracker_fini(&tracker);
    return result; /* not closed: the process is about to die */
}

/* ---- after it ----------------------------------------------------------------------------------
 */

/* Read log_bytes of the data set in order, from its beginning again when it is shorter. */
static int read_in_order(const struct bench_cell_input *input, struct bench_cell_result *result,
                         struct bench_engine_stats *stats, struct bench_error *error)
{
    struct bench_setup setup = *input->setup;
    struct bench_check check = {.seed = setup.data.seed,
                                .content_size = bench_content_size(setup.data.page_size)};
    struct bench_thread_setup thread_setup = {.workload = BENCH_READ_SCAN,
                                              .access = BENCH_FIX,
                                              .depth = 1,
                                              .batch = 1,
                                              .check = &check,
                                              .error = error};
    uint64_t pages = input->cell.log_bytes / setup.data.page_size;
    void *handle, *thread;
    setup.workload = BENCH_READ_SCAN;
    setup.fits = false; /* from the device */
    if (input->engine->open(&setup, &handle, error) != 0)
        return -1;
    int code = input->engine->thread_begin(handle, &thread_setup, &thread);
    if (code == 0) {
        uint64_t begin = cp_now_ns();
        for (uint64_t done = 0; code == 0 && done < pages; done += setup.data.page_count)
            code = input->engine->scan(thread, 0, cp_min_u64(pages - done, setup.data.page_count));
        result->seconds = (double)(cp_now_ns() - begin) * 1e-9;
        result->log_bytes = (double)pages * setup.data.page_size;
        result->recovered_pages = -1;
        input->engine->thread_end(thread);
    }
    if (code == 0 && check.failed)
        code = bench_fail(error, "wrong bytes: engine %s, page %" PRIu64, input->engine->name,
                          check.page);
    result->verified_count = check.verified_count;
    snprintf(stats->details, sizeof stats->details, "data read in order, %u bytes at a time",
             1u << 20);
    input->engine->close(handle);
    return code;
}

static int check_expected(const struct bench_cell_input *input, FILE *file, void *thread,
                          uint64_t *out_count, struct bench_error *error)
{
    uint64_t page, counter;
    while (fscanf(file, "%" SCNu64 " %" SCNu64, &page, &counter) == 2) {
        struct bench_op op = {.page = page,
                              .where = bench_locate(input, page),
                              .offset_bytes = BENCH_WORD_COUNTER * 8};
        if (input->engine->read(thread, &op, 1) != 0)
            return -1;
        if (op.value != counter)
            return bench_fail(error,
                              "lost update: engine %s, page %" PRIu64 ": its counter is %" PRIu64
                              " after the kill instead of %" PRIu64,
                              input->engine->name, page, op.value, counter);
        ++*out_count;
    }
    return 0;
}

/* The engine is open: what did it have to do, and are the pages right? */
static int examine(const struct bench_cell_input *input, struct bench_cell_result *result,
                   struct bench_error *error)
{
    struct bench_thread_setup setup = {
        .workload = BENCH_READ_RANDOM, .access = BENCH_FIX, .depth = 1, .batch = 1, .error = error};
    uint64_t log_bytes = 0, pages = 0;
    void *thread;
    FILE *file;
    if (open_expected(input, "re", &file, error) != 0)
        return -1;
    int code = fscanf(file, "%" SCNu64, &log_bytes) == 1
                   ? 0
                   : bench_fail(error, "what is expected was not written down");
    result->recovered_pages = -1;
    if (input->engine->recovered != NULL) {
        input->engine->recovered(input->handle, &log_bytes, &pages);
        result->recovered_pages = (double)pages;
    }
    result->log_bytes = (double)log_bytes;
    if (code == 0)
        code = input->engine->thread_begin(input->handle, &setup, &thread);
    if (code == 0) {
        code = check_expected(input, file, thread, &result->verified_count, error);
        input->engine->thread_end(thread);
    }
    fclose(file);
    return code;
}

static int open_engine(const struct bench_cell_input *input, struct bench_cell_result *result,
                       struct bench_engine_stats *stats, struct bench_error *error)
{
    struct bench_cell_input opened = *input;
    uint64_t read_before, read_after, written_before, written_after;
    bench_process_io(&read_before, &written_before);
    uint64_t begin = cp_now_ns();
    if (input->engine->open(input->setup, &opened.handle, error) != 0)
        return -1;
    result->seconds = (double)(cp_now_ns() - begin) * 1e-9;
    bench_process_io(&read_after, &written_after);
    result->read_bytes_per_op = (double)(read_after - read_before);
    result->written_bytes_per_op = (double)(written_after - written_before);
    int code = examine(&opened, result, error);
    if (code == 0)
        input->engine->stats(opened.handle, stats);
    input->engine->close(opened.handle);
    return code;
}

int bench_recover_open(const struct bench_cell_input *input, struct bench_cell_result *out_result,
                       struct bench_engine_stats *out_stats, struct bench_error *error)
{
    struct bench_cell_result *result = out_result;
    int code = input->engine == &bench_engine_raw ? read_in_order(input, result, out_stats, error)
                                                  : open_engine(input, result, out_stats, error);
    result->op_count = result->timed_count = 1;
    if (result->seconds > 0)
        result->ops_per_s = 1 / result->seconds;
    result->p50_us = result->p99_us = result->p999_us = result->max_us = result->seconds * 1e6;
    return code;
}
