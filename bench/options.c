/* SPDX-License-Identifier: MIT */
/* The options of a subcommand that takes nothing else. */
#include "options.h"

#include "units.h"

#include <stdio.h>

int bench_options_wrong(const struct bench_options *options, const char *what, const char *detail)
{
    fprintf(stderr, "clockpool-bench %s: %s%s; see clockpool-bench %s --help\n", options->command,
            what, detail, options->command);
    return 2;
}

static bool take_common(struct bench_common *common, int id, const char *value)
{
    switch ((enum bench_common_option)id) {
    case BENCH_OPT_DIR:
        common->dir = value;
        return true;
    case BENCH_OPT_JSON:
        common->json = value;
        return true;
    case BENCH_OPT_QUIET:
        common->quiet = true;
        return true;
    case BENCH_OPT_HELP:
        common->help = true;
        return true;
    }
    return false;
}

int bench_options_parse(const struct bench_options *options, void *ctx,
                        struct bench_common *out_common, int argc, char **argv)
{
    int id, index = 0;
    char text[256], given[128] = "";
    optind = 1;
    opterr = 0;
    while ((id = getopt_long(argc, argv, "+:h", options->list, &index)) != -1) {
        if (id == ':')
            return bench_options_wrong(options, "a value is missing for ", argv[optind - 1]);
        if (id == '?')
            return bench_options_wrong(options, "unknown option ", argv[optind - 1]);
        if (id == 'h')
            id = BENCH_OPT_HELP;
        if (optarg != NULL)
            snprintf(given, sizeof given, "%s", optarg); /* lists are taken apart in place */
        if (!take_common(out_common, id, optarg) && !options->take(ctx, id, optarg)) {
            snprintf(text, sizeof text, "--%s: \"%.100s\" cannot be used",
                     options->list[index].name, given);
            return bench_options_wrong(options, text, "");
        }
    }
    if (optind < argc)
        return bench_options_wrong(options, "unexpected word ", argv[optind]);
    return 0;
}

int bench_options_check_mem(const struct bench_options *options, uint64_t mem_bytes)
{
    char least[32], given[32], detail[80];
    if (mem_bytes >= BENCH_MEM_MIN)
        return 0;
    snprintf(detail, sizeof detail, "%s, not %s",
             bench_format_size(least, sizeof least, BENCH_MEM_MIN),
             bench_format_size(given, sizeof given, mem_bytes));
    return bench_options_wrong(options, "--mem must be at least ", detail);
}
