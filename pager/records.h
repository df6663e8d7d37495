/* SPDX-License-Identifier: MIT */
/* What the pager's log records mean; docs/file-format.md has the same in words. */
#ifndef CP_PAGER_RECORDS_H
#define CP_PAGER_RECORDS_H

enum cp_record_type {
    CP_RECORD_RANGE = 1, /* data replaces the payload's bytes from offset on */
    CP_RECORD_INIT = 2,  /* the page is all zeros: it was allocated */
    CP_RECORD_IMAGE = 3, /* data is the whole payload */
    CP_RECORD_TRIM = 4,  /* pages from `page` on do not exist any more */
};

#endif
