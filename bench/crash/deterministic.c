/* SPDX-License-Identifier: MIT */
/* getrandom() and the wall clock, as seen by what is linked into this program. */
#include "deterministic.h"

#include "random.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>

#define DATE_S 1700000000 /* any day will do */

static _Atomic bool active;
static _Atomic uint64_t base, drawn;

ssize_t __real_getrandom(void *buffer, size_t size, unsigned flags);
ssize_t __wrap_getrandom(void *buffer, size_t size, unsigned flags);
int __real_clock_gettime(clockid_t clock, struct timespec *out_time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *out_time);

void crash_deterministic_begin(uint64_t seed)
{
    atomic_store_explicit(&base, bench_mix(seed + 1), memory_order_relaxed);
    atomic_store_explicit(&drawn, 0, memory_order_relaxed);
    atomic_store_explicit(&active, true, memory_order_relaxed);
}

void crash_deterministic_end(void)
{
    atomic_store_explicit(&active, false, memory_order_relaxed);
}

ssize_t __wrap_getrandom(void *buffer, size_t size, unsigned flags)
{
    if (!atomic_load_explicit(&active, memory_order_relaxed))
        return __real_getrandom(buffer, size, flags);
    for (size_t at = 0; at < size; at += 8) {
        uint64_t word = bench_mix(atomic_load_explicit(&base, memory_order_relaxed) +
                                  atomic_fetch_add_explicit(&drawn, 1, memory_order_relaxed));
        size_t part = size - at < 8 ? size - at : 8;
        memcpy((uint8_t *)buffer + at, &word, part);
    }
    return (ssize_t)size;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *out_time)
{
    if (clock == CLOCK_REALTIME && atomic_load_explicit(&active, memory_order_relaxed)) {
        *out_time = (struct timespec){.tv_sec = DATE_S};
        return 0;
    }
    return __real_clock_gettime(clock, out_time);
}
