/* SPDX-License-Identifier: MIT */
/*
 * io_uring beneath the rings. Files and synchronous transfers are POSIX calls.
 *
 * Rings are in the default mode: any thread may submit and any may reap. Registered buffers and
 * files are best effort, and every use of them has a plain twin.
 *
 * Invariants
 * 1. Outside ring_queue .. ring_submit the submission queue is empty: what the kernel does not
 *    take stays and is counted, or is taken back. So ring_wake always finds room.
 * 2. A file in a ring's table is taken out before its descriptor is closed: the kernel would keep
 *    it open (and its locks held), and the number may come to mean another file.
 * 3. The completion queue has room for depth requests and a wake, so it never overflows.
 *
 * Locks: rings_lock guards the list of rings; a leaf.
 */
#include "internal.h"

#include <clockpool/base/assert.h>
#include <clockpool/base/bits.h>

#include <errno.h>
#include <liburing.h>
#include <link.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define UNTORN_FLAG    0x00000040 /* RWF_ATOMIC, which Debian 12's headers do not have */
#define FILE_SLOTS     1024u      /* a file's slot is its descriptor; larger ones go unregistered */
#define QUEUE_ENTRIES  512u       /* queued between two system calls, at most */
#define WAKE_ENTRIES   64u        /* completions of ring_wake not yet reaped, generously */
#define SUBMIT_RETRIES CP_IO_RETRY_LIMIT

struct uring {
    struct io_uring ring;
    pid_t owner;
    uint32_t queued_count;
    uintptr_t buffer_base; /* start of the first piece */
    uint64_t buffer_bytes; /* 0: no piece can be registered */
    uint64_t piece_bytes;
    uint64_t pieces[CP_IO_BUFFER_PIECES_MAX / 64]; /* bit: registered; under the submitter's lock */
    bool files;
    _Atomic uint64_t file_slots[FILE_SLOTS / 64]; /* bit: this descriptor is in the table */
    struct uring *next, **link;                   /* rings_lock */
};

static pthread_mutex_t probe_lock = PTHREAD_MUTEX_INITIALIZER; /* guards these; a leaf */
static bool probe_final;
static int probe_code;
static const char *probe_reason = "not asked yet";
static bool under_valgrind;

static pthread_mutex_t rings_lock = PTHREAD_MUTEX_INITIALIZER;
static struct uring *rings;

/* A forked child inherits no usable ring, and perhaps the lock in the hands of a lost thread. */
static void forget_rings(void)
{
    pthread_mutex_init(&probe_lock, NULL);
    pthread_mutex_init(&rings_lock, NULL);
    rings = NULL;
}

/* Told by the object that valgrind loads into each process, so its headers are not needed. */
static int is_valgrinds(struct dl_phdr_info *object, size_t size, void *ctx)
{
    (void)size;
    (void)ctx;
    return strstr(object->dlpi_name, "/vgpreload_core") != NULL;
}

static void probe(void)
{
    struct io_uring ring;
    under_valgrind = dl_iterate_phdr(is_valgrinds, NULL) != 0;
    probe_code = io_uring_queue_init(2, &ring, 0);
    switch (probe_code) {
    case 0:
        io_uring_queue_exit(&ring);
        probe_reason = "io_uring is available";
        probe_code = pthread_atfork(NULL, NULL, forget_rings) == 0 ? 0 : -ENOMEM;
        break;
    case -ENOSYS:
        probe_reason = "io_uring_setup failed with ENOSYS: this kernel has no io_uring";
        break;
    case -EPERM:
    case -EACCES:
        probe_reason = "io_uring_setup failed with EPERM: forbidden by a seccomp filter or by "
                       "kernel.io_uring_disabled";
        break;
    case -ENOMEM:
        probe_reason = "io_uring_setup failed with ENOMEM: RLIMIT_MEMLOCK or memory is too small";
        break;
    case -EMFILE:
    case -ENFILE:
        probe_reason = "io_uring_setup failed: too many open files";
        break;
    default:
        probe_reason = "io_uring_setup failed";
        break;
    }
}

/* A yes, and a no of the kernel's, hold for ever; what memory or descriptors lack may come back. */
static int probe_until_final(void)
{
    pthread_mutex_lock(&probe_lock);
    if (!probe_final)
        probe();
    probe_final =
        probe_code == 0 || probe_code == -ENOSYS || probe_code == -EPERM || probe_code == -EACCES;
    int code = probe_code;
    pthread_mutex_unlock(&probe_lock);
    return code;
}

