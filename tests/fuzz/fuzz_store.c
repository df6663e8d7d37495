/* SPDX-License-Identifier: MIT */
/*
 * Fuzzer: a hostile data file. The input says what is wrong with a good, cleanly closed store; it
 * is opened, looked at, written to and closed. Any code is right, a signal or a report is not.
 *
 *     u8   bit 0 engine, bit 1 read-only, bits 2-3 which checksums are made right (enum fuzz_fix),
 *          bit 4 open it a second time afterwards
 *     ...  edits (image.h)
 */
#include "image.h"
#include "use.h"

#include <stdlib.h>

static struct fuzz_image base;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    fuzz_limit_files();
    fuzz_make_store(fuzz_path("base"), FUZZ_CLEAN);
    fuzz_image_load(&base, fuzz_path("base"));
    fuzz_image_check(&base);
    for (unsigned engine = 0; engine < 2; engine++) { /* a store that never opens tests nothing */
        fuzz_image_write(&base, fuzz_path("store"));
        if (fuzz_use_store(fuzz_path("store"), (enum cp_engine)engine, false) != 0)
            abort();
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    unsigned flags = (unsigned)fuzz_take(&input, 1);
    struct fuzz_image image;

    fuzz_image_copy(&image, &base);
    fuzz_image_edit(&image, &input);
    fuzz_image_fix(&image, flags >> 2 & 3);
    fuzz_image_write(&image, fuzz_path("store"));
    fuzz_image_free(&image);
    (void)fuzz_use_store(fuzz_path("store"), (flags & 1) != 0 ? CP_ENGINE_MMAP : CP_ENGINE_POOL,
                         (flags & 2) != 0);
    if ((flags & 16) != 0)
        (void)fuzz_use_store(fuzz_path("store"), (flags & 1) != 0 ? CP_ENGINE_POOL : CP_ENGINE_MMAP,
                             true);
    return 0;
}
