/* SPDX-License-Identifier: MIT */
/*
 * The cleaner: writes dirty pages back before a miss needs their frames.
 *
 * The sweep starts writes of dirty pages that it comes by, which is enough as long as most pages
 * are clean. Where most are dirty, a miss would find no clean victim: it would wait for a write,
 * and for the log before that. So from a low watermark of clean pages on, batches are written until
 * there are as many as the high watermark: by whoever calls cp_bufpool_clean (the pager's thread),
 * or, where nobody has offered to, by the misses themselves, without waiting for anything.
 *
 * Which pages: a hand of its own goes round the frames. At first it takes pages that are not marked
 * as used, which the sweep would take next; where it finds too few of these nearby, any. A page
 * stays in use while it is written: readers go on. Writers wait, so nobody waits for the log with
 * pages claimed: what needs it is let go, and the caller told.
 *
 * Lock order: clock_lock for some slots at a time; the writes are started without it.
 */
#include "internal.h"

#include <errno.h>

#define LOW_SHARE     8u    /* fewer clean pages than this share of all: begin */
#define HIGH_SHARE    4u    /* ... until they are this share */
#define SLOTS_AT_ONCE 64u   /* looked at under one hold of clock_lock: some microseconds */
#define MISS_SLOTS    1024u /* most that a miss looks at: less than its own read takes */
#define UNUSED_SLOTS  4096u /* looked at for pages that are not in use, before any will do */
#define WORTH_SHARE   4u    /* a batch of this share of a full one is worth writing */

struct batch {
    struct cp_frame *frames[CP_WRITE_BATCH_MAX];
    uint32_t count;
};

static uint64_t load(const _Atomic uint64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

/* Is there something to do? Moves between the watermarks. Sizes of pages are left out of account.
 */
static bool few_clean(struct cp_bufpool *pool)
{
    uint64_t resident = load(&pool->pages_resident), dirty = load(&pool->pages_dirty);
    bool cleaning = atomic_load_explicit(&pool->cleaning, memory_order_relaxed);
    if (!cleaning && dirty < resident / 2)
        return false; /* most of the time, and without a division */
    int64_t units = atomic_load_explicit(&pool->free_units, memory_order_relaxed);
    uint64_t used = load(&pool->budget.used_bytes), limit = load(&pool->budget.limit_bytes);
    /* Memory that was never asked for is as good as free, as far as it makes whole extents. */
    uint64_t extents = limit > used ? (limit - used) / pool->extent_cost_bytes : 0;
    uint64_t unused =
        (units > 0 ? (uint64_t)units : 0) + extents * (pool->extent_bytes / CP_UNIT_BYTES);
    uint64_t clean = (resident > dirty ? resident - dirty : 0) + unused;
    bool few = clean < (resident + unused) / (cleaning ? HIGH_SHARE : LOW_SHARE);

    if (few != cleaning)
        atomic_store_explicit(&pool->cleaning, few, memory_order_relaxed);
    return few;
}

/* Claim the page in the frame at unit, if it is dirty and nobody has it. Under clock_lock. */
static void look_at(struct cp_bufpool *pool, uint32_t unit, bool used_too, struct batch *batch)
{
    uint32_t index = pool->slots[unit].frame;
    CP_HOOK("clean_look", NULL, unit);
    if (index == 0)
        return;
    struct cp_frame *frame = &pool->frames[index - 1];
    /* acquire: pairs with the release in cp_load__claim */
    uint64_t *word = atomic_load_explicit(&frame->word, memory_order_acquire);
    if (word == NULL)
        return;
    uint64_t seen = cp_word_load(word);
    if ((seen & CP_WORD_DIRTY) == 0 || cp_word_latch(seen) != CP_LATCH_FREE ||
        cp_bufpool__unit_of(pool, seen) != unit || (!used_too && (seen & CP_WORD_REF) != 0))
        return;
    if (cp_writeback__claim(pool, word, seen))
        batch->frames[batch->count++] = frame;
}

/* Go round the frames, over at most max_slots and once, until the batch is full. */
static void gather(struct cp_bufpool *pool, uint32_t max_slots, bool used_too, struct batch *batch)
{
    /* Slots beyond this hold nothing: the largest budget may be a thousand times what there is. */
    const uint32_t end = cp_bufpool__unit_end(pool);
    const uint32_t slots = max_slots < end ? max_slots : end;

    for (uint32_t looked = 0; looked < slots && batch->count < pool->write_batch_pages;) {
        pthread_mutex_lock(&pool->clock_lock);
        for (uint32_t i = 0; i < SLOTS_AT_ONCE && batch->count < pool->write_batch_pages; i++) {
            uint32_t unit = pool->clean_hand < end ? pool->clean_hand : 0;
            pool->clean_hand = unit + 1;
            look_at(pool, unit, used_too, batch);
            looked++;
        }
        pthread_mutex_unlock(&pool->clock_lock);
    }
}

int cp_bufpool_clean(struct cp_bufpool *pool)
{
    struct batch batch = {.count = 0};
    struct cp_write_wait wait = {0};
    int status = cp_bufpool__check_process(pool);

    if (status != 0)
        return status;
    (void)cp_io_ring_poll(pool->write_ring); /* what nobody waits for is dirty until reaped */
    if (few_clean(pool)) {
        gather(pool, UNUSED_SLOTS, false, &batch);
        if (batch.count < pool->write_batch_pages / WORTH_SHARE)
            gather(pool, UINT32_MAX, true, &batch);
    }
    if (batch.count > 0) {
        status = cp_writeback__start(pool, batch.frames, batch.count, CP_GATE_SKIP, &wait);
        int waited = cp_writeback__wait(pool, &wait);
        status = status != 0 ? status : waited;
    }
    cp_bufpool__count(pool, CP_COUNT_PAGES_CLEANED, wait.written);
    if (status != 0)
        return status; /* nobody asks again before it has been tried again */
    if (batch.count > 0 && wait.written == 0)
        return cp_error_set(-EAGAIN, NULL, CP_NO_PAGE, CP_NO_LSN, "make the log durable first",
                            "cleaning pages whose log is not durable");
    if (wait.written == 0)
        atomic_store_explicit(&pool->asked_to_clean, false, memory_order_relaxed);
    return (int)wait.written;
}

/* Write some dirty pages, unless that is being done: one batch at a time, so that a miss in many
 * pays for it. */
static __attribute__((noinline)) void clean_some(struct cp_bufpool *pool)
{
    struct batch batch;

    batch.count = 0;
    if (load(&pool->writes_in_flight) >= pool->write_batch_pages)
        return;
    gather(pool, MISS_SLOTS, false, &batch);
    if (batch.count > 0) /* what needs the log stays dirty */
        (void)cp_writeback__start(pool, batch.frames, batch.count, CP_GATE_SKIP, NULL);
}

void cp_clean__after_miss(struct cp_bufpool *pool)
{
    if (!few_clean(pool))
        return;
    if (pool->options.short_of_clean == NULL)
        clean_some(pool);
    else if (!atomic_load_explicit(&pool->asked_to_clean, memory_order_relaxed) &&
             !atomic_exchange_explicit(&pool->asked_to_clean, true, memory_order_relaxed))
        pool->options.short_of_clean(pool->options.short_of_clean_ctx);
}
