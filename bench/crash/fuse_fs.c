/* SPDX-License-Identifier: MIT */
/*
 * A pass-through file system that records. One request at a time, so the trace has the order in
 * which the kernel asked.
 *
 * Nothing may be cached in a way that changes what is seen: without the writeback cache a write
 * arrives here before write(2) returns. A shared mapping's pages are the kernel's to keep; they
 * arrive when it writes them back, at msync, or when the file is closed. Names and sizes are
 * changed through this mount only, so the kernel may believe what it knows of them, and is told not
 * to throw pages away on a changed modification time.
 *
 * O_DSYNC and O_SYNC need nothing here: the kernel follows such a write by a flush.
 */
#define FUSE_USE_VERSION 31
#include "fuse_fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <fuse_lowlevel.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define CACHE_S    3600.0 /* longer than any recording */
#define MARKS_PATH "/" CRASH_FUSE_MARKS_NAME

struct crash_fuse_fs {
    int root_fd;
    struct crash_trace *trace;
    struct fuse *fuse;
    struct fuse_session *session;
    struct fuse_buf buffer;
};

/* An open file; fi->fh points to it. */
struct handle {
    int fd;
    uint32_t file; /* CRASH_NO_FILE: the file of marks */
};

static struct crash_fuse_fs *of_context(void)
{
    return fuse_get_context()->private_data;
}

static struct handle *handle_of(const struct fuse_file_info *info)
{
    return (struct handle *)(uintptr_t)info->fh;
}

/* "/a/b" as the *at functions and the trace want it: "a/b", and "." for the root. */
static const char *relative(const char *path)
{
    return path[1] == '\0' ? "." : path + 1;
}

static const char *trace_path(const char *path)
{
    return path + 1;
}

static int result_of(int result)
{
    return result < 0 ? -errno : 0;
}

/* ---- attributes and names ---------------------------------------------------------------------
 */

static int fs_getattr(const char *path, struct stat *out, struct fuse_file_info *info)
{
    if (path != NULL && strcmp(path, MARKS_PATH) == 0) {
        *out = (struct stat){.st_mode = S_IFREG | 0600, .st_nlink = 1};
        return 0;
    }
    if (info != NULL)
        return result_of(fstat(handle_of(info)->fd, out));
    return result_of(fstatat(of_context()->root_fd, relative(path), out, AT_SYMLINK_NOFOLLOW));
}

static int fs_chmod(const char *path, mode_t mode, struct fuse_file_info *info)
{
    if (info != NULL)
        return result_of(fchmod(handle_of(info)->fd, mode));
    return result_of(fchmodat(of_context()->root_fd, relative(path), mode, 0));
}

static int fs_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *info)
{
    if (info != NULL)
        return result_of(fchown(handle_of(info)->fd, uid, gid));
    return result_of(
        fchownat(of_context()->root_fd, relative(path), uid, gid, AT_SYMLINK_NOFOLLOW));
}

static int fs_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *info)
{
    if (info != NULL)
        return result_of(futimens(handle_of(info)->fd, times));
    return result_of(utimensat(of_context()->root_fd, relative(path), times, AT_SYMLINK_NOFOLLOW));
}

static int fs_mkdir(const char *path, mode_t mode)
{
    struct crash_fuse_fs *fs = of_context();
    if (mkdirat(fs->root_fd, relative(path), mode) != 0)
        return -errno;
    crash_trace_mkdir(fs->trace, trace_path(path));
    return 0;
}

static int remove_name(const char *path, int flags)
{
    struct crash_fuse_fs *fs = of_context();
    if (unlinkat(fs->root_fd, relative(path), flags) != 0)
        return -errno;
    crash_trace_unlink(fs->trace, trace_path(path));
    return 0;
}

static int fs_unlink(const char *path)
{
    return remove_name(path, 0);
}

static int fs_rmdir(const char *path)
{
    return remove_name(path, AT_REMOVEDIR);
}

static int fs_rename(const char *from, const char *to, unsigned flags)
{
    struct crash_fuse_fs *fs = of_context();
    if ((flags & ~(unsigned)RENAME_NOREPLACE) != 0)
        return -EINVAL; /* an exchange has no event */
    if (renameat2(fs->root_fd, relative(from), fs->root_fd, relative(to), flags) != 0)
        return -errno;
    crash_trace_rename(fs->trace, trace_path(from), trace_path(to));
    return 0;
}

