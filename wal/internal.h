/* SPDX-License-Identifier: MIT */
/*
 * What the files of the log share: the structure behind the handle, and who may touch which part.
 *
 * Positions go round like this, each never behind the next:
 *
 *     durable <= taken <= reserved <= prepared        reserved <= taken + buffer_bytes
 *
 * append moves reserved (compare-and-swap), copies, and publishes its group by storing the first
 * word of it in the ring. The leader of a flush walks over published groups, moves their bytes into
 * blocks (taken: the ring's bytes are zero again, and free), writes, syncs, and moves durable. Of
 * these flights several may be under way, one behind the other: taken is the end of the last,
 * durable the beginning of the first.
 */
#ifndef CLOCKPOOL_WAL_INTERNAL_H
#define CLOCKPOOL_WAL_INTERNAL_H

#include "format.h"

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <clockpool/base/error.h>
#include <clockpool/base/thread.h>

#define CP_WAL__STAGE_BYTES CP_IO_MAX_TRANSFER_BYTES /* one write of a flush */
#define CP_WAL__FLIGHTS_MAX 4u /* under way at a time; of one device four gave 2.6 times one */
#define CP_WAL__QUEUES      (CP_WAL__FLIGHTS_MAX + 1u)
#define CP_WAL__UNIT_MAX    4096u /* largest alignment of a direct write */
#define CP_WAL__NO_NUMBER   UINT64_MAX
#define CP_WAL__NAME_BYTES  24u /* "segment-00000001" */
#define CP_WAL__FILES_MAX   UINT32_C(99999999)

/* A segment file. All fields but file and those of its header are guarded by segments_lock. */
struct cp_wal__segment {
    struct cp_wal__segment *next;
    uint64_t number;         /* what it holds or is to hold; CP_WAL__NO_NUMBER: a spare */
    uint64_t header_number;  /* in its header on disk; CP_WAL__NO_NUMBER: none. Who may write the
                                header changes it: the leader, or start and prepare */
    bool header_written;     /* by this session; as header_number. One that was only read may be in
                                a cache, and called clean there after a failed sync */
    uint32_t index;          /* of its name */
    bool made;               /* full size at least, filled and synced once */
    bool suspect;            /* what stands in place of its header no crash leaves there */
    struct cp_io_file *file; /* open from its assignment until the leader has left it; else NULL */
};

/*
 * What one flush writes. The leader's while it is built; then of whoever writes it, but for target,
 * seen, riders and landed, which are guarded by flush_lock.
 */
struct cp_wal__flight {
    uint8_t *stage;          /* owns; CP_WAL__STAGE_BYTES; memory only once it is used */
    struct cp_io_file *file; /* of its last write; borrows, no other is entered before it landed */
    uint64_t offset, bytes;  /* of its last write */
    uint64_t written;        /* bytes, all its writes together */
    cp_lsn target;           /* its end; 0 while it is being found out */
    uint64_t seen;           /* flights before this number had begun when it landed */
    uint32_t riders;         /* who waited for it when the role was given up, with its leader */
    bool landed;             /* its last write or sync has ended */
};

/* Those who wait for a flush. Guarded by flush_lock; word also by the futex. */
struct cp_wal__queue {
    uint32_t word; /* rises at each wake-up */
    uint32_t waiter_count;
    cp_lsn want; /* the farthest position they wait for */
};

struct cp_wal {
    /* Set by open, or by start, and constant from then on. */
    struct cp_io *io; /* borrows */
    char *directory;  /* owns */
    struct cp_wal_options options;
    uint32_t segment_bytes, segment_blocks, buffer_bytes;
    uint32_t epoch;
    cp_lsn session_start;
    bool started, direct, dsync;
    uint32_t unit_bytes; /* of a write: a block, or what O_DIRECT asks for */
    uint8_t *ring;       /* owns; buffer_bytes; zero where nothing is published */
    uint8_t *stage;      /* borrows: that of the flight being built; the leader's */
    struct cp_fork_guard guard;
    uint32_t probe_dsync_us, probe_fdatasync_us;

    /* What the last scan found. */
    cp_lsn scan_claim; /* the log itself says that it was durable up to here */
    cp_lsn scan_end;   /* of the blocks read; 0: no scan */
    uint32_t scan_epoch;

    alignas(128) _Atomic uint64_t reserved; /* end of what was appended */
    alignas(128) _Atomic uint64_t taken;    /* ring bytes before it are free */
    _Atomic uint64_t prepared;              /* segments are assigned up to here */
    _Atomic uint64_t buffer_waits;
    alignas(128) _Atomic uint64_t durable;
    _Atomic int failed; /* 0, or the code of the write or sync that failed */

    alignas(128) pthread_mutex_t flush_lock;
    bool leading;
    bool heir_woken;     /* one of the next queue is on its way to lead */
    uint32_t riders_max; /* more of them in a flight, and none begins beside it; set by start */
    bool contended;      /* somebody had to wait for the next flight since the last one was begun */
    /* Numbers: [first_flight, next_flight) have begun and do not count yet. A flight has its place
     * in flights, and its queue, by number; queue next_flight is of those who need another. */
    _Atomic uint64_t first_flight; /* waiters look at it without the lock */
    uint64_t next_flight;
    struct cp_wal__flight flights[CP_WAL__FLIGHTS_MAX];
    struct cp_wal__queue queues[CP_WAL__QUEUES];
    uint32_t landings;       /* futex of a leader who waits to be alone */
    struct cp_error failure; /* how it failed; set before failed */
    uint64_t flush_waits, flights_beside, flights_most;

