/* SPDX-License-Identifier: MIT */
/*
 * Allocations beside what goes on meanwhile: a checkpoint, or a write-back, at the moment at which
 * the page is fixed for the first time or dropped. The engine's functions are wrapped by the linker
 * to act there.
 */
#include "helpers.h"

#include "internal.h"
#include "records.h"

static void (*at_new_page)(void), (*at_discard)(void);
static struct cp_pager *acting_on;
static uint64_t watched_page;
static cp_lsn watched_lsn; /* that the log must have before the page is written */
static bool seen;          /* the watched page, in its second version */

int __real_cp_bufpool_fix_new(struct cp_bufpool_file *file, uint64_t page, struct cp_fix *out_fix);
int __wrap_cp_bufpool_fix_new(struct cp_bufpool_file *file, uint64_t page, struct cp_fix *out_fix);
int __real_cp_mmap__frame_get(void *engine, uint64_t page, bool wait, uint32_t *out_frame);
int __wrap_cp_mmap__frame_get(void *engine, uint64_t page, bool wait, uint32_t *out_frame);
int __real_cp_pager__page_before_write(void *ctx, void *data, uint64_t page, cp_lsn *inout_lsn);
int __wrap_cp_pager__page_before_write(void *ctx, void *data, uint64_t page, cp_lsn *inout_lsn);
int __real_cp_bufpool_discard(struct cp_bufpool_file *file, uint64_t first, uint64_t count);
int __wrap_cp_bufpool_discard(struct cp_bufpool_file *file, uint64_t first, uint64_t count);

static void act(void (**what)(void))
{
    void (*now)(void) = *what;
    *what = NULL; /* once */
    if (now != NULL)
        now();
}

int __wrap_cp_bufpool_fix_new(struct cp_bufpool_file *file, uint64_t page, struct cp_fix *out_fix)
{
    act(&at_new_page);
    return __real_cp_bufpool_fix_new(file, page, out_fix);
}

int __wrap_cp_mmap__frame_get(void *engine, uint64_t page, bool wait, uint32_t *out_frame)
{
    if (at_new_page != NULL && page != acting_on->first_map_page)
        act(&at_new_page);
    return __real_cp_mmap__frame_get(engine, page, wait, out_frame);
}

int __wrap_cp_bufpool_discard(struct cp_bufpool_file *file, uint64_t first, uint64_t count)
{
    act(&at_discard);
    return __real_cp_bufpool_discard(file, first, count);
}

int __wrap_cp_pager__page_before_write(void *ctx, void *data, uint64_t page, cp_lsn *inout_lsn)
{
    int code = __real_cp_pager__page_before_write(ctx, data, page, inout_lsn);
    if (page == watched_page)
        watched_lsn = *inout_lsn;
    return code;
}

static void checkpoint(void)
{
    assert_ok(cp_pager_checkpoint(acting_on));
}

static void write_back(void)
{
    assert_ok(acting_on->engine->ops->flush(acting_on->engine, NULL, NULL));
}

static void look(void)
{
    seen = check_page(acting_on, watched_page, 2);
}

static struct cp_pager *create_quiet_store(void)
{
    struct cp_pager_options options = options_of(0, UINT64_C(1) << 20);
    struct cp_pager *pager;
    options.create = true;
    options.background = CP_BACKGROUND_NONE;
    assert_ok(cp_pager_open(new_store(), &options, &pager));
    acting_on = pager;
    return pager;
}

/* Change the first bytes of a page, and nothing else. */
static void commit_bytes(struct cp_pager *pager, uint64_t page, const char *bytes)
{
    struct cp_mtr *mtr;
    void *data;
    assert_ok(cp_mtr_begin(pager, &mtr));
    assert_ok(cp_mtr_fix(mtr, page, CP_EXCLUSIVE, &data));
    memcpy(data, bytes, strlen(bytes));
    assert_ok(cp_mtr_commit(mtr, CP_COMMIT_DURABLE, NULL));
}

/* After a crash the page has these bytes and zeros behind them. */
static void expect_after_crash(struct cp_pager *pager, uint64_t page, const char *bytes)
{
    char found[200], wanted[200] = "";
    cp_pager_abandon(pager);
    pager = open_store(store_path());
    memcpy(wanted, bytes, strlen(bytes));
    assert_ok(cp_pager_read(pager, page, 0, found, sizeof found));
    assert_memory_equal(found, wanted, sizeof found);
    assert_ok(cp_pager_close(pager));
}

static void checkpoint_while_a_page_is_allocated(bool former_life)
{
    struct cp_pager *pager = create_quiet_store();
    uint64_t former = 0;
    struct cp_fix fix;
    (void)allocate_filled(pager, 1);
    if (former_life) {
        former = allocate_filled(pager, 1);
        (void)allocate_filled(pager, 1); /* so that the file keeps the page */
        assert_ok(cp_pager_sync(pager));
        assert_ok(cp_pager_free(pager, former, 1));
    }
    assert_ok(cp_pager_sync(pager));
    at_new_page = checkpoint;
    assert_ok(cp_pager_allocate(pager, &fix));
    assert_null(at_new_page);
    const uint64_t page = fix.page;
    if (former_life)
        assert_int_equal(page, former);
    cp_pager_unfix(pager, &fix);
    commit_bytes(pager, page, "kept");
    expect_after_crash(pager, page, "kept");
}

