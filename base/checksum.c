/* SPDX-License-Identifier: MIT */
/*
 * XXH3 from the xxhash library, behind one name, so that the formats depend on one place.
 *
 * The library as it is packaged computes with SSE2, whatever the processor has. On x86-64 the same
 * code is also built for wider vectors, and the first call chooses. (The library's own dispatch is
 * as fast, but not every package has it, and it writes plain variables that all threads read.)
 */
#include <clockpool/base/checksum.h>

#include "checksum_variants.h"

#include <stdatomic.h>
#include <xxhash.h>

#ifdef CP_CHECKSUM_X86
/*
 * AVX-512 is only chosen where it came with VBMI2 (Ice Lake, Zen 4 and later). Older processors
 * lower their clock for 512-bit multiplications, and all else that runs there pays for it.
 */
static unsigned wide_variants(struct cp_checksum__variant *out_variants)
{
    unsigned count = 0;

    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vbmi2"))
        out_variants[count++] = (struct cp_checksum__variant){"AVX-512", cp_checksum__avx512};
    if (__builtin_cpu_supports("avx2"))
        out_variants[count++] = (struct cp_checksum__variant){"AVX2", cp_checksum__avx2};
    return count;
}
#else
static unsigned wide_variants(struct cp_checksum__variant *out_variants)
{
    (void)out_variants;
    return 0;
}
#endif

static uint64_t compute_by_library(const void *data, size_t size_bytes, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, size_bytes, seed);
}

unsigned cp_checksum__variants(struct cp_checksum__variant out_variants[CP_CHECKSUM__VARIANTS_MAX])
{
    unsigned count = wide_variants(out_variants);

    out_variants[count++] = (struct cp_checksum__variant){"library", compute_by_library};
    return count;
}

/*
 * Relaxed, without a partner: it holds choose_and_compute or what that chose, both are code that
 * gives the right value, and threads that choose at the same time choose the same.
 */
static cp_checksum__function choose_and_compute;
static cp_checksum__function *_Atomic chosen = choose_and_compute;

static uint64_t choose_and_compute(const void *data, size_t size_bytes, uint64_t seed)
{
    struct cp_checksum__variant variants[CP_CHECKSUM__VARIANTS_MAX];

    (void)cp_checksum__variants(variants);
    atomic_store_explicit(&chosen, variants[0].compute, memory_order_relaxed);
    return variants[0].compute(data, size_bytes, seed);
}

uint64_t cp_checksum(const void *data, size_t size_bytes, uint64_t seed)
{
    return atomic_load_explicit(&chosen, memory_order_relaxed)(data, size_bytes, seed);
}
