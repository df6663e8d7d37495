/* SPDX-License-Identifier: MIT */
/*
 * Slab: objects of one size at fixed places, named by a dense index. See <clockpool/slab.h>.
 *
 * After Bonwick (The Slab Allocator, USENIX 1994): chunks of equal objects, given back when empty.
 * Unlike his, objects lie in one reservation, so that index and address are one multiplication
 * apart, and nothing is written into free objects, so that they can be poisoned.
 *
 * Policy: the lowest free index, found in O(log64 n) by a tree of bits (bitset.h). So live objects
 * gather at the start and chunks at the end empty out. One empty chunk is kept (the lowest), so
 * that a caller who allocates and frees at a chunk's edge does not call the kernel each time.
 *
 * Invariants (cp_slab__check walks them)
 *   S1. used has index i exactly when object i is live; chunk_live[c] counts those of chunk c.
 *   S2. A chunk with a live object is committed; CHUNK_COMMITTED says which others are.
 *   S3. kept_chunk is SLAB_NO_CHUNK or a committed chunk without live objects. Other empty chunks
 *       are committed only where the kernel refused to take them back; trim tries again.
 *   S4. A chunk holds whole objects only: chunk_bytes is a multiple of stride_bytes.
 *   S5. Free objects are poisoned, in builds that can.
 *
 * Locks: one, guarding the bits, the counts and kept_chunk. It is a leaf. Taking a chunk from the
 * kernel and giving one back happen under it: usually no call at all, and one madvise.
 */
#include <clockpool/slab.h>

#include <clockpool/arena.h>
#include <clockpool/base/assert.h>
#include <clockpool/base/bits.h>
#include <clockpool/base/error.h>
#include <clockpool/base/poison.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "bitset.h"

#define SLAB_PAGE_BYTES          4096u
#define SLAB_CHUNK_DEFAULT_BYTES 16384u
#define SLAB_NO_CHUNK            UINT32_MAX
#define CHUNK_COMMITTED          (1u << 31) /* in chunk_live, beside the count */

struct cp_slab {
    /* Constant after creation. */
    char *base;
    uint32_t stride_bytes;
    uint32_t stride_shift;   /* stride_bytes = odd part << stride_shift */
    uint64_t stride_inverse; /* of the odd part, modulo 2^64 */
    uint32_t max_objects;
    uint32_t chunk_objects;
    uint32_t chunk_count;
    uint64_t chunk_bytes;
    struct cp_arena *arena;
    void *metadata; /* words of `used`, then chunk_live: one lazily touched mapping */
    uint64_t metadata_size_bytes;

    /* Guarded by lock; the atomics are read without it, as a snapshot. */
    _Alignas(64) pthread_mutex_t lock;
    struct cp_fullset used; /* S1 */
    uint32_t *chunk_live;   /* S1, S2: live objects, and CHUNK_COMMITTED */
    uint32_t kept_chunk;    /* S3 */
    uint32_t end_index;     /* no index from here on was ever live */
    _Atomic uint64_t live_objects, resident_chunks;
    _Atomic uint64_t alloc_count, free_count, chunk_taken_count, chunk_returned_count;
};

static int slab_error(int code, const char *what)
{
    return cp_error_set(code, NULL, CP_NO_PAGE, CP_NO_LSN, NULL, "%s", what);
}

