/* SPDX-License-Identifier: MIT */
/* What the policy makes of a real pool: bufpool/evict.c with bufpool/clock.c. */
#include "helpers.h"

#include <limits.h>

#define POOL_BYTES (8 * MIB)
#define PAGES      8192u /* four times what the pool holds */

static void use(struct world *w, uint32_t f, uint64_t page)
{
    struct cp_fix fix = must_fix(w, f, page, CP_SHARED);
    cp_bufpool_unfix(&fix);
}

static uint64_t count_resident(struct world *w, uint32_t f, uint64_t first, uint64_t count)
{
    uint64_t resident = 0;
    for (uint64_t page = first; page < first + count; page++)
        resident += is_resident(w, f, page);
    return resident;
}

static void check_pool(struct world *w)
{
    if (cp_bufpool__check(w->pool) != 0)
        fail_msg("cp_bufpool__check: %s", cp_error_info()->what);
}

/* Fill the pool, and use the first pages until they are known as hot. */
static void warm_up(struct world *w, uint64_t hot_pages)
{
    for (uint64_t page = 0; page < 2100; page++)
        use(w, 0, page);
    for (uint32_t round = 0; round < 4; round++) {
        for (uint64_t page = 0; page < hot_pages; page++)
            use(w, 0, page);
    }
}

static void evict_scan_leaves_the_hot_pages(void **state)
{
    (void)state;
    struct world w;
    world_simple(&w, POOL_BYTES, PAGES);
    warm_up(&w, 1000);
    for (uint64_t page = 2100; page < PAGES; page++) {
        use(&w, 0, page);
        if (page % 6 == 0) /* the hot pages are in use meanwhile, each once in 6000 */
            use(&w, 0, page / 6 % 1000);
    }
    uint64_t resident = count_resident(&w, 0, 0, 1000);
    print_message("%llu of 1000 hot pages after a scan of 6092\n", (unsigned long long)resident);
    assert_true(resident >= 980);
    check_pool(&w);
    world_close(&w);
}

/* As above, but the scan reads ahead: the fix of a prefetched page is not its second use. */
static void evict_prefetched_scan_leaves_the_hot_pages(void **state)
{
    (void)state;
    struct world w;
    world_open_with(&w, &(struct cp_bufpool_options){.budget_bytes = POOL_BYTES}, RINGS_SYNC);
    world_add_file(&w, 0, 4096, PAGES);
    warm_up(&w, 1000);
    uint64_t main_before = w.pool->clock.main_units;
    for (uint64_t first = 2100; first + 128 <= PAGES; first += 128) {
        uint64_t pages[128];
        for (uint64_t i = 0; i < 128; i++)
            pages[i] = first + i;
        assert_in_range(cp_bufpool_prefetch(w.file[0], pages, 128), 0, 128);
        for (uint64_t i = 0; i < 128; i++)
            use(&w, 0, pages[i]);
        for (uint64_t i = 0; i < 20; i++)
            use(&w, 0, (first / 128 * 20 + i) % 1000);
    }
    uint64_t resident = count_resident(&w, 0, 0, 1000);
    print_message("%llu of 1000 hot pages after a prefetched scan; main %llu units, was %llu\n",
                  (unsigned long long)resident, (unsigned long long)w.pool->clock.main_units,
                  (unsigned long long)main_before);
    assert_true(resident >= 980);
    check_pool(&w);
    world_close(&w);
}

/* A loop over more than the pool holds: most of it stays, where LRU would miss always. */
static void evict_loop_keeps_part_of_it(void **state)
{
    (void)state;
    struct world w;
    world_simple(&w, POOL_BYTES, PAGES);
    for (uint32_t round = 0; round < 6; round++) {
        for (uint64_t page = 0; page < 2400; page++)
            use(&w, 0, page);
    }
    struct cp_bufpool_stats stats = stats_of(&w);
    uint64_t accesses = stats.hits + stats.misses;
    print_message("%llu of %llu accesses hit, %llu frames, %.2f steps a miss\n",
                  (unsigned long long)stats.hits, (unsigned long long)accesses,
                  (unsigned long long)stats.pages_resident,
                  (double)stats.sweep_steps / (double)stats.misses);
    assert_int_equal(accesses, 6 * 2400);
    assert_true(stats.hits > 5 * (stats.pages_resident - 200));
    check_pool(&w);
    world_close(&w);
}

