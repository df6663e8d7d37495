/* SPDX-License-Identifier: MIT */
/*
 * The fault sweep (as SQLite does it): the n-th call below the pager fails, for n = 1 and on until
 * the workload no longer makes n calls; once, or from then on for ever; in each of the ways in
 * which calls fail. The workload opens the store, changes it, crashes, recovers, changes it, and
 * crashes or closes. Under the fault each call ends in a code or in right data; afterwards, without
 * faults, the store holds all that was acknowledged and nothing by halves.
 *
 * Under sanitizers and valgrind the sweep takes steps (and says so).
 */
#include "snapshot.h"
#include "workload.h"

#include "support/fault_io.h"

#include <time.h>

#include <clockpool/base/poison.h>

/* What the fault may do beyond failing: see judge. */
enum expect {
    EXPECT_INTACT,    /* the files hold what was acknowledged: reopening finds it, without errors */
    EXPECT_UNNOTICED, /* as above, and not even an error under the fault: the call is repeated */
    EXPECT_DETECTED,  /* files were damaged: errors afterwards, or right data */
    EXPECT_LOST, /* writes were lost, which an old page does not show: whole pages, and counted */
};

struct sweep {
    const char *name;
    struct fault_rule rule; /* nth is filled in */
    enum expect expect;
    unsigned step; /* every step-th n: of classes that are like another */
};

static const struct sweep sweeps[] = {
    {"any call, EIO, once", {.on = FAULT_ANY, .code = -EIO}, EXPECT_INTACT, 1},
    {"any call, EIO, for ever",
     {.on = FAULT_ANY, .code = -EIO, .times = UINT64_MAX},
     EXPECT_INTACT,
     4},
    {"any call, ENOSPC, once", {.on = FAULT_ANY, .code = -ENOSPC}, EXPECT_INTACT, 3},
    {"writes, ENOSPC, for ever",
     {.on = FAULT_WRITE, .code = -ENOSPC, .times = UINT64_MAX},
     EXPECT_INTACT,
     1},
    {"allocation of space, ENOSPC, for ever",
     {.on = FAULT_ALLOCATE, .code = -ENOSPC, .times = UINT64_MAX},
     EXPECT_INTACT,
     1},
    {"completions, EIO, once", {.on = FAULT_COMPLETION, .code = -EIO}, EXPECT_INTACT, 1},
    {"reads, EINTR, three times",
     {.on = FAULT_READ, .code = -EINTR, .times = 3},
     EXPECT_UNNOTICED,
     2},
    {"writes, EINTR, three times",
     {.on = FAULT_WRITE, .code = -EINTR, .times = 3},
     EXPECT_UNNOTICED,
     2},
    {"writes, EINTR, for ever",
     {.on = FAULT_WRITE, .code = -EINTR, .times = UINT64_MAX},
     EXPECT_INTACT,
     5},
    {"reads, short, for ever",
     {.on = FAULT_READ, .effect = FAULT_SHORT, .bytes = 1024, .times = UINT64_MAX},
     EXPECT_UNNOTICED,
     5},
    {"writes, short, for ever",
     {.on = FAULT_WRITE, .effect = FAULT_SHORT, .bytes = 512, .times = UINT64_MAX},
     EXPECT_UNNOTICED,
     5},
    {"writes, short, then EIO",
     {.on = FAULT_WRITE, .effect = FAULT_SHORT, .bytes = 512, .code = -EIO},
     EXPECT_INTACT,
     1},
    {"syncs, EIO, once", {.on = FAULT_SYNC, .code = -EIO}, EXPECT_INTACT, 1},
    {"syncs, done and then EIO",
     {.on = FAULT_SYNC, .effect = FAULT_AFTER, .code = -EIO},
     EXPECT_INTACT,
     1},
    {"writes, done and then EIO",
     {.on = FAULT_WRITE, .effect = FAULT_AFTER, .code = -EIO},
     EXPECT_INTACT,
     1},
    {"reads, a flipped bit", {.on = FAULT_READ, .effect = FAULT_FLIP}, EXPECT_INTACT, 1},
    {"writes, 4 KiB too far",
     {.on = FAULT_WRITE, .effect = FAULT_MISDIRECT, .bytes = 4096},
     EXPECT_LOST,
     1},
    {"writes, lost", {.on = FAULT_WRITE, .effect = FAULT_LOSE}, EXPECT_LOST, 1},
};

