/* SPDX-License-Identifier: MIT */
/*
 * store_worker: another process that uses a store, for the tests of the command line.
 *
 *   create DIR COUNT PAGE-SIZE   a store of COUNT pairs (pairs.h)
 *   hold DIR                     open it; "ready"; close when standard input ends
 *   write DIR ACKS               open it; "ready"; change pairs with two threads until standard
 *                                input ends; close. ACKS: a file with the last version of each pair
 *                                that is durable, kept up to date
 *   crash DIR ACKS N             change N pairs, then die by SIGKILL
 *   forge DIR OFFSET VALUE       put a value into both superblocks, with good checksums
 *   verify DIR ACKS              is all that ACKS says there, and nothing torn? ACKS may be -
 *
 * Exit status 0 when all went well, 1 otherwise.
 */
#include "pairs.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define THREADS 2u

struct worker {
    struct cp_pager *pager;
    uint64_t count;
    _Atomic uint64_t *acks;
    _Atomic bool stop;
    _Atomic uint64_t changes;
};

static int fail(int code)
{
    char line[800];
    if (code != 0)
        printf("store_worker: %s\n", cp_error_format(line, sizeof line));
    return code != 0 ? 1 : 0;
}

static void *map_acks(const char *path, uint64_t count)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)(count * 8)) != 0) {
        perror(path);
        exit(1);
    }
    void *acks = mmap(NULL, count * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (acks == MAP_FAILED) {
        perror(path);
        exit(1);
    }
    return acks;
}

static void wait_for_end_of_input(void)
{
    char ignored[64];
    printf("ready\n");
    fflush(stdout);
    while (read(STDIN_FILENO, ignored, sizeof ignored) > 0)
        ;
}

static void *change_pairs(void *ctx)
{
    struct worker *worker = ctx;
    uint64_t random = (uint64_t)(uintptr_t)&random | 1; /* differs from thread to thread */
    intptr_t code = 0;
    while (code == 0 && !atomic_load_explicit(&worker->stop, memory_order_relaxed)) {
        code = pairs_change(worker->pager, worker->count, &random, worker->acks);
        atomic_fetch_add_explicit(&worker->changes, 1, memory_order_relaxed);
        if (code != 0)
            fail((int)code);
    }
    return (void *)code;
}

static int write_main(struct worker *worker)
{
    pthread_t threads[THREADS];
    int failed = 0;
    for (unsigned i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, change_pairs, worker);
    wait_for_end_of_input();
    atomic_store_explicit(&worker->stop, true, memory_order_relaxed);
    for (unsigned i = 0; i < THREADS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        failed |= result != NULL;
    }
    failed |= fail(cp_pager_close(worker->pager));
    printf("%" PRIu64 " changes\n", atomic_load_explicit(&worker->changes, memory_order_relaxed));
    return failed;
}

static int crash_main(struct worker *worker, uint64_t changes)
{
    uint64_t random = 88172645463325252u ^ (uint64_t)getpid();
    int code = 0;
    for (uint64_t i = 0; code == 0 && i < changes; i++)
        code = pairs_change(worker->pager, worker->count, &random, worker->acks);
    if (code == 0)
        kill(getpid(), SIGKILL);
    return fail(code);
}

static int verify_main(struct worker *worker)
{
    int64_t changes = pairs_verify(worker->pager, worker->acks);
    if (changes < 0) {
        if (changes != CP_EFORMAT)
            fail((int)changes);
        cp_pager_abandon(worker->pager);
        return 1;
    }
    printf("%" PRId64 " changes\n", changes);
    return fail(cp_pager_close(worker->pager));
}

int main(int argc, char **argv)
{
    struct cp_pager_options options = pairs_options();
    struct worker worker = {0};
    if (argc < 3)
        return 2;
    if (strcmp(argv[1], "create") == 0 && argc == 5)
        return fail(pairs_create(argv[2], (uint32_t)strtoul(argv[4], NULL, 10),
                                 strtoull(argv[3], NULL, 10)));
    if (strcmp(argv[1], "forge") == 0 && argc == 5)
        return !pairs_forge(argv[2], (unsigned)strtoul(argv[3], NULL, 10),
                            strtoull(argv[4], NULL, 10));
    /* Who reads the log beside a writer gets through between two checkpoints, on a busy machine
     * too. */
    if (strcmp(argv[1], "write") == 0)
        options.log_limit_bytes *= 4;
    if (fail(cp_pager_open(argv[2], &options, &worker.pager)))
        return 1;
    if (strcmp(argv[1], "hold") == 0) {
        wait_for_end_of_input();
        return fail(cp_pager_close(worker.pager));
    }
    if (strcmp(argv[1], "reserve") == 0 && argc == 4) {
        uint64_t first;
        const int code = cp_pager_allocate_run(worker.pager, strtoull(argv[3], NULL, 10), &first);
        return fail(code) || fail(cp_pager_close(worker.pager));
    }
    if (argc < 4 || fail(pairs_count(worker.pager, &worker.count)))
        return 1;
    if (strcmp(argv[3], "-") != 0)
        worker.acks = map_acks(argv[3], worker.count);
    if (strcmp(argv[1], "write") == 0)
        return write_main(&worker);
    if (strcmp(argv[1], "crash") == 0 && argc == 5)
        return crash_main(&worker, strtoull(argv[4], NULL, 10));
    return strcmp(argv[1], "verify") == 0 ? verify_main(&worker) : 2;
}
