/* SPDX-License-Identifier: MIT */
/* The pager's front: numbers, modes, many pages at a time, scans, the budget. */
#include "helpers.h"

static void tracked_pins_have_owner_and_age(void **state)
{
    (void)state;
    struct cp_pager_options options = options_of(0, 0);
    struct cp_pager *pager = NULL;
    struct cp_pin pins[4];
    struct cp_fix first, second;
    options.create = options.track_pins = true;
    assert_ok(cp_pager_open(new_store(), &options, &pager));
    assert_ok(cp_pager_allocate(pager, &first));
    assert_ok(cp_pager_allocate(pager, &second));
    assert_int_equal(cp_pager_list_pins(pager, pins, 4), 2);
    assert_int_equal(pins[0].page, first.page);
    assert_int_equal(pins[1].page, second.page);
    assert_int_equal(pins[0].owner_tid, getpid());
    assert_true(pins[0].age_ns >= pins[1].age_ns);
    assert_string_equal(pins[0].path, data_path());
    cp_pager_unfix(pager, &first);
    assert_int_equal(cp_pager_list_pins(pager, pins, 1), 1);
    assert_int_equal(pins[0].page, second.page);
    cp_pager_unfix(pager, &second);
    assert_int_equal(cp_pager_list_pins(pager, pins, 4), 0);
    assert_ok(cp_pager_close(pager));
}

static void pages_outside_give_enopage_with_path_and_hint(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    uint64_t page = allocate_filled(pager, 1), bad[] = {0, 1, 31, 32, 0, UINT64_MAX};
    struct cp_fix fix;
    char byte;
    bad[4] = page + 1;
    for (unsigned i = 0; i < 6; i++) {
        assert_code(cp_pager_fix(pager, bad[i], CP_SHARED, &fix), CP_ENOPAGE);
        assert_int_equal(cp_error_info()->page, bad[i]);
        assert_string_equal(cp_error_info()->path, data_path());
        assert_true(cp_error_info()->hint[0] != '\0');
        assert_code(cp_pager_fix_new(pager, bad[i], &fix), CP_ENOPAGE);
        assert_code(cp_pager_read(pager, bad[i], 0, &byte, 1), CP_ENOPAGE);
        assert_code(cp_pager_free(pager, bad[i], 1), CP_ENOPAGE);
        assert_int_equal(cp_pager_is_allocated(pager, bad[i]), 0);
    }
    assert_code(cp_pager_read(pager, page, 4064, &byte, 1), -EINVAL);
    assert_code(cp_pager_read(pager, page, UINT32_MAX, &byte, 2), -EINVAL);
    assert_ok(cp_pager_read(pager, page, 4063, &byte, 1));
    assert_ok(cp_pager_close(pager));
}

static void many_at_a_time_read_the_same_as_one(void **state)
{
    (void)state;
    enum { COUNT = 64 };
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    uint64_t pages[COUNT], twice[2], version;
    struct cp_fix fixes[COUNT];
    struct cp_ticket tickets[COUNT], *waiting[COUNT];
    for (unsigned i = 0; i < COUNT; i++)
        pages[i] = allocate_filled(pager, i);
    assert_ok(cp_pager_close(pager));
    pager = open_store(store_path());
    assert_true(cp_pager_prefetch(pager, pages, COUNT / 2) >= 0);
    assert_ok(cp_pager_fix_many(pager, pages, COUNT, CP_SHARED, fixes));
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(fixes[i].page, pages[i]);
        assert_true(page_is(fixes[i].data, 4064, pages[i], i));
    }
    cp_pager_unfix_many(pager, fixes, COUNT);
    assert_ok(cp_pager_begin(pager, pages, COUNT, CP_EXCLUSIVE, tickets));
    for (unsigned i = 0; i < COUNT; i++) {
        (void)cp_pager_poll(pager, &tickets[i]);
        if (i % 3 == 0) {
            cp_pager_cancel(pager, &tickets[i]);
            continue;
        }
        assert_ok(cp_pager_wait(pager, &tickets[i]));
        assert_true(page_is(tickets[i].fix.data, 4064, pages[i], i));
        cp_pager_unfix(pager, &tickets[i].fix);
    }
    assert_ok(cp_pager_begin(pager, pages, COUNT, CP_SHARED, tickets));
    for (unsigned i = 0; i < COUNT; i++)
        waiting[i] = &tickets[i];
    for (unsigned left = COUNT; left > 0;) {
        unsigned ready = cp_pager_wait_some(pager, waiting, left);
        assert_true(ready > 0 && ready <= left);
        for (unsigned i = 0; i < ready; i++) {
            assert_ok(cp_pager_wait(pager, waiting[i]));
            cp_pager_unfix(pager, &waiting[i]->fix);
        }
        left -= ready;
        memmove(waiting, waiting + ready, left * sizeof *waiting);
    }
    twice[0] = twice[1] = pages[3];
    assert_code(cp_pager_fix_many(pager, twice, 2, CP_EXCLUSIVE, fixes), -EINVAL);
    assert_ok(cp_pager_fix_many(pager, twice, 2, CP_SHARED, fixes));
    cp_pager_unfix_many(pager, fixes, 2);
    twice[1] = UINT64_MAX;
    assert_code(cp_pager_fix_many(pager, twice, 2, CP_SHARED, fixes), CP_ENOPAGE);
    assert_ok(cp_pager_read(pager, pages[5], 8, &version, 8));
    assert_true((cp_pager_page_map(pager) != NULL) == (test_engine == CP_ENGINE_POOL));
    assert_ok(cp_pager_close(pager));
}

