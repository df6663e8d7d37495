/* SPDX-License-Identifier: MIT */
/* Fixing pages one at a time: latches, misses, errors, files, pins, statistics. */
#include "helpers.h"

#include <sched.h>
#include <sys/wait.h>

#define PAGES 300u

static void fix_shared_twice_exclusive_refused_until_both_gone(void **state)
{
    (void)state;
    struct world w;
    struct cp_fix a, b, c;
    world_simple(&w, 4 * MIB, PAGES);
    a = must_fix(&w, 0, 5, CP_SHARED);
    b = must_fix(&w, 0, 5, CP_SHARED);
    assert_ptr_equal(a.data, b.data);
    assert_int_equal((uintptr_t)a.data % 4096, 0);
    assert_int_equal(cp_bufpool_try_fix(w.file[0], 5, CP_EXCLUSIVE, &c), -EAGAIN);
    cp_bufpool_unfix(&a);
    assert_null(a.data);
    assert_int_equal(cp_bufpool_try_fix(w.file[0], 5, CP_EXCLUSIVE, &c), -EAGAIN);
    cp_bufpool_unfix(&b);
    assert_int_equal(cp_bufpool_try_fix(w.file[0], 5, CP_EXCLUSIVE, &c), 0);
    assert_int_equal(cp_bufpool_try_fix(w.file[0], 5, CP_SHARED, &a), -EAGAIN);
    assert_int_equal(cp_bufpool_try_fix(w.file[0], 6, CP_SHARED, &a), -EAGAIN); /* absent */
    cp_bufpool_unfix(&c);
    world_close(&w);
}

static void *fix_exclusively(void *argument)
{
    struct world *w = argument;
    change_page(w, 0, 5, 9, 0);
    return NULL;
}

static void fix_exclusive_waits_for_the_reader(void **state)
{
    (void)state;
    struct world w;
    struct watchdog dog;
    pthread_t thread;
    world_simple(&w, 4 * MIB, PAGES);
    watchdog_start(&dog, &w, WATCHDOG_LIMIT);
    struct cp_fix fix = must_fix(&w, 0, 5, CP_SHARED);
    assert_int_equal(pthread_create(&thread, NULL, fix_exclusively, &w), 0);
    while (stats_of(&w).latch_waits == 0)
        sched_yield();
    assert_int_equal(page_version(fix.data, 4096, 5), 0);
    cp_bufpool_unfix(&fix);
    pthread_join(thread, NULL);
    check_version(&w, 0, 5, 9);
    watchdog_stop(&dog);
    world_close(&w);
}

static void fix_full_house_of_readers_next_one_waits(void **state)
{
    (void)state;
    struct world w;
    static struct cp_fix fixes[CP_LATCH_SHARED_MAX];
    struct cp_fix extra;
    /* Counted: readers in pin slots leave room in the house. */
    world_open_with(&w, &(struct cp_bufpool_options){.budget_bytes = 4 * MIB, .counted_pins = true},
                    RINGS_DEFERRED);
    world_add_file(&w, 0, 4096, PAGES);
    for (uint32_t i = 0; i < CP_LATCH_SHARED_MAX; i++)
        fixes[i] = must_fix(&w, 0, 5, CP_SHARED);
    assert_int_equal(cp_bufpool_try_fix(w.file[0], 5, CP_SHARED, &extra), -EAGAIN);
    cp_bufpool_unfix(&fixes[0]);
    assert_int_equal(cp_bufpool_try_fix(w.file[0], 5, CP_SHARED, &extra), 0);
    cp_bufpool_unfix(&extra);
    cp_bufpool_unfix_many(fixes + 1, CP_LATCH_SHARED_MAX - 1);
    assert_int_equal(cp_bufpool_list_pins(w.pool, NULL, 0), 0);
    world_close(&w);
}

