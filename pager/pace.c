/* SPDX-License-Identifier: MIT */
/*
 * The pace of a checkpoint that nobody waits for: it is spread, so that commits and reads find the
 * device free.
 *
 * Due is the larger of two shares: of the time that the flush may take, and of the log that it may
 * let pass. While the flush is ahead of that it rests. So an idle store takes its time, and one
 * that fills its log has its checkpoint well before commits would have to wait for it. There is no
 * rest while somebody waits for sync_mutex, at closing, or once the log comes near its limit.
 *
 * The thread that rests is the one that also makes relaxed commits durable and cleans: it goes on
 * with that here.
 */
#include "internal.h"

#include <clockpool/base/bits.h>

#include <time.h>

#define MOST_MS        10000u /* longest flush: redo point and log space do not wait for ever */
#define INTERVAL_SHARE 2u /* ... and at most this share of the longest time between checkpoints */
/* ... and of the time since the last one began: at a steady load the next follows soon after. */
#define LAST_SHARE   0.9
#define PAGES_PER_MS 4u /* slowest pace, 16 MB/s of 4 KiB pages */
#define LOG_SHARE    4u /* of the log's limit: half of what is left when a checkpoint begins */
/* The log has come so far to its limit, at which commits wait: no more rests. What is left to flush
 * logs its images yet. */
#define HURRY_AT(limit) ((limit) / 8 * 5)
#define REST_MS         20u   /* longest sleep between two looks */
#define RESTS_MAX       1000u /* of one call: far more than MOST_MS has */

uint64_t cp_pager__pace_ms(uint64_t done, uint64_t total, uint64_t elapsed_ms, uint64_t most_ms,
                           uint64_t log_bytes, uint64_t log_room_bytes)
{
    if (done >= total || elapsed_ms >= most_ms || log_bytes >= log_room_bytes)
        return 0;
    const double share = (double)done / (double)total;
    if (share <= (double)log_bytes / (double)log_room_bytes)
        return 0;
    const double due_ms = share * (double)most_ms;
    return due_ms > (double)elapsed_ms ? (uint64_t)(due_ms - (double)elapsed_ms) : 0;
}

void cp_pager__pace_begin(struct cp_pager *pager, struct cp_pace *out_pace)
{
    const uint64_t now_ns = cp_now_ns();
    uint64_t most_ms = cp_min_u64(MOST_MS, pager->options.checkpoint_ms / INTERVAL_SHARE);

    if (pager->pace_begun_ns != 0)
        most_ms = cp_min_u64(
            most_ms, (uint64_t)((double)(now_ns - pager->pace_begun_ns) / 1000000 * LAST_SHARE));
    pager->pace_begun_ns = now_ns;
    *out_pace = (struct cp_pace){pager, now_ns, cp_wal_end(pager->wal), most_ms};
}

uint64_t cp_pager__pace_rest_ms(const struct cp_pace *pace, uint64_t done, uint64_t total)
{
    struct cp_pager *pager = pace->pager;
    const uint64_t limit = pager->options.log_limit_bytes;
    const uint64_t most_ms = cp_min_u64(pace->most_ms, total / PAGES_PER_MS);
    if (atomic_load_explicit(&pager->hurrying, memory_order_relaxed) != 0 ||
        atomic_load_explicit(&pager->failed, memory_order_relaxed) ||
        cp_pager__log_since_checkpoint(pager) >= HURRY_AT(limit))
        return 0;
    /* The images that the flush logs itself are no sign that others are in a hurry. */
    const uint64_t log_bytes = cp_wal_end(pager->wal) - pace->begun_lsn;
    const uint64_t own_bytes = cp_min_u64(log_bytes, done * pager->page_size);
    return cp_pager__pace_ms(done, total, (cp_now_ns() - pace->begun_ns) / 1000000u, most_ms,
                             log_bytes - own_bytes, limit / LOG_SHARE);
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
