/* SPDX-License-Identifier: MIT */
/*
 * Write-back: the gate, the order of writes, failures, and who waits for whom. Runs over a build
 * with test hooks, for one place that only a hook can reach.
 */
#include "helpers.h"

#include <sched.h>

#define PAGES 400u

struct setting {
    struct world w;
    struct fake_log log;
    uint64_t dirty_pages; /* dirtied by fill_with_dirty */
    _Atomic uint32_t sealed[PAGES];
    _Atomic uint32_t wrong_seals;
};

/* An image leaves with the LSN its page was given. */
static void seal(void *ctx, void *data, uint64_t page, cp_lsn lsn)
{
    struct setting *s = ctx;
    uint64_t in_page;
    memcpy(&in_page, data, sizeof in_page);
    atomic_fetch_add(&s->sealed[page], 1);
    if (in_page != lsn)
        atomic_fetch_add(&s->wrong_seals, 1);
}

static void open_setting(struct setting *s, uint64_t budget_bytes)
{
    memset(s, 0, sizeof *s);
    const struct cp_lsn_gate gate = {&s->log, fake_durable, fake_make_durable};
    world_open(&s->w, budget_bytes);
    world_create_file(&s->w, 0, 4096, PAGES);
    world_attach_with(&s->w, 0,
                      &(struct cp_bufpool_file_options){.gate = &gate, .seal = seal, .ctx = s});
    struct cp_io_file_info info;
    cp_io_file_info(s->w.io_file[0], &info);
    s->log.fd = info.fd;
    fault_io_on_write(s->w.faults, fake_log_see_write, &s->log);
}

static void close_setting(struct setting *s)
{
    atomic_store(&s->log.refuse, 0);
    fault_io_reset(s->w.faults);
    assert_int_equal(atomic_load(&s->log.violations), 0);
    assert_int_equal(atomic_load(&s->wrong_seals), 0);
    world_close(&s->w);
    assert_int_equal(atomic_load(&s->log.violations), 0);
}

/* Is there a frame to be had without evicting? */
static bool has_room(struct world *w)
{
    return atomic_load(&w->pool->free_units) > 0 ||
           stats_of(w).used_bytes + w->pool->extent_cost_bytes <= stats_of(w).budget_bytes;
}

/* Dirty every frame of the pool: every other page, so that no two are neighbours. LSN page + 1. */
static void fill_with_dirty(struct setting *s)
{
    uint64_t page = 0;
    for (; has_room(&s->w); page += 2)
        change_page(&s->w, 0, page, 1, page + 1);
    assert_true(page < PAGES);
    s->dirty_pages = page / 2;
    assert_int_equal(stats_of(&s->w).pages_dirty, s->dirty_pages);
    assert_int_equal(stats_of(&s->w).evictions, 0);
}

static void check_nothing_lost(struct setting *s)
{
    for (uint64_t page = 0; page < 2 * s->dirty_pages; page += 2)
        check_version(&s->w, 0, page, 1);
}

/* ---- the gate -----------------------------------------------------------------------------------
 */

static void writeback_gate_asked_once_with_the_largest_lsn(void **state)
{
    (void)state;
    struct setting s;
    open_setting(&s, 8 * MIB);
    const cp_lsn lsns[] = {30, 90, 10, 50};
    for (uint32_t i = 0; i < 4; i++)
        change_page(&s.w, 0, i, 1, lsns[i]);
    assert_int_equal(cp_bufpool_flush(s.w.file[0]), 0);
    assert_int_equal(atomic_load(&s.log.calls), 1);
    assert_int_equal(atomic_load(&s.log.asked), 90);
    assert_int_equal(atomic_load(&s.log.images), 4);
    assert_int_equal(stats_of(&s.w).gate_calls, 1);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(version_on_disk(&s.w, 0, i), 1);
    close_setting(&s);
}

