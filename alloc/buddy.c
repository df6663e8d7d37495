/* SPDX-License-Identifier: MIT */
/*
 * Buddy allocator: the big theory statement.
 *
 * What it is for. Files with 4 to 64 KiB pages share one pool of frames and one budget. Frames are
 * powers of two, so a buddy system (Knowlton 1965; Knuth, TAOCP vol. 1, 2.5) wastes nothing inside
 * a block, and two freed halves find each other by flipping one bit of the address. What it leaves
 * to others: where memory comes from (arena), and objects below 4 KiB (slab).
 *
 * State outside the blocks. A free block is poisoned and may not even be committed, so nothing is
 * kept in it. There is one state byte per unit and, per order, a set of the free blocks as a tree
 * of bits (bitset.h). The byte of a block's first unit says kind and order; all other bytes are 0.
 * Hence the block that covers a unit is found by trying the unit's aligned ancestors, at most
 * max_order + 1 of them, and adding or splitting a block touches one or two bytes. The trees of
 * all orders together take two bits per unit. With the bytes that is 0.03 % of the memory managed
 * (doubly linked lists of 32-bit indexes would take 0.2 %), in a mapping whose pages exist only
 * once touched: an allocator over a terabyte costs nothing for the parts that were never added.
 *
 * Policy: the smallest order that has a block, and in it the lowest address. Best fit keeps large
 * blocks whole; low addresses first lets the extents at the end empty out, so that a pool that
 * shrinks finds whole extents to decommit. A list would give the last block freed; a set as a tree
 * gives the lowest in O(log64 n), four words for 16 GiB. The per-CPU caches (buddy_cache.c) trade
 * some of this for speed: up to cpus * cache_blocks blocks may lie anywhere until a drain.
 *
 * Caches are invisible but for speed. An allocation that fails drains them all and tries again
 * *under all locks*, so NULL means that there really was no block; cp_buddy_remove() works under
 * all locks as well, so a free block on its way from a cache to the core is never taken for busy.
 *
 * Invariants (cp_buddy__check walks them all)
 *   B1. Each added unit lies in exactly one block; a block of order k starts at a multiple of 2^k
 *       units.
 *   B2. state[u] is kind | order where u is the first unit of a block, and 0 elsewhere.
 *   B3. u >> k is in free_set[k] exactly when state[u] is FREE | k; free_blocks, free_units and
 *       nonempty_orders agree with the sets.
 *   B4. No two buddies of the same order below max_order are both free: they were merged.
 *   B5. A block is CACHED exactly when it is in one cache's stack; caches hold cached_order only.
 *   B6. A block is WITHHELD only in the closed range, where none is FREE or CACHED.
 *   B7. Blocks that are not allocated are poisoned, in builds that can.
 *
 * Closing. Who empties a range would lose what he has emptied to the next allocation: the lowest
 * address is of no help where nothing else is free. So a range can be closed: what is free in it
 * leaves the sets, and what is freed goes to neither sets nor caches.
 *
 * Locks. Each cache has a lock that guards its stack and counters; core_lock guards the sets, the
 * sums and every state byte that is not ALLOCATED or CACHED. The byte of an allocated block belongs
 * to the block's owner, that of a cached block to the holder of the cache's lock. Order: cache 0 <
 * cache 1 < ... < core_lock. No system call is made under them (but a mutex's own sleep).
 */
#include "buddy_internal.h"

#include <clockpool/arena.h>
#include <clockpool/base/assert.h>
#include <clockpool/base/bits.h>
#include <clockpool/base/error.h>
#include <clockpool/base/poison.h>

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define UNITS_MAX         (UINT64_C(1) << 31)
#define MAX_ORDER_DEFAULT 9u

static int buddy_error(int code, const char *what)
{
    return cp_error_set(code, NULL, CP_NO_PAGE, CP_NO_LSN, NULL, "%s", what);
}

static char *unit_address(const struct cp_buddy *buddy, uint64_t unit)
{
    return buddy->base + (unit << CP_BUDDY_UNIT_SHIFT);
}

