/* SPDX-License-Identifier: MIT */
/*
 * Clock: the replacement policy. It decides which slot is the next victim, and where in the order a
 * page that was missed begins, and nothing else: no I/O, no locks, no knowledge of frames. The
 * caller serialises calls and answers, through `look`, what a slot's page has been doing. The same
 * code serves the pool and the simulator (bench/trace).
 *
 * The life of a page: cp_clock__miss says where it belongs and whether there is room for it.
 * cp_clock__admit and cp_clock__pick name victims for it, and the caller says of each what became
 * of it: cp_clock__evict, or cp_clock__keep when it could not be had after all. cp_clock__insert
 * enters the page. cp_clock__remove forgets one that was dropped for other reasons.
 *
 * Everything is counted in units of 4 KiB: a page of 64 KiB weighs 16 in the sizes of probation and
 * main and in the count of misses, since it is memory that is shared out. The hand passes frames.
 */
#ifndef CLOCKPOOL_BUFPOOL_CLOCK_H
#define CLOCKPOOL_BUFPOOL_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "ghosts.h"

#define CP_CLOCK_NONE      UINT32_MAX
#define CP_CLOCK_ALIGNMENT 64u /* of the memory for cp_clock__init */
/* Hints at a slot come so many slots apart, */
#define CP_CLOCK_APART 4u
/* and the last of them for as many slots as are picked at a time before these are looked at. */
#define CP_CLOCK_AHEAD (16u + 2 * CP_CLOCK_APART)
/* Longest way of the hand over main for one victim while probation has any. */
#define CP_CLOCK_STEPS_MAX 64u
/* Steps of the histogram of ghost hits by age: each is an eighth of the pool. */
#define CP_CLOCK_AGE_STEPS 8u

/* What a look at a slot is for. */
enum cp_clock_ask {
    CP_CLOCK_VISIT, /* clear the mark; the page stays, whatever comes out */
    CP_CLOCK_TAKE,  /* clear the mark; if there was none, the page is to be a victim: claim it */
    /* Nothing: the slot is likely to be looked at, and these come before, the farthest first. The
     * page in it may have gone since, the answer is ignored. */
    CP_CLOCK_NEAR,
    CP_CLOCK_FAR,
    CP_CLOCK_FARTHEST,
};

/* What a look at a slot found. */
enum cp_clock_look {
    CP_CLOCK_SKIP,       /* cannot be a victim now: pinned, loading, being written */
    CP_CLOCK_REFERENCED, /* touched since the last look; the mark has been cleared */
    CP_CLOCK_COLD,       /* not touched: a victim, if one was asked for */
    CP_CLOCK_LATER,      /* not touched, but cannot be a victim before it is written */
    CP_CLOCK_STOP,       /* end the search without a victim */
};

typedef enum cp_clock_look cp_clock_look_fn(void *ctx, uint32_t slot, enum cp_clock_ask ask);

/* Where a page stands. */
enum cp_clock_place {
    CP_CLOCK_OUT = 0, /* nowhere */
    CP_CLOCK_PROBATION,
    CP_CLOCK_MAIN,
};

struct cp_clock_links {
    uint32_t older, newer; /* neighbours in probation, or CP_CLOCK_NONE */
};

/* How far the hints have come. */
struct cp_clock_ahead {
    uint32_t slot;                       /* the next to be hinted at */
    uint32_t before[2 * CP_CLOCK_APART]; /* the last ones, a ring */
    uint32_t count;                      /* hints so far; wraps */
    uint32_t lead;                       /* slots hinted at and not looked at yet, roughly */
};

struct cp_clock {
    uint8_t *states;              /* one byte a slot: place, weight, count; borrowed */
    uint64_t *main_bits;          /* one bit a slot: 1 when it is in main; borrowed */
    struct cp_clock_links *links; /* borrowed */
    struct cp_ghosts ghosts;
    uint32_t slot_limit; /* slots 0 .. slot_limit-1 exist */
    uint32_t hand;       /* next slot of main to look at */

