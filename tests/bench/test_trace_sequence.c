/* SPDX-License-Identifier: MIT */
/* Reading page traces: bench/trace/sequence.c. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "sequence.h"

static char path[64];
static char text[256];
static struct trace_sequence sequence;

static int setup(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "trace-%d.txt", (int)getpid());
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    (void)unlink(path);
    return 0;
}

static void write_plain(const char *lines)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(lines, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void must_open(void)
{
    if (trace_sequence_open(path, 0, &sequence, text, sizeof text) != 0)
        fail_msg("%s", text);
}

/* The file is refused, and the message says where and what. */
static void must_fail(const char *where, const char *what)
{
    char place[96];
    snprintf(place, sizeof place, "%s%s", path, where);
    assert_int_equal(trace_sequence_open(path, 0, &sequence, text, sizeof text), -1);
    if (strncmp(text, place, strlen(place)) != 0 || strstr(text, what) == NULL)
        fail_msg("\"%s\" does not begin with \"%s\" or lacks \"%s\"", text, place, what);
}

static void check_numbers(const uint32_t *wanted, uint32_t count, uint32_t pages)
{
    assert_int_equal(sequence.access_count, count);
    assert_int_equal(sequence.page_count, pages);
    assert_memory_equal(sequence.accesses, wanted, count * sizeof *wanted);
    trace_sequence_close(&sequence);
}

static void trace_sequence_pages_numbered_by_first_access(void **state)
{
    (void)state;
    const uint32_t wanted[] = {0, 1, 0, 2, 3, 1};
    write_plain("7\n18446744073709551615\n7\n0\n1\n18446744073709551615\n");
    must_open();
    check_numbers(wanted, 6, 4);
}

/* Pages that differ in a few of their bits alone find their slots as quickly: no long run of taken
 * slots has to be passed. */
static void trace_sequence_few_bits_differ_slots_apart(void **state)
{
    (void)state;
    const unsigned shifts[] = {0, 12, 20, 32, 48};
    for (unsigned i = 0; i < sizeof shifts / sizeof *shifts; i++) {
        struct trace_builder builder = {0};
        for (uint64_t page = 0; page < 60000; page++)
            assert_int_equal(trace_builder_add(&builder, page << shifts[i]), 0);
        assert_int_equal(builder.page_count, 60000);
        uint32_t run = 0, longest = 0;
        for (uint32_t slot = 0; slot < builder.slots; slot++) {
            run = builder.values[slot] != 0 ? run + 1 : 0;
            longest = run > longest ? run : longest;
        }
        if (longest > 100) /* random places: 27 to 51 */
            fail_msg("pages << %u: %u slots in a row", shifts[i], longest);
        trace_builder_fini(&builder);
    }
}

static void trace_sequence_blanks_and_remarks_skipped(void **state)
{
    (void)state;
    const uint32_t wanted[] = {0, 1, 0};
    write_plain("# a trace\n\n  12 \r\n13\n   \n12"); /* no end of line at the end */
    must_open();
    check_numbers(wanted, 3, 2);
}

static void trace_sequence_gzip_read_as_plain(void **state)
{
    (void)state;
    gzFile file = gzopen(path, "wb");
    assert_non_null(file);
    for (uint32_t i = 0; i < 50000; i++)
        assert_true(gzprintf(file, "%u\n", 1000 + i % 7000) > 0);
    assert_int_equal(gzclose(file), Z_OK);
    must_open();
    assert_int_equal(sequence.access_count, 50000);
    assert_int_equal(sequence.page_count, 7000);
    for (uint32_t i = 0; i < 50000; i++)
        assert_int_equal(sequence.accesses[i], i % 7000);
    trace_sequence_close(&sequence);
}

static void trace_sequence_gzip_cut_off_is_told(void **state)
{
    (void)state;
    uint32_t value = 1;
    gzFile file = gzopen(path, "wb");
    assert_non_null(file);
    for (uint32_t i = 0; i < 5000; i++, value = value * 1664525 + 1013904223)
        assert_true(gzprintf(file, "%u\n", value >> 8) > 0);
    assert_int_equal(gzclose(file), Z_OK);
    assert_int_equal(truncate(path, 9000), 0);
    must_fail(":", "end too early");
}

static void trace_sequence_bad_line_is_named(void **state)
{
    (void)state;
    const char *const bad[] = {"x",   "-1", "1 2", "0x10", "18446744073709551616",
                               "1,5", "+3", "1.5"};
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char lines[64];
        snprintf(lines, sizeof lines, "4\n5\n%s\n6\n", bad[i]);
        write_plain(lines);
        must_fail(":3: ", bad[i]);
    }
}