static uint64_t order_bytes(uint32_t order)
{
    return CP_BUDDY_UNIT_BYTES << order;
}

/* The core. All of it runs with core_lock held. */

static void insert_free(struct cp_buddy *buddy, uint64_t unit, uint32_t order)
{
    cp_bitset_insert(&buddy->free_set[order], (uint32_t)(unit >> order));
    cp_buddy__set_state(buddy, unit, CP_BUDDY_FREE | order);
    cp_buddy__count(&buddy->free_blocks[order], 1);
    buddy->nonempty_orders |= 1u << order;
}

static void erase_free(struct cp_buddy *buddy, uint64_t unit, uint32_t order)
{
    cp_bitset_erase(&buddy->free_set[order], (uint32_t)(unit >> order));
    cp_buddy__set_state(buddy, unit, CP_BUDDY_INSIDE);
    cp_buddy__count(&buddy->free_blocks[order], UINT64_MAX); /* minus one */
    if (cp_buddy__counted(&buddy->free_blocks[order]) == 0)
        buddy->nonempty_orders &= ~(1u << order);
}

static void add_free_units(struct cp_buddy *buddy, uint64_t units)
{
    cp_buddy__count(&buddy->free_units, units);
}

uint32_t cp_buddy__take(struct cp_buddy *buddy, uint32_t order, uint32_t kind)
{
    uint32_t fitting = buddy->nonempty_orders >> order;
    if (fitting == 0)
        return CP_BUDDY_NO_UNIT;
    uint32_t from = order + (uint32_t)__builtin_ctz(fitting);
    uint32_t unit = cp_bitset_first(&buddy->free_set[from]) << from;

    erase_free(buddy, unit, from);
    cp_buddy__count(&buddy->split_count, from - order);
    while (from > order) {
        from--;
        insert_free(buddy, unit + cp_buddy__units(from), from); /* keep the lower half */
    }
    cp_buddy__set_state(buddy, unit, kind | order);
    add_free_units(buddy, 0 - cp_buddy__units(order));
    return unit;
}

static bool is_free(const struct cp_buddy *buddy, uint64_t unit, uint32_t order)
{
    uint64_t member = unit >> order;
    return member < buddy->free_set[order].size &&
           cp_bitset_has(&buddy->free_set[order], (uint32_t)member);
}

static void withhold(struct cp_buddy *buddy, uint64_t unit, uint32_t order)
{
    cp_buddy__count(&buddy->withheld_units, cp_buddy__units(order));
    cp_buddy__set_state(buddy, unit, CP_BUDDY_WITHHELD | order);
}

void cp_buddy__give(struct cp_buddy *buddy, uint64_t unit, uint32_t order)
{
    if (cp_buddy__is_closed(buddy, unit)) {
        withhold(buddy, unit, order);
        return;
    }
    add_free_units(buddy, cp_buddy__units(order));
    cp_buddy__set_state(buddy, unit, CP_BUDDY_INSIDE);
    while (order < buddy->max_order) {
        uint64_t other = unit ^ cp_buddy__units(order);
        if (!is_free(buddy, other, order))
            break;
        erase_free(buddy, other, order);
        cp_buddy__count(&buddy->merge_count, 1);
        unit = cp_min_u64(unit, other);
        order++;
    }
    insert_free(buddy, unit, order);
}

bool cp_buddy__find_block(const struct cp_buddy *buddy, uint64_t unit, uint64_t *out_first,
                          uint8_t *out_state)
{
    for (uint32_t order = 0; order <= buddy->max_order; order++) {
        uint64_t first = cp_align_down(unit, cp_buddy__units(order));
        uint8_t state = cp_buddy__state(buddy, first);
        if (state == CP_BUDDY_INSIDE)
            continue;
        *out_first = first;
        *out_state = state;
        /* A block that starts here and is too short proves that no other covers the unit (B1). */
        return first + cp_buddy__units(state & CP_BUDDY_ORDER_MASK) > unit;
    }
    return false;
}

