/* SPDX-License-Identifier: MIT */
/*
 * `clockpool-bench order`: does an engine write pages ahead of the log?
 *
 * A page must not reach its file before the log that describes its last change is durable. Whether
 * an engine keeps to that is observed from outside: everything that a small store does to its files
 * is recorded by a file system of ours, and the record is read without asking the library anything.
 */
#include "commands.h"

#include "common/signals.h"
#include "crash/fuse_recorder.h"
#include "file.h"
#include "json_file.h"
#include "options.h"
#include "order_measure.h"
#include "order_work.h"
#include "progress.h"
#include "units.h"

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
    "exit status: 0 measured, whatever came out; 1 the result could not be written; 2 wrong\n"
    "usage, or it could not be measured\n"
    "\n"
    "examples:\n"
    "  clockpool-bench order\n"
    "  clockpool-bench order --engines mmap-in-place --nudge 0 --transactions 50000\n"
    "  clockpool-bench order --json - | jq '.engines[] | {engine, ahead_of_log}'\n";

#define ENGINES         ORDER_ENGINES
#define MAX_TRACE_PAGES (UINT64_C(1) << 22)

struct order_plan {
    bool chosen[ENGINES];
    struct order_settings settings;
    struct bench_common common;
    struct order_result results[ENGINES];
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
};

static const struct option option_list[] = {
    {"engines", required_argument, NULL, OPT_ENGINES},
    {"transactions", required_argument, NULL, OPT_TRANSACTIONS},
    {"group", required_argument, NULL, OPT_GROUP},
    {"size", required_argument, NULL, OPT_SIZE},
    {"mem", required_argument, NULL, OPT_MEM},
    {"page-size", required_argument, NULL, OPT_PAGE_SIZE},
    {"nudge", required_argument, NULL, OPT_NUDGE},
    {"seed", required_argument, NULL, OPT_SEED},
    {"dir", required_argument, NULL, BENCH_OPT_DIR},
    {"json", required_argument, NULL, BENCH_OPT_JSON},
    {"quiet", no_argument, NULL, BENCH_OPT_QUIET},
    {"help", no_argument, NULL, BENCH_OPT_HELP},
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
            bool same = strcmp(items[i], order_engines[k].name) == 0;
            plan->chosen[k] |= same;
            known |= same;
        }
        if (!known)
            return false;
    }
    return count > 0;
}

static bool take_option(void *ctx, int id, char *value)
{
    struct order_plan *plan = ctx;

    switch ((enum option_id)id) {
    case OPT_ENGINES:
        return parse_engines(plan, value);
    case OPT_TRANSACTIONS:
        return bench_parse_number(value, 1, MAX_TRACE_PAGES, &plan->settings.transactions);
    case OPT_GROUP:
        return bench_parse_number(value, 1, UINT32_MAX, &plan->settings.group);
    case OPT_SIZE:
        return bench_parse_size(value, &plan->settings.size_bytes);
    case OPT_MEM:
        return bench_parse_size(value, &plan->settings.mem_bytes);
    case OPT_PAGE_SIZE:
        return bench_parse_page_size(value, &plan->settings.page_size);
    case OPT_NUDGE:
        return bench_parse_number(value, 0, UINT32_MAX, &plan->settings.nudge);
    case OPT_SEED:
        return bench_parse_number(value, 0, UINT64_MAX >> 1, &plan->settings.seed);
    }
    return false;
}

static const struct bench_options options = {"order", option_list, take_option};

static int parse(struct order_plan *plan, int argc, char **argv)
{
    int code = bench_options_parse(&options, plan, &plan->common, argc, argv);
    if (code == 0)
        code = bench_options_check_mem(&options, plan->settings.mem_bytes);
    if (code != 0)
        return code;
    plan->settings.dir = plan->common.dir;
    if (plan->settings.size_bytes / plan->settings.page_size < 2 * ORDER_PAGES_PER_TRANSACTION)
        return bench_options_wrong(&options, "--size is too small", "");
    if (plan->settings.size_bytes / plan->settings.page_size > MAX_TRACE_PAGES)
        return bench_options_wrong(
            &options, "--size is too large: all that is written is kept in memory", "");
    return 0;
}

/* ---- measuring --------------------------------------------------------------------------------
 */

