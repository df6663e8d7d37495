/* SPDX-License-Identifier: MIT */
/* The options of a subcommand that takes nothing else, in one loop with one set of messages. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>

#define BENCH_MEM_MIN (UINT64_C(2) << 20) /* a quarter of it: the mmap engine's private frames */

struct bench_options {
    const char *command;       /* as in "clockpool-bench COMMAND" */
    const struct option *list; /* long ones only */
    /* Take one option: false when its value cannot be used. Lists may be taken apart in place. */
    bool (*take)(void *ctx, int id, char *value);
};

/* What most commands take: the values of these options in list, below those for take. */
enum bench_common_option {
    BENCH_OPT_DIR = 1,
    BENCH_OPT_JSON,
    BENCH_OPT_QUIET,
    BENCH_OPT_HELP, /* -h, too */
};

struct bench_common {
    const char *dir, *json; /* NULL: not given */
    bool quiet, help;
};

/*
 * Hand each option on the command line to take, and what is common to out_common. 0, or the exit
 * status 2 after a message.
 */
int bench_options_parse(const struct bench_options *options, void *ctx,
                        struct bench_common *out_common, int argc, char **argv);

/* Say on standard error what is wrong, and where help is: what and detail follow each other. 2. */
int bench_options_wrong(const struct bench_options *options, const char *what, const char *detail);

/* Is that enough memory for an engine? 0, or 2 after a message. */
int bench_options_check_mem(const struct bench_options *options, uint64_t mem_bytes);

#endif
