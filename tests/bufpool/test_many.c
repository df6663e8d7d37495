/* SPDX-License-Identifier: MIT */
/* Many pages at a time: fix_many, prefetch, tickets, and reads that several threads want. */
#include "helpers.h"

#include <sched.h>

#define PAGES 400u

static void open_held(struct world *w, struct watchdog *dog, uint64_t budget_bytes)
{
    world_simple(w, budget_bytes, PAGES);
    watchdog_start(dog, w, WATCHDOG_LIMIT);
}

static void close_held(struct world *w, struct watchdog *dog)
{
    watchdog_stop(dog);
    world_close(w);
}

static void check_fixes(struct world *w, const struct cp_fix *fixes, const uint64_t *pages,
                        uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(fixes[i].page, pages[i]);
        assert_int_equal(page_version(fixes[i].data, w->page_size[0], pages[i]), 0);
    }
}

/* ---- fix_many -----------------------------------------------------------------------------------
 */

static void many_results_stand_in_the_order_asked(void **state)
{
    (void)state;
    struct world w;
    const uint64_t pages[] = {90, 3, 50, 4, 7, 200, 5, 1};
    struct cp_fix fixes[8];
    world_simple(&w, 8 * MIB, PAGES);
    check_version(&w, 0, 50, 0); /* one of them is there already */
    assert_int_equal(cp_bufpool_fix_many(w.file[0], pages, 8, CP_EXCLUSIVE, fixes), 0);
    check_fixes(&w, fixes, pages, 8);
    cp_bufpool_unfix_many(fixes, 8);
    assert_null(fixes[0].data);
    assert_int_equal(stats_of(&w).misses, 8);
    world_close(&w);
}

static void many_misses_go_in_one_submission_neighbours_in_one_read(void **state)
{
    (void)state;
    struct world w;
    struct cp_io_stats before, after;
    uint64_t pages[40];
    struct cp_fix fixes[40];
    world_simple(&w, 8 * MIB, PAGES);
    for (uint32_t i = 0; i < 40; i++)
        pages[i] = i < 20 ? i : 100 + 2 * i; /* a run of 20, and 20 single ones */
    cp_io_stats(w.io, &before);
    assert_int_equal(cp_bufpool_fix_many(w.file[0], pages, 40, CP_SHARED, fixes), 0);
    cp_io_stats(w.io, &after);
    assert_int_equal(after.submit_calls - before.submit_calls, 1);
    assert_int_equal(after.submitted - before.submitted, 21);
    assert_int_equal(after.reads - before.reads, 21);
    assert_int_equal(stats_of(&w).reads, 21);
    assert_int_equal(stats_of(&w).pages_read, 40);
    check_fixes(&w, fixes, pages, 40);
    cp_bufpool_unfix_many(fixes, 40);
    world_close(&w);
}

static void many_page_twice_shared_allowed_exclusive_refused(void **state)
{
    (void)state;
    struct world w;
    const uint64_t pages[] = {5, 9, 5};
    struct cp_fix fixes[3];
    world_simple(&w, 8 * MIB, PAGES);
    assert_int_equal(cp_bufpool_fix_many(w.file[0], pages, 3, CP_EXCLUSIVE, fixes), -EINVAL);
    assert_int_equal(cp_bufpool_fix_many(w.file[0], pages, 3, CP_SHARED, fixes), 0);
    check_fixes(&w, fixes, pages, 3);
    cp_bufpool_unfix_many(fixes, 3);
    assert_int_equal(cp_bufpool_list_pins(w.pool, NULL, 0), 0);
    world_close(&w);
}

