/* SPDX-License-Identifier: MIT */
/* Rows out of JSON. */
#include "rows.h"

#include "units.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const struct report_metric_info report_metrics[REPORT_METRIC_COUNT] = {
    [REPORT_OPS] = {"ops_per_s", "ops", "ops/s", true},
    [REPORT_P50] = {"p50_us", "p50", "p50", false},
    [REPORT_P99] = {"p99_us", "p99", "p99", false},
    [REPORT_P999] = {"p999_us", "p999", "p99.9", false},
    [REPORT_MAX] = {"max_us", "max", "max", false},
    [REPORT_CPU] = {"cpu_us_per_op", "cpu", "CPU", false},
    [REPORT_PEAK] = {"peak_mem_bytes", "mem", "peak mem", false},
    [REPORT_OPEN] = {"open_s", "open", "open s", false},
};

/* NAN: there is none, or it is no number. */
static double number_of(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static const char *text_of(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

double report_row_number(const struct report_row *row, const char *field)
{
    return number_of(row->json, field);
}

bool report_row_recovers(const struct report_row *row)
{
    return strcmp(row->workload, "recover") == 0;
}

/* limited: each engine had a cgroup of its own. */
static void read_values(struct report_row *row, bool limited)
{
    /* One repetition has extremes that say nothing of how much others would differ. */
    const bool ranges = !(number_of(row->json, "repeats") < 2);
    for (unsigned i = 0; i < REPORT_METRIC_COUNT; i++) {
        struct report_value *value = &row->values[i];
        const char *field = report_metrics[i].field;
        char name[64];
        value->value = value->min = value->max = NAN;
        if (row->failed != NULL ||
            (report_row_recovers(row) && i != REPORT_OPEN && i != REPORT_PEAK))
            continue;
        value->value = number_of(row->json, field);
        if (!ranges)
            continue;
        snprintf(name, sizeof name, "%s_min", field);
        value->min = number_of(row->json, name);
        snprintf(name, sizeof name, "%s_max", field);
        value->max = number_of(row->json, name);
    }
    /* Without a cgroup it is the process's own size, or 0, in files of earlier versions. */
    if (!limited || !(row->values[REPORT_PEAK].value > 0))
        row->values[REPORT_PEAK].value = NAN;
}

static struct report_row read_row(unsigned part, const json_t *json, bool limited)
{
    struct report_row row = {
        .part = part,
        .engine = text_of(json, "engine"),
        .workload = text_of(json, "workload"),
        .dist = text_of(json, "dist"),
        .access = text_of(json, "access"),
        .durability = text_of(json, "durability"),
        .failed = text_of(json, "failed"),
        .advice = text_of(json, "advice"),
        .threads = (unsigned)json_integer_value(json_object_get(json, "threads")),
        .depth = (unsigned)json_integer_value(json_object_get(json, "depth")),
        .size_bytes = number_of(json, "size_bytes"),
        .mem_bytes = number_of(json, "mem_bytes"),
        .page_size_bytes = number_of(json, "page_size_bytes"),
        .log_size_bytes = number_of(json, "log_size_bytes"),
        .rate = number_of(json, "rate"),
        .batch = number_of(json, "batch"),
        .write_share = number_of(json, "write_share"),
        .json = json,
    };
    read_values(&row, limited);
    return row;
}

int report_rows_read(const struct report_part *parts, unsigned count, struct report_rows *out_rows,
                     struct bench_error *error)
{
    struct report_rows rows = {NULL, 0};
    size_t total = 0, index;
    const json_t *json;
    for (unsigned i = 0; i < count; i++)
        total += json_array_size(json_object_get(parts[i].root, "results"));
    rows.rows = calloc(total + 1, sizeof *rows.rows);
    if (rows.rows == NULL)
        return bench_fail(error, "out of memory for %zu rows", total);
    for (unsigned i = 0; i < count; i++) {
        bool limited = !json_is_false(json_object_get(parts[i].root, "equal_memory"));
        json_array_foreach(json_object_get(parts[i].root, "results"), index, json)
        {
            rows.rows[rows.count++] = read_row(i, json, limited);
        }
    }
    *out_rows = rows;
    return 0;
}

void report_rows_fini(struct report_rows *rows)
{
    free(rows->rows);
    rows->rows = NULL;
    rows->count = 0;
}

static bool same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* Equal, or both unknown. */
static bool same_number(double a, double b)
{
    return a == b || (isnan(a) && isnan(b));
}

bool report_rows_comparable(const struct report_row *a, const struct report_row *b)
{
    return a->part == b->part && same_text(a->workload, b->workload) &&
           same_text(a->dist, b->dist) && same_text(a->durability, b->durability) &&
           same_number(a->size_bytes, b->size_bytes) && same_number(a->mem_bytes, b->mem_bytes) &&
           same_number(a->page_size_bytes, b->page_size_bytes) && same_number(a->rate, b->rate);
}

/* Rows lie in one array, so their addresses tell which came first. */
static int compare_rows(const void *left, const void *right)
{
    const struct report_row *a = *(const struct report_row *const *)left;
    const struct report_row *b = *(const struct report_row *const *)right;
    if (a->threads != b->threads)
        return a->threads < b->threads ? -1 : 1;
    if (a->log_size_bytes != b->log_size_bytes && !isnan(a->log_size_bytes))
        return a->log_size_bytes < b->log_size_bytes ? -1 : 1;
    return a < b ? -1 : 1;
}

int report_groups_make(const struct report_rows *rows, struct report_group **out_groups,
                       unsigned *out_count, struct bench_error *error)
{
    struct report_group *groups = calloc(rows->count + 1, sizeof *groups);
    unsigned count = 0;
    for (unsigned i = 0; groups != NULL && i < rows->count; i++) {
        struct report_group *group = NULL;
        for (unsigned g = 0; g < count && group == NULL; g++)
            if (report_rows_comparable(groups[g].rows[0], &rows->rows[i]))
                group = &groups[g];
        if (group == NULL) {
            group = &groups[count++];
            group->rows = calloc(rows->count, sizeof(struct report_row *));
        }
        if (group->rows == NULL) {
            report_groups_free(groups, count);
            groups = NULL;
            break;
        }
        group->rows[group->count++] = &rows->rows[i];
    }
    if (groups == NULL)
        return bench_fail(error, "out of memory for %u rows", rows->count);
    for (unsigned g = 0; g < count; g++)
        qsort(groups[g].rows, groups[g].count, sizeof *groups[g].rows, compare_rows);
    *out_groups = groups;
    *out_count = count;
    return 0;
}

void report_groups_free(struct report_group *groups, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        free(groups[i].rows);
    free(groups);
}

char *report_row_heading(char *text, size_t capacity, const struct report_row *row)
{
    char size[32], mem[32], page[64] = "", class[80] = "", rate[64] = "", bytes[32];
    const json_t *fits = json_object_get(row->json, "fits_in_memory");
    if (row->page_size_bytes > 0)
        snprintf(page, sizeof page, " · pages of %s",
                 bench_format_size(bytes, sizeof bytes, (uint64_t)row->page_size_bytes));
    if (row->durability != NULL)
        snprintf(class, sizeof class, " · durability: %.50s", row->durability);
    if (row->rate > 0)
        snprintf(rate, sizeof rate, " · open loop, %.0f per second", row->rate);
    snprintf(text, capacity, "%s%s · %s%s · %s of data on %s of memory%s%s", row->workload, class,
             row->dist, rate, bench_format_size(size, sizeof size, (uint64_t)row->size_bytes),
             bench_format_size(mem, sizeof mem, (uint64_t)row->mem_bytes),
             json_is_true(fits)    ? " (fits)"
             : json_is_false(fits) ? " (does not fit)"
                                   : "",
             page);
    return text;
}
