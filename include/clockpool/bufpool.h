/* SPDX-License-Identifier: MIT */
/*
 * Buffer pool: pages of several files, of several sizes, cached in frames under one hard budget.
 *
 * To fix a page is to pin and latch it: shared (many readers) or exclusive (one writer). A reader
 * that only copies a few bytes can do so optimistically, without writing to shared memory. Misses
 * can be many at a time: cp_bufpool_fix_many, cp_bufpool_prefetch and tickets.
 *
 * Page numbers count pages of the file's own size from its start. All functions may be called from
 * any thread unless they say otherwise; a fix may be released by another thread than the one that
 * made it. A thread must not fix a page exclusively that it has fixed already (it would wait for
 * itself). Errors are codes as in status.h, with path, page and hint in cp_error_info().
 *
 * A forked child has no part in its parent's pools: it gets CP_EFORKED, no pins, and of the
 * statistics only counts; fixes and tickets that it has inherited it releases without effect.
 *
 * Source of the page table: vmcache (Leis et al., SIGMOD 2023) for the state word, Calico
 * (arXiv 2604.00423) for array translation.
 */
#ifndef CLOCKPOOL_BUFPOOL_H
#define CLOCKPOOL_BUFPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <clockpool/arena.h>
#include <clockpool/io.h>
#include <clockpool/lsn.h>
#include <clockpool/status.h>
#include <clockpool/base/latch.h>
#include <clockpool/base/pins.h>
#include <clockpool/base/window.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CP_PAGE_SIZE_MIN             4096u
#define CP_PAGE_SIZE_MAX             65536u
#define CP_BUFPOOL_BUDGET_MIN        (UINT64_C(512) << 10) /* bytes */
#define CP_BUFPOOL_BUDGET_MAX        (UINT64_C(1) << 40)   /* 28 bits of frame number, 4 KiB each */
#define CP_BUFPOOL_FILES_MAX         256u
#define CP_BUFPOOL_FIX_MANY_MAX      1024u /* pages of one fix_many, begin or prefetch call */
#define CP_BUFPOOL_WAIT_LIMIT_MS     1000u /* how long a miss waits for others to unpin a frame */
#define CP_BUFPOOL_TOGETHER_LIMIT_MS 5000u /* how long fix_many tries to get all its pages */
#define CP_BUFPOOL_SHRINK_LIMIT_MS   5000u /* how long a shrink tries to free one piece of memory */

struct cp_bufpool;
struct cp_bufpool_file;

/* A fixed page. Owned by the caller from a successful fix to unfix; may be copied, not used twice.
 */
struct cp_fix {
    void *data;     /* the page, page_size bytes, aligned to 4096; pinned until unfix */
    void *owner;    /* private: file or engine */
    uint64_t page;  /* page number */
    uint32_t mode;  /* enum cp_latch_mode */
    uint32_t pin;   /* private: entry in the pin list plus 1, or 0 */
    uint64_t *slot; /* private: the pin slot that holds it, or NULL when the word counts it */
};

struct cp_bufpool_options {
    uint64_t budget_bytes;     /* hard limit of frames and all metadata; required */
    uint64_t max_budget_bytes; /* largest budget a resize may ask for; 0 means 4 x budget_bytes */
    struct cp_io *io;          /* borrowed until destroy; required */
    enum cp_huge_pages huge_pages;
    uint32_t ring_count;   /* rings for reads; 0 means one for 4 processors */
    uint32_t ring_depth;   /* reads in flight per ring; 0 means 256 */
    bool register_buffers; /* register the frames with the kernel, as far as RLIMIT_MEMLOCK goes:
                              reads cost it less then (docs/adr/0004) */
    bool track_pins;       /* keep owner and age of every fix (costs about 100 ns a fix) */
    bool counted_pins;     /* count readers in the page's word, use no pin slots (docs/adr/0006) */
    uint32_t write_batch_pages; /* pages of one write-back batch; 0 means 64 */
    /*
     * Called by a miss that finds few clean pages left, once until a cp_bufpool_clean has returned
     * 0: somebody should call that. It must not block nor use the pool; any thread, perhaps with
     * pages fixed. NULL: misses start the writes themselves, those that need no log.
     */
    void (*short_of_clean)(void *ctx);
    void *short_of_clean_ctx;
};

