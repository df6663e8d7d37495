/* SPDX-License-Identifier: MIT */
/*
 * Sizes, numbers and lists: what a command line says, and how a person wants to read them. Shared
 * by clockpool and clockpool-bench. No state; any thread.
 */
#ifndef TOOLS_COMMON_UNITS_H
#define TOOLS_COMMON_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * "8G", "512M", "4K", "4096", "1.5G", also with "B" or "iB" after the letter; powers of 1024.
 * False for anything else, for 0 and for what does not fit into 63 bits.
 */
bool units_parse_size(const char *text, uint64_t *out_bytes);
/* A whole decimal number within [min, max]. */
bool units_parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *out_value);
/* A decimal number within [min, max], "0.25" or "3". */
bool units_parse_real(const char *text, double min, double max, double *out_value);

/*
 * Cut "a,b,c" into its items, in place. Returns how many; 0, with text as it was, when one is empty
 * or there are more than capacity.
 */
unsigned units_split_list(char *text, char **out_items, unsigned capacity);

/* All return text. "2 GiB", "1.5 MiB", "12 B". */
char *units_format_size(char *text, size_t capacity, uint64_t bytes);
/* "12,345,678". */
char *units_format_thousands(char *text, size_t capacity, double value);
/* Three significant digits and no exponent: "0.023", "7.41", "123", "12,300". */
char *units_format_short(char *text, size_t capacity, double value);
/* "45 s", "2 min 05 s". */
char *units_format_seconds(char *text, size_t capacity, double seconds);

#endif
