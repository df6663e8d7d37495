/* SPDX-License-Identifier: MIT */
/*
 * The mmap engine: the kernel's page cache does the caching, we keep the promises.
 *
 * The file is mapped read-only and shared. A reader reads there. Whoever fixes a page exclusively
 * gets a private copy, and the file learns of it only by pwrite, after the gate (the log) has
 * agreed: so, unlike in a writable mapping, no changed byte can reach the disk too early.
 *
 * One 64-bit word a page (mmap_engine.h) has latch, version, dirty bit, whether the mapped image
 * was verified since it was last replaced, and the private frame. All zero: never looked at.
 *
 *     nothing --first touch--> VERIFIED            map_touch: read in, check the trailer
 *     any ----exclusive fix--> FRAME               frame_get, copied from the map
 *     FRAME ---mark_dirty----> FRAME | DIRTY
 *     FRAME ---unfix---------> VERIFIED            not marked: the copy is dropped
 *     DIRTY ---write-back----> VERIFIED            or FRAME, when a reader has joined
 *     any -----discard-------> nothing             the version goes on
 *
 * Invariants
 *   1. The map is read for a page only with VERIFIED set and no FRAME, latched or optimistically.
 *   2. The file's bytes of a page change only while its word has a FRAME: so no reader of the map
 *      ever sees a half-written page. (The version tells an optimistic one.)
 *   3. A frame is named by at most one word; it is freed by whoever removed it from the word.
 *   4. DIRTY implies FRAME. DIRTY is set under the exclusive latch and cleared by a write-back that
 *      holds the page shared, or by discard on a free page.
 *
 * With unsafe_in_place (mmap_in_place.c) none of this holds but the latches: the map is writable
 * and a page never has a FRAME.
 *
 * What this engine cannot do: asynchronous reads. begin and fix_many go page by page, and a miss is
 * a page fault of the thread that has it.
 */
#include "mmap_engine.h"

#include <clockpool/base/assert.h>
#include <clockpool/base/bits.h>
#include <clockpool/base/error.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { TICKET_PENDING = 1, TICKET_FIXED = 2, TICKET_FAILED = 3 };

/* What a fix may wait for; a code instead where it may not: -EAGAIN, CP_ENOFRAMES. */
enum { WAIT_LATCH = 1, WAIT_FRAME = 2 };

static struct mmap_engine *of(const struct cp_pager_engine *engine)
{
    return (struct mmap_engine *)(uintptr_t)engine; /* base is the first member */
}

/* ---- fixing -----------------------------------------------------------------------------------
 */

static int forked(const struct mmap_engine *engine, uint64_t page)
{
    return cp_error_set(CP_EFORKED, engine->format->path, page, CP_NO_LSN,
                        "open the store again in the child", "fix a page");
}

static void finish_fix(struct mmap_engine *engine, uint64_t page, uint32_t mode, void *data,
                       bool missed, struct cp_fix *out_fix)
{
    unsigned slot = cp_thread_slot();
    struct mmap_counts *counts = &engine->counts[slot];
    mmap_count(missed ? &counts->misses : &counts->hits, slot);
    mmap_count(&counts->fixes, slot);
    out_fix->data = data;
    out_fix->owner = engine;
    out_fix->page = page;
    out_fix->mode = mode;
    out_fix->pin = engine->track_pins ? cp_mmap__pin_add(engine, page, mode) : 0;
}

/* Verify a page that nobody holds. 0 also when somebody else was faster: look again. */
static int first_touch(struct mmap_engine *engine, uint64_t page, uint64_t seen)
{
    uint64_t *word = &engine->words[page];
    if (!cp_word_cas(word, &seen, cp_word_with_latch(seen, CP_LATCH_LOADING)))
        return 0;
    int code = cp_mmap__map_touch(engine, page);
    uint64_t done = cp_word_with_latch(seen, CP_LATCH_FREE);
    cp_latch_publish(word, code == 0 ? done | MMAP_VERIFIED : done);
    return code;
}

