/* SPDX-License-Identifier: MIT */
/*
 * A flight: what one flush writes, from the walk over published groups to its last write.
 *
 * The leader walks, brings the groups into blocks in the flight's stage (cp_wal__build, with the
 * role), and writes and syncs the last stage (cp_wal__fly, which needs no role any more). Who may
 * lead, in which order flights count and who waits for which is flush.c's.
 *
 * Invariants:
 * - Two flights under way never touch the same unit of a file: the role is given up before the last
 *   write only where the flight ends at a unit's end.
 * - Two flights under way lie in one segment: whoever enters another waits until it is alone, so
 *   headers are written in order and nobody writes to a file that is closed.
 * - A filler is a group: it is reserved like any other, and it ends at a unit's end, so it can
 *   neither begin a block and be a header long nor be taken for the beginning of a session.
 */
#include "internal.h"
#include "rules.h"

#include <clockpool/base/assert.h>
#include <clockpool/base/bits.h>
#include <clockpool/base/probe.h>

#include <string.h>
#include <sched.h>

#define WALK_SPIN_LIMIT 128u /* looks at a word before giving the processor away; about 1 us */
#define FILL_ATTEMPTS   8u   /* at the end of the log, where others append; then without */

/* ---- where it ends ----------------------------------------------------------------------------
 */

/*
 * The end of what has been published, at least want, at most limit, which has been reserved. Waits
 * for copies under way before want: their appenders wait for nobody, so this ends.
 */
static cp_lsn walk(struct cp_wal *wal, cp_lsn at, cp_lsn want, cp_lsn limit)
{
    unsigned spins = 0;

    while (at < limit) {
        /* acquire: pairs with the release at the end of append */
        uint64_t word = atomic_load_explicit(cp_wal__word(wal, at), memory_order_acquire);
        if (word != 0) {
            at += (uint32_t)word;
            continue;
        }
        if (at >= want)
            break;
        if (++spins % WALK_SPIN_LIMIT != 0)
            cp_cpu_relax();
        else
            sched_yield();
    }
    return at;
}

/* Publish a group without records, of zeros behind its header, in [start, end). */
static void publish_filler(struct cp_wal *wal, cp_lsn start, cp_lsn end)
{
    struct cp_wal__group_header header = {
        .length = (uint32_t)(end - start),
        .epoch = wal->epoch,
    };
    uint64_t words[2];
    header.checksum = cp_wal__group_checksum(wal->options.store_id, start, header.length,
                                             header.epoch, 0, wal->options.store_id);
    memcpy(words, &header, sizeof words);
    memcpy(cp_wal__at(wal, start + 8), &words[1], 8);
    /* relaxed: the leader itself looks for it */
    atomic_store_explicit(cp_wal__word(wal, start), words[0], memory_order_relaxed);
    /* relaxed: only the leader adds */
    atomic_store_explicit(&wal->filler_bytes,
                          atomic_load_explicit(&wal->filler_bytes, memory_order_relaxed) +
                              header.length,
                          memory_order_relaxed);
}

/*
 * Have the log's end be a unit's end, by a filler unless it is one already, so that another flight
 * may begin there while this one is under way. Returns that end, or 0: it would not pay, since the
 * filler would be more than all else, or there is no room.
 */
static cp_lsn fill_up(struct cp_wal *wal, cp_lsn at)
{
    /* acquire: pairs with the compare-and-swap in reserve; and below as there */
    cp_lsn start = atomic_load_explicit(&wal->reserved, memory_order_acquire);
    for (unsigned i = 0; i < FILL_ATTEMPTS; i++) {
        cp_lsn end = cp_wal__unit_end(wal, start);
        if (end == start)
            return end;
        if (end - start < sizeof(struct cp_wal__group_header))
            end = cp_wal__unit_end(wal, end + 1);
        if (end - start > cp_max_u64(CP_WAL_BLOCK_BYTES, start - at) ||
            end > atomic_load_explicit(&wal->prepared, memory_order_acquire) ||
            end - at > wal->buffer_bytes)
            return 0;
        if (atomic_compare_exchange_weak_explicit(&wal->reserved, &start, end, memory_order_acq_rel,
                                                  memory_order_acquire)) {
            publish_filler(wal, start, end);
            return end;
        }
    }
    return 0;
}

cp_lsn cp_wal__choose_target(struct cp_wal *wal, cp_lsn want, bool fill)
{
    cp_lsn at = atomic_load_explicit(&wal->taken, memory_order_relaxed); /* the leader's own */
    cp_lsn filled = fill ? fill_up(wal, at) : 0;
    if (filled != 0)
        return walk(wal, at, filled, filled);
    /* acquire: pairs with the compare-and-swap in reserve; the ring is not walked round twice */
    return walk(wal, at, want, atomic_load_explicit(&wal->reserved, memory_order_acquire));
}

