/* SPDX-License-Identifier: MIT */
/*
 * The mmap engine's unsafe way: what it still keeps without a crash. That it keeps nothing else is
 * shown by the crash search and by `clockpool-bench order`.
 */
#include "helpers.h"

#define PAGES 600u

static struct cp_pager_options in_place_options(void)
{
    struct cp_pager_options options = options_of(0, 0);
    options.unsafe_in_place = true;
    return options;
}

static struct cp_pager *open_in_place(const char *path, bool create)
{
    struct cp_pager *pager = NULL;
    struct cp_pager_options options = in_place_options();
    options.create = create;
    assert_ok(cp_pager_open(path, &options, &pager));
    return pager;
}

static void in_place_with_the_pool_engine_is_refused(void **state)
{
    (void)state;
    struct cp_pager *pager = NULL;
    struct cp_pager_options options = in_place_options();
    options.engine = CP_ENGINE_POOL;
    options.create = true;
    assert_code(cp_pager_open(new_store(), &options, &pager), -EINVAL);
    assert_non_null(strstr(cp_error_info()->hint, "CP_ENGINE_MMAP"));
    assert_int_not_equal(access(store_path(), F_OK), 0);
}

static void in_place_read_only_is_refused(void **state)
{
    (void)state;
    struct cp_pager *pager = NULL;
    assert_ok(cp_pager_close(open_in_place(new_store(), true)));
    struct cp_pager_options options = in_place_options();
    options.read_only = true;
    assert_code(cp_pager_open(store_path(), &options, &pager), -EINVAL);
    assert_non_null(strstr(cp_error_info()->hint, "read_only"));
}

static void in_place_stats_name_the_engine_and_no_private_pages(void **state)
{
    (void)state;
    struct cp_pager_stats stats;
    struct cp_pager *pager = open_in_place(new_store(), true);
    allocate_filled(pager, 1);
    cp_pager_stats(pager, &stats);
    assert_string_equal(stats.engine, "mmap-in-place");
    assert_int_equal(stats.private_pages, 0);
    assert_true(stats.pool.pages_dirty > 0);
    assert_ok(cp_pager_sync(pager));
    cp_pager_stats(pager, &stats);
    assert_int_equal(stats.pool.pages_dirty, 0);
    assert_ok(cp_pager_close(pager));
}

/* The changed bytes are in the file as soon as they are stored: nothing stands between. */
static void in_place_change_shows_in_the_file_at_once_and_is_sealed_by_unfix(void **state)
{
    (void)state;
    struct cp_pager *pager = open_in_place(new_store(), true);
    struct cp_fix fix;
    unsigned char file_byte, trailer[CP_PAGER_TRAILER_BYTES], sealed[CP_PAGER_TRAILER_BYTES];
    uint64_t page = allocate_filled(pager, 1);
    const uint32_t page_size = cp_pager_page_size(pager);
    const uint64_t at = page * page_size, end = at + page_size - sizeof trailer;
    read_file(data_path(), end, trailer, sizeof trailer);
    assert_ok(cp_pager_fix(pager, page, CP_EXCLUSIVE, &fix));
    ((unsigned char *)fix.data)[100] ^= 0x5a;
    read_file(data_path(), at + 100, &file_byte, 1);
    assert_int_equal(file_byte, ((unsigned char *)fix.data)[100]);
    assert_ok(cp_pager_mark_dirty(pager, &fix));
    read_file(data_path(), end, sealed, sizeof sealed);
    assert_memory_equal(sealed, trailer, sizeof trailer); /* not true yet */
    cp_pager_unfix(pager, &fix);
    read_file(data_path(), end, sealed, sizeof sealed);
    assert_memory_not_equal(sealed, trailer, sizeof trailer);
    assert_int_equal(cp_pager_check(pager, NULL, NULL, NULL), 0);
    assert_ok(cp_pager_close(pager));
}

/* What an engine that keeps its promises makes of the store afterwards. */
static void in_place_store_closed_opens_with_both_engines(void **state)
{
    (void)state;
    uint64_t pages[PAGES], seed = test_seed();
    uint64_t versions[PAGES] = {0};
    struct cp_pager *pager = open_in_place(new_store(), true);
    for (unsigned i = 0; i < PAGES; i++)
        pages[i] = allocate_filled(pager, 0);
    for (unsigned step = 0; step < 4 * PAGES; step++) {
        uint64_t which = below(&seed, PAGES);
        update_page(pager, pages[which], ++versions[which]);
        if (below(&seed, PAGES) == 0)
            assert_ok(cp_pager_sync(pager));
    }
    for (unsigned i = 0; i < PAGES; i++)
        assert_true(check_page(pager, pages[i], versions[i]));
    assert_ok(cp_pager_free(pager, pages[PAGES - 1], 1));
    assert_ok(cp_pager_close(pager));
    for (int engine = CP_ENGINE_POOL; engine <= CP_ENGINE_MMAP; engine++) {
        struct cp_pager_options options = options_of(0, 0);
        options.engine = (enum cp_engine)engine;
        assert_ok(cp_pager_open(store_path(), &options, &pager));
        assert_int_equal(cp_pager_check(pager, NULL, NULL, NULL), 0);
        for (unsigned i = 0; i + 1 < PAGES; i++)
            assert_true(check_page(pager, pages[i], versions[i]));
        assert_int_equal(cp_pager_is_allocated(pager, pages[PAGES - 1]), 0);
        assert_ok(cp_pager_close(pager));
    }
}

