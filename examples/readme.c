/* SPDX-License-Identifier: MIT */
/* The example of README.md. */
#include <clockpool/clockpool.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
    struct cp_pager_options options = {.create = true, .budget_bytes = 64u << 20};
    struct cp_pager *pager;
    struct cp_fix fix;
    int code = cp_pager_open("example-store", &options, &pager);
    if (code != 0)
        return fprintf(stderr, "%s\n", cp_error_info()->what), 1;

    code = cp_pager_allocate(pager, &fix); /* a new page, fixed exclusively, all zeros */
    if (code == 0) {
        strcpy(fix.data, "hello");
        cp_pager_unfix(pager, &fix);
    }
    int closed = cp_pager_close(pager); /* syncs: the page is durable now */
    return code != 0 || closed != 0;
}
