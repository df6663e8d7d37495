/* SPDX-License-Identifier: MIT */
/*
 * Flushing: who leads, who waits, and in which order flights count.
 *
 * What one flush writes is a flight (flight.c). Its leader walks over what has been published and
 * brings it into blocks: that is the role, `leading`, of one thread at a time, taken under
 * flush_lock; what belongs to it is touched by nobody else. Where the flight ends at a unit's end
 * the role is given up before the last write, and the next flight may be built, and written, beside
 * it; elsewhere, and with fdatasync, it is kept until the write has ended. flush_lock is not held
 * over I/O.
 *
 * Flights have numbers. [first_flight, next_flight) have begun and do not count yet. They count in
 * that order: one that lands before an earlier one waits for it, and so do its waiters. So durable
 * is the beginning of flight first_flight, and what a crash may leave behind it, with holes or
 * without, was never said to be durable.
 *
 * A queue of waiters for each flight that has begun, by number, and one for those who need another.
 * When a flight counts, all of its queue are woken. Of the next queue one is woken, who leads for
 * all of it: whenever the role is free and another flight may begin, by whoever sees that first
 * (hand_on): a leader who gives the role up or has landed, a caller who leaves. While none may
 * begin, some flight is under way, and its leader will look again.
 *
 * The first failed write or sync is final: the kernel may have dropped what was written, so another
 * sync would prove nothing. durable stays from then on, also for flights that land well.
 */
#include "internal.h"
#include "rules.h"

#include <clockpool/base/assert.h>
#include <clockpool/base/bits.h>
#include <clockpool/base/probe.h>

/* ---- the table of flights. Under flush_lock ---------------------------------------------------
 */

static uint64_t first_flight(const struct cp_wal *wal)
{
    return atomic_load_explicit(&wal->first_flight,
                                memory_order_relaxed); /* set under flush_lock */
}

static struct cp_wal__flight *flight_of(struct cp_wal *wal, uint64_t number)
{
    return &wal->flights[number % CP_WAL__FLIGHTS_MAX];
}

static struct cp_wal__queue *queue_of(struct cp_wal *wal, uint64_t number)
{
    return &wal->queues[number % CP_WAL__QUEUES];
}

/* Flights before `end` that have begun and not landed. */
static unsigned count_under_way(struct cp_wal *wal, uint64_t end)
{
    unsigned count = 0;
    for (uint64_t n = first_flight(wal); n < end; n++)
        count += !flight_of(wal, n)->landed;
    return count;
}

/* The flight that covers a position; next_flight when none does. */
static uint64_t find_covering(struct cp_wal *wal, cp_lsn upto)
{
    uint64_t number = first_flight(wal);
    while (number < wal->next_flight && flight_of(wal, number)->target < upto)
        number++;
    return number;
}

/* Callers whom the last two flights served, together. */
static uint64_t last_two(struct cp_wal *wal)
{
    return (uint64_t)flight_of(wal, wal->next_flight - 1)->riders +
           flight_of(wal, wal->next_flight - 2)->riders;
}

/* Do flights serve so many that processors are what commits wait for? */
static bool crowded(struct cp_wal *wal)
{
    return last_two(wal) > UINT64_C(2) * wal->riders_max;
}

/*
 * May another flight begin, for waiter_count callers? Beside others only when for each of them it
 * serves as many as the last two did in the mean: else many small writes would take the place of
 * few large ones. Where flights are large anyhow, none begins beside another: ADR 11 has figures.
 */
static bool may_begin(struct cp_wal *wal, uint32_t waiter_count)
{
    uint64_t count = wal->next_flight - first_flight(wal);
    if (wal->leading)
        return false;
    return count == 0 || (count < CP_WAL__FLIGHTS_MAX && !crowded(wal) &&
                          UINT64_C(2) * waiter_count >= count * last_two(wal));
}

/*
 * Does the first flight count? With O_DIRECT a write's failure is its own. Without, the kernel
 * tells it once, to whoever syncs first; so what landed well counts when all that may have been
 * told in its place have landed well too.
 */
static bool counts(struct cp_wal *wal)
{
    const struct cp_wal__flight *first = flight_of(wal, first_flight(wal));
    return first->landed && (wal->direct || count_under_way(wal, first->seen) == 0);
}

/* ---- waking and waiting. Under flush_lock -----------------------------------------------------
 */

/* Have all of a queue go, once they are woken: they leave without the lock, counted no longer. */
static bool release_queue(struct cp_wal__queue *queue)
{
    bool any = queue->waiter_count != 0;
    __atomic_store_n(&queue->word, queue->word + 1, __ATOMIC_RELAXED); /* flush_lock orders it */
    queue->waiter_count = 0;
    return any;
}

