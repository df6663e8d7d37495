/* SPDX-License-Identifier: MIT */
/*
 * The mapping of the mmap engine: a reservation of address space with the file at its start.
 *
 * Behind the end of the file lies anonymous read-only memory, not the file: whoever looks there by
 * mistake or too late sees zeros instead of being killed. Growing puts the file's new part over it,
 * shrinking puts the anonymous memory back before the file is cut; both replace the mapping in one
 * system call, so that the addresses are never without one. Nothing of it is locked, not even where
 * the host has called mlockall(MCL_FUTURE): terabytes of reservation would be brought in.
 *
 * A page is first brought in by MADV_POPULATE_READ, which reports what a touch would have been
 * killed for (no such part of the file, an I/O error). What remains: the kernel may drop a clean
 * page and fail to read it again later, and another process may cut the file under us. Then a touch
 * is SIGBUS; README.md says so. The lock file keeps well-behaved processes
 * from doing the latter.
 */
#include "mmap_engine.h"

#include <clockpool/arena.h>
#include <clockpool/base/bits.h>
#include <clockpool/base/error.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Smallest reservation worth having; with less the open fails. */
#define RESERVE_MIN_BYTES (UINT64_C(1) << 30)

static int advise(const struct mmap_engine *engine, uint64_t from, uint64_t to)
{
    static const int advices[] = {
        [CP_ADVICE_RANDOM] = MADV_RANDOM,
        [CP_ADVICE_NORMAL] = MADV_NORMAL,
        [CP_ADVICE_SEQUENTIAL] = MADV_SEQUENTIAL,
    };
    if (from == to || engine->advice == CP_ADVICE_NORMAL)
        return 0;
    return madvise(engine->map + from, to - from, advices[engine->advice]) == 0 ? 0 : -errno;
}

int cp_mmap__map_grow(struct mmap_engine *engine, uint64_t file_bytes)
{
    uint64_t from = atomic_load_explicit(&engine->mapped_bytes, memory_order_relaxed);
    uint64_t to = cp_align_up(file_bytes, engine->system_page);
    if (to <= from)
        return 0;
    const int protection = engine->in_place ? PROT_READ | PROT_WRITE : PROT_READ;
    void *part;
    int code = cp_arena_map(engine->map + from, to - from, protection, engine->fd, from, &part);
    if (code != 0)
        return cp_error_set(code, engine->format->path, CP_NO_PAGE, CP_NO_LSN, NULL,
                            "map %llu bytes of the file", (unsigned long long)(to - from));
    (void)advise(engine, from, to); /* speed only */
    atomic_store_explicit(&engine->mapped_bytes, to, memory_order_relaxed);
    return 0;
}

int cp_mmap__map_shrink(struct mmap_engine *engine, uint64_t file_bytes)
{
    uint64_t from = cp_align_up(file_bytes, engine->system_page);
    uint64_t to = atomic_load_explicit(&engine->mapped_bytes, memory_order_relaxed);
    if (from >= to)
        return 0;
    void *part;
    int code = cp_arena_map(engine->map + from, to - from, PROT_READ, -1, 0, &part);
    if (code != 0)
        return cp_error_set(code, engine->format->path, CP_NO_PAGE, CP_NO_LSN, NULL,
                            "unmap the end of the file");
    atomic_store_explicit(&engine->mapped_bytes, from, memory_order_relaxed);
    return 0;
}

/* As much address space as can be had, halving from the wish: map and words together. */
static int reserve_all(struct mmap_engine *engine, uint64_t file_bytes)
{
    const uint64_t least = cp_max_u64(RESERVE_MIN_BYTES, file_bytes * 2);
    uint64_t wish = UINT64_C(1) << CP_MMAP_RESERVE_LOG2;
    if (wish > CP_FORMAT_MAX_PAGES << engine->page_shift)
        wish = CP_FORMAT_MAX_PAGES << engine->page_shift;
    while (wish < least)
        wish *= 2;
    int code;
    for (;; wish /= 2) {
        const uint64_t pages = wish >> engine->page_shift;
        void *map, *words;
        code = cp_arena_map(NULL, wish, PROT_READ, -1, 0, &map);
        if (code == 0) {
            code =
                cp_arena_map(NULL, pages * sizeof(uint64_t), PROT_READ | PROT_WRITE, -1, 0, &words);
            if (code == 0) {
                engine->map = map;
                engine->words = words;
                engine->reserve_bytes = wish;
                engine->base.page_limit = pages;
                return 0;
            }
            munmap(map, wish);
        }
        if (wish / 2 < least)
            break;
    }
    return cp_error_set(-ENOMEM, engine->format->path, CP_NO_PAGE, CP_NO_LSN,
                        cp_arena_map_hint(code, "raise the limits on addresses and data (ulimit "
                                                "-v, ulimit -d), or use the pool engine"),
                        "reserve %llu bytes of address space", (unsigned long long)least);
}

