/* SPDX-License-Identifier: MIT */
/*
 * What stands at the end of a log after a crash, and what only damage can have left there. Crashes
 * are made from images of the files before and after a flush: any subset of the sectors that differ
 * may have reached the disk.
 */
#include "image.h"
#include "internal.h"

#include <clockpool/base/poison.h>

/* ---- all states after one flush, one after the other --------------------------------------------
 */

#define TAIL_SECTORS 9u

/* Groups flushed before, and groups written by one flush that a crash interrupts. */
struct tail {
    struct subject s;
    struct image before, after;
    uint64_t durable, total; /* groups */
    uint32_t sectors[64];    /* that differ, as sector numbers of the one file */
    unsigned sector_count;
};

static void make_tail(struct tail *t, uint32_t unit_bytes)
{
    cp_lsn end;
    memset(t, 0, sizeof *t);
    create_log(&t->s, SEGMENT);
    t->s.options.caching = CP_IO_BUFFERED;
    open_log(&t->s);
    t->s.wal->unit_bytes = unit_bytes;
    start_log(&t->s);
    for (; t->durable < 6; t->durable++) {
        assert_int_equal(append_group(t->s.wal, 0, t->durable, 150, &end), 0);
        assert_int_equal(cp_wal_flush(t->s.wal, end), 0);
    }
    image_take(&t->before, t->s.directory);
    for (t->total = t->durable; t->total < t->durable + 12; t->total++)
        assert_int_equal(append_group(t->s.wal, 0, t->total, 100 + (uint32_t)t->total * 17, &end),
                         0);
    assert_int_equal(cp_wal_flush(t->s.wal, end), 0);
    image_take(&t->after, t->s.directory);
    close_log(&t->s);
    assert_int_equal(t->before.count, 1);
    assert_int_equal(t->after.count, 1);
    for (uint32_t i = 0; i < SEGMENT / SECTOR; i++) {
        if (memcmp(t->before.files[0].bytes + i * SECTOR, t->after.files[0].bytes + i * SECTOR,
                   SECTOR) != 0)
            t->sectors[t->sector_count++] = i;
    }
    print_message("%u sectors differ\n", t->sector_count);
    assert_true(t->sector_count >= 6 && t->sector_count <= 12);
}

static void free_tail(struct tail *t)
{
    image_free(&t->before);
    image_free(&t->after);
    destroy_log(&t->s);
}

/* The state in which of the sectors that differ those in mask were written. */
static void check_state(struct tail *t, uint32_t mask)
{
    struct image mixed;
    struct found found;
    image_copy(&mixed, &t->before);
    for (unsigned i = 0; i < t->sector_count; i++) {
        if ((mask >> i & 1) != 0)
            memcpy(mixed.files[0].bytes + t->sectors[i] * SECTOR,
                   t->after.files[0].bytes + t->sectors[i] * SECTOR, SECTOR);
    }
    image_put(&mixed, t->s.directory);
    open_log(&t->s);
    int code = scan_log(&t->s, t->s.first, &found);
    if (code != 0 || found.wrong || found.groups < t->durable || found.groups > t->total)
        fail_msg("mask %x: code %d, %llu groups, %llu durable", mask, code,
                 (unsigned long long)found.groups, (unsigned long long)t->durable);
    assert_int_equal(t->s.end, found.end);
    if (mask == 0)
        assert_int_equal(found.groups, t->durable);
    if (mask == (1u << t->sector_count) - 1)
        assert_int_equal(found.groups, t->total);
    close_log(&t->s);
    image_free(&mixed);
}

static void tail_torn_anywhere_keeps_durable_groups(void **state)
{
    struct tail t;
    (void)state;
    for (uint32_t unit_bytes = 512; unit_bytes <= 4096; unit_bytes *= 8) {
        make_tail(&t, unit_bytes);
        for (uint32_t mask = 0; mask < 1u << t.sector_count; mask++)
            check_state(&t, mask);
        free_tail(&t);
    }
}

/* ---- crash after crash
 * --------------------------------------------------------------------------- */

#define GROUPS_MAX 4096u

