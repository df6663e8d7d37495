/* SPDX-License-Identifier: MIT */
/* A flat file of pages, and huge-page buffers. */
#include "flatfile.h"

#include <clockpool/base/bits.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_BYTES UINT64_C(2097152)

int bench_read_all(int fd, void *buffer, uint64_t size_bytes, uint64_t offset_bytes)
{
    while (size_bytes > 0) {
        ssize_t n = pread(fd, buffer, size_bytes, (off_t)offset_bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : EIO;
        buffer = (char *)buffer + n;
        size_bytes -= (uint64_t)n;
        offset_bytes += (uint64_t)n;
    }
    return 0;
}

int bench_write_all(int fd, const void *buffer, uint64_t size_bytes, uint64_t offset_bytes)
{
    while (size_bytes > 0) {
        ssize_t n = pwrite(fd, buffer, size_bytes, (off_t)offset_bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : EIO;
        buffer = (const char *)buffer + n;
        size_bytes -= (uint64_t)n;
        offset_bytes += (uint64_t)n;
    }
    return 0;
}

void *bench_huge_alloc(uint64_t size_bytes, struct bench_error *error)
{
    uint64_t size = cp_align_up(size_bytes, HUGE_BYTES);
    char *raw = mmap(NULL, size + HUGE_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (raw == MAP_FAILED) {
        bench_fail_errno(error, errno, "cannot map %" PRIu64 " bytes of memory", size);
        return NULL;
    }
    char *memory = (char *)cp_align_up((uint64_t)(uintptr_t)raw, HUGE_BYTES);
    if (memory > raw)
        munmap(raw, (size_t)(memory - raw));
    munmap(memory + size, (size_t)(raw + HUGE_BYTES - memory));
    madvise(memory, size, MADV_HUGEPAGE); /* refused: ordinary pages */
    return memory;
}

void bench_huge_free(void *memory, uint64_t size_bytes)
{
    if (memory != NULL)
        munmap(memory, cp_align_up(size_bytes, HUGE_BYTES));
}

static int data_path(const struct bench_data *data, char *path, size_t capacity,
                     struct bench_error *error)
{
    int n = snprintf(path, capacity, "%s/" BENCH_FLATFILE_NAME, data->directory);
    if (n < 0 || (size_t)n >= capacity)
        return bench_fail(error, "the path %s is too long", data->directory);
    return 0;
}

int bench_flatfile_open(const struct bench_data *data, bool *out_direct, struct bench_error *error)
{
    char path[PATH_MAX];
    if (data_path(data, path, sizeof path, error) != 0)
        return -1;
    int fd = open(path, O_RDWR | O_CLOEXEC | O_DIRECT);
    *out_direct = fd >= 0;
    if (fd < 0 && errno == EINVAL)
        fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return bench_fail_errno(error, errno, "cannot open %s", path);
    return fd;
}

static int write_pages(int fd, const struct bench_data *data, char *buffer, const char *path,
                       const struct bench_progress_sink *sink, struct bench_error *error)
{
    uint32_t pages_per_write = BENCH_TRANSFER_BYTES / data->page_size;
    uint32_t content_size = bench_content_size(data->page_size);
    for (uint64_t page = 0; page < data->page_count; page += pages_per_write) {
        uint64_t count = cp_min_u64(pages_per_write, data->page_count - page);
        for (uint64_t i = 0; i < count; i++)
            bench_content_fill(buffer + i * data->page_size, content_size, data->seed, page + i);
        int code = bench_write_all(fd, buffer, count * data->page_size, page * data->page_size);
        if (code != 0)
            return bench_fail_errno(error, code, "cannot write %s at byte %" PRIu64, path,
                                    page * data->page_size);
        if (sink->report(sink->ctx, page + count, data->page_count) != 0)
            return bench_fail(error, "interrupted");
    }
    if (fdatasync(fd) != 0)
        return bench_fail_errno(error, errno, "cannot sync %s", path);
    return 0;
}

int bench_flatfile_create(const struct bench_data *data, const struct bench_progress_sink *sink,
                          struct bench_error *error)
{
    char path[PATH_MAX];
    if (data_path(data, path, sizeof path, error) != 0)
        return -1;
    int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC;
    int fd = open(path, flags | O_DIRECT, 0600);
    if (fd < 0 && errno == EINVAL) {
        unlink(path); /* some file systems create the file before they refuse the flag */
        fd = open(path, flags, 0600);
    }
    if (fd < 0)
        return bench_fail_errno(error, errno, "cannot create %s", path);
    int result = -1;
    char *buffer = bench_huge_alloc(BENCH_TRANSFER_BYTES, error);
    if (buffer == NULL)
        goto close_file;
    /* Without preallocation each extending O_DIRECT write would update the file's metadata. */
    int code = posix_fallocate(fd, 0, (off_t)(data->page_count * data->page_size));
    if (code != 0 && code != EOPNOTSUPP && code != EINVAL) {
        bench_fail_errno(error, code, "cannot reserve %" PRIu64 " bytes for %s",
                         data->page_count * data->page_size, path);
        goto free_buffer;
    }
    result = write_pages(fd, data, buffer, path, sink, error);

free_buffer:
    bench_huge_free(buffer, BENCH_TRANSFER_BYTES);
close_file:
    close(fd);
    return result;
}
