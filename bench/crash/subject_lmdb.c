/* SPDX-License-Identifier: MIT */
/*
 * Subjects "lmdb" and "lmdb-nosync": the controls. A store of another make, known to be good, must
 * pass the search, and the same store told not to sync must fail it; else the search is worthless.
 *
 * A page is a value under the key (lane, slot), a lane's version a value of its own. What LMDB does
 * to its files is recorded from outside, through FUSE. Two things are done that LMDB leaves to its
 * user: the directory is synced once the environment exists, and the environment counts as created
 * when its first transaction has returned (opening it writes the meta pages unsynced).
 *
 * One process and one thread use it, so the lock file is left out (MDB_NOLOCK): it holds nothing
 * that outlives them, and its mapping would be written back whenever the kernel likes.
 */
#include "fuse_recorder.h"
#include "subject.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAP_BYTES       (UINT64_C(64) << 20) /* far beyond any workload of oracle.c */
#define PAYLOAD_BYTES   4064u                /* as the pager's page of 4 KiB */
#define CELL_BYTES      (PAYLOAD_BYTES / CRASH_CELLS / 8 * 8)
#define VALUE_BYTES     (CELL_BYTES * CRASH_CELLS)
#define LANE_SHIFT      32
#define KEY_OF_VERSION  UINT32_MAX
#define UNKNOWN_VERSION CRASH_NO_VERSION

static uint64_t key_of(unsigned lane, uint32_t slot)
{
    return (uint64_t)lane << LANE_SHIFT | slot;
}

static int open_env(const char *directory, unsigned flags, MDB_env **out_env)
{
    MDB_env *env;
    int code = mdb_env_create(&env);
    if (code != 0)
        return code;
    code = mdb_env_set_mapsize(env, MAP_BYTES);
    if (code == 0)
        code = mdb_env_open(env, directory, flags | MDB_NOLOCK, 0600);
    if (code != 0)
        mdb_env_close(env);
    else
        *out_env = env;
    return code;
}

/* ---- recording --------------------------------------------------------------------------------
 */

struct run {
    const struct crash_session *session;
    const struct crash_fuse_place *place;
    unsigned flags; /* of the environment */
    MDB_env *env;
    MDB_dbi dbi;
    uint64_t commits; /* the marks' lsn */
    unsigned char value[VALUE_BYTES];
};

static int fail(const struct run *run, const char *what, int code)
{
    snprintf(run->place->text, run->place->text_capacity, "%s: %s", what, mdb_strerror(code));
    return -1;
}

static int put(struct run *run, MDB_txn *txn, uint64_t key_number, void *data, size_t size)
{
    MDB_val key = {sizeof key_number, &key_number}, value = {size, data};
    return mdb_put(txn, run->dbi, &key, &value, 0);
}

static int carry_out(struct run *run, MDB_txn *txn, unsigned lane, const struct crash_op *op)
{
    uint64_t number = key_of(lane, op->slot);
    MDB_val key = {sizeof number, &number}, value;
    int code;
    switch (op->kind) {
    case CRASH_OP_ALLOCATE:
        memset(run->value, 0, sizeof run->value);
        return put(run, txn, number, run->value, sizeof run->value);
    case CRASH_OP_FREE:
        return mdb_del(txn, run->dbi, &key, NULL);
    case CRASH_OP_WRITE:
        code = mdb_get(txn, run->dbi, &key, &value);
        if (code != 0)
            return code;
        memcpy(run->value, value.mv_data, sizeof run->value);
        for (unsigned i = op->first_cell; i < (unsigned)op->first_cell + op->cell_count; i++)
            crash_cell_fill(run->value + i * CELL_BYTES, CELL_BYTES, lane, op->slot, i,
                            op->version);
        return put(run, txn, number, run->value, sizeof run->value);
    default:
        return EINVAL;
    }
}

/* The operations of a step; a savepoint is a nested transaction. */
static int carry_out_all(struct run *run, MDB_txn *txn, const struct crash_step *step)
{
    MDB_txn *nested = NULL;
    int code = 0;
    for (uint32_t i = 0; code == 0 && i < step->op_count; i++) {
        const struct crash_op *op = &run->session->plan->ops[step->op_first + i];
        if (op->kind == CRASH_OP_SAVEPOINT) {
            code = mdb_txn_begin(run->env, txn, 0, &nested);
        } else if (op->kind == CRASH_OP_ROLLBACK) {
            mdb_txn_abort(nested);
            nested = NULL;
        } else {
            code = carry_out(run, nested != NULL ? nested : txn, step->lane, op);
        }
    }
    if (nested != NULL)
        mdb_txn_abort(nested);
    return code;
}

