/* SPDX-License-Identifier: MIT */
/*
 * The pool's inner structures. Who may touch what:
 *
 *   a page's state word    by compare-and-swap, see state.h for the legal transitions
 *   a frame's descriptor   its page fields: whoever holds the word exclusively or loading;
 *                          lsn: written under exclusive, read under shared by the writer
 *   slots[], clock, spares under clock_lock (generation: by the holder of the frame)
 *   extents, arena         under memory_lock
 *   budget, counters       atomics
 *
 * Lock order: budget_lock, resize_lock, memory_lock, clock_lock, then the locks of buddy and slab.
 * None but the first two is held over I/O or a gate call, and none over a wait for a latch.
 */
#ifndef CLOCKPOOL_BUFPOOL_INTERNAL_H
#define CLOCKPOOL_BUFPOOL_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include <clockpool/arena.h>
#include <clockpool/buddy.h>
#include <clockpool/bufpool.h>
#include <clockpool/io.h>
#include <clockpool/slab.h>
#include <clockpool/base/assert.h>
#include <clockpool/base/bits.h>
#include <clockpool/base/error.h>
#include <clockpool/base/latch.h>
#include <clockpool/base/pins.h>
#include <clockpool/base/poison.h>
#include <clockpool/base/probe.h>
#include <clockpool/base/thread.h>

#include "clock.h"
#include "state.h"

#define CP_UNIT_BYTES       CP_BUDDY_UNIT_BYTES /* frames are counted in units of 4 KiB */
#define CP_UNIT_SHIFT       CP_BUDDY_UNIT_SHIFT
#define CP_RINGS_MAX        16u
#define CP_TRANSFER_PAGES   64u  /* pages of one merged read or write */
#define CP_WRITE_BATCH_MAX  128u /* pages claimed for writing at a time */
#define CP_WINDOW_PAGES     128u /* pages of fix_many with one submission: bounds its stack */
#define CP_GROUP_SHIFT      9u   /* words of one group of the page table: one 4 KiB page */
#define CP_GROUP_WORDS      (1u << CP_GROUP_SHIFT)
#define CP_FRAME_BITS_MIN   22u
#define CP_EXTENT_UNITS_MAX 512u /* units of the largest extent, 2 MiB */
#define CP_ORDERS           5u   /* sizes of pages, 4 to 64 KiB */
#define CP_VICTIMS_MAX      16u  /* pages that one sweep evicts: they share a barrier and a lock */
/* cp_fix.pin of a page in a slot where frames are poisoned: cp_page_map_unfix takes the long way.
 */
#define CP_PIN_SHIELDED UINT32_MAX
/* Bytes of metadata that a committed unit may need: descriptor 64, slot 8, clock 9 1/8 and its
 * ghosts 4, buddy 16. */
#define CP_UNIT_OVERHEAD 102u

/*
 * For code that reads frames without a latch: ThreadSanitizer looks away, because it takes the
 * system call that fills a frame for plain stores. (clang's no_sanitize keeps watching atomics.)
 */
#if defined(__SANITIZE_THREAD__)
#define CP_UNWATCHED __attribute__((noinline, no_sanitize("thread")))
#elif defined(__clang__)
#if __has_feature(thread_sanitizer)
#define CP_UNWATCHED __attribute__((noinline, disable_sanitizer_instrumentation))
#endif
#endif
#ifndef CP_UNWATCHED
#define CP_UNWATCHED
#endif

/* Test hooks: points in the code at which a test may act. Compiled out everywhere else. */
#ifdef CP_TEST_HOOKS
extern void (*cp_bufpool__hook)(const char *point, struct cp_bufpool_file *file, uint64_t page);
#define CP_HOOK(point, file, page)                                                                 \
    (cp_bufpool__hook != NULL ? cp_bufpool__hook((point), (file), (page)) : (void)0)
#else
#define CP_HOOK(point, file, page) ((void)0)
#endif

