/* SPDX-License-Identifier: MIT */
/*
 * A file is written and dropped from the page cache; random pages are read with O_DIRECT, twice,
 * and timed; then all of it is read so. mincore tells whether pages turned up in the page cache.
 */
#include "doctor_probe.h"

#include "common/signals.h"
#include "transfer.h"

#include <clockpool/base/thread.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE_BYTES    4096u
#define SAMPLE_READS  2000u
#define SAMPLE_MAX_NS UINT64_C(1500000000) /* a slow disk gets through fewer */

static int write_file(int fd, char *buffer, struct bench_error *error)
{
    for (uint64_t at = 0; at < BENCH_PROBE_BYTES; at += BENCH_TRANSFER_BYTES) {
        bench_content_fill(buffer, BENCH_TRANSFER_BYTES, 1, at);
        int code = bench_write_all(fd, buffer, BENCH_TRANSFER_BYTES, at);
        if (code != 0)
            return bench_fail_errno(error, code, "cannot write the probe file");
        if (signals_caught() != 0)
            return bench_fail(error, "interrupted");
    }
    if (fsync(fd) != 0)
        return bench_fail_errno(error, errno, "cannot sync the probe file");
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    return 0;
}

static int sample(int fd, char *buffer, double *out_reads_per_s, struct bench_error *error)
{
    struct bench_random random;
    bench_random_init(&random, 1, 1);
    uint64_t begin = cp_now_ns();
    unsigned count = 0;
    while (count < SAMPLE_READS && cp_now_ns() - begin < SAMPLE_MAX_NS) {
        uint64_t page = bench_random_below(&random, BENCH_PROBE_BYTES / PAGE_BYTES);
        int code = bench_read_all(fd, buffer, PAGE_BYTES, page * PAGE_BYTES);
        if (code != 0)
            return bench_fail_errno(error, code, "cannot read the probe file");
        count++;
    }
    *out_reads_per_s = (double)count * 1e9 / (double)(cp_now_ns() - begin);
    return 0;
}

static int count_cached(int fd, struct bench_probe *probe, struct bench_error *error)
{
    probe->page_count = BENCH_PROBE_BYTES / PAGE_BYTES;
    unsigned char *state = malloc(probe->page_count);
    void *map = mmap(NULL, BENCH_PROBE_BYTES, PROT_READ, MAP_SHARED, fd, 0);
    int result = 0;
    if (state == NULL || map == MAP_FAILED || mincore(map, BENCH_PROBE_BYTES, state) != 0)
        result = bench_fail_errno(error, errno, "cannot ask which pages are cached");
    for (uint64_t i = 0; result == 0 && i < probe->page_count; i++)
        probe->cached_pages += state[i] & 1;
    if (map != MAP_FAILED)
        munmap(map, BENCH_PROBE_BYTES);
    free(state);
    return result;
}

static int try_direct(const char *path, int plain_fd, char *buffer, struct bench_probe *probe,
                      struct bench_error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
    if (fd < 0) {
        snprintf(probe->direct_reason, sizeof probe->direct_reason, "%s", strerror(errno));
        return 0;
    }
    probe->direct = true;
    int result = sample(fd, buffer, &probe->first_reads_per_s, error);
    if (result == 0)
        result = sample(fd, buffer, &probe->second_reads_per_s, error);
    for (uint64_t at = 0; result == 0 && at < BENCH_PROBE_BYTES; at += BENCH_TRANSFER_BYTES) {
        int code = bench_read_all(fd, buffer, BENCH_TRANSFER_BYTES, at);
        if (code != 0)
            result = bench_fail_errno(error, code, "cannot read the probe file");
    }
    close(fd);
    return result != 0 ? result : count_cached(plain_fd, probe, error);
}

int bench_probe_run(const struct bench_place *place, struct bench_probe *out_probe,
                    struct bench_error *error)
{
    struct bench_probe probe = {0};
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/clockpool-bench-XXXXXX", place->path) >= (int)sizeof path)
        return bench_fail(error, "the path %s is too long", place->path);
    char *buffer = bench_huge_alloc(BENCH_TRANSFER_BYTES, error);
    if (buffer == NULL)
        return -1;
    int result = -1;
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0) {
        bench_fail_errno(error, errno, "cannot create a file in %s", place->path);
        goto free_buffer;
    }
    result = write_file(fd, buffer, error);
    if (result == 0)
        result = try_direct(path, fd, buffer, &probe, error);
    close(fd);
    unlink(path);
    if (result == 0)
        *out_probe = probe;

free_buffer:
    bench_huge_free(buffer, BENCH_TRANSFER_BYTES);
    return result;
}
