/* SPDX-License-Identifier: MIT */
/*
 * XXH3 with AVX2. CMake builds this file for processors that may not be the one it runs on, so it
 * includes nothing that could leave a function, built for AVX2, to the rest of the program: all of
 * xxhash.h is static here, immintrin.h is instructions, and the other header only declares.
 */
#define XXH_INLINE_ALL
#define XXH_VECTOR XXH_AVX2
#include "checksum_variants.h"

#include <immintrin.h>
#include <xxhash.h>

uint64_t cp_checksum__avx2(const void *data, size_t size_bytes, uint64_t seed)
{
    const uint64_t value = XXH3_64bits_withSeed(data, size_bytes, seed);
    _mm256_zeroupper(); /* see checksum_variants.h */
    return value;
}
