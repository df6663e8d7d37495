/* SPDX-License-Identifier: MIT */
/* Shared by the pager's tests: directories of their own, seeded numbers, both engines in turn. */
#ifndef CLOCKPOOL_TESTS_PAGER_HELPERS_H
#define CLOCKPOOL_TESTS_PAGER_HELPERS_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <clockpool/clockpool.h>

#include "support/tree.h"

/* The engine under test; main runs the group for one after the other. */
extern enum cp_engine test_engine;

/* Run tests over both engines; the number of failures. */
#define RUN_ENGINE(engine, tests)                                                                  \
    (test_engine = (engine),                                                                       \
     cmocka_run_group_tests_name((engine) == CP_ENGINE_POOL ? "pool" : "mmap", tests,              \
                                 make_directory, remove_directory))

/* Group fixture: a directory under $TMPDIR (or the working directory), removed with all in it. */
int make_directory(void **state);
int remove_directory(void **state);

/* The path of a store in it; a new one at each call of new_store. Static storage. */
const char *new_store(void);
const char *store_path(void);
const char *data_path(void); /* of the store's data file */
const char *in_directory(const char *name);
unsigned count_entries(const char *path);

uint64_t test_seed(void); /* from CP_TEST_SEED, or of the clock; printed */
uint64_t next_random(uint64_t *state);
uint64_t below(uint64_t *state, uint64_t limit);

/* Assertions that print the last error. */
#define assert_ok(call)             assert_status(call, 0, #call, __FILE__, __LINE__)
#define assert_code(call, expected) assert_status(call, expected, #call, __FILE__, __LINE__)
void assert_status(int64_t got, int64_t expected, const char *call, const char *file, int line);

/* Options for the engine under test, 512 KiB to 1 MiB unless told. */
struct cp_pager_options options_of(uint32_t page_size, uint64_t budget_bytes);
struct cp_pager *create_store(const char *path, uint32_t page_size, uint64_t budget_bytes);
struct cp_pager *open_store(const char *path);
/* Open and close: the code of opening. */
int try_open(const struct cp_pager_options *options, const char *path);

/* Page content as a function of page and version, over the whole payload; and its check. */
void fill_page(void *data, uint32_t payload, uint64_t page, uint64_t version);
bool page_is(const void *data, uint32_t payload, uint64_t page, uint64_t version);
uint64_t allocate_filled(struct cp_pager *pager, uint64_t version);
void update_page(struct cp_pager *pager, uint64_t page, uint64_t version); /* unlogged */
void commit_page(struct cp_pager *pager, uint64_t page, uint64_t version); /* durable */
bool check_page(struct cp_pager *pager, uint64_t page, uint64_t version);

/* The data file, behind the pager's back. */
void read_file(const char *path, uint64_t offset, void *buffer, size_t size);
void write_file(const char *path, uint64_t offset, const void *buffer, size_t size);
void flip_bit(const char *path, uint64_t offset, unsigned bit);
uint64_t file_size(const char *path);

#endif
