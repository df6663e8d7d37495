/* SPDX-License-Identifier: MIT */
/*
 * Everything at once: threads that fix, change, read optimistically, fix many, hold tickets,
 * prefetch, scan, discard what is theirs, flush, and resize a pool far smaller than the data, in
 * files of three page sizes, one of them behind a log. The oracle knows the version of every page;
 * it changes only under the page's exclusive latch, so whoever holds a page knows what must be in
 * it.
 *
 * A run consists of episodes with parameters drawn from the seed. CP_TEST_SEED replays the draws
 * (threads interleave as they like), CP_TEST_SECONDS lengthens the run.
 */
#include "helpers.h"

#define FILES           3u
#define THREADS_MAX     6u
#define ROUND_OPS       200u
#define PRIVATE_PAGES   16u /* of file 0, for each thread */
#define MANY            16u
#define EPISODE_NS      UINT64_C(700000000)
#define SECONDS_DEFAULT 3u

static const uint32_t page_sizes[FILES] = {4096, 16384, 65536};
static const uint64_t page_counts[FILES] = {1536, 256, 64};
static const uint32_t many_limit[FILES] = {MANY, 6, 2}; /* at most 128 KiB of one call */

struct episode {
    struct world w;
    struct fake_log log;
    _Atomic uint64_t *version[FILES];
    uint64_t end_ns;
    uint64_t budget_low, budget_high;
    bool faults;
    _Atomic uint64_t next_lsn;
    _Atomic uint64_t ops, no_frames, no_budget, refused, pinned, timed_out;
    _Atomic uint64_t seed;
};

struct worker {
    struct episode *e;
    uint32_t number;
    uint64_t random;
};

/* In file 0 the first pages belong to one thread each; the rest is everybody's. */
static uint64_t any_page(struct worker *self, uint32_t f)
{
    uint64_t first = f == 0 ? THREADS_MAX * PRIVATE_PAGES : 0;
    uint64_t span = page_counts[f] - first;
    uint64_t r = next_random(&self->random);
    if ((r & 3) == 0) /* a hot corner */
        span = span / 16 + 1;
    return first + (r >> 8) % span;
}

static void bad(const char *what, uint32_t f, uint64_t page, uint64_t found, uint64_t expected)
{
    fprintf(stderr, "%s: file %u page %llu: version %lld, expected %llu\n", what, f,
            (unsigned long long)page, (long long)found, (unsigned long long)expected);
    abort();
}

/* A code that the circumstances explain; anything else ends the test. */
static void explain(struct episode *e, int status, const char *what)
{
    char text[512];
    if (status == CP_ENOFRAMES)
        atomic_fetch_add(&e->no_frames, 1);
    else if (status == CP_EBUDGET)
        atomic_fetch_add(&e->no_budget, 1);
    else if (status == CP_ETIMEDOUT)
        atomic_fetch_add(&e->timed_out, 1);
    else if (e->faults && (status == CP_EGATE || status == -EIO || status == -ENOSPC))
        atomic_fetch_add(&e->refused, 1);
    else {
        fprintf(stderr, "%s: %s\n", what, cp_error_format(text, sizeof text));
        abort();
    }
}

static void check_fix(struct episode *e, uint32_t f, const struct cp_fix *fix, const char *what)
{
    uint64_t expected = atomic_load(&e->version[f][fix->page]);
    uint64_t found = page_version(fix->data, page_sizes[f], fix->page);
    if (found != expected)
        bad(what, f, fix->page, found, expected);
}

static void change_fix(struct episode *e, uint32_t f, struct cp_fix *fix)
{
    uint64_t version = atomic_load(&e->version[f][fix->page]) + 1;
    cp_lsn lsn = f == 0 ? atomic_fetch_add(&e->next_lsn, 1) : 0;
    fill_page(fix->data, page_sizes[f], fix->page, version, lsn);
    cp_bufpool_mark_dirty(fix, lsn);
    atomic_store(&e->version[f][fix->page], version);
}

/* ---- the operations -----------------------------------------------------------------------------
 */

