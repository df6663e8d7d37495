/* SPDX-License-Identifier: MIT */
/* `clockpool-bench crash`: what a store still has after a crash, in as many states as wanted. */
#include "commands.h"

#include "common/signals.h"
#include "file.h"
#include "json_file.h"
#include "progress.h"
#include "search.h"
#include "units.h"

#include <clockpool/base/thread.h>

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PLANNED_STATES_PER_S                                                                       \
    1500.0 /* for the time left, until the search has shown its own rate                           \
            */

static const char help_text[] =
    "usage: clockpool-bench crash [options]\n"
    "\n"
    "Crash a store thousands of times and see what it still has. A workload runs while everything\n"
    "that the store does to its files is recorded; from the record follow the states in which a\n"
    "crash can leave the files: whatever was not flushed may be there or not, sector by sector.\n"
    "Each state is opened and compared with what the workload did and what was acknowledged to "
    "it;\n"
    "some recover, go on and are crashed again.\n"
    "\n"
    "  --engine NAME         pool, mmap, mmap-in-place, lmdb or lmdb-nosync (pool). The last and\n"
    "                        mmap-in-place are known to lose data: they show that it is seen\n"
    "  --states N            distinct states to check (50000)\n"
    "  --seed S              of the first workload; the following have S+1, S+2 ... (1)\n"
    "  --workload NAME       only this one (all in turn; listed below)\n"
    "  --fail-flush          one flush fails in each workload: what it lost must be admitted\n"
    "  --shear               tear sectors within, too, which disks are taken not to do; there the\n"
    "                        store may refuse to open, but must not be silently wrong\n"
    "  --reproduce TRIPLE    make one state again and check it in this process. TRIPLE is printed\n"
    "                        with a failure: SEED/POINT/MASK, or SEED/POINT/MASK/POINT/MASK for a\n"
    "                        crash after a recovery\n"
    "  --trace FILE          with --reproduce: take the trace from here instead of running the\n"
    "                        workload again (needed where it has threads)\n"
    "  --events N            with --reproduce: print the last N events before the crash (0)\n"
    "  --keep DIR            keep the traces of failures here (else some, in /tmp); with\n"
    "                        --reproduce: leave the image here\n"
    "  --dir DIR             where to work: best in memory (/dev/shm, else $TMPDIR, else /tmp)\n"
    "  --jobs N              processes (one for each processor)\n"
    "  --timeout S           seconds after which a check hangs (30)\n"
    "  --json FILE           write the result as JSON; - for standard output, instead of the text\n"
    "  --quiet               no progress\n"
    "  --help                this text\n"
    "\n"
    "exit status: 0 nothing was lost; 1 something was, or the result could not be written; 2 "
    "wrong\n"
    "usage, or it cannot run here\n"
    "\n"
    "examples:\n"
    "  clockpool-bench crash --engine mmap --states 1000000\n"
    "  clockpool-bench crash --engine lmdb-nosync --states 2000 --json -\n"
    "  clockpool-bench crash --engine pool --reproduce 17/1033/s4 --keep image\n"
    "\n"
    "docs/crash-testing.md explains the method, and how to read a result.\n"
    "\n"
    "workloads:\n";

struct command {
    struct crash_search_options search;
    const char *reproduce, *trace, *json;
    bool quiet;
    struct bench_progress progress;
    uint64_t begin_ns;
};

static int usage(const char *format, const char *text)
{
    fputs("clockpool-bench crash: ", stderr);
    fprintf(stderr, format, text);
    fputs("; see clockpool-bench crash --help\n", stderr);
    return 2;
}

static void print_help(void)
{
    fputs(help_text, stdout);
    for (unsigned i = 0; crash_workload_at(i) != NULL; i++)
        printf("  %-14s %s\n", crash_workload_at(i)->name, crash_workload_at(i)->summary);
}

enum option_id {
    OPTION_ENGINE = 256,
    OPTION_STATES,
    OPTION_SEED,
    OPTION_WORKLOAD,
    OPTION_FAIL_FLUSH,
    OPTION_SHEAR,
    OPTION_REPRODUCE,
    OPTION_TRACE,
    OPTION_KEEP,
    OPTION_DIR,
    OPTION_JOBS,
    OPTION_EVENTS,
    OPTION_TIMEOUT,
    OPTION_JSON,
    OPTION_QUIET,
    OPTION_HELP,
};

