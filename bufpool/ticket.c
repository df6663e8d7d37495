/* SPDX-License-Identifier: MIT */
/*
 * Many pages at a time: tickets, fix_many and prefetch.
 *
 * A ticket's state:
 *
 *     begin ---> FIXED      the latch is the ticket's               wait, cancel -> DONE
 *           ---> LOADING    its read is in line or in flight
 *                   complete_read ---> FIXED, or RETRY after any error
 *           ---> RETRY      held by somebody else, no transfer, or (in poll) no
 *                           memory: fix it singly in wait
 *           ---> FAILED     no frame: wait returns status           wait, cancel -> DONE
 *
 * Only complete_read changes a ticket from another thread, only away from LOADING, and does not
 * touch it afterwards.
 */
#include "internal.h"

#include <errno.h>
#include <time.h>

/* The back-off of a fix_many that meets other threads' latches grows to 2^this microseconds. */
#define BACK_OFF_ROUNDS 10u
/* Pages looked up ahead of the one that is begun: as many as the processor has under way. */
#define EXPECT_PAGES 16u

static uint32_t state_of(const struct cp_ticket *ticket)
{
    /* acquire: pairs with the release in load.c, finish_page */
    return __atomic_load_n(&ticket->state, __ATOMIC_ACQUIRE);
}

static bool ticket_arrived(void *ctx)
{
    return state_of(ctx) != CP_TICKET_LOADING;
}

static int check_many(struct cp_bufpool_file *file, const uint64_t *pages, uint32_t count)
{
    if (count > CP_BUFPOOL_FIX_MANY_MAX)
        return cp_error_set(-EINVAL, file->path, CP_NO_PAGE, CP_NO_LSN,
                            "split the call: CP_BUFPOOL_FIX_MANY_MAX pages at most",
                            "fixing %u pages in one call", count);
    for (uint32_t i = 0; i < count; i++) {
        if (pages[i] >= file->map.page_limit)
            return cp_error_set(CP_ENOPAGE, file->path, pages[i], CP_NO_LSN, NULL,
                                "fixing a page beyond the table of %llu pages",
                                (unsigned long long)file->map.page_limit);
    }
    return cp_bufpool__check_process(file->pool);
}

/* What a look at a page reads first: its word, and if it misses what the policy remembers of it. */
static void expect(struct cp_bufpool_file *file, uint64_t page)
{
    if (page >= file->map.page_limit)
        return;
    __builtin_prefetch(&file->map.words[page]);
    cp_ghosts__prefetch(&file->pool->clock.ghosts, cp_bufpool__key(file, page));
}

void cp_bufpool_expect(struct cp_bufpool_file *file, const uint64_t *pages, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        expect(file, pages[i]);
}

/* A frame for an absent page, waiting for it where that is allowed; else -EAGAIN. */
static int find_frame(struct cp_load_run *run, uint64_t page, bool fetched, bool may_wait,
                      struct cp_frame **out_frame)
{
    int status = cp_evict__try_acquire(run->file, page, fetched, out_frame);

    if (status != -EAGAIN || !may_wait)
        return status;
    cp_load__run_submit(run);
    return cp_evict__acquire(run->file, page, fetched, out_frame);
}

/*
 * Start reading an absent page. 0 when the read is in line, -EAGAIN when the page is not absent any
 * more or something is missing for which may_wait forbids to wait, or the error of finding a frame.
 */
static int start_load(struct cp_load_run *run, uint64_t page, struct cp_ticket *ticket,
                      bool may_wait)
{
    struct cp_bufpool *pool = run->file->pool;
    struct cp_frame *frame = NULL;

    int status = cp_load__run_enter(run, page, may_wait);
    if (status != 0)
        return status;
    status = find_frame(run, page, ticket == NULL, may_wait, &frame);
    if (status == 0 && !cp_load__run_reserve(run, page))
        status = -EAGAIN;
    if (status == 0 && ticket != NULL)
        ticket->state = CP_TICKET_LOADING; /* before the claim: completion may follow at once */
    if (status == 0 && !cp_load__claim(run->file, page, frame, run->ring + 1))
        status = -EAGAIN;
    if (status != 0) {
        cp_table__leave(run->file, page);
        if (frame != NULL)
            cp_memory__frame_free(pool, frame);
        return status;
    }
    cp_bufpool__count(pool, CP_COUNT_MISSES, 1);
    CP_PROBE2(page_miss, run->file->path, page);
    cp_load__run_append(run, frame, ticket);
    return 0;
}

