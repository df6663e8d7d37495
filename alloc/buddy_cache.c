/* SPDX-License-Identifier: MIT */
/*
 * Per-CPU caches in front of the buddy core: a stack of blocks of the one cached order.
 *
 * The CPU number only chooses a cache, it protects nothing: a thread that migrates between asking
 * for its number and taking the lock uses another CPU's cache, correctly. A cache is only ever
 * *tried* on the usual path. When its lock is taken (its holder was preempted, or migrated) the
 * caller goes to the core instead of waiting behind a thread that does not run.
 *
 * A cache moves half of its capacity at a time, so a run of allocations or frees takes the core
 * lock once in cache_blocks / 2 calls. A flush gives back the oldest blocks, which are the coldest.
 */
#include "buddy_internal.h"

#include <clockpool/base/bits.h>

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t stack_stride(const struct cp_buddy *buddy)
{
    return cp_align_up(buddy->cache_blocks, 32); /* 128 bytes: no line is shared */
}

static uint64_t stacks_bytes(const struct cp_buddy *buddy)
{
    return buddy->cache_count * stack_stride(buddy) * sizeof(uint32_t);
}

int cp_buddy__init_caches(struct cp_buddy *buddy, uint32_t cache_blocks)
{
    if (cache_blocks == 0)
        return 0;
    long cpus = sysconf(_SC_NPROCESSORS_CONF);
    buddy->cache_count = cpus < 1 ? 1 : (uint32_t)cp_min_u64((uint64_t)cpus, CP_BUDDY_CACHES_MAX);
    buddy->cache_blocks = cache_blocks;
    buddy->caches =
        aligned_alloc(_Alignof(struct cp_buddy_cache), buddy->cache_count * sizeof *buddy->caches);
    if (buddy->caches == NULL)
        return -ENOMEM;
    void *units =
        mmap(NULL, stacks_bytes(buddy), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (units == MAP_FAILED) {
        free(buddy->caches);
        return -ENOMEM;
    }
    buddy->cache_units = units;
    memset(buddy->caches, 0, buddy->cache_count * sizeof *buddy->caches);
    for (uint32_t i = 0; i < buddy->cache_count; i++) {
        pthread_mutex_init(&buddy->caches[i].lock, NULL); /* cannot fail without attributes */
        buddy->caches[i].units = buddy->cache_units + i * stack_stride(buddy);
    }
    return 0;
}

void cp_buddy__fini_caches(struct cp_buddy *buddy)
{
    if (buddy->cache_blocks == 0)
        return;
    for (uint32_t i = 0; i < buddy->cache_count; i++)
        pthread_mutex_destroy(&buddy->caches[i].lock);
    munmap(buddy->cache_units, stacks_bytes(buddy));
    free(buddy->caches);
}

/* The calling CPU's cache, locked, or NULL when somebody else holds it. */
static struct cp_buddy_cache *try_cache(struct cp_buddy *buddy)
{
    int cpu = sched_getcpu();
    struct cp_buddy_cache *cache = &buddy->caches[cpu < 0 ? 0 : (uint32_t)cpu % buddy->cache_count];
    return pthread_mutex_trylock(&cache->lock) == 0 ? cache : NULL;
}

static uint32_t get_count(const struct cp_buddy_cache *cache)
{
    return atomic_load_explicit(&cache->count, memory_order_relaxed);
}

static void set_count(struct cp_buddy_cache *cache, uint32_t count)
{
    atomic_store_explicit(&cache->count, count, memory_order_relaxed);
}

/* Fill an empty cache to half. Returns the blocks it then has. The cache is locked. */
static uint32_t refill(struct cp_buddy *buddy, struct cp_buddy_cache *cache)
{
    uint32_t wanted = (buddy->cache_blocks + 1) / 2;
    uint32_t start = wanted;

    pthread_mutex_lock(&buddy->core_lock);
    while (start > 0) {
        uint32_t unit = cp_buddy__take(buddy, buddy->cached_order, CP_BUDDY_CACHED);
        if (unit == CP_BUDDY_NO_UNIT)
            break;
        cache->units[--start] = unit; /* from the top down: the lowest address is used first */
    }
    pthread_mutex_unlock(&buddy->core_lock);
    memmove(cache->units, cache->units + start, (wanted - start) * sizeof *cache->units);
    set_count(cache, wanted - start);
    return wanted - start;
}

/* Give the oldest blocks to the core. The cache and the core are locked. */
static void flush_oldest(struct cp_buddy *buddy, struct cp_buddy_cache *cache, uint32_t flushed)
{
    uint32_t left = get_count(cache) - flushed;
    for (uint32_t i = 0; i < flushed; i++)
        cp_buddy__give(buddy, cache->units[i], buddy->cached_order);
    memmove(cache->units, cache->units + flushed, left * sizeof *cache->units);
    set_count(cache, left);
}

uint32_t cp_buddy__cache_take(struct cp_buddy *buddy)
{
    struct cp_buddy_cache *cache = try_cache(buddy);
    if (cache == NULL)
        return CP_BUDDY_NO_UNIT;
    uint32_t count = get_count(cache);
    if (count > 0)
        cp_buddy__count(&cache->hit_count, 1);
    else
        count = refill(buddy, cache);
    uint32_t unit = CP_BUDDY_NO_UNIT;
    if (count > 0) {
        unit = cache->units[--count];
        set_count(cache, count);
        cp_buddy__set_state(buddy, unit, CP_BUDDY_ALLOCATED | buddy->cached_order);
        cp_buddy__count(&cache->alloc_count, 1);
    }
    pthread_mutex_unlock(&cache->lock);
    return unit;
}

bool cp_buddy__cache_put(struct cp_buddy *buddy, uint32_t unit)
{
    struct cp_buddy_cache *cache = try_cache(buddy);
    if (cache == NULL)
        return false;
    if (cp_buddy__is_closed(buddy, unit)) {
        pthread_mutex_unlock(&cache->lock);
        return false;
    }
    if (get_count(cache) == buddy->cache_blocks) {
        pthread_mutex_lock(&buddy->core_lock);
        flush_oldest(buddy, cache, (buddy->cache_blocks + 1) / 2);
        pthread_mutex_unlock(&buddy->core_lock);
    }
    uint32_t count = get_count(cache);
    cp_buddy__set_state(buddy, unit, CP_BUDDY_CACHED | buddy->cached_order);
    cache->units[count] = unit;
    set_count(cache, count + 1);
    cp_buddy__count(&cache->free_count, 1);
    pthread_mutex_unlock(&cache->lock);
    return true;
}

void cp_buddy__lock_all(struct cp_buddy *buddy)
{
    for (uint32_t i = 0; i < buddy->cache_count; i++)
        pthread_mutex_lock(&buddy->caches[i].lock);
    pthread_mutex_lock(&buddy->core_lock);
}

void cp_buddy__unlock_all(struct cp_buddy *buddy)
{
    pthread_mutex_unlock(&buddy->core_lock);
    for (uint32_t i = buddy->cache_count; i-- > 0;)
        pthread_mutex_unlock(&buddy->caches[i].lock);
}

void cp_buddy__drain_locked(struct cp_buddy *buddy)
{
    for (uint32_t i = 0; i < buddy->cache_count; i++)
        flush_oldest(buddy, &buddy->caches[i], get_count(&buddy->caches[i]));
}
