/* SPDX-License-Identifier: MIT */
/*
 * The space map: which pages are allocated. One bit a page, in pages of its own.
 *
 * Page first_map_page + k * span holds the bits of the span pages from itself on; its own bit, bit
 * 0, is always set. The bits lie in the payload, bit b in 64-bit word b / 64. In memory stands only
 * how many pages each span has free, the lowest span with room, and what mini-transactions have
 * reserved or doomed: bits change when these commit, in the same group of the log.
 *
 * Invariants
 *   1. free_counts[k] is the number of bits of span k that are clear and not reserved, and
 *      free_total their sum. A reserved bit is clear, a doomed one is set.
 *   2. No bit at or above page_count is set. page_count covers the map page of every span.
 *   3. The file reaches page_count before anybody can see that page_count.
 *   4. No span before lowest_span has a clear bit.
 */
#include "internal.h"
#include "records.h"
#include "rules.h"

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

/* The first count clear neighbours at or after from, or end when there are none. */
static uint64_t find_run(const uint64_t *words, uint64_t from, uint64_t end, uint64_t count)
{
    from = next_clear(words, from, end);
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

void cp_pager__set_page_count(struct cp_pager *pager, uint64_t page_count)
{
    /* release: pairs with the acquire loads of count_from_map; the file reaches this far */
    atomic_store_explicit(&pager->count_from_map, page_count - pager->first_map_page,
                          memory_order_release);
}

/* When the step is too large for the disk, just these pages. */
int cp_pager__ensure_file(struct cp_pager *pager, uint64_t page_count)
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
    if ((code == -ENOSPC || code == -EDQUOT || code == -EFBIG) && target != needed) {
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

/* ---- what is not committed --------------------------------------------------------------------
 */

uint32_t cp_pager__map_taken(const struct cp_pager *pager, uint64_t span)
{
    return pager->map.pending[span].taken_count;
}

/* The part of first .. first+count-1 that lies in one span. */
static uint64_t split_span(const struct cp_pager *pager, uint64_t first, uint64_t count,
                           uint64_t *out_span, uint64_t *out_bit)
{
    uint64_t offset = first - pager->first_map_page;
    *out_span = offset / pager->span;
    *out_bit = offset % pager->span;
    return cp_min_u64(count, pager->span - *out_bit);
}

static int pending_need(struct cp_pager *pager, uint64_t span)
{
    struct cp_span_pending *pending = &pager->map.pending[span];
    if (pending->taken != NULL)
        return 0;
    pending->taken = calloc(2, pager->payload_size);
    if (pending->taken == NULL)
        return cp_error_set(-ENOMEM, pager->data_path, CP_NO_PAGE, CP_NO_LSN, NULL,
                            "change the space map");
    pending->doomed = pending->taken + pager->payload_size / sizeof(uint64_t);
    return 0;
}

static void pending_done(struct cp_span_pending *pending, uint64_t count)
{
    pending->count -= (uint32_t)count;
    if (pending->count != 0)
        return;
    free(pending->taken);
    pending->taken = pending->doomed = NULL;
}

static void take(struct cp_pager *pager, uint64_t span, uint64_t bit, uint64_t count)
{
    struct cp_span_pending *pending = &pager->map.pending[span];
    change_bits(pending->taken, bit, count, true);
    pending->count += (uint32_t)count;
    pending->taken_count += (uint32_t)count;
    pager->map.free_counts[span] -= (uint32_t)count;
    pager->map.free_total -= count;
}

static void give_free(struct cp_pager *pager, uint64_t span, uint64_t count)
{
    struct cp_space_map *map = &pager->map;
    map->free_counts[span] += (uint32_t)count;
    map->free_total += count;
    map->lowest_span = cp_min_u64(map->lowest_span, span);
}

static void untake(struct cp_pager *pager, uint64_t span, uint64_t bit, uint64_t count)
{
    struct cp_span_pending *pending = &pager->map.pending[span];
    change_bits(pending->taken, bit, count, false);
    pending->taken_count -= (uint32_t)count;
    pending_done(pending, count);
}

void cp_pager__map_unreserve(struct cp_pager *pager, uint64_t first, uint64_t count)
{
    uint64_t span, bit;
    (void)split_span(pager, first, count, &span, &bit);
    untake(pager, span, bit, count);
    give_free(pager, span, count);
}

/* The bits of a span with the reserved ones, in a buffer that the next call uses again. */
static const uint64_t *merged_bits(struct cp_pager *pager, uint64_t span, const uint64_t *bits)
{
    const struct cp_span_pending *pending = &pager->map.pending[span];
    if (pending->taken == NULL)
        return bits;
    for (uint64_t i = 0; i < pager->payload_size / sizeof *bits; i++) {
        uint64_t kept = CP_BREAK_EARLY_REUSE ? bits[i] & ~pending->doomed[i] : bits[i];
        pager->map.merged[i] = kept | pending->taken[i];
    }
    return pager->map.merged;
}

/* ---- reserving --------------------------------------------------------------------------------
 */

static int reserve_counts(struct cp_pager *pager, uint64_t span_count)
{
    struct cp_space_map *map = &pager->map;
    if (span_count <= map->span_capacity)
        return 0;
    uint64_t capacity = cp_max_u64(span_count, map->span_capacity * 2);
    uint32_t *counts = realloc(map->free_counts, capacity * sizeof *counts);
    if (counts != NULL)
        map->free_counts = counts;
    struct cp_span_pending *pending = realloc(map->pending, capacity * sizeof *pending);
    if (pending != NULL)
        map->pending = pending;
    if (counts == NULL || pending == NULL)
        return cp_error_set(-ENOMEM, pager->data_path, CP_NO_PAGE, CP_NO_LSN, NULL,
                            "grow the space map");
    memset(&pending[map->span_capacity], 0, (capacity - map->span_capacity) * sizeof *pending);
    map->span_capacity = capacity;
    return 0;
}

/* Take a run of a span, once the file reaches it. */
static int take_run(struct cp_pager *pager, uint64_t span, uint64_t bit, uint64_t count)
{
    uint64_t end = map_page(pager, span) + bit + count;
    int code = check_limit(pager, end);
    if (code == 0)
        code = cp_pager__ensure_file(pager, end);
    if (code == 0)
        code = pending_need(pager, span);
    if (code != 0)
        return code;
    take(pager, span, bit, count);
    if (end > cp_pager__page_count(pager))
        cp_pager__set_page_count(pager, end);
    return 0;
}

/* The first map page of a new span: zeros but for its own bit, logged by itself. */
static int make_map_page(struct cp_pager *pager, uint64_t page)
{
    struct cp_fix fix;
    int code = cp_pager__fix_new(pager, page, &fix);
    if (code != 0)
        return code;
    change_bits(fix.data, 0, 1, true);
    const struct cp_wal_record records[] = {
        {.type = CP_RECORD_INIT, .page = page},
        {.type = CP_RECORD_RANGE, .page = page, .data = fix.data, .size_bytes = sizeof(uint64_t)},
    };
    cp_lsn lsn;
    code = cp_pager__log(pager, records, 2, &lsn);
    if (code == 0) {
        cp_pager__page_set_base_lsn(&pager->format, fix.data, lsn);
        pager->engine->ops->mark_dirty(pager->engine, &fix, lsn);
    }
    pager->engine->ops->unfix(pager->engine, &fix);
    if (code != 0)
        (void)pager->engine->ops->discard(pager->engine, page, 1);
    return code;
}

/* A new span at the end. */
static int append_span(struct cp_pager *pager, uint64_t count, uint64_t *out_first)
{
    struct cp_space_map *map = &pager->map;
    const uint64_t span = map->span_count, page = map_page(pager, span);
    int code = check_limit(pager, page + 1 + count);
    if (code == 0)
        code = reserve_counts(pager, span + 1);
    if (code == 0)
        code = cp_pager__ensure_file(pager, page + 1 + count);
    if (code == 0)
        code = make_map_page(pager, page);
    if (code != 0)
        return code;
    map->free_counts[span] = (uint32_t)(pager->span - 1);
    map->free_total += pager->span - 1;
    map->span_count++;
    cp_pager__set_page_count(pager, page + 1);
    code = take_run(pager, span, 1, count);
    if (code == 0)
        *out_first = page + 1;
    return code;
}

/*
 * The last of count pages that somebody holds, or 0. A free page is held where a number was kept
 * too long, or by its owner when a damaged map calls it free: who allocates must not wait for it,
 * perhaps for himself. Behind the store's end nobody can hold one.
 */
static uint64_t last_held(struct cp_pager *pager, uint64_t first, uint64_t count)
{
    uint64_t page = cp_min_u64(first + count, cp_pager__page_count(pager));
    while (page-- > first) {
        if (pager->engine->ops->page_held(pager->engine, page))
            return page;
    }
    return 0;
}

/* Take a run of a span that has enough free pages; *out_first is 0 when they are not neighbours. */
static int reserve_in(struct cp_pager *pager, uint64_t span, uint64_t count, uint64_t *out_first)
{
    struct cp_fix fix;
    int code = fix_map(pager, span, CP_SHARED, &fix);
    if (code != 0)
        return code;
    const uint64_t *bits = merged_bits(pager, span, fix.data);
    const uint64_t base = map_page(pager, span);
    uint64_t held, bit = find_run(bits, 0, pager->span, count);
    while (bit < pager->span && (held = last_held(pager, base + bit, count)) != 0)
        bit = find_run(bits, held - base + 1, pager->span, count);
    unfix_map(pager, &fix);
    if (bit >= pager->span)
        return 0;
    code = take_run(pager, span, bit, count);
    if (code == 0)
        *out_first = base + bit;
    return code;
}

int cp_pager__map_reserve(struct cp_pager *pager, uint64_t count, uint64_t *out_first)
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
        uint64_t first = 0;
        if (map->free_counts[span] < count)
            continue;
        int code = reserve_in(pager, span, count, &first);
        if (code != 0)
            return code;
        if (first != 0) {
            *out_first = first;
            return 0;
        }
    }
    return append_span(pager, count, out_first);
}

