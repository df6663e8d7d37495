/* SPDX-License-Identifier: MIT */
/* The page's frame, its sections of figures, and writing it to a file. */
#include "page.h"

#include "assets.h"
#include "file.h"

#include <stdio.h>
#include <string.h>

#ifndef REPORT_UPLOT_VERSION
#define REPORT_UPLOT_VERSION ""
#endif

/* Nothing may be fetched, whatever a file says: all there is stands in the page. */
#define POLICY                                                                                     \
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "   \
    "base-uri 'none'; form-action 'none'"

/* Before anything else in the page: page.js, at its end, would come too late for what fails. */
#define WATCH                                                                                      \
    "<script>window.reportFailures = [];\n"                                                        \
    "addEventListener(\"error\", (e) =>\n"                                                         \
    "    reportFailures.push(e.message || \"not loaded\"), true);\n"                               \
    "addEventListener(\"unhandledrejection\", (e) => reportFailures.push(String(e.reason)));\n"    \
    "document.addEventListener(\"securitypolicyviolation\",\n"                                     \
    "    (e) => reportFailures.push(\"refused: \" + e.blockedURI));</script>\n"

const char *report_charts(void)
{
    return report_uplot_js_length > 0 ? "uPlot " REPORT_UPLOT_VERSION : NULL;
}

/* ---- figures ----------------------------------------------------------------------------------
 */

void report__part_name(struct html *html, const struct report_source *source, unsigned part,
                       const char *list)
{
    unsigned with = 0;
    for (unsigned i = 0; i < source->part_count; i++)
        with += json_array_size(json_object_get(source->parts[i].root, list)) > 0;
    if (with < 2)
        return;
    html_raw(html, "<span class=\"file\">");
    html_text(html, source->parts[part].name);
    html_raw(html, "</span> ");
}

/* Takes figure, which may be NULL and is made from that list of the part. Returns 1 when there was
 * one. */
static unsigned add_figure_of(struct html *html, const struct report_source *source, unsigned part,
                              const char *list, json_t *figure)
{
    if (figure == NULL)
        return 0;
    html_raw(html, "<figure>\n<h3>");
    report__part_name(html, source, part, list);
    html_text(html, json_string_value(json_object_get(figure, "title")));
    html_raw(html, "</h3>\n<div class=\"plot\"></div>\n<figcaption>");
    html_text(html, json_string_value(json_object_get(figure, "caption")));
    /* Open, for readers without JavaScript; page.js closes it once the chart is there. */
    html_raw(html, "</figcaption>\n<details open><summary>As a table</summary>\n");
    report_figure_table(html, figure);
    html_raw(html, "</details>\n<script type=\"application/json\">");
    html_json(html, figure);
    html_raw(html, "</script>\n</figure>\n");
    json_decref(figure);
    return 1;
}

static unsigned add_figure(struct html *html, const struct report_source *source, unsigned part,
                           json_t *figure)
{
    return add_figure_of(html, source, part, "results", figure);
}

static void begin_section(struct html *html, const char *id, const char *title)
{
    html_raw(html, "<section id=\"");
    html_raw(html, id);
    html_raw(html, "\">\n");
    html_element(html, "h2", title);
    html_raw(html, "\n");
}

static void say_missing(struct html *html, const char *text)
{
    html_raw(html, "<p class=\"missing\">");
    html_text(html, text);
    html_raw(html, "</p>\n");
}

#define NO_RESULTS                                                                                 \
    "Not in these files: no engine was measured. clockpool-bench run --json FILE does."

/* missing: said when the section has got no figure although there are results. */
static void end_section(struct html *html, const struct report_source *source, unsigned figures,
                        const char *missing)
{
    if (source->rows.count == 0)
        missing = NO_RESULTS;
    if (figures == 0)
        say_missing(html, missing);
    html_raw(html, "</section>\n");
}

static void rates_section(struct html *html, const struct report_source *source)
{
    unsigned figures = 0;
    begin_section(html, "rates", "Rates");
    for (unsigned i = 0; i < source->group_count; i++)
        figures += add_figure(html, source, source->groups[i].rows[0]->part,
                              report_figure_rates(&source->groups[i]));
    end_section(html, source, figures, NO_RESULTS);
}

static void scaling_section(struct html *html, const struct report_source *source)
{
    unsigned figures = 0;
    begin_section(html, "threads", "Scaling over threads");
    for (unsigned i = 0; i < source->group_count; i++)
        figures += add_figure(html, source, source->groups[i].rows[0]->part,
                              report_figure_threads(&source->groups[i]));
    end_section(html, source, figures,
                "Not in these files: nothing was measured with more than one number of threads. "
                "clockpool-bench run --threads 1,8 does.");
    figures = 0;
    begin_section(html, "depth", "Scaling over reads in flight");
    for (unsigned i = 0; i < source->group_count; i++)
        figures += add_figure(html, source, source->groups[i].rows[0]->part,
                              report_figure_depths(&source->groups[i]));
    end_section(html, source, figures,
                "Not in these files: nothing was measured with more than one depth. "
                "clockpool-bench run --depth 1,32 does, for engines that can keep several reads in "
                "flight.");
}

