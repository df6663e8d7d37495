/* SPDX-License-Identifier: MIT */
/*
 * Tables, curve and JSON of the simulation. Reductions are against CLOCK, which is always
 * simulated, whether it is shown or not.
 */
#include "report.h"

#include "json_file.h"
#include "units.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

#define CURVE_COLUMNS 64u
#define CURVE_ROWS    16u
#define CLOCK         1u /* in trace_policies */

static void print_heading(const struct trace_report *report, const char *first, const char *second,
                          FILE *out)
{
    fprintf(out, "%-14s %7s", first, second);
    for (unsigned p = 0; p < TRACE_POLICIES; p++)
        if (report->chosen[p])
            fprintf(out, " %8s", trace_policies[p]->title);
    fputc('\n', out);
}

static void print_reductions(const struct trace_report *report, const struct trace_result *result,
                             const char *title, FILE *out)
{
    fprintf(out, "%-22s", title);
    for (unsigned p = 0; p < TRACE_POLICIES; p++)
        if (report->chosen[p])
            fprintf(out, " %8.2f", trace_reduction(result, p, CLOCK));
    fputc('\n', out);
}

/* Looks at slots a miss, for the policies with a hand. */
static void print_steps(const struct trace_report *report, const struct trace_result *result,
                        FILE *out)
{
    fprintf(out, "%-22s", "hand steps a miss");
    for (unsigned p = 0; p < TRACE_POLICIES; p++) {
        uint64_t steps = 0, misses = 0;
        for (unsigned s = 0; s < result->size_count; s++) {
            steps += result->counts[s][p].steps;
            misses += result->counts[s][p].misses;
        }
        if (report->chosen[p] && trace_policies[p]->steps != NULL)
            fprintf(out, " %8.2f", misses > 0 ? (double)steps / (double)misses : 0);
        else if (report->chosen[p])
            fprintf(out, " %8s", "");
    }
    fputc('\n', out);
}

static void print_one(const struct trace_report *report, const struct trace_result *result,
                      FILE *out)
{
    const struct trace_sequence *sequence = &result->sequence;
    char accesses[32], pages[32], frames[32];
    fprintf(out, "%s: %s accesses to %s pages; miss ratios in percent\n\n", sequence->name,
            bench_format_thousands(accesses, sizeof accesses, sequence->access_count),
            bench_format_thousands(pages, sizeof pages, sequence->page_count));
    print_heading(report, "frames", "pages", out);
    for (unsigned s = 0; s < result->size_count; s++) {
        fprintf(out, "%-14s %5.1f %%",
                bench_format_thousands(frames, sizeof frames, result->frames[s]),
                100.0 * result->frames[s] / sequence->page_count);
        for (unsigned p = 0; p < TRACE_POLICIES; p++)
            if (report->chosen[p])
                fprintf(out, " %8.2f", 100 * trace_miss_ratio(result, s, p));
        fputc('\n', out);
    }
    print_reductions(report, result, "% fewer than CLOCK", out);
    print_steps(report, result, out);
}

static void print_summary(const struct trace_report *report, FILE *out)
{
    fprintf(out, "Misses fewer than CLOCK's, in percent, mean over the sizes\n\n");
    print_heading(report, "trace", "", out);
    for (unsigned i = 0; i < report->result_count; i++)
        print_reductions(report, &report->results[i], report->results[i].sequence.name, out);
    fprintf(out, "%-22s", "mean");
    for (unsigned p = 0; p < TRACE_POLICIES; p++) {
        double sum = 0;
        for (unsigned i = 0; i < report->result_count; i++)
            sum += trace_reduction(&report->results[i], p, CLOCK);
        if (report->chosen[p])
            fprintf(out, " %8.2f", sum / report->result_count);
    }
    fputc('\n', out);
}

void trace_print_tables(const struct trace_report *report, FILE *out)
{
    for (unsigned i = 0; i < report->result_count; i++) {
        print_one(report, &report->results[i], out);
        fputc('\n', out);
    }
    if (report->result_count > 1)
        print_summary(report, out);
}

const double trace_factors[TRACE_FACTORS] = {1.25, 1.5, 2};

void trace_print_estimates(const struct trace_result *result, FILE *out)
{
    const double accesses = result->sequence.access_count;
    fprintf(out, "%s: miss ratios of a larger pool in percent, estimated and simulated\n\n%-14s",
            result->sequence.name, "frames");
    for (unsigned f = 0; f < TRACE_FACTORS; f++)
        fprintf(out, "    x %-4.2f estimated simulated", trace_factors[f]);
    fputc('\n', out);
    for (unsigned s = 0; s < result->size_count; s++) {
        char frames[32];
        fprintf(out, "%-14s", bench_format_thousands(frames, sizeof frames, result->frames[s]));
        for (unsigned f = 0; f < TRACE_FACTORS; f++) {
            unsigned step = (unsigned)((trace_factors[f] - 1) * TRACE_AGE_STEPS);
            fprintf(out, "%20.2f %9.2f",
                    100 * (double)result->counts[s][0].estimates[step] / accesses,
                    100 * (double)result->larger[s][f] / accesses);
        }
        fputc('\n', out);
    }
    fputc('\n', out);
}

