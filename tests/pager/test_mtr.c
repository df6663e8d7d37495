/* SPDX-License-Identifier: MIT */
/* Mini-transactions by one thread: what a commit keeps, what an abort leaves, what is refused. */
#include "helpers.h"

static struct cp_mtr *begin(struct cp_pager *pager)
{
    struct cp_mtr *mtr = NULL;
    assert_ok(cp_mtr_begin(pager, &mtr));
    return mtr;
}

static void change(struct cp_mtr *mtr, uint64_t page, uint64_t version)
{
    void *data;
    assert_ok(cp_mtr_fix(mtr, page, CP_EXCLUSIVE, &data));
    fill_page(data, 4064, page, version);
}

static uint64_t allocate(struct cp_mtr *mtr, uint64_t version)
{
    uint64_t page;
    void *data;
    assert_ok(cp_mtr_allocate(mtr, &page, &data));
    for (unsigned i = 0; i < 4064; i++)
        assert_int_equal(((unsigned char *)data)[i], 0);
    fill_page(data, 4064, page, version);
    return page;
}

/* Close as a crash would, when nothing of the cache had been written; open again. */
static struct cp_pager *crash(struct cp_pager *pager)
{
    cp_pager_abandon(pager);
    return open_store(store_path());
}

static void commit_is_there_after_a_crash(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    uint64_t pages[20];
    struct cp_mtr *mtr = begin(pager);
    cp_lsn lsn = 0;
    for (unsigned i = 0; i < 20; i++)
        pages[i] = allocate(mtr, 1);
    assert_ok(cp_mtr_commit(mtr, CP_COMMIT_DURABLE, &lsn));
    assert_true(lsn > 0 && cp_pager_durable_lsn(pager) >= lsn);
    mtr = begin(pager);
    for (unsigned i = 0; i < 20; i += 2)
        change(mtr, pages[i], 2);
    assert_ok(cp_mtr_commit(mtr, CP_COMMIT_DURABLE, NULL));
    struct cp_pager_stats stats;
    for (unsigned round = 0; round < 3; round++) {
        pager = crash(pager);
        for (unsigned i = 0; i < 20; i++)
            assert_true(check_page(pager, pages[i], i % 2 == 0 ? 2 : 1));
        cp_pager_stats(pager, &stats);
        assert_true(stats.unclean);
        assert_true(stats.recovered_groups >= 2 && stats.recovered_pages >= 20);
    }
    assert_ok(cp_pager_close(pager));
    pager = open_store(store_path());
    cp_pager_stats(pager, &stats);
    assert_false(stats.unclean);
    assert_int_equal(stats.recovered_groups, 0);
    assert_int_equal(cp_pager_check(pager, NULL, NULL, NULL), 0);
    assert_ok(cp_pager_close(pager));
}

static void relaxed_commit_is_durable_after_the_wait(void **state)
{
    (void)state;
    struct cp_pager_options options = options_of(0, 0);
    struct cp_pager *pager;
    options.create = true;
    options.background = CP_BACKGROUND_NONE;
    assert_ok(cp_pager_open(new_store(), &options, &pager));
    struct cp_mtr *mtr = begin(pager);
    uint64_t page = allocate(mtr, 1);
    cp_lsn lsn;
    assert_ok(cp_mtr_commit(mtr, CP_COMMIT_RELAXED, &lsn));
    assert_true(cp_pager_durable_lsn(pager) < lsn);
    assert_true(check_page(pager, page, 1)); /* seen at once */
    assert_ok(cp_pager_wait_durable(pager, lsn));
    assert_true(cp_pager_durable_lsn(pager) >= lsn);
    pager = crash(pager);
    assert_true(check_page(pager, page, 1));
    assert_ok(cp_pager_close(pager));
}

static void relaxed_commit_is_made_durable_by_the_thread(void **state)
{
    (void)state;
    struct cp_pager_options options = options_of(0, 0);
    struct cp_pager *pager;
    options.create = true;
    options.checkpoint_ms = 3600000; /* what the thread sleeps towards once there is a log */
    assert_ok(cp_pager_open(new_store(), &options, &pager));
    for (unsigned i = 0; i < 20; i++) {
        struct cp_mtr *mtr = begin(pager);
        cp_lsn lsn;
        (void)allocate(mtr, 1);
        assert_ok(cp_mtr_commit(mtr, CP_COMMIT_RELAXED, &lsn));
        while (cp_pager_durable_lsn(pager) < lsn) /* ends: relaxed_ms; ctest has a time limit */
            usleep(1000);
    }
    assert_ok(cp_pager_close(pager));
}

