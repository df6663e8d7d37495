/* SPDX-License-Identifier: MIT */
/*
 * The bare log. See raw_log.h.
 *
 * Record n lies at byte n * RECORD_BYTES of the file, modulo its size, and of the ring in memory,
 * modulo its own. Records gather; a write takes all that have, pads them to whole blocks with
 * records of no page, and is durable on its own: up to WRITES_MAX are under way at a time and end
 * in any order. A commit is over when the write that took its record is.
 *
 * Writes are numbered. Number write_count is the one that gathers; those before settled_writes are
 * over, all of them; those between are in `writes`, by their number modulo its length. `mutex`
 * guards all fields below it, but for what is atomic, and is not held while the device works.
 *
 * Who waits for write n waits on its `event`. The end of the write wakes them all, and they leave
 * without the mutex; it also wakes one of those for whom nobody writes yet.
 */
#include "raw_log.h"

#include "storefile.h"
#include "tracker.h"
#include "transfer.h"

#include <clockpool/base/bits.h>
#include <clockpool/base/checksum.h>
#include <clockpool/base/thread.h>

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES      (UINT64_C(64) << 20)
#define RING_BYTES      (UINT64_C(2) << 20)
#define RECORD_BYTES    128u
#define BLOCK_BYTES_MAX 4096u
#define PROBE_WRITES    15u
#define WRITES_MAX      4u /* under way at a time, as in Clockpool's own log */
#define CROWD           4u /* commits of a write, for each processor, that make it large */
#define WRITES_KEPT     8u /* from the oldest under way to the newest */
#define NO_PAGE         UINT64_MAX
#define READ_BYTES      BENCH_TRANSFER_BYTES

struct record {
    uint64_t number, page, checksum;
    char update[BENCH_UPDATE_BYTES];
};

static_assert(sizeof(struct record) == RECORD_BYTES, "records fill blocks");
static_assert(FILE_BYTES % RING_BYTES == 0 && RING_BYTES % BLOCK_BYTES_MAX == 0,
              "wraps fall on blocks");

struct bench_raw_log {
    int fd, dsync_fd; /* the same file */
    bool direct, dsync;
    uint32_t block_bytes;
    uint64_t probe_dsync_ns, probe_fdatasync_ns;
    uint64_t seed, session; /* of the content; of the checksums: tells this log from an older one */
    char *ring;
    unsigned processors;

    pthread_mutex_t mutex;
    pthread_cond_t room;           /* for records in the ring */
    uint64_t settled, gather, end; /* records: the first of the oldest write under way, the first
                                      that no write has taken, and how many there are */
    uint64_t settled_writes, write_count;
    unsigned writes_under_way, writes_most;
    struct write {
        uint64_t end;          /* record */
        _Atomic uint64_t over; /* 1 + the number of the last write here that is over */
        uint32_t event;        /* futex: raised when one is over, or somebody is wanted to write */
    } writes[WRITES_KEPT];
    uint64_t commit_count, gathered, crowd; /* commits: all, of no write yet, of the last write */
    _Atomic int failed;                     /* errno of the write that failed, for ever */
};

/* ---- the file ----------------------------------------------------------------------------------
 */

static int fill_file(const char *path, struct bench_error *error)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return bench_fail_errno(error, errno, "cannot create %s", path);
    char *zeros = calloc(1, READ_BYTES);
    int code = zeros == NULL ? ENOMEM : 0;
    for (uint64_t at = 0; code == 0 && at < FILE_BYTES; at += READ_BYTES)
        code = bench_write_all(fd, zeros, READ_BYTES, at);
    if (code == 0 && fsync(fd) != 0)
        code = errno;
    free(zeros);
    close(fd);
    return code == 0 ? 0 : bench_fail_errno(error, code, "cannot fill %s", path);
}

/* The smallest write that O_DIRECT allows. */
static uint32_t find_block_bytes(int fd)
{
#ifdef STATX_DIOALIGN
    struct statx info;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) == 0 &&
        (info.stx_mask & STATX_DIOALIGN) != 0 && info.stx_dio_offset_align >= RECORD_BYTES &&
        info.stx_dio_offset_align <= BLOCK_BYTES_MAX)
        return info.stx_dio_offset_align;
#endif
    (void)fd;
    return BLOCK_BYTES_MAX;
}

