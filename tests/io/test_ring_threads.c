/* SPDX-License-Identifier: MIT */
/*
 * One ring, many threads: the reaper's role is handed on, sleepers wake when their own condition
 * holds, notify reaches a reaper that sleeps in the kernel, and threads may die before their
 * requests complete. Lost wake-ups are found by a watchdog.
 */
#include "helpers.h"

#include <sched.h>

#define THREADS    8u
#define PAGES      256u
#define ROUNDS     200u
#define HOLD_MS    20000u
#define WATCHDOG_S 60u

struct waiter_thread {
    pthread_t thread;
    struct subject *s;
    struct cp_io_ring *ring;
    char *memory;
    struct job job;
    uint32_t page;
    uint32_t left;
    uint32_t returned; /* futex */
    uint64_t random;
};

static void *read_one(void *argument)
{
    struct waiter_thread *self = argument;
    job_init(&self->job, self->s->file, CP_IO_OP_READ, self->memory, self->page, &self->left);
    cp_io_ring_put(self->ring, &self->job.request);
    cp_io_ring_wait(self->ring, none_left, &self->left);
    __atomic_store_n(&self->returned, 1, __ATOMIC_RELEASE);
    cp_futex_wake(&self->returned, 1);
    return NULL;
}

static void await_returned(struct waiter_thread *thread)
{
    while (__atomic_load_n(&thread->returned, __ATOMIC_ACQUIRE) == 0)
        cp_futex_wait(&thread->returned, 0, 0); /* the watchdog bounds it */
}

/*
 * Completions are released one at a time, in the order put: whoever is the reaper then finishes one
 * request after another, and each time it is its own it must hand the role on, or all hang.
 */
static void ring_reaper_hands_its_role_on(void **state)
{
    struct subject s;
    struct watchdog dog;
    struct waiter_thread threads[THREADS];
    struct cp_io_ring *ring;
    struct cp_io_ring_stats stats;
    (void)state;
    watchdog_start(&dog, WATCHDOG_S);
    assert_true(open_subject(&s, DEFERRED, THREADS));
    assert_int_equal(cp_io_ring_create(s.io, NULL, &ring), 0);
    fault_io_hold(s.faults);
    for (uint32_t i = 0; i < THREADS; i++) {
        threads[i] = (struct waiter_thread){.s = &s, .ring = ring, .page = i, .left = 1};
        threads[i].memory = aligned_alloc(PAGE, PAGE);
        assert_int_equal(pthread_create(&threads[i].thread, NULL, read_one, &threads[i]), 0);
        assert_true(fault_io_await_held(s.faults, i + 1, HOLD_MS));
        if (i == 0)
            assert_true(fault_io_await_reaper(s.faults, HOLD_MS));
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        fault_io_release(s.faults, 1);
        await_returned(&threads[i]); /* its own is done: it must not wait for the others */
        if (i + 1 < THREADS)
            assert_int_equal(__atomic_load_n(&threads[i + 1].returned, __ATOMIC_ACQUIRE), 0);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i].thread, NULL);
        assert_true(page_holds(threads[i].memory, i));
        free(threads[i].memory);
    }
    cp_io_ring_stats(ring, &stats);
    assert_true(stats.handovers >= 1);
    fault_io_let_go(s.faults);
    cp_io_ring_destroy(ring);
    close_subject(&s);
    watchdog_stop(&dog);
}

struct flag_waiter {
    pthread_t thread;
    struct cp_io_ring *ring;
    uint32_t flag;   /* the condition; set from outside */
    uint32_t looked; /* done() has been called; futex */
    uint32_t returned;
};

static bool flag_set(void *ctx)
{
    struct flag_waiter *waiter = ctx;
    if (__atomic_exchange_n(&waiter->looked, 1, __ATOMIC_ACQ_REL) == 0)
        cp_futex_wake(&waiter->looked, 1);
    return __atomic_load_n(&waiter->flag, __ATOMIC_ACQUIRE) != 0;
}

