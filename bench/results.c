/* SPDX-License-Identifier: MIT */
/* Rows: collecting repetitions, medians, the ratio to raw, JSON. */
#include "results.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void bench_results_fini(struct bench_results *results)
{
    for (unsigned i = 0; i < results->count; i++)
        free(results->rows[i].runs);
    free(results->rows);
    memset(results, 0, sizeof *results);
}

int bench_results_add(struct bench_results *results, const struct bench_row *row)
{
    if (results->count == results->capacity) {
        unsigned capacity = results->capacity == 0 ? 64 : results->capacity * 2;
        struct bench_row *rows = realloc(results->rows, capacity * sizeof *rows);
        if (rows == NULL)
            return -1;
        results->rows = rows;
        results->capacity = capacity;
    }
    results->rows[results->count] = *row;
    results->rows[results->count].runs = NULL;
    results->rows[results->count].run_count = 0;
    return (int)results->count++;
}

int bench_results_add_run(struct bench_row *row, const struct bench_cell_result *run)
{
    struct bench_cell_result *runs = realloc(row->runs, (row->run_count + 1) * sizeof *runs);
    if (runs == NULL)
        return -1;
    runs[row->run_count++] = *run;
    row->runs = runs;
    return 0;
}

void bench_results_fail(struct bench_row *row, const char *text)
{
    if (row->failed[0] == '\0')
        snprintf(row->failed, sizeof row->failed, "%s", text);
}

/* The median of one figure, a double at an offset of struct bench_cell_result. */
static double median_of(const struct bench_row *row, size_t offset)
{
    double values[BENCH_REPEAT_MAX];
    for (unsigned i = 0; i < row->run_count; i++)
        memcpy(&values[i], (const char *)&row->runs[i] + offset, sizeof values[i]);
    return bench_summarize(values, row->run_count).median;
}

/* The run in the middle: half of the others at most are slower, half at most faster. */
static unsigned typical_run(const double *values, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        unsigned slower = 0, as_slow = 0;
        for (unsigned j = 0; j < count; j++) {
            slower += values[j] < values[i];
            as_slow += values[j] <= values[i];
        }
        if (slower <= (count - 1) / 2 && as_slow > (count - 1) / 2)
            return i;
    }
    return 0;
}

static void summarize(struct bench_row *row)
{
    static const size_t figures[] = {
        offsetof(struct bench_cell_result, ops_per_s),
        offsetof(struct bench_cell_result, p50_us),
        offsetof(struct bench_cell_result, p99_us),
        offsetof(struct bench_cell_result, p999_us),
        offsetof(struct bench_cell_result, max_us),
        offsetof(struct bench_cell_result, cpu_us_per_op),
        offsetof(struct bench_cell_result, read_bytes_per_op),
        offsetof(struct bench_cell_result, written_bytes_per_op),
        offsetof(struct bench_cell_result, hit_ratio),
        offsetof(struct bench_cell_result, seconds),
        offsetof(struct bench_cell_result, log_bytes),
        offsetof(struct bench_cell_result, recovered_pages),
        offsetof(struct bench_cell_result, ops_per_s_cv),
        offsetof(struct bench_cell_result, major_faults_per_op),
    };
    double values[BENCH_REPEAT_MAX];
    for (unsigned i = 0; i < row->run_count; i++) {
        values[i] = row->runs[i].ops_per_s;
        if (row->cell.rate > 0 && !bench_rate_reached((uint64_t)row->runs[i].due_count,
                                                      row->runs[i].op_count, row->cell.threads))
            row->rate_missed = true;
        if (row->runs[i].max_us > row->max_us)
            row->max_us = row->runs[i].max_us;
    }
    row->ops_per_s = bench_summarize(values, row->run_count);
    row->typical_run = typical_run(values, row->run_count);
    for (unsigned i = 0; i < sizeof figures / sizeof *figures; i++) {
        double median = median_of(row, figures[i]);
        memcpy((char *)&row->median + figures[i], &median, sizeof median);
    }
}

