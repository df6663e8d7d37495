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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ticket_that_arrives_during_poll_is_fixed_once),
        cmocka_unit_test(ticket_that_arrives_during_wait_some_is_fixed_once),
        cmocka_unit_test(ticket_begun_while_another_sleeps_for_it_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
