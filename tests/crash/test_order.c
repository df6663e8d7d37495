/* SPDX-License-Identifier: MIT */
/*
 * `clockpool-bench order`: counting on hand-made traces, where each answer is known, and on the
 * engines: none for pool and mmap, some for mmap in place.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <clockpool/base/checksum.h>
#include "crash/fuse_recorder.h"
#include "crash/image.h"
#include "order_count.h"
#include "order_work.h"
#include "scratch.h"

#define STORE_ID  UINT64_C(0x1122334455667788)
#define PAGE_SIZE 4096u
#define PAYLOAD   488u

/* ---- a trace by hand --------------------------------------------------------------------------
 */

struct hand {
    struct crash_trace *trace;
    uint32_t data, segment;
};

static void store_u64(unsigned char *at, uint64_t value)
{
    memcpy(at, &value, sizeof value);
}

static void store_u32(unsigned char *at, uint32_t value)
{
    memcpy(at, &value, sizeof value);
}

static void put(struct hand *hand, uint32_t file, uint64_t offset, const void *bytes, uint64_t size,
                unsigned flags)
{
    crash_trace_write_end(hand->trace,
                          crash_trace_write_begin(hand->trace, file, offset, bytes, size, flags));
}

static void flush(struct hand *hand, uint32_t file, int code)
{
    crash_trace_flush_end(hand->trace, crash_trace_flush_begin(hand->trace, file), code);
}

static struct hand begin(void)
{
    struct hand hand = {.trace = crash_trace_create()};
    unsigned char superblock[4096] = {0};
    crash_trace_baseline(hand.trace);
    crash_trace_mkdir(hand.trace, ".store.tmp-1");
    hand.data = crash_trace_create_file(hand.trace, ".store.tmp-1/data");
    crash_trace_mkdir(hand.trace, ".store.tmp-1/wal");
    hand.segment = crash_trace_create_file(hand.trace, ".store.tmp-1/wal/segment-00000000");
    memcpy(superblock, "CLOCKPL1", 8);
    store_u32(superblock + 16, PAGE_SIZE);
    store_u64(superblock + 24, STORE_ID);
    put(&hand, hand.data, 0, superblock, sizeof superblock, 0);
    crash_trace_rename(hand.trace, ".store.tmp-1", "store");
    crash_trace_mark(hand.trace, CRASH_MARK_CREATED, 0, 0, 0);
    return hand;
}

static void make_block(unsigned char *block, uint64_t number, uint32_t epoch, uint16_t used)
{
    memset(block, 0x5a, 512);
    store_u32(block + 4, epoch);
    store_u64(block + 8, number);
    store_u32(block + 16, 0);
    memcpy(block + 20, &used, sizeof used);
    store_u32(block, (uint32_t)cp_checksum(block + 4, 508, STORE_ID));
}

/* Write count blocks from number on, full but for the last. */
static void log_blocks(struct hand *hand, uint64_t number, unsigned count, uint16_t last_used,
                       uint32_t epoch, unsigned flags)
{
    unsigned char blocks[8 * 512];
    assert_true(count <= 8);
    for (unsigned i = 0; i < count; i++)
        make_block(blocks + i * 512u, number + i, epoch, i + 1 < count ? PAYLOAD : last_used);
    put(hand, hand->segment, 4096 + (number % 24) * 512, blocks, count * 512u, flags);
}

static void make_page(unsigned char *page, uint64_t number, uint64_t lsn)
{
    memset(page, (int)number, PAGE_SIZE);
    store_u64(page + PAGE_SIZE - 32, lsn);
    store_u64(page + PAGE_SIZE - 24, number);
    store_u64(page + PAGE_SIZE - 16, STORE_ID);
    store_u64(page + PAGE_SIZE - 8, cp_checksum(page, PAGE_SIZE - 8, STORE_ID));
}

static void page(struct hand *hand, uint64_t number, uint64_t lsn)
{
    unsigned char bytes[PAGE_SIZE];
    make_page(bytes, number, lsn);
    put(hand, hand->data, number * PAGE_SIZE, bytes, sizeof bytes, 0);
}

static struct order_counts end(struct hand *hand)
{
    struct order_counts counts;
    assert_int_equal(order_count(hand->trace, &counts), 0);
    crash_trace_destroy(hand->trace);
    return counts;
}

static uint64_t lsn_of(uint64_t block, uint64_t used)
{
    return block * PAYLOAD + used;
}

