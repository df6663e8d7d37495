/* SPDX-License-Identifier: MIT */
/* Making a store for a data set, and finding its pages. See storefile.h. */
#include "storefile.h"

#include <clockpool/clockpool.h>
#include <clockpool/base/bits.h>
#include <clockpool/base/checksum.h>

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static_assert(BENCH_TRAILER_BYTES == CP_PAGER_TRAILER_BYTES, "content fills a payload");

#define CREATE_BUDGET_BYTES (UINT64_C(64) << 20)
#define CREATE_RUN_PAGES    1024u
#define EXTENTS_MAX         65536u

uint64_t bench_store_disk_bytes(uint64_t page_count, uint32_t page_size)
{
    uint64_t bytes = page_count * page_size;
    return bytes + bytes / 1000 + (UINT64_C(68) << 20); /* the file grows by up to 64 MiB */
}

int bench_store_path(const struct bench_data *data, const char *name, char *path,
                     struct bench_error *error)
{
    int n = snprintf(path, PATH_MAX, "%s/%s", data->directory, name);
    return n > 0 && n < PATH_MAX ? 0 : bench_fail(error, "the path is too long");
}

int bench_store_open_pages(const struct bench_data *data, bool *out_direct,
                           struct bench_error *error)
{
    char path[PATH_MAX];
    if (bench_store_path(data, "store/data", path, error) != 0)
        return -1;
    int fd = open(path, O_RDWR | O_CLOEXEC | O_DIRECT);
    *out_direct = fd >= 0;
    if (fd < 0 && errno == EINVAL)
        fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return bench_fail_errno(error, errno, "cannot open %s", path);
    return fd;
}

/* The trailer's last words: store id, and the checksum of all before it (docs/file-format.md). */
static uint64_t checksum_of(const void *page, uint32_t page_size)
{
    uint64_t store_id;
    memcpy(&store_id, (const char *)page + page_size - 16, 8);
    return cp_checksum(page, page_size - 8, store_id);
}

void bench_store_seal(void *page, uint32_t page_size)
{
    uint64_t checksum = checksum_of(page, page_size);
    memcpy((char *)page + page_size - 8, &checksum, 8);
}

bool bench_store_is_sealed(const void *page, uint32_t page_size)
{
    uint64_t checksum;
    memcpy(&checksum, (const char *)page + page_size - 8, 8);
    return checksum == checksum_of(page, page_size);
}

/* ---- where pages went --------------------------------------------------------------------------
 */

static int save_extents(const struct bench_data *data, const struct bench_extent *extents,
                        unsigned count, struct bench_error *error)
{
    char path[PATH_MAX];
    if (bench_store_path(data, "extents", path, error) != 0)
        return -1;
    FILE *file = fopen(path, "wxe");
    if (file == NULL)
        return bench_fail_errno(error, errno, "cannot create %s", path);
    for (unsigned i = 0; i < count; i++)
        fprintf(file, "%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", extents[i].first, extents[i].count,
                extents[i].first_page);
    bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed)
        return bench_fail_errno(error, errno, "cannot write %s", path);
    return 0;
}

/* A scan walks both orders at once. */
static bool ascends(const struct bench_extents *extents)
{
    for (unsigned i = 1; i < extents->count; i++) {
        const struct bench_extent *last = &extents->list[i - 1];
        if (extents->list[i].first != last->first + last->count ||
            extents->list[i].first_page < last->first_page + last->count)
            return false;
    }
    return true;
}

int bench_extents_load(const struct bench_data *data, struct bench_extents *out_extents,
                       struct bench_error *error)
{
    char path[PATH_MAX];
    struct bench_extents extents = {0};
    struct bench_extent extent;
    if (bench_store_path(data, "extents", path, error) != 0)
        return -1;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return bench_fail_errno(error, errno, "cannot open %s", path);
    extents.list = calloc(EXTENTS_MAX, sizeof *extents.list);
    while (extents.list != NULL && extents.count < EXTENTS_MAX &&
           fscanf(file, "%" SCNu64 " %" SCNu64 " %" SCNu64, &extent.first, &extent.count,
                  &extent.first_page) == 3)
        extents.list[extents.count++] = extent;
    fclose(file);
    if (extents.count == 0 || !ascends(&extents)) {
        free(extents.list);
        return bench_fail(error, "%s has no extents, or not in order", path);
    }
    *out_extents = extents;
    return 0;
}

