/* SPDX-License-Identifier: MIT */
/* Moving bytes: whole transfers, and memory on huge pages to move them into. */
#ifndef BENCH_TRANSFER_H
#define BENCH_TRANSFER_H

#include "engine.h"

#define BENCH_TRANSFER_BYTES (UINT32_C(1) << 20)

/* pread and pwrite of exactly size_bytes. 0 or a positive errno; EIO for an early end of file. */
int bench_read_all(int fd, void *buffer, uint64_t size_bytes, uint64_t offset_bytes);
int bench_write_all(int fd, const void *buffer, uint64_t size_bytes, uint64_t offset_bytes);

/*
 * Anonymous memory, 2 MiB aligned; from 2 MiB on transparent huge pages where the kernel grants
 * them. What is smaller takes no more memory than what is touched of it.
 */
void *bench_huge_alloc(uint64_t size_bytes, struct bench_error *error);
void bench_huge_free(void *memory, uint64_t size_bytes);

#endif
