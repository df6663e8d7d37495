/* SPDX-License-Identifier: MIT */
/*
 * Eviction: finding a frame for a page that is to come. The policy (clock.c) proposes, this file
 * claims.
 *
 * The policy is told of each miss once, with the page's name, when a frame is sought for it. Where
 * a spare frame is there the page enters at once; else what the policy says of its place goes with
 * the frame until the page is claimed (cp_evict__enter).
 *
 * Rules
 *  1. A victim is claimed by swapping its state word from "free, unreferenced" to exclusive:
 *     whoever wins the swap owns page and frame, after the pin slots have been searched if the word
 *     was biased (bias.c). No other check is needed, none is trusted. Since that search costs a
 *     barrier, and the lock something too, a sweep claims several victims at a time; the frames it
 *     has no use for are spares, which the next misses find.
 *  2. A clean victim is taken without any waiting. Dirty pages the hand comes by are claimed shared
 *     and written in a batch; only when no clean victim exists does the caller wait for a write.
 *  3. Nobody waits here while holding clock_lock.
 *  4. Every wait ends: writes complete or fail, and waiting for others to unpin is bounded by
 *     CP_BUFPOOL_WAIT_LIMIT_MS.
 */
#include "internal.h"

#include <errno.h>
#include <time.h>

/* Pause between two looks when every frame is pinned or under I/O. */
#define FRAME_PAUSE_NS 200000
/* How long a latched page may be in the hands of an evictor before it counts as pinned. */
#define CLAIM_PATIENCE_NS 50000000
/* Blocks cleared for one large frame before fragmentation by pinned pages counts as exhaustion. */
#define GATHER_ROUNDS 1024u
/* Dirty pages met on the way are written early when there are at least this share of a batch. */
#define EARLY_WRITE_SHARE 4u
/* Batches that may be in flight before a sweep stops starting more. */
#define BATCHES_IN_FLIGHT 4u
/* A sweep takes at most this share of the pages, */
#define VICTIMS_SHARE 256u
/* and looks at so many slots for each further victim. */
#define LOOKS_PER_VICTIM 8u

/* What is hinted at is what a sweep will look at: clock.h does not know how many that are. */
_Static_assert(CP_CLOCK_AHEAD == CP_VICTIMS_MAX + 2 * CP_CLOCK_APART, "hints for one sweep");

struct sweep {
    struct cp_bufpool *pool;
    struct cp_frame *victim;
    struct cp_frame *claimed[CP_VICTIMS_MAX];   /* words exclusive, slots not searched yet */
    enum cp_clock_place places[CP_VICTIMS_MAX]; /* where they stood */
    uint32_t claimed_count, claimed_limit;
    bool more; /* another victim would be welcome */
    struct cp_frame *dirty[CP_WRITE_BATCH_MAX];
    uint32_t dirty_count, dirty_limit;
    bool no_clean; /* every resident page is dirty: stop when the batch is full */
};

/* A cold page that is dirty: take it into the batch, if there is room. */
static enum cp_clock_look look_at_dirty(struct sweep *sweep, struct cp_frame *frame, uint64_t *word,
                                        uint64_t seen)
{
    if (sweep->dirty_count < sweep->dirty_limit && cp_writeback__claim(sweep->pool, word, seen))
        sweep->dirty[sweep->dirty_count++] = frame;
    if (sweep->no_clean && sweep->dirty_count >= sweep->dirty_limit)
        return CP_CLOCK_STOP;
    return CP_CLOCK_LATER;
}

/*
 * A slot will be looked at: fetch the next of the three things that a look reads, each of which
 * tells where the next one is. One step for each miss, so that none waits for memory here.
 */
static enum cp_clock_look fetch(struct cp_bufpool *pool, uint32_t unit, enum cp_clock_ask ask)
{
    const struct cp_slot *slot = &pool->slots[unit];

    if (ask == CP_CLOCK_FARTHEST) {
        __builtin_prefetch(slot);
    } else if (slot->frame != 0) {
        const struct cp_frame *frame = &pool->frames[slot->frame - 1];
        if (ask == CP_CLOCK_FAR)
            __builtin_prefetch(frame);
        else
            __builtin_prefetch(atomic_load_explicit(&frame->word, memory_order_relaxed), 1);
    }
    return CP_CLOCK_SKIP;
}

