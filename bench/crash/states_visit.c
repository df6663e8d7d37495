/* SPDX-License-Identifier: MIT */
/* Masks, and which subsets of the pending units are worth trying at a crash point. */
#include "states_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GROUPS_PER_POINT 48u /* writes left out one by one, at random where there are more */
#define SAMPLES          16u /* per crash point with more than CRASH_EXHAUSTIVE units */

/* ---- masks ------------------------------------------------------------------------------------
 */

char *crash_mask_format(struct crash_mask mask, char text[CRASH_MASK_BYTES])
{
    if (mask.kind == 'm')
        snprintf(text, CRASH_MASK_BYTES, "m%" PRIx64, mask.value);
    else
        snprintf(text, CRASH_MASK_BYTES, "%c%" PRIu64, mask.kind, mask.value);
    return text;
}

bool crash_mask_parse(const char *text, struct crash_mask *out_mask)
{
    if (text[0] == '\0' || strchr("mpdkgwst", text[0]) == NULL)
        return false;
    const char *digits = text[0] == 'm' ? "0123456789abcdef" : "0123456789";
    size_t length = strlen(text + 1);
    if (length == 0 || length > 16 || strspn(text + 1, digits) != length)
        return false;
    out_mask->kind = text[0];
    out_mask->value = strtoull(text + 1, NULL, text[0] == 'm' ? 16 : 10);
    return true;
}

/* ---- which states -----------------------------------------------------------------------------
 */

/* Units of one write stand together. Number of the write that unit index belongs to. */
static uint32_t write_end(const struct crash_states *states, uint32_t index)
{
    uint32_t end = index + 1;
    while (end < states->unit_count && states->units[end].event == states->units[index].event)
        end++;
    return end;
}

/* The units of write number `write`; false when there are fewer. */
static bool find_write(const struct crash_states *states, uint64_t write, uint32_t *out_first,
                       uint32_t *out_end)
{
    uint64_t number = 0;
    for (uint32_t i = 0; i < states->unit_count; number++) {
        uint32_t end = write_end(states, i);
        if (number == write) {
            *out_first = i;
            *out_end = end;
            return true;
        }
        i = end;
    }
    return false;
}

/*
 * A seeded subset. Kinds in turn: whole writes, half of them; sectors, half of them; nearly all
 * sectors; writes up to a random one, which is torn.
 */
static void choose_sample(struct crash_states *states, uint64_t number)
{
    struct bench_random random;
    bench_random_init(&random, crash_mix(states->seed, states->point), number);
    uint64_t stop = bench_random_below(&random, states->unit_count);
    for (uint32_t i = 0; i < states->unit_count;) {
        uint32_t end = write_end(states, i);
        bool whole = (bench_random_next(&random) & 1) != 0;
        for (; i < end; i++) {
            bool bit = (bench_random_next(&random) >> 60 & 1) != 0;
            bool rare = bench_random_below(&random, 8) == 0;
            bool keep = number % 4 == 0   ? whole
                        : number % 4 == 1 ? bit
                        : number % 4 == 2 ? !rare
                                          : end <= stop || (i <= stop && bit);
            if (keep)
                crash_states__keep(states, i);
        }
    }
}

bool crash_states_choose(struct crash_states *states, struct crash_mask mask)
{
    uint32_t first = 0, end = 0, count = states->unit_count;
    bool in_range = mask.kind == 'm'   ? count >= 64 || mask.value >> count == 0
                    : mask.kind == 'p' ? mask.value <= count
                    : mask.kind == 's' ? true
                    : mask.kind == 'd' || mask.kind == 'k' || mask.kind == 't'
                        ? mask.value < count
                        : find_write(states, mask.value, &first, &end);
    if (!in_range)
        return false;
    crash_states__begin(states);
    if (mask.kind == 's') {
        choose_sample(states, mask.value);
    } else {
        for (uint32_t i = 0; i < count; i++) {
            if (mask.kind == 't' && i == mask.value) {
                crash_states__keep_sheared(states, i);
                continue;
            }
            bool keep = mask.kind == 'm'   ? i < 64 && (mask.value >> i & 1) != 0
                        : mask.kind == 'p' ? i < mask.value
                        : mask.kind == 't' ? true
                        : mask.kind == 'd' ? i != mask.value
                        : mask.kind == 'k' ? i == mask.value
                        : mask.kind == 'g' ? i < first || i >= end
                                           : i >= first && i < end;
            if (keep)
                crash_states__keep(states, i);
        }
    }
    crash_states__finish(states);
    return true;
}

struct visitor {
    struct crash_states *states;
    bool (*visit)(void *ctx, struct crash_mask mask, uint64_t hash);
    void *ctx;
    bool stopped;
};

static void try_mask(struct visitor *visitor, char kind, uint64_t value)
{
    struct crash_mask mask = {kind, value};
    if (visitor->stopped || !crash_states_choose(visitor->states, mask))
        return;
    visitor->stopped = !visitor->visit(visitor->ctx, mask, visitor->states->hash);
}

static void visit_all_subsets(struct visitor *visitor, uint32_t first_new)
{
    uint64_t subsets = UINT64_C(1) << visitor->states->unit_count;
    /* Without a new unit a subset is one of the point before. */
    uint64_t from = first_new > 0 ? UINT64_C(1) << first_new : 0;
    for (uint64_t i = from; i < subsets && !visitor->stopped; i++)
        try_mask(visitor, 'm', i);
}

/* One by one: each write left out or kept alone; each sector of the new ones, and one of the old.
 */
static void visit_single(struct visitor *visitor, uint32_t first_new)
{
    struct crash_states *states = visitor->states;
    struct bench_random random;
    bench_random_init(&random, crash_mix(states->seed, states->point), UINT64_MAX);
    uint32_t writes = 0;
    for (uint32_t i = 0; i < states->unit_count; writes++)
        i = write_end(states, i);
    uint32_t write = 0;
    for (uint32_t i = 0; i < states->unit_count && !visitor->stopped; write++) {
        uint32_t end = write_end(states, i);
        bool chosen = bench_random_below(&random, writes) < GROUPS_PER_POINT;
        uint64_t one = i + bench_random_below(&random, end - i);
        bool is_new = i >= first_new && first_new > 0;
        if (chosen || is_new) {
            if (end - i > 1) {
                try_mask(visitor, 'g', write);
                if (first_new == 0 || is_new)
                    try_mask(visitor, 'w', write);
            }
            if (!is_new)
                try_mask(visitor, 'd', one);
            if (first_new == 0)
                try_mask(visitor, 'k', one);
        }
        for (; i < end; i++) {
            if (!is_new)
                continue;
            try_mask(visitor, 'd', i);
            try_mask(visitor, 'k', i);
        }
    }
}

void crash_states_visit(struct crash_states *states, bool latest,
                        bool (*visit)(void *ctx, struct crash_mask mask, uint64_t hash), void *ctx)
{
    struct visitor visitor = {states, visit, ctx, false};
    uint32_t first_new = latest ? states->first_new : 0;
    if (states->unit_count <= CRASH_EXHAUSTIVE) {
        visit_all_subsets(&visitor, first_new);
    } else {
        for (uint64_t i = first_new > 0 ? first_new + 1 : 0; i <= states->unit_count; i++)
            try_mask(&visitor, 'p', i);
        visit_single(&visitor, first_new);
        for (uint64_t i = 0; i < SAMPLES; i++)
            try_mask(&visitor, 's', i);
    }
    for (uint32_t i = first_new; i < states->unit_count && states->shear; i++)
        try_mask(&visitor, 't', i);
    states->first_new = states->unit_count;
}
