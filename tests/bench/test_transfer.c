/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include "transfer.h"

#define PAGE_BYTES UINT64_C(4096)
#define HUGE_PAGES 512u /* in one huge page */

static bool has_huge_pages(void)
{
    char text[128] = "";
    FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "r");
    if (file == NULL)
        return false;
    const bool read = fgets(text, sizeof text, file) != NULL;
    fclose(file);
    return read && strstr(text, "[never]") == NULL;
}

/* Each thread has some: 2 MiB of each would count against the memory limit of the engine. */
static void huge_alloc_of_a_few_pages_takes_no_more(void **state)
{
    (void)state;
    struct bench_error error = {""};
    unsigned char resident[HUGE_PAGES];
    unsigned count = 0;
    if (!has_huge_pages()) {
        print_message("skipped: the kernel grants no huge pages\n");
        skip();
    }
    char *memory = bench_huge_alloc(PAGE_BYTES, &error);
    assert_non_null(memory);
    memory[0] = 1;
    assert_int_equal(mincore(memory, HUGE_PAGES * PAGE_BYTES, resident), 0);
    for (unsigned i = 0; i < HUGE_PAGES; i++)
        count += resident[i] & 1;
    bench_huge_free(memory, PAGE_BYTES);
    assert_int_equal(count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(huge_alloc_of_a_few_pages_takes_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
