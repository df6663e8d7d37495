/* SPDX-License-Identifier: MIT */
/* Looking at a buddy allocator: statistics, and the walk over its invariants (B1 to B6, buddy.c).
 */
#include "buddy_internal.h"

#include <clockpool/base/bits.h>
#include <clockpool/base/error.h>

#include <errno.h>
#include <string.h>

/*
 * Memory of the allocator itself: its structures and stacks, and of the lazily touched mapping what
 * the largest amount of memory ever added can have touched: a state byte and two bits of trees per
 * unit (and a little for the trees' upper levels).
 */
static uint64_t metadata_bytes(const struct cp_buddy *buddy)
{
    uint64_t peak = cp_buddy__counted(&buddy->peak_units);
    uint64_t touched = cp_align_up(peak + peak / 4 + peak / 128, 4096);
    uint64_t per_cache = sizeof(struct cp_buddy_cache) + buddy->cache_blocks * sizeof(uint32_t);

    return sizeof *buddy + buddy->cache_count * per_cache +
           cp_min_u64(touched, cp_align_up(buddy->metadata_size_bytes, 4096));
}

void cp_buddy_stats(const struct cp_buddy *buddy, struct cp_buddy_stats *out_stats)
{
    struct cp_buddy_stats stats = {0};
    uint64_t cached_blocks = 0;

    stats.alloc_count = cp_buddy__counted(&buddy->alloc_count);
    stats.free_count = cp_buddy__counted(&buddy->free_count);
    stats.split_count = cp_buddy__counted(&buddy->split_count);
    stats.merge_count = cp_buddy__counted(&buddy->merge_count);
    for (uint32_t i = 0; i < buddy->cache_count; i++) {
        const struct cp_buddy_cache *cache = &buddy->caches[i];
        cached_blocks += atomic_load_explicit(&cache->count, memory_order_relaxed);
        stats.alloc_count += cp_buddy__counted(&cache->alloc_count);
        stats.free_count += cp_buddy__counted(&cache->free_count);
        stats.cache_hit_count += cp_buddy__counted(&cache->hit_count);
    }
    stats.total_bytes = cp_buddy__counted(&buddy->total_units) << CP_BUDDY_UNIT_SHIFT;
    stats.free_bytes = cp_buddy__counted(&buddy->free_units) << CP_BUDDY_UNIT_SHIFT;
    stats.cached_bytes = cached_blocks * (CP_BUDDY_UNIT_BYTES << buddy->cached_order);
    stats.withheld_bytes = cp_buddy__counted(&buddy->withheld_units) << CP_BUDDY_UNIT_SHIFT;
    /* While others run, the sums may be of different moments: never below zero. */
    uint64_t not_allocated =
        cp_min_u64(stats.free_bytes + stats.cached_bytes + stats.withheld_bytes, stats.total_bytes);
    stats.allocated_bytes = stats.total_bytes - not_allocated;
    for (uint32_t order = 0; order <= buddy->max_order; order++) {
        stats.free_blocks[order] = cp_buddy__counted(&buddy->free_blocks[order]);
        if (stats.free_blocks[order] != 0)
            stats.largest_free_bytes = CP_BUDDY_UNIT_BYTES << order;
    }
    if (stats.free_bytes != 0 && stats.largest_free_bytes <= stats.free_bytes)
        stats.fragmentation = 1.0 - (double)stats.largest_free_bytes / (double)stats.free_bytes;
    stats.metadata_bytes = metadata_bytes(buddy);
    *out_stats = stats;
}

static int broken(const char *what, uint64_t unit)
{
    return cp_error_set(-EINVAL, NULL, CP_NO_PAGE, CP_NO_LSN, NULL, "buddy: %s (unit %llu)", what,
                        (unsigned long long)unit);
}

static bool in_free_set(const struct cp_buddy *buddy, uint64_t unit, uint32_t order)
{
    uint64_t member = unit >> order;
    return member < buddy->free_set[order].size &&
           cp_bitset_has(&buddy->free_set[order], (uint32_t)member);
}

/* Sums that the walk over the state bytes collects, to be compared with the allocator's. */
struct walk {
    uint64_t units, free_units, withheld_units, cached_blocks;
    uint64_t free_blocks[CP_BUDDY_ORDERS];
};