struct totals {
    unsigned runs, hits, errors, refused, stale_runs, stale_pages;
};

static struct snapshot base;
static struct history base_history, history;
static unsigned stride = 1;

/* ---- the store ----------------------------------------------------------------------------------
 */

static void make_base(void)
{
    remove_tree(in_directory("base"));
    workload_create(in_directory("base"), &base_history);
    snapshot_free(&base);
    snapshot_load(&base, in_directory("base"));
}

static void begin_run(struct workload *work, uint64_t seed)
{
    snapshot_restore(&base, store_path());
    history = base_history;
    *work = (struct workload){.history = &history, .random = seed};
}

/* ---- a run --------------------------------------------------------------------------------------
 */

static bool open_work(struct workload *work, struct cp_io *io)
{
    struct cp_pager_options options = workload_options(io);
    work->pager = NULL;
    int code = cp_pager_open(store_path(), &options, &work->pager);
    if (code != 0 && work->errors++ == 0) {
        work->first_error = code;
        work->first_call = "cp_pager_open";
    }
    return code == 0;
}

static void end_session(struct workload *work, bool abandon)
{
    if (abandon) {
        cp_pager_abandon(work->pager);
        return;
    }
    int code = cp_pager_close(work->pager);
    if (code == 0)
        work->history->acked = work->history->count;
    else if (work->errors++ == 0)
        work->first_error = code;
}

/* Two sessions, the first of which ends in a crash. */
static void run(struct workload *work, struct cp_io *io, bool abandon)
{
    if (!open_work(work, io))
        return;
    workload_first(work);
    end_session(work, true);
    if (!open_work(work, io))
        return;
    bool settled = workload_settle(work);
    if (settled)
        workload_second(work);
    end_session(work, abandon || !settled);
}

/* ---- what is there afterwards -------------------------------------------------------------------
 */

struct verdict {
    const char *name;
    uint64_t nth;
    const struct workload *work;
    enum expect expect;
    bool damaging; /* files may hold what nobody wrote there */
};

static void complain(const struct verdict *v, const struct seen *seen, const char *what)
{
    char text[800];
    print_error("%s, call %llu: %s\n", v->name, (unsigned long long)v->nth, what);
    print_error("first error under the fault: %s from %s\n", cp_status_name(v->work->first_error),
                v->work->first_call != NULL ? v->work->first_call : "nothing");
    print_error("last error: %s\n", cp_error_format(text, sizeof text));
    if (seen != NULL)
        history_explain(v->work->history, seen);
    fail();
}

static void judge_pages(const struct verdict *v, struct cp_pager *pager, struct totals *totals)
{
    static struct seen seen;
    bool damaging = v->expect == EXPECT_DETECTED || v->expect == EXPECT_LOST;
    uint32_t stale = 0;
    history_look(v->work->history, pager, &seen);
    totals->errors += seen.errors;
    if (history_match(v->work->history, &seen, damaging) >= 0)
        return;
    if (v->expect != EXPECT_LOST)
        complain(v, &seen, "what was acknowledged is not there, or not whole");
    if (!history_whole(v->work->history, &seen, &stale))
        complain(v, &seen, "a page holds what nobody wrote");
    totals->stale_runs++;
    totals->stale_pages += stale;
}

static void judge(const struct verdict *v, struct totals *totals)
{
    struct cp_pager_options options = workload_options(NULL);
    struct cp_pager *pager;
    bool damaging = v->expect == EXPECT_DETECTED || v->expect == EXPECT_LOST;

    totals->runs++;
    if (v->work->wrong)
        complain(v, NULL, "under the fault a page was read that is not what it should be");
    if (v->expect == EXPECT_UNNOTICED && v->work->errors != 0)
        complain(v, NULL, "an error, though the call can be repeated");
    int code = cp_pager_open(store_path(), &options, &pager);
    if (code != 0 && !damaging)
        complain(v, NULL, "the store does not open any more");
    if (code != 0) {
        totals->refused++;
        return;
    }
    judge_pages(v, pager, totals);
    int64_t bad = cp_pager_check(pager, NULL, NULL, NULL);
    if (bad != 0 && !damaging)
        complain(v, NULL, "cp_pager_check finds bad pages");
    code = cp_pager_close(pager);
    if (code != 0 && !damaging)
        complain(v, NULL, "closing what was recovered fails");
}

