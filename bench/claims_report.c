/* SPDX-License-Identifier: MIT */
/* What `claims` prints: rules first, then figures and verdicts; and the same as JSON. */
#include "claims.h"

#include "environment.h"
#include "json_file.h"
#include "results.h"

#include <clockpool/clockpool.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define COLUMNS 100u

/* Print text in lines of at most COLUMNS, all after the first indented as title is long. */
static void print_wrapped(const char *title, const char *text)
{
    const size_t indent = strlen(title);
    size_t column = indent;
    fputs(title, stdout);
    while (*text != '\0') {
        const size_t length = strcspn(text, " ");
        if (column > indent && column + 1 + length > COLUMNS) {
            printf("\n%*s", (int)indent, "");
            column = indent;
        } else if (column > indent) {
            putchar(' ');
            column++;
        }
        column += (size_t)printf("%.*s", (int)length, text);
        text += length + (text[length] == ' ');
    }
    putchar('\n');
}

void claims_print_rules(const struct claims *claims)
{
    const struct claims_plan *plan = claims->plan;
    char size[32], mem[32];
    printf("%s of data on %s of memory, pages of 4 KiB, uniform; %u repetitions, engines in turn; "
           "seed %" PRIu64 "\n",
           bench_format_size(size, sizeof size, plan->size_bytes),
           bench_format_size(mem, sizeof mem, plan->mem_bytes), CLAIMS_REPEAT, plan->seed);
    printf("\nThe rules, settled beforehand. A claim is supported when\n");
    for (unsigned i = 0; i < CLAIMS_COUNT; i++) {
        char title[8];
        snprintf(title, sizeof title, "  %u  ", i + 1);
        print_wrapped(title, claims_rules_texts[i]);
    }
    print_wrapped("  ", "The margin is 10 %, or the sum of both engines' spreads where that is "
                        "more. Medians of the repetitions; the spread is half the range over the "
                        "median.");
    fflush(stdout);
}

/* All engines' values of the figure at first, in a line. */
static void print_figure(const struct claims_claim *claim, unsigned first)
{
    const struct claims_figure *figure = &claim->figures[first];
    char title[96];
    if (figure->unit[0] != '\0')
        snprintf(title, sizeof title, "%s, %s", figure->name, figure->unit);
    else
        snprintf(title, sizeof title, "%s", figure->name);
    printf("   %-50s", title);
    for (unsigned i = first; i < claim->figure_count; i++) {
        char value[32];
        const struct claims_figure *other = &claim->figures[i];
        if (strcmp(other->name, figure->name) != 0)
            continue;
        if (other->value >= 1000 || other->value == (double)(int64_t)other->value)
            bench_format_thousands(value, sizeof value, other->value);
        else
            snprintf(value, sizeof value, "%.3g", other->value);
        printf("  %s %s", other->engine, value);
        if (other->spread > 0)
            printf(" ±%.0f%%", other->spread * 100);
    }
    putchar('\n');
}

static bool seen_before(const struct claims_claim *claim, unsigned index)
{
    for (unsigned i = 0; i < index; i++)
        if (strcmp(claim->figures[i].name, claim->figures[index].name) == 0)
            return true;
    return false;
}

static void print_claim(const struct claims_claim *claim, unsigned index)
{
    char title[48];
    snprintf(title, sizeof title, "\n%u  ", index + 1);
    print_wrapped(title, claims_texts[index]);
    for (unsigned i = 0; i < claim->figure_count; i++)
        if (!seen_before(claim, i))
            print_figure(claim, i);
    snprintf(title, sizeof title, "   %s: ", claims_verdict_names[claim->verdict]);
    print_wrapped(title, claim->reason);
}

void claims_print(const struct claims *claims)
{
    for (unsigned i = 0; i < CLAIMS_COUNT; i++)
        print_claim(&claims->claims[i], i);
    if (!claims->equal_memory)
        printf("\nNOT AN EQUAL COMPARISON: no memory limit could be set (%s).\n",
               claims->equal_reason);
}

static json_t *figures_json(const struct claims_claim *claim)
{
    json_t *array = json_array();
    for (unsigned i = 0; i < claim->figure_count; i++) {
        const struct claims_figure *figure = &claim->figures[i];
        json_array_append_new(array, json_pack("{s:s,s:s,s:f,s:s,s:f}", "name", figure->name,
                                               "engine", figure->engine, "value", figure->value,
                                               "unit", figure->unit, "spread", figure->spread));
    }
    return array;
}

/* A repetition of the first experiment: over time, and what it is judged by, so that the verdict
 * can be found again. */
static json_t *repetition_json(const struct claims *claims, unsigned engine, unsigned repetition)
{
    const struct bench_cell_result *result = &claims->over_time[engine].results[repetition];
    struct claims_once_full figures;
    json_t *object = json_pack("{s:s,s:i,s:n,s:n,s:n,s:o}", "engine", claims_engine_names[engine],
                               "repetition", (int)repetition + 1, "full_s", "cv", "p999_full_us",
                               "series", bench_series_json(&result->series));
    if (claims_find_once_full(result, (double)claims->plan->mem_bytes, &figures)) {
        json_object_set_new(object, "full_s", json_real(figures.full_s));
        json_object_set_new(object, "cv", json_real(figures.cv));
        json_object_set_new(object, "p999_full_us", json_real(figures.p999_us));
    }
    return object;
}

/* Of the first experiment: each repetition of each engine. */
static json_t *over_time_json(const struct claims *claims)
{
    json_t *array = json_array();
    for (unsigned e = 0; e < CLAIMS_ENGINES; e++)
        for (unsigned i = 0; i < claims->over_time[e].count; i++)
            json_array_append_new(array, repetition_json(claims, e, i));
    return array;
}

json_t *claims_json(const struct claims *claims)
{
    const struct claims_plan *plan = claims->plan;
    json_t *array = json_array();
    for (unsigned i = 0; i < CLAIMS_COUNT; i++) {
        const struct claims_claim *claim = &claims->claims[i];
        json_array_append_new(array,
                              json_pack("{s:i,s:s,s:s,s:s,s:o,s:s}", "id", (int)i + 1, "claim",
                                        claims_texts[i], "rule", claims_rules_texts[i], "verdict",
                                        claims_verdict_names[claim->verdict], "figures",
                                        figures_json(claim), "reason", claim->reason));
    }
    json_object_set_new(json_array_get(array, 0), "over_time", over_time_json(claims));
    return bench_json_root(
        json_pack("{s:o,s:b,s:s,s:I,s:I,s:I,s:I,s:f,s:i,s:o}", "environment",
                  bench_environment_json(&claims->place), "equal_memory", claims->equal_memory,
                  "equal_memory_reason", claims->equal_reason, "slack_bytes",
                  (json_int_t)plan->slack_bytes, "size_bytes", (json_int_t)plan->size_bytes,
                  "mem_bytes", (json_int_t)plan->mem_bytes, "seed", (json_int_t)plan->seed,
                  "seconds", plan->seconds, "repeat", (int)CLAIMS_REPEAT, "claims", array));
}
