/* SPDX-License-Identifier: MIT */
/*
 * One request's way from raw results to a final one: resumption of short transfers and bounded
 * retries. Used alike by synchronous transfers and by rings.
 *
 * Invariants
 * 1. A request ends: each step moves bytes forward or counts up `attempts`, which is bounded.
 * 2. iov_base + iov_len of every iovec stays what it was at put: consumed iovecs shrink to length
 *    0 at their end, so an owner can still tell where its memory lies.
 * 3. A file opened with O_DIRECT is resumed at multiples of its alignment only.
 */
#include "internal.h"

#include <clockpool/base/bits.h>
#include <clockpool/base/poison.h>

#include <errno.h>
#include <sys/resource.h>

int cp_io__prepare(struct cp_io_request *request)
{
    request->result = 0;
    request->attempts = 0;
    request->size_bytes = 0;
    request->done_bytes = 0;
    request->next = NULL;
    if (request->op == CP_IO_OP_SYNC)
        return 0;
    if (request->op != CP_IO_OP_READ && request->op != CP_IO_OP_WRITE)
        return -EINVAL;
    if (request->iov_count == 0 || request->iov_count > CP_IO_MAX_IOVECS)
        return -EINVAL;
    uint64_t size_bytes = 0;
    for (uint32_t i = 0; i < request->iov_count; i++) {
        if (request->iov[i].iov_len > CP_IO_MAX_TRANSFER_BYTES)
            return -EINVAL;
        size_bytes += request->iov[i].iov_len;
    }
    if (size_bytes > CP_IO_MAX_TRANSFER_BYTES)
        return -EINVAL;
    request->size_bytes = size_bytes;
    if (request->op == CP_IO_OP_WRITE && cp_io__exceeds_limit(request->offset_bytes + size_bytes))
        return -EFBIG;
    return 0;
}

bool cp_io__exceeds_limit(uint64_t end_bytes)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
           end_bytes > limit.rlim_cur;
}

void cp_io__rest(const struct cp_io_request *request, struct iovec **out_iov, uint32_t *out_count)
{
    struct iovec *iov = request->iov;
    uint32_t count = request->iov_count;

    while (count > 1 && iov->iov_len == 0) {
        iov++;
        count--;
    }
    *out_iov = iov;
    *out_count = count;
}

/* The kernel has filled the next bytes of the iovecs; valgrind does not see it by itself. */
static void mark_read(const struct cp_io_request *request, uint64_t bytes)
{
    for (uint32_t i = 0; CP_POISONS && i < request->iov_count && bytes > 0; i++) {
        uint64_t part = cp_min_u64(bytes, request->iov[i].iov_len);
        CP_DEFINED(request->iov[i].iov_base, part);
        bytes -= part;
    }
}

static void consume(struct cp_io_request *request, uint64_t bytes)
{
    request->done_bytes += bytes;
    for (uint32_t i = 0; bytes > 0; i++) { /* ends: bytes is less than the rest of the iovecs */
        struct iovec *iov = &request->iov[i];
        uint64_t part = cp_min_u64(bytes, iov->iov_len);
        iov->iov_base = (char *)iov->iov_base + part;
        iov->iov_len -= part;
        bytes -= part;
    }
}

void cp_io__count_finished(const struct cp_io_request *request, struct cp_io__tally *tally)
{
    tally->count[CP_IO__ERRORS] += request->result != 0;
    switch (request->op) {
    case CP_IO_OP_READ:
        tally->count[CP_IO__READS]++;
        tally->count[CP_IO__READ_BYTES] += request->done_bytes;
        break;
    case CP_IO_OP_WRITE:
        tally->count[CP_IO__WRITES]++;
        tally->count[CP_IO__WRITTEN_BYTES] += request->done_bytes;
        break;
    case CP_IO_OP_SYNC:
        tally->count[CP_IO__SYNCS]++;
        break;
    }
}

static bool finish(struct cp_io_request *request, int code, struct cp_io__tally *tally)
{
    request->result = code;
    cp_io__count_finished(request, tally);
    return true;
}

/* No bytes moved: once more, unless that has been said too often in a row. */
static bool try_again(struct cp_io_request *request, int code, struct cp_io__tally *tally)
{
    if (++request->attempts >= CP_IO_RETRY_LIMIT)
        return finish(request, code, tally);
    tally->count[CP_IO__RETRIES]++;
    return false;
}

static bool advance_failed(struct cp_io_request *request, int code, struct cp_io__tally *tally)
{
    /* The kernel cancels what it has not started yet when the submitting thread ends. Nothing has
     * happened then, so that even a sync may be put again, which is otherwise never retried. */
    if (code == -ECANCELED)
        return try_again(request, code, tally);
    if (request->op != CP_IO_OP_SYNC && (code == -EAGAIN || code == -EINTR))
        return try_again(request, code, tally);
    return finish(request, code, tally);
}

/* Does the file end at or before the given offset? */
static bool ends_by(const struct cp_io_file *file, uint64_t offset_bytes)
{
    uint64_t size_bytes;
    int code = file->io->backend->size(file->io->ctx, file->fd, &size_bytes);
    return code == 0 && size_bytes <= offset_bytes;
}

static bool advance_short(struct cp_io_request *request, uint64_t moved, struct cp_io__tally *tally)
{
    const struct cp_io_file *file = request->file;
    uint64_t usable = moved;

    tally->count[CP_IO__SHORT_TRANSFERS]++;
    if (file->direct)
        usable = cp_align_down(moved, file->offset_align_bytes);
    if (request->op == CP_IO_OP_READ)
        mark_read(request, usable);
    if (usable != 0) {
        consume(request, usable);
        request->attempts = 0;
        return false;
    }
    uint64_t reached = request->offset_bytes + request->done_bytes + moved;
    if (request->op == CP_IO_OP_READ && ends_by(file, reached))
        return finish(request, -ENODATA, tally);
    return try_again(request, -EIO, tally);
}

bool cp_io__advance(struct cp_io_request *request, ssize_t raw, struct cp_io__tally *tally)
{
    if (raw < 0)
        return advance_failed(request, (int)raw, tally);
    if (request->op == CP_IO_OP_SYNC)
        return finish(request, 0, tally);

    uint64_t moved = (uint64_t)raw;
    uint64_t rest = request->size_bytes - request->done_bytes;
    if (moved == rest) {
        if (request->op == CP_IO_OP_READ)
            mark_read(request, moved);
        request->done_bytes = request->size_bytes;
        return finish(request, 0, tally);
    }
    if (moved > rest) /* a backend that lies; believe nothing it said */
        return finish(request, -EIO, tally);
    if (moved == 0)
        return finish(request, request->op == CP_IO_OP_READ ? -ENODATA : -EIO, tally);
    return advance_short(request, moved, tally);
}

void cp_io__run(struct cp_io_request *request, struct cp_io__tally *tally)
{
    const struct cp_io_file *file = request->file;
    const struct cp_io_backend *backend = file->io->backend;
    void *ctx = file->io->ctx;
    struct iovec *iov;
    uint32_t count;
    ssize_t raw;

    do { /* ends: invariant 1 */
        uint64_t offset_bytes = request->offset_bytes + request->done_bytes;
        cp_io__rest(request, &iov, &count);
        if (request->op == CP_IO_OP_SYNC)
            raw = backend->sync(ctx, file->fd);
        else if (request->op == CP_IO_OP_READ)
            raw = backend->readv(ctx, file->fd, iov, (int)count, offset_bytes);
        else
            raw = backend->writev(ctx, file->fd, iov, (int)count, offset_bytes);
    } while (!cp_io__advance(request, raw, tally));
}
