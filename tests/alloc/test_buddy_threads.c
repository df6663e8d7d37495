/* SPDX-License-Identifier: MIT */
/* The buddy allocator with several threads: no block has two owners, and no free block is lost. */
#include "helpers.h"

#include <clockpool/base/bits.h>
#include <clockpool/buddy.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#define UNIT         CP_BUDDY_UNIT_BYTES
#define RANGE_UNITS  1024u
#define EXTENT_UNITS 128u
#define THREADS      4u
#define LIVE_MAX     128u

static char *range; /* RANGE_UNITS units, mapped by main */

static struct cp_buddy *create_buddy(uint32_t units, uint32_t cache_blocks)
{
    struct cp_buddy *buddy = NULL;
    struct cp_buddy_options options = {
        .base = range, .size_bytes = units * UNIT, .cache_blocks = cache_blocks};
    assert_int_equal(cp_buddy_create(&options, &buddy), 0);
    assert_int_equal(cp_buddy_add(buddy, 0, units * UNIT), 0);
    return buddy;
}

struct worker {
    struct cp_buddy *buddy;
    uint64_t random;
    uint64_t name;
    uint32_t rounds;
    const char *failure; /* NULL: none; cmocka's assertions belong to the main thread */
    struct {
        uint64_t *block;
        uint32_t order;
    } live[LIVE_MAX];
    uint32_t live_count;
};

/* Write the owner into each unit's first and last word; and see that it is still there. */
static void mark_block(uint64_t *block, uint32_t order, uint64_t owner)
{
    for (uint64_t i = 0; i < 1u << order; i++)
        block[i * 512] = block[i * 512 + 511] = owner;
}

static bool block_is_marked(const uint64_t *block, uint32_t order, uint64_t owner)
{
    for (uint64_t i = 0; i < 1u << order; i++) {
        if (block[i * 512] != owner || block[i * 512 + 511] != owner)
            return false;
    }
    return true;
}

static void free_one(struct worker *worker)
{
    uint32_t i = (uint32_t)(test_random(&worker->random) % worker->live_count);
    if (!block_is_marked(worker->live[i].block, worker->live[i].order, worker->name))
        worker->failure = "a block was written by somebody else";
    cp_buddy_free(worker->buddy, worker->live[i].block, worker->live[i].order);
    worker->live[i] = worker->live[--worker->live_count];
}

static void *churn(void *context)
{
    struct worker *worker = context;
    for (uint32_t round = 0; round < worker->rounds && worker->failure == NULL; round++) {
        uint64_t dice = test_random(&worker->random);
        if (worker->live_count == LIVE_MAX || (worker->live_count > 0 && dice % 2 == 0)) {
            free_one(worker);
            continue;
        }
        uint32_t order = dice / 2 % 4 != 0 ? 0 : (uint32_t)(dice / 8 % 5);
        uint64_t *block = cp_buddy_alloc(worker->buddy, order);
        if (block == NULL)
            continue;
        mark_block(block, order, worker->name);
        worker->live[worker->live_count].block = block;
        worker->live[worker->live_count++].order = order;
    }
    while (worker->live_count > 0 && worker->failure == NULL)
        free_one(worker);
    return NULL;
}

/* Whatever else any thread may do at any time: drain, statistics, extents closed, out and in. */
static void *disturb(void *context)
{
    struct worker *worker = context;
    for (uint32_t round = 0; round < worker->rounds / 64 && worker->failure == NULL; round++) {
        uint64_t extent = test_random(&worker->random) % (RANGE_UNITS / EXTENT_UNITS);
        uint64_t offset = extent * EXTENT_UNITS * UNIT;
        const uint64_t block = 512 * UNIT; /* the largest */
        struct cp_buddy_stats stats;

        cp_buddy_drain(worker->buddy);
        cp_buddy_stats(worker->buddy, &stats);
        const bool closing = test_random(&worker->random) % 2 != 0;
        if (closing && cp_buddy_close(worker->buddy, cp_align_down(offset, block), block) != 0)
            worker->failure = "close failed";
        if (closing)
            sched_yield(); /* some is freed meanwhile */
        if (closing && cp_buddy__check(worker->buddy) != 0)
            worker->failure = "an invariant is broken while a part is closed";
        int code = cp_buddy_remove(worker->buddy, offset, EXTENT_UNITS * UNIT);
        if (code == 0) {
            worker->live_count++; /* here: extents that could be removed */
            memset(range + offset, 0xee, EXTENT_UNITS * UNIT); /* it is ours alone */
            sched_yield();
            for (uint64_t i = 0; i < EXTENT_UNITS * UNIT; i++) {
                if (range[offset + i] != (char)0xee)
                    worker->failure = "removed memory was written to";
            }
            code = cp_buddy_add(worker->buddy, offset, EXTENT_UNITS * UNIT);
        } else if (code == -EBUSY) {
            code = 0;
        }
        if (code != 0)
            worker->failure = "remove or add failed";
        cp_buddy_reopen(worker->buddy);
        if (cp_buddy__check(worker->buddy) != 0)
            worker->failure = "an invariant is broken";
    }
    return NULL;
}