/* Wake one of those who need another flight, if that may begin and nobody is on the way. */
static void hand_on(struct cp_wal *wal)
{
    struct cp_wal__queue *next = queue_of(wal, wal->next_flight);
    if (next->waiter_count == 0 || wal->heir_woken || !may_begin(wal, next->waiter_count))
        return;
    wal->heir_woken = true;
    __atomic_store_n(&next->word, next->word + 1, __ATOMIC_RELAXED);
    cp_futex_wake(&next->word, 1);
}

/*
 * Wait for a flight, or, in the queue of the next one, to lead it. flush_lock is let go. True: the
 * flight counts, and the lock has not been taken again.
 */
static bool wait_for(struct cp_wal *wal, uint64_t number, cp_lsn upto)
{
    struct cp_wal__queue *queue = queue_of(wal, number);
    uint32_t seen = queue->word;
    queue->want = cp_max_u64(queue->want, upto);
    queue->waiter_count++;
    wal->contended |= number == wal->next_flight;
    pthread_mutex_unlock(&wal->flush_lock);
    cp_futex_wait(&queue->word, seen, 0);
    /* acquire: pairs with the release in advance; durable was moved before */
    if (atomic_load_explicit(&wal->first_flight, memory_order_acquire) > number)
        return true;
    pthread_mutex_lock(&wal->flush_lock);
    if (first_flight(wal) > number || atomic_load_explicit(&wal->failed, memory_order_relaxed) != 0)
        return false; /* no longer counted */
    queue->waiter_count--;
    if (number == wal->next_flight) /* we may be the heir; then we lead, or hand on when we leave */
        wal->heir_woken = false;
    return false;
}

int cp_wal__await_alone(struct cp_wal *wal)
{
    pthread_mutex_lock(&wal->flush_lock);
    int code = atomic_load_explicit(&wal->failed, memory_order_relaxed); /* set under flush_lock */
    /* Ends: nobody else can begin, and each landing is told. */
    while (code == 0 && wal->next_flight != first_flight(wal) &&
           count_under_way(wal, wal->next_flight - 1) != 0) {
        uint32_t seen = wal->landings;
        pthread_mutex_unlock(&wal->flush_lock);
        cp_futex_wait(&wal->landings, seen, 0);
        pthread_mutex_lock(&wal->flush_lock);
        code = atomic_load_explicit(&wal->failed, memory_order_relaxed);
    }
    if (code != 0)
        cp_error_restore(&wal->failure);
    pthread_mutex_unlock(&wal->flush_lock);
    return code;
}

/* ---- leading ----------------------------------------------------------------------------------
 */

/* The role is free before the flight's last write. */
static void give_up_role(struct cp_wal *wal, uint64_t number)
{
    pthread_mutex_lock(&wal->flush_lock);
    flight_of(wal, number)->riders = queue_of(wal, number)->waiter_count + 1;
    wal->leading = false;
    hand_on(wal);
    pthread_mutex_unlock(&wal->flush_lock);
}

static void fail(struct cp_wal *wal, int code)
{
    if (atomic_load_explicit(&wal->failed, memory_order_relaxed) != 0)
        return;
    wal->failure = *cp_error_info();
    /* release: pairs with the acquire in cp_wal__usable */
    atomic_store_explicit(&wal->failed, code, memory_order_release);
    for (unsigned i = 0; i < CP_WAL__QUEUES; i++) {
        if (release_queue(&wal->queues[i]))
            cp_futex_wake(&wal->queues[i].word, UINT32_MAX >> 1);
    }
}

/* durable goes over all flights that count now. Returns whom to wake: queues, a bit for each. */
static unsigned advance(struct cp_wal *wal)
{
    unsigned queues = 0;
    while (first_flight(wal) < wal->next_flight && counts(wal)) {
        uint64_t number = first_flight(wal);
        /* release: pairs with the acquire in cp_wal_durable */
        atomic_store_explicit(&wal->durable, flight_of(wal, number)->target, memory_order_release);
        /* release: pairs with the acquire in wait_for */
        atomic_store_explicit(&wal->first_flight, number + 1, memory_order_release);
        if (release_queue(queue_of(wal, number)))
            queues |= 1u << number % CP_WAL__QUEUES;
    }
    return queues;
}

