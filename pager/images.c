/* SPDX-License-Identifier: MIT */
/*
 * Torn pages. A power failure may leave a page half old and half new. Recovery can rebuild it when
 * the log has, behind the redo point, a *base*: an image of the whole page, or the record that made
 * the page all zeros. So a page is written over only when it has such a base, and gets one logged
 * just before if not: once for each checkpoint, however often it is changed and written between.
 *
 * Whether it has one is told by the LSN in the trailer of the image in memory:
 *
 *   after a read          the LSN of what the page contained when it was last written. Above the
 *                         floor: it was written since the redo point, hence with a base
 *   after fix_new         that of the INIT record
 *   after an image        that of the image
 *   after a write         that of the content written, as after a read
 *
 * Invariant: a trailer LSN above the floor means that a base above the floor is in the log. Where
 * the device writes pages whole, they are written without; a superblock with the flag `unbased`
 * says so, and when such a store is recovered where bases are needed the floor is infinite, then
 * the recovered log's end, until there is another redo point.
 *
 * Else the floor is the redo point; while the redo point is being chosen it is infinite, so that
 * whoever read the old floor had its content in the log before the new redo point (both sides use
 * sequentially consistent accesses: floor, then the log's end here; append, then floor there).
 */
#include "images.h"
#include "records.h"
#include "rules.h"

#include <clockpool/base/bits.h>

void cp_images__begin(struct cp_page_images *images, const struct cp_superblock *superblock)
{
    bool unbased = (superblock->flags & CP_FORMAT_FLAG_UNBASED) != 0;
    atomic_init(&images->floor, unbased ? UINT64_MAX : superblock->checkpoint_lsn);
}

void cp_images__recovered(struct cp_page_images *images)
{
    if (atomic_load_explicit(&images->floor, memory_order_relaxed) == UINT64_MAX)
        atomic_store_explicit(&images->floor, cp_wal_end(images->wal), memory_order_seq_cst);
}

cp_lsn cp_images__choose_redo(struct cp_page_images *images)
{
    atomic_store_explicit(&images->floor, UINT64_MAX, memory_order_seq_cst);
    atomic_thread_fence(memory_order_seq_cst);
    cp_lsn redo = cp_wal_end(images->wal);
    atomic_store_explicit(&images->floor, redo, memory_order_seq_cst);
    return redo;
}

int cp_pager__page_before_write(void *ctx, void *data, uint64_t page, cp_lsn *inout_lsn)
{
    const struct cp_page_format *format = ctx;
    struct cp_page_images *images = format->images;

    if (images == NULL)
        return 0;
    cp_lsn base = cp_pager__page_base_lsn(format, data);
    atomic_thread_fence(memory_order_seq_cst);
    bool protected = base > atomic_load_explicit(&images->floor, memory_order_seq_cst);
    if (base > cp_wal_end(images->wal)) { /* no log of ours wrote that: a file from elsewhere */
        base = 0;
        protected = false;
    }
    cp_lsn lsn = cp_max_u64(*inout_lsn, base);
    if (!protected && images->needed && !CP_BREAK_PAGE_IMAGE) {
        const struct cp_wal_record record = {
            .type = CP_RECORD_IMAGE,
            .page = page,
            .data = data,
            .size_bytes = format->page_size - CP_PAGER_TRAILER_BYTES,
        };
        cp_lsn end;
        int code = cp_wal_append(images->wal, &record, 1, &end);
        if (code != 0)
            return code;
        cp_pager__page_set_base_lsn(format, data, end);
        atomic_fetch_add_explicit(&images->logged, 1, memory_order_relaxed);
        lsn = end;
    }
    *inout_lsn = lsn;
    return 0;
}
