/* SPDX-License-Identifier: MIT */
/* The replacement policy by itself: bufpool/clock.c over a model of eight slots. */
#include "helpers.h"

#define SLOTS 8u

struct model {
    struct cp_clock clock;
    uint8_t present[SLOTS];
    bool referenced[SLOTS], busy[SLOTS];
    uint32_t seen[64]; /* slots looked at, in order */
    uint32_t seen_count;
};

static enum cp_clock_look look(void *ctx, uint32_t slot)
{
    struct model *m = ctx;
    assert_true(slot < SLOTS);
    assert_int_equal(m->present[slot], 1);
    m->seen[m->seen_count++ % 64] = slot;
    if (m->busy[slot])
        return CP_CLOCK_SKIP;
    if (m->referenced[slot]) {
        m->referenced[slot] = false;
        return CP_CLOCK_REFERENCED;
    }
    return CP_CLOCK_COLD;
}

static void start(struct model *m, uint32_t count)
{
    memset(m, 0, sizeof *m);
    cp_clock__init(&m->clock, m->present, SLOTS);
    for (uint32_t i = 0; i < count; i++)
        cp_clock__insert(&m->clock, i);
}

static uint32_t pick(struct model *m, uint32_t max_looks)
{
    uint32_t looks = UINT32_MAX;
    m->seen_count = 0;
    uint32_t slot = cp_clock__pick(&m->clock, max_looks, look, m, &looks);
    assert_int_equal(looks, m->seen_count);
    assert_true(looks <= max_looks);
    return slot;
}

static void clock_cold_slots_taken_in_frame_order(void **state)
{
    (void)state;
    struct model m;
    start(&m, 4);
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < 4; i++)
            assert_int_equal(pick(&m, 100), i);
    }
}

static void clock_referenced_slot_gets_second_chance(void **state)
{
    (void)state;
    struct model m;
    start(&m, 4);
    m.referenced[0] = m.referenced[2] = true;
    assert_int_equal(pick(&m, 100), 1);
    assert_int_equal(m.seen_count, 2);
    assert_int_equal(pick(&m, 100), 3);
    /* marks are gone: the hand comes round and takes both in order */
    assert_int_equal(pick(&m, 100), 0);
    assert_int_equal(pick(&m, 100), 1);
    assert_int_equal(pick(&m, 100), 2);
}

static void clock_all_referenced_second_round_takes_first(void **state)
{
    (void)state;
    struct model m;
    start(&m, SLOTS);
    for (uint32_t i = 0; i < SLOTS; i++)
        m.referenced[i] = true;
    m.clock.hand = 5;
    assert_int_equal(pick(&m, 100), 5);
    assert_int_equal(m.seen_count, SLOTS + 1);
    assert_int_equal(m.seen[SLOTS - 1], 4);
}

static void clock_busy_slots_skipped(void **state)
{
    (void)state;
    struct model m;
    start(&m, 4);
    m.busy[0] = m.busy[1] = true;
    assert_int_equal(pick(&m, 100), 2);
    assert_int_equal(pick(&m, 100), 3);
    assert_int_equal(pick(&m, 100), 2);
}

static void clock_everything_busy_ends_after_max_looks(void **state)
{
    (void)state;
    struct model m;
    start(&m, 3);
    m.busy[0] = m.busy[1] = m.busy[2] = true;
    assert_int_equal(pick(&m, 10), CP_CLOCK_NONE);
    assert_int_equal(m.seen_count, 10);
    m.busy[1] = false; /* the hand stands behind what was last looked at, slot 0 */
    assert_int_equal(pick(&m, 10), 1);
    assert_int_equal(m.seen_count, 1);
}

static void clock_max_looks_is_a_bound(void **state)
{
    (void)state;
    struct model m;
    start(&m, SLOTS);
    for (uint32_t i = 0; i < SLOTS; i++)
        m.referenced[i] = true;
    assert_int_equal(pick(&m, 3), CP_CLOCK_NONE);
    assert_false(m.referenced[2]);
    assert_true(m.referenced[3]);
    assert_int_equal(pick(&m, 0), CP_CLOCK_NONE);
}

static void clock_hand_wraps_at_the_last_slot(void **state)
{
    (void)state;
    struct model m;
    start(&m, SLOTS);
    m.clock.hand = SLOTS - 1;
    assert_int_equal(pick(&m, 1), SLOTS - 1);
    assert_int_equal(m.clock.hand, 0);
    assert_int_equal(pick(&m, 1), 0);
}

static void clock_holes_cost_no_look(void **state)
{
    (void)state;
    struct model m;
    start(&m, 0);
    cp_clock__insert(&m.clock, 6);
    assert_int_equal(pick(&m, 1), 6);
    assert_int_equal(pick(&m, 1), 6);
}

static void clock_removal_under_the_hand_moves_on(void **state)
{
    (void)state;
    struct model m;
    start(&m, 4);
    assert_int_equal(pick(&m, 100), 0);
    cp_clock__remove(&m.clock, 1); /* the hand stands on it */
    assert_int_equal(pick(&m, 100), 2);
    cp_clock__remove(&m.clock, 0);
    cp_clock__remove(&m.clock, 3);
    assert_int_equal(pick(&m, 100), 2);
    cp_clock__insert(&m.clock, 3);
    assert_int_equal(pick(&m, 100), 3);
}

static void clock_empty_finds_nothing(void **state)
{
    (void)state;
    struct model m;
    start(&m, 2);
    cp_clock__remove(&m.clock, 0);
    cp_clock__remove(&m.clock, 1);
    assert_int_equal(pick(&m, 100), CP_CLOCK_NONE);
    assert_int_equal(m.seen_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clock_cold_slots_taken_in_frame_order),
        cmocka_unit_test(clock_referenced_slot_gets_second_chance),
        cmocka_unit_test(clock_all_referenced_second_round_takes_first),
        cmocka_unit_test(clock_busy_slots_skipped),
        cmocka_unit_test(clock_everything_busy_ends_after_max_looks),
        cmocka_unit_test(clock_max_looks_is_a_bound),
        cmocka_unit_test(clock_hand_wraps_at_the_last_slot),
        cmocka_unit_test(clock_holes_cost_no_look),
        cmocka_unit_test(clock_removal_under_the_hand_moves_on),
        cmocka_unit_test(clock_empty_finds_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
