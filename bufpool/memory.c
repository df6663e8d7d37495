/* SPDX-License-Identifier: MIT */
/*
 * The pool's memory: extents of the arena, frames from the buddy allocator, descriptors from the
 * slab, and the way back to the kernel.
 *
 * The arena is committed extent by extent, as far as the budget allows, lowest first; each
 * committed extent is handed to the buddy allocator. An extent's price includes what its units may
 * need in metadata, so no allocation on the miss path can break the budget. When metadata (the page
 * table) or a smaller budget need the memory, whole extents are emptied, highest first, and
 * decommitted.
 *
 * Invariants
 *  1. extents_committed[e] is 1 exactly while extent e is paid for, committed, and in the buddy;
 *     the highest of them is extent_end - 1, and all below extent_free are. What goes over all
 *     extents or units ends at the former, who looks for one to commit begins at the latter: the
 *     largest budget may be a thousand times what is in use.
 *  2. slots[u].frame names a descriptor exactly while the block at unit u is allocated as a frame;
 *     the clock holds slot u only then, from the page's claim, or shortly before, until it is
 *     evicted or dropped.
 *  3. A descriptor's word is NULL while its frame holds no page; then whoever allocated or claimed
 *     it is its only user, or it is one of the spares.
 *
 * An extent is closed in the buddy while it is emptied, or misses would fill it as fast as that:
 * they find their victims elsewhere meanwhile. Only one is closed at a time, and for so short that
 * nobody runs out of frames over it.
 *
 * resize_lock serialises those who empty extents. It guards no field and may be held over I/O;
 * its holder waits for I/O only, never for a latch.
 */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define EXTENT_MIN_BYTES (UINT64_C(64) << 10) /* one frame of the largest page size */
#define EXTENT_MAX_BYTES CP_ARENA_HUGE_BYTES
#define EXTENT_SHARE     32u /* a small pool has at least about this many extents */
_Static_assert(EXTENT_MAX_BYTES >> CP_UNIT_SHIFT == CP_EXTENT_UNITS_MAX, "units of an extent");
#define BUDDY_CACHE_BLOCKS 32u
/* Looks at an extent before it counts as pinned; pages under I/O get this many pauses to finish. */
#define RELEASE_ROUNDS  200u
#define LEAST_ROUNDS    4u /* however long the writes take: drop, write, drop what was written */
#define RELEASE_NS      (CP_BUFPOOL_WAIT_LIMIT_MS * UINT64_C(500000)) /* half a miss's patience */
#define RELEASE_PAUSE   ((struct timespec){0, 200000})
#define PATIENT_EXTENTS 8u
#define SETTLE_BATCH    64u /* words of one search, see cp_bias__settle */

static uint64_t choose_extent_bytes(uint64_t budget_bytes)
{
    uint64_t bytes = UINT64_C(1) << cp_log2_floor(budget_bytes / EXTENT_SHARE);
    return cp_min_u64(cp_max_u64(bytes, EXTENT_MIN_BYTES), EXTENT_MAX_BYTES);
}

static int create_allocators(struct cp_bufpool *pool, uint64_t max_budget_bytes)
{
    const struct cp_arena_options arena_options = {
        .reserve_bytes = max_budget_bytes,
        .extent_bytes = pool->extent_bytes,
        .huge_pages = pool->options.huge_pages,
    };
    int status = cp_arena_create(&arena_options, &pool->arena);
    if (status != 0)
        return status;
    pool->base = cp_arena_base(pool->arena);

    const struct cp_buddy_options buddy_options = {
        .base = pool->base,
        .size_bytes = (uint64_t)pool->extent_limit * pool->extent_bytes,
        .max_order = cp_log2_floor(pool->extent_bytes >> CP_UNIT_SHIFT),
        .cached_order = 0,
        /* A small pool cannot afford frames that lie idle in caches. */
        .cache_blocks = pool->extent_bytes == EXTENT_MAX_BYTES ? BUDDY_CACHE_BLOCKS : 0,
    };
    status = cp_buddy_create(&buddy_options, &pool->buddy);
    if (status != 0)
        return status;

    const struct cp_slab_options slab_options = {
        .object_bytes = sizeof(struct cp_frame),
        .alignment_bytes = 64,
        .max_objects = pool->unit_limit,
    };
    status = cp_slab_create(&slab_options, &pool->frame_slab);
    if (status != 0)
        return status;
    uint32_t stride = 0;
    pool->frames = cp_slab_base(pool->frame_slab, &stride);
    cp_assert(stride == sizeof(struct cp_frame));
    return 0;
}

