/* SPDX-License-Identifier: MIT */
/*
 * Transfers: requests for runs of consecutive pages, from a slab of fixed size. One that was used
 * is kept for the next: the last one freed is the likeliest to be in the processor's cache.
 */
#include "internal.h"

struct cp_transfer *cp_transfer__alloc(struct cp_bufpool *pool)
{
    pthread_mutex_lock(&pool->transfers_lock);
    struct cp_transfer *transfer = pool->transfers_free;
    if (transfer != NULL)
        pool->transfers_free = transfer->next;
    pthread_mutex_unlock(&pool->transfers_lock);
    if (transfer == NULL)
        transfer = cp_slab_alloc(pool->transfer_slab);
    if (transfer == NULL)
        return NULL;
    transfer->pool = pool;
    transfer->file = NULL;
    transfer->wait = NULL;
    transfer->count = 0;
    transfer->request = (struct cp_io_request){.iov = transfer->iov, .user = transfer};
    return transfer;
}

void cp_transfer__free(struct cp_transfer *transfer)
{
    struct cp_bufpool *pool = transfer->pool;

    pthread_mutex_lock(&pool->transfers_lock);
    transfer->next = pool->transfers_free;
    pool->transfers_free = transfer;
    pthread_mutex_unlock(&pool->transfers_lock);
}

/* Frames that lie side by side share an iovec: one segment for the device. */
void cp_transfer__add_page(struct cp_transfer *transfer, struct cp_frame *frame)
{
    struct cp_io_request *request = &transfer->request;
    unsigned char *data = cp_bufpool__unit_data(transfer->pool, frame->unit);
    uint64_t bytes = transfer->file->page_size;

    cp_debug_assert(transfer->count < CP_TRANSFER_PAGES);
    transfer->frames[transfer->count++] = frame;
    if (request->iov_count > 0) {
        struct iovec *last = &transfer->iov[request->iov_count - 1];
        if ((unsigned char *)last->iov_base + last->iov_len == data) {
            last->iov_len += bytes;
            return;
        }
    }
    transfer->iov[request->iov_count++] = (struct iovec){data, bytes};
}

bool cp_transfer__continues(const struct cp_transfer *transfer, const struct cp_bufpool_file *file,
                            uint64_t page)
{
    return transfer->file == file && page == transfer->first_page + transfer->count &&
           transfer->count < CP_TRANSFER_PAGES &&
           (transfer->count + 1) * (uint64_t)file->page_size <= CP_IO_MAX_TRANSFER_BYTES;
}
