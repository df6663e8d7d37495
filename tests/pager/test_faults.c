/* SPDX-License-Identifier: MIT */
/* Failing calls below the pager: the right code comes back, and nothing that was synced is lost. */
#include "helpers.h"

#include "support/fault_io.h"

#define COUNT 300u

struct broken {
    struct fault_io *faults;
    struct cp_io *io;
};

static void break_start(struct broken *b)
{
    b->faults = fault_io_create(cp_io_backend_sync(), FAULT_RING_DEFERRED);
    const struct cp_io_options options = {.backend = fault_io_backend(b->faults),
                                          .backend_ctx = b->faults};
    assert_ok(cp_io_create(&options, &b->io));
}

static void break_stop(struct broken *b)
{
    cp_io_destroy(b->io);
    fault_io_destroy(b->faults);
}

static int open_broken(struct broken *b, bool create, struct cp_pager **out_pager)
{
    struct cp_pager_options options = options_of(0, UINT64_C(640) << 10);
    options.io = b->io;
    options.create = create;
    options.log_segment_bytes = 1u << 20; /* one is enough: no call makes another */
    return cp_pager_open(store_path(), &options, out_pager);
}

static void fail_calls(struct broken *b, enum fault_class on, uint64_t nth, uint64_t times,
                       int code)
{
    fault_io_reset(b->faults);
    fault_io_rule(b->faults,
                  &(struct fault_rule){.on = on, .nth = nth, .times = times, .code = code});
}

static void growth_enospc_changes_nothing_and_can_be_repeated(void **state)
{
    (void)state;
    struct broken b;
    struct cp_pager *pager;
    struct cp_fix fix;
    uint64_t run;
    break_start(&b);
    new_store();
    assert_ok(open_broken(&b, true, &pager));
    uint64_t page = allocate_filled(pager, 1);
    while (cp_pager_page_count(pager) * 4096 < file_size(data_path()))
        allocate_filled(pager, 1);
    uint64_t count = cp_pager_page_count(pager), size = file_size(data_path());
    fail_calls(&b, FAULT_ALLOCATE, 1, UINT64_MAX, -ENOSPC);
    assert_code(cp_pager_allocate(pager, &fix), -ENOSPC);
    assert_code(cp_pager_allocate_run(pager, 10, &run), -ENOSPC);
    assert_true(cp_error_info()->hint[0] != '\0');
    assert_int_equal(cp_pager_page_count(pager), count);
    assert_int_equal(cp_pager_is_allocated(pager, count), 0);
    assert_int_equal(file_size(data_path()), size);
    assert_true(check_page(pager, page, 1));
    fail_calls(&b, FAULT_ALLOCATE, 1, 1, -ENOSPC); /* the large step fails, one page goes */
    assert_int_equal(allocate_filled(pager, 2), count);
    assert_int_equal(file_size(data_path()), size + 4096);
    assert_ok(cp_pager_close(pager));
    break_stop(&b);
    pager = open_store(store_path());
    assert_true(check_page(pager, count, 2));
    assert_ok(cp_pager_close(pager));
}

/* The nth write of a sync fails. True when that was one of the data file. */
static bool sync_with_failing_writes(uint64_t nth, int code)
{
    struct broken b;
    struct cp_pager *pager;
    struct cp_pager_stats stats;
    break_start(&b);
    new_store();
    assert_ok(open_broken(&b, true, &pager));
    uint64_t first = cp_pager_first_page(pager);
    for (unsigned k = 0; k < 50; k++)
        allocate_filled(pager, k);
    assert_ok(cp_pager_wait_durable(pager, UINT64_MAX));
    fail_calls(&b, FAULT_WRITE, nth, 1, code);
    int got = cp_pager_sync(pager);
    cp_pager_stats(pager, &stats);
    bool of_data = !stats.failed;
    assert_code(got, of_data ? code : CP_EGATE);
    for (unsigned k = 0; k < 50; k++)
        assert_true(check_page(pager, first + k, k));
    fault_io_reset(b.faults);
    if (of_data) {
        assert_string_equal(cp_error_info()->path, data_path());
        assert_ok(cp_pager_sync(pager));
    } else {
        assert_code(cp_pager_sync(pager), CP_EFAILED);
    }
    cp_pager_abandon(pager);
    break_stop(&b);
    pager = open_store(store_path());
    for (unsigned k = 0; k < 50; k++) {
        assert_int_equal(cp_pager_is_allocated(pager, first + k), 1);
        if (of_data)
            assert_true(check_page(pager, first + k, k));
    }
    assert_ok(cp_pager_close(pager));
    return of_data;
}