static int run_step(struct run *run, const struct crash_step *step)
{
    const unsigned lane = step->lane;
    crash_version version = run->session->plan->branch << 24 | step->transaction;
    MDB_txn *txn;
    int code = mdb_txn_begin(run->env, NULL, 0, &txn);
    if (code != 0)
        return fail(run, "begin", code);
    code = carry_out_all(run, txn, step);
    if (code == 0 && step->end != CRASH_END_ABORT)
        code = put(run, txn, key_of(lane, KEY_OF_VERSION), &version, sizeof version);
    if (code != 0 || step->end == CRASH_END_ABORT) {
        mdb_txn_abort(txn);
        return code == 0 ? 0 : fail(run, "change a value", code);
    }
    crash_fuse_mark(run->place, CRASH_MARK_ATTEMPTED, lane, step->transaction, 0);
    code = mdb_txn_commit(txn);
    if (code != 0)
        return fail(run, "commit", code);
    crash_fuse_mark(run->place, CRASH_MARK_COMMITTED, lane, step->transaction, ++run->commits);
    crash_fuse_mark(run->place, CRASH_MARK_DURABLE, 0, 0, run->commits);
    return 0;
}

static int open_database(struct run *run)
{
    MDB_txn *txn;
    int code = mdb_txn_begin(run->env, NULL, MDB_RDONLY, &txn);
    if (code == 0) {
        code = mdb_dbi_open(txn, NULL, 0, &run->dbi);
        mdb_txn_abort(txn);
    }
    return code == 0 ? 0 : fail(run, "open the database", code);
}

static int after_step(struct run *run, const struct crash_step *step)
{
    int code = 0;
    if (step->after == CRASH_AFTER_REOPEN) {
        mdb_env_close(run->env);
        run->env = NULL;
        code = open_env(run->place->path, run->flags, &run->env);
        if (code == 0)
            return open_database(run); /* the handle belongs to the environment */
    } else if ((run->flags & MDB_NOSYNC) != 0 &&
               (step->after == CRASH_AFTER_SYNC || step->after == CRASH_AFTER_CHECKPOINT)) {
        code = mdb_env_sync(run->env, 1); /* what its user would do now and then */
    }
    return code == 0 ? 0 : fail(run, "sync or open again", code);
}

