/* SPDX-License-Identifier: MIT */
/* Damaged and hostile files: never a signal, never wrong bytes, always the right code. */
#include "helpers.h"

#include "format.h"

#define COUNT 40u

static uint64_t first_page;

/* A closed store with COUNT pages, page i holding version i. */
static void make_store(void)
{
    struct cp_pager *pager = create_store(new_store(), 0, 0);
    first_page = cp_pager_first_page(pager);
    for (unsigned i = 0; i < COUNT; i++)
        allocate_filled(pager, i);
    assert_ok(cp_pager_close(pager));
}

static int open_code(void)
{
    struct cp_pager *pager = NULL;
    struct cp_pager_options options = options_of(0, 0);
    int code = cp_pager_open(store_path(), &options, &pager);
    if (code == 0)
        assert_ok(cp_pager_close(pager));
    return code;
}

static void expect_bad_page(uint64_t page, int expected)
{
    struct cp_pager *pager = open_store(store_path());
    struct cp_fix fix;
    char byte;
    assert_code(cp_pager_fix(pager, page, CP_SHARED, &fix), expected);
    assert_int_equal(cp_error_info()->page, page);
    assert_string_equal(cp_error_info()->path, data_path());
    assert_true(cp_error_info()->hint[0] != '\0');
    assert_code(cp_pager_fix(pager, page, CP_EXCLUSIVE, &fix), expected);
    assert_code(cp_pager_read(pager, page, 0, &byte, 1), expected);
    assert_code(cp_pager_fix_many(pager, &page, 1, CP_SHARED, &fix), expected);
    struct cp_ticket ticket;
    assert_ok(cp_pager_begin(pager, &page, 1, CP_SHARED, &ticket));
    assert_code(cp_pager_wait(pager, &ticket), expected);
    for (unsigned i = 0; i < COUNT; i++) { /* the others are as good as before */
        if (first_page + i != page)
            assert_true(check_page(pager, first_page + i, i));
    }
    assert_int_equal(cp_pager_check(pager, NULL, NULL, NULL), 1);
    assert_ok(cp_pager_close(pager));
}

static void flipped_bit_gives_echecksum(void **state)
{
    (void)state;
    uint64_t random = test_seed();
    for (unsigned i = 0; i < 12; i++) {
        make_store();
        uint64_t page = first_page + below(&random, COUNT);
        uint64_t offset = i == 0 ? 4095 : i == 1 ? 4064 : i == 2 ? 4072 : below(&random, 4096);
        flip_bit(data_path(), page * 4096 + offset, (unsigned)below(&random, 8));
        expect_bad_page(page, CP_ECHECKSUM);
    }
}

static void swapped_page_gives_emisplaced_with_its_number(void **state)
{
    (void)state;
    unsigned char page[4096];
    make_store();
    read_file(data_path(), (first_page + 3) * 4096, page, sizeof page);
    write_file(data_path(), (first_page + 9) * 4096, page, sizeof page);
    expect_bad_page(first_page + 9, CP_EMISPLACED);
    struct cp_pager *pager = open_store(store_path());
    struct cp_fix fix;
    char number[24];
    assert_code(cp_pager_fix(pager, first_page + 9, CP_SHARED, &fix), CP_EMISPLACED);
    snprintf(number, sizeof number, "number %llu", (unsigned long long)first_page + 3);
    assert_non_null(strstr(cp_error_info()->what, number));
    assert_ok(cp_pager_close(pager));
}

static void page_of_another_store_gives_eforeign(void **state)
{
    (void)state;
    unsigned char page[4096];
    make_store();
    read_file(data_path(), (first_page + 5) * 4096, page, sizeof page);
    make_store();
    write_file(data_path(), (first_page + 5) * 4096, page, sizeof page);
    expect_bad_page(first_page + 5, CP_EFOREIGN);
}

static void zeroed_page_gives_eunwritten(void **state)
{
    (void)state;
    static const unsigned char zeros[4096];
    make_store();
    write_file(data_path(), (first_page + 5) * 4096, zeros, sizeof zeros);
    expect_bad_page(first_page + 5, CP_EUNWRITTEN);
    struct cp_pager *pager = open_store(store_path());
    struct cp_fix fix;
    assert_code(cp_pager_fix(pager, first_page + 5, CP_SHARED, &fix), CP_EUNWRITTEN);
    assert_ok(cp_pager_close(pager));
}

static void torn_page_gives_echecksum(void **state)
{
    (void)state;
    unsigned char old[512];
    make_store();
    read_file(data_path(), (first_page + 5) * 4096 + 1024, old, sizeof old);
    struct cp_pager *pager = open_store(store_path());
    update_page(pager, first_page + 5, 77);
    assert_ok(cp_pager_close(pager));
    write_file(data_path(), (first_page + 5) * 4096 + 1024, old, sizeof old);
    expect_bad_page(first_page + 5, CP_ECHECKSUM);
}

