/* SPDX-License-Identifier: MIT */
/*
 * Lists of pages for the simulated policies: doubly linked through two arrays indexed by page, so
 * that a page is in at most one list of a set. A list goes from its oldest to its newest page.
 */
#ifndef BENCH_TRACE_LISTS_H
#define BENCH_TRACE_LISTS_H

#include <stdint.h>

#define TRACE_NONE UINT32_MAX

struct trace_links {
    uint32_t *older, *newer; /* by page */
};

struct trace_list {
    struct trace_links *links; /* borrowed; shared by all lists of the set */
    uint32_t oldest, newest;   /* or TRACE_NONE */
    uint32_t count;
};

static inline void trace_list_init(struct trace_list *list, struct trace_links *links)
{
    *list = (struct trace_list){.links = links, .oldest = TRACE_NONE, .newest = TRACE_NONE};
}

static inline void trace_list_append(struct trace_list *list, uint32_t page)
{
    list->links->older[page] = list->newest;
    list->links->newer[page] = TRACE_NONE;
    if (list->newest != TRACE_NONE)
        list->links->newer[list->newest] = page;
    else
        list->oldest = page;
    list->newest = page;
    list->count++;
}

static inline void trace_list_remove(struct trace_list *list, uint32_t page)
{
    uint32_t older = list->links->older[page], newer = list->links->newer[page];
    if (older != TRACE_NONE)
        list->links->newer[older] = newer;
    else
        list->oldest = newer;
    if (newer != TRACE_NONE)
        list->links->older[newer] = older;
    else
        list->newest = older;
    list->count--;
}

/* Remove the oldest page of a list that is not empty. */
static inline uint32_t trace_list_shift(struct trace_list *list)
{
    uint32_t page = list->oldest;
    trace_list_remove(list, page);
    return page;
}

#endif
