/* SPDX-License-Identifier: MIT */
/*
 * The FUSE recorder: does a trace say exactly what a program did to its files, and is nothing left
 * behind, however the recording ends? Skipped, with the reason, where FUSE is not possible.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "crash/fuse_recorder.h"
#include "support/tree.h"

#define TRY(condition)                                                                             \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            snprintf(place->text, place->text_capacity, "line %d: %s: %s", __LINE__, #condition,   \
                     strerror(errno));                                                             \
            return -1;                                                                             \
        }                                                                                          \
    } while (0)

struct fixture {
    char base[PATH_MAX]; /* a directory of the test's own; root is the only thing in it */
    char root[PATH_MAX + 8];
    struct crash_trace *trace;
};

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    const char *parent = getenv("TMPDIR");
    snprintf(fixture->base, sizeof fixture->base, "%s/fuse-test-XXXXXX",
             parent != NULL ? parent : ".");
    if (mkdtemp(fixture->base) == NULL)
        return -1;
    char *absolute = realpath(fixture->base, NULL);
    snprintf(fixture->base, sizeof fixture->base, "%s", absolute);
    free(absolute);
    snprintf(fixture->root, sizeof fixture->root, "%s/root", fixture->base);
    if (mkdir(fixture->root, 0700) != 0)
        return -1;
    fixture->trace = crash_trace_create();
    crash_trace_baseline(fixture->trace);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    remove_tree(fixture->base);
    crash_trace_destroy(fixture->trace);
    free(fixture);
    return 0;
}

static void skip_without_fuse(void)
{
    const char *reason = crash_fuse_unavailable();
    if (reason == NULL)
        return;
    print_message("skipped: FUSE is not possible here: %s\n", reason);
    skip();
}

static unsigned count_entries(const char *path)
{
    unsigned count = 0;
    DIR *stream = opendir(path);
    while (stream != NULL && readdir(stream) != NULL)
        count++;
    if (stream != NULL)
        closedir(stream);
    return count - 2;
}

/* Nothing but root is there, and nothing is mounted. */
static void assert_clean(const struct fixture *fixture)
{
    char line[8192];
    assert_int_equal(count_entries(fixture->base), 1);
    FILE *mounts = fopen("/proc/self/mountinfo", "re");
    assert_non_null(mounts);
    while (fgets(line, sizeof line, mounts) != NULL)
        assert_null(strstr(line, fixture->base));
    fclose(mounts);
}

static int record(struct fixture *fixture,
                  int (*workload)(void *ctx, const struct crash_fuse_place *place), void *ctx,
                  char *text, size_t capacity)
{
    const struct crash_fuse_options options = {
        .root = fixture->root,
        .trace = fixture->trace,
        .workload = workload,
        .ctx = ctx,
    };
    return crash_fuse_record(&options, text, capacity);
}

/* ---- what is recorded -------------------------------------------------------------------------
 */

static const char *name_in(const struct crash_fuse_place *place, const char *name)
{
    static char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", place->path, name);
    return path;
}

static int write_calls(void *ctx, const struct crash_fuse_place *place)
{
    char other[PATH_MAX + 64];
    (void)ctx;
    TRY(mkdir(name_in(place, "d"), 0700) == 0);
    int fd = open(name_in(place, "d/a"), O_RDWR | O_CREAT | O_EXCL, 0600);
    TRY(fd >= 0);
    TRY(pwrite(fd, "hello", 5, 0) == 5);
    crash_fuse_mark(place, CRASH_MARK_ATTEMPTED, 2, 7, 0);
    TRY(pwrite(fd, "xyz", 3, 1000) == 3);
    TRY(fdatasync(fd) == 0);
    crash_fuse_mark(place, CRASH_MARK_DURABLE, 0, 0, 99);
    TRY(ftruncate(fd, 700) == 0);
    TRY(fallocate(fd, 0, 0, 5000) == 0);
    snprintf(other, sizeof other, "%s/d/b", place->path);
    TRY(rename(name_in(place, "d/a"), other) == 0);
    TRY(pwrite(fd, "!", 1, 4) == 1); /* under its new name it is the same file */
    TRY(close(fd) == 0);
    fd = open(place->path, O_RDONLY | O_DIRECTORY);
    TRY(fd >= 0 && fsync(fd) == 0 && close(fd) == 0);
    fd = open(name_in(place, "d"), O_RDONLY | O_DIRECTORY);
    TRY(fd >= 0 && fsync(fd) == 0 && close(fd) == 0);
    fd = open(name_in(place, "d/b"), O_RDWR | O_TRUNC);
    TRY(fd >= 0 && close(fd) == 0);
    TRY(unlink(name_in(place, "d/b")) == 0);
    TRY(rmdir(name_in(place, "d")) == 0);
    return 0;
}

