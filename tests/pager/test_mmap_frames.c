/* SPDX-License-Identifier: MIT */
/* Private frames of the mmap engine: their budget, beside checkpoints too, and a fork meanwhile. */
#include "helpers.h"
#include "mmap_engine.h"
#include "internal.h"
#include "support/child.h"

#include <clockpool/arena.h>
#include <clockpool/base/error.h>

#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>

#define MIB         (UINT64_C(1) << 20)
#define LIMIT_S     60u /* ends a test that hangs */
#define PAGE_SIZE   4096u
#define DIRTY_PAGES 700u /* most frames of 4 MiB */

static struct mmap_engine *engine_of(struct cp_pager *pager)
{
    return (struct mmap_engine *)(void *)pager->engine; /* base is the first member */
}

static struct cp_pager *create_with(const struct cp_pager_options *like)
{
    struct cp_pager *pager = NULL;
    struct cp_pager_options options = *like;
    options.create = true;
    assert_ok(cp_pager_open(new_store(), &options, &pager));
    return pager;
}

static uint64_t budget_of(struct cp_pager *pager)
{
    struct cp_pager_stats stats;
    cp_pager_stats(pager, &stats);
    return stats.pool.budget_bytes;
}

/* How many pages one mini-transaction gets, and what ends it. */
static uint64_t allocate_until_refused(struct cp_pager *pager, int *out_code)
{
    struct cp_mtr *mtr;
    uint64_t page, count = 0;
    void *data;
    int code;
    assert_ok(cp_mtr_begin(pager, &mtr));
    while ((code = cp_mtr_allocate(mtr, &page, &data)) == 0)
        count++;
    cp_mtr_abort(mtr);
    *out_code = code;
    return count;
}

/* Three quarters of the budget, as for every engine: so its frames are really there. */
static void assert_budget_usable(struct cp_pager *pager)
{
    const uint64_t pages = budget_of(pager) / PAGE_SIZE;
    int code;
    assert_int_equal(allocate_until_refused(pager, &code), pages - pages / 4);
    assert_code(code, CP_ETOOLARGE);
}

/* ---- beside a checkpoint ------------------------------------------------------------------------
 */

struct syncing {
    struct cp_pager *pager;
    int code;
};

static void *sync_in_thread(void *argument)
{
    struct syncing *syncing = argument;
    syncing->code = cp_pager_sync(syncing->pager);
    return NULL;
}

/* A page is held by who resizes, and a checkpoint waits for it. */
static void resize_while_a_checkpoint_waits(bool in_place, uint64_t budget_bytes)
{
    struct cp_pager_options options = options_of(0, 4 * MIB);
    options.unsafe_in_place = in_place;
    struct cp_pager *pager = create_with(&options);
    struct syncing syncing = {.pager = pager, .code = 1};
    struct cp_mtr *mtr;
    pthread_t thread;
    void *data;
    alarm(LIMIT_S);
    uint64_t page = allocate_filled(pager, 1);
    assert_ok(cp_mtr_begin(pager, &mtr));
    assert_ok(cp_mtr_fix(mtr, page, CP_EXCLUSIVE, &data));
    assert_int_equal(pthread_create(&thread, NULL, sync_in_thread, &syncing), 0);
    while ((cp_word_load(&engine_of(pager)->words[page]) & CP_WORD_WAITERS) == 0)
        sched_yield(); /* ends: the checkpoint comes to the page */
    assert_ok(cp_pager_resize(pager, budget_bytes));
    assert_int_equal(budget_of(pager), budget_bytes);
    fill_page(data, cp_pager_payload_size(pager), page, 2);
    assert_ok(cp_mtr_commit(mtr, CP_COMMIT_RELAXED, NULL));
    pthread_join(thread, NULL);
    assert_int_equal(syncing.code, 0);
    assert_true(check_page(pager, page, 2));
    if (!in_place)
        assert_budget_usable(pager);
    assert_ok(cp_pager_close(pager));
    alarm(0);
}