static void latency_section(struct html *html, const struct report_source *source)
{
    unsigned figures = 0;
    begin_section(html, "latency", "Latency");
    for (unsigned i = 0; i < source->group_count; i++)
        figures += add_figure(html, source, source->groups[i].rows[0]->part,
                              report_figure_latency(&source->groups[i]));
    end_section(html, source, figures, "Not in these files: no latencies were measured.");
}

/* A figure for each number of threads; rows are sorted by it. */
static unsigned add_series(struct html *html, const struct report_source *source, const char *field)
{
    unsigned figures = 0;
    for (unsigned i = 0; i < source->group_count; i++) {
        const struct report_group *group = &source->groups[i];
        for (unsigned r = 0; r < group->count; r++)
            if (r == 0 || group->rows[r]->threads != group->rows[r - 1]->threads)
                figures += add_figure(html, source, group->rows[r]->part,
                                      report_figure_series(group, group->rows[r]->threads, field));
    }
    return figures;
}

static unsigned add_claims_over_time(struct html *html, const struct report_source *source)
{
    unsigned figures = 0;
    for (unsigned i = 0; i < source->part_count; i++) {
        const json_t *claims = json_object_get(source->parts[i].root, "claims"), *claim;
        size_t c;
        json_array_foreach(claims, c, claim)
        {
            figures += add_figure_of(html, source, i, "claims", report_figure_over_time(claim));
        }
    }
    return figures;
}

static void series_section(struct html *html, const struct report_source *source)
{
    begin_section(html, "time", "Rate over time");
    unsigned figures = add_claims_over_time(html, source);
    end_section(html, source, figures + add_series(html, source, "ops_per_s"),
                "Not in these files: no result has a series of two points or more. "
                "clockpool-bench run with --seconds 2 or more measures one.");
    begin_section(html, "latency-time", "Latency over time");
    end_section(html, source, add_series(html, source, "p99_us"),
                "Not in these files: no result has a p99 for its intervals.");
}

static void memory_section(struct html *html, const struct report_source *source)
{
    unsigned figures = 0;
    begin_section(html, "memory", "Memory");
    for (unsigned i = 0; i < source->group_count; i++) {
        unsigned part = source->groups[i].rows[0]->part;
        double slack = json_number_value(json_object_get(source->parts[part].root, "slack_bytes"));
        figures += add_figure(html, source, part, report_figure_memory(&source->groups[i], slack));
    }
    end_section(html, source, figures,
                "Not in these files: the use of memory is measured by a memory cgroup, and there "
                "was none.");
}

static void curves_section(struct html *html, const struct report_source *source)
{
    unsigned figures = 0;
    begin_section(html, "curves", "Miss ratio by size of the cache");
    for (unsigned i = 0; i < source->part_count; i++) {
        const json_t *curves = json_object_get(source->parts[i].root, "curves"), *curve;
        size_t c;
        json_array_foreach(curves, c, curve)
        {
            const char *trace = json_string_value(json_object_get(curve, "trace"));
            bool seen = false;
            for (size_t before = 0; before < c && !seen; before++)
                seen = strcmp(json_string_value(
                                  json_object_get(json_array_get(curves, before), "trace")),
                              trace) == 0;
            if (!seen)
                figures +=
                    add_figure_of(html, source, i, "curves", report_figure_curves(curves, trace));
        }
    }
    if (figures == 0)
        say_missing(html, "Not in these files: no trace was run through the policies. "
                          "clockpool-bench trace --json FILE does.");
    html_raw(html, "</section>\n");
}

/* ---- the frame --------------------------------------------------------------------------------
 */

/* </style> or </script> in one of them would end it: they are this program's, and have none. */
static void asset(struct html *html, const char *tag, const unsigned char *bytes, size_t length)
{
    html_raw(html, "<");
    html_raw(html, tag);
    html_raw(html, ">");
    html_bytes(html, bytes, length);
    html_raw(html, "</");
    html_raw(html, tag);
    html_raw(html, ">\n");
}

static void write_head(struct html *html)
{
    html_raw(html, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                   "<meta http-equiv=\"Content-Security-Policy\" content=\"" POLICY "\">\n"
                   "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                   "<meta name=\"color-scheme\" content=\"light dark\">\n"
                   "<title>Clockpool benchmark</title>\n");
    if (report_charts() != NULL)
        html_raw(html, WATCH);
    if (report_charts() != NULL)
        asset(html, "style", report_uplot_css, report_uplot_css_length);
    asset(html, "style", report_page_css, report_page_css_length);
    html_raw(html, "</head>\n");
}

/* Curves alone: nothing was measured, and no machine has a part in it. */
static bool is_simulated(const json_t *root)
{
    return json_object_get(root, "results") == NULL && json_object_get(root, "claims") == NULL;
}