/* A frame's descriptor: one cache line, from a slab. */
struct cp_frame {
    _Atomic(uint64_t *) word; /* state word of the page it holds, NULL when it holds none */
    struct cp_bufpool_file *file;
    uint64_t page;
    _Atomic cp_lsn lsn; /* largest LSN of a change since the page was last written */
    uint32_t unit;      /* first unit of the frame */
    uint32_t order;     /* it has 1 << order units */
    /* 1 while somebody has claimed the page for writing: set and cleared under a shared hold */
    _Atomic uint32_t writing;
    uint32_t place; /* enum cp_clock_place: where the page to come belongs, 0 when not asked yet */
    uint32_t fetched; /* 1 when nobody has asked for the page that comes: prefetch */
    uint32_t entered; /* 1 when the policy has the page that comes at its place already */
    uint32_t reserved[2];
};
_Static_assert(sizeof(struct cp_frame) == 64, "a descriptor is one cache line");

/* What is known about a unit for ever, whether it holds a frame or not. */
struct cp_slot {
    uint32_t frame;      /* descriptor's index plus 1 where a frame begins here, else 0 */
    uint32_t generation; /* version last used by a page in this frame: never repeats in sequence */
};

/* struct cp_ticket.state, see ticket.c. */
enum cp_ticket_state {
    CP_TICKET_DONE = 0,
    CP_TICKET_FIXED,
    CP_TICKET_LOADING,
    CP_TICKET_RETRY,
    CP_TICKET_FAILED,
};

enum cp_counter {
    CP_COUNT_HITS,
    CP_COUNT_MISSES,
    CP_COUNT_OPTIMISTIC_RETRIES,
    CP_COUNT_EVICTIONS,
    CP_COUNT_EVICTED_DIRTY,
    CP_COUNT_PAGES_READ,
    CP_COUNT_PAGES_WRITTEN,
    CP_COUNT_READS,
    CP_COUNT_WRITES,
    CP_COUNT_PAGES_MERGED,
    CP_COUNT_READ_ERRORS,
    CP_COUNT_WRITE_ERRORS,
    CP_COUNT_VERIFY_ERRORS,
    CP_COUNT_LATCH_WAITS,
    CP_COUNT_LOAD_WAITS,
    CP_COUNT_WRITE_WAITS,
    CP_COUNT_FRAME_WAITS,
    CP_COUNT_GATE_CALLS,
    CP_COUNT_GATE_FAILURES,
    CP_COUNT_SWEEP_STEPS,
    CP_COUNT_TABLE_PUNCHED,
    CP_COUNT_EXTENTS_RELEASED,
    CP_COUNT_PAGES_CLEANED,
    CP_COUNT_SCAN_PAGES,
    CP_COUNT_SCAN_WAITS,
    CP_COUNT_SCAN_REUSED,
    CP_COUNTERS,
};

/* One thread's counters, apart from the others' in the cache, at the distance of pin blocks. */
struct cp_counters {
    _Alignas(CP_PIN_BLOCK_BYTES) _Atomic uint64_t value[CP_COUNTERS];
};
_Static_assert(sizeof(struct cp_counters) == CP_PIN_BLOCK_BYTES, "see cp_page_map.hits");

/* Purposes of the budget. */
enum cp_purpose {
    CP_FOR_FRAMES,
    CP_FOR_DESCRIPTORS,
    CP_FOR_TABLE,
    CP_FOR_IO,
    CP_FOR_FIXED,
    CP_PURPOSES,
};

struct cp_budget {
    _Atomic uint64_t limit_bytes;
    _Atomic uint64_t used_bytes; /* never above limit, except while a shrink is under way */
    _Atomic uint64_t peak_bytes;
    _Atomic uint64_t by_purpose[CP_PURPOSES];
};

struct cp_write_wait;

/* A read or write under way of up to CP_TRANSFER_PAGES consecutive pages. */
struct cp_transfer {
    struct cp_io_request request;
    struct cp_write_wait *wait; /* writes: who waits, or NULL */
    struct cp_transfer *next;   /* while free */
    struct cp_bufpool *pool;
    struct cp_bufpool_file *file;
    uint64_t first_page;
    uint32_t count;
    uint32_t ring; /* reads */
    struct cp_frame *frames[CP_TRANSFER_PAGES];
    struct cp_ticket *tickets[CP_TRANSFER_PAGES]; /* reads: who gets the page, NULL for nobody */
    struct iovec iov[CP_TRANSFER_PAGES];
};

struct cp_pin_entry {
    struct cp_bufpool_file *file;
    uint64_t page;
    uint64_t since_ns;
    uint32_t mode;
    int32_t owner_tid;
    uint32_t next_free;
    bool used;
};

