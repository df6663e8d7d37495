/* SPDX-License-Identifier: MIT */
/*
 * Fixing pages: the hit path first, then the miss, then the ways to wait.
 *
 * A hit by a reader stores the word's address in a pin slot of its thread and looks at the word
 * again; unfix empties the slot (bias.c). Where slots do not serve (a writer, a page that is
 * written, no free slot, no membarrier) a hit is a compare-and-swap on the page's word, and one
 * more to unfix. Descriptor, clock and locks are not touched. A miss reads the page into a frame it
 * has evicted itself.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>

/* Fill in a fix for a word that the caller has latched, or pinned by slot. */
static inline void fill_fix(struct cp_bufpool_file *file, uint64_t page, uint64_t word,
                            enum cp_latch_mode mode, uint64_t *slot, struct cp_fix *out_fix)
{
    out_fix->data = file->map.frames + (word & file->map.frame_mask);
    out_fix->owner = file;
    out_fix->page = page;
    out_fix->mode = mode;
    out_fix->slot = slot;
    out_fix->pin = __builtin_expect(file->track_pins, 0) ? cp_pins__add(file, page, mode) : 0;
    if (CP_POISONS && slot != NULL)
        out_fix->pin = CP_PIN_SHIELDED;
}

/* May a reader hold the word in a slot? Not where somebody waits for the slots to run dry. */
static bool wants_slot(uint64_t word)
{
    return (word & (CP_WORD_BIASED | CP_WORD_WAITERS)) == CP_WORD_BIASED && cp_word_readable(word);
}

/* Hold the word, found as *seen, in a slot. NULL when that is not possible, *seen being current. */
static uint64_t *try_slot(struct cp_bufpool_file *file, uint64_t page, uint64_t *seen)
{
    uint64_t *word = &file->map.words[page];

    if (!wants_slot(*seen))
        return NULL;
    CP_HOOK("pin", file, page);
    uint64_t *slot = cp_pin_take(word);
    if (slot == NULL)
        return NULL;
#ifndef CP_BREAK_RECHECK /* rule breaker for the tests: a taker may have searched before */
    *seen = cp_word_load(word);
    if (!wants_slot(*seen)) {
        cp_pin_release(slot);
        return NULL;
    }
#endif
    if ((*seen & CP_WORD_REF) == 0)
        cp_bufpool_touch(word, *seen);
    return slot;
}

/* Take the latch of a resident page that no slot can hold. */
static inline __attribute__((always_inline)) bool try_latch(struct cp_bufpool_file *file,
                                                            uint64_t page, enum cp_latch_mode mode,
                                                            struct cp_fix *out_fix)
{
    if (__builtin_expect(page >= file->map.page_limit, 0))
        return false;
    uint64_t *word = &file->map.words[page];
    uint64_t seen = cp_word_load(word);

    for (;;) { /* ends: a failed swap means that another thread's succeeded */
        uint64_t next;
        if (__builtin_expect(seen == 0 || (seen & CP_WORD_BIASED) != 0, 0))
            return false;
        if (mode == CP_SHARED) {
            if (__builtin_expect(cp_word_latch(seen) >= CP_LATCH_SHARED_MAX, 0))
                return false;
            next = (seen + 1) | CP_WORD_REF;
        } else {
            if (__builtin_expect(cp_word_latch(seen) != CP_LATCH_FREE, 0))
                return false;
            next = seen | CP_LATCH_EXCLUSIVE | CP_WORD_REF;
        }
        if (__builtin_expect(cp_state__cas(word, &seen, next), 1)) {
            if (CP_POISONS)
                cp_shield__raise(file->pool, word, next);
            fill_fix(file, page, next, mode, NULL, out_fix);
            cp_bufpool__count(file->pool, CP_COUNT_HITS, 1);
            return true;
        }
    }
}

/* A reader's hit: the one that costs least. As cp_page_map_hold. */
static inline __attribute__((always_inline)) int
hold_first_slot(struct cp_bufpool_file *file, uint64_t page, struct cp_fix *out_fix)
{
#ifdef CP_BREAK_RECHECK
    (void)file, (void)page, (void)out_fix;
    return 0;
#else
    struct cp_pin_block *own = cp_pin_own;
    int held = CP_POISONS ? 0 : cp_page_map_hold(&file->map, page, &own->slot[0], out_fix);
    if (__builtin_expect(held > 0, 1))
        cp_page_map_count_hits(&file->map, own, 1);
    return held;
#endif
}

/* A biased word: in any free slot, else counted; or taken from the readers. */
static __attribute__((noinline)) bool try_biased(struct cp_bufpool_file *file, uint64_t page,
                                                 enum cp_latch_mode mode, struct cp_fix *out_fix)
{
    if (page >= file->map.page_limit)
        return false;
    uint64_t *word = &file->map.words[page];
    uint64_t seen = cp_word_load(word), next;
    uint64_t *slot = mode == CP_SHARED ? try_slot(file, page, &seen) : NULL;

