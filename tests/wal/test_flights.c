/* SPDX-License-Identifier: MIT */
/*
 * Several writes of the log under way: in which order they count, what a failure or a crash leaves,
 * where fillers stand. The backend below holds writes back, and looks whether two touch one unit.
 */
#include "image.h"
#include "internal.h"

#include <sched.h>

#define HELD_MAX   16u
#define ACTIVE_MAX 8u
#define UNDECIDED  1

/* ---- a backend that holds writes back ---------------------------------------------------------
 */

struct active {
    int fd;
    uint64_t begin, end;
};

static struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool holding;
    unsigned arrived;          /* writes, in the order in which they came */
    int verdict[HELD_MAX];     /* UNDECIDED; 0: carry it out; else fail with it, nothing written */
    uint64_t offset[HELD_MAX]; /* of each, in its file */
    uint32_t unit_bytes;
    struct active active[ACTIVE_MAX];
    unsigned active_count, active_most;
    bool touched, two_files; /* writes under way at once: in one unit; in two files */
} gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* Two writes under way at once must not touch the same unit. Under the gate's lock. */
static void note_begin(int fd, uint64_t begin, uint64_t end)
{
    begin = begin / gate.unit_bytes * gate.unit_bytes;
    end = (end + gate.unit_bytes - 1) / gate.unit_bytes * gate.unit_bytes;
    for (unsigned i = 0; i < gate.active_count; i++) {
        const struct active *other = &gate.active[i];
        gate.touched |= other->fd == fd && begin < other->end && other->begin < end;
        gate.two_files |= other->fd != fd;
    }
    if (gate.active_count < ACTIVE_MAX)
        gate.active[gate.active_count++] = (struct active){fd, begin, end};
    if (gate.active_count > gate.active_most)
        gate.active_most = gate.active_count;
}

static void note_end(int fd, uint64_t begin)
{
    begin = begin / gate.unit_bytes * gate.unit_bytes;
    for (unsigned i = 0; i < gate.active_count; i++) {
        if (gate.active[i].fd == fd && gate.active[i].begin == begin) {
            gate.active[i] = gate.active[--gate.active_count];
            return;
        }
    }
}

static ssize_t gated_writev(void *ctx, int fd, const struct iovec *iov, int iov_count,
                            uint64_t offset)
{
    uint64_t end = offset;
    ssize_t result = 0;
    for (int i = 0; i < iov_count; i++)
        end += iov[i].iov_len;
    bool log = end - offset < SEGMENT && gate.unit_bytes != 0; /* not the filling of a file */
    pthread_mutex_lock(&gate.lock);
    if (log)
        note_begin(fd, offset, end);
    if (log && gate.holding && gate.arrived < HELD_MAX) {
        unsigned number = gate.arrived++;
        gate.offset[number] = offset;
        pthread_cond_broadcast(&gate.changed);
        while (gate.verdict[number] == UNDECIDED)
            pthread_cond_wait(&gate.changed, &gate.lock);
        result = gate.verdict[number];
    }
    pthread_mutex_unlock(&gate.lock);
    if (result == 0)
        result = cp_io_backend_sync()->writev(ctx, fd, iov, iov_count, offset);
    pthread_mutex_lock(&gate.lock);
    if (log)
        note_end(fd, offset);
    pthread_mutex_unlock(&gate.lock);
    return result;
}

static void gate_hold(void)
{
    pthread_mutex_lock(&gate.lock);
    gate.holding = true;
    gate.arrived = 0;
    for (unsigned i = 0; i < HELD_MAX; i++)
        gate.verdict[i] = UNDECIDED;
    pthread_mutex_unlock(&gate.lock);
}