static void evict_hit_changes_marks_alone(void **state)
{
    (void)state;
    struct world w;
    world_simple(&w, POOL_BYTES, 64);
    use(&w, 0, 7);
    uint64_t before = cp_word_load(&w.file[0]->map.words[7]);
    use(&w, 0, 7);
    uint64_t after = cp_word_load(&w.file[0]->map.words[7]);
    /* The miss is no reference, and does not pay for slots. */
    assert_int_equal(before & (CP_WORD_REF | CP_WORD_BIASED), 0);
    assert_int_equal(before ^ after, CP_WORD_REF | (w.pool->biased ? CP_WORD_BIASED : 0));
    use(&w, 0, 7);
    assert_int_equal(cp_word_load(&w.file[0]->map.words[7]), after);
    world_close(&w);
}

/* Frames of all sizes: what they weigh adds up, and each finds room. */
static void evict_pages_of_several_sizes_share_the_pool(void **state)
{
    (void)state;
    uint64_t random = test_seed();
    const uint32_t sizes[3] = {4096, 16384, 65536};
    const uint64_t pages[3] = {4096, 1024, 256};
    struct world w;
    world_open(&w, POOL_BYTES);
    for (uint32_t f = 0; f < 3; f++)
        world_add_file(&w, f, sizes[f], pages[f]);
    for (uint32_t i = 0; i < 8000; i++) {
        uint32_t f = (uint32_t)(next_random(&random) % 3);
        uint64_t page = next_random(&random) % pages[f];
        if (next_random(&random) % 2 == 0)
            page %= 8; /* some are hot */
        if (next_random(&random) % 16 == 0)
            change_page(&w, f, page, 0, 0);
        else
            check_version(&w, f, page, 0);
    }
    check_pool(&w);
    /* A large frame is made by emptying the block around a victim, hot pages included, so not all
     * of them are there at any moment. */
    uint64_t hot = 0;
    for (uint32_t f = 0; f < 3; f++)
        hot += count_resident(&w, f, 0, 8);
    print_message("%llu of 24 hot pages are resident\n", (unsigned long long)hot);
    assert_true(hot >= 12);
    world_close(&w);
}

static void evict_size_changes_are_followed(void **state)
{
    (void)state;
    struct world w;
    world_simple(&w, POOL_BYTES, PAGES);
    warm_up(&w, 500);
    uint64_t full = w.pool->clock.size_units;
    assert_int_equal(cp_bufpool_resize(w.pool, POOL_BYTES / 2), 0);
    check_pool(&w);
    assert_true(w.pool->clock.size_units < full * 6 / 10);
    for (uint64_t page = 0; page < 3000; page++)
        use(&w, 0, page);
    check_pool(&w);
    assert_int_equal(cp_bufpool_resize(w.pool, POOL_BYTES), 0);
    for (uint64_t page = 0; page < 6000; page++)
        use(&w, 0, page);
    check_pool(&w);
    uint64_t held = w.pool->clock.main_units + w.pool->clock.probation_units;
    assert_true(w.pool->clock.size_units >= full * 9 / 10);
    assert_true(held >= full * 9 / 10);
    world_close(&w);
}

static uint32_t count_spares(const struct world *w)
{
    uint32_t count = 0;
    for (uint32_t order = 0; order < CP_ORDERS; order++)
        count += w->pool->spares[order].count;
    return count;
}

