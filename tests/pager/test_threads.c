/* SPDX-License-Identifier: MIT */
/*
 * Readers, writers, allocators and a thread that syncs, with a budget smaller than the data. A
 * page's words all follow from its number and the version in its first word, so that any mixture of
 * two states shows.
 */
#include "helpers.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "internal.h"
#include "mmap_engine.h"

#define SHARED_PAGES 400u
#define OWN_PAGES    60u
#define WORDS        (4064u / 8)

struct shared {
    struct cp_pager *pager;
    uint64_t first;
    uint64_t seed;
    unsigned steps;
    _Atomic bool stop;
    _Atomic uint64_t versions[SHARED_PAGES]; /* written last, under the exclusive fix */
    _Atomic unsigned bad;
};

/* A page that a write-back holds while it waits for the log may count as pinned: try again. */
static int free_patiently(struct cp_pager *pager, uint64_t first, uint64_t count)
{
    int code = cp_pager_free(pager, first, count);
    for (unsigned i = 0; code == CP_EPINNED && i < 200; i++) {
        usleep(10000);
        code = cp_pager_free(pager, first, count);
    }
    return code;
}

static uint64_t word_at(uint64_t page, uint64_t version, unsigned index)
{
    return index == 0 ? version : page * 1000003 + version * 7919 + index;
}

/* Atomic stores, since the pool's optimistic readers load the same words while they change. (What
 * they loaded is thrown away then; but ThreadSanitizer does not know that.) */
static void fill(void *data, uint64_t page, uint64_t version)
{
    for (unsigned i = 0; i < WORDS; i++)
        __atomic_store_n((uint64_t *)data + i, word_at(page, version, i), __ATOMIC_RELAXED);
}

static bool whole(const uint64_t *words, uint64_t page, unsigned count)
{
    for (unsigned i = 1; i < count; i++) {
        if (words[i] != word_at(page, words[0], i))
            return false;
    }
    return true;
}

static void expect(struct shared *s, bool condition)
{
    if (!condition)
        atomic_fetch_add_explicit(&s->bad, 1, memory_order_relaxed);
}

static void *run_writer(void *arg)
{
    struct shared *s = arg;
    uint64_t random = s->seed ^ (uint64_t)(uintptr_t)&random;
    for (unsigned i = 0; i < s->steps; i++) {
        uint64_t at = below(&random, SHARED_PAGES);
        struct cp_fix fix;
        if (cp_pager_fix(s->pager, s->first + at, CP_EXCLUSIVE, &fix) != 0) {
            expect(s, false);
            continue;
        }
        uint64_t version = *(uint64_t *)fix.data + 1;
        expect(s, whole(fix.data, fix.page, WORDS));
        fill(fix.data, fix.page, version);
        expect(s, cp_pager_mark_dirty(s->pager, &fix) == 0);
        atomic_store_explicit(&s->versions[at], version, memory_order_relaxed);
        cp_pager_unfix(s->pager, &fix);
    }
    return NULL;
}

static void *run_reader(void *arg)
{
    struct shared *s = arg;
    uint64_t random = s->seed ^ (uint64_t)(uintptr_t)&random, words[WORDS];
    for (unsigned i = 0; i < s->steps * 2; i++) {
        uint64_t page = s->first + below(&random, SHARED_PAGES);
        struct cp_fix fix, many[4];
        if (i % 3 == 0) {
            expect(s, cp_pager_read(s->pager, page, 0, words, sizeof words) == 0 &&
                          whole(words, page, WORDS));
        } else if (i % 3 == 1) {
            bool good = cp_pager_fix(s->pager, page, CP_SHARED, &fix) == 0;
            expect(s, good && whole(fix.data, page, WORDS));
            if (good)
                cp_pager_unfix(s->pager, &fix);
        } else {
            uint64_t pages[4] = {page, s->first, s->first + SHARED_PAGES - 1, page};
            bool good = cp_pager_fix_many(s->pager, pages, 4, CP_SHARED, many) == 0;
            for (unsigned k = 0; good && k < 4; k++)
                expect(s, whole(many[k].data, pages[k], WORDS));
            expect(s, good);
            if (good)
                cp_pager_unfix_many(s->pager, many, 4);
        }
    }
    return NULL;
}