/* A flight's last write and sync have ended. Under flush_lock. Returns whom to wake. */
static unsigned land(struct cp_wal *wal, uint64_t number, int code)
{
    struct cp_wal__flight *flight = flight_of(wal, number);
    bool newest_begun = flight_of(wal, wal->next_flight - 1)->target != 0;
    flight->seen = newest_begun ? wal->next_flight : wal->next_flight - 1;
    flight->landed = true;
    /* relaxed: added under flush_lock */
    atomic_store_explicit(&wal->flushed_bytes,
                          atomic_load_explicit(&wal->flushed_bytes, memory_order_relaxed) +
                              flight->written,
                          memory_order_relaxed);
    atomic_store_explicit(&wal->flushes,
                          atomic_load_explicit(&wal->flushes, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    if (code != 0)
        fail(wal, code);
    else if (CP_BREAK_FLIGHT_ORDER && flight->target > cp_wal_durable(wal))
        atomic_store_explicit(&wal->durable, flight->target, memory_order_release);
    __atomic_store_n(&wal->landings, wal->landings + 1,
                     __ATOMIC_RELAXED); /* flush_lock orders it */
    if (wal->leading)                   /* may be waiting to be alone */
        cp_futex_wake(&wal->landings, 1);
    return atomic_load_explicit(&wal->failed, memory_order_relaxed) == 0 ? advance(wal) : 0;
}

/* Begin a flight: who waited for the next waits for this one from now on. Under flush_lock. */
static uint64_t begin(struct cp_wal *wal, cp_lsn *want, bool *out_fill)
{
    bool fills = wal->dsync && !crowded(wal);
    uint64_t number = wal->next_flight++;
    struct cp_wal__flight *flight = flight_of(wal, number);
    struct cp_wal__queue *covered = queue_of(wal, number);
    unsigned beside = count_under_way(wal, number);

    *out_fill = fills && (wal->contended || beside != 0);
    *want = cp_max_u64(*want, covered->want);
    covered->want = 0;
    flight->target = 0;
    flight->riders = 1;
    flight->landed = false;
    wal->leading = true;
    wal->contended = false;
    wal->heir_woken = false; /* whoever was on the way is covered by us; the next queue is new */
    wal->stage = flight->stage;
    wal->flights_beside += beside != 0;
    wal->flights_most = cp_max_u64(wal->flights_most, beside + 1);
    return number;
}

/* Lead one flight. Under flush_lock, which is let go. True: it counts, and the lock has not been
 * taken again. */
static bool lead(struct cp_wal *wal, cp_lsn want)
{
    bool fill;
    uint64_t number = begin(wal, &want, &fill);
    struct cp_wal__flight *flight = flight_of(wal, number);
    pthread_mutex_unlock(&wal->flush_lock);

    cp_lsn start = atomic_load_explicit(&wal->taken, memory_order_relaxed); /* the leader's own */
    cp_lsn target = cp_wal__choose_target(wal, want, fill);
    pthread_mutex_lock(&wal->flush_lock);
    flight->target = target;
    pthread_mutex_unlock(&wal->flush_lock);
    CP_PROBE2(wal_flush_start, start, target);
    int code = cp_wal__build(wal, flight);
    bool keep = code != 0 || !wal->dsync || cp_wal__unit_end(wal, target) != target;
    if (!keep)
        give_up_role(wal, number);
    if (code == 0)
        code = cp_wal__fly(wal, flight);
    CP_PROBE3(wal_flush_done, start, target, code);

    pthread_mutex_lock(&wal->flush_lock);
    if (keep) {
        flight->riders = queue_of(wal, number)->waiter_count + 1;
        wal->leading = false;
    }
    unsigned queues = land(wal, number, code);
    hand_on(wal); /* first: who leads next is waited for by others */
    bool counted = first_flight(wal) > number;
    if (!counted && queues == 0)
        return false;
    pthread_mutex_unlock(&wal->flush_lock);
    for (unsigned i = 0; i < CP_WAL__QUEUES; i++) {
        if ((queues >> i & 1) != 0)
            cp_futex_wake(&wal->queues[i].word, UINT32_MAX >> 1);
    }
    if (!counted)
        pthread_mutex_lock(&wal->flush_lock);
    return counted;
}

int cp_wal_flush(struct cp_wal *wal, cp_lsn upto)
{
    int code = cp_wal__usable(wal);
    if (upto <= cp_wal_durable(wal) && code != CP_EFORKED)
        return 0;
    if (code != 0)
        return code;
    upto = cp_min_u64(upto, cp_wal_end(wal));

    bool waited = false;
    pthread_mutex_lock(&wal->flush_lock);
    /* Ends: each flight moves durable, and one that begins after our append covers us. */
    while (code == 0 && cp_wal_durable(wal) < upto) {
        uint64_t covering = find_covering(wal, upto);
        code = atomic_load_explicit(&wal->failed, memory_order_relaxed); /* set under flush_lock */
        if (code != 0) {
            cp_error_restore(&wal->failure);
        } else if (covering == wal->next_flight &&
                   may_begin(wal, queue_of(wal, covering)->waiter_count + 1)) {
            if (lead(wal, upto))
                return 0;
        } else {
            wal->flush_waits += !waited;
            waited = true;
            if (wait_for(wal, covering, upto))
                return 0;
        }
    }
    hand_on(wal);
    pthread_mutex_unlock(&wal->flush_lock);
    return code;
}