    if (slot != NULL) {
        next = seen;
        goto done;
    }
    do { /* ends: a failed swap means that another thread's succeeded */
        if (mode == CP_SHARED && (seen == 0 || cp_word_latch(seen) >= CP_LATCH_SHARED_MAX))
            return false;
        if (mode == CP_EXCLUSIVE && (seen == 0 || cp_word_latch(seen) != CP_LATCH_FREE))
            return false;
        next = mode == CP_SHARED ? seen + 1 : seen | CP_LATCH_EXCLUSIVE;
        next |= CP_WORD_REF;
    } while (!cp_state__cas(word, &seen, next));
    if (mode == CP_EXCLUSIVE && (next & CP_WORD_BIASED) != 0 && !cp_bias__settle_one(word))
        return false;
done:
    if (CP_POISONS)
        cp_shield__raise(file->pool, word, next);
    fill_fix(file, page, next, mode, slot, out_fix);
    cp_bufpool__count(file->pool, CP_COUNT_HITS, 1);
    return true;
}

bool cp_fix__try(struct cp_bufpool_file *file, uint64_t page, enum cp_latch_mode mode,
                 struct cp_fix *out_fix)
{
    int held = mode == CP_SHARED ? hold_first_slot(file, page, out_fix) : 0;
    if (held > 0)
        return true;
    if (held < 0)
        cp_pin_release(&cp_pin_own->slot[0]);
    if (try_latch(file, page, mode, out_fix)) {
        if (mode == CP_SHARED && file->biased)
            (void)cp_bias__consider(file, page);
        return true;
    }
    return file->biased && try_biased(file, page, mode, out_fix);
}

bool cp_fix__try_cold(struct cp_bufpool_file *file, uint64_t page, struct cp_fix *out_fix)
{
    uint64_t *word = &file->map.words[page];
    uint64_t seen = cp_word_load(word);

    do { /* ends: a failed swap means that another thread's succeeded */
        if (seen == 0 || cp_word_latch(seen) >= CP_LATCH_SHARED_MAX)
            return false;
    } while (!cp_state__cas(word, &seen, seen + 1));
    if (CP_POISONS)
        cp_shield__raise(file->pool, word, seen + 1);
    fill_fix(file, page, seen + 1, CP_SHARED, NULL, out_fix);
    return true;
}

uint32_t cp_fix__try_many(struct cp_bufpool_file *file, const uint64_t *pages, uint32_t count,
                          uint32_t done, enum cp_latch_mode mode, struct cp_fix *out_fixes,
                          uint32_t *out_missing)
{
    struct cp_pin_block *own = cp_pin_own;
    uint32_t next_slot = file->biased && !CP_POISONS && mode == CP_SHARED ? 0 : CP_PIN_SLOTS;
    uint32_t missing = 0, hits = 0;

    for (uint32_t i = done; i < count; i++) {
        int held = 0;
        /* Slots that were in use before are found so and passed over. */
        if (next_slot < CP_PIN_SLOTS) {
            uint64_t *slot = &own->slot[next_slot++];
            held = cp_page_map_hold(&file->map, pages[i], slot, &out_fixes[i]);
            if (held < 0)
                cp_pin_release(slot);
        }
        hits += held > 0;
        if (held > 0 || cp_fix__try(file, pages[i], mode, &out_fixes[i]))
            __builtin_prefetch(out_fixes[i].data);
        else
            out_missing[missing++] = i;
    }
    if (hits > 0)
        cp_page_map_count_hits(&file->map, own, hits);
    return missing;
}

/* ---- waiting ------------------------------------------------------------------------------------
 */

struct word_watch {
    struct cp_bufpool *pool;
    const uint64_t *word;
    uint64_t seen;
    uint64_t completions;
};

static bool word_changed(void *ctx)
{
    const struct word_watch *watch = ctx;
    const uint64_t ignored = CP_WORD_WAITERS | CP_WORD_REF;
    return ((cp_word_load(watch->word) ^ watch->seen) & ~ignored) != 0;
}

static bool word_changed_or_write_done(void *ctx)
{
    const struct word_watch *watch = ctx;
    return word_changed(ctx) ||
           atomic_load_explicit(&watch->pool->writes_in_flight, memory_order_acquire) == 0 ||
           atomic_load_explicit(&watch->pool->write_completions, memory_order_relaxed) !=
               watch->completions;
}

static bool no_write_in_flight(void *ctx)
{
    const struct word_watch *watch = ctx;
    return atomic_load_explicit(&watch->pool->writes_in_flight, memory_order_seq_cst) == 0;
}

static bool always(void *ctx)
{
    (void)ctx;
    return true;
}

