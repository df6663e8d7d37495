/* SPDX-License-Identifier: MIT */
/*
 * The library's own store under test, through its public interface: subjects `pool` and `mmap`.
 * Here it is worked on; subject_pager_check.c looks what a crash has left of it.
 */
#include "subject_pager_internal.h"

#include "image.h"
#include "random.h"
#include "recorder.h"

#include <clockpool/backup.h>
#include <clockpool/pager.h>

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUDGET_BYTES     (UINT64_C(512) << 10) /* the smallest */
#define LOG_BUFFER       (1u << 20) /* a group is at most a quarter: several pages of 16 KiB */
#define SLOW_FLUSH_US    400u
#define DEADLOCKS_MAX    100000u
#define PAUSES_STREAM    4u  /* of the random numbers: those of its own */
#define STEP_ONE_IN      16u /* at the fewest, of a copy's reads, of which there are some hundred */
#define QUIET_READS      32u /* at most, before the first of these: those of half the data */
#define CLEAN_ONE_IN     2u  /* of the copies: the store is closed and opened before */
#define LOOSE_PAGES      12u
#define LOOSE_ROUNDS_MAX 400u

struct work {
    struct crash_session *session;
    const struct crash_pager_kind *kind;
    struct crash_recorder *recorder; /* NULL: recorded from outside */
    struct cp_io *io;
    struct cp_pager *pager;
    uint64_t roots[CRASH_LANES_MAX];
    uint32_t cell_bytes;
    uint32_t next_step; /* of a run in one thread; a copy's pauses move it on too */
    cp_lsn last_lsn;    /* likewise */
    struct bench_random pauses;
    uint64_t quiet_reads;    /* of a copy, until the others go on */
    uint64_t step_one_in;    /* of its reads after that */
    _Atomic unsigned copies; /* begun so far */
    _Atomic bool stop;
    _Atomic bool lanes_done;
    pthread_mutex_t text_lock; /* guards session->text */
    bool failed;
};

void crash_pager__options(const struct crash_pager_kind *kind,
                          const struct crash_workload *workload, struct cp_io *io,
                          struct cp_pager_options *options)
{
    *options = (struct cp_pager_options){
        .engine = kind->engine,
        .unsafe_in_place = kind->in_place,
        .page_size = workload->page_size,
        .budget_bytes = BUDGET_BYTES,
        .max_budget_bytes = BUDGET_BYTES,
        .caching = CP_IO_BUFFERED,
        .huge_pages = CP_HUGE_OFF,
        .ring_depth = 32,
        .background = CP_BACKGROUND_NONE,
        .log_limit_bytes = workload->log_limit_bytes,
        .log_segment_bytes = workload->log_segment_bytes,
        .log_buffer_bytes = LOG_BUFFER,
        .log_sync = CP_WAL_SYNC_FDATASYNC,
        .torn_pages = CP_TORN_IMAGES,
        .io = io,
    };
}

/* ---- the workload -----------------------------------------------------------------------------
 */

static void tell(struct work *work, enum crash_mark mark, unsigned lane, uint32_t transaction,
                 uint64_t lsn)
{
    if (work->kind->place != NULL)
        crash_fuse_mark(work->kind->place, mark, lane, transaction, lsn);
    else
        crash_trace_mark(work->session->trace, mark, lane, transaction, lsn);
}

/* Something went wrong: because of the fault that was asked for, or not. Returns false. */
static bool give_up(struct work *work, const char *what, int code)
{
    char text[512];
    cp_error_format(text, sizeof text);
    pthread_mutex_lock(&work->text_lock);
    if (!atomic_exchange_explicit(&work->stop, true, memory_order_relaxed)) {
        if (work->recorder != NULL && crash_recorder_failed(work->recorder)) {
            tell(work, CRASH_MARK_FAILED, 0, 0, (uint64_t)-code);
        } else {
            snprintf(work->session->text, sizeof work->session->text, "%s: %s: %.256s", what,
                     cp_status_name(code), text);
            work->session->no_space = crash_is_no_space(code);
            work->failed = true;
        }
    }
    pthread_mutex_unlock(&work->text_lock);
    return false;
}