struct expected {
    enum crash_event_kind kind;
    const char *path, *to;
    uint32_t file;
    uint64_t offset, size;
    const char *data;
};

static void assert_event(const struct crash_trace *trace, uint64_t index,
                         const struct expected *expected)
{
    const struct crash_event *event = crash_trace_event(trace, index);
    char text[512];
    print_message("  %s\n", crash_trace_describe(trace, index, text, sizeof text));
    assert_int_equal(event->kind, expected->kind);
    if (expected->path != NULL)
        assert_string_equal(crash_trace_text(trace, event->path), expected->path);
    if (expected->to != NULL)
        assert_string_equal(crash_trace_text(trace, event->to), expected->to);
    if (expected->data == NULL && expected->size == 0)
        return;
    assert_int_equal(event->file, expected->file);
    assert_int_equal(event->offset, expected->offset);
    assert_int_equal(event->size, expected->size);
    if (expected->data != NULL)
        assert_memory_equal(crash_trace_data(trace, event), expected->data, expected->size);
}

static void fuse_write_calls_are_recorded_in_order_with_bytes(void **state)
{
    struct fixture *fixture = *state;
    char text[512] = "";
    static const struct expected all[] = {
        {CRASH_MKDIR, "d", NULL, 0, 0, 0, NULL},
        {CRASH_CREATE, "d/a", NULL, 0, 0, 0, NULL},
        {CRASH_WRITE_BEGIN, NULL, NULL, 0, 0, 5, "hello"},
        {CRASH_WRITE_END, NULL, NULL, 0, 0, 0, NULL},
        {CRASH_MARK, NULL, NULL, 0, 0, 0, NULL},
        {CRASH_WRITE_BEGIN, NULL, NULL, 0, 1000, 3, "xyz"},
        {CRASH_WRITE_END, NULL, NULL, 0, 0, 0, NULL},
        {CRASH_FLUSH_BEGIN, NULL, NULL, 0, 0, 0, NULL},
        {CRASH_FLUSH_END, NULL, NULL, 0, 0, 0, NULL},
        {CRASH_MARK, NULL, NULL, 0, 0, 0, NULL},
        {CRASH_RESIZE, NULL, NULL, 0, 0, 700, NULL},
        {CRASH_ALLOCATE, NULL, NULL, 0, 0, 5000, NULL},
        {CRASH_RENAME, "d/a", "d/b", 0, 0, 0, NULL},
        {CRASH_WRITE_BEGIN, NULL, NULL, 0, 4, 1, "!"},
        {CRASH_WRITE_END, NULL, NULL, 0, 0, 0, NULL},
        {CRASH_DIRECTORY_SYNC, "", NULL, 0, 0, 0, NULL},
        {CRASH_DIRECTORY_SYNC, "d", NULL, 0, 0, 0, NULL},
        {CRASH_RESIZE, NULL, NULL, 0, 0, 0, NULL},
        {CRASH_UNLINK, "d/b", NULL, 0, 0, 0, NULL},
        {CRASH_UNLINK, "d", NULL, 0, 0, 0, NULL},
    };
    skip_without_fuse();
    if (record(fixture, write_calls, NULL, text, sizeof text) != 0)
        fail_msg("%s", text);
    const struct crash_trace *trace = fixture->trace;
    for (uint64_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        assert_true(i < crash_trace_length(trace));
        assert_event(trace, i, &all[i]);
    }
    assert_int_equal(crash_trace_length(trace), sizeof all / sizeof all[0]);
    assert_int_equal(crash_trace_event(trace, 3)->begin, 2);
    assert_int_equal(crash_trace_event(trace, 8)->begin, 7);
    assert_int_equal(crash_trace_event(trace, 4)->lane, 2);
    assert_int_equal(crash_trace_event(trace, 4)->transaction, 7);
    assert_int_equal(crash_trace_event(trace, 9)->lsn, 99);
    assert_clean(fixture);
}

