/* SPDX-License-Identifier: MIT */
/* The toy store. Lane 0 only; a cell has 8 bytes, so that a slot fits into a sector. */
#include "toy.h"

#include "recorder.h"

#include <clockpool/base/checksum.h>
#include <clockpool/io.h>

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CELL_BYTES   8u
#define MAGIC        UINT64_C(0x79747979746f7479)
#define RECORD_SLOTS 7u
#define SLOT_BYTES   512u
#define RECORD_BYTES (512u + RECORD_SLOTS * SLOT_BYTES)
#define HEADER_BYTES 512u

struct record {
    uint64_t magic;
    uint64_t number;   /* 0, 1, 2 ...: its place in the file */
    uint64_t previous; /* checksum of the record before: a chain */
    uint32_t version, slot_count;
    uint64_t checksum; /* of header (before this field) and slots */
    uint8_t unused[512 - 40];
    struct {
        uint32_t slot, live;
        uint8_t cells[CRASH_CELLS * CELL_BYTES];
        uint8_t unused[SLOT_BYTES - 8 - CRASH_CELLS * CELL_BYTES];
    } slots[RECORD_SLOTS];
};
_Static_assert(sizeof(struct record) == RECORD_BYTES, "sectors");

struct toy {
    enum toy_mistake mistake;
    struct cp_io *io;
    struct cp_io_file *file;
    uint64_t count, chain; /* records, checksum of the last */
    crash_version version;
    uint8_t live[CRASH_SLOTS_MAX];
    uint8_t pages[CRASH_SLOTS_MAX][CRASH_CELLS * CELL_BYTES];
    struct record record;
};

static uint64_t checksum_of(const struct record *record)
{
    uint64_t sum = cp_checksum(record, offsetof(struct record, checksum), 0);
    return cp_checksum(record->slots, sizeof record->slots, sum);
}

/* Is the record just read the next one? */
static bool good(const struct toy *toy)
{
    const struct record *record = &toy->record;
    if (record->magic != MAGIC || record->slot_count > RECORD_SLOTS)
        return false;
    bool whole = record->checksum == checksum_of(record);
    if (!whole && toy->mistake == TOY_DIES)
        abort();
    while (!whole && toy->mistake == TOY_HANGS)
        ;
    if (toy->mistake == TOY_NO_CHECKSUM || toy->mistake == TOY_IN_PLACE)
        return true;
    return whole && record->number == toy->count &&
           (record->previous == toy->chain || toy->mistake == TOY_STALE);
}

static int replay(struct toy *toy)
{
    uint64_t size;
    if (cp_io_file_size(toy->file, &size) != 0)
        return -1;
    toy->chain = 0;
    while ((toy->count + 1) * RECORD_BYTES <= size) {
        if (cp_io_read(toy->file, &toy->record, RECORD_BYTES, toy->count * RECORD_BYTES) != 0)
            return -1;
        if (!good(toy))
            break;
        toy->chain = toy->record.checksum;
        toy->version = toy->record.version;
        toy->count++;
        for (uint32_t i = 0; i < toy->record.slot_count; i++) {
            uint32_t slot = toy->record.slots[i].slot % CRASH_SLOTS_MAX;
            toy->live[slot] = toy->record.slots[i].live != 0;
            memcpy(toy->pages[slot], toy->record.slots[i].cells, sizeof toy->pages[slot]);
        }
    }
    return 0;
}

static int open_log(struct toy *toy, const char *root, bool create)
{
    char path[PATH_MAX], temporary[PATH_MAX];
    snprintf(path, sizeof path, "%s/log", root);
    snprintf(temporary, sizeof temporary, "%s/log.new", root);
    struct cp_io_file_options options = {.caching = CP_IO_BUFFERED, .block_bytes = 512};
    int code = cp_io_file_open(toy->io, path, &options, &toy->file);
    if (code != -ENOENT || !create)
        return code;
    options.create = options.truncate = true;
    code = cp_io_file_open(toy->io, toy->mistake == TOY_NO_RENAME ? path : temporary, &options,
                           &toy->file);
    if (code != 0)
        return code;
    /* Record 0: version 0, so that an empty store is not an empty file. */
    memset(&toy->record, 0, sizeof toy->record);
    toy->record.magic = MAGIC;
    toy->record.checksum = checksum_of(&toy->record);
    code = cp_io_write(toy->file, &toy->record, RECORD_BYTES, 0);
    if (code == 0)
        code = cp_io_file_sync(toy->file);
    if (code == 0 && toy->mistake != TOY_NO_RENAME)
        code = cp_io_rename(toy->io, temporary, path);
    if (code == 0 && toy->mistake != TOY_NO_DIRECTORY_SYNC)
        code = cp_io_directory_sync(toy->io, root);
    return code;
}