const char *cp_io__uring_reason(void)
{
    pthread_mutex_lock(&probe_lock);
    const char *reason = probe_reason;
    pthread_mutex_unlock(&probe_lock);
    return reason;
}

/* ---- registered files -------------------------------------------------------------------------
 */

/* The slot of a descriptor in the ring's table, entered at first use; -1: use it plainly. */
static int file_slot(struct uring *u, int fd)
{
    if (!u->files || (unsigned)fd >= FILE_SLOTS)
        return -1;
    _Atomic uint64_t *word = &u->file_slots[(unsigned)fd / 64];
    uint64_t bit = UINT64_C(1) << ((unsigned)fd % 64);
    /* relaxed: the bit is set by this role, and cleared only while no request names the file */
    if ((atomic_load_explicit(word, memory_order_relaxed) & bit) != 0)
        return fd;
    if (io_uring_register_files_update(&u->ring, (unsigned)fd, &fd, 1) != 1) {
        u->files = false;
        return -1;
    }
    atomic_fetch_or_explicit(word, bit, memory_order_relaxed);
    return fd;
}

static int uring_close(void *ctx, int fd)
{
    pthread_mutex_lock(&rings_lock);
    for (struct uring *u = rings; u != NULL && (unsigned)fd < FILE_SLOTS; u = u->next) {
        uint64_t bit = UINT64_C(1) << ((unsigned)fd % 64);
        int none = -1;
        uint64_t before = atomic_fetch_and_explicit(&u->file_slots[(unsigned)fd / 64], ~bit,
                                                    memory_order_relaxed);
        if ((before & bit) != 0)
            io_uring_register_files_update(&u->ring, (unsigned)fd, &none, 1);
    }
    pthread_mutex_unlock(&rings_lock);
    return cp_io__posix_close(ctx, fd);
}

static void register_files(struct uring *u, struct cp_io_ring_stats *facts)
{
    struct rlimit limit;
    unsigned slots = FILE_SLOTS;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < slots)
        slots = (unsigned)limit.rlim_cur;
    /* With fewer slots than FILE_SLOTS, descriptors stay below the limit and so in the table. */
    u->files = io_uring_register_files_sparse(&u->ring, slots) == 0;
    facts->files_registered = u->files;
}

/* ---- registered buffers -----------------------------------------------------------------------
 */

/* An empty table, for pieces that come one by one. */
static void prepare_buffers(struct uring *u, const struct cp_io_ring_options *options,
                            struct cp_io_ring_stats *facts)
{
    if (options->buffer_bytes == 0)
        return;
    uint64_t pieces =
        (options->buffer_bytes + options->buffer_piece_bytes - 1) / options->buffer_piece_bytes;
    if (pieces > CP_IO_BUFFER_PIECES_MAX) {
        facts->buffers_reason = "more pieces than the kernel has room for";
        return;
    }
    if (io_uring_register_buffers_sparse(&u->ring, (unsigned)pieces) != 0) {
        facts->buffers_reason = "the kernel (before 5.19) cannot register them one by one";
        return;
    }
    u->buffer_base = (uintptr_t)options->buffer_base;
    u->buffer_bytes = options->buffer_bytes;
    u->piece_bytes = options->buffer_piece_bytes;
}

static int uring_register(void *ctx, void *ring, uint32_t piece, bool on)
{
    struct uring *u = ring;
    uint64_t at = piece * u->piece_bytes;
    uint64_t bit = UINT64_C(1) << piece % 64;
    struct iovec iov = {NULL, 0};
    __u64 tag = 0;

    (void)ctx;
    if (at >= u->buffer_bytes) /* no such piece, or no table: prepare_buffers has said why */
        return -ENXIO;
    if (on)
        iov = (struct iovec){(char *)u->buffer_base + at,
                             cp_min_u64(u->piece_bytes, u->buffer_bytes - at)};
    else
        u->pieces[piece / 64] &= ~bit;
    int code = io_uring_register_buffers_update_tag(&u->ring, piece, &iov, &tag, 1);
    if (code < 0)
        return code;
    if (on)
        u->pieces[piece / 64] |= bit;
    return 0;
}

/* The registered piece that holds the whole of iov, or -1. */
static int piece_of(const struct uring *u, const struct iovec *iov)
{
    uint64_t start = (uintptr_t)iov->iov_base - u->buffer_base; /* huge when below the base */
    if (start >= u->buffer_bytes || iov->iov_len > u->buffer_bytes - start || iov->iov_len == 0)
        return -1;
    uint64_t piece = start / u->piece_bytes;
    if ((start + iov->iov_len - 1) / u->piece_bytes != piece ||
        (u->pieces[piece / 64] >> piece % 64 & 1) == 0)
        return -1;
    return (int)piece;
}

