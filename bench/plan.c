/* SPDX-License-Identifier: MIT */
/* The options of `run`: defaults, parsing, what cells they make. */
#include "plan.h"

#include <clockpool/base/bits.h>

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const bench_workload_names[BENCH_WORKLOAD_COUNT] = {
    "read-random", "read-scan", "update-random", "commit", "commit-relaxed", "mixed", "recover"};
const char *const bench_access_names[3] = {"optimistic", "fix", "batch"};
const char *const bench_advice_names[3] = {"random", "normal", "sequential"};

const char *const bench_durability_names[3] = {"none", "relaxed, bounded", "durable on return"};

static const char help_text[] =
    "usage: clockpool-bench run [options]\n"
    "\n"
    "Compare engines on files of their own: each in its own process, under the same memory limit,\n"
    "taking turns. Prints a table; --json writes everything that was measured.\n"
    "\n"
    "  --engines LIST     engines to compare, or all (raw,pool,mmap,lmdb); see clockpool-bench "
    "list\n"
    "  --workload LIST    read-random | read-scan | update-random | commit | commit-relaxed |\n"
    "                     mixed | recover (read-random)\n"
    "  --dist LIST        uniform | zipf:THETA, THETA from 0 to 10 (uniform)\n"
    "  --size LIST        bytes of data: 8G, 512M, 4K... (768M,2G)\n"
    "  --mem LIST         bytes of memory for each engine: one for all sizes, or one for each\n"
    "                     size (1G,256M). Data up to 0.9 of it count as fitting in memory\n"
    "  --page-size SIZE   4K, 8K, 16K, 32K or 64K (4K)\n"
    "  --threads LIST     threads, 1 to 256 (1,8)\n"
    "  --depth LIST       reads one thread keeps in flight, 1 to 1024 (1,32). Engines that cannot\n"
    "                     (mmap, lmdb) run at depth 1\n"
    "  --rate LIST        open loop: operations arrive at this rate, per second, of all threads, "
    "and\n"
    "                     latency counts from when each was due; each thread does one at a time.\n"
    "                     Not for read-scan and recover (none: a thread that is done asks for "
    "more)\n"
    "  --access LIST      how pages are accessed: optimistic | fix | batch (optimistic)\n"
    "  --write-share X    mixed: this share of the operations commits, 0 to 1 (0.2)\n"
    "  --log-size LIST    recover: bytes of log at the time of the kill (64M)\n"
    "  --batch N          access batch: pages of one batch, 1 to 256 (16); at depth above 1 the\n"
    "                     depth\n"
    "  --advice ADVICE    random | normal | sequential: what mmap and lmdb tell the kernel about\n"
    "                     read-ahead; for lmdb, random means MDB_NORDAHEAD (random; sequential "
    "for\n"
    "                     read-scan: the best they can do)\n"
    "  --seconds S        length of a measurement (1)\n"
    "  --warmup S         longest warm-up before an engine's measurements (10)\n"
    "  --repeat N         repetitions; the table shows medians (3)\n"
    "  --dir DIR          where to work, on a real file system ($TMPDIR, /var/tmp or .)\n"
    "  --json FILE        write results and environment to FILE; - is standard output\n"
    "  --html FILE        write a report with charts to FILE; - is standard output\n"
    "  --seed N           of the page sequences and the content (1)\n"
    "  --slack SIZE       memory allowed beyond --mem for code and stacks, the same for every\n"
    "                     engine (48M)\n"
    "  --quiet            no progress\n"
    "  --help             this text\n"
    "\n"
    "Sizes are powers of 1024. Lists are separated by commas.\n"
    "\n"
    "exit status: 0 all measured; 1 something failed or a page had wrong bytes; 2 wrong usage\n"
    "\n"
    "examples:\n"
    "  clockpool-bench run\n"
    "  clockpool-bench run --size 8G --mem 1G --threads 1,8,32 --depth 1,32 --seconds 10\n"
    "  clockpool-bench run --size 1G --mem 2G --dist uniform,zipf:0.99 --access optimistic,fix\n"
    "  clockpool-bench run --workload read-scan --size 512M,1G,4G --mem 1G --json scan.json\n"
    "  clockpool-bench run --workload commit --engines all --size 512M --mem 1G --threads 1,8,32\n"
    "  clockpool-bench run --size 2G --mem 256M --threads 16 --rate 10000,20000 --seconds 10\n"
    "  clockpool-bench run --workload recover --log-size 64M,256M,1G --size 4G --mem 1G\n";

