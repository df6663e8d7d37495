/* SPDX-License-Identifier: MIT */
/*
 * The word latch: what each release leaves behind, and that every way to end a wait wakes the
 * waiter. A waiter is known to be on its way to sleep when the waiters bit is set; no sleeps here.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <clockpool/base/latch.h>

#define OWNER_BITS    UINT64_C(0x00abcdef00000000)
#define VERSION_ONE   (UINT64_C(1) << 56)   /* eight bits of version */
#define WAIT_LIMIT_NS UINT64_C(10000000000) /* far beyond any wait that works */
#define ROUNDS        100u

static uint64_t version_bits(uint64_t version)
{
    return version * VERSION_ONE;
}

static void latch_release_shared_lowers_the_count_only(void **state)
{
    uint64_t word = OWNER_BITS | version_bits(3) | CP_WORD_REF | 2;
    (void)state;
    cp_latch_release_shared(&word);
    assert_true(word == (OWNER_BITS | version_bits(3) | CP_WORD_REF | 1));
    cp_latch_release_shared(&word);
    assert_true(word == (OWNER_BITS | version_bits(3) | CP_WORD_REF));
}

static void latch_release_shared_keeps_waiters_until_free(void **state)
{
    uint64_t word = CP_WORD_WAITERS | 2;
    (void)state;
    cp_latch_release_shared(&word);
    assert_true(word == (CP_WORD_WAITERS | 1));
    cp_latch_release_shared(&word);
    assert_true(word == 0);
}

static void latch_release_exclusive_raises_the_version(void **state)
{
    uint64_t word =
        OWNER_BITS | version_bits(3) | CP_WORD_REF | CP_WORD_WAITERS | CP_LATCH_EXCLUSIVE;
    (void)state;
    cp_latch_release_exclusive(&word, VERSION_ONE);
    assert_true(word == (OWNER_BITS | version_bits(4) | CP_WORD_REF));
}

/* The inline releases do the same, whether anybody waits or not. */
static void latch_fast_releases_equal_the_slow_ones(void **state)
{
    const uint64_t rest[] = {0, CP_WORD_REF, CP_WORD_WAITERS, CP_WORD_WAITERS | CP_WORD_REF,
                             OWNER_BITS | version_bits(255)};
    (void)state;
    for (unsigned i = 0; i < sizeof rest / sizeof rest[0]; i++) {
        uint64_t fast = rest[i] | CP_LATCH_EXCLUSIVE;
        uint64_t slow = fast;
        cp_latch_release_exclusive_fast(&fast, VERSION_ONE);
        cp_latch_release_exclusive(&slow, VERSION_ONE);
        assert_true(fast == slow);
        for (unsigned holders = 1; holders <= CP_LATCH_SHARED_MAX; holders++) {
            fast = rest[i] | holders;
            slow = fast;
            cp_latch_release_shared_fast(&fast);
            cp_latch_release_shared(&slow);
            assert_true(fast == slow);
        }
    }
}

static void latch_version_wraps_within_its_width(void **state)
{
    uint64_t word = OWNER_BITS | version_bits(255) | CP_LATCH_EXCLUSIVE;
    (void)state;
    cp_latch_release_exclusive(&word, VERSION_ONE);
    assert_true(word == OWNER_BITS);
}

static void latch_publish_sets_the_word_without_waiters(void **state)
{
    uint64_t word = CP_WORD_WAITERS | CP_LATCH_LOADING;
    (void)state;
    cp_latch_publish(&word, OWNER_BITS | CP_WORD_WAITERS | 1);
    assert_true(word == (OWNER_BITS | 1));
}

static void latch_readable_when_free_or_shared(void **state)
{
    (void)state;
    for (unsigned latch = 0; latch < 256; latch++)
        assert_int_equal(cp_word_readable(OWNER_BITS | latch), latch <= CP_LATCH_SHARED_MAX);
    assert_true(cp_word_with_latch(OWNER_BITS | 255, 7) == (OWNER_BITS | 7));
}

