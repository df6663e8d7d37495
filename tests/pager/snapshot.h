/* SPDX-License-Identifier: MIT */
/* A store's files as bytes in memory, to be put back as they were, or with a bit changed. */
#ifndef CLOCKPOOL_TESTS_PAGER_SNAPSHOT_H
#define CLOCKPOOL_TESTS_PAGER_SNAPSHOT_H

#include "helpers.h"

#define SNAPSHOT_FILES 100u

struct snapshot_file {
    char name[320]; /* in the store: "data", "lock", "wal/segment-00000001" */
    uint8_t *bytes; /* owns */
    size_t size;
};

struct snapshot {
    struct snapshot_file files[SNAPSHOT_FILES]; /* by name */
    unsigned count;
    uint64_t total_bytes;
};

void snapshot_load(struct snapshot *snapshot, const char *store);
/* Make store hold these files and no others. */
void snapshot_restore(const struct snapshot *snapshot, const char *store);
void snapshot_free(struct snapshot *snapshot);
/* The file that has byte `at` of all of them, one after the other; *out_offset within it. */
const struct snapshot_file *snapshot_find(const struct snapshot *snapshot, uint64_t at,
                                          uint64_t *out_offset);

#endif
