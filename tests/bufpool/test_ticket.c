/* SPDX-License-Identifier: MIT */
/* Tickets while other threads reap their reads, or wait for the same pages. */
#include "helpers.h"

#include <sched.h>

static struct world *hooked;
static struct cp_ticket *watched;

/* In the middle of the owner's look: the read arrives. */
static void have_it_arrive(const char *point, struct cp_bufpool_file *file, uint64_t page)
{
    (void)page;
    if (strcmp(point, "ready") != 0 || watched->state != CP_TICKET_LOADING)
        return;
    fault_io_let_go(hooked->faults);
    while (watched->state == CP_TICKET_LOADING) { /* ends: the device answers */
        for (uint32_t i = 0; i < file->pool->ring_count; i++)
            (void)cp_io_ring_poll(file->pool->rings[i]);
    }
}

/* Begin to read a page whose completion is held back until somebody looks at the ticket. */
static void begin_held(struct world *w, struct cp_ticket *ticket)
{
    const uint64_t page = 8;
    world_simple(w, 8 * MIB, 64);
    fault_io_hold(w->faults);
    assert_int_equal(cp_bufpool_begin(w->file[0], &page, 1, CP_SHARED, ticket), 0);
    assert_int_equal(ticket->state, CP_TICKET_LOADING);
    hooked = w;
    watched = ticket;
    cp_bufpool__hook = have_it_arrive;
}

/* The ticket has its page, once. */
static void end_held(struct world *w, struct cp_ticket *ticket)
{
    struct cp_pin pin;
    assert_int_equal(cp_bufpool_wait(ticket), 0);
    assert_int_equal(page_version(ticket->fix.data, 4096, 8), 0);
    cp_bufpool_unfix(&ticket->fix);
    assert_int_equal(cp_bufpool_list_pins(w->pool, &pin, 1), 0);
    cp_bufpool__hook = NULL;
    world_close(w);
}

static void ticket_that_arrives_during_poll_is_fixed_once(void **state)
{
    (void)state;
    struct world w;
    struct cp_ticket ticket;
    begin_held(&w, &ticket);
    (void)cp_bufpool_poll(&ticket);
    assert_int_equal(ticket.state, CP_TICKET_FIXED);
    end_held(&w, &ticket);
}

static void ticket_that_arrives_during_wait_some_is_fixed_once(void **state)
{
    (void)state;
    struct world w;
    struct cp_ticket ticket, *waiting = &ticket;
    begin_held(&w, &ticket);
    assert_int_equal(cp_bufpool_wait_some(&waiting, 1), 1);
    end_held(&w, &ticket);
}

/* ---- a page that somebody has begun to read but not yet put in line -----------------------------
 */

struct other_fixer {
    struct world *w;
    pthread_t thread;
    bool begun;
};

static struct other_fixer fixer;

static void *fix_the_same(void *argument)
{
    check_version(argument, 0, 8, 0);
    return NULL;
}

static uint64_t waits_of(struct world *w)
{
    struct cp_io_ring_stats stats;
    cp_io_ring_stats(w->pool->rings[0], &stats);
    return stats.waits;
}

/* In begin, after the claim: another thread goes to sleep for the page. */
static void have_another_wait(const char *point, struct cp_bufpool_file *file, uint64_t page)
{
    (void)file;
    if (fixer.begun || strcmp(point, "claimed") != 0 || page != 8)
        return;
    fixer.begun = true;
    uint64_t before = waits_of(fixer.w);
    assert_int_equal(pthread_create(&fixer.thread, NULL, fix_the_same, fixer.w), 0);
    while (waits_of(fixer.w) == before) /* the watchdog bounds it */
        sched_yield();
}

/* The owner of the ticket does not come back before the other thread has had the page. */
static void ticket_begun_while_another_sleeps_for_it_is_read(void **state)
{
    (void)state;
    struct world w;
    struct watchdog dog;
    struct cp_ticket ticket;
    const uint64_t page = 8;
    for (enum world_rings rings = RINGS_DEFERRED; rings <= RINGS_SYNC; rings++) {
        const struct cp_bufpool_options options = {.budget_bytes = 8 * MIB, .ring_count = 1};
        world_open_with(&w, &options, rings);
        world_add_file(&w, 0, 4096, 64);
        watchdog_start(&dog, &w, WATCHDOG_LIMIT / 4);
        fixer = (struct other_fixer){.w = &w};
        cp_bufpool__hook = have_another_wait;
        assert_int_equal(cp_bufpool_begin(w.file[0], &page, 1, CP_SHARED, &ticket), 0);
        assert_true(fixer.begun);
        pthread_join(fixer.thread, NULL);
        cp_bufpool__hook = NULL;
        assert_int_equal(cp_bufpool_wait(&ticket), 0);
        cp_bufpool_unfix(&ticket.fix);
        watchdog_stop(&dog);
        world_close(&w);
    }
}

/* ---- a page whose place in the table is not paid for, where nothing is left to pay with ---------
 */

struct full_pool {
    struct world w;
    struct fake_log log;
    uint64_t pages;       /* resident, all dirty */
    uint64_t taken_bytes; /* by the test */
};

/* The first page of a group that nothing else is in. */
#define NEW_GROUP_PAGE (2 * CP_GROUP_WORDS)

/* So that less than a group's price is left. */
static void take_the_rest(struct full_pool *full)
{
    const struct cp_bufpool_stats stats = stats_of(&full->w);
    uint64_t rest = (stats.budget_bytes - stats.used_bytes) / 4096 * 4096;
    assert_true(cp_budget__take(&full->w.pool->budget, CP_FOR_IO, rest));
    full->taken_bytes += rest;
}

