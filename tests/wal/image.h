/* SPDX-License-Identifier: MIT */
/* A log's files as bytes: taken, compared sector by sector, changed, and put back. */
#ifndef CLOCKPOOL_TESTS_WAL_IMAGE_H
#define CLOCKPOOL_TESTS_WAL_IMAGE_H

#include "helpers.h"

#define SECTOR 512u

struct image_file {
    char name[256];
    uint8_t *bytes;
    uint64_t size_bytes;
};

struct image {
    struct image_file files[FILES_MAX];
    unsigned count;
};

static inline void image_free(struct image *image)
{
    for (unsigned i = 0; i < image->count; i++)
        free(image->files[i].bytes);
    image->count = 0;
}

static inline void image_add(struct image *image, const char *name, const uint8_t *bytes,
                             uint64_t size_bytes)
{
    assert_true(image->count < FILES_MAX);
    struct image_file *file = &image->files[image->count++];
    snprintf(file->name, sizeof file->name, "%s", name);
    file->size_bytes = size_bytes;
    file->bytes = calloc(1, size_bytes + 1);
    if (bytes != NULL)
        memcpy(file->bytes, bytes, size_bytes);
}

static inline void image_copy(struct image *to, const struct image *from)
{
    to->count = 0;
    for (unsigned i = 0; i < from->count; i++)
        image_add(to, from->files[i].name, from->files[i].bytes, from->files[i].size_bytes);
}

static inline void image_take(struct image *image, const char *directory)
{
    char path[400];
    struct stat facts;
    DIR *dir = opendir(directory);
    assert_non_null(dir);
    image->count = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_true(fd >= 0 && fstat(fd, &facts) == 0);
        image_add(image, entry->d_name, NULL, (uint64_t)facts.st_size);
        assert_int_equal(read(fd, image->files[image->count - 1].bytes, (size_t)facts.st_size),
                         facts.st_size);
        close(fd);
    }
    closedir(dir);
}

static inline void image_put(const struct image *image, const char *directory)
{
    char path[400];
    remove_files(directory);
    for (unsigned i = 0; i < image->count; i++) {
        const struct image_file *file = &image->files[i];
        snprintf(path, sizeof path, "%s/%s", directory, file->name);
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, file->bytes, file->size_bytes), (ssize_t)file->size_bytes);
        close(fd);
    }
}

static inline struct image_file *image_find(struct image *image, const char *name)
{
    for (unsigned i = 0; i < image->count; i++) {
        if (strcmp(image->files[i].name, name) == 0)
            return &image->files[i];
    }
    return NULL;
}

static inline uint64_t image_number(const struct image_file *file)
{
    struct cp_wal__segment_header header;
    memcpy(&header, file->bytes, sizeof header);
    return cp_wal__check_segment(&header, STORE_ID) == 0 ? header.number : UINT64_MAX;
}

/* A block as it stands in whichever file holds its segment. */
static inline struct cp_wal__block *image_block(struct image *image, uint64_t number,
                                                uint32_t segment_bytes)
{
    uint32_t blocks = cp_wal__segment_blocks(segment_bytes);
    for (unsigned i = 0; i < image->count; i++) {
        if (image_number(&image->files[i]) == number / blocks)
            return (struct cp_wal__block *)(void *)(image->files[i].bytes +
                                                    cp_wal__block_offset(number, blocks));
    }
    return NULL;
}

/*
 * Of a session in a log with segments of SEGMENT bytes, only what stands behind a hole has reached
 * the disk: blocks 1 and 2 are as before. The log is open again, and ends before all of it.
 */
static inline void leave_stale_blocks(struct subject *s)
{
    struct image before, after;
    struct found found;
    image_take(&before, s->directory);
    for (uint64_t i = 0; i < 4; i++)
        fill_block(s, 0, i);
    assert_int_equal(cp_wal_flush(s->wal, cp_wal_end(s->wal)), 0);
    close_log(s);
    image_take(&after, s->directory);
    memcpy(image_block(&after, 1, SEGMENT), image_block(&before, 1, SEGMENT),
           2 * CP_WAL_BLOCK_BYTES);
    image_put(&after, s->directory);
    image_free(&before);
    image_free(&after);
    open_log(s);
    assert_int_equal(scan_log(s, s->first, &found), 0);
    assert_int_equal(found.groups, 0);
}

#endif
