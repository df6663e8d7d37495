/* SPDX-License-Identifier: MIT */
/*
 * Shared by the bufpool tests: a pool over files on a backend that injects faults, pages whose
 * every byte follows from page number and version, a fake log, a watchdog.
 */
#ifndef CLOCKPOOL_TESTS_BUFPOOL_HELPERS_H
#define CLOCKPOOL_TESTS_BUFPOOL_HELPERS_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <clockpool/bufpool.h>
#include <clockpool/base/error.h>
#include <clockpool/base/thread.h>
#include "support/fault_io.h"
#include "internal.h"

#define KIB            1024u
#define MIB            (UINT64_C(1) << 20)
#define WORLD_FILES    4u
#define HOLD_TIMEOUT   20000u /* ms; reached only when a test fails */
#define WATCHDOG_LIMIT 120u   /* s */

/* How the rings of a world behave. */
enum world_rings {
    RINGS_DEFERRED = 0, /* deterministic, over preadv and pwritev, may be held */
    RINGS_REAL,         /* io_uring where it is allowed, through the fault backend */
    RINGS_SYNC,         /* none: requests are carried out at submit */
};

struct world {
    struct fault_io *faults;
    struct cp_io *io;
    struct cp_bufpool *pool;
    struct cp_io_file *io_file[WORLD_FILES];
    struct cp_bufpool_file *file[WORLD_FILES];
    uint32_t page_size[WORLD_FILES];
    char path[WORLD_FILES][64];
};

static inline uint64_t mix(uint64_t x)
{
    x ^= x >> 33;
    x *= UINT64_C(0xff51afd7ed558ccd);
    x ^= x >> 33;
    x *= UINT64_C(0xc4ceb9fe1a85ec53);
    return x ^ (x >> 33);
}

/*
 * A page: word 0 its LSN (what the backend compares with the log), word 1 its number, word 2 its
 * version, the rest follows from these two. Stores are relaxed atomics because optimistic readers
 * may look on.
 */
static inline void fill_page(void *data, uint32_t page_size, uint64_t page, uint64_t version,
                             cp_lsn lsn)
{
    uint64_t *words = data;
    uint64_t seed = mix(page * 1000003 + version);
    for (uint32_t i = 0; i < page_size / 8; i++) {
        uint64_t value = i == 0 ? lsn : i == 1 ? page : i == 2 ? version : seed + i;
        __atomic_store_n(&words[i], value, __ATOMIC_RELAXED);
    }
}

/* The page's version, or UINT64_MAX when any byte of it is not as it should be. */
static inline uint64_t page_version(const void *data, uint32_t page_size, uint64_t page)
{
    const uint64_t *words = data;
    if (words[1] != page)
        return UINT64_MAX;
    uint64_t seed = mix(page * 1000003 + words[2]);
    for (uint32_t i = 3; i < page_size / 8; i++) {
        if (words[i] != seed + i)
            return UINT64_MAX;
    }
    return words[2];
}

/* ---- worlds -------------------------------------------------------------------------------------
 */

static inline void world_open_with(struct world *w, const struct cp_bufpool_options *given,
                                   enum world_rings rings)
{
    const struct cp_io_backend *wrapped = cp_io_backend_sync();
    struct cp_bufpool_options options = *given;

    memset(w, 0, sizeof *w);
    if (rings == RINGS_REAL && cp_io_backend_uring() != NULL)
        wrapped = cp_io_backend_uring();
    w->faults = fault_io_create(wrapped, rings == RINGS_DEFERRED ? FAULT_RING_DEFERRED
                                                                 : FAULT_RING_AS_WRAPPED);
    struct cp_io_options io_options = {.backend = fault_io_backend(w->faults),
                                       .backend_ctx = w->faults};
    assert_int_equal(cp_io_create(&io_options, &w->io), 0);
    options.io = w->io;
    assert_int_equal(cp_bufpool_create(&options, &w->pool), 0);
}

static inline void world_open(struct world *w, uint64_t budget_bytes)
{
    world_open_with(w, &(struct cp_bufpool_options){.budget_bytes = budget_bytes}, RINGS_DEFERRED);
}

