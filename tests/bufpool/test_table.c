/* SPDX-License-Identifier: MIT */
/*
 * The page table: groups are paid for and given back, and a punch never erases the lock of a reader
 * on its way in (traps.md, "punching"). Built once more with that rule broken.
 */
#include "rules.h"

#include <sys/mman.h>

#define GROUP 512u

static uint64_t table_bytes(struct world *w)
{
    return stats_of(w).table_bytes;
}

/* ---- the race -----------------------------------------------------------------------------------
 */

static struct {
    const char *point;
    uint32_t reached;
    uint64_t punched_bytes;
    uint64_t word_before, word_after;
} race;

/* The race, made certain: what another thread could do at this point, done here. */
static void punch_here(const char *point, struct cp_bufpool_file *file, uint64_t page)
{
    if (strcmp(point, race.point) != 0)
        return;
    race.reached++;
    race.word_before = cp_word_load(&file->map.words[page]);
    race.punched_bytes = cp_table__trim(file);
    race.word_after = cp_word_load(&file->map.words[page]);
    HOLDS(race.word_after == race.word_before); /* here: a pool without its lock goes astray */
    HOLDS(race.punched_bytes == 0);
}

static void fix_while_punching(const char *point)
{
    struct world w;
    struct cp_fix fix;
    world_simple(&w, 16 * MIB, 64);

    /* The group is paid for and empty: ripe for a punch. */
    check_version(&w, 0, 3, 0);
    drop(&w, 0, 3);
    memset(&race, 0, sizeof race);
    race.point = point;
    cp_bufpool__hook = punch_here;
    int status = cp_bufpool_fix(w.file[0], 7, CP_SHARED, &fix);
    cp_bufpool__hook = NULL;

    assert_int_equal(race.reached, 1);
    assert_int_equal(status, 0);
    assert_int_equal(page_version(fix.data, 4096, 7), 0);
    cp_bufpool_unfix(&fix);
    world_close(&w);
}

static void table_punch_before_the_lock_waits(void **state)
{
    (void)state;
    fix_while_punching("claim");
}

static void table_punch_after_the_lock_keeps_it(void **state)
{
    (void)state;
    fix_while_punching("claimed");
    assert_int_equal(cp_word_latch(race.word_before), CP_LATCH_LOADING);
}

/* The same through a ring: between the claim and the end of the read the group may not go. */
static void table_punch_during_load_keeps_the_lock(void **state)
{
    (void)state;
    struct world w;
    world_simple(&w, 16 * MIB, 64);
    const uint64_t page = 9;

    check_version(&w, 0, 3, 0);
    drop(&w, 0, 3);
    assert_int_equal(cp_bufpool_prefetch(w.file[0], &page, 1), 1);
    (void)cp_table__trim(w.file[0]);
    HOLDS(is_resident(&w, 0, page));
    check_version(&w, 0, page, 0);
    world_close(&w);
}

/* ---- paying -------------------------------------------------------------------------------------
 */

static void table_group_charged_once_given_back_by_trim(void **state)
{
    (void)state;
    struct world w;
    world_simple(&w, 16 * MIB, 1100);
    uint64_t empty = table_bytes(&w);

    check_version(&w, 0, 0, 0);
    assert_int_equal(table_bytes(&w), empty + 2 * 4096); /* the group, and its page of groups[] */
    check_version(&w, 0, 511, 0);
    assert_int_equal(table_bytes(&w), empty + 2 * 4096);
    check_version(&w, 0, 512, 0);
    check_version(&w, 0, 1024, 0);
    assert_int_equal(table_bytes(&w), empty + 4 * 4096);

    assert_int_equal(cp_table__trim(w.file[0]), 0); /* all of them hold a page */
    drop(&w, 0, 512);
    assert_int_equal(table_bytes(&w), empty + 4 * 4096); /* not at once: the pool is large */
    assert_int_equal(cp_table__trim(w.file[0]), 4096);
    assert_int_equal(table_bytes(&w), empty + 3 * 4096);
    assert_int_equal(stats_of(&w).table_punched, 1);
    check_version(&w, 0, 512, 0);
    assert_int_equal(table_bytes(&w), empty + 4 * 4096);
    world_close(&w);
}

