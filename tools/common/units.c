/* SPDX-License-Identifier: MIT */
/* Sizes, numbers and lists. No state; any thread. */
#include "common/units.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned unit_shift(char letter)
{
    switch (letter) {
    case 'k':
    case 'K':
        return 10;
    case 'm':
    case 'M':
        return 20;
    case 'g':
    case 'G':
        return 30;
    case 't':
    case 'T':
        return 40;
    default:
        return 0;
    }
}

bool units_parse_size(const char *text, uint64_t *out_bytes)
{
    char *end = NULL;
    if (text[0] < '0' || text[0] > '9') /* strtod would take "inf", "nan", signs and blanks */
        return false;
    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
        return false;
    errno = 0;
    double value = strtod(text, &end);
    if (errno != 0 || end == text)
        return false;
    unsigned shift = unit_shift(*end);
    if (shift != 0) {
        end++;
        if (end[0] == 'i' && (end[1] == 'B' || end[1] == 'b'))
            end++;
    }
    if (*end == 'B' || *end == 'b')
        end++;
    double bytes = value * (double)(UINT64_C(1) << shift);
    if (*end != '\0' || bytes < 1.0 || bytes >= 9.2e18 || bytes != floor(bytes))
        return false;
    *out_bytes = (uint64_t)bytes;
    return true;
}

bool units_parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *out_value)
{
    char *end = NULL;
    if (text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0' || value < min || value > max)
        return false;
    *out_value = value;
    return true;
}

bool units_parse_real(const char *text, double min, double max, double *out_value)
{
    char *end = NULL;
    if ((text[0] < '0' || text[0] > '9') && text[0] != '.')
        return false;
    errno = 0;
    double value = strtod(text, &end);
    if (errno != 0 || end == text || *end != '\0' || !(value >= min && value <= max))
        return false;
    *out_value = value;
    return true;
}

unsigned units_split_list(char *text, char **out_items, unsigned capacity)
{
    unsigned count = 0;
    for (char *item = text;; item++) {
        const size_t length = strcspn(item, ",");
        if (length == 0 || count == capacity)
            return 0;
        out_items[count++] = item;
        item += length;
        if (*item == '\0')
            break;
    }
    for (unsigned i = 1; i < count; i++)
        out_items[i][-1] = '\0';
    return count;
}

char *units_format_size(char *text, size_t capacity, uint64_t bytes)
{
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    unsigned unit = 0;
    while (value >= 1024.0 && unit < 4) {
        value /= 1024.0;
        unit++;
    }
    if (value == floor(value))
        snprintf(text, capacity, "%.0f %s", value, names[unit]);
    else
        snprintf(text, capacity, "%.1f %s", value, names[unit]);
    return text;
}

char *units_format_thousands(char *text, size_t capacity, double value)
{
    char digits[32];
    int length = snprintf(digits, sizeof digits, "%.0f", value < 0 ? 0.0 : value);
    size_t out = 0;
    for (int i = 0; i < length && out + 2 < capacity; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            text[out++] = ',';
        text[out++] = digits[i];
    }
    text[out] = '\0';
    return text;
}

char *units_format_short(char *text, size_t capacity, double value)
{
    if (value >= 99.95)
        return units_format_thousands(text, capacity, value);
    if (value >= 9.995)
        snprintf(text, capacity, "%.1f", value);
    else if (value >= 0.9995)
        snprintf(text, capacity, "%.2f", value);
    else
        snprintf(text, capacity, "%.3f", value);
    return text;
}

char *units_format_seconds(char *text, size_t capacity, double seconds)
{
    uint64_t whole = seconds > 0 ? (uint64_t)(seconds + 0.5) : 0;
    if (whole < 60)
        snprintf(text, capacity, "%" PRIu64 " s", whole);
    else
        snprintf(text, capacity, "%" PRIu64 " min %02" PRIu64 " s", whole / 60, whole % 60);
    return text;
}
