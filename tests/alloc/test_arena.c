/* SPDX-License-Identifier: MIT */
/* The arena: memory comes zeroed, goes back, does not move, and costs few mappings. */
#include "helpers.h"

#include <clockpool/arena.h>

#include <errno.h>
#include <pthread.h>
#include <sys/resource.h>

#define MIB (UINT64_C(1) << 20)

static struct cp_arena *create_arena(uint64_t reserve_bytes, uint64_t extent_bytes)
{
    struct cp_arena *arena = NULL;
    struct cp_arena_options options = {.reserve_bytes = reserve_bytes,
                                       .extent_bytes = extent_bytes};
    assert_int_equal(cp_arena_create(&options, &arena), 0);
    assert_int_equal(cp_arena__check(arena), 0);
    return arena;
}

static void destroy_arena(struct cp_arena *arena)
{
    assert_int_equal(cp_arena__check(arena), 0);
    cp_arena_destroy(arena);
}

static bool all_zero(const char *bytes, uint64_t size_bytes)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, size_bytes - 1) == 0;
}

static void arena_create_with_bad_options_is_refused(void **state)
{
    (void)state;
    const struct cp_arena_options bad[] = {
        {.reserve_bytes = 0},
        {.reserve_bytes = MIB, .extent_bytes = 2048},
        {.reserve_bytes = MIB, .extent_bytes = 12288},
        {.reserve_bytes = UINT64_MAX},
        {.reserve_bytes = MIB, .huge_pages = (enum cp_huge_pages)7},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct cp_arena *arena = (void *)&arena;
        assert_int_equal(cp_arena_create(&bad[i], &arena), -EINVAL);
        assert_ptr_equal(arena, &arena); /* out parameters are untouched on failure */
    }
    cp_arena_destroy(NULL);
}

static void arena_base_is_aligned_and_sizes_are_rounded(void **state)
{
    (void)state;
    for (uint64_t extent = 4096; extent <= 64 * MIB; extent *= 4) {
        struct cp_arena_stats stats;
        struct cp_arena *arena = create_arena(3 * extent - 1, extent);
        cp_arena_stats(arena, &stats);
        assert_int_equal(stats.reserved_bytes, 3 * extent);
        assert_int_equal(stats.extent_bytes, extent);
        assert_int_equal(stats.huge_pages, extent < 2 * MIB ? CP_HUGE_OFF : CP_HUGE_AUTO);
        uint64_t base = (uint64_t)(uintptr_t)cp_arena_base(arena);
        assert_int_equal(base % (extent > 2 * MIB ? extent : 2 * MIB), 0);
        destroy_arena(arena);
    }
}

static void arena_commit_reads_zeros_again_after_decommit(void **state)
{
    (void)state;
    struct cp_arena *arena = create_arena(64 * MIB, 64 * 1024);
    char *base = cp_arena_base(arena);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(cp_arena_commit(arena, 3, 70), 0); /* crosses a word of the bits */
        assert_true(all_zero(base + 3 * 65536, 70 * 65536));
        memset(base + 3 * 65536, 0xab, 70 * 65536);
        assert_int_equal(cp_arena__check(arena), 0);
        assert_int_equal(cp_arena_decommit(arena, 3, 70), 0);
        assert_int_equal(cp_arena__check(arena), 0);
    }
    assert_ptr_equal(base, cp_arena_base(arena));
    destroy_arena(arena);
}

static void arena_decommit_keeps_the_neighbours(void **state)
{
    (void)state;
    struct cp_arena *arena = create_arena(16 * 4096, 4096);
    char *base = cp_arena_base(arena);
    assert_int_equal(cp_arena_commit(arena, 0, 16), 0);
    memset(base, 1, 16 * 4096);
    assert_int_equal(cp_arena_decommit(arena, 5, 2), 0);
    for (int i = 0; i < 16; i++) {
        if (i != 5 && i != 6)
            assert_true(base[i * 4096] == 1 && base[i * 4096 + 4095] == 1);
    }
    struct cp_arena_stats stats;
    cp_arena_stats(arena, &stats);
    assert_int_equal(stats.committed_bytes, 14 * 4096);
    destroy_arena(arena);
}