struct cp_bufpool_file_options {
    struct cp_io_file *file; /* borrowed until detach; required */
    uint32_t page_size;      /* bytes; power of two, 4096 to 65536; required */
    uint64_t max_pages;      /* address space of the page table; 0 means 2^32 */
    /* Write each page by a request of its own that is untorn (cp_io_request.untorn): for files
     * whose atomic_write_max_bytes reaches page_size. Neighbours are not merged then. */
    bool untorn_writes;
    /* Asked before any dirty page of this file is written; copied. NULL: no log. */
    const struct cp_lsn_gate *gate;
    /*
     * Called after a page was read, before anyone sees it: 0, or the code that the fix shall return
     * (with cp_error_set). NULL: every image is good. Any thread; must not block nor use the pool.
     */
    int (*verify)(void *ctx, void *data, uint64_t page);
    /*
     * Called for a dirty page that is to be written, its image held still, before the gate is
     * asked: to log first whatever must be in the log before the image in the file is overwritten.
     * *inout_lsn is the LSN given to mark_dirty, and may be raised. It may change only bytes that
     * no reader looks at; may block; must not use the pool. A code (with cp_error_set) leaves the
     * page dirty. NULL: nothing to do.
     */
    int (*before_write)(void *ctx, void *data, uint64_t page, cp_lsn *inout_lsn);
    /*
     * Called just before a dirty page is written, with the LSN given to mark_dirty, to seal the
     * image (checksum). It may change only bytes that no reader looks at. NULL: nothing to seal.
     */
    void (*seal)(void *ctx, void *data, uint64_t page, cp_lsn lsn);
    void *ctx;
};

/* ---- life -------------------------------------------------------------------------------------
 */

/* Errors: -EINVAL, CP_EBUDGET (with the smallest budget that would do in the hint), -ENOMEM. */
CP_API int cp_bufpool_create(const struct cp_bufpool_options *options,
                             struct cp_bufpool **out_pool) CP_MUST_CHECK;
/* All files must be detached. NULL is allowed. */
CP_API void cp_bufpool_destroy(struct cp_bufpool *pool);

/*
 * Change the budget while running. Growing is immediate. Shrinking evicts, writes back and gives
 * memory back to the kernel before it returns. CP_EBUDGET: below the minimum or above
 * max_budget_bytes; CP_EPINNED: too much is pinned; CP_ETIMEDOUT: pages were used again as fast as
 * they were written, in every piece of memory tried in CP_BUFPOOL_SHRINK_LIMIT_MS; -ENOMEM: the
 * kernel takes no memory back (vm.max_map_count); the error of a write or of the gate. The old
 * budget stands then, and what was given back so far is taken again as pages are missed. May block
 * on I/O. Some metadata of what was given back stays in memory without being counted any more: 10
 * bytes for each 4 KiB of the largest budget there has been (0.25 %), and descriptors, 64 bytes for
 * each frame, as far as they share pages of memory with others in use.
 */
CP_API int cp_bufpool_resize(struct cp_bufpool *pool, uint64_t budget_bytes) CP_MUST_CHECK;

CP_API int cp_bufpool_attach(struct cp_bufpool *pool, const struct cp_bufpool_file_options *options,
                             struct cp_bufpool_file **out_file) CP_MUST_CHECK;
/*
 * Forget a file: its clean pages are dropped. CP_EPINNED when one is fixed, -EBUSY when one is
 * dirty (flush or discard first); the file is then still attached. No other call on the file may
 * run.
 */
CP_API int cp_bufpool_detach(struct cp_bufpool_file *file) CP_MUST_CHECK;

/* ---- fixing -----------------------------------------------------------------------------------
 */

/*
 * Fix one page, reading it when it is absent. Waits for a conflicting latch. Errors: -EINVAL for a
 * mode that is neither of the two, here and below; CP_ENOPAGE beyond max_pages; -EIO and the like,
 * -ENODATA when the file ends before the page; whatever verify says; CP_ENOFRAMES when every frame
 * stays pinned for CP_BUFPOOL_WAIT_LIMIT_MS; CP_EGATE or a write error when nothing but unwritable
 * dirty pages is left; CP_EBUDGET when pins leave no room for the page table; CP_EFORKED in a
 * forked child.
 */
