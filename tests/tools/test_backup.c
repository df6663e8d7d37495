/* SPDX-License-Identifier: MIT */
/* cp_backup from inside a program: beside writers, over every fault, while the file changes length.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "pairs.h"

#include <clockpool/backup.h>
#include <clockpool/inspect.h>
#include <clockpool/base/thread.h>
#include "support/fault_io.h"
#include "support/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAIRS        300u /* 2.4 MiB: three pieces of a copy */
#define FEW_PAIRS    8u   /* for the sweeps, which copy a hundred times */
#define RUN          400u /* pages by which the file changes its length */
#define LIVE_ROUNDS  4u
#define CHANGES_MORE 150u
#define BAD_PAGES    20u

static char base[64];
static enum cp_engine engine;
static uint64_t pairs; /* of the present store */
static _Atomic uint64_t acks[PAIRS], snapshot[PAIRS];

/* ---- helpers ----------------------------------------------------------------------------------
 */

static int make_base(void **state)
{
    (void)state;
    snprintf(base, sizeof base, "backup-test-XXXXXX");
    return mkdtemp(base) != NULL ? 0 : -1;
}

static int remove_base(void **state)
{
    (void)state;
    remove_tree(base);
    return 0;
}

static const char *in_base(const char *name)
{
    static char paths[4][128];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", base, name);
    return path;
}

static void assert_code(int code, int wanted)
{
    char line[800];
    if (code != wanted)
        print_error("%s\n", cp_error_format(line, sizeof line));
    assert_int_equal(code, wanted);
}

static void new_store(uint64_t pair_count)
{
    pairs = pair_count;
    remove_tree(in_base("store"));
    remove_tree(in_base("copy"));
    assert_code(pairs_create(in_base("store"), 4096, pairs), 0);
    for (unsigned i = 0; i < PAIRS; i++)
        atomic_store_explicit(&acks[i], 1, memory_order_relaxed);
}

static struct cp_pager *open_store(const char *name)
{
    struct cp_pager_options options = pairs_options();
    struct cp_pager *pager = NULL;
    options.engine = engine;
    assert_code(cp_pager_open(in_base(name), &options, &pager), 0);
    return pager;
}

static void take_snapshot(void)
{
    for (unsigned i = 0; i < PAIRS; i++)
        atomic_store_explicit(&snapshot[i], atomic_load_explicit(&acks[i], memory_order_relaxed),
                              memory_order_relaxed);
}

/* The copy holds what the snapshot says, every page is good, and it can be written to. Removed. */
static void verify_copy(void)
{
    struct cp_pager *pager = open_store("copy");
    uint64_t random = 99;
    assert_true(pairs_verify(pager, snapshot) >= 0);
    assert_int_equal(cp_pager_check(pager, NULL, NULL, NULL), 0);
    for (unsigned i = 0; i < 5; i++)
        assert_code(pairs_change(pager, pairs, &random, NULL), 0);
    assert_true(pairs_verify(pager, snapshot) >= 0);
    assert_code(cp_pager_close(pager), 0);
    remove_tree(in_base("copy"));
}

/* Entries of the base directory but the store itself. */
static unsigned count_others(void)
{
    unsigned count = 0;
    DIR *stream = opendir(base);
    for (const struct dirent *entry; (entry = readdir(stream)) != NULL;)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
                 strcmp(entry->d_name, "store") != 0;
    closedir(stream);
    return count;
}

