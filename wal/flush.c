/* SPDX-License-Identifier: MIT */
/*
 * Flushing: one leader writes and syncs for all who wait.
 *
 * The leader walks over what has been published, moves it into blocks in its stage, writes, syncs,
 * and moves `durable`. Others wait in one of two queues: those whom the flush under way will have
 * covered, and those who need the next one. At its end the leader wakes all of the first and one of
 * the second, who becomes the next leader, for the whole of its queue. Whoever leaves the second
 * queue without becoming leader hands the wake-up on.
 *
 * The leader's role is `leading`, taken under flush_lock; what belongs to it is touched by nobody
 * else. flush_lock is not held over I/O.
 *
 * The first failed write or sync is final: the kernel may have dropped what was written, so another
 * sync would prove nothing.
 */
#include "internal.h"
#include "rules.h"

#include <clockpool/base/assert.h>
#include <clockpool/base/bits.h>
#include <clockpool/base/probe.h>

#include <errno.h>
#include <string.h>
#include <sched.h>

#define WALK_SPIN_LIMIT 128u /* looks at a word before giving the processor away; about 1 us */

/* ---- the leader's work ------------------------------------------------------------------------
 */

/*
 * The end of what has been published, at least want. Waits for copies under way before want: their
 * appenders wait for nobody, so this ends.
 */
static cp_lsn walk(struct cp_wal *wal, cp_lsn want)
{
    /* acquire: pairs with the compare-and-swap in reserve; the ring is not walked round twice */
    cp_lsn reserved = atomic_load_explicit(&wal->reserved, memory_order_acquire);
    cp_lsn at = atomic_load_explicit(&wal->taken, memory_order_relaxed); /* the leader's own */
    unsigned spins = 0;
    uint64_t groups = 0;

    while (at < reserved) {
        /* acquire: pairs with the release at the end of append */
        uint64_t word = atomic_load_explicit(cp_wal__word(wal, at), memory_order_acquire);
        if (word == 0) {
            if (at >= want)
                break;
            if (++spins % WALK_SPIN_LIMIT != 0)
                cp_cpu_relax();
            else
                sched_yield();
            continue;
        }
        at += (uint32_t)word;
        groups++;
    }
    /* relaxed: only the leader adds */
    atomic_store_explicit(&wal->groups,
                          atomic_load_explicit(&wal->groups, memory_order_relaxed) + groups,
                          memory_order_relaxed);
    return at;
}

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
    uint64_t records = 0;
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
    }
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
 * Fill the stage from position at, up to end, the end of the segment, or the end of the stage. The
 * stage begins with the unit that holds at. Returns the position reached.
 */
static cp_lsn fill_stage(struct cp_wal *wal, cp_lsn at, cp_lsn end, uint64_t *out_offset,
                         uint64_t *out_bytes)
{
    uint32_t unit_blocks = wal->unit_bytes / CP_WAL_BLOCK_BYTES;
    uint64_t in_segment = cp_wal__block_of(at) % wal->segment_blocks;
    uint64_t first = cp_wal__block_of(at) - in_segment % unit_blocks;
    struct cp_wal__block *blocks = (struct cp_wal__block *)(void *)wal->stage;
    cp_lsn durable = atomic_load_explicit(&wal->durable, memory_order_relaxed); /* leader's own */

    memcpy(wal->stage, wal->unit, wal->unit_bytes);
    end = cp_min_u64(end, cp_wal__block_start(first + CP_WAL__STAGE_BYTES / CP_WAL_BLOCK_BYTES));
    end = cp_min_u64(end, cp_wal__segment_start(wal, cp_wal__segment_of(wal, at) + 1));
    while (at < end) {
        uint64_t number = cp_wal__block_of(at);
        cp_lsn stop = cp_min_u64(end, cp_wal__block_start(number + 1));
        fill_block(wal, &blocks[number - first], at, stop, durable);
        at = stop;
    }
    uint64_t bytes = (cp_wal__block_of(at - 1) + 1 - first) * CP_WAL_BLOCK_BYTES;
    *out_bytes = cp_align_up(bytes, wal->unit_bytes);
    memset(wal->stage + bytes, 0, *out_bytes - bytes);
    *out_offset = cp_wal__block_offset(first, wal->segment_blocks);

    /* What the next write begins with: the last unit, or nothing where it is full. */
    if (at == cp_wal__block_start(first + *out_bytes / CP_WAL_BLOCK_BYTES))
        memset(wal->unit, 0, wal->unit_bytes);
    else
        memcpy(wal->unit, wal->stage + *out_bytes - wal->unit_bytes, wal->unit_bytes);
    /* release: pairs with the acquire in reserve */
    atomic_store_explicit(&wal->taken, at, memory_order_release);
    return at;
}

