/* SPDX-License-Identifier: MIT */
/*
 * Rules of durability that a test build may break, one at a time, to show that the crash search
 * notices. All are kept in every other build.
 */
#ifndef CP_PAGER_RULES_H
#define CP_PAGER_RULES_H

#ifndef CP_BREAK_GATE
#define CP_BREAK_GATE 0 /* write pages without waiting for the log */
#endif
#ifndef CP_BREAK_PAGE_IMAGE
#define CP_BREAK_PAGE_IMAGE 0 /* overwrite pages without a base in the log */
#endif
#ifndef CP_BREAK_CHECKPOINT_ORDER
#define CP_BREAK_CHECKPOINT_ORDER 0 /* publish a checkpoint before the data file is synced */
#endif
#ifndef CP_BREAK_EARLY_REUSE
#define CP_BREAK_EARLY_REUSE 0 /* let a page be allocated before its freeing is committed */
#endif
#ifndef CP_BREAK_BACKUP_HOLD
#define CP_BREAK_BACKUP_HOLD 0 /* trim the log although a backup holds it */
#endif
#ifndef CP_BREAK_BACKUP_ORDER
#define CP_BREAK_BACKUP_ORDER 0 /* copy the log before the pages */
#endif
#ifndef CP_BREAK_BACKUP_SYNC
#define CP_BREAK_BACKUP_SYNC 0 /* give a copy its name before its data file is synced */
#endif

#endif
