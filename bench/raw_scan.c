/* SPDX-License-Identifier: MIT */
/*
 * The scan of raw and floor: transfers of 1 MiB, eight in flight; see engine_raw.c. Without a ring
 * each is made when it is waited for.
 */
#include "raw_engine.h"
#include "transfer.h"

#include <clockpool/base/bits.h>

#include <assert.h>

struct raw_scan {
    struct raw_thread *thread;
    uint64_t first_byte, end_byte;
    uint64_t queued; /* transfers queued so far; transfer n goes to buffer n % BENCH_RAW_INFLIGHT */
    const struct bench_extent *extent; /* of the page that comes next */
    bool done[BENCH_RAW_INFLIGHT];
};

static uint64_t transfer_at(const struct raw_scan *scan, uint64_t number)
{
    return scan->first_byte + number * BENCH_TRANSFER_BYTES;
}

static uint32_t transfer_size(const struct raw_scan *scan, uint64_t at)
{
    return (uint32_t)cp_min_u64(BENCH_TRANSFER_BYTES, scan->end_byte - at);
}

static char *buffer_of(const struct raw_scan *scan, unsigned buffer)
{
    return scan->thread->buffers + (uint64_t)buffer * BENCH_TRANSFER_BYTES;
}

static void queue_scan(struct raw_scan *scan)
{
    uint64_t at = transfer_at(scan, scan->queued);
    if (at >= scan->end_byte || !scan->thread->ring_ready)
        return;
    unsigned buffer = (unsigned)(scan->queued % BENCH_RAW_INFLIGHT);
    uint32_t size = transfer_size(scan, at);
    scan->done[buffer] = false;
    bench_raw_queue(scan->thread, false, buffer_of(scan, buffer), size, at, buffer | (size << 3));
    scan->queued++;
}

static_assert(BENCH_RAW_INFLIGHT == 8, "a tag carries the buffer in its low three bits");

static int read_now(const struct raw_scan *scan, unsigned buffer, uint64_t at)
{
    struct raw_thread *thread = scan->thread;
    int code =
        bench_read_all(thread->engine->fd, buffer_of(scan, buffer), transfer_size(scan, at), at);
    return code == 0 ? 0 : bench_raw_device_error(thread, code, "read", at / thread->page_size);
}

/* Wait until a buffer's transfer has ended. 0 or -1. */
static int await_buffer(struct raw_scan *scan, unsigned wanted, uint64_t number)
{
    struct raw_thread *thread = scan->thread;
    if (!thread->ring_ready)
        return read_now(scan, wanted, transfer_at(scan, number));
    while (!scan->done[wanted]) { /* ends: its transfer is in flight */
        if (bench_raw_submit_and_wait(thread) != 0)
            return -1;
        struct io_uring_cqe *cqe;
        while (io_uring_peek_cqe(&thread->ring, &cqe) == 0) {
            unsigned buffer = (unsigned)io_uring_cqe_get_data64(cqe) & 7u;
            uint32_t size = (uint32_t)(io_uring_cqe_get_data64(cqe) >> 3);
            int result = cqe->res;
            io_uring_cqe_seen(&thread->ring, cqe);
            thread->in_flight--;
            uint64_t ahead = (buffer + BENCH_RAW_INFLIGHT - wanted) % BENCH_RAW_INFLIGHT;
            uint64_t at = transfer_at(scan, number + ahead);
            if ((result < 0 || (uint32_t)result < size) && read_now(scan, buffer, at) != 0)
                return -1;
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
        if (bench_raw_submit_and_wait(scan->thread) != 0)
            return -1;
        while (io_uring_peek_cqe(&scan->thread->ring, &cqe) == 0) {
            io_uring_cqe_seen(&scan->thread->ring, cqe);
            scan->thread->in_flight--;
        }
    }
    return 0;
}

/*
 * Hand out the data set's pages among those of the file from first_page on, which lie in memory.
 * 1, 0 when the visitor wants no more, -1 when a page is damaged.
 */
static int visit_pages(struct raw_scan *scan, const char *memory, uint64_t size_bytes,
                       uint64_t first_page)
{
    uint32_t page_size = scan->thread->page_size;
    for (uint64_t at = 0; at < size_bytes; at += page_size) {
        uint64_t page = first_page + at / page_size;
        if (page >= scan->extent->first_page + scan->extent->count)
            scan->extent++; /* the next: its last page ends the scan */
        if (page < scan->extent->first_page)
            continue; /* one of the pager's own */
        if (bench_raw_arrived(scan->thread, memory + at, page) != 0)
            return -1;
        if (!bench_check_scan(scan->thread->setup.check,
                              scan->extent->first + (page - scan->extent->first_page), memory + at))
            return 0;
    }
    return 1;
}

int bench_raw_scan(void *handle, uint64_t first, uint64_t count)
{
    struct raw_thread *thread = handle;
    struct raw_engine *engine = thread->engine;
    uint32_t page_size = thread->page_size;
    struct raw_scan scan = {.thread = thread,
                            .extent = bench_extents_find(&engine->extents, first),
                            .first_byte = bench_raw_locate(engine, first) * page_size,
                            .end_byte =
                                (bench_raw_locate(engine, first + count - 1) + 1) * page_size};
    if (engine->array != NULL) {
        (void)visit_pages(&scan, bench_raw_array_page(engine, scan.first_byte / page_size),
                          scan.end_byte - scan.first_byte, scan.first_byte / page_size);
        return 0;
    }
    for (unsigned i = 0; i < BENCH_RAW_INFLIGHT; i++)
        queue_scan(&scan);
    int visited = 1;
    for (uint64_t number = 0; visited == 1 && transfer_at(&scan, number) < scan.end_byte;
         number++) {
        unsigned buffer = (unsigned)(number % BENCH_RAW_INFLIGHT);
        uint64_t at = transfer_at(&scan, number);
        if (await_buffer(&scan, buffer, number) != 0)
            return -1;
        visited =
            visit_pages(&scan, buffer_of(&scan, buffer), transfer_size(&scan, at), at / page_size);
        if (visited == 1)
            queue_scan(&scan);
    }
    const int drained = drain_scan(&scan);
    return visited < 0 ? -1 : drained;
}
