/* SPDX-License-Identifier: MIT */
/*
 * Pager: a store of fixed-size pages in a directory, behind one of two engines.
 *
 *   pool   our own buffer pool over O_DIRECT and io_uring
 *   mmap   the file mapped read-only; changed pages in private frames until they are written
 *
 * Both keep the same promises and pass the same tests. What an engine cannot do (the mmap engine
 * has no asynchronous reads) works all the same, one page at a time, and the statistics say so. One
 * promise the mmap engine cannot keep: where the device fails, or somebody cuts the file, a read of
 * mapped memory that was good before ends the process by SIGBUS.
 *
 * Durability, two ways:
 *
 *   logged     changes made in a mini-transaction (cp_mtr_*): atomic, and durable when the commit
 *              returns or when cp_pager_wait_durable() does. This is the way to use a store.
 *   unlogged   changes made under cp_pager_fix() and told by cp_pager_mark_dirty(): durable at
 *              cp_pager_sync(). After a crash such a page is whole, as it was at the last sync or
 *              at some moment since. For bulk loads and data that can be made again. Allocation and
 *              freeing are logged always.
 *
 * A page with unlogged changes must be synced before a mini-transaction changes it: cp_pager_sync()
 * or cp_pager_checkpoint() has returned. A commit logs only the bytes that it changes. After a
 * crash these may lie over the page as it was at the last sync, or over zeros when it was new: a
 * state that it never had, with a good checksum, and no error says so. The other way round nothing
 * is needed: unlogged changes never cost a commit's.
 *
 * After a crash cp_pager_open() recovers from the log; stats.unclean then says so.
 *
 * A page has page_size bytes of which the caller owns the first payload_size; the rest is a trailer
 * (LSN, page number, store id, checksum) that only the pager touches. Functions may be called from
 * any thread, open and close excepted. Errors are codes as in status.h; cp_error_info() has path,
 * page and a hint. What would cross a limit on the size of files (RLIMIT_FSIZE) is refused with
 * -EFBIG before it is written, so that there is no SIGXFSZ.
 *
 * One page is held shared by some 250 at a time (CP_LATCH_SHARED_MAX, and the pool's pin slots
 * beside it); who comes then waits until one lets go. A thread that itself holds so many, by fixes
 * or tickets, waits for itself.
 */
#ifndef CLOCKPOOL_PAGER_H
#define CLOCKPOOL_PAGER_H

#include <stdbool.h>
#include <stdint.h>
#include <clockpool/bufpool.h>
#include <clockpool/io.h>
#include <clockpool/status.h>
#include <clockpool/wal.h>

