/* SPDX-License-Identifier: MIT */
/*
 * Arena: one reservation, committed and decommitted in extents. See <clockpool/arena.h>.
 *
 * A process may have about 65,530 mappings (vm.max_map_count), and every change of protection
 * inside a mapping splits it. So the usual way is *open*: the whole reservation is readable and
 * writable from the start, without a claim on memory (MAP_NORESERVE); commit is then bookkeeping
 * and decommit is MADV_DONTNEED, and the reservation stays one mapping however it is used. The
 * other way is *guarded*: uncommitted extents have no access rights. It is used
 *   - in builds for AddressSanitizer and valgrind, where a stray access must be a report (memory
 *     given back is also poisoned; poisoning a terabyte of never-used addresses would cost an
 *     eighth of it in shadow memory), and
 *   - where the kernel refuses the open way: vm.overcommit_memory=2, or a limit on data size.
 * Guarded, two mappings per run of committed extents are the price.
 *
 * Invariants
 *   A1. A bit of `committed` is set exactly for committed extents; committed_extents counts them.
 *   A2. Uncommitted extents hold no memory; a committed one reads as zeros until written.
 *   A3. Addresses never change, and at least one inaccessible page stands before and after the
 *       reservation, so that the kernel cannot join it with a stranger's mapping.
 *
 * Locks: none. Calls that name different extents touch different memory and different bits; the
 * bits share words, so they are changed atomically.
 */
#include <clockpool/arena.h>

#include <clockpool/base/assert.h>
#include <clockpool/base/bits.h>
#include <clockpool/base/error.h>
#include <clockpool/base/poison.h>

#include <errno.h>
#include <linux/mman.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct cp_arena {
    char *base;
    uint64_t size_bytes;
    uint64_t extent_bytes;
    uint64_t extent_count;
    char *mapping; /* what mmap returned: base with its guards */
    uint64_t mapping_bytes;
    bool guarded;
    bool hugetlb; /* commit tries the hugetlb reserve first */
    bool keep_on_fork;
    _Atomic uint32_t huge_pages;         /* enum cp_huge_pages in force */
    _Atomic uint64_t committed_extents;  /* A1 */
    _Atomic uint64_t touched_extents;    /* no extent from here on was ever committed */
    _Atomic uint64_t *committed;         /* A1: one bit per extent, a lazily touched mapping */
    uint64_t committed_bytes_of_mapping; /* size of that mapping */
};

static int arena_error(int code, const char *what)
{
    return cp_error_set(code, NULL, CP_NO_PAGE, CP_NO_LSN, NULL, "%s", what);
}

