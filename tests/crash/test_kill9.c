/* SPDX-License-Identifier: MIT */
/*
 * The process dies (SIGKILL), the system lives: what the store has handed to the kernel stays, what
 * it had in memory is gone. A child works on a store with a small pool, so that eviction never
 * stops; the oracle is the parent's, told over a pipe what is attempted and acknowledged. The child
 * dies at its k-th call to the file system, for a sweep of k, or at any instruction, when the
 * parent kills it. Then the store is opened and compared, and the next child goes on with it.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "random.h"
#include "run.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ROUNDS 24u
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define ROUNDS 24u
#endif
#endif
#ifndef ROUNDS
#define ROUNDS 120u
#endif
#define STORES 7u /* one of each workload; a version has 8 bits for its branch, which is enough */

/* The child's side: marks go to the parent, and at the k-th event it dies. */
struct reporter {
    int fd;
    uint64_t events_left; /* 0: it does not kill itself */
};

static void report(void *ctx, const struct crash_event *event)
{
    struct reporter *reporter = ctx;
    if (event->kind == CRASH_MARK &&
        write(reporter->fd, event, sizeof *event) != (ssize_t)sizeof *event)
        _exit(3);
    if (reporter->events_left > 0 && --reporter->events_left == 0)
        raise(SIGKILL);
}

struct round {
    const struct crash_subject *subject;
    const char *root;
    struct crash_plan *plan;
    struct bench_random random;
    uint64_t seed;
    bool recover;
};

static void run_child(const struct round *round, int fd, uint64_t events)
{
    struct reporter reporter = {fd, events};
    struct crash_trace *trace = crash_trace_create();
    struct crash_session session = {.root = round->root,
                                    .plan = round->plan,
                                    .trace = trace,
                                    .seed = round->seed,
                                    .recover = round->recover};
    crash_trace_observe(trace, report, &reporter);
    int code = round->subject->record(&session);
    if (code != 0)
        dprintf(STDERR_FILENO, "%s\n", session.text);
    _exit(code == 0 ? 0 : 2);
}

/* Carry a round out. Returns the marks of what the child did. */
static struct crash_trace *run_round(struct round *round, unsigned number)
{
    int pipe_fds[2], status;
    struct crash_trace *marks = crash_trace_create();
    struct crash_event event;
    bool at_event = number % 2 == 0;
    uint64_t events = at_event ? 1 + bench_random_below(&round->random, 10 + 4 * number) : 0;
    uint64_t kill_after = at_event ? UINT64_MAX : bench_random_below(&round->random, 160);
    assert_int_equal(pipe(pipe_fds), 0);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(pipe_fds[0]);
        run_child(round, pipe_fds[1], events);
    }
    close(pipe_fds[1]);
    for (uint64_t count = 0;; count++) { /* ends: the child does */
        if (count == kill_after)
            kill(pid, SIGKILL);
        ssize_t got = read(pipe_fds[0], &event, sizeof event);
        if (got != (ssize_t)sizeof event)
            break; /* one that is cut off was not acknowledged to anybody */
        crash_trace_mark(marks, (enum crash_mark)event.mark, event.lane, event.transaction,
                         event.lsn);
    }
    close(pipe_fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true((WIFEXITED(status) && WEXITSTATUS(status) == 0) ||
                (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
    return marks;
}

static uint64_t seed_of_test(void)
{
    const char *text = getenv("CP_TEST_SEED");
    uint64_t value = text != NULL ? strtoull(text, NULL, 10) : (uint64_t)getpid();
    printf("CP_TEST_SEED=%" PRIu64 "\n", value);
    return value;
}

/* One store: killed, checked and continued. Returns the rounds. */
static unsigned kill_one_store(struct round *round, void *checker, unsigned done)
{
    struct crash_run run = {.subject = round->subject, .plan = round->plan};
    struct crash_verdict verdict;
    unsigned rounds = 0;
    for (unsigned lane = 0; lane < CRASH_LANES_MAX; lane++)
        run.start.low[lane] = run.start.high[lane] = -1;
    for (; rounds < ROUNDS / STORES; rounds++) {
        run.trace = run_round(round, done + rounds);
        struct crash_bounds bounds = run.start;
        crash_bounds_advance(&bounds, run.trace, 0, crash_trace_length(run.trace));
        crash_run_check(&run, checker, round->root, &bounds, (struct crash_mask){'p', 0},
                        done + rounds, rounds % 8 == 7, &verdict);
        crash_trace_destroy(run.trace);
        if (verdict.class != CRASH_FINE)
            printf("round %u (%s): %s: %s\n", done + rounds, round->plan->workload->name,
                   crash_class_name(verdict.class), verdict.text);
        assert_int_equal(verdict.class, CRASH_FINE);
        round->recover = !verdict.no_store && !verdict.no_root;
        round->seed++;
        run.start = bounds;
        memset(run.start.copies, 0, sizeof run.start.copies); /* of the plan that has ended */
        if (!round->recover)
            continue; /* the same plan again: nothing of it was acknowledged */
        struct crash_plan *next = crash_plan_branch(round->plan, verdict.versions, round->seed, 40);
        assert_non_null(next);
        for (unsigned lane = 0; lane < next->lanes; lane++)
            run.start.low[lane] = run.start.high[lane] =
                crash_version_transaction(verdict.versions[lane]);
        crash_plan_destroy(round->plan);
        run.plan = round->plan = next;
    }
    return rounds;
}

static void kill_engine(const char *engine)
{
    static const char *const names[STORES] = {"evict", "threads", "recycle", "background",
                                              "loose", "shrink",  "backup"};
    char root[PATH_MAX - 64];
    uint64_t seed = seed_of_test();
    struct round round = {.subject = crash_subject_find(engine), .root = root, .seed = seed};
    assert_non_null(round.subject);
    bench_random_init(&round.random, seed, 5);
    assert_int_equal(crash_workplace_create(NULL, root, sizeof root), 0);
    void *checker = round.subject->check_begin();
    unsigned done = 0;
    for (unsigned store = 0; store < STORES; store++) {
        crash_empty_directory(root);
        round.recover = false;
        round.plan = crash_plan_create(crash_workload_find(names[store]), seed + store);
        done += kill_one_store(&round, checker, done);
        crash_plan_destroy(round.plan);
    }
    round.subject->check_end(checker);
    crash_empty_directory(root);
    assert_int_equal(rmdir(root), 0);
    printf("%s: killed or ended %u times\n", engine, done);
}

static void kill9_pool_keeps_what_was_acknowledged(void **state)
{
    (void)state;
    kill_engine("pool");
}

static void kill9_mmap_keeps_what_was_acknowledged(void **state)
{
    (void)state;
    kill_engine("mmap");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kill9_pool_keeps_what_was_acknowledged),
        cmocka_unit_test(kill9_mmap_keeps_what_was_acknowledged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
