/* SPDX-License-Identifier: MIT */
/*
 * The limit for commits: a bare log, and nothing else.
 *
 * A record is a header of 24 bytes and the 104 bytes that an update changes; it is appended to a
 * file that was filled with zeros beforehand and is used round and round. Written with O_DIRECT, by
 * O_DSYNC or fdatasync, whichever a probe found faster. Commits that come while four writes are
 * under way share the next one. No page is read or changed, nothing could be recovered from it but
 * the records, and those in no order: a commit waits for its own write alone, whatever became of
 * the log before it. No store can do less for a durable commit.
 *
 * Written independently of Clockpool's own log, on purpose: it is the measure of that.
 */
#ifndef BENCH_RAW_LOG_H
#define BENCH_RAW_LOG_H

#include <stddef.h>
#include "engine.h"

struct bench_raw_log;

/* Makes the file beside the data set when it is not there yet. NULL: failed. */
struct bench_raw_log *bench_raw_log_open(const struct bench_setup *setup,
                                         struct bench_error *error);
/* NULL is allowed. */
void bench_raw_log_close(struct bench_raw_log *log);

/* Any thread. relaxed: return at once, unless there is no room. */
int bench_raw_log_append(struct bench_raw_log *log, uint64_t page, bool relaxed,
                         struct bench_error *error);
int bench_raw_log_sync(struct bench_raw_log *log, struct bench_error *error);

/*
 * Read the file back: every record that was appended must be there (of the last round, when there
 * were several), and as many for each tracked page as were acknowledged.
 */
int bench_raw_log_verify(struct bench_raw_log *log, const struct bench_tracker *tracker,
                         struct bench_error *error);

void bench_raw_log_describe(const struct bench_raw_log *log, char *text, size_t capacity);

#endif
