/* SPDX-License-Identifier: MIT */
/* Superblock and page trailer: sealing before a write, judging after a read. */
#include "format.h"

#include <clockpool/base/assert.h>
#include <clockpool/base/bits.h>
#include <clockpool/base/checksum.h>
#include <clockpool/base/error.h>

#include <errno.h>
#include <string.h>

static uint64_t superblock_checksum(const struct cp_superblock *block)
{
    return cp_checksum(block, offsetof(struct cp_superblock, checksum), CP_FORMAT_SEED);
}

void cp_pager__superblock_seal(struct cp_superblock *block)
{
    block->checksum = superblock_checksum(block);
}

/* Every field of a superblock whose checksum holds: 0 or the code that says what is wrong. */
static int check_fields(const struct cp_superblock *block, const char *path)
{
    if (block->version != CP_FORMAT_VERSION && block->version != CP_FORMAT_VERSION_OLD)
        return cp_error_set(CP_EVERSION, path, CP_NO_PAGE, CP_NO_LSN,
                            "open the store with the library version that wrote it, or a newer one",
                            "the store has format version %u, this library reads %u and %u",
                            block->version, CP_FORMAT_VERSION_OLD, CP_FORMAT_VERSION);
    if ((block->flags & ~CP_FORMAT_FLAGS_KNOWN) != 0)
        return cp_error_set(CP_EVERSION, path, CP_NO_PAGE, CP_NO_LSN,
                            "open the store with the library version that wrote it, or a newer one",
                            "the superblock has unknown flags 0x%x",
                            block->flags & ~CP_FORMAT_FLAGS_KNOWN);
    const char *bad = NULL;
    uint64_t value = 0;
    if (!cp_is_power_of_two(block->page_size) || block->page_size < CP_PAGE_SIZE_MIN ||
        block->page_size > CP_PAGE_SIZE_MAX) {
        bad = "page_size";
        value = block->page_size;
    } else if (block->header_bytes != CP_FORMAT_HEADER_BYTES) {
        bad = "header_bytes";
        value = block->header_bytes;
    } else if (block->store_id == 0) {
        bad = "store_id";
    } else if (block->generation == 0 || block->generation >= UINT64_MAX - 1) {
        bad = "generation";
        value = block->generation;
    } else if (block->page_count <= cp_format_first_map_page(block->page_size) ||
               block->page_count > CP_FORMAT_MAX_PAGES) {
        bad = "page_count";
        value = block->page_count;
    } else if (block->checkpoint_lsn == 0 || block->checkpoint_lsn > CP_FORMAT_MAX_LSN) {
        bad = "checkpoint_lsn";
        value = block->checkpoint_lsn;
    } else if (block->epoch > CP_FORMAT_MAX_EPOCH) {
        bad = "epoch";
        value = block->epoch;
    }
    if (bad == NULL)
        return 0;
    return cp_error_set(CP_EFORMAT, path, CP_NO_PAGE, CP_NO_LSN,
                        "the file was made by something else, or on purpose; use a backup",
                        "superblock: %s is out of range (%llu)", bad, (unsigned long long)value);
}

int cp_pager__superblock_choose(const struct cp_superblock *slot_a,
                                const struct cp_superblock *slot_b, const char *path,
                                struct cp_superblock *out_block, unsigned *out_slot)
{
    const struct cp_superblock *slots[2] = {slot_a, slot_b};
    bool magic[2], valid[2];

    for (unsigned i = 0; i < 2; i++) {
        magic[i] = slots[i]->magic == CP_FORMAT_MAGIC;
        valid[i] = magic[i] && slots[i]->checksum == superblock_checksum(slots[i]);
    }
    if (!valid[0] && !valid[1]) {
        if (!magic[0] && !magic[1])
            return cp_error_set(CP_EFORMAT, path, CP_NO_PAGE, CP_NO_LSN,
                                "check the path: this is some other file",
                                "neither superblock begins with CLOCKPL1");
        return cp_error_set(CP_ECHECKSUM, path, CP_NO_PAGE, CP_NO_LSN, "restore from a backup",
                            "both superblocks are damaged (slot A: %s, slot B: %s)",
                            magic[0] ? "checksum" : "magic", magic[1] ? "checksum" : "magic");
    }
    unsigned chosen = valid[0] ? 0 : 1;
    if (valid[0] && valid[1] && slots[1]->generation > slots[0]->generation)
        chosen = 1;
    int code = check_fields(slots[chosen], path);
    if (code != 0)
        return code;
    if (valid[0] && valid[1] &&
        (slot_a->store_id != slot_b->store_id || slot_a->page_size != slot_b->page_size))
        return cp_error_set(CP_EFORMAT, path, CP_NO_PAGE, CP_NO_LSN, "restore from a backup",
                            "the two superblocks belong to different stores");
    *out_block = *slots[chosen];
    *out_slot = chosen;
    if (!valid[0] || !valid[1]) {
        /* The other one may have been the newer, and have said that the store is in use, and how:
         * only the log knows. Nor may its generation and its epoch be given out again. */
        out_block->flags |= CP_FORMAT_FLAG_UNCLEAN | CP_FORMAT_FLAG_UNBASED;
        out_block->generation++;
        out_block->epoch++;
    }
    if (out_block->version == CP_FORMAT_VERSION_OLD &&
        (out_block->flags & CP_FORMAT_FLAG_UNCLEAN) != 0)
        out_block->flags |= CP_FORMAT_FLAG_UNBASED; /* there was no such flag */
    return 0;
}

