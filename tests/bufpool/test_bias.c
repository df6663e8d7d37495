/* SPDX-License-Identifier: MIT */
/*
 * Readers in pin slots: that a slot holds a page against everyone who would take it, whoever
 * empties it and whenever. Built again with the rules of bias.c broken: no search, no barrier
 * before the search, no second look by the reader. Then the tests must notice.
 */
#include "rules.h"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>

#define PAGES          64u
#define RUNS_TO_DETECT 40u

static bool in_slot(const struct cp_fix *fix)
{
    return fix->slot != NULL;
}

static uint64_t word_of(struct world *w, uint64_t page)
{
    return cp_word_load(&w->file[0]->map.words[page]);
}

static bool slots_serve(struct world *w)
{
    if (w->pool->biased)
        return true;
    print_message("skipped: this kernel has no membarrier, or CLOCKPOOL_COUNTED_PINS is set\n");
    world_close(w);
    return false;
}

/* A pool with slots, or the test is skipped. */
#define OPEN_WORLD(w, budget)                                                                      \
    do {                                                                                           \
        world_simple((w), (budget), PAGES);                                                        \
        if (!slots_serve(w))                                                                       \
            skip();                                                                                \
    } while (0)

static uint32_t holders(struct world *w, uint64_t page)
{
    struct cp_pin pins[CP_PIN_SLOTS_ALL];
    uint32_t total = cp_bufpool_list_pins(w->pool, pins, CP_PIN_SLOTS_ALL);
    for (uint32_t i = 0; i < total; i++) {
        if (pins[i].page == page)
            return pins[i].count;
    }
    return 0;
}

/* Bring a page in and let its first hit bias it. */
static void warm(struct world *w, uint64_t page)
{
    check_version(w, 0, page, 0);
    check_version(w, 0, page, 0);
}

/* The first pages: from then on they are hits for the map. */
static void warm_up(struct world *w, uint64_t count)
{
    for (uint64_t page = 0; page < count; page++)
        warm(w, page);
}

static struct cp_fix hold(struct world *w, uint64_t page)
{
    struct cp_fix fix;
    warm(w, page);
    fix = must_fix(w, 0, page, CP_SHARED);
    assert_true(in_slot(&fix));
    return fix;
}

static void bias_reader_holds_in_a_slot_and_leaves_the_word_alone(void **state)
{
    (void)state;
    struct world w;
    OPEN_WORLD(&w, MIB);
    struct cp_fix a = hold(&w, 3);
    uint64_t word = word_of(&w, 3);
    struct cp_fix b = must_fix(&w, 0, 3, CP_SHARED);
    assert_true(in_slot(&b));
    assert_ptr_not_equal(a.slot, b.slot);
    assert_int_equal(word_of(&w, 3), word);
    assert_int_equal(cp_word_latch(word), CP_LATCH_FREE);
    assert_int_equal(holders(&w, 3), 2);
    assert_true(cp_bufpool_is_fixed(w.file[0], 3));
    cp_bufpool_unfix(&a);
    assert_int_equal(holders(&w, 3), 1);
    cp_bufpool_unfix(&b);
    assert_int_equal(cp_bufpool_list_pins(w.pool, NULL, 0), 0);
    assert_false(cp_bufpool_is_fixed(w.file[0], 3));
    world_close(&w);
}

static void bias_nobody_takes_a_page_that_a_slot_holds(void **state)
{
    (void)state;
    struct world w;
    struct cp_fix other;
    OPEN_WORLD(&w, MIB);
    struct cp_fix fix = hold(&w, 3);
    HOLDS(cp_bufpool_try_fix(w.file[0], 3, CP_EXCLUSIVE, &other) == -EAGAIN);
    HOLDS(cp_bufpool_discard(w.file[0], 0, PAGES) == CP_EPINNED);
    HOLDS(cp_bufpool_detach(w.file[0]) == CP_EPINNED);
    assert_int_equal(page_version(fix.data, 4096, 3), 0);
    cp_bufpool_unfix(&fix);
    assert_int_equal(cp_bufpool_try_fix(w.file[0], 3, CP_EXCLUSIVE, &other), 0);
    cp_bufpool_unfix(&other);
    assert_int_equal(cp_bufpool_discard(w.file[0], 0, PAGES), 0);
    world_close(&w);
}