static void arena_outside_the_reservation_is_refused(void **state)
{
    (void)state;
    struct cp_arena *arena = create_arena(4 * MIB, 0);
    assert_int_equal(cp_arena_commit(arena, 2, 1), -EINVAL);
    assert_int_equal(cp_arena_commit(arena, 1, 2), -EINVAL);
    assert_int_equal(cp_arena_commit(arena, 1, UINT64_MAX), -EINVAL);
    assert_int_equal(cp_arena_decommit(arena, UINT64_MAX, 1), -EINVAL);
    assert_int_equal(cp_arena_commit(arena, 2, 0), 0);
    destroy_arena(arena);
}

static void arena_decommit_gives_resident_memory_back(void **state)
{
    (void)state;
    if (!TEST_PLAIN_BUILD) {
        print_message("skipped: resident memory is the tool's in this build\n");
        skip();
    }
    struct cp_arena *arena = create_arena(UINT64_C(1) << 40, 0);
    uint64_t before = test_resident_bytes();
    assert_int_equal(cp_arena_commit(arena, 1000, 32), 0);
    memset((char *)cp_arena_base(arena) + 1000 * 2 * MIB, 1, 64 * MIB);
    assert_true(test_resident_bytes() >= before + 60 * MIB);
    assert_int_equal(cp_arena_decommit(arena, 1000, 32), 0);
    assert_true(test_resident_bytes() <= before + 4 * MIB);
    destroy_arena(arena);
}

static void arena_with_holes_stays_one_mapping(void **state)
{
    (void)state;
    if (CP_POISONS) {
        print_message("skipped: this build protects uncommitted extents\n");
        skip();
    }
    struct cp_arena *arena = create_arena(4096 * 4096, 4096);
    assert_int_equal(cp_arena_commit(arena, 0, 4096), 0);
    memset(cp_arena_base(arena), 1, 4096 * 4096);
    for (uint64_t i = 0; i < 4096; i += 2)
        assert_int_equal(cp_arena_decommit(arena, i, 1), 0);
    assert_int_equal(test_mappings_in(cp_arena_base(arena), 4096 * 4096), 1);
    destroy_arena(arena);
}

static void read_byte(void *address)
{
    volatile char *byte = address;
    (void)*byte;
}

static void arena_under_a_data_limit_protects_what_is_not_committed(void **state)
{
    (void)state;
    struct rlimit old, tight;
    assert_int_equal(getrlimit(RLIMIT_DATA, &old), 0);
    tight = old;
    tight.rlim_cur = 512 * MIB;
    if (TEST_TSAN) {
        print_message("skipped: the tool's own mappings exceed any data limit\n");
        skip();
    }
    if (TEST_PLAIN_BUILD) /* builds that poison are guarded anyway, and need the memory */
        assert_int_equal(setrlimit(RLIMIT_DATA, &tight), 0);
    struct cp_arena *arena = create_arena(4096 * MIB, 4096); /* refused if it were writable */
    assert_int_equal(setrlimit(RLIMIT_DATA, &old), 0);
    char *base = cp_arena_base(arena);

    test_expect_fault(read_byte, base);
    assert_int_equal(cp_arena_commit(arena, 0, 3), 0);
    memset(base, 1, 3 * 4096);
    assert_int_equal(cp_arena_decommit(arena, 1, 1), 0);
    test_expect_fault(read_byte, base + 4096);
    assert_true(base[0] == 1 && base[2 * 4096] == 1);
    assert_int_equal(cp_arena_commit(arena, 1, 1), 0);
    assert_true(all_zero(base + 4096, 4096));
    destroy_arena(arena);
}

static void arena_in_a_forked_child_is_absent_unless_kept(void **state)
{
    (void)state;
    for (uint32_t keep = 0; keep <= 1; keep++) {
        struct cp_arena *arena = NULL;
        struct cp_arena_options options = {
            .reserve_bytes = 8 * MIB, .extent_bytes = 2 * MIB, .keep_on_fork = keep};
        assert_int_equal(cp_arena_create(&options, &arena), 0);
        assert_int_equal(cp_arena_commit(arena, 0, 2), 0);
        char *base = cp_arena_base(arena);
        memset(base, 1, 4 * MIB);
        if (keep)
            assert_int_equal(test_in_child(read_byte, base + 3 * MIB), 0);
        else
            test_expect_fault(read_byte, base + 3 * MIB);
        assert_int_equal(cp_arena_decommit(arena, 0, 1), 0);
        assert_int_equal(cp_arena_commit(arena, 0, 1), 0);
        base[0] = 1; /* the advice must survive decommit and commit */
        if (!keep)
            test_expect_fault(read_byte, base);
        destroy_arena(arena);
    }
}