/* ---- the ring ---------------------------------------------------------------------------------
 */

static int uring_create(void *ctx, const struct cp_io_ring_options *options, void **out_ring,
                        struct cp_io_ring_stats *out_facts)
{
    (void)ctx;
    uint32_t depth = out_facts->depth;
    struct io_uring_params params = {
        .flags = IORING_SETUP_CQSIZE,
        .cq_entries = 2 * (depth + WAKE_ENTRIES), /* at least twice the submission queue */
    };
    struct uring *u = calloc(1, sizeof *u);
    if (u == NULL)
        return -ENOMEM;
    int code =
        io_uring_queue_init_params((unsigned)cp_min_u64(depth, QUEUE_ENTRIES), &u->ring, &params);
    if (code != 0)
        goto free_u;
    code = io_uring_ring_dontfork(&u->ring);
    if (code != 0)
        goto exit_ring;
    u->owner = getpid();
    register_files(u, out_facts);
    prepare_buffers(u, options, out_facts);

    pthread_mutex_lock(&rings_lock);
    u->next = rings;
    u->link = &rings;
    if (rings != NULL)
        rings->link = &u->next;
    rings = u;
    pthread_mutex_unlock(&rings_lock);
    *out_ring = u;
    return 0;

exit_ring:
    io_uring_queue_exit(&u->ring);
free_u:
    free(u);
    return code;
}

static void uring_destroy(void *ctx, void *ring)
{
    struct uring *u = ring;
    (void)ctx;
    if (u->owner != getpid()) {
        /* The ring's memory is not mapped in a child, and others may lie there by now. */
        close(u->ring.ring_fd);
        free(u);
        return;
    }
    pthread_mutex_lock(&rings_lock);
    *u->link = u->next;
    if (u->next != NULL)
        u->next->link = u->link;
    pthread_mutex_unlock(&rings_lock);
    io_uring_queue_exit(&u->ring);
    free(u);
}

static void prepare_transfer(struct uring *u, struct io_uring_sqe *sqe, int fd,
                             const struct cp_io_request *request)
{
    struct iovec *iov;
    uint32_t count;
    uint64_t offset_bytes = request->offset_bytes + request->done_bytes;
    bool read = request->op == CP_IO_OP_READ;

    cp_io__rest(request, &iov, &count);
    if (count > 1) {
        if (read)
            io_uring_prep_readv(sqe, fd, iov, count, offset_bytes);
        else
            io_uring_prep_writev(sqe, fd, iov, count, offset_bytes);
        return;
    }
    unsigned length = (unsigned)iov->iov_len; /* at most CP_IO_MAX_TRANSFER_BYTES */
    int piece = piece_of(u, iov);
    if (piece >= 0 && read)
        io_uring_prep_read_fixed(sqe, fd, iov->iov_base, length, offset_bytes, piece);
    else if (piece >= 0)
        io_uring_prep_write_fixed(sqe, fd, iov->iov_base, length, offset_bytes, piece);
    else if (read)
        io_uring_prep_read(sqe, fd, iov->iov_base, length, offset_bytes);
    else
        io_uring_prep_write(sqe, fd, iov->iov_base, length, offset_bytes);
}

static int uring_queue(void *ctx, void *ring, int fd, struct cp_io_request *request)
{
    struct uring *u = ring;
    (void)ctx;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    if (sqe == NULL)
        return -EAGAIN;
    int slot = file_slot(u, fd);
    int target = slot >= 0 ? slot : fd;
    if (request->op == CP_IO_OP_SYNC)
        io_uring_prep_fsync(sqe, target, IORING_FSYNC_DATASYNC);
    else
        prepare_transfer(u, sqe, target, request);
    if (request->untorn)
        sqe->rw_flags |= UNTORN_FLAG;
    if (slot >= 0)
        sqe->flags |= IOSQE_FIXED_FILE;
    io_uring_sqe_set_data(sqe, request);
    u->queued_count++;
    return 0;
}

/* Take back what the kernel did not consume. It reads the queue inside io_uring_enter only. */
static void take_back(struct uring *u)
{
    struct io_uring_sq *sq = &u->ring.sq;
    unsigned head = io_uring_smp_load_acquire(sq->khead);
    sq->sqe_head = head;
    sq->sqe_tail = head;
    io_uring_smp_store_release(sq->ktail, head);
    u->queued_count = 0;
}

