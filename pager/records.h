/* SPDX-License-Identifier: MIT */
/* What the pager's log records mean; docs/file-format.md has the same in words. */
#ifndef CP_PAGER_RECORDS_H
#define CP_PAGER_RECORDS_H

#include <stdbool.h>
#include <stdint.h>

enum cp_record_type {
    CP_RECORD_RANGE = 1, /* data replaces the payload's bytes from offset on */
    CP_RECORD_INIT = 2,  /* the page is all zeros: it was allocated */
    CP_RECORD_IMAGE = 3, /* data is the whole payload */
    CP_RECORD_TRIM = 4,  /* pages from `page` on do not exist any more */
};

/* Does the record give the whole page, so that what the data file has of it does not matter? */
static inline bool cp_pager__is_base(uint8_t type)
{
    return type == CP_RECORD_INIT || type == CP_RECORD_IMAGE;
}

#endif