CP_API int cp_bufpool_fix(struct cp_bufpool_file *file, uint64_t page, enum cp_latch_mode mode,
                          struct cp_fix *out_fix) CP_MUST_CHECK;

/* As cp_bufpool_fix, but -EAGAIN instead of waiting for a latch or for I/O. */
CP_API int cp_bufpool_try_fix(struct cp_bufpool_file *file, uint64_t page, enum cp_latch_mode mode,
                              struct cp_fix *out_fix) CP_MUST_CHECK;

/*
 * Fix a page exclusively without reading it: the frame is all zeros, whatever the file holds. For
 * pages newly allocated. A page that is resident is zeroed too.
 */
CP_API int cp_bufpool_fix_new(struct cp_bufpool_file *file, uint64_t page,
                              struct cp_fix *out_fix) CP_MUST_CHECK;

/* Release a fix. Never fails, never blocks on I/O. fix->data becomes NULL. */
CP_API void cp_bufpool_unfix(struct cp_fix *fix);

/*
 * Say that the page was changed under this exclusive fix, and which log record (its end) covers it;
 * 0 when none does. The frame keeps the largest LSN. CP_EGATE is not detected here but at write.
 */
CP_API void cp_bufpool_mark_dirty(struct cp_fix *fix, cp_lsn lsn);

/*
 * Fix count pages (at most CP_BUFPOOL_FIX_MANY_MAX) with all misses in one submission. Either all
 * are fixed, out_fixes[i] being pages[i], or none and an error is returned. A page may occur twice
 * when mode is shared (-EINVAL otherwise), up to CP_LATCH_SHARED_MAX times less the other holders.
 * Where another thread holds a page, everything fixed so
 * far is released before waiting for it, so this call is never part of a deadlock, unless its
 * caller already holds fixes. CP_ETIMEDOUT when others kept getting in between for
 * CP_BUFPOOL_TOGETHER_LIMIT_MS.
 */
CP_API int cp_bufpool_fix_many(struct cp_bufpool_file *file, const uint64_t *pages, uint32_t count,
                               enum cp_latch_mode mode, struct cp_fix *out_fixes) CP_MUST_CHECK;
CP_API void cp_bufpool_unfix_many(struct cp_fix *fixes, uint32_t count);

/*
 * Start reading pages that are absent and return after submission. A hint: pages for which there is
 * no frame without writing something back are left out. Returns the number of reads started, or a
 * negative code. A failed read shows when the page is fixed.
 */
CP_API int cp_bufpool_prefetch(struct cp_bufpool_file *file, const uint64_t *pages, uint32_t count);

/*
 * The calling thread will ask for these pages in a moment: have the processor fetch what looking
 * them up reads, for all of them at once. Where the table of pages is larger than the processor's
 * caches, each look waits for memory otherwise. A hint: no page is read, nothing waits or counts,
 * and numbers beyond the file are passed over. Sixteen or so at a time; begin does it by itself for
 * the pages of one call.
 */
CP_API void cp_bufpool_expect(struct cp_bufpool_file *file, const uint64_t *pages, uint32_t count);

/* ---- tickets: a fix in two steps ---------------------------------------------------------------
 */

/*
 * A fix under way. Filled by begin, in the caller's memory, and not to be moved before it is
 * finished by a successful wait (then fix is the caller's), a failed wait, or cancel.
 */
struct cp_ticket {
    struct cp_fix fix; /* valid once wait has returned 0 */
    struct cp_bufpool_file *file;
    uint32_t state; /* private; changed by whichever thread reaps the read */
    int32_t status; /* private */
    void *load;     /* private */
};

/*
 * Begin to fix count pages: what is resident and free is fixed at once, what is absent is put in
 * line to be read. The reads are submitted once some have gathered (cp_io_ring_submit_batch), at
 * the latest by this thread's next poll or wait of any ticket of the pool: several begins share a
 * system call, and the device need not wait until the caller does. Tickets begun with a latch
 * conflict resolve it in wait. Returns 0, or a code with no ticket begun.
 */
CP_API int cp_bufpool_begin(struct cp_bufpool_file *file, const uint64_t *pages, uint32_t count,
                            enum cp_latch_mode mode, struct cp_ticket *out_tickets) CP_MUST_CHECK;

