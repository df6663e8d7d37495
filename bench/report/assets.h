/* SPDX-License-Identifier: MIT */
/*
 * What the page is made of besides its text: files of this directory and of uPlot, built in by
 * cmake/embed.cmake. Each ends in a zero byte that its length does not count. Without uPlot its
 * three are empty.
 */
#ifndef BENCH_REPORT_ASSETS_H
#define BENCH_REPORT_ASSETS_H

#include <stddef.h>

extern const unsigned char report_page_css[], report_page_js[];
extern const size_t report_page_css_length, report_page_js_length;
extern const unsigned char report_uplot_js[], report_uplot_css[], report_uplot_license[];
extern const size_t report_uplot_js_length, report_uplot_css_length, report_uplot_license_length;

#endif
