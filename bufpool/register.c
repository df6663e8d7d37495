/* SPDX-License-Identifier: MIT */
/*
 * Frames registered with the kernel, so that a transfer need not look up and hold its pages.
 *
 * The kernel has room for a limited number of pieces: an extent each in a small pool, several in a
 * large one. A piece is registered with every ring once all its extents are committed, and
 * unregistered before one of them is given back. Whatever the kernel refuses stays as it is: such
 * transfers are plain. All of this happens under memory_lock.
 */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>

int cp_register__create(struct cp_bufpool *pool, struct cp_io_ring_options *ring)
{
    if (!pool->options.register_buffers)
        return 0;
    pool->piece_extents = 1;
    while ((pool->extent_limit - 1) / pool->piece_extents >= CP_IO_BUFFER_PIECES_MAX)
        pool->piece_extents *= 2;
    pool->pieces_registered = calloc((pool->extent_limit - 1) / pool->piece_extents + 1, 1);
    if (pool->pieces_registered == NULL)
        return cp_error_set(-ENOMEM, NULL, CP_NO_PAGE, CP_NO_LSN, NULL,
                            "allocating the pool's tables");
    ring->buffer_base = pool->base;
    ring->buffer_bytes = pool->extent_limit * pool->extent_bytes;
    ring->buffer_piece_bytes = pool->piece_extents * pool->extent_bytes;
    return 0;
}

void cp_register__destroy(struct cp_bufpool *pool)
{
    free(pool->pieces_registered);
}

/* Every ring, the one for writes after the others. */
static struct cp_io_ring *ring_at(struct cp_bufpool *pool, uint32_t i)
{
    return i < pool->ring_count ? pool->rings[i] : pool->write_ring;
}

static void unregister_piece(struct cp_bufpool *pool, uint32_t piece, uint32_t ring_count)
{
    for (uint32_t i = 0; i < ring_count; i++)
        cp_io_ring_unregister(ring_at(pool, i), piece);
}

static bool piece_is_committed(const struct cp_bufpool *pool, uint32_t piece)
{
    uint32_t first = piece * pool->piece_extents;
    uint32_t end = (uint32_t)cp_min_u64((uint64_t)first + pool->piece_extents, pool->extent_limit);

    for (uint32_t extent = first; extent < end; extent++) {
        if (pool->extents_committed[extent] == 0)
            return false;
    }
    return true;
}

void cp_register__extent(struct cp_bufpool *pool, uint32_t extent)
{
    if (pool->pieces_registered == NULL || pool->registering_refused)
        return;
    uint32_t piece = extent / pool->piece_extents;
    if (!piece_is_committed(pool, piece))
        return;
    for (uint32_t i = 0; i <= pool->ring_count; i++) {
        if (cp_io_ring_register(ring_at(pool, i), piece) != 0) {
            unregister_piece(pool, piece, i);
            pool->registering_refused = true; /* not asked again: it would fail at each extent */
            return;
        }
    }
    pool->pieces_registered[piece] = 1;
}

void cp_register__let_go(struct cp_bufpool *pool, uint32_t extent)
{
    if (pool->pieces_registered == NULL)
        return;
    uint32_t piece = extent / pool->piece_extents;
    if (pool->pieces_registered[piece] == 0)
        return;
    unregister_piece(pool, piece, pool->ring_count + 1);
    pool->pieces_registered[piece] = 0;
}