int cp_memory__create(struct cp_bufpool *pool)
{
    uint64_t max_budget_bytes = pool->options.max_budget_bytes;

    pool->extent_bytes = choose_extent_bytes(pool->options.budget_bytes);
    pool->extent_cost_bytes =
        pool->extent_bytes + (pool->extent_bytes >> CP_UNIT_SHIFT) * CP_UNIT_OVERHEAD;
    pool->extent_limit = (uint32_t)cp_max_u64(1, cp_align_up(max_budget_bytes, pool->extent_bytes) /
                                                     pool->extent_bytes);
    pool->unit_limit =
        (uint32_t)(((uint64_t)pool->extent_limit * pool->extent_bytes) >> CP_UNIT_SHIFT);

    unsigned frame_bits = cp_log2_ceil((uint64_t)pool->unit_limit + 1);
    if (frame_bits < CP_FRAME_BITS_MIN)
        frame_bits = CP_FRAME_BITS_MIN;
    pool->frame_mask = ((UINT64_C(1) << frame_bits) - 1) << CP_UNIT_SHIFT;
    pool->version_shift = CP_UNIT_SHIFT + frame_bits;
    pool->version_one = UINT64_C(1) << pool->version_shift;
    cp_assert(64 - pool->version_shift <= 32);

    pool->slots_bytes = (uint64_t)pool->unit_limit * sizeof(struct cp_slot);
    pool->clock_memory_bytes = cp_clock__bytes(pool->unit_limit);
    pool->slots = cp_arena_reserve_table(pool->slots_bytes);
    pool->clock_memory = cp_arena_reserve_table(pool->clock_memory_bytes);
    pool->extents_committed = calloc(pool->extent_limit, 1);
    if (pool->slots == NULL || pool->clock_memory == NULL || pool->extents_committed == NULL)
        return cp_error_set(-ENOMEM, NULL, CP_NO_PAGE, CP_NO_LSN, NULL,
                            "allocating the pool's tables");
    cp_clock__init(&pool->clock, pool->clock_memory, pool->unit_limit);
    return create_allocators(pool, max_budget_bytes);
}

void cp_memory__destroy(struct cp_bufpool *pool)
{
    cp_slab_destroy(pool->frame_slab);
    cp_buddy_destroy(pool->buddy);
    cp_arena_destroy(pool->arena);
    if (pool->slots != NULL)
        munmap(pool->slots, pool->slots_bytes);
    if (pool->clock_memory != NULL)
        munmap(pool->clock_memory, pool->clock_memory_bytes);
    free(pool->extents_committed);
}

/* Tell the policy how much there is: what is committed, and what the budget has room for. */
static void resize_clock(struct cp_bufpool *pool)
{
    uint64_t used = atomic_load_explicit(&pool->budget.used_bytes, memory_order_relaxed);
    uint64_t limit = atomic_load_explicit(&pool->budget.limit_bytes, memory_order_relaxed);
    uint64_t extents = pool->extent_count;

    if (limit > used)
        extents += (limit - used) / pool->extent_cost_bytes;
    extents = cp_min_u64(extents, pool->extent_limit);
    pthread_mutex_lock(&pool->clock_lock);
    cp_clock__resize(&pool->clock, extents * (pool->extent_bytes >> CP_UNIT_SHIFT));
    pthread_mutex_unlock(&pool->clock_lock);
}