static void abort_leaves_no_trace(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    struct cp_pager_stats before, after;
    uint64_t kept = allocate_filled(pager, 1), freed = allocate_filled(pager, 2);
    assert_ok(cp_pager_wait_durable(pager, UINT64_MAX)); /* the log counts when it flushes */
    cp_pager_stats(pager, &before);
    struct cp_mtr *mtr = begin(pager);
    change(mtr, kept, 9);
    uint64_t page = allocate(mtr, 9);
    assert_ok(cp_mtr_free(mtr, freed));
    cp_mtr_abort(mtr);
    cp_pager_stats(pager, &after);
    assert_int_equal(after.allocated_pages, before.allocated_pages);
    assert_int_equal(after.wal.groups, before.wal.groups);
    assert_int_equal(cp_pager_is_allocated(pager, page), 0);
    assert_int_equal(cp_pager_is_allocated(pager, freed), 1);
    assert_true(check_page(pager, kept, 1));
    assert_true(check_page(pager, freed, 2));
    assert_int_equal(allocate_filled(pager, 3), page); /* its number is free again */
    cp_mtr_abort(NULL);
    assert_ok(cp_pager_close(pager));
}

static void uncommitted_changes_are_gone_after_a_crash(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    uint64_t page = allocate_filled(pager, 1);
    assert_ok(cp_pager_sync(pager));
    struct cp_mtr *mtr = begin(pager);
    change(mtr, page, 2);
    uint64_t other = allocate(mtr, 2);
    assert_code(cp_pager_close(pager), CP_EPINNED);
    cp_mtr_abort(mtr);
    pager = crash(pager);
    assert_true(check_page(pager, page, 1));
    assert_int_equal(cp_pager_is_allocated(pager, other), 0);
    assert_ok(cp_pager_close(pager));
}

static void commit_of_nothing_logs_nothing(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    uint64_t page = allocate_filled(pager, 1);
    struct cp_pager_stats before, after;
    assert_ok(cp_pager_wait_durable(pager, UINT64_MAX)); /* the log counts when it flushes */
    cp_pager_stats(pager, &before);
    struct cp_mtr *mtr = begin(pager);
    void *data;
    cp_lsn lsn = 7;
    assert_ok(cp_mtr_fix(mtr, page, CP_EXCLUSIVE, &data));
    assert_ok(cp_mtr_commit(mtr, CP_COMMIT_DURABLE, &lsn));
    assert_int_equal(lsn, 0);
    mtr = begin(pager); /* allocated and freed again: the same */
    uint64_t own = allocate(mtr, 5);
    assert_ok(cp_mtr_free(mtr, own));
    assert_code(cp_mtr_fix(mtr, own, CP_SHARED, &data), CP_ENOPAGE);
    assert_code(cp_mtr_free(mtr, own), CP_ENOPAGE);
    assert_ok(cp_mtr_commit(mtr, CP_COMMIT_DURABLE, &lsn));
    cp_pager_stats(pager, &after);
    assert_int_equal(after.wal.groups, before.wal.groups);
    assert_int_equal(cp_pager_is_allocated(pager, own), 0);
    assert_int_equal(allocate_filled(pager, 1), own);
    assert_ok(cp_pager_close(pager));
}

static void few_changed_bytes_are_logged_as_few(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    uint64_t page = allocate_filled(pager, 1);
    struct cp_pager_stats before, after;
    assert_ok(cp_pager_wait_durable(pager, UINT64_MAX)); /* the log counts when it flushes */
    cp_pager_stats(pager, &before);
    struct cp_mtr *mtr = begin(pager);
    void *data;
    assert_ok(cp_mtr_fix(mtr, page, CP_EXCLUSIVE, &data));
    memset((unsigned char *)data + 1000, 0xee, 100);
    assert_ok(cp_mtr_commit(mtr, CP_COMMIT_DURABLE, NULL));
    cp_pager_stats(pager, &after);
    assert_int_equal(after.wal.records - before.wal.records, 1);
    /* The store's thread may flush beside it, for which the log is filled up. */
    const uint64_t appended = after.wal.appended_bytes - after.wal.filler_bytes;
    assert_true(appended - (before.wal.appended_bytes - before.wal.filler_bytes) < 160);
    assert_ok(cp_pager_close(pager));
}