/* What is known: which session each group came from, how many must be there, and may be. */
struct history {
    struct subject s;
    uint32_t epoch_of[GROUPS_MAX];
    cp_lsn end_of[GROUPS_MAX];
    uint64_t durable, attempted;
    cp_lsn redo;
    uint64_t redo_number; /* of the first group behind redo */
    uint64_t random;
};

struct reader {
    struct history *h;
    uint64_t next;
    bool wrong;
};

static int visit_history(void *ctx, const struct cp_wal_group *group)
{
    struct reader *reader = ctx;
    uint64_t words[2];
    struct history *h = reader->h;
    if (group->record_count != 1 || group->records[0].size_bytes < sizeof words) {
        reader->wrong = true;
        return 0;
    }
    memcpy(words, group->records[0].data, sizeof words);
    reader->wrong |= words[0] != reader->next || words[0] >= h->attempted ||
                     words[1] != h->epoch_of[words[0]] || group->epoch != words[1] ||
                     group->end != h->end_of[words[0]];
    reader->next++;
    return 0;
}

static void recover(struct history *h, struct cp_wal_options *options)
{
    struct reader reader = {.h = h, .next = h->redo_number};
    options->store_id = STORE_ID;
    assert_int_equal(cp_wal_open(h->s.io, h->s.directory, options, &h->s.wal), 0);
    int code = cp_wal_scan(h->s.wal, h->redo, visit_history, &reader, &h->s.end);
    if (code != 0 || reader.wrong || reader.next < h->durable || reader.next > h->attempted) {
        char text[500];
        fail_msg("%s; wrong %d, %llu groups, durable %llu, attempted %llu",
                 code != 0 ? cp_error_format(text, sizeof text) : "", reader.wrong,
                 (unsigned long long)reader.next, (unsigned long long)h->durable,
                 (unsigned long long)h->attempted);
    }
    /* What has been read back is the truth from now on. */
    h->durable = h->attempted = reader.next;
}

static void append_some(struct history *h, unsigned count)
{
    uint8_t data[3000];
    cp_lsn end;
    for (unsigned i = 0; i < count; i++) {
        uint64_t words[2] = {h->attempted, h->s.epoch};
        uint32_t size_bytes = 16 + (uint32_t)(next_random(&h->random) %
                                              (next_random(&h->random) % 8 == 0 ? 2900 : 200));
        memset(data, 0x5a, sizeof data);
        memcpy(data, words, sizeof words);
        struct cp_wal_record record = {.data = data, .size_bytes = size_bytes, .type = 9};
        assert_int_equal(cp_wal_append(h->s.wal, &record, 1, &end), 0);
        h->epoch_of[h->attempted] = h->s.epoch;
        h->end_of[h->attempted++] = end;
    }
}

/*
 * Put a state on disk between before and after: of one segment some sectors, of earlier ones all.
 * While a session starts, the header of a new segment comes after the block.
 */
static void crash_between(struct history *h, struct image *before, struct image *after,
                          bool starting)
{
    struct image mixed;
    image_copy(&mixed, before);
    uint64_t numbers[FILES_MAX];
    unsigned changed = 0;
    for (unsigned i = 0; i < after->count; i++) {
        struct image_file *new_file = &after->files[i];
        struct image_file *old_file = image_find(&mixed, new_file->name);
        if (old_file == NULL) { /* made and synced before it is used: zeros */
            image_add(&mixed, new_file->name, NULL, new_file->size_bytes);
            old_file = &mixed.files[mixed.count - 1];
        }
        if (memcmp(old_file->bytes, new_file->bytes, new_file->size_bytes) != 0)
            numbers[changed++] = image_number(new_file);
    }
    if (changed != 0) {
        uint64_t torn = numbers[next_random(&h->random) % changed];
        uint64_t kind = next_random(&h->random) % 4;
        for (unsigned i = 0; i < after->count; i++) {
            struct image_file *new_file = &after->files[i];
            struct image_file *old_file = image_find(&mixed, new_file->name);
            uint64_t number = image_number(new_file);
            bool all = starting && next_random(&h->random) % 3 == 0;
            for (uint64_t at = 0; at < new_file->size_bytes && number <= torn; at += SECTOR) {
                bool keep = kind == 0   ? next_random(&h->random) % 8 != 0
                            : kind == 1 ? next_random(&h->random) % 8 == 0
                                        : next_random(&h->random) % 2 == 0;
                if (starting && at == 0)
                    keep = false;
                if (number < torn || keep || all)
                    memcpy(old_file->bytes + at, new_file->bytes + at, SECTOR);
            }
        }
    }
    image_put(&mixed, h->s.directory);
    image_free(&mixed);
}

