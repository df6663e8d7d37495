/* SPDX-License-Identifier: MIT */
/* The parts of the page that are no figures: verdicts, warnings, tables, machine, command. */
#include "page.h"

#include "units.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Half the range over the median: more than this, and little can be told from the figures. */
#define NOISY_SPREAD 0.25

static const char *text_of(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

static void paragraph(struct html *html, const char *class, const char *text)
{
    html_raw(html, "<p class=\"");
    html_raw(html, class);
    html_raw(html, "\">");
    html_text(html, text);
    html_raw(html, "</p>\n");
}

/* ---- verdicts ---------------------------------------------------------------------------------
 */

/* "pool 123 ±4 %" */
static void write_claim_value(struct html *html, const json_t *figure)
{
    const json_t *value = json_object_get(figure, "value");
    const json_t *spread = json_object_get(figure, "spread");
    char number[64];
    html_text(html, text_of(figure, "engine"));
    html_raw(html, text_of(figure, "engine") != NULL ? " <b>" : "<b>");
    if (json_is_string(value))
        html_text(html, json_string_value(value));
    else
        html_text(html, report_format(number, sizeof number, "count",
                                      json_is_number(value) ? json_number_value(value) : NAN));
    html_raw(html, "</b>");
    if (json_number_value(spread) >= 0.005) /* less is shown as 0 */
        html_format(html, " ±%.0f %%", json_number_value(spread) * 100);
}

static bool same_figure(const json_t *a, const json_t *b)
{
    return strcmp(text_of(a, "name"), text_of(b, "name")) == 0;
}

/* "latency, p99 (µs): pool 123, mmap 456": figures of one name together, at the first of them. */
static void write_claim_figure(struct html *html, const json_t *figures, size_t index)
{
    const json_t *figure = json_array_get(figures, index), *other;
    const char *unit = text_of(figure, "unit"), *separator = ": ";
    size_t i;
    for (i = 0; i < index; i++)
        if (same_figure(json_array_get(figures, i), figure))
            return;
    html_raw(html, "<li>");
    html_text(html, text_of(figure, "name"));
    if (unit != NULL && unit[0] != '\0')
        html_format(html, " (%s)", unit);
    json_array_foreach(figures, i, other)
    {
        if (!same_figure(other, figure))
            continue;
        html_raw(html, separator);
        separator = ", ";
        write_claim_value(html, other);
    }
    html_raw(html, "</li>\n");
}

static void write_claim(struct html *html, const json_t *claim)
{
    const char *verdict = text_of(claim, "verdict"), *class = "open", *sign = "–";
    const json_t *figures = json_object_get(claim, "figures");
    if (strcmp(verdict, "supported") == 0) {
        class = "yes";
        sign = "✓";
    } else if (strcmp(verdict, "not supported here") == 0) {
        class = "no";
        sign = "✗";
    }
    html_raw(html, "<li class=\"verdict ");
    html_raw(html, class);
    html_raw(html, "\"><p class=\"claim\">");
    html_format(html, "%d. %s", (int)json_integer_value(json_object_get(claim, "id")),
                text_of(claim, "claim"));
    html_raw(html, "</p>\n<p class=\"badge\"><span aria-hidden=\"true\">");
    html_raw(html, sign);
    html_raw(html, "</span> ");
    html_text(html, verdict);
    html_raw(html, "</p>\n");
    if (text_of(claim, "reason") != NULL)
        paragraph(html, "reason", text_of(claim, "reason"));
    if (json_array_size(figures) > 0) {
        html_raw(html, "<ul class=\"figures\">\n");
        for (size_t i = 0; i < json_array_size(figures); i++)
            write_claim_figure(html, figures, i);
        html_raw(html, "</ul>\n");
    }
    if (text_of(claim, "rule") != NULL) {
        html_raw(html, "<p class=\"rule\">Judged by: ");
        html_text(html, text_of(claim, "rule"));
        html_raw(html, "</p>\n");
    }
    html_raw(html, "</li>\n");
}

void report__verdicts(struct html *html, const struct report_source *source)
{
    size_t written = 0, i;
    const json_t *claim;
    html_raw(html, "<section id=\"verdicts\">\n<h2>Verdicts</h2>\n");
    for (unsigned part = 0; part < source->part_count; part++) {
        const json_t *claims = json_object_get(source->parts[part].root, "claims");
        if (json_array_size(claims) == 0)
            continue;
        html_raw(html, "<p>");
        report__part_name(html, source, part, "claims");
        html_raw(html, "</p>\n<ol class=\"verdicts\">\n");
        json_array_foreach(claims, i, claim)
        {
            write_claim(html, claim);
            written++;
        }
        html_raw(html, "</ol>\n");
    }
    if (written == 0)
        paragraph(html, "missing",
                  "Not in these files: Clockpool's four claims were not put to the test. "
                  "clockpool-bench claims --json FILE does, and its file can be given to "
                  "clockpool-bench report beside this one.");
    html_raw(html, "</section>\n");
}

/* ---- warnings ---------------------------------------------------------------------------------
 */

static void warn(struct html *html, unsigned *count, const char *who, const char *text)
{
    if ((*count)++ == 0)
        html_raw(html, "<section id=\"warnings\" class=\"notice\">\n<h2>Read this first</h2>\n"
                       "<ul>\n");
    html_raw(html, "<li>");
    html_element(html, "b", who);
    html_raw(html, ": ");
    html_text(html, text);
    html_raw(html, "</li>\n");
}

static void warn_of_part(struct html *html, const struct report_part *part, unsigned *count)
{
    const json_t *place = json_object_get(json_object_get(part->root, "environment"), "place");
    const char *reason = text_of(part->root, "equal_memory_reason");
    const char *system = text_of(place, "file_system");
    char text[1000];
    if (json_is_false(json_object_get(part->root, "equal_memory"))) {
        snprintf(text, sizeof text,
                 "not an equal comparison. No memory limit could be set (%s), so engines on the "
                 "page cache could use all the machine's memory.",
                 reason != NULL ? reason : "no reason given");
        warn(html, count, part->name, text);
    }
    if (system != NULL && (strcmp(system, "tmpfs") == 0 || strcmp(system, "ramfs") == 0)) {
        snprintf(text, sizeof text,
                 "the data were on a %s: no device is behind it, and reads cost nothing.", system);
        warn(html, count, part->name, text);
    }
}

static void warn_of_rows(struct html *html, const struct report_source *source, unsigned *count)
{
    unsigned noisy = 0, measured = 0;
    char text[1000], heading[400];
    for (unsigned i = 0; i < source->rows.count; i++) {
        const struct report_row *row = &source->rows.rows[i];
        const struct report_value *ops = &row->values[REPORT_OPS];
        if (row->failed != NULL) {
            snprintf(text, sizeof text, "failed: %s (%s; %u threads, depth %u)", row->failed,
                     report_row_heading(heading, sizeof heading, row), row->threads, row->depth);
            warn(html, count, row->engine, text);
        }
        measured += !isnan(ops->value);
        noisy += ops->value > 0 && (ops->max - ops->min) / ops->value / 2 > NOISY_SPREAD;
    }
    if (noisy > 0) {
        snprintf(text, sizeof text,
                 "%u of %u rates vary by more than ±%.0f %% between repetitions: the machine, or "
                 "its disk, had other work.",
                 noisy, measured, NOISY_SPREAD * 100);
        warn(html, count, "Noise", text);
    }
}

/* Rows of different files are never in one figure, and this says why. */
static void warn_of_machines(struct html *html, const struct report_source *source, unsigned *count)
{
    const json_t *first = NULL;
    for (unsigned i = 0; i < source->part_count; i++) {
        const json_t *machine =
            json_object_get(json_object_get(source->parts[i].root, "environment"), "machine");
        if (first != NULL && machine != NULL &&
            (!json_equal(json_object_get(first, "cpu"), json_object_get(machine, "cpu")) ||
             !json_equal(json_object_get(first, "kernel"), json_object_get(machine, "kernel")))) {
            warn(html, count, "Several machines",
                 "these files were measured on different processors or kernels. Compare within "
                 "one file only.");
            return;
        }
        if (first == NULL)
            first = machine;
    }
}

void report__warnings(struct html *html, const struct report_source *source)
{
    unsigned count = 0;
    for (unsigned i = 0; i < source->part_count; i++)
        warn_of_part(html, &source->parts[i], &count);
    warn_of_machines(html, source, &count);
    warn_of_rows(html, source, &count);
    if (count > 0)
        html_raw(html, "</ul>\n</section>\n");
}

/* ---- all figures ------------------------------------------------------------------------------
 */

struct column {
    const char *title, *field, *format;
    double scale;
};

static const struct column columns[] = {
    {"ops/s", "ops_per_s", "count", 1},   {"min", "ops_per_s_min", "count", 1},
    {"max", "ops_per_s_max", "count", 1}, {"of raw", "ratio_to_raw", "us", 1},
    {"p50 µs", "p50_us", "us", 1},        {"p99 µs", "p99_us", "us", 1},
    {"p99.9 µs", "p999_us", "us", 1},     {"max µs", "max_us", "us", 1},
    {"CPU µs", "cpu_us_per_op", "us", 1}, {"read B", "read_bytes_per_op", "us", 1},
    {"hit %", "hit_ratio", "us", 100},    {"peak MiB", "peak_mem_bytes", "us", 0x1p-20},
};
static const struct column recover_columns[] = {
    {"asked for, MiB", "log_size_bytes", "us", 0x1p-20},
    {"log MiB", "log_bytes", "us", 0x1p-20},
    {"open s", "open_s", "s", 1},
    {"log MB/s", "log_bytes_per_s", "us", 1e-6},
    {"of raw", "ratio_to_raw", "us", 1},
    {"pages", "recovered_pages", "count", 1},
    {"peak MiB", "peak_mem_bytes", "us", 0x1p-20},
};

static void write_cells(struct html *html, const struct report_row *row, const struct column *list,
                        unsigned count)
{
    char text[64];
    if (row->failed != NULL) {
        html_raw(html, "<td class=\"failed\" colspan=\"");
        html_format(html, "%u", count);
        html_raw(html, "\">");
        html_format(html, "failed: %s", row->failed);
        html_raw(html, "</td></tr>\n");
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        double value = report_row_number(row, list[i].field) * list[i].scale;
        if (strcmp(list[i].format, "count") == 0)
            value = round(value);
        html_raw(html, "<td>");
        html_text(html, report_format(text, sizeof text, list[i].format, value));
        html_raw(html, "</td>");
    }
    html_raw(html, "</tr>\n");
}

static void write_table(struct html *html, const struct report_group *group)
{
    bool recovers = report_row_recovers(group->rows[0]);
    const struct column *list = recovers ? recover_columns : columns;
    unsigned count =
        (unsigned)(recovers ? sizeof recover_columns : sizeof columns) / (unsigned)sizeof *list;
    html_raw(html, "<div class=\"wide\" tabindex=\"0\"><table><thead><tr><th scope=\"col\">engine"
                   "</th><th scope=\"col\" class=\"word\">access</th><th scope=\"col\">threads</th>"
                   "<th scope=\"col\">depth</th>");
    for (unsigned i = 0; i < count; i++) {
        html_raw(html, "<th scope=\"col\">");
        html_text(html, list[i].title);
        html_raw(html, "</th>");
    }
    html_raw(html, "</tr></thead><tbody>\n");
    for (unsigned i = 0; i < group->count; i++) {
        const struct report_row *row = group->rows[i];
        html_raw(html, "<tr><th scope=\"row\">");
        html_text(html, row->engine);
        html_raw(html, "</th><td class=\"word\">");
        html_text(html, row->access);
        html_raw(html, "</td><td>");
        html_format(html, "%u", row->threads);
        html_raw(html, "</td><td>");
        html_format(html, "%u", row->depth);
        html_raw(html, "</td>");
        write_cells(html, row, list, count);
    }
    html_raw(html, "</tbody></table></div>\n");
}

/* Has an earlier row of the engine the same text there? */
static bool said_before(const struct report_group *group, unsigned index, const char *text)
{
    for (unsigned i = 0; i < index; i++) {
        const json_t *notes = json_object_get(group->rows[i]->json, "notes"), *note;
        const char *details = text_of(group->rows[i]->json, "details");
        size_t n;
        if (strcmp(group->rows[i]->engine, group->rows[index]->engine) != 0)
            continue;
        if (details != NULL && strcmp(details, text) == 0)
            return true;
        json_array_foreach(notes, n, note)
        {
            if (json_is_string(note) && strcmp(json_string_value(note), text) == 0)
                return true;
        }
    }
    return false;
}

static void write_note(struct html *html, const struct report_group *group, unsigned index,
                       const char *text)
{
    if (text == NULL || text[0] == '\0' || said_before(group, index, text))
        return;
    html_raw(html, "<li>");
    html_element(html, "b", group->rows[index]->engine);
    html_raw(html, ": ");
    html_text(html, text);
    html_raw(html, "</li>\n");
}

static void write_notes(struct html *html, const struct report_group *group)
{
    html_raw(html, "<ul class=\"notes\">\n");
    for (unsigned i = 0; i < group->count; i++) {
        const json_t *notes = json_object_get(group->rows[i]->json, "notes"), *note;
        size_t n;
        write_note(html, group, i, text_of(group->rows[i]->json, "details"));
        json_array_foreach(notes, n, note)
        {
            write_note(html, group, i, json_string_value(note));
        }
    }
    html_raw(html, "</ul>\n");
}

void report__tables(struct html *html, const struct report_source *source)
{
    char heading[400];
    html_raw(html, "<section id=\"tables\">\n<h2>All figures</h2>\n");
    if (source->group_count == 0)
        paragraph(html, "missing", "Not in these files: no engine was measured.");
    else
        paragraph(html, "caption",
                  "Medians of the repetitions, except max, which is the longest of all. CPU and "
                  "read: of one operation. hit: pages found in memory. of raw: against raw at the "
                  "same threads and depth.");
    for (unsigned i = 0; i < source->group_count; i++) {
        html_raw(html, "<h3>");
        report__part_name(html, source, source->groups[i].rows[0]->part, "results");
        html_text(html, report_row_heading(heading, sizeof heading, source->groups[i].rows[0]));
        html_raw(html, "</h3>\n");
        write_table(html, &source->groups[i]);
        write_notes(html, &source->groups[i]);
    }
    html_raw(html, "</section>\n");
}

/* ---- where and how ----------------------------------------------------------------------------
 */

static void write_scalar(struct html *html, const char *name, const json_t *value)
{
    size_t length = strlen(name);
    bool bytes = length > 6 && strcmp(name + length - 6, "_bytes") == 0;
    char size[32];
    if (json_is_string(value))
        html_text(html, json_string_value(value));
    else if (json_is_integer(value))
        html_format(html, "%lld", (long long)json_integer_value(value));
    else if (json_is_real(value))
        html_format(html, "%g", json_real_value(value));
    else
        html_text(html, json_is_true(value) ? "yes" : json_is_false(value) ? "no" : "–");
    if (bytes && json_integer_value(value) > 0)
        html_format(html, " (%s)",
                    bench_format_size(size, sizeof size, (uint64_t)json_integer_value(value)));
}

/* Every key, nested ones as "machine.cpu"; arrays are left out. */
static void write_keys(struct html *html, const char *prefix, json_t *object)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        char name[200];
        snprintf(name, sizeof name, "%s%s%s", prefix, prefix[0] != '\0' ? "." : "", key);
        if (json_is_object(value)) {
            write_keys(html, name, value);
            continue;
        }
        if (json_is_array(value))
            continue;
        html_raw(html, "<tr><th scope=\"row\">");
        html_text(html, name);
        html_raw(html, "</th><td class=\"word\">");
        write_scalar(html, key, value);
        html_raw(html, "</td></tr>\n");
    }
}

