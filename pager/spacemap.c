/* SPDX-License-Identifier: MIT */
/*
 * The space map: which pages are allocated. One bit a page, in pages of its own.
 *
 * Page first_map_page + k * span holds the bits of the span pages from itself on; its own bit, bit
 * 0, is always set. The bits lie in the payload, bit b in 64-bit word b / 64. In memory stands only
 * how many pages each span has free, and the lowest span with room.
 *
 * Invariants
 *   1. free_counts[k] is the number of clear bits of span k, and free_total their sum.
 *   2. No bit at or above page_count is set. page_count covers the map page of every span.
 *   3. The file reaches page_count before anybody can see that page_count.
 *   4. No span before lowest_span has a clear bit.
 */
#include "internal.h"

#include <clockpool/base/assert.h>
#include <clockpool/base/bits.h>
#include <clockpool/base/error.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LOAD_BATCH 32u /* map pages asked for ahead at opening: the device's queue depth */

/* ---- bits -------------------------------------------------------------------------------------
 */

/* The first bit at or after from that is clear (invert all ones) or set (invert 0); end if none. */
static uint64_t next_bit(const uint64_t *words, uint64_t from, uint64_t end, uint64_t invert)
{
    if (from >= end)
        return end;
    uint64_t index = from / 64;
    uint64_t word = (words[index] ^ invert) & (UINT64_MAX << (from % 64));
    const uint64_t last = (end - 1) / 64;
    while (word == 0) {
        if (index == last)
            return end;
        word = words[++index] ^ invert;
    }
    return cp_min_u64(index * 64 + (uint64_t)__builtin_ctzll(word), end);
}

static uint64_t next_clear(const uint64_t *words, uint64_t from, uint64_t end)
{
    return next_bit(words, from, end, UINT64_MAX);
}

static uint64_t next_set(const uint64_t *words, uint64_t from, uint64_t end)
{
    return next_bit(words, from, end, 0);
}

/* The first count clear neighbours, or end when there are none. */
static uint64_t find_run(const uint64_t *words, uint64_t end, uint64_t count)
{
    uint64_t from = next_clear(words, 0, end);
    while (from < end) {
        uint64_t limit = cp_min_u64(end, from + count);
        uint64_t stop = next_set(words, from, limit);
        if (stop - from == count)
            return from;
        from = next_clear(words, stop, end);
    }
    return end;
}

static void change_bits(uint64_t *words, uint64_t first, uint64_t count, bool set)
{
    while (count > 0) {
        uint64_t shift = first % 64, part = cp_min_u64(64 - shift, count);
        uint64_t mask = (part == 64 ? UINT64_MAX : (UINT64_C(1) << part) - 1) << shift;
        if (set)
            words[first / 64] |= mask;
        else
            words[first / 64] &= ~mask;
        first += part;
        count -= part;
    }
}

/* The highest set bit, or UINT64_MAX; *out_set is how many there are. */
static uint64_t highest_set(const uint64_t *words, uint64_t end, uint64_t *out_set)
{
    uint64_t highest = UINT64_MAX, set = 0;
    for (uint64_t i = 0; i < end / 64; i++) {
        if (words[i] != 0) {
            highest = i * 64 + cp_log2_floor(words[i]);
            set += (uint64_t)__builtin_popcountll(words[i]);
        }
    }
    *out_set = set;
    return highest;
}

/* ---- spans and the file -----------------------------------------------------------------------
 */

static uint64_t map_page(const struct cp_pager *pager, uint64_t span)
{
    return pager->first_map_page + span * pager->span;
}

static int fix_map(struct cp_pager *pager, uint64_t span, enum cp_latch_mode mode,
                   struct cp_fix *out_fix)
{
    return pager->engine->ops->fix(pager->engine, map_page(pager, span), mode, out_fix);
}

static void unfix_map(struct cp_pager *pager, struct cp_fix *fix)
{
    pager->engine->ops->unfix(pager->engine, fix);
}

static void set_page_count(struct cp_pager *pager, uint64_t page_count)
{
    /* release: pairs with the acquire loads of count_from_map; the file reaches this far */
    atomic_store_explicit(&pager->count_from_map, page_count - pager->first_map_page,
                          memory_order_release);
}

