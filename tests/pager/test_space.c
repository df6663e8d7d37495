/* SPDX-License-Identifier: MIT */
/* Allocation: lowest first, runs, reuse, growth without a map size, giving back the end. */
#include "helpers.h"

#include <signal.h>
#include <sys/resource.h>

static void allocate_prefers_the_lowest_free_page(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    uint64_t first = cp_pager_first_page(pager);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(allocate_filled(pager, i), first + i);
    assert_ok(cp_pager_free(pager, first + 70, 1));
    assert_ok(cp_pager_free(pager, first + 10, 2));
    assert_int_equal(cp_pager_is_allocated(pager, first + 10), 0);
    assert_int_equal(cp_pager_is_allocated(pager, first + 12), 1);
    assert_int_equal(allocate_filled(pager, 1), first + 10);
    assert_int_equal(allocate_filled(pager, 1), first + 11);
    assert_int_equal(allocate_filled(pager, 1), first + 70);
    assert_int_equal(allocate_filled(pager, 1), first + 100);
    assert_ok(cp_pager_close(pager));
}

static void allocate_reused_page_is_all_zeros(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    struct cp_fix fix;
    uint64_t page = allocate_filled(pager, 9);
    assert_ok(cp_pager_sync(pager));
    assert_ok(cp_pager_free(pager, page, 1));
    assert_ok(cp_pager_allocate(pager, &fix));
    assert_int_equal(fix.page, page);
    for (unsigned i = 0; i < cp_pager_payload_size(pager); i++)
        assert_int_equal(((unsigned char *)fix.data)[i], 0);
    cp_pager_unfix(pager, &fix);
    assert_ok(cp_pager_close(pager));
}

static void free_refuses_what_is_not_allocated_or_fixed(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    uint64_t first = cp_pager_first_page(pager);
    struct cp_fix fix;
    for (unsigned i = 0; i < 20; i++)
        allocate_filled(pager, i);
    assert_ok(cp_pager_free(pager, first + 5, 1));
    assert_code(cp_pager_free(pager, first + 5, 1), CP_ENOPAGE);
    assert_code(cp_pager_free(pager, first, 10), CP_ENOPAGE);
    assert_code(cp_pager_free(pager, first + 15, 10), CP_ENOPAGE);
    assert_code(cp_pager_free(pager, first + 15, UINT64_MAX), CP_ENOPAGE);
    assert_code(cp_pager_free(pager, first, 0), -EINVAL);
    assert_ok(cp_pager_fix(pager, first + 12, CP_SHARED, &fix));
    assert_code(cp_pager_free(pager, first + 6, 10), CP_EPINNED);
    assert_int_equal(cp_error_info()->page, first + 12);
    cp_pager_unfix(pager, &fix);
    for (unsigned i = 6; i < 20; i++) {
        assert_int_equal(cp_pager_is_allocated(pager, first + i), 1);
        assert_true(check_page(pager, first + i, i));
    }
    assert_ok(cp_pager_free(pager, first + 6, 14));
    assert_ok(cp_pager_close(pager));
}

/* Whoever kept a number too long is not waited for: it might be the caller. */
static void allocate_passes_over_free_pages_that_are_fixed(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    uint64_t first = cp_pager_first_page(pager), run;
    struct cp_fix fix;
    for (unsigned i = 0; i < 20; i++)
        allocate_filled(pager, i);
    assert_ok(cp_pager_sync(pager));
    assert_ok(cp_pager_free(pager, first + 5, 1));
    assert_ok(cp_pager_free(pager, first + 10, 6));
    for (int mode = CP_SHARED; mode <= CP_EXCLUSIVE; mode++) {
        assert_ok(cp_pager_fix(pager, first + 10, (enum cp_latch_mode)mode, &fix));
        assert_ok(cp_pager_allocate_run(pager, 5, &run));
        assert_int_equal(run, first + 11);
        assert_int_equal(allocate_filled(pager, 20), first + 5);
        assert_int_equal(allocate_filled(pager, 21), first + 20);
        cp_pager_unfix(pager, &fix);
        assert_int_equal(allocate_filled(pager, 22), first + 10);
        assert_ok(cp_pager_free(pager, first + 5, 1));
        assert_ok(cp_pager_free(pager, first + 10, 6));
        assert_ok(cp_pager_free(pager, first + 20, 1));
    }
    /* The last of a run, the run itself too short without it. */
    assert_ok(cp_pager_fix(pager, first + 15, CP_SHARED, &fix));
    assert_ok(cp_pager_allocate_run(pager, 6, &run));
    assert_int_equal(run, first + 20);
    cp_pager_unfix(pager, &fix);
    assert_ok(cp_pager_close(pager));
}

