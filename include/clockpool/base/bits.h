/* SPDX-License-Identifier: MIT */
/* Small integer helpers: powers of two, alignment, little-endian fields. */
#ifndef CLOCKPOOL_BASE_BITS_H
#define CLOCKPOOL_BASE_BITS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "Clockpool's files are little endian and are read in place; a big-endian port needs swaps."
#endif

static inline bool cp_is_power_of_two(uint64_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

/* Smallest multiple of alignment (a power of two) that is >= value. */
static inline uint64_t cp_align_up(uint64_t value, uint64_t alignment)
{
    return (value + alignment - 1) & ~(alignment - 1);
}

static inline uint64_t cp_align_down(uint64_t value, uint64_t alignment)
{
    return value & ~(alignment - 1);
}

/* floor(log2(value)); value must not be 0. */
static inline unsigned cp_log2_floor(uint64_t value)
{
    return 63u - (unsigned)__builtin_clzll(value);
}

/* ceil(log2(value)); value must not be 0. */
static inline unsigned cp_log2_ceil(uint64_t value)
{
    return value <= 1 ? 0u : cp_log2_floor(value - 1) + 1u;
}

/* Are all bytes zero? size_bytes must not be 0. Each byte is compared with the one before it. */
static inline bool cp_is_zero(const void *data, uint64_t size_bytes)
{
    const unsigned char *bytes = (const unsigned char *)data;
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, size_bytes - 1) == 0;
}

/* Fibonacci hashing (Knuth, 6.4): the upper half of the product is well mixed. */
static inline uint32_t cp_hash_u64(uint64_t value)
{
    return (uint32_t)((value * UINT64_C(0x9e3779b97f4a7c15)) >> 32);
}

/* The same as a place in a table of so many slots, a power of two from 2 to 2^32: the highest bits,
 * the only ones that depend on all bits of the value. */
static inline uint32_t cp_hash_slot(uint64_t value, uint64_t slots)
{
    return cp_hash_u64(value) >> (32 - cp_log2_floor(slots));
}

static inline uint64_t cp_min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t cp_max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

#endif
