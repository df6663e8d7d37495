/* SPDX-License-Identifier: MIT */
/*
 * `clockpool-bench order`: does an engine write pages ahead of the log?
 *
 * A page must not reach its file before the log that describes its last change is durable. Whether
 * an engine keeps to that is observed from outside: everything that a small store does to its files
 * is recorded by a file system of ours, and the record is read without asking the library anything.
 */
#include "commands.h"

#include "crash/fuse_recorder.h"
#include "crash/image.h"
#include "job.h"
#include "order_count.h"
#include "order_work.h"
#include "progress.h"
#include "scratch.h"
#include "units.h"

#include <clockpool/base/thread.h>

#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help_text[] =
    "usage: clockpool-bench order [options]\n"
    "\n"
    "Count the page writes that run ahead of the log. Small transactions change random pages\n"
    "of a store that does not fit into memory; a group of them is made durable at a time. All\n"
    "that reaches the files is recorded from outside, by a file system (FUSE). A page write is\n"
    "ahead of the log when the page's LSN is beyond what the log's flushed blocks cover.\n"
    "pool and mmap wait for the log, so theirs must be 0. mmap-in-place changes pages in a\n"
    "shared writable mapping, which the kernel writes when it likes.\n"
    "\n"
    "  --engines LIST       pool, mmap, mmap-in-place (all three)\n"
    "  --transactions N     transactions, each changing 2 pages (5000)\n"
    "  --group G            transactions made durable together (1024)\n"
    "  --size SIZE          data, in pages that exist before it begins (16M)\n"
    "  --mem SIZE           memory for the engine, 2M or more (4M). The mmap engines run under\n"
    "                       a cgroup limit of this and a slack for the program, where possible\n"
    "  --page-size SIZE     4K, 8K, 16K, 32K or 64K (4K)\n"
    "  --nudge N            once in N transactions, on average, ask the kernel to write back\n"
    "                       what is dirty in the page cache (256; 0: never). It does so anyway,\n"
    "                       within seconds or when memory runs short; this lets a run of a\n"
    "                       second see it\n"
    "  --seed N             of the choice of pages (1)\n"
    "  --dir DIR            where to work (/dev/shm, else $TMPDIR, else /tmp)\n"
    "  --json FILE          write the counts as JSON; - for standard output, without the table\n"
    "  --quiet              no progress\n"
    "  --help               this text\n"
    "\n"
    "Where FUSE is not possible (no /dev/fuse, no namespaces, built without libfuse3) pool and\n"
    "mmap are recorded by the library's I/O backend, and mmap-in-place is skipped: its writes\n"
    "are the kernel's. The output says which.\n"
    "\n"
    "exit status: 0 measured, whatever came out; 2 wrong usage, or it could not be measured\n"
    "\n"
    "examples:\n"
    "  clockpool-bench order\n"
    "  clockpool-bench order --engines mmap-in-place --nudge 0 --transactions 50000\n"
    "  clockpool-bench order --json - | jq '.engines[] | {engine, ahead_of_log}'\n";

#define ENGINES         3u
#define MEM_MIN         (UINT64_C(2) << 20) /* a quarter of it: the mmap engine's private frames */
#define MAX_TRACE_PAGES (UINT64_C(1) << 22)
#if BENCH_SANITIZED
#define SLACK_BYTES (UINT64_C(1) << 30)
#else
#define SLACK_BYTES (UINT64_C(16) << 20) /* the program, the log's buffer of 8 MiB, the mount */
#endif

struct engine_choice {
    const char *name;
    enum cp_engine engine;
    bool in_place;
};

static const struct engine_choice engine_choices[ENGINES] = {
    {"pool", CP_ENGINE_POOL, false},
    {"mmap", CP_ENGINE_MMAP, false},
    {"mmap-in-place", CP_ENGINE_MMAP, true},
};

struct result {
    bool measured;
    char skipped[512]; /* why, when it was not */
    struct order_counts counts;
    bool limited; /* under a cgroup */
    double seconds;
};

struct order_plan {
    bool chosen[ENGINES];
    uint64_t size_bytes, mem_bytes, page_size, transactions, group, nudge, seed;
    const char *dir, *json;
    bool quiet, help;
    const char *no_fuse; /* why not; NULL: from outside */
    struct result results[ENGINES];
};

/* ---- the command line -------------------------------------------------------------------------
 */

