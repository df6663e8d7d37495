/* SPDX-License-Identifier: MIT */
/*
 * check_results FILE ROWS [failed]: is FILE what `clockpool-bench run --json` promises? Every field
 * present, of its type, and plausible. With "failed" some rows must say that they failed, without
 * it none may. check_results FILE claims: the same of `clockpool-bench claims --json`. Exit status
 * 0 when all is well.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned errors;

static void expect(bool holds, size_t row, const char *what)
{
    if (holds)
        return;
    printf("row %zu: %s\n", row, what);
    errors++;
}

static double number(const json_t *row, const char *name)
{
    const json_t *value = json_object_get(row, name);
    if (!json_is_number(value)) {
        printf("field %s is missing or no number\n", name);
        errors++;
    }
    return json_number_value(value);
}

static void check_text(const json_t *row, const char *name)
{
    const char *value = json_string_value(json_object_get(row, name));
    if (value == NULL || value[0] == '\0') {
        printf("field %s is missing or empty\n", name);
        errors++;
    }
}

/* The workload recover has fields of its own, and no hits, percentiles or peaks worth checking. */
static void check_recovery(const json_t *row, size_t index)
{
    bool raw = strcmp(json_string_value(json_object_get(row, "engine")), "raw") == 0;
    double asked = number(row, "log_size_bytes"), log = number(row, "log_bytes");
    expect(number(row, "open_s") > 0, index, "opening took no time");
    expect(log >= asked * 0.99, index, "the log is smaller than asked for");
    expect(number(row, "verified_words") > 0, index, "nothing was verified");
    expect(!raw || asked > 0, index, "raw had nothing to read");
    if (asked > 0)
        expect(number(row, "log_bytes_per_s") > 0 && number(row, "ratio_to_raw") > 0, index,
               "no rate");
}

/* Intervals that follow each other, with work in them. */
static void check_series(const json_t *row, size_t index)
{
    const json_t *series = json_object_get(row, "series"), *point;
    double before = 0, ops = 0;
    size_t i;
    expect(json_array_size(series) > 0, index, "no series");
    json_array_foreach(series, i, point)
    {
        double end = number(point, "t_s"), p99 = number(point, "p99_us");
        expect(end > before, index, "the series does not go on");
        expect(p99 >= 0 && p99 <= number(point, "max_us"), index, "an interval's percentiles");
        ops += number(point, "ops_per_s") * (end - before);
        before = end;
    }
    /* On a busy machine the few operations of a short measurement may all end after its last
     * interval; the series is of the slower repetition of two. */
    expect(ops > 0 || number(row, "ops_per_s_min") * before < 10000, index,
           "a series without work");
    expect(number(row, "ops_per_s_cv") >= 0, index, "ops_per_s_cv");
}

/*
 * Nothing of speed: a rate that was not reached is no error. But nothing is done before it is due,
 * and where not half of what was due was done, the last of it had been due in the first half.
 */
static void check_rate(const json_t *row, size_t index)
{
    const json_t *rate = json_object_get(row, "rate"), *reached, *series, *last;
    reached = json_object_get(row, "rate_reached");
    expect(number(row, "major_faults_per_op") >= 0, index, "major_faults_per_op");
    if (json_is_null(rate)) {
        expect(json_is_null(reached), index, "rate_reached without a rate");
        return;
    }
    const double due = number(row, "rate"), done = number(row, "ops_per_s_max");
    expect(due >= 1 && json_is_boolean(reached), index, "rate and rate_reached");
    expect(number(row, "depth") == 1, index, "an open loop deeper than 1");
    expect(done <= due * 1.05 + 50, index, "more was done than was due");
    series = json_object_get(row, "series");
    last = json_array_get(series, json_array_size(series) - 1);
    expect(done * 2 > due || number(row, "max_us") > number(last, "t_s") * 1e6 / 4, index,
           "latency does not count from when it was due");
}

/* What tells rows of different work apart, where the fields above do not. */
static void check_choices(const json_t *row, size_t index)
{
    const char *workload = json_string_value(json_object_get(row, "workload"));
    const char *access = json_string_value(json_object_get(row, "access"));
    bool batch = strcmp(access, "batch") == 0, mixed = strcmp(workload, "mixed") == 0;
    check_text(row, "advice");
    expect((json_object_get(row, "batch") != NULL) == batch, index, "batch");
    expect((json_object_get(row, "write_share") != NULL) == mixed, index, "write_share");
    if (batch)
        expect(number(row, "batch") == (number(row, "depth") > 1 ? number(row, "depth") : 16),
               index, "the batch is neither the depth nor the default");
}

