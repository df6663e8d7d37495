/* SPDX-License-Identifier: MIT */
/* The version compiled against, and the version in use. */
#ifndef CLOCKPOOL_VERSION_H
#define CLOCKPOOL_VERSION_H

#include <clockpool/status.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CP_VERSION_MAJOR 0
#define CP_VERSION_MINOR 1
#define CP_VERSION_PATCH 0

/* The version of the library in use, "0.1.0". Static storage; any thread; never NULL. */
CP_API const char *cp_version(void);

#ifdef __cplusplus
}
#endif
#endif
