/* SPDX-License-Identifier: MIT */
/*
 * Appending: reserve a piece of the stream, copy, publish.
 *
 * A group's place is taken by one compare-and-swap, after its checksum's greater part has been
 * computed. It is copied into the ring, and published by storing its first word (length and
 * checksum) last: the leader of a flush finds the next group where the one before ends, and a word
 * that is still zero means that its copy is under way. So appenders wait for nobody but for room.
 */
#include "internal.h"

#include <clockpool/base/assert.h>
#include <clockpool/base/bits.h>

#include <errno.h>
#include <string.h>

uint64_t cp_wal_group_bytes(const struct cp_wal_record *records, uint32_t count)
{
    uint64_t bytes = sizeof(struct cp_wal__group_header);
    for (uint32_t i = 0; i < count; i++)
        bytes += cp_wal__record_bytes(records[i].size_bytes);
    return bytes;
}

uint64_t cp_wal_group_max(const struct cp_wal *wal)
{
    return wal->buffer_bytes / 4;
}

/* What the caller gives must be representable; what is not is a mistake of the program. */
static int check_records(const struct cp_wal *wal, const struct cp_wal_record *records,
                         uint32_t count, uint64_t bytes)
{
    if (count > CP_WAL_GROUP_RECORDS_MAX || bytes > cp_wal_group_max(wal))
        return cp_error_set(CP_ETOOLARGE, wal->directory, CP_NO_PAGE, CP_NO_LSN,
                            "use a larger log buffer, or smaller mini-transactions",
                            "appending %llu bytes in %u records to the log",
                            (unsigned long long)bytes, (unsigned)count);
    bool valid = count != 0;
    for (uint32_t i = 0; i < count; i++)
        valid &= records[i].type != 0 &&
                 records[i].offset + (uint64_t)records[i].size_bytes <= CP_WAL__RECORD_MAX;
    if (!valid)
        return cp_error_set(-EINVAL, wal->directory, CP_NO_PAGE, CP_NO_LSN, NULL,
                            "appending to the log: no records, or one that cannot be");
    return 0;
}

/* Wait for room in the ring, or for segments. */
static int make_room(struct cp_wal *wal, cp_lsn end)
{
    /* acquire: as in reserve */
    if (atomic_load_explicit(&wal->prepared, memory_order_acquire) < end)
        return cp_wal__extend(wal, end);
    atomic_fetch_add_explicit(&wal->buffer_waits, 1, memory_order_relaxed); /* statistics */
    /* Everything, not only what is needed: the next ones will need room as well. */
    return cp_wal_flush(wal, end - wal->buffer_bytes);
}

static int reserve(struct cp_wal *wal, uint64_t bytes, cp_lsn *out_start)
{
    cp_lsn start = atomic_load_explicit(&wal->reserved, memory_order_relaxed);
    for (;;) { /* ends: each round another has appended, or room has been made, or it failed */
        cp_lsn end = start + bytes;
        /* acquire: pairs with the release in the leader's take, so its zeros are in place; and with
         * the release in extend */
        if (end <= atomic_load_explicit(&wal->prepared, memory_order_acquire) &&
            end - atomic_load_explicit(&wal->taken, memory_order_acquire) <= wal->buffer_bytes) {
            /* acq_rel: who sees the new end may look at what stands before it */
            if (atomic_compare_exchange_weak_explicit(&wal->reserved, &start, end,
                                                      memory_order_acq_rel, memory_order_relaxed)) {
                *out_start = start;
                return 0;
            }
            continue;
        }
        int code = make_room(wal, end);
        if (code != 0)
            return code;
        start = atomic_load_explicit(&wal->reserved, memory_order_relaxed);
    }
}

/* Copy into the ring, around its end where need be. Returns the position behind. */
static cp_lsn put(struct cp_wal *wal, cp_lsn at, const void *bytes, uint64_t size_bytes)
{
    uint64_t first = wal->buffer_bytes - (at & (wal->buffer_bytes - 1));
    if (__builtin_expect(size_bytes <= first, 1)) {
        memcpy(cp_wal__at(wal, at), bytes, size_bytes);
    } else {
        memcpy(cp_wal__at(wal, at), bytes, first);
        memcpy(wal->ring, (const char *)bytes + first, size_bytes - first);
    }
    return at + size_bytes;
}

int cp_wal_append(struct cp_wal *wal, const struct cp_wal_record *records, uint32_t count,
                  cp_lsn *out_end)
{
    cp_lsn start;
    uint64_t chain = wal->options.store_id;
    uint64_t bytes = cp_wal_group_bytes(records, count);
    int code = cp_wal__usable(wal);
    if (code == 0)
        code = check_records(wal, records, count, bytes);
    if (code != 0)
        return code;
    for (uint32_t i = 0; i < count; i++) {
        struct cp_wal__record_header header = cp_wal__encode_record(&records[i]);
        chain = cp_wal__chain_record(chain, &header, records[i].data);
    }
    code = reserve(wal, bytes, &start);
    if (code != 0)
        return code;

    struct cp_wal__group_header header = {
        .length = (uint32_t)bytes,
        .checksum = cp_wal__group_checksum(chain, start, (uint32_t)bytes, wal->epoch, count,
                                           wal->options.store_id),
        .epoch = wal->epoch,
        .record_count = count,
    };
    uint64_t words[2];
    memcpy(words, &header, sizeof words);
    cp_lsn at = put(wal, start + 8, &words[1], 8);
    for (uint32_t i = 0; i < count; i++) {
        struct cp_wal__record_header record = cp_wal__encode_record(&records[i]);
        at = put(wal, at, &record, sizeof record);
        if (records[i].size_bytes != 0)
            put(wal, at, records[i].data, records[i].size_bytes);
        at += cp_align_up(records[i].size_bytes, 8); /* the ring is zero where nothing was put */
    }
    cp_debug_assert(at == start + bytes);
    /* release: pairs with the acquire in the leader's walk */
    atomic_store_explicit(cp_wal__word(wal, start), words[0], memory_order_release);
    *out_end = start + bytes;
    return 0;
}
