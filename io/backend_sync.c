/* SPDX-License-Identifier: MIT */
/*
 * The raw operations by POSIX calls. Nothing is retried or resumed here: that is the front end's.
 */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int cp_io__posix_open(void *ctx, const char *path, int flags, uint32_t mode)
{
    (void)ctx;
    int fd = open(path, flags | O_CLOEXEC, (mode_t)mode);
    return fd >= 0 ? fd : -errno;
}

int cp_io__posix_close(void *ctx, int fd)
{
    (void)ctx;
    return close(fd) == 0 ? 0 : -errno;
}

ssize_t cp_io__posix_readv(void *ctx, int fd, const struct iovec *iov, int iov_count,
                           uint64_t offset)
{
    (void)ctx;
    ssize_t bytes = iov_count == 1 ? pread(fd, iov->iov_base, iov->iov_len, (off_t)offset)
                                   : preadv(fd, iov, iov_count, (off_t)offset);
    return bytes >= 0 ? bytes : -errno;
}

ssize_t cp_io__posix_writev(void *ctx, int fd, const struct iovec *iov, int iov_count,
                            uint64_t offset)
{
    (void)ctx;
    ssize_t bytes = iov_count == 1 ? pwrite(fd, iov->iov_base, iov->iov_len, (off_t)offset)
                                   : pwritev(fd, iov, iov_count, (off_t)offset);
    return bytes >= 0 ? bytes : -errno;
}

int cp_io__posix_sync(void *ctx, int fd)
{
    (void)ctx;
    return fdatasync(fd) == 0 ? 0 : -errno;
}

int cp_io__posix_resize(void *ctx, int fd, uint64_t size_bytes)
{
    (void)ctx;
    return ftruncate(fd, (off_t)size_bytes) == 0 ? 0 : -errno;
}

int cp_io__posix_allocate(void *ctx, int fd, uint64_t offset_bytes, uint64_t size_bytes)
{
    (void)ctx;
    return fallocate(fd, 0, (off_t)offset_bytes, (off_t)size_bytes) == 0 ? 0 : -errno;
}

int cp_io__posix_size(void *ctx, int fd, uint64_t *out_size_bytes)
{
    (void)ctx;
    struct stat facts;
    if (fstat(fd, &facts) != 0)
        return -errno;
    off_t size_bytes = facts.st_size;
    if (S_ISBLK(facts.st_mode)) /* a device reports no size; all transfers carry their offset */
        size_bytes = lseek(fd, 0, SEEK_END);
    if (size_bytes < 0)
        return -errno;
    *out_size_bytes = (uint64_t)size_bytes;
    return 0;
}

int cp_io__posix_directory_sync(void *ctx, const char *path)
{
    (void)ctx;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int code = fsync(fd) == 0 ? 0 : -errno;
    close(fd);
    return code;
}

int cp_io__posix_rename(void *ctx, const char *from, const char *to)
{
    (void)ctx;
    return rename(from, to) == 0 ? 0 : -errno;
}

int cp_io__posix_unlink(void *ctx, const char *path)
{
    (void)ctx;
    return unlink(path) == 0 ? 0 : -errno;
}

int cp_io__posix_mkdir(void *ctx, const char *path, uint32_t mode)
{
    (void)ctx;
    return mkdir(path, (mode_t)mode) == 0 ? 0 : -errno;
}

int cp_io__posix_list(void *ctx, const char *path, int (*visit)(void *visit_ctx, const char *name),
                      void *visit_ctx)
{
    (void)ctx;
    DIR *directory = opendir(path);
    if (directory == NULL)
        return -errno;
    int code = 0;
    while (code == 0) {
        errno = 0;
        const struct dirent *entry = readdir(directory);
        if (entry == NULL) {
            code = -errno;
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            code = visit(visit_ctx, entry->d_name);
    }
    closedir(directory);
    return code;
}

static const struct cp_io_backend backend_sync = {
    .name = "sync",
    .open = cp_io__posix_open,
    .close = cp_io__posix_close,
    .readv = cp_io__posix_readv,
    .writev = cp_io__posix_writev,
    .sync = cp_io__posix_sync,
    .resize = cp_io__posix_resize,
    .allocate = cp_io__posix_allocate,
    .size = cp_io__posix_size,
    .directory_sync = cp_io__posix_directory_sync,
    .rename = cp_io__posix_rename,
    .unlink = cp_io__posix_unlink,
    .mkdir = cp_io__posix_mkdir,
    .list = cp_io__posix_list,
};

const struct cp_io_backend *cp_io_backend_sync(void)
{
    return &backend_sync;
}
