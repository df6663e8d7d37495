/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <clockpool/base/error.h>
#include <clockpool/base/latch.h>
#include <clockpool/base/thread.h>

#define CROWD            (CP_THREAD_SLOTS + 8u)
#define STACK_BYTES      65536u
#define GENERATIONS      50u
#define GENERATION_SIZE  8u
#define ADDS_PER_THREAD  100u
#define FUTEX_TIMEOUT_NS UINT64_C(10000000000)

struct member {
    pthread_t thread;
    pthread_barrier_t *all_here;
    unsigned slot, slot_again;
};

static void *take_slot_among_others(void *argument)
{
    struct member *m = argument;
    m->slot = cp_thread_slot();
    pthread_barrier_wait(m->all_here); /* nobody leaves before everybody has one */
    m->slot_again = cp_thread_slot();
    return NULL;
}

/* Run a crowd of threads that are all alive at once; count how many own a slot. */
static unsigned run_crowd(unsigned size)
{
    struct member members[CROWD];
    pthread_barrier_t all_here;
    bool taken[CP_THREAD_SLOTS] = {false};
    unsigned owners = 0;

    taken[cp_thread_slot()] = true;
    assert_int_equal(pthread_barrier_init(&all_here, NULL, size), 0);
    for (unsigned i = 0; i < size; i++) {
        members[i].all_here = &all_here;
        assert_int_equal(
            pthread_create(&members[i].thread, NULL, take_slot_among_others, &members[i]), 0);
    }
    for (unsigned i = 0; i < size; i++)
        assert_int_equal(pthread_join(members[i].thread, NULL), 0);
    pthread_barrier_destroy(&all_here);
    for (unsigned i = 0; i < size; i++) {
        assert_int_equal(members[i].slot, members[i].slot_again);
        if (members[i].slot == CP_THREAD_SLOT_SHARED)
            continue;
        assert_true(members[i].slot < CP_THREAD_SLOTS);
        assert_false(taken[members[i].slot]);
        taken[members[i].slot] = true;
        owners++;
    }
    return owners;
}

static void thread_slots_are_unique_among_the_living(void **state)
{
    (void)state;
    assert_true(cp_thread_slot() < CP_THREAD_SLOTS);
    assert_int_equal(run_crowd(CROWD), CP_THREAD_SLOTS - 1);
}

static void thread_slots_return_when_threads_end(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(run_crowd(CP_THREAD_SLOTS - 1), CP_THREAD_SLOTS - 1);
}

static uint64_t counts[CP_THREAD_SLOTS + 1];

/* A plain increment in an own slot, as statistics do it: the next owner must see it. */
static void *add_in_own_slot(void *argument)
{
    (void)argument;
    unsigned slot = cp_thread_slot();
    for (unsigned i = 0; i < ADDS_PER_THREAD; i++) {
        if (slot == CP_THREAD_SLOT_SHARED)
            __atomic_fetch_add(&counts[slot], 1, __ATOMIC_RELAXED);
        else
            counts[slot]++;
    }
    return NULL;
}

static void *run_generations(void *argument)
{
    for (unsigned i = 0; i < GENERATIONS; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, add_in_own_slot, argument) != 0)
            return argument; /* shows in the sum */
        pthread_join(thread, NULL);
    }
    return NULL;
}

static void thread_slot_hands_its_counts_to_the_next_owner(void **state)
{
    pthread_t threads[GENERATION_SIZE];
    uint64_t sum = 0;
    (void)state;
    memset(counts, 0, sizeof counts);
    for (unsigned i = 0; i < GENERATION_SIZE; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_generations, NULL), 0);
    for (unsigned i = 0; i < GENERATION_SIZE; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (unsigned i = 0; i <= CP_THREAD_SLOTS; i++)
        sum += counts[i];
    assert_int_equal(sum, GENERATION_SIZE * GENERATIONS * ADDS_PER_THREAD);
}

/* ---- futex --------------------------------------------------------------------------------------
 */

static void thread_futex_returns_at_once_when_the_word_differs(void **state)
{
    uint32_t word = 1;
    (void)state;
    errno = ERANGE;
    assert_true(cp_futex_wait(&word, 2, 0));
    cp_futex_wake(&word, 1);
    assert_int_equal(errno, ERANGE);
}

