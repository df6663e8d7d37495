/* SPDX-License-Identifier: MIT */
/*
 * Scans: pages of a range in order, read ahead, without pushing out what others use.
 *
 * Reading ahead. A scan asks for pages as far ahead of its reader as its window says
 * (base/window.h): the distance grows while the reader waits and shrinks while it does not. Pages
 * are asked for in pieces of up to CP_TRANSFER_PAGES neighbours. A device takes a request in so
 * many segments, one for each piece of contiguous memory: so the frames of a piece are looked for
 * side by side, and the request is one segment where that succeeds (docs/adr/0010).
 *
 * Whose frames. As long as there is free memory, a scan takes it, and leaves its pages behind like
 * any reader: what fits stays cached. Once memory has run short, it takes its own pages back, those
 * that it has brought in and handed out, in the order in which it read them. As they were read
 * into frames side by side, so are they taken back. Until it has enough of its own it evicts: a
 * whole aligned block at a time once the window has grown (cp_evict__gather), single victims
 * before that, and for frames that others took from it.
 *
 * Staying cold. Pages are brought in and fixed without the mark of a use, so the sweep takes them
 * before anything that is used. A page that others use keeps their mark: the scan does not take it
 * back.
 *
 * A scan is a handful of numbers in its owner's memory. Between two calls it holds nothing: that
 * page n is "its own" is a bit that says so, and the claim of the word decides.
 *
 *     oldest <= next - (pages the caller may still hold) <= next <= ahead <= end
 *     '-- own pages, handed out --'                         '-- asked for --'
 *
 * Invariants
 *  1. ahead - oldest <= CP_SCAN_RING_PAGES; brought[] has bits of pages in oldest .. ahead-1 only.
 *  2. A frame without a page belongs to the scan within one call only, and nothing is waited for
 *     meanwhile.
 *  3. All that was put in line is submitted before the scan waits.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>

/* Read-ahead begins with this much, and never gets shorter: a request of half of it costs the
 * devices we have seen little more time than a page. */
#define LEAST_BYTES (UINT32_C(128) << 10)
/* Twice what saturates the devices we have seen, as the raw limit of the benchmark. */
#define MOST_BYTES (UINT32_C(8) << 20)
/* A window takes at most this share of the budget, so a scan's own pages at most twice that. */
#define BUDGET_SHARE 16u
/* A piece of this share of the window is worth a request. */
#define PIECE_SHARE 2u

static uint32_t piece_limit(const struct cp_bufpool_file *file)
{
    return (uint32_t)cp_min_u64(CP_TRANSFER_PAGES, CP_IO_MAX_TRANSFER_BYTES / file->page_size);
}

/* Pages that are asked for at a time. */
static uint32_t piece_of(const struct cp_scan *scan)
{
    uint32_t share = (uint32_t)cp_max_u64(1, scan->window.pages / PIECE_SHARE);
    return (uint32_t)cp_min_u64(share, piece_limit(scan->file));
}

int cp_bufpool_scan_begin(struct cp_bufpool_file *file, uint64_t first, uint64_t count,
                          struct cp_scan *out_scan)
{
    int status = cp_bufpool__check_process(file->pool);

    if (status != 0)
        return status;
    if (first > file->map.page_limit || count > file->map.page_limit - first)
        return cp_error_set(CP_ENOPAGE, file->path, first, CP_NO_LSN,
                            "page numbers count from the start of the file",
                            "scanning %llu pages beyond the table of %llu pages",
                            (unsigned long long)count, (unsigned long long)file->map.page_limit);
    uint64_t budget =
        atomic_load_explicit(&file->pool->budget.limit_bytes, memory_order_relaxed) / BUDGET_SHARE;
    uint32_t most = (uint32_t)(cp_min_u64(MOST_BYTES, budget) / file->page_size);
    most = (uint32_t)cp_min_u64(most, CP_SCAN_RING_PAGES / 2);
    *out_scan = (struct cp_scan){
        .file = file, .next = first, .end = first + count, .oldest = first, .ahead = first};
    cp_window_init(&out_scan->window, 0, LEAST_BYTES / file->page_size, most);
    return 0;
}