/* ---- the curve ----------------------------------------------------------------------------------
 */

/* The miss ratio between two simulated sizes: a straight line over the logarithm of frames. */
static double ratio_at(const struct trace_result *result, unsigned policy, double frames)
{
    unsigned s = 0;
    while (s + 2 < result->size_count && frames > result->frames[s + 1])
        s++;
    double low = log(result->frames[s]), high = log(result->frames[s + 1]);
    double at = high > low ? (log(frames) - low) / (high - low) : 0;
    double left = trace_miss_ratio(result, s, policy);
    return left + at * (trace_miss_ratio(result, s + 1, policy) - left);
}

/* Enter a policy's points where no other has one; it is drawn last what is to be seen least. */
static void draw(const struct trace_result *result, unsigned policy, double top,
                 char grid[CURVE_ROWS][CURVE_COLUMNS + 1])
{
    double first = log(result->frames[0]);
    double last = log(result->frames[result->size_count - 1]);
    for (unsigned column = 0; column < CURVE_COLUMNS; column++) {
        double frames = exp(first + (last - first) * column / (CURVE_COLUMNS - 1));
        double ratio = ratio_at(result, policy, frames);
        long row = lround((1 - ratio / top) * (CURVE_ROWS - 1));
        row = row < 0 ? 0 : row >= (long)CURVE_ROWS ? (long)CURVE_ROWS - 1 : row;
        if (grid[row][column] == ' ')
            grid[row][column] = trace_policies[policy]->mark;
    }
}

static double highest_ratio(const struct trace_report *report, const struct trace_result *result)
{
    double top = 0;
    for (unsigned p = 0; p < TRACE_POLICIES; p++)
        for (unsigned s = 0; s < result->size_count; s++)
            if (report->chosen[p])
                top = fmax(top, trace_miss_ratio(result, s, p));
    return top;
}

void trace_print_curve(const struct trace_report *report, const struct trace_result *result,
                       FILE *out)
{
    char grid[CURVE_ROWS][CURVE_COLUMNS + 1], first[32], last[32];
    const double top = highest_ratio(report, result);
    memset(grid, ' ', sizeof grid);
    for (unsigned p = 0; p < TRACE_POLICIES; p++)
        if (report->chosen[p])
            draw(result, p, top, grid);
    fprintf(out, "%s: miss ratio over frames (logarithmic)\n\n", result->sequence.name);
    for (unsigned row = 0; row < CURVE_ROWS; row++) {
        grid[row][CURVE_COLUMNS] = '\0';
        fprintf(out, "%6.1f %% |%s\n", 100 * top * (1 - (double)row / (CURVE_ROWS - 1)), grid[row]);
    }
    fprintf(out, "%9s+", "");
    for (unsigned column = 0; column < CURVE_COLUMNS; column++)
        fputc('-', out);
    bench_format_thousands(first, sizeof first, result->frames[0]);
    bench_format_thousands(last, sizeof last, result->frames[result->size_count - 1]);
    fprintf(out, "\n%10s%s%*s\n%10s", "", first, (int)(CURVE_COLUMNS - strlen(first)), last, "");
    for (unsigned p = 0; p < TRACE_POLICIES; p++)
        if (report->chosen[p])
            fprintf(out, "%c %s  ", trace_policies[p]->mark, trace_policies[p]->title);
    fprintf(out, "\n\n");
}

/* ---- JSON ---------------------------------------------------------------------------------------
 */

static json_t *policy_json(const struct trace_result *result, unsigned policy)
{
    json_t *points = json_array();
    for (unsigned s = 0; s < result->size_count; s++) {
        const struct trace_count *count = &result->counts[s][policy];
        json_t *point =
            json_pack("{s:I,s:I,s:f}", "frames", (json_int_t)result->frames[s], "misses",
                      (json_int_t)count->misses, "miss_ratio", trace_miss_ratio(result, s, policy));
        if (trace_policies[policy]->steps != NULL)
            json_object_set_new(point, "hand_steps", json_integer((json_int_t)count->steps));
        json_array_append_new(points, point);
    }
    return json_pack("{s:s,s:f,s:o}", "policy", trace_policies[policy]->name,
                     "fewer_than_clock_percent", trace_reduction(result, policy, CLOCK), "points",
                     points);
}

int trace_write_json(const struct trace_report *report, const char *path, struct bench_error *error)
{
    json_t *traces = json_array();
    for (unsigned i = 0; i < report->result_count; i++) {
        const struct trace_result *result = &report->results[i];
        json_t *policies = json_array();
        for (unsigned p = 0; p < TRACE_POLICIES; p++)
            if (report->chosen[p])
                json_array_append_new(policies, policy_json(result, p));
        json_array_append_new(
            traces, json_pack("{s:s,s:I,s:I,s:o}", "trace", result->sequence.name, "accesses",
                              (json_int_t)result->sequence.access_count, "pages",
                              (json_int_t)result->sequence.page_count, "policies", policies));
    }
    json_t *root =
        bench_json_root(json_pack("{s:I,s:o}", "seed", (json_int_t)report->seed, "traces", traces));
    const int result = bench_json_write(path, root, error);
    json_decref(root);
    return result;
}