static void thread_futex_times_out(void **state)
{
    uint32_t word = 1;
    const uint64_t begun_ns = cp_now_ns();
    (void)state;
    errno = ERANGE;
    while (cp_futex_wait(&word, 1, 2000000))
        assert_true(cp_now_ns() - begun_ns < FUTEX_TIMEOUT_NS);
    assert_true(cp_now_ns() - begun_ns >= 2000000);
    assert_int_equal(errno, ERANGE);
}

struct door {
    uint32_t word;
    uint32_t passed;
};

static void *wait_at_door(void *argument)
{
    struct door *door = argument;
    while (__atomic_load_n(&door->word, __ATOMIC_ACQUIRE) == 0) {
        if (!cp_futex_wait(&door->word, 0, FUTEX_TIMEOUT_NS))
            return NULL;
    }
    __atomic_fetch_add(&door->passed, 1, __ATOMIC_RELAXED);
    return NULL;
}

static void thread_futex_wake_reaches_all(void **state)
{
    struct door door = {0, 0};
    pthread_t threads[GENERATION_SIZE];
    (void)state;
    for (unsigned i = 0; i < GENERATION_SIZE; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, wait_at_door, &door), 0);
    __atomic_store_n(&door.word, 1, __ATOMIC_RELEASE);
    cp_futex_wake(&door.word, INT32_MAX);
    for (unsigned i = 0; i < GENERATION_SIZE; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(door.passed, GENERATION_SIZE);
}

/* ---- clock, fork, small stacks ------------------------------------------------------------------
 */

static void thread_clock_never_goes_back(void **state)
{
    uint64_t last_ns = cp_now_ns();
    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t now_ns = cp_now_ns();
        assert_true(now_ns >= last_ns);
        last_ns = now_ns;
    }
}

static void thread_fork_guard_notices_the_child(void **state)
{
    struct cp_fork_guard guard;
    (void)state;
    int code = cp_fork_guard_init(&guard);
    if (code == -EINVAL) {
        print_message("this kernel has no MADV_WIPEONFORK\n");
        skip();
    }
    assert_int_equal(code, 0);
    assert_true(cp_fork_guard_same(&guard));
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(cp_fork_guard_same(&guard) ? 1 : 0);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_true(cp_fork_guard_same(&guard));
    cp_fork_guard_fini(&guard);
    assert_null(guard.word);
}

static void *use_base_on_a_small_stack(void *argument)
{
    char text[512];
    uint64_t word = CP_LATCH_EXCLUSIVE;
    bool *done = argument;
    unsigned slot = cp_thread_slot();
    int code = cp_latch_wait(&word, CP_LATCH_EXCLUSIVE, NULL, NULL, 1);
    (void)cp_error_set(code, "/data", slot, 0, NULL, "waiting for %s", "a latch");
    *done = strstr(cp_error_format(text, sizeof text), "CP_ETIMEDOUT") != NULL;
    return NULL;
}

static void thread_64_kib_of_stack_suffice(void **state)
{
    pthread_attr_t attributes;
    pthread_t thread;
    bool done = false;
    (void)state;
    assert_int_equal(pthread_attr_init(&attributes), 0);
    assert_int_equal(pthread_attr_setstacksize(&attributes, STACK_BYTES), 0);
    assert_int_equal(pthread_create(&thread, &attributes, use_base_on_a_small_stack, &done), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    pthread_attr_destroy(&attributes);
    assert_true(done);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thread_slots_are_unique_among_the_living),
        cmocka_unit_test(thread_slots_return_when_threads_end),
        cmocka_unit_test(thread_slot_hands_its_counts_to_the_next_owner),
        cmocka_unit_test(thread_futex_returns_at_once_when_the_word_differs),
        cmocka_unit_test(thread_futex_times_out),
        cmocka_unit_test(thread_futex_wake_reaches_all),
        cmocka_unit_test(thread_clock_never_goes_back),
        cmocka_unit_test(thread_fork_guard_notices_the_child),
        cmocka_unit_test(thread_64_kib_of_stack_suffice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