enum option_id {
    OPT_ENGINES = 256,
    OPT_WORKLOAD,
    OPT_DIST,
    OPT_SIZE,
    OPT_MEM,
    OPT_PAGE_SIZE,
    OPT_THREADS,
    OPT_DEPTH,
    OPT_RATE,
    OPT_ACCESS,
    OPT_WRITE_SHARE,
    OPT_LOG_SIZE,
    OPT_BATCH,
    OPT_ADVICE,
    OPT_SECONDS,
    OPT_WARMUP,
    OPT_REPEAT,
    OPT_DIR,
    OPT_JSON,
    OPT_HTML,
    OPT_SEED,
    OPT_SLACK,
    OPT_QUIET,
    OPT_HELP,
};

#define OPTION_COUNT (OPT_HELP - OPT_ENGINES + 1)

static const struct option options[] = {
    {"engines", required_argument, NULL, OPT_ENGINES},
    {"workload", required_argument, NULL, OPT_WORKLOAD},
    {"dist", required_argument, NULL, OPT_DIST},
    {"size", required_argument, NULL, OPT_SIZE},
    {"mem", required_argument, NULL, OPT_MEM},
    {"page-size", required_argument, NULL, OPT_PAGE_SIZE},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"depth", required_argument, NULL, OPT_DEPTH},
    {"rate", required_argument, NULL, OPT_RATE},
    {"access", required_argument, NULL, OPT_ACCESS},
    {"write-share", required_argument, NULL, OPT_WRITE_SHARE},
    {"log-size", required_argument, NULL, OPT_LOG_SIZE},
    {"batch", required_argument, NULL, OPT_BATCH},
    {"advice", required_argument, NULL, OPT_ADVICE},
    {"seconds", required_argument, NULL, OPT_SECONDS},
    {"warmup", required_argument, NULL, OPT_WARMUP},
    {"repeat", required_argument, NULL, OPT_REPEAT},
    {"dir", required_argument, NULL, OPT_DIR},
    {"json", required_argument, NULL, OPT_JSON},
    {"html", required_argument, NULL, OPT_HTML},
    {"seed", required_argument, NULL, OPT_SEED},
    {"slack", required_argument, NULL, OPT_SLACK},
    {"quiet", no_argument, NULL, OPT_QUIET},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

/* A sanitizer's shadow memory alone is larger than the slack of a normal build. */
#define SLACK_BYTES (BENCH_SANITIZED ? UINT64_C(1) << 30 : UINT64_C(48) << 20)

#define PAGES_MIN 64u /* of the data: so that there is something to choose from */

static int usage_error(const char *option, const char *value, const char *accepted, ...)
    __attribute__((format(printf, 3, 4)));

static int usage_error(const char *option, const char *value, const char *accepted, ...)
{
    va_list args;
    fprintf(stderr, "clockpool-bench run: option --%s: \"%s\" is not accepted; ", option, value);
    va_start(args, accepted);
    vfprintf(stderr, accepted, args);
    va_end(args);
    fputc('\n', stderr);
    return 2;
}

/* The same twice would be measured twice, into rows that nothing tells apart. */
static int usage_twice(const char *option, const char *value)
{
    return usage_error(option, value, "each may be named once, in whatever way it is written");
}

/* values: what the items were read as, value_bytes each. */
static int refuse_twice(const char *option, char **items, const void *values, size_t value_bytes,
                        unsigned count)
{
    const char *bytes = values;
    for (unsigned i = 1; i < count; i++)
        for (unsigned j = 0; j < i; j++)
            if (memcmp(bytes + i * value_bytes, bytes + j * value_bytes, value_bytes) == 0)
                return usage_twice(option, items[i]);
    return 0;
}

