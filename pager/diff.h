/* SPDX-License-Identifier: MIT */
/* Which bytes of a page were changed. */
#ifndef CP_PAGER_DIFF_H
#define CP_PAGER_DIFF_H

#include <stdbool.h>
#include <stdint.h>

/* Equal bytes between two changes that are cheaper to log than a record's header is. */
#define CP_DIFF_GAP_BYTES 16u

/*
 * The next range of bytes at or after from in which two images of size_bytes (a multiple of 8, both
 * aligned to 8) differ; ranges closer than CP_DIFF_GAP_BYTES are one. before NULL stands for zeros.
 * False when there is none.
 */
bool cp_diff__next(const void *before, const void *after, uint32_t from, uint32_t size_bytes,
                   uint32_t *out_start, uint32_t *out_end);

#endif