void report__environment(struct html *html, const struct report_source *source)
{
    html_raw(html, "<section id=\"machine\">\n<h2>Machine and settings</h2>\n");
    for (unsigned i = 0; i < source->part_count; i++) {
        html_element(html, "h3", source->parts[i].name);
        html_raw(html, "\n<div class=\"wide\" tabindex=\"0\"><table class=\"keys\"><tbody>\n");
        write_keys(html, "", source->parts[i].root);
        html_raw(html, "</tbody></table></div>\n");
    }
    html_raw(html, "</section>\n");
}

/* A word of a command line as a shell would have to be given it. */
static void write_word(struct html *html, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "-_=+,./:@%";
    if (word[0] != '\0' && word[strspn(word, plain)] == '\0') {
        html_text(html, word);
        return;
    }
    html_text(html, "'");
    for (; *word != '\0'; word++) {
        const char letter[2] = {*word, '\0'};
        html_text(html, *word == '\'' ? "'\\''" : letter);
    }
    html_text(html, "'");
}

void report__commands(struct html *html, const struct report_source *source)
{
    html_raw(html, "<section id=\"command\">\n<h2>Command</h2>\n");
    for (unsigned i = 0; i < source->part_count; i++) {
        const json_t *words = json_object_get(source->parts[i].root, "command"), *word;
        size_t w;
        if (source->part_count > 1)
            html_element(html, "h3", source->parts[i].name);
        if (json_array_size(words) == 0) {
            paragraph(html, "missing", "The file does not say by which command it was written.");
            continue;
        }
        html_raw(html, "<pre><code>");
        json_array_foreach(words, w, word)
        {
            html_raw(html, w > 0 ? " " : "");
            write_word(html, json_is_string(word) ? json_string_value(word) : "?");
        }
        html_raw(html, "</code></pre>\n");
    }
    html_raw(html, "</section>\n");
}
