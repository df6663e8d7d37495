/* SPDX-License-Identifier: MIT */
/* The buddy allocator, one thread: against a model, exhaustively and at random; and its edges. */
#include "helpers.h"

#include <clockpool/buddy.h>

#include <errno.h>
#include <sys/mman.h>

#define UNIT CP_BUDDY_UNIT_BYTES

/* Memory for the tests: aligned to 2 MiB, so that every max_order up to 9 will do. */
#define RANGE_UNITS 1024u
static char *range; /* RANGE_UNITS units, mapped by main */

static struct cp_buddy *create_buddy(uint32_t units, uint32_t max_order, uint32_t cache_blocks)
{
    struct cp_buddy *buddy = NULL;
    struct cp_buddy_options options = {.base = range,
                                       .size_bytes = units * UNIT,
                                       .max_order = max_order,
                                       .cache_blocks = cache_blocks};
    assert_int_equal(cp_buddy_create(&options, &buddy), 0);
    return buddy;
}

static struct cp_buddy *create_full_buddy(uint32_t units, uint32_t max_order, uint32_t cache_blocks)
{
    struct cp_buddy *buddy = create_buddy(units, max_order, cache_blocks);
    assert_int_equal(cp_buddy_add(buddy, 0, units * UNIT), 0);
    return buddy;
}

static void destroy_buddy(struct cp_buddy *buddy)
{
    assert_int_equal(cp_buddy__check(buddy), 0);
    cp_buddy_destroy(buddy);
}

/*
 * The exhaustive test. A state is the set of allocated blocks: 4 bits per unit, order + 1 in the
 * first unit of an allocated block and 0 elsewhere. Which blocks are free follows from it, since
 * buddies always merge; so states can be told apart and none is visited twice.
 */
#ifdef CP_VALGRIND /* thirty times slower */
#define SMALL_DEPTH 10u
#define STATES_MIN  12000u
#else
#define SMALL_DEPTH 12u
#define STATES_MIN  40000u
#endif
#define SMALL_UNITS  16u
#define SMALL_ORDER  4u
#define STATES_MAX   (1u << 17)
#define STATES_TABLE (1u << 19)

static uint64_t states[STATES_MAX];
static uint64_t state_table[STATES_TABLE]; /* open addressing; keys are stored plus 1 */
static uint32_t state_count;

static void note_state(uint64_t key)
{
    uint64_t seed = key;
    uint32_t slot = (uint32_t)test_random(&seed) % STATES_TABLE;
    while (state_table[slot] != 0) {
        if (state_table[slot] == key + 1)
            return;
        slot = (slot + 1) % STATES_TABLE;
    }
    state_table[slot] = key + 1;
    assert_true(state_count < STATES_MAX);
    states[state_count++] = key;
}

static unsigned field(uint64_t key, unsigned unit)
{
    return (unsigned)(key >> (4 * unit)) & 15;
}

/* The model: units in use as a bitmap, from which everything else is worked out anew. */
static uint32_t used_units(uint64_t key)
{
    uint32_t used = 0;
    for (unsigned unit = 0; unit < SMALL_UNITS; unit++) {
        if (field(key, unit) != 0)
            used |= ((1u << (1u << (field(key, unit) - 1))) - 1) << unit;
    }
    return used;
}

static bool model_is_free(uint32_t used, unsigned unit, unsigned order)
{
    uint32_t mask = ((1u << (1u << order)) - 1) << unit;
    return (used & mask) == 0;
}

/* A maximal free block: free, and its parent is not. */
static bool model_is_free_block(uint32_t used, unsigned unit, unsigned order)
{
    return model_is_free(used, unit, order) &&
           (order == SMALL_ORDER || !model_is_free(used, unit & ~((2u << order) - 1), order + 1));
}

/* Where the policy puts a block: smallest order that fits, then lowest address. */
static int model_alloc(uint32_t used, unsigned order)
{
    for (unsigned from = order; from <= SMALL_ORDER; from++) {
        for (unsigned unit = 0; unit < SMALL_UNITS; unit += 1u << from) {
            if (model_is_free_block(used, unit, from))
                return (int)unit;
        }
    }
    return -1;
}