/* Frames evicted in advance are there for pages of their size, and memory for everything else. */
static void evict_spares_are_used_and_given_up(void **state)
{
    (void)state;
    struct world w;
    uint64_t page = 0;
    world_simple(&w, POOL_BYTES, PAGES);
    world_add_file(&w, 1, 65536, 4);
    while (count_spares(&w) == 0) { /* ends: the pool is smaller than the file */
        assert_true(page < PAGES);
        use(&w, 0, page++);
    }
    uint32_t before = count_spares(&w);
    uint64_t evictions = stats_of(&w).evictions;
    use(&w, 0, page++);
    assert_int_equal(count_spares(&w), before - 1);
    assert_int_equal(stats_of(&w).evictions, evictions);
    check_version(&w, 1, 0, 0); /* a page of another size: its block is cleared, spares included */
    assert_int_equal(count_spares(&w), 0);
    while (count_spares(&w) == 0)
        use(&w, 0, page++);
    assert_int_equal(cp_bufpool_resize(w.pool, POOL_BYTES / 2), 0);
    assert_int_equal(count_spares(&w), 0);
    check_pool(&w);
    world_close(&w);
}

static void evict_dropped_pages_are_forgotten(void **state)
{
    (void)state;
    struct world w;
    world_simple(&w, POOL_BYTES, PAGES);
    warm_up(&w, 500);
    assert_int_equal(cp_bufpool_discard(w.file[0], 100, 1000), 0);
    check_pool(&w);
    assert_int_equal(cp_bufpool_detach(w.file[0]), 0);
    w.file[0] = NULL;
    assert_int_equal(w.pool->clock.main_units + w.pool->clock.probation_units, 0);
    world_attach_with(&w, 0, &(struct cp_bufpool_file_options){0});
    warm_up(&w, 500);
    check_pool(&w);
    world_close(&w);
}

static uint64_t count_ghost_hits(struct world *w)
{
    struct cp_bufpool_stats stats = stats_of(w);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < CP_BUFPOOL_SIZE_STEPS; i++)
        sum += stats.ghost_hits[i];
    return sum;
}

/* A ghost belongs to a page of one file; the same number elsewhere is a stranger. */
static void evict_ghosts_of_files_are_told_apart(void **state)
{
    (void)state;
    struct world w;
    world_simple(&w, POOL_BYTES, PAGES);
    world_add_file(&w, 1, 4096, PAGES);
    for (uint64_t page = 0; page < 6000; page++)
        use(&w, 0, page);
    for (uint64_t page = 5400; page < 5800; page++)
        use(&w, 1, page);
    assert_true(count_ghost_hits(&w) < 10); /* one in 4,000 looks is wrong */
    for (uint64_t page = 5000; page < 5900; page++)
        use(&w, 0, page);
    assert_true(count_ghost_hits(&w) > 800);
    world_close(&w);
}

/* Pages come back 1/4 of the pool after their eviction: a pool of 3/2 would have had them. */
static void evict_estimate_tells_of_a_larger_pool(void **state)
{
    (void)state;
    struct world w;
    uint64_t random = test_seed();
    world_simple(&w, POOL_BYTES, PAGES);
    for (uint32_t i = 0; i < 40000; i++)
        use(&w, 0, next_random(&random) % 2600);
    struct cp_bufpool_stats stats = stats_of(&w);
    double measured = (double)stats.misses / (double)(stats.hits + stats.misses);
    print_message("%llu frames for 2600 pages; estimates at 1, 5/4, 3/2, 2: %.3f %.3f %.3f %.3f\n",
                  (unsigned long long)stats.pages_resident, stats.miss_ratio_at[0],
                  stats.miss_ratio_at[2], stats.miss_ratio_at[4], stats.miss_ratio_at[8]);
    assert_true(stats.miss_ratio_at[0] > measured - 1e-9);
    assert_true(stats.miss_ratio_at[0] < measured + 1e-9);
    for (uint32_t i = 0; i < CP_BUFPOOL_SIZE_STEPS; i++)
        assert_true(stats.miss_ratio_at[i + 1] <= stats.miss_ratio_at[i]);
    /* With twice the pool each page would be missed once: 2600 of 40000. */
    assert_true(stats.miss_ratio_at[8] < 0.4 * stats.miss_ratio_at[0] + 0.065);
    world_close(&w);
}

