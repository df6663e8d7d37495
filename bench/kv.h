/* SPDX-License-Identifier: MIT */
/*
 * What the drivers of key-value stores share: pages are values under integer keys, got one at a
 * time. An operation wants 8 bytes and copies no more; a scan has the whole page in a buffer.
 */
#ifndef BENCH_KV_H
#define BENCH_KV_H

#include "engine.h"

/* Get the page's content, all of it, into buffer. 0, or -1 with a description. */
typedef int bench_kv_get(void *thread, uint64_t page, void *buffer);

/* Get the 8 bytes at offset_bytes of the page's content, from where they lie. As bench_kv_get. */
typedef int bench_kv_get_word(void *thread, uint64_t page, uint32_t offset_bytes,
                              uint64_t *out_word);

/* read and scan of a driver, by getting. buffer has room for a page's content. */
int bench_kv_read(bench_kv_get_word *get_word, void *thread, struct bench_op *ops, unsigned count);
int bench_kv_scan(bench_kv_get *get, void *thread, void *buffer, struct bench_check *check,
                  uint64_t first, uint64_t count);

/*
 * The cache of a store that has one of its own and goes through the page cache besides: half of the
 * memory. The rest is for the page cache and what the store does not count; with three quarters
 * some were killed for lack of it.
 */
static inline uint64_t bench_kv_cache_bytes(const struct bench_setup *setup)
{
    return setup->mem_bytes / 2;
}

/* While a data set is written, so many values are one transaction. */
#define BENCH_KV_LOAD_VALUES 4096u

#endif