static void writeback_largest_lsn_of_a_page_counts(void **state)
{
    (void)state;
    struct setting s;
    open_setting(&s, 8 * MIB);
    struct cp_fix fix = must_fix(&s.w, 0, 3, CP_EXCLUSIVE);
    cp_bufpool_mark_dirty(&fix, 70);
    cp_bufpool_mark_dirty(&fix, 20);
    fill_page(fix.data, 4096, 3, 1, 70);
    cp_bufpool_unfix(&fix);
    assert_int_equal(cp_bufpool_flush(s.w.file[0]), 0);
    assert_int_equal(atomic_load(&s.log.asked), 70);
    /* once written, the page starts anew: LSN 0 needs no log */
    change_page(&s.w, 0, 3, 2, 0);
    assert_int_equal(cp_bufpool_flush(s.w.file[0]), 0);
    assert_int_equal(atomic_load(&s.log.calls), 1);
    close_setting(&s);
}

static void writeback_durable_log_is_not_asked(void **state)
{
    (void)state;
    struct setting s;
    open_setting(&s, 8 * MIB);
    atomic_store(&s.log.durable, 100);
    change_page(&s.w, 0, 1, 1, 100);
    change_page(&s.w, 0, 2, 1, 0);
    assert_int_equal(cp_bufpool_flush(s.w.file[0]), 0);
    assert_int_equal(atomic_load(&s.log.calls), 0);
    assert_int_equal(atomic_load(&s.log.images), 2);
    close_setting(&s);
}

static void writeback_gate_refuses_pages_stay_dirty_and_resident(void **state)
{
    (void)state;
    struct setting s;
    open_setting(&s, 8 * MIB);
    atomic_store(&s.log.durable, 15);
    atomic_store(&s.log.refuse, -EIO);
    change_page(&s.w, 0, 1, 1, 10); /* durable already: may go */
    change_page(&s.w, 0, 2, 1, 20);
    change_page(&s.w, 0, 3, 1, 30);
    assert_int_equal(cp_bufpool_flush(s.w.file[0]), CP_EGATE);
    assert_int_equal(cp_error_info()->lsn, 30);
    assert_string_equal(cp_error_info()->path, s.w.path[0]);
    assert_true(strlen(cp_error_info()->hint) > 0);
    assert_int_equal(stats_of(&s.w).pages_dirty, 2);
    assert_int_equal(stats_of(&s.w).gate_failures, 1);
    assert_int_equal(version_on_disk(&s.w, 0, 1), 1);
    assert_int_equal(version_on_disk(&s.w, 0, 2), 0);
    assert_true(is_resident(&s.w, 0, 2) && is_resident(&s.w, 0, 3));

    atomic_store(&s.log.refuse, 0);
    assert_int_equal(cp_bufpool_flush(s.w.file[0]), 0);
    assert_int_equal(stats_of(&s.w).pages_dirty, 0);
    assert_int_equal(version_on_disk(&s.w, 0, 3), 1);
    close_setting(&s);
}

static void writeback_eviction_with_gate_refused_fails_and_loses_nothing(void **state)
{
    (void)state;
    struct setting s;
    struct cp_fix fix;
    open_setting(&s, CP_BUFPOOL_BUDGET_MIN);
    fill_with_dirty(&s);
    atomic_store(&s.log.refuse, -EIO);
    assert_int_equal(cp_bufpool_fix(s.w.file[0], 1, CP_SHARED, &fix), CP_EGATE);
    assert_int_equal(stats_of(&s.w).pages_dirty, s.dirty_pages);
    assert_int_equal(atomic_load(&s.log.images), 0);
    assert_false(is_resident(&s.w, 0, 1));
    atomic_store(&s.log.refuse, 0);
    check_version(&s.w, 0, 1, 0);
    check_nothing_lost(&s);
    close_setting(&s);
}

