/* SPDX-License-Identifier: MIT */
/* Stands in for engine_sqlite.c where SQLite was not installed when Clockpool was configured. */
#include "engine.h"

const struct bench_engine bench_engine_sqlite = {
    .name = "sqlite",
    .summary = "SQLite in WAL mode: each page a blob in a row",
    .format = "sqlite",
    .not_built = "not built: install libsqlite3-dev, then configure and build again",
};