static void one_life(struct history *h)
{
    struct image before = {.count = 0}, after = {.count = 0};
    struct cp_wal_options options = {
        .buffer_bytes = BUFFER,
        .sync = next_random(&h->random) % 2 == 0 ? CP_WAL_SYNC_DSYNC : CP_WAL_SYNC_FDATASYNC,
        .caching = CP_IO_BUFFERED,
    };
    recover(h, &options);
    h->s.wal->unit_bytes = next_random(&h->random) % 2 == 0 ? 512 : 4096;
    unsigned flushes = (unsigned)(next_random(&h->random) % 6);
    if (flushes == 0) /* the crash comes while the session begins */
        image_take(&before, h->s.directory);
    h->s.epoch += 1 + (uint32_t)(next_random(&h->random) % 2);
    assert_int_equal(cp_wal_start(h->s.wal, h->s.end, h->s.epoch), 0);
    for (unsigned i = 1; i <= flushes; i++) {
        append_some(h, 1 + (unsigned)(next_random(&h->random) % 12));
        if (i == flushes)
            image_take(&before, h->s.directory);
        assert_int_equal(cp_wal_flush(h->s.wal, cp_wal_end(h->s.wal)), 0);
        if (i < flushes) {
            h->durable = h->attempted;
            if (next_random(&h->random) % 3 == 0) {
                h->redo = cp_wal_end(h->s.wal);
                h->redo_number = h->attempted;
                cp_wal_trim(h->s.wal, h->redo);
            }
        }
    }
    image_take(&after, h->s.directory);
    close_log(&h->s);
    crash_between(h, &before, &after, flushes == 0);
    image_free(&before);
    image_free(&after);
}

static void tail_crash_after_crash_keeps_history(void **state)
{
    struct history *h = calloc(1, sizeof *h);
    (void)state;
    uint64_t random = test_seed();
    for (unsigned run = 0; run < 12; run++) {
        create_log(&h->s, SEGMENT);
        h->random = random + run * 2;
        h->redo = h->s.first;
        h->redo_number = h->durable = h->attempted = 0;
        for (unsigned life = 0; life < 30 && h->attempted < GROUPS_MAX - 100; life++)
            one_life(h);
        destroy_log(&h->s);
    }
    free(h);
}

/*
 * A session begins in a new segment, and of its first write the block reached the disk, the header
 * did not. That is no damage: the block says of itself that a session begins there.
 */
static void tail_session_block_without_header_is_no_damage(void **state)
{
    struct subject s;
    struct image before, after;
    struct found found;
    uint64_t number = 0;
    cp_lsn end;
    (void)state;
    create_started(&s, SEGMENT);
    while (cp_wal__block_of(cp_wal_end(s.wal)) < cp_wal__segment_blocks(SEGMENT) - 1)
        assert_int_equal(append_group(s.wal, 0, number++, 200, &end), 0);
    assert_int_equal(cp_wal_flush(s.wal, end), 0);
    close_log(&s);
    image_take(&before, s.directory);
    open_log(&s);
    assert_int_equal(scan_log(&s, s.first, &found), 0);
    start_log(&s);
    close_log(&s);
    image_take(&after, s.directory);
    assert_int_equal(before.count, 1);
    assert_int_equal(after.count, 2);
    for (unsigned i = 0; i < after.count; i++) {
        if (image_number(&after.files[i]) == 1)
            memset(after.files[i].bytes, 0, SECTOR);
    }
    image_put(&after, s.directory);
    open_log(&s);
    assert_int_equal(scan_log(&s, s.first, &found), 0);
    assert_int_equal(found.next[0], number);
    image_free(&before);
    image_free(&after);
    destroy_log(&s);
}

