/* SPDX-License-Identifier: MIT */
/* Stands in for engine_berkeleydb.c where Berkeley DB was not installed when Clockpool was
 * configured. */
#include "engine.h"

const struct bench_engine bench_engine_berkeleydb = {
    .name = "berkeleydb",
    .summary = "Berkeley DB: each page a value under an integer key, in transactions",
    .format = "berkeleydb",
    .not_built = "not built: install libdb-dev, then configure and build again",
};
