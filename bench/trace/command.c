/* SPDX-License-Identifier: MIT */
/*
 * `clockpool-bench trace`: what replacement policies would miss on a recorded sequence of pages.
 * Nothing is measured: the result depends on the sequence alone, not on the machine.
 */
#include "commands.h"

#include "file.h"
#include "options.h"
#include "progress.h"
#include "report.h"
#include "simulate.h"
#include "units.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help_text[] =
    "usage: clockpool-bench trace [options]\n"
    "\n"
    "Run replacement policies over sequences of page accesses and count what each misses, beside\n"
    "the optimum. The pool's policy is run by the pool's own code. Prints a table and a curve for\n"
    "each sequence, and how many misses fewer than CLOCK's there are, the mean over the sizes.\n"
    "\n"
    "  --trace LIST     files of one page number a line, plain or gzip, or synthetic:scan,\n"
    "                   synthetic:loop, synthetic:shift, which are made up (those three)\n"
    "  --policy LIST    clockpool | clock | lru | sieve | 2q | arc | lirs | s3-fifo | min, or all\n"
    "                   (all)\n"
    "  --frames LIST    sizes of the pool: frames, or with % a share of the distinct pages, one\n"
    "                   frame at least; the same size is run once (1%,5%,10%,20%,40%)\n"
    "  --points N       N sizes, 2 to 64, evenly spaced (by ratio) from the smallest to the\n"
    "                   largest of --frames, instead of these; fewer where they are close\n"
    "  --seed N         of made-up sequences (1)\n"
    "  --estimate       also what the pool's ghosts say that a larger pool would miss\n"
    "                   (miss_ratio_at in cp_bufpool_stats), beside what it does\n"
    "  --no-curve       tables only\n"
    "  --json FILE      write the counts as JSON; - for standard output, without the tables\n"
    "  --quiet          no progress\n"
    "  --help           this text\n"
    "\n"
    "exit status: 0 done; 1 a sequence could not be read, or a result not be written; 2 wrong\n"
    "usage\n"
    "\n"
    "examples:\n"
    "  clockpool-bench trace\n"
    "  clockpool-bench trace --trace pages.txt.gz --policy clockpool,lru,min --points 16\n"
    "  clockpool-bench trace --trace pages.txt --frames 1000,4000,16000 --json - | jq .traces\n";

struct size {
    double value;
    bool percent;
};

struct trace_plan {
    char *names[TRACE_FILES_MAX];
    unsigned name_count;
    struct size sizes[TRACE_SIZES_MAX];
    unsigned size_count;
    uint64_t points, seed;
    bool chosen[TRACE_POLICIES];
    bool estimate, no_curve;
    struct bench_common common;
    const char *twice; /* a sequence or policy that was named twice */
};

/* ---- the command line -------------------------------------------------------------------------
 */

enum option_id {
    OPT_TRACE = 256,
    OPT_POLICY,
    OPT_FRAMES,
    OPT_POINTS,
    OPT_SEED,
    OPT_ESTIMATE,
    OPT_NO_CURVE,
};

static const struct option option_list[] = {
    {"trace", required_argument, NULL, OPT_TRACE},
    {"policy", required_argument, NULL, OPT_POLICY},
    {"frames", required_argument, NULL, OPT_FRAMES},
    {"points", required_argument, NULL, OPT_POINTS},
    {"seed", required_argument, NULL, OPT_SEED},
    {"estimate", no_argument, NULL, OPT_ESTIMATE},
    {"no-curve", no_argument, NULL, OPT_NO_CURVE},
    {"json", required_argument, NULL, BENCH_OPT_JSON},
    {"quiet", no_argument, NULL, BENCH_OPT_QUIET},
    {"help", no_argument, NULL, BENCH_OPT_HELP},
    {NULL, 0, NULL, 0},
};

static bool parse_names(struct trace_plan *plan, char *text)
{
    plan->name_count = bench_split_list(text, plan->names, TRACE_FILES_MAX);
    for (unsigned i = 1; i < plan->name_count; i++)
        for (unsigned j = 0; j < i; j++)
            if (strcmp(plan->names[i], plan->names[j]) == 0)
                plan->twice = plan->names[i];
    return plan->name_count > 0;
}

static bool parse_policies(struct trace_plan *plan, char *text)
{
    char *items[BENCH_LIST_MAX];
    unsigned count = bench_split_list(text, items, BENCH_LIST_MAX);
    bool all = count == 1 && strcmp(items[0], "all") == 0;
    memset(plan->chosen, all, sizeof plan->chosen);
    for (unsigned i = 0; i < count && !all; i++) {
        bool known = false;
        for (unsigned p = 0; p < TRACE_POLICIES; p++) {
            bool same = strcmp(items[i], trace_policies[p]->name) == 0;
            if (same && plan->chosen[p])
                plan->twice = items[i];
            plan->chosen[p] |= same;
            known |= same;
        }
        if (!known)
            return false;
    }
    return count > 0;
}

