/* SPDX-License-Identifier: MIT */
/*
 * The pager's own state, shared by its files. README.md has the invariants and the locks.
 *
 * Lock order: sync_mutex, latches of callers' pages, alloc_mutex, superblock_mutex, latches of
 * space-map pages, the engine's. table.mutex and background.mutex are leaves.
 */
#ifndef CP_PAGER_INTERNAL_H
#define CP_PAGER_INTERNAL_H

#include "engine.h"
#include "images.h"

#include <pthread.h>
#include <stdatomic.h>
#include <clockpool/wal.h>
#include <clockpool/base/thread.h>

/* Growth of the file: an eighth of its size, within these bounds (bytes). */
#define CP_PAGER_GROW_MIN_BYTES (UINT64_C(1) << 20)
#define CP_PAGER_GROW_MAX_BYTES (UINT64_C(64) << 20)

/* The lock file: who holds the store. The descriptor stays open as long as the lock is held. */
struct cp_store_lock {
    int fd; /* -1: none */
};

/* Changes of a span that mini-transactions have made and not committed: one bit a page. */
struct cp_span_pending {
    uint64_t *taken;  /* reserved: still clear in the map, and not to be given out again; owned */
    uint64_t *doomed; /* to be freed: still set in the map; owned, one allocation with taken */
    uint32_t count;   /* bits set in both; 0: both are NULL */
    uint32_t taken_count;
};

/* What the space map knows without looking at its pages. Guarded by alloc_mutex. */
struct cp_space_map {
    uint32_t *free_counts;           /* of each span, pages beyond page_count included; owned */
    struct cp_span_pending *pending; /* of each span; owned */
    uint64_t *merged;                /* scratch: the bits of a span, taken ones included; owned */
    uint64_t span_count;
    uint64_t span_capacity; /* elements of free_counts and pending */
    uint64_t lowest_span;   /* no span before this one has a free page */
    uint64_t free_total;    /* sum of free_counts */
};

/* A run of pages of one span whose bits a commit changes. */
struct cp_map_op {
    uint64_t first;
    uint32_t count;
    bool set; /* allocate; else free */
};

/* Map pages held while their change is being logged. */
struct cp_map_fix {
    struct cp_fix fix;
    uint64_t span;
};

/* What a recovery at opening did. */
struct cp_recovery_result {
    uint64_t groups, bytes, pages, duration_us;
    uint64_t page_count; /* the store reaches at least this far */
};

/* Mini-transactions under way, for the search for deadlocks. */
struct cp_mtr_table {
    pthread_mutex_t mutex; /* guards all of this, and what mtr.c says */
    struct cp_mtr *active;
    struct cp_mtr *idle; /* ended ones, kept for their memory */
    uint32_t active_count, idle_count;
};

/* The thread that writes checkpoints and flushes relaxed commits: background.c. */
struct cp_background_state {
    pthread_mutex_t mutex; /* guards started, stop, thread, clean_wanted; a leaf */
    pthread_cond_t wake;
    pthread_cond_t progressed; /* a checkpoint ended: those who wait for room look again */
    pthread_t thread;
    bool started, stop;
    bool clean_wanted;      /* misses find few clean pages */
    uint64_t tended_ns;     /* the thread's own: when it last tended in a checkpoint */
    _Atomic bool idle;      /* it sleeps, and relaxed_ms does not limit that: appending calls it */
    _Atomic bool requested; /* a checkpoint was asked for */
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
    bool slot_lost; /* one superblock was damaged: the other may be older than the log reaches */
    bool untorn_writes; /* the device writes pages whole: no images are logged */
    bool direct;        /* the data file bypasses the kernel's cache */
    struct cp_io *io;   /* owned when owns_io */
    bool owns_io;
    struct cp_io_file *file; /* owned */
    struct cp_store_lock lock;
    struct cp_page_format format;
    struct cp_page_images images;
    struct cp_pager_options options; /* defaults filled in; io and strings not to be used */
    struct cp_wal *wal;              /* owned; NULL in a store opened read-only */
    struct cp_fork_guard fork_guard;
    char *directory; /* owned */
    char *data_path; /* owned */
    char *wal_path;  /* owned; the log's directory */

