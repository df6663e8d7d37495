/* SPDX-License-Identifier: MIT */
/*
 * The pace of a checkpoint that nobody waits for: it is spread, so that commits and reads find the
 * device free.
 *
 * Due is the larger of two shares: of the time that the flush may take, and of the bytes by which
 * the log's debt may grow meanwhile: what others log, and the images of pages that they make dirty.
 * While the flush is ahead of that it rests. So an idle store takes its time, a busy one is done
 * before commits have to wait for the log, and one checkpoint follows the other without a rush at
 * its end. There is no rest while somebody waits for the checkpoint, or at closing.
 *
 * The thread that rests is the one that also makes relaxed commits durable and cleans: it goes on
 * with that here.
 */
#include "internal.h"

#include <clockpool/base/bits.h>

#include <time.h>

#define MOST_MS        10000u /* longest flush: redo point and log space do not wait for ever */
#define INTERVAL_SHARE 2u  /* ... and at most this share of the longest time between checkpoints */
#define PAGES_PER_MS   4u  /* slowest pace, 16 MB/s of 4 KiB pages */
#define REST_MS        20u /* longest sleep between two looks */
#define RESTS_MAX      1000u /* of one call: far more than MOST_MS has */

uint64_t cp_pager__pace_ms(uint64_t done, uint64_t total, uint64_t elapsed_ms, uint64_t most_ms,
                           uint64_t grown_bytes, uint64_t room_bytes)
{
    if (done >= total || elapsed_ms >= most_ms || grown_bytes >= room_bytes)
        return 0;
    const double share = (double)done / (double)total;
    if (share <= (double)grown_bytes / (double)room_bytes)
        return 0;
    const double due_ms = share * (double)most_ms;
    return due_ms > (double)elapsed_ms ? (uint64_t)(due_ms - (double)elapsed_ms) : 0;
}

/*
 * By how much a debt may grow: three quarters of what it leaves of seven eighths of the limit, at
 * which commits wait. What is logged now is debt of the next flush: one that took all the room
 * would make that one rush, which then finds little to do, and so on in turns.
 */
static uint64_t room_of(uint64_t limit_bytes, uint64_t debt_bytes)
{
    const uint64_t end_bytes = limit_bytes / 8 * 7;
    return (end_bytes - cp_min_u64(end_bytes, debt_bytes)) / 4 * 3;
}

void cp_pager__pace_begin(struct cp_pager *pager, struct cp_pace *out_pace)
{
    const uint64_t debt_bytes = cp_pager__log_debt(pager);
    *out_pace = (struct cp_pace){
        .pager = pager,
        .begun_ns = cp_now_ns(),
        .most_ms = cp_min_u64(MOST_MS, pager->options.checkpoint_ms / INTERVAL_SHARE),
        .debt_bytes = debt_bytes,
        .room_bytes = room_of(pager->options.log_limit_bytes, debt_bytes),
    };
}

uint64_t cp_pager__pace_rest_ms(const struct cp_pace *pace, uint64_t done, uint64_t total)
{
    struct cp_pager *pager = pace->pager;
    const uint64_t most_ms = cp_min_u64(pace->most_ms, total / PAGES_PER_MS);
    if (atomic_load_explicit(&pager->hurrying, memory_order_relaxed) != 0 ||
        atomic_load_explicit(&pager->failed, memory_order_relaxed))
        return 0;
    /* What was dirty at the beginning moves from the one part of the debt to the other. */
    const uint64_t debt_bytes = cp_pager__log_debt(pager);
    const uint64_t grown_bytes = debt_bytes - cp_min_u64(debt_bytes, pace->debt_bytes);
    return cp_pager__pace_ms(done, total, (cp_now_ns() - pace->begun_ns) / 1000000u, most_ms,
                             grown_bytes, pace->room_bytes);
}

void cp_pager__pace(void *ctx, uint64_t done, uint64_t total)
{
    struct cp_pace *pace = ctx;
    struct cp_pager *pager = pace->pager;
    for (unsigned rest = 0; rest < RESTS_MAX; rest++) { /* ends: time passes, and by RESTS_MAX */
        /* What the thread does besides goes on; an error shows in the checkpoint itself. */
        cp_pager__background_tend(pager);
        const uint64_t ms = cp_pager__pace_rest_ms(pace, done, total);
        if (ms == 0)
            return;
        const uint64_t before_ns = cp_now_ns();
        if (!cp_pager__background_rest(pager, cp_min_u64(ms, REST_MS)))
            return;
        atomic_fetch_add_explicit(&pager->checkpoint_paused_us, (cp_now_ns() - before_ns) / 1000,
                                  memory_order_relaxed);
    }
}

void cp_pager__lock_sync(struct cp_pager *pager)
{
    atomic_fetch_add_explicit(&pager->hurrying, 1, memory_order_relaxed);
    pthread_mutex_lock(&pager->sync_mutex);
    atomic_fetch_sub_explicit(&pager->hurrying, 1, memory_order_relaxed);
}
