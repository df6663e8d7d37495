/* SPDX-License-Identifier: MIT */
/*
 * Flushing a file: one walk through its page table, in page order, over what is dirty.
 *
 * With a pace the walk tells how far it has come: of the pages that were dirty when it began, those
 * that lie before it, whoever has written them. They are counted into BUCKETS equal parts of the
 * file, whose width doubles until the last resident page has one; within a part they count as
 * evenly spread.
 */
#include "internal.h"

/* Requests that a flush keeps in flight while it gathers the next batch. */
#define FLUSH_DEPTH 64u
/* ... and one with a pace: reads of others queue behind them. */
#define PACED_DEPTH 4u
/* Between two looks at a page that another thread is about to write. */
#define WRITER_PAUSE_NS 200000u

/* Parts of the file that its dirty pages are counted in. */
#define BUCKETS 64u

/* Of the pages that were dirty at the beginning, how many lie where. */
struct outline {
    unsigned shift; /* a bucket has 2^shift pages */
    uint64_t total;
    uint64_t dirty[BUCKETS];
};

struct flush {
    struct cp_bufpool_file *file;
    struct cp_frame *batch[CP_WRITE_BATCH_MAX];
    uint32_t count;
    struct cp_write_wait wait;
    int status;
    void (*pace)(void *ctx, uint64_t done, uint64_t total); /* or NULL */
    void *pace_ctx;
    uint64_t page; /* where the walk is */
    struct outline outline;
};

/* ---- how far ----------------------------------------------------------------------------------
 */

/* Twice as many pages in each bucket. */
static void widen(struct outline *outline)
{
    for (unsigned i = 0; i < BUCKETS / 2; i++)
        outline->dirty[i] = outline->dirty[2 * i] + outline->dirty[2 * i + 1];
    memset(&outline->dirty[BUCKETS / 2], 0, sizeof outline->dirty / 2);
    outline->shift++;
}

/* Where the dirty pages of a file lie now. */
static void draw(struct cp_bufpool_file *file, struct outline *outline)
{
    for (uint64_t page = cp_table__next(file, 0); page < file->map.page_limit;
         page = cp_table__next(file, page)) {
        while (page >> outline->shift >= BUCKETS)
            widen(outline);
        const uint64_t end = cp_min_u64((page | (CP_GROUP_WORDS - 1)) + 1, file->map.page_limit);
        uint32_t count = 0;
        for (; page < end; page++)
            count += (cp_word_load(&file->map.words[page]) & CP_WORD_DIRTY) != 0;
        outline->dirty[(end - 1) >> outline->shift] += count;
        outline->total += count;
    }
}

/* How many of them lie before page. */
static uint64_t passed(const struct outline *outline, uint64_t page)
{
    const uint64_t bucket = cp_min_u64(page >> outline->shift, BUCKETS);
    uint64_t count = 0;
    for (uint64_t i = 0; i < bucket; i++)
        count += outline->dirty[i];
    if (bucket < BUCKETS)
        count += outline->dirty[bucket] * (page - (bucket << outline->shift)) >> outline->shift;
    return count;
}

/* ---- the walk ---------------------------------------------------------------------------------
 */

static void flush_batch(struct flush *flush)
{
    if (flush->count == 0)
        return;
    int status = cp_writeback__start(flush->file->pool, flush->batch, flush->count, CP_GATE_ALL,
                                     &flush->wait);
    flush->count = 0;
    if (flush->status == 0)
        flush->status = status;
    (void)cp_writeback__wait_left(flush->file->pool, &flush->wait,
                                  flush->pace != NULL ? PACED_DEPTH : FLUSH_DEPTH);
    if (flush->pace != NULL && flush->status == 0)
        flush->pace(flush->pace_ctx, passed(&flush->outline, flush->page), flush->outline.total);
}

/* Another thread is writing the page, or about to: wait for that, but not for the page's readers.
 */
static void wait_for_writer(struct cp_bufpool *pool, uint64_t *word, uint64_t seen)
{
    cp_bufpool__count(pool, CP_COUNT_WRITE_WAITS, 1);
    if (atomic_load_explicit(&pool->writes_in_flight, memory_order_relaxed) > 0)
        cp_writeback__wait_any(pool);
    else /* between its claim and its write nobody tells us: look again soon */
        (void)!cp_latch_wait(word, seen, NULL, NULL, cp_now_ns() + WRITER_PAUSE_NS);
}

/*
 * Claim one page if it is dirty. Never waits while pages of the batch are claimed but not written:
 * the page's holder might be waiting for one of them.
 */
static void flush_page(struct flush *flush, uint64_t page)
{
    struct cp_bufpool_file *file = flush->file;
    uint64_t *word = &file->map.words[page];
    uint64_t seen = cp_word_load(word);

    for (; (seen & CP_WORD_DIRTY) != 0; seen = cp_word_load(word)) {
        /* ends: waits for a holder, who lets go, or for a writer, who finishes */
        bool shareable = cp_word_latch(seen) < CP_LATCH_SHARED_MAX;
        if (shareable && cp_writeback__claim(file->pool, word, seen)) {
            flush->batch[flush->count++] = cp_bufpool__frame_of(file->pool, seen);
            if (flush->count == file->pool->write_batch_pages)
                flush_batch(flush);
            return;
        }
        uint64_t now = cp_word_load(word);
        if (shareable && (cp_word_latch(now) == CP_LATCH_FREE || (now & CP_WORD_DIRTY) == 0))
            continue;
        flush_batch(flush);
        if (shareable)
            wait_for_writer(file->pool, word, now);
        else
            cp_fix__wait_word(file, word, seen);
    }
}

uint64_t cp_bufpool_dirty_pages(const struct cp_bufpool_file *file)
{
    return atomic_load_explicit(&file->dirty_pages, memory_order_relaxed);
}

int cp_bufpool_flush(struct cp_bufpool_file *file)
{
    return cp_bufpool_flush_paced(file, NULL, NULL);
}

int cp_bufpool_flush_paced(struct cp_bufpool_file *file,
                           void (*pace)(void *ctx, uint64_t done, uint64_t total), void *ctx)
{
    struct flush flush = {
        .file = file,
        .pace = pace,
        .pace_ctx = ctx,
        .outline = {.shift = CP_GROUP_SHIFT},
    };
    int status = cp_bufpool__check_process(file->pool);

    if (status != 0)
        return status;
    atomic_store_explicit(&file->write_error, 0, memory_order_relaxed);
    if (pace != NULL)
        draw(file, &flush.outline);
    for (uint64_t page = cp_table__next(file, 0); page != UINT64_MAX && flush.status == 0;) {
        if (atomic_load_explicit(&file->dirty_pages, memory_order_relaxed) == 0)
            break;
        flush.page = page;
        flush_page(&flush, page);
        page++;
        if (page % CP_GROUP_WORDS == 0)
            page = cp_table__next(file, page);
        if (page >= file->map.page_limit)
            break;
    }
    flush_batch(&flush);
    struct cp_error saved = *cp_error_info(); /* of flush.status */
    int written = cp_writeback__wait(file->pool, &flush.wait);
    if (flush.status != 0)
        return cp_error_restore(&saved);
    if (written != 0)
        return cp_error_set(written, file->path, CP_NO_PAGE, CP_NO_LSN, NULL,
                            "writing dirty pages back; they stay in memory, dirty");
    return 0;
}
