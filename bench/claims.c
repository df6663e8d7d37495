/* SPDX-License-Identifier: MIT */
/*
 * `clockpool-bench claims`: are the project's four claims true on this machine?
 *
 * Four experiments, and for each a verdict by a rule that was printed before anything was measured.
 * What cannot be measured fairly here is "not measured", with the reason, rather than guessed.
 */
#include "commands.h"

#include "cgroup.h"
#include "claims.h"
#include "common/signals.h"
#include "crash/fuse_recorder.h"
#include "environment.h"
#include "file.h"
#include "json_file.h"
#include "options.h"
#include "plan.h"

#include <clockpool/base/bits.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char help_text[] =
    "usage: clockpool-bench claims [options]\n"
    "\n"
    "Measure what stands behind the question of running one's own pool, pool against mmap:\n"
    "  1  predictability: throughput from an empty cache on, across the moment memory is full\n"
    "  2  page writes ahead of the log, seen from outside (FUSE)\n"
    "  3  latency at a fixed rate of arrivals; page faults and requests\n"
    "  4  memory charged for the same hits; the second copy in the page cache\n"
    "Prints the rules of the verdicts, then for each claim the figures, \"supported\", \"not\n"
    "supported here\" or \"not measured\", and why. The defaults take 3 to 4 minutes.\n"
    "\n"
    "  --size SIZE     bytes of data, at least twice the memory (1G)\n"
    "  --mem SIZE      bytes of memory for each engine, 2M or more (256M)\n"
    "  --seconds S     length of a measurement over time; the others are parts of it (10)\n"
    "  --quick         --size 256M --mem 64M --seconds 3: a look, about one minute\n"
    "  --dir DIR       where to work, on a real file system ($TMPDIR, /var/tmp or .)\n"
    "  --json FILE     write figures, verdicts and environment to FILE; - is standard output,\n"
    "                  without the text\n"
    "  --seed N        of the page sequences and the content (1)\n"
    "  --quiet         no progress\n"
    "  --help          this text\n"
    "\n"
    "exit status: 0 done, whatever the verdicts; 1 something failed; 2 wrong usage\n"
    "\n"
    "examples:\n"
    "  clockpool-bench claims --json claims.json\n"
    "  clockpool-bench claims --quick\n"
    "  clockpool-bench claims --size 8G --mem 1G --seconds 60\n";

#define THREADS_OVER_TIME 8u
#define THREADS_LATENCY   16u /* enough that a slow read delays few others */
#define THREADS_MEMORY    8u
/* Parts of --seconds. */
#define CAPACITY_PART 0.3
#define LATENCY_PART  0.6
#define MEMORY_PART   0.2

/* For the estimate of the time left only. */
#define CREATE_BYTES_PER_S 300e6
#define WARM_BYTES_PER_S   100e6
#define ORDER_SECONDS      2.0

/* ---- the command line
 * ------------------------------------------------------------------------------------- */

enum option_id {
    OPT_SIZE = 256,
    OPT_MEM,
    OPT_SECONDS,
    OPT_QUICK,
    OPT_SEED,
};

static const struct option option_list[] = {
    {"size", required_argument, NULL, OPT_SIZE},
    {"mem", required_argument, NULL, OPT_MEM},
    {"seconds", required_argument, NULL, OPT_SECONDS},
    {"quick", no_argument, NULL, OPT_QUICK},
    {"dir", required_argument, NULL, BENCH_OPT_DIR},
    {"json", required_argument, NULL, BENCH_OPT_JSON},
    {"seed", required_argument, NULL, OPT_SEED},
    {"quiet", no_argument, NULL, BENCH_OPT_QUIET},
    {"help", no_argument, NULL, BENCH_OPT_HELP},
    {NULL, 0, NULL, 0},
};

