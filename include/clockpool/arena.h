/* SPDX-License-Identifier: MIT */
/*
 * Arena: a large reservation of address space that never moves, committed in extents.
 *
 * Reserving costs no memory. Committing an extent makes it readable, writable and zero;
 * decommitting gives its memory back to the kernel and keeps the addresses. Huge pages are used
 * where the system grants them. The arena keeps no free lists: cp_buddy stands on top.
 */
#ifndef CLOCKPOOL_ARENA_H
#define CLOCKPOOL_ARENA_H

#include <stdint.h>
#include <clockpool/status.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CP_ARENA_EXTENT_MIN_BYTES UINT64_C(4096)
#define CP_ARENA_HUGE_BYTES       UINT64_C(2097152)

enum cp_huge_pages {
    CP_HUGE_AUTO = 0, /* transparent huge pages where an extent is a multiple of 2 MiB */
    CP_HUGE_OFF,      /* ordinary pages only */
    CP_HUGE_TLB,      /* from the hugetlb reserve; falls back to CP_HUGE_AUTO when that is empty */
};

struct cp_arena_options {
    uint64_t reserve_bytes; /* address space; rounded up to extent_bytes; required */
    uint64_t extent_bytes;  /* power of two >= 4096; 0 means 2 MiB */
    enum cp_huge_pages huge_pages;
    uint32_t keep_on_fork; /* 0: forked children do not inherit the memory (MADV_DONTFORK) */
};

struct cp_arena_stats {
    uint64_t reserved_bytes;
    uint64_t committed_bytes;
    uint64_t extent_bytes;
    enum cp_huge_pages huge_pages; /* what is in force: AUTO (THP asked for), OFF or TLB */
    uint32_t guarded;              /* 1: touching what is not committed is a fault, not zeros */
};

struct cp_arena;

/*
 * Reserve address space. Returns 0 and an arena the caller owns, -EINVAL for sizes outside the
 * ranges above, -ENOMEM when the kernel refuses. Blocks only for the system calls.
 */
CP_API int cp_arena_create(const struct cp_arena_options *options,
                           struct cp_arena **out_arena) CP_MUST_CHECK;

/* Give everything back. NULL is allowed. Nothing may use the memory any more. */
CP_API void cp_arena_destroy(struct cp_arena *arena);

/*
 * First byte of the reservation, aligned to the larger of extent_bytes and 2 MiB. Never moves.
 */
CP_API void *cp_arena_base(const struct cp_arena *arena);

/*
 * Commit count extents from extent number first; they read as zeros. Committing a committed extent
 * is a programmer error (caught by an assertion). Any thread, as long as no two calls name the same
 * extent at once. Returns 0, -EINVAL outside the reservation, -ENOMEM.
 */
CP_API int cp_arena_commit(struct cp_arena *arena, uint64_t first, uint64_t count) CP_MUST_CHECK;

/* Give the memory of committed extents back to the kernel. Same threads and errors as commit. */
CP_API int cp_arena_decommit(struct cp_arena *arena, uint64_t first, uint64_t count) CP_MUST_CHECK;

/*
 * Bytes of the reservation that the kernel backs with huge pages now, from /proc/self/smaps, or 0
 * where that cannot be read. Slow (it reads a file): for diagnosis, not for loops.
 */
CP_API uint64_t cp_arena_huge_bytes(const struct cp_arena *arena);

/*
 * A mapping as mmap makes it, of which nothing is brought in or locked before it is touched, even
 * in a process that called mlockall(MCL_FUTURE): of a file, shared, or with fd -1 of private memory
 * without a claim on it. `at` is NULL, or aligned to pages and the place of mappings to be replaced
 * in one step, in the way of MAP_FIXED. The caller gives it back with munmap. 0 or the kernel's
 * refusal (without an error description): where it locks what is mapped, another mapping may stand
 * at the place then that nobody can read.
 */
CP_API int cp_arena_map(void *at, uint64_t size_bytes, int protection, int fd, uint64_t offset,
                        void **out_address) CP_MUST_CHECK;

/* A hint for the error of who could not map: which limit was met; `otherwise` where it is not that
 * on locked memory. The code is cp_arena_map's. */
CP_API const char *cp_arena_map_hint(int code, const char *otherwise);

/*
 * Address space for a table that reads as zeros and takes memory only where it is touched, as the
 * arena does, even in a process that called mlockall(MCL_FUTURE). NULL: the kernel refuses. The
 * caller gives it back with munmap.
 */
CP_API void *cp_arena_reserve_table(uint64_t size_bytes);

CP_API void cp_arena_stats(const struct cp_arena *arena, struct cp_arena_stats *out_stats);

/* Walk the arena's own invariants (debug and tests): 0, or -EINVAL with an error description. */
CP_API int cp_arena__check(const struct cp_arena *arena) CP_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
