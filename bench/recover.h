/* SPDX-License-Identifier: MIT */
/*
 * The workload recover: how long does opening take after a kill, by the size of the log?
 *
 * One process commits, relaxed, with checkpoints off, until the log has its size; makes that
 * durable, writes down what a sample of the pages must hold, and dies by SIGKILL. The next opens
 * the engine, and is timed. The pages of the sample must be as written down.
 *
 * raw has nothing to recover: it reads as many bytes of the data set in order, the most that the
 * device gives.
 */
#ifndef BENCH_RECOVER_H
#define BENCH_RECOVER_H

#include "workload.h"

#define BENCH_RECOVER_THREADS 32u /* that commit before the kill: many reads under way */

/* Both open the engine themselves: input->handle and input->tracker are not used. input->cell has
 * the size of the log. */
int bench_recover_fill(const struct bench_cell_input *input, struct bench_error *error);
int bench_recover_open(const struct bench_cell_input *input, struct bench_cell_result *out_result,
                       struct bench_engine_stats *out_stats, struct bench_error *error);

#endif