static bool take_option(void *ctx, int id, char *value)
{
    struct claims_plan *plan = ctx;

    switch ((enum option_id)id) {
    case OPT_SIZE:
        return bench_parse_size(value, &plan->size_bytes);
    case OPT_MEM:
        return bench_parse_size(value, &plan->mem_bytes);
    case OPT_SECONDS:
        return bench_parse_real(value, 0.1, 86400, &plan->seconds);
    case OPT_SEED:
        return bench_parse_number(value, 0, UINT64_MAX >> 1, &plan->seed);
    case OPT_QUICK:
        plan->size_bytes = UINT64_C(256) << 20;
        plan->mem_bytes = UINT64_C(64) << 20;
        plan->seconds = 3;
        return true;
    }
    return false;
}

static const struct bench_options options = {"claims", option_list, take_option};

static int parse(struct claims_plan *plan, int argc, char **argv)
{
    int code = bench_options_parse(&options, plan, &plan->common, argc, argv);
    if (code == 0)
        code = bench_options_check_mem(&options, plan->mem_bytes);
    if (code != 0)
        return code;
    plan->size_bytes = cp_align_down(plan->size_bytes, CLAIMS_PAGE_SIZE);
    if (plan->size_bytes / 2 < plan->mem_bytes)
        return bench_options_wrong(
            &options, "--size must be at least twice --mem: otherwise nothing is evicted", "");
    return 0;
}

/* ---- experiments
 * ------------------------------------------------------------------------------------------ */

static double warm_seconds(const struct claims *claims)
{
    return 0.5 + (double)claims->plan->mem_bytes / WARM_BYTES_PER_S;
}

static double planned_seconds(const struct claims *claims)
{
    const double seconds = claims->plan->seconds, warm = warm_seconds(claims);
    return (double)claims->plan->size_bytes / CREATE_BYTES_PER_S +
           2 * CLAIMS_REPEAT * (seconds + 0.5) + 2 * (CAPACITY_PART * seconds + warm) +
           2 * CLAIMS_REPEAT * (LATENCY_PART * seconds + warm) +
           CLAIMS_ENGINES * CLAIMS_REPEAT * (MEMORY_PART * seconds + warm) + 3 * ORDER_SECONDS;
}

/* A claim that could not be measured because something failed. */
static void fail_claim(struct claims *claims, unsigned index, const char *engine)
{
    struct claims_claim *claim = &claims->claims[index];
    claim->verdict = CLAIMS_NOT_MEASURED;
    snprintf(claim->reason, sizeof claim->reason, "%s failed: %s", engine, claims->error.text);
    if (signals_caught() == 0)
        bench_progress_note(&claims->progress, "FAILED: claim %u, %s", index + 1, claim->reason);
    claims->failed = true;
}

/*
 * All repetitions of the first engine_count engines, in turn; who begins changes. 0, or -1 and the
 * claim has failed.
 */
static int run_turns(struct claims *claims, unsigned index, const struct claims_turn *like,
                     unsigned engine_count, struct claims_turns *turns)
{
    for (unsigned repeat = 0; repeat < CLAIMS_REPEAT; repeat++)
        for (unsigned i = 0; i < engine_count; i++) {
            const unsigned engine = (i + repeat) % engine_count;
            struct claims_turn turn = *like;
            turn.engine = (enum claims_engine)engine;
            turn.repeat = repeat;
            bench_progress_step(&claims->progress,
                                turn.seconds + (turn.cold ? 0.5 : warm_seconds(claims)),
                                "claim %u, turn %u of %u, %s", index + 1, repeat + 1, CLAIMS_REPEAT,
                                claims_engine_names[engine]);
            if (signals_caught() != 0 ||
                claims_run_turn(claims, &turn, &turns[engine].results[repeat]) != 0) {
                fail_claim(claims, index, claims_engine_names[engine]);
                return -1;
            }
            turns[engine].count = repeat + 1;
        }
    return 0;
}

static void measure_predictability(struct claims *claims)
{
    const struct claims_turn turn = {
        .cold = true, .threads = THREADS_OVER_TIME, .seconds = claims->plan->seconds};
    if (run_turns(claims, 0, &turn, 2, claims->over_time) == 0)
        claims_conclude_predictability(&claims->claims[0], claims->over_time,
                                       claims->plan->mem_bytes);
}

