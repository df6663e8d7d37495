/* SPDX-License-Identifier: MIT */
/*
 * Engine "raw": the limit of the hardware, with no cache management at all.
 *
 *   data fit in memory   a bare array on huge pages, loaded once; at depth above 1 the next pages
 *                        are prefetched into the processor's cache
 *   they do not          bare O_DIRECT reads, nothing kept: pread at depth 1, io_uring above, one
 *                        ring a thread, registered buffers and file; scans read 1 MiB at a time,
 *                        eight in flight, into huge pages
 *
 * Updates of the array take one of many spin locks, since two threads may meet on a page. Updates
 * of the file read and write a page; two that meet may lose one of the two, never tear it (see
 * content.h).
 */
#include "flatfile.h"

#include <clockpool/base/bits.h>
#include <clockpool/base/thread.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <liburing.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOCK_COUNT    1024u /* power of two; two of 32 threads meet once in 2000 updates */
#define SPIN_LIMIT    64u   /* spins before the processor is given up */
#define SCAN_INFLIGHT 8u    /* 8 MiB under way: twice what saturates the devices we have seen */

struct raw_engine {
    const struct bench_setup *setup;
    int fd;
    bool direct;
    char *array; /* the data set in memory, or NULL: read from the device */
    atomic_bool *locks;
    atomic_bool buffers_plain; /* a thread could not register its buffers */
};

enum slot_step { STEP_READ, STEP_WRITE };

struct raw_slot {
    struct bench_op *op;
    enum slot_step step;
};

struct raw_thread {
    struct raw_engine *engine;
    struct bench_thread_setup setup;
    uint32_t page_size;
    char *buffers; /* slots of page_size bytes, or SCAN_INFLIGHT transfers */
    uint64_t buffers_bytes;
    bool ring_ready, buffers_fixed, file_fixed;
    struct io_uring ring;
    unsigned in_flight;
    unsigned ready[BENCH_DEPTH_MAX]; /* memory only: slots started and not reaped */
    unsigned ready_count;
    struct raw_slot slots[BENCH_DEPTH_MAX];
};

static const char *version(void)
{
    return "io_uring by liburing";
}

static uint64_t disk_bytes(uint64_t page_count, uint32_t page_size)
{
    return page_count * page_size;
}

/* ---- opening --------------------------------------------------------------------------------- */

static int load_array(struct raw_engine *engine, struct bench_error *error)
{
    const struct bench_data *data = &engine->setup->data;
    uint64_t size = data->page_count * data->page_size;
    engine->locks = calloc(LOCK_COUNT, sizeof *engine->locks);
    if (engine->locks == NULL)
        return bench_fail(error, "out of memory");
    engine->array = bench_huge_alloc(size, error);
    if (engine->array == NULL)
        return -1;
    for (uint64_t at = 0; at < size; at += BENCH_TRANSFER_BYTES) {
        uint64_t count = cp_min_u64(BENCH_TRANSFER_BYTES, size - at);
        int code = bench_read_all(engine->fd, engine->array + at, count, at);
        if (code != 0)
            return bench_fail_errno(error, code, "cannot read the data file at byte %" PRIu64, at);
    }
    return 0;
}

static void close_engine(void *handle)
{
    struct raw_engine *engine = handle;
    bench_huge_free(engine->array, engine->setup->data.page_count * engine->setup->data.page_size);
    free(engine->locks);
    close(engine->fd);
    free(engine);
}

static int open_engine(const struct bench_setup *setup, void **out_engine,
                       struct bench_error *error)
{
    struct raw_engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL)
        return bench_fail(error, "out of memory");
    engine->setup = setup;
    engine->fd = bench_flatfile_open(&setup->data, &engine->direct, error);
    if (engine->fd < 0) {
        free(engine);
        return -1;
    }
    if (setup->fits && load_array(engine, error) != 0) {
        close_engine(engine);
        return -1;
    }
    *out_engine = engine;
    return 0;
}

