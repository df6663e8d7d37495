/* SPDX-License-Identifier: MIT */
/*
 * Recovery: repeat what the log has behind the checkpoint, through the engine, so that it is
 * cached, evicted and written like any other change.
 *
 *     1. scan the log to its end, keeping the records while they fit into recovery_bytes
 *     2. a new superblock, still unclean, with the new epoch of the log
 *     3. start the log behind the end: from here on pages can be written, their images logged
 *     4. apply what was kept. When it did not fit: scan once more for each part of the pages, a
 *        range of them, whose records fit (parts.c)
 *
 * The records are gathered by page, so that each page is read once, in page order, many reads under
 * way. A base (an image, or the record that made the page zeros) replaces all that came before it:
 * such a page is not read at all. A record is applied when its LSN is above the page's: so doing it
 * twice, or being interrupted, changes nothing.
 *
 * A page gets all of its records at once. Were the log applied piece by piece, a page could be
 * evicted in between, and the image logged for that would stand behind records it does not
 * contain: the next recovery would take it for newer than they are.
 *
 * A page that must be read and cannot be (torn, cut off) is an error, unless the space map says in
 * the end that it is free: the store does not open with a page that would lack changes.
 *
 * A log that cannot be read leaves all as it was: the next attempt finds the same causes.
 *
 * Crash in here: the redo point is as before, and so are all records behind it. Pages written
 * meanwhile have their bases in the log as ever (images.c), so that the next recovery repairs them.
 */
#include "inspect.h"
#include "internal.h"
#include "parts.h"
#include "records.h"

#include <clockpool/base/assert.h>
#include <clockpool/base/bits.h>
#include <clockpool/base/error.h>
#include <clockpool/base/probe.h>

#include <errno.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES    (UINT64_C(1) << 20)
#define TABLE_MIN      1024u
#define PREFETCH       128u /* reads under way */
#define PROGRESS_PAGES 1024u
#define SCAN_ENOUGH    1                    /* ends a scan at the end that the first one found */
#define PART_MIN_BYTES (UINT64_C(16) << 10) /* less memory would only mean more scans */
#define PARTS_MAX      64u /* scans: beyond that recovery takes more memory than it was given */

/* One record, in a chunk of the window. */
struct kept {
    struct kept *next; /* of the same page, later */
    cp_lsn lsn;
    uint32_t size_bytes;
    uint16_t offset;
    uint8_t type;
    unsigned char data[];
};

struct chunk {
    struct chunk *next;
    uint64_t used_bytes;
    _Alignas(16) unsigned char bytes[CHUNK_BYTES];
};

/* A page, and what the log has for it. */
struct page_work {
    uint64_t page;
    struct kept *first, *last; /* NULL: it does not exist any more, or was freed */
    bool has_base;             /* first is one */
};

/* Pages by number: open addressing over entries. */
struct page_table {
    struct page_work *entries; /* count of them; owned */
    uint32_t *slots;           /* entry plus 1; mask + 1 elements; owned */
    uint32_t count, capacity, mask;
};

struct recovery {
    struct cp_pager *pager;
    struct page_table window;
    struct chunk *chunks, *spare_chunks; /* in the window; kept for the next one. Owned */
    uint64_t record_bytes, record_count; /* of all records: what keeping them would cost */
    double pages_per_record;             /* while they were kept */
    struct cp_parts parts;               /* what was not kept, by pages */
    struct cp_part part;                 /* the pages that the window has */
    bool first_scan;
    bool keeping; /* first scan: all records have fitted so far */
    cp_lsn end;
    uint64_t page_limit;   /* one more than the highest page that exists at this point of the log */
    struct page_work *bad; /* pages that could not be read; owned */
    uint32_t bad_count, bad_capacity;
    int bad_code; /* of the first */
    struct cp_recovery_progress progress;
};

static int no_memory(const struct recovery *recovery)
{
    return cp_error_set(-ENOMEM, recovery->pager->data_path, CP_NO_PAGE, CP_NO_LSN,
                        "lower recovery_bytes, or free memory", "recover the store");
}

static void report(struct recovery *recovery)
{
    const struct cp_pager_options *options = &recovery->pager->options;
    if (options->recovery_progress != NULL)
        options->recovery_progress(options->recovery_ctx, &recovery->progress);
}

