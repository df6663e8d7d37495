/* SPDX-License-Identifier: MIT */
/* Median, extremes and spread of a few repetitions. */
#ifndef BENCH_SUMMARY_H
#define BENCH_SUMMARY_H

struct bench_summary {
    unsigned count;
    double median, min, max;
    double spread; /* half the range over the median: "median +- spread", 0 for one value */
};

/* values: count of them, at least 1, any order; left as they are. */
struct bench_summary bench_summarize(const double *values, unsigned count);

#endif