static void many_limits_are_checked_before_anything(void **state)
{
    (void)state;
    struct world w;
    static uint64_t pages[CP_BUFPOOL_FIX_MANY_MAX + 1];
    static struct cp_fix fixes[CP_BUFPOOL_FIX_MANY_MAX + 1];
    world_simple(&w, 8 * MIB, PAGES);
    for (uint32_t i = 0; i <= CP_BUFPOOL_FIX_MANY_MAX; i++)
        pages[i] = i % PAGES;
    assert_int_equal(
        cp_bufpool_fix_many(w.file[0], pages, CP_BUFPOOL_FIX_MANY_MAX + 1, CP_SHARED, fixes),
        -EINVAL);
    assert_int_equal(
        cp_bufpool_fix_many(w.file[0], pages, CP_BUFPOOL_FIX_MANY_MAX, CP_SHARED, fixes), 0);
    cp_bufpool_unfix_many(fixes, CP_BUFPOOL_FIX_MANY_MAX);
    pages[1] = UINT64_C(1) << 20;
    assert_int_equal(cp_bufpool_fix_many(w.file[0], pages, 2, CP_SHARED, fixes), CP_ENOPAGE);
    assert_int_equal(cp_error_info()->page, UINT64_C(1) << 20);
    assert_int_equal(cp_bufpool_list_pins(w.pool, NULL, 0), 0);
    assert_int_equal(cp_bufpool_fix_many(w.file[0], pages, 0, CP_SHARED, fixes), 0);
    world_close(&w);
}

static void many_unreadable_page_none_is_fixed(void **state)
{
    (void)state;
    struct world w;
    const uint64_t pages[] = {1, 20, PAGES + 5, 40}; /* the third lies beyond the end */
    struct cp_fix fixes[4];
    world_simple(&w, 8 * MIB, PAGES);
    assert_int_equal(cp_bufpool_fix_many(w.file[0], pages, 4, CP_SHARED, fixes), -ENODATA);
    assert_int_equal(cp_error_info()->page, PAGES + 5);
    assert_string_equal(cp_error_info()->path, w.path[0]);
    assert_int_equal(cp_bufpool_list_pins(w.pool, NULL, 0), 0);
    assert_int_equal(stats_of(&w).pages_resident, 3);
    world_close(&w);
}

/* Waiting a second for each page that is too many would take minutes. */
static void many_more_pages_than_frames_refused_after_one_wait(void **state)
{
    (void)state;
    struct world w;
    uint64_t pages[PAGES];
    static struct cp_fix fixes[PAGES];
    world_simple(&w, CP_BUFPOOL_BUDGET_MIN, PAGES);
    for (uint32_t i = 0; i < PAGES; i++)
        pages[i] = i;
    uint64_t start_ns = cp_now_ns();
    assert_int_equal(cp_bufpool_fix_many(w.file[0], pages, PAGES, CP_SHARED, fixes), CP_ENOFRAMES);
    assert_true(cp_now_ns() - start_ns < 5 * UINT64_C(1000000000));
    assert_true(strlen(cp_error_info()->hint) > 0);
    assert_int_equal(cp_bufpool_list_pins(w.pool, NULL, 0), 0);
    for (uint64_t page = 0; page < PAGES; page++)
        check_version(&w, 0, page, 0);
    world_close(&w);
}

/* ---- prefetch -----------------------------------------------------------------------------------
 */

static void prefetch_reads_are_merged_and_found_by_fix(void **state)
{
    (void)state;
    struct world w;
    uint64_t pages[16];
    world_simple(&w, 8 * MIB, PAGES);
    for (uint32_t i = 0; i < 16; i++)
        pages[i] = 30 + i;
    assert_int_equal(cp_bufpool_prefetch(w.file[0], pages, 16), 16);
    assert_int_equal(cp_bufpool_prefetch(w.file[0], pages, 16), 0); /* under way already */
    for (uint32_t i = 0; i < 16; i++)
        check_version(&w, 0, 30 + i, 0);
    assert_int_equal(stats_of(&w).reads, 1);
    assert_int_equal(stats_of(&w).pages_read, 16);
    world_close(&w);
}

