/* SPDX-License-Identifier: MIT */
/* Workloads, the plans that are made of them, and the contents of pages. */
#include "oracle.h"

#include "random.h"

#include <stdlib.h>
#include <string.h>

#define BRANCH_SHIFT      24
#define VERSION_DISCARDED UINT32_C(0x800000) /* in the transaction's bits: never to be seen */
#define STEP_OPS_MAX      24u
#define ROLLED_BACK_OPS   3u
#define LIVE_MIN          2u /* pages that a lane keeps, so that there is something to write */

/*
 * Small stores, small logs: a state must be cheap to make and check, and rare things (a checkpoint,
 * a segment used again, an eviction) must happen every few transactions.
 */
static const struct crash_workload workloads[] = {
    {.name = "mixed",
     .summary = "a bit of everything",
     .lanes = 1,
     .slots = 40,
     .steps = 60,
     .page_size = 4096,
     .pool_pages = 24,
     .log_limit_bytes = 65536,
     .log_segment_bytes = 16384,
     .abort_percent = 8,
     .relaxed_percent = 40,
     .savepoint_percent = 20,
     .whole_percent = 20,
     .allocate_percent = 30,
     .free_percent = 10,
     .checkpoint_percent = 8,
     .sync_percent = 3,
     .flush_percent = 4},
    {.name = "lanes",
     .summary = "three sequences side by side",
     .lanes = 3,
     .slots = 20,
     .steps = 70,
     .page_size = 4096,
     .pool_pages = 24,
     .log_limit_bytes = 65536,
     .log_segment_bytes = 32768,
     .abort_percent = 8,
     .relaxed_percent = 60,
     .savepoint_percent = 10,
     .whole_percent = 20,
     .allocate_percent = 30,
     .free_percent = 12,
     .checkpoint_percent = 8,
     .flush_percent = 8},
    {.name = "churn",
     .summary = "pages allocated and freed all the time",
     .lanes = 1,
     .slots = 60,
     .steps = 70,
     .page_size = 4096,
     .pool_pages = 24,
     .log_limit_bytes = 65536,
     .log_segment_bytes = 32768,
     .abort_percent = 12,
     .relaxed_percent = 40,
     .savepoint_percent = 25,
     .whole_percent = 30,
     .allocate_percent = 45,
     .free_percent = 40,
     .checkpoint_percent = 10,
     .sync_percent = 4},
    {.name = "shrink",
     .summary = "grow, then free from the end and give the space back",
     .lanes = 1,
     .slots = 90,
     .steps = 50,
     .page_size = 4096,
     .pool_pages = 24,
     .log_limit_bytes = 131072,
     .log_segment_bytes = 32768,
     .relaxed_percent = 30,
     .whole_percent = 50,
     .allocate_percent = 60,
     .free_percent = 5,
     .checkpoint_percent = 4,
     .sync_percent = 20,
     .shrink = true},
    {.name = "recycle",
     .summary = "a tiny log, whole pages: segments are used again and again",
     .lanes = 1,
     .slots = 24,
     .steps = 80,
     .page_size = 4096,
     .pool_pages = 24,
     .log_limit_bytes = 49152,
     .log_segment_bytes = 16384,
     .abort_percent = 4,
     .relaxed_percent = 30,
     .savepoint_percent = 5,
     .whole_percent = 60,
     .allocate_percent = 25,
     .free_percent = 10,
     .checkpoint_percent = 15},
    {.name = "evict",
     .summary = "a pool far smaller than the data: eviction never stops",
     .lanes = 1,
     .slots = 150,
     .steps = 70,
     .page_size = 4096,
     .pool_pages = 10,
     .log_limit_bytes = 262144,
     .log_segment_bytes = 32768,
     .abort_percent = 5,
     .relaxed_percent = 75,
     .savepoint_percent = 5,
     .whole_percent = 25,
     .allocate_percent = 40,
     .free_percent = 3,
     .checkpoint_percent = 5},
    {.name = "create",
     .summary = "creation, and the first few transactions",
     .lanes = 1,
     .slots = 8,
     .steps = 4,
     .page_size = 4096,
     .pool_pages = 24,
     .log_limit_bytes = 65536,
     .log_segment_bytes = 16384,
     .relaxed_percent = 20,
     .whole_percent = 50,
     .allocate_percent = 60},
    {.name = "large-pages",
     .summary = "pages of 16 KiB, which tear in many ways",
     .lanes = 1,
     .slots = 24,
     .steps = 40,
     .page_size = 16384,
     .pool_pages = 16,
     .log_limit_bytes = 262144,
     .log_segment_bytes = 65536,
     .abort_percent = 5,
     .relaxed_percent = 40,
     .whole_percent = 20,
     .allocate_percent = 30,
     .free_percent = 8,
     .checkpoint_percent = 12},
    {.name = "reopen",
     .summary = "closed properly and opened again in between",
     .lanes = 1,
     .slots = 30,
     .steps = 40,
     .page_size = 4096,
     .pool_pages = 24,
     .log_limit_bytes = 65536,
     .log_segment_bytes = 32768,
     .abort_percent = 5,
     .relaxed_percent = 40,
     .savepoint_percent = 10,
     .whole_percent = 25,
     .allocate_percent = 35,
     .free_percent = 20,
     .checkpoint_percent = 5,
     .sync_percent = 5,
     .reopen_percent = 15},
    {.name = "threads",
     .summary = "three threads",
     .lanes = 3,
     .threads = true,
     .slots = 24,
     .steps = 90,
     .page_size = 4096,
     .pool_pages = 32,
     .log_limit_bytes = 98304,
     .log_segment_bytes = 16384,
     .abort_percent = 6,
     .relaxed_percent = 40,
     .savepoint_percent = 8,
     .whole_percent = 25,
     .allocate_percent = 30,
     .free_percent = 15,
     .checkpoint_percent = 5,
     .sync_percent = 2,
     .flush_percent = 3},
    {.name = "rush",
     .summary = "three threads, a tiny log, a checkpoint every few transactions",
     .lanes = 3,
     .threads = true,
     .slots = 20,
     .steps = 100,
     .page_size = 4096,
     .pool_pages = 24,
     .log_limit_bytes = 32768,
     .log_segment_bytes = 16384,
     .abort_percent = 3,
     .relaxed_percent = 40,
     .whole_percent = 60,
     .allocate_percent = 25,
     .free_percent = 12,
     .checkpoint_percent = 20,
     .sync_percent = 4},
    {.name = "background",
     .summary = "two threads and the store's own",
     .lanes = 2,
     .threads = true,
     .background = true,
     .slots = 30,
     .steps = 90,
     .page_size = 4096,
     .pool_pages = 24,
     .log_limit_bytes = 49152,
     .log_segment_bytes = 16384,
     .abort_percent = 6,
     .relaxed_percent = 60,
     .savepoint_percent = 8,
     .whole_percent = 30,
     .allocate_percent = 30,
     .free_percent = 15,
     .flush_percent = 4},
    {.name = "loose",
     .summary = "two threads and the store's own, a third outside transactions",
     .lanes = 2,
     .threads = true,
     .background = true,
     .loose = true,
     .slots = 24,
     .steps = 80,
     .page_size = 4096,
     .pool_pages = 24,
     .log_limit_bytes = 49152,
     .log_segment_bytes = 16384,
     .abort_percent = 6,
     .relaxed_percent = 50,
     .savepoint_percent = 8,
     .whole_percent = 30,
     .allocate_percent = 35,
     .free_percent = 25,
     .checkpoint_percent = 4,
     .sync_percent = 2,
     .flush_percent = 4},
    {.name = "commits",
     .summary = "four threads, nearly all commits durable: several writes of the log under way",
     .lanes = 4,
     .threads = true,
     .slots = 12,
     .steps = 120,
     .page_size = 4096,
     .pool_pages = 48,
     .log_limit_bytes = 131072,
     .log_segment_bytes = 32768,
     .abort_percent = 2,
     .relaxed_percent = 8,
     .whole_percent = 5,
     .allocate_percent = 20,
     .free_percent = 10,
     .checkpoint_percent = 2},
    {.name = "backup",
     .summary = "copied now and then while two sequences go on; the copies, too, must be whole",
     .lanes = 2,
     .slots = 7,
     .steps = 48,
     .page_size = 4096,
     .pool_pages = 24,
     .log_limit_bytes = 65536,
     .log_segment_bytes = 16384,
     .abort_percent = 6,
     .relaxed_percent = 50,
     .savepoint_percent = 8,
     .whole_percent = 30,
     .allocate_percent = 25,
     .free_percent = 20,
     .checkpoint_percent = 14,
     .sync_percent = 4,
     .flush_percent = 4,
     .reopen_percent = 3,
     .backup_percent = 7},
    {.name = "backup-threads",
     .summary = "copied now and then by one of three threads, beside them the store's own",
     .lanes = 3,
     .threads = true,
     .background = true,
     .slots = 6,
     .steps = 60,
     .page_size = 4096,
     .pool_pages = 24,
     .log_limit_bytes = 49152,
     .log_segment_bytes = 16384,
     .abort_percent = 6,
     .relaxed_percent = 50,
     .savepoint_percent = 8,
     .whole_percent = 30,
     .allocate_percent = 25,
     .free_percent = 20,
     .checkpoint_percent = 8,
     .sync_percent = 2,
     .flush_percent = 4,
     .backup_percent = 6},
};
#define WORKLOADS (sizeof workloads / sizeof workloads[0])