/* Latch a page shared, its bytes good to read. -EAGAIN instead of waiting when wait is false. */
static int latch_shared(struct mmap_engine *engine, uint64_t page, bool wait, uint64_t *out_word,
                        bool *out_missed)
{
    uint64_t *word = &engine->words[page];
    uint64_t seen = cp_word_load(word);
    for (;;) { /* ends: the holders let go, and a failed swap means that another's succeeded */
        if (cp_word_latch(seen) >= CP_LATCH_SHARED_MAX) {
            if (!wait)
                return -EAGAIN;
            (void)!cp_latch_wait(word, seen, NULL, NULL, 0);
            seen = cp_word_load(word);
        } else if ((seen & (MMAP_VERIFIED | MMAP_FRAME_MASK)) == 0) {
            int code = first_touch(engine, page, seen);
            if (code != 0)
                return code;
            *out_missed = true;
            seen = cp_word_load(word);
        } else if (cp_word_cas(word, &seen, seen + 1)) {
            *out_word = seen;
            return 0;
        }
    }
}

static int fix_shared(struct mmap_engine *engine, uint64_t page, unsigned waits,
                      struct cp_fix *out_fix)
{
    uint64_t word;
    bool missed = false;
    int code = latch_shared(engine, page, (waits & WAIT_LATCH) != 0, &word, &missed);
    if (code == 0)
        finish_fix(engine, page, CP_SHARED, mmap_data(engine, page, word), missed, out_fix);
    return code;
}

static int latch_exclusive(struct mmap_engine *engine, uint64_t page, bool wait, uint64_t *out_word)
{
    uint64_t *word = &engine->words[page];
    uint64_t seen = cp_word_load(word);
    for (;;) { /* ends: as above */
        if (cp_word_latch(seen) != CP_LATCH_FREE) {
            if (!wait)
                return -EAGAIN;
            (void)!cp_latch_wait(word, seen, NULL, NULL, 0);
            seen = cp_word_load(word);
        } else if (cp_word_cas(word, &seen, seen | CP_LATCH_EXCLUSIVE)) {
            *out_word = seen;
            return 0;
        }
    }
}

/* Let go of an exclusive latch; a copy that nobody changed is dropped. */
static void release_exclusive(struct mmap_engine *engine, uint64_t page)
{
    uint64_t *word = &engine->words[page];
    uint64_t seen = cp_word_load(word);
    cp_assert(cp_word_latch(seen) == CP_LATCH_EXCLUSIVE);
    if (engine->in_place && (seen & CP_WORD_DIRTY) != 0)
        cp_mmap__in_place_seal(engine, page);
    uint64_t next = cp_word_next_version(cp_word_with_latch(seen, CP_LATCH_FREE), MMAP_VERSION_ONE);
    if ((seen & CP_WORD_DIRTY) != 0 || mmap_word_frame(seen) == 0) {
        cp_latch_publish(word, next);
        return;
    }
    cp_latch_publish(word, next & ~MMAP_FRAME_MASK);
    cp_mmap__frame_put(engine, mmap_word_frame(seen) - 1);
}

/* Give an exclusively latched page a private frame, filled from the map. */
static int make_private(struct mmap_engine *engine, uint64_t page, uint64_t seen, bool wait,
                        bool *out_missed)
{
    uint32_t frame;
    int code = 0;
    if ((seen & MMAP_VERIFIED) == 0) {
        *out_missed = true;
        code = cp_mmap__map_touch(engine, page);
    }
    if (code == 0)
        code = cp_mmap__frame_get(engine, page, wait, &frame);
    if (code != 0)
        return code;
    memcpy(mmap_frame_at(engine, frame), mmap_map_at(engine, page), engine->page_size);
    mmap_change_held(&engine->words[page], 0,
                     (uint64_t)(frame + 1) << MMAP_FRAME_SHIFT | MMAP_VERIFIED);
    return 0;
}

