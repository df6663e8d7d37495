/* SPDX-License-Identifier: MIT */
/*
 * Write-ahead log: its place. The log itself is not written yet; until it is, a store is durable at
 * cp_pager_sync() and no LSN is assigned.
 *
 * What is settled is how it meets the rest. The log and the buffer pool never include each other:
 * an open log offers a struct cp_lsn_gate (lsn.h), the pager hands that gate to the pool when it
 * attaches a file, and the pool asks it before any dirty page is written. Positions are cp_lsn,
 * byte offsets in the log.
 */
#ifndef CLOCKPOOL_WAL_H
#define CLOCKPOOL_WAL_H

#include <clockpool/lsn.h>

#endif