/* A zeroed enum, say: not taken for one mode at fix and for the other at unfix. */
static void fix_in_a_mode_that_is_none_refused(void **state)
{
    (void)state;
    const enum cp_latch_mode modes[] = {(enum cp_latch_mode)0, (enum cp_latch_mode)3};
    const uint64_t pages[2] = {5, 6}; /* the one resident, the other not */
    struct world w;
    world_simple(&w, 4 * MIB, PAGES);
    check_version(&w, 0, pages[0], 0);
    for (uint32_t i = 0; i < 2; i++) {
        struct cp_ticket tickets[2];
        struct cp_fix fixes[2];
        for (uint32_t p = 0; p < 2; p++) {
            assert_int_equal(cp_bufpool_fix(w.file[0], pages[p], modes[i], fixes), -EINVAL);
            assert_int_equal(cp_bufpool_try_fix(w.file[0], pages[p], modes[i], fixes), -EINVAL);
        }
        assert_int_equal(cp_bufpool_fix_many(w.file[0], pages, 2, modes[i], fixes), -EINVAL);
        assert_int_equal(cp_bufpool_begin(w.file[0], pages, 2, modes[i], tickets), -EINVAL);
    }
    for (uint32_t p = 0; p < 2; p++) {
        struct cp_fix fix = must_fix(&w, 0, pages[p], CP_EXCLUSIVE);
        cp_bufpool_unfix(&fix);
    }
    world_close(&w);
}

static void fix_new_is_all_zeros_whatever_was_there(void **state)
{
    (void)state;
    struct world w;
    static const unsigned char zeros[4096];
    struct cp_fix fix;
    world_simple(&w, 4 * MIB, PAGES);
    change_page(&w, 0, 3, 7, 0);                 /* resident and dirty */
    const uint64_t pages[] = {3, 4, PAGES + 10}; /* on disk; beyond the end */
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(cp_bufpool_fix_new(w.file[0], pages[i], &fix), 0);
        assert_int_equal(fix.mode, CP_EXCLUSIVE);
        assert_memory_equal(fix.data, zeros, 4096);
        fill_page(fix.data, 4096, pages[i], 8, 0);
        cp_bufpool_mark_dirty(&fix, 0);
        cp_bufpool_unfix(&fix);
    }
    assert_int_equal(stats_of(&w).pages_read, 1); /* page 3 at first */
    assert_int_equal(cp_bufpool_flush(w.file[0]), 0);
    for (uint32_t i = 0; i < 3; i++) {
        drop(&w, 0, pages[i]);
        check_version(&w, 0, pages[i], 8);
    }
    world_close(&w);
}

static void fix_changed_page_survives_flush_and_reload(void **state)
{
    (void)state;
    struct world w;
    world_simple(&w, 4 * MIB, PAGES);
    change_page(&w, 0, 11, 4, 0);
    assert_int_equal(stats_of(&w).pages_dirty, 1);
    assert_int_equal(cp_bufpool_flush(w.file[0]), 0);
    assert_int_equal(stats_of(&w).pages_dirty, 0);
    drop(&w, 0, 11);
    check_version(&w, 0, 11, 4);
    world_close(&w);
}

static void fix_several_page_sizes_share_one_pool(void **state)
{
    (void)state;
    struct world w;
    const uint32_t sizes[] = {4096, 8192, 32768, 65536};
    world_open(&w, MIB);
    for (uint32_t f = 0; f < 4; f++)
        world_add_file(&w, f, sizes[f], 24);
    for (uint32_t round = 1; round <= 3; round++) {
        for (uint64_t page = 0; page < 24; page++) {
            for (uint32_t f = 0; f < 4; f++)
                change_page(&w, f, page, round, 0);
        }
        for (uint64_t page = 0; page < 24; page++) {
            for (uint32_t f = 0; f < 4; f++)
                check_version(&w, f, page, round);
        }
    }
    assert_true(stats_of(&w).used_bytes <= MIB);
    world_close(&w);
}

/* ---- errors -------------------------------------------------------------------------------------
 */

