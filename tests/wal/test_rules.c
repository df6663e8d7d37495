/* SPDX-License-Identifier: MIT */
/*
 * The rules of durability, one test each. The same source is built against the log as it is, and
 * against one with a rule broken (wal/rules.h; CP_EXPECT_BREAKAGE), where the test passes only when
 * HOLDS finds the rule violated; any other failure, or none, is a failure of that test.
 */
#include "image.h"
#include "internal.h"

#ifdef CP_EXPECT_BREAKAGE
#define HOLDS(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("the broken rule was detected: %s\n", #condition);                              \
            fflush(stdout);                                                                        \
            remove_files(s.directory);                                                             \
            (void)!rmdir(s.directory);                                                             \
            _exit(0);                                                                              \
        }                                                                                          \
    } while (0)
#else
#define HOLDS(condition) assert_true(condition)
#endif

static void rules_commit_is_synced(void **state)
{
    struct subject s;
    cp_lsn end;
    (void)state;
    create_started(&s, SEGMENT);
    uint64_t syncs = fault_io_count(s.faults, FAULT_SYNC);
    assert_int_equal(append_group(s.wal, 0, 0, 10, &end), 0);
    assert_int_equal(cp_wal_flush(s.wal, end), 0);
    HOLDS(fault_io_count(s.faults, FAULT_SYNC) == syncs + 1);
    destroy_log(&s);

    struct cp_io_file_info info;
    create_log(&s, SEGMENT);
    s.options.sync = CP_WAL_SYNC_DSYNC;
    open_log(&s);
    start_log(&s);
    cp_io_file_info(s.wal->writing->file, &info);
    HOLDS((fcntl(info.fd, F_GETFL) & O_DSYNC) == O_DSYNC);
    destroy_log(&s);
}

static void rules_failed_sync_is_believed(void **state)
{
    struct subject s;
    cp_lsn end;
    (void)state;
    create_started(&s, SEGMENT);
    assert_int_equal(append_group(s.wal, 0, 0, 10, &end), 0);
    fault_io_reset(s.faults);
    fault_io_rule(s.faults, &(struct fault_rule){.on = FAULT_SYNC, .nth = 1, .code = -EIO});
    int code = cp_wal_flush(s.wal, end);
    HOLDS(code == -EIO && cp_wal_durable(s.wal) < end);
    destroy_log(&s);
}

static void rules_new_segment_is_in_its_directory(void **state)
{
    struct subject s;
    cp_lsn end = 0;
    (void)state;
    create_started(&s, SEGMENT);
    fault_io_reset(s.faults);
    for (uint64_t i = 0; i < 3; i++)
        assert_int_equal(append_group(s.wal, 0, i, 5000, &end), 0);
    HOLDS(fault_io_count(s.faults, FAULT_DIRECTORY_SYNC) == 1);
    destroy_log(&s);
}

static void rules_checksums_are_looked_at(void **state)
{
    struct subject s;
    struct found found;
    struct image image;
    cp_lsn end;
    (void)state;
    create_started(&s, SEGMENT);
    assert_int_equal(append_group(s.wal, 0, 0, 400, &end), 0);
    assert_int_equal(cp_wal_flush(s.wal, end), 0);
    close_log(&s);
    image_take(&image, s.directory);
    image_block(&image, 1, SEGMENT)->payload[300] ^= 1;
    image_put(&image, s.directory);
    image_free(&image);
    open_log(&s);
    int code = scan_log(&s, s.first, &found);
    HOLDS(code == CP_EDAMAGED);
    destroy_log(&s);
}

static void rules_old_epochs_are_not_replayed(void **state)
{
    struct subject s;
    struct found found;
    (void)state;
    create_started(&s, SEGMENT);
    leave_stale_blocks(&s);
    start_log(&s);
    fill_block(&s, 1, 0); /* up to the blocks of the session before */
    assert_int_equal(cp_wal_flush(s.wal, cp_wal_end(s.wal)), 0);
    close_log(&s);
    open_log(&s);
    int code = scan_log(&s, s.first, &found);
    HOLDS(code == 0 && found.groups == 1 && found.next[1] == 1 && !found.wrong);
    destroy_log(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_commit_is_synced),
        cmocka_unit_test(rules_failed_sync_is_believed),
        cmocka_unit_test(rules_new_segment_is_in_its_directory),
        cmocka_unit_test(rules_checksums_are_looked_at),
        cmocka_unit_test(rules_old_epochs_are_not_replayed),
    };
    int failed = cmocka_run_group_tests_name("wal rules", tests, NULL, NULL);
#ifdef CP_EXPECT_BREAKAGE
    printf("the broken rule went unnoticed\n");
    return failed != 0 ? failed : 1;
#else
    return failed;
#endif
}
