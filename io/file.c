/* SPDX-License-Identifier: MIT */
/*
 * Files: opening with or without O_DIRECT, sizes, room, and synchronous transfers.
 *
 * A file is opened twice where O_DIRECT is wanted: first without, which creates it where asked,
 * then, once statx has told its alignment, with O_DIRECT. Opening with both at once would leave a
 * created file behind where the file system refuses O_DIRECT, and break `exclusive`.
 */
#include "internal.h"

#include <clockpool/base/assert.h>
#include <clockpool/base/bits.h>
#include <clockpool/base/error.h>

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel's struct statx as of Linux 6.11. Debian 12's headers end before the fields we need. */
struct kernel_statx {
    uint32_t mask, block_size;
    uint64_t unused_before[18];
    uint32_t dio_memory_align, dio_offset_align; /* with STATX_DIOALIGN; 0: no O_DIRECT */
    uint64_t subvolume;
    uint32_t atomic_min, atomic_max, atomic_segments_max, dio_read_offset_align;
    uint64_t unused_after[9];
};
static_assert(sizeof(struct kernel_statx) == 0x100, "struct statx is 256 bytes");
static_assert(offsetof(struct kernel_statx, dio_memory_align) == 0x98, "uapi layout");
static_assert(offsetof(struct kernel_statx, atomic_min) == 0xa8, "uapi layout");

#define WANT_DIO_ALIGN    0x00002000u /* STATX_DIOALIGN, Linux 6.1 */
#define WANT_WRITE_ATOMIC 0x00010000u /* STATX_WRITE_ATOMIC, Linux 6.11 */

#define DEFAULT_BLOCK_BYTES 4096u
/* Assumed where the kernel names no alignment: no disk's logical block is larger. */
#define ASSUMED_ALIGN_BYTES 4096u
#define ZEROS_BYTES         (UINT64_C(1) << 20)
/* preadv and pwritev move at most 2 GiB less a page; stay at a round number below. */
#define SYNC_TRANSFER_MAX_BYTES (UINT64_C(1) << 30)

struct direct_facts {
    bool possible;
    const char *reason;
    uint32_t memory_align_bytes, offset_align_bytes, atomic_write_max_bytes;
};

static bool on_tmpfs(const char *path)
{
    struct statfs facts;
    return statfs(path, &facts) == 0 && ((unsigned long)facts.f_type == TMPFS_MAGIC ||
                                         (unsigned long)facts.f_type == RAMFS_MAGIC);
}

/* What the file system says about O_DIRECT on this path, for transfers in units of block_bytes. */
static void ask_direct(const char *path, uint32_t block_bytes, struct direct_facts *facts)
{
    struct kernel_statx said;
    memset(&said, 0, sizeof said);
    *facts = (struct direct_facts){.memory_align_bytes = ASSUMED_ALIGN_BYTES,
                                   .offset_align_bytes = ASSUMED_ALIGN_BYTES};

    if (syscall(SYS_statx, AT_FDCWD, path, 0, WANT_DIO_ALIGN | WANT_WRITE_ATOMIC, &said) != 0)
        said.mask = 0;
    if ((said.mask & WANT_WRITE_ATOMIC) != 0 && said.atomic_min <= block_bytes)
        facts->atomic_write_max_bytes = said.atomic_max;
    facts->reason = "O_DIRECT is in force";
    if ((said.mask & WANT_DIO_ALIGN) != 0) {
        if (said.dio_offset_align == 0 || said.dio_memory_align == 0) {
            facts->reason = "the file system has no O_DIRECT for this file";
            return;
        }
        facts->memory_align_bytes = said.dio_memory_align;
        facts->offset_align_bytes = said.dio_offset_align;
    } else if (on_tmpfs(path)) {
        facts->reason = "the file lies in memory (tmpfs), where O_DIRECT has no meaning";
        return;
    } else {
        facts->reason = "O_DIRECT is in force; the kernel names no alignment, 4096 is assumed";
    }
    if (!cp_is_power_of_two(facts->memory_align_bytes) ||
        !cp_is_power_of_two(facts->offset_align_bytes) ||
        block_bytes % facts->offset_align_bytes != 0 ||
        block_bytes % facts->memory_align_bytes != 0) {
        facts->reason = "the alignment for O_DIRECT does not divide the block size";
        return;
    }
    facts->possible = true;
}

