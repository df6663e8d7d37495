/* SPDX-License-Identifier: MIT */
/*
 * The report: one HTML file that needs no other. Tables are in the HTML itself; the charts over
 * them are drawn by uPlot from the same figures, where it was built in.
 */
#ifndef BENCH_REPORT_PAGE_H
#define BENCH_REPORT_PAGE_H

#include "figure.h"

/* "uPlot 1.6.32", or NULL: built without, reports have tables only. */
const char *report_charts(void);
/* What to do about it, for a person. */
#define REPORT_NO_CHARTS                                                                           \
    "this clockpool-bench was built without uPlot; install npm, run scripts/fetch_uplot, and "     \
    "configure and build again"

/* Make the page. Parts passed report_check. 0, or -1. The caller frees html in either case. */
int report_page(struct html *html, const struct report_part *parts, unsigned count,
                struct bench_error *error);

/* The page in a file, written beside its place and renamed; path "-" is standard output. A note on
 * standard error when there are no charts. 0, or -1. */
int report_write(const char *path, const struct report_part *parts, unsigned count,
                 struct bench_error *error);

/* Between page.c and page_parts.c: everything that a page is made from. */
struct report_source {
    const struct report_part *parts;
    unsigned part_count;
    struct report_rows rows;
    struct report_group *groups;
    unsigned group_count;
};

void report__verdicts(struct html *html, const struct report_source *source);
void report__warnings(struct html *html, const struct report_source *source);
void report__tables(struct html *html, const struct report_source *source);
void report__environment(struct html *html, const struct report_source *source);
void report__commands(struct html *html, const struct report_source *source);
/* The name of a part, where several have what the list ("results") is of. */
void report__part_name(struct html *html, const struct report_source *source, unsigned part,
                       const char *list);

#endif