/* A hint for the processor: nothing is read, counted or changed, whatever the numbers are. */
static void expected_pages_are_not_read(void **state)
{
    (void)state;
    struct world w;
    struct cp_fix fix;
    const uint64_t pages[] = {0, 30, PAGES - 1, PAGES + 3, UINT64_C(1) << 40, UINT64_MAX};
    world_simple(&w, 8 * MIB, PAGES);
    check_version(&w, 0, 30, 0);
    const struct cp_bufpool_stats before = stats_of(&w);
    cp_bufpool_expect(w.file[0], pages, sizeof pages / sizeof pages[0]);
    cp_bufpool_expect(w.file[0], pages, 0);
    const struct cp_bufpool_stats after = stats_of(&w);
    assert_int_equal(after.hits, before.hits);
    assert_int_equal(after.misses, before.misses);
    assert_int_equal(after.reads, before.reads);
    assert_int_equal(after.pages_resident, 1);
    assert_int_equal(cp_bufpool_try_fix(w.file[0], 0, CP_SHARED, &fix), -EAGAIN);
    world_close(&w);
}

static void prefetch_failed_read_shows_at_fix(void **state)
{
    (void)state;
    struct world w;
    struct cp_fix fix;
    const uint64_t page = PAGES + 3;
    world_simple(&w, 8 * MIB, PAGES);
    assert_int_equal(cp_bufpool_prefetch(w.file[0], &page, 1), 1);
    assert_int_equal(cp_bufpool_fix(w.file[0], page, CP_SHARED, &fix), -ENODATA);
    world_close(&w);
}

/* Large frames from a pool of small dirty pages: a hint neither writes nor asks the log. */
static void prefetch_of_large_pages_waits_for_no_write(void **state)
{
    (void)state;
    struct world w;
    struct fake_log log = {0};
    const struct cp_lsn_gate gate = {&log, fake_durable, fake_make_durable};
    uint64_t pages[4] = {0, 1, 2, 3};
    world_open(&w, CP_BUFPOOL_BUDGET_MIN);
    world_create_file(&w, 0, 4096, PAGES);
    world_attach_with(&w, 0, &(struct cp_bufpool_file_options){.gate = &gate});
    world_add_file(&w, 1, 65536, 4);
    for (uint64_t page = 0; page < PAGES; page++)
        check_version(&w, 0, page, 0);
    for (uint64_t page = PAGES - 60; page < PAGES; page += 2) /* half dirty, half clean */
        change_page(&w, 0, page, 1, page);
    uint64_t asked = atomic_load(&log.calls);
    for (uint32_t round = 0; round < 50; round++)
        assert_true(cp_bufpool_prefetch(w.file[1], pages, 4) >= 0);
    assert_int_equal(atomic_load(&log.calls), asked);
    assert_int_equal(stats_of(&w).pages_written, 0);
    world_close(&w);
}

/* ---- tickets ------------------------------------------------------------------------------------
 */

static void tickets_several_begins_share_a_submission(void **state)
{
    (void)state;
    struct world w;
    struct cp_io_stats before, after;
    struct cp_ticket tickets[10];
    world_simple(&w, 8 * MIB, PAGES);
    cp_io_stats(w.io, &before);
    for (uint64_t i = 0; i < 10; i++) {
        const uint64_t page = i * 7;
        assert_int_equal(cp_bufpool_begin(w.file[0], &page, 1, CP_SHARED, &tickets[i]), 0);
    }
    cp_io_stats(w.io, &after); /* four at a time are on their way before anybody waits */
    assert_int_equal(after.submit_calls - before.submit_calls, 2);
    assert_int_equal(after.submitted - before.submitted, 8);
    for (uint64_t i = 10; i-- > 0;) {
        assert_int_equal(cp_bufpool_wait(&tickets[i]), 0);
        assert_int_equal(page_version(tickets[i].fix.data, 4096, i * 7), 0);
        cp_bufpool_unfix(&tickets[i].fix);
    }
    cp_io_stats(w.io, &after);
    assert_int_equal(after.submit_calls - before.submit_calls, 3);
    assert_int_equal(after.submitted - before.submitted, 10);
    world_close(&w);
}

