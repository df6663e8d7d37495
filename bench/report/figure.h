/* SPDX-License-Identifier: MIT */
/*
 * Figures: what a chart shows, as JSON. The chart (page.js) and the table under it (figure_table.c)
 * are made from the same figure, so they cannot say different things.
 *
 *     {"kind": "bars", "title": T, "caption": T, "label": "operations per second",
 *      "format": F, "mark": {"value": n, "label": T}, "rows": [
 *        {"heading": "8 threads"},
 *        {"label": "pool", "color": "pool", "value": n, "low": n, "high": n, "text": "1,234 ±3
 * %"}]}
 *     {"kind": "dots", ... "points": ["p50", "p99"], "rows": [
 *        {"label": "pool", "color": "pool", "values": [n, n]}]}
 *     {"kind": "lines", ... "x": {"label": T, "format": F, "log": b, "values": [n]}, "log": b,
 *      "series": [{"label": T, "color": "pool", "dash": 0, "values": [n], "low": [n], "high":
 * [n]}]}
 *
 * A value that is not known is null. "color" names an engine or a policy, not a colour. Formats:
 * "count", "us", "mib", "s", "ratio". Functions return NULL when there is nothing to show.
 */
#ifndef BENCH_REPORT_FIGURE_H
#define BENCH_REPORT_FIGURE_H

#include "html.h"
#include "rows.h"

/* The rate of every row with its spread; of recover, the time to open. */
json_t *report_figure_rates(const struct report_group *group);
/* Percentiles of every row. */
json_t *report_figure_latency(const struct report_group *group);
/* The largest use of memory by each engine. slack_bytes: allowed beyond mem_bytes, 0: unknown. */
json_t *report_figure_memory(const struct report_group *group, double slack_bytes);

/* What the rate depends on: more than one of either must have been measured. */
json_t *report_figure_threads(const struct report_group *group);
json_t *report_figure_depths(const struct report_group *group);

/* The rate, or field ("p99_us") of series[], over time: the rows of one number of threads. */
json_t *report_figure_series(const struct report_group *group, unsigned threads, const char *field);

/* What a claim of claims[] was judged by, where it has over_time[]: each repetition's rate. */
json_t *report_figure_over_time(const json_t *claim);

/* The miss ratio by frames, all policies on one trace; curves[] of a file. */
json_t *report_figure_curves(const json_t *curves, const char *trace);

/* "pool", "pool (fix)", "pool, 32 in flight": tells a row from the others of its group and number
 * of threads. Returns text. */
char *report_row_label(char *text, size_t capacity, const struct report_group *group,
                       const struct report_row *row, bool with_depth);

/* A number, or null when it is not known. */
json_t *report_number(double value);

/* A number in a "format", for a table. Returns text. */
char *report_format(char *text, size_t capacity, const char *format, double value);
/* The figure's table. */
void report_figure_table(struct html *html, const json_t *figure);

#endif
