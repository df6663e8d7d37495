/* SPDX-License-Identifier: MIT */
/* Recovery in parts, while what it evicts goes into the log that it reads. */
#include "helpers.h"

#define PAGES         600u /* more than the cache holds */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log_that_grows_meanwhile_is_read_on),
    };
    return RUN_ENGINE(CP_ENGINE_POOL, tests);
}