/* A scan from a block's start does not take an older session's block for the log's continuation. */
static void tail_stale_block_at_redo_is_not_replayed(void **state)
{
    struct subject s;
    struct found found;
    (void)state;
    create_started(&s, SEGMENT);
    leave_stale_blocks(&s);
    start_log(&s); /* in block 2; blocks 3 and 4 are left from the first session */
    fill_block(&s, 1, 0);
    assert_int_equal(cp_wal_flush(s.wal, cp_wal_end(s.wal)), 0);
    cp_lsn redo = cp_wal_end(s.wal);
    cp_wal_trim(s.wal, redo);
    close_log(&s);
    open_log(&s);
    assert_int_equal(scan_log(&s, redo, &found), 0);
    assert_int_equal(found.groups, 0);
    assert_int_equal(s.end, redo);
    destroy_log(&s);
}

/* The redo point may be where a segment ends, and the next one may not be there yet. */
static void tail_redo_at_segment_end_is_found(void **state)
{
    struct subject s;
    struct found found;
    (void)state;
    create_started(&s, SEGMENT);
    for (unsigned round = 0; round < 5; round++) {
        uint64_t number = 0;
        cp_lsn boundary = (cp_wal_end(s.wal) / (24 * 488) + 1) * 24 * UINT64_C(488);
        while (cp_wal_end(s.wal) < boundary)
            fill_block(&s, round, number++);
        assert_int_equal(cp_wal_flush(s.wal, cp_wal_end(s.wal)), 0);
        assert_int_equal(cp_wal_end(s.wal), boundary);
        cp_wal_trim(s.wal, boundary);
        if (round % 2 == 0) { /* segments are used again, but not the one before redo */
            for (number = 0; number < 40; number++)
                fill_block(&s, round + 20, number);
            assert_int_equal(cp_wal_flush(s.wal, cp_wal_end(s.wal)), 0);
        }
        close_log(&s);
        open_log(&s);
        assert_int_equal(scan_log(&s, boundary, &found), 0);
        assert_int_equal(found.groups, round % 2 == 0 ? 40 : 0);
        start_log(&s);
    }
    destroy_log(&s);
}

/*
 * A header that a crash left without blocks: its file is the one that gets the number, though
 * another is free. Otherwise two files would carry it.
 */
static void tail_number_stays_with_its_file(void **state)
{
    struct subject s;
    struct image image;
    struct found found;
    uint64_t number = 0;
    (void)state;
    create_started(&s, SEGMENT);
    while (cp_wal_end(s.wal) < 48 * UINT64_C(488))
        fill_block(&s, 0, number++);
    assert_int_equal(cp_wal_flush(s.wal, cp_wal_end(s.wal)), 0);
    uint64_t durable = number;
    cp_lsn redo = cp_wal_end(s.wal);
    fill_block(&s, 0, number++);
    assert_int_equal(cp_wal_flush(s.wal, cp_wal_end(s.wal)), 0);
    close_log(&s);
    image_take(&image, s.directory);
    for (unsigned i = 0; i < image.count; i++) {
        if (image_number(&image.files[i]) == 2)
            memset(image.files[i].bytes + 4096, 0, SEGMENT - 4096);
    }
    image_put(&image, s.directory);
    image_free(&image);
    open_log(&s);
    assert_int_equal(scan_log(&s, s.first, &found), 0);
    assert_int_equal(found.next[0], durable);
    s.end = redo - 8; /* as if the session began at the end of the segment before */
    s.end -= 488;
    start_log(&s);
    cp_wal_trim(s.wal, redo - 488);
    for (number = 0; number < 5; number++)
        fill_block(&s, 1, number);
    assert_int_equal(cp_wal_flush(s.wal, cp_wal_end(s.wal)), 0);
    close_log(&s);
    open_log(&s);
    destroy_log(&s);
}

/* Positions in the order of what start does: >= 0 a write there, -1 a sync. */
struct steps {
    int64_t step[32];
    unsigned count;
};

static void note_write(void *ctx, int fd, uint64_t offset, const struct iovec *iov, int iov_count)
{
    struct steps *steps = ctx;
    (void)fd;
    (void)iov_count;
    if (iov[0].iov_len <= CP_WAL__UNIT_MAX && steps->count < 32)
        steps->step[steps->count++] = (int64_t)offset;
}