static int do_op(struct work *work, struct cp_mtr *mtr, unsigned lane, struct lane_root *root,
                 const struct crash_op *op, uint32_t *savepoint)
{
    void *data;
    int code;
    uint64_t page;
    switch ((enum crash_op_kind)op->kind) {
    case CRASH_OP_ALLOCATE:
        code = cp_mtr_allocate(mtr, &page, &data);
        if (code == 0)
            root->pages[op->slot] = page;
        return code;
    case CRASH_OP_FREE:
        code = cp_mtr_free(mtr, root->pages[op->slot]);
        if (code == 0)
            root->pages[op->slot] = 0;
        return code;
    case CRASH_OP_WRITE:
        code = cp_mtr_fix(mtr, root->pages[op->slot], CP_EXCLUSIVE, &data);
        for (unsigned i = 0; code == 0 && i < op->cell_count; i++) {
            unsigned cell = op->first_cell + i;
            crash_cell_fill((uint8_t *)data + (size_t)cell * work->cell_bytes, work->cell_bytes,
                            lane, op->slot, cell, op->version);
        }
        return code;
    case CRASH_OP_SAVEPOINT:
        return cp_mtr_savepoint(mtr, savepoint);
    case CRASH_OP_ROLLBACK:
        return cp_mtr_rollback(mtr, *savepoint);
    }
    return -EINVAL;
}

/* All of a transaction but its end. A code: it has been aborted. */
static int do_changes(struct work *work, const struct crash_step *step, struct cp_mtr **out_mtr)
{
    const struct crash_plan *plan = work->session->plan;
    struct cp_mtr *mtr;
    uint32_t savepoint = 0;
    void *data;
    int code = cp_mtr_begin(work->pager, &mtr);
    if (code != 0)
        return code;
    code = cp_mtr_fix(mtr, work->roots[step->lane], CP_EXCLUSIVE, &data);
    struct lane_root *root = data;
    for (uint32_t i = 0; code == 0 && i < step->op_count; i++)
        code = do_op(work, mtr, step->lane, root, &plan->ops[step->op_first + i], &savepoint);
    if (code != 0) {
        struct cp_error saved = *cp_error_info();
        cp_mtr_abort(mtr);
        (void)saved;
        return code;
    }
    /* An aborted one changes the root as well, to something that must never be seen. */
    root->version =
        step->end == CRASH_END_ABORT
            ? CRASH_NO_VERSION
            : plan->models[step->lane][step->transaction - plan->first[step->lane]].version;
    *out_mtr = mtr;
    return 0;
}

static bool do_transaction(struct work *work, const struct crash_step *step, cp_lsn *last_lsn)
{
    struct cp_mtr *mtr = NULL;
    int code = CP_EDEADLOCK;
    for (unsigned i = 0; code == CP_EDEADLOCK && i < DEADLOCKS_MAX; i++)
        code = do_changes(work, step, &mtr);
    if (code != 0)
        return give_up(work, "changing pages", code);
    if (step->end == CRASH_END_ABORT) {
        cp_mtr_abort(mtr);
        return true;
    }
    cp_lsn lsn;
    bool durable = step->end == CRASH_END_DURABLE;
    tell(work, CRASH_MARK_ATTEMPTED, step->lane, step->transaction, 0);
    code = cp_mtr_commit(mtr, durable ? CP_COMMIT_DURABLE : CP_COMMIT_RELAXED, &lsn);
    if (code != 0)
        return give_up(work, "commit", code);
    tell(work, CRASH_MARK_COMMITTED, step->lane, step->transaction, lsn);
    if (durable)
        tell(work, CRASH_MARK_DURABLE, 0, 0, lsn);
    *last_lsn = lsn;
    return true;
}

static bool open_store(struct work *work, bool create)
{
    struct cp_pager_options options;
    char path[PATH_MAX];
    const struct crash_workload *workload = work->session->plan->workload;
    snprintf(path, sizeof path, "%s/store", work->session->root);
    crash_pager__options(work->kind, workload, work->io, &options);
    options.create = create;
    options.log_sync =
        (work->session->seed >> 3 & 1) != 0 ? CP_WAL_SYNC_DSYNC : CP_WAL_SYNC_FDATASYNC;
    if (workload->background)
        options.background = CP_BACKGROUND_THREAD;
    int code = cp_pager_open(path, &options, &work->pager);
    if (code != 0) {
        work->pager = NULL;
        return give_up(work, create ? "creating the store" : "opening the store", code);
    }
    work->cell_bytes = crash_cell_bytes(cp_pager_payload_size(work->pager));
    return true;
}

static bool close_store(struct work *work, cp_lsn last_lsn)
{
    int code = cp_pager_close(work->pager);
    work->pager = NULL;
    if (code != 0)
        return give_up(work, "closing the store", code);
    tell(work, CRASH_MARK_DURABLE, 0, 0, last_lsn);
    return true;
}

/* ---- copies -----------------------------------------------------------------------------------
 */