static void truncated_file_gives_eformat_with_both_sizes(void **state)
{
    (void)state;
    make_store();
    uint64_t size = file_size(data_path());
    const uint64_t cuts[] = {size - 1, size - 4096, size / 2 + 13, 131072, 131071, 65536, 4096, 1,
                             0};
    for (unsigned i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        assert_int_equal(truncate(data_path(), (off_t)cuts[i]), 0);
        assert_code(open_code(), CP_EFORMAT);
        char number[24];
        snprintf(number, sizeof number, "%llu", (unsigned long long)cuts[i]);
        assert_non_null(strstr(cp_error_info()->what, number));
        assert_string_equal(cp_error_info()->path, data_path());
    }
}

static void file_cut_while_open_is_an_error_on_first_touch(void **state)
{
    (void)state;
    make_store();
    struct cp_pager *pager = open_store(store_path());
    struct cp_fix fix;
    assert_int_equal(truncate(data_path(), (off_t)((first_page + 20) * 4096)), 0);
    assert_true(check_page(pager, first_page + 19, 19));
    assert_code(cp_pager_fix(pager, first_page + 20, CP_SHARED, &fix), -ENODATA);
    assert_code(cp_pager_fix(pager, first_page + 39, CP_EXCLUSIVE, &fix), -ENODATA);
    assert_ok(cp_pager_close(pager));
}

static void one_damaged_superblock_is_survived_two_are_named(void **state)
{
    (void)state;
    for (unsigned slot = 0; slot < 2; slot++) {
        make_store();
        flip_bit(data_path(), slot * 65536 + 40, 2);
        assert_ok(open_code());
    }
    make_store();
    flip_bit(data_path(), 100, 2);
    flip_bit(data_path(), 65536 + 100, 2);
    assert_code(open_code(), CP_ECHECKSUM);
    make_store();
    flip_bit(data_path(), 0, 0);
    flip_bit(data_path(), 65536, 0);
    assert_code(open_code(), CP_EFORMAT);
}

static void rewrite_superblocks(struct cp_superblock slots[2])
{
    for (unsigned i = 0; i < 2; i++) {
        cp_pager__superblock_seal(&slots[i]);
        write_file(data_path(), i * 65536, &slots[i], sizeof slots[i]);
    }
}

static void read_superblocks(struct cp_superblock slots[2])
{
    for (unsigned i = 0; i < 2; i++)
        read_file(data_path(), i * 65536, &slots[i], sizeof slots[i]);
}

static void unknown_version_gives_eversion_with_hint(void **state)
{
    (void)state;
    struct cp_superblock slots[2];
    make_store();
    read_superblocks(slots);
    slots[0].version = slots[1].version = CP_FORMAT_VERSION + 1;
    rewrite_superblocks(slots);
    assert_code(open_code(), CP_EVERSION);
    assert_true(cp_error_info()->hint[0] != '\0');
    slots[0].version = slots[1].version = CP_FORMAT_VERSION;
    slots[0].flags = slots[1].flags = 0x80;
    rewrite_superblocks(slots);
    assert_code(open_code(), CP_EVERSION);
}

static void garbage_file_gives_eformat(void **state)
{
    (void)state;
    uint64_t random = test_seed();
    make_store();
    for (uint64_t offset = 0; offset < file_size(data_path()); offset += 8) {
        uint64_t word = next_random(&random);
        write_file(data_path(), offset, &word, 8);
        if (offset == 4096)
            offset = 65536 - 8; /* the slots are what is looked at */
        if (offset == 65536 + 4096)
            break;
    }
    assert_code(open_code(), CP_EFORMAT);
    unlink(data_path());
    assert_int_equal(mkdir(data_path(), 0700), 0);
    assert_code(open_code(), CP_EFORMAT);
}

static void damaged_space_map_is_refused(void **state)
{
    (void)state;
    make_store();
    flip_bit(data_path(), (first_page - 1) * 4096 + 77, 3);
    assert_code(open_code(), CP_ECHECKSUM);
    assert_int_equal(cp_error_info()->page, first_page - 1);
    /* Sealed again, but it says that it is free itself, or names pages behind the end. */
    for (unsigned variant = 0; variant < 2; variant++) {
        unsigned char map[4096];
        struct cp_superblock slots[2];
        make_store();
        read_superblocks(slots);
        read_file(data_path(), (first_page - 1) * 4096, map, sizeof map);
        if (variant == 0)
            map[0] &= 0xfe;
        else
            map[3000] |= 0x10;
        struct cp_page_format format = {4096, slots[0].store_id, "", NULL};
        cp_pager__page_seal(&format, map, first_page - 1, 0);
        write_file(data_path(), (first_page - 1) * 4096, map, sizeof map);
        assert_code(open_code(), CP_EFORMAT);
    }
}

