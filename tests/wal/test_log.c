/* SPDX-License-Identifier: MIT */
/* A log's life: create, append, flush, read again; its limits; what it refuses. */
#include "helpers.h"

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
        if (group_size(sizes[i]) > cp_wal_group_max(s.wal))
            sizes[i] == 65000 ? (void)0 : fail();
        else
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log_new_is_empty),
        cmocka_unit_test(log_groups_come_back_in_order),
        cmocka_unit_test(log_each_flush_survives),
    };
    return cmocka_run_group_tests_name("wal log", tests, NULL, NULL);
}
