/* SPDX-License-Identifier: MIT */
/*
 * Engine "raw": the limit of the hardware, with no cache management at all.
 *
 *   data fit in memory   a bare array on huge pages, loaded once; at depth above 1 the next pages
 *                        are prefetched into the processor's cache
 *   they do not          bare O_DIRECT reads, nothing kept: pread at depth 1, io_uring above, one
 *                        ring a thread, registered buffers and file; scans read 1 MiB at a time,
 *                        eight in flight, into huge pages; one at a time, where io_uring is not
 *                        permitted
 *
 * The file is that of pool and mmap (storefile.h): an op's `where` is a page of it. The pager's own
 * pages lie between those of the data set; scans (raw_scan.c) read over them.
 *
 * Updates of the array take one of many spin locks, since two threads may meet on a page. Updates
 * of the file mark the page busy, read, change, seal and write it; who meets a busy page does
 * something else first. Commits know no pages at all: see raw_log.h.
 */
#include "raw_engine.h"
#include "tracker.h"
#include "transfer.h"

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

#define LOCK_COUNT  1024u /* power of two; two of 32 threads meet once in 2000 updates */
#define SPIN_LIMIT  64u   /* spins before the processor is given up */
#define BATCH_LEAST 4u    /* reads worth a system call, and at least ... */
#define BATCH_SHARE 8u    /* ... this share of those in flight */

const char *bench_raw_version(void)
{
    return "io_uring by liburing";
}

/* ---- opening --------------------------------------------------------------------------------- */

uint64_t bench_raw_locate(void *handle, uint64_t page)
{
    const struct raw_engine *engine = handle;
    return bench_extents_locate(&engine->extents, page);
}

/* Pages of the file from the first of the data set to the last, the pager's own included. */
static uint64_t span_pages(const struct raw_engine *engine)
{
    const struct bench_extent *last = &engine->extents.list[engine->extents.count - 1];
    return last->first_page + last->count - engine->base_page;
}

static int load_array(struct raw_engine *engine, struct bench_error *error)
{
    uint32_t page_size = engine->setup->data.page_size;
    uint64_t size = span_pages(engine) * page_size, base = engine->base_page * page_size;
    engine->locks = calloc(LOCK_COUNT, sizeof *engine->locks);
    if (engine->locks == NULL)
        return bench_fail(error, "out of memory");
    engine->array = bench_huge_alloc(size, error);
    if (engine->array == NULL)
        return -1;
    engine->array_bytes = size;
    for (uint64_t at = 0; at < size; at += BENCH_TRANSFER_BYTES) {
        uint64_t count = cp_min_u64(BENCH_TRANSFER_BYTES, size - at);
        int code = bench_read_all(engine->fd, engine->array + at, count, base + at);
        if (code != 0)
            return bench_fail_errno(error, code, "cannot read the data file at byte %" PRIu64,
                                    base + at);
    }
    return 0;
}

void bench_raw_close(void *handle)
{
    struct raw_engine *engine = handle;
    bench_raw_log_close(engine->log);
    bench_huge_free(engine->array, engine->array_bytes);
    bench_extents_free(&engine->extents);
    free(engine->busy);
    free(engine->locks);
    if (engine->fd >= 0)
        close(engine->fd);
    free(engine);
}

int bench_raw_open(const struct bench_setup *setup, void **out_engine, struct bench_error *error)
{
    struct raw_engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL)
        return bench_fail(error, "out of memory");
    engine->setup = setup;
    engine->fd = bench_store_open_pages(&setup->data, &engine->direct, error);
    if (engine->fd < 0 || bench_extents_load(&setup->data, &engine->extents, error) != 0)
        goto fail_engine;
    engine->base_page = engine->extents.list[0].first_page;
    if (bench_workload_commits(setup->workload)) {
        engine->log = bench_raw_log_open(setup, error);
        if (engine->log == NULL)
            goto fail_engine;
    }
    if (setup->fits && load_array(engine, error) != 0)
        goto fail_engine;
    if (!setup->fits && setup->workload == BENCH_UPDATE_RANDOM) {
        engine->busy = calloc(span_pages(engine), sizeof *engine->busy);
        if (engine->busy == NULL) {
            bench_fail(error, "out of memory");
            goto fail_engine;
        }
    }
    *out_engine = engine;
    return 0;

fail_engine:
    bench_raw_close(engine);
    return -1;
}

