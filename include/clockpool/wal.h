/* SPDX-License-Identifier: MIT */
/*
 * Write-ahead log: atomic groups of records, appended by many threads, made durable together.
 *
 * A position (cp_lsn) is a byte offset in the stream of groups, which never restarts during the
 * life of a store. A group's LSN is its end. What the records mean is the caller's business; the
 * log knows a type, a page number, an offset and bytes.
 *
 * The log lives in a directory of segment files, filled with zeros beforehand and used again once
 * trimmed. docs/file-format.md has the bytes. Life of a log:
 *
 *     cp_wal_create      once, with the store
 *     cp_wal_open        finds the segments
 *     cp_wal_scan        reads groups from a position up to the end; may be repeated
 *     cp_wal_start       begins to append behind the end, under a new epoch
 *     append, flush, trim ... close
 *
 * Any thread may call append, flush, end, durable, trim, prepare and stats once the log has
 * started; the others are called by one thread at a time. A failed write or sync is final: from
 * then on append and flush return CP_EFAILED, and what was not durable then never is in this
 * session.
 */
#ifndef CLOCKPOOL_WAL_H
#define CLOCKPOOL_WAL_H

#include <stdbool.h>
#include <stdint.h>
#include <clockpool/io.h>
#include <clockpool/lsn.h>
#include <clockpool/status.h>

