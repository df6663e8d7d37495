/* SPDX-License-Identifier: MIT */
/* Stands in for engine_wiredtiger.c where WiredTiger was not installed when Clockpool was
 * configured. */
#include "engine.h"

const struct bench_engine bench_engine_wiredtiger = {
    .name = "wiredtiger",
    .summary = "WiredTiger: each page a value under an integer key, logged",
    .format = "wiredtiger",
    .not_built = "not built: install libwiredtiger-dev, then configure and build again",
};
