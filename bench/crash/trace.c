/* SPDX-License-Identifier: MIT */
/*
 * The event log: growing arrays of events, bytes and texts, and the present names of files, so that
 * a recorder can find a file that it is told to open.
 *
 * A saved trace is a header, then the arrays as they are. Loading checks every index that the rest
 * of the search follows, so a foreign or damaged file ends in a code.
 */
#include "trace.h"

#include <clockpool/base/checksum.h>
#include <clockpool/status.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAGIC     UINT64_C(0x31454341525450ff) /* not text, and unlike the store's own */
#define FILE_VERSION   1u
#define FILE_BYTES_MAX (UINT64_C(1) << 32) /* more cannot come from a workload of ours */
#define SEED           UINT64_C(0x7472616365)
#define NOTE_BYTES     256u

struct name {
    char *path; /* owned */
    uint32_t file;
};

struct crash_trace {
    pthread_mutex_t lock; /* guards everything while there is appending */
    struct crash_event *events;
    uint64_t event_count, event_capacity;
    uint8_t *data;
    uint64_t data_bytes, data_capacity;
    char *texts;
    uint32_t text_bytes, text_capacity;
    struct name *names;
    uint32_t name_count, name_capacity;
    uint32_t file_count;
    uint64_t baseline;
    char note[NOTE_BYTES];
    void (*observe)(void *ctx, const struct crash_event *event); /* NULL: nobody */
    void *observe_ctx;
};

struct file_header {
    uint64_t magic;
    uint32_t version, event_bytes;
    uint64_t event_count, data_bytes, baseline;
    uint32_t text_bytes, file_count;
    char note[NOTE_BYTES];
    uint64_t checksum; /* of the arrays, seeded with that of the header before this field */
};

static void *grow(void *memory, uint64_t bytes)
{
    void *grown = realloc(memory, bytes);
    if (grown == NULL)
        abort(); /* a test tool without memory has nothing better to do */
    return grown;
}

struct crash_trace *crash_trace_create(void)
{
    struct crash_trace *trace = grow(NULL, sizeof *trace);
    memset(trace, 0, sizeof *trace);
    pthread_mutex_init(&trace->lock, NULL);
    return trace;
}

void crash_trace_destroy(struct crash_trace *trace)
{
    if (trace == NULL)
        return;
    for (uint32_t i = 0; i < trace->name_count; i++)
        free(trace->names[i].path);
    free(trace->names);
    free(trace->events);
    free(trace->data);
    free(trace->texts);
    pthread_mutex_destroy(&trace->lock);
    free(trace);
}

/* ---- appending --------------------------------------------------------------------------------
 */

static uint32_t add_text(struct crash_trace *trace, const char *text)
{
    uint32_t bytes = (uint32_t)strlen(text) + 1;
    uint32_t at = trace->text_bytes;
    if (at + bytes > trace->text_capacity) {
        trace->text_capacity = (at + bytes) * 2;
        trace->texts = grow(trace->texts, trace->text_capacity);
    }
    memcpy(trace->texts + at, text, bytes);
    trace->text_bytes += bytes;
    return at;
}

static uint64_t add_data(struct crash_trace *trace, const void *data, uint64_t size)
{
    uint64_t at = trace->data_bytes;
    if (at + size > trace->data_capacity) {
        trace->data_capacity = (at + size) * 2;
        trace->data = grow(trace->data, trace->data_capacity);
    }
    if (size > 0)
        memcpy(trace->data + at, data, size);
    trace->data_bytes += size;
    return at;
}

static uint64_t add_event(struct crash_trace *trace, const struct crash_event *event)
{
    if (trace->event_count == trace->event_capacity) {
        trace->event_capacity = trace->event_capacity * 2 + 256;
        trace->events = grow(trace->events, trace->event_capacity * sizeof *trace->events);
    }
    trace->events[trace->event_count] = *event;
    if (trace->observe != NULL)
        trace->observe(trace->observe_ctx, event);
    return trace->event_count++;
}