static void in_place_damaged_page_is_named_at_its_first_touch(void **state)
{
    (void)state;
    struct cp_pager *pager = open_in_place(new_store(), true);
    struct cp_fix fix;
    uint64_t page = allocate_filled(pager, 3);
    const uint32_t page_size = cp_pager_page_size(pager);
    assert_ok(cp_pager_close(pager));
    flip_bit(data_path(), page * page_size + 17, 3);
    pager = open_in_place(store_path(), false);
    assert_code(cp_pager_fix(pager, page, CP_EXCLUSIVE, &fix), CP_ECHECKSUM);
    assert_code(cp_pager_fix(pager, page, CP_SHARED, &fix), CP_ECHECKSUM);
    assert_ok(cp_pager_fix_new(pager, page, &fix)); /* which does not read it */
    cp_pager_unfix(pager, &fix);
    assert_int_equal(cp_pager_check(pager, NULL, NULL, NULL), 0);
    assert_ok(cp_pager_close(pager));
}

static void in_place_store_that_shrank_and_grew_again_is_whole(void **state)
{
    (void)state;
    struct cp_pager *pager = open_in_place(new_store(), true);
    uint64_t first;
    for (unsigned round = 1; round <= 3; round++) {
        assert_ok(cp_pager_allocate_run(pager, PAGES, &first));
        for (uint64_t page = first; page < first + PAGES; page++) {
            struct cp_fix fix;
            assert_ok(cp_pager_fix_new(pager, page, &fix));
            fill_page(fix.data, cp_pager_payload_size(pager), page, round);
            cp_pager_unfix(pager, &fix);
        }
        assert_ok(cp_pager_sync(pager));
        for (uint64_t page = first; page < first + PAGES; page++)
            assert_true(check_page(pager, page, round));
        assert_ok(cp_pager_free(pager, first, PAGES));
        assert_ok(cp_pager_sync(pager));
    }
    assert_int_equal(cp_pager_check(pager, NULL, NULL, NULL), 0);
    assert_ok(cp_pager_close(pager));
}

/* Commits, aborts and allocation by seed; pages carry their version. Ends as a killed process
 * would, or in an orderly way, and is opened again: nothing but a power failure can lose anything.
 */
static void in_place_mini_transactions_survive_the_process(void **state)
{
    (void)state;
    uint64_t seed = test_seed(), pages[PAGES], versions[PAGES], count = 0;
    struct cp_pager *pager = open_in_place(new_store(), true);
    const uint32_t payload = cp_pager_payload_size(pager);
    for (unsigned step = 1; step <= 1500; step++) {
        struct cp_mtr *mtr;
        void *data;
        const bool commit = below(&seed, 5) != 0,
                   grow = count < 3 || (count < PAGES && step % 4 == 0);
        const uint64_t which = grow ? count : below(&seed, count);
        uint64_t page = grow ? 0 : pages[which];
        assert_ok(cp_mtr_begin(pager, &mtr));
        if (grow)
            assert_ok(cp_mtr_allocate(mtr, &page, &data));
        else
            assert_ok(cp_mtr_fix(mtr, page, CP_EXCLUSIVE, &data));
        fill_page(data, payload, page, step);
        if (commit) {
            assert_ok(
                cp_mtr_commit(mtr, below(&seed, 2) ? CP_COMMIT_DURABLE : CP_COMMIT_RELAXED, NULL));
            pages[which] = page;
            versions[which] = step;
            count += grow;
        } else {
            cp_mtr_abort(mtr);
        }
        if (below(&seed, 100) == 0)
            assert_ok(cp_pager_checkpoint(pager));
        if (below(&seed, 200) == 0) {
            if (below(&seed, 2) == 0) {
                assert_ok(cp_pager_close(pager));
            } else {
                /* The log's tail is in memory, and the pages are not: they are the mapping's. */
                assert_ok(cp_pager_wait_durable(pager, UINT64_MAX));
                cp_pager_abandon(pager);
            }
            pager = open_in_place(store_path(), false);
        }
        if (step % 50 == 0) {
            for (uint64_t i = 0; i < count; i++)
                assert_true(check_page(pager, pages[i], versions[i]));
        }
    }
    assert_int_equal(cp_pager_check(pager, NULL, NULL, NULL), 0);
    assert_ok(cp_pager_close(pager));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_place_with_the_pool_engine_is_refused),
        cmocka_unit_test(in_place_read_only_is_refused),
        cmocka_unit_test(in_place_stats_name_the_engine_and_no_private_pages),
        cmocka_unit_test(in_place_change_shows_in_the_file_at_once_and_is_sealed_by_unfix),
        cmocka_unit_test(in_place_store_closed_opens_with_both_engines),
        cmocka_unit_test(in_place_damaged_page_is_named_at_its_first_touch),
        cmocka_unit_test(in_place_store_that_shrank_and_grew_again_is_whole),
        cmocka_unit_test(in_place_mini_transactions_survive_the_process),
    };
    return RUN_ENGINE(CP_ENGINE_MMAP, tests);
}
