/* SPDX-License-Identifier: MIT */
/* `clockpool-bench compare`: two files of results, and whether the new one is bad enough to fail.
 */
#include "commands.h"

#include "compare.h"

#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char help_text[] =
    "usage: clockpool-bench compare OLD.json NEW.json [options]\n"
    "\n"
    "Compare the results of two runs, row by row: those of the same engine, workload,\n"
    "distribution, access, threads, depth, size, memory and whatever else was asked for (page\n"
    "size, log, rate, batch, write share, advice). Ratios are new over old. A difference smaller\n"
    "than the repetitions' own range is marked as not resolved.\n"
    "\n"
    "  --fail-if COND   METRIC>RATIO or METRIC<RATIO, several separated by commas; may be given\n"
    "                   repeatedly. When any row is so, the exit status is 1 and the row is\n"
    "                   named, resolved or not. A row that has the metric in OLD, and in NEW\n"
    "                   failed or is not there, is so, too.\n"
    "                   Metrics: ops, p50, p99, p999, max, cpu, mem (the peak), open (recover)\n"
    "  --json           print JSON instead of tables\n"
    "  --help           this text\n"
    "\n"
    "exit status: 0 compared; 1 a condition of --fail-if was met, or the result could not be\n"
    "printed; 2 wrong usage, a file that cannot be used, no row in common, or a condition that no\n"
    "row can be judged by\n"
    "\n"
    "examples:\n"
    "  clockpool-bench compare old.json new.json\n"
    "  clockpool-bench compare old.json new.json --fail-if 'p99>1.10,ops<0.95'\n";

struct compare_options {
    struct report_conditions conditions;
    bool json;
    const char *paths[2];
};

/* 0; 1 when help was printed; 2 after a message. */
static int parse(int argc, char **argv, struct compare_options *options)
{
    static const struct option list[] = {{"fail-if", required_argument, NULL, 'f'},
                                         {"json", no_argument, NULL, 'j'},
                                         {"help", no_argument, NULL, 'h'},
                                         {NULL, 0, NULL, 0}};
    struct bench_error error = {""};
    int id;
    optind = 1;
    opterr = 0;
    while ((id = getopt_long(argc, argv, ":", list, NULL)) != -1) {
        switch (id) {
        case 'h':
            fputs(help_text, stdout);
            return 1;
        case 'j':
            options->json = true;
            break;
        case 'f':
            if (report_conditions_add(&options->conditions, optarg, &error) == 0)
                break;
            fprintf(stderr, "clockpool-bench compare: option --fail-if: %s\n", error.text);
            return 2;
        default:
            fprintf(stderr,
                    id == ':' ? "clockpool-bench compare: option %s needs a value\n"
                              : "clockpool-bench compare: unknown option %s; accepted: --fail-if, "
                                "--json, --help\n",
                    argv[optind - 1]);
            return 2;
        }
    }
    if (argc - optind != 2) {
        fprintf(stderr,
                "clockpool-bench compare: two files are compared, %d given; see compare "
                "--help\n",
                argc - optind);
        return 2;
    }
    options->paths[0] = argv[optind];
    options->paths[1] = argv[optind + 1];
    return 0;
}

/* Equal, 1 and 1.0 too, or in neither file. */
static bool same_value(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b))
        return json_number_value(a) == json_number_value(b);
    return a == b || json_equal(a, b);
}

static char *value_name(char *text, size_t capacity, const json_t *value)
{
    if (json_is_string(value))
        snprintf(text, capacity, "%.60s", json_string_value(value));
    else if (json_is_number(value))
        snprintf(text, capacity, "%.12g", json_number_value(value));
    else
        snprintf(text, capacity, "unknown");
    return text;
}

/* What the files say of how and where they were measured, and figures depend on. */
static void warn_of_choices(const struct report_part *parts)
{
    static const struct {
        const char *name, *key;
        bool of_place;
    } choices[] = {
        {"the file system", "file_system", true},
        {"the device", "device", true},
        {"seconds", "seconds", false},
        {"repetitions", "repeat", false},
        {"the slack beside --mem", "slack_bytes", false},
    };
    for (unsigned i = 0; i < sizeof choices / sizeof *choices; i++) {
        const json_t *values[2];
        char texts[2][64];
        for (unsigned f = 0; f < 2; f++) {
            const json_t *place =
                json_object_get(json_object_get(parts[f].root, "environment"), "place");
            values[f] =
                json_object_get(choices[i].of_place ? place : parts[f].root, choices[i].key);
        }
        if (!same_value(values[0], values[1]))
            fprintf(stderr, "warning: the two files differ in %s (%s, %s)\n", choices[i].name,
                    value_name(texts[0], sizeof texts[0], values[0]),
                    value_name(texts[1], sizeof texts[1], values[1]));
    }
}