/* What the transaction changed, as the oracle has it: the toy has no pages of its own to change. */
static int append(struct toy *toy, const struct crash_model *model)
{
    struct record *record = &toy->record;
    memset(record, 0, sizeof *record);
    record->magic = MAGIC;
    record->number = toy->count;
    record->previous = toy->chain;
    record->version = model->version;
    for (unsigned slot = 0; slot < CRASH_SLOTS_MAX; slot++) {
        if (model->slot_version[slot] != model->version || record->slot_count == RECORD_SLOTS)
            continue;
        uint32_t at = record->slot_count++;
        record->slots[at].slot = slot;
        record->slots[at].live = model->live[slot];
        for (unsigned i = 0; i < CRASH_CELLS; i++)
            crash_cell_fill(record->slots[at].cells + i * CELL_BYTES, CELL_BYTES, 0, slot, i,
                            model->cells[slot][i]);
    }
    record->checksum = checksum_of(record);
    int code;
    if (toy->mistake == TOY_IN_PLACE && toy->count > 1) {
        record->number = 1; /* over the record before */
        code = cp_io_write(toy->file, record, RECORD_BYTES, RECORD_BYTES);
    } else {
        code = cp_io_write(toy->file, record, RECORD_BYTES, toy->count * RECORD_BYTES);
    }
    toy->chain = record->checksum;
    toy->count++;
    return code;
}

static int sync_log(struct toy *toy)
{
    if (toy->mistake == TOY_NO_SYNC)
        return 0;
    int code = cp_io_file_sync(toy->file);
    if (code != 0 && toy->mistake == TOY_RETRY_SYNC)
        code = cp_io_file_sync(toy->file);
    return code;
}

/* Returns 1 after a failed flush: the store stops. */
static int work(struct toy *toy, const struct crash_session *session)
{
    const struct crash_plan *plan = session->plan;
    struct crash_trace *trace = session->trace;
    for (uint32_t i = 0; i < plan->step_count; i++) {
        const struct crash_step *step = &plan->steps[i];
        if (step->end == CRASH_END_ABORT)
            continue;
        const struct crash_model *model = &plan->models[0][step->transaction - plan->first[0]];
        crash_trace_mark(trace, CRASH_MARK_ATTEMPTED, 0, step->transaction, 0);
        if (append(toy, model) != 0)
            return -1;
        uint64_t lsn = toy->count;
        if (step->end == CRASH_END_RELAXED) {
            crash_trace_mark(trace, CRASH_MARK_COMMITTED, 0, step->transaction, lsn);
            continue;
        }
        if (sync_log(toy) != 0)
            return 1;
        crash_trace_mark(trace, CRASH_MARK_COMMITTED, 0, step->transaction, lsn);
        crash_trace_mark(trace, CRASH_MARK_DURABLE, 0, 0, lsn);
    }
    return 0;
}

static int record_run(struct crash_session *session, enum toy_mistake mistake)
{
    struct toy *toy = calloc(1, sizeof *toy);
    struct crash_recorder *recorder =
        crash_recorder_create(session->root, session->trace, session->seed);
    struct cp_io_options options = {.backend = crash_recorder_backend(recorder),
                                    .backend_ctx = recorder};
    if (toy == NULL)
        abort();
    toy->mistake = mistake;
    int code = cp_io_create(&options, &toy->io);
    if (code != 0)
        goto destroy;
    if (!session->recover)
        crash_trace_mark(session->trace, CRASH_MARK_ATTEMPTED, 0, 0, 0);
    code = open_log(toy, session->root, !session->recover);
    if (code == 0)
        code = replay(toy);
    if (code == 0 && session->recover && mistake != TOY_STALE && mistake != TOY_RECOVERY) {
        /* A torn record behind the end could be made whole by parts of the next one. */
        code = cp_io_file_resize(toy->file, toy->count * RECORD_BYTES);
        if (code == 0)
            code = cp_io_file_sync(toy->file);
    }
    if (code == 0 && session->recover && mistake == TOY_RECOVERY) {
        /* Forget all, then write the last record again: fine unless it is interrupted. */
        code = cp_io_file_resize(toy->file, (toy->count - 1) * RECORD_BYTES);
        toy->count--;
        if (code == 0)
            code = cp_io_file_sync(toy->file);
        if (code == 0 && toy->count > 0)
            code = append(toy, &session->plan->models[0][0]);
        if (code == 0)
            code = cp_io_file_sync(toy->file);
    }
    if (code == 0) {
        crash_trace_mark(session->trace, CRASH_MARK_COMMITTED, 0, session->plan->first[0], 1);
        crash_trace_mark(session->trace, CRASH_MARK_DURABLE, 0, 0, 1);
        crash_trace_mark(session->trace, CRASH_MARK_CREATED, 0, 0, 0);
        crash_recorder_fail_flush(recorder, session->fail_flush);
        code = work(toy, session);
    }
    if (code == 1) {
        crash_trace_mark(session->trace, CRASH_MARK_FAILED, 0, 0, 0);
        code = 0;
    }
    if (toy->file != NULL && cp_io_file_close(toy->file) != 0)
        code = -1;
    cp_io_destroy(toy->io);
destroy:
    crash_recorder_destroy(recorder);
    free(toy);
    if (code != 0)
        snprintf(session->text, sizeof session->text, "code %d", code);
    return code != 0 ? -1 : 0;
}

