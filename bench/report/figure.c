/* SPDX-License-Identifier: MIT */
/* Figures that have a line for each row of a group: rates, latencies, memory. */
#include "figure.h"

#include "units.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* More lines than this are no picture any more: then the best row of each engine is drawn. */
#define LINES_MAX 40u

json_t *report_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

/* Does the engine have rows that differ from this one by the way of access alone? */
static bool access_matters(const struct report_group *group, const struct report_row *row)
{
    for (unsigned i = 0; i < group->count; i++) {
        const struct report_row *other = group->rows[i];
        if (strcmp(other->engine, row->engine) == 0 && strcmp(other->access, row->access) != 0)
            return true;
    }
    return false;
}

char *report_row_label(char *text, size_t capacity, const struct report_group *group,
                       const struct report_row *row, bool with_depth)
{
    char access[80] = "", depth[40] = "";
    if (access_matters(group, row))
        snprintf(access, sizeof access, " (%s)", row->access);
    if (with_depth && row->depth > 1)
        snprintf(depth, sizeof depth, ", %u in flight", row->depth);
    snprintf(text, capacity, "%s%s%s", row->engine, access, depth);
    return text;
}

/* What the rows of a group are ranked by. */
static enum report_metric rank_of(const struct report_row *row)
{
    return report_row_recovers(row) ? REPORT_OPEN : REPORT_OPS;
}

/* Is there a row of the same engine that comes before this one in rank? */
static bool is_best(const struct report_group *group, const struct report_row *row)
{
    enum report_metric metric = rank_of(row);
    bool more = report_metrics[metric].more_is_better;
    double mine = row->values[metric].value;
    for (unsigned i = 0; i < group->count; i++) {
        const struct report_row *other = group->rows[i];
        double its = other->values[metric].value;
        if (other != row && strcmp(other->engine, row->engine) == 0 && !isnan(its) &&
            (isnan(mine) || (more ? its > mine : its < mine) || (its == mine && other < row)))
            return false;
    }
    return true;
}

static bool is_drawn(const struct report_group *group, unsigned index)
{
    return group->count <= LINES_MAX || is_best(group, group->rows[index]);
}

static json_t *new_figure(const char *kind, const char *label, const char *format,
                          const struct report_group *group, const char *caption)
{
    char text[700], heading[400];
    snprintf(text, sizeof text, "%s%s", caption,
             group->count > LINES_MAX
                 ? " Too many rows for a picture: the best one of each engine is drawn."
                 : "");
    return json_pack("{s:s,s:s,s:s,s:s,s:s,s:[]}", "kind", kind, "title",
                     report_row_heading(heading, sizeof heading, group->rows[0]), "caption", text,
                     "label", label, "format", format, "rows");
}

/* A line above the first row of each number of threads, or size of log. */
static void add_heading(json_t *lines, const struct report_group *group, unsigned index,
                        const struct report_row *previous)
{
    const struct report_row *row = group->rows[index];
    char text[64], size[32];
    if (report_row_recovers(row)) {
        if (previous != NULL && previous->log_size_bytes == row->log_size_bytes)
            return;
        snprintf(text, sizeof text, row->log_size_bytes > 0 ? "a log of %s" : "no log of its own",
                 bench_format_size(size, sizeof size, (uint64_t)row->log_size_bytes));
    } else {
        if (previous != NULL && previous->threads == row->threads)
            return;
        snprintf(text, sizeof text, row->threads == 1 ? "one thread" : "%u threads", row->threads);
    }
    json_array_append_new(lines, json_pack("{s:s}", "heading", text));
}

char *report_format(char *text, size_t capacity, const char *format, double value)
{
    if (!isfinite(value))
        snprintf(text, capacity, "–");
    else if (value < 0 || value >= 1e15) /* a file may say anything */
        snprintf(text, capacity, "%.3g", value);
    else if (strcmp(format, "ratio") == 0)
        snprintf(text, capacity, "%.4f", value);
    else if (strcmp(format, "count") == 0 && value == floor(value))
        bench_format_thousands(text, capacity, value);
    else
        bench_format_short(text, capacity, value);
    return text;
}

/* "53,290 ±3 %", or why there is nothing. */
static void value_text(char *text, size_t capacity, const struct report_row *row,
                       const struct report_value *value, const char *format, const char *unit)
{
    char number[40];
    if (row->failed != NULL)
        snprintf(text, capacity, "failed");
    else if (isnan(value->value))
        snprintf(text, capacity, "not measured");
    else if (isnan(value->min) || isnan(value->max) || !(value->value > 0))
        snprintf(text, capacity, "%s%s", report_format(number, sizeof number, format, value->value),
                 unit);
    else
        snprintf(text, capacity, "%s%s ±%.0f %%",
                 report_format(number, sizeof number, format, value->value), unit,
                 (value->max - value->min) / value->value * 50);
}

