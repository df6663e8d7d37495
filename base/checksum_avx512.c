/* SPDX-License-Identifier: MIT */
/* XXH3 with AVX-512 F. What checksum_avx2.c says about its headers holds here too. */
#define XXH_INLINE_ALL
#define XXH_VECTOR XXH_AVX512
#include "checksum_variants.h"

#include <immintrin.h>
#include <xxhash.h>

uint64_t cp_checksum__avx512(const void *data, size_t size_bytes, uint64_t seed)
{
    const uint64_t value = XXH3_64bits_withSeed(data, size_bytes, seed);
    _mm256_zeroupper(); /* see checksum_variants.h */
    return value;
}
