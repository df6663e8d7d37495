/* SPDX-License-Identifier: MIT */
/* Reading files and checking them. What passes here needs no checks of type further on. */
#include "input.h"

#include "json_file.h"

#include <stdbool.h>
#include <string.h>

enum type { TEXT, COUNT, NUMBER, TEXT_OR_NULL, COUNT_OR_NULL };

struct field {
    const char *name;
    enum type type;
};

static const char *const type_names[] = {"a text", "a whole number of 0 or more", "a number",
                                         "a text or null", "a whole number of 0 or more, or null"};

static bool has_type(const json_t *value, enum type type)
{
    switch (type) {
    case TEXT:
        return json_is_string(value);
    case COUNT:
        return json_is_integer(value) && json_integer_value(value) >= 0;
    case NUMBER:
        return json_is_number(value);
    case TEXT_OR_NULL:
        return json_is_string(value) || json_is_null(value);
    default:
        return json_is_null(value) || has_type(value, COUNT);
    }
}

/* where: "results[3]" */
static int check_types(const char *name, const char *where, const json_t *object,
                       const struct field *fields, unsigned count, bool needed,
                       struct bench_error *error)
{
    if (!json_is_object(object))
        return bench_fail(error, "%s: %s is not an object", name, where);
    for (unsigned i = 0; i < count; i++) {
        const json_t *value = json_object_get(object, fields[i].name);
        if (value == NULL && !needed)
            continue;
        if (value == NULL)
            return bench_fail(error, "%s: %s has no field \"%s\"", name, where, fields[i].name);
        if (!has_type(value, fields[i].type))
            return bench_fail(error, "%s: %s: field \"%s\" is not %s", name, where, fields[i].name,
                              type_names[fields[i].type]);
    }
    return 0;
}

static int check_fields(const char *name, const char *where, const json_t *object,
                        const struct field *fields, unsigned count, struct bench_error *error)
{
    return check_types(name, where, object, fields, count, true, error);
}

#define FIELDS(array) array, sizeof array / sizeof *array

static int check_result(const char *name, size_t index, const json_t *row,
                        struct bench_error *error)
{
    static const struct field what[] = {
        {"engine", TEXT},         {"workload", TEXT},   {"dist", TEXT},
        {"access", TEXT},         {"threads", COUNT},   {"depth", COUNT},
        {"size_bytes", COUNT},    {"mem_bytes", COUNT}, {"peak_mem_bytes", COUNT_OR_NULL},
        {"failed", TEXT_OR_NULL},
    };
    static const struct field measured[] = {
        {"ops_per_s", NUMBER}, {"ops_per_s_min", NUMBER}, {"ops_per_s_max", NUMBER},
        {"p50_us", NUMBER},    {"p99_us", NUMBER},        {"p999_us", NUMBER},
        {"max_us", NUMBER},    {"cpu_us_per_op", NUMBER},
    };
    static const struct field optional[] = {{"page_size_bytes", COUNT}, {"log_size_bytes", COUNT},
                                            {"rate", COUNT_OR_NULL},    {"batch", COUNT},
                                            {"write_share", NUMBER},    {"advice", TEXT}};
    char where[40];
    snprintf(where, sizeof where, "results[%zu]", index);
    if (check_fields(name, where, row, FIELDS(what), error) != 0 ||
        check_types(name, where, row, FIELDS(optional), false, error) != 0)
        return -1;
    if (json_is_string(json_object_get(row, "failed")))
        return 0; /* nothing was measured */
    return check_fields(name, where, row, FIELDS(measured), error);
}

static int check_claim(const char *name, size_t index, const json_t *claim,
                       struct bench_error *error)
{
    static const struct field fields[] = {{"id", COUNT}, {"claim", TEXT}, {"verdict", TEXT}};
    static const struct field figure_fields[] = {{"name", TEXT}};
    const json_t *figure;
    size_t i;
    char where[80];
    snprintf(where, sizeof where, "claims[%zu]", index);
    if (check_fields(name, where, claim, FIELDS(fields), error) != 0)
        return -1;
    const char *verdict = json_string_value(json_object_get(claim, "verdict"));
    if (strcmp(verdict, "supported") != 0 && strcmp(verdict, "not supported here") != 0 &&
        strcmp(verdict, "not measured") != 0)
        return bench_fail(error,
                          "%s: %s: the verdict \"%s\" is none of \"supported\", \"not supported "
                          "here\" and \"not measured\"",
                          name, where, verdict);
    json_array_foreach(json_object_get(claim, "figures"), i, figure)
    {
        snprintf(where, sizeof where, "claims[%zu].figures[%zu]", index, i);
        if (check_fields(name, where, figure, FIELDS(figure_fields), error) != 0)
            return -1;
    }
    return 0;
}

