/* SPDX-License-Identifier: MIT */
/* Escaping, and a buffer that grows. */
#include "html.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void html_fini(struct html *html)
{
    free(html->data);
    memset(html, 0, sizeof *html);
}

void html_bytes(struct html *html, const void *bytes, size_t length)
{
    if (html->failed)
        return;
    if (html->capacity - html->length < length + 1) {
        size_t capacity = html->capacity * 2 + length + 4096;
        char *data = realloc(html->data, capacity);
        if (data == NULL) {
            html->failed = true;
            return;
        }
        html->data = data;
        html->capacity = capacity;
    }
    memcpy(html->data + html->length, bytes, length);
    html->length += length;
    html->data[html->length] = '\0';
}

void html_raw(struct html *html, const char *markup)
{
    html_bytes(html, markup, strlen(markup));
}

void html_text(struct html *html, const char *text)
{
    static const char special[] = "<>&\"'";
    static const char *const names[] = {"&lt;", "&gt;", "&amp;", "&quot;", "&#39;"};
    while (text != NULL && *text != '\0') {
        size_t plain = strcspn(text, special);
        html_bytes(html, text, plain);
        text += plain;
        if (*text != '\0')
            html_raw(html, names[strchr(special, *text++) - special]);
    }
}

void html_format(struct html *html, const char *format, ...)
{
    char text[1000];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    html_text(html, text);
}

void html_element(struct html *html, const char *tag, const char *text)
{
    html_raw(html, "<");
    html_raw(html, tag);
    html_raw(html, ">");
    html_text(html, text);
    html_raw(html, "</");
    html_raw(html, tag);
    html_raw(html, ">");
}

void html_json(struct html *html, const json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(9));
    if (text == NULL) {
        html->failed = true;
        return;
    }
    /* "</script>" and "<!--" mean something there, whatever the type; "<" only occurs in strings.
     */
    const char *at = text;
    for (;;) {
        size_t plain = strcspn(at, "<");
        html_bytes(html, at, plain);
        at += plain;
        if (*at == '\0')
            break;
        html_raw(html, "\\u003c");
        at++;
    }
    free(text);
}
