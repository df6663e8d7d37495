/* SPDX-License-Identifier: MIT */
/* Many mini-transactions at once: sums that must hold, deadlocks that must end, checkpoints beside
 * it all. Seeded; CP_TEST_SEED replays the choice of pages (not the schedule). */
#include "helpers.h"

#include <pthread.h>
#include <stdatomic.h>

#define ACCOUNTS 64u
#define THREADS  4u
#define START    1000u

struct bank {
    struct cp_pager *pager;
    uint64_t pages[ACCOUNTS];
    uint64_t seed;
    unsigned rounds;
    _Atomic unsigned deadlocks, commits;
    _Atomic bool done;
};

struct teller {
    struct bank *bank;
    unsigned number;
};

/* Move one between two accounts, in whatever order they come. */
static int transfer(struct bank *bank, uint64_t *random, enum cp_commit how)
{
    unsigned from = (unsigned)below(random, ACCOUNTS), to = (unsigned)below(random, ACCOUNTS);
    struct cp_mtr *mtr;
    void *data;
    int64_t *a, *b;
    assert_ok(cp_mtr_begin(bank->pager, &mtr));
    int code = cp_mtr_fix(mtr, bank->pages[from], CP_EXCLUSIVE, &data);
    a = data;
    if (code == 0)
        code = cp_mtr_fix(mtr, bank->pages[to], CP_EXCLUSIVE, &data);
    b = data;
    if (code != 0) {
        cp_mtr_abort(mtr);
        return code;
    }
    *a -= 1;
    *b += 1;
    return cp_mtr_commit(mtr, how, NULL);
}

static void *run_teller(void *argument)
{
    const struct teller *teller = argument;
    struct bank *bank = teller->bank;
    uint64_t random = bank->seed + teller->number * 77 + 1;
    for (unsigned i = 0; i < bank->rounds; i++) {
        int code =
            transfer(bank, &random, below(&random, 8) == 0 ? CP_COMMIT_DURABLE : CP_COMMIT_RELAXED);
        assert_true(code == 0 || code == CP_EDEADLOCK);
        atomic_fetch_add(code == 0 ? &bank->commits : &bank->deadlocks, 1);
    }
    return NULL;
}

static void *run_checkpoints(void *argument)
{
    struct bank *bank = argument;
    while (!atomic_load(&bank->done))
        assert_ok(cp_pager_checkpoint(bank->pager));
    return NULL;
}

static int64_t sum(struct bank *bank)
{
    int64_t total = 0;
    for (unsigned i = 0; i < ACCOUNTS; i++) {
        int64_t value;
        assert_ok(cp_pager_read(bank->pager, bank->pages[i], 0, &value, sizeof value));
        total += value;
    }
    return total;
}

static void open_bank(struct bank *bank)
{
    bank->pager = create_store(new_store(), 0, 0);
    for (unsigned i = 0; i < ACCOUNTS; i++) {
        struct cp_mtr *mtr;
        void *data;
        assert_ok(cp_mtr_begin(bank->pager, &mtr));
        assert_ok(cp_mtr_allocate(mtr, &bank->pages[i], &data));
        *(int64_t *)data = START;
        assert_ok(cp_mtr_commit(mtr, CP_COMMIT_RELAXED, NULL));
    }
}

static void transfers_keep_the_sum_and_never_hang(void **state)
{
    (void)state;
    struct bank bank = {.seed = test_seed(), .rounds = 3000};
    struct teller tellers[THREADS];
    pthread_t threads[THREADS], checkpoints;
    open_bank(&bank);
    for (unsigned i = 0; i < THREADS; i++) {
        tellers[i] = (struct teller){&bank, i};
        assert_int_equal(pthread_create(&threads[i], NULL, run_teller, &tellers[i]), 0);
    }
    assert_int_equal(pthread_create(&checkpoints, NULL, run_checkpoints, &bank), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&bank.done, true);
    pthread_join(checkpoints, NULL);
    print_message("%u commits, %u deadlocks\n", bank.commits, bank.deadlocks);
    assert_int_equal(sum(&bank), ACCOUNTS * START);
    assert_ok(cp_pager_wait_durable(bank.pager, UINT64_MAX));
    cp_pager_abandon(bank.pager);
    bank.pager = open_store(store_path());
    assert_int_equal(sum(&bank), ACCOUNTS * START);
    assert_int_equal(cp_pager_check(bank.pager, NULL, NULL, NULL), 0);
    assert_ok(cp_pager_close(bank.pager));
}

/* ---- a deadlock, on purpose -------------------------------------------------------------------
 */

struct crossing {
    struct cp_pager *pager;
    uint64_t first, second;
    pthread_barrier_t *both_have_one;
    int code;
};

static void *cross(void *argument)
{
    struct crossing *crossing = argument;
    struct cp_mtr *mtr;
    void *data;
    assert_ok(cp_mtr_begin(crossing->pager, &mtr));
    assert_ok(cp_mtr_fix(mtr, crossing->first, CP_EXCLUSIVE, &data));
    pthread_barrier_wait(crossing->both_have_one);
    crossing->code = cp_mtr_fix(mtr, crossing->second, CP_EXCLUSIVE, &data);
    cp_mtr_abort(mtr);
    return NULL;
}

