/* SPDX-License-Identifier: MIT */
#include "workload.h"

#define WIDTH 3u /* pages of a transaction */

struct cp_pager_options workload_options(struct cp_io *io)
{
    struct cp_pager_options options = options_of(0, WORKLOAD_BUDGET);
    options.io = io;
    options.background = CP_BACKGROUND_NONE;
    options.log_segment_bytes = UINT32_C(64) << 10; /* a few files, used again and again */
    options.log_buffer_bytes = CP_WAL_BUFFER_BYTES_MIN;
    options.log_sync = CP_WAL_SYNC_FDATASYNC;
    options.torn_pages = CP_TORN_IMAGES;
    return options;
}

void workload_create(const char *path, struct history *history)
{
    struct cp_pager_options options = workload_options(NULL);
    struct cp_pager *pager;
    options.create = true;
    assert_ok(cp_pager_open(path, &options, &pager));
    uint64_t first = cp_pager_first_page(pager);
    history_init(history, first, WORKLOAD_PAGES);
    for (uint32_t i = 0; i < WORKLOAD_PAGES; i++) {
        struct cp_fix fix;
        assert_ok(cp_pager_allocate(pager, &fix));
        assert_int_equal(fix.page, first + i);
        history_fill(fix.data, cp_pager_payload_size(pager), fix.page, 1);
        cp_pager_unfix(pager, &fix);
        if (i % 40 == 39) /* few segments: the log is used again */
            assert_ok(cp_pager_checkpoint(pager));
    }
    assert_ok(cp_pager_close(pager));
}

/* Note an error; true when there is one. */
static bool failed(struct workload *work, int code, const char *call)
{
    if (code >= 0)
        return false;
    if (work->errors++ == 0) {
        work->first_error = code;
        work->first_call = call;
    }
    return true;
}

#define FAILED(call) failed(work, call, #call)

/* A page that was just fixed: does it hold what the last transaction left in it? */
static void look(struct workload *work, const void *data, uint64_t page)
{
    const struct history *history = work->history;
    uint32_t got = history_version(data, cp_pager_payload_size(work->pager), page);
    bool good = got == history_now(history, page);
    for (uint32_t k = 0; !good && work->stale_allowed && k < history->count; k++)
        good = got == history->version[k][page - history->first];
    /* A map shows what was written over a page that has been verified already. A device that
     * misdirects a write does not change the kernel's cache, so this is no more than how the fault
     * is made. */
    good = good || (work->stale_allowed && test_engine == CP_ENGINE_MMAP && got == SEEN_WRONG);
    if (good)
        return;
    if (!work->wrong)
        print_error("page %llu: holds %u, should hold %u\n", (unsigned long long)page, got,
                    history_now(history, page));
    work->wrong = true;
}

/* The page of a transaction's i-th change: an allocated one. */
static uint64_t choose(struct workload *work)
{
    const struct history *history = work->history;
    uint64_t page;
    do /* ends: most pages are allocated */
        page = history->first + below(&work->random, HISTORY_PAGES);
    while (history_now(history, page) == 0);
    return page;
}

/* Did a commit that gave this code leave things as they were? */
static bool left_nothing(const struct workload *work, int code)
{
    struct cp_pager_stats stats;
    if (code == 0)
        return false;
    if (code == CP_ETOOLARGE || code == -ENOSPC || code == CP_ENOFRAMES || code == CP_EFAILED)
        return true;
    cp_pager_stats(work->pager, &stats);
    return !stats.failed;
}

/* End a transaction whose changes are in the row behind the last. */
static void commit(struct workload *work, struct cp_mtr *mtr, bool durable)
{
    struct history *history = work->history;
    cp_lsn lsn = 0;
    int code = cp_mtr_commit(mtr, durable ? CP_COMMIT_DURABLE : CP_COMMIT_RELAXED, &lsn);
    failed(work, code, "cp_mtr_commit");
    if (left_nothing(work, code))
        return;
    history_commit(history, code == 0 && durable);
    if (code == 0 && !durable && below(&work->random, 4) == 0 &&
        !FAILED(cp_pager_wait_durable(work->pager, lsn)))
        history->acked = history->count;
}

