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

#define IN_MEMORY "/dev/shm/clockpool-pace-XXXXXX"

static char in_memory[] = IN_MEMORY;
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
    memcpy(in_memory, IN_MEMORY, sizeof in_memory);
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

static void commit_update(struct cp_pager *pager, uint64_t page, uint64_t version)
{
    struct cp_mtr *mtr;
    void *data;
    assert_ok(cp_mtr_begin(pager, &mtr));
    assert_ok(cp_mtr_fix(mtr, page, CP_EXCLUSIVE, &data));
    memcpy(data, &version, sizeof version);
    assert_ok(cp_mtr_commit(mtr, CP_COMMIT_RELAXED, NULL));
}

/* The time is by the options; the room is what the log's debt leaves of the limit. */
static void pace_has_room_by_the_debt(void **state)
{
    (void)state;
    const uint64_t limit = UINT64_C(64) << 20;
    struct cp_pager *pager = quiet_store(8000, limit);
    struct cp_pace empty, full;
    cp_pager__pace_begin(pager, &empty);
    assert_int_equal(empty.most_ms, 4000); /* half the longest time between two */
    assert_in_range(empty.room_bytes, limit / 2, limit / 8 * 7);
    for (unsigned i = 0; i < 1000; i++)
        allocate_filled(pager, i);
    cp_pager__pace_begin(pager, &full);
    assert_in_range(full.debt_bytes, empty.debt_bytes + 1000 * 4096,
                    empty.debt_bytes + 4000 * 4096);
    assert_in_range(full.room_bytes, 1, empty.room_bytes - 1000 * 4096 / 4 * 3);
    assert_ok(cp_pager_close(pager));
}

/* What others log or make dirty takes the flush's time away, what it logs itself does not. */
static void pace_does_not_count_its_own_images(void **state)
{
    (void)state;
    struct cp_pager *pager = quiet_store(0, UINT64_C(64) << 20);
    struct cp_pace pace;
    for (unsigned i = 0; i < 2000; i++)
        allocate_filled(pager, i);
    assert_ok(cp_pager_sync(pager));
    assert_ok(cp_pager_checkpoint(pager)); /* no page has a base behind its redo point */
    const uint64_t first = cp_pager_first_page(pager);
    for (unsigned i = 0; i < 2000; i++)
        commit_update(pager, first + i, i + 1);
    cp_pager__pace_begin(pager, &pace);
    pace.room_bytes = UINT64_C(1) << 20;
    assert_true(cp_pager__pace_rest_ms(&pace, 20000, 40000) > 0);
    assert_ok(pager->engine->ops->flush(pager->engine, NULL, NULL)); /* 8 MB of images */
    assert_true(cp_pager__pace_rest_ms(&pace, 20000, 40000) > 0);
    for (unsigned i = 0; i < 200; i++) /* 0.8 MB of pages that were clean */
        commit_update(pager, first + i, i + 2);
    assert_int_equal(cp_pager__pace_rest_ms(&pace, 20000, 40000), 0);
    assert_true(cp_pager__pace_rest_ms(&pace, 39600, 40000) > 0);
    assert_ok(cp_pager_close(pager));
}

static uint64_t checkpoints_of(struct cp_pager *pager)
{
    struct cp_pager_stats stats;
    cp_pager_stats(pager, &stats);
    return stats.checkpoints;
}

/* A checkpoint begins while the images of what is dirty still fit into the log's limit. */
static void checkpoint_begins_by_the_debt(void **state)
{
    (void)state;
    enum { HALF = 2048 }; /* pages of half the limit */
    struct cp_pager *pager = quiet_store(0, UINT64_C(2) * HALF * 4096);
    for (unsigned i = 0; i < 2 * HALF; i++)
        allocate_filled(pager, i);
    assert_ok(cp_pager_sync(pager));
    assert_ok(cp_pager_checkpoint(pager));
    const uint64_t before = checkpoints_of(pager), first = cp_pager_first_page(pager);
    unsigned i = 0;
    for (; i < HALF / 2; i++)
        commit_update(pager, first + i, i + 1);
    assert_int_equal(checkpoints_of(pager), before);
    for (; i < HALF + 100; i++)
        commit_update(pager, first + i, i + 1);
    assert_true(checkpoints_of(pager) > before);
    assert_ok(cp_pager_close(pager));
}

/* Who notes a full log while a checkpoint is under way asks for what is done when it ends. */
static void checkpoint_is_not_repeated_for_nothing(void **state)
{
    (void)state;
    struct cp_pager_options options = options_of(0, UINT64_C(64) << 20);
    struct cp_pager *pager = NULL;
    options.create = true;
    assert_ok(cp_pager_open(new_store(), &options, &pager));
    allocate_filled(pager, 1);
    assert_ok(cp_pager_checkpoint(pager));
    allocate_filled(pager, 2);
    const uint64_t before = checkpoints_of(pager);
    struct cp_background_state *background = &pager->background;
    atomic_store(&background->requested, true);
    do { /* ends: the thread takes notice */
        pthread_mutex_lock(&background->mutex);
        pthread_cond_signal(&background->wake);
        pthread_mutex_unlock(&background->mutex);
        sched_yield();
    } while (atomic_load(&background->requested));
    cp_pager__background_stop(pager); /* it has finished its round */
    assert_int_equal(checkpoints_of(pager), before);
    assert_ok(cp_pager_close(pager));
}

static void log_limit_follows_the_budget(void **state)
{
    (void)state;
    static const uint64_t mib = UINT64_C(1) << 20;
    static const struct {
        uint64_t budget_mib, asked_mib, limit_mib;
    } cases[] = {{16, 0, 256}, {200, 0, 400}, {600, 0, 1024}, {16, 3, 3}};
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cp_pager_options options = options_of(0, cases[i].budget_mib * mib);
        struct cp_pager *pager = NULL;
        options.create = true;
        options.log_limit_bytes = cases[i].asked_mib * mib;
        assert_ok(cp_pager_open(new_store(), &options, &pager));
        assert_int_equal(pager->options.log_limit_bytes, cases[i].limit_mib * mib);
        assert_ok(cp_pager_close(pager));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pace_rests_as_long_as_it_is_ahead_of_time),
        cmocka_unit_test(pace_rests_not_when_the_log_fills),
        cmocka_unit_test(pace_has_an_end),
        cmocka_unit_test(pace_has_room_by_the_debt),
        cmocka_unit_test(pace_does_not_count_its_own_images),
        cmocka_unit_test(checkpoint_begins_by_the_debt),
        cmocka_unit_test(checkpoint_is_not_repeated_for_nothing),
        cmocka_unit_test(log_limit_follows_the_budget),
        cmocka_unit_test(pace_of_the_thread_ends),
        cmocka_unit_test_teardown(pace_of_the_thread_gives_way, remove_in_memory),
    };
    int failed = RUN_ENGINE(CP_ENGINE_POOL, tests);
    return failed + RUN_ENGINE(CP_ENGINE_MMAP, tests);
}