static void check_against_model(struct cp_buddy *buddy, uint64_t key)
{
    uint32_t used = used_units(key);
    struct cp_buddy_stats stats;

    assert_int_equal(cp_buddy__check(buddy), 0);
    cp_buddy_stats(buddy, &stats);
    assert_int_equal(stats.allocated_bytes, (uint64_t)__builtin_popcount(used) * UNIT);
    for (unsigned order = 0; order <= SMALL_ORDER; order++) {
        uint64_t expected = 0;
        for (unsigned unit = 0; unit < SMALL_UNITS; unit += 1u << order)
            expected += model_is_free_block(used, unit, order);
        assert_int_equal(stats.free_blocks[order], expected);
    }
}

/*
 * Bring an empty allocator into a state: a block that is added alone can only be allocated as
 * itself. Then the rest is added, in the order of addresses, and merges as it must.
 */
static void enter_state(struct cp_buddy *buddy, uint64_t key)
{
    uint32_t used = used_units(key);
    for (unsigned unit = 0; unit < SMALL_UNITS; unit++) {
        if (field(key, unit) == 0)
            continue;
        unsigned order = field(key, unit) - 1;
        assert_int_equal(cp_buddy_add(buddy, unit * UNIT, UNIT << order), 0);
        assert_ptr_equal(cp_buddy_alloc(buddy, order), range + unit * UNIT);
    }
    for (unsigned unit = 0; unit < SMALL_UNITS; unit++) {
        if ((used >> unit & 1) == 0)
            assert_int_equal(cp_buddy_add(buddy, unit * UNIT, UNIT), 0);
    }
}

static void leave_state(struct cp_buddy *buddy, uint64_t key)
{
    for (unsigned unit = 0; unit < SMALL_UNITS; unit++) {
        if (field(key, unit) != 0)
            cp_buddy_free(buddy, range + unit * UNIT, field(key, unit) - 1);
    }
    assert_int_equal(cp_buddy_remove(buddy, 0, SMALL_UNITS * UNIT), 0);
}

/* From one state: every alloc (undone by a free), then every free (the state is entered anew). */
static void visit_state(struct cp_buddy *buddy, uint64_t key)
{
    enter_state(buddy, key);
    check_against_model(buddy, key);
    for (unsigned order = 0; order <= SMALL_ORDER; order++) {
        int unit = model_alloc(used_units(key), order);
        char *block = cp_buddy_alloc(buddy, order);
        assert_ptr_equal(block, unit < 0 ? NULL : range + (unsigned)unit * UNIT);
        if (unit < 0)
            continue;
        note_state(key | (uint64_t)(order + 1) << (4 * (unsigned)unit));
        cp_buddy_free(buddy, block, order);
    }
    check_against_model(buddy, key);
    leave_state(buddy, key);
    for (unsigned unit = 0; unit < SMALL_UNITS; unit++) {
        if (field(key, unit) == 0)
            continue;
        uint64_t next = key & ~(UINT64_C(15) << (4 * unit));
        enter_state(buddy, key);
        cp_buddy_free(buddy, range + unit * UNIT, field(key, unit) - 1);
        check_against_model(buddy, next);
        note_state(next);
        leave_state(buddy, next);
    }
}

static void buddy_every_sequence_up_to_a_depth_follows_the_model(void **state)
{
    (void)state;
    struct cp_buddy *buddy = create_buddy(SMALL_UNITS, SMALL_ORDER, 0);
    uint32_t done = 0;

    note_state(0);
    for (unsigned depth = 0; depth < SMALL_DEPTH; depth++) {
        uint32_t end = state_count;
        for (; done < end; done++)
            visit_state(buddy, states[done]);
    }
    print_message("%u states visited, %u seen, %u operations deep\n", done, state_count,
                  SMALL_DEPTH);
    assert_true(done >= STATES_MIN);
    destroy_buddy(buddy);
}

/* The random test: a list of live blocks and an owner per unit, with caches and moving extents. */
struct live {
    char *block;
    uint32_t order;
    uint32_t mark;
};

struct model {
    struct cp_buddy *buddy;
    uint64_t random;
    struct live live[RANGE_UNITS];
    uint32_t live_count, next_mark;
    bool used[RANGE_UNITS], added[RANGE_UNITS];
};