static void do_fix(struct worker *self, uint32_t f, uint64_t page, enum cp_latch_mode mode)
{
    struct episode *e = self->e;
    struct cp_fix fix;
    int status = (next_random(&self->random) & 7) == 0
                     ? cp_bufpool_try_fix(e->w.file[f], page, mode, &fix)
                     : cp_bufpool_fix(e->w.file[f], page, mode, &fix);
    if (status == -EAGAIN)
        return;
    if (status != 0) {
        explain(e, status, "fix");
        return;
    }
    check_fix(e, f, &fix, "fix");
    if (mode == CP_EXCLUSIVE)
        change_fix(e, f, &fix);
    cp_bufpool_unfix(&fix);
}

static void do_fix_new(struct worker *self, uint32_t f, uint64_t page)
{
    struct episode *e = self->e;
    struct cp_fix fix;
    int status = cp_bufpool_fix_new(e->w.file[f], page, &fix);
    if (status != 0) {
        explain(e, status, "fix_new");
        return;
    }
    for (uint32_t i = 0; i < page_sizes[f] / 8; i++) {
        if (((uint64_t *)fix.data)[i] != 0)
            bad("fix_new: not zero", f, page, i, 0);
    }
    change_fix(e, f, &fix);
    cp_bufpool_unfix(&fix);
}

static void do_read(struct worker *self, uint32_t f, uint64_t page)
{
    struct episode *e = self->e;
    uint64_t copy[64];
    uint32_t at = (uint32_t)(next_random(&self->random) % (page_sizes[f] / sizeof copy));
    uint64_t before = atomic_load(&e->version[f][page]);
    int status = cp_bufpool_read(e->w.file[f], page, at * (uint32_t)sizeof copy, copy, sizeof copy);
    if (status != 0) {
        explain(e, status, "read");
        return;
    }
    uint64_t after = atomic_load(&e->version[f][page]);
    for (uint64_t version = before; version <= after; version++) {
        uint64_t seed = mix(page * 1000003 + version);
        bool good = true;
        for (uint32_t i = 0; i < 64 && good; i++) {
            uint32_t word = at * 64 + i;
            good = word == 0   ? true
                   : word == 1 ? copy[i] == page
                   : word == 2 ? copy[i] == version
                               : copy[i] == seed + word;
        }
        if (good)
            return;
    }
    bad("read", f, page, copy[2], after);
}

static void pick_pages(struct worker *self, uint32_t f, uint64_t *pages, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t r = next_random(&self->random);
        pages[i] = i > 0 && (r & 1) != 0 && pages[i - 1] + 1 < page_counts[f] ? pages[i - 1] + 1
                                                                              : any_page(self, f);
    }
}

static void do_fix_many(struct worker *self, uint32_t f, enum cp_latch_mode mode)
{
    struct episode *e = self->e;
    uint64_t pages[MANY];
    struct cp_fix fixes[MANY];
    uint32_t count = 1 + (uint32_t)(next_random(&self->random) % many_limit[f]);

    pick_pages(self, f, pages, count);
    int status = cp_bufpool_fix_many(e->w.file[f], pages, count, mode, fixes);
    if (status == -EINVAL && mode == CP_EXCLUSIVE)
        return; /* a page occurs twice */
    if (status != 0) {
        explain(e, status, "fix_many");
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (fixes[i].page != pages[i])
            bad("fix_many: order", f, pages[i], fixes[i].page, pages[i]);
        check_fix(e, f, &fixes[i], "fix_many");
        if (mode == CP_EXCLUSIVE)
            change_fix(e, f, &fixes[i]);
    }
    cp_bufpool_unfix_many(fixes, count);
}

/* Several tickets are shared ones: exclusive ones of two threads could wait for each other. */
static void do_tickets(struct worker *self, uint32_t f)
{
    struct episode *e = self->e;
    uint64_t pages[MANY];
    struct cp_ticket tickets[MANY];
    uint32_t count = 1 + (uint32_t)(next_random(&self->random) % many_limit[f]);
    enum cp_latch_mode mode = count == 1 ? CP_EXCLUSIVE : CP_SHARED;

    pick_pages(self, f, pages, count);
    int status = cp_bufpool_begin(e->w.file[f], pages, count, mode, tickets);
    if (status != 0) {
        explain(e, status, "begin");
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint64_t r = next_random(&self->random);
        for (uint64_t polls = r & 3; polls > 0; polls--)
            (void)cp_bufpool_poll(&tickets[i]);
        if ((r >> 8) % 8 == 0) {
            cp_bufpool_cancel(&tickets[i]);
            continue;
        }
        status = cp_bufpool_wait(&tickets[i]);
        if (status != 0) {
            explain(e, status, "wait");
            continue;
        }
        check_fix(e, f, &tickets[i].fix, "ticket");
        if (mode == CP_EXCLUSIVE)
            change_fix(e, f, &tickets[i].fix);
        cp_bufpool_unfix(&tickets[i].fix);
    }
}

