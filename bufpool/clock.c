/* SPDX-License-Identifier: MIT */
/*
 * The replacement policy: a clock sweep that keeps scans and loops out of what is hot
 * (docs/adr/0009-replacement-policy.md has the choice and what it is measured against).
 *
 * A page that is missed begins in probation, a queue. Unless it is referenced again there, it is
 * evicted when it is the oldest: so a scan passes through a small part of the pool. With a
 * reference it moves to main, where the hand passes over frames in their order: a page has a count
 * of 0 to 3, which a reference raises and a look without one lowers; at 0 it is a victim. Evicted
 * pages leave ghosts. A page that is missed while its ghost is there was evicted too early: it goes
 * to main directly, and the ghost tells which part was too small; the target size of probation
 * follows. When main is full, such a page is admitted only if one of two frames under the hand is
 * cold, or else a loop larger than the pool would push everything out.
 *
 * For the same reason the hand has a credit. Each step that only lowers what protects a page costs
 * one, each miss gives a little, and any sign that the pool's shape should change (a victim in
 * main, a page that moves there) restores it. Without credit probation gives the victim. A loop
 * over a little more than the pool leaves ghosts as young as those of pages that are used again
 * soon; a hand that went as far as it likes would find all of main cold after two rounds, and then
 * every page would be evicted shortly before its turn.
 *
 * Hits cost nothing here: the reference mark lies in the page's state word. References that
 * belong to the miss itself (the same caller again) say nothing, so the mark is cleared when some
 * newer pages have come.
 *
 * Invariants
 *  1. A slot is in probation, in main, or out; main_bits has exactly those in main.
 *  2. probation_units and main_units are the sums of the weights of these.
 *  3. The links make one list of what is in probation, oldest first; `young` parts it into slots
 *     that are marked young, after it, and old; young_units is the weight of the former.
 *  4. What stands before `next` in that list was skipped, or named as a victim, since the search
 *     last began at its oldest; `skipped` counts the former.
 */
#include "clock.h"

#include <clockpool/base/assert.h>
#include <clockpool/base/bits.h>

#include <sys/mman.h>

/* Shares of the pool: the target of probation at first, and its limits. From the study; flat. */
#define TARGET_FIRST 0.02
#define TARGET_MIN   0.005
#define TARGET_MAX   0.5
/* A ghost of probation asks for a larger one only if that, with its age, could have kept the page.
 */
#define REACH 0.6
/* The youngest ghost of probation moves the target by so much more than the oldest that counts. */
#define YOUNG_GHOST 2.0
/* Steps that a miss gives the hand. A page of main in a loop is referenced once in a round, and
 * must be passed less than twice: with m misses for n pages, m * (ADMIT_LOOKS + this) < 2 n. */
#define CREDIT_PER_MISS 1.5
/* A mark set before this share of the target has followed belongs to the miss. */
#define YOUTH 0.2
/* Decay of the counts of evictions: they speak of the last thousand or so. */
#define DECAY       0.999
#define COUNT_MAX   3u
#define ADMIT_LOOKS 2u
/* Slots hinted at with each miss: more than are looked at, or the hints would never get ahead. */
#define AHEAD_STEPS 2u

/*
 * A slot's state byte: place (2 bits), order (3 bits), and two bits that are the count in main and
 * two marks in probation.
 */
#define PLACE_MASK  0x03u
#define ORDER_SHIFT 2u
#define ORDER_MASK  (0x07u << ORDER_SHIFT)
#define COUNT_SHIFT 5u
#define ONE_COUNT   (1u << COUNT_SHIFT)
#define COUNT_MASK  (COUNT_MAX << COUNT_SHIFT)
#define YOUNG       0x20u /* not enough newer pages have come yet */
#define FETCHED     0x40u /* the first reference will be its miss */

#define WORD_BITS  64u
#define PAGE_BYTES 4096u

static uint64_t bits_words(uint32_t slot_limit)
{
    return ((uint64_t)slot_limit + WORD_BITS - 1) / WORD_BITS;
}