/* ---- testing and dooming ----------------------------------------------------------------------
 */

/* How many of count pages (one span's) from first on are allocated, and not doomed: all or none. */
static int all_allocated(struct cp_pager *pager, uint64_t first, uint64_t count, bool undoomed)
{
    uint64_t span, bit;
    struct cp_fix fix;
    uint64_t part = split_span(pager, first, count, &span, &bit);
    if (bit == 0 || part != count) /* a map page is not a caller's */
        return 0;
    int code = fix_map(pager, span, CP_SHARED, &fix);
    if (code != 0)
        return code;
    bool all = next_clear(fix.data, bit, bit + count) == bit + count;
    unfix_map(pager, &fix);
    const uint64_t *doomed = pager->map.pending[span].doomed;
    if (undoomed && doomed != NULL && next_set(doomed, bit, bit + count) != bit + count)
        all = false;
    return all;
}

static bool in_store(const struct cp_pager *pager, uint64_t first, uint64_t count)
{
    const uint64_t page_count = cp_pager__page_count(pager);
    return first > pager->first_map_page && first < page_count && count <= page_count - first;
}

int cp_pager__map_test(struct cp_pager *pager, uint64_t first, uint64_t count)
{
    return in_store(pager, first, count) ? all_allocated(pager, first, count, false) : 0;
}

