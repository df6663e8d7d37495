/* SPDX-License-Identifier: MIT */
/*
 * bench_costs OPERATION COUNT DIRECTORY: do one thing COUNT times on a store of its own, by one
 * thread, without a helper thread. For counting instructions, not for timing: scripts/costs runs it
 * under callgrind, which looks at repeat_operation alone. Counts repeat, where times depend on who
 * else is at work.
 *
 * An operation reads eight bytes of a page, chosen by a few instructions. "array" does the same in
 * a bare array: what is left when all management is taken away.
 */
#include <clockpool/clockpool.h>

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_BYTES 4096u
#define PAGES      4096u /* 16 MiB: far more than the simulated caches */
#define HIT_BUDGET (UINT64_C(32) << 20)
#define MISS_BUDGET                                                                                \
    (UINT64_C(4) << 20)     /* a quarter of the pages: by the time they come again...              \
                             */
#define MISS_STRIDE   1251u /* ...all others were there; odd, so that all do */
#define BATCH         16u
#define CHANGED_BYTES 104u /* as `clockpool-bench run --workload commit` */

struct costs {
    struct cp_pager *pager;
    struct cp_page_map map;
    uint64_t first, count; /* pages; count is a power of two */
    uint64_t random, turn;
    char *array;  /* of as many bytes as the store's pages */
    uint64_t sum; /* of what was read, so that nothing is optimised away */
};

struct operation {
    const char *name;
    bool misses; /* on a store that does not fit */
    unsigned pages;
    int (*run)(struct costs *costs);
};

static uint64_t next_random(struct costs *costs)
{
    costs->random ^= costs->random << 13;
    costs->random ^= costs->random >> 7;
    costs->random ^= costs->random << 17;
    return costs->random;
}

static uint64_t next_page(struct costs *costs)
{
    return costs->first + (next_random(costs) >> 20 & (costs->count - 1));
}

static uint64_t next_absent(struct costs *costs)
{
    return costs->first + (costs->turn++ * MISS_STRIDE & (costs->count - 1));
}

/* Eight bytes somewhere in the page, another line each time. */
static void look_at(struct costs *costs, const void *data)
{
    uint64_t value;
    memcpy(&value, (const char *)data + (costs->random >> 50 & 0xf80) % 4032, sizeof value);
    costs->sum += value;
}

static int run_array(struct costs *costs)
{
    look_at(costs, costs->array + (next_page(costs) - costs->first) * PAGE_BYTES);
    return 0;
}

/* Copied by the library where it may not be looked at: in builds that poison frames. */
static int run_optimistic(struct costs *costs)
{
    uint64_t word, page = next_page(costs);
    const void *data = cp_optimistic_begin(&costs->map, page, &word);
    if (data != NULL) {
        look_at(costs, data);
        if (cp_optimistic_validate(&costs->map, page, word))
            return 0;
    }
    return cp_pager_read(costs->pager, page, 0, &costs->sum, sizeof costs->sum);
}

static int run_fix_inline(struct costs *costs)
{
    struct cp_fix fix;
    int code = cp_page_map_fix(&costs->map, next_page(costs), &fix);
    if (code != 0)
        return code;
    look_at(costs, fix.data);
    cp_page_map_unfix(&fix);
    return 0;
}

static int fix_page(struct costs *costs, uint64_t page, enum cp_latch_mode mode)
{
    struct cp_fix fix;
    int code = cp_pager_fix(costs->pager, page, mode, &fix);
    if (code != 0)
        return code;
    look_at(costs, fix.data);
    cp_pager_unfix(costs->pager, &fix);
    return 0;
}

static int run_fix(struct costs *costs)
{
    return fix_page(costs, next_page(costs), CP_SHARED);
}

static int run_exclusive(struct costs *costs)
{
    return fix_page(costs, next_page(costs), CP_EXCLUSIVE);
}

static int run_miss(struct costs *costs)
{
    return fix_page(costs, next_absent(costs), CP_SHARED);
}

static int fix_batch(struct costs *costs, bool absent)
{
    uint64_t pages[BATCH];
    struct cp_fix fixes[BATCH];
    for (unsigned i = 0; i < BATCH; i++)
        pages[i] = absent ? next_absent(costs) : next_page(costs);
    int code = cp_pager_fix_many(costs->pager, pages, BATCH, CP_SHARED, fixes);
    if (code != 0)
        return code;
    for (unsigned i = 0; i < BATCH; i++)
        look_at(costs, fixes[i].data);
    cp_pager_unfix_many(costs->pager, fixes, BATCH);
    return 0;
}

static int run_fix_many(struct costs *costs)
{
    return fix_batch(costs, false);
}

static int run_miss_many(struct costs *costs)
{
    return fix_batch(costs, true);
}

static int commit(struct costs *costs, enum cp_commit how)
{
    struct cp_mtr *mtr;
    void *data;
    int code = cp_mtr_begin(costs->pager, &mtr);
    if (code != 0)
        return code;
    code = cp_mtr_fix(mtr, next_page(costs), CP_EXCLUSIVE, &data);
    if (code != 0) {
        cp_mtr_abort(mtr);
        return code;
    }
    unsigned char *bytes = data;
    for (unsigned i = 0; i < CHANGED_BYTES / 8; i++) {
        const uint64_t value = next_random(costs);
        memcpy(bytes + i * 8, &value, sizeof value);
    }
    return cp_mtr_commit(mtr, how, NULL);
}

