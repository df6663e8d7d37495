/* SPDX-License-Identifier: MIT */
/* What the files of the buddy allocator share. Theory, invariants and locks: buddy.c. */
#ifndef CLOCKPOOL_ALLOC_BUDDY_INTERNAL_H
#define CLOCKPOOL_ALLOC_BUDDY_INTERNAL_H

#include <clockpool/buddy.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bitset.h"

#define CP_BUDDY_NO_UNIT    UINT32_MAX
#define CP_BUDDY_CACHES_MAX 64u /* draining visits them all, so their number is bounded */

/* A unit's state byte: kind | order for the first unit of a block, 0 for all other units. */
enum {
    CP_BUDDY_INSIDE = 0, /* inside a block, or not added at all */
    CP_BUDDY_FREE = 0x20,
    CP_BUDDY_ALLOCATED = 0x40,
    CP_BUDDY_CACHED = 0x60,
    CP_BUDDY_WITHHELD = 0x80, /* free, in a range that is closed */
    CP_BUDDY_KIND_MASK = 0xe0,
    CP_BUDDY_ORDER_MASK = 0x1f,
};

/* One CPU's cache. Counters are written under `lock` and read by anybody. */
struct cp_buddy_cache {
    _Alignas(128) pthread_mutex_t lock; /* two lines: the adjacent-line prefetcher pairs them */
    uint32_t *units;                    /* stack of first units; the newest is taken first */
    _Atomic uint32_t count;
    _Atomic uint64_t alloc_count, free_count, hit_count;
};

struct cp_buddy {
    /* Constant after creation. */
    char *base;
    uint64_t unit_count;
    uint32_t max_order;
    uint32_t cached_order;
    uint32_t cache_blocks; /* 0: no caches */
    uint32_t cache_count;
    struct cp_buddy_cache *caches;
    uint32_t *cache_units; /* the caches' stacks, one mapping */
    void *metadata;        /* states and trees, one lazily touched mapping */
    uint64_t metadata_size_bytes;
    _Atomic uint8_t *state; /* B2; who may write which byte: see "Locks" in buddy.c */

    /* Guarded by core_lock; the atomics are read without it, as a snapshot. */
    pthread_mutex_t core_lock;
    struct cp_bitset free_set[CP_BUDDY_ORDERS]; /* B3 */
    uint32_t nonempty_orders;                   /* bit k: free_set[k] has a member */
    uint64_t end_unit;                          /* no unit from here on was ever added */
    _Atomic uint64_t free_blocks[CP_BUDDY_ORDERS];
    _Atomic uint64_t total_units, peak_units, free_units, withheld_units;
    _Atomic uint64_t alloc_count, free_count, split_count, merge_count;

    /* Written with all locks held, so read with any one of them. */
    uint64_t closed_first, closed_end; /* units; the same: nothing is closed */
};

/* Add to a counter that only the holder of one lock writes; others may read it at any time. */
static inline void cp_buddy__count(_Atomic uint64_t *counter, uint64_t difference)
{
    /* relaxed: a statistic; it orders nothing */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + difference,
                          memory_order_relaxed);
}

static inline uint64_t cp_buddy__counted(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* relaxed: a block's byte belongs to its owner, and handing a block over goes through a lock */
static inline uint8_t cp_buddy__state(const struct cp_buddy *buddy, uint64_t unit)
{
    return atomic_load_explicit(&buddy->state[unit], memory_order_relaxed);
}

static inline void cp_buddy__set_state(struct cp_buddy *buddy, uint64_t unit, uint32_t state)
{
    atomic_store_explicit(&buddy->state[unit], (uint8_t)state, memory_order_relaxed);
}

static inline uint64_t cp_buddy__units(uint32_t order)
{
    return UINT64_C(1) << order;
}

/* Whether what is free at a unit may not be given out. With any of the locks held. */
static inline bool cp_buddy__is_closed(const struct cp_buddy *buddy, uint64_t unit)
{
    return unit >= buddy->closed_first && unit < buddy->closed_end;
}

/* First unit and order of the block that covers a unit; false when the unit is not added. */
bool cp_buddy__find_block(const struct cp_buddy *buddy, uint64_t unit, uint64_t *out_first,
                          uint8_t *out_state);

/* Core, with core_lock held. take returns a block (CP_BUDDY_NO_UNIT: none) in the given state. */
uint32_t cp_buddy__take(struct cp_buddy *buddy, uint32_t order, uint32_t kind);
void cp_buddy__give(struct cp_buddy *buddy, uint64_t unit, uint32_t order);

/* Caches. take and put return CP_BUDDY_NO_UNIT and false when the core has to serve. */
int cp_buddy__init_caches(struct cp_buddy *buddy, uint32_t cache_blocks);
void cp_buddy__fini_caches(struct cp_buddy *buddy);
uint32_t cp_buddy__cache_take(struct cp_buddy *buddy);
bool cp_buddy__cache_put(struct cp_buddy *buddy, uint32_t unit);

/* All cache locks in order, then core_lock; and back. */
void cp_buddy__lock_all(struct cp_buddy *buddy);
void cp_buddy__unlock_all(struct cp_buddy *buddy);
void cp_buddy__drain_locked(struct cp_buddy *buddy); /* with all locks held */

#endif