uint64_t cp_clock__bytes(uint32_t slot_limit)
{
    return cp_align_up(cp_ghosts__bytes(slot_limit) + bits_words(slot_limit) * sizeof(uint64_t) +
                           (uint64_t)slot_limit * (sizeof(struct cp_clock_links) + 1),
                       CP_CLOCK_ALIGNMENT);
}

void cp_clock__init(struct cp_clock *clock, void *memory, uint32_t slot_limit)
{
    *clock = (struct cp_clock){
        .slot_limit = slot_limit,
        .oldest = CP_CLOCK_NONE,
        .newest = CP_CLOCK_NONE,
        .next = CP_CLOCK_NONE,
        .young = CP_CLOCK_NONE,
        .probation_ahead = {.slot = CP_CLOCK_NONE},
        .young_ahead = {.slot = CP_CLOCK_NONE},
        .evicted_probation = 1,
        .evicted_main = 1,
        .credit = CP_CLOCK_STEPS_MAX,
    };
    /* What needs most alignment comes first. */
    cp_ghosts__init(&clock->ghosts, memory);
    clock->main_bits = (uint64_t *)((uint8_t *)memory + cp_ghosts__bytes(slot_limit));
    clock->links = (struct cp_clock_links *)(clock->main_bits + bits_words(slot_limit));
    clock->states = (uint8_t *)(clock->links + slot_limit);
}

/* fmin and fmax without libm. */
static double least(double a, double b)
{
    return a < b ? a : b;
}

static double most(double a, double b)
{
    return a > b ? a : b;
}

static void move_target(struct cp_clock *clock, double by_units)
{
    double size = (double)clock->size_units;
    clock->target_units =
        least(most(clock->target_units + by_units, TARGET_MIN * size), TARGET_MAX * size);
}

void cp_clock__resize(struct cp_clock *clock, uint64_t size_units)
{
    clock->owed_units = 0; /* frames that were free are taken back, or there were none */
    if (size_units == clock->capacity_units)
        return;
    double share =
        clock->size_units > 0 ? clock->target_units / (double)clock->size_units : TARGET_FIRST;

    cp_ghosts__resize(&clock->ghosts, size_units);
    clock->capacity_units = size_units;
    clock->size_units = size_units;
    clock->target_units = share * (double)size_units;
    move_target(clock, 0);
}

/* Units that have a page, or had one that has not been replaced yet. */
static uint64_t held(const struct cp_clock *clock)
{
    return clock->probation_units + clock->main_units + clock->owed_units;
}

static unsigned place_of(const struct cp_clock *clock, uint32_t slot)
{
    return clock->states[slot] & PLACE_MASK;
}

enum cp_clock_place cp_clock__place(const struct cp_clock *clock, uint32_t slot)
{
    return (enum cp_clock_place)place_of(clock, slot);
}

static uint64_t weight_of(const struct cp_clock *clock, uint32_t slot)
{
    return UINT64_C(1) << ((clock->states[slot] & ORDER_MASK) >> ORDER_SHIFT);
}

static uint8_t make_state(unsigned order, enum cp_clock_place place, unsigned marks)
{
    return (uint8_t)((unsigned)place | order << ORDER_SHIFT | marks);
}

/* ---- probation
 * ----------------------------------------------------------------------------------- */

static void link_between(struct cp_clock *clock, uint32_t slot, uint32_t older, uint32_t newer)
{
    clock->links[slot] = (struct cp_clock_links){older, newer};
    if (older != CP_CLOCK_NONE)
        clock->links[older].newer = slot;
    else
        clock->oldest = slot;
    if (newer != CP_CLOCK_NONE)
        clock->links[newer].older = slot;
    else
        clock->newest = slot;
    clock->probation_units += weight_of(clock, slot);
}

