/* SPDX-License-Identifier: MIT */
/*
 * A crash state as real files: a directory that is made to hold exactly what a state says, again
 * and again. Whatever a check has done to the files meanwhile is undone: names are compared, files
 * are compared block by block through a mapping, and only what differs is written.
 */
#ifndef BENCH_CRASH_IMAGE_H
#define BENCH_CRASH_IMAGE_H

#include "states.h"

struct crash_image_files;

/* root: an existing directory on a file system in memory; borrowed name is copied. Never NULL. */
struct crash_image_files *crash_image_create(const char *root);
/* Leaves the files where they are. */
void crash_image_destroy(struct crash_image_files *image);
/* Make the directory hold the state chosen, with no holes in its files. 0 or -errno. */
int crash_image_apply(struct crash_image_files *image, struct crash_states *states);

/* Where to work: dir when given, else /dev/shm when it is there, else $TMPDIR or /tmp. A directory
 * of one's own is made in it. 0 or -errno. */
int crash_workplace_create(const char *dir, char *out_path, size_t capacity);

/* What to say when it cannot be made: where, and why. code: -errno. Returns text. */
const char *crash_workplace_error(const char *dir, int code, char *text, size_t capacity);

/* A full directory says nothing about a store: is this code from one (-ENOSPC, -EDQUOT)? */
bool crash_is_no_space(int code);
/* Has the file system of path less room than a store may ask for at once? Where no code tells. */
bool crash_workplace_full(const char *path);
/* What to say then, of the directory in which the workplace was made. Returns text. */
const char *crash_no_space_text(const char *workplace, char *text, size_t capacity);

#endif