static void writeback_durable_victims_go_first_without_asking(void **state)
{
    (void)state;
    struct setting s;
    open_setting(&s, CP_BUFPOOL_BUDGET_MIN);
    fill_with_dirty(&s);
    /* Of the first batch the hand comes by, some pages are durable: they are enough. */
    atomic_store(&s.log.refuse, -EIO);
    atomic_store(&s.log.durable, 5);
    check_version(&s.w, 0, 1, 0);
    assert_int_equal(atomic_load(&s.log.calls), 0);
    assert_true(atomic_load(&s.log.images) > 0);
    assert_int_equal(version_on_disk(&s.w, 0, 0), 1);
    assert_int_equal(version_on_disk(&s.w, 0, 10), 0);
    close_setting(&s);
}

/* ---- what goes out ------------------------------------------------------------------------------
 */

static void writeback_flush_sorts_and_merges(void **state)
{
    (void)state;
    struct setting s;
    struct fault_write write;
    const uint64_t pages[] = {5, 3, 9, 4, 1, 2, 11, 10};
    open_setting(&s, 8 * MIB);
    fault_io_record(s.w.faults);
    for (uint32_t i = 0; i < 8; i++)
        change_page(&s.w, 0, pages[i], 1, 1);
    assert_int_equal(cp_bufpool_flush(s.w.file[0]), 0);
    assert_true(fault_io_recorded(s.w.faults, 0, &write));
    assert_int_equal(write.offset_bytes, 1 * 4096);
    assert_int_equal(write.size_bytes, 5 * 4096);
    assert_true(fault_io_recorded(s.w.faults, 1, &write));
    assert_int_equal(write.offset_bytes, 9 * 4096);
    assert_int_equal(write.size_bytes, 3 * 4096);
    assert_false(fault_io_recorded(s.w.faults, 2, &write));
    struct cp_bufpool_stats stats = stats_of(&s.w);
    assert_int_equal(stats.writes, 2);
    assert_int_equal(stats.pages_written, 8);
    assert_int_equal(stats.pages_merged, 8);
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(version_on_disk(&s.w, 0, pages[i]), 1);
    close_setting(&s);
}

/* Frames in the opposite order of pages: what an eviction writes is sorted all the same. */
static void writeback_eviction_sorts_and_merges(void **state)
{
    (void)state;
    struct setting s;
    struct fault_write write;
    open_setting(&s, CP_BUFPOOL_BUDGET_MIN);
    for (uint64_t page = PAGES; has_room(&s.w);)
        change_page(&s.w, 0, --page, 1, 0);
    fault_io_record(s.w.faults);
    check_version(&s.w, 0, 1, 0);
    assert_true(fault_io_recorded(s.w.faults, 0, &write));
    assert_int_equal(write.size_bytes, s.w.pool->write_batch_pages * 4096);
    assert_int_equal(stats_of(&s.w).gate_calls, 0);
    close_setting(&s);
}

static void writeback_one_request_stays_within_the_limit(void **state)
{
    (void)state;
    struct setting s;
    struct fault_write write;
    open_setting(&s, 16 * MIB);
    world_add_file(&s.w, 1, 65536, 40);
    fault_io_record(s.w.faults);
    for (uint64_t page = 0; page < 40; page++)
        change_page(&s.w, 1, page, 3, 0);
    assert_int_equal(cp_bufpool_flush(s.w.file[1]), 0);
    for (uint64_t i = 0; fault_io_recorded(s.w.faults, i, &write); i++)
        assert_true(write.size_bytes <= CP_IO_MAX_TRANSFER_BYTES);
    for (uint64_t page = 0; page < 40; page++)
        assert_int_equal(version_on_disk(&s.w, 1, page), 3);
    close_setting(&s);
}

static void writeback_clean_pages_are_not_written(void **state)
{
    (void)state;
    struct setting s;
    open_setting(&s, 8 * MIB);
    for (uint64_t page = 0; page < 50; page++)
        check_version(&s.w, 0, page, 0);
    change_page(&s.w, 0, 60, 1, 0);
    assert_int_equal(cp_bufpool_flush(s.w.file[0]), 0);
    assert_int_equal(cp_bufpool_flush(s.w.file[0]), 0);
    assert_int_equal(stats_of(&s.w).pages_written, 1);
    close_setting(&s);
}