static int fix_exclusive(struct mmap_engine *engine, uint64_t page, unsigned waits,
                         struct cp_fix *out_fix)
{
    uint64_t seen;
    bool missed = false;
    int code = latch_exclusive(engine, page, (waits & WAIT_LATCH) != 0, &seen);
    if (code != 0)
        return code;
    if (mmap_word_frame(seen) == 0) {
        code = engine->in_place
                   ? cp_mmap__in_place_take(engine, page, seen, &missed)
                   : make_private(engine, page, seen, (waits & WAIT_FRAME) != 0, &missed);
        if (code != 0) {
            release_exclusive(engine, page);
            return code;
        }
    }
    void *data = mmap_data(engine, page, cp_word_load(&engine->words[page]));
    finish_fix(engine, page, CP_EXCLUSIVE, data, missed, out_fix);
    return 0;
}

static int fix_mode(struct mmap_engine *engine, uint64_t page, enum cp_latch_mode mode,
                    unsigned waits, struct cp_fix *out_fix)
{
    if (__builtin_expect(!cp_fork_guard_same(&engine->fork_guard), 0))
        return forked(engine, page);
    if (mode == CP_SHARED)
        return fix_shared(engine, page, waits, out_fix);
    if (mode == CP_EXCLUSIVE)
        return fix_exclusive(engine, page, waits, out_fix);
    return cp_latch_mode_refuse(mode, engine->format->path, page);
}

static int mmap_fix(struct cp_pager_engine *base, uint64_t page, enum cp_latch_mode mode,
                    struct cp_fix *out_fix)
{
    return fix_mode(of(base), page, mode, WAIT_LATCH | WAIT_FRAME, out_fix);
}

static void mmap_mark_dirty(struct cp_pager_engine *base, struct cp_fix *fix, cp_lsn lsn)
{
    struct mmap_engine *engine = of(base);
    uint64_t *word = &engine->words[fix->page];
    uint64_t seen = cp_word_load(word);
    cp_assert(fix->mode == CP_EXCLUSIVE);
    cp_debug_assert(cp_word_latch(seen) == CP_LATCH_EXCLUSIVE);
    if (engine->in_place) {
        cp_mmap__in_place_note(engine, fix->page, lsn);
    } else {
        cp_debug_assert(mmap_word_frame(seen) != 0);
        struct mmap_frame *info = &engine->info[mmap_word_frame(seen) - 1];
        if (lsn > atomic_load_explicit(&info->lsn, memory_order_relaxed))
            atomic_store_explicit(&info->lsn, lsn, memory_order_relaxed);
    }
    if ((seen & CP_WORD_DIRTY) == 0) {
        mmap_change_held(word, 0, CP_WORD_DIRTY);
        atomic_fetch_add_explicit(&engine->dirty_count, 1, memory_order_relaxed);
    }
}

/* Give an exclusively latched page, whose bytes do not matter, a place to be changed in. */
static int make_new(struct mmap_engine *engine, uint64_t page, uint64_t seen)
{
    uint32_t frame;
    if (engine->in_place)
        return cp_mmap__in_place_take_new(engine, page);
    if (mmap_word_frame(seen) != 0)
        return 0;
    int code = cp_mmap__frame_get(engine, page, true, &frame);
    if (code == 0)
        mmap_change_held(&engine->words[page], 0, (uint64_t)(frame + 1) << MMAP_FRAME_SHIFT);
    return code;
}

static int mmap_try_fix(struct cp_pager_engine *base, uint64_t page, enum cp_latch_mode mode,
                        struct cp_fix *out_fix)
{
    return fix_mode(of(base), page, mode, WAIT_FRAME, out_fix);
}

