/* SPDX-License-Identifier: MIT */
/*
 * The same workload, the same bytes: a store draws its identity from getrandom() and its date from
 * the clock. While a workload is recorded these two come from its seed, in this program only (the
 * linker's --wrap), so that a triple gives back the very image that failed.
 */
#ifndef BENCH_CRASH_DETERMINISTIC_H
#define BENCH_CRASH_DETERMINISTIC_H

#include <stdint.h>

void crash_deterministic_begin(uint64_t seed);
void crash_deterministic_end(void);

#endif