static void grow_while_a_checkpoint_waits_for_the_caller_succeeds(void **state)
{
    (void)state;
    resize_while_a_checkpoint_waits(false, 8 * MIB);
}

static void shrink_while_a_checkpoint_waits_for_the_caller_succeeds(void **state)
{
    (void)state;
    resize_while_a_checkpoint_waits(false, 2 * MIB);
}

static void resize_in_place_while_a_checkpoint_waits_succeeds(void **state)
{
    (void)state;
    resize_while_a_checkpoint_waits(true, 8 * MIB);
    resize_while_a_checkpoint_waits(true, 2 * MIB);
}

struct resizing {
    struct cp_pager *pager;
    uint64_t budget_bytes;
    int code;
};

static void *resize_in_thread(void *argument)
{
    struct resizing *resizing = argument;
    resizing->code = cp_pager_resize(resizing->pager, resizing->budget_bytes);
    return NULL;
}

struct changing {
    struct cp_pager *pager;
    uint64_t pages[DIRTY_PAGES];
    uint64_t versions[DIRTY_PAGES];
    _Atomic bool done;
};

static void *change_in_thread(void *argument)
{
    struct changing *changing = argument;
    uint64_t random = 7;
    while (!atomic_load(&changing->done)) {
        uint64_t which = below(&random, DIRTY_PAGES);
        update_page(changing->pager, changing->pages[which], ++changing->versions[which]);
    }
    return NULL;
}

/* What a sync covers must be in the file, whatever happened to the frames meanwhile: most of them
 * are changed before the sync, by who waits for it, and read behind the store's back. */
static void sync_beside_resizes_writes_every_page(void **state)
{
    (void)state;
    static struct changing changing;
    struct cp_pager *pager = create_store(new_store(), 0, 4 * MIB);
    const uint32_t payload = cp_pager_payload_size(pager);
    struct resizing resizing = {.pager = pager};
    pthread_t changer, syncer, resizer;
    unsigned char bytes[PAGE_SIZE];
    memset(&changing, 0, sizeof changing);
    changing.pager = pager;
    for (unsigned i = 0; i < DIRTY_PAGES; i++)
        changing.pages[i] = allocate_filled(pager, 0);
    uint64_t own = allocate_filled(pager, 0);
    for (unsigned i = 1; i < DIRTY_PAGES; i++)
        assert_int_equal(allocate_filled(pager, 0), own + i);
    alarm(2 * LIMIT_S);
    assert_int_equal(pthread_create(&changer, NULL, change_in_thread, &changing), 0);
    for (unsigned round = 1; round <= 16; round++) {
        struct syncing syncing = {.pager = pager, .code = 1};
        for (unsigned i = 0; i < DIRTY_PAGES; i++)
            update_page(pager, own + i, round);
        assert_int_equal(pthread_create(&syncer, NULL, sync_in_thread, &syncing), 0);
        resizing.budget_bytes = round % 2 == 0 ? 4 * MIB : MIB;
        assert_int_equal(pthread_create(&resizer, NULL, resize_in_thread, &resizing), 0);
        pthread_join(syncer, NULL);
        assert_int_equal(syncing.code, 0);
        for (unsigned i = 0; i < DIRTY_PAGES; i++) {
            read_file(data_path(), (own + i) * PAGE_SIZE, bytes, sizeof bytes);
            assert_true(page_is(bytes, payload, own + i, round));
        }
        pthread_join(resizer, NULL);
        assert_int_equal(resizing.code, 0);
    }
    atomic_store(&changing.done, true);
    pthread_join(changer, NULL);
    for (unsigned i = 0; i < DIRTY_PAGES; i++)
        assert_true(check_page(pager, changing.pages[i], changing.versions[i]));
    assert_ok(cp_pager_close(pager));
    alarm(0);
}

/* ---- odd budgets --------------------------------------------------------------------------------
 */

