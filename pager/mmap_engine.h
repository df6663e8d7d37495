/* SPDX-License-Identifier: MIT */
/*
 * The mmap engine's own state. engine_mmap.c has the theory.
 *
 * A page's word, from bit 0 (base/latch.h has the first 12):
 *
 *     8 latch, waiters, ref, dirty, biased (unused), 27 version, verified, 24 private frame + 1
 */
#ifndef CP_PAGER_MMAP_ENGINE_H
#define CP_PAGER_MMAP_ENGINE_H

#include "engine.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <clockpool/buddy.h>
#include <clockpool/base/latch.h>
#include <clockpool/base/thread.h>

/* A page's word above its state (base/latch.h): verified, a private frame's number or 0, version.
 */
#define MMAP_VERIFIED    (UINT64_C(1) << CP_WORD_OWNER_SHIFT)
#define MMAP_FRAME_SHIFT (CP_WORD_OWNER_SHIFT + 1u)
#define MMAP_FRAME_BITS  24u
#define MMAP_FRAME_MASK  (((UINT64_C(1) << MMAP_FRAME_BITS) - 1) << MMAP_FRAME_SHIFT)
#define MMAP_FRAMES_MAX  ((UINT64_C(1) << MMAP_FRAME_BITS) - 2)
#define MMAP_VERSION_ONE (UINT64_C(1) << (MMAP_FRAME_SHIFT + MMAP_FRAME_BITS))

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif

/* Pages of one write-back batch; also the depth of the ring that carries it. */
#define MMAP_WRITE_BATCH 64u
/* Pins that can be tracked at a time; beyond that they are only counted. */
#define MMAP_PINS_MAX 4096u

/* A private frame: which page it holds. page is changed under that page's exclusive latch or by its
 * last holder; lsn too. */
struct mmap_frame {
    _Atomic uint64_t page_plus_one; /* 0: free */
    _Atomic uint64_t lsn;
};

/* One thread slot's counts, on a cache line of its own. */
struct mmap_counts {
    _Alignas(64) _Atomic uint64_t hits;
    _Atomic uint64_t misses;
    _Atomic uint64_t fixes;
    _Atomic uint64_t unfixes;
    _Atomic uint64_t retries;
};

struct mmap_pin {
    uint64_t page;
    uint64_t since_ns;
    uint32_t mode; /* 0: free entry */
    int32_t tid;
    uint32_t next_free; /* index plus 1 */
};

struct mmap_write {
    struct cp_io_request request;
    _Atomic uint32_t *remaining;
    uint32_t first, count; /* entries of the batch */
};

struct mmap_entry {
    uint64_t page;
    uint32_t frame;
    bool dirty;
    bool failed;
};

struct mmap_engine {
    struct cp_pager_engine base;

    /* Constant after opening. */
    unsigned char *map;      /* the reservation; the file lies at its start */
    uint64_t reserve_bytes;  /* of map */
    uint64_t system_page;    /* bytes */
    uint64_t *words;         /* page_limit elements */
    unsigned char *frames;   /* private frames: arena base */
    struct mmap_frame *info; /* frame_max elements */
    uint64_t *flush_list;    /* frame_max elements; guarded by flush_mutex */
    uint64_t frame_max;
    uint64_t max_budget_bytes;
    uint64_t extent_bytes; /* of the arena: so much is committed at a time */
    uint32_t page_size;
    uint32_t page_shift;
    int fd; /* owned; of the map */
    enum cp_mmap_advice advice;
    bool track_pins;
    bool in_place;                     /* mmap_in_place.c: no private frames */
    struct cp_engine_ops in_place_ops; /* then: the usual ones, under another name */
    bool has_gate;
    struct cp_lsn_gate gate;
    struct cp_page_format *format; /* borrowed until close */
    struct cp_io_file *file;       /* borrowed until close */
    struct cp_arena *arena;        /* owned */
    struct cp_buddy *buddy;        /* owned */
    struct cp_io_ring *ring;       /* owned; used under write_mutex */
    struct cp_fork_guard fork_guard;

    _Atomic bool no_populate;      /* this kernel has no MADV_POPULATE_READ */
    _Atomic uint64_t mapped_bytes; /* of map, a file lies behind; changed by grow and shrink only */

    pthread_mutex_t flush_mutex;  /* one flush at a time, which waits for latches: before them */
    pthread_mutex_t resize_mutex; /* one resize at a time. After latches, before write_mutex. */
    /*
     * One write-back, discard or budget change at a time. Whoever holds it only tries latches,
     * never waits for one: a thread may come for a frame with a page latched. Held over the writes
     * and the gate call, which is what it serialises.
     */
    pthread_mutex_t write_mutex;
    uint64_t hand; /* next frame the sweep looks at */
    struct mmap_entry batch[MMAP_WRITE_BATCH];
    struct mmap_write writes[MMAP_WRITE_BATCH];
    struct iovec iov[MMAP_WRITE_BATCH];
    _Atomic uint64_t budget_bytes; /* changed under resize_mutex */

    _Atomic uint64_t frame_limit; /* frames within the budget; changed under write_mutex */
    _Atomic uint64_t private_count, dirty_count;
    _Atomic uint64_t pages_written, writes_done, write_errors, verify_errors, frame_waits;

    pthread_mutex_t pin_mutex; /* guards the pin table */
    struct mmap_pin *pins;     /* MMAP_PINS_MAX entries, or NULL */
    uint32_t pin_free;         /* index plus 1 */

