/* SPDX-License-Identifier: MIT */
/*
 * HTML being written, in memory. Whatever came from a file or a command line goes through
 * html_text or html_json, so no text of it can become markup or leave the script element it is
 * in. Running out of memory is remembered and reported once, by whoever takes the text.
 */
#ifndef BENCH_REPORT_HTML_H
#define BENCH_REPORT_HTML_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* All zero is empty. */
struct html {
    char *data; /* owned, ends in a zero byte; NULL while nothing was written */
    size_t length, capacity;
    bool failed;
};

void html_fini(struct html *html);

/* As it is: markup of this program's own. */
void html_raw(struct html *html, const char *markup);
void html_bytes(struct html *html, const void *bytes, size_t length);
/* Escaped for use between tags and in attributes with double quotes. NULL writes nothing. */
void html_text(struct html *html, const char *text);
/* Formatted, then escaped. What does not fit into 1,000 bytes is cut. */
void html_format(struct html *html, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* <tag>text</tag>, escaped. */
void html_element(struct html *html, const char *tag, const char *text);
/* For the inside of <script type="application/json">: no "<" is left in it. */
void html_json(struct html *html, const json_t *json);

#endif
