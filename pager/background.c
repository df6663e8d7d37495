/* SPDX-License-Identifier: MIT */
/*
 * What goes on without being asked for: relaxed commits become durable within relaxed_ms, a
 * checkpoint is written when the log since the last one reaches half its limit or checkpoint_ms
 * have passed, a segment of the log lies ready, and dirty pages are written before misses need
 * their frames. One thread does it, started with the first change and ended by close; it takes no
 * signals. Where there is no thread, by choice or because the system refuses one, whoever begins a
 * mini-transaction and finds the log half full writes the checkpoint first, and sees to segments.
 *
 * An error is counted and the work tried again; what cannot be mended shows in the callers' own
 * operations.
 */
#include "internal.h"

#include <clockpool/base/bits.h>

#include <errno.h>
#include <signal.h>
#include <time.h>

#define STACK_BYTES    (UINT64_C(256) << 10)
#define RETRY_MS       1000u /* after an error */
#define CLEAN_BATCHES  16u   /* written back between two looks at the log: some 10 ms */
#define THROTTLE_MS    50u   /* between two looks of one who waits for a checkpoint */
#define THROTTLE_TURNS 200u  /* ... and for so many of them at most: then the log grows */

void cp_pager__background_init(struct cp_pager *pager)
{
    struct cp_background_state *state = &pager->background;
    pthread_condattr_t attributes;
    pthread_mutex_init(&state->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&state->wake, &attributes);
    pthread_cond_init(&state->progressed, &attributes);
    pthread_condattr_destroy(&attributes);
}

void cp_pager__background_fini(struct cp_pager *pager)
{
    pthread_cond_destroy(&pager->background.wake);
    pthread_cond_destroy(&pager->background.progressed);
    pthread_mutex_destroy(&pager->background.mutex);
}

static void wait_until(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t wait_ms)
{
    uint64_t at_ns = cp_now_ns() + wait_ms * 1000000u;
    const struct timespec at = {(time_t)(at_ns / 1000000000u), (long)(at_ns % 1000000000u)};
    (void)pthread_cond_timedwait(condition, mutex, &at);
}

/* ---- the thread -------------------------------------------------------------------------------
 */

/* Is one due for what the log holds, and would hold after a flush? */
static bool log_asks(const struct cp_pager *pager)
{
    return cp_pager__log_debt(pager) >= pager->options.log_limit_bytes / 2;
}

/* Is a checkpoint due? Otherwise *inout_wait_ms is lowered to the time when it will be. */
static bool checkpoint_due(struct cp_pager *pager, uint64_t *inout_wait_ms)
{
    if (log_asks(pager))
        return true;
    if (cp_pager__log_since_checkpoint(pager) == 0)
        return false;
    uint64_t age_ms =
        (cp_now_ns() - atomic_load_explicit(&pager->checkpoint_ns, memory_order_relaxed)) /
        1000000u;
    if (age_ms >= pager->options.checkpoint_ms)
        return true;
    *inout_wait_ms = cp_min_u64(*inout_wait_ms, pager->options.checkpoint_ms - age_ms);
    return false;
}

/*
 * Keep clean pages ahead of misses, as long as there is something to do, but not for so long that
 * commits wait. Returns 1 when there is more to do, 0, or a code.
 */
static int clean(struct cp_pager *pager)
{
    int code = pager->engine->ops->clean != NULL ? 1 : 0;
    for (unsigned batch = 0; code > 0 && batch < CLEAN_BATCHES; batch++) {
        code = pager->engine->ops->clean(pager->engine);
        if (code == -EAGAIN && cp_wal_end(pager->wal) == cp_wal_durable(pager->wal))
            return code; /* the pages' changes are not in the log yet: try again later */
        if (code == -EAGAIN)
            code = cp_pager__log_flush(pager, cp_wal_end(pager->wal)) == 0 ? 1 : -EIO;
    }
    return code > 0 ? 1 : code;
}