void bench_raw_stats(void *handle, struct bench_engine_stats *out_stats)
{
    struct raw_engine *engine = handle;
    if (engine->log != NULL) {
        bench_raw_log_describe(engine->log, out_stats->details, sizeof out_stats->details);
        return;
    }
    if (engine->array != NULL) {
        snprintf(out_stats->details, sizeof out_stats->details,
                 "bare array in memory, huge pages asked for");
        return;
    }
    bool plain = atomic_load_explicit(&engine->buffers_plain, memory_order_relaxed);
    const char *direct = engine->direct ? "O_DIRECT" : "O_DIRECT refused here: buffered reads";
    out_stats->synchronous = atomic_load_explicit(&engine->scans_alone, memory_order_relaxed);
    if (out_stats->synchronous)
        snprintf(out_stats->details, sizeof out_stats->details,
                 "%s, nothing cached; no io_uring here: scans by pread, 1 MiB at a time", direct);
    else
        snprintf(out_stats->details, sizeof out_stats->details,
                 "%s, nothing cached; pread at depth 1, io_uring above, %s buffers", direct,
                 plain ? "unregistered" : "registered");
}

/* ---- busy pages ------------------------------------------------------------------------------ */

static atomic_bool *busy_mark(struct raw_engine *engine, const struct bench_op *op)
{
    return &engine->busy[op->where - engine->base_page];
}

static bool take_page(struct raw_engine *engine, const struct bench_op *op)
{
    /* acquire: pairs with the release in release_page */
    return !atomic_exchange_explicit(busy_mark(engine, op), true, memory_order_acquire);
}

static void release_page(struct raw_engine *engine, const struct bench_op *op)
{
    /* release: pairs with the acquire in take_page */
    atomic_store_explicit(busy_mark(engine, op), false, memory_order_release);
}

static void release_slot(struct raw_thread *thread, struct raw_slot *slot)
{
    if (slot->holds)
        release_page(thread->engine, slot->op);
    slot->holds = false;
}

/* ---- threads --------------------------------------------------------------------------------- */

/* 0 or an errno. */
static int make_ring(struct raw_thread *thread)
{
    unsigned depth =
        thread->setup.depth > BENCH_RAW_INFLIGHT ? thread->setup.depth : BENCH_RAW_INFLIGHT;
    int code = io_uring_queue_init(2 * depth, &thread->ring, 0);
    if (code != 0)
        return -code;
    thread->ring_ready = true;
    struct iovec memory = {thread->buffers, thread->buffers_bytes};
    thread->buffers_fixed = io_uring_register_buffers(&thread->ring, &memory, 1) == 0;
    if (!thread->buffers_fixed) /* relaxed: a flag for the report */
        atomic_store_explicit(&thread->engine->buffers_plain, true, memory_order_relaxed);
    thread->file_fixed = io_uring_register_files(&thread->ring, &thread->engine->fd, 1) == 0;
    return 0;
}

void bench_raw_thread_end(void *handle)
{
    struct raw_thread *thread = handle;
    if (thread->ring_ready)
        io_uring_queue_exit(&thread->ring);
    for (unsigned i = 0; i < thread->setup.depth;
         i++) /* after an error: others may wait for them */
        release_slot(thread, &thread->slots[i]);
    bench_huge_free(thread->buffers, thread->buffers_bytes);
    free(thread);
}

int bench_raw_thread_begin(void *handle, const struct bench_thread_setup *setup, void **out_thread)
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
        thread->buffers_bytes = scan ? (uint64_t)BENCH_RAW_INFLIGHT * BENCH_TRANSFER_BYTES
                                     : (uint64_t)setup->depth * thread->page_size;
        thread->buffers = bench_huge_alloc(thread->buffers_bytes, setup->error);
        if (thread->buffers == NULL)
            goto fail_thread;
        int code = scan || setup->depth > 1 ? make_ring(thread) : 0;
        if (code != 0 && scan) { /* relaxed: a flag for the report */
            atomic_store_explicit(&engine->scans_alone, true, memory_order_relaxed);
        } else if (code != 0) { /* what the depth asks for cannot be had */
            bench_fail_errno(setup->error, code,
                             "io_uring is not permitted here (see clockpool-bench doctor)");
            goto fail_thread;
        }
    }
    *out_thread = thread;
    return 0;

fail_thread:
    bench_raw_thread_end(thread);
    return -1;
}

/* ---- one at a time ----------------------------------------------------------------------------
 */

