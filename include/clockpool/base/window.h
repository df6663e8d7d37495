/* SPDX-License-Identifier: MIT */
/*
 * How far a sequential reader reads ahead: policy, no I/O, no locks, one owner.
 *
 * The distance doubles each time the reader had to wait for a page that was asked for, since then
 * more reads under way might have helped; and it shrinks by an eighth after the reader has taken
 * two windows of pages without waiting, since then fewer might do. So a reader slower than the
 * device settles just above what it needs, and one that is faster goes to the limit.
 */
#ifndef CLOCKPOOL_BASE_WINDOW_H
#define CLOCKPOOL_BASE_WINDOW_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CP_WINDOW_CALM  2u /* windows taken without waiting before it shrinks */
#define CP_WINDOW_DECAY 8u /* by this share, and by a page at least */

struct cp_window {
    uint32_t pages;       /* how many pages may be asked for before they are taken */
    uint32_t least, most; /* 1 <= least <= pages <= most */
    uint32_t calm;        /* pages taken without waiting since the last change or wait */
};

static inline void cp_window_init(struct cp_window *window, uint32_t first, uint32_t least,
                                  uint32_t most)
{
    window->most = most > 0 ? most : 1;
    window->least = least < 1 ? 1 : least > window->most ? window->most : least;
    window->pages = first < window->least  ? window->least
                    : first > window->most ? window->most
                                           : first;
    window->calm = 0;
}

/* The reader has to wait for a page that it had asked for. */
static inline void cp_window_waited(struct cp_window *window)
{
    window->pages = window->pages <= window->most / 2 ? 2 * window->pages : window->most;
    window->calm = 0;
}

/* The reader has taken a page without waiting. */
static inline void cp_window_took(struct cp_window *window)
{
    if (++window->calm < CP_WINDOW_CALM * window->pages)
        return;
    uint32_t step = window->pages / CP_WINDOW_DECAY;
    step = step > 0 ? step : 1;
    window->pages = window->pages >= window->least + step ? window->pages - step : window->least;
    window->calm = 0;
}

#ifdef __cplusplus
}
#endif
#endif
