/* SPDX-License-Identifier: MIT */
/*
 * Scans: what they read and how, how far ahead, whose frames they use, and what they leave to
 * others. Everything is counted; nothing depends on time.
 */
#include "helpers.h"

#define PAGES 4096u

static struct world *hooked;
static uint32_t hook_waits;

/* Completions are held back; the reader that is about to wait for one has it let through. */
static void release_one(const char *point, struct cp_bufpool_file *file, uint64_t page)
{
    (void)file;
    (void)page;
    if (strcmp(point, "scan_wait") != 0)
        return;
    hook_waits++;
    fault_io_release(hooked->faults, 1);
}

/* The next page, which must be this one in version 0; 4 KiB and larger ones. */
static void must_give(struct world *w, struct cp_scan *scan, uint64_t page)
{
    struct cp_fix fix;
    char text[256];
    int code = cp_bufpool_scan_next(scan, &fix);
    if (code != 1)
        fail_msg("scan at page %llu: %d, %s", (unsigned long long)page, code,
                 cp_error_format(text, sizeof text));
    assert_int_equal(fix.page, page);
    for (uint32_t f = 0; f < WORLD_FILES; f++) {
        if (fix.owner == w->file[f])
            assert_int_equal(page_version(fix.data, w->page_size[f], page), 0);
    }
    cp_bufpool_unfix(&fix);
}

static void must_scan(struct world *w, uint32_t f, uint64_t first, uint64_t count)
{
    struct cp_scan scan;
    struct cp_fix fix;
    assert_int_equal(cp_bufpool_scan_begin(w->file[f], first, count, &scan), 0);
    for (uint64_t page = first; page < first + count; page++)
        must_give(w, &scan, page);
    assert_int_equal(cp_bufpool_scan_next(&scan, &fix), 0);
    assert_int_equal(cp_bufpool_scan_next(&scan, &fix), 0);
}

/* How many pieces of contiguous memory resident pages first .. first+count-1 lie in. */
static uint32_t count_pieces(struct world *w, uint32_t f, uint64_t first, uint64_t count)
{
    const struct cp_page_map *map = &w->file[f]->map;
    uint32_t pieces = 1;
    for (uint64_t page = first; page + 1 < first + count; page++) {
        uint64_t here = cp_word_load(&map->words[page]) & map->frame_mask;
        uint64_t next = cp_word_load(&map->words[page + 1]) & map->frame_mask;
        pieces += next != here + w->page_size[f];
    }
    return pieces;
}

/*
 * Fill the pool's memory with pages of which every used_each-th is used by somebody (0: none).
 * Returns one more than the last page.
 */
static uint64_t fill_pool(struct world *w, uint32_t f, uint64_t used_each)
{
    uint64_t page = 0;
    while (stats_of(w).evictions == 0) {
        struct cp_fix fix = must_fix(w, f, page, CP_EXCLUSIVE); /* no slot, no bias */
        cp_bufpool_unfix(&fix);
        uint64_t *word = &w->file[f]->map.words[page++];
        uint64_t seen = cp_word_load(word);
        uint64_t mark = used_each != 0 && page % used_each == 0 ? CP_WORD_REF : 0;
        assert_true(cp_word_cas(word, &seen, (seen & ~CP_WORD_REF) | mark));
    }
    return page;
}

/* ---- reading ahead ------------------------------------------------------------------------------
 */

static void scan_gives_every_page_in_order_by_large_requests(void **state)
{
    (void)state;
    const uint32_t sizes[] = {4096, 16384, 65536};
    for (uint32_t i = 0; i < 3; i++) {
        struct world w;
        uint64_t count = 4 * MIB / sizes[i];
        world_open(&w, 16 * MIB);
        world_add_file(&w, 0, sizes[i], count + 2);
        must_scan(&w, 0, 1, count);
        struct cp_bufpool_stats stats = stats_of(&w);
        assert_int_equal(stats.pages_read, count);
        assert_int_equal(stats.misses, count);
        assert_int_equal(stats.scan_pages, count);
        assert_int_equal(stats.hits, 0);
        assert_false(is_resident(&w, 0, count + 1)); /* nothing beyond the end */
        assert_true(stats.reads <= 4 * MIB / (64 * KIB) + 1);
        must_scan(&w, 0, 1, count); /* what fits stays */
        assert_int_equal(stats_of(&w).pages_read, count);
        assert_int_equal(stats_of(&w).hits, count);
        world_close(&w);
    }
}

