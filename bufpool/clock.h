/* SPDX-License-Identifier: MIT */
/*
 * Clock: the replacement policy. It decides which slot is the next victim and nothing else: no I/O,
 * no locks, no knowledge of frames. The caller serialises calls and answers, through `look`, what a
 * slot's page has been doing. The same code serves the pool and an offline simulator.
 */
#ifndef CLOCKPOOL_BUFPOOL_CLOCK_H
#define CLOCKPOOL_BUFPOOL_CLOCK_H

#include <stdint.h>

#define CP_CLOCK_NONE UINT32_MAX

/* What a look at a slot found. */
enum cp_clock_look {
    CP_CLOCK_SKIP,       /* cannot be a victim now: pinned, loading, being written */
    CP_CLOCK_REFERENCED, /* touched since the last look; the mark has been cleared */
    CP_CLOCK_COLD,       /* not touched: a victim */
};

struct cp_clock {
    uint8_t *present;    /* one byte a slot: 1 when it holds a frame; borrowed */
    uint32_t slot_limit; /* slots 0 .. slot_limit-1 exist */
    uint32_t hand;       /* next slot to look at */
};

/* present: slot_limit bytes, all zero; borrowed for the clock's life. */
void cp_clock__init(struct cp_clock *clock, uint8_t *present, uint32_t slot_limit);
void cp_clock__insert(struct cp_clock *clock, uint32_t slot);
void cp_clock__remove(struct cp_clock *clock, uint32_t slot);

/*
 * Advance the hand until a cold slot is found or it has looked at max_looks present slots. Returns
 * the slot, the hand standing behind it, or CP_CLOCK_NONE. *out_looks: slots looked at.
 */
uint32_t cp_clock__pick(struct cp_clock *clock, uint32_t max_looks,
                        enum cp_clock_look (*look)(void *ctx, uint32_t slot), void *ctx,
                        uint32_t *out_looks);

#endif
