/* SPDX-License-Identifier: MIT */
/* Reading back what was updated: has an update been lost as a whole? See tracker.h. */
#include "workload.h"

#include "tracker.h"

#include <inttypes.h>

static uint64_t count_updated(const struct bench_tracker *tracker)
{
    uint64_t count = 0;
    for (uint64_t page = bench_tracker_next(tracker, 0); page != UINT64_MAX;
         page = bench_tracker_next(tracker, page + 1))
        count++;
    return count;
}

static int read_word(const struct bench_cell_input *input, void *thread, uint64_t page,
                     uint32_t index, uint64_t *out_word)
{
    struct bench_op op = {
        .page = page, .where = bench_locate(input, page), .offset_bytes = index * 8};
    if (input->engine->read(thread, &op, 1) != 0)
        return -1;
    *out_word = op.value;
    return 0;
}

static int verify_page(const struct bench_cell_input *input, void *thread, uint64_t page,
                       struct bench_error *error)
{
    uint64_t expected = bench_tracker_expected(input->tracker, page), counter, word;
    uint32_t index = 2 + (uint32_t)(page % (BENCH_WORD_STABLE - 2));
    if (read_word(input, thread, page, BENCH_WORD_COUNTER, &counter) != 0 ||
        read_word(input, thread, page, index, &word) != 0)
        return -1;
    if (counter != expected)
        return bench_fail(
            error,
            "lost update: engine %s, page %" PRIu64 ": %" PRIu64
            " updates were acknowledged, and its counter is %" PRIu64 " instead of %" PRIu64,
            input->engine->name, page, bench_tracker_done(input->tracker, page), counter, expected);
    uint64_t wanted = bench_content_word(input->setup->data.seed, page, index, counter);
    if (word != wanted)
        return bench_fail(error,
                          "wrong bytes: engine %s, page %" PRIu64
                          ", offset %u: expected 0x%016" PRIx64 ", found 0x%016" PRIx64,
                          input->engine->name, page, index * 8, wanted, word);
    return 0;
}

int bench_verify_updates(const struct bench_cell_input *input, uint64_t limit, uint64_t *out_count,
                         struct bench_error *error)
{
    const struct bench_engine *engine = input->engine;
    uint64_t updated = count_updated(input->tracker), step = 1 + updated / limit, number = 0;
    if (bench_workload_commits(input->setup->workload) && engine->verify != NULL) {
        *out_count += updated;
        return engine->verify(input->handle, input->tracker, error);
    }
    struct bench_thread_setup setup = {
        .workload = BENCH_READ_RANDOM, .access = BENCH_FIX, .depth = 1, .batch = 1, .error = error};
    void *thread;
    int result = 0;
    if (engine->thread_begin(input->handle, &setup, &thread) != 0)
        return -1;
    for (uint64_t page = bench_tracker_next(input->tracker, 0); result == 0 && page != UINT64_MAX;
         page = bench_tracker_next(input->tracker, page + 1))
        if (number++ % step == 0) {
            result = verify_page(input, thread, page, error);
            *out_count += result == 0;
        }
    engine->thread_end(thread);
    return result;
}