static void table_detached_everything_paid_back(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 16 * MIB);
    uint64_t before = table_bytes(&w);
    world_add_file(&w, 0, 4096, 1100);
    for (uint64_t page = 0; page < 1100; page += 100)
        check_version(&w, 0, page, 0);
    assert_int_equal(cp_bufpool_detach(w.file[0]), 0);
    w.file[0] = NULL;
    assert_int_equal(table_bytes(&w), before);
    assert_int_equal(stats_of(&w).pages_resident, 0);
    world_close(&w);
}

static void table_small_pool_punches_as_soon_as_a_group_empties(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, CP_BUFPOOL_BUDGET_MIN);
    world_create_file(&w, 0, 4096, 1);
    world_attach_with(&w, 0, &(struct cp_bufpool_file_options){0});
    struct cp_fix fix;

    for (uint64_t page = 0; page < 200; page++) { /* a page in each group */
        assert_int_equal(cp_bufpool_fix_new(w.file[0], page * GROUP, &fix), 0);
        cp_bufpool_unfix(&fix);
        assert_true(stats_of(&w).used_bytes <= CP_BUFPOOL_BUDGET_MIN);
    }
    assert_true(stats_of(&w).table_punched > 100);
    assert_int_equal(cp_bufpool__check(w.pool), 0);
    world_close(&w);
}

static void table_punched_memory_leaves_the_process(void **state)
{
    (void)state;
    struct world w;
    unsigned char resident = 0xff;
    world_simple(&w, 16 * MIB, 600);
    uint64_t *group = &w.file[0]->map.words[GROUP];

    check_version(&w, 0, GROUP, 0);
    assert_int_equal(mincore(group, 4096, &resident), 0);
    assert_int_equal(resident & 1, 1);
    drop(&w, 0, GROUP);
    assert_int_equal(cp_table__trim(w.file[0]), 4096);
    assert_int_equal(mincore(group, 4096, &resident), 0);
    assert_int_equal(resident & 1, 0);
    world_close(&w);
}

static void table_next_finds_groups_in_use(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 16 * MIB);
    world_create_file(&w, 0, 4096, 1);
    world_attach_with(&w, 0, &(struct cp_bufpool_file_options){.max_pages = 3000000});
    struct cp_fix fix;
    const uint64_t far = 2900003;

    assert_int_equal(cp_table__next(w.file[0], 0), UINT64_MAX);
    assert_int_equal(cp_bufpool_fix_new(w.file[0], far, &fix), 0);
    assert_int_equal(cp_table__next(w.file[0], 0), far / GROUP * GROUP);
    assert_int_equal(cp_table__next(w.file[0], 777), far / GROUP * GROUP);
    assert_int_equal(cp_table__next(w.file[0], far), far);
    assert_int_equal(cp_table__next(w.file[0], far + GROUP), UINT64_MAX);
    cp_bufpool_unfix(&fix);
    assert_int_equal(cp_bufpool_discard(w.file[0], far - 1, 1), 0);
    assert_true(is_resident(&w, 0, far));
    drop(&w, 0, far);
    world_close(&w);
}

static void table_last_page_usable_next_one_refused(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 16 * MIB);
    world_create_file(&w, 0, 4096, 1);
    world_attach_with(&w, 0, &(struct cp_bufpool_file_options){.max_pages = 1000});
    struct cp_fix fix;
    assert_int_equal(cp_bufpool_fix_new(w.file[0], 999, &fix), 0);
    cp_bufpool_unfix(&fix);
    assert_int_equal(cp_bufpool_fix_new(w.file[0], 1000, &fix), CP_ENOPAGE);
    assert_int_equal(cp_error_info()->page, 1000);
    assert_string_equal(cp_error_info()->path, w.path[0]);
    assert_int_equal(cp_bufpool_discard(w.file[0], 0, UINT64_MAX), 0);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_punch_after_the_lock_keeps_it),
        cmocka_unit_test(table_punch_before_the_lock_waits),
        cmocka_unit_test(table_punch_during_load_keeps_the_lock),
        cmocka_unit_test(table_group_charged_once_given_back_by_trim),
        cmocka_unit_test(table_detached_everything_paid_back),
        cmocka_unit_test(table_small_pool_punches_as_soon_as_a_group_empties),
        cmocka_unit_test(table_punched_memory_leaves_the_process),
        cmocka_unit_test(table_next_finds_groups_in_use),
        cmocka_unit_test(table_last_page_usable_next_one_refused),
    };
    return run_rule_tests(tests, sizeof tests / sizeof tests[0], 1);
}
