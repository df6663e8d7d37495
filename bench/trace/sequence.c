/* SPDX-License-Identifier: MIT */
/* Reading page traces. zlib reads plain files as they are. */
#include "sequence.h"

#include <clockpool/base/bits.h>

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define LINE_MAX_BYTES 128u
#define SHOWN_BYTES    40u /* of a wrong line */
#define FIRST_CAPACITY 4096u
#define READ_AHEAD     (1u << 17)

/* Twice the slots, everything entered anew. */
static int grow_names(struct trace_builder *builder)
{
    uint32_t slots = builder->slots > 0 ? 2 * builder->slots : FIRST_CAPACITY;
    uint64_t *keys = malloc(slots * sizeof *keys);
    uint32_t *values = calloc(slots, sizeof *values);
    if (keys == NULL || values == NULL) {
        free(keys);
        free(values);
        return -1;
    }
    for (uint32_t i = 0; i < builder->slots; i++) {
        if (builder->values[i] == 0)
            continue;
        uint32_t at = cp_hash_slot(builder->keys[i], slots);
        while (values[at] != 0)
            at = (at + 1) & (slots - 1);
        keys[at] = builder->keys[i];
        values[at] = builder->values[i];
    }
    free(builder->keys);
    free(builder->values);
    builder->keys = keys;
    builder->values = values;
    builder->slots = slots;
    return 0;
}

/* The number by which a page goes from now on. */
static uint32_t number_of(struct trace_builder *builder, uint64_t page)
{
    uint32_t at = cp_hash_slot(page, builder->slots);
    while (builder->values[at] != 0) { /* ends: half of the slots are free */
        if (builder->keys[at] == page)
            return builder->values[at] - 1;
        at = (at + 1) & (builder->slots - 1);
    }
    builder->keys[at] = page;
    builder->values[at] = ++builder->page_count;
    return builder->page_count - 1;
}

int trace_builder_add(struct trace_builder *builder, uint64_t page)
{
    if (builder->count == builder->capacity) {
        uint32_t capacity = builder->capacity > 0 ? 2 * builder->capacity : FIRST_CAPACITY;
        if (capacity > TRACE_ACCESSES_MAX)
            return -1;
        uint32_t *accesses = realloc(builder->accesses, capacity * sizeof *accesses);
        if (accesses == NULL)
            return -1;
        builder->accesses = accesses;
        builder->capacity = capacity;
    }
    if (2 * builder->page_count >= builder->slots && grow_names(builder) != 0)
        return -1;
    builder->accesses[builder->count++] = number_of(builder, page);
    return 0;
}

void trace_builder_fini(struct trace_builder *builder)
{
    free(builder->accesses);
    free(builder->keys);
    free(builder->values);
    *builder = (struct trace_builder){0};
}

struct line {
    char bytes[LINE_MAX_BYTES]; /* without its end; a 0 behind them */
    size_t length;
    bool cut;  /* there was more of it */
    bool zero; /* it has a byte 0, wherever */
};

/* False: there is none, or it could not be read. */
static bool read_line(gzFile file, struct line *line)
{
    int byte, code = Z_OK;
    *line = (struct line){.length = 0};
    while ((byte = gzgetc(file)) >= 0 && byte != '\n') {
        line->zero = line->zero || byte == '\0';
        if (line->length + 1 < sizeof line->bytes)
            line->bytes[line->length++] = (char)byte;
        else
            line->cut = true;
    }
    (void)gzerror(file, &code);
    return byte >= 0 || (line->length > 0 && (code == Z_OK || code == Z_STREAM_END));
}

/* 1 with a page, 0 when there is nothing on it, -1 when it is wrong. */
static int parse_line(const struct line *line, uint64_t *out_page)
{
    const char *text = line->bytes;
    if (line->zero)
        return -1;
    while (isspace((unsigned char)*text))
        text++;
    if (*text == '#')
        return 0;
    if (line->cut)
        return -1;
    if (*text == '\0')
        return 0;
    char *end;
    errno = 0;
    unsigned long long page = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)*text) || errno != 0)
        return -1;
    while (isspace((unsigned char)*end))
        end++;
    *out_page = page;
    return *end == '\0' ? 1 : -1;
}

/* The beginning of a line for a message: what is no text, as \xHH. */
static void show_line(const struct line *line, char *text, size_t capacity)
{
    size_t length = 0, end = line->length;
    text[0] = '\0';
    if (end > 0 && line->bytes[end - 1] == '\r')
        end--;
    for (size_t i = 0; i < end && i < SHOWN_BYTES && length < capacity; i++) {
        const unsigned char byte = (unsigned char)line->bytes[i];
        length += (size_t)snprintf(text + length, capacity - length,
                                   byte >= ' ' && byte <= '~' ? "%c" : "\\x%02x", byte);
    }
}