static uint64_t counted(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* Add to a counter that only the lock's holder writes. relaxed: a statistic, it orders nothing */
static void count(_Atomic uint64_t *counter, uint64_t difference)
{
    atomic_store_explicit(counter, counted(counter) + difference, memory_order_relaxed);
}

static uint64_t greatest_common_divisor(uint64_t a, uint64_t b)
{
    while (b != 0) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* The inverse of an odd number modulo 2^64: Newton's iteration doubles the correct bits. */
static uint64_t inverse_of_odd(uint64_t odd)
{
    uint64_t inverse = odd; /* correct to 3 bits */
    for (int i = 0; i < 5; i++)
        inverse *= 2 - odd * inverse;
    return inverse;
}

static int fill_geometry(struct cp_slab *slab, const struct cp_slab_options *options)
{
    uint32_t alignment = options->alignment_bytes != 0 ? options->alignment_bytes : 64;

    if (!cp_is_power_of_two(alignment) || alignment > SLAB_PAGE_BYTES)
        return slab_error(-EINVAL, "slab: alignment_bytes is not a power of two up to 4096");
    if (options->object_bytes == 0 || options->object_bytes > 1u << 30)
        return slab_error(-EINVAL, "slab: object_bytes is 0 or above 1 GiB");
    if (options->max_objects == 0 || options->max_objects == CP_SLAB_NO_INDEX)
        return slab_error(-EINVAL, "slab: max_objects is 0 or too large");
    if (options->chunk_bytes % SLAB_PAGE_BYTES != 0)
        return slab_error(-EINVAL, "slab: chunk_bytes is not a multiple of 4096");

    uint64_t stride = cp_align_up(options->object_bytes, alignment);
    /* S4: chunks are multiples of the least common multiple of a page and an object. */
    uint64_t step = stride / greatest_common_divisor(stride, SLAB_PAGE_BYTES) * SLAB_PAGE_BYTES;
    uint64_t wanted = options->chunk_bytes != 0 ? options->chunk_bytes : SLAB_CHUNK_DEFAULT_BYTES;
    slab->chunk_bytes = (wanted + step - 1) / step * step;
    slab->stride_bytes = (uint32_t)stride;
    slab->stride_shift = (uint32_t)__builtin_ctzll(stride);
    slab->stride_inverse = inverse_of_odd(stride >> slab->stride_shift);
    slab->max_objects = options->max_objects;
    slab->chunk_objects = (uint32_t)(slab->chunk_bytes / stride);
    slab->chunk_count = (options->max_objects - 1) / slab->chunk_objects + 1;
    return 0;
}

static int map_memory(struct cp_slab *slab)
{
    uint64_t words = cp_bitset_words(slab->max_objects);
    struct cp_arena_options options = {
        .reserve_bytes = slab->chunk_count * slab->chunk_bytes,
        .extent_bytes = SLAB_PAGE_BYTES,
        .huge_pages = CP_HUGE_OFF,
        .keep_on_fork = 1, /* a child that looks at an inherited handle gets an error, no signal */
    };

    slab->metadata_size_bytes = words * 8 + slab->chunk_count * sizeof(uint32_t);
    slab->metadata = cp_arena_reserve_table(slab->metadata_size_bytes);
    if (slab->metadata == NULL)
        return slab_error(-ENOMEM, "slab: allocating its metadata");
    cp_bitset_init(&slab->used.bits, slab->max_objects, slab->metadata);
    slab->chunk_live = (uint32_t *)((uint64_t *)slab->metadata + words);
    int code = cp_arena_create(&options, &slab->arena);
    if (code != 0) {
        munmap(slab->metadata, slab->metadata_size_bytes);
        return code;
    }
    slab->base = cp_arena_base(slab->arena);
    return 0;
}

int cp_slab_create(const struct cp_slab_options *options, struct cp_slab **out_slab)
{
    struct cp_slab *slab = aligned_alloc(_Alignof(struct cp_slab), sizeof *slab);
    if (slab == NULL)
        return slab_error(-ENOMEM, "slab: allocating its descriptor");
    *slab = (struct cp_slab){.kept_chunk = SLAB_NO_CHUNK};
    int code = fill_geometry(slab, options);
    if (code == 0)
        code = map_memory(slab);
    if (code != 0) {
        free(slab);
        return code;
    }
    pthread_mutex_init(&slab->lock, NULL); /* cannot fail without attributes */
    *out_slab = slab;
    return 0;
}

void cp_slab_destroy(struct cp_slab *slab)
{
    if (slab == NULL)
        return;
    cp_arena_destroy(slab->arena);
    pthread_mutex_destroy(&slab->lock);
    munmap(slab->metadata, slab->metadata_size_bytes);
    free(slab);
}

/* Chunks. The lock is held. */

static int take_chunk(struct cp_slab *slab, uint32_t chunk)
{
    uint64_t pages = slab->chunk_bytes / SLAB_PAGE_BYTES;
    int code = cp_arena_commit(slab->arena, chunk * pages, pages);
    if (code != 0)
        return code;
    CP_POISON(slab->base + chunk * slab->chunk_bytes, slab->chunk_bytes);
    slab->chunk_live[chunk] |= CHUNK_COMMITTED;
    count(&slab->resident_chunks, 1);
    count(&slab->chunk_taken_count, 1);
    return 0;
}

/* Returns the bytes given back. A refusal costs memory, no correctness: the chunk stays. */
static uint64_t return_chunk(struct cp_slab *slab, uint32_t chunk)
{
    uint64_t pages = slab->chunk_bytes / SLAB_PAGE_BYTES;
    if (cp_arena_decommit(slab->arena, chunk * pages, pages) != 0)
        return 0;
    slab->chunk_live[chunk] &= ~CHUNK_COMMITTED;
    count(&slab->resident_chunks, UINT64_MAX); /* minus one */
    count(&slab->chunk_returned_count, 1);
    return slab->chunk_bytes;
}

/* A chunk has lost its last object: keep the lowest empty one, return the other. */
static void keep_or_return(struct cp_slab *slab, uint32_t chunk)
{
    uint32_t kept = slab->kept_chunk;

    if (kept == SLAB_NO_CHUNK) {
        slab->kept_chunk = chunk;
        return;
    }
    slab->kept_chunk = chunk < kept ? chunk : kept;
    (void)return_chunk(slab, chunk < kept ? kept : chunk);
}

void *cp_slab_alloc(struct cp_slab *slab)
{
    pthread_mutex_lock(&slab->lock);
    uint32_t index = cp_fullset_first_missing(&slab->used);
    if (index == CP_BITSET_NONE)
        goto none;
    uint32_t chunk = index / slab->chunk_objects;
    if (slab->chunk_live[chunk] == 0 && take_chunk(slab, chunk) != 0)
        goto none;
    if (slab->kept_chunk == chunk)
        slab->kept_chunk = SLAB_NO_CHUNK;
    slab->chunk_live[chunk]++;
    cp_fullset_insert(&slab->used, index);
    if (index >= slab->end_index)
        slab->end_index = index + 1;
    count(&slab->live_objects, 1);
    count(&slab->alloc_count, 1);
    pthread_mutex_unlock(&slab->lock);
    char *object = slab->base + (uint64_t)index * slab->stride_bytes;
    CP_UNPOISON(object, slab->stride_bytes);
    return object;

none:
    pthread_mutex_unlock(&slab->lock);
    return NULL;
}

void cp_slab_free(struct cp_slab *slab, void *object)
{
    uint64_t offset = (uint64_t)(uintptr_t)object - (uint64_t)(uintptr_t)slab->base;
    uint32_t index = cp_slab_index(slab, object);

    /* Always compiled in: an object with two owners is lost data, and these are cheap. */
    cp_assert(index < slab->max_objects);
    cp_assert((uint64_t)index * slab->stride_bytes == offset);
    pthread_mutex_lock(&slab->lock);
    cp_assert(cp_bitset_has(&slab->used.bits, index));
    CP_POISON(object, slab->stride_bytes);
    cp_fullset_erase(&slab->used, index);
    uint32_t chunk = index / slab->chunk_objects;
    if (--slab->chunk_live[chunk] == CHUNK_COMMITTED)
        keep_or_return(slab, chunk);
    count(&slab->live_objects, UINT64_MAX); /* minus one */
    count(&slab->free_count, 1);
    pthread_mutex_unlock(&slab->lock);
}

uint32_t cp_slab_index(const struct cp_slab *slab, const void *object)
{
    uint64_t offset = (uint64_t)(uintptr_t)object - (uint64_t)(uintptr_t)slab->base;
    /* Exact division of a multiple of the stride: a multiplication by the odd part's inverse. */
    return (uint32_t)((offset >> slab->stride_shift) * slab->stride_inverse);
}

void *cp_slab_at(const struct cp_slab *slab, uint32_t index)
{
    return slab->base + (uint64_t)index * slab->stride_bytes;
}

void *cp_slab_base(const struct cp_slab *slab, uint32_t *out_stride_bytes)
{
    *out_stride_bytes = slab->stride_bytes;
    return slab->base;
}

uint64_t cp_slab_trim(struct cp_slab *slab)
{
    uint64_t returned = 0;

    pthread_mutex_lock(&slab->lock);
    uint32_t chunk_end = slab->end_index == 0 ? 0 : (slab->end_index - 1) / slab->chunk_objects + 1;
    for (uint32_t chunk = 0; chunk < chunk_end; chunk++) {
        if (slab->chunk_live[chunk] == CHUNK_COMMITTED)
            returned += return_chunk(slab, chunk);
    }
    if (slab->kept_chunk != SLAB_NO_CHUNK && slab->chunk_live[slab->kept_chunk] == 0)
        slab->kept_chunk = SLAB_NO_CHUNK;
    pthread_mutex_unlock(&slab->lock);
    return returned;
}

void cp_slab_stats(const struct cp_slab *slab, struct cp_slab_stats *out_stats)
{
    struct cp_slab_stats stats = {0};

    stats.reserved_bytes = slab->chunk_count * slab->chunk_bytes;
    stats.resident_bytes = counted(&slab->resident_chunks) * slab->chunk_bytes;
    stats.live_objects = counted(&slab->live_objects);
    stats.used_bytes = stats.live_objects * slab->stride_bytes;
    stats.alloc_count = counted(&slab->alloc_count);
    stats.free_count = counted(&slab->free_count);
    stats.chunk_taken_count = counted(&slab->chunk_taken_count);
    stats.chunk_returned_count = counted(&slab->chunk_returned_count);
    /* As much as max_objects can touch; the mapping is lazy, so at most this. */
    stats.metadata_bytes = sizeof *slab + slab->metadata_size_bytes;
    if (stats.resident_bytes != 0 && stats.used_bytes <= stats.resident_bytes)
        stats.fragmentation = 1.0 - (double)stats.used_bytes / (double)stats.resident_bytes;
    *out_stats = stats;
}

/* S1 to S3 with the lock held. Indexes from end_index on were never touched. */
static int check_locked(struct cp_slab *slab)
{
    uint64_t live = 0, resident = 0;
    uint32_t chunk_end = slab->end_index == 0 ? 0 : (slab->end_index - 1) / slab->chunk_objects + 1;

    for (uint32_t chunk = 0; chunk < chunk_end; chunk++) {
        uint32_t in_chunk = 0;
        uint64_t first = (uint64_t)chunk * slab->chunk_objects;
        uint64_t end = cp_min_u64(first + slab->chunk_objects, slab->max_objects);
        for (uint64_t i = first; i < end; i++)
            in_chunk += cp_bitset_has(&slab->used.bits, (uint32_t)i);
        bool committed = (slab->chunk_live[chunk] & CHUNK_COMMITTED) != 0;
        if (in_chunk != (slab->chunk_live[chunk] & ~CHUNK_COMMITTED))
            return slab_error(-EINVAL, "slab: count of a chunk's live objects is wrong");
        if (chunk == slab->kept_chunk && (in_chunk != 0 || !committed))
            return slab_error(-EINVAL, "slab: the kept chunk is not empty, or not committed");
        if (in_chunk != 0 && !committed)
            return slab_error(-EINVAL, "slab: live objects in a chunk that is not committed");
        live += in_chunk;
        resident += committed;
    }
    if (live != counted(&slab->live_objects) || resident != counted(&slab->resident_chunks))
        return slab_error(-EINVAL, "slab: sum of live objects or resident chunks is wrong");
    struct cp_arena_stats arena;
    cp_arena_stats(slab->arena, &arena);
    if (arena.committed_bytes != resident * slab->chunk_bytes)
        return slab_error(-EINVAL, "slab: committed memory is not that of the resident chunks");
    for (uint32_t level = 0; level + 1 < slab->used.bits.level_count; level++) {
        uint64_t *const *words = slab->used.bits.level;
        uint64_t word_count = (uint64_t)(words[level + 1] - words[level]);
        for (uint64_t i = 0; i < word_count; i++) {
            bool full = words[level][i] == UINT64_MAX;
            if ((words[level + 1][i / 64] >> (i % 64) & 1) != full)
                return slab_error(-EINVAL, "slab: summary of the used objects is wrong");
        }
    }
    return cp_arena__check(slab->arena);
}

int cp_slab__check(struct cp_slab *slab)
{
    pthread_mutex_lock(&slab->lock);
    int code = check_locked(slab);
    pthread_mutex_unlock(&slab->lock);
    return code;
}
