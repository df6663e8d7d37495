/* SPDX-License-Identifier: MIT */
/*
 * The word latch under contention: exclusive means alone, shared means no writer, an optimistic
 * reader that validates saw no half-made change, and no wake is lost.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include <clockpool/base/latch.h>

#define THREADS       4u
#define STEPS         20000u
#define WAKE_ROUNDS   20000u
#define VERSION_SHIFT 48u
#define WAIT_LIMIT_NS UINT64_C(20000000000)

static uint64_t seed;

/* xorshift64*: each thread has its own, so that a seed decides the whole run of each. */
static uint64_t next_random(uint64_t *x)
{
    *x ^= *x >> 12;
    *x ^= *x << 25;
    *x ^= *x >> 27;
    return *x * UINT64_C(0x2545f4914f6cdd1d);
}

static int read_seed(void **state)
{
    const char *text = getenv("CP_TEST_SEED");
    (void)state;
    seed = text != NULL ? strtoull(text, NULL, 0) : cp_now_ns();
    print_message("CP_TEST_SEED=%llu\n", (unsigned long long)seed);
    return 0;
}

struct shared {
    uint64_t word;
    uint64_t first, second; /* equal, except inside an exclusive hold; plain on purpose: TSan */
    uint64_t seen_first, seen_second; /* the same for optimistic readers, by relaxed atomics */
    unsigned torn, late;              /* violations found; atomic */
    bool flag;                        /* of the wake test */
    uint32_t turn;
};

struct worker {
    struct shared *shared;
    uint64_t random;
    uint64_t increments;
    uint64_t validated;
    pthread_t thread;
};

static void count(unsigned *counter)
{
    __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

/* Take the latch as the engines do; false when it could not be had in the time allowed. */
static bool acquire(struct shared *s, bool exclusive)
{
    const uint64_t deadline_ns = cp_now_ns() + WAIT_LIMIT_NS;
    uint64_t word = cp_word_load(&s->word);
    for (;;) {
        unsigned latch = cp_word_latch(word);
        if (exclusive ? latch == CP_LATCH_FREE : latch < CP_LATCH_SHARED_MAX) {
            unsigned next = exclusive ? CP_LATCH_EXCLUSIVE : latch + 1;
            if (cp_word_cas(&s->word, &word, cp_word_with_latch(word, next)))
                return true;
            continue;
        }
        if (cp_latch_wait(&s->word, word, NULL, NULL, deadline_ns) != 0) {
            count(&s->late);
            return false;
        }
        word = cp_word_load(&s->word);
    }
}

static void change(struct shared *s, struct worker *w)
{
    if (!acquire(s, true))
        return;
    if (s->first != s->second)
        count(&s->torn);
    s->first++;
    __atomic_store_n(&s->seen_first, s->first, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < next_random(&w->random) % 8; i++)
        cp_cpu_relax();
    s->second++;
    /* release: a reader that saw this store sees the latch that was taken before it */
    __atomic_store_n(&s->seen_second, s->second, __ATOMIC_RELEASE);
    w->increments++;
    if (next_random(&w->random) % 2 == 0)
        cp_latch_release_exclusive(&s->word, UINT64_C(1) << VERSION_SHIFT);
    else
        cp_latch_release_exclusive_fast(&s->word, UINT64_C(1) << VERSION_SHIFT);
}

static void look(struct shared *s, struct worker *w)
{
    if (!acquire(s, false))
        return;
    if (s->first != s->second)
        count(&s->torn);
    if (next_random(&w->random) % 2 == 0)
        cp_latch_release_shared(&s->word);
    else
        cp_latch_release_shared_fast(&s->word);
}

static void look_optimistically(struct shared *s, struct worker *w)
{
    const uint64_t ignored = CP_WORD_LATCH | CP_WORD_WAITERS | CP_WORD_REF;
    uint64_t begun = cp_word_load(&s->word);
    if (!cp_word_readable(begun))
        return;
    /* acquire: pairs with the release in change; orders both loads before the word's second one */
    uint64_t second = __atomic_load_n(&s->seen_second, __ATOMIC_ACQUIRE);
    uint64_t first = __atomic_load_n(&s->seen_first, __ATOMIC_ACQUIRE);
    uint64_t word = __atomic_load_n(&s->word, __ATOMIC_RELAXED);
    if (((word ^ begun) & ~ignored) != 0 || !cp_word_readable(word))
        return;
    w->validated++;
    if (first != second)
        count(&s->torn);
}

static void *work(void *argument)
{
    struct worker *w = argument;
    for (unsigned step = 0; step < STEPS; step++) {
        uint64_t choice = next_random(&w->random) % 8;
        if (choice < 3)
            change(w->shared, w);
        else if (choice < 6)
            look(w->shared, w);
        else
            look_optimistically(w->shared, w);
    }
    return NULL;
}

static void latch_stress_holds_exclude_each_other(void **state)
{
    struct shared s = {.word = 0};
    struct worker workers[THREADS] = {{0}};
    uint64_t increments = 0;
    uint64_t validated = 0;
    (void)state;
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i].shared = &s;
        workers[i].random = (seed + i) | 1;
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
        increments += workers[i].increments;
        validated += workers[i].validated;
    }
    assert_int_equal(s.torn, 0);
    assert_int_equal(s.late, 0);
    assert_true(increments > 0);
    assert_true(validated > 0);
    assert_int_equal(s.first, increments);
    assert_int_equal(s.second, increments);
    assert_int_equal(cp_word_latch(s.word), CP_LATCH_FREE);
    assert_true((s.word & CP_WORD_WAITERS) == 0);
    assert_true(s.word == increments << VERSION_SHIFT);
}