void crash_pager__copy_path(const char *root, const struct crash_plan *plan, unsigned number,
                            char *out_path, size_t capacity)
{
    snprintf(out_path, capacity, "%s/copy-%" PRIu32 "-%u", root, plan->branch, number);
}

static bool do_next_step(struct work *work);

/* Before each piece that a copy reads: none, one or several steps. */
static void work_on(void *ctx)
{
    struct work *work = ctx;
    if (work->quiet_reads > 0) {
        work->quiet_reads--;
        return;
    }
    while (bench_random_below(&work->pauses, work->step_one_in) == 0 && do_next_step(work)) {
    }
}

/* A copy of the store, which is written to meanwhile. It may be one of several at once. */
static bool make_copy(struct work *work)
{
    char store[PATH_MAX], copy[PATH_MAX];
    const struct cp_backup_options options = {.io = work->io};
    const struct crash_plan *plan = work->session->plan;
    const bool alone = !plan->workload->threads;
    struct cp_backup_stats stats;
    unsigned number = atomic_fetch_add_explicit(&work->copies, 1, memory_order_relaxed);
    if (number >= CRASH_COPIES_MAX)
        return true;
    /* Some are begun of a store that is clean, and is written to later. */
    if (alone && bench_random_below(&work->pauses, CLEAN_ONE_IN) == 0 &&
        (!close_store(work, work->last_lsn) || !open_store(work, false)))
        return false;
    snprintf(store, sizeof store, "%s/store", work->session->root);
    crash_pager__copy_path(work->session->root, plan, number, copy, sizeof copy);
    tell(work, CRASH_MARK_COPYING, 0, number, 0);
    if (alone) {
        work->quiet_reads = bench_random_below(&work->pauses, QUIET_READS);
        work->step_one_in = 2 + bench_random_below(&work->pauses, STEP_ONE_IN - 1);
        crash_recorder_split_reads(work->recorder, work_on, work);
    }
    int code = cp_backup(store, copy, &options, &stats);
    if (alone)
        crash_recorder_split_reads(work->recorder, NULL, NULL);
    if (crash_is_no_space(code))
        return give_up(work, "copying the store", code);
    if (code == 0 && stats.unverified_pages > 0)
        code = CP_ECHECKSUM; /* of a store in which nothing is damaged */
    if (code == 0 || !crash_recorder_failed(work->recorder))
        tell(work, CRASH_MARK_COPIED, 0, number, (uint64_t)-code);
    return true; /* the store does not mind */
}

static bool do_after(struct work *work, const struct crash_step *step, cp_lsn last_lsn)
{
    int code = 0;
    switch ((enum crash_after)step->after) {
    case CRASH_AFTER_NOTHING:
        return true;
    case CRASH_AFTER_CHECKPOINT:
        code = cp_pager_checkpoint(work->pager);
        break;
    case CRASH_AFTER_SYNC:
        code = cp_pager_sync(work->pager);
        break;
    case CRASH_AFTER_FLUSH:
        code = cp_pager_wait_durable(work->pager, last_lsn);
        break;
    case CRASH_AFTER_REOPEN:
        return close_store(work, last_lsn) && open_store(work, false);
    case CRASH_AFTER_BACKUP:
        return make_copy(work);
    }
    if (code != 0)
        return give_up(work, "checkpoint, sync or wait", code);
    tell(work, CRASH_MARK_DURABLE, 0, 0, last_lsn);
    return true;
}

static bool do_step(struct work *work, const struct crash_step *step, cp_lsn *last_lsn)
{
    if (atomic_load_explicit(&work->stop, memory_order_relaxed) ||
        !do_transaction(work, step, last_lsn) || !do_after(work, step, *last_lsn))
        return false;
    if (work->kind->between != NULL)
        work->kind->between(work->kind->ctx);
    return true;
}

/* In one thread: false when there is none left, or something went wrong. */
static bool do_next_step(struct work *work)
{
    const struct crash_plan *plan = work->session->plan;
    return work->next_step < plan->step_count &&
           do_step(work, &plan->steps[work->next_step++], &work->last_lsn);
}

/* In a thread of its own. */
static void do_lane(struct work *work, unsigned lane, cp_lsn *last_lsn)
{
    const struct crash_plan *plan = work->session->plan;
    for (uint32_t i = 0; i < plan->step_count; i++) {
        if (plan->steps[i].lane == lane && !do_step(work, &plan->steps[i], last_lsn))
            return;
    }
}

struct lane_thread {
    struct work *work;
    unsigned lane;
    cp_lsn last_lsn;
    pthread_t thread;
};

static void *run_lane(void *argument)
{
    struct lane_thread *self = argument;
    do_lane(self->work, self->lane, &self->last_lsn);
    return NULL;
}