static void *run_allocator(void *arg)
{
    struct shared *s = arg;
    uint64_t random = s->seed ^ (uint64_t)(uintptr_t)&random, own[OWN_PAGES], word;
    unsigned count = 0;
    for (unsigned i = 0; i < s->steps; i++) {
        struct cp_fix fix;
        if (count < OWN_PAGES && below(&random, 5) < 3) {
            if (cp_pager_allocate(s->pager, &fix) != 0) {
                expect(s, false);
                continue;
            }
            expect(s, *(uint64_t *)fix.data == 0);
            fill(fix.data, fix.page, 7);
            own[count++] = fix.page;
            cp_pager_unfix(s->pager, &fix);
        } else if (count > 0) {
            unsigned at = (unsigned)below(&random, count);
            expect(s, cp_pager_read(s->pager, own[at], 80, &word, 8) == 0 &&
                          word == word_at(own[at], 7, 10));
            expect(s, free_patiently(s->pager, own[at], 1) == 0);
            own[at] = own[--count];
        }
    }
    while (count > 0)
        expect(s, free_patiently(s->pager, own[--count], 1) == 0);
    return NULL;
}

static void *run_syncer(void *arg)
{
    struct shared *s = arg;
    struct cp_pager_stats stats;
    for (unsigned i = 0; !atomic_load_explicit(&s->stop, memory_order_relaxed); i++) {
        expect(s, cp_pager_sync(s->pager) == 0);
        cp_pager_stats(s->pager, &stats);
        if (i % 4 == 0)
            expect(s, cp_pager_resize(s->pager, UINT64_C(1) << (i % 8 == 0 ? 21 : 20)) == 0);
    }
    return NULL;
}

static void mixed_threads_see_whole_pages_and_lose_none(void **state)
{
    (void)state;
    static void *(*const roles[])(void *) = {run_writer, run_writer,    run_reader,
                                             run_reader, run_allocator, run_allocator};
    struct shared *s = calloc(1, sizeof *s);
    pthread_t threads[6], syncer;
    s->seed = test_seed();
    s->steps = 1500;
    s->pager = create_store(new_store(), 4096, UINT64_C(1) << 20);
    s->first = cp_pager_first_page(s->pager);
    for (unsigned i = 0; i < SHARED_PAGES; i++) {
        struct cp_fix fix;
        assert_ok(cp_pager_allocate(s->pager, &fix));
        fill(fix.data, fix.page, 1);
        atomic_store(&s->versions[i], 1);
        cp_pager_unfix(s->pager, &fix);
    }
    pthread_attr_t attributes; /* the library promises to work in small stacks */
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, UINT64_C(256) << 10);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(pthread_create(&threads[i], &attributes, roles[i], s), 0);
    assert_int_equal(pthread_create(&syncer, &attributes, run_syncer, s), 0);
    for (unsigned i = 0; i < 6; i++)
        pthread_join(threads[i], NULL);
    atomic_store_explicit(&s->stop, true, memory_order_relaxed);
    pthread_join(syncer, NULL);
    pthread_attr_destroy(&attributes);
    assert_int_equal(atomic_load(&s->bad), 0);
    struct cp_pager_stats stats;
    cp_pager_stats(s->pager, &stats);
    assert_int_equal(stats.allocated_pages, SHARED_PAGES);
    assert_ok(cp_pager_close(s->pager));
    s->pager = open_store(store_path());
    for (unsigned i = 0; i < SHARED_PAGES; i++) {
        uint64_t words[WORDS];
        assert_ok(cp_pager_read(s->pager, s->first + i, 0, words, sizeof words));
        assert_int_equal(words[0], atomic_load(&s->versions[i]));
        assert_true(whole(words, s->first + i, WORDS));
    }
    assert_int_equal(cp_pager_check(s->pager, NULL, NULL, NULL), 0);
    assert_ok(cp_pager_close(s->pager));
    free(s);
}

