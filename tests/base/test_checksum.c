/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include <clockpool/base/checksum.h>

#define PAGE_BYTES 4096u

/*
 * Files written today must be readable by every later build, so the values are fixed here. The
 * first is XXH3's published value for no input; the others were recorded from libxxhash 0.8.1, the
 * first release line that promises never to change them.
 */
static void checksum_known_input_gives_known_value(void **state)
{
    unsigned char page[PAGE_BYTES];
    (void)state;
    memset(page, 0, sizeof page);
    assert_true(cp_checksum("", 0, 0) == UINT64_C(0x2d06800538d394c2));
    assert_true(cp_checksum("a", 1, 0) == UINT64_C(0xe6c632b61e964e1f));
    assert_true(cp_checksum("clockpool", 9, 0) == UINT64_C(0x98f5d950fb71990b));
    assert_true(cp_checksum(page, sizeof page, 0) == UINT64_C(0x93d76fe148c689ba));
    for (unsigned i = 0; i < PAGE_BYTES; i++)
        page[i] = (unsigned char)(i * 7 + i / 256);
    assert_true(cp_checksum(page, sizeof page, 0) == UINT64_C(0x5c722d9ceb6f9064));
}

static void checksum_any_flipped_bit_is_noticed(void **state)
{
    unsigned char page[PAGE_BYTES];
    (void)state;
    memset(page, 0x5a, sizeof page);
    const uint64_t good = cp_checksum(page, sizeof page, 1);
    for (unsigned bit = 0; bit < PAGE_BYTES * 8; bit += 13) {
        page[bit / 8] ^= (unsigned char)(1u << bit % 8);
        assert_true(cp_checksum(page, sizeof page, 1) != good);
        page[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    assert_true(cp_checksum(page, sizeof page, 1) == good);
}

static void checksum_seed_changes_value(void **state)
{
    (void)state;
    assert_true(cp_checksum("clockpool", 9, 1) != cp_checksum("clockpool", 9, 2));
    assert_true(cp_checksum("", 0, 1) != cp_checksum("", 0, 2));
}

static void checksum_unaligned_data_gives_same_value(void **state)
{
    unsigned char room[PAGE_BYTES + 8];
    (void)state;
    for (unsigned shift = 0; shift < 8; shift++) {
        memset(room + shift, 0x17, PAGE_BYTES);
        uint64_t here = cp_checksum(room + shift, PAGE_BYTES, 3);
        memmove(room, room + shift, PAGE_BYTES);
        assert_true(cp_checksum(room, PAGE_BYTES, 3) == here);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checksum_known_input_gives_known_value),
        cmocka_unit_test(checksum_any_flipped_bit_is_noticed),
        cmocka_unit_test(checksum_seed_changes_value),
        cmocka_unit_test(checksum_unaligned_data_gives_same_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