/* After a change of extents_committed[extent]. Under memory_lock. */
static void move_end(struct cp_bufpool *pool, uint32_t extent)
{
    uint32_t end = atomic_load_explicit(&pool->extent_end, memory_order_relaxed);

    if (extent >= end)
        end = extent + 1;
    while (end > 0 && pool->extents_committed[end - 1] == 0)
        end--;
    atomic_store_explicit(&pool->extent_end, end, memory_order_relaxed);
}

/* Commit one more extent, if the budget has room for it. */
static bool grow(struct cp_bufpool *pool)
{
    struct cp_budget *budget = &pool->budget;
    uint64_t metadata_bytes = pool->extent_cost_bytes - pool->extent_bytes;
    bool grown = false;

    uint64_t used = atomic_load_explicit(&budget->used_bytes, memory_order_relaxed);
    if (used + pool->extent_cost_bytes >
        atomic_load_explicit(&budget->limit_bytes, memory_order_relaxed))
        return false; /* the usual case of a full pool: no lock */

    pthread_mutex_lock(&pool->memory_lock);
    uint32_t extent = pool->extent_free;
    while (extent < pool->extent_limit && pool->extents_committed[extent] != 0)
        extent++;
    pool->extent_free = extent;
    if (extent == pool->extent_limit || !cp_budget__take(budget, CP_FOR_FRAMES, pool->extent_bytes))
        goto out;
    if (!cp_budget__take(budget, CP_FOR_DESCRIPTORS, metadata_bytes))
        goto out_frames;
    if (cp_arena_commit(pool->arena, extent, 1) != 0)
        goto out_descriptors;
    if (cp_buddy_add(pool->buddy, extent * pool->extent_bytes, pool->extent_bytes) != 0)
        goto out_commit;
    atomic_fetch_add_explicit(&pool->free_units, (int64_t)(pool->extent_bytes >> CP_UNIT_SHIFT),
                              memory_order_relaxed);
    pool->extents_committed[extent] = 1;
    pool->extent_count++;
    move_end(pool, extent);
    cp_register__extent(pool, extent);
    resize_clock(pool);
    CP_PROBE1(extent_commit, extent);
    grown = true;
    goto out;

out_commit:
    (void)!cp_arena_decommit(pool->arena, extent, 1);
out_descriptors:
    cp_budget__give(budget, CP_FOR_DESCRIPTORS, metadata_bytes);
out_frames:
    cp_budget__give(budget, CP_FOR_FRAMES, pool->extent_bytes);
out:
    pthread_mutex_unlock(&pool->memory_lock);
    return grown;
}

static void give_units(struct cp_bufpool *pool, uint32_t unit, uint32_t order)
{
    cp_buddy_free(pool->buddy, cp_bufpool__unit_data(pool, unit), order);
    atomic_fetch_add_explicit(&pool->free_units, INT64_C(1) << order, memory_order_relaxed);
}

/*
 * Give the frames that begin at `unit`, side by side, their descriptors. Returns how many got one:
 * where the kernel refuses memory for more of them, the rest of the units is given back.
 */
static uint32_t enter_frames(struct cp_bufpool *pool, uint32_t unit, uint32_t order, uint32_t count,
                             struct cp_frame **out_frames)
{
    uint32_t done = 0;

    pthread_mutex_lock(&pool->clock_lock);
    for (; done < count; done++, unit += 1u << order) {
        struct cp_frame *frame = cp_slab_alloc(pool->frame_slab);
        if (frame == NULL)
            break;
        *frame = (struct cp_frame){.unit = unit, .order = order};
        cp_assert(pool->slots[unit].frame == 0);
        pool->slots[unit].frame = cp_slab_index(pool->frame_slab, frame) + 1;
        out_frames[done] = frame;
    }
    pthread_mutex_unlock(&pool->clock_lock);
    for (uint32_t i = done; i < count; i++, unit += 1u << order)
        give_units(pool, unit, order);
    return done;
}

static uint32_t unit_at(const struct cp_bufpool *pool, const unsigned char *block)
{
    return (uint32_t)((uint64_t)(block - pool->base) >> CP_UNIT_SHIFT);
}