/* Whoever waits for one ticket has the reads of the others on their way meanwhile. */
static void tickets_begun_are_submitted_by_a_wait_for_another(void **state)
{
    (void)state;
    struct world w;
    struct cp_io_stats before, after;
    struct cp_ticket absent, resident;
    struct cp_ticket *group[] = {&resident};
    const uint64_t far = 40, near = 3;
    for (uint32_t how = 0; how < 3; how++) {
        world_simple(&w, 8 * MIB, PAGES);
        check_version(&w, 0, near, 0);
        cp_io_stats(w.io, &before);
        assert_int_equal(cp_bufpool_begin(w.file[0], &far, 1, CP_SHARED, &absent), 0);
        assert_int_equal(cp_bufpool_begin(w.file[0], &near, 1, CP_SHARED, &resident), 0);
        if (how == 0)
            assert_true(cp_bufpool_poll(&resident));
        else if (how == 1)
            assert_int_equal(cp_bufpool_wait_some(group, 1), 1);
        else
            assert_int_equal(cp_bufpool_wait(&resident), 0);
        cp_io_stats(w.io, &after);
        assert_int_equal(after.submitted - before.submitted, 1);
        if (how < 2)
            assert_int_equal(cp_bufpool_wait(&resident), 0);
        cp_bufpool_unfix(&resident.fix);
        assert_int_equal(cp_bufpool_wait(&absent), 0);
        cp_bufpool_unfix(&absent.fix);
        world_close(&w);
    }
}

static void tickets_poll_turns_true_without_blocking(void **state)
{
    (void)state;
    struct world w;
    struct watchdog dog;
    struct cp_ticket ticket;
    const uint64_t page = 8;
    open_held(&w, &dog, 8 * MIB);
    fault_io_hold(w.faults);
    assert_int_equal(cp_bufpool_begin(w.file[0], &page, 1, CP_EXCLUSIVE, &ticket), 0);
    for (uint32_t i = 0; i < 5; i++)
        assert_false(cp_bufpool_poll(&ticket));
    fault_io_let_go(w.faults);
    while (!cp_bufpool_poll(&ticket)) {
    }
    assert_int_equal(cp_bufpool_wait(&ticket), 0);
    fill_page(ticket.fix.data, 4096, page, 1, 0);
    cp_bufpool_mark_dirty(&ticket.fix, 0);
    cp_bufpool_unfix(&ticket.fix);
    check_version(&w, 0, page, 1);
    close_held(&w, &dog);
}

/* A page that cannot be read must not keep a polling caller for ever. */
static void tickets_poll_of_an_unreadable_page_ends(void **state)
{
    (void)state;
    struct world w;
    struct cp_ticket ticket;
    const uint64_t page = PAGES + 1;
    uint32_t polls = 0;
    world_simple(&w, 8 * MIB, PAGES);
    assert_int_equal(cp_bufpool_begin(w.file[0], &page, 1, CP_SHARED, &ticket), 0);
    while (!cp_bufpool_poll(&ticket))
        assert_true(++polls < 1000);
    assert_int_equal(cp_bufpool_wait(&ticket), -ENODATA);
    assert_int_equal(cp_error_info()->page, page);
    assert_int_equal(stats_of(&w).pages_resident, 0);
    world_close(&w);
}

static void tickets_one_bad_page_in_a_merged_read_fails_alone(void **state)
{
    (void)state;
    struct world w;
    struct cp_ticket tickets[8];
    uint64_t pages[8];
    world_simple(&w, 8 * MIB, PAGES);
    for (uint32_t i = 0; i < 8; i++)
        pages[i] = PAGES - 6 + i; /* the last two lie beyond the end */
    assert_int_equal(cp_bufpool_begin(w.file[0], pages, 8, CP_SHARED, tickets), 0);
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(cp_bufpool_wait(&tickets[i]), i < 6 ? 0 : -ENODATA);
        if (i < 6)
            cp_bufpool_unfix(&tickets[i].fix);
    }
    assert_int_equal(stats_of(&w).pages_resident, 6);
    world_close(&w);
}

static void tickets_cancelled_leave_no_pin(void **state)
{
    (void)state;
    struct world w;
    struct cp_ticket tickets[4];
    const uint64_t pages[] = {1, 2, PAGES + 9, 7};
    world_simple(&w, 8 * MIB, PAGES);
    check_version(&w, 0, 7, 0);
    assert_int_equal(cp_bufpool_begin(w.file[0], pages, 4, CP_EXCLUSIVE, tickets), 0);
    for (uint32_t i = 0; i < 4; i++)
        cp_bufpool_cancel(&tickets[i]);
    assert_int_equal(cp_bufpool_list_pins(w.pool, NULL, 0), 0);
    assert_int_equal(stats_of(&w).pages_resident, 3);
    world_close(&w);
}