static void bias_eviction_and_shrinking_pass_by_what_slots_hold(void **state)
{
    (void)state;
    struct world w;
    struct cp_fix fixes[8];
    world_open(&w, MIB);
    world_add_file(&w, 0, 4096, 1024);
    if (!slots_serve(&w))
        skip();
    for (uint32_t i = 0; i < 8; i++)
        fixes[i] = hold(&w, i * 11);
    for (uint64_t round = 0; round < 2; round++) {
        for (uint64_t page = 0; page < 1024; page++)
            check_version(&w, 0, page, 0);
    }
    assert_true(stats_of(&w).evictions > 1024);
    (void)!cp_bufpool_resize(w.pool, CP_BUFPOOL_BUDGET_MIN);
    for (uint32_t i = 0; i < 8; i++) {
        HOLDS(page_version(fixes[i].data, 4096, i * 11) == 0);
        cp_bufpool_unfix(&fixes[i]);
    }
    assert_int_equal(cp_bufpool_resize(w.pool, CP_BUFPOOL_BUDGET_MIN), 0);
    world_close(&w);
}

static void bias_every_frame_held_miss_gives_up(void **state)
{
    (void)state;
    struct world w;
    static struct cp_fix fixes[1024];
    uint32_t count = 0;
    int status = 0;
    world_open(&w, CP_BUFPOOL_BUDGET_MIN);
    world_add_file(&w, 0, 4096, 1024);
    while (count < 1024 && status == 0) {
        status = cp_bufpool_fix(w.file[0], count, CP_SHARED, &fixes[count]);
        count += status == 0;
    }
    assert_int_equal(status, CP_ENOFRAMES);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(page_version(fixes[i].data, 4096, i), 0);
        cp_bufpool_unfix(&fixes[i]);
    }
    check_version(&w, 0, 1000, 0);
    world_close(&w);
}

static void bias_more_pages_than_slots_are_counted(void **state)
{
    (void)state;
    struct world w;
    struct cp_fix fixes[3 * CP_PIN_SLOTS], twice[CP_PIN_SLOTS];
    uint32_t slots = 0;
    uint64_t pages[CP_PIN_SLOTS];
    OPEN_WORLD(&w, MIB);
    warm_up(&w, 3 * CP_PIN_SLOTS);
    for (uint32_t i = 0; i < 3 * CP_PIN_SLOTS; i++) {
        fixes[i] = must_fix(&w, 0, i, CP_SHARED);
        slots += in_slot(&fixes[i]);
    }
    assert_int_equal(slots, CP_PIN_SLOTS);
    assert_int_equal(cp_bufpool_list_pins(w.pool, NULL, 0), 3 * CP_PIN_SLOTS);
    cp_bufpool_unfix_many(fixes, 3 * CP_PIN_SLOTS);
    /* All at once they find the slots too, a page that comes twice included. */
    for (uint32_t i = 0; i < CP_PIN_SLOTS; i++)
        pages[i] = i / 2;
    assert_int_equal(cp_bufpool_fix_many(w.file[0], pages, CP_PIN_SLOTS, CP_SHARED, twice), 0);
    for (uint32_t i = 0; i < CP_PIN_SLOTS; i++) {
        assert_true(CP_POISONS || in_slot(&twice[i]));
        assert_int_equal(page_version(twice[i].data, 4096, i / 2), 0);
    }
    cp_bufpool_unfix_many(twice, CP_PIN_SLOTS);
    assert_int_equal(cp_bufpool_list_pins(w.pool, NULL, 0), 0);
    world_close(&w);
}

static void bias_written_page_counts_its_readers_for_a_while(void **state)
{
    (void)state;
    struct world w;
    uint32_t counted = 0;
    OPEN_WORLD(&w, MIB);
    struct cp_fix fix = hold(&w, 3);
    cp_bufpool_unfix(&fix);
    change_page(&w, 0, 3, 1, 0);
    assert_int_equal(word_of(&w, 3) & CP_WORD_BIASED, 0);
    do {
        fix = must_fix(&w, 0, 3, CP_SHARED);
        counted += !in_slot(&fix);
        cp_bufpool_unfix(&fix);
    } while (!in_slot(&fix) && counted <= 1000);
    assert_in_range(counted, 1, 1000);
    world_close(&w);
}

