/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "content.h"

#define SIZE 4064u

static uint64_t page[SIZE / 8];
static struct bench_check check;

static int fill(void **state)
{
    (void)state;
    check = (struct bench_check){.seed = 5, .content_size = SIZE};
    bench_content_fill(page, SIZE, 5, 77);
    return 0;
}

static void check_page_filled_is_right(void **state)
{
    (void)state;
    assert_true(bench_check_page(&check, 77, page));
    assert_false(check.failed);
    assert_int_equal(check.verified_count, SIZE / 8 - 1);
}

static void check_page_any_flipped_bit_is_found(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SIZE / 8; i++) {
        fill(state);
        page[i] ^= UINT64_C(1) << i % 64;
        assert_false(bench_check_page(&check, 77, page));
        /* the counter itself is not compared: what depends on it is */
        assert_int_equal(check.offset_bytes, i == BENCH_WORD_COUNTER ? 16 : i * 8);
        assert_int_equal(check.page, 77);
        assert_int_not_equal(check.expected, check.found);
    }
}

static void check_page_another_page_is_wrong(void **state)
{
    (void)state;
    assert_false(bench_check_page(&check, 78, page));
    assert_int_equal(check.offset_bytes, 0);
    fill(state);
    check.seed = 6;
    assert_false(bench_check_page(&check, 77, page));
}

static void update_keeps_the_page_verifiable(void **state)
{
    (void)state;
    for (unsigned i = 1; i <= 100; i++) {
        assert_true(bench_check_update(&check, 77, page));
        assert_int_equal(page[BENCH_WORD_COUNTER], i);
        assert_true(bench_check_page(&check, 77, page));
    }
}

static void update_lost_half_is_found(void **state)
{
    (void)state;
    uint64_t before = page[5];
    assert_true(bench_check_update(&check, 77, page));
    page[5] = before; /* as after a torn write */
    assert_false(bench_check_page(&check, 77, page));
}

static void update_wrong_page_is_left_alone(void **state)
{
    (void)state;
    uint64_t before = page[BENCH_WORD_COUNTER];
    assert_false(bench_check_update(&check, 78, page));
    assert_true(check.failed);
    assert_int_equal(page[BENCH_WORD_COUNTER], before);
}

static void scan_stops_when_told(void **state)
{
    (void)state;
    _Atomic int stop = 0;
    check.stop = &stop;
    assert_true(bench_check_scan(&check, 77, page));
    stop = 1;
    assert_false(bench_check_scan(&check, 77, page));
    assert_false(check.failed);
}

static void scan_wrong_identity_is_found_on_every_page(void **state)
{
    (void)state;
    page[0]++;
    assert_false(bench_check_scan(&check, 77, page));
    assert_true(check.failed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(check_page_filled_is_right, fill),
        cmocka_unit_test_setup(check_page_any_flipped_bit_is_found, fill),
        cmocka_unit_test_setup(check_page_another_page_is_wrong, fill),
        cmocka_unit_test_setup(update_keeps_the_page_verifiable, fill),
        cmocka_unit_test_setup(update_lost_half_is_found, fill),
        cmocka_unit_test_setup(update_wrong_page_is_left_alone, fill),
        cmocka_unit_test_setup(scan_stops_when_told, fill),
        cmocka_unit_test_setup(scan_wrong_identity_is_found_on_every_page, fill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
