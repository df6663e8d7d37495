/* SPDX-License-Identifier: MIT */
/* The stores that the search knows. */
#include "subject.h"

#include <string.h>

static const struct crash_subject *const subjects[] = {
    &crash_subject_pool, &crash_subject_mmap,        &crash_subject_mmap_in_place,
    &crash_subject_lmdb, &crash_subject_lmdb_nosync,
};

const struct crash_subject *crash_subject_at(unsigned index)
{
    return index < sizeof subjects / sizeof subjects[0] ? subjects[index] : NULL;
}

const struct crash_subject *crash_subject_find(const char *name)
{
    for (unsigned i = 0; crash_subject_at(i) != NULL; i++) {
        if (strcmp(subjects[i]->name, name) == 0)
            return subjects[i];
    }
    return NULL;
}