static void do_prefetch(struct worker *self, uint32_t f)
{
    uint64_t pages[MANY];
    uint32_t count = 1 + (uint32_t)(next_random(&self->random) % many_limit[f]);
    pick_pages(self, f, pages, count);
    int status = cp_bufpool_prefetch(self->e->w.file[f], pages, count);
    if (status < 0)
        explain(self->e, status, "prefetch");
}

/* A scan of some pages, which may stop early and pass over some. */
static void do_scan(struct worker *self, uint32_t f)
{
    struct episode *e = self->e;
    struct cp_scan scan;
    struct cp_fix fix;
    uint64_t first = f == 0 ? (uint64_t)THREADS_MAX * PRIVATE_PAGES : 0;
    uint64_t span = page_counts[f] - first;
    uint64_t start = next_random(&self->random) % span;
    uint64_t count = 1 + next_random(&self->random) % (span - start);
    int status = cp_bufpool_scan_begin(e->w.file[f], first + start, count, &scan);
    if (status != 0)
        bad("scan_begin", f, first + start, 0, 0);
    while (next_random(&self->random) % 256 != 0) {
        status = cp_bufpool_scan_next(&scan, &fix);
        if (status == 0)
            break;
        if (status < 0) {
            explain(e, status, "scan");
            continue;
        }
        check_fix(e, f, &fix, "scan");
        cp_bufpool_unfix(&fix);
        if (next_random(&self->random) % 64 == 0)
            scan.next += next_random(&self->random) % 100;
    }
}

/*
 * Change pages of our own, perhaps flush, and throw them away: what comes back is a version between
 * the last flushed one and the newest.
 */
static void do_discard(struct worker *self)
{
    struct episode *e = self->e;
    uint64_t first = self->number * PRIVATE_PAGES;
    uint64_t flushed[PRIVATE_PAGES] = {0};

    for (uint32_t i = 0; i < PRIVATE_PAGES; i++)
        do_fix(self, 0, first + i, CP_EXCLUSIVE);
    if ((next_random(&self->random) & 1) != 0) {
        int status = cp_bufpool_flush(e->w.file[0]);
        for (uint32_t i = 0; i < PRIVATE_PAGES && status == 0; i++)
            flushed[i] = atomic_load(&e->version[0][first + i]);
        if (status != 0)
            explain(e, status, "flush before discard");
        for (uint32_t i = 0; i < PRIVATE_PAGES; i++)
            do_fix(self, 0, first + i, CP_EXCLUSIVE);
    }
    int status = cp_bufpool_discard(e->w.file[0], first, PRIVATE_PAGES);
    if (status == CP_EPINNED)
        atomic_fetch_add(&e->pinned, 1);
    else if (status != 0)
        explain(e, status, "discard");
    for (uint32_t i = 0; i < PRIVATE_PAGES; i++) {
        struct cp_fix fix;
        /* Until it has been read again, nobody knows its version. */
        while ((status = cp_bufpool_fix(e->w.file[0], first + i, CP_SHARED, &fix)) != 0)
            explain(e, status, "fix after discard");
        uint64_t found = page_version(fix.data, page_sizes[0], first + i);
        uint64_t newest = atomic_load(&e->version[0][first + i]);
        if (found > newest || found < flushed[i])
            bad("discard", 0, first + i, found, newest);
        atomic_store(&e->version[0][first + i], found);
        cp_bufpool_unfix(&fix);
    }
}