static void note_sync(void *ctx, int fd)
{
    struct steps *steps = ctx;
    (void)fd;
    if (steps->count < 32)
        steps->step[steps->count++] = -1;
}

/*
 * In a new segment a session's first block is durable before the header makes the file's content
 * visible: it may hold what an earlier session left there, which would turn up behind the end.
 */
static void tail_session_block_comes_before_header(void **state)
{
    struct subject s;
    struct found found;
    struct steps steps = {.count = 0};
    uint64_t number = 0;
    cp_lsn end;
    (void)state;
    create_started(&s, SEGMENT);
    while (cp_wal__block_of(cp_wal_end(s.wal)) < cp_wal__segment_blocks(SEGMENT) - 1)
        assert_int_equal(append_group(s.wal, 0, number++, 200, &end), 0);
    assert_int_equal(cp_wal_flush(s.wal, end), 0);
    assert_int_equal(cp_wal_prepare(s.wal, 0), 0);
    close_log(&s);
    open_log(&s);
    assert_int_equal(scan_log(&s, s.first, &found), 0);
    fault_io_on_write(s.faults, note_write, &steps);
    fault_io_on_sync(s.faults, note_sync, &steps);
    start_log(&s);
    fault_io_on_write(s.faults, NULL, NULL);
    fault_io_on_sync(s.faults, NULL, NULL);
    assert_true(steps.count >= 4);
    const int64_t *last = steps.step + steps.count - 4;
    assert_true(last[0] == 4096 && last[1] == -1 && last[2] == 0 && last[3] == -1);
    destroy_log(&s);
}

/* ---- what no crash leaves
 * ------------------------------------------------------------------------ */

/* Every bit; under AddressSanitizer, where each takes a millisecond, every seventh. */
#define DENSE_STEP (CP_POISONS ? 7 : 1)

static void tail_every_bit_flip_is_noticed(void **state)
{
    struct tail t;
    struct found found;
    char path[400];
    uint64_t rejected = 0, harmless = 0;
    (void)state;
    make_tail(&t, 512);
    image_put(&t.after, t.s.directory);
    snprintf(path, sizeof path, "%s/%s", t.s.directory, t.after.files[0].name);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    uint64_t used = t.sectors[t.sector_count - 1] * SECTOR + 3 * SECTOR;
    for (uint64_t byte = 0; byte < SEGMENT; byte++) {
        /* The rest of the header's page, and what lies far behind the end, is read by nobody. */
        bool dense = byte < 64 || (byte >= 4096 && byte < used);
        for (unsigned bit = 0; bit < 8; bit++) {
            uint8_t flipped = t.after.files[0].bytes[byte] ^ (uint8_t)(1u << bit);
            if ((byte * 8 + bit) % (dense ? DENSE_STEP : 997) != 0)
                continue;
            assert_int_equal(pwrite(fd, &flipped, 1, (off_t)byte), 1);
            int code = cp_wal_open(t.s.io, t.s.directory, &t.s.options, &t.s.wal);
            if (code == 0)
                code = scan_log(&t.s, t.s.first, &found);
            if (code == 0 && (found.groups != t.total || found.wrong))
                fail_msg("byte %llu bit %u: silently %llu groups", (unsigned long long)byte, bit,
                         (unsigned long long)found.groups);
            rejected += code != 0;
            harmless += code == 0;
            close_log(&t.s);
            assert_int_equal(pwrite(fd, &t.after.files[0].bytes[byte], 1, (off_t)byte), 1);
        }
    }
    close(fd);
    print_message("%llu flips refused, %llu without effect\n", (unsigned long long)rejected,
                  (unsigned long long)harmless);
    assert_true(rejected > 40000 / DENSE_STEP);
    free_tail(&t);
}

