/* SPDX-License-Identifier: MIT */
/*
 * The data set of raw, pool and mmap: a store, and beside it a list of extents that says which page
 * numbers of the store the pages of the data set were given (the pager's own lie between them).
 *
 * One file for all of them: compared on the same bytes, in the same place of the same device.
 */
#ifndef BENCH_STOREFILE_H
#define BENCH_STOREFILE_H

#include "engine.h"

#define BENCH_STORE_FORMAT "store"

/* Pages first_page .. of the store hold pages first .. first+count-1 of the data set. */
struct bench_extent {
    uint64_t first, count, first_page;
};

/* In ascending order, of the data set and of the store alike. */
struct bench_extents {
    struct bench_extent *list;
    unsigned count;
};

uint64_t bench_store_disk_bytes(uint64_t page_count, uint32_t page_size);
/* Write the data set; as bench_engine.create. */
int bench_store_create(const struct bench_data *data, const struct bench_progress_sink *sink,
                       struct bench_error *error);

/* Path of the store, or of a file beside it. capacity PATH_MAX. 0 or -1. */
int bench_store_path(const struct bench_data *data, const char *name, char *path,
                     struct bench_error *error);
/* The store's file of pages, page n at n * page_size, with O_DIRECT where possible; or -1. */
int bench_store_open_pages(const struct bench_data *data, bool *out_direct,
                           struct bench_error *error);
/* Give a page that was changed behind the pager's back a checksum that holds. */
void bench_store_seal(void *page, uint32_t page_size);
/* Does its checksum hold? */
bool bench_store_is_sealed(const void *page, uint32_t page_size);

int bench_extents_load(const struct bench_data *data, struct bench_extents *out_extents,
                       struct bench_error *error);
void bench_extents_free(struct bench_extents *extents);
const struct bench_extent *bench_extents_find(const struct bench_extents *extents, uint64_t page);

/* The store's number for a page of the data set. */
static inline uint64_t bench_extents_locate(const struct bench_extents *extents, uint64_t page)
{
    const struct bench_extent *extent = bench_extents_find(extents, page);
    return extent->first_page + (page - extent->first);
}

#endif
