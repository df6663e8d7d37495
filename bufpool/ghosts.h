/* SPDX-License-Identifier: MIT */
/*
 * Ghosts: the memory of what was evicted lately, by fingerprint, for the replacement policy.
 *
 * An entry says that some page with this fingerprint was evicted, from which part of the pool, and
 * how many misses ago. It may lie: two pages can share bucket and fingerprint (about once in 4,000
 * looks), and the policy loses little by that. 24 bits an entry, 3.5 bytes a unit of frame memory.
 *
 * No I/O, no locks: the caller serialises all calls.
 */
#ifndef CLOCKPOOL_BUFPOOL_GHOSTS_H
#define CLOCKPOOL_BUFPOOL_GHOSTS_H

#include <stdbool.h>
#include <stdint.h>

#define CP_GHOST_WAYS 21u
/* Entries for 1.15 times the units: with fewer, full buckets lose pages younger than size_units. */
#define CP_GHOST_PER_MILLE 1150u

/* One cache line: a search costs one access to memory. */
struct cp_ghost_bucket {
    _Alignas(64) uint16_t fingerprints[CP_GHOST_WAYS]; /* 0: no entry */
    uint8_t tags[CP_GHOST_WAYS];                       /* epoch, and from where */
};
_Static_assert(sizeof(struct cp_ghost_bucket) == 64, "3 bytes an entry, and one to spare");

struct cp_ghosts {
    struct cp_ghost_bucket *buckets; /* borrowed */
    uint32_t bucket_count;           /* 0 before the first cp_ghosts__resize */
    uint64_t size_units;  /* an entry counts for so many units missed after its eviction */
    uint64_t epoch_units; /* what one step of an entry's epoch stands for */
    uint64_t now_units;   /* units missed so far */
};

/* Bytes for pools of up to size_units; cp_ghosts__init takes them zeroed. */
uint64_t cp_ghosts__bytes(uint64_t size_units);
/* memory: aligned to a bucket, borrowed for the life of the ghosts. */
void cp_ghosts__init(struct cp_ghosts *ghosts, void *memory);
/*
 * Say how large the pool is. Small changes are ignored; a larger one moves the buckets, so that
 * what was remembered is not found any more and is replaced in time.
 */
void cp_ghosts__resize(struct cp_ghosts *ghosts, uint64_t size_units);
/* A put or a take of this key will follow: fetch its bucket meanwhile. May be called without a
 * lock: a size that changes costs a useless fetch. */
void cp_ghosts__prefetch(const struct cp_ghosts *ghosts, uint64_t key);
/* The page with this key was evicted, from main or from probation. */
void cp_ghosts__put(struct cp_ghosts *ghosts, uint64_t key, bool from_main);
/*
 * Look for a page and forget it. True when it was evicted at most size_units ago; *out_from_main:
 * from where; *out_age_units: how many units were missed since, exact to epoch_units.
 */
bool cp_ghosts__take(struct cp_ghosts *ghosts, uint64_t key, bool *out_from_main,
                     uint64_t *out_age_units);

#endif
