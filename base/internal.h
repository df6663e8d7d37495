/* SPDX-License-Identifier: MIT */
/* What the files of base share among themselves. */
#ifndef CLOCKPOOL_BASE_INTERNAL_H
#define CLOCKPOOL_BASE_INTERNAL_H

/* The calling thread gives its pin block back, before its thread slot. */
void cp_pin__thread_ends(void);

#endif