/* ---- pages by number --------------------------------------------------------------------------
 */

static struct page_work *table_find(const struct page_table *table, uint64_t page)
{
    if (table->count == 0)
        return NULL;
    for (uint32_t at = cp_hash_slot(page, (uint64_t)table->mask + 1); table->slots[at] != 0;
         at = (at + 1) & table->mask) { /* ends: at most half of the slots are taken */
        struct page_work *entry = &table->entries[table->slots[at] - 1];
        if (entry->page == page)
            return entry;
    }
    return NULL;
}

static void table_place(struct page_table *table, uint32_t index)
{
    uint32_t at = cp_hash_slot(table->entries[index].page, (uint64_t)table->mask + 1);
    while (table->slots[at] != 0) /* ends: as above */
        at = (at + 1) & table->mask;
    table->slots[at] = index + 1;
}

static bool table_grow(struct page_table *table)
{
    uint32_t capacity = table->capacity == 0 ? TABLE_MIN : table->capacity * 2;
    struct page_work *entries = realloc(table->entries, capacity * sizeof *entries);
    if (entries != NULL)
        table->entries = entries;
    uint32_t *slots = calloc((size_t)capacity * 2, sizeof *slots);
    if (entries == NULL || slots == NULL) {
        free(slots);
        return false;
    }
    free(table->slots);
    table->slots = slots;
    table->capacity = capacity;
    table->mask = capacity * 2 - 1;
    for (uint32_t i = 0; i < table->count; i++)
        table_place(table, i);
    return true;
}

/* The entry of a page, made when missing; NULL without memory. */
static struct page_work *table_get(struct page_table *table, uint64_t page)
{
    struct page_work *entry = table_find(table, page);
    if (entry != NULL)
        return entry;
    if (table->count == table->capacity && !table_grow(table))
        return NULL;
    table->entries[table->count] = (struct page_work){.page = page};
    table_place(table, table->count);
    return &table->entries[table->count++];
}

static void table_clear(struct page_table *table)
{
    if (table->count > 0)
        memset(table->slots, 0, ((size_t)table->mask + 1) * sizeof *table->slots);
    table->count = 0;
}

static void table_fini(struct page_table *table)
{
    free(table->entries);
    free(table->slots);
}

/* ---- the window -------------------------------------------------------------------------------
 */

/* Its memory is kept: the next part would only fault it in again. */
static void window_clear(struct recovery *recovery)
{
    table_clear(&recovery->window);
    while (recovery->chunks != NULL) {
        struct chunk *chunk = recovery->chunks;
        recovery->chunks = chunk->next;
        chunk->next = recovery->spare_chunks;
        recovery->spare_chunks = chunk;
    }
}

static void window_fini(struct recovery *recovery)
{
    window_clear(recovery);
    table_fini(&recovery->window);
    while (recovery->spare_chunks != NULL) {
        struct chunk *next = recovery->spare_chunks->next;
        free(recovery->spare_chunks);
        recovery->spare_chunks = next;
    }
}

static struct chunk *get_chunk(struct recovery *recovery)
{
    struct chunk *chunk = recovery->spare_chunks;
    if (chunk != NULL)
        recovery->spare_chunks = chunk->next;
    else
        chunk = malloc(sizeof *chunk);
    return chunk;
}

static struct kept *window_alloc(struct recovery *recovery, uint64_t size_bytes)
{
    struct chunk *chunk = recovery->chunks;
    size_bytes = cp_align_up(size_bytes, alignof(struct kept));
    if (chunk == NULL || CHUNK_BYTES - chunk->used_bytes < size_bytes) {
        chunk = get_chunk(recovery);
        if (chunk == NULL)
            return NULL;
        chunk->used_bytes = 0;
        chunk->next = recovery->chunks;
        recovery->chunks = chunk;
    }
    struct kept *kept = (struct kept *)(void *)(chunk->bytes + chunk->used_bytes);
    chunk->used_bytes += size_bytes;
    return kept;
}

