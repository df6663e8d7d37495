/* SPDX-License-Identifier: MIT */
/* The slab: against a model that knows which index must come next; chunks; threads. */
#include "helpers.h"

#include <clockpool/slab.h>

#include <errno.h>
#include <pthread.h>

static struct cp_slab *create_slab(uint32_t object_bytes, uint32_t alignment, uint32_t max_objects)
{
    struct cp_slab *slab = NULL;
    struct cp_slab_options options = {
        .object_bytes = object_bytes, .alignment_bytes = alignment, .max_objects = max_objects};
    assert_int_equal(cp_slab_create(&options, &slab), 0);
    return slab;
}

static void destroy_slab(struct cp_slab *slab)
{
    assert_int_equal(cp_slab__check(slab), 0);
    cp_slab_destroy(slab);
}

static void slab_create_with_bad_options_is_refused(void **state)
{
    (void)state;
    const struct cp_slab_options bad[] = {
        {.object_bytes = 0, .max_objects = 1},
        {.object_bytes = 64, .max_objects = 0},
        {.object_bytes = 64, .max_objects = CP_SLAB_NO_INDEX},
        {.object_bytes = 64, .max_objects = 1, .alignment_bytes = 48},
        {.object_bytes = 64, .max_objects = 1, .alignment_bytes = 8192},
        {.object_bytes = 64, .max_objects = 1, .chunk_bytes = 5000},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct cp_slab *slab = (void *)&slab;
        assert_int_equal(cp_slab_create(&bad[i], &slab), -EINVAL);
        assert_ptr_equal(slab, &slab);
    }
    cp_slab_destroy(NULL);
}

/* Sizes whose multiples do and do not divide a page, with the counts around words and levels. */
static const struct {
    uint32_t object_bytes, alignment, max_objects;
} shapes[] = {{64, 0, 5000}, {192, 0, 4096},  {40, 8, 64}, {1, 1, 70000}, {24, 8, 63},
              {4096, 0, 65}, {5000, 64, 130}, {3, 1, 1},   {100, 4, 4097}};

static void slab_objects_are_dense_aligned_and_indexed(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        uint32_t alignment = shapes[s].alignment != 0 ? shapes[s].alignment : 64;
        uint32_t stride = 0;
        struct cp_slab *slab =
            create_slab(shapes[s].object_bytes, shapes[s].alignment, shapes[s].max_objects);
        char *base = cp_slab_base(slab, &stride);
        assert_int_equal(stride, (shapes[s].object_bytes + alignment - 1) / alignment * alignment);
        for (uint32_t i = 0; i < shapes[s].max_objects; i++) {
            char *object = cp_slab_alloc(slab);
            assert_ptr_equal(object, base + (uint64_t)i * stride);
            assert_ptr_equal(cp_slab_at(slab, i), object);
            assert_int_equal(cp_slab_index(slab, object), i);
            memset(object, (int)i, shapes[s].object_bytes);
        }
        assert_null(cp_slab_alloc(slab));
        assert_int_equal(cp_slab__check(slab), 0);
        for (uint32_t i = 0; i < shapes[s].max_objects; i++) {
            assert_int_equal(*(unsigned char *)cp_slab_at(slab, i), i & 255);
            cp_slab_free(slab, cp_slab_at(slab, i));
        }
        destroy_slab(slab);
    }
}

#define MODEL_OBJECTS 5000u

static void slab_random_run_follows_the_model(void **state)
{
    (void)state;
    static bool live[MODEL_OBJECTS];
    uint64_t random = test_seed("slab random");
    struct cp_slab *slab = create_slab(192, 0, MODEL_OBJECTS);
    uint32_t live_count = 0;

    memset(live, 0, sizeof live);
    for (uint32_t step = 0; step < 60000; step++) {
        uint64_t dice = test_random(&random) % 100;
        uint64_t growth = step / 10000 % 2 == 0 ? 85 : 20; /* reaches full, and nearly empty */
        uint32_t index = 0;
        if (dice < growth) {
            while (index < MODEL_OBJECTS && live[index])
                index++;
            uint32_t *object = cp_slab_alloc(slab);
            if (index == MODEL_OBJECTS) {
                assert_null(object);
                continue;
            }
            assert_ptr_equal(object, cp_slab_at(slab, index)); /* the lowest there is */
            object[0] = object[47] = index;
            live[index] = true;
            live_count++;
        } else if (live_count > 0) {
            index = (uint32_t)(test_random(&random) % MODEL_OBJECTS);
            while (!live[index])
                index = (index + 1) % MODEL_OBJECTS;
            uint32_t *object = cp_slab_at(slab, index);
            assert_true(object[0] == index && object[47] == index);
            cp_slab_free(slab, object);
            live[index] = false;
            live_count--;
        }
        if (step % 1000 == 0) {
            struct cp_slab_stats stats;
            cp_slab_stats(slab, &stats);
            assert_int_equal(stats.live_objects, live_count);
            assert_int_equal(stats.alloc_count - stats.free_count, live_count);
            assert_int_equal(cp_slab__check(slab), 0);
        }
    }
    destroy_slab(slab);
}