/* ---- groups into blocks -----------------------------------------------------------------------
 */

/* Copy out of the ring and leave zeros. */
static void take(struct cp_wal *wal, cp_lsn at, uint8_t *target, uint32_t size_bytes)
{
    uint64_t first = wal->buffer_bytes - (at & (wal->buffer_bytes - 1));
    if (__builtin_expect(size_bytes <= first, 1)) {
        memcpy(target, cp_wal__at(wal, at), size_bytes);
        memset(cp_wal__at(wal, at), 0, size_bytes);
    } else {
        memcpy(target, cp_wal__at(wal, at), first);
        memset(cp_wal__at(wal, at), 0, first);
        memcpy(target + first, wal->ring, size_bytes - first);
        memset(wal->ring, 0, size_bytes - first);
    }
}

/* Note which groups begin before end, from next_group on; block_start <= next_group. */
static void note_groups(struct cp_wal *wal, struct cp_wal__block *block, cp_lsn block_start,
                        cp_lsn end)
{
    uint64_t records = 0, groups = 0;
    while (wal->next_group < end) {
        struct cp_wal__group_header header;
        uint64_t words[2];
        if (block->first_group == CP_WAL__NO_GROUP)
            block->first_group = (uint16_t)(wal->next_group - block_start);
        words[0] = atomic_load_explicit(cp_wal__word(wal, wal->next_group), memory_order_relaxed);
        memcpy(&words[1], cp_wal__at(wal, wal->next_group + 8), 8);
        memcpy(&header, words, sizeof header);
        cp_assert(header.length >= sizeof header);
        wal->next_group += header.length;
        records += header.record_count;
        groups += header.record_count != 0; /* a filler is none */
    }
    /* relaxed: only the leader adds */
    atomic_store_explicit(&wal->groups,
                          atomic_load_explicit(&wal->groups, memory_order_relaxed) + groups,
                          memory_order_relaxed);
    atomic_store_explicit(&wal->records,
                          atomic_load_explicit(&wal->records, memory_order_relaxed) + records,
                          memory_order_relaxed);
}

/* Bring [at, end), which lies in one block, into the block's image. */
static void fill_block(struct cp_wal *wal, struct cp_wal__block *block, cp_lsn at, cp_lsn end,
                       cp_lsn durable)
{
    uint64_t number = cp_wal__block_of(at);
    cp_lsn start = cp_wal__block_start(number);

    if (at == start) {
        memset(block, 0, sizeof *block);
        block->first_group = CP_WAL__NO_GROUP;
    }
    note_groups(wal, block, start, end);
    take(wal, at, block->payload + (at - start), (uint32_t)(end - at));
    block->epoch = wal->epoch;
    block->number = number;
    block->durable_back =
        durable < start ? (uint32_t)((start - durable) / CP_WAL__DURABLE_UNIT) : 0;
    block->used = (uint16_t)(end - start);
    cp_wal__seal_block(block, wal->options.store_id);
}

/*
 * Fill the flight's stage from position at, up to end, the end of the segment, or the end of the
 * stage. The stage begins with the unit that holds at. Returns the position reached.
 */
static cp_lsn fill_stage(struct cp_wal *wal, struct cp_wal__flight *flight, cp_lsn at, cp_lsn end)
{
    uint32_t unit_blocks = wal->unit_bytes / CP_WAL_BLOCK_BYTES;
    uint64_t in_segment = cp_wal__block_of(at) % wal->segment_blocks;
    uint64_t first = cp_wal__block_of(at) - in_segment % unit_blocks;
    struct cp_wal__block *blocks = (struct cp_wal__block *)(void *)flight->stage;
    /* relaxed: an older value is as good a claim; what is durable was so before it was stored */
    cp_lsn durable = atomic_load_explicit(&wal->durable, memory_order_relaxed);

    memcpy(flight->stage, wal->unit, wal->unit_bytes);
    end = cp_min_u64(end, cp_wal__block_start(first + CP_WAL__STAGE_BYTES / CP_WAL_BLOCK_BYTES));
    end = cp_min_u64(end, cp_wal__segment_start(wal, cp_wal__segment_of(wal, at) + 1));
    while (at < end) {
        uint64_t number = cp_wal__block_of(at);
        cp_lsn stop = cp_min_u64(end, cp_wal__block_start(number + 1));
        fill_block(wal, &blocks[number - first], at, stop, durable);
        at = stop;
    }
    uint64_t bytes = (cp_wal__block_of(at - 1) + 1 - first) * CP_WAL_BLOCK_BYTES;
    flight->bytes = cp_align_up(bytes, wal->unit_bytes);
    memset(flight->stage + bytes, 0, flight->bytes - bytes);
    flight->offset = cp_wal__block_offset(first, wal->segment_blocks);

    /* What the next write begins with: the last unit, or nothing where it is full. */
    if (at == cp_wal__block_start(first + flight->bytes / CP_WAL_BLOCK_BYTES))
        memset(wal->unit, 0, wal->unit_bytes);
    else
        memcpy(wal->unit, flight->stage + flight->bytes - wal->unit_bytes, wal->unit_bytes);
    /* release: pairs with the acquire in reserve */
    atomic_store_explicit(&wal->taken, at, memory_order_release);
    return at;
}

