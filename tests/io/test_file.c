/* SPDX-License-Identifier: MIT */
/* Files: opening, O_DIRECT and its reasons, sizes, synchronous transfers, errors in words. */
#include "helpers.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

static void file_missing_reports_path_and_hint(void **state)
{
    struct cp_io *io;
    struct cp_io_file *file = NULL;
    (void)state;
    assert_int_equal(cp_io_create(NULL, &io), 0);
    assert_int_equal(cp_io_file_open(io, "no-such-file", NULL, &file), -ENOENT);
    assert_null(file);
    assert_string_equal(cp_error_info()->path, "no-such-file");
    assert_true(cp_error_info()->hint[0] != '\0');
    cp_io_destroy(io);
}

static void file_exclusive_refuses_existing(void **state)
{
    struct subject s;
    struct cp_io_file *second;
    struct stat facts;
    struct cp_io_file_options options = {.create = true, .exclusive = true};
    (void)state;
    open_subject(&s, SYNC, 1);
    assert_int_equal(stat(s.path, &facts), 0);
    assert_int_equal(facts.st_mode & 07777, 0600);
    assert_int_equal(cp_io_file_open(s.io, s.path, &options, &second), -EEXIST);
    assert_int_equal(cp_io_unlink(s.io, s.path), 0);
    assert_int_equal(cp_io_file_open(s.io, s.path, &options, &second), 0);
    assert_int_equal(cp_io_file_close(second), 0);
    close_subject(&s);
}

/* Opening must not wait, nor take a device for a file. */
static void file_regular_refuses_other_kinds(void **state)
{
    struct subject s;
    struct cp_io_file *file = NULL;
    const struct cp_io_file_options read_only = {.read_only = true, .regular = true};
    const struct cp_io_file_options create = {.create = true, .regular = true};
    char path[64];
    (void)state;
    open_subject(&s, SYNC, 1);
    snprintf(path, sizeof path, "io-test-%d.odd", (int)getpid());
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(cp_io_file_open(s.io, path, &read_only, &file), CP_EFORMAT);
    assert_string_equal(cp_error_info()->path, path);
    assert_non_null(strstr(cp_error_info()->what, "fifo"));
    assert_int_equal(cp_io_file_open(s.io, path, &create, &file), CP_EFORMAT);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(cp_io_file_open(s.io, "/dev/null", &read_only, &file), CP_EFORMAT);
    assert_int_equal(cp_io_file_open(s.io, "/", &read_only, &file), CP_EFORMAT);
    assert_null(file);
    assert_int_equal(cp_io_file_open(s.io, path, &read_only, &file), -ENOENT);
    assert_int_equal(cp_io_file_open(s.io, path, &create, &file), 0);
    assert_int_equal(cp_io_file_close(file), 0);
    assert_int_equal(unlink(path), 0);
    close_subject(&s);
}

static void file_direct_on_disk_is_visible(void **state)
{
    struct subject s;
    struct cp_io_file_info info;
    (void)state;
    open_subject(&s, SYNC, 1);
    cp_io_file_info(s.file, &info);
    print_message("here: direct %d (%s), memory %u, offset %u, atomic %u\n", info.direct,
                  info.direct_reason, info.memory_align_bytes, info.offset_align_bytes,
                  info.atomic_write_max_bytes);
    bool direct = info.direct;
    bool in_force = (fcntl(info.fd, F_GETFL) & O_DIRECT) != 0;
    close_subject(&s);
    if (!direct)
        skip(); /* the reason is printed above */
    assert_true(in_force);
    assert_true(info.offset_align_bytes >= 512 && PAGE % info.offset_align_bytes == 0);
}

static void file_block_below_alignment_is_buffered(void **state)
{
    struct subject s;
    struct cp_io_file *file;
    struct cp_io_file_info info;
    struct cp_io_file_options options = {.block_bytes = 100};
    (void)state;
    open_subject(&s, SYNC, 1);
    cp_io_file_info(s.file, &info);
    bool direct = info.direct;
    assert_int_equal(cp_io_file_open(s.io, s.path, &options, &file), 0);
    cp_io_file_info(file, &info);
    assert_false(info.direct);
    if (direct)
        assert_non_null(strstr(info.direct_reason, "does not divide"));
    assert_int_equal(info.memory_align_bytes, 1);
    assert_int_equal(cp_io_file_close(file), 0);
    options.caching = CP_IO_DIRECT;
    assert_int_equal(cp_io_file_open(s.io, s.path, &options, &file), -EINVAL);
    options = (struct cp_io_file_options){.block_bytes = 65536};
    assert_int_equal(cp_io_file_open(s.io, s.path, &options, &file), 0);
    cp_io_file_info(file, &info);
    assert_int_equal(info.direct, direct);
    assert_int_equal(cp_io_file_close(file), 0);
    close_subject(&s);
}

