/* SPDX-License-Identifier: MIT */
/* Full disks, failing writes and syncs, short transfers: at each call that a workload makes. */
#include "helpers.h"
#include "internal.h"

/* A rule whose calls are counted from now on. */
static void fault(struct fault_io *faults, const struct fault_rule *rule)
{
    fault_io_reset(faults);
    fault_io_rule(faults, rule);
}

static int flush_group(struct subject *s, uint64_t number, uint32_t size_bytes)
{
    cp_lsn end;
    int code = append_group(s->wal, 0, number, size_bytes, &end);
    return code != 0 ? code : cp_wal_flush(s->wal, end);
}

/* Failure is final: nothing is tried again, and what was durable stays. */
static void expect_failed(struct subject *s, cp_lsn durable)
{
    struct cp_wal_stats stats;
    cp_lsn end;
    uint64_t writes = fault_io_count(s->faults, FAULT_WRITE);
    uint64_t syncs = fault_io_count(s->faults, FAULT_SYNC);
    assert_int_equal(append_group(s->wal, 0, 99, 10, &end), CP_EFAILED);
    assert_int_equal(cp_wal_flush(s->wal, cp_wal_end(s->wal)), CP_EFAILED);
    assert_int_equal(cp_wal_flush(s->wal, durable), 0);
    assert_int_equal(cp_wal_prepare(s->wal, 0), CP_EFAILED);
    assert_int_equal(cp_wal_durable(s->wal), durable);
    assert_int_equal(fault_io_count(s->faults, FAULT_WRITE), writes);
    assert_int_equal(fault_io_count(s->faults, FAULT_SYNC), syncs);
    cp_wal_stats(s->wal, &stats);
    assert_true(stats.failed);
}

static void faults_write_or_sync_failure_is_final(void **state)
{
    static const struct {
        enum fault_class on;
        enum cp_wal_sync sync;
    } cases[] = {
        {FAULT_WRITE, CP_WAL_SYNC_FDATASYNC},
        {FAULT_SYNC, CP_WAL_SYNC_FDATASYNC},
        {FAULT_WRITE, CP_WAL_SYNC_DSYNC},
    };
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        struct subject s;
        struct found found;
        create_log(&s, SEGMENT);
        s.options.sync = cases[i].sync;
        open_log(&s);
        start_log(&s);
        for (uint64_t n = 0; n < 5; n++)
            assert_int_equal(flush_group(&s, n, 700), 0);
        cp_lsn durable = cp_wal_durable(s.wal);
        fault_io_reset(s.faults);
        fault(s.faults, &(struct fault_rule){.on = cases[i].on, .nth = 1, .code = -EIO});
        assert_int_equal(flush_group(&s, 5, 700), -EIO);
        expect_failed(&s, durable);
        reopen(&s, &found);
        assert_true(found.next[0] == 5 || found.next[0] == 6);
        start_log(&s);
        assert_int_equal(flush_group(&s, found.next[0], 10), 0);
        destroy_log(&s);
    }
}

/*
 * One call after the other fails, in a workload that makes, recycles and enters segments: a code is
 * told, or the call did not matter; and all that was said to be durable is there afterwards.
 */
static void sweep(enum fault_class on, int code, enum fault_effect effect)
{
    for (uint64_t nth = 1;; nth++) {
        struct subject s;
        struct found found;
        uint64_t done = 0;
        cp_lsn redo;
        create_log(&s, SEGMENT);
        s.options.caching = CP_IO_BUFFERED;
        fault(s.faults, &(struct fault_rule){.on = on, .nth = nth, .code = code, .effect = effect});
        int result = cp_wal_open(s.io, s.directory, &s.options, &s.wal);
        if (result == 0)
            result = cp_wal_scan(s.wal, s.first, NULL, NULL, &s.end);
        if (result == 0)
            result = cp_wal_start(s.wal, s.end, ++s.epoch);
        redo = s.first;
        uint64_t skipped = 0;
        for (unsigned i = 0; i < 28 && result == 0; i++) {
            result = flush_group(&s, done, 800);
            done += result == 0;
            if (i == 14) {
                redo = cp_wal_durable(s.wal);
                skipped = done;
                cp_wal_trim(s.wal, redo);
            }
            if (i == 20 && result == 0)
                result = cp_wal_prepare(s.wal, 2 * SEGMENT);
        }
        bool fired = fault_io_fired(s.faults) != 0;
        fault_io_reset(s.faults);
        if (result != 0 && result != code)
            fail_msg("class %d call %llu: %d", (int)on, (unsigned long long)nth, result);
        close_log(&s);
        open_log(&s);
        memset(&found, 0, sizeof found);
        found.next[0] = skipped;
        assert_int_equal(cp_wal_scan(s.wal, redo, visit_group, &found, &s.end), 0);
        assert_false(found.wrong);
        if (found.next[0] < done)
            fail_msg("class %d call %llu: lost", (int)on, (unsigned long long)nth);
        s.epoch++;
        start_log(&s);
        assert_int_equal(flush_group(&s, found.next[0], 10), 0);
        destroy_log(&s);
        if (!fired) {
            print_message("class %d, code %d: %llu calls\n", (int)on, code,
                          (unsigned long long)nth - 1);
            return;
        }
    }
}

