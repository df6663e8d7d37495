/* SPDX-License-Identifier: MIT */
/* What states.c (replaying, choosing) and states_visit.c (which subsets) share. */
#ifndef BENCH_CRASH_STATES_INTERNAL_H
#define BENCH_CRASH_STATES_INTERNAL_H

#include "random.h"
#include "states.h"

enum unit_kind { UNIT_SECTOR, UNIT_SIZE, UNIT_SET, UNIT_REMOVE, UNIT_RENAME };

struct unit {
    uint8_t kind;
    bool ended, orphan;   /* orphan: a failed flush covered it, no later one counts */
    bool exact;           /* UNIT_SIZE: set to size; else at least size */
    uint16_t from, bytes; /* UNIT_SECTOR: within the sector */
    uint32_t file;
    uint64_t event, ended_at;
    uint64_t sector, hash, size; /* UNIT_SECTOR: size is the end of what it writes */
    const uint8_t *data;
    /* names */
    uint32_t directory, object, from_directory;
    const char *name, *from_name; /* borrowed from the trace */
    uint32_t name_bytes, from_name_bytes;
};

struct entry {
    uint32_t directory, object;
    const char *name;
    uint32_t name_bytes;
};

struct names {
    struct entry *entries;
    uint32_t count, capacity;
};

struct file {
    uint8_t *bytes;              /* durable; zeros behind size */
    uint64_t size, written_size; /* durable; as the store sees it */
    uint64_t sectors;            /* elements of the arrays */
    uint64_t first_unwritten;    /* sector: from here on no write has ever begun */
    uint64_t *hashes;            /* of durable sectors; 0: only zeros */
    uint64_t hash_sum;
    /* the choice */
    const uint8_t **over;
    uint64_t *over_hashes;
    uint32_t *stamps;
    uint32_t stamp; /* that of the choice when this file is part of it */
    uint64_t chosen_size, cut, chosen_sum;
};

struct touched {
    uint32_t file;
    uint64_t sector;
};

struct crash_states {
    const struct crash_trace *trace;
    uint64_t seed, point;
    struct file *files;
    uint32_t file_count;
    uint32_t directory_count;
    struct names now, durable, chosen;
    struct unit *units;
    uint32_t unit_count, unit_capacity;
    uint32_t first_new; /* units before it were there at the last visited point */
    bool shear;         /* visit t masks too */
    bool changed;       /* the legal states, or what is asked of them, differ from those before */

    uint32_t stamp;
    bool names_chosen; /* chosen differs from durable */
    uint32_t *changed_files;
    uint32_t changed_file_count;
    struct touched *touched;
    uint32_t touched_count, touched_capacity;
    uint8_t *scratch; /* composed sectors of the choice */
    uint32_t scratch_count, scratch_capacity;
    struct crash_file_view *views;
    char **view_paths;
    uint32_t view_count, view_capacity;
    bool views_valid;
    uint64_t hash;
};

static inline uint64_t crash_mix(uint64_t a, uint64_t b)
{
    return bench_mix(a * UINT64_C(0x9e3779b97f4a7c15) + bench_mix(b));
}

/* A choice: begin, units in ascending order, finish (which computes the hash). */
void crash_states__begin(struct crash_states *states);
void crash_states__keep(struct crash_states *states, uint32_t index);
/* Of this unit only a first part of its sector, 8 to 504 bytes by seed. */
void crash_states__keep_sheared(struct crash_states *states, uint32_t index);
void crash_states__finish(struct crash_states *states);

#endif
