/* SPDX-License-Identifier: MIT */
/*
 * What a store did to its files, in the order in which it happened: the input of the crash search.
 *
 * A recorder appends events while a workload runs: the I/O backend of recorder.c inside the
 * process, or a FUSE file system outside of it. states.c derives from the events what the files may
 * contain after a crash at any point. Between the events the workload leaves marks, which say what
 * it attempted and what was acknowledged to it.
 *
 * Files are known by number, from CRASH_CREATE on, whatever their names become. Paths are relative
 * to the recorded directory, without a leading "./" or "/". What existed when the recording began
 * is told like everything else (create, write, flush, directory sync), followed by
 * crash_trace_baseline: no crash is tried before that point.
 *
 * How a recorder reports
 *   a write      crash_trace_write_begin before it is handed to the file, crash_trace_write_end
 *                after it is known to have succeeded; in between it is in flight, and any of its
 *                512-byte sectors may be on the device or not. A write that failed is never ended:
 *                it stays in that condition until the same place is written again.
 *   a flush      (fsync, fdatasync) crash_trace_flush_begin before the call, crash_trace_flush_end
 *                after it, with its result. It makes durable what had ended before it began. After
 *                a failed one what it should have made durable stays uncertain for ever, whatever
 *                later flushes say, as with Linux.
 *   O_DSYNC      the flag CRASH_DSYNC on the write; durable when it has ended.
 *   the rest     after it has succeeded. Sizes are durable with the file's next flush, names with
 *                the sync of their directory.
 *
 * Appending: any thread. Everything else: one thread, and nobody appends.
 */
#ifndef BENCH_CRASH_TRACE_H
#define BENCH_CRASH_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CRASH_SECTOR_BYTES 512u
#define CRASH_NO_FILE      UINT32_MAX
#define CRASH_DSYNC        1u /* flag of CRASH_WRITE_BEGIN */

enum crash_event_kind {
    CRASH_CREATE,         /* path, file */
    CRASH_MKDIR,          /* path */
    CRASH_WRITE_BEGIN,    /* file, offset, size, data, flags */
    CRASH_WRITE_END,      /* begin */
    CRASH_RESIZE,         /* file, size: the size is now this (ftruncate) */
    CRASH_ALLOCATE,       /* file, size: the size is now at least this, zeros added (fallocate) */
    CRASH_FLUSH_BEGIN,    /* file */
    CRASH_FLUSH_END,      /* begin, code: 0 or what the flush failed with */
    CRASH_RENAME,         /* path, to; what `to` named is gone */
    CRASH_UNLINK,         /* path; also of an empty directory */
    CRASH_DIRECTORY_SYNC, /* path; "" is the recorded directory itself */
    CRASH_MARK,           /* mark, lane, transaction, lsn */
};

/*
 * What the workload knows. A lane is a sequence of transactions of its own (see oracle.h). An lsn
 * is any number that grows with each commit: making one durable makes all smaller ones durable.
 * After a crash nothing of a larger one is there when a smaller one is missing.
 */
enum crash_mark {
    CRASH_MARK_CREATED,   /* creating the store has returned: it must open from here on */
    CRASH_MARK_ATTEMPTED, /* lane, transaction: its commit is about to be called */
    CRASH_MARK_COMMITTED, /* lane, transaction, lsn: it has returned, not necessarily durable */
    CRASH_MARK_DURABLE,   /* lsn: all commits up to it have been acknowledged as durable */
    CRASH_MARK_FAILED,    /* the store has reported an error and refuses to go on; lsn: its code */
    CRASH_MARK_COPYING,   /* transaction: the number of a copy, which is about to be made */
    CRASH_MARK_COPIED,    /* transaction: that copy has been made, and must be there from now on;
                             lsn: not 0: the code with which it failed, for no reason */
};