static void measure_log_order(struct claims *claims)
{
    static struct order_result results[ORDER_ENGINES];
    struct order_settings settings = ORDER_SETTINGS_DEFAULT;
    settings.seed = claims->plan->seed;
    settings.dir = claims->plan->common.dir;
    settings.no_fuse = crash_fuse_unavailable();
    for (unsigned i = 0; i < ORDER_ENGINES && signals_caught() == 0; i++) {
        if (order_engines[i].in_place && settings.no_fuse != NULL)
            continue;
        bench_progress_step(&claims->progress, ORDER_SECONDS, "claim 2, %s", order_engines[i].name);
        if (order_measure(&settings, &order_engines[i], &results[i], claims->error.text,
                          sizeof claims->error.text) != 0) {
            fail_claim(claims, 1, order_engines[i].name);
            return;
        }
    }
    claims_conclude_log_order(&claims->claims[1], results, settings.no_fuse);
}

/* The rate to offer: a share of what the slower engine does when it is never without work. */
static int choose_rate(struct claims *claims, double *capacity, uint64_t *out_rate)
{
    static struct bench_cell_result result; /* static: large */
    for (unsigned e = 0; e < 2; e++) {
        const struct claims_turn turn = {.engine = (enum claims_engine)e,
                                         .threads = THREADS_LATENCY,
                                         .seconds = CAPACITY_PART * claims->plan->seconds};
        bench_progress_step(&claims->progress, turn.seconds + warm_seconds(claims),
                            "claim 3, choosing the rate, %s", claims_engine_names[e]);
        if (signals_caught() != 0 || claims_run_turn(claims, &turn, &result) != 0) {
            fail_claim(claims, 2, claims_engine_names[e]);
            return -1;
        }
        capacity[e] = result.ops_per_s;
    }
    const double slower = capacity[0] < capacity[1] ? capacity[0] : capacity[1];
    *out_rate = cp_max_u64(1, (uint64_t)(slower * CLAIMS_RATE_SHARE));
    return 0;
}

static void measure_latency(struct claims *claims)
{
    static struct claims_turns turns[CLAIMS_ENGINES];
    double capacity[2];
    struct claims_turn turn = {.threads = THREADS_LATENCY,
                               .seconds = LATENCY_PART * claims->plan->seconds};
    if (choose_rate(claims, capacity, &turn.rate) != 0)
        return;
    if (run_turns(claims, 2, &turn, 2, turns) == 0)
        claims_conclude_latency(&claims->claims[2], turns, capacity, turn.rate, THREADS_LATENCY);
}

static void measure_memory(struct claims *claims)
{
    static struct claims_turns turns[CLAIMS_ENGINES];
    const struct claims_turn turn = {.threads = THREADS_MEMORY,
                                     .seconds = MEMORY_PART * claims->plan->seconds};
    if (run_turns(claims, 3, &turn, CLAIMS_ENGINES, turns) == 0)
        claims_conclude_memory(&claims->claims[3], turns, claims->plan);
}

/* ---- all of it
 * ----------------------------------------------------------------------------------------- */

/* Why the experiments on a data set would prove nothing here; empty: they would. */
static void find_obstacle(struct claims *claims, char *text, size_t capacity)
{
    char parent[PATH_MAX];
    int version;
    struct bench_error reason = {""};
    claims->equal_memory = bench_cgroup_probe(&version, parent, sizeof parent, &reason) == 0;
    text[0] = '\0';
    if (!claims->equal_memory) {
        snprintf(claims->equal_reason, sizeof claims->equal_reason, "%s", reason.text);
        snprintf(text, capacity,
                 "no memory limit can be set (%.500s): the mapping could use all the machine's "
                 "memory",
                 reason.text);
    } else if (claims->place.in_memory) {
        snprintf(text, capacity, "%.500s is a %s: no device is behind it, and reads cost nothing",
                 claims->place.path, claims->place.type);
    }
}