/*
 * Where the version is old, the epoch of a session is the generation that it began with, cut to 32
 * bits; so the generation is above them all as long as it has no more. Beyond that they may have
 * been used twice, and the log does not say which of its blocks are the newer.
 */
int cp_pager__next_epoch(const struct cp_superblock *block, bool recovering, const char *path,
                         uint64_t *out_epoch)
{
    const bool old = block->version == CP_FORMAT_VERSION_OLD;
    const uint64_t last = old ? block->generation : block->epoch;
    const uint64_t max = CP_FORMAT_MAX_EPOCH - (recovering ? 0 : CP_FORMAT_EPOCHS_SPARED);
    if (last >= max)
        return cp_error_set(-EOVERFLOW, path, CP_NO_PAGE, CP_NO_LSN,
                            "copy its pages into a new store: when it was closed, it can be read "
                            "with options.read_only",
                            "no number is left for a session that writes: the superblock's %s is "
                            "%llu, the last can be %llu",
                            old ? "generation" : "epoch", (unsigned long long)last,
                            (unsigned long long)max);
    *out_epoch = last + 1;
    return 0;
}

static struct cp_page_trailer *trailer_of(void *data, uint32_t page_size)
{
    return (struct cp_page_trailer *)(void *)((unsigned char *)data + page_size -
                                              CP_PAGER_TRAILER_BYTES);
}

static uint64_t page_checksum(const void *data, uint32_t page_size, uint64_t store_id)
{
    return cp_checksum(data, page_size - sizeof(uint64_t), store_id);
}

cp_lsn cp_pager__page_base_lsn(const struct cp_page_format *format, const void *data)
{
    const struct cp_page_trailer *trailer =
        (const void *)((const unsigned char *)data + format->page_size - sizeof *trailer);
    return __atomic_load_n(&trailer->lsn, __ATOMIC_RELAXED);
}

void cp_pager__page_set_base_lsn(const struct cp_page_format *format, void *data, cp_lsn lsn)
{
    __atomic_store_n(&trailer_of(data, format->page_size)->lsn, lsn, __ATOMIC_RELAXED);
}

void cp_pager__page_seal(void *ctx, void *data, uint64_t page, cp_lsn lsn)
{
    const struct cp_page_format *format = ctx;
    struct cp_page_trailer *trailer = trailer_of(data, format->page_size);

    /* Relaxed atomic stores: a reader that holds the page shared does not look at these bytes, an
     * optimistic one may load them and then throws them away. */
    __atomic_store_n(&trailer->lsn, lsn, __ATOMIC_RELAXED);
    __atomic_store_n(&trailer->page, page, __ATOMIC_RELAXED);
    __atomic_store_n(&trailer->store_id, format->store_id, __ATOMIC_RELAXED);
    uint64_t checksum = page_checksum(data, format->page_size, format->store_id);
    __atomic_store_n(&trailer->checksum, checksum, __ATOMIC_RELAXED);
}

/* Is this one of the pager's own pages, none of which is ever left unwritten? */
static bool is_map_page(uint32_t page_size, uint64_t page)
{
    return (page - cp_format_first_map_page(page_size)) % cp_format_span(page_size) == 0;
}

/* The page's checksum does not hold: say why, as far as it can be told. */
static int explain_mismatch(const struct cp_page_format *format, void *data, uint64_t page)
{
    const struct cp_page_trailer *trailer = trailer_of(data, format->page_size);

    if (cp_is_zero(data, format->page_size) && !is_map_page(format->page_size, page))
        return cp_error_set(CP_EUNWRITTEN, format->path, page, CP_NO_LSN,
                            "write it (fix_new) or free it, unless it had been written: then its "
                            "write was lost, restore it from a backup",
                            "all bytes of the page are zero");
    if (trailer->store_id != format->store_id && trailer->store_id != 0 &&
        trailer->checksum == page_checksum(data, format->page_size, trailer->store_id))
        return cp_error_set(CP_EFOREIGN, format->path, page, trailer->lsn,
                            "files of two stores were mixed: restore from a backup",
                            "page belongs to store %016llx, this is store %016llx",
                            (unsigned long long)trailer->store_id,
                            (unsigned long long)format->store_id);
    return cp_error_set(
        CP_ECHECKSUM, format->path, page, CP_NO_LSN,
        "the page is torn or damaged: restore it from a backup",
        "checksum in the page is %016llx, its bytes give %016llx",
        (unsigned long long)trailer->checksum,
        (unsigned long long)page_checksum(data, format->page_size, format->store_id));
}

int cp_pager__page_verify(void *ctx, void *data, uint64_t page)
{
    const struct cp_page_format *format = ctx;
    const struct cp_page_trailer *trailer = trailer_of(data, format->page_size);

    if (trailer->checksum != page_checksum(data, format->page_size, format->store_id))
        return explain_mismatch(format, data, page);
    if (trailer->store_id != format->store_id)
        return cp_error_set(CP_EFOREIGN, format->path, page, trailer->lsn,
                            "files of two stores were mixed: restore from a backup",
                            "page belongs to store %016llx, this is store %016llx",
                            (unsigned long long)trailer->store_id,
                            (unsigned long long)format->store_id);
    if (trailer->page != page)
        return cp_error_set(CP_EMISPLACED, format->path, page, trailer->lsn,
                            "a write went to the wrong place: restore from a backup",
                            "the page here carries the number %llu",
                            (unsigned long long)trailer->page);
    return 0;
}