#define EXTENT_UNITS 64u

static void model_step_alloc(struct model *model)
{
    uint32_t order = (uint32_t)test_random(&model->random) % 4;
    if (order != 0 && test_random(&model->random) % 4 == 0)
        order = (uint32_t)test_random(&model->random) % 8;
    char *block = cp_buddy_alloc(model->buddy, order);
    if (block == NULL)
        return;
    uint64_t first = (uint64_t)(block - range) / UNIT;
    assert_int_equal(first % (1u << order), 0);
    assert_true(first + (1u << order) <= RANGE_UNITS);
    for (uint64_t i = first; i < first + (1u << order); i++) {
        assert_true(model->added[i]);
        assert_false(model->used[i]);
        model->used[i] = true;
    }
    uint32_t mark = ++model->next_mark;
    memcpy(block, &mark, sizeof mark);
    memcpy(block + (UNIT << order) - sizeof mark, &mark, sizeof mark);
    model->live[model->live_count++] = (struct live){block, order, mark};
}

static void model_step_free(struct model *model)
{
    if (model->live_count == 0)
        return;
    uint32_t chosen = (uint32_t)(test_random(&model->random) % model->live_count);
    struct live live = model->live[chosen];
    model->live[chosen] = model->live[--model->live_count];
    assert_memory_equal(live.block, &live.mark, sizeof live.mark);
    assert_memory_equal(live.block + (UNIT << live.order) - sizeof live.mark, &live.mark,
                        sizeof live.mark);
    uint64_t first = (uint64_t)(live.block - range) / UNIT;
    for (uint64_t i = first; i < first + (1u << live.order); i++)
        model->used[i] = false;
    cp_buddy_free(model->buddy, live.block, live.order);
}

/* Make smaller blocks of a live one; each lives on for itself. */
static void model_step_split(struct model *model)
{
    if (model->live_count == 0)
        return;
    uint32_t chosen = (uint32_t)(test_random(&model->random) % model->live_count);
    struct live whole = model->live[chosen];
    uint32_t into = (uint32_t)(test_random(&model->random) % (whole.order + 1));
    cp_buddy_split(model->buddy, whole.block, whole.order, into);
    model->live[chosen] = model->live[--model->live_count];
    for (uint32_t i = 0; i < 1u << (whole.order - into); i++) {
        uint32_t mark = ++model->next_mark;
        char *part = whole.block + ((uint64_t)i << into) * UNIT;
        memcpy(part, &mark, sizeof mark);
        memcpy(part + (UNIT << into) - sizeof mark, &mark, sizeof mark);
        model->live[model->live_count++] = (struct live){part, into, mark};
    }
}

/* Add or remove an extent of odd size and place; the model says what must come out. */
static void model_step_extent(struct model *model)
{
    uint64_t units = 1 + test_random(&model->random) % EXTENT_UNITS;
    uint64_t first = test_random(&model->random) % (RANGE_UNITS - units + 1);
    uint64_t added = 0, used = 0;
    for (uint64_t i = first; i < first + units; i++) {
        added += model->added[i];
        used += model->used[i];
    }
    bool adding = test_random(&model->random) % 3 != 0;
    int code = adding ? cp_buddy_add(model->buddy, first * UNIT, units * UNIT)
                      : cp_buddy_remove(model->buddy, first * UNIT, units * UNIT);
    if (adding)
        assert_int_equal(code, added == 0 ? 0 : -EINVAL);
    else if (added == units)
        assert_int_equal(code, used == 0 ? 0 : -EBUSY);
    else
        assert_true(code == -EINVAL || (code == -EBUSY && used != 0));
    for (uint64_t i = first; code == 0 && i < first + units; i++)
        model->added[i] = adding;
}