static void order_page_is_ahead_until_its_block_is_flushed(void **state)
{
    (void)state;
    struct hand hand = begin();
    page(&hand, 40, 0);             /* needs no log */
    page(&hand, 41, lsn_of(1, 10)); /* nothing is written: ahead by all of it */
    log_blocks(&hand, 1, 1, 100, 1, 0);
    page(&hand, 41, lsn_of(1, 100)); /* written, not flushed */
    flush(&hand, hand.data, 0);      /* another file's flush is none */
    page(&hand, 41, lsn_of(1, 100));
    flush(&hand, hand.segment, -5); /* nor is one that failed */
    page(&hand, 41, lsn_of(1, 100));
    flush(&hand, hand.segment, 0);
    page(&hand, 41, lsn_of(1, 100)); /* now it is */
    page(&hand, 42, lsn_of(1, 108)); /* 8 bytes beyond */
    struct order_counts counts = end(&hand);
    assert_int_equal(counts.page_writes, 7);
    assert_int_equal(counts.ahead_of_log, 5);
    assert_int_equal(counts.max_lag_bytes, lsn_of(1, 100));
    assert_int_equal(counts.unsealed, 0);
    assert_int_equal(counts.durable_lsn, lsn_of(1, 100));
}

static void order_write_that_ends_after_the_flush_began_is_not_covered(void **state)
{
    (void)state;
    struct hand hand = begin();
    unsigned char block[512];
    make_block(block, 1, 1, 64);
    uint64_t write = crash_trace_write_begin(hand.trace, hand.segment, 4096, block, 512, 0);
    uint64_t flushing = crash_trace_flush_begin(hand.trace, hand.segment);
    crash_trace_write_end(hand.trace, write);
    crash_trace_flush_end(hand.trace, flushing, 0);
    page(&hand, 50, lsn_of(1, 64));
    flush(&hand, hand.segment, 0);
    page(&hand, 50, lsn_of(1, 64));
    struct order_counts counts = end(&hand);
    assert_int_equal(counts.ahead_of_log, 1);
    assert_int_equal(counts.page_writes, 2);
}

static void order_dsync_write_is_durable_at_its_end(void **state)
{
    (void)state;
    struct hand hand = begin();
    log_blocks(&hand, 1, 3, 16, 1, CRASH_DSYNC);
    page(&hand, 50, lsn_of(3, 16));
    log_blocks(&hand, 3, 1, 24, 1, CRASH_DSYNC); /* the tail block again, longer */
    page(&hand, 50, lsn_of(3, 24));
    struct order_counts counts = end(&hand);
    assert_int_equal(counts.ahead_of_log, 0);
    assert_int_equal(counts.log_writes, 2);
    assert_int_equal(counts.log_flushes, 2);
    assert_int_equal(counts.durable_lsn, lsn_of(3, 24));
}

/* However long the log gets: what is known of its blocks is moved several times here. */
static void order_long_log_is_followed(void **state)
{
    (void)state;
    struct hand hand = begin();
    for (uint64_t number = 1; number <= 4096; number++) {
        log_blocks(&hand, number, 1, PAYLOAD, 1, 0);
        flush(&hand, hand.segment, 0);
    }
    page(&hand, 41, lsn_of(4096, PAYLOAD));
    page(&hand, 42, lsn_of(4096, PAYLOAD) + 8);
    struct order_counts counts = end(&hand);
    assert_int_equal(counts.page_writes, 2);
    assert_int_equal(counts.ahead_of_log, 1);
    assert_int_equal(counts.max_lag_bytes, 8);
}

static void order_hole_in_the_log_ends_it(void **state)
{
    (void)state;
    struct hand hand = begin();
    log_blocks(&hand, 1, 1, PAYLOAD, 1, CRASH_DSYNC);
    log_blocks(&hand, 3, 2, 40, 1, CRASH_DSYNC);
    page(&hand, 50, lsn_of(3, 8)); /* its block is there; block 2 is not */
    log_blocks(&hand, 2, 1, PAYLOAD, 1, CRASH_DSYNC);
    page(&hand, 50, lsn_of(4, 40));
    struct order_counts counts = end(&hand);
    assert_int_equal(counts.ahead_of_log, 1);
    assert_int_equal(counts.max_lag_bytes, lsn_of(3, 8) - lsn_of(2, 0));
}

static void order_partial_block_is_followed_under_a_higher_epoch_only(void **state)
{
    (void)state;
    for (uint32_t epoch = 1; epoch <= 2; epoch++) {
        struct hand hand = begin();
        log_blocks(&hand, 1, 1, 80, 1, CRASH_DSYNC);
        log_blocks(&hand, 2, 1, 80, epoch, CRASH_DSYNC);
        page(&hand, 50, lsn_of(2, 80));
        struct order_counts counts = end(&hand);
        assert_int_equal(counts.ahead_of_log, epoch == 1);
    }
}