struct cp_bufpool_file {
    /* The hit path needs one cache line: */
    _Alignas(64) struct cp_page_map map;
    struct cp_bufpool *pool;
    uint64_t version_one; /* as the pool's */
    bool track_pins;
    bool biased; /* readers may use pin slots; as the pool's */
    /* The rest. */
    struct cp_page_map shared_map; /* what callers get: without pages where readers need latches */
    struct cp_io_file *io_file;
    const char *path;
    uint32_t page_size;
    uint32_t order; /* of its frames */
    struct cp_lsn_gate gate;
    bool has_gate;
    bool untorn_writes;
    int (*verify)(void *ctx, void *data, uint64_t page);
    int (*before_write)(void *ctx, void *data, uint64_t page, cp_lsn *inout_lsn);
    void (*seal)(void *ctx, void *data, uint64_t page, cp_lsn lsn);
    void *ctx;
    /* page table, see table.c */
    _Atomic uint32_t *groups; /* one a group: references and flags */
    _Atomic uint8_t *supers;  /* one a page of groups[]: 1 when that page is paid for */
    uint64_t group_count;
    uint64_t words_bytes, groups_bytes, supers_bytes; /* address space of the three */
    _Atomic uint64_t dirty_pages;
    _Atomic int write_error; /* last failed write-back, cleared by a flush that starts */
    _Atomic uint32_t drops;  /* evictions under way that still touch this file */
    uint32_t index;          /* in pool->files */
    uint64_t first_key;      /* to the policy, a page's name is first_key + page */
};

/* Frames of one size without a page, kept for the next misses (evict.c). */
struct cp_spares {
    uint32_t count;
    struct cp_frame *frames[CP_VICTIMS_MAX];
};

/* What a pass over an extent found (memory.c). */
struct cp_extent_pass {
    struct cp_frame *clean[CP_EXTENT_UNITS_MAX]; /* claimed exclusively */
    struct cp_frame *dirty[CP_WRITE_BATCH_MAX];  /* claimed shared, to be written */
    uint32_t clean_count, dirty_count;
    uint32_t busy_count; /* pinned, under I/O, or between two owners */
    bool clean_only;     /* set by the caller: leave dirty pages alone */
};

struct cp_bufpool {
    struct cp_bufpool_options options;
    struct cp_io *io;
    unsigned char *base;  /* of the arena */
    uint64_t frame_mask;  /* of a word: the frame's number, in its place as an offset in bytes */
    uint64_t version_one; /* a word's version begins with this bit */
    uint32_t version_shift;
    struct cp_slot *slots;   /* one a unit; borrowed address space, see memory.c */
    struct cp_frame *frames; /* base of the slab: index -> descriptor */
    struct cp_fork_guard fork_guard;
    bool biased; /* readers may use pin slots */

    struct cp_arena *arena;
    struct cp_buddy *buddy;
    struct cp_slab *frame_slab;
    struct cp_slab *transfer_slab;
    uint32_t transfer_limit;
    pthread_mutex_t transfers_lock; /* guards: transfers_free; a leaf */
    struct cp_transfer *transfers_free;
    uint64_t extent_bytes, extent_cost_bytes;
    uint32_t extent_limit;
    uint32_t unit_limit;
    void *clock_memory; /* reserved address space, as slots */
    uint64_t slots_bytes, clock_memory_bytes;

    pthread_mutex_t memory_lock; /* guards: the extents, what is registered, resizes */
    uint8_t *extents_committed;  /* one byte an extent */
    uint32_t extent_count;       /* committed */
    uint32_t extent_free;        /* all below it are committed */
    _Atomic uint32_t extent_end; /* none is committed from here on; read without the lock too */
    uint8_t *pieces_registered; /* one byte a piece of piece_extents extents; NULL: none shall be */
    uint32_t piece_extents;
    bool registering_refused;

    pthread_mutex_t budget_lock; /* serialises resizes: one sets the limit and may put it back */

    pthread_mutex_t resize_lock; /* serialises those who empty extents; guards: extent_pass */
    struct cp_extent_pass extent_pass;

    pthread_mutex_t clock_lock; /* guards: clock, slots[].frame, clean_hand, spares */
    struct cp_clock clock;
    struct cp_spares spares[CP_ORDERS];
    uint32_t clean_hand; /* unit where the next batch is looked for */