static void scan_range_is_checked(void **state)
{
    (void)state;
    struct world w;
    struct cp_scan scan;
    struct cp_fix fix;
    world_simple(&w, 8 * MIB, 64);
    uint64_t limit = UINT64_C(1) << 20;
    assert_int_equal(cp_bufpool_scan_begin(w.file[0], limit, 1, &scan), CP_ENOPAGE);
    assert_int_equal(cp_bufpool_scan_begin(w.file[0], 1, UINT64_MAX, &scan), CP_ENOPAGE);
    assert_int_equal(cp_bufpool_scan_begin(w.file[0], limit, 0, &scan), 0);
    assert_int_equal(cp_bufpool_scan_next(&scan, &fix), 0);
    world_close(&w);
}

static void scan_distance_grows_to_its_limit_while_the_reader_waits(void **state)
{
    (void)state;
    struct world w;
    struct cp_scan scan;
    world_simple(&w, 32 * MIB, PAGES);
    assert_int_equal(cp_bufpool_scan_begin(w.file[0], 0, PAGES, &scan), 0);
    assert_int_equal(scan.window.pages, 32);
    assert_int_equal(scan.window.most, 512); /* a sixteenth of the budget */
    hooked = &w;
    hook_waits = 0;
    cp_bufpool__hook = release_one;
    fault_io_hold(w.faults);
    for (uint64_t page = 0; page < PAGES - 1024; page++) {
        must_give(&w, &scan, page);
        uint32_t expected = hook_waits >= 4 ? 512 : 32u << hook_waits;
        assert_int_equal(scan.window.pages, expected);
        assert_true(scan.ahead - scan.next <= scan.window.pages);
        if (hook_waits > 0) /* as much is asked for as makes a request */
            assert_true(scan.ahead - scan.next + 64 >= scan.window.pages);
    }
    assert_true(hook_waits >= (PAGES - 1024) / 64 && hook_waits < (PAGES - 1024) / 8);
    assert_int_equal(stats_of(&w).scan_waits, hook_waits);
    cp_bufpool__hook = NULL;
    fault_io_let_go(w.faults);
    world_close(&w);
}

static void scan_distance_shrinks_while_the_reader_does_not_wait(void **state)
{
    (void)state;
    struct world w;
    struct cp_scan scan;
    world_simple(&w, 32 * MIB, PAGES);
    assert_int_equal(cp_bufpool_scan_begin(w.file[0], 0, PAGES, &scan), 0);
    while (scan.window.pages < 128)
        cp_window_waited(&scan.window);
    uint32_t before = scan.window.pages;
    for (uint64_t page = 0; page < PAGES; page++) { /* each read has completed when asked for */
        must_give(&w, &scan, page);
        assert_true(scan.window.pages <= before);
        before = scan.window.pages;
    }
    assert_int_equal(scan.window.pages, 32);
    assert_int_equal(stats_of(&w).scan_waits, 0);
    must_scan(&w, 0, 0, PAGES); /* and a scan of resident pages reads nothing ahead */
    assert_int_equal(stats_of(&w).pages_read, PAGES);
    world_close(&w);
}

static void scan_passes_over_what_its_caller_passes_over(void **state)
{
    (void)state;
    struct world w;
    struct cp_scan scan;
    world_simple(&w, 8 * MIB, PAGES);
    assert_int_equal(cp_bufpool_scan_begin(w.file[0], 0, PAGES, &scan), 0);
    must_give(&w, &scan, 0);
    scan.next += 5; /* asked for already */
    must_give(&w, &scan, 6);
    scan.next = 3000; /* far beyond */
    must_give(&w, &scan, 3000);
    scan.next = PAGES - 1;
    must_give(&w, &scan, PAGES - 1);
    struct cp_fix fix;
    assert_int_equal(cp_bufpool_scan_next(&scan, &fix), 0);
    scan.next = UINT64_MAX;
    assert_int_equal(cp_bufpool_scan_next(&scan, &fix), 0);
    assert_true(stats_of(&w).pages_read < 400);
    world_close(&w);
}

static int refuse_page_77(void *ctx, void *data, uint64_t page)
{
    (void)ctx;
    (void)data;
    return page == 77 ? cp_error_set(CP_ECHECKSUM, NULL, page, CP_NO_LSN, NULL, "refused") : 0;
}

