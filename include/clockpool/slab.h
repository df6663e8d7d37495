/* SPDX-License-Identifier: MIT */
/*
 * Slab: objects of one size, addressable by a dense 32-bit index, aligned, returned when empty.
 *
 * The slab reserves address space for max_objects at creation and never moves, so an index or a
 * pointer stays valid as long as the object lives. Memory is taken from the kernel and given back
 * one chunk (a number of pages) at a time.
 */
#ifndef CLOCKPOOL_SLAB_H
#define CLOCKPOOL_SLAB_H

#include <stdint.h>
#include <clockpool/status.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CP_SLAB_NO_INDEX UINT32_MAX

struct cp_slab_options {
    uint32_t object_bytes;    /* required; rounded up to the alignment */
    uint32_t alignment_bytes; /* power of two up to 4096; 0 means 64, one cache line */
    uint32_t max_objects;     /* required; less than CP_SLAB_NO_INDEX */
    uint32_t chunk_bytes;     /* multiple of 4096; 0 means 16 KiB; rounded up so that a chunk
                                 consists of whole objects and whole pages */
};

struct cp_slab_stats {
    uint64_t reserved_bytes;
    uint64_t resident_bytes; /* chunks taken from the kernel */
    uint64_t used_bytes;     /* live objects times their rounded size */
    uint64_t live_objects;
    uint64_t alloc_count, free_count, chunk_taken_count, chunk_returned_count;
    uint64_t metadata_bytes;
    double fragmentation; /* 1 - used / resident; 0 when nothing is resident */
};

struct cp_slab;

/* Returns 0 and a slab the caller owns; -EINVAL; -ENOMEM. */
CP_API int cp_slab_create(const struct cp_slab_options *options,
                          struct cp_slab **out_slab) CP_MUST_CHECK;

/* NULL is allowed. Live objects are forgotten. */
CP_API void cp_slab_destroy(struct cp_slab *slab);

/*
 * Allocate an object with undefined content, or NULL when max_objects are live. Low indexes are
 * preferred, so that chunks at the end empty out. Any thread; short lock.
 */
CP_API void *cp_slab_alloc(struct cp_slab *slab);

/* Free an object. A double free or a foreign pointer stops the process, in all builds. Any thread.
 */
CP_API void cp_slab_free(struct cp_slab *slab, void *object);

/* Index of an object (0 .. max_objects-1), and back. No check, no lock: a few instructions. */
CP_API uint32_t cp_slab_index(const struct cp_slab *slab, const void *object);
CP_API void *cp_slab_at(const struct cp_slab *slab, uint32_t index);

/* First object's address and the distance between objects, for callers that inline cp_slab_at. */
CP_API void *cp_slab_base(const struct cp_slab *slab, uint32_t *out_stride_bytes);

/* Return every empty chunk to the kernel (one may be kept otherwise). Returns the bytes returned.
 */
CP_API uint64_t cp_slab_trim(struct cp_slab *slab);

CP_API void cp_slab_stats(const struct cp_slab *slab, struct cp_slab_stats *out_stats);

/* Walk all invariants; debug and tests. 0, or -EINVAL with an error description. */
CP_API int cp_slab__check(struct cp_slab *slab) CP_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
