/* SPDX-License-Identifier: MIT */
/* Shared by the io tests: the backends under test, files in the build directory, a watchdog. */
#ifndef CLOCKPOOL_TESTS_IO_HELPERS_H
#define CLOCKPOOL_TESTS_IO_HELPERS_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <clockpool/io.h>
#include <clockpool/base/error.h>
#include <clockpool/base/thread.h>
#include "support/fault_io.h"

#define PAGE 4096u

enum variant { URING, SYNC, DEFERRED, VARIANTS };

struct subject {
    struct cp_io *io;
    struct cp_io_file *file;
    struct fault_io *faults; /* DEFERRED */
    char path[64];
};

static inline const char *variant_name(enum variant variant)
{
    static const char *const names[] = {"io_uring", "sync", "deferred"};
    return names[variant];
}

/* Returns false where this kernel has no io_uring. */
static inline bool open_subject(struct subject *s, enum variant variant, uint32_t page_count)
{
    struct cp_io_options options = {.kind = variant == URING ? CP_IO_URING : CP_IO_SYNC};
    struct cp_io_file_options file_options = {.create = true, .truncate = true};

    memset(s, 0, sizeof *s);
    if (variant == URING && cp_io_backend_uring() == NULL) {
        print_message("io_uring is not available here: variant left out\n");
        return false;
    }
    if (variant == DEFERRED) {
        s->faults = fault_io_create(cp_io_backend_sync(), FAULT_RING_DEFERRED);
        options.backend = fault_io_backend(s->faults);
        options.backend_ctx = s->faults;
    }
    snprintf(s->path, sizeof s->path, "io-test-%d.dat", (int)getpid());
    assert_int_equal(cp_io_create(&options, &s->io), 0);
    assert_int_equal(cp_io_file_open(s->io, s->path, &file_options, &s->file), 0);
    if (page_count > 0) {
        uint32_t *page = aligned_alloc(PAGE, PAGE);
        assert_non_null(page);
        for (uint32_t i = 0; i < page_count; i++) {
            for (unsigned k = 0; k < PAGE / 4; k++)
                page[k] = i;
            assert_int_equal(cp_io_write(s->file, page, PAGE, (uint64_t)i * PAGE), 0);
        }
        free(page);
    }
    return true;
}

static inline void close_subject(struct subject *s)
{
    assert_int_equal(cp_io_file_close(s->file), 0);
    assert_int_equal(cp_io_unlink(s->io, s->path), 0);
    cp_io_destroy(s->io);
    if (s->faults != NULL)
        fault_io_destroy(s->faults);
}

static inline bool page_holds(const void *page, uint32_t number)
{
    const uint32_t *words = page;
    for (unsigned k = 0; k < PAGE / 4; k++) {
        if (words[k] != number)
            return false;
    }
    return true;
}

/* One read or write of one page, counted off by its callback. */
struct job {
    struct cp_io_request request;
    struct iovec iov;
    uint32_t *left; /* relaxed counter, decremented with release */
    bool completed;
};

static inline void job_done(struct cp_io_request *request)
{
    struct job *job = request->user;
    assert_false(job->completed);
    job->completed = true;
    __atomic_fetch_sub(job->left, 1, __ATOMIC_RELEASE);
}

static inline void job_init(struct job *job, struct cp_io_file *file, enum cp_io_op op,
                            void *memory, uint64_t page, uint32_t *left)
{
    *job = (struct job){.left = left};
    job->iov = (struct iovec){memory, PAGE};
    job->request = (struct cp_io_request){
        .op = op,
        .file = file,
        .offset_bytes = page * PAGE,
        .iov = &job->iov,
        .iov_count = op == CP_IO_OP_SYNC ? 0 : 1,
        .complete = job_done,
        .user = job,
    };
}

static inline bool none_left(void *ctx)
{
    return __atomic_load_n((uint32_t *)ctx, __ATOMIC_ACQUIRE) == 0;
}

/* ---- a watchdog: ends the process where a wait never returns ------------------------------------
 */

struct watchdog {
    pthread_t thread;
    uint32_t over;
    uint64_t limit_s;
};

static inline void *watch(void *argument)
{
    struct watchdog *dog = argument;
    uint64_t end_ns = cp_now_ns() + dog->limit_s * 1000000000u;
    while (__atomic_load_n(&dog->over, __ATOMIC_ACQUIRE) == 0) {
        uint64_t now_ns = cp_now_ns();
        if (now_ns >= end_ns) {
            fprintf(stderr, "watchdog: a thread waits for ever: a wake-up was lost\n");
            _exit(1);
        }
        cp_futex_wait(&dog->over, 0, end_ns - now_ns);
    }
    return NULL;
}

static inline void watchdog_start(struct watchdog *dog, uint64_t limit_s)
{
    *dog = (struct watchdog){.limit_s = limit_s};
    assert_int_equal(pthread_create(&dog->thread, NULL, watch, dog), 0);
}

static inline void watchdog_stop(struct watchdog *dog)
{
    __atomic_store_n(&dog->over, 1, __ATOMIC_RELEASE);
    cp_futex_wake(&dog->over, 1);
    pthread_join(dog->thread, NULL);
}

static inline uint64_t test_seed(void)
{
    const char *given = getenv("CP_TEST_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : cp_now_ns();
    print_message("CP_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed | 1;
}

static inline uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

#endif
