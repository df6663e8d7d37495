/* SPDX-License-Identifier: MIT */
/* Which states follow from a trace: hand-made traces whose states can be counted by hand. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "states.h"

#define IMAGES_MAX 8192u

/* An image in a line: "name size letters", a letter for each sector, '.' for zeros. */
struct images {
    struct crash_states *states;
    char *lines[IMAGES_MAX];
    uint64_t hashes[IMAGES_MAX];
    unsigned count, visited;
};

static uint8_t *sector_of(char letter)
{
    static uint8_t bytes[8 * CRASH_SECTOR_BYTES];
    memset(bytes, letter, sizeof bytes);
    return bytes;
}

static char *describe(struct crash_states *states)
{
    const struct crash_file_view *views;
    uint32_t count = crash_states_files(states, &views);
    char line[512] = "";
    size_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        at +=
            (size_t)snprintf(line + at, sizeof line - at, "%s%s", i > 0 ? " " : "", views[i].path);
        if (views[i].directory) {
            at += (size_t)snprintf(line + at, sizeof line - at, "/");
            continue;
        }
        at += (size_t)snprintf(line + at, sizeof line - at, ":%u:", (unsigned)views[i].size);
        for (uint64_t s = 0; s * CRASH_SECTOR_BYTES < views[i].size; s++) {
            uint8_t buffer[CRASH_SECTOR_BYTES];
            const uint8_t *bytes = crash_states_bytes(states, views[i].file, s * CRASH_SECTOR_BYTES,
                                                      CRASH_SECTOR_BYTES, buffer);
            bytes = bytes != NULL ? bytes : buffer;
            line[at++] = bytes[0] != 0 ? (char)bytes[0] : '.';
            line[at] = '\0';
        }
    }
    return strdup(line);
}

static bool collect(void *ctx, struct crash_mask mask, uint64_t hash)
{
    struct images *images = ctx;
    char text[CRASH_MASK_BYTES];
    struct crash_mask parsed;
    images->visited++;
    char *line = describe(images->states);
    assert_true(crash_mask_parse(crash_mask_format(mask, text), &parsed));
    assert_int_equal(parsed.kind, mask.kind);
    assert_int_equal(parsed.value, mask.value);
    for (unsigned i = 0; i < images->count; i++) {
        /* Equal hashes exactly for equal images. */
        assert_int_equal(images->hashes[i] == hash, strcmp(images->lines[i], line) == 0);
        if (images->hashes[i] == hash) {
            free(line);
            return true;
        }
    }
    assert_true(images->count < IMAGES_MAX);
    images->hashes[images->count] = hash;
    images->lines[images->count++] = line;
    return true;
}

static void forget(struct images *images)
{
    for (unsigned i = 0; i < images->count; i++)
        free(images->lines[i]);
    images->count = images->visited = 0;
}

/* All states at a point of the trace must be exactly these, NULL at the end. */
static void expect(const struct crash_trace *trace, uint64_t point, const char *const *wanted)
{
    struct images images = {.states = crash_states_create(trace, 1)};
    crash_states_seek(images.states, point);
    crash_states_visit(images.states, false, collect, &images);
    unsigned count = 0;
    for (; wanted[count] != NULL; count++) {
        bool found = false;
        for (unsigned i = 0; i < images.count; i++)
            found |= strcmp(images.lines[i], wanted[count]) == 0;
        if (!found)
            printf("missing: %s\n", wanted[count]);
        assert_true(found);
    }
    if (images.count != count) {
        for (unsigned i = 0; i < images.count; i++)
            printf("have: %s\n", images.lines[i]);
    }
    assert_int_equal(images.count, count);
    forget(&images);
    crash_states_destroy(images.states);
}
#define EXPECT(trace, ...)                                                                         \
    expect(trace, crash_trace_length(trace), (const char *const[]){__VA_ARGS__, NULL})