static void run_takes_the_first_gap_that_is_wide_enough(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    uint64_t first = cp_pager_first_page(pager), run;
    struct cp_fix fix;
    assert_ok(cp_pager_allocate_run(pager, 1000, &run));
    assert_int_equal(run, first);
    assert_ok(cp_pager_free(pager, first + 3, 4));
    assert_ok(cp_pager_free(pager, first + 60, 70));
    assert_ok(cp_pager_allocate_run(pager, 5, &run));
    assert_int_equal(run, first + 60);
    assert_ok(cp_pager_allocate_run(pager, 4, &run));
    assert_int_equal(run, first + 3);
    assert_ok(cp_pager_allocate_run(pager, 66, &run));
    assert_int_equal(run, first + 1000);
    assert_ok(cp_pager_allocate_run(pager, 65, &run));
    assert_int_equal(run, first + 65);
    assert_code(cp_pager_allocate_run(pager, 0, &run), -EINVAL);
    assert_code(cp_pager_allocate_run(pager, 32512, &run), -EINVAL);
    assert_non_null(strstr(cp_error_info()->hint, "32511"));
    assert_ok(cp_pager_fix_new(pager, first, &fix));
    fill_page(fix.data, 4064, first, 3);
    cp_pager_unfix(pager, &fix);
    assert_true(check_page(pager, first, 3));
    assert_code(cp_pager_fix(pager, first + 1, CP_SHARED, &fix), CP_EUNWRITTEN);
    assert_ok(cp_pager_close(pager));
}

/* Several spans: the map pages lie where they should, nobody gets one, all is there after reopen.
 */
static void spans_follow_each_other_without_giving_map_pages_out(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    const uint64_t map = cp_pager_first_page(pager) - 1, span = 4064 * 8;
    uint64_t runs[5];
    struct cp_pager_stats stats;
    struct cp_fix fix;
    for (unsigned i = 0; i < 5; i++) {
        assert_ok(cp_pager_allocate_run(pager, 20000, &runs[i]));
        assert_int_equal(runs[i], map + i * span + 1);
    }
    for (unsigned i = 1; i < 5; i++) {
        assert_code(cp_pager_fix(pager, map + i * span, CP_SHARED, &fix), CP_ENOPAGE);
        assert_code(cp_pager_free(pager, map + i * span, 1), CP_ENOPAGE);
        assert_code(cp_pager_free(pager, map + i * span - 1, 3), CP_ENOPAGE);
    }
    assert_int_equal(allocate_filled(pager, 1), map + 20001);
    cp_pager_stats(pager, &stats);
    assert_int_equal(stats.allocated_pages, 100001);
    assert_int_equal(stats.page_count, runs[4] + 20000);
    assert_int_equal(stats.free_pages + stats.allocated_pages + 5, stats.page_count - map);
    assert_ok(cp_pager_close(pager));
    assert_int_equal(file_size(data_path()), stats.page_count * 4096);
    pager = open_store(store_path());
    cp_pager_stats(pager, &stats);
    assert_int_equal(stats.allocated_pages, 100001);
    assert_int_equal(cp_pager_is_allocated(pager, runs[3]), 1);
    assert_int_equal(cp_pager_is_allocated(pager, runs[3] + 20000), 0);
    assert_int_equal(cp_pager_is_allocated(pager, map + 3 * span), 0);
    /* Freed down to the first span, the later map pages go as well. */
    for (unsigned i = 1; i < 5; i++)
        assert_ok(cp_pager_free(pager, runs[i], 20000));
    assert_ok(cp_pager_sync(pager));
    assert_int_equal(cp_pager_page_count(pager), map + 20002);
    assert_int_equal(file_size(data_path()), (map + 20002) * 4096);
    assert_ok(cp_pager_allocate_run(pager, 20000, &runs[1]));
    assert_int_equal(runs[1], map + span + 1);
    assert_ok(cp_pager_close(pager));
    pager = open_store(store_path());
    assert_int_equal(cp_pager_is_allocated(pager, runs[1] + 19999), 1);
    assert_ok(cp_pager_close(pager));
}

