/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <clockpool/base/checksum.h>

#include "checksum_variants.h"

#include <xxhash.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif

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

static uint64_t next_random(uint64_t *random)
{
    *random = *random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *random ^ *random >> 33;
}

/*
 * Lengths below 1,100 are tried one by one: XXH3 has a path for each class of
 * short lengths, and the first block of 1,024 bytes ends there. A page that cannot be read follows
 * the bytes, so that a variant that reads too far is noticed where it does no other harm.
 */
static void checksum_all_variants_give_the_librarys_value(void **state)
{
    enum { ROOM = 72 * 1024, SHORT = 1100, RANDOM_ROUNDS = 1500 };
    struct cp_checksum__variant variants[CP_CHECKSUM__VARIANTS_MAX];
    const unsigned count = cp_checksum__variants(variants);
    const char *given = getenv("CP_TEST_SEED");
    uint64_t random = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    const size_t guard_bytes = (size_t)sysconf(_SC_PAGESIZE);
    (void)state;

    print_message("CP_TEST_SEED=%llu\n", (unsigned long long)random);
    assert_in_range(count, 1, CP_CHECKSUM__VARIANTS_MAX);
    unsigned char *room =
        mmap(NULL, ROOM + guard_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(room, MAP_FAILED);
    assert_int_equal(mprotect(room + ROOM, guard_bytes, PROT_NONE), 0);
    for (size_t i = 0; i < ROOM; i++)
        room[i] = (unsigned char)(next_random(&random) >> 32);

    for (size_t round = 0; round < SHORT + RANDOM_ROUNDS; round++) {
        const size_t size = round < SHORT ? round : next_random(&random) % (ROOM - 64);
        const size_t shift = round % 2 == 0 ? 0 : next_random(&random) % 64;
        const uint64_t seed = round % 8 == 0 ? 0 : next_random(&random);
        const unsigned char *data = room + ROOM - shift - size;
        const uint64_t expected = XXH3_64bits_withSeed(data, size, seed);
        assert_true(cp_checksum(data, size, seed) == expected);
        for (unsigned i = 0; i < count; i++)
            if (variants[i].compute(data, size, seed) != expected)
                fail_msg("%s: %zu bytes, %zu before the end, seed %llx", variants[i].name, size,
                         shift, (unsigned long long)seed);
    }
    for (unsigned i = 0; i < count; i++)
        print_message("%s%s", i == 0 ? "equal: " : ", ", variants[i].name);
    print_message("\n");
    assert_int_equal(munmap(room, ROOM + guard_bytes), 0);
}

#ifdef __x86_64__
/* Upper halves of vector registers that are not in their initial state: XINUSE, bits 2 and 6. */
static unsigned upper_halves_in_use(void)
{
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(1));
    (void)high;
    return low & 0x44u;
}

/* May the processor be asked, and does it answer truly? Bit 2: XGETBV with 1; bit 27: OSXSAVE. */
static bool tells_upper_halves(void)
{
    unsigned a, b, c, d;
    if (!__builtin_cpu_supports("avx2") || __get_cpuid(1, &a, &b, &c, &d) == 0 ||
        (c >> 27 & 1) == 0 || __get_cpuid_count(13, 1, &a, &b, &c, &d) == 0 || (a >> 2 & 1) == 0)
        return false;
    __asm__ volatile("vpcmpeqd %%ymm0, %%ymm0, %%ymm0" ::: "xmm0");
    const bool dirty = upper_halves_in_use() != 0;
    __asm__ volatile("vzeroupper" ::: "xmm0");
    return dirty && upper_halves_in_use() == 0;
}

/* Otherwise the SSE code of the whole program runs slowly afterwards, the host's too. */
static void checksum_leaves_no_upper_half_in_use(void **state)
{
    unsigned char page[PAGE_BYTES];
    struct cp_checksum__variant variants[CP_CHECKSUM__VARIANTS_MAX];
    const unsigned count = cp_checksum__variants(variants);
    (void)state;

    if (!tells_upper_halves()) {
        print_message("skipped: this processor does not tell which registers are in use\n");
        skip();
    }
    memset(page, 0x33, sizeof page);
    for (unsigned i = 0; i < count; i++)
        for (size_t size = 0; size <= sizeof page; size += size < 400 ? 1 : 61) {
            __asm__ volatile("vzeroupper" ::: "xmm0");
            (void)variants[i].compute(page, size, 5);
            if (upper_halves_in_use() != 0)
                fail_msg("%s: registers are left in use after %zu bytes", variants[i].name, size);
        }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checksum_known_input_gives_known_value),
        cmocka_unit_test(checksum_any_flipped_bit_is_noticed),
        cmocka_unit_test(checksum_seed_changes_value),
        cmocka_unit_test(checksum_unaligned_data_gives_same_value),
        cmocka_unit_test(checksum_all_variants_give_the_librarys_value),
#ifdef __x86_64__
        cmocka_unit_test(checksum_leaves_no_upper_half_in_use),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