    /* Read on every fix: page_count - first_map_page. Written under alloc_mutex, release; readers
     * acquire, so that the file and the space map reach as far as it says. */
    _Atomic uint64_t count_from_map;

    /* The store has been written to: its superblock on disk says unclean. Set under
     * superblock_mutex, release. */
    _Atomic bool unclean_written;
    /* A sync failed: no more writes. Never cleared. */
    _Atomic bool failed;

    pthread_mutex_t sync_mutex; /* one checkpoint or check at a time */
    _Atomic uint64_t sync_count, checkpoint_count, checkpoint_errors, checkpoint_last_us;
    _Atomic uint64_t checkpoint_paused_us;
    _Atomic uint32_t hurrying;      /* who waits for a checkpoint's end: it makes no pauses then */
    _Atomic uint64_t budget_bytes;  /* as resized last */
    _Atomic cp_lsn redo_lsn;        /* of the checkpoint last published */
    _Atomic uint64_t checkpoint_ns; /* when that was */

    struct cp_mtr_table table;
    _Atomic uint64_t mtr_commits, mtr_aborts, mtr_deadlocks, mtr_waits;
    struct cp_background_state background;
    struct cp_recovery_result recovered;

    pthread_mutex_t alloc_mutex; /* guards the next three; held over reads of map pages */
    struct cp_space_map map;
    uint64_t file_bytes;
    bool trimmed; /* page_count fell since the file was last cut */