void bench_plan_defaults(struct bench_plan *plan)
{
    memset(plan, 0, sizeof *plan);
    for (unsigned i = 0; bench_engine_at(i) != NULL && i < 4; i++)
        if (bench_engine_at(i)->not_built == NULL)
            plan->engines[plan->engine_count++] = bench_engine_at(i);
    plan->workloads[0] = BENCH_READ_RANDOM;
    plan->workload_count = 1;
    snprintf(plan->dists[0].name, sizeof plan->dists[0].name, "uniform");
    plan->dist_count = 1;
    plan->sizes[0] = UINT64_C(768) << 20;
    plan->mems[0] = UINT64_C(1) << 30;
    plan->sizes[1] = UINT64_C(2) << 30;
    plan->mems[1] = UINT64_C(256) << 20;
    plan->size_count = 2;
    plan->accesses[0] = BENCH_OPTIMISTIC;
    plan->access_count = 1;
    plan->threads[0] = 1;
    plan->threads[1] = 8;
    plan->thread_list_count = 2;
    plan->depths[0] = 1;
    plan->depths[1] = 32;
    plan->depth_count = 2;
    plan->log_sizes[0] = UINT64_C(64) << 20;
    plan->log_size_count = 1;
    plan->write_share = 0.2;
    plan->page_size = 4096;
    plan->batch = 16;
    plan->repeat = 3;
    plan->seconds = 1;
    plan->warmup_seconds = 10;
    plan->seed = 1;
    plan->slack_bytes = SLACK_BYTES;
}

/* ---- values
 * --------------------------------------------------------------------------------------- */

/* The index of a name, or -1. */
static int find_name(const char *const *names, unsigned count, const char *name)
{
    for (unsigned i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return (int)i;
    return -1;
}

static int parse_engines(struct bench_plan *plan, char **items, unsigned count)
{
    char known[256] = "";
    for (unsigned i = 0; bench_engine_at(i) != NULL; i++)
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i > 0 ? ", " : "",
                 bench_engine_at(i)->name);
    plan->engine_count = 0;
    if (count == 1 && strcmp(items[0], "all") == 0) {
        for (unsigned i = 0; bench_engine_at(i) != NULL && !bench_engine_is_extra(i); i++)
            if (bench_engine_at(i)->not_built == NULL)
                plan->engines[plan->engine_count++] = bench_engine_at(i);
        return 0;
    }
    for (unsigned i = 0; i < count; i++) {
        const struct bench_engine *engine = bench_engine_find(items[i]);
        if (engine == NULL)
            return usage_error("engines", items[i], "engines are %s", known);
        if (engine->not_built != NULL)
            return usage_error("engines", items[i], "it is %s", engine->not_built);
        plan->engines[plan->engine_count++] = engine;
    }
    return refuse_twice("engines", items, plan->engines, sizeof plan->engines[0], count);
}

static int parse_dists(struct bench_plan *plan, char **items, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct bench_plan_dist dist = {.zipf = strncmp(items[i], "zipf:", 5) == 0};
        if (dist.zipf ? !bench_parse_real(items[i] + 5, 0, 10, &dist.theta)
                      : strcmp(items[i], "uniform") != 0)
            return usage_error("dist", items[i],
                               "use uniform or zipf:THETA with THETA from 0 to 10"
                               ", such as zipf:0.99");
        for (unsigned j = 0; j < i; j++) /* uniform is as zipf:0 */
            if (plan->dists[j].theta == dist.theta)
                return usage_twice("dist", items[i]);
        snprintf(dist.name, sizeof dist.name, "%.31s", items[i]);
        plan->dists[i] = dist;
    }
    plan->dist_count = count;
    return 0;
}

static int parse_sizes(const char *option, uint64_t *sizes, unsigned *out_count, char **items,
                       unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (!bench_parse_size(items[i], &sizes[i]))
            return usage_error(option, items[i], "use a size such as 4K, 512M or 8G");
    *out_count = count;
    return 0;
}

static int parse_numbers(const char *option, unsigned max, unsigned *numbers, unsigned *out_count,
                         char **items, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t value;
        if (!bench_parse_number(items[i], 1, max, &value))
            return usage_error(option, items[i], "use whole numbers from 1 to %u", max);
        numbers[i] = (unsigned)value;
    }
    *out_count = count;
    return refuse_twice(option, items, numbers, sizeof numbers[0], count);
}

static int parse_rates(struct bench_plan *plan, char **items, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (!bench_parse_number(items[i], 1, BENCH_RATE_MAX, &plan->rates[i]))
            return usage_error("rate", items[i], "use whole numbers from 1 to %u per second",
                               BENCH_RATE_MAX);
    plan->rate_count = count;
    return refuse_twice("rate", items, plan->rates, sizeof plan->rates[0], count);
}