/* Make the file reach page_count pages. When the step is too large for the disk, just these. */
static int ensure_file(struct cp_pager *pager, uint64_t page_count)
{
    const uint64_t needed = page_count * pager->page_size;
    if (needed <= pager->file_bytes)
        return 0;
    uint64_t step = cp_min_u64(cp_max_u64(pager->file_bytes / 8, CP_PAGER_GROW_MIN_BYTES),
                               CP_PAGER_GROW_MAX_BYTES);
    uint64_t limit = pager->engine->page_limit * pager->page_size;
    uint64_t target = cp_align_up(cp_max_u64(needed, pager->file_bytes + step), pager->page_size);
    target = cp_max_u64(cp_min_u64(target, limit), needed);
    int code = cp_io_file_allocate(pager->file, pager->file_bytes, target - pager->file_bytes);
    if ((code == -ENOSPC || code == -EDQUOT) && target != needed) {
        target = needed;
        code = cp_io_file_allocate(pager->file, pager->file_bytes, target - pager->file_bytes);
    }
    if (code == 0)
        code = pager->engine->ops->grow(pager->engine, target);
    if (code == 0)
        pager->file_bytes = target;
    return code;
}

static int check_limit(const struct cp_pager *pager, uint64_t page_count)
{
    if (page_count <= cp_min_u64(CP_FORMAT_MAX_PAGES, pager->engine->page_limit))
        return 0;
    return cp_error_set(-EFBIG, pager->data_path, CP_NO_PAGE, CP_NO_LSN,
                        "use a larger page size, or another store", "grow the store to %llu pages",
                        (unsigned long long)page_count);
}

/* Mark a run in a map page that is fixed exclusively, once the file reaches it. */
static int take_run(struct cp_pager *pager, uint64_t span, struct cp_fix *fix, uint64_t bit,
                    uint64_t count)
{
    uint64_t end = map_page(pager, span) + bit + count;
    int code = check_limit(pager, end);
    if (code == 0)
        code = ensure_file(pager, end);
    if (code != 0)
        return code;
    change_bits(fix->data, bit, count, true);
    pager->engine->ops->mark_dirty(pager->engine, fix, 0);
    pager->map.free_counts[span] -= (uint32_t)count;
    pager->map.free_total -= count;
    if (end > cp_pager__page_count(pager))
        set_page_count(pager, end);
    return 0;
}

static int reserve_counts(struct cp_pager *pager, uint64_t span_count)
{
    struct cp_space_map *map = &pager->map;
    if (span_count <= map->span_capacity)
        return 0;
    uint64_t capacity = cp_max_u64(span_count, map->span_capacity * 2);
    uint32_t *counts = realloc(map->free_counts, capacity * sizeof *counts);
    if (counts == NULL)
        return cp_error_set(-ENOMEM, pager->data_path, CP_NO_PAGE, CP_NO_LSN, NULL,
                            "grow the space map");
    map->free_counts = counts;
    map->span_capacity = capacity;
    return 0;
}

/* A new span at the end, with its first run. */
static int append_span(struct cp_pager *pager, uint64_t count, uint64_t *out_first)
{
    struct cp_space_map *map = &pager->map;
    const uint64_t span = map->span_count, page = map_page(pager, span);
    struct cp_fix fix;
    int code = check_limit(pager, page + 1 + count);
    if (code == 0)
        code = reserve_counts(pager, span + 1);
    if (code == 0)
        code = ensure_file(pager, page + 1 + count);
    if (code == 0)
        code = pager->engine->ops->fix_new(pager->engine, page, &fix);
    if (code != 0)
        return code;
    change_bits(fix.data, 0, 1, true);
    map->free_counts[span] = (uint32_t)(pager->span - 1);
    map->free_total += pager->span - 1;
    map->span_count++;
    code = take_run(pager, span, &fix, 1, count); /* cannot fail: all was asked for above */
    cp_assert(code == 0);
    unfix_map(pager, &fix);
    *out_first = page + 1;
    return 0;
}

int cp_pager__map_allocate(struct cp_pager *pager, uint64_t count, uint64_t *out_first)
{
    struct cp_space_map *map = &pager->map;
    if (count == 0 || count >= pager->span) {
        char hint[64];
        __builtin_snprintf(hint, sizeof hint, "a run has 1 to %llu pages with this page size",
                           (unsigned long long)(pager->span - 1));
        return cp_error_set(-EINVAL, pager->data_path, CP_NO_PAGE, CP_NO_LSN, hint,
                            "allocate a run of %llu pages", (unsigned long long)count);
    }
    while (map->lowest_span < map->span_count && map->free_counts[map->lowest_span] == 0)
        map->lowest_span++;
    for (uint64_t span = map->lowest_span; span < map->span_count; span++) {
        struct cp_fix fix;
        if (map->free_counts[span] < count)
            continue;
        int code = fix_map(pager, span, CP_EXCLUSIVE, &fix);
        if (code != 0)
            return code;
        uint64_t bit = find_run(fix.data, pager->span, count);
        bool found = bit < pager->span;
        if (found)
            code = take_run(pager, span, &fix, bit, count);
        unfix_map(pager, &fix);
        if (found) {
            if (code == 0)
                *out_first = map_page(pager, span) + bit;
            return code;
        }
    }
    return append_span(pager, count, out_first);
}