static int check_curve(const char *name, size_t index, const json_t *curve,
                       struct bench_error *error)
{
    static const struct field fields[] = {{"trace", TEXT}, {"policy", TEXT}};
    static const struct field point_fields[] = {{"frames", NUMBER}, {"miss_ratio", NUMBER}};
    const json_t *points, *point;
    size_t i;
    char where[80];
    snprintf(where, sizeof where, "curves[%zu]", index);
    if (check_fields(name, where, curve, FIELDS(fields), error) != 0)
        return -1;
    points = json_object_get(curve, "points");
    if (!json_is_array(points))
        return bench_fail(error, "%s: %s has no array \"points\"", name, where);
    json_array_foreach(points, i, point)
    {
        snprintf(where, sizeof where, "curves[%zu].points[%zu]", index, i);
        if (check_fields(name, where, point, FIELDS(point_fields), error) != 0)
            return -1;
    }
    return 0;
}

struct list {
    const char *name;
    int (*check)(const char *name, size_t index, const json_t *item, struct bench_error *error);
};

int report_check(const char *name, const json_t *root, struct bench_error *error)
{
    static const struct list lists[] = {
        {"results", check_result}, {"claims", check_claim}, {"curves", check_curve}};
    unsigned found = 0;
    if (!json_is_object(root))
        return bench_fail(error, "%s: not an object, so not a file that clockpool-bench wrote",
                          name);
    const json_t *format = json_object_get(root, "format");
    if (format != NULL && json_integer_value(format) != BENCH_JSON_FORMAT)
        return bench_fail(error,
                          "%s: its format is %lld, this program reads format %d; use the "
                          "clockpool-bench that wrote it",
                          name, (long long)json_integer_value(format), BENCH_JSON_FORMAT);
    for (unsigned i = 0; i < sizeof lists / sizeof *lists; i++) {
        const json_t *list = json_object_get(root, lists[i].name), *item;
        size_t index;
        if (list == NULL)
            continue;
        found++;
        if (!json_is_array(list))
            return bench_fail(error, "%s: \"%s\" is not an array", name, lists[i].name);
        json_array_foreach(list, index, item)
        {
            if (lists[i].check(name, index, item, error) != 0)
                return -1;
        }
    }
    if (found == 0)
        return bench_fail(error,
                          "%s: has none of \"results\", \"claims\" and \"curves\"; files for this "
                          "are written by clockpool-bench with --json",
                          name);
    if (format == NULL && json_object_get(root, "results") != NULL)
        return bench_fail(error, "%s: has no field \"format\"", name);
    return 0;
}

/* The name of traces[index]; with a number behind it where another before has the same. A new
 * reference; NULL: it has none. */
static json_t *curve_name(const json_t *traces, size_t index)
{
    json_t *name = json_object_get(json_array_get(traces, index), "trace");
    unsigned number = 1;
    for (size_t i = 0; i < index && json_is_string(name); i++)
        number += json_equal(json_object_get(json_array_get(traces, i), "trace"), name);
    return number > 1 ? json_sprintf("%s (%u)", json_string_value(name), number)
                      : json_incref(name);
}

/*
 * `clockpool-bench trace` writes traces[] with policies[] in each; curves[] has one object for each
 * of both. What is not as it should be is taken over as it is, for report_check to find.
 */
static void add_curves(json_t *root)
{
    const json_t *traces = json_object_get(root, "traces"), *trace, *policy;
    json_t *curves = json_array();
    size_t t, p;
    json_array_foreach(traces, t, trace)
    {
        json_array_foreach(json_object_get(trace, "policies"), p, policy)
        {
            json_t *curve = json_object();
            json_object_set_new(curve, "trace", curve_name(traces, t));
            json_object_set(curve, "policy", json_object_get(policy, "policy"));
            json_object_set(curve, "points", json_object_get(policy, "points"));
            json_array_append_new(curves, curve);
        }
    }
    json_object_set_new(root, "curves", curves);
}

int report_load(const char *path, json_t **out_root, struct bench_error *error)
{
    json_error_t where;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &where);
    if (root == NULL && where.line < 1)
        return bench_fail(error, "%s", where.text); /* names the file */
    if (root == NULL)
        return bench_fail(error, "%s, line %d: not JSON: %s", path, where.line, where.text);
    if (json_is_array(json_object_get(root, "traces")) && json_object_get(root, "curves") == NULL)
        add_curves(root);
    if (report_check(path, root, error) != 0) {
        json_decref(root);
        return -1;
    }
    *out_root = root;
    return 0;
}
