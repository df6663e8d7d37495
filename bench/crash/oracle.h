/* SPDX-License-Identifier: MIT */
/*
 * The oracle: which transactions a workload does, and what must be in the store after each.
 *
 * A plan is a function of its seed alone. It has 1 to CRASH_LANES_MAX lanes; each lane is a
 * sequence of transactions 1, 2, 3 ... on slots of its own. A slot is a page's place in the lane's
 * directory: empty, or live with some page number that the store chose. Lanes run interleaved in
 * one thread, or in threads of their own. Version 0 of a lane is its empty directory.
 *
 * What a page contains is a function of the plan: it is cut into CRASH_CELLS cells, and a cell is
 * filled from (lane, slot, cell, version of the transaction that last wrote it). So for each
 * version there is exactly one legal content of each page, and a mixture of two versions, or
 * anything else, is found by comparing.
 *
 * A version is a transaction's number with the number of the branch it belongs to: a plan that
 * continues after a crash (crash_plan_branch) gives other contents to the same transaction numbers.
 */
#ifndef BENCH_CRASH_ORACLE_H
#define BENCH_CRASH_ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CRASH_LANES_MAX  4u
#define CRASH_SLOTS_MAX  192u
#define CRASH_CELLS      62u
#define CRASH_COPIES_MAX 4u
#define CRASH_NO_VERSION UINT32_MAX

/* Branch in the upper 8 bits, transaction in the lower 24. */
typedef uint32_t crash_version;

static inline uint32_t crash_version_transaction(crash_version version)
{
    return version & 0xffffffu;
}

enum crash_op_kind {
    CRASH_OP_ALLOCATE,  /* slot: give it a page, zeros */
    CRASH_OP_FREE,      /* slot: free its page */
    CRASH_OP_WRITE,     /* slot, first_cell, cell_count: fill these cells */
    CRASH_OP_SAVEPOINT, /* remember */
    CRASH_OP_ROLLBACK,  /* take back everything since the savepoint */
};

struct crash_op {
    uint8_t kind;
    uint8_t first_cell, cell_count;
    uint16_t slot;
    crash_version version; /* with which the cells are filled; differs from the transaction's own
                              in what will be rolled back or aborted */
};

enum crash_end {
    CRASH_END_DURABLE, /* commit, returning when it is durable */
    CRASH_END_RELAXED, /* commit, durable later */
    CRASH_END_ABORT,
};

/* What is done after a transaction. */
enum crash_after {
    CRASH_AFTER_NOTHING,
    CRASH_AFTER_CHECKPOINT,
    CRASH_AFTER_SYNC,   /* a checkpoint that also gives back the end of the file */
    CRASH_AFTER_FLUSH,  /* make all commits so far durable */
    CRASH_AFTER_REOPEN, /* close the store properly and open it again; in one thread only */
    CRASH_AFTER_BACKUP, /* copy the store, while the following steps go on if it is one thread */
};

struct crash_step {
    uint8_t lane;
    uint8_t end;          /* enum crash_end */
    uint8_t after;        /* enum crash_after */
    uint32_t transaction; /* of the lane; an aborted one has the number that the next will have */
    uint32_t op_first, op_count;
};

struct crash_workload {
    const char *name;
    const char *summary;
    unsigned lanes;
    bool threads;    /* a thread for each lane; else interleaved, one transaction at a time */
    bool background; /* the store may use a background thread */
    bool loose;      /* a thread more changes pages of its own outside transactions */
    unsigned slots;  /* of each lane */
    unsigned steps;  /* of all lanes together */
    unsigned page_size;
    unsigned pool_pages; /* about how many pages the cache may hold */
    unsigned log_limit_bytes, log_segment_bytes;
    /* weights, of 100 */
    unsigned abort_percent, relaxed_percent, savepoint_percent, whole_percent;
    unsigned allocate_percent, free_percent; /* of a transaction's operations */
    unsigned checkpoint_percent, sync_percent, flush_percent, reopen_percent,
        backup_percent; /* of steps */
    bool shrink;        /* grow first, then free from the end, and sync */
};

/* What is in a lane at one version. */
struct crash_model {
    crash_version version;
    uint8_t live[CRASH_SLOTS_MAX];
    crash_version cells[CRASH_SLOTS_MAX][CRASH_CELLS]; /* CRASH_NO_VERSION: zeros */
    crash_version slot_version[CRASH_SLOTS_MAX];       /* of the last that changed it */
};

struct crash_plan {
    const struct crash_workload *workload;
    uint64_t seed;
    uint32_t branch;
    unsigned lanes, slots;
    uint32_t step_count;
    struct crash_step *steps; /* in the order of an interleaved run */
    struct crash_op *ops;
    /* models[lane][i]: after transaction first[lane] + i */
    uint32_t first[CRASH_LANES_MAX], last[CRASH_LANES_MAX];
    struct crash_model *models[CRASH_LANES_MAX];
};

const struct crash_workload *crash_workload_at(unsigned index); /* NULL at the end */
const struct crash_workload *crash_workload_find(const char *name);
unsigned crash_workload_count(void);

/* Never NULL. A seed and a workload give the same plan for ever (within one version of the tool).
 */
struct crash_plan *crash_plan_create(const struct crash_workload *workload, uint64_t seed);
/*
 * A plan that goes on where a crash has left each lane (versions as a check has found them), with
 * other transactions than those that may have been lost. NULL: a version is none of the plan.
 */
struct crash_plan *crash_plan_branch(const struct crash_plan *plan, const crash_version *versions,
                                     uint64_t seed, uint32_t step_count);
void crash_plan_destroy(struct crash_plan *plan);

/* The lane at a version, or NULL: no such transaction was ever attempted. */
const struct crash_model *crash_plan_model(const struct crash_plan *plan, unsigned lane,
                                           crash_version version);

/* ---- contents ---------------------------------------------------------------------------------
 */

/* Bytes of a cell of a page with this payload: a multiple of 8. */
static inline uint32_t crash_cell_bytes(uint32_t payload_bytes)
{
    return payload_bytes / CRASH_CELLS / 8 * 8;
}

/* Fill one cell. version CRASH_NO_VERSION: zeros. */
void crash_cell_fill(void *cell, uint32_t cell_bytes, unsigned lane, unsigned slot, unsigned index,
                     crash_version version);

/*
 * Compare a page with what the model says of a slot: CRASH_CELLS cells from the page's beginning.
 * Returns -1 when all is right, else the first wrong cell. *out_found (may be NULL): the version
 * that the wrong cell seems to have, by its first 8 bytes, or CRASH_NO_VERSION.
 */
int crash_model_compare(const struct crash_model *model, unsigned lane, unsigned slot,
                        const void *page, uint32_t cell_bytes, crash_version *out_found);

#endif