    struct mmap_counts counts[CP_THREAD_SLOTS + 1];
};

static inline uint32_t mmap_word_frame(uint64_t word)
{
    return (uint32_t)((word & MMAP_FRAME_MASK) >>
                      MMAP_FRAME_SHIFT); /* 0: none, else its number plus 1 */
}

static inline unsigned char *mmap_frame_at(const struct mmap_engine *engine, uint32_t frame)
{
    return engine->frames + ((uint64_t)frame << engine->page_shift);
}

static inline unsigned char *mmap_map_at(const struct mmap_engine *engine, uint64_t page)
{
    return engine->map + (page << engine->page_shift);
}

/* Change a word that the caller holds exclusively: others only set the waiters bit. */
static inline void mmap_change_held(uint64_t *word, uint64_t clear, uint64_t set)
{
    uint64_t seen = cp_word_load(word);
    while (!cp_word_cas(word, &seen, (seen & ~clear) | set)) /* ends: the bit is set once */
        ;
}

/* Where the page's bytes are, for a holder of its latch. */
static inline unsigned char *mmap_data(const struct mmap_engine *engine, uint64_t page,
                                       uint64_t word)
{
    uint32_t frame = mmap_word_frame(word);
    return frame != 0 ? mmap_frame_at(engine, frame - 1) : mmap_map_at(engine, page);
}

/* The thread's own counter needs no atomic addition; the shared one does. */
static inline void mmap_count(_Atomic uint64_t *counter, unsigned slot)
{
    if (slot != CP_THREAD_SLOT_SHARED)
        atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
                              memory_order_relaxed);
    else
        atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* ---- mmap_map.c: the mapping ---- */

int cp_mmap__map_init(struct mmap_engine *engine,
                      const struct cp_engine_setup *setup) CP_MUST_CHECK;
void cp_mmap__map_fini(struct mmap_engine *engine);
int cp_mmap__map_grow(struct mmap_engine *engine, uint64_t file_bytes) CP_MUST_CHECK;
int cp_mmap__map_shrink(struct mmap_engine *engine, uint64_t file_bytes) CP_MUST_CHECK;
/* Have the kernel bring a page in, so that touching it cannot fault, and verify it. */
int cp_mmap__map_touch(struct mmap_engine *engine, uint64_t page) CP_MUST_CHECK;
int cp_mmap__map_prefetch(struct mmap_engine *engine, const uint64_t *pages, uint32_t count);

/* ---- mmap_scan.c: reading ahead for scans ---- */

void cp_mmap__scan_begin(const struct mmap_engine *engine, uint64_t first, uint64_t count,
                         struct cp_scan *out_scan);
/* Before page scan->next is fixed: have the kernel read what lies ahead of it. */
void cp_mmap__scan_ahead(struct mmap_engine *engine, struct cp_scan *scan);

/* ---- mmap_private.c: private frames ---- */

int cp_mmap__frames_init(struct mmap_engine *engine,
                         const struct cp_engine_setup *setup) CP_MUST_CHECK;
void cp_mmap__frames_fini(struct mmap_engine *engine);
/* A frame for a page that the caller has latched exclusively; may write others back. CP_ENOFRAMES
 * after CP_BUFPOOL_WAIT_LIMIT_MS, or at once when wait is false. */
int cp_mmap__frame_get(struct mmap_engine *engine, uint64_t page, bool wait,
                       uint32_t *out_frame) CP_MUST_CHECK;
/* Give a frame back that no word names any more. */
void cp_mmap__frame_put(struct mmap_engine *engine, uint32_t frame);
int cp_mmap__flush(struct mmap_engine *engine,
                   void (*pace)(void *ctx, uint64_t done, uint64_t total), void *ctx) CP_MUST_CHECK;
int cp_mmap__discard(struct mmap_engine *engine, uint64_t first, uint64_t count) CP_MUST_CHECK;
int cp_mmap__resize(struct mmap_engine *engine, uint64_t budget_bytes) CP_MUST_CHECK;

/* ---- mmap_in_place.c: changes in a shared writable mapping, without private frames ---- */

/* The page is latched exclusively and its word was seen: verify it when nobody has yet. */
int cp_mmap__in_place_take(struct mmap_engine *engine, uint64_t page, uint64_t seen,
                           bool *out_missed) CP_MUST_CHECK;
/* The same for a page that need not be read. */
int cp_mmap__in_place_take_new(struct mmap_engine *engine, uint64_t page) CP_MUST_CHECK;
/* Note the LSN of the latest change in the page's own trailer. Latched exclusively. */
void cp_mmap__in_place_note(struct mmap_engine *engine, uint64_t page, cp_lsn lsn);
/* Before the exclusive latch of a dirty page is let go: make its trailer true. */
void cp_mmap__in_place_seal(struct mmap_engine *engine, uint64_t page);
/* Have the kernel write all that is dirty, and wait for it. */
int cp_mmap__in_place_flush(struct mmap_engine *engine) CP_MUST_CHECK;

/* ---- mmap_pins.c: who holds what ---- */

int cp_mmap__pins_init(struct mmap_engine *engine) CP_MUST_CHECK;
void cp_mmap__pins_fini(struct mmap_engine *engine);
uint32_t cp_mmap__pin_add(struct mmap_engine *engine, uint64_t page, uint32_t mode);
void cp_mmap__pin_remove(struct mmap_engine *engine, uint32_t pin);
uint32_t cp_mmap__list_pins(struct mmap_engine *engine, struct cp_pin *pins, uint32_t capacity);

#endif
