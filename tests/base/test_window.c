/* SPDX-License-Identifier: MIT */
/* How far a sequential reader reads ahead: growth, decay and limits, by counts alone. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <clockpool/base/window.h>

static void take(struct cp_window *window, uint32_t pages)
{
    for (uint32_t i = 0; i < pages; i++)
        cp_window_took(window);
}

static void window_init_keeps_its_limits_in_order(void **state)
{
    (void)state;
    struct cp_window window;
    cp_window_init(&window, 32, 16, 2048);
    assert_int_equal(window.pages, 32);
    cp_window_init(&window, 8, 16, 2048);
    assert_int_equal(window.pages, 16);
    cp_window_init(&window, 32, 16, 8);
    assert_int_equal(window.pages, 8);
    assert_int_equal(window.least, 8);
    cp_window_init(&window, 0, 0, 0);
    assert_int_equal(window.pages, 1);
}

static void window_of_a_reader_that_waits_doubles_to_its_limit(void **state)
{
    (void)state;
    struct cp_window window;
    cp_window_init(&window, 32, 16, 2000);
    const uint32_t expected[] = {64, 128, 256, 512, 1024, 2000, 2000};
    for (uint32_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        cp_window_waited(&window);
        assert_int_equal(window.pages, expected[i]);
    }
    cp_window_init(&window, 1, 1, UINT32_MAX);
    for (uint32_t i = 0; i < 40; i++)
        cp_window_waited(&window);
    assert_int_equal(window.pages, UINT32_MAX);
}

static void window_of_a_reader_that_never_waits_shrinks_to_its_least(void **state)
{
    (void)state;
    struct cp_window window;
    cp_window_init(&window, 64, 16, 2048);
    take(&window, 2 * 64 - 1);
    assert_int_equal(window.pages, 64);
    take(&window, 1);
    assert_int_equal(window.pages, 56);
    take(&window, 2 * 56);
    assert_int_equal(window.pages, 49);
    take(&window, 100000);
    assert_int_equal(window.pages, 16);
    cp_window_init(&window, 5, 1, 8); /* an eighth of few pages is one */
    take(&window, 2 * 5 + 2 * 4 + 2 * 3 + 2 * 2);
    assert_int_equal(window.pages, 1);
    take(&window, 100);
    assert_int_equal(window.pages, 1);
}

/* A wait begins the counting anew: only an unbroken run of two windows shrinks it. */
static void window_waits_in_between_keep_it_from_shrinking(void **state)
{
    (void)state;
    struct cp_window window;
    cp_window_init(&window, 64, 16, 64);
    for (uint32_t round = 0; round < 50; round++) {
        take(&window, 2 * 64 - 1);
        assert_int_equal(window.pages, 64);
        cp_window_waited(&window);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(window_init_keeps_its_limits_in_order),
        cmocka_unit_test(window_of_a_reader_that_waits_doubles_to_its_limit),
        cmocka_unit_test(window_of_a_reader_that_never_waits_shrinks_to_its_least),
        cmocka_unit_test(window_waits_in_between_keep_it_from_shrinking),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
