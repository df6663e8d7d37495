/* SPDX-License-Identifier: MIT */
/*
 * Log sequence numbers and the gate between a buffer pool and a log.
 *
 * An LSN is a byte offset in the log; a record's LSN here is always its *end*. LSN 0 means "needs
 * no log". The gate lets a pool obey write-ahead logging without knowing any log: the pager wires
 * its own log in, a host plugs in another, a test plugs in a fake.
 */
#ifndef CLOCKPOOL_LSN_H
#define CLOCKPOOL_LSN_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef uint64_t cp_lsn;

struct cp_lsn_gate {
    void *ctx;

    /*
     * The LSN up to which the log is durable. Monotonic. Any thread; must not block, must not call
     * into a pool.
     */
    cp_lsn (*durable_lsn)(void *ctx);

    /*
     * Make the log durable at least up to upto. Any thread; may block; must not pin a page nor call
     * into a pool. Returns 0 once durable_lsn() >= upto, or a negative code, after which the frames
     * concerned stay dirty and resident.
     */
    int (*make_durable)(void *ctx, cp_lsn upto);
};

#ifdef __cplusplus
}
#endif
#endif