#define READS_SMALLEST 4096u /* a page of the kernel */
#define READS_BEYOND   1.05  /* read ahead and not used in the end, and what lies between pages */

bool bench_results_know_hits(const struct bench_results *results, const struct bench_row *row,
                             const struct bench_plan *plan)
{
    const bool raw_log = row->engine == &bench_engine_raw && bench_workload_commits(row->workload);
    return row->failed[0] == '\0' && !results->in_memory && row->workload != BENCH_RECOVER &&
           !raw_log && row->engine->reads != BENCH_READS_BLOCKS &&
           (row->engine->reads == BENCH_READS_PAGES || plan->page_size == READS_SMALLEST) &&
           row->median.read_bytes_per_op <= READS_BEYOND * plan->page_size;
}

static bool same_place(const struct bench_row *a, const struct bench_row *b)
{
    return a->workload == b->workload && a->dist_index == b->dist_index &&
           a->size_index == b->size_index && a->cell.threads == b->cell.threads &&
           a->cell.depth == b->cell.depth && a->cell.log_bytes == b->cell.log_bytes &&
           a->cell.rate == b->cell.rate && a->durability == b->durability;
}

/* What rows are compared by: operations, or log gone through, per second. */
static double comparable(const struct bench_row *row)
{
    if (row->workload != BENCH_RECOVER)
        return row->ops_per_s.median;
    return row->median.seconds > 0 ? row->median.log_bytes / row->median.seconds : 0;
}

void bench_results_finish(struct bench_results *results)
{
    results->failed_count = 0;
    for (unsigned i = 0; i < results->count; i++) {
        struct bench_row *row = &results->rows[i];
        if (row->run_count == 0)
            bench_results_fail(row, "not measured");
        if (row->failed[0] != '\0')
            results->failed_count++;
        else
            summarize(row);
    }
    for (unsigned i = 0; i < results->count; i++) {
        struct bench_row *row = &results->rows[i];
        for (unsigned j = 0; j < results->count && row->failed[0] == '\0'; j++) {
            const struct bench_row *raw = &results->rows[j];
            if (raw->engine == &bench_engine_raw && raw->failed[0] == '\0' &&
                same_place(row, raw) && comparable(raw) > 0)
                row->ratio_to_raw = comparable(row) / comparable(raw);
        }
    }
}

/* ---- JSON
 * -------------------------------------------------------------------------------------------- */

char *bench_results_slack_note(char *text, size_t capacity, const struct bench_plan *plan)
{
    char slack[32];
    snprintf(text, capacity, "its cache may use the --slack too: up to %s more memory",
             bench_format_size(slack, sizeof slack, plan->slack_bytes));
    return text;
}

static json_t *notes_json(const struct bench_row *row, const struct bench_plan *plan,
                          bool equal_memory)
{
    json_t *notes = json_array();
    bool deep_asked = false;
    char slack[100];
    for (unsigned i = 0; i < plan->depth_count; i++)
        deep_asked = deep_asked || plan->depths[i] > 1;
    if (!row->engine->deep && deep_asked && row->cell.rate == 0 &&
        row->workload != BENCH_READ_SCAN && !bench_workload_commits(row->workload))
        json_array_append_new(
            notes, json_string("this engine cannot keep several reads in flight: depth 1 only"));
    if (row->workload == BENCH_UPDATE_RANDOM)
        json_array_append_new(notes, json_string("updates are not durable"));
    if (!equal_memory && row->engine->uses_page_cache)
        json_array_append_new(
            notes, json_string("no memory cgroup: this engine could use all the machine's memory"));
    if (equal_memory && row->engine->needs_slack)
        json_array_append_new(notes,
                              json_string(bench_results_slack_note(slack, sizeof slack, plan)));
    if (row->synchronous)
        json_array_append_new(notes, json_string(BENCH_SYNCHRONOUS_NOTE));
    if (row->cell.rate > 0)
        json_array_append_new(
            notes, json_string("open loop: latency counts from when an operation was due"));
    if (row->fits && row->cell.depth == 1 && row->cell.rate == 0 &&
        (row->workload == BENCH_READ_RANDOM || row->workload == BENCH_UPDATE_RANDOM))
        json_array_append_new(notes, json_string("latency is sampled, one operation in 257"));
    return notes;
}