static int mmap_fix_new(struct cp_pager_engine *base, uint64_t page, cp_lsn lsn,
                        struct cp_fix *out_fix)
{
    struct mmap_engine *engine = of(base);
    uint64_t seen;
    if (!cp_fork_guard_same(&engine->fork_guard))
        return forked(engine, page);
    int code = latch_exclusive(engine, page, true, &seen);
    if (code != 0)
        return code;
    code = make_new(engine, page, seen);
    if (code != 0) {
        release_exclusive(engine, page);
        return code;
    }
    void *data = mmap_data(engine, page, cp_word_load(&engine->words[page]));
    memset(data, 0, engine->page_size);
    finish_fix(engine, page, CP_EXCLUSIVE, data, false, out_fix);
    mmap_mark_dirty(base, out_fix, lsn);
    return 0;
}

static void mmap_unfix(struct cp_pager_engine *base, struct cp_fix *fix)
{
    struct mmap_engine *engine = of(base);
    fix->data = NULL;
    /* A child has no part in its parent's latches, may have inherited locks shut, and in place the
     * page's bytes are the parent's. */
    if (__builtin_expect(!cp_fork_guard_same(&engine->fork_guard), 0))
        return;
    unsigned slot = cp_thread_slot();
    if (fix->pin != 0)
        cp_mmap__pin_remove(engine, fix->pin);
    if (fix->mode == CP_SHARED)
        cp_latch_release_shared(&engine->words[fix->page]);
    else
        release_exclusive(engine, fix->page);
    mmap_count(&engine->counts[slot].unfixes, slot);
}

/* ---- reading ----------------------------------------------------------------------------------
 */

/*
 * Copy from the map without a latch. The only writer of those bytes is the kernel, on behalf of a
 * write-back, and only while the word names a frame: an unchanged word means an unchanged page. In
 * place callers write there, by plain stores: readers take the latch.
 */
static bool read_map(struct mmap_engine *engine, uint64_t page, uint32_t offset_bytes, void *buffer,
                     uint32_t size_bytes)
{
    const uint64_t ignored = CP_WORD_LATCH | CP_WORD_WAITERS | CP_WORD_REF;
    const uint64_t *word = &engine->words[page];
    uint64_t seen = cp_word_load(word);
    if (engine->in_place || !cp_word_readable(seen) || (seen & MMAP_VERIFIED) == 0 ||
        (seen & MMAP_FRAME_MASK) != 0)
        return false;
    memcpy(buffer, mmap_map_at(engine, page) + offset_bytes, size_bytes);
    /* acquire fence: the copy comes before the second load of the word */
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    uint64_t now = __atomic_load_n(word, __ATOMIC_RELAXED);
    return ((now ^ seen) & ~ignored) == 0 && cp_word_readable(now);
}

static int mmap_read(struct cp_pager_engine *base, uint64_t page, uint32_t offset_bytes,
                     void *buffer, uint32_t size_bytes)
{
    struct mmap_engine *engine = of(base);
    unsigned slot = cp_thread_slot();
    struct mmap_counts *counts = &engine->counts[slot];
    uint64_t word;
    bool missed = false;
    if (!cp_fork_guard_same(&engine->fork_guard))
        return forked(engine, page);
    if (read_map(engine, page, offset_bytes, buffer, size_bytes)) {
        mmap_count(&counts->hits, slot);
        return 0;
    }
    int code = latch_shared(engine, page, true, &word, &missed);
    if (code != 0)
        return code;
    memcpy(buffer, mmap_data(engine, page, word) + offset_bytes, size_bytes);
    cp_latch_release_shared(&engine->words[page]);
    mmap_count(missed ? &counts->misses : &counts->hits, slot);
    return 0;
}

/* ---- many at a time ---------------------------------------------------------------------------
 */

