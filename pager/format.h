/* SPDX-License-Identifier: MIT */
/*
 * The bytes of a data file: superblock, page trailer, space-map page. docs/file-format.md has the
 * same in tables. Nothing here does I/O.
 *
 *     byte 0        superblock, slot A (one block of 4 KiB)
 *     byte 65536    superblock, slot B
 *     byte 131072   page number 131072 / page_size, the first page of the space map
 *
 * Invariant: whatever the bytes say, the functions here end in a code, never in a fault; a field is
 * used for nothing before it was compared with its range.
 */
#ifndef CP_PAGER_FORMAT_H
#define CP_PAGER_FORMAT_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <clockpool/lsn.h>
#include <clockpool/pager.h>

#define CP_FORMAT_MAGIC         UINT64_C(0x314c504b434f4c43) /* "CLOCKPL1" in file order */
#define CP_FORMAT_VERSION       3u
#define CP_FORMAT_VERSION_OLD   2u /* is read, too: its superblocks have no epoch */
#define CP_FORMAT_FLAG_UNCLEAN  UINT32_C(1)
#define CP_FORMAT_FLAG_UNBASED  UINT32_C(2) /* since the redo point pages got no base in the log */
#define CP_FORMAT_FLAGS_KNOWN   (CP_FORMAT_FLAG_UNCLEAN | CP_FORMAT_FLAG_UNBASED)
#define CP_FORMAT_HEADER_BYTES  131072u /* before the first page: room for both slots */
#define CP_FORMAT_BLOCK_BYTES   4096u
#define CP_FORMAT_SLOT_B_OFFSET 65536u
/* Seed of the superblock's checksum: its own, so that no page can pass for one. */
#define CP_FORMAT_SEED UINT64_C(0x434c4f434b504c31)
/* Largest page count: what the page table of the pool engine reserves by default. */
#define CP_FORMAT_MAX_PAGES (UINT64_C(1) << 32)
/* Largest position of the log: 4 EiB, so that no arithmetic on positions overflows. */
#define CP_FORMAT_MAX_LSN (UINT64_C(1) << 62)
/* Largest epoch of a log, whose blocks have 32 bits for it. */
#define CP_FORMAT_MAX_EPOCH (UINT64_C(0xffffffff) - 1)
/* Epochs kept back for recoveries: a store that was not closed can be closed, and then read. */
#define CP_FORMAT_EPOCHS_SPARED 65536u

struct cp_superblock {
    uint64_t magic;
    uint32_t version;
    uint32_t flags;
    uint32_t page_size;      /* bytes; power of two, 4096 to 65536 */
    uint32_t header_bytes;   /* CP_FORMAT_HEADER_BYTES */
    uint64_t store_id;       /* random; never 0 */
    uint64_t generation;     /* rises by one with every superblock written; never 0 */
    uint64_t page_count;     /* pages of the file that belong to the store, header area included */
    uint64_t created_ns;     /* nanoseconds since 1970, UTC */
    uint64_t checkpoint_lsn; /* recovery begins here; never 0 */
    uint64_t epoch;          /* of the log: the last session's; 0: none yet, or an old version */
    uint8_t reserved[4016];  /* zeros */
    uint64_t checksum;       /* XXH3 of all that is before it */
};
static_assert(offsetof(struct cp_superblock, magic) == 0, "superblock layout");
static_assert(offsetof(struct cp_superblock, version) == 8, "superblock layout");
static_assert(offsetof(struct cp_superblock, flags) == 12, "superblock layout");
static_assert(offsetof(struct cp_superblock, page_size) == 16, "superblock layout");
static_assert(offsetof(struct cp_superblock, header_bytes) == 20, "superblock layout");
static_assert(offsetof(struct cp_superblock, store_id) == 24, "superblock layout");
static_assert(offsetof(struct cp_superblock, generation) == 32, "superblock layout");
static_assert(offsetof(struct cp_superblock, page_count) == 40, "superblock layout");
static_assert(offsetof(struct cp_superblock, created_ns) == 48, "superblock layout");
static_assert(offsetof(struct cp_superblock, checkpoint_lsn) == 56, "superblock layout");
static_assert(offsetof(struct cp_superblock, epoch) == 64, "superblock layout");
static_assert(offsetof(struct cp_superblock, reserved) == 72, "superblock layout");
static_assert(offsetof(struct cp_superblock, checksum) == 4088, "superblock layout");
static_assert(sizeof(struct cp_superblock) == CP_FORMAT_BLOCK_BYTES, "superblock size");

