/* SPDX-License-Identifier: MIT */
/* Folding of the per-thread counters, and cp_bufpool_stats. */
#include "internal.h"

uint64_t cp_counters__sum(const struct cp_bufpool *pool, enum cp_counter counter)
{
    uint64_t sum = 0;
    for (unsigned slot = 0; slot <= CP_THREAD_SLOT_SHARED; slot++)
        sum += atomic_load_explicit(&pool->counters[slot].value[counter], memory_order_relaxed);
    return sum;
}

static uint64_t load(const _Atomic uint64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

static void fill_events(const struct cp_bufpool *pool, struct cp_bufpool_stats *stats)
{
    stats->hits = cp_counters__sum(pool, CP_COUNT_HITS);
    stats->misses = cp_counters__sum(pool, CP_COUNT_MISSES);
    stats->optimistic_retries = cp_counters__sum(pool, CP_COUNT_OPTIMISTIC_RETRIES);
    stats->evictions = cp_counters__sum(pool, CP_COUNT_EVICTIONS);
    stats->evicted_dirty = cp_counters__sum(pool, CP_COUNT_EVICTED_DIRTY);
    stats->pages_read = cp_counters__sum(pool, CP_COUNT_PAGES_READ);
    stats->pages_written = cp_counters__sum(pool, CP_COUNT_PAGES_WRITTEN);
    stats->reads = cp_counters__sum(pool, CP_COUNT_READS);
    stats->writes = cp_counters__sum(pool, CP_COUNT_WRITES);
    stats->pages_merged = cp_counters__sum(pool, CP_COUNT_PAGES_MERGED);
    stats->read_errors = cp_counters__sum(pool, CP_COUNT_READ_ERRORS);
    stats->write_errors = cp_counters__sum(pool, CP_COUNT_WRITE_ERRORS);
    stats->verify_errors = cp_counters__sum(pool, CP_COUNT_VERIFY_ERRORS);
    stats->latch_waits = cp_counters__sum(pool, CP_COUNT_LATCH_WAITS);
    stats->load_waits = cp_counters__sum(pool, CP_COUNT_LOAD_WAITS);
    stats->write_waits = cp_counters__sum(pool, CP_COUNT_WRITE_WAITS);
    stats->frame_waits = cp_counters__sum(pool, CP_COUNT_FRAME_WAITS);
    stats->gate_calls = cp_counters__sum(pool, CP_COUNT_GATE_CALLS);
    stats->gate_failures = cp_counters__sum(pool, CP_COUNT_GATE_FAILURES);
    stats->sweep_steps = cp_counters__sum(pool, CP_COUNT_SWEEP_STEPS);
    stats->table_punched = cp_counters__sum(pool, CP_COUNT_TABLE_PUNCHED);
    stats->extents_released = cp_counters__sum(pool, CP_COUNT_EXTENTS_RELEASED);
    stats->pages_cleaned = cp_counters__sum(pool, CP_COUNT_PAGES_CLEANED);
    stats->scan_pages = cp_counters__sum(pool, CP_COUNT_SCAN_PAGES);
    stats->scan_waits = cp_counters__sum(pool, CP_COUNT_SCAN_WAITS);
    stats->scan_reused = cp_counters__sum(pool, CP_COUNT_SCAN_REUSED);
}

/* What larger pools would have missed. The ghosts' ages reach as far as twice the pool. */
static void fill_working_set(struct cp_bufpool *pool, struct cp_bufpool_stats *stats)
{
    _Static_assert(CP_BUFPOOL_SIZE_STEPS == CP_CLOCK_AGE_STEPS, "one histogram");
    uint64_t accesses = stats->hits + stats->misses, misses = stats->misses;

    pthread_mutex_lock(&pool->clock_lock);
    for (uint32_t i = 0; i < CP_BUFPOOL_SIZE_STEPS; i++)
        stats->ghost_hits[i] = pool->clock.ghost_hits[i];
    pthread_mutex_unlock(&pool->clock_lock);
    for (uint32_t i = 0; i <= CP_BUFPOOL_SIZE_STEPS && accesses > 0; i++) {
        stats->miss_ratio_at[i] = (double)misses / (double)accesses;
        if (i < CP_BUFPOOL_SIZE_STEPS)
            misses -= cp_min_u64(misses, stats->ghost_hits[i]);
    }
}

static void fill_memory(struct cp_bufpool *pool, uint32_t flags, struct cp_bufpool_stats *stats)
{
    struct cp_buddy_stats buddy;

    cp_buddy_stats(pool->buddy, &buddy);
    stats->budget_bytes = load(&pool->budget.limit_bytes);
    stats->used_bytes = load(&pool->budget.used_bytes);
    stats->peak_bytes = load(&pool->budget.peak_bytes);
    stats->frame_bytes = load(&pool->budget.by_purpose[CP_FOR_FRAMES]);
    stats->descriptor_bytes = load(&pool->budget.by_purpose[CP_FOR_DESCRIPTORS]);
    stats->table_bytes = load(&pool->budget.by_purpose[CP_FOR_TABLE]);
    stats->io_bytes = load(&pool->budget.by_purpose[CP_FOR_IO]);
    stats->fixed_bytes = load(&pool->budget.by_purpose[CP_FOR_FIXED]);
    stats->frame_used_bytes = buddy.allocated_bytes;
    stats->fragmentation = buddy.fragmentation;
    if ((flags & CP_BUFPOOL_STATS_HUGE) != 0)
        stats->huge_bytes = cp_arena_huge_bytes(pool->arena);
}

void cp_bufpool_stats(struct cp_bufpool *pool, uint32_t flags, struct cp_bufpool_stats *out_stats)
{
    static const char nothing[] = "nothing: the pool was created before fork";
    struct cp_bufpool_stats stats = {.buffers_reason = nothing, .io_backend = nothing};
    struct cp_io_ring_stats ring;
    struct cp_io_stats io;

    fill_events(pool, &stats);
    if (!cp_fork_guard_same(&pool->fork_guard)) { /* a child may have inherited the locks shut */
        *out_stats = stats;
        return;
    }
    fill_working_set(pool, &stats);
    fill_memory(pool, flags, &stats);
    stats.pages_resident = load(&pool->pages_resident);
    stats.pages_dirty = load(&pool->pages_dirty);
    stats.reads_in_flight = load(&pool->reads_in_flight);
    stats.writes_in_flight = load(&pool->writes_in_flight);
    stats.ring_count = pool->ring_count;
    cp_io_ring_stats(pool->rings[0], &ring);
    stats.registered_bytes = ring.registered_bytes;
    stats.buffers_reason = ring.buffers_reason;
    cp_io_stats(pool->io, &io);
    stats.io_backend = io.backend_name;
    *out_stats = stats;
}