static void run_experiments(struct claims *claims)
{
    static const unsigned on_data[] = {0, 2, 3};
    char obstacle[700];
    find_obstacle(claims, obstacle, sizeof obstacle);
    for (unsigned i = 0; obstacle[0] != '\0' && i < 3; i++)
        snprintf(claims->claims[on_data[i]].reason, sizeof claims->claims->reason, "%s", obstacle);
    if (obstacle[0] == '\0') {
        bench_progress_step(&claims->progress,
                            (double)claims->plan->size_bytes / CREATE_BYTES_PER_S,
                            "creating the data and reading it through");
        if (claims_make_data(claims) != 0) {
            for (unsigned i = 0; i < 3; i++)
                fail_claim(claims, on_data[i], "creating the data");
            obstacle[0] = '!';
        }
    }
    if (obstacle[0] == '\0')
        measure_predictability(claims);
    if (signals_caught() == 0)
        measure_log_order(claims);
    if (obstacle[0] == '\0' && signals_caught() == 0)
        measure_latency(claims);
    if (obstacle[0] == '\0' && signals_caught() == 0)
        measure_memory(claims);
}

/* Is there room for it? 0, or -1 with claims->error. */
static int check_room(struct claims *claims)
{
    const struct claims_plan *plan = claims->plan;
    const uint64_t disk =
        bench_engine_pool.disk_bytes(plan->size_bytes / CLAIMS_PAGE_SIZE, CLAIMS_PAGE_SIZE);
    char need[32];
    if (disk > claims->place.free_bytes)
        return bench_fail(&claims->error,
                          "not enough disk space in %s: %s needed; use --dir or a "
                          "smaller --size",
                          claims->place.path, bench_format_size(need, sizeof need, disk));
    return bench_memory_check(plan->mem_bytes + plan->slack_bytes, &claims->error);
}

static int write_json(struct claims *claims)
{
    json_t *root = claims_json(claims);
    int result = bench_json_write(claims->plan->common.json, root, &claims->error);
    json_decref(root);
    return result;
}

static int run_claims(struct claims *claims)
{
    const struct claims_plan *plan = claims->plan;
    const bool json_only = plan->common.json != NULL && strcmp(plan->common.json, "-") == 0;
    if (bench_place_choose(plan->common.dir, &claims->place, &claims->error) != 0 ||
        check_room(claims) != 0 ||
        bench_scratch_create(&claims->place, claims->scratch, sizeof claims->scratch,
                             &claims->error) != 0) {
        fprintf(stderr, "clockpool-bench claims: %s\n", claims->error.text);
        return 2;
    }
    if (!json_only)
        claims_print_rules(claims);
    bench_progress_begin(&claims->progress, plan->common.quiet, planned_seconds(claims));
    run_experiments(claims);
    bench_remove_tree(claims->scratch);
    bench_progress_end(&claims->progress);
    if (signals_caught() != 0)
        return 1;
    if (!json_only)
        claims_print(claims);
    if (plan->common.json != NULL && write_json(claims) != 0) {
        fprintf(stderr, "clockpool-bench claims: %s\n", claims->error.text);
        return 1;
    }
    return claims->failed ? 1 : 0;
}

int bench_claims_main(int argc, char **argv)
{
    static struct claims_plan plan = {.size_bytes = UINT64_C(1) << 30,
                                      .mem_bytes = UINT64_C(256) << 20,
                                      .seed = 1,
                                      .seconds = 10};
    static struct bench_plan defaults; /* static, as the next: large */
    static struct claims claims = {.plan = &plan};
    int code = parse(&plan, argc, argv);
    if (code != 0)
        return code;
    if (plan.common.help) {
        fputs(help_text, stdout);
        return 0;
    }
    if (bench_file_check_option("claims", "--json", plan.common.json) != 0)
        return 2;
    bench_plan_defaults(&defaults); /* the same slack as `run` */
    plan.slack_bytes = defaults.slack_bytes;
    signals_catch();
    int status = run_claims(&claims);
    if (signals_caught() != 0) {
        fprintf(stderr, "\nclockpool-bench: interrupted; everything it made has been removed\n");
        signals_raise_again();
    }
    return status;
}