/* What stands behind a byte 0 would be lost. */
static void trace_sequence_zero_byte_is_bad(void **state)
{
    (void)state;
    static const char *const shown[] = {"5\\x00\\x006", "\\x00\\x00\\x006", "#\\x00\\x006",
                                        "\\x00\\x00"};
    static const char lines[][8] = {"5\0\0006\n", "\0\0\0006\n", "#\0\0006\n", "\0\0\n"};
    static const size_t lengths[] = {5, 5, 5, 3};
    for (unsigned i = 0; i < sizeof shown / sizeof *shown; i++) {
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        assert_int_equal(fwrite("1\n2\n", 1, 4, file), 4);
        assert_int_equal(fwrite(lines[i], 1, lengths[i], file), lengths[i]);
        assert_int_equal(fwrite("3\n", 1, 2, file), 2);
        assert_int_equal(fclose(file), 0);
        must_fail(":3: ", shown[i]);
    }
}

static void trace_sequence_long_remark_skipped(void **state)
{
    (void)state;
    const uint32_t wanted[] = {0, 1, 0};
    for (size_t length = 100; length < 600; length++) {
        char lines[700] = "1\n  #";
        size_t at = strlen(lines);
        memset(lines + at, '7', length);
        strcpy(lines + at + length, "\n2\n1\n");
        write_plain(lines);
        must_open();
        check_numbers(wanted, 3, 2);
    }
    /* and the lines behind it are counted right */
    char lines[700] = "#";
    memset(lines + 1, ' ', 300);
    strcpy(lines + 301, "\nx\n");
    write_plain(lines);
    must_fail(":2: ", "\"x\"");
    strcpy(lines + 301, "");
    write_plain(lines);
    must_fail(": ", "no page number");
}

static void trace_sequence_long_line_is_bad(void **state)
{
    (void)state;
    char lines[512];
    memset(lines, ' ', sizeof lines);
    memcpy(lines, "1\n2\n", 4);
    lines[400] = '9';
    memcpy(&lines[401], "\n", 2);
    write_plain(lines);
    must_fail(":3: ", "not a page number");
}

static void trace_sequence_missing_or_empty_file(void **state)
{
    (void)state;
    must_fail(": ", "No such file");
    assert_int_equal(trace_sequence_open(".", 0, &sequence, text, sizeof text), -1);
    assert_non_null(strstr(text, "Is a directory"));
    write_plain("");
    must_fail(": ", "no page number");
    write_plain("# nothing\n");
    must_fail(": ", "no page number");
}

static void trace_sequence_name_without_folder_and_endings(void **state)
{
    (void)state;
    char wanted[64];
    write_plain("1\n");
    must_open();
    snprintf(wanted, sizeof wanted, "trace-%d", (int)getpid());
    assert_string_equal(sequence.name, wanted);
    trace_sequence_close(&sequence);
    char elsewhere[80];
    snprintf(elsewhere, sizeof elsewhere, "./%s", path);
    assert_int_equal(trace_sequence_open(elsewhere, 0, &sequence, text, sizeof text), 0);
    assert_string_equal(sequence.name, wanted);
    trace_sequence_close(&sequence);
}

static void trace_sequence_synthetic_follows_the_seed(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < TRACE_SYNTHETIC_KINDS; kind++) {
        struct trace_sequence again, other;
        char name[64];
        snprintf(name, sizeof name, "synthetic:%s", trace_synthetic_kinds[kind]);
        assert_int_equal(trace_sequence_open(name, 5, &sequence, text, sizeof text), 0);
        assert_int_equal(trace_sequence_open(name, 5, &again, text, sizeof text), 0);
        assert_int_equal(trace_sequence_open(name, 6, &other, text, sizeof text), 0);
        size_t bytes = sequence.access_count * sizeof *sequence.accesses;
        assert_int_equal(sequence.access_count, again.access_count);
        assert_int_equal(sequence.access_count, other.access_count);
        assert_memory_equal(sequence.accesses, again.accesses, bytes);
        assert_memory_not_equal(sequence.accesses, other.accesses, bytes);
        assert_string_equal(sequence.name, name);
        trace_sequence_close(&sequence);
        trace_sequence_close(&again);
        trace_sequence_close(&other);
    }
    assert_int_equal(trace_sequence_open("synthetic:nothing", 1, &sequence, text, sizeof text), -1);
    assert_non_null(strstr(text, "scan, loop and shift"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trace_sequence_missing_or_empty_file),
        cmocka_unit_test(trace_sequence_pages_numbered_by_first_access),
        cmocka_unit_test(trace_sequence_few_bits_differ_slots_apart),
        cmocka_unit_test(trace_sequence_blanks_and_remarks_skipped),
        cmocka_unit_test(trace_sequence_gzip_read_as_plain),
        cmocka_unit_test(trace_sequence_gzip_cut_off_is_told),
        cmocka_unit_test(trace_sequence_bad_line_is_named),
        cmocka_unit_test(trace_sequence_zero_byte_is_bad),
        cmocka_unit_test(trace_sequence_long_remark_skipped),
        cmocka_unit_test(trace_sequence_long_line_is_bad),
        cmocka_unit_test(trace_sequence_name_without_folder_and_endings),
        cmocka_unit_test(trace_sequence_synthetic_follows_the_seed),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
