/* SPDX-License-Identifier: MIT */
/*
 * LIRS (Jiang and Zhang, SIGMETRICS 2002): pages with a low inter-reference recency (LIR) have all
 * frames but a hundredth; the others pass through a queue. A stack orders pages by recency; its
 * oldest is always an LIR page, and it also knows pages that are not resident. Of those it keeps at
 * most as many as twice the frames: without a bound its size would follow the trace.
 */
#include "policy.h"

#include "lists.h"

#include <stdlib.h>

enum kind { OUT, LIR, HIR, GONE }; /* GONE: not resident, but in the stack */

struct lirs {
    struct trace_links stack_links, queue_links, gone_links;
    struct trace_list stack;  /* LIR, and HIR or GONE if recent */
    struct trace_list queue;  /* resident HIR pages */
    struct trace_list gone;   /* GONE pages, by the time at which they left */
    uint8_t *kinds, *stacked; /* by page */
    uint32_t lir_count, lir_limit, queue_limit, gone_limit;
};

static void free_links(struct trace_links *links)
{
    free(links->older);
    free(links->newer);
}

static bool alloc_links(struct trace_links *links, uint32_t page_count)
{
    links->older = malloc(page_count * sizeof(uint32_t));
    links->newer = malloc(page_count * sizeof(uint32_t));
    return links->older != NULL && links->newer != NULL;
}

static void lirs_destroy(void *state)
{
    struct lirs *self = state;
    free_links(&self->stack_links);
    free_links(&self->queue_links);
    free_links(&self->gone_links);
    free(self->kinds);
    free(self->stacked);
    free(self);
}

static void *lirs_create(const struct trace_setup *setup)
{
    struct lirs *self = calloc(1, sizeof *self);
    if (self == NULL)
        return NULL;
    uint32_t hir = setup->frames / 100 > 0 ? setup->frames / 100 : 1;
    self->lir_limit = setup->frames > hir ? setup->frames - hir : 0;
    self->queue_limit = setup->frames - self->lir_limit;
    self->gone_limit = 2 * setup->frames;
    bool linked = alloc_links(&self->stack_links, setup->page_count);
    linked = alloc_links(&self->queue_links, setup->page_count) && linked;
    linked = alloc_links(&self->gone_links, setup->page_count) && linked;
    self->kinds = calloc(setup->page_count, 1);
    self->stacked = calloc(setup->page_count, 1);
    trace_list_init(&self->stack, &self->stack_links);
    trace_list_init(&self->queue, &self->queue_links);
    trace_list_init(&self->gone, &self->gone_links);
    if (!linked || self->kinds == NULL || self->stacked == NULL) {
        lirs_destroy(self);
        return NULL;
    }
    return self;
}

static void unstack(struct lirs *self, uint32_t page)
{
    trace_list_remove(&self->stack, page);
    self->stacked[page] = 0;
    if (self->kinds[page] == GONE) {
        trace_list_remove(&self->gone, page);
        self->kinds[page] = OUT;
    }
}

static void stack_on_top(struct lirs *self, uint32_t page)
{
    if (self->stacked[page])
        trace_list_remove(&self->stack, page);
    trace_list_append(&self->stack, page);
    self->stacked[page] = 1;
}

/* Take from the stack's bottom what is not LIR. */
static void prune(struct lirs *self)
{
    while (self->stack.count > 0 && self->kinds[self->stack.oldest] != LIR)
        unstack(self, self->stack.oldest);
}

/* The LIR page at the bottom becomes a HIR page at the end of the queue. */
static void demote_bottom(struct lirs *self)
{
    uint32_t page = self->stack.oldest;
    unstack(self, page);
    self->kinds[page] = HIR;
    self->lir_count--;
    trace_list_append(&self->queue, page);
    prune(self);
}

static void evict(struct lirs *self)
{
    uint32_t page = trace_list_shift(&self->queue);
    if (!self->stacked[page]) {
        self->kinds[page] = OUT;
        return;
    }
    self->kinds[page] = GONE;
    trace_list_append(&self->gone, page);
    if (self->gone.count > self->gone_limit)
        unstack(self, self->gone.oldest);
}

static void hit(struct lirs *self, uint32_t page)
{
    if (self->lir_limit == 0)
        return; /* a pool of one frame has no order */
    bool was_stacked = self->stacked[page];
    stack_on_top(self, page);
    if (self->kinds[page] == LIR) {
        prune(self);
        return;
    }
    trace_list_remove(&self->queue, page);
    if (was_stacked && self->lir_limit > 0) {
        self->kinds[page] = LIR;
        self->lir_count++;
        demote_bottom(self);
    } else {
        trace_list_append(&self->queue, page);
    }
}

static bool lirs_access(void *state, uint32_t page, uint32_t at)
{
    struct lirs *self = state;
    (void)at;

    if (self->kinds[page] == LIR || self->kinds[page] == HIR) {
        hit(self, page);
        return true;
    }
    if (self->lir_count < self->lir_limit) { /* the first pages are LIR */
        self->kinds[page] = LIR;
        self->lir_count++;
        stack_on_top(self, page);
        return false;
    }
    if (self->queue.count >= self->queue_limit)
        evict(self); /* this may have pruned the page's own entry */
    bool known = self->kinds[page] == GONE;
    if (known)
        trace_list_remove(&self->gone, page);
    self->kinds[page] = known ? LIR : HIR;
    stack_on_top(self, page);
    if (known) {
        self->lir_count++;
        demote_bottom(self);
    } else {
        trace_list_append(&self->queue, page);
        if (self->lir_limit == 0)
            unstack(self, page); /* a pool of one frame has no LIR page to end the stack */
    }
    return false;
}

const struct trace_policy trace_policy_lirs = {
    .name = "lirs",
    .title = "LIRS",
    .summary = "by the time between uses; 1 % queue, names for 200 % (SIGMETRICS 2002)",
    .mark = 'i',
    .create = lirs_create,
    .access = lirs_access,
    .destroy = lirs_destroy,
};