/* Submit what is in line and reap without blocking. True when wait would not block on I/O. */
CP_API bool cp_bufpool_poll(struct cp_ticket *ticket);

/*
 * Submit what is in line and wait until some of count tickets of one pool are ready, begun by this
 * thread: their wait would not block on I/O. They are moved to the front of tickets, and their
 * number is returned; 0 only for a count of 0. A page that others have latched becomes ready when
 * they let go; where nothing else is under way, such a ticket is returned, and its wait blocks.
 */
CP_API uint32_t cp_bufpool_wait_some(struct cp_ticket **tickets, uint32_t count);

/* Finish the ticket: 0 with ticket->fix fixed, or the errors of cp_bufpool_fix. */
CP_API int cp_bufpool_wait(struct cp_ticket *ticket) CP_MUST_CHECK;

/* Give up a ticket that was begun: waits for its read, then releases the page. */
CP_API void cp_bufpool_cancel(struct cp_ticket *ticket);

/* ---- scans --------------------------------------------------------------------------------------
 */

#define CP_SCAN_RING_PAGES 4096u /* a scan's own pages, read ahead or to be reused */

/*
 * A scan: the pages of a range in order, read ahead. In the caller's memory; used by one thread at
 * a time. Between two calls it holds nothing, neither pins nor memory, and is simply forgotten when
 * it is no longer wanted; before the file is detached.
 */
struct cp_scan {
    uint64_t next; /* page that the next call gives; may be raised by the caller, to pass over
                      pages. end: the first that it will not give */
    uint64_t end;
    struct cp_bufpool_file *file; /* private from here on */
    struct cp_window window;
    uint64_t oldest, ahead, ready;
    uint32_t cleared;
    bool short_of_memory;
    uint64_t brought[CP_SCAN_RING_PAGES / 64];
};

/*
 * Begin to scan pages first .. first+count-1. No I/O yet. CP_ENOPAGE beyond the file's table;
 * CP_EFORKED.
 */
CP_API int cp_bufpool_scan_begin(struct cp_bufpool_file *file, uint64_t first, uint64_t count,
                                 struct cp_scan *out_scan) CP_MUST_CHECK;

/*
 * Fix the next page, shared: 1 with *out_fix, to be released with cp_bufpool_unfix; 0 at the end;
 * or the errors of cp_bufpool_fix, and the next call goes on behind the page that failed. Pages
 * are read ahead in large requests, further the more often the caller has to wait, up to 8 MiB or a
 * sixteenth of the budget. A few pages may stay fixed while the scan goes on: half of that
 * distance, at most 64, cost nothing.
 *
 * A scan does not count as a use: its pages are the first to be evicted, and when memory is short
 * it takes the frames of its own pages again. What others use of them stays. So a point read beside
 * a scan keeps its pages.
 */
CP_API int cp_bufpool_scan_next(struct cp_scan *scan, struct cp_fix *out_fix) CP_MUST_CHECK;

/* ---- reading without a latch --------------------------------------------------------------------
 */

/*
 * Copy size_bytes at offset_bytes of a page into buffer: optimistically when the page is resident,
 * by a shared fix otherwise. Errors as cp_bufpool_fix, -EINVAL outside the page. The copy is made
 * by relaxed atomic loads and never returned when the page changed meanwhile; ThreadSanitizer is
 * content with that only where the writers of the page store atomically too.
 */
CP_API int cp_bufpool_read(struct cp_bufpool_file *file, uint64_t page, uint32_t offset_bytes,
                           void *buffer, uint32_t size_bytes) CP_MUST_CHECK;

/*
 * The translation array of a file, for the inline functions below: what they need and no more. It
 * never changes while the file is attached, so copy it into a local variable: its fields then stay
 * in registers, and a read takes 19 ns instead of 21 (1 GiB resident, uniform, where a bare array
 * takes 14; what counts is how few instructions stand between one cache miss and the next).
 */
struct cp_page_map {
    uint64_t *words;       /* one state word a page, index = page number */
    unsigned char *frames; /* a page's bytes begin at frames + (its word & frame_mask) */
    uint64_t frame_mask;
    uint64_t page_limit; /* words has this many elements */
    uint32_t page_size;
    uintptr_t hits;               /* private: from a thread's pin block to its count of hits */
    struct cp_bufpool_file *file; /* borrowed; for what the inline functions cannot do */
};

