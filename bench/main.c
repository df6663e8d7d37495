/* SPDX-License-Identifier: MIT */
/* clockpool-bench: compares page engines on real files. Subcommands run, hits, doctor, claims,
 * crash, order, trace, report, compare, list. */
#include "commands.h"
#include "file.h"
#include "job.h"
#include "json_file.h"
#include "plan.h"
#include "runner.h"

#include <clockpool/clockpool.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help_text[] =
    "usage: clockpool-bench run [options]      compare engines; the defaults take 2 to 3 minutes\n"
    "       clockpool-bench hits [options]     what a page in memory costs, engines in turn\n"
    "       clockpool-bench doctor [options]   check what decides whether figures are fair\n"
    "       clockpool-bench claims [options]   are the project's four claims true here? 3 to 4 "
    "minutes\n"
    "       clockpool-bench crash [options]    what a store still has after a crash, in many "
    "states\n"
    "       clockpool-bench order [options]    which engine writes pages ahead of the log?\n"
    "       clockpool-bench trace [options]    what replacement policies miss on a page trace\n"
    "       clockpool-bench report FILE...     charts of files that --json wrote, as one page\n"
    "       clockpool-bench compare OLD NEW    two files of results, row by row\n"
    "       clockpool-bench list [--json]      engines, workloads, distributions, ways of access\n"
    "       clockpool-bench help [COMMAND]     this text, or that of a command\n"
    "       clockpool-bench --version\n"
    "\n"
    "Each command has --help with its options, their defaults and examples.\n"
    "\n"
    "exit status: 0 done; 1 something failed, or a page had wrong bytes; 2 wrong usage\n"
    "\n"
    "examples:\n"
    "  clockpool-bench doctor\n"
    "  clockpool-bench run --size 8G --mem 1G --threads 1,8,32 --depth 1,32 --json out.json\n";

static int run_main(int argc, char **argv)
{
    static struct bench_plan plan; /* static: too large for a small stack */
    bench_plan_defaults(&plan);
    int code = bench_plan_parse(&plan, argc, argv);
    if (code != 0)
        return code == 1 ? 0 : code;
    if (bench_file_check_option("run", "--json", plan.json_path) != 0 ||
        bench_file_check_option("run", "--html", plan.html_path) != 0 ||
        bench_file_check_other("run", "--html", plan.html_path, plan.json_path,
                               "the file of --json") != 0)
        return 2;
    return bench_run(&plan);
}

static int command_main(const char *command, int argc, char **argv)
{
    if (strcmp(command, "run") == 0)
        return run_main(argc, argv);
    if (strcmp(command, "hits") == 0)
        return bench_hits_main(argc, argv);
    if (strcmp(command, "doctor") == 0)
        return bench_doctor_main(argc, argv);
    if (strcmp(command, "claims") == 0)
        return bench_claims_main(argc, argv);
    if (strcmp(command, "crash") == 0)
        return bench_crash_main(argc, argv);
    if (strcmp(command, "order") == 0)
        return bench_order_main(argc, argv);
    if (strcmp(command, "trace") == 0)
        return bench_trace_main(argc, argv);
    if (strcmp(command, "report") == 0)
        return bench_report_main(argc, argv);
    if (strcmp(command, "compare") == 0)
        return bench_compare_main(argc, argv);
    if (strcmp(command, "list") == 0)
        return bench_list_main(argc, argv);
    fprintf(stderr,
            "clockpool-bench: unknown command \"%s\"; commands are run, hits, doctor, claims, "
            "crash, order, trace, report, compare, list and help\n",
            command);
    return 2;
}

static int help_main(int argc, char **argv)
{
    char help[] = "--help";
    if (argc < 3 || strcmp(argv[2], "help") == 0 || strcmp(argv[2], "--help") == 0) {
        fputs(help_text, stdout);
        return 0;
    }
    char *arguments[] = {argv[2], help, NULL};
    return command_main(argv[2], 2, arguments);
}

static int dispatch(int argc, char **argv)
{
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        printf("clockpool-bench %s\n", cp_version());
        return 0;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        fputs(help_text, stdout);
        return 0;
    }
    if (strcmp(argv[1], "help") == 0)
        return help_main(argc, argv);
    bench_command_keep(argc, argv);
    return command_main(argv[1], argc - 1, argv + 1);
}

/* A closed standard stream would be the number of the next file opened, which would then get the
 * text. What takes its place cannot be used in its direction, as if it were still closed. */
static void occupy_standard_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            (void)open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

/* The exit status: what was not printed is a failure, unless there is already one. */
static int finish(int status)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    fprintf(stderr, "clockpool-bench: cannot write to standard output%s%s\n",
            errno != 0 ? ": " : "", errno != 0 ? strerror(errno) : "");
    return status != 0 ? status : 1;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fputs(help_text, stderr);
        return 2;
    }
    if (strcmp(argv[1], BENCH_CHILD_COMMAND) == 0 && argc == 3)
        return bench_child_main(STDIN_FILENO, atoi(argv[2]));
    occupy_standard_streams();
    return finish(dispatch(argc, argv));
}
