/* SPDX-License-Identifier: MIT */
/*
 * The recording backend.
 *
 * Descriptors are those of the real files; a table says which file of the trace each one is.
 * `lock` guards the table, the random stream, the rings and the flush counter. It is never held
 * over a call that may block: files lie in memory, and syncs are not carried out.
 *
 * A ring's request is recorded as begun when it is submitted, and carried out when it is reaped. So
 * the bytes are those of the submission (the caller may not change them meanwhile), and what has
 * not been reaped is not in the file yet, as on a device.
 */
#include "recorder.h"

#include "random.h"

#include <clockpool/status.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DESCRIPTORS_MAX 1024
#define SHORT_ONE_IN    64u /* of a ring's writes: some end short, which the caller must resume */
#define PIECE_SECTORS   16u /* most of a read in pieces, of which many end within a page then */
#define PIECE_GROWTH    4u  /* ... or a part of the offset: a file has dozens, however long it is */

struct descriptor {
    uint32_t file; /* CRASH_NO_FILE: not recorded */
    bool dsync;
};

struct flight {
    struct cp_io_request *request;
    int fd;
    uint64_t begin; /* index of the write's or flush's event */
    bool failing;
};

struct ring {
    struct flight *flights; /* [0, submitted) are in flight, up to count only queued */
    uint32_t count, submitted, depth;
    bool woken;
};

struct crash_recorder {
    struct cp_io_backend backend;
    char *root; /* owned; without a slash at its end */
    struct crash_trace *trace;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* something was submitted, or a ring was woken */
    struct bench_random random;
    struct descriptor descriptors[DESCRIPTORS_MAX];
    uint64_t fail_in; /* flushes until one fails; 0: none will */
    uint32_t slow_us; /* most that a flush takes; 0: no time */
    bool failed;
    void (*between)(void *ctx); /* called before each piece of a read; NULL: reads are whole */
    void *between_ctx;
};

/* The path below root, or NULL when it lies elsewhere. */
static const char *below_root(const struct crash_recorder *recorder, const char *path)
{
    size_t length = strlen(recorder->root);
    if (strncmp(path, recorder->root, length) != 0)
        return NULL;
    if (path[length] == '\0')
        return "";
    return path[length] == '/' ? path + length + 1 : NULL;
}

static struct descriptor descriptor_of(struct crash_recorder *recorder, int fd)
{
    struct descriptor found = {CRASH_NO_FILE, false};
    pthread_mutex_lock(&recorder->lock);
    if (fd >= 0 && fd < DESCRIPTORS_MAX)
        found = recorder->descriptors[fd];
    pthread_mutex_unlock(&recorder->lock);
    return found;
}

/* Is this the flush that has been chosen to fail? */
static bool flush_fails(struct crash_recorder *recorder)
{
    pthread_mutex_lock(&recorder->lock);
    bool fails = recorder->fail_in > 0 && --recorder->fail_in == 0;
    recorder->failed |= fails;
    pthread_mutex_unlock(&recorder->lock);
    return fails;
}

/* The time that a device would take. No lock is held. */
static void take_time(struct crash_recorder *recorder)
{
    pthread_mutex_lock(&recorder->lock);
    uint64_t most_us = recorder->slow_us;
    uint64_t us = most_us > 0 ? bench_random_below(&recorder->random, most_us) : 0;
    pthread_mutex_unlock(&recorder->lock);
    struct timespec time = {0, (long)us * 1000};
    if (us > 0)
        nanosleep(&time, NULL);
}

void crash_recorder_slow_flushes(struct crash_recorder *recorder, uint32_t most_us)
{
    pthread_mutex_lock(&recorder->lock);
    recorder->slow_us = most_us;
    pthread_mutex_unlock(&recorder->lock);
}

/* ---- files ------------------------------------------------------------------------------------
 */

