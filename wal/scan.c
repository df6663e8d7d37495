/* SPDX-License-Identifier: MIT */
/*
 * Reading the log: blocks in order, groups out of blocks, and the question what stands at the end.
 *
 * A device writes a block whole or not at all. So what an interrupted write leaves is a block that
 * is new, one that is older (a smaller number, or an older epoch), or zeros; anything else is
 * damage. The scan goes on while blocks are good and in order. Where it stops, it looks through all
 * blocks there are: one that could only have been written when the log was already durable beyond
 * the stop says that something is missing.
 *
 * Nothing in the files is trusted: each length is checked against what has been read, and memory
 * grows with that only.
 */
#include "reader.h"
#include "rules.h"

#include <clockpool/base/assert.h>
#include <clockpool/base/bits.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY 4096u

struct scan {
    struct cp_wal *wal; /* borrows */
    int (*visit)(void *ctx, const struct cp_wal_group *group);
    void *ctx;

    struct cp_wal__reader reader;
    const struct cp_wal__segment *segment; /* the one read last, or NULL */

    /* Where we are. */
    uint64_t block;      /* the next one */
    uint32_t epoch;      /* of the last good block; 0: none yet */
    cp_lsn block_end;    /* blocks are good up to here */
    cp_lsn claim;        /* the last good block's */
    bool block_full;     /* the last good block is */
    bool segment_missed; /* the segment of `block` is not there */

    /* The group being put together; its bytes so far. */
    cp_lsn group_start; /* == group_end: none */
    uint64_t have_bytes, capacity_bytes;
    uint8_t *bytes;                /* owns */
    struct cp_wal_record *records; /* owns */
    uint32_t record_capacity;
};

static int damaged(const struct scan *scan, int code, cp_lsn lsn, const char *what)
{
    return cp_error_set(code, scan->wal->directory, CP_NO_PAGE, lsn,
                        "restore the log's files, or restore the store from a backup",
                        "reading the log: %s", what);
}

/* ---- blocks -----------------------------------------------------------------------------------
 */

/* The block with a number, from the segment that should hold it. NULL: no such segment. */
static int read_numbered(struct scan *scan, uint64_t number, const struct cp_wal__block **out_block)
{
    struct cp_wal *wal = scan->wal;
    const uint64_t wanted = number / wal->segment_blocks;
    if (scan->segment == NULL || scan->segment->number != wanted) {
        scan->segment = cp_wal__segment_find(wal, wanted);
        scan->reader.next = cp_wal__segment_find(wal, wanted + 1);
    }
    *out_block = NULL;
    if (scan->segment == NULL)
        return 0;
    int code =
        cp_wal__reader_block(&scan->reader, scan->segment, number % wal->segment_blocks, out_block);
    if (code == -ENODATA)
        code = damaged(scan, CP_EDAMAGED, cp_wal__block_start(number), "a segment is cut short");
    return code;
}

/* ---- groups -----------------------------------------------------------------------------------
 */

static int grow(struct scan *scan, void **array, uint64_t size_bytes)
{
    void *larger = realloc(*array, size_bytes);
    if (larger == NULL)
        return cp_error_set(-ENOMEM, scan->wal->directory, CP_NO_PAGE, scan->group_start, NULL,
                            "reading the log");
    *array = larger;
    return 0;
}

/* Split the group's bytes into records. False when they contradict themselves. */
static bool split(struct scan *scan, const struct cp_wal__group_header *header)
{
    uint64_t chain = scan->wal->options.store_id;
    uint64_t at = sizeof *header;

    for (uint32_t i = 0; i < header->record_count; i++) {
        struct cp_wal__record_header record;
        if (header->length - at < sizeof record)
            return false;
        memcpy(&record, scan->bytes + at, sizeof record);
        uint64_t bytes = cp_wal__record_bytes(record.size_bytes);
        if (bytes > header->length - at || record.type == 0 || record.reserved != 0 ||
            record.offset + (uint64_t)record.size_bytes > CP_WAL__RECORD_MAX)
            return false;
        const void *data = scan->bytes + at + sizeof record;
        chain = cp_wal__chain_record(chain, &record, data);
        scan->records[i] = (struct cp_wal_record){
            .data = record.size_bytes != 0 ? data : NULL,
            .page = record.page,
            .size_bytes = record.size_bytes,
            .offset = record.offset,
            .type = record.type,
        };
        at += bytes;
    }
    /* Without records it begins a session, or fills a unit up: zeros, and nothing else. */
    if (header->record_count == 0 && at < header->length &&
        cp_is_zero(scan->bytes + at, header->length - at))
        at = header->length;
    return at == header->length &&
           (CP_BREAK_RECORD_CHECKSUM ||
            header->checksum == cp_wal__group_checksum(chain, scan->group_start, header->length,
                                                       header->epoch, header->record_count,
                                                       scan->wal->options.store_id));
}

