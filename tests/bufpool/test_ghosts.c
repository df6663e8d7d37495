/* SPDX-License-Identifier: MIT */
/* The policy's memory of evicted pages: bufpool/ghosts.c. */
#include "helpers.h"

static struct cp_ghosts ghosts;
static struct cp_ghost_bucket *entries;

static void start(uint64_t size_units)
{
    free(entries);
    entries = aligned_alloc(sizeof *entries, cp_ghosts__bytes(4 * size_units));
    assert_non_null(entries);
    memset(entries, 0, cp_ghosts__bytes(4 * size_units));
    cp_ghosts__init(&ghosts, entries);
    cp_ghosts__resize(&ghosts, size_units);
}

static int teardown(void **state)
{
    (void)state;
    free(entries);
    entries = NULL;
    return 0;
}

static bool take(uint64_t key, bool *out_from_main, uint64_t *out_age_units)
{
    *out_from_main = false;
    *out_age_units = UINT64_MAX;
    return cp_ghosts__take(&ghosts, key, out_from_main, out_age_units);
}

static void ghosts_entry_is_found_once(void **state)
{
    (void)state;
    bool from_main;
    uint64_t age;
    start(1000);
    assert_false(take(7, &from_main, &age));
    cp_ghosts__put(&ghosts, 7, true);
    cp_ghosts__put(&ghosts, 8, false);
    assert_true(take(7, &from_main, &age));
    assert_true(from_main);
    assert_int_equal(age, 0);
    assert_false(take(7, &from_main, &age));
    assert_true(take(8, &from_main, &age));
    assert_false(from_main);
}

static void ghosts_age_counts_misses(void **state)
{
    (void)state;
    bool from_main;
    start(3200);
    cp_ghosts__put(&ghosts, 1, true);
    cp_ghosts__put(&ghosts, 2, true);
    uint64_t age;
    ghosts.now_units += 1600;
    assert_true(take(1, &from_main, &age));
    assert_in_range(age, 1500, 1700); /* exact to a 32nd of the pool */
    ghosts.now_units += 1600 + 100;   /* older than the pool is large */
    assert_false(take(2, &from_main, &age));
}

static void ghosts_page_evicted_again_has_one_entry(void **state)
{
    (void)state;
    bool from_main;
    uint64_t age;
    start(1000);
    for (uint32_t i = 0; i < 100; i++)
        cp_ghosts__put(&ghosts, 5, i % 2 == 0);
    assert_true(take(5, &from_main, &age));
    assert_false(from_main); /* the last word */
    assert_false(take(5, &from_main, &age));
}

/* Each of the last size_units evictions is remembered, but for the few that full buckets lose. */
static void ghosts_remember_a_pool_of_evictions(void **state)
{
    (void)state;
    const uint64_t sizes[] = {1000, 100000};
    for (uint32_t s = 0; s < 2; s++) {
        uint64_t size = sizes[s], found = 0, wrong = 0;
        bool from_main;
        uint64_t age;
        start(size);
        for (uint64_t key = 0; key < 3 * size; key++) {
            ghosts.now_units++;
            cp_ghosts__put(&ghosts, key, key % 3 == 0);
        }
        for (uint64_t key = 3 * size; key-- > 2 * size;) {
            if (take(key, &from_main, &age)) {
                found++;
                wrong += from_main != (key % 3 == 0);
            }
        }
        print_message("%llu of %llu, %llu of them wrong\n", (unsigned long long)found,
                      (unsigned long long)size, (unsigned long long)wrong);
        assert_true(found > size * 94 / 100);
        assert_true(wrong <= size / 500);
    }
}

static void ghosts_strangers_are_rarely_taken_for_known(void **state)
{
    (void)state;
    bool from_main;
    uint64_t age, found = 0;
    start(10000);
    for (uint64_t key = 0; key < 20000; key++) {
        ghosts.now_units++;
        cp_ghosts__put(&ghosts, key, false);
    }
    for (uint64_t key = 1000000; key < 1100000; key++)
        found += take(key, &from_main, &age);
    print_message("%llu of 100000\n", (unsigned long long)found);
    assert_true(found < 100); /* 21 in 65536 are expected, that is 32 */
}

