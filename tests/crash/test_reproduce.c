/* SPDX-License-Identifier: MIT */
/* A triple names the same image, to the byte, however often its workload is run. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "run.h"

#define STATES_OF_EACH 6u

static void triples_name_the_images_of_the_search(const char *engine)
{
    char root[PATH_MAX - 64], text[384] = "", triple[CRASH_TRIPLE_BYTES], mask[CRASH_MASK_BYTES];
    struct crash_search_options options = {.subject = crash_subject_find(engine)};
    unsigned compared = 0;
    assert_int_equal(crash_workplace_create(NULL, root, sizeof root), 0);
    for (uint64_t seed = 0; crash_workload_at((unsigned)seed) != NULL; seed++) {
        struct crash_run run;
        assert_int_equal(crash_run_record(&run, &options, seed, root, text, sizeof text), 0);
        if (run.repeatable) {
            crash_run_list(&run, STATES_OF_EACH, false);
            for (uint64_t i = 0; i < run.candidate_count; i++) {
                const struct crash_candidate *candidate = &run.candidates[i];
                struct crash_reproduction again;
                snprintf(triple, sizeof triple, "%" PRIu64 "/%" PRIu64 "/%s", seed,
                         candidate->point, crash_mask_format(candidate->mask, mask));
                assert_int_equal(crash_reproduce(&options, triple, NULL, &again, text, sizeof text),
                                 0);
                assert_true(again.found);
                if (again.image_hash != candidate->hash || !again.fine)
                    printf("%s (%s): %s\n", triple, run.plan->workload->name, again.verdict.text);
                assert_true(again.image_hash == candidate->hash);
                assert_true(again.fine);
                compared++;
            }
        }
        crash_run_clear(&run);
    }
    crash_empty_directory(root);
    assert_int_equal(rmdir(root), 0);
    printf("%s: %u images\n", engine, compared);
    assert_true(compared >= 8 * STATES_OF_EACH);
}

static void reproduce_pool_same_image(void **state)
{
    (void)state;
    triples_name_the_images_of_the_search("pool");
}

static void reproduce_mmap_same_image(void **state)
{
    (void)state;
    triples_name_the_images_of_the_search("mmap");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reproduce_pool_same_image),
        cmocka_unit_test(reproduce_mmap_same_image),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