/* ---- pages outside transactions ---------------------------------------------------------------
 */

static void fill_loose(void *data, uint32_t bytes, uint64_t page, uint64_t round)
{
    uint64_t *words = data;
    words[0] = CRASH_LOOSE_MAGIC;
    words[1] = round;
    for (uint32_t i = 2; i < bytes / 8; i++)
        words[i] = crash_pager__loose_word(page, round, i);
}

static int change_loose(struct work *work, uint64_t *page, uint64_t round)
{
    struct cp_fix fix;
    int code = *page == 0 ? cp_pager_allocate(work->pager, &fix)
                          : cp_pager_fix(work->pager, *page, CP_EXCLUSIVE, &fix);
    if (code != 0)
        return code;
    *page = fix.page;
    code = cp_pager_mark_dirty(work->pager, &fix);
    if (code == 0)
        fill_loose(fix.data, cp_pager_payload_size(work->pager), fix.page, round);
    cp_pager_unfix(work->pager, &fix);
    return code;
}

/* Allocate, change and free pages, and sync now and then, as long as the lanes go on. */
static void *run_loose(void *argument)
{
    struct work *work = argument;
    uint64_t pages[LOOSE_PAGES] = {0};
    struct bench_random random;
    bench_random_init(&random, work->session->seed, CRASH_LOOSE_MAGIC);
    for (uint64_t round = 1; round <= LOOSE_ROUNDS_MAX; round++) {
        uint64_t *page = &pages[bench_random_below(&random, LOOSE_PAGES)];
        int code = 0;
        if (atomic_load_explicit(&work->stop, memory_order_relaxed) ||
            atomic_load_explicit(&work->lanes_done, memory_order_relaxed))
            break;
        if (bench_random_below(&random, 40) == 0) {
            code = cp_pager_sync(work->pager);
        } else if (*page != 0 && bench_random_below(&random, 3) == 0) {
            code = cp_pager_free(work->pager, *page, 1);
            *page = 0;
        } else {
            code = change_loose(work, page, round);
        }
        if (code != 0) {
            (void)give_up(work, "outside transactions", code);
            break;
        }
    }
    return NULL;
}

static cp_lsn do_work(struct work *work)
{
    const struct crash_plan *plan = work->session->plan;
    struct lane_thread threads[CRASH_LANES_MAX];
    cp_lsn last_lsn = cp_pager_durable_lsn(work->pager);
    if (!plan->workload->threads) {
        work->last_lsn = last_lsn;
        while (do_next_step(work)) { /* ends: the plan does */
        }
        return work->last_lsn;
    }
    unsigned started = 0;
    pthread_t loose;
    if (plan->workload->loose && pthread_create(&loose, NULL, run_loose, work) != 0)
        abort();
    for (; started < plan->lanes; started++) {
        threads[started] = (struct lane_thread){work, started, last_lsn, 0};
        if (pthread_create(&threads[started].thread, NULL, run_lane, &threads[started]) != 0)
            abort();
    }
    for (unsigned i = 0; i < started; i++) {
        pthread_join(threads[i].thread, NULL);
        last_lsn = threads[i].last_lsn > last_lsn ? threads[i].last_lsn : last_lsn;
    }
    atomic_store_explicit(&work->lanes_done, true, memory_order_relaxed);
    if (plan->workload->loose)
        pthread_join(loose, NULL);
    return last_lsn;
}

/* The super page and the empty lanes, in one transaction: number 0 of each lane. */
static bool make_roots(struct work *work)
{
    const struct crash_plan *plan = work->session->plan;
    struct cp_mtr *mtr;
    struct super_page *super = NULL;
    uint64_t page;
    void *data;
    int code = cp_mtr_begin(work->pager, &mtr);
    if (code != 0)
        return give_up(work, "beginning the first transaction", code);
    code = cp_mtr_allocate(mtr, &page, &data);
    if (code == 0) {
        super = data;
        *super = (struct super_page){.magic = CRASH_SUPER_MAGIC, .lanes = plan->lanes};
    }
    for (unsigned lane = 0; lane < plan->lanes && code == 0; lane++) {
        code = cp_mtr_allocate(mtr, &work->roots[lane], &data);
        if (code != 0)
            break;
        struct lane_root *root = data;
        root->magic = CRASH_ROOT_MAGIC;
        root->lane = lane;
        root->version = plan->models[lane][0].version;
        super->roots[lane] = work->roots[lane];
        tell(work, CRASH_MARK_ATTEMPTED, lane, 0, 0);
    }
    if (code != 0) {
        cp_mtr_abort(mtr);
        return give_up(work, "making the roots", code);
    }
    cp_lsn lsn;
    code = cp_mtr_commit(mtr, CP_COMMIT_DURABLE, &lsn);
    if (code != 0)
        return give_up(work, "the first commit", code);
    for (unsigned lane = 0; lane < plan->lanes; lane++)
        tell(work, CRASH_MARK_COMMITTED, lane, 0, lsn);
    tell(work, CRASH_MARK_DURABLE, 0, 0, lsn);
    return true;
}