struct cp_frame *cp_memory__frame_alloc(struct cp_bufpool *pool, uint32_t order)
{
    struct cp_frame *frame = NULL;
    unsigned char *block = cp_buddy_alloc(pool->buddy, order);
    while (block == NULL && grow(pool)) /* ends: each round commits an extent */
        block = cp_buddy_alloc(pool->buddy, order);
    if (block == NULL)
        return NULL;

    atomic_fetch_sub_explicit(&pool->free_units, INT64_C(1) << order, memory_order_relaxed);
    (void)enter_frames(pool, unit_at(pool, block), order, 1, &frame);
    return frame; /* NULL where it got no descriptor */
}

uint32_t cp_memory__run_alloc(struct cp_bufpool *pool, uint32_t order, uint32_t count,
                              struct cp_frame **out_frames)
{
    /* No block is larger than an extent. */
    const uint32_t largest = cp_log2_floor(pool->extent_bytes >> CP_UNIT_SHIFT) - order;
    uint32_t done = 0, split = count > 0 ? cp_log2_floor(count) : 0;

    split = (uint32_t)cp_min_u64(split, largest);
    while (done < count) { /* ends: each round allocates, commits an extent, or lowers split */
        while (1u << split > count - done)
            split--;
        unsigned char *block = NULL;
        /* An allocator that is empty is slow to say so. */
        if (atomic_load_explicit(&pool->free_units, memory_order_relaxed) >=
            (INT64_C(1) << (order + split)))
            block = cp_buddy_alloc(pool->buddy, order + split);
        if (block != NULL) {
            cp_buddy_split(pool->buddy, block, order + split, order);
            atomic_fetch_sub_explicit(&pool->free_units, INT64_C(1) << (order + split),
                                      memory_order_relaxed);
            uint32_t entered =
                enter_frames(pool, unit_at(pool, block), order, 1u << split, &out_frames[done]);
            done += entered;
            if (entered < 1u << split)
                break;
        } else if (!grow(pool) && split-- == 0) {
            break;
        }
    }
    return done;
}

void cp_memory__frame_free(struct cp_bufpool *pool, struct cp_frame *frame)
{
    uint32_t unit = frame->unit;
    uint32_t order = frame->order;

    cp_assert(atomic_load_explicit(&frame->word, memory_order_relaxed) == NULL);
    pthread_mutex_lock(&pool->clock_lock);
    cp_clock__remove(&pool->clock, unit);
    pool->slots[unit].frame = 0;
    cp_slab_free(pool->frame_slab, frame);
    pthread_mutex_unlock(&pool->clock_lock);
    give_units(pool, unit, order);
}

bool cp_memory__free_spares(struct cp_bufpool *pool)
{
    struct cp_frame *frames[CP_ORDERS * CP_VICTIMS_MAX];
    uint32_t count = 0;

    pthread_mutex_lock(&pool->clock_lock);
    for (uint32_t order = 0; order < CP_ORDERS; order++) {
        struct cp_spares *spares = &pool->spares[order];
        while (spares->count > 0)
            frames[count++] = spares->frames[--spares->count];
    }
    pthread_mutex_unlock(&pool->clock_lock);
    for (uint32_t i = 0; i < count; i++)
        cp_memory__frame_free(pool, frames[i]);
    return count > 0;
}

/* ---- giving extents back ------------------------------------------------------------------------
 */

/* Claim the frame at unit, if one begins there, for whatever it needs. Under clock_lock. */
static void claim_unit(struct cp_bufpool *pool, uint32_t unit, struct cp_extent_pass *pass)
{
    uint32_t index = pool->slots[unit].frame;
    if (index == 0)
        return;
    struct cp_frame *frame = &pool->frames[index - 1];
    /* acquire: pairs with the release in cp_load__claim */
    uint64_t *word = atomic_load_explicit(&frame->word, memory_order_acquire);
    pass->busy_count++; /* unless shown otherwise */
    if (word == NULL)
        return;
    uint64_t seen = cp_word_load(word);
    if (seen == 0 || cp_bufpool__unit_of(pool, seen) != unit ||
        cp_word_latch(seen) != CP_LATCH_FREE)
        return;
    if ((seen & CP_WORD_DIRTY) != 0) {
        if (!pass->clean_only && pass->dirty_count < CP_WRITE_BATCH_MAX &&
            cp_writeback__claim(pool, word, seen))
            pass->dirty[pass->dirty_count++] = frame;
        return;
    }
    if (cp_state__cas(word, &seen, cp_word_with_latch(seen, CP_LATCH_EXCLUSIVE))) {
        pass->clean[pass->clean_count++] = frame;
        pass->busy_count--;
    }
}

