/* SPDX-License-Identifier: MIT */
/*
 * Version reuse (ABA): a reader without a latch that is preempted while its page is evicted, its
 * frame used by another page, and the page brought back into the same frame with other bytes, must
 * find out. Built once more with versions that start anew at each load.
 *
 * The readers use the file's own map: in builds that poison frames the public one is empty.
 */
#include "rules.h"

#define PAGES 8u

/* Change a page behind the pool's back. */
static void change_on_disk(struct world *w, uint64_t page, uint64_t version)
{
    void *data = aligned_alloc(4096, 4096);
    assert_non_null(data);
    fill_page(data, 4096, page, version, 0);
    assert_int_equal(cp_io_write(w->io_file[0], data, 4096, page * 4096), 0);
    free(data);
}

/* Where the page's frame begins. */
static uint64_t frame_place(const struct world *w, uint64_t word)
{
    return word & w->file[0]->map.frame_mask;
}

/* Begin a read of page 1; whatever happens meanwhile, bring it back into its old frame. */
static void reload_into_same_frame(struct world *w, bool other_page_between, uint64_t *begun)
{
    const struct cp_page_map *map = &w->file[0]->map;
    uint64_t ignored;

    check_version(w, 0, 1, 0);
    assert_non_null(cp_optimistic_begin(map, 1, &ignored));
    assert_non_null(cp_optimistic_begin(map, 1, begun)); /* with its ref bit set */
    assert_true(cp_optimistic_validate(map, 1, *begun));
    drop(w, 0, 1);
    assert_false(cp_optimistic_validate(map, 1, *begun));
    if (other_page_between) {
        check_version(w, 0, 2, 0);
        assert_int_equal(frame_place(w, cp_word_load(&map->words[2])), frame_place(w, *begun));
        drop(w, 0, 2);
    }
    change_on_disk(w, 1, 5);
    check_version(w, 0, 1, 5);
    /* The allocator hands the lowest free frame out again, or the case would not be tested. */
    assert_int_equal(frame_place(w, cp_word_load(&map->words[1])), frame_place(w, *begun));
}

static void version_reload_into_same_frame_is_noticed(void **state)
{
    (void)state;
    struct world w;
    uint64_t begun = 0;
    world_simple(&w, MIB, PAGES);
    reload_into_same_frame(&w, false, &begun);
    HOLDS(!cp_optimistic_validate(&w.file[0]->map, 1, begun));
    world_close(&w);
}

static void version_reload_after_another_page_is_noticed(void **state)
{
    (void)state;
    struct world w;
    uint64_t begun = 0;
    world_simple(&w, MIB, PAGES);
    reload_into_same_frame(&w, true, &begun);
    HOLDS(!cp_optimistic_validate(&w.file[0]->map, 1, begun));
    world_close(&w);
}

/* A change and its undoing by a reload: the latch raised the version, the reload must not reset it.
 */
static void version_changed_dropped_reloaded_is_noticed(void **state)
{
    (void)state;
    struct world w;
    uint64_t words[20];
    world_simple(&w, MIB, PAGES);
    for (uint32_t i = 0; i < 20; i++) {
        check_version(&w, 0, 1, 0);
        assert_non_null(cp_optimistic_begin(&w.file[0]->map, 1, &words[i]));
        for (uint32_t j = 0; j < i; j++)
            HOLDS(!cp_optimistic_validate(&w.file[0]->map, 1, words[j]));
        for (uint32_t changes = i % 4; changes > 0; changes--) {
            change_page(&w, 0, 1, i + 1, 0);
            HOLDS(!cp_optimistic_validate(&w.file[0]->map, 1, words[i]));
        }
        drop(&w, 0, 1);
    }
    world_close(&w);
}

static void version_frame_given_to_the_kernel_and_back_is_noticed(void **state)
{
    (void)state;
    struct world w;
    uint64_t begun = 0;
    world_simple(&w, 4 * MIB, PAGES);
    check_version(&w, 0, 1, 0);
    assert_non_null(cp_optimistic_begin(&w.file[0]->map, 1, &begun));
    uint64_t released = stats_of(&w).extents_released;
    /* Everything goes, the frame's extent too. */
    struct cp_bufpool_stats stats = stats_of(&w);
    uint64_t without = stats.used_bytes - stats.frame_bytes - stats.descriptor_bytes;
    assert_int_equal(cp_memory__shrink(w.pool, without), 0);
    assert_true(stats_of(&w).extents_released > released);
    assert_int_equal(stats_of(&w).frame_bytes, 0);
    check_version(&w, 0, 1, 0);
    HOLDS(!cp_optimistic_validate(&w.file[0]->map, 1, begun));
    world_close(&w);
}

