/* SPDX-License-Identifier: MIT */
#include "unwritten.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define RUNS_PRINTED 8u

void unwritten_add(struct unwritten *unwritten, uint64_t page)
{
    unwritten->pages++;
    if (unwritten->runs == NULL)
        unwritten->runs = calloc(UNWRITTEN_RUNS_KEPT, sizeof *unwritten->runs);
    const uint32_t count = unwritten->run_count;
    if (count > 0 && unwritten->runs[count - 1].last + 1 == page)
        unwritten->runs[count - 1].last = page;
    else if (unwritten->runs != NULL && count < UNWRITTEN_RUNS_KEPT)
        unwritten->runs[unwritten->run_count++] = (struct unwritten_run){page, page};
    else
        unwritten->more = true;
}

void unwritten_free(struct unwritten *unwritten)
{
    free(unwritten->runs);
    unwritten->runs = NULL;
}

static size_t print_run(char *text, size_t capacity, const struct unwritten_run *run)
{
    int length = run->first == run->last
                     ? snprintf(text, capacity, "%" PRIu64, run->first)
                     : snprintf(text, capacity, "%" PRIu64 " to %" PRIu64, run->first, run->last);
    return length > 0 && (size_t)length < capacity ? (size_t)length : 0;
}

char *unwritten_line(char *text, size_t capacity, const struct unwritten *unwritten)
{
    size_t at = (size_t)snprintf(text, capacity,
                                 unwritten->pages == 1
                                     ? "%" PRIu64 " page was allocated and never written"
                                     : "%" PRIu64 " pages were allocated and never written",
                                 unwritten->pages);
    for (uint32_t i = 0; i < unwritten->run_count && i < RUNS_PRINTED && at + 64 < capacity; i++) {
        at += (size_t)snprintf(text + at, capacity - at, i == 0 ? ": " : ", ");
        at += print_run(text + at, capacity - at, &unwritten->runs[i]);
    }
    if ((unwritten->more || unwritten->run_count > RUNS_PRINTED) && at < capacity)
        snprintf(text + at, capacity - at, " and others");
    return text;
}

void unwritten_to_json(const struct unwritten *unwritten, json_t *object)
{
    json_t *runs = json_array();
    for (uint32_t i = 0; i < unwritten->run_count; i++)
        json_array_append_new(runs, json_pack("[I,I]", (json_int_t)unwritten->runs[i].first,
                                              (json_int_t)unwritten->runs[i].last));
    json_object_set_new(object, "unwritten_pages", json_integer((json_int_t)unwritten->pages));
    json_object_set_new(object, "unwritten", runs);
}
