/* SPDX-License-Identifier: MIT */
/* XXH3 from the xxhash library, behind one name, so that the formats depend on one place. */
#include <clockpool/base/checksum.h>

#include <xxhash.h>

uint64_t cp_checksum(const void *data, size_t size_bytes, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, size_bytes, seed);
}