int bench_raw_device_error(struct raw_thread *thread, int code, const char *verb, uint64_t page)
{
    return bench_fail_errno(thread->setup.error, code, "cannot %s page %" PRIu64, verb, page);
}

int bench_raw_arrived(struct raw_thread *thread, const void *memory, uint64_t where)
{
    if (!thread->engine->verifies || bench_store_is_sealed(memory, thread->page_size))
        return 0;
    return bench_fail(thread->setup.error, "page %" PRIu64 " of the data file has a wrong checksum",
                      where);
}

static void read_array(const struct raw_thread *thread, struct bench_op *ops, unsigned count)
{
    const char *array = thread->engine->array;
    uint64_t base = thread->engine->base_page;
    uint32_t page_size = thread->page_size;
    /* relaxed atomic loads, as every reader of shared pages does them */
    for (unsigned i = 0; i < count; i++) {
        const char *at = array + (ops[i].where - base) * page_size + ops[i].offset_bytes;
        ops[i].value = __atomic_load_n((const uint64_t *)(const void *)at, __ATOMIC_RELAXED);
    }
}

int bench_raw_read(void *handle, struct bench_op *ops, unsigned count)
{
    struct raw_thread *thread = handle;
    if (thread->engine->array != NULL) {
        read_array(thread, ops, count);
        return 0;
    }
    for (unsigned i = 0; i < count; i++) {
        int code = bench_read_all(thread->engine->fd, thread->buffers, thread->page_size,
                                  ops[i].where * thread->page_size);
        if (code != 0)
            return bench_raw_device_error(thread, code, "read", ops[i].page);
        if (bench_raw_arrived(thread, thread->buffers, ops[i].where) != 0)
            return -1;
        memcpy(&ops[i].value, thread->buffers + ops[i].offset_bytes, 8);
    }
    return 0;
}

char *bench_raw_array_page(const struct raw_engine *engine, uint64_t where)
{
    return engine->array + (where - engine->base_page) * engine->setup->data.page_size;
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
                       bench_raw_array_page(thread->engine, op->where));
    /* release: pairs with the acquire of the next holder */
    atomic_store_explicit(lock, false, memory_order_release);
    return 0;
}

/* Read, change, write a page that this thread has marked busy. */
static int rewrite_page(struct raw_thread *thread, const struct bench_op *op)
{
    uint64_t offset = op->where * thread->page_size;
    int code = bench_read_all(thread->engine->fd, thread->buffers, thread->page_size, offset);
    if (code != 0)
        return bench_raw_device_error(thread, code, "read", op->page);
    if (!bench_check_update(thread->setup.check, op->page, thread->buffers))
        return 0;
    bench_store_seal(thread->buffers, thread->page_size);
    code = bench_write_all(thread->engine->fd, thread->buffers, thread->page_size, offset);
    return code == 0 ? 0 : bench_raw_device_error(thread, code, "write", op->page);
}

static int update_op(void *handle, struct bench_op *op)
{
    struct raw_thread *thread = handle;
    if (thread->engine->array != NULL)
        return update_array(thread, op);
    while (!take_page(thread->engine, op)) /* ends: who has it does two transfers */
        sched_yield();
    int code = rewrite_page(thread, op);
    release_page(thread->engine, op);
    return code;
}

static int commit_op(void *handle, struct bench_op *op)
{
    struct raw_thread *thread = handle;
    bool relaxed = thread->setup.workload == BENCH_COMMIT_RELAXED;
    return bench_raw_log_append(thread->engine->log, op->page, relaxed, thread->setup.error);
}

static int sync_log(void *handle, struct bench_error *error)
{
    struct raw_engine *engine = handle;
    return bench_raw_log_sync(engine->log, error);
}

/* Updates of pages are verified by reading them, those of the log by reading that. */
static int verify(void *handle, const struct bench_tracker *tracker, struct bench_error *error)
{
    struct raw_engine *engine = handle;
    return bench_raw_log_verify(engine->log, tracker, error);
}

/* ---- many at a time ---------------------------------------------------------------------------
 */