/* ---- the sweep ----------------------------------------------------------------------------------
 */

/* One run with the fault at call nth; false when the workload did not get that far. */
static bool run_fault(const struct sweep *sweep, uint64_t nth, struct totals *totals)
{
    struct fault_io *faults = fault_io_create(cp_io_backend_sync(), FAULT_RING_DEFERRED);
    const struct cp_io_options io_options = {.backend = fault_io_backend(faults),
                                             .backend_ctx = faults};
    struct fault_rule rule = sweep->rule;
    struct workload work;
    struct cp_io *io;

    begin_run(&work, 12345 + nth % 3);
    work.stale_allowed = sweep->expect == EXPECT_LOST;
    assert_ok(cp_io_create(&io_options, &io));
    rule.nth = nth;
    rule.bit = nth * 2654435761u;
    fault_io_rule(faults, &rule);
    if (rule.effect == FAULT_SHORT && rule.code != 0) {
        struct fault_rule then = {.on = rule.on, .nth = nth + 1, .code = rule.code};
        fault_io_rule(faults, &then);
    }
    run(&work, io, nth % 2 == 0);
    bool fired = fault_io_fired(faults) > 0;
    cp_io_destroy(io);
    fault_io_destroy(faults);
    totals->hits += fired;
    if (fired)
        judge(
            &(struct verdict){
                .name = sweep->name, .nth = nth, .work = &work, .expect = sweep->expect},
            totals);
    return fired;
}

static void run_sweep(const struct sweep *sweep)
{
    struct totals totals = {0};
    struct timespec begin, end;
    uint64_t nth = 1;
    unsigned misses = 0;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    /* Runs differ a little in the number of calls: three in a row must not reach n. */
    for (; misses < 3; nth += sweep->step * stride)
        misses = run_fault(sweep, nth, &totals) ? 0 : misses + 1;
    clock_gettime(CLOCK_MONOTONIC, &end);
    print_message("%-40s %4u runs of %4llu calls, %u unreadable pages, %u not opened, "
                  "%u with %u old pages, %.1f s\n",
                  sweep->name, totals.runs, (unsigned long long)nth, totals.errors, totals.refused,
                  totals.stale_runs, totals.stale_pages,
                  (double)(end.tv_sec - begin.tv_sec) +
                      (double)(end.tv_nsec - begin.tv_nsec) / 1e9);
    assert_true(totals.hits > 0); /* else nothing was swept */
}

static void sweep_without_fault_all_is_well(void **state)
{
    (void)state;
    struct totals totals = {0};
    const struct sweep none = {"no fault", {.on = FAULT_ANY, .code = -EIO}, EXPECT_UNNOTICED, 1};
    make_base();
    for (unsigned seed = 0; seed < 3; seed++)
        assert_false(run_fault(&none, 1000000 + seed, &totals));
    struct workload work; /* run_fault judges only what was hit */
    begin_run(&work, 1);
    run(&work, NULL, false);
    judge(&(struct verdict){.name = "no fault", .work = &work, .expect = EXPECT_UNNOTICED},
          &totals);
}

static void sweep_each_call_fails_in_turn(void **state)
{
    (void)state;
    make_base();
    for (unsigned i = 0; i < sizeof sweeps / sizeof sweeps[0]; i++)
        run_sweep(&sweeps[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sweep_without_fault_all_is_well),
        cmocka_unit_test(sweep_each_call_fails_in_turn),
    };
#if CP_POISONS
    stride = 7;
    print_message("sampled: every 7th call only, in this build\n");
#endif
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 0);
    int failed = RUN_ENGINE(CP_ENGINE_POOL, tests);
    return failed + RUN_ENGINE(CP_ENGINE_MMAP, tests);
}
