/* SPDX-License-Identifier: MIT */
/* cp_bufpool__check: walk the invariants of a quiet pool. */
#include "internal.h"

#include <errno.h>

static int broken(const struct cp_bufpool_file *file, uint64_t page, const char *what)
{
    return cp_error_set(-EINVAL, file != NULL ? file->path : NULL, page, CP_NO_LSN, NULL, "%s",
                        what);
}

struct totals {
    uint64_t resident, dirty;
    uint64_t units; /* of frames with a page */
};

static int check_page(const struct cp_bufpool_file *file, uint64_t page, struct totals *totals)
{
    const struct cp_bufpool *pool = file->pool;
    uint64_t word = cp_word_load(&file->map.words[page]);

    if (word == 0)
        return 0;
    if (cp_word_latch(word) != CP_LATCH_FREE)
        return broken(file, page, "a word is latched in a quiet pool");
    if (cp_pin_count(&file->map.words[page]) != 0)
        return broken(file, page, "a word is held in a pin slot in a quiet pool");
    if ((word & CP_WORD_BIASED) != 0 && !pool->biased)
        return broken(file, page, "a word is biased in a pool that counts");
    if ((word & CP_WORD_WAITERS) != 0)
        return broken(file, page, "a word has waiters though it is free");
    uint32_t unit = cp_bufpool__unit_of(pool, word);
    if (unit >= pool->unit_limit || pool->slots[unit].frame == 0)
        return broken(file, page, "a word names a frame that does not exist");
    const struct cp_frame *frame = &pool->frames[pool->slots[unit].frame - 1];
    if (frame->unit != unit || frame->file != file || frame->page != page ||
        frame->order != file->order)
        return broken(file, page, "word and descriptor disagree");
    if (atomic_load_explicit(&frame->word, memory_order_relaxed) != &file->map.words[page])
        return broken(file, page, "the descriptor points at another word");
    if (cp_clock__place(&pool->clock, unit) == CP_CLOCK_OUT)
        return broken(file, page, "the clock does not know the frame");
    totals->resident++;
    totals->units += UINT64_C(1) << frame->order;
    totals->dirty += (word & CP_WORD_DIRTY) != 0;
    return 0;
}

static int check_file(const struct cp_bufpool_file *file, struct totals *totals)
{
    struct totals own = {0};

    for (uint64_t page = cp_table__next(file, 0); page < file->map.page_limit;) {
        int status = check_page(file, page, &own);
        if (status != 0)
            return status;
        page++;
        if (page % CP_GROUP_WORDS == 0)
            page = cp_table__next(file, page);
    }
    if (own.dirty != atomic_load_explicit(&file->dirty_pages, memory_order_relaxed))
        return broken(file, CP_NO_PAGE, "the count of dirty pages is wrong");
    totals->resident += own.resident;
    totals->dirty += own.dirty;
    totals->units += own.units;
    return 0;
}

static int check_clock(struct cp_bufpool *pool, const struct totals *totals)
{
    pthread_mutex_lock(&pool->clock_lock);
    const char *what = cp_clock__check(&pool->clock);
    if (what == NULL && pool->clock.main_units + pool->clock.probation_units != totals->units)
        what = "the clock knows pages that are not resident";
    pthread_mutex_unlock(&pool->clock_lock);
    return what != NULL ? broken(NULL, CP_NO_PAGE, what) : 0;
}

static int check_budget(const struct cp_bufpool *pool)
{
    uint64_t sum = 0;

    for (unsigned purpose = 0; purpose < CP_PURPOSES; purpose++)
        sum += atomic_load_explicit(&pool->budget.by_purpose[purpose], memory_order_relaxed);
    if (sum != atomic_load_explicit(&pool->budget.used_bytes, memory_order_relaxed))
        return broken(NULL, CP_NO_PAGE, "the purposes do not add up to the use");
    if (sum > atomic_load_explicit(&pool->budget.limit_bytes, memory_order_relaxed))
        return broken(NULL, CP_NO_PAGE, "the budget is exceeded");
    if (atomic_load_explicit(&pool->budget.by_purpose[CP_FOR_FRAMES], memory_order_relaxed) !=
        pool->extent_count * pool->extent_bytes)
        return broken(NULL, CP_NO_PAGE, "frames and extents disagree");
    uint32_t end = pool->extent_limit;
    while (end > 0 && pool->extents_committed[end - 1] == 0)
        end--;
    if (end != atomic_load_explicit(&pool->extent_end, memory_order_relaxed))
        return broken(NULL, CP_NO_PAGE, "the end of the extents is not where the last one ends");
    for (uint32_t i = 0; i < pool->extent_free; i++) {
        if (pool->extents_committed[i] == 0)
            return broken(NULL, CP_NO_PAGE, "an extent is free where none is looked for");
    }
    return 0;
}

/* What callers left in flight, early writes and prefetched pages, is not theirs to wait for. */
static void finish_io(struct cp_bufpool *pool)
{
    while (atomic_load_explicit(&pool->writes_in_flight, memory_order_acquire) > 0)
        cp_writeback__wait_any(pool);
    while (atomic_load_explicit(&pool->reads_in_flight, memory_order_acquire) > 0) {
        for (uint32_t i = 0; i < pool->ring_count; i++)
            (void)cp_io_ring_poll(pool->rings[i]);
    }
}

int cp_bufpool__check(struct cp_bufpool *pool)
{
    struct totals totals = {0};

    finish_io(pool);
    int status = check_budget(pool);
    if (status == 0)
        status = cp_buddy__check(pool->buddy);
    if (status == 0)
        status = cp_slab__check(pool->frame_slab);
    pthread_mutex_lock(&pool->files_lock);
    for (uint32_t i = 0; i < CP_BUFPOOL_FILES_MAX && status == 0; i++) {
        if (pool->files[i] != NULL)
            status = check_file(pool->files[i], &totals);
    }
    pthread_mutex_unlock(&pool->files_lock);
    if (status != 0)
        return status;
    if (totals.resident != atomic_load_explicit(&pool->pages_resident, memory_order_relaxed))
        return broken(NULL, CP_NO_PAGE, "the count of resident pages is wrong");
    if (totals.dirty != atomic_load_explicit(&pool->pages_dirty, memory_order_relaxed))
        return broken(NULL, CP_NO_PAGE, "the count of dirty pages is wrong");
    return check_clock(pool, &totals);
}