int cp_pager__map_doom(struct cp_pager *pager, uint64_t first, uint64_t count)
{
    uint64_t span, bit;
    int all = in_store(pager, first, count) ? all_allocated(pager, first, count, true) : 0;
    if (all < 0)
        return all;
    if (all == 0)
        return cp_error_set(CP_ENOPAGE, pager->data_path, first, CP_NO_LSN,
                            "only pages that were allocated can be freed, and only once",
                            "free %llu pages: not all of them are allocated",
                            (unsigned long long)count);
    (void)split_span(pager, first, count, &span, &bit);
    int code = pending_need(pager, span);
    if (code != 0)
        return code;
    change_bits(pager->map.pending[span].doomed, bit, count, true);
    pager->map.pending[span].count += (uint32_t)count;
    if (CP_BREAK_EARLY_REUSE)
        give_free(pager, span, count);
    return 0;
}

void cp_pager__map_spare(struct cp_pager *pager, uint64_t first, uint64_t count)
{
    uint64_t span, bit;
    (void)split_span(pager, first, count, &span, &bit);
    change_bits(pager->map.pending[span].doomed, bit, count, false);
    pending_done(&pager->map.pending[span], count);
}

/* ---- committing -------------------------------------------------------------------------------
 */

static void flip_op(struct cp_pager *pager, const struct cp_map_op *op, struct cp_map_fix *fix,
                    bool set, struct cp_wal_record *out_record)
{
    uint64_t span, bit;
    (void)split_span(pager, op->first, op->count, &span, &bit);
    cp_debug_assert(span == fix->span);
    change_bits(fix->fix.data, bit, op->count, set);
    const uint64_t from = bit / 8, last = (bit + op->count - 1) / 8;
    *out_record = (struct cp_wal_record){
        .type = CP_RECORD_RANGE,
        .page = fix->fix.page,
        .offset = (uint16_t)from,
        .data = (const unsigned char *)fix->fix.data + from,
        .size_bytes = (uint32_t)(last - from + 1),
    };
}