/* ---- many threads -------------------------------------------------------------------------------
 */

#define RUNS_TO_DETECT 40u
#define READERS        3u
#define CHURN_PAGES    4u
#define CHURN_STEPS    3000u

struct churn {
    struct world w;
    _Atomic bool over;
    _Atomic uint64_t newest[CHURN_PAGES]; /* version on disk */
    _Atomic uint64_t valid, wrong;
};

/* AddressSanitizer looks away, too: the readers here look at frames that nobody has fixed. */
CP_UNWATCHED __attribute__((no_sanitize("address"))) static uint64_t peek(const void *data,
                                                                          uint32_t word)
{
    return __atomic_load_n((const uint64_t *)data + word, __ATOMIC_RELAXED);
}

/* Read without a latch, slowly: what validates must be one page in one version, not an old one. */
static void *churn_reader(void *argument)
{
    struct churn *c = argument;
    uint64_t random = (uint64_t)(uintptr_t)&random;
    while (!atomic_load(&c->over)) {
        uint64_t page = next_random(&random) % CHURN_PAGES;
        uint64_t begun = 0, first = atomic_load(&c->newest[page]);
        const void *data = cp_optimistic_begin(&c->w.file[0]->map, page, &begun);
        if (data == NULL)
            continue;
        uint64_t number = peek(data, 1), version = peek(data, 2);
        sched_yield(); /* be preempted here */
        uint64_t late = peek(data, 511);
        if (!cp_optimistic_validate(&c->w.file[0]->map, page, begun))
            continue;
        atomic_fetch_add(&c->valid, 1);
        if (number != page || version < first || late != mix(page * 1000003 + version) + 511)
            atomic_fetch_add(&c->wrong, 1);
    }
    return NULL;
}

/* Pages move in and out of the same few frames, with new bytes each time. */
static void churn_pages(struct churn *c)
{
    uint64_t random = 12345;
    for (uint32_t step = 0; step < CHURN_STEPS; step++) {
        uint64_t page = next_random(&random) % CHURN_PAGES;
        struct cp_fix fix;
        drop(&c->w, 0, page);
        change_on_disk(&c->w, page, step + 1);
        atomic_store(&c->newest[page], step + 1);
        assert_int_equal(cp_bufpool_fix(c->w.file[0], page, CP_SHARED, &fix), 0);
        cp_bufpool_unfix(&fix);
        if (step % 8 == 0)
            sched_yield();
    }
}

static void version_many_readers_never_accept_stale_bytes(void **state)
{
    (void)state;
    static struct churn c;
    pthread_t threads[READERS];
    struct watchdog dog;
    memset(&c, 0, sizeof c);
    world_simple(&c.w, MIB, PAGES);
    watchdog_start(&dog, &c.w, WATCHDOG_LIMIT);
    for (uint32_t i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn_reader, &c), 0);
    churn_pages(&c);
    atomic_store(&c.over, true);
    for (uint32_t i = 0; i < READERS; i++)
        pthread_join(threads[i], NULL);
    print_message("%llu reads validated\n", (unsigned long long)atomic_load(&c.valid));
    HOLDS(atomic_load(&c.wrong) == 0);
    watchdog_stop(&dog);
    world_close(&c.w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(version_reload_into_same_frame_is_noticed),
        cmocka_unit_test(version_reload_after_another_page_is_noticed),
        cmocka_unit_test(version_changed_dropped_reloaded_is_noticed),
        cmocka_unit_test(version_frame_given_to_the_kernel_and_back_is_noticed),
        cmocka_unit_test(version_many_readers_never_accept_stale_bytes),
    };
    const size_t count = sizeof tests / sizeof tests[0];
#ifdef LAST_TEST_ONLY /* so that a broken build shows that the threads find it, too */
    /* One run of the threads meets the race three times in four; detection ends the process. */
    return run_rule_tests(&tests[count - 1], 1, RUNS_TO_DETECT);
#else
    return run_rule_tests(tests, count, 1);
#endif
}