/* Create file number f with pages 0 .. count-1 in version 0. */
static inline void world_create_file(struct world *w, uint32_t f, uint32_t page_size,
                                     uint64_t page_count)
{
    struct cp_io_file_options options = {.create = true, .truncate = true};
    static _Atomic uint32_t serial;

    snprintf(w->path[f], sizeof w->path[f], "bufpool-%d-%u.dat", (int)getpid(),
             atomic_fetch_add(&serial, 1));
    assert_int_equal(cp_io_file_open(w->io, w->path[f], &options, &w->io_file[f]), 0);
    w->page_size[f] = page_size;
    void *page = aligned_alloc(4096, page_size);
    assert_non_null(page);
    for (uint64_t p = 0; p < page_count; p++) {
        fill_page(page, page_size, p, 0, 0);
        assert_int_equal(cp_io_write(w->io_file[f], page, page_size, p * page_size), 0);
    }
    free(page);
    fault_io_reset(w->faults); /* calls count from here */
}

static inline void world_attach_with(struct world *w, uint32_t f,
                                     const struct cp_bufpool_file_options *given)
{
    struct cp_bufpool_file_options options = *given;
    options.file = w->io_file[f];
    options.page_size = w->page_size[f];
    if (options.max_pages == 0)
        options.max_pages = UINT64_C(1) << 20;
    assert_int_equal(cp_bufpool_attach(w->pool, &options, &w->file[f]), 0);
}

static inline void world_add_file(struct world *w, uint32_t f, uint32_t page_size,
                                  uint64_t page_count)
{
    world_create_file(w, f, page_size, page_count);
    world_attach_with(w, f, &(struct cp_bufpool_file_options){0});
}

/* A pool with one file of 4 KiB pages. */
static inline void world_simple(struct world *w, uint64_t budget_bytes, uint64_t page_count)
{
    world_open(w, budget_bytes);
    world_add_file(w, 0, 4096, page_count);
}

static inline void world_close(struct world *w)
{
    for (uint32_t f = 0; f < WORLD_FILES; f++) {
        if (w->file[f] == NULL)
            continue;
        assert_int_equal(cp_bufpool_flush(w->file[f]), 0);
    }
    int status = cp_bufpool__check(w->pool);
    if (status != 0)
        fail_msg("cp_bufpool__check: %s", cp_error_info()->what);
    for (uint32_t f = 0; f < WORLD_FILES; f++) {
        if (w->file[f] != NULL)
            assert_int_equal(cp_bufpool_detach(w->file[f]), 0);
    }
    cp_bufpool_destroy(w->pool);
    for (uint32_t f = 0; f < WORLD_FILES; f++) {
        if (w->io_file[f] == NULL)
            continue;
        assert_int_equal(cp_io_file_close(w->io_file[f]), 0);
        assert_int_equal(cp_io_unlink(w->io, w->path[f]), 0);
    }
    cp_io_destroy(w->io);
    fault_io_destroy(w->faults);
}

/* ---- what tests do all the time -----------------------------------------------------------------
 */

static inline struct cp_fix must_fix(struct world *w, uint32_t f, uint64_t page,
                                     enum cp_latch_mode mode)
{
    struct cp_fix fix;
    char text[256];
    int status = cp_bufpool_fix(w->file[f], page, mode, &fix);
    if (status != 0)
        fail_msg("fixing page %llu: %s", (unsigned long long)page,
                 cp_error_format(text, sizeof text));
    return fix;
}

/* Fix a page shared, check all of it, unfix it. */
static inline void check_version(struct world *w, uint32_t f, uint64_t page, uint64_t version)
{
    struct cp_fix fix = must_fix(w, f, page, CP_SHARED);
    assert_int_equal(page_version(fix.data, w->page_size[f], page), version);
    cp_bufpool_unfix(&fix);
}

static inline void change_page(struct world *w, uint32_t f, uint64_t page, uint64_t version,
                               cp_lsn lsn)
{
    struct cp_fix fix = must_fix(w, f, page, CP_EXCLUSIVE);
    fill_page(fix.data, w->page_size[f], page, version, lsn);
    cp_bufpool_mark_dirty(&fix, lsn);
    cp_bufpool_unfix(&fix);
}

/* The version of a page on disk, by the file itself. */
static inline uint64_t version_on_disk(struct world *w, uint32_t f, uint64_t page)
{
    void *data = aligned_alloc(4096, w->page_size[f]);
    assert_non_null(data);
    assert_int_equal(cp_io_read(w->io_file[f], data, w->page_size[f], page * w->page_size[f]), 0);
    uint64_t version = page_version(data, w->page_size[f], page);
    free(data);
    return version;
}

static inline struct cp_bufpool_stats stats_of(struct world *w)
{
    struct cp_bufpool_stats stats;
    cp_bufpool_stats(w->pool, 0, &stats);
    return stats;
}

static inline bool is_resident(struct world *w, uint32_t f, uint64_t page)
{
    return cp_word_load(&w->file[f]->map.words[page]) != 0;
}