/* Give [unit, end) as the largest aligned blocks. */
static void give_range(struct cp_buddy *buddy, uint64_t unit, uint64_t end)
{
    while (unit < end) {
        uint32_t order = cp_log2_floor(end - unit);
        if (unit != 0)
            order = (uint32_t)cp_min_u64(order, (uint64_t)__builtin_ctzll(unit));
        order = (uint32_t)cp_min_u64(order, buddy->max_order);
        cp_buddy__give(buddy, unit, order);
        unit += cp_buddy__units(order);
    }
}

/* Creation. */

static int check_options(const struct cp_buddy_options *options, uint32_t max_order)
{
    uint64_t address = (uint64_t)(uintptr_t)options->base;

    if (max_order >= CP_BUDDY_ORDERS)
        return buddy_error(-EINVAL, "buddy: max_order is too large");
    if (options->base == NULL || address % order_bytes(max_order) != 0)
        return buddy_error(-EINVAL, "buddy: base is not aligned to the largest block");
    if (options->size_bytes == 0 || options->size_bytes % CP_BUDDY_UNIT_BYTES != 0 ||
        options->size_bytes / CP_BUDDY_UNIT_BYTES > UNITS_MAX)
        return buddy_error(-EINVAL, "buddy: size_bytes is 0, too large or not whole units");
    if (options->cache_blocks != 0 &&
        (options->cached_order > max_order || options->cache_blocks > 1u << 16))
        return buddy_error(-EINVAL, "buddy: cached_order or cache_blocks is too large");
    return 0;
}

/* Map the state bytes and the words of the trees, and lay the trees over them. */
static int map_metadata(struct cp_buddy *buddy)
{
    uint64_t state_bytes = cp_align_up(buddy->unit_count, 8);
    uint64_t size = state_bytes;

    for (uint32_t order = 0; order <= buddy->max_order; order++)
        size += 8 * cp_bitset_words((uint32_t)(buddy->unit_count >> order));
    void *metadata = cp_arena_reserve_table(size);
    if (metadata == NULL)
        return -ENOMEM;
    buddy->metadata = metadata;
    buddy->metadata_size_bytes = size;
    buddy->state = metadata;
    uint64_t *words = (uint64_t *)metadata + state_bytes / 8;
    for (uint32_t order = 0; order <= buddy->max_order; order++) {
        uint32_t blocks = (uint32_t)(buddy->unit_count >> order);
        if (blocks == 0) /* none of this order fits: size stays 0 and is_free says no */
            continue;
        cp_bitset_init(&buddy->free_set[order], blocks, words);
        words += cp_bitset_words(blocks);
    }
    return 0;
}

int cp_buddy_create(const struct cp_buddy_options *options, struct cp_buddy **out_buddy)
{
    uint32_t max_order = options->max_order != 0 ? options->max_order : MAX_ORDER_DEFAULT;
    int code = check_options(options, max_order);
    if (code != 0)
        return code;
    struct cp_buddy *buddy = calloc(1, sizeof *buddy);
    if (buddy == NULL)
        return buddy_error(-ENOMEM, "buddy: allocating its descriptor");
    buddy->base = options->base;
    buddy->unit_count = options->size_bytes / CP_BUDDY_UNIT_BYTES;
    buddy->max_order = max_order;
    buddy->cached_order = options->cached_order;
    code = map_metadata(buddy);
    if (code != 0)
        goto fail_metadata;
    code = cp_buddy__init_caches(buddy, options->cache_blocks);
    if (code != 0)
        goto fail_caches;
    pthread_mutex_init(&buddy->core_lock, NULL); /* cannot fail without attributes */
    *out_buddy = buddy;
    return 0;

fail_caches:
    munmap(buddy->metadata, buddy->metadata_size_bytes);
fail_metadata:
    free(buddy);
    return buddy_error(code, "buddy: allocating its metadata");
}

/* The memory goes back to its owner, who must not find it poisoned. */
static void unpoison_all(struct cp_buddy *buddy)
{
    for (uint64_t unit = 0; unit < buddy->end_unit;) {
        uint8_t state = cp_buddy__state(buddy, unit);
        uint32_t order = state & CP_BUDDY_ORDER_MASK;
        if (state != CP_BUDDY_INSIDE)
            CP_UNPOISON(unit_address(buddy, unit), order_bytes(order));
        unit += state != CP_BUDDY_INSIDE ? cp_buddy__units(order) : 1;
    }
}

