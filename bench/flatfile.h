/* SPDX-License-Identifier: MIT */
/* The data set of the raw engine: pages one after the other in one file, and memory to read into.
 */
#ifndef BENCH_FLATFILE_H
#define BENCH_FLATFILE_H

#include "engine.h"

#define BENCH_FLATFILE_NAME  "data"
#define BENCH_TRANSFER_BYTES (UINT32_C(1) << 20)

int bench_flatfile_create(const struct bench_data *data, const struct bench_progress_sink *sink,
                          struct bench_error *error);

/* Open with O_DIRECT, or buffered where that is refused. The descriptor, or -1. */
int bench_flatfile_open(const struct bench_data *data, bool *out_direct, struct bench_error *error);

/* pread and pwrite of exactly size_bytes. 0 or a positive errno; EIO for an early end of file. */
int bench_read_all(int fd, void *buffer, uint64_t size_bytes, uint64_t offset_bytes);
int bench_write_all(int fd, const void *buffer, uint64_t size_bytes, uint64_t offset_bytes);

/* Anonymous memory, 2 MiB aligned, on transparent huge pages where the kernel grants them. */
void *bench_huge_alloc(uint64_t size_bytes, struct bench_error *error);
void bench_huge_free(void *memory, uint64_t size_bytes);

#endif
