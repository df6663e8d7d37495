/* SPDX-License-Identifier: MIT */
/* The replacement policy by itself: bufpool/clock.c over a model pool of up to 256 slots. */
#include "helpers.h"

#define SLOTS 256u

struct model {
    struct cp_clock clock;
    void *memory;
    bool referenced[SLOTS], busy[SLOTS], dirty[SLOTS];
    uint64_t keys[SLOTS];
    uint32_t looks, stop_at; /* looks in this call; CP_CLOCK_STOP at that one, 0: never */
    uint32_t last;           /* slot that was looked at last */
};

static struct model m;

static enum cp_clock_look look(void *ctx, uint32_t slot, enum cp_clock_ask ask)
{
    assert_ptr_equal(ctx, &m);
    assert_true(slot < m.clock.slot_limit);
    assert_int_not_equal(cp_clock__place(&m.clock, slot), CP_CLOCK_OUT);
    m.last = slot;
    if (++m.looks == m.stop_at)
        return CP_CLOCK_STOP;
    if (m.busy[slot])
        return CP_CLOCK_SKIP;
    if (m.referenced[slot]) {
        m.referenced[slot] = false;
        return CP_CLOCK_REFERENCED;
    }
    return m.dirty[slot] && ask == CP_CLOCK_TAKE ? CP_CLOCK_LATER : CP_CLOCK_COLD;
}

static void start(uint32_t slot_limit, uint64_t size_units)
{
    free(m.memory);
    memset(&m, 0, sizeof m);
    m.memory = aligned_alloc(CP_CLOCK_ALIGNMENT, cp_clock__bytes(slot_limit));
    assert_non_null(m.memory);
    memset(m.memory, 0, cp_clock__bytes(slot_limit));
    cp_clock__init(&m.clock, m.memory, slot_limit);
    cp_clock__resize(&m.clock, size_units);
}

static int teardown(void **state)
{
    (void)state;
    free(m.memory);
    m.memory = NULL;
    return 0;
}

static void check(void)
{
    const char *broken = cp_clock__check(&m.clock);
    if (broken != NULL)
        fail_msg("%s", broken);
}

/* Enter a page at a place, whatever the policy would say. */
static void put(uint32_t slot, uint64_t key, enum cp_clock_place place)
{
    m.keys[slot] = key;
    m.referenced[slot] = false;
    if (place == CP_CLOCK_PROBATION && m.clock.owed_units == 0)
        m.clock.owed_units = 1; /* not memory that no page has had: that goes to main */
    cp_clock__insert(&m.clock, slot, 0, place, false, look, &m);
    assert_int_equal(cp_clock__place(&m.clock, slot), place);
}

/* A page at each slot from first up to end, its key the slot. */
static void put_all(uint32_t first, uint32_t end, enum cp_clock_place place)
{
    for (uint32_t slot = first; slot < end; slot++)
        put(slot, slot, place);
}

static uint32_t pick(uint32_t max_looks)
{
    uint32_t looks = UINT32_MAX;
    m.looks = 0;
    uint32_t slot = cp_clock__pick(&m.clock, max_looks, look, &m, &looks);
    assert_true(looks <= max_looks);
    return slot;
}

/* Pick a victim and evict it. */
static uint32_t evict(void)
{
    uint32_t slot = pick(10000);
    assert_int_not_equal(slot, CP_CLOCK_NONE);
    cp_clock__evict(&m.clock, slot, m.keys[slot], true);
    check();
    return slot;
}

/* Four slots of main, four of probation (4 the oldest), and a target that is that large. */
static void start_half_and_half(void)
{
    start(8, 8);
    put_all(0, 4, CP_CLOCK_MAIN);
    put_all(4, 8, CP_CLOCK_PROBATION);
    m.clock.owed_units = 0;
    m.clock.target_units = 4;
    check();
}

/* A hundred slots, the first 80 of main and the others of probation. */
static void start_hundred(void)
{
    start(100, 100);
    put_all(0, 80, CP_CLOCK_MAIN);
    put_all(80, 100, CP_CLOCK_PROBATION);
}

