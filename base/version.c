/* SPDX-License-Identifier: MIT */
/* The version, put together from the numbers in the public header. */
#include <clockpool/version.h>

#define TEXT_OF(number) #number
#define TEXT(number)    TEXT_OF(number)

const char *cp_version(void)
{
    return TEXT(CP_VERSION_MAJOR) "." TEXT(CP_VERSION_MINOR) "." TEXT(CP_VERSION_PATCH);
}
