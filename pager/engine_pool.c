/* SPDX-License-Identifier: MIT */
/*
 * The pool engine: a buffer pool of its own for the one data file. Thin on purpose: what there is
 * to know stands in bufpool/README.md.
 */
#include "engine.h"

#include <clockpool/base/error.h>
#include <clockpool/base/latch.h>
#include <clockpool/base/thread.h>

#include <errno.h>
#include <stdlib.h>

#define PIN_LIST 128u /* pages looked at in one go for a pin */

struct pool_engine {
    struct cp_pager_engine base;
    struct cp_bufpool *pool;      /* owned */
    struct cp_bufpool_file *file; /* owned */
    struct cp_io_file *io_file;   /* borrowed until close */
    uint32_t page_size;
    uint64_t file_pages; /* most that the file ever had; changed by grow only */
};

static struct pool_engine *of(const struct cp_pager_engine *engine)
{
    return (struct pool_engine *)(uintptr_t)engine; /* base is the first member */
}

/* ---- pages ------------------------------------------------------------------------------------
 */

static int pool_fix(struct cp_pager_engine *engine, uint64_t page, enum cp_latch_mode mode,
                    struct cp_fix *out_fix)
{
    return cp_bufpool_fix(of(engine)->file, page, mode, out_fix);
}

static int pool_try_fix(struct cp_pager_engine *engine, uint64_t page, enum cp_latch_mode mode,
                        struct cp_fix *out_fix)
{
    return cp_bufpool_try_fix(of(engine)->file, page, mode, out_fix);
}

static int pool_fix_new(struct cp_pager_engine *engine, uint64_t page, cp_lsn lsn,
                        struct cp_fix *out_fix)
{
    int code = cp_bufpool_fix_new(of(engine)->file, page, out_fix);
    if (code == 0)
        cp_bufpool_mark_dirty(out_fix, lsn);
    return code;
}

static void pool_unfix(struct cp_pager_engine *engine, struct cp_fix *fix)
{
    (void)engine;
    cp_bufpool_unfix(fix);
}

static void pool_mark_dirty(struct cp_pager_engine *engine, struct cp_fix *fix, cp_lsn lsn)
{
    (void)engine;
    cp_bufpool_mark_dirty(fix, lsn);
}

static int pool_read(struct cp_pager_engine *engine, uint64_t page, uint32_t offset_bytes,
                     void *buffer, uint32_t size_bytes)
{
    return cp_bufpool_read(of(engine)->file, page, offset_bytes, buffer, size_bytes);
}

static int pool_fix_many(struct cp_pager_engine *engine, const uint64_t *pages, uint32_t count,
                         enum cp_latch_mode mode, struct cp_fix *out_fixes)
{
    return cp_bufpool_fix_many(of(engine)->file, pages, count, mode, out_fixes);
}

static void pool_unfix_many(struct cp_pager_engine *engine, struct cp_fix *fixes, uint32_t count)
{
    (void)engine;
    cp_bufpool_unfix_many(fixes, count);
}

static int pool_prefetch(struct cp_pager_engine *engine, const uint64_t *pages, uint32_t count)
{
    return cp_bufpool_prefetch(of(engine)->file, pages, count);
}

static void pool_expect(struct cp_pager_engine *engine, const uint64_t *pages, uint32_t count)
{
    cp_bufpool_expect(of(engine)->file, pages, count);
}

static int pool_begin(struct cp_pager_engine *engine, const uint64_t *pages, uint32_t count,
                      enum cp_latch_mode mode, struct cp_ticket *out_tickets)
{
    return cp_bufpool_begin(of(engine)->file, pages, count, mode, out_tickets);
}

static bool pool_poll(struct cp_pager_engine *engine, struct cp_ticket *ticket)
{
    (void)engine;
    return cp_bufpool_poll(ticket);
}