static void freed_page_is_reused_only_after_the_commit(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    uint64_t page = allocate_filled(pager, 1), last = allocate_filled(pager, 2);
    void *data;
    struct cp_mtr *freeing = begin(pager);
    assert_ok(cp_mtr_fix(freeing, page, CP_EXCLUSIVE, &data));
    assert_ok(cp_mtr_free(freeing, page));
    assert_code(cp_pager_free(pager, page, 1), CP_ENOPAGE); /* doomed already */
    struct cp_mtr *mtr = begin(pager);
    assert_code(cp_mtr_free(mtr, page), CP_ENOPAGE);
    uint64_t other = allocate(mtr, 3);
    assert_true(other > last);
    assert_ok(cp_mtr_commit(mtr, CP_COMMIT_RELAXED, NULL));
    assert_ok(cp_mtr_commit(freeing, CP_COMMIT_RELAXED, NULL));
    mtr = begin(pager);
    assert_int_equal(allocate(mtr, 4), page);
    assert_ok(cp_mtr_commit(mtr, CP_COMMIT_DURABLE, NULL));
    pager = crash(pager);
    assert_true(check_page(pager, page, 4));
    assert_true(check_page(pager, other, 3));
    assert_int_equal(cp_pager_check(pager, NULL, NULL, NULL), 0);
    assert_ok(cp_pager_close(pager));
}

/* As when a damaged map calls a page free that the mini-transaction itself has fixed. */
static void allocate_never_waits_for_its_own_pages(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    uint64_t page = allocate_filled(pager, 1), last = allocate_filled(pager, 2);
    void *data;
    assert_ok(cp_pager_sync(pager));
    assert_ok(cp_pager_free(pager, page, 1));
    for (int mode = CP_SHARED; mode <= CP_EXCLUSIVE; mode++) {
        struct cp_mtr *mtr = begin(pager);
        assert_ok(cp_mtr_fix(mtr, page, (enum cp_latch_mode)mode, &data));
        assert_int_equal(allocate(mtr, 3), last + 1);
        cp_mtr_abort(mtr);
    }
    struct cp_mtr *mtr = begin(pager);
    assert_int_equal(allocate(mtr, 4), page);
    assert_ok(cp_mtr_commit(mtr, CP_COMMIT_DURABLE, NULL));
    assert_ok(cp_pager_close(pager));
}

static void free_refuses_what_others_have_fixed(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    uint64_t page = allocate_filled(pager, 1);
    struct cp_fix fix;
    assert_ok(cp_pager_fix(pager, page, CP_SHARED, &fix));
    struct cp_mtr *mtr = begin(pager);
    assert_code(cp_mtr_free(mtr, page), CP_EPINNED);
    cp_pager_unfix(pager, &fix);
    assert_ok(cp_mtr_free(mtr, page));
    assert_ok(cp_mtr_commit(mtr, CP_COMMIT_DURABLE, NULL));
    assert_int_equal(cp_pager_is_allocated(pager, page), 0);
    mtr = begin(pager);
    assert_code(cp_mtr_free(mtr, page), CP_ENOPAGE);
    assert_code(cp_mtr_free(mtr, cp_pager_first_page(pager) - 1), CP_ENOPAGE);
    assert_code(cp_mtr_free(mtr, UINT64_MAX - 3), CP_ENOPAGE);
    cp_mtr_abort(mtr);
    assert_ok(cp_pager_close(pager));
}

/* Others who read a page beside the mini-transaction that frees it are not in its way, and keep
 * what they read. */
