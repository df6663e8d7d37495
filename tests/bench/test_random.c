/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include "random.h"

#define DRAWS 1000000u
#define COUNT 1000u

static void random_same_seed_same_sequence(void **state)
{
    (void)state;
    struct bench_random a, b, c;
    bench_random_init(&a, 7, 1);
    bench_random_init(&b, 7, 1);
    bench_random_init(&c, 7, 2);
    unsigned equal = 0;
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t value = bench_random_next(&a);
        assert_int_equal(value, bench_random_next(&b));
        equal += value == bench_random_next(&c);
    }
    assert_int_equal(equal, 0);
}

static void random_below_is_uniform(void **state)
{
    (void)state;
    struct bench_random random;
    static unsigned seen[COUNT];
    bench_random_init(&random, 1, 1);
    for (unsigned i = 0; i < DRAWS; i++)
        seen[bench_random_below(&random, COUNT)]++;
    double chi = 0, expected = (double)DRAWS / COUNT;
    for (unsigned i = 0; i < COUNT; i++)
        chi += (seen[i] - expected) * (seen[i] - expected) / expected;
    /* 999 degrees of freedom: mean 999, standard deviation 45; the seed is fixed */
    assert_true(chi > 999 - 5 * 45 && chi < 999 + 5 * 45);
}

/* The generator against the exact probabilities: chi-square over the ranks. */
static void check_zipf(double theta, uint64_t count)
{
    struct bench_zipf zipf;
    struct bench_random random;
    unsigned *seen = calloc(count + 1, sizeof *seen);
    double total = 0, chi = 0, pooled = 0, pooled_seen = 0;
    unsigned freedom = 0;
    assert_non_null(seen);
    bench_zipf_init(&zipf, count, theta);
    bench_random_init(&random, 42, (uint64_t)(theta * 1000));
    for (unsigned i = 0; i < DRAWS; i++) {
        uint64_t k = bench_zipf_next(&zipf, &random);
        assert_true(k >= 1 && k <= count);
        seen[k]++;
    }
    for (uint64_t k = 1; k <= count; k++)
        total += pow((double)k, -theta);
    for (uint64_t k = 1; k <= count; k++) {
        pooled += DRAWS * pow((double)k, -theta) / total;
        pooled_seen += seen[k];
        if (pooled < 20 && k < count) /* chi-square wants a few draws in each class */
            continue;
        chi += (pooled_seen - pooled) * (pooled_seen - pooled) / pooled;
        freedom++;
        pooled = pooled_seen = 0;
    }
    double mean = freedom - 1, deviation = sqrt(2 * mean);
    free(seen);
    print_message("theta %.2f, %u pages: chi-square %.1f, expected %.0f +- %.0f\n", theta,
                  (unsigned)count, chi, mean, deviation);
    assert_true(chi < mean + 5 * deviation);
}

static void zipf_frequencies_are_exact(void **state)
{
    (void)state;
    static const double thetas[] = {0, 0.5, 0.99, 1, 1.2, 2};
    for (unsigned i = 0; i < sizeof thetas / sizeof *thetas; i++)
        check_zipf(thetas[i], COUNT);
    check_zipf(0.99, 100000);
    check_zipf(0.99, 2);
}

static void zipf_one_page_is_always_drawn(void **state)
{
    (void)state;
    struct bench_zipf zipf;
    struct bench_random random;
    bench_random_init(&random, 1, 1);
    bench_zipf_init(&zipf, 1, 0.99);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(bench_zipf_next(&zipf, &random), 1);
}

static void scramble_any_count_is_a_bijection(void **state)
{
    (void)state;
    static const uint64_t counts[] = {1, 2, 3, 4, 5, 63, 64, 65, 1000, 4096, 100003};
    for (unsigned i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct bench_scramble scramble;
        unsigned char *seen = calloc(counts[i], 1);
        assert_non_null(seen);
        bench_scramble_init(&scramble, counts[i], 9);
        for (uint64_t value = 0; value < counts[i]; value++) {
            uint64_t image = bench_scramble_apply(&scramble, value);
            assert_true(image < counts[i]);
            assert_int_equal(seen[image], 0);
            seen[image] = 1;
        }
        free(seen);
    }
}

static void scramble_neighbours_come_apart(void **state)
{
    (void)state;
    struct bench_scramble scramble;
    unsigned near = 0;
    bench_scramble_init(&scramble, 1000000, 9);
    for (uint64_t value = 0; value < 1000; value++) {
        int64_t a = (int64_t)bench_scramble_apply(&scramble, value);
        int64_t b = (int64_t)bench_scramble_apply(&scramble, value + 1);
        near += llabs(a - b) < 1000; /* by chance: about one in 500 */
    }
    assert_true(near < 15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_same_seed_same_sequence),
        cmocka_unit_test(random_below_is_uniform),
        cmocka_unit_test(zipf_frequencies_are_exact),
        cmocka_unit_test(zipf_one_page_is_always_drawn),
        cmocka_unit_test(scramble_any_count_is_a_bijection),
        cmocka_unit_test(scramble_neighbours_come_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
