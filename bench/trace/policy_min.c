/* SPDX-License-Identifier: MIT */
/*
 * MIN (Belady 1966): evicts the page that will be used last, or never again, which no other policy
 * can beat. Resident pages lie in a heap by their next use. What is used meanwhile is entered
 * again, and an entry that has been overtaken is thrown away when it comes to the top.
 */
#include "policy.h"

#include <stdlib.h>

struct min {
    const uint32_t *accesses; /* borrowed until destroy */
    uint32_t access_count;
    uint32_t *next_at; /* by access: when the same page is used next */
    uint32_t *next_of; /* by page: next use, if it is resident; else 0 */
    uint32_t *heap;    /* next uses, the latest on top */
    uint32_t heap_count, frames, used;
};

static void min_destroy(void *state)
{
    struct min *self = state;
    free(self->next_at);
    free(self->next_of);
    free(self->heap);
    free(self);
}

/* A page that is not used again has access_count + page, so that a next use names one page. */
static void *min_create(const struct trace_setup *setup)
{
    struct min *self = calloc(1, sizeof *self);
    if (self == NULL)
        return NULL;
    self->accesses = setup->accesses;
    self->access_count = setup->access_count;
    self->frames = setup->frames;
    self->next_at = malloc(setup->access_count * sizeof(uint32_t));
    self->next_of = calloc(setup->page_count, sizeof(uint32_t));
    self->heap = malloc(((size_t)setup->access_count + 1) * sizeof(uint32_t));
    if (self->next_at == NULL || self->next_of == NULL || self->heap == NULL) {
        min_destroy(self);
        return NULL;
    }
    for (uint32_t page = 0; page < setup->page_count; page++)
        self->next_of[page] = setup->access_count + page;
    for (uint32_t at = setup->access_count; at-- > 0;) {
        self->next_at[at] = self->next_of[setup->accesses[at]];
        self->next_of[setup->accesses[at]] = at;
    }
    for (uint32_t page = 0; page < setup->page_count; page++)
        self->next_of[page] = 0;
    return self;
}

static void push(struct min *self, uint32_t value)
{
    uint32_t i = self->heap_count++;
    while (i > 0 && self->heap[(i - 1) / 2] < value) {
        self->heap[i] = self->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    self->heap[i] = value;
}

static uint32_t pop(struct min *self)
{
    uint32_t top = self->heap[0], last = self->heap[--self->heap_count], i = 0;
    for (uint32_t child = 1; child < self->heap_count; child = 2 * i + 1) {
        if (child + 1 < self->heap_count && self->heap[child + 1] > self->heap[child])
            child++;
        if (self->heap[child] <= last)
            break;
        self->heap[i] = self->heap[child];
        i = child;
    }
    self->heap[i] = last;
    return top;
}

static void evict(struct min *self)
{
    for (;;) { /* ends: each resident page has an entry that holds */
        uint32_t next = pop(self);
        uint32_t page =
            next < self->access_count ? self->accesses[next] : next - self->access_count;
        if (self->next_of[page] != next)
            continue;
        self->next_of[page] = 0;
        return;
    }
}

static bool min_access(void *state, uint32_t page, uint32_t at)
{
    struct min *self = state;
    bool hit = self->next_of[page] != 0;

    if (!hit && self->used == self->frames)
        evict(self);
    else if (!hit)
        self->used++;
    self->next_of[page] = self->next_at[at];
    push(self, self->next_at[at]);
    return hit;
}

const struct trace_policy trace_policy_min = {
    .name = "min",
    .title = "MIN",
    .summary = "the optimum, which knows the future (Belady 1966)",
    .mark = '.',
    .create = min_create,
    .access = min_access,
    .destroy = min_destroy,
};