static void stats(void *handle, struct bench_engine_stats *out_stats)
{
    struct raw_engine *engine = handle;
    if (engine->array != NULL) {
        snprintf(out_stats->details, sizeof out_stats->details,
                 "bare array in memory, huge pages asked for");
        return;
    }
    bool plain = atomic_load_explicit(&engine->buffers_plain, memory_order_relaxed);
    snprintf(out_stats->details, sizeof out_stats->details,
             "%s, nothing cached; pread at depth 1, io_uring above, %s buffers",
             engine->direct ? "O_DIRECT" : "O_DIRECT refused here: buffered reads",
             plain ? "unregistered" : "registered");
}

/* ---- threads --------------------------------------------------------------------------------- */

static int make_ring(struct raw_thread *thread)
{
    unsigned depth = thread->setup.depth > SCAN_INFLIGHT ? thread->setup.depth : SCAN_INFLIGHT;
    int code = io_uring_queue_init(2 * depth, &thread->ring, 0);
    if (code != 0)
        return bench_fail_errno(thread->setup.error, -code,
                                "io_uring is not permitted here (see clockpool-bench doctor)");
    thread->ring_ready = true;
    struct iovec memory = {thread->buffers, thread->buffers_bytes};
    thread->buffers_fixed = io_uring_register_buffers(&thread->ring, &memory, 1) == 0;
    if (!thread->buffers_fixed) /* relaxed: a flag for the report */
        atomic_store_explicit(&thread->engine->buffers_plain, true, memory_order_relaxed);
    thread->file_fixed = io_uring_register_files(&thread->ring, &thread->engine->fd, 1) == 0;
    return 0;
}

static void thread_end(void *handle)
{
    struct raw_thread *thread = handle;
    if (thread->ring_ready)
        io_uring_queue_exit(&thread->ring);
    bench_huge_free(thread->buffers, thread->buffers_bytes);
    free(thread);
}

static int thread_begin(void *handle, const struct bench_thread_setup *setup, void **out_thread)
{
    struct raw_engine *engine = handle;
    struct raw_thread *thread = calloc(1, sizeof *thread);
    if (thread == NULL)
        return bench_fail(setup->error, "out of memory");
    thread->engine = engine;
    thread->setup = *setup;
    thread->page_size = engine->setup->data.page_size;
    if (engine->array == NULL) {
        bool scan = setup->workload == BENCH_READ_SCAN;
        thread->buffers_bytes = scan ? (uint64_t)SCAN_INFLIGHT * BENCH_TRANSFER_BYTES
                                     : (uint64_t)setup->depth * thread->page_size;
        thread->buffers = bench_huge_alloc(thread->buffers_bytes, setup->error);
        if (thread->buffers == NULL || ((scan || setup->depth > 1) && make_ring(thread) != 0)) {
            thread_end(thread);
            return -1;
        }
    }
    *out_thread = thread;
    return 0;
}

/* ---- one at a time ----------------------------------------------------------------------------
 */

static int device_error(struct raw_thread *thread, int code, const char *verb, uint64_t page)
{
    return bench_fail_errno(thread->setup.error, code, "cannot %s page %" PRIu64, verb, page);
}

static void read_array(const char *array, uint32_t page_size, struct bench_op *ops, unsigned count)
{
    /* relaxed atomic loads, as every reader of shared pages does them */
    for (unsigned i = 0; i < count; i++) {
        const char *at = array + ops[i].where * page_size + ops[i].offset_bytes;
        ops[i].value = __atomic_load_n((const uint64_t *)(const void *)at, __ATOMIC_RELAXED);
    }
}

static int read_ops(void *handle, struct bench_op *ops, unsigned count)
{
    struct raw_thread *thread = handle;
    if (thread->engine->array != NULL) {
        read_array(thread->engine->array, thread->page_size, ops, count);
        return 0;
    }
    for (unsigned i = 0; i < count; i++) {
        int code = bench_read_all(thread->engine->fd, thread->buffers, thread->page_size,
                                  ops[i].where * thread->page_size);
        if (code != 0)
            return device_error(thread, code, "read", ops[i].page);
        memcpy(&ops[i].value, thread->buffers + ops[i].offset_bytes, 8);
    }
    return 0;
}