static void *wait_for_flag(void *argument)
{
    struct flag_waiter *self = argument;
    cp_io_ring_wait(self->ring, flag_set, self);
    return NULL;
}

static void await_looked(struct flag_waiter *waiter)
{
    while (__atomic_load_n(&waiter->looked, __ATOMIC_ACQUIRE) == 0)
        cp_futex_wait(&waiter->looked, 0, 0);
}

/* With a request in flight for ever, the waiter is the reaper and sleeps below; without, idle. */
static void ring_notify_reaches_reaper_and_sleeper(void **state)
{
    struct watchdog dog;
    (void)state;
    watchdog_start(&dog, WATCHDOG_S);
    for (unsigned busy = 0; busy < 2; busy++) {
        for (enum variant v = 0; v < VARIANTS; v++) {
            struct subject s;
            struct cp_io_ring *ring;
            struct job job;
            struct flag_waiter waiters[2];
            uint32_t left = 1;
            char *memory = aligned_alloc(PAGE, PAGE);
            int pipe_ends[2];
            if (!open_subject(&s, v, 2)) {
                free(memory);
                continue;
            }
            assert_int_equal(cp_io_ring_create(s.io, NULL, &ring), 0);
            assert_int_equal(pipe(pipe_ends), 0);
            struct cp_io_file *real = s.file;
            char pipe_path[40];
            struct cp_io_file *pipe_file = NULL;
            struct cp_io_file_options read_only = {.read_only = true, .caching = CP_IO_BUFFERED};
            snprintf(pipe_path, sizeof pipe_path, "/proc/self/fd/%d", pipe_ends[0]);
            bool in_flight = busy && v != SYNC;
            if (in_flight && v == URING) {
                /* A read of an empty pipe stays in the kernel until somebody writes. */
                assert_int_equal(cp_io_file_open(s.io, pipe_path, &read_only, &pipe_file), 0);
                real = pipe_file;
            }
            if (in_flight && v == DEFERRED)
                fault_io_hold(s.faults);
            if (in_flight) {
                job_init(&job, real, CP_IO_OP_READ, memory, 0, &left);
                cp_io_ring_put(ring, &job.request);
                cp_io_ring_submit(ring);
            }
            for (unsigned i = 0; i < 2; i++) {
                waiters[i] = (struct flag_waiter){.ring = ring};
                assert_int_equal(
                    pthread_create(&waiters[i].thread, NULL, wait_for_flag, &waiters[i]), 0);
                await_looked(&waiters[i]);
            }
            if (in_flight && v == DEFERRED)
                assert_true(fault_io_await_reaper(s.faults, HOLD_MS));
            for (unsigned i = 0; i < 2; i++) {
                __atomic_store_n(&waiters[i].flag, 1, __ATOMIC_RELEASE);
                cp_io_ring_notify(ring);
                pthread_join(waiters[i].thread, NULL);
            }
            if (in_flight && v == DEFERRED)
                fault_io_let_go(s.faults);
            if (in_flight && v == URING)
                assert_int_equal(write(pipe_ends[1], memory, PAGE), PAGE);
            if (in_flight) {
                cp_io_ring_wait(ring, none_left, &left);
                assert_int_equal(job.request.result, 0);
            }
            cp_io_ring_destroy(ring);
            assert_int_equal(cp_io_file_close(pipe_file), 0);
            close(pipe_ends[0]);
            close(pipe_ends[1]);
            free(memory);
            close_subject(&s);
        }
    }
    watchdog_stop(&dog);
}

/* ---- a thread sleeps for what is put later ------------------------------------------------------
 */

struct batch_waiter {
    pthread_t thread;
    struct cp_io_ring *ring;
    uint32_t left;
    uint32_t round;    /* the one that may begin */
    uint32_t returned; /* the last one whose wait is over */
};

