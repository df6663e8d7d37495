/* SPDX-License-Identifier: MIT */
/* Filling and verifying pages. See content.h for the layout. */
#include "content.h"

#include "tracker.h"

#include <string.h>

#define FULL_CHECK_PERIOD 64u /* comparing every word costs about as much as reading ten pages */

static uint64_t load_word(const void *content, uint32_t index)
{
    uint64_t word;
    memcpy(&word, (const char *)content + (size_t)index * 8, 8);
    return word;
}

static void store_word(void *content, uint32_t index, uint64_t word)
{
    memcpy((char *)content + (size_t)index * 8, &word, 8);
}

void bench_content_fill(void *content, uint32_t content_size, uint64_t seed, uint64_t page)
{
    for (uint32_t i = 0; i < content_size / 8; i++)
        store_word(content, i, i == BENCH_WORD_COUNTER ? 0 : bench_content_word(seed, page, i, 0));
}

bool bench_check_word(struct bench_check *check, uint64_t page, uint32_t index, uint64_t counter,
                      uint64_t found)
{
    uint64_t expected = bench_content_word(check->seed, page, index, counter);
    check->verified_count++;
    if (__builtin_expect(expected == found, 1))
        return true;
    if (!check->failed) {
        check->failed = true;
        check->page = page;
        check->offset_bytes = index * 8;
        check->expected = expected;
        check->found = found;
    }
    return false;
}

bool bench_check_page(struct bench_check *check, uint64_t page, const void *content)
{
    uint64_t counter = load_word(content, BENCH_WORD_COUNTER);
    for (uint32_t i = 0; i < check->content_size / 8; i++)
        if (i != BENCH_WORD_COUNTER &&
            !bench_check_word(check, page, i, counter, load_word(content, i)))
            return false;
    return true;
}

bool bench_check_update(struct bench_check *check, uint64_t page, void *content)
{
    uint64_t counter = load_word(content, BENCH_WORD_COUNTER);
    uint32_t sample = 2 + (uint32_t)(check->verified_count / 2 % (BENCH_WORD_STABLE - 2));
    if (!bench_check_word(check, page, 0, counter, load_word(content, 0)) ||
        !bench_check_word(check, page, sample, counter, load_word(content, sample)))
        return false;
    if (check->tracker != NULL)
        bench_tracker_note_begun(check->tracker, page, counter);
    counter++;
    store_word(content, BENCH_WORD_COUNTER, counter);
    for (uint32_t i = 2; i < BENCH_WORD_STABLE; i++)
        store_word(content, i, bench_content_word(check->seed, page, i, counter));
    return true;
}

bool bench_check_scan(struct bench_check *check, uint64_t page, const void *content)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < check->content_size / 8; i++)
        sum += load_word(content, i);
    check->sum += sum;
    if (page % FULL_CHECK_PERIOD == 0) {
        if (!bench_check_page(check, page, content))
            return false;
    } else if (!bench_check_word(check, page, 0, 0, load_word(content, 0))) {
        return false;
    }
    if (check->on_page != NULL)
        check->on_page(check->ctx);
    /* relaxed: the flag carries no data; seeing it a page later does no harm */
    return check->stop == NULL || atomic_load_explicit(check->stop, memory_order_relaxed) == 0;
}
