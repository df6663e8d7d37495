/* SPDX-License-Identifier: MIT */
/* A log's life: create, append, flush, read again; its limits; what it refuses. */
#include "helpers.h"
#include "internal.h"

#include <sys/wait.h>
#include <clockpool/base/checksum.h>

static void log_new_is_empty(void **state)
{
    struct subject s;
    struct found found;
    (void)state;
    create_log(&s, SEGMENT);
    open_log(&s);
    assert_int_equal(scan_log(&s, s.first, &found), 0);
    assert_int_equal(found.groups, 0);
    assert_int_equal(s.end, s.first);
    destroy_log(&s);
}

static void log_groups_come_back_in_order(void **state)
{
    static const uint32_t sizes[] = {0, 1, 7, 8, 100, 431, 432, 488, 500, 5000, 40000, 65000};
    struct subject s;
    struct found found;
    cp_lsn end = 0;
    (void)state;
    create_started(&s, SEGMENT);
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_int_equal(append_group(s.wal, 0, i, sizes[i], &end), 0);
    }
    assert_int_equal(cp_wal_end(s.wal), end);
    assert_true(cp_wal_durable(s.wal) < end);
    assert_int_equal(cp_wal_flush(s.wal, end), 0);
    assert_int_equal(cp_wal_durable(s.wal), end);
    for (unsigned session = 0; session < 3; session++) {
        reopen(&s, &found);
        assert_int_equal(found.next[0], 12);
        assert_int_equal(found.end, end);
        start_log(&s);
    }
    destroy_log(&s);
}

static void log_each_flush_survives(void **state)
{
    struct subject s;
    struct found found;
    cp_lsn end;
    uint64_t number = 0;
    (void)state;
    create_started(&s, SEGMENT);
    for (unsigned round = 0; round < 60; round++) {
        for (unsigned i = 0; i < 7; i++) {
            assert_int_equal(append_group(s.wal, 0, number++, (round * 37 + i * 91) % 900, &end),
                             0);
            assert_int_equal(cp_wal_flush(s.wal, end), 0);
        }
        reopen(&s, &found);
        assert_int_equal(found.next[0], number);
        start_log(&s);
    }
    destroy_log(&s);
}

static void log_buffer_wraps_and_fills(void **state)
{
    struct subject s;
    struct found found;
    struct cp_wal_stats stats;
    cp_lsn end = 0;
    uint64_t number = 0;
    (void)state;
    create_started(&s, SEGMENT * 16);
    /* Nobody flushes: appends must make their room themselves. */
    while (cp_wal_end(s.wal) < 5 * (uint64_t)BUFFER) {
        assert_int_equal(append_group(s.wal, 0, number, (uint32_t)(number * 331 % 50000), &end), 0);
        number++;
    }
    cp_wal_stats(s.wal, &stats);
    assert_true(stats.buffer_waits >= 4);
    assert_true(cp_wal_end(s.wal) - cp_wal_durable(s.wal) <= BUFFER);
    assert_int_equal(cp_wal_flush(s.wal, UINT64_MAX), 0);
    /* What has been taken leaves zeros: a word other than zero is a group that is complete. */
    for (uint32_t i = 0; i < BUFFER; i++)
        assert_int_equal(s.wal->ring[i], 0);
    reopen(&s, &found);
    assert_int_equal(found.next[0], number);
    destroy_log(&s);
}

static void log_largest_group_is_a_quarter_of_the_buffer(void **state)
{
    struct subject s;
    struct found found;
    struct cp_wal_stats stats;
    cp_lsn end, untouched = 5;
    (void)state;
    create_started(&s, SEGMENT); /* the group spans several segments */
    assert_int_equal(cp_wal_group_max(s.wal), BUFFER / 4);
    uint32_t largest = BUFFER / 4 - group_size(0);
    for (uint64_t i = 0; i < 9; i++) {
        end = cp_wal_end(s.wal);
        assert_int_equal(append_group(s.wal, 0, i, largest + 1, &untouched), CP_ETOOLARGE);
        assert_int_equal(untouched, 5);
        assert_int_equal(cp_wal_end(s.wal), end);
        assert_int_equal(append_group(s.wal, 0, i, largest, &end), 0);
    }
    assert_int_equal(cp_wal_flush(s.wal, end), 0);
    cp_wal_stats(s.wal, &stats);
    assert_int_equal(stats.end - stats.first, 9 * (uint64_t)(BUFFER / 4) + 16);
    reopen(&s, &found);
    assert_int_equal(found.next[0], 9);
    destroy_log(&s);
}