    _Atomic bool cleaning;       /* between the low watermark and the high one */
    _Atomic bool asked_to_clean; /* short_of_clean was called and not answered yet */

    struct cp_budget budget;

    uint32_t ring_count;
    struct cp_io_ring *rings[CP_RINGS_MAX];
    struct cp_io_ring *write_ring;
    uint32_t write_batch_pages;
    _Atomic uint32_t transfers_reading;
    _Atomic int64_t free_units; /* in the buddy; a moment's error is harmless */
    _Atomic uint64_t pages_resident, pages_dirty;
    _Atomic uint64_t reads_in_flight, writes_in_flight; /* pages */
    _Atomic uint64_t writes_claimed;    /* pages: those in flight, and before that in the gate */
    _Atomic uint64_t write_completions; /* requests, failed ones included */

    pthread_mutex_t files_lock; /* guards: files, attach_count */
    struct cp_bufpool_file *files[CP_BUFPOOL_FILES_MAX];
    uint64_t attach_count; /* files attached since creation */

    pthread_mutex_t pins_lock; /* guards: pins, pins_free */
    struct cp_pin_entry *pins; /* with track_pins */
    uint32_t pin_limit, pins_free;

    struct cp_counters counters[CP_THREAD_SLOTS + 1];
};

/* ---- small helpers -----------------------------------------------------------------------------
 */

static inline void cp_bufpool__count(struct cp_bufpool *pool, enum cp_counter counter, uint64_t n)
{
    unsigned slot = cp_thread_slot();
    _Atomic uint64_t *value = &pool->counters[slot].value[counter];
    if (__builtin_expect(slot < CP_THREAD_SLOTS, 1)) /* ours alone: no locked instruction */
        atomic_store_explicit(value, atomic_load_explicit(value, memory_order_relaxed) + n,
                              memory_order_relaxed);
    else
        atomic_fetch_add_explicit(value, n, memory_order_relaxed);
}

/* The ring that the calling thread puts its reads on. */
static inline uint32_t cp_bufpool__own_ring(const struct cp_bufpool *pool)
{
    return cp_thread_slot() % pool->ring_count;
}

static inline uint64_t cp_bufpool__frame_number(const struct cp_bufpool *pool, uint64_t word)
{
    return (word & pool->frame_mask) >> CP_UNIT_SHIFT;
}

static inline uint32_t cp_bufpool__unit_of(const struct cp_bufpool *pool, uint64_t word)
{
    return (uint32_t)cp_bufpool__frame_number(pool, word) - 1;
}

static inline unsigned char *cp_bufpool__unit_data(const struct cp_bufpool *pool, uint32_t unit)
{
    return pool->base + ((uint64_t)unit << CP_UNIT_SHIFT);
}

/* No frame begins at this unit or after it, for a moment: for who goes round them. */
static inline uint32_t cp_bufpool__unit_end(const struct cp_bufpool *pool)
{
    return atomic_load_explicit(&pool->extent_end, memory_order_relaxed) *
           (uint32_t)(pool->extent_bytes >> CP_UNIT_SHIFT);
}

static inline uint64_t cp_frame__bytes(const struct cp_frame *frame)
{
    return CP_UNIT_BYTES << frame->order;
}

/* The descriptor of the frame a held word names; only for whoever holds the word. */
static inline struct cp_frame *cp_bufpool__frame_of(const struct cp_bufpool *pool, uint64_t word)
{
    uint32_t index = pool->slots[cp_bufpool__unit_of(pool, word)].frame;
    cp_debug_assert(index != 0);
    return &pool->frames[index - 1];
}

static inline uint64_t cp_bufpool__word_version(const struct cp_bufpool *pool, uint64_t word)
{
    return word >> pool->version_shift;
}

/* A word for a page in frame, with the given version (or, while loading, ring number plus 1). */
static inline uint64_t cp_bufpool__make_word(const struct cp_bufpool *pool, uint32_t unit,
                                             uint64_t version, unsigned latch)
{
    return ((uint64_t)(unit + 1) << CP_UNIT_SHIFT) | (version << pool->version_shift) | latch;
}

/* The page's name to the policy. For who holds its word, or is about to. */
static inline uint64_t cp_bufpool__key(const struct cp_bufpool_file *file, uint64_t page)
{
    return file->first_key + page;
}

/* CP_EFORKED with its description, or 0. */
int cp_bufpool__check_process(const struct cp_bufpool *pool);

