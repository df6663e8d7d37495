/* SPDX-License-Identifier: MIT */
/* Stands in for engine_rocksdb.c where RocksDB was not installed when Clockpool was configured. */
#include "engine.h"

const struct bench_engine bench_engine_rocksdb = {
    .name = "rocksdb",
    .summary = "RocksDB: each page a value under an integer key",
    .format = "rocksdb",
    .not_built = "not built: install librocksdb-dev, then configure and build again",
};