static int count_records(void *ctx, const struct cp_wal_group *group)
{
    uint32_t *out_count = ctx;
    for (uint32_t i = 0; i < group->record_count; i++)
        *out_count += group->records[i].page == i && group->records[i].data == NULL;
    return 0;
}

static void log_record_limits_are_checked(void **state)
{
    struct subject s;
    uint32_t count = 0;
    cp_lsn end;
    struct cp_wal_record *records = calloc(CP_WAL_GROUP_RECORDS_MAX + 1, sizeof *records);
    static uint8_t bytes[65537];
    (void)state;
    create_log(&s, SEGMENT);
    s.options.buffer_bytes = 8 << 20;
    open_log(&s);
    start_log(&s);
    for (uint32_t i = 0; i <= CP_WAL_GROUP_RECORDS_MAX; i++)
        records[i] = (struct cp_wal_record){.page = i, .type = 4};
    assert_int_equal(cp_wal_append(s.wal, records, CP_WAL_GROUP_RECORDS_MAX + 1, &end),
                     CP_ETOOLARGE);
    assert_int_equal(cp_wal_append(s.wal, records, 0, &end), -EINVAL);
    assert_int_equal(cp_wal_append(s.wal, records, CP_WAL_GROUP_RECORDS_MAX, &end), 0);
    struct cp_wal_record record = {.data = bytes, .size_bytes = 65536, .type = 1};
    assert_int_equal(cp_wal_append(s.wal, &record, 1, &end), 0);
    record.offset = 1;
    assert_int_equal(cp_wal_append(s.wal, &record, 1, &end), -EINVAL);
    record = (struct cp_wal_record){.data = bytes, .size_bytes = 65537, .type = 1};
    assert_int_equal(cp_wal_append(s.wal, &record, 1, &end), -EINVAL);
    record = (struct cp_wal_record){.data = bytes, .size_bytes = 1, .type = 0};
    assert_int_equal(cp_wal_append(s.wal, &record, 1, &end), -EINVAL);
    assert_int_equal(cp_wal_flush(s.wal, UINT64_MAX), 0);
    close_log(&s);
    open_log(&s);
    assert_int_equal(cp_wal_scan(s.wal, s.first, count_records, &count, &s.end), 0);
    assert_int_equal(count, CP_WAL_GROUP_RECORDS_MAX);
    free(records);
    destroy_log(&s);
}

static int stop_at_third(void *ctx, const struct cp_wal_group *group)
{
    (void)group;
    return ++*(unsigned *)ctx == 3 ? -ECANCELED : 0;
}

static void log_scan_begins_anywhere_and_stops_when_told(void **state)
{
    struct subject s;
    struct found found;
    cp_lsn ends[40];
    unsigned calls = 0;
    (void)state;
    create_started(&s, SEGMENT);
    for (unsigned i = 0; i < 40; i++) {
        /* Some ends fall on a block's boundary. */
        uint32_t rest = 488 - (uint32_t)(cp_wal_end(s.wal) % 488);
        uint32_t size_bytes = i % 3 == 0 && rest >= group_size(0) ? rest - group_size(0) : 333;
        assert_int_equal(append_group(s.wal, 0, i, size_bytes, &ends[i]), 0);
    }
    assert_int_equal(cp_wal_flush(s.wal, ends[39]), 0);
    close_log(&s);
    open_log(&s);
    for (unsigned i = 0; i < 40; i++) {
        memset(&found, 0, sizeof found);
        found.next[0] = i + 1;
        assert_int_equal(cp_wal_scan(s.wal, ends[i], visit_group, &found, &s.end), 0);
        assert_false(found.wrong);
        assert_int_equal(found.groups, 39 - i);
        assert_int_equal(s.end, ends[39]);
    }
    assert_int_equal(cp_wal_scan(s.wal, s.first, stop_at_third, &calls, &s.end), -ECANCELED);
    assert_int_equal(calls, 3);
    /* Where nothing can begin, and where the log does not reach. */
    assert_int_equal(cp_wal_scan(s.wal, 0, NULL, NULL, &s.end), -EINVAL);
    assert_int_equal(cp_wal_scan(s.wal, ends[3] + 1, NULL, NULL, &s.end), -EINVAL);
    assert_int_equal(cp_wal_scan(s.wal, ends[39] + 8, NULL, NULL, &s.end), CP_EDAMAGED);
    assert_int_equal(cp_wal_scan(s.wal, ends[39] + (1 << 20), NULL, NULL, &s.end), CP_ELOG);
    destroy_log(&s);
}