/* ---- counters.c --------------------------------------------------------------------------------
 */

uint64_t cp_counters__sum(const struct cp_bufpool *pool, enum cp_counter counter);

/* ---- budget.c ----------------------------------------------------------------------------------
 */

bool cp_budget__take(struct cp_budget *budget, enum cp_purpose purpose, uint64_t bytes);
void cp_budget__give(struct cp_budget *budget, enum cp_purpose purpose, uint64_t bytes);

/* ---- table.c -----------------------------------------------------------------------------------
 */

int cp_table__create(struct cp_bufpool_file *file, uint64_t max_pages);
void cp_table__destroy(struct cp_bufpool_file *file);
/*
 * Pay for the group of a page and hold it: required before an absent word may be locked. Whoever
 * may wait for memory holds no frame without a page meanwhile: nobody could take that from him.
 * -EAGAIN where may_wait is false and extents would have to be emptied.
 */
int cp_table__enter(struct cp_bufpool_file *file, uint64_t page, bool may_wait);
/* Let go of a hold: the entry's own after its word became 0, or one that was not needed. */
void cp_table__leave(struct cp_bufpool_file *file, uint64_t page);
/* Give back every group that nobody holds. Returns the bytes. */
uint64_t cp_table__trim(struct cp_bufpool_file *file);
/* First page >= page whose group is paid for, or UINT64_MAX: to walk what may be resident. */
uint64_t cp_table__next(const struct cp_bufpool_file *file, uint64_t page);

/* ---- register.c --------------------------------------------------------------------------------
 */

/* Prepare for registering, and tell the rings, where it is wished. */
int cp_register__create(struct cp_bufpool *pool, struct cp_io_ring_options *ring);
void cp_register__destroy(struct cp_bufpool *pool);
/* The extent was committed, or will be given back. Under memory_lock. */
void cp_register__extent(struct cp_bufpool *pool, uint32_t extent);
void cp_register__let_go(struct cp_bufpool *pool, uint32_t extent);

/* ---- memory.c ----------------------------------------------------------------------------------
 */

int cp_memory__create(struct cp_bufpool *pool);
void cp_memory__destroy(struct cp_bufpool *pool);
/* A frame of free memory, growing by an extent where the budget allows; NULL when there is none. */
struct cp_frame *cp_memory__frame_alloc(struct cp_bufpool *pool, uint32_t order);
/*
 * As many frames as there is free memory for, at most count, in as few contiguous pieces as there
 * can be, lowest address first within each. Returns how many.
 */
uint32_t cp_memory__run_alloc(struct cp_bufpool *pool, uint32_t order, uint32_t count,
                              struct cp_frame **out_frames);
/* Return a frame that holds no page. */
void cp_memory__frame_free(struct cp_bufpool *pool, struct cp_frame *frame);
/* Give the spares back to the allocator. False: there were none. */
bool cp_memory__free_spares(struct cp_bufpool *pool);
/* Release empty groups and extents until the use is at most target_bytes. 0, CP_EPINNED,
 * CP_ETIMEDOUT, or a write error. */
int cp_memory__shrink(struct cp_bufpool *pool, uint64_t target_bytes);
/*
 * One pass over count units from first: drop what is clean, write what is dirty. 0 when all of it
 * was free then, -EAGAIN when something was in use, or a write error.
 */
int cp_memory__empty_units(struct cp_bufpool *pool, uint32_t first, uint32_t count,
                           struct cp_extent_pass *pass);
/* Pay for metadata, at the cost of frames if need be. */
int cp_memory__charge(struct cp_bufpool *pool, enum cp_purpose purpose, uint64_t bytes);

/* ---- evict.c -----------------------------------------------------------------------------------
 */

/*
 * A frame for a page of file that is missed: a free one, or a victim's. Waits for I/O only when no
 * clean victim is.
 */
int cp_evict__acquire(struct cp_bufpool_file *file, uint64_t page, bool fetched,
                      struct cp_frame **out_frame);
/* The same, without waiting for anything: -EAGAIN. */
int cp_evict__try_acquire(struct cp_bufpool_file *file, uint64_t page, bool fetched,
                          struct cp_frame **out_frame);
/* The same for a page that the policy is not to be asked about: place and fetched are the caller's
 * to set, or the policy is asked when the page is claimed. */
