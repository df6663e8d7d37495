/* SPDX-License-Identifier: MIT */
/*
 * The bytes of the log: segment header, block, group, record. No I/O, no state.
 *
 * Stream positions are bytes of payload. The stream is cut into blocks; everything in it is a
 * multiple of 8 bytes long, and so is a block's payload: no 8-byte word crosses two blocks.
 * docs/file-format.md has the tables.
 */
#ifndef CLOCKPOOL_WAL_FORMAT_H
#define CLOCKPOOL_WAL_FORMAT_H

#include <clockpool/wal.h>

#include <assert.h>
#include <stddef.h>

#define CP_WAL__MAGIC   UINT64_C(0x31474f4c4b434c43) /* "CLCKLOG1" in the file */
#define CP_WAL__VERSION 1u
#define CP_WAL__HEADER_BYTES                                                                       \
    4096u                         /* the segment's header takes a whole page: blocks stay aligned */
#define CP_WAL__PAYLOAD      488u /* of a block */
#define CP_WAL__NO_GROUP     0xffffu
#define CP_WAL__FIRST_BLOCK  1u /* block 0 is never used, so that no position is 0 */
#define CP_WAL__DURABLE_UNIT 8u /* durable_back counts these */
#define CP_WAL__RECORD_MAX   65536u
#define CP_WAL__POSITION_MAX (UINT64_C(1) << 62)
#define CP_WAL__GROUP_MAX    (UINT32_C(1) << 29) /* a quarter of the largest buffer */

struct cp_wal__segment_header {
    uint64_t magic;
    uint32_t version;
    uint32_t segment_bytes;
    uint64_t store_id;
    uint64_t number;
    uint64_t checksum; /* XXH3 of the bytes before it, seed CP_WAL__MAGIC */
};
static_assert(sizeof(struct cp_wal__segment_header) == 40, "on disk");
static_assert(offsetof(struct cp_wal__segment_header, checksum) == 32, "on disk");

struct cp_wal__block {
    uint32_t checksum; /* low half of XXH3 of bytes 4..511, seed store_id */
    uint32_t epoch;
    uint64_t number;
    uint32_t durable_back; /* how far before this block's payload the durable end was when it was
                              written, in units of 8 bytes; 0 when it was inside */
    uint16_t used;         /* payload bytes that hold something */
    uint16_t first_group;  /* where in the payload the first group begins; CP_WAL__NO_GROUP */
    uint8_t payload[CP_WAL__PAYLOAD];
};
static_assert(sizeof(struct cp_wal__block) == CP_WAL_BLOCK_BYTES, "on disk");
static_assert(offsetof(struct cp_wal__block, payload) == 24, "on disk");
static_assert(CP_WAL__PAYLOAD % 8 == 0, "words do not cross blocks");

struct cp_wal__group_header {
    uint32_t length; /* with this header; a multiple of 8 */
    uint32_t checksum;
    uint32_t epoch;
    uint32_t record_count; /* 0: a session began here, or a filler */
};
static_assert(sizeof(struct cp_wal__group_header) == 16, "on disk");

struct cp_wal__record_header {
    uint8_t type;
    uint8_t reserved;
    uint16_t offset;
    uint32_t size_bytes;
    uint64_t page;
};
static_assert(sizeof(struct cp_wal__record_header) == 16, "on disk");

static inline uint64_t cp_wal__block_of(cp_lsn position)
{
    return position / CP_WAL__PAYLOAD;
}

static inline cp_lsn cp_wal__block_start(uint64_t block)
{
    return block * CP_WAL__PAYLOAD;
}

/* The first block boundary at or behind position. */
static inline cp_lsn cp_wal__round_up(cp_lsn position)
{
    return (position + CP_WAL__PAYLOAD - 1) / CP_WAL__PAYLOAD * CP_WAL__PAYLOAD;
}

/* Blocks of a segment. */
static inline uint32_t cp_wal__segment_blocks(uint32_t segment_bytes)
{
    return (segment_bytes - CP_WAL__HEADER_BYTES) / CP_WAL_BLOCK_BYTES;
}

/* Where a block lies in its segment's file. */
static inline uint64_t cp_wal__block_offset(uint64_t block, uint32_t blocks_per_segment)
{
    return CP_WAL__HEADER_BYTES + block % blocks_per_segment * CP_WAL_BLOCK_BYTES;
}

/* What the log said, when this block was written, was durable. */
static inline cp_lsn cp_wal__block_claim(const struct cp_wal__block *block)
{
    uint64_t back = (uint64_t)block->durable_back * CP_WAL__DURABLE_UNIT;
    cp_lsn start = cp_wal__block_start(block->number);
    return back < start ? start - back : 0;
}

bool cp_wal__segment_bytes_valid(uint64_t segment_bytes);

void cp_wal__encode_segment(struct cp_wal__segment_header *header, uint64_t store_id,
                            uint32_t segment_bytes, uint64_t number);
/*
 * 0; CP_EFORMAT when this is no segment header or a damaged one; CP_EVERSION; CP_EFOREIGN. Records
 * no error.
 */
int cp_wal__check_segment(const struct cp_wal__segment_header *header, uint64_t store_id);

/* Fill in checksum; all other fields are set. */
void cp_wal__seal_block(struct cp_wal__block *block, uint64_t store_id);

enum cp_wal__block_kind {
    CP_WAL__BLOCK_ZERO,
    CP_WAL__BLOCK_VALID,
    CP_WAL__BLOCK_DAMAGED,
};
enum cp_wal__block_kind cp_wal__check_block(const struct cp_wal__block *block, uint64_t store_id);

/* Length of a record, and of a group's records, in the stream. */
static inline uint64_t cp_wal__record_bytes(uint32_t size_bytes)
{
    return sizeof(struct cp_wal__record_header) + (((uint64_t)size_bytes + 7) & ~UINT64_C(7));
}

/* The header that stands before a record's data. */
struct cp_wal__record_header cp_wal__encode_record(const struct cp_wal_record *record);

/*
 * A group's checksum: a chain over its records, each link seeded by the one before, so that it can
 * be taken of records where they lie; then header and position. The chain starts at the store id.
 */
uint64_t cp_wal__chain_record(uint64_t chain, const struct cp_wal__record_header *header,
                              const void *data);
uint32_t cp_wal__group_checksum(uint64_t chain, cp_lsn start, uint32_t length, uint32_t epoch,
                                uint32_t record_count, uint64_t store_id);

#endif