static void evict_estimate_of_an_idle_pool_is_zero(void **state)
{
    (void)state;
    struct world w;
    world_simple(&w, POOL_BYTES, 16);
    struct cp_bufpool_stats stats = stats_of(&w);
    for (uint32_t i = 0; i <= CP_BUFPOOL_SIZE_STEPS; i++)
        assert_true(stats.miss_ratio_at[i] == 0);
    world_close(&w);
}

/* ---- readers that overlap -----------------------------------------------------------------------
 */

#define READERS 8u /* so that each is without the page most of the time */

struct readers {
    struct world *w;
    uint32_t fixes; /* so many so far: they take turns */
    _Atomic bool over;
};

struct reader {
    pthread_t thread;
    struct readers *all;
    uint32_t first_turn;
};

static void await_fixes(struct readers *all, uint32_t fixes)
{
    for (;;) { /* the watchdog bounds it */
        uint32_t seen = __atomic_load_n(&all->fixes, __ATOMIC_ACQUIRE);
        if (seen >= fixes || atomic_load(&all->over))
            return;
        cp_futex_wait(&all->fixes, seen, 10000000);
    }
}

/* Fix the page while another one holds it, and keep it until the next one has it. */
static void *read_in_turns(void *argument)
{
    struct reader *self = argument;
    struct readers *all = self->all;
    for (uint32_t turn = self->first_turn; !atomic_load(&all->over); turn += READERS) {
        await_fixes(all, turn);
        struct cp_fix fix = must_fix(all->w, 0, 3, CP_SHARED);
        __atomic_fetch_add(&all->fixes, 1, __ATOMIC_RELEASE);
        cp_futex_wake(&all->fixes, INT_MAX);
        await_fixes(all, turn + 2);
        cp_bufpool_unfix(&fix);
    }
    return NULL;
}

/* No reader has the page for long, but there always is one: the wait for them ends all the same. */
static void evict_page_of_overlapping_readers_is_pinned(void **state)
{
    (void)state;
    for (uint32_t counted = 0; counted < 2; counted++) {
        struct world w;
        struct watchdog dog;
        struct readers all = {.w = &w};
        struct reader readers[READERS];
        world_open_with(
            &w, &(struct cp_bufpool_options){.budget_bytes = MIB, .counted_pins = counted != 0},
            RINGS_DEFERRED);
        world_add_file(&w, 0, 4096, 16);
        use(&w, 0, 3);
        watchdog_start(&dog, &w, WATCHDOG_LIMIT / 2);
        for (uint32_t i = 0; i < READERS; i++) {
            readers[i] = (struct reader){.all = &all, .first_turn = i};
            assert_int_equal(pthread_create(&readers[i].thread, NULL, read_in_turns, &readers[i]),
                             0);
        }
        await_fixes(&all, READERS);
        assert_int_equal(cp_bufpool_discard(w.file[0], 3, 1), CP_EPINNED);
        assert_true(cp_bufpool_is_fixed(w.file[0], 3));
        atomic_store(&all.over, true);
        for (uint32_t i = 0; i < READERS; i++)
            pthread_join(readers[i].thread, NULL);
        assert_int_equal(cp_bufpool_discard(w.file[0], 3, 1), 0);
        watchdog_stop(&dog);
        world_close(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(evict_scan_leaves_the_hot_pages),
        cmocka_unit_test(evict_prefetched_scan_leaves_the_hot_pages),
        cmocka_unit_test(evict_loop_keeps_part_of_it),
        cmocka_unit_test(evict_hit_changes_marks_alone),
        cmocka_unit_test(evict_pages_of_several_sizes_share_the_pool),
        cmocka_unit_test(evict_size_changes_are_followed),
        cmocka_unit_test(evict_spares_are_used_and_given_up),
        cmocka_unit_test(evict_dropped_pages_are_forgotten),
        cmocka_unit_test(evict_ghosts_of_files_are_told_apart),
        cmocka_unit_test(evict_estimate_tells_of_a_larger_pool),
        cmocka_unit_test(evict_estimate_of_an_idle_pool_is_zero),
        cmocka_unit_test(evict_page_of_overlapping_readers_is_pinned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
