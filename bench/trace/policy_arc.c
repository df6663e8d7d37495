/* SPDX-License-Identifier: MIT */
/*
 * ARC (Megiddo and Modha, FAST 2003): an LRU list of pages seen once and one of pages seen more
 * often, each with a list of names of what left it; a miss whose name is found moves the target
 * size of the first list. The cases are those of the paper's figure 4.
 */
#include "policy.h"

#include "lists.h"

#include <stdlib.h>

enum where { OUT, T1, T2, B1, B2, WHERES };

struct arc {
    struct trace_links links;
    struct trace_list lists[WHERES]; /* by enum where; that of OUT is not used */
    uint8_t *where;                  /* enum where, by page */
    uint32_t frames;
    double target; /* of T1: p in the paper */
};

static void arc_destroy(void *state)
{
    struct arc *self = state;
    free(self->links.older);
    free(self->links.newer);
    free(self->where);
    free(self);
}

static void *arc_create(const struct trace_setup *setup)
{
    struct arc *self = calloc(1, sizeof *self);
    if (self == NULL)
        return NULL;
    self->frames = setup->frames;
    self->links.older = malloc(setup->page_count * sizeof(uint32_t));
    self->links.newer = malloc(setup->page_count * sizeof(uint32_t));
    self->where = calloc(setup->page_count, 1);
    for (unsigned i = 0; i < WHERES; i++)
        trace_list_init(&self->lists[i], &self->links);
    if (self->links.older == NULL || self->links.newer == NULL || self->where == NULL) {
        arc_destroy(self);
        return NULL;
    }
    return self;
}

static void move(struct arc *self, uint32_t page, enum where to)
{
    enum where from = (enum where)self->where[page];
    if (from != OUT)
        trace_list_remove(&self->lists[from], page);
    if (to != OUT)
        trace_list_append(&self->lists[to], page);
    self->where[page] = (uint8_t)to;
}

static uint32_t count(const struct arc *self, enum where where)
{
    return self->lists[where].count;
}

/* REPLACE of the paper: from a full pool, one page to the names. */
static void replace(struct arc *self, bool found_in_b2)
{
    uint32_t ones = count(self, T1);
    if (ones > 0 && ((double)ones > self->target || (found_in_b2 && (double)ones == self->target)))
        move(self, self->lists[T1].oldest, B1);
    else if (count(self, T2) > 0)
        move(self, self->lists[T2].oldest, B2);
    else
        move(self, self->lists[T1].oldest, B1);
}

/* Case IV: no list knows the page. */
static void make_room(struct arc *self)
{
    uint32_t ones = count(self, T1) + count(self, B1);
    uint32_t all = ones + count(self, T2) + count(self, B2);
    if (ones == self->frames) {
        if (count(self, T1) < self->frames) {
            move(self, self->lists[B1].oldest, OUT);
            replace(self, false);
        } else {
            move(self, self->lists[T1].oldest, OUT);
        }
    } else if (all >= self->frames) {
        if (all == 2 * self->frames)
            move(self, self->lists[B2].oldest, OUT);
        if (count(self, T1) + count(self, T2) == self->frames)
            replace(self, false);
    }
}

static bool arc_access(void *state, uint32_t page, uint32_t at)
{
    struct arc *self = state;
    double ones = count(self, B1), more = count(self, B2);
    (void)at;
    switch ((enum where)self->where[page]) {
    case T1:
    case T2:
        move(self, page, T2);
        return true;
    case B1:
        self->target += more > ones ? more / ones : 1;
        if (self->target > self->frames)
            self->target = self->frames;
        replace(self, false);
        move(self, page, T2);
        return false;
    case B2:
        self->target -= ones > more ? ones / more : 1;
        if (self->target < 0)
            self->target = 0;
        replace(self, true);
        move(self, page, T2);
        return false;
    default:
        make_room(self);
        move(self, page, T1);
        return false;
    }
}

const struct trace_policy trace_policy_arc = {
    .name = "arc",
    .title = "ARC",
    .summary = "two LRU lists that adapt to each other (FAST 2003)",
    .mark = 'a',
    .create = arc_create,
    .access = arc_access,
    .destroy = arc_destroy,
};