static void file_on_tmpfs_is_buffered_with_reason(void **state)
{
    struct cp_io *io;
    struct cp_io_file *file;
    struct cp_io_file_info info;
    struct cp_io_file_options options = {.create = true};
    char path[64];
    char text[100] = "a text of no particular length";
    (void)state;
    snprintf(path, sizeof path, "/dev/shm/clockpool-io-test-%d", (int)getpid());
    assert_int_equal(cp_io_create(NULL, &io), 0);
    if (cp_io_file_open(io, path, &options, &file) != 0) {
        print_message("/dev/shm is not writable here\n");
        cp_io_destroy(io);
        skip();
    }
    cp_io_file_info(file, &info);
    assert_false(info.direct);
    assert_non_null(strstr(info.direct_reason, "tmpfs"));
    assert_int_equal(cp_io_write(file, text, sizeof text, 7), 0);
    memset(text, 0, sizeof text);
    assert_int_equal(cp_io_read(file, text, sizeof text, 7), 0);
    assert_string_equal(text, "a text of no particular length");
    assert_int_equal(cp_io_file_close(file), 0);
    options.caching = CP_IO_DIRECT;
    assert_int_equal(cp_io_file_open(io, path, &options, &file), -EINVAL);
    assert_int_equal(cp_io_unlink(io, path), 0);
    cp_io_destroy(io);
}

static void file_refusing_direct_falls_back(void **state)
{
    struct fault_io *faults = fault_io_create(cp_io_backend_sync(), FAULT_RING_AS_WRAPPED);
    struct cp_io_options io_options = {.backend = fault_io_backend(faults), .backend_ctx = faults};
    struct cp_io_file_options options = {.create = true};
    struct subject s;
    struct cp_io *io;
    struct cp_io_file *file;
    struct cp_io_file_info info;
    (void)state;
    open_subject(&s, SYNC, 1);
    cp_io_file_info(s.file, &info);
    bool direct = info.direct;
    assert_int_equal(cp_io_create(&io_options, &io), 0);
    fault_io_rule(faults, &(struct fault_rule){.on = FAULT_OPEN, .nth = 2, .code = -EINVAL});
    assert_int_equal(cp_io_file_open(io, s.path, &options, &file), 0);
    cp_io_file_info(file, &info);
    assert_false(info.direct);
    if (direct)
        assert_non_null(strstr(info.direct_reason, "EINVAL"));
    assert_int_equal(cp_io_file_close(file), 0);
    cp_io_destroy(io);
    fault_io_destroy(faults);
    close_subject(&s);
}

static void file_read_past_end_is_nodata(void **state)
{
    struct subject s;
    (void)state;
    open_subject(&s, SYNC, 3);
    char *page = aligned_alloc(PAGE, 2 * PAGE);
    assert_int_equal(cp_io_read(s.file, page, PAGE, 3 * PAGE), -ENODATA);
    assert_int_equal(cp_io_read(s.file, page, 2 * PAGE, 2 * PAGE), -ENODATA);
    assert_string_equal(cp_error_info()->path, s.path);
    /* An end that is no multiple of the alignment: the read comes back short in the last sector. */
    assert_int_equal(cp_io_file_resize(s.file, 2 * PAGE + 700), 0);
    assert_int_equal(cp_io_read(s.file, page, PAGE, 2 * PAGE), -ENODATA);
    assert_int_equal(cp_io_read(s.file, page, PAGE, PAGE), 0);
    assert_true(page_holds(page, 1));
    free(page);
    close_subject(&s);
}