static void write_page(struct cp_pager *pager, uint64_t page, uint64_t version)
{
    struct cp_fix fix;
    assert_ok(cp_pager_fix_new(pager, page, &fix));
    fill_page(fix.data, cp_pager_payload_size(pager), page, version);
    cp_pager_unfix(pager, &fix);
}

/* In order, changed pages as they are in memory, and none of the pager's own in between. */
/* A mode that was never set is told, and leaves the page as it was. */
static void fix_in_a_mode_that_is_none_gives_einval(void **state)
{
    (void)state;
    const enum cp_latch_mode modes[] = {(enum cp_latch_mode)0, (enum cp_latch_mode)3};
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    const uint64_t pages[2] = {allocate_filled(pager, 1), allocate_filled(pager, 1)};
    for (unsigned i = 0; i < 2; i++) {
        struct cp_ticket tickets[2];
        struct cp_fix fixes[2];
        struct cp_mtr *mtr;
        void *data = &mtr;
        assert_code(cp_pager_fix(pager, pages[0], modes[i], &fixes[0]), -EINVAL);
        assert_code(cp_pager_fix_many(pager, pages, 2, modes[i], fixes), -EINVAL);
        assert_code(cp_pager_begin(pager, pages, 2, modes[i], tickets), -EINVAL);
        assert_ok(cp_mtr_begin(pager, &mtr));
        assert_code(cp_mtr_fix(mtr, pages[0], modes[i], &data), -EINVAL);
        assert_ptr_equal(data, &mtr);
        assert_ok(cp_mtr_fix(mtr, pages[0], CP_SHARED, &data));
        assert_code(cp_mtr_fix(mtr, pages[0], modes[i], &data), -EINVAL);
        cp_mtr_abort(mtr);
        assert_ok(cp_pager_fix_many(pager, pages, 2, CP_EXCLUSIVE, fixes));
        cp_pager_unfix_many(pager, fixes, 2);
    }
    assert_ok(cp_pager_close(pager));
}

/* As often as it may be held, but not one time more. */
static void one_page_many_times_over_is_given_up(void **state)
{
    (void)state;
    static uint64_t pages[CP_BUFPOOL_FIX_MANY_MAX];
    static struct cp_fix fixes[CP_BUFPOOL_FIX_MANY_MAX];
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    const uint64_t page = allocate_filled(pager, 1);
    for (unsigned i = 0; i < CP_BUFPOOL_FIX_MANY_MAX; i++)
        pages[i] = page;
    assert_ok(cp_pager_fix_many(pager, pages, CP_LATCH_SHARED_MAX, CP_SHARED, fixes));
    cp_pager_unfix_many(pager, fixes, CP_LATCH_SHARED_MAX);
    assert_code(cp_pager_fix_many(pager, pages, CP_BUFPOOL_FIX_MANY_MAX, CP_SHARED, fixes),
                CP_ETIMEDOUT);
    assert_ok(cp_pager_fix(pager, page, CP_EXCLUSIVE, &fixes[0])); /* nothing is held */
    cp_pager_unfix(pager, &fixes[0]);
    assert_ok(cp_pager_close(pager));
}