static int window_add(struct recovery *recovery, const struct cp_wal_record *record, cp_lsn lsn)
{
    struct page_work *work = table_get(&recovery->window, record->page);
    struct kept *kept =
        work == NULL ? NULL : window_alloc(recovery, sizeof *kept + record->size_bytes);
    if (kept == NULL)
        return no_memory(recovery);
    *kept = (struct kept){.lsn = lsn,
                          .size_bytes = record->size_bytes,
                          .offset = record->offset,
                          .type = record->type};
    if (record->size_bytes > 0)
        memcpy(kept->data, record->data, record->size_bytes);
    if (cp_pager__is_base(record->type)) {
        work->first = NULL; /* all that came before is covered */
        work->has_base = true;
    }
    if (work->first == NULL)
        work->first = kept;
    else
        work->last->next = kept;
    work->last = kept;
    return 0;
}

/* ---- applying ---------------------------------------------------------------------------------
 */

/*
 * Without O_DIRECT a page is written again even when it had all its changes: it may have come from
 * a cache of the kernel's that an earlier, failed sync has left marked clean.
 */
static void apply_records(struct cp_pager *pager, const struct page_work *work, struct cp_fix *fix)
{
    cp_lsn page_lsn = work->has_base ? 0 : cp_pager__page_base_lsn(&pager->format, fix->data);
    cp_lsn last = 0;
    for (const struct kept *kept = work->first; kept != NULL; kept = kept->next) {
        if (kept->lsn <= page_lsn)
            continue;
        if (kept->type == CP_RECORD_IMAGE || kept->type == CP_RECORD_RANGE)
            memcpy((unsigned char *)fix->data + kept->offset, kept->data, kept->size_bytes);
        last = kept->lsn;
    }
    if (last == 0 && pager->direct)
        return;
    last = cp_max_u64(last, page_lsn);
    if (work->has_base)
        cp_pager__page_set_base_lsn(&pager->format, fix->data, work->first->lsn);
    pager->engine->ops->mark_dirty(pager->engine, fix, last);
}

/* Is this what a page says that a crash or a cut has made unreadable? The rest, a failing device
 * for one, may work another time, and ends the recovery. */
static bool is_damage(int code)
{
    return code == CP_ECHECKSUM || code == CP_EUNWRITTEN || code == CP_EMISPLACED ||
           code == CP_EFOREIGN || code == -ENODATA;
}

static int remember_bad(struct recovery *recovery, const struct page_work *work, int code)
{
    if (recovery->bad_count == recovery->bad_capacity) {
        uint32_t capacity = recovery->bad_capacity == 0 ? 64 : recovery->bad_capacity * 2;
        struct page_work *grown = realloc(recovery->bad, capacity * sizeof *grown);
        if (grown == NULL)
            return no_memory(recovery);
        recovery->bad = grown;
        recovery->bad_capacity = capacity;
    }
    recovery->bad[recovery->bad_count++] = *work;
    if (recovery->bad_code == 0)
        recovery->bad_code = code;
    return 0;
}

/* No page is written before its log is durable: so the log has lost what was durable. */
static int beyond_end(const struct recovery *recovery, uint64_t page, cp_lsn lsn)
{
    return cp_error_set(CP_EDAMAGED, recovery->pager->wal_path, page, lsn,
                        "the log was cut, or data and log of different times were mixed: restore "
                        "both from one backup",
                        "the page has changes up to LSN %llu, the log ends at %llu",
                        (unsigned long long)lsn, (unsigned long long)recovery->end);
}

static int apply_page(struct recovery *recovery, const struct page_work *work)
{
    struct cp_pager *pager = recovery->pager;
    const uint64_t file_pages = pager->file_bytes / pager->page_size;
    struct cp_fix fix;
    int code;
    if (work->first == NULL)
        return 0;
    if (work->has_base) {
        pthread_mutex_lock(&pager->alloc_mutex);
        code = cp_pager__ensure_file(pager, work->page + 1);
        pthread_mutex_unlock(&pager->alloc_mutex);
        if (code == 0)
            code = pager->engine->ops->fix_new(pager->engine, work->page, 0, &fix);
    } else if (work->page >= file_pages) {
        return remember_bad(recovery, work, -ENODATA);
    } else {
        code = pager->engine->ops->fix(pager->engine, work->page, CP_EXCLUSIVE, &fix);
        if (is_damage(code))
            return remember_bad(recovery, work, code);
    }
    if (code != 0)
        return code;
    cp_lsn base_lsn = cp_pager__page_base_lsn(&pager->format, fix.data);
    if (base_lsn > cp_wal_end(pager->wal))
        code = beyond_end(recovery, work->page, base_lsn);
    else
        apply_records(pager, work, &fix);
    pager->engine->ops->unfix(pager->engine, &fix);
    pager->recovered.pages += code == 0;
    return code;
}