void cp_fix__wait_word(struct cp_bufpool_file *file, uint64_t *word, uint64_t seen)
{
    struct cp_bufpool *pool = file->pool;
    struct word_watch watch = {
        pool, word, seen, atomic_load_explicit(&pool->write_completions, memory_order_relaxed)};

    if (cp_word_latch(seen) == CP_LATCH_LOADING) {
        uint64_t ring_plus_one = cp_bufpool__word_version(pool, seen);
        cp_bufpool__count(pool, CP_COUNT_LOAD_WAITS, 1);
        if (ring_plus_one != 0) {
            cp_io_ring_wait(pool->rings[ring_plus_one - 1], word_changed, &watch);
            return;
        }
    } else {
        cp_bufpool__count(pool, CP_COUNT_LATCH_WAITS, 1);
    }
    /* Held shared: perhaps by a write-back, which somebody must reap. See writeback.c, "Waiting".
     */
    if (cp_word_readable(seen) && !no_write_in_flight(&watch)) {
        cp_io_ring_wait(pool->write_ring, word_changed_or_write_done, &watch);
        return;
    }
    /* Without a deadline the wait cannot time out. */
    (void)!cp_latch_wait(word, seen, cp_word_readable(seen) ? no_write_in_flight : always, &watch,
                         0);
}

/* ---- misses -------------------------------------------------------------------------------------
 */

/* Bring an absent page in, latched for the caller. 0 with *out_done false: look again. */
static int load_page(struct cp_bufpool_file *file, uint64_t page, enum cp_latch_mode mode,
                     bool read, struct cp_fix *out_fix, bool *out_done)
{
    struct cp_bufpool *pool = file->pool;
    struct cp_frame *frame = NULL;

    *out_done = false;
    int status = cp_table__enter(file, page, true); /* before there is a frame: see there */
    if (status != 0)
        return status;
    status = cp_evict__acquire(file, page, false, &frame);
    if (status != 0 || !cp_load__claim(file, page, frame, 0)) {
        cp_table__leave(file, page);
        if (frame != NULL)
            cp_memory__frame_free(pool, frame);
        return status;
    }
    if (read) {
        cp_bufpool__count(pool, CP_COUNT_MISSES, 1);
        CP_PROBE2(page_miss, file->path, page);
        status = cp_load__read_now(file, frame);
        if (status != 0) {
            cp_load__fail(pool, frame);
            return status;
        }
    }
    cp_load__publish(pool, frame, mode == CP_EXCLUSIVE ? CP_LATCH_EXCLUSIVE : 1);
    fill_fix(file, page, cp_word_load(&file->map.words[page]), mode, NULL, out_fix);
    *out_done = true;
    return 0;
}

static int no_such_page(const struct cp_bufpool_file *file, uint64_t page)
{
    return cp_error_set(
        CP_ENOPAGE, file->path, page, CP_NO_LSN, "page numbers count from the start of the file",
        "fixing a page beyond the table of %llu pages", (unsigned long long)file->map.page_limit);
}

static int __attribute__((noinline))
fix_slowly(struct cp_bufpool_file *file, uint64_t page, enum cp_latch_mode mode, bool read,
           struct cp_fix *out_fix)
{
    int status = cp_bufpool__check_process(file->pool);

    if (status != 0)
        return status;
    if (page >= file->map.page_limit)
        return no_such_page(file, page);
    for (;;) { /* ends: each round waits for another thread, which lets go in the end */
        uint64_t *word = &file->map.words[page];
        uint64_t seen = cp_word_load(word);
        if (seen == 0) {
            bool done = false;
            status = load_page(file, page, mode, read, out_fix, &done);
            if (status != 0 || done)
                return status;
        } else if (cp_fix__try(file, page, mode, out_fix)) {
            return 0;
        } else {
            seen = cp_word_load(word);
            bool conflict = mode == CP_SHARED ? cp_word_latch(seen) >= CP_LATCH_SHARED_MAX
                                              : cp_word_latch(seen) != CP_LATCH_FREE;
            if (seen != 0 && conflict)
                cp_fix__wait_word(file, word, seen);
            else if (mode == CP_EXCLUSIVE && (seen & CP_WORD_BIASED) != 0)
                cp_bias__wait(file->pool, word);
        }
    }
}

/* ---- the public functions
 * ------------------------------------------------------------------------- */

/* A hit without a slot: the page is written now and then, or slots do not serve here. */
static __attribute__((noinline)) int fix_latched(struct cp_bufpool_file *file, uint64_t page,
                                                 enum cp_latch_mode mode, struct cp_fix *out_fix)
{
    if (__builtin_expect(try_latch(file, page, mode, out_fix), 1))
        return mode == CP_SHARED && file->biased ? cp_bias__consider(file, page) : 0;
    if (file->biased && try_biased(file, page, mode, out_fix))
        return 0;
    return fix_slowly(file, page, mode, true, out_fix);
}