static void give_back_the_rest(struct full_pool *full)
{
    cp_budget__give(&full->w.pool->budget, CP_FOR_IO, full->taken_bytes);
    full->taken_bytes = 0;
}

/* Every frame holds a dirty page, whose log is not durable. */
static void open_full(struct full_pool *full)
{
    memset(full, 0, sizeof *full);
    const struct cp_lsn_gate gate = {&full->log, fake_durable, fake_make_durable};
    world_open(&full->w, 1 * MIB);
    world_create_file(&full->w, 0, 4096, NEW_GROUP_PAGE + 8);
    world_attach_with(&full->w, 0, &(struct cp_bufpool_file_options){.gate = &gate});
    while (atomic_load(&full->w.pool->free_units) > 0 ||
           stats_of(&full->w).used_bytes + full->w.pool->extent_cost_bytes <=
               stats_of(&full->w).budget_bytes) {
        change_page(&full->w, 0, full->pages, 1, full->pages + 1);
        full->pages++;
    }
    assert_true(full->pages < CP_GROUP_WORDS);
    assert_int_equal(stats_of(&full->w).pages_dirty, full->pages);
    take_the_rest(full);
}

/* Nothing was written or evicted, and nobody asked the log for anything. */
static void check_nothing_waited_for(struct full_pool *full)
{
    const struct cp_bufpool_stats stats = stats_of(&full->w);
    assert_int_equal(atomic_load(&full->log.calls), 0);
    assert_int_equal(stats.pages_written, 0);
    assert_int_equal(stats.extents_released, 0);
    assert_int_equal(stats.pages_dirty, full->pages);
}

static void close_full(struct full_pool *full)
{
    give_back_the_rest(full);
    world_close(&full->w);
}

static void prefetch_without_memory_for_the_table_waits_for_nothing(void **state)
{
    (void)state;
    struct full_pool full;
    const uint64_t page = NEW_GROUP_PAGE;
    open_full(&full);
    assert_int_equal(cp_bufpool_prefetch(full.w.file[0], &page, 1), 0);
    check_nothing_waited_for(&full);
    assert_false(is_resident(&full.w, 0, page));
    check_version(&full.w, 0, page, 0); /* who may wait gets it */
    close_full(&full);
}

/* A ticket met a latch, and when it looks again the page and its group are gone. */
static void poll_without_memory_for_the_table_waits_for_nothing(void **state)
{
    (void)state;
    struct full_pool full;
    struct cp_ticket ticket;
    const uint64_t page = NEW_GROUP_PAGE;
    open_full(&full);
    give_back_the_rest(&full);
    atomic_store(&full.log.durable, UINT64_C(1) << 40); /* one frame for the page */
    struct cp_fix other = must_fix(&full.w, 0, page, CP_EXCLUSIVE);
    assert_int_equal(cp_bufpool_begin(full.w.file[0], &page, 1, CP_SHARED, &ticket), 0);
    assert_int_equal(ticket.state, CP_TICKET_RETRY);
    cp_bufpool_unfix(&other);
    drop(&full.w, 0, page);
    (void)cp_table__trim(full.w.file[0]);
    for (uint64_t p = 0; p < full.pages; p++) {
        if (is_resident(&full.w, 0, p)) /* those that were written for that are dirty again */
            change_page(&full.w, 0, p, 2, (UINT64_C(1) << 41) + p);
    }
    take_the_rest(&full);
    const struct cp_bufpool_stats before = stats_of(&full.w);
    const uint32_t calls = atomic_load(&full.log.calls);
    for (uint32_t i = 0; i < 3; i++) {
        bool ready = cp_bufpool_poll(&ticket);
        assert_int_equal(atomic_load(&full.log.calls), calls);
        assert_false(ready);
        assert_int_equal(ticket.state, CP_TICKET_RETRY);
    }
    assert_int_equal(stats_of(&full.w).pages_written, before.pages_written);
    assert_int_equal(stats_of(&full.w).extents_released, before.extents_released);
    assert_int_equal(cp_bufpool_wait(&ticket), 0); /* that may wait */
    assert_int_equal(page_version(ticket.fix.data, 4096, page), 0);
    cp_bufpool_unfix(&ticket.fix);
    close_full(&full);
}

/* What the budget has room for is paid by whoever may not wait, too. */
static void prefetch_with_memory_for_the_table_pays_for_it(void **state)
{
    (void)state;
    struct full_pool full;
    const uint64_t page = NEW_GROUP_PAGE;
    open_full(&full);
    atomic_store(&full.log.durable, UINT64_C(1) << 40);
    assert_int_equal(cp_bufpool_flush(full.w.file[0]), 0); /* clean victims */
    assert_int_equal(cp_bufpool_prefetch(full.w.file[0], &page, 1), 0);
    cp_budget__give(&full.w.pool->budget, CP_FOR_IO, 4096);
    full.taken_bytes -= 4096;
    assert_int_equal(cp_bufpool_prefetch(full.w.file[0], &page, 1), 1);
    assert_int_equal(stats_of(&full.w).extents_released, 0);
    check_version(&full.w, 0, page, 0);
    close_full(&full);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ticket_that_arrives_during_poll_is_fixed_once),
        cmocka_unit_test(ticket_that_arrives_during_wait_some_is_fixed_once),
        cmocka_unit_test(ticket_begun_while_another_sleeps_for_it_is_read),
        cmocka_unit_test(prefetch_without_memory_for_the_table_waits_for_nothing),
        cmocka_unit_test(poll_without_memory_for_the_table_waits_for_nothing),
        cmocka_unit_test(prefetch_with_memory_for_the_table_pays_for_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
