/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "footprint.h"
#include "scratch.h"

#define FILE_BYTES (UINT32_C(300) << 12)

static char directory[PATH_MAX];

static void write_file(const char *name, const char *text, size_t size)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, size), size);
    assert_int_equal(fsync(fd), 0);
    close(fd);
}

static int setup(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "footprint-XXXXXX"); /* in the build tree: no tmpfs */
    return mkdtemp(directory) != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    bench_remove_tree(directory);
    return 0;
}

static void cached_bytes_are_those_of_all_files_until_dropped(void **state)
{
    (void)state;
    static char bytes[FILE_BYTES];
    struct bench_footprint footprint;
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/below", directory);
    assert_int_equal(mkdir(path, 0700), 0);
    write_file("one", bytes, sizeof bytes);
    write_file("below/two", bytes, 5000); /* two pages */
    write_file("empty", bytes, 0);
    bench_footprint_take("", directory, &footprint);
    assert_true(footprint.file_cached_bytes == FILE_BYTES + 2 * 4096);
    assert_true(footprint.charged_bytes == -1 && footprint.anon_bytes == -1);
    struct bench_place place;
    struct bench_error error;
    assert_int_equal(bench_place_find(directory, &place, &error), 0);
    if (place.in_memory) {
        print_message("skipped: nothing can be dropped from a %s\n", place.type);
        skip();
    }
    bench_drop_cache(directory);
    bench_footprint_take("", directory, &footprint);
    assert_true(footprint.file_cached_bytes == 0);
}

static void missing_directory_is_unknown_not_nothing(void **state)
{
    (void)state;
    struct bench_footprint footprint;
    bench_footprint_take("/nonexistent/memory.current", "/nonexistent", &footprint);
    assert_true(footprint.file_cached_bytes == -1);
    assert_true(footprint.charged_bytes == -1 && footprint.cache_bytes == -1);
}

/* Both versions of cgroups: the words of memory.stat differ. */
static void stat_of_both_versions(void **state)
{
    (void)state;
    static const char *const stats[2] = {"cache 8192\nrss 4096\nrss_huge 0\nmapped_file 1\n",
                                         "anon 4096\nfile 8192\nkernel 77\nfile_mapped 1\n"};
    for (unsigned i = 0; i < 2; i++) {
        char usage[PATH_MAX + 64];
        struct bench_footprint footprint;
        write_file("memory.stat", stats[i], strlen(stats[i]));
        write_file("usage", "16384\n", 6);
        snprintf(usage, sizeof usage, "%s/usage", directory);
        bench_footprint_take(usage, directory, &footprint);
        assert_true(footprint.charged_bytes == 16384);
        assert_true(footprint.anon_bytes == 4096 && footprint.cache_bytes == 8192);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(cached_bytes_are_those_of_all_files_until_dropped, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(missing_directory_is_unknown_not_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(stat_of_both_versions, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