/* A group is complete. */
static int give_group(struct scan *scan, const struct cp_wal__group_header *header)
{
    int code = 0;
    if (header->record_count > scan->record_capacity) {
        code = grow(scan, (void **)&scan->records,
                    (uint64_t)header->record_count * sizeof *scan->records);
        if (code != 0)
            return code;
        scan->record_capacity = header->record_count;
    }
    if (!split(scan, header))
        return damaged(scan, CP_EDAMAGED, scan->group_start, "a group contradicts its checksum");
    struct cp_wal_group group = {
        .start = scan->group_start,
        .end = scan->group_start + header->length,
        .records = scan->records,
        .record_count = header->record_count,
        .epoch = header->epoch,
    };
    scan->group_start = group.end;
    scan->have_bytes = 0;
    return scan->visit != NULL && group.record_count != 0 ? scan->visit(scan->ctx, &group) : 0;
}

/* Is a group's header possible? What does not fit is damage, since its block is good. */
static bool header_valid(const struct scan *scan, const struct cp_wal__group_header *header)
{
    return header->length % 8 == 0 && header->length <= CP_WAL__GROUP_MAX &&
           (CP_BREAK_EPOCH || header->epoch == scan->epoch) &&
           header->record_count <= CP_WAL_GROUP_RECORDS_MAX &&
           header->length >= sizeof *header + (uint64_t)header->record_count *
                                                  sizeof(struct cp_wal__record_header);
}

/* Take payload in; it follows what was taken before. */
static int take_bytes(struct scan *scan, const uint8_t *bytes, uint64_t size_bytes)
{
    struct cp_wal__group_header header;
    int code = 0;

    while (size_bytes > 0 && code == 0) {
        uint64_t want = sizeof header;
        if (scan->have_bytes >= sizeof header) {
            memcpy(&header, scan->bytes, sizeof header);
            want = header.length;
        }
        uint64_t part = cp_min_u64(want - scan->have_bytes, size_bytes);
        if (scan->have_bytes + part > scan->capacity_bytes) {
            uint64_t capacity = cp_max_u64(scan->capacity_bytes * 2, FIRST_CAPACITY);
            code = grow(scan, (void **)&scan->bytes, capacity);
            if (code != 0)
                return code;
            scan->capacity_bytes = capacity;
        }
        memcpy(scan->bytes + scan->have_bytes, bytes, part);
        scan->have_bytes += part;
        bytes += part;
        size_bytes -= part;
        if (scan->have_bytes == sizeof header) {
            memcpy(&header, scan->bytes, sizeof header);
            if (!header_valid(scan, &header))
                return damaged(scan, CP_EDAMAGED, scan->group_start, "a group cannot be");
            want = header.length;
        }
        if (scan->have_bytes == want && scan->have_bytes >= sizeof header)
            code = give_group(scan, &header);
    }
    return code;
}

/* ---- the scan ---------------------------------------------------------------------------------
 */

/*
 * Is this the block that a session begins with? It holds the group without records, and was written
 * when nothing behind its own beginning was durable. A filler that begins a block is as long as the
 * block's payload at least.
 */
static bool begins_session(const struct cp_wal__block *block)
{
    struct cp_wal__group_header header;
    memcpy(&header, block->payload, sizeof header);
    return block->durable_back == 0 && block->first_group == 0 && header.length == sizeof header &&
           header.record_count == 0;
}

/* Does a valid block with the expected number continue the log? */
static bool continues(const struct scan *scan, const struct cp_wal__block *block)
{
    if (CP_BREAK_EPOCH)
        return true;
    if (block->epoch == scan->epoch)
        return scan->block_full; /* behind a partial block: the newer image of that one was lost */
    /* A session's first block is durable before any other of it is written. */
    return block->epoch > scan->epoch && begins_session(block);
}

/* Take in a block that continues the log; skip: payload bytes before `from`. */
static int take_block(struct scan *scan, const struct cp_wal__block *block, uint32_t skip)
{
    cp_lsn start = cp_wal__block_start(scan->block);
    bool session = scan->epoch != block->epoch && skip == 0;

    if (session) { /* what was incomplete before it was never part of the log */
        scan->have_bytes = 0;
        scan->group_start = start;
    }
    scan->epoch = block->epoch;
    scan->block_end = start + block->used;
    scan->block_full = block->used == CP_WAL__PAYLOAD;
    scan->claim = cp_wal__block_claim(block);
    scan->block++;

    /* Where the first group begins, the block says; so does the length of the one before. */
    if (scan->have_bytes == 0 && skip == 0 && block->used > 0 && block->first_group != 0)
        return damaged(scan, CP_EDAMAGED, start, "a block does not begin where the last one ended");
    return take_bytes(scan, block->payload + skip, block->used - skip);
}

