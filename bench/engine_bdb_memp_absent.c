/* SPDX-License-Identifier: MIT */
/* Stands in for engine_bdb_memp.c where Berkeley DB was not installed when Clockpool was
 * configured. */
#include "engine.h"

const struct bench_engine bench_engine_bdb_memp = {
    .name = "bdb-memp",
    .summary = "Berkeley DB's buffer pool alone, over the same file of pages; reads only",
    .format = "store",
    .not_built = "not built: install libdb-dev, then configure and build again",
};
