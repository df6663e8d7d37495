/* SPDX-License-Identifier: MIT */
/* The bytes of the log, encoded and checked. */
#include "format.h"
#include "rules.h"

#include <string.h>
#include <clockpool/base/bits.h>
#include <clockpool/base/checksum.h>

bool cp_wal__segment_bytes_valid(uint64_t segment_bytes)
{
    return cp_is_power_of_two(segment_bytes) && segment_bytes >= CP_WAL_SEGMENT_BYTES_MIN &&
           segment_bytes <= CP_WAL_SEGMENT_BYTES_MAX;
}

static uint64_t segment_checksum(const struct cp_wal__segment_header *header)
{
    return cp_checksum(header, offsetof(struct cp_wal__segment_header, checksum), CP_WAL__MAGIC);
}

void cp_wal__encode_segment(struct cp_wal__segment_header *header, uint64_t store_id,
                            uint32_t segment_bytes, uint64_t number)
{
    *header = (struct cp_wal__segment_header){
        .magic = CP_WAL__MAGIC,
        .version = CP_WAL__VERSION,
        .segment_bytes = segment_bytes,
        .store_id = store_id,
        .number = number,
    };
    header->checksum = segment_checksum(header);
}

int cp_wal__check_segment(const struct cp_wal__segment_header *header, uint64_t store_id)
{
    if (header->magic != CP_WAL__MAGIC || header->checksum != segment_checksum(header))
        return CP_EFORMAT;
    if (header->version != CP_WAL__VERSION)
        return CP_EVERSION;
    if (header->store_id != store_id)
        return CP_EFOREIGN;
    if (!cp_wal__segment_bytes_valid(header->segment_bytes) ||
        header->number >= CP_WAL__POSITION_MAX / header->segment_bytes)
        return CP_EFORMAT;
    return 0;
}

static uint32_t block_checksum(const struct cp_wal__block *block, uint64_t store_id)
{
    return (uint32_t)cp_checksum(&block->epoch, sizeof *block - sizeof block->checksum, store_id);
}

void cp_wal__seal_block(struct cp_wal__block *block, uint64_t store_id)
{
    block->checksum = block_checksum(block, store_id);
}

static bool fields_valid(const struct cp_wal__block *block)
{
    return block->epoch != 0 && block->number < CP_WAL__POSITION_MAX / CP_WAL__PAYLOAD &&
           block->used <= CP_WAL__PAYLOAD && block->used % 8 == 0 &&
           (block->first_group == CP_WAL__NO_GROUP ||
            (block->first_group < block->used && block->first_group % 8 == 0));
}

enum cp_wal__block_kind cp_wal__check_block(const struct cp_wal__block *block, uint64_t store_id)
{
    if (cp_is_zero(block, sizeof *block))
        return CP_WAL__BLOCK_ZERO;
    if (!CP_BREAK_RECORD_CHECKSUM && block->checksum != block_checksum(block, store_id))
        return CP_WAL__BLOCK_DAMAGED;
    return fields_valid(block) ? CP_WAL__BLOCK_VALID : CP_WAL__BLOCK_DAMAGED;
}

struct cp_wal__record_header cp_wal__encode_record(const struct cp_wal_record *record)
{
    return (struct cp_wal__record_header){
        .type = record->type,
        .offset = record->offset,
        .size_bytes = record->size_bytes,
        .page = record->page,
    };
}

uint64_t cp_wal__chain_record(uint64_t chain, const struct cp_wal__record_header *header,
                              const void *data)
{
    chain = cp_checksum(header, sizeof *header, chain);
    return header->size_bytes != 0 ? cp_checksum(data, header->size_bytes, chain) : chain;
}

uint32_t cp_wal__group_checksum(uint64_t chain, cp_lsn start, uint32_t length, uint32_t epoch,
                                uint32_t record_count, uint64_t store_id)
{
    const struct {
        uint64_t chain, start;
        uint32_t length, epoch, record_count, zero;
    } all = {chain, start, length, epoch, record_count, 0};
    return (uint32_t)cp_checksum(&all, sizeof all, store_id);
}