/* The policy's question about a slot, answered by trying to claim it. Under clock_lock. */
static enum cp_clock_look look_at(void *ctx, uint32_t unit, enum cp_clock_ask ask)
{
    struct sweep *sweep = ctx;
    struct cp_bufpool *pool = sweep->pool;
    if (ask >= CP_CLOCK_NEAR)
        return fetch(pool, unit, ask);
    struct cp_frame *frame = &pool->frames[pool->slots[unit].frame - 1];
    /* acquire: pairs with the release in cp_load__claim */
    uint64_t *word = atomic_load_explicit(&frame->word, memory_order_acquire);

    if (word == NULL)
        return CP_CLOCK_SKIP;
    uint64_t seen = cp_word_load(word);
    if (!cp_word_readable(seen) || cp_bufpool__frame_number(pool, seen) != (uint64_t)unit + 1)
        return CP_CLOCK_SKIP;
    if (cp_word_latch(seen) != CP_LATCH_FREE && ask == CP_CLOCK_TAKE)
        return CP_CLOCK_SKIP;
    if ((seen & CP_WORD_REF) != 0)
        return cp_state__cas(word, &seen, seen & ~CP_WORD_REF) ? CP_CLOCK_REFERENCED
                                                               : CP_CLOCK_SKIP;
    if (ask == CP_CLOCK_VISIT)
        return cp_word_latch(seen) == CP_LATCH_FREE ? CP_CLOCK_COLD : CP_CLOCK_SKIP;
    if ((seen & CP_WORD_DIRTY) != 0)
        return look_at_dirty(sweep, frame, word, seen);
    if (!cp_state__cas(word, &seen, cp_word_with_latch(seen, CP_LATCH_EXCLUSIVE)))
        return CP_CLOCK_SKIP;
    sweep->places[sweep->claimed_count] = cp_clock__place(&pool->clock, unit);
    sweep->claimed[sweep->claimed_count++] = frame;
    sweep->more = sweep->claimed_count < sweep->claimed_limit;
    cp_ghosts__prefetch(&pool->clock.ghosts, cp_bufpool__key(frame->file, frame->page));
    return CP_CLOCK_COLD;
}

/* Claim a victim, and others with it. Under clock_lock. Returns the looks. */
static uint32_t claim_victims(struct cp_bufpool *pool, struct sweep *sweep)
{
    uint64_t resident = atomic_load_explicit(&pool->pages_resident, memory_order_relaxed);
    /* Two rounds: the first may do no more than clear marks. */
    uint32_t left = 2 * (uint32_t)resident + CP_WINDOW_PAGES;
    uint32_t looks = 0, sum = 0;

    do { /* ends: each round uses looks, or finds nothing */
        if (cp_clock__pick(&pool->clock, left, look_at, sweep, &looks) == CP_CLOCK_NONE)
            sweep->more = false;
        sum += looks;
        left = sweep->claimed_count == 1 ? sweep->claimed_limit * LOOKS_PER_VICTIM
                                         : left - (uint32_t)cp_min_u64(left, looks);
    } while (sweep->more && left > 0);
    return sum;
}

/*
 * Evicted frames that nobody has a use for yet are kept as spares, of each size as many as a sweep
 * claims. Under clock_lock. False: there are enough.
 */
static bool push_spare(struct cp_bufpool *pool, struct cp_frame *frame, uint32_t limit)
{
    struct cp_spares *spares = &pool->spares[frame->order];

    if (spares->count >= limit)
        return false;
    spares->frames[spares->count++] = frame;
    return true;
}

static struct cp_frame *pop_spare(struct cp_bufpool *pool, uint32_t order)
{
    struct cp_spares *spares = &pool->spares[order];
    return spares->count > 0 ? spares->frames[--spares->count] : NULL;
}

static uint32_t victims_limit(const struct cp_bufpool *pool)
{
    uint64_t resident = atomic_load_explicit(&pool->pages_resident, memory_order_relaxed);
    return (uint32_t)cp_max_u64(1, cp_min_u64(CP_VICTIMS_MAX, resident / VICTIMS_SHARE));
}

/*
 * Search the slots for what was claimed. The first page that nobody holds becomes the victim, the
 * others' frames are spares; what readers hold is referenced from now on. Returns how many they
 * hold.
 */