static void slab_returns_empty_chunks_but_keeps_one(void **state)
{
    (void)state;
    struct cp_slab *slab = create_slab(64, 0, 256 * 100); /* 256 objects in 16 KiB */
    struct cp_slab_stats stats;
    cp_slab_stats(slab, &stats);
    assert_int_equal(stats.resident_bytes, 0);
    for (int i = 0; i < 256 * 100; i++)
        assert_non_null(cp_slab_alloc(slab));
    cp_slab_stats(slab, &stats);
    assert_int_equal(stats.resident_bytes, 100 * 16384);
    assert_true(stats.fragmentation == 0.0);
    for (uint32_t i = 256 * 100; i-- > 0;)
        cp_slab_free(slab, cp_slab_at(slab, i));
    cp_slab_stats(slab, &stats);
    assert_int_equal(stats.resident_bytes, 16384);
    assert_int_equal(stats.chunk_returned_count, 99);
    assert_int_equal(stats.used_bytes, 0);

    /* At a chunk's edge, nothing goes to the kernel and back. */
    for (int i = 0; i < 256; i++)
        assert_non_null(cp_slab_alloc(slab));
    for (int i = 0; i < 1000; i++)
        cp_slab_free(slab, cp_slab_alloc(slab));
    cp_slab_stats(slab, &stats);
    assert_int_equal(stats.chunk_taken_count, 101);
    assert_int_equal(stats.chunk_returned_count, 99);

    assert_int_equal(cp_slab_trim(slab), 16384);
    assert_int_equal(cp_slab_trim(slab), 0);
    assert_int_equal(cp_slab__check(slab), 0);
    for (uint32_t i = 0; i < 256; i++)
        cp_slab_free(slab, cp_slab_at(slab, i));
    assert_int_equal(cp_slab_trim(slab), 16384);
    cp_slab_stats(slab, &stats);
    assert_int_equal(stats.resident_bytes, 0);
    destroy_slab(slab);
}

static void slab_for_many_objects_is_resident_only_where_used(void **state)
{
    (void)state;
    if (!TEST_PLAIN_BUILD) {
        print_message("skipped: resident memory is the tool's in this build\n");
        skip();
    }
    uint64_t before = test_resident_bytes();
    struct cp_slab *slab = create_slab(64, 0, 1u << 30);
    for (int i = 0; i < 1000; i++)
        memset(cp_slab_alloc(slab), 1, 64);
    assert_true(test_resident_bytes() < before + (1 << 20));
    cp_slab_destroy(slab);
}

struct misuse {
    struct cp_slab *slab;
    void *object;
};

static void misuse_free(void *context)
{
    struct misuse *misuse = context;
    cp_slab_free(misuse->slab, misuse->object);
}

static void slab_misused_aborts(void **state)
{
    (void)state;
    struct cp_slab *slab = create_slab(192, 0, 1000);
    char *freed = cp_slab_alloc(slab);
    char *live = cp_slab_alloc(slab);
    cp_slab_free(slab, freed);
    struct misuse cases[] = {
        {slab, freed},                  /* freed twice */
        {slab, live + 64},              /* inside an object */
        {slab, live + 1},               /* not even aligned */
        {slab, cp_slab_at(slab, 1)},    /* control: live, see below */
        {slab, cp_slab_at(slab, 999)},  /* never allocated */
        {slab, cp_slab_at(slab, 1000)}, /* behind the last */
        {slab, (char *)freed - 192},    /* before the first */
        {slab, &cases},                 /* anywhere */
        {slab, NULL},                   /* nothing */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (i == 3)
            assert_int_equal(test_in_child(misuse_free, &cases[i]), 0);
        else
            test_expect_abort(misuse_free, &cases[i]);
    }
    cp_slab_free(slab, live);
    destroy_slab(slab);
}