    /* The leader's. */
    struct cp_wal__segment *writing; /* the segment that holds `taken`, or the one before */
    cp_lsn next_group;               /* start of the first group not yet in a block */
    uint8_t unit[CP_WAL__UNIT_MAX];  /* image of the unit that holds the first unwritten byte */
    _Atomic uint64_t groups, records, filler_bytes; /* the leader adds, stats reads */
    _Atomic uint64_t flushes, flushed_bytes;        /* added under flush_lock; stats reads */

    pthread_mutex_t make_lock; /* one maker of segments at a time; held over I/O */

    pthread_mutex_t segments_lock; /* never held over I/O */
    struct cp_wal__segment *segments;
    uint32_t segment_count, next_index;
    uint64_t segments_created, segments_recycled;
};

/* ---- segment.c ---------------------------------------------------------------------------------
 */

/* "DIRECTORY/segment-00000001"; allocated, NULL without memory. */
char *cp_wal__path(const char *directory, uint32_t index);

/* Make a file and fill it: header (or zeros, number CP_WAL__NO_NUMBER) and zeros, file synced. */
int cp_wal__fill(struct cp_io *io, const char *path, enum cp_io_caching caching,
                 uint32_t segment_bytes, uint64_t store_id, uint64_t number);

/* Find the files of the directory and read their headers. Sets segments, segment_bytes. */
int cp_wal__find_segments(struct cp_wal *wal);
void cp_wal__forget_segments(struct cp_wal *wal);

/* Open a segment's file. dsync: with O_DSYNC. */
int cp_wal__open_file(const struct cp_wal *wal, const struct cp_wal__segment *segment,
                      bool read_only, bool dsync, struct cp_io_file **out_file);

/* The segment that holds a number, or NULL. */
struct cp_wal__segment *cp_wal__segment_find(struct cp_wal *wal, uint64_t number);

/* 0, or CP_EDAMAGED where a file is shorter than its header says. */
int cp_wal__check_whole(const struct cp_wal *wal, const struct cp_wal__segment *segment);

/* Have segments assigned up to position at least. Takes make_lock. Errors: -ENOSPC and the like. */
int cp_wal__extend(struct cp_wal *wal, cp_lsn position);

/* A spare, made when there is none. Under make_lock. */
int cp_wal__spare(struct cp_wal *wal, uint64_t number, struct cp_wal__segment **out_segment);

/* Write the header of the segment for its number, when this session has not done so yet. */
int cp_wal__write_header(struct cp_wal *wal, struct cp_wal__segment *segment, uint64_t *written);

static inline uint64_t cp_wal__segment_of(const struct cp_wal *wal, cp_lsn position)
{
    return cp_wal__block_of(position) / wal->segment_blocks;
}

static inline cp_lsn cp_wal__segment_start(const struct cp_wal *wal, uint64_t number)
{
    return cp_wal__block_start(number * wal->segment_blocks);
}

/* The first unit's end at or behind position. Segments are whole units. */
static inline cp_lsn cp_wal__unit_end(const struct cp_wal *wal, cp_lsn position)
{
    uint32_t unit_blocks = wal->unit_bytes / CP_WAL_BLOCK_BYTES;
    uint64_t block = cp_wal__block_of(cp_wal__round_up(position));
    uint64_t within = block % wal->segment_blocks % unit_blocks;
    return cp_wal__block_start(within != 0 ? block + unit_blocks - within : block);
}

/* ---- flush.c -----------------------------------------------------------------------------------
 */

/* By the leader: wait until no flight but its own is under way. The code of one that failed. */
int cp_wal__await_alone(struct cp_wal *wal);

/* ---- flight.c ----------------------------------------------------------------------------------
 */

/* By the leader: where the next flight ends, at want or behind. fill: at a unit's end, by a filler,
 * if that pays. */
cp_lsn cp_wal__choose_target(struct cp_wal *wal, cp_lsn want, bool fill);

/* By the leader: take [taken, flight's target) out of the ring; write all but the last stage. */
int cp_wal__build(struct cp_wal *wal, struct cp_wal__flight *flight);

/* Write the last stage, and have it durable. */
int cp_wal__fly(const struct cp_wal *wal, struct cp_wal__flight *flight);

/* Write the block that begins a session, and sync it. By start, before anybody else can call. */
int cp_wal__begin_session(struct cp_wal *wal);

/* The ring's bytes for a position. */
static inline uint8_t *cp_wal__at(const struct cp_wal *wal, cp_lsn position)
{
    return wal->ring + (position & (wal->buffer_bytes - 1));
}

/* A word of the ring that appenders and the leader exchange. */
static inline _Atomic uint64_t *cp_wal__word(const struct cp_wal *wal, cp_lsn position)
{
    return (_Atomic uint64_t *)(void *)cp_wal__at(wal, position);
}

/* 0, or the code to return from a call on a log that has not started, failed, or was inherited. */
int cp_wal__usable(const struct cp_wal *wal);

#endif