static int parse_enums(const char *option, const char *const *names, unsigned name_count,
                       unsigned *values, unsigned *out_count, char **items, unsigned count)
{
    char known[256] = "";
    for (unsigned i = 0; i < name_count; i++)
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", names[i],
                 i + 2 < name_count    ? ", "
                 : i + 2 == name_count ? " or "
                                       : "");
    for (unsigned i = 0; i < count; i++) {
        int index = find_name(names, name_count, items[i]);
        if (index < 0)
            return usage_error(option, items[i], "use %s", known);
        values[i] = (unsigned)index;
    }
    *out_count = count;
    return refuse_twice(option, items, values, sizeof values[0], count);
}

static int parse_list(struct bench_plan *plan, int id, const char *option, char *value,
                      unsigned *mem_count)
{
    char *items[BENCH_LIST_MAX];
    unsigned values[BENCH_LIST_MAX];
    unsigned count = bench_split_list(value, items, BENCH_LIST_MAX);
    int code;
    if (count == 0)
        return usage_error(option, value, "use a list of up to %u values separated by commas",
                           BENCH_LIST_MAX);
    switch (id) {
    case OPT_ENGINES:
        return parse_engines(plan, items, count);
    case OPT_DIST:
        return parse_dists(plan, items, count);
    case OPT_SIZE:
        return parse_sizes(option, plan->sizes, &plan->size_count, items, count);
    case OPT_MEM:
        return parse_sizes(option, plan->mems, mem_count, items, count);
    case OPT_THREADS:
        return parse_numbers(option, BENCH_THREADS_MAX, plan->threads, &plan->thread_list_count,
                             items, count);
    case OPT_DEPTH:
        return parse_numbers(option, BENCH_DEPTH_MAX, plan->depths, &plan->depth_count, items,
                             count);
    case OPT_RATE:
        return parse_rates(plan, items, count);
    case OPT_LOG_SIZE:
        code = parse_sizes(option, plan->log_sizes, &plan->log_size_count, items, count);
        return code != 0
                   ? code
                   : refuse_twice(option, items, plan->log_sizes, sizeof plan->log_sizes[0], count);
    case OPT_WORKLOAD:
        code = parse_enums(option, bench_workload_names, BENCH_WORKLOAD_COUNT, values,
                           &plan->workload_count, items, count);
        for (unsigned i = 0; code == 0 && i < count; i++)
            plan->workloads[i] = (enum bench_workload)values[i];
        return code;
    default: /* OPT_ACCESS */
        code =
            parse_enums(option, bench_access_names, 3, values, &plan->access_count, items, count);
        for (unsigned i = 0; code == 0 && i < count; i++)
            plan->accesses[i] = (enum bench_access)values[i];
        return code;
    }
}

static int parse_page_size(struct bench_plan *plan, const char *option, const char *value)
{
    uint64_t size;
    if (!bench_parse_page_size(value, &size))
        return usage_error(option, value, "use 4K, 8K, 16K, 32K or 64K");
    plan->page_size = (uint32_t)size;
    return 0;
}

static int parse_unsigned(const char *option, const char *value, uint64_t min, uint64_t max,
                          uint64_t *out_value)
{
    if (!bench_parse_number(value, min, max, out_value))
        return usage_error(option, value, "use a whole number from %llu to %llu",
                           (unsigned long long)min, (unsigned long long)max);
    return 0;
}

static int parse_scalar(struct bench_plan *plan, int id, const char *option, char *value)
{
    uint64_t number = 0;
    int code = 0;
    switch (id) {
    case OPT_PAGE_SIZE:
        return parse_page_size(plan, option, value);
    case OPT_BATCH:
        code = parse_unsigned(option, value, 1, BENCH_ROUND, &number);
        plan->batch = (unsigned)number;
        return code;
    case OPT_REPEAT:
        code = parse_unsigned(option, value, 1, BENCH_REPEAT_MAX, &number);
        plan->repeat = (unsigned)number;
        return code;
    case OPT_SEED:
        return parse_unsigned(option, value, 0, UINT64_MAX, &plan->seed);
    case OPT_SECONDS:
        if (!bench_parse_real(value, 0.01, 86400, &plan->seconds))
            return usage_error(option, value, "use seconds from 0.01 to 86400");
        return 0;
    case OPT_WRITE_SHARE:
        if (!bench_parse_real(value, 0, 1, &plan->write_share))
            return usage_error(option, value, "use a number from 0 to 1");
        return 0;
    case OPT_WARMUP:
        if (!bench_parse_real(value, 0, 86400, &plan->warmup_seconds))
            return usage_error(option, value, "use seconds from 0 to 86400");
        return 0;
    case OPT_SLACK:
        if (!bench_parse_size(value, &plan->slack_bytes))
            return usage_error(option, value, "use a size such as 48M");
        return 0;
    case OPT_ADVICE: {
        int index = find_name(bench_advice_names, 3, value);
        if (index < 0)
            return usage_error(option, value, "use random, normal or sequential");
        plan->advice = (enum bench_advice)index;
        plan->advice_given = true;
        return 0;
    }
    default:
        return 2;
    }
}