/*
 * A look by name, before opening. O_NONBLOCK would not do: it stays with the descriptor, and
 * io_uring then answers EAGAIN where a read would have to wait for the disk. A backend whose files
 * are not the system's has nothing there to look at.
 */
static int check_regular(const char *path)
{
    struct stat facts;
    if (stat(path, &facts) != 0 || S_ISREG(facts.st_mode) || S_ISBLK(facts.st_mode))
        return 0;
    const char *kind = S_ISDIR(facts.st_mode)    ? "a directory"
                       : S_ISFIFO(facts.st_mode) ? "a fifo"
                       : S_ISSOCK(facts.st_mode) ? "a socket"
                                                 : "a device";
    return cp_error_set(CP_EFORMAT, path, CP_NO_PAGE, CP_NO_LSN,
                        "put the file back that belongs there, or remove what is in its place",
                        "opening a file: this is %s", kind);
}

/* open(2), with a bounded number of tries where a signal interrupts it. */
static int open_retrying(struct cp_io *io, const char *path, int flags, uint32_t mode)
{
    int fd = -EINTR;
    for (unsigned i = 0; i < CP_IO_RETRY_LIMIT && fd == -EINTR; i++)
        fd = io->backend->open(io->ctx, path, flags, mode);
    return fd;
}

/* Open a second time with O_DIRECT, as far as that is wanted and possible. */
static int switch_to_direct(struct cp_io_file *file, const struct cp_io_file_options *options)
{
    struct cp_io *io = file->io;
    struct direct_facts facts;
    int flags =
        (options->read_only ? O_RDONLY : O_RDWR) | O_DIRECT | (options->dsync ? O_DSYNC : 0);
    uint32_t block_bytes = options->block_bytes != 0 ? options->block_bytes : DEFAULT_BLOCK_BYTES;

    ask_direct(file->path, block_bytes, &facts);
    file->atomic_write_max_bytes = facts.atomic_write_max_bytes;
    file->memory_align_bytes = 1;
    file->offset_align_bytes = 1;
    if (options->caching == CP_IO_BUFFERED) {
        file->direct_reason = "buffered I/O was asked for";
        return 0;
    }
    if (facts.possible) {
        int fd = open_retrying(io, file->path, flags, 0);
        if (fd >= 0) {
            int ignored = io->backend->close(io->ctx, file->fd); /* nothing was written by it */
            (void)ignored;
            file->fd = fd;
            file->direct = true;
            file->memory_align_bytes = facts.memory_align_bytes;
            file->offset_align_bytes = facts.offset_align_bytes;
            file->direct_reason = facts.reason;
            return 0;
        }
        if (fd != -EINVAL)
            return cp_error_set(fd, file->path, CP_NO_PAGE, CP_NO_LSN, NULL,
                                "opening a file with O_DIRECT");
        facts.reason = "the file system refuses O_DIRECT (EINVAL)";
    }
    file->direct_reason = facts.reason;
    if (options->caching == CP_IO_DIRECT)
        return cp_error_set(-EINVAL, file->path, CP_NO_PAGE, CP_NO_LSN,
                            "use a disk file system, or allow buffered I/O",
                            "opening a file with O_DIRECT: %s", facts.reason);
    return 0;
}

int cp_io_file_open(struct cp_io *io, const char *path, const struct cp_io_file_options *options,
                    struct cp_io_file **out_file)
{
    static const struct cp_io_file_options defaults;
    if (options == NULL)
        options = &defaults;
    int flags = options->read_only ? O_RDONLY : O_RDWR;
    flags |= options->create ? O_CREAT : 0;
    flags |= options->create && options->exclusive ? O_EXCL : 0;
    flags |= options->truncate ? O_TRUNC : 0;
    flags |= options->dsync ? O_DSYNC : 0;

