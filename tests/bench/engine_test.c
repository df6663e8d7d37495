/* SPDX-License-Identifier: MIT */
/*
 * Engines of the tests: raw, with something wrong about it.
 *
 *     faulty    one page in 97 comes with a bit flipped
 *     crash     the process ends by a signal during the first measurement
 *     refuses   cannot be opened
 *     forgets   mmap: one update in 50 is acknowledged and not made
 *     forgets-commits   lmdb: one commit in 50 likewise
 *     spoilt    floor, over a file in which some pages' checksums are wrong and their contents not
 */
#include "storefile.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static int read_faulty(void *thread, struct bench_op *ops, unsigned count)
{
    int code = bench_engine_raw.read(thread, ops, count);
    for (unsigned i = 0; code == 0 && i < count; i++)
        if (ops[i].page % 97 == 5)
            ops[i].value ^= 4;
    return code;
}

static int read_crash(void *thread, struct bench_op *ops, unsigned count)
{
    (void)thread;
    (void)ops;
    (void)count;
    abort();
}

/* How many updates have come; several threads may lose count, which does no harm. */
static unsigned forgotten_turn;

static bool shall_forget(void)
{
    return __atomic_add_fetch(&forgotten_turn, 1, __ATOMIC_RELAXED) % 50 == 0;
}

static int update_forgets(void *thread, struct bench_op *op)
{
    return shall_forget() ? 0 : bench_engine_mmap.update(thread, op);
}

static int commit_forgets(void *thread, struct bench_op *op)
{
    return shall_forget() ? 0 : bench_engine_lmdb.commit(thread, op);
}

static int open_refuses(const struct bench_setup *setup, void **out_engine,
                        struct bench_error *error)
{
    (void)setup;
    (void)out_engine;
    return bench_fail(error, "this engine refuses");
}

static int open_spoilt(const struct bench_setup *setup, void **out_engine,
                       struct bench_error *error)
{
    char path[PATH_MAX];
    if (bench_store_path(&setup->data, "store/data", path, error) != 0)
        return -1;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    for (off_t page = 200; page < 400; page++) {
        const off_t last = (page + 1) * setup->data.page_size - 1; /* of the checksum */
        char byte = 0;
        if (pread(fd, &byte, 1, last) != 1)
            return bench_fail(error, "cannot spoil %s", path);
        byte ^= 1;
        if (pwrite(fd, &byte, 1, last) != 1)
            return bench_fail(error, "cannot spoil %s", path);
    }
    if (fsync(fd) != 0 || close(fd) != 0)
        return bench_fail(error, "cannot spoil %s", path);
    return bench_engine_floor.open(setup, out_engine, error);
}

static const char *version(void)
{
    return "test";
}

static struct bench_engine faulty, crash, refuses, forgets, forgets_commits, spoilt;

extern const struct bench_engine *const bench_engines_extra[];
const struct bench_engine *const bench_engines_extra[] = {
    &faulty, &crash, &refuses, &forgets, &forgets_commits, &spoilt, NULL};

__attribute__((constructor)) static void make_engines(void)
{
    faulty = crash = refuses = bench_engine_raw;
    faulty.name = "faulty";
    crash.name = "crash";
    refuses.name = "refuses";
    faulty.version = crash.version = refuses.version = version;
    faulty.deep = crash.deep = refuses.deep = false;
    faulty.read = read_faulty;
    crash.read = read_crash;
    refuses.open = open_refuses;
    spoilt = bench_engine_floor;
    spoilt.name = "spoilt";
    spoilt.open = open_spoilt;
    forgets = bench_engine_mmap;
    forgets.name = "forgets";
    forgets.update = update_forgets;
    forgets_commits = bench_engine_lmdb;
    forgets_commits.name = "forgets-commits";
    if (forgets_commits.not_built == NULL)
        forgets_commits.commit = commit_forgets;
}