static uint32_t settle_claims(struct cp_bufpool *pool, struct sweep *sweep)
{
    uint64_t *words[CP_VICTIMS_MAX];
    uint64_t keys[CP_VICTIMS_MAX];
    uint32_t orders[CP_VICTIMS_MAX];
    struct cp_frame *left[CP_VICTIMS_MAX]; /* more than are kept as spares */
    uint32_t evicted = 0, left_count = 0, limit = victims_limit(pool);

    if (sweep->claimed_count == 0)
        return 0;
    for (uint32_t i = 0; i < sweep->claimed_count; i++) {
        struct cp_frame *frame = sweep->claimed[i];
        words[i] = atomic_load_explicit(&frame->word, memory_order_relaxed);
        orders[i] = frame->order; /* what is let go is no longer ours to look at */
        keys[i] = cp_bufpool__key(frame->file, frame->page);
    }
    uint64_t pinned = cp_bias__settle(words, sweep->claimed_count, CP_WORD_REF);
    for (uint32_t i = 0; i < sweep->claimed_count; i++) {
        if ((pinned >> i & 1) == 0)
            cp_evict__drop_page(pool, sweep->claimed[i]);
    }
    pthread_mutex_lock(&pool->clock_lock);
    for (uint32_t i = 0; i < sweep->claimed_count; i++) {
        struct cp_frame *frame = sweep->claimed[i];
        if ((pinned >> i & 1) != 0) {
            cp_clock__keep(&pool->clock, orders[i], sweep->places[i]);
            continue;
        }
        cp_clock__evict(&pool->clock, frame->unit, keys[i], true);
        if (evicted++ == 0)
            sweep->victim = frame;
        else if (!push_spare(pool, frame, limit))
            left[left_count++] = frame;
    }
    pthread_mutex_unlock(&pool->clock_lock);
    while (left_count > 0)
        cp_memory__frame_free(pool, left[--left_count]);
    cp_bufpool__count(pool, CP_COUNT_EVICTIONS, evicted);
    return sweep->claimed_count - evicted;
}

/* Move the hand until it has a clean victim, whose page is dropped, or has seen everything twice.
 */
static void run_sweep(struct cp_bufpool *pool, struct sweep *sweep)
{
    uint64_t resident = atomic_load_explicit(&pool->pages_resident, memory_order_relaxed);
    uint64_t dirty = atomic_load_explicit(&pool->pages_dirty, memory_order_relaxed);
    uint64_t writing = atomic_load_explicit(&pool->writes_in_flight, memory_order_relaxed);
    uint64_t pinned = 0;

    if (writing > 0) /* early writes that have completed hold their pages until somebody reaps */
        (void)cp_io_ring_poll(pool->write_ring);
    sweep->pool = pool;
    sweep->victim = NULL;
    sweep->dirty_count = 0;
    sweep->dirty_limit = writing < (uint64_t)BATCHES_IN_FLIGHT * pool->write_batch_pages
                             ? pool->write_batch_pages
                             : 0;
    sweep->no_clean = dirty >= resident;
    sweep->claimed_limit = victims_limit(pool);

    do { /* ends: with a victim, without claims, or when readers held as many as there are pages */
        sweep->claimed_count = 0;
        pthread_mutex_lock(&pool->clock_lock);
        uint32_t looks = claim_victims(pool, sweep);
        pthread_mutex_unlock(&pool->clock_lock);
        cp_bufpool__count(pool, CP_COUNT_SWEEP_STEPS, looks);
        pinned += settle_claims(pool, sweep);
    } while (sweep->victim == NULL && sweep->claimed_count > 0 && pinned <= resident);
}

/* The page that comes into this frame stands at its place from now on. Under clock_lock. */
static void enter(struct cp_bufpool *pool, struct cp_frame *frame, enum cp_clock_place place)
{
    struct sweep sweep;

    sweep.pool = pool; /* no page is claimed here */
    cp_clock__insert(&pool->clock, frame->unit, frame->order, place, frame->fetched != 0, look_at,
                     &sweep);
    frame->entered = 1;
}