/* ---- cp_latch_wake: the condition changes, the word does not ------------------------------------
 */

static bool flag_is_down(void *ctx)
{
    struct shared *s = ctx;
    return !__atomic_load_n(&s->flag, __ATOMIC_RELAXED);
}

static void *wait_for_flags(void *argument)
{
    struct shared *s = argument;
    for (unsigned round = 0; round < WAKE_ROUNDS; round++) {
        const uint64_t deadline_ns = cp_now_ns() + WAIT_LIMIT_NS / 4;
        __atomic_store_n(&s->turn, 2 * round + 1, __ATOMIC_RELEASE);
        while (flag_is_down(s)) {
            if (cp_latch_wait(&s->word, CP_LATCH_EXCLUSIVE, flag_is_down, s, deadline_ns) != 0) {
                count(&s->late);
                return NULL;
            }
        }
        __atomic_store_n(&s->flag, false, __ATOMIC_RELAXED);
        __atomic_store_n(&s->turn, 2 * round + 2, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void latch_stress_no_wake_is_lost(void **state)
{
    struct shared s = {.word = CP_LATCH_EXCLUSIVE};
    uint64_t random = seed | 1;
    pthread_t thread;
    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, wait_for_flags, &s), 0);
    for (unsigned round = 0; round < WAKE_ROUNDS; round++) {
        /* acquire: pairs with the releases in wait_for_flags */
        while (__atomic_load_n(&s.turn, __ATOMIC_ACQUIRE) != 2 * round + 1)
            if (__atomic_load_n(&s.late, __ATOMIC_RELAXED) != 0)
                break;
        /* Anywhere between the waiter's first look and its sleep. */
        for (uint64_t i = next_random(&random) % (2 * CP_LATCH_SPIN_LIMIT); i != 0; i--)
            cp_cpu_relax();
        __atomic_store_n(&s.flag, true, __ATOMIC_RELAXED);
        cp_latch_wake(&s.word);
        while (__atomic_load_n(&s.turn, __ATOMIC_ACQUIRE) < 2 * round + 2)
            if (__atomic_load_n(&s.late, __ATOMIC_RELAXED) != 0)
                break;
        if (__atomic_load_n(&s.late, __ATOMIC_RELAXED) != 0)
            break;
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(s.late, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(latch_stress_holds_exclude_each_other),
        cmocka_unit_test(latch_stress_no_wake_is_lost),
    };
    return cmocka_run_group_tests(tests, read_seed, NULL);
}