static void faults_any_call_failing_loses_nothing(void **state)
{
    (void)state;
    sweep(FAULT_ANY, -EIO, FAULT_CODE);
    sweep(FAULT_WRITE, -ENOSPC, FAULT_CODE);
    sweep(FAULT_ANY, -EIO, FAULT_AFTER);
}

static void faults_short_writes_are_resumed(void **state)
{
    struct subject s;
    struct found found;
    (void)state;
    create_started(&s, SEGMENT);
    fault(s.faults,
          &(struct fault_rule){
              .on = FAULT_WRITE, .nth = 1, .times = 60, .effect = FAULT_SHORT, .bytes = 512});
    for (uint64_t n = 0; n < 20; n++)
        assert_int_equal(flush_group(&s, n, 3000), 0);
    assert_true(fault_io_fired(s.faults) > 10);
    fault_io_reset(s.faults);
    reopen(&s, &found);
    assert_int_equal(found.next[0], 20);
    destroy_log(&s);
}

static void faults_full_disk_at_append_leaves_nothing(void **state)
{
    struct subject s;
    struct found found;
    struct cp_wal_stats stats;
    uint64_t number = 0;
    cp_lsn end;
    int code = 0;
    (void)state;
    create_started(&s, SEGMENT);
    cp_lsn room = atomic_load(&s.wal->prepared);
    while (cp_wal_end(s.wal) + group_size(1000) <= room)
        assert_int_equal(flush_group(&s, number++, 1000), 0);
    /* The next group needs a segment, and making one fails. */
    for (unsigned i = 0; i < 3; i++) {
        end = cp_wal_end(s.wal);
        fault(s.faults, &(struct fault_rule){.on = FAULT_WRITE, .nth = 1, .code = -ENOSPC});
        cp_lsn untouched = 77;
        code = append_group(s.wal, 0, number, 1000, &untouched);
        assert_int_equal(code, -ENOSPC);
        assert_int_equal(untouched, 77);
        assert_int_equal(cp_wal_end(s.wal), end);
        assert_int_equal(cp_wal_flush(s.wal, UINT64_MAX), 0);
        cp_wal_stats(s.wal, &stats);
        assert_int_equal(stats.segment_count, 1); /* the half-made file is gone */
        assert_false(stats.failed);
        fault_io_reset(s.faults);
    }
    /* Smaller ones still fit; and with room again, all goes on. */
    assert_int_equal(flush_group(&s, number++, 0), 0);
    assert_int_equal(flush_group(&s, number++, 1000), 0);
    reopen(&s, &found);
    assert_int_equal(found.next[0], number);
    destroy_log(&s);
}

/* Room is asked for before anything is written, and the names of files that were not made are used
 * again: on a full disk the attempts go on for as long as it is full. */
static void faults_full_disk_is_noticed_before_a_segment_is_written(void **state)
{
    struct subject s;
    uint64_t number = 0;
    cp_lsn end;
    (void)state;
    create_started(&s, SEGMENT);
    cp_lsn room = atomic_load(&s.wal->prepared);
    while (cp_wal_end(s.wal) + group_size(1000) <= room)
        assert_int_equal(flush_group(&s, number++, 1000), 0);
    const uint32_t next = s.wal->next_index;
    fault(s.faults, &(struct fault_rule){
                        .on = FAULT_ALLOCATE, .nth = 1, .times = UINT64_MAX, .code = -ENOSPC});
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(append_group(s.wal, 0, number, 1000, &end), -ENOSPC);
        assert_int_equal(fault_io_count(s.faults, FAULT_WRITE), 0);
        assert_int_equal(s.wal->next_index, next);
    }
    fault_io_reset(s.faults);
    assert_int_equal(flush_group(&s, number++, 1000), 0);
    assert_int_equal(s.wal->next_index, next + 1);
    destroy_log(&s);
}