#ifdef __cplusplus
extern "C" {
#endif

struct cp_wal;

#define CP_WAL_BLOCK_BYTES           512u /* the unit that a device writes whole or not at all */
#define CP_WAL_SEGMENT_BYTES_DEFAULT (UINT32_C(4) << 20)
#define CP_WAL_SEGMENT_BYTES_MIN     (UINT32_C(16) << 10)
#define CP_WAL_SEGMENT_BYTES_MAX     (UINT32_C(1) << 30)
#define CP_WAL_BUFFER_BYTES_DEFAULT  (UINT32_C(8) << 20)
#define CP_WAL_BUFFER_BYTES_MIN      (UINT32_C(256) << 10)
#define CP_WAL_GROUP_RECORDS_MAX     UINT32_C(65535)

/* How a flush reaches the device. Which is faster differs from device to device. */
enum cp_wal_sync {
    CP_WAL_SYNC_PROBE = 0, /* try both when the log starts, and take the faster */
    CP_WAL_SYNC_DSYNC,     /* O_DSYNC writes */
    CP_WAL_SYNC_FDATASYNC, /* write, then fdatasync */
};

struct cp_wal_options {
    uint64_t store_id;     /* the segments must carry it; required */
    uint32_t buffer_bytes; /* of the log in memory: power of two; 0 means 8 MiB. A group is at most
                              a quarter of it */
    enum cp_wal_sync sync;
    enum cp_io_caching caching; /* of the segments; O_DIRECT where possible by default */
    bool read_only;             /* scan only */
};

/* One change. data is borrowed until the call that takes or gives the record has returned. */
struct cp_wal_record {
    const void *data; /* size_bytes bytes; NULL when that is 0 */
    uint64_t page;
    uint32_t size_bytes; /* at most 65536 */
    uint16_t offset;     /* within the page; with size_bytes at most 65536 */
    uint8_t type;        /* the caller's; not 0 */
};

/* A group as the scan gives it. Borrowed until visit returns. */
struct cp_wal_group {
    cp_lsn start, end;
    const struct cp_wal_record *records;
    uint32_t record_count;
    uint32_t epoch;
};

struct cp_wal_stats {
    cp_lsn first;                             /* the oldest position whose segment is still there */
    cp_lsn end;                               /* of what was appended */
    cp_lsn durable;                           /* of what is on the device */
    uint64_t groups, records, appended_bytes; /* the last with fillers */
    uint64_t flushes;        /* writes made durable; groups / flushes is the group commit's size */
    uint64_t flushed_bytes;  /* written to the segments, padding and repeated blocks included */
    uint64_t flights_beside; /* flushes begun while another was under way */
    uint64_t flights_most;   /* flushes under way at the same time, at most */
    uint64_t filler_bytes;   /* appended so that a flush could be begun beside another */
    uint64_t flush_waits;    /* callers of flush who had to wait for another's flush */
    uint64_t buffer_waits;   /* appends that had to wait for room in the buffer */
    uint64_t segment_count;  /* files now */
    uint64_t segments_created, segments_recycled;
    uint64_t disk_bytes; /* of all segment files */
    uint32_t segment_bytes, buffer_bytes;
    uint32_t epoch;
    const char *sync_method; /* "O_DSYNC", "fdatasync" or "" before the log starts; static */
    uint32_t probe_dsync_us, probe_fdatasync_us; /* medians of the probe; 0: not probed */
    bool direct;
    bool failed;
};

/*
 * Make a log in an existing, empty directory: one segment, filled with zeros; file and directory
 * synced. segment_bytes: power of two between the bounds above; 0 means the default. Position 0 is
 * never used, so that LSN 0 can mean "needs no log"; *out_first is where the log begins.
 */
CP_API int cp_wal_create(struct cp_io *io, const char *directory, uint64_t store_id,
                         uint32_t segment_bytes, enum cp_io_caching caching,
                         cp_lsn *out_first) CP_MUST_CHECK;

/*
 * May directory be removed to make a log there? 0 when it holds nothing but what cp_wal_create
 * leaves, come to its end or not: nothing at all, or a first segment that nobody appended to. Else
 * -ENOTEMPTY, or what the system says. Reads that segment; needs 1 MiB of memory.
 */
CP_API int cp_wal_check_unused(struct cp_io *io, const char *directory) CP_MUST_CHECK;

/*
 * Open the segments in directory. io: borrowed until close. CP_ELOG when there is none; CP_EFOREIGN
 * for another store's; CP_EVERSION; files that are no segments (names not of our form) are left
 * alone, and a file of the right name without a good header counts as an unused segment (its making
 * did not get far; the scan notices when it is missed, or when the header is no crash's doing).
 */
CP_API int cp_wal_open(struct cp_io *io, const char *directory,
                       const struct cp_wal_options *options, struct cp_wal **out_wal) CP_MUST_CHECK;

/* Close without flushing. NULL is allowed. No other call may run. */
CP_API void cp_wal_close(struct cp_wal *wal);

/*
 * Read all groups from position from (a group's start or end, or what cp_wal_create said) to the
 * log's end, which is the last complete group before the first block that was never written, or not
 * completely. visit (may be NULL) gets each group in order; a code other than 0 ends the scan and
 * is returned. *out_end: the end of the last group. Reads ahead in large pieces.
 *
 * Errors: CP_ELOG when the segment that holds from is missing, or a later one that must exist;
 * CP_EDAMAGED when what stands at the end cannot come from an interrupted write: a block that is
 * neither good, nor old, nor zero; or blocks behind it that say that they were written when the
 * log was durable beyond it; or a segment's file that is shorter than its header says. The error's
 * lsn says where.
 */
CP_API int cp_wal_scan(struct cp_wal *wal, cp_lsn from,
                       int (*visit)(void *ctx, const struct cp_wal_group *group), void *ctx,
                       cp_lsn *out_end) CP_MUST_CHECK;

/*
 * Does the log of a clean store end where the store says? To be asked before a start without a
 * scan, since recovery will begin there. epoch: the highest used so far. Reads one block at end and
 * one of each segment behind it.
 *
 * Errors: CP_ELOG when the segment that holds end is missing; CP_EDAMAGED when the block is not
 * there, the segment is cut, or a session with a higher epoch has written behind end: then the log
 * is newer than the store.
 */
CP_API int cp_wal_check_end(struct cp_wal *wal, cp_lsn end, uint32_t epoch) CP_MUST_CHECK;

/*
 * Copy the part from .. end (both as cp_wal_scan has them) into another directory, existing and
 * empty: whole segments, every block of the part verified, what lies behind end left out. Others
 * may append to the log meanwhile, but not trim it beyond from. *out_bytes: of the new files, which
 * are synced. Errors: CP_ELOG, CP_EDAMAGED, -ENOSPC or what the system says; files may be left
 * then.
 */
CP_API int cp_wal_copy(struct cp_wal *wal, cp_lsn from, cp_lsn end, const char *directory,
                       uint64_t *out_bytes) CP_MUST_CHECK;

/*
 * Begin to append. end: what cp_wal_scan said, or the position up to which a clean store needs no
 * log (cp_wal_check_end). epoch: higher than any used before on this store, even by a session that
 * left no trace in the log. Appending begins at the next block boundary at or behind end. Probes
 * the sync method.
 */
CP_API int cp_wal_start(struct cp_wal *wal, cp_lsn end, uint32_t epoch) CP_MUST_CHECK;

/*
 * Append a group: all of it or nothing survives. Returns 0 and the group's end; it is durable once
 * cp_wal_durable() >= *out_end. Waits for room in the buffer, and for a segment to be made when
 * none is ready. Errors, nothing having been appended: CP_ETOOLARGE (beyond cp_wal_group_max, or
 * too many records), -ENOSPC and the like (no segment could be made; free space and try again),
 * CP_EFAILED.
 */
CP_API int cp_wal_append(struct cp_wal *wal, const struct cp_wal_record *records, uint32_t count,
                         cp_lsn *out_end) CP_MUST_CHECK;

/* Bytes that a group of these records takes, and the most that append accepts. */
CP_API uint64_t cp_wal_group_bytes(const struct cp_wal_record *records, uint32_t count);
CP_API uint64_t cp_wal_group_max(const struct cp_wal *wal);

/*
 * Return once everything up to upto is durable. One flush serves all who wait. upto beyond the end
 * means the end. Errors: the code of the write or sync that failed, CP_EFAILED afterwards.
 */
CP_API int cp_wal_flush(struct cp_wal *wal, cp_lsn upto) CP_MUST_CHECK;

/* End of what was appended, and of what is durable. Never block; monotonic. */
CP_API cp_lsn cp_wal_end(const struct cp_wal *wal);
CP_API cp_lsn cp_wal_durable(const struct cp_wal *wal);

/* The gate of this log for a pool: durable_lsn and flush. Valid until close. */
CP_API void cp_wal_gate(struct cp_wal *wal, struct cp_lsn_gate *out_gate);

/* Nothing before redo is needed any more: its segments may be used again. */
CP_API void cp_wal_trim(struct cp_wal *wal, cp_lsn redo);

/*
 * Work that need not be done under a commit: have a segment ready in advance, remove files beyond
 * keep_bytes. A hint for background threads; without it append does the first when it must.
 */
CP_API int cp_wal_prepare(struct cp_wal *wal, uint64_t keep_bytes) CP_MUST_CHECK;

/*
 * Have files for the next size_bytes of log, at most the buffer's size: appends that stay within
 * them do not fail for want of space. Cheap when they are there. Errors: -EINVAL for more than
 * that, and those of append.
 */
CP_API int cp_wal_reserve(struct cp_wal *wal, uint32_t size_bytes) CP_MUST_CHECK;

/* In a forked child, which waits for no lock, what concerns segments and waits is 0. */
CP_API void cp_wal_stats(const struct cp_wal *wal, struct cp_wal_stats *out_stats);

#ifdef __cplusplus
}
#endif
#endif
