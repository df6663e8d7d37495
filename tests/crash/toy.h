/* SPDX-License-Identifier: MIT */
/*
 * A store for testing the search: an append-only log of fixed-size records, one for each
 * transaction, each with the whole contents of the slots it changed. Made correctly, and with one
 * mistake each, all of which the search must find.
 */
#ifndef CLOCKPOOL_TESTS_CRASH_TOY_H
#define CLOCKPOOL_TESTS_CRASH_TOY_H

#include "subject.h"

enum toy_mistake {
    TOY_CORRECT,
    TOY_NO_SYNC,           /* acknowledges without flushing */
    TOY_NO_CHECKSUM,       /* believes a record whose first sector looks right */
    TOY_NO_DIRECTORY_SYNC, /* the file's name is not made durable */
    TOY_NO_RENAME,         /* creates the file under its final name, before it is complete */
    TOY_IN_PLACE,          /* writes slots in place, each where it always is */
    TOY_RETRY_SYNC,        /* after a failed flush, flushes again and believes it */
    TOY_STALE,             /* takes records that an earlier session left behind the end */
    TOY_RECOVERY,          /* recovery moves the log's end back before the rest is safe */
    TOY_DIES,              /* is killed by a torn record */
    TOY_HANGS,             /* loops on a torn record */
    TOY_MISTAKES,
};

const struct crash_subject *toy_subject(enum toy_mistake mistake);

#endif
