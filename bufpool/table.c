/* SPDX-License-Identifier: MIT */
/*
 * The page table of a file: array translation (Calico, arXiv 2604.00423).
 *
 * One 64-bit state word a page, in reserved address space that never moves; untouched parts cost
 * nothing. The words come in groups of 512, one 4 KiB page of memory each, which are paid for when
 * first needed and given back to the kernel (punched) when no entry is in use.
 *
 * groups[g] = number of holds | CHARGED | PUNCHING. A hold belongs to each non-zero word of the
 * group, and to each thread that is about to lock an absent one.
 *
 * Invariants
 *  1. A word changes from zero only while its group is held and CHARGED.
 *  2. A group is punched only in the state PUNCHING, entered from exactly (CHARGED, no holds): a
 *     thread that is about to lock a word raised the holds before, so the punch cannot erase its
 *     lock; one that comes later waits for the end of the punch.
 *  3. A word is zero whenever its group is not CHARGED.
 *  4. A page of groups[] is paid for (supers[]) before the first group in it is.
 *
 * A thread that saw a resident word and lost a race against eviction *and* punch may still try a
 * compare-and-swap on the punched memory. It fails (the word is zero), but the kernel backs the
 * page with zeros again, unpaid until the group is next used. This needs a preemption between two
 * instructions and costs 4 KiB; it is accepted.
 */
#include "internal.h"

#include <errno.h>
#include <sched.h>
#include <sys/mman.h>

#define GROUP_CHARGED    (1u << 30)
#define GROUP_PUNCHING   (1u << 31)
#define GROUP_HOLDS      (GROUP_CHARGED - 1)
#define GROUPS_PER_SUPER 1024u /* 32-bit elements in a 4 KiB page of groups[] */
#define GROUP_BYTES      ((uint64_t)CP_GROUP_WORDS * sizeof(uint64_t))
_Static_assert(GROUP_BYTES == 4096, "a group is one page, so that it can be given back");

/* Table memory above this share of the budget is given back as soon as a group empties. */
#define TABLE_EAGER_SHARE 64u

static void *reserve(uint64_t bytes, int *inout_code)
{
    void *memory = NULL;
    int code = cp_arena_map(NULL, bytes, PROT_READ | PROT_WRITE, -1, 0, &memory);
    if (code != 0) {
        *inout_code = code;
        return NULL;
    }
    /* Groups are given back one page at a time, which a huge page would not allow. */
    (void)madvise(memory, bytes, MADV_NOHUGEPAGE);
    /* A forked child finds every page absent, takes the slow path, and is told there. */
    (void)madvise(memory, bytes, MADV_WIPEONFORK);
    return memory;
}

int cp_table__create(struct cp_bufpool_file *file, uint64_t max_pages)
{
    file->group_count = (max_pages + CP_GROUP_WORDS - 1) >> CP_GROUP_SHIFT;
    uint64_t super_count = (file->group_count + GROUPS_PER_SUPER - 1) / GROUPS_PER_SUPER;
    file->words_bytes = file->group_count * GROUP_BYTES;
    file->groups_bytes = cp_align_up(file->group_count * sizeof(uint32_t), 4096);
    file->supers_bytes = cp_align_up(super_count, 4096);

    int code = 0;
    file->map.words = reserve(file->words_bytes, &code);
    file->groups = reserve(file->groups_bytes, &code);
    file->supers = reserve(file->supers_bytes, &code);
    if (code != 0) {
        cp_table__destroy(file);
        return cp_error_set(-ENOMEM, file->path, CP_NO_PAGE, CP_NO_LSN,
                            cp_arena_map_hint(code, "lower max_pages, or raise the limits on "
                                                    "addresses and data (ulimit -v, ulimit -d)"),
                            "reserving %llu bytes of address space for the page table",
                            (unsigned long long)file->words_bytes);
    }
    if (!cp_budget__take(&file->pool->budget, CP_FOR_TABLE, file->supers_bytes)) {
        int status = cp_memory__charge(file->pool, CP_FOR_TABLE, file->supers_bytes);
        if (status != 0) {
            cp_table__destroy(file);
            return status;
        }
    }
    file->map.page_limit = max_pages;
    return 0;
}