struct crash_event {
    uint8_t kind;  /* enum crash_event_kind */
    uint8_t flags; /* CRASH_DSYNC */
    uint8_t mark;  /* enum crash_mark */
    uint8_t lane;
    int32_t code;
    uint32_t file;
    uint32_t path, to; /* for crash_trace_text */
    uint32_t transaction;
    uint64_t begin; /* index of the event that this one ends */
    uint64_t offset, size;
    uint64_t data; /* for crash_trace_data */
    uint64_t lsn;
};

struct crash_trace;

/* Never returns NULL (ends the process without memory). */
struct crash_trace *crash_trace_create(void);
void crash_trace_destroy(struct crash_trace *trace); /* NULL is allowed */

/* ---- appending: any thread --------------------------------------------------------------------
 */

/* A new, empty file under this name. Returns its number; numbers count from 0. */
uint32_t crash_trace_create_file(struct crash_trace *trace, const char *path);
void crash_trace_mkdir(struct crash_trace *trace, const char *path);
/* data is copied. Returns the event's index, for crash_trace_write_end. */
uint64_t crash_trace_write_begin(struct crash_trace *trace, uint32_t file, uint64_t offset,
                                 const void *data, uint64_t size, unsigned flags);
void crash_trace_write_end(struct crash_trace *trace, uint64_t begin);
void crash_trace_resize(struct crash_trace *trace, uint32_t file, uint64_t size);
void crash_trace_allocate(struct crash_trace *trace, uint32_t file, uint64_t size);
uint64_t crash_trace_flush_begin(struct crash_trace *trace, uint32_t file);
void crash_trace_flush_end(struct crash_trace *trace, uint64_t begin, int code);
void crash_trace_rename(struct crash_trace *trace, const char *from, const char *to);
void crash_trace_unlink(struct crash_trace *trace, const char *path);
void crash_trace_directory_sync(struct crash_trace *trace, const char *path);
/* What was told so far was there, and durable, before the recording. */
void crash_trace_baseline(struct crash_trace *trace);

void crash_trace_mark(struct crash_trace *trace, enum crash_mark mark, unsigned lane,
                      uint32_t transaction, uint64_t lsn);

/*
 * Have each further event shown to observe, before the call that appends it returns. It runs under
 * the trace's lock and must not append.
 */
void crash_trace_observe(struct crash_trace *trace,
                         void (*observe)(void *ctx, const struct crash_event *event), void *ctx);

/* ---- reading ----------------------------------------------------------------------------------
 */

uint64_t crash_trace_length(const struct crash_trace *trace);
const struct crash_event *crash_trace_event(const struct crash_trace *trace, uint64_t index);
/* The bytes of a CRASH_WRITE_BEGIN; borrowed until the next append. */
const uint8_t *crash_trace_data(const struct crash_trace *trace, const struct crash_event *event);
/* The text of a path or to. */
const char *crash_trace_text(const struct crash_trace *trace, uint32_t text);
uint32_t crash_trace_file_count(const struct crash_trace *trace);
uint64_t crash_trace_baseline_length(const struct crash_trace *trace);

/* The current number of the file with this name, or CRASH_NO_FILE. For recorders. Any thread. */
uint32_t crash_trace_find(struct crash_trace *trace, const char *path);

/* Free words of whoever made the trace, saved with it ("engine=pool seed=17 ..."). */
void crash_trace_set_note(struct crash_trace *trace, const char *note);
const char *crash_trace_note(const struct crash_trace *trace);

/*
 * To and from a file of our own format (versioned, checksummed). 0 or a negative code: -errno,
 * CP_EFORMAT, CP_EVERSION, CP_ECHECKSUM. Load accepts any bytes: every index is checked.
 */
int crash_trace_save(const struct crash_trace *trace, const char *path);
int crash_trace_load(const char *path, struct crash_trace **out_trace);

/* One line about an event, for people. Returns text. */
char *crash_trace_describe(const struct crash_trace *trace, uint64_t index, char *text,
                           size_t capacity);

#endif