static int compare_pages(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static bool has_duplicate(const uint64_t *pages, uint32_t count)
{
    uint64_t sorted[CP_BUFPOOL_FIX_MANY_MAX];
    memcpy(sorted, pages, count * sizeof sorted[0]);
    qsort(sorted, count, sizeof sorted[0], compare_pages);
    for (uint32_t i = 1; i < count; i++) {
        if (sorted[i] == sorted[i - 1])
            return true;
    }
    return false;
}

static void mmap_unfix_many(struct cp_pager_engine *base, struct cp_fix *fixes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        mmap_unfix(base, &fixes[i]);
}

/*
 * Where somebody else holds a page, everything fixed so far is let go before waiting for that page
 * alone: two calls never wait for each other. The page waited for comes first in the next attempt.
 * A call that names a page more often than it can be held is its own obstacle, for ever.
 */
static int mmap_fix_many(struct cp_pager_engine *base, const uint64_t *pages, uint32_t count,
                         enum cp_latch_mode mode, struct cp_fix *out_fixes)
{
    struct mmap_engine *engine = of(base);
    uint32_t waited = UINT32_MAX;
    if (mode == CP_EXCLUSIVE && has_duplicate(pages, count))
        return cp_error_set(-EINVAL, engine->format->path, CP_NO_PAGE, CP_NO_LSN,
                            "name each page once, or fix shared",
                            "fix a page twice exclusively in one call");
    uint64_t deadline_ns = 0;
    for (;;) { /* ends: with all fixed, an error, or at the deadline */
        int code = 0;
        uint32_t done = 0;
        if (waited != UINT32_MAX)
            code =
                fix_mode(engine, pages[waited], mode, WAIT_LATCH | WAIT_FRAME, &out_fixes[waited]);
        if (code != 0)
            return code;
        while (done < count) {
            if (done != waited)
                code = fix_mode(engine, pages[done], mode, WAIT_FRAME, &out_fixes[done]);
            if (code != 0)
                break;
            done++;
        }
        if (code == 0)
            return 0;
        struct cp_error saved = *cp_error_info();
        mmap_unfix_many(base, out_fixes, done);
        if (waited != UINT32_MAX && waited > done)
            mmap_unfix(base, &out_fixes[waited]);
        if (code != -EAGAIN)
            return cp_error_restore(&saved);
        if (deadline_ns == 0)
            deadline_ns = cp_now_ns() + CP_BUFPOOL_TOGETHER_LIMIT_MS * UINT64_C(1000000);
        else if (cp_now_ns() >= deadline_ns)
            return cp_error_set(CP_ETIMEDOUT, engine->format->path, pages[done], CP_NO_LSN,
                                "fix fewer pages at a time, or in one order everywhere",
                                "fix %u pages together: others held one or another for %u ms",
                                count, CP_BUFPOOL_TOGETHER_LIMIT_MS);
        waited = done;
    }
}

static int mmap_prefetch(struct cp_pager_engine *base, const uint64_t *pages, uint32_t count)
{
    if (!cp_fork_guard_same(&of(base)->fork_guard))
        return forked(of(base), count > 0 ? pages[0] : CP_NO_PAGE);
    return cp_mmap__map_prefetch(of(base), pages, count);
}

static int mmap_scan_begin(struct cp_pager_engine *base, uint64_t first, uint64_t count,
                           struct cp_scan *out_scan)
{
    if (!cp_fork_guard_same(&of(base)->fork_guard))
        return forked(of(base), first);
    cp_mmap__scan_begin(of(base), first, count, out_scan);
    return 0;
}

static int mmap_scan_next(struct cp_pager_engine *base, struct cp_scan *scan,
                          struct cp_fix *out_fix)
{
    if (scan->next >= scan->end)
        return 0;
    if (!cp_fork_guard_same(&of(base)->fork_guard))
        return forked(of(base), scan->next);
    cp_mmap__scan_ahead(of(base), scan);
    int code = fix_shared(of(base), scan->next++, WAIT_LATCH, out_fix);
    return code == 0 ? 1 : code;
}

/*
 * What is free is fixed at once; a conflict or an error is left to wait, which tries again. But
 * after a search for a frame that took CP_BUFPOOL_WAIT_LIMIT_MS nobody waits for the next.
 */
static int mmap_begin(struct cp_pager_engine *base, const uint64_t *pages, uint32_t count,
                      enum cp_latch_mode mode, struct cp_ticket *out_tickets)
{
    unsigned waits = WAIT_FRAME;
    if (!cp_fork_guard_same(&of(base)->fork_guard))
        return forked(of(base), count > 0 ? pages[0] : CP_NO_PAGE);
    if (!cp_latch_mode_valid(mode))
        return cp_latch_mode_refuse(mode, of(base)->format->path, CP_NO_PAGE);
    for (uint32_t i = 0; i < count; i++) {
        struct cp_ticket *ticket = &out_tickets[i];
        memset(ticket, 0, sizeof *ticket);
        ticket->fix.page = pages[i];
        ticket->fix.mode = mode;
        ticket->status = fix_mode(of(base), pages[i], mode, waits, &ticket->fix);
        ticket->state = ticket->status == 0              ? TICKET_FIXED
                        : ticket->status == CP_ENOFRAMES ? TICKET_FAILED
                                                         : TICKET_PENDING;
        if (ticket->state == TICKET_FAILED)
            waits = 0;
    }
    return 0;
}

/* No read is ever under way, but a latch may be in the way: try again where it was, and wait for
 * nothing. */
static bool is_ready(struct mmap_engine *engine, struct cp_ticket *ticket)
{
    if (ticket->state != TICKET_PENDING || ticket->status != -EAGAIN)
        return true;
    int code = fix_mode(engine, ticket->fix.page, ticket->fix.mode, 0, &ticket->fix);
    if (code == -EAGAIN || code == CP_ENOFRAMES)
        return false;
    ticket->status = code;
    if (code == 0)
        ticket->state = TICKET_FIXED;
    return true;
}

static bool mmap_poll(struct cp_pager_engine *base, struct cp_ticket *ticket)
{
    return is_ready(of(base), ticket);
}

static uint32_t mmap_wait_some(struct cp_pager_engine *base, struct cp_ticket **tickets,
                               uint32_t count)
{
    uint32_t ready = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct cp_ticket *ticket = tickets[i];
        if (!is_ready(of(base), ticket))
            continue;
        tickets[i] = tickets[ready];
        tickets[ready++] = ticket;
    }
    return ready > 0 ? ready : count > 0; /* all are in others' hands: one is waited for */
}