static void file_allocate_keeps_content_and_reaches_end(void **state)
{
    struct subject s;
    uint64_t size_bytes;
    (void)state;
    /* With fallocate, and with a file system that has none. */
    for (int refused = 0; refused < 2; refused++) {
        open_subject(&s, DEFERRED, 3);
        char *page = aligned_alloc(PAGE, PAGE);
        if (refused)
            fault_io_rule(s.faults, &(struct fault_rule){.on = FAULT_ALLOCATE,
                                                         .nth = 1,
                                                         .times = UINT64_MAX,
                                                         .code = -EOPNOTSUPP});
        assert_int_equal(cp_io_file_allocate(s.file, PAGE, (UINT64_C(5) << 20) + 3 * PAGE), 0);
        assert_int_equal(cp_io_file_size(s.file, &size_bytes), 0);
        assert_int_equal(size_bytes, (UINT64_C(5) << 20) + 4 * PAGE);
        for (uint32_t i = 0; i < 3; i++) {
            assert_int_equal(cp_io_read(s.file, page, PAGE, i * PAGE), 0);
            assert_true(page_holds(page, i));
        }
        assert_int_equal(cp_io_read(s.file, page, PAGE, size_bytes - PAGE), 0);
        assert_true(page_holds(page, 0));
        assert_int_equal(cp_io_file_allocate(s.file, 0, PAGE), 0);
        assert_int_equal(cp_io_file_size(s.file, &size_bytes), 0);
        assert_int_equal(size_bytes, (UINT64_C(5) << 20) + 4 * PAGE);
        assert_int_equal(cp_io_file_allocate(s.file, UINT64_MAX - 5, PAGE), -EFBIG);
        free(page);
        close_subject(&s);
    }
}

/* The old end lies within the last block: there is no block to be written, but some way to go. */
static void file_allocate_reaches_an_end_in_the_same_block(void **state)
{
    struct subject s;
    struct cp_io_file_info info;
    uint64_t size_bytes;
    (void)state;
    open_subject(&s, DEFERRED, 3);
    cp_io_file_info(s.file, &info);
    uint64_t end_bytes = 2 * (uint64_t)info.offset_align_bytes;
    if (!info.direct) {
        print_message("no O_DIRECT here: %s\n", info.direct_reason);
        close_subject(&s);
        skip();
    }
    fault_io_rule(s.faults,
                  &(struct fault_rule){
                      .on = FAULT_ALLOCATE, .nth = 1, .times = UINT64_MAX, .code = -EOPNOTSUPP});
    assert_int_equal(cp_io_file_resize(s.file, end_bytes - 192), 0);
    assert_int_equal(cp_io_file_allocate(s.file, 0, end_bytes), 0);
    assert_int_equal(cp_io_file_size(s.file, &size_bytes), 0);
    assert_int_equal(size_bytes, end_bytes);
    assert_int_equal(cp_io_file_resize(s.file, end_bytes - 192), 0);
    assert_int_equal(cp_io_file_allocate(s.file, 0, end_bytes + 100), 0);
    assert_int_equal(cp_io_file_size(s.file, &size_bytes), 0);
    assert_int_equal(size_bytes, end_bytes + 100);
    close_subject(&s);
}

static void file_allocate_without_space_leaves_size(void **state)
{
    struct subject s;
    uint64_t size_bytes;
    (void)state;
    open_subject(&s, DEFERRED, 3);
    /* The worst case: the file system extends the file and then says no. */
    fault_io_rule(s.faults,
                  &(struct fault_rule){
                      .on = FAULT_ALLOCATE, .nth = 1, .effect = FAULT_AFTER, .code = -ENOSPC});
    assert_int_equal(cp_io_file_allocate(s.file, 0, 100 * PAGE), -ENOSPC);
    assert_non_null(strstr(cp_error_info()->hint, "space"));
    assert_int_equal(cp_io_file_size(s.file, &size_bytes), 0);
    assert_int_equal(size_bytes, 3 * PAGE);
    /* Zeros run out of space half-way. */
    fault_io_reset(s.faults);
    fault_io_rule(s.faults,
                  &(struct fault_rule){.on = FAULT_ALLOCATE, .nth = 1, .code = -EOPNOTSUPP});
    fault_io_rule(s.faults, &(struct fault_rule){.on = FAULT_WRITE, .nth = 3, .code = -ENOSPC});
    assert_int_equal(cp_io_file_allocate(s.file, 0, UINT64_C(8) << 20), -ENOSPC);
    assert_int_equal(cp_io_file_size(s.file, &size_bytes), 0);
    assert_int_equal(size_bytes, 3 * PAGE);
    close_subject(&s);
}

static void file_paths_can_be_made_renamed_removed(void **state)
{
    struct cp_io *io;
    struct cp_io_file *file;
    struct cp_io_file_options options = {.create = true};
    char dir[64], from[80], to[80];
    (void)state;
    snprintf(dir, sizeof dir, "io-test-dir-%d", (int)getpid());
    snprintf(from, sizeof from, "%s/a", dir);
    snprintf(to, sizeof to, "%s/b", dir);
    assert_int_equal(cp_io_create(NULL, &io), 0);
    assert_int_equal(cp_io_mkdir(io, dir, 0700), 0);
    assert_int_equal(cp_io_mkdir(io, dir, 0700), -EEXIST);
    assert_int_equal(cp_io_file_open(io, from, &options, &file), 0);
    assert_int_equal(cp_io_file_sync(file), 0);
    assert_int_equal(cp_io_file_close(file), 0);
    assert_int_equal(cp_io_rename(io, from, to), 0);
    assert_int_equal(cp_io_rename(io, from, to), -ENOENT);
    assert_int_equal(cp_io_directory_sync(io, dir), 0);
    assert_int_equal(cp_io_directory_sync(io, from), -ENOENT);
    assert_int_equal(cp_io_unlink(io, to), 0);
    assert_int_equal(cp_io_unlink(io, to), -ENOENT);
    assert_int_equal(rmdir(dir), 0);
    cp_io_destroy(io);
}