/* Begin at from: the block that holds it, or, at a block's start, what the block before says. */
static int begin(struct scan *scan, cp_lsn from)
{
    const struct cp_wal__block *block;
    uint64_t number = cp_wal__block_of(from);
    uint32_t within = (uint32_t)(from % CP_WAL__PAYLOAD);
    if (within == 0)
        number--;

    scan->block = cp_wal__block_of(from);
    scan->group_start = scan->block_end = scan->claim = from;
    scan->block_full = true;
    if (within == 0 && number < CP_WAL__FIRST_BLOCK)
        return 0;
    int code = read_numbered(scan, number, &block);
    if (code != 0)
        return code;
    if (block == NULL)
        return damaged(scan, CP_ELOG, from, "the segment where recovery begins is missing");
    if (cp_wal__check_block(block, scan->wal->options.store_id) != CP_WAL__BLOCK_VALID ||
        block->number != number || (within != 0 && block->used < within))
        return damaged(scan, CP_EDAMAGED, from, "the block where recovery begins is not there");
    if (within != 0)
        return take_block(scan, block, within);
    scan->epoch = block->epoch;
    scan->block_full = block->used == CP_WAL__PAYLOAD;
    if (!scan->block_full)
        scan->block_end = cp_wal__block_start(number) + block->used;
    return 0;
}

/* Read on until a block does not continue the log. */
static int read_on(struct scan *scan)
{
    const struct cp_wal__block *block;
    uint32_t blocks = scan->wal->segment_blocks;

    for (;;) { /* ends: a file ends, and each number is in one file */
        uint64_t number = scan->block;
        int code = read_numbered(scan, number, &block);
        if (code != 0)
            return code;
        scan->segment_missed = block == NULL;
        if (block == NULL)
            return 0;
        switch (cp_wal__check_block(block, scan->wal->options.store_id)) {
        case CP_WAL__BLOCK_ZERO:
            return 0;
        case CP_WAL__BLOCK_DAMAGED:
            return damaged(scan, CP_EDAMAGED, cp_wal__block_start(number),
                           "a block is neither good, nor old, nor empty");
        case CP_WAL__BLOCK_VALID:
            break;
        }
        if (block->number % blocks != number % blocks)
            return damaged(scan, CP_EDAMAGED, cp_wal__block_start(number),
                           "a block stands in another's place");
        if (block->number != number || !continues(scan, block))
            return 0;
        code = take_block(scan, block, 0);
        if (code != 0)
            return code;
    }
}

/* Does a block say that the log was durable beyond the end that was found? */
static bool contradicts(const struct scan *scan, const struct cp_wal__block *block)
{
    if (block->number < scan->block || block->epoch < scan->epoch)
        return false;
    /* A later session begins at the first block boundary behind the end; all else of it comes only
     * once that block is durable, which then the scan would have met. */
    if (block->epoch > scan->epoch)
        return !begins_session(block) ||
               cp_wal__block_start(block->number) > cp_wal__round_up(scan->block_end);
    return cp_wal__block_claim(block) > scan->block_end;
}

/* Look through a file for blocks that contradict the end. */
static int search_file(struct scan *scan, const struct cp_wal__segment *segment)
{
    struct cp_wal *wal = scan->wal;
    const struct cp_wal__block *block;

    int code = 0;
    for (uint64_t i = 0; i < wal->segment_blocks && code == 0; i++) {
        code = cp_wal__reader_block(&scan->reader, segment, i, &block);
        if (code == -ENODATA) /* a file whose making did not get far */
            return 0;
        if (code != 0 || block->number < scan->block || block->number % wal->segment_blocks != i ||
            cp_wal__check_block(block, wal->options.store_id) != CP_WAL__BLOCK_VALID)
            continue;
        if (contradicts(scan, block))
            code = damaged(scan, scan->segment_missed ? CP_ELOG : CP_EDAMAGED, scan->block_end,
                           scan->segment_missed
                               ? "a segment is missing: a later one has durable blocks"
                               : "it ends here, but later blocks say that more was durable");
    }
    return code;
}

/* The next file, from s on, that the scan has not read whole. */
static const struct cp_wal__segment *next_searched(const struct scan *scan, cp_lsn from,
                                                   const struct cp_wal__segment *s)
{
    const uint64_t first = cp_wal__segment_of(scan->wal, from);
    const uint64_t last = scan->block / scan->wal->segment_blocks;
    while (s != NULL && s->number != CP_WAL__NO_NUMBER && s->number >= first && s->number < last)
        s = s->next;
    return s;
}