static void fix_more_pins_than_frames_refused_clearly_nothing_lost(void **state)
{
    (void)state;
    struct world w;
    static struct cp_fix fixes[PAGES];
    struct cp_fix fix;
    uint32_t count = 0;
    int status;
    world_simple(&w, CP_BUFPOOL_BUDGET_MIN, PAGES);
    while ((status = cp_bufpool_fix(w.file[0], count, CP_EXCLUSIVE, &fixes[count])) == 0) {
        fill_page(fixes[count].data, 4096, count, 1, 0);
        cp_bufpool_mark_dirty(&fixes[count], 0);
        count++;
    }
    assert_int_equal(status, CP_ENOFRAMES);
    assert_int_equal(cp_error_info()->code, CP_ENOFRAMES);
    assert_true(strstr(cp_error_info()->hint, "cp_bufpool_list_pins") != NULL);
    assert_int_equal(cp_bufpool_list_pins(w.pool, NULL, 0), count);
    cp_bufpool_unfix(&fixes[0]);
    assert_int_equal(cp_bufpool_fix(w.file[0], PAGES - 1, CP_SHARED, &fix), 0);
    cp_bufpool_unfix(&fix);
    cp_bufpool_unfix_many(fixes + 1, count - 1);
    for (uint64_t page = 0; page < count; page++)
        check_version(&w, 0, page, 1);
    world_close(&w);
}

static void fix_unreadable_page_error_names_it_and_passes(void **state)
{
    (void)state;
    struct world w;
    struct cp_fix fix;
    world_simple(&w, 4 * MIB, PAGES);
    fault_io_rule(w.faults, &(struct fault_rule){.on = FAULT_READ, .nth = 1, .code = -EIO});
    assert_int_equal(cp_bufpool_fix(w.file[0], 21, CP_SHARED, &fix), -EIO);
    assert_int_equal(cp_error_info()->page, 21);
    assert_string_equal(cp_error_info()->path, w.path[0]);
    assert_int_equal(stats_of(&w).read_errors, 1);
    assert_int_equal(stats_of(&w).pages_resident, 0);
    check_version(&w, 0, 21, 0);
    assert_int_equal(cp_bufpool_fix(w.file[0], PAGES, CP_SHARED, &fix), -ENODATA);
    assert_int_equal(cp_error_info()->page, PAGES);
    assert_int_equal(cp_bufpool__check(w.pool), 0);
    world_close(&w);
}

static int refuse_odd_pages(void *ctx, void *data, uint64_t page)
{
    (void)ctx;
    if (page_version(data, 4096, page) != 0 || page % 2 == 0)
        return 0;
    return cp_error_set(CP_ECHECKSUM, "here", page, CP_NO_LSN, "none", "checking");
}

static void fix_image_that_verify_refuses_is_not_served(void **state)
{
    (void)state;
    struct world w;
    struct cp_fix fix, fixes[2];
    const uint64_t pages[] = {8, 9};
    world_open(&w, 4 * MIB);
    world_create_file(&w, 0, 4096, PAGES);
    world_attach_with(&w, 0, &(struct cp_bufpool_file_options){.verify = refuse_odd_pages});
    assert_int_equal(cp_bufpool_fix(w.file[0], 7, CP_SHARED, &fix), CP_ECHECKSUM);
    assert_int_equal(cp_error_info()->page, 7);
    assert_false(is_resident(&w, 0, 7));
    assert_int_equal(stats_of(&w).verify_errors, 1);
    assert_int_equal(cp_bufpool_fix_many(w.file[0], pages, 2, CP_SHARED, fixes), CP_ECHECKSUM);
    check_version(&w, 0, 8, 0);
    world_close(&w);
}

