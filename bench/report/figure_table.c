/* SPDX-License-Identifier: MIT */
/* A figure as a table. */
#include "figure.h"

#include <math.h>
#include <string.h>

static const char *text_of(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

static void cell(struct html *html, const char *text)
{
    html_raw(html, "<td>");
    html_text(html, text);
    html_raw(html, "</td>");
}

static void number_cell(struct html *html, const char *format, const json_t *value)
{
    char text[64];
    cell(html, report_format(text, sizeof text, format,
                             json_is_number(value) ? json_number_value(value) : NAN));
}

static void column(struct html *html, const char *text)
{
    html_raw(html, "<th scope=\"col\">");
    html_text(html, text);
    html_raw(html, "</th>");
}

static void row_header(struct html *html, const char *text)
{
    html_raw(html, "<tr><th scope=\"row\">");
    html_text(html, text);
    html_raw(html, "</th>");
}

static void group_row(struct html *html, const char *text, size_t columns)
{
    html_raw(html, "<tr><th class=\"group\" scope=\"rowgroup\" colspan=\"");
    html_format(html, "%zu", columns);
    html_raw(html, "\">");
    html_text(html, text);
    html_raw(html, "</th></tr>\n");
}

/* Has any row that value? A column of dashes says nothing. */
static bool any_has(const json_t *rows, const char *name)
{
    const json_t *row;
    size_t i;
    json_array_foreach(rows, i, row)
    {
        if (json_is_number(json_object_get(row, name)))
            return true;
    }
    return false;
}

static void bars_table(struct html *html, const json_t *figure)
{
    const json_t *rows = json_object_get(figure, "rows"), *row;
    const char *format = text_of(figure, "format");
    bool spread = any_has(rows, "low");
    size_t i;
    column(html, "engine");
    column(html, "value"); /* of what, the caption says */
    if (spread) {
        column(html, "smallest");
        column(html, "largest");
    }
    html_raw(html, "</tr></thead><tbody>\n");
    json_array_foreach(rows, i, row)
    {
        if (text_of(row, "heading") != NULL) {
            group_row(html, text_of(row, "heading"), spread ? 4 : 2);
            continue;
        }
        row_header(html, text_of(row, "label"));
        if (json_is_number(json_object_get(row, "value")))
            number_cell(html, format, json_object_get(row, "value"));
        else
            cell(html, text_of(row, "text"));
        if (spread) {
            number_cell(html, format, json_object_get(row, "low"));
            number_cell(html, format, json_object_get(row, "high"));
        }
        html_raw(html, "</tr>\n");
    }
}

static void dots_table(struct html *html, const json_t *figure)
{
    const json_t *rows = json_object_get(figure, "rows"), *row, *value;
    const json_t *points = json_object_get(figure, "points"), *point;
    size_t i, p;
    column(html, "engine");
    json_array_foreach(points, p, point)
    {
        column(html, json_string_value(point));
    }
    html_raw(html, "</tr></thead><tbody>\n");
    json_array_foreach(rows, i, row)
    {
        if (text_of(row, "heading") != NULL) {
            group_row(html, text_of(row, "heading"), json_array_size(points) + 1);
            continue;
        }
        row_header(html, text_of(row, "label"));
        json_array_foreach(json_object_get(row, "values"), p, value)
        {
            number_cell(html, text_of(figure, "format"), value);
        }
        html_raw(html, "</tr>\n");
    }
}

/* "1,234 (1,200–1,300)", or without the range where there is none. */
static void range_cell(struct html *html, const char *format, const json_t *series, size_t at)
{
    const json_t *value = json_array_get(json_object_get(series, "values"), at);
    const json_t *low = json_array_get(json_object_get(series, "low"), at);
    const json_t *high = json_array_get(json_object_get(series, "high"), at);
    char text[64], low_text[64], high_text[64];
    if (!json_is_number(low) || !json_is_number(high)) {
        number_cell(html, format, value);
        return;
    }
    report_format(text, sizeof text, format, json_number_value(value));
    report_format(low_text, sizeof low_text, format, json_number_value(low));
    report_format(high_text, sizeof high_text, format, json_number_value(high));
    html_raw(html, "<td>");
    html_format(html, "%s (%s–%s)", text, low_text, high_text);
    html_raw(html, "</td>");
}

static void lines_table(struct html *html, const json_t *figure)
{
    const json_t *x = json_object_get(figure, "x"), *list = json_object_get(figure, "series");
    const json_t *place, *series;
    size_t i, s;
    column(html, text_of(x, "label"));
    json_array_foreach(list, s, series)
    {
        column(html, text_of(series, "label"));
    }
    html_raw(html, "</tr></thead><tbody>\n");
    json_array_foreach(json_object_get(x, "values"), i, place)
    {
        char text[64];
        row_header(
            html, report_format(text, sizeof text, text_of(x, "format"), json_number_value(place)));
        json_array_foreach(list, s, series)
        {
            range_cell(html, text_of(figure, "format"), series, i);
        }
        html_raw(html, "</tr>\n");
    }
}

void report_figure_table(struct html *html, const json_t *figure)
{
    const char *kind = text_of(figure, "kind");
    html_raw(html, "<div class=\"wide\" tabindex=\"0\"><table><caption>");
    html_text(html, text_of(figure, "label"));
    html_raw(html, "</caption><thead><tr>");
    if (strcmp(kind, "bars") == 0)
        bars_table(html, figure);
    else if (strcmp(kind, "dots") == 0)
        dots_table(html, figure);
    else
        lines_table(html, figure);
    html_raw(html, "</tbody></table></div>\n");
}