static void unlink_slot(struct cp_clock *clock, uint32_t slot)
{
    struct cp_clock_links links = clock->links[slot];

    if (links.older != CP_CLOCK_NONE)
        clock->links[links.older].newer = links.newer;
    else
        clock->oldest = links.newer;
    if (links.newer != CP_CLOCK_NONE)
        clock->links[links.newer].older = links.older;
    else
        clock->newest = links.older;
    if (clock->next == slot)
        clock->next = links.newer;
    if (clock->probation_ahead.slot == slot)
        clock->probation_ahead.slot = links.newer;
    if (clock->young_ahead.slot == slot)
        clock->young_ahead.slot = links.newer;
    if (clock->young == slot)
        clock->young = links.newer;
    if ((clock->states[slot] & YOUNG) != 0)
        clock->young_units -= weight_of(clock, slot);
    clock->probation_units -= weight_of(clock, slot);
}

/* Let pages grow old that have seen enough newer ones: what they were asked until now is forgotten.
 */
static void age_pages(struct cp_clock *clock, cp_clock_look_fn *look, void *ctx)
{
    double youth = YOUTH * clock->target_units;

    while (clock->young != clock->newest) { /* ends: young moves towards newest */
        uint32_t slot = clock->young;
        uint64_t weight = weight_of(clock, slot);
        if ((double)(clock->young_units - weight) < youth)
            return;
        clock->young = clock->links[slot].newer;
        clock->young_units -= weight;
        clock->states[slot] &= (uint8_t)~YOUNG;
        clock->young_ahead.lead -= clock->young_ahead.lead > 0;
        if (look(ctx, slot, CP_CLOCK_VISIT) == CP_CLOCK_REFERENCED)
            clock->states[slot] &= (uint8_t)~FETCHED;
    }
}

static void append_probation(struct cp_clock *clock, uint32_t slot, cp_clock_look_fn *look,
                             void *ctx)
{
    clock->young_units += weight_of(clock, slot);
    link_between(clock, slot, clock->newest, CP_CLOCK_NONE);
    if (clock->young == CP_CLOCK_NONE)
        clock->young = slot;
    if (clock->next == CP_CLOCK_NONE)
        clock->next = slot;
    age_pages(clock, look, ctx);
}

/*
 * Begin at the oldest again, if that is due: what was skipped costs a look each, so as many victims
 * must have been found since. Where nothing was skipped the next is the oldest already.
 */
static void begin_again(struct cp_clock *clock, bool at_once)
{
    if (clock->skipped == 0 || (!at_once && clock->evicted < clock->skipped))
        return;
    clock->next = clock->oldest;
    clock->skipped = 0;
    clock->evicted = 0;
}

/* ---- main
 * -----------------------------------------------------------------------------------------
 */

static void enter_main(struct cp_clock *clock, uint32_t slot)
{
    clock->main_bits[slot / WORD_BITS] |= UINT64_C(1) << slot % WORD_BITS;
    clock->main_units += weight_of(clock, slot);
}

static void leave_main(struct cp_clock *clock, uint32_t slot)
{
    clock->main_bits[slot / WORD_BITS] &= ~(UINT64_C(1) << slot % WORD_BITS);
    clock->main_units -= weight_of(clock, slot);
}

/* The first slot of main in [start, end), or CP_CLOCK_NONE. */
static uint32_t find_main(const struct cp_clock *clock, uint32_t start, uint32_t end)
{
    if (start >= end)
        return CP_CLOCK_NONE;
    uint64_t index = start / WORD_BITS;
    uint64_t bits = clock->main_bits[index] & UINT64_MAX << start % WORD_BITS;
    while (bits == 0) { /* ends: at the last word */
        if (++index * WORD_BITS >= end)
            return CP_CLOCK_NONE;
        bits = clock->main_bits[index];
    }
    uint64_t slot = index * WORD_BITS + (unsigned)__builtin_ctzll(bits);
    return slot < end ? (uint32_t)slot : CP_CLOCK_NONE;
}

