/* SPDX-License-Identifier: MIT */
/* `clockpool-bench list`: what there is to choose from. */
#include "commands.h"

#include "plan.h"
#include "report/page.h"

#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

static const char help_text[] = "usage: clockpool-bench list [--json]\n"
                                "\n"
                                "Print the engines (with version, or what is missing), workloads, "
                                "distributions, ways of access\n"
                                "and advice that `clockpool-bench run` accepts.\n"
                                "\n"
                                "  --json   the same as JSON (default: text)\n"
                                "  --help   this text\n"
                                "\n"
                                "exit status: 0 printed; 1 it could not be; 2 wrong usage\n"
                                "\n"
                                "example: clockpool-bench list --json\n";

static const char *const workload_texts[BENCH_WORKLOAD_COUNT] = {
    "read 8 bytes of a random page",
    "read pages in order, every byte, each thread its own part",
    "change 104 bytes of a random page in place; not durable",
    "the same, durable when it returns",
    "the same, durable within 100 ms or so, in order; each engine's class is printed",
    "read-random, with a share of durable commits (--write-share)",
    "time to open after a kill, by the size of the log (--log-size)",
};
static const char *const access_texts[3] = {
    "without a latch where the engine can (pool), else by copy",
    "pin and latch shared, read, release",
    "as fix, several pages in one call (--batch, or the depth)",
};
static const char *const advice_texts[3] = {
    "no read-ahead: the fair choice for random access",
    "the kernel's default",
    "much read-ahead",
};
static const char *const dist_names[2] = {"uniform", "zipf:THETA"};
static const char *const dist_texts[2] = {
    "every page as likely as any other",
    "page of rank k with probability proportional to 1/k^THETA, ranks spread over the file",
};

static void print_group(const char *title, const char *const *names, const char *const *texts,
                        unsigned count)
{
    printf("\n%s\n", title);
    for (unsigned i = 0; i < count; i++)
        printf("  %-14s %s\n", names[i], texts[i]);
}

static void print_text(void)
{
    printf("engines\n");
    for (unsigned i = 0; bench_engine_at(i) != NULL; i++) {
        const struct bench_engine *engine = bench_engine_at(i);
        printf("  %-14s %s\n", engine->name, engine->summary);
        if (engine->not_built != NULL)
            printf("  %-14s %s\n", "", engine->not_built);
        else
            printf("  %-14s %s; %s\n", "", engine->version(),
                   engine->deep ? "many reads in flight from one thread" : "depth 1 only");
    }
    print_group("workloads", bench_workload_names, workload_texts, BENCH_WORKLOAD_COUNT);
    print_group("distributions", dist_names, dist_texts, 2);
    print_group("access", bench_access_names, access_texts, 3);
    print_group("advice", bench_advice_names, advice_texts, 3);
    printf("\nreports\n  %-14s %s\n", report_charts() != NULL ? "charts" : "no charts",
           report_charts() != NULL ? report_charts() : REPORT_NO_CHARTS);
}

static json_t *group_json(const char *const *names, const char *const *texts, unsigned count)
{
    json_t *array = json_array();
    for (unsigned i = 0; i < count; i++)
        json_array_append_new(array, json_pack("{s:s,s:s}", "name", names[i], "summary", texts[i]));
    return array;
}

static void print_json(void)
{
    json_t *engines = json_array();
    for (unsigned i = 0; bench_engine_at(i) != NULL; i++) {
        const struct bench_engine *engine = bench_engine_at(i);
        bool built = engine->not_built == NULL;
        json_array_append_new(
            engines, json_pack("{s:s,s:s,s:b,s:s?,s:s?,s:b}", "name", engine->name, "summary",
                               engine->summary, "built", built, "not_built", engine->not_built,
                               "version", built ? engine->version() : NULL, "deep", engine->deep));
    }
    json_t *root =
        json_pack("{s:o,s:o,s:o,s:o,s:o,s:s?}", "engines", engines, "workloads",
                  group_json(bench_workload_names, workload_texts, BENCH_WORKLOAD_COUNT), "dists",
                  group_json(dist_names, dist_texts, 2), "accesses",
                  group_json(bench_access_names, access_texts, 3), "advice",
                  group_json(bench_advice_names, advice_texts, 3), "charts", report_charts());
    json_dumpf(root, stdout, JSON_INDENT(2));
    printf("\n");
    json_decref(root);
}

int bench_list_main(int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    bool json = false;
    int id;
    optind = 1;
    opterr = 0;
    while ((id = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (id == 'h') {
            fputs(help_text, stdout);
            return 0;
        }
        if (id != 'j') {
            fprintf(stderr, "clockpool-bench list: unknown option %s; accepted: --json, --help\n",
                    argv[optind - 1]);
            return 2;
        }
        json = true;
    }
    if (optind < argc) {
        fprintf(stderr, "clockpool-bench list: \"%s\" is not an option; accepted: --json, --help\n",
                argv[optind]);
        return 2;
    }
    if (json)
        print_json();
    else
        print_text();
    return 0;
}
