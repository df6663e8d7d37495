/* SPDX-License-Identifier: MIT */
/* Many threads append and flush at once; each one's groups come back complete and in order. */
#include "helpers.h"

#define THREADS 16u

struct worker {
    pthread_t thread;
    struct cp_wal *wal;
    uint64_t writer, count, random;
    uint64_t durable; /* groups that a flush said are durable */
    cp_lsn trimmed;
    int code;   /* what ended it */
    bool wrong; /* durable was not where it should have been; cmocka asserts in the main thread */
};

static void *work(void *argument)
{
    struct worker *w = argument;
    cp_lsn end = 0;
    for (uint64_t i = 0; i < w->count && w->code == 0; i++) {
        uint32_t size_bytes =
            (uint32_t)(next_random(&w->random) % (next_random(&w->random) % 16 == 0 ? 20000 : 300));
        w->code = append_group(w->wal, w->writer, i, size_bytes, &end);
        if (w->code == 0 && next_random(&w->random) % 4 != 0) {
            w->code = cp_wal_flush(w->wal, end);
            if (w->code == 0) {
                w->wrong |= cp_wal_durable(w->wal) < end;
                w->durable = i + 1;
            }
        }
    }
    return NULL;
}

static void run(struct subject *s, struct worker *workers, uint64_t count, uint64_t random)
{
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){
            .wal = s->wal, .writer = i, .count = count, .random = random + i * 1000 + 1};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(workers[i].thread, NULL);
    for (unsigned i = 0; i < THREADS; i++)
        assert_false(workers[i].wrong);
}

static void threads_groups_come_back_in_order(void **state)
{
    struct subject s;
    struct found found;
    struct worker workers[THREADS];
    struct cp_wal_stats stats;
    (void)state;
    uint64_t random = test_seed();
    for (unsigned round = 0; round < 2; round++) {
        create_log(&s, SEGMENT << (round * 2));
        s.options.sync = round == 0 ? CP_WAL_SYNC_FDATASYNC : CP_WAL_SYNC_DSYNC;
        s.options.caching = round == 0 ? CP_IO_BUFFERED : CP_IO_DIRECT_IF_POSSIBLE;
        open_log(&s);
        start_log(&s);
        run(&s, workers, 80, random);
        cp_wal_stats(s.wal, &stats);
        assert_true(stats.flushes <= stats.groups);
        print_message("%llu groups, %llu flushes, %llu waits for a flush, %llu for room\n",
                      (unsigned long long)stats.groups, (unsigned long long)stats.flushes,
                      (unsigned long long)stats.flush_waits,
                      (unsigned long long)stats.buffer_waits);
        cp_lsn durable = cp_wal_durable(s.wal);
        reopen(&s, &found);
        assert_true(s.end >= durable);
        for (unsigned i = 0; i < THREADS; i++) {
            assert_int_equal(workers[i].code, 0);
            assert_true(found.next[i] >= workers[i].durable && found.next[i] <= 80);
        }
        destroy_log(&s);
    }
}

/* Trimming, preparing and looking go on beside. */
static void *keep_house(void *argument)
{
    struct worker *w = argument;
    struct cp_wal_stats stats;
    while (__atomic_load_n(&w->count, __ATOMIC_ACQUIRE) != 0 && w->code == 0) {
        cp_wal_stats(w->wal, &stats);
        w->wrong |= stats.durable > stats.end;
        w->trimmed = cp_wal_durable(w->wal);
        cp_wal_trim(w->wal, w->trimmed);
        w->code = cp_wal_prepare(w->wal, 8 * SEGMENT);
    }
    return NULL;
}

static void threads_trim_and_prepare_beside_appends(void **state)
{
    struct subject s;
    struct worker workers[THREADS];
    struct worker house = {.count = 1};
    struct cp_wal_stats stats;
    (void)state;
    create_started(&s, SEGMENT);
    house.wal = s.wal;
    assert_int_equal(pthread_create(&house.thread, NULL, keep_house, &house), 0);
    run(&s, workers, 60, test_seed());
    __atomic_store_n(&house.count, 0, __ATOMIC_RELEASE);
    pthread_join(house.thread, NULL);
    assert_int_equal(house.code, 0);
    assert_false(house.wrong);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(workers[i].code, 0);
    cp_lsn durable = cp_wal_durable(s.wal);
    cp_wal_stats(s.wal, &stats);
    print_message("%llu files made, %llu used again\n", (unsigned long long)stats.segments_created,
                  (unsigned long long)stats.segments_recycled);
    close_log(&s);
    open_log(&s);
    assert_int_equal(cp_wal_scan(s.wal, house.trimmed, NULL, NULL, &s.end), 0);
    assert_true(s.end >= durable);
    destroy_log(&s);
}

static void threads_all_learn_of_failure(void **state)
{
    struct subject s;
    struct found found;
    struct worker workers[THREADS];
    struct cp_wal_stats stats;
    (void)state;
    create_started(&s, SEGMENT * 4);
    /* For ever: the first to meet it may be the making of a segment, which is not final. */
    fault_io_rule(s.faults, &(struct fault_rule){
                                .on = FAULT_SYNC, .nth = 30, .times = UINT64_MAX, .code = -EIO});
    run(&s, workers, 100000, test_seed());
    fault_io_reset(s.faults);
    unsigned with_code = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        assert_true(workers[i].code == -EIO || workers[i].code == CP_EFAILED);
        with_code += workers[i].code == -EIO;
    }
    assert_true(with_code >= 1);
    cp_lsn durable = cp_wal_durable(s.wal);
    cp_wal_stats(s.wal, &stats);
    if (stats.failed) /* else no segment could be made, and all that was appended is durable */
        assert_true(durable < cp_wal_end(s.wal));
    reopen(&s, &found);
    assert_true(s.end >= durable);
    for (unsigned i = 0; i < THREADS; i++)
        assert_true(found.next[i] >= workers[i].durable);
    destroy_log(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_groups_come_back_in_order),
        cmocka_unit_test(threads_trim_and_prepare_beside_appends),
        cmocka_unit_test(threads_all_learn_of_failure),
    };
    return cmocka_run_group_tests_name("wal threads", tests, NULL, NULL);
}