/* Move the hand to the next slot of main, which must not be empty, and past it. */
static uint32_t advance_hand(struct cp_clock *clock)
{
    uint32_t slot = find_main(clock, clock->hand, clock->slot_limit);
    if (slot == CP_CLOCK_NONE)
        slot = find_main(clock, 0, clock->hand);
    cp_debug_assert(slot != CP_CLOCK_NONE);
    clock->hand = slot + 1 == clock->slot_limit ? 0 : slot + 1;
    return slot;
}

/*
 * Look at the next frame of main. CP_CLOCK_COLD: *out_slot is a victim. strict: its count protects
 * it.
 */
static enum cp_clock_look look_main(struct cp_clock *clock, bool strict, cp_clock_look_fn *look,
                                    void *ctx, uint32_t *out_slot)
{
    uint32_t slot = advance_hand(clock);
    unsigned count = (clock->states[slot] & COUNT_MASK) >> COUNT_SHIFT;
    bool take = count == 0 || !strict;
    enum cp_clock_look found = look(ctx, slot, take ? CP_CLOCK_TAKE : CP_CLOCK_VISIT);

    *out_slot = slot;
    clock->main_ahead.lead -= clock->main_ahead.lead > 0;
    if ((found == CP_CLOCK_REFERENCED || !take) && clock->credit >= 1)
        clock->credit -= 1;
    if (found == CP_CLOCK_REFERENCED && count < COUNT_MAX) {
        clock->states[slot] = (uint8_t)(clock->states[slot] + ONE_COUNT);
    } else if (found == CP_CLOCK_COLD && !take) {
        clock->states[slot] = (uint8_t)(clock->states[slot] - ONE_COUNT);
        return CP_CLOCK_REFERENCED; /* no victim yet */
    } else if (found == CP_CLOCK_COLD) {
        clock->named_units += weight_of(clock, slot);
        clock->credit = CP_CLOCK_STEPS_MAX;
    }
    return found;
}

/* ---- a miss
 * ----------------------------------------------------------------------------------------
 */

/* A page came back too early: its part of the pool should be larger. */
static void learn(struct cp_clock *clock, bool from_main, uint64_t age_units, uint64_t weight)
{
    double in_probation = clock->evicted_probation, in_main = clock->evicted_main;
    double reach = REACH * (double)clock->size_units;
    double needed = (double)(age_units + clock->probation_units); /* to have kept the page */

    if (from_main) {
        move_target(clock, -(double)weight * most(1, in_probation / in_main));
    } else if (needed < reach) {
        double young = 1 + YOUNG_GHOST * (1 - needed / reach);
        move_target(clock, young * (double)weight * most(1, in_main / in_probation));
    }
}

enum cp_clock_place cp_clock__miss(struct cp_clock *clock, uint64_t key, unsigned order,
                                   bool *out_full)
{
    uint64_t weight = UINT64_C(1) << order, age_units = 0;
    bool from_main = false;

    *out_full = false;
    clock->ghosts.now_units += weight;
    clock->credit = least(clock->credit + CREDIT_PER_MISS, CP_CLOCK_STEPS_MAX);
    if (!cp_ghosts__take(&clock->ghosts, key, &from_main, &age_units))
        return CP_CLOCK_PROBATION;
    uint64_t step = age_units * CP_CLOCK_AGE_STEPS / (clock->ghosts.size_units + 1);
    clock->ghost_hits[cp_min_u64(step, CP_CLOCK_AGE_STEPS - 1)]++;
    learn(clock, from_main, age_units, weight);
    *out_full = (double)clock->main_units >= (double)clock->size_units - clock->target_units;
    return CP_CLOCK_MAIN;
}

