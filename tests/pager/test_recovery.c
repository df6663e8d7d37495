/* SPDX-License-Identifier: MIT */
/* Recovery in parts, while what it evicts goes into the log that it reads; and what it has to leave
 * out. */
#include "helpers.h"

#include "internal.h"

#define PAGES         600u /* more than the cache holds */
#define FEW_PAGES     100u
#define SEGMENT_BYTES (64u << 10)
/* Of the stream's bytes (docs/file-format.md): a header of 4096, and 488 in each block. */
#define SEGMENT_PAYLOAD ((SEGMENT_BYTES - 4096u) / CP_WAL_BLOCK_BYTES * 488u)
#define STEP_BYTES      512u /* about a block: a flush pads the last one */
#define IMAGE_BYTES     4096u

static struct cp_pager_options options_small(void)
{
    struct cp_pager_options options = options_of(0, UINT64_C(1) << 20);
    options.background = CP_BACKGROUND_NONE;
    options.log_segment_bytes = SEGMENT_BYTES;
    return options;
}

/* Change a few bytes of one page; the log's end. */
static cp_lsn change_little(struct cp_pager *pager, uint64_t page, uint64_t value)
{
    struct cp_mtr *mtr;
    void *data;
    cp_lsn lsn = 0;
    assert_ok(cp_mtr_begin(pager, &mtr));
    assert_ok(cp_mtr_fix(mtr, page, CP_EXCLUSIVE, &data));
    memcpy(data, &value, sizeof value);
    assert_ok(cp_mtr_commit(mtr, CP_COMMIT_RELAXED, &lsn));
    return lsn;
}

/* A store that has PAGES changed pages, no image of any, spare segments, and a log that ends
 * left_bytes before the end of a segment. It has crashed. */
static void crash_before_the_end_of_a_segment(uint64_t left_bytes)
{
    struct cp_pager_options options = options_small();
    struct cp_pager *pager;
    uint64_t value = 0, first;
    options.budget_bytes = UINT64_C(4) << 20; /* nothing is evicted before the crash */
    options.create = true;
    assert_ok(cp_pager_open(new_store(), &options, &pager));
    first = cp_pager_first_page(pager);
    for (unsigned i = 0; i < PAGES; i++)
        assert_int_equal(allocate_filled(pager, 1), first + i);
    assert_ok(cp_pager_sync(pager)); /* twice: what the first one logged is trimmed by the next */
    assert_ok(cp_pager_sync(pager));
    for (uint64_t left = 0; value < PAGES || left <= left_bytes || left > left_bytes + 64;) {
        value++;
        left =
            SEGMENT_PAYLOAD - change_little(pager, first + value % PAGES, value) % SEGMENT_PAYLOAD;
    }
    assert_ok(cp_pager_wait_durable(pager, UINT64_MAX));
    cp_pager_abandon(pager);
}

/* The log goes on in a segment that was a spare when recovery began. */
static void log_that_grows_meanwhile_is_read_on(void **state)
{
    (void)state;
    for (uint64_t left_bytes = STEP_BYTES; left_bytes <= 2 * IMAGE_BYTES;
         left_bytes += STEP_BYTES) {
        struct cp_pager_stats stats;
        struct cp_pager *pager;
        struct cp_pager_options options = options_small();
        crash_before_the_end_of_a_segment(left_bytes);
        options.recovery_bytes = 32u << 10;
        assert_ok(cp_pager_open(store_path(), &options, &pager));
        cp_pager_stats(pager, &stats);
        assert_int_equal(stats.recovered_pages, PAGES);
        assert_true(stats.page_images > 0);
        assert_int_equal(cp_pager_check(pager, NULL, NULL, NULL), 0);
        assert_ok(cp_pager_close(pager));
    }
}

/* What happens between a checkpoint's choice of the redo point and its flush. */
static struct {
    struct cp_pager *pager;
    const struct cp_engine_ops *ops; /* the engine's own */
    uint64_t page;
} beside;