int cp_evict__try_frame(struct cp_bufpool *pool, uint32_t order, struct cp_frame **out_frame);
/* The frame's page is about to come: enter it with the policy, unless that has been done. */
void cp_evict__enter(struct cp_bufpool *pool, struct cp_frame *frame);
/* Detach the page from a frame whose word the caller holds exclusively or loading. */
void cp_evict__drop_page(struct cp_bufpool *pool, struct cp_frame *frame);
/*
 * Clear the aligned block of 1 << order units around unit, so that it can coalesce. Whoever may not
 * wait leaves the dirty pages in it. 0 also when something in use was left; or a write error.
 */
int cp_evict__gather(struct cp_bufpool *pool, uint32_t unit, uint32_t order, bool may_wait);
/* Claim the page at word exclusively for dropping, waiting for I/O. 0, or CP_EPINNED. */
int cp_evict__claim(struct cp_bufpool_file *file, uint64_t page, struct cp_frame **out_frame);

/* ---- writeback.c -------------------------------------------------------------------------------
 */

/* What the gate may cost the caller. */
enum cp_gate_use {
    CP_GATE_SKIP,    /* nothing: frames whose log is not durable are let go */
    CP_GATE_IF_NONE, /* a wait, but only when no frame's log is durable already */
    CP_GATE_ALL,     /* a wait for the largest LSN of the batch */
};

/* For a caller that waits for its writes; lives until cp_writeback__wait returns. */
struct cp_write_wait {
    _Atomic uint32_t pending; /* requests */
    _Atomic uint32_t written; /* pages that became clean */
    _Atomic int error;        /* first failed write, or 0 */
};

/*
 * Start writing count dirty frames that the caller has claimed; the claims pass to the writes.
 * wait may be NULL. Returns 0 or the gate's failure; frames that were not written are let go.
 */
int cp_writeback__start(struct cp_bufpool *pool, struct cp_frame **frames, uint32_t count,
                        enum cp_gate_use gate_use, struct cp_write_wait *wait);
/*
 * Claim a dirty page, found as `seen`, for writing: a shared hold, and the right to be its only
 * writer. False when the word has changed or somebody else writes it.
 */
bool cp_writeback__claim(struct cp_bufpool *pool, uint64_t *word, uint64_t seen);
/* Give a claim up without having written. */
void cp_writeback__let_go(struct cp_bufpool *pool, struct cp_frame *frame);
/* Wait until at most `left` of the requests are pending. Returns wait->error, recorded. */
int cp_writeback__wait_left(struct cp_bufpool *pool, struct cp_write_wait *wait, uint32_t left);
int cp_writeback__wait(struct cp_bufpool *pool, struct cp_write_wait *wait);
/* Wait until some write completes that is in flight, or none is. */
void cp_writeback__wait_any(struct cp_bufpool *pool);

/* ---- clean.c -----------------------------------------------------------------------------------
 */

/* After an eviction: see that there will be clean victims. Waits for nothing. */
void cp_clean__after_miss(struct cp_bufpool *pool);

/* ---- bias.c ------------------------------------------------------------------------------------
 */

/* The caller has counted itself as a reader of page: should the next ones use slots? Returns 0. */
int cp_bias__consider(struct cp_bufpool_file *file, uint64_t page);
/*
 * After count (at most 64) words were swapped from free to exclusive: find out which of them are
 * the caller's. The mask names those that readers hold in slots: they are free again, with the
 * marks added. Words that are not biased are the caller's anyway and cost nothing. Waits for
 * nobody.
 */
uint64_t cp_bias__settle(uint64_t *const *words, uint32_t count, uint64_t marks);
bool cp_bias__settle_one(uint64_t *word);
/* Wait until a reader lets go that holds the free word in a slot. */
void cp_bias__wait(struct cp_bufpool *pool, uint64_t *word);

/* ---- load.c ------------------------------------------------------------------------------------
 */

/* Publish a page that was read into frame (word is loading) with the given latch, or fail it. */
void cp_load__publish(struct cp_bufpool *pool, struct cp_frame *frame, unsigned latch);
void cp_load__fail(struct cp_bufpool *pool, struct cp_frame *frame);
/*
 * Lock an absent word, whose group the caller has entered, for frame: the hold is the word's then.
 * False when somebody else came first; hold and frame are then still the caller's. ring_plus_one:
 * who reaps the read, 0 for the caller itself.
 */