void cp_pager__background_tend(struct cp_pager *pager)
{
    struct cp_background_state *state = &pager->background;
    uint64_t now_ns = cp_now_ns();
    const bool due = now_ns - state->tended_ns >= (uint64_t)pager->options.relaxed_ms * 1000000u;
    if (due) {
        state->tended_ns = now_ns;
        if (cp_wal_end(pager->wal) > cp_wal_durable(pager->wal))
            (void)!cp_pager__log_flush(pager, cp_wal_end(pager->wal));
        (void)!cp_wal_prepare(pager->wal, pager->options.log_limit_bytes);
    }
    pthread_mutex_lock(&state->mutex);
    const bool wanted = state->clean_wanted;
    state->clean_wanted = false;
    pthread_mutex_unlock(&state->mutex);
    /* Nobody asks again before the cleaner has found nothing to do: what is left is wanted still,
     * and after an error, when there may have been no such end, it is tried when that is due. */
    if ((wanted || due) && clean(pager) > 0) {
        pthread_mutex_lock(&state->mutex);
        state->clean_wanted = true;
        pthread_mutex_unlock(&state->mutex);
    }
}

bool cp_pager__background_rest(struct cp_pager *pager, uint64_t wait_ms)
{
    struct cp_background_state *state = &pager->background;
    pthread_mutex_lock(&state->mutex);
    if (!state->stop)
        wait_until(&state->wake, &state->mutex, wait_ms);
    bool stop = state->stop;
    pthread_mutex_unlock(&state->mutex);
    return !stop;
}

/*
 * One round. Returns how long to sleep, UINT64_MAX for until somebody calls. *out_settled: all that
 * was appended is durable (or never will be), so who appends more must call.
 */
static uint64_t work(struct cp_pager *pager, bool *out_settled)
{
    uint64_t wait_ms = UINT64_MAX;
    int code = 0;
    atomic_store_explicit(&pager->background.requested, false, memory_order_relaxed);
    *out_settled = true;
    if (atomic_load_explicit(&pager->failed, memory_order_relaxed))
        return UINT64_MAX;
    if (cp_wal_end(pager->wal) > cp_wal_durable(pager->wal))
        code = cp_pager__log_flush(pager, cp_wal_end(pager->wal));
    if (code == 0 && checkpoint_due(pager, &wait_ms)) {
        code = cp_pager__try_checkpoint(pager, true);
        if (code == -EBUSY)
            code = 0;
        wait_ms = 0;
    }
    if (code == 0)
        code = cp_wal_prepare(pager->wal, pager->options.log_limit_bytes);
    *out_settled = code == 0 && cp_wal_end(pager->wal) <= cp_wal_durable(pager->wal);
    if (code == 0) {
        code = clean(pager);
        wait_ms = code > 0 ? 0 : wait_ms;
    }
    if (code < 0)
        return RETRY_MS;
    return *out_settled ? wait_ms : cp_min_u64(wait_ms, pager->options.relaxed_ms);
}

/* Has somebody asked for something since work looked? Under the mutex, before sleeping. */
static bool asked(struct cp_pager *pager, bool settled)
{
    /* Set before the call, which needs the mutex: it shows here, or the call finds us asleep. */
    const bool clean_wanted = pager->background.clean_wanted;
    pager->background.clean_wanted = false; /* after an error nobody asks again: this ends */
    if (clean_wanted || atomic_load_explicit(&pager->background.requested, memory_order_relaxed))
        return true;
    /* Whoever appends after `idle` was stored sees it; whoever did before is seen here. */
    return settled && cp_wal_end(pager->wal) > cp_wal_durable(pager->wal) &&
           !atomic_load_explicit(&pager->failed, memory_order_relaxed);
}

static void *run(void *argument)
{
    struct cp_pager *pager = argument;
    struct cp_background_state *state = &pager->background;
    bool settled;
    pthread_mutex_lock(&state->mutex);
    while (!state->stop) { /* ends: background_stop */
        pthread_mutex_unlock(&state->mutex);
        uint64_t wait_ms = work(pager, &settled);
        pthread_mutex_lock(&state->mutex);
        pthread_cond_broadcast(&state->progressed);
        atomic_store_explicit(&state->idle, settled, memory_order_seq_cst);
        if (!state->stop && wait_ms != 0 && !asked(pager, settled)) {
            if (wait_ms == UINT64_MAX)
                pthread_cond_wait(&state->wake, &state->mutex);
            else
                wait_until(&state->wake, &state->mutex, wait_ms);
        }
        atomic_store_explicit(&state->idle, false, memory_order_relaxed);
    }
    pthread_mutex_unlock(&state->mutex);
    return NULL;
}