/* ---- failures -----------------------------------------------------------------------------------
 */

static void fail_flush(int code)
{
    struct setting s;
    open_setting(&s, 8 * MIB);
    for (uint64_t page = 0; page < 20; page += 2)
        change_page(&s.w, 0, page, 1, 0);
    fault_io_rule(s.w.faults, &(struct fault_rule){.on = FAULT_WRITE, .nth = 4, .code = code});
    assert_int_equal(cp_bufpool_flush(s.w.file[0]), code);
    assert_int_equal(cp_error_info()->code, code);
    assert_string_equal(cp_error_info()->path, s.w.path[0]);
    assert_int_equal(fault_io_fired(s.w.faults), 1);
    assert_int_equal(stats_of(&s.w).write_errors, 1);
    assert_int_equal(stats_of(&s.w).pages_dirty, 1);
    assert_true(is_resident(&s.w, 0, 6));
    check_version(&s.w, 0, 6, 1);
    assert_int_equal(version_on_disk(&s.w, 0, 6), 0);
    assert_int_equal(cp_bufpool_flush(s.w.file[0]), 0);
    assert_int_equal(version_on_disk(&s.w, 0, 6), 1);
    close_setting(&s);
}

static void writeback_full_disk_page_stays_dirty(void **state)
{
    (void)state;
    fail_flush(-ENOSPC);
}

static void writeback_io_error_page_stays_dirty(void **state)
{
    (void)state;
    fail_flush(-EIO);
}

static void writeback_eviction_cannot_write_fix_fails_nothing_lost(void **state)
{
    (void)state;
    struct setting s;
    struct cp_fix fix;
    open_setting(&s, CP_BUFPOOL_BUDGET_MIN);
    fill_with_dirty(&s);
    fault_io_rule(
        s.w.faults,
        &(struct fault_rule){.on = FAULT_WRITE, .nth = 1, .times = UINT64_MAX, .code = -ENOSPC});
    assert_int_equal(cp_bufpool_fix(s.w.file[0], 1, CP_SHARED, &fix), -ENOSPC);
    assert_int_equal(stats_of(&s.w).pages_dirty, s.dirty_pages);
    fault_io_reset(s.w.faults);
    check_version(&s.w, 0, 1, 0);
    check_nothing_lost(&s);
    close_setting(&s);
}

static void writeback_short_writes_are_completed(void **state)
{
    (void)state;
    struct setting s;
    open_setting(&s, 8 * MIB);
    for (uint64_t page = 0; page < 30; page++)
        change_page(&s.w, 0, page, 1, page);
    fault_io_rule(s.w.faults, &(struct fault_rule){
                                  .on = FAULT_WRITE, .nth = 1, .times = 4, .effect = FAULT_SHORT});
    assert_int_equal(cp_bufpool_flush(s.w.file[0]), 0);
    assert_true(fault_io_fired(s.w.faults) >= 4);
    for (uint64_t page = 0; page < 30; page++)
        assert_int_equal(version_on_disk(&s.w, 0, page), 1);
    close_setting(&s);
}

/* ---- waiting ------------------------------------------------------------------------------------
 */

static void *flush_in_thread(void *argument)
{
    struct setting *s = argument;
    return (void *)(intptr_t)cp_bufpool_flush(s->w.file[0]);
}

