/* SPDX-License-Identifier: MIT */
/*
 * Random work against a model in memory: what each page must hold, and which are allocated. The
 * budget is far smaller than the data, so nearly every step evicts.
 */
#include "helpers.h"

#define PAGES 1500u
#define STEPS 6000u

struct model {
    struct cp_pager *pager;
    uint64_t random;
    uint64_t first;
    uint32_t version[PAGES]; /* 0: free */
    uint32_t next_version;
    unsigned live;
};

static unsigned any_live(struct model *m)
{
    unsigned at = (unsigned)below(&m->random, PAGES);
    while (m->version[at] == 0)
        at = (at + 1) % PAGES;
    return at;
}

static unsigned lowest_free(const struct model *m)
{
    unsigned at = 0;
    while (at < PAGES && m->version[at] != 0)
        at++;
    return at;
}

static void step_allocate(struct model *m)
{
    unsigned expected = lowest_free(m);
    if (expected == PAGES)
        return;
    m->version[expected] = m->next_version++;
    assert_int_equal(allocate_filled(m->pager, m->version[expected]), m->first + expected);
    m->live++;
}

static void step_update(struct model *m)
{
    unsigned at = any_live(m);
    m->version[at] = m->next_version++;
    update_page(m->pager, m->first + at, m->version[at]);
}

static void step_free(struct model *m)
{
    unsigned at = any_live(m), count = 1;
    while (at + count < PAGES && m->version[at + count] != 0 && count < 8 && count + 1 < m->live)
        count++;
    assert_ok(cp_pager_free(m->pager, m->first + at, count));
    for (unsigned i = 0; i < count; i++)
        m->version[at + i] = 0;
    m->live -= count;
}

static void check_all(struct model *m)
{
    unsigned end = 0;
    for (unsigned i = 0; i < PAGES; i++) {
        assert_int_equal(cp_pager_is_allocated(m->pager, m->first + i), m->version[i] != 0);
        if (m->version[i] == 0)
            continue;
        end = i + 1;
        if (!check_page(m->pager, m->first + i, m->version[i]))
            fail_msg("page %u is not version %u", i, m->version[i]);
    }
    struct cp_pager_stats stats;
    cp_pager_stats(m->pager, &stats);
    assert_int_equal(stats.allocated_pages, m->live);
    assert_true(stats.page_count >= m->first + end);
}

static void step_read(struct model *m)
{
    uint64_t word, expected, state;
    unsigned at = any_live(m);
    uint32_t index = (uint32_t)below(&m->random, 500);
    state = (m->first + at) * UINT64_C(0x100000001b3) + m->version[at];
    for (uint32_t i = 0; i <= index; i++)
        expected = next_random(&state);
    assert_ok(cp_pager_read(m->pager, m->first + at, index * 8, &word, 8));
    assert_true(word == expected);
}

static void work(struct model *m, unsigned steps)
{
    for (unsigned i = 0; i < steps; i++) {
        uint64_t dice = below(&m->random, 100);
        if (m->live < 200 || dice < 25)
            step_allocate(m);
        else if (dice < 55)
            step_update(m);
        else if (dice < 90)
            step_read(m);
        else if (dice < 99 || i % 4 != 0)
            step_free(m);
        else
            assert_ok(cp_pager_sync(m->pager));
    }
}

static void run_model(uint32_t page_size, unsigned steps)
{
    struct model *m = calloc(1, sizeof *m);
    m->random = test_seed();
    m->next_version = 1;
    m->pager = create_store(new_store(), page_size, UINT64_C(512) << 10);
    m->first = cp_pager_first_page(m->pager);
    for (unsigned round = 0; round < 3; round++) {
        work(m, steps);
        check_all(m);
        assert_int_equal(cp_pager_check(m->pager, NULL, NULL, NULL), 0);
        assert_ok(cp_pager_close(m->pager));
        m->pager = open_store(store_path());
        check_all(m);
        assert_ok(cp_pager_close(m->pager));
        struct cp_pager_options options = options_of(0, UINT64_C(512) << 10);
        assert_ok(cp_pager_open(store_path(), &options, &m->pager));
    }
    assert_ok(cp_pager_close(m->pager));
    free(m);
}

static void model_small_pages_small_budget_agrees(void **state)
{
    (void)state;
    run_model(4096, STEPS);
}

static void model_large_pages_agrees(void **state)
{
    (void)state;
    run_model(16384, STEPS / 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(model_small_pages_small_budget_agrees),
        cmocka_unit_test(model_large_pages_agrees),
    };
    int failed = RUN_ENGINE(CP_ENGINE_POOL, tests);
    return failed + RUN_ENGINE(CP_ENGINE_MMAP, tests);
}
