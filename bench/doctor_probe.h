/* SPDX-License-Identifier: MIT */
/* Trying a directory out: is O_DIRECT real, and does something cache behind the disk? */
#ifndef BENCH_DOCTOR_PROBE_H
#define BENCH_DOCTOR_PROBE_H

#include "scratch.h"

#define BENCH_PROBE_BYTES (UINT64_C(64) << 20)

struct bench_probe {
    bool direct;              /* O_DIRECT was accepted */
    char direct_reason[128];  /* why not */
    uint64_t page_count;      /* of the file */
    uint64_t cached_pages;    /* in the page cache after reading all of it with O_DIRECT */
    double first_reads_per_s; /* random reads, the first time and again; 0: not tried */
    double second_reads_per_s;
};

/* 0, or -1 when the file cannot be written or read. The file is removed in any case. */
int bench_probe_run(const struct bench_place *place, struct bench_probe *out_probe,
                    struct bench_error *error);

#endif
