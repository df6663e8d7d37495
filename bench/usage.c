/* SPDX-License-Identifier: MIT */
/* Reading /proc/self/io and getrusage. */
#include "usage.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>

void bench_process_io(uint64_t *out_read_bytes, uint64_t *out_written_bytes)
{
    char line[128];
    *out_read_bytes = *out_written_bytes = 0;
    FILE *file = fopen("/proc/self/io", "re");
    if (file == NULL)
        return;
    while (fgets(line, sizeof line, file) != NULL) {
        sscanf(line, "read_bytes: %" SCNu64, out_read_bytes);
        sscanf(line, "write_bytes: %" SCNu64, out_written_bytes);
    }
    fclose(file);
}

double bench_process_cpu_s(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

uint64_t bench_process_major_faults(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)usage.ru_majflt;
}