/* Borrowed until detach. */
CP_API const struct cp_page_map *cp_bufpool_page_map(const struct cp_bufpool_file *file);

/* Set the ref bit of a word seen without it (the slow half of cp_optimistic_begin). */
CP_API void cp_bufpool_touch(uint64_t *word, uint64_t seen);

/*
 * Begin an optimistic read: the page's address, or NULL when it is absent or held exclusively (use
 * cp_bufpool_fix then). What is read there may be changing or even be another page: load it with
 * relaxed atomic loads of up to 64 bits into locals, follow no pointer or length in it, and use the
 * values only after cp_optimistic_validate returned true. Not a pin; blocks nothing.
 */
static inline const void *cp_optimistic_begin(const struct cp_page_map *map, uint64_t page,
                                              uint64_t *out_word)
{
    if (__builtin_expect(page >= map->page_limit, 0))
        return NULL;
    uint64_t word = cp_word_load(&map->words[page]);
    if (__builtin_expect(!cp_word_readable(word), 0))
        return NULL;
    if (__builtin_expect((word & CP_WORD_REF) == 0, 0)) {
        if (word == 0)
            return NULL;
        cp_bufpool_touch(&map->words[page], word);
    }
    *out_word = word;
    const unsigned char *data = map->frames + (word & map->frame_mask);
    if (data == NULL)
        __builtin_unreachable(); /* so that the caller's look for NULL is not made a second time */
    return data;
}

/* True when nothing that was loaded since begin can have changed. */
static inline bool cp_optimistic_validate(const struct cp_page_map *map, uint64_t page,
                                          uint64_t begun)
{
    /* acquire fence: the page's loads come before the second load of the word */
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    uint64_t word = __atomic_load_n(&map->words[page], __ATOMIC_RELAXED);
    if (__builtin_expect(word == begun, 1))
        return true; /* begin found it readable */
    const uint64_t ignored =
        CP_WORD_LATCH | CP_WORD_WAITERS | CP_WORD_REF | CP_WORD_DIRTY | CP_WORD_BIASED;
    return ((word ^ begun) & ~ignored) == 0 && cp_word_readable(word);
}

/* ---- fixing inline -----------------------------------------------------------------------------
 */

/*
 * The hit of a shared fix: 1 with *out_fix as cp_bufpool_fix would fill it when the page is
 * resident, has lately been fixed by a reader, is in no writer's hands, and slot, one of own's, is
 * free. Otherwise 0, and nothing has happened; or -1, and the slot is to be released. The caller
 * counts the hit.
 */
static inline int cp_page_map_hold(const struct cp_page_map *map, uint64_t page, uint64_t *slot,
                                   struct cp_fix *out_fix)
{
    if (__builtin_expect(page >= map->page_limit, 0))
        return 0;
    uint64_t *word = &map->words[page];
    uint64_t seen = cp_word_load(word);
    const uint64_t mask = CP_WORD_LATCH | CP_WORD_WAITERS | CP_WORD_REF | CP_WORD_BIASED;
    if (__builtin_expect(((seen - (CP_WORD_REF | CP_WORD_BIASED)) & mask) != 0, 0))
        return 0;
    if (__builtin_expect(!cp_pin_announce(slot, word), 0))
        return 0;
    if (__builtin_expect(cp_word_load(word) != seen, 0))
        return -1; /* perhaps a taker has searched the slots just before */
    out_fix->data = map->frames + (seen & map->frame_mask);
    /* Not one store with owner: where that crosses a cache line, loads of data wait until it is
     * done, behind all the cache misses before it (fix_many: 29 ns instead of 22). */
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    out_fix->owner = map->file;
    out_fix->page = page;
    out_fix->mode = CP_SHARED;
    out_fix->pin = 0;
    out_fix->slot = slot;
    return 1;
}

/* Count hits that a slot of own holds: so own is the thread's, and nobody else counts there. */
static inline void cp_page_map_count_hits(const struct cp_page_map *map, struct cp_pin_block *own,
                                          uint64_t count)
{
    uint64_t *hits = (uint64_t *)((uintptr_t)own + map->hits);
    __atomic_store_n(hits, __atomic_load_n(hits, __ATOMIC_RELAXED) + count, __ATOMIC_RELAXED);
}