/* ---- which pages are the scan's own ------------------------------------------------------------
 */

static uint64_t bit_of(uint64_t page)
{
    return UINT64_C(1) << (page % 64);
}

static uint64_t *bits_of(struct cp_scan *scan, uint64_t page)
{
    return &scan->brought[page % CP_SCAN_RING_PAGES / 64];
}

static bool is_own(struct cp_scan *scan, uint64_t page)
{
    return page >= scan->oldest && page < scan->ahead && (*bits_of(scan, page) & bit_of(page)) != 0;
}

/* Whatever becomes of the oldest page, it is not the scan's any more. */
static void forget_oldest(struct cp_scan *scan)
{
    *bits_of(scan, scan->oldest) &= ~bit_of(scan->oldest);
    scan->oldest++;
}

/* How long the ring may get: the window, what the caller may hold, and a piece. */
static uint64_t ring_limit(const struct cp_scan *scan)
{
    return cp_min_u64(CP_SCAN_RING_PAGES,
                      (uint64_t)scan->window.most + 2 * (uint64_t)piece_limit(scan->file));
}

/* Make room for count more pages at the front, leaving the oldest ones behind in the pool. */
static void make_room(struct cp_scan *scan, uint32_t count)
{
    while (scan->oldest < scan->next && scan->ahead + count - scan->oldest > ring_limit(scan))
        forget_oldest(scan);
}

/* ---- frames -------------------------------------------------------------------------------------
 */

enum take { TAKEN, LOST, HELD };

/* Take the frame of a page back, dropping the page, unless others use it by now. */
static enum take take_back(struct cp_bufpool_file *file, uint64_t page, struct cp_frame **out_frame)
{
    const uint64_t used = CP_WORD_REF | CP_WORD_DIRTY | CP_WORD_BIASED | CP_WORD_WAITERS;
    uint64_t *word = &file->map.words[page];
    uint64_t seen = cp_word_load(word);

    if (seen == 0 || (seen & used) != 0)
        return LOST;
    if (cp_word_latch(seen) != CP_LATCH_FREE)
        return HELD;
    /* Not biased, so no slot holds it: no search. */
    if (!cp_state__cas(word, &seen, cp_word_with_latch(seen, CP_LATCH_EXCLUSIVE)))
        return LOST;
    *out_frame = cp_bufpool__frame_of(file->pool, seen);
    pthread_mutex_lock(&file->pool->clock_lock);
    cp_clock__remove(&file->pool->clock, (*out_frame)->unit); /* it leaves no ghost */
    pthread_mutex_unlock(&file->pool->clock_lock);
    cp_evict__drop_page(file->pool, *out_frame);
    return TAKEN;
}

/* Take back up to count frames of pages that were handed out a while ago. */
static uint32_t reuse_own(struct cp_scan *scan, uint32_t count, struct cp_frame **out_frames)
{
    uint64_t slack = piece_of(scan); /* the caller may hold the newest, and would be in the way */
    uint32_t done = 0;

    while (done < count && scan->oldest + slack < scan->next) {
        if (is_own(scan, scan->oldest)) {
            enum take take = take_back(scan->file, scan->oldest, &out_frames[done]);
            /* The caller holds more than we thought: wait for him, as long as the ring may grow. */
            if (take == HELD && scan->ahead + count - scan->oldest <= ring_limit(scan))
                break;
            done += take == TAKEN;
        }
        forget_oldest(scan);
    }
    cp_bufpool__count(scan->file->pool, CP_COUNT_SCAN_REUSED, done);
    cp_bufpool__count(scan->file->pool, CP_COUNT_EVICTIONS, done);
    return done;
}

/*
 * Make a free block as large as a piece, around a victim of the sweep. That costs the block's other
 * pages, whoever uses them: so only for a scan that has shown itself to be a long one, and for not
 * more memory than its ring takes. The single frames that it began with are left to others then.
 */