static int compare_work(const void *a, const void *b)
{
    const struct page_work *x = a, *y = b;
    return (x->page > y->page) - (x->page < y->page);
}

/* Have the next pages that must be read on their way. Returns how far that reaches. */
static uint32_t prefetch_from(struct recovery *recovery, uint32_t from)
{
    struct cp_pager *pager = recovery->pager;
    const uint64_t file_pages = pager->file_bytes / pager->page_size;
    uint64_t pages[PREFETCH];
    uint32_t count = 0;
    for (; from < recovery->window.count && count < PREFETCH; from++) {
        const struct page_work *work = &recovery->window.entries[from];
        if (work->first != NULL && !work->has_base && work->page < file_pages)
            pages[count++] = work->page;
    }
    if (count > 1)
        (void)pager->engine->ops->prefetch(pager->engine, pages, count); /* a hint */
    return from;
}

/* Apply the window and empty it. */
static int window_apply(struct recovery *recovery)
{
    struct page_table *window = &recovery->window;
    uint32_t asked = 0;
    int code = 0;
    if (window->count > 1) /* the slots no longer fit, and are not used any more */
        qsort(window->entries, window->count, sizeof *window->entries, compare_work);
    recovery->progress.pages = window->count;
    recovery->progress.pages_done = 0;
    for (uint32_t i = 0; code == 0 && i < window->count; i++) {
        if (i + PREFETCH / 2 >= asked)
            asked = prefetch_from(recovery, asked);
        code = apply_page(recovery, &window->entries[i]);
        recovery->progress.pages_done++;
        if (recovery->progress.pages_done % PROGRESS_PAGES == 0)
            report(recovery);
    }
    window_clear(recovery);
    return code;
}

/* Pages from end on do not exist any more. */
static void window_trim(struct recovery *recovery, uint64_t end)
{
    for (uint32_t i = 0; i < recovery->window.count; i++) {
        struct page_work *work = &recovery->window.entries[i];
        if (work->page >= end) {
            work->first = work->last = NULL;
            work->has_base = false;
        }
    }
}

/*
 * Pages that a record of the map shows free: changes that the log had of them up to here count no
 * more. The page may have been dropped unwritten, and a checkpoint have passed since: then there is
 * nothing that they could be applied to, though its number may be somebody's again, by a run that
 * is not written yet. A base stays: the page may have been written with it, and torn.
 *
 * Nothing of the next owner is lost. His records are in the group that sets the bit, or behind it;
 * and bits change and are logged under one latch, so that a record has all of them, reserved pages
 * not among them, as they were at its place in the log. An image of a map page need not be looked
 * at: the range that cleared a bit is in the log behind all that it makes void.
 */
static void window_forget_free(struct recovery *recovery, const struct cp_wal_record *record)
{
    const struct cp_pager *pager = recovery->pager;
    const unsigned char *bytes = record->data;
    const uint64_t first = record->page + UINT64_C(8) * record->offset;
    if (record->type != CP_RECORD_RANGE ||
        !cp_pager__is_map_offset(pager, record->page - pager->first_map_page))
        return;
    for (uint64_t bit = 0; bit < UINT64_C(8) * record->size_bytes; bit++) {
        if ((bytes[bit / 8] >> bit % 8 & 1) != 0)
            continue;
        struct page_work *work = table_find(&recovery->window, first + bit);
        if (work != NULL && !work->has_base)
            work->first = work->last = NULL;
    }
}

/* ---- the scans --------------------------------------------------------------------------------
 */

static int bad_record(const struct recovery *recovery, const struct cp_wal_record *record,
                      cp_lsn lsn)
{
    return cp_error_set(CP_EDAMAGED, recovery->pager->wal_path, record->page, lsn,
                        "the log was written by something else, or on purpose: use a backup",
                        "a record of type %u with %u bytes at offset %u makes no sense here",
                        record->type, record->size_bytes, record->offset);
}