/* ---- freeing and testing ----------------------------------------------------------------------
 */

/* The part of first .. first+count-1 that lies in one span. */
static uint64_t split_span(const struct cp_pager *pager, uint64_t first, uint64_t count,
                           uint64_t *out_span, uint64_t *out_bit)
{
    uint64_t offset = first - pager->first_map_page;
    *out_span = offset / pager->span;
    *out_bit = offset % pager->span;
    return cp_min_u64(count, pager->span - *out_bit);
}

int cp_pager__map_test(struct cp_pager *pager, uint64_t first, uint64_t count)
{
    const uint64_t page_count = cp_pager__page_count(pager);
    if (first <= pager->first_map_page || first >= page_count || count > page_count - first)
        return 0;
    while (count > 0) {
        uint64_t span, bit;
        uint64_t part = split_span(pager, first, count, &span, &bit);
        struct cp_fix fix;
        if (bit == 0) /* a map page is not a caller's */
            return 0;
        int code = fix_map(pager, span, CP_SHARED, &fix);
        if (code != 0)
            return code;
        bool all = next_clear(fix.data, bit, bit + part) == bit + part;
        unfix_map(pager, &fix);
        if (!all)
            return 0;
        first += part;
        count -= part;
    }
    return 1;
}

/* Set or clear bits that are known to be all clear or all set, in one span. */
static int change_span(struct cp_pager *pager, uint64_t span, uint64_t bit, uint64_t count,
                       bool set)
{
    struct cp_space_map *map = &pager->map;
    struct cp_fix fix;
    int code = fix_map(pager, span, CP_EXCLUSIVE, &fix);
    if (code != 0)
        return code;
    change_bits(fix.data, bit, count, set);
    pager->engine->ops->mark_dirty(pager->engine, &fix, 0);
    unfix_map(pager, &fix);
    if (set) {
        map->free_counts[span] -= (uint32_t)count;
        map->free_total -= count;
    } else {
        map->free_counts[span] += (uint32_t)count;
        map->free_total += count;
        map->lowest_span = cp_min_u64(map->lowest_span, span);
    }
    return 0;
}

int cp_pager__map_free(struct cp_pager *pager, uint64_t first, uint64_t count)
{
    int allocated = cp_pager__map_test(pager, first, count);
    if (allocated < 0)
        return allocated;
    if (allocated == 0)
        return cp_error_set(CP_ENOPAGE, pager->data_path, first, CP_NO_LSN,
                            "only pages that were allocated can be freed, and only once",
                            "free %llu pages: not all of them are allocated",
                            (unsigned long long)count);
    /*
     * A run has one span, so this loop nearly always has one turn. Should a later map page fail to
     * be read, the earlier ones are set again.
     */
    uint64_t done = 0;
    int code = 0;
    while (code == 0 && done < count) {
        uint64_t span, bit;
        uint64_t part = split_span(pager, first + done, count - done, &span, &bit);
        code = change_span(pager, span, bit, part, false);
        if (code == 0)
            done += part;
    }
    if (code == 0)
        return 0;
    struct cp_error saved = *cp_error_info();
    for (uint64_t undone = 0; undone < done;) {
        uint64_t span, bit;
        uint64_t part = split_span(pager, first + undone, done - undone, &span, &bit);
        if (change_span(pager, span, bit, part, true) != 0)
            break; /* the pages stay free: what was asked for */
        undone += part;
    }
    return cp_error_restore(&saved);
}

/* ---- giving back the end ----------------------------------------------------------------------
 */

/* Drop free pages from the cache, the last one first. Returns where it had to stop: pages from
 * there on are gone. A page that somebody still holds stays, and so does all that is below it. */
static uint64_t discard_down(struct cp_pager *pager, uint64_t first, uint64_t end)
{
    const struct cp_engine_ops *ops = pager->engine->ops;
    if (first < end && ops->discard(pager->engine, first, end - first) == 0)
        return first;
    while (end > first && ops->discard(pager->engine, end - 1, 1) == 0)
        end--;
    return end;
}

