/* SPDX-License-Identifier: MIT */
/*
 * One trace: recording, listing, checking.
 *
 * The same image can be reached at many points. It is checked once, against the most that is asked
 * of it: what was acknowledged before the last point at which it is legal, and nothing that was
 * first attempted after the first such point. So the list is made in a pass of its own.
 */
#include "run.h"

#include "deterministic.h"
#include "random.h"
#include "recorder.h"

#include <clockpool/status.h>

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LISTED_MAX      (UINT64_C(1) << 21) /* states of one trace that are remembered */
#define CONTINUED_STEPS 8u
#define FLUSHES_TRIED   60u /* which flush fails, of a workload's first ones */

void crash_find(struct crash_verdict *verdict, enum crash_class class, const char *format, ...)
{
    va_list args;
    if (verdict->class >= class)
        return;
    verdict->class = class;
    va_start(args, format);
    vsnprintf(verdict->text, sizeof verdict->text, format, args);
    va_end(args);
}

const char *crash_class_name(enum crash_class class)
{
    static const char *const names[] = {"fine", "open failed", "lost", "torn", "corrupt", "signal"};
    return names[class];
}

/* ---- seeds ------------------------------------------------------------------------------------
 */

static bool supported(const struct crash_subject *subject, const struct crash_workload *workload)
{
    return subject->supports == NULL || subject->supports(workload);
}

/* The supported workload that a seed stands for. */
static const struct crash_workload *workload_of(const struct crash_subject *subject, uint64_t seed)
{
    unsigned count = 0;
    for (unsigned i = 0; i < crash_workload_count(); i++)
        count += supported(subject, crash_workload_at(i));
    uint64_t wanted = count > 0 ? seed % count : 0;
    for (unsigned i = 0; i < crash_workload_count(); i++) {
        if (supported(subject, crash_workload_at(i)) && wanted-- == 0)
            return crash_workload_at(i);
    }
    return NULL;
}

const struct crash_workload *crash_run_workload(const struct crash_search_options *options,
                                                uint64_t seed)
{
    return workload_of(options->subject, seed);
}

uint64_t crash_run_seed(const struct crash_search_options *options, uint64_t number)
{
    if (options->workload == NULL)
        return options->seed + number;
    /* The number-th seed that stands for the workload asked for. */
    uint64_t seed = options->seed;
    while (workload_of(options->subject, seed) != options->workload) /* ends: within one round */
        seed++;
    unsigned count = 0;
    for (unsigned i = 0; i < crash_workload_count(); i++)
        count += supported(options->subject, crash_workload_at(i));
    return seed + number * count;
}

/* ---- recording --------------------------------------------------------------------------------
 */

void crash_empty_directory(const char *root)
{
    struct crash_trace *nothing = crash_trace_create();
    struct crash_states *states = crash_states_create(nothing, 0);
    struct crash_image_files *image = crash_image_create(root);
    if (crash_states_choose(states, (struct crash_mask){'p', 0}))
        (void)crash_image_apply(image, states);
    crash_image_destroy(image);
    crash_states_destroy(states);
    crash_trace_destroy(nothing);
}

static int record(struct crash_run *run, const struct crash_search_options *options,
                  const char *root, bool recover, char *text, size_t capacity)
{
    struct crash_session session = {.root = root,
                                    .plan = run->plan,
                                    .trace = run->trace,
                                    .seed = run->seed,
                                    .recover = recover};
    if (options->fail_flushes)
        session.fail_flush = 1 + bench_mix(run->seed) % FLUSHES_TRIED;
    crash_deterministic_begin(run->seed);
    int code = run->subject->record(&session);
    crash_deterministic_end();
    run->no_space = code != 0 && (session.no_space || crash_workplace_full(root));
    if (code != 0)
        snprintf(text, capacity, "seed %" PRIu64 " (%s): %s", run->seed, run->plan->workload->name,
                 session.text);
    return code;
}

