/* SPDX-License-Identifier: MIT */
/*
 * Looking into a store without opening it: no lock is taken and nothing is written, so it works on
 * a store that another process has open, that needs recovery, or that lies on a read-only file
 * system. What is seen of a store in use is what was on disk at some moment during the call.
 */
#ifndef CLOCKPOOL_INSPECT_H
#define CLOCKPOOL_INSPECT_H

#include <stdbool.h>
#include <stdint.h>
#include <clockpool/io.h>
#include <clockpool/lsn.h>
#include <clockpool/status.h>
#include <clockpool/wal.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Who has the store open. */
enum cp_store_use {
    CP_STORE_FREE = 0, /* nobody */
    CP_STORE_READ,     /* one or more readers */
    CP_STORE_WRITTEN,  /* one process, for writing */
};

struct cp_store_info {
    /* from the superblock */
    uint32_t format_version;
    uint32_t page_size; /* bytes */
    uint64_t store_id;
    uint64_t generation;   /* superblocks written over the store's life */
    uint64_t page_count;   /* as of the checkpoint: one more than the highest page number */
    uint64_t first_page;   /* the smallest page number that a caller can own */
    uint64_t created_ns;   /* nanoseconds since 1970, UTC */
    cp_lsn checkpoint_lsn; /* recovery begins here */
    bool unclean;          /* written to since it was last closed. Open, or in need of recovery */
    bool slot_valid[2];    /* the two superblocks; one that is not is replaced by the next write */

    /* the data file */
    uint64_t data_bytes;
    bool cut; /* the file ends before page_count: part of it is missing */

    /* the log's segments, by their headers */
    int log_code;            /* 0, or why the rest is 0: CP_ELOG, CP_EFOREIGN ...; the thread's last
                                error then describes it */
    cp_lsn log_first;        /* the oldest position that is still there */
    uint64_t log_segments;   /* files */
    uint64_t log_disk_bytes; /* of all of them */
    uint32_t log_segment_bytes;

    /* the locks */
    enum cp_store_use use;
    int64_t holder_pid;      /* as the lock file says; 0: of nobody who lives */
    char holder_command[32]; /* printable; may be empty */
    bool copied;             /* a backup is being taken: the log is not trimmed meanwhile */
};

/*
 * Read superblocks, log headers and locks. Errors: -ENOENT when there is no store, CP_EFORMAT,
 * CP_ECHECKSUM (both superblocks damaged), CP_EVERSION, or what the system says. io: borrowed
 * during the call; NULL: plain files. Any thread; blocks on I/O.
 */
CP_API int cp_pager_inspect(const char *directory, struct cp_io *io,
                            struct cp_store_info *out_info) CP_MUST_CHECK;

/*
 * Read the log of a store as cp_wal_scan does, from a position (0: from the checkpoint on) to its
 * end, even while it grows: what is written during the call may or may not be seen, what was
 * durable before is. visit and its code as in cp_wal_scan. *out_end: the end of the last group.
 * Errors: those of cp_pager_inspect; those of cp_wal_scan, with *out_end where it stopped; -EAGAIN
 * when a writer trimmed the log while it was read.
 */
CP_API int cp_pager_scan_log(const char *directory, struct cp_io *io, cp_lsn from,
                             int (*visit)(void *ctx, const struct cp_wal_group *group), void *ctx,
                             cp_lsn *out_end) CP_MUST_CHECK;

/* The name of a record's type in a store's log, "range" or "image"; "unknown". Static storage. */
CP_API const char *cp_pager_log_type_name(uint8_t type);

#ifdef __cplusplus
}
#endif
#endif
