/* SPDX-License-Identifier: MIT */
/* Life of a store: creation, opening, locks, sizes, what survives closing. */
#include "helpers.h"
#include "internal.h"
#include "support/child.h"

#include <clockpool/base/poison.h>

#include <linux/capability.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static int try_open(const struct cp_pager_options *options, const char *path)
{
    struct cp_pager *pager = NULL;
    int code = cp_pager_open(path, options, &pager);
    if (code == 0)
        assert_ok(cp_pager_close(pager));
    return code;
}

static void write_file_anew(const char *path, const void *data, size_t size_bytes)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(size_bytes == 0 ? 0 : fwrite(data, 1, size_bytes, file), size_bytes);
    assert_int_equal(fclose(file), 0);
}

static void open_missing_gives_enoent(void **state)
{
    (void)state;
    struct cp_pager_options options = options_of(0, 0);
    assert_code(try_open(&options, new_store()), -ENOENT);
    assert_string_equal(cp_error_info()->path, store_path());
    assert_true(cp_error_info()->hint[0] != '\0');
    assert_int_not_equal(access(store_path(), F_OK), 0);
}

static void create_makes_private_files_and_no_leftovers(void **state)
{
    (void)state;
    const char *path = new_store();
    unsigned before = count_entries(in_directory("."));
    assert_ok(cp_pager_close(create_store(path, 0, 0)));
    struct stat status;
    assert_int_equal(stat(store_path(), &status), 0);
    assert_int_equal(status.st_mode & 0777, 0700);
    assert_int_equal(stat(data_path(), &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    assert_int_equal(count_entries(store_path()), 3);
    assert_int_equal(count_entries(in_directory(".")), before + 1);
}

static void create_exclusive_twice_gives_eexist(void **state)
{
    (void)state;
    struct cp_pager_options options = options_of(0, 0);
    options.create = options.exclusive = true;
    assert_ok(try_open(&options, new_store()));
    assert_code(try_open(&options, store_path()), -EEXIST);
    options.exclusive = false;
    assert_ok(try_open(&options, store_path()));
}

static void create_in_empty_directory_works_in_a_full_one_not(void **state)
{
    (void)state;
    struct cp_pager_options options = options_of(0, 0);
    options.create = true;
    const char *path = new_store();
    char file[400];
    assert_int_equal(mkdir(path, 0755), 0);
    assert_ok(try_open(&options, path));
    assert_int_equal(count_entries(path), 3);
    path = new_store();
    assert_int_equal(mkdir(path, 0755), 0);
    snprintf(file, sizeof file, "%s/thesis.txt", path);
    fclose(fopen(file, "w"));
    assert_code(try_open(&options, path), -ENOTEMPTY);
    assert_int_equal(count_entries(path), 1);
    unlink(file);
    snprintf(file, sizeof file, "%s/data.tmp-0123", path); /* a creation that crashed */
    fclose(fopen(file, "w"));
    assert_ok(try_open(&options, path));
    assert_int_equal(count_entries(path), 3);
}

/* A new store whose data file is lost, its log used or not. */
static void store_without_data(bool used)
{
    char file[400];
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    if (used)
        commit_page(pager, allocate_filled(pager, 1), 2);
    assert_ok(cp_pager_close(pager));
    snprintf(file, sizeof file, "%s/data", store_path());
    assert_int_equal(unlink(file), 0);
}

static void create_beside_a_log_that_is_not_its_own_gives_enotempty(void **state)
{
    (void)state;
    struct cp_pager_options options = options_of(0, 0);
    char wal[400], file[500];
    options.create = true;
    assert_int_equal(mkdir(new_store(), 0755), 0);
    snprintf(wal, sizeof wal, "%s/wal", store_path());
    snprintf(file, sizeof file, "%s/precious.txt", wal);
    assert_int_equal(mkdir(wal, 0755), 0);
    fclose(fopen(file, "w"));
    assert_code(try_open(&options, store_path()), -ENOTEMPTY);
    assert_string_equal(cp_error_info()->path, wal);
    assert_int_equal(access(file, F_OK), 0);
    unlink(file);
    snprintf(file, sizeof file, "%s/segment-00000001", wal); /* ours by its name only */
    write_file_anew(file, "mine", 4);
    assert_code(try_open(&options, store_path()), -ENOTEMPTY);
    assert_int_equal(access(file, F_OK), 0);
    unlink(file);
    assert_ok(try_open(&options, store_path()));

    store_without_data(true);
    assert_code(try_open(&options, store_path()), -ENOTEMPTY);
    assert_non_null(strstr(cp_error_info()->hint, "put the data file back"));
    snprintf(file, sizeof file, "%s/wal/segment-00000001", store_path());
    assert_int_equal(access(file, F_OK), 0);

    assert_int_equal(mkdir(new_store(), 0755), 0); /* a link, to an empty directory even */
    snprintf(wal, sizeof wal, "%s/wal", store_path());
    assert_int_equal(symlink(in_directory("."), wal), 0);
    assert_code(try_open(&options, store_path()), -ENOTEMPTY);
    assert_int_equal(count_entries(store_path()), 1);
}

/* Killed after its log was there, or while that was being made. */
static void create_after_a_creation_that_was_killed_works(void **state)
{
    (void)state;
    struct cp_pager_options options = options_of(0, 0);
    char file[400];
    options.create = true;
    for (unsigned step = 0; step < 4; step++) {
        store_without_data(false);
        snprintf(file, sizeof file, "%s/wal/segment-00000001", store_path());
        if (step == 1)
            assert_int_equal(truncate(file, 65536), 0);
        if (step == 2)
            write_file_anew(file, NULL, 0);
        if (step == 3)
            unlink(file);
        assert_ok(try_open(&options, store_path()));
    }
}

static void create_without_parent_fails_cleanly(void **state)
{
    (void)state;
    struct cp_pager_options options = options_of(0, 0);
    char path[400];
    options.create = true;
    snprintf(path, sizeof path, "%s/inner", new_store());
    assert_code(try_open(&options, path), -ENOENT);
    assert_string_equal(cp_error_info()->path, store_path());
    assert_non_null(strstr(cp_error_info()->what, "does not exist"));
}

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

static void open_with_other_page_size_gives_einval(void **state)
{
    (void)state;
    assert_ok(cp_pager_close(create_store(new_store(), 8192, 0)));
    struct cp_pager_options options = options_of(4096, 0);
    assert_code(try_open(&options, store_path()), -EINVAL);
    assert_non_null(strstr(cp_error_info()->what, "8192"));
    options.page_size = 8192;
    assert_ok(try_open(&options, store_path()));
}

static void open_twice_gives_elocked_naming_the_holder(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    struct cp_pager_options options = options_of(0, 0);
    assert_code(try_open(&options, store_path()), CP_ELOCKED);
    assert_non_null(strstr(cp_error_info()->hint, "this process"));
    char pid[32];
    snprintf(pid, sizeof pid, "process %d", (int)getpid());
    pid_t child = fork();
    if (child == 0) {
        int code = try_open(&options, store_path());
        bool named = strstr(cp_error_info()->hint, pid) != NULL;
        end_child(code == CP_ELOCKED && named);
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    assert_ok(cp_pager_close(pager));
    assert_ok(try_open(&options, store_path()));
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

static int fork_a_child_that_stays(void *ctx, const struct cp_backup_progress *progress)
{
    pid_t *child = ctx;
    (void)progress;
    if (*child != 0)
        return 0;
    *child = fork();
    if (*child == 0)
        alarm(60);      /* ends a child whose test has died */
    while (*child == 0) /* ends: the test kills it */
        pause();
    return *child > 0 ? 0 : -errno;
}

/* A log is not trimmed while a backup seems to be taken. The child has all descriptors. */
static void backup_is_over_though_a_child_lives_on(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    struct cp_store_info info;
    pid_t child = 0;
    const struct cp_backup_options options = {.progress = fork_a_child_that_stays, .ctx = &child};
    allocate_filled(pager, 1);
    assert_ok(cp_pager_close(pager));
    int code = cp_backup(store_path(), in_directory("copy"), &options, NULL);
    int looked = cp_pager_inspect(store_path(), NULL, &info);
    if (child > 0) {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    remove_tree(in_directory("copy"));
    assert_ok(code);
    assert_ok(looked);
    assert_true(child > 0);
    assert_false(info.copied);
}

/* A reader that has ended, or the writer whose forked child has the lock still, is no holder. */
static void inspect_names_no_process_that_has_ended(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    struct cp_store_info info;
    assert_ok(cp_pager_inspect(store_path(), NULL, &info));
    assert_int_equal(info.holder_pid, getpid());
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    waitpid(child, NULL, 0);
    char path[400];
    snprintf(path, sizeof path, "%s/lock", store_path());
    FILE *lock = fopen(path, "w");
    assert_non_null(lock);
    fprintf(lock, "%d ghost\n", (int)child);
    fclose(lock);
    assert_ok(cp_pager_inspect(store_path(), NULL, &info));
    assert_int_equal(info.use, CP_STORE_WRITTEN);
    assert_int_equal(info.holder_pid, 0);
    assert_int_equal(info.holder_command[0], 0);
    assert_ok(cp_pager_close(pager));
}

static void read_only_readers_share_and_writers_wait(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0), *second = NULL;
    uint64_t page = allocate_filled(pager, 7);
    struct cp_pager_options options = options_of(0, 0);
    struct cp_fix fix;
    assert_ok(cp_pager_close(pager));
    options.read_only = true;
    assert_ok(cp_pager_open(store_path(), &options, &pager));
    assert_ok(cp_pager_open(store_path(), &options, &second));
    options.read_only = false;
    assert_code(try_open(&options, store_path()), CP_ELOCKED);
    assert_true(check_page(pager, page, 7));
    assert_true(check_page(second, page, 7));
    assert_code(cp_pager_allocate(pager, &fix), CP_EREADONLY);
    assert_code(cp_pager_free(pager, page, 1), CP_EREADONLY);
    assert_code(cp_pager_fix_new(pager, page, &fix), CP_EREADONLY);
    assert_ok(cp_pager_fix(pager, page, CP_EXCLUSIVE, &fix));
    assert_code(cp_pager_mark_dirty(pager, &fix), CP_EREADONLY);
    cp_pager_unfix(pager, &fix);
    assert_ok(cp_pager_sync(pager));
    assert_ok(cp_pager_close(second));
    assert_ok(cp_pager_close(pager));
}

static void pages_survive_reopening_at_every_page_size(void **state)
{
    (void)state;
    for (uint32_t page_size = 4096; page_size <= 65536; page_size *= 2) {
        struct cp_pager *pager = create_store(new_store(), page_size, 0);
        struct cp_pager_stats stats;
        uint64_t pages[40];
        assert_int_equal(cp_pager_page_size(pager), page_size);
        assert_int_equal(cp_pager_first_page(pager), 131072 / page_size + 1);
        for (unsigned i = 0; i < 40; i++) {
            pages[i] = allocate_filled(pager, i);
            assert_int_equal(pages[i], cp_pager_first_page(pager) + i);
        }
        assert_ok(cp_pager_close(pager));
        pager = open_store(store_path());
        cp_pager_stats(pager, &stats);
        assert_false(stats.unclean);
        assert_int_equal(stats.allocated_pages, 40);
        assert_int_equal(stats.free_pages, 0);
        assert_int_equal(stats.page_size, page_size);
        for (unsigned i = 0; i < 40; i++)
            assert_true(check_page(pager, pages[i], i));
        assert_int_equal(cp_pager_check(pager, NULL, NULL, NULL), 0);
        assert_ok(cp_pager_close(pager));
    }
}

static void abandon_drops_what_was_not_synced_and_says_unclean(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    struct cp_pager_stats stats;
    uint64_t page = allocate_filled(pager, 1);
    assert_ok(cp_pager_sync(pager));
    update_page(pager, page, 2);
    cp_pager_abandon(pager);
    pager = open_store(store_path());
    cp_pager_stats(pager, &stats);
    assert_true(stats.unclean);
    assert_true(check_page(pager, page, 1));
    update_page(pager, page, 3);
    assert_ok(cp_pager_close(pager));
    pager = open_store(store_path());
    cp_pager_stats(pager, &stats);
    assert_false(stats.unclean);
    assert_true(check_page(pager, page, 3));
    assert_ok(cp_pager_close(pager));
}

static void opening_and_closing_writes_nothing(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    struct cp_pager_stats first, second;
    cp_pager_stats(pager, &first);
    assert_ok(cp_pager_close(pager));
    pager = open_store(store_path());
    cp_pager_stats(pager, &second);
    assert_int_equal(first.generation, second.generation);
    assert_int_equal(first.store_id, second.store_id);
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
    cp_pager_stats(pager, &stats);
    const uint64_t before = stats.checkpoints;
    usleep(300000);
    cp_pager_stats(pager, &stats);
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

static void tracked_pins_have_owner_and_age(void **state)
{
    (void)state;
    struct cp_pager_options options = options_of(0, 0);
    struct cp_pager *pager = NULL;
    struct cp_pin pins[4];
    struct cp_fix first, second;
    options.create = options.track_pins = true;
    assert_ok(cp_pager_open(new_store(), &options, &pager));
    assert_ok(cp_pager_allocate(pager, &first));
    assert_ok(cp_pager_allocate(pager, &second));
    assert_int_equal(cp_pager_list_pins(pager, pins, 4), 2);
    assert_int_equal(pins[0].page, first.page);
    assert_int_equal(pins[1].page, second.page);
    assert_int_equal(pins[0].owner_tid, getpid());
    assert_true(pins[0].age_ns >= pins[1].age_ns);
    assert_string_equal(pins[0].path, data_path());
    cp_pager_unfix(pager, &first);
    assert_int_equal(cp_pager_list_pins(pager, pins, 1), 1);
    assert_int_equal(pins[0].page, second.page);
    cp_pager_unfix(pager, &second);
    assert_int_equal(cp_pager_list_pins(pager, pins, 4), 0);
    assert_ok(cp_pager_close(pager));
}

static void pages_outside_give_enopage_with_path_and_hint(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    uint64_t page = allocate_filled(pager, 1), bad[] = {0, 1, 31, 32, 0, UINT64_MAX};
    struct cp_fix fix;
    char byte;
    bad[4] = page + 1;
    for (unsigned i = 0; i < 6; i++) {
        assert_code(cp_pager_fix(pager, bad[i], CP_SHARED, &fix), CP_ENOPAGE);
        assert_int_equal(cp_error_info()->page, bad[i]);
        assert_string_equal(cp_error_info()->path, data_path());
        assert_true(cp_error_info()->hint[0] != '\0');
        assert_code(cp_pager_fix_new(pager, bad[i], &fix), CP_ENOPAGE);
        assert_code(cp_pager_read(pager, bad[i], 0, &byte, 1), CP_ENOPAGE);
        assert_code(cp_pager_free(pager, bad[i], 1), CP_ENOPAGE);
        assert_int_equal(cp_pager_is_allocated(pager, bad[i]), 0);
    }
    assert_code(cp_pager_read(pager, page, 4064, &byte, 1), -EINVAL);
    assert_code(cp_pager_read(pager, page, UINT32_MAX, &byte, 2), -EINVAL);
    assert_ok(cp_pager_read(pager, page, 4063, &byte, 1));
    assert_ok(cp_pager_close(pager));
}

static void many_at_a_time_read_the_same_as_one(void **state)
{
    (void)state;
    enum { COUNT = 64 };
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    uint64_t pages[COUNT], twice[2], version;
    struct cp_fix fixes[COUNT];
    struct cp_ticket tickets[COUNT], *waiting[COUNT];
    for (unsigned i = 0; i < COUNT; i++)
        pages[i] = allocate_filled(pager, i);
    assert_ok(cp_pager_close(pager));
    pager = open_store(store_path());
    assert_true(cp_pager_prefetch(pager, pages, COUNT / 2) >= 0);
    assert_ok(cp_pager_fix_many(pager, pages, COUNT, CP_SHARED, fixes));
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(fixes[i].page, pages[i]);
        assert_true(page_is(fixes[i].data, 4064, pages[i], i));
    }
    cp_pager_unfix_many(pager, fixes, COUNT);
    assert_ok(cp_pager_begin(pager, pages, COUNT, CP_EXCLUSIVE, tickets));
    for (unsigned i = 0; i < COUNT; i++) {
        (void)cp_pager_poll(pager, &tickets[i]);
        if (i % 3 == 0) {
            cp_pager_cancel(pager, &tickets[i]);
            continue;
        }
        assert_ok(cp_pager_wait(pager, &tickets[i]));
        assert_true(page_is(tickets[i].fix.data, 4064, pages[i], i));
        cp_pager_unfix(pager, &tickets[i].fix);
    }
    assert_ok(cp_pager_begin(pager, pages, COUNT, CP_SHARED, tickets));
    for (unsigned i = 0; i < COUNT; i++)
        waiting[i] = &tickets[i];
    for (unsigned left = COUNT; left > 0;) {
        unsigned ready = cp_pager_wait_some(pager, waiting, left);
        assert_true(ready > 0 && ready <= left);
        for (unsigned i = 0; i < ready; i++) {
            assert_ok(cp_pager_wait(pager, waiting[i]));
            cp_pager_unfix(pager, &waiting[i]->fix);
        }
        left -= ready;
        memmove(waiting, waiting + ready, left * sizeof *waiting);
    }
    twice[0] = twice[1] = pages[3];
    assert_code(cp_pager_fix_many(pager, twice, 2, CP_EXCLUSIVE, fixes), -EINVAL);
    assert_ok(cp_pager_fix_many(pager, twice, 2, CP_SHARED, fixes));
    cp_pager_unfix_many(pager, fixes, 2);
    twice[1] = UINT64_MAX;
    assert_code(cp_pager_fix_many(pager, twice, 2, CP_SHARED, fixes), CP_ENOPAGE);
    assert_ok(cp_pager_read(pager, pages[5], 8, &version, 8));
    assert_true((cp_pager_page_map(pager) != NULL) == (test_engine == CP_ENGINE_POOL));
    assert_ok(cp_pager_close(pager));
}

static void write_page(struct cp_pager *pager, uint64_t page, uint64_t version)
{
    struct cp_fix fix;
    assert_ok(cp_pager_fix_new(pager, page, &fix));
    fill_page(fix.data, cp_pager_payload_size(pager), page, version);
    cp_pager_unfix(pager, &fix);
}

/* In order, changed pages as they are in memory, and none of the pager's own in between. */
/* A mode that was never set is told, and leaves the page as it was. */
static void fix_in_a_mode_that_is_none_gives_einval(void **state)
{
    (void)state;
    const enum cp_latch_mode modes[] = {(enum cp_latch_mode)0, (enum cp_latch_mode)3};
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    const uint64_t pages[2] = {allocate_filled(pager, 1), allocate_filled(pager, 1)};
    for (unsigned i = 0; i < 2; i++) {
        struct cp_ticket tickets[2];
        struct cp_fix fixes[2];
        struct cp_mtr *mtr;
        void *data = &mtr;
        assert_code(cp_pager_fix(pager, pages[0], modes[i], &fixes[0]), -EINVAL);
        assert_code(cp_pager_fix_many(pager, pages, 2, modes[i], fixes), -EINVAL);
        assert_code(cp_pager_begin(pager, pages, 2, modes[i], tickets), -EINVAL);
        assert_ok(cp_mtr_begin(pager, &mtr));
        assert_code(cp_mtr_fix(mtr, pages[0], modes[i], &data), -EINVAL);
        assert_ptr_equal(data, &mtr);
        assert_ok(cp_mtr_fix(mtr, pages[0], CP_SHARED, &data));
        assert_code(cp_mtr_fix(mtr, pages[0], modes[i], &data), -EINVAL);
        cp_mtr_abort(mtr);
        assert_ok(cp_pager_fix_many(pager, pages, 2, CP_EXCLUSIVE, fixes));
        cp_pager_unfix_many(pager, fixes, 2);
    }
    assert_ok(cp_pager_close(pager));
}

/* As often as it may be held, but not one time more. */
static void one_page_many_times_over_is_given_up(void **state)
{
    (void)state;
    static uint64_t pages[CP_BUFPOOL_FIX_MANY_MAX];
    static struct cp_fix fixes[CP_BUFPOOL_FIX_MANY_MAX];
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    const uint64_t page = allocate_filled(pager, 1);
    for (unsigned i = 0; i < CP_BUFPOOL_FIX_MANY_MAX; i++)
        pages[i] = page;
    assert_ok(cp_pager_fix_many(pager, pages, CP_LATCH_SHARED_MAX, CP_SHARED, fixes));
    cp_pager_unfix_many(pager, fixes, CP_LATCH_SHARED_MAX);
    assert_code(cp_pager_fix_many(pager, pages, CP_BUFPOOL_FIX_MANY_MAX, CP_SHARED, fixes),
                CP_ETIMEDOUT);
    assert_ok(cp_pager_fix(pager, page, CP_EXCLUSIVE, &fixes[0])); /* nothing is held */
    cp_pager_unfix(pager, &fixes[0]);
    assert_ok(cp_pager_close(pager));
}

static void scan_gives_the_callers_pages_in_order(void **state)
{
    (void)state;
    enum { BEFORE = 40, BEHIND = 200 };
    struct cp_pager *pager = create_store(new_store(), 0, UINT64_C(2) << 20);
    struct cp_scan scan;
    struct cp_fix fix;
    uint64_t first, behind;
    assert_ok(cp_pager_allocate_run(pager, 32511, &first)); /* up to the next page of the map */
    assert_ok(cp_pager_allocate_run(pager, BEHIND + 10, &behind));
    uint64_t own = behind - 1;
    assert_int_equal(own, first + 32511);
    for (uint64_t page = own - BEFORE; page < own + BEHIND; page++) {
        if (page != own)
            write_page(pager, page, 1);
    }
    assert_ok(cp_pager_close(pager));
    pager = open_store(store_path());
    write_page(pager, own - 2, 2);
    assert_ok(cp_pager_scan_begin(pager, own - BEFORE, BEFORE + BEHIND, &scan));
    for (uint64_t page = own - BEFORE; page < own + BEHIND; page++) {
        if (page == own)
            continue;
        assert_int_equal(cp_pager_scan_next(pager, &scan, &fix), 1);
        assert_int_equal(fix.page, page);
        assert_true(page_is(fix.data, 4064, page, page == own - 2 ? 2 : 1));
        cp_pager_unfix(pager, &fix);
    }
    assert_int_equal(cp_pager_scan_next(pager, &scan, &fix), 0);

    uint64_t end = cp_pager_page_count(pager); /* no further than the store reaches */
    assert_ok(cp_pager_scan_begin(pager, own + BEHIND - 1, UINT64_MAX, &scan));
    assert_int_equal(scan.end, end);
    assert_int_equal(cp_pager_scan_next(pager, &scan, &fix), 1);
    cp_pager_unfix(pager, &fix);
    assert_code(cp_pager_scan_next(pager, &scan, &fix), CP_EUNWRITTEN);
    assert_int_equal(cp_error_info()->page, own + BEHIND);
    assert_ok(cp_pager_scan_begin(pager, UINT64_MAX, UINT64_MAX, &scan));
    assert_int_equal(cp_pager_scan_next(pager, &scan, &fix), 0);
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

static void resize_keeps_the_pages_and_the_limit(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, UINT64_C(2) << 20);
    struct cp_pager_stats stats;
    uint64_t first = cp_pager_first_page(pager);
    for (unsigned i = 0; i < 400; i++)
        allocate_filled(pager, i);
    assert_ok(cp_pager_resize(pager, UINT64_C(1) << 20));
    cp_pager_stats(pager, &stats);
    assert_true(stats.pool.used_bytes <= UINT64_C(1) << 20);
    for (unsigned i = 0; i < 400; i++)
        assert_true(check_page(pager, first + i, i));
    assert_ok(cp_pager_resize(pager, UINT64_C(6) << 20));
    for (unsigned i = 0; i < 400; i++)
        update_page(pager, first + i, i + 1);
    assert_code(cp_pager_resize(pager, UINT64_C(1) << 40), CP_EBUDGET);
    assert_code(cp_pager_resize(pager, 4096), CP_EBUDGET);
    assert_ok(cp_pager_close(pager));
    pager = open_store(store_path());
    for (unsigned i = 0; i < 400; i++)
        assert_true(check_page(pager, first + i, i + 1));
    assert_ok(cp_pager_close(pager));
}

static void exclusive_fix_without_mark_changes_nothing(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    uint64_t page = allocate_filled(pager, 1);
    struct cp_fix fix;
    struct cp_pager_stats stats;
    assert_ok(cp_pager_sync(pager));
    assert_ok(cp_pager_fix(pager, page, CP_EXCLUSIVE, &fix));
    cp_pager_unfix(pager, &fix);
    assert_null(fix.data);
    cp_pager_stats(pager, &stats);
    assert_int_equal(stats.pool.pages_dirty, 0);
    assert_int_equal(stats.private_pages, 0);
    assert_true(check_page(pager, page, 1));
    assert_ok(cp_pager_close(pager));
}

static void first_change_says_unclean_on_disk_at_once(void **state)
{
    (void)state;
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    unsigned char slots[2][16];
    uint64_t page = allocate_filled(pager, 1);
    (void)page;
    read_file(data_path(), 0, slots[0], 16);
    read_file(data_path(), 65536, slots[1], 16);
    assert_int_equal(slots[0][12] + slots[1][12], 1); /* flags: one of them says unclean */
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
        cmocka_unit_test(open_missing_gives_enoent),
        cmocka_unit_test(create_makes_private_files_and_no_leftovers),
        cmocka_unit_test(create_exclusive_twice_gives_eexist),
        cmocka_unit_test(create_in_empty_directory_works_in_a_full_one_not),
        cmocka_unit_test(create_beside_a_log_that_is_not_its_own_gives_enotempty),
        cmocka_unit_test(create_after_a_creation_that_was_killed_works),
        cmocka_unit_test(create_without_parent_fails_cleanly),
        cmocka_unit_test(open_bad_options_give_einval),
        cmocka_unit_test(open_with_other_page_size_gives_einval),
        cmocka_unit_test(open_twice_gives_elocked_naming_the_holder),
        cmocka_unit_test(forked_child_is_refused),
        cmocka_unit_test(forked_child_gets_no_page_by_ticket),
        cmocka_unit_test(forked_child_looks_without_locks),
        cmocka_unit_test(backup_is_over_though_a_child_lives_on),
        cmocka_unit_test(inspect_names_no_process_that_has_ended),
        cmocka_unit_test(read_only_readers_share_and_writers_wait),
        cmocka_unit_test(pages_survive_reopening_at_every_page_size),
        cmocka_unit_test(abandon_drops_what_was_not_synced_and_says_unclean),
        cmocka_unit_test(opening_and_closing_writes_nothing),
        cmocka_unit_test(close_with_a_fixed_page_gives_epinned_and_stays_open),
        cmocka_unit_test(close_of_a_read_only_store_with_a_fixed_page_starts_no_thread),
        cmocka_unit_test(close_beside_a_checkpoint_that_waits_gives_epinned),
        cmocka_unit_test(close_with_an_open_mini_transaction_gives_epinned),
        cmocka_unit_test(create_with_a_bad_option_leaves_nothing),
        cmocka_unit_test(stats_of_a_read_only_store_have_all_texts),
        cmocka_unit_test(tracked_pins_have_owner_and_age),
        cmocka_unit_test(pages_outside_give_enopage_with_path_and_hint),
        cmocka_unit_test(many_at_a_time_read_the_same_as_one),
        cmocka_unit_test(fix_in_a_mode_that_is_none_gives_einval),
        cmocka_unit_test(one_page_many_times_over_is_given_up),
        cmocka_unit_test(scan_gives_the_callers_pages_in_order),
        cmocka_unit_test(close_right_after_prefetch_is_not_pinned),
        cmocka_unit_test(resize_keeps_the_pages_and_the_limit),
        cmocka_unit_test(exclusive_fix_without_mark_changes_nothing),
        cmocka_unit_test(first_change_says_unclean_on_disk_at_once),
        cmocka_unit_test(store_of_a_host_that_locks_its_memory_locks_little),
        cmocka_unit_test(open_under_a_limit_on_memory_names_it),
    };
    int failed = RUN_ENGINE(CP_ENGINE_POOL, tests);
    return failed + RUN_ENGINE(CP_ENGINE_MMAP, tests);
}
