/* SPDX-License-Identifier: MIT */
/* What inspect.c and backup.c share: looking into a store that is not open here. */
#ifndef CP_PAGER_INSPECT_H
#define CP_PAGER_INSPECT_H

#include "format.h"

#include <clockpool/inspect.h>

/* The lock file of who copies; see backup.c. */
#define CP_PAGER_BACKUP_LOCK "backup"

/* "directory/name": a new string, or NULL with the error recorded. */
char *cp_pager__path(const char *directory, const char *name);

/*
 * What others hold of a lock file: F_UNLCK, F_RDLCK or F_WRLCK. The descriptor, for the file's
 * text, is the caller's to close; -1 when there is none. Returns 0 or -errno (-ENOENT: no such
 * file), type being F_UNLCK then. Three system calls.
 */
int cp_pager__look_lock(const char *directory, const char *name, short *out_type,
                        int *out_fd) CP_MUST_CHECK;

/*
 * Read both superblocks of a data file that somebody may be writing to, and choose. out_valid: for
 * each slot, whether it could stand alone. Codes as cp_pager__superblock_choose.
 */
int cp_pager__look_superblock(struct cp_io_file *file, struct cp_superblock *out_block,
                              bool out_valid[2]) CP_MUST_CHECK;

/* The caller's I/O, or a plain one of our own where given is NULL. */
int cp_pager__borrow_io(struct cp_io *given, struct cp_io **out_io) CP_MUST_CHECK;
/* Ends the other's. The recorded error stays. */
void cp_pager__return_io(struct cp_io *given, struct cp_io *io);

/* The log of a store, to be scanned. */
int cp_pager__log_open(const char *directory, struct cp_io *io, uint64_t store_id,
                       struct cp_wal **out_wal) CP_MUST_CHECK;
/* What opening or reading the log returned: a file of it that is not there, or its directory, is a
 * part of the log that is missing (CP_ELOG). */
int cp_pager__missing_log(const char *directory, int code) CP_MUST_CHECK;
/*
 * As cp_pager_scan_log, of a store whose superblock is known. *out_end is set whatever is returned.
 * *out_wal (may be NULL): the log, knowing all segments up to *out_end; only when 0 is returned.
 */
int cp_pager__log_scan(const char *directory, struct cp_io *io, uint64_t store_id, cp_lsn from,
                       int (*visit)(void *ctx, const struct cp_wal_group *group), void *ctx,
                       cp_lsn *out_end, struct cp_wal **out_wal) CP_MUST_CHECK;

/* What cp_pager__log_scan returned of a scan from a superblock's checkpoint; -EINVAL, a position
 * that cannot be one, becomes CP_EFORMAT: nobody asked for that position. */
int cp_pager__bad_checkpoint(const char *directory, int code, cp_lsn checkpoint_lsn) CP_MUST_CHECK;

#endif