static void log_segments_are_used_again(void **state)
{
    struct subject s;
    struct found found;
    struct cp_wal_stats stats;
    cp_lsn end = 0, redo = 0;
    uint64_t number = 0, number_at_redo = 0;
    (void)state;
    create_started(&s, SEGMENT);
    for (unsigned round = 0; round < 60; round++) {
        for (unsigned i = 0; i < 12; i++)
            assert_int_equal(append_group(s.wal, 0, number++, 900, &end), 0);
        assert_int_equal(cp_wal_flush(s.wal, end), 0);
        redo = end;
        number_at_redo = number;
        cp_wal_trim(s.wal, redo);
        if (round % 7 == 6) {
            close_log(&s);
            open_log(&s);
            memset(&found, 0, sizeof found);
            found.next[0] = number_at_redo;
            assert_int_equal(cp_wal_scan(s.wal, redo, visit_group, &found, &s.end), 0);
            assert_false(found.wrong);
            assert_int_equal(found.groups, 0);
            start_log(&s);
            cp_wal_trim(s.wal, redo);
        }
        cp_wal_stats(s.wal, &stats);
        assert_true(stats.segment_count <= 4);
        assert_true(stats.first <= redo && redo - stats.first < 2 * SEGMENT);
        assert_int_equal(stats.disk_bytes, stats.segment_count * SEGMENT);
    }
    assert_true(stats.segments_recycled > 0);
    /* What has been trimmed cannot be read any more, and that is said. */
    close_log(&s);
    open_log(&s);
    assert_int_equal(cp_wal_scan(s.wal, s.first, NULL, NULL, &s.end), CP_ELOG);
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

static void log_prepare_makes_and_removes_files(void **state)
{
    struct subject s;
    struct found found;
    struct cp_wal_stats stats;
    cp_lsn end;
    (void)state;
    create_started(&s, SEGMENT);
    assert_int_equal(cp_wal_prepare(s.wal, 0), 0);
    cp_wal_stats(s.wal, &stats);
    assert_int_equal(stats.segment_count, 2);
    uint64_t syncs = fault_io_count(s.faults, FAULT_DIRECTORY_SYNC);
    for (uint64_t i = 0; i < 4; i++) /* fits into what has been prepared */
        assert_int_equal(append_group(s.wal, 0, i, 5000, &end), 0);
    assert_int_equal(fault_io_count(s.faults, FAULT_DIRECTORY_SYNC), syncs);
    for (uint64_t i = 4; i < 20; i++)
        assert_int_equal(append_group(s.wal, 0, i, 5000, &end), 0);
    assert_int_equal(cp_wal_flush(s.wal, end), 0);
    assert_true(count_files(s.directory) >= 8);
    cp_wal_trim(s.wal, end);
    assert_int_equal(cp_wal_prepare(s.wal, 5 * SEGMENT), 0);
    assert_int_equal(count_files(s.directory), 5);
    assert_int_equal(cp_wal_prepare(s.wal, 0), 0);
    cp_wal_stats(s.wal, &stats);
    assert_int_equal(count_files(s.directory), stats.segment_count);
    assert_true(stats.segment_count <= 3); /* where the end is, and the one ahead */
    close_log(&s);
    open_log(&s);
    memset(&found, 0, sizeof found);
    assert_int_equal(cp_wal_scan(s.wal, end, visit_group, &found, &s.end), 0);
    assert_int_equal(s.end, end);
    destroy_log(&s);
}

/* Nobody fills a disk by a length that cannot be meant. */
static void log_reserve_has_bounds(void **state)
{
    struct subject s;
    struct cp_wal_stats stats;
    (void)state;
    create_started(&s, SEGMENT);
    assert_int_equal(cp_wal_reserve(s.wal, UINT32_MAX), -EINVAL);
    assert_int_equal(cp_wal_reserve(s.wal, BUFFER + 1), -EINVAL);
    cp_wal_stats(s.wal, &stats);
    assert_int_equal(stats.segment_count, 1);
    assert_int_equal(cp_wal_reserve(s.wal, 0), 0);
    assert_int_equal(cp_wal_reserve(s.wal, BUFFER), 0);
    cp_lsn prepared = atomic_load(&s.wal->prepared);
    assert_in_range(prepared, cp_wal_end(s.wal) + BUFFER, cp_wal_end(s.wal) + BUFFER + SEGMENT);
    destroy_log(&s);
}

static void log_of_another_store_is_refused(void **state)
{
    struct subject s;
    struct cp_wal *wal = NULL;
    cp_lsn first;
    char path[128];
    (void)state;
    create_log(&s, SEGMENT);
    struct cp_wal_options options = {.store_id = STORE_ID + 1};
    assert_int_equal(cp_wal_open(s.io, s.directory, &options, &wal), CP_EFOREIGN);
    options.store_id = 0;
    assert_int_equal(cp_wal_open(s.io, s.directory, &options, &wal), -EINVAL);
    options = (struct cp_wal_options){.store_id = STORE_ID, .buffer_bytes = 300000};
    assert_int_equal(cp_wal_open(s.io, s.directory, &options, &wal), -EINVAL);
    assert_int_equal(cp_wal_create(s.io, s.directory, STORE_ID, 5000, 0, &first), -EINVAL);
    /* Files of other names are left alone, and a newer format is named as such. */
    struct cp_wal__segment_header header;
    snprintf(path, sizeof path, "%s/segment-1", s.directory);
    assert_int_equal(close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)), 0);
    open_log(&s);
    close_log(&s);
    assert_int_equal(access(path, F_OK), 0);
    snprintf(path, sizeof path, "%s/segment-00000001", s.directory);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    cp_wal__encode_segment(&header, STORE_ID, SEGMENT, 0);
    header.version++;
    header.checksum = cp_checksum(&header, 32, CP_WAL__MAGIC);
    assert_int_equal(pwrite(fd, &header, sizeof header, 0), sizeof header);
    close(fd);
    assert_int_equal(cp_wal_open(s.io, s.directory, &s.options, &wal), CP_EVERSION);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(cp_wal_open(s.io, s.directory, &s.options, &wal), CP_ELOG);
    assert_null(wal);
    destroy_log(&s);
}