/* A durable file "f" of three sectors, "abc". */
static struct crash_trace *start(uint32_t *out_file)
{
    struct crash_trace *trace = crash_trace_create();
    uint8_t bytes[3 * CRASH_SECTOR_BYTES];
    for (unsigned i = 0; i < 3; i++)
        memset(bytes + i * CRASH_SECTOR_BYTES, 'a' + (int)i, CRASH_SECTOR_BYTES);
    *out_file = crash_trace_create_file(trace, "f");
    crash_trace_write_end(trace,
                          crash_trace_write_begin(trace, *out_file, 0, bytes, sizeof bytes, 0));
    crash_trace_flush_end(trace, crash_trace_flush_begin(trace, *out_file), 0);
    crash_trace_directory_sync(trace, "");
    crash_trace_baseline(trace);
    return trace;
}

static uint64_t put(struct crash_trace *trace, uint32_t file, unsigned sector, char letter,
                    unsigned sectors)
{
    uint64_t begin = crash_trace_write_begin(trace, file, sector * CRASH_SECTOR_BYTES,
                                             sector_of(letter), sectors * CRASH_SECTOR_BYTES, 0);
    crash_trace_write_end(trace, begin);
    return begin;
}

static void states_write_tears_at_sectors(void **state)
{
    (void)state;
    uint32_t file;
    struct crash_trace *trace = start(&file);
    EXPECT(trace, "f:1536:abc");
    put(trace, file, 0, 'X', 2);
    EXPECT(trace, "f:1536:abc", "f:1536:Xbc", "f:1536:aXc", "f:1536:XXc");
    put(trace, file, 1, 'Y', 1); /* over a pending sector: either write, or none */
    EXPECT(trace, "f:1536:abc", "f:1536:Xbc", "f:1536:aXc", "f:1536:XXc", "f:1536:aYc",
           "f:1536:XYc");
    crash_trace_destroy(trace);
}

static void states_flush_covers_what_had_ended(void **state)
{
    (void)state;
    uint32_t file;
    struct crash_trace *trace = start(&file);
    put(trace, file, 0, 'X', 1);
    uint64_t late = crash_trace_write_begin(trace, file, CRASH_SECTOR_BYTES, sector_of('Y'),
                                            CRASH_SECTOR_BYTES, 0);
    uint64_t flush = crash_trace_flush_begin(trace, file);
    crash_trace_write_end(trace, late);
    put(trace, file, 2, 'Z', 1);
    EXPECT(trace, "f:1536:abc", "f:1536:Xbc", "f:1536:aYc", "f:1536:abZ", "f:1536:XYc",
           "f:1536:XbZ", "f:1536:aYZ", "f:1536:XYZ");
    crash_trace_flush_end(trace, flush, 0);
    EXPECT(trace, "f:1536:Xbc", "f:1536:XYc", "f:1536:XbZ", "f:1536:XYZ");
    crash_trace_flush_end(trace, crash_trace_flush_begin(trace, file), 0);
    EXPECT(trace, "f:1536:XYZ");
    crash_trace_destroy(trace);
}

static void states_failed_flush_leaves_uncertain_for_ever(void **state)
{
    (void)state;
    uint32_t file;
    struct crash_trace *trace = start(&file);
    put(trace, file, 0, 'X', 1);
    crash_trace_flush_end(trace, crash_trace_flush_begin(trace, file), -5);
    crash_trace_flush_end(trace, crash_trace_flush_begin(trace, file), 0);
    EXPECT(trace, "f:1536:abc", "f:1536:Xbc");
    put(trace, file, 0, 'Y', 1); /* written again, and flushed without a failure */
    crash_trace_flush_end(trace, crash_trace_flush_begin(trace, file), 0);
    EXPECT(trace, "f:1536:Ybc");
    crash_trace_destroy(trace);
}

static void states_dsync_write_is_durable_at_its_end(void **state)
{
    (void)state;
    uint32_t file;
    struct crash_trace *trace = start(&file);
    put(trace, file, 0, 'X', 1);
    uint64_t begin = crash_trace_write_begin(trace, file, 3 * CRASH_SECTOR_BYTES, sector_of('D'),
                                             CRASH_SECTOR_BYTES, CRASH_DSYNC);
    EXPECT(trace, "f:1536:abc", "f:1536:Xbc", "f:2048:abcD", "f:2048:XbcD", "f:2048:abc.",
           "f:2048:Xbc.");
    crash_trace_write_end(trace, begin);
    EXPECT(trace, "f:2048:abcD", "f:2048:XbcD");
    crash_trace_destroy(trace);
}

