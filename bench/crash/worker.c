/* SPDX-License-Identifier: MIT */
/*
 * A worker: takes the next seed, records, lists, checks, and now and then lets a store recover and
 * work on after a crash, recording that, and crashes it again.
 *
 * Before each step it writes down what it is about to do, so that the parent can name it should the
 * step kill this process.
 */
#include "worker.h"

#include <clockpool/base/thread.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONTINUE_ONE_IN 150u /* of the good states: the recovery is recorded and crashed too */
#define CONTINUE_STATES 90u  /* of each such recovery */
#define TRACES_KEPT     4u   /* of the first findings; the others are often of the same trace */
#define DEEP_ONE_IN     64u
#define SEEN_PROBES_MAX 64u /* beyond it the table is full; an image may then count twice */

static void add(_Atomic uint64_t *counter, uint64_t more)
{
    atomic_fetch_add_explicit(counter, more, memory_order_relaxed);
}

/* Is this image new to all workers? */
static bool first_seen(struct crash_shared *shared, uint64_t hash)
{
    if (hash == 0)
        hash = 1;
    uint64_t at = hash & shared->table_mask;
    for (unsigned i = 0; i < SEEN_PROBES_MAX; i++, at = (at + 1) & shared->table_mask) {
        uint64_t found = 0; /* relaxed: a set of numbers, nothing is published by them */
        if (atomic_compare_exchange_strong_explicit(&shared->table[at], &found, hash,
                                                    memory_order_relaxed, memory_order_relaxed))
            return true;
        if (found == hash)
            return false;
    }
    return true;
}

static void begin_step(struct crash_worker *worker, enum crash_phase phase,
                       const struct crash_run *run, const struct crash_candidate *candidate)
{
    char mask[CRASH_MASK_BYTES];
    struct crash_slot *slot = worker->slot;
    if (candidate != NULL &&
        snprintf(slot->triple, sizeof slot->triple, "%s%" PRIu64 "/%s", run->prefix,
                 candidate->point,
                 crash_mask_format(candidate->mask, mask)) >= (int)sizeof slot->triple)
        abort(); /* the room is for two crashes, and there are no three */
    snprintf(slot->workload, sizeof slot->workload, "%s", run->plan->workload->name);
    atomic_store_explicit(&slot->phase, phase, memory_order_relaxed);
    /* release: pairs with the acquire of the parent, which then reads the triple */
    atomic_store_explicit(&slot->started_ns, cp_now_ns(), memory_order_release);
}

static void end_step(struct crash_worker *worker)
{
    atomic_store_explicit(&worker->slot->started_ns, 0, memory_order_release);
}

static bool stopped(const struct crash_worker *worker)
{
    return atomic_load_explicit(&worker->shared->stop, memory_order_relaxed) ||
           atomic_load_explicit(&worker->shared->states, memory_order_relaxed) >= worker->wanted;
}

void crash_worker_report(struct crash_shared *shared, const struct crash_search_options *options,
                         enum crash_class class, const char *triple, const char *workload,
                         const char *text, const struct crash_trace *trace)
{
    add(&shared->by_class[class], 1);
    uint32_t number = atomic_fetch_add_explicit(&shared->finding_count, 1, memory_order_relaxed);
    if (options->stop_at_finding)
        atomic_store_explicit(&shared->stop, true, memory_order_relaxed);
    if (number >= CRASH_FINDINGS_MAX)
        return;
    struct crash_finding *finding = &shared->findings[number];
    snprintf(finding->triple, sizeof finding->triple, "%s", triple);
    snprintf(finding->workload, sizeof finding->workload, "%s", workload);
    snprintf(finding->text, sizeof finding->text, "%s", text);
    if (trace != NULL && number < TRACES_KEPT && (options->save_traces || options->keep != NULL)) {
        snprintf(finding->trace, sizeof finding->trace, "%s/finding-%u.trace",
                 options->keep != NULL ? options->keep : "/tmp", number + 1);
        if (options->keep == NULL)
            snprintf(finding->trace, sizeof finding->trace, "/tmp/clockpool-crash-%d-%u.trace",
                     (int)getpid(), number + 1);
        if (crash_trace_save(trace, finding->trace) != 0)
            finding->trace[0] = '\0';
    }
    finding->class = class; /* last: an entry without class is not complete */
}