static void scan_names_a_bad_page_and_goes_on_behind_it(void **state)
{
    (void)state;
    struct world w;
    struct cp_scan scan;
    struct cp_fix fix;
    world_open(&w, 8 * MIB);
    world_create_file(&w, 0, 4096, 256);
    world_attach_with(&w, 0, &(struct cp_bufpool_file_options){.verify = refuse_page_77});
    assert_int_equal(cp_bufpool_scan_begin(w.file[0], 0, 300, &scan), 0);
    for (uint64_t page = 0; page < 256; page++) {
        if (page != 77) {
            must_give(&w, &scan, page);
            continue;
        }
        assert_int_equal(cp_bufpool_scan_next(&scan, &fix), CP_ECHECKSUM);
        assert_int_equal(cp_error_info()->page, 77);
    }
    for (uint64_t page = 256; page < 300; page++) { /* beyond the file's end */
        assert_int_equal(cp_bufpool_scan_next(&scan, &fix), -ENODATA);
        assert_int_equal(cp_error_info()->page, page);
    }
    assert_int_equal(cp_bufpool_scan_next(&scan, &fix), 0);
    assert_int_equal(cp_bufpool_list_pins(w.pool, NULL, 0), 0);
    world_close(&w);
}

/* ---- whose frames -------------------------------------------------------------------------------
 */

static void scan_longer_than_memory_reuses_a_bounded_ring_of_its_own(void **state)
{
    (void)state;
    struct world w;
    world_simple(&w, 8 * MIB, PAGES + 2048);
    uint64_t filled = fill_pool(&w, 0, 0);
    assert_true(filled > 1500 && filled < 2048);
    must_scan(&w, 0, 2048, PAGES);
    struct cp_bufpool_stats stats = stats_of(&w);
    uint64_t left = 0;
    for (uint64_t page = 0; page < filled; page++)
        left += is_resident(&w, 0, page);
    /* A window of a sixteenth of the budget, 128 pages, what the caller may hold, and a piece. */
    assert_true(filled - left <= 128 + 3 * 64);
    assert_true(stats.scan_reused >= PAGES - 128 - 3 * 64);
    assert_true(stats.used_bytes <= stats.budget_bytes && stats.peak_bytes <= stats.budget_bytes);
    world_close(&w);
}

/* A device takes so many pieces of memory in a request; side by side, 64 pages are one. */
static void scan_frames_lie_side_by_side_in_free_memory(void **state)
{
    (void)state;
    struct world w;
    world_simple(&w, 64 * MIB, PAGES);
    for (uint64_t page = 2048; page < 3072; page++)
        check_version(&w, 0, page, 0);
    for (uint64_t page = 2048; page < 3072; page += 2) /* holes, which are of no use */
        drop(&w, 0, page);
    must_scan(&w, 0, 0, 2048);
    assert_true(count_pieces(&w, 0, 0, 2048) <= 2048 / 32);
    world_close(&w);
}

/* The extents of a pool that began small are smaller than what a scan asks for at a time. */
static void scan_takes_no_more_memory_than_its_pages_need(void **state)
{
    (void)state;
    struct world w;
    world_open_with(&w,
                    &(struct cp_bufpool_options){.budget_bytes = MIB, .max_budget_bytes = 64 * MIB},
                    RINGS_DEFERRED);
    world_add_file(&w, 0, 4096, 512);
    assert_int_equal(cp_bufpool_resize(w.pool, 64 * MIB), 0);
    must_scan(&w, 0, 0, 512);
    struct cp_bufpool_stats stats = stats_of(&w);
    assert_int_equal(stats.pages_resident, 512);
    assert_in_range(stats.frame_bytes, 2 * MIB, 3 * MIB);
    world_close(&w);
}

static void scan_frames_lie_side_by_side_in_a_full_pool(void **state)
{
    (void)state;
    struct world w;
    struct cp_scan scan;
    world_simple(&w, 16 * MIB, 6 * PAGES);
    uint64_t first = fill_pool(&w, 0, 2); /* the sweep finds single victims */
    assert_int_equal(cp_bufpool_scan_begin(w.file[0], first, 4 * PAGES, &scan), 0);
    cp_window_init(&scan.window, 256, 256, 256); /* as after some waits */
    for (uint64_t page = first; page < first + 2 * PAGES; page++)
        must_give(&w, &scan, page);
    assert_true(stats_of(&w).scan_reused > PAGES);
    uint64_t back = scan.next - 64; /* others' memory at first, its own again and again since */
    uint64_t pieces = count_pieces(&w, 0, back, scan.ahead - back);
    print_message("%llu pages in %llu pieces\n", (unsigned long long)(scan.ahead - back),
                  (unsigned long long)pieces);
    assert_true(pieces <= 24);
    world_close(&w);
}

