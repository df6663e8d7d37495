/* SPDX-License-Identifier: MIT */
/*
 * Engine "floor": raw, and the least that every page cache of checksummed pages has to do beside:
 *
 *   data fit in memory   a page is looked up in a table, one word a page, that says where it is;
 *                        a batch is looked up and fetched before its first page is read. Nothing
 *                        protects what is read.
 *   they do not          the checksum of every page read is compared
 *
 * What the pool takes beside this is its own: protection, policy, waiting. Reads only.
 */
#include "raw_engine.h"

#include <stdio.h>
#include <stdlib.h>

/* Of a word: where the page is, as an offset in bytes; the bits below are state, zeros here. */
#define PLACE_MASK (~UINT64_C(0xfff))

static void close_engine(void *handle)
{
    struct raw_engine *engine = handle;
    free(engine->words);
    bench_raw_close(engine);
}

static int make_table(struct raw_engine *engine, struct bench_error *error)
{
    const uint32_t page_size = engine->setup->data.page_size;
    const uint64_t count = engine->array_bytes / page_size;
    engine->words = malloc(count * sizeof *engine->words);
    if (engine->words == NULL)
        return bench_fail(error, "out of memory");
    for (uint64_t i = 0; i < count; i++)
        engine->words[i] = i * page_size;
    return 0;
}

static int open_engine(const struct bench_setup *setup, void **out_engine,
                       struct bench_error *error)
{
    void *handle;
    if (bench_raw_open(setup, &handle, error) != 0)
        return -1;
    struct raw_engine *engine = handle;
    engine->verifies = engine->array == NULL;
    if (engine->array != NULL && make_table(engine, error) != 0) {
        close_engine(engine);
        return -1;
    }
    *out_engine = engine;
    return 0;
}

static void stats(void *handle, struct bench_engine_stats *out_stats)
{
    const struct raw_engine *engine = handle;
    if (engine->array != NULL) {
        snprintf(out_stats->details, sizeof out_stats->details,
                 "array in memory behind a table of words, huge pages asked for; nothing protects "
                 "what is read");
        return;
    }
    struct bench_engine_stats raw = {.synchronous = false};
    bench_raw_stats(handle, &raw);
    out_stats->synchronous = raw.synchronous;
    snprintf(out_stats->details, sizeof out_stats->details, "%.300s; checksums compared",
             raw.details);
}

/* ---- reading ----------------------------------------------------------------------------------
 */

static const char *look_up(const struct raw_engine *engine, const struct bench_op *op)
{
    const uint64_t word =
        __atomic_load_n(&engine->words[op->where - engine->base_page], __ATOMIC_RELAXED);
    return engine->array + (word & PLACE_MASK) + op->offset_bytes;
}

static void read_word(struct bench_op *op, const char *at)
{
    op->value = __atomic_load_n((const uint64_t *)(const void *)at, __ATOMIC_RELAXED);
}

static void read_batch(const struct raw_engine *engine, struct bench_op *ops, unsigned count)
{
    const char *at[BENCH_DEPTH_MAX];
    for (unsigned i = 0; i < count; i++) {
        at[i] = look_up(engine, &ops[i]);
        __builtin_prefetch(at[i]);
    }
    for (unsigned i = 0; i < count; i++)
        read_word(&ops[i], at[i]);
}

static int read_ops(void *handle, struct bench_op *ops, unsigned count)
{
    const struct raw_thread *thread = handle;
    const struct raw_engine *engine = thread->engine;
    if (engine->array == NULL)
        return bench_raw_read(handle, ops, count);
    if (thread->setup.access != BENCH_BATCH) {
        for (unsigned i = 0; i < count; i++)
            read_word(&ops[i], look_up(engine, &ops[i]));
        return 0;
    }
    for (unsigned done = 0; done < count;) {
        unsigned part = count - done < thread->setup.batch ? count - done : thread->setup.batch;
        read_batch(engine, ops + done, part);
        done += part;
    }
    return 0;
}

static int start_op(void *handle, unsigned slot, struct bench_op *op)
{
    const struct raw_thread *thread = handle;
    if (thread->engine->array == NULL)
        return bench_raw_start(handle, slot, op);
    read_word(op, look_up(thread->engine, op));
    return 1;
}

const struct bench_engine bench_engine_floor = {
    .name = "floor",
    .summary = "raw, and what no page cache can leave out: a table's lookup, checksums; reads only",
    .format = BENCH_STORE_FORMAT,
    .deep = true,
    .version = bench_raw_version,
    .disk_bytes = bench_store_disk_bytes,
    .create = bench_store_create,
    .open = open_engine,
    .close = close_engine,
    .locate = bench_raw_locate,
    .stats = stats,
    .thread_begin = bench_raw_thread_begin,
    .thread_end = bench_raw_thread_end,
    .read = read_ops,
    .start = start_op,
    .reap = bench_raw_reap,
    .scan = bench_raw_scan,
};
