/* SPDX-License-Identifier: MIT */
/* The ways to compute cp_checksum. All give the same values; which is fastest, the processor says.
 */
#ifndef CLOCKPOOL_BASE_CHECKSUM_VARIANTS_H
#define CLOCKPOOL_BASE_CHECKSUM_VARIANTS_H

#include <stddef.h>
#include <stdint.h>

#define CP_CHECKSUM__VARIANTS_MAX 3u

typedef uint64_t cp_checksum__function(const void *data, size_t size_bytes, uint64_t seed);

struct cp_checksum__variant {
    const char *name;
    cp_checksum__function *compute;
};

/* Those that this processor can run, fastest first; the last is the library's. Returns how many. */
unsigned cp_checksum__variants(struct cp_checksum__variant out_variants[CP_CHECKSUM__VARIANTS_MAX]);

/*
 * x86-64 only. To be called where the processor has AVX2, or AVX-512 F.
 *
 * They leave the upper halves of the vector registers cleared, and say so themselves: gcc 12
 * forgets it in this code. While an upper half is in use, each SSE instruction that the thread runs
 * afterwards, the host's too, depends on what was in its target register before: a loop of
 * floating-point calls took five times as long.
 */
cp_checksum__function cp_checksum__avx2, cp_checksum__avx512;

#endif