/* A whole miss, as a pool does it. Returns the slot. */
static uint32_t miss(uint64_t key, uint32_t *used)
{
    bool full = false;
    uint32_t slot = CP_CLOCK_NONE, looks = 0;
    enum cp_clock_place place = cp_clock__miss(&m.clock, key, 0, &full);
    if (full && !cp_clock__admit(&m.clock, look, &m, &slot, &looks))
        place = CP_CLOCK_PROBATION;
    if (slot == CP_CLOCK_NONE && *used < m.clock.slot_limit)
        slot = (*used)++;
    else if (slot == CP_CLOCK_NONE)
        slot = pick(10000);
    assert_int_not_equal(slot, CP_CLOCK_NONE);
    if (cp_clock__place(&m.clock, slot) != CP_CLOCK_OUT)
        cp_clock__evict(&m.clock, slot, m.keys[slot], true);
    m.keys[slot] = key;
    m.referenced[slot] = false;
    cp_clock__insert(&m.clock, slot, 0, place, false, look, &m);
    return slot;
}

static void clock_new_memory_fills_main_then_probation(void **state)
{
    (void)state;
    uint32_t used = 0;
    start(100, 100);
    for (uint64_t key = 0; key < 100; key++)
        (void)miss(key, &used);
    check();
    assert_int_equal(m.clock.main_units, 98); /* the target is 2 % at first */
    assert_int_equal(m.clock.probation_units, 2);
    assert_int_equal(cp_clock__place(&m.clock, 0), CP_CLOCK_MAIN);
    assert_int_equal(cp_clock__place(&m.clock, 99), CP_CLOCK_PROBATION);
}

static void clock_probation_is_a_queue(void **state)
{
    (void)state;
    start_half_and_half();
    assert_int_equal(evict(), 4);
    put(4, 104, CP_CLOCK_PROBATION);
    assert_int_equal(evict(), 5);
    put(5, 105, CP_CLOCK_PROBATION);
    assert_int_equal(evict(), 6);
}

static void clock_referenced_page_of_probation_moves_to_main(void **state)
{
    (void)state;
    start_half_and_half();
    m.referenced[4] = true;
    /* It makes main larger than it should be, so a page of main goes for it. */
    assert_int_equal(evict(), 0);
    assert_int_equal(cp_clock__place(&m.clock, 4), CP_CLOCK_MAIN);
    assert_int_equal(m.clock.main_units, 4);
    assert_int_equal(m.clock.probation_units, 3);
}

static void clock_count_of_main_protects(void **state)
{
    (void)state;
    start_half_and_half();
    m.clock.target_units = 5; /* probation is too small: the hand has to find it */
    m.referenced[0] = m.referenced[1] = m.referenced[2] = m.referenced[3] = true;
    assert_int_equal(pick(4), CP_CLOCK_NONE); /* all counts are 1 now */
    assert_int_equal(pick(4), CP_CLOCK_NONE); /* and 0 again */
    assert_int_equal(evict(), 0);
    m.clock.target_units = 6;                      /* what went counts as replaced */
    for (uint32_t round = 0; round < 5; round++) { /* at most 3 */
        m.referenced[1] = m.referenced[2] = m.referenced[3] = true;
        assert_int_equal(pick(3), CP_CLOCK_NONE);
    }
    assert_int_equal(pick(9), CP_CLOCK_NONE);
    assert_int_equal(pick(1), 1);
}

static void clock_busy_page_of_probation_keeps_its_place(void **state)
{
    (void)state;
    start_half_and_half();
    m.busy[4] = true;
    assert_int_equal(evict(), 5);
    m.busy[4] = false;
    put(5, 105, CP_CLOCK_PROBATION);
    assert_int_equal(evict(), 4); /* as many victims as pages skipped: from the oldest again */
}