/*
 * Begin one ticket. *no_frame: in and out, the error of a search for a frame that failed; after one
 * that took CP_BUFPOOL_WAIT_LIMIT_MS nobody waits for the next. NULL: wait for no memory at all.
 */
static void begin_one(struct cp_load_run *run, uint64_t page, enum cp_latch_mode mode,
                      struct cp_ticket *ticket, int *no_frame)
{
    *ticket = (struct cp_ticket){.file = run->file, .state = CP_TICKET_RETRY};
    if (cp_fix__try(run->file, page, mode, &ticket->fix)) {
        __builtin_prefetch(ticket->fix.data); /* cold, as a rule, and looked at after the wait */
        ticket->state = CP_TICKET_FIXED;
        return;
    }
    ticket->fix = (struct cp_fix){.owner = run->file, .page = page, .mode = mode};
    if (cp_word_load(&run->file->map.words[page]) != 0)
        return;
    bool may_wait = no_frame != NULL && *no_frame == 0;
    int status = start_load(run, page, ticket, may_wait);
    if (status == -EAGAIN && no_frame != NULL && *no_frame != 0 &&
        cp_word_load(&run->file->map.words[page]) == 0)
        status = *no_frame;
    if (status == -EAGAIN) {
        ticket->state = CP_TICKET_RETRY;
    } else if (status != 0) {
        if (status == CP_ENOFRAMES && no_frame != NULL)
            *no_frame = status;
        ticket->state = CP_TICKET_FAILED;
        ticket->status = status;
    }
}

int cp_bufpool_begin(struct cp_bufpool_file *file, const uint64_t *pages, uint32_t count,
                     enum cp_latch_mode mode, struct cp_ticket *out_tickets)
{
    struct cp_load_run run;
    int no_frame = 0;
    int status = check_many(file, pages, count);

    if (status == 0 && !cp_latch_mode_valid(mode))
        status = cp_latch_mode_refuse(mode, file->path, CP_NO_PAGE);
    if (status != 0)
        return status;
    cp_load__run_init(&run, file);
    cp_bufpool_expect(file, pages, (uint32_t)cp_min_u64(count, EXPECT_PAGES));
    for (uint32_t i = 0; i < count; i++) {
        if (i + EXPECT_PAGES < count)
            expect(file, pages[i + EXPECT_PAGES]);
        begin_one(&run, pages[i], mode, &out_tickets[i], &no_frame);
    }
    cp_load__run_put(&run);
    cp_io_ring_submit_batch(file->pool->rings[run.ring]);
    return 0;
}

/* What this thread has begun and not submitted goes out, whichever ticket it waits for. */
static void submit_line(struct cp_bufpool *pool)
{
    cp_io_ring_submit_pending(pool->rings[cp_bufpool__own_ring(pool)]);
}

/* The ring a ticket's read is on: any thread may reap it, but it has to know where. */
static struct cp_io_ring *ring_of(const struct cp_ticket *ticket)
{
    struct cp_bufpool *pool = ticket->file->pool;
    uint64_t word = cp_word_load(&ticket->file->map.words[ticket->fix.page]);
    uint64_t ring_plus_one = cp_bufpool__word_version(pool, word);

    if (cp_word_latch(word) != CP_LATCH_LOADING || ring_plus_one == 0)
        return NULL; /* it has just arrived */
    return pool->rings[ring_plus_one - 1];
}

/* CP_EFORKED in a forked child, which has neither the read nor the page's word; else 0. */
static int await(struct cp_ticket *ticket)
{
    while (state_of(ticket) == CP_TICKET_LOADING) { /* ends: the read completes */
        struct cp_io_ring *ring = ring_of(ticket);
        if (ring != NULL) {
            cp_io_ring_wait(ring, ticket_arrived, ticket);
            continue;
        }
        int status = cp_bufpool__check_process(ticket->file->pool);
        if (status != 0)
            return status;
        cp_cpu_relax(); /* another thread is between publishing and telling us */
    }
    return 0;
}