static int run_commit_relaxed(struct costs *costs)
{
    return commit(costs, CP_COMMIT_RELAXED);
}

static int run_commit(struct costs *costs)
{
    return commit(costs, CP_COMMIT_DURABLE);
}

static const struct operation operations[] = {
    {"array", false, 1, run_array},
    {"optimistic", false, 1, run_optimistic},
    {"fix-inline", false, 1, run_fix_inline},
    {"fix", false, 1, run_fix},
    {"fix-many", false, BATCH, run_fix_many},
    {"exclusive", false, 1, run_exclusive},
    {"miss", true, 1, run_miss},
    {"miss-many", true, BATCH, run_miss_many},
    {"commit-relaxed", false, 1, run_commit_relaxed},
    {"commit", false, 1, run_commit},
};

#define OPERATION_COUNT (sizeof operations / sizeof *operations)

static int write_pages(struct costs *costs)
{
    int code = cp_pager_allocate_run(costs->pager, costs->count, &costs->first);
    for (uint64_t i = 0; code == 0 && i < costs->count; i++) {
        struct cp_fix fix;
        code = cp_pager_fix_new(costs->pager, costs->first + i, &fix);
        if (code == 0) {
            memset(fix.data, (int)(i & 0xff), cp_pager_payload_size(costs->pager));
            cp_pager_unfix(costs->pager, &fix);
        }
    }
    return code == 0 ? cp_pager_sync(costs->pager) : code;
}

/* A new store, closed and opened again: pages that were loaded for a reader are those that are
 * usually read. All of them are resident if they fit. */
static int make_store(struct costs *costs, const char *directory, bool misses)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/costs-store", directory) >= (int)sizeof path)
        return -ENAMETOOLONG;
    struct cp_pager_options options = {
        .create = true,
        .exclusive = true,
        .budget_bytes = misses ? MISS_BUDGET : HIT_BUDGET,
        .background = CP_BACKGROUND_NONE,
    };
    costs->count = PAGES;
    int code = cp_pager_open(path, &options, &costs->pager);
    if (code == 0)
        code = write_pages(costs);
    if (code == 0)
        code = cp_pager_close(costs->pager);
    options.create = options.exclusive = false;
    if (code == 0)
        code = cp_pager_open(path, &options, &costs->pager);
    if (code == 0)
        costs->map = *cp_pager_page_map(costs->pager);
    for (uint64_t i = 0; code == 0 && i < costs->count; i++)
        code = fix_page(costs, costs->first + i, CP_SHARED);
    /* The log is opened by the first change: not to be counted, nor where it ended before. */
    return code == 0 ? run_commit(costs) : code;
}

/* What callgrind counts; it finds the function by its name. */
__attribute__((noinline)) static int repeat_operation(const struct operation *operation,
                                                      struct costs *costs, uint64_t count)
{
    int code = 0;
    for (uint64_t done = 0; code == 0 && done < count; done += operation->pages)
        code = operation->run(costs);
    return code;
}

static int measure(const struct operation *operation, uint64_t count, const char *directory)
{
    struct costs costs = {.random = UINT64_C(88172645463325252)};
    struct cp_pager_stats before, after;
    char text[600];
    costs.array = calloc(PAGES, PAGE_BYTES);
    if (costs.array == NULL)
        return 1;
    int code = make_store(&costs, directory, operation->misses);
    if (code == 0) {
        cp_pager_stats(costs.pager, &before);
        code = repeat_operation(operation, &costs, count);
    }
    if (code == 0) {
        cp_pager_stats(costs.pager, &after);
        code = cp_pager_close(costs.pager);
    } else if (costs.pager != NULL) {
        cp_pager_abandon(costs.pager);
    }
    free(costs.array);
    if (code != 0) {
        fprintf(stderr, "bench_costs: %s\n", cp_error_format(text, sizeof text));
        return 1;
    }
    printf("%s %" PRIu64 ": misses %" PRIu64 ", evictions %" PRIu64 ", log bytes %" PRIu64
           ", log flushes %" PRIu64 ", sum %" PRIx64 "; %s, %s\n",
           operation->name, count, after.pool.misses - before.pool.misses,
           after.pool.evictions - before.pool.evictions, after.wal.end - before.wal.end,
           after.wal.flushes - before.wal.flushes, costs.sum, after.pool.io_backend,
           after.direct ? "O_DIRECT" : "buffered");
    return 0;
}

int main(int argc, char **argv)
{
    for (unsigned i = 0; argc == 4 && i < OPERATION_COUNT; i++)
        if (strcmp(argv[1], operations[i].name) == 0)
            return measure(&operations[i], strtoull(argv[2], NULL, 10), argv[3]);
    fprintf(stderr, "usage: bench_costs OPERATION COUNT DIRECTORY\noperations:");
    for (unsigned i = 0; i < OPERATION_COUNT; i++)
        fprintf(stderr, " %s", operations[i].name);
    fputc('\n', stderr);
    return 2;
}
