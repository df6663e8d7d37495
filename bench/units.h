/* SPDX-License-Identifier: MIT */
/* Sizes, numbers and lists, as all the project's programs take and print them. */
#ifndef BENCH_UNITS_H
#define BENCH_UNITS_H

#include "common/units.h"

#define BENCH_LIST_MAX 16u

static inline bool bench_parse_size(const char *text, uint64_t *out_bytes)
{
    return units_parse_size(text, out_bytes);
}

/* A power of two from 4K to 64K. */
static inline bool bench_parse_page_size(const char *text, uint64_t *out_bytes)
{
    return units_parse_size(text, out_bytes) && *out_bytes >= 4096 && *out_bytes <= 65536 &&
           (*out_bytes & (*out_bytes - 1)) == 0;
}

static inline bool bench_parse_number(const char *text, uint64_t min, uint64_t max,
                                      uint64_t *out_value)
{
    return units_parse_number(text, min, max, out_value);
}

static inline bool bench_parse_real(const char *text, double min, double max, double *out_value)
{
    return units_parse_real(text, min, max, out_value);
}

static inline unsigned bench_split_list(char *text, char **out_items, unsigned capacity)
{
    return units_split_list(text, out_items, capacity);
}

static inline char *bench_format_size(char *text, size_t capacity, uint64_t bytes)
{
    return units_format_size(text, capacity, bytes);
}

static inline char *bench_format_thousands(char *text, size_t capacity, double value)
{
    return units_format_thousands(text, capacity, value);
}

static inline char *bench_format_short(char *text, size_t capacity, double value)
{
    return units_format_short(text, capacity, value);
}

static inline char *bench_format_seconds(char *text, size_t capacity, double seconds)
{
    return units_format_seconds(text, capacity, seconds);
}

#endif