/* Would a wait for a ticket in this state not block on I/O? */
static bool has_come(const struct cp_ticket *ticket, uint32_t state)
{
    /* After a read that failed, wait reads the page by itself: nothing more can be done here. */
    return state != CP_TICKET_LOADING && (state != CP_TICKET_RETRY || ticket->status != 0);
}

/*
 * The same, trying again where it met a latch. The state is looked at once: whoever reaps the read
 * may set FIXED at any time, and a ticket that holds its page must not be begun again.
 */
static bool is_ready(struct cp_ticket *ticket)
{
    const uint32_t state = state_of(ticket);
    CP_HOOK("ready", ticket->file, ticket->fix.page);
    if (has_come(ticket, state) || !cp_fork_guard_same(&ticket->file->pool->fork_guard))
        return true; /* in a forked child wait says so at once */
    if (state == CP_TICKET_LOADING)
        return false;
    struct cp_load_run run;
    uint64_t page = ticket->fix.page;
    cp_load__run_init(&run, ticket->file);
    begin_one(&run, page, (enum cp_latch_mode)ticket->fix.mode, ticket, NULL);
    cp_load__run_submit(&run);
    return state_of(ticket) == CP_TICKET_FIXED || state_of(ticket) == CP_TICKET_FAILED;
}

bool cp_bufpool_poll(struct cp_ticket *ticket)
{
    submit_line(ticket->file->pool);
    if (state_of(ticket) == CP_TICKET_LOADING) {
        struct cp_io_ring *ring = ring_of(ticket);
        if (ring != NULL)
            (void)cp_io_ring_poll(ring);
    }
    return is_ready(ticket);
}

/* Move the tickets that are ready to the front. Returns their number. */
static uint32_t gather_ready(struct cp_ticket **tickets, uint32_t count)
{
    uint32_t ready = 0;

    for (uint32_t i = 0; i < count; i++) {
        struct cp_ticket *ticket = tickets[i];
        if (!is_ready(ticket))
            continue;
        tickets[i] = tickets[ready];
        tickets[ready++] = ticket;
    }
    return ready;
}

/* The first ticket that is being read, or NULL. */
static struct cp_ticket *find_loading(struct cp_ticket **tickets, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (state_of(tickets[i]) == CP_TICKET_LOADING)
            return tickets[i];
    }
    return NULL;
}

struct ticket_group {
    struct cp_ticket **tickets;
    uint32_t count;
};

static bool one_has_come(void *ctx)
{
    const struct ticket_group *group = ctx;

    for (uint32_t i = 0; i < group->count; i++) {
        if (has_come(group->tickets[i], state_of(group->tickets[i])))
            return true;
    }
    return false;
}

uint32_t cp_bufpool_wait_some(struct cp_ticket **tickets, uint32_t count)
{
    struct ticket_group group = {tickets, count};

    if (count > 0)
        submit_line(tickets[0]->file->pool);
    for (;;) { /* ends: a read completes, or none is under way */
        struct cp_ticket *loading = find_loading(tickets, count);
        struct cp_io_ring *ring = loading != NULL ? ring_of(loading) : NULL;
        if (ring != NULL)
            (void)cp_io_ring_poll(ring);
        uint32_t ready = gather_ready(tickets, count);
        if (ready > 0)
            return ready;
        loading = find_loading(tickets, count); /* a ticket that tried again may be reading now */
        ring = loading != NULL ? ring_of(loading) : NULL;
        if (ring != NULL)
            cp_io_ring_wait(ring, one_has_come, &group);
        else if (loading == NULL && !one_has_come(&group))
            return count > 0; /* all are in others' hands */
        else
            cp_cpu_relax(); /* another thread is between publishing and telling us, or has just */
    }
}

int cp_bufpool_wait(struct cp_ticket *ticket)
{
    uint64_t page = ticket->fix.page;
    int status = cp_bufpool__check_process(ticket->file->pool);
    if (status != 0) { /* the page was the parent's, fixed or not */
        ticket->fix.data = NULL;
        ticket->state = CP_TICKET_DONE;
        return status;
    }
    submit_line(ticket->file->pool);
    status = await(ticket);

    switch (state_of(ticket)) {
    case CP_TICKET_FIXED:
        if (ticket->file->pool->pins != NULL && ticket->fix.pin == 0)
            ticket->fix.pin =
                cp_pins__add(ticket->file, page, (enum cp_latch_mode)ticket->fix.mode);
        break;
    case CP_TICKET_RETRY:
        status =
            cp_bufpool_fix(ticket->file, page, (enum cp_latch_mode)ticket->fix.mode, &ticket->fix);
        break;
    case CP_TICKET_LOADING: /* for ever */
        break;
    default:
        status = cp_error_set(ticket->status, ticket->file->path, page, CP_NO_LSN,
                              "raise the budget, or keep fewer tickets at a time",
                              "finding a frame for a ticket");
        break;
    }
    ticket->state = CP_TICKET_DONE;
    return status;
}