static void run_churn(uint32_t cache_blocks)
{
    struct cp_buddy *buddy = create_buddy(RANGE_UNITS, cache_blocks);
    static struct worker workers[THREADS + 1];
    pthread_t threads[THREADS + 1];
    uint64_t seed = test_seed("buddy churn");

    memset(workers, 0, sizeof workers);
    for (uint64_t i = 0; i <= THREADS; i++) {
        workers[i] = (struct worker){
            .buddy = buddy, .random = seed + i * 7919, .name = i + 1, .rounds = 20000};
        assert_int_equal(
            pthread_create(&threads[i], NULL, i < THREADS ? churn : disturb, &workers[i]), 0);
    }
    for (uint32_t i = 0; i <= THREADS; i++) {
        pthread_join(threads[i], NULL);
        if (workers[i].failure != NULL)
            fail_msg("thread %u: %s", i, workers[i].failure);
    }
    print_message("extents removed and added meanwhile: %u\n", workers[THREADS].live_count);
    struct cp_buddy_stats stats;
    cp_buddy_drain(buddy);
    cp_buddy_stats(buddy, &stats);
    assert_int_equal(stats.free_bytes, RANGE_UNITS * UNIT);
    assert_int_equal(stats.free_blocks[9], RANGE_UNITS / 512);
    assert_int_equal(stats.alloc_count, stats.free_count);
    assert_int_equal(cp_buddy__check(buddy), 0);
    cp_buddy_destroy(buddy);
}

static void buddy_with_threads_and_caches_gives_each_block_one_owner(void **state)
{
    (void)state;
    run_churn(16);
}

static void buddy_with_threads_without_caches_gives_each_block_one_owner(void **state)
{
    (void)state;
    run_churn(0);
}

/*
 * Together the threads hold at most what there is, so no allocation may fail, wherever the free
 * blocks are: in another CPU's cache, or on their way between a cache and the core. One cache can
 * hold them all, so a thread that fails keeps meeting one that has just taken everything.
 */
#define QUOTA 2u

static void *hold_quota(void *context)
{
    struct worker *worker = context;
    for (uint32_t round = 0; round < worker->rounds / QUOTA; round++) {
        for (uint32_t i = 0; i < QUOTA; i++) {
            worker->live[i].block = cp_buddy_alloc(worker->buddy, 0);
            if (worker->live[i].block == NULL) {
                worker->failure = "no block, though there is one for each";
                return NULL;
            }
        }
        for (uint32_t i = 0; i < QUOTA; i++)
            cp_buddy_free(worker->buddy, worker->live[i].block, 0);
    }
    return NULL;
}

static void buddy_with_as_many_blocks_as_wanted_never_fails(void **state)
{
    (void)state;
    struct cp_buddy *buddy = create_buddy(THREADS * QUOTA, 4 * THREADS * QUOTA);
    static struct worker workers[THREADS];
    pthread_t threads[THREADS];

    memset(workers, 0, sizeof workers);
    for (uint32_t i = 0; i < THREADS; i++) {
        workers[i].buddy = buddy;
        workers[i].rounds = 300000;
        assert_int_equal(pthread_create(&threads[i], NULL, hold_quota, &workers[i]), 0);
    }
    for (uint32_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (uint32_t i = 0; i < THREADS; i++) {
        if (workers[i].failure != NULL)
            fail_msg("thread %u: %s", i, workers[i].failure);
    }
    assert_int_equal(cp_buddy__check(buddy), 0);
    cp_buddy_destroy(buddy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buddy_with_threads_and_caches_gives_each_block_one_owner),
        cmocka_unit_test(buddy_with_threads_without_caches_gives_each_block_one_owner),
        cmocka_unit_test(buddy_with_as_many_blocks_as_wanted_never_fails),
    };
    range = test_map_aligned(RANGE_UNITS * UNIT, 2 << 20);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
