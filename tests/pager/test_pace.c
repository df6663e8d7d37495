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

/* The thread writes checkpoints at its pace, others in between, and every page arrives. */
static void pace_of_the_thread_ends(void **state)
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

static char in_memory[] = "/dev/shm/clockpool-pace-XXXXXX";
static bool made_in_memory;

static int remove_in_memory(void **state)
{
    (void)state;
    if (made_in_memory)
        remove_tree(in_memory);
    return 0;
}

/* A device that is always faster than the pace, where there is one. */
static const char *fast_store(void)
{
    static char path[64];
    made_in_memory = mkdtemp(in_memory) != NULL;
    if (!made_in_memory)
        return new_store();
    snprintf(path, sizeof path, "%s/store", in_memory);
    return path;
}

/*
 * The thread's checkpoint rests while nobody waits, and rests no more once somebody does. Its pages
 * are so many that it would rest most of PACED_MS; what is left after the first rest, and one last
 * rest of 20 ms, is told apart by what is counted, not by how long anything took here.
 */
static void pace_of_the_thread_gives_way(void **state)
{
    (void)state;
    enum { PAGES = 10000, PACED_MS = 750 };
    struct cp_pager_options options = options_of(0, UINT64_C(64) << 20);
    struct cp_pager_stats before, resting, after;
    struct cp_pager *pager = NULL;
    options.create = true;
    options.log_segment_bytes = 16u << 20;
    options.log_limit_bytes = UINT64_C(1) << 30; /* the images of all pages are little of it */
    options.checkpoint_ms = 2 * PACED_MS;        /* the flush may take half of that */
    assert_ok(cp_pager_open(fast_store(), &options, &pager));
    for (unsigned i = 0; i < PAGES; i++)
        allocate_filled(pager, i);
    const uint64_t begun_ns = cp_now_ns();
    assert_ok(cp_pager_sync(pager));
    const uint64_t device_ms = (cp_now_ns() - begun_ns) / 1000000u;
    cp_pager_stats(pager, &before);
    const uint64_t first = cp_pager_first_page(pager);
    for (unsigned i = 0; i < PAGES; i++)
        update_page(pager, first + i, i + 1);
    do { /* ends: a checkpoint is due */
        sched_yield();
        cp_pager_stats(pager, &resting);
    } while (resting.checkpoints == before.checkpoints &&
             resting.checkpoint_paused_us == before.checkpoint_paused_us);
    const bool rested = resting.checkpoint_paused_us > before.checkpoint_paused_us;
    assert_ok(cp_pager_sync(pager));
    cp_pager_stats(pager, &after);
    for (unsigned i = 0; i < PAGES; i++)
        assert_true(check_page(pager, first + i, i + 1));
    assert_ok(cp_pager_close(pager));
    if (!rested && device_ms > PACED_MS / 4) {
        print_message("the device takes %llu ms, so there was no time to rest\n",
                      (unsigned long long)device_ms);
        skip();
    }
    assert_true(rested);
    assert_true(after.checkpoint_paused_us - resting.checkpoint_paused_us < PACED_MS / 2 * 1000u);
}

/* A store in which nothing happens by itself. 0: as by default. */
static struct cp_pager *quiet_store(uint32_t checkpoint_ms, uint64_t log_limit_bytes)
{
    struct cp_pager_options options = options_of(0, UINT64_C(64) << 20);
    struct cp_pager *pager = NULL;
    options.create = true;
    options.background = CP_BACKGROUND_NONE;
    options.checkpoint_ms = checkpoint_ms;
    options.log_limit_bytes = log_limit_bytes;
    assert_ok(cp_pager_open(new_store(), &options, &pager));
    return pager;
}

/* At a steady load the next checkpoint follows when this one ends: so it takes nearly as long. */
static void pace_spreads_over_the_time_since_the_last(void **state)
{
    (void)state;
    struct cp_pager *pager = quiet_store(8000, 0);
    struct cp_pace pace;
    cp_pager__pace_begin(pager, &pace);
    assert_int_equal(pace.most_ms, 4000); /* the first: half the longest time between two */
    pager->pace_begun_ns = cp_now_ns() - UINT64_C(2000000000);
    cp_pager__pace_begin(pager, &pace);
    assert_in_range(pace.most_ms, 1800, 3900);
    pager->pace_begun_ns = cp_now_ns() - UINT64_C(60000000000);
    cp_pager__pace_begin(pager, &pace);
    assert_int_equal(pace.most_ms, 4000);
    assert_ok(cp_pager_close(pager));
}

/* What others log takes the flush's time away, what it logs itself does not. */
static void pace_does_not_count_its_own_images(void **state)
{
    (void)state;
    struct cp_pager *pager = quiet_store(0, UINT64_C(64) << 20); /* a quarter may pass: 16 MiB */
    struct cp_pace pace;
    cp_pager__pace_begin(pager, &pace);
    pace.begun_lsn -= UINT64_C(12) << 20; /* as if so much had been logged since */
    assert_true(cp_pager__pace_rest_ms(&pace, 20000, 40000) > 0);   /* 80 MB of it by itself */
    assert_int_equal(cp_pager__pace_rest_ms(&pace, 100, 40000), 0); /* the others are in a hurry */
    assert_true(cp_pager__pace_rest_ms(&pace, 1500, 40000 / 20) > 0); /* half of it by itself */
    assert_ok(cp_pager_close(pager));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pace_rests_as_long_as_it_is_ahead_of_time),
        cmocka_unit_test(pace_rests_not_when_the_log_fills),
        cmocka_unit_test(pace_has_an_end),
        cmocka_unit_test(pace_spreads_over_the_time_since_the_last),
        cmocka_unit_test(pace_does_not_count_its_own_images),
        cmocka_unit_test(pace_of_the_thread_ends),
        cmocka_unit_test_teardown(pace_of_the_thread_gives_way, remove_in_memory),
    };
    return RUN_ENGINE(CP_ENGINE_POOL, tests); /* mmap writes without a pace */
}