static int fs_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset,
                      struct fuse_file_info *info, enum fuse_readdir_flags flags)
{
    (void)offset;
    (void)info;
    (void)flags;
    int fd = openat(of_context()->root_fd, relative(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *entry;
    if (stream == NULL) {
        int code = -errno;
        if (fd >= 0)
            close(fd);
        return code;
    }
    while ((entry = readdir(stream)) != NULL) {
        const struct stat status = {.st_ino = entry->d_ino, .st_mode = DTTOIF(entry->d_type)};
        if (fill(buffer, entry->d_name, &status, 0, 0) != 0)
            break;
    }
    closedir(stream);
    return 0;
}

static int fs_fsyncdir(const char *path, int data_only, struct fuse_file_info *info)
{
    (void)data_only;
    (void)info;
    crash_trace_directory_sync(of_context()->trace, trace_path(path));
    return 0;
}

static int fs_statfs(const char *path, struct statvfs *out)
{
    (void)path;
    return result_of(fstatvfs(of_context()->root_fd, out));
}

/* ---- opening ----------------------------------------------------------------------------------
 */

static int keep_handle(int fd, uint32_t file, struct fuse_file_info *info)
{
    struct handle *handle = malloc(sizeof *handle);
    if (handle == NULL) {
        close(fd);
        return -ENOMEM;
    }
    *handle = (struct handle){fd, file};
    info->fh = (uintptr_t)handle;
    info->keep_cache = 1; /* another open must not throw a mapping's pages out */
    return 0;
}

static int open_marks(struct fuse_file_info *info)
{
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    int code = fd < 0 ? -errno : keep_handle(fd, CRASH_NO_FILE, info);
    info->direct_io = 1;
    return code;
}

static int fs_open(const char *path, struct fuse_file_info *info)
{
    struct crash_fuse_fs *fs = of_context();
    if (strcmp(path, MARKS_PATH) == 0)
        return open_marks(info);
    uint32_t file = crash_trace_find(fs->trace, trace_path(path));
    if (file == CRASH_NO_FILE)
        return -EIO; /* the trace was not told of it before the recording */
    /* Write-back may use any handle, so each can be read and written; O_APPEND is the kernel's. */
    int fd = openat(fs->root_fd, relative(path),
                    O_RDWR | O_CLOEXEC | O_NOFOLLOW | (info->flags & O_TRUNC));
    if (fd < 0)
        return -errno;
    if ((info->flags & O_TRUNC) != 0)
        crash_trace_resize(fs->trace, file, 0);
    return keep_handle(fd, file, info);
}

static int fs_create(const char *path, mode_t mode, struct fuse_file_info *info)
{
    struct crash_fuse_fs *fs = of_context();
    if (strcmp(path, MARKS_PATH) == 0)
        return open_marks(info);
    uint32_t file = crash_trace_find(fs->trace, trace_path(path));
    if (file != CRASH_NO_FILE)
        return (info->flags & O_EXCL) != 0 ? -EEXIST : fs_open(path, info);
    int fd = openat(fs->root_fd, relative(path), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
                    mode);
    if (fd < 0)
        return -errno;
    return keep_handle(fd, crash_trace_create_file(fs->trace, trace_path(path)), info);
}

static int fs_release(const char *path, struct fuse_file_info *info)
{
    (void)path;
    close(handle_of(info)->fd);
    free(handle_of(info));
    return 0;
}

/* ---- content ----------------------------------------------------------------------------------
 */

static int fs_read(const char *path, char *buffer, size_t size, off_t offset,
                   struct fuse_file_info *info)
{
    (void)path;
    size_t done = 0;
    while (done < size) {
        ssize_t got = pread(handle_of(info)->fd, buffer + done, size - done, offset + (off_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (int)done;
}

static int write_mark(const char *buffer, size_t size)
{
    struct crash_fuse_mark mark;
    if (size != sizeof mark)
        return -EINVAL;
    memcpy(&mark, buffer, sizeof mark);
    crash_trace_mark(of_context()->trace, (enum crash_mark)mark.mark, mark.lane, mark.transaction,
                     mark.lsn);
    return (int)size;
}

static int fs_write(const char *path, const char *buffer, size_t size, off_t offset,
                    struct fuse_file_info *info)
{
    (void)path;
    struct crash_trace *trace = of_context()->trace;
    const struct handle *handle = handle_of(info);
    if (handle->file == CRASH_NO_FILE)
        return write_mark(buffer, size);
    uint64_t begin =
        crash_trace_write_begin(trace, handle->file, (uint64_t)offset, buffer, size, 0);
    for (size_t done = 0; done < size;) {
        ssize_t moved = pwrite(handle->fd, buffer + done, size - done, offset + (off_t)done);
        if (moved < 0 && errno == EINTR)
            continue;
        if (moved <= 0) /* never ended in the trace: uncertain */
            return moved == 0 ? -EIO : -errno;
        done += (size_t)moved;
    }
    crash_trace_write_end(trace, begin);
    return (int)size;
}

static int fs_truncate(const char *path, off_t size, struct fuse_file_info *info)
{
    struct crash_fuse_fs *fs = of_context();
    uint32_t file;
    int fd, code;
    if (info != NULL) {
        fd = handle_of(info)->fd;
        file = handle_of(info)->file;
    } else {
        fd = openat(fs->root_fd, relative(path), O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
        file = crash_trace_find(fs->trace, trace_path(path));
    }
    if (fd < 0)
        return -errno;
    code = result_of(ftruncate(fd, size));
    if (info == NULL)
        close(fd);
    if (code == 0 && file != CRASH_NO_FILE)
        crash_trace_resize(fs->trace, file, (uint64_t)size);
    return code;
}

static int fs_fallocate(const char *path, int mode, off_t offset, off_t size,
                        struct fuse_file_info *info)
{
    (void)path;
    if ((mode & ~FALLOC_FL_KEEP_SIZE) != 0)
        return -EOPNOTSUPP; /* holes and shifts have no event */
    const struct handle *handle = handle_of(info);
    int code = result_of(fallocate(handle->fd, mode, offset, size));
    if (code == 0 && mode == 0)
        crash_trace_allocate(of_context()->trace, handle->file, (uint64_t)(offset + size));
    return code;
}

/* Durability is what the trace says: nothing need reach a device. */
static int fs_fsync(const char *path, int data_only, struct fuse_file_info *info)
{
    (void)path;
    (void)data_only;
    struct crash_trace *trace = of_context()->trace;
    if (handle_of(info)->file != CRASH_NO_FILE)
        crash_trace_flush_end(trace, crash_trace_flush_begin(trace, handle_of(info)->file), 0);
    return 0;
}

/* ---- serving ----------------------------------------------------------------------------------
 */

static void *fs_init(struct fuse_conn_info *connection, struct fuse_config *config)
{
    connection->want &= ~((unsigned)FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_AUTO_INVAL_DATA);
    config->entry_timeout = CACHE_S;
    config->attr_timeout = CACHE_S;
    config->negative_timeout = 0;
    config->hard_remove = 1; /* an unlinked file that is open keeps its handle, not a name */
    config->use_ino = 0;
    return of_context();
}

static const struct fuse_operations operations = {
    .init = fs_init,
    .getattr = fs_getattr,
    .chmod = fs_chmod,
    .chown = fs_chown,
    .utimens = fs_utimens,
    .mkdir = fs_mkdir,
    .unlink = fs_unlink,
    .rmdir = fs_rmdir,
    .rename = fs_rename,
    .readdir = fs_readdir,
    .fsyncdir = fs_fsyncdir,
    .statfs = fs_statfs,
    .open = fs_open,
    .create = fs_create,
    .release = fs_release,
    .read = fs_read,
    .write = fs_write,
    .truncate = fs_truncate,
    .fallocate = fs_fallocate,
    .fsync = fs_fsync,
};

struct crash_fuse_fs *crash_fuse_fs_create(int fuse_fd, int root_fd, struct crash_trace *trace)
{
    struct crash_fuse_fs *fs = calloc(1, sizeof *fs);
    char name[] = "clockpool-record", mounted[32];
    char *words[] = {name, NULL};
    struct fuse_args arguments = FUSE_ARGS_INIT(1, words);
    if (fs == NULL)
        return NULL;
    fs->root_fd = root_fd;
    fs->trace = trace;
    fs->fuse = fuse_new(&arguments, &operations, sizeof operations, fs);
    snprintf(mounted, sizeof mounted, "/dev/fd/%d", fuse_fd); /* "it is mounted already" */
    if (fs->fuse == NULL || fuse_mount(fs->fuse, mounted) != 0) {
        crash_fuse_fs_destroy(fs);
        return NULL;
    }
    fs->session = fuse_get_session(fs->fuse);
    return fs;
}

void crash_fuse_fs_destroy(struct crash_fuse_fs *fs)
{
    if (fs->fuse != NULL)
        fuse_destroy(fs->fuse);
    free(fs->buffer.mem);
    free(fs);
}

bool crash_fuse_fs_serve(struct crash_fuse_fs *fs)
{
    int got = fuse_session_receive_buf(fs->session, &fs->buffer);
    if (got == -EINTR || got == -EAGAIN)
        return true;
    if (got <= 0 || fuse_session_exited(fs->session))
        return false;
    fuse_session_process_buf(fs->session, &fs->buffer);
    return true;
}
