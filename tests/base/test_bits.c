/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <clockpool/base/bits.h>

/* Every helper is compared with its definition, computed the slow way, around each power of two. */
static void for_interesting_values(void (*check)(uint64_t value))
{
    for (uint64_t value = 0; value < 300; value++)
        check(value);
    for (unsigned bit = 9; bit < 64; bit++) {
        check((UINT64_C(1) << bit) - 1);
        check(UINT64_C(1) << bit);
        check((UINT64_C(1) << bit) + 1);
    }
    check(UINT64_MAX);
}

static void check_power_of_two(uint64_t value)
{
    unsigned ones = 0;
    for (uint64_t rest = value; rest != 0; rest >>= 1)
        ones += (unsigned)(rest & 1);
    assert_int_equal(cp_is_power_of_two(value), ones == 1);
}

static void check_logarithms(uint64_t value)
{
    if (value == 0)
        return;
    unsigned floor = 0;
    for (uint64_t rest = value; rest > 1; rest >>= 1)
        floor++;
    assert_int_equal(cp_log2_floor(value), floor);
    assert_int_equal(cp_log2_ceil(value), cp_is_power_of_two(value) ? floor : floor + 1);
}

static void check_alignment(uint64_t value)
{
    for (unsigned bit = 0; bit < 32; bit++) {
        uint64_t alignment = UINT64_C(1) << bit;
        uint64_t down = value - value % alignment;
        assert_int_equal(cp_align_down(value, alignment), down);
        if (value <= UINT64_MAX - alignment)
            assert_int_equal(cp_align_up(value, alignment),
                             down == value ? value : down + alignment);
    }
}

static void bits_power_of_two_matches_definition(void **state)
{
    (void)state;
    for_interesting_values(check_power_of_two);
}

static void bits_logarithms_match_definition(void **state)
{
    (void)state;
    for_interesting_values(check_logarithms);
}

static void bits_alignment_matches_definition(void **state)
{
    (void)state;
    for_interesting_values(check_alignment);
}

static void bits_min_max_order_either_way(void **state)
{
    (void)state;
    assert_int_equal(cp_min_u64(1, UINT64_MAX), 1);
    assert_int_equal(cp_min_u64(UINT64_MAX, 1), 1);
    assert_true(cp_max_u64(1, UINT64_MAX) == UINT64_MAX);
    assert_true(cp_max_u64(UINT64_MAX, 1) == UINT64_MAX);
    assert_int_equal(cp_min_u64(7, 7), 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_power_of_two_matches_definition),
        cmocka_unit_test(bits_logarithms_match_definition),
        cmocka_unit_test(bits_alignment_matches_definition),
        cmocka_unit_test(bits_min_max_order_either_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