static bool record_valid(const struct cp_pager *pager, const struct cp_wal_record *record)
{
    if (record->page < pager->first_map_page ||
        record->page >= cp_min_u64(CP_FORMAT_MAX_PAGES, pager->engine->page_limit))
        return false;
    switch (record->type) {
    case CP_RECORD_RANGE:
        return record->size_bytes > 0 && record->offset < pager->payload_size &&
               record->size_bytes <= pager->payload_size - record->offset;
    case CP_RECORD_INIT:
        return record->size_bytes == 0;
    case CP_RECORD_IMAGE:
        return record->offset == 0 && record->size_bytes == pager->payload_size;
    case CP_RECORD_TRIM:
        return record->size_bytes == 0 && record->page > pager->first_map_page;
    default:
        return false;
    }
}

/* What keeping a record costs, without its page's share. */
static uint64_t cost_of(uint32_t size_bytes)
{
    return cp_align_up(sizeof(struct kept) + size_bytes, alignof(struct kept));
}

/* What keeping all records so far would cost. Of the pages only those are counted that the window
 * has; where it has been given up, the others are taken to be as many for each record. */
static uint64_t total_cost(const struct recovery *recovery)
{
    const uint64_t page_bytes = sizeof(struct page_work) + 4 * sizeof(uint32_t);
    double pages = recovery->window.count;
    if (!recovery->keeping)
        pages = recovery->pages_per_record * (double)recovery->record_count;
    return recovery->record_bytes + (uint64_t)(pages * (double)page_bytes);
}

/* The window has become too large: only sum up from here on. */
static int give_up_keeping(struct recovery *recovery)
{
    if (cp_parts__init(&recovery->parts) != 0)
        return no_memory(recovery);
    for (uint32_t i = 0; i < recovery->window.count; i++) {
        const struct page_work *work = &recovery->window.entries[i];
        for (const struct kept *kept = work->first; kept != NULL; kept = kept->next)
            cp_parts__add(&recovery->parts, work->page, cost_of(kept->size_bytes));
    }
    recovery->pages_per_record = (double)recovery->window.count / (double)recovery->record_count;
    recovery->keeping = false;
    window_clear(recovery);
    return 0;
}

static int visit_record(struct recovery *recovery, const struct cp_wal_record *record, cp_lsn lsn)
{
    if (!record_valid(recovery->pager, record))
        return bad_record(recovery, record, lsn);
    if (record->type == CP_RECORD_TRIM) {
        recovery->page_limit = cp_min_u64(recovery->page_limit, record->page);
        window_trim(recovery, record->page);
        return 0;
    }
    recovery->page_limit = cp_max_u64(recovery->page_limit, record->page + 1);
    window_forget_free(recovery, record);
    if (!recovery->first_scan)
        return cp_parts__has(&recovery->part, record->page) ? window_add(recovery, record, lsn) : 0;
    recovery->record_bytes += cost_of(record->size_bytes);
    recovery->record_count++;
    if (recovery->keeping && total_cost(recovery) > recovery->pager->options.recovery_bytes) {
        int code = give_up_keeping(recovery);
        if (code != 0)
            return code;
    }
    if (recovery->keeping)
        return window_add(recovery, record, lsn);
    cp_parts__add(&recovery->parts, record->page, cost_of(record->size_bytes));
    return 0;
}

static int visit_group(void *ctx, const struct cp_wal_group *group)
{
    struct recovery *recovery = ctx;
    struct cp_recovery_result *result = &recovery->pager->recovered;
    int code = 0;
    if (!recovery->first_scan && group->start >= recovery->end)
        return SCAN_ENOUGH;
    for (uint32_t i = 0; code == 0 && i < group->record_count; i++)
        code = visit_record(recovery, &group->records[i], group->end);
    if (recovery->first_scan) {
        result->groups++;
        result->bytes += group->end - group->start;
        recovery->progress.log_bytes_read = result->bytes;
        if (result->groups % PROGRESS_PAGES == 0)
            report(recovery);
    }
    return code;
}

static int scan(struct recovery *recovery, struct cp_wal *wal)
{
    struct cp_pager *pager = recovery->pager;
    cp_lsn end;
    recovery->page_limit = pager->superblock.page_count;
    int code = cp_wal_scan(wal, pager->superblock.checkpoint_lsn, visit_group, recovery, &end);
    if (code == 0 && recovery->first_scan)
        recovery->end = end;
    if (code == SCAN_ENOUGH)
        return 0;
    return cp_pager__bad_checkpoint(pager->directory, code, pager->superblock.checkpoint_lsn);
}

