/* SPDX-License-Identifier: MIT */
/* How SQLite lays the values out, by the size of its file. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "engine.h"
#include "scratch.h"

#define PAGES     UINT64_C(400)
#define LOG_BYTES (UINT64_C(64) << 20) /* what disk_bytes has for the log */

static int report(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx, (void)done, (void)total;
    return 0;
}

/* Make a data set of such pages. The file's size, and that of its own pages, which its header has
 * at 16: big-endian, and 1 for 65536. */
static uint64_t make(uint32_t page_size, uint32_t *out_file_page)
{
    const struct bench_progress_sink sink = {report, NULL};
    struct bench_data data = {.page_count = PAGES, .page_size = page_size, .seed = 1};
    struct bench_error error = {""};
    char path[PATH_MAX + 16];
    unsigned char bytes[2];
    struct stat info;
    snprintf(data.directory, sizeof data.directory, "sqlite-XXXXXX");
    assert_non_null(mkdtemp(data.directory));
    assert_int_equal(bench_engine_sqlite.create(&data, &sink, &error), 0);
    snprintf(path, sizeof path, "%s/pages.db", data.directory);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && fstat(fd, &info) == 0);
    assert_int_equal(pread(fd, bytes, 2, 16), 2);
    close(fd);
    bench_remove_tree(data.directory);
    *out_file_page = bytes[0] * 256u + bytes[1];
    if (*out_file_page == 1)
        *out_file_page = 65536;
    return (uint64_t)info.st_size;
}

/* A value with an overflow page takes more than a page of the file; two in a leaf take half. */
static void create_two_values_share_a_leaf(void **state)
{
    (void)state;
    uint32_t file_page;
    if (bench_engine_sqlite.not_built != NULL)
        skip();
    for (uint32_t page_size = 4096; page_size <= 32768; page_size *= 2) {
        uint64_t size = make(page_size, &file_page);
        assert_int_equal(file_page, 2 * page_size);
        assert_in_range(size / file_page, PAGES / 2, PAGES / 2 + PAGES / 100 + 2);
    }
}

static void disk_bytes_are_enough_without_the_log(void **state)
{
    (void)state;
    uint32_t ignored;
    if (bench_engine_sqlite.not_built != NULL)
        skip();
    for (uint32_t page_size = 4096; page_size <= 65536; page_size *= 2)
        assert_in_range(make(page_size, &ignored), PAGES * page_size / 100 * 99,
                        bench_engine_sqlite.disk_bytes(PAGES, page_size) - LOG_BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(create_two_values_share_a_leaf),
        cmocka_unit_test(disk_bytes_are_enough_without_the_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