/* Sets name to a number, or to null in a failed row. */
static void set_real(json_t *object, const struct bench_row *row, const char *name, double value)
{
    json_object_set_new(object, name, row->failed[0] == '\0' ? json_real(value) : json_null());
}

static void set_text(json_t *object, const char *name, const char *value)
{
    json_object_set_new(object, name, json_string(value));
}

static void set_integer(json_t *object, const char *name, uint64_t value)
{
    json_object_set_new(object, name, json_integer((json_int_t)value));
}

json_t *bench_series_json(const struct bench_series *series)
{
    json_t *points = json_array();
    for (unsigned i = 0; i < series->count; i++) {
        const struct bench_point *point = &series->points[i];
        json_array_append_new(points, json_pack("{s:f,s:f,s:f,s:f}", "t_s", point->t_s, "ops_per_s",
                                                point->ops_per_s, "p99_us", point->p99_us, "max_us",
                                                point->max_us));
    }
    return points;
}

/* How it went over time, in the run that is the median. */
static void set_series(json_t *object, const struct bench_row *row)
{
    json_object_set_new(object, "series",
                        row->failed[0] == '\0'
                            ? bench_series_json(&row->runs[row->typical_run].series)
                            : json_array());
    set_real(object, row, "ops_per_s_cv", row->median.ops_per_s_cv);
}

static void set_rate(json_t *object, const struct bench_row *row)
{
    bool open = row->cell.rate > 0, measured = open && row->failed[0] == '\0';
    json_object_set_new(object, "rate",
                        open ? json_integer((json_int_t)row->cell.rate) : json_null());
    json_object_set_new(object, "rate_reached",
                        measured ? json_boolean(!row->rate_missed) : json_null());
}

static void set_recovery(json_t *object, const struct bench_row *row)
{
    const struct bench_cell_result *median = &row->median;
    set_integer(object, "log_size_bytes", row->cell.log_bytes);
    set_real(object, row, "open_s", median->seconds);
    set_real(object, row, "log_bytes", median->log_bytes);
    set_real(object, row, "log_bytes_per_s",
             median->seconds > 0 ? median->log_bytes / median->seconds : 0);
    json_object_set_new(object, "recovered_pages",
                        median->recovered_pages < 0 ? json_null()
                                                    : json_real(median->recovered_pages));
}

/* The smallest and the largest of the repetitions: what a comparison tells differences by. */
static void set_extremes(json_t *object, const struct bench_row *row)
{
    static const struct {
        const char *name;
        size_t offset;
    } figures[] = {
        {"p50_us", offsetof(struct bench_cell_result, p50_us)},
        {"p99_us", offsetof(struct bench_cell_result, p99_us)},
        {"p999_us", offsetof(struct bench_cell_result, p999_us)},
        {"max_us", offsetof(struct bench_cell_result, max_us)},
        {"cpu_us_per_op", offsetof(struct bench_cell_result, cpu_us_per_op)},
        {"open_s", offsetof(struct bench_cell_result, seconds)},
    };
    for (unsigned i = 0; i < sizeof figures / sizeof *figures; i++) {
        double min = 0, max = 0, value;
        char name[40];
        if (strcmp(figures[i].name, "open_s") == 0 && row->workload != BENCH_RECOVER)
            continue;
        for (unsigned r = 0; r < row->run_count; r++) {
            memcpy(&value, (const char *)&row->runs[r] + figures[i].offset, sizeof value);
            min = r == 0 || value < min ? value : min;
            max = r == 0 || value > max ? value : max;
        }
        snprintf(name, sizeof name, "%s_min", figures[i].name);
        set_real(object, row, name, min);
        snprintf(name, sizeof name, "%s_max", figures[i].name);
        set_real(object, row, name, max);
    }
}