void cp_bufpool_cancel(struct cp_ticket *ticket)
{
    (void)!await(ticket); /* in a forked child there is nothing to let go of */
    if (state_of(ticket) == CP_TICKET_FIXED)
        cp_bufpool_unfix(&ticket->fix);
    ticket->state = CP_TICKET_DONE;
}

int cp_bufpool_prefetch(struct cp_bufpool_file *file, const uint64_t *pages, uint32_t count)
{
    struct cp_load_run run;
    int started = 0;
    int status = check_many(file, pages, count);

    if (status != 0)
        return status;
    cp_load__run_init(&run, file);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t word = cp_word_load(&file->map.words[pages[i]]);
        if (word != 0)
            continue;
        if (start_load(&run, pages[i], NULL, false) == 0)
            started++;
        else if (cp_word_load(&file->map.words[pages[i]]) == 0)
            break; /* no frame, or no memory for the table, without waiting */
    }
    cp_load__run_submit(&run);
    return started;
}

/* ---- fix_many
 * -------------------------------------------------------------------------------------- */

/* Two equal pages would wait for each other when fixed exclusively. */
static bool has_duplicate(const uint64_t *pages, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) {
        for (uint32_t j = 0; j < i; j++) {
            if (pages[i] == pages[j])
                return true;
        }
    }
    return false;
}

/*
 * Read what is missing of a window of pages, the others being fixed already. 0 when all are fixed.
 * Otherwise none is; -EAGAIN with *out_busy names a page to wait for, anything else is an error.
 */
static int fix_missing(struct cp_bufpool_file *file, const uint64_t *pages, uint32_t count,
                       enum cp_latch_mode mode, const uint32_t *missing, uint32_t missing_count,
                       struct cp_fix *out_fixes, uint64_t *out_busy)
{
    struct cp_ticket tickets[CP_WINDOW_PAGES];
    struct cp_load_run run;
    int status = 0, no_frame = 0;

    cp_load__run_init(&run, file);
    for (uint32_t m = 0; m < missing_count; m++)
        expect(file, pages[missing[m]]);
    for (uint32_t m = 0; m < missing_count; m++)
        begin_one(&run, pages[missing[m]], mode, &tickets[m], &no_frame);
    cp_load__run_submit(&run);
    for (uint32_t m = 0; m < missing_count; m++) {
        uint32_t i = missing[m];
        (void)!await(&tickets[m]); /* it was begun in this process */
        out_fixes[i].data = NULL;
        if (state_of(&tickets[m]) == CP_TICKET_FIXED ||
            (state_of(&tickets[m]) == CP_TICKET_FAILED && status == 0)) {
            int code = cp_bufpool_wait(&tickets[m]);
            status = status != 0 ? status : code;
            out_fixes[i] = tickets[m].fix;
        } else if (status == 0) {
            status = -EAGAIN;
            *out_busy = pages[i];
        }
    }
    if (status == 0)
        return 0;
    for (uint32_t i = 0; i < count; i++) {
        if (out_fixes[i].data != NULL)
            cp_bufpool_unfix(&out_fixes[i]);
    }
    return status;
}

/*
 * Fix a window of pages, the first `done` being fixed already, without ever waiting for another
 * thread's latch. Returns as fix_missing.
 */
static int fix_window(struct cp_bufpool_file *file, const uint64_t *pages, uint32_t count,
                      uint32_t done, enum cp_latch_mode mode, struct cp_fix *out_fixes,
                      uint64_t *out_busy)
{
    uint32_t missing[CP_WINDOW_PAGES];
    uint32_t missing_count = cp_fix__try_many(file, pages, count, done, mode, out_fixes, missing);

    if (missing_count == 0)
        return 0;
    return fix_missing(file, pages, count, mode, missing, missing_count, out_fixes, out_busy);
}