json_t *report_figure_rates(const struct report_group *group)
{
    enum report_metric metric = rank_of(group->rows[0]);
    bool opens = metric == REPORT_OPEN;
    json_t *figure = new_figure(
        "bars", opens ? "seconds to open (less is better)" : "operations per second",
        opens ? "s" : "count", group,
        "Bars: medians of the repetitions. Whiskers: the slowest and the fastest repetition; "
        "differences within them are no differences.");
    json_t *lines = json_object_get(figure, "rows");
    const struct report_row *previous = NULL;
    for (unsigned i = 0; i < group->count; i++) {
        const struct report_row *row = group->rows[i];
        const struct report_value *value = &row->values[metric];
        char label[200], text[80];
        if (!is_drawn(group, i))
            continue;
        add_heading(lines, group, i, previous);
        previous = row;
        value_text(text, sizeof text, row, value, opens ? "s" : "count", opens ? " s" : "");
        json_array_append_new(lines,
                              json_pack("{s:s,s:s,s:o,s:o,s:o,s:s}", "label",
                                        report_row_label(label, sizeof label, group, row, true),
                                        "color", row->engine, "value", report_number(value->value),
                                        "low", report_number(value->min), "high",
                                        report_number(value->max), "text", text));
    }
    return figure;
}

json_t *report_figure_latency(const struct report_group *group)
{
    static const enum report_metric points[] = {REPORT_P50, REPORT_P99, REPORT_P999, REPORT_MAX};
    json_t *figure =
        new_figure("dots", "latency, µs, log scale", "us", group,
                   "Of one operation, in microseconds: medians of the repetitions' percentiles, "
                   "and the longest of all. Each step of the scale is ten times the one before.");
    json_t *lines = json_object_get(figure, "rows");
    const struct report_row *previous = NULL;
    bool any = false;
    json_object_set_new(figure, "log", json_true());
    json_object_set_new(figure, "points", json_pack("[s,s,s,s]", "p50", "p99", "p99.9", "max"));
    for (unsigned i = 0; i < group->count; i++) {
        const struct report_row *row = group->rows[i];
        char label[200];
        if (!is_drawn(group, i) || report_row_recovers(row))
            continue;
        json_t *values = json_array();
        for (unsigned p = 0; p < sizeof points / sizeof *points; p++) {
            double value = row->values[points[p]].value;
            any = any || value > 0;
            /* A log scale has no place for 0: a time too short for the clock is not drawn. */
            json_array_append_new(values, report_number(value > 0 ? value : NAN));
        }
        add_heading(lines, group, i, previous);
        previous = row;
        json_array_append_new(lines,
                              json_pack("{s:s,s:s,s:o}", "label",
                                        report_row_label(label, sizeof label, group, row, true),
                                        "color", row->engine, "values", values));
    }
    if (any)
        return figure;
    json_decref(figure);
    return NULL;
}

/* An engine's processes run all its cells, so its rows share one peak. */
static double peak_of_engine(const struct report_group *group, const char *engine)
{
    double peak = NAN;
    for (unsigned i = 0; i < group->count; i++) {
        double value = group->rows[i]->values[REPORT_PEAK].value;
        if (strcmp(group->rows[i]->engine, engine) == 0 && !isnan(value) && !(value <= peak))
            peak = value;
    }
    return peak;
}

json_t *report_figure_memory(const struct report_group *group, double slack_bytes)
{
    const double mib = 1 << 20;
    double limit = group->rows[0]->mem_bytes + (slack_bytes > 0 ? slack_bytes : 0);
    json_t *figure = new_figure("bars", "largest use of memory, MiB", "mib", group,
                                "The largest use of an engine's process, its page cache included, "
                                "as the kernel counts it.");
    json_t *lines = json_object_get(figure, "rows");
    bool any = false;
    for (unsigned i = 0; i < group->count; i++) {
        const char *engine = group->rows[i]->engine;
        double peak = peak_of_engine(group, engine);
        char text[40];
        bool seen = false;
        for (unsigned j = 0; j < i; j++)
            seen = seen || strcmp(group->rows[j]->engine, engine) == 0;
        if (seen)
            continue;
        any = any || !isnan(peak);
        json_array_append_new(
            lines, json_pack("{s:s,s:s,s:o,s:n,s:n,s:s}", "label", engine, "color", engine, "value",
                             report_number(peak / mib), "low", "high", "text",
                             isnan(peak) ? "not measured"
                                         : report_format(text, sizeof text, "mib", peak / mib)));
    }
    json_object_set_new(figure, "mark",
                        json_pack("{s:o,s:s}", "value", report_number(limit / mib), "label",
                                  slack_bytes > 0 ? "limit: --mem and slack" : "--mem"));
    if (any)
        return figure;
    json_decref(figure);
    return NULL;
}