int crash_run_record(struct crash_run *run, const struct crash_search_options *options,
                     uint64_t seed, const char *root, char *text, size_t capacity)
{
    memset(run, 0, sizeof *run);
    run->subject = options->subject;
    run->seed = seed;
    run->plan = crash_plan_create(crash_run_workload(options, seed), seed);
    run->repeatable = run->subject->deterministic != NULL && run->subject->deterministic(run->plan);
    run->trace = crash_trace_create();
    snprintf(run->prefix, sizeof run->prefix, "%" PRIu64 "/", seed);
    for (unsigned lane = 0; lane < CRASH_LANES_MAX; lane++)
        run->start.low[lane] = run->start.high[lane] = -1;
    if (root == NULL)
        return 0;
    char note[128];
    snprintf(note, sizeof note, "engine=%s workload=%s seed=%" PRIu64, run->subject->name,
             run->plan->workload->name, seed);
    crash_trace_set_note(run->trace, note);
    crash_empty_directory(root);
    crash_trace_baseline(run->trace);
    return record(run, options, root, false, text, capacity);
}

int crash_run_continue(struct crash_run *run, const struct crash_search_options *options,
                       const struct crash_run *first, const struct crash_candidate *candidate,
                       const crash_version *versions, const char *root, char *text, size_t capacity)
{
    char mask[CRASH_MASK_BYTES], note[256];
    memset(run, 0, sizeof *run);
    run->subject = first->subject;
    run->seed = bench_mix(first->seed ^ bench_mix(candidate->hash));
    run->plan = crash_plan_branch(first->plan, versions, run->seed, CONTINUED_STEPS);
    if (run->plan == NULL) {
        snprintf(text, capacity, "the versions found are none of the plan's");
        return -1;
    }
    run->repeatable = first->repeatable;
    run->trace = crash_trace_create();
    if (snprintf(run->prefix, sizeof run->prefix, "%s%" PRIu64 "/%s/", first->prefix,
                 candidate->point,
                 crash_mask_format(candidate->mask, mask)) >= (int)sizeof run->prefix)
        abort(); /* the room is for two crashes, and there are no three */
    run->start.created = true;
    size_t length =
        (size_t)snprintf(note, sizeof note, "%s after=%" PRIu64 "/%s branch=%" PRIu64 " versions=",
                         crash_trace_note(first->trace), candidate->point, mask, run->seed);
    for (unsigned lane = 0; lane < CRASH_LANES_MAX; lane++) {
        run->start.low[lane] = candidate->bounds.low[lane];
        run->start.high[lane] = crash_version_transaction(versions[lane]);
        if (lane < run->plan->lanes && length < sizeof note)
            length += (size_t)snprintf(note + length, sizeof note - length, "%s%u",
                                       lane > 0 ? "," : "", versions[lane]);
    }
    crash_trace_set_note(run->trace, note);
    int code = crash_recorder_baseline(root, run->trace);
    if (code != 0) {
        snprintf(text, capacity, "reading the image: %s", strerror(-code));
        return -1;
    }
    return record(run, options, root, true, text, capacity);
}

/* The plan and the bounds that a note of crash_run_continue speaks of. False: it is damaged. */
static bool follow_note(struct crash_run *run, const char *branch)
{
    crash_version versions[CRASH_LANES_MAX] = {0};
    char *rest;
    uint64_t seed = strtoull(branch, &rest, 10);
    const char *list = strstr(rest, " versions=");
    if (list == NULL)
        return false;
    list += strlen(" versions=");
    for (unsigned lane = 0; lane < run->plan->lanes; lane++) {
        versions[lane] = (crash_version)strtoull(list, &rest, 10);
        list = *rest == ',' ? rest + 1 : rest;
    }
    struct crash_plan *plan = crash_plan_branch(run->plan, versions, seed, CONTINUED_STEPS);
    if (plan == NULL)
        return false;
    crash_plan_destroy(run->plan);
    run->plan = plan;
    run->seed = seed;
    run->start.created = true;
    for (unsigned lane = 0; lane < plan->lanes; lane++)
        run->start.low[lane] = run->start.high[lane] = crash_version_transaction(versions[lane]);
    return true;
}

int crash_run_load(struct crash_run *run, const char *path, bool *out_second)
{
    crash_trace_destroy(run->trace);
    run->trace = NULL;
    int code = crash_trace_load(path, &run->trace);
    if (code != 0)
        return code;
    const char *branch = strstr(crash_trace_note(run->trace), " branch=");
    *out_second = branch != NULL;
    return branch == NULL || follow_note(run, branch + strlen(" branch=")) ? 0 : CP_EFORMAT;
}