/* Figures of different machines, or without limits, say little about a change of the program. */
static void warn(const struct report_part *parts)
{
    const json_t *machines[2];
    for (unsigned i = 0; i < 2; i++) {
        machines[i] = json_object_get(json_object_get(parts[i].root, "environment"), "machine");
        if (json_is_false(json_object_get(parts[i].root, "equal_memory")))
            fprintf(stderr, "warning: %s: engines had no equal memory limit\n", parts[i].name);
    }
    if (!same_value(json_object_get(machines[0], "cpu"), json_object_get(machines[1], "cpu")) ||
        !same_value(json_object_get(machines[0], "kernel"), json_object_get(machines[1], "kernel")))
        fprintf(stderr, "warning: the two files were measured on different processors or "
                        "kernels\n");
    warn_of_choices(parts);
}

/* A pair that broke a condition, and how. */
static void name_pair(const struct report_pair *pair, const struct report_condition *condition)
{
    const struct report_difference *difference = &pair->differences[condition->metric];
    const char *metric = report_metrics[condition->metric].name;
    char text[64], name[400];
    fprintf(stderr, "%s: %s: ", report_condition_format(text, sizeof text, condition),
            report_pair_name(name, sizeof name, pair->new));
    if (pair->new->failed != NULL)
        fprintf(stderr, "failed in the new file: %s\n", pair->new->failed);
    else if (isnan(difference->ratio))
        fprintf(stderr, "has no %s in the new file\n", metric);
    else if (isinf(difference->ratio))
        fprintf(stderr, "%s was 0 and is %g\n", metric, pair->new->values[condition->metric].value);
    else
        fprintf(stderr, "%s is %.3f times the old%s\n", metric, difference->ratio,
                difference->resolution == REPORT_NOT_RESOLVED
                    ? " (not resolved: the repetitions' ranges overlap)"
                    : "");
}

/* One condition on all rows. Returns the exit status for it. */
static int check_condition(const struct report_comparison *comparison,
                           const struct report_condition *condition)
{
    char text[64], name[400];
    unsigned judged = 0, broken = 0;
    report_condition_format(text, sizeof text, condition);
    for (unsigned i = 0; i < comparison->pair_count; i++) {
        enum report_outcome outcome = report_judge(&comparison->pairs[i], condition);
        judged += outcome != REPORT_CANNOT_TELL;
        if (outcome != REPORT_BREAKS)
            continue;
        broken++;
        name_pair(&comparison->pairs[i], condition);
    }
    for (unsigned i = 0; i < comparison->lonely_count; i++) {
        if (report_judge_lonely(comparison->lonely[i], condition) != REPORT_BREAKS)
            continue;
        broken++;
        fprintf(stderr, "%s: %s: is not in the new file\n", text,
                report_pair_name(name, sizeof name, comparison->lonely[i]));
    }
    if (judged == 0 && broken == 0) {
        fprintf(stderr,
                "clockpool-bench compare: %s: no row of the old file has %s, so this can never "
                "fail\n",
                text, report_metrics[condition->metric].name);
        return 2;
    }
    return broken > 0 ? 1 : 0;
}

static int compare(const struct compare_options *options, const struct report_part *parts)
{
    struct report_comparison comparison;
    struct bench_error error = {""};
    int status = 0;
    if (report_compare(&parts[0], &parts[1], &comparison, &error) != 0) {
        fprintf(stderr, "clockpool-bench compare: %s\n", error.text);
        return 2;
    }
    warn(parts);
    if (options->json) {
        json_t *json = report_compare_json(&comparison, &parts[0], &parts[1]);
        /* Whether it was written, main looks at the end. */
        if (json == NULL || (json_dumpf(json, stdout, JSON_INDENT(2)) != 0 && !ferror(stdout))) {
            fprintf(stderr, "clockpool-bench compare: out of memory while writing JSON\n");
            status = 2;
        }
        printf("\n");
        json_decref(json);
    } else {
        report_compare_print(stdout, &comparison);
    }
    for (unsigned i = 0; i < options->conditions.count; i++) {
        int found = check_condition(&comparison, &options->conditions.list[i]);
        status = found > status ? found : status;
    }
    report_comparison_fini(&comparison);
    return status;
}

int bench_compare_main(int argc, char **argv)
{
    struct compare_options options = {0};
    struct report_part parts[2] = {{0}};
    struct bench_error error = {""};
    int status = parse(argc, argv, &options);
    if (status != 0)
        return status == 1 ? 0 : status;
    for (unsigned i = 0; i < 2 && status == 0; i++) {
        parts[i].name = options.paths[i];
        if (report_load(parts[i].name, &parts[i].root, &error) != 0) {
            fprintf(stderr, "clockpool-bench compare: %s\n", error.text);
            status = 2;
        }
    }
    if (status == 0)
        status = compare(&options, parts);
    json_decref(parts[0].root);
    json_decref(parts[1].root);
    return status;
}