/* Several segments of groups, each flushed; then an image of them. */
static void make_long(struct subject *s, struct image *image, uint64_t *out_groups)
{
    cp_lsn end = 0;
    create_log(s, SEGMENT);
    s->options.caching = CP_IO_BUFFERED;
    open_log(s);
    start_log(s);
    for (*out_groups = 0; *out_groups < 100; ++*out_groups) {
        assert_int_equal(append_group(s->wal, 0, *out_groups, 300, &end), 0);
        assert_int_equal(cp_wal_flush(s->wal, end), 0);
    }
    s->end = end;
    close_log(s);
    image_take(image, s->directory);
    assert_true(image->count >= 3);
}

static int scan_image(struct subject *s, const struct image *image, struct found *found)
{
    image_put(image, s->directory);
    open_log(s);
    int code = scan_log(s, s->first, found);
    close_log(s);
    return code;
}

static void tail_lost_block_before_durable_ones_is_damage(void **state)
{
    struct subject s;
    struct image image, changed;
    struct found found;
    uint64_t groups;
    (void)state;
    make_long(&s, &image, &groups);
    uint64_t last = cp_wal__block_of(s.end);
    for (uint64_t number = 1; number <= last; number++) {
        image_copy(&changed, &image);
        struct cp_wal__block *block = image_block(&changed, number, SEGMENT);
        memset(block, 0, sizeof *block);
        int code = scan_image(&s, &changed, &found);
        if (number < last)
            assert_int_equal(code, CP_EDAMAGED);
        else /* the very last: nothing is left that could tell */
            assert_true(code == 0 && !found.wrong && found.groups < groups);
        image_free(&changed);
    }
    image_free(&image);
    destroy_log(&s);
}

static void tail_older_image_of_durable_block_is_damage(void **state)
{
    struct tail t;
    struct found found;
    cp_lsn end;
    (void)state;
    make_tail(&t, 512);
    image_put(&t.after, t.s.directory);
    open_log(&t.s);
    assert_int_equal(scan_log(&t.s, t.s.first, &found), 0);
    start_log(&t.s);
    /* The session's first block, as it was while it held less than was durable later. */
    uint64_t number = cp_wal__block_of(t.s.wal->session_start);
    struct image older, newer;
    image_take(&older, t.s.directory);
    assert_int_equal(append_group(t.s.wal, 0, t.total, 150, &end), 0);
    assert_int_equal(cp_wal_flush(t.s.wal, end), 0);
    assert_int_equal(append_group(t.s.wal, 0, t.total + 1, 450, &end), 0);
    assert_int_equal(cp_wal_flush(t.s.wal, end), 0);
    close_log(&t.s);
    image_take(&newer, t.s.directory);
    assert_int_equal(scan_image(&t.s, &newer, &found), 0);
    assert_int_equal(found.groups, t.total + 2);
    memcpy(image_block(&newer, number, SEGMENT), image_block(&older, number, SEGMENT), SECTOR);
    assert_int_equal(scan_image(&t.s, &newer, &found), CP_EDAMAGED);
    image_free(&older);
    image_free(&newer);
    free_tail(&t);
}

static void tail_missing_segment_is_told(void **state)
{
    struct subject s;
    struct image image, changed;
    struct found found;
    uint64_t groups;
    (void)state;
    make_long(&s, &image, &groups);
    uint64_t last = cp_wal__block_of(s.end) / cp_wal__segment_blocks(SEGMENT);
    for (unsigned i = 0; i < image.count; i++) {
        uint64_t number = image_number(&image.files[i]);
        if (number >= last)
            continue;
        image_copy(&changed, &image);
        free(changed.files[i].bytes);
        changed.files[i] = changed.files[--changed.count];
        assert_int_equal(scan_image(&s, &changed, &found), CP_ELOG);
        image_free(&changed);
        /* The same where only the header is unreadable. */
        image_copy(&changed, &image);
        changed.files[i].bytes[9] ^= 4;
        int code = scan_image(&s, &changed, &found);
        assert_true(code == CP_ELOG || code == CP_EDAMAGED);
        image_free(&changed);
        /* And where it is cut short. */
        image_copy(&changed, &image);
        changed.files[i].size_bytes = 4096 + 512 * 5 + 100;
        code = scan_image(&s, &changed, &found);
        assert_int_equal(code, CP_EDAMAGED);
        image_free(&changed);
        /* And where there are two of it. */
        image_copy(&changed, &image);
        image_add(&changed, "segment-00000077", image.files[i].bytes, image.files[i].size_bytes);
        image_put(&changed, s.directory);
        assert_int_equal(cp_wal_open(s.io, s.directory, &s.options, &s.wal), CP_EDAMAGED);
        image_free(&changed);
    }
    image_free(&image);
    destroy_log(&s);
}