static void free_of_a_page_fixed_shared_leaves_its_readers_alone(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    uint64_t page = allocate_filled(pager, 1), last = allocate_filled(pager, 2);
    struct cp_fix fix;
    void *data;
    assert_ok(cp_pager_fix(pager, page, CP_SHARED, &fix));
    struct cp_mtr *mtr = begin(pager);
    assert_ok(cp_mtr_fix(mtr, page, CP_SHARED, &data));
    assert_ok(cp_mtr_free(mtr, page));
    assert_ok(cp_mtr_commit(mtr, CP_COMMIT_DURABLE, NULL));
    assert_int_equal(cp_pager_is_allocated(pager, page), 0);
    mtr = begin(pager);
    assert_true(allocate(mtr, 3) > last); /* not a page that somebody has fixed */
    assert_ok(cp_mtr_commit(mtr, CP_COMMIT_DURABLE, NULL));
    assert_true(page_is(fix.data, 4064, page, 1));
    cp_pager_unfix(pager, &fix);
    mtr = begin(pager);
    assert_int_equal(allocate(mtr, 4), page);
    assert_ok(cp_mtr_commit(mtr, CP_COMMIT_DURABLE, NULL));
    pager = crash(pager);
    assert_true(check_page(pager, page, 4));
    assert_int_equal(cp_pager_check(pager, NULL, NULL, NULL), 0);
    assert_ok(cp_pager_close(pager));
}

/* Whether it was fixed when it was freed makes no difference; a rollback gives it back. */
static void freed_page_is_not_fixed_again(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    uint64_t page = allocate_filled(pager, 1), other = allocate_filled(pager, 1);
    uint32_t savepoint;
    void *data;
    assert_ok(cp_pager_sync(pager));
    struct cp_mtr *mtr = begin(pager);
    assert_ok(cp_mtr_savepoint(mtr, &savepoint));
    assert_ok(cp_mtr_free(mtr, page));
    (void)allocate(mtr, 2);
    for (int mode = CP_SHARED; mode <= CP_EXCLUSIVE; mode++) {
        assert_code(cp_mtr_fix(mtr, page, (enum cp_latch_mode)mode, &data), CP_ENOPAGE);
        assert_int_equal(cp_error_info()->page, page);
        assert_non_null(strstr(cp_error_info()->what, "has freed the page"));
    }
    assert_code(cp_mtr_free(mtr, page), CP_ENOPAGE);
    change(mtr, other, 3);
    assert_ok(cp_mtr_rollback(mtr, savepoint));
    change(mtr, page, 4);
    assert_ok(cp_mtr_free(mtr, page));
    assert_code(cp_mtr_fix(mtr, page, CP_SHARED, &data), CP_ENOPAGE);
    assert_ok(cp_mtr_rollback(mtr, savepoint));
    change(mtr, page, 5);
    assert_ok(cp_mtr_commit(mtr, CP_COMMIT_DURABLE, NULL));
    pager = crash(pager);
    assert_true(check_page(pager, page, 5));
    assert_true(check_page(pager, other, 1));
    struct cp_mtr *freeing = begin(pager); /* the next owner may have it */
    assert_ok(cp_mtr_free(freeing, page));
    assert_ok(cp_mtr_commit(freeing, CP_COMMIT_DURABLE, NULL));
    mtr = begin(pager);
    assert_int_equal(allocate(mtr, 6), page);
    assert_ok(cp_mtr_fix(mtr, page, CP_EXCLUSIVE, &data));
    assert_ok(cp_mtr_commit(mtr, CP_COMMIT_DURABLE, NULL));
    assert_ok(cp_pager_close(pager));
}

static void rollback_takes_back_what_came_after_the_savepoint(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    uint64_t a = allocate_filled(pager, 1), b = allocate_filled(pager, 1);
    uint64_t c = allocate_filled(pager, 1);
    uint32_t first, second;
    assert_ok(cp_pager_sync(pager));
    struct cp_mtr *mtr = begin(pager);
    change(mtr, a, 2);
    uint64_t kept = allocate(mtr, 2);
    assert_ok(cp_mtr_savepoint(mtr, &first));
    change(mtr, a, 3);
    change(mtr, b, 3);
    change(mtr, kept, 3);
    uint64_t dropped = allocate(mtr, 3);
    assert_ok(cp_mtr_free(mtr, c));
    assert_ok(cp_mtr_savepoint(mtr, &second));
    change(mtr, b, 4);
    assert_ok(cp_mtr_rollback(mtr, first));
    assert_code(cp_mtr_rollback(mtr, second), -EINVAL);
    assert_code(cp_mtr_rollback(mtr, 0), -EINVAL);
    change(mtr, c, 5); /* not freed after all */
    assert_ok(cp_mtr_commit(mtr, CP_COMMIT_DURABLE, NULL));
    pager = crash(pager);
    assert_true(check_page(pager, a, 2));
    assert_true(check_page(pager, b, 1));
    assert_true(check_page(pager, c, 5));
    assert_true(check_page(pager, kept, 2));
    assert_int_equal(cp_pager_is_allocated(pager, dropped), 0);
    assert_int_equal(cp_pager_check(pager, NULL, NULL, NULL), 0);
    assert_ok(cp_pager_close(pager));
}