static int update_array(struct raw_thread *thread, const struct bench_op *op)
{
    atomic_bool *lock = &thread->engine->locks[bench_mix(op->where) & (LOCK_COUNT - 1)];
    unsigned spins = 0;
    /* acquire: pairs with the release below by the last holder; ends when that holder is done */
    while (atomic_exchange_explicit(lock, true, memory_order_acquire)) {
        if (++spins % SPIN_LIMIT == 0)
            sched_yield();
        else
            cp_cpu_relax();
    }
    bench_check_update(thread->setup.check, op->page,
                       thread->engine->array + op->where * thread->page_size);
    /* release: pairs with the acquire of the next holder */
    atomic_store_explicit(lock, false, memory_order_release);
    return 0;
}

static int update_op(void *handle, struct bench_op *op)
{
    struct raw_thread *thread = handle;
    if (thread->engine->array != NULL)
        return update_array(thread, op);
    uint64_t offset = op->where * thread->page_size;
    int code = bench_read_all(thread->engine->fd, thread->buffers, thread->page_size, offset);
    if (code != 0)
        return device_error(thread, code, "read", op->page);
    if (!bench_check_update(thread->setup.check, op->page, thread->buffers))
        return 0;
    code = bench_write_all(thread->engine->fd, thread->buffers, thread->page_size, offset);
    return code == 0 ? 0 : device_error(thread, code, "write", op->page);
}

/* ---- many at a time ---------------------------------------------------------------------------
 */

/* Queue one transfer. The submission queue has twice the room of what can be in flight. */
static void queue_transfer(struct raw_thread *thread, bool write, void *buffer, uint32_t size_bytes,
                           uint64_t offset_bytes, unsigned tag)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&thread->ring);
    int fd = thread->file_fixed ? 0 : thread->engine->fd;
    if (thread->buffers_fixed && write)
        io_uring_prep_write_fixed(sqe, fd, buffer, size_bytes, offset_bytes, 0);
    else if (thread->buffers_fixed)
        io_uring_prep_read_fixed(sqe, fd, buffer, size_bytes, offset_bytes, 0);
    else if (write)
        io_uring_prep_write(sqe, fd, buffer, size_bytes, offset_bytes);
    else
        io_uring_prep_read(sqe, fd, buffer, size_bytes, offset_bytes);
    if (thread->file_fixed)
        sqe->flags |= IOSQE_FIXED_FILE;
    io_uring_sqe_set_data64(sqe, tag);
    thread->in_flight++;
}

static char *slot_buffer(struct raw_thread *thread, unsigned slot)
{
    return thread->buffers + (uint64_t)slot * thread->page_size;
}

static int start_op(void *handle, unsigned slot, struct bench_op *op)
{
    struct raw_thread *thread = handle;
    thread->slots[slot] = (struct raw_slot){.op = op, .step = STEP_READ};
    if (thread->engine->array != NULL) {
        __builtin_prefetch(thread->engine->array + op->where * thread->page_size +
                           op->offset_bytes);
        thread->ready[thread->ready_count++] = slot;
        return 0;
    }
    queue_transfer(thread, false, slot_buffer(thread, slot), thread->page_size,
                   op->where * thread->page_size, slot);
    return 0;
}

static int reap_array(struct raw_thread *thread, unsigned *out_slots, unsigned capacity)
{
    unsigned count = 0;
    while (count < capacity && thread->ready_count > 0) {
        unsigned slot = thread->ready[--thread->ready_count];
        if (thread->setup.workload == BENCH_UPDATE_RANDOM)
            update_array(thread, thread->slots[slot].op);
        else
            read_array(thread->engine->array, thread->page_size, thread->slots[slot].op, 1);
        out_slots[count++] = slot;
    }
    return (int)count;
}