static __attribute__((noinline)) int fix_late(struct cp_bufpool_file *file, uint64_t page,
                                              struct cp_fix *out_fix)
{
    cp_pin_release(&cp_pin_own->slot[0]);
    return fix_latched(file, page, CP_SHARED, out_fix);
}

int cp_bufpool_fix(struct cp_bufpool_file *file, uint64_t page, enum cp_latch_mode mode,
                   struct cp_fix *out_fix)
{
    /* All calls stand at ends, so that a hit saves no registers: some ns of its time. */
    if (mode == CP_SHARED) {
        int held = hold_first_slot(file, page, out_fix);
        if (__builtin_expect(held > 0, 1))
            return 0;
        if (held < 0)
            return fix_late(file, page, out_fix);
    } else if (__builtin_expect(mode != CP_EXCLUSIVE, 0)) {
        return cp_latch_mode_refuse(mode, file->path, page);
    }
    return fix_latched(file, page, mode, out_fix);
}

int cp_bufpool_try_fix(struct cp_bufpool_file *file, uint64_t page, enum cp_latch_mode mode,
                       struct cp_fix *out_fix)
{
    if (__builtin_expect(!cp_latch_mode_valid(mode), 0))
        return cp_latch_mode_refuse(mode, file->path, page);
    if (cp_fix__try(file, page, mode, out_fix))
        return 0;
    int status = cp_bufpool__check_process(file->pool);
    if (status != 0)
        return status;
    if (page >= file->map.page_limit)
        return no_such_page(file, page);
    return -EAGAIN;
}

int cp_bufpool_fix_new(struct cp_bufpool_file *file, uint64_t page, struct cp_fix *out_fix)
{
    int status = fix_slowly(file, page, CP_EXCLUSIVE, false, out_fix);
    if (status == 0)
        memset(out_fix->data, 0, file->page_size);
    return status;
}

static __attribute__((noinline)) void unfix_latched(struct cp_fix *fix)
{
    struct cp_bufpool_file *file = fix->owner;
    uint64_t *word = &file->map.words[fix->page];

    /* What is held is not absent, but in a forked child, which has no part in the parent's latch.
     */
    if (__builtin_expect(__atomic_load_n(word, __ATOMIC_RELAXED) == 0, 0)) {
        if (fix->slot != NULL)
            cp_pin_release(fix->slot);
        return;
    }
    if (CP_POISONS && fix->slot != NULL) {
        cp_shield__release_slot(file->pool, word, fix->slot);
        return;
    }
    if (__builtin_expect(fix->pin != 0, 0))
        cp_pins__remove(file->pool, fix->pin);
    if (CP_POISONS) {
        if (fix->mode == CP_EXCLUSIVE)
            cp_shield__release_exclusive(file->pool, word);
        else
            cp_shield__release_shared(file->pool, word);
    } else if (fix->mode == CP_EXCLUSIVE) {
        cp_latch_release_exclusive_fast(word, file->version_one);
    } else {
        cp_latch_release_shared_fast(word);
    }
}

void cp_bufpool_unfix(struct cp_fix *fix)
{
    fix->data = NULL;
    if (!CP_POISONS && __builtin_expect(fix->slot != NULL, 1))
        cp_pin_release(fix->slot);
    else
        unfix_latched(fix);
}

void cp_bufpool_unfix_many(struct cp_fix *fixes, uint32_t count)
{
    cp_page_map_unfix_many(fixes, count);
}

void cp_bufpool_mark_dirty(struct cp_fix *fix, cp_lsn lsn)
{
    struct cp_bufpool_file *file = fix->owner;
    uint64_t *word = &file->map.words[fix->page];
    uint64_t held = cp_word_load(word);

    cp_assert(fix->mode == CP_EXCLUSIVE);
    if (__builtin_expect(held == 0, 0))
        return; /* in a forked child, as in unfix_latched */
    struct cp_frame *frame = cp_bufpool__frame_of(file->pool, held);
    if (lsn > atomic_load_explicit(&frame->lsn, memory_order_relaxed))
        atomic_store_explicit(&frame->lsn, lsn, memory_order_relaxed);
    if ((held & CP_WORD_DIRTY) != 0)
        return;
    while (!cp_state__cas(word, &held, held | CP_WORD_DIRTY)) {
    } /* ends: only waiters and optimistic readers change a word held exclusively */
    atomic_fetch_add_explicit(&file->pool->pages_dirty, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&file->dirty_pages, 1, memory_order_relaxed);
}

void cp_bufpool_touch(uint64_t *word, uint64_t seen)
{
    /* Once is enough: a failure means that the page is in motion anyway. */
    (void)cp_state__cas(word, &seen, seen | CP_WORD_REF);
}