static int uring_submit(void *ctx, void *ring)
{
    struct uring *u = ring;
    unsigned failures = 0;
    int taken = 0;

    (void)ctx;
    while (u->queued_count > 0) {
        int code = io_uring_submit(&u->ring);
        if (code > 0) { /* a request that failed at once counts, and ends the call early */
            cp_assert((uint32_t)code <= u->queued_count);
            u->queued_count -= (uint32_t)code;
            taken += code;
            failures = 0;
            continue;
        }
        if (code == 0)
            code = -EAGAIN;
        bool passing = code == -EINTR || code == -EAGAIN || code == -EBUSY;
        if (passing && ++failures < SUBMIT_RETRIES)
            continue;
        if (taken > 0)
            return taken; /* the rest keeps its place for the next call */
        take_back(u);
        return code;
    }
    return taken;
}

/*
 * Sleep until something has been completed. valgrind runs one thread at a time and does not know
 * that io_uring_enter waits: nobody else would run, not even who has to submit what is waited for.
 * It knows poll.
 */
static int sleep_in_kernel(struct uring *u)
{
    struct io_uring_cqe *ignored;
    if (!under_valgrind)
        return io_uring_wait_cqe(&u->ring, &ignored);
    struct pollfd completed = {.fd = u->ring.ring_fd, .events = POLLIN};
    return poll(&completed, 1, -1) < 0 ? -errno : 0;
}

static int uring_reap(void *ctx, void *ring, bool wait, struct cp_io_request **out_requests,
                      int *out_results, uint32_t capacity)
{
    struct uring *u = ring;
    struct io_uring_cqe *cqes[64];
    int count = 0;

    (void)ctx;
    if (capacity > sizeof cqes / sizeof cqes[0])
        capacity = sizeof cqes / sizeof cqes[0];
    unsigned ready = io_uring_peek_batch_cqe(&u->ring, cqes, capacity);
    if (ready == 0 && wait) {
        int code = sleep_in_kernel(u);
        if (code == -EINTR || code == -EAGAIN)
            return 0;
        if (code < 0)
            return code;
        ready = io_uring_peek_batch_cqe(&u->ring, cqes, capacity);
    }
    for (unsigned i = 0; i < ready; i++) {
        struct cp_io_request *request = io_uring_cqe_get_data(cqes[i]);
        if (request == NULL) /* a wake */
            continue;
        __builtin_prefetch(request); /* all of them are on the way when the first is finished */
        out_requests[count] = request;
        out_results[count] = cqes[i]->res;
        count++;
    }
    io_uring_cq_advance(&u->ring, ready);
    return count;
}

static bool uring_ready(void *ctx, void *ring)
{
    const struct io_uring_cq *cq = &((struct uring *)ring)->ring.cq;
    (void)ctx;
    /* relaxed: whoever is told yes goes on to reap, which orders; the head is the reaper's */
    return __atomic_load_n(cq->ktail, __ATOMIC_RELAXED) !=
           __atomic_load_n(cq->khead, __ATOMIC_RELAXED);
}

static void uring_wake(void *ctx, void *ring)
{
    struct uring *u = ring;
    (void)ctx;
    if (u->queued_count > 0)
        return; /* the kernel is short of memory; the reaper comes back to submit these */
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    cp_assert(sqe != NULL); /* invariant 1 */
    io_uring_prep_nop(sqe);
    io_uring_sqe_set_data(sqe, NULL);
    for (unsigned i = 0; i < SUBMIT_RETRIES; i++) {
        if (io_uring_submit(&u->ring) > 0)
            return;
    }
    take_back(u);
}

static const struct cp_io_backend backend_uring = {
    .name = "io_uring",
    .open = cp_io__posix_open,
    .close = uring_close,
    .readv = cp_io__posix_readv,
    .writev = cp_io__posix_writev,
    .sync = cp_io__posix_sync,
    .resize = cp_io__posix_resize,
    .allocate = cp_io__posix_allocate,
    .size = cp_io__posix_size,
    .directory_sync = cp_io__posix_directory_sync,
    .rename = cp_io__posix_rename,
    .unlink = cp_io__posix_unlink,
    .mkdir = cp_io__posix_mkdir,
    .list = cp_io__posix_list,
    .ring_create = uring_create,
    .ring_destroy = uring_destroy,
    .ring_queue = uring_queue,
    .ring_submit = uring_submit,
    .ring_reap = uring_reap,
    .ring_register = uring_register,
    .ring_ready = uring_ready,
    .ring_wake = uring_wake,
};

const struct cp_io_backend *cp_io_backend_uring(void)
{
    return probe_until_final() == 0 ? &backend_uring : NULL;
}