/* Frames are committed 2 MiB at a time where the budget was large: less than that are frames too.
 */
static void resize_of_a_large_budget_to_the_least_leaves_frames(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 64 * MIB);
    struct cp_arena_stats arena;
    uint64_t first = allocate_filled(pager, 1);
    for (unsigned i = 1; i < DIRTY_PAGES; i++)
        allocate_filled(pager, 1);
    assert_ok(cp_pager_resize(pager, CP_BUFPOOL_BUDGET_MIN));
    for (unsigned i = 0; i < 300; i++)
        commit_page(pager, allocate_filled(pager, 2), 3);
    commit_page(pager, first, 2);
    assert_true(check_page(pager, first, 2));
    assert_budget_usable(pager);
    cp_arena_stats(engine_of(pager)->arena, &arena);
    assert_int_equal(arena.huge_pages, CP_HUGE_AUTO); /* as asked for: still in whole ones */
    assert_int_equal(arena.committed_bytes, CP_ARENA_HUGE_BYTES);
    assert_ok(cp_pager_resize(pager, 5 * MIB));
    assert_budget_usable(pager);
    cp_arena_stats(engine_of(pager)->arena, &arena);
    assert_int_equal(arena.committed_bytes, 3 * CP_ARENA_HUGE_BYTES);
    assert_int_equal(cp_buddy__check(engine_of(pager)->buddy), 0);
    assert_ok(cp_pager_close(pager));
}

static void mini_transaction_after_an_odd_resize_is_told_that_it_is_too_large(void **state)
{
    (void)state;
    const uint64_t budgets[] = {64 * MIB, 3 * MIB};
    for (unsigned i = 0; i < 2; i++) {
        struct cp_pager_options options = options_of(0, budgets[i]);
        struct cp_pager *pager = create_with(&options);
        assert_ok(cp_pager_resize(pager, 4 * MIB - 60000));
        assert_budget_usable(pager);
        assert_ok(cp_pager_resize(pager, CP_BUFPOOL_BUDGET_MIN + PAGE_SIZE + 1));
        assert_budget_usable(pager);
        assert_ok(cp_pager_close(pager));
    }
}

static void resize_to_the_largest_budget_succeeds_wherever_it_lies(void **state)
{
    (void)state;
    const uint64_t budgets[] = {101 * MIB, 65 * MIB + PAGE_SIZE + 100, 3 * MIB + 5};
    for (unsigned i = 0; i < 3; i++) {
        struct cp_pager_options options = options_of(0, budgets[i]);
        options.max_budget_bytes = budgets[i];
        struct cp_pager *pager = create_with(&options);
        assert_ok(cp_pager_resize(pager, budgets[i]));
        assert_ok(cp_pager_resize(pager, 2 * MIB));
        assert_ok(cp_pager_resize(pager, budgets[i]));
        assert_int_equal(budget_of(pager), budgets[i]);
        if (i == 2)
            assert_budget_usable(pager);
        assert_code(cp_pager_resize(pager, budgets[i] + 1), CP_EBUDGET);
        assert_int_equal(budget_of(pager), budgets[i]);
        assert_ok(cp_pager_close(pager));
    }
}

static void open_with_too_large_a_budget_is_told_the_largest(void **state)
{
    (void)state;
    struct cp_pager *pager = NULL;
    struct cp_pager_options options = options_of(0, UINT64_C(1) << 40);
    options.create = true;
    assert_code(cp_pager_open(new_store(), &options, &pager), CP_EBUDGET);
    assert_non_null(strstr(cp_error_info()->hint, "at most"));
    options.budget_bytes = 4096;
    assert_code(cp_pager_open(store_path(), &options, &pager), CP_EBUDGET);
    assert_non_null(strstr(cp_error_info()->hint, "at least 512 KiB"));
}

/* ---- the kernel's refusal -----------------------------------------------------------------------
 */