/* Does main, which is full, make room for a page? Under clock_lock. */
static bool admit(struct cp_bufpool *pool, struct sweep *sweep)
{
    uint32_t looks = 0, slot = CP_CLOCK_NONE;

    sweep->claimed_limit = 1;
    sweep->dirty_count = sweep->dirty_limit = 0;
    sweep->no_clean = false;
    bool admitted = cp_clock__admit(&pool->clock, look_at, sweep, &slot, &looks);
    cp_bufpool__count(pool, CP_COUNT_SWEEP_STEPS, looks);
    return admitted;
}

/* What a miss has found so far. */
struct miss {
    struct cp_bufpool_file *file;
    uint64_t page;
    bool fetched;              /* prefetch: nobody has asked for the page yet */
    bool told;                 /* the policy knows of the miss */
    enum cp_clock_place place; /* what it said */
    struct cp_frame *frame;    /* for the page, or NULL so far */
};

/*
 * Tell the policy of a miss, whose frame may have been found already, and ask where the page
 * belongs. The frame is a spare one, or that of a page which has to make room, if there is such.
 * Usually this is the only time that a miss takes clock_lock. may_fail: do nothing without a spare.
 */
static void tell_policy(struct miss *miss, bool may_fail)
{
    struct cp_bufpool *pool = miss->file->pool;
    bool full = false, found = miss->frame != NULL;
    struct sweep sweep;

    sweep.pool = pool;
    sweep.victim = NULL;
    sweep.claimed_count = 0;
    pthread_mutex_lock(&pool->clock_lock);
    if (!found)
        miss->frame = pop_spare(pool, miss->file->order);
    miss->told = miss->frame != NULL || !may_fail;
    if (miss->told)
        miss->place = cp_clock__miss(&pool->clock, cp_bufpool__key(miss->file, miss->page),
                                     miss->file->order, &full);
    if (full && !admit(pool, &sweep))
        miss->place = CP_CLOCK_PROBATION;
    if (miss->told)
        cp_clock__look_ahead(&pool->clock, look_at, &sweep);
    if (miss->frame != NULL) {
        miss->frame->fetched = miss->fetched;
        if (sweep.claimed_count == 0)
            enter(pool, miss->frame, miss->place);
        else if (!found && push_spare(pool, miss->frame, CP_VICTIMS_MAX)) /* the victim serves */
            miss->frame = NULL;
    }
    pthread_mutex_unlock(&pool->clock_lock);
    if (sweep.claimed_count == 0)
        return;
    (void)settle_claims(pool, &sweep);
    if (sweep.victim == NULL)
        return;
    if (miss->frame == NULL && sweep.victim->order == miss->file->order)
        miss->frame = sweep.victim;
    else
        cp_memory__frame_free(pool, sweep.victim);
}

void cp_evict__enter(struct cp_bufpool *pool, struct cp_frame *frame)
{
    enum cp_clock_place place = (enum cp_clock_place)frame->place;
    bool full = false;

    if (frame->entered != 0)
        return;
    pthread_mutex_lock(&pool->clock_lock);
    if (place == CP_CLOCK_OUT) {
        place = cp_clock__miss(&pool->clock, cp_bufpool__key(frame->file, frame->page),
                               frame->order, &full);
        if (full) /* nothing is evicted while a claim is held */
            place = CP_CLOCK_PROBATION;
    }
    enter(pool, frame, place);
    pthread_mutex_unlock(&pool->clock_lock);
}

void cp_evict__drop_page(struct cp_bufpool *pool, struct cp_frame *frame)
{
    uint64_t *word = atomic_load_explicit(&frame->word, memory_order_relaxed);
    struct cp_bufpool_file *file = frame->file;
    uint64_t page = frame->page;
    uint64_t held = cp_word_load(word);

    cp_debug_assert(cp_word_latch(held) >= CP_LATCH_LOADING);
    cp_debug_assert((held & CP_WORD_BIASED) == 0); /* the slots have been searched */
    CP_PROBE3(page_drop, file->path, page, (held & CP_WORD_DIRTY) != 0);
    atomic_fetch_add_explicit(&file->drops, 1, memory_order_relaxed);
    if (cp_word_latch(held) == CP_LATCH_EXCLUSIVE) {
#ifndef CP_BREAK_VERSION /* rule breaker for the tests: forget which versions were used */
        pool->slots[frame->unit].generation = (uint32_t)cp_bufpool__word_version(pool, held);
#endif
        atomic_fetch_sub_explicit(&pool->pages_resident, 1, memory_order_relaxed);
    }
    if ((held & CP_WORD_DIRTY) != 0) {
        atomic_fetch_sub_explicit(&pool->pages_dirty, 1, memory_order_relaxed);
        atomic_fetch_sub_explicit(&file->dirty_pages, 1, memory_order_relaxed);
    }
    frame->entered = 0;
    atomic_store_explicit(&frame->lsn, 0, memory_order_relaxed);
    atomic_store_explicit(&frame->word, NULL, memory_order_relaxed);
    cp_latch_publish(word, 0);
    cp_table__leave(file, page);
    /* release: pairs with the acquire in detach; the file is not touched after this */
    atomic_fetch_sub_explicit(&file->drops, 1, memory_order_release);
}

