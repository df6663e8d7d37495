/* SPDX-License-Identifier: MIT */
/*
 * From a trace to the states in which a crash may leave the files.
 *
 * A crash point is a position in the trace: after its first `point` events. What is certain there
 * is durable: it had ended before a flush of its file began that has ended since, or was an O_DSYNC
 * write, or a name whose directory was synced. Everything else is pending, as a list of units: one
 * 512-byte sector of a write, one change of a file's size, one change of a directory. Each subset
 * of the units, applied in their order, is a legal state.
 *
 *     up to CRASH_EXHAUSTIVE units   all subsets
 *     more                           none, all, every prefix, every single unit left out, every
 *                                    single unit kept (where a write has many sectors: the write
 *                                    as a whole, and sectors of the latest writes), and
 *                                    seeded samples, of whole writes and of sectors
 *
 * A subset is named by its mask, a short text; with the trace and the point it gives the state
 * back:
 *
 *     m2f   units of the bits of this hexadecimal number     (at most 64 units)
 *     p12   the first 12 units                               d12   all but unit 12
 *     k12   unit 12 alone                                    g3    all but the units of write 3
 *     w3    the units of write 3 alone                       s5    the fifth seeded sample
 *     t12   all, of unit 12 only a first part of its sector  (only where sheared sectors are asked
 *                                                            for: disks are taken to write 512
 *                                                            bytes whole or not at all)
 */
#ifndef BENCH_CRASH_STATES_H
#define BENCH_CRASH_STATES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "trace.h"

#define CRASH_EXHAUSTIVE 12u /* 4096 subsets; each unit more doubles them */
#define CRASH_MASK_BYTES 24u

struct crash_mask {
    char kind; /* m p d k g w s t */
    uint64_t value;
};

char *crash_mask_format(struct crash_mask mask, char text[CRASH_MASK_BYTES]);
bool crash_mask_parse(const char *text, struct crash_mask *out_mask);

struct crash_states; /* a position in a trace, and one state chosen there */

/* trace: borrowed. seed: of the samples. Stands at the baseline. Never NULL. */
struct crash_states *crash_states_create(const struct crash_trace *trace, uint64_t seed);
void crash_states_destroy(struct crash_states *states);
/* Have crash_states_visit give sheared sectors as well. */
void crash_states_shear(struct crash_states *states);

/* Go to a crash point at or behind the present one; at most the trace's length. */
void crash_states_seek(struct crash_states *states, uint64_t point);
uint64_t crash_states_point(const struct crash_states *states);
/* Go to the next point at which the set of legal states, or what is asked of them, differs; false
 * at the end of the trace. */
bool crash_states_next(struct crash_states *states);

uint32_t crash_states_pending(const struct crash_states *states);

/*
 * All masks worth trying here, each once: calls visit for each, until it returns false. latest:
 * only those that the previous point, whose states were all visited, cannot have had, as far as
 * that is known cheaply. The state is chosen when visit is called (hash, fill... may be used).
 */
void crash_states_visit(struct crash_states *states, bool latest,
                        bool (*visit)(void *ctx, struct crash_mask mask, uint64_t hash), void *ctx);

/* Choose one state. False: the mask has no meaning here. */
bool crash_states_choose(struct crash_states *states, struct crash_mask mask);

/* Hash of all names, sizes and bytes of the state chosen: equal for equal images. */
uint64_t crash_states_hash(const struct crash_states *states);

/* ---- the state chosen -------------------------------------------------------------------------
 */

struct crash_file_view {
    const char *path;
    uint32_t file; /* of the trace */
    bool directory;
    uint64_t size;
};

/* Directories before what is in them. Borrowed until the next choice. */
uint32_t crash_states_files(struct crash_states *states, const struct crash_file_view **out_files);

/*
 * Bytes of a file. Returns a pointer to them when they lie together in memory, else NULL, and
 * buffer has been filled (size bytes at most CRASH_SECTOR_BYTES * 8, offset a multiple of it).
 */
const uint8_t *crash_states_bytes(const struct crash_states *states, uint32_t file, uint64_t offset,
                                  uint32_t size, uint8_t *buffer);

#endif
