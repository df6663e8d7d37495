/* SPDX-License-Identifier: MIT */
/*
 * What stands in a page, so that wrong bytes are noticed.
 *
 * The content of a page is an array of 64-bit words, page_size - 32 bytes of them (what the pager's
 * pages hold; every engine stores as much). Each word is a function of seed, page and index:
 *
 *     word 0          identifies the page
 *     word 1          how often the page was updated
 *     words 2 .. 13   depend on word 1 too; an update rewrites them (104 bytes with the counter)
 *     words 14 ..     never change
 *
 * Words 0 to 13 lie in the page's first 512 bytes, which a disk writes as a whole, so an unlatched
 * writer (raw) leaves them consistent.
 */
#ifndef BENCH_CONTENT_H
#define BENCH_CONTENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "random.h"

#define BENCH_TRAILER_BYTES 32u /* CP_PAGER_TRAILER_BYTES, checked in engine_pager.c */
#define BENCH_WORD_COUNTER  1u
#define BENCH_WORD_STABLE   14u
/* What an update changes, and how much of a page it must see. */
#define BENCH_UPDATE_OFFSET (BENCH_WORD_COUNTER * 8u)
#define BENCH_UPDATE_BYTES  ((BENCH_WORD_STABLE - BENCH_WORD_COUNTER) * 8u)
#define BENCH_UPDATE_SEES   (BENCH_WORD_STABLE * 8u)

static inline uint32_t bench_content_size(uint32_t page_size)
{
    return page_size - BENCH_TRAILER_BYTES;
}

/* The word at index; counter matters to words 2 to 13 only. */
static inline uint64_t bench_content_word(uint64_t seed, uint64_t page, uint32_t index,
                                          uint64_t counter)
{
    uint64_t key =
        seed + page * UINT64_C(0x9e3779b97f4a7c15) + index * UINT64_C(0xd1342543de82ef95);
    if (index > BENCH_WORD_COUNTER && index < BENCH_WORD_STABLE)
        key ^= bench_mix(counter + 1);
    return bench_mix(key);
}

/* Fill content_size bytes with what page holds before its first update. */
void bench_content_fill(void *content, uint32_t content_size, uint64_t seed, uint64_t page);

struct bench_tracker;

/* One thread's checking: what was found wrong first. */
struct bench_check {
    uint64_t seed;
    uint32_t content_size;
    uint64_t verified_count; /* words compared */
    uint64_t sum;            /* of what was scanned, so that nothing is optimised away */
    bool failed;
    uint64_t page, expected, found; /* valid when failed */
    uint32_t offset_bytes;
    const _Atomic int *stop;       /* a scan ends when it is not 0; may be NULL */
    struct bench_tracker *tracker; /* told of updates; may be NULL */
    void (*on_page)(void *ctx);    /* called for each page scanned; may be NULL */
    void *ctx;
};

/* Compare one word; records the first mismatch. */
bool bench_check_word(struct bench_check *check, uint64_t page, uint32_t index, uint64_t counter,
                      uint64_t found);

/* Compare every word of a page. */
bool bench_check_page(struct bench_check *check, uint64_t page, const void *content);

/*
 * Update a page in place: verify its identity and one word that depends on the counter, raise the
 * counter, rewrite what depends on it. False (and content untouched) when the page is wrong.
 */
bool bench_check_update(struct bench_check *check, uint64_t page, void *content);

/*
 * Take a scanned page: sums all its words, compares its identity, and every word of one page in
 * 64. False: stop scanning (wrong content, or the time is over).
 */
bool bench_check_scan(struct bench_check *check, uint64_t page, const void *content);

#endif
