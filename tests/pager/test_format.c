/* SPDX-License-Identifier: MIT */
/* Superblock choice, page trailer, and the arithmetic of map pages, without any file. */
#include "helpers.h"

#include "internal.h"

#include <clockpool/base/checksum.h>

static struct cp_superblock valid_block(uint64_t generation)
{
    struct cp_superblock block = {
        .magic = CP_FORMAT_MAGIC,
        .version = CP_FORMAT_VERSION,
        .checkpoint_lsn = 488,
        .page_size = 4096,
        .header_bytes = CP_FORMAT_HEADER_BYTES,
        .store_id = 42,
        .generation = generation,
        .page_count = 40,
    };
    cp_pager__superblock_seal(&block);
    return block;
}

static int choose(const struct cp_superblock *a, const struct cp_superblock *b, unsigned *out_slot)
{
    struct cp_superblock chosen;
    return cp_pager__superblock_choose(a, b, "file", &chosen, out_slot);
}

static void superblock_newest_valid_slot_wins(void **state)
{
    (void)state;
    struct cp_superblock a = valid_block(7), b = valid_block(8), none;
    unsigned slot = 9;
    memset(&none, 0, sizeof none);
    assert_memory_equal(&a, "CLOCKPL1", 8);
    assert_ok(choose(&a, &b, &slot));
    assert_int_equal(slot, 1);
    assert_ok(choose(&b, &a, &slot));
    assert_int_equal(slot, 0);
    assert_ok(choose(&none, &a, &slot));
    assert_int_equal(slot, 1);
    b.page_count++; /* the checksum does not hold any more */
    assert_ok(choose(&a, &b, &slot));
    assert_int_equal(slot, 0);
    a.page_count++;
    slot = 9;
    assert_code(choose(&a, &b, &slot), CP_ECHECKSUM);
    assert_code(choose(&none, &none, &slot), CP_EFORMAT);
    assert_int_equal(slot, 9); /* untouched on failure */
}

static void superblock_fields_out_of_range_are_refused(void **state)
{
    (void)state;
    for (unsigned field = 0; field < 11; field++) {
        struct cp_superblock a = valid_block(7), none;
        unsigned slot;
        memset(&none, 0, sizeof none);
        int expected = CP_EFORMAT;
        switch (field) {
        case 0:
            a.page_size = 3000;
            break;
        case 1:
            a.page_size = 131072;
            break;
        case 2:
            a.header_bytes = 4096;
            break;
        case 3:
            a.store_id = 0;
            break;
        case 4:
            a.generation = 0;
            break;
        case 5:
            a.page_count = 32;
            break;
        case 6:
            a.page_count = (UINT64_C(1) << 32) + 1;
            break;
        case 7:
            a.flags = CP_FORMAT_FLAGS_KNOWN + 1;
            expected = CP_EVERSION;
            break;
        case 8:
            a.epoch = UINT32_MAX;
            break;
        case 9:
            a.version = CP_FORMAT_VERSION_OLD - 1;
            expected = CP_EVERSION;
            break;
        default:
            a.version = CP_FORMAT_VERSION + 1;
            expected = CP_EVERSION;
            break;
        }
        cp_pager__superblock_seal(&a);
        assert_code(choose(&a, &none, &slot), expected);
    }
    struct cp_superblock a = valid_block(7), b = valid_block(8);
    unsigned slot;
    b.store_id = 43;
    cp_pager__superblock_seal(&b);
    assert_code(choose(&a, &b, &slot), CP_EFORMAT);
}

static void page_seal_then_verify_names_each_kind_of_damage(void **state)
{
    (void)state;
    for (uint32_t size = 4096; size <= 65536; size *= 2) {
        struct cp_page_format mine = {size, 42, "file", NULL}, other = {size, 43, "file", NULL};
        unsigned char *page = calloc(1, size);
        const uint64_t map_page = cp_format_first_map_page(size);
        assert_code(cp_pager__page_verify(&mine, page, map_page + 7), CP_EUNWRITTEN);
        assert_code(cp_pager__page_verify(&mine, page, map_page), CP_ECHECKSUM);
        assert_code(cp_pager__page_verify(&mine, page, map_page + cp_format_span(size)),
                    CP_ECHECKSUM);
        fill_page(page, size - 32, 7, 1);
        cp_pager__page_seal(&mine, page, 7, 99);
        assert_ok(cp_pager__page_verify(&mine, page, 7));
        assert_code(cp_pager__page_verify(&mine, page, 8), CP_EMISPLACED);
        assert_code(cp_pager__page_verify(&other, page, 7), CP_EFOREIGN);
        for (unsigned i = 0; i < 50; i++) {
            uint32_t at = i == 0 ? 0 : i == 1 ? size - 1 : (i * 7919) % size;
            page[at] ^= 4;
            assert_code(cp_pager__page_verify(&mine, page, 7), CP_ECHECKSUM);
            page[at] ^= 4;
        }
        assert_ok(cp_pager__page_verify(&mine, page, 7));
        free(page);
    }
}

/* The multiplication that replaces a division, against the division. */
static void map_offset_test_agrees_with_modulo(void **state)
{
    (void)state;
    uint64_t random = test_seed();
    for (uint32_t size = 4096; size <= 65536; size *= 2) {
        struct cp_pager *pager = create_store(new_store(), size, 0);
        const uint64_t span = pager->span;
        for (uint64_t k = 0; k < 3000; k++) {
            for (uint64_t offset = k * span - 2; offset != k * span + 3; offset++)
                assert_int_equal(cp_pager__is_map_offset(pager, offset), offset % span == 0);
            uint64_t any = next_random(&random) >> below(&random, 64);
            assert_int_equal(cp_pager__is_map_offset(pager, any), any % span == 0);
        }
        assert_true(cp_pager__is_map_offset(pager, UINT64_MAX / span * span));
        assert_false(cp_pager__is_map_offset(pager, UINT64_MAX / span * span - 1));
        assert_ok(cp_pager_close(pager));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(superblock_newest_valid_slot_wins),
        cmocka_unit_test(superblock_fields_out_of_range_are_refused),
        cmocka_unit_test(page_seal_then_verify_names_each_kind_of_damage),
        cmocka_unit_test(map_offset_test_agrees_with_modulo),
    };
    return RUN_ENGINE(CP_ENGINE_MMAP, tests);
}