static void writeback_miss_takes_clean_victim_while_writes_are_held(void **state)
{
    (void)state;
    struct setting s;
    struct watchdog dog;
    pthread_t thread;
    void *result;
    open_setting(&s, CP_BUFPOOL_BUDGET_MIN);
    watchdog_start(&dog, &s.w, WATCHDOG_LIMIT);
    for (uint64_t page = 0; page < 16; page += 2)
        change_page(&s.w, 0, page, 1, 0);
    fault_io_hold(s.w.faults);
    assert_int_equal(pthread_create(&thread, NULL, flush_in_thread, &s), 0);
    assert_true(fault_io_await_held(s.w.faults, 8, HOLD_TIMEOUT));

    for (uint64_t page = 100; page < PAGES; page++) /* far more than there are frames */
        check_version(&s.w, 0, page, 0);
    struct cp_bufpool_stats stats = stats_of(&s.w);
    assert_true(stats.evictions > 100);
    assert_int_equal(stats.write_waits, 0);
    assert_int_equal(stats.frame_waits, 0);
    assert_int_equal(stats.writes_in_flight, 8);

    fault_io_let_go(s.w.faults);
    pthread_join(thread, &result);
    assert_int_equal((intptr_t)result, 0);
    watchdog_stop(&dog);
    close_setting(&s);
}

/* Start writes that nobody waits for: a prefetch that finds no clean victim. */
static uint64_t start_early_writes(struct setting *s)
{
    const uint64_t page = 1;
    fill_with_dirty(s);
    atomic_store(&s->log.durable, 2 * PAGES);
    assert_int_equal(cp_bufpool_prefetch(s->w.file[0], &page, 1), 0);
    uint64_t writing = stats_of(&s->w).writes_in_flight;
    assert_true(writing > 0);
    return writing;
}

static void writeback_writer_reaps_the_write_it_waits_for(void **state)
{
    (void)state;
    struct setting s;
    struct watchdog dog;
    open_setting(&s, CP_BUFPOOL_BUDGET_MIN);
    watchdog_start(&dog, &s.w, WATCHDOG_LIMIT);
    (void)start_early_writes(&s);
    for (uint64_t page = 0; page < 2 * s.dirty_pages; page += 2)
        change_page(&s.w, 0, page, 2, page + 1);
    watchdog_stop(&dog);
    close_setting(&s);
}

/* A page that is being written may be read; and it is written once, sealed once. */
static void writeback_flush_waits_for_a_page_under_write(void **state)
{
    (void)state;
    struct setting s;
    struct watchdog dog;
    pthread_t thread;
    void *result;
    open_setting(&s, CP_BUFPOOL_BUDGET_MIN);
    watchdog_start(&dog, &s.w, WATCHDOG_LIMIT);
    fault_io_hold(s.w.faults);
    uint64_t writing = start_early_writes(&s);
    check_version(&s.w, 0, 0, 1);

    uint64_t waits = stats_of(&s.w).write_waits;
    assert_int_equal(pthread_create(&thread, NULL, flush_in_thread, &s), 0);
    /* It waits for page 0, or does what it should not do. */
    while (stats_of(&s.w).write_waits == waits && !fault_io_await_held(s.w.faults, writing + 1, 1))
        sched_yield();
    fault_io_let_go(s.w.faults);
    pthread_join(thread, &result);
    assert_int_equal((intptr_t)result, 0);
    for (uint64_t page = 0; page < 2 * s.dirty_pages; page += 2) {
        assert_int_equal(atomic_load(&s.sealed[page]), 1);
        assert_int_equal(version_on_disk(&s.w, 0, page), 1);
    }
    assert_int_equal(stats_of(&s.w).pages_dirty, 0);
    watchdog_stop(&dog);
    close_setting(&s);
}

/* The early write fails: the flush that waited for it does not report success. */
static void writeback_flush_takes_over_a_write_that_failed(void **state)
{
    (void)state;
    struct setting s;
    struct watchdog dog;
    open_setting(&s, CP_BUFPOOL_BUDGET_MIN);
    watchdog_start(&dog, &s.w, WATCHDOG_LIMIT);
    fault_io_rule(s.w.faults, &(struct fault_rule){.on = FAULT_WRITE, .nth = 1, .code = -EIO});
    (void)start_early_writes(&s);
    assert_int_equal(cp_bufpool_flush(s.w.file[0]), 0);
    assert_int_equal(fault_io_fired(s.w.faults), 1);
    assert_int_equal(stats_of(&s.w).pages_dirty, 0);
    for (uint64_t page = 0; page < 2 * s.dirty_pages; page += 2)
        assert_int_equal(version_on_disk(&s.w, 0, page), 1);
    watchdog_stop(&dog);
    close_setting(&s);
}