static int record_open(void *ctx, const char *path, int flags, uint32_t mode)
{
    struct crash_recorder *recorder = ctx;
    const char *name = below_root(recorder, path);
    int plain = flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_DSYNC | O_DIRECT);
    bool made = false;
    int fd = open(path, plain | O_CLOEXEC);
    if (fd >= 0 && (flags & O_CREAT) != 0 && (flags & O_EXCL) != 0) {
        close(fd);
        return -EEXIST;
    }
    if (fd < 0 && errno == ENOENT && (flags & O_CREAT) != 0) {
        made = true;
        fd = open(path, plain | O_CREAT | O_EXCL | O_CLOEXEC, (mode_t)mode);
    }
    if (fd < 0)
        return -errno;
    if (fd >= DESCRIPTORS_MAX) {
        close(fd);
        return -EMFILE;
    }
    uint32_t file = CRASH_NO_FILE;
    if (name != NULL) {
        if (made) {
            file = crash_trace_create_file(recorder->trace, name);
        } else {
            file = crash_trace_find(recorder->trace, name);
            if (file ==
                CRASH_NO_FILE) /* somebody else made it: what it holds is not in the trace */
                file = crash_trace_create_file(recorder->trace, name);
        }
        if (!made && (flags & O_TRUNC) != 0 && ftruncate(fd, 0) == 0)
            crash_trace_resize(recorder->trace, file, 0);
    }
    pthread_mutex_lock(&recorder->lock);
    recorder->descriptors[fd] = (struct descriptor){file, (flags & O_DSYNC) != 0};
    pthread_mutex_unlock(&recorder->lock);
    return fd;
}

static int record_close(void *ctx, int fd)
{
    struct crash_recorder *recorder = ctx;
    pthread_mutex_lock(&recorder->lock);
    if (fd >= 0 && fd < DESCRIPTORS_MAX)
        recorder->descriptors[fd] = (struct descriptor){CRASH_NO_FILE, false};
    pthread_mutex_unlock(&recorder->lock);
    return close(fd) == 0 ? 0 : -errno;
}

void crash_recorder_split_reads(struct crash_recorder *recorder, void (*between)(void *ctx),
                                void *ctx)
{
    recorder->between = between;
    recorder->between_ctx = ctx;
}

/* Let the others go on, where there are any. No lock is held. Returns whether there are. */
static bool let_others_work(struct crash_recorder *recorder)
{
    void (*between)(void *ctx) = recorder->between;
    void *between_ctx = recorder->between_ctx;
    if (between == NULL)
        return false;
    recorder->between = NULL;
    between(between_ctx);
    crash_recorder_split_reads(recorder, between, between_ctx);
    return true;
}

static ssize_t read_whole(int fd, const struct iovec *iov, int iov_count, uint64_t offset)
{
    ssize_t bytes = preadv(fd, iov, iov_count, (off_t)offset);
    return bytes >= 0 ? bytes : -errno;
}

static ssize_t record_readv(void *ctx, int fd, const struct iovec *iov, int iov_count,
                            uint64_t offset)
{
    struct crash_recorder *recorder = ctx;
    if (!let_others_work(recorder))
        return read_whole(fd, iov, iov_count, offset);
    struct iovec piece = iov[0];
    uint64_t most = offset / CRASH_SECTOR_BYTES / PIECE_GROWTH;
    uint64_t sectors =
        1 + bench_random_below(&recorder->random, most > PIECE_SECTORS ? most : PIECE_SECTORS);
    if (piece.iov_len > sectors * CRASH_SECTOR_BYTES)
        piece.iov_len = sectors * CRASH_SECTOR_BYTES;
    return read_whole(fd, &piece, 1, offset);
}

/* The bytes of a write as one piece. NULL when it is one already. */
static uint8_t *gather(const struct iovec *iov, int iov_count, uint64_t size)
{
    if (iov_count == 1)
        return NULL;
    uint8_t *bytes = malloc(size > 0 ? size : 1), *at = bytes;
    if (bytes == NULL)
        abort();
    for (int i = 0; i < iov_count && size > 0; i++) {
        size_t part = iov[i].iov_len < size ? iov[i].iov_len : size;
        memcpy(at, iov[i].iov_base, part);
        at += part;
        size -= part;
    }
    return bytes;
}

