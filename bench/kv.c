/* SPDX-License-Identifier: MIT */
/* Reading and scanning by getting values. See kv.h. */
#include "kv.h"

int bench_kv_read(bench_kv_get_word *get_word, void *thread, struct bench_op *ops, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (get_word(thread, ops[i].where, ops[i].offset_bytes, &ops[i].value) != 0)
            return -1;
    return 0;
}

int bench_kv_scan(bench_kv_get *get, void *thread, void *buffer, struct bench_check *check,
                  uint64_t first, uint64_t count)
{
    for (uint64_t page = first; page < first + count; page++) {
        if (get(thread, page, buffer) != 0)
            return -1;
        if (!bench_check_scan(check, page, buffer))
            return 0;
    }
    return 0;
}