/* The file with the end of what make_long left. */
static struct image_file *last_file(const struct subject *s, struct image *image)
{
    for (unsigned i = 0; i < image->count; i++) {
        if (image_number(&image->files[i]) ==
            cp_wal__block_of(s->end) / cp_wal__segment_blocks(SEGMENT))
            return &image->files[i];
    }
    fail();
    return NULL;
}

/* What was cut off is behind the first zeros, so the scan need not read it. */
static void tail_cut_behind_the_end_is_damage(void **state)
{
    struct subject s;
    struct image image, after;
    struct found found;
    uint64_t groups;
    (void)state;
    make_long(&s, &image, &groups);
    uint64_t offset =
        cp_wal__block_offset(cp_wal__block_of(s.end), cp_wal__segment_blocks(SEGMENT));
    struct image_file *last = last_file(&s, &image);
    last->size_bytes = (offset + 2 * CP_WAL_BLOCK_BYTES + 4095) / 4096 * 4096;
    assert_true(last->size_bytes < SEGMENT);
    assert_int_equal(scan_image(&s, &image, &found), CP_EDAMAGED);
    assert_non_null(strstr(cp_error_info()->what, last->name));
    /* Without a scan, nothing of it is lost either. */
    open_log(&s);
    assert_int_equal(cp_wal_start(s.wal, s.end, 9), CP_EDAMAGED);
    close_log(&s);
    image_take(&after, s.directory);
    struct image_file *left = image_find(&after, last->name);
    assert_int_equal(left->size_bytes, last->size_bytes);
    assert_memory_equal(left->bytes, last->bytes, last->size_bytes);
    image_free(&after);
    image_free(&image);
    destroy_log(&s);
}

static void tail_longer_file_keeps_its_blocks(void **state)
{
    struct subject s;
    struct image image, longer;
    struct found found;
    uint64_t groups;
    cp_lsn end;
    (void)state;
    make_long(&s, &image, &groups);
    const struct image_file *last = last_file(&s, &image);
    longer.count = 0;
    for (unsigned i = 0; i < image.count; i++) {
        const struct image_file *file = &image.files[i];
        image_add(&longer, file->name, NULL, file->size_bytes + (file == last ? 4096 : 0));
        memcpy(longer.files[i].bytes, file->bytes, file->size_bytes);
    }
    image_put(&longer, s.directory);
    open_log(&s);
    assert_int_equal(scan_log(&s, s.first, &found), 0);
    assert_int_equal(found.groups, groups);
    start_log(&s);
    assert_int_equal(append_group(s.wal, 0, groups, 300, &end), 0);
    assert_int_equal(cp_wal_flush(s.wal, end), 0);
    reopen(&s, &found);
    assert_int_equal(found.groups, groups + 1);
    image_free(&longer);
    image_free(&image);
    destroy_log(&s);
}

/* What cp_wal_check_end says of the files of an image. */
static int check_end(struct subject *s, const struct image *image, cp_lsn end, uint32_t epoch)
{
    image_put(image, s->directory);
    open_log(s);
    int code = cp_wal_check_end(s->wal, end, epoch);
    close_log(s);
    return code;
}

/* Every clean end is one, wherever in a block or a segment it lies; none is once a later session
 * has written, nor without its block. */