/* The last bytes of every page, space-map pages included. */
struct cp_page_trailer {
    uint64_t lsn;
    uint64_t page;
    uint64_t store_id;
    uint64_t checksum; /* XXH3, seed store_id, of all that is before it in the page */
};
static_assert(offsetof(struct cp_page_trailer, lsn) == 0, "trailer layout");
static_assert(offsetof(struct cp_page_trailer, page) == 8, "trailer layout");
static_assert(offsetof(struct cp_page_trailer, store_id) == 16, "trailer layout");
static_assert(offsetof(struct cp_page_trailer, checksum) == 24, "trailer layout");
static_assert(sizeof(struct cp_page_trailer) == CP_PAGER_TRAILER_BYTES, "trailer size");

struct cp_page_images;

/* What an engine needs to seal and verify pages. Lives in the pager, unchanged while it is open. */
struct cp_page_format {
    uint32_t page_size;
    uint64_t store_id;
    const char *path;              /* of the data file, for errors; borrowed until close */
    struct cp_page_images *images; /* NULL: no log, nothing to do before a write */
};

static inline uint64_t cp_format_slot_offset(unsigned slot)
{
    return slot == 0 ? 0 : CP_FORMAT_SLOT_B_OFFSET;
}

/* Page number of the first space-map page, which is also where the file's pages begin. */
static inline uint64_t cp_format_first_map_page(uint32_t page_size)
{
    return CP_FORMAT_HEADER_BYTES / page_size;
}

/* Pages that one space-map page covers, itself included: the bits of its payload. */
static inline uint64_t cp_format_span(uint32_t page_size)
{
    return (uint64_t)(page_size - CP_PAGER_TRAILER_BYTES) * 8;
}

/* Fill in the checksum. */
void cp_pager__superblock_seal(struct cp_superblock *block);

/*
 * Choose between the two slots: the valid one with the higher generation, every field of it in
 * range. When the other one is not valid, the copy says unclean and has a generation and an epoch
 * above its own: what was lost may have been newer. Returns 0 with a copy and the slot's index,
 * CP_EFORMAT, CP_ECHECKSUM or CP_EVERSION.
 */
int cp_pager__superblock_choose(const struct cp_superblock *slot_a,
                                const struct cp_superblock *slot_b, const char *path,
                                struct cp_superblock *out_block, unsigned *out_slot) CP_MUST_CHECK;

/*
 * The epoch of the session that begins behind a superblock: above those of all sessions before,
 * whether or not they left a trace in the log. -EOVERFLOW when there is none left; recovering: of
 * those that are kept back for it, too.
 */
int cp_pager__next_epoch(const struct cp_superblock *block, bool recovering, const char *path,
                         uint64_t *out_epoch) CP_MUST_CHECK;

/*
 * The LSN in a page's trailer. In the file: of what the page contains. In memory: of the last full
 * image that the log has of the page, or of a write since; images.c has the rule.
 */
cp_lsn cp_pager__page_base_lsn(const struct cp_page_format *format, const void *data);
/* For a page held exclusively, or by its one writer. */
void cp_pager__page_set_base_lsn(const struct cp_page_format *format, void *data, cp_lsn lsn);

/* Write the trailer. As cp_bufpool_file_options.seal, with a struct cp_page_format as ctx. */
void cp_pager__page_seal(void *format, void *data, uint64_t page, cp_lsn lsn);

/* As cp_bufpool_file_options.before_write, with a struct cp_page_format as ctx (images.c). */
int cp_pager__page_before_write(void *format, void *data, uint64_t page,
                                cp_lsn *inout_lsn) CP_MUST_CHECK;

/* Check the trailer. As cp_bufpool_file_options.verify: 0, CP_ECHECKSUM, CP_EUNWRITTEN,
 * CP_EFOREIGN, CP_EMISPLACED. */
int cp_pager__page_verify(void *format, void *data, uint64_t page) CP_MUST_CHECK;

#endif