static void slab_free_objects_are_poisoned(void **state)
{
    (void)state;
    if (!TEST_HAS_ASAN) {
        print_message("skipped: needs AddressSanitizer\n");
        skip();
    }
    struct cp_slab *slab = create_slab(64, 0, 1000);
    char *first = cp_slab_alloc(slab), *second = cp_slab_alloc(slab);
    assert_false(test_is_poisoned(first) || test_is_poisoned(second + 63));
    assert_true(test_is_poisoned(second + 64)); /* its neighbour was never handed out */
    cp_slab_free(slab, first);
    assert_true(test_is_poisoned(first) && test_is_poisoned(first + 63));
    assert_false(test_is_poisoned(second));
    assert_ptr_equal(cp_slab_alloc(slab), first);
    assert_false(test_is_poisoned(first) || test_is_poisoned(first + 63));
    cp_slab_free(slab, first);
    cp_slab_free(slab, second);
    cp_slab_trim(slab);
    assert_true(test_is_poisoned(first));
    destroy_slab(slab);
}

#define THREADS  4u
#define LIVE_MAX 600u

struct worker {
    struct cp_slab *slab;
    uint64_t name, random;
    const char *failure;
    uint64_t *live[LIVE_MAX];
    uint32_t live_count;
};

static void *churn(void *context)
{
    struct worker *worker = context;
    for (uint32_t round = 0; round < 40000 && worker->failure == NULL; round++) {
        uint64_t dice = test_random(&worker->random);
        bool full = worker->live_count == LIVE_MAX;
        if (full || (worker->live_count > 0 && dice % 100 < (round / 2000 % 2 ? 70 : 30))) {
            uint32_t i = (uint32_t)(dice / 128 % worker->live_count);
            uint64_t *object = worker->live[i];
            if (object[0] != worker->name || object[7] != worker->name)
                worker->failure = "an object was written by somebody else";
            if (cp_slab_at(worker->slab, cp_slab_index(worker->slab, object)) != object)
                worker->failure = "index and address disagree";
            cp_slab_free(worker->slab, object);
            worker->live[i] = worker->live[--worker->live_count];
        } else {
            uint64_t *object = cp_slab_alloc(worker->slab);
            if (object == NULL) {
                worker->failure = "no object, though there is one for each";
                break;
            }
            object[0] = object[7] = worker->name;
            worker->live[worker->live_count++] = object;
        }
        if (dice % 4096 == 0)
            cp_slab_trim(worker->slab);
    }
    while (worker->live_count > 0)
        cp_slab_free(worker->slab, worker->live[--worker->live_count]);
    return NULL;
}

static void slab_with_threads_gives_each_object_one_owner(void **state)
{
    (void)state;
    static struct worker workers[THREADS];
    pthread_t threads[THREADS];
    struct cp_slab *slab = create_slab(64, 0, THREADS * LIVE_MAX);
    uint64_t seed = test_seed("slab churn");

    for (uint64_t i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.slab = slab, .name = i + 1, .random = seed + i * 7919};
        assert_int_equal(pthread_create(&threads[i], NULL, churn, &workers[i]), 0);
    }
    for (uint32_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (uint32_t i = 0; i < THREADS; i++) {
        if (workers[i].failure != NULL)
            fail_msg("thread %u: %s", i, workers[i].failure);
    }
    struct cp_slab_stats stats;
    cp_slab_stats(slab, &stats);
    assert_int_equal(stats.live_objects, 0);
    assert_int_equal(stats.alloc_count, stats.free_count);
    destroy_slab(slab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slab_create_with_bad_options_is_refused),
        cmocka_unit_test(slab_objects_are_dense_aligned_and_indexed),
        cmocka_unit_test(slab_random_run_follows_the_model),
        cmocka_unit_test(slab_returns_empty_chunks_but_keeps_one),
        cmocka_unit_test(slab_for_many_objects_is_resident_only_where_used),
        cmocka_unit_test(slab_misused_aborts),
        cmocka_unit_test(slab_free_objects_are_poisoned),
        cmocka_unit_test(slab_with_threads_gives_each_object_one_owner),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
