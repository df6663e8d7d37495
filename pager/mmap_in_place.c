/* SPDX-License-Identifier: MIT */
/*
 * The unsafe way of the mmap engine, for experiments: the file is mapped shared and writable, and
 * pages are changed where they lie.
 *
 * That is what makes a mapping tempting, and what is wrong with it: the kernel may write any page
 * at any moment, so a page can reach the device before its log, half changed, or with a trailer
 * that is not true yet. Nobody can be asked first: the gate and the page images of the other ways
 * have no place here. docs/benchmark.md and the crash search show what comes of it.
 *
 * What is left of the promises: latches work as ever; a page's trailer is made true whenever its
 * exclusive latch is let go (seal); flush waits for whoever holds a dirty page, so that a page
 * which flush wrote is whole unless it was changed again since.
 *
 *     nothing --fix, first touch--> VERIFIED
 *     any ------mark_dirty-------> DIRTY         trailer: LSN
 *     DIRTY ----unfix------------> DIRTY         trailer: checksum
 *     DIRTY ----flush------------> VERIFIED      then one msync for all
 */
#include "mmap_engine.h"

#include <clockpool/base/error.h>

#include <errno.h>
#include <sys/mman.h>

static struct cp_page_trailer *trailer_of(const struct mmap_engine *engine, uint64_t page)
{
    return (struct cp_page_trailer *)(void *)(mmap_map_at(engine, page) + engine->page_size -
                                              sizeof(struct cp_page_trailer));
}

int cp_mmap__in_place_take(struct mmap_engine *engine, uint64_t page, uint64_t seen,
                           bool *out_missed)
{
    if ((seen & MMAP_VERIFIED) != 0)
        return 0;
    *out_missed = true;
    int code = cp_mmap__map_touch(engine, page);
    if (code == 0)
        mmap_change_held(&engine->words[page], 0, MMAP_VERIFIED);
    return code;
}

int cp_mmap__in_place_take_new(struct mmap_engine *engine, uint64_t page)
{
    if (((page + 1) << engine->page_shift) >
        atomic_load_explicit(&engine->mapped_bytes, memory_order_relaxed))
        return cp_error_set(-ENODATA, engine->format->path, page, CP_NO_LSN, NULL,
                            "the file ends before the page");
    mmap_change_held(&engine->words[page], 0, MMAP_VERIFIED);
    return 0;
}

void cp_mmap__in_place_note(struct mmap_engine *engine, uint64_t page, cp_lsn lsn)
{
    struct cp_page_trailer *trailer = trailer_of(engine, page);
    if (lsn > trailer->lsn)
        trailer->lsn = lsn;
}

void cp_mmap__in_place_seal(struct mmap_engine *engine, uint64_t page)
{
    cp_pager__page_seal(engine->format, mmap_map_at(engine, page), page,
                        trailer_of(engine, page)->lsn);
}

/* Clear the dirty bit of a page once nobody holds it exclusively. */
static void take_dirty_bit(struct mmap_engine *engine, uint64_t page)
{
    uint64_t *word = &engine->words[page];
    uint64_t seen = cp_word_load(word);
    while ((seen & CP_WORD_DIRTY) != 0) { /* ends: holders let go, and a failed swap means change */
        if (cp_word_latch(seen) > CP_LATCH_SHARED_MAX) {
            (void)!cp_latch_wait(word, seen, NULL, NULL, 0);
            seen = cp_word_load(word);
        } else if (cp_word_cas(word, &seen, seen & ~CP_WORD_DIRTY)) {
            atomic_fetch_sub_explicit(&engine->dirty_count, 1, memory_order_relaxed);
            atomic_fetch_add_explicit(&engine->pages_written, 1, memory_order_relaxed);
            return;
        }
    }
}

int cp_mmap__in_place_flush(struct mmap_engine *engine)
{
    int code = 0;
    pthread_mutex_lock(&engine->flush_mutex);
    /* The bits go first: what is changed during the msync is dirty again afterwards. */
    const uint64_t mapped = atomic_load_explicit(&engine->mapped_bytes, memory_order_relaxed);
    for (uint64_t page = 0; page < mapped >> engine->page_shift; page++)
        take_dirty_bit(engine, page);
    if (mapped > 0 && msync(engine->map, mapped, MS_SYNC) != 0) {
        code = cp_error_set(-errno, engine->format->path, CP_NO_PAGE, CP_NO_LSN, NULL,
                            "write the mapping back (msync)");
        atomic_fetch_add_explicit(&engine->write_errors, 1, memory_order_relaxed);
    }
    atomic_fetch_add_explicit(&engine->writes_done, 1, memory_order_relaxed);
    pthread_mutex_unlock(&engine->flush_mutex);
    return code;
}