static void bias_counted_pool_uses_no_slots(void **state)
{
    (void)state;
    struct world w;
    world_open_with(&w, &(struct cp_bufpool_options){.budget_bytes = MIB, .counted_pins = true},
                    RINGS_DEFERRED);
    world_add_file(&w, 0, 4096, PAGES);
    check_version(&w, 0, 3, 0);
    struct cp_fix fix = must_fix(&w, 0, 3, CP_SHARED);
    assert_false(in_slot(&fix));
    assert_int_equal(cp_word_latch(word_of(&w, 3)), 1);
    cp_bufpool_unfix(&fix);
    world_close(&w);
}

static void bias_tracked_pool_names_its_readers(void **state)
{
    (void)state;
    struct world w;
    struct cp_pin pin;
    world_open_with(&w, &(struct cp_bufpool_options){.budget_bytes = MIB, .track_pins = true},
                    RINGS_DEFERRED);
    world_add_file(&w, 0, 4096, PAGES);
    check_version(&w, 0, 3, 0);
    struct cp_fix fix;
    assert_int_equal(cp_page_map_fix(cp_bufpool_page_map(w.file[0]), 3, &fix), 0);
    assert_int_equal(cp_bufpool_list_pins(w.pool, &pin, 1), 1);
    assert_int_equal(pin.owner_tid, gettid());
    cp_page_map_unfix(&fix);
    assert_int_equal(cp_bufpool_list_pins(w.pool, &pin, 1), 0);
    world_close(&w);
}

static void bias_inline_fix_equals_the_other(void **state)
{
    (void)state;
    struct world w;
    OPEN_WORLD(&w, MIB);
    const struct cp_page_map map = *cp_bufpool_page_map(w.file[0]);
    check_version(&w, 0, 3, 0);
    uint64_t hits = stats_of(&w).hits;
    struct cp_fix a, b = must_fix(&w, 0, 3, CP_SHARED);
    cp_bufpool_unfix(&b);
    assert_int_equal(cp_page_map_fix(&map, 3, &a), 0); /* the first slot is free */
    assert_int_equal(cp_page_map_fix(&map, 3, &b), 0); /* and now it is not */
    assert_true(in_slot(&a) && in_slot(&b));
    assert_ptr_equal(a.data, b.data);
    assert_ptr_equal(a.owner, w.file[0]);
    assert_int_equal(a.page, 3);
    assert_int_equal(a.mode, CP_SHARED);
    cp_bufpool_unfix(&a);
    cp_page_map_unfix(&b);
    assert_int_equal(stats_of(&w).hits - hits, 3);
    assert_int_equal(cp_page_map_fix(&map, 1u << 20, &a), CP_ENOPAGE);
    change_page(&w, 0, 3, 1, 0);
    assert_int_equal(cp_page_map_fix(&map, 3, &a), 0);
    assert_false(in_slot(&a));
    cp_page_map_unfix(&a);
    world_close(&w);
}

#define MANY CP_PIN_SLOTS

/* Fix MANY pages from the first through the map, look at them, and say how many are in slots. */
static uint32_t fix_many_inline(struct world *w, struct cp_fix fixes[MANY])
{
    const struct cp_page_map map = *cp_bufpool_page_map(w->file[0]);
    uint64_t pages[MANY];
    uint32_t slots = 0;
    for (uint32_t i = 0; i < MANY; i++) {
        pages[i] = i;
        cp_page_map_prefetch_line(&map, i, 64);
    }
    assert_int_equal(cp_page_map_fix_many(&map, pages, MANY, fixes), 0);
    for (uint32_t i = 0; i < MANY; i++) {
        assert_int_equal(page_version(fixes[i].data, 4096, i), 0);
        assert_ptr_equal(fixes[i].owner, w->file[0]);
        assert_int_equal(fixes[i].page, i);
        assert_int_equal(fixes[i].mode, CP_SHARED);
        slots += in_slot(&fixes[i]);
    }
    return slots;
}