static uint64_t total(const struct iovec *iov, int iov_count)
{
    uint64_t bytes = 0;
    for (int i = 0; i < iov_count; i++)
        bytes += iov[i].iov_len;
    return bytes;
}

static uint64_t begin_write(struct crash_recorder *recorder, struct descriptor to,
                            const struct iovec *iov, int iov_count, uint64_t offset, uint64_t size)
{
    uint8_t *bytes = gather(iov, iov_count, size);
    uint64_t begin = crash_trace_write_begin(recorder->trace, to.file, offset,
                                             bytes != NULL ? bytes : iov[0].iov_base, size,
                                             to.dsync ? CRASH_DSYNC : 0);
    free(bytes);
    return begin;
}

static ssize_t record_writev(void *ctx, int fd, const struct iovec *iov, int iov_count,
                             uint64_t offset)
{
    struct crash_recorder *recorder = ctx;
    struct descriptor to = descriptor_of(recorder, fd);
    uint64_t begin = 0;
    if (to.file != CRASH_NO_FILE)
        begin = begin_write(recorder, to, iov, iov_count, offset, total(iov, iov_count));
    ssize_t bytes = pwritev(fd, iov, iov_count, (off_t)offset);
    if (bytes < 0)
        return -errno;
    if (to.dsync)
        take_time(recorder);
    if (to.dsync && flush_fails(recorder))
        return -EIO;
    if (to.file != CRASH_NO_FILE)
        crash_trace_write_end(recorder->trace, begin);
    return bytes;
}

static int record_sync(void *ctx, int fd)
{
    struct crash_recorder *recorder = ctx;
    struct descriptor of = descriptor_of(recorder, fd);
    uint64_t begin = 0;
    if (of.file != CRASH_NO_FILE)
        begin = crash_trace_flush_begin(recorder->trace, of.file);
    take_time(recorder);
    int code = flush_fails(recorder) ? -EIO : 0;
    if (of.file != CRASH_NO_FILE)
        crash_trace_flush_end(recorder->trace, begin, code);
    return code;
}

static int record_resize(void *ctx, int fd, uint64_t size_bytes)
{
    struct crash_recorder *recorder = ctx;
    struct descriptor of = descriptor_of(recorder, fd);
    if (ftruncate(fd, (off_t)size_bytes) != 0)
        return -errno;
    if (of.file != CRASH_NO_FILE)
        crash_trace_resize(recorder->trace, of.file, size_bytes);
    return 0;
}

static int record_allocate(void *ctx, int fd, uint64_t offset_bytes, uint64_t size_bytes)
{
    struct crash_recorder *recorder = ctx;
    struct descriptor of = descriptor_of(recorder, fd);
    struct stat facts;
    /* Not fallocate: pages of memory for what nobody has written would only cost time. */
    if (fstat(fd, &facts) != 0)
        return -errno;
    uint64_t end = offset_bytes + size_bytes;
    if ((uint64_t)facts.st_size < end && ftruncate(fd, (off_t)end) != 0)
        return -errno;
    if (of.file != CRASH_NO_FILE)
        crash_trace_allocate(recorder->trace, of.file, end);
    return 0;
}

static int record_directory_sync(void *ctx, const char *path)
{
    struct crash_recorder *recorder = ctx;
    const char *name = below_root(recorder, path);
    struct stat facts;
    if (stat(path, &facts) != 0)
        return -errno;
    if (name != NULL)
        crash_trace_directory_sync(recorder->trace, name);
    return 0;
}

static int record_rename(void *ctx, const char *from, const char *to)
{
    struct crash_recorder *recorder = ctx;
    const char *from_name = below_root(recorder, from), *to_name = below_root(recorder, to);
    if (rename(from, to) != 0)
        return -errno;
    if (from_name != NULL && to_name != NULL)
        crash_trace_rename(recorder->trace, from_name, to_name);
    return 0;
}