const struct crash_workload *crash_workload_at(unsigned index)
{
    return index < WORKLOADS ? &workloads[index] : NULL;
}

unsigned crash_workload_count(void)
{
    return WORKLOADS;
}

const struct crash_workload *crash_workload_find(const char *name)
{
    for (unsigned i = 0; i < WORKLOADS; i++) {
        if (strcmp(workloads[i].name, name) == 0)
            return &workloads[i];
    }
    return NULL;
}

/* ---- contents ---------------------------------------------------------------------------------
 */

static uint64_t first_word(unsigned lane, unsigned slot, unsigned index, crash_version version)
{
    return (uint64_t)version << 32 | (uint64_t)lane << 28 | (uint64_t)slot << 8 | index;
}

void crash_cell_fill(void *cell, uint32_t cell_bytes, unsigned lane, unsigned slot, unsigned index,
                     crash_version version)
{
    if (version == CRASH_NO_VERSION) {
        memset(cell, 0, cell_bytes);
        return;
    }
    uint64_t first = first_word(lane, slot, index, version), word = first;
    for (uint32_t at = 0; at < cell_bytes; at += 8) {
        memcpy((uint8_t *)cell + at, &word, 8);
        word = bench_mix(first + at + 1);
    }
}

static bool cell_good(const uint8_t *cell, uint32_t cell_bytes, uint64_t first, bool zeros)
{
    uint64_t word = zeros ? 0 : first, wrong = 0, found;
    for (uint32_t at = 0; at < cell_bytes; at += 8) {
        memcpy(&found, cell + at, 8);
        wrong |= found ^ word;
        word = zeros ? 0 : bench_mix(first + at + 1);
    }
    return wrong == 0;
}