/* Keep of the claimed frames those that no reader holds in a slot. */
static void settle_claims(struct cp_extent_pass *pass)
{
    uint32_t kept = 0;

    for (uint32_t first = 0; first < pass->clean_count; first += SETTLE_BATCH) {
        uint64_t *words[SETTLE_BATCH];
        uint32_t count = (uint32_t)cp_min_u64(SETTLE_BATCH, (uint64_t)pass->clean_count - first);
        for (uint32_t i = 0; i < count; i++)
            words[i] = atomic_load_explicit(&pass->clean[first + i]->word, memory_order_relaxed);
        uint64_t pinned = cp_bias__settle(words, count, 0);
        for (uint32_t i = 0; i < count; i++) {
            if ((pinned >> i & 1) == 0)
                pass->clean[kept++] = pass->clean[first + i];
        }
    }
    pass->busy_count += pass->clean_count - kept;
    pass->clean_count = kept;
}

int cp_memory__empty_units(struct cp_bufpool *pool, uint32_t first, uint32_t count,
                           struct cp_extent_pass *pass)
{
    struct cp_write_wait wait = {0};
    int status = 0;

    cp_debug_assert(count <= CP_EXTENT_UNITS_MAX);
    (void)cp_memory__free_spares(pool); /* some may lie here */
    pass->clean_count = pass->dirty_count = pass->busy_count = 0;
    pthread_mutex_lock(&pool->clock_lock);
    for (uint32_t unit = first; unit < first + count; unit++)
        claim_unit(pool, unit, pass);
    pthread_mutex_unlock(&pool->clock_lock);
    settle_claims(pass);

    pthread_mutex_lock(&pool->clock_lock);
    for (uint32_t i = 0; i < pass->clean_count; i++)
        cp_clock__evict(&pool->clock, pass->clean[i]->unit,
                        cp_bufpool__key(pass->clean[i]->file, pass->clean[i]->page), false);
    pthread_mutex_unlock(&pool->clock_lock);
    for (uint32_t i = 0; i < pass->clean_count; i++) {
        cp_evict__drop_page(pool, pass->clean[i]);
        cp_memory__frame_free(pool, pass->clean[i]);
    }
    cp_bufpool__count(pool, CP_COUNT_EVICTIONS, pass->clean_count);
    if (pass->dirty_count > 0) {
        cp_bufpool__count(pool, CP_COUNT_EVICTED_DIRTY, pass->dirty_count);
        status = cp_writeback__start(pool, pass->dirty, pass->dirty_count, CP_GATE_ALL, &wait);
        int waited = cp_writeback__wait(pool, &wait);
        status = status != 0 ? status : waited;
    }
    if (status != 0)
        return status;
    return pass->busy_count == 0 ? 0 : -EAGAIN;
}

/*
 * Take an empty extent out of the buddy and give its memory back. -EBUSY when it is not empty, or
 * the kernel's refusal (ENOMEM where it would need one mapping more): then all is as before.
 */