static struct setting *hooked;

/* All transfers are in use, and just now every one of them comes back. */
static void finish_all_writes(const char *point, struct cp_bufpool_file *file, uint64_t page)
{
    (void)file;
    (void)page;
    if (strcmp(point, "no_transfer") != 0)
        return;
    cp_bufpool__hook = NULL;
    fault_io_let_go(hooked->w.faults);
    while (cp_io_ring_poll(hooked->w.pool->write_ring) > 0) {
    }
}

static void writeback_transfers_come_back_before_the_wait_no_hang(void **state)
{
    (void)state;
    struct setting s;
    struct watchdog dog;
    open_setting(&s, CP_BUFPOOL_BUDGET_MIN);
    watchdog_start(&dog, &s.w, 20);
    for (uint64_t page = 0; page < 80; page += 2)
        change_page(&s.w, 0, page, 1, 0);
    hooked = &s;
    fault_io_hold(s.w.faults);
    cp_bufpool__hook = finish_all_writes;
    assert_int_equal(cp_bufpool_flush(s.w.file[0]), 0);
    assert_null(cp_bufpool__hook); /* it was reached */
    assert_int_equal(stats_of(&s.w).pages_dirty, 0);
    watchdog_stop(&dog);
    close_setting(&s);
}

static void writeback_discard_of_dirty_pages_writes_nothing(void **state)
{
    (void)state;
    struct setting s;
    open_setting(&s, 8 * MIB);
    for (uint64_t page = 0; page < 40; page++)
        change_page(&s.w, 0, page, 1, page);
    assert_int_equal(cp_bufpool_discard(s.w.file[0], 10, 20), 0);
    assert_int_equal(stats_of(&s.w).pages_dirty, 20);
    assert_int_equal(cp_bufpool_flush(s.w.file[0]), 0);
    for (uint64_t page = 0; page < 40; page++)
        check_version(&s.w, 0, page, page >= 10 && page < 30 ? 0 : 1);
    close_setting(&s);
}

static int refuse_page(void *ctx, void *data, uint64_t page, cp_lsn *inout_lsn)
{
    (void)ctx;
    (void)data;
    (void)page;
    (void)inout_lsn;
    return -EIO;
}

/* No page is held any more: another thread may discard them all and detach the file. */
static void detach_meanwhile(const char *point, struct cp_bufpool_file *file, uint64_t page)
{
    (void)file;
    if (strcmp(point, "logged") != 0)
        return;
    assert_int_equal(page, 0); /* so many may be written */
    cp_bufpool__hook = NULL;
    assert_int_equal(cp_bufpool_discard(hooked->w.file[0], 0, UINT64_MAX), 0);
    assert_int_equal(cp_bufpool_detach(hooked->w.file[0]), 0);
    hooked->w.file[0] = NULL;
}

/* For AddressSanitizer. */
static void writeback_file_is_left_alone_when_its_pages_are_let_go(void **state)
{
    (void)state;
    static struct setting s;
    struct cp_fix fix;
    memset(&s, 0, sizeof s);
    const struct cp_lsn_gate gate = {&s.log, fake_durable, fake_make_durable};
    world_open(&s.w, CP_BUFPOOL_BUDGET_MIN);
    world_create_file(&s.w, 0, 4096, PAGES);
    world_attach_with(
        &s.w, 0, &(struct cp_bufpool_file_options){.gate = &gate, .before_write = refuse_page});
    world_add_file(&s.w, 1, 4096, 1);
    fill_with_dirty(&s);
    hooked = &s;
    cp_bufpool__hook = detach_meanwhile;
    assert_int_equal(cp_bufpool_fix(s.w.file[1], 0, CP_SHARED, &fix), -EIO);
    assert_null(cp_bufpool__hook); /* it was reached */
    check_version(&s.w, 1, 0, 0);
    world_close(&s.w);
}