void cp_buddy_destroy(struct cp_buddy *buddy)
{
    if (buddy == NULL)
        return;
    if (CP_POISONS)
        unpoison_all(buddy);
    cp_buddy__fini_caches(buddy);
    pthread_mutex_destroy(&buddy->core_lock);
    munmap(buddy->metadata, buddy->metadata_size_bytes);
    free(buddy);
}

/* Memory in and out. */

static bool valid_range(const struct cp_buddy *buddy, uint64_t offset_bytes, uint64_t size_bytes)
{
    uint64_t range_bytes = buddy->unit_count << CP_BUDDY_UNIT_SHIFT;
    return size_bytes != 0 && ((offset_bytes | size_bytes) % CP_BUDDY_UNIT_BYTES) == 0 &&
           offset_bytes <= range_bytes && size_bytes <= range_bytes - offset_bytes;
}

/* Whether no unit of [unit, end) lies in a block. */
static bool nothing_added(const struct cp_buddy *buddy, uint64_t unit, uint64_t end)
{
    uint64_t first;
    uint8_t state;

    if (cp_buddy__find_block(buddy, unit, &first, &state))
        return false;
    for (end = cp_min_u64(end, buddy->end_unit); unit < end; unit++) {
        if (cp_buddy__state(buddy, unit) != CP_BUDDY_INSIDE)
            return false;
    }
    return true;
}

int cp_buddy_add(struct cp_buddy *buddy, uint64_t offset_bytes, uint64_t size_bytes)
{
    if (!valid_range(buddy, offset_bytes, size_bytes))
        return buddy_error(-EINVAL, "buddy: adding outside the range, or not whole units");
    uint64_t unit = offset_bytes >> CP_BUDDY_UNIT_SHIFT;
    uint64_t end = unit + (size_bytes >> CP_BUDDY_UNIT_SHIFT);

    pthread_mutex_lock(&buddy->core_lock);
    bool fresh = nothing_added(buddy, unit, end);
    if (fresh) {
        CP_POISON(unit_address(buddy, unit), size_bytes);
        buddy->end_unit = cp_max_u64(buddy->end_unit, end);
        cp_buddy__count(&buddy->total_units, end - unit);
        uint64_t total = cp_buddy__counted(&buddy->total_units);
        if (total > cp_buddy__counted(&buddy->peak_units))
            atomic_store_explicit(&buddy->peak_units, total, memory_order_relaxed);
        give_range(buddy, unit, end);
    }
    pthread_mutex_unlock(&buddy->core_lock);
    return fresh ? 0 : buddy_error(-EINVAL, "buddy: adding memory that was added already");
}

/* 0 when all of [unit, end) is free. With all locks held and the caches drained. */
static int check_all_free(const struct cp_buddy *buddy, uint64_t unit, uint64_t end)
{
    while (unit < end) {
        uint64_t first;
        uint8_t state;
        if (!cp_buddy__find_block(buddy, unit, &first, &state))
            return -EINVAL;
        uint32_t kind = state & CP_BUDDY_KIND_MASK;
        if (kind != CP_BUDDY_FREE && kind != CP_BUDDY_WITHHELD)
            return -EBUSY;
        unit = first + cp_buddy__units(state & CP_BUDDY_ORDER_MASK);
    }
    return 0;
}

/* Make a block that is free or withheld no block. With core_lock held. */
static void take_out(struct cp_buddy *buddy, uint64_t unit, uint8_t state)
{
    uint32_t order = state & CP_BUDDY_ORDER_MASK;

    if ((state & CP_BUDDY_KIND_MASK) == CP_BUDDY_FREE) {
        erase_free(buddy, unit, order);
        add_free_units(buddy, 0 - cp_buddy__units(order));
        return;
    }
    cp_buddy__count(&buddy->withheld_units, 0 - cp_buddy__units(order));
    cp_buddy__set_state(buddy, unit, CP_BUDDY_INSIDE);
}

