/* SPDX-License-Identifier: MIT */
/*
 * Segment files: making, finding, assigning, using again.
 *
 * A file is filled with zeros and synced before it is used, so that a flush changes no metadata of
 * the file system. It then serves one number after the other: a new header makes all it held
 * before invalid, since the blocks carry their own numbers. On disk a number stands in one header
 * at most: a file that already carries a number is the one assigned to it, and headers are written
 * in the order of their numbers, each durable before the next. A session writes the headers of all
 * segments into which it writes, those too that it found: they need not be durable.
 */
#include "internal.h"
#include "rules.h"

#include <clockpool/base/assert.h>
#include <clockpool/base/bits.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_PREFIX       "segment-"
#define NAME_PREFIX_BYTES (sizeof NAME_PREFIX - 1)
#define NAME_DIGITS       8u
#define FILL_BYTES        (UINT64_C(1) << 20)

char *cp_wal__path(const char *directory, uint32_t index)
{
    size_t size = strlen(directory) + 1 + CP_WAL__NAME_BYTES;
    char *path = malloc(size);
    if (path == NULL) {
        cp_error_set(-ENOMEM, directory, CP_NO_PAGE, CP_NO_LSN, NULL, "naming a log segment");
        return NULL;
    }
    snprintf(path, size, "%s/" NAME_PREFIX "%08u", directory, (unsigned)index);
    return path;
}

/* Write header and zeros from start to end, and sync. Room first: on a full disk many ask in turn,
 * and each would else write what there is room for. */
static int write_all(struct cp_io_file *file, const struct cp_wal__segment_header *header,
                     uint32_t segment_bytes)
{
    int code = 0;
    uint8_t *zeros = aligned_alloc(CP_WAL__HEADER_BYTES, FILL_BYTES);
    if (zeros == NULL)
        return cp_error_set(-ENOMEM, NULL, CP_NO_PAGE, CP_NO_LSN, NULL, "filling a log segment");
    memset(zeros, 0, FILL_BYTES);
    if (header != NULL)
        memcpy(zeros, header, sizeof *header);
    code = cp_io_file_allocate(file, 0, segment_bytes);
    for (uint64_t at = 0; code == 0 && at < segment_bytes; at += FILL_BYTES) {
        uint64_t part = segment_bytes - at < FILL_BYTES ? segment_bytes - at : FILL_BYTES;
        code = cp_io_write(file, zeros, part, at);
        memset(zeros, 0, sizeof *header);
    }
    free(zeros);
    return code != 0 ? code : cp_io_file_sync(file);
}

/* Remove a file that could not be made; the error there is remains the one to tell. */
static void give_back(struct cp_io *io, const char *path)
{
    struct cp_error first = *cp_error_info();
    (void)!cp_io_unlink(io, path);
    cp_error_restore(&first);
}

int cp_wal__fill(struct cp_io *io, const char *path, enum cp_io_caching caching,
                 uint32_t segment_bytes, uint64_t store_id, uint64_t number)
{
    struct cp_io_file_options options = {
        .create = true,
        .truncate = true,
        .regular = true,
        .caching = caching,
        .block_bytes = CP_WAL__HEADER_BYTES,
    };
    struct cp_wal__segment_header header;
    struct cp_io_file *file;

    int code = cp_io_file_open(io, path, &options, &file);
    if (code != 0)
        return code;
    if (number != CP_WAL__NO_NUMBER)
        cp_wal__encode_segment(&header, store_id, segment_bytes, number);
    code = write_all(file, number != CP_WAL__NO_NUMBER ? &header : NULL, segment_bytes);
    int close_code = cp_io_file_close(file);
    if (code == 0)
        code = close_code;
    if (code != 0)
        give_back(io, path);
    return code;
}