static void do_resize(struct worker *self)
{
    struct episode *e = self->e;
    struct cp_bufpool_stats stats;
    uint64_t span = e->budget_high - e->budget_low;
    uint64_t budget = e->budget_low + next_random(&self->random) % (span + 1);
    int status = cp_bufpool_resize(e->w.pool, budget);
    if (status == CP_EPINNED)
        atomic_fetch_add(&e->pinned, 1);
    else if (status != 0)
        explain(e, status, "resize");
    cp_bufpool_stats(e->w.pool, 0, &stats);
    if (stats.used_bytes > e->budget_high || stats.peak_bytes > e->budget_high)
        bad("budget", 0, 0, stats.used_bytes, e->budget_high);
}

static void do_look(struct worker *self)
{
    struct cp_pin pins[8];
    struct cp_bufpool_stats stats;
    cp_bufpool_stats(self->e->w.pool, 0, &stats);
    (void)cp_bufpool_list_pins(self->e->w.pool, pins, 8);
    (void)cp_table__trim(self->e->w.file[next_random(&self->random) % FILES]);
}

static void do_something(struct worker *self)
{
    uint64_t r = next_random(&self->random);
    uint32_t f = (uint32_t)(r >> 32) % 4;
    uint32_t what = (uint32_t)(r % 1000);

    f = f == 0 ? 0 : f - 1; /* twice as often in file 0 */

    if (what < 280)
        do_fix(self, f, any_page(self, f), CP_SHARED);
    else if (what < 520)
        do_fix(self, f, any_page(self, f), CP_EXCLUSIVE);
    else if (what < 540)
        do_fix_new(self, f, any_page(self, f));
    else if (what < 680)
        do_read(self, f, any_page(self, f));
    else if (what < 750)
        do_fix_many(self, f, CP_SHARED);
    else if (what < 810)
        do_fix_many(self, f, CP_EXCLUSIVE);
    else if (what < 910)
        do_tickets(self, f);
    else if (what < 960)
        do_prefetch(self, f);
    else if (what < 970)
        do_scan(self, f);
    else if (what < 975)
        do_discard(self);
    else if (what < 980)
        do_look(self);
    else if (what < 985) {
        int status = cp_bufpool_clean(self->e->w.pool);
        if (status < 0 && status != -EAGAIN)
            explain(self->e, status, "clean");
    } else if (what < 990)
        do_resize(self);
    else if (what < 996) {
        int status = cp_bufpool_flush(self->e->w.file[f]);
        if (status != 0)
            explain(self->e, status, "flush");
    } else if (self->e->faults) {
        atomic_store(&self->e->log.refuse, what % 2 == 0 ? -EIO : 0);
    }
}

/* ---- episodes -----------------------------------------------------------------------------------
 */

static void *work(void *argument)
{
    struct worker *self = argument;
    self->random = atomic_fetch_add(&self->e->seed, 0x51ed27) * 0x9e3779b97f4a7c15;
    for (uint32_t i = 0; i < ROUND_OPS && cp_now_ns() < self->e->end_ns; i++)
        do_something(self);
    atomic_fetch_add(&self->e->ops, ROUND_OPS);
    return NULL;
}

struct place {
    struct worker worker;
    pthread_t keeper;
};

/* A place is filled by one thread after another, so that threads come and go. */
static void *keep_place(void *argument)
{
    struct place *place = argument;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 * KIB);
    while (cp_now_ns() < place->worker.e->end_ns) {
        pthread_t thread;
        if (pthread_create(&thread, &attributes, work, &place->worker) != 0)
            abort();
        pthread_join(thread, NULL);
    }
    pthread_attr_destroy(&attributes);
    return NULL;
}

