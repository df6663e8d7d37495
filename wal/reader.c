/* SPDX-License-Identifier: MIT */
/*
 * Reading segments: two windows of up to 4 MiB, in huge pages where those are granted, since a
 * device takes a request in so many segments of memory. One is looked at; once it is clear that
 * much will be read, the other is on its way meanwhile, through a ring, several requests at a time.
 *
 * What was read ahead and failed is read again in the plain way when it is wanted: for the error's
 * text, and because it may not fail again.
 */
#include "reader.h"

#include <clockpool/base/bits.h>

#include <errno.h>
#include <string.h>

/* A ring costs some 100 us and 4 MiB of memory: for a short log that is more than it saves. */
#define WINDOWS_BEFORE_RING 2u

int cp_wal__reader_init(struct cp_wal__reader *reader, struct cp_wal *wal)
{
    memset(reader, 0, sizeof *reader);
    reader->wal = wal;
    reader->window_bytes = UINT64_C(1) << cp_log2_ceil(cp_max_u64(wal->segment_bytes, 4096));
    reader->window_bytes = cp_min_u64(reader->window_bytes, CP_WAL__WINDOW_BYTES);
    const struct cp_arena_options options = {
        .reserve_bytes = 2 * reader->window_bytes,
        .extent_bytes = reader->window_bytes,
    };
    int code = cp_arena_create(&options, &reader->arena);
    if (code == 0)
        code = cp_arena_commit(reader->arena, 0, 1);
    if (code != 0)
        return cp_error_set(-ENOMEM, wal->directory, CP_NO_PAGE, CP_NO_LSN, NULL,
                            "reading the log");
    reader->windows[0].data = cp_arena_base(reader->arena);
    return 0;
}

static bool arrived(void *ctx)
{
    return ((const struct cp_wal__window *)ctx)->pending == 0;
}

/* Give a window's file back, with what is under way in it. */
static void clear(struct cp_wal__reader *reader, struct cp_wal__window *window)
{
    if (window->pending > 0)
        cp_io_ring_wait(reader->ring, arrived, window);
    (void)!cp_io_file_close(window->file); /* it was only read */
    window->file = NULL;
    window->segment = NULL;
    window->bytes = 0;
    window->code = 0;
}

void cp_wal__reader_fini(struct cp_wal__reader *reader)
{
    struct cp_error saved = *cp_error_info();
    clear(reader, &reader->windows[0]);
    clear(reader, &reader->windows[1]);
    cp_io_ring_destroy(reader->ring);
    cp_arena_destroy(reader->arena);
    cp_error_restore(&saved);
}

/* The ring and the second window's memory. Without them, reading goes on one at a time. */
static void prepare_ahead(struct cp_wal__reader *reader)
{
    const struct cp_io_ring_options options = {.depth = 2 * CP_WAL__WINDOW_REQUESTS};
    struct cp_error saved = *cp_error_info();
    reader->ring_tried = true;
    if (cp_arena_commit(reader->arena, 1, 1) == 0) {
        reader->windows[1].data = reader->windows[0].data + reader->window_bytes;
        if (cp_io_ring_create(reader->wal->io, &options, &reader->ring) != 0)
            reader->ring = NULL;
    }
    cp_error_restore(&saved);
}

/* Open the segment in a window, and find out what of it is there from offset on. */
static int open_window(struct cp_wal__reader *reader, struct cp_wal__window *window,
                       const struct cp_wal__segment *segment, uint64_t offset)
{
    uint64_t size_bytes = 0;
    int code = 0;
    if (window->segment != segment) {
        clear(reader, window);
        code = cp_wal__open_file(reader->wal, segment, true, false, &window->file);
        if (code != 0)
            return code;
        window->segment = segment;
    }
    window->offset = offset;
    window->bytes = 0;
    window->code = 0;
    window->ahead = false;
    code = cp_io_file_size(window->file, &size_bytes);
    size_bytes = cp_align_down(size_bytes, CP_WAL__UNIT_MAX);
    size_bytes = cp_min_u64(size_bytes, reader->wal->segment_bytes);
    if (code == 0 && offset < size_bytes)
        window->bytes = cp_min_u64(reader->window_bytes, size_bytes - offset);
    return code;
}

