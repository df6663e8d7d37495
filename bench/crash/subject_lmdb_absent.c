/* SPDX-License-Identifier: MIT */
/* In place of subject_lmdb.c where LMDB is missing. */
#include "subject.h"

#define NOT_BUILT "not built: install liblmdb-dev, then configure and build again"

const struct crash_subject crash_subject_lmdb = {
    .name = "lmdb",
    .summary = "LMDB as it comes: each commit durable (control: must pass)",
    .not_built = NOT_BUILT,
};

const struct crash_subject crash_subject_lmdb_nosync = {
    .name = "lmdb-nosync",
    .summary = "LMDB with MDB_NOSYNC (control: must fail)",
    .not_built = NOT_BUILT,
    .control = true,
};