static void bias_inline_fix_many_equals_the_other(void **state)
{
    (void)state;
    struct world w;
    struct cp_fix fixes[MANY], other;
    OPEN_WORLD(&w, MIB);
    warm_up(&w, MANY);
    uint64_t hits = stats_of(&w).hits;
    uint32_t slots = fix_many_inline(&w, fixes);
    assert_true(CP_POISONS || slots == MANY);
    assert_int_equal(stats_of(&w).hits - hits, MANY);
    assert_int_equal(cp_bufpool_list_pins(w.pool, NULL, 0), MANY);
    HOLDS(cp_bufpool_try_fix(w.file[0], MANY - 1, CP_EXCLUSIVE, &other) == -EAGAIN);
    cp_page_map_unfix_many(fixes, MANY);
    assert_null(fixes[0].data);
    assert_int_equal(cp_bufpool_list_pins(w.pool, NULL, 0), 0);
    /* One page is held already, so a slot is missing: one is counted. */
    other = hold(&w, MANY + 3);
    hits = stats_of(&w).hits;
    slots = fix_many_inline(&w, fixes);
    assert_true(CP_POISONS || slots == MANY - 1);
    assert_int_equal(stats_of(&w).hits - hits, MANY);
    cp_bufpool_unfix_many(fixes, MANY);
    cp_bufpool_unfix(&other);
    assert_int_equal(cp_bufpool_list_pins(w.pool, NULL, 0), 0);
    world_close(&w);
}

/* In the middle a page that is absent, then one that is written: those before it keep their slots.
 */
static void bias_inline_fix_many_goes_on_where_a_page_is_no_hit(void **state)
{
    (void)state;
    struct world w;
    struct cp_fix fixes[MANY];
    OPEN_WORLD(&w, MIB);
    warm_up(&w, MANY);
    assert_int_equal(cp_bufpool_discard(w.file[0], 5, 1), 0);
    uint64_t hits = stats_of(&w).hits, misses = stats_of(&w).misses;
    uint32_t slots = fix_many_inline(&w, fixes);
    assert_true(CP_POISONS || slots == MANY - 1);
    assert_int_equal(stats_of(&w).hits - hits, MANY - 1);
    assert_int_equal(stats_of(&w).misses - misses, 1);
    cp_page_map_unfix_many(fixes, MANY);
    struct cp_fix writer = must_fix(&w, 0, 7, CP_EXCLUSIVE);
    cp_bufpool_unfix(&writer);
    slots = fix_many_inline(&w, fixes);
    assert_true(CP_POISONS || (slots >= MANY - 2 && !in_slot(&fixes[7])));
    cp_page_map_unfix_many(fixes, MANY);
    assert_int_equal(cp_bufpool_list_pins(w.pool, NULL, 0), 0);
    world_close(&w);
}

static void bias_inline_fix_many_fixes_all_or_none(void **state)
{
    (void)state;
    struct world w;
    struct cp_fix fixes[4];
    const uint64_t beyond[] = {0, 1, 2, UINT64_C(1) << 20};
    OPEN_WORLD(&w, MIB);
    const struct cp_page_map map = *cp_bufpool_page_map(w.file[0]);
    warm_up(&w, 4);
    cp_page_map_prefetch_line(&map, beyond[3], 0);
    assert_int_equal(cp_page_map_fix_many(&map, beyond, 4, fixes), CP_ENOPAGE);
    assert_int_equal(cp_bufpool_list_pins(w.pool, NULL, 0), 0);
    assert_int_equal(cp_page_map_fix_many(&map, beyond, 0, fixes), 0);
    cp_page_map_unfix_many(fixes, 0);
    world_close(&w);
}

/* ---- other threads ------------------------------------------------------------------------------
 */

struct errand {
    struct world *w;
    struct cp_fix fix, two[2];
};

static void *fix_and_leave(void *argument)
{
    struct errand *errand = argument;
    errand->fix = must_fix(errand->w, 0, 3, CP_SHARED);
    return NULL;
}

