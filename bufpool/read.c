/* SPDX-License-Identifier: MIT */
/*
 * Copying reads: optimistic, without writing to shared memory, with a shared fix behind them.
 *
 * The page may be changing under the copy; so it is copied by relaxed atomic loads (no data race in
 * the language's sense, and ThreadSanitizer agrees), and thrown away when the word has changed.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>

#define OPTIMISTIC_TRIES 3u

CP_UNWATCHED static void copy_relaxed(unsigned char *target, const unsigned char *source,
                                      uint32_t size_bytes)
{
    while (size_bytes > 0 && ((uintptr_t)source & 7) != 0) {
        *target++ = __atomic_load_n(source++, __ATOMIC_RELAXED);
        size_bytes--;
    }
    for (; size_bytes >= 8; size_bytes -= 8, source += 8, target += 8) {
        uint64_t value = __atomic_load_n((const uint64_t *)(const void *)source, __ATOMIC_RELAXED);
        memcpy(target, &value, sizeof value);
    }
    while (size_bytes > 0) {
        *target++ = __atomic_load_n(source++, __ATOMIC_RELAXED);
        size_bytes--;
    }
}

int cp_bufpool_read(struct cp_bufpool_file *file, uint64_t page, uint32_t offset_bytes,
                    void *buffer, uint32_t size_bytes)
{
    if (offset_bytes > file->page_size || size_bytes > file->page_size - offset_bytes)
        return cp_error_set(-EINVAL, file->path, page, CP_NO_LSN,
                            "offset and size must lie inside the page",
                            "reading %u bytes at %u of a page of %u bytes", size_bytes,
                            offset_bytes, file->page_size);

    const struct cp_page_map *map = &file->shared_map;
    for (uint32_t attempt = 0; attempt < OPTIMISTIC_TRIES; attempt++) {
        uint64_t word = 0;
        const unsigned char *data = cp_optimistic_begin(map, page, &word);
        if (data == NULL)
            break;
        copy_relaxed(buffer, data + offset_bytes, size_bytes);
        if (__builtin_expect(cp_optimistic_validate(map, page, word), 1)) {
            cp_bufpool__count(file->pool, CP_COUNT_HITS, 1);
            return 0;
        }
        cp_bufpool__count(file->pool, CP_COUNT_OPTIMISTIC_RETRIES, 1);
    }
    struct cp_fix fix;
    int status = cp_bufpool_fix(file, page, CP_SHARED, &fix);
    if (status != 0)
        return status;
    memcpy(buffer, (unsigned char *)fix.data + offset_bytes, size_bytes);
    cp_bufpool_unfix(&fix);
    return 0;
}