void crash_worker_stop_full(struct crash_shared *shared)
{
    atomic_store_explicit(&shared->no_space, true, memory_order_relaxed);
    atomic_store_explicit(&shared->stop, true, memory_order_relaxed);
}

static void note_failure(struct crash_worker *worker, const char *text)
{
    if (atomic_fetch_add_explicit(&worker->shared->failed_runs, 1, memory_order_relaxed) == 0)
        snprintf(worker->shared->failed_text, sizeof worker->shared->failed_text, "%s", text);
}

struct checking {
    struct crash_worker *worker;
    struct crash_run *run;
    struct crash_states *states;
    struct crash_image_files *image;
    void *checker;
    char root[PATH_MAX];
};

/* Make the image of a candidate and check it. False: the files could not be made. */
static bool check_one(struct checking *checking, const struct crash_candidate *candidate,
                      struct crash_verdict *verdict)
{
    struct crash_worker *worker = checking->worker;
    struct crash_run *run = checking->run;
    char text[128];
    crash_states_seek(checking->states, candidate->point);
    if (!crash_states_choose(checking->states, candidate->mask))
        abort(); /* it was listed */
    int code = crash_image_apply(checking->image, checking->states);
    if (crash_is_no_space(code)) {
        crash_worker_stop_full(worker->shared);
        return false;
    }
    if (code != 0) {
        snprintf(text, sizeof text, "writing an image below %.64s: %s", checking->root,
                 strerror(-code));
        note_failure(worker, text);
        atomic_store_explicit(&worker->shared->stop, true, memory_order_relaxed);
        return false;
    }
    begin_step(worker, CRASH_PHASE_CHECK, run, candidate);
    crash_run_check(run, checking->checker, checking->root, &candidate->bounds, candidate->mask,
                    candidate->hash, candidate->hash % DEEP_ONE_IN == 1, verdict);
    end_step(worker);
    if (verdict->no_space ||
        (verdict->class == CRASH_OPEN_FAILED && crash_workplace_full(checking->root))) {
        crash_worker_stop_full(worker->shared);
        return false;
    }
    add(&worker->shared->checks, 1);
    if (first_seen(worker->shared, candidate->hash))
        add(&worker->shared->states, 1);
    if (verdict->class == CRASH_FINE)
        add(&worker->shared->by_class[CRASH_FINE], 1);
    else if (run->subject->creation_apart && !candidate->bounds.created)
        add(&worker->shared->creation_failed, 1);
    else
        crash_worker_report(worker->shared, worker->options, verdict->class, worker->slot->triple,
                            worker->slot->workload, verdict->text,
                            run->repeatable && worker->options->keep == NULL ? NULL : run->trace);
    return true;
}

static void check_all(struct crash_worker *worker, struct crash_run *run, uint64_t from,
                      void *checker, bool may_continue);

/* Let the store recover from this crash and go on, and crash that. */
static void continue_after(struct crash_worker *worker, struct crash_run *run,
                           const struct crash_candidate *candidate,
                           const struct crash_verdict *verdict, struct crash_states *states,
                           void *checker)
{
    char root[PATH_MAX], text[384];
    struct crash_run next;
    snprintf(root, sizeof root, "%s/record", worker->directory);
    struct crash_image_files *image = crash_image_create(root);
    int code = crash_image_apply(image, states);
    crash_image_destroy(image);
    if (crash_is_no_space(code))
        crash_worker_stop_full(worker->shared);
    if (code != 0)
        return;
    begin_step(worker, CRASH_PHASE_CONTINUE, run, candidate);
    code = crash_run_continue(&next, worker->options, run, candidate, verdict->versions, root, text,
                              sizeof text);
    end_step(worker);
    if (code == 0) {
        add(&worker->shared->recovery_traces, 1);
        crash_run_list(&next, CONTINUE_STATES, worker->options->shear);
        add(&worker->shared->points, next.points);
        add(&worker->shared->legal, next.legal);
        check_all(worker, &next, 0, checker, false);
    } else if (next.no_space) {
        crash_worker_stop_full(worker->shared);
    } else {
        crash_worker_report(worker->shared, worker->options, CRASH_OPEN_FAILED,
                            worker->slot->triple, worker->slot->workload, text, NULL);
    }
    crash_run_clear(&next);
}

