/* SPDX-License-Identifier: MIT */
/* Whole transfers, and huge-page buffers. */
#include "transfer.h"

#include <clockpool/base/bits.h>

#include <errno.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_BYTES UINT64_C(2097152)

int bench_read_all(int fd, void *buffer, uint64_t size_bytes, uint64_t offset_bytes)
{
    while (size_bytes > 0) {
        ssize_t n = pread(fd, buffer, size_bytes, (off_t)offset_bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : EIO;
        buffer = (char *)buffer + n;
        size_bytes -= (uint64_t)n;
        offset_bytes += (uint64_t)n;
    }
    return 0;
}

int bench_write_all(int fd, const void *buffer, uint64_t size_bytes, uint64_t offset_bytes)
{
    while (size_bytes > 0) {
        ssize_t n = pwrite(fd, buffer, size_bytes, (off_t)offset_bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : EIO;
        buffer = (const char *)buffer + n;
        size_bytes -= (uint64_t)n;
        offset_bytes += (uint64_t)n;
    }
    return 0;
}

void *bench_huge_alloc(uint64_t size_bytes, struct bench_error *error)
{
    uint64_t size = cp_align_up(size_bytes, HUGE_BYTES);
    char *raw = mmap(NULL, size + HUGE_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (raw == MAP_FAILED) {
        bench_fail_errno(error, errno, "cannot map %" PRIu64 " bytes of memory", size);
        return NULL;
    }
    char *memory = (char *)cp_align_up((uint64_t)(uintptr_t)raw, HUGE_BYTES);
    if (memory > raw)
        munmap(raw, (size_t)(memory - raw));
    munmap(memory + size, (size_t)(raw + HUGE_BYTES - memory));
    /* A few pages, as each thread has them, are not worth 2 MiB of the limit. Refused: whatever the
     * system does. */
    madvise(memory, size, size_bytes >= HUGE_BYTES ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    return memory;
}

void bench_huge_free(void *memory, uint64_t size_bytes)
{
    if (memory != NULL)
        munmap(memory, cp_align_up(size_bytes, HUGE_BYTES));
}
