/* SPDX-License-Identifier: MIT */
/*
 * The log's durable end, block by block, and the pages that were written before it had reached
 * them. Nothing of the library's pager or log is used, only the checksum function.
 *
 * A block is durable when a flush of its file began after its write had ended, and has ended well.
 * The log is durable up to the first byte that is not: full blocks in number order, then the part
 * of the last one that is used. A partial block may be followed by the next one only under a higher
 * epoch, as the format says.
 */
#include "order_count.h"

#include <clockpool/base/checksum.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_BYTES         131072u /* of the data file, before the first page */
#define SUPERBLOCK_BYTES     4096u
#define SLOT_B_OFFSET        65536u
#define MAGIC                UINT64_C(0x314c504b434f4c43)
#define PAGE_SIZE_MIN        4096u
#define PAGE_SIZE_MAX        65536u
#define TRAILER_BYTES        32u
#define SEGMENT_HEADER_BYTES 4096u
#define BLOCK_BYTES          512u
#define PAYLOAD_BYTES        488u
#define FIRST_BLOCK          1u                  /* of a new log */
#define BLOCKS_MAX           (UINT64_C(1) << 24) /* 8 GiB of log: more than any run writes */

/* What is known of a block of the stream. */
struct block {
    uint32_t epoch;
    uint16_t durable_used; /* payload bytes that are durable */
};

/* A block that was written and not flushed yet. */
struct pending {
    uint64_t number, ended; /* index of the event that ended the write */
    uint32_t file, epoch;
    uint16_t used;
};

struct counter {
    const struct crash_trace *trace;
    struct order_counts counts;
    bool counting;
    uint64_t store_id; /* 0: not known yet */
    uint32_t page_size;
    uint8_t *kinds;       /* of each file of the trace: enum file_kind */
    struct block *blocks; /* by number */
    uint64_t block_capacity;
    uint64_t last; /* the block in which the durable end lies */
    uint64_t durable_lsn;
    struct pending *pending;
    uint64_t pending_count, pending_capacity;
};

enum file_kind { FILE_OTHER, FILE_DATA, FILE_SEGMENT };

static void *resized(void *memory, uint64_t bytes)
{
    void *result = realloc(memory, bytes);
    if (result == NULL)
        abort(); /* a tool without memory has nothing better to do */
    return result;
}

