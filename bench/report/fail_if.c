/* SPDX-License-Identifier: MIT */
/* Parsing conditions. */
#include "fail_if.h"

#include "units.h"

#include <ctype.h>
#include <string.h>

#define METRIC_NAMES "ops, p50, p99, p999, max, cpu, mem, open"

/* The word that begins at text, without blanks around it. */
static void trim(const char *text, size_t length, char *out_word, size_t capacity)
{
    while (length > 0 && isspace((unsigned char)*text)) {
        text++;
        length--;
    }
    while (length > 0 && isspace((unsigned char)text[length - 1]))
        length--;
    snprintf(out_word, capacity, "%.*s", (int)length, text);
}

static int find_metric(const char *name)
{
    for (int i = 0; i < REPORT_METRIC_COUNT; i++)
        if (strcmp(name, report_metrics[i].name) == 0 || strcmp(name, report_metrics[i].field) == 0)
            return i;
    return -1;
}

static int parse_one(const char *text, struct report_condition *out_condition,
                     struct bench_error *error)
{
    size_t length = strlen(text), sign = strcspn(text, "<>");
    char name[64], number[64];
    double ratio;
    if (sign == length)
        return bench_fail(error,
                          "\"%s\" is not a condition; use METRIC>RATIO or METRIC<RATIO, as in "
                          "p99>1.10",
                          text);
    trim(text, sign, name, sizeof name);
    trim(text + sign + 1, length - sign - 1, number, sizeof number);
    int metric = find_metric(name);
    if (metric < 0)
        return bench_fail(error, "\"%s\": there is no metric \"%s\"; there are " METRIC_NAMES, text,
                          name);
    if (!bench_parse_real(number, 0, 1e9, &ratio) || !(ratio > 0))
        return bench_fail(error, "\"%s\": \"%s\" is not a ratio above 0, such as 1.10", text,
                          number);
    *out_condition =
        (struct report_condition){(enum report_metric)metric, text[sign] == '>', ratio};
    return 0;
}

int report_conditions_add(struct report_conditions *conditions, const char *text,
                          struct bench_error *error)
{
    struct report_conditions added = *conditions;
    char copy[1000], *items[REPORT_CONDITIONS_MAX];
    if (strlen(text) >= sizeof copy)
        return bench_fail(error, "a condition of %zu letters is too long", strlen(text));
    snprintf(copy, sizeof copy, "%s", text);
    unsigned count = bench_split_list(copy, items, REPORT_CONDITIONS_MAX);
    if (count == 0)
        return bench_fail(error, "\"%s\": use METRIC>RATIO or METRIC<RATIO, separated by commas",
                          text);
    for (unsigned i = 0; i < count; i++) {
        if (added.count == REPORT_CONDITIONS_MAX)
            return bench_fail(error, "more than %u conditions", REPORT_CONDITIONS_MAX);
        if (parse_one(items[i], &added.list[added.count++], error) != 0)
            return -1;
    }
    *conditions = added;
    return 0;
}

bool report_condition_holds(const struct report_condition *condition, double ratio)
{
    return condition->greater ? ratio > condition->ratio : ratio < condition->ratio;
}

char *report_condition_format(char *text, size_t capacity, const struct report_condition *condition)
{
    snprintf(text, capacity, "%s%c%g", report_metrics[condition->metric].name,
             condition->greater ? '>' : '<', condition->ratio);
    return text;
}
