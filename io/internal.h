/* SPDX-License-Identifier: MIT */
/*
 * What the files of the io module share: the structures behind the handles, counters, and the step
 * that turns a raw result into "finished" or "once more".
 */
#ifndef CLOCKPOOL_IO_INTERNAL_H
#define CLOCKPOOL_IO_INTERNAL_H

#include <clockpool/io.h>

#include <stdalign.h>
#include <stdatomic.h>
#include <clockpool/base/thread.h>

/* Counters, one set per thread slot: see cp_thread_slot. Named like the fields of cp_io_stats. */
enum cp_io__counter {
    CP_IO__READS,
    CP_IO__WRITES,
    CP_IO__SYNCS,
    CP_IO__READ_BYTES,
    CP_IO__WRITTEN_BYTES,
    CP_IO__SUBMIT_CALLS,
    CP_IO__SUBMITTED,
    CP_IO__SHORT_TRANSFERS,
    CP_IO__RETRIES,
    CP_IO__ERRORS,
    CP_IO__COUNTERS,
};

/* Counts gathered on the stack, then added at once. */
struct cp_io__tally {
    uint64_t count[CP_IO__COUNTERS];
};

struct cp_io__slot {
    alignas(128) _Atomic uint64_t count[CP_IO__COUNTERS]; /* two lines: the prefetcher pairs them */
};

struct cp_io {
    const struct cp_io_backend *backend; /* borrows */
    void *ctx;                           /* borrows: the backend's */
    const char *reason;
    struct cp_fork_guard guard;
    struct cp_io__slot slots[CP_THREAD_SLOTS + 1];
};

struct cp_io_file {
    struct cp_io *io; /* borrows */
    char *path;       /* owns */
    int fd;           /* owns, in the backend's sense */
    bool direct;
    const char *direct_reason;
    uint32_t memory_align_bytes, offset_align_bytes;
    uint32_t atomic_write_max_bytes;
};

void cp_io__add(struct cp_io *io, const struct cp_io__tally *tally);

/* Check a request and compute size_bytes; returns 0, -EINVAL, or -EFBIG. */
int cp_io__prepare(struct cp_io_request *request);

/*
 * Does a file that ends there exceed RLIMIT_FSIZE? To be asked before the kernel is, which would
 * write what fits and then end the process by SIGXFSZ. Each time: the limit can change. Any thread.
 */
bool cp_io__exceeds_limit(uint64_t end_bytes);

/* The part of a request that is still to be moved. out_count may be 0. */
void cp_io__rest(const struct cp_io_request *request, struct iovec **out_iov, uint32_t *out_count);

/*
 * Take in the raw result of one attempt (bytes or a code). True: finished, result is set. False:
 * the request stands for the rest and has to be carried out once more. tally counts what happened.
 */
bool cp_io__advance(struct cp_io_request *request, ssize_t raw, struct cp_io__tally *tally);

/* Count a request that ends with request->result, which is set. */
void cp_io__count_finished(const struct cp_io_request *request, struct cp_io__tally *tally);

/* Carry a request out by readv, writev and sync until it is finished. */
void cp_io__run(struct cp_io_request *request, struct cp_io__tally *tally);

/* Why cp_io_backend_uring() returned what it did. Static storage. */
const char *cp_io__uring_reason(void);

/* The POSIX operations, which both backends share. */
int cp_io__posix_open(void *ctx, const char *path, int flags, uint32_t mode);
int cp_io__posix_close(void *ctx, int fd);
ssize_t cp_io__posix_readv(void *ctx, int fd, const struct iovec *iov, int iov_count,
                           uint64_t offset);
ssize_t cp_io__posix_writev(void *ctx, int fd, const struct iovec *iov, int iov_count,
                            uint64_t offset);
int cp_io__posix_sync(void *ctx, int fd);
int cp_io__posix_resize(void *ctx, int fd, uint64_t size_bytes);
int cp_io__posix_allocate(void *ctx, int fd, uint64_t offset_bytes, uint64_t size_bytes);
int cp_io__posix_size(void *ctx, int fd, uint64_t *out_size_bytes);
int cp_io__posix_directory_sync(void *ctx, const char *path);
int cp_io__posix_rename(void *ctx, const char *from, const char *to);
int cp_io__posix_unlink(void *ctx, const char *path);
int cp_io__posix_mkdir(void *ctx, const char *path, uint32_t mode);
int cp_io__posix_list(void *ctx, const char *path, int (*visit)(void *visit_ctx, const char *name),
                      void *visit_ctx);

/* May this request be made untorn? Its size is known. */
bool cp_io__untorn_possible(const struct cp_io_request *request);

#endif