static uint64_t load_u64(const unsigned char *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static uint16_t load_u16(const unsigned char *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static uint32_t load_u32(const unsigned char *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* ---- files ------------------------------------------------------------------------------------
 */

/* By the name it is created under: a store is made in a directory, or as a file, of another name,
 * which begins as the final one does. */
static enum file_kind kind_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    if (slash != NULL && slash - path >= 3 && strncmp(slash - 3, "wal", 3) == 0 &&
        (slash - path == 3 || slash[-4] == '/'))
        return FILE_SEGMENT;
    return strncmp(name, "data", 4) == 0 ? FILE_DATA : FILE_OTHER;
}

/* ---- the log ----------------------------------------------------------------------------------
 */

static struct block *block_at(struct counter *counter, uint64_t number)
{
    if (number >= BLOCKS_MAX)
        return NULL;
    if (number >= counter->block_capacity) {
        uint64_t capacity = number * 2 + 1024;
        counter->blocks = resized(counter->blocks, capacity * sizeof *counter->blocks);
        memset(counter->blocks + counter->block_capacity, 0,
               (capacity - counter->block_capacity) * sizeof *counter->blocks);
        counter->block_capacity = capacity;
    }
    return &counter->blocks[number];
}

/* Is there a durable block of this number? The array stays where it is. */
static const struct block *durable_block(const struct counter *counter, uint64_t number)
{
    if (number >= counter->block_capacity || counter->blocks[number].durable_used == 0)
        return NULL;
    return &counter->blocks[number];
}

/* Follow the durable blocks from where they ended so far. */
static void advance_end(struct counter *counter)
{
    const struct block *block = durable_block(counter, counter->last);
    if (block == NULL)
        return;
    for (;;) { /* ends: at a block that is not durable */
        const uint32_t epoch = block->epoch;
        const bool full = block->durable_used == PAYLOAD_BYTES;
        const struct block *next = durable_block(counter, counter->last + 1);
        if (next == NULL || (!full && next->epoch <= epoch) || next->epoch < epoch)
            break;
        counter->last++;
        block = next;
    }
    uint64_t end = counter->last * PAYLOAD_BYTES + block->durable_used;
    if (end > counter->durable_lsn)
        counter->durable_lsn = end;
}

static void make_durable(struct counter *counter, const struct pending *pending)
{
    struct block *block = block_at(counter, pending->number);
    if (block == NULL)
        return;
    if (pending->epoch > block->epoch) {
        block->epoch = pending->epoch;
        block->durable_used = pending->used;
    } else if (pending->epoch == block->epoch && pending->used > block->durable_used) {
        block->durable_used = pending->used;
    }
}

static void add_pending(struct counter *counter, const struct pending *pending)
{
    if (counter->pending_count == counter->pending_capacity) {
        counter->pending_capacity = counter->pending_capacity * 2 + 64;
        counter->pending =
            resized(counter->pending, counter->pending_capacity * sizeof *counter->pending);
    }
    counter->pending[counter->pending_count++] = *pending;
}

/* A write to a segment has ended: its blocks are durable with the next flush, or at once. */
static void take_log_write(struct counter *counter, const struct crash_event *event, uint64_t ended)
{
    const unsigned char *bytes = crash_trace_data(counter->trace, event);
    const uint64_t end = event->offset + event->size;
    uint64_t at = (event->offset + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
    counter->counts.log_writes += counter->counting;
    if ((event->flags & CRASH_DSYNC) != 0)
        counter->counts.log_flushes += counter->counting;
    if (at < SEGMENT_HEADER_BYTES)
        at = SEGMENT_HEADER_BYTES;
    for (; at + BLOCK_BYTES <= end; at += BLOCK_BYTES) {
        const unsigned char *block = bytes + (at - event->offset);
        const struct pending pending = {
            .number = load_u64(block + 8),
            .ended = ended,
            .file = event->file,
            .epoch = load_u32(block + 4),
            .used = load_u16(block + 20),
        };
        if (pending.used == 0 || pending.used > PAYLOAD_BYTES ||
            load_u32(block) != (uint32_t)cp_checksum(block + 4, BLOCK_BYTES - 4, counter->store_id))
            continue; /* filled with zeros, or nothing of the log's */
        if ((event->flags & CRASH_DSYNC) != 0)
            make_durable(counter, &pending);
        else
            add_pending(counter, &pending);
    }
    advance_end(counter);
}

static void take_flush(struct counter *counter, const struct crash_event *event, uint64_t begin)
{
    uint64_t kept = 0;
    if (event->code != 0 ||
        counter->kinds[crash_trace_event(counter->trace, begin)->file] != FILE_SEGMENT)
        return;
    const uint32_t file = crash_trace_event(counter->trace, begin)->file;
    counter->counts.log_flushes += counter->counting;
    for (uint64_t i = 0; i < counter->pending_count; i++) {
        const struct pending *pending = &counter->pending[i];
        if (pending->file == file && pending->ended < begin)
            make_durable(counter, pending);
        else
            counter->pending[kept++] = *pending;
    }
    counter->pending_count = kept;
    advance_end(counter);
}

/* ---- pages ------------------------------------------------------------------------------------
 */

/* The superblock says which store this is, and how large its pages are. */
static void take_superblock(struct counter *counter, const unsigned char *block)
{
    const uint32_t page_size = load_u32(block + 16);
    if (load_u64(block) != MAGIC || page_size < PAGE_SIZE_MIN || page_size > PAGE_SIZE_MAX)
        return;
    counter->page_size = page_size;
    counter->store_id = load_u64(block + 24);
}

/* One page within a write of which at least the trailer is there. image: NULL when its beginning
 * is not (a mapping is written in the system's pages, which may be smaller). */
static void take_page(struct counter *counter, uint64_t number, const unsigned char *trailer,
                      const unsigned char *image)
{
    struct order_counts *counts = &counter->counts;
    const uint64_t lsn = load_u64(trailer);
    counts->page_writes++;
    if (image != NULL &&
        load_u64(trailer + 24) != cp_checksum(image, counter->page_size - 8u, counter->store_id))
        counts->unsealed++;
    if (load_u64(trailer + 8) != number || load_u64(trailer + 16) != counter->store_id)
        return; /* never sealed so far: it has no LSN */
    if (lsn <= counter->durable_lsn)
        return;
    counts->ahead_of_log++;
    if (lsn - counter->durable_lsn > counts->max_lag_bytes)
        counts->max_lag_bytes = lsn - counter->durable_lsn;
}

static void take_data_write(struct counter *counter, const struct crash_event *event)
{
    const unsigned char *bytes = crash_trace_data(counter->trace, event);
    const uint64_t end = event->offset + event->size;
    static const uint64_t slots[] = {0, SLOT_B_OFFSET};
    for (unsigned i = 0; i < 2; i++) {
        if (event->offset <= slots[i] && end >= slots[i] + SUPERBLOCK_BYTES)
            take_superblock(counter, bytes + (slots[i] - event->offset));
    }
    if (!counter->counting || counter->page_size == 0 || end <= HEADER_BYTES)
        return;
    const uint64_t size = counter->page_size;
    uint64_t first = event->offset / size;
    if (first < HEADER_BYTES / size)
        first = HEADER_BYTES / size;
    for (uint64_t page = first; page * size < end; page++) {
        const uint64_t trailer_at = (page + 1) * size - TRAILER_BYTES;
        if (trailer_at < event->offset || trailer_at + TRAILER_BYTES > end)
            continue;
        take_page(counter, page, bytes + (trailer_at - event->offset),
                  page * size >= event->offset ? bytes + (page * size - event->offset) : NULL);
    }
}

/* ---- all events -------------------------------------------------------------------------------
 */

/* A page counts when it is handed over: from then on it may be on the device. A block of the log
 * counts when it can be nowhere else. */
static void take_event(struct counter *counter, uint64_t index)
{
    const struct crash_event *event = crash_trace_event(counter->trace, index);
    const struct crash_event *begun;
    switch ((enum crash_event_kind)event->kind) {
    case CRASH_CREATE:
        counter->kinds[event->file] =
            (uint8_t)kind_of(crash_trace_text(counter->trace, event->path));
        break;
    case CRASH_WRITE_BEGIN:
        if (counter->kinds[event->file] == FILE_DATA)
            take_data_write(counter, event);
        break;
    case CRASH_WRITE_END:
        begun = crash_trace_event(counter->trace, event->begin);
        if (counter->kinds[begun->file] == FILE_SEGMENT)
            take_log_write(counter, begun, index);
        break;
    case CRASH_FLUSH_END:
        take_flush(counter, event, event->begin);
        break;
    case CRASH_MARK:
        counter->counting |= event->mark == CRASH_MARK_CREATED;
        break;
    default: /* names and sizes change nothing here */
        break;
    }
}

int order_count(const struct crash_trace *trace, struct order_counts *out_counts)
{
    struct counter counter = {.trace = trace, .last = FIRST_BLOCK};
    counter.kinds = resized(NULL, (uint64_t)crash_trace_file_count(trace) + 1);
    memset(counter.kinds, FILE_OTHER, (uint64_t)crash_trace_file_count(trace) + 1);
    for (uint64_t i = 0; i < crash_trace_length(trace); i++)
        take_event(&counter, i);
    counter.counts.durable_lsn = counter.durable_lsn;
    *out_counts = counter.counts;
    free(counter.kinds);
    free(counter.blocks);
    free(counter.pending);
    return counter.store_id != 0 && counter.counting ? 0 : -1;
}