void cp_pager__background_start(struct cp_pager *pager)
{
    struct cp_background_state *state = &pager->background;
    sigset_t all, before;
    pthread_attr_t attributes;
    atomic_store_explicit(&pager->checkpoint_ns, cp_now_ns(), memory_order_relaxed);
    if (pager->options.background != CP_BACKGROUND_THREAD)
        return;
    pthread_mutex_lock(&state->mutex);
    if (!state->started && !state->stop) {
        pthread_attr_init(&attributes);
        pthread_attr_setstacksize(&attributes, STACK_BYTES);
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before); /* the new thread inherits it */
        state->started = pthread_create(&state->thread, &attributes, run, pager) == 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_attr_destroy(&attributes);
    }
    pthread_mutex_unlock(&state->mutex);
}

void cp_pager__background_stop(struct cp_pager *pager)
{
    struct cp_background_state *state = &pager->background;
    pthread_mutex_lock(&state->mutex);
    bool started = state->started;
    state->stop = started;
    pthread_cond_broadcast(&state->wake);
    pthread_mutex_unlock(&state->mutex);
    if (!started)
        return;
    pthread_join(state->thread, NULL);
    pthread_mutex_lock(&state->mutex);
    state->started = state->stop = false;
    pthread_mutex_unlock(&state->mutex);
}

/* ---- the callers' side ------------------------------------------------------------------------
 */

static bool has_thread(struct cp_pager *pager)
{
    pthread_mutex_lock(&pager->background.mutex);
    bool started = pager->background.started;
    pthread_mutex_unlock(&pager->background.mutex);
    return started;
}

static void call(struct cp_pager *pager)
{
    pthread_mutex_lock(&pager->background.mutex);
    pthread_cond_signal(&pager->background.wake);
    pthread_mutex_unlock(&pager->background.mutex);
}

void cp_pager__background_clean(void *ctx)
{
    struct cp_pager *pager = ctx;
    pthread_mutex_lock(&pager->background.mutex);
    pager->background.clean_wanted = true;
    pthread_cond_signal(&pager->background.wake);
    pthread_mutex_unlock(&pager->background.mutex);
}

void cp_pager__background_notice(struct cp_pager *pager, bool relaxed)
{
    struct cp_background_state *state = &pager->background;
    if (log_asks(pager)) {
        if (!atomic_exchange_explicit(&state->requested, true, memory_order_relaxed))
            call(pager);
    } else if (relaxed && atomic_load_explicit(&state->idle, memory_order_seq_cst)) {
        call(pager);
    }
}

void cp_pager__background_throttle(struct cp_pager *pager, bool others)
{
    struct cp_background_state *state = &pager->background;
    if (!log_asks(pager))
        return;
    if (!has_thread(pager)) {
        /* Beside others it would wait for pages that this very thread holds. Errors are counted,
         * and the caller's own work shows them. */
        if (!others && cp_pager__try_checkpoint(pager, false) == 0)
            (void)!cp_wal_prepare(pager->wal, pager->options.log_limit_bytes);
        return;
    }
    if (others || cp_pager__log_since_checkpoint(pager) < pager->options.log_limit_bytes)
        return;
    atomic_fetch_add_explicit(&pager->mtr_waits, 1, memory_order_relaxed);
    /* One that fails is not waited for again: on a full disk the next would fail as well, and the
     * caller's own work shows why. */
    const uint64_t errors = atomic_load_explicit(&pager->checkpoint_errors, memory_order_relaxed);
    pthread_mutex_lock(&state->mutex);
    for (unsigned turn = 0;
         turn < THROTTLE_TURNS && state->started &&
         !atomic_load_explicit(&pager->failed, memory_order_relaxed) &&
         atomic_load_explicit(&pager->checkpoint_errors, memory_order_relaxed) == errors &&
         cp_pager__log_since_checkpoint(pager) >= pager->options.log_limit_bytes;
         turn++) {
        pthread_cond_signal(&state->wake);
        wait_until(&state->progressed, &state->mutex, THROTTLE_MS);
    }
    pthread_mutex_unlock(&state->mutex);
}