static int measure_all(struct order_plan *plan)
{
    struct bench_progress progress;
    char text[512] = "";
    unsigned count = 0;
    for (unsigned i = 0; i < ENGINES; i++)
        count += plan->chosen[i];
    bench_progress_begin(&progress, plan->common.quiet, count);
    signals_catch();
    int result = 0;
    for (unsigned i = 0; result == 0 && i < ENGINES; i++) {
        struct order_result *out = &plan->results[i];
        if (!plan->chosen[i])
            continue;
        if (order_engines[i].in_place && plan->settings.no_fuse != NULL) {
            snprintf(out->skipped, sizeof out->skipped, "%s", plan->settings.no_fuse);
            continue;
        }
        bench_progress_step(&progress, 1, "%s: %" PRIu64 " transactions", order_engines[i].name,
                            plan->settings.transactions);
        result = order_measure(&plan->settings, &order_engines[i], out, text, sizeof text);
        if (result != 0 && signals_caught() == 0) {
            bench_progress_end(&progress);
            fprintf(stderr, "clockpool-bench order: %s: %s\n", order_engines[i].name, text);
        }
    }
    bench_progress_end(&progress);
    if (signals_caught() != 0)
        signals_raise_again();
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
           plan->settings.transactions, plan->settings.group,
           bench_format_size(size, sizeof size, plan->settings.size_bytes),
           plan->settings.page_size, bench_format_size(mem, sizeof mem, plan->settings.mem_bytes),
           plan->settings.nudge);
    printf("recorded by %s%s\n\n",
           plan->settings.no_fuse == NULL
               ? "a file system, from outside"
               : "the library's I/O backend, since FUSE is not possible: ",
           plan->settings.no_fuse == NULL ? "" : plan->settings.no_fuse);
    printf("%-14s %12s %14s %8s %14s %10s %12s\n", "engine", "page writes", "ahead of log", "share",
           "largest lag, B", "unsealed", "log flushes");
    for (unsigned i = 0; i < ENGINES; i++) {
        const struct order_result *result = &plan->results[i];
        const struct order_counts *counts = &result->counts;
        if (result->skipped[0] != '\0')
            printf("%-14s skipped: %s\n", order_engines[i].name, result->skipped);
        if (!result->measured)
            continue;
        unlimited |= order_engines[i].engine == CP_ENGINE_MMAP && !result->limited;
        printf("%-14s %12" PRIu64 " %14" PRIu64 " %6.1f %% %14" PRIu64 " %10" PRIu64 " %12" PRIu64
               "\n",
               order_engines[i].name, counts->page_writes, counts->ahead_of_log,
               100 * share_of(counts), counts->max_lag_bytes, counts->unsealed,
               counts->log_flushes);
    }
    printf("\nahead of log: the page's LSN was beyond the durable end of the log when the page was "
           "written\nunsealed: the page's checksum did not hold: it was written while being "
           "changed\n");
    if (unlimited && plan->settings.no_fuse == NULL)
        printf(
            "no memory cgroup: the kernel was short of nothing, and wrote back only when nudged, "
            "or in its own time\n");
}

static int write_json(const struct order_plan *plan)
{
    json_t *root = bench_json_root(json_pack(
        "{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:s,s:s}", "transactions",
        (json_int_t)plan->settings.transactions, "group", (json_int_t)plan->settings.group,
        "size_bytes", (json_int_t)plan->settings.size_bytes, "mem_bytes",
        (json_int_t)plan->settings.mem_bytes, "page_size", (json_int_t)plan->settings.page_size,
        "nudge", (json_int_t)plan->settings.nudge, "seed", (json_int_t)plan->settings.seed,
        "recorder", plan->settings.no_fuse == NULL ? "fuse" : "backend", "recorder_reason",
        plan->settings.no_fuse == NULL ? "" : plan->settings.no_fuse));
    json_t *engines = json_array();
    for (unsigned i = 0; i < ENGINES; i++) {
        const struct order_result *result = &plan->results[i];
        const struct order_counts *counts = &result->counts;
        if (result->skipped[0] != '\0')
            json_array_append_new(engines, json_pack("{s:s,s:s}", "engine", order_engines[i].name,
                                                     "skipped", result->skipped));
        if (!result->measured)
            continue;
        json_array_append_new(
            engines,
            json_pack("{s:s,s:I,s:I,s:f,s:I,s:I,s:I,s:I,s:b,s:f}", "engine", order_engines[i].name,
                      "page_writes", (json_int_t)counts->page_writes, "ahead_of_log",
                      (json_int_t)counts->ahead_of_log, "share", share_of(counts), "max_lag_bytes",
                      (json_int_t)counts->max_lag_bytes, "unsealed", (json_int_t)counts->unsealed,
                      "log_writes", (json_int_t)counts->log_writes, "log_flushes",
                      (json_int_t)counts->log_flushes, "memory_limited", (int)result->limited,
                      "seconds", result->seconds));
    }
    json_object_set_new(root, "engines", engines);
    return bench_json_finish("order", plan->common.json, root);
}

int bench_order_main(int argc, char **argv)
{
    static struct order_plan plan = {
        .chosen = {true, true, true},
        .settings = ORDER_SETTINGS_DEFAULT,
    };
    int code = parse(&plan, argc, argv);
    if (code != 0)
        return code;
    if (plan.common.help) {
        fputs(help_text, stdout);
        return 0;
    }
    if (bench_file_check_option("order", "--json", plan.common.json) != 0)
        return 2;
    plan.settings.no_fuse = crash_fuse_unavailable();
    if (measure_all(&plan) != 0)
        return 2;
    if (plan.common.json == NULL || strcmp(plan.common.json, "-") != 0)
        print_table(&plan);
    return plan.common.json != NULL ? write_json(&plan) : 0;
}