static void log_read_only_is_read_only(void **state)
{
    struct subject s;
    struct found found;
    cp_lsn end;
    (void)state;
    create_started(&s, SEGMENT);
    assert_int_equal(append_group(s.wal, 0, 0, 10, &end), 0);
    assert_int_equal(cp_wal_flush(s.wal, end), 0);
    close_log(&s);
    s.options.read_only = true;
    open_log(&s);
    assert_int_equal(scan_log(&s, s.first, &found), 0);
    assert_int_equal(found.groups, 1);
    assert_int_equal(cp_wal_start(s.wal, s.end, 9), CP_EREADONLY);
    assert_int_equal(append_group(s.wal, 0, 1, 10, &end), CP_EREADONLY);
    destroy_log(&s);
}

static void log_start_refuses_used_epochs(void **state)
{
    struct subject s;
    struct found found;
    cp_lsn end;
    (void)state;
    create_log(&s, SEGMENT);
    open_log(&s);
    assert_int_equal(append_group(s.wal, 0, 0, 10, &end), -EINVAL); /* not started */
    assert_int_equal(cp_wal_start(s.wal, s.end, 0), -EINVAL);
    assert_int_equal(cp_wal_start(s.wal, s.end, 7), 0);
    assert_int_equal(cp_wal_start(s.wal, s.end, 8), -EINVAL);
    close_log(&s);
    open_log(&s);
    assert_int_equal(scan_log(&s, s.first, &found), 0);
    assert_int_equal(cp_wal_start(s.wal, s.end, 7), -EINVAL);
    assert_int_equal(cp_wal_start(s.wal, s.end, 8), 0);
    destroy_log(&s);
}