static void latch_wait_returns_at_once_when_the_word_changed(void **state)
{
    uint64_t word = version_bits(4) | CP_LATCH_EXCLUSIVE;
    (void)state;
    assert_int_equal(cp_latch_wait(&word, version_bits(3) | CP_LATCH_EXCLUSIVE, NULL, NULL, 0), 0);
    assert_true((word & CP_WORD_WAITERS) == 0);
}

static void latch_wait_times_out_and_leaves_the_waiters_bit(void **state)
{
    uint64_t word = CP_LATCH_EXCLUSIVE;
    const uint64_t deadline_ns = cp_now_ns() + 2000000;
    (void)state;
    assert_int_equal(cp_latch_wait(&word, CP_LATCH_EXCLUSIVE, NULL, NULL, 1), CP_ETIMEDOUT);
    int code;
    do { /* spurious returns are allowed; the deadline ends them */
        code = cp_latch_wait(&word, CP_LATCH_EXCLUSIVE, NULL, NULL, deadline_ns);
    } while (code == 0);
    assert_int_equal(code, CP_ETIMEDOUT);
    assert_true(cp_now_ns() >= deadline_ns);
    assert_true(word == (CP_WORD_WAITERS | CP_LATCH_EXCLUSIVE));
}

static void latch_wait_ignores_a_new_ref_bit(void **state)
{
    uint64_t word = CP_LATCH_EXCLUSIVE | CP_WORD_REF;
    (void)state;
    assert_int_equal(cp_latch_wait(&word, CP_LATCH_EXCLUSIVE, NULL, NULL, 1), CP_ETIMEDOUT);
}

static bool never(void *ctx)
{
    (*(unsigned *)ctx)++;
    return false;
}

static void latch_wait_asks_before_it_sleeps(void **state)
{
    uint64_t word = CP_LATCH_EXCLUSIVE;
    unsigned asked = 0;
    (void)state;
    assert_int_equal(cp_latch_wait(&word, CP_LATCH_EXCLUSIVE, never, &asked, 0), 0);
    assert_int_equal(asked, 1);
}

/* ---- somebody sleeps, somebody wakes -----------------------------------------------------------
 */

struct sleeper {
    uint64_t word;
    uint64_t seen;
    uint32_t stop; /* the condition of cp_latch_wake's waiters */
    int code;
};

static bool not_stopped(void *ctx)
{
    struct sleeper *s = ctx;
    return __atomic_load_n(&s->stop, __ATOMIC_RELAXED) == 0;
}

/* Wait until the word differs from what was seen, or until told to stop. */
static void *sleep_on_word(void *argument)
{
    struct sleeper *s = argument;
    const uint64_t ignored = CP_WORD_WAITERS | CP_WORD_REF;
    const uint64_t deadline_ns = cp_now_ns() + WAIT_LIMIT_NS;
    s->code = 0;
    while (s->code == 0 && not_stopped(s) && ((cp_word_load(&s->word) ^ s->seen) & ~ignored) == 0)
        s->code = cp_latch_wait(&s->word, s->seen, not_stopped, s, deadline_ns);
    return NULL;
}

/* Let a thread sleep on a word, do what should wake it, and see that it woke in time. */
static void check_wakes(uint64_t held, void (*end_wait)(struct sleeper *s))
{
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct sleeper s = {.word = held, .seen = held};
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, sleep_on_word, &s), 0);
        while ((cp_word_load(&s.word) & CP_WORD_WAITERS) == 0)
            sched_yield();
        end_wait(&s);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(s.code, 0);
        assert_true((s.word & CP_WORD_WAITERS) == 0);
    }
}

static void end_by_release_exclusive(struct sleeper *s)
{
    cp_latch_release_exclusive(&s->word, VERSION_ONE);
}

static void end_by_release_shared(struct sleeper *s)
{
    cp_latch_release_shared(&s->word);
}