static void gate_await(unsigned count)
{
    pthread_mutex_lock(&gate.lock);
    while (gate.arrived < count)
        pthread_cond_wait(&gate.changed, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
}

static void gate_decide(unsigned number, int code)
{
    pthread_mutex_lock(&gate.lock);
    gate.verdict[number] = code;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
}

static void gate_let_go(void)
{
    pthread_mutex_lock(&gate.lock);
    gate.holding = false;
    for (unsigned i = 0; i < HELD_MAX; i++) {
        if (gate.verdict[i] == UNDECIDED)
            gate.verdict[i] = 0;
    }
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
}

static void start_gated(struct subject *s, enum cp_wal_sync sync, enum cp_io_caching caching,
                        uint32_t unit_bytes)
{
    static struct cp_io_backend backend;
    backend = *cp_io_backend_sync();
    backend.writev = gated_writev;
    gate.unit_bytes = 0;
    create_log_on(s, &backend, unit_bytes / 512 * SEGMENT);
    s->options.sync = sync;
    s->options.caching = caching;
    open_log(s);
    s->wal->unit_bytes = unit_bytes;
    start_log(s);
    gate.unit_bytes = s->wal->unit_bytes;
    gate.active_count = gate.active_most = 0;
    gate.touched = gate.two_files = false;
}

/* ---- callers ----------------------------------------------------------------------------------
 */

struct caller {
    pthread_t thread;
    struct subject *s;
    cp_lsn end;
    int code;
    _Atomic bool returned;
};

static void *flush_end(void *argument)
{
    struct caller *c = argument;
    c->code = cp_wal_flush(c->s->wal, c->end);
    atomic_store(&c->returned, true);
    return NULL;
}

/* Append group `number` of a writer, and have a thread of its own make it durable. */
static void call(struct caller *c, struct subject *s, uint64_t writer, uint64_t number,
                 uint32_t size_bytes)
{
    *c = (struct caller){.s = s};
    assert_int_equal(append_group(s->wal, writer, number, size_bytes, &c->end), 0);
    assert_int_equal(pthread_create(&c->thread, NULL, flush_end, c), 0);
}

static int join(struct caller *c)
{
    pthread_join(c->thread, NULL);
    return c->code;
}

static void await_waiters(struct cp_wal *wal, unsigned count)
{
    for (unsigned found = 0; found != count; sched_yield()) {
        found = 0;
        pthread_mutex_lock(&wal->flush_lock);
        for (unsigned i = 0; i < CP_WAL__QUEUES; i++)
            found += wal->queues[i].waiter_count;
        pthread_mutex_unlock(&wal->flush_lock);
    }
}

static void await_landed(struct cp_wal *wal, uint64_t number)
{
    for (bool landed = false; !landed; sched_yield()) {
        pthread_mutex_lock(&wal->flush_lock);
        landed = wal->flights[number % CP_WAL__FLIGHTS_MAX].landed;
        pthread_mutex_unlock(&wal->flush_lock);
    }
}

/*
 * Three callers: the first's write is done; the second's and the third's are under way beside each
 * other, held back as writes 1 and 2, flights 1 and 2. sizes: of the groups' data.
 */
static void launch_two(struct subject *s, struct caller c[3], const uint32_t sizes[3])
{
    gate_hold();
    call(&c[0], s, 0, 0, sizes[0]);
    gate_await(1);
    call(&c[1], s, 1, 0, sizes[1]);
    await_waiters(s->wal, 1); /* so the next flight is worth a filler */
    gate_decide(0, 0);
    assert_int_equal(join(&c[0]), 0);
    gate_await(2);
    call(&c[2], s, 2, 0, sizes[2]);
    gate_await(3);
}

static const uint32_t SMALL[3] = {100, 100, 100};
static const enum cp_io_caching CACHING[2] = {CP_IO_DIRECT_IF_POSSIBLE, CP_IO_BUFFERED};

/* ---- order ------------------------------------------------------------------------------------
 */

static void flights_later_landing_first_waits_for_earlier(void **state)
{
    struct subject s;
    struct caller c[3];
    struct found found;
    struct cp_wal_stats stats;
    (void)state;
    for (unsigned round = 0; round < 2; round++) {
        start_gated(&s, CP_WAL_SYNC_DSYNC, CACHING[round], 512);
        launch_two(&s, c, SMALL);
        assert_int_equal(cp_wal_durable(s.wal), c[0].end);
        gate_decide(2, 0);
        await_landed(s.wal, 2);
        await_waiters(s.wal, 1); /* its caller: for the flight before */
        assert_int_equal(cp_wal_durable(s.wal), c[0].end);
        assert_false(atomic_load(&c[2].returned));
        gate_let_go();
        assert_int_equal(join(&c[1]), 0);
        assert_int_equal(join(&c[2]), 0);
        assert_true(cp_wal_durable(s.wal) >= c[2].end);
        cp_wal_stats(s.wal, &stats);
        assert_int_equal(stats.flights_beside, 1);
        assert_int_equal(stats.flights_most, 2);
        assert_int_equal(stats.flushes, 3);
        assert_int_equal(stats.groups, 3); /* fillers are none */
        assert_true(stats.filler_bytes >= 16 && stats.filler_bytes < 2 * 512);
        assert_int_equal(gate.active_most, 2);
        assert_false(gate.touched);
        reopen(&s, &found);
        assert_int_equal(found.groups, 3);
        destroy_log(&s);
    }
}

/* Where a failure may be told to another write, what has landed counts when all beside it have. */
static void flights_earlier_counts_by_itself_with_direct_writes_only(void **state)
{
    struct subject s;
    struct caller c[3];
    (void)state;
    for (unsigned round = 0; round < 2; round++) {
        start_gated(&s, CP_WAL_SYNC_DSYNC, CACHING[round], 512);
        bool alone = s.wal->direct;
        launch_two(&s, c, SMALL);
        gate_decide(1, 0);
        await_landed(s.wal, 1);
        if (alone) {
            assert_int_equal(join(&c[1]), 0);
        } else {
            await_waiters(s.wal, 1);
            assert_int_equal(cp_wal_durable(s.wal), c[0].end);
        }
        gate_decide(2, -EIO);
        if (!alone)
            assert_int_equal(join(&c[1]), -EIO);
        assert_int_equal(join(&c[2]), -EIO);
        gate_let_go();
        assert_true(cp_wal_durable(s.wal) < c[2].end);
        destroy_log(&s);
    }
}

static void flights_failure_of_earlier_fails_both(void **state)
{
    struct subject s;
    struct caller c[3];
    cp_lsn end;
    (void)state;
    for (unsigned first = 1; first <= 2; first++) { /* which of them ends first */
        start_gated(&s, CP_WAL_SYNC_DSYNC, CP_IO_DIRECT_IF_POSSIBLE, 512);
        launch_two(&s, c, SMALL);
        gate_decide(first, first == 1 ? -EIO : 0);
        await_landed(s.wal, first);
        gate_decide(3 - first, first == 1 ? 0 : -EIO);
        assert_int_equal(join(&c[1]), -EIO);
        assert_int_equal(join(&c[2]), -EIO);
        gate_let_go();
        assert_int_equal(cp_wal_durable(s.wal), c[0].end);
        assert_int_equal(append_group(s.wal, 0, 1, 10, &end), CP_EFAILED);
        assert_int_equal(cp_wal_flush(s.wal, c[1].end), CP_EFAILED);
        destroy_log(&s);
    }
}

/* ---- what a crash leaves ----------------------------------------------------------------------
 */

/*
 * The later flight is on the disk, the earlier is not: the log ends before the earlier, and what
 * stands behind never turns up, whatever the next sessions write.
 */
static void flights_hole_is_the_end(void **state)
{
    struct subject s;
    struct caller c[3];
    struct found found;
    const uint32_t sizes[3] = {100, 700, 700};
    (void)state;
    for (unsigned more = 0; more < 12; more++) { /* groups of the next session */
        uint32_t unit_bytes = more % 2 == 0 ? 512 : 4096;
        start_gated(&s, CP_WAL_SYNC_DSYNC, CP_IO_DIRECT_IF_POSSIBLE, 512);
        launch_two(&s, c, sizes);
        gate_decide(2, 0);
        await_landed(s.wal, 2);
        gate_decide(1, -EIO); /* it has never been written */
        assert_int_equal(join(&c[1]), -EIO);
        assert_int_equal(join(&c[2]), -EIO);
        gate_let_go();
        reopen(&s, &found);
        assert_int_equal(found.groups, 1);
        assert_int_equal(s.end, c[0].end);
        s.wal->unit_bytes = unit_bytes;
        start_log(&s);
        for (uint64_t i = 1; i <= more; i++) {
            cp_lsn end;
            assert_int_equal(append_group(s.wal, 0, i, 150, &end), 0);
            assert_int_equal(cp_wal_flush(s.wal, end), 0);
        }
        reopen(&s, &found);
        assert_int_equal(found.next[0], 1 + more);
        assert_int_equal(found.groups, 1 + more);
        start_log(&s); /* and one more, which begins wherever that one ended */
        reopen(&s, &found);
        assert_int_equal(found.groups, 1 + more);
        destroy_log(&s);
    }
}

/* ---- fillers ----------------------------------------------------------------------------------
 */

static void flights_one_thread_fills_nothing(void **state)
{
    struct subject s;
    struct cp_wal_stats stats;
    uint64_t bytes = 16, groups = 0;
    (void)state;
    create_log(&s, SEGMENT);
    s.options.sync = CP_WAL_SYNC_DSYNC;
    open_log(&s);
    start_log(&s);
    for (uint32_t size = 0; size < 1000; size += 8, groups++) { /* some end at a block's end */
        cp_lsn end;
        assert_int_equal(append_group(s.wal, 0, groups, size, &end), 0);
        assert_int_equal(cp_wal_flush(s.wal, end), 0);
        bytes += group_size(size);
    }
    cp_wal_stats(s.wal, &stats);
    assert_int_equal(stats.filler_bytes, 0);
    assert_int_equal(stats.flights_beside, 0);
    assert_int_equal(stats.flights_most, 1);
    assert_int_equal(stats.appended_bytes, bytes);
    assert_int_equal(stats.flushes, groups);
    destroy_log(&s);
}

/* Data so that a group of it which begins at a position ends `rest` bytes before a unit's end. */
static uint32_t size_before_end(cp_lsn start, uint32_t unit_bytes, uint32_t rest)
{
    uint32_t payload = unit_bytes / 512 * 488;
    /* Log positions begin at block 1 of the first segment: units are counted from block 0. */
    uint32_t at = (uint32_t)(start % payload), size = 0;
    while ((at + group_size(size) + rest) % payload != 0 || group_size(size) < payload)
        size += 8;
    return size;
}

/* A filler ends at a unit's end, is a header long at least, and is read back as nothing. */
static void flights_filler_reaches_the_end_of_a_unit(void **state)
{
    static const uint32_t rests[] = {0, 8, 16, 24, 480, 488, 496, 3416};
    struct subject s;
    struct caller c[3];
    struct found found;
    struct cp_wal_stats before, after;
    (void)state;
    for (uint32_t unit = 512; unit <= 4096; unit *= 8) {
        for (unsigned i = 0; i < sizeof rests / sizeof *rests; i++) {
            uint32_t payload = unit / 512 * 488, rest = rests[i];
            if (rest >= payload)
                continue;
            start_gated(&s, CP_WAL_SYNC_DSYNC, CP_IO_DIRECT_IF_POSSIBLE, unit);
            cp_wal_stats(s.wal, &before);
            uint32_t sizes[3] = {100, 0, 100};
            sizes[1] = size_before_end(before.end + group_size(100), unit, rest);
            launch_two(&s, c, sizes);
            assert_int_equal(c[1].end % payload, (payload - rest) % payload);
            uint32_t expected = rest == 0 || rest >= 16 ? rest : rest + payload;
            assert_int_equal(c[2].end - group_size(100) - c[1].end, expected);
            gate_let_go();
            assert_int_equal(join(&c[1]), 0);
            assert_int_equal(join(&c[2]), 0);
            cp_wal_stats(s.wal, &after);
            assert_int_equal(after.flights_beside, 1);
            assert_false(gate.touched);
            struct image image;
            image_take(&image, s.directory);
            /* Whatever begins a block and has no record is longer than the beginning of a session.
             */
            for (uint64_t b = 2; rest >= 488 && b < 20; b++) {
                struct cp_wal__group_header header;
                const struct cp_wal__block *block = image_block(&image, b, unit / 512 * SEGMENT);
                memcpy(&header, block->payload, sizeof header);
                assert_false(block->first_group == 0 && header.record_count == 0 &&
                             header.length == 16);
            }
            image_free(&image);
            reopen(&s, &found);
            assert_int_equal(found.groups, 3);
            start_log(&s);
            reopen(&s, &found);
            assert_int_equal(found.groups, 3);
            destroy_log(&s);
        }
    }
}

/* What a filler holds must be zeros: no checksum but the block's covers it. */
static void flights_filler_of_other_bytes_is_damage(void **state)
{
    struct subject s;
    struct caller c[3];
    struct image image;
    (void)state;
    start_gated(&s, CP_WAL_SYNC_DSYNC, CP_IO_DIRECT_IF_POSSIBLE, 512);
    launch_two(&s, c, SMALL);
    gate_let_go();
    assert_int_equal(join(&c[1]), 0);
    assert_int_equal(join(&c[2]), 0);
    close_log(&s);
    image_take(&image, s.directory);
    struct cp_wal__block *block = image_block(&image, c[1].end / 488, SEGMENT);
    assert_int_equal(block->payload[487], 0);
    block->payload[487] = 1;
    cp_wal__seal_block(block, STORE_ID);
    image_put(&image, s.directory);
    image_free(&image);
    open_log(&s);
    assert_int_equal(cp_wal_scan(s.wal, s.first, NULL, NULL, &s.end), CP_EDAMAGED);
    destroy_log(&s);
}

/* Somebody had to wait, and yet the next flight is not filled: its leader keeps the role. */
static void expect_no_filler(struct subject *s)
{
    struct caller c[2];
    struct cp_wal_stats stats;
    gate_hold();
    call(&c[0], s, 0, 0, 100);
    gate_await(1);
    call(&c[1], s, 1, 0, 100);
    await_waiters(s->wal, 1);
    gate_decide(0, 0);
    assert_int_equal(join(&c[0]), 0);
    gate_await(2);
    pthread_mutex_lock(&s->wal->flush_lock);
    bool leading = s->wal->leading;
    pthread_mutex_unlock(&s->wal->flush_lock);
    gate_let_go();
    assert_int_equal(join(&c[1]), 0);
    cp_wal_stats(s->wal, &stats);
    assert_true(leading);
    assert_int_equal(stats.filler_bytes, 0);
}

/* A filler as long as what the flight carries, or a block, is the most. */
static void flights_long_filler_does_not_pay(void **state)
{
    struct subject s;
    (void)state;
    start_gated(&s, CP_WAL_SYNC_DSYNC, CP_IO_DIRECT_IF_POSSIBLE, 4096);
    expect_no_filler(&s);
    destroy_log(&s);
}

/* Where flights serve many for each processor, another beside them would only cost. */
static void flights_large_ones_go_alone(void **state)
{
    struct subject s;
    (void)state;
    start_gated(&s, CP_WAL_SYNC_DSYNC, CP_IO_DIRECT_IF_POSSIBLE, 512);
    s.wal->riders_max = 0;
    expect_no_filler(&s);
    destroy_log(&s);
}

/* ---- segments ---------------------------------------------------------------------------------
 */

/* A flight that enters another segment writes there only when it is alone. */
static void flights_other_segment_is_entered_alone(void **state)
{
    struct subject s;
    struct caller c[3];
    struct found found;
    uint64_t number = 0;
    cp_lsn end;
    (void)state;
    start_gated(&s, CP_WAL_SYNC_DSYNC, CP_IO_DIRECT_IF_POSSIBLE, 512);
    cp_lsn segment_end = cp_wal__segment_start(s.wal, 1);
    while (cp_wal_end(s.wal) + 4000 < segment_end) {
        assert_int_equal(append_group(s.wal, 3, number++, 700, &end), 0);
        assert_int_equal(cp_wal_flush(s.wal, end), 0);
    }
    assert_int_equal(cp_wal_prepare(s.wal, 16 * SEGMENT), 0);
    const uint32_t sizes[3] = {100, 100, 6000};
    launch_two(&s, c, sizes);
    gate_decide(2, 0); /* of the third: what lies in this segment, and then it waits */
    pthread_mutex_lock(&s.wal->flush_lock);
    assert_true(s.wal->leading);
    pthread_mutex_unlock(&s.wal->flush_lock);
    gate_decide(1, 0);
    assert_int_equal(join(&c[1]), 0);
    gate_let_go();
    assert_int_equal(join(&c[2]), 0);
    assert_false(gate.two_files);
    reopen(&s, &found);
    assert_int_equal(found.groups, number + 3);
    destroy_log(&s);
}

/* ---- many -------------------------------------------------------------------------------------
 */

#define THREADS 8u
#define ROUNDS  300u

struct committer {
    pthread_t thread;
    struct cp_wal *wal;
    uint64_t writer, random;
    int code;
    bool wrong;
};

static void *commit(void *argument)
{
    struct committer *c = argument;
    cp_lsn end = 0;
    for (uint64_t i = 0; i < ROUNDS && c->code == 0; i++) {
        uint32_t size_bytes =
            (uint32_t)(next_random(&c->random) % (next_random(&c->random) % 16 == 0 ? 3000 : 300));
        c->code = append_group(c->wal, c->writer, i, size_bytes, &end);
        if (c->code == 0)
            c->code = cp_wal_flush(c->wal, end);
        c->wrong |= c->code == 0 && cp_wal_durable(c->wal) < end;
    }
    return NULL;
}

static void flights_of_many_threads_keep_apart(void **state)
{
    struct subject s;
    struct found found;
    struct committer committers[THREADS];
    struct cp_wal_stats stats;
    uint64_t random = test_seed();
    (void)state;
    for (unsigned round = 0; round < 8; round++) {
        bool dsync = round < 4;
        start_gated(&s, dsync ? CP_WAL_SYNC_DSYNC : CP_WAL_SYNC_FDATASYNC, CACHING[round / 2 % 2],
                    round % 2 == 0 ? 512 : 4096);
        for (unsigned i = 0; i < THREADS; i++) {
            committers[i] = (struct committer){
                .wal = s.wal, .writer = i, .random = random + round * 1000 + i + 1};
            assert_int_equal(pthread_create(&committers[i].thread, NULL, commit, &committers[i]),
                             0);
        }
        for (unsigned i = 0; i < THREADS; i++)
            pthread_join(committers[i].thread, NULL);
        for (unsigned i = 0; i < THREADS; i++) {
            assert_int_equal(committers[i].code, 0);
            assert_false(committers[i].wrong);
        }
        cp_wal_stats(s.wal, &stats);
        print_message(
            "%llu groups, %llu flushes, %llu beside another, %llu at most, %llu of %llu "
            "bytes filler\n",
            (unsigned long long)stats.groups, (unsigned long long)stats.flushes,
            (unsigned long long)stats.flights_beside, (unsigned long long)stats.flights_most,
            (unsigned long long)stats.filler_bytes, (unsigned long long)stats.appended_bytes);
        assert_int_equal(stats.groups, THREADS * ROUNDS);
        if (!dsync || round % 2 == 0) /* in large units a filler rarely pays for such groups */
            assert_true(dsync == (stats.flights_beside > 0));
        assert_true(dsync == (stats.filler_bytes > 0)); /* an fdatasync covers others' writes */
        assert_true(stats.flights_most <= CP_WAL__FLIGHTS_MAX);
        assert_false(gate.touched);
        assert_false(gate.two_files);
        reopen(&s, &found);
        assert_int_equal(found.groups, THREADS * ROUNDS);
        destroy_log(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flights_later_landing_first_waits_for_earlier),
        cmocka_unit_test(flights_earlier_counts_by_itself_with_direct_writes_only),
        cmocka_unit_test(flights_failure_of_earlier_fails_both),
        cmocka_unit_test(flights_hole_is_the_end),
        cmocka_unit_test(flights_one_thread_fills_nothing),
        cmocka_unit_test(flights_filler_reaches_the_end_of_a_unit),
        cmocka_unit_test(flights_filler_of_other_bytes_is_damage),
        cmocka_unit_test(flights_long_filler_does_not_pay),
        cmocka_unit_test(flights_large_ones_go_alone),
        cmocka_unit_test(flights_other_segment_is_entered_alone),
        cmocka_unit_test(flights_of_many_threads_keep_apart),
    };
    return cmocka_run_group_tests_name("wal flights", tests, NULL, NULL);
}