static bool parse_sizes(struct trace_plan *plan, char *text)
{
    char *items[TRACE_SIZES_MAX];
    plan->size_count = bench_split_list(text, items, TRACE_SIZES_MAX);
    for (unsigned i = 0; i < plan->size_count; i++) {
        struct size *size = &plan->sizes[i];
        size_t length = strlen(items[i]);
        uint64_t frames = 0;
        size->percent = length > 0 && items[i][length - 1] == '%';
        if (size->percent) {
            items[i][length - 1] = '\0';
            if (!bench_parse_real(items[i], 0, 1000, &size->value) || size->value == 0)
                return false;
        } else {
            if (!bench_parse_number(items[i], 1, TRACE_ACCESSES_MAX, &frames))
                return false;
            size->value = (double)frames;
        }
    }
    return plan->size_count > 0;
}

static bool take_option(void *ctx, int id, char *value)
{
    struct trace_plan *plan = ctx;

    switch ((enum option_id)id) {
    case OPT_TRACE:
        return parse_names(plan, value);
    case OPT_POLICY:
        return parse_policies(plan, value);
    case OPT_FRAMES:
        return parse_sizes(plan, value);
    case OPT_POINTS:
        return bench_parse_number(value, 2, TRACE_SIZES_MAX, &plan->points);
    case OPT_SEED:
        return bench_parse_number(value, 0, UINT64_MAX >> 1, &plan->seed);
    case OPT_ESTIMATE:
        plan->estimate = true;
        return true;
    case OPT_NO_CURVE:
        plan->no_curve = true;
        return true;
    }
    return false;
}

static const struct bench_options options = {"trace", option_list, take_option};

static int parse(struct trace_plan *plan, int argc, char **argv)
{
    int code = bench_options_parse(&options, plan, &plan->common, argc, argv);
    if (code != 0)
        return code;
    if (plan->twice != NULL)
        return bench_options_wrong(&options, "each may be named once: ", plan->twice);
    if (plan->points > 0 && plan->size_count < 2)
        return bench_options_wrong(
            &options, "--points needs two sizes in --frames, to go from one to the other", "");
    return 0;
}

/* ---- simulating --------------------------------------------------------------------------------
 */

static int compare_frames(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return left < right ? -1 : left > right;
}

/* Keep one of each that is there several times, of a list that rises. Returns how many are left. */
static unsigned drop_equal(uint32_t *frames, unsigned count)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < count; i++)
        if (kept == 0 || frames[i] != frames[kept - 1])
            frames[kept++] = frames[i];
    return kept;
}

/* The sizes for a sequence of so many pages, rising. Returns how many: shares of few pages, and
 * points close together, may be the same frames. */
static unsigned choose_frames(const struct trace_plan *plan, uint32_t page_count,
                              uint32_t out_frames[TRACE_SIZES_MAX])
{
    for (unsigned i = 0; i < plan->size_count; i++) {
        double frames = plan->sizes[i].value;
        if (plan->sizes[i].percent)
            frames = floor(frames * page_count / 100);
        out_frames[i] = frames < 1 ? 1 : (uint32_t)fmin(frames, TRACE_ACCESSES_MAX);
    }
    qsort(out_frames, plan->size_count, sizeof out_frames[0], compare_frames);
    if (plan->points == 0)
        return drop_equal(out_frames, plan->size_count);
    double first = log(out_frames[0]), last = log(out_frames[plan->size_count - 1]);
    for (unsigned i = 0; i < plan->points; i++)
        out_frames[i] =
            (uint32_t)lround(exp(first + (last - first) * i / (double)(plan->points - 1)));
    return drop_equal(out_frames, (unsigned)plan->points);
}

static bool is_needed(const struct trace_plan *plan, unsigned policy)
{
    return plan->chosen[policy] || trace_policies[policy] == &trace_policy_clock ||
           (plan->estimate && trace_policies[policy] == &trace_policy_clockpool);
}

/* What the estimates are compared with: the pool's policy in larger pools. */
static int simulate_larger(struct trace_result *result, char *text, size_t capacity)
{
    for (unsigned s = 0; s < result->size_count; s++) {
        for (unsigned f = 0; f < TRACE_FACTORS; f++) {
            struct trace_count larger;
            uint32_t frames = (uint32_t)(result->frames[s] * trace_factors[f]);
            if (trace_simulate(&trace_policy_clockpool, &result->sequence, frames, &larger) != 0) {
                snprintf(text, capacity, "%s: not enough memory", result->sequence.name);
                return -1;
            }
            result->larger[s][f] = larger.misses;
        }
    }
    return 0;
}