    uint64_t capacity_units;  /* what cp_clock__resize said */
    uint64_t size_units;      /* of the pool: what it was found to hold when it was full */
    uint64_t probation_units; /* in probation */
    uint64_t main_units;      /* in main */
    uint64_t owed_units;      /* evicted, and no page has come in their place yet */
    uint64_t named_units;     /* of main, named as victims, and what becomes of them is open */
    double target_units;      /* size that probation should have */
    double evicted_probation, evicted_main; /* decaying counts, which steer the target */
    double credit;                          /* steps the hand may make without a result */

    /* Probation, from the oldest to the newest. */
    uint32_t oldest, newest;
    uint32_t next;        /* where the search for a victim goes on: what is older was skipped */
    uint32_t young;       /* oldest page to which a reference may still belong to its miss */
    uint64_t young_units; /* from there to the newest */
    uint64_t skipped, evicted; /* pages, since the search last began at the oldest */

    struct cp_clock_ahead probation_ahead, young_ahead, main_ahead;

    uint64_t ghost_hits[CP_CLOCK_AGE_STEPS]; /* misses of pages evicted so many eighths ago */
};

/* Bytes of memory for slot_limit slots; cp_clock__init takes them zeroed and aligned. */
uint64_t cp_clock__bytes(uint32_t slot_limit);
/* memory: borrowed for the clock's life. */
void cp_clock__init(struct cp_clock *clock, void *memory, uint32_t slot_limit);
/* Say how many units the pool has, now or when it has grown as far as it may. */
void cp_clock__resize(struct cp_clock *clock, uint64_t size_units);

/*
 * A page is missed: where it will belong. *out_full: main has no room, so the page belongs
 * there if cp_clock__admit lets it in, and to probation otherwise.
 */
enum cp_clock_place cp_clock__miss(struct cp_clock *clock, uint64_t key, unsigned order,
                                   bool *out_full);
/*
 * May a page that has a ghost come into main? Two looks find out whether something there is cold.
 * *out_victim: its slot, or CP_CLOCK_NONE when it cannot be evicted at once. *out_looks: slots
 * looked at, here and below.
 */
bool cp_clock__admit(struct cp_clock *clock, cp_clock_look_fn *look, void *ctx,
                     uint32_t *out_victim, uint32_t *out_looks);
/* Find a victim with at most max_looks looks. Returns the slot or CP_CLOCK_NONE. */
uint32_t cp_clock__pick(struct cp_clock *clock, uint32_t max_looks, cp_clock_look_fn *look,
                        void *ctx, uint32_t *out_looks);
/*
 * Hint at what will be looked at soon, a step of the way: to be called for each miss, so that what
 * a look reads has come from memory by then. It changes nothing that matters.
 */
void cp_clock__look_ahead(struct cp_clock *clock, cp_clock_look_fn *look, void *ctx);
/* The page in slot is evicted, named as a victim or not: forget it but for its ghost. */
void cp_clock__evict(struct cp_clock *clock, uint32_t slot, uint64_t key, bool named);
/* A victim of this weight, which stood at this place when it was named, stays there. */
void cp_clock__keep(struct cp_clock *clock, unsigned order, enum cp_clock_place place);

/*
 * A page of 1 << order units comes into an empty slot. fetched: nobody has asked for it yet, so
 * that the first reference is its miss. look: for the mark of a page that leaves its youth.
 */
void cp_clock__insert(struct cp_clock *clock, uint32_t slot, unsigned order,
                      enum cp_clock_place place, bool fetched, cp_clock_look_fn *look, void *ctx);
/* Slots first .. first+count-1 were emptied together and get new pages: the hand, which may stand
 * among them for that reason, would look at these before all others. It goes past. */
void cp_clock__pass(struct cp_clock *clock, uint32_t first, uint32_t count);
/* Forget the slot's page, if it has one. */
void cp_clock__remove(struct cp_clock *clock, uint32_t slot);

enum cp_clock_place cp_clock__place(const struct cp_clock *clock, uint32_t slot);
/*
 * Give back to the kernel what the slots from first on take, all of them empty, and what the ghosts
 * took before they became fewer. Any thread, without a lock; nothing may be inserted there nor the
 * clock be resized meanwhile. The memory must be one that comes back as zeros.
 */
void cp_clock__release(const struct cp_clock *clock, uint32_t first);
/* Walk the invariants: what is broken, or NULL. */
const char *cp_clock__check(const struct cp_clock *clock);

#endif