static void check_row(const json_t *row, size_t index, bool equal_memory)
{
    const char *workload = json_string_value(json_object_get(row, "workload"));
    if (strcmp(workload, "recover") == 0) {
        check_recovery(row, index);
        return;
    }
    double rate = number(row, "ops_per_s");
    double min = number(row, "ops_per_s_min"), max = number(row, "ops_per_s_max");
    double p50 = number(row, "p50_us"), p99 = number(row, "p99_us");
    double p999 = number(row, "p999_us"), longest = number(row, "max_us");
    double size = number(row, "size_bytes"), memory = number(row, "mem_bytes");
    const json_t *hits = json_object_get(row, "hit_ratio"); /* null: nobody knows */
    double read = number(row, "read_bytes_per_op");
    double page = number(row, "page_size_bytes");
    const json_t *peak = json_object_get(row, "peak_mem_bytes"); /* null: no cgroup counted it */
    bool commits = strstr(workload, "commit") != NULL || strcmp(workload, "mixed") == 0;
    bool fits = json_is_true(json_object_get(row, "fits_in_memory"));
    expect(rate > 0, index, "ops_per_s is 0");
    expect(min <= rate && rate <= max, index, "ops_per_s is not between min and max");
    expect(p50 <= p99 && p99 <= p999 && p999 <= longest && longest > 0, index,
           "percentiles do not rise");
    expect(number(row, "threads") >= 1 && number(row, "depth") >= 1, index, "threads or depth");
    expect(number(row, "cpu_us_per_op") > 0, index, "cpu_us_per_op is 0");
    expect(json_is_null(hits) || (number(row, "hit_ratio") >= 0 && number(row, "hit_ratio") <= 1),
           index, "hit_ratio is no ratio");
    expect(!fits || size <= memory, index, "fits_in_memory, and larger than it");
    /* A store's first change looks at its log, once. */
    expect(commits || !fits || read * number(row, "ops") < page * (0.01 * number(row, "ops") + 8),
           index, "data that fit are read from the device");
    expect(commits || fits ||
               strcmp(json_string_value(json_object_get(row, "engine")), "raw") != 0 ||
               read > page * 0.99,
           index, "raw reads less than a page each time");
    expect(json_is_null(peak) || (equal_memory && json_integer_value(peak) > 1 << 20), index,
           "peak_mem_bytes is too small to be true, or nobody's");
    const char *class = json_string_value(json_object_get(row, "durability"));
    bool ranked = strcmp(workload, "commit-relaxed") != 0 || strcmp(class, "none") != 0;
    if (ranked)
        expect(number(row, "ratio_to_raw") > 0, index, "ratio_to_raw is not positive");
    else
        expect(json_is_null(json_object_get(row, "ratio_to_raw")), index, "ranked across classes");
    expect(number(row, "verified_words") >= number(row, "ops") || commits, index,
           "not all ops were verified");
    expect(number(row, "verified_words") > 0, index, "nothing was verified");
    expect((class == NULL) == (strncmp(workload, "read", 4) == 0), index, "durability");
    check_choices(row, index);
    check_series(row, index);
    check_rate(row, index);
}

static void check_environment(const json_t *root)
{
    static const char *const places[] = {"directory", "file_system"};
    static const char *const versions[] = {"clockpool", "liburing", "lmdb", "jansson"};
    const json_t *environment = json_object_get(root, "environment");
    const json_t *machine = json_object_get(environment, "machine");
    check_text(machine, "kernel");
    check_text(machine, "cpu");
    expect(number(machine, "cpu_count") >= 1, 0, "cpu_count");
    for (unsigned i = 0; i < 2; i++)
        check_text(json_object_get(environment, "place"), places[i]);
    for (unsigned i = 0; i < 4; i++)
        check_text(json_object_get(environment, "versions"), versions[i]);
    expect(json_array_size(json_object_get(root, "command")) > 1, 0, "command is missing");
    check_text(root, "version");
    expect(json_is_boolean(json_object_get(root, "equal_memory")), 0, "equal_memory is missing");
}

/* Is a figure of a claim, of an engine, the median of its repetitions' field? */
static void check_median(const json_t *claim, const char *figure_name, const char *engine,
                         const char *field)
{
    const json_t *runs = json_object_get(claim, "over_time"), *run, *figure;
    const json_t *figures = json_object_get(claim, "figures");
    double values[8];
    size_t count = 0, i;
    json_array_foreach(runs, i, run)
    {
        const json_t *value = json_object_get(run, field);
        if (strcmp(json_string_value(json_object_get(run, "engine")), engine) != 0)
            continue;
        expect(json_is_null(value) || json_is_real(value), i, field);
        if (json_is_real(value) && count < 8)
            values[count++] = json_real_value(value);
    }
    json_array_foreach(figures, i, figure)
    {
        if (strcmp(json_string_value(json_object_get(figure, "name")), figure_name) != 0 ||
            strcmp(json_string_value(json_object_get(figure, "engine")), engine) != 0)
            continue;
        size_t below = 0, above = 0;
        double median = number(figure, "value");
        for (size_t v = 0; v < count; v++) {
            below += values[v] < median * (1 - 1e-9);
            above += values[v] > median * (1 + 1e-9);
        }
        expect(count > 0 && below <= count / 2 && above <= count / 2, i,
               "the figure is not the median of the repetitions");
    }
}