/* Two threads fix the same pages in opposite orders: fix_many must not let them wait for ever. */
static void *run_many(void *arg)
{
    struct shared *s = arg;
    uint64_t pages[8];
    struct cp_fix fixes[8];
    uint64_t random = s->seed ^ (uint64_t)(uintptr_t)&random;
    for (unsigned i = 0; i < 300; i++) {
        bool up = below(&random, 2) == 0;
        for (unsigned k = 0; k < 8; k++)
            pages[k] = s->first + (up ? k : 7 - k);
        int code = CP_ETIMEDOUT; /* allowed where others are always faster; then ask again */
        for (unsigned attempt = 0; code == CP_ETIMEDOUT && attempt < 1000; attempt++)
            code = cp_pager_fix_many(s->pager, pages, 8, CP_EXCLUSIVE, fixes);
        if (code != 0) {
            expect(s, false);
            continue;
        }
        for (unsigned k = 0; k < 8; k++) {
            (*(uint64_t *)fixes[k].data)++;
            expect(s, cp_pager_mark_dirty(s->pager, &fixes[k]) == 0);
        }
        cp_pager_unfix_many(s->pager, fixes, 8);
    }
    return NULL;
}

static void fix_many_in_opposite_orders_ends(void **state)
{
    (void)state;
    struct shared *s = calloc(1, sizeof *s);
    pthread_t threads[3];
    s->seed = test_seed();
    s->pager = create_store(new_store(), 4096, UINT64_C(1) << 20);
    s->first = cp_pager_first_page(s->pager);
    for (unsigned i = 0; i < 8; i++) {
        struct cp_fix fix;
        assert_ok(cp_pager_allocate(s->pager, &fix));
        cp_pager_unfix(s->pager, &fix);
    }
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_many, s), 0);
    for (unsigned i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&s->bad), 0);
    for (unsigned i = 0; i < 8; i++) {
        uint64_t count;
        assert_ok(cp_pager_read(s->pager, s->first + i, 0, &count, 8));
        assert_int_equal(count, 900);
    }
    assert_ok(cp_pager_close(s->pager));
    free(s);
}

static void *run_sync(void *arg)
{
    struct shared *s = arg;
    expect(s, cp_pager_sync(s->pager) == 0);
    return NULL;
}

/* A sync meets a page that is held exclusively: it waits for it rather than leave it out. */
static void sync_includes_a_page_that_was_held(void **state)
{
    (void)state;
    struct shared *s = calloc(1, sizeof *s);
    struct cp_pager_stats stats;
    struct cp_fix fix;
    pthread_t thread;
    s->pager = create_store(new_store(), 4096, UINT64_C(1) << 20);
    for (unsigned i = 0; i < 50; i++)
        allocate_filled(s->pager, 1);
    uint64_t page = allocate_filled(s->pager, 1);
    assert_ok(cp_pager_fix(s->pager, page, CP_EXCLUSIVE, &fix));
    assert_ok(cp_pager_mark_dirty(s->pager, &fix));
    fill_page(fix.data, 4064, page, 2);
    assert_int_equal(pthread_create(&thread, NULL, run_sync, s), 0);
    const uint64_t deadline_ns = cp_now_ns() + 300000000u; /* the pool may write nothing before */
    do {
        cp_pager_stats(s->pager, &stats);
        sched_yield();
    } while (stats.pool.pages_written < 50 && cp_now_ns() < deadline_ns);
    cp_pager_unfix(s->pager, &fix);
    pthread_join(thread, NULL);
    assert_int_equal(atomic_load(&s->bad), 0);
    cp_pager_abandon(s->pager);
    s->pager = open_store(store_path());
    assert_true(check_page(s->pager, page, 2));
    assert_ok(cp_pager_close(s->pager));
    free(s);
}

struct holder {
    struct cp_pager *pager;
    uint64_t page;
    _Atomic bool holds, let_go;
};

