/* SPDX-License-Identifier: MIT */
/* A disk that is really full: a small tmpfs, which needs root. Unmounted whatever happens. */
#include "helpers.h"

#include <sys/mount.h>

static char mount_point[320];
static bool mounted;

static int mount_small(void **state)
{
    (void)state;
    snprintf(mount_point, sizeof mount_point, "%s", in_directory("small"));
    if (mkdir(mount_point, 0700) != 0)
        return -1;
    mounted = mount("tmpfs", mount_point, "tmpfs", 0, "size=4m") == 0;
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
    struct cp_pager *pager = create_store(store_there(), 0, UINT64_C(1) << 20);
    uint64_t first = cp_pager_first_page(pager);
    uint64_t count = fill_up(pager, 1);
    print_message("%llu pages until the disk was full\n", (unsigned long long)count);
    assert_true(count > 500);
    for (uint64_t i = 0; i < count; i++)
        assert_true(check_page(pager, first + i, 1));
    assert_ok(cp_pager_sync(pager));
    for (uint64_t i = 0; i < count; i++)
        update_page(pager, first + i, 2);
    assert_ok(cp_pager_free(pager, first + count / 2, count - count / 2));
    assert_ok(cp_pager_sync(pager));
    assert_int_equal(fill_up(pager, 2), count - count / 2);
    assert_ok(cp_pager_close(pager));
    struct cp_pager_options options = options_of(0, 0);
    assert_ok(cp_pager_open(store_there(), &options, &pager));
    for (uint64_t i = 0; i < count; i++)
        assert_true(check_page(pager, first + i, 2));
    assert_int_equal(cp_pager_check(pager, NULL, NULL, NULL), 0);
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
    assert_int_equal(posix_fallocate(fd, 0, (4 << 20) - 65536), 0);
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
        cmocka_unit_test_setup_teardown(creation_on_a_full_disk_leaves_nothing, mount_small,
                                        unmount_small),
    };
    int failed = RUN_ENGINE(CP_ENGINE_POOL, tests);
    return failed + RUN_ENGINE(CP_ENGINE_MMAP, tests);
}
