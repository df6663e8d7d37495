/* SPDX-License-Identifier: MIT */
/*
 * without_uring PROGRAM ARGUMENTS...: run it where io_uring is not permitted. Exit status 77 when
 * that cannot be had.
 */
#include "support/without_uring.h"

#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc < 2 || !forbid_uring())
        return 77;
    execv(argv[1], argv + 1);
    return 77;
}
