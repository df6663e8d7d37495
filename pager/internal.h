/* SPDX-License-Identifier: MIT */
/*
 * The pager's own state, shared by its files. README.md has the invariants and the locks.
 *
 * Lock order: sync_mutex, alloc_mutex, superblock_mutex, latches of space-map pages, the engine's.
 */
#ifndef CP_PAGER_INTERNAL_H
#define CP_PAGER_INTERNAL_H

#include "engine.h"

#include <pthread.h>
#include <stdatomic.h>
#include <clockpool/base/thread.h>

/* Growth of the file: an eighth of its size, within these bounds (bytes). */
#define CP_PAGER_GROW_MIN_BYTES (UINT64_C(1) << 20)
#define CP_PAGER_GROW_MAX_BYTES (UINT64_C(64) << 20)

/* The lock file: who holds the store. The descriptor stays open as long as the lock is held. */
struct cp_store_lock {
    int fd; /* -1: none */
};

/* What the space map knows without looking at its pages. Guarded by alloc_mutex. */
struct cp_space_map {
    uint32_t *free_counts; /* of each span, pages beyond page_count included; owned */
    uint64_t span_count;
    uint64_t span_capacity; /* elements of free_counts */
    uint64_t lowest_span;   /* no span before this one has a free page */
    uint64_t free_total;    /* sum of free_counts */
};

struct cp_pager {
    /* Set at open, then constant. */
    struct cp_pager_engine *engine;    /* owned */
    struct cp_bufpool_file *pool_file; /* as the engine's; borrowed from it */
    uint32_t page_size;
    uint32_t payload_size;
    uint64_t first_map_page;
    uint64_t span;         /* pages of a span */
    uint64_t span_inverse; /* with the two below: is a number a multiple of span? */
    uint64_t span_limit;
    uint32_t span_shift;
    bool read_only;
    bool was_unclean;
    struct cp_io *io; /* owned when owns_io */
    bool owns_io;
    struct cp_io_file *file; /* owned */
    struct cp_store_lock lock;
    struct cp_page_format format;
    struct cp_fork_guard fork_guard;
    char *directory; /* owned */
    char *data_path; /* owned */

    /* Read on every fix: page_count - first_map_page. Written under alloc_mutex, release; readers
     * acquire, so that the file and the space map reach as far as it says. */
    _Atomic uint64_t count_from_map;

    /* The store has been written to: its superblock on disk says unclean. Set under
     * superblock_mutex, release. */
    _Atomic bool unclean_written;
    /* A sync failed: no more writes. Never cleared. */
    _Atomic bool failed;

    pthread_mutex_t sync_mutex; /* one sync or check at a time */
    _Atomic uint64_t sync_count;

    pthread_mutex_t alloc_mutex; /* guards the next three; held over reads of map pages */
    struct cp_space_map map;
    uint64_t file_bytes;
    bool trimmed; /* page_count fell since the file was last cut */

    pthread_mutex_t superblock_mutex; /* guards these; held over the superblock's I/O */
    struct cp_superblock superblock;  /* as last written successfully */
    unsigned slot;                    /* where that was */
    void *block;                      /* owned; one aligned block to write from */
};

static inline uint64_t cp_pager__page_count(const struct cp_pager *pager)
{
    /* acquire: pairs with the release in set_page_count */
    return atomic_load_explicit(&pager->count_from_map, memory_order_acquire) +
           pager->first_map_page;
}

/*
 * Is page, counted from the first map page, a map page (a multiple of span)? A multiplication and a
 * rotation instead of a division (Hacker's Delight, 10-17: test for zero remainder).
 */
static inline bool cp_pager__is_map_offset(const struct cp_pager *pager, uint64_t offset)
{
    uint64_t product = offset * pager->span_inverse;
    product = product >> pager->span_shift | product << (-pager->span_shift & 63u);
    return product <= pager->span_limit;
}

/* Can a caller own this page: inside the store and not the pager's? */
static inline bool cp_pager__page_valid(const struct cp_pager *pager, uint64_t page)
{
    uint64_t offset = page - pager->first_map_page; /* wraps around for pages before it */
    return offset < atomic_load_explicit(&pager->count_from_map, memory_order_acquire) &&
           !cp_pager__is_map_offset(pager, offset);
}

/* ---- pager.c ---- */

/*
 * Before any change: 0 when the store may be written to, its superblock on disk then saying
 * unclean; CP_EREADONLY, CP_EFAILED, CP_EFORKED or the error of writing the superblock.
 */
int cp_pager__begin_write(struct cp_pager *pager) CP_MUST_CHECK;
/* CP_EFORKED in a forked child, with its description, 0 elsewhere. */
int cp_pager__check_process(const struct cp_pager *pager) CP_MUST_CHECK;
int cp_pager__no_page(const struct cp_pager *pager, uint64_t page)
    __attribute__((cold)) CP_MUST_CHECK;

/* ---- lock.c ---- */

/* Lock path (made when missing): exclusive for writers. CP_ELOCKED with the holder in the hint. */
int cp_pager__lock_acquire(const char *path, bool read_only,
                           struct cp_store_lock *out_lock) CP_MUST_CHECK;
void cp_pager__lock_release(struct cp_store_lock *lock);

/* ---- store.c ---- */

/*
 * Make sure that the store exists (creating it when the options say so), lock it, open its data
 * file, read and choose the superblock, and compare it with the file and the options. Fills the
 * constant part of the pager and the superblock; on an error everything is closed again.
 */
int cp_pager__store_open(struct cp_pager *pager,
                         const struct cp_pager_options *options) CP_MUST_CHECK;
void cp_pager__store_close(struct cp_pager *pager);
/*
 * Write the next superblock into the other slot and sync the file. superblock_mutex held. A failed
 * sync sets pager->failed.
 */
int cp_pager__superblock_write(struct cp_pager *pager, uint32_t flags,
                               uint64_t page_count) CP_MUST_CHECK;
/* Sync the data file; a failure is for ever. */
int cp_pager__file_sync(struct cp_pager *pager) CP_MUST_CHECK;

/* ---- backup.c ---- */

/*
 * Is somebody copying the store? To be asked after the superblock with the new redo point has
 * become durable and before the log is trimmed up to it; while true, the log must not be trimmed.
 * Three system calls.
 */
bool cp_pager__backup_held(const struct cp_pager *pager);

/* ---- sync.c ---- */

/* The last sync, which leaves the superblock clean and the file without slack. Nothing is fixed. */
int cp_pager__finish(struct cp_pager *pager) CP_MUST_CHECK;

/* ---- spacemap.c: all with alloc_mutex held, except load ---- */

/* Read the space map when the store is opened and set page_count from it. */
int cp_pager__map_load(struct cp_pager *pager) CP_MUST_CHECK;
void cp_pager__map_fini(struct cp_pager *pager);
/* Find count free neighbours, make the file reach them, mark them allocated. */
int cp_pager__map_allocate(struct cp_pager *pager, uint64_t count,
                           uint64_t *out_first) CP_MUST_CHECK;
/* Mark pages free. CP_ENOPAGE when one of them is free already: then nothing has changed. */
int cp_pager__map_free(struct cp_pager *pager, uint64_t first, uint64_t count) CP_MUST_CHECK;
/* Are all of these pages allocated to callers? 1, 0 or a negative code. */
int cp_pager__map_test(struct cp_pager *pager, uint64_t first, uint64_t count) CP_MUST_CHECK;
/* Lower page_count past the free pages at the end and drop them from the cache. */
int cp_pager__map_trim(struct cp_pager *pager) CP_MUST_CHECK;

#endif
