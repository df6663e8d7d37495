/* SPDX-License-Identifier: MIT */
/* Stands in for engine_lmdb.c where LMDB was not installed when Clockpool was configured. */
#include "engine.h"

const struct bench_engine bench_engine_lmdb = {
    .name = "lmdb",
    .summary = "LMDB: each page a value under an integer key",
    .format = "lmdb",
    .not_built = "not built: install liblmdb-dev, then configure and build again",
};
