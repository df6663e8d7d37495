/* SPDX-License-Identifier: MIT */
/* The recording backend: what it carries out, and what it says about it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <clockpool/io.h>
#include "image.h"
#include "recorder.h"
#include "run.h"

#define WRITES  24u
#define THREADS 3u

struct fixture {
    char root[PATH_MAX - 64], path[PATH_MAX];
    struct crash_trace *trace;
    struct crash_recorder *recorder;
    struct cp_io *io;
    struct cp_io_file *file;
};

static void begin(struct fixture *f, uint64_t seed, bool dsync)
{
    assert_int_equal(crash_workplace_create(NULL, f->root, sizeof f->root), 0);
    f->trace = crash_trace_create();
    f->recorder = crash_recorder_create(f->root, f->trace, seed);
    struct cp_io_options options = {.backend = crash_recorder_backend(f->recorder),
                                    .backend_ctx = f->recorder};
    struct cp_io_file_options file_options = {
        .create = true, .caching = CP_IO_BUFFERED, .block_bytes = 512, .dsync = dsync};
    assert_int_equal(cp_io_create(&options, &f->io), 0);
    snprintf(f->path, sizeof f->path, "%s/file", f->root);
    assert_int_equal(cp_io_file_open(f->io, f->path, &file_options, &f->file), 0);
}

static void end(struct fixture *f)
{
    if (f->file != NULL)
        assert_int_equal(cp_io_file_close(f->file), 0);
    cp_io_destroy(f->io);
    crash_recorder_destroy(f->recorder);
    crash_trace_destroy(f->trace);
    crash_empty_directory(f->root);
    assert_int_equal(rmdir(f->root), 0);
}

static unsigned count_events(const struct crash_trace *trace, enum crash_event_kind kind)
{
    unsigned count = 0;
    for (uint64_t i = 0; i < crash_trace_length(trace); i++)
        count += crash_trace_event(trace, i)->kind == kind;
    return count;
}

static void finished(struct cp_io_request *request)
{
    atomic_fetch_sub_explicit((_Atomic unsigned *)request->user, 1, memory_order_release);
}

static bool none_left(void *ctx)
{
    return atomic_load_explicit((_Atomic unsigned *)ctx, memory_order_acquire) == 0;
}

/* Write WRITES blocks through a ring, `lane` choosing which. */
static void write_ring(struct cp_io *io, struct cp_io_file *file, unsigned lane)
{
    struct cp_io_ring *ring;
    struct cp_io_request requests[WRITES];
    struct iovec vectors[WRITES];
    uint8_t *blocks = malloc((size_t)WRITES * 4096);
    _Atomic unsigned left = WRITES;
    struct cp_io_ring_options options = {.depth = 8};
    assert_non_null(blocks);
    assert_int_equal(cp_io_ring_create(io, &options, &ring), 0);
    for (unsigned i = 0; i < WRITES; i++) {
        memset(blocks + (size_t)i * 4096, (int)(1 + lane * WRITES + i), 4096);
        vectors[i] = (struct iovec){blocks + (size_t)i * 4096, 4096};
        requests[i] = (struct cp_io_request){.op = CP_IO_OP_WRITE,
                                             .file = file,
                                             .offset_bytes = (lane * WRITES + i) * UINT64_C(4096),
                                             .iov = &vectors[i],
                                             .iov_count = 1,
                                             .complete = finished,
                                             .user = &left};
        cp_io_ring_put(ring, &requests[i]);
    }
    cp_io_ring_wait(ring, none_left, &left);
    for (unsigned i = 0; i < WRITES; i++)
        assert_int_equal(requests[i].result, 0);
    cp_io_ring_destroy(ring);
    free(blocks);
}

