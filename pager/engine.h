/* SPDX-License-Identifier: MIT */
/*
 * What the pager asks of an engine: a cache of one file's pages. Two exist, engine_pool.c and
 * engine_mmap.c. Page numbers are in range when they get here (the pager has compared them with
 * page_count); a page that was freed may still come.
 *
 * An engine never calls into the pager. grow and shrink are called one at a time; flush and discard
 * may run beside anything.
 */
#ifndef CP_PAGER_ENGINE_H
#define CP_PAGER_ENGINE_H

#include "format.h"

struct cp_pager_engine;

struct cp_engine_ops {
    const char *name;

    int (*fix)(struct cp_pager_engine *engine, uint64_t page, enum cp_latch_mode mode,
               struct cp_fix *out_fix);
    /* As fix, but -EAGAIN where that would have to wait for a latch or for a read under way. */
    int (*try_fix)(struct cp_pager_engine *engine, uint64_t page, enum cp_latch_mode mode,
                   struct cp_fix *out_fix);
    /* Exclusively, without reading it: all zeros, and dirty with lsn (0: none is to be waited for).
     */
    int (*fix_new)(struct cp_pager_engine *engine, uint64_t page, cp_lsn lsn,
                   struct cp_fix *out_fix);
    void (*unfix)(struct cp_pager_engine *engine, struct cp_fix *fix);
    void (*mark_dirty)(struct cp_pager_engine *engine, struct cp_fix *fix, cp_lsn lsn);
    int (*read)(struct cp_pager_engine *engine, uint64_t page, uint32_t offset_bytes, void *buffer,
                uint32_t size_bytes);

    int (*fix_many)(struct cp_pager_engine *engine, const uint64_t *pages, uint32_t count,
                    enum cp_latch_mode mode, struct cp_fix *out_fixes);
    void (*unfix_many)(struct cp_pager_engine *engine, struct cp_fix *fixes, uint32_t count);
    int (*prefetch)(struct cp_pager_engine *engine, const uint64_t *pages, uint32_t count);
    /* NULL: nothing to fetch. */
    void (*expect)(struct cp_pager_engine *engine, const uint64_t *pages, uint32_t count);
    int (*begin)(struct cp_pager_engine *engine, const uint64_t *pages, uint32_t count,
                 enum cp_latch_mode mode, struct cp_ticket *out_tickets);
    bool (*poll)(struct cp_pager_engine *engine, struct cp_ticket *ticket);
    uint32_t (*wait_some)(struct cp_pager_engine *engine, struct cp_ticket **tickets,
                          uint32_t count);
    int (*wait)(struct cp_pager_engine *engine, struct cp_ticket *ticket);
    void (*cancel)(struct cp_pager_engine *engine, struct cp_ticket *ticket);
    /* The range lies within page_limit. next: 1 with a page fixed shared, 0 at the end, a code. */
    int (*scan_begin)(struct cp_pager_engine *engine, uint64_t first, uint64_t count,
                      struct cp_scan *out_scan);
    int (*scan_next)(struct cp_pager_engine *engine, struct cp_scan *scan, struct cp_fix *out_fix);
    const struct cp_page_map *(*page_map)(const struct cp_pager_engine *engine);

    /* About how many pages are dirty; for every commit, so cheap. */
    uint64_t (*dirty_pages)(const struct cp_pager_engine *engine);
    /* Write every dirty page to the file, unsynced. What could not be written stays dirty. pace, or
     * NULL: as for cp_bufpool_flush_paced. */
    int (*flush)(struct cp_pager_engine *engine,
                 void (*pace)(void *ctx, uint64_t done, uint64_t total), void *ctx);
    /* A cleaner's step, as cp_bufpool_clean; NULL: there is nothing to clean ahead of need. */
    int (*clean)(struct cp_pager_engine *engine);
    /* Drop pages, dirty or not. CP_EPINNED when one is fixed; others may be gone then. */
    int (*discard)(struct cp_pager_engine *engine, uint64_t first, uint64_t count);
    /* Does somebody have this page fixed? A write-back under way does not count. */
    bool (*page_pinned)(struct cp_pager_engine *engine, uint64_t page);
    /*
     * The same of a page of the store without waiting for I/O, which counts: for somebody who has
     * other pages to choose from. Who holds a biased page is given a moment.
     */
    bool (*page_held)(struct cp_pager_engine *engine, uint64_t page);
    /* Does somebody have any page fixed? */
    bool (*any_pinned)(struct cp_pager_engine *engine);
    int (*resize)(struct cp_pager_engine *engine, uint64_t budget_bytes);

    /* The file now has this many bytes: called after it has grown, before it is cut. */
    int (*grow)(struct cp_pager_engine *engine, uint64_t file_bytes);
    int (*shrink)(struct cp_pager_engine *engine, uint64_t file_bytes);

    void (*stats)(struct cp_pager_engine *engine, struct cp_pager_stats *out_stats);
    uint32_t (*list_pins)(struct cp_pager_engine *engine, struct cp_pin *pins, uint32_t capacity);

    /* Drop everything without writing and free the engine. Nothing may be fixed. */
    void (*close)(struct cp_pager_engine *engine);
};

/* First member of each engine. */
struct cp_pager_engine {
    /* The pool engine's file, which the hit path calls without a detour; NULL with mmap. */
    struct cp_bufpool_file *pool_file;
    const struct cp_engine_ops *ops;
    uint64_t page_limit; /* largest page count it can address */
};

struct cp_engine_setup {
    const struct cp_pager_options *options; /* defaults filled in; borrowed during open */
    struct cp_io *io;                       /* borrowed until close */
    struct cp_io_file *file;                /* borrowed until close */
    struct cp_page_format *format;          /* borrowed until close */
    const struct cp_lsn_gate *gate;         /* copied; NULL: no log */
    uint64_t file_bytes;
    uint64_t page_count;
    /* pool: told by a miss that clean should be called. NULL: misses see to that themselves. */
    void (*short_of_clean)(void *ctx);
    void *short_of_clean_ctx;
    bool untorn_writes; /* pool: the device writes pages whole, and is to be asked to */
};

int cp_pager__pool_open(const struct cp_engine_setup *setup,
                        struct cp_pager_engine **out_engine) CP_MUST_CHECK;
int cp_pager__mmap_open(const struct cp_engine_setup *setup,
                        struct cp_pager_engine **out_engine) CP_MUST_CHECK;

#endif