/* A log that takes its time: it is durable once the discard has returned, or after a while. */
struct slow_log {
    struct fake_log log;
    _Atomic bool asked, returned;
};

static int make_durable_slowly(void *ctx, cp_lsn upto)
{
    struct slow_log *slow = ctx;
    /* Longer than anybody waits for pins. */
    const uint64_t until_ns = cp_now_ns() + (CP_BUFPOOL_WAIT_LIMIT_MS + 300) * UINT64_C(1000000);
    atomic_store(&slow->asked, true);
    while (!atomic_load(&slow->returned) && cp_now_ns() < until_ns)
        sched_yield();
    return fake_make_durable(&slow->log, upto);
}

static void writeback_discard_is_patient_with_a_slow_log(void **state)
{
    (void)state;
    static struct setting s;
    static struct slow_log slow;
    pthread_t thread;
    void *result;
    memset(&slow, 0, sizeof slow);
    memset(&s, 0, sizeof s);
    const struct cp_lsn_gate gate = {&slow, fake_durable, make_durable_slowly};
    world_open(&s.w, 8 * MIB);
    world_create_file(&s.w, 0, 4096, PAGES);
    world_attach_with(&s.w, 0, &(struct cp_bufpool_file_options){.gate = &gate});
    change_page(&s.w, 0, 7, 1, 7);
    assert_int_equal(pthread_create(&thread, NULL, flush_in_thread, &s), 0);
    while (!atomic_load(&slow.asked)) /* ends: the flush asks the log, with the page claimed */
        sched_yield();
    int code = cp_bufpool_discard(s.w.file[0], 7, 1);
    atomic_store(&slow.returned, true);
    pthread_join(thread, &result);
    assert_int_equal(code, 0);
    assert_int_equal((intptr_t)result, 0);
    assert_int_equal(atomic_load(&s.w.pool->writes_claimed), 0);
    world_close(&s.w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writeback_discard_is_patient_with_a_slow_log),
        cmocka_unit_test(writeback_file_is_left_alone_when_its_pages_are_let_go),
        cmocka_unit_test(writeback_gate_asked_once_with_the_largest_lsn),
        cmocka_unit_test(writeback_largest_lsn_of_a_page_counts),
        cmocka_unit_test(writeback_durable_log_is_not_asked),
        cmocka_unit_test(writeback_gate_refuses_pages_stay_dirty_and_resident),
        cmocka_unit_test(writeback_eviction_with_gate_refused_fails_and_loses_nothing),
        cmocka_unit_test(writeback_durable_victims_go_first_without_asking),
        cmocka_unit_test(writeback_flush_sorts_and_merges),
        cmocka_unit_test(writeback_eviction_sorts_and_merges),
        cmocka_unit_test(writeback_one_request_stays_within_the_limit),
        cmocka_unit_test(writeback_clean_pages_are_not_written),
        cmocka_unit_test(writeback_full_disk_page_stays_dirty),
        cmocka_unit_test(writeback_io_error_page_stays_dirty),
        cmocka_unit_test(writeback_eviction_cannot_write_fix_fails_nothing_lost),
        cmocka_unit_test(writeback_short_writes_are_completed),
        cmocka_unit_test(writeback_miss_takes_clean_victim_while_writes_are_held),
        cmocka_unit_test(writeback_writer_reaps_the_write_it_waits_for),
        cmocka_unit_test(writeback_discard_of_dirty_pages_writes_nothing),
        cmocka_unit_test(writeback_flush_takes_over_a_write_that_failed),
        cmocka_unit_test(writeback_flush_waits_for_a_page_under_write),
        cmocka_unit_test(writeback_transfers_come_back_before_the_wait_no_hang),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