static void compare(const struct toy *toy, const struct crash_image *image,
                    struct crash_verdict *verdict)
{
    const struct crash_model *model = crash_plan_model(image->plan, 0, toy->version);
    verdict->versions[0] = toy->version;
    if (model == NULL) {
        crash_find(verdict, CRASH_CORRUPT, "version %x was never made", toy->version);
        return;
    }
    for (unsigned slot = 0; slot < image->plan->slots; slot++) {
        crash_version found = 0;
        if (toy->live[slot] != model->live[slot])
            crash_find(verdict, CRASH_TORN, "slot %u lives or not", slot);
        int cell = !model->live[slot]
                       ? -1
                       : crash_model_compare(model, 0, slot, toy->pages[slot], CELL_BYTES, &found);
        if (cell >= 0)
            crash_find(verdict, CRASH_TORN, "slot %u cell %d has version %x", slot, cell, found);
    }
}

static void check_run(const struct crash_image *image, enum toy_mistake mistake,
                      struct crash_verdict *verdict)
{
    struct toy *toy = calloc(1, sizeof *toy);
    struct cp_io_options options = {.kind = CP_IO_SYNC};
    if (toy == NULL || cp_io_create(&options, &toy->io) != 0)
        abort();
    toy->mistake = mistake;
    int code = open_log(toy, image->root, false);
    if (code == -ENOENT)
        verdict->no_store = true;
    else if (code != 0)
        crash_find(verdict, CRASH_OPEN_FAILED, "code %d", code);
    else if (replay(toy) != 0)
        crash_find(verdict, CRASH_CORRUPT, "unreadable");
    else if (toy->count == 0)
        crash_find(verdict, CRASH_OPEN_FAILED, "half a store");
    else
        compare(toy, image, verdict);
    if (toy->file != NULL && cp_io_file_close(toy->file) != 0)
        abort();
    cp_io_destroy(toy->io);
    free(toy);
}

static bool always(const struct crash_plan *plan)
{
    (void)plan;
    return true;
}

static bool one_lane(const struct crash_workload *workload)
{
    return workload->lanes == 1 && workload->page_size == 4096;
}

#define TOY(mistake_name)                                                                          \
    static int record_##mistake_name(struct crash_session *session)                                \
    {                                                                                              \
        return record_run(session, mistake_name);                                                  \
    }                                                                                              \
    static void check_##mistake_name(void *checker, const struct crash_image *image,               \
                                     struct crash_verdict *verdict)                                \
    {                                                                                              \
        (void)checker;                                                                             \
        check_run(image, mistake_name, verdict);                                                   \
    }
#define TOY_ENTRY(mistake_name)                                                                    \
    [mistake_name] = {.name = #mistake_name,                                                       \
                      .summary = "a toy",                                                          \
                      .deterministic = always,                                                     \
                      .supports = one_lane,                                                        \
                      .record = record_##mistake_name,                                             \
                      .check = check_##mistake_name}

TOY(TOY_CORRECT)
TOY(TOY_NO_SYNC)
TOY(TOY_NO_CHECKSUM)
TOY(TOY_NO_DIRECTORY_SYNC)
TOY(TOY_NO_RENAME)
TOY(TOY_IN_PLACE)
TOY(TOY_RETRY_SYNC)
TOY(TOY_STALE)
TOY(TOY_RECOVERY)
TOY(TOY_DIES)
TOY(TOY_HANGS)

static const struct crash_subject subjects[TOY_MISTAKES] = {
    TOY_ENTRY(TOY_CORRECT),     TOY_ENTRY(TOY_NO_SYNC),
    TOY_ENTRY(TOY_NO_CHECKSUM), TOY_ENTRY(TOY_NO_DIRECTORY_SYNC),
    TOY_ENTRY(TOY_NO_RENAME),   TOY_ENTRY(TOY_IN_PLACE),
    TOY_ENTRY(TOY_RETRY_SYNC),  TOY_ENTRY(TOY_STALE),
    TOY_ENTRY(TOY_RECOVERY),    TOY_ENTRY(TOY_DIES),
    TOY_ENTRY(TOY_HANGS),
};

const struct crash_subject *toy_subject(enum toy_mistake mistake)
{
    return &subjects[mistake];
}
