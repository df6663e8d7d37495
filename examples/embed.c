/* SPDX-License-Identifier: MIT */
/*
 * Clockpool as a storage layer: a counter per page, kept in a store, updated at random in
 * mini-transactions, made durable, and read back after what might have been a crash.
 *
 *     embed [directory [mmap]]
 *
 * Run it again on the same directory and it goes on where it stopped.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <clockpool/clockpool.h>

#define PAGES   5000u
#define UPDATES 5000u

/* What we keep in a page's payload. The layout is ours; clockpool looks at the trailer only. */
struct counter {
    uint64_t page;
    uint64_t hits;
};

static int report(const char *what)
{
    char text[512];
    fprintf(stderr, "embed: %s: %s\n", what, cp_error_format(text, sizeof text));
    return 1;
}

/* Allocate what is missing, one page after the other. 0 or a negative code. */
static int allocate_all(struct cp_pager *pager)
{
    uint64_t first = cp_pager_first_page(pager);
    while (cp_pager_page_count(pager) < first + PAGES) {
        struct cp_fix fix;
        int code = cp_pager_allocate(pager, &fix);
        if (code != 0)
            return code;
        ((struct counter *)fix.data)->page = fix.page; /* new pages are zeros, and dirty */
        cp_pager_unfix(pager, &fix);
    }
    return 0;
}

/* One change, committed; durable a little later (main waits for all of them together). */
static int count_hit(struct cp_pager *pager, uint64_t page)
{
    struct cp_mtr *mtr;
    void *data;
    int code = cp_mtr_begin(pager, &mtr);
    if (code != 0)
        return code;
    code = cp_mtr_fix(mtr, page, CP_EXCLUSIVE, &data);
    if (code != 0) {
        cp_mtr_abort(mtr);
        return code;
    }
    ((struct counter *)data)->hits++; /* in place: the commit finds out what has changed */
    return cp_mtr_commit(mtr, CP_COMMIT_RELAXED, NULL);
}

/* The sum over all pages. Reading a few bytes needs no fix. */
static int sum_hits(struct cp_pager *pager, uint64_t *out_sum)
{
    uint64_t sum = 0, first = cp_pager_first_page(pager);
    for (uint64_t i = 0; i < PAGES; i++) {
        struct counter counter;
        int code = cp_pager_read(pager, first + i, 0, &counter, sizeof counter);
        if (code != 0)
            return code;
        sum += counter.hits;
    }
    *out_sum = sum;
    return 0;
}

static void print_stats(struct cp_pager *pager)
{
    struct cp_pager_stats s;
    cp_pager_stats(pager, &s);
    printf("%s engine, %s: %" PRIu64 " pages, %" PRIu64 " bytes, direct I/O: %s\n", s.engine,
           s.path, s.allocated_pages, s.file_bytes, s.direct ? "yes" : s.direct_reason);
    printf("%" PRIu64 " commits in %" PRIu64 " flushes of the log\n", s.mtr_commits, s.wal.flushes);
    printf("%" PRIu64 " hits, %" PRIu64 " misses, %" PRIu64 " pages written, %" PRIu64
           " of %" PRIu64 " bytes of budget used\n",
           s.pool.hits, s.pool.misses, s.pool.pages_written, s.pool.used_bytes,
           s.pool.budget_bytes);
}

int main(int argc, char **argv)
{
    const char *directory = argc > 1 ? argv[1] : "counters";
    struct cp_pager_options options = {
        .engine = argc > 2 && strcmp(argv[2], "mmap") == 0 ? CP_ENGINE_MMAP : CP_ENGINE_POOL,
        .create = true,
        .budget_bytes = UINT64_C(4) << 20, /* a fifth of the data */
    };
    struct cp_pager *pager;
    uint64_t before, after, random = 1;

    if (cp_pager_open(directory, &options, &pager) != 0)
        return report("open");
    if (allocate_all(pager) != 0 || sum_hits(pager, &before) != 0)
        return report("allocate");
    for (unsigned i = 0; i < UPDATES; i++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        if (count_hit(pager, cp_pager_first_page(pager) + (random >> 33) % PAGES) != 0)
            return report("update");
    }
    if (cp_pager_wait_durable(pager, UINT64_MAX) != 0) /* all commits so far */
        return report("wait");
    print_stats(pager);
    cp_pager_abandon(pager); /* as a crash would: what was committed is in the log */

    options.create = false;
    if (cp_pager_open(directory, &options, &pager) != 0 || sum_hits(pager, &after) != 0)
        return report("reopen");
    printf("%" PRIu64 " hits before, %" PRIu64 " after\n", before, after);
    if (cp_pager_close(pager) != 0)
        return report("close");
    return after == before + UPDATES ? 0 : 1;
}