/* Evicted one by one, a scan's frames merge again: the memory serves large pages at once. */
static void scan_memory_coalesces_when_its_pages_go(void **state)
{
    (void)state;
    struct world w;
    struct cp_buddy_stats stats;
    world_simple(&w, 8 * MIB, PAGES);
    must_scan(&w, 0, 0, 1024);
    for (uint64_t page = 0; page < 1024; page++)
        drop(&w, 0, (page * 389) % 1024);
    cp_buddy_drain(w.pool->buddy);
    cp_buddy_stats(w.pool->buddy, &stats);
    assert_int_equal(stats.allocated_bytes, 0);
    assert_int_equal(stats.largest_free_bytes, w.pool->extent_bytes);
    world_close(&w);
}

static void scan_whose_caller_keeps_pages_fixed_gives_the_rest(void **state)
{
    (void)state;
    struct world w;
    struct cp_scan scan;
    static struct cp_fix kept[600];
    world_simple(&w, 8 * MIB, PAGES);
    assert_int_equal(cp_bufpool_scan_begin(w.file[0], 0, PAGES, &scan), 0);
    for (uint64_t page = 0; page < PAGES; page++) {
        struct cp_fix *fix = &kept[page % 600]; /* the last 600 pages stay fixed */
        if (page >= 600) {
            assert_int_equal(page_version(fix->data, 4096, page - 600), 0);
            cp_bufpool_unfix(fix);
        }
        assert_int_equal(cp_bufpool_scan_next(&scan, fix), 1);
        assert_int_equal(fix->page, page);
        assert_int_equal(page_version(fix->data, 4096, page), 0);
    }
    cp_bufpool_unfix_many(kept, 600);
    world_close(&w);
}

static void scan_in_the_smallest_pool_gives_every_page(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, CP_BUFPOOL_BUDGET_MIN);
    world_add_file(&w, 0, 4096, 1024);
    world_add_file(&w, 1, 65536, 32);
    for (uint32_t round = 0; round < 2; round++) {
        must_scan(&w, 0, 0, 1024);
        must_scan(&w, 1, 0, 32);
    }
    assert_true(stats_of(&w).peak_bytes <= CP_BUFPOOL_BUDGET_MIN);
    world_close(&w);
}

static void scan_through_dirty_pages_writes_them_and_goes_on(void **state)
{
    (void)state;
    struct world w;
    world_simple(&w, MIB, PAGES);
    for (uint64_t page = 0; page < 1024; page++)
        change_page(&w, 0, page, 1, 0);
    must_scan(&w, 0, 1024, PAGES - 1024);
    for (uint64_t page = 0; page < 1024; page++)
        check_version(&w, 0, page, 1);
    world_close(&w);
}

/* ---- what is left to others ---------------------------------------------------------------------
 */

static void scan_leaves_a_page_as_cold_or_as_used_as_it_was(void **state)
{
    (void)state;
    struct world w;
    world_simple(&w, 8 * MIB, PAGES);
    check_version(&w, 0, 5, 0);
    check_version(&w, 0, 5, 0); /* used by others */
    must_scan(&w, 0, 0, 64);
    for (uint64_t page = 0; page < 64; page++) {
        uint64_t word = cp_word_load(&w.file[0]->map.words[page]);
        assert_int_equal((word & CP_WORD_REF) != 0, page == 5);
    }
    world_close(&w);
}

static void scan_own_page_that_others_use_is_left_to_them(void **state)
{
    (void)state;
    struct world w;
    struct cp_scan scan;
    world_simple(&w, 8 * MIB, 2 * PAGES);
    uint64_t first = fill_pool(&w, 0, 0);
    assert_int_equal(cp_bufpool_scan_begin(w.file[0], first, PAGES, &scan), 0);
    for (uint64_t page = first; page < first + PAGES; page++) {
        must_give(&w, &scan, page);
        if (page % 100 == 0) { /* comes back to it: it is his */
            check_version(&w, 0, page, 0);
            check_version(&w, 0, page, 0);
        }
    }
    uint64_t kept = 0;
    for (uint64_t page = first; page < first + PAGES; page++)
        kept += page % 100 == 0 && is_resident(&w, 0, page);
    assert_true(kept >= PAGES / 100 - 1);
    world_close(&w);
}

