/* SPDX-License-Identifier: MIT */
/*
 * Poisoning of memory that nobody may touch, for AddressSanitizer and valgrind.
 *
 * CP_POISON makes a range an error to touch; CP_UNPOISON makes it usable with undefined content;
 * CP_DEFINED says that the kernel has filled it (valgrind does not see asynchronous reads). In
 * builds with neither tool the three cost nothing (CP_VALGRIND adds a few instructions).
 */
#ifndef CLOCKPOOL_BASE_POISON_H
#define CLOCKPOOL_BASE_POISON_H

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define CP_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CP_ASAN 1
#endif
#endif

#if defined(CP_ASAN)
#include <sanitizer/asan_interface.h>
#define CP_POISON(address, size_bytes)   __asan_poison_memory_region((address), (size_bytes))
#define CP_UNPOISON(address, size_bytes) __asan_unpoison_memory_region((address), (size_bytes))
#define CP_DEFINED(address, size_bytes)  ((void)(address), (void)(size_bytes))
#define CP_POISONS                       1
#elif defined(CP_VALGRIND)
#include <valgrind/memcheck.h>
#define CP_POISON(address, size_bytes) ((void)VALGRIND_MAKE_MEM_NOACCESS((address), (size_bytes)))
#define CP_UNPOISON(address, size_bytes)                                                           \
    ((void)VALGRIND_MAKE_MEM_UNDEFINED((address), (size_bytes)))
#define CP_DEFINED(address, size_bytes) ((void)VALGRIND_MAKE_MEM_DEFINED((address), (size_bytes)))
#define CP_POISONS                      1
#else
#define CP_POISON(address, size_bytes)   ((void)(address), (void)(size_bytes))
#define CP_UNPOISON(address, size_bytes) ((void)(address), (void)(size_bytes))
#define CP_DEFINED(address, size_bytes)  ((void)(address), (void)(size_bytes))
#define CP_POISONS                       0
#endif

#endif