static void let_go(struct sweep *sweep)
{
    for (uint32_t i = 0; i < sweep->dirty_count; i++)
        cp_writeback__let_go(sweep->pool, sweep->dirty[i]);
}

/* Dirty pages met beside a clean victim: write them early, asking nobody to wait. */
static void write_early(struct cp_bufpool *pool, struct sweep *sweep)
{
    if (sweep->dirty_count >= pool->write_batch_pages / EARLY_WRITE_SHARE)
        (void)cp_writeback__start(pool, sweep->dirty, sweep->dirty_count, CP_GATE_SKIP, NULL);
    else
        let_go(sweep);
}

/* No clean victim: write a batch of dirty ones and wait until some are clean. */
static int write_and_wait(struct cp_bufpool *pool, struct sweep *sweep)
{
    struct cp_write_wait wait = {0};

    cp_bufpool__count(pool, CP_COUNT_WRITE_WAITS, 1);
    cp_bufpool__count(pool, CP_COUNT_EVICTED_DIRTY, sweep->dirty_count);
    int status =
        cp_writeback__start(pool, sweep->dirty, sweep->dirty_count, CP_GATE_IF_NONE, &wait);
    int waited = cp_writeback__wait(pool, &wait);
    if (wait.written > 0)
        return 0; /* some are clean now, whatever happened to the rest */
    return status != 0 ? status : waited;
}

int cp_evict__gather(struct cp_bufpool *pool, uint32_t unit, uint32_t order, bool may_wait)
{
    struct cp_extent_pass pass;
    pass.clean_only = !may_wait;
    uint32_t count = 1u << order;
    int status = cp_memory__empty_units(pool, unit & ~(count - 1), count, &pass);
    return status == -EAGAIN ? 0 : status;
}

/*
 * Evict one page. 0 with *out_frame, if its frame has the right order; 0 with NULL when memory was
 * freed or pages became clean, so that it is worth trying again; -EAGAIN when nothing could be
 * done now; or the error of a write or of the gate.
 */
static int evict_one(struct cp_bufpool *pool, uint32_t order, bool may_wait,
                     struct cp_frame **out_frame)
{
    struct sweep sweep;

    *out_frame = NULL;
    run_sweep(pool, &sweep);
    if (sweep.victim == NULL) {
        if (sweep.dirty_count == 0)
            return cp_memory__free_spares(pool) ? 0 : -EAGAIN;
        if (may_wait)
            return write_and_wait(pool, &sweep);
        (void)cp_writeback__start(pool, sweep.dirty, sweep.dirty_count, CP_GATE_SKIP, NULL);
        return -EAGAIN;
    }
    if (sweep.dirty_count > 0)
        write_early(pool, &sweep);
    if (sweep.victim->order == order) {
        *out_frame = sweep.victim;
        return 0;
    }
    uint32_t unit = sweep.victim->unit;
    bool too_small = sweep.victim->order < order;
    cp_memory__frame_free(pool, sweep.victim);
    return too_small ? cp_evict__gather(pool, unit, order, may_wait) : 0;
}

/* Is there time left to wait? The first to ask sets the deadline. */
static bool has_time(uint64_t now_ns, uint64_t *deadline_ns)
{
    if (*deadline_ns == 0)
        *deadline_ns = now_ns + CP_BUFPOOL_WAIT_LIMIT_MS * UINT64_C(1000000);
    return now_ns < *deadline_ns;
}