static uint64_t add_locked(struct crash_trace *trace, const struct crash_event *event)
{
    pthread_mutex_lock(&trace->lock);
    uint64_t index = add_event(trace, event);
    pthread_mutex_unlock(&trace->lock);
    return index;
}

static struct name *find_name(struct crash_trace *trace, const char *path)
{
    for (uint32_t i = 0; i < trace->name_count; i++) {
        if (strcmp(trace->names[i].path, path) == 0)
            return &trace->names[i];
    }
    return NULL;
}

static void forget_name(struct crash_trace *trace, const char *path)
{
    struct name *name = find_name(trace, path);
    if (name == NULL)
        return;
    free(name->path);
    *name = trace->names[--trace->name_count];
}

static void remember_name(struct crash_trace *trace, const char *path, uint32_t file)
{
    forget_name(trace, path);
    if (trace->name_count == trace->name_capacity) {
        trace->name_capacity = trace->name_capacity * 2 + 16;
        trace->names = grow(trace->names, trace->name_capacity * sizeof *trace->names);
    }
    char *copy = strdup(path);
    if (copy == NULL)
        abort();
    trace->names[trace->name_count++] = (struct name){copy, file};
}

/* A file, or all files below a directory, get another name. */
static void move_names(struct crash_trace *trace, const char *from, const char *to)
{
    size_t length = strlen(from);
    forget_name(trace, to);
    for (uint32_t i = 0; i < trace->name_count; i++) {
        struct name *name = &trace->names[i];
        if (strncmp(name->path, from, length) != 0 ||
            (name->path[length] != '\0' && name->path[length] != '/'))
            continue;
        char *moved = NULL;
        if (asprintf(&moved, "%s%s", to, name->path + length) < 0)
            abort();
        free(name->path);
        name->path = moved;
    }
}

uint32_t crash_trace_create_file(struct crash_trace *trace, const char *path)
{
    pthread_mutex_lock(&trace->lock);
    uint32_t file = trace->file_count++;
    remember_name(trace, path, file);
    add_event(trace, &(struct crash_event){
                         .kind = CRASH_CREATE, .file = file, .path = add_text(trace, path)});
    pthread_mutex_unlock(&trace->lock);
    return file;
}

static void add_path(struct crash_trace *trace, enum crash_event_kind kind, const char *path)
{
    pthread_mutex_lock(&trace->lock);
    if (kind == CRASH_UNLINK)
        forget_name(trace, path);
    add_event(trace, &(struct crash_event){.kind = (uint8_t)kind,
                                           .file = CRASH_NO_FILE,
                                           .path = add_text(trace, path)});
    pthread_mutex_unlock(&trace->lock);
}

void crash_trace_mkdir(struct crash_trace *trace, const char *path)
{
    add_path(trace, CRASH_MKDIR, path);
}

void crash_trace_unlink(struct crash_trace *trace, const char *path)
{
    add_path(trace, CRASH_UNLINK, path);
}

void crash_trace_directory_sync(struct crash_trace *trace, const char *path)
{
    add_path(trace, CRASH_DIRECTORY_SYNC, path);
}

void crash_trace_rename(struct crash_trace *trace, const char *from, const char *to)
{
    pthread_mutex_lock(&trace->lock);
    move_names(trace, from, to);
    add_event(trace, &(struct crash_event){.kind = CRASH_RENAME,
                                           .file = CRASH_NO_FILE,
                                           .path = add_text(trace, from),
                                           .to = add_text(trace, to)});
    pthread_mutex_unlock(&trace->lock);
}

uint64_t crash_trace_write_begin(struct crash_trace *trace, uint32_t file, uint64_t offset,
                                 const void *data, uint64_t size, unsigned flags)
{
    pthread_mutex_lock(&trace->lock);
    uint64_t index = add_event(trace, &(struct crash_event){.kind = CRASH_WRITE_BEGIN,
                                                            .flags = (uint8_t)flags,
                                                            .file = file,
                                                            .offset = offset,
                                                            .size = size,
                                                            .data = add_data(trace, data, size)});
    pthread_mutex_unlock(&trace->lock);
    return index;
}

