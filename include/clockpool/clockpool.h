/* SPDX-License-Identifier: MIT */
/* Everything at once. Each header can also be included alone. */
#ifndef CLOCKPOOL_CLOCKPOOL_H
#define CLOCKPOOL_CLOCKPOOL_H

#include <clockpool/arena.h>
#include <clockpool/backup.h>
#include <clockpool/buddy.h>
#include <clockpool/bufpool.h>
#include <clockpool/inspect.h>
#include <clockpool/io.h>
#include <clockpool/lsn.h>
#include <clockpool/pager.h>
#include <clockpool/slab.h>
#include <clockpool/status.h>
#include <clockpool/version.h>
#include <clockpool/wal.h>

#endif
