/* SPDX-License-Identifier: MIT */
/* Stores as bytes. The layouts are those of docs/file-format.md, written down here once more. */
#include "image.h"
#include "support/tree.h"

#include <clockpool/clockpool.h>
#include <clockpool/base/checksum.h>
#include <clockpool/base/bits.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define SUPERBLOCK_SEED UINT64_C(0x434c4f434b504c31)
#define SEGMENT_SEED    UINT64_C(0x31474f4c4b434c43)
#define SLOT_B          65536u
#define BLOCK           512u
#define BLOCK_HEADER    24u
#define PAYLOAD         (BLOCK - BLOCK_HEADER)
#define SEGMENT_HEADER  4096u
#define GROUP_HEADER    16u
#define RECORD_HEADER   16u
#define STORE_ID_OFFSET 24u /* in a superblock */
#define HOLE_MAX        (UINT64_C(48) << 20)
#define FILE_MAX        (UINT64_C(64) << 20)
#define EDITS_MAX       256u

uint64_t fuzz_take(struct fuzz_input *input, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes && input->size > 0; i++) {
        value |= (uint64_t)*input->data++ << (8 * i);
        input->size--;
    }
    return value;
}

static uint64_t get(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;
    memcpy(&value, at, bytes);
    return value;
}

static void put(uint8_t *at, uint64_t value, unsigned bytes)
{
    memcpy(at, &value, bytes);
}

/* ---- files --------------------------------------------------------------------------------------
 */

static char directory[256];
static pid_t owner;

static void die(const char *what, const char *path)
{
    fprintf(stderr, "fuzz: %s %s: %s\n", what, path, strerror(errno));
    abort();
}

static void remove_directory(void)
{
    if (getpid() == owner)
        remove_tree(directory);
}

const char *fuzz_directory(void)
{
    if (directory[0] != '\0')
        return directory;
    const char *parent = getenv("TMPDIR");
    if (access("/dev/shm", W_OK) == 0)
        parent = "/dev/shm";
    snprintf(directory, sizeof directory, "%s/clockpool-fuzz-XXXXXX",
             parent != NULL ? parent : "/tmp");
    if (mkdtemp(directory) == NULL)
        die("mkdtemp", directory);
    owner = getpid();
    atexit(remove_directory);
    return directory;
}

const char *fuzz_path(const char *name)
{
    static char paths[4][400];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", fuzz_directory(), name);
    return path;
}

void fuzz_limit_files(void)
{
    const struct rlimit limit = {FILE_MAX, FILE_MAX};
    signal(SIGXFSZ, SIG_IGN); /* the write fails with EFBIG instead */
    (void)setrlimit(RLIMIT_FSIZE, &limit);
}

void fuzz_image_init(struct fuzz_image *image, uint64_t store_id)
{
    memset(image, 0, sizeof *image);
    image->count = 1;
    image->store_id = store_id;
    snprintf(image->files[0].name, sizeof image->files[0].name, "data");
    image->files[0].bytes = malloc(1);
}

static void load_file(struct fuzz_image *image, const char *store, const char *name)
{
    char path[600];
    struct stat status;
    if (image->count == FUZZ_FILES_MAX)
        abort();
    struct fuzz_file *file = &image->files[image->count++];
    snprintf(path, sizeof path, "%s/%s", store, name);
    snprintf(file->name, sizeof file->name, "%s", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0)
        die("open", path);
    file->size = (size_t)status.st_size;
    file->hole = 0;
    file->bytes = malloc(file->size + 1);
    if (file->bytes == NULL || read(fd, file->bytes, file->size) != (ssize_t)file->size)
        die("read", path);
    close(fd);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct fuzz_file *)a)->name, ((const struct fuzz_file *)b)->name);
}

void fuzz_image_load(struct fuzz_image *image, const char *store)
{
    char path[600];
    memset(image, 0, sizeof *image);
    load_file(image, store, "data");
    snprintf(path, sizeof path, "%s/wal", store);
    DIR *stream = opendir(path);
    const struct dirent *entry;
    while (stream != NULL && (entry = readdir(stream)) != NULL) {
        char name[40];
        if (entry->d_name[0] == '.' || strlen(entry->d_name) > 30)
            continue;
        snprintf(name, sizeof name, "wal/%.30s", entry->d_name);
        load_file(image, store, name);
    }
    if (stream != NULL)
        closedir(stream);
    qsort(&image->files[1], image->count - 1, sizeof image->files[0], by_name);
    if (image->files[0].size > FUZZ_HEADER_BYTES)
        image->store_id = get(image->files[0].bytes + STORE_ID_OFFSET, 8);
}