static int release_extent(struct cp_bufpool *pool, uint32_t extent)
{
    const uint64_t at = extent * pool->extent_bytes, bytes = pool->extent_bytes;

    pthread_mutex_lock(&pool->memory_lock);
    int status = cp_buddy_remove(pool->buddy, at, bytes);
    if (status != 0)
        goto out;
    cp_buddy_reopen(pool->buddy); /* before it can be committed again */
    cp_register__let_go(pool, extent);
    status = cp_arena_decommit(pool->arena, extent, 1);
    if (status != 0) {
        int added = cp_buddy_add(pool->buddy, at, bytes);
        cp_assert(added == 0); /* it was there */
        cp_register__extent(pool, extent);
        goto out;
    }
    atomic_fetch_sub_explicit(&pool->free_units, (int64_t)(bytes >> CP_UNIT_SHIFT),
                              memory_order_relaxed);
    CP_PROBE1(extent_release, extent);
    pool->extents_committed[extent] = 0;
    pool->extent_free = (uint32_t)cp_min_u64(pool->extent_free, extent);
    pool->extent_count--;
    move_end(pool, extent);
    cp_budget__give(&pool->budget, CP_FOR_DESCRIPTORS, pool->extent_cost_bytes - bytes);
    cp_budget__give(&pool->budget, CP_FOR_FRAMES, bytes);
    resize_clock(pool);
    cp_bufpool__count(pool, CP_COUNT_EXTENTS_RELEASED, 1);
out:
    pthread_mutex_unlock(&pool->memory_lock);
    return status;
}

/*
 * Empty and release one closed extent. 0; CP_EPINNED when at last there was nothing to be done;
 * CP_ETIMEDOUT when there still was; or the error of a write or of the release.
 */
static int empty_extent(struct cp_bufpool *pool, uint32_t extent, struct cp_extent_pass *pass,
                        bool patient)
{
    const uint32_t units = (uint32_t)(pool->extent_bytes >> CP_UNIT_SHIFT);
    const uint64_t deadline_ns = cp_now_ns() + RELEASE_NS;

    for (uint32_t round = 1;; round++) { /* ends: by RELEASE_ROUNDS at the latest */
        int status = cp_memory__empty_units(pool, extent * units, units, pass);
        CP_HOOK("reclaim_pass", NULL, extent);
        if (status == 0)
            status = release_extent(pool, extent);
        if (status != -EAGAIN && status != -EBUSY)
            return status;
        const bool in_vain = pass->clean_count == 0 && pass->dirty_count == 0;
        if ((in_vain && !patient) || round == RELEASE_ROUNDS ||
            (round >= LEAST_ROUNDS && (!patient || cp_now_ns() >= deadline_ns)))
            return in_vain ? CP_EPINNED : CP_ETIMEDOUT;
        if (in_vain) {
            for (uint32_t i = 0; i < pool->ring_count; i++)
                cp_io_ring_poll(pool->rings[i]);
            nanosleep(&RELEASE_PAUSE, NULL);
        }
    }
}

static int reclaim_extent(struct cp_bufpool *pool, uint32_t extent, bool patient)
{
    /* Under resize_lock; too large for a stack. */
    struct cp_extent_pass *pass = &pool->extent_pass;

    int status = cp_buddy_close(pool->buddy, extent * pool->extent_bytes, pool->extent_bytes);
    cp_assert(status == 0); /* nobody else closes any */
    status = empty_extent(pool, extent, pass, patient);
    if (status != 0)
        cp_buddy_reopen(pool->buddy);
    return status;
}

/* Nothing is wrong but that pages are in use. */
static bool is_in_use(int status)
{
    return status == CP_EPINNED || status == CP_ETIMEDOUT;
}

/* Release the highest extent that can be. */
static int reclaim_any(struct cp_bufpool *pool)
{
    const uint64_t deadline_ns = cp_now_ns() + CP_BUFPOOL_SHRINK_LIMIT_MS * UINT64_C(1000000);
    int result = CP_EPINNED;

    CP_HOOK("reclaim", NULL, 0);
    /* First without patience, so that one pinned page costs no waiting; then a few with. */
    for (uint32_t patience = 0; patience < 2; patience++) {
        uint32_t tries = patience == 0 ? UINT32_MAX : PATIENT_EXTENTS;
        uint32_t i = atomic_load_explicit(&pool->extent_end, memory_order_relaxed);
        result = CP_EPINNED;
        while (i-- > 0 && tries > 0) {
            CP_HOOK("reclaim_look", NULL, i);
            pthread_mutex_lock(&pool->memory_lock);
            bool committed = pool->extents_committed[i] != 0;
            pthread_mutex_unlock(&pool->memory_lock);
            if (!committed)
                continue;
            tries--;
            int status = reclaim_extent(pool, i, patience != 0);
            if (!is_in_use(status))
                return status;
            if (status == CP_ETIMEDOUT)
                result = status;
            if (cp_now_ns() >= deadline_ns)
                return result;
        }
    }
    return result;
}