static void states_size_needs_flush(void **state)
{
    (void)state;
    uint32_t file;
    struct crash_trace *trace = start(&file);
    crash_trace_resize(trace, file, 600);
    EXPECT(trace, "f:1536:abc", "f:600:ab");
    crash_trace_allocate(trace, file, 1024); /* zeros, also over what the cut dropped */
    EXPECT(trace, "f:1536:abc", "f:600:ab", "f:1024:ab");
    crash_trace_flush_end(trace, crash_trace_flush_begin(trace, file), 0);
    EXPECT(trace, "f:1024:ab");
    crash_trace_destroy(trace);
}

/* They change nothing where there is room and nothing was written; over something they do. */
static void states_zeros_in_empty_room_are_no_units(void **state)
{
    uint8_t bytes[4 * CRASH_SECTOR_BYTES] = {0};
    struct crash_trace *trace = crash_trace_create();
    (void)state;
    uint32_t file = crash_trace_create_file(trace, "f");
    crash_trace_allocate(trace, file, sizeof bytes);
    crash_trace_flush_end(trace, crash_trace_flush_begin(trace, file), 0);
    crash_trace_directory_sync(trace, "");
    crash_trace_baseline(trace);
    memset(bytes + CRASH_SECTOR_BYTES, 'B', CRASH_SECTOR_BYTES);
    uint64_t begun = crash_trace_write_begin(trace, file, 0, bytes, sizeof bytes, 0);
    EXPECT(trace, "f:2048:....", "f:2048:.B..");
    struct crash_states *states = crash_states_create(trace, 1);
    crash_states_seek(states, crash_trace_length(trace));
    assert_int_equal(crash_states_pending(states), 1);
    crash_states_destroy(states);
    crash_trace_write_end(trace, begun);
    crash_trace_flush_end(trace, crash_trace_flush_begin(trace, file), 0);
    EXPECT(trace, "f:2048:.B..");
    crash_trace_write_begin(trace, file, CRASH_SECTOR_BYTES, sector_of(0), CRASH_SECTOR_BYTES, 0);
    EXPECT(trace, "f:2048:.B..", "f:2048:....");
    crash_trace_destroy(trace);
}

static void states_names_need_directory_sync(void **state)
{
    (void)state;
    uint32_t file;
    struct crash_trace *trace = start(&file);
    uint32_t made = crash_trace_create_file(trace, "t");
    EXPECT(trace, "f:1536:abc", "f:1536:abc t:0:");
    put(trace, made, 0, 'T', 1);
    crash_trace_flush_end(trace, crash_trace_flush_begin(trace, made), 0);
    EXPECT(trace, "f:1536:abc", "f:1536:abc t:512:T");
    crash_trace_directory_sync(trace, "");
    crash_trace_rename(trace, "t", "f");
    EXPECT(trace, "f:1536:abc t:512:T", "f:512:T");
    crash_trace_directory_sync(trace, "");
    EXPECT(trace, "f:512:T");
    crash_trace_unlink(trace, "f");
    EXPECT(trace, "f:512:T", "");
    crash_trace_destroy(trace);
}

static void states_directories_carry_their_files(void **state)
{
    (void)state;
    uint32_t file;
    struct crash_trace *trace = start(&file);
    crash_trace_mkdir(trace, "d");
    crash_trace_directory_sync(trace, "");
    uint32_t inner = crash_trace_create_file(trace, "d/x");
    put(trace, inner, 0, 'I', 1);
    crash_trace_flush_end(trace, crash_trace_flush_begin(trace, inner), 0);
    EXPECT(trace, "f:1536:abc d/", "f:1536:abc d/ d/x:512:I");
    crash_trace_directory_sync(trace, "d");
    crash_trace_rename(trace, "d", "e");
    EXPECT(trace, "f:1536:abc d/ d/x:512:I", "f:1536:abc e/ e/x:512:I");
    assert_int_equal(crash_trace_find(trace, "e/x"), inner);
    crash_trace_destroy(trace);
}