static void open_episode(struct episode *e, uint64_t *random)
{
    struct cp_bufpool_options options = {
        .budget_bytes = 1536 * KIB + next_random(random) % (MIB * 2),
        .ring_count = 1 + (uint32_t)(next_random(random) % 3),
        .track_pins = next_random(random) % 4 == 0,
        .write_batch_pages = next_random(random) % 3 == 0 ? 4 : 0,
    };
    memset(e, 0, sizeof *e);
    e->budget_low = 1280 * KIB;
    e->budget_high = options.max_budget_bytes = 4 * MIB;
    e->faults = next_random(random) % 3 == 0;
    e->seed = next_random(random);
    e->next_lsn = 1;
    world_open_with(&e->w, &options, (enum world_rings)(next_random(random) % 3));
    for (uint32_t f = 0; f < FILES; f++) {
        world_create_file(&e->w, f, page_sizes[f], page_counts[f]);
        e->version[f] = calloc(page_counts[f], sizeof *e->version[f]);
        assert_non_null(e->version[f]);
    }
    const struct cp_lsn_gate gate = {&e->log, fake_durable, fake_make_durable};
    for (uint32_t f = 0; f < FILES; f++)
        world_attach_with(&e->w, f,
                          &(struct cp_bufpool_file_options){
                              .gate = f == 0 ? &gate : NULL,
                              .max_pages = page_counts[f],
                          });
    struct cp_io_file_info info;
    cp_io_file_info(e->w.io_file[0], &info);
    e->log.fd = info.fd;
    fault_io_on_write(e->w.faults, fake_log_see_write, &e->log);
    if (e->faults) {
        for (uint32_t i = 0; i < 15; i++)
            fault_io_rule(e->w.faults,
                          &(struct fault_rule){
                              .on = i % 3 == 0 ? FAULT_READ : FAULT_WRITE,
                              .nth = 1 + next_random(random) % 3000,
                              .times = 1 + next_random(random) % 4,
                              .bytes = 512, /* whole sectors, or O_DIRECT refuses the rest */
                              .effect = i % 5 == 0 ? FAULT_SHORT : FAULT_CODE,
                              .code = i % 2 == 0 ? -EIO : -ENOSPC,
                          });
    }
}

static void close_episode(struct episode *e)
{
    atomic_store(&e->log.refuse, 0);
    fault_io_reset(e->w.faults);
    for (uint32_t f = 0; f < FILES; f++) {
        for (uint64_t page = 0; page < page_counts[f]; page += 3)
            check_version(&e->w, f, page, atomic_load(&e->version[f][page]));
        assert_int_equal(cp_bufpool_flush(e->w.file[f]), 0);
        for (uint64_t page = 0; page < page_counts[f]; page++)
            assert_int_equal(version_on_disk(&e->w, f, page), atomic_load(&e->version[f][page]));
        free((void *)(uintptr_t)e->version[f]);
    }
    struct cp_bufpool_stats stats = stats_of(&e->w);
    assert_int_equal(stats.pages_dirty, 0);
    assert_true(stats.used_bytes <= stats.budget_bytes);
    assert_int_equal(atomic_load(&e->log.violations), 0);
    world_close(&e->w);
}

static void run_episode(struct episode *e, uint64_t *random)
{
    struct place places[THREADS_MAX];
    struct watchdog dog;
    uint32_t threads = 2 + (uint32_t)(next_random(random) % (THREADS_MAX - 1));

    open_episode(e, random);
    watchdog_start(&dog, &e->w, WATCHDOG_LIMIT);
    e->end_ns = cp_now_ns() + EPISODE_NS;
    for (uint32_t i = 0; i < threads; i++) {
        places[i].worker = (struct worker){.e = e, .number = i};
        assert_int_equal(pthread_create(&places[i].keeper, NULL, keep_place, &places[i]), 0);
    }
    for (uint32_t i = 0; i < threads; i++)
        pthread_join(places[i].keeper, NULL);
    struct cp_bufpool_stats stats = stats_of(&e->w);
    print_message("%u threads, faults %d: %llu ops, %llu misses, %llu written, no frames %llu, no "
                  "budget %llu, refused %llu, pinned %llu, gave up %llu\n",
                  threads, e->faults, (unsigned long long)e->ops, (unsigned long long)stats.misses,
                  (unsigned long long)stats.pages_written, (unsigned long long)e->no_frames,
                  (unsigned long long)e->no_budget, (unsigned long long)e->refused,
                  (unsigned long long)e->pinned, (unsigned long long)e->timed_out);
    close_episode(e);
    watchdog_stop(&dog);
}

static void stress_everything_at_once_every_byte_right(void **state)
{
    (void)state;
    static struct episode episode;
    uint64_t random = test_seed();
    const char *given = getenv("CP_TEST_SECONDS");
    uint64_t seconds = given != NULL ? strtoull(given, NULL, 0) : SECONDS_DEFAULT;
    uint64_t end_ns = cp_now_ns() + seconds * 1000000000u;

    do {
        run_episode(&episode, &random);
    } while (cp_now_ns() < end_ns);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stress_everything_at_once_every_byte_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