static void end_by_publish(struct sleeper *s)
{
    cp_latch_publish(&s->word, OWNER_BITS);
}

static void end_by_wake(struct sleeper *s)
{
    __atomic_store_n(&s->stop, 1, __ATOMIC_RELAXED);
    cp_latch_wake(&s->word);
}

static void latch_release_exclusive_wakes(void **state)
{
    (void)state;
    check_wakes(CP_LATCH_EXCLUSIVE, end_by_release_exclusive);
}

static void latch_last_release_shared_wakes(void **state)
{
    (void)state;
    check_wakes(1, end_by_release_shared);
}

static void latch_release_from_a_full_house_wakes(void **state)
{
    (void)state;
    check_wakes(CP_LATCH_SHARED_MAX, end_by_release_shared);
}

static void latch_publish_wakes(void **state)
{
    (void)state;
    check_wakes(CP_LATCH_LOADING, end_by_publish);
}

static void latch_wake_wakes_without_changing_the_state(void **state)
{
    (void)state;
    check_wakes(OWNER_BITS | CP_LATCH_EXCLUSIVE, end_by_wake);
}

/* ---- programmer errors -------------------------------------------------------------------------
 */

#ifdef CP_DEBUG
static void release_free_shared(uint64_t *word)
{
    *word = 0;
    cp_latch_release_shared(word);
}

static void release_shared_as_exclusive(uint64_t *word)
{
    *word = 1;
    cp_latch_release_exclusive(word, VERSION_ONE);
}

static void release_free_shared_fast(uint64_t *word)
{
    *word = 0;
    cp_latch_release_shared_fast(word);
}

static void release_shared_as_exclusive_fast(uint64_t *word)
{
    *word = 1;
    cp_latch_release_exclusive_fast(word, VERSION_ONE);
}

static void publish_unheld(uint64_t *word)
{
    *word = 1;
    cp_latch_publish(word, 0);
}

static void assert_aborts(void (*misuse)(uint64_t *word))
{
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit no_core = {0, 0};
        uint64_t word;
        /* cmocka's handler, inherited, would run the rest of the tests in the child */
        signal(SIGABRT, SIG_DFL);
        setrlimit(RLIMIT_CORE, &no_core);
        if (freopen("/dev/null", "w", stderr) == NULL)
            _exit(2);
        misuse(&word);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}
#endif

static void latch_misuse_aborts_in_debug_builds(void **state)
{
    (void)state;
#ifdef CP_DEBUG
    assert_aborts(release_free_shared);
    assert_aborts(release_shared_as_exclusive);
    assert_aborts(release_free_shared_fast);
    assert_aborts(release_shared_as_exclusive_fast);
    assert_aborts(publish_unheld);
#else
    print_message("only debug builds check this\n");
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(latch_release_shared_lowers_the_count_only),
        cmocka_unit_test(latch_release_shared_keeps_waiters_until_free),
        cmocka_unit_test(latch_release_exclusive_raises_the_version),
        cmocka_unit_test(latch_fast_releases_equal_the_slow_ones),
        cmocka_unit_test(latch_version_wraps_within_its_width),
        cmocka_unit_test(latch_publish_sets_the_word_without_waiters),
        cmocka_unit_test(latch_readable_when_free_or_shared),
        cmocka_unit_test(latch_wait_returns_at_once_when_the_word_changed),
        cmocka_unit_test(latch_wait_times_out_and_leaves_the_waiters_bit),
        cmocka_unit_test(latch_wait_ignores_a_new_ref_bit),
        cmocka_unit_test(latch_wait_asks_before_it_sleeps),
        cmocka_unit_test(latch_release_exclusive_wakes),
        cmocka_unit_test(latch_last_release_shared_wakes),
        cmocka_unit_test(latch_release_from_a_full_house_wakes),
        cmocka_unit_test(latch_publish_wakes),
        cmocka_unit_test(latch_wake_wakes_without_changing_the_state),
        cmocka_unit_test(latch_misuse_aborts_in_debug_builds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
