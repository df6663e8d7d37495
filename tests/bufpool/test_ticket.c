/* SPDX-License-Identifier: MIT */
/* A ticket whose read another thread reaps while its owner looks at it. */
#include "helpers.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ticket_that_arrives_during_poll_is_fixed_once),
        cmocka_unit_test(ticket_that_arrives_during_wait_some_is_fixed_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