/* Sizes in whole pages, one memory for each size. */
static int settle_sizes(struct bench_plan *plan, unsigned mem_count)
{
    char text[32], needed[32];
    if (mem_count == 1)
        for (unsigned i = 1; i < plan->size_count; i++)
            plan->mems[i] = plan->mems[0];
    else if (mem_count != plan->size_count) {
        fprintf(stderr,
                "clockpool-bench run: option --mem: %u values for %u sizes (--size); give one for "
                "all sizes or one for each\n",
                mem_count, plan->size_count);
        return 2;
    }
    for (unsigned i = 0; i < plan->size_count; i++) {
        const uint64_t least = (uint64_t)PAGES_MIN * plan->page_size;
        if (plan->sizes[i] < least)
            return usage_error("size", bench_format_size(text, sizeof text, plan->sizes[i]),
                               "at least %s are needed (%u pages)",
                               bench_format_size(needed, sizeof needed, least), PAGES_MIN);
        plan->sizes[i] = cp_align_down(plan->sizes[i], plan->page_size);
        if (plan->mems[i] < UINT64_C(2) << 20)
            return usage_error("mem", bench_format_size(text, sizeof text, plan->mems[i]),
                               "at least 2M are needed");
        for (unsigned j = 0; j < i; j++)
            if (plan->sizes[j] == plan->sizes[i] && plan->mems[j] == plan->mems[i])
                return usage_twice("size", bench_format_size(text, sizeof text, plan->sizes[i]));
    }
    return 0;
}

/* Operations arrive one by one: what knows no single operations has no rate. */
static int settle_rates(const struct bench_plan *plan)
{
    char text[32];
    if (plan->rate_count == 0)
        return 0;
    snprintf(text, sizeof text, "%llu", (unsigned long long)plan->rates[0]);
    for (unsigned i = 0; i < plan->workload_count; i++)
        if (plan->workloads[i] == BENCH_READ_SCAN || plan->workloads[i] == BENCH_RECOVER)
            return usage_error("rate", text, "the workload %s has none",
                               bench_workload_names[plan->workloads[i]]);
    for (unsigned i = 0; i < plan->access_count; i++)
        if (plan->accesses[i] == BENCH_BATCH)
            return usage_error("rate", text,
                               "pages arrive one by one: use --access optimistic or "
                               "fix");
    return 0;
}

static bool has_workload(const struct bench_plan *plan, enum bench_workload workload)
{
    for (unsigned i = 0; i < plan->workload_count; i++)
        if (plan->workloads[i] == workload)
            return true;
    return false;
}

static bool has_batches(const struct bench_plan *plan)
{
    for (unsigned i = 0; i < plan->access_count; i++)
        if (plan->accesses[i] == BENCH_BATCH)
            return has_workload(plan, BENCH_READ_RANDOM);
    return false;
}

/* given: by option, the value or NULL. One that changes nothing was meant to change something. */
static int settle_unused(const struct bench_plan *plan, const char *const given[OPTION_COUNT])
{
    const char *batch = given[OPT_BATCH - OPT_ENGINES],
               *write_share = given[OPT_WRITE_SHARE - OPT_ENGINES],
               *log_size = given[OPT_LOG_SIZE - OPT_ENGINES];
    if (batch != NULL && !has_batches(plan))
        return usage_error("batch", batch,
                           "there are no batches without --access batch and the workload "
                           "read-random: add them, or leave it out");
    if (write_share != NULL && !has_workload(plan, BENCH_MIXED))
        return usage_error("write-share", write_share,
                           "only mixed has one: add --workload mixed, or leave it out");
    if (log_size != NULL && !has_workload(plan, BENCH_RECOVER))
        return usage_error("log-size", log_size,
                           "only recover has one: add --workload recover, or leave it out");
    return 0;
}