/* B1, B2, B3 (first half), B4, B6 for the block that starts at unit. */
static int check_block(const struct cp_buddy *buddy, uint64_t unit, struct walk *walk)
{
    uint8_t state = cp_buddy__state(buddy, unit);
    uint32_t order = state & CP_BUDDY_ORDER_MASK;
    uint32_t kind = state & CP_BUDDY_KIND_MASK;

    if (order > buddy->max_order || kind == CP_BUDDY_INSIDE || kind > CP_BUDDY_WITHHELD)
        return broken("impossible state", unit);
    uint64_t units = cp_buddy__units(order);
    if (unit % units != 0 || unit + units > buddy->end_unit)
        return broken("block out of place", unit);
    for (uint64_t inside = unit + 1; inside < unit + units; inside++) {
        if (cp_buddy__state(buddy, inside) != CP_BUDDY_INSIDE)
            return broken("block starts inside another", inside);
    }
    for (uint32_t i = 0; i <= buddy->max_order; i++) {
        bool listed = unit % cp_buddy__units(i) == 0 && in_free_set(buddy, unit, i);
        if (listed != (kind == CP_BUDDY_FREE && i == order))
            return broken("free set and state disagree", unit);
    }
    if (kind == CP_BUDDY_FREE && order < buddy->max_order &&
        in_free_set(buddy, unit ^ units, order))
        return broken("two free buddies side by side", unit);
    if (kind == CP_BUDDY_CACHED && (order != buddy->cached_order || buddy->cache_blocks == 0))
        return broken("cached block of the wrong order", unit);
    if (kind != CP_BUDDY_ALLOCATED &&
        (kind == CP_BUDDY_WITHHELD) != cp_buddy__is_closed(buddy, unit))
        return broken("withheld and closed disagree", unit);
    walk->units += units;
    walk->withheld_units += kind == CP_BUDDY_WITHHELD ? units : 0;
    walk->cached_blocks += kind == CP_BUDDY_CACHED;
    if (kind == CP_BUDDY_FREE) {
        walk->free_units += units;
        walk->free_blocks[order]++;
    }
    return 0;
}

/* B3, second half: the sets hold nothing else, and their summaries are right. */
static int check_set(const struct cp_buddy *buddy, uint32_t order, uint64_t expected)
{
    const struct cp_bitset *set = &buddy->free_set[order];
    uint64_t members = 0;
    uint64_t words = ((buddy->end_unit >> order) + 63) / 64;

    if (cp_buddy__counted(&buddy->free_blocks[order]) != expected ||
        (buddy->nonempty_orders >> order & 1) != (expected != 0))
        return broken("count of free blocks is wrong", order);
    for (uint32_t level = 0; set->size != 0 && level < set->level_count; level++) {
        for (uint64_t i = 0; i < words; i++) {
            uint64_t word = set->level[level][i];
            members += level == 0 ? (uint64_t)__builtin_popcountll(word) : 0;
            if (level + 1 < set->level_count &&
                (set->level[level + 1][i / 64] >> (i % 64) & 1) != (word != 0))
                return broken("summary of a free set is wrong", order);
        }
        words = (words + 63) / 64;
    }
    return members == expected ? 0 : broken("free set has strange members", order);
}

/* B5: each block in a stack is marked so; with equal sums the marked ones are those. */
static int check_caches(const struct cp_buddy *buddy, uint64_t marked)
{
    uint64_t stacked = 0;
    for (uint32_t i = 0; i < buddy->cache_count; i++) {
        const struct cp_buddy_cache *cache = &buddy->caches[i];
        uint32_t count = atomic_load_explicit(&cache->count, memory_order_relaxed);
        if (count > buddy->cache_blocks)
            return broken("cache overflows", i);
        for (uint32_t j = 0; j < count; j++) {
            uint32_t unit = cache->units[j];
            if (unit >= buddy->end_unit ||
                cp_buddy__state(buddy, unit) != (CP_BUDDY_CACHED | buddy->cached_order))
                return broken("cache holds a block that is not cached", unit);
        }
        stacked += count;
    }
    return stacked == marked ? 0 : broken("sum of cached blocks is wrong", stacked);
}

static int check_locked(const struct cp_buddy *buddy)
{
    struct walk walk = {0};

    for (uint64_t unit = 0; unit < buddy->end_unit;) {
        uint8_t state = cp_buddy__state(buddy, unit);
        if (state == CP_BUDDY_INSIDE) {
            unit++;
            continue;
        }
        int code = check_block(buddy, unit, &walk);
        if (code != 0)
            return code;
        unit += cp_buddy__units(state & CP_BUDDY_ORDER_MASK);
    }
    if (walk.units != cp_buddy__counted(&buddy->total_units) ||
        walk.free_units != cp_buddy__counted(&buddy->free_units) ||
        walk.withheld_units != cp_buddy__counted(&buddy->withheld_units))
        return broken("sum of units is wrong", walk.units);
    for (uint32_t order = 0; order <= buddy->max_order; order++) {
        int code = check_set(buddy, order, walk.free_blocks[order]);
        if (code != 0)
            return code;
    }
    return check_caches(buddy, walk.cached_blocks);
}

int cp_buddy__check(struct cp_buddy *buddy)
{
    cp_buddy__lock_all(buddy);
    int code = check_locked(buddy);
    cp_buddy__unlock_all(buddy);
    return code;
}