static void bias_thread_that_ends_keeps_its_pin(void **state)
{
    (void)state;
    struct world w;
    struct cp_fix other;
    pthread_t thread;
    OPEN_WORLD(&w, MIB);
    warm(&w, 3);
    for (uint32_t i = 0; i < CP_PIN_SLOTS + 2; i++) { /* a successor gets what is left */
        struct errand errand = {.w = &w};
        assert_int_equal(pthread_create(&thread, NULL, fix_and_leave, &errand), 0);
        pthread_join(thread, NULL);
        assert_true(in_slot(&errand.fix));
        HOLDS(cp_bufpool_try_fix(w.file[0], 3, CP_EXCLUSIVE, &other) == -EAGAIN);
        assert_int_equal(holders(&w, 3), 1);
        cp_bufpool_unfix(&errand.fix);
    }
    assert_int_equal(cp_bufpool_try_fix(w.file[0], 3, CP_EXCLUSIVE, &other), 0);
    cp_bufpool_unfix(&other);
    world_close(&w);
}

static void *change_it(void *argument)
{
    struct errand *errand = argument;
    change_page(errand->w, 0, 3, 9, 0);
    return NULL;
}

/* The writer waits; the reader may come again, as it always could, and then lets go. */
static void bias_writer_waits_and_readers_may_nest(void **state)
{
    (void)state;
    struct world w;
    struct watchdog dog;
    pthread_t thread;
    OPEN_WORLD(&w, MIB);
    watchdog_start(&dog, &w, WATCHDOG_LIMIT);
    struct errand errand = {.w = &w, .fix = hold(&w, 3)};
    uint64_t waits = stats_of(&w).latch_waits;
    assert_int_equal(pthread_create(&thread, NULL, change_it, &errand), 0);
    while (stats_of(&w).latch_waits == waits)
        sched_yield();
    for (uint32_t i = 0; i < 100; i++) {
        struct cp_fix nested = must_fix(&w, 0, 3, CP_SHARED);
        assert_int_equal(page_version(nested.data, 4096, 3), 0);
        cp_bufpool_unfix(&nested);
    }
    assert_int_equal(page_version(errand.fix.data, 4096, 3), 0);
    cp_bufpool_unfix(&errand.fix);
    pthread_join(thread, NULL);
    check_version(&w, 0, 3, 9);
    watchdog_stop(&dog);
    world_close(&w);
}

static void *fix_two_and_leave(void *argument)
{
    struct errand *errand = argument;
    const uint64_t pages[] = {3, 4};
    if (cp_page_map_fix_many(cp_bufpool_page_map(errand->w->file[0]), pages, 2, errand->two) != 0)
        abort();
    return NULL;
}

/* Two pages that this or another thread has fixed: released, and the writer who waits is woken. */
static void release_two(bool by_other)
{
    struct world w;
    struct watchdog dog;
    pthread_t thread;
    world_simple(&w, MIB, PAGES);
    watchdog_start(&dog, &w, WATCHDOG_LIMIT);
    warm_up(&w, 5);
    struct errand errand = {.w = &w};
    if (by_other) {
        assert_int_equal(pthread_create(&thread, NULL, fix_two_and_leave, &errand), 0);
        pthread_join(thread, NULL);
    } else {
        fix_two_and_leave(&errand);
    }
    uint64_t waits = stats_of(&w).latch_waits;
    assert_int_equal(pthread_create(&thread, NULL, change_it, &errand), 0);
    while (stats_of(&w).latch_waits == waits)
        sched_yield();
    cp_page_map_unfix_many(errand.two, 2);
    pthread_join(thread, NULL);
    assert_int_equal(cp_bufpool_list_pins(w.pool, NULL, 0), 0);
    check_version(&w, 0, 3, 9);
    watchdog_stop(&dog);
    world_close(&w);
}

static void bias_unfix_many_wakes_a_writer(void **state)
{
    (void)state;
    release_two(false);
}

static void bias_unfix_many_releases_what_others_fixed(void **state)
{
    (void)state;
    release_two(true);
}

/*
 * The same rule in cp_page_map_hold, which has no hook: the slot lies in memory that cannot be
 * written, so the reader, between its look at the word and its slot, falls into evict_at_fault.
 */
#if !CP_POISONS && !defined(__SANITIZE_THREAD__) && !defined(__clang__)
static struct world *fault_world;
static uint64_t *fault_slot;

static void evict_at_fault(int signal_number)
{
    struct cp_fix fix;
    (void)signal_number;
    if (mprotect(fault_slot, 4096, PROT_READ | PROT_WRITE) != 0 ||
        cp_bufpool_discard(fault_world->file[0], 3, 1) != 0 ||
        cp_bufpool_fix(fault_world->file[0], 4, CP_SHARED, &fix) != 0)
        abort();
    cp_bufpool_unfix(&fix);
}