static const struct option long_options[] = {
    {"engine", required_argument, NULL, OPTION_ENGINE},
    {"states", required_argument, NULL, OPTION_STATES},
    {"seed", required_argument, NULL, OPTION_SEED},
    {"workload", required_argument, NULL, OPTION_WORKLOAD},
    {"fail-flush", no_argument, NULL, OPTION_FAIL_FLUSH},
    {"shear", no_argument, NULL, OPTION_SHEAR},
    {"reproduce", required_argument, NULL, OPTION_REPRODUCE},
    {"trace", required_argument, NULL, OPTION_TRACE},
    {"keep", required_argument, NULL, OPTION_KEEP},
    {"dir", required_argument, NULL, OPTION_DIR},
    {"events", required_argument, NULL, OPTION_EVENTS},
    {"jobs", required_argument, NULL, OPTION_JOBS},
    {"timeout", required_argument, NULL, OPTION_TIMEOUT},
    {"json", required_argument, NULL, OPTION_JSON},
    {"quiet", no_argument, NULL, OPTION_QUIET},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

/* The value of a numeric option. 0, or 2 after a message. */
static int take_number(const char *option, uint64_t min, uint64_t max, uint64_t *out_number)
{
    if (bench_parse_number(optarg, min, max, out_number))
        return 0;
    fprintf(stderr,
            "clockpool-bench crash: option %s: \"%s\" is not a number from %" PRIu64 " to %" PRIu64
            "; see clockpool-bench crash --help\n",
            option, optarg, min, max);
    return 2;
}

static int take_small_number(const char *option, unsigned min, unsigned max, unsigned *out_number)
{
    uint64_t number = 0;
    int code = take_number(option, min, max, &number);
    if (code == 0)
        *out_number = (unsigned)number;
    return code;
}

/* One option. 0, 1 for --help, 2 for wrong usage. */
static int take_option(struct command *command, int id)
{
    struct crash_search_options *search = &command->search;
    switch (id) {
    case OPTION_ENGINE:
        search->subject = crash_subject_find(optarg);
        return search->subject != NULL ? 0 : usage("unknown engine \"%s\"", optarg);
    case OPTION_WORKLOAD:
        search->workload = crash_workload_find(optarg);
        return search->workload != NULL ? 0 : usage("unknown workload \"%s\"", optarg);
    case OPTION_STATES:
        return take_number("--states", 1, UINT64_C(1) << 32, &search->states);
    case OPTION_SEED:
        return take_number("--seed", 0, UINT64_MAX >> 1, &search->seed);
    case OPTION_EVENTS:
        return take_small_number("--events", 0, 1000000, &search->events);
    case OPTION_JOBS:
        return take_small_number("--jobs", 1, CRASH_JOBS_MAX, &search->jobs);
    case OPTION_TIMEOUT:
        return take_small_number("--timeout", 1, 3600, &search->timeout_s);
    case OPTION_FAIL_FLUSH:
        search->fail_flushes = true;
        return 0;
    case OPTION_SHEAR:
        search->shear = true;
        return 0;
    case OPTION_REPRODUCE:
        command->reproduce = optarg;
        return 0;
    case OPTION_TRACE:
        command->trace = optarg;
        return 0;
    case OPTION_KEEP:
        search->keep = optarg;
        return 0;
    case OPTION_DIR:
        search->dir = optarg;
        return 0;
    case OPTION_JSON:
        command->json = optarg;
        return 0;
    case OPTION_QUIET:
        command->quiet = true;
        return 0;
    case OPTION_HELP:
        print_help();
        return 1;
    default:
        return usage("option %s is unknown or lacks its value", "");
    }
}

static int parse(struct command *command, int argc, char **argv)
{
    optind = 1;
    opterr = 0;
    int id;
    while ((id = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (id == '?')
            return usage("option \"%s\" is unknown or lacks its value", argv[optind - 1]);
        int code = take_option(command, id);
        if (code != 0)
            return code;
    }
    if (optind < argc)
        return usage("\"%s\" is not an option", argv[optind]);
    if (command->trace != NULL && command->reproduce == NULL)
        return usage("%s needs --reproduce", "--trace");
    if (command->search.events > 0 && command->reproduce == NULL)
        return usage("%s needs --reproduce", "--events");
    const struct crash_subject *subject = command->search.subject;
    const char *why = subject->not_built != NULL     ? subject->not_built
                      : subject->unavailable != NULL ? subject->unavailable()
                                                     : NULL;
    if (why != NULL) {
        fprintf(stderr, "clockpool-bench crash: %s cannot be searched here: %s\n", subject->name,
                why);
        return 2;
    }
    if (command->search.workload != NULL && subject->supports != NULL &&
        !subject->supports(command->search.workload))
        return usage("that engine cannot do the workload \"%s\"", command->search.workload->name);
    return 0;
}

/* ---- a search ---------------------------------------------------------------------------------
 */

static bool show_progress(void *ctx, uint64_t states, uint64_t wanted, const uint64_t *classes)
{
    struct command *command = ctx;
    uint64_t failures = 0;
    char detail[96];
    double seconds = (double)(cp_now_ns() - command->begin_ns) * 1e-9;
    for (unsigned i = CRASH_FINE + 1; i < CRASH_CLASSES; i++)
        failures += classes[i];
    snprintf(detail, sizeof detail, "%" PRIu64 " states, %" PRIu64 " failures, %.0f states/s",
             states, failures, seconds > 0 ? (double)states / seconds : 0);
    bench_progress_update(&command->progress, (double)states / (double)wanted, 0, detail);
    return signals_caught() != 0;
}

static uint64_t failures_of(const struct crash_report *report)
{
    uint64_t failures = 0;
    for (unsigned i = CRASH_FINE + 1; i < CRASH_CLASSES; i++)
        failures += report->by_class[i];
    return failures;
}

/* The command line that makes a finding again. */
static void reproduction(const struct command *command, const struct crash_finding *finding,
                         char *text, size_t capacity)
{
    bool needs_trace = finding->trace[0] != '\0';
    snprintf(text, capacity, "clockpool-bench crash --engine %s%s --reproduce %s%s%s",
             command->search.subject->name, command->search.fail_flushes ? " --fail-flush" : "",
             finding->triple, needs_trace ? " --trace " : "", finding->trace);
}

static const char *verdict_of(const struct crash_report *report)
{
    if (failures_of(report) > 0)
        return "lost";
    return signals_caught() != 0 ? "interrupted" : "nothing lost";
}

static void print_report(const struct command *command, const struct crash_report *report)
{
    char states[32], points[32], rate[32], seconds[32], line[512];
    const uint64_t *classes = report->by_class;
    printf("%s: %s distinct states at %s crash points of %" PRIu64 " workloads and %" PRIu64
           " recoveries, in %s (%s states/s)\n",
           command->search.subject->name,
           bench_format_thousands(states, sizeof states, (double)report->states),
           bench_format_thousands(points, sizeof points, (double)report->points), report->traces,
           report->recovery_traces, bench_format_seconds(seconds, sizeof seconds, report->seconds),
           bench_format_thousands(rate, sizeof rate, (double)report->states / report->seconds));
    printf("lost %" PRIu64 " · torn %" PRIu64 " · corrupt %" PRIu64 " · open failed %" PRIu64
           " · signals %" PRIu64 "\n",
           classes[CRASH_LOST], classes[CRASH_TORN], classes[CRASH_CORRUPT],
           classes[CRASH_OPEN_FAILED], classes[CRASH_SIGNAL]);
    if (command->search.subject->creation_apart)
        printf("apart from these, before its creation was acknowledged: %" PRIu64 " failed\n",
               report->creation_failed);
    for (uint32_t i = 0; i < report->finding_count && i < 3; i++) {
        const struct crash_finding *finding = &report->findings[i];
        printf("\n%s (workload %s): %s: %s\n", finding->triple, finding->workload,
               crash_class_name(finding->class), finding->text);
        reproduction(command, finding, line, sizeof line);
        printf("  %s\n", line);
    }
    printf("%s\n", verdict_of(report));
}

static json_t *findings_json(const struct command *command, const struct crash_report *report)
{
    json_t *array = json_array();
    char line[512];
    for (uint32_t i = 0; i < report->finding_count; i++) {
        const struct crash_finding *finding = &report->findings[i];
        reproduction(command, finding, line, sizeof line);
        json_array_append_new(array,
                              json_pack("{s:s,s:s,s:s,s:s,s:s}", "triple", finding->triple, "class",
                                        crash_class_name(finding->class), "workload",
                                        finding->workload, "text", finding->text, "command", line));
    }
    return array;
}

static int report_json(const struct command *command, const struct crash_report *report)
{
    const uint64_t *classes = report->by_class;
    const struct crash_finding *first = report->finding_count > 0 ? &report->findings[0] : NULL;
    json_t *root = bench_json_root(json_pack(
        "{s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:s?,s:I,s:s,s:f,s:f,s:s}", "engine",
        command->search.subject->name, "states", (json_int_t)report->states, "points",
        (json_int_t)report->points, "checks", (json_int_t)report->checks, "legal_states",
        (json_int_t)report->legal, "workloads", (json_int_t)report->traces, "recoveries",
        (json_int_t)report->recovery_traces, "lost", (json_int_t)classes[CRASH_LOST], "torn",
        (json_int_t)classes[CRASH_TORN], "corrupt", (json_int_t)classes[CRASH_CORRUPT],
        "open_failed", (json_int_t)classes[CRASH_OPEN_FAILED], "signals",
        (json_int_t)classes[CRASH_SIGNAL], "creation_failed", (json_int_t)report->creation_failed,
        "reproduce", first != NULL ? first->triple : NULL, "seed", (json_int_t)command->search.seed,
        "workload", command->search.workload != NULL ? command->search.workload->name : "all",
        "seconds", report->seconds, "states_per_s", (double)report->states / report->seconds,
        "verdict", verdict_of(report)));
    if (root != NULL)
        json_object_set_new(root, "failures", findings_json(command, report));
    return bench_json_finish("crash", command->json, root);
}

static int search(struct command *command)
{
    struct crash_report report;
    char text[384] = "";
    uint64_t states = command->search.states != 0 ? command->search.states : CRASH_STATES_DEFAULT;
    signals_catch();
    command->begin_ns = cp_now_ns();
    command->search.save_traces = true;
    command->search.progress = show_progress;
    command->search.progress_ctx = command;
    double planned_s = (double)states / PLANNED_STATES_PER_S;
    bench_progress_begin(&command->progress, command->quiet, planned_s);
    bench_progress_step(&command->progress, planned_s, "crashing %s",
                        command->search.subject->name);
    int code = crash_search(&command->search, &report, text, sizeof text);
    bench_progress_end(&command->progress);
    if (code != 0) {
        fprintf(stderr, "clockpool-bench crash: %s\n", text);
        return 2;
    }
    if (text[0] != '\0')
        fprintf(stderr, "clockpool-bench crash: ended early: %s\n", text);
    if (report.failed_runs > 0)
        fprintf(stderr,
                "clockpool-bench crash: %" PRIu64 " workloads could not be run; the first: %s\n",
                report.failed_runs, report.failed_text);
    if (command->json == NULL)
        print_report(command, &report);
    else
        code = report_json(command, &report);
    signals_raise_again();
    if (code == 0 && failures_of(&report) > 0)
        return 1;
    return report.failed_runs > 0 ? 2 : code;
}

/* ---- one state again --------------------------------------------------------------------------
 */

static int reproduce(struct command *command)
{
    struct crash_reproduction state;
    char text[384] = "";
    int code = crash_reproduce(&command->search, command->reproduce, command->trace, &state, text,
                               sizeof text);
    if (code != 0) {
        fprintf(stderr, "clockpool-bench crash: %s\n", text[0] != '\0' ? text : strerror(-code));
        return 2;
    }
    if (!state.found)
        return usage("there is no state %s: is it of another version, or of another --engine?",
                     command->reproduce);
    if (command->json != NULL) {
        char hash[24];
        snprintf(hash, sizeof hash, "%016" PRIx64, state.image_hash);
        code = bench_json_finish(
            "crash", command->json,
            json_pack("{s:s,s:s,s:s,s:s,s:I,s:s,s:s,s:s,s:s}", "engine",
                      command->search.subject->name, "reproduce", command->reproduce, "workload",
                      state.workload, "image_hash", hash, "pending", (json_int_t)state.pending,
                      "last_event", state.event, "class", crash_class_name(state.verdict.class),
                      "text", state.verdict.text, "verdict", state.fine ? "nothing lost" : "lost"));
    } else {
        fputs(state.history != NULL ? state.history : "", stdout);
        printf("%s %s (workload %s): image %016" PRIx64 ", %u units pending\n"
               "last before the crash: %s\n",
               command->search.subject->name, command->reproduce, state.workload, state.image_hash,
               state.pending, state.event);
        if (command->search.keep != NULL)
            printf("image left in %s\n", command->search.keep);
        if (state.fine)
            printf("nothing lost\n");
        else
            printf("%s: %s\n", crash_class_name(state.verdict.class), state.verdict.text);
    }
    free(state.history);
    return code != 0 ? code : state.fine ? 0 : 1;
}

/* The image takes the place of all that is in its directory: nothing may be there. */
static int check_keep(const char *path)
{
    DIR *directory = opendir(path);
    const struct dirent *entry = NULL;
    if (directory == NULL)
        return 0; /* not there, or told when it is made */
    do
        entry = readdir(directory);
    while (entry != NULL && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0));
    bool empty = entry == NULL;
    closedir(directory);
    return empty ? 0
                 : usage("--keep %s: the directory is not empty; name a new one, or remove it "
                         "first",
                         path);
}

int bench_crash_main(int argc, char **argv)
{
    struct command command = {.search = {.subject = &crash_subject_pool, .seed = 1}};
    int code = parse(&command, argc, argv);
    if (code != 0)
        return code == 1 ? 0 : code;
    if (bench_file_check_option("crash", "--json", command.json) != 0 ||
        bench_file_check_other("crash", "--json", command.json, command.trace,
                               "the trace to be read") != 0)
        return 2;
    if (command.reproduce != NULL) { /* makes the directory when there is an image for it */
        code = command.search.keep != NULL ? check_keep(command.search.keep) : 0;
        return code != 0 ? code : reproduce(&command);
    }
    if (command.search.keep != NULL && mkdir(command.search.keep, 0700) != 0 && errno != EEXIST) {
        fprintf(stderr, "clockpool-bench crash: making %s: %s\n", command.search.keep,
                strerror(errno));
        return 2;
    }
    return search(&command);
}
