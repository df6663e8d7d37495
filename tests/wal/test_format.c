/* SPDX-License-Identifier: MIT */
/* The log's bytes: what is encoded is accepted, and what differs by a bit is not. */
#include "helpers.h"

static void format_segment_header_round_trip(void **state)
{
    struct cp_wal__segment_header header, changed;
    (void)state;
    cp_wal__encode_segment(&header, STORE_ID, SEGMENT, 12345);
    assert_int_equal(cp_wal__check_segment(&header, STORE_ID), 0);
    assert_int_equal(header.number, 12345);
    assert_memory_equal(&header, "CLCKLOG1", 8);
    assert_int_equal(cp_wal__check_segment(&header, STORE_ID + 1), CP_EFOREIGN);
    for (unsigned bit = 0; bit < sizeof header * 8; bit++) {
        changed = header;
        ((uint8_t *)&changed)[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(cp_wal__check_segment(&changed, STORE_ID), CP_EFORMAT);
    }
    /* Impossible fields under a right checksum. */
    cp_wal__encode_segment(&header, STORE_ID, SEGMENT + 512, 1);
    assert_int_equal(cp_wal__check_segment(&header, STORE_ID), CP_EFORMAT);
    cp_wal__encode_segment(&header, STORE_ID, SEGMENT, UINT64_MAX);
    assert_int_equal(cp_wal__check_segment(&header, STORE_ID), CP_EFORMAT);
    memset(&header, 0, sizeof header);
    assert_int_equal(cp_wal__check_segment(&header, STORE_ID), CP_EFORMAT);
}

static void format_segment_sizes_are_powers_between_bounds(void **state)
{
    (void)state;
    assert_true(cp_wal__segment_bytes_valid(CP_WAL_SEGMENT_BYTES_MIN));
    assert_true(cp_wal__segment_bytes_valid(CP_WAL_SEGMENT_BYTES_MAX));
    assert_false(cp_wal__segment_bytes_valid(CP_WAL_SEGMENT_BYTES_MIN / 2));
    assert_false(cp_wal__segment_bytes_valid((uint64_t)CP_WAL_SEGMENT_BYTES_MAX * 2));
    assert_false(cp_wal__segment_bytes_valid(CP_WAL_SEGMENT_BYTES_MIN + 4096));
    assert_int_equal(cp_wal__segment_blocks(SEGMENT), 24);
}

static void format_block_round_trip(void **state)
{
    struct cp_wal__block block, changed;
    (void)state;
    memset(&block, 0, sizeof block);
    assert_int_equal(cp_wal__check_block(&block, STORE_ID), CP_WAL__BLOCK_ZERO);
    block.epoch = 3;
    block.number = 77;
    block.used = 48;
    block.first_group = 8;
    block.durable_back = 5;
    memset(block.payload, 0xa5, 48);
    cp_wal__seal_block(&block, STORE_ID);
    assert_int_equal(cp_wal__check_block(&block, STORE_ID), CP_WAL__BLOCK_VALID);
    assert_int_equal(cp_wal__check_block(&block, STORE_ID + 1), CP_WAL__BLOCK_DAMAGED);
    assert_int_equal(cp_wal__block_claim(&block), 77 * 488 - 40);
    for (unsigned bit = 0; bit < sizeof block * 8; bit++) {
        changed = block;
        ((uint8_t *)&changed)[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(cp_wal__check_block(&changed, STORE_ID), CP_WAL__BLOCK_DAMAGED);
    }
}

static void format_block_impossible_fields_are_damage(void **state)
{
    static const struct cp_wal__block impossible[] = {
        {.epoch = 0, .number = 1, .used = 16},
        {.epoch = 1, .number = UINT64_MAX, .used = 16},
        {.epoch = 1, .number = 1, .used = 496},
        {.epoch = 1, .number = 1, .used = 12},
        {.epoch = 1, .number = 1, .used = 16, .first_group = 16},
        {.epoch = 1, .number = 1, .used = 16, .first_group = 4},
    };
    (void)state;
    for (unsigned i = 0; i < sizeof impossible / sizeof impossible[0]; i++) {
        struct cp_wal__block block = impossible[i];
        cp_wal__seal_block(&block, STORE_ID);
        assert_int_equal(cp_wal__check_block(&block, STORE_ID), CP_WAL__BLOCK_DAMAGED);
    }
    /* A claim that reaches before the stream's beginning does not wrap. */
    struct cp_wal__block block = {.number = 2, .durable_back = UINT32_MAX};
    assert_int_equal(cp_wal__block_claim(&block), 0);
}

static void format_positions_and_blocks_agree(void **state)
{
    (void)state;
    assert_int_equal(cp_wal__block_of(487), 0);
    assert_int_equal(cp_wal__block_of(488), 1);
    assert_int_equal(cp_wal__block_start(3), 1464);
    assert_int_equal(cp_wal__round_up(488), 488);
    assert_int_equal(cp_wal__round_up(496), 976);
    assert_int_equal(cp_wal__block_offset(24, 24), 4096);
    assert_int_equal(cp_wal__block_offset(47, 24), 4096 + 23 * 512);
}

static void format_group_checksum_depends_on_all(void **state)
{
    uint8_t data[100] = {1};
    struct cp_wal_record record = {
        .data = data, .page = 7, .offset = 9, .size_bytes = 100, .type = 2};
    struct cp_wal__record_header header = cp_wal__encode_record(&record);
    (void)state;
    assert_int_equal(cp_wal__record_bytes(100), 120);
    uint64_t chain = cp_wal__chain_record(STORE_ID, &header, data);
    uint32_t sum = cp_wal__group_checksum(chain, 488, 136, 1, 1, STORE_ID);
    assert_int_not_equal(sum, cp_wal__group_checksum(chain, 496, 136, 1, 1, STORE_ID));
    assert_int_not_equal(sum, cp_wal__group_checksum(chain, 488, 144, 1, 1, STORE_ID));
    assert_int_not_equal(sum, cp_wal__group_checksum(chain, 488, 136, 2, 1, STORE_ID));
    assert_int_not_equal(sum, cp_wal__group_checksum(chain, 488, 136, 1, 2, STORE_ID));
    assert_int_not_equal(sum, cp_wal__group_checksum(chain, 488, 136, 1, 1, STORE_ID + 1));
    header.offset++;
    assert_int_not_equal(chain, cp_wal__chain_record(STORE_ID, &header, data));
    header.offset--;
    data[99]++;
    assert_int_not_equal(chain, cp_wal__chain_record(STORE_ID, &header, data));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(format_segment_header_round_trip),
        cmocka_unit_test(format_segment_sizes_are_powers_between_bounds),
        cmocka_unit_test(format_block_round_trip),
        cmocka_unit_test(format_block_impossible_fields_are_damage),
        cmocka_unit_test(format_positions_and_blocks_agree),
        cmocka_unit_test(format_group_checksum_depends_on_all),
    };
    return cmocka_run_group_tests_name("wal format", tests, NULL, NULL);
}