/* The variation of a repetition, by its series, is what it says. */
static void check_variation(const json_t *run, size_t index)
{
    const json_t *series = json_object_get(run, "series"), *point;
    double sum = 0, squares = 0, count = 0;
    size_t i;
    if (!json_is_real(json_object_get(run, "full_s"))) {
        expect(json_is_null(json_object_get(run, "full_s")), index, "full_s");
        return;
    }
    const double from_s = number(run, "full_s");
    json_array_foreach(series, i, point)
    {
        const double rate = number(point, "ops_per_s");
        if (number(point, "t_s") <= from_s)
            continue;
        sum += rate;
        squares += rate * rate;
        count++;
    }
    const double mean = sum / count, cv = number(run, "cv");
    const double wanted = (squares - sum * mean) / (count - 1) / (mean * mean);
    expect(count >= 3 && wanted - cv * cv < 1e-9 && cv * cv - wanted < 1e-9, index,
           "cv is not that of the series from full_s on");
}

/* The verdict on the first claim can be found again from what is there of each repetition. */
static void check_over_time(const json_t *claim)
{
    static const char *const engines[] = {"pool", "mmap"};
    const json_t *runs = json_object_get(claim, "over_time"), *run;
    size_t i;
    const char *verdict = json_string_value(json_object_get(claim, "verdict"));
    expect(json_array_size(runs) > 0 || (verdict != NULL && strcmp(verdict, "not measured") == 0),
           0, "over_time has no repetition");
    json_array_foreach(runs, i, run) check_variation(run, i);
    for (unsigned e = 0; e < 2; e++) {
        check_median(claim, "memory full after", engines[e], "full_s");
        check_median(claim, "variation of ops/s once full", engines[e], "cv");
        check_median(claim, "p99.9 once full", engines[e], "p999_full_us");
    }
}

/* A claim: one of the verdicts, why, and figures unless it was not measured. Which verdict is the
 * machine's business. */
static void check_claim(const json_t *claim, size_t index)
{
    static const char *const texts[] = {"claim", "rule", "verdict", "reason"};
    const json_t *figures = json_object_get(claim, "figures"), *figure;
    size_t i;
    for (unsigned t = 0; t < 4; t++)
        check_text(claim, texts[t]);
    const char *verdict = json_string_value(json_object_get(claim, "verdict"));
    bool measured = verdict != NULL && strcmp(verdict, "not measured") != 0;
    expect(number(claim, "id") == (double)(index + 1), index, "id");
    expect(!measured || strcmp(verdict, "supported") == 0 ||
               strcmp(verdict, "not supported here") == 0,
           index, "no such verdict");
    expect(json_is_array(figures) && (!measured || json_array_size(figures) > 0), index, "figures");
    json_array_foreach(figures, i, figure)
    {
        check_text(figure, "name");
        check_text(figure, "engine");
        expect(number(figure, "value") >= 0, index, "a figure below 0");
        expect(json_is_string(json_object_get(figure, "unit")), index, "unit");
    }
}

static void check_claims(const json_t *root)
{
    const json_t *claims = json_object_get(root, "claims"), *claim;
    size_t i;
    expect(json_array_size(claims) == 4, json_array_size(claims), "is the number of claims");
    json_array_foreach(claims, i, claim) check_claim(claim, i);
    check_over_time(json_array_get(claims, 0));
}

int main(int argc, char **argv)
{
    static const char *const texts[] = {"engine", "workload", "dist", "access"};
    json_error_t where;
    if (argc < 3)
        return 2;
    json_t *root = json_load_file(argv[1], 0, &where);
    if (root == NULL) {
        printf("%s:%d: %s\n", argv[1], where.line, where.text);
        return 1;
    }
    const json_t *results = json_object_get(root, "results"), *row;
    bool equal_memory = json_is_true(json_object_get(root, "equal_memory"));
    size_t i, failed = 0, wanted = strtoul(argv[2], NULL, 10);
    check_environment(root);
    if (strcmp(argv[2], "claims") == 0) {
        check_claims(root);
        json_decref(root);
        return errors == 0 ? 0 : 1;
    }
    expect(json_array_size(results) == wanted, json_array_size(results), "is the number of rows");
    json_array_foreach(results, i, row)
    {
        for (unsigned t = 0; t < 4; t++)
            check_text(row, texts[t]);
        if (json_is_string(json_object_get(row, "failed")))
            failed++;
        else
            check_row(row, i, equal_memory);
    }
    expect((failed > 0) == (argc > 3), failed, "rows failed");
    json_decref(root);
    return errors == 0 ? 0 : 1;
}
