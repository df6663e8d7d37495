/* SPDX-License-Identifier: MIT */
/* In place of fuse_recorder.c where libfuse3 is missing: says so. */
#include "fuse_recorder.h"

#include <stdio.h>

const char *crash_fuse_unavailable(void)
{
    return "built without libfuse3 (install libfuse3-dev and build again)";
}

int crash_fuse_record(const struct crash_fuse_options *options, char *text, size_t capacity)
{
    (void)options;
    snprintf(text, capacity, "%s", crash_fuse_unavailable());
    return -1;
}

void crash_fuse_mark(const struct crash_fuse_place *place, enum crash_mark mark, unsigned lane,
                     uint32_t transaction, uint64_t lsn)
{
    (void)place;
    (void)mark;
    (void)lane;
    (void)transaction;
    (void)lsn;
}