/* 0, or -1 with the reason in text. */
static int simulate_one(const struct trace_plan *plan, const char *name,
                        struct trace_result *result, struct bench_progress *progress, char *text,
                        size_t capacity)
{
    if (trace_sequence_open(name, plan->seed, &result->sequence, text, capacity) != 0)
        return -1;
    result->size_count = choose_frames(plan, result->sequence.page_count, result->frames);
    for (unsigned p = 0; p < TRACE_POLICIES; p++) {
        if (!is_needed(plan, p))
            continue;
        bench_progress_step(progress, 1, "%s: %s", result->sequence.name, trace_policies[p]->title);
        for (unsigned s = 0; s < result->size_count; s++) {
            if (trace_simulate(trace_policies[p], &result->sequence, result->frames[s],
                               &result->counts[s][p]) != 0) {
                snprintf(text, capacity, "%s: not enough memory", name);
                return -1;
            }
        }
    }
    return plan->estimate ? simulate_larger(result, text, capacity) : 0;
}

static bool is_taken(const struct trace_result *results, unsigned count, unsigned except,
                     const char *name)
{
    for (unsigned i = 0; i < count; i++)
        if (i != except && strcmp(results[i].sequence.name, name) == 0)
            return true;
    return false;
}

/*
 * Sequences of one name would be taken for one: they get their folder before it, and what is still
 * the same then a number behind it.
 */
static void tell_apart(const struct trace_plan *plan, struct trace_result *results)
{
    bool taken[TRACE_FILES_MAX];
    const unsigned count = plan->name_count;
    for (unsigned i = 0; i < count; i++)
        taken[i] = is_taken(results, count, i, results[i].sequence.name);
    for (unsigned i = 0; i < count; i++)
        if (taken[i])
            trace_sequence_add_folder(&results[i].sequence, plan->names[i]);
    for (unsigned i = 1; i < count; i++) {
        char *name = results[i].sequence.name, numbered[sizeof results[i].sequence.name];
        if (!is_taken(results, i, i, name))
            continue;
        unsigned number = 2;
        do { /* ends: there are more numbers than sequences */
            snprintf(numbered, sizeof numbered, "%.*s (%u)", (int)sizeof numbered - 16, name,
                     number++);
        } while (is_taken(results, count, i, numbered));
        memcpy(name, numbered, sizeof numbered);
    }
}

static int simulate_all(const struct trace_plan *plan, struct trace_result *results)
{
    struct bench_progress progress;
    char text[512] = "";
    unsigned policies = 0;
    int result = 0;
    for (unsigned p = 0; p < TRACE_POLICIES; p++)
        policies += is_needed(plan, p);
    bench_progress_begin(&progress, plan->common.quiet, plan->name_count * policies);
    for (unsigned i = 0; i < plan->name_count && result == 0; i++)
        result = simulate_one(plan, plan->names[i], &results[i], &progress, text, sizeof text);
    bench_progress_end(&progress);
    if (result == 0)
        tell_apart(plan, results);
    else
        fprintf(stderr, "clockpool-bench trace: %s\n", text);
    return result;
}

static int show(const struct trace_plan *plan, const struct trace_report *report)
{
    if (plan->common.json == NULL || strcmp(plan->common.json, "-") != 0) {
        for (unsigned i = 0; i < report->result_count && !plan->no_curve; i++)
            if (report->results[i].size_count > 1)
                trace_print_curve(report, &report->results[i], stdout);
        trace_print_tables(report, stdout);
        for (unsigned i = 0; i < report->result_count && plan->estimate; i++) {
            printf("\n");
            trace_print_estimates(&report->results[i], stdout);
        }
    }
    struct bench_error error;
    if (plan->common.json == NULL || trace_write_json(report, plan->common.json, &error) == 0)
        return 0;
    fprintf(stderr, "clockpool-bench trace: %s\n", error.text);
    return 1;
}

int bench_trace_main(int argc, char **argv)
{
    static char scan[] = "synthetic:scan", loop[] = "synthetic:loop", shift[] = "synthetic:shift";
    struct trace_plan plan = {
        .names = {scan, loop, shift},
        .name_count = 3,
        .sizes = {{1, true}, {5, true}, {10, true}, {20, true}, {40, true}},
        .size_count = 5,
        .seed = 1,
    };
    memset(plan.chosen, true, sizeof plan.chosen);
    int code = parse(&plan, argc, argv);
    if (code != 0)
        return code;
    if (plan.common.help) {
        fputs(help_text, stdout);
        return 0;
    }
    if (bench_file_check_option("trace", "--json", plan.common.json) != 0)
        return 2;
    for (unsigned i = 0; i < plan.name_count; i++)
        if (bench_file_check_other("trace", "--json", plan.common.json, plan.names[i],
                                   "a sequence to be read") != 0)
            return 2;
    struct trace_result *results = calloc(plan.name_count, sizeof *results);
    struct trace_report report = {
        .results = results, .result_count = plan.name_count, .seed = plan.seed};
    memcpy(report.chosen, plan.chosen, sizeof report.chosen);
    if (results == NULL) {
        fprintf(stderr, "clockpool-bench trace: not enough memory\n");
        return 1;
    }
    code = simulate_all(&plan, results) != 0 ? 1 : show(&plan, &report);
    for (unsigned i = 0; i < plan.name_count; i++)
        trace_sequence_close(&results[i].sequence);
    free(results);
    return code;
}