static void crossed_fixes_end_in_an_error_for_one(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    uint64_t a = allocate_filled(pager, 1), b = allocate_filled(pager, 1);
    for (unsigned round = 0; round < 50; round++) {
        pthread_barrier_t barrier;
        pthread_t threads[2];
        pthread_barrier_init(&barrier, NULL, 2);
        struct crossing crossings[2] = {{pager, a, b, &barrier, 1}, {pager, b, a, &barrier, 1}};
        for (unsigned i = 0; i < 2; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, cross, &crossings[i]), 0);
        for (unsigned i = 0; i < 2; i++)
            pthread_join(threads[i], NULL);
        pthread_barrier_destroy(&barrier);
        int codes = crossings[0].code + crossings[1].code;
        assert_int_equal(codes, CP_EDEADLOCK); /* one of them, and the other 0 */
    }
    struct cp_pager_stats stats;
    cp_pager_stats(pager, &stats);
    assert_int_equal(stats.mtr_deadlocks, 50);
    assert_ok(cp_pager_close(pager));
}

/* ---- a page freed under a checkpoint ----------------------------------------------------------
 */

static void *run_checkpoint(void *argument)
{
    assert_ok(cp_pager_checkpoint(argument));
    return NULL;
}

static struct cp_mtr *hold(struct cp_pager *pager, uint64_t page)
{
    struct cp_mtr *mtr;
    void *data;
    assert_ok(cp_mtr_begin(pager, &mtr));
    assert_ok(cp_mtr_fix(mtr, page, CP_EXCLUSIVE, &data));
    return mtr;
}

static void wait_beyond(struct cp_pager *pager, cp_lsn lsn)
{
    while (cp_pager_durable_lsn(pager) <= lsn) /* ends: the checkpoint's flush of the log */
        usleep(100);
}

/*
 * A page changed before the redo point is freed, by a relaxed commit, while the checkpoint's flush
 * is on its way to it: it is dropped and never written. Should the freeing not be durable when the
 * checkpoint counts, a crash would bring the page back as old as the file has it.
 *
 * The flush is held up twice: at the first page, so that a new page can be put in its way whose
 * write needs nothing more of the log (else that would make the freeing durable by chance); and at
 * that page, for the freeing.
 */
static void page_freed_under_a_checkpoint_is_free_or_whole(void **state)
{
    (void)state;
    struct cp_pager_options options = options_of(0, 0);
    struct cp_pager *pager;
    struct cp_mtr *mtr;
    pthread_t thread;
    void *data;
    cp_lsn changed, durable;
    uint64_t between;
    options.create = true;
    options.background = CP_BACKGROUND_NONE;
    assert_ok(cp_pager_open(new_store(), &options, &pager));
    uint64_t first = allocate_filled(pager, 1), gap = allocate_filled(pager, 1);
    uint64_t page = allocate_filled(pager, 1);
    assert_ok(cp_pager_free(pager, gap, 1));
    assert_ok(cp_pager_sync(pager));
    assert_ok(cp_mtr_begin(pager, &mtr));
    assert_ok(cp_mtr_fix(mtr, first, CP_EXCLUSIVE, &data));
    fill_page(data, 4064, first, 2);
    assert_ok(cp_mtr_fix(mtr, page, CP_EXCLUSIVE, &data));
    fill_page(data, 4064, page, 2);
    assert_ok(cp_mtr_commit(mtr, CP_COMMIT_RELAXED, &changed));

    struct cp_mtr *holder = hold(pager, first);
    assert_int_equal(pthread_create(&thread, NULL, run_checkpoint, pager), 0);
    wait_beyond(pager, changed - 1); /* the redo point is chosen */
    assert_ok(cp_mtr_begin(pager, &mtr));
    assert_ok(cp_mtr_allocate(mtr, &between, &data));
    assert_int_equal(between, gap);
    assert_ok(cp_mtr_commit(mtr, CP_COMMIT_DURABLE, &durable));
    struct cp_mtr *second = hold(pager, between);
    durable = cp_pager_durable_lsn(pager);
    cp_mtr_abort(holder);
    wait_beyond(pager, durable); /* the image of the first page, behind which nothing is held up */
    assert_ok(cp_mtr_begin(pager, &mtr));
    assert_ok(cp_mtr_free(mtr, page));
    assert_ok(cp_mtr_commit(mtr, CP_COMMIT_RELAXED, NULL));
    cp_mtr_abort(second);
    pthread_join(thread, NULL);
    cp_pager_abandon(pager);
    pager = open_store(store_path());
    assert_true(cp_pager_is_allocated(pager, page) == 0 || check_page(pager, page, 2));
    assert_true(check_page(pager, first, 2));
    assert_ok(cp_pager_close(pager));
}

