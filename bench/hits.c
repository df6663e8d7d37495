/* SPDX-License-Identifier: MIT */
/* `clockpool-bench hits`: what a page that is in memory costs, engines in turn in one process. */
#include "commands.h"

#include "common/signals.h"
#include "environment.h"
#include "file.h"
#include "hits_measure.h"
#include "json_file.h"
#include "options.h"
#include "plan.h"
#include "progress.h"
#include "scratch.h"
#include "units.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char help_text[] =
    "usage: clockpool-bench hits [options]\n"
    "\n"
    "Measure what reading 8 bytes of a page costs when all pages are in memory. The engines are\n"
    "opened in one process, and each reads 256 random pages in turn, so that all of them find\n"
    "the machine in the same state; ratios are of one turn, and the first row is 1. (`run` gives\n"
    "each engine its own process and a second at a time, in which a shared machine changes.)\n"
    "Every value read is compared. Nothing is limited: data of all engines must fit in memory.\n"
    "\n"
    "  --engines LIST    the first is what the others are compared with (raw,floor,pool)\n"
    "  --access LIST     optimistic, fix, batch: batches of 16 (all three)\n"
    "  --dist DIST       uniform | zipf:THETA, THETA from 0 to 10 (uniform)\n"
    "  --size SIZE       data of each engine (1G)\n"
    "  --page-size SIZE  4K, 8K, 16K, 32K or 64K (4K)\n"
    "  --threads N       threads, each with turns of its own (1)\n"
    "  --turns N         turns of each (20000)\n"
    "  --seed N          of the choice of pages (1)\n"
    "  --dir DIR         where the data sets are written ($TMPDIR, /var/tmp or .)\n"
    "  --json FILE       write the figures as JSON; - for standard output, without the table\n"
    "  --quiet           no progress\n"
    "  --help            this text\n"
    "\n"
    "exit status: 0 measured; 1 something failed, or a page had wrong bytes; 2 wrong usage, or "
    "not\n"
    "enough memory or room\n"
    "\n"
    "examples:\n"
    "  clockpool-bench hits --dist zipf:0.99 --threads 2\n"
    "  clockpool-bench hits --engines raw,pool,lmdb --access optimistic --json -\n";

#define TURNS_MAX 1000000u

struct hits_plan {
    const struct bench_engine *engines[BENCH_LIST_MAX];
    unsigned engine_count;
    bool access[3];
    struct hits_settings settings;
    struct bench_common common;
    struct hits_row rows[HITS_ROWS_MAX];
    unsigned row_count;
};

/* ---- the command line -------------------------------------------------------------------------
 */

enum option_id {
    OPT_ENGINES = 256,
    OPT_ACCESS,
    OPT_DIST,
    OPT_SIZE,
    OPT_PAGE_SIZE,
    OPT_THREADS,
    OPT_TURNS,
    OPT_SEED,
};

static const struct option option_list[] = {
    {"engines", required_argument, NULL, OPT_ENGINES},
    {"access", required_argument, NULL, OPT_ACCESS},
    {"dist", required_argument, NULL, OPT_DIST},
    {"size", required_argument, NULL, OPT_SIZE},
    {"page-size", required_argument, NULL, OPT_PAGE_SIZE},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"turns", required_argument, NULL, OPT_TURNS},
    {"seed", required_argument, NULL, OPT_SEED},
    {"dir", required_argument, NULL, BENCH_OPT_DIR},
    {"json", required_argument, NULL, BENCH_OPT_JSON},
    {"quiet", no_argument, NULL, BENCH_OPT_QUIET},
    {"help", no_argument, NULL, BENCH_OPT_HELP},
    {NULL, 0, NULL, 0},
};

static bool parse_engines(struct hits_plan *plan, char *text)
{
    char *items[BENCH_LIST_MAX];
    plan->engine_count = bench_split_list(text, items, BENCH_LIST_MAX);
    for (unsigned i = 0; i < plan->engine_count; i++) {
        plan->engines[i] = bench_engine_find(items[i]);
        if (plan->engines[i] == NULL)
            return false;
        for (unsigned k = 0; k < i; k++)
            if (plan->engines[k] == plan->engines[i])
                return false;
    }
    return plan->engine_count > 0;
}

static bool parse_access(struct hits_plan *plan, char *text)
{
    char *items[BENCH_LIST_MAX];
    unsigned count = bench_split_list(text, items, BENCH_LIST_MAX);
    memset(plan->access, 0, sizeof plan->access);
    for (unsigned i = 0; i < count; i++) {
        unsigned k = 0;
        while (k < 3 && strcmp(items[i], bench_access_names[k]) != 0)
            k++;
        if (k == 3)
            return false;
        plan->access[k] = true;
    }
    return count > 0;
}

