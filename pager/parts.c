/* SPDX-License-Identifier: MIT */
/*
 * Parts are ranges of pages, so that what recovery reads and writes for one lies side by side in
 * the file. What the log has for each range of pages is summed up while it is scanned; the ranges
 * double in length whenever a page lies beyond the last one. Neighbouring ranges are joined while
 * their records fit. Where those of a single range do not, its pages are divided by hash.
 */
#include "parts.h"

#include <clockpool/base/bits.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int cp_parts__init(struct cp_parts *parts)
{
    parts->shift = 0;
    parts->bytes = calloc(CP_PARTS_RANGES, sizeof *parts->bytes);
    return parts->bytes != NULL ? 0 : -ENOMEM;
}

void cp_parts__fini(struct cp_parts *parts)
{
    free(parts->bytes);
    parts->bytes = NULL;
}

static void double_ranges(struct cp_parts *parts)
{
    for (uint32_t i = 0; i < CP_PARTS_RANGES / 2; i++)
        parts->bytes[i] = parts->bytes[2 * i] + parts->bytes[2 * i + 1];
    memset(parts->bytes + CP_PARTS_RANGES / 2, 0, CP_PARTS_RANGES / 2 * sizeof *parts->bytes);
    parts->shift++;
}

void cp_parts__add(struct cp_parts *parts, uint64_t page, uint64_t bytes)
{
    while (page >> parts->shift >= CP_PARTS_RANGES) /* ends: page has 64 bits */
        double_ranges(parts);
    parts->bytes[page >> parts->shift] += bytes;
}

bool cp_parts__next(const struct cp_parts *parts, uint64_t limit_bytes, struct cp_part *part)
{
    if (part->hash_part + 1 < part->hash_parts) {
        part->hash_part++;
        return true;
    }
    uint64_t i = part->end >> parts->shift;
    while (i < CP_PARTS_RANGES && parts->bytes[i] == 0)
        i++;
    if (i >= CP_PARTS_RANGES)
        return false;
    part->first = i << parts->shift;
    uint64_t sum = parts->bytes[i++];
    while (i < CP_PARTS_RANGES && sum <= limit_bytes && parts->bytes[i] <= limit_bytes - sum)
        sum += parts->bytes[i++];
    part->end = i << parts->shift;
    part->hash_parts = (uint32_t)cp_min_u64((sum + limit_bytes - 1) / limit_bytes, UINT32_MAX);
    part->hash_part = 0;
    return true;
}

bool cp_parts__has(const struct cp_part *part, uint64_t page)
{
    return page >= part->first && page < part->end &&
           (part->hash_parts == 1 || cp_hash_u64(page) % part->hash_parts == part->hash_part);
}
