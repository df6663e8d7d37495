/* SPDX-License-Identifier: MIT */
/*
 * Fuzzer: hostile log segments. The input says what is wrong with a good log; it is opened,
 * scanned, started, appended to, and scanned again. Any code is right; a signal, a report or a loss
 * is not: what was appended and flushed after a scan that found nothing wrong is found by the next
 * one, or that one complains.
 *
 *     u8   bits 0-2 which checksums are made right (segments, blocks, groups), bit 3 read-only,
 *          bit 4 begin the scan in the middle
 *     u8   with bit 4: where, in 488ths of the stream
 *     ...  edits (image.h)
 */
#include "image.h"
#include "use.h"

#include <clockpool/base/checksum.h>

#include <stdlib.h>
#include <string.h>

#define STORE_ID UINT64_C(0x6c6f67206c6f6721)
#define GROUPS   40u
#define EPOCH    7u
#define MARK     UINT64_C(0x6d61726b)
#define MARKED   9u /* groups appended behind what was found */

static struct fuzz_image base;
static struct cp_io *io;
static cp_lsn first;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct cp_wal_options wal_options = {
    .store_id = STORE_ID,
    .buffer_bytes = CP_WAL_BUFFER_BYTES_MIN,
    .sync = CP_WAL_SYNC_FDATASYNC,
    .caching = CP_IO_BUFFERED,
};

static int open_log(bool read_only, struct cp_wal **out_wal)
{
    struct cp_wal_options options = wal_options;
    options.read_only = read_only;
    return cp_wal_open(io, fuzz_path("log/wal"), &options, out_wal);
}

/* Groups of one to three records, some of them longer than a block, over several segments. */
static int append_groups(struct cp_wal *wal, unsigned count, uint64_t mark, cp_lsn *out_end)
{
    static uint8_t bytes[2000];
    int code = 0;
    for (unsigned i = 0; code == 0 && i < count; i++) {
        struct cp_wal_record records[3];
        for (unsigned k = 0; k < 3; k++) {
            uint32_t size = (i * 97 + k * 411) % (i % 8 == 0 ? 2000 : 300);
            memset(bytes, (int)(i + k), sizeof bytes);
            records[k] = (struct cp_wal_record){.data = size != 0 ? bytes : NULL,
                                                .page = mark + i,
                                                .size_bytes = size,
                                                .offset = (uint16_t)(k * 8),
                                                .type = (uint8_t)(k + 1)};
        }
        code = cp_wal_append(wal, records, 1 + i % 3, out_end);
        if (code == 0 && i % 4 == 3)
            code = cp_wal_flush(wal, *out_end);
    }
    return code != 0 ? code : cp_wal_flush(wal, UINT64_MAX);
}

static void must(int code)
{
    if (code != 0)
        abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const struct cp_io_options io_options = {.kind = CP_IO_SYNC};
    struct cp_wal *wal;
    cp_lsn end;
    (void)argc;
    (void)argv;
    fuzz_limit_files();
    must(cp_io_create(&io_options, &io));
    fuzz_image_init(&base, STORE_ID);
    fuzz_image_write(&base, fuzz_path("log"));
    must(cp_wal_create(io, fuzz_path("log/wal"), STORE_ID, CP_WAL_SEGMENT_BYTES_MIN, CP_IO_BUFFERED,
                       &first));
    for (uint32_t session = 1; session <= 2; session++) {
        must(open_log(false, &wal));
        must(cp_wal_scan(wal, first, NULL, NULL, &end));
        must(cp_wal_start(wal, end, EPOCH * session));
        must(append_groups(wal, GROUPS, session, &end));
        cp_wal_close(wal);
    }
    fuzz_image_free(&base);
    fuzz_image_load(&base, fuzz_path("log"));
    base.store_id = STORE_ID;
    fuzz_image_check(&base);
    if (base.count < 4)
        abort();
    return 0;
}

struct seen {
    uint64_t groups, marked, checksum;
};

/* Touch every byte that was given. */
static int see(void *ctx, const struct cp_wal_group *group)
{
    struct seen *seen = ctx;
    bool marked = false;
    for (uint32_t i = 0; i < group->record_count; i++) {
        const struct cp_wal_record *record = &group->records[i];
        if (record->size_bytes + record->offset > 65536)
            abort();
        if (record->size_bytes != 0)
            seen->checksum ^= cp_checksum(record->data, record->size_bytes, i);
        marked = marked || record->page - (MARK << 16) < MARKED;
    }
    seen->groups++;
    seen->marked += marked;
    return 0;
}

/* Append behind the scanned end, and look whether it is there. */
static void append_and_look(struct cp_wal *wal, cp_lsn from, cp_lsn end)
{
    struct seen seen = {0};
    cp_lsn last = 0;
    bool good =
        cp_wal_start(wal, end, 1000) == 0 && append_groups(wal, MARKED, MARK << 16, &last) == 0;
    if (good && last % 16 != 0)
        (void)!cp_wal_prepare(wal, 0);
    cp_wal_close(wal);
    if (!good || open_log(true, &wal) != 0)
        return;
    if (cp_wal_scan(wal, from, see, &seen, &end) == 0 && seen.marked < MARKED)
        abort(); /* durable, lost, and nobody said so */
    cp_wal_close(wal);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    unsigned flags = (unsigned)fuzz_take(&input, 1);
    cp_lsn from = first, end = 0;
    struct fuzz_image image;
    struct seen seen = {0};
    struct cp_wal *wal;

    if ((flags & 16) != 0)
        from = (1 + fuzz_take(&input, 1)) * 488;
    fuzz_image_copy(&image, &base);
    (void)fuzz_image_edit(&image, &input);
    fuzz_image_fix(&image, (flags & 7) << 2);
    fuzz_image_write(&image, fuzz_path("log"));
    fuzz_image_free(&image);
    if (open_log((flags & 8) != 0, &wal) != 0)
        return 0;
    int code = cp_wal_scan(wal, from, see, &seen, &end);
    if (code == 0 && (flags & 8) == 0)
        append_and_look(wal, from, end);
    else
        cp_wal_close(wal);
    return 0;
}