/* Advice that every part of the reservation carries. It is only advice: failures are ignored. */
static void advise_range(const struct cp_arena *arena, void *address, uint64_t size_bytes)
{
    /* relaxed: written once at creation, or by a commit that fell back to AUTO */
    uint32_t huge = atomic_load_explicit(&arena->huge_pages, memory_order_relaxed);

    (void)madvise(address, size_bytes, huge == CP_HUGE_OFF ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
    if (!arena->keep_on_fork)
        (void)madvise(address, size_bytes, MADV_DONTFORK);
}

/* Replace a range by fresh, empty memory with the protection that uncommitted extents have. */
static int renew_range(const struct cp_arena *arena, void *address, uint64_t size_bytes)
{
    int protection = arena->guarded ? PROT_NONE : PROT_READ | PROT_WRITE;
    void *fresh = mmap(address, size_bytes, protection,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    if (fresh == MAP_FAILED)
        return -errno;
    (void)munlock(address, size_bytes); /* see reserve_range */
    advise_range(arena, address, size_bytes);
    return 0;
}

/*
 * Put pages of the hugetlb reserve in place of a range. They are mapped elsewhere first, which
 * takes them from the reserve or fails; mapping them in place could fail after the kernel had
 * unmapped the range, and leave a hole that another thread's mmap might fill.
 */
static int place_hugetlb(const struct cp_arena *arena, void *address, uint64_t size_bytes)
{
    void *pages = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_2MB, -1, 0);
    if (pages == MAP_FAILED)
        return -errno;
    if (mremap(pages, size_bytes, size_bytes, MREMAP_MAYMOVE | MREMAP_FIXED, address) ==
        MAP_FAILED) {
        int code = -errno;
        munmap(pages, size_bytes);
        int renewed = renew_range(arena, address, size_bytes);
        return renewed != 0 ? renewed : code;
    }
    if (!arena->keep_on_fork)
        (void)madvise(address, size_bytes, MADV_DONTFORK);
    return 0;
}

/* Whether hugetlb pages exist and can be moved into place (Linux 5.16); tried at the base. */
static bool probe_hugetlb(const struct cp_arena *arena)
{
    if (place_hugetlb(arena, arena->base, CP_ARENA_HUGE_BYTES) != 0)
        return false;
    return renew_range(arena, arena->base, CP_ARENA_HUGE_BYTES) == 0;
}

static int reserve_range(struct cp_arena *arena)
{
    uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t alignment = cp_max_u64(arena->extent_bytes, CP_ARENA_HUGE_BYTES);

    arena->mapping_bytes = arena->size_bytes + alignment + page_bytes;
    void *mapping = mmap(NULL, arena->mapping_bytes, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED)
        return -errno;
    arena->mapping = mapping;
    uint64_t start = (uint64_t)(uintptr_t)mapping;
    arena->base = arena->mapping + (cp_align_up(start + page_bytes, alignment) - start);

    /* A host that called mlockall(MCL_FUTURE) must not get the whole reservation populated. */
    (void)munlock(arena->base, arena->size_bytes);
    advise_range(arena, arena->base, arena->size_bytes);
    arena->guarded =
        CP_POISONS || mprotect(arena->base, arena->size_bytes, PROT_READ | PROT_WRITE) != 0;
    return 0;
}

/* Has the process called mlockall(MCL_FUTURE)? Then a new page is there before it is touched. */
static bool locks_new_mappings(void)
{
    const size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char resident = 0;
    void *page = mmap(NULL, page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return false;
    bool locks = mincore(page, page_bytes, &resident) == 0 && (resident & 1) != 0;
    munmap(page, page_bytes);
    return locks;
}

/*
 * In a mapping made at the side, while it has no access rights and so nothing to bring in, the lock
 * can be taken off; then it goes to its place in one system call.
 */
static int map_unlocked(void *at, uint64_t size_bytes, int protection, int flags, int fd,
                        uint64_t offset, void **out_address)
{
    void *part = mmap(NULL, size_bytes, PROT_NONE, flags, fd, (off_t)offset);
    if (part == MAP_FAILED)
        return -errno;
    (void)munlock(part, size_bytes);
    int code = mprotect(part, size_bytes, protection) != 0 ? -errno : 0;
    if (code != 0)
        goto fail;
    if (at != NULL &&
        mremap(part, size_bytes, size_bytes, MREMAP_MAYMOVE | MREMAP_FIXED, at) == MAP_FAILED)
        goto fail_place;
    *out_address = at != NULL ? at : part;
    return 0;

fail_place:
    code = -errno;
    /* The kernel may have left a hole, which another thread's mmap might fill. */
    (void)mmap(at, size_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
               -1, 0);
fail:
    munmap(part, size_bytes);
    return code;
}

int cp_arena_map(void *at, uint64_t size_bytes, int protection, int fd, uint64_t offset,
                 void **out_address)
{
    const int flags = fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

    /* Only where that is so: valgrind goes through all of what becomes accessible later. */
    if (locks_new_mappings())
        return map_unlocked(at, size_bytes, protection, flags, fd, offset, out_address);
    void *part =
        mmap(at, size_bytes, protection, flags | (at != NULL ? MAP_FIXED : 0), fd, (off_t)offset);
    if (part == MAP_FAILED)
        return -errno;
    *out_address = part;
    return 0;
}

const char *cp_arena_map_hint(int code, const char *otherwise)
{
    return code != -EAGAIN ? otherwise
                           : "raise the limit on locked memory (ulimit -l): this process locks "
                             "what it maps (mlockall)";
}

void *cp_arena_reserve_table(uint64_t size_bytes)
{
    void *table = NULL;
    int code = cp_arena_map(NULL, size_bytes, PROT_READ | PROT_WRITE, -1, 0, &table);
    return code == 0 ? table : NULL;
}

static int check_options(const struct cp_arena_options *options, uint64_t extent_bytes)
{
    /* The bound leaves room for rounding and guards in 64 bits; no kernel gives that much. */
    const uint64_t reserve_max_bytes = UINT64_C(1) << 56;

    if (!cp_is_power_of_two(extent_bytes) || extent_bytes < CP_ARENA_EXTENT_MIN_BYTES ||
        extent_bytes < (uint64_t)sysconf(_SC_PAGESIZE) || extent_bytes > reserve_max_bytes)
        return arena_error(-EINVAL, "arena: extent_bytes is not a power of two >= one page");
    if (options->reserve_bytes == 0 || options->reserve_bytes > reserve_max_bytes)
        return arena_error(-EINVAL, "arena: reserve_bytes is 0 or too large");
    if (options->huge_pages > CP_HUGE_TLB)
        return arena_error(-EINVAL, "arena: unknown huge_pages");
    return 0;
}

int cp_arena_create(const struct cp_arena_options *options, struct cp_arena **out_arena)
{
    uint64_t extent = options->extent_bytes != 0 ? options->extent_bytes : CP_ARENA_HUGE_BYTES;
    int code = check_options(options, extent);
    if (code != 0)
        return code;
    struct cp_arena *arena = calloc(1, sizeof *arena);
    if (arena == NULL)
        return arena_error(-ENOMEM, "arena: allocating its descriptor");
    arena->extent_bytes = extent;
    arena->size_bytes = cp_align_up(options->reserve_bytes, extent);
    arena->extent_count = arena->size_bytes / extent;
    arena->keep_on_fork = options->keep_on_fork != 0;
    /* A huge page larger than an extent would take memory for uncommitted neighbours. */
    bool huge = options->huge_pages != CP_HUGE_OFF && extent % CP_ARENA_HUGE_BYTES == 0;
    atomic_init(&arena->huge_pages, huge ? CP_HUGE_AUTO : CP_HUGE_OFF);

    arena->committed_bytes_of_mapping = (arena->extent_count + 63) / 64 * 8;
    arena->committed = cp_arena_reserve_table(arena->committed_bytes_of_mapping);
    if (arena->committed == NULL) {
        code = -ENOMEM;
        goto fail_bits;
    }
    code = reserve_range(arena);
    if (code != 0)
        goto fail_reserve;
    if (huge && options->huge_pages == CP_HUGE_TLB && probe_hugetlb(arena)) {
        arena->hugetlb = true;
        atomic_init(&arena->huge_pages, CP_HUGE_TLB);
    }
    *out_arena = arena;
    return 0;

fail_reserve:
    munmap(arena->committed, arena->committed_bytes_of_mapping);
fail_bits:
    free(arena);
    return cp_error_set(
        -ENOMEM, NULL, CP_NO_PAGE, CP_NO_LSN,
        cp_arena_map_hint(code, "raise the limits on addresses and data (ulimit -v, ulimit -d)"),
        "arena: reserving address space");
}

void cp_arena_destroy(struct cp_arena *arena)
{
    if (arena == NULL)
        return;
    /* The addresses go back to the kernel, and their next owner must not find them poisoned. */
    CP_UNPOISON(arena->base, atomic_load_explicit(&arena->touched_extents, memory_order_relaxed) *
                                 arena->extent_bytes);
    munmap(arena->mapping, arena->mapping_bytes);
    munmap(arena->committed, arena->committed_bytes_of_mapping);
    free(arena);
}

void *cp_arena_base(const struct cp_arena *arena)
{
    return arena->base;
}

/* The bits of [first, first + count) that lie in the word that first is in. */
static uint64_t word_mask(uint64_t first, uint64_t count)
{
    uint64_t bit = first % 64;
    uint64_t in_word = cp_min_u64(count, 64 - bit);
    return (in_word == 64 ? UINT64_MAX : (UINT64_C(1) << in_word) - 1) << bit;
}

/* Whether all extents of a range are committed (or, with false, none is). */
static bool range_is(const struct cp_arena *arena, uint64_t first, uint64_t count, bool committed)
{
    while (count > 0) {
        uint64_t mask = word_mask(first, count);
        /* relaxed: the caller has ordered its own calls; others' bits are masked out */
        uint64_t word = atomic_load_explicit(&arena->committed[first / 64], memory_order_relaxed);
        if ((word & mask) != (committed ? mask : 0))
            return false;
        first += (uint64_t)__builtin_popcountll(mask);
        count -= (uint64_t)__builtin_popcountll(mask);
    }
    return true;
}

static void mark_range(struct cp_arena *arena, uint64_t first, uint64_t count, bool committed)
{
    /* relaxed throughout: whoever hands an extent to another thread orders that handing over */
    if (committed)
        atomic_fetch_add_explicit(&arena->committed_extents, count, memory_order_relaxed);
    else
        atomic_fetch_sub_explicit(&arena->committed_extents, count, memory_order_relaxed);
    uint64_t end = first + count;
    while (first < end) {
        uint64_t mask = word_mask(first, end - first);
        _Atomic uint64_t *word = &arena->committed[first / 64];
        if (committed)
            atomic_fetch_or_explicit(word, mask, memory_order_relaxed);
        else
            atomic_fetch_and_explicit(word, ~mask, memory_order_relaxed);
        first += (uint64_t)__builtin_popcountll(mask);
    }
    uint64_t touched = atomic_load_explicit(&arena->touched_extents, memory_order_relaxed);
    while (touched < end && /* ends: each failure means that another thread raised it */
           !atomic_compare_exchange_weak_explicit(&arena->touched_extents, &touched, end,
                                                  memory_order_relaxed, memory_order_relaxed))
        continue;
}

static bool inside(const struct cp_arena *arena, uint64_t first, uint64_t count)
{
    return first <= arena->extent_count && count <= arena->extent_count - first;
}

int cp_arena_commit(struct cp_arena *arena, uint64_t first, uint64_t count)
{
    if (!inside(arena, first, count))
        return arena_error(-EINVAL, "arena: committing outside the reservation");
    if (count == 0)
        return 0;
    cp_assert(range_is(arena, first, count, false));
    char *address = arena->base + first * arena->extent_bytes;
    uint64_t size_bytes = count * arena->extent_bytes;

    bool placed = arena->hugetlb && place_hugetlb(arena, address, size_bytes) == 0;
    if (arena->hugetlb && !placed)
        atomic_store_explicit(&arena->huge_pages, CP_HUGE_AUTO, memory_order_relaxed);
    if (!placed && arena->guarded && mprotect(address, size_bytes, PROT_READ | PROT_WRITE) != 0) {
        int code = -errno;
        (void)renew_range(arena, address, size_bytes);
        return arena_error(code, "arena: committing memory");
    }
    CP_UNPOISON(address, size_bytes);
    CP_DEFINED(address, size_bytes);
    mark_range(arena, first, count, true);
    return 0;
}

int cp_arena_decommit(struct cp_arena *arena, uint64_t first, uint64_t count)
{
    if (!inside(arena, first, count))
        return arena_error(-EINVAL, "arena: decommitting outside the reservation");
    if (count == 0)
        return 0;
    cp_assert(range_is(arena, first, count, true));
    char *address = arena->base + first * arena->extent_bytes;
    uint64_t size_bytes = count * arena->extent_bytes;

    /* MADV_DONTNEED refuses locked memory (mlockall by the host); renewing does not. */
    if (arena->guarded || arena->hugetlb || madvise(address, size_bytes, MADV_DONTNEED) != 0) {
        int code = renew_range(arena, address, size_bytes);
        if (code != 0)
            return arena_error(code, "arena: giving memory back");
    }
    CP_POISON(address, size_bytes);
    mark_range(arena, first, count, false);
    return 0;
}

uint64_t cp_arena_huge_bytes(const struct cp_arena *arena)
{
    FILE *smaps = fopen("/proc/self/smaps", "re");
    if (smaps == NULL)
        return 0;
    uint64_t arena_start = (uint64_t)(uintptr_t)arena->base;
    uint64_t arena_end = arena_start + arena->size_bytes;
    uint64_t huge_kib = 0;
    bool ours = false;
    char line[512];

    while (fgets(line, sizeof line, smaps) != NULL) {
        unsigned long start, end, kib;
        if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
            ours = start >= arena_start && end <= arena_end;
        else if (ours && (sscanf(line, "AnonHugePages: %lu", &kib) == 1 ||
                          sscanf(line, "Private_Hugetlb: %lu", &kib) == 1))
            huge_kib += kib;
    }
    (void)fclose(smaps);
    return huge_kib * 1024;
}

void cp_arena_stats(const struct cp_arena *arena, struct cp_arena_stats *out_stats)
{
    /* relaxed: a snapshot */
    out_stats->reserved_bytes = arena->size_bytes;
    out_stats->committed_bytes =
        atomic_load_explicit(&arena->committed_extents, memory_order_relaxed) * arena->extent_bytes;
    out_stats->extent_bytes = arena->extent_bytes;
    out_stats->guarded = arena->guarded;
    out_stats->huge_pages =
        (enum cp_huge_pages)atomic_load_explicit(&arena->huge_pages, memory_order_relaxed);
}

int cp_arena__check(const struct cp_arena *arena)
{
    uint64_t touched = atomic_load_explicit(&arena->touched_extents, memory_order_relaxed);
    uint64_t committed = 0;

    if (touched > arena->extent_count)
        return arena_error(-EINVAL, "arena: committed outside the reservation");
    for (uint64_t word = 0; word < (arena->extent_count + 63) / 64; word++) {
        uint64_t bits = atomic_load_explicit(&arena->committed[word], memory_order_relaxed);
        committed += (uint64_t)__builtin_popcountll(bits);
        if (bits != 0 && word * 64 + cp_log2_floor(bits) >= touched)
            return arena_error(-EINVAL, "arena: extent committed beyond the touched ones");
    }
    if (committed != atomic_load_explicit(&arena->committed_extents, memory_order_relaxed))
        return arena_error(-EINVAL, "arena: sum of committed extents is wrong");
    if (arena->base < arena->mapping + 4096 ||
        arena->base + arena->size_bytes + 4096 > arena->mapping + arena->mapping_bytes)
        return arena_error(-EINVAL, "arena: no guard page around the reservation");
    return 0;
}
