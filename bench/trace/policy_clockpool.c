/* SPDX-License-Identifier: MIT */
/*
 * The pool's own policy, by the pool's own code (bufpool/clock.c). Here a frame is never pinned,
 * dirty or in somebody's hands, so each victim can be had.
 */
#include "policy.h"

#include "bufpool/clock.h"
#include "lists.h"

#include <stdlib.h>
#include <string.h>

struct clockpool {
    struct cp_clock clock;
    void *memory;
    uint32_t frames, used;
    uint32_t *frame_of, *page_of; /* or TRACE_NONE */
    bool *referenced;             /* by frame */
    uint64_t steps;
};

static enum cp_clock_look look(void *ctx, uint32_t frame, enum cp_clock_ask ask)
{
    struct clockpool *self = ctx;
    (void)ask;
    if (!self->referenced[frame])
        return CP_CLOCK_COLD;
    self->referenced[frame] = false;
    return CP_CLOCK_REFERENCED;
}

static void clockpool_destroy(void *state)
{
    struct clockpool *self = state;
    free(self->memory);
    free(self->frame_of);
    free(self->page_of);
    free(self->referenced);
    free(self);
}

static void *clockpool_create(const struct trace_setup *setup)
{
    struct clockpool *self = calloc(1, sizeof *self);
    if (self == NULL)
        return NULL;
    self->frames = setup->frames;
    self->memory = aligned_alloc(CP_CLOCK_ALIGNMENT, cp_clock__bytes(setup->frames));
    self->frame_of = malloc(setup->page_count * sizeof *self->frame_of);
    self->page_of = calloc(setup->frames, sizeof *self->page_of);
    self->referenced = calloc(setup->frames, sizeof *self->referenced);
    if (self->memory == NULL || self->frame_of == NULL || self->page_of == NULL ||
        self->referenced == NULL) {
        clockpool_destroy(self);
        return NULL;
    }
    for (uint32_t page = 0; page < setup->page_count; page++)
        self->frame_of[page] = TRACE_NONE;
    memset(self->memory, 0, cp_clock__bytes(setup->frames));
    cp_clock__init(&self->clock, self->memory, setup->frames);
    cp_clock__resize(&self->clock, setup->frames);
    return self;
}

/* A frame for the page: what admission sets free, one never used, or a victim's. */
static uint32_t find_frame(struct clockpool *self, uint32_t page, enum cp_clock_place *out_place)
{
    uint32_t frame = CP_CLOCK_NONE, looks = 0;
    bool full = false;

    *out_place = cp_clock__miss(&self->clock, page, 0, &full);
    if (full && !cp_clock__admit(&self->clock, look, self, &frame, &looks))
        *out_place = CP_CLOCK_PROBATION;
    self->steps += looks;
    if (frame == CP_CLOCK_NONE && self->used < self->frames)
        return self->used++;
    if (frame == CP_CLOCK_NONE) {
        frame = cp_clock__pick(&self->clock, UINT32_MAX, look, self, &looks);
        self->steps += looks;
    }
    self->frame_of[self->page_of[frame]] = TRACE_NONE;
    cp_clock__evict(&self->clock, frame, self->page_of[frame], true);
    return frame;
}

static bool clockpool_access(void *state, uint32_t page, uint32_t at)
{
    struct clockpool *self = state;
    enum cp_clock_place place;
    (void)at;

    if (self->frame_of[page] != TRACE_NONE) {
        self->referenced[self->frame_of[page]] = true;
        return true;
    }
    uint32_t frame = find_frame(self, page, &place);
    self->page_of[frame] = page;
    self->frame_of[page] = frame;
    self->referenced[frame] = false;
    cp_clock__insert(&self->clock, frame, 0, place, false, look, self);
    return false;
}

static uint64_t clockpool_steps(void *state)
{
    return ((struct clockpool *)state)->steps;
}

static uint64_t clockpool_ghost_hits(void *state, unsigned i)
{
    return ((struct clockpool *)state)->clock.ghost_hits[i];
}

_Static_assert(TRACE_AGE_STEPS == CP_CLOCK_AGE_STEPS, "one histogram");

const struct trace_policy trace_policy_clockpool = {
    .name = "clockpool",
    .title = "pool",
    .summary = "the pool's own, by the pool's own code",
    .mark = '@',
    .create = clockpool_create,
    .access = clockpool_access,
    .destroy = clockpool_destroy,
    .steps = clockpool_steps,
    .ghost_hits = clockpool_ghost_hits,
};