static void log_probe_chooses_a_method(void **state)
{
    struct subject s;
    struct found found;
    struct cp_wal_stats stats;
    struct cp_lsn_gate gate;
    cp_lsn end;
    (void)state;
    create_log(&s, SEGMENT);
    s.options.sync = CP_WAL_SYNC_PROBE;
    open_log(&s);
    cp_wal_stats(s.wal, &stats);
    assert_string_equal(stats.sync_method, "");
    start_log(&s);
    cp_wal_stats(s.wal, &stats);
    assert_true(stats.probe_dsync_us > 0 && stats.probe_fdatasync_us > 0);
    /* Between them O_DSYNC is taken when the writes are direct. */
    const uint32_t most_us = stats.probe_fdatasync_us + stats.probe_fdatasync_us / 4;
    if (stats.probe_dsync_us < stats.probe_fdatasync_us)
        assert_string_equal(stats.sync_method, "O_DSYNC");
    else if (stats.probe_dsync_us >= most_us)
        assert_string_equal(stats.sync_method, "fdatasync");
    print_message("O_DSYNC %u us, fdatasync %u us\n", stats.probe_dsync_us,
                  stats.probe_fdatasync_us);
    cp_wal_gate(s.wal, &gate);
    assert_int_equal(append_group(s.wal, 0, 0, 10, &end), 0);
    assert_true(gate.durable_lsn(gate.ctx) < end);
    assert_int_equal(gate.make_durable(gate.ctx, end), 0);
    assert_true(gate.durable_lsn(gate.ctx) >= end);
    cp_wal_stats(s.wal, &stats);
    assert_int_equal(stats.groups, 1);
    assert_int_equal(stats.records, 2);
    reopen(&s, &found);
    assert_int_equal(found.groups, 1);
    destroy_log(&s);
}

static void log_in_forked_child_is_refused(void **state)
{
    struct subject s;
    cp_lsn end;
    int status;
    (void)state;
    create_started(&s, SEGMENT);
    assert_int_equal(append_group(s.wal, 0, 0, 10, &end), 0);
    pthread_mutex_lock(&s.wal->flush_lock); /* as a thread that the child has not got */
    pthread_mutex_lock(&s.wal->segments_lock);
    pid_t child = fork();
    if (child == 0) {
        struct cp_wal_stats stats;
        alarm(20); /* ends a child that waits */
        cp_wal_stats(s.wal, &stats);
        bool right = stats.end == end && stats.segment_count == 0 &&
                     append_group(s.wal, 0, 1, 10, &end) == CP_EFORKED &&
                     cp_wal_flush(s.wal, end) == CP_EFORKED &&
                     cp_wal_prepare(s.wal, 0) == CP_EFORKED;
        _exit(right ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    pthread_mutex_unlock(&s.wal->segments_lock);
    pthread_mutex_unlock(&s.wal->flush_lock);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(cp_wal_flush(s.wal, end), 0);
    destroy_log(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log_new_is_empty),
        cmocka_unit_test(log_groups_come_back_in_order),
        cmocka_unit_test(log_each_flush_survives),
        cmocka_unit_test(log_buffer_wraps_and_fills),
        cmocka_unit_test(log_largest_group_is_a_quarter_of_the_buffer),
        cmocka_unit_test(log_record_limits_are_checked),
        cmocka_unit_test(log_scan_begins_anywhere_and_stops_when_told),
        cmocka_unit_test(log_segments_are_used_again),
        cmocka_unit_test(log_prepare_makes_and_removes_files),
        cmocka_unit_test(log_reserve_has_bounds),
        cmocka_unit_test(log_of_another_store_is_refused),
        cmocka_unit_test(log_read_only_is_read_only),
        cmocka_unit_test(log_start_refuses_used_epochs),
        cmocka_unit_test(log_probe_chooses_a_method),
        cmocka_unit_test(log_in_forked_child_is_refused),
    };
    return cmocka_run_group_tests_name("wal log", tests, NULL, NULL);
}
