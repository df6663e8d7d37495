/* SPDX-License-Identifier: MIT */
/*
 * An I/O backend that carries everything out on real files below one directory and records it. Its
 * rings keep several requests in flight and finish them in a seeded order, so that the trace has
 * crash points in which some of a batch's writes are done and others are not. No sync reaches a
 * device: durability is what the trace says, the files only have to be readable.
 *
 * With one thread in the store the trace is a function of the seed.
 */
#ifndef BENCH_CRASH_RECORDER_H
#define BENCH_CRASH_RECORDER_H

#include <stdint.h>
#include <clockpool/io.h>
#include "trace.h"

struct crash_recorder;

/* root, trace: borrowed until destroy. Never NULL. */
struct crash_recorder *crash_recorder_create(const char *root, struct crash_trace *trace,
                                             uint64_t seed);
void crash_recorder_destroy(struct crash_recorder *recorder);
/* The backend; the recorder is its ctx. */
const struct cp_io_backend *crash_recorder_backend(const struct crash_recorder *recorder);

/* The flush of this number from now on (1: the next) fails once with -EIO. O_DSYNC writes count. */
void crash_recorder_fail_flush(struct crash_recorder *recorder, uint64_t number);
/*
 * Let each flush take up to this many microseconds, by seed: as a device does, and other threads go
 * on meanwhile. Without it there is hardly a moment in which two things are under way.
 */
void crash_recorder_slow_flushes(struct crash_recorder *recorder, uint32_t most_us);
/*
 * While `between` is set, each read comes in pieces of some sectors, and `between` is called before
 * each piece: who copies files in this thread meets others that go on writing to them, at places
 * that the seed chooses. What `between` reads itself comes as ever. NULL: no more. For recordings
 * of one thread.
 */
void crash_recorder_split_reads(struct crash_recorder *recorder, void (*between)(void *ctx),
                                void *ctx);
/* Has the chosen flush failed? */
bool crash_recorder_failed(const struct crash_recorder *recorder);

/*
 * Tell the trace what is below root already: durable, before the recording. 0 or -errno. Ends with
 * crash_trace_baseline, also when the directory is empty.
 */
int crash_recorder_baseline(const char *root, struct crash_trace *trace);

#endif