/* What the trace makes of the files, with everything kept, is what lies in the directory. */
static void expect_image_is_file(struct fixture *f, uint64_t size)
{
    struct crash_states *states = crash_states_create(f->trace, 1);
    uint8_t real[4096], buffer[4096];
    crash_states_seek(states, crash_trace_length(f->trace));
    assert_true(
        crash_states_choose(states, (struct crash_mask){'p', crash_states_pending(states)}));
    for (uint64_t at = 0; at < size; at += sizeof real) {
        assert_int_equal(cp_io_read(f->file, real, sizeof real, at), 0);
        const uint8_t *bytes = crash_states_bytes(states, 0, at, sizeof real, buffer);
        assert_memory_equal(bytes != NULL ? bytes : buffer, real, sizeof real);
    }
    crash_states_destroy(states);
}

static void recorder_ring_keeps_writes_in_flight(void **state)
{
    (void)state;
    struct fixture f = {0};
    unsigned in_flight = 0, most = 0, out_of_order = 0;
    uint64_t last = 0;
    begin(&f, 7, false);
    write_ring(f.io, f.file, 0);
    for (uint64_t i = 0; i < crash_trace_length(f.trace); i++) {
        const struct crash_event *event = crash_trace_event(f.trace, i);
        in_flight += event->kind == CRASH_WRITE_BEGIN;
        most = in_flight > most ? in_flight : most;
        if (event->kind != CRASH_WRITE_END)
            continue;
        in_flight--;
        out_of_order += event->begin < last;
        last = event->begin;
    }
    assert_int_equal(in_flight, 0);
    assert_true(most >= 4);
    assert_true(out_of_order > 0);
    expect_image_is_file(&f, WRITES * UINT64_C(4096));
    end(&f);
}

static void recorder_same_seed_same_trace(void **state)
{
    (void)state;
    struct fixture one = {0}, two = {0};
    char first[256], second[256];
    begin(&one, 11, false);
    begin(&two, 11, false);
    write_ring(one.io, one.file, 0);
    write_ring(two.io, two.file, 0);
    assert_int_equal(crash_trace_length(one.trace), crash_trace_length(two.trace));
    for (uint64_t i = 0; i < crash_trace_length(one.trace); i++)
        assert_string_equal(crash_trace_describe(one.trace, i, first, sizeof first),
                            crash_trace_describe(two.trace, i, second, sizeof second));
    end(&one);
    end(&two);
}

static void recorder_chosen_flush_fails_once(void **state)
{
    (void)state;
    struct fixture f = {0};
    uint8_t block[512] = {1};
    begin(&f, 1, false);
    crash_recorder_fail_flush(f.recorder, 2);
    assert_int_equal(cp_io_write(f.file, block, sizeof block, 0), 0);
    assert_int_equal(cp_io_file_sync(f.file), 0);
    assert_false(crash_recorder_failed(f.recorder));
    assert_int_equal(cp_io_write(f.file, block, sizeof block, 512), 0);
    assert_int_equal(cp_io_file_sync(f.file), -EIO);
    assert_true(crash_recorder_failed(f.recorder));
    assert_int_equal(cp_io_file_sync(f.file), 0);
    struct crash_states *states = crash_states_create(f.trace, 1);
    crash_states_seek(states, crash_trace_length(f.trace));
    assert_true(crash_states_pending(states) > 0); /* the second write: uncertain for ever */
    crash_states_destroy(states);
    end(&f);
}

static void recorder_dsync_write_is_durable(void **state)
{
    (void)state;
    struct fixture f = {0};
    uint8_t block[512] = {1};
    begin(&f, 1, true);
    assert_int_equal(cp_io_directory_sync(f.io, f.root), 0);
    assert_int_equal(cp_io_write(f.file, block, sizeof block, 0), 0);
    struct crash_states *states = crash_states_create(f.trace, 1);
    crash_states_seek(states, crash_trace_length(f.trace));
    assert_int_equal(crash_states_pending(states), 0);
    crash_states_destroy(states);
    end(&f);
}