/* Check the candidates of a run, from one of them on. */
static void check_all(struct crash_worker *worker, struct crash_run *run, uint64_t from,
                      void *checker, bool may_continue)
{
    struct checking checking = {.worker = worker, .run = run, .checker = checker};
    struct crash_verdict verdict;
    snprintf(checking.root, sizeof checking.root, "%s/image", worker->directory);
    checking.states = crash_states_create(run->trace, run->seed);
    checking.image = crash_image_create(checking.root);
    for (uint64_t i = from; i < run->candidate_count && !stopped(worker); i++) {
        const struct crash_candidate *candidate = &run->candidates[i];
        if (may_continue)
            worker->slot->next = i + 1;
        if (!check_one(&checking, candidate, &verdict))
            break;
        if (may_continue && verdict.class == CRASH_FINE && !verdict.no_store && !verdict.no_root &&
            candidate->hash % CONTINUE_ONE_IN == 0)
            continue_after(worker, run, candidate, &verdict, checking.states, checker);
    }
    crash_image_destroy(checking.image);
    crash_states_destroy(checking.states);
}

/* Record the next trace, or find again the one at which the worker before this one died. */
static bool next_run(struct crash_worker *worker, struct crash_run *run, uint64_t *out_from)
{
    struct crash_slot *slot = worker->slot;
    char root[PATH_MAX], kept[PATH_MAX], text[384] = "";
    snprintf(root, sizeof root, "%s/record", worker->directory);
    snprintf(kept, sizeof kept, "%s/trace", worker->directory);
    bool resume = slot->resume;
    if (!resume)
        slot->number =
            atomic_fetch_add_explicit(&worker->shared->next_number, 1, memory_order_relaxed);
    uint64_t seed = crash_run_seed(worker->options, slot->number);
    const struct crash_workload *workload = crash_run_workload(worker->options, seed);
    slot->resume = false;
    *out_from = resume ? slot->next : 0;
    snprintf(slot->triple, sizeof slot->triple, "%" PRIu64, seed);
    snprintf(slot->workload, sizeof slot->workload, "%s", workload->name);
    atomic_store_explicit(&slot->phase, CRASH_PHASE_RECORD, memory_order_relaxed);
    atomic_store_explicit(&slot->started_ns, cp_now_ns(), memory_order_release);
    int code =
        crash_run_record(run, worker->options, seed, resume ? NULL : root, text, sizeof text);
    if (code == 0 && resume) {
        crash_trace_destroy(run->trace);
        run->trace = NULL;
        code = crash_trace_load(kept, &run->trace);
    } else if (code == 0) {
        code = crash_trace_save(run->trace, kept);
        add(&worker->shared->traces, 1);
    }
    end_step(worker);
    if (code != 0 && (run->no_space || crash_workplace_full(worker->directory))) {
        crash_worker_stop_full(worker->shared);
        crash_run_clear(run);
        return false;
    }
    if (code != 0) {
        note_failure(worker, text[0] != '\0' ? text : "the trace could not be kept");
        crash_run_clear(run);
        return false;
    }
    slot->next = *out_from;
    slot->resume = true; /* from here on a successor can go on with it */
    return true;
}

void crash_worker_run(struct crash_worker *worker)
{
    const struct crash_subject *subject = worker->options->subject;
    void *checker = subject->check_begin != NULL ? subject->check_begin() : NULL;
    while (!stopped(worker)) {
        struct crash_run run;
        uint64_t from;
        if (!next_run(worker, &run, &from)) {
            if (atomic_load_explicit(&worker->shared->failed_runs, memory_order_relaxed) > 16)
                break; /* it is not the seeds */
            continue;
        }
        crash_run_list(&run, worker->states_per_seed, worker->options->shear);
        if (from == 0) {
            add(&worker->shared->points, run.points);
            add(&worker->shared->legal, run.legal);
        }
        check_all(worker, &run, from, checker, true);
        worker->slot->resume = false;
        crash_run_clear(&run);
    }
    if (subject->check_end != NULL)
        subject->check_end(checker);
}