static void tickets_more_than_frames_the_rest_fails_after_one_wait(void **state)
{
    (void)state;
    struct world w;
    uint64_t pages[PAGES];
    static struct cp_ticket tickets[PAGES];
    uint32_t fixed = 0;
    world_simple(&w, CP_BUFPOOL_BUDGET_MIN, PAGES);
    for (uint32_t i = 0; i < PAGES; i++)
        pages[i] = i;
    uint64_t start_ns = cp_now_ns();
    assert_int_equal(cp_bufpool_begin(w.file[0], pages, PAGES, CP_SHARED, tickets), 0);
    for (uint32_t i = 0; i < PAGES; i++) {
        int status = cp_bufpool_wait(&tickets[i]);
        if (status == 0)
            fixed++;
        else
            assert_int_equal(status, CP_ENOFRAMES);
    }
    assert_true(cp_now_ns() - start_ns < 5 * UINT64_C(1000000000));
    assert_true(fixed > 20 && fixed < PAGES);
    for (uint32_t i = 0; i < PAGES; i++) {
        if (tickets[i].fix.data != NULL)
            cp_bufpool_unfix(&tickets[i].fix);
    }
    assert_int_equal(cp_bufpool_list_pins(w.pool, NULL, 0), 0);
    world_close(&w);
}

/* Poll promises not to block: not for a frame, either. */
static void tickets_poll_waits_for_no_frame(void **state)
{
    (void)state;
    struct world w;
    static struct cp_fix fixes[PAGES];
    struct cp_ticket ticket;
    struct cp_fix busy;
    uint32_t count = 0;
    const uint64_t page = PAGES - 1;
    world_simple(&w, CP_BUFPOOL_BUDGET_MIN, PAGES);
    busy = must_fix(&w, 0, page, CP_EXCLUSIVE); /* so that the ticket has to try again */
    assert_int_equal(cp_bufpool_begin(w.file[0], &page, 1, CP_SHARED, &ticket), 0);
    cp_bufpool_unfix(&busy);
    drop(&w, 0, page);
    while (w.pool->free_units > 0 ||
           stats_of(&w).used_bytes + w.pool->extent_cost_bytes <= CP_BUFPOOL_BUDGET_MIN) {
        fixes[count] = must_fix(&w, 0, count, CP_SHARED);
        count++;
    }
    uint64_t start_ns = cp_now_ns();
    assert_false(cp_bufpool_poll(&ticket));
    assert_true(cp_now_ns() - start_ns < UINT64_C(500000000));
    cp_bufpool_unfix_many(fixes, count);
    assert_int_equal(cp_bufpool_wait(&ticket), 0);
    cp_bufpool_unfix(&ticket.fix);
    world_close(&w);
}

/* Of many, those that have come stand in front; the others go on. */
static void tickets_wait_some_returns_what_has_come(void **state)
{
    (void)state;
    struct world w;
    struct watchdog dog;
    struct cp_ticket tickets[5], *waiting[5];
    bool done[5] = {false};
    const uint64_t pages[5] = {10, 20, 30, 40, 50};
    open_held(&w, &dog, 8 * MIB);
    check_version(&w, 0, 30, 0); /* resident: ready at once */
    fault_io_hold(w.faults);
    assert_int_equal(cp_bufpool_begin(w.file[0], pages, 5, CP_SHARED, tickets), 0);
    for (uint32_t i = 0; i < 5; i++)
        waiting[i] = &tickets[i];
    assert_int_equal(cp_bufpool_wait_some(waiting, 0), 0);
    assert_int_equal(cp_bufpool_wait_some(waiting, 5), 1);
    assert_ptr_equal(waiting[0], &tickets[2]);
    for (uint32_t left = 5; left > 0; left--) {
        uint32_t ready = cp_bufpool_wait_some(waiting, left);
        assert_int_equal(ready, 1); /* one completion is let through at a time */
        uint32_t i = (uint32_t)(waiting[0] - tickets);
        assert_false(done[i]);
        done[i] = true;
        assert_int_equal(cp_bufpool_wait(waiting[0]), 0);
        assert_int_equal(page_version(tickets[i].fix.data, 4096, pages[i]), 0);
        cp_bufpool_unfix(&tickets[i].fix);
        waiting[0] = waiting[left - 1];
        fault_io_release(w.faults, 1);
    }
    fault_io_let_go(w.faults);
    close_held(&w, &dog);
}