/*
 * cp_bufpool_fix in shared mode and cp_bufpool_unfix, without a call on a hit. Half the time of
 * these where the map is a local variable: what limits a loop of fixes is how many instructions
 * stand between one page's cache miss and the next (docs/adr/0006). The two kinds mix freely.
 */
static inline int cp_page_map_fix(const struct cp_page_map *map, uint64_t page,
                                  struct cp_fix *out_fix)
{
    struct cp_pin_block *own = cp_pin_block_own();
    int held = cp_page_map_hold(map, page, &own->slot[0], out_fix);
    if (__builtin_expect(held > 0, 1)) {
        cp_page_map_count_hits(map, own, 1);
        return 0;
    }
    if (held < 0)
        cp_pin_release(&own->slot[0]);
    struct cp_fix fix; /* its address is taken, not out_fix's: that may stay in registers */
    int status = cp_bufpool_fix(map->file, page, CP_SHARED, &fix);
    if (status != 0)
        return status;
    /* Field by field: a wide load of what was just stored in parts waits for the stores. */
    out_fix->data = fix.data;
    out_fix->owner = map->file;
    out_fix->page = page;
    out_fix->mode = CP_SHARED;
    out_fix->pin = fix.pin;
    out_fix->slot = fix.slot;
    return 0;
}

static inline void cp_page_map_unfix(struct cp_fix *fix)
{
    if (__builtin_expect(fix->slot != NULL && fix->pin == 0, 1)) {
        cp_pin_release(fix->slot);
    } else {
        struct cp_fix copy = *fix;
        cp_bufpool_unfix(&copy);
    }
    fix->data = NULL;
}

/* ---- fixing many inline ------------------------------------------------------------------------
 */

/*
 * Have the processor fetch the cache line at offset_bytes of a page, if the page is resident. A
 * hint, for pages that will be looked at in a moment; it does not fix, wait, count or read.
 */
static inline void cp_page_map_prefetch_line(const struct cp_page_map *map, uint64_t page,
                                             uint32_t offset_bytes)
{
    if (__builtin_expect(page >= map->page_limit, 0))
        return;
    uint64_t word = __atomic_load_n(&map->words[page], __ATOMIC_RELAXED);
    /* Of an absent page this is an address before the frames. Nobody minds. */
    __builtin_prefetch(map->frames + (word & map->frame_mask) + offset_bytes);
}

/*
 * Hold the first of count pages, as far as they are hits and the slots free, from the last slot
 * down: single fixes begin with the first. Returns how many are held.
 */
static inline uint32_t cp_page_map_hold_many(const struct cp_page_map *map, const uint64_t *pages,
                                             uint32_t count, struct cp_pin_block *own,
                                             struct cp_fix *out_fixes)
{
    const uint64_t *page = pages, *end = pages + (count < CP_PIN_SLOTS ? count : CP_PIN_SLOTS);
    for (uint64_t *slot = &own->slot[CP_PIN_SLOTS - 1]; page < end; page++, slot--, out_fixes++) {
        int status = cp_page_map_hold(map, *page, slot, out_fixes);
        if (__builtin_expect(status > 0, 1))
            continue;
        if (status < 0)
            cp_pin_release(slot);
        break;
    }
    uint32_t held = (uint32_t)(page - pages);
    if (__builtin_expect(held > 0, 1)) /* else own may be the block that several threads share */
        cp_page_map_count_hits(map, own, held);
    return held;
}

/* As cp_bufpool_fix_many, where the first held pages, at most CP_PIN_SLOTS, are fixed already. */
CP_API int cp_bufpool_fix_rest(struct cp_bufpool_file *file, const uint64_t *pages, uint32_t count,
                               uint32_t held, enum cp_latch_mode mode,
                               struct cp_fix *inout_fixes) CP_MUST_CHECK;

/*
 * cp_bufpool_fix_many in shared mode and cp_bufpool_unfix_many, without a call where all pages are
 * hits and the thread has slots for them (CP_PIN_SLOTS, less what it holds already). The bytes that
 * will be looked at are the caller's to prefetch, which only he knows: cp_page_map_prefetch_line of
 * each page before this call lets the cache misses of all of them overlap (1 GiB resident, uniform,
 * 16 pages: 20 ns a page instead of 26; a bare array takes 14).
 */