static bool parse_dist(struct hits_plan *plan, const char *text)
{
    plan->settings.zipf = strncmp(text, "zipf:", 5) == 0;
    return plan->settings.zipf ? bench_parse_real(text + 5, 0, 10, &plan->settings.theta)
                               : strcmp(text, "uniform") == 0;
}

static bool take_option(void *ctx, int id, char *value)
{
    struct hits_plan *plan = ctx;
    uint64_t number;
    switch ((enum option_id)id) {
    case OPT_ENGINES:
        return parse_engines(plan, value);
    case OPT_ACCESS:
        return parse_access(plan, value);
    case OPT_DIST:
        return parse_dist(plan, value);
    case OPT_SIZE:
        return bench_parse_size(value, &plan->settings.size_bytes);
    case OPT_PAGE_SIZE:
        if (!bench_parse_page_size(value, &number))
            return false;
        plan->settings.page_size = (uint32_t)number;
        return true;
    case OPT_THREADS:
        if (!bench_parse_number(value, 1, BENCH_THREADS_MAX, &number))
            return false;
        plan->settings.threads = (unsigned)number;
        return true;
    case OPT_TURNS:
        return bench_parse_number(value, 1, TURNS_MAX, &plan->settings.turns);
    case OPT_SEED:
        return bench_parse_number(value, 0, UINT64_MAX >> 1, &plan->settings.seed);
    }
    return false;
}

static const struct bench_options options = {"hits", option_list, take_option};

/* A row for each engine and each way of access that it has. */
static int make_rows(struct hits_plan *plan)
{
    for (unsigned i = 0; i < plan->engine_count; i++) {
        const struct bench_engine *engine = plan->engines[i];
        if (engine->not_built != NULL)
            return bench_options_wrong(&options, engine->not_built, "");
        for (unsigned k = 0; k < 3; k++) {
            if (!plan->access[k])
                continue;
            if (plan->row_count == HITS_ROWS_MAX)
                return bench_options_wrong(&options, "more than 32 rows", "");
            plan->rows[plan->row_count++] =
                (struct hits_row){.engine = engine, .access = (enum bench_access)k};
            if (engine->access != NULL)
                break;
        }
    }
    return 0;
}

static int parse(struct hits_plan *plan, int argc, char **argv)
{
    int code = bench_options_parse(&options, plan, &plan->common, argc, argv);
    if (code == 0 && plan->settings.size_bytes / plan->settings.page_size < HITS_OPS)
        code = bench_options_wrong(&options, "--size is less than 256 pages", "");
    if (code == 0)
        code = bench_file_check_option("hits", "--json", plan->common.json);
    return code != 0 ? code : make_rows(plan);
}

/* ---- measuring --------------------------------------------------------------------------------
 */

static int on_progress(void *ctx, double fraction, const char *what)
{
    bench_progress_update(ctx, fraction, 0, what);
    return signals_caught();
}

/* What the data sets take, one of each format. */
static uint64_t disk_bytes(const struct hits_plan *plan)
{
    const struct hits_settings *settings = &plan->settings;
    uint64_t sum = 0;
    for (unsigned i = 0; i < plan->engine_count; i++) {
        unsigned k = 0;
        while (strcmp(plan->engines[k]->format, plan->engines[i]->format) != 0)
            k++;
        if (k == i)
            sum += plan->engines[i]->disk_bytes(settings->size_bytes / settings->page_size,
                                                settings->page_size);
    }
    return sum;
}

/* Is there memory and room? Makes the directory to work in. */
static int prepare(struct hits_plan *plan, struct bench_error *error)
{
    struct bench_place place;
    char need[32], left[32];
    if (bench_memory_check(hits_memory(&plan->settings, plan->engine_count), error) != 0 ||
        bench_place_choose(plan->common.dir, &place, error) != 0)
        return -1;
    if (disk_bytes(plan) > place.free_bytes)
        return bench_fail(error,
                          "not enough disk space in %s: %s needed, %s free; name another directory "
                          "with --dir, or use a smaller --size",
                          place.path, bench_format_size(need, sizeof need, disk_bytes(plan)),
                          bench_format_size(left, sizeof left, place.free_bytes));
    return bench_scratch_create(&place, plan->settings.directory, sizeof plan->settings.directory,
                                error);
}