int cp_pager__map_apply(struct cp_pager *pager, const struct cp_map_op *ops, uint32_t op_count,
                        struct cp_map_fix *fixes, uint32_t *out_fix_count,
                        struct cp_wal_record *records, uint32_t *out_record_count)
{
    uint32_t held = 0;
    int code = 0;
    for (uint32_t i = 0; code == 0 && i < op_count; i++) {
        uint64_t span, bit;
        (void)split_span(pager, ops[i].first, ops[i].count, &span, &bit);
        if (held > 0 && fixes[held - 1].span == span)
            continue;
        code = fix_map(pager, span, CP_EXCLUSIVE, &fixes[held].fix);
        fixes[held].span = span;
        held += code == 0;
    }
    if (code != 0) {
        while (held > 0)
            unfix_map(pager, &fixes[--held].fix);
        return code;
    }
    uint32_t at = 0;
    for (uint32_t i = 0; i < op_count; i++) {
        uint64_t span, bit;
        (void)split_span(pager, ops[i].first, ops[i].count, &span, &bit);
        while (fixes[at].span != span)
            at++;
        flip_op(pager, &ops[i], &fixes[at], ops[i].set, &records[i]);
    }
    /* Dirty before the group has a place in the log: see checkpoint.c. */
    for (uint32_t i = 0; i < held; i++)
        pager->engine->ops->mark_dirty(pager->engine, &fixes[i].fix, 0);
    *out_fix_count = held;
    *out_record_count = op_count;
    return 0;
}

void cp_pager__map_finish(struct cp_pager *pager, const struct cp_map_op *ops, uint32_t op_count,
                          struct cp_map_fix *fixes, uint32_t fix_count, cp_lsn lsn)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < op_count; i++) {
        const struct cp_map_op *op = &ops[i];
        struct cp_wal_record unused;
        uint64_t span, bit;
        (void)split_span(pager, op->first, op->count, &span, &bit);
        while (fixes[at].span != span)
            at++;
        if (lsn == 0) {
            flip_op(pager, op, &fixes[at], !op->set, &unused);
        } else if (op->set) {
            untake(pager, span, bit, op->count);
        } else {
            cp_pager__map_spare(pager, op->first, op->count);
            if (!CP_BREAK_EARLY_REUSE)
                give_free(pager, span, op->count);
        }
    }
    for (uint32_t i = 0; i < fix_count; i++) {
        pager->engine->ops->mark_dirty(pager->engine, &fixes[i].fix, lsn);
        unfix_map(pager, &fixes[i].fix);
    }
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