int cp_wal__open_file(const struct cp_wal *wal, const struct cp_wal__segment *segment,
                      bool read_only, bool dsync, struct cp_io_file **out_file)
{
    struct cp_io_file_options options = {
        .read_only = read_only,
        .regular = true,
        .dsync = dsync && !CP_BREAK_COMMIT_SYNC,
        .caching = wal->options.caching,
        .block_bytes = CP_WAL__UNIT_MAX,
    };
    char *path = cp_wal__path(wal->directory, segment->index);
    if (path == NULL)
        return -ENOMEM;
    int code = cp_io_file_open(wal->io, path, &options, out_file);
    free(path);
    if (code == CP_EFORMAT) { /* the segment, whichever it was, is not there */
        struct cp_error error = *cp_error_info();
        error.code = code = CP_ELOG;
        cp_error_restore(&error);
    }
    return code;
}

/* ---- finding ----------------------------------------------------------------------------------
 */

static struct cp_wal__segment *add_segment(struct cp_wal *wal, uint32_t index)
{
    struct cp_wal__segment *segment = calloc(1, sizeof *segment);
    if (segment == NULL) {
        cp_error_set(-ENOMEM, wal->directory, CP_NO_PAGE, CP_NO_LSN, NULL, "adding a log segment");
        return NULL;
    }
    *segment = (struct cp_wal__segment){
        .number = CP_WAL__NO_NUMBER,
        .header_number = CP_WAL__NO_NUMBER,
        .index = index,
    };
    pthread_mutex_lock(&wal->segments_lock);
    /* In the order of their names, whatever the order of the listing. */
    struct cp_wal__segment **link = &wal->segments;
    while (*link != NULL && (*link)->index < index)
        link = &(*link)->next;
    segment->next = *link;
    *link = segment;
    wal->segment_count++;
    if (index >= wal->next_index)
        wal->next_index = index + 1;
    pthread_mutex_unlock(&wal->segments_lock);
    return segment;
}

/* A directory entry: one of ours? */
static int visit_name(void *ctx, const char *name)
{
    uint32_t index = 0;
    const char *digits = name + NAME_PREFIX_BYTES;

    if (strncmp(name, NAME_PREFIX, NAME_PREFIX_BYTES) != 0 || strlen(digits) != NAME_DIGITS)
        return 0;
    for (unsigned i = 0; i < NAME_DIGITS; i++) {
        if (digits[i] < '0' || digits[i] > '9')
            return 0;
        index = index * 10 + (uint32_t)(digits[i] - '0');
    }
    return add_segment(ctx, index) != NULL ? 0 : -ENOMEM;
}

/* Read a segment's header; page is CP_WAL__HEADER_BYTES, aligned. */
static int read_header(struct cp_wal *wal, struct cp_wal__segment *segment, void *page)
{
    struct cp_wal__segment_header header;
    struct cp_io_file *file;
    uint64_t size_bytes = 0;

    int code = cp_wal__open_file(wal, segment, true, false, &file);
    if (code != 0)
        return code;
    memset(page, 0, CP_WAL__HEADER_BYTES);
    code = cp_io_read(file, page, CP_WAL__HEADER_BYTES, 0);
    if (code == -ENODATA) /* shorter: what there is has been read */
        code = 0;
    if (code == 0) /* after the header: a writer fills the file first */
        code = cp_io_file_size(file, &size_bytes);
    if (code == 0) {
        memcpy(&header, page, sizeof header);
        code = cp_wal__check_segment(&header, wal->options.store_id);
        /* A header is written whole or not at all, over zeros or an older one. */
        segment->suspect = code == CP_EFORMAT && !cp_is_zero(page, CP_WAL_BLOCK_BYTES);
    }
    if (code == 0) {
        if (wal->segment_bytes == 0)
            wal->segment_bytes = header.segment_bytes;
        if (wal->segment_bytes != header.segment_bytes)
            code = CP_EDAMAGED;
        segment->header_number = segment->number = header.number;
        segment->made = size_bytes >= header.segment_bytes; /* nobody reads what is behind */
    }
    if (code == CP_EVERSION || code == CP_EFOREIGN || code == CP_EDAMAGED) {
        struct cp_io_file_info info;
        cp_io_file_info(file, &info);
        cp_error_set(code, info.path, CP_NO_PAGE, CP_NO_LSN, NULL, "opening a log segment");
    }
    (void)!cp_io_file_close(file);
    return code == CP_EFORMAT ? 0 : code;
}

