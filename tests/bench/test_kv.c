/* SPDX-License-Identifier: MIT */
/* The drivers of key-value stores, one page at a time. Those that are not built are left out. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "engine.h"
#include "scratch.h"

#define PAGES     UINT64_C(300)
#define PAGE_SIZE 16384u
#define LAST_WORD (bench_content_size(PAGE_SIZE) / 8 - 1)
#define SEED      3

static const struct bench_engine *const engines[] = {&bench_engine_sqlite, &bench_engine_wiredtiger,
                                                     &bench_engine_rocksdb,
                                                     &bench_engine_berkeleydb};
#define ENGINES (sizeof engines / sizeof *engines)

static struct bench_setup setup;
static struct bench_error error;
static struct bench_check check;

static int report(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx, (void)done, (void)total;
    return 0;
}

static void make(const struct bench_engine *engine)
{
    const struct bench_progress_sink sink = {report, NULL};
    setup =
        (struct bench_setup){.data = {.page_count = PAGES, .page_size = PAGE_SIZE, .seed = SEED},
                             .mem_bytes = UINT64_C(64) << 20,
                             .fits = true,
                             .workload = BENCH_UPDATE_RANDOM,
                             .threads_max = 1,
                             .depth_max = 1,
                             .batch = 1};
    snprintf(setup.data.directory, sizeof setup.data.directory, "kv-XXXXXX");
    assert_non_null(mkdtemp(setup.data.directory));
    if (engine->create(&setup.data, &sink, &error) != 0)
        fail_msg("%s: %s", engine->name, error.text);
}

/* Read a word; expected is what must be in it. */
static void expect_word(const struct bench_engine *engine, void *thread, uint64_t page,
                        uint32_t index, uint64_t expected)
{
    struct bench_op op = {.page = page, .where = page, .offset_bytes = index * 8};
    if (engine->read(thread, &op, 1) != 0)
        fail_msg("%s: %s", engine->name, error.text);
    if (op.value != expected)
        fail_msg("%s: page %" PRIu64 ", word %u: 0x%" PRIx64, engine->name, page, index, op.value);
}

static uint64_t word_of(uint64_t page, uint32_t index, uint64_t counter)
{
    return bench_content_word(SEED, page, index, counter);
}

static void read_and_update(const struct bench_engine *engine, void *thread)
{
    static const uint64_t pages[] = {0, 1, PAGES / 2, PAGES - 1};
    const uint32_t words[] = {0, 2, BENCH_WORD_STABLE, LAST_WORD / 2, LAST_WORD};
    for (unsigned p = 0; p < sizeof pages / sizeof *pages; p++)
        for (unsigned w = 0; w < sizeof words / sizeof *words; w++)
            expect_word(engine, thread, pages[p], words[w], word_of(pages[p], words[w], 0));
    struct bench_op op = {.page = 7, .where = 7};
    assert_int_equal(engine->update(thread, &op), 0);
    assert_int_equal(engine->update(thread, &op), 0);
    assert_false(check.failed);
    expect_word(engine, thread, 7, BENCH_WORD_COUNTER, 2);
    expect_word(engine, thread, 7, BENCH_WORD_STABLE - 1, word_of(7, BENCH_WORD_STABLE - 1, 2));
    expect_word(engine, thread, 7, LAST_WORD, word_of(7, LAST_WORD, 0));
    assert_int_equal(engine->scan(thread, 0, 7), 0);
    assert_int_equal(engine->scan(thread, 8, PAGES - 8), 0);
    assert_false(check.failed);
    op.where = PAGES + 5; /* none such: said, not made up */
    assert_int_equal(engine->read(thread, &op, 1), -1);
    assert_non_null(strstr(error.text, "page 305"));
}

static void driver_reads_words_where_they_lie(void **state)
{
    (void)state;
    unsigned built = 0;
    for (unsigned i = 0; i < ENGINES; i++) {
        const struct bench_engine *engine = engines[i];
        void *handle, *thread;
        if (engine->not_built != NULL) {
            printf("%s is not built\n", engine->name);
            continue;
        }
        built++;
        make(engine);
        if (engine->open(&setup, &handle, &error) != 0)
            fail_msg("%s: %s", engine->name, error.text);
        check = (struct bench_check){.seed = SEED, .content_size = bench_content_size(PAGE_SIZE)};
        const struct bench_thread_setup at = {
            .workload = setup.workload, .depth = 1, .batch = 1, .check = &check, .error = &error};
        if (engine->thread_begin(handle, &at, &thread) != 0)
            fail_msg("%s: %s", engine->name, error.text);
        read_and_update(engine, thread);
        engine->thread_end(thread);
        engine->close(handle);
        bench_remove_tree(setup.data.directory);
    }
    if (built == 0)
        skip();
}

/* What a failure has left. */
static int teardown(void **state)
{
    (void)state;
    if (setup.data.directory[0] != '\0')
        bench_remove_tree(setup.data.directory);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(driver_reads_words_where_they_lie, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
