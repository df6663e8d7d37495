/* SPDX-License-Identifier: MIT */
/*
 * What the fuzzers share: a store as bytes in memory, edited by the input, its checksums made right
 * again where the input says so (or no edit would ever get past them), written to a directory.
 *
 * The input is a list of edits over a good store, not a store: so a short input says much, and
 * every byte of it does something. An edit:
 *
 *     u8   target: 0, 1 superblock A, B; 2.. page 0.. of the file behind the header area;
 *          FUZZ_TARGET_SEGMENT.. a file of wal/, in order of their names; 254 ends the list
 *     u8   operation: low 3 bits, see below
 *     u16  offset in the target; for a segment times 8
 *     1, 2, 4 or 8 bytes of operand
 *
 * Operations: 0-3 set 1, 2, 4 or 8 bytes; 4 add (u64, by a signed byte); 5 fill 64 times the
 * operand with a byte; 6 copy 512 bytes here from the offset (in 512s) of the same file; 7 cut the
 * file here, or extend it by the operand times 64 KiB with a hole.
 */
#ifndef CLOCKPOOL_TESTS_FUZZ_IMAGE_H
#define CLOCKPOOL_TESTS_FUZZ_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FUZZ_FILES_MAX      64u /* a script that logs 256 KiB makes 16 segments */
#define FUZZ_TARGET_SEGMENT 64u
#define FUZZ_PAGE_BYTES     4096u
#define FUZZ_HEADER_BYTES   131072u /* of the data file */

/* Which checksums are made right after the edits. */
enum fuzz_fix {
    FUZZ_FIX_SUPERBLOCKS = 1,
    FUZZ_FIX_PAGES = 2,
    FUZZ_FIX_SEGMENTS = 4,
    FUZZ_FIX_BLOCKS = 8,
    FUZZ_FIX_GROUPS = 16,
    FUZZ_FIX_LOG = 28, /* the last three */
};

struct fuzz_file {
    char name[48];  /* "data", "wal/segment-00000001" */
    uint8_t *bytes; /* owns */
    size_t size;
    uint64_t hole; /* bytes of zeros behind them */
};

struct fuzz_image {
    struct fuzz_file files[FUZZ_FILES_MAX]; /* data first, then wal/ by name */
    unsigned count;
    uint64_t store_id;
};

struct fuzz_input {
    const uint8_t *data;
    size_t size;
};

/* The next bytes of the input, little endian; zeros when it has ended. */
uint64_t fuzz_take(struct fuzz_input *input, unsigned bytes);

/* A directory of our own in memory (/dev/shm, else TMPDIR, else /tmp), removed at exit. */
const char *fuzz_directory(void);
/* directory/name; static storage, four in turn. */
const char *fuzz_path(const char *name);

/* No file may grow beyond 64 MiB: hostile sizes fail, instead of filling the machine's memory. */
void fuzz_limit_files(void);

/* An image of a store without files but an empty data file. */
void fuzz_image_init(struct fuzz_image *image, uint64_t store_id);
/* Read a store's files. Aborts when that fails: nothing hostile has happened yet. */
void fuzz_image_load(struct fuzz_image *image, const char *store);
void fuzz_image_copy(struct fuzz_image *to, const struct fuzz_image *from);
void fuzz_image_free(struct fuzz_image *image);
/* Make store hold exactly this image. */
void fuzz_image_write(const struct fuzz_image *image, const char *store);

/*
 * Apply edits until the input ends, or until an edit whose target is 254. True when blocks were
 * copied: what stands there may then be as good as new.
 */
bool fuzz_image_edit(struct fuzz_image *image, struct fuzz_input *input);
/* fix: a set of enum fuzz_fix. */
void fuzz_image_fix(struct fuzz_image *image, unsigned fix);
/* Abort unless fixing a good image changes nothing: the layouts here are then those of the library.
 */
void fuzz_image_check(const struct fuzz_image *image);

#endif
