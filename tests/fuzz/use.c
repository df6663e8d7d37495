/* SPDX-License-Identifier: MIT */
#include "use.h"
#include "support/tree.h"

#include "image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUDGET_BYTES (UINT64_C(640) << 10)
#define PAGES        12u
#define READS_MAX    200u

static void must(int code, const char *what)
{
    char text[800];
    if (code == 0)
        return;
    fprintf(stderr, "fuzz: %s: %s\n", what, cp_error_format(text, sizeof text));
    abort();
}

struct cp_pager_options fuzz_options(enum cp_engine engine)
{
    static struct cp_io
        *io; /* one for all, without threads of the kernel's: quick, and repeatable */
    const struct cp_io_options io_options = {.kind = CP_IO_SYNC};
    if (io == NULL)
        must(cp_io_create(&io_options, &io), "start I/O");
    return (struct cp_pager_options){
        .engine = engine,
        .io = io,
        .budget_bytes = BUDGET_BYTES,
        .max_budget_bytes = BUDGET_BYTES,
        .caching = CP_IO_BUFFERED,
        .background = CP_BACKGROUND_NONE,
        .log_segment_bytes = CP_WAL_SEGMENT_BYTES_MIN,
        .log_buffer_bytes = CP_WAL_BUFFER_BYTES_MIN,
        .log_sync = CP_WAL_SYNC_FDATASYNC,
        .recovery_bytes = UINT64_C(1) << 20,
    };
}

static void fill(void *data, uint64_t page, uint64_t version, uint32_t bytes)
{
    uint64_t *words = data;
    for (uint32_t i = 0; i < bytes / 8; i++)
        words[i] = page << 32 | version << 16 | i;
}

/* Changes that only the log has: updates, allocation, freeing, before and after a checkpoint. */
static void crash(const char *path)
{
    struct cp_pager_options options = fuzz_options(CP_ENGINE_POOL);
    struct cp_pager *pager;
    must(cp_pager_open(path, &options, &pager), "open");
    const uint64_t first = cp_pager_first_page(pager);
    for (unsigned i = 0; i < 8; i++) {
        struct cp_mtr *mtr;
        uint64_t page;
        void *data;
        must(cp_mtr_begin(pager, &mtr), "begin");
        must(cp_mtr_fix(mtr, first + 5 + i % 3, CP_EXCLUSIVE, &data), "fix");
        fill(data, first + 5 + i % 3, 2 + i, i % 2 == 0 ? 64 : cp_pager_payload_size(pager));
        if (i % 3 == 1) {
            must(cp_mtr_allocate(mtr, &page, &data), "allocate");
            fill(data, page, 2 + i, 256);
        }
        if (i == 6)
            must(cp_mtr_free(mtr, first + 10), "free");
        must(cp_mtr_commit(mtr, CP_COMMIT_DURABLE, NULL), "commit");
        if (i == 3)
            must(cp_pager_checkpoint(pager), "checkpoint");
    }
    cp_pager_abandon(pager);
}

void fuzz_make_store(const char *path, enum fuzz_end end)
{
    struct cp_pager_options options = fuzz_options(CP_ENGINE_POOL);
    struct cp_pager *pager;
    options.create = true;
    remove_tree(path);
    must(cp_pager_open(path, &options, &pager), "create");
    for (unsigned i = 0; i < PAGES; i++) {
        struct cp_fix fix;
        must(cp_pager_allocate(pager, &fix), "allocate");
        fill(fix.data, fix.page, 1, cp_pager_payload_size(pager));
        cp_pager_unfix(pager, &fix);
    }
    must(cp_pager_free(pager, cp_pager_first_page(pager) + 3, 2), "free");
    must(cp_pager_close(pager), "close");
    if (end == FUZZ_CRASHED)
        crash(path);
}

static void read_pages(struct cp_pager *pager)
{
    static uint8_t buffer[65536];
    const uint64_t first = cp_pager_first_page(pager), count = cp_pager_page_count(pager);
    for (uint64_t page = first; page < count && page - first < READS_MAX; page++) {
        struct cp_fix fix;
        (void)!cp_pager_is_allocated(pager, page);
        (void)!cp_pager_read(pager, page, 0, buffer, cp_pager_payload_size(pager));
        if (cp_pager_fix(pager, page, page % 2 == 0 ? CP_SHARED : CP_EXCLUSIVE, &fix) == 0)
            cp_pager_unfix(pager, &fix);
    }
    struct cp_fix fixes[4];
    const uint64_t pages[4] = {first, first + 1, first + 2, count - 1};
    (void)cp_pager_prefetch(pager, pages, 4);
    if (cp_pager_fix_many(pager, pages, 4, CP_SHARED, fixes) == 0)
        cp_pager_unfix_many(pager, fixes, 4);
}

static void write_pages(struct cp_pager *pager)
{
    const uint64_t first = cp_pager_first_page(pager);
    uint64_t run;
    for (unsigned i = 0; i < 3; i++) {
        struct cp_fix fix;
        if (cp_pager_allocate(pager, &fix) == 0) {
            fill(fix.data, fix.page, 2, cp_pager_payload_size(pager));
            cp_pager_unfix(pager, &fix);
        }
    }
    if (cp_pager_allocate_run(pager, 5, &run) == 0)
        (void)!cp_pager_free(pager, run + 1, 3);
    (void)!cp_pager_free(pager, first, 2);
    (void)!cp_pager_sync(pager);
    (void)!cp_pager_free(pager, cp_pager_page_count(pager) - 1, 1);
}

int fuzz_use_store(const char *path, enum cp_engine engine, bool read_only)
{
    struct cp_pager_options options = fuzz_options(engine);
    struct cp_pager_stats stats;
    struct cp_pager *pager;
    options.read_only = read_only;
    int code = cp_pager_open(path, &options, &pager);
    if (code != 0)
        return code;
    cp_pager_stats(pager, &stats);
    read_pages(pager);
    if (!read_only)
        write_pages(pager);
    (void)cp_pager_check(pager, NULL, NULL, NULL);
    cp_pager_stats(pager, &stats);
    if (cp_pager_close(pager) == CP_EPINNED)
        abort(); /* nothing is fixed any more */
    return 0;
}