/* What a trace says of one file, by carrying it out. */
static uint64_t replay(const struct crash_trace *trace, uint32_t file, unsigned char *bytes,
                       uint64_t capacity)
{
    uint64_t size = 0;
    memset(bytes, 0, capacity);
    for (uint64_t i = 0; i < crash_trace_length(trace); i++) {
        const struct crash_event *event = crash_trace_event(trace, i);
        if (event->file != file)
            continue;
        if (event->kind == CRASH_WRITE_BEGIN) {
            assert_true(event->offset + event->size <= capacity);
            memcpy(bytes + event->offset, crash_trace_data(trace, event), event->size);
            if (event->offset + event->size > size)
                size = event->offset + event->size;
        } else if (event->kind == CRASH_RESIZE ||
                   (event->kind == CRASH_ALLOCATE && event->size > size)) {
            if (event->size < size)
                memset(bytes + event->size, 0, size - event->size);
            size = event->size;
        }
    }
    return size;
}

#define MAP_BYTES (UINT64_C(64) * 4096)

static int store_to_mapping(void *ctx, const struct crash_fuse_place *place)
{
    const bool *sync = ctx;
    int fd = open(name_in(place, "mapped"), O_RDWR | O_CREAT, 0600);
    TRY(fd >= 0 && ftruncate(fd, (off_t)MAP_BYTES) == 0);
    unsigned char *map = mmap(NULL, MAP_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    TRY(map != MAP_FAILED);
    for (unsigned page = 0; page < 64; page += 3)
        map[page * 4096u + page] = (unsigned char)(page + 1);
    crash_fuse_mark(place, CRASH_MARK_COMMITTED, 0, 0, 1);
    if (*sync)
        TRY(msync(map, MAP_BYTES, MS_SYNC) == 0);
    else /* what the kernel does by itself sooner or later */
        TRY(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER) == 0);
    crash_fuse_mark(place, CRASH_MARK_COMMITTED, 0, 0, 2);
    map[5] = 55; /* written back when it is closed, or unmounted */
    TRY(munmap(map, MAP_BYTES) == 0 && close(fd) == 0);
    return 0;
}

static void check_mapping(struct fixture *fixture, bool sync)
{
    static unsigned char bytes[MAP_BYTES];
    char text[512] = "";
    if (record(fixture, store_to_mapping, &sync, text, sizeof text) != 0)
        fail_msg("%s", text);
    unsigned before = 0, between = 0, flushes = 0, after = 0, mark = 0;
    for (uint64_t i = 0; i < crash_trace_length(fixture->trace); i++) {
        const struct crash_event *event = crash_trace_event(fixture->trace, i);
        mark += event->kind == CRASH_MARK;
        flushes += mark == 1 && event->kind == CRASH_FLUSH_END;
        if (event->kind == CRASH_WRITE_BEGIN) {
            assert_int_equal(event->offset % 4096, 0);
            assert_int_equal(event->size % 4096, 0);
            unsigned pages = (unsigned)(event->size / 4096);
            before += mark == 0 ? pages : 0;
            between += mark == 1 ? pages : 0;
            after += mark == 2 ? pages : 0;
        }
    }
    print_message("pages before %u, between %u, after %u\n", before, between, after);
    assert_true(between >= 22); /* each page that was stored to; neighbours may come along */
    assert_int_equal(flushes, sync ? 1 : 0);
    assert_int_equal(after, 1);
    assert_int_equal(replay(fixture->trace, 0, bytes, sizeof bytes), MAP_BYTES);
    assert_int_equal(bytes[5], 55);
    bytes[5] = 0;
    for (unsigned page = 0; page < 64; page++) {
        unsigned char *at = bytes + page * 4096u;
        assert_int_equal(at[page], page % 3 == 0 ? page + 1 : 0);
        at[page] = 0;
    }
    for (uint64_t i = 0; i < MAP_BYTES; i++)
        assert_int_equal(bytes[i], 0);
    assert_clean(fixture);
}

static void fuse_stores_to_a_mapping_are_recorded_at_msync(void **state)
{
    skip_without_fuse();
    check_mapping(*state, true);
}

static void fuse_stores_to_a_mapping_are_recorded_when_the_kernel_writes_back(void **state)
{
    skip_without_fuse();
    check_mapping(*state, false);
}

