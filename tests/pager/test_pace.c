/* SPDX-License-Identifier: MIT */
/* The pace of a checkpoint: when it rests, by numbers; and that it comes to its end all the same.
 */
#include "helpers.h"

#include <sched.h>
#include "internal.h"

#define ROOM (UINT64_C(64) << 20)

static void pace_rests_as_long_as_it_is_ahead_of_time(void **state)
{
    (void)state;
    assert_int_equal(cp_pager__pace_ms(100, 1000, 0, 5000, 0, ROOM), 500);
    assert_int_equal(cp_pager__pace_ms(100, 1000, 300, 5000, 0, ROOM), 200);
    assert_int_equal(cp_pager__pace_ms(100, 1000, 500, 5000, 0, ROOM), 0);
    assert_int_equal(cp_pager__pace_ms(100, 1000, 700, 5000, 0, ROOM), 0);
    assert_int_equal(cp_pager__pace_ms(0, 1000, 0, 5000, 0, ROOM), 0);
}

static void pace_rests_not_when_the_log_fills(void **state)
{
    (void)state;
    assert_true(cp_pager__pace_ms(500, 1000, 0, 5000, ROOM / 4, ROOM) > 0);
    assert_int_equal(cp_pager__pace_ms(500, 1000, 0, 5000, ROOM / 2, ROOM), 0);
    assert_int_equal(cp_pager__pace_ms(999, 1000, 0, 5000, ROOM, ROOM), 0);
    assert_int_equal(cp_pager__pace_ms(999, 1000, 0, 5000, 2 * ROOM, ROOM), 0);
}

static void pace_has_an_end(void **state)
{
    (void)state;
    assert_int_equal(cp_pager__pace_ms(1000, 1000, 0, 5000, 0, ROOM), 0); /* all done */
    assert_int_equal(cp_pager__pace_ms(2000, 1000, 0, 5000, 0, ROOM), 0);
    assert_int_equal(cp_pager__pace_ms(999, 1000, 5000, 5000, 0, ROOM), 0); /* all of its time */
    assert_int_equal(cp_pager__pace_ms(999, 1000, 0, 0, 0, ROOM), 0);
    for (uint64_t done = 0; done <= 1000; done += 10) { /* the rests add up to its time at most */
        for (uint64_t elapsed = 0; elapsed < 5000; elapsed += 100)
            assert_true(elapsed + cp_pager__pace_ms(done, 1000, elapsed, 5000, 0, ROOM) <= 5000);
    }
}

/* The thread writes checkpoints at its pace; whoever wants one now does not wait for that. */
static void pace_of_the_thread_ends_and_gives_way(void **state)
{
    (void)state;
    struct cp_pager_options options = options_of(0, 0);
    struct cp_pager_stats stats;
    struct cp_pager *pager = NULL;
    options.create = true;
    options.log_limit_bytes = UINT64_C(8) << 20;
    options.checkpoint_ms = 50;
    assert_ok(cp_pager_open(new_store(), &options, &pager));
    for (unsigned i = 0; i < 3000; i++)
        allocate_filled(pager, i);
    do { /* ends: a checkpoint is due every 50 ms */
        sched_yield();
        cp_pager_stats(pager, &stats);
    } while (stats.checkpoints < 2);
    assert_int_equal(stats.checkpoint_errors, 0);
    uint64_t first = cp_pager_first_page(pager);
    for (unsigned round = 0; round < 5; round++) {
        for (unsigned i = 0; i < 100; i++)
            allocate_filled(pager, 3000 + i);
        assert_ok(round % 2 == 0 ? cp_pager_sync(pager) : cp_pager_checkpoint(pager));
    }
    assert_ok(cp_pager_close(pager));
    pager = open_store(store_path());
    for (unsigned i = 0; i < 3000; i++)
        assert_true(check_page(pager, first + i, i));
    assert_ok(cp_pager_close(pager));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pace_rests_as_long_as_it_is_ahead_of_time),
        cmocka_unit_test(pace_rests_not_when_the_log_fills),
        cmocka_unit_test(pace_has_an_end),
        cmocka_unit_test(pace_of_the_thread_ends_and_gives_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
