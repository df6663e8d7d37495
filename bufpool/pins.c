/* SPDX-License-Identifier: MIT */
/*
 * The pin list: who holds what, since when (option track_pins), or what is held (always).
 *
 * Tracking costs a lock and a clock reading for each fix, so it is an option; without it the list
 * is read off the page tables and has no owners.
 */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define PIN_LIMIT 4096u /* more at a time are not tracked */

int cp_pins__create(struct cp_bufpool *pool)
{
    if (!pool->options.track_pins)
        return 0;
    pool->pin_limit = PIN_LIMIT;
    pool->pins = calloc(PIN_LIMIT, sizeof *pool->pins);
    if (pool->pins == NULL)
        return cp_error_set(-ENOMEM, NULL, CP_NO_PAGE, CP_NO_LSN, NULL,
                            "allocating the list of pins");
    for (uint32_t i = 0; i < PIN_LIMIT; i++)
        pool->pins[i].next_free = i + 1 < PIN_LIMIT ? i + 2 : 0;
    pool->pins_free = 1;
    return 0;
}

void cp_pins__destroy(struct cp_bufpool *pool)
{
    free(pool->pins);
}

uint32_t cp_pins__add(struct cp_bufpool_file *file, uint64_t page, enum cp_latch_mode mode)
{
    struct cp_bufpool *pool = file->pool;
    if (!cp_fork_guard_same(&pool->fork_guard))
        return 0; /* a ticket's page, inherited by a child: the lock may be too, and shut */
    uint64_t now_ns = cp_now_ns();
    int32_t tid = (int32_t)gettid();

    pthread_mutex_lock(&pool->pins_lock);
    uint32_t pin = pool->pins_free;
    if (pin != 0) {
        struct cp_pin_entry *entry = &pool->pins[pin - 1];
        pool->pins_free = entry->next_free;
        *entry = (struct cp_pin_entry){.file = file,
                                       .page = page,
                                       .since_ns = now_ns,
                                       .mode = mode,
                                       .owner_tid = tid,
                                       .used = true};
    }
    pthread_mutex_unlock(&pool->pins_lock);
    return pin;
}

void cp_pins__remove(struct cp_bufpool *pool, uint32_t pin)
{
    pthread_mutex_lock(&pool->pins_lock);
    struct cp_pin_entry *entry = &pool->pins[pin - 1];
    cp_assert(entry->used); /* a fix that is released twice */
    entry->used = false;
    entry->next_free = pool->pins_free;
    pool->pins_free = pin;
    pthread_mutex_unlock(&pool->pins_lock);
}

/* Insert into a list kept oldest first, the youngest falling off its end. */
static void insert_by_age(struct cp_pin *pins, uint32_t *count, uint32_t capacity,
                          const struct cp_pin *pin)
{
    uint32_t at = *count;
    while (at > 0 && pins[at - 1].age_ns < pin->age_ns)
        at--;
    if (at >= capacity)
        return;
    if (*count < capacity)
        (*count)++;
    for (uint32_t i = *count - 1; i > at; i--)
        pins[i] = pins[i - 1];
    pins[at] = *pin;
}

static uint32_t list_tracked(struct cp_bufpool *pool, struct cp_pin *pins, uint32_t capacity)
{
    uint64_t now_ns = cp_now_ns();
    uint32_t total = 0, count = 0;

    pthread_mutex_lock(&pool->pins_lock);
    for (uint32_t i = 0; i < pool->pin_limit; i++) {
        const struct cp_pin_entry *entry = &pool->pins[i];
        if (!entry->used)
            continue;
        total++;
        const struct cp_pin pin = {.path = entry->file->path,
                                   .page = entry->page,
                                   .mode = entry->mode,
                                   .count = 1,
                                   .owner_tid = entry->owner_tid,
                                   .age_ns = now_ns - entry->since_ns};
        insert_by_age(pins, &count, capacity, &pin);
    }
    pthread_mutex_unlock(&pool->pins_lock);
    return total;
}

/* Pins of all threads in slots: addresses of words, 0 for those that have been listed. */
struct slot_pins {
    uint64_t address[CP_PIN_SLOTS_ALL];
    uint32_t count;
};

/* How many slots hold the word; they are listed then. */
static uint32_t take_slots(struct slot_pins *slots, const uint64_t *word)
{
    uint32_t found = 0;

    for (uint32_t i = 0; i < slots->count; i++) {
        if (slots->address[i] != (uint64_t)(uintptr_t)word)
            continue;
        slots->address[i] = 0;
        found++;
    }
    return found;
}

static void list_page(const struct cp_bufpool_file *file, uint64_t page, bool exclusive,
                      uint32_t count, struct cp_pin *pins, uint32_t capacity, uint32_t *total)
{
    if (*total < capacity)
        pins[*total] = (struct cp_pin){.path = file->path,
                                       .page = page,
                                       .mode = exclusive ? CP_EXCLUSIVE : CP_SHARED,
                                       .count = count};
    (*total)++;
}

static void list_file(const struct cp_bufpool_file *file, struct slot_pins *slots,
                      struct cp_pin *pins, uint32_t capacity, uint32_t *total)
{
    uint64_t page = cp_table__next(file, 0);

    while (page < file->map.page_limit) {
        const uint64_t *word = &file->map.words[page];
        unsigned latch = cp_word_latch(cp_word_load(word));
        if (latch >= CP_LATCH_LOADING)
            list_page(file, page, true, 1, pins, capacity, total);
        else if (latch != CP_LATCH_FREE)
            list_page(file, page, false, latch + take_slots(slots, word), pins, capacity, total);
        page++;
        if (page % CP_GROUP_WORDS == 0)
            page = cp_table__next(file, page);
    }
    /* What is left lies in free words. */
    uint64_t first = (uint64_t)(uintptr_t)file->map.words;
    for (uint32_t i = 0; i < slots->count; i++) {
        uint64_t address = slots->address[i];
        if (address < first || address - first >= file->words_bytes)
            continue;
        page = (address - first) / sizeof(uint64_t);
        list_page(file, page, false, take_slots(slots, &file->map.words[page]), pins, capacity,
                  total);
    }
}

uint32_t cp_bufpool_list_pins(struct cp_bufpool *pool, struct cp_pin *pins, uint32_t capacity)
{
    struct slot_pins slots;
    uint32_t total = 0;

    if (!cp_fork_guard_same(&pool->fork_guard))
        return 0; /* a child holds nothing, and may have inherited locks that nobody opens */
    if (pool->pins != NULL)
        return list_tracked(pool, pins, capacity);
    slots.count =
        (uint32_t)cp_min_u64(CP_PIN_SLOTS_ALL, cp_pin_collect(slots.address, CP_PIN_SLOTS_ALL));
    pthread_mutex_lock(&pool->files_lock);
    for (uint32_t i = 0; i < CP_BUFPOOL_FILES_MAX; i++) {
        if (pool->files[i] != NULL)
            list_file(pool->files[i], &slots, pins, capacity, &total);
    }
    pthread_mutex_unlock(&pool->files_lock);
    return total;
}