bool cp_load__claim(struct cp_bufpool_file *file, uint64_t page, struct cp_frame *frame,
                    uint32_t ring_plus_one);
/* Read one page synchronously into its claimed frame and verify it. */
int cp_load__read_now(struct cp_bufpool_file *file, struct cp_frame *frame);

/* A run of adjacent pages being gathered for one read. */
struct cp_load_run {
    struct cp_bufpool_file *file;
    struct cp_transfer *transfer; /* NULL: none begun */
    uint32_t ring;
};
void cp_load__run_init(struct cp_load_run *run, struct cp_bufpool_file *file);
/* Enter the group of page, as cp_table__enter; before a wait the run is submitted. */
int cp_load__run_enter(struct cp_load_run *run, uint64_t page, bool may_wait);
/* Make room for page, putting the run in line when page does not continue it. False: no transfer.
 */
bool cp_load__run_reserve(struct cp_load_run *run, uint64_t page);
/* Append a claimed frame to the room made. ticket: who gets the page, NULL for nobody. */
void cp_load__run_append(struct cp_load_run *run, struct cp_frame *frame, struct cp_ticket *ticket);
/* Put the run in line (without submitting), or forget an empty one. */
void cp_load__run_put(struct cp_load_run *run);
/* Put the run in line and submit it: nothing of ours may stay unsubmitted while we wait. */
void cp_load__run_submit(struct cp_load_run *run);

struct cp_transfer *cp_transfer__alloc(struct cp_bufpool *pool);
void cp_transfer__free(struct cp_transfer *transfer);
void cp_transfer__add_page(struct cp_transfer *transfer, struct cp_frame *frame);
/* May page be appended: is it the next one, and is there room? */
bool cp_transfer__continues(const struct cp_transfer *transfer, const struct cp_bufpool_file *file,
                            uint64_t page);

/* ---- shield.c ----------------------------------------------------------------------------------
 */

/*
 * In builds for AddressSanitizer and valgrind, a frame that nobody has fixed is poisoned. These
 * three stand wherever a hold on a resident page is taken or let go; elsewhere they are the bare
 * latch operations.
 */
void cp_shield__raise(struct cp_bufpool *pool, uint64_t *word, uint64_t held);
void cp_shield__release_shared(struct cp_bufpool *pool, uint64_t *word);
void cp_shield__release_exclusive(struct cp_bufpool *pool, uint64_t *word);
void cp_shield__release_slot(struct cp_bufpool *pool, uint64_t *word, uint64_t *slot);
/* Poison or expose a frame that the caller alone holds. */
void cp_shield__cover(struct cp_bufpool *pool, const struct cp_frame *frame);
void cp_shield__uncover(struct cp_bufpool *pool, const struct cp_frame *frame);

/* ---- fix.c -------------------------------------------------------------------------------------
 */

/* Take the latch of a resident page if that needs no waiting. */
bool cp_fix__try(struct cp_bufpool_file *file, uint64_t page, enum cp_latch_mode mode,
                 struct cp_fix *out_fix);
/*
 * The same, shared, for a scan: without the mark of a use, without a slot, and not counted as a
 * hit, so that a page is as cold afterwards as it was before.
 */
bool cp_fix__try_cold(struct cp_bufpool_file *file, uint64_t page, struct cp_fix *out_fix);
/*
 * The same for many, prefetching the pages; the first `done` of them are fixed already. Returns how
 * many could not be had; out_missing has their indexes.
 */
uint32_t cp_fix__try_many(struct cp_bufpool_file *file, const uint64_t *pages, uint32_t count,
                          uint32_t done, enum cp_latch_mode mode, struct cp_fix *out_fixes,
                          uint32_t *out_missing);
/* Wait until the word may have changed from seen, reaping I/O where that is what it waits for. */
void cp_fix__wait_word(struct cp_bufpool_file *file, uint64_t *word, uint64_t seen);
/* ---- pins.c ------------------------------------------------------------------------------------
 */

int cp_pins__create(struct cp_bufpool *pool);
void cp_pins__destroy(struct cp_bufpool *pool);
uint32_t cp_pins__add(struct cp_bufpool_file *file, uint64_t page, enum cp_latch_mode mode);
void cp_pins__remove(struct cp_bufpool *pool, uint32_t pin);

#endif