/* A latched page does not hold the others up; when nothing else is left, it is handed out. */
static void tickets_wait_some_does_not_wait_for_a_latch(void **state)
{
    (void)state;
    struct world w;
    struct watchdog dog;
    struct cp_ticket tickets[2], *waiting[2] = {&tickets[0], &tickets[1]};
    const uint64_t pages[2] = {10, 20};
    open_held(&w, &dog, 8 * MIB);
    struct cp_fix busy = must_fix(&w, 0, 10, CP_EXCLUSIVE);
    assert_int_equal(cp_bufpool_begin(w.file[0], pages, 2, CP_SHARED, tickets), 0);
    assert_int_equal(cp_bufpool_wait_some(waiting, 2), 1);
    assert_ptr_equal(waiting[0], &tickets[1]);
    assert_int_equal(cp_bufpool_wait(waiting[0]), 0);
    cp_bufpool_unfix(&tickets[1].fix);
    assert_int_equal(cp_bufpool_wait_some(&waiting[1], 1), 1);
    cp_bufpool_unfix(&busy);
    assert_int_equal(cp_bufpool_wait(&tickets[0]), 0);
    cp_bufpool_unfix(&tickets[0].fix);
    close_held(&w, &dog);
}

/* A page that was latched and is gone has to be read: that is waited for, and not in wait. */
static void tickets_wait_some_waits_for_a_read_begun_late(void **state)
{
    (void)state;
    struct world w;
    struct watchdog dog;
    struct cp_ticket ticket, *waiting = &ticket;
    const uint64_t page = 10;
    open_held(&w, &dog, 8 * MIB);
    struct cp_fix busy = must_fix(&w, 0, page, CP_EXCLUSIVE);
    assert_int_equal(cp_bufpool_begin(w.file[0], &page, 1, CP_SHARED, &ticket), 0);
    cp_bufpool_unfix(&busy);
    drop(&w, 0, page);
    assert_int_equal(cp_bufpool_wait_some(&waiting, 1), 1);
    assert_int_equal(ticket.state, CP_TICKET_FIXED);
    assert_int_equal(cp_bufpool_wait(&ticket), 0);
    cp_bufpool_unfix(&ticket.fix);
    close_held(&w, &dog);
}

/* ---- several threads ----------------------------------------------------------------------------
 */

struct job {
    struct world *w;
    uint64_t page;
    struct cp_ticket *ticket;
    int status;
};

static void *fix_in_thread(void *argument)
{
    struct job *job = argument;
    struct cp_fix fix;
    job->status = cp_bufpool_fix(job->w->file[0], job->page, CP_SHARED, &fix);
    if (job->status == 0) {
        if (page_version(fix.data, 4096, job->page) != 0)
            job->status = -EINVAL;
        cp_bufpool_unfix(&fix);
    }
    return NULL;
}

static void many_threads_missing_one_page_do_one_read(void **state)
{
    (void)state;
    struct world w;
    struct watchdog dog;
    pthread_t threads[4];
    struct job jobs[4];
    const uint64_t page = 77;
    open_held(&w, &dog, 8 * MIB);
    fault_io_hold(w.faults);
    assert_int_equal(cp_bufpool_prefetch(w.file[0], &page, 1), 1);
    assert_true(fault_io_await_held(w.faults, 1, HOLD_TIMEOUT));
    for (uint32_t i = 0; i < 4; i++) {
        jobs[i] = (struct job){.w = &w, .page = page, .status = 1};
        assert_int_equal(pthread_create(&threads[i], NULL, fix_in_thread, &jobs[i]), 0);
    }
    while (stats_of(&w).load_waits < 4)
        sched_yield();
    fault_io_let_go(w.faults);
    for (uint32_t i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(jobs[i].status, 0);
    }
    assert_int_equal(stats_of(&w).reads, 1);
    assert_int_equal(stats_of(&w).misses, 1);
    assert_int_equal(fault_io_count(w.faults, FAULT_READ), 1);
    close_held(&w, &dog);
}