/* Cut [unit, end), all of it free, out of the free blocks. With core_lock held. */
static void cut_range(struct cp_buddy *buddy, uint64_t unit, uint64_t end)
{
    while (unit < end) {
        uint64_t first = 0;
        uint8_t state = 0;
        bool found = cp_buddy__find_block(buddy, unit, &first, &state);
        cp_assert(found);
        uint64_t block_end = first + cp_buddy__units(state & CP_BUDDY_ORDER_MASK);

        take_out(buddy, first, state);
        give_range(buddy, first, unit); /* what lies before and behind stays */
        if (block_end > end)
            give_range(buddy, end, block_end);
        unit = block_end;
    }
}

int cp_buddy_remove(struct cp_buddy *buddy, uint64_t offset_bytes, uint64_t size_bytes)
{
    if (!valid_range(buddy, offset_bytes, size_bytes))
        return buddy_error(-EINVAL, "buddy: removing outside the range, or not whole units");
    uint64_t unit = offset_bytes >> CP_BUDDY_UNIT_SHIFT;
    uint64_t end = unit + (size_bytes >> CP_BUDDY_UNIT_SHIFT);

    cp_buddy__lock_all(buddy);
    cp_buddy__drain_locked(buddy);
    int code = check_all_free(buddy, unit, end);
    if (code == 0) {
        cut_range(buddy, unit, end);
        cp_buddy__count(&buddy->total_units, unit - end);
        CP_UNPOISON(unit_address(buddy, unit), size_bytes);
    }
    cp_buddy__unlock_all(buddy);
    if (code == -EBUSY)
        return buddy_error(code, "buddy: removing memory of which some is allocated");
    return code == 0 ? 0 : buddy_error(code, "buddy: removing memory that was not added");
}

/* Blocks of one kind in [unit, end) as others. With all locks held. */
static void turn_blocks(struct cp_buddy *buddy, uint64_t unit, uint64_t end, uint32_t kind)
{
    for (end = cp_min_u64(end, buddy->end_unit); unit < end;) {
        uint8_t state = cp_buddy__state(buddy, unit);
        uint32_t order = state & CP_BUDDY_ORDER_MASK;
        if ((state & CP_BUDDY_KIND_MASK) == kind) {
            take_out(buddy, unit, state);
            cp_buddy__give(buddy, unit, order);
        }
        unit += state != CP_BUDDY_INSIDE ? cp_buddy__units(order) : 1;
    }
}

int cp_buddy_close(struct cp_buddy *buddy, uint64_t offset_bytes, uint64_t size_bytes)
{
    if (!valid_range(buddy, offset_bytes, size_bytes) ||
        (offset_bytes | size_bytes) % order_bytes(buddy->max_order) != 0)
        return buddy_error(-EINVAL, "buddy: closing outside the range, or not whole blocks");

    cp_buddy__lock_all(buddy);
    bool first = buddy->closed_first == buddy->closed_end;
    if (first) {
        cp_buddy__drain_locked(buddy);
        buddy->closed_first = offset_bytes >> CP_BUDDY_UNIT_SHIFT;
        buddy->closed_end = buddy->closed_first + (size_bytes >> CP_BUDDY_UNIT_SHIFT);
        turn_blocks(buddy, buddy->closed_first, buddy->closed_end, CP_BUDDY_FREE);
    }
    cp_buddy__unlock_all(buddy);
    return first ? 0 : buddy_error(-EBUSY, "buddy: closing a second range");
}

void cp_buddy_reopen(struct cp_buddy *buddy)
{
    cp_buddy__lock_all(buddy);
    uint64_t unit = buddy->closed_first, end = buddy->closed_end;
    buddy->closed_first = buddy->closed_end = 0;
    turn_blocks(buddy, unit, end, CP_BUDDY_WITHHELD);
    cp_buddy__unlock_all(buddy);
}

/* Allocation. */