/* ---- writing ----------------------------------------------------------------------------------
 */

/* Have wal->writing be the segment of a position. */
static int enter_segment(struct cp_wal *wal, cp_lsn at)
{
    uint64_t number = cp_wal__segment_of(wal, at);
    struct cp_wal__segment *left = wal->writing;
    if (left != NULL && left->number == number)
        return 0;
    int code = cp_wal__await_alone(wal);
    if (code != 0)
        return code;
    struct cp_wal__segment *segment = cp_wal__segment_find(wal, number);
    cp_assert(segment != NULL); /* reserved <= prepared */
    CP_PROBE2(wal_segment_switch, number, segment->header_number != CP_WAL__NO_NUMBER);
    wal->writing = segment;
    if (left == NULL)
        return 0;
    struct cp_io_file *file = left->file;
    left->file = NULL;
    return cp_io_file_close(file);
}

static int sync_file(const struct cp_wal *wal, struct cp_io_file *file)
{
    if (wal->dsync || CP_BREAK_COMMIT_SYNC)
        return 0;
    int code = cp_io_file_sync(file);
    if (CP_BREAK_RETRY_SYNC && code != 0)
        code = cp_io_file_sync(file);
    return code;
}

static int write_stage(const struct cp_wal *wal, struct cp_wal__flight *flight)
{
    int code = cp_io_write(flight->file, flight->stage, flight->bytes, flight->offset);
    if (CP_BREAK_RETRY_SYNC && code != 0 && wal->dsync)
        code = cp_io_write(flight->file, flight->stage, flight->bytes, flight->offset);
    flight->written += flight->bytes;
    return code;
}

int cp_wal__build(struct cp_wal *wal, struct cp_wal__flight *flight)
{
    cp_lsn at = atomic_load_explicit(&wal->taken, memory_order_relaxed); /* the leader's own */
    int code = 0;

    flight->written = 0;
    while (code == 0 && at < flight->target) {
        code = enter_segment(wal, at);
        if (code != 0)
            break;
        cp_lsn end =
            cp_min_u64(flight->target, cp_wal__segment_start(wal, wal->writing->number + 1));
        flight->file = wal->writing->file;
        code = cp_wal__write_header(wal, wal->writing, &flight->written);
        while (code == 0 && at < end) {
            at = fill_stage(wal, flight, at, end);
            if (at < flight->target)
                code = write_stage(wal, flight);
        }
        if (code == 0 && at < flight->target)
            code = sync_file(wal, flight->file);
    }
    return code;
}

int cp_wal__fly(const struct cp_wal *wal, struct cp_wal__flight *flight)
{
    int code = write_stage(wal, flight);
    return code == 0 ? sync_file(wal, flight->file) : code;
}

int cp_wal__begin_session(struct cp_wal *wal)
{
    struct cp_wal__group_header header = {.length = sizeof header, .epoch = wal->epoch};
    struct cp_wal__flight *flight = &wal->flights[0];
    uint64_t words[2], written = 0;
    cp_lsn start = wal->session_start;

    header.checksum = cp_wal__group_checksum(wal->options.store_id, start, header.length,
                                             header.epoch, 0, wal->options.store_id);
    memcpy(words, &header, sizeof words);
    memcpy(cp_wal__at(wal, start), words, sizeof words);
    int code = enter_segment(wal, start);
    if (code != 0)
        return code;
    /*
     * In a new segment the block comes before the header: with the header, what an earlier session
     * left in this file could turn up as the log's continuation.
     */
    struct cp_wal__segment *segment = wal->writing;
    const bool fresh = segment->header_number != segment->number;
    segment->header_written |= fresh; /* not yet, but build is to leave it out */
    flight->target = start + sizeof header;
    code = cp_wal__build(wal, flight);
    if (code == 0)
        code = cp_wal__fly(wal, flight);
    if (fresh)
        segment->header_written = false;
    if (code == 0 && fresh) {
        code = cp_wal__write_header(wal, segment, &written);
        if (code == 0)
            code = sync_file(wal, segment->file);
    }
    return code;
}