int cp_pager__map_trim(struct cp_pager *pager)
{
    struct cp_space_map *map = &pager->map;
    const uint64_t page_count = cp_pager__page_count(pager);
    uint64_t end = page_count;

    for (uint64_t span = map->span_count; span-- > 0;) {
        uint64_t set, highest, base = map_page(pager, span);
        struct cp_fix fix;
        int code = fix_map(pager, span, CP_SHARED, &fix);
        if (code != 0)
            return code;
        highest = highest_set(fix.data, pager->span, &set);
        unfix_map(pager, &fix);
        uint64_t wanted = base + highest + 1;
        uint64_t reached = discard_down(pager, wanted, end);
        end = reached;
        if (reached != wanted || highest != 0 || span == 0)
            break;
        /* Only its own bit is set: the map page goes as well. */
        if (discard_down(pager, base, base + 1) != base)
            break;
        end = base;
        map->free_total -= map->free_counts[span];
        map->span_count--;
    }
    if (end == page_count)
        return 0;
    map->lowest_span = cp_min_u64(map->lowest_span, map->span_count);
    /* Right after a dropped map page the end may be free pages of the span before: the loop has
     * gone on there, so end is where it stopped. */
    set_page_count(pager, end);
    pager->trimmed = true;
    return 0;
}

/* ---- opening ----------------------------------------------------------------------------------
 */

static void prefetch_map(struct cp_pager *pager, uint64_t span)
{
    uint64_t pages[LOAD_BATCH];
    uint32_t count = 0;
    while (count < LOAD_BATCH && span + count < pager->map.span_count) {
        pages[count] = map_page(pager, span + count);
        count++;
    }
    if (count > 1)
        (void)pager->engine->ops->prefetch(pager->engine, pages, count); /* a hint */
}

/* One map page into the counts. *out_end: one more than the last page that it says is allocated. */
static int load_span(struct cp_pager *pager, uint64_t span, uint64_t *out_end)
{
    uint64_t set, highest;
    struct cp_fix fix;
    int code = fix_map(pager, span, CP_SHARED, &fix);
    if (code != 0)
        return code;
    bool own = (*(const uint64_t *)fix.data & 1) != 0;
    highest = highest_set(fix.data, pager->span, &set);
    unfix_map(pager, &fix);
    if (!own)
        return cp_error_set(CP_EFORMAT, pager->data_path, map_page(pager, span), CP_NO_LSN,
                            "restore from a backup",
                            "a page of the space map says that it is free itself");
    pager->map.free_counts[span] = (uint32_t)(pager->span - set);
    pager->map.free_total += pager->span - set;
    *out_end = map_page(pager, span) + highest + 1;
    return 0;
}

/* After a crash the map may name pages that the file does not reach: they were never synced. */
static int forget_beyond(struct cp_pager *pager, uint64_t span, uint64_t file_pages)
{
    struct cp_space_map *map = &pager->map;
    uint64_t from = file_pages - map_page(pager, span), set = 0;
    struct cp_fix fix;
    int code = cp_pager__begin_write(pager);
    if (code == 0)
        code = fix_map(pager, span, CP_EXCLUSIVE, &fix);
    if (code != 0)
        return code;
    change_bits(fix.data, from, pager->span - from, false);
    (void)highest_set(fix.data, pager->span, &set);
    pager->engine->ops->mark_dirty(pager->engine, &fix, 0);
    unfix_map(pager, &fix);
    map->free_total -= map->free_counts[span];
    map->free_counts[span] = (uint32_t)(pager->span - set);
    map->free_total += map->free_counts[span];
    return 0;
}

int cp_pager__map_load(struct cp_pager *pager)
{
    struct cp_space_map *map = &pager->map;
    const uint64_t said = pager->superblock.page_count;
    const uint64_t file_pages = pager->file_bytes / pager->page_size;
    uint64_t end = 0;

    set_page_count(pager, said);
    map->span_count = (said - pager->first_map_page + pager->span - 1) / pager->span;
    int code = reserve_counts(pager, map->span_count);
    for (uint64_t span = 0; code == 0 && span < map->span_count; span++) {
        if (span % LOAD_BATCH == 0)
            prefetch_map(pager, span);
        code = load_span(pager, span, &end);
    }
    if (code != 0 || end <= said)
        return code;
    if (!pager->was_unclean)
        return cp_error_set(CP_EFORMAT, pager->data_path, map_page(pager, map->span_count - 1),
                            CP_NO_LSN, "restore from a backup",
                            "the space map names page %llu, the superblock ends at %llu",
                            (unsigned long long)(end - 1), (unsigned long long)said);
    set_page_count(pager, cp_min_u64(end, file_pages));
    if (end > file_pages && !pager->read_only)
        code = forget_beyond(pager, map->span_count - 1, file_pages);
    return code;
}

void cp_pager__map_fini(struct cp_pager *pager)
{
    free(pager->map.free_counts);
    pager->map.free_counts = NULL;
}
