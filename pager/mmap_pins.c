/* SPDX-License-Identifier: MIT */
/*
 * Pins of the mmap engine. The words know how many hold a page; with track_pins a table of fixed
 * size also knows who and since when.
 */
#include "mmap_engine.h"

#include <clockpool/base/assert.h>
#include <clockpool/base/error.h>

#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

int cp_mmap__pins_init(struct mmap_engine *engine)
{
    if (!engine->track_pins)
        return 0;
    engine->pins = calloc(MMAP_PINS_MAX, sizeof *engine->pins);
    if (engine->pins == NULL)
        return cp_error_set(-ENOMEM, engine->format->path, CP_NO_PAGE, CP_NO_LSN, NULL,
                            "track pins");
    for (uint32_t i = 0; i < MMAP_PINS_MAX; i++)
        engine->pins[i].next_free = i + 1 < MMAP_PINS_MAX ? i + 2 : 0;
    engine->pin_free = 1;
    return 0;
}

void cp_mmap__pins_fini(struct mmap_engine *engine)
{
    free(engine->pins);
    engine->pins = NULL;
}

uint32_t cp_mmap__pin_add(struct mmap_engine *engine, uint64_t page, uint32_t mode)
{
    pthread_mutex_lock(&engine->pin_mutex);
    uint32_t pin = engine->pin_free;
    if (pin != 0) {
        struct mmap_pin *entry = &engine->pins[pin - 1];
        engine->pin_free = entry->next_free;
        entry->page = page;
        entry->mode = mode;
        entry->since_ns = cp_now_ns();
        entry->tid = (int32_t)syscall(SYS_gettid);
    }
    pthread_mutex_unlock(&engine->pin_mutex);
    return pin;
}

void cp_mmap__pin_remove(struct mmap_engine *engine, uint32_t pin)
{
    pthread_mutex_lock(&engine->pin_mutex);
    struct mmap_pin *entry = &engine->pins[pin - 1];
    cp_assert(entry->mode != 0);
    entry->mode = 0;
    entry->next_free = engine->pin_free;
    engine->pin_free = pin;
    pthread_mutex_unlock(&engine->pin_mutex);
}

/* Keep pins sorted by age, the oldest capacity of them. */
static void insert_pin(struct cp_pin *pins, uint32_t capacity, uint32_t count,
                       const struct cp_pin *pin)
{
    uint32_t at = count < capacity ? count : capacity;
    if (at == capacity) {
        if (capacity == 0 || pins[capacity - 1].age_ns >= pin->age_ns)
            return;
        at--;
    }
    while (at > 0 && pins[at - 1].age_ns < pin->age_ns) {
        pins[at] = pins[at - 1];
        at--;
    }
    pins[at] = *pin;
}

static uint32_t list_tracked(struct mmap_engine *engine, struct cp_pin *pins, uint32_t capacity)
{
    uint32_t count = 0;
    pthread_mutex_lock(&engine->pin_mutex);
    const uint64_t now_ns = cp_now_ns();
    for (uint32_t i = 0; i < MMAP_PINS_MAX; i++) {
        const struct mmap_pin *entry = &engine->pins[i];
        if (entry->mode == 0)
            continue;
        struct cp_pin pin = {engine->format->path,    entry->page, entry->mode, 1, entry->tid,
                             now_ns - entry->since_ns};
        insert_pin(pins, capacity, count, &pin);
        count++;
    }
    pthread_mutex_unlock(&engine->pin_mutex);
    return count;
}

uint32_t cp_mmap__list_pins(struct mmap_engine *engine, struct cp_pin *pins, uint32_t capacity)
{
    if (engine->track_pins)
        return list_tracked(engine, pins, capacity);
    uint32_t count = 0;
    uint64_t end =
        atomic_load_explicit(&engine->mapped_bytes, memory_order_relaxed) >> engine->page_shift;
    for (uint64_t page = 0; page < end; page++) {
        unsigned latch = cp_word_latch(cp_word_load(&engine->words[page]));
        if (latch == CP_LATCH_FREE)
            continue;
        bool shared = latch <= CP_LATCH_SHARED_MAX;
        if (count < capacity)
            pins[count] =
                (struct cp_pin){engine->format->path, page, shared ? CP_SHARED : CP_EXCLUSIVE,
                                shared ? latch : 1,   0,    0};
        count++;
    }
    return count;
}
