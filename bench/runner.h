/* SPDX-License-Identifier: MIT */
/* Carrying out a plan: data sets, processes, turns, results. */
#ifndef BENCH_RUNNER_H
#define BENCH_RUNNER_H

#include "plan.h"

/*
 * Run a plan: print the table on standard output and write the JSON file. Returns the exit status:
 * 0, 1 when something failed, 2 when the plan cannot be carried out as given (no space, no memory,
 * a bad directory). A caught signal ends the process after everything has been removed.
 */
int bench_run(const struct bench_plan *plan);

#endif