static void fix_forked_child_is_told(void **state)
{
    (void)state;
    struct world w;
    struct cp_fix fix;
    struct cp_ticket ticket;
    const uint64_t page = 3;
    world_simple(&w, 4 * MIB, PAGES);
    check_version(&w, 0, 3, 0);
    pthread_mutex_lock(&w.pool->clock_lock); /* as a thread that the child has not got */
    pthread_mutex_lock(&w.pool->files_lock);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct cp_bufpool_stats stats;
        struct cp_pin pin;
        alarm(20); /* ends a child that waits */
        cp_bufpool_stats(w.pool, 0, &stats);
        bool told = stats.misses == 1 && stats.used_bytes == 0 &&
                    cp_bufpool_list_pins(w.pool, &pin, 1) == 0 &&
                    cp_bufpool_fix(w.file[0], 3, CP_SHARED, &fix) == CP_EFORKED &&
                    cp_bufpool_try_fix(w.file[0], 3, CP_SHARED, &fix) == CP_EFORKED &&
                    cp_bufpool_fix_new(w.file[0], 3, &fix) == CP_EFORKED &&
                    cp_bufpool_begin(w.file[0], &page, 1, CP_SHARED, &ticket) == CP_EFORKED &&
                    cp_bufpool_flush(w.file[0]) == CP_EFORKED &&
                    cp_bufpool_resize(w.pool, 2 * MIB) == CP_EFORKED &&
                    cp_bufpool_discard(w.file[0], 0, 9) == CP_EFORKED &&
                    cp_bufpool_detach(w.file[0]) == CP_EFORKED;
        _exit(told ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    pthread_mutex_unlock(&w.pool->files_lock);
    pthread_mutex_unlock(&w.pool->clock_lock);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    check_version(&w, 0, 3, 0);
    world_close(&w);
}

/* What a forked child inherits, begun and held by its parent. */
static struct inheritance {
    struct cp_fix writer, reader;
    struct cp_ticket read[4], fixed;
} inherited;

/* Each of these gives the step that failed, or 0. */
static int use_inherited_tickets(struct world *w)
{
    struct cp_ticket *tickets[2] = {&inherited.read[0], &inherited.read[1]};
    (void)w;
    if (cp_bufpool_wait_some(tickets, 2) != 2)
        return 1;
    if (!cp_bufpool_poll(&inherited.read[0]))
        return 2;
    if (cp_bufpool_wait(&inherited.read[0]) != CP_EFORKED)
        return 3;
    cp_bufpool_cancel(&inherited.read[1]);
    cp_bufpool_cancel(&inherited.fixed);
    return 0;
}

static int use_inherited_fixes(struct world *w)
{
    struct cp_fix fix;
    cp_bufpool_mark_dirty(&inherited.writer, 7);
    cp_bufpool_unfix(&inherited.writer);
    cp_bufpool_unfix(&inherited.reader);
    if (is_resident(w, 0, 1) || is_resident(w, 0, 2))
        return 1;
    return cp_bufpool_fix(w->file[0], 1, CP_SHARED, &fix) == CP_EFORKED ? 0 : 2;
}

static int look_at_inherited_pool(struct world *w)
{
    struct cp_pin pin;
    struct cp_bufpool_stats stats = stats_of(w);
    struct cp_bufpool_file *file;
    const struct cp_bufpool_file_options options = {.file = w->io_file[0], .page_size = 4096};
    if (cp_bufpool_list_pins(w->pool, &pin, 1) != 0)
        return 1;
    if (stats.pages_resident != 0 || stats.used_bytes != 0 || strlen(stats.io_backend) == 0)
        return 2;
    return cp_bufpool_attach(w->pool, &options, &file) == CP_EFORKED ? 0 : 3;
}

static void run_in_child(int (*run)(struct world *w), struct world *w)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(20); /* reached only when the test fails */
        _exit(run(w));
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* Reads that will not come, latches in a table that is not there, locks that nobody will open. */
static void fix_forked_child_may_let_go_of_what_it_inherits(void **state)
{
    (void)state;
    struct world w;
    const uint64_t pages[4] = {10, 20, 30, 40}, cached = 3;
    for (unsigned tracked = 0; tracked < 2; tracked++) {
        world_open_with(&w,
                        &(struct cp_bufpool_options){.budget_bytes = 4 * MIB,
                                                     .track_pins = tracked != 0,
                                                     .counted_pins = true},
                        RINGS_DEFERRED);
        world_add_file(&w, 0, 4096, PAGES);
        inherited.writer = must_fix(&w, 0, 1, CP_EXCLUSIVE);
        inherited.reader = must_fix(&w, 0, 2, CP_SHARED);
        check_version(&w, 0, cached, 0);
        assert_int_equal(cp_bufpool_begin(w.file[0], &cached, 1, CP_SHARED, &inherited.fixed), 0);
        fault_io_hold(w.faults);
        assert_int_equal(cp_bufpool_begin(w.file[0], pages, 4, CP_SHARED, inherited.read), 0);
        pthread_mutex_t *locks[] = {&w.pool->clock_lock, &w.pool->files_lock, &w.pool->pins_lock};
        for (unsigned i = 0; i < 3; i++)
            pthread_mutex_lock(locks[i]);
        run_in_child(use_inherited_tickets, &w);
        run_in_child(use_inherited_fixes, &w);
        run_in_child(look_at_inherited_pool, &w);
        for (unsigned i = 0; i < 3; i++)
            pthread_mutex_unlock(locks[i]);
        fault_io_let_go(w.faults);
        for (unsigned i = 0; i < 4; i++) {
            assert_int_equal(cp_bufpool_wait(&inherited.read[i]), 0);
            cp_bufpool_unfix(&inherited.read[i].fix);
        }
        cp_bufpool_cancel(&inherited.fixed);
        cp_bufpool_unfix(&inherited.writer);
        cp_bufpool_unfix(&inherited.reader);
        world_close(&w);
    }
}

/* ---- files --------------------------------------------------------------------------------------
 */

static void detach_refused_while_pinned_or_dirty(void **state)
{
    (void)state;
    struct world w;
    world_simple(&w, 4 * MIB, PAGES);
    struct cp_fix fix = must_fix(&w, 0, 12, CP_SHARED);
    assert_int_equal(cp_bufpool_detach(w.file[0]), CP_EPINNED);
    assert_int_equal(cp_error_info()->page, 12);
    cp_bufpool_unfix(&fix);
    change_page(&w, 0, 13, 1, 0);
    assert_int_equal(cp_bufpool_detach(w.file[0]), -EBUSY);
    assert_int_equal(cp_error_info()->page, 13);
    check_version(&w, 0, 13, 1); /* still attached */
    assert_int_equal(cp_bufpool_discard(w.file[0], 13, 1), 0);
    assert_int_equal(cp_bufpool_detach(w.file[0]), 0);
    assert_int_equal(stats_of(&w).pages_resident, 0);
    world_attach_with(&w, 0, &(struct cp_bufpool_file_options){0});
    check_version(&w, 0, 13, 0);
    world_close(&w);
}

static void discard_stops_at_a_pinned_page(void **state)
{
    (void)state;
    struct world w;
    world_simple(&w, 4 * MIB, PAGES);
    for (uint64_t page = 0; page < 10; page++)
        change_page(&w, 0, page, 1, 0);
    struct cp_fix fix = must_fix(&w, 0, 6, CP_SHARED);
    assert_int_equal(cp_bufpool_discard(w.file[0], 0, 10), CP_EPINNED);
    assert_int_equal(cp_error_info()->page, 6);
    assert_int_equal(stats_of(&w).pages_resident, 4);
    cp_bufpool_unfix(&fix);
    check_version(&w, 0, 0, 0);
    check_version(&w, 0, 6, 1);
    world_close(&w);
}

/* A file goes while another one's misses evict its pages. */
static void *miss_for_ever(void *argument)
{
    struct world *w = argument;
    for (uint32_t i = 0; i < 4000; i++)
        check_version(w, 0, i * 7 % PAGES, 0);
    return NULL;
}

static void detach_races_evictions_of_another_file(void **state)
{
    (void)state;
    struct world w;
    struct watchdog dog;
    pthread_t thread;
    world_simple(&w, CP_BUFPOOL_BUDGET_MIN, PAGES);
    world_create_file(&w, 1, 4096, 64);
    watchdog_start(&dog, &w, WATCHDOG_LIMIT);
    assert_int_equal(pthread_create(&thread, NULL, miss_for_ever, &w), 0);
    for (uint32_t round = 1; round < 40; round++) {
        world_attach_with(&w, 1, &(struct cp_bufpool_file_options){0});
        for (uint64_t page = 0; page < 40; page++)
            change_page(&w, 1, page, round, 0);
        assert_int_equal(cp_bufpool_flush(w.file[1]), 0);
        assert_int_equal(cp_bufpool_detach(w.file[1]), 0);
        w.file[1] = NULL;
    }
    pthread_join(thread, NULL);
    watchdog_stop(&dog);
    world_close(&w);
}

/* ---- looking ------------------------------------------------------------------------------------
 */

static void pins_listed_with_owner_and_age_when_tracked(void **state)
{
    (void)state;
    struct world w;
    struct cp_pin pins[4];
    const struct cp_bufpool_options options = {.budget_bytes = 4 * MIB, .track_pins = true};
    world_open_with(&w, &options, RINGS_DEFERRED);
    world_add_file(&w, 0, 4096, PAGES);
    struct cp_fix a = must_fix(&w, 0, 5, CP_SHARED);
    struct cp_fix b = must_fix(&w, 0, 6, CP_EXCLUSIVE);
    assert_int_equal(cp_bufpool_list_pins(w.pool, pins, 4), 2);
    assert_int_equal(pins[0].page, 5); /* oldest first */
    assert_int_equal(pins[0].mode, CP_SHARED);
    assert_int_equal(pins[1].page, 6);
    assert_int_equal(pins[1].mode, CP_EXCLUSIVE);
    assert_int_equal(pins[0].owner_tid, gettid());
    assert_true(pins[0].age_ns >= pins[1].age_ns);
    assert_string_equal(pins[0].path, w.path[0]);
    cp_bufpool_unfix(&a);
    cp_bufpool_unfix(&b);
    assert_int_equal(cp_bufpool_list_pins(w.pool, pins, 4), 0);
    world_close(&w);
}

static void pins_listed_by_page_when_not_tracked(void **state)
{
    (void)state;
    struct world w;
    struct cp_pin pins[1];
    world_simple(&w, 4 * MIB, PAGES);
    struct cp_fix a = must_fix(&w, 0, 5, CP_SHARED), b = must_fix(&w, 0, 5, CP_SHARED);
    assert_int_equal(cp_bufpool_list_pins(w.pool, pins, 1), 1);
    assert_int_equal(pins[0].page, 5);
    assert_int_equal(pins[0].count, 2);
    cp_bufpool_unfix(&a);
    cp_bufpool_unfix(&b);
    world_close(&w);
}

static void stats_exact_for_a_known_sequence(void **state)
{
    (void)state;
    struct world w;
    uint64_t word;
    world_simple(&w, 4 * MIB, PAGES);
    check_version(&w, 0, 1, 0);                                       /* miss */
    check_version(&w, 0, 1, 0);                                       /* hit */
    change_page(&w, 0, 1, 1, 0);                                      /* hit */
    change_page(&w, 0, 2, 1, 0);                                      /* miss */
    assert_int_equal(cp_bufpool_read(w.file[0], 2, 16, &word, 8), 0); /* hit */
    assert_int_equal(word, 1);
    assert_int_equal(cp_bufpool_read(w.file[0], 2, 4092, &word, 8), -EINVAL);
    assert_int_equal(cp_bufpool_flush(w.file[0]), 0);
    struct cp_bufpool_stats stats = stats_of(&w);
    assert_int_equal(stats.hits, 3);
    assert_int_equal(stats.misses, 2);
    assert_int_equal(stats.reads, 2);
    assert_int_equal(stats.pages_read, 2);
    assert_int_equal(stats.writes, 1);
    assert_int_equal(stats.pages_written, 2);
    assert_int_equal(stats.evictions, 0);
    assert_int_equal(stats.pages_resident, 2);
    assert_int_equal(stats.pages_dirty, 0);
    assert_int_equal(stats.frame_used_bytes, 2 * 4096);
    world_close(&w);
}

/* ---- surroundings -------------------------------------------------------------------------------
 */

static void *use_everything(void *argument)
{
    struct world *w = argument;
    uint64_t pages[PAGES];
    struct cp_fix fixes[40];
    for (uint32_t i = 0; i < 40; i++)
        pages[i] = 3 * i;
    if (cp_bufpool_fix_many(w->file[0], pages, 40, CP_SHARED, fixes) == 0)
        cp_bufpool_unfix_many(fixes, 40);
    for (uint64_t page = 0; page < PAGES; page++)
        change_page(w, 0, page, 1, 0);
    for (uint64_t page = 0; page < 8; page++)
        change_page(w, 1, page, 1, 0);
    assert_int_equal(cp_bufpool_flush(w->file[0]), 0);
    assert_int_equal(cp_bufpool_resize(w->pool, MIB), 0);
    return NULL;
}

static void fix_small_thread_stack_suffices(void **state)
{
    (void)state;
    struct world w;
    pthread_t thread;
    pthread_attr_t attributes;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    print_message("sanitizers need larger stacks\n");
    skip();
#endif
    world_simple(&w, CP_BUFPOOL_BUDGET_MIN, PAGES);
    world_add_file(&w, 1, 65536, 8);
    pthread_attr_init(&attributes);
    assert_int_equal(pthread_attr_setstacksize(&attributes, 64 * KIB), 0);
    assert_int_equal(pthread_create(&thread, &attributes, use_everything, &w), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
    world_close(&w);
}

static void fix_memory_is_poisoned_after_unfix(void **state)
{
    (void)state;
#ifndef CP_ASAN
    print_message("needs AddressSanitizer\n");
    skip();
#else
    struct world w;
    world_simple(&w, 4 * MIB, PAGES);
    struct cp_fix a = must_fix(&w, 0, 5, CP_SHARED), b = must_fix(&w, 0, 5, CP_SHARED);
    const char *data = a.data;
    cp_bufpool_unfix(&a);
    assert_int_equal(__asan_address_is_poisoned(data), 0);
    cp_bufpool_unfix(&b);
    assert_int_equal(__asan_address_is_poisoned(data), 1);
    assert_int_equal(__asan_address_is_poisoned(data + 4095), 1);
    a = must_fix(&w, 0, 5, CP_EXCLUSIVE);
    assert_int_equal(__asan_address_is_poisoned(a.data), 0);
    cp_bufpool_unfix(&a);
    assert_int_equal(__asan_address_is_poisoned(data), 1);
    world_close(&w);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fix_shared_twice_exclusive_refused_until_both_gone),
        cmocka_unit_test(fix_exclusive_waits_for_the_reader),
        cmocka_unit_test(fix_full_house_of_readers_next_one_waits),
        cmocka_unit_test(fix_in_a_mode_that_is_none_refused),
        cmocka_unit_test(fix_new_is_all_zeros_whatever_was_there),
        cmocka_unit_test(fix_changed_page_survives_flush_and_reload),
        cmocka_unit_test(fix_several_page_sizes_share_one_pool),
        cmocka_unit_test(fix_more_pins_than_frames_refused_clearly_nothing_lost),
        cmocka_unit_test(fix_unreadable_page_error_names_it_and_passes),
        cmocka_unit_test(fix_image_that_verify_refuses_is_not_served),
        cmocka_unit_test(fix_forked_child_is_told),
        cmocka_unit_test(fix_forked_child_may_let_go_of_what_it_inherits),
        cmocka_unit_test(detach_refused_while_pinned_or_dirty),
        cmocka_unit_test(discard_stops_at_a_pinned_page),
        cmocka_unit_test(detach_races_evictions_of_another_file),
        cmocka_unit_test(pins_listed_with_owner_and_age_when_tracked),
        cmocka_unit_test(pins_listed_by_page_when_not_tracked),
        cmocka_unit_test(stats_exact_for_a_known_sequence),
        cmocka_unit_test(fix_small_thread_stack_suffices),
        cmocka_unit_test(fix_memory_is_poisoned_after_unfix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