int crash_model_compare(const struct crash_model *model, unsigned lane, unsigned slot,
                        const void *page, uint32_t cell_bytes, crash_version *out_found)
{
    for (unsigned i = 0; i < CRASH_CELLS; i++) {
        const uint8_t *cell = (const uint8_t *)page + (size_t)i * cell_bytes;
        crash_version version = model->cells[slot][i];
        if (cell_good(cell, cell_bytes, first_word(lane, slot, i, version),
                      version == CRASH_NO_VERSION))
            continue;
        uint64_t word;
        memcpy(&word, cell, 8);
        if (out_found != NULL)
            *out_found = word == 0 ? CRASH_NO_VERSION : (crash_version)(word >> 32);
        return (int)i;
    }
    return -1;
}

/* ---- plans ------------------------------------------------------------------------------------
 */

struct maker {
    struct crash_plan *plan;
    struct bench_random random;
    struct crash_model *now;        /* of each lane */
    uint8_t freed[CRASH_SLOTS_MAX]; /* in the transaction being made */
    uint32_t op_count, op_capacity;
    uint32_t discarded; /* counts what will be rolled back */
};

static bool percent(struct maker *maker, unsigned chance)
{
    return bench_random_below(&maker->random, 100) < chance;
}

static void add_op(struct maker *maker, struct crash_op op)
{
    struct crash_plan *plan = maker->plan;
    if (maker->op_count == maker->op_capacity) {
        maker->op_capacity = maker->op_capacity * 2 + 256;
        plan->ops = realloc(plan->ops, maker->op_capacity * sizeof *plan->ops);
        if (plan->ops == NULL)
            abort();
    }
    plan->ops[maker->op_count++] = op;
}

/* A slot that is live (or not), or -1. last: that with the highest number. */
static int pick_slot(struct maker *maker, const struct crash_model *model, bool live, bool last)
{
    unsigned slots = maker->plan->slots;
    unsigned start = (unsigned)bench_random_below(&maker->random, slots);
    for (unsigned i = 0; i < slots; i++) {
        unsigned slot = last ? slots - 1 - i : (start + i) % slots;
        if (model->live[slot] == live && !maker->freed[slot])
            return (int)slot;
    }
    return -1;
}