/* A transfer ended. 1: the slot is finished, 0: it goes on with its write, -1: error. */
static int finish_transfer(struct raw_thread *thread, unsigned slot, int result)
{
    struct raw_slot *state = &thread->slots[slot];
    char *buffer = slot_buffer(thread, slot);
    uint64_t offset = state->op->where * thread->page_size;
    bool write = state->step == STEP_WRITE;
    if (result >= 0 && (uint32_t)result < thread->page_size) /* short: do the rest at once */
        result = -(write ? bench_write_all(thread->engine->fd, buffer, thread->page_size, offset)
                         : bench_read_all(thread->engine->fd, buffer, thread->page_size, offset));
    if (result == -EAGAIN || result == -EINTR) {
        queue_transfer(thread, write, buffer, thread->page_size, offset, slot);
        return 0;
    }
    if (result < 0)
        return device_error(thread, -result, write ? "write" : "read", state->op->page);
    if (write)
        return 1;
    if (thread->setup.workload != BENCH_UPDATE_RANDOM) {
        memcpy(&state->op->value, buffer + state->op->offset_bytes, 8);
        return 1;
    }
    if (!bench_check_update(thread->setup.check, state->op->page, buffer))
        return 1;
    state->step = STEP_WRITE;
    queue_transfer(thread, true, buffer, thread->page_size, offset, slot);
    return 0;
}

/* Hand over what is queued and wait for a completion. 0 or -1. */
static int submit_and_wait(struct raw_thread *thread)
{
    int code = io_uring_submit_and_wait(&thread->ring, 1);
    if (code < 0 && code != -EINTR && code != -EAGAIN && code != -EBUSY)
        return bench_fail_errno(thread->setup.error, -code, "io_uring_enter failed");
    return 0;
}

static int reap_ops(void *handle, unsigned *out_slots, unsigned capacity)
{
    struct raw_thread *thread = handle;
    if (thread->engine->array != NULL)
        return reap_array(thread, out_slots, capacity);
    unsigned count = 0;
    while (count == 0) { /* ends: something is in flight, and the device answers */
        if (submit_and_wait(thread) != 0)
            return -1;
        struct io_uring_cqe *cqe;
        while (count < capacity && io_uring_peek_cqe(&thread->ring, &cqe) == 0) {
            unsigned slot = (unsigned)io_uring_cqe_get_data64(cqe);
            int result = cqe->res;
            io_uring_cqe_seen(&thread->ring, cqe);
            thread->in_flight--;
            int state = finish_transfer(thread, slot, result);
            if (state < 0)
                return -1;
            if (state > 0)
                out_slots[count++] = slot;
        }
    }
    return (int)count;
}

/* ---- scanning ---------------------------------------------------------------------------------
 */

struct raw_scan {
    struct raw_thread *thread;
    uint64_t first_byte, end_byte;
    uint64_t queued; /* transfers queued so far; transfer n goes to buffer n % SCAN_INFLIGHT */
    bool done[SCAN_INFLIGHT];
};

static uint64_t transfer_at(const struct raw_scan *scan, uint64_t number)
{
    return scan->first_byte + number * BENCH_TRANSFER_BYTES;
}

static void queue_scan(struct raw_scan *scan)
{
    uint64_t at = transfer_at(scan, scan->queued);
    if (at >= scan->end_byte)
        return;
    unsigned buffer = (unsigned)(scan->queued % SCAN_INFLIGHT);
    uint32_t size = (uint32_t)cp_min_u64(BENCH_TRANSFER_BYTES, scan->end_byte - at);
    scan->done[buffer] = false;
    queue_transfer(scan->thread, false,
                   scan->thread->buffers + (uint64_t)buffer * BENCH_TRANSFER_BYTES, size, at,
                   buffer | (size << 3));
    scan->queued++;
}

static_assert(SCAN_INFLIGHT == 8, "a tag carries the buffer in its low three bits");

