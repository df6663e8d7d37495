/* SPDX-License-Identifier: MIT */
/* A comparison as a table and as JSON. */
#include "compare.h"

#include "figure.h"
#include "json_file.h"
#include "units.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Ratios after the first one, which has a column of its own. */
static const enum report_metric others[] = {REPORT_P50, REPORT_P99, REPORT_P999,
                                            REPORT_MAX, REPORT_CPU, REPORT_PEAK};
#define OTHERS (sizeof others / sizeof *others)

/* "1.05", "1.05~" where it is not resolved, "1.05?" where nobody knows, "-". */
static char *ratio_text(char *text, size_t capacity, const struct report_difference *difference)
{
    static const char *const marks[] = {"?", " ", "~"};
    if (isnan(difference->ratio))
        snprintf(text, capacity, "- ");
    else
        snprintf(text, capacity, "%.2f%s", difference->ratio, marks[difference->resolution]);
    return text;
}

static void print_heading(FILE *out, const struct report_row *row)
{
    char heading[400];
    fprintf(out, "\n%s\n\n", report_row_heading(heading, sizeof heading, row));
    fprintf(out, "%-12s %-10s %4s %5s %12s %12s %8s", "engine",
            report_row_recovers(row) ? "log" : "access", "thr", "depth",
            report_row_recovers(row) ? "open s, old" : "ops/s, old", "new", "ratio ");
    for (unsigned i = 0; i < OTHERS; i++)
        fprintf(out, " %8s%s", report_metrics[others[i]].title, i + 1 < OTHERS ? "" : "\n");
}

static void print_pair(FILE *out, const struct report_pair *pair)
{
    enum report_metric first = report_row_recovers(pair->old) ? REPORT_OPEN : REPORT_OPS;
    char old[40], new[40], ratio[40], way[40];
    /* Rows of recover are told apart by the size of the log, and all are opened the same way. */
    if (pair->old->log_size_bytes > 0)
        bench_format_size(way, sizeof way, (uint64_t)pair->old->log_size_bytes);
    else
        snprintf(way, sizeof way, "%.38s", pair->old->access);
    fprintf(out, "%-12s %-10s %4u %5u", pair->old->engine, way, pair->old->threads,
            pair->old->depth);
    if (pair->old->failed != NULL || pair->new->failed != NULL) {
        fprintf(out, " failed in %s: %s\n",
                pair->old->failed == NULL   ? "the new file"
                : pair->new->failed == NULL ? "the old file"
                                            : "both files",
                pair->new->failed != NULL ? pair->new->failed : pair->old->failed);
        return;
    }
    fprintf(out, " %12s %12s %8s",
            report_format(old, sizeof old, "us", pair->old->values[first].value),
            report_format(new, sizeof new, "us", pair->new->values[first].value),
            ratio_text(ratio, sizeof ratio, &pair->differences[first]));
    for (unsigned i = 0; i < OTHERS; i++)
        fprintf(out, " %8s", ratio_text(ratio, sizeof ratio, &pair->differences[others[i]]));
    fprintf(out, "\n");
}

/* Of one group; what files they are of is no matter here. */
static bool same_heading(const struct report_row *a, const struct report_row *b)
{
    char left[400], right[400];
    return strcmp(report_row_heading(left, sizeof left, a),
                  report_row_heading(right, sizeof right, b)) == 0;
}

void report_compare_print(FILE *out, const struct report_comparison *comparison)
{
    char name[400];
    for (unsigned i = 0; i < comparison->pair_count; i++) {
        bool printed = false;
        for (unsigned j = 0; j < i && !printed; j++)
            printed = same_heading(comparison->pairs[j].old, comparison->pairs[i].old);
        if (printed)
            continue;
        print_heading(out, comparison->pairs[i].old);
        for (unsigned j = i; j < comparison->pair_count; j++)
            if (same_heading(comparison->pairs[j].old, comparison->pairs[i].old))
                print_pair(out, &comparison->pairs[j]);
    }
    fprintf(out, "\nRatios are new over old. ~: not resolved, the repetitions' ranges overlap.\n"
                 "?: a file has no range to tell by, as that of one repetition.\n");
    for (unsigned i = 0; i < comparison->lonely_count; i++)
        fprintf(out, "only in the %s file: %s\n", comparison->lonely[i]->part == 0 ? "old" : "new",
                report_pair_name(name, sizeof name, comparison->lonely[i]));
}

static json_t *value_json(const struct report_value *value)
{
    return json_pack("{s:o,s:o,s:o}", "value", report_number(value->value), "min",
                     report_number(value->min), "max", report_number(value->max));
}

static json_t *row_json(const struct report_row *row)
{
    json_t *json = json_pack("{s:s,s:s,s:s,s:s,s:i,s:i,s:I,s:I}", "engine", row->engine, "workload",
                             row->workload, "dist", row->dist, "access", row->access, "threads",
                             (int)row->threads, "depth", (int)row->depth, "size_bytes",
                             (json_int_t)row->size_bytes, "mem_bytes", (json_int_t)row->mem_bytes);
    if (!isnan(row->log_size_bytes))
        json_object_set_new(json, "log_size_bytes", json_integer((json_int_t)row->log_size_bytes));
    if (!isnan(row->rate))
        json_object_set_new(json, "rate", json_integer((json_int_t)row->rate));
    if (!isnan(row->batch))
        json_object_set_new(json, "batch", json_integer((json_int_t)row->batch));
    if (!isnan(row->write_share))
        json_object_set_new(json, "write_share", json_real(row->write_share));
    if (row->advice != NULL)
        json_object_set_new(json, "advice", json_string(row->advice));
    return json;
}

static json_t *pair_json(const struct report_pair *pair)
{
    json_t *json = row_json(pair->old), *metrics = json_object();
    for (unsigned m = 0; m < REPORT_METRIC_COUNT; m++) {
        const struct report_difference *difference = &pair->differences[m];
        if (isnan(pair->old->values[m].value) && isnan(pair->new->values[m].value))
            continue;
        json_object_set_new(
            metrics, report_metrics[m].field,
            json_pack("{s:o,s:o,s:o,s:o}", "old", value_json(&pair->old->values[m]), "new",
                      value_json(&pair->new->values[m]), "ratio", report_number(difference->ratio),
                      "resolved",
                      difference->resolution == REPORT_UNKNOWN
                          ? json_null()
                          : json_boolean(difference->resolution == REPORT_RESOLVED)));
    }
    json_object_set_new(json, "metrics", metrics);
    json_object_set_new(json, "failed_old",
                        pair->old->failed == NULL ? json_null() : json_string(pair->old->failed));
    json_object_set_new(json, "failed_new",
                        pair->new->failed == NULL ? json_null() : json_string(pair->new->failed));
    return json;
}

json_t *report_compare_json(const struct report_comparison *comparison,
                            const struct report_part *old_part, const struct report_part *new_part)
{
    json_t *rows = json_array(), *lonely[2] = {json_array(), json_array()};
    for (unsigned i = 0; i < comparison->pair_count; i++)
        json_array_append_new(rows, pair_json(&comparison->pairs[i]));
    for (unsigned i = 0; i < comparison->lonely_count; i++)
        json_array_append_new(lonely[comparison->lonely[i]->part], row_json(comparison->lonely[i]));
    return json_pack("{s:i,s:s,s:s,s:o,s:o,s:o}", "format", BENCH_JSON_FORMAT, "old",
                     old_part->name, "new", new_part->name, "rows", rows, "only_old", lonely[0],
                     "only_new", lonely[1]);
}