static void sync_gives_trailing_free_pages_back(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    uint64_t first = cp_pager_first_page(pager);
    for (unsigned i = 0; i < 1000; i++)
        allocate_filled(pager, i);
    assert_ok(cp_pager_sync(pager));
    assert_true(file_size(data_path()) >= (first + 1000) * 4096);
    assert_ok(cp_pager_free(pager, first + 300, 700));
    assert_true(file_size(data_path()) >= (first + 1000) * 4096); /* not before a sync */
    assert_ok(cp_pager_sync(pager));
    assert_int_equal(cp_pager_page_count(pager), first + 300);
    assert_int_equal(file_size(data_path()), (first + 300) * 4096);
    for (unsigned i = 0; i < 300; i++)
        assert_true(check_page(pager, first + i, i));
    struct cp_fix fix;
    assert_code(cp_pager_fix(pager, first + 300, CP_SHARED, &fix), CP_ENOPAGE);
    for (unsigned i = 0; i < 900; i++)
        assert_int_equal(allocate_filled(pager, i + 1), first + 300 + i);
    for (unsigned i = 0; i < 900; i++)
        assert_true(check_page(pager, first + 300 + i, i + 1));
    assert_ok(cp_pager_close(pager));
    pager = open_store(store_path());
    for (unsigned i = 0; i < 900; i++)
        assert_true(check_page(pager, first + 300 + i, i + 1));
    assert_int_equal(cp_pager_check(pager, NULL, NULL, NULL), 0);
    assert_ok(cp_pager_close(pager));
}

static void freed_everything_leaves_the_smallest_file(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 16384, 0);
    uint64_t first = cp_pager_first_page(pager);
    uint64_t before = file_size(data_path());
    for (unsigned i = 0; i < 100; i++)
        allocate_filled(pager, i);
    assert_ok(cp_pager_free(pager, first, 100));
    assert_ok(cp_pager_close(pager));
    assert_int_equal(file_size(data_path()), before);
    pager = open_store(store_path());
    assert_int_equal(allocate_filled(pager, 0), first);
    assert_ok(cp_pager_close(pager));
}

static void freed_page_in_a_full_span_is_found_again(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    const uint64_t map = cp_pager_first_page(pager) - 1, span = 4064 * 8;
    uint64_t run;
    assert_ok(cp_pager_allocate_run(pager, span - 1, &run));
    assert_int_equal(allocate_filled(pager, 1), map + span + 1);
    assert_int_equal(allocate_filled(pager, 1), map + span + 2);
    assert_ok(cp_pager_free(pager, run + 777, 1));
    assert_int_equal(allocate_filled(pager, 1), run + 777);
    assert_int_equal(allocate_filled(pager, 1), map + span + 3);
    assert_ok(cp_pager_close(pager));
}

/* Somebody who comes too late finds zeros where the file was, and is not killed. */
static void late_look_behind_the_cut_sees_zeros(void **state)
{
    (void)state;
    if (test_engine != CP_ENGINE_MMAP) {
        print_message("skipped: only a mapping has an address behind the file\n");
        skip();
    }
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    struct cp_fix fix;
    uint64_t first = cp_pager_first_page(pager);
    for (unsigned i = 0; i < 1000; i++)
        allocate_filled(pager, i);
    assert_ok(cp_pager_sync(pager));
    assert_ok(cp_pager_fix(pager, first + 900, CP_SHARED, &fix));
    const volatile uint64_t *late = fix.data;
    assert_true(*late != 0);
    cp_pager_unfix(pager, &fix);
    assert_ok(cp_pager_free(pager, first + 10, 990));
    assert_ok(cp_pager_sync(pager));
    assert_int_equal(file_size(data_path()), (first + 10) * 4096);
    assert_int_equal(*late, 0);
    for (unsigned i = 10; i < 1000; i++)
        allocate_filled(pager, i + 1);
    assert_ok(cp_pager_sync(pager));
    for (unsigned i = 10; i < 1000; i++)
        assert_true(check_page(pager, first + i, i + 1));
    assert_ok(cp_pager_close(pager));
}

