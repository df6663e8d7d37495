/* SPDX-License-Identifier: MIT */
/*
 * Subject "mmap-in-place": the mmap engine's unsafe way, through the same workloads and the same
 * check as pool and mmap. It must fail: that is claim 2 of the comparison (a shared writable
 * mapping cannot keep the log ahead of its pages), shown on crash states.
 *
 * No backend sees what the kernel writes back from a mapping, so it is recorded from outside,
 * through FUSE. The kernel may write any dirty page at any moment. Workloads as short as these end
 * before it gets round to that, so between the steps it is asked to write back some range of the
 * data file, chosen by the seed (sync_file_range, which only starts what would come anyway).
 */
#include "fuse_recorder.h"
#include "random.h"
#include "subject_pager.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define SYSTEM_PAGE 4096u

struct nudger {
    struct bench_random random;
    char path[PATH_MAX + 16]; /* of the data file */
};

/* Every second time: write back a range of pages, and wait until it is written. */
static void nudge(void *ctx)
{
    struct nudger *nudger = ctx;
    struct stat status;
    if (bench_random_below(&nudger->random, 2) == 0)
        return;
    int fd = open(nudger->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (fstat(fd, &status) == 0 && status.st_size > 0) {
        uint64_t pages = (uint64_t)status.st_size / SYSTEM_PAGE + 1;
        uint64_t first = bench_random_below(&nudger->random, pages);
        uint64_t count = 1 + bench_random_below(&nudger->random, pages - first);
        (void)sync_file_range(fd, (off_t)(first * SYSTEM_PAGE), (off_t)(count * SYSTEM_PAGE),
                              SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
    }
    close(fd);
}

static int work_in_mount(void *ctx, const struct crash_fuse_place *place)
{
    struct crash_session session = *(const struct crash_session *)ctx;
    struct nudger nudger;
    const struct crash_pager_kind kind = {
        .engine = CP_ENGINE_MMAP,
        .in_place = true,
        .place = place,
        .between = nudge,
        .ctx = &nudger,
    };
    session.root = place->path;
    bench_random_init(&nudger.random, session.seed, 3);
    snprintf(nudger.path, sizeof nudger.path, "%s/store/data", place->path);
    int code = crash_pager_record(&kind, &session);
    if (code != 0)
        snprintf(place->text, place->text_capacity, "%s", session.text);
    return code;
}

static int record(struct crash_session *session)
{
    const struct crash_fuse_options options = {
        .root = session->root,
        .trace = session->trace,
        .workload = work_in_mount,
        .ctx = session,
    };
    return crash_fuse_record(&options, session->text, sizeof session->text);
}

static void check(void *checker, const struct crash_image *image, struct crash_verdict *verdict)
{
    static const struct crash_pager_kind kind = {.engine = CP_ENGINE_MMAP, .in_place = true};
    crash_pager_check(&kind, checker, image, verdict);
}

/* A copy is promised of a store that writes its log first. */
static bool supports(const struct crash_workload *workload)
{
    return workload->backup_percent == 0;
}

/* When the kernel writes is up to the kernel, so no seed repeats a trace: it has to be kept. */
const struct crash_subject crash_subject_mmap_in_place = {
    .name = "mmap-in-place",
    .summary = "pages changed in a shared writable mapping (must fail)",
    .control = true,
    .supports = supports,
    .unavailable = crash_fuse_unavailable,
    .record = record,
    .check_begin = crash_pager_check_begin,
    .check_end = crash_pager_check_end,
    .check = check,
};
