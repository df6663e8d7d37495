/* SPDX-License-Identifier: MIT */
/*
 * A replacement policy as the simulator sees it. Pages are numbered 0 .. page_count-1 in the order
 * of their first access. A policy is told of each access and says whether the page was there; how
 * many frames it uses for that is its promise, at most `frames`.
 */
#ifndef BENCH_TRACE_POLICY_H
#define BENCH_TRACE_POLICY_H

#include <stdbool.h>
#include <stdint.h>

struct trace_setup {
    uint32_t frames;          /* 1 or more */
    uint32_t page_count;      /* distinct pages */
    const uint32_t *accesses; /* the whole sequence: only min looks ahead. Borrowed */
    uint32_t access_count;
};

struct trace_policy {
    const char *name, *title; /* as in --policy; as in tables */
    const char *summary;
    char mark; /* in the curve */
    /* NULL: no memory. */
    void *(*create)(const struct trace_setup *setup);
    /* Access number `at` is to page. Hit? */
    bool (*access)(void *state, uint32_t page, uint32_t at);
    void (*destroy)(void *state);
    /* Slots the hand has looked at so far; NULL: it has no hand. */
    uint64_t (*steps)(void *state);
    /* Misses so far of pages evicted i to i+1 eighths of the frames ago; NULL: it has no ghosts. */
    uint64_t (*ghost_hits)(void *state, unsigned i);
};

#define TRACE_AGE_STEPS 8u

/* All of them, the pool's own first. */
#define TRACE_POLICIES 9u
extern const struct trace_policy *const trace_policies[TRACE_POLICIES];
/* By name; NULL: there is none. */
const struct trace_policy *trace_policy_find(const char *name);

extern const struct trace_policy trace_policy_clockpool, trace_policy_clock, trace_policy_lru,
    trace_policy_sieve, trace_policy_2q, trace_policy_arc, trace_policy_lirs, trace_policy_s3fifo,
    trace_policy_min;

#endif
