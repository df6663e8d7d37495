/* SPDX-License-Identifier: MIT */
/*
 * Policies of one queue: LRU, the one-bit clock (Corbato 1968), and SIEVE (Zhang et al., NSDI
 * 2024). The latter two are told apart by what becomes of a page that the hand passes over: the
 * clock moves it to the newest end, SIEVE leaves it where it is.
 */
#include "policy.h"

#include "lists.h"

#include <stdlib.h>
#include <string.h>

struct simple {
    struct trace_links links;
    struct trace_list queue;
    uint32_t frames;
    uint32_t hand;                  /* SIEVE: next page to look at, or TRACE_NONE: the oldest */
    uint8_t *resident, *referenced; /* by page */
    uint64_t steps;
};

static void simple_destroy(void *state)
{
    struct simple *self = state;
    free(self->links.older);
    free(self->links.newer);
    free(self->resident);
    free(self->referenced);
    free(self);
}

static void *simple_create(const struct trace_setup *setup)
{
    struct simple *self = calloc(1, sizeof *self);
    if (self == NULL)
        return NULL;
    self->frames = setup->frames;
    self->hand = TRACE_NONE;
    self->links.older = malloc(setup->page_count * sizeof(uint32_t));
    self->links.newer = malloc(setup->page_count * sizeof(uint32_t));
    self->resident = calloc(setup->page_count, 1);
    self->referenced = calloc(setup->page_count, 1);
    trace_list_init(&self->queue, &self->links);
    if (self->links.older == NULL || self->links.newer == NULL || self->resident == NULL ||
        self->referenced == NULL) {
        simple_destroy(self);
        return NULL;
    }
    return self;
}

static uint64_t simple_steps(void *state)
{
    return ((struct simple *)state)->steps;
}

static void enter(struct simple *self, uint32_t page)
{
    self->resident[page] = 1;
    self->referenced[page] = 0;
    trace_list_append(&self->queue, page);
}

static bool lru_access(void *state, uint32_t page, uint32_t at)
{
    struct simple *self = state;
    (void)at;
    if (self->resident[page]) {
        trace_list_remove(&self->queue, page);
        trace_list_append(&self->queue, page);
        return true;
    }
    if (self->queue.count == self->frames)
        self->resident[trace_list_shift(&self->queue)] = 0;
    enter(self, page);
    return false;
}

static bool clock_access(void *state, uint32_t page, uint32_t at)
{
    struct simple *self = state;
    (void)at;
    if (self->resident[page]) {
        self->referenced[page] = 1;
        return true;
    }
    while (self->queue.count == self->frames) { /* ends: each step clears a mark or evicts */
        uint32_t oldest = trace_list_shift(&self->queue);
        self->steps++;
        if (self->referenced[oldest])
            enter(self, oldest);
        else
            self->resident[oldest] = 0;
    }
    enter(self, page);
    return false;
}

static void sieve_evict(struct simple *self)
{
    uint32_t page = self->hand != TRACE_NONE ? self->hand : self->queue.oldest;
    self->steps++;
    while (self->referenced[page]) { /* ends: after a round all marks are cleared */
        self->referenced[page] = 0;
        page = self->links.newer[page];
        if (page == TRACE_NONE)
            page = self->queue.oldest;
        self->steps++;
    }
    self->hand = self->links.newer[page];
    trace_list_remove(&self->queue, page);
    self->resident[page] = 0;
}

static bool sieve_access(void *state, uint32_t page, uint32_t at)
{
    struct simple *self = state;
    (void)at;
    if (self->resident[page]) {
        self->referenced[page] = 1;
        return true;
    }
    if (self->queue.count == self->frames)
        sieve_evict(self);
    enter(self, page);
    return false;
}

const struct trace_policy trace_policy_lru = {
    .name = "lru",
    .title = "LRU",
    .summary = "the page not used for longest goes",
    .mark = 'L',
    .create = simple_create,
    .access = lru_access,
    .destroy = simple_destroy,
};

const struct trace_policy trace_policy_clock = {
    .name = "clock",
    .title = "CLOCK",
    .summary = "one bit: a page used since the hand came by last is passed over",
    .mark = 'c',
    .create = simple_create,
    .access = clock_access,
    .destroy = simple_destroy,
    .steps = simple_steps,
};

const struct trace_policy trace_policy_sieve = {
    .name = "sieve",
    .title = "SIEVE",
    .summary = "as clock, but pages passed over keep their place (NSDI 2024)",
    .mark = 's',
    .create = simple_create,
    .access = sieve_access,
    .destroy = simple_destroy,
    .steps = simple_steps,
};