void crash_trace_write_end(struct crash_trace *trace, uint64_t begin)
{
    add_locked(trace, &(struct crash_event){
                          .kind = CRASH_WRITE_END, .file = CRASH_NO_FILE, .begin = begin});
}

void crash_trace_resize(struct crash_trace *trace, uint32_t file, uint64_t size)
{
    add_locked(trace, &(struct crash_event){.kind = CRASH_RESIZE, .file = file, .size = size});
}

void crash_trace_allocate(struct crash_trace *trace, uint32_t file, uint64_t size)
{
    add_locked(trace, &(struct crash_event){.kind = CRASH_ALLOCATE, .file = file, .size = size});
}

uint64_t crash_trace_flush_begin(struct crash_trace *trace, uint32_t file)
{
    return add_locked(trace, &(struct crash_event){.kind = CRASH_FLUSH_BEGIN, .file = file});
}

void crash_trace_flush_end(struct crash_trace *trace, uint64_t begin, int code)
{
    add_locked(trace,
               &(struct crash_event){
                   .kind = CRASH_FLUSH_END, .code = code, .file = CRASH_NO_FILE, .begin = begin});
}

void crash_trace_baseline(struct crash_trace *trace)
{
    pthread_mutex_lock(&trace->lock);
    trace->baseline = trace->event_count;
    pthread_mutex_unlock(&trace->lock);
}

void crash_trace_mark(struct crash_trace *trace, enum crash_mark mark, unsigned lane,
                      uint32_t transaction, uint64_t lsn)
{
    add_locked(trace, &(struct crash_event){.kind = CRASH_MARK,
                                            .mark = (uint8_t)mark,
                                            .lane = (uint8_t)lane,
                                            .file = CRASH_NO_FILE,
                                            .transaction = transaction,
                                            .lsn = lsn});
}

void crash_trace_observe(struct crash_trace *trace,
                         void (*observe)(void *ctx, const struct crash_event *event), void *ctx)
{
    pthread_mutex_lock(&trace->lock);
    trace->observe = observe;
    trace->observe_ctx = ctx;
    pthread_mutex_unlock(&trace->lock);
}

/* ---- reading ----------------------------------------------------------------------------------
 */

uint64_t crash_trace_length(const struct crash_trace *trace)
{
    return trace->event_count;
}

const struct crash_event *crash_trace_event(const struct crash_trace *trace, uint64_t index)
{
    return &trace->events[index];
}

const uint8_t *crash_trace_data(const struct crash_trace *trace, const struct crash_event *event)
{
    return trace->data + event->data;
}

const char *crash_trace_text(const struct crash_trace *trace, uint32_t text)
{
    return trace->texts + text;
}

uint32_t crash_trace_file_count(const struct crash_trace *trace)
{
    return trace->file_count;
}

uint64_t crash_trace_baseline_length(const struct crash_trace *trace)
{
    return trace->baseline;
}

uint32_t crash_trace_find(struct crash_trace *trace, const char *path)
{
    pthread_mutex_lock(&trace->lock);
    const struct name *name = find_name(trace, path);
    uint32_t file = name != NULL ? name->file : CRASH_NO_FILE;
    pthread_mutex_unlock(&trace->lock);
    return file;
}

void crash_trace_set_note(struct crash_trace *trace, const char *note)
{
    memset(trace->note, 0, sizeof trace->note);
    snprintf(trace->note, sizeof trace->note, "%s", note);
}

const char *crash_trace_note(const struct crash_trace *trace)
{
    return trace->note;
}

/* ---- files ------------------------------------------------------------------------------------
 */

static uint64_t checksum_of(const struct crash_trace *trace, const struct file_header *header)
{
    uint64_t sum = cp_checksum(header, offsetof(struct file_header, checksum), SEED);
    sum = cp_checksum(trace->events, trace->event_count * sizeof *trace->events, sum);
    sum = cp_checksum(trace->data, trace->data_bytes, sum);
    return cp_checksum(trace->texts, trace->text_bytes, sum);
}