    int code = options->regular ? check_regular(path) : 0;
    if (code != 0)
        return code;
    struct cp_io_file *file = calloc(1, sizeof *file);
    if (file == NULL)
        return cp_error_set(-ENOMEM, path, CP_NO_PAGE, CP_NO_LSN, NULL, "opening a file");
    file->io = io;
    file->path = strdup(path);
    if (file->path == NULL) {
        code = cp_error_set(-ENOMEM, path, CP_NO_PAGE, CP_NO_LSN, NULL, "opening a file");
        goto free_file;
    }
    file->fd = open_retrying(io, path, flags, options->mode != 0 ? options->mode : 0600);
    if (file->fd < 0) {
        code = cp_error_set(file->fd, path, CP_NO_PAGE, CP_NO_LSN, NULL,
                            options->create ? "creating or opening a file" : "opening a file");
        goto free_path;
    }
    code = switch_to_direct(file, options);
    if (code != 0)
        goto close_fd;
    *out_file = file;
    return 0;

close_fd:
    (void)!io->backend->close(io->ctx, file->fd);
free_path:
    free(file->path);
free_file:
    free(file);
    return code;
}

int cp_io_file_close(struct cp_io_file *file)
{
    if (file == NULL)
        return 0;
    int code = file->io->backend->close(file->io->ctx, file->fd);
    if (code != 0)
        cp_error_set(code, file->path, CP_NO_PAGE, CP_NO_LSN, NULL, "closing a file");
    free(file->path);
    free(file);
    return code;
}

static uint32_t untorn_max_bytes(const struct cp_io_file *file)
{
    /* The kernel makes such writes by O_DIRECT only; readv and writev have no flags here. */
    bool carried = file->direct && file->io->backend->ring_queue != NULL;
    return carried ? file->atomic_write_max_bytes : 0;
}

bool cp_io__untorn_possible(const struct cp_io_request *request)
{
    return request->op == CP_IO_OP_WRITE && cp_is_power_of_two(request->size_bytes) &&
           request->size_bytes <= untorn_max_bytes(request->file) &&
           request->offset_bytes % request->size_bytes == 0;
}

void cp_io_file_info(const struct cp_io_file *file, struct cp_io_file_info *out_info)
{
    *out_info = (struct cp_io_file_info){
        .path = file->path,
        .fd = file->fd,
        .direct = file->direct,
        .direct_reason = file->direct_reason,
        .memory_align_bytes = file->memory_align_bytes,
        .offset_align_bytes = file->offset_align_bytes,
        .atomic_write_max_bytes = untorn_max_bytes(file),
    };
}

int cp_io_file_size(struct cp_io_file *file, uint64_t *out_size_bytes)
{
    int code = file->io->backend->size(file->io->ctx, file->fd, out_size_bytes);
    if (code != 0)
        return cp_error_set(code, file->path, CP_NO_PAGE, CP_NO_LSN, NULL, "asking for a size");
    return 0;
}

/* A file that is larger already may stay so. */
static bool may_reach(struct cp_io_file *file, uint64_t end_bytes)
{
    uint64_t size_bytes;
    return !cp_io__exceeds_limit(end_bytes) ||
           (file->io->backend->size(file->io->ctx, file->fd, &size_bytes) == 0 &&
            size_bytes >= end_bytes);
}

int cp_io_file_resize(struct cp_io_file *file, uint64_t size_bytes)
{
    const struct cp_io_backend *backend = file->io->backend;
    int code = may_reach(file, size_bytes) ? -EINTR : -EFBIG;
    for (unsigned i = 0; i < CP_IO_RETRY_LIMIT && code == -EINTR; i++)
        code = backend->resize(file->io->ctx, file->fd, size_bytes);
    if (code != 0)
        return cp_error_set(code, file->path, CP_NO_PAGE, CP_NO_LSN, NULL,
                            "setting the size to %llu bytes", (unsigned long long)size_bytes);
    return 0;
}

/* Reach end_bytes by writing zeros behind the end of the file; what lies before stays as it is. */
static int write_zeros(struct cp_io_file *file, uint64_t size_bytes, uint64_t end_bytes)
{
    uint64_t align = cp_max_u64(file->offset_align_bytes, 1);
    uint64_t at = cp_align_up(size_bytes, align);
    uint64_t stop = cp_align_up(end_bytes, align);
    uint64_t reached = size_bytes;
    uint64_t memory_align = cp_max_u64(file->memory_align_bytes, ASSUMED_ALIGN_BYTES);
    int code = 0;

    void *zeros = aligned_alloc(memory_align, ZEROS_BYTES);
    if (zeros == NULL)
        return -ENOMEM;
    memset(zeros, 0, ZEROS_BYTES);
    while (code == 0 && at < stop) {
        uint64_t part = cp_min_u64(ZEROS_BYTES, stop - at);
        code = cp_io_write(file, zeros, part, at);
        at += part;
        reached = at;
    }
    free(zeros);
    if (code == 0 && reached != end_bytes) /* beyond it, or short of it within the last block */
        code = cp_io_file_resize(file, end_bytes);
    return code;
}