/* After a crash: what the check has found is durable from the moment the store has opened. */
static bool find_roots(struct work *work)
{
    const struct crash_plan *plan = work->session->plan;
    struct super_page super;
    cp_lsn lsn = cp_pager_durable_lsn(work->pager);
    int code =
        cp_pager_read(work->pager, cp_pager_first_page(work->pager), 0, &super, sizeof super);
    if (code != 0)
        return give_up(work, "reading the super page", code);
    for (unsigned lane = 0; lane < plan->lanes; lane++) {
        work->roots[lane] = super.roots[lane];
        tell(work, CRASH_MARK_COMMITTED, lane, plan->first[lane], lsn);
    }
    tell(work, CRASH_MARK_DURABLE, 0, 0, lsn);
    return true;
}

int crash_pager_record(const struct crash_pager_kind *kind, struct crash_session *session)
{
    struct work work = {.session = session, .kind = kind};
    struct cp_io_options io_options = {.kind = CP_IO_SYNC};
    if (kind->place == NULL) {
        work.recorder = crash_recorder_create(session->root, session->trace, session->seed);
        crash_recorder_fail_flush(work.recorder, session->fail_flush);
        if (!crash_pager_deterministic(session->plan))
            crash_recorder_slow_flushes(work.recorder, SLOW_FLUSH_US);
        io_options = (struct cp_io_options){.backend = crash_recorder_backend(work.recorder),
                                            .backend_ctx = work.recorder};
    }
    bench_random_init(&work.pauses, session->seed, PAUSES_STREAM);
    pthread_mutex_init(&work.text_lock, NULL);
    int code = cp_io_create(&io_options, &work.io);
    if (code != 0) {
        give_up(&work, "creating an I/O context", code);
    } else if (open_store(&work, !session->recover)) {
        tell(&work, CRASH_MARK_CREATED, 0, 0, 0);
        if (session->recover ? find_roots(&work) : make_roots(&work)) {
            cp_lsn last_lsn = do_work(&work);
            if (!atomic_load_explicit(&work.stop, memory_order_relaxed) && work.pager != NULL &&
                (session->seed >> 4 & 1) != 0)
                close_store(&work, last_lsn);
        }
    }
    if (work.pager != NULL)
        cp_pager_abandon(work.pager);
    cp_io_destroy(work.io);
    if (work.recorder != NULL)
        crash_recorder_destroy(work.recorder);
    pthread_mutex_destroy(&work.text_lock);
    return work.failed ? -1 : 0;
}

/* ---- the subjects -----------------------------------------------------------------------------
 */

bool crash_pager_deterministic(const struct crash_plan *plan)
{
    return !plan->workload->threads && !plan->workload->background;
}

static const struct crash_pager_kind kind_pool = {.engine = CP_ENGINE_POOL};
static const struct crash_pager_kind kind_mmap = {.engine = CP_ENGINE_MMAP};

static int record_pool(struct crash_session *session)
{
    return crash_pager_record(&kind_pool, session);
}

static int record_mmap(struct crash_session *session)
{
    return crash_pager_record(&kind_mmap, session);
}

static void check_pool(void *checker, const struct crash_image *image,
                       struct crash_verdict *verdict)
{
    crash_pager_check(&kind_pool, checker, image, verdict);
}

static void check_mmap(void *checker, const struct crash_image *image,
                       struct crash_verdict *verdict)
{
    crash_pager_check(&kind_mmap, checker, image, verdict);
}

const struct crash_subject crash_subject_pool = {
    .name = "pool",
    .summary = "the pool engine: durable at commit",
    .deterministic = crash_pager_deterministic,
    .record = record_pool,
    .check_begin = crash_pager_check_begin,
    .check_end = crash_pager_check_end,
    .check = check_pool,
};

const struct crash_subject crash_subject_mmap = {
    .name = "mmap",
    .summary = "the mmap engine: durable at commit",
    .deterministic = crash_pager_deterministic,
    .record = record_mmap,
    .check_begin = crash_pager_check_begin,
    .check_end = crash_pager_check_end,
    .check = check_mmap,
};
