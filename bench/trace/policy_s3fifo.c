/* SPDX-License-Identifier: MIT */
/*
 * S3-FIFO (Yang et al., SOSP 2023): a small queue (a tenth of the frames), a main queue, and the
 * names of as many pages as main holds that left the small one. A count of 0 to 3 rises with hits;
 * from the small queue a page with a count above 1 moves to main, in main one with any goes round
 * again, its count lowered.
 */
#include "policy.h"

#include "lists.h"

#include <stdlib.h>

enum where { OUT, SMALL, MAIN, NAMED };

struct s3fifo {
    struct trace_links links;
    struct trace_list small, main, named;
    uint8_t *where, *counts; /* by page */
    uint32_t frames, small_limit, named_limit;
};

static void s3fifo_destroy(void *state)
{
    struct s3fifo *self = state;
    free(self->links.older);
    free(self->links.newer);
    free(self->where);
    free(self->counts);
    free(self);
}

static void *s3fifo_create(const struct trace_setup *setup)
{
    struct s3fifo *self = calloc(1, sizeof *self);
    if (self == NULL)
        return NULL;
    self->frames = setup->frames;
    self->small_limit = setup->frames / 10 > 0 ? setup->frames / 10 : 1;
    self->named_limit = setup->frames - self->small_limit;
    self->links.older = malloc(setup->page_count * sizeof(uint32_t));
    self->links.newer = malloc(setup->page_count * sizeof(uint32_t));
    self->where = calloc(setup->page_count, 1);
    self->counts = calloc(setup->page_count, 1);
    trace_list_init(&self->small, &self->links);
    trace_list_init(&self->main, &self->links);
    trace_list_init(&self->named, &self->links);
    if (self->links.older == NULL || self->links.newer == NULL || self->where == NULL ||
        self->counts == NULL) {
        s3fifo_destroy(self);
        return NULL;
    }
    return self;
}

static void append(struct s3fifo *self, struct trace_list *list, uint32_t page, enum where where)
{
    trace_list_append(list, page);
    self->where[page] = (uint8_t)where;
}

/* Look at the oldest of main: it goes, or goes round again. */
static void evict_main(struct s3fifo *self)
{
    uint32_t page = trace_list_shift(&self->main);
    if (self->counts[page] > 0) {
        self->counts[page]--;
        trace_list_append(&self->main, page);
    } else {
        self->where[page] = OUT;
    }
}

/* Look at the oldest of the small queue: it moves to main, or its name stays. */
static void evict_small(struct s3fifo *self)
{
    uint32_t page = trace_list_shift(&self->small);
    if (self->counts[page] > 1) {
        self->counts[page] = 0;
        append(self, &self->main, page, MAIN);
    } else {
        append(self, &self->named, page, NAMED);
        if (self->named.count > self->named_limit)
            self->where[trace_list_shift(&self->named)] = OUT;
    }
}

static bool s3fifo_access(void *state, uint32_t page, uint32_t at)
{
    struct s3fifo *self = state;
    enum where where = (enum where)self->where[page];
    (void)at;

    if (where == SMALL || where == MAIN) {
        self->counts[page] = (uint8_t)(self->counts[page] < 3 ? self->counts[page] + 1 : 3);
        return true;
    }
    if (where == NAMED)
        trace_list_remove(&self->named, page);
    while (self->small.count + self->main.count >= self->frames) { /* ends: counts only fall */
        if (self->small.count >= self->small_limit || self->main.count == 0)
            evict_small(self);
        else
            evict_main(self);
    }
    self->counts[page] = 0;
    if (where == NAMED)
        append(self, &self->main, page, MAIN);
    else
        append(self, &self->small, page, SMALL);
    return false;
}

const struct trace_policy trace_policy_s3fifo = {
    .name = "s3-fifo",
    .title = "S3-FIFO",
    .summary = "three queues: 10 %, 90 %, and names for 90 % (SOSP 2023)",
    .mark = '3',
    .create = s3fifo_create,
    .access = s3fifo_access,
    .destroy = s3fifo_destroy,
};