int cp_io_file_allocate(struct cp_io_file *file, uint64_t offset_bytes, uint64_t size_bytes)
{
    const struct cp_io_backend *backend = file->io->backend;
    uint64_t before_bytes, after_bytes;
    uint64_t end_bytes = offset_bytes + size_bytes;

    if (end_bytes < offset_bytes || end_bytes > INT64_MAX)
        return cp_error_set(-EFBIG, file->path, CP_NO_PAGE, CP_NO_LSN, NULL, "making room");
    int code = cp_io_file_size(file, &before_bytes);
    if (code != 0)
        return code;
    code = may_reach(file, end_bytes) ? -EINTR : -EFBIG;
    for (unsigned i = 0; i < CP_IO_RETRY_LIMIT && code == -EINTR; i++)
        code = backend->allocate(file->io->ctx, file->fd, offset_bytes, size_bytes);
    if (code == -EOPNOTSUPP)
        code = end_bytes > before_bytes ? write_zeros(file, before_bytes, end_bytes) : 0;
    if (code == 0)
        return 0;

    /* A call that ran out of space may have extended the file part of the way: take that back. */
    if (backend->size(file->io->ctx, file->fd, &after_bytes) == 0 && after_bytes > before_bytes)
        (void)!backend->resize(file->io->ctx, file->fd, before_bytes);
    return cp_error_set(code, file->path, CP_NO_PAGE, CP_NO_LSN, NULL,
                        "making room for %llu bytes at offset %llu", (unsigned long long)size_bytes,
                        (unsigned long long)offset_bytes);
}

int cp_io_file_sync(struct cp_io_file *file)
{
    int code = file->io->backend->sync(file->io->ctx, file->fd);
    struct cp_io__tally tally = {{[CP_IO__SYNCS] = 1, [CP_IO__ERRORS] = code != 0}};
    cp_io__add(file->io, &tally);
    if (code != 0)
        return cp_error_set(code, file->path, CP_NO_PAGE, CP_NO_LSN,
                            "what was written since the last sync may be lost; do not sync again, "
                            "reopen and recover",
                            "syncing a file");
    return 0;
}

static int transfer(struct cp_io_file *file, enum cp_io_op op, void *buffer, uint64_t size_bytes,
                    uint64_t offset_bytes)
{
    struct cp_io__tally tally = {{0}};
    bool too_large = op == CP_IO_OP_WRITE && cp_io__exceeds_limit(offset_bytes + size_bytes);
    int code = too_large ? -EFBIG : 0;

    for (uint64_t at = 0; code == 0 && at < size_bytes;) {
        uint64_t part = cp_min_u64(size_bytes - at, SYNC_TRANSFER_MAX_BYTES);
        struct iovec iov = {(char *)buffer + at, part};
        struct cp_io_request request = {
            .op = op,
            .file = file,
            .offset_bytes = offset_bytes + at,
            .iov = &iov,
            .iov_count = 1,
            .size_bytes = part,
        };
        cp_io__run(&request, &tally);
        code = request.result;
        at += part;
    }
    cp_io__add(file->io, &tally);
    if (code != 0)
        return cp_error_set(code, file->path, CP_NO_PAGE, CP_NO_LSN,
                            code == -ENODATA ? "the file is shorter than expected" : NULL,
                            "%s %llu bytes at offset %llu",
                            op == CP_IO_OP_READ ? "reading" : "writing",
                            (unsigned long long)size_bytes, (unsigned long long)offset_bytes);
    return 0;
}

int cp_io_read(struct cp_io_file *file, void *buffer, uint64_t size_bytes, uint64_t offset_bytes)
{
    return transfer(file, CP_IO_OP_READ, buffer, size_bytes, offset_bytes);
}

int cp_io_write(struct cp_io_file *file, const void *buffer, uint64_t size_bytes,
                uint64_t offset_bytes)
{
    /* iovec has no const; a write leaves the bytes alone. */
    return transfer(file, CP_IO_OP_WRITE, (void *)(uintptr_t)buffer, size_bytes, offset_bytes);
}