static void recorder_baseline_is_the_directory(void **state)
{
    (void)state;
    struct fixture f = {0};
    uint8_t block[512];
    memset(block, 'b', sizeof block);
    begin(&f, 1, false);
    assert_int_equal(cp_io_write(f.file, block, sizeof block, 1024), 0);
    struct crash_trace *trace = crash_trace_create();
    assert_int_equal(crash_recorder_baseline(f.root, trace), 0);
    struct crash_states *states = crash_states_create(trace, 1);
    const struct crash_file_view *views;
    assert_int_equal(crash_states_pending(states), 0);
    assert_true(crash_states_choose(states, (struct crash_mask){'p', 0}));
    assert_int_equal(crash_states_files(states, &views), 1);
    assert_string_equal(views[0].path, "file");
    assert_int_equal(views[0].size, 1536);
    uint8_t buffer[512];
    const uint8_t *bytes = crash_states_bytes(states, views[0].file, 1024, 512, buffer);
    assert_memory_equal(bytes != NULL ? bytes : buffer, block, sizeof block);
    crash_states_destroy(states);
    crash_trace_destroy(trace);
    end(&f);
}

struct writer {
    struct fixture *fixture;
    unsigned lane;
    pthread_t thread;
};

static void *write_in_thread(void *argument)
{
    struct writer *self = argument;
    write_ring(self->fixture->io, self->fixture->file, self->lane);
    return NULL;
}

static void recorder_threads_record_all(void **state)
{
    (void)state;
    struct fixture f = {0};
    struct writer writers[THREADS];
    begin(&f, 3, false);
    for (unsigned i = 0; i < THREADS; i++) {
        writers[i] = (struct writer){.fixture = &f, .lane = i};
        assert_int_equal(pthread_create(&writers[i].thread, NULL, write_in_thread, &writers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(writers[i].thread, NULL);
    /* Short writes are written again, so there may be more. */
    assert_true(count_events(f.trace, CRASH_WRITE_END) >= THREADS * WRITES);
    assert_int_equal(count_events(f.trace, CRASH_WRITE_END),
                     count_events(f.trace, CRASH_WRITE_BEGIN));
    expect_image_is_file(&f, THREADS * WRITES * UINT64_C(4096));
    end(&f);
}

struct reader {
    struct fixture *f;
    unsigned pieces;
    uint8_t whole[4 * 4096];
};

/* Between two pieces: read all of it, and change it. */
static void read_and_change(void *ctx)
{
    struct reader *reader = ctx;
    const uint64_t size = sizeof reader->whole;
    const unsigned before = ++reader->pieces;
    assert_int_equal(cp_io_read(reader->f->file, reader->whole, size, 0), 0);
    assert_int_equal(reader->pieces, before); /* which comes in one piece */
    memset(reader->whole, (int)(before + 1), sizeof reader->whole);
    assert_int_equal(cp_io_write(reader->f->file, reader->whole, size, 0), 0);
}

static void recorder_split_reads_let_others_write_between(void **state)
{
    struct fixture f;
    struct reader reader = {.f = &f};
    uint8_t bytes[sizeof reader.whole];
    unsigned mixed = 0;
    (void)state;
    begin(&f, 11, false);
    memset(bytes, 1, sizeof bytes);
    assert_int_equal(cp_io_write(f.file, bytes, sizeof bytes, 0), 0);
    crash_recorder_split_reads(f.recorder, read_and_change, &reader);
    assert_int_equal(cp_io_read(f.file, bytes, sizeof bytes, 0), 0);
    crash_recorder_split_reads(f.recorder, NULL, NULL);
    for (size_t i = 1; i < sizeof bytes; i++)
        mixed += bytes[i] != bytes[i - 1];
    assert_true(reader.pieces > 1);
    assert_int_equal(mixed, reader.pieces - 1);
    const unsigned pieces = reader.pieces;
    assert_int_equal(cp_io_read(f.file, bytes, sizeof bytes, 0), 0);
    assert_int_equal(reader.pieces, pieces);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorder_ring_keeps_writes_in_flight),
        cmocka_unit_test(recorder_same_seed_same_trace),
        cmocka_unit_test(recorder_chosen_flush_fails_once),
        cmocka_unit_test(recorder_dsync_write_is_durable),
        cmocka_unit_test(recorder_baseline_is_the_directory),
        cmocka_unit_test(recorder_threads_record_all),
        cmocka_unit_test(recorder_split_reads_let_others_write_between),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