static void states_unaligned_writes_compose_sectors(void **state)
{
    (void)state;
    uint32_t file;
    struct crash_trace *trace = start(&file);
    struct crash_states *states;
    crash_trace_write_end(trace, crash_trace_write_begin(trace, file, 100, "12", 2, 0));
    crash_trace_write_end(trace, crash_trace_write_begin(trace, file, 200, "3", 1, 0));
    states = crash_states_create(trace, 1);
    crash_states_seek(states, crash_trace_length(trace));
    static const char *const wanted[] = {"aaa", "12a", "aa3", "123"};
    for (unsigned i = 0; i < 4; i++) {
        uint8_t buffer[CRASH_SECTOR_BYTES];
        assert_true(crash_states_choose(states, (struct crash_mask){'m', i}));
        const uint8_t *bytes = crash_states_bytes(states, file, 0, CRASH_SECTOR_BYTES, buffer);
        bytes = bytes != NULL ? bytes : buffer;
        assert_memory_equal(bytes + 100, wanted[i], 2);
        assert_int_equal(bytes[200], wanted[i][2]);
        assert_int_equal(bytes[99], 'a');
        assert_int_equal(bytes[201], 'a');
    }
    crash_states_destroy(states);
    crash_trace_destroy(trace);
}

/* Beyond the exhaustive bound: every prefix, each unit or write left out or alone, over the points
 * of the trace; and each point's masks name the same image again. */
static void states_many_pending_have_prefixes_and_singles(void **state)
{
    (void)state;
    uint32_t file;
    struct crash_trace *trace = start(&file);
    struct images images = {0};
    for (unsigned i = 0; i < 20; i++)
        put(trace, file, i, (char)('A' + i), 1);
    images.states = crash_states_create(trace, 1);
    do
        crash_states_visit(images.states, true, collect, &images);
    while (crash_states_next(images.states));
    /* Sizes are units too, so some states differ in their size alone: look at letters. */
    for (unsigned i = 0; i < 20; i++) {
        bool prefix = false, dropped = false;
        for (unsigned j = 0; j < images.count; j++) {
            const char *letters = strrchr(images.lines[j], ':') + 1;
            unsigned kept = 0, length = (unsigned)strlen(letters);
            while (kept < length && letters[kept] == (char)('A' + kept))
                kept++;
            prefix |= kept == i + 1 && (kept == length || strspn(letters + kept, "abc.") > 0);
            dropped |= length == 20 && kept == i &&
                       strspn(letters + i + 1, "ABCDEFGHIJKLMNOPQRST") == 20 - i - 1;
        }
        assert_true(prefix);
        assert_true(dropped);
    }
    assert_true(images.count > 500);
    forget(&images);
    crash_states_destroy(images.states);
    crash_trace_destroy(trace);
}

/* Is the point behind the trace's event `index` visited, with so many of all states? */
static void expect_visit(const struct crash_trace *trace, uint64_t index, unsigned count)
{
    struct images images = {.states = crash_states_create(trace, 1)};
    bool found = false;
    do {
        images.visited = 0;
        crash_states_visit(images.states, true, collect, &images);
        found = crash_states_point(images.states) == index + 1;
    } while (!found && crash_states_next(images.states));
    assert_true(found);
    assert_int_equal(images.visited, count);
    forget(&images);
    crash_states_destroy(images.states);
}

/* An acknowledgement asks more of the states there are then; what follows may take them away. */
static void states_are_asked_again_at_an_acknowledgement(void **state)
{
    (void)state;
    uint32_t file;
    struct crash_trace *trace = start(&file);
    put(trace, file, 0, 'X', 1);
    uint64_t flush = crash_trace_flush_begin(trace, file);
    uint64_t early = crash_trace_length(trace);
    crash_trace_mark(trace, CRASH_MARK_DURABLE, 0, 1, 1);
    crash_trace_flush_end(trace, flush, 0);
    put(trace, file, 1, 'Y', 1);
    uint64_t last = crash_trace_length(trace);
    crash_trace_mark(trace, CRASH_MARK_DURABLE, 0, 2, 2);
    expect_visit(trace, early, 2);
    expect_visit(trace, last, 2);
    crash_trace_destroy(trace);
}