static int record_unlink(void *ctx, const char *path)
{
    struct crash_recorder *recorder = ctx;
    const char *name = below_root(recorder, path);
    if (unlink(path) != 0)
        return -errno;
    if (name != NULL)
        crash_trace_unlink(recorder->trace, name);
    return 0;
}

static int record_mkdir(void *ctx, const char *path, uint32_t mode)
{
    struct crash_recorder *recorder = ctx;
    const char *name = below_root(recorder, path);
    if (mkdir(path, (mode_t)mode) != 0)
        return -errno;
    if (name != NULL)
        crash_trace_mkdir(recorder->trace, name);
    return 0;
}

/* ---- rings ------------------------------------------------------------------------------------
 */

static int record_ring_create(void *ctx, const struct cp_io_ring_options *options, void **out_ring,
                              struct cp_io_ring_stats *out_facts)
{
    (void)ctx;
    struct ring *ring = calloc(1, sizeof *ring);
    if (ring == NULL)
        return -ENOMEM;
    ring->depth = out_facts->depth != 0 ? out_facts->depth : options->depth;
    ring->flights = calloc(ring->depth, sizeof *ring->flights);
    if (ring->flights == NULL) {
        free(ring);
        return -ENOMEM;
    }
    out_facts->buffers_reason = "the recorder registers nothing";
    *out_ring = ring;
    return 0;
}

static void record_ring_destroy(void *ctx, void *raw)
{
    struct ring *ring = raw;
    (void)ctx;
    free(ring->flights);
    free(ring);
}

static int record_ring_queue(void *ctx, void *raw, int fd, struct cp_io_request *request)
{
    struct crash_recorder *recorder = ctx;
    struct ring *ring = raw;
    int code = -EAGAIN;
    pthread_mutex_lock(&recorder->lock);
    if (ring->count < ring->depth) {
        ring->flights[ring->count++] = (struct flight){request, fd, 0, false};
        code = 0;
    }
    pthread_mutex_unlock(&recorder->lock);
    return code;
}

/* Record what is submitted. Under lock; the trace has its own, which is taken inside. */
static void begin_flight(struct crash_recorder *recorder, struct flight *flight)
{
    struct cp_io_request *request = flight->request;
    struct descriptor of = recorder->descriptors[flight->fd];
    if (of.file == CRASH_NO_FILE || request->op == CP_IO_OP_READ)
        return;
    if (request->op == CP_IO_OP_SYNC)
        flight->begin = crash_trace_flush_begin(recorder->trace, of.file);
    else
        flight->begin = begin_write(recorder, of, request->iov, (int)request->iov_count,
                                    request->offset_bytes + request->done_bytes,
                                    total(request->iov, (int)request->iov_count));
    if (request->op == CP_IO_OP_SYNC || of.dsync) {
        flight->failing = recorder->fail_in > 0 && --recorder->fail_in == 0;
        recorder->failed |= flight->failing;
    }
}

static int record_ring_submit(void *ctx, void *raw)
{
    struct crash_recorder *recorder = ctx;
    struct ring *ring = raw;
    pthread_mutex_lock(&recorder->lock);
    uint32_t before = ring->submitted;
    while (ring->submitted < ring->count)
        begin_flight(recorder, &ring->flights[ring->submitted++]);
    uint32_t taken = ring->submitted - before;
    if (taken > 0)
        pthread_cond_broadcast(&recorder->changed);
    pthread_mutex_unlock(&recorder->lock);
    return (int)taken;
}