static int mmap_wait(struct cp_pager_engine *base, struct cp_ticket *ticket)
{
    uint32_t state = ticket->state;
    ticket->state = 0;
    if (!cp_fork_guard_same(&of(base)->fork_guard)) {
        ticket->fix.data = NULL;
        return forked(of(base), ticket->fix.page);
    }
    if (state == TICKET_FIXED)
        return 0;
    if (state == TICKET_FAILED)
        return cp_error_set(ticket->status, of(base)->format->path, ticket->fix.page, CP_NO_LSN,
                            "raise the budget, or keep fewer tickets at a time",
                            "find a private frame for a ticket");
    cp_assert(state == TICKET_PENDING);
    return mmap_fix(base, ticket->fix.page, ticket->fix.mode, &ticket->fix);
}

static void mmap_cancel(struct cp_pager_engine *base, struct cp_ticket *ticket)
{
    if (ticket->state == TICKET_FIXED)
        mmap_unfix(base, &ticket->fix);
    ticket->state = 0;
}

static const struct cp_page_map *mmap_page_map(const struct cp_pager_engine *base)
{
    (void)base;
    return NULL;
}

/* ---- all pages --------------------------------------------------------------------------------
 */

static uint64_t mmap_dirty_pages(const struct cp_pager_engine *base)
{
    return atomic_load_explicit(&of(base)->dirty_count, memory_order_relaxed);
}

/* In place the kernel writes, at one go. */
static int mmap_flush(struct cp_pager_engine *base,
                      void (*pace)(void *ctx, uint64_t done, uint64_t total), void *ctx)
{
    struct mmap_engine *engine = of(base);
    return engine->in_place ? cp_mmap__in_place_flush(engine) : cp_mmap__flush(engine, pace, ctx);
}

static int mmap_discard(struct cp_pager_engine *base, uint64_t first, uint64_t count)
{
    return cp_mmap__discard(of(base), first, count);
}