static int sync_directory(const struct run *run)
{
    int fd = open(run->place->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int code = fd >= 0 && fsync(fd) == 0 ? 0 : errno;
    if (fd >= 0)
        close(fd);
    return code == 0 ? 0 : fail(run, "sync the directory", code);
}

/* The first transaction: the versions of the lanes, none of which has done anything yet. */
static int create_lanes(struct run *run)
{
    const unsigned lanes = run->session->plan->lanes;
    crash_version version = 0;
    MDB_txn *txn;
    int code = mdb_txn_begin(run->env, NULL, 0, &txn);
    if (code != 0)
        return fail(run, "begin", code);
    code = mdb_dbi_open(txn, NULL, MDB_INTEGERKEY, &run->dbi);
    for (unsigned lane = 0; code == 0 && lane < lanes; lane++)
        code = put(run, txn, key_of(lane, KEY_OF_VERSION), &version, sizeof version);
    if (code != 0) {
        mdb_txn_abort(txn);
        return fail(run, "create the database", code);
    }
    for (unsigned lane = 0; lane < lanes; lane++)
        crash_fuse_mark(run->place, CRASH_MARK_ATTEMPTED, lane, 0, 0);
    code = mdb_txn_commit(txn);
    if (code != 0)
        return fail(run, "commit", code);
    if (sync_directory(run) != 0)
        return -1;
    run->commits++;
    for (unsigned lane = 0; lane < lanes; lane++)
        crash_fuse_mark(run->place, CRASH_MARK_COMMITTED, lane, 0, run->commits);
    crash_fuse_mark(run->place, CRASH_MARK_DURABLE, 0, 0, run->commits);
    crash_fuse_mark(run->place, CRASH_MARK_CREATED, 0, 0, 0);
    return 0;
}

static int run_plan(struct run *run)
{
    const struct crash_plan *plan = run->session->plan;
    int code = open_env(run->place->path, run->flags, &run->env);
    if (code != 0)
        return fail(run, "open the environment", code);
    code = run->session->recover ? open_database(run) : create_lanes(run);
    for (uint32_t i = 0; code == 0 && i < plan->step_count; i++) {
        code = run_step(run, &plan->steps[i]);
        if (code == 0)
            code = after_step(run, &plan->steps[i]);
    }
    if (run->env != NULL)
        mdb_env_close(run->env);
    return code;
}

static int run_default(void *ctx, const struct crash_fuse_place *place)
{
    struct run run = {.session = ctx, .place = place};
    return run_plan(&run);
}

static int run_nosync(void *ctx, const struct crash_fuse_place *place)
{
    struct run run = {.session = ctx, .place = place, .flags = MDB_NOSYNC};
    return run_plan(&run);
}

static int record(struct crash_session *session,
                  int (*workload)(void *ctx, const struct crash_fuse_place *place))
{
    const struct crash_fuse_options options = {
        .root = session->root,
        .trace = session->trace,
        .workload = workload,
        .ctx = session,
    };
    return crash_fuse_record(&options, session->text, sizeof session->text);
}

static int record_default(struct crash_session *session)
{
    return record(session, run_default);
}

static int record_nosync(struct crash_session *session)
{
    return record(session, run_nosync);
}

/* ---- checking ---------------------------------------------------------------------------------
 */

struct found {
    const struct crash_image *image;
    struct crash_verdict *verdict;
    const struct crash_model *models[CRASH_LANES_MAX];
    unsigned seen[CRASH_LANES_MAX]; /* live slots */
};

/* The file must be as long as its own meta page says: reading beyond it would be SIGBUS. */
static bool long_enough(MDB_env *env, const char *path, struct crash_verdict *verdict)
{
    MDB_envinfo info;
    MDB_stat shape;
    struct stat status;
    mdb_env_info(env, &info);
    mdb_env_stat(env, &shape);
    if (stat(path, &status) != 0)
        return false;
    uint64_t needed = ((uint64_t)info.me_last_pgno + 1) * shape.ms_psize;
    if ((uint64_t)status.st_size >= needed)
        return true;
    crash_find(verdict, CRASH_CORRUPT,
               "the file has %" PRIu64 " bytes, its meta page speaks of %" PRIu64
               ": reading it would be SIGBUS",
               (uint64_t)status.st_size, needed);
    return false;
}

/* Which version does each lane say it has? */
static int find_versions(MDB_txn *txn, MDB_dbi dbi, struct found *found)
{
    const struct crash_plan *plan = found->image->plan;
    for (unsigned lane = 0; lane < plan->lanes; lane++) {
        uint64_t number = key_of(lane, KEY_OF_VERSION);
        MDB_val key = {sizeof number, &number}, value;
        crash_version version;
        int code = mdb_get(txn, dbi, &key, &value);
        if (code == MDB_NOTFOUND) {
            crash_find(found->verdict, CRASH_LOST, "lane %u has no version", lane);
            return -1;
        }
        if (code != 0 || value.mv_size != sizeof version) {
            crash_find(found->verdict, CRASH_CORRUPT, "version of lane %u: %s", lane,
                       code != 0 ? mdb_strerror(code) : "wrong size");
            return -1;
        }
        memcpy(&version, value.mv_data, sizeof version);
        found->verdict->versions[lane] = version;
        found->models[lane] = crash_plan_model(plan, lane, version);
        if (found->models[lane] == NULL) {
            crash_find(found->verdict, CRASH_CORRUPT, "lane %u has version %x, which never was",
                       lane, version);
            return -1;
        }
    }
    return 0;
}

static void check_value(struct found *found, uint64_t number, const MDB_val *value)
{
    const unsigned lane = (unsigned)(number >> LANE_SHIFT);
    const uint32_t slot = (uint32_t)number;
    crash_version other = UNKNOWN_VERSION;
    if (slot == KEY_OF_VERSION && lane < found->image->plan->lanes)
        return;
    if (lane >= found->image->plan->lanes || slot >= found->image->plan->slots ||
        value->mv_size != VALUE_BYTES) {
        crash_find(found->verdict, CRASH_CORRUPT, "key %" PRIx64 " of %zu bytes", number,
                   value->mv_size);
        return;
    }
    const struct crash_model *model = found->models[lane];
    if (!model->live[slot]) {
        crash_find(found->verdict, CRASH_TORN, "lane %u slot %u is there; in version %x it is not",
                   lane, slot, model->version);
        return;
    }
    found->seen[lane]++;
    int cell = crash_model_compare(model, lane, slot, value->mv_data, CELL_BYTES, &other);
    if (cell >= 0) {
        bool known = crash_plan_model(found->image->plan, lane, other) != NULL;
        crash_find(found->verdict, known ? CRASH_TORN : CRASH_CORRUPT,
                   "lane %u slot %u cell %d: version %x among those of %x", lane, slot, cell, other,
                   model->version);
    }
}

static void check_values(MDB_txn *txn, MDB_dbi dbi, struct found *found)
{
    const struct crash_plan *plan = found->image->plan;
    MDB_cursor *cursor;
    MDB_val key, value;
    int code = mdb_cursor_open(txn, dbi, &cursor);
    if (code != 0) {
        crash_find(found->verdict, CRASH_CORRUPT, "cursor: %s", mdb_strerror(code));
        return;
    }
    while ((code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        uint64_t number = UINT64_MAX;
        if (key.mv_size == sizeof number)
            memcpy(&number, key.mv_data, sizeof number);
        check_value(found, number, &value);
        if (found->verdict->class != CRASH_FINE)
            break; /* a damaged tree may go round in circles */
    }
    mdb_cursor_close(cursor);
    if (code != 0 && code != MDB_NOTFOUND)
        crash_find(found->verdict, CRASH_CORRUPT, "reading: %s", mdb_strerror(code));
    for (unsigned lane = 0; code == MDB_NOTFOUND && lane < plan->lanes; lane++) {
        unsigned live = 0;
        for (unsigned slot = 0; slot < plan->slots; slot++)
            live += found->models[lane]->live[slot];
        if (found->seen[lane] != live)
            crash_find(found->verdict, CRASH_TORN, "lane %u has %u pages; version %x has %u", lane,
                       found->seen[lane], found->models[lane]->version, live);
    }
}

static void check_env(MDB_env *env, const struct crash_image *image, struct crash_verdict *verdict)
{
    struct found found = {.image = image, .verdict = verdict};
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_stat stat;
    int code = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);
    if (code != 0) {
        crash_find(verdict, CRASH_OPEN_FAILED, "begin: %s", mdb_strerror(code));
        return;
    }
    code = mdb_dbi_open(txn, NULL, 0, &dbi);
    if (code == 0)
        code = mdb_stat(txn, dbi, &stat);
    if (code != 0)
        crash_find(verdict, CRASH_OPEN_FAILED, "open the database: %s", mdb_strerror(code));
    else if (stat.ms_entries == 0)
        verdict->no_root = true;
    else if (find_versions(txn, dbi, &found) == 0)
        check_values(txn, dbi, &found);
    mdb_txn_abort(txn);
}

static void check(void *checker, const struct crash_image *image, struct crash_verdict *verdict)
{
    char path[PATH_MAX];
    MDB_env *env;
    (void)checker;
    snprintf(path, sizeof path, "%s/data.mdb", image->root);
    if (access(path, F_OK) != 0) {
        verdict->no_store = true;
        return;
    }
    int code = open_env(image->root, MDB_RDONLY, &env);
    if (code == ENOENT) { /* an empty file, which a writer would have filled */
        verdict->no_root = true;
        return;
    }
    if (code != 0) {
        crash_find(verdict, CRASH_OPEN_FAILED, "LMDB: %s", mdb_strerror(code));
        return;
    }
    if (long_enough(env, path, verdict))
        check_env(env, image, verdict);
    mdb_env_close(env);
}

/* ---- the subjects -----------------------------------------------------------------------------
 */

static bool supports(const struct crash_workload *workload)
{
    return !workload->threads && workload->backup_percent == 0;
}

static bool deterministic(const struct crash_plan *plan)
{
    (void)plan;
    return true; /* nothing is written through a mapping */
}

static void *check_begin(void)
{
    return NULL;
}

static void check_end(void *checker)
{
    (void)checker;
}

const struct crash_subject crash_subject_lmdb = {
    .name = "lmdb",
    .summary = "LMDB as it comes: each commit durable (control: must pass)",
    .creation_apart = true,
    .deterministic = deterministic,
    .supports = supports,
    .unavailable = crash_fuse_unavailable,
    .record = record_default,
    .check_begin = check_begin,
    .check_end = check_end,
    .check = check,
};

const struct crash_subject crash_subject_lmdb_nosync = {
    .name = "lmdb-nosync",
    .summary = "LMDB with MDB_NOSYNC (control: must fail)",
    .control = true,
    .creation_apart = true,
    .deterministic = deterministic,
    .supports = supports,
    .unavailable = crash_fuse_unavailable,
    .record = record_nosync,
    .check_begin = check_begin,
    .check_end = check_end,
    .check = check,
};
