/* SPDX-License-Identifier: MIT */
/*
 * Rules that a test build breaks, one at a time, to show that the tests would notice. Each is 0 in
 * every other build, and the code for it vanishes.
 */
#ifndef CLOCKPOOL_WAL_RULES_H
#define CLOCKPOOL_WAL_RULES_H

#ifndef CP_BREAK_COMMIT_SYNC /* a flush reports durable what was written and not synced */
#define CP_BREAK_COMMIT_SYNC 0
#endif
#ifndef CP_BREAK_RECORD_CHECKSUM /* the scan looks at no checksum of a block or a group */
#define CP_BREAK_RECORD_CHECKSUM 0
#endif
#ifndef CP_BREAK_RETRY_SYNC /* after a failed sync, sync again and believe it */
#define CP_BREAK_RETRY_SYNC 0
#endif
#ifndef CP_BREAK_DIRECTORY_SYNC /* the directory entry of a new segment is not synced */
#define CP_BREAK_DIRECTORY_SYNC 0
#endif
#ifndef CP_BREAK_EPOCH /* the scan takes blocks of any epoch for a continuation */
#define CP_BREAK_EPOCH 0
#endif
#ifndef CP_BREAK_FLIGHT_ORDER /* a flight that lands is durable, whatever becomes of those before  \
                               */
#define CP_BREAK_FLIGHT_ORDER 0
#endif

#endif
