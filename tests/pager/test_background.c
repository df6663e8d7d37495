/* SPDX-License-Identifier: MIT */
/* What the thread goes on with while it writes a checkpoint. */
#include "helpers.h"

#include "internal.h"

#define HOUR_MS 3600000u

/* An engine whose cleaner is counted, and has this much to do. */
static struct {
    struct cp_engine_ops ops;
    unsigned calls, left; /* batches */
    int error;            /* not 0: every call's */
} cleaner;

static int counted_clean(struct cp_pager_engine *engine)
{
    (void)engine;
    cleaner.calls++;
    if (cleaner.error != 0)
        return cleaner.error;
    if (cleaner.left == 0)
        return 0;
    cleaner.left--;
    return 64; /* pages */
}

/* A store without a thread, so that only the test tends. */
static struct cp_pager *open_counted(unsigned batches, int error)
{
    struct cp_pager_options options = options_of(0, 0);
    struct cp_pager *pager = NULL;
    options.create = true;
    options.background = CP_BACKGROUND_NONE;
    options.relaxed_ms = HOUR_MS;
    assert_ok(cp_pager_open(new_store(), &options, &pager));
    memset(&cleaner, 0, sizeof cleaner);
    cleaner.left = batches;
    cleaner.error = error;
    cleaner.ops = *pager->engine->ops;
    cleaner.ops.clean = counted_clean;
    pager->engine->ops = &cleaner.ops;
    pager->background.tended_ns = cp_now_ns(); /* what relaxed_ms paces is not due */
    return pager;
}

static unsigned calls_of_one_tend(struct cp_pager *pager)
{
    unsigned before = cleaner.calls;
    cp_pager__background_tend(pager);
    return cleaner.calls - before;
}

/* Who asked does not ask again before the cleaner has said that all is done. */
static void tend_goes_on_cleaning_until_all_is_done(void **state)
{
    (void)state;
    struct cp_pager *pager = open_counted(100, 0);
    assert_int_equal(calls_of_one_tend(pager), 0);
    cp_pager__background_clean(pager);
    for (unsigned tend = 0; cleaner.left > 0; tend++) {
        assert_true(tend < 100);
        assert_true(calls_of_one_tend(pager) > 0);
    }
    (void)calls_of_one_tend(pager);
    assert_int_equal(cleaner.calls, 101); /* the last one has found nothing */
    assert_int_equal(calls_of_one_tend(pager), 0);
    cp_pager__background_clean(pager);
    assert_int_equal(calls_of_one_tend(pager), 1);
    assert_ok(cp_pager_close(pager));
}

/* After an error nobody asks again: it is tried again, but not at every turn. */
static void tend_cleans_again_some_time_after_an_error(void **state)
{
    (void)state;
    struct cp_pager *pager = open_counted(2, -EIO);
    cp_pager__background_clean(pager);
    assert_int_equal(calls_of_one_tend(pager), 1);
    assert_int_equal(calls_of_one_tend(pager), 0);
    pager->options.relaxed_ms = 0; /* always due */
    assert_int_equal(calls_of_one_tend(pager), 1);
    assert_int_equal(calls_of_one_tend(pager), 1);
    cleaner.error = 0;
    assert_int_equal(calls_of_one_tend(pager), 3);
    assert_int_equal(cleaner.left, 0);
    assert_ok(cp_pager_close(pager));
}

static struct {
    struct cp_engine_ops ops;
    const struct cp_engine_ops *real;
    _Atomic unsigned calls;
} full;

static int refused_flush(struct cp_pager_engine *engine,
                         void (*pace)(void *ctx, uint64_t done, uint64_t total), void *ctx)
{
    (void)engine;
    (void)pace;
    (void)ctx;
    atomic_fetch_add(&full.calls, 1);
    return -ENOSPC;
}

/* Nobody waits for a checkpoint that cannot be written: the log grows, or the commit says why not.
 */
static void begin_does_not_wait_for_checkpoints_that_fail(void **state)
{
    (void)state;
    struct cp_pager_options options = options_of(0, 0);
    struct cp_pager *pager = NULL;
    struct cp_mtr *mtr;
    options.create = true;
    options.background = CP_BACKGROUND_THREAD;
    options.log_limit_bytes = 64u << 10;
    assert_ok(cp_pager_open(new_store(), &options, &pager));
    full.real = pager->engine->ops;
    full.ops = *full.real;
    full.ops.flush = refused_flush;
    pager->engine->ops = &full.ops;
    uint64_t page = allocate_filled(pager, 1);
    for (uint64_t version = 2;
         cp_pager__log_since_checkpoint(pager) < pager->options.log_limit_bytes; version++)
        commit_page(pager, page, version);
    const unsigned before = atomic_load(&full.calls);
    for (unsigned i = 0; i < 4; i++) {
        assert_ok(cp_mtr_begin(pager, &mtr));
        cp_mtr_abort(mtr);
    }
    assert_in_range(atomic_load(&full.calls) - before, 0, 16);
    cp_pager__background_stop(pager);
    pager->engine->ops = full.real;
    assert_ok(cp_pager_close(pager));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tend_goes_on_cleaning_until_all_is_done),
        cmocka_unit_test(tend_cleans_again_some_time_after_an_error),
        cmocka_unit_test(begin_does_not_wait_for_checkpoints_that_fail),
    };
    return RUN_ENGINE(CP_ENGINE_POOL, tests);
}