bool cp_clock__admit(struct cp_clock *clock, cp_clock_look_fn *look, void *ctx,
                     uint32_t *out_victim, uint32_t *out_looks)
{
    enum cp_clock_look found = CP_CLOCK_SKIP;
    uint32_t looks = 0, slot = CP_CLOCK_NONE;

    while (looks < ADMIT_LOOKS && clock->main_units > 0 && found != CP_CLOCK_COLD &&
           found != CP_CLOCK_LATER) {
        found = look_main(clock, true, look, ctx, &slot);
        looks++;
    }
    *out_looks = looks;
    *out_victim = found == CP_CLOCK_COLD ? slot : CP_CLOCK_NONE;
    return found == CP_CLOCK_COLD || found == CP_CLOCK_LATER;
}

/*
 * Look at the next page of probation. A referenced one moves to main, unless the reference was its
 * miss or the search is in a hurry: then it is looked at once more, and nothing protects it.
 */
static enum cp_clock_look look_probation(struct cp_clock *clock, bool hurry, cp_clock_look_fn *look,
                                         void *ctx, uint32_t *out_slot)
{
    uint32_t slot = clock->next;
    enum cp_clock_look found = look(ctx, slot, CP_CLOCK_TAKE);

    clock->probation_ahead.lead -= clock->probation_ahead.lead > 0;
    if (found == CP_CLOCK_REFERENCED && (hurry || (clock->states[slot] & FETCHED) != 0))
        found = look(ctx, slot, CP_CLOCK_TAKE);
    if (found == CP_CLOCK_REFERENCED) {
        unsigned order = (clock->states[slot] & ORDER_MASK) >> ORDER_SHIFT;
        unlink_slot(clock, slot);
        clock->states[slot] = make_state(order, CP_CLOCK_MAIN, 0);
        enter_main(clock, slot);
        clock->credit = CP_CLOCK_STEPS_MAX;
    } else if (found != CP_CLOCK_STOP) {
        clock->next = clock->links[slot].newer;
        clock->skipped += found != CP_CLOCK_COLD;
    }
    *out_slot = slot;
    return found;
}

uint32_t cp_clock__pick(struct cp_clock *clock, uint32_t max_looks, cp_clock_look_fn *look,
                        void *ctx, uint32_t *out_looks)
{
    enum cp_clock_look found = CP_CLOCK_SKIP;
    uint32_t looks = 0, main_looks = 0, slot = CP_CLOCK_NONE;
    bool searched = false; /* all of probation, from its oldest */

    /* The pool is full, or a frame of this size is not to be had: this is all it holds. */
    uint64_t held_units = held(clock);
    if (held_units < clock->size_units && held_units >= clock->size_units / 2)
        clock->size_units = held_units;
    begin_again(clock, false);
    while (looks < max_looks && found != CP_CLOCK_COLD && found != CP_CLOCK_STOP) {
        bool hurry = main_looks >= CP_CLOCK_STEPS_MAX;
        bool due = (double)(clock->probation_units + clock->owed_units + clock->named_units) >=
                   clock->target_units;
        if (hurry && !searched && clock->next == CP_CLOCK_NONE) {
            begin_again(clock, true);
            searched = true;
        }
        if (clock->next != CP_CLOCK_NONE &&
            (due || hurry || clock->credit < 1 || clock->main_units == 0)) {
            found = look_probation(clock, hurry, look, ctx, &slot);
        } else if (clock->main_units > 0) {
            /* With probation tried in vain, the counts protect for one round only. */
            found = look_main(clock, main_looks < CP_CLOCK_STEPS_MAX, look, ctx, &slot);
            main_looks++;
        } else if (clock->skipped > 0) {
            begin_again(clock, true);
        } else {
            break; /* empty */
        }
        looks++;
    }
    *out_looks = looks;
    return found == CP_CLOCK_COLD ? slot : CP_CLOCK_NONE;
}

/*
 * The look-ahead has come to this slot. Those of some steps before take their next step: far enough
 * apart for what was fetched to have arrived.
 */