static inline int cp_page_map_fix_many(const struct cp_page_map *map, const uint64_t *pages,
                                       uint32_t count, struct cp_fix *out_fixes)
{
    uint32_t held = cp_page_map_hold_many(map, pages, count, cp_pin_own, out_fixes);
    if (__builtin_expect(held == count, 1))
        return 0;
    return cp_bufpool_fix_rest(map->file, pages, count, held, CP_SHARED, out_fixes);
}

static inline void cp_page_map_unfix_many(struct cp_fix *fixes, uint32_t count)
{
    struct cp_pin_block *own = cp_pin_block_own();
    for (struct cp_fix *fix = fixes; fix < fixes + count; fix++) {
        /* Not in one of our own slots, or shielded: the long way. */
        if (__builtin_expect(
                (((uintptr_t)fix->slot ^ (uintptr_t)own) | fix->pin) >= CP_PIN_BLOCK_BYTES, 0)) {
            cp_page_map_unfix(fix);
            continue;
        }
        /* release: pairs with the acquire in cp_pin_search */
        __atomic_store_n(fix->slot, 0, __ATOMIC_RELEASE);
        fix->data = NULL;
    }
    /* One look for waiting writers after all the stores, as cp_pin_release does after each. */
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (__builtin_expect(__atomic_load_n(&own->watchers, __ATOMIC_RELAXED) != 0, 0))
        cp_pin_wake(own);
}

/* ---- writing back -------------------------------------------------------------------------------
 */

/* How many pages of a file are dirty, about. Any thread, cheap. */
CP_API uint64_t cp_bufpool_dirty_pages(const struct cp_bufpool_file *file);

/*
 * Write every dirty page of a file back, in page order, neighbours merged; pages dirtied meanwhile
 * may or may not be included. Does not sync the file. Errors: CP_EGATE, -ENOSPC, -EIO ...: what
 * could not be written stays dirty and resident. Waits for latches held exclusively.
 */
CP_API int cp_bufpool_flush(struct cp_bufpool_file *file) CP_MUST_CHECK;

/*
 * The same for somebody who is in no hurry, with few writes in flight at a time. pace is called
 * after each batch, with about how many of the pages that were dirty at the beginning it has
 * passed, and how many these were; it may sleep, and may use the pool: the flush holds
 * nothing meanwhile.
 */
CP_API int cp_bufpool_flush_paced(struct cp_bufpool_file *file,
                                  void (*pace)(void *ctx, uint64_t done, uint64_t total),
                                  void *ctx) CP_MUST_CHECK;

/*
 * A cleaner's step: when fewer than an eighth of the pages are clean, and until a quarter is, write
 * a batch of dirty ones back, those that are not in use first, sorted and merged. So that a miss
 * finds a clean victim and waits neither for a write nor for the log. Returns how many pages were
 * written, 0 when there is nothing to do or nothing that could be done now; -EAGAIN when the log
 * has to be made durable first (it is not waited for, since the pages would be held meanwhile);
 * -EIO, -ENOSPC and the like, or what before_write says. Waits for its writes, so it is for a
 * thread that has nothing else to do and holds no page.
 */
CP_API int cp_bufpool_clean(struct cp_bufpool *pool);

/*
 * Drop the pages first .. first+count-1 without writing them, dirty or not. CP_EPINNED when one of
 * them is fixed; those before it are gone. For pages that were freed, or a file that was cut.
 */
CP_API int cp_bufpool_discard(struct cp_bufpool_file *file, uint64_t first,
                              uint64_t count) CP_MUST_CHECK;

/*
 * Is a page fixed by somebody? Finishes I/O under way on it first, and gives an evictor that has it
 * in its hands a moment. The answer may be old when it arrives.
 */
CP_API bool cp_bufpool_is_fixed(struct cp_bufpool_file *file, uint64_t page);

/* ---- looking ------------------------------------------------------------------------------------
 */

#define CP_BUFPOOL_SIZE_STEPS 8u /* of the working-set estimate: each an eighth of the pool */