void bench_raw_queue(struct raw_thread *thread, bool write, void *buffer, uint32_t size_bytes,
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

/* As cp_io_ring_submit_batch does: the device goes on while the thread takes in the others. */
static void submit_batch(struct raw_thread *thread)
{
    unsigned queued = io_uring_sq_ready(&thread->ring);
    unsigned flying = thread->in_flight - queued;
    if (queued >= BATCH_LEAST && queued >= flying / BATCH_SHARE)
        (void)io_uring_submit(&thread->ring); /* what it does not take goes with the next wait */
}

static char *slot_buffer(struct raw_thread *thread, unsigned slot)
{
    return thread->buffers + (uint64_t)slot * thread->page_size;
}

/* Begin the transfer that a slot starts with. An update waits while its page is busy. */
static void begin_slot(struct raw_thread *thread, unsigned slot)
{
    const struct bench_op *op = thread->slots[slot].op;
    if (thread->setup.workload == BENCH_UPDATE_RANDOM) {
        thread->slots[slot].holds = take_page(thread->engine, op);
        if (!thread->slots[slot].holds) {
            thread->waiting[thread->waiting_count++] = slot;
            return;
        }
    }
    bench_raw_queue(thread, false, slot_buffer(thread, slot), thread->page_size,
                    op->where * thread->page_size, slot);
    submit_batch(thread);
}

/* Try the waiting ones again. */
static void begin_waiting(struct raw_thread *thread)
{
    unsigned count = thread->waiting_count;
    thread->waiting_count = 0; /* begin_slot stores behind what is read here */
    for (unsigned i = 0; i < count; i++)
        begin_slot(thread, thread->waiting[i]);
}

int bench_raw_start(void *handle, unsigned slot, struct bench_op *op)
{
    struct raw_thread *thread = handle;
    thread->slots[slot] = (struct raw_slot){.op = op, .step = STEP_READ};
    if (thread->engine->array != NULL) {
        __builtin_prefetch(bench_raw_array_page(thread->engine, op->where) + op->offset_bytes);
        thread->ready[thread->ready_count++] = slot;
        return 0;
    }
    begin_slot(thread, slot);
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
            read_array(thread, thread->slots[slot].op, 1);
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
        bench_raw_queue(thread, write, buffer, thread->page_size, offset, slot);
        return 0;
    }
    if (result < 0)
        return bench_raw_device_error(thread, -result, write ? "write" : "read", state->op->page);
    if (write) {
        release_slot(thread, state);
        return 1;
    }
    if (thread->setup.workload != BENCH_UPDATE_RANDOM) {
        if (bench_raw_arrived(thread, buffer, state->op->where) != 0)
            return -1;
        memcpy(&state->op->value, buffer + state->op->offset_bytes, 8);
        return 1;
    }
    if (!bench_check_update(thread->setup.check, state->op->page, buffer)) {
        release_slot(thread, state);
        return 1;
    }
    bench_store_seal(buffer, thread->page_size);
    state->step = STEP_WRITE;
    bench_raw_queue(thread, true, buffer, thread->page_size, offset, slot);
    return 0;
}

int bench_raw_submit_and_wait(struct raw_thread *thread)
{
    int code = io_uring_submit_and_wait(&thread->ring, 1);
    if (code < 0 && code != -EINTR && code != -EAGAIN && code != -EBUSY)
        return bench_fail_errno(thread->setup.error, -code, "io_uring_enter failed");
    return 0;
}

int bench_raw_reap(void *handle, unsigned *out_slots, unsigned capacity)
{
    struct raw_thread *thread = handle;
    if (thread->engine->array != NULL)
        return reap_array(thread, out_slots, capacity);
    unsigned count = 0;
    while (count == 0) { /* ends: something is in flight, here or at who has our pages */
        begin_waiting(thread);
        if (thread->in_flight == 0) {
            sched_yield();
            continue;
        }
        if (bench_raw_submit_and_wait(thread) != 0)
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

const struct bench_engine bench_engine_raw = {
    .name = "raw",
    .summary = "the limit: a bare array when the data fit, bare O_DIRECT reads when not",
    .format = BENCH_STORE_FORMAT,
    .access = "bare",
    .deep = true,
    .relaxed = BENCH_DURABILITY_RELAXED,
    .version = bench_raw_version,
    .disk_bytes = bench_store_disk_bytes,
    .create = bench_store_create,
    .open = bench_raw_open,
    .close = bench_raw_close,
    .locate = bench_raw_locate,
    .stats = bench_raw_stats,
    .thread_begin = bench_raw_thread_begin,
    .thread_end = bench_raw_thread_end,
    .read = bench_raw_read,
    .start = bench_raw_start,
    .reap = bench_raw_reap,
    .update = update_op,
    .commit = commit_op,
    .sync = sync_log,
    .verify = verify,
    .scan = bench_raw_scan,
};
