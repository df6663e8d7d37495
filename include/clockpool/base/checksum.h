/* SPDX-License-Identifier: MIT */
/* The one checksum of all formats: XXH3, 64 bits, seeded. */
#ifndef CLOCKPOOL_BASE_CHECKSUM_H
#define CLOCKPOOL_BASE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include <clockpool/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* XXH3_64bits_withSeed over size_bytes at data. Any thread; does not block. */
CP_API uint64_t cp_checksum(const void *data, size_t size_bytes, uint64_t seed);

#ifdef __cplusplus
}
#endif
#endif
