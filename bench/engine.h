/* SPDX-License-Identifier: MIT */
/*
 * The driver interface: what an engine must be able to do to take part in the comparison.
 *
 * A driver fetches pages and nothing else. It does not choose them, time itself, count, or judge:
 * that is the workload's business (workload.c), so a driver cannot flatter itself. bench/README.md
 * shows how to write one.
 *
 * Every run of an engine is a process of its own. Within it the calls come in this order:
 *
 *     create                         (an earlier process: writes the data set once)
 *     open
 *       thread_begin                 on the thread that will work
 *         read | start/reap | update | commit | scan, many times
 *       thread_end
 *       sync, verify                 after commits
 *     stats, close
 *
 * Functions that can fail return 0 or -1 with a description in the error they were given.
 */
#ifndef BENCH_ENGINE_H
#define BENCH_ENGINE_H

#include <stdbool.h>
#include <stdint.h>
#include <linux/limits.h>
#include "content.h"

#define BENCH_DEPTH_MAX   1024u
#define BENCH_EXPECT_MAX  16u /* ops told to expect in one call */
#define BENCH_THREADS_MAX 256u
#define BENCH_SYNC_MS     100u /* as CP_PAGER_RELAXED_MS, for every engine */

enum bench_workload {
    BENCH_READ_RANDOM = 0,
    BENCH_READ_SCAN,
    BENCH_UPDATE_RANDOM,  /* not durable */
    BENCH_COMMIT,         /* updates, each durable when it returns */
    BENCH_COMMIT_RELAXED, /* updates, durable later */
    BENCH_MIXED,          /* reads, and a share of durable commits */
    BENCH_RECOVER,        /* opening after a kill: two processes, see recover.h */
    BENCH_WORKLOAD_COUNT,
};

/* What a returned update promises. Engines of different classes are never ranked together. */
enum bench_durability {
    BENCH_DURABILITY_NONE = 0, /* a crash of the machine may lose anything, or corrupt all */
    BENCH_DURABILITY_RELAXED,  /* it loses the last commits at most, bounded in time or bytes */
    BENCH_DURABILITY_FULL,     /* it loses nothing that was acknowledged */
};

/* Does it change pages? */
static inline bool bench_workload_writes(enum bench_workload workload)
{
    return workload >= BENCH_UPDATE_RANDOM;
}

/* Does it commit, rather than change pages without a promise? */
static inline bool bench_workload_commits(enum bench_workload workload)
{
    return workload >= BENCH_COMMIT;
}

enum bench_access {
    BENCH_OPTIMISTIC = 0, /* look without a latch, or by copy */
    BENCH_FIX,            /* pin and latch shared */
    BENCH_BATCH,          /* pin and latch many at a time */
};

/* What an engine reads from the device for one page that is not in memory. */
enum bench_reads {
    BENCH_READS_PAGES = 0,    /* that page */
    BENCH_READS_KERNEL_PAGES, /* those pages of the kernel that are touched: a page of 4 KiB, or a
                                 part of a larger one */
    BENCH_READS_BLOCKS,       /* blocks of its own, or read ahead: there is no telling */
};

enum bench_advice {
    BENCH_ADVICE_RANDOM = 0,
    BENCH_ADVICE_NORMAL,
    BENCH_ADVICE_SEQUENTIAL,
};

struct bench_error {
    char text[700]; /* one line for a person; empty: none */
};

