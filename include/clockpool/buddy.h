/* SPDX-License-Identifier: MIT */
/*
 * Buddy allocator over a range of memory that it does not own.
 *
 * Blocks are powers of two from CP_BUDDY_UNIT_BYTES; a block is aligned to its size relative to the
 * base; freed neighbours coalesce. Order k means CP_BUDDY_UNIT_BYTES << k. The range starts out
 * empty: cp_buddy_add() hands it memory, extent by extent, and cp_buddy_remove() takes memory back
 * that is free. The allocator's own state lies outside the blocks: a free block is never read or
 * written (so it may be poisoned, or not even be committed).
 */
#ifndef CLOCKPOOL_BUDDY_H
#define CLOCKPOOL_BUDDY_H

#include <stdint.h>
#include <clockpool/status.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CP_BUDDY_UNIT_BYTES UINT64_C(4096)
#define CP_BUDDY_UNIT_SHIFT 12u
#define CP_BUDDY_ORDERS     19u /* order 18 is 1 GiB */

struct cp_buddy_options {
    void *base;          /* aligned to the largest block; borrowed until destroy */
    uint64_t size_bytes; /* of the whole range, a multiple of CP_BUDDY_UNIT_BYTES; <= 2^31 units */
    uint32_t max_order;  /* largest block; 0 means 9 (2 MiB) */
    uint32_t cached_order; /* the commonest order: per-CPU caches stand in front of it */
    uint32_t cache_blocks; /* capacity of one CPU's cache; 0 means no caches */
};

struct cp_buddy_stats {
    uint64_t total_bytes;     /* added and not removed */
    uint64_t allocated_bytes; /* handed out (cached blocks are not) */
    uint64_t cached_bytes;    /* in per-CPU caches */
    uint64_t free_bytes;      /* in the free lists */
    uint64_t withheld_bytes;  /* free, in a range that is closed */
    uint64_t free_blocks[CP_BUDDY_ORDERS];
    uint64_t largest_free_bytes;
    double fragmentation; /* 1 - largest_free_bytes / free_bytes; 0 when nothing is free */
    uint64_t alloc_count, free_count, split_count, merge_count, cache_hit_count;
    uint64_t metadata_bytes; /* the allocator's own memory */
};

struct cp_buddy;

/* Returns 0 and an allocator the caller owns; -EINVAL; -ENOMEM. No memory of the range is touched.
 */
CP_API int cp_buddy_create(const struct cp_buddy_options *options,
                           struct cp_buddy **out_buddy) CP_MUST_CHECK;

/* NULL is allowed. Blocks still allocated are simply forgotten. */
CP_API void cp_buddy_destroy(struct cp_buddy *buddy);

/*
 * Hand a part of the range to the allocator, offset and size multiples of the unit. -EINVAL when it
 * lies outside the range or overlaps what was added. Any thread.
 */
CP_API int cp_buddy_add(struct cp_buddy *buddy, uint64_t offset_bytes,
                        uint64_t size_bytes) CP_MUST_CHECK;

/*
 * Take a part back. All of it must be free; caches are drained first. -EBUSY when some of it is
 * allocated, and then nothing has changed. Any thread.
 */
CP_API int cp_buddy_remove(struct cp_buddy *buddy, uint64_t offset_bytes,
                           uint64_t size_bytes) CP_MUST_CHECK;

/*
 * Close a part, for who wants to remove it: nothing in it is given out any more, and what is freed
 * stays, until cp_buddy_remove finds all of it free, or cp_buddy_reopen. Offset and size are
 * multiples of the largest block (-EINVAL); one part at a time (-EBUSY). Any thread.
 */
CP_API int cp_buddy_close(struct cp_buddy *buddy, uint64_t offset_bytes,
                          uint64_t size_bytes) CP_MUST_CHECK;

/* End what cp_buddy_close began, whether the part was removed or not; nothing closed is allowed. */
CP_API void cp_buddy_reopen(struct cp_buddy *buddy);

/*
 * Allocate a block of the given order; its content is undefined. NULL when there is none (caches of
 * other CPUs are drained before giving up) or the order is too large. Any thread; may wait for a
 * short lock; no system call on the usual path. Knuth, TAOCP vol. 1, 2.5, buddy system.
 */
CP_API void *cp_buddy_alloc(struct cp_buddy *buddy, uint32_t order);

/*
 * Free a block with the order it was allocated with. A foreign pointer, a wrong order or a second
 * free is a programmer error and stops the process, in all builds (the check costs one load; two
 * threads that free a block at the same moment can slip past it). Any thread.
 */
CP_API void cp_buddy_free(struct cp_buddy *buddy, void *block, uint32_t order);

/*
 * Make blocks of order `into` out of one allocated block of a larger or the same order: from now on
 * each of the 1 << (order - into) is freed by itself, and they coalesce again. So memory that lies
 * in one piece can be let go piece by piece. The same misuse is caught as by free. Any thread.
 */
CP_API void cp_buddy_split(struct cp_buddy *buddy, void *block, uint32_t order, uint32_t into);

/* Return all cached blocks to the free lists, so that they can coalesce. Any thread. */
CP_API void cp_buddy_drain(struct cp_buddy *buddy);

/* A snapshot; counters of other threads may be a few operations old. */
CP_API void cp_buddy_stats(const struct cp_buddy *buddy, struct cp_buddy_stats *out_stats);

/*
 * Walk all invariants: no overlap, no two free buddies side by side, sums right. Takes the lock for
 * the whole walk: debug and tests. 0, or -EINVAL with an error description.
 */
CP_API int cp_buddy__check(struct cp_buddy *buddy) CP_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