static bool clear_block(struct cp_scan *scan)
{
    struct cp_bufpool *pool = scan->file->pool;
    uint32_t pages = piece_limit(scan->file);
    struct cp_frame *victim = NULL;

    if (scan->window.pages < 2 * pages || scan->cleared + pages > ring_limit(scan) ||
        cp_evict__try_frame(pool, scan->file->order, &victim) != 0)
        return false;
    if (scan->cleared == 0)
        memset(scan->brought, 0, sizeof scan->brought);
    scan->cleared += pages;
    uint32_t order = cp_log2_floor(pages) + scan->file->order, unit = victim->unit;
    cp_memory__frame_free(pool, victim);
    bool cleared = cp_evict__gather(pool, unit, order, false) == 0; /* if not whole, so be it */
    pthread_mutex_lock(&pool->clock_lock);
    cp_clock__pass(&pool->clock, unit & ~((1u << order) - 1), 1u << order);
    pthread_mutex_unlock(&pool->clock_lock);
    return cleared;
}

/* Frames for count pages, as contiguous as can be had without waiting. Returns how many. */
static uint32_t find_frames(struct cp_scan *scan, uint32_t count, struct cp_frame **out_frames)
{
    struct cp_bufpool *pool = scan->file->pool;
    uint32_t order = scan->file->order;
    uint32_t done = 0;

    if (!scan->short_of_memory) {
        done = cp_memory__run_alloc(pool, order, count, out_frames);
        scan->short_of_memory = done < count;
    }
    if (done < count)
        done += reuse_own(scan, count - done, &out_frames[done]);
    if (done <= count / 2 && clear_block(scan))
        done += cp_memory__run_alloc(pool, order, count - done, &out_frames[done]);
    while (done < count && cp_evict__try_frame(pool, order, &out_frames[done]) == 0)
        done++;
    /*
     * The policy is not asked: a scan's misses are none of its evidence. In probation, which may be
     * shorter than the distance, pages would be the next victims before anybody has seen them; in
     * main the hand takes them when it comes by and finds them unused.
     */
    for (uint32_t i = 0; i < done; i++) {
        out_frames[i]->place = CP_CLOCK_MAIN;
        out_frames[i]->fetched = 1;
    }
    return done;
}

/* ---- reading ahead ------------------------------------------------------------------------------
 */

static uint32_t count_absent(const struct cp_bufpool_file *file, uint64_t first, uint32_t count)
{
    uint32_t absent = 0;

    for (uint32_t i = 0; i < count; i++)
        absent += cp_word_load(&file->map.words[first + i]) == 0;
    return absent;
}

/* Put reads of the pages up to end in line, as far as the frames go. Their groups are held. */
static uint32_t claim_pages(struct cp_scan *scan, struct cp_load_run *run, uint64_t end,
                            struct cp_frame **frames, uint32_t found)
{
    struct cp_bufpool_file *file = scan->file;
    uint32_t used = 0;

    for (; scan->ahead < end; scan->ahead++) {
        uint64_t page = scan->ahead;
        if (cp_word_load(&file->map.words[page]) != 0)
            continue;
        if (used == found || !cp_load__run_reserve(run, page) ||
            cp_table__enter(file, page, false) != 0)
            break;
        if (!cp_load__claim(file, page, frames[used], run->ring + 1)) {
            cp_table__leave(file, page);
            continue;
        }
        cp_bufpool__count(file->pool, CP_COUNT_MISSES, 1);
        CP_PROBE2(page_miss, file->path, page);
        cp_load__run_append(run, frames[used++], NULL);
        *bits_of(scan, page) |= bit_of(page);
    }
    return used;
}

/*
 * Put reads of a piece in line. False: not all of it, for want of something. A piece lies in two
 * groups of the table at most: they are paid for before there are frames.
 */
