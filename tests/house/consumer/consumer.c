/* SPDX-License-Identifier: MIT */
/* The smallest program that needs the library at run time: version, an error, a checksum. */
#include <clockpool/clockpool.h>
#include <clockpool/base/checksum.h>

#include <stdio.h>
#include <string.h>

int main(void)
{
    char expected[32];
    snprintf(expected, sizeof expected, "%d.%d.%d", CP_VERSION_MAJOR, CP_VERSION_MINOR,
             CP_VERSION_PATCH);
    if (strcmp(cp_version(), expected) != 0) {
        fprintf(stderr, "headers of %s, library of %s\n", expected, cp_version());
        return 1;
    }
    if (strcmp(cp_status_name(CP_ECHECKSUM), "CP_ECHECKSUM") != 0)
        return 2;
    return cp_checksum("", 0, 0) == UINT64_C(0x2d06800538d394c2) ? 0 : 3;
}