/* Carry a request out and record its end. Under lock. Returns the raw result. */
static int finish_flight(struct crash_recorder *recorder, const struct flight *flight)
{
    struct cp_io_request *request = flight->request;
    uint64_t offset = request->offset_bytes + request->done_bytes;
    uint32_t file = recorder->descriptors[flight->fd].file;
    if (request->op == CP_IO_OP_READ)
        return (int)read_whole(flight->fd, request->iov, (int)request->iov_count, offset);
    if (request->op == CP_IO_OP_SYNC) {
        int code = flight->failing ? -EIO : 0;
        if (file != CRASH_NO_FILE)
            crash_trace_flush_end(recorder->trace, flight->begin, code);
        return code;
    }
    uint64_t size = total(request->iov, (int)request->iov_count);
    ssize_t bytes = pwritev(flight->fd, request->iov, (int)request->iov_count, (off_t)offset);
    if (bytes < 0)
        return -errno;
    if (flight->failing)
        return -EIO;
    if (file != CRASH_NO_FILE)
        crash_trace_write_end(recorder->trace, flight->begin);
    /* A short end: the rest is written again, which changes nothing in the file. */
    if (size >= 2 * CRASH_SECTOR_BYTES && bench_random_below(&recorder->random, SHORT_ONE_IN) == 0)
        return (int)(size / 2 / CRASH_SECTOR_BYTES * CRASH_SECTOR_BYTES);
    return (int)bytes;
}

static int record_ring_reap(void *ctx, void *raw, bool wait, struct cp_io_request **out_requests,
                            int *out_results, uint32_t capacity)
{
    struct crash_recorder *recorder = ctx;
    struct ring *ring = raw;
    int count = 0;
    (void)let_others_work(recorder);
    pthread_mutex_lock(&recorder->lock);
    while (wait && ring->submitted == 0 && !ring->woken)
        pthread_cond_wait(&recorder->changed, &recorder->lock);
    ring->woken = ring->woken && !wait;
    uint32_t share = ring->submitted < capacity ? ring->submitted : capacity;
    if (share > 0) /* one at least: a caller that polls makes progress */
        share = 1 + (uint32_t)bench_random_below(&recorder->random, share);
    while ((uint32_t)count < share) {
        uint32_t at = (uint32_t)bench_random_below(&recorder->random, ring->submitted);
        struct flight flight = ring->flights[at];
        ring->submitted--;
        ring->count--;
        /* The last in flight takes its place, and the last queued that one's. */
        ring->flights[at] = ring->flights[ring->submitted];
        ring->flights[ring->submitted] = ring->flights[ring->count];
        out_requests[count] = flight.request;
        out_results[count] = finish_flight(recorder, &flight);
        count++;
    }
    pthread_mutex_unlock(&recorder->lock);
    return count;
}

static void record_ring_wake(void *ctx, void *raw)
{
    struct crash_recorder *recorder = ctx;
    struct ring *ring = raw;
    pthread_mutex_lock(&recorder->lock);
    ring->woken = true;
    pthread_cond_broadcast(&recorder->changed);
    pthread_mutex_unlock(&recorder->lock);
}

/* ---- life -------------------------------------------------------------------------------------
 */

struct crash_recorder *crash_recorder_create(const char *root, struct crash_trace *trace,
                                             uint64_t seed)
{
    struct crash_recorder *recorder = calloc(1, sizeof *recorder);
    if (recorder == NULL || (recorder->root = strdup(root)) == NULL)
        abort();
    recorder->trace = trace;
    bench_random_init(&recorder->random, seed, 0);
    pthread_mutex_init(&recorder->lock, NULL);
    pthread_cond_init(&recorder->changed, NULL);
    for (unsigned i = 0; i < DESCRIPTORS_MAX; i++)
        recorder->descriptors[i].file = CRASH_NO_FILE;
    /* What is not named here (size, list) passes through. */
    recorder->backend = *cp_io_backend_sync();
    recorder->backend.name = "recorder";
    recorder->backend.open = record_open;
    recorder->backend.close = record_close;
    recorder->backend.readv = record_readv;
    recorder->backend.writev = record_writev;
    recorder->backend.sync = record_sync;
    recorder->backend.resize = record_resize;
    recorder->backend.allocate = record_allocate;
    recorder->backend.directory_sync = record_directory_sync;
    recorder->backend.rename = record_rename;
    recorder->backend.unlink = record_unlink;
    recorder->backend.mkdir = record_mkdir;
    recorder->backend.ring_create = record_ring_create;
    recorder->backend.ring_destroy = record_ring_destroy;
    recorder->backend.ring_queue = record_ring_queue;
    recorder->backend.ring_submit = record_ring_submit;
    recorder->backend.ring_reap = record_ring_reap;
    recorder->backend.ring_wake = record_ring_wake;
    return recorder;
}