static void ghosts_small_change_of_size_keeps_them(void **state)
{
    (void)state;
    bool from_main;
    uint64_t age;
    start(1000);
    cp_ghosts__put(&ghosts, 1, false);
    cp_ghosts__put(&ghosts, 2, false);
    cp_ghosts__resize(&ghosts, 1100);
    assert_true(take(1, &from_main, &age));
    cp_ghosts__resize(&ghosts, 880);
    assert_true(take(2, &from_main, &age));
}

/* What is paid for a unit, CP_UNIT_OVERHEAD says 4 bytes, is enough at each size. */
static void ghosts_never_need_more_than_is_paid(void **state)
{
    (void)state;
    bool grown = false;
    start(4000);
    for (uint64_t size = 16; size < 4000; size += grown ? 16 : 48, grown = !grown) {
        cp_ghosts__resize(&ghosts, size);
        assert_true(ghosts.bucket_count * sizeof(struct cp_ghost_bucket) <= 4 * size);
    }
    for (uint64_t size = 4000; size >= 16; size -= 16) {
        cp_ghosts__resize(&ghosts, size);
        assert_true(ghosts.bucket_count * sizeof(struct cp_ghost_bucket) <= 4 * size);
    }
}

/* A full bucket loses its oldest entry, whatever the ages: against a plain search. */
static void ghosts_oldest_gives_way(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    start(CP_GHOST_WAYS); /* one bucket, an epoch a miss */
    assert_int_equal(ghosts.bucket_count, 1);
    for (uint64_t round = 0; round < 20000; round++) {
        struct cp_ghost_bucket before = *entries;
        ghosts.now_units += seed % 3 == 0 ? seed % 7 : 1;
        seed = mix(seed + round);
        uint32_t now = (uint32_t)(ghosts.now_units % 128), oldest = 0;
        bool full = true;
        for (uint32_t i = 0; i < CP_GHOST_WAYS; i++) {
            full &= before.fingerprints[i] != 0;
            if ((now - before.tags[i]) % 128 > (now - before.tags[oldest]) % 128)
                oldest = i;
        }
        cp_ghosts__put(&ghosts, seed, seed % 2 == 0);
        for (uint32_t i = 0; full && i < CP_GHOST_WAYS; i++) {
            if (i != oldest && before.fingerprints[i] != entries->fingerprints[i])
                fail_msg("round %llu: entry %u went, not %u", (unsigned long long)round, i, oldest);
        }
        if (seed % 5 == 0) { /* a hole now and then */
            bool from_main;
            uint64_t age;
            assert_true(take(seed, &from_main, &age));
        }
    }
}

static void ghosts_without_a_size_remember_nothing(void **state)
{
    (void)state;
    bool from_main;
    uint64_t age;
    start(1000);
    cp_ghosts__init(&ghosts, entries);
    cp_ghosts__put(&ghosts, 1, false);
    assert_false(take(1, &from_main, &age));
    for (uint32_t i = 0; i < CP_GHOST_WAYS; i++)
        assert_int_equal(entries[0].fingerprints[i], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ghosts_entry_is_found_once),
        cmocka_unit_test(ghosts_age_counts_misses),
        cmocka_unit_test(ghosts_page_evicted_again_has_one_entry),
        cmocka_unit_test(ghosts_remember_a_pool_of_evictions),
        cmocka_unit_test(ghosts_strangers_are_rarely_taken_for_known),
        cmocka_unit_test(ghosts_small_change_of_size_keeps_them),
        cmocka_unit_test(ghosts_never_need_more_than_is_paid),
        cmocka_unit_test(ghosts_oldest_gives_way),
        cmocka_unit_test(ghosts_without_a_size_remember_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, teardown);
}