static bool mmap_page_pinned(struct cp_pager_engine *base, uint64_t page)
{
    struct mmap_engine *engine = of(base);
    pthread_mutex_lock(&engine->write_mutex); /* no write-back holds it now */
    uint64_t word = cp_word_load(&engine->words[page]);
    pthread_mutex_unlock(&engine->write_mutex);
    return cp_word_latch(word) != CP_LATCH_FREE;
}

static bool mmap_page_held(struct cp_pager_engine *base, uint64_t page)
{
    return cp_word_latch(cp_word_load(&of(base)->words[page])) != CP_LATCH_FREE;
}

static uint64_t sum_counts(const struct mmap_engine *engine, size_t offset)
{
    uint64_t sum = 0;
    for (unsigned slot = 0; slot <= CP_THREAD_SLOTS; slot++) {
        const unsigned char *counts = (const unsigned char *)&engine->counts[slot];
        sum += atomic_load_explicit((const _Atomic uint64_t *)(const void *)(counts + offset),
                                    memory_order_relaxed);
    }
    return sum;
}

static bool mmap_any_pinned(struct cp_pager_engine *base)
{
    return sum_counts(of(base), offsetof(struct mmap_counts, fixes)) !=
           sum_counts(of(base), offsetof(struct mmap_counts, unfixes));
}

static int mmap_resize(struct cp_pager_engine *base, uint64_t budget_bytes)
{
    return cp_mmap__resize(of(base), budget_bytes);
}

static int mmap_grow(struct cp_pager_engine *base, uint64_t file_bytes)
{
    return cp_mmap__map_grow(of(base), file_bytes);
}

/* Whoever verified one of the pages since it was freed must not be believed when it returns. */
static int mmap_shrink(struct cp_pager_engine *base, uint64_t file_bytes)
{
    struct mmap_engine *engine = of(base);
    uint64_t first = file_bytes >> engine->page_shift;
    uint64_t end =
        atomic_load_explicit(&engine->mapped_bytes, memory_order_relaxed) >> engine->page_shift;
    int code = cp_mmap__map_shrink(engine, file_bytes);
    for (uint64_t page = first; code == 0 && page < end; page++)
        (void)!cp_mmap__discard(engine, page, 1);
    return code;
}

static void mmap_stats(struct cp_pager_engine *base, struct cp_pager_stats *out_stats)
{
    struct mmap_engine *engine = of(base);
    struct cp_bufpool_stats *pool = &out_stats->pool;
    memset(pool, 0, sizeof *pool);
    out_stats->direct = false;
    out_stats->direct_reason = "the mmap engine works on the kernel's page cache";
    out_stats->private_pages = atomic_load_explicit(&engine->private_count, memory_order_relaxed);
    pool->hits = sum_counts(engine, offsetof(struct mmap_counts, hits));
    pool->misses = sum_counts(engine, offsetof(struct mmap_counts, misses));
    pool->pages_written = atomic_load_explicit(&engine->pages_written, memory_order_relaxed);
    pool->writes = atomic_load_explicit(&engine->writes_done, memory_order_relaxed);
    pool->write_errors = atomic_load_explicit(&engine->write_errors, memory_order_relaxed);
    pool->verify_errors = atomic_load_explicit(&engine->verify_errors, memory_order_relaxed);
    pool->frame_waits = atomic_load_explicit(&engine->frame_waits, memory_order_relaxed);
    pool->pages_dirty = atomic_load_explicit(&engine->dirty_count, memory_order_relaxed);
    pool->used_bytes = out_stats->private_pages << engine->page_shift;
    pool->budget_bytes = atomic_load_explicit(&engine->budget_bytes, memory_order_relaxed);
    pool->buffers_reason = "the mmap engine registers none";
    pool->io_backend = "";
}

static uint32_t mmap_list_pins(struct cp_pager_engine *base, struct cp_pin *pins, uint32_t capacity)
{
    return cp_mmap__list_pins(of(base), pins, capacity);
}