void fuzz_image_copy(struct fuzz_image *to, const struct fuzz_image *from)
{
    *to = *from;
    for (unsigned i = 0; i < to->count; i++) {
        to->files[i].bytes = malloc(from->files[i].size + 1);
        if (to->files[i].bytes == NULL)
            abort();
        memcpy(to->files[i].bytes, from->files[i].bytes, from->files[i].size);
    }
}

void fuzz_image_free(struct fuzz_image *image)
{
    for (unsigned i = 0; i < image->count; i++)
        free(image->files[i].bytes);
    image->count = 0;
}

/* Remove what the image does not have from store/wal. */
static void remove_others(const struct fuzz_image *image, const char *wal)
{
    DIR *stream = opendir(wal);
    const struct dirent *entry;
    while (stream != NULL && (entry = readdir(stream)) != NULL) {
        char path[900];
        bool ours = entry->d_name[0] == '.';
        for (unsigned i = 1; i < image->count; i++)
            ours = ours || strcmp(image->files[i].name + 4, entry->d_name) == 0;
        snprintf(path, sizeof path, "%s/%s", wal, entry->d_name);
        if (!ours)
            (void)unlink(path);
    }
    if (stream != NULL)
        closedir(stream);
}

void fuzz_image_write(const struct fuzz_image *image, const char *store)
{
    char path[600];
    snprintf(path, sizeof path, "%s/wal", store);
    if ((mkdir(store, 0700) != 0 && errno != EEXIST) || (mkdir(path, 0700) != 0 && errno != EEXIST))
        die("mkdir", path);
    remove_others(image, path);
    for (unsigned i = 0; i < image->count; i++) {
        const struct fuzz_file *file = &image->files[i];
        snprintf(path, sizeof path, "%s/%s", store, file->name);
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd < 0 || write(fd, file->bytes, file->size) != (ssize_t)file->size ||
            ftruncate(fd, (off_t)(file->size + file->hole)) != 0)
            die("write", path);
        close(fd);
    }
}

/* ---- edits --------------------------------------------------------------------------------------
 */

static void cut_or_extend(struct fuzz_file *file, size_t offset, uint64_t operand)
{
    if (operand % 2 == 0 && offset <= file->size) {
        file->size = offset;
        file->hole = 0;
    } else {
        /* A file that was written with a hole is read back without: by and by it meets the limit.
         */
        uint64_t most = file->size < FILE_MAX ? cp_min_u64(HOLE_MAX, FILE_MAX - file->size) : 0;
        file->hole = cp_min_u64(file->hole + (operand << 15), most);
    }
}

static void apply(struct fuzz_file *file, unsigned operation, size_t offset, uint64_t operand)
{
    static const unsigned widths[] = {1, 2, 4, 8};
    if (operation == 7) {
        cut_or_extend(file, offset, operand);
        return;
    }
    unsigned width = operation < 4 ? widths[operation] : operation == 4 ? 8 : 1;
    if (offset >= file->size || file->size - offset < width)
        return;
    uint8_t *at = file->bytes + offset;
    size_t left = file->size - offset, from = (size_t)operand * BLOCK;
    switch (operation) {
    case 4:
        put(at, get(at, 8) + (uint64_t)(int64_t)(int8_t)operand, 8);
        break;
    case 5:
        memset(at, (int)(operand & 0xff), left < 64 ? left : 64);
        break;
    case 6:
        if (left >= BLOCK && from + BLOCK <= file->size)
            memmove(at, file->bytes + from, BLOCK);
        break;
    default:
        put(at, operand, width);
    }
}