void cp_table__destroy(struct cp_bufpool_file *file)
{
    struct cp_budget *budget = &file->pool->budget;

    if (file->map.page_limit != 0) { /* created whole, so some of it has been paid for */
        (void)cp_table__trim(file);
        uint64_t super_count = (file->group_count + GROUPS_PER_SUPER - 1) / GROUPS_PER_SUPER;
        for (uint64_t i = 0; i < super_count; i++) {
            if (atomic_load_explicit(&file->supers[i], memory_order_relaxed) != 0)
                cp_budget__give(budget, CP_FOR_TABLE, 4096);
        }
        cp_budget__give(budget, CP_FOR_TABLE, file->supers_bytes);
    }
    if (file->map.words != NULL)
        munmap(file->map.words, file->words_bytes);
    if (file->groups != NULL)
        munmap((void *)(uintptr_t)file->groups, file->groups_bytes);
    if (file->supers != NULL)
        munmap((void *)(uintptr_t)file->supers, file->supers_bytes);
    file->map.words = NULL;
    file->groups = NULL;
    file->supers = NULL;
    file->map.page_limit = 0;
}

/* Pay for a page of the table. -EAGAIN where that takes emptying an extent and may_wait forbids. */
static int pay(struct cp_bufpool_file *file, uint64_t bytes, bool may_wait)
{
    if (may_wait)
        return cp_memory__charge(file->pool, CP_FOR_TABLE, bytes);
    return cp_budget__take(&file->pool->budget, CP_FOR_TABLE, bytes) ? 0 : -EAGAIN;
}

/* Pay for the page of groups[] that holds group, if nobody has. */
static int charge_super(struct cp_bufpool_file *file, uint64_t group, bool may_wait)
{
    _Atomic uint8_t *super = &file->supers[group / GROUPS_PER_SUPER];
    uint8_t expected = 0;

    if (atomic_load_explicit(super, memory_order_relaxed) != 0)
        return 0;
    int status = pay(file, 4096, may_wait);
    if (status != 0)
        return status;
    if (!atomic_compare_exchange_strong_explicit(super, &expected, 1, memory_order_relaxed,
                                                 memory_order_relaxed))
        cp_budget__give(&file->pool->budget, CP_FOR_TABLE, 4096); /* another thread paid */
    return 0;
}

/* Pay for a group that is not CHARGED and hold it. *out_done: false when its state changed. */
static int charge_group(struct cp_bufpool_file *file, uint64_t group, bool may_wait, bool *out_done)
{
    int status = charge_super(file, group, may_wait);
    if (status == 0)
        status = pay(file, GROUP_BYTES, may_wait);
    if (status != 0)
        return status;
    uint32_t expected = 0;
    /* acquire: pairs with the release that ended a punch */
    *out_done =
        atomic_compare_exchange_strong_explicit(&file->groups[group], &expected, GROUP_CHARGED + 1,
                                                memory_order_acquire, memory_order_relaxed);
    if (!*out_done)
        cp_budget__give(&file->pool->budget, CP_FOR_TABLE, GROUP_BYTES);
    return 0;
}

int cp_table__enter(struct cp_bufpool_file *file, uint64_t page, bool may_wait)
{
    uint64_t group = page >> CP_GROUP_SHIFT;
    _Atomic uint32_t *state = &file->groups[group];

    for (;;) { /* ends: each round but the last means that another thread changed the group */
        uint32_t seen = atomic_load_explicit(state, memory_order_relaxed);
        if ((seen & GROUP_PUNCHING) != 0) {
            sched_yield(); /* bounded by one madvise of another thread */
            continue;
        }
        if ((seen & GROUP_CHARGED) == 0) {
            bool done = false;
            int status = charge_group(file, group, may_wait, &done);
            if (status != 0 || done)
                return status;
            continue;
        }
#ifdef CP_BREAK_PUNCH /* rule breaker for the tests: look, but do not hold */
        return 0;
#endif
        /* acquire: pairs with the release that ended the last punch */
        if (atomic_compare_exchange_weak_explicit(state, &seen, seen + 1, memory_order_acquire,
                                                  memory_order_relaxed))
            return 0;
    }
}