static json_t *row_json(const struct bench_results *results, const struct bench_row *row,
                        const struct bench_plan *plan, bool equal_memory)
{
    json_t *object = json_object(), *runs = json_array();
    const struct bench_cell_result *median = &row->median;
    uint64_t ops = 0, timed = 0, verified = 0;
    for (unsigned i = 0; i < row->run_count; i++) {
        json_array_append_new(runs, json_real(row->runs[i].ops_per_s));
        ops += row->runs[i].op_count;
        timed += row->runs[i].timed_count;
        verified += row->runs[i].verified_count;
    }
    set_text(object, "engine", row->engine->name);
    set_text(object, "workload", bench_workload_names[row->workload]);
    set_text(object, "dist", row->dist);
    set_text(object, "access", row->access);
    set_integer(object, "threads", row->cell.threads);
    set_integer(object, "depth", row->cell.depth);
    set_integer(object, "size_bytes", row->size_bytes);
    set_integer(object, "mem_bytes", row->mem_bytes);
    set_real(object, row, "ops_per_s", row->ops_per_s.median);
    set_real(object, row, "ops_per_s_min", row->ops_per_s.min);
    set_real(object, row, "ops_per_s_max", row->ops_per_s.max);
    json_object_set_new(object, "ratio_to_raw",
                        row->ratio_to_raw > 0 ? json_real(row->ratio_to_raw) : json_null());
    set_real(object, row, "p50_us", median->p50_us);
    set_real(object, row, "p99_us", median->p99_us);
    set_real(object, row, "p999_us", median->p999_us);
    set_real(object, row, "max_us", row->max_us);
    set_real(object, row, "cpu_us_per_op", median->cpu_us_per_op);
    set_real(object, row, "read_bytes_per_op", median->read_bytes_per_op);
    json_object_set_new(object, "hit_ratio",
                        bench_results_know_hits(results, row, plan) ? json_real(median->hit_ratio)
                                                                    : json_null());
    json_object_set_new(object, "peak_mem_bytes",
                        row->peak_mem_bytes > 0 ? json_integer((json_int_t)row->peak_mem_bytes)
                                                : json_null());
    /* beyond what is promised */
    set_real(object, row, "written_bytes_per_op", median->written_bytes_per_op);
    if (row->run_count < 2)
        json_object_set_new(object, "spread", json_null());
    else
        set_real(object, row, "spread", row->ops_per_s.spread);
    set_integer(object, "page_size_bytes", plan->page_size);
    set_text(object, "advice", bench_advice_names[bench_plan_advice(plan, row->workload)]);
    json_object_set_new(object, "fits_in_memory", json_boolean(row->fits));
    set_integer(object, "repeats", row->run_count);
    json_object_set_new(object, "ops_per_s_runs", runs);
    set_integer(object, "ops", ops);
    set_integer(object, "latencies", timed);
    set_integer(object, "verified_words", verified);
    json_object_set_new(object, "durability",
                        row->has_durability ? json_string(bench_durability_names[row->durability])
                                            : json_null());
    set_extremes(object, row);
    set_series(object, row);
    set_rate(object, row);
    set_real(object, row, "major_faults_per_op", median->major_faults_per_op);
    if (strcmp(row->access, bench_access_names[BENCH_BATCH]) == 0)
        set_integer(object, "batch", row->cell.depth > 1 ? row->cell.depth : plan->batch);
    if (row->workload == BENCH_MIXED)
        json_object_set_new(object, "write_share", json_real(plan->write_share));
    if (row->workload == BENCH_RECOVER)
        set_recovery(object, row);
    set_text(object, "details", row->details);
    json_object_set_new(object, "notes", notes_json(row, plan, equal_memory));
    json_object_set_new(object, "failed",
                        row->failed[0] == '\0' ? json_null() : json_string(row->failed));
    return object;
}

json_t *bench_results_json(const struct bench_results *results, const struct bench_plan *plan,
                           bool equal_memory)
{
    json_t *array = json_array();
    for (unsigned i = 0; array != NULL && i < results->count; i++)
        json_array_append_new(array, row_json(results, &results->rows[i], plan, equal_memory));
    return array;
}