/* Look for contradictions in all that the scan has not read. */
static int search_behind(struct scan *scan, cp_lsn from)
{
    int code = 0;
    for (const struct cp_wal__segment *s = scan->wal->segments; s != NULL; s = s->next) {
        if (scan->segment_missed && s->suspect)
            return damaged(scan, CP_EDAMAGED, scan->block_end,
                           "a segment's header is damaged, and may be that of the next one");
    }
    const struct cp_wal__segment *s = next_searched(scan, from, scan->wal->segments);
    while (s != NULL && code == 0) {
        const struct cp_wal__segment *next = next_searched(scan, from, s->next);
        scan->reader.next = next;
        code = search_file(scan, s);
        s = next;
    }
    return code;
}

static void fini_scan(struct scan *scan)
{
    cp_wal__reader_fini(&scan->reader);
    free(scan->records);
    free(scan->bytes);
}

/* May the log be read, and can something begin at from? */
static int check_position(const struct cp_wal *wal, cp_lsn from)
{
    if (!cp_fork_guard_same(&wal->guard))
        return cp_error_set(CP_EFORKED, wal->directory, CP_NO_PAGE, CP_NO_LSN,
                            "open the store again in the child", "reading a log");
    if (wal->ring != NULL || from < cp_wal__block_start(CP_WAL__FIRST_BLOCK) || from % 8 != 0 ||
        from >= CP_WAL__POSITION_MAX)
        return cp_error_set(-EINVAL, wal->directory, CP_NO_PAGE, from, NULL,
                            "reading the log: it has started, or nothing can begin here");
    return 0;
}

int cp_wal_scan(struct cp_wal *wal, cp_lsn from,
                int (*visit)(void *ctx, const struct cp_wal_group *group), void *ctx,
                cp_lsn *out_end)
{
    struct scan scan = {.wal = wal, .visit = visit, .ctx = ctx};

    int code = check_position(wal, from);
    if (code != 0)
        return code;
    code = cp_wal__reader_init(&scan.reader, wal);
    if (code == 0)
        code = begin(&scan, from);
    if (code == 0)
        code = read_on(&scan);
    if (code == 0 && scan.segment != NULL)
        code = cp_wal__check_whole(wal, scan.segment); /* all before it were read to their ends */
    if (code == 0)
        code = search_behind(&scan, from);
    if (code == 0) {
        wal->scan_claim = cp_min_u64(scan.claim, scan.block_end);
        wal->scan_end = scan.block_end;
        wal->scan_epoch = scan.epoch;
        *out_end = scan.group_start;
    }
    fini_scan(&scan);
    return code;
}

/* ---- the end of a clean store's log -----------------------------------------------------------
 */

static int went_on(const struct scan *scan, cp_lsn end)
{
    return damaged(scan, CP_EDAMAGED, end,
                   "it goes on in later sessions than the store knows: data and log are of "
                   "different times");
}

/* Has a session later than epoch written at start, or into a segment behind it? */
static int look_behind(struct scan *scan, cp_lsn start, uint32_t epoch)
{
    struct cp_wal *wal = scan->wal;
    const uint64_t wanted = cp_wal__segment_of(wal, start);
    const struct cp_wal__block *block;
    int code = 0;
    for (const struct cp_wal__segment *s = wal->segments; s != NULL && code == 0; s = s->next) {
        if (s->number == CP_WAL__NO_NUMBER || s->number < wanted)
            continue;
        if (s->number == wanted) {
            code = cp_wal__check_whole(wal, s);
            if (code != 0)
                return code;
        }
        uint64_t number = cp_max_u64(s->number * wal->segment_blocks, cp_wal__block_of(start));
        code = cp_wal__reader_block(&scan->reader, s, number % wal->segment_blocks, &block);
        if (code == -ENODATA) /* a later one, which is made anew */
            code = 0;
        else if (code == 0 && block->number == number && block->epoch > epoch &&
                 cp_wal__check_block(block, wal->options.store_id) == CP_WAL__BLOCK_VALID)
            code = went_on(scan, start);
    }
    return code;
}

int cp_wal_check_end(struct cp_wal *wal, cp_lsn end, uint32_t epoch)
{
    struct scan scan = {.wal = wal};

    int code = check_position(wal, end);
    if (code != 0)
        return code;
    code = cp_wal__reader_init(&scan.reader, wal);
    scan.reader.window_bytes = CP_WAL__UNIT_MAX; /* single blocks, and none ahead */
    scan.reader.ring_tried = true;
    if (code == 0)
        code = begin(&scan, end);
    if (code == 0 && scan.epoch > epoch)
        code = went_on(&scan, end);
    if (code == 0)
        code = look_behind(&scan, cp_wal__round_up(end), epoch);
    fini_scan(&scan);
    return code;
}