static void *begin_in_thread(void *argument)
{
    struct job *job = argument;
    job->status = cp_bufpool_begin(job->w->file[0], &job->page, 1, CP_SHARED, job->ticket);
    return NULL;
}

static void *wait_in_thread(void *argument)
{
    struct job *job = argument;
    job->status = cp_bufpool_wait(job->ticket);
    return NULL;
}

/* A ticket outlives the thread that began it, and any thread may finish it. */
static void tickets_begun_by_a_thread_that_exits_finished_by_another(void **state)
{
    (void)state;
    struct world w;
    struct watchdog dog;
    struct cp_ticket tickets[6];
    struct job jobs[6];
    pthread_t thread;
    open_held(&w, &dog, 8 * MIB);
    for (uint32_t i = 0; i < 6; i++) {
        jobs[i] = (struct job){.w = &w, .page = 3 * i, .ticket = &tickets[i]};
        assert_int_equal(pthread_create(&thread, NULL, begin_in_thread, &jobs[i]), 0);
        pthread_join(thread, NULL);
        assert_int_equal(jobs[i].status, 0);
    }
    for (uint32_t i = 0; i < 6; i++) {
        assert_int_equal(pthread_create(&thread, NULL, wait_in_thread, &jobs[i]), 0);
        pthread_join(thread, NULL);
        assert_int_equal(jobs[i].status, 0);
        assert_int_equal(page_version(tickets[i].fix.data, 4096, 3 * i), 0);
        cp_bufpool_unfix(&tickets[i].fix);
    }
    close_held(&w, &dog);
}

/* All frames are being read, in line and not even submitted: whoever needs one gets it. */
static void tickets_unsubmitted_reads_of_others_do_not_stop_a_miss(void **state)
{
    (void)state;
    struct world w;
    struct watchdog dog;
    static struct cp_ticket tickets[PAGES];
    uint32_t count = 0;
    open_held(&w, &dog, CP_BUFPOOL_BUDGET_MIN);
    while (w.pool->free_units > 0 ||
           stats_of(&w).used_bytes + w.pool->extent_cost_bytes <= CP_BUFPOOL_BUDGET_MIN) {
        const uint64_t page = count;
        assert_int_equal(cp_bufpool_begin(w.file[0], &page, 1, CP_SHARED, &tickets[count]), 0);
        if (tickets[count].state != CP_TICKET_LOADING)
            break; /* no transfer left */
        count++;
    }
    pthread_t thread;
    struct job job = {.w = &w, .page = PAGES - 1, .status = 1};
    assert_int_equal(pthread_create(&thread, NULL, fix_in_thread, &job), 0);
    for (uint32_t i = 0; i < count; i++)
        cp_bufpool_cancel(&tickets[i]);
    pthread_join(thread, NULL);
    assert_int_equal(job.status, 0);
    close_held(&w, &dog);
}

/* ---- more threads than slots --------------------------------------------------------------------
 */

#define COUNTING_THREADS 4u
#define COUNTING_ROUNDS  100000u

struct counting {
    struct world *w;
    _Atomic uint32_t idle; /* threads that have a slot each */
    uint32_t over;         /* futex */
};

static void *sit_on_a_slot(void *argument)
{
    struct counting *c = argument;
    (void)cp_thread_slot();
    atomic_fetch_add(&c->idle, 1);
    while (__atomic_load_n(&c->over, __ATOMIC_ACQUIRE) == 0)
        cp_futex_wait(&c->over, 0, 0);
    return NULL;
}