static void pages_taken_back_count_no_more(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, UINT64_C(1) << 20);
    uint64_t fixed[100], before = allocate_filled(pager, 1), page;
    uint32_t savepoint;
    void *data;
    for (unsigned i = 0; i < 100; i++)
        fixed[i] = allocate_filled(pager, 1);
    assert_ok(cp_pager_sync(pager));
    struct cp_mtr *mtr = begin(pager);
    change(mtr, before, 2);
    assert_ok(cp_mtr_savepoint(mtr, &savepoint));
    for (unsigned i = 0; i < 1000; i++) {
        assert_ok(cp_mtr_allocate(mtr, &page, &data));
        if (i < 100)
            change(mtr, fixed[i], 3); /* stays fixed, behind one that does not */
        assert_ok(cp_mtr_rollback(mtr, savepoint));
    }
    for (unsigned i = 0; i < 100; i += 2)
        change(mtr, fixed[i], 4);
    assert_ok(cp_mtr_commit(mtr, CP_COMMIT_DURABLE, NULL));
    pager = crash(pager);
    assert_true(check_page(pager, before, 2));
    for (unsigned i = 0; i < 100; i++)
        assert_true(check_page(pager, fixed[i], i % 2 == 0 ? 4 : 1));
    assert_int_equal(cp_pager_is_allocated(pager, page), 0);
    assert_int_equal(cp_pager_check(pager, NULL, NULL, NULL), 0);
    assert_ok(cp_pager_close(pager));
}

static void upgrade_of_a_shared_fix_is_refused(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    uint64_t page = allocate_filled(pager, 1);
    void *data, *again;
    struct cp_mtr *mtr = begin(pager);
    assert_ok(cp_mtr_fix(mtr, page, CP_SHARED, &data));
    assert_code(cp_mtr_fix(mtr, page, CP_EXCLUSIVE, &again), -EINVAL);
    assert_ok(cp_mtr_fix(mtr, page, CP_SHARED, &again));
    assert_ptr_equal(data, again);
    assert_code(cp_mtr_fix(mtr, page + 1000, CP_SHARED, &again), CP_ENOPAGE);
    cp_mtr_abort(mtr);
    assert_ok(cp_pager_close(pager));
}

static void larger_than_the_pool_is_refused_and_changes_nothing(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, UINT64_C(1) << 20);
    uint64_t pages[300], count = 0;
    void *data;
    int code = 0;
    for (unsigned i = 0; i < 300; i++)
        pages[i] = allocate_filled(pager, 1);
    struct cp_mtr *mtr = begin(pager);
    while (count < 300 && (code = cp_mtr_fix(mtr, pages[count], CP_EXCLUSIVE, &data)) == 0)
        fill_page(data, 4064, pages[count++], 2);
    assert_code(code, CP_ETOOLARGE);
    assert_true(count > 100 && strstr(cp_error_info()->hint, "budget") != NULL);
    cp_mtr_abort(mtr);
    for (unsigned i = 0; i < 300; i++)
        assert_true(check_page(pager, pages[i], 1));
    assert_ok(cp_pager_close(pager));
}

static void larger_than_the_log_takes_is_refused_and_changes_nothing(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    uint64_t pages[100];
    struct cp_pager_stats before, after;
    for (unsigned i = 0; i < 100; i++)
        pages[i] = allocate_filled(pager, 1);
    assert_ok(cp_pager_wait_durable(pager, UINT64_MAX)); /* the log counts when it flushes */
    cp_pager_stats(pager, &before);
    struct cp_mtr *mtr = begin(pager);
    for (unsigned i = 0; i < 100; i++)
        change(mtr, pages[i], 2);
    (void)allocate(mtr, 2);
    assert_code(cp_mtr_commit(mtr, CP_COMMIT_DURABLE, NULL), CP_ETOOLARGE);
    assert_non_null(strstr(cp_error_info()->hint, "log_buffer_bytes"));
    for (unsigned i = 0; i < 100; i++)
        assert_true(check_page(pager, pages[i], 1));
    cp_pager_stats(pager, &after);
    assert_int_equal(after.allocated_pages, before.allocated_pages);
    assert_ok(cp_pager_close(pager));
}

