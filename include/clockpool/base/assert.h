/* SPDX-License-Identifier: MIT */
/*
 * Assertions: for programmer errors only, never for input, I/O or memory. One condition each.
 *
 * cp_assert is always compiled in: it guards what would lose data (a page written ahead of its
 * log, a frame freed twice). cp_debug_assert is for debug builds and may stand on hot paths.
 */
#ifndef CLOCKPOOL_BASE_ASSERT_H
#define CLOCKPOOL_BASE_ASSERT_H

#include <clockpool/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Abort after a failed assertion. The one place in the library that ends the process. */
CP_API void cp_assert_fail(const char *condition, const char *file, int line, const char *function)
    __attribute__((noreturn, cold));

#define cp_assert(condition)                                                                       \
    (__builtin_expect(!!(condition), 1)                                                            \
         ? (void)0                                                                                 \
         : cp_assert_fail(#condition, __FILE__, __LINE__, __func__))

#ifdef CP_DEBUG
#define cp_debug_assert(condition) cp_assert(condition)
#else
#define cp_debug_assert(condition) ((void)sizeof(!(condition)))
#endif

#ifdef __cplusplus
}
#endif
#endif