void bench_extents_free(struct bench_extents *extents)
{
    free(extents->list);
    *extents = (struct bench_extents){0};
}

const struct bench_extent *bench_extents_find(const struct bench_extents *extents, uint64_t page)
{
    /* Extents are nearly all as long as the first, so the guess is off by one or two at most. */
    uint64_t guess = page / extents->list[0].count;
    const struct bench_extent *extent =
        &extents->list[guess < extents->count ? guess : extents->count - 1];
    while (page < extent->first)
        extent--;
    while (page - extent->first >= extent->count)
        extent++;
    return extent;
}

/* ---- creating ----------------------------------------------------------------------------------
 */

/* Take over the library's description of the last error. */
static int fail(struct bench_error *error, const char *what)
{
    char text[600];
    return bench_fail(error, "%s: %s", what, cp_error_format(text, sizeof text));
}

static int fill_run(struct cp_pager *pager, const struct bench_data *data,
                    const struct bench_extent *run, struct bench_error *error)
{
    for (uint64_t i = 0; i < run->count; i++) {
        struct cp_fix fix;
        if (cp_pager_fix_new(pager, run->first_page + i, &fix) != 0)
            return fail(error, "cannot write a page");
        bench_content_fill(fix.data, bench_content_size(data->page_size), data->seed,
                           run->first + i);
        int code = cp_pager_mark_dirty(pager, &fix);
        cp_pager_unfix(pager, &fix);
        if (code != 0)
            return fail(error, "cannot write a page");
    }
    return 0;
}

static int fill_store(struct cp_pager *pager, const struct bench_data *data,
                      struct bench_extent *extents, unsigned *out_count,
                      const struct bench_progress_sink *sink, struct bench_error *error)
{
    unsigned count = 0;
    for (uint64_t page = 0; page < data->page_count;) {
        struct bench_extent run = {.first = page,
                                   .count = cp_min_u64(CREATE_RUN_PAGES, data->page_count - page)};
        if (cp_pager_allocate_run(pager, run.count, &run.first_page) != 0)
            return fail(error, "cannot allocate pages");
        if (fill_run(pager, data, &run, error) != 0)
            return -1;
        struct bench_extent *last = count > 0 ? &extents[count - 1] : NULL;
        if (last != NULL && last->first_page + last->count == run.first_page)
            last->count += run.count;
        else if (count == EXTENTS_MAX)
            return bench_fail(error, "the data set has too many extents");
        else
            extents[count++] = run;
        page += run.count;
        if (sink->report(sink->ctx, page, data->page_count) != 0)
            return bench_fail(error, "interrupted");
    }
    *out_count = count;
    return cp_pager_sync(pager) == 0 ? 0 : fail(error, "cannot sync the store");
}

int bench_store_create(const struct bench_data *data, const struct bench_progress_sink *sink,
                       struct bench_error *error)
{
    char path[PATH_MAX];
    if (bench_store_path(data, "store", path, error) != 0)
        return -1;
    struct bench_extent *extents = calloc(EXTENTS_MAX, sizeof *extents);
    if (extents == NULL)
        return bench_fail(error, "out of memory");
    struct cp_pager_options options = {.engine = CP_ENGINE_POOL,
                                       .create = true,
                                       .exclusive = true,
                                       .page_size = data->page_size,
                                       .budget_bytes = CREATE_BUDGET_BYTES};
    struct cp_pager *pager;
    unsigned count = 0;
    int result = -1;
    if (cp_pager_open(path, &options, &pager) != 0) {
        fail(error, "cannot create the store");
        goto free_extents;
    }
    result = fill_store(pager, data, extents, &count, sink, error);
    if (cp_pager_close(pager) != 0 && result == 0)
        result = fail(error, "cannot close the store");
    if (result == 0)
        result = save_extents(data, extents, count, error);

free_extents:
    free(extents);
    return result;
}