struct cp_bufpool_stats {
    /* events since creation */
    uint64_t hits, misses;             /* fixes and copying reads that found the page, or did not */
    uint64_t optimistic_retries;       /* copying reads that had to begin again */
    uint64_t evictions, evicted_dirty; /* victims; of these, dirty when chosen */
    uint64_t pages_read, pages_written, reads, writes; /* pages, and requests that moved them */
    uint64_t pages_merged;                             /* written in a request with a neighbour */
    uint64_t read_errors, write_errors, verify_errors;
    uint64_t latch_waits, load_waits, write_waits, frame_waits; /* times a thread had to wait for
                                 a latch, a read under way, a write-back, any frame at all */
    uint64_t gate_calls, gate_failures;                         /* make_durable */
    uint64_t sweep_steps;                                       /* slots the policy looked at */
    uint64_t table_punched;    /* groups of the page table given back */
    uint64_t extents_released; /* pieces of the frame memory given back */
    uint64_t pages_cleaned;    /* of pages_written, by cp_bufpool_clean */
    uint64_t scan_pages;       /* handed out by scans that had read them */
    uint64_t scan_waits;       /* times a scan's reader waited for a page that was being read */
    uint64_t scan_reused;      /* frames that scans took from their own pages */
    /*
     * The working set, as the policy's memory of evicted pages sees it. ghost_hits[k] counts the
     * misses of pages after whose eviction between k/8 and (k+1)/8 of the pool had been missed: a
     * pool so much larger might still have had them. miss_ratio_at[k] is what follows for a pool of
     * 1 + k/8 times the size, [0] being the measured misses / (hits + misses), [8] twice the size.
     * An estimate since creation (take differences of the counts for a shorter time), and no
     * promise: accesses that no counter sees (cp_optimistic_begin) are missing, discarded pages
     * leave nothing behind, and of a loop longer than twice the pool a larger pool would keep more
     * than this shows. docs/adr/0009 compares it with what such pools do.
     */
    uint64_t ghost_hits[CP_BUFPOOL_SIZE_STEPS];
    double miss_ratio_at[CP_BUFPOOL_SIZE_STEPS + 1];
    /* now */
    uint64_t budget_bytes, used_bytes, peak_bytes;                 /* used never exceeds budget */
    uint64_t frame_bytes;                                          /* committed for frames */
    uint64_t frame_used_bytes;                                     /* of these, holding a page */
    uint64_t descriptor_bytes, table_bytes, io_bytes, fixed_bytes; /* the rest of used_bytes */
    uint64_t pages_resident, pages_dirty, reads_in_flight, writes_in_flight;
    uint64_t huge_bytes;  /* frame memory on huge pages (reads /proc: slow), see flags */
    double fragmentation; /* of the free frame memory, as cp_buddy_stats says */
    /* choices made at creation */
    uint32_t ring_count;
    uint64_t registered_bytes;  /* of the frames, see register_buffers */
    const char *buffers_reason; /* static storage */
    const char *io_backend;     /* static storage */
};

#define CP_BUFPOOL_STATS_HUGE 1u /* fill huge_bytes */

/* In a forked child, which waits for no lock, all but counts of events is 0; the texts say why. */
CP_API void cp_bufpool_stats(struct cp_bufpool *pool, uint32_t flags,
                             struct cp_bufpool_stats *out_stats);

/* One page that is fixed or under I/O. Owner and age are known with track_pins only. */
struct cp_pin {
    const char *path; /* borrowed until the file is detached */
    uint64_t page;
    uint32_t mode;     /* enum cp_latch_mode */
    uint32_t count;    /* holders (1 for each entry with track_pins) */
    int32_t owner_tid; /* kernel thread id, 0 when not tracked */
    uint64_t age_ns;   /* since the fix, 0 when not tracked */
};

/* Fill pins with up to capacity entries, oldest first when tracked. Returns how many exist; 0 in a
 * forked child. */
CP_API uint32_t cp_bufpool_list_pins(struct cp_bufpool *pool, struct cp_pin *pins,
                                     uint32_t capacity);

/*
 * Finish the I/O under way and walk the pool's invariants (bufpool/README.md). No page may be fixed
 * and no other call may run. For tests and debugging. 0, or -EINVAL with a description.
 */
CP_API int cp_bufpool__check(struct cp_bufpool *pool) CP_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