/* Wait until a buffer's transfer has ended. 0 or -1. */
static int await_buffer(struct raw_scan *scan, unsigned wanted, uint64_t number)
{
    struct raw_thread *thread = scan->thread;
    while (!scan->done[wanted]) { /* ends: its transfer is in flight */
        if (submit_and_wait(thread) != 0)
            return -1;
        struct io_uring_cqe *cqe;
        while (io_uring_peek_cqe(&thread->ring, &cqe) == 0) {
            unsigned buffer = (unsigned)io_uring_cqe_get_data64(cqe) & 7u;
            uint32_t size = (uint32_t)(io_uring_cqe_get_data64(cqe) >> 3);
            int result = cqe->res;
            io_uring_cqe_seen(&thread->ring, cqe);
            thread->in_flight--;
            uint64_t ahead = (buffer + SCAN_INFLIGHT - wanted) % SCAN_INFLIGHT;
            uint64_t at = transfer_at(scan, number + ahead);
            if (result < 0 || (uint32_t)result < size)
                result = -bench_read_all(thread->engine->fd,
                                         thread->buffers + (uint64_t)buffer * BENCH_TRANSFER_BYTES,
                                         size, at);
            if (result < 0)
                return device_error(thread, -result, "read", at / thread->page_size);
            scan->done[buffer] = true;
        }
    }
    return 0;
}

/* Leave no transfer behind that writes into buffers which are about to be freed. */
static int drain_scan(struct raw_scan *scan)
{
    while (scan->thread->in_flight > 0) {
        struct io_uring_cqe *cqe;
        if (submit_and_wait(scan->thread) != 0)
            return -1;
        while (io_uring_peek_cqe(&scan->thread->ring, &cqe) == 0) {
            io_uring_cqe_seen(&scan->thread->ring, cqe);
            scan->thread->in_flight--;
        }
    }
    return 0;
}

/* Hand out the pages of [memory, memory + size_bytes). False: the visitor wants no more. */
static bool visit_pages(struct raw_thread *thread, const char *memory, uint64_t size_bytes,
                        uint64_t first)
{
    for (uint64_t at = 0; at < size_bytes; at += thread->page_size)
        if (!bench_check_scan(thread->setup.check, first + at / thread->page_size, memory + at))
            return false;
    return true;
}

static int scan_pages(void *handle, uint64_t first, uint64_t count)
{
    struct raw_thread *thread = handle;
    uint32_t page_size = thread->page_size;
    if (thread->engine->array != NULL) {
        visit_pages(thread, thread->engine->array + first * page_size, count * page_size, first);
        return 0;
    }
    struct raw_scan scan = {
        .thread = thread, .first_byte = first * page_size, .end_byte = (first + count) * page_size};
    for (unsigned i = 0; i < SCAN_INFLIGHT; i++)
        queue_scan(&scan);
    for (uint64_t number = 0; transfer_at(&scan, number) < scan.end_byte; number++) {
        unsigned buffer = (unsigned)(number % SCAN_INFLIGHT);
        uint64_t at = transfer_at(&scan, number);
        if (await_buffer(&scan, buffer, number) != 0)
            return -1;
        if (!visit_pages(thread, thread->buffers + (uint64_t)buffer * BENCH_TRANSFER_BYTES,
                         cp_min_u64(BENCH_TRANSFER_BYTES, scan.end_byte - at), at / page_size))
            break;
        queue_scan(&scan);
    }
    return drain_scan(&scan);
}

const struct bench_engine bench_engine_raw = {
    .name = "raw",
    .summary = "the limit: a bare array when the data fit, bare O_DIRECT reads when not",
    .format = "flat",
    .access = "bare",
    .deep = true,
    .version = version,
    .disk_bytes = disk_bytes,
    .create = bench_flatfile_create,
    .open = open_engine,
    .close = close_engine,
    .stats = stats,
    .thread_begin = thread_begin,
    .thread_end = thread_end,
    .read = read_ops,
    .start = start_op,
    .reap = reap_ops,
    .update = update_op,
    .scan = scan_pages,
};
