/* SPDX-License-Identifier: MIT */
/*
 * What the files of the engines "raw" and "floor" share: engine_raw.c opens and reads, raw_scan.c
 * scans, engine_floor.c adds what no page cache can do without.
 */
#ifndef BENCH_RAW_ENGINE_H
#define BENCH_RAW_ENGINE_H

#include "raw_log.h"
#include "storefile.h"

#include <liburing.h>
#include <stdatomic.h>

/* Transfers of a scan in flight: 8 MiB, twice what saturates the devices we have seen. */
#define BENCH_RAW_INFLIGHT 8u

struct raw_engine {
    const struct bench_setup *setup;
    int fd;
    bool direct;
    bool verifies; /* floor: compare the checksum of every page read */
    struct bench_extents extents;
    uint64_t base_page; /* where the first extent begins, and with it the array */
    char *array;        /* the file from there on in memory, or NULL: read from the device */
    uint64_t array_bytes;
    uint64_t *words;           /* floor: one a page of the array, which say where it is */
    atomic_bool *locks;        /* of the array */
    atomic_bool *busy;         /* updates of the file: by page from base_page on */
    struct bench_raw_log *log; /* NULL: no commits asked for */
    atomic_bool buffers_plain; /* a thread could not register its buffers */
    atomic_bool scans_alone;   /* a thread has no ring, and scans by one transfer at a time */
};

enum slot_step { STEP_READ, STEP_WRITE };

struct raw_slot {
    struct bench_op *op;
    enum slot_step step;
    bool holds; /* has marked its page busy */
};

struct raw_thread {
    struct raw_engine *engine;
    struct bench_thread_setup setup;
    uint32_t page_size;
    char *buffers; /* slots of page_size bytes, or BENCH_RAW_INFLIGHT transfers */
    uint64_t buffers_bytes;
    bool ring_ready, buffers_fixed, file_fixed;
    struct io_uring ring;
    unsigned in_flight;
    unsigned ready[BENCH_DEPTH_MAX]; /* memory only: slots started and not reaped */
    unsigned ready_count;
    unsigned waiting[BENCH_DEPTH_MAX]; /* updates of the file: slots whose page was busy */
    unsigned waiting_count;
    struct raw_slot slots[BENCH_DEPTH_MAX];
};

/* The file's number for a page of the data set; as bench_engine.locate. */
uint64_t bench_raw_locate(void *engine, uint64_t page);
/* A page of the array. */
char *bench_raw_array_page(const struct raw_engine *engine, uint64_t where);
/* Queue one transfer. The submission queue has twice the room of what can be in flight. */
void bench_raw_queue(struct raw_thread *thread, bool write, void *buffer, uint32_t size_bytes,
                     uint64_t offset_bytes, unsigned tag);
/* Hand over what is queued and wait for a completion. 0 or -1. */
int bench_raw_submit_and_wait(struct raw_thread *thread);
/* Describe that a page could not be read or written; -1. */
int bench_raw_device_error(struct raw_thread *thread, int code, const char *verb, uint64_t page);
/* Is a page that was read as it was written, where the engine verifies? 0 or -1. */
int bench_raw_arrived(struct raw_thread *thread, const void *memory, uint64_t where);

/* The functions of raw as a bench_engine, those that floor has too. */
const char *bench_raw_version(void);
int bench_raw_open(const struct bench_setup *setup, void **out_engine, struct bench_error *error);
void bench_raw_close(void *engine);
void bench_raw_stats(void *engine, struct bench_engine_stats *out_stats);
int bench_raw_thread_begin(void *engine, const struct bench_thread_setup *setup, void **out_thread);
void bench_raw_thread_end(void *thread);
int bench_raw_read(void *thread, struct bench_op *ops, unsigned count);
int bench_raw_start(void *thread, unsigned slot, struct bench_op *op);
int bench_raw_reap(void *thread, unsigned *out_slots, unsigned capacity);
int bench_raw_scan(void *thread, uint64_t first, uint64_t count);

#endif