static void bias_late_inline_reader_looks_again(void **state)
{
    (void)state;
    struct world w;
    struct cp_fix fix;
    struct sigaction old, action = {.sa_handler = evict_at_fault};
    OPEN_WORLD(&w, MIB);
    warm_up(&w, 4);
    fault_world = &w;
    fault_slot = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(fault_slot, MAP_FAILED);
    assert_int_equal(sigaction(SIGSEGV, &action, &old), 0);
    int held = cp_page_map_hold(cp_bufpool_page_map(w.file[0]), 3, fault_slot, &fix);
    assert_int_equal(sigaction(SIGSEGV, &old, NULL), 0);
    assert_int_not_equal(*fault_slot, 0);
    assert_int_equal(held, -1);
    munmap(fault_slot, 4096);
    world_close(&w);
}
#define FAULT_TESTS cmocka_unit_test(bias_late_inline_reader_looks_again),
#else
#define FAULT_TESTS
#endif

#ifdef CP_TEST_HOOKS
static uint32_t hook_calls;

/* Between a reader's look at the word and its slot: the page goes, and another gets its frame. */
static void evict_meanwhile(const char *point, struct cp_bufpool_file *file, uint64_t page)
{
    struct cp_fix fix;
    if (strcmp(point, "pin") != 0 || hook_calls++ > 0)
        return;
    assert_int_equal(cp_bufpool_discard(file, page, 1), 0);
    assert_int_equal(cp_bufpool_fix(file, page + 1, CP_SHARED, &fix), 0);
    cp_bufpool_unfix(&fix);
}

static void bias_late_reader_looks_again(void **state)
{
    (void)state;
    struct world w;
    OPEN_WORLD(&w, MIB);
    struct cp_fix first = hold(&w, 9); /* the first slot is in use: the long way, with the hook */
    warm(&w, 3);
    hook_calls = 0;
    cp_bufpool__hook = evict_meanwhile;
    struct cp_fix fix = must_fix(&w, 0, 3, CP_SHARED);
    cp_bufpool__hook = NULL;
    assert_true(hook_calls > 0);
    HOLDS(page_version(fix.data, 4096, 3) == 0);
    cp_bufpool_unfix(&fix);
    cp_bufpool_unfix(&first);
    world_close(&w);
}
#endif

/* ---- many threads -------------------------------------------------------------------------------
 */

#define READERS   2u
#define HOT_PAGES 3u
#ifdef LAST_TEST_ONLY
#define STRESS_NS UINT64_C(1000000000)
#else
#define STRESS_NS UINT64_C(500000000)
#endif
#define SPREAD      (UINT64_C(1) << 22) /* words of a memory that no cache holds */
#define MAILBOXES   4u
#define LIFE_ROUNDS 3000u

struct stress {
    struct world w;
    uint64_t end_ns;
    uint64_t *spread;
    _Atomic uint64_t seed, held, late, wrong;
    _Atomic(struct cp_fix *) mailbox[MAILBOXES];
};

/*
 * The page's bytes are one page in one version. Sanitizers look away: in a build with a broken rule
 * it is this that has to notice.
 */
CP_UNWATCHED __attribute__((no_sanitize("address"))) static bool consistent(const void *data,
                                                                            uint64_t page)
{
    const uint64_t *words = data;
    uint64_t version = __atomic_load_n(&words[2], __ATOMIC_RELAXED);
    uint64_t seed = mix(page * 1000003 + version);
    if (__atomic_load_n(&words[1], __ATOMIC_RELAXED) != page)
        return false;
    for (uint32_t i = 3; i < 512; i += 4) {
        if (__atomic_load_n(&words[i], __ATOMIC_RELAXED) != seed + i)
            return false;
    }
    return version == __atomic_load_n(&words[2], __ATOMIC_RELAXED);
}

/* Another thread's fix lies in a mailbox: check it and release it. Ours goes there instead. */
static void exchange(struct stress *s, uint64_t random, struct cp_fix *fix)
{
    struct cp_fix *mine = NULL;
    if (fix != NULL && (mine = malloc(sizeof *mine)) != NULL)
        *mine = *fix;
    struct cp_fix *other = atomic_exchange(&s->mailbox[random % MAILBOXES], mine);
    if (other == NULL)
        return;
    if (!consistent(other->data, other->page))
        atomic_fetch_add(&s->wrong, 1);
    cp_bufpool_unfix(other);
    free(other);
}