static bool can_do(const struct bench_engine *engine, enum bench_workload workload)
{
    if (bench_workload_commits(workload))
        return engine->commit != NULL;
    return workload != BENCH_UPDATE_RANDOM || engine->update != NULL;
}

/* A workload that no engine can do has no rows: the tables would leave it out without a word. */
static int settle_workload(const struct bench_plan *plan, enum bench_workload workload)
{
    char names[256] = "";
    for (unsigned e = 0; e < plan->engine_count; e++) {
        if (can_do(plan->engines[e], workload))
            return 0;
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", e > 0 ? ", " : "",
                 plan->engines[e]->name);
    }
    return usage_error("workload", bench_workload_names[workload],
                       "none of the engines (%s) can do it: name one more with --engines that can, "
                       "such as raw or pool",
                       names);
}

static int settle_workloads(const struct bench_plan *plan)
{
    int code = 0;
    for (unsigned w = 0; w < plan->workload_count && code == 0; w++)
        code = settle_workload(plan, plan->workloads[w]);
    return code;
}

/* How long the lists are that a workload's cells of an engine are made of. */
struct shape {
    bool many_ways, deep, open; /* open: one operation at a time, and rates instead of depths */
    unsigned accesses, threads, choices;
};

static struct shape shape_of(const struct bench_plan *plan, const struct bench_engine *engine,
                             enum bench_workload workload)
{
    struct shape shape = {
        .many_ways = engine->access == NULL && workload == BENCH_READ_RANDOM,
        .deep = engine->deep && workload != BENCH_READ_SCAN && !bench_workload_commits(workload),
        .open = plan->rate_count > 0,
        .threads = plan->thread_list_count,
    };
    shape.accesses = shape.many_ways ? plan->access_count : 1;
    shape.choices = shape.open ? plan->rate_count : shape.deep ? plan->depth_count : 1;
    return shape;
}

/* One process runs all cells of an engine and a workload, so there is a limit. */
static int settle_cells(const struct bench_plan *plan)
{
    for (unsigned e = 0; e < plan->engine_count; e++)
        for (unsigned w = 0; w < plan->workload_count; w++) {
            const struct shape shape = shape_of(plan, plan->engines[e], plan->workloads[w]);
            const unsigned count = shape.accesses * shape.threads * shape.choices;
            if (count <= BENCH_CELLS_MAX)
                continue;
            fprintf(stderr,
                    "clockpool-bench run: options --access, --threads and --%s: %u x %u x %u = %u "
                    "rows of %s, %s; at most %u can be measured in a run: give shorter lists\n",
                    shape.open ? "rate" : "depth", shape.accesses, shape.threads, shape.choices,
                    count, plan->engines[e]->name, bench_workload_names[plan->workloads[w]],
                    BENCH_CELLS_MAX);
            return 2;
        }
    return 0;
}

/* The options as a whole, each of which is good by itself. */
static int settle(struct bench_plan *plan, unsigned mem_count,
                  const char *const given[OPTION_COUNT])
{
    if (mem_count == 0) /* --size alone: as much memory for each as the first default has */
        mem_count = given[OPT_SIZE - OPT_ENGINES] != NULL ? 1 : plan->size_count;
    int code = settle_sizes(plan, mem_count);
    if (code == 0)
        code = settle_workloads(plan);
    if (code == 0)
        code = settle_rates(plan);
    if (code == 0)
        code = settle_unused(plan, given);
    return code != 0 ? code : settle_cells(plan);
}

