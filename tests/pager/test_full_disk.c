/* SPDX-License-Identifier: MIT */
/* A disk that is really full: a small tmpfs, which needs root. Unmounted whatever happens. */
#include "helpers.h"

#include <sys/mount.h>

#define DISK_BYTES (UINT64_C(8) << 20)

static char mount_point[320];
static bool mounted;

static int mount_small(void **state)
{
    (void)state;
    snprintf(mount_point, sizeof mount_point, "%s", in_directory("small"));
    if (mkdir(mount_point, 0700) != 0)
        return -1;
    mounted = mount("tmpfs", mount_point, "tmpfs", 0, "size=8m") == 0;
    if (!mounted)
        print_message("no small file system: mount says %s\n", strerror(errno));
    return 0;
}

static int unmount_small(void **state)
{
    (void)state;
    if (mounted)
        umount2(mount_point, MNT_DETACH);
    mounted = false;
    rmdir(mount_point);
    return 0;
}

static const char *store_there(void)
{
    static char path[400];
    snprintf(path, sizeof path, "%s/store", mount_point);
    return path;
}

static uint64_t fill_up(struct cp_pager *pager, uint64_t version)
{
    uint64_t count = 0;
    struct cp_fix fix;
    int code;
    while ((code = cp_pager_allocate(pager, &fix)) == 0) {
        fill_page(fix.data, 4064, fix.page, version);
        cp_pager_unfix(pager, &fix);
        count++;
        assert_true(count < 2000);
    }
    assert_code(code, -ENOSPC);
    assert_true(cp_error_info()->hint[0] != '\0');
    return count;
}

static void full_disk_is_an_error_code_and_nothing_is_lost(void **state)
{
    (void)state;
    if (!mounted) {
        print_message("skipped: cannot mount\n");
        skip();
    }
    char reserve[400];
    snprintf(reserve, sizeof reserve, "%s/reserve", mount_point);
    int fd = open(reserve, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(posix_fallocate(fd, 0, 3 << 20), 0);
    close(fd);
    struct cp_pager *pager = create_store(store_there(), 0, UINT64_C(1) << 20);
    uint64_t first = cp_pager_first_page(pager);
    uint64_t count = fill_up(pager, 1);
    print_message("%llu pages until the disk was full\n", (unsigned long long)count);
    assert_true(count > 400);
    for (uint64_t i = 0; i < count; i++)
        assert_true(check_page(pager, first + i, 1));
    int code = cp_pager_sync(pager); /* the map's image may or may not find room in the log */
    assert_true(code == 0 || code == -ENOSPC);
    assert_int_equal(unlink(reserve), 0);
    assert_ok(cp_pager_sync(pager));
    assert_ok(cp_pager_free(pager, first + count / 2, count - count / 2));
    assert_ok(cp_pager_sync(pager)); /* gives the end of the file back */
    for (uint64_t i = 0; i < 100; i++)
        update_page(pager, first + i, 2);
    assert_ok(cp_pager_sync(pager));
    assert_ok(cp_pager_close(pager));
    struct cp_pager_options options = options_of(0, 0);
    assert_ok(cp_pager_open(store_there(), &options, &pager));
    for (uint64_t i = 0; i < count; i++)
        assert_true(i >= 100 && i < count / 2 ? check_page(pager, first + i, 1)
                    : i < 100                 ? check_page(pager, first + i, 2)
                                              : true);
    assert_int_equal(cp_pager_check(pager, NULL, NULL, NULL), 0);
    assert_ok(cp_pager_close(pager));
}

/* With no room for the log nothing can be changed, nothing is lost, and room is all it takes. */
static void commit_on_a_full_disk_changes_nothing(void **state)
{
    (void)state;
    if (!mounted) {
        print_message("skipped: cannot mount\n");
        skip();
    }
    char ballast[400];
    struct cp_pager *pager = create_store(store_there(), 0, UINT64_C(1) << 20);
    uint64_t pages[64];
    for (unsigned i = 0; i < 64; i++)
        pages[i] = allocate_filled(pager, 1);
    assert_ok(cp_pager_sync(pager));
    snprintf(ballast, sizeof ballast, "%s/ballast", mount_point);
    int fd = open(ballast, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    uint64_t size = DISK_BYTES;
    while (size >= 4096) {
        struct stat info;
        assert_int_equal(fstat(fd, &info), 0);
        if (posix_fallocate(fd, info.st_size, (off_t)size) != 0)
            size /= 2;
    }
    close(fd);
    int code = 0;
    unsigned done = 0;
    for (uint64_t version = 2; code == 0; version++) {
        struct cp_mtr *mtr;
        void *data;
        assert_true(version < 100);
        assert_ok(cp_mtr_begin(pager, &mtr));
        for (unsigned i = 0; i < 16; i++) {
            assert_ok(cp_mtr_fix(mtr, pages[i], CP_EXCLUSIVE, &data));
            fill_page(data, 4064, pages[i], version);
        }
        code = cp_mtr_commit(mtr, CP_COMMIT_DURABLE, NULL);
        done += code == 0;
    }
    assert_code(code, -ENOSPC);
    assert_true(cp_error_info()->hint[0] != '\0');
    code = 0;
    for (unsigned i = 0; code == 0; i++) { /* nor does a new page take the place of one */
        struct cp_fix fix;
        assert_true(i < 1000000);
        code = cp_pager_fix_new(pager, pages[32 + i % 32], &fix);
        if (code == 0) {
            fill_page(fix.data, 4064, fix.page, 1);
            cp_pager_unfix(pager, &fix);
        }
    }
    assert_code(code, -ENOSPC);
    for (unsigned i = 0; i < 64; i++)
        assert_true(check_page(pager, pages[i], i < 16 ? done + 1 : 1));
    assert_int_equal(unlink(ballast), 0);
    update_page(pager, pages[20], 7);
    assert_ok(cp_pager_close(pager));
    struct cp_pager_options options = options_of(0, 0);
    assert_ok(cp_pager_open(store_there(), &options, &pager));
    for (unsigned i = 0; i < 64; i++)
        assert_true(check_page(pager, pages[i], i < 16 ? done + 1 : i == 20 ? 7 : 1));
    assert_ok(cp_pager_close(pager));
}

static void creation_on_a_full_disk_leaves_nothing(void **state)
{
    (void)state;
    if (!mounted) {
        print_message("skipped: cannot mount\n");
        skip();
    }
    char path[400];
    snprintf(path, sizeof path, "%s/ballast", mount_point);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(posix_fallocate(fd, 0, (off_t)DISK_BYTES - 65536), 0);
    close(fd);
    struct cp_pager_options options = options_of(0, 0);
    struct cp_pager *pager;
    options.create = true;
    assert_code(cp_pager_open(store_there(), &options, &pager), -ENOSPC);
    assert_int_equal(count_entries(mount_point), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(full_disk_is_an_error_code_and_nothing_is_lost, mount_small,
                                        unmount_small),
        cmocka_unit_test_setup_teardown(commit_on_a_full_disk_changes_nothing, mount_small,
                                        unmount_small),
        cmocka_unit_test_setup_teardown(creation_on_a_full_disk_leaves_nothing, mount_small,
                                        unmount_small),
    };
    int failed = RUN_ENGINE(CP_ENGINE_POOL, tests);
    return failed + RUN_ENGINE(CP_ENGINE_MMAP, tests);
}