/* Describe an error and return -1. */
int bench_fail(struct bench_error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* As bench_fail with ": " and the text of errno code (positive). */
int bench_fail_errno(struct bench_error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A data set: pages 0 .. page_count-1 filled by bench_content_fill. */
struct bench_data {
    char directory[PATH_MAX]; /* of this data set alone; exists */
    uint64_t page_count;
    uint32_t page_size; /* power of two, 4096 to 65536 */
    uint64_t seed;
};

/* What an engine is opened for. Borrowed until close. */
struct bench_setup {
    struct bench_data data;
    uint64_t mem_bytes; /* memory for cached pages and what manages them */
    bool fits;          /* the data set fits into it: expected to be resident after warm-up */
    enum bench_workload workload;
    enum bench_advice advice;
    bool buffered; /* pool: read through the page cache although O_DIRECT is possible */
    unsigned threads_max, depth_max, batch; /* the most that thread_begin will ask for */
    uint64_t log_bytes; /* recover: how much log there shall be before the engine writes a
                           checkpoint or the like; 0: as it likes */
};

/* One page to fetch. */
struct bench_op {
    uint64_t page;  /* of the data set */
    uint64_t where; /* what locate() made of it */
    uint32_t offset_bytes;
    uint64_t value; /* out: the 8 bytes at offset_bytes of the page's content */
};

struct bench_thread_setup {
    enum bench_workload workload;
    enum bench_access access;
    unsigned depth;            /* reads to keep in flight, 1 .. depth_max */
    unsigned batch;            /* pages at a time with BENCH_BATCH */
    unsigned index;            /* of the thread */
    struct bench_check *check; /* for update and scan; borrowed until thread_end */
    struct bench_error *error; /* of this thread; borrowed until thread_end */
};

struct bench_engine_stats {
    char details[400]; /* choices the engine made, for a person: "O_DIRECT; huge pages" */
    bool synchronous;  /* no io_uring: a thread's transfers are one at a time, whatever its depth */
};

/* Called now and then while a data set is written; nonzero: stop with an error. */
struct bench_progress_sink {
    int (*report)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
};

struct bench_engine {
    const char *name;      /* as --engines knows it */
    const char *summary;   /* one line */
    const char *format;    /* data sets are shared by engines of the same format; a file name */
    const char *not_built; /* NULL, or why and what to install: then nothing below is set */
    const char *access;    /* the one way it accesses pages, or NULL when it follows --access */
    bool deep;             /* has start and reap: one thread can keep many reads in flight */
    bool uses_page_cache;  /* caches in the kernel's page cache rather than in memory of its own */
    bool keeps_cache;      /* false: reads every page from the device when the data do not fit */
    bool needs_slack;      /* beside its cache it needs so much memory that the slack stays free */
    enum bench_reads reads;
    bool syncs_itself;             /* commit-relaxed: becomes durable without sync being called */
    enum bench_durability relaxed; /* the class of its commit-relaxed */
    const char *(*version)(void);
    /* Bytes of files that a data set of this shape takes. */
    uint64_t (*disk_bytes)(uint64_t page_count, uint32_t page_size);

    /* Write the data set and make sure that it is on the device. */
    int (*create)(const struct bench_data *data, const struct bench_progress_sink *sink,
                  struct bench_error *error);

    int (*open)(const struct bench_setup *setup, void **out_engine, struct bench_error *error);
    void (*close)(void *engine);
    /* The engine's own name for a page; NULL: the page number itself. Not counted as work. */
    uint64_t (*locate)(void *engine, uint64_t page);
    void (*stats)(void *engine, struct bench_engine_stats *out_stats);

    int (*thread_begin)(void *engine, const struct bench_thread_setup *setup, void **out_thread);
    void (*thread_end)(void *thread);

    /* Fetch the ops one after the other (BENCH_BATCH: up to setup->batch at a time). */
    int (*read)(void *thread, struct bench_op *ops, unsigned count);

    /*
     * deep only: begin to fetch an op in a slot (0 .. depth-1) that is free. Returns 1 when it is
     * finished already, 0 when reap will tell, -1. op stays the caller's, unchanged until then.
     * With update-random the page is updated by bench_check_update before it is finished.
     */
    int (*start)(void *thread, unsigned slot, struct bench_op *op);
    /* deep only: these will be started next, one after the other. NULL: that helps nothing. */
    void (*expect)(void *thread, const struct bench_op *ops, unsigned count);
    /* Wait for at least one slot in flight; store those that finished. Their number, or -1. */
    int (*reap)(void *thread, unsigned *out_slots, unsigned capacity);

    /* Change a page in place with bench_check_update. When that says no, return 0 all the same.
     * NULL: the engine has no such thing. */
    int (*update)(void *thread, struct bench_op *op);

    /*
     * Change a page as update does, durable when it returns (commit, mixed) or later
     * (commit-relaxed). NULL: the engine has no such thing.
     */
    int (*commit)(void *thread, struct bench_op *op);
    /*
     * Make all that was committed durable. Called every BENCH_SYNC_MS during commit-relaxed, unless
     * the engine syncs itself, and at its end. NULL: there is nothing to do.
     */
    int (*sync)(void *engine, struct bench_error *error);
    /*
     * Look whether all updates that the tracker knows of are there, where that is not a matter of
     * reading pages. NULL: the pages are read.
     */
    int (*verify)(void *engine, const struct bench_tracker *tracker, struct bench_error *error);
    /* Bytes of log that opening would have to go through now. NULL: none, or none that grows as
     * long as one likes. */
    uint64_t (*log_bytes)(void *engine);
    /* What opening had to do: bytes of log, and pages. NULL: the engine does not say. */
    void (*recovered)(void *engine, uint64_t *out_log_bytes, uint64_t *out_pages);

    /*
     * Read pages first .. first+count-1 in order and hand each to bench_check_scan, until that says
     * no. Consecutive pages are known to come: read ahead as you like.
     */
    int (*scan)(void *thread, uint64_t first, uint64_t count);
};

/* The engines, in the order of the table. */
const struct bench_engine *bench_engine_at(unsigned index); /* NULL past the last */
bool bench_engine_is_extra(unsigned index); /* added by the tests, not one to measure */
const struct bench_engine *bench_engine_find(const char *name);

extern const struct bench_engine bench_engine_raw;
extern const struct bench_engine bench_engine_pool;
extern const struct bench_engine bench_engine_mmap;
extern const struct bench_engine bench_engine_lmdb;
extern const struct bench_engine bench_engine_sqlite;
extern const struct bench_engine bench_engine_wiredtiger;
extern const struct bench_engine bench_engine_rocksdb;
extern const struct bench_engine bench_engine_berkeleydb;
extern const struct bench_engine bench_engine_bdb_memp;
extern const struct bench_engine bench_engine_floor;

#endif