/* ---- space ------------------------------------------------------------------------------------
 */

static void *allocate_and_free(void *argument)
{
    const struct teller *teller = argument;
    struct bank *bank = teller->bank;
    uint64_t random = bank->seed + teller->number, own[16];
    unsigned count = 0;
    for (unsigned i = 0; i < bank->rounds; i++) {
        struct cp_mtr *mtr;
        void *data;
        bool commit = below(&random, 4) != 0;
        assert_ok(cp_mtr_begin(bank->pager, &mtr));
        if (count < 16 && (count == 0 || below(&random, 2) == 0)) {
            uint64_t page;
            assert_ok(cp_mtr_allocate(mtr, &page, &data));
            fill_page(data, 4064, page, teller->number);
            own[count] = page;
            count += commit;
        } else {
            uint64_t page = own[count - 1];
            assert_ok(cp_mtr_fix(mtr, page, CP_EXCLUSIVE, &data));
            assert_true(page_is(data, 4064, page, teller->number)); /* nobody else's */
            assert_ok(cp_mtr_free(mtr, page));
            count -= commit;
        }
        if (commit)
            assert_ok(cp_mtr_commit(mtr, CP_COMMIT_RELAXED, NULL));
        else
            cp_mtr_abort(mtr);
    }
    atomic_fetch_add(&bank->commits, count);
    return NULL;
}

static void pages_have_one_owner(void **state)
{
    (void)state;
    struct bank bank = {.seed = test_seed(), .rounds = 2000};
    struct teller tellers[THREADS];
    struct cp_pager_stats stats;
    pthread_t threads[THREADS];
    bank.pager = create_store(new_store(), 0, UINT64_C(1) << 20);
    for (unsigned i = 0; i < THREADS; i++) {
        tellers[i] = (struct teller){&bank, i};
        assert_int_equal(pthread_create(&threads[i], NULL, allocate_and_free, &tellers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    cp_pager_stats(bank.pager, &stats);
    assert_int_equal(stats.allocated_pages, bank.commits);
    assert_ok(cp_pager_wait_durable(bank.pager, UINT64_MAX));
    cp_pager_abandon(bank.pager);
    bank.pager = open_store(store_path());
    cp_pager_stats(bank.pager, &stats);
    assert_int_equal(stats.allocated_pages, bank.commits);
    assert_int_equal(cp_pager_check(bank.pager, NULL, NULL, NULL), 0);
    assert_ok(cp_pager_close(bank.pager));
}

/* ---- old numbers ------------------------------------------------------------------------------
 */

/* Fix pages that others allocate and free meanwhile, and allocate: codes are right, waits end. */
static void *use_old_numbers(void *argument)
{
    const struct teller *teller = argument;
    struct bank *bank = teller->bank;
    uint64_t random = bank->seed + teller->number, first = cp_pager_first_page(bank->pager);
    for (unsigned i = 0; i < bank->rounds; i++) {
        struct cp_mtr *mtr;
        void *data;
        uint64_t page;
        assert_ok(cp_mtr_begin(bank->pager, &mtr));
        int code = 0;
        for (unsigned k = 0; code == 0 && k < 6; k++) {
            if (below(&random, 2) == 0)
                code = cp_mtr_fix(mtr, first + below(&random, 8), CP_EXCLUSIVE, &data);
            else
                code = cp_mtr_allocate(mtr, &page, &data);
            assert_true(code == 0 || code == CP_EDEADLOCK || code == CP_ENOPAGE);
        }
        cp_mtr_abort(mtr);
    }
    return NULL;
}

static void old_numbers_never_hang(void **state)
{
    (void)state;
    struct bank bank = {.seed = test_seed(), .rounds = 200};
    struct teller tellers[THREADS];
    pthread_t threads[THREADS];
    bank.pager = create_store(new_store(), 0, 0);
    for (unsigned i = 0; i < 9; i++) /* the last keeps the others in the store */
        (void)allocate_filled(bank.pager, i);
    assert_ok(cp_pager_sync(bank.pager));
    assert_ok(cp_pager_free(bank.pager, cp_pager_first_page(bank.pager), 8));
    for (unsigned i = 0; i < THREADS; i++) {
        tellers[i] = (struct teller){&bank, i};
        assert_int_equal(pthread_create(&threads[i], NULL, use_old_numbers, &tellers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(cp_pager_check(bank.pager, NULL, NULL, NULL), 0);
    assert_ok(cp_pager_close(bank.pager));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transfers_keep_the_sum_and_never_hang),
        cmocka_unit_test(crossed_fixes_end_in_an_error_for_one),
        cmocka_unit_test(page_freed_under_a_checkpoint_is_free_or_whole),
        cmocka_unit_test(pages_have_one_owner),
        cmocka_unit_test(old_numbers_never_hang),
    };
    int failed = RUN_ENGINE(CP_ENGINE_POOL, tests);
    return failed + RUN_ENGINE(CP_ENGINE_MMAP, tests);
}