/* After a crash the log knows of pages that the superblock does not. */
static void allocation_in_the_log_is_there_after_a_crash(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    uint64_t first = cp_pager_first_page(pager);
    for (unsigned i = 0; i < 10; i++)
        allocate_filled(pager, i);
    assert_ok(cp_pager_sync(pager));
    for (unsigned i = 10; i < 50; i++)
        allocate_filled(pager, i);
    assert_ok(cp_pager_free(pager, first + 3, 1));
    assert_ok(cp_pager_wait_durable(pager, UINT64_MAX));
    cp_pager_abandon(pager);
    pager = open_store(store_path());
    assert_int_equal(cp_pager_page_count(pager), first + 50);
    assert_int_equal(cp_pager_is_allocated(pager, first + 3), 0);
    assert_int_equal(allocate_filled(pager, 3), first + 3);
    assert_int_equal(allocate_filled(pager, 50), first + 50);
    assert_ok(cp_pager_close(pager));
    pager = open_store(store_path());
    for (unsigned i = 0; i < 10; i++) /* synced; of the others only the allocation was logged */
        assert_true(check_page(pager, first + i, i));
    for (unsigned i = 10; i < 50; i++)
        assert_int_equal(cp_pager_is_allocated(pager, first + i), 1);
    assert_true(check_page(pager, first + 50, 50));
    assert_ok(cp_pager_close(pager));
}

/* As where the file system ends its files: the last step of growth is as large as there is room. */
static void file_grows_up_to_the_largest_size(void **state)
{
    (void)state;
    const uint64_t limit_bytes = UINT64_C(16) << 20;
    struct rlimit before, limited;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    uint64_t count = cp_pager_first_page(pager), first;
    int code;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limited = before;
    limited.rlim_cur = limit_bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limited), 0);
    while ((code = cp_pager_allocate_run(pager, 16, &first)) == 0) /* ends: at the limit */
        count += 16;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_code(code, -EFBIG);
    assert_true(count * 4096 <= limit_bytes && count * 4096 > limit_bytes - 17 * 4096);
    assert_ok(cp_pager_allocate_run(pager, 16, &first));
    assert_ok(
        cp_pager_free(pager, cp_pager_first_page(pager), count + 16 - cp_pager_first_page(pager)));
    assert_ok(cp_pager_close(pager));
}

/* A limit that ends within a block of the log, which is there already: no half block is written. */
static void log_at_the_limit_of_sizes_keeps_what_was_committed(void **state)
{
    (void)state;
    struct rlimit before, limited;
    struct cp_pager_options options = options_of(0, 0);
    options.create = true;
    options.caching = CP_IO_BUFFERED;
    options.log_segment_bytes = 16384;
    options.background = CP_BACKGROUND_NONE;
    struct cp_pager *pager;
    assert_ok(cp_pager_open(new_store(), &options, &pager));
    uint64_t page = allocate_filled(pager, 0), version = 1;
    commit_page(pager, page, version);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limited = before;
    limited.rlim_cur = 12000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limited), 0);
    int code = 0;
    while (code == 0) { /* ends: at the limit */
        struct cp_mtr *mtr;
        void *data;
        assert_ok(cp_mtr_begin(pager, &mtr));
        assert_ok(cp_mtr_fix(mtr, page, CP_EXCLUSIVE, &data));
        memset(data, (int)(version + 1), 700);
        code = cp_mtr_commit(mtr, CP_COMMIT_DURABLE, NULL);
        version += code == 0;
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_code(code, -EFBIG);
    assert_true(version > 2);
    cp_pager_abandon(pager);
    pager = open_store(store_path());
    struct cp_fix fix;
    assert_ok(cp_pager_fix(pager, page, CP_SHARED, &fix));
    unsigned char found = *(const unsigned char *)fix.data;
    assert_true(found == version || found == version + 1); /* the last was not acknowledged */
    cp_pager_unfix(pager, &fix);
    assert_ok(cp_pager_close(pager));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log_at_the_limit_of_sizes_keeps_what_was_committed),
        cmocka_unit_test(allocate_prefers_the_lowest_free_page),
        cmocka_unit_test(allocate_reused_page_is_all_zeros),
        cmocka_unit_test(free_refuses_what_is_not_allocated_or_fixed),
        cmocka_unit_test(allocate_passes_over_free_pages_that_are_fixed),
        cmocka_unit_test(run_takes_the_first_gap_that_is_wide_enough),
        cmocka_unit_test(spans_follow_each_other_without_giving_map_pages_out),
        cmocka_unit_test(sync_gives_trailing_free_pages_back),
        cmocka_unit_test(freed_everything_leaves_the_smallest_file),
        cmocka_unit_test(freed_page_in_a_full_span_is_found_again),
        cmocka_unit_test(late_look_behind_the_cut_sees_zeros),
        cmocka_unit_test(allocation_in_the_log_is_there_after_a_crash),
        cmocka_unit_test(file_grows_up_to_the_largest_size),
    };
    int failed = RUN_ENGINE(CP_ENGINE_POOL, tests);
    return failed + RUN_ENGINE(CP_ENGINE_MMAP, tests);
}
