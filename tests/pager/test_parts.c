/* SPDX-License-Identifier: MIT */
/* Parts of recovery: every page in exactly one, within the limit, each a range. */
#include "helpers.h"
#include "parts.h"

#include <clockpool/base/bits.h>

#include <inttypes.h>

static void none_added_gives_no_part(void **state)
{
    struct cp_parts parts;
    struct cp_part part = CP_PART_BEGIN;
    (void)state;
    assert_int_equal(cp_parts__init(&parts), 0);
    assert_false(cp_parts__next(&parts, 1, &part));
    cp_parts__fini(&parts);
}

static void neighbours_share_a_part_while_they_fit(void **state)
{
    struct cp_parts parts;
    struct cp_part part = CP_PART_BEGIN;
    (void)state;
    assert_int_equal(cp_parts__init(&parts), 0);
    for (uint64_t page = 10; page < 20; page++)
        cp_parts__add(&parts, page, 100);
    assert_true(cp_parts__next(&parts, 450, &part));
    assert_int_equal(part.first, 10);
    assert_int_equal(part.end, 14);
    assert_int_equal(part.hash_parts, 1);
    assert_true(cp_parts__next(&parts, 450, &part));
    assert_int_equal(part.first, 14);
    assert_int_equal(part.end, 18);
    assert_true(cp_parts__next(&parts, 450, &part));
    assert_int_equal(part.first, 18);
    assert_true(cp_parts__has(&part, 19));
    assert_false(cp_parts__has(&part, 17));
    assert_false(cp_parts__next(&parts, 450, &part));
    cp_parts__fini(&parts);
}

/* More pages than ranges, so that a range of several is too large for the limit. */
static void a_range_that_does_not_fit_is_divided_by_hash(void **state)
{
    struct cp_parts parts;
    struct cp_part part = CP_PART_BEGIN;
    unsigned seen[64] = {0};
    (void)state;
    assert_int_equal(cp_parts__init(&parts), 0);
    cp_parts__add(&parts, (uint64_t)CP_PARTS_RANGES * 64 - 1, 1);
    for (uint64_t page = 0; page < 64; page++)
        cp_parts__add(&parts, page, 100);
    while (cp_parts__next(&parts, 1000, &part)) {
        for (uint64_t page = 0; page < 64; page++)
            seen[page] += cp_parts__has(&part, page);
        if (part.first == 0)
            assert_int_equal(part.hash_parts, 7);
    }
    for (uint64_t page = 0; page < 64; page++)
        assert_int_equal(seen[page], 1);
    cp_parts__fini(&parts);
}

static void random_pages_are_each_in_one_part_within_the_limit(void **state)
{
    enum { PAGES = 5000 };
    static uint64_t pages[PAGES], bytes[PAGES];
    uint64_t random = test_seed();
    (void)state;
    for (unsigned round = 0; round < 20; round++) {
        struct cp_parts parts;
        struct cp_part part = CP_PART_BEGIN;
        uint64_t total = 0, sums = 0;
        uint64_t last_end = 0;
        const uint64_t spread = UINT64_C(1) << (10 + next_random(&random) % 40);
        const uint64_t limit = 1 + next_random(&random) % 300000;
        assert_int_equal(cp_parts__init(&parts), 0);
        for (unsigned i = 0; i < PAGES; i++) {
            pages[i] = next_random(&random) % spread;
            bytes[i] = 1 + next_random(&random) % 4200;
            cp_parts__add(&parts, pages[i], bytes[i]);
            total += bytes[i];
        }
        while (cp_parts__next(&parts, limit, &part)) {
            uint64_t sum = 0;
            for (unsigned i = 0; i < PAGES; i++)
                sum += cp_parts__has(&part, pages[i]) ? bytes[i] : 0;
            assert_true(part.first >= last_end || part.hash_part > 0);
            if (part.hash_parts == 1)
                assert_true(sum <= limit);
            last_end = part.end;
            sums += sum;
        }
        assert_true(sums == total); /* none left out, none twice */
        cp_parts__fini(&parts);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(none_added_gives_no_part),
        cmocka_unit_test(neighbours_share_a_part_while_they_fit),
        cmocka_unit_test(a_range_that_does_not_fit_is_divided_by_hash),
        cmocka_unit_test(random_pages_are_each_in_one_part_within_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