/* All of them at once, through the map or by a call. */
static void read_together(struct stress *s, const struct cp_page_map *map, bool mapped)
{
    static const uint64_t pages[HOT_PAGES] = {0, 1, 2};
    struct cp_fix fixes[HOT_PAGES];
    int status = mapped ? cp_page_map_fix_many(map, pages, HOT_PAGES, fixes)
                        : cp_bufpool_fix_many(s->w.file[0], pages, HOT_PAGES, CP_SHARED, fixes);
    if (status != 0)
        abort();
    for (uint32_t i = 0; i < HOT_PAGES; i++) {
        if (!consistent(fixes[i].data, pages[i]))
            atomic_fetch_add(&s->wrong, 1);
        atomic_fetch_add_explicit(&s->held, in_slot(&fixes[i]), memory_order_relaxed);
    }
    if (mapped)
        cp_page_map_unfix_many(fixes, HOT_PAGES);
    else
        cp_bufpool_unfix_many(fixes, HOT_PAGES);
}

static void *read_for_a_while(void *argument)
{
    struct stress *s = argument;
    const struct cp_page_map map = *cp_bufpool_page_map(s->w.file[0]);
    uint64_t random = atomic_fetch_add(&s->seed, 0x51ed27) * UINT64_C(0x9e3779b97f4a7c15);
    for (uint32_t i = 0; i < LIFE_ROUNDS && cp_now_ns() < s->end_ns; i++) {
        uint64_t r = next_random(&random);
        uint64_t page = r % HOT_PAGES;
        struct cp_fix fix;
        /* A store that misses the caches: the slot's store waits behind it, the second look at the
         * word does not. Only the taker's barrier keeps the order then. */
        __atomic_store_n(&s->spread[(r >> 8) % SPREAD], r, __ATOMIC_RELAXED);
        if ((r >> 44) % 4 == 0) {
            read_together(s, &map, (r >> 46) % 4 != 0);
            continue;
        }
        int status = (r >> 40) % 4 != 0 ? cp_page_map_fix(&map, page, &fix)
                                        : cp_bufpool_fix(s->w.file[0], page, CP_SHARED, &fix);
        if (status != 0)
            abort();
        if (!consistent(fix.data, page))
            atomic_fetch_add(&s->wrong, 1);
        atomic_fetch_add_explicit(&s->held, in_slot(&fix), memory_order_relaxed);
        if ((r >> 48) % 64 == 0)
            exchange(s, r >> 56, &fix); /* and perhaps end the thread before it is released */
        else
            cp_bufpool_unfix(&fix);
    }
    return NULL;
}

/* One reader after another. */
static void *keep_reading(void *argument)
{
    struct stress *s = argument;
    while (cp_now_ns() < s->end_ns) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, read_for_a_while, s) != 0)
            abort();
        pthread_join(thread, NULL);
    }
    return NULL;
}

/* Change a page, if no reader holds it, and give it back to the readers' slots at once. */
static void take_page(struct stress *s, uint64_t page, uint64_t version, bool dirty)
{
    struct cp_fix fix;
    if (cp_bufpool_try_fix(s->w.file[0], page, CP_EXCLUSIVE, &fix) != 0) {
        atomic_fetch_add(&s->late, 1);
        return;
    }
    fill_page(fix.data, 4096, page, version, 0);
    if (dirty)
        cp_bufpool_mark_dirty(&fix, 0);
    cp_bufpool_unfix(&fix);
    uint64_t *word = &s->w.file[0]->map.words[page];
    uint64_t seen = cp_word_load(word);
    if (seen != 0 && cp_word_latch(seen) == CP_LATCH_FREE)
        (void)cp_state__cas(word, &seen, seen | CP_WORD_BIASED | CP_WORD_REF);
}

