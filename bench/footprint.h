/* SPDX-License-Identifier: MIT */
/* Where the memory went: what the cgroup is charged with, and what of a data set is in the page
 * cache. What cannot be read is -1. */
#ifndef BENCH_FOOTPRINT_H
#define BENCH_FOOTPRINT_H

struct bench_footprint {
    double charged_bytes;           /* the cgroup's present use, page cache included */
    double anon_bytes, cache_bytes; /* of these, by memory.stat */
    double file_cached_bytes;       /* of the data set's files, in the page cache (mincore) */
    double tlb_shootdowns;          /* as bench_tlb_shootdowns */
};

/*
 * usage_file: the cgroup's present use, "" when there is no group. directory: of the data set, its
 * subdirectories included.
 */
void bench_footprint_take(const char *usage_file, const char *directory,
                          struct bench_footprint *out_footprint);

/* Interrupts of all processors to forget a mapping, so far, whoever caused them. -1: not said. */
double bench_tlb_shootdowns(void);

#endif
