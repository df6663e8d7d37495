/* SPDX-License-Identifier: MIT */
/*
 * 2Q, the full version (Johnson and Shasha, VLDB 1994): a queue for pages seen once (a quarter of
 * the frames, as the paper recommends), names of as many pages as half of the frames could hold
 * that left it, and an LRU list for pages that were missed while their name was there.
 */
#include "policy.h"

#include "lists.h"

#include <stdlib.h>

enum where { OUT, IN, NAMED, MAIN };

struct two_queues {
    struct trace_links links;
    struct trace_list in, named, main; /* A1in, A1out and Am in the paper */
    uint8_t *where;                    /* enum where, by page */
    uint32_t frames, in_limit, named_limit;
};

static void two_queues_destroy(void *state)
{
    struct two_queues *self = state;
    free(self->links.older);
    free(self->links.newer);
    free(self->where);
    free(self);
}

static void *two_queues_create(const struct trace_setup *setup)
{
    struct two_queues *self = calloc(1, sizeof *self);
    if (self == NULL)
        return NULL;
    self->frames = setup->frames;
    self->in_limit = setup->frames / 4 > 0 ? setup->frames / 4 : 1;
    self->named_limit = setup->frames / 2 > 0 ? setup->frames / 2 : 1;
    self->links.older = malloc(setup->page_count * sizeof(uint32_t));
    self->links.newer = malloc(setup->page_count * sizeof(uint32_t));
    self->where = calloc(setup->page_count, 1);
    trace_list_init(&self->in, &self->links);
    trace_list_init(&self->named, &self->links);
    trace_list_init(&self->main, &self->links);
    if (self->links.older == NULL || self->links.newer == NULL || self->where == NULL) {
        two_queues_destroy(self);
        return NULL;
    }
    return self;
}

/* reclaimfor of the paper, for a full pool. */
static void make_room(struct two_queues *self)
{
    if (self->in.count + self->main.count < self->frames)
        return;
    if (self->in.count > self->in_limit || self->main.count == 0) {
        uint32_t page = trace_list_shift(&self->in);
        self->where[page] = NAMED;
        trace_list_append(&self->named, page);
        if (self->named.count > self->named_limit)
            self->where[trace_list_shift(&self->named)] = OUT;
    } else {
        self->where[trace_list_shift(&self->main)] = OUT;
    }
}

static bool two_queues_access(void *state, uint32_t page, uint32_t at)
{
    struct two_queues *self = state;
    (void)at;
    switch ((enum where)self->where[page]) {
    case IN: /* perhaps a correlated reference: nothing */
        return true;
    case MAIN:
        trace_list_remove(&self->main, page);
        trace_list_append(&self->main, page);
        return true;
    case NAMED:
        trace_list_remove(&self->named, page); /* first, so that its own name is not pushed out */
        make_room(self);
        self->where[page] = MAIN;
        trace_list_append(&self->main, page);
        return false;
    case OUT:
        make_room(self);
        self->where[page] = IN;
        trace_list_append(&self->in, page);
        return false;
    }
    return false;
}

const struct trace_policy trace_policy_2q = {
    .name = "2q",
    .title = "2Q",
    .summary = "a queue before an LRU list; 25 % and names for 50 % (VLDB 1994)",
    .mark = '2',
    .create = two_queues_create,
    .access = two_queues_access,
    .destroy = two_queues_destroy,
};