static void commit_first(void *arena)
{
    int code = cp_arena_commit(arena, 0, 2);
    (void)code;
}

static void decommit_third(void *arena)
{
    int code = cp_arena_decommit(arena, 2, 1);
    (void)code;
}

static void arena_committed_twice_aborts(void **state)
{
    (void)state;
    struct cp_arena *arena = create_arena(8 * 4096, 4096);
    assert_int_equal(cp_arena_commit(arena, 1, 1), 0);
    test_expect_abort(commit_first, arena);
    test_expect_abort(decommit_third, arena);
    destroy_arena(arena);
}

static void arena_guards_stand_at_both_ends(void **state)
{
    (void)state;
    struct cp_arena *arena = create_arena(2 * MIB, 0);
    assert_int_equal(cp_arena_commit(arena, 0, 1), 0);
    char *base = cp_arena_base(arena);
    test_expect_fault(read_byte, base - 1);
    test_expect_fault(read_byte, base + 2 * MIB);
    destroy_arena(arena);
}

static void arena_asked_for_hugetlb_works_with_or_without_it(void **state)
{
    (void)state;
    struct cp_arena *arena = NULL;
    struct cp_arena_options options = {.reserve_bytes = 64 * MIB, .huge_pages = CP_HUGE_TLB};
    struct cp_arena_stats stats;
    assert_int_equal(cp_arena_create(&options, &arena), 0);
    char *base = cp_arena_base(arena);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(cp_arena_commit(arena, 3, 2), 0);
        assert_true(all_zero(base + 6 * MIB, 4 * MIB));
        memset(base + 6 * MIB, 1, 4 * MIB);
        cp_arena_stats(arena, &stats);
        if (stats.huge_pages == CP_HUGE_TLB)
            assert_int_equal(cp_arena_huge_bytes(arena), 4 * MIB);
        else
            print_message("no hugetlb pages here: only the fallback was tested\n");
        assert_int_equal(cp_arena_decommit(arena, 3, 2), 0);
    }
    destroy_arena(arena);
}

static void arena_huge_bytes_is_within_the_committed_bytes(void **state)
{
    (void)state;
    struct cp_arena *arena = create_arena(64 * MIB, 0);
    assert_int_equal(cp_arena_huge_bytes(arena), 0);
    assert_int_equal(cp_arena_commit(arena, 0, 4), 0);
    memset(cp_arena_base(arena), 1, 8 * MIB);
    uint64_t huge = cp_arena_huge_bytes(arena);
    assert_true(huge <= 8 * MIB && huge % (2 * MIB) == 0);
    print_message("huge pages behind 8 MiB: %llu MiB\n", (unsigned long long)(huge / MIB));
    destroy_arena(arena);
}

static void arena_decommitted_memory_is_poisoned(void **state)
{
    (void)state;
    if (!TEST_HAS_ASAN) {
        print_message("skipped: needs AddressSanitizer\n");
        skip();
    }
    struct cp_arena *arena = create_arena(4 * 4096, 4096);
    char *base = cp_arena_base(arena);
    assert_int_equal(cp_arena_commit(arena, 0, 4), 0);
    assert_int_equal(cp_arena_decommit(arena, 1, 1), 0);
    assert_false(test_is_poisoned(base + 4095));
    assert_true(test_is_poisoned(base + 4096));
    assert_true(test_is_poisoned(base + 8191));
    assert_false(test_is_poisoned(base + 8192));
    assert_int_equal(cp_arena_commit(arena, 1, 1), 0);
    assert_false(test_is_poisoned(base + 4096));
    assert_int_equal(cp_arena_decommit(arena, 0, 4), 0);
    destroy_arena(arena);
    assert_false(test_is_poisoned(base)); /* the addresses' next owner starts clean */
}

struct committer {
    struct cp_arena *arena;
    uint64_t first;
};