static int write_synchronously(void *ctx, const struct crash_fuse_place *place)
{
    const int *flags = ctx;
    void *block = aligned_alloc(4096, 8192);
    int fd = open(name_in(place, "log"), O_RDWR | O_CREAT | *flags, 0600);
    TRY(fd >= 0 && block != NULL);
    memset(block, 'q', 8192);
    TRY(pwrite(fd, block, 8192, 4096) == 8192);
    TRY(pread(fd, block, 4096, 4096) == 4096);
    TRY(((char *)block)[17] == 'q');
    TRY(close(fd) == 0);
    free(block);
    return 0;
}

static void fuse_dsync_writes_are_followed_by_a_flush(void **state)
{
    static const int flags[] = {O_DSYNC, O_DSYNC | O_DIRECT};
    struct fixture *fixture = *state;
    char text[512] = "";
    skip_without_fuse();
    for (unsigned i = 0; i < 2; i++) {
        uint64_t at = crash_trace_length(fixture->trace);
        int selected = flags[i];
        if (record(fixture, write_synchronously, &selected, text, sizeof text) != 0)
            fail_msg("%s", text);
        if (i == 0)
            assert_int_equal(crash_trace_event(fixture->trace, at++)->kind, CRASH_CREATE);
        const struct expected all[] = {
            {CRASH_WRITE_BEGIN, NULL, NULL, 0, 4096, 8192, NULL},
            {CRASH_WRITE_END, NULL, NULL, 0, 0, 0, NULL},
            {CRASH_FLUSH_BEGIN, NULL, NULL, 0, 0, 0, NULL},
            {CRASH_FLUSH_END, NULL, NULL, 0, 0, 0, NULL},
        };
        for (unsigned k = 0; k < 4; k++)
            assert_event(fixture->trace, at + k, &all[k]);
        assert_int_equal(crash_trace_length(fixture->trace), at + 4);
    }
}

/* A seeded mixture of writes, stores and truncations: the trace, carried out, gives the file. */
static int random_changes(void *ctx, const struct crash_fuse_place *place)
{
    uint64_t seed = *(const uint64_t *)ctx;
    unsigned char *model = calloc(1, MAP_BYTES);
    int fd = open(name_in(place, "mixed"), O_RDWR | O_CREAT, 0600);
    TRY(fd >= 0 && model != NULL && ftruncate(fd, (off_t)MAP_BYTES) == 0);
    unsigned char *map = mmap(NULL, MAP_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    TRY(map != MAP_FAILED);
    for (unsigned step = 0; step < 400; step++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        uint64_t size = (seed >> 20) % 9000 + 1, at = (seed >> 40) % (MAP_BYTES - size);
        unsigned char fill = (unsigned char)(seed >> 33);
        memset(model + at, fill, size);
        if (seed >> 63 != 0)
            memset(map + at, fill, size);
        else
            TRY(pwrite(fd, model + at, size, (off_t)at) == (ssize_t)size);
        if (step % 37 == 0)
            TRY(msync(map, MAP_BYTES, MS_SYNC) == 0);
        if (step % 53 == 0)
            TRY(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE) == 0);
    }
    TRY(memcmp(map, model, MAP_BYTES) == 0);
    TRY(munmap(map, MAP_BYTES) == 0 && close(fd) == 0);
    free(model);
    return 0;
}