/* One kind adds to the counter that these threads share, the other one must not write it plainly.
 */
static void *count_hits(void *argument)
{
    struct counting *c = argument;
    struct cp_bufpool_file *file = c->w->file[0];
    const uint64_t pages[2] = {1, 2};
    struct cp_fix fixes[2];
    assert_int_equal(cp_thread_slot(), CP_THREAD_SLOT_SHARED);
    for (uint32_t i = 0; i < COUNTING_ROUNDS; i++) {
        assert_int_equal(cp_bufpool_fix_many(file, pages, 2, CP_SHARED, fixes), 0);
        cp_bufpool_unfix_many(fixes, 2);
    }
    return NULL;
}

static void many_hits_of_threads_without_slots_all_counted(void **state)
{
    (void)state;
    struct world w;
    struct counting c = {.w = &w};
    pthread_t idle[CP_THREAD_SLOTS], busy[COUNTING_THREADS];
    world_simple(&w, 4 * MIB, 4);
    check_version(&w, 0, 1, 0);
    check_version(&w, 0, 2, 0);
    for (uint32_t i = 0; i < CP_THREAD_SLOTS; i++)
        assert_int_equal(pthread_create(&idle[i], NULL, sit_on_a_slot, &c), 0);
    while (atomic_load(&c.idle) < CP_THREAD_SLOTS)
        sched_yield();
    uint64_t before = stats_of(&w).hits;
    for (uint32_t i = 0; i < COUNTING_THREADS; i++)
        assert_int_equal(pthread_create(&busy[i], NULL, count_hits, &c), 0);
    for (uint32_t i = 0; i < COUNTING_THREADS; i++)
        pthread_join(busy[i], NULL);
    assert_int_equal(stats_of(&w).hits - before, COUNTING_THREADS * COUNTING_ROUNDS * 2);
    __atomic_store_n(&c.over, 1, __ATOMIC_RELEASE);
    cp_futex_wake(&c.over, CP_THREAD_SLOTS);
    for (uint32_t i = 0; i < CP_THREAD_SLOTS; i++)
        pthread_join(idle[i], NULL);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_results_stand_in_the_order_asked),
        cmocka_unit_test(many_misses_go_in_one_submission_neighbours_in_one_read),
        cmocka_unit_test(many_page_twice_shared_allowed_exclusive_refused),
        cmocka_unit_test(many_limits_are_checked_before_anything),
        cmocka_unit_test(many_unreadable_page_none_is_fixed),
        cmocka_unit_test(many_more_pages_than_frames_refused_after_one_wait),
        cmocka_unit_test(prefetch_reads_are_merged_and_found_by_fix),
        cmocka_unit_test(expected_pages_are_not_read),
        cmocka_unit_test(prefetch_failed_read_shows_at_fix),
        cmocka_unit_test(prefetch_of_large_pages_waits_for_no_write),
        cmocka_unit_test(tickets_several_begins_share_a_submission),
        cmocka_unit_test(tickets_begun_are_submitted_by_a_wait_for_another),
        cmocka_unit_test(tickets_poll_turns_true_without_blocking),
        cmocka_unit_test(tickets_poll_of_an_unreadable_page_ends),
        cmocka_unit_test(tickets_one_bad_page_in_a_merged_read_fails_alone),
        cmocka_unit_test(tickets_cancelled_leave_no_pin),
        cmocka_unit_test(tickets_more_than_frames_the_rest_fails_after_one_wait),
        cmocka_unit_test(tickets_poll_waits_for_no_frame),
        cmocka_unit_test(tickets_wait_some_returns_what_has_come),
        cmocka_unit_test(tickets_wait_some_does_not_wait_for_a_latch),
        cmocka_unit_test(tickets_wait_some_waits_for_a_read_begun_late),
        cmocka_unit_test(many_threads_missing_one_page_do_one_read),
        cmocka_unit_test(tickets_begun_by_a_thread_that_exits_finished_by_another),
        cmocka_unit_test(tickets_unsubmitted_reads_of_others_do_not_stop_a_miss),
        cmocka_unit_test(many_hits_of_threads_without_slots_all_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