static void checkpoint_beside_an_allocation(void **state)
{
    (void)state;
    checkpoint_while_a_page_is_allocated(false);
}

static void checkpoint_beside_an_allocation_of_a_page_used_before(void **state)
{
    (void)state;
    checkpoint_while_a_page_is_allocated(true);
}

/*
 * A page is freed, and the log does not have that yet when another mini-transaction that was given
 * its number is aborted. Where the device writes pages whole, no image makes the frame wait for the
 * log.
 */
static void aborted_allocation_keeps_what_is_not_freed_yet(void **state)
{
    (void)state;
    struct cp_pager *pager = create_quiet_store();
    struct cp_mtr *mtr;
    uint64_t again;
    void *data;
    cp_lsn freed;
    uint64_t page = allocate_filled(pager, 1);
    (void)allocate_filled(pager, 1);
    assert_ok(cp_pager_sync(pager));
    pager->images.needed = false; /* as on such a device */
    assert_ok(cp_mtr_begin(pager, &mtr));
    assert_ok(cp_mtr_free(mtr, page));
    assert_ok(cp_mtr_commit(mtr, CP_COMMIT_RELAXED, &freed));
    assert_ok(cp_mtr_begin(pager, &mtr));
    assert_ok(cp_mtr_allocate(mtr, &again, &data));
    assert_int_equal(again, page);
    fill_page(data, cp_pager_payload_size(pager), page, 2);
    at_discard = write_back;
    watched_page = page;
    watched_lsn = CP_NO_LSN;
    cp_mtr_abort(mtr);
    assert_null(at_discard);
    assert_true(watched_lsn != CP_NO_LSN && watched_lsn >= freed);
    cp_pager_abandon(pager);
}

/*
 * A page is changed and then freed. Between its release and its discard somebody may write it, with
 * the LSN that it had: where the device writes pages whole, nothing makes that wait for the log. So
 * what the commit changed must be gone by then, in case that the log loses it.
 */
static void page_changed_before_it_is_freed_has_its_old_bytes(void **state)
{
    (void)state;
    struct cp_pager *pager = create_quiet_store();
    struct cp_mtr *mtr;
    void *data;
    uint64_t page = allocate_filled(pager, 1);
    (void)allocate_filled(pager, 1);
    commit_page(pager, page, 2);
    assert_ok(cp_mtr_begin(pager, &mtr));
    assert_ok(cp_mtr_fix(mtr, page, CP_EXCLUSIVE, &data));
    fill_page(data, cp_pager_payload_size(pager), page, 3);
    assert_ok(cp_mtr_free(mtr, page));
    at_discard = look;
    watched_page = page;
    seen = false;
    assert_ok(cp_mtr_commit(mtr, CP_COMMIT_RELAXED, NULL));
    assert_null(at_discard);
    assert_true(seen);
    cp_pager_abandon(pager);
}

/* A log from elsewhere changes a page that is free, far behind the file's end. What recovery says
 * that there is, the file has. */
static void file_reaches_what_the_log_names(void **state)
{
    (void)state;
    struct cp_pager *pager = create_quiet_store();
    (void)allocate_filled(pager, 1);
    const struct cp_wal_record record = {
        .type = CP_RECORD_RANGE, .page = 5000, .data = "free", .size_bytes = 4};
    cp_lsn lsn;
    assert_ok(cp_pager__log(pager, &record, 1, &lsn));
    assert_ok(cp_pager_wait_durable(pager, lsn));
    cp_pager_abandon(pager);
    pager = open_store(store_path());
    assert_true(file_size(data_path()) >= cp_pager_page_count(pager) * 4096);
    assert_ok(cp_pager_checkpoint(pager));
    cp_pager_abandon(pager);
    pager = open_store(store_path());
    assert_ok(cp_pager_close(pager));
}

/* Nothing has been changed, so all there is is durable; also without a log. */
static void without_changes_all_is_durable(void **state)
{
    (void)state;
    struct cp_pager_options options = options_of(0, 0);
    struct cp_pager *pager = create_quiet_store();
    uint64_t page = allocate_filled(pager, 1);
    assert_ok(cp_pager_close(pager));
    for (unsigned i = 0; i < 2; i++) {
        options.read_only = i == 1;
        assert_ok(cp_pager_open(store_path(), &options, &pager));
        assert_ok(cp_pager_wait_durable(pager, 1));
        assert_ok(cp_pager_wait_durable(pager, UINT64_MAX));
        assert_true(cp_pager_durable_lsn(pager) > 1);
        assert_true(check_page(pager, page, 1));
        assert_ok(cp_pager_close(pager));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checkpoint_beside_an_allocation),
        cmocka_unit_test(checkpoint_beside_an_allocation_of_a_page_used_before),
        cmocka_unit_test(file_reaches_what_the_log_names),
        cmocka_unit_test(without_changes_all_is_durable),
    };
    const struct CMUnitTest of_the_pool[] = {
        cmocka_unit_test(aborted_allocation_keeps_what_is_not_freed_yet),
        cmocka_unit_test(page_changed_before_it_is_freed_has_its_old_bytes),
    };
    int failed = RUN_ENGINE(CP_ENGINE_POOL, tests);
    failed += RUN_ENGINE(CP_ENGINE_POOL, of_the_pool);
    return failed + RUN_ENGINE(CP_ENGINE_MMAP, tests);
}