/* Holding nothing, wait for a page in other hands (and read it if need be). */
static int await_page(struct cp_bufpool_file *file, uint64_t page, enum cp_latch_mode mode)
{
    struct cp_fix fix;
    int status = cp_bufpool_fix(file, page, mode, &fix);

    if (status != 0)
        return status;
    cp_bufpool_unfix(&fix);
    return 0;
}

/*
 * Stand back for a random time that grows with the rounds: threads that fix the same pages in
 * different orders would otherwise step back and return in step, for ever. Nothing is held here.
 */
static void back_off(uint32_t round, uint64_t *random)
{
    uint32_t limit_us = 1u << (round < BACK_OFF_ROUNDS ? round : BACK_OFF_ROUNDS);
    *random = *random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    const struct timespec pause = {0, (long)((*random >> 33) % limit_us) * 1000};
    nanosleep(&pause, NULL);
}

/* What may not be asked for at all: no pages are fixed then. */
static int check_fix_many(struct cp_bufpool_file *file, const uint64_t *pages, uint32_t count,
                          enum cp_latch_mode mode)
{
    int status = check_many(file, pages, count);

    if (status == 0 && !cp_latch_mode_valid(mode))
        status = cp_latch_mode_refuse(mode, file->path, CP_NO_PAGE);
    if (status == 0 && mode == CP_EXCLUSIVE && has_duplicate(pages, count))
        status = cp_error_set(-EINVAL, file->path, CP_NO_PAGE, CP_NO_LSN, NULL,
                              "fixing a page exclusively twice in one call");
    return status;
}

int cp_bufpool_fix_rest(struct cp_bufpool_file *file, const uint64_t *pages, uint32_t count,
                        uint32_t held, enum cp_latch_mode mode, struct cp_fix *inout_fixes)
{
    int status = check_fix_many(file, pages, count, mode);

    if (status != 0) {
        cp_bufpool_unfix_many(inout_fixes, held);
        return status;
    }
    uint64_t deadline_ns = 0;
    uint64_t random = (uintptr_t)inout_fixes ^ cp_thread_slot();
    for (uint32_t round = 0;; round++) { /* ends: with all fixed, an error, or at the deadline */
        uint32_t done = 0;
        uint64_t busy = 0;
        while (done < count && status == 0) {
            uint32_t window = count - done < CP_WINDOW_PAGES ? count - done : CP_WINDOW_PAGES;
            status = fix_window(file, &pages[done], window, held, mode, &inout_fixes[done], &busy);
            held = 0; /* they were the first window's, which has them now, or has let them go */
            if (status == 0)
                done += window;
        }
        if (status == 0)
            return 0;
        cp_bufpool_unfix_many(inout_fixes, done);
        if (status == -EAGAIN)
            status = await_page(file, busy, mode);
        if (status != 0)
            return status;
        if (deadline_ns == 0)
            deadline_ns = cp_now_ns() + CP_BUFPOOL_TOGETHER_LIMIT_MS * UINT64_C(1000000);
        else if (cp_now_ns() >= deadline_ns)
            return cp_error_set(CP_ETIMEDOUT, file->path, busy, CP_NO_LSN,
                                "fix fewer pages at a time, or in one order everywhere",
                                "fixing %u pages together: others held one or another for %u ms",
                                count, CP_BUFPOOL_TOGETHER_LIMIT_MS);
        back_off(round, &random);
    }
}

int cp_bufpool_fix_many(struct cp_bufpool_file *file, const uint64_t *pages, uint32_t count,
                        enum cp_latch_mode mode, struct cp_fix *out_fixes)
{
    uint32_t held = 0;

    if (mode == CP_SHARED && !CP_POISONS) {
        const struct cp_page_map map = file->map; /* in registers: see there */
        /* Where the caller will look is not known; most begin at the beginning. */
        for (uint32_t i = 0; i < count && i < CP_PIN_SLOTS; i++)
            cp_page_map_prefetch_line(&map, pages[i], 0);
        held = cp_page_map_hold_many(&map, pages, count, cp_pin_own, out_fixes);
    }
    if (__builtin_expect(held == count, 1))
        return 0;
    return cp_bufpool_fix_rest(file, pages, count, held, mode, out_fixes);
}