static void check_random_model(struct model *model)
{
    struct cp_buddy_stats stats;
    uint64_t added = 0, used = 0, free_units = 0;

    assert_int_equal(cp_buddy__check(model->buddy), 0);
    cp_buddy_stats(model->buddy, &stats);
    for (uint32_t i = 0; i < RANGE_UNITS; i++) {
        added += model->added[i];
        used += model->used[i];
    }
    for (uint32_t order = 0; order < CP_BUDDY_ORDERS; order++)
        free_units += stats.free_blocks[order] << order;
    assert_int_equal(stats.total_bytes, added * UNIT);
    assert_int_equal(stats.allocated_bytes, used * UNIT);
    assert_int_equal(stats.free_bytes, free_units * UNIT);
    assert_int_equal(stats.total_bytes,
                     stats.allocated_bytes + stats.cached_bytes + stats.free_bytes);
    assert_int_equal(stats.alloc_count - stats.free_count, model->live_count);
}

static void run_random(uint32_t cache_blocks)
{
    static struct model model;
    memset(&model, 0, sizeof model);
    model.buddy = create_buddy(RANGE_UNITS, 0, cache_blocks);
    model.random = test_seed("buddy random");
    for (uint32_t step = 0; step < 60000; step++) {
        uint64_t dice = test_random(&model.random) % 100;
        /* Phases of growth and of shrinking, so that both full and empty are reached. */
        uint64_t growth = step / 4000 % 2 == 0 ? 60 : 35;
        if (dice < growth)
            model_step_alloc(&model);
        else if (dice < 96)
            model_step_free(&model);
        else if (dice < 98)
            model_step_extent(&model);
        else if (dice < 99)
            model_step_split(&model);
        else
            cp_buddy_drain(model.buddy);
        if (step % 256 == 0)
            check_random_model(&model);
    }
    while (model.live_count > 0)
        model_step_free(&model);
    check_random_model(&model);
    destroy_buddy(model.buddy);
}

static void buddy_random_run_without_caches_follows_the_model(void **state)
{
    (void)state;
    run_random(0);
}

static void buddy_random_run_with_caches_follows_the_model(void **state)
{
    (void)state;
    run_random(7);
}

static void buddy_create_with_bad_options_is_refused(void **state)
{
    (void)state;
    const struct cp_buddy_options bad[] = {
        {.base = NULL, .size_bytes = UNIT},
        {.base = range, .size_bytes = 0},
        {.base = range, .size_bytes = UNIT + 1},
        {.base = range, .size_bytes = ((UINT64_C(1) << 31) + 1) * UNIT},
        {.base = range, .size_bytes = UNIT, .max_order = CP_BUDDY_ORDERS},
        {.base = range + UNIT, .size_bytes = UNIT},
        {.base = range, .size_bytes = UNIT, .cached_order = 10, .cache_blocks = 1},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct cp_buddy *buddy = (void *)&buddy;
        assert_int_equal(cp_buddy_create(&bad[i], &buddy), -EINVAL);
        assert_ptr_equal(buddy, &buddy);
    }
    cp_buddy_destroy(NULL);
}

static void buddy_when_exhausted_uses_the_last_cached_block(void **state)
{
    (void)state;
    struct cp_buddy *buddy = create_full_buddy(512, 9, 32);
    char *blocks[512];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 512; i++) {
            blocks[i] = cp_buddy_alloc(buddy, 0);
            assert_non_null(blocks[i]);
        }
        assert_null(cp_buddy_alloc(buddy, 0));
        assert_null(cp_buddy_alloc(buddy, 9));
        assert_null(cp_buddy_alloc(buddy, 10)); /* larger than max_order */
        for (int i = 0; i < 512; i++)
            cp_buddy_free(buddy, blocks[i], 0);
        /* Some blocks are cached now, so that the largest exists only after a drain. */
        char *all = cp_buddy_alloc(buddy, 9);
        assert_ptr_equal(all, range);
        cp_buddy_free(buddy, all, 9);
    }
    destroy_buddy(buddy);
}

static void buddy_prefers_low_addresses(void **state)
{
    (void)state;
    struct cp_buddy *buddy = create_full_buddy(RANGE_UNITS, 9, 0);
    char *blocks[RANGE_UNITS];
    for (uint32_t i = 0; i < RANGE_UNITS; i++) {
        blocks[i] = cp_buddy_alloc(buddy, 0);
        assert_ptr_equal(blocks[i], range + i * UNIT);
    }
    for (uint32_t i = 1; i < RANGE_UNITS; i += 2)
        cp_buddy_free(buddy, blocks[RANGE_UNITS - i], 0); /* the highest first */
    for (uint32_t i = 1; i < RANGE_UNITS / 2; i += 2)
        assert_ptr_equal(cp_buddy_alloc(buddy, 0), range + i * UNIT);
    destroy_buddy(buddy);
}

