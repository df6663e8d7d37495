/* SPDX-License-Identifier: MIT */
/*
 * Copying a store while it is in use, by this process or by another one.
 *
 * The copy is a store that looks as after a crash at some moment during the copying: opening it
 * recovers from the log that came along. It holds every commit that was durable when cp_backup was
 * called, whole mini-transactions only. A writer goes on meanwhile; it does not trim its log until
 * the copy is done, so the log grows by what is written in that time.
 */
#ifndef CLOCKPOOL_BACKUP_H
#define CLOCKPOOL_BACKUP_H

#include <stdbool.h>
#include <stdint.h>
#include <clockpool/io.h>
#include <clockpool/lsn.h>
#include <clockpool/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How far a backup is; for a progress line. The log's part comes last and its size is not known. */
struct cp_backup_progress {
    uint64_t data_bytes_done, data_bytes; /* of the data file, which may grow meanwhile */
    uint64_t log_bytes_done;
};

struct cp_backup_options {
    /* Called after each piece of at most 1 MiB, and after a page that had to be waited for. 0 to go
     * on; a negative code ends the backup, which leaves nothing behind and returns that code. May
     * be NULL. */
    int (*progress)(void *ctx, const struct cp_backup_progress *progress);
    void *ctx;
    struct cp_io *io; /* borrowed during the call; NULL: plain files */
};

struct cp_backup_stats {
    uint64_t pages;        /* read, empty ones and the pager's own included */
    uint64_t reread_pages; /* that were being written when they were read, and read again */
    /* Damaged pages, copied as they are: neither empty nor good, and the log that was copied does
     * not make them whole, as it does those that a crash tore. More than 16384 that are not good
     * are all counted. */
    uint64_t unverified_pages;
    uint64_t first_unverified; /* its number, or CP_NO_PAGE */
    uint64_t data_bytes;       /* of the copy's data file */
    uint64_t log_bytes;        /* of the copy's log files */
    cp_lsn checkpoint_lsn;     /* opening the copy recovers from here ... */
    cp_lsn end_lsn;            /* ... to here at least */
    bool exact;                /* nobody wrote to the store: the copy is clean as it was */
    bool needed_recovery;      /* the store was not closed, and nobody had it open */
};

/*
 * Copy the store in directory into a new directory, destination: built under a temporary name
 * beside it, synced, and then renamed, so it is there as a whole or not at all. The copy has the
 * same store id. options and out_stats may be NULL.
 *
 * Errors, nothing being left behind: -EEXIST (destination), -ENOENT, CP_EFORMAT, CP_EVERSION,
 * CP_ECHECKSUM (both superblocks), CP_EDAMAGED and CP_ELOG (the log), -ENOSPC, or what the system
 * says. Any thread; blocks on I/O. Needs 2 MiB of memory.
 */
CP_API int cp_backup(const char *directory, const char *destination,
                     const struct cp_backup_options *options,
                     struct cp_backup_stats *out_stats) CP_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