void crash_run_clear(struct crash_run *run)
{
    crash_plan_destroy(run->plan);
    crash_trace_destroy(run->trace);
    free(run->candidates);
    memset(run, 0, sizeof *run);
}

/* ---- marks ------------------------------------------------------------------------------------
 */

/* What has been committed, not necessarily durable: the marks, read again from the start. */
static void raise_low(struct crash_bounds *bounds, const struct crash_trace *trace, uint64_t end,
                      uint64_t lsn)
{
    for (uint64_t i = crash_trace_baseline_length(trace); i < end; i++) {
        const struct crash_event *event = crash_trace_event(trace, i);
        if (event->kind == CRASH_MARK && event->mark == CRASH_MARK_COMMITTED && event->lsn <= lsn &&
            event->lane < CRASH_LANES_MAX && event->transaction > bounds->low[event->lane])
            bounds->low[event->lane] = event->transaction;
    }
}

static void advance_copies(struct crash_bounds *bounds, const struct crash_event *event)
{
    struct crash_copy_bounds *copy = &bounds->copies[event->transaction % CRASH_COPIES_MAX];
    if (event->mark == CRASH_MARK_COPYING) {
        copy->begun = true;
        memcpy(copy->low, bounds->low, sizeof copy->low);
        memcpy(copy->high, bounds->high, sizeof copy->high);
    } else if (event->mark == CRASH_MARK_COPIED) {
        copy->done = true;
        copy->code = -(int)event->lsn;
    } else if (event->mark == CRASH_MARK_ATTEMPTED) {
        for (unsigned i = 0; i < CRASH_COPIES_MAX; i++) {
            if (bounds->copies[i].begun && !bounds->copies[i].done)
                bounds->copies[i].high[event->lane] = bounds->high[event->lane];
        }
    }
}

void crash_bounds_advance(struct crash_bounds *bounds, const struct crash_trace *trace,
                          uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++) {
        const struct crash_event *event = crash_trace_event(trace, i);
        if (event->kind != CRASH_MARK || event->lane >= CRASH_LANES_MAX)
            continue;
        if (event->mark == CRASH_MARK_CREATED)
            bounds->created = true;
        else if (event->mark == CRASH_MARK_ATTEMPTED &&
                 event->transaction > bounds->high[event->lane])
            bounds->high[event->lane] = event->transaction;
        else if (event->mark == CRASH_MARK_DURABLE)
            raise_low(bounds, trace, i, event->lsn);
        advance_copies(bounds, event);
    }
}

/* Of a state that is legal at a later point too: what must be there is what must be there then. */
static void raise_demands(struct crash_bounds *bounds, const struct crash_bounds *later)
{
    bounds->created |= later->created;
    memcpy(bounds->low, later->low, sizeof bounds->low);
    for (unsigned i = 0; i < CRASH_COPIES_MAX; i++) {
        bounds->copies[i].done = later->copies[i].done;
        bounds->copies[i].code = later->copies[i].code;
    }
}

/* ---- listing ----------------------------------------------------------------------------------
 */

struct lister {
    struct crash_run *run;
    uint64_t *table; /* index + 1 of a candidate, by hash */
    uint64_t table_mask, capacity, point;
    const struct crash_bounds *bounds;
    struct bench_random random;
    bool full;
};

static void rebuild_table(struct lister *lister)
{
    uint64_t size = 1024;
    while (size < lister->capacity * 2)
        size *= 2;
    free(lister->table);
    lister->table = calloc(size, sizeof *lister->table);
    if (lister->table == NULL)
        abort();
    lister->table_mask = size - 1;
    for (uint64_t i = 0; i < lister->run->candidate_count; i++) {
        uint64_t at = lister->run->candidates[i].hash & lister->table_mask;
        while (lister->table[at] != 0)
            at = (at + 1) & lister->table_mask;
        lister->table[at] = i + 1;
    }
}