/* How many writes the log needs first depends on its stage: go on until the data file is met. */
static void write_error_in_sync_keeps_everything_and_sync_repeats(void **state)
{
    (void)state;
    static const int codes[] = {-ENOSPC, -EIO};
    for (unsigned i = 0; i < 2; i++) {
        uint64_t nth = 1;
        while (!sync_with_failing_writes(nth, codes[i]))
            assert_true(++nth < 20);
        print_message("write %llu is the data file's first\n", (unsigned long long)nth);
    }
}

static void failed_sync_is_sticky_until_reopened(void **state)
{
    (void)state;
    struct broken b;
    struct cp_pager *pager;
    struct cp_pager_stats stats;
    struct cp_fix fix;
    break_start(&b);
    new_store();
    assert_ok(open_broken(&b, true, &pager));
    uint64_t page = allocate_filled(pager, 1);
    fail_calls(&b, FAULT_SYNC, 1, 1, -EIO); /* once: the kernel reports it only once */
    assert_code(cp_pager_sync(pager), -EIO);
    assert_code(cp_pager_sync(pager), CP_EFAILED);
    assert_code(cp_pager_allocate(pager, &fix), CP_EFAILED);
    assert_code(cp_pager_free(pager, page, 1), CP_EFAILED);
    assert_ok(cp_pager_fix(pager, page, CP_EXCLUSIVE, &fix));
    assert_code(cp_pager_mark_dirty(pager, &fix), CP_EFAILED);
    cp_pager_unfix(pager, &fix);
    assert_true(check_page(pager, page, 1)); /* reads go on */
    cp_pager_stats(pager, &stats);
    assert_true(stats.failed);
    assert_code(cp_pager_close(pager), CP_EFAILED);
    break_stop(&b);
    pager = open_store(store_path());
    cp_pager_stats(pager, &stats);
    assert_true(stats.unclean);
    assert_false(stats.failed);
    allocate_filled(pager, 2);
    assert_ok(cp_pager_close(pager));
}

static void first_write_needs_its_unclean_superblock(void **state)
{
    (void)state;
    struct broken b;
    struct cp_pager *pager;
    struct cp_fix fix;
    break_start(&b);
    new_store();
    assert_ok(open_broken(&b, true, &pager));
    uint64_t count = cp_pager_page_count(pager);
    fail_calls(&b, FAULT_WRITE, 1, 1, -EIO);
    assert_code(cp_pager_allocate(pager, &fix), -EIO);
    assert_int_equal(cp_pager_page_count(pager), count);
    allocate_filled(pager, 1); /* and again, with success */
    assert_ok(cp_pager_close(pager));
    break_stop(&b);
}

static void read_error_is_reported_and_passes(void **state)
{
    (void)state;
    struct broken b;
    struct cp_pager *pager;
    struct cp_fix fix;
    if (test_engine == CP_ENGINE_MMAP) {
        print_message("skipped: a mapping's reads do not go through the I/O backend\n");
        skip();
    }
    new_store();
    pager = create_store(store_path(), 0, 0);
    uint64_t page = allocate_filled(pager, 5);
    assert_ok(cp_pager_close(pager));
    break_start(&b);
    assert_ok(open_broken(&b, false, &pager));
    fail_calls(&b, FAULT_READ, 1, 1, -EIO);
    assert_code(cp_pager_fix(pager, page, CP_SHARED, &fix), -EIO);
    assert_int_equal(cp_error_info()->page, page);
    assert_string_equal(cp_error_info()->path, data_path());
    fault_io_reset(b.faults);
    fault_io_rule(b.faults, &(struct fault_rule){
                                .on = FAULT_READ, .nth = 1, .effect = FAULT_FLIP, .bit = 12345});
    assert_code(cp_pager_fix(pager, page, CP_SHARED, &fix), CP_ECHECKSUM);
    assert_true(check_page(pager, page, 5));
    assert_ok(cp_pager_close(pager));
    break_stop(&b);
}