static unsigned count_files(const char *directory)
{
    unsigned count = 0;
    DIR *dir = opendir(directory);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

/* A file whose name cannot be made durable is given back: each attempt would leave another. */
static void faults_directory_sync_leaves_no_files(void **state)
{
    struct subject s;
    struct found found;
    uint64_t number = 0;
    cp_lsn end;
    (void)state;
    create_started(&s, SEGMENT);
    cp_lsn room = atomic_load(&s.wal->prepared);
    while (cp_wal_end(s.wal) + group_size(1000) <= room)
        assert_int_equal(flush_group(&s, number++, 1000), 0);
    fault(s.faults, &(struct fault_rule){
                        .on = FAULT_DIRECTORY_SYNC, .nth = 1, .times = UINT64_MAX, .code = -EIO});
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(append_group(s.wal, 0, number, 1000, &end), -EIO);
        assert_int_equal(cp_error_info()->code, -EIO);
        assert_int_equal(count_files(s.directory), 1);
    }
    fault_io_reset(s.faults);
    assert_int_equal(flush_group(&s, number++, 1000), 0);
    reopen(&s, &found);
    assert_int_equal(found.next[0], number);
    destroy_log(&s);
}

static void faults_unreadable_segment_is_an_error(void **state)
{
    struct subject s;
    struct found found;
    (void)state;
    create_started(&s, SEGMENT);
    assert_int_equal(flush_group(&s, 0, 100), 0);
    close_log(&s);
    open_log(&s);
    fault(s.faults, &(struct fault_rule){.on = FAULT_READ, .nth = 1, .code = -EIO});
    assert_int_equal(scan_log(&s, s.first, &found), -EIO);
    fault_io_reset(s.faults);
    fault(s.faults,
          &(struct fault_rule){.on = FAULT_READ,
                               .nth = 1,
                               .effect = FAULT_FLIP,
                               .bit = (CP_WAL__HEADER_BYTES + 513) * 8}); /* in the second block */
    assert_int_equal(scan_log(&s, s.first, &found), CP_EDAMAGED);
    fault_io_reset(s.faults);
    assert_int_equal(scan_log(&s, s.first, &found), 0);
    destroy_log(&s);
}

/*
 * A log of many segments is read with one on its way ahead of the other. Whatever call of that
 * fails once: all groups, or that code; and a bit that was turned is damage, wherever it was read.
 */
static void faults_in_reading_ahead_lose_and_invent_nothing(void **state)
{
    static const struct {
        enum fault_class on;
        enum fault_effect effect;
        int code, also;
    } cases[] = {
        {FAULT_ANY, FAULT_CODE, -EIO, -EIO},
        {FAULT_COMPLETION, FAULT_CODE, -EIO, -EIO},
        {FAULT_READ, FAULT_SHORT, 0, 0},
        {FAULT_READ, FAULT_FLIP, 0, CP_EDAMAGED},
    };
    struct subject s;
    struct found found;
    uint64_t number = 0, calls[4] = {0};
    (void)state;
    create_started(&s, SEGMENT);
    while (cp_wal_end(s.wal) - s.first < 12 * SEGMENT)
        assert_int_equal(flush_group(&s, number++, 800), 0);
    close_log(&s);
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (uint64_t nth = 1;; nth++) {
            open_log(&s);
            fault(s.faults, &(struct fault_rule){.on = cases[i].on,
                                                 .nth = nth,
                                                 .effect = cases[i].effect,
                                                 .code = cases[i].code,
                                                 .bit = (CP_WAL__HEADER_BYTES + 700) * 8});
            int code = scan_log(&s, s.first, &found);
            bool fired = fault_io_fired(s.faults) != 0;
            fault_io_reset(s.faults);
            cp_wal_close(s.wal);
            s.wal = NULL;
            if (!fired)
                break;
            calls[i]++;
            assert_true(code == 0 || code == cases[i].also);
            assert_false(found.wrong);
            if (code == 0)
                assert_int_equal(found.next[0], number);
        }
    }
    assert_true(calls[0] > 24 && calls[1] > 4 && calls[2] > 12); /* it did read ahead */
    open_log(&s);
    assert_int_equal(scan_log(&s, s.first, &found), 0);
    destroy_log(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_in_reading_ahead_lose_and_invent_nothing),
        cmocka_unit_test(faults_write_or_sync_failure_is_final),
        cmocka_unit_test(faults_any_call_failing_loses_nothing),
        cmocka_unit_test(faults_short_writes_are_resumed),
        cmocka_unit_test(faults_full_disk_at_append_leaves_nothing),
        cmocka_unit_test(faults_full_disk_is_noticed_before_a_segment_is_written),
        cmocka_unit_test(faults_directory_sync_leaves_no_files),
        cmocka_unit_test(faults_unreadable_segment_is_an_error),
    };
    return cmocka_run_group_tests_name("wal faults", tests, NULL, NULL);
}