void crash_recorder_destroy(struct crash_recorder *recorder)
{
    if (recorder == NULL)
        return;
    pthread_cond_destroy(&recorder->changed);
    pthread_mutex_destroy(&recorder->lock);
    free(recorder->root);
    free(recorder);
}

const struct cp_io_backend *crash_recorder_backend(const struct crash_recorder *recorder)
{
    return &recorder->backend;
}

void crash_recorder_fail_flush(struct crash_recorder *recorder, uint64_t number)
{
    pthread_mutex_lock(&recorder->lock);
    recorder->fail_in = number;
    pthread_mutex_unlock(&recorder->lock);
}

bool crash_recorder_failed(const struct crash_recorder *recorder)
{
    return recorder->failed;
}

/* ---- what is there already --------------------------------------------------------------------
 */

static int tell_file(const char *path, const char *name, struct crash_trace *trace)
{
    struct stat facts;
    int code = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    uint32_t file = crash_trace_create_file(trace, name);
    uint8_t *buffer = malloc(1 << 20);
    if (buffer == NULL || fstat(fd, &facts) != 0)
        code = buffer == NULL ? -ENOMEM : -errno;
    if (code == 0)
        crash_trace_allocate(trace, file, (uint64_t)facts.st_size);
    for (uint64_t at = 0; code == 0;) {
        off_t data = lseek(fd, (off_t)at, SEEK_DATA); /* holes need not be told */
        ssize_t got = data < 0 ? 0 : pread(fd, buffer, 1 << 20, data);
        if (got <= 0) {
            code = got < 0 ? -errno : 0;
            break;
        }
        crash_trace_write_end(
            trace, crash_trace_write_begin(trace, file, (uint64_t)data, buffer, (uint64_t)got, 0));
        at = (uint64_t)data + (uint64_t)got;
    }
    crash_trace_flush_end(trace, crash_trace_flush_begin(trace, file), 0);
    free(buffer);
    close(fd);
    return code;
}

static int tell_directory(const char *path, const char *name, struct crash_trace *trace)
{
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, alphasort);
    if (count < 0)
        return -errno;
    int code = 0;
    for (int i = 0; i < count; i++) {
        const char *entry = entries[i]->d_name;
        char below[PATH_MAX], named[PATH_MAX];
        struct stat facts;
        bool dots = strcmp(entry, ".") == 0 || strcmp(entry, "..") == 0;
        if (code == 0 && !dots) {
            if (snprintf(below, sizeof below, "%s/%s", path, entry) >= (int)sizeof below ||
                snprintf(named, sizeof named, "%s%s%s", name, name[0] != '\0' ? "/" : "", entry) >=
                    (int)sizeof named)
                code = -ENAMETOOLONG;
            else if (lstat(below, &facts) != 0)
                code = -errno;
            else if (S_ISDIR(facts.st_mode)) {
                crash_trace_mkdir(trace, named);
                code = tell_directory(below, named, trace);
            } else if (S_ISREG(facts.st_mode)) {
                code = tell_file(below, named, trace);
            }
        }
        free(entries[i]);
    }
    free(entries);
    crash_trace_directory_sync(trace, name);
    return code;
}

int crash_recorder_baseline(const char *root, struct crash_trace *trace)
{
    int code = tell_directory(root, "", trace);
    crash_trace_baseline(trace);
    return code;
}
