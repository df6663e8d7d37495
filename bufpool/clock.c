/* SPDX-License-Identifier: MIT */
/*
 * The one-bit clock (Corbato 1968): a hand over the slots in frame order; a page that was touched
 * since the hand last came by is passed over once, its mark cleared; the first untouched page is
 * the victim. Hits cost nothing here: the mark lies in the page's state word.
 *
 * Invariant: present[slot] is 1 exactly for the slots inserted and not removed.
 */
#include "clock.h"

#include <string.h>

#include <clockpool/base/assert.h>

void cp_clock__init(struct cp_clock *clock, uint8_t *present, uint32_t slot_limit)
{
    clock->present = present;
    clock->slot_limit = slot_limit;
    clock->hand = 0;
}

void cp_clock__insert(struct cp_clock *clock, uint32_t slot)
{
    cp_debug_assert(slot < clock->slot_limit);
    cp_debug_assert(clock->present[slot] == 0);
    clock->present[slot] = 1;
}

void cp_clock__remove(struct cp_clock *clock, uint32_t slot)
{
    cp_debug_assert(slot < clock->slot_limit);
    cp_debug_assert(clock->present[slot] == 1);
    clock->present[slot] = 0;
}

/* The next present slot at or after start, wrapping once; CP_CLOCK_NONE when there is none. */
static uint32_t next_present(const struct cp_clock *clock, uint32_t start)
{
    const uint8_t *found = memchr(clock->present + start, 1, clock->slot_limit - start);
    if (found == NULL)
        found = memchr(clock->present, 1, start);
    return found != NULL ? (uint32_t)(found - clock->present) : CP_CLOCK_NONE;
}

uint32_t cp_clock__pick(struct cp_clock *clock, uint32_t max_looks,
                        enum cp_clock_look (*look)(void *ctx, uint32_t slot), void *ctx,
                        uint32_t *out_looks)
{
    uint32_t looks = 0;
    uint32_t picked = CP_CLOCK_NONE;

    while (looks < max_looks && picked == CP_CLOCK_NONE) {
        uint32_t slot = next_present(clock, clock->hand);
        if (slot == CP_CLOCK_NONE)
            break;
        clock->hand = slot + 1 == clock->slot_limit ? 0 : slot + 1;
        looks++;
        if (look(ctx, slot) == CP_CLOCK_COLD)
            picked = slot;
    }
    *out_looks = looks;
    return picked;
}
