/* SPDX-License-Identifier: MIT */
/* Opening and closing: options, what is in use, forked children, the host's limits on memory. */
#include "helpers.h"
#include "internal.h"
#include "support/child.h"

#include <clockpool/base/poison.h>

#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void open_bad_options_give_einval(void **state)
{
    (void)state;
    const char *path = new_store();
    struct cp_pager_options options = options_of(5000, 0);
    options.create = true;
    assert_code(try_open(&options, path), -EINVAL);
    options.page_size = 2048;
    assert_code(try_open(&options, path), -EINVAL);
    options.page_size = 131072;
    assert_code(try_open(&options, path), -EINVAL);
    options.page_size = 0;
    options.read_only = true;
    assert_code(try_open(&options, path), -EINVAL);
    options.read_only = false;
    options.budget_bytes = 4096;
    assert_code(try_open(&options, path), CP_EBUDGET);
    assert_code(try_open(&options, ""), -EINVAL);
}

static void forked_child_is_refused(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    uint64_t page = allocate_filled(pager, 1);
    struct cp_mtr *mtr;
    uint32_t savepoint = 0;
    void *data;
    assert_ok(cp_mtr_begin(pager, &mtr));
    assert_ok(cp_mtr_fix(mtr, page, CP_EXCLUSIVE, &data));
    assert_ok(cp_mtr_savepoint(mtr, &savepoint));
    fill_page(data, cp_pager_payload_size(pager), page, 2);
    pid_t child = fork();
    if (child == 0) {
        struct cp_fix fix;
        uint64_t other;
        bool good = cp_pager_fix(pager, page, CP_SHARED, &fix) == CP_EFORKED &&
                    cp_pager_allocate(pager, &fix) == CP_EFORKED &&
                    cp_pager_sync(pager) == CP_EFORKED && cp_pager_close(pager) == CP_EFORKED &&
                    cp_mtr_fix(mtr, page, CP_SHARED, &data) == CP_EFORKED &&
                    cp_mtr_allocate(mtr, &other, &data) == CP_EFORKED &&
                    cp_mtr_free(mtr, page) == CP_EFORKED &&
                    cp_mtr_savepoint(mtr, &savepoint) == CP_EFORKED &&
                    cp_mtr_rollback(mtr, savepoint) == CP_EFORKED &&
                    cp_mtr_commit(mtr, CP_COMMIT_DURABLE, NULL) == CP_EFORKED;
        end_child(good);
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    assert_ok(cp_mtr_rollback(mtr, savepoint));
    assert_ok(cp_mtr_commit(mtr, CP_COMMIT_DURABLE, NULL));
    assert_true(check_page(pager, page, 1));
    assert_ok(cp_pager_close(pager));
}

/* Its memory is not there: a ticket that the parent's page has come by must not name it. */
static void forked_child_gets_no_page_by_ticket(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    uint64_t page = allocate_filled(pager, 1);
    struct cp_ticket ticket, own;
    assert_ok(cp_pager_begin(pager, &page, 1, CP_SHARED, &ticket));
    pid_t child = fork();
    if (child == 0) {
        bool good = cp_pager_wait(pager, &ticket) == CP_EFORKED && ticket.fix.data == NULL &&
                    cp_pager_begin(pager, &page, 1, CP_SHARED, &own) == CP_EFORKED &&
                    cp_pager_prefetch(pager, &page, 1) == CP_EFORKED;
        end_child(good);
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    assert_ok(cp_pager_wait(pager, &ticket));
    cp_pager_unfix(pager, &ticket.fix);
    assert_ok(cp_pager_close(pager));
}

/* A thread that is not in the child may hold any lock: what only looks must not wait for it. */
static void forked_child_looks_without_locks(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    allocate_filled(pager, 1);
    pthread_mutex_lock(&pager->alloc_mutex);
    pthread_mutex_lock(&pager->superblock_mutex);
    pid_t child = fork();
    if (child == 0) {
        struct cp_pager_stats stats;
        struct cp_pin pin;
        alarm(20); /* ends a child that waits */
        cp_pager_stats(pager, &stats);
        end_child(stats.page_size == 4096 && stats.page_count == 0 &&
                  strcmp(stats.path, data_path()) == 0 && stats.pool.io_backend != NULL &&
                  cp_pager_list_pins(pager, &pin, 1) == 0 &&
                  cp_pager_is_allocated(pager, 40) == CP_EFORKED);
    }
    int status;
    waitpid(child, &status, 0);
    pthread_mutex_unlock(&pager->superblock_mutex);
    pthread_mutex_unlock(&pager->alloc_mutex);
    assert_int_equal(status, 0);
    assert_ok(cp_pager_close(pager));
}

static void close_with_a_fixed_page_gives_epinned_and_stays_open(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    struct cp_pin pins[4];
    struct cp_fix fix;
    assert_ok(cp_pager_allocate(pager, &fix));
    assert_code(cp_pager_close(pager), CP_EPINNED);
    assert_int_equal(cp_error_info()->page, fix.page);
    assert_int_equal(cp_pager_list_pins(pager, pins, 4), 1);
    assert_int_equal(pins[0].page, fix.page);
    assert_int_equal(pins[0].mode, CP_EXCLUSIVE);
    cp_pager_unfix(pager, &fix);
    assert_ok(cp_pager_close(pager));
}

/* The checkpoint waits for the page, so close must not wait for the checkpoint. */
static void close_beside_a_checkpoint_that_waits_gives_epinned(void **state)
{
    (void)state;
    struct cp_pager_options options = options_of(0, 0);
    struct cp_pager *pager = NULL;
    struct cp_pager_stats stats;
    struct cp_fix fix;
    options.create = true;
    options.background = CP_BACKGROUND_THREAD;
    options.checkpoint_ms = 1;
    assert_ok(cp_pager_open(new_store(), &options, &pager));
    assert_ok(cp_pager_allocate(pager, &fix));
    uint64_t before;
    unsigned rounds = 0;
    do { /* one that had begun before may end yet */
        cp_pager_stats(pager, &stats);
        before = stats.checkpoints;
        usleep(300000);
        cp_pager_stats(pager, &stats);
    } while (stats.checkpoints != before && ++rounds < 20);
    assert_int_equal(stats.checkpoints, before);
    alarm(30);
    assert_code(cp_pager_close(pager), CP_EPINNED);
    cp_pager_unfix(pager, &fix);
    assert_ok(cp_pager_close(pager));
    alarm(0);
}

static void close_with_an_open_mini_transaction_gives_epinned(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    uint64_t page = allocate_filled(pager, 1);
    struct cp_mtr *mtr;
    assert_ok(cp_mtr_begin(pager, &mtr));
    assert_code(cp_pager_close(pager), CP_EPINNED);
    assert_non_null(strstr(cp_error_info()->hint, "mini-transactions"));
    assert_ok(cp_mtr_free(mtr, page));
    assert_code(cp_pager_close(pager), CP_EPINNED);
    cp_mtr_abort(mtr);
    assert_ok(cp_pager_close(pager));
}

static void create_with_a_bad_option_leaves_nothing(void **state)
{
    (void)state;
    struct cp_pager_options options = options_of(0, 0);
    options.create = options.exclusive = true;
    options.log_buffer_bytes = 300000;
    assert_code(try_open(&options, new_store()), -EINVAL);
    assert_int_not_equal(access(store_path(), F_OK), 0);
    options.log_buffer_bytes = 0;
    options.budget_bytes = options.max_budget_bytes = 4096;
    assert_code(try_open(&options, store_path()), CP_EBUDGET);
    assert_int_not_equal(access(store_path(), F_OK), 0);
}

static void stats_of_a_read_only_store_have_all_texts(void **state)
{
    (void)state;
    struct cp_pager_options options = options_of(0, 0);
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    struct cp_pager_stats stats;
    assert_ok(cp_pager_close(pager));
    options.read_only = true;
    assert_ok(cp_pager_open(store_path(), &options, &pager));
    cp_pager_stats(pager, &stats);
    assert_non_null(stats.wal.sync_method);
    assert_ok(cp_pager_close(pager));
}

static void close_right_after_prefetch_is_not_pinned(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    uint64_t pages[32];
    for (unsigned i = 0; i < 32; i++)
        pages[i] = allocate_filled(pager, i);
    assert_ok(cp_pager_close(pager));
    pager = open_store(store_path());
    assert_true(cp_pager_prefetch(pager, pages, 32) >= 0);
    assert_ok(cp_pager_close(pager));
}

/* It has nothing to write, so nothing to do for a thread. */
static void close_of_a_read_only_store_with_a_fixed_page_starts_no_thread(void **state)
{
    (void)state;
    struct cp_pager_options options = options_of(0, 0);
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    struct cp_fix fix;
    const uint64_t page = allocate_filled(pager, 1);
    assert_ok(cp_pager_close(pager));
    options.read_only = true;
    assert_ok(cp_pager_open(store_path(), &options, &pager));
    assert_ok(cp_pager_fix(pager, page, CP_SHARED, &fix));
    assert_code(cp_pager_close(pager), CP_EPINNED);
    assert_false(pager->background.started);
    cp_pager_unfix(pager, &fix);
    assert_ok(cp_pager_close(pager));
}

/* ---- a host that locks its memory ---------------------------------------------------------------
 */

#define MIB (UINT64_C(1) << 20)

static uint64_t locked_bytes(void)
{
    char line[256];
    unsigned long long kib = UINT64_MAX / 1024;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        (void)sscanf(line, "VmLck: %llu", &kib);
    if (file != NULL)
        fclose(file);
    return kib * 1024;
}

/* May as much be locked as is reserved? */
static bool may_lock(uint64_t bytes)
{
    if (mlockall(MCL_FUTURE) != 0)
        return false;
    void *part = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    bool may = part != MAP_FAILED;
    if (may)
        assert_int_equal(munmap(part, bytes), 0);
    assert_int_equal(munlockall(), 0);
    return may;
}

/* The file grows and shrinks, by more than may be locked. In a child: without assertions. */
static bool locks_little(const char *path)
{
    struct cp_pager_options options = options_of(0, 4 * MIB);
    struct cp_pager *pager = NULL;
    const uint64_t pages = 64 * MIB / 4096, before = locked_bytes();
    uint64_t first = 0, most[3];
    options.create = true;
    if (cp_pager_open(path, &options, &pager) != 0)
        return false;
    most[0] = locked_bytes();
    int failed = cp_pager_allocate_run(pager, pages, &first);
    for (uint64_t i = 0; failed == 0 && i < pages; i += 100) {
        struct cp_fix fix;
        failed = cp_pager_fix_new(pager, first + i, &fix);
        if (failed == 0)
            cp_pager_unfix(pager, &fix);
    }
    failed = failed != 0 ? failed : cp_pager_sync(pager);
    most[1] = locked_bytes();
    failed = failed != 0 ? failed : cp_pager_free(pager, first, pages);
    failed = failed != 0 ? failed : cp_pager_sync(pager);
    most[2] = locked_bytes();
    failed = failed != 0 ? failed : cp_pager_close(pager);
    for (uint32_t i = 0; i < 3; i++) {
        print_message("%lld KiB locked\n", (long long)(most[i] - before) / 1024);
        failed = most[i] > before + 32 * MIB ? -ENOMEM : failed;
    }
    return failed == 0;
}

/*
 * What is only reserved, and the data file, are not brought in. The mmap engine takes as many
 * addresses as it may have, and where it brought them in that would be hours and all memory.
 */
static void store_of_a_host_that_locks_its_memory_locks_little(void **state)
{
    (void)state;
#if CP_POISONS || defined(__SANITIZE_THREAD__)
    print_message("skipped: the sanitizer needs more addresses than the test allows\n");
    skip();
#endif
    if (!may_lock(UINT64_C(64) << 30)) {
        print_message("skipped: memory cannot be locked here\n");
        skip();
    }
    int status;
    const char *path = new_store();
    pid_t child = fork();
    assert_return_code(child, errno);
    if (child == 0) {
        const rlim_t few = test_engine == CP_ENGINE_MMAP ? (rlim_t)4 << 30 : RLIM_INFINITY;
        const struct rlimit addresses = {few, RLIM_INFINITY};
        end_child((few == RLIM_INFINITY || setrlimit(RLIMIT_AS, &addresses) == 0) &&
                  mlockall(MCL_FUTURE) == 0 && locks_little(path));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* Root may lock whatever the limit is, unless it gives that up. */
static bool obey_limit_on_locks(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[2];
    if (syscall(SYS_capget, &header, caps) != 0)
        return false;
    caps[0].effective &= ~(1u << CAP_IPC_LOCK);
    return syscall(SYS_capset, &header, caps) == 0;
}

/* In a child with a limit: is the opening refused, with a hint that names it? */
static void expect_hint(int resource, const char *name)
{
    int status;
    const char *path = new_store();
    pid_t child = fork();
    assert_return_code(child, errno);
    if (child == 0) {
        const struct rlimit few = {8 * MIB, 8 * MIB};
        struct cp_pager_options options = options_of(0, 0);
        struct cp_pager *pager = NULL;
        bool good = setrlimit(resource, &few) == 0;
        options.create = true;
        if (good && resource == RLIMIT_MEMLOCK)
            good = obey_limit_on_locks() && mlockall(MCL_FUTURE) == 0;
        good = good && cp_pager_open(path, &options, &pager) == -ENOMEM &&
               strstr(cp_error_info()->hint, name) != NULL;
        if (!good)
            print_message("%s: %s\n", name, cp_error_info()->hint);
        (void)munlockall();
        end_child(good);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void open_under_a_limit_on_memory_names_it(void **state)
{
    (void)state;
#if CP_POISONS || defined(__SANITIZE_THREAD__)
    print_message("skipped: the sanitizer needs more memory than the test allows\n");
    skip();
#endif
    expect_hint(RLIMIT_MEMLOCK, "ulimit -l");
    if (test_engine == CP_ENGINE_POOL) /* the other one takes fewer addresses then */
        expect_hint(RLIMIT_DATA, "ulimit -d");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open_bad_options_give_einval),
        cmocka_unit_test(forked_child_is_refused),
        cmocka_unit_test(forked_child_gets_no_page_by_ticket),
        cmocka_unit_test(forked_child_looks_without_locks),
        cmocka_unit_test(close_with_a_fixed_page_gives_epinned_and_stays_open),
        cmocka_unit_test(close_of_a_read_only_store_with_a_fixed_page_starts_no_thread),
        cmocka_unit_test(close_beside_a_checkpoint_that_waits_gives_epinned),
        cmocka_unit_test(close_with_an_open_mini_transaction_gives_epinned),
        cmocka_unit_test(create_with_a_bad_option_leaves_nothing),
        cmocka_unit_test(stats_of_a_read_only_store_have_all_texts),
        cmocka_unit_test(close_right_after_prefetch_is_not_pinned),
        cmocka_unit_test(store_of_a_host_that_locks_its_memory_locks_little),
        cmocka_unit_test(open_under_a_limit_on_memory_names_it),
    };
    int failed = RUN_ENGINE(CP_ENGINE_POOL, tests);
    return failed + RUN_ENGINE(CP_ENGINE_MMAP, tests);
}