static bool put(FILE *file, const void *data, uint64_t bytes)
{
    return bytes == 0 || fwrite(data, bytes, 1, file) == 1;
}

int crash_trace_save(const struct crash_trace *trace, const char *path)
{
    struct file_header header;
    memset(&header, 0, sizeof header);
    header.magic = FILE_MAGIC;
    header.version = FILE_VERSION;
    header.event_bytes = sizeof(struct crash_event);
    header.event_count = trace->event_count;
    header.data_bytes = trace->data_bytes;
    header.baseline = trace->baseline;
    header.text_bytes = trace->text_bytes;
    header.file_count = trace->file_count;
    memcpy(header.note, trace->note, sizeof header.note);
    header.checksum = checksum_of(trace, &header);
    FILE *file = fopen(path, "we");
    if (file == NULL)
        return -errno;
    bool good = put(file, &header, sizeof header) &&
                put(file, trace->events, trace->event_count * sizeof *trace->events) &&
                put(file, trace->data, trace->data_bytes) &&
                put(file, trace->texts, trace->text_bytes);
    return fclose(file) == 0 && good ? 0 : -EIO;
}

static bool get(FILE *file, void *data, uint64_t bytes)
{
    return bytes == 0 || fread(data, bytes, 1, file) == 1;
}

static bool begin_good(const struct crash_trace *trace, uint64_t index, enum crash_event_kind kind)
{
    uint64_t begin = trace->events[index].begin;
    return begin < index && trace->events[begin].kind == kind;
}

/* Does every event point to something that exists? */
static bool event_good(const struct crash_trace *trace, uint64_t index)
{
    const struct crash_event *event = &trace->events[index];
    bool file_good = event->file < trace->file_count;
    bool path_good = event->path < trace->text_bytes && event->to < trace->text_bytes;
    switch ((enum crash_event_kind)event->kind) {
    case CRASH_CREATE:
        return file_good && path_good;
    case CRASH_MKDIR:
    case CRASH_RENAME:
    case CRASH_UNLINK:
    case CRASH_DIRECTORY_SYNC:
        return path_good;
    case CRASH_WRITE_BEGIN:
        return file_good && event->data <= trace->data_bytes &&
               event->size <= trace->data_bytes - event->data &&
               event->offset <= FILE_BYTES_MAX - event->size;
    case CRASH_WRITE_END:
        return begin_good(trace, index, CRASH_WRITE_BEGIN);
    case CRASH_RESIZE:
    case CRASH_ALLOCATE:
        return file_good && event->size <= FILE_BYTES_MAX;
    case CRASH_FLUSH_BEGIN:
        return file_good;
    case CRASH_FLUSH_END:
        return begin_good(trace, index, CRASH_FLUSH_BEGIN);
    case CRASH_MARK:
        return event->mark <= CRASH_MARK_COPIED;
    }
    return false;
}

static int read_arrays(FILE *file, const struct file_header *header, struct crash_trace *trace)
{
    trace->events = grow(NULL, header->event_count * sizeof *trace->events + 1);
    trace->data = grow(NULL, header->data_bytes + 1);
    trace->texts = grow(NULL, header->text_bytes + 1);
    if (!get(file, trace->events, header->event_count * sizeof *trace->events) ||
        !get(file, trace->data, header->data_bytes) || !get(file, trace->texts, header->text_bytes))
        return CP_EFORMAT;
    trace->event_count = trace->event_capacity = header->event_count;
    trace->data_bytes = trace->data_capacity = header->data_bytes;
    trace->text_bytes = trace->text_capacity = header->text_bytes;
    trace->file_count = header->file_count;
    trace->baseline = header->baseline;
    memcpy(trace->note, header->note, sizeof trace->note - 1);
    if (checksum_of(trace, header) != header->checksum)
        return CP_ECHECKSUM;
    if (header->text_bytes > 0 && trace->texts[header->text_bytes - 1] != '\0')
        return CP_EFORMAT;
    for (uint64_t i = 0; i < trace->event_count; i++) {
        if (!event_good(trace, i))
            return CP_EFORMAT;
    }
    return 0;
}