static uint64_t test_seed(void)
{
    const char *given = getenv("CP_TEST_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : cp_now_ns();
    print_message("CP_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed | 1;
}

/* ---- beside writers ---------------------------------------------------------------------------
 */

struct writer {
    struct cp_pager *pager;
    uint64_t random;
    _Atomic bool *stop;
    _Atomic uint64_t *changes;
};

static void *change_pairs(void *ctx)
{
    struct writer *writer = ctx;
    while (!atomic_load_explicit(writer->stop, memory_order_relaxed)) {
        if (pairs_change(writer->pager, pairs, &writer->random, acks) != 0)
            return writer;
        atomic_fetch_add_explicit(writer->changes, 1, memory_order_relaxed);
    }
    return NULL;
}

/* Let the writers change something between two looks, without a sleep. */
static void await_changes(_Atomic uint64_t *changes, uint64_t more)
{
    uint64_t from = atomic_load_explicit(changes, memory_order_relaxed);
    while (atomic_load_explicit(changes, memory_order_relaxed) < from + more)
        sched_yield();
}

static void backup_beside_writers_holds_what_was_acknowledged(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    _Atomic bool stop = false;
    _Atomic uint64_t changes = 0;
    pthread_t threads[2];
    struct writer writers[2];
    uint64_t reread = 0;
    new_store(PAIRS);
    struct cp_pager *pager = open_store("store");
    for (unsigned i = 0; i < 2; i++) {
        writers[i] = (struct writer){pager, seed + i * 1000003, &stop, &changes};
        assert_int_equal(pthread_create(&threads[i], NULL, change_pairs, &writers[i]), 0);
    }
    for (unsigned round = 0; round < LIVE_ROUNDS; round++) {
        struct cp_backup_stats stats;
        await_changes(&changes, 20);
        take_snapshot();
        assert_code(cp_backup(in_base("store"), in_base("copy"), NULL, &stats), 0);
        assert_false(stats.exact);
        assert_false(stats.needed_recovery);
        assert_int_equal(stats.unverified_pages, 0);
        assert_true(stats.end_lsn >= stats.checkpoint_lsn);
        reread += stats.reread_pages;
        verify_copy();
    }
    atomic_store_explicit(&stop, true, memory_order_relaxed);
    for (unsigned i = 0; i < 2; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    print_message("%llu changes, %llu pages read again\n",
                  (unsigned long long)atomic_load_explicit(&changes, memory_order_relaxed),
                  (unsigned long long)reread);
    assert_true(pairs_verify(pager, acks) >= 0);
    assert_code(cp_pager_close(pager), 0);
}

static void backup_lock_keeps_the_log(void **state)
{
    (void)state;
    struct cp_pager_stats before, held, after;
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    char path[200];
    uint64_t random = 5;
    new_store(PAIRS);
    struct cp_pager *pager = open_store("store");
    for (unsigned i = 0; i < CHANGES_MORE; i++)
        assert_code(pairs_change(pager, pairs, &random, acks), 0);
    assert_code(cp_pager_checkpoint(pager), 0);
    cp_pager_stats(pager, &before);
    snprintf(path, sizeof path, "%s/backup", in_base("store"));
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    for (unsigned i = 0; i < CHANGES_MORE; i++) {
        assert_code(pairs_change(pager, pairs, &random, acks), 0);
        if (i % 50 == 49)
            assert_code(cp_pager_checkpoint(pager), 0);
    }
    cp_pager_stats(pager, &held);
    assert_true(held.checkpoint_lsn > before.checkpoint_lsn + 3 * 65536);
    assert_true(held.wal.first <= before.checkpoint_lsn);
    close(fd);
    assert_code(cp_pager_checkpoint(pager), 0);
    cp_pager_stats(pager, &after);
    assert_true(after.wal.first > before.checkpoint_lsn);
    assert_code(cp_pager_close(pager), 0);
}

/* ---- the file changes length ------------------------------------------------------------------
 */

struct meddler {
    struct cp_pager *pager;
    uint64_t first, count; /* a run to free, when the copy has begun */
    bool grow;
    unsigned calls;
};

static int change_length(void *ctx, const struct cp_backup_progress *progress)
{
    struct meddler *meddler = ctx;
    if (meddler->calls++ != 0)
        return 0;
    assert_true(progress->data_bytes_done < progress->data_bytes);
    if (meddler->grow) {
        assert_code(cp_pager_allocate_run(meddler->pager, RUN, &meddler->first), 0);
        for (uint64_t page = meddler->first; page < meddler->first + RUN; page++) {
            struct cp_fix fix;
            assert_code(cp_pager_fix_new(meddler->pager, page, &fix), 0);
            memset(fix.data, 0x5a, 100);
            cp_pager_unfix(meddler->pager, &fix);
        }
    } else {
        assert_code(cp_pager_free(meddler->pager, meddler->first, meddler->count), 0);
    }
    assert_code(cp_pager_sync(meddler->pager), 0);
    return 0;
}

static void length_changes(bool grow)
{
    struct meddler meddler = {.grow = grow};
    const struct cp_backup_options options = {.progress = change_length, .ctx = &meddler};
    uint64_t random = 11;
    struct cp_fix fix;
    new_store(PAIRS);
    struct cp_pager *pager = meddler.pager = open_store("store");
    if (!grow) { /* a tail that is cut off while the copy is under way */
        meddler.count = RUN;
        assert_code(cp_pager_allocate_run(pager, meddler.count, &meddler.first), 0);
        for (uint64_t page = meddler.first; page < meddler.first + meddler.count; page++) {
            assert_code(cp_pager_fix_new(pager, page, &fix), 0);
            cp_pager_unfix(pager, &fix);
        }
        assert_code(cp_pager_sync(pager), 0);
    }
    take_snapshot();
    assert_code(cp_backup(in_base("store"), in_base("copy"), &options, NULL), 0);
    assert_true(meddler.calls > 1);
    struct cp_pager *copy = open_store("copy");
    assert_int_equal(cp_pager_check(copy, NULL, NULL, NULL), 0);
    assert_int_equal(cp_pager_is_allocated(copy, meddler.first), grow ? 1 : 0);
    if (grow) /* the oracle knows of no other pages */
        assert_code(cp_pager_free(copy, meddler.first, RUN), 0);
    assert_true(pairs_verify(copy, snapshot) >= 0);
    assert_code(cp_pager_close(copy), 0);
    assert_code(pairs_change(pager, pairs, &random, acks), 0);
    assert_code(cp_pager_close(pager), 0);
    remove_tree(in_base("copy"));
}

static void backup_of_a_file_that_grows_is_whole(void **state)
{
    (void)state;
    length_changes(true);
}

static void backup_of_a_file_that_is_cut_is_whole(void **state)
{
    (void)state;
    length_changes(false);
}

/* ---- the store is closed and opened meanwhile ---------------------------------------------------
 */

struct reopener {
    struct cp_pager *pager;
    uint64_t random;
    bool crash;
};

/* Several sessions during one copy: closed cleanly or not, recovered, changed. */
static int reopen_store(void *ctx, const struct cp_backup_progress *progress)
{
    struct reopener *reopener = ctx;
    (void)progress;
    for (unsigned i = 0; i < 5; i++)
        assert_code(pairs_change(reopener->pager, pairs, &reopener->random, acks), 0);
    if (reopener->crash)
        cp_pager_abandon(reopener->pager);
    else
        assert_code(cp_pager_close(reopener->pager), 0);
    reopener->pager = open_store("store");
    for (unsigned i = 0; i < 5; i++)
        assert_code(pairs_change(reopener->pager, pairs, &reopener->random, acks), 0);
    return 0;
}

static void backup_across_sessions_holds_what_was_acknowledged(void **state)
{
    (void)state;
    for (unsigned crash = 0; crash < 2; crash++) {
        struct reopener reopener = {.random = test_seed(), .crash = crash == 1};
        const struct cp_backup_options options = {.progress = reopen_store, .ctx = &reopener};
        new_store(PAIRS);
        reopener.pager = open_store("store");
        assert_code(pairs_change(reopener.pager, pairs, &reopener.random, acks), 0);
        take_snapshot();
        assert_code(cp_backup(in_base("store"), in_base("copy"), &options, NULL), 0);
        verify_copy();
        assert_true(pairs_verify(reopener.pager, acks) >= 0);
        assert_code(cp_pager_close(reopener.pager), 0);
    }
}

/* ---- faults -----------------------------------------------------------------------------------
 */

static struct fault_io *faults;
static struct cp_io *faulty_io;

static void begin_faults(void)
{
    faults = fault_io_create(cp_io_backend_sync(), FAULT_RING_AS_WRAPPED);
    const struct cp_io_options options = {.backend = fault_io_backend(faults),
                                          .backend_ctx = faults};
    assert_code(cp_io_create(&options, &faulty_io), 0);
}

static void end_faults(void)
{
    cp_io_destroy(faulty_io);
    fault_io_destroy(faults);
}

/* The n-th call fails, for each n that there is: a whole copy, or nothing and the code. */
static void sweep(enum fault_class on, enum fault_effect effect, int code, uint64_t times)
{
    unsigned failed = 0, survived = 0;
    for (uint64_t nth = 1;; nth++) {
        const struct cp_backup_options options = {.io = faulty_io};
        fault_io_reset(faults);
        fault_io_rule(faults,
                      &(struct fault_rule){
                          .on = on, .nth = nth, .times = times, .effect = effect, .code = code});
        int result = cp_backup(in_base("store"), in_base("copy"), &options, NULL);
        bool fired = fault_io_fired(faults) > 0;
        fault_io_reset(faults);
        if (!fired)
            assert_code(result, 0);
        if (result == 0) {
            survived += fired;
            verify_copy();
        } else {
            failed++;
            if (code != 0 && on != FAULT_READ) /* a superblock that cannot be read is a bad one */
                assert_code(result, code);
            assert_true(cp_error_info()->what[0] != '\0');
        }
        assert_int_equal(count_others(), 0);
        if (!fired)
            break;
    }
    print_message("class %d: %u failed, %u went on\n", (int)on, failed, survived);
    assert_true(failed + survived > 0);
}

static void backup_each_fault_leaves_a_whole_copy_or_nothing(void **state)
{
    (void)state;
    new_store(FEW_PAIRS);
    struct cp_pager *pager = open_store("store");
    uint64_t random = test_seed();
    for (unsigned i = 0; i < 8; i++)
        assert_code(pairs_change(pager, pairs, &random, acks), 0);
    cp_pager_abandon(pager); /* so the copy needs its log */
    take_snapshot();
    begin_faults();
    static const enum fault_class classes[] = {FAULT_WRITE,  FAULT_ALLOCATE,      FAULT_SYNC,
                                               FAULT_OPEN,   FAULT_RENAME,        FAULT_MKDIR,
                                               FAULT_RESIZE, FAULT_DIRECTORY_SYNC};
    for (unsigned i = 0; i < sizeof classes / sizeof classes[0]; i++)
        sweep(classes[i], FAULT_CODE, i % 2 == 0 ? -ENOSPC : -EIO, UINT64_MAX);
    sweep(FAULT_READ, FAULT_CODE, -EIO, UINT64_MAX);
    sweep(FAULT_WRITE, FAULT_SHORT, 0, 1);
    end_faults();
}

static void backup_page_in_the_making_is_read_again(void **state)
{
    (void)state;
    new_store(FEW_PAIRS);
    take_snapshot();
    begin_faults();
    uint64_t reread = 0;
    for (uint64_t nth = 1;; nth++) {
        const struct cp_backup_options options = {.io = faulty_io};
        struct cp_backup_stats stats;
        fault_io_reset(faults);
        fault_io_rule(faults, &(struct fault_rule){.on = FAULT_READ,
                                                   .nth = nth,
                                                   .effect = FAULT_FLIP,
                                                   .bit = (33 * 4096 + 77) * 8});
        int code = cp_backup(in_base("store"), in_base("copy"), &options, &stats);
        bool fired = fault_io_fired(faults) > 0;
        fault_io_reset(faults);
        assert_code(code, 0); /* one wrong read never matters */
        assert_int_equal(stats.unverified_pages, 0);
        reread += stats.reread_pages;
        verify_copy();
        if (!fired)
            break;
    }
    assert_true(reread >= 1);
    end_faults();
}

static int stop_there(void *ctx, const struct cp_backup_progress *progress)
{
    unsigned *left = ctx;
    (void)progress;
    return (*left)-- == 0 ? -ECANCELED : 0;
}

static void backup_stopped_leaves_nothing(void **state)
{
    (void)state;
    new_store(PAIRS);
    take_snapshot();
    for (unsigned pieces = 0; pieces < 50; pieces++) {
        unsigned left = pieces;
        const struct cp_backup_options options = {.progress = stop_there, .ctx = &left};
        int code = cp_backup(in_base("store"), in_base("copy"), &options, NULL);
        if (code == 0) {
            assert_true(pieces >= 2);
            verify_copy();
            return;
        }
        assert_code(code, -ECANCELED);
        assert_int_equal(count_others(), 0);
    }
    fail();
}

/* Change a byte of each of count pages from page 33 on, behind everybody's back. */
static void damage_pages(unsigned count)
{
    char path[200];
    snprintf(path, sizeof path, "%s/data", in_base("store"));
    int fd = open(path, O_RDWR | O_CLOEXEC);
    for (off_t at = 33 * 4096 + 9; count > 0; count--, at += 4096) {
        unsigned char byte;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 1;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    close(fd);
}

static uint64_t reads_of_a_backup(uint64_t bad_pages)
{
    const struct cp_io_options sync = {.kind = CP_IO_SYNC};
    struct cp_backup_options options = {0};
    struct cp_backup_stats stats;
    struct cp_io_stats io_stats;
    assert_code(cp_io_create(&sync, &options.io), 0);
    assert_code(cp_backup(in_base("store"), in_base("copy"), &options, &stats), 0);
    assert_int_equal(stats.unverified_pages, bad_pages);
    cp_io_stats(options.io, &io_stats);
    cp_io_destroy(options.io);
    remove_tree(in_base("copy"));
    return io_stats.reads;
}

/* Nobody is writing them: a page once more, and both superblocks. */
static void backup_damaged_pages_of_a_closed_store_are_not_waited_for(void **state)
{
    (void)state;
    new_store(PAIRS);
    uint64_t whole = reads_of_a_backup(0);
    damage_pages(BAD_PAGES);
    uint64_t damaged = reads_of_a_backup(BAD_PAGES);
    print_message("%llu reads, with damage %llu\n", (unsigned long long)whole,
                  (unsigned long long)damaged);
    assert_true(damaged <= whole + 3 * BAD_PAGES);
}

/* Write a page, its log with it, and have half of it as it was before. Returns its number. */
static uint64_t tear_page(void)
{
    char path[200];
    unsigned char before[512];
    struct cp_pager_options options = pairs_options();
    struct cp_pager *pager = NULL;
    struct cp_mtr *mtr;
    void *data;
    uint64_t page;
    options.background = CP_BACKGROUND_NONE;
    assert_code(cp_pager_open(in_base("store"), &options, &pager), 0);
    assert_code(cp_mtr_begin(pager, &mtr), 0);
    assert_code(cp_mtr_allocate(mtr, &page, &data), 0);
    memset(data, 1, 4000);
    assert_code(cp_mtr_commit(mtr, CP_COMMIT_DURABLE, NULL), 0);
    assert_code(cp_pager_checkpoint(pager), 0);
    snprintf(path, sizeof path, "%s/data", in_base("store"));
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, before, sizeof before, (off_t)page * 4096 + 1024), sizeof before);
    assert_code(cp_mtr_begin(pager, &mtr), 0);
    assert_code(cp_mtr_fix(mtr, page, CP_EXCLUSIVE, &data), 0);
    memset(data, 2, 4000);
    assert_code(cp_mtr_commit(mtr, CP_COMMIT_DURABLE, NULL), 0);
    assert_int_equal(cp_pager_check(pager, NULL, NULL, NULL), 0); /* writes it */
    cp_pager_abandon(pager);
    assert_int_equal(pwrite(fd, before, sizeof before, (off_t)page * 4096 + 1024), sizeof before);
    close(fd);
    return page;
}

/* Before recovery, and while it is only in memory that the page is whole. A damaged one is told. */
static void backup_torn_pages_that_the_log_mends_are_not_damaged(void **state)
{
    (void)state;
    struct cp_backup_stats stats;
    struct cp_pager_options options = pairs_options();
    options.background = CP_BACKGROUND_NONE;
    for (unsigned bad_pages = 0; bad_pages < 2; bad_pages++) {
        struct cp_pager *pager = NULL;
        new_store(FEW_PAIRS);
        const uint64_t torn = tear_page();
        damage_pages(bad_pages);
        for (unsigned opened = 0; opened < 2; opened++) {
            if (opened == 1)
                assert_code(cp_pager_open(in_base("store"), &options, &pager), 0);
            assert_code(cp_backup(in_base("store"), in_base("copy"), NULL, &stats), 0);
            assert_int_equal(stats.needed_recovery, opened == 0);
            assert_int_equal(stats.unverified_pages, bad_pages);
            assert_int_equal(stats.first_unverified, bad_pages > 0 ? 33 : CP_NO_PAGE);
            struct cp_pager *copy = open_store("copy");
            struct cp_fix fix;
            assert_code(cp_pager_fix(copy, torn, CP_SHARED, &fix), 0);
            assert_int_equal(((unsigned char *)fix.data)[1024], 2);
            cp_pager_unfix(copy, &fix);
            assert_code(cp_pager_close(copy), 0);
            remove_tree(in_base("copy"));
        }
        cp_pager_abandon(pager);
    }
}

static int count_calls(void *ctx, const struct cp_backup_progress *progress)
{
    (void)progress;
    ++*(unsigned *)ctx;
    return 0;
}

/* Somebody may be writing them; then each wait is one after which the copy can be stopped. */
static void backup_damaged_pages_of_an_open_store_can_be_stopped(void **state)
{
    (void)state;
    unsigned calls = 0, left = BAD_PAGES / 2;
    struct cp_backup_options options = {.progress = count_calls, .ctx = &calls};
    struct cp_backup_stats stats;
    new_store(PAIRS);
    damage_pages(BAD_PAGES);
    struct cp_pager *pager = open_store("store");
    assert_code(cp_backup(in_base("store"), in_base("copy"), &options, &stats), 0);
    assert_int_equal(stats.unverified_pages, BAD_PAGES);
    assert_true(calls > BAD_PAGES);
    remove_tree(in_base("copy"));
    options.progress = stop_there;
    options.ctx = &left;
    assert_code(cp_backup(in_base("store"), in_base("copy"), &options, &stats), -ECANCELED);
    assert_true(cp_error_info()->hint[0] != '\0');
    assert_int_equal(count_others(), 0);
    cp_pager_abandon(pager);
}

static void backup_wrong_names_are_refused(void **state)
{
    (void)state;
    new_store(FEW_PAIRS);
    assert_code(cp_backup(in_base("store"), "", NULL, NULL), -EINVAL);
    assert_code(cp_backup("", in_base("copy"), NULL, NULL), -EINVAL);
    assert_code(cp_backup(in_base("store"), in_base("store"), NULL, NULL), -EEXIST);
    assert_code(cp_backup(in_base("none"), in_base("copy"), NULL, NULL), -ENOENT);
    assert_code(cp_backup(in_base("store"), in_base("none/copy"), NULL, NULL), -ENOENT);
    assert_int_equal(count_others(), 0);
    take_snapshot();
    assert_code(cp_backup(in_base("store"), in_base("copy///"), NULL, NULL), 0);
    verify_copy();
}

/* Superblocks made on purpose: a code, nothing left behind, and the look from outside goes on. */
static void backup_forged_superblocks_are_refused(void **state)
{
    (void)state;
    static const struct {
        unsigned offset;
        uint64_t value;
        int backup, scan;
        bool inspectable;
    } forgeries[] = {
        {56, 500, CP_EFORMAT, CP_EFORMAT, true},              /* checkpoint: no multiple of 8 */
        {56, UINT64_C(1) << 40, CP_ELOG, CP_ELOG, true},      /* checkpoint: far behind the end */
        {40, UINT64_C(1) << 32, CP_EFORMAT, 0, true},         /* page count: the file is cut */
        {40, UINT64_MAX, CP_EFORMAT, CP_EFORMAT, false},      /* page count: impossible */
        {16, 4097, CP_EFORMAT, CP_EFORMAT, false},            /* page size, with header size */
        {8, UINT64_C(99), CP_EVERSION, CP_EVERSION, false},   /* version */
        {24, UINT64_C(4711), CP_EFOREIGN, CP_EFOREIGN, true}, /* store id: the log is another's */
    };
    for (unsigned i = 0; i < sizeof forgeries / sizeof forgeries[0]; i++) {
        struct cp_store_info info;
        cp_lsn end;
        print_message("forgery %u\n", i);
        new_store(FEW_PAIRS);
        assert_true(pairs_forge(in_base("store"), forgeries[i].offset, forgeries[i].value));
        int code = cp_backup(in_base("store"), in_base("copy"), NULL, NULL);
        assert_code(code, forgeries[i].backup);
        assert_int_equal(count_others(), 0);
        code = cp_pager_scan_log(in_base("store"), NULL, 0, NULL, NULL, &end);
        assert_code(code, forgeries[i].scan);
        assert_int_equal(cp_pager_inspect(in_base("store"), NULL, &info) == 0,
                         forgeries[i].inspectable);
    }
}

int main(void)
{
    const struct CMUnitTest live_tests[] = {
        cmocka_unit_test(backup_beside_writers_holds_what_was_acknowledged),
        cmocka_unit_test(backup_lock_keeps_the_log),
        cmocka_unit_test(backup_of_a_file_that_grows_is_whole),
        cmocka_unit_test(backup_of_a_file_that_is_cut_is_whole),
        cmocka_unit_test(backup_across_sessions_holds_what_was_acknowledged),
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(backup_each_fault_leaves_a_whole_copy_or_nothing),
        cmocka_unit_test(backup_page_in_the_making_is_read_again),
        cmocka_unit_test(backup_stopped_leaves_nothing),
        cmocka_unit_test(backup_damaged_pages_of_a_closed_store_are_not_waited_for),
        cmocka_unit_test(backup_torn_pages_that_the_log_mends_are_not_damaged),
        cmocka_unit_test(backup_damaged_pages_of_an_open_store_can_be_stopped),
        cmocka_unit_test(backup_wrong_names_are_refused),
        cmocka_unit_test(backup_forged_superblocks_are_refused),
    };
    engine = CP_ENGINE_MMAP;
    int failed = cmocka_run_group_tests_name("mmap", live_tests, make_base, remove_base);
    engine = CP_ENGINE_POOL;
    failed += cmocka_run_group_tests_name("pool", live_tests, make_base, remove_base);
    return failed + cmocka_run_group_tests(tests, make_base, remove_base);
}
