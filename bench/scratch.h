/* SPDX-License-Identifier: MIT */
/* The directory a run works in: choosing it, its file system, its removal, the page cache. */
#ifndef BENCH_SCRATCH_H
#define BENCH_SCRATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/limits.h>
#include "engine.h"

/* What lies behind a directory. Strings are empty when unknown. */
struct bench_place {
    char path[PATH_MAX];
    char type[64];      /* "ext4" */
    char options[512];  /* mount options */
    char source[256];   /* "/dev/sda1" */
    char device[64];    /* the whole disk's name in /sys/block, "sda" */
    char scheduler[64]; /* the one in use */
    char model[128];
    int64_t read_ahead_kb; /* -1: unknown */
    int rotational;        /* -1: unknown */
    bool in_memory;        /* tmpfs and the like: no device behind it */
    uint64_t free_bytes;
};

/* Describe directory. 0, or -1: it does not exist or is no directory. */
int bench_place_find(const char *directory, struct bench_place *out_place,
                     struct bench_error *error);

/*
 * Choose where to work: dir when given; else the first of $TMPDIR, /var/tmp and the current
 * directory that is writable and on a real file system.
 */
int bench_place_choose(const char *dir, struct bench_place *out_place, struct bench_error *error);

/* Make a directory "clockpool-bench-XXXXXX" of one's own in place. */
int bench_scratch_create(const struct bench_place *place, char *out_path, size_t capacity,
                         struct bench_error *error);

/* Remove a directory with everything in it. */
void bench_remove_tree(const char *path);

/* Drop the files of a directory from the page cache (they must be on the device already). */
void bench_drop_cache(const char *directory);

/*
 * Read all files of a directory once, past the page cache where possible. report: called with the
 * bytes of each transfer; nonzero: stop. 0, or -1 with a description.
 */
int bench_read_through(const char *directory, int (*report)(void *ctx, uint64_t bytes), void *ctx,
                       struct bench_error *error);

#endif