/* "Measured 2026-01-01T00:00:00Z on AMD EPYC, 2 CPUs; Linux 6.1; ext4." */
static void write_measured(struct html *html, const struct report_part *part)
{
    const json_t *environment = json_object_get(part->root, "environment");
    const json_t *machine = json_object_get(environment, "machine");
    const char *time = json_string_value(json_object_get(environment, "time"));
    const char *cpu = json_string_value(json_object_get(machine, "cpu"));
    const char *kernel = json_string_value(json_object_get(machine, "kernel"));
    const char *system =
        json_string_value(json_object_get(json_object_get(environment, "place"), "file_system"));
    html_raw(html, "<li>");
    html_element(html, "b", part->name);
    if (is_simulated(part->root))
        html_raw(html, ": simulated, the same on any machine");
    else if (time == NULL && cpu == NULL && kernel == NULL)
        html_raw(html, ": says nothing of its environment");
    if (time != NULL)
        html_format(html, ", measured %s", time);
    if (cpu != NULL && cpu[0] != '\0')
        html_format(html, " on %s", cpu);
    if (json_is_integer(json_object_get(machine, "cpu_count")))
        html_format(html, ", %d CPUs",
                    (int)json_integer_value(json_object_get(machine, "cpu_count")));
    if (kernel != NULL)
        html_format(html, "; %s", kernel);
    if (system != NULL)
        html_format(html, "; %s", system);
    html_raw(html, "</li>\n");
}

static void write_header(struct html *html, const struct report_source *source)
{
    static const char *const places[][2] = {
        {"verdicts", "Verdicts"}, {"rates", "Rates"},        {"threads", "Threads"},
        {"depth", "Depth"},       {"latency", "Latency"},    {"time", "Over time"},
        {"memory", "Memory"},     {"curves", "Miss ratios"}, {"tables", "Tables"},
        {"machine", "Machine"},   {"command", "Command"},
    };
    html_raw(html, "<body>\n<header>\n<h1>Clockpool benchmark</h1>\n<ul class=\"measured\">\n");
    for (unsigned i = 0; i < source->part_count; i++)
        write_measured(html, &source->parts[i]);
    html_raw(html, "</ul>\n<nav aria-label=\"Sections\"><ul>");
    for (unsigned i = 0; i < sizeof places / sizeof *places; i++) {
        html_raw(html, "<li><a href=\"#");
        html_raw(html, places[i][0]);
        html_raw(html, "\">");
        html_raw(html, places[i][1]);
        html_raw(html, "</a></li>");
    }
    html_raw(html, "</ul></nav>\n");
    if (report_charts() == NULL) {
        html_raw(html, "<p class=\"notice\">Tables only, no charts: ");
        html_text(html, REPORT_NO_CHARTS);
        html_raw(html, ".</p>\n");
    } else {
        html_raw(html, "<noscript><p class=\"notice\">The charts need JavaScript. The tables have "
                       "the same figures.</p></noscript>\n");
    }
    html_raw(html, "</header>\n<main>\n");
}

static void write_foot(struct html *html)
{
    html_raw(html, "</main>\n<footer>\n");
    if (report_charts() != NULL) {
        html_raw(html, "<details class=\"licence\"><summary>The charts are drawn by ");
        html_text(html, report_charts());
        html_raw(html, ", MIT licence</summary><pre>");
        html_text(html, (const char *)report_uplot_license);
        html_raw(html, "</pre></details>\n");
    }
    html_raw(html, "</footer>\n");
    if (report_charts() != NULL) {
        asset(html, "script", report_uplot_js, report_uplot_js_length);
        asset(html, "script", report_page_js, report_page_js_length);
    }
    html_raw(html, "</body>\n</html>\n");
}

int report_page(struct html *html, const struct report_part *parts, unsigned count,
                struct bench_error *error)
{
    struct report_source source = {.parts = parts, .part_count = count};
    int code = report_rows_read(parts, count, &source.rows, error);
    if (code == 0)
        code = report_groups_make(&source.rows, &source.groups, &source.group_count, error);
    if (code == 0) {
        write_head(html);
        write_header(html, &source);
        report__verdicts(html, &source);
        report__warnings(html, &source);
        rates_section(html, &source);
        scaling_section(html, &source);
        latency_section(html, &source);
        series_section(html, &source);
        memory_section(html, &source);
        curves_section(html, &source);
        report__tables(html, &source);
        report__environment(html, &source);
        report__commands(html, &source);
        write_foot(html);
        report_groups_free(source.groups, source.group_count);
        if (html->failed)
            code = bench_fail(error, "out of memory while making the report");
    }
    report_rows_fini(&source.rows);
    return code;
}

int report_write(const char *path, const struct report_part *parts, unsigned count,
                 struct bench_error *error)
{
    struct html html = {0};
    int code = report_page(&html, parts, count, error);
    if (code == 0)
        code = bench_file_write(path, html.data, html.length, "the report", error);
    if (code == 0 && report_charts() == NULL)
        fprintf(stderr, "clockpool-bench: the report has tables and no charts: %s\n",
                REPORT_NO_CHARTS);
    html_fini(&html);
    return code;
}
