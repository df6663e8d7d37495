/* SPDX-License-Identifier: MIT */
/* What the kernel says that this process has used so far. */
#ifndef BENCH_USAGE_H
#define BENCH_USAGE_H

#include <stdint.h>

/* Bytes this process has had read from and written to devices (/proc/self/io). */
void bench_process_io(uint64_t *out_read_bytes, uint64_t *out_written_bytes);

/* Processor time, user and system, of all threads. */
double bench_process_cpu_s(void);

/* Page faults that waited for a device. */
uint64_t bench_process_major_faults(void);

#endif