static uint32_t pool_wait_some(struct cp_pager_engine *engine, struct cp_ticket **tickets,
                               uint32_t count)
{
    (void)engine;
    return cp_bufpool_wait_some(tickets, count);
}

static int pool_wait(struct cp_pager_engine *engine, struct cp_ticket *ticket)
{
    (void)engine;
    return cp_bufpool_wait(ticket);
}

static void pool_cancel(struct cp_pager_engine *engine, struct cp_ticket *ticket)
{
    (void)engine;
    cp_bufpool_cancel(ticket);
}

static int pool_scan_begin(struct cp_pager_engine *engine, uint64_t first, uint64_t count,
                           struct cp_scan *out_scan)
{
    return cp_bufpool_scan_begin(of(engine)->file, first, count, out_scan);
}

static int pool_scan_next(struct cp_pager_engine *engine, struct cp_scan *scan,
                          struct cp_fix *out_fix)
{
    (void)engine;
    return cp_bufpool_scan_next(scan, out_fix);
}

static const struct cp_page_map *pool_page_map(const struct cp_pager_engine *engine)
{
    return cp_bufpool_page_map(of(engine)->file);
}

/* ---- all pages --------------------------------------------------------------------------------
 */

static uint64_t pool_dirty_pages(const struct cp_pager_engine *engine)
{
    return cp_bufpool_dirty_pages(of(engine)->file);
}

static int pool_flush(struct cp_pager_engine *engine,
                      void (*pace)(void *ctx, uint64_t done, uint64_t total), void *ctx)
{
    return cp_bufpool_flush_paced(of(engine)->file, pace, ctx);
}

static int pool_clean(struct cp_pager_engine *engine)
{
    return cp_bufpool_clean(of(engine)->pool);
}

static int pool_discard(struct cp_pager_engine *engine, uint64_t first, uint64_t count)
{
    return cp_bufpool_discard(of(engine)->file, first, count);
}

static bool pool_page_pinned(struct cp_pager_engine *engine, uint64_t page)
{
    return cp_bufpool_is_fixed(of(engine)->file, page);
}

static bool pool_page_held(struct cp_pager_engine *engine, uint64_t page)
{
    const uint64_t word = cp_word_load(&cp_bufpool_page_map(of(engine)->file)->words[page]);
    /* Who holds a biased page is not seen in its word. */
    return cp_word_latch(word) != CP_LATCH_FREE ||
           ((word & CP_WORD_BIASED) != 0 && pool_page_pinned(engine, page));
}

static bool pool_any_pinned(struct cp_pager_engine *engine)
{
    struct cp_pin pins[PIN_LIST];
    for (;;) { /* ends: what is listed and not fixed is I/O, which is_fixed has finished */
        uint32_t count = cp_bufpool_list_pins(of(engine)->pool, pins, PIN_LIST);
        for (uint32_t i = 0; i < count && i < PIN_LIST; i++) {
            if (cp_bufpool_is_fixed(of(engine)->file, pins[i].page))
                return true;
        }
        if (count <= PIN_LIST)
            return false;
    }
}

static int pool_resize(struct cp_pager_engine *engine, uint64_t budget_bytes)
{
    return cp_bufpool_resize(of(engine)->pool, budget_bytes);
}

/* The page table reaches any size already; close wants to know how far it may be filled. */
static int pool_grow(struct cp_pager_engine *engine, uint64_t file_bytes)
{
    uint64_t file_pages = file_bytes / of(engine)->page_size;
    if (file_pages > of(engine)->file_pages)
        of(engine)->file_pages = file_pages;
    return 0;
}

static void pool_stats(struct cp_pager_engine *engine, struct cp_pager_stats *out_stats)
{
    struct cp_io_file_info info;
    cp_io_file_info(of(engine)->io_file, &info);
    out_stats->direct = info.direct;
    out_stats->direct_reason = info.direct_reason;
    cp_bufpool_stats(of(engine)->pool, 0, &out_stats->pool);
}

