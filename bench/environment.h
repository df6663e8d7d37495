/* SPDX-License-Identifier: MIT */
/* What the machine is: facts that decide how figures are to be read. */
#ifndef BENCH_ENVIRONMENT_H
#define BENCH_ENVIRONMENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "scratch.h"

struct bench_machine {
    char kernel[256];    /* "Linux 6.1.0 x86_64" */
    char cpu[256];       /* model */
    char governor[64];   /* empty: the kernel does not choose frequencies here */
    char hypervisor[64]; /* empty: none seen */
    char thp[32];        /* "always", "madvise", "never", or empty */
    unsigned cpu_count;  /* online, and allowed to this process */
    uint64_t memory_bytes, available_bytes, swap_bytes;
    uint64_t hugetlb_pages, hugetlb_free;
    uint64_t memlock_bytes;  /* RLIMIT_MEMLOCK; UINT64_MAX: none */
    bool reports_free_pages; /* to a host that takes them back: a virtio balloon's feature */
};

void bench_machine_find(struct bench_machine *out_machine);

/* May an engine have as much, by the machine and by cgroups around? 0, or -1 with the reason. */
int bench_memory_check(uint64_t need_bytes, struct bench_error *error);

/* Version of liburing: of the library in use where it can say, else of the one built with. */
const char *bench_liburing_version(char *text, size_t capacity);

/* 0 when a ring can be made, or an errno. */
int bench_uring_probe(void);

/* The object "environment" of the JSON output; the caller owns it. */
json_t *bench_environment_json(const struct bench_place *place);
/* Versions of Clockpool and of what it uses; the caller owns it. */
json_t *bench_versions_json(void);

#endif