static void small_pool_and_small_log_lose_nothing(void **state)
{
    (void)state;
    uint64_t random = test_seed();
    struct cp_pager_options options = options_of(0, UINT64_C(1) << 20);
    struct cp_pager *pager;
    uint64_t pages[1000], version[1000];
    options.create = true;
    options.log_limit_bytes = 256u << 10;
    options.background = below(&random, 2) == 0 ? CP_BACKGROUND_NONE : CP_BACKGROUND_THREAD;
    assert_ok(cp_pager_open(new_store(), &options, &pager));
    for (unsigned i = 0; i < 1000; i++) {
        struct cp_mtr *mtr = begin(pager);
        pages[i] = allocate(mtr, version[i] = 1);
        assert_ok(cp_mtr_commit(mtr, CP_COMMIT_RELAXED, NULL));
    }
    for (unsigned round = 0; round < 6; round++) {
        for (unsigned i = 0; i < 300; i++) {
            struct cp_mtr *mtr = begin(pager);
            unsigned count = 1 + (unsigned)below(&random, 4), at[4];
            bool commit = below(&random, 5) != 0;
            for (unsigned k = 0; k < count; k++) {
                at[k] = (unsigned)below(&random, 1000);
                change(mtr, pages[at[k]], version[at[k]] + 1);
            }
            for (unsigned k = 0; commit && k < count; k++)
                version[at[k]] += k == 0 || at[k] != at[k - 1];
            /* A page that occurs twice, not side by side, would be counted twice: see what it is */
            for (unsigned k = 0; commit && k < count; k++) {
                void *data;
                assert_ok(cp_mtr_fix(mtr, pages[at[k]], CP_EXCLUSIVE, &data));
                fill_page(data, 4064, pages[at[k]], version[at[k]]);
            }
            if (commit)
                assert_ok(cp_mtr_commit(mtr, CP_COMMIT_RELAXED, NULL));
            else
                cp_mtr_abort(mtr);
        }
        assert_ok(cp_pager_wait_durable(pager, UINT64_MAX));
        pager = crash(pager);
        for (unsigned i = 0; i < 1000; i++)
            assert_true(check_page(pager, pages[i], version[i]));
    }
    struct cp_pager_stats stats;
    cp_pager_stats(pager, &stats);
    assert_int_equal(cp_pager_check(pager, NULL, NULL, NULL), 0);
    assert_ok(cp_pager_close(pager));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commit_is_there_after_a_crash),
        cmocka_unit_test(relaxed_commit_is_durable_after_the_wait),
        cmocka_unit_test(relaxed_commit_is_made_durable_by_the_thread),
        cmocka_unit_test(abort_leaves_no_trace),
        cmocka_unit_test(uncommitted_changes_are_gone_after_a_crash),
        cmocka_unit_test(commit_of_nothing_logs_nothing),
        cmocka_unit_test(few_changed_bytes_are_logged_as_few),
        cmocka_unit_test(freed_page_is_reused_only_after_the_commit),
        cmocka_unit_test(allocate_never_waits_for_its_own_pages),
        cmocka_unit_test(free_refuses_what_others_have_fixed),
        cmocka_unit_test(free_of_a_page_fixed_shared_leaves_its_readers_alone),
        cmocka_unit_test(freed_page_is_not_fixed_again),
        cmocka_unit_test(rollback_takes_back_what_came_after_the_savepoint),
        cmocka_unit_test(pages_taken_back_count_no_more),
        cmocka_unit_test(upgrade_of_a_shared_fix_is_refused),
        cmocka_unit_test(larger_than_the_pool_is_refused_and_changes_nothing),
        cmocka_unit_test(larger_than_the_log_takes_is_refused_and_changes_nothing),
        cmocka_unit_test(small_pool_and_small_log_lose_nothing),
    };
    int failed = RUN_ENGINE(CP_ENGINE_POOL, tests);
    return failed + RUN_ENGINE(CP_ENGINE_MMAP, tests);
}