/* Each call of a creation fails in turn: nothing is left behind, and the next attempt succeeds. */
static void creation_fault_sweep_leaves_nothing(void **state)
{
    (void)state;
    bool fired = true;
    unsigned sweep = 0;
    for (uint64_t nth = 1; fired; nth++) {
        struct broken b;
        struct cp_pager *pager = NULL;
        break_start(&b);
        new_store();
        bool inside = nth % 2 == 0; /* an existing empty directory, or none */
        if (inside)
            assert_int_equal(mkdir(store_path(), 0700), 0);
        unsigned before = count_entries(in_directory("."));
        fail_calls(&b, FAULT_ANY, (nth + 1) / 2, 1, nth % 3 == 0 ? -ENOSPC : -EIO);
        int code = open_broken(&b, true, &pager);
        fired = fault_io_fired(b.faults) > 0;
        fault_io_reset(b.faults);
        sweep++;
        if (code != 0 && access(data_path(), F_OK) != 0) {
            assert_int_equal(count_entries(in_directory(".")), before);
            if (inside)
                assert_int_equal(count_entries(store_path()), 0);
        }
        if (code != 0)
            assert_ok(open_broken(&b, true, &pager));
        allocate_filled(pager, 1);
        assert_ok(cp_pager_close(pager));
        break_stop(&b);
    }
    print_message("%u faults\n", sweep);
}

/* Update all pages with a budget that forces write-back, sync. Returns what sync said. */
static int workload(struct cp_pager *pager, uint64_t first, uint64_t version)
{
    for (unsigned i = 0; i < COUNT; i++) {
        struct cp_fix fix;
        int code = cp_pager_fix(pager, first + i, CP_EXCLUSIVE, &fix);
        if (code != 0)
            return code;
        code = cp_pager_mark_dirty(pager, &fix);
        if (code == 0)
            fill_page(fix.data, 4064, first + i, version);
        cp_pager_unfix(pager, &fix);
        if (code != 0)
            return code;
    }
    for (unsigned i = 0; i < 20; i++) {
        struct cp_fix fix;
        int code = cp_pager_allocate(pager, &fix);
        if (code != 0)
            return code;
        fill_page(fix.data, 4064, fix.page, version);
        cp_pager_unfix(pager, &fix);
    }
    return cp_pager_sync(pager);
}

/* Only pages of the failed round, which were never synced, may be unreadable. */
static void report_old(void *ctx, uint64_t page, const struct cp_error *error)
{
    if (page < *(const uint64_t *)ctx)
        fail_msg("page %llu: %s", (unsigned long long)page, error->what);
}

/* The n-th call fails: what was synced before is there, old or new, and whole. */
static void fault_sweep_loses_nothing(void **state)
{
    (void)state;
    static const enum fault_class classes[] = {FAULT_WRITE,     FAULT_READ,   FAULT_SYNC,
                                               FAULT_ALLOCATE,  FAULT_RESIZE, FAULT_SIZE,
                                               FAULT_COMPLETION};
    unsigned total = 0;
    for (unsigned c = 0; c < sizeof classes / sizeof classes[0]; c++) {
        bool fired = true;
        for (uint64_t nth = 1; fired; nth += 1 + nth / 3) {
            struct broken b;
            struct cp_pager *pager = create_store(new_store(), 0, 0);
            uint64_t first = cp_pager_first_page(pager);
            for (unsigned i = 0; i < COUNT; i++)
                allocate_filled(pager, 1);
            assert_ok(cp_pager_close(pager));
            break_start(&b);
            fail_calls(&b, classes[c], nth, 1, -EIO);
            int code = open_broken(&b, false, &pager);
            if (code == 0) {
                code = workload(pager, first, 2);
                if (nth % 2 == 0)
                    cp_pager_abandon(pager);
                else
                    (void)!cp_pager_close(pager);
            }
            fired = fault_io_fired(b.faults) > 0;
            break_stop(&b);
            total++;
            pager = open_store(store_path());
            for (unsigned i = 0; i < COUNT; i++) {
                bool good = check_page(pager, first + i, 2) ||
                            (code != 0 && check_page(pager, first + i, 1));
                if (!good)
                    fail_msg("class %u, call %llu: page %u is lost", c, (unsigned long long)nth, i);
            }
            uint64_t synced_end = first + COUNT;
            int64_t bad = cp_pager_check(pager, report_old, NULL, &synced_end);
            assert_true(bad == 0 || (bad > 0 && code != 0));
            assert_ok(cp_pager_close(pager));
        }
    }
    print_message("%u faults\n", total);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(growth_enospc_changes_nothing_and_can_be_repeated),
        cmocka_unit_test(write_error_in_sync_keeps_everything_and_sync_repeats),
        cmocka_unit_test(failed_sync_is_sticky_until_reopened),
        cmocka_unit_test(first_write_needs_its_unclean_superblock),
        cmocka_unit_test(read_error_is_reported_and_passes),
        cmocka_unit_test(creation_fault_sweep_leaves_nothing),
        cmocka_unit_test(fault_sweep_loses_nothing),
    };
    int failed = RUN_ENGINE(CP_ENGINE_POOL, tests);
    return failed + RUN_ENGINE(CP_ENGINE_MMAP, tests);
}