static int open_file(struct bench_raw_log *log, const char *path, struct bench_error *error)
{
    int flags = O_RDWR | O_CLOEXEC | O_DIRECT;
    log->fd = open(path, flags);
    log->direct = log->fd >= 0;
    if (!log->direct) {
        flags &= ~O_DIRECT;
        log->fd = open(path, flags);
    }
    log->dsync_fd = open(path, flags | O_DSYNC);
    if (log->fd < 0 || log->dsync_fd < 0)
        return bench_fail_errno(error, errno, "cannot open %s", path);
    log->block_bytes = find_block_bytes(log->fd);
    return 0;
}

/* One durable write. 0 or an errno. */
static int write_durably(struct bench_raw_log *log, bool dsync, const char *memory,
                         uint64_t size_bytes, uint64_t offset_bytes)
{
    int code = bench_write_all(dsync ? log->dsync_fd : log->fd, memory, size_bytes, offset_bytes);
    if (code == 0 && !dsync && fdatasync(log->fd) != 0)
        code = errno;
    return code;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The faster of both, by turns on one block each. */
static int probe(struct bench_raw_log *log, struct bench_error *error)
{
    uint64_t times[2][PROBE_WRITES];
    for (unsigned i = 0; i < PROBE_WRITES; i++) {
        for (unsigned dsync = 0; dsync < 2; dsync++) {
            uint64_t begin = cp_now_ns();
            int code = write_durably(log, dsync, log->ring, log->block_bytes, 0);
            times[dsync][i] = cp_now_ns() - begin;
            if (code != 0)
                return bench_fail_errno(error, code, "cannot write the log");
        }
    }
    for (unsigned dsync = 0; dsync < 2; dsync++)
        qsort(times[dsync], PROBE_WRITES, sizeof(uint64_t), compare);
    log->probe_fdatasync_ns = times[0][PROBE_WRITES / 2];
    log->probe_dsync_ns = times[1][PROBE_WRITES / 2];
    log->dsync = log->probe_dsync_ns <= log->probe_fdatasync_ns;
    return 0;
}

struct bench_raw_log *bench_raw_log_open(const struct bench_setup *setup, struct bench_error *error)
{
    char path[PATH_MAX];
    struct bench_raw_log *log = calloc(1, sizeof *log);
    if (log == NULL) {
        bench_fail(error, "out of memory");
        return NULL;
    }
    log->fd = log->dsync_fd = -1;
    log->processors = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    log->seed = setup->data.seed;
    log->session = bench_mix(cp_now_ns());
    pthread_mutex_init(&log->mutex, NULL);
    pthread_cond_init(&log->room, NULL);
    log->ring = bench_huge_alloc(RING_BYTES, error);
    if (log->ring == NULL || bench_store_path(&setup->data, "rawlog", path, error) != 0 ||
        (access(path, F_OK) != 0 && fill_file(path, error) != 0) ||
        open_file(log, path, error) != 0 || probe(log, error) != 0) {
        bench_raw_log_close(log);
        return NULL;
    }
    return log;
}

void bench_raw_log_close(struct bench_raw_log *log)
{
    if (log == NULL)
        return;
    if (log->fd >= 0)
        close(log->fd);
    if (log->dsync_fd >= 0)
        close(log->dsync_fd);
    bench_huge_free(log->ring, RING_BYTES);
    pthread_cond_destroy(&log->room);
    pthread_mutex_destroy(&log->mutex);
    free(log);
}

/* ---- appending ---------------------------------------------------------------------------------
 */

static uint64_t record_checksum(const struct bench_raw_log *log, const struct record *record)
{
    struct record copy = *record;
    copy.checksum = 0;
    return cp_checksum(&copy, sizeof copy, log->session);
}

/* With the mutex; there is room. */
static void put_record(struct bench_raw_log *log, struct record *record)
{
    record->number = log->end;
    record->checksum = record_checksum(log, record);
    memcpy(log->ring + log->end++ * RECORD_BYTES % RING_BYTES, record, sizeof *record);
}

/* Fill the last block. With the mutex. */
static void pad(struct bench_raw_log *log)
{
    struct record filler = {.page = NO_PAGE};
    while (log->end * RECORD_BYTES % log->block_bytes != 0)
        put_record(log, &filler);
}

/* Write records first .. end-1, in as many parts as wraps make. Without the mutex. An errno. */
static int write_records(struct bench_raw_log *log, uint64_t first, uint64_t end)
{
    uint64_t at = first * RECORD_BYTES, size = (end - first) * RECORD_BYTES;
    while (size > 0) {
        const uint64_t part = cp_min_u64(size, RING_BYTES - at % RING_BYTES);
        const int code =
            write_durably(log, log->dsync, log->ring + at % RING_BYTES, part, at % FILE_BYTES);
        if (code != 0)
            return code;
        at += part;
        size -= part;
    }
    return 0;
}

/*
 * A write costs some ten microseconds of a processor. So one begins beside others when as many
 * commits have gathered as went with the last one, and not where those were many: then processors
 * are what commits wait for.
 */
static bool may_write(const struct bench_raw_log *log)
{
    if (log->gather == log->end || log->write_count - log->settled_writes >= WRITES_KEPT)
        return false;
    return log->writes_under_way == 0 ||
           (log->writes_under_way < WRITES_MAX && log->gathered >= log->crowd &&
            log->crowd <= CROWD * log->processors);
}

/* acquire: pairs with the release in land */
static bool is_over(struct bench_raw_log *log, uint64_t number)
{
    return atomic_load_explicit(&log->writes[number % WRITES_KEPT].over, memory_order_acquire) >
           number;
}

static void wake(struct write *write, unsigned count)
{
    __atomic_fetch_add(&write->event, 1, __ATOMIC_RELEASE);
    cp_futex_wake(&write->event, count);
}

/* The write of that number has ended. With the mutex. */
static void land(struct bench_raw_log *log, uint64_t number, int code)
{
    log->writes_under_way--;
    if (code != 0)
        atomic_store_explicit(&log->failed, code, memory_order_release);
    atomic_store_explicit(&log->writes[number % WRITES_KEPT].over, number + 1,
                          memory_order_release);
    while (log->settled_writes < log->write_count && is_over(log, log->settled_writes))
        log->settled = log->writes[log->settled_writes++ % WRITES_KEPT].end;
    pthread_cond_broadcast(&log->room);
}

/* Write what has gathered. With the mutex, when may_write. */
static void write_out(struct bench_raw_log *log)
{
    pad(log);
    const uint64_t number = log->write_count++, first = log->gather, end = log->end;
    struct write *write = &log->writes[number % WRITES_KEPT];
    write->end = log->gather = end;
    log->crowd = log->gathered;
    log->gathered = 0;
    if (++log->writes_under_way > log->writes_most)
        log->writes_most = log->writes_under_way;
    pthread_mutex_unlock(&log->mutex);
    const int code = write_records(log, first, end);
    pthread_mutex_lock(&log->mutex);
    land(log, number, code);
    struct write *next = may_write(log) ? &log->writes[log->write_count % WRITES_KEPT] : NULL;
    pthread_mutex_unlock(&log->mutex);
    if (next != NULL)
        wake(next, 1);
    for (unsigned i = 0; code != 0 && i < WRITES_KEPT; i++)
        wake(&log->writes[i], INT_MAX);
    wake(write, INT_MAX);
    pthread_mutex_lock(&log->mutex);
}

/* Return when the write of that number is over. With the mutex, which it lets go. */
static int await(struct bench_raw_log *log, uint64_t number, struct bench_error *error)
{
    struct write *write = &log->writes[number % WRITES_KEPT];
    int failed;
    for (;;) { /* ends: each turn is a write of one's own, or waits for somebody's */
        failed = atomic_load_explicit(&log->failed, memory_order_acquire);
        if (failed != 0 || is_over(log, number))
            break;
        if (number == log->write_count && may_write(log)) {
            write_out(log);
            continue;
        }
        const uint32_t event = __atomic_load_n(&write->event, __ATOMIC_ACQUIRE);
        pthread_mutex_unlock(&log->mutex);
        cp_futex_wait(&write->event, event, 0);
        if (is_over(log, number))
            return 0;
        pthread_mutex_lock(&log->mutex);
    }
    pthread_mutex_unlock(&log->mutex);
    return failed == 0 ? 0 : bench_fail_errno(error, failed, "cannot write the log");
}

int bench_raw_log_append(struct bench_raw_log *log, uint64_t page, bool relaxed,
                         struct bench_error *error)
{
    struct record record = {.page = page};
    for (uint32_t i = 0; i < BENCH_UPDATE_BYTES / 8; i++) {
        uint64_t word = bench_content_word(log->seed, page, BENCH_WORD_COUNTER + i, 0);
        memcpy(record.update + (size_t)i * 8, &word, 8);
    }
    pthread_mutex_lock(&log->mutex);
    /* Room for the record and for padding. Ends with writes. */
    while (log->failed == 0 &&
           (log->end - log->settled + 1) * RECORD_BYTES + log->block_bytes > RING_BYTES) {
        if (may_write(log))
            write_out(log);
        else
            pthread_cond_wait(&log->room, &log->mutex);
    }
    put_record(log, &record);
    log->commit_count++;
    log->gathered++;
    if (!relaxed || log->failed != 0)
        return await(log, log->write_count, error);
    pthread_mutex_unlock(&log->mutex);
    return 0;
}

int bench_raw_log_sync(struct bench_raw_log *log, struct bench_error *error)
{
    pthread_mutex_lock(&log->mutex);
    const uint64_t end = log->write_count + (log->gather < log->end);
    uint64_t number = log->settled_writes;
    pthread_mutex_unlock(&log->mutex);
    for (; number < end; number++) { /* those of which nobody was told may be under way yet */
        pthread_mutex_lock(&log->mutex);
        if (await(log, number, error) != 0)
            return -1;
    }
    return 0;
}

/* ---- looking -----------------------------------------------------------------------------------
 */

static int check_record(const struct bench_raw_log *log, const struct record *record,
                        uint64_t number, struct bench_error *error)
{
    if (record->number != number || record->checksum != record_checksum(log, record))
        return bench_fail(error,
                          "lost update: engine raw: record %" PRIu64
                          " was acknowledged and is not in the log",
                          number);
    return 0;
}

static int compare_counts(const struct bench_tracker *tracker, const uint64_t *counts,
                          struct bench_error *error)
{
    for (uint64_t page = bench_tracker_next(tracker, 0); page != UINT64_MAX;
         page = bench_tracker_next(tracker, page + 1)) {
        uint64_t found = counts[page >> tracker->shift];
        if (found != bench_tracker_done(tracker, page))
            return bench_fail(error,
                              "lost update: engine raw, page %" PRIu64 ": %" PRIu64
                              " acknowledged, %" PRIu64 " in the log",
                              page, bench_tracker_done(tracker, page), found);
    }
    return 0;
}

int bench_raw_log_verify(struct bench_raw_log *log, const struct bench_tracker *tracker,
                         struct bench_error *error)
{
    uint64_t per_file = FILE_BYTES / RECORD_BYTES, per_read = READ_BYTES / RECORD_BYTES;
    uint64_t first = log->end > per_file ? log->end - per_file : 0;
    uint64_t *counts = calloc(BENCH_TRACKED_MAX, sizeof *counts);
    char *buffer = bench_huge_alloc(READ_BYTES, error);
    int result = -1;
    if (counts == NULL || buffer == NULL)
        goto done;
    if (bench_raw_log_sync(log, error) != 0)
        goto done;
    for (uint64_t number = first; number < log->end;) {
        uint64_t at = number * RECORD_BYTES % FILE_BYTES, skip = number % per_read;
        int code = bench_read_all(log->fd, buffer, READ_BYTES, at - skip * RECORD_BYTES);
        if (code != 0) {
            bench_fail_errno(error, code, "cannot read the log");
            goto done;
        }
        for (uint64_t i = skip; i < per_read && number < log->end; i++, number++) {
            struct record record;
            memcpy(&record, buffer + i * RECORD_BYTES, sizeof record);
            if (check_record(log, &record, number, error) != 0)
                goto done;
            if (record.page != NO_PAGE && bench_tracker_has(tracker, record.page))
                counts[record.page >> tracker->shift]++;
        }
    }
    /* Records of earlier rounds are gone, and with them the counts. */
    result = first > 0 ? 0 : compare_counts(tracker, counts, error);

done:
    free(counts);
    bench_huge_free(buffer, READ_BYTES);
    return result;
}

void bench_raw_log_describe(const struct bench_raw_log *log, char *text, size_t capacity)
{
    snprintf(text, capacity,
             "bare log of 24 + %u bytes a commit, %s, %s (probe: O_DSYNC %.0f us, fdatasync %.0f "
             "us), blocks of %u, %.1f commits a write, up to %u "
             "writes at a time",
             BENCH_UPDATE_BYTES, log->direct ? "O_DIRECT" : "O_DIRECT refused here: buffered",
             log->dsync ? "O_DSYNC" : "fdatasync", (double)log->probe_dsync_ns / 1e3,
             (double)log->probe_fdatasync_ns / 1e3, log->block_bytes,
             log->write_count > 0 ? (double)log->commit_count / (double)log->write_count : 0,
             log->writes_most);
}