/* Have wal->writing be the segment of a position. */
static int enter_segment(struct cp_wal *wal, cp_lsn at)
{
    uint64_t number = cp_wal__segment_of(wal, at);
    struct cp_wal__segment *left = wal->writing;
    if (left != NULL && left->number == number)
        return 0;
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

static int sync_segment(struct cp_wal *wal)
{
    if (wal->dsync || CP_BREAK_COMMIT_SYNC)
        return 0;
    int code = cp_io_file_sync(wal->writing->file);
    if (CP_BREAK_RETRY_SYNC && code != 0)
        code = cp_io_file_sync(wal->writing->file);
    return code;
}

/* Write and sync [durable, target). */
static int write_out(struct cp_wal *wal, cp_lsn at, cp_lsn target)
{
    uint64_t offset, bytes, written = 0;
    int code = 0;

    while (code == 0 && at < target) {
        code = enter_segment(wal, at);
        cp_lsn end = cp_min_u64(target, cp_wal__segment_start(wal, wal->writing->number + 1));
        if (code == 0)
            code = cp_wal__write_header(wal, wal->writing, &written);
        while (code == 0 && at < end) {
            at = fill_stage(wal, at, end, &offset, &bytes);
            code = cp_io_write(wal->writing->file, wal->stage, bytes, offset);
            if (CP_BREAK_RETRY_SYNC && code != 0 && wal->dsync)
                code = cp_io_write(wal->writing->file, wal->stage, bytes, offset);
            written += bytes;
        }
        if (code == 0)
            code = sync_segment(wal);
    }
    /* relaxed: only the leader adds */
    atomic_store_explicit(&wal->flushed_bytes,
                          atomic_load_explicit(&wal->flushed_bytes, memory_order_relaxed) + written,
                          memory_order_relaxed);
    atomic_store_explicit(&wal->flushes,
                          atomic_load_explicit(&wal->flushes, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    return code;
}

/* ---- leader and followers ---------------------------------------------------------------------
 */

static void wake(struct cp_wal__queue *queue, unsigned count)
{
    __atomic_store_n(&queue->word, queue->word + 1, __ATOMIC_RELAXED); /* flush_lock orders it */
    if (queue->waiter_count != 0)
        cp_futex_wake(&queue->word, count);
}

/* Wake one of those who need another flush, to lead it. Under flush_lock, while nobody leads. */
static void wake_heir(struct cp_wal *wal)
{
    struct cp_wal__queue *next = &wal->queues[wal->current ^ 1];
    wal->heir_woken = next->waiter_count != 0;
    wake(next, 1);
}

/* Wait for a flush. Under flush_lock, which is let go meanwhile. */
static void wait_in(struct cp_wal *wal, unsigned index, cp_lsn upto)
{
    struct cp_wal__queue *queue = &wal->queues[index];
    uint32_t seen = queue->word;
    queue->want = cp_max_u64(queue->want, upto);
    queue->waiter_count++;
    pthread_mutex_unlock(&wal->flush_lock);
    cp_futex_wait(&queue->word, seen, 0);
    pthread_mutex_lock(&wal->flush_lock);
    queue->waiter_count--;
    if (index != wal->current) /* we may be the one; then we lead, or hand it on when we leave */
        wal->heir_woken = false;
}

/* Lead one flush. Under flush_lock, which is let go meanwhile. */
static void lead(struct cp_wal *wal, cp_lsn upto)
{
    wal->leading = true;
    wal->current ^= 1;       /* who waited for the next flush waits for this one */
    wal->heir_woken = false; /* whoever was on the way is covered by us; the next queue is new */
    struct cp_wal__queue *covered = &wal->queues[wal->current];
    cp_lsn want = cp_max_u64(upto, covered->want);
    covered->want = 0;
    wal->flush_target = 0;
    pthread_mutex_unlock(&wal->flush_lock);

    cp_lsn durable = atomic_load_explicit(&wal->durable, memory_order_relaxed); /* leader's own */
    cp_lsn target = walk(wal, want);
    pthread_mutex_lock(&wal->flush_lock);
    wal->flush_target = target;
    pthread_mutex_unlock(&wal->flush_lock);
    CP_PROBE2(wal_flush_start, durable, target);
    int code = write_out(wal, durable, target);
    CP_PROBE3(wal_flush_done, durable, target, code);

    pthread_mutex_lock(&wal->flush_lock);
    wal->leading = false;
    if (code == 0) {
        /* release: pairs with the acquire in cp_wal_durable */
        atomic_store_explicit(&wal->durable, target, memory_order_release);
    } else {
        wal->failure = *cp_error_info();
        /* release: pairs with the acquire in cp_wal__usable */
        atomic_store_explicit(&wal->failed, code, memory_order_release);
        wake(&wal->queues[wal->current ^ 1], UINT32_MAX >> 1);
    }
    wake(covered, UINT32_MAX >> 1); /* the heir is woken when the leader leaves */
}

int cp_wal_flush(struct cp_wal *wal, cp_lsn upto)
{
    int code = cp_wal__usable(wal);
    if (upto <= cp_wal_durable(wal) && code != CP_EFORKED)
        return 0;
    if (code != 0)
        return code;
    upto = cp_min_u64(upto, cp_wal_end(wal));

    bool waited = false;
    pthread_mutex_lock(&wal->flush_lock);
    /* Ends: each flush moves durable, and one that begins after our append covers us. */
    while (code == 0 && cp_wal_durable(wal) < upto) {
        code = atomic_load_explicit(&wal->failed, memory_order_relaxed); /* set under flush_lock */
        if (code != 0) {
            cp_error_restore(&wal->failure);
        } else if (!wal->leading) {
            lead(wal, upto);
        } else {
            wal->flush_waits += !waited;
            waited = true;
            wait_in(wal, upto <= wal->flush_target ? wal->current : wal->current ^ 1, upto);
        }
    }
    if (!wal->leading && !wal->heir_woken && wal->queues[wal->current ^ 1].waiter_count != 0)
        wake_heir(wal);
    pthread_mutex_unlock(&wal->flush_lock);
    return code;
}

int cp_wal__begin_session(struct cp_wal *wal)
{
    struct cp_wal__group_header header = {.length = sizeof header, .epoch = wal->epoch};
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
    uint64_t before = segment->header_number;
    segment->header_number = segment->number;
    code = write_out(wal, start, start + sizeof header);
    segment->header_number = before;
    if (code == 0 && before != segment->number) {
        code = cp_wal__write_header(wal, segment, &written);
        if (code == 0)
            code = sync_segment(wal);
    }
    return code;
}