int __real_cp_arena_decommit(struct cp_arena *arena, uint64_t first, uint64_t count);
int __wrap_cp_arena_decommit(struct cp_arena *arena, uint64_t first, uint64_t count);

static bool decommit_refused;

int __wrap_cp_arena_decommit(struct cp_arena *arena, uint64_t first, uint64_t count)
{
    return decommit_refused ? cp_error_set(-ENOMEM, NULL, CP_NO_PAGE, CP_NO_LSN, NULL, "refused")
                            : __real_cp_arena_decommit(arena, first, count);
}

/* As where vm.max_map_count is reached: an error, the old budget stands, and nothing is lost. */
static void shrink_that_the_kernel_refuses_keeps_the_budget(void **state)
{
    (void)state;
    const uint64_t budgets[] = {4 * MIB, 64 * MIB};
    for (unsigned i = 0; i < 2; i++) {
        struct cp_pager *pager = create_store(new_store(), 0, budgets[i]);
        uint64_t first = allocate_filled(pager, 1);
        for (unsigned k = 1; k < DIRTY_PAGES; k++)
            allocate_filled(pager, 1);
        decommit_refused = true;
        assert_code(cp_pager_resize(pager, MIB), -ENOMEM);
        decommit_refused = false;
        assert_int_equal(budget_of(pager), budgets[i]);
        assert_int_equal(cp_buddy__check(engine_of(pager)->buddy), 0);
        assert_budget_usable(pager);
        assert_ok(cp_pager_resize(pager, budgets[i] + 2 * MIB));
        assert_ok(cp_pager_resize(pager, MIB));
        assert_budget_usable(pager);
        assert_ok(cp_pager_resize(pager, 4 * MIB));
        assert_budget_usable(pager);
        for (unsigned k = 0; k < DIRTY_PAGES; k++)
            assert_true(check_page(pager, first + k, 1));
        assert_ok(cp_pager_close(pager));
    }
}

/* ---- a forked child -----------------------------------------------------------------------------
 */

/* A child inherits fixes, and locks that a thread which is not there may hold: it lets go of what
 * it inherited without any effect. */
static void forked_child_lets_go(bool in_place, enum cp_latch_mode mode)
{
    struct cp_pager_options options = options_of(0, 0);
    options.unsafe_in_place = in_place;
    options.track_pins = !in_place; /* in place a child that gets past the table would write */
    struct cp_pager *pager = create_with(&options);
    struct mmap_engine *engine = engine_of(pager);
    struct cp_page_trailer before, after;
    struct cp_fix fix, many[2];
    struct cp_ticket ticket;
    uint64_t pages[4], words[4];
    int status;
    for (unsigned i = 0; i < 4; i++)
        pages[i] = allocate_filled(pager, 1);
    assert_ok(cp_pager_fix(pager, pages[0], mode, &fix));
    assert_ok(cp_pager_begin(pager, &pages[1], 1, mode, &ticket));
    assert_ok(cp_pager_fix_many(pager, &pages[2], 2, mode, many));
    if (mode == CP_EXCLUSIVE) { /* its trailer becomes true when it is let go, here */
        ((unsigned char *)fix.data)[100] ^= 0x5a;
        assert_ok(cp_pager_mark_dirty(pager, &fix));
    }
    const uint64_t end = (pages[0] + 1) * PAGE_SIZE - sizeof before;
    read_file(data_path(), end, &before, sizeof before);
    pthread_mutex_lock(&engine->pin_mutex);
    pid_t child = fork();
    if (child == 0) {
        alarm(20); /* ends a child that waits */
        for (unsigned i = 0; i < 4; i++)
            words[i] = cp_word_load(&engine->words[pages[i]]);
        cp_pager_unfix(pager, &fix);
        cp_pager_cancel(pager, &ticket);
        cp_pager_unfix_many(pager, many, 2);
        bool good = fix.data == NULL && many[0].data == NULL && many[1].data == NULL;
        for (unsigned i = 0; i < 4; i++)
            good = good && words[i] == cp_word_load(&engine->words[pages[i]]);
        end_child(good);
    }
    waitpid(child, &status, 0);
    pthread_mutex_unlock(&engine->pin_mutex);
    assert_int_equal(status, 0);
    read_file(data_path(), end, &after, sizeof after);
    assert_memory_equal(&before, &after, sizeof before);
    cp_pager_unfix(pager, &fix);
    cp_pager_cancel(pager, &ticket);
    cp_pager_unfix_many(pager, many, 2);
    assert_int_equal(cp_pager_check(pager, NULL, NULL, NULL), 0);
    assert_ok(cp_pager_close(pager));
}

