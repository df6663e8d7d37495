/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include "units.h"

static void parse_size_good_text_gives_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } cases[] = {{"1", 1},
                 {"4096", 4096},
                 {"4K", 4096},
                 {"4k", 4096},
                 {"4KiB", 4096},
                 {"512M", UINT64_C(512) << 20},
                 {"1.5G", UINT64_C(1536) << 20},
                 {"8GB", UINT64_C(8) << 30},
                 {"2T", UINT64_C(2) << 40}};
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t bytes = 0;
        assert_true(bench_parse_size(cases[i].text, &bytes));
        assert_int_equal(bytes, cases[i].bytes);
    }
}

static void parse_size_bad_text_is_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {"",         "0",    "G",     "-1",   "1X",  "4KK",
                                        "1.0001K",  "inf",  "nan",   "0x10", " 4K", "4K ",
                                        "9999999T", "1e30", "4KiBx", "+4",   "8 G", "1,5G"};
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t bytes = 77;
        assert_false(bench_parse_size(cases[i], &bytes));
        assert_int_equal(bytes, 77);
    }
}

static void parse_number_outside_range_is_refused(void **state)
{
    (void)state;
    uint64_t value = 0;
    assert_true(bench_parse_number("7", 1, 7, &value));
    assert_int_equal(value, 7);
    assert_false(bench_parse_number("8", 1, 7, &value));
    assert_false(bench_parse_number("0", 1, 7, &value));
    assert_false(bench_parse_number("7x", 1, 7, &value));
    assert_false(bench_parse_number("-1", 0, UINT64_MAX, &value));
    assert_false(bench_parse_number("99999999999999999999999", 0, UINT64_MAX, &value));
}

static void split_list_items_and_holes(void **state)
{
    (void)state;
    char *items[3];
    char good[] = "a,bc,d", hole[] = "a,,b", end[] = "a,", many[] = "1,2,3,4", none[] = "";
    assert_int_equal(bench_split_list(good, items, 3), 3);
    assert_string_equal(items[1], "bc");
    assert_int_equal(bench_split_list(hole, items, 3), 0);
    assert_int_equal(bench_split_list(end, items, 3), 0);
    assert_int_equal(bench_split_list(many, items, 3), 0);
    assert_string_equal(many, "1,2,3,4"); /* for the message */
    assert_int_equal(bench_split_list(none, items, 3), 0);
}

static void format_numbers_read_well(void **state)
{
    (void)state;
    char text[32];
    assert_string_equal(bench_format_thousands(text, sizeof text, 0), "0");
    assert_string_equal(bench_format_thousands(text, sizeof text, 999), "999");
    assert_string_equal(bench_format_thousands(text, sizeof text, 1234567), "1,234,567");
    assert_string_equal(bench_format_size(text, sizeof text, 4096), "4 KiB");
    assert_string_equal(bench_format_size(text, sizeof text, UINT64_C(1536) << 20), "1.5 GiB");
    assert_string_equal(bench_format_short(text, sizeof text, 0.0234), "0.023");
    assert_string_equal(bench_format_short(text, sizeof text, 0.9999), "1.00");
    assert_string_equal(bench_format_short(text, sizeof text, 99.99), "100");
    assert_string_equal(bench_format_short(text, sizeof text, 12345.6), "12,346");
    assert_string_equal(bench_format_seconds(text, sizeof text, 125.2), "2 min 05 s");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse_size_good_text_gives_bytes),
        cmocka_unit_test(parse_size_bad_text_is_refused),
        cmocka_unit_test(parse_number_outside_range_is_refused),
        cmocka_unit_test(split_list_items_and_holes),
        cmocka_unit_test(format_numbers_read_well),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
