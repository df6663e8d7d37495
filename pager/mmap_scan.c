/* SPDX-License-Identifier: MIT */
/*
 * Scans over the mapping: the kernel reads ahead as told by the same window as the pool's scans.
 *
 * For each piece of the range: ask the kernel whether the piece is in memory, which is how a wait
 * shows here; advise it of what the window reaches over (MADV_WILLNEED starts reads and does not
 * wait); then map the piece in one call, which waits for its reads. What fails is left to the fix
 * of the page, which says why. Pages are not kept from pushing out others: that is the kernel's
 * affair.
 */
#include "mmap_engine.h"

#include <clockpool/base/bits.h>

#include <sys/mman.h>

#define PIECE_BYTES (UINT64_C(1) << 20)
#define FIRST_BYTES (UINT64_C(1) << 20)
#define MOST_BYTES  (UINT64_C(8) << 20)

void cp_mmap__scan_begin(const struct mmap_engine *engine, uint64_t first, uint64_t count,
                         struct cp_scan *out_scan)
{
    *out_scan =
        (struct cp_scan){.next = first, .end = first + count, .ahead = first, .ready = first};
    cp_window_init(&out_scan->window, (uint32_t)(FIRST_BYTES >> engine->page_shift),
                   (uint32_t)(PIECE_BYTES >> engine->page_shift),
                   (uint32_t)(MOST_BYTES >> engine->page_shift));
}

/* Is the part of the mapping in memory? Where the kernel does not say: yes. */
static bool is_resident(unsigned char *start, uint64_t bytes, uint64_t system_page)
{
    unsigned char present[PIECE_BYTES / CP_FORMAT_BLOCK_BYTES + 1];
    uint64_t count = cp_align_up(bytes, system_page) / system_page;

    if (count > sizeof present || mincore(start, bytes, present) != 0)
        return true;
    for (uint64_t i = 0; i < count; i++) {
        if ((present[i] & 1) == 0)
            return false;
    }
    return true;
}

void cp_mmap__scan_ahead(struct mmap_engine *engine, struct cp_scan *scan)
{
    cp_window_took(&scan->window);
    if (scan->next < scan->ready)
        return;
    uint64_t mapped = atomic_load_explicit(&engine->mapped_bytes, memory_order_relaxed);
    uint64_t start = cp_align_down(scan->next << engine->page_shift, engine->system_page);
    uint64_t end_bytes = cp_min_u64(mapped, scan->end << engine->page_shift);
    uint64_t ready = cp_min_u64(end_bytes, start + PIECE_BYTES);
    if (start >= ready)
        return; /* the file was cut: fixing the page says so */

    if (!is_resident(engine->map + start, ready - start, engine->system_page))
        cp_window_waited(&scan->window);
    uint64_t from = cp_align_down(cp_max_u64(scan->ahead, scan->next) << engine->page_shift,
                                  engine->system_page);
    uint64_t reach = start + ((uint64_t)scan->window.pages << engine->page_shift);
    uint64_t to = cp_min_u64(end_bytes, cp_align_up(reach, PIECE_BYTES));
    if (from < to && madvise(engine->map + from, to - from, MADV_WILLNEED) == 0)
        scan->ahead = to >> engine->page_shift;
    (void)madvise(engine->map + start, ready - start, MADV_POPULATE_READ); /* else fix does it */
    scan->ready = ready >> engine->page_shift;
}