static void fuse_trace_carried_out_gives_the_file(void **state)
{
    struct fixture *fixture = *state;
    static unsigned char replayed[MAP_BYTES], real[MAP_BYTES];
    char text[512] = "", path[PATH_MAX + 32];
    const char *given = getenv("CP_TEST_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    skip_without_fuse();
    print_message("seed: CP_TEST_SEED=%llu\n", (unsigned long long)seed);
    if (record(fixture, random_changes, &seed, text, sizeof text) != 0)
        fail_msg("%s", text);
    snprintf(path, sizeof path, "%s/mixed", fixture->root);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(read(fd, real, sizeof real), (int)sizeof real);
    close(fd);
    assert_int_equal(replay(fixture->trace, 0, replayed, sizeof replayed), MAP_BYTES);
    assert_memory_equal(real, replayed, MAP_BYTES);
}

/* ---- how it ends ------------------------------------------------------------------------------
 */

static int give_up(void *ctx, const struct crash_fuse_place *place)
{
    (void)ctx;
    snprintf(place->text, place->text_capacity, "no luck today");
    return -1;
}

static int die(void *ctx, const struct crash_fuse_place *place)
{
    (void)ctx;
    (void)place;
    raise(SIGKILL);
    return 0;
}

static int kill_the_recorder(void *ctx, const struct crash_fuse_place *place)
{
    (void)ctx;
    int fd = open(name_in(place, "x"), O_RDWR | O_CREAT, 0600);
    TRY(fd >= 0);
    kill(getppid(), SIGKILL);
    (void)!pwrite(fd, "y", 1, 0); /* whatever comes of it, it must not hang */
    pause();
    return 0;
}

static void fuse_workload_that_fails_or_dies_is_reported(void **state)
{
    struct fixture *fixture = *state;
    char text[512] = "";
    skip_without_fuse();
    assert_int_equal(record(fixture, give_up, NULL, text, sizeof text), -1);
    assert_string_equal(text, "no luck today");
    assert_clean(fixture);
    assert_int_equal(record(fixture, die, NULL, text, sizeof text), -1);
    assert_non_null(strstr(text, "signal 9"));
    assert_clean(fixture);
}

static void fuse_recorder_that_is_killed_hangs_nobody(void **state)
{
    struct fixture *fixture = *state;
    char text[512] = "";
    skip_without_fuse();
    assert_int_equal(record(fixture, kill_the_recorder, NULL, text, sizeof text), -1);
    assert_non_null(strstr(text, "signal 9"));
    assert_clean(fixture);
}

static int tell_and_wait(void *ctx, const struct crash_fuse_place *place)
{
    const int *pipe_end = ctx;
    int fd = open(name_in(place, "x"), O_RDWR | O_CREAT, 0600);
    const pid_t self = getpid();
    TRY(fd >= 0);
    TRY(write(*pipe_end, &self, sizeof self) == sizeof self);
    pause();
    return 0;
}

/* The caller is interrupted, as by Ctrl-C, or killed: the others notice, clean up and end. */
static void end_the_caller(struct fixture *fixture, int number)
{
    int ends[2];
    char text[512], byte;
    pid_t workload;
    assert_int_equal(pipe(ends), 0);
    pid_t caller = fork();
    if (caller == 0) {
        close(ends[0]);
        signal(SIGINT, SIG_DFL);
        (void)!record(fixture, tell_and_wait, &ends[1], text, sizeof text);
        _exit(0);
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], &workload, sizeof workload), (int)sizeof workload);
    assert_int_equal(kill(caller, number), 0);
    assert_int_equal(waitpid(caller, NULL, 0), caller);
    /* All processes of the recording hold the pipe's other end: its end is theirs. */
    assert_int_equal(read(ends[0], &byte, 1), 0);
    close(ends[0]);
    assert_clean(fixture);
}

static void fuse_caller_that_is_interrupted_leaves_nothing(void **state)
{
    skip_without_fuse();
    end_the_caller(*state, SIGINT);
}

static void fuse_caller_that_is_killed_leaves_nothing(void **state)
{
    skip_without_fuse();
    end_the_caller(*state, SIGKILL);
}

static void fuse_missing_root_gives_the_reason(void **state)
{
    struct fixture *fixture = *state;
    char text[512] = "";
    skip_without_fuse();
    snprintf(fixture->root + strlen(fixture->root), 8, "/no");
    assert_int_equal(record(fixture, give_up, NULL, text, sizeof text), -1);
    assert_non_null(strstr(text, "No such file"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define FUSE_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
        FUSE_TEST(fuse_write_calls_are_recorded_in_order_with_bytes),
        FUSE_TEST(fuse_stores_to_a_mapping_are_recorded_at_msync),
        FUSE_TEST(fuse_stores_to_a_mapping_are_recorded_when_the_kernel_writes_back),
        FUSE_TEST(fuse_dsync_writes_are_followed_by_a_flush),
        FUSE_TEST(fuse_trace_carried_out_gives_the_file),
        FUSE_TEST(fuse_workload_that_fails_or_dies_is_reported),
        FUSE_TEST(fuse_recorder_that_is_killed_hangs_nobody),
        FUSE_TEST(fuse_caller_that_is_interrupted_leaves_nothing),
        FUSE_TEST(fuse_caller_that_is_killed_leaves_nothing),
        FUSE_TEST(fuse_missing_root_gives_the_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
