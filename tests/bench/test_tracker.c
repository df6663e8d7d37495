/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "content.h"
#include "tracker.h"

static struct bench_tracker tracker;

static int teardown(void **state)
{
    (void)state;
    bench_tracker_fini(&tracker);
    return 0;
}

static void tracker_counts_from_the_lowest_found(void **state)
{
    (void)state;
    assert_int_equal(bench_tracker_init(&tracker, 100), 0);
    assert_int_equal(bench_tracker_next(&tracker, 0), UINT64_MAX);
    bench_tracker_note_begun(&tracker, 7, 41); /* the second began, found what the first left */
    bench_tracker_note_begun(&tracker, 7, 40);
    bench_tracker_note_begun(&tracker, 7, 42);
    for (unsigned i = 0; i < 3; i++)
        bench_tracker_note_done(&tracker, 7);
    assert_int_equal(bench_tracker_expected(&tracker, 7), 43);
    assert_int_equal(bench_tracker_done(&tracker, 7), 3);
    assert_int_equal(bench_tracker_next(&tracker, 0), 7);
    assert_int_equal(bench_tracker_next(&tracker, 8), UINT64_MAX);
    bench_tracker_note_done(&tracker, 8); /* never begun: no counter can be right */
    assert_int_equal(bench_tracker_expected(&tracker, 8), UINT64_MAX);
}

static void tracker_of_many_pages_keeps_some(void **state)
{
    (void)state;
    uint64_t count = UINT64_C(3) << 20, found = 0;
    assert_int_equal(bench_tracker_init(&tracker, count), 0);
    for (uint64_t page = 0; page < count; page++) {
        bench_tracker_note_begun(&tracker, page, 0);
        bench_tracker_note_done(&tracker, page);
    }
    for (uint64_t page = bench_tracker_next(&tracker, 0); page != UINT64_MAX;
         page = bench_tracker_next(&tracker, page + 1)) {
        assert_true(page < count);
        assert_int_equal(bench_tracker_expected(&tracker, page), 1);
        found++;
    }
    assert_true(found > BENCH_TRACKED_MAX / 2 && found <= BENCH_TRACKED_MAX);
}

static void tracker_is_told_by_the_update(void **state)
{
    (void)state;
    uint64_t page[508];
    struct bench_check check = {.seed = 5, .content_size = sizeof page, .tracker = &tracker};
    assert_int_equal(bench_tracker_init(&tracker, 100), 0);
    bench_content_fill(page, sizeof page, 5, 9);
    for (unsigned i = 0; i < 10; i++) {
        assert_true(bench_check_update(&check, 9, page));
        bench_tracker_note_done(&tracker, 9);
    }
    assert_int_equal(bench_tracker_expected(&tracker, 9), page[BENCH_WORD_COUNTER]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(tracker_counts_from_the_lowest_found, teardown),
        cmocka_unit_test_teardown(tracker_of_many_pages_keeps_some, teardown),
        cmocka_unit_test_teardown(tracker_is_told_by_the_update, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