int bench_plan_parse(struct bench_plan *plan, int argc, char **argv)
{
    const char *given[OPTION_COUNT] = {NULL}; /* lists have been taken apart */
    unsigned mem_count = 0;
    int id, index = 0, code = 0;
    optind = 1;
    opterr = 0;
    while (code == 0 && (id = getopt_long(argc, argv, ":", options, &index)) != -1) {
        const char *option = "";
        if (id >= OPT_ENGINES) {
            option = options[id - OPT_ENGINES].name;
            given[id - OPT_ENGINES] = optarg;
        }
        switch (id) {
        case OPT_HELP:
            fputs(help_text, stdout);
            return 1;
        case OPT_QUIET:
            plan->quiet = true;
            break;
        case OPT_DIR:
            plan->dir = optarg;
            break;
        case OPT_JSON:
            plan->json_path = optarg;
            break;
        case OPT_HTML:
            plan->html_path = optarg;
            break;
        case OPT_ENGINES:
        case OPT_WORKLOAD:
        case OPT_DIST:
        case OPT_SIZE:
        case OPT_MEM:
        case OPT_THREADS:
        case OPT_DEPTH:
        case OPT_RATE:
        case OPT_ACCESS:
        case OPT_LOG_SIZE:
            code = parse_list(plan, id, option, optarg, &mem_count);
            break;
        case ':':
            fprintf(stderr, "clockpool-bench run: option %s needs a value; see run --help\n",
                    argv[optind - 1]);
            return 2;
        case '?':
            fprintf(stderr,
                    "clockpool-bench run: unknown option %s; clockpool-bench run --help lists "
                    "all\n",
                    argv[optind - 1]);
            return 2;
        default:
            code = parse_scalar(plan, id, option, optarg);
        }
    }
    if (code == 0 && optind < argc) {
        fprintf(stderr, "clockpool-bench run: \"%s\" is not an option; see run --help\n",
                argv[optind]);
        return 2;
    }
    if (code == 0 && plan->json_path != NULL && plan->html_path != NULL &&
        strcmp(plan->json_path, "-") == 0 && strcmp(plan->html_path, "-") == 0) {
        fprintf(stderr, "clockpool-bench run: --json and --html cannot both be standard output\n");
        return 2;
    }
    return code != 0 ? code : settle(plan, mem_count, given);
}

/* ---- cells
 * ------------------------------------------------------------------------------------------ */

bool bench_plan_fits(uint64_t size_bytes, uint64_t mem_bytes)
{
    return size_bytes <= mem_bytes / 10 * 9;
}

enum bench_advice bench_plan_advice(const struct bench_plan *plan, enum bench_workload workload)
{
    if (plan->advice_given)
        return plan->advice;
    return workload == BENCH_READ_SCAN ? BENCH_ADVICE_SEQUENTIAL : BENCH_ADVICE_RANDOM;
}

const char *bench_plan_access_name(const struct bench_engine *engine, enum bench_workload workload,
                                   enum bench_access access)
{
    if (workload == BENCH_RECOVER)
        return "open";
    if (workload == BENCH_MIXED)
        return "mixed";
    if (bench_workload_commits(workload))
        return "commit";
    if (engine->access != NULL)
        return engine->access;
    if (workload == BENCH_READ_SCAN)
        return "scan";
    if (workload == BENCH_UPDATE_RANDOM)
        return "exclusive";
    return bench_access_names[access];
}

enum bench_durability bench_plan_durability(const struct bench_engine *engine,
                                            enum bench_workload workload)
{
    if (workload == BENCH_COMMIT_RELAXED)
        return engine->relaxed;
    return bench_workload_commits(workload) ? BENCH_DURABILITY_FULL : BENCH_DURABILITY_NONE;
}

/* recover: a cell for each size of the log; one, of size 0, for an engine whose log has no such
 * size. */
static unsigned recover_cells(const struct bench_plan *plan, const struct bench_engine *engine,
                              struct bench_cell *out_cells)
{
    if (engine->log_bytes == NULL && engine != &bench_engine_raw) {
        out_cells[0] = (struct bench_cell){BENCH_FIX, 1, 1, 0, 0};
        return 1;
    }
    for (unsigned i = 0; i < plan->log_size_count; i++)
        out_cells[i] = (struct bench_cell){BENCH_FIX, 1, 1, plan->log_sizes[i], 0};
    return plan->log_size_count;
}

unsigned bench_plan_cells(const struct bench_plan *plan, const struct bench_engine *engine,
                          enum bench_workload workload, struct bench_cell *out_cells)
{
    unsigned count = 0;
    if (!can_do(engine, workload))
        return 0;
    if (workload == BENCH_RECOVER)
        return recover_cells(plan, engine, out_cells);
    const struct shape shape = shape_of(plan, engine, workload);
    for (unsigned a = 0; a < shape.accesses; a++)
        for (unsigned t = 0; t < shape.threads; t++)
            for (unsigned c = 0; c < shape.choices; c++)
                out_cells[count++] =
                    (struct bench_cell){.access = shape.many_ways ? plan->accesses[a] : BENCH_FIX,
                                        .threads = plan->threads[t],
                                        .depth = shape.deep && !shape.open ? plan->depths[c] : 1,
                                        .rate = shape.open ? plan->rates[c] : 0};
    return count;
}