static unsigned count_live(const struct maker *maker, const struct crash_model *model)
{
    unsigned live = 0;
    for (unsigned i = 0; i < maker->plan->slots; i++)
        live += model->live[i];
    return live;
}

static void make_write(struct maker *maker, struct crash_model *model, int slot, bool whole,
                       crash_version version)
{
    unsigned first = (unsigned)bench_random_below(&maker->random, CRASH_CELLS - 4);
    unsigned count = 1 + (unsigned)bench_random_below(&maker->random, 4);
    if (whole) {
        first = 0;
        count = CRASH_CELLS;
    }
    add_op(maker, (struct crash_op){CRASH_OP_WRITE, (uint8_t)first, (uint8_t)count, (uint16_t)slot,
                                    version});
    for (unsigned i = first; i < first + count; i++)
        model->cells[slot][i] = version;
    model->slot_version[slot] = version;
}

/* One operation, or two where a page is allocated and filled. */
static void make_op(struct maker *maker, struct crash_model *model, crash_version version,
                    bool shrinking)
{
    const struct crash_workload *workload = maker->plan->workload;
    unsigned kind = (unsigned)bench_random_below(&maker->random, 100);
    unsigned free_percent = shrinking ? 80 : workload->free_percent;
    unsigned allocate_percent = shrinking ? 0 : workload->allocate_percent;
    unsigned live = count_live(maker, model);
    int slot = -1;
    if (kind < allocate_percent || live == 0) {
        slot = pick_slot(maker, model, false, false);
        if (slot < 0)
            return;
        add_op(maker, (struct crash_op){CRASH_OP_ALLOCATE, 0, 0, (uint16_t)slot, version});
        model->live[slot] = 1;
        for (unsigned i = 0; i < CRASH_CELLS; i++)
            model->cells[slot][i] = CRASH_NO_VERSION;
        model->slot_version[slot] = version;
        if (percent(maker, 80))
            make_write(maker, model, slot, percent(maker, 50), version);
    } else if (kind < allocate_percent + free_percent && live > LIVE_MIN) {
        slot = pick_slot(maker, model, true, shrinking);
        if (slot < 0)
            return;
        add_op(maker, (struct crash_op){CRASH_OP_FREE, 0, 0, (uint16_t)slot, version});
        model->live[slot] = 0;
        model->slot_version[slot] = version;
        maker->freed[slot] = 1;
    } else {
        slot = pick_slot(maker, model, true, false);
        if (slot >= 0)
            make_write(maker, model, slot, percent(maker, workload->whole_percent), version);
    }
}

/* Operations that a rollback, or the abort, takes back. */
static void make_discarded(struct maker *maker, const struct crash_model *model, bool shrinking)
{
    struct crash_model *copy = malloc(sizeof *copy);
    uint8_t freed[CRASH_SLOTS_MAX];
    if (copy == NULL)
        abort();
    *copy = *model;
    memcpy(freed, maker->freed, sizeof freed);
    crash_version version =
        maker->plan->branch << BRANCH_SHIFT | VERSION_DISCARDED | ++maker->discarded;
    for (unsigned i = 0; i < ROLLED_BACK_OPS; i++)
        make_op(maker, copy, version, shrinking);
    memcpy(maker->freed, freed, sizeof freed);
    free(copy);
}

static uint8_t choose_after(struct maker *maker)
{
    const struct crash_workload *workload = maker->plan->workload;
    unsigned chance = (unsigned)bench_random_below(&maker->random, 100);
    if (chance < workload->checkpoint_percent)
        return CRASH_AFTER_CHECKPOINT;
    chance -= workload->checkpoint_percent;
    if (chance < workload->sync_percent)
        return CRASH_AFTER_SYNC;
    chance -= workload->sync_percent;
    if (chance < workload->flush_percent)
        return CRASH_AFTER_FLUSH;
    chance -= workload->flush_percent;
    if (chance < workload->reopen_percent)
        return CRASH_AFTER_REOPEN;
    chance -= workload->reopen_percent;
    return chance < workload->backup_percent ? CRASH_AFTER_BACKUP : CRASH_AFTER_NOTHING;
}