static bool list_state(void *ctx, struct crash_mask mask, uint64_t hash)
{
    struct lister *lister = ctx;
    struct crash_run *run = lister->run;
    uint64_t at = hash & lister->table_mask;
    for (; lister->table[at] != 0; at = (at + 1) & lister->table_mask) {
        struct crash_candidate *known = &run->candidates[lister->table[at] - 1];
        if (known->hash != hash)
            continue;
        known->point = lister->point;
        known->mask = mask;
        raise_demands(&known->bounds, lister->bounds);
        return true;
    }
    if (run->candidate_count == lister->capacity) {
        lister->capacity = lister->capacity * 2 + 1024;
        run->candidates = realloc(run->candidates, lister->capacity * sizeof *run->candidates);
        if (run->candidates == NULL)
            abort();
        rebuild_table(lister);
        at = hash & lister->table_mask;
        while (lister->table[at] != 0)
            at = (at + 1) & lister->table_mask;
    }
    uint64_t order = bench_random_next(&lister->random) >> 1 | UINT64_C(1) << 62;
    if (mask.kind == 't') /* where sheared sectors are asked for, they come first */
        order >>= 2;
    lister->table[at] = run->candidate_count + 1;
    run->candidates[run->candidate_count++] = (struct crash_candidate){.hash = hash,
                                                                       .point = lister->point,
                                                                       .mask = mask,
                                                                       .order = order,
                                                                       .bounds = *lister->bounds};
    return run->candidate_count < LISTED_MAX;
}

static int by_order(const void *a, const void *b)
{
    const struct crash_candidate *left = a, *right = b;
    return (left->order > right->order) - (left->order < right->order);
}

static int by_point(const void *a, const void *b)
{
    const struct crash_candidate *left = a, *right = b;
    if (left->point != right->point)
        return left->point < right->point ? -1 : 1;
    return by_order(a, b);
}

/*
 * Let each point have its turn: one state of each, then a second of each, and so on. A point with a
 * torn superblock has two states worth seeing, one with a checkpoint's writes has thousands.
 */
static void spread_over_points(struct crash_run *run)
{
    uint64_t rank = 0;
    qsort(run->candidates, run->candidate_count, sizeof *run->candidates, by_point);
    for (uint64_t i = 0; i < run->candidate_count; i++) {
        struct crash_candidate *candidate = &run->candidates[i];
        rank = i > 0 && run->candidates[i - 1].point == candidate->point ? rank + 1 : 0;
        candidate->order = rank << 40 | (candidate->order >> 23 & 0xffffffffffu);
    }
}

void crash_run_list(struct crash_run *run, uint64_t limit, bool shear)
{
    struct crash_bounds bounds = run->start;
    struct lister lister = {.run = run, .bounds = &bounds};
    struct crash_states *states = crash_states_create(run->trace, run->seed);
    uint64_t seen = crash_states_point(states);
    if (shear)
        crash_states_shear(states);
    bench_random_init(&lister.random, run->seed, 2);
    rebuild_table(&lister);
    do {
        lister.point = crash_states_point(states);
        crash_bounds_advance(&bounds, run->trace, seen, lister.point);
        seen = lister.point;
        crash_states_visit(states, true, list_state, &lister);
        run->points++;
    } while (run->candidate_count < LISTED_MAX && crash_states_next(states));
    crash_states_destroy(states);
    free(lister.table);
    run->legal = run->candidate_count;
    if (run->candidate_count > limit) {
        spread_over_points(run);
        qsort(run->candidates, run->candidate_count, sizeof *run->candidates, by_order);
        run->candidate_count = limit;
    }
    qsort(run->candidates, run->candidate_count, sizeof *run->candidates, by_point);
}

/* ---- checking ---------------------------------------------------------------------------------
 */

/*
 * Lanes share one log, and what is left is a beginning of it: of one lane nothing is there that was
 * committed behind what another lacks. what: the store, or which copy of it.
 */