static void buddy_add_of_what_is_there_is_refused(void **state)
{
    (void)state;
    struct cp_buddy *buddy = create_buddy(256, 4, 0);
    assert_int_equal(cp_buddy_add(buddy, 64 * UNIT, 64 * UNIT), 0);
    assert_int_equal(cp_buddy_add(buddy, 64 * UNIT, 64 * UNIT), -EINVAL);
    assert_int_equal(cp_buddy_add(buddy, 70 * UNIT, UNIT), -EINVAL);      /* inside a block */
    assert_int_equal(cp_buddy_add(buddy, 0, 65 * UNIT), -EINVAL);         /* over its start */
    assert_int_equal(cp_buddy_add(buddy, 127 * UNIT, 2 * UNIT), -EINVAL); /* over its end */
    assert_int_equal(cp_buddy_add(buddy, 0, 256 * UNIT), -EINVAL);        /* around it */
    assert_int_equal(cp_buddy_add(buddy, 0, 0), -EINVAL);
    assert_int_equal(cp_buddy_add(buddy, 1, UNIT), -EINVAL);
    assert_int_equal(cp_buddy_add(buddy, 0, UNIT - 1), -EINVAL);
    assert_int_equal(cp_buddy_add(buddy, 255 * UNIT, 2 * UNIT), -EINVAL);
    assert_int_equal(cp_buddy_add(buddy, UNIT, UINT64_MAX - 4095), -EINVAL);
    assert_int_equal(cp_buddy_remove(buddy, 63 * UNIT, 2 * UNIT), -EINVAL); /* partly there */
    assert_int_equal(cp_buddy_remove(buddy, 127 * UNIT, 2 * UNIT), -EINVAL);
    assert_int_equal(cp_buddy_remove(buddy, 0, UNIT), -EINVAL);
    struct cp_buddy_stats stats;
    cp_buddy_stats(buddy, &stats);
    assert_int_equal(stats.total_bytes, 64 * UNIT);
    destroy_buddy(buddy);
}

static void buddy_remove_of_a_busy_range_changes_nothing(void **state)
{
    (void)state;
    struct cp_buddy *buddy = create_full_buddy(256, 9, 0);
    struct cp_buddy_stats before, after;
    char *blocks[256];
    for (int i = 0; i < 256; i++)
        blocks[i] = cp_buddy_alloc(buddy, 0);
    for (int i = 0; i < 255; i++)
        cp_buddy_free(buddy, blocks[i], 0);
    cp_buddy_stats(buddy, &before);
    assert_int_equal(cp_buddy_remove(buddy, 0, 256 * UNIT), -EBUSY);
    assert_int_equal(cp_buddy_remove(buddy, 255 * UNIT, UNIT), -EBUSY);
    cp_buddy_stats(buddy, &after);
    assert_memory_equal(&before, &after, sizeof before);
    assert_int_equal(cp_buddy__check(buddy), 0);
    /* Cutting from the middle of a large free block leaves what is before and behind. */
    assert_int_equal(cp_buddy_remove(buddy, 13 * UNIT, 21 * UNIT), 0);
    assert_int_equal(cp_buddy__check(buddy), 0);
    cp_buddy_stats(buddy, &after);
    assert_int_equal(after.free_bytes, (255 - 21) * UNIT);
    assert_int_equal(cp_buddy_add(buddy, 13 * UNIT, 21 * UNIT), 0);
    cp_buddy_free(buddy, blocks[255], 0);
    assert_ptr_equal(cp_buddy_alloc(buddy, 8), range); /* all of it merged again */
    destroy_buddy(buddy);
}