static int read_lines(gzFile file, const char *path, struct trace_builder *builder, char *text,
                      size_t capacity)
{
    struct line line;
    char shown[4 * SHOWN_BYTES + 1];
    uint64_t number = 0, page = 0;
    int code = Z_OK;

    while (read_line(file, &line)) {
        number++;
        const int parsed = parse_line(&line, &page);
        if (parsed < 0) {
            show_line(&line, shown, sizeof shown);
            snprintf(text, capacity, "%s:%llu: \"%s\" is not a page number (0 to 2^64-1)", path,
                     (unsigned long long)number, shown);
            return -1;
        }
        if (parsed > 0 && trace_builder_add(builder, page) != 0) {
            snprintf(text, capacity, "%s:%llu: too many accesses, or not enough memory", path,
                     (unsigned long long)number);
            return -1;
        }
    }
    (void)gzerror(file, &code);
    if (code != Z_OK && code != Z_STREAM_END) {
        snprintf(text, capacity, "%s:%llu: %s", path, (unsigned long long)number + 1,
                 code == Z_ERRNO ? strerror(errno)
                                 : "the compressed data are damaged, or end too early");
        return -1;
    }
    if (builder->count == 0) {
        snprintf(text, capacity, "%s: no page number in it", path);
        return -1;
    }
    return 0;
}

static int read_file(const char *path, struct trace_builder *builder, char *text, size_t capacity)
{
    errno = 0;
    gzFile file = gzopen(path, "rb");
    if (file == NULL) {
        snprintf(text, capacity, "%s: %s", path, strerror(errno != 0 ? errno : ENOMEM));
        return -1;
    }
    (void)gzbuffer(file, READ_AHEAD);
    int result = read_lines(file, path, builder, text, capacity);
    /* A file that ends in the middle is told by the close. */
    int code = gzclose(file);
    if (result == 0 && code != Z_OK) {
        snprintf(text, capacity, "%s: the compressed data end too early", path);
        result = -1;
    }
    return result;
}

static int make_up(const char *kind, uint64_t seed, struct trace_builder *builder, char *text,
                   size_t capacity)
{
    for (unsigned i = 0; i < TRACE_SYNTHETIC_KINDS; i++) {
        if (strcmp(kind, trace_synthetic_kinds[i]) != 0)
            continue;
        if (trace_synthetic_make(i, seed, builder) == 0)
            return 0;
        snprintf(text, capacity, "not enough memory");
        return -1;
    }
    snprintf(text, capacity, "\"synthetic:%.40s\" is not known; there are scan, loop and shift",
             kind);
    return -1;
}

/* The file's name without folder, .gz and .txt. */
static void set_name(struct trace_sequence *sequence, const char *path)
{
    const char *slash = strrchr(path, '/');
    snprintf(sequence->name, sizeof sequence->name, "%s", slash != NULL ? slash + 1 : path);
    const char *const endings[2] = {".gz", ".txt"};
    for (unsigned i = 0; i < 2; i++) {
        size_t length = strlen(sequence->name), ending = strlen(endings[i]);
        if (length > ending && strcmp(sequence->name + length - ending, endings[i]) == 0)
            sequence->name[length - ending] = '\0';
    }
}

void trace_sequence_add_folder(struct trace_sequence *sequence, const char *path)
{
    const char *end = strrchr(path, '/'), *begin = end;
    char name[sizeof sequence->name];
    if (end == NULL || end == path)
        return;
    while (begin > path && begin[-1] != '/')
        begin--;
    if (snprintf(name, sizeof name, "%.*s/%s", (int)(end - begin), begin, sequence->name) >=
        (int)sizeof name)
        return; /* a number must do */
    memcpy(sequence->name, name, sizeof name);
}

int trace_sequence_open(const char *name, uint64_t seed, struct trace_sequence *out_sequence,
                        char *text, size_t capacity)
{
    static const char prefix[] = "synthetic:";
    struct trace_builder builder = {0};
    int result = strncmp(name, prefix, sizeof prefix - 1) == 0
                     ? make_up(name + sizeof prefix - 1, seed, &builder, text, capacity)
                     : read_file(name, &builder, text, capacity);
    if (result != 0) {
        trace_builder_fini(&builder);
        return -1;
    }
    set_name(out_sequence, name);
    out_sequence->accesses = builder.accesses;
    out_sequence->access_count = builder.count;
    out_sequence->page_count = builder.page_count;
    builder.accesses = NULL;
    trace_builder_fini(&builder);
    return 0;
}

void trace_sequence_close(struct trace_sequence *sequence)
{
    free(sequence->accesses);
    sequence->accesses = NULL;
}