static void tail_clean_end_is_told_from_others(void **state)
{
    const uint32_t blocks = cp_wal__segment_blocks(SEGMENT);
    struct subject s;
    struct image image, changed;
    cp_lsn end, segment_end = 0;
    uint32_t segment_end_epoch = 0;
    (void)state;
    create_log(&s, SEGMENT);
    s.options.caching = CP_IO_BUFFERED;
    image_take(&image, s.directory);
    assert_int_equal(check_end(&s, &image, s.first, 0), 0);
    image_free(&image);
    for (unsigned i = 0; i < blocks + 2; i++) { /* a session for each block; every other fills it */
        open_log(&s);
        start_log(&s);
        if (i % 2 == 0)
            fill_block(&s, 0, i);
        else
            assert_int_equal(append_group(s.wal, 0, i, 60, &end), 0);
        s.end = end = cp_wal_end(s.wal);
        assert_int_equal(cp_wal_flush(s.wal, end), 0);
        close_log(&s);
        if (end == cp_wal__block_start(blocks)) {
            segment_end = end;
            segment_end_epoch = s.epoch;
        }
        image_take(&image, s.directory);
        assert_int_equal(check_end(&s, &image, end, s.epoch), 0);
        assert_int_equal(check_end(&s, &image, end, s.epoch - 1), CP_EDAMAGED);
        image_copy(&changed, &image);
        image_block(&changed, cp_wal__block_of(end - 1), SEGMENT)->payload[300] ^= 1;
        assert_int_equal(check_end(&s, &changed, end, s.epoch), CP_EDAMAGED);
        image_free(&changed);
        image_put(&image, s.directory);
        image_free(&image);
        open_log(&s);
        assert_int_equal(cp_wal_start(s.wal, end, s.epoch + 1), 0);
        close_log(&s);
        image_take(&image, s.directory);
        assert_int_equal(check_end(&s, &image, end, s.epoch), CP_EDAMAGED);
        image_free(&image);
        s.epoch++;
    }
    /* The segment that came next is in use again: only one further on tells. */
    assert_int_not_equal(segment_end, 0);
    open_log(&s);
    start_log(&s);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(append_group(s.wal, 0, i, SEGMENT / 2, &end), 0);
    assert_int_equal(cp_wal_flush(s.wal, end), 0);
    close_log(&s);
    image_take(&image, s.directory);
    for (unsigned i = 0; i < image.count; i++) {
        if (image_number(&image.files[i]) == 1)
            memset(image.files[i].bytes, 0, CP_WAL__HEADER_BYTES);
    }
    assert_int_equal(check_end(&s, &image, segment_end, segment_end_epoch), CP_EDAMAGED);
    image_free(&image);
    destroy_log(&s);
}

static void tail_every_truncation_is_prefix_or_error(void **state)
{
    struct tail t;
    struct image cut;
    struct found found;
    (void)state;
    make_tail(&t, 512);
    for (uint64_t size_bytes = 0; size_bytes < SEGMENT; size_bytes += 61) {
        image_copy(&cut, &t.after);
        cut.files[0].size_bytes = size_bytes;
        image_put(&cut, t.s.directory);
        int code = cp_wal_open(t.s.io, t.s.directory, &t.s.options, &t.s.wal);
        if (code == 0)
            code = scan_log(&t.s, t.s.first, &found);
        assert_true(code != 0 || (found.groups == t.total && !found.wrong));
        close_log(&t.s);
        image_free(&cut);
    }
    free_tail(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tail_torn_anywhere_keeps_durable_groups),
        cmocka_unit_test(tail_crash_after_crash_keeps_history),
        cmocka_unit_test(tail_session_block_without_header_is_no_damage),
        cmocka_unit_test(tail_session_block_comes_before_header),
        cmocka_unit_test(tail_stale_block_at_redo_is_not_replayed),
        cmocka_unit_test(tail_redo_at_segment_end_is_found),
        cmocka_unit_test(tail_number_stays_with_its_file),
        cmocka_unit_test(tail_every_bit_flip_is_noticed),
        cmocka_unit_test(tail_lost_block_before_durable_ones_is_damage),
        cmocka_unit_test(tail_older_image_of_durable_block_is_damage),
        cmocka_unit_test(tail_missing_segment_is_told),
        cmocka_unit_test(tail_cut_behind_the_end_is_damage),
        cmocka_unit_test(tail_longer_file_keeps_its_blocks),
        cmocka_unit_test(tail_clean_end_is_told_from_others),
        cmocka_unit_test(tail_every_truncation_is_prefix_or_error),
    };
    return cmocka_run_group_tests_name("wal tail", tests, NULL, NULL);
}