static void buddy_remove_drains_the_caches(void **state)
{
    (void)state;
    struct cp_buddy *buddy = create_full_buddy(512, 9, 64);
    struct cp_buddy_stats stats;
    cp_buddy_free(buddy, cp_buddy_alloc(buddy, 0), 0);
    cp_buddy_stats(buddy, &stats);
    assert_true(stats.cached_bytes > 0);
    assert_int_equal(stats.allocated_bytes, 0);
    assert_int_equal(cp_buddy_remove(buddy, 0, 512 * UNIT), 0);
    cp_buddy_stats(buddy, &stats);
    assert_int_equal(stats.total_bytes + stats.cached_bytes + stats.free_bytes, 0);
    assert_null(cp_buddy_alloc(buddy, 0));
    destroy_buddy(buddy);
}

static void buddy_split_block_is_freed_in_parts_and_coalesces(void **state)
{
    (void)state;
    for (uint32_t cache_blocks = 0; cache_blocks <= 8; cache_blocks += 8) {
        struct cp_buddy *buddy = create_full_buddy(64, 6, cache_blocks);
        struct cp_buddy_stats stats;
        char *block = cp_buddy_alloc(buddy, 6);
        cp_buddy_split(buddy, block, 6, 6); /* changes nothing */
        cp_buddy_split(buddy, block, 6, 4);
        cp_buddy_split(buddy, block + 16 * UNIT, 4, 0);
        assert_int_equal(cp_buddy__check(buddy), 0);
        for (uint32_t i = 0; i < 16; i++)
            cp_buddy_free(buddy, block + (16 + (i * 5) % 16) * UNIT, 0);
        cp_buddy_drain(buddy);
        assert_ptr_equal(cp_buddy_alloc(buddy, 4), block + 16 * UNIT);
        for (uint32_t i = 0; i < 4; i++)
            cp_buddy_free(buddy, block + 16 * i * UNIT, 4);
        cp_buddy_stats(buddy, &stats);
        assert_int_equal(stats.largest_free_bytes, 64 * UNIT);
        assert_int_equal(stats.alloc_count, stats.free_count);
        destroy_buddy(buddy);
    }
}

static void buddy_stats_tell_splits_merges_and_fragmentation(void **state)
{
    (void)state;
    struct cp_buddy *buddy = create_full_buddy(512, 9, 0);
    struct cp_buddy_stats stats;
    char *block = cp_buddy_alloc(buddy, 0);
    cp_buddy_stats(buddy, &stats);
    assert_int_equal(stats.split_count, 9);
    assert_int_equal(stats.allocated_bytes, UNIT);
    assert_int_equal(stats.largest_free_bytes, 256 * UNIT);
    assert_true(stats.fragmentation > 0.49 && stats.fragmentation < 0.51);
    assert_true(stats.metadata_bytes > 0);
    cp_buddy_free(buddy, block, 0);
    cp_buddy_stats(buddy, &stats);
    assert_int_equal(stats.merge_count, 9);
    assert_int_equal(stats.free_blocks[9], 1);
    assert_true(stats.fragmentation == 0.0);
    assert_int_equal(stats.alloc_count, 1);
    assert_int_equal(stats.free_count, 1);
    destroy_buddy(buddy);
}

