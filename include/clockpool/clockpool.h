/* SPDX-License-Identifier: MIT */
/* Everything at once. Each header can also be included alone. */
#ifndef CLOCKPOOL_CLOCKPOOL_H
#define CLOCKPOOL_CLOCKPOOL_H

#include <clockpool/arena.h>
#include <clockpool/buddy.h>
#include <clockpool/bufpool.h>
#include <clockpool/io.h>
#include <clockpool/lsn.h>
#include <clockpool/pager.h>
#include <clockpool/slab.h>
#include <clockpool/status.h>
#include <clockpool/wal.h>

#define CP_VERSION_MAJOR 0
#define CP_VERSION_MINOR 1
#define CP_VERSION_PATCH 0

#ifdef __cplusplus
extern "C" {
#endif

/* The version of the library in use, "0.1.0". Static storage. */
CP_API const char *cp_version(void);

#ifdef __cplusplus
}
#endif
#endif
