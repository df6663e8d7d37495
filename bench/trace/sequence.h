/* SPDX-License-Identifier: MIT */
/* A sequence of page accesses: read from a file, or made up. */
#ifndef BENCH_TRACE_SEQUENCE_H
#define BENCH_TRACE_SEQUENCE_H

#include <stddef.h>
#include <stdint.h>

#define TRACE_ACCESSES_MAX (UINT32_C(1) << 30)

struct trace_sequence {
    char name[64];      /* file name without folder and endings; what of it has room */
    uint32_t *accesses; /* pages, numbered in the order of their first access; owned */
    uint32_t access_count;
    uint32_t page_count; /* distinct pages */
};

/*
 * Read a file of one page number (0 to 2^64-1) a line, plain or gzip; empty lines and such that
 * begin with # are skipped, however long; a byte 0 is an error. A name "synthetic:KIND" makes a
 * sequence up instead (see trace_synthetic_kinds), the same for the same seed. 0, or -1 with what
 * is wrong, and where, in text.
 */
int trace_sequence_open(const char *name, uint64_t seed, struct trace_sequence *out_sequence,
                        char *text, size_t capacity);
/* Put the last folder of the path it was opened by before its name; nothing where there is none. */
void trace_sequence_add_folder(struct trace_sequence *sequence, const char *path);
void trace_sequence_close(struct trace_sequence *sequence);

/* For building one: page numbers of any size are appended, then numbered. */
struct trace_builder {
    uint32_t *accesses;
    uint32_t count, capacity;
    uint64_t *keys;   /* open hash: page numbers */
    uint32_t *values; /* and what they are called, plus 1 */
    uint32_t slots;   /* power of two */
    uint32_t page_count;
};

/* 0, or -1: no memory, or too many. A builder begins all zero; fini when it is given up. */
int trace_builder_add(struct trace_builder *builder, uint64_t page);
void trace_builder_fini(struct trace_builder *builder);

#define TRACE_SYNTHETIC_KINDS 3u
extern const char *const trace_synthetic_kinds[TRACE_SYNTHETIC_KINDS];
/* Append the accesses of a kind (its index). 0, or -1: no memory. */
int trace_synthetic_make(unsigned kind, uint64_t seed, struct trace_builder *builder);

#endif