/*
 * The log has started by now, so another handle reads: a new one for each part. A handle knows the
 * segments as they were when it was opened, and the images of what the part before has evicted may
 * have gone on into one that was a spare then.
 */
static int scan_again(struct recovery *recovery)
{
    struct cp_pager *pager = recovery->pager;
    const struct cp_wal_options options = {
        .store_id = pager->superblock.store_id,
        .caching = pager->options.caching,
        .read_only = true,
    };
    struct cp_wal *reader;
    int code = cp_wal_open(pager->io, pager->wal_path, &options, &reader);
    if (code != 0)
        return code;
    code = scan(recovery, reader);
    cp_wal_close(reader);
    return code;
}

/* What did not fit at once, part by part. */
static int apply_in_parts(struct recovery *recovery)
{
    int code = 0;
    /* Of the memory, the records get what their pages leave. */
    const double share = (double)recovery->record_bytes / (double)total_cost(recovery);
    uint64_t limit_bytes = cp_max_u64(recovery->pager->options.recovery_bytes, PART_MIN_BYTES);
    limit_bytes =
        cp_max_u64((uint64_t)(share * (double)limit_bytes), recovery->record_bytes / PARTS_MAX + 1);
    recovery->part = CP_PART_BEGIN;
    while (code == 0 && cp_parts__next(&recovery->parts, limit_bytes, &recovery->part)) {
        code = scan_again(recovery);
        if (code == 0)
            code = window_apply(recovery);
    }
    return code;
}

static int scan_and_apply(struct recovery *recovery)
{
    struct cp_pager *pager = recovery->pager;
    struct cp_wal_stats stats;
    cp_wal_stats(pager->wal, &stats);
    recovery->progress.log_bytes = stats.disk_bytes;
    recovery->first_scan = recovery->keeping = true;
    int code = scan(recovery, pager->wal);
    recovery->first_scan = false;
    report(recovery);
    if (code != 0)
        return cp_pager__blame_slot(pager, code);
    pthread_mutex_lock(&pager->superblock_mutex);
    code = cp_pager__superblock_begin(pager);
    pthread_mutex_unlock(&pager->superblock_mutex);
    if (code == 0)
        code = cp_wal_start(pager->wal, recovery->end, (uint32_t)pager->superblock.epoch);
    if (code != 0)
        return code;
    /* release: pairs with the acquire in begin_write */
    atomic_store_explicit(&pager->unclean_written, true, memory_order_release);
    return recovery->keeping ? window_apply(recovery) : apply_in_parts(recovery);
}

/* Pages that could not be read: an error when one of them is allocated. */
static int check_bad(struct recovery *recovery)
{
    struct cp_pager *pager = recovery->pager;
    for (uint32_t i = 0; i < recovery->bad_count; i++) {
        const uint64_t page = recovery->bad[i].page;
        if (page >= cp_pager__page_count(pager))
            continue;
        bool map_page = cp_pager__is_map_offset(pager, page - pager->first_map_page);
        pthread_mutex_lock(&pager->alloc_mutex);
        int allocated = map_page ? 1 : cp_pager__map_test(pager, page, 1);
        pthread_mutex_unlock(&pager->alloc_mutex);
        if (allocated < 0)
            return allocated;
        if (allocated == 1)
            return cp_error_set(recovery->bad_code, pager->data_path, page, CP_NO_LSN,
                                "the page was damaged after it was written: restore a backup",
                                "the log has changes of a page that cannot be read, and no image "
                                "of it");
    }
    return 0;
}

int cp_pager__recover(struct cp_pager *pager)
{
    struct recovery recovery = {.pager = pager};
    const uint64_t begun_ns = cp_now_ns();
    int code = scan_and_apply(&recovery);
    if (code == 0)
        cp_images__recovered(&pager->images);
    pager->recovered.page_count = recovery.page_limit;
    if (code == 0)
        code = cp_pager__map_load(pager);
    if (code == 0)
        code = check_bad(&recovery);
    report(&recovery);
    window_fini(&recovery);
    cp_parts__fini(&recovery.parts);
    free(recovery.bad);
    pager->recovered.duration_us = (cp_now_ns() - begun_ns) / 1000;
    CP_PROBE3(recovery_done, pager->data_path, pager->recovered.groups, code);
    return code;
}