/* Commit and decommit every fourth extent, so that threads share the words of the bits. */
static void *commit_every_fourth(void *context)
{
    struct committer *committer = context;
    char *base = cp_arena_base(committer->arena);
    for (int round = 0; round < 50; round++) {
        for (uint64_t i = committer->first; i < 256; i += 4) {
            if (cp_arena_commit(committer->arena, i, 1) != 0)
                return context;
            base[i * 4096] = (char)i;
        }
        for (uint64_t i = committer->first; i < 256; i += 4) {
            if (base[i * 4096] != (char)i || cp_arena_decommit(committer->arena, i, 1) != 0)
                return context;
        }
    }
    return NULL;
}

static void arena_with_threads_on_neighbouring_extents_counts_right(void **state)
{
    (void)state;
    struct cp_arena *arena = create_arena(256 * 4096, 4096);
    pthread_t threads[4];
    struct committer committers[4];
    for (uint64_t i = 0; i < 4; i++) {
        committers[i] = (struct committer){arena, i};
        assert_int_equal(pthread_create(&threads[i], NULL, commit_every_fourth, &committers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        void *failed = NULL;
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    struct cp_arena_stats stats;
    cp_arena_stats(arena, &stats);
    assert_int_equal(stats.committed_bytes, 0);
    destroy_arena(arena);
}

/* A page of a mapping replaced by one of a file, and by empty memory again. */
static void map_in_place(bool locking)
{
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    void *base = NULL, *part = NULL;
    unsigned char resident = 0;
    int fd = memfd_create("arena", MFD_CLOEXEC);
    assert_return_code(fd, errno);
    assert_int_equal(pwrite(fd, "page", 4, (off_t)page), 4);
    assert_int_equal(cp_arena_map(NULL, 3 * page, PROT_READ | PROT_WRITE, -1, 0, &base), 0);
    char *bytes = base;
    memset(bytes, 1, 3 * page);
    assert_int_equal(cp_arena_map(bytes + page, page, PROT_READ, fd, page, &part), 0);
    assert_ptr_equal(part, bytes + page);
    assert_memory_equal(part, "page", 4);
    assert_int_equal(bytes[page - 1] + bytes[2 * page], 2);
    assert_int_equal(cp_arena_map(bytes + page, page, PROT_READ, -1, 0, &part), 0);
    if (locking) {
        assert_int_equal(mincore(part, page, &resident), 0);
        assert_int_equal(resident & 1, 0);
    }
    assert_true(all_zero(part, page));
    assert_int_equal(bytes[page - 1] + bytes[2 * page], 2);
    part = &part;
    assert_int_equal(cp_arena_map(NULL, page, PROT_READ, fd, 1, &part), -EINVAL);
    assert_ptr_equal(part, &part);
    assert_int_equal(munmap(base, 3 * page), 0);
    close(fd);
}

static void arena_map_replaces_what_is_in_its_place(void **state)
{
    (void)state;
    map_in_place(false);
    if (mlockall(MCL_FUTURE) != 0) {
        print_message("skipped: memory cannot be locked here\n");
        skip();
    }
    map_in_place(true);
    assert_int_equal(munlockall(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arena_create_with_bad_options_is_refused),
        cmocka_unit_test(arena_base_is_aligned_and_sizes_are_rounded),
        cmocka_unit_test(arena_commit_reads_zeros_again_after_decommit),
        cmocka_unit_test(arena_decommit_keeps_the_neighbours),
        cmocka_unit_test(arena_outside_the_reservation_is_refused),
        cmocka_unit_test(arena_decommit_gives_resident_memory_back),
        cmocka_unit_test(arena_with_holes_stays_one_mapping),
        cmocka_unit_test(arena_under_a_data_limit_protects_what_is_not_committed),
        cmocka_unit_test(arena_in_a_forked_child_is_absent_unless_kept),
        cmocka_unit_test(arena_committed_twice_aborts),
        cmocka_unit_test(arena_guards_stand_at_both_ends),
        cmocka_unit_test(arena_asked_for_hugetlb_works_with_or_without_it),
        cmocka_unit_test(arena_huge_bytes_is_within_the_committed_bytes),
        cmocka_unit_test(arena_map_replaces_what_is_in_its_place),
        cmocka_unit_test(arena_decommitted_memory_is_poisoned),
        cmocka_unit_test(arena_with_threads_on_neighbouring_extents_counts_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