/* Fix and rewrite some pages. False: an error, nothing to commit. */
static bool change(struct workload *work, struct cp_mtr *mtr, uint32_t version)
{
    for (unsigned i = 0; i < WIDTH; i++) {
        uint64_t page = choose(work);
        void *data;
        if (FAILED(cp_mtr_fix(mtr, page, CP_EXCLUSIVE, &data)))
            return false;
        if (work->history->version[work->history->count + 1][page - work->history->first] !=
            version)
            look(work, data, page);
        history_fill(data, cp_pager_payload_size(work->pager), page, version);
        history_set(work->history, page, version);
    }
    return true;
}

static bool allocate(struct workload *work, struct cp_mtr *mtr, uint32_t version)
{
    uint64_t page;
    void *data;
    if (FAILED(cp_mtr_allocate(mtr, &page, &data)))
        return false;
    if (page - work->history->first >= HISTORY_PAGES)
        fail_msg("page %llu allocated, the first is %llu", (unsigned long long)page,
                 (unsigned long long)work->history->first);
    if (work->history->version[work->history->count + 1][page - work->history->first] != 0 &&
        !work->stale_allowed) {
        print_error("page %llu was allocated, and is not free\n", (unsigned long long)page);
        work->wrong = true;
    }
    history_fill(data, cp_pager_payload_size(work->pager), page, version);
    history_set(work->history, page, version);
    return true;
}

static bool free_one(struct workload *work, struct cp_mtr *mtr)
{
    uint64_t page = choose(work);
    if (FAILED(cp_mtr_free(mtr, page)))
        return false;
    history_set(work->history, page, 0);
    return true;
}

/* Changes between savepoint and rollback, which must not be seen again. */
static bool detour(struct workload *work, struct cp_mtr *mtr, uint32_t version)
{
    uint32_t savepoint;
    uint64_t page = choose(work);
    void *data;
    if (FAILED(cp_mtr_savepoint(mtr, &savepoint)))
        return false;
    if (!FAILED(cp_mtr_fix(mtr, page, CP_EXCLUSIVE, &data)))
        history_fill(data, cp_pager_payload_size(work->pager), page, version + 1000);
    return !FAILED(cp_mtr_rollback(mtr, savepoint));
}

static void transaction(struct workload *work, unsigned number)
{
    struct cp_mtr *mtr;
    if (FAILED(cp_mtr_begin(work->pager, &mtr)))
        return;
    uint32_t version = history_begin(work->history);
    bool good = change(work, mtr, version);
    if (good && number % 4 == 1)
        good = allocate(work, mtr, version) && allocate(work, mtr, version);
    if (good && number % 4 == 2)
        good = free_one(work, mtr);
    if (good && number % 5 == 3)
        good = detour(work, mtr, version);
    if (!good || number % 7 == 6)
        cp_mtr_abort(mtr);
    else
        commit(work, mtr, number % 3 != 0);
}

void workload_commit(struct workload *work)
{
    transaction(work, 4); /* no allocation, no abort, durable */
}

static void read_some(struct workload *work, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t page = choose(work);
        struct cp_fix fix;
        if (FAILED(cp_pager_fix(work->pager, page, CP_SHARED, &fix)))
            continue;
        look(work, fix.data, page);
        cp_pager_unfix(work->pager, &fix);
    }
}

static void acknowledge(struct workload *work, int code, const char *call)
{
    if (!failed(work, code, call))
        work->history->acked = work->history->count;
}

bool workload_settle(struct workload *work)
{
    static struct seen seen;
    history_look(work->history, work->pager, &seen);
    if (seen.errors > 0) {
        failed(work, seen.first_error, "reading after recovery");
        return false;
    }
    int64_t k = history_match(work->history, &seen, false);
    if (k >= 0) {
        work->history->count = work->history->acked = (uint32_t)k;
    } else if (!work->stale_allowed) {
        print_error("after recovery the store is in no state that it was in\n");
        history_explain(work->history, &seen);
        work->wrong = true;
    }
    return k >= 0;
}

void workload_first(struct workload *work)
{
    for (unsigned i = 0; i < 8; i++)
        transaction(work, i);
    read_some(work, 15);
    acknowledge(work, cp_pager_checkpoint(work->pager), "cp_pager_checkpoint");
    for (unsigned i = 8; i < 14; i++)
        transaction(work, i);
}

void workload_second(struct workload *work)
{
    for (unsigned i = 14; i < 20; i++)
        transaction(work, i);
    acknowledge(work, cp_pager_sync(work->pager), "cp_pager_sync");
    for (unsigned i = 20; i < 24; i++)
        transaction(work, i);
    read_some(work, 15);
}