static void hint(struct cp_clock_ahead *ahead, uint32_t slot, cp_clock_look_fn *look, void *ctx)
{
    uint32_t at = ahead->count++;
    uint32_t *far = &ahead->before[(at - CP_CLOCK_APART) % (2 * CP_CLOCK_APART)];
    uint32_t *near = &ahead->before[at % (2 * CP_CLOCK_APART)];

    if (at >= 2 * CP_CLOCK_APART)
        (void)look(ctx, *near, CP_CLOCK_NEAR);
    if (at >= CP_CLOCK_APART)
        (void)look(ctx, *far, CP_CLOCK_FAR);
    (void)look(ctx, slot, CP_CLOCK_FARTHEST);
    *near = slot;
    ahead->lead++;
}

/* Some steps ahead of `from`, along probation. */
static void hint_probation(struct cp_clock *clock, struct cp_clock_ahead *ahead, uint32_t from,
                           cp_clock_look_fn *look, void *ctx)
{
    if (ahead->lead == 0)
        ahead->slot = from;
    for (unsigned i = 0; i < AHEAD_STEPS && ahead->lead < CP_CLOCK_AHEAD; i++) {
        uint32_t slot = ahead->slot;
        if (slot == CP_CLOCK_NONE)
            return;
        ahead->slot = clock->links[slot].newer;
        if (ahead->slot != CP_CLOCK_NONE)
            __builtin_prefetch(&clock->links[ahead->slot]);
        hint(ahead, slot, look, ctx);
    }
}

static void hint_main(struct cp_clock *clock, struct cp_clock_ahead *ahead, cp_clock_look_fn *look,
                      void *ctx)
{
    if (ahead->lead == 0)
        ahead->slot = clock->hand;
    for (unsigned i = 0; i < AHEAD_STEPS && ahead->lead < CP_CLOCK_AHEAD; i++) {
        uint32_t slot = find_main(clock, ahead->slot, clock->slot_limit);
        ahead->slot = slot == CP_CLOCK_NONE ? 0 : slot + 1;
        if (slot != CP_CLOCK_NONE)
            hint(ahead, slot, look, ctx);
    }
}

void cp_clock__look_ahead(struct cp_clock *clock, cp_clock_look_fn *look, void *ctx)
{
    hint_probation(clock, &clock->probation_ahead, clock->next, look, ctx);
    hint_probation(clock, &clock->young_ahead, clock->young, look, ctx);
    hint_main(clock, &clock->main_ahead, look, ctx);
}

void cp_clock__evict(struct cp_clock *clock, uint32_t slot, uint64_t key, bool named)
{
    enum cp_clock_place place = cp_clock__place(clock, slot);
    bool from_main = place == CP_CLOCK_MAIN;

    if (place == CP_CLOCK_OUT)
        return;
    if (from_main && named)
        clock->named_units -= weight_of(clock, slot);
    clock->owed_units += weight_of(clock, slot);
    clock->evicted++;
    clock->evicted_probation = clock->evicted_probation * DECAY + !from_main;
    clock->evicted_main = clock->evicted_main * DECAY + from_main;
    cp_ghosts__put(&clock->ghosts, key, from_main);
    cp_clock__remove(clock, slot);
}

void cp_clock__keep(struct cp_clock *clock, unsigned order, enum cp_clock_place place)
{
    if (place == CP_CLOCK_MAIN)
        clock->named_units -= UINT64_C(1) << order;
    else
        clock->skipped++; /* the search has to come by again */
}

void cp_clock__insert(struct cp_clock *clock, uint32_t slot, unsigned order,
                      enum cp_clock_place place, bool fetched, cp_clock_look_fn *look, void *ctx)
{
    uint64_t weight = UINT64_C(1) << order;

    cp_debug_assert(slot < clock->slot_limit);
    cp_debug_assert(place_of(clock, slot) == CP_CLOCK_OUT);
    cp_debug_assert(place != CP_CLOCK_OUT);
    /* Memory that no page has had: main is filled first, probation only has its share. */
    if (clock->owed_units == 0 &&
        (double)clock->main_units < (double)clock->size_units - clock->target_units)
        place = CP_CLOCK_MAIN;
    clock->owed_units -= cp_min_u64(clock->owed_units, weight);
    if (place == CP_CLOCK_MAIN) {
        clock->states[slot] = make_state(order, place, 0);
        enter_main(clock, slot);
    } else {
        clock->states[slot] = make_state(order, place, YOUNG | (fetched ? FETCHED : 0));
        append_probation(clock, slot, look, ctx);
    }
    clock->size_units = cp_max_u64(clock->size_units, held(clock));
}

