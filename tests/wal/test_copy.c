/* SPDX-License-Identifier: MIT */
/* Copying a part of the log: the copy is a log that ends with the part, also while it grows. */
#include "helpers.h"

#include <stdatomic.h>

#define GROUPS      400u
#define LIVE_ROUNDS 12u

static char copy_directory[80];
static cp_lsn ends[GROUPS + 1]; /* of the groups of a log; ends[0]: where it begins */

static const char *fresh_copy(const struct subject *s)
{
    snprintf(copy_directory, sizeof copy_directory, "%s-copy", s->directory);
    remove_files(copy_directory);
    (void)!mkdir(copy_directory, 0700);
    return copy_directory;
}

static void remove_copy(void)
{
    remove_files(copy_directory);
    (void)!rmdir(copy_directory);
}

/* Open a copy read-only and scan it. found->next must say where the part begins. */
static int scan_copy(const struct subject *s, cp_lsn from, struct found *found)
{
    struct cp_wal_options options = {.store_id = STORE_ID, .read_only = true};
    struct cp_wal *wal;
    cp_lsn end;
    int code = cp_wal_open(s->io, copy_directory, &options, &wal);
    if (code != 0)
        return code;
    code = cp_wal_scan(wal, from, visit_group, found, &end);
    cp_wal_close(wal);
    return code;
}

/* GROUPS groups over several segments, in two sessions, closed. */
static void fill_log(struct subject *s)
{
    uint64_t random = test_seed();
    create_started(s, SEGMENT);
    ends[0] = s->first;
    for (uint32_t i = 0; i < GROUPS; i++) {
        uint32_t size_bytes = (uint32_t)(next_random(&random) % 300);
        assert_int_equal(append_group(s->wal, 0, i, size_bytes, &ends[i + 1]), 0);
        assert_int_equal(cp_wal_flush(s->wal, ends[i + 1]), 0);
        if (i == GROUPS / 2) {
            struct found found;
            reopen(s, &found);
            start_log(s);
        }
    }
    struct found found;
    reopen(s, &found);
    assert_int_equal(found.groups, GROUPS);
}

static void copy_any_part_holds_just_that(void **state)
{
    (void)state;
    struct subject s;
    uint64_t bytes = 0;
    fill_log(&s);
    uint64_t random = test_seed();
    for (unsigned round = 0; round < 60; round++) {
        uint32_t last = (uint32_t)(next_random(&random) % (GROUPS + 1));
        uint32_t first = last == 0 ? 0 : (uint32_t)(next_random(&random) % (last + 1));
        struct found found = {.next = {first}};
        assert_int_equal(cp_wal_copy(s.wal, ends[first], ends[last], fresh_copy(&s), &bytes), 0);
        assert_true(bytes >= SEGMENT && bytes % SEGMENT == 0);
        assert_int_equal(scan_copy(&s, ends[first], &found), 0);
        assert_false(found.wrong);
        assert_true(found.next[0] >= last);
        /* What shares the last block may come along; nothing of a later one. */
        uint64_t block_end = (ends[last] + CP_WAL__PAYLOAD - 1) / CP_WAL__PAYLOAD * CP_WAL__PAYLOAD;
        assert_true(found.end <= block_end);
    }
    remove_copy();
    destroy_log(&s);
}

/* A part that begins with a segment needs the block before it: the scan asks that for the epoch. */
static void copy_from_segment_start_can_be_read(void **state)
{
    (void)state;
    struct subject s;
    struct found found = {.groups = 0};
    uint64_t bytes = 0, number = 0;
    cp_lsn end = 0;
    const cp_lsn boundary = cp_wal__block_start(cp_wal__segment_blocks(SEGMENT));
    create_started(&s, SEGMENT);
    while (cp_wal_end(s.wal) < boundary) {
        uint32_t rest = CP_WAL__PAYLOAD - (uint32_t)(cp_wal_end(s.wal) % CP_WAL__PAYLOAD);
        assert_int_equal(append_group(s.wal, 0, number++, rest - group_size(0), &end), 0);
    }
    assert_int_equal(end, boundary);
    found.next[0] = number;
    assert_int_equal(append_group(s.wal, 0, number++, 100, &end), 0);
    assert_int_equal(cp_wal_flush(s.wal, end), 0);
    assert_int_equal(cp_wal_copy(s.wal, boundary, end, fresh_copy(&s), &bytes), 0);
    assert_int_equal(scan_copy(&s, boundary, &found), 0);
    assert_false(found.wrong);
    assert_int_equal(found.next[0], number);
    remove_copy();
    destroy_log(&s);
}

/* Flip a byte of the block that holds position. */
static void damage(const struct subject *s, cp_lsn position)
{
    struct cp_wal__segment_header header;
    const uint32_t blocks = cp_wal__segment_blocks(SEGMENT);
    const uint64_t block = cp_wal__block_of(position);
    for (uint32_t index = 0; index < FILES_MAX; index++) {
        char path[128];
        snprintf(path, sizeof path, "%s/segment-%08u", s->directory, index);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0)
            continue;
        assert_int_equal(pread(fd, &header, sizeof header, 0), sizeof header);
        if (header.number == block / blocks) {
            uint8_t byte;
            off_t at = (off_t)cp_wal__block_offset(block, blocks) + 30;
            assert_int_equal(pread(fd, &byte, 1, at), 1);
            byte ^= 0x10;
            assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        }
        close(fd);
    }
}