static void complete(struct cp_io_request *request)
{
    struct cp_wal__window *window = request->user;
    if (request->result != 0 && window->code == 0)
        window->code = request->result;
    window->pending--;
}

/* Have an opened window read through the ring, without waiting. */
static void start(struct cp_wal__reader *reader, struct cp_wal__window *window)
{
    uint32_t count = 0;
    window->ahead = true;
    for (uint64_t at = 0; at < window->bytes; at += CP_IO_MAX_TRANSFER_BYTES, count++) {
        window->iov[count] = (struct iovec){
            window->data + at, cp_min_u64(CP_IO_MAX_TRANSFER_BYTES, window->bytes - at)};
        window->requests[count] = (struct cp_io_request){
            .op = CP_IO_OP_READ,
            .file = window->file,
            .offset_bytes = window->offset + at,
            .iov = &window->iov[count],
            .iov_count = 1,
            .complete = complete,
            .user = window,
        };
    }
    window->pending = count;
    for (uint32_t i = 0; i < count; i++)
        cp_io_ring_put(reader->ring, &window->requests[i]);
    cp_io_ring_submit(reader->ring);
}

static int read_plainly(struct cp_wal__window *window)
{
    int code = 0;
    window->ahead = false;
    for (uint64_t at = 0; code == 0 && at < window->bytes; at += CP_IO_MAX_TRANSFER_BYTES)
        code = cp_io_read(window->file, window->data + at,
                          cp_min_u64(CP_IO_MAX_TRANSFER_BYTES, window->bytes - at),
                          window->offset + at);
    return code;
}

/* What is read behind the current window goes into the other one. Errors show when it is wanted. */
static void read_ahead(struct cp_wal__reader *reader)
{
    const struct cp_wal__window *now = &reader->windows[reader->current];
    struct cp_wal__window *ahead = &reader->windows[reader->current ^ 1];
    const bool more = now->offset + reader->window_bytes < reader->wal->segment_bytes;
    const struct cp_wal__segment *segment = more ? now->segment : reader->next;
    struct cp_error saved = *cp_error_info();
    if (segment != NULL &&
        open_window(reader, ahead, segment, more ? now->offset + reader->window_bytes : 0) == 0)
        start(reader, ahead);
    else
        clear(reader, ahead);
    cp_error_restore(&saved);
}

static bool holds(const struct cp_wal__window *window, const struct cp_wal__segment *segment,
                  uint64_t offset)
{
    return window->segment == segment && window->offset == offset;
}

/* Have the window at offset of a segment be the current one. */
static int turn_to(struct cp_wal__reader *reader, const struct cp_wal__segment *segment,
                   uint64_t offset)
{
    int code = 0;
    if (!reader->ring_tried && reader->windows_read >= WINDOWS_BEFORE_RING)
        prepare_ahead(reader);
    reader->windows_read++;
    if (reader->ring != NULL)
        reader->current ^= 1;
    struct cp_wal__window *window = &reader->windows[reader->current];
    if (window->pending > 0)
        cp_io_ring_wait(reader->ring, arrived, window);
    if (holds(window, segment, offset) && window->ahead && window->code == 0) {
        read_ahead(reader);
        return 0;
    }
    code = open_window(reader, window, segment, offset);
    if (code == 0)
        code = read_plainly(window);
    if (code != 0) {
        clear(reader, window);
        return code;
    }
    if (reader->ring != NULL)
        read_ahead(reader);
    return 0;
}

int cp_wal__reader_block(struct cp_wal__reader *reader, const struct cp_wal__segment *segment,
                         uint64_t index, const struct cp_wal__block **out_block)
{
    const uint64_t at = CP_WAL__HEADER_BYTES + index * CP_WAL_BLOCK_BYTES;
    const uint64_t offset = cp_align_down(at, reader->window_bytes);
    const struct cp_wal__window *window = &reader->windows[reader->current];

    if (!holds(window, segment, offset)) {
        int code = turn_to(reader, segment, offset);
        if (code != 0)
            return code;
        window = &reader->windows[reader->current];
    }
    if (at - offset + CP_WAL_BLOCK_BYTES > window->bytes)
        return -ENODATA;
    *out_block = (const struct cp_wal__block *)(void *)(window->data + (at - offset));
    return 0;
}
