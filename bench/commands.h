/* SPDX-License-Identifier: MIT */
/* The small subcommands. Each takes its own argc and argv and returns the exit status. */
#ifndef BENCH_COMMANDS_H
#define BENCH_COMMANDS_H

int bench_claims_main(int argc, char **argv);
int bench_compare_main(int argc, char **argv);
int bench_crash_main(int argc, char **argv);
int bench_doctor_main(int argc, char **argv);
int bench_hits_main(int argc, char **argv);
int bench_list_main(int argc, char **argv);
int bench_order_main(int argc, char **argv);
int bench_report_main(int argc, char **argv);
int bench_trace_main(int argc, char **argv);

#endif