static bool allowed(int code)
{
    return code == 0 || code == CP_EREADONLY || code == CP_EFORMAT || code == CP_EVERSION ||
           code == CP_ECHECKSUM || code == CP_EUNWRITTEN || code == CP_EFOREIGN ||
           code == CP_EMISPLACED || code == CP_ENOPAGE || code == -ENODATA;
}

/* Fields at random and at their limits, checksums right: use what opens, a little. */
static void hostile_superblocks_never_kill(void **state)
{
    (void)state;
    static const uint64_t interesting[] = {0,
                                           1,
                                           2,
                                           31,
                                           32,
                                           33,
                                           34,
                                           4095,
                                           4096,
                                           4097,
                                           8192,
                                           65536,
                                           131072,
                                           UINT32_MAX,
                                           UINT32_MAX - 1,
                                           UINT64_C(1) << 32,
                                           UINT64_C(1) << 33,
                                           UINT64_C(1) << 52,
                                           UINT64_MAX,
                                           UINT64_MAX - 1,
                                           UINT64_MAX / 4096,
                                           INT64_MAX};
    uint64_t random = test_seed();
    struct cp_superblock good[2], slots[2];
    unsigned opened = 0;
    make_store();
    read_superblocks(good);
    for (unsigned i = 0; i < 1500; i++) {
        memcpy(slots, good, sizeof slots);
        for (unsigned changes = 1 + (unsigned)below(&random, 3); changes > 0; changes--) {
            struct cp_superblock *slot = &slots[below(&random, 2)];
            uint64_t value = below(&random, 4) == 0
                                 ? next_random(&random)
                                 : interesting[below(&random, sizeof interesting / 8)];
            switch (below(&random, 8)) {
            case 0:
                slot->page_size = (uint32_t)value;
                break;
            case 1:
                slot->page_count = value;
                break;
            case 2:
                slot->generation = value;
                break;
            case 3:
                slot->flags = (uint32_t)value;
                break;
            case 4:
                slot->store_id = value;
                break;
            case 5:
                slot->header_bytes = (uint32_t)value;
                break;
            case 6:
                slot->epoch = value;
                break;
            default:
                slot->version = (uint32_t)value;
                break;
            }
        }
        rewrite_superblocks(slots);
        struct cp_pager *pager = NULL;
        struct cp_pager_options options = options_of(0, 0);
        options.read_only = true;
        int code = cp_pager_open(store_path(), &options, &pager);
        if (!allowed(code)) {
            char text[800];
            fail_msg("case %u: %s", i, cp_error_format(text, sizeof text));
        }
        if (code != 0)
            continue;
        opened++;
        for (unsigned k = 0; k < 8; k++) {
            uint64_t word, page = cp_pager_first_page(pager) + below(&random, COUNT + 4);
            code = cp_pager_read(pager, page, 0, &word, sizeof word);
            assert_true(allowed(code));
        }
        assert_ok(cp_pager_close(pager));
    }
    print_message("%u of 1500 opened\n", opened);
}

/* Any bit of the file: what can be read is right, or there is an error. */
static void flipped_bits_anywhere_never_give_wrong_bytes(void **state)
{
    (void)state;
    uint64_t random = test_seed();
    unsigned noticed = 0;
    make_store();
    uint64_t size = file_size(data_path());
    for (unsigned i = 0; i < 400; i++) {
        uint64_t offset = below(&random, 3) == 0 ? below(&random, 64) + 65536 * below(&random, 2)
                                                 : below(&random, size);
        unsigned bit = (unsigned)below(&random, 8);
        flip_bit(data_path(), offset, bit);
        struct cp_pager *pager = NULL;
        struct cp_pager_options options = options_of(0, 0);
        options.read_only = true;
        int code = cp_pager_open(store_path(), &options, &pager);
        assert_true(allowed(code));
        for (unsigned k = 0; code == 0 && k < COUNT; k++) {
            struct cp_fix fix;
            int got = cp_pager_fix(pager, first_page + k, CP_SHARED, &fix);
            assert_true(allowed(got));
            noticed += got != 0;
            if (got == 0) {
                assert_true(page_is(fix.data, 4064, first_page + k, k));
                cp_pager_unfix(pager, &fix);
            }
        }
        noticed += code != 0;
        if (code == 0)
            assert_ok(cp_pager_close(pager));
        flip_bit(data_path(), offset, bit);
    }
    print_message("%u of 400 flips noticed (the rest lies in unused header bytes)\n", noticed);
}

