/* SPDX-License-Identifier: MIT */
/*
 * Copying a part of the log, which others may go on writing to behind it.
 *
 * Blocks that begin at or behind the end of the part are left as zeros, so that the copy ends there
 * like a log that was never written any further; the segments may have been copied at different
 * moments, and what the later ones say about what was durable must not be missed in the earlier
 * ones. Every block within the part is verified.
 */
#include "internal.h"

#include <clockpool/base/bits.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define COPY_BYTES    CP_IO_MAX_TRANSFER_BYTES
#define COPY_ATTEMPTS 20 /* for a block that is being written while it is read */
#define COPY_PAUSE_NS 1000000

struct copy {
    struct cp_wal *wal;
    cp_lsn from, end;
    struct cp_io_file *source, *target;
    uint8_t *buffer; /* COPY_BYTES */
    uint64_t number; /* of the segment */
};

/*
 * Judge the blocks of a piece of a segment, of which the first is block number first, and clear
 * those behind the end. UINT64_MAX, or the number of the first bad one.
 */
static uint64_t judge(const struct copy *copy, uint8_t *bytes, uint64_t count, uint64_t first)
{
    for (uint64_t i = 0; i < count; i++) {
        struct cp_wal__block block;
        uint8_t *at = bytes + i * CP_WAL_BLOCK_BYTES;
        if (cp_wal__block_start(first + i) >= copy->end) {
            memset(at, 0, CP_WAL_BLOCK_BYTES);
            continue;
        }
        /* Before the part nobody reads but the block that ends where it begins, for its epoch. */
        if (cp_wal__block_start(first + i + 1) < copy->from || first + i < CP_WAL__FIRST_BLOCK)
            continue;
        memcpy(&block, at, sizeof block);
        if (cp_wal__check_block(&block, copy->wal->options.store_id) != CP_WAL__BLOCK_VALID ||
            block.number != first + i)
            return first + i;
    }
    return UINT64_MAX;
}

/* size_bytes at offset, behind the header. */
static int copy_piece(struct copy *copy, uint64_t offset, uint64_t size_bytes)
{
    const uint64_t first = copy->number * copy->wal->segment_blocks +
                           (offset - CP_WAL__HEADER_BYTES) / CP_WAL_BLOCK_BYTES;
    uint64_t bad = 0;
    for (unsigned attempt = 0; attempt < COPY_ATTEMPTS; attempt++) {
        const struct timespec pause = {.tv_nsec = COPY_PAUSE_NS};
        if (attempt > 0)
            nanosleep(&pause, NULL);
        int code = cp_io_read(copy->source, copy->buffer, size_bytes, offset);
        if (code != 0)
            return code;
        bad = judge(copy, copy->buffer, size_bytes / CP_WAL_BLOCK_BYTES, first);
        if (bad == UINT64_MAX)
            return cp_io_write(copy->target, copy->buffer, size_bytes, offset);
    }
    return cp_error_set(CP_EDAMAGED, copy->wal->directory, CP_NO_PAGE, cp_wal__block_start(bad),
                        "restore from a backup", "copying the log: a block is not as it was");
}

static int copy_segment(struct copy *copy)
{
    const uint32_t segment_bytes = copy->wal->segment_bytes;
    memset(copy->buffer, 0, CP_WAL__HEADER_BYTES);
    struct cp_wal__segment_header header;
    cp_wal__encode_segment(&header, copy->wal->options.store_id, segment_bytes, copy->number);
    memcpy(copy->buffer, &header, sizeof header);
    int code = cp_io_write(copy->target, copy->buffer, CP_WAL__HEADER_BYTES, 0);
    uint64_t offset = CP_WAL__HEADER_BYTES;
    while (code == 0 && offset < segment_bytes) {
        uint64_t piece = cp_min_u64(COPY_BYTES, segment_bytes - offset);
        code = copy_piece(copy, offset, piece);
        offset += piece;
    }
    return code != 0 ? code : cp_io_file_sync(copy->target);
}

static int open_and_copy(struct copy *copy, const char *directory, uint32_t index)
{
    const struct cp_io_file_options options = {.create = true,
                                               .exclusive = true,
                                               .caching = copy->wal->options.caching,
                                               .block_bytes = CP_WAL__UNIT_MAX};
    struct cp_wal__segment *segment = cp_wal__segment_find(copy->wal, copy->number);
    if (segment == NULL)
        return cp_error_set(CP_ELOG, copy->wal->directory, CP_NO_PAGE,
                            cp_wal__segment_start(copy->wal, copy->number), "restore from a backup",
                            "copying the log: segment %llu is missing",
                            (unsigned long long)copy->number);
    char *path = cp_wal__path(directory, index);
    if (path == NULL)
        return -ENOMEM;
    int code = cp_wal__open_file(copy->wal, segment, true, false, &copy->source);
    if (code != 0)
        goto out_path;
    code = cp_io_file_open(copy->wal->io, path, &options, &copy->target);
    if (code != 0)
        goto out_source;
    code = copy_segment(copy);
    int closed = cp_io_file_close(copy->target);
    if (code == 0)
        code = closed;
out_source:
    (void)cp_io_file_close(copy->source);
out_path:
    free(path);
    return code;
}

int cp_wal_copy(struct cp_wal *wal, cp_lsn from, cp_lsn end, const char *directory,
                uint64_t *out_bytes)
{
    struct copy copy = {.wal = wal, .from = from, .end = end};
    uint64_t bytes = 0;
    int code = 0;
    if (from == 0 || end < from)
        return cp_error_set(-EINVAL, wal->directory, CP_NO_PAGE, from, NULL, "copying a log");
    copy.buffer = aligned_alloc(CP_WAL__UNIT_MAX, COPY_BYTES);
    if (copy.buffer == NULL)
        return cp_error_set(-ENOMEM, wal->directory, CP_NO_PAGE, CP_NO_LSN, NULL, "copying a log");
    /* A log without a segment is none: of an empty part, the one that it would end in. */
    const uint64_t last = cp_wal__segment_of(wal, end - 1);
    copy.number = cp_min_u64(cp_wal__segment_of(wal, from - 1), last);
    for (uint32_t index = 1; code == 0 && copy.number <= last; index++, copy.number++) {
        code = open_and_copy(&copy, directory, index);
        bytes += wal->segment_bytes;
    }
    free(copy.buffer);
    if (code == 0)
        code = cp_io_directory_sync(wal->io, directory);
    if (code == 0)
        *out_bytes = bytes;
    return code;
}
