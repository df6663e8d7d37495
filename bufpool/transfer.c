/* SPDX-License-Identifier: MIT */
/* Transfers: requests for runs of consecutive pages, from a slab of fixed size. */
#include "internal.h"

struct cp_transfer *cp_transfer__alloc(struct cp_bufpool *pool)
{
    struct cp_transfer *transfer = cp_slab_alloc(pool->transfer_slab);
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
    cp_slab_free(transfer->pool->transfer_slab, transfer);
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