static void buddy_over_a_terabyte_costs_no_memory(void **state)
{
    (void)state;
    const uint64_t terabyte = UINT64_C(1) << 40;
    if (!TEST_PLAIN_BUILD) {
        print_message("skipped: resident memory is the tool's in this build\n");
        skip();
    }
    char *base =
        mmap(NULL, terabyte, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(base != MAP_FAILED);
    uint64_t before = test_resident_bytes();
    struct cp_buddy *buddy = NULL;
    struct cp_buddy_options options = {.base = base, .size_bytes = terabyte, .max_order = 1};
    assert_int_equal(cp_buddy_create(&options, &buddy), 0);
    assert_int_equal(cp_buddy_add(buddy, terabyte - (2 << 20), 2 << 20), 0);
    for (int i = 0; i < 512; i++) /* the memory is not accessible: no block is ever touched */
        assert_non_null(cp_buddy_alloc(buddy, 0));
    assert_true(test_resident_bytes() < before + (1 << 20));
    cp_buddy_destroy(buddy);
    munmap(base, terabyte);
}

struct misuse {
    struct cp_buddy *buddy;
    char *block;
    uint32_t order;
};

static void misuse_free(void *context)
{
    struct misuse *misuse = context;
    cp_buddy_free(misuse->buddy, misuse->block, misuse->order);
}

static void misuse_split(void *context)
{
    struct misuse *misuse = context;
    cp_buddy_split(misuse->buddy, misuse->block, misuse->order, 0);
}

static void misuse_split_larger(void *context)
{
    struct misuse *misuse = context;
    cp_buddy_split(misuse->buddy, misuse->block, misuse->order, misuse->order + 1);
}

static void buddy_misused_aborts(void **state)
{
    (void)state;
    for (uint32_t cache_blocks = 0; cache_blocks <= 8; cache_blocks += 8) {
        struct cp_buddy *buddy = create_full_buddy(512, 9, cache_blocks);
        char *freed = cp_buddy_alloc(buddy, 0);
        char *block = cp_buddy_alloc(buddy, 2);
        char *kept = cp_buddy_alloc(buddy, 0);
        cp_buddy_free(buddy, freed, 0);
        struct misuse cases[] = {
            {buddy, freed, 0},                      /* freed twice */
            {buddy, block, 0},                      /* too small an order */
            {buddy, block, 3},                      /* too large an order */
            {buddy, block, 40},                     /* an impossible order */
            {buddy, block + UNIT, 0},               /* inside a block */
            {buddy, block + 64, 2},                 /* inside a unit */
            {buddy, range + RANGE_UNITS * UNIT, 0}, /* behind the range */
            {buddy, (char *)&cases, 0},             /* anywhere */
            {buddy, NULL, 0},                       /* nothing */
            {buddy, range + 511 * UNIT, 0},         /* never allocated */
        };
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
            test_expect_abort(misuse_free, &cases[i]);
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
            test_expect_abort(misuse_split, &cases[i]);
        test_expect_abort(misuse_split_larger, &(struct misuse){buddy, block, 2});
        cp_buddy_free(buddy, block, 2);
        cp_buddy_free(buddy, kept, 0);
        destroy_buddy(buddy);
    }
}

static void buddy_closed_range_gives_nothing_out_and_keeps_what_is_freed(void **state)
{
    (void)state;
    for (uint32_t cache_blocks = 0; cache_blocks <= 4; cache_blocks += 4) {
        struct cp_buddy *buddy = create_buddy(64, 4, cache_blocks);
        struct cp_buddy_stats stats;
        char *blocks[64];
        assert_int_equal(cp_buddy_add(buddy, 0, 32 * UNIT), 0);
        for (uint32_t i = 0; i < 24; i++) /* 16 of the first 16 units, 8 of the next */
            blocks[i] = cp_buddy_alloc(buddy, 0);
        cp_buddy_drain(buddy);
        assert_int_equal(cp_buddy_close(buddy, 8 * UNIT, 16 * UNIT), -EINVAL);
        assert_int_equal(cp_buddy_close(buddy, 64 * UNIT, 16 * UNIT), -EINVAL);
        assert_int_equal(cp_buddy_close(buddy, 16 * UNIT, 16 * UNIT), 0);
        assert_int_equal(cp_buddy_close(buddy, 0, 16 * UNIT), -EBUSY);
        assert_int_equal(cp_buddy__check(buddy), 0);
        assert_null(cp_buddy_alloc(buddy, 0));
        for (uint32_t i = 16; i < 23; i++) {
            cp_buddy_free(buddy, blocks[i], 0);
            assert_null(cp_buddy_alloc(buddy, 0));
        }
        assert_int_equal(cp_buddy__check(buddy), 0);
        cp_buddy_stats(buddy, &stats);
        assert_int_equal(stats.withheld_bytes, 15 * UNIT);
        assert_int_equal(stats.allocated_bytes, 17 * UNIT);
        cp_buddy_free(buddy, blocks[0], 0); /* what lies outside goes on */
        assert_ptr_equal(cp_buddy_alloc(buddy, 0), blocks[0]);
        assert_int_equal(cp_buddy_remove(buddy, 16 * UNIT, 16 * UNIT), -EBUSY);
        cp_buddy_reopen(buddy); /* given up: there it is again */
        assert_int_equal(cp_buddy__check(buddy), 0);
        assert_ptr_equal(cp_buddy_alloc(buddy, 3), (char *)range + 24 * UNIT);
        cp_buddy_free(buddy, (char *)range + 24 * UNIT, 3);

        assert_int_equal(cp_buddy_close(buddy, 16 * UNIT, 16 * UNIT), 0);
        cp_buddy_free(buddy, blocks[23], 0);
        assert_int_equal(cp_buddy_remove(buddy, 16 * UNIT, 16 * UNIT), 0);
        cp_buddy_reopen(buddy);
        cp_buddy_reopen(buddy); /* nothing is closed */
        assert_int_equal(cp_buddy__check(buddy), 0);
        assert_null(cp_buddy_alloc(buddy, 0));
        cp_buddy_stats(buddy, &stats);
        assert_int_equal(stats.total_bytes, 16 * UNIT);
        assert_int_equal(stats.withheld_bytes, 0);
        assert_int_equal(cp_buddy_add(buddy, 16 * UNIT, 16 * UNIT), 0);
        assert_ptr_equal(cp_buddy_alloc(buddy, 4), (char *)range + 16 * UNIT);
        assert_int_equal(cp_buddy__check(buddy), 0);
        destroy_buddy(buddy);
    }
}

static void buddy_free_memory_is_poisoned(void **state)
{
    (void)state;
    if (!TEST_HAS_ASAN) {
        print_message("skipped: needs AddressSanitizer\n");
        skip();
    }
    for (uint32_t cache_blocks = 0; cache_blocks <= 4; cache_blocks += 4) {
        struct cp_buddy *buddy = create_buddy(512, 9, cache_blocks);
        assert_false(test_is_poisoned(range));
        assert_int_equal(cp_buddy_add(buddy, 0, 512 * UNIT), 0);
        assert_true(test_is_poisoned(range) && test_is_poisoned(range + 512 * UNIT - 1));
        char *block = cp_buddy_alloc(buddy, 1), *frame = cp_buddy_alloc(buddy, 0);
        assert_false(test_is_poisoned(block) || test_is_poisoned(block + 2 * UNIT - 1));
        assert_false(test_is_poisoned(frame) || test_is_poisoned(frame + UNIT - 1));
        cp_buddy_free(buddy, block, 1);
        cp_buddy_free(buddy, frame, 0);
        assert_true(test_is_poisoned(block) && test_is_poisoned(block + 2 * UNIT - 1));
        assert_true(test_is_poisoned(frame) && test_is_poisoned(frame + UNIT - 1));
        assert_int_equal(cp_buddy_remove(buddy, 256 * UNIT, 256 * UNIT), 0);
        assert_false(test_is_poisoned(range + 256 * UNIT));
        destroy_buddy(buddy);
        assert_false(test_is_poisoned(range)); /* back to its owner */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buddy_every_sequence_up_to_a_depth_follows_the_model),
        cmocka_unit_test(buddy_random_run_without_caches_follows_the_model),
        cmocka_unit_test(buddy_random_run_with_caches_follows_the_model),
        cmocka_unit_test(buddy_create_with_bad_options_is_refused),
        cmocka_unit_test(buddy_when_exhausted_uses_the_last_cached_block),
        cmocka_unit_test(buddy_prefers_low_addresses),
        cmocka_unit_test(buddy_add_of_what_is_there_is_refused),
        cmocka_unit_test(buddy_remove_of_a_busy_range_changes_nothing),
        cmocka_unit_test(buddy_remove_drains_the_caches),
        cmocka_unit_test(buddy_split_block_is_freed_in_parts_and_coalesces),
        cmocka_unit_test(buddy_closed_range_gives_nothing_out_and_keeps_what_is_freed),
        cmocka_unit_test(buddy_stats_tell_splits_merges_and_fragmentation),
        cmocka_unit_test(buddy_over_a_terabyte_costs_no_memory),
        cmocka_unit_test(buddy_misused_aborts),
        cmocka_unit_test(buddy_free_memory_is_poisoned),
    };
    range = test_map_aligned(RANGE_UNITS * UNIT, 2 << 20);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
