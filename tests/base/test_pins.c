/* SPDX-License-Identifier: MIT */
/* Pin slots: taking, searching, releasing, waiting, and what outlives a thread. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>

#include <clockpool/base/pins.h>

static int things[64];

static bool available(void)
{
    if (cp_pin_available())
        return true;
    print_message("skipped: this kernel has no membarrier, or CLOCKPOOL_COUNTED_PINS is set\n");
    return false;
}

static uint64_t search(const void *address)
{
    cp_pin_barrier();
    return cp_pin_search(&address, 1);
}

static void pins_taken_slot_is_found_until_released(void **state)
{
    (void)state;
    if (!available())
        skip();
    assert_int_equal(search(&things[0]), 0);
    uint64_t *a = cp_pin_take(&things[0]);
    uint64_t *b = cp_pin_take(&things[0]);
    assert_non_null(a);
    assert_non_null(b);
    assert_ptr_not_equal(a, b);
    assert_int_equal(search(&things[0]), 1);
    assert_int_equal(search(&things[1]), 0);
    assert_int_equal(cp_pin_count(&things[0]), 2);
    cp_pin_release(a);
    assert_int_equal(search(&things[0]), 1);
    cp_pin_release(b);
    assert_int_equal(search(&things[0]), 0);
    assert_int_equal(cp_pin_count(&things[0]), 0);
}

static void pins_search_of_many_answers_for_each(void **state)
{
    (void)state;
    const void *addresses[64];
    if (!available())
        skip();
    uint64_t *first = cp_pin_take(&things[5]), *second = cp_pin_take(&things[63]);
    for (uint32_t i = 0; i < 64; i++)
        addresses[i] = &things[i];
    cp_pin_barrier();
    assert_int_equal(cp_pin_search(addresses, 64), UINT64_C(1) << 63 | UINT64_C(1) << 5);
    assert_int_equal(cp_pin_search(addresses, 63), UINT64_C(1) << 5);
    cp_pin_release(first);
    cp_pin_release(second);
}

static void pins_full_block_has_no_more_slots(void **state)
{
    (void)state;
    uint64_t *slots[CP_PIN_SLOTS], addresses[CP_PIN_SLOTS_ALL];
    if (!available())
        skip();
    for (uint32_t i = 0; i < CP_PIN_SLOTS; i++) {
        slots[i] = cp_pin_take(&things[i]);
        assert_non_null(slots[i]);
    }
    assert_null(cp_pin_take(&things[0]));
    assert_false(cp_pin_announce(&cp_pin_own->slot[0], &things[0]));
    assert_int_equal(cp_pin_collect(addresses, CP_PIN_SLOTS_ALL), CP_PIN_SLOTS);
    assert_int_equal(cp_pin_collect(addresses, 2), CP_PIN_SLOTS);
    for (uint32_t i = 0; i < CP_PIN_SLOTS; i++)
        cp_pin_release(slots[i]);
    assert_int_equal(cp_pin_collect(addresses, CP_PIN_SLOTS_ALL), 0);
}

static void *take_and_end(void *argument)
{
    uint64_t **out_slot = argument;
    *out_slot = cp_pin_take(&things[7]);
    return NULL;
}

static void pins_slot_outlives_its_thread_and_any_thread_releases(void **state)
{
    (void)state;
    uint64_t *slots[2 * CP_PIN_SLOTS];
    if (!available())
        skip();
    for (uint32_t i = 0; i < 2 * CP_PIN_SLOTS; i++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, take_and_end, &slots[i]), 0);
        pthread_join(thread, NULL);
        /* Each has the same block as the one before, which fills up. */
        assert_true(i < CP_PIN_SLOTS ? slots[i] != NULL : slots[i] == NULL);
    }
    assert_int_equal(search(&things[7]), 1);
    assert_int_equal(cp_pin_count(&things[7]), CP_PIN_SLOTS);
    for (uint32_t i = 0; i < CP_PIN_SLOTS; i++)
        cp_pin_release(slots[i]);
    assert_int_equal(search(&things[7]), 0);
}

/* ---- waiting ------------------------------------------------------------------------------------
 */

static void pins_wait_for_nobody_returns_at_once(void **state)
{
    (void)state;
    if (!available())
        skip();
    assert_true(cp_pin_wait(&things[9], 0));
}

static void pins_wait_ends_at_the_deadline(void **state)
{
    (void)state;
    if (!available())
        skip();
    uint64_t *slot = cp_pin_take(&things[9]);
    assert_false(cp_pin_wait(&things[9], cp_now_ns() + 2000000));
    assert_false(cp_pin_wait(&things[9], 1)); /* long ago */
    assert_int_equal(cp_pin_own->watchers, 0);
    cp_pin_release(slot);
}

struct handover {
    uint32_t rounds;
    _Atomic uint32_t turn; /* odd: held, even: free */
};

static void *hold_and_release(void *argument)
{
    struct handover *h = argument;
    for (uint32_t i = 0; i < h->rounds; i++) {
        uint64_t *slot = cp_pin_take(&things[11]);
        h->turn++;
        if (i % 64 == 0) { /* let the other go to sleep */
            struct cp_pin_block *own = cp_pin_own;
            while (__atomic_load_n(&own->watchers, __ATOMIC_ACQUIRE) == 0)
                sched_yield();
        }
        cp_pin_release(slot);
        while (h->turn % 2 != 0)
            sched_yield();
    }
    return NULL;
}

/* No release is slept through: the other thread goes on only when the wait has ended. */
static void pins_waiter_is_woken_each_time(void **state)
{
    (void)state;
    struct handover h = {.rounds = 2000};
    pthread_t thread;
    if (!available())
        skip();
    assert_int_equal(pthread_create(&thread, NULL, hold_and_release, &h), 0);
    for (uint32_t i = 0; i < h.rounds; i++) {
        while (h.turn % 2 == 0)
            sched_yield();
        assert_true(cp_pin_wait(&things[11], 0));
        assert_int_equal(cp_pin_count(&things[11]), 0);
        h.turn++;
    }
    pthread_join(thread, NULL);
}

static void pins_switched_off_by_the_environment(void **state)
{
    (void)state;
    char *given = getenv("CLOCKPOOL_COUNTED_PINS");
    if (given == NULL)
        setenv("CLOCKPOOL_COUNTED_PINS", "1", 1);
    assert_false(cp_pin_available());
    if (given == NULL)
        unsetenv("CLOCKPOOL_COUNTED_PINS");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pins_taken_slot_is_found_until_released),
        cmocka_unit_test(pins_search_of_many_answers_for_each),
        cmocka_unit_test(pins_full_block_has_no_more_slots),
        cmocka_unit_test(pins_slot_outlives_its_thread_and_any_thread_releases),
        cmocka_unit_test(pins_wait_for_nobody_returns_at_once),
        cmocka_unit_test(pins_wait_ends_at_the_deadline),
        cmocka_unit_test(pins_waiter_is_woken_each_time),
        cmocka_unit_test(pins_switched_off_by_the_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