/* Evict a clean page, for sure. */
static inline void drop(struct world *w, uint32_t f, uint64_t page)
{
    assert_int_equal(cp_bufpool_discard(w->file[f], page, 1), 0);
    assert_false(is_resident(w, f, page));
}

/* ---- a fake log ---------------------------------------------------------------------------------
 */

struct fake_log {
    _Atomic cp_lsn durable;
    _Atomic cp_lsn asked; /* largest upto */
    _Atomic uint32_t calls;
    _Atomic int refuse;          /* not 0: make_durable fails with it */
    _Atomic uint32_t violations; /* images written before their log */
    _Atomic uint32_t images;
    int fd; /* of the file whose images count; 0: of any */
};

static inline cp_lsn fake_durable(void *ctx)
{
    struct fake_log *log = ctx;
    return atomic_load(&log->durable);
}

static inline int fake_make_durable(void *ctx, cp_lsn upto)
{
    struct fake_log *log = ctx;
    atomic_fetch_add(&log->calls, 1);
    atomic_store(&log->asked, upto);
    int refuse = atomic_load(&log->refuse);
    if (refuse != 0)
        return refuse;
    cp_lsn durable = atomic_load(&log->durable);
    while (durable < upto && !atomic_compare_exchange_weak(&log->durable, &durable, upto)) {
    }
    return 0;
}

/* For fault_io_on_write: word 0 of each 4 KiB page that goes out is its LSN. */
static inline void fake_log_see_write(void *ctx, int fd, uint64_t offset_bytes,
                                      const struct iovec *iov, int iov_count)
{
    struct fake_log *log = ctx;
    if (log->fd != 0 && fd != log->fd)
        return;
    for (int i = 0; i < iov_count; i++) {
        /* The rest of a short write begins inside a page. */
        size_t at = (size_t)(0 - offset_bytes) % 4096;
        for (; at + 4096 <= iov[i].iov_len; at += 4096) {
            uint64_t lsn;
            memcpy(&lsn, (const char *)iov[i].iov_base + at, sizeof lsn);
            atomic_fetch_add(&log->images, 1);
            if (lsn > atomic_load(&log->durable))
                atomic_fetch_add(&log->violations, 1);
        }
        offset_bytes += iov[i].iov_len;
    }
}

/* ---- a watchdog: names the pins and ends the process where a wait never returns -----------------
 */

struct watchdog {
    struct world *world;
    pthread_t thread;
    uint32_t over;
    uint64_t limit_s;
};

static inline void print_pins(struct cp_bufpool *pool)
{
    struct cp_pin pins[64];
    struct cp_bufpool_stats stats;
    uint32_t total = cp_bufpool_list_pins(pool, pins, 64);
    cp_bufpool_stats(pool, 0, &stats);
    fprintf(stderr,
            "%u pins; resident %llu, dirty %llu, reading %llu, writing %llu, used %llu of %llu\n",
            total, (unsigned long long)stats.pages_resident, (unsigned long long)stats.pages_dirty,
            (unsigned long long)stats.reads_in_flight, (unsigned long long)stats.writes_in_flight,
            (unsigned long long)stats.used_bytes, (unsigned long long)stats.budget_bytes);
    for (uint32_t i = 0; i < total && i < 64; i++)
        fprintf(stderr, "  %s page %llu mode %u holders %u thread %d age %llu ms\n", pins[i].path,
                (unsigned long long)pins[i].page, pins[i].mode, pins[i].count, pins[i].owner_tid,
                (unsigned long long)(pins[i].age_ns / 1000000));
}

static inline void *watch(void *argument)
{
    struct watchdog *dog = argument;
    uint64_t end_ns = cp_now_ns() + dog->limit_s * 1000000000u;
    while (__atomic_load_n(&dog->over, __ATOMIC_ACQUIRE) == 0) {
        uint64_t now_ns = cp_now_ns();
        if (now_ns >= end_ns) {
            fprintf(stderr, "watchdog: a thread waits for ever\n");
            if (dog->world != NULL)
                print_pins(dog->world->pool);
            if (getenv("CP_TEST_ABORT") != NULL)
                abort();
            _exit(1);
        }
        cp_futex_wait(&dog->over, 0, end_ns - now_ns);
    }
    return NULL;
}

static inline void watchdog_start(struct watchdog *dog, struct world *w, uint64_t limit_s)
{
    *dog = (struct watchdog){.world = w, .limit_s = limit_s};
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
    return seed;
}

static inline uint64_t next_random(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    return mix(*state);
}

#endif