/* The hit ratio of point reads over a hot set, while a scan four times the memory goes by. */
static void scan_beside_point_reads_costs_them_no_tenth_of_their_hits(void **state)
{
    (void)state;
    struct world w;
    struct cp_scan scan;
    uint64_t random = test_seed(), reads = 0, hits = 0, alone = 0;
    const uint64_t hot = 1400, cold = 3000; /* 1400 pages of the 1900 or so that fit */
    world_simple(&w, 8 * MIB, 4 * PAGES);
    for (uint64_t i = 0; i < 20000; i++) /* nine in ten go to the hot set */
        check_version(&w, 0, next_random(&random) % (i % 10 == 0 ? cold : hot), 0);
    for (uint64_t i = 0; i < 20000; i++) {
        uint64_t page = next_random(&random) % (i % 10 == 0 ? cold : hot);
        alone += is_resident(&w, 0, page);
        check_version(&w, 0, page, 0);
    }
    assert_int_equal(cp_bufpool_scan_begin(w.file[0], 2 * PAGES, 2 * PAGES, &scan), 0);
    for (uint64_t i = 0; i < 2 * PAGES; i++) {
        must_give(&w, &scan, 2 * PAGES + i);
        for (uint32_t j = 0; j < 2; j++) {
            uint64_t page = next_random(&random) % (reads % 10 == 0 ? cold : hot);
            hits += is_resident(&w, 0, page);
            reads++;
            check_version(&w, 0, page, 0);
        }
    }
    double before = (double)alone / 20000, beside = (double)hits / (double)reads;
    print_message("hit ratio %.3f alone, %.3f beside a scan\n", before, beside);
    assert_true(beside >= 0.9 * before);
    world_close(&w);
}

/* ---- several scans ------------------------------------------------------------------------------
 */

static void *scan_in_thread(void *argument)
{
    struct world *w = argument;
    struct cp_scan scan;
    struct cp_fix fix;
    uint64_t page = 0;
    if (cp_bufpool_scan_begin(w->file[0], 0, PAGES, &scan) != 0)
        abort();
    while (cp_bufpool_scan_next(&scan, &fix) == 1) {
        if (fix.page != page || page_version(fix.data, 4096, page) != 0)
            abort();
        cp_bufpool_unfix(&fix);
        page++;
    }
    if (page != PAGES)
        abort();
    return NULL;
}

static void scan_threads_over_the_same_pages_all_get_them(void **state)
{
    (void)state;
    struct world w;
    struct watchdog dog;
    pthread_t threads[4];
    world_open_with(&w, &(struct cp_bufpool_options){.budget_bytes = 2 * MIB}, RINGS_REAL);
    world_add_file(&w, 0, 4096, PAGES);
    watchdog_start(&dog, &w, WATCHDOG_LIMIT);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, scan_in_thread, &w), 0);
    for (uint32_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    watchdog_stop(&dog);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scan_gives_every_page_in_order_by_large_requests),
        cmocka_unit_test(scan_range_is_checked),
        cmocka_unit_test(scan_distance_grows_to_its_limit_while_the_reader_waits),
        cmocka_unit_test(scan_distance_shrinks_while_the_reader_does_not_wait),
        cmocka_unit_test(scan_passes_over_what_its_caller_passes_over),
        cmocka_unit_test(scan_names_a_bad_page_and_goes_on_behind_it),
        cmocka_unit_test(scan_longer_than_memory_reuses_a_bounded_ring_of_its_own),
        cmocka_unit_test(scan_frames_lie_side_by_side_in_free_memory),
        cmocka_unit_test(scan_takes_no_more_memory_than_its_pages_need),
        cmocka_unit_test(scan_frames_lie_side_by_side_in_a_full_pool),
        cmocka_unit_test(scan_memory_coalesces_when_its_pages_go),
        cmocka_unit_test(scan_whose_caller_keeps_pages_fixed_gives_the_rest),
        cmocka_unit_test(scan_in_the_smallest_pool_gives_every_page),
        cmocka_unit_test(scan_through_dirty_pages_writes_them_and_goes_on),
        cmocka_unit_test(scan_leaves_a_page_as_cold_or_as_used_as_it_was),
        cmocka_unit_test(scan_own_page_that_others_use_is_left_to_them),
        cmocka_unit_test(scan_beside_point_reads_costs_them_no_tenth_of_their_hits),
        cmocka_unit_test(scan_threads_over_the_same_pages_all_get_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