int crash_trace_load(const char *path, struct crash_trace **out_trace)
{
    struct file_header header;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return -errno;
    int code = get(file, &header, sizeof header) ? 0 : CP_EFORMAT;
    if (code == 0 && header.magic != FILE_MAGIC)
        code = CP_EFORMAT;
    if (code == 0 &&
        (header.version != FILE_VERSION || header.event_bytes != sizeof(struct crash_event)))
        code = CP_EVERSION;
    if (code == 0 && (header.event_count > FILE_BYTES_MAX / sizeof(struct crash_event) ||
                      header.data_bytes > FILE_BYTES_MAX || header.baseline > header.event_count ||
                      header.file_count > header.event_count))
        code = CP_EFORMAT;
    if (code == 0) { /* the sizes must be those of the file before memory is taken for them */
        uint64_t whole = sizeof header + header.event_count * sizeof(struct crash_event) +
                         header.data_bytes + header.text_bytes;
        if (fseek(file, 0, SEEK_END) != 0 || (uint64_t)ftell(file) != whole ||
            fseek(file, sizeof header, SEEK_SET) != 0)
            code = CP_EFORMAT;
    }
    if (code == 0) {
        struct crash_trace *trace = crash_trace_create();
        code = read_arrays(file, &header, trace);
        if (code == 0)
            *out_trace = trace;
        else
            crash_trace_destroy(trace);
    }
    fclose(file);
    return code;
}

/* ---- for people -------------------------------------------------------------------------------
 */

static const char *const mark_names[] = {"created", "attempted", "committed", "durable",
                                         "failed",  "copying",   "copied"};

char *crash_trace_describe(const struct crash_trace *trace, uint64_t index, char *text,
                           size_t capacity)
{
    static const char *const names[] = {"create", "mkdir",    "write",          "write ended",
                                        "resize", "allocate", "flush",          "flush ended",
                                        "rename", "unlink",   "sync directory", "mark"};
    const struct crash_event *event = &trace->events[index];
    const char *name = names[event->kind];
    switch ((enum crash_event_kind)event->kind) {
    case CRASH_CREATE:
        snprintf(text, capacity, "%s file %u %s", name, event->file, trace->texts + event->path);
        break;
    case CRASH_MKDIR:
    case CRASH_UNLINK:
    case CRASH_DIRECTORY_SYNC:
        snprintf(text, capacity, "%s \"%s\"", name, trace->texts + event->path);
        break;
    case CRASH_RENAME:
        snprintf(text, capacity, "%s \"%s\" to \"%s\"", name, trace->texts + event->path,
                 trace->texts + event->to);
        break;
    case CRASH_WRITE_BEGIN:
        snprintf(text, capacity, "%s%s file %u at %" PRIu64 ", %" PRIu64 " bytes", name,
                 (event->flags & CRASH_DSYNC) != 0 ? " (O_DSYNC)" : "", event->file, event->offset,
                 event->size);
        break;
    case CRASH_RESIZE:
    case CRASH_ALLOCATE:
        snprintf(text, capacity, "%s file %u, %" PRIu64 " bytes", name, event->file, event->size);
        break;
    case CRASH_FLUSH_BEGIN:
        snprintf(text, capacity, "%s file %u", name, event->file);
        break;
    case CRASH_WRITE_END:
    case CRASH_FLUSH_END:
        snprintf(text, capacity, "%s (event %" PRIu64 "), code %d", name, event->begin,
                 event->code);
        break;
    case CRASH_MARK:
        snprintf(text, capacity, "%s lane %u transaction %u lsn %" PRIu64, mark_names[event->mark],
                 event->lane, event->transaction, event->lsn);
        break;
    }
    return text;
}