static uint32_t pool_list_pins(struct cp_pager_engine *engine, struct cp_pin *pins,
                               uint32_t capacity)
{
    return cp_bufpool_list_pins(of(engine)->pool, pins, capacity);
}

static void pool_close(struct cp_pager_engine *engine)
{
    struct pool_engine *pool = of(engine);
    /* Dirty pages would hold the file attached: this drops them, written or not. */
    int code = cp_bufpool_discard(pool->file, 0, pool->file_pages);
    if (code == 0)
        code = cp_bufpool_detach(pool->file);
    /* A page that is still fixed is a programmer's error; its memory stays, so that the holder
     * does not write into somebody else's. */
    if (code == 0)
        cp_bufpool_destroy(pool->pool);
    free(pool);
}

static const struct cp_engine_ops pool_ops = {
    .name = "pool",
    .fix = pool_fix,
    .try_fix = pool_try_fix,
    .fix_new = pool_fix_new,
    .unfix = pool_unfix,
    .mark_dirty = pool_mark_dirty,
    .read = pool_read,
    .fix_many = pool_fix_many,
    .unfix_many = pool_unfix_many,
    .prefetch = pool_prefetch,
    .expect = pool_expect,
    .begin = pool_begin,
    .poll = pool_poll,
    .wait_some = pool_wait_some,
    .wait = pool_wait,
    .cancel = pool_cancel,
    .scan_begin = pool_scan_begin,
    .scan_next = pool_scan_next,
    .page_map = pool_page_map,
    .dirty_pages = pool_dirty_pages,
    .flush = pool_flush,
    .clean = pool_clean,
    .discard = pool_discard,
    .page_pinned = pool_page_pinned,
    .page_held = pool_page_held,
    .any_pinned = pool_any_pinned,
    .resize = pool_resize,
    .grow = pool_grow,
    .shrink = pool_grow,
    .stats = pool_stats,
    .list_pins = pool_list_pins,
    .close = pool_close,
};

int cp_pager__pool_open(const struct cp_engine_setup *setup, struct cp_pager_engine **out_engine)
{
    const struct cp_pager_options *options = setup->options;
    const struct cp_bufpool_options pool_options = {
        .budget_bytes = options->budget_bytes,
        .max_budget_bytes = options->max_budget_bytes,
        .io = setup->io,
        .huge_pages = options->huge_pages,
        .register_buffers = options->register_buffers,
        .ring_depth = options->ring_depth,
        .track_pins = options->track_pins,
        .short_of_clean = setup->short_of_clean,
        .short_of_clean_ctx = setup->short_of_clean_ctx,
    };
    const struct cp_bufpool_file_options file_options = {
        .file = setup->file,
        .page_size = setup->format->page_size,
        .max_pages = CP_FORMAT_MAX_PAGES,
        .gate = setup->gate,
        .verify = cp_pager__page_verify,
        .untorn_writes = setup->untorn_writes,
        .before_write = cp_pager__page_before_write,
        .seal = cp_pager__page_seal,
        .ctx = setup->format,
    };
    struct pool_engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL)
        return cp_error_set(-ENOMEM, setup->format->path, CP_NO_PAGE, CP_NO_LSN, NULL,
                            "open the pool engine");
    engine->base.ops = &pool_ops;
    engine->base.page_limit = CP_FORMAT_MAX_PAGES;
    engine->io_file = setup->file;
    engine->page_size = setup->format->page_size;
    engine->file_pages = setup->file_bytes / setup->format->page_size;
    int code = cp_bufpool_create(&pool_options, &engine->pool);
    if (code == 0) {
        code = cp_bufpool_attach(engine->pool, &file_options, &engine->file);
        if (code != 0)
            cp_bufpool_destroy(engine->pool);
    }
    if (code != 0) {
        free(engine);
        return code;
    }
    engine->base.pool_file = engine->file;
    *out_engine = &engine->base;
    return 0;
}
