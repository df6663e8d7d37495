/* SPDX-License-Identifier: MIT */
/*
 * Reading segments block by block, with the next window on its way while this one is looked at.
 */
#ifndef CLOCKPOOL_WAL_READER_H
#define CLOCKPOOL_WAL_READER_H

#include "internal.h"

#include <clockpool/arena.h>

#define CP_WAL__WINDOW_BYTES    (UINT64_C(4) << 20) /* of a segment, in memory at a time */
#define CP_WAL__WINDOW_REQUESTS (CP_WAL__WINDOW_BYTES / CP_IO_MAX_TRANSFER_BYTES)

/* A piece of a segment, read or being read. */
struct cp_wal__window {
    const struct cp_wal__segment *segment; /* NULL: holds nothing */
    struct cp_io_file *file;               /* owns */
    uint64_t offset, bytes;                /* of the file; 0 bytes: it ends before offset */
    uint8_t *data;                         /* borrows, from the arena */
    bool ahead;       /* read through the ring: may be pending, or have failed */
    uint32_t pending; /* requests */
    int code;         /* of the first that failed */
    struct cp_io_request requests[CP_WAL__WINDOW_REQUESTS];
    struct iovec iov[CP_WAL__WINDOW_REQUESTS];
};

struct cp_wal__reader {
    struct cp_wal *wal; /* borrows */
    struct cp_arena *arena;
    uint64_t window_bytes;
    struct cp_io_ring *ring; /* owns; NULL: not yet, or not to be had */
    bool ring_tried;
    uint64_t windows_read;
    struct cp_wal__window windows[2];
    unsigned current;                   /* the other is the one ahead */
    const struct cp_wal__segment *next; /* set by the caller: what will be read behind the segment
                                           that is being read; NULL: nothing */
};

/* Errors: -ENOMEM. */
int cp_wal__reader_init(struct cp_wal__reader *reader, struct cp_wal *wal) CP_MUST_CHECK;
/* Waits for what is under way. Also after a failed init. */
void cp_wal__reader_fini(struct cp_wal__reader *reader);

/*
 * The block at an index of a segment; borrowed until the next call. -ENODATA: the file is shorter.
 * Blocks on I/O.
 */
int cp_wal__reader_block(struct cp_wal__reader *reader, const struct cp_wal__segment *segment,
                         uint64_t index, const struct cp_wal__block **out_block) CP_MUST_CHECK;

#endif
