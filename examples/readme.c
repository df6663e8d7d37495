/* SPDX-License-Identifier: MIT */
/* The example of README.md. */
#include <clockpool/clockpool.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
    struct cp_pager_options options = {.create = true, .budget_bytes = 64u << 20};
    struct cp_pager *pager;
    struct cp_mtr *mtr;
    uint64_t page;
    void *data;
    int code = cp_pager_open("example-store", &options, &pager);
    if (code != 0)
        return fprintf(stderr, "%s\n", cp_error_info()->what), 1;

    code = cp_mtr_begin(pager, &mtr); /* all of what follows, or nothing of it */
    if (code == 0 && (code = cp_mtr_allocate(mtr, &page, &data)) != 0)
        cp_mtr_abort(mtr);
    if (code == 0) {
        strcpy(data, "hello");
        code = cp_mtr_commit(mtr, CP_COMMIT_DURABLE, NULL); /* survives a power failure from here */
    }
    int closed = cp_pager_close(pager);
    return code != 0 || closed != 0;
}