static void *wait_for_rounds(void *argument)
{
    struct batch_waiter *self = argument;
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        while (__atomic_load_n(&self->round, __ATOMIC_ACQUIRE) != round)
            sched_yield();
        cp_io_ring_wait(self->ring, none_left, &self->left);
        __atomic_store_n(&self->returned, round, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void await_asleep(struct cp_io_ring *ring, uint64_t waits_before)
{
    struct cp_io_ring_stats stats;
    do { /* ends: the waiter comes; the watchdog bounds it */
        sched_yield();
        cp_io_ring_stats(ring, &stats);
    } while (stats.waits == waits_before);
}

/*
 * Another thread waits for a request before it is put, and the putter does not look after it: it
 * asks for a batch only. In every second round the waiter sleeps by then, in the others both run.
 */
static void ring_batch_of_one_reaches_who_sleeps_for_it(void **state)
{
    struct subject s;
    struct watchdog dog;
    struct cp_io_ring_stats stats;
    char *memory = aligned_alloc(PAGE, PAGE);
    (void)state;
    watchdog_start(&dog, WATCHDOG_S);
    for (enum variant v = 0; v < VARIANTS; v++) {
        struct batch_waiter waiter = {.left = 0};
        struct job job;
        if (!open_subject(&s, v, 2))
            continue;
        assert_int_equal(cp_io_ring_create(s.io, NULL, &waiter.ring), 0);
        assert_int_equal(pthread_create(&waiter.thread, NULL, wait_for_rounds, &waiter), 0);
        for (uint32_t round = 1; round <= ROUNDS; round++) {
            waiter.left = 1;
            job_init(&job, s.file, CP_IO_OP_READ, memory, round % 2, &waiter.left);
            cp_io_ring_stats(waiter.ring, &stats);
            __atomic_store_n(&waiter.round, round, __ATOMIC_RELEASE);
            if (round % 2 == 0)
                await_asleep(waiter.ring, stats.waits);
            cp_io_ring_put(waiter.ring, &job.request);
            cp_io_ring_submit_batch(waiter.ring);
            while (__atomic_load_n(&waiter.returned, __ATOMIC_ACQUIRE) != round)
                sched_yield(); /* the watchdog bounds it */
            assert_true(page_holds(memory, round % 2));
        }
        pthread_join(waiter.thread, NULL);
        cp_io_ring_destroy(waiter.ring);
        close_subject(&s);
    }
    free(memory);
    watchdog_stop(&dog);
}

static void *put_and_leave(void *argument)
{
    struct waiter_thread *self = argument;
    for (uint32_t i = 0; i < 16; i++) {
        struct job *job = (struct job *)(void *)self->memory + i;
        cp_io_ring_put(self->ring, &job->request);
    }
    cp_io_ring_submit(self->ring);
    return NULL;
}

/* The thread that submitted is gone before, or while, its requests complete. */
static void ring_requests_outlive_their_thread(void **state)
{
    struct watchdog dog;
    struct subject s;
    (void)state;
    watchdog_start(&dog, WATCHDOG_S);
    for (enum variant v = 0; v < VARIANTS; v++) {
        struct cp_io_ring *ring;
        char *memory = aligned_alloc(PAGE, 16 * PAGE);
        struct job jobs[16];
        if (!open_subject(&s, v, PAGES)) {
            free(memory);
            continue;
        }
        assert_int_equal(cp_io_ring_create(s.io, NULL, &ring), 0);
        for (unsigned round = 0; round < 20; round++) {
            uint32_t left = 16;
            for (uint32_t i = 0; i < 16; i++) /* syncs go to the kernel's workers */
                job_init(&jobs[i], s.file, i % 8 == 7 ? CP_IO_OP_SYNC : CP_IO_OP_READ,
                         memory + i * PAGE, round + i, &left);
            struct waiter_thread thread = {.ring = ring, .memory = (char *)jobs};
            assert_int_equal(pthread_create(&thread.thread, NULL, put_and_leave, &thread), 0);
            if (round % 2 == 0)
                pthread_join(thread.thread, NULL);
            cp_io_ring_wait(ring, none_left, &left);
            if (round % 2 != 0)
                pthread_join(thread.thread, NULL);
            for (uint32_t i = 0; i < 16; i++) {
                assert_int_equal(jobs[i].request.result, 0);
                if (jobs[i].request.op == CP_IO_OP_READ)
                    assert_true(page_holds(memory + i * PAGE, round + i));
            }
        }
        cp_io_ring_destroy(ring);
        free(memory);
        close_subject(&s);
    }
    watchdog_stop(&dog);
}

static void *stress(void *argument)
{
    struct waiter_thread *self = argument;
    struct job jobs[4];
    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint32_t count = 1 + (uint32_t)(next_random(&self->random) % 4);
        uint32_t left = count;
        uint32_t pages[4];
        for (uint32_t i = 0; i < count; i++) {
            pages[i] = (uint32_t)(next_random(&self->random) % PAGES);
            job_init(&jobs[i], self->s->file, CP_IO_OP_READ, self->memory + i * PAGE, pages[i],
                     &left);
            cp_io_ring_put(self->ring, &jobs[i].request);
        }
        if (next_random(&self->random) % 2 == 0)
            cp_io_ring_submit(self->ring);
        if (next_random(&self->random) % 4 == 0)
            cp_io_ring_poll(self->ring);
        if (next_random(&self->random) % 16 == 0)
            cp_io_ring_notify(self->ring);
        cp_io_ring_wait(self->ring, none_left, &left);
        for (uint32_t i = 0; i < count; i++) {
            if (jobs[i].request.result != 0 || !page_holds(self->memory + i * PAGE, pages[i]))
                __atomic_fetch_add(&self->left, 1, __ATOMIC_RELAXED); /* counts what was wrong */
        }
    }
    return NULL;
}

static void ring_stress_reads_are_right(void **state)
{
    struct watchdog dog;
    struct subject s;
    uint64_t seed = test_seed();
    (void)state;
    watchdog_start(&dog, 4 * WATCHDOG_S);
    for (enum variant v = 0; v < VARIANTS; v++) {
        for (uint32_t depth = 2; depth <= 64; depth *= 32) {
            struct waiter_thread threads[THREADS];
            struct cp_io_ring *ring;
            struct cp_io_ring_stats stats;
            struct cp_io_ring_options options = {.depth = depth};
            if (!open_subject(&s, v, PAGES))
                continue;
            assert_int_equal(cp_io_ring_create(s.io, &options, &ring), 0);
            for (uint32_t i = 0; i < THREADS; i++) {
                threads[i] =
                    (struct waiter_thread){.s = &s, .ring = ring, .random = seed * (i + 1) + depth};
                threads[i].random |= 1;
                threads[i].memory = aligned_alloc(PAGE, 4 * PAGE);
                assert_int_equal(pthread_create(&threads[i].thread, NULL, stress, &threads[i]), 0);
            }
            for (uint32_t i = 0; i < THREADS; i++) {
                pthread_join(threads[i].thread, NULL);
                assert_int_equal(threads[i].left, 0);
                free(threads[i].memory);
            }
            cp_io_ring_stats(ring, &stats);
            print_message("%s depth %u: %llu waits, %llu handovers\n", variant_name(v), depth,
                          (unsigned long long)stats.waits, (unsigned long long)stats.handovers);
            assert_int_equal(stats.in_flight + stats.backlog, 0);
            cp_io_ring_destroy(ring);
            close_subject(&s);
        }
    }
    watchdog_stop(&dog);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ring_reaper_hands_its_role_on),
        cmocka_unit_test(ring_notify_reaches_reaper_and_sleeper),
        cmocka_unit_test(ring_batch_of_one_reaches_who_sleeps_for_it),
        cmocka_unit_test(ring_requests_outlive_their_thread),
        cmocka_unit_test(ring_stress_reads_are_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