static void mmap_close(struct cp_pager_engine *base)
{
    struct mmap_engine *engine = of(base);
    cp_mmap__frames_fini(engine);
    cp_mmap__map_fini(engine);
    cp_mmap__pins_fini(engine);
    if (engine->fork_guard.word != NULL)
        cp_fork_guard_fini(&engine->fork_guard);
    pthread_mutex_destroy(&engine->pin_mutex);
    pthread_mutex_destroy(&engine->write_mutex);
    pthread_mutex_destroy(&engine->resize_mutex);
    pthread_mutex_destroy(&engine->flush_mutex);
    free(engine);
}

static const struct cp_engine_ops mmap_ops = {
    .name = "mmap",
    .fix = mmap_fix,
    .try_fix = mmap_try_fix,
    .fix_new = mmap_fix_new,
    .unfix = mmap_unfix,
    .mark_dirty = mmap_mark_dirty,
    .read = mmap_read,
    .fix_many = mmap_fix_many,
    .unfix_many = mmap_unfix_many,
    .prefetch = mmap_prefetch,
    .scan_begin = mmap_scan_begin,
    .scan_next = mmap_scan_next,
    .begin = mmap_begin,
    .poll = mmap_poll,
    .wait_some = mmap_wait_some,
    .wait = mmap_wait,
    .cancel = mmap_cancel,
    .page_map = mmap_page_map,
    .dirty_pages = mmap_dirty_pages,
    .flush = mmap_flush,
    .discard = mmap_discard,
    .page_pinned = mmap_page_pinned,
    .page_held = mmap_page_held,
    .any_pinned = mmap_any_pinned,
    .resize = mmap_resize,
    .grow = mmap_grow,
    .shrink = mmap_shrink,
    .stats = mmap_stats,
    .list_pins = mmap_list_pins,
    .close = mmap_close,
};

int cp_pager__mmap_open(const struct cp_engine_setup *setup, struct cp_pager_engine **out_engine)
{
    struct mmap_engine *engine = aligned_alloc(64, cp_align_up(sizeof *engine, 64));
    if (engine == NULL)
        return cp_error_set(-ENOMEM, setup->format->path, CP_NO_PAGE, CP_NO_LSN, NULL,
                            "open the mmap engine");
    memset(engine, 0, sizeof *engine);
    engine->in_place = setup->options->unsafe_in_place;
    engine->base.ops = &mmap_ops;
    if (engine->in_place) {
        engine->in_place_ops = mmap_ops;
        engine->in_place_ops.name = "mmap-in-place";
        engine->base.ops = &engine->in_place_ops;
    }
    engine->fd = -1;
    engine->format = setup->format;
    engine->file = setup->file;
    engine->page_size = setup->format->page_size;
    engine->page_shift = cp_log2_floor(engine->page_size);
    engine->track_pins = setup->options->track_pins;
    engine->has_gate = setup->gate != NULL;
    if (setup->gate != NULL)
        engine->gate = *setup->gate;
    pthread_mutex_init(&engine->flush_mutex, NULL);
    pthread_mutex_init(&engine->resize_mutex, NULL);
    pthread_mutex_init(&engine->write_mutex, NULL);
    pthread_mutex_init(&engine->pin_mutex, NULL);
    int code = cp_fork_guard_init(&engine->fork_guard);
    if (code != 0)
        code = cp_error_set(code, setup->format->path, CP_NO_PAGE, CP_NO_LSN, NULL,
                            "open the mmap engine");
    if (code == 0)
        code = cp_mmap__pins_init(engine);
    if (code == 0)
        code = cp_mmap__map_init(engine, setup);
    if (code == 0)
        code = cp_mmap__frames_init(engine, setup);
    if (code != 0) {
        struct cp_error saved = *cp_error_info();
        mmap_close(&engine->base);
        return cp_error_restore(&saved);
    }
    *out_engine = &engine->base;
    return 0;
}
