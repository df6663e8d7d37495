/* SPDX-License-Identifier: MIT */
/* The file system of the FUSE recorder: its operations, and serving them. */
#ifndef BENCH_CRASH_FUSE_FS_H
#define BENCH_CRASH_FUSE_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "trace.h"

/* A file that exists in the mount only: what is written to it is a mark. */
#define CRASH_FUSE_MARKS_NAME ".clockpool-marks"

struct crash_fuse_mark {
    uint32_t mark, lane, transaction, reserved;
    uint64_t lsn;
};

struct crash_fuse_fs;

/*
 * Serve the mounted file system behind fuse_fd (owned from here on). root_fd: the real directory,
 * borrowed. NULL when libfuse refuses.
 */
struct crash_fuse_fs *crash_fuse_fs_create(int fuse_fd, int root_fd, struct crash_trace *trace);
void crash_fuse_fs_destroy(struct crash_fuse_fs *fs);
/* Carry out one request, waiting for it. False: the file system has been unmounted. */
bool crash_fuse_fs_serve(struct crash_fuse_fs *fs);

#endif