/* Nothing can be evicted right now: wait for I/O, or a little for others to unpin. */
static int wait_for_frames(struct cp_bufpool *pool, uint64_t *deadline_ns)
{
    const struct timespec pause = {0, FRAME_PAUSE_NS};

    cp_bufpool__count(pool, CP_COUNT_FRAME_WAITS, 1);
    CP_PROBE1(frame_wait, pool);
    const bool in_time = has_time(cp_now_ns(), deadline_ns);
    if (atomic_load_explicit(&pool->writes_in_flight, memory_order_relaxed) > 0) {
        cp_writeback__wait_any(pool);
        return 0;
    }
    for (uint32_t i = 0; i < pool->ring_count; i++)
        (void)cp_io_ring_poll(pool->rings[i]);
    if (!in_time)
        return cp_error_set(
            CP_ENOFRAMES, NULL, CP_NO_PAGE, CP_NO_LSN,
            "unfix pages sooner, or raise the budget; "
            "cp_bufpool_list_pins shows who holds what",
            "looking for a frame for %u ms: all of %llu resident pages are pinned",
            CP_BUFPOOL_WAIT_LIMIT_MS,
            (unsigned long long)atomic_load_explicit(&pool->pages_resident, memory_order_relaxed));
    nanosleep(&pause, NULL);
    return 0;
}

/* Is it worth asking the allocator? Spares a full pool the allocator's last resorts. */
static bool may_have_memory(struct cp_bufpool *pool, uint32_t order)
{
    return atomic_load_explicit(&pool->free_units, memory_order_relaxed) >= (INT64_C(1) << order) ||
           atomic_load_explicit(&pool->budget.used_bytes, memory_order_relaxed) +
                   pool->extent_cost_bytes <=
               atomic_load_explicit(&pool->budget.limit_bytes, memory_order_relaxed);
}

/* Look for a frame until there is one, the deadline has come, or a write or the gate fails. */
static int find_frame(struct cp_bufpool *pool, uint32_t order, struct cp_frame **out_frame)
{
    uint64_t deadline_ns = 0;
    uint32_t rounds = 0;

    *out_frame = NULL;
    for (;;) { /* ends: by GATHER_ROUNDS, by the deadline, or with a frame */
        int status = 0;
        if (may_have_memory(pool, order))
            *out_frame = cp_memory__frame_alloc(pool, order);
        if (*out_frame == NULL)
            status = evict_one(pool, order, true, out_frame);
        if (*out_frame != NULL)
            return 0;
        if (status == -EAGAIN)
            status = wait_for_frames(pool, &deadline_ns);
        if (status != 0)
            return status;
        if (++rounds >= GATHER_ROUNDS && deadline_ns == 0)
            return cp_error_set(CP_ENOFRAMES, NULL, CP_NO_PAGE, CP_NO_LSN,
                                "raise the budget, or hold fewer pages at a time",
                                "looking for %llu bytes in one piece: pinned pages fragment the "
                                "memory",
                                (unsigned long long)(CP_UNIT_BYTES << order));
    }
}

/* The frame gets what its page will be entered with, if it has not been entered yet. */
static void hand_out(struct cp_frame *frame, enum cp_clock_place place, bool fetched,
                     struct cp_frame **out_frame)
{
    if (frame->entered == 0) {
        frame->place = place;
        frame->fetched = fetched;
    }
    *out_frame = frame;
}

int cp_evict__acquire(struct cp_bufpool_file *file, uint64_t page, bool fetched,
                      struct cp_frame **out_frame)
{
    struct miss miss = {.file = file, .page = page, .fetched = fetched};
    int status = 0;

    tell_policy(&miss, false);
    if (miss.frame == NULL)
        status = find_frame(file->pool, file->order, &miss.frame);
    if (status != 0)
        return status;
    cp_clean__after_miss(file->pool);
    hand_out(miss.frame, miss.place, fetched, out_frame);
    return 0;
}