/* Log that pages from end on do not exist, then drop the map pages among them. */
static int cut_map(struct cp_pager *pager, uint64_t end, uint64_t span_count)
{
    struct cp_space_map *map = &pager->map;
    const struct cp_wal_record record = {.type = CP_RECORD_TRIM, .page = end};
    cp_lsn lsn;
    int code = cp_pager__log(pager, &record, 1, &lsn);
    if (code != 0)
        return code;
    while (map->span_count > span_count) {
        map->span_count--;
        map->free_total -= map->free_counts[map->span_count];
        /* One that stays, being written just now, is behind the end: nobody will look. */
        (void)pager->engine->ops->discard(pager->engine, map_page(pager, map->span_count), 1);
    }
    map->lowest_span = cp_min_u64(map->lowest_span, map->span_count);
    cp_pager__set_page_count(pager, end);
    pager->trimmed = true;
    return 0;
}

int cp_pager__map_trim(struct cp_pager *pager)
{
    const uint64_t page_count = cp_pager__page_count(pager);
    uint64_t end = page_count, span_count = pager->map.span_count;

    while (span_count > 0) {
        uint64_t set, highest, base = map_page(pager, span_count - 1);
        struct cp_fix fix;
        int code = fix_map(pager, span_count - 1, CP_SHARED, &fix);
        if (code != 0)
            return code;
        highest = highest_set(merged_bits(pager, span_count - 1, fix.data), pager->span, &set);
        unfix_map(pager, &fix);
        uint64_t wanted = base + highest + 1;
        uint64_t reached = discard_down(pager, wanted, end);
        end = reached;
        /* When only its own bit is set the map page goes as well, and the search goes on before. */
        if (reached != wanted || highest != 0 || span_count == 1)
            break;
        span_count--;
        end = base;
    }
    return end == page_count ? 0 : cut_map(pager, end, span_count);
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

/* The store reaches as far as the superblock and the recovered log say. */
int cp_pager__map_load(struct cp_pager *pager)
{
    struct cp_space_map *map = &pager->map;
    const uint64_t said =
        pager->was_unclean ? pager->recovered.page_count : pager->superblock.page_count;
    uint64_t end = 0;

    cp_pager__set_page_count(pager, said);
    map->span_count = (said - pager->first_map_page + pager->span - 1) / pager->span;
    int code = reserve_counts(pager, map->span_count);
    map->merged = malloc(pager->payload_size);
    if (code == 0 && map->merged == NULL)
        code = cp_error_set(-ENOMEM, pager->data_path, CP_NO_PAGE, CP_NO_LSN, NULL,
                            "read the space map");
    for (uint64_t span = 0; code == 0 && span < map->span_count; span++) {
        if (span % LOAD_BATCH == 0)
            prefetch_map(pager, span);
        code = load_span(pager, span, &end);
    }
    if (code != 0)
        return code;
    if (end > said && !pager->was_unclean)
        return cp_error_set(CP_EFORMAT, pager->data_path, map_page(pager, map->span_count - 1),
                            CP_NO_LSN, "restore from a backup",
                            "the space map names page %llu, the superblock ends at %llu",
                            (unsigned long long)(end - 1), (unsigned long long)said);
    /* Free pages that the log names, and that are not in the file, need not be. */
    end = cp_max_u64(end, cp_min_u64(said, pager->file_bytes / pager->page_size));
    code = check_limit(pager, end);
    if (code == 0)
        code = cp_pager__ensure_file(pager, end);
    if (code == 0)
        cp_pager__set_page_count(pager, end);
    return code;
}

void cp_pager__map_fini(struct cp_pager *pager)
{
    struct cp_space_map *map = &pager->map;
    for (uint64_t span = 0; span < map->span_capacity; span++) /* span_count may be beyond it */
        free(map->pending[span].taken);
    free(map->pending);
    free(map->free_counts);
    free(map->merged);
    *map = (struct cp_space_map){0};
}