static void clock_all_of_probation_busy_takes_from_main(void **state)
{
    (void)state;
    start_half_and_half();
    for (uint32_t slot = 4; slot < 8; slot++)
        m.busy[slot] = true;
    assert_int_equal(evict(), 0);
    uint32_t before = m.looks;
    put(0, 100, CP_CLOCK_MAIN);
    assert_int_equal(evict(), 1);
    assert_true(m.looks < before); /* what was skipped is not looked at again for each victim */
}

static void clock_everything_busy_ends_after_max_looks(void **state)
{
    (void)state;
    start_half_and_half();
    memset(m.busy, true, sizeof m.busy);
    assert_int_equal(pick(50), CP_CLOCK_NONE);
    m.busy[6] = false;
    assert_int_equal(pick(200), 6);
    start(4, 4); /* empty */
    assert_int_equal(pick(10), CP_CLOCK_NONE);
}

static void clock_main_all_referenced_takes_oldest_of_probation(void **state)
{
    (void)state;
    start(SLOTS, SLOTS);
    for (uint32_t slot = 0; slot < 200; slot++) {
        put(slot, slot, CP_CLOCK_MAIN);
        m.referenced[slot] = true;
    }
    put_all(200, 204, CP_CLOCK_PROBATION);
    m.clock.target_units = 100; /* main has to give */
    m.referenced[200] = true;   /* not even that protects now */
    assert_int_equal(pick(10000), 200);
    assert_int_equal(m.looks, CP_CLOCK_STEPS_MAX + 2);
}

static void clock_stop_ends_the_search(void **state)
{
    (void)state;
    start_half_and_half();
    m.busy[4] = true;
    m.stop_at = 2;
    assert_int_equal(pick(100), CP_CLOCK_NONE);
    assert_int_equal(m.looks, 2);
    m.stop_at = 0;
    assert_int_equal(evict(), 5); /* the page at which it stopped has kept its place */
}

static void clock_victim_that_could_not_be_had_keeps_its_place(void **state)
{
    (void)state;
    start_half_and_half();
    assert_int_equal(pick(100), 4);
    assert_int_equal(pick(100), 5);
    cp_clock__keep(&m.clock, 0, CP_CLOCK_PROBATION);
    cp_clock__evict(&m.clock, 5, 5, true);
    put(5, 105, CP_CLOCK_PROBATION);
    assert_int_equal(evict(), 4);
    m.clock.target_units = 5;
    uint32_t slot = pick(100);
    assert_int_equal(slot, 0);
    assert_int_equal(m.clock.named_units, 1);
    cp_clock__keep(&m.clock, 0, CP_CLOCK_MAIN);
    assert_int_equal(m.clock.named_units, 0);
    check();
}

/* Several victims of one search are each chosen as if the one before had been replaced. */
static void clock_victims_named_together_do_not_empty_main(void **state)
{
    (void)state;
    start_half_and_half();
    m.clock.target_units = 4.5;
    assert_int_equal(pick(100), 0);
    assert_int_equal(pick(100), 4); /* with a page for the first, probation would be 5 */
    assert_int_equal(pick(100), 5);
}

static void clock_reference_soon_after_the_miss_says_nothing(void **state)
{
    (void)state;
    start(100, 100);
    put_all(0, 80, CP_CLOCK_MAIN);
    m.clock.target_units = 20; /* so a page is young until 4 newer ones have come */
    put(80, 80, CP_CLOCK_PROBATION);
    m.referenced[80] = true;
    put_all(81, 84, CP_CLOCK_PROBATION);
    assert_true(m.referenced[80]);
    put(84, 84, CP_CLOCK_PROBATION);
    assert_false(m.referenced[80]);
    m.referenced[80] = true;
    put_all(85, 100, CP_CLOCK_PROBATION);
    assert_true(m.referenced[80]);
    check();
}

static void clock_first_reference_of_a_fetched_page_is_its_miss(void **state)
{
    (void)state;
    start_half_and_half();
    (void)evict();
    m.keys[4] = 104;
    cp_clock__insert(&m.clock, 4, 0, CP_CLOCK_PROBATION, true, look, &m);
    for (uint32_t slot = 5; slot < 8; slot++) {
        assert_int_equal(evict(), slot);
        put(slot, 100 + slot, CP_CLOCK_PROBATION);
    }
    m.referenced[4] = true; /* used for the first time, when it is young no more */
    assert_int_equal(evict(), 4);
}