/* Give back what no page needs of the tables. Returns the bytes. */
static uint64_t trim_tables(struct cp_bufpool *pool)
{
    uint64_t bytes = 0;

    pthread_mutex_lock(&pool->files_lock); /* so that no file is detached meanwhile */
    for (uint32_t i = 0; i < CP_BUFPOOL_FILES_MAX; i++) {
        if (pool->files[i] != NULL)
            bytes += cp_table__trim(pool->files[i]);
    }
    pthread_mutex_unlock(&pool->files_lock);
    return bytes;
}

/* Release an extent, or what is empty of the tables where every extent holds a page in use. */
static int reclaim_something(struct cp_bufpool *pool)
{
    int status = reclaim_any(pool);
    return is_in_use(status) && trim_tables(pool) > 0 ? 0 : status;
}

/*
 * What the policy keeps of the extents above the highest one goes with them. The slots stay: the
 * versions used there must not come back.
 */
static void release_policy(struct cp_bufpool *pool)
{
    pthread_mutex_lock(&pool->memory_lock); /* so that no extent comes back meanwhile */
    cp_clock__release(&pool->clock, cp_bufpool__unit_end(pool));
    pthread_mutex_unlock(&pool->memory_lock);
}

int cp_memory__shrink(struct cp_bufpool *pool, uint64_t target_bytes)
{
    const _Atomic uint64_t *used = &pool->budget.used_bytes;
    int status = 0;

    /* seq_cst: pairs with that in cp_budget__take */
    if (atomic_load_explicit(used, memory_order_seq_cst) <= target_bytes)
        return 0; /* growing waits for nobody who empties extents */
    pthread_mutex_lock(&pool->resize_lock);
    (void)trim_tables(pool); /* first what costs no page */
    while (status == 0 && atomic_load_explicit(used, memory_order_relaxed) >
                              target_bytes) /* ends: each round gives memory back or fails */
        status = reclaim_something(pool);
    release_policy(pool);
    pthread_mutex_unlock(&pool->resize_lock);
    return status;
}

/*
 * An extent at a time, and after each by the budget as it is then: a target would be stale as soon
 * as another thread raises the limit and the pool grows past it.
 */
static int charge_slowly(struct cp_bufpool *pool, enum cp_purpose purpose, uint64_t bytes)
{
    bool taken = false;
    int status = 0;

    if (atomic_load_explicit(&pool->budget.limit_bytes, memory_order_relaxed) < bytes)
        return CP_EPINNED; /* in vain */
    CP_HOOK("charge", NULL, 0);
    pthread_mutex_lock(&pool->resize_lock);
    for (;;) { /* ends: each round gives memory back or fails */
        taken = cp_budget__take(&pool->budget, purpose, bytes);
        if (taken || status != 0)
            break;
        status = reclaim_something(pool);
    }
    pthread_mutex_unlock(&pool->resize_lock);
    return taken ? 0 : status;
}

int cp_memory__charge(struct cp_bufpool *pool, enum cp_purpose purpose, uint64_t bytes)
{
    if (cp_budget__take(&pool->budget, purpose, bytes))
        return 0;
    int status = charge_slowly(pool, purpose, bytes);
    if (!is_in_use(status))
        return status;
    return cp_error_set(CP_EBUDGET, NULL, CP_NO_PAGE, CP_NO_LSN,
                        "raise the budget, or hold fewer pages at a time",
                        "finding %llu bytes for metadata: every extent holds a page in use",
                        (unsigned long long)bytes);
}