int cp_wal__find_segments(struct cp_wal *wal)
{
    struct cp_wal__segment *other;
    int code = cp_io_list(wal->io, wal->directory, visit_name, wal);
    if (code != 0)
        return code;
    void *page = aligned_alloc(CP_WAL__HEADER_BYTES, CP_WAL__HEADER_BYTES);
    if (page == NULL)
        return cp_error_set(-ENOMEM, wal->directory, CP_NO_PAGE, CP_NO_LSN, NULL, "opening a log");
    for (struct cp_wal__segment *s = wal->segments; s != NULL && code == 0; s = s->next) {
        code = read_header(wal, s, page);
        if (code != 0 || s->number == CP_WAL__NO_NUMBER)
            continue;
        for (other = wal->segments; other != s; other = other->next) {
            if (other->number == s->number)
                code =
                    cp_error_set(CP_EDAMAGED, wal->directory, CP_NO_PAGE,
                                 cp_wal__block_start(s->number), /* the number is what counts */
                                 "remove the copy that does not belong here",
                                 "two files hold log segment %llu", (unsigned long long)s->number);
        }
    }
    free(page);
    if (code == 0 && wal->segment_bytes == 0)
        code = cp_error_set(CP_ELOG, wal->directory, CP_NO_PAGE, CP_NO_LSN,
                            "restore the log's files, or restore from a backup",
                            "no log segment found");
    return code;
}

void cp_wal__forget_segments(struct cp_wal *wal)
{
    while (wal->segments != NULL) {
        struct cp_wal__segment *segment = wal->segments;
        wal->segments = segment->next;
        (void)!cp_io_file_close(segment->file); /* what had to be durable has been synced */
        free(segment);
    }
}

struct cp_wal__segment *cp_wal__segment_find(struct cp_wal *wal, uint64_t number)
{
    pthread_mutex_lock(&wal->segments_lock);
    struct cp_wal__segment *segment = wal->segments;
    while (segment != NULL && segment->number != number)
        segment = segment->next;
    pthread_mutex_unlock(&wal->segments_lock);
    return segment;
}

/*
 * A header is written when its file has been filled and synced, or before there is a store: so no
 * crash leaves it on a shorter file. What was cut off may have been durable, and the file may not
 * be made anew over what is left.
 */
int cp_wal__check_whole(const struct cp_wal *wal, const struct cp_wal__segment *segment)
{
    if (segment->made)
        return 0;
    return cp_error_set(CP_EDAMAGED, wal->directory, CP_NO_PAGE,
                        cp_wal__segment_start(wal, segment->number),
                        "restore the log's files, or restore the store from a backup",
                        "segment-%08u was cut: it has less than its %u bytes",
                        (unsigned)segment->index, (unsigned)wal->segment_bytes);
}

/* ---- assigning --------------------------------------------------------------------------------
 */

/* The spare to take for a number: the file that carries the number, else any. */
static struct cp_wal__segment *choose_spare(struct cp_wal *wal, uint64_t number)
{
    struct cp_wal__segment *found = NULL;
    pthread_mutex_lock(&wal->segments_lock);
    for (struct cp_wal__segment *s = wal->segments; s != NULL; s = s->next) {
        if (s->number != CP_WAL__NO_NUMBER)
            continue;
        if (found == NULL || (s->made && !found->made) ||
            (number != CP_WAL__NO_NUMBER && s->header_number == number))
            found = s;
        if (number != CP_WAL__NO_NUMBER && s->header_number == number)
            break;
    }
    pthread_mutex_unlock(&wal->segments_lock);
    return found;
}