static void *run_holder(void *arg)
{
    struct holder *h = arg;
    struct cp_fix fix;
    if (cp_pager_fix(h->pager, h->page, CP_EXCLUSIVE, &fix) != 0)
        return NULL;
    atomic_store(&h->holds, true);
    while (!atomic_load(&h->let_go))
        sched_yield();
    cp_pager_unfix(h->pager, &fix);
    return h;
}

/*
 * The holder lets go only after the other page's ticket has been finished, so waiting for the page
 * that it holds would be for ever.
 */
static void a_ticket_for_a_page_in_other_hands_is_not_ready(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 4096, UINT64_C(1) << 20);
    struct holder h = {.pager = pager, .page = allocate_filled(pager, 1)};
    const uint64_t pages[2] = {h.page, allocate_filled(pager, 1)};
    struct cp_ticket tickets[2], *waiting[2] = {&tickets[0], &tickets[1]};
    pthread_t thread;
    void *held;
    assert_int_equal(pthread_create(&thread, NULL, run_holder, &h), 0);
    while (!atomic_load(&h.holds))
        sched_yield();
    assert_ok(cp_pager_begin(pager, pages, 2, CP_SHARED, tickets));
    bool early = cp_pager_poll(pager, &tickets[0]);
    bool other = cp_pager_poll(pager, &tickets[1]);
    uint32_t ready = cp_pager_wait_some(pager, waiting, 2);
    bool first = waiting[0] == &tickets[1];
    uint32_t none_ready = cp_pager_wait_some(pager, &waiting[1], 1);
    atomic_store(&h.let_go, true);
    pthread_join(thread, &held);
    assert_ptr_equal(held, &h);
    assert_true(!early && other && first);
    assert_int_equal(ready, 1);
    assert_int_equal(none_ready, 1);
    assert_true(cp_pager_poll(pager, &tickets[0]));
    assert_int_equal(cp_pager_wait_some(pager, waiting, 2), 2);
    for (unsigned i = 0; i < 2; i++) {
        assert_ok(cp_pager_wait(pager, &tickets[i]));
        assert_true(page_is(tickets[i].fix.data, 4064, pages[i], 1));
        cp_pager_unfix(pager, &tickets[i].fix);
    }
    assert_ok(cp_pager_close(pager));
}

/* What optimistic readers of the map rely on, seen in the word itself. */
static void version_rises_with_each_change_and_each_drop(void **state)
{
    (void)state;
    if (test_engine != CP_ENGINE_MMAP) {
        print_message("skipped: about the mmap engine's words\n");
        skip();
    }
    struct cp_pager *pager = create_store(new_store(), 4096, UINT64_C(1) << 20);
    uint64_t page = allocate_filled(pager, 1);
    const uint64_t mask = ~(MMAP_VERSION_ONE - 1);
    const uint64_t *word = &((struct mmap_engine *)(void *)pager->engine)->words[page];
    uint64_t before = cp_word_load(word);
    update_page(pager, page, 2);
    uint64_t updated = cp_word_load(word);
    assert_true((updated & mask) > (before & mask));
    assert_true(mmap_word_frame(updated) != 0 && (updated & CP_WORD_DIRTY) != 0);
    assert_ok(cp_pager_sync(pager));
    uint64_t dropped = cp_word_load(word);
    assert_true((dropped & mask) > (updated & mask));
    assert_true(mmap_word_frame(dropped) == 0 && (dropped & MMAP_VERIFIED) != 0);
    assert_ok(cp_pager_free(pager, page, 1));
    uint64_t freed = cp_word_load(word);
    assert_true((freed & mask) > (dropped & mask));
    assert_true((freed & ~mask) == 0);
    assert_ok(cp_pager_close(pager));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mixed_threads_see_whole_pages_and_lose_none),
        cmocka_unit_test(fix_many_in_opposite_orders_ends),
        cmocka_unit_test(sync_includes_a_page_that_was_held),
        cmocka_unit_test(a_ticket_for_a_page_in_other_hands_is_not_ready),
        cmocka_unit_test(version_rises_with_each_change_and_each_drop),
    };
    int failed = RUN_ENGINE(CP_ENGINE_POOL, tests);
    return failed + RUN_ENGINE(CP_ENGINE_MMAP, tests);
}