int cp_mmap__map_init(struct mmap_engine *engine, const struct cp_engine_setup *setup)
{
    engine->system_page = (uint64_t)sysconf(_SC_PAGESIZE);
    engine->advice = setup->options->advice;
    const int access = engine->in_place ? O_RDWR : O_RDONLY;
    engine->fd = open(setup->format->path, access | O_CLOEXEC | O_NOFOLLOW);
    if (engine->fd < 0)
        return cp_error_set(-errno, setup->format->path, CP_NO_PAGE, CP_NO_LSN, NULL,
                            "open the data file for mapping");
    int code = reserve_all(engine, setup->file_bytes);
    if (code == 0)
        code = cp_mmap__map_grow(engine, setup->file_bytes);
    return code;
}

void cp_mmap__map_fini(struct mmap_engine *engine)
{
    if (engine->words != NULL)
        munmap(engine->words, engine->base.page_limit * sizeof(uint64_t));
    if (engine->map != NULL)
        munmap(engine->map, engine->reserve_bytes);
    if (engine->fd >= 0)
        close(engine->fd);
}

/* Does the file really reach over the page? Asked only when something has failed. */
static int explain_fault(const struct mmap_engine *engine, uint64_t page)
{
    struct stat status;
    uint64_t end = (page + 1) << engine->page_shift;
    if (fstat(engine->fd, &status) == 0 && (uint64_t)status.st_size < end)
        return cp_error_set(-ENODATA, engine->format->path, page, CP_NO_LSN,
                            "the file was cut while it was open: restore from a backup",
                            "the file ends before the page");
    return cp_error_set(-EIO, engine->format->path, page, CP_NO_LSN, NULL, "read a page");
}

/* Without MADV_POPULATE_READ: read a byte of each system page, so that an error shows as a code. */
static int populate_by_reading(const struct mmap_engine *engine, uint64_t page)
{
    const uint64_t start = page << engine->page_shift;
    for (uint64_t at = start; at < start + engine->page_size; at += CP_FORMAT_BLOCK_BYTES) {
        unsigned char byte;
        ssize_t got;
        do {
            got = pread(engine->fd, &byte, 1, (off_t)at);
        } while (got < 0 && errno == EINTR); /* ends: when signals pause */
        if (got != 1)
            return explain_fault(engine, page);
    }
    return 0;
}

int cp_mmap__map_touch(struct mmap_engine *engine, uint64_t page)
{
    unsigned char *data = mmap_map_at(engine, page);
    int code = 0;
    if (((page + 1) << engine->page_shift) >
        atomic_load_explicit(&engine->mapped_bytes, memory_order_relaxed))
        return explain_fault(engine, page);
    bool populate = !atomic_load_explicit(&engine->no_populate, memory_order_relaxed);
    if (populate) {
        uintptr_t start = cp_align_down((uintptr_t)data, engine->system_page);
        uint64_t length = cp_align_up((uintptr_t)data + engine->page_size, engine->system_page);
        if (madvise((void *)start, length - start, MADV_POPULATE_READ) != 0) {
            if (errno == EINVAL) {
                atomic_store_explicit(&engine->no_populate, true, memory_order_relaxed);
                populate = false;
            } else {
                code = explain_fault(engine, page);
            }
        }
    }
    if (!populate)
        code = populate_by_reading(engine, page);
    if (code == 0) {
        code = cp_pager__page_verify(engine->format, data, page);
        if (code != 0)
            atomic_fetch_add_explicit(&engine->verify_errors, 1, memory_order_relaxed);
    }
    return code;
}

int cp_mmap__map_prefetch(struct mmap_engine *engine, const uint64_t *pages, uint32_t count)
{
    int advised = 0;
    for (uint32_t i = 0; i < count;) {
        uint32_t run = 1;
        while (i + run < count && pages[i + run] == pages[i] + run)
            run++;
        uint64_t start = cp_align_down(pages[i] << engine->page_shift, engine->system_page);
        uint64_t end = (pages[i] + run) << engine->page_shift;
        if (madvise(engine->map + start, end - start, MADV_WILLNEED) == 0)
            advised += (int)run;
        i += run;
    }
    return advised;
}