bool fuzz_image_edit(struct fuzz_image *image, struct fuzz_input *input)
{
    static const unsigned operands[] = {1, 2, 4, 8, 1, 1, 2, 2};
    bool copies = false;
    for (unsigned edits = 0; input->size > 0 && edits < EDITS_MAX; edits++) {
        unsigned target = (unsigned)fuzz_take(input, 1);
        if (target == 254)
            break;
        unsigned operation = (unsigned)fuzz_take(input, 1) & 7;
        size_t offset = (size_t)fuzz_take(input, 2);
        uint64_t operand = fuzz_take(input, operands[operation]);
        struct fuzz_file *file = &image->files[0];
        if (target < 2)
            offset = target * SLOT_B + offset % FUZZ_PAGE_BYTES;
        else if (target < FUZZ_TARGET_SEGMENT)
            offset = FUZZ_HEADER_BYTES + (target - 2) * FUZZ_PAGE_BYTES + offset % FUZZ_PAGE_BYTES;
        else if (image->count > 1)
            file = &image->files[1 + (target - FUZZ_TARGET_SEGMENT) % (image->count - 1)];
        if (target >= FUZZ_TARGET_SEGMENT)
            offset *= 8;
        apply(file, operation, offset, operand);
        copies = copies || operation == 6;
    }
    return copies;
}

/* ---- checksums of the data file
 * ------------------------------------------------------------------
 */

static void fix_superblock(struct fuzz_file *data, size_t offset)
{
    if (data->size >= offset + FUZZ_PAGE_BYTES)
        put(data->bytes + offset + FUZZ_PAGE_BYTES - 8,
            cp_checksum(data->bytes + offset, FUZZ_PAGE_BYTES - 8, SUPERBLOCK_SEED), 8);
}

/* By the page size and store id that the superblocks now say. */
static void fix_pages(const struct fuzz_image *image)
{
    const struct fuzz_file *data = &image->files[0];
    if (data->size < FUZZ_HEADER_BYTES)
        return;
    uint64_t page_size = get(data->bytes + 16, 4);
    uint64_t store_id = get(data->bytes + STORE_ID_OFFSET, 8);
    if (page_size < FUZZ_PAGE_BYTES || page_size > 65536 || (page_size & (page_size - 1)) != 0)
        return;
    for (size_t at = FUZZ_HEADER_BYTES; data->size - at >= page_size; at += page_size) {
        uint8_t *page = data->bytes + at;
        if (!cp_is_zero(page, page_size)) /* a page that was never written has no checksum */
            put(page + page_size - 8, cp_checksum(page, page_size - 8, store_id), 8);
    }
}

/* ---- checksums of the log
 * ------------------------------------------------------------------------
 */

/* The payload of a segment's blocks from block on, as one run of bytes; NULL behind the end. */
struct stream {
    struct fuzz_file *file;
    uint64_t store_id;
    size_t blocks;
};

static uint8_t *stream_at(const struct stream *stream, size_t position)
{
    size_t block = position / PAYLOAD;
    if (block >= stream->blocks)
        return NULL;
    return stream->file->bytes + SEGMENT_HEADER + block * BLOCK + BLOCK_HEADER + position % PAYLOAD;
}

/* Copy out; false when the segment ends before. */
static bool stream_read(const struct stream *stream, size_t position, void *out, size_t size)
{
    uint8_t *to = out;
    for (size_t i = 0; i < size; i++) {
        const uint8_t *from = stream_at(stream, position + i);
        if (from == NULL)
            return false;
        to[i] = *from;
    }
    return true;
}

/* Do the blocks that hold these bytes follow each other? A segment that is used again holds older
 * ones behind the new. */
static bool consecutive(const struct stream *stream, size_t position, uint64_t length)
{
    size_t first = position / PAYLOAD, last = (position + (size_t)length - 1) / PAYLOAD;
    const uint8_t *blocks = stream->file->bytes + SEGMENT_HEADER;
    for (size_t i = first + 1; i <= last && i < stream->blocks; i++) {
        if (get(blocks + i * BLOCK + 8, 8) != get(blocks + first * BLOCK + 8, 8) + (i - first))
            return false;
    }
    return last < stream->blocks;
}

