/* SPDX-License-Identifier: MIT */
/* `clockpool-bench report`: files of results in, a page out. */
#include "commands.h"

#include "file.h"
#include "page.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const char help_text[] =
    "usage: clockpool-bench report FILE... [-o REPORT]\n"
    "\n"
    "Make a report of files that clockpool-bench wrote with --json: one HTML file that needs no\n"
    "network and no other file. What the files have is shown: results (run), verdicts (claims),\n"
    "miss-ratio curves (trace); what they have not is named. Rows of different files are never in\n"
    "one chart.\n"
    "\n"
    "  -o, --output FILE   the report (report.html); - is standard output\n"
    "  --help              this text\n"
    "\n"
    "exit status: 0 written; 1 it could not be written; 2 wrong usage, or a file that cannot be "
    "used\n"
    "\n"
    "examples:\n"
    "  clockpool-bench report results.json\n"
    "  clockpool-bench report results.json claims.json trace.json -o report.html\n";

#define FILES_MAX 32u

static int write_report(const char *output, char **paths, unsigned count)
{
    struct report_part parts[FILES_MAX];
    struct bench_error error = {""};
    unsigned loaded = 0;
    int status = 0;
    while (status == 0 && loaded < count) {
        parts[loaded].name = paths[loaded];
        if (report_load(paths[loaded], &parts[loaded].root, &error) != 0)
            status = 2;
        else
            loaded++;
    }
    if (status == 0 && report_write(output, parts, count, &error) != 0)
        status = 1;
    if (status != 0)
        fprintf(stderr, "clockpool-bench report: %s\n", error.text);
    else if (strcmp(output, "-") != 0)
        printf("report: %s\n", output);
    while (loaded > 0)
        json_decref(parts[--loaded].root);
    return status;
}

int bench_report_main(int argc, char **argv)
{
    static const struct option options[] = {{"output", required_argument, NULL, 'o'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    const char *output = "report.html";
    int id;
    optind = 1;
    opterr = 0;
    while ((id = getopt_long(argc, argv, ":o:", options, NULL)) != -1) {
        if (id == 'h') {
            fputs(help_text, stdout);
            return 0;
        }
        if (id != 'o') {
            fprintf(stderr,
                    id == ':'
                        ? "clockpool-bench report: option %s needs a file\n"
                        : "clockpool-bench report: unknown option %s; accepted: -o, --output, "
                          "--help\n",
                    argv[optind - 1]);
            return 2;
        }
        output = optarg;
    }
    unsigned count = (unsigned)(argc - optind);
    if (count == 0 || count > FILES_MAX) {
        fprintf(stderr,
                "clockpool-bench report: name one to %u files of results; see report --help\n",
                FILES_MAX);
        return 2;
    }
    for (unsigned i = 0; i < count; i++)
        if (bench_file_check_other("report", "--output", output, argv[(unsigned)optind + i],
                                   "a file of results to be read") != 0)
            return 2;
    return write_report(output, argv + optind, count);
}