static void clock_ghost_of_main_makes_probation_smaller(void **state)
{
    (void)state;
    bool full = false;
    start_hundred();
    m.clock.target_units = 21;
    assert_int_equal(evict(), 0);
    put(0, 100, CP_CLOCK_PROBATION);
    double target = m.clock.target_units;
    assert_int_equal(cp_clock__miss(&m.clock, 0, 0, &full), CP_CLOCK_MAIN);
    assert_true(m.clock.target_units < target);
    assert_true(m.clock.target_units >= 0.5); /* 0.005 of the pool */
    assert_int_equal(cp_clock__miss(&m.clock, 0, 0, &full), CP_CLOCK_PROBATION); /* used up */
}

static void clock_ghost_of_probation_makes_it_larger(void **state)
{
    (void)state;
    bool full = false;
    start_hundred();
    m.clock.owed_units = 0;
    m.clock.target_units = 20;
    assert_int_equal(evict(), 80);
    put(80, 180, CP_CLOCK_PROBATION);
    assert_int_equal(cp_clock__miss(&m.clock, 80, 0, &full), CP_CLOCK_MAIN);
    assert_true(full);
    assert_true(m.clock.target_units > 20);
    assert_int_equal(m.clock.ghost_hits[0], 1);
    for (uint32_t i = 0; i < 1000; i++) /* it has a limit */
        m.clock.target_units += 1, cp_clock__evict(&m.clock, 81, 81, false);
    m.clock.target_units = 49.5;
    assert_int_equal(cp_clock__miss(&m.clock, 81, 0, &full), CP_CLOCK_MAIN);
    assert_true(m.clock.target_units <= 50);
}

static void clock_admission_looks_at_two(void **state)
{
    (void)state;
    uint32_t slot = 0, looks = 0;
    start_half_and_half();
    m.referenced[0] = m.referenced[1] = true;
    assert_false(cp_clock__admit(&m.clock, look, &m, &slot, &looks));
    assert_int_equal(looks, 2);
    assert_true(cp_clock__admit(&m.clock, look, &m, &slot, &looks));
    assert_int_equal(slot, 2);
    assert_int_equal(looks, 1);
    cp_clock__evict(&m.clock, 2, 2, true);
    m.dirty[3] = true; /* cold, but it cannot go at once: the page may come in all the same */
    assert_true(cp_clock__admit(&m.clock, look, &m, &slot, &looks));
    assert_int_equal(slot, CP_CLOCK_NONE);
    check();
}

static void clock_pages_weigh_what_they_take(void **state)
{
    (void)state;
    start(64, 64);
    m.clock.owed_units = 64;
    cp_clock__insert(&m.clock, 0, 4, CP_CLOCK_MAIN, false, look, &m);
    cp_clock__insert(&m.clock, 16, 4, CP_CLOCK_PROBATION, false, look, &m);
    cp_clock__insert(&m.clock, 32, 1, CP_CLOCK_PROBATION, false, look, &m);
    assert_int_equal(m.clock.main_units, 16);
    assert_int_equal(m.clock.probation_units, 18);
    assert_int_equal(m.clock.owed_units, 30);
    check();
    cp_clock__remove(&m.clock, 16);
    cp_clock__remove(&m.clock, 16); /* a slot without a page: nothing happens */
    assert_int_equal(m.clock.probation_units, 2);
    check();
}

static void clock_scan_leaves_the_hot_set(void **state)
{
    (void)state;
    uint32_t used = 0, hot = 0;
    start(200, 200);
    for (uint64_t key = 0; key < 200; key++)
        (void)miss(key, &used);
    for (uint32_t slot = 0; slot < 200; slot++) /* half of the pool is in use again and again */
        m.referenced[slot] = m.keys[slot] < 100;
    for (uint64_t key = 1000; key < 5000; key++) {
        (void)miss(key, &used);
        if (key % 50 == 0)
            for (uint32_t slot = 0; slot < 200; slot++)
                m.referenced[slot] = m.keys[slot] < 100;
    }
    check();
    for (uint32_t slot = 0; slot < 200; slot++)
        hot += m.keys[slot] < 100;
    assert_int_equal(hot, 100);
}