void cp_clock__pass(struct cp_clock *clock, uint32_t first, uint32_t count)
{
    if (clock->hand >= first && clock->hand - first < count)
        clock->hand = first + count < clock->slot_limit ? first + count : 0;
}

void cp_clock__remove(struct cp_clock *clock, uint32_t slot)
{
    cp_debug_assert(slot < clock->slot_limit);
    if (place_of(clock, slot) == CP_CLOCK_MAIN)
        leave_main(clock, slot);
    else if (place_of(clock, slot) == CP_CLOCK_PROBATION)
        unlink_slot(clock, slot);
    clock->states[slot] = 0;
}

/* The whole pages of memory in [from, to). */
static void release_range(const void *from, const void *to)
{
    uintptr_t first = cp_align_up((uintptr_t)from, PAGE_BYTES);
    uintptr_t end = (uintptr_t)to & ~(uintptr_t)(PAGE_BYTES - 1);

    if (first < end)
        (void)madvise((void *)first, end - first, MADV_DONTNEED);
}

void cp_clock__release(const struct cp_clock *clock, uint32_t first)
{
    /* Links of empty slots mean nothing; states and bits are zero before and after. */
    release_range(&clock->links[first], &clock->links[clock->slot_limit]);
    release_range(&clock->states[first], &clock->states[clock->slot_limit]);
    release_range(&clock->main_bits[bits_words(first)],
                  &clock->main_bits[bits_words(clock->slot_limit)]);
    release_range(&clock->ghosts.buckets[clock->ghosts.bucket_count], clock->main_bits);
}

/* Probation: one list, in two halves. */
static const char *check_probation(const struct cp_clock *clock, uint64_t *out_count)
{
    uint64_t units = 0, young_units = 0, count = 0;
    uint32_t older = CP_CLOCK_NONE;
    bool young = false;

    for (uint32_t slot = clock->oldest; slot != CP_CLOCK_NONE; slot = clock->links[slot].newer) {
        if (count++ > clock->slot_limit || clock->links[slot].older != older)
            return "probation is not one list";
        if (place_of(clock, slot) != CP_CLOCK_PROBATION)
            return "a slot in the list is not in probation";
        young = young || slot == clock->young;
        if (young != ((clock->states[slot] & YOUNG) != 0))
            return "young and old pages of probation are mixed";
        units += weight_of(clock, slot);
        young_units += young ? weight_of(clock, slot) : 0;
        older = slot;
    }
    if (older != clock->newest)
        return "probation does not end with its newest page";
    if (units != clock->probation_units || young_units != clock->young_units)
        return "the size of probation is wrong";
    *out_count = count;
    return NULL;
}

const char *cp_clock__check(const struct cp_clock *clock)
{
    uint64_t in_list = 0, in_probation = 0, main_units = 0;
    const char *broken = check_probation(clock, &in_list);

    for (uint32_t slot = 0; slot < clock->slot_limit && broken == NULL; slot++) {
        bool bit = (clock->main_bits[slot / WORD_BITS] >> slot % WORD_BITS & 1) != 0;
        if (bit != (place_of(clock, slot) == CP_CLOCK_MAIN))
            broken = "the bits of main are wrong";
        main_units += bit ? weight_of(clock, slot) : 0;
        in_probation += place_of(clock, slot) == CP_CLOCK_PROBATION;
    }
    if (broken == NULL && main_units != clock->main_units)
        broken = "the size of main is wrong";
    if (broken == NULL && in_probation != in_list)
        broken = "a slot in probation is not in the list";
    return broken;
}