static void forked_child_lets_go_of_inherited_fixes_without_effect(void **state)
{
    (void)state;
    forked_child_lets_go(false, CP_EXCLUSIVE);
    forked_child_lets_go(false, CP_SHARED);
}

static void forked_child_in_place_leaves_the_parents_store_alone(void **state)
{
    (void)state;
    forked_child_lets_go(true, CP_EXCLUSIVE);
    forked_child_lets_go(true, CP_SHARED);
}

/* Each page for which there is none used to take a second, in begin and once more in wait. */
static void begin_waits_once_where_frames_are_short(void **state)
{
    (void)state;
    enum { FRAMES = 256, MORE = 8 };
    static uint64_t pages[FRAMES + MORE];
    static struct cp_ticket tickets[FRAMES + MORE];
    struct cp_pager *pager = create_store(new_store(), PAGE_SIZE, FRAMES * PAGE_SIZE);
    for (unsigned i = 0; i < FRAMES + MORE; i++)
        pages[i] = allocate_filled(pager, i);
    assert_ok(cp_pager_sync(pager));
    const uint64_t begun_ns = cp_now_ns();
    assert_ok(cp_pager_begin(pager, pages, FRAMES + MORE, CP_EXCLUSIVE, tickets));
    for (unsigned i = 0; i < FRAMES; i++)
        assert_ok(cp_pager_wait(pager, &tickets[i]));
    for (unsigned i = FRAMES; i < FRAMES + MORE; i++) {
        assert_true(cp_pager_poll(pager, &tickets[i]));
        if (i % 2 == 0)
            cp_pager_cancel(pager, &tickets[i]);
        else
            assert_code(cp_pager_wait(pager, &tickets[i]), CP_ENOFRAMES);
    }
    assert_true(cp_now_ns() - begun_ns < MORE / 2 * UINT64_C(1000000000));
    for (unsigned i = 0; i < FRAMES; i++) {
        assert_true(page_is(tickets[i].fix.data, 4064, pages[i], i));
        cp_pager_unfix(pager, &tickets[i].fix);
    }
    assert_ok(cp_pager_close(pager));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grow_while_a_checkpoint_waits_for_the_caller_succeeds),
        cmocka_unit_test(shrink_while_a_checkpoint_waits_for_the_caller_succeeds),
        cmocka_unit_test(resize_in_place_while_a_checkpoint_waits_succeeds),
        cmocka_unit_test(sync_beside_resizes_writes_every_page),
        cmocka_unit_test(resize_of_a_large_budget_to_the_least_leaves_frames),
        cmocka_unit_test(mini_transaction_after_an_odd_resize_is_told_that_it_is_too_large),
        cmocka_unit_test(resize_to_the_largest_budget_succeeds_wherever_it_lies),
        cmocka_unit_test(open_with_too_large_a_budget_is_told_the_largest),
        cmocka_unit_test(shrink_that_the_kernel_refuses_keeps_the_budget),
        cmocka_unit_test(forked_child_lets_go_of_inherited_fixes_without_effect),
        cmocka_unit_test(forked_child_in_place_leaves_the_parents_store_alone),
        cmocka_unit_test(begin_waits_once_where_frames_are_short),
    };
    return RUN_ENGINE(CP_ENGINE_MMAP, tests);
}