static void judge_order(const struct crash_run *run, const crash_version *versions,
                        const char *what, struct crash_verdict *verdict)
{
    const uint64_t begin = crash_trace_baseline_length(run->trace);
    const uint64_t end = crash_trace_length(run->trace);
    uint64_t last_lsn = 0;
    for (unsigned pass = 0; pass < 2; pass++) { /* find the end, then look for what lacks */
        for (uint64_t i = begin; i < end; i++) {
            const struct crash_event *event = crash_trace_event(run->trace, i);
            if (event->kind != CRASH_MARK || event->mark != CRASH_MARK_COMMITTED ||
                event->lane >= run->plan->lanes)
                continue;
            const uint32_t found = crash_version_transaction(versions[event->lane]);
            if (pass == 0 && event->transaction <= found && event->lsn > last_lsn)
                last_lsn = event->lsn;
            if (pass == 1 && event->transaction > found && event->lsn < last_lsn)
                crash_find(verdict, CRASH_TORN,
                           "%s has lane %u at transaction %u, and of another lane what was "
                           "committed after transaction %u",
                           what, event->lane, found, event->transaction);
        }
    }
}

static void judge(const struct crash_run *run, const struct crash_bounds *bounds,
                  struct crash_verdict *verdict)
{
    int64_t most = -1;
    for (unsigned lane = 0; lane < run->plan->lanes; lane++)
        most = bounds->low[lane] > most ? bounds->low[lane] : most;
    if (verdict->no_store) {
        if (bounds->created)
            crash_find(verdict, CRASH_LOST, "the store is not there, though it had been created");
        return;
    }
    if (verdict->no_root) {
        if (most >= 0)
            crash_find(verdict, CRASH_LOST,
                       "the store is empty; transaction %" PRId64 " was acknowledged", most);
        return;
    }
    for (unsigned lane = 0; lane < run->plan->lanes; lane++) {
        int64_t found = crash_version_transaction(verdict->versions[lane]);
        if (found < bounds->low[lane])
            crash_find(verdict, CRASH_LOST,
                       "lane %u is at transaction %" PRId64 "; %" PRId64
                       " was acknowledged as durable",
                       lane, found, bounds->low[lane]);
        if (found > bounds->high[lane])
            crash_find(verdict, CRASH_LOST,
                       "lane %u is at transaction %" PRId64 "; only %" PRId64 " had been attempted",
                       lane, found, bounds->high[lane]);
    }
    judge_order(run, verdict->versions, "the store", verdict);
}

static void judge_copies(const struct crash_run *run, const struct crash_bounds *bounds,
                         struct crash_verdict *verdict)
{
    for (unsigned i = 0; i < CRASH_COPIES_MAX; i++) {
        const struct crash_copy_bounds *asked = &bounds->copies[i];
        const struct crash_copy_found *copy = &verdict->copies[i];
        char name[24];
        if (asked->code != 0)
            crash_find(verdict, CRASH_LOST, "copy %u could not be made: %s", i,
                       cp_status_text(asked->code));
        if (asked->done != copy->there && (asked->done || !asked->begun))
            crash_find(verdict, CRASH_LOST, "copy %u is %s", i,
                       asked->done ? "not there, though it had been made"
                                   : "there, before it was begun");
        for (unsigned lane = 0; copy->looked && lane < run->plan->lanes; lane++) {
            int64_t found = crash_version_transaction(copy->versions[lane]);
            if (found < asked->low[lane] || found > asked->high[lane])
                crash_find(verdict, CRASH_LOST,
                           "copy %u has lane %u at transaction %" PRId64 "; %" PRId64
                           " was durable when it was begun, %" PRId64 " the last attempted",
                           i, lane, found, asked->low[lane], asked->high[lane]);
        }
        snprintf(name, sizeof name, "copy %u", i);
        if (copy->looked)
            judge_order(run, copy->versions, name, verdict);
    }
}

void crash_run_check(const struct crash_run *run, void *checker, const char *root,
                     const struct crash_bounds *bounds, struct crash_mask mask, uint64_t number,
                     bool deep, struct crash_verdict *verdict)
{
    struct crash_image image = {.root = root,
                                .plan = run->plan,
                                .created = bounds->created,
                                .deep = deep,
                                .number = number};
    memset(verdict, 0, sizeof *verdict);
    run->subject->check(checker, &image, verdict);
    if (mask.kind == 't' && verdict->class == CRASH_OPEN_FAILED) {
        verdict->class = CRASH_FINE;
        verdict->no_store = true;
        return;
    }
    if (verdict->class == CRASH_FINE)
        judge(run, bounds, verdict);
    judge_copies(run, bounds, verdict);
}
