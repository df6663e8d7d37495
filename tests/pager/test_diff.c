/* SPDX-License-Identifier: MIT */
/* Ranges that differ: compared with a byte-by-byte model. */
#include "helpers.h"

#include "diff.h"

#define SIZE 4064u

/* Every byte that differs lies in a range, ranges begin and end with a difference, are in order,
 * and further apart than the gap allows (by words). Returns their number. */
static unsigned check_ranges(const unsigned char *before, const unsigned char *after)
{
    static const unsigned char zeros[SIZE];
    const unsigned char *old_bytes = before != NULL ? before : zeros;
    unsigned char covered[SIZE] = {0};
    uint32_t start, end, from = 0, last_end = 0;
    unsigned ranges = 0;
    while (cp_diff__next(before, after, from, SIZE, &start, &end)) {
        assert_true(start < end && end <= SIZE && start >= from);
        assert_true(old_bytes[start] != after[start] && old_bytes[end - 1] != after[end - 1]);
        if (ranges > 0)
            assert_true(start - last_end > CP_DIFF_GAP_BYTES - 8);
        memset(covered + start, 1, end - start);
        last_end = from = end;
        ranges++;
    }
    for (uint32_t i = 0; i < SIZE; i++) {
        if (old_bytes[i] != after[i])
            assert_int_equal(covered[i], 1);
    }
    return ranges;
}

static void diff_equal_images_have_no_range(void **state)
{
    (void)state;
    _Alignas(8) unsigned char before[SIZE], after[SIZE];
    memset(before, 7, SIZE);
    memcpy(after, before, SIZE);
    assert_int_equal(check_ranges(before, after), 0);
    memset(after, 0, SIZE);
    assert_int_equal(check_ranges(NULL, after), 0);
}

static void diff_single_bytes_at_every_place_are_found(void **state)
{
    (void)state;
    _Alignas(8) unsigned char before[SIZE] = {0}, after[SIZE] = {0};
    for (uint32_t at = 0; at < SIZE; at++) {
        uint32_t start, end;
        after[at] = 1;
        assert_true(cp_diff__next(before, after, 0, SIZE, &start, &end));
        assert_int_equal(start, at);
        assert_int_equal(end, at + 1);
        assert_false(cp_diff__next(before, after, end, SIZE, &start, &end));
        after[at] = 0;
    }
}

static void diff_near_changes_are_one_range_far_ones_two(void **state)
{
    (void)state;
    _Alignas(8) unsigned char before[SIZE] = {0}, after[SIZE] = {0};
    after[0] = after[12] = 1;
    assert_int_equal(check_ranges(before, after), 1);
    after[12] = 0;
    after[64] = 1;
    assert_int_equal(check_ranges(before, after), 2);
}

static void diff_random_changes_are_covered(void **state)
{
    (void)state;
    uint64_t random = test_seed();
    _Alignas(8) unsigned char before[SIZE], after[SIZE];
    for (unsigned round = 0; round < 2000; round++) {
        for (uint32_t i = 0; i < SIZE; i += 8) {
            uint64_t word = next_random(&random);
            memcpy(before + i, &word, 8);
        }
        bool zeros = round % 3 == 0;
        if (zeros)
            memset(before, 0, SIZE);
        memcpy(after, before, SIZE);
        for (unsigned changes = (unsigned)below(&random, 20); changes > 0; changes--) {
            uint32_t at = (uint32_t)below(&random, SIZE);
            uint32_t size = 1 + (uint32_t)below(&random, below(&random, 4) == 0 ? SIZE - at : 9);
            for (uint32_t i = at; i < at + size && i < SIZE; i++)
                after[i] = (unsigned char)next_random(&random);
        }
        check_ranges(zeros && round % 2 == 0 ? NULL : before, after);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(diff_equal_images_have_no_range),
        cmocka_unit_test(diff_single_bytes_at_every_place_are_found),
        cmocka_unit_test(diff_near_changes_are_one_range_far_ones_two),
        cmocka_unit_test(diff_random_changes_are_covered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