static void make_step(struct maker *maker, uint32_t number)
{
    struct crash_plan *plan = maker->plan;
    const struct crash_workload *workload = plan->workload;
    struct crash_step *step = &plan->steps[number];
    unsigned lane = (unsigned)bench_random_below(&maker->random, plan->lanes);
    bool shrinking = workload->shrink && number > plan->step_count * 3 / 5;
    struct crash_model *model = &maker->now[lane];
    uint32_t transaction = plan->last[lane] + 1;
    crash_version version = plan->branch << BRANCH_SHIFT | transaction;

    *step = (struct crash_step){.lane = (uint8_t)lane,
                                .transaction = transaction,
                                .op_first = maker->op_count,
                                .end = CRASH_END_DURABLE};
    memset(maker->freed, 0, sizeof maker->freed);
    if (percent(maker, workload->abort_percent)) {
        step->end = CRASH_END_ABORT;
        make_discarded(maker, model, shrinking);
    } else {
        if (percent(maker, workload->relaxed_percent))
            step->end = CRASH_END_RELAXED;
        unsigned ops = 1 + (unsigned)bench_random_below(&maker->random, 5);
        unsigned rollback_at = percent(maker, workload->savepoint_percent)
                                   ? (unsigned)bench_random_below(&maker->random, ops)
                                   : ops;
        for (unsigned i = 0; i < ops; i++) {
            if (i == rollback_at) {
                add_op(maker, (struct crash_op){.kind = CRASH_OP_SAVEPOINT});
                make_discarded(maker, model, shrinking);
                add_op(maker, (struct crash_op){.kind = CRASH_OP_ROLLBACK});
            }
            make_op(maker, model, version, shrinking);
        }
        model->version = version;
        plan->last[lane] = transaction;
        plan->models[lane][transaction - plan->first[lane]] = *model;
    }
    step->op_count = maker->op_count - step->op_first;
    step->after = choose_after(maker);
}

static struct crash_plan *make(const struct crash_workload *workload, uint64_t seed,
                               uint32_t branch, uint32_t step_count,
                               const struct crash_model *const *start)
{
    struct crash_plan *plan = calloc(1, sizeof *plan);
    struct maker maker = {.plan = plan};
    maker.now = calloc(workload->lanes, sizeof *maker.now);
    if (plan == NULL || maker.now == NULL)
        abort();
    plan->workload = workload;
    plan->seed = seed;
    plan->branch = branch;
    plan->lanes = workload->lanes;
    plan->slots = workload->slots;
    plan->step_count = step_count;
    plan->steps = calloc(step_count + 1, sizeof *plan->steps);
    if (plan->steps == NULL)
        abort();
    bench_random_init(&maker.random, seed, branch);
    for (unsigned lane = 0; lane < plan->lanes; lane++) {
        if (start != NULL)
            maker.now[lane] = *start[lane];
        else
            memset(maker.now[lane].cells, 0xff, sizeof maker.now[lane].cells);
        plan->first[lane] = plan->last[lane] = crash_version_transaction(maker.now[lane].version);
        plan->models[lane] = malloc((step_count + 1) * sizeof *plan->models[lane]);
        if (plan->models[lane] == NULL)
            abort();
        plan->models[lane][0] = maker.now[lane];
    }
    for (uint32_t i = 0; i < step_count; i++)
        make_step(&maker, i);
    free(maker.now);
    return plan;
}

struct crash_plan *crash_plan_create(const struct crash_workload *workload, uint64_t seed)
{
    return make(workload, seed, 0, workload->steps, NULL);
}

struct crash_plan *crash_plan_branch(const struct crash_plan *plan, const crash_version *versions,
                                     uint64_t seed, uint32_t step_count)
{
    const struct crash_model *start[CRASH_LANES_MAX];
    for (unsigned lane = 0; lane < plan->lanes; lane++) {
        start[lane] = crash_plan_model(plan, lane, versions[lane]);
        if (start[lane] == NULL)
            return NULL;
    }
    return make(plan->workload, seed, plan->branch + 1, step_count, start);
}

void crash_plan_destroy(struct crash_plan *plan)
{
    if (plan == NULL)
        return;
    for (unsigned lane = 0; lane < plan->lanes; lane++)
        free(plan->models[lane]);
    free(plan->steps);
    free(plan->ops);
    free(plan);
}

const struct crash_model *crash_plan_model(const struct crash_plan *plan, unsigned lane,
                                           crash_version version)
{
    uint32_t transaction = crash_version_transaction(version);
    if (lane >= plan->lanes || transaction < plan->first[lane] || transaction > plan->last[lane])
        return NULL;
    const struct crash_model *model = &plan->models[lane][transaction - plan->first[lane]];
    return model->version == version ? model : NULL;
}