static void copy_damage_inside_is_told_outside_is_passed_over(void **state)
{
    (void)state;
    struct subject s;
    uint64_t bytes = 0;
    fill_log(&s);
    damage(&s, ends[GROUPS / 2]);
    assert_int_equal(cp_wal_copy(s.wal, s.first, ends[GROUPS], fresh_copy(&s), &bytes),
                     CP_EDAMAGED);
    assert_true(cp_error_info()->lsn <= ends[GROUPS / 2]);
    assert_true(cp_error_info()->lsn + CP_WAL__PAYLOAD > ends[GROUPS / 2]);
    struct found found = {.next = {0}};
    assert_int_equal(cp_wal_copy(s.wal, s.first, ends[GROUPS / 4], fresh_copy(&s), &bytes), 0);
    assert_int_equal(scan_copy(&s, s.first, &found), 0);
    assert_false(found.wrong);
    uint64_t from = GROUPS * 3 / 4;
    found = (struct found){.next = {from}};
    assert_int_equal(cp_wal_copy(s.wal, ends[from], ends[GROUPS], fresh_copy(&s), &bytes), 0);
    assert_int_equal(scan_copy(&s, ends[from], &found), 0);
    assert_false(found.wrong);
    assert_int_equal(found.next[0], GROUPS);
    remove_copy();
    destroy_log(&s);
}

static void copy_missing_segment_is_told(void **state)
{
    (void)state;
    struct subject s;
    uint64_t bytes = 0;
    fill_log(&s);
    assert_int_equal(cp_wal_copy(s.wal, ends[GROUPS] + 100 * SEGMENT, ends[GROUPS] + 200 * SEGMENT,
                                 fresh_copy(&s), &bytes),
                     CP_ELOG);
    assert_int_equal(cp_wal_copy(s.wal, ends[4], ends[3], fresh_copy(&s), &bytes), -EINVAL);
    remove_copy();
    destroy_log(&s);
}

/* ---- a log that grows -------------------------------------------------------------------------
 */

struct writer {
    struct cp_wal *wal;
    _Atomic bool stop;
    _Atomic uint64_t durable_groups;
};

static void *write_groups(void *ctx)
{
    struct writer *writer = ctx;
    uint64_t random = 7;
    for (uint64_t i = 0; !atomic_load_explicit(&writer->stop, memory_order_relaxed); i++) {
        cp_lsn end;
        assert_int_equal(
            append_group(writer->wal, 0, i, (uint32_t)(next_random(&random) % 2000), &end), 0);
        if (i % 3 == 0) {
            assert_int_equal(cp_wal_flush(writer->wal, end), 0);
            atomic_store_explicit(&writer->durable_groups, i + 1, memory_order_relaxed);
        }
    }
    return NULL;
}

/* Read to an end, as a backup does: an alarm about a part that was just being written is none once
 * the next attempt has got further. */
static cp_lsn scan_live(const struct subject *s, struct cp_wal **out_wal, struct found *found)
{
    struct cp_wal_options options = {.store_id = STORE_ID, .read_only = true};
    cp_lsn end, from = s->first, before = UINT64_MAX;
    memset(found, 0, sizeof *found);
    for (;;) {
        assert_int_equal(cp_wal_open(s->io, s->directory, &options, out_wal), 0);
        int code = cp_wal_scan(*out_wal, from, visit_group, found, &end);
        from = found->end != 0 ? found->end : from;
        if (code == 0 || from > before)
            return from;
        assert_true(code == CP_EDAMAGED || code == CP_ELOG);
        before = from;
        cp_wal_close(*out_wal);
    }
}

static void copy_of_a_growing_log_holds_what_was_durable(void **state)
{
    (void)state;
    struct subject s;
    struct writer writer = {.stop = false};
    pthread_t thread;
    uint64_t groups = 0, bytes = 0;
    create_started(&s, SEGMENT * 4);
    writer.wal = s.wal;
    assert_int_equal(pthread_create(&thread, NULL, write_groups, &writer), 0);
    for (unsigned round = 0; round < LIVE_ROUNDS; round++) {
        struct cp_wal *wal;
        struct found found;
        uint64_t durable = atomic_load_explicit(&writer.durable_groups, memory_order_relaxed);
        cp_lsn end = scan_live(&s, &wal, &found);
        assert_false(found.wrong);
        assert_true(found.next[0] >= durable);
        groups = found.next[0];
        assert_int_equal(cp_wal_copy(wal, s.first, end, fresh_copy(&s), &bytes), 0);
        cp_wal_close(wal);
        memset(&found, 0, sizeof found);
        assert_int_equal(scan_copy(&s, s.first, &found), 0);
        assert_false(found.wrong);
        assert_true(found.next[0] >= groups);
    }
    atomic_store_explicit(&writer.stop, true, memory_order_relaxed);
    pthread_join(thread, NULL);
    print_message("%llu groups in the last copy\n", (unsigned long long)groups);
    remove_copy();
    destroy_log(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copy_any_part_holds_just_that),
        cmocka_unit_test(copy_from_segment_start_can_be_read),
        cmocka_unit_test(copy_damage_inside_is_told_outside_is_passed_over),
        cmocka_unit_test(copy_missing_segment_is_told),
        cmocka_unit_test(copy_of_a_growing_log_holds_what_was_durable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