static bool read_piece(struct cp_scan *scan, struct cp_load_run *run, uint32_t count)
{
    _Static_assert(CP_TRANSFER_PAGES <= CP_GROUP_WORDS, "first and last page name all groups");
    struct cp_bufpool_file *file = scan->file;
    struct cp_frame *frames[CP_TRANSFER_PAGES];
    uint64_t first = scan->ahead, last = first + count - 1;

    make_room(scan, count);
    uint32_t absent = count_absent(file, first, count);
    if (absent == 0) {
        scan->ahead = last + 1;
        return true;
    }
    if (cp_load__run_enter(run, first, true) != 0)
        return false;
    if (cp_load__run_enter(run, last, true) != 0)
        goto leave_first;
    if (cp_load__run_reserve(run, first)) {
        uint32_t found = find_frames(scan, absent, frames);
        uint32_t used = claim_pages(scan, run, last + 1, frames, found);
        while (used < found)
            cp_memory__frame_free(file->pool, frames[used++]);
    }
    cp_table__leave(file, last);
leave_first:
    cp_table__leave(file, first);
    return scan->ahead > last;
}

/* Ask for what the window has room for, once that is worth a request. */
static void read_ahead(struct cp_scan *scan)
{
    struct cp_load_run run;
    uint64_t limit = cp_min_u64(scan->end, scan->next + scan->window.pages);
    uint32_t piece = piece_of(scan);

    if (scan->ahead >= limit || (limit - scan->ahead < piece && limit < scan->end))
        return;
    cp_load__run_init(&run, scan->file);
    uint32_t count;
    do {
        count = (uint32_t)cp_min_u64(piece_limit(scan->file), limit - scan->ahead);
    } while (read_piece(scan, &run, count) && scan->ahead < limit);
    cp_load__run_submit(&run);
}

/* The caller has moved on by himself: what lies before is not the scan's any more. */
static void follow(struct cp_scan *scan)
{
    if (scan->ahead >= scan->next)
        return;
    while (scan->oldest < scan->ahead)
        forget_oldest(scan);
    scan->oldest = scan->ahead = scan->next;
}

/* ---- handing out --------------------------------------------------------------------------------
 */

/* Wait for a page that is being read, or held by a writer. */
static void wait_for_page(struct cp_scan *scan, uint64_t *word, uint64_t seen, uint32_t *waits)
{
    struct cp_bufpool *pool = scan->file->pool;
    uint64_t ring_plus_one = cp_bufpool__word_version(pool, seen);

    if (cp_word_latch(seen) == CP_LATCH_LOADING && ring_plus_one != 0 && *waits == 0) {
        /* It may have arrived without anybody having looked: that was no wait. */
        if (cp_io_ring_poll(pool->rings[ring_plus_one - 1]) > 0 && cp_word_load(word) != seen)
            return;
        CP_HOOK("scan_wait", scan->file, scan->next);
        cp_bufpool__count(pool, CP_COUNT_SCAN_WAITS, 1);
        cp_window_waited(&scan->window);
        (*waits)++;
        read_ahead(scan); /* more reads under way, before we stand still */
    }
    cp_fix__wait_word(scan->file, word, seen);
}

int cp_bufpool_scan_next(struct cp_scan *scan, struct cp_fix *out_fix)
{
    struct cp_bufpool_file *file = scan->file;
    uint32_t waits = 0;
    int status = cp_bufpool__check_process(file->pool);

    if (status != 0)
        return status;
    if (scan->next >= scan->end)
        return 0;
    follow(scan);
    read_ahead(scan);
    uint64_t page = scan->next;
    uint64_t *word = &file->map.words[page];
    while (!cp_fix__try_cold(file, page, out_fix)) { /* ends: as the loop in fix_slowly */
        uint64_t seen = cp_word_load(word);
        if (seen == 0) { /* no frame for it so far, or its read failed, or it was evicted again */
            status = cp_bufpool_fix(file, page, CP_SHARED, out_fix);
            scan->next++;
            return status == 0 ? 1 : status;
        }
        if (cp_word_latch(seen) >= CP_LATCH_SHARED_MAX)
            wait_for_page(scan, word, seen, &waits);
    }
    if (waits == 0)
        cp_window_took(&scan->window);
    cp_bufpool__count(file->pool, is_own(scan, page) ? CP_COUNT_SCAN_PAGES : CP_COUNT_HITS, 1);
    scan->next++;
    return 1;
}
