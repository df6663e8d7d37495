/* SPDX-License-Identifier: MIT */
/*
 * Dividing the pages that recovery has to change into parts whose records fit into memory.
 */
#ifndef CLOCKPOOL_PAGER_PARTS_H
#define CLOCKPOOL_PAGER_PARTS_H

#include <stdbool.h>
#include <stdint.h>

/* What the log has, summed over ranges of 1 << shift pages. */
struct cp_parts {
    uint64_t *bytes; /* owns; CP_PARTS_RANGES sums, of records in the log */
    unsigned shift;
};

#define CP_PARTS_RANGES UINT32_C(65536)

/* A part: the pages of [first, end) whose cp_hash_u64 % hash_parts is hash_part. */
struct cp_part {
    uint64_t first, end;
    uint32_t hash_parts, hash_part;
};

/* Before the first call of cp_parts__next. */
#define CP_PART_BEGIN ((struct cp_part){0, 0, 1, 0})

/* -ENOMEM. fini takes one that is all zeros, too. */
int cp_parts__init(struct cp_parts *parts) __attribute__((warn_unused_result));
void cp_parts__fini(struct cp_parts *parts);
void cp_parts__add(struct cp_parts *parts, uint64_t page, uint64_t bytes);

/*
 * The part behind *part, of at most limit_bytes (at least 1) of records as far as can be told.
 * False when there is none. Every page that was added is in exactly one part.
 */
bool cp_parts__next(const struct cp_parts *parts, uint64_t limit_bytes, struct cp_part *part);

/* Is page in part? */
bool cp_parts__has(const struct cp_part *part, uint64_t page);

#endif