#ifdef __cplusplus
extern "C" {
#endif

struct cp_pager;

enum cp_engine {
    CP_ENGINE_POOL = 0,
    CP_ENGINE_MMAP,
};

/* How the mmap engine advises the kernel; it decides how much a fault reads ahead. */
enum cp_mmap_advice {
    CP_ADVICE_RANDOM = 0, /* the page and no more: the fair choice for random access */
    CP_ADVICE_NORMAL,     /* the kernel's default */
    CP_ADVICE_SEQUENTIAL,
};

#define CP_PAGER_TRAILER_BYTES     32u
#define CP_PAGER_PAGE_SIZE_DEFAULT 4096u
#define CP_PAGER_BUDGET_DEFAULT    (UINT64_C(64) << 20)
#define CP_PAGER_LOG_LIMIT_MIN     (UINT64_C(256) << 20) /* of the default; any may be asked for */
#define CP_PAGER_LOG_LIMIT_MAX     (UINT64_C(1) << 30)
#define CP_PAGER_CHECKPOINT_MS     60000u
#define CP_PAGER_RELAXED_MS        100u
#define CP_PAGER_RECOVERY_BYTES    (UINT64_C(256) << 20)

/* Who writes checkpoints, makes relaxed commits durable in time, and keeps some pages clean. */
enum cp_background {
    CP_BACKGROUND_THREAD = 0, /* one thread of the store's, started with the first change */
    CP_BACKGROUND_NONE,       /* callers: a cp_mtr_begin that finds one due writes the
                                 checkpoint, and nobody bounds the delay of relaxed commits */
};

/* What protects a page that a power failure may leave half written. */
enum cp_torn_pages {
    CP_TORN_AUTO = 0, /* images in the log, unless the device promises to write pages whole */
    CP_TORN_IMAGES,   /* images, whatever the device promises */
};

/* How far a recovery is; for a progress line. */
struct cp_recovery_progress {
    uint64_t log_bytes_read, log_bytes; /* the latter: at most, by the segments that are there */
    uint64_t pages_done, pages;         /* to be changed; of the part of the log in memory */
};

struct cp_pager_options {
    enum cp_engine engine;
    bool create;           /* create the store when the directory has none */
    bool exclusive;        /* with create: -EEXIST when there is one */
    bool read_only;        /* no writes; several readers may share the store */
    uint32_t page_size;    /* at creation: 4096 to 65536, 0 means 4096. At opening: 0, or the size
                              the store must have (-EINVAL otherwise) */
    uint64_t budget_bytes; /* pool: hard limit of the cache with its metadata; mmap: limit of the
                              private frames of changed pages. 0 means 64 MiB */
    uint64_t max_budget_bytes;  /* largest later resize; 0 means 4 x budget_bytes */
    enum cp_io_caching caching; /* pool: O_DIRECT where possible (0), required, or buffered */
    enum cp_huge_pages huge_pages;
    enum cp_mmap_advice advice; /* mmap only */
    bool track_pins;
    bool register_buffers; /* pool: as in struct cp_bufpool_options */
    uint32_t ring_depth;   /* pool: reads in flight per ring; 0 means 256 */

    enum cp_background background;
    uint64_t log_limit_bytes; /* a checkpoint begins when the log since the last, with images of all
                                 pages now dirty, would come to half of it. Soft: commits wait for
                                 the checkpoint beyond it, but are never refused. 0 means twice
                                 the budget, 256 MiB at least and 1 GiB at most */
    uint32_t checkpoint_ms;   /* longest time between checkpoints while there are changes; 0 means
                                 60000 */
    uint32_t relaxed_ms;      /* relaxed commits become durable within about this; 0 means 100 */
    uint32_t log_segment_bytes; /* at creation; 0 means 4 MiB */
    uint32_t log_buffer_bytes;  /* 0 means 8 MiB; a mini-transaction logs at most a quarter */
    enum cp_wal_sync log_sync;
    enum cp_torn_pages torn_pages;
    uint64_t recovery_bytes; /* most memory for records during recovery; 0 means 256 MiB. A log that
                                fits is read once, a longer one once more for each such part */
    void (*recovery_progress)(void *ctx, const struct cp_recovery_progress *progress);
    void *recovery_ctx;
    /*
     * mmap engine only, for experiments: change pages in a shared writable mapping. The kernel then
     * writes pages when it likes, ahead of the log: a crash can lose and mix up anything. Nothing
     * above about durability holds.
     */
    bool unsafe_in_place;

    struct cp_io *io; /* borrowed until close; NULL: the pager makes its own (CP_IO_AUTO) */
};

/* ---- life -------------------------------------------------------------------------------------
 */

/*
 * Open the store in directory, creating it when options say so: written under a temporary name,
 * synced, renamed. options may be NULL (pool engine, 64 MiB, must exist). Errors: CP_ELOCKED (the
 * hint names the process), CP_EFORMAT (some other file; or a data file that was cut), CP_EVERSION,
 * CP_ECHECKSUM, CP_ELOG (the log, or a part of it, is missing), CP_EDAMAGED, -ENOENT (no store; or
 * no directory to make it in), -EEXIST, -ENOTEMPTY (the directory to make it in holds other files,
 * or the log of a store whose data file is missing), -EINVAL, CP_EBUDGET, or what the system says.
 * Blocks on I/O. The log of a store that was closed is looked at with the first change, which has
 * these errors then.
 */
CP_API int cp_pager_open(const char *directory, const struct cp_pager_options *options,
                         struct cp_pager **out_pager) CP_MUST_CHECK;

/*
 * Sync and close. CP_EPINNED while pages are fixed or mini-transactions have not ended: the pager
 * stays open. Any other error is reported after everything has been released: what was synced
 * before is safe, the rest may not be.
 */
CP_API int cp_pager_close(struct cp_pager *pager) CP_MUST_CHECK;

/* Close without writing anything: changes since the last sync are dropped where still in memory. No
 * page may be fixed. In a forked child it does nothing. */
CP_API void cp_pager_abandon(struct cp_pager *pager);

/* ---- pages ------------------------------------------------------------------------------------
 */

CP_API uint32_t cp_pager_page_size(const struct cp_pager *pager);
CP_API uint32_t cp_pager_payload_size(const struct cp_pager *pager);
/* One more than the largest allocated page number ever, as the store now stands. */
CP_API uint64_t cp_pager_page_count(const struct cp_pager *pager);
/* The smallest page number that a caller can own (what lies before is the pager's). */
CP_API uint64_t cp_pager_first_page(const struct cp_pager *pager);

/*
 * Allocate a page and fix it exclusively, payload all zeros, already marked dirty. The lowest free
 * page that nobody has fixed is preferred; the file grows by itself. -ENOSPC: the disk is full,
 * nothing has changed.
 */
CP_API int cp_pager_allocate(struct cp_pager *pager, struct cp_fix *out_fix) CP_MUST_CHECK;

/*
 * Allocate count pages with consecutive numbers, without fixing them; each must be written
 * (cp_pager_fix_new) before it is first read. For bulk loads and large objects. What is not written
 * when the process dies, or a backup is taken, stays so, and cp_pager_check names such pages
 * (CP_EUNWRITTEN): write them or free them.
 */
CP_API int cp_pager_allocate_run(struct cp_pager *pager, uint64_t count,
                                 uint64_t *out_first) CP_MUST_CHECK;

/*
 * Free pages first .. first+count-1; they may be allocated again at once. CP_ENOPAGE when one is
 * not allocated, CP_EPINNED when one is fixed: then nothing has changed. Trailing free pages are
 * given back to the file system at the next sync.
 */
CP_API int cp_pager_free(struct cp_pager *pager, uint64_t first, uint64_t count) CP_MUST_CHECK;

/* Is a page allocated to a caller? 1, 0 or a negative code. May read a page of the space map. */
CP_API int cp_pager_is_allocated(struct cp_pager *pager, uint64_t page) CP_MUST_CHECK;

/*
 * Fix a page: pinned, and latched shared (read) or exclusive (write). CP_ENOPAGE outside the store
 * or on one of the pager's own pages; other errors as cp_bufpool_fix. A page that was freed is not
 * detected: the space map is not consulted on this path.
 */
CP_API int cp_pager_fix(struct cp_pager *pager, uint64_t page, enum cp_latch_mode mode,
                        struct cp_fix *out_fix) CP_MUST_CHECK;
/* Fix an allocated page exclusively without reading it: payload all zeros, marked dirty. */
CP_API int cp_pager_fix_new(struct cp_pager *pager, uint64_t page,
                            struct cp_fix *out_fix) CP_MUST_CHECK;
CP_API void cp_pager_unfix(struct cp_pager *pager, struct cp_fix *fix);
/* Say that the payload was changed under this exclusive fix. CP_EREADONLY and CP_EFAILED come here.
 * Sync before a mini-transaction changes the page (see the top of this file). */
CP_API int cp_pager_mark_dirty(struct cp_pager *pager, struct cp_fix *fix) CP_MUST_CHECK;

/* Copy part of a page's payload out, optimistically where possible. */
CP_API int cp_pager_read(struct cp_pager *pager, uint64_t page, uint32_t offset_bytes, void *buffer,
                         uint32_t size_bytes) CP_MUST_CHECK;

/* Many at a time, and in two steps: as cp_bufpool_fix_many, _prefetch, _expect (which does nothing
 * where the kernel looks pages up: mmap), _begin, _poll, _wait_some and _wait. */
CP_API int cp_pager_fix_many(struct cp_pager *pager, const uint64_t *pages, uint32_t count,
                             enum cp_latch_mode mode, struct cp_fix *out_fixes) CP_MUST_CHECK;
CP_API void cp_pager_unfix_many(struct cp_pager *pager, struct cp_fix *fixes, uint32_t count);
CP_API int cp_pager_prefetch(struct cp_pager *pager, const uint64_t *pages, uint32_t count);
CP_API void cp_pager_expect(struct cp_pager *pager, const uint64_t *pages, uint32_t count);
CP_API int cp_pager_begin(struct cp_pager *pager, const uint64_t *pages, uint32_t count,
                          enum cp_latch_mode mode, struct cp_ticket *out_tickets) CP_MUST_CHECK;
CP_API bool cp_pager_poll(struct cp_pager *pager, struct cp_ticket *ticket);
CP_API uint32_t cp_pager_wait_some(struct cp_pager *pager, struct cp_ticket **tickets,
                                   uint32_t count);
CP_API int cp_pager_wait(struct cp_pager *pager, struct cp_ticket *ticket) CP_MUST_CHECK;
CP_API void cp_pager_cancel(struct cp_pager *pager, struct cp_ticket *ticket);

/*
 * Scan pages first .. first+count-1, as far as the store reaches now, passing over the pager's own:
 * as cp_bufpool_scan_begin and _next. 1 with a page fixed shared, to be released with
 * cp_pager_unfix; 0 at the end; or an error, and the next call goes on behind that page. A page
 * that is not allocated gives what cp_pager_fix would. The scan is forgotten, not ended.
 *
 * pool: what others use stays in the cache. mmap: the kernel is told what comes next, and decides.
 */
CP_API int cp_pager_scan_begin(struct cp_pager *pager, uint64_t first, uint64_t count,
                               struct cp_scan *out_scan) CP_MUST_CHECK;
CP_API int cp_pager_scan_next(struct cp_pager *pager, struct cp_scan *scan,
                              struct cp_fix *out_fix) CP_MUST_CHECK;

/*
 * The translation array of the pool engine for cp_optimistic_begin(), or NULL with the mmap engine.
 * Pages beyond page_count are absent there. Borrowed until close.
 */
CP_API const struct cp_page_map *cp_pager_page_map(const struct cp_pager *pager);

/* ---- mini-transactions --------------------------------------------------------------------------
 */

/*
 * A mini-transaction changes several pages so that after a crash all of the changes are there, or
 * none. Fix pages through it, change their bytes in place, commit. It finds what was changed by
 * comparing with the image it took when the page was fixed, and logs these bytes; so what was
 * changed unlogged before must be synced by then (see the top of this file). One thread at a
 * time uses a mini-transaction; as many as there are threads run side by side, each holding the
 * latches of its pages until it ends.
 *
 * Two that wait for each other's pages: the later one to wait gets CP_EDEADLOCK at once and must
 * abort (and usually tries again). After any error from fix, allocate or free the mini-transaction
 * is as it was before that call, and may go on or be aborted. Pages fixed through cp_pager_fix by
 * the same thread are unknown to the search for deadlocks: do not mix the two while waiting.
 */
struct cp_mtr;

enum cp_commit {
    CP_COMMIT_DURABLE = 0, /* return when it is durable */
    CP_COMMIT_RELAXED,     /* return at once; durable later, in order with all others */
};

/*
 * Begin. Waits while the log is beyond its limit and a checkpoint is under way; without a thread
 * (CP_BACKGROUND_NONE) it may write one. A checkpoint waits for pages that are held exclusively: so
 * begin with none fixed by cp_pager_fix or cp_pager_allocate. Errors: CP_EFAILED,
 * CP_EREADONLY, CP_EFORKED, -ENOMEM; with the first change since the store was opened what writing
 * a superblock gives, and -EOVERFLOW: no number is left for another session that writes, after four
 * billion (docs/file-format.md). cp_pager_allocate, _free and _mark_dirty share these.
 */
CP_API int cp_mtr_begin(struct cp_pager *pager, struct cp_mtr **out_mtr) CP_MUST_CHECK;

/*
 * Fix a page until the end of the mini-transaction: *out_data is its payload, payload_size bytes.
 * Exclusive fixes may be written to. A page that it has already is found again (-EINVAL: shared so
 * far, and exclusive now; fix it exclusively at once). Errors: -EINVAL for a mode that is none;
 * CP_EDEADLOCK, CP_ETOOLARGE (more pages than the cache can hold beside it: nothing has changed),
 * CP_ENOPAGE (also of a page that the mini-transaction has freed), read errors.
 */
CP_API int cp_mtr_fix(struct cp_mtr *mtr, uint64_t page, enum cp_latch_mode mode,
                      void **out_data) CP_MUST_CHECK;

/*
 * Allocate a page, fixed exclusively, payload all zeros. Others see it allocated after the commit.
 * Errors as cp_pager_allocate, and CP_ETOOLARGE as cp_mtr_fix. CP_EDEADLOCK only when somebody
 * fixes the free page at that moment.
 */
CP_API int cp_mtr_allocate(struct cp_mtr *mtr, uint64_t *out_page, void **out_data) CP_MUST_CHECK;

/*
 * Free a page at the commit; nobody can allocate it before. CP_ENOPAGE when it is not allocated,
 * CP_EPINNED when somebody has it fixed and this mini-transaction has not. Where it has the page
 * fixed shared, others may have that too: they are not looked for, and go on reading what the page
 * contained. To be alone with it, fix it exclusively first.
 */
CP_API int cp_mtr_free(struct cp_mtr *mtr, uint64_t page) CP_MUST_CHECK;

/*
 * Remember the state of now; cp_mtr_rollback takes back what was changed, allocated and freed
 * since, and forgets later savepoints. Pages fixed since stay fixed. Costs a copy of each page that
 * is fixed exclusively. Errors: CP_EFORKED; a savepoint -ENOMEM; a rollback -EINVAL, when there is
 * no such savepoint (any more).
 */
CP_API int cp_mtr_savepoint(struct cp_mtr *mtr, uint32_t *out_savepoint) CP_MUST_CHECK;
CP_API int cp_mtr_rollback(struct cp_mtr *mtr, uint32_t savepoint) CP_MUST_CHECK;

/*
 * End it, and let go of its pages. *out_lsn (may be NULL) is what cp_pager_wait_durable takes; 0
 * when nothing was changed. mtr is gone afterwards, whatever is returned.
 *
 * Errors that leave nothing changed, as after an abort: CP_ETOOLARGE, -ENOSPC (no room for the
 * log), CP_ENOFRAMES, CP_EFAILED, and any other code unless the store has failed by it
 * (stats.failed; the next begin gives CP_EFAILED). That comes from making a durable commit durable:
 * the changes are in memory, the store refuses further ones, and whether they survive shows when it
 * is opened again.
 */
CP_API int cp_mtr_commit(struct cp_mtr *mtr, enum cp_commit commit, cp_lsn *out_lsn) CP_MUST_CHECK;

/* End it and put everything back as it was. Cannot fail. NULL is allowed. */
CP_API void cp_mtr_abort(struct cp_mtr *mtr);

/* Wait until a relaxed commit is durable (at once when it is, or nothing was changed since the
 * store was opened). Errors as cp_wal_flush. */
CP_API int cp_pager_wait_durable(struct cp_pager *pager, cp_lsn lsn) CP_MUST_CHECK;
/* Commits up to this LSN are durable. Never blocks. */
CP_API cp_lsn cp_pager_durable_lsn(const struct cp_pager *pager);

/* ---- durability and budget ----------------------------------------------------------------------
 */

/*
 * Write a checkpoint now: recovery will begin at the log's present end. Commits go on meanwhile.
 * The same as cp_pager_sync, but for pages at the end of the file, which it does not give back.
 */
CP_API int cp_pager_checkpoint(struct cp_pager *pager) CP_MUST_CHECK;

/*
 * Make all changes durable: dirty pages, then the data file, then a superblock. Waits for pages
 * that are fixed exclusively, so the caller must hold none. On an error that may have lost writes
 * (a failed sync) the store refuses further writes with CP_EFAILED until it is opened again.
 * -ENOSPC and CP_EGATE leave everything in memory: free space and sync again.
 */
CP_API int cp_pager_sync(struct cp_pager *pager) CP_MUST_CHECK;

/* Change the budget while running, as cp_bufpool_resize. */
CP_API int cp_pager_resize(struct cp_pager *pager, uint64_t budget_bytes) CP_MUST_CHECK;

/* ---- looking ------------------------------------------------------------------------------------
 */

struct cp_pager_stats {
    const char *engine; /* "pool", "mmap" or "mmap-in-place"; borrowed until close */
    const char *path;   /* of the data file; borrowed until close */
    uint64_t store_id;
    uint64_t generation; /* superblocks written over the store's life */
    bool unclean;        /* at opening: the store had not been closed */
    bool read_only, failed;
    bool direct; /* the data file is read and written with O_DIRECT */
    const char *direct_reason;
    uint32_t page_size;
    uint64_t page_count, allocated_pages, free_pages; /* pages; the pager's own not counted */
    uint64_t file_bytes;
    uint64_t syncs;
    /* the log */
    struct cp_wal_stats wal;
    cp_lsn checkpoint_lsn;      /* recovery would begin here */
    uint64_t checkpoints;       /* since opening, syncs included */
    uint64_t checkpoint_errors; /* those that failed; they are tried again */
    uint64_t checkpoint_last_us;
    uint64_t checkpoint_paused_us; /* in all, spent waiting so that others get at the device */
    uint64_t mtr_commits, mtr_aborts, mtr_deadlocks;
    uint64_t mtr_waits;   /* begins that waited for a checkpoint */
    uint64_t page_images; /* logged to protect pages from being torn */
    bool atomic_pages;    /* the device writes pages whole: no images */
    /* the last recovery, at opening */
    uint64_t recovered_groups, recovered_bytes, recovered_pages, recovery_us;
    uint64_t private_pages;       /* mmap: changed pages held in private frames */
    struct cp_bufpool_stats pool; /* mmap: hits (pages served from map or private frame), misses
                                     (first touches), used_bytes, pages_written and pages_dirty
                                     are filled in, the rest is 0 */
};

/* In a forked child, which waits for no lock, pages, file_bytes, generation and sizes are 0, and of
 * the pool all but counts of events. */
CP_API void cp_pager_stats(struct cp_pager *pager, struct cp_pager_stats *out_stats);
/* As cp_bufpool_list_pins. */
CP_API uint32_t cp_pager_list_pins(struct cp_pager *pager, struct cp_pin *pins, uint32_t capacity);

/*
 * Read every allocated page and verify its checksum, number and store id, and the space map against
 * the file. report (may be NULL) is called for each bad page with its error, and progress (may be
 * NULL) now and then. What is dirty is written to the file first, so no page may be fixed
 * exclusively by the caller; pages changed meanwhile may be reported. Neither function may call
 * cp_pager_sync or cp_pager_check. Returns the number of bad pages, or a negative code.
 */
CP_API int64_t cp_pager_check(
    struct cp_pager *pager, void (*report)(void *ctx, uint64_t page, const struct cp_error *error),
    void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx);

#ifdef __cplusplus
}
#endif
#endif
