/* SPDX-License-Identifier: MIT */
/* Remove what a test has left behind. */
#ifndef CLOCKPOOL_TESTS_TREE_H
#define CLOCKPOOL_TESTS_TREE_H

#include <ftw.h>
#include <stdio.h>

static inline int tree_remove_entry(const char *path, const struct stat *status, int type,
                                    struct FTW *where)
{
    (void)status, (void)type, (void)where;
    (void)remove(path); /* one that stays must not keep the others */
    return 0;
}

/* Remove path and all that lies below it, following no links. */
static inline void remove_tree(const char *path)
{
    (void)nftw(path, tree_remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
