/* SPDX-License-Identifier: MIT */
/* Median, extremes and spread. */
#include "summary.h"

#include <stdlib.h>
#include <string.h>

#define VALUES_MAX 1000u /* as many as --repeat allows */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct bench_summary bench_summarize(const double *values, unsigned count)
{
    struct bench_summary summary = {0};
    double sorted[VALUES_MAX];
    if (count == 0)
        return summary;
    if (count > VALUES_MAX)
        count = VALUES_MAX;
    memcpy(sorted, values, count * sizeof *values);
    qsort(sorted, count, sizeof *sorted, compare);
    summary.count = count;
    summary.min = sorted[0];
    summary.max = sorted[count - 1];
    summary.median =
        count % 2 == 1 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2.0;
    if (summary.median > 0)
        summary.spread = (summary.max - summary.min) / 2.0 / summary.median;
    return summary;
}
