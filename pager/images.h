/* SPDX-License-Identifier: MIT */
/* Full page images in the log, which protect pages from being torn: images.c has the theory. */
#ifndef CP_PAGER_IMAGES_H
#define CP_PAGER_IMAGES_H

#include "format.h"

#include <stdatomic.h>
#include <clockpool/wal.h>

struct cp_page_images {
    struct cp_wal *wal; /* borrowed from the pager */
    bool needed;        /* false: the device writes pages whole */
    _Atomic cp_lsn floor;
    _Atomic uint64_t logged;
};

/* Before the first page is read: the floor that the superblock calls for. */
void cp_images__begin(struct cp_page_images *images, const struct cp_superblock *superblock);
/* After the log has been recovered, before anybody changes a page. */
void cp_images__recovered(struct cp_page_images *images);
/* Choose a redo point: the log's end, such that every page written later has its base behind it. */
cp_lsn cp_images__choose_redo(struct cp_page_images *images);

#endif
