/* SPDX-License-Identifier: MIT */
/* Matching rows and judging differences. */
#include "compare.h"

#include "units.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool same_number(double a, double b)
{
    return a == b || (isnan(a) && isnan(b));
}

/* Do two rows measure the same? */
static bool same_work(const struct report_row *a, const struct report_row *b)
{
    return same_text(a->engine, b->engine) && same_text(a->workload, b->workload) &&
           same_text(a->dist, b->dist) && same_text(a->access, b->access) &&
           same_text(a->durability, b->durability) && same_text(a->advice, b->advice) &&
           a->threads == b->threads && a->depth == b->depth && same_number(a->batch, b->batch) &&
           same_number(a->write_share, b->write_share) &&
           same_number(a->size_bytes, b->size_bytes) && same_number(a->mem_bytes, b->mem_bytes) &&
           same_number(a->page_size_bytes, b->page_size_bytes) &&
           same_number(a->log_size_bytes, b->log_size_bytes) && same_number(a->rate, b->rate);
}

static const struct report_row *find_row(const struct report_rows *rows,
                                         const struct report_row *row)
{
    for (unsigned i = 0; i < rows->count; i++)
        if (same_work(&rows->rows[i], row))
            return &rows->rows[i];
    return NULL;
}

static struct report_difference difference_of(const struct report_value *old,
                                              const struct report_value *new)
{
    struct report_difference difference = {NAN, REPORT_UNKNOWN};
    if (isnan(old->value) || isnan(new->value))
        return difference;
    if (old->value > 0)
        difference.ratio = new->value / old->value;
    else
        difference.ratio = new->value > 0 ? INFINITY : 1;
    if (isnan(old->min) || isnan(old->max) || isnan(new->min) || isnan(new->max))
        return difference;
    difference.resolution =
        old->max < new->min || new->max < old->min ? REPORT_RESOLVED : REPORT_NOT_RESOLVED;
    return difference;
}

/* The same row twice would be compared once, silently. */
static int check_unique(const struct report_part *part, const struct report_rows *rows,
                        struct bench_error *error)
{
    char name[400];
    for (unsigned i = 0; i < rows->count; i++)
        if (find_row(rows, &rows->rows[i]) != &rows->rows[i])
            return bench_fail(error, "%s: has two results of %s", part->name,
                              report_pair_name(name, sizeof name, &rows->rows[i]));
    return 0;
}

static void match(struct report_comparison *comparison)
{
    const struct report_rows *old = &comparison->rows[0], *new = &comparison->rows[1];
    for (unsigned i = 0; i < old->count; i++) {
        struct report_pair *pair = &comparison->pairs[comparison->pair_count];
        pair->old = &old->rows[i];
        pair->new = find_row(new, pair->old);
        if (pair->new == NULL) {
            comparison->lonely[comparison->lonely_count++] = pair->old;
            continue;
        }
        for (unsigned m = 0; m < REPORT_METRIC_COUNT; m++)
            pair->differences[m] = difference_of(&pair->old->values[m], &pair->new->values[m]);
        comparison->pair_count++;
    }
    for (unsigned i = 0; i < new->count; i++)
        if (find_row(old, &new->rows[i]) == NULL)
            comparison->lonely[comparison->lonely_count++] = &new->rows[i];
}

int report_compare(const struct report_part *old_part, const struct report_part *new_part,
                   struct report_comparison *out_comparison, struct bench_error *error)
{
    const struct report_part parts[2] = {*old_part, *new_part};
    struct report_comparison comparison = {0};
    int code = 0;
    for (unsigned i = 0; code == 0 && i < 2; i++) {
        if (json_array_size(json_object_get(parts[i].root, "results")) == 0)
            code = bench_fail(error, "%s: has no results to compare", parts[i].name);
        else
            code = report_rows_read(&parts[i], 1, &comparison.rows[i], error);
        if (code == 0)
            code = check_unique(&parts[i], &comparison.rows[i], error);
        for (unsigned r = 0; code == 0 && r < comparison.rows[i].count; r++)
            comparison.rows[i].rows[r].part = i;
    }
    if (code == 0) {
        unsigned count = comparison.rows[0].count + comparison.rows[1].count;
        comparison.pairs = calloc(count, sizeof *comparison.pairs);
        comparison.lonely = calloc(count, sizeof(struct report_row *));
        if (comparison.pairs == NULL || comparison.lonely == NULL)
            code = bench_fail(error, "out of memory for %u rows", count);
    }
    if (code == 0) {
        match(&comparison);
        if (comparison.pair_count == 0)
            code = bench_fail(error,
                              "%s and %s have no row in common: nothing was measured with the same "
                              "engine, workload, distribution, access, threads, depth, size, "
                              "memory, batch, write share and advice",
                              old_part->name, new_part->name);
    }
    if (code != 0)
        report_comparison_fini(&comparison);
    else
        *out_comparison = comparison;
    return code;
}

void report_comparison_fini(struct report_comparison *comparison)
{
    report_rows_fini(&comparison->rows[0]);
    report_rows_fini(&comparison->rows[1]);
    free(comparison->pairs);
    free(comparison->lonely);
    memset(comparison, 0, sizeof *comparison);
}

enum report_outcome report_judge(const struct report_pair *pair,
                                 const struct report_condition *condition)
{
    double ratio = pair->differences[condition->metric].ratio;
    if (isnan(pair->old->values[condition->metric].value))
        return REPORT_CANNOT_TELL;
    if (isnan(ratio))
        return REPORT_BREAKS;
    return report_condition_holds(condition, ratio) ? REPORT_BREAKS : REPORT_PASSES;
}

enum report_outcome report_judge_lonely(const struct report_row *row,
                                        const struct report_condition *condition)
{
    bool gone = row->part == 0 && !isnan(row->values[condition->metric].value);
    return gone ? REPORT_BREAKS : REPORT_CANNOT_TELL;
}

/* What only some rows have, ", log of 64 MiB, advice random". */
static char *format_choices(char *text, size_t capacity, const struct report_row *row)
{
    char log[64] = "", log_size[32], rate[48] = "", batch[48] = "", share[48] = "", advice[48] = "";
    if (row->log_size_bytes > 0)
        snprintf(log, sizeof log, ", log of %s",
                 bench_format_size(log_size, sizeof log_size, (uint64_t)row->log_size_bytes));
    if (row->rate > 0)
        snprintf(rate, sizeof rate, ", %.0f per second", row->rate);
    if (row->batch > 0)
        snprintf(batch, sizeof batch, ", batches of %.0f", row->batch);
    if (!isnan(row->write_share))
        snprintf(share, sizeof share, ", write share %g", row->write_share);
    if (row->advice != NULL)
        snprintf(advice, sizeof advice, ", advice %.30s", row->advice);
    snprintf(text, capacity, "%s%s%s%s%s", log, rate, batch, share, advice);
    return text;
}

char *report_pair_name(char *text, size_t capacity, const struct report_row *row)
{
    char size[32], mem[32], choices[240];
    snprintf(text, capacity, "%s, %s %s %s, %u thread%s, depth %u, %s on %s%s", row->engine,
             row->workload, row->dist, row->access, row->threads, row->threads == 1 ? "" : "s",
             row->depth, bench_format_size(size, sizeof size, (uint64_t)row->size_bytes),
             bench_format_size(mem, sizeof mem, (uint64_t)row->mem_bytes),
             format_choices(choices, sizeof choices, row));
    return text;
}