    pthread_mutex_t superblock_mutex; /* guards these; held over the superblock's I/O */
    struct cp_superblock superblock;  /* as last written successfully */
    unsigned slot;                    /* where that was */
    bool slot_durable; /* it is on the device: not only read, perhaps from the kernel's cache */
    void *block; /* owned; one aligned block to write from. Until slot_durable: what slot has */
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

/*
 * Append a group to the log. A log that has failed makes the store fail. Errors as cp_wal_append.
 */
int cp_pager__log(struct cp_pager *pager, const struct cp_wal_record *records, uint32_t count,
                  cp_lsn *out_end) CP_MUST_CHECK;
/* Make the log durable; a failure makes the store fail. */
int cp_pager__log_flush(struct cp_pager *pager, cp_lsn upto) CP_MUST_CHECK;

/* Find a free page and keep it from everybody else until it is committed or unreserved; and that.
 * alloc_mutex is taken meanwhile. */
int cp_pager__reserve_page(struct cp_pager *pager, uint64_t *out_page) CP_MUST_CHECK;
void cp_pager__unreserve_page(struct cp_pager *pager, uint64_t page);
/* Fix a reserved page, or one whose bytes do not matter: latched, zeroed, and dirty with the log's
 * present end. What its number was freed by lies before that, so no write of the frame, also of an
 * aborted one, takes the place of bytes that a recovery could need. */
int cp_pager__fix_new(struct cp_pager *pager, uint64_t page, struct cp_fix *out_fix) CP_MUST_CHECK;

/* ---- lock.c ---- */

/* Open a lock file with flags of open(2), never waiting. The descriptor; -EEXIST when something
 * else stands in its place; or what the system says, the error recorded. */
int cp_pager__lock_open(const char *path, int flags) CP_MUST_CHECK;
/* Lock path (made when missing): exclusive for writers. CP_ELOCKED with the holder in the hint. */
int cp_pager__lock_acquire(const char *path, bool read_only,
                           struct cp_store_lock *out_lock) CP_MUST_CHECK;
void cp_pager__lock_release(struct cp_store_lock *lock);
/* Who holds a lock file, as its text says: a process, with its command, or 0 when the text names
 * nobody who lives. */
int64_t cp_pager__lock_holder(int fd, char *out_command, size_t capacity);

/* ---- store.c ---- */

/*
 * Make sure that the store exists (creating it when the options say so), lock it, open its data
 * file, read and choose the superblock, and compare it with the file and the options. Fills the
 * constant part of the pager and the superblock; on an error everything is closed again.
 */
int cp_pager__store_open(struct cp_pager *pager,
                         const struct cp_pager_options *options) CP_MUST_CHECK;
void cp_pager__store_close(struct cp_pager *pager);
/* "parent/.name.tmp-random" beside directory, and the parent. Both are new strings. */
int cp_pager__temporary_beside(const char *directory, char **out_temporary,
                               char **out_parent) CP_MUST_CHECK;
/* The code of what failed in parent: when that is because it is not there, the error says so. */
int cp_pager__explain_parent(const char *parent, int code) CP_MUST_CHECK;
/* Remove a store's files and then its directory, as far as that goes. Nothing to report. */
void cp_pager__store_remove(struct cp_io *io, const char *directory);
/* Read both slots; one that cannot be read is all zeros. */
void cp_pager__superblocks_read(struct cp_io_file *file, struct cp_superblock slots[2]);
/*
 * Write the next superblock into the other slot and sync the file; before the first one, make sure
 * that the present one is on the device. superblock_mutex held. A failed sync sets pager->failed.
 */
int cp_pager__superblock_write(struct cp_pager *pager, uint32_t flags, uint64_t page_count,
                               cp_lsn checkpoint_lsn) CP_MUST_CHECK;
/* The same for a session that is going to write: unclean, with the epoch that its log begins with.
 * The first one makes the store's name durable before. -EOVERFLOW when there is none left. */
int cp_pager__superblock_begin(struct cp_pager *pager) CP_MUST_CHECK;
/* The store could not be opened for code, which is recorded: where a superblock was damaged, say
 * so, because that may be why. Returns the code. */
int cp_pager__blame_slot(const struct cp_pager *pager, int code) CP_MUST_CHECK;
/* Sync the data file; a failure is for ever. */
int cp_pager__file_sync(struct cp_pager *pager) CP_MUST_CHECK;

/* ---- backup.c ---- */

/*
 * Is somebody copying the store? To be asked after the superblock with the new redo point has
 * become durable and before the log is trimmed up to it; while true, the log must not be trimmed.
 * Three system calls.
 */
bool cp_pager__backup_held(const struct cp_pager *pager);

/* ---- checkpoint.c ---- */

/* Give back the log before the redo point of the superblock, which is durable, unless somebody is
 * copying the store. What is given back is known to this session of the log only. */
void cp_pager__log_trim(struct cp_pager *pager);

/* The last checkpoint, which leaves the superblock clean and the file without slack. Nothing is
 * fixed. */
int cp_pager__finish(struct cp_pager *pager) CP_MUST_CHECK;
/* A checkpoint now, unless one is being written: then -EBUSY at once. */
int cp_pager__try_checkpoint(struct cp_pager *pager, bool paced) CP_MUST_CHECK;

/* ---- pace.c: a checkpoint that leaves the device to others ---- */

struct cp_pace {
    struct cp_pager *pager;
    uint64_t begun_ns;
    uint64_t most_ms;    /* that the flush may take, if the log's room does not end before */
    uint64_t debt_bytes; /* log_debt then */
    uint64_t room_bytes; /* that it may grow by meanwhile */
};

void cp_pager__pace_begin(struct cp_pager *pager, struct cp_pace *out_pace);
/* How long the flush may rest now. */
uint64_t cp_pager__pace_rest_ms(const struct cp_pace *pace, uint64_t done, uint64_t total);
/* Called by the flush of the store's thread, which holds sync_mutex (mmap: and flush_mutex). */
void cp_pager__pace(void *ctx, uint64_t done, uint64_t total);
/*
 * How long a flush of total pages that has done so many may rest, in ms: 0 where it is behind.
 * elapsed_ms: since it began; most_ms: how long it may take; grown_bytes: by how much the
 * log's debt has grown since; room_bytes: by how much it may.
 */
uint64_t cp_pager__pace_ms(uint64_t done, uint64_t total, uint64_t elapsed_ms, uint64_t most_ms,
                           uint64_t grown_bytes, uint64_t room_bytes);
/* Take sync_mutex, for somebody who waits for the work to be done. */
void cp_pager__lock_sync(struct cp_pager *pager);
/* Bytes of log that a recovery would have to read now. */
uint64_t cp_pager__log_since_checkpoint(const struct cp_pager *pager);
/* The same at the end of a flush that began now: each dirty page's image comes on top. */
uint64_t cp_pager__log_debt(const struct cp_pager *pager);
/* Make the file reach page_count pages. alloc_mutex held. */
int cp_pager__ensure_file(struct cp_pager *pager, uint64_t page_count) CP_MUST_CHECK;

/* ---- background.c ---- */

void cp_pager__background_init(struct cp_pager *pager);
/* Start the thread, once; without it (refused, or not wanted) callers do the work. */
void cp_pager__background_start(struct cp_pager *pager);
/* For the thread itself, in the middle of a checkpoint: relaxed commits and clean pages. */
void cp_pager__background_tend(struct cp_pager *pager);
/* Sleep for up to wait_ms. False: it is to stop. */
bool cp_pager__background_rest(struct cp_pager *pager, uint64_t wait_ms);
/* The engine is short of clean pages: ctx is the pager. Any thread, whatever it has latched. */
void cp_pager__background_clean(void *ctx);
/* End the thread, if there is one, and wait for it. */
void cp_pager__background_stop(struct cp_pager *pager);
void cp_pager__background_fini(struct cp_pager *pager);
/* After an append: wake the thread when there is work for it. */
void cp_pager__background_notice(struct cp_pager *pager, bool relaxed);
/* Before a mini-transaction: while the log is beyond its limit, wait for a checkpoint (thread) or
 * write it (no thread). others: the caller's thread has other mini-transactions open. */
void cp_pager__background_throttle(struct cp_pager *pager, bool others);

/* ---- recovery.c ---- */

/* Bring the store to the state of the log's end. After the engine was opened, before the map. */
int cp_pager__recover(struct cp_pager *pager) CP_MUST_CHECK;

/* ---- mtr.c ---- */

void cp_pager__mtr_init(struct cp_pager *pager);
/* Is a mini-transaction open? */
bool cp_pager__mtr_any(struct cp_pager *pager);
/* Nothing is active any more. */
void cp_pager__mtr_fini(struct cp_pager *pager);

/* ---- spacemap.c: all with alloc_mutex held, except load and fini ---- */

/* Read the space map when the store is opened and set page_count from it. */
int cp_pager__map_load(struct cp_pager *pager) CP_MUST_CHECK;
void cp_pager__map_fini(struct cp_pager *pager);
/* Set page_count; the file reaches it. */
void cp_pager__set_page_count(struct cp_pager *pager, uint64_t page_count);
/* Find count free neighbours, make the file reach them, and keep them from everybody else until
 * they are committed or unreserved. */
int cp_pager__map_reserve(struct cp_pager *pager, uint64_t count,
                          uint64_t *out_first) CP_MUST_CHECK;
void cp_pager__map_unreserve(struct cp_pager *pager, uint64_t first, uint64_t count);
/* Keep allocated pages from being freed by anybody else. CP_ENOPAGE when one is not allocated, or
 * doomed already: then nothing has changed. */
int cp_pager__map_doom(struct cp_pager *pager, uint64_t first, uint64_t count) CP_MUST_CHECK;
void cp_pager__map_spare(struct cp_pager *pager, uint64_t first, uint64_t count);
/*
 * Commit reserved (set) and doomed (not set) runs, in three steps. apply changes the bits of map
 * pages, which it holds in fixes (room for one for each op; *out_fix_count are used), and describes
 * them in records (room for one for each op; *out_record_count). Ops are sorted by page. Then the
 * caller logs the records with its own. finish lets go, lsn being the group's, or takes all back
 * when lsn is 0: then the ops are reserved and doomed as before.
 */
int cp_pager__map_apply(struct cp_pager *pager, const struct cp_map_op *ops, uint32_t op_count,
                        struct cp_map_fix *fixes, uint32_t *out_fix_count,
                        struct cp_wal_record *records, uint32_t *out_record_count) CP_MUST_CHECK;
void cp_pager__map_finish(struct cp_pager *pager, const struct cp_map_op *ops, uint32_t op_count,
                          struct cp_map_fix *fixes, uint32_t fix_count, cp_lsn lsn);
/* Are all of these pages allocated to callers, doomed ones included? 1, 0 or a negative code. */
int cp_pager__map_test(struct cp_pager *pager, uint64_t first, uint64_t count) CP_MUST_CHECK;
/* Lower page_count past the free pages at the end and drop them from the cache. */
int cp_pager__map_trim(struct cp_pager *pager) CP_MUST_CHECK;
/* Pages of a span that are reserved and not committed. */
uint32_t cp_pager__map_taken(const struct cp_pager *pager, uint64_t span);

#endif