static void states_same_mask_same_image(void **state)
{
    (void)state;
    uint32_t file;
    struct crash_trace *trace = start(&file);
    for (unsigned i = 0; i < 30; i++)
        put(trace, file, i % 7, (char)('A' + i), 1 + i % 3);
    struct crash_states *one = crash_states_create(trace, 9);
    struct crash_states *two = crash_states_create(trace, 9);
    crash_states_seek(one, crash_trace_length(trace));
    while (crash_states_next(two))
        ;
    static const char kinds[] = "pdkgws";
    for (unsigned i = 0; i < 6; i++) {
        for (uint64_t value = 0; value < 8; value++) {
            struct crash_mask mask = {kinds[i], value};
            assert_true(crash_states_choose(one, mask));
            assert_true(crash_states_choose(two, (struct crash_mask){'p', 0}));
            assert_true(crash_states_choose(two, mask));
            assert_true(crash_states_hash(one) == crash_states_hash(two));
        }
    }
    assert_false(crash_states_choose(one, (struct crash_mask){'d', 100000}));
    assert_false(crash_states_choose(one, (struct crash_mask){'g', 100000}));
    crash_states_destroy(one);
    crash_states_destroy(two);
    crash_trace_destroy(trace);
}

static void trace_file_keeps_everything_and_notices_damage(void **state)
{
    (void)state;
    uint32_t file;
    struct crash_trace *trace = start(&file), *loaded;
    char path[] = "/tmp/crash-trace-XXXXXX", first[256], second[256];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    put(trace, file, 1, 'X', 2);
    crash_trace_mark(trace, CRASH_MARK_COMMITTED, 2, 77, 123456789);
    crash_trace_rename(trace, "f", "g");
    crash_trace_set_note(trace, "a note");
    assert_int_equal(crash_trace_save(trace, path), 0);
    assert_int_equal(crash_trace_load(path, &loaded), 0);
    assert_int_equal(crash_trace_length(trace), crash_trace_length(loaded));
    assert_int_equal(crash_trace_baseline_length(trace), crash_trace_baseline_length(loaded));
    assert_string_equal(crash_trace_note(loaded), "a note");
    for (uint64_t i = 0; i < crash_trace_length(trace); i++)
        assert_string_equal(crash_trace_describe(trace, i, first, sizeof first),
                            crash_trace_describe(loaded, i, second, sizeof second));
    struct crash_states *states = crash_states_create(loaded, 1);
    crash_states_seek(states, crash_trace_length(loaded));
    assert_true(crash_states_choose(states, (struct crash_mask){'p', 3}));
    char *line = describe(states);
    assert_string_equal(line, "g:1536:aXX");
    free(line);
    crash_states_destroy(states);
    crash_trace_destroy(loaded);
    off_t size = lseek(fd, 0, SEEK_END);
    for (off_t at = 0; at < size; at += 37) {
        uint8_t byte, wrong;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        wrong = byte ^ 0x10;
        assert_int_equal(pwrite(fd, &wrong, 1, at), 1);
        assert_true(crash_trace_load(path, &loaded) < 0);
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    assert_int_equal(ftruncate(fd, size - 1), 0);
    assert_true(crash_trace_load(path, &loaded) < 0);
    close(fd);
    unlink(path);
    crash_trace_destroy(trace);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(states_write_tears_at_sectors),
        cmocka_unit_test(states_flush_covers_what_had_ended),
        cmocka_unit_test(states_failed_flush_leaves_uncertain_for_ever),
        cmocka_unit_test(states_dsync_write_is_durable_at_its_end),
        cmocka_unit_test(states_size_needs_flush),
        cmocka_unit_test(states_zeros_in_empty_room_are_no_units),
        cmocka_unit_test(states_names_need_directory_sync),
        cmocka_unit_test(states_directories_carry_their_files),
        cmocka_unit_test(states_unaligned_writes_compose_sectors),
        cmocka_unit_test(states_many_pending_have_prefixes_and_singles),
        cmocka_unit_test(states_are_asked_again_at_an_acknowledgement),
        cmocka_unit_test(states_same_mask_same_image),
        cmocka_unit_test(trace_file_keeps_everything_and_notices_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