static int measure(struct hits_plan *plan, struct bench_error *error)
{
    struct bench_progress progress;
    bench_progress_begin(&progress, plan->common.quiet, 1);
    bench_progress_step(&progress, 1, "%u engines, %u rows", plan->engine_count, plan->row_count);
    int code =
        hits_measure(&plan->settings, plan->rows, plan->row_count, on_progress, &progress, error);
    bench_progress_end(&progress);
    bench_remove_tree(plan->settings.directory);
    return code;
}

/* ---- what is shown ----------------------------------------------------------------------------
 */

static const char *access_name(const struct hits_row *row)
{
    return row->engine->access != NULL ? row->engine->access : bench_access_names[row->access];
}

static void print_table(const struct hits_plan *plan)
{
    const struct hits_settings *settings = &plan->settings;
    char size[32], dist[32] = "uniform";
    if (settings->zipf)
        snprintf(dist, sizeof dist, "zipf:%g", settings->theta);
    printf("%s of data, pages of %u, %s, %u thread%s; %" PRIu64 " turns of %u pages; quartiles\n\n",
           bench_format_size(size, sizeof size, settings->size_bytes), settings->page_size, dist,
           settings->threads, settings->threads == 1 ? "" : "s", settings->turns, HITS_OPS);
    printf("%-12s %-11s %8s %8s %8s   %11s %7s %7s\n", "engine", "access", "ns: 1/4", "1/2", "3/4",
           "of 1st: 1/4", "1/2", "3/4");
    for (unsigned i = 0; i < plan->row_count; i++) {
        const struct hits_row *row = &plan->rows[i];
        printf("%-12s %-11s %8.1f %8.1f %8.1f   %11.2f %7.2f %7.2f\n", row->engine->name,
               access_name(row), row->ns[HITS_LOWER], row->ns[HITS_MEDIAN], row->ns[HITS_UPPER],
               row->ratio[HITS_LOWER], row->ratio[HITS_MEDIAN], row->ratio[HITS_UPPER]);
    }
}

static json_t *quartiles_json(const double *values)
{
    return json_pack("[f,f,f]", values[HITS_LOWER], values[HITS_MEDIAN], values[HITS_UPPER]);
}

static int write_json(const struct hits_plan *plan)
{
    const struct hits_settings *settings = &plan->settings;
    json_t *rows = json_array();
    for (unsigned i = 0; i < plan->row_count; i++) {
        const struct hits_row *row = &plan->rows[i];
        json_array_append_new(rows,
                              json_pack("{s:s,s:s,s:o,s:o}", "engine", row->engine->name, "access",
                                        access_name(row), "ns_quartiles", quartiles_json(row->ns),
                                        "of_first_quartiles", quartiles_json(row->ratio)));
    }
    json_t *root = bench_json_root(json_pack(
        "{s:I,s:i,s:b,s:f,s:i,s:I,s:i,s:I,s:o}", "size_bytes", (json_int_t)settings->size_bytes,
        "page_size", (int)settings->page_size, "zipf", settings->zipf, "theta", settings->theta,
        "threads", (int)settings->threads, "turns", (json_int_t)settings->turns, "pages_a_turn",
        (int)HITS_OPS, "seed", (json_int_t)settings->seed, "hits", rows));
    return bench_json_finish("hits", plan->common.json, root);
}

int bench_hits_main(int argc, char **argv)
{
    static struct hits_plan plan = {/* static: too large for a small stack */
                                    .access = {true, true, true},
                                    .settings = {.size_bytes = UINT64_C(1) << 30,
                                                 .page_size = 4096,
                                                 .threads = 1,
                                                 .turns = 20000,
                                                 .seed = 1}};
    struct bench_error error = {""};
    char engines[] = "raw,floor,pool";
    parse_engines(&plan, engines);
    int code = parse(&plan, argc, argv);
    if (code != 0)
        return code;
    if (plan.common.help) {
        fputs(help_text, stdout);
        return 0;
    }
    signals_catch();
    code = prepare(&plan, &error) != 0 ? 2 : measure(&plan, &error) != 0;
    if (signals_caught() != 0)
        signals_raise_again();
    if (code != 0) {
        fprintf(stderr, "clockpool-bench hits: %s\n", error.text);
        return code;
    }
    if (plan.common.json == NULL || strcmp(plan.common.json, "-") != 0)
        print_table(&plan);
    return plan.common.json != NULL ? write_json(&plan) : 0;
}