/* A loop over a quarter more than the pool: its ghosts are young, and still main must hold. */
static void clock_loop_larger_than_the_pool_hits(void **state)
{
    (void)state;
    uint32_t used = 0, hits = 0;
    start(240, 240);
    for (uint32_t round = 0; round < 20; round++) {
        for (uint64_t key = 0; key < 300; key++) {
            uint32_t slot = 0;
            while (slot < used && m.keys[slot] != key)
                slot++;
            if (slot < used) {
                m.referenced[slot] = true;
                hits++;
            } else {
                (void)miss(key, &used);
            }
        }
    }
    check();
    /* The best there is hits 239 times in a round; LRU and a clock of one bit never. */
    print_message("%u hits in 19 rounds of 300\n", hits);
    assert_true(hits > 19 * 220);
}

/* Random calls: the invariants hold, and a victim is found wherever there is one. */
static void clock_random_use_keeps_the_invariants(void **state)
{
    (void)state;
    uint64_t random = test_seed();
    uint32_t used = 0;
    start(SLOTS, SLOTS);
    for (uint32_t i = 0; i < 20000; i++) {
        uint32_t slot = (uint32_t)(next_random(&random) % SLOTS);
        switch (next_random(&random) % 8) {
        case 0:
            m.busy[slot] = !m.busy[slot] && slot % 4 != 0;
            break;
        case 1:
        case 2:
            m.referenced[slot] = true;
            break;
        case 3:
            if (used == SLOTS && cp_clock__place(&m.clock, slot) != CP_CLOCK_OUT) {
                cp_clock__remove(&m.clock, slot); /* dropped, and another page comes at once */
                m.keys[slot] = 1000000 + i;
                cp_clock__insert(&m.clock, slot, 0, CP_CLOCK_PROBATION, slot % 2 == 0, look, &m);
            }
            break;
        default:
            (void)miss(next_random(&random) % (2 * SLOTS) * (SLOTS + 1) + i % 2, &used);
            break;
        }
        if (i % 16 == 0)
            check();
    }
    assert_int_equal(m.clock.main_units + m.clock.probation_units, SLOTS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clock_new_memory_fills_main_then_probation),
        cmocka_unit_test(clock_probation_is_a_queue),
        cmocka_unit_test(clock_referenced_page_of_probation_moves_to_main),
        cmocka_unit_test(clock_count_of_main_protects),
        cmocka_unit_test(clock_busy_page_of_probation_keeps_its_place),
        cmocka_unit_test(clock_all_of_probation_busy_takes_from_main),
        cmocka_unit_test(clock_everything_busy_ends_after_max_looks),
        cmocka_unit_test(clock_main_all_referenced_takes_oldest_of_probation),
        cmocka_unit_test(clock_stop_ends_the_search),
        cmocka_unit_test(clock_victim_that_could_not_be_had_keeps_its_place),
        cmocka_unit_test(clock_victims_named_together_do_not_empty_main),
        cmocka_unit_test(clock_reference_soon_after_the_miss_says_nothing),
        cmocka_unit_test(clock_first_reference_of_a_fetched_page_is_its_miss),
        cmocka_unit_test(clock_ghost_of_main_makes_probation_smaller),
        cmocka_unit_test(clock_ghost_of_probation_makes_it_larger),
        cmocka_unit_test(clock_admission_looks_at_two),
        cmocka_unit_test(clock_pages_weigh_what_they_take),
        cmocka_unit_test(clock_scan_leaves_the_hot_set),
        cmocka_unit_test(clock_loop_larger_than_the_pool_hits),
        cmocka_unit_test(clock_random_use_keeps_the_invariants),
    };
    return cmocka_run_group_tests(tests, NULL, teardown);
}