enum option_id {
    OPT_ENGINES = 256,
    OPT_TRANSACTIONS,
    OPT_GROUP,
    OPT_SIZE,
    OPT_MEM,
    OPT_PAGE_SIZE,
    OPT_NUDGE,
    OPT_SEED,
    OPT_DIR,
    OPT_JSON,
    OPT_QUIET,
    OPT_HELP,
};

static const struct option options[] = {
    {"engines", required_argument, NULL, OPT_ENGINES},
    {"transactions", required_argument, NULL, OPT_TRANSACTIONS},
    {"group", required_argument, NULL, OPT_GROUP},
    {"size", required_argument, NULL, OPT_SIZE},
    {"mem", required_argument, NULL, OPT_MEM},
    {"page-size", required_argument, NULL, OPT_PAGE_SIZE},
    {"nudge", required_argument, NULL, OPT_NUDGE},
    {"seed", required_argument, NULL, OPT_SEED},
    {"dir", required_argument, NULL, OPT_DIR},
    {"json", required_argument, NULL, OPT_JSON},
    {"quiet", no_argument, NULL, OPT_QUIET},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

static bool parse_engines(struct order_plan *plan, char *text)
{
    char *items[BENCH_LIST_MAX];
    unsigned count = bench_split_list(text, items, BENCH_LIST_MAX);
    memset(plan->chosen, 0, sizeof plan->chosen);
    for (unsigned i = 0; i < count; i++) {
        bool known = false;
        for (unsigned k = 0; k < ENGINES; k++) {
            bool same = strcmp(items[i], engine_choices[k].name) == 0;
            plan->chosen[k] |= same;
            known |= same;
        }
        if (!known)
            return false;
    }
    return count > 0;
}

static bool parse_option(struct order_plan *plan, int id, char *value)
{
    switch ((enum option_id)id) {
    case OPT_ENGINES:
        return parse_engines(plan, value);
    case OPT_TRANSACTIONS:
        return bench_parse_number(value, 1, MAX_TRACE_PAGES, &plan->transactions);
    case OPT_GROUP:
        return bench_parse_number(value, 1, UINT32_MAX, &plan->group);
    case OPT_SIZE:
        return bench_parse_size(value, &plan->size_bytes);
    case OPT_MEM:
        return bench_parse_size(value, &plan->mem_bytes) && plan->mem_bytes >= MEM_MIN;
    case OPT_PAGE_SIZE:
        return bench_parse_size(value, &plan->page_size) && plan->page_size >= 4096 &&
               plan->page_size <= 65536 && (plan->page_size & (plan->page_size - 1)) == 0;
    case OPT_NUDGE:
        return bench_parse_number(value, 0, UINT32_MAX, &plan->nudge);
    case OPT_SEED:
        return bench_parse_number(value, 0, UINT64_MAX >> 1, &plan->seed);
    case OPT_DIR:
        plan->dir = value;
        return true;
    case OPT_JSON:
        plan->json = value;
        return true;
    case OPT_QUIET:
        plan->quiet = true;
        return true;
    case OPT_HELP:
        plan->help = true;
        return true;
    }
    return false;
}

static int usage(const char *what, const char *detail)
{
    fprintf(stderr, "clockpool-bench order: %s%s; see clockpool-bench order --help\n", what,
            detail);
    return 2;
}

static int parse(struct order_plan *plan, int argc, char **argv)
{
    int id, index = 0;
    char text[256], given[128] = "";
    optind = 1;
    opterr = 0;
    while ((id = getopt_long(argc, argv, "+:h", options, &index)) != -1) {
        if (id == ':')
            return usage("a value is missing for ", argv[optind - 1]);
        if (id == '?')
            return usage("unknown option ", argv[optind - 1]);
        if (id == 'h')
            id = OPT_HELP;
        if (optarg != NULL)
            snprintf(given, sizeof given, "%s", optarg); /* lists are taken apart in place */
        if (!parse_option(plan, id, optarg)) {
            snprintf(text, sizeof text, "--%s: \"%.100s\" cannot be used", options[index].name,
                     given);
            return usage(text, "");
        }
    }
    if (optind < argc)
        return usage("unexpected word ", argv[optind]);
    if (plan->size_bytes / plan->page_size < 2 * ORDER_PAGES_PER_TRANSACTION)
        return usage("--size is too small", "");
    if (plan->size_bytes / plan->page_size > MAX_TRACE_PAGES)
        return usage("--size is too large: all that is written is kept in memory", "");
    return 0;
}

/* ---- measuring --------------------------------------------------------------------------------
 */

/* Put the mmap engines under a limit, so that the kernel runs short of memory as the pool does. */
static bool make_limit(const struct order_plan *plan, const struct engine_choice *choice,
                       struct bench_cgroup *out_group)
{
    struct bench_error error;
    return choice->engine == CP_ENGINE_MMAP && plan->no_fuse == NULL &&
           bench_cgroup_create(out_group, choice->name, plan->mem_bytes + SLACK_BYTES, &error) == 0;
}

/* 0, or -1: it could not be measured, and text says why. */
static int measure(const struct order_plan *plan, const struct engine_choice *choice,
                   const char *root, struct result *out, char *text, size_t capacity)
{
    struct bench_cgroup group = {0};
    const uint64_t begin_ns = cp_now_ns();
    struct crash_trace *trace = crash_trace_create();
    out->limited = make_limit(plan, choice, &group);
    struct order_job job = {
        .name = choice->name,
        .engine = choice->engine,
        .in_place = choice->in_place,
        .size_bytes = plan->size_bytes,
        .mem_bytes = plan->mem_bytes,
        .page_size = (uint32_t)plan->page_size,
        .transactions = plan->transactions,
        .group = plan->group,
        .nudge = plan->nudge,
        .seed = plan->seed,
        .limit = out->limited ? &group : NULL,
        .text = text,
        .text_capacity = capacity,
    };
    int result = order_record(&job, root, plan->no_fuse == NULL, trace);
    if (out->limited)
        bench_cgroup_remove(&group);
    if (result == 0 && order_count(trace, &out->counts) != 0) {
        snprintf(text, capacity, "the recording has no store in it");
        result = -1;
    }
    crash_trace_destroy(trace);
    out->measured = result == 0;
    out->seconds = (double)(cp_now_ns() - begin_ns) * 1e-9;
    return result;
}

static int measure_in_scratch(const struct order_plan *plan, const struct engine_choice *choice,
                              struct result *out, char *text, size_t capacity)
{
    char root[PATH_MAX];
    int code = crash_workplace_create(plan->dir, root, sizeof root);
    if (code != 0) {
        snprintf(text, capacity, "cannot make a directory in %s: %s",
                 plan->dir != NULL ? plan->dir : "/dev/shm, $TMPDIR or /tmp", strerror(-code));
        return -1;
    }
    int result = measure(plan, choice, root, out, text, capacity);
    bench_remove_tree(root);
    return result;
}

static int measure_all(struct order_plan *plan)
{
    struct bench_progress progress;
    char text[512] = "";
    unsigned count = 0;
    for (unsigned i = 0; i < ENGINES; i++)
        count += plan->chosen[i];
    bench_progress_begin(&progress, plan->quiet, count);
    bench_signals_catch();
    int result = 0;
    for (unsigned i = 0; result == 0 && i < ENGINES; i++) {
        struct result *out = &plan->results[i];
        if (!plan->chosen[i])
            continue;
        if (engine_choices[i].in_place && plan->no_fuse != NULL) {
            snprintf(out->skipped, sizeof out->skipped, "%s", plan->no_fuse);
            continue;
        }
        bench_progress_step(&progress, 1, "%s: %" PRIu64 " transactions", engine_choices[i].name,
                            plan->transactions);
        result = measure_in_scratch(plan, &engine_choices[i], out, text, sizeof text);
        if (result != 0 && bench_interrupted() == 0) {
            bench_progress_end(&progress);
            fprintf(stderr, "clockpool-bench order: %s: %s\n", engine_choices[i].name, text);
        }
    }
    bench_progress_end(&progress);
    if (bench_interrupted() != 0)
        bench_signals_raise_again();
    return result;
}

/* ---- what is shown ----------------------------------------------------------------------------
 */

static double share_of(const struct order_counts *counts)
{
    return counts->page_writes > 0 ? (double)counts->ahead_of_log / (double)counts->page_writes : 0;
}

static void print_table(const struct order_plan *plan)
{
    char size[32], mem[32];
    bool unlimited = false;
    printf("%" PRIu64 " transactions, %" PRIu64
           " made durable at a time; %s of data in pages of %" PRIu64
           ", %s of memory; write-back nudged once in %" PRIu64 "\n",
           plan->transactions, plan->group, bench_format_size(size, sizeof size, plan->size_bytes),
           plan->page_size, bench_format_size(mem, sizeof mem, plan->mem_bytes), plan->nudge);
    printf("recorded by %s%s\n\n",
           plan->no_fuse == NULL ? "a file system, from outside"
                                 : "the library's I/O backend, since FUSE is not possible: ",
           plan->no_fuse == NULL ? "" : plan->no_fuse);
    printf("%-14s %12s %14s %8s %14s %10s %12s\n", "engine", "page writes", "ahead of log", "share",
           "largest lag, B", "unsealed", "log flushes");
    for (unsigned i = 0; i < ENGINES; i++) {
        const struct result *result = &plan->results[i];
        const struct order_counts *counts = &result->counts;
        if (result->skipped[0] != '\0')
            printf("%-14s skipped: %s\n", engine_choices[i].name, result->skipped);
        if (!result->measured)
            continue;
        unlimited |= engine_choices[i].engine == CP_ENGINE_MMAP && !result->limited;
        printf("%-14s %12" PRIu64 " %14" PRIu64 " %6.1f %% %14" PRIu64 " %10" PRIu64 " %12" PRIu64
               "\n",
               engine_choices[i].name, counts->page_writes, counts->ahead_of_log,
               100 * share_of(counts), counts->max_lag_bytes, counts->unsealed,
               counts->log_flushes);
    }
    printf("\nahead of log: the page's LSN was beyond the durable end of the log when the page was "
           "written\nunsealed: the page's checksum did not hold: it was written while being "
           "changed\n");
    if (unlimited && plan->no_fuse == NULL)
        printf(
            "no memory cgroup: the kernel was short of nothing, and wrote back only when nudged, "
            "or in its own time\n");
}

static int write_json(const struct order_plan *plan)
{
    json_t *root = json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:s,s:s}", "transactions",
                             (json_int_t)plan->transactions, "group", (json_int_t)plan->group,
                             "size_bytes", (json_int_t)plan->size_bytes, "mem_bytes",
                             (json_int_t)plan->mem_bytes, "page_size", (json_int_t)plan->page_size,
                             "nudge", (json_int_t)plan->nudge, "seed", (json_int_t)plan->seed,
                             "recorder", plan->no_fuse == NULL ? "fuse" : "backend",
                             "recorder_reason", plan->no_fuse == NULL ? "" : plan->no_fuse);
    json_t *engines = json_array();
    for (unsigned i = 0; i < ENGINES; i++) {
        const struct result *result = &plan->results[i];
        const struct order_counts *counts = &result->counts;
        if (result->skipped[0] != '\0')
            json_array_append_new(engines, json_pack("{s:s,s:s}", "engine", engine_choices[i].name,
                                                     "skipped", result->skipped));
        if (!result->measured)
            continue;
        json_array_append_new(
            engines,
            json_pack("{s:s,s:I,s:I,s:f,s:I,s:I,s:I,s:I,s:b,s:f}", "engine", engine_choices[i].name,
                      "page_writes", (json_int_t)counts->page_writes, "ahead_of_log",
                      (json_int_t)counts->ahead_of_log, "share", share_of(counts), "max_lag_bytes",
                      (json_int_t)counts->max_lag_bytes, "unsealed", (json_int_t)counts->unsealed,
                      "log_writes", (json_int_t)counts->log_writes, "log_flushes",
                      (json_int_t)counts->log_flushes, "memory_limited", (int)result->limited,
                      "seconds", result->seconds));
    }
    json_object_set_new(root, "engines", engines);
    const size_t flags = JSON_INDENT(2) | JSON_SORT_KEYS;
    int result = strcmp(plan->json, "-") == 0 ? json_dumpf(root, stdout, flags)
                                              : json_dump_file(root, plan->json, flags);
    if (result == 0 && strcmp(plan->json, "-") == 0)
        putchar('\n');
    json_decref(root);
    if (result != 0)
        fprintf(stderr, "clockpool-bench order: cannot write %s\n", plan->json);
    return result == 0 ? 0 : 2;
}

int bench_order_main(int argc, char **argv)
{
    static struct order_plan plan = {
        .chosen = {true, true, true},
        .size_bytes = UINT64_C(16) << 20,
        .mem_bytes = UINT64_C(4) << 20,
        .page_size = 4096,
        .transactions = 5000,
        .group = 1024,
        .nudge = 256,
        .seed = 1,
    };
    int code = parse(&plan, argc, argv);
    if (code != 0)
        return code;
    if (plan.help) {
        fputs(help_text, stdout);
        return 0;
    }
    plan.no_fuse = crash_fuse_unavailable();
    if (measure_all(&plan) != 0)
        return 2;
    if (plan.json == NULL || strcmp(plan.json, "-") != 0)
        print_table(&plan);
    return plan.json != NULL ? write_json(&plan) : 0;
}