/* The file of the closed store's log that holds its end; the end's block is at *out_offset. */
static const char *log_end_file(uint64_t *out_offset)
{
    static char path[900];
    struct cp_store_info info;
    assert_ok(cp_pager_inspect(store_path(), NULL, &info));
    const uint64_t blocks = (info.log_segment_bytes - 4096) / CP_WAL_BLOCK_BYTES;
    const uint64_t block = (info.checkpoint_lsn - 1) / 488;
    *out_offset = 4096 + block % blocks * CP_WAL_BLOCK_BYTES;
    for (unsigned i = 1; i <= info.log_segments; i++) {
        uint64_t number;
        snprintf(path, sizeof path, "%s/wal/segment-%08u", store_path(), i);
        read_file(path, 24, &number, sizeof number);
        if (number == block / blocks)
            return path;
    }
    fail();
    return NULL;
}

/* All pages can be read, none can be changed, and the store stays closed. */
static void expect_no_change(void)
{
    struct cp_store_info before, after;
    struct cp_fix fix;
    struct cp_mtr *mtr;
    assert_ok(cp_pager_inspect(store_path(), NULL, &before));
    struct cp_pager *pager = open_store(store_path());
    for (unsigned i = 0; i < COUNT; i++)
        assert_true(check_page(pager, first_page + i, i));
    for (unsigned i = 0; i < 2; i++) { /* the error does not go away */
        assert_code(cp_mtr_begin(pager, &mtr), CP_EDAMAGED);
        assert_non_null(strstr(cp_error_info()->hint, "one backup"));
        assert_code(cp_pager_allocate(pager, &fix), CP_EDAMAGED);
    }
    assert_int_equal(cp_pager_check(pager, NULL, NULL, NULL), 0);
    assert_ok(cp_pager_close(pager));
    assert_ok(cp_pager_inspect(store_path(), NULL, &after));
    assert_int_equal(after.generation, before.generation);
    assert_false(after.unclean);
}

/* What a session would commit behind such an end could not be recovered. */
static void closed_store_without_its_log_takes_no_commits(void **state)
{
    (void)state;
    uint64_t offset, page;
    make_store();
    const uint64_t data_bytes = file_size(data_path());
    const char *path = log_end_file(&offset);
    const uint64_t log_bytes = file_size(path);
    uint8_t *data = malloc(data_bytes), *newer = malloc(data_bytes), *log = malloc(log_bytes);
    read_file(data_path(), 0, data, data_bytes);
    read_file(path, 0, log, log_bytes);
    flip_bit(path, offset + 100, 3);
    expect_no_change();
    for (uint64_t cut = 4096; cut < log_bytes; cut += 4096) {
        assert_int_equal(truncate(path, (off_t)cut), 0);
        expect_no_change();
        write_file(path, 0, log, log_bytes);
    }
    /* Data and log of different times. */
    for (unsigned i = 0; i < 3; i++) {
        struct cp_pager *pager = open_store(store_path());
        commit_page(pager, first_page, 100 + i);
        assert_ok(cp_pager_close(pager));
    }
    assert_int_equal(file_size(data_path()), data_bytes);
    read_file(data_path(), 0, newer, data_bytes);
    write_file(data_path(), 0, data, data_bytes);
    expect_no_change();
    write_file(data_path(), 0, newer, data_bytes);
    struct cp_pager *pager = open_store(store_path());
    page = allocate_filled(pager, 5);
    commit_page(pager, page, 6);
    cp_pager_abandon(pager);
    pager = open_store(store_path());
    assert_true(check_page(pager, page, 6));
    assert_ok(cp_pager_close(pager));
    free(data);
    free(newer);
    free(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flipped_bit_gives_echecksum),
        cmocka_unit_test(swapped_page_gives_emisplaced_with_its_number),
        cmocka_unit_test(page_of_another_store_gives_eforeign),
        cmocka_unit_test(zeroed_page_gives_eunwritten),
        cmocka_unit_test(torn_page_gives_echecksum),
        cmocka_unit_test(truncated_file_gives_eformat_with_both_sizes),
        cmocka_unit_test(file_cut_while_open_is_an_error_on_first_touch),
        cmocka_unit_test(one_damaged_superblock_is_survived_two_are_named),
        cmocka_unit_test(unknown_version_gives_eversion_with_hint),
        cmocka_unit_test(garbage_file_gives_eformat),
        cmocka_unit_test(damaged_space_map_is_refused),
        cmocka_unit_test(hostile_superblocks_never_kill),
        cmocka_unit_test(flipped_bits_anywhere_never_give_wrong_bytes),
        cmocka_unit_test(closed_store_without_its_log_takes_no_commits),
    };
    int failed = RUN_ENGINE(CP_ENGINE_POOL, tests);
    return failed + RUN_ENGINE(CP_ENGINE_MMAP, tests);
}
