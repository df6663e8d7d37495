/* SPDX-License-Identifier: MIT */
/* Figures with lines: scaling over threads and depth, series over time, miss-ratio curves. */
#include "figure.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Places on the x axis: sorted, each once. */
struct places {
    double *values; /* owned */
    size_t count;
};

static int compare_numbers(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static bool places_add(struct places *places, double value)
{
    double *values = realloc(places->values, (places->count + 1) * sizeof *values);
    if (values == NULL)
        return false;
    places->values = values;
    values[places->count++] = value;
    return true;
}

static void places_sort(struct places *places)
{
    size_t kept = 0;
    if (places->count == 0)
        return; /* values is NULL, which qsort must not be given */
    qsort(places->values, places->count, sizeof *places->values, compare_numbers);
    for (size_t i = 0; i < places->count; i++)
        if (kept == 0 || places->values[i] != places->values[kept - 1])
            places->values[kept++] = places->values[i];
    places->count = kept;
}

static size_t places_find(const struct places *places, double value)
{
    const double *found =
        bsearch(&value, places->values, places->count, sizeof value, compare_numbers);
    return found == NULL ? places->count : (size_t)(found - places->values);
}

static json_t *places_json(const struct places *places)
{
    json_t *array = json_array();
    for (size_t i = 0; i < places->count; i++)
        json_array_append_new(array, json_real(places->values[i]));
    return array;
}

static json_t *nulls(size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(array, json_null());
    return array;
}

static void set_at(const json_t *series, const char *name, size_t index, double value)
{
    json_array_set_new(json_object_get(series, name), index, report_number(value));
}

/* The series with that label, made when there is none. */
static json_t *series_of(json_t *figure, const char *label, const char *color, unsigned dash,
                         size_t count, bool spread)
{
    json_t *list = json_object_get(figure, "series"), *series;
    size_t i;
    json_array_foreach(list, i, series)
    {
        if (strcmp(json_string_value(json_object_get(series, "label")), label) == 0)
            return series;
    }
    series = json_pack("{s:s,s:s,s:i,s:o}", "label", label, "color", color, "dash", (int)dash,
                       "values", nulls(count));
    if (spread) {
        json_object_set_new(series, "low", nulls(count));
        json_object_set_new(series, "high", nulls(count));
    }
    json_array_append_new(list, series);
    return series;
}

static json_t *new_figure(const char *title, const char *caption, const char *label,
                          const char *format, bool log)
{
    return json_pack("{s:s,s:s,s:s,s:s,s:s,s:b,s:[]}", "kind", "lines", "title", title, "caption",
                     caption, "label", label, "format", format, "log", log, "series");
}

static void set_x(json_t *figure, const char *label, const char *format, bool log,
                  const struct places *places)
{
    json_object_set_new(figure, "x",
                        json_pack("{s:s,s:s,s:b,s:o}", "label", label, "format", format, "log", log,
                                  "values", places_json(places)));
}

static unsigned dimension(const struct report_row *row, bool by_threads)
{
    return by_threads ? row->threads : row->depth;
}

/* Which of the group's values of the other dimension it is: what lines are dashed by. */
static unsigned rank_of_other(const struct report_group *group, const struct report_row *row,
                              bool by_threads)
{
    unsigned rank = 0, mine = dimension(row, !by_threads);
    for (unsigned i = 0; i < group->count; i++) {
        unsigned its = dimension(group->rows[i], !by_threads);
        bool first = its < mine;
        for (unsigned j = 0; j < i && first; j++)
            first = dimension(group->rows[j], !by_threads) != its;
        rank += first;
    }
    return rank;
}

/* A single point is no line: take such series out, and name them in the caption. */
static void drop_single_points(json_t *figure)
{
    json_t *list = json_object_get(figure, "series"), *value;
    char caption[700];
    size_t length = (size_t)snprintf(caption, sizeof caption, "%s",
                                     json_string_value(json_object_get(figure, "caption")));
    bool dropped = false;
    for (size_t i = 0; i < json_array_size(list);) {
        const json_t *series = json_array_get(list, i);
        unsigned points = 0;
        size_t v;
        json_array_foreach(json_object_get(series, "values"), v, value)
        {
            points += json_is_number(value);
        }
        if (points > 1) {
            i++;
            continue;
        }
        if (length < sizeof caption)
            length += (size_t)snprintf(caption + length, sizeof caption - length, "%s%s",
                                       dropped ? "; " : " Measured at one place only: ",
                                       json_string_value(json_object_get(series, "label")));
        dropped = true;
        json_array_remove(list, i);
    }
    if (dropped && length + 1 < sizeof caption)
        snprintf(caption + length, sizeof caption - length, ".");
    json_object_set_new(figure, "caption", json_string(caption));
}

static json_t *figure_scaling(const struct report_group *group, bool by_threads)
{
    struct places places = {NULL, 0};
    char heading[400];
    json_t *figure = NULL;
    if (report_row_recovers(group->rows[0]))
        return NULL;
    for (unsigned i = 0; i < group->count; i++)
        if (!isnan(group->rows[i]->values[REPORT_OPS].value) &&
            !places_add(&places, dimension(group->rows[i], by_threads)))
            goto done;
    places_sort(&places);
    if (places.count < 2)
        goto done;
    figure = new_figure(report_row_heading(heading, sizeof heading, group->rows[0]),
                        "Medians; whiskers from the slowest to the fastest repetition.",
                        "operations per second", "count", false);
    set_x(figure, by_threads ? "threads" : "reads in flight from each thread", "count", true,
          &places);
    for (unsigned i = 0; i < group->count; i++) {
        const struct report_row *row = group->rows[i];
        const struct report_value *value = &row->values[REPORT_OPS];
        size_t at = places_find(&places, dimension(row, by_threads));
        char label[240], name[200];
        if (isnan(value->value) || at == places.count)
            continue;
        report_row_label(name, sizeof name, group, row, by_threads);
        if (by_threads)
            snprintf(label, sizeof label, "%s", name);
        else
            snprintf(label, sizeof label, row->threads == 1 ? "%s, one thread" : "%s, %u threads",
                     name, row->threads);
        const json_t *series = series_of(figure, label, row->engine,
                                         rank_of_other(group, row, by_threads), places.count, true);
        set_at(series, "values", at, value->value);
        set_at(series, "low", at, value->min);
        set_at(series, "high", at, value->max);
    }
    drop_single_points(figure);
    if (json_array_size(json_object_get(figure, "series")) == 0) {
        json_decref(figure);
        figure = NULL;
    }
done:
    free(places.values);
    return figure;
}

json_t *report_figure_threads(const struct report_group *group)
{
    return figure_scaling(group, true);
}

json_t *report_figure_depths(const struct report_group *group)
{
    return figure_scaling(group, false);
}

/*
 * Point `index` of a row's series: its time, and its value, NAN when nothing was done in that
 * interval. False: there is no such point. The rate is also found in files that have only
 * series_ops_per_s, the rates of equal intervals. Times are rounded to milliseconds, so that those
 * of different rows meet.
 */
static bool point_of(const struct report_row *row, const char *field, size_t index, double *out_t,
                     double *out_value)
{
    const json_t *point = json_array_get(json_object_get(row->json, "series"), index);
    const json_t *rate = json_array_get(json_object_get(row->json, "series_ops_per_s"), index);
    double interval = report_row_number(row, "series_interval_s"), t;
    const json_t *value;
    if (row->failed != NULL)
        return false;
    if (json_is_number(json_object_get(point, "t_s"))) {
        t = json_number_value(json_object_get(point, "t_s"));
        value = json_object_get(point, field);
    } else if (json_object_get(row->json, "series") == NULL && rate != NULL && interval > 0 &&
               strcmp(field, "ops_per_s") == 0) {
        t = interval * (double)(index + 1);
        value = rate;
    } else {
        return false;
    }
    *out_t = round(t * 1000) / 1000;
    *out_value = json_is_number(value) ? json_number_value(value) : NAN;
    return true;
}

/* Where the rows' points lie. False: out of memory. */
static bool series_places(const struct report_group *group, unsigned threads, const char *field,
                          struct places *places)
{
    double t, value;
    for (unsigned i = 0; i < group->count; i++)
        for (size_t p = 0;
             group->rows[i]->threads == threads && point_of(group->rows[i], field, p, &t, &value);
             p++)
            if (!isnan(value) && !places_add(places, t))
                return false;
    places_sort(places);
    return true;
}

json_t *report_figure_series(const struct report_group *group, unsigned threads, const char *field)
{
    bool rate = strcmp(field, "ops_per_s") == 0;
    struct places places = {NULL, 0};
    char heading[400], title[500];
    json_t *figure = NULL;
    if (!series_places(group, threads, field, &places) || places.count < 2)
        goto done;
    snprintf(title, sizeof title, threads == 1 ? "%s · one thread" : "%s · %u threads",
             report_row_heading(heading, sizeof heading, group->rows[0]), threads);
    figure = new_figure(title, "One point an interval, of the repetition that is the median.",
                        rate ? "operations per second" : "p99 latency, µs, log scale",
                        rate ? "count" : "us", !rate);
    set_x(figure, "seconds", "s", false, &places);
    for (unsigned i = 0; i < group->count; i++) {
        const struct report_row *row = group->rows[i];
        char label[200];
        double t, value;
        if (row->threads != threads)
            continue;
        report_row_label(label, sizeof label, group, row, true);
        for (size_t p = 0; point_of(row, field, p, &t, &value); p++) {
            const json_t *series = series_of(figure, label, row->engine,
                                             rank_of_other(group, row, true), places.count, false);
            /* A log scale has no place for 0. */
            if (!isnan(value) && (rate || value > 0))
                set_at(series, "values", places_find(&places, t), value);
        }
    }
done:
    free(places.values);
    return figure;
}

/* There are eight colours for policies; the ninth is told from the first by its dashes. */
static unsigned dash_of(const json_t *figure)
{
    return (unsigned)json_array_size(json_object_get(figure, "series")) / 8;
}

/* The points of one repetition in over_time[] of a claim; as many as there are. */
static void add_repetition(json_t *figure, const json_t *run, const struct places *places)
{
    const json_t *point, *repetition = json_object_get(run, "repetition");
    const char *engine = json_string_value(json_object_get(run, "engine"));
    unsigned number = (unsigned)json_integer_value(repetition);
    char label[200];
    size_t p;
    snprintf(label, sizeof label, "%s, repetition %u", engine != NULL ? engine : "?", number);
    json_array_foreach(json_object_get(run, "series"), p, point)
    {
        double t = json_number_value(json_object_get(point, "t_s"));
        set_at(series_of(figure, label, engine != NULL ? engine : "?", number > 0 ? number - 1 : 0,
                         places->count, false),
               "values", places_find(places, t),
               json_number_value(json_object_get(point, "ops_per_s")));
    }
}

json_t *report_figure_over_time(const json_t *claim)
{
    const json_t *runs = json_object_get(claim, "over_time"), *run, *point;
    struct places places = {NULL, 0};
    char title[400];
    json_t *figure = NULL;
    size_t r, p;
    json_array_foreach(runs, r, run)
    {
        json_array_foreach(json_object_get(run, "series"), p, point)
        {
            if (!places_add(&places, json_number_value(json_object_get(point, "t_s"))))
                goto done;
        }
    }
    places_sort(&places);
    if (places.count < 2)
        goto done;
    snprintf(title, sizeof title, "Claim %lld: %s",
             (long long)json_integer_value(json_object_get(claim, "id")),
             json_string_value(json_object_get(claim, "claim")));
    figure = new_figure(title, "One point an interval; every repetition is a line.",
                        "operations per second", "count", false);
    set_x(figure, "seconds", "s", false, &places);
    json_array_foreach(runs, r, run)
    {
        add_repetition(figure, run, &places);
    }
done:
    free(places.values);
    return figure;
}

json_t *report_figure_curves(const json_t *curves, const char *trace)
{
    struct places places = {NULL, 0};
    json_t *figure = NULL;
    const json_t *curve, *point;
    size_t i, p;
    json_array_foreach(curves, i, curve)
    {
        if (strcmp(json_string_value(json_object_get(curve, "trace")), trace) != 0)
            continue;
        json_array_foreach(json_object_get(curve, "points"), p, point)
        {
            double frames = json_number_value(json_object_get(point, "frames"));
            if (frames > 0 && !places_add(&places, frames)) /* 0 is nowhere on a log scale */
                goto done;
        }
    }
    places_sort(&places);
    if (places.count < 2)
        goto done;
    figure = new_figure(trace, "Misses by all accesses of the trace, less is better.", "miss ratio",
                        "ratio", false);
    set_x(figure, "frames", "count", true, &places);
    json_array_foreach(curves, i, curve)
    {
        const char *policy = json_string_value(json_object_get(curve, "policy"));
        if (strcmp(json_string_value(json_object_get(curve, "trace")), trace) != 0)
            continue;
        json_array_foreach(json_object_get(curve, "points"), p, point)
        {
            double frames = json_number_value(json_object_get(point, "frames"));
            if (frames > 0)
                set_at(series_of(figure, policy, policy, dash_of(figure), places.count, false),
                       "values", places_find(&places, frames),
                       json_number_value(json_object_get(point, "miss_ratio")));
        }
    }
done:
    free(places.values);
    return figure;
}
