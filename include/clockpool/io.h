/* SPDX-License-Identifier: MIT */
/*
 * Files and requests: submission and completion apart.
 *
 * A cp_io is a backend in use (io_uring, synchronous, or one of the caller's own). It opens files,
 * does synchronous transfers, and creates rings. A ring carries many requests at a time: put them,
 * submit, and wait; any thread may reap any completion of a ring, and a request is finished by a
 * callback on whichever thread reaped it. The module resumes short transfers and retries EINTR and
 * EAGAIN; what it reports is final.
 *
 * Errors are codes as in status.h with path, offset and hint recorded for the calling thread;
 * results of ring requests carry the code only, since they may be reaped elsewhere.
 */
#ifndef CLOCKPOOL_IO_H
#define CLOCKPOOL_IO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <clockpool/status.h>

#ifdef __cplusplus
extern "C" {
#endif

struct cp_io;
struct cp_io_file;
struct cp_io_ring;

/* Largest transfer of one request: beyond it the kernel hands requests to a worker thread. */
#define CP_IO_MAX_TRANSFER_BYTES (UINT32_C(1) << 20)
#define CP_IO_MAX_IOVECS         254u /* the segments a virtio disk takes in one request */
#define CP_IO_RETRY_LIMIT        64u  /* EAGAIN or EINTR in a row before the code is reported */

enum cp_io_kind {
    CP_IO_AUTO = 0, /* io_uring, or synchronous where the kernel forbids it */
    CP_IO_URING,    /* io_uring or an error */
    CP_IO_SYNC,     /* preadv/pwritev */
};

struct cp_io_backend; /* below */

struct cp_io_options {
    enum cp_io_kind kind;
    const struct cp_io_backend *backend; /* not NULL: use this one; kind is ignored; borrowed */
    void *backend_ctx;                   /* passed to the backend's functions */
};

struct cp_io_stats {
    const char *backend_name;      /* static storage */
    const char *reason;            /* why this backend was chosen, in words; static storage */
    uint64_t reads, writes, syncs; /* requests completed, synchronous ones included */
    uint64_t read_bytes, written_bytes;
    uint64_t submit_calls, submitted; /* system calls to submit, requests they carried */
    uint64_t short_transfers, retries, errors;
};

CP_API int cp_io_create(const struct cp_io_options *options, struct cp_io **out_io) CP_MUST_CHECK;
/* All files and rings must be closed. NULL is allowed. */
CP_API void cp_io_destroy(struct cp_io *io);
CP_API void cp_io_stats(const struct cp_io *io, struct cp_io_stats *out_stats);

/* ---- files ------------------------------------------------------------------------------------
 */

enum cp_io_caching {
    CP_IO_DIRECT_IF_POSSIBLE = 0, /* O_DIRECT; buffered where the file system refuses it */
    CP_IO_DIRECT,                 /* O_DIRECT or an error */
    CP_IO_BUFFERED,
};

struct cp_io_file_options {
    bool create; /* create it; with exclusive, fail with -EEXIST when it exists */
    bool exclusive;
    bool read_only;
    bool truncate;
    bool dsync;    /* O_DSYNC: a write is durable when it returns */
    bool regular;  /* refuse (CP_EFORMAT) what is there and is neither a regular file nor a block
                      device: opening a FIFO, say, waits until somebody opens its other end */
    uint32_t mode; /* permission bits; 0 means 0600 */
    enum cp_io_caching caching;
    uint32_t block_bytes; /* the caller's transfer unit and alignment; 0 means 4096. O_DIRECT is
                             used only when the file's own alignment divides it */
};

struct cp_io_file_info {
    const char *path;          /* as opened; borrowed until the file is closed */
    int fd;                    /* borrowed; -1 for a backend without descriptors */
    bool direct;               /* O_DIRECT is in force */
    const char *direct_reason; /* why, or why not; static storage */
    uint32_t memory_align_bytes, offset_align_bytes; /* what O_DIRECT asks for; 1 when buffered */
    uint32_t atomic_write_max_bytes; /* largest untorn write (cp_io_request.untorn) that device and
                                        backend promise, from the file's block size on; 0: none */
};

/* Errors: -errno of open, or CP_EFORMAT (regular), with path and hint recorded. */
CP_API int cp_io_file_open(struct cp_io *io, const char *path,
                           const struct cp_io_file_options *options,
                           struct cp_io_file **out_file) CP_MUST_CHECK;
/* No request may be in flight. NULL is allowed. Returns what close(2) says; the file is gone
 * anyway. */
CP_API int cp_io_file_close(struct cp_io_file *file);
CP_API void cp_io_file_info(const struct cp_io_file *file, struct cp_io_file_info *out_info);
CP_API int cp_io_file_size(struct cp_io_file *file, uint64_t *out_size_bytes) CP_MUST_CHECK;
/* Set the size (ftruncate). */
CP_API int cp_io_file_resize(struct cp_io_file *file, uint64_t size_bytes) CP_MUST_CHECK;
/*
 * Make sure that the file system has room for a range and that the file reaches at least its end
 * (fallocate; where a file system cannot, zeros are written). -ENOSPC leaves the size as it was,
 * and so does -EFBIG: RLIMIT_FSIZE is looked at here and before each write, which is refused as a
 * whole.
 */
CP_API int cp_io_file_allocate(struct cp_io_file *file, uint64_t offset_bytes,
                               uint64_t size_bytes) CP_MUST_CHECK;
/* fdatasync. Never retried: after a failure the kernel may have dropped what was not written. */
CP_API int cp_io_file_sync(struct cp_io_file *file) CP_MUST_CHECK;

/* Make a directory's entries durable. */
CP_API int cp_io_directory_sync(struct cp_io *io, const char *path) CP_MUST_CHECK;
/* rename(2) within one file system; not durable before cp_io_directory_sync. */
CP_API int cp_io_rename(struct cp_io *io, const char *from, const char *to) CP_MUST_CHECK;
CP_API int cp_io_unlink(struct cp_io *io, const char *path) CP_MUST_CHECK;
CP_API int cp_io_mkdir(struct cp_io *io, const char *path, uint32_t mode) CP_MUST_CHECK;
/*
 * Call visit with the name of each entry of a directory but "." and "..", in no particular order.
 * name: borrowed until visit returns. A code other than 0 from visit ends the listing and is
 * returned. -EOPNOTSUPP where the caller's backend has no list.
 */
CP_API int cp_io_list(struct cp_io *io, const char *path,
                      int (*visit)(void *visit_ctx, const char *name),
                      void *visit_ctx) CP_MUST_CHECK;

/*
 * Transfer exactly size_bytes, waiting for it. A read that meets the end of the file fails with
 * -ENODATA. buffer, offset and size must satisfy cp_io_file_info's alignments. Any thread. These
 * are the cheapest way to move one page: one system call, no ring.
 */
CP_API int cp_io_read(struct cp_io_file *file, void *buffer, uint64_t size_bytes,
                      uint64_t offset_bytes) CP_MUST_CHECK;
CP_API int cp_io_write(struct cp_io_file *file, const void *buffer, uint64_t size_bytes,
                       uint64_t offset_bytes) CP_MUST_CHECK;

/* ---- rings ------------------------------------------------------------------------------------
 */

enum cp_io_op {
    CP_IO_OP_READ,
    CP_IO_OP_WRITE,
    CP_IO_OP_SYNC, /* fdatasync; covers only writes that completed before it was put */
};

/*
 * One request. The caller owns it and keeps it, its iovecs and their memory unchanged from put to
 * complete. Fields above the line are set by the caller.
 */
struct cp_io_request {
    enum cp_io_op op;
    struct cp_io_file *file;
    uint64_t offset_bytes;
    struct iovec *iov; /* at most CP_IO_MAX_IOVECS, CP_IO_MAX_TRANSFER_BYTES in all; the module
                          may change the array while the request is in flight (short transfers) */
    uint32_t iov_count;
    /*
     * A write that is there whole or not at all after a power failure (RWF_ATOMIC): a power of two
     * of bytes within the file's atomic_write_max_bytes, aligned to its size. -EOPNOTSUPP where
     * that is 0.
     */
    bool untorn;
    /*
     * Called once, by the thread that reaped the completion, with no lock held. It may put further
     * requests and must not wait on a ring. The request may be reused or freed inside.
     */
    void (*complete)(struct cp_io_request *request);
    void *user;
    /* --------------------------------------------------------------------------------------------
     */
    int result;          /* 0: all bytes moved; -ENODATA: end of file; or another negative code */
    uint32_t attempts;   /* module: EAGAIN and EINTR in a row */
    uint64_t size_bytes; /* module: total of the iovecs at put */
    uint64_t done_bytes; /* module: moved so far */
    struct cp_io_request *next; /* module */
};

struct cp_io_ring_options {
    uint32_t depth; /* most requests in flight in the kernel; 0 means 256; the rest wait in line */
    /* Memory in which most transfers lie, in pieces that cp_io_ring_register names by number. */
    void *buffer_base;
    uint64_t buffer_bytes;       /* 0: nothing to register */
    uint64_t buffer_piece_bytes; /* a multiple of the system's page size, at most 1 GiB; required
                                    with buffer_bytes */
};
#define CP_IO_BUFFER_PIECES_MAX 16384u /* the kernel's limit */

struct cp_io_ring_stats {
    uint32_t depth;
    uint64_t registered_bytes;
    const char *buffers_reason; /* why not (all of them), in words; static storage */
    bool files_registered;
    uint64_t in_flight, backlog;
    uint64_t waits;     /* times a thread slept for a completion */
    uint64_t handovers; /* times the reaper's role went to a sleeping thread */
};

CP_API int cp_io_ring_create(struct cp_io *io, const struct cp_io_ring_options *options,
                             struct cp_io_ring **out_ring) CP_MUST_CHECK;
/*
 * Waits for what is in flight (its callbacks run), then frees the ring. No other thread may be
 * inside a function of this ring. NULL is allowed.
 */
CP_API void cp_io_ring_destroy(struct cp_io_ring *ring);

/*
 * Put a request in line without a system call. Never fails and never blocks on I/O: a request that
 * cannot be carried out completes with a code. Any thread. The synchronous backend carries it out
 * at the next submit.
 */
CP_API void cp_io_ring_put(struct cp_io_ring *ring, struct cp_io_request *request);

/* Hand everything put so far to the kernel, as far as depth allows. Any thread. */
CP_API void cp_io_ring_submit(struct cp_io_ring *ring);
/* The same, where something that was put has not been taken yet; else it costs a load. */
CP_API void cp_io_ring_submit_pending(struct cp_io_ring *ring);

/*
 * cp_io_ring_submit once enough is in line to be worth a system call: four requests, and an eighth
 * of what is in flight; or where another thread sleeps that may be waiting for it. For who puts one
 * by one and computes in between: the device goes on meanwhile. The synchronous backend, which
 * would block, waits for such a thread or for cp_io_ring_submit. Any thread.
 */
CP_API void cp_io_ring_submit_batch(struct cp_io_ring *ring);

/* Submit, then finish what has completed, without waiting. Returns the number finished here. */
CP_API uint32_t cp_io_ring_poll(struct cp_io_ring *ring);

/*
 * Submit, then return once done(ctx) is true. One waiting thread at a time sleeps in the kernel and
 * reaps for all; the others sleep until their own condition holds or the role is handed to them, so
 * nobody sleeps on another thread's page. done is called often, from any waiting thread, with the
 * ring's lock held: it must be quick and must not call into the ring. It must depend on nothing but
 * completions of this ring; a change from elsewhere is told by cp_io_ring_notify. In a forked child
 * it completes with CP_EFORKED what was put there and returns, whatever done says.
 */
CP_API void cp_io_ring_wait(struct cp_io_ring *ring, bool (*done)(void *ctx), void *ctx);

/* Have sleeping waiters look at their condition again. */
CP_API void cp_io_ring_notify(struct cp_io_ring *ring);

CP_API void cp_io_ring_stats(struct cp_io_ring *ring, struct cp_io_ring_stats *out_stats);

/*
 * Register a piece of the buffers, all of which must be mapped: the kernel keeps it in memory until
 * cp_io_ring_unregister, and transfers within it spare it some work. 0, or the kernel's refusal
 * (cp_io_ring_stats has it in words), which costs nothing else. A piece is unregistered before it
 * is unmapped or given back, while no transfer in it is under way. Any thread; one at a time for
 * each piece.
 */
CP_API int cp_io_ring_register(struct cp_io_ring *ring, uint32_t piece);
CP_API void cp_io_ring_unregister(struct cp_io_ring *ring, uint32_t piece);

/* ---- writing a backend ------------------------------------------------------------------------
 */

/*
 * The raw operations, as a kernel would do them: transfers may be short, anything may fail with any
 * code. Used by the tests to inject faults and to record writes. File descriptors are the backend's
 * own small integers. Functions return >= 0 or a negative code. Any thread may call any of them.
 */
struct cp_io_backend {
    const char *name;
    int (*open)(void *ctx, const char *path, int flags, uint32_t mode);
    int (*close)(void *ctx, int fd);
    ssize_t (*readv)(void *ctx, int fd, const struct iovec *iov, int iov_count, uint64_t offset);
    ssize_t (*writev)(void *ctx, int fd, const struct iovec *iov, int iov_count, uint64_t offset);
    int (*sync)(void *ctx, int fd);
    int (*resize)(void *ctx, int fd, uint64_t size_bytes);
    int (*allocate)(void *ctx, int fd, uint64_t offset_bytes, uint64_t size_bytes);
    int (*size)(void *ctx, int fd, uint64_t *out_size_bytes);
    int (*directory_sync)(void *ctx, const char *path);
    int (*rename)(void *ctx, const char *from, const char *to);
    int (*unlink)(void *ctx, const char *path);
    int (*mkdir)(void *ctx, const char *path, uint32_t mode);
    /* Optional, needed by logs: see cp_io_list. */
    int (*list)(void *ctx, const char *path, int (*visit)(void *visit_ctx, const char *name),
                void *visit_ctx);

    /*
     * Optional asynchronous part. ring_create NULL means that rings carry out requests by readv,
     * writev and sync at submit. ring_queue takes a request (the remaining part of it) or returns
     * -EAGAIN when full; ring_submit hands what was queued to the kernel and returns how many it
     * took (the rest stays queued), or a code, and has then forgotten all that was queued; the
     * caller finishes those requests with the code. ring_queue, ring_submit, ring_wake and
     * ring_register are called by one thread at a time, ring_reap too, but both at once.
     * out_facts arrives with the depth set; ring_create fills in what became of registration.
     * ring_reap stores up to capacity finished requests and their raw results (bytes or code) and
     * returns how many, waiting for at least one when wait is true.
     */
    int (*ring_create)(void *ctx, const struct cp_io_ring_options *options, void **out_ring,
                       struct cp_io_ring_stats *out_facts);
    void (*ring_destroy)(void *ctx, void *ring);
    int (*ring_queue)(void *ctx, void *ring, int fd, struct cp_io_request *request);
    int (*ring_submit)(void *ctx, void *ring);
    int (*ring_reap)(void *ctx, void *ring, bool wait, struct cp_io_request **out_requests,
                     int *out_results, uint32_t capacity);
    /* Optional: register a piece of the buffers, or (on false) unregister it. 0 or a code; -ENXIO
     * when there is no such piece. */
    int (*ring_register)(void *ctx, void *ring, uint32_t piece, bool on);
    /* Optional: might ring_reap find something without waiting? Any thread, at any time; cheap. */
    bool (*ring_ready)(void *ctx, void *ring);
    /*
     * Optional: make a ring_reap that waits, or the next one, return though nothing has finished.
     * Without it, cp_io_ring_notify reaches a thread that sleeps in ring_reap only at the next
     * completion.
     */
    void (*ring_wake)(void *ctx, void *ring);
};

/* The synchronous POSIX backend (ctx NULL), for backends that wrap it. */
CP_API const struct cp_io_backend *cp_io_backend_sync(void);
/* The io_uring backend (ctx NULL), or NULL where this kernel or its policy forbids io_uring. */
CP_API const struct cp_io_backend *cp_io_backend_uring(void);

#ifdef __cplusplus
}
#endif
#endif