/* Take pages from the readers in every way there is. */
static void take_pages(struct stress *s)
{
    uint64_t random = atomic_load(&s->seed), version = 0;
    while (cp_now_ns() < s->end_ns && atomic_load_explicit(&s->wrong, memory_order_relaxed) == 0) {
        uint64_t r = next_random(&random);
        uint64_t page = (r >> 8) % HOT_PAGES;
        switch (r % 256) {
        case 0:
            (void)!cp_bufpool_resize(s->w.pool, (r >> 16) % 2 != 0 ? CP_BUFPOOL_BUDGET_MIN : MIB);
            break;
        case 1: /* waits for readers a while, so not often */
            if (cp_bufpool_discard(s->w.file[0], page, 1) != 0)
                atomic_fetch_add(&s->late, 1);
            break;
        case 2:
            assert_int_equal(cp_bufpool_flush(s->w.file[0]), 0);
            break;
        case 3:
        case 4:
        case 5: /* misses: the hand comes by */
            check_version(&s->w, 0, HOT_PAGES + (r >> 32) % (PAGES - HOT_PAGES), 0);
            break;
        default:
            if (r % 256 < 40)
                exchange(s, r >> 56, NULL);
            else
                take_page(s, page, ++version, r % 256 < 60);
        }
    }
}

static void bias_stress_no_reader_sees_its_page_taken(void **state)
{
    (void)state;
    static struct stress s;
    pthread_t threads[READERS];
    struct watchdog dog;
    memset(&s, 0, sizeof s);
    OPEN_WORLD(&s.w, MIB);
    s.seed = test_seed();
    s.spread = calloc(SPREAD, sizeof *s.spread);
    assert_non_null(s.spread);
    s.end_ns = cp_now_ns() + STRESS_NS;
    watchdog_start(&dog, &s.w, WATCHDOG_LIMIT);
    for (uint32_t i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, keep_reading, &s), 0);
    take_pages(&s);
    HOLDS(atomic_load(&s.wrong) == 0);
    for (uint32_t i = 0; i < READERS; i++)
        pthread_join(threads[i], NULL);
    HOLDS(atomic_load(&s.wrong) == 0);
    for (uint64_t i = 0; i < MAILBOXES; i++)
        exchange(&s, i, NULL);
    print_message("%llu held in slots, %llu times in a writer's way\n",
                  (unsigned long long)atomic_load(&s.held),
                  (unsigned long long)atomic_load(&s.late));
    watchdog_stop(&dog);
    free(s.spread);
    world_close(&s.w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bias_reader_holds_in_a_slot_and_leaves_the_word_alone),
        cmocka_unit_test(bias_nobody_takes_a_page_that_a_slot_holds),
        cmocka_unit_test(bias_eviction_and_shrinking_pass_by_what_slots_hold),
        cmocka_unit_test(bias_every_frame_held_miss_gives_up),
        cmocka_unit_test(bias_more_pages_than_slots_are_counted),
        cmocka_unit_test(bias_written_page_counts_its_readers_for_a_while),
        cmocka_unit_test(bias_counted_pool_uses_no_slots),
        cmocka_unit_test(bias_tracked_pool_names_its_readers),
        cmocka_unit_test(bias_inline_fix_equals_the_other),
        cmocka_unit_test(bias_inline_fix_many_equals_the_other),
        cmocka_unit_test(bias_inline_fix_many_goes_on_where_a_page_is_no_hit),
        cmocka_unit_test(bias_inline_fix_many_fixes_all_or_none),
        cmocka_unit_test(bias_thread_that_ends_keeps_its_pin),
        cmocka_unit_test(bias_writer_waits_and_readers_may_nest),
        cmocka_unit_test(bias_unfix_many_wakes_a_writer),
        cmocka_unit_test(bias_unfix_many_releases_what_others_fixed),
        FAULT_TESTS cmocka_unit_test(bias_late_reader_looks_again),
        cmocka_unit_test(bias_stress_no_reader_sees_its_page_taken),
    };
    const size_t count = sizeof tests / sizeof tests[0];
#ifdef CP_EXPECT_BREAKAGE
    if (!cp_pin_available()) {
        print_message("skipped: no membarrier, or CLOCKPOOL_COUNTED_PINS is set\n");
        return 77;
    }
#endif
#ifdef LAST_TEST_ONLY /* what only threads can show */
    return run_rule_tests(&tests[count - 1], 1, RUNS_TO_DETECT);
#else
    return run_rule_tests(tests, count, 1);
#endif
}