static void file_transfers_are_counted(void **state)
{
    struct subject s;
    struct cp_io_stats stats;
    (void)state;
    open_subject(&s, SYNC, 5);
    char *page = aligned_alloc(PAGE, PAGE);
    assert_int_equal(cp_io_read(s.file, page, PAGE, 0), 0);
    assert_int_equal(cp_io_read(s.file, page, PAGE, 9 * PAGE), -ENODATA);
    assert_int_equal(cp_io_file_sync(s.file), 0);
    cp_io_stats(s.io, &stats);
    assert_string_equal(stats.backend_name, "sync");
    assert_int_equal(stats.writes, 5);
    assert_int_equal(stats.written_bytes, 5 * PAGE);
    assert_int_equal(stats.reads, 2);
    assert_int_equal(stats.read_bytes, PAGE);
    assert_int_equal(stats.syncs, 1);
    assert_int_equal(stats.errors, 1);
    free(page);
    close_subject(&s);
}

/* The soft limit on the size of files; the one before is in before, where that is not NULL. */
static void limit_files(uint64_t bytes, struct rlimit *before)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    if (before != NULL)
        *before = limit;
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* What the kernel would write in part, and then end the process by SIGXFSZ. */
static void file_limit_of_sizes_is_an_error_before_anything_is_written(void **state)
{
    struct subject s;
    struct rlimit before;
    uint64_t size;
    (void)state;
    open_subject(&s, SYNC, 5);
    char *pages = aligned_alloc(PAGE, 2 * PAGE), *found = aligned_alloc(PAGE, PAGE);
    memset(pages, 0xab, 2 * PAGE);
    limit_files(3 * PAGE + 100, &before);
    assert_int_equal(cp_io_write(s.file, pages, PAGE, 2 * PAGE), 0);
    assert_int_equal(cp_io_write(s.file, pages, 2 * PAGE, 2 * PAGE), -EFBIG);
    assert_non_null(strstr(cp_error_info()->hint, "ulimit -f"));
    assert_int_equal(cp_io_write(s.file, pages, PAGE, 9 * PAGE), -EFBIG);
    assert_int_equal(cp_io_file_allocate(s.file, 0, 6 * PAGE), -EFBIG);
    assert_int_equal(cp_io_file_resize(s.file, 6 * PAGE), -EFBIG);
    assert_int_equal(cp_io_file_allocate(s.file, 0, 5 * PAGE), 0); /* it is as large already */
    assert_int_equal(cp_io_file_size(s.file, &size), 0);
    assert_int_equal(size, 5 * PAGE);
    assert_int_equal(cp_io_read(s.file, found, PAGE, 3 * PAGE), 0);
    assert_int_equal(found[0], 3); /* not a byte of it was changed */
    assert_int_equal(cp_io_file_resize(s.file, 4 * PAGE), 0);
    limit_files(before.rlim_cur, NULL);
    assert_int_equal(cp_io_write(s.file, pages, PAGE, 9 * PAGE), 0);
    free(pages);
    free(found);
    close_subject(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(file_limit_of_sizes_is_an_error_before_anything_is_written),
        cmocka_unit_test(file_missing_reports_path_and_hint),
        cmocka_unit_test(file_exclusive_refuses_existing),
        cmocka_unit_test(file_regular_refuses_other_kinds),
        cmocka_unit_test(file_direct_on_disk_is_visible),
        cmocka_unit_test(file_block_below_alignment_is_buffered),
        cmocka_unit_test(file_on_tmpfs_is_buffered_with_reason),
        cmocka_unit_test(file_refusing_direct_falls_back),
        cmocka_unit_test(file_read_past_end_is_nodata),
        cmocka_unit_test(file_allocate_keeps_content_and_reaches_end),
        cmocka_unit_test(file_allocate_reaches_an_end_in_the_same_block),
        cmocka_unit_test(file_allocate_without_space_leaves_size),
        cmocka_unit_test(file_paths_can_be_made_renamed_removed),
        cmocka_unit_test(file_transfers_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