int cp_evict__try_frame(struct cp_bufpool *pool, uint32_t order, struct cp_frame **out_frame)
{
    pthread_mutex_lock(&pool->clock_lock);
    struct cp_frame *frame = pop_spare(pool, order);
    pthread_mutex_unlock(&pool->clock_lock);

    if (frame == NULL && may_have_memory(pool, order))
        frame = cp_memory__frame_alloc(pool, order);
    if (frame == NULL) {
        int status = evict_one(pool, order, false, &frame);
        if (status != 0)
            return -EAGAIN;
    }
    if (frame == NULL) /* a victim of another size was freed: it may be enough now */
        frame = cp_memory__frame_alloc(pool, order);
    cp_clean__after_miss(pool);
    if (frame == NULL)
        return -EAGAIN;
    hand_out(frame, CP_CLOCK_OUT, false, out_frame);
    return 0;
}

int cp_evict__try_acquire(struct cp_bufpool_file *file, uint64_t page, bool fetched,
                          struct cp_frame **out_frame)
{
    struct miss miss = {.file = file, .page = page, .fetched = fetched};

    tell_policy(&miss, true);
    if (miss.frame != NULL) {
        cp_clean__after_miss(file->pool);
    } else {
        bool told = miss.told; /* then main's victim turned out to be held */
        int status = cp_evict__try_frame(file->pool, file->order, &miss.frame);
        if (status != 0)
            return status;
        if (!told) /* only now: after a failure the same miss comes again */
            tell_policy(&miss, false);
    }
    hand_out(miss.frame, miss.place, fetched, out_frame);
    return 0;
}

static int pinned(const struct cp_bufpool_file *file, uint64_t page)
{
    return cp_error_set(CP_EPINNED, file->path, page, CP_NO_LSN,
                        "unfix the page first; cp_bufpool_list_pins shows the holder",
                        "dropping a page");
}

/* Is this very page claimed for writing? For who holds neither the word nor the frame. */
static bool is_being_written(struct cp_bufpool *pool, const uint64_t *word, uint64_t seen)
{
    pthread_mutex_lock(&pool->clock_lock); /* so that the frame stays one */
    uint32_t index = pool->slots[cp_bufpool__unit_of(pool, seen)].frame;
    const struct cp_frame *frame = index != 0 ? &pool->frames[index - 1] : NULL;
    bool written = frame != NULL &&
                   atomic_load_explicit(&frame->word, memory_order_relaxed) == word &&
                   atomic_load_explicit(&frame->writing, memory_order_relaxed) != 0;
    pthread_mutex_unlock(&pool->clock_lock);
    return written;
}

int cp_evict__claim(struct cp_bufpool_file *file, uint64_t page, struct cp_frame **out_frame)
{
    struct cp_bufpool *pool = file->pool;
    uint64_t *word = &file->map.words[page];
    uint64_t deadline_ns = 0;

    for (;;) { /* ends: by the deadline, or with the page's own write */
        uint64_t seen = cp_word_load(word);
        *out_frame = NULL;
        if (seen == 0)
            return 0;
        if (cp_word_latch(seen) == CP_LATCH_FREE) {
            if (!cp_state__cas(word, &seen, cp_word_with_latch(seen, CP_LATCH_EXCLUSIVE)))
                continue;
            if (cp_bias__settle_one(word)) {
                *out_frame = cp_bufpool__frame_of(pool, seen);
                return 0;
            }
            /* Each reader may let go in time, and yet another one always hold the page. */
            uint64_t now_ns = cp_now_ns();
            if (has_time(now_ns, &deadline_ns) && cp_pin_wait(word, now_ns + CLAIM_PATIENCE_NS))
                continue;
            return pinned(file, page);
        }
        bool io = cp_word_latch(seen) == CP_LATCH_LOADING ||
                  (cp_word_readable(seen) &&
                   atomic_load_explicit(&pool->writes_in_flight, memory_order_relaxed) > 0);
        /* A writer that waits for the log takes as long as that takes: no reason to call it a pin.
         */
        bool writer = cp_word_readable(seen) &&
                      atomic_load_explicit(&pool->writes_claimed, memory_order_relaxed) > 0;
        uint64_t now_ns = cp_now_ns();
        if (!has_time(now_ns, &deadline_ns) && !is_being_written(pool, word, seen))
            return pinned(file, page);
        if (!io && cp_latch_wait(word, seen, NULL, NULL, now_ns + CLAIM_PATIENCE_NS) != 0 &&
            !writer)
            return pinned(file, page);
        if (io)
            cp_fix__wait_word(file, word, seen);
    }
}