/* Fill the file of a segment that is in the list, and have its name durable. */
static int make_file(struct cp_wal *wal, struct cp_wal__segment *segment)
{
    char *path = cp_wal__path(wal->directory, segment->index);
    if (path == NULL)
        return -ENOMEM;
    int code = cp_wal__fill(wal->io, path, wal->options.caching, wal->segment_bytes,
                            wal->options.store_id, CP_WAL__NO_NUMBER);
    if (code == 0 && !CP_BREAK_DIRECTORY_SYNC) {
        code = cp_io_directory_sync(wal->io, wal->directory);
        if (code != 0)
            give_back(wal->io, path);
    }
    free(path);
    if (code != 0)
        return code;
    segment->header_number = CP_WAL__NO_NUMBER;
    segment->made = true;
    pthread_mutex_lock(&wal->segments_lock);
    wal->segments_created++;
    pthread_mutex_unlock(&wal->segments_lock);
    return 0;
}

/* A segment whose file could not be made: the file is gone. */
static void drop_segment(struct cp_wal *wal, struct cp_wal__segment *segment)
{
    pthread_mutex_lock(&wal->segments_lock);
    struct cp_wal__segment **link = &wal->segments;
    while (*link != segment)
        link = &(*link)->next;
    *link = segment->next;
    wal->segment_count--;
    if (segment->index + 1 == wal->next_index)
        wal->next_index--; /* nobody has the name: a full disk does not use the numbers up */
    pthread_mutex_unlock(&wal->segments_lock);
    free(segment);
}

int cp_wal__spare(struct cp_wal *wal, uint64_t number, struct cp_wal__segment **out_segment)
{
    struct cp_wal__segment *segment = choose_spare(wal, number);
    if (segment == NULL) {
        if (wal->next_index > CP_WAL__FILES_MAX)
            return cp_error_set(-ENOSPC, wal->directory, CP_NO_PAGE, CP_NO_LSN, NULL,
                                "numbering a log segment's file");
        segment = add_segment(wal, wal->next_index);
        if (segment == NULL)
            return -ENOMEM;
    }
    if (!segment->made) {
        int code = make_file(wal, segment);
        if (code != 0) {
            drop_segment(wal, segment);
            return code;
        }
    }
    *out_segment = segment;
    return 0;
}

int cp_wal__extend(struct cp_wal *wal, cp_lsn position)
{
    int code = 0;
    pthread_mutex_lock(&wal->make_lock);
    /* relaxed: changed under make_lock only */
    while (code == 0 && atomic_load_explicit(&wal->prepared, memory_order_relaxed) < position) {
        cp_lsn prepared = atomic_load_explicit(&wal->prepared, memory_order_relaxed);
        uint64_t number = cp_wal__segment_of(wal, prepared);
        struct cp_wal__segment *segment;
        code = cp_wal__spare(wal, number, &segment);
        if (code == 0)
            code = cp_wal__open_file(wal, segment, false, wal->dsync, &segment->file);
        if (code != 0)
            break;
        pthread_mutex_lock(&wal->segments_lock);
        segment->number = number;
        segment->header_written = false;
        wal->segments_recycled += segment->header_number != CP_WAL__NO_NUMBER;
        pthread_mutex_unlock(&wal->segments_lock);
        /* release: pairs with the acquire in append's reserve */
        atomic_store_explicit(&wal->prepared, cp_wal__segment_start(wal, number + 1),
                              memory_order_release);
    }
    pthread_mutex_unlock(&wal->make_lock);
    return code;
}

int cp_wal__write_header(struct cp_wal *wal, struct cp_wal__segment *segment, uint64_t *written)
{
    struct cp_wal__segment_header header;
    if (segment->header_written)
        return 0;
    cp_wal__encode_segment(&header, wal->options.store_id, wal->segment_bytes, segment->number);
    memset(wal->stage, 0, wal->unit_bytes);
    memcpy(wal->stage, &header, sizeof header);
    int code = cp_io_write(segment->file, wal->stage, wal->unit_bytes, 0);
    if (code != 0)
        return code;
    *written += wal->unit_bytes;
    segment->header_number = segment->number;
    segment->header_written = true;
    return 0;
}
