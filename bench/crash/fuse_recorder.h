/* SPDX-License-Identifier: MIT */
/*
 * Records what any program does to the files of a directory, a writable shared mapping included: a
 * pass-through file system (libfuse3) stands between the program and the files and appends every
 * write, flush, creation, renaming, truncation and removal to a trace. What the kernel writes back
 * from a mapping arrives here as writes, when the kernel decides to, which nothing inside the
 * program could see.
 *
 *     caller ---- waits -----> recorder process ---- serves ----> mount
 *                                     \---- waits ----> workload process, works below the mount
 *
 * The mount lives in a mount namespace of these two processes alone. It is gone with them, whatever
 * ends them; nobody else ever sees it. Should the recorder process die, the kernel fails every
 * request under way: the workload gets errors, and is killed too.
 *
 * Root, or a kernel that lets users make namespaces (most do), and a /dev/fuse that one may open
 * are needed. crash_fuse_unavailable says what is missing.
 */
#ifndef BENCH_CRASH_FUSE_RECORDER_H
#define BENCH_CRASH_FUSE_RECORDER_H

#include <stddef.h>
#include <stdint.h>
#include "trace.h"

/* What the workload is given. */
struct crash_fuse_place {
    const char *path; /* the mount: work here; absolute, without a slash at the end */
    int marks_fd;     /* for crash_fuse_mark */
    char *text;       /* say here why it failed */
    size_t text_capacity;
};

struct crash_fuse_options {
    const char *root;          /* where the files really are; an existing directory */
    struct crash_trace *trace; /* appended to. Must know already what is in root: see
                                  crash_recorder_baseline */
    /*
     * Runs in a process of its own, single-threaded at first, signals at their defaults, a copy of
     * the caller's memory. 0, or -1 with place->text.
     */
    int (*workload)(void *ctx, const struct crash_fuse_place *place);
    void *ctx;
    /* Called in the workload's process before the mount is used, e.g. to join a cgroup; may be
     * NULL. */
    void (*prepare)(void *ctx);
    /* Asked in the caller's process after a signal that it catches: nonzero ends the recording. May
     * be NULL. */
    int (*interrupted)(void);
};

/* NULL, or why nothing can be recorded here, in a few words. Tries it, once per process. */
const char *crash_fuse_unavailable(void);

/*
 * Mount, run the workload, unmount, append to the trace. 0, or -1 with text: the recording could
 * not be done, or the workload failed or died. Not for several threads at once.
 */
int crash_fuse_record(const struct crash_fuse_options *options, char *text, size_t capacity);

/*
 * For the workload: put a mark between the events. All that this process has told the kernel before
 * (write, fsync, msync) comes before the mark, and what follows comes after.
 */
void crash_fuse_mark(const struct crash_fuse_place *place, enum crash_mark mark, unsigned lane,
                     uint32_t transaction, uint64_t lsn);

#endif
