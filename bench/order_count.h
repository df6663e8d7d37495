/* SPDX-License-Identifier: MIT */
/*
 * Reads off a trace which page writes ran ahead of the log. Believes nothing that the library
 * says of itself: how far the log is durable follows from the blocks that were written to the
 * segments and the flushes that came after them, what a page contains from the LSN in its trailer.
 * docs/file-format.md has the bytes.
 */
#ifndef BENCH_ORDER_COUNT_H
#define BENCH_ORDER_COUNT_H

#include <stdint.h>
#include "crash/trace.h"

struct order_counts {
    uint64_t page_writes;   /* images of pages handed to the file; a page in a large write counts */
    uint64_t ahead_of_log;  /* of these, with an LSN beyond the durable end of the log */
    uint64_t max_lag_bytes; /* the largest distance, in bytes of the log's stream */
    uint64_t unsealed;      /* images whose checksum does not hold: written while being changed */
    uint64_t log_writes, log_flushes; /* write calls to segments; flushes, O_DSYNC writes too */
    uint64_t durable_lsn;             /* at the end of the trace */
};

/*
 * Count from the mark CRASH_MARK_CREATED on; what comes before only builds the log's state. There
 * is one store in the trace: its pages are in the file whose last name begins with "data", its log
 * in the files below a directory "wal". 0, or -1: there is no superblock, or no mark.
 */
int order_count(const struct crash_trace *trace, struct order_counts *out_counts);

#endif