static void order_page_that_was_changed_meanwhile_is_unsealed(void **state)
{
    (void)state;
    struct hand hand = begin();
    unsigned char pages[3 * PAGE_SIZE];
    for (unsigned i = 0; i < 3; i++)
        make_page(pages + i * PAGE_SIZE, 60 + i, i);
    pages[PAGE_SIZE + 7] ^= 1;
    put(&hand, hand.data, 60 * PAGE_SIZE, pages, sizeof pages, 0);
    /* Half a page: its trailer is not there, then it is without the beginning. */
    put(&hand, hand.data, 63 * PAGE_SIZE, pages, 512, 0);
    put(&hand, hand.data, 62 * PAGE_SIZE + 512, pages + 2 * PAGE_SIZE + 512, PAGE_SIZE - 512, 0);
    struct order_counts counts = end(&hand);
    assert_int_equal(counts.page_writes, 4);
    assert_int_equal(counts.unsealed, 1);
    assert_int_equal(counts.ahead_of_log, 3);
}

static void order_trace_without_a_store_is_refused(void **state)
{
    (void)state;
    struct order_counts counts;
    struct crash_trace *trace = crash_trace_create();
    crash_trace_baseline(trace);
    assert_int_equal(order_count(trace, &counts), -1);
    crash_trace_mark(trace, CRASH_MARK_CREATED, 0, 0, 0);
    assert_int_equal(order_count(trace, &counts), -1);
    crash_trace_destroy(trace);
}

/* ---- the engines ------------------------------------------------------------------------------
 */

static struct order_counts measure(enum cp_engine engine, bool in_place, bool fuse)
{
    char root[PATH_MAX], text[512] = "";
    struct order_counts counts;
    assert_int_equal(crash_workplace_create(NULL, root, sizeof root), 0);
    struct crash_trace *trace = crash_trace_create();
    struct order_job job = {
        .name = "test",
        .engine = engine,
        .in_place = in_place,
        .size_bytes = UINT64_C(6) << 20,
        .mem_bytes = UINT64_C(2) << 20,
        .page_size = PAGE_SIZE,
        .transactions = 2000,
        .group = 400,
        .nudge = 100,
        .seed = 5,
        .text = text,
        .text_capacity = sizeof text,
    };
    int code = order_record(&job, root, fuse, trace);
    bench_remove_tree(root);
    if (code != 0)
        fail_msg("%s", text);
    assert_int_equal(order_count(trace, &counts), 0);
    crash_trace_destroy(trace);
    print_message("%s%s by %s: %" PRIu64 " page writes, %" PRIu64
                  " ahead of the log, at most by %" PRIu64 " bytes, %" PRIu64 " unsealed, %" PRIu64
                  " log flushes\n",
                  engine == CP_ENGINE_POOL ? "pool" : "mmap", in_place ? " in place" : "",
                  fuse ? "FUSE" : "the backend", counts.page_writes, counts.ahead_of_log,
                  counts.max_lag_bytes, counts.unsealed, counts.log_flushes);
    assert_true(counts.page_writes > 500);
    assert_true(counts.log_flushes >= 5);
    return counts;
}

static void skip_without_fuse(void)
{
    const char *reason = crash_fuse_unavailable();
    if (reason == NULL)
        return;
    print_message("skipped: FUSE is not possible here: %s\n", reason);
    skip();
}

static void order_pool_and_mmap_are_never_ahead_by_their_backend(void **state)
{
    (void)state;
    for (int engine = CP_ENGINE_POOL; engine <= CP_ENGINE_MMAP; engine++) {
        struct order_counts counts = measure((enum cp_engine)engine, false, false);
        assert_int_equal(counts.ahead_of_log, 0);
        assert_int_equal(counts.unsealed, 0);
    }
}

static void order_pool_and_mmap_are_never_ahead_from_outside(void **state)
{
    (void)state;
    skip_without_fuse();
    for (int engine = CP_ENGINE_POOL; engine <= CP_ENGINE_MMAP; engine++) {
        struct order_counts counts = measure((enum cp_engine)engine, false, true);
        assert_int_equal(counts.ahead_of_log, 0);
        assert_int_equal(counts.unsealed, 0);
    }
}

static void order_mmap_in_place_is_ahead(void **state)
{
    (void)state;
    skip_without_fuse();
    struct order_counts counts = measure(CP_ENGINE_MMAP, true, true);
    assert_true(counts.ahead_of_log > 0);
    assert_true(counts.max_lag_bytes > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_page_is_ahead_until_its_block_is_flushed),
        cmocka_unit_test(order_write_that_ends_after_the_flush_began_is_not_covered),
        cmocka_unit_test(order_dsync_write_is_durable_at_its_end),
        cmocka_unit_test(order_long_log_is_followed),
        cmocka_unit_test(order_hole_in_the_log_ends_it),
        cmocka_unit_test(order_partial_block_is_followed_under_a_higher_epoch_only),
        cmocka_unit_test(order_page_that_was_changed_meanwhile_is_unsealed),
        cmocka_unit_test(order_trace_without_a_store_is_refused),
        cmocka_unit_test(order_pool_and_mmap_are_never_ahead_by_their_backend),
        cmocka_unit_test(order_pool_and_mmap_are_never_ahead_from_outside),
        cmocka_unit_test(order_mmap_in_place_is_ahead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