/* The checksum of the group at position, whose LSN is start; 0 when it is not all there. */
static uint32_t group_checksum(const struct stream *stream, size_t position, uint64_t start)
{
    uint8_t header[GROUP_HEADER], record[RECORD_HEADER];
    static uint8_t data[65536];
    uint64_t chain = stream->store_id;
    if (!stream_read(stream, position, header, sizeof header))
        return 0;
    uint64_t length = get(header, 4), count = get(header + 12, 4);
    size_t at = GROUP_HEADER;
    if (!consecutive(stream, position, length))
        return 0;
    for (uint64_t i = 0; i < count && at < length; i++) {
        if (!stream_read(stream, position + at, record, sizeof record))
            return 0;
        uint64_t size = get(record + 4, 4);
        if (size > sizeof data ||
            !stream_read(stream, position + at + RECORD_HEADER, data, (size_t)size))
            return 0;
        chain = cp_checksum(record, sizeof record, chain);
        if (size != 0)
            chain = cp_checksum(data, (size_t)size, chain);
        at += RECORD_HEADER + (size_t)((size + 7) & ~UINT64_C(7));
    }
    const struct {
        uint64_t chain, start;
        uint32_t length, epoch, record_count, zero;
    } all = {chain, start, (uint32_t)length, (uint32_t)get(header + 8, 4), (uint32_t)count, 0};
    return (uint32_t)cp_checksum(&all, sizeof all, stream->store_id);
}

/* Walk the groups that begin and end in this segment, from where a block says that one begins. */
static void fix_groups(const struct stream *stream)
{
    for (size_t block = 0; block < stream->blocks; block++) {
        const uint8_t *header = stream->file->bytes + SEGMENT_HEADER + block * BLOCK;
        uint64_t number = get(header + 8, 8), used = get(header + 20, 2);
        uint64_t first = get(header + 22, 2);
        for (uint64_t in_block = first; in_block + GROUP_HEADER <= used && used <= PAYLOAD;) {
            size_t position = block * PAYLOAD + (size_t)in_block;
            uint8_t group[GROUP_HEADER];
            if (!stream_read(stream, position, group, sizeof group) || get(group, 4) < GROUP_HEADER)
                break;
            uint32_t sum = group_checksum(stream, position, number * PAYLOAD + in_block);
            for (unsigned i = 0; sum != 0 && i < 4; i++)
                *stream_at(stream, position + 4 + i) = (uint8_t)(sum >> (8 * i));
            in_block += get(group, 4);
        }
    }
}

static void fix_segment(struct fuzz_file *file, uint64_t store_id, unsigned fix)
{
    if (file->size < SEGMENT_HEADER)
        return;
    if ((fix & FUZZ_FIX_SEGMENTS) != 0)
        put(file->bytes + 32, cp_checksum(file->bytes, 32, SEGMENT_SEED), 8);
    const struct stream stream = {file, store_id, (file->size - SEGMENT_HEADER) / BLOCK};
    if ((fix & FUZZ_FIX_GROUPS) != 0)
        fix_groups(&stream);
    for (size_t i = 0; (fix & FUZZ_FIX_BLOCKS) != 0 && i < stream.blocks; i++) {
        uint8_t *block = file->bytes + SEGMENT_HEADER + i * BLOCK;
        if (!cp_is_zero(block, BLOCK))
            put(block, cp_checksum(block + 4, BLOCK - 4, store_id), 4);
    }
}

void fuzz_image_fix(struct fuzz_image *image, unsigned fix)
{
    struct fuzz_file *data = &image->files[0];
    if ((fix & FUZZ_FIX_SUPERBLOCKS) != 0) {
        fix_superblock(data, 0);
        fix_superblock(data, SLOT_B);
    }
    if ((fix & FUZZ_FIX_PAGES) != 0)
        fix_pages(image);
    for (unsigned i = 1; i < image->count; i++)
        fix_segment(&image->files[i], image->store_id, fix);
}

void fuzz_image_check(const struct fuzz_image *image)
{
    struct fuzz_image fixed;
    fuzz_image_copy(&fixed, image);
    fuzz_image_fix(&fixed, UINT32_MAX);
    for (unsigned i = 0; i < image->count; i++) {
        if (memcmp(fixed.files[i].bytes, image->files[i].bytes, image->files[i].size) != 0) {
            fprintf(stderr, "fuzz: the checksums of %s are not what they seem\n",
                    image->files[i].name);
            abort();
        }
    }
    fuzz_image_free(&fixed);
}
