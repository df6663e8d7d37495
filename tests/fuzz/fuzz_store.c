/* SPDX-License-Identifier: MIT */
/*
 * Fuzzer: hostile files. The input says what is wrong with a good store, closed or crashed; it is
 * opened (and so recovered), looked at, written to and closed. Any code is right, a signal or a
 * report is not.
 *
 *     u8   bit 0 engine, bit 1 read-only, bits 2-3 make the checksums of superblocks, pages right,
 *          bit 4 open it a second time afterwards, bit 5 the crashed store, bit 6 make all
 *          checksums of the log right
 *     ...  edits (image.h)
 */
#include "image.h"
#include "use.h"

#include <stdlib.h>

static struct fuzz_image bases[2]; /* closed, crashed */

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    fuzz_limit_files();
    for (unsigned crashed = 0; crashed < 2; crashed++) {
        fuzz_make_store(fuzz_path("base"), crashed != 0 ? FUZZ_CRASHED : FUZZ_CLEAN);
        fuzz_image_load(&bases[crashed], fuzz_path("base"));
        fuzz_image_check(&bases[crashed]);
        for (unsigned engine = 0; engine < 2; engine++) { /* what never opens tests nothing */
            fuzz_image_write(&bases[crashed], fuzz_path("store"));
            if (fuzz_use_store(fuzz_path("store"), (enum cp_engine)engine, false) != 0)
                abort();
        }
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    unsigned flags = (unsigned)fuzz_take(&input, 1);
    struct fuzz_image image;

    fuzz_image_copy(&image, &bases[flags >> 5 & 1]);
    (void)fuzz_image_edit(&image, &input);
    fuzz_image_fix(&image, (flags >> 2 & 3) | ((flags & 64) != 0 ? FUZZ_FIX_LOG : 0));
    fuzz_image_write(&image, fuzz_path("store"));
    fuzz_image_free(&image);
    (void)fuzz_use_store(fuzz_path("store"), (flags & 1) != 0 ? CP_ENGINE_MMAP : CP_ENGINE_POOL,
                         (flags & 2) != 0);
    if ((flags & 16) != 0)
        (void)fuzz_use_store(fuzz_path("store"), (flags & 1) != 0 ? CP_ENGINE_POOL : CP_ENGINE_MMAP,
                             true);
    return 0;
}