static int change_and_free_then_flush(struct cp_pager_engine *engine,
                                      void (*pace)(void *, uint64_t, uint64_t), void *ctx)
{
    engine->ops = beside.ops;
    commit_page(beside.pager, beside.page, 2);
    assert_ok(cp_pager_free(beside.pager, beside.page, 1));
    return engine->ops->flush(engine, pace, ctx);
}

static void checkpoint_beside_change_and_free(struct cp_pager *pager, uint64_t page)
{
    struct cp_engine_ops ops = *pager->engine->ops;
    ops.flush = change_and_free_then_flush;
    beside.pager = pager;
    beside.ops = pager->engine->ops;
    beside.page = page;
    pager->engine->ops = &ops;
    assert_ok(cp_pager_checkpoint(pager));
    assert_ptr_equal(pager->engine->ops, beside.ops);
}

/*
 * Behind the redo point the log has a change of the page and no base. On disk the page is zeros: it
 * was dropped before it was ever written. Its number belongs to a run that nobody has written yet.
 */
static void crash_with_a_page_freed_unwritten(uint64_t *out_first, uint64_t *out_page)
{
    struct cp_pager_options options = options_small();
    struct cp_pager *pager;
    uint64_t first, again;
    options.budget_bytes = UINT64_C(4) << 20; /* nothing is evicted before the crash */
    options.create = true;
    assert_ok(cp_pager_open(new_store(), &options, &pager));
    first = cp_pager_first_page(pager);
    for (unsigned i = 0; i < FEW_PAGES; i++)
        assert_int_equal(allocate_filled(pager, 1), first + i);
    assert_ok(cp_pager_sync(pager));
    const uint64_t page = allocate_filled(pager, 1);
    checkpoint_beside_change_and_free(pager, page);
    assert_ok(cp_pager_allocate_run(pager, 1, &again));
    assert_int_equal(again, page);
    for (unsigned i = 0; i < FEW_PAGES; i++)
        commit_page(pager, first + i, 2);
    cp_pager_abandon(pager);
    *out_first = first;
    *out_page = page;
}

static void page_freed_unwritten_needs_none_of_its_changes(void **state)
{
    (void)state;
    const uint64_t recovery_bytes[] = {0, 16u << 10}; /* at once, and in parts */
    for (unsigned round = 0; round < 2; round++) {
        struct cp_pager_options options = options_small();
        struct cp_pager *pager;
        struct cp_fix fix;
        uint64_t first, page;
        crash_with_a_page_freed_unwritten(&first, &page);
        options.recovery_bytes = recovery_bytes[round];
        assert_ok(cp_pager_open(store_path(), &options, &pager));
        for (unsigned i = 0; i < FEW_PAGES; i++)
            assert_true(check_page(pager, first + i, 2));
        assert_int_equal(cp_pager_is_allocated(pager, page), 1);
        assert_code(cp_pager_fix(pager, page, CP_SHARED, &fix), CP_EUNWRITTEN);
        assert_int_equal(cp_pager_check(pager, NULL, NULL, NULL), 1);
        assert_ok(cp_pager_fix_new(pager, page, &fix));
        cp_pager_unfix(pager, &fix);
        assert_int_equal(cp_pager_check(pager, NULL, NULL, NULL), 0);
        assert_ok(cp_pager_close(pager));
    }
}

int main(void)
{
    const struct CMUnitTest growing[] = {
        cmocka_unit_test(log_that_grows_meanwhile_is_read_on),
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(page_freed_unwritten_needs_none_of_its_changes),
    };
    int failed =
        RUN_ENGINE(CP_ENGINE_POOL, growing); /* each sets the engine, so one after the other */
    failed += RUN_ENGINE(CP_ENGINE_POOL, tests);
    failed += RUN_ENGINE(CP_ENGINE_MMAP, tests);
    return failed;
}