static void scan_gives_the_callers_pages_in_order(void **state)
{
    (void)state;
    enum { BEFORE = 40, BEHIND = 200 };
    struct cp_pager *pager = create_store(new_store(), 0, UINT64_C(2) << 20);
    struct cp_scan scan;
    struct cp_fix fix;
    uint64_t first, behind;
    assert_ok(cp_pager_allocate_run(pager, 32511, &first)); /* up to the next page of the map */
    assert_ok(cp_pager_allocate_run(pager, BEHIND + 10, &behind));
    uint64_t own = behind - 1;
    assert_int_equal(own, first + 32511);
    for (uint64_t page = own - BEFORE; page < own + BEHIND; page++) {
        if (page != own)
            write_page(pager, page, 1);
    }
    assert_ok(cp_pager_close(pager));
    pager = open_store(store_path());
    write_page(pager, own - 2, 2);
    assert_ok(cp_pager_scan_begin(pager, own - BEFORE, BEFORE + BEHIND, &scan));
    for (uint64_t page = own - BEFORE; page < own + BEHIND; page++) {
        if (page == own)
            continue;
        assert_int_equal(cp_pager_scan_next(pager, &scan, &fix), 1);
        assert_int_equal(fix.page, page);
        assert_true(page_is(fix.data, 4064, page, page == own - 2 ? 2 : 1));
        cp_pager_unfix(pager, &fix);
    }
    assert_int_equal(cp_pager_scan_next(pager, &scan, &fix), 0);

    uint64_t end = cp_pager_page_count(pager); /* no further than the store reaches */
    assert_ok(cp_pager_scan_begin(pager, own + BEHIND - 1, UINT64_MAX, &scan));
    assert_int_equal(scan.end, end);
    assert_int_equal(cp_pager_scan_next(pager, &scan, &fix), 1);
    cp_pager_unfix(pager, &fix);
    assert_code(cp_pager_scan_next(pager, &scan, &fix), CP_EUNWRITTEN);
    assert_int_equal(cp_error_info()->page, own + BEHIND);
    assert_ok(cp_pager_scan_begin(pager, UINT64_MAX, UINT64_MAX, &scan));
    assert_int_equal(cp_pager_scan_next(pager, &scan, &fix), 0);
    assert_ok(cp_pager_close(pager));
}

static void resize_keeps_the_pages_and_the_limit(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, UINT64_C(2) << 20);
    struct cp_pager_stats stats;
    uint64_t first = cp_pager_first_page(pager);
    for (unsigned i = 0; i < 400; i++)
        allocate_filled(pager, i);
    assert_ok(cp_pager_resize(pager, UINT64_C(1) << 20));
    cp_pager_stats(pager, &stats);
    assert_true(stats.pool.used_bytes <= UINT64_C(1) << 20);
    for (unsigned i = 0; i < 400; i++)
        assert_true(check_page(pager, first + i, i));
    assert_ok(cp_pager_resize(pager, UINT64_C(6) << 20));
    for (unsigned i = 0; i < 400; i++)
        update_page(pager, first + i, i + 1);
    assert_code(cp_pager_resize(pager, UINT64_C(1) << 40), CP_EBUDGET);
    assert_code(cp_pager_resize(pager, 4096), CP_EBUDGET);
    assert_ok(cp_pager_close(pager));
    pager = open_store(store_path());
    for (unsigned i = 0; i < 400; i++)
        assert_true(check_page(pager, first + i, i + 1));
    assert_ok(cp_pager_close(pager));
}

static void exclusive_fix_without_mark_changes_nothing(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    uint64_t page = allocate_filled(pager, 1);
    struct cp_fix fix;
    struct cp_pager_stats stats;
    assert_ok(cp_pager_sync(pager));
    assert_ok(cp_pager_fix(pager, page, CP_EXCLUSIVE, &fix));
    cp_pager_unfix(pager, &fix);
    assert_null(fix.data);
    cp_pager_stats(pager, &stats);
    assert_int_equal(stats.pool.pages_dirty, 0);
    assert_int_equal(stats.private_pages, 0);
    assert_true(check_page(pager, page, 1));
    assert_ok(cp_pager_close(pager));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tracked_pins_have_owner_and_age),
        cmocka_unit_test(pages_outside_give_enopage_with_path_and_hint),
        cmocka_unit_test(many_at_a_time_read_the_same_as_one),
        cmocka_unit_test(fix_in_a_mode_that_is_none_gives_einval),
        cmocka_unit_test(one_page_many_times_over_is_given_up),
        cmocka_unit_test(scan_gives_the_callers_pages_in_order),
        cmocka_unit_test(resize_keeps_the_pages_and_the_limit),
        cmocka_unit_test(exclusive_fix_without_mark_changes_nothing),
    };
    int failed = RUN_ENGINE(CP_ENGINE_POOL, tests);
    return failed + RUN_ENGINE(CP_ENGINE_MMAP, tests);
}