/* Give a group back if nobody holds it. */
static bool punch(struct cp_bufpool_file *file, uint64_t group)
{
    uint32_t expected = GROUP_CHARGED;
    /* acquire: pairs with the release of the last hold; what was written there is over */
    if (!atomic_compare_exchange_strong_explicit(&file->groups[group], &expected, GROUP_PUNCHING,
                                                 memory_order_acquire, memory_order_relaxed))
        return false;
    (void)madvise(&file->map.words[group << CP_GROUP_SHIFT], GROUP_BYTES, MADV_DONTNEED);
    cp_budget__give(&file->pool->budget, CP_FOR_TABLE, GROUP_BYTES);
    cp_bufpool__count(file->pool, CP_COUNT_TABLE_PUNCHED, 1);
    /* release: pairs with the acquire in cp_table__enter */
    atomic_store_explicit(&file->groups[group], 0, memory_order_release);
    return true;
}

void cp_table__leave(struct cp_bufpool_file *file, uint64_t page)
{
    uint64_t group = page >> CP_GROUP_SHIFT;
#ifdef CP_BREAK_PUNCH
    if ((atomic_load_explicit(&file->groups[group], memory_order_relaxed) & GROUP_HOLDS) == 0)
        return;
#endif
    /* release: pairs with the acquire of the thread that punches */
    uint32_t before = atomic_fetch_sub_explicit(&file->groups[group], 1, memory_order_release);
    cp_assert((before & GROUP_HOLDS) >= 1);
    if ((before & GROUP_HOLDS) != 1)
        return;
    const struct cp_budget *budget = &file->pool->budget;
    uint64_t table = atomic_load_explicit(&budget->by_purpose[CP_FOR_TABLE], memory_order_relaxed);
    uint64_t limit = atomic_load_explicit(&budget->limit_bytes, memory_order_relaxed);
    if (table > limit / TABLE_EAGER_SHARE)
        (void)punch(file, group);
}

uint64_t cp_table__next(const struct cp_bufpool_file *file, uint64_t page)
{
    uint64_t group = page >> CP_GROUP_SHIFT;

    while (group < file->group_count) {
        if (group % GROUPS_PER_SUPER == 0 || page == 0) { /* skip what was never paid for */
            uint64_t super = group / GROUPS_PER_SUPER;
            if (atomic_load_explicit(&file->supers[super], memory_order_relaxed) == 0) {
                group = (super + 1) * GROUPS_PER_SUPER;
                continue;
            }
        }
        uint32_t seen = atomic_load_explicit(&file->groups[group], memory_order_acquire);
        if ((seen & GROUP_HOLDS) != 0)
            return cp_max_u64(page, group << CP_GROUP_SHIFT);
        group++;
    }
    return UINT64_MAX;
}

uint64_t cp_table__trim(struct cp_bufpool_file *file)
{
    uint64_t bytes = 0;
    uint64_t super_count = (file->group_count + GROUPS_PER_SUPER - 1) / GROUPS_PER_SUPER;

    for (uint64_t super = 0; super < super_count; super++) {
        if (atomic_load_explicit(&file->supers[super], memory_order_relaxed) == 0)
            continue;
        uint64_t end = cp_min_u64((super + 1) * GROUPS_PER_SUPER, file->group_count);
        for (uint64_t group = super * GROUPS_PER_SUPER; group < end; group++) {
            if (punch(file, group))
                bytes += GROUP_BYTES;
        }
    }
    return bytes;
}