static uint32_t take_from_core(struct cp_buddy *buddy, uint32_t order)
{
    pthread_mutex_lock(&buddy->core_lock);
    uint32_t unit = cp_buddy__take(buddy, order, CP_BUDDY_ALLOCATED);
    if (unit != CP_BUDDY_NO_UNIT)
        cp_buddy__count(&buddy->alloc_count, 1);
    pthread_mutex_unlock(&buddy->core_lock);
    return unit;
}

/* The last try, with everything that is cached back in the free sets. */
static uint32_t take_after_drain(struct cp_buddy *buddy, uint32_t order)
{
    cp_buddy__lock_all(buddy);
    cp_buddy__drain_locked(buddy);
    uint32_t unit = cp_buddy__take(buddy, order, CP_BUDDY_ALLOCATED);
    if (unit != CP_BUDDY_NO_UNIT)
        cp_buddy__count(&buddy->alloc_count, 1);
    cp_buddy__unlock_all(buddy);
    return unit;
}

void *cp_buddy_alloc(struct cp_buddy *buddy, uint32_t order)
{
    if (order > buddy->max_order)
        return NULL;
    uint32_t unit = CP_BUDDY_NO_UNIT;
    bool caches = buddy->cache_blocks != 0;

    if (caches && order == buddy->cached_order)
        unit = cp_buddy__cache_take(buddy);
    if (unit == CP_BUDDY_NO_UNIT)
        unit = take_from_core(buddy, order);
    if (unit == CP_BUDDY_NO_UNIT && caches)
        unit = take_after_drain(buddy, order);
    if (unit == CP_BUDDY_NO_UNIT)
        return NULL;
    char *block = unit_address(buddy, unit);
    CP_UNPOISON(block, order_bytes(order));
    return block;
}

/* The unit of a block that the caller says it owns. */
static uint64_t owned_unit(const struct cp_buddy *buddy, const void *block, uint32_t order)
{
    uint64_t offset_bytes = (uint64_t)(uintptr_t)block - (uint64_t)(uintptr_t)buddy->base;
    uint64_t unit = offset_bytes >> CP_BUDDY_UNIT_SHIFT;

    /* Always compiled in: a frame that two owners hold is lost data, and these cost one load. */
    cp_assert(order <= buddy->max_order);
    cp_assert(unit < buddy->unit_count);
    cp_assert(offset_bytes % CP_BUDDY_UNIT_BYTES == 0);
    cp_assert(cp_buddy__state(buddy, unit) == (CP_BUDDY_ALLOCATED | order));
    return unit;
}

void cp_buddy_split(struct cp_buddy *buddy, void *block, uint32_t order, uint32_t into)
{
    uint64_t first = owned_unit(buddy, block, order);
    uint64_t step = cp_buddy__units(into), end = first + cp_buddy__units(order);

    cp_assert(into <= order);
    /* Under the lock although the block is the caller's: the bytes inside it are not, so far. */
    pthread_mutex_lock(&buddy->core_lock);
    for (uint64_t unit = first; unit < end; unit += step)
        cp_buddy__set_state(buddy, unit, CP_BUDDY_ALLOCATED | into);
    cp_buddy__count(&buddy->alloc_count, (UINT64_C(1) << (order - into)) - 1);
    pthread_mutex_unlock(&buddy->core_lock);
}

void cp_buddy_free(struct cp_buddy *buddy, void *block, uint32_t order)
{
    uint64_t unit = owned_unit(buddy, block, order);

    CP_POISON(block, order_bytes(order));
    if (buddy->cache_blocks != 0 && order == buddy->cached_order &&
        cp_buddy__cache_put(buddy, (uint32_t)unit))
        return;
    pthread_mutex_lock(&buddy->core_lock);
    cp_buddy__give(buddy, unit, order);
    cp_buddy__count(&buddy->free_count, 1);
    pthread_mutex_unlock(&buddy->core_lock);
}

void cp_buddy_drain(struct cp_buddy *buddy)
{
    cp_buddy__lock_all(buddy);
    cp_buddy__drain_locked(buddy);
    cp_buddy__unlock_all(buddy);
}
