/* SPDX-License-Identifier: MIT */
/* Life of a store: creation, opening, locks, sizes, what survives closing. */
#include "helpers.h"
#include "support/child.h"

#include <signal.h>
#include <sys/wait.h>

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
        cmocka_unit_test(open_with_other_page_size_gives_einval),
        cmocka_unit_test(open_twice_gives_elocked_naming_the_holder),
        cmocka_unit_test(backup_is_over_though_a_child_lives_on),
        cmocka_unit_test(inspect_names_no_process_that_has_ended),
        cmocka_unit_test(read_only_readers_share_and_writers_wait),
        cmocka_unit_test(pages_survive_reopening_at_every_page_size),
        cmocka_unit_test(abandon_drops_what_was_not_synced_and_says_unclean),
        cmocka_unit_test(opening_and_closing_writes_nothing),
        cmocka_unit_test(first_change_says_unclean_on_disk_at_once),
    };
    int failed = RUN_ENGINE(CP_ENGINE_POOL, tests);
    return failed + RUN_ENGINE(CP_ENGINE_MMAP, tests);
}
