/* SPDX-License-Identifier: MIT */
#include "pairs.h"

#include <clockpool/base/checksum.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXTRA_MAGIC UINT64_C(0x6172747865) /* "extra" */

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* The rest of a page follows from its first words: a page of two versions is noticed. */
static void fill(void *data, uint32_t size_bytes, const struct pair_content *content)
{
    uint64_t *words = data;
    memcpy(words, content, sizeof *content);
    for (uint32_t i = 3; i < size_bytes / 8; i++)
        words[i] = content->version * UINT64_C(0x9e3779b97f4a7c15) + content->pair + i;
}

static bool filled(const void *data, uint32_t size_bytes, struct pair_content *out_content)
{
    const uint64_t *words = data;
    memcpy(out_content, words, sizeof *out_content);
    for (uint32_t i = 3; i < size_bytes / 8; i++) {
        if (words[i] != out_content->version * UINT64_C(0x9e3779b97f4a7c15) + out_content->pair + i)
            return false;
    }
    return true;
}

struct cp_pager_options pairs_options(void)
{
    return (struct cp_pager_options){.budget_bytes = UINT64_C(4) << 20,
                                     .log_limit_bytes = UINT64_C(1) << 20,
                                     .log_buffer_bytes = UINT32_C(1) << 20};
}

/* The page before the first pair says how many there are. */
int pairs_create(const char *directory, uint32_t page_size, uint64_t count)
{
    struct cp_pager_options options = pairs_options();
    struct cp_pager *pager;
    options.create = options.exclusive = true;
    options.page_size = page_size;
    options.log_segment_bytes = 64 << 10;
    int code = cp_pager_open(directory, &options, &pager);
    if (code != 0)
        return code;
    const uint32_t size = cp_pager_payload_size(pager);
    for (uint64_t i = 0; code == 0 && i < 1 + 2 * count; i++) {
        struct pair_content content = {.pair = i == 0 ? count : (i - 1) / 2, .version = 1};
        struct cp_mtr *mtr;
        uint64_t page;
        void *data;
        code = cp_mtr_begin(pager, &mtr);
        if (code != 0)
            break;
        code = cp_mtr_allocate(mtr, &page, &data);
        if (code == 0) {
            fill(data, size, &content);
            code = cp_mtr_commit(mtr, CP_COMMIT_RELAXED, NULL);
        } else {
            cp_mtr_abort(mtr);
        }
    }
    int closed = cp_pager_close(pager);
    return code != 0 ? code : closed;
}

int pairs_count(struct cp_pager *pager, uint64_t *out_count)
{
    return cp_pager_read(pager, cp_pager_first_page(pager), 0, out_count, sizeof *out_count);
}

static int toggle_extra(struct cp_mtr *mtr, struct pair_content *content, uint32_t size)
{
    struct pair_content extra = {
        .pair = content->pair, .version = content->version, .extra = EXTRA_MAGIC};
    void *data;
    if (content->extra != 0) {
        int code = cp_mtr_free(mtr, content->extra);
        if (code == 0)
            content->extra = 0;
        return code;
    }
    int code = cp_mtr_allocate(mtr, &content->extra, &data);
    if (code == 0)
        fill(data, size, &extra);
    return code;
}

static int change_once(struct cp_pager *pager, uint64_t pair, bool toggle, uint64_t *out_version)
{
    const uint64_t first = cp_pager_first_page(pager) + 1 + 2 * pair;
    const uint32_t size = cp_pager_payload_size(pager);
    struct pair_content content;
    struct cp_mtr *mtr;
    void *data[2];
    int code = cp_mtr_begin(pager, &mtr);
    if (code != 0)
        return code;
    for (unsigned i = 0; code == 0 && i < 2; i++)
        code = cp_mtr_fix(mtr, first + i, CP_EXCLUSIVE, &data[i]);
    if (code == 0) {
        memcpy(&content, data[0], sizeof content);
        content.version++;
        if (toggle)
            code = toggle_extra(mtr, &content, size);
    }
    if (code != 0) {
        cp_mtr_abort(mtr);
        return code;
    }
    for (unsigned i = 0; i < 2; i++)
        fill(data[i], size, &content);
    *out_version = content.version;
    return cp_mtr_commit(mtr, CP_COMMIT_DURABLE, NULL);
}

int pairs_change(struct cp_pager *pager, uint64_t count, uint64_t *random, _Atomic uint64_t *acks)
{
    const uint64_t pair = next_random(random) % count;
    const bool toggle = next_random(random) % 4 == 0;
    uint64_t version = 0;
    int code;
    do { /* ends: whoever holds the page that is waited for goes on */
        code = change_once(pager, pair, toggle, &version);
    } while (code == CP_EDEADLOCK);
    if (code != 0 || acks == NULL)
        return code;
    /* relaxed: a number to compare with, nothing is published by it */
    uint64_t old = atomic_load_explicit(&acks[pair], memory_order_relaxed);
    while (old < version &&
           !atomic_compare_exchange_weak_explicit(&acks[pair], &old, version, memory_order_relaxed,
                                                  memory_order_relaxed))
        ;
    return 0;
}

/* ---- judging ----------------------------------------------------------------------------------
 */

static bool wrong(uint64_t pair, const char *what, uint64_t a, uint64_t b)
{
    printf("pair %" PRIu64 ": %s (%" PRIu64 ", %" PRIu64 ")\n", pair, what, a, b);
    return false;
}

static int verify_pair(struct cp_pager *pager, uint64_t pair, void *buffer, uint64_t ack,
                       struct pair_content *out_content, bool *out_right)
{
    const uint64_t first = cp_pager_first_page(pager) + 1 + 2 * pair;
    const uint32_t size = cp_pager_payload_size(pager);
    struct pair_content content[2], extra;
    *out_right = true;
    for (unsigned i = 0; i < 2; i++) {
        int code = cp_pager_read(pager, first + i, 0, buffer, size);
        if (code != 0)
            return code;
        if (!filled(buffer, size, &content[i]))
            *out_right = wrong(pair, "a page of two versions", i, content[i].version);
        if (content[i].pair != pair)
            *out_right = wrong(pair, "a page of another pair", i, content[i].pair);
    }
    *out_content = content[0];
    if (content[0].version != content[1].version || content[0].extra != content[1].extra)
        *out_right = wrong(pair, "its pages differ", content[0].version, content[1].version);
    if (content[0].version < ack)
        *out_right = wrong(pair, "an acknowledged version is lost", content[0].version, ack);
    if (content[0].extra == 0 || !*out_right)
        return 0;
    int allocated = cp_pager_is_allocated(pager, content[0].extra);
    if (allocated != 1) {
        *out_right = wrong(pair, "its extra page is not allocated", content[0].extra, 0);
        return allocated < 0 ? allocated : 0;
    }
    int code = cp_pager_read(pager, content[0].extra, 0, buffer, size);
    if (code == 0 && (!filled(buffer, size, &extra) || extra.pair != pair ||
                      extra.extra != EXTRA_MAGIC || extra.version > content[0].version))
        *out_right = wrong(pair, "its extra page is another's", content[0].extra, extra.pair);
    return code;
}

int64_t pairs_verify(struct cp_pager *pager, const _Atomic uint64_t *acks)
{
    uint64_t count = 0, extras = 0, changes = 0;
    struct cp_pager_stats stats;
    bool all_right = true;
    int code = pairs_count(pager, &count);
    void *buffer = malloc(cp_pager_payload_size(pager));
    for (uint64_t pair = 0; code == 0 && pair < count; pair++) {
        struct pair_content content;
        bool right;
        code =
            verify_pair(pager, pair, buffer,
                        acks != NULL ? atomic_load_explicit(&acks[pair], memory_order_relaxed) : 0,
                        &content, &right);
        if (code == 0) {
            all_right = all_right && right;
            extras += content.extra != 0;
            changes += content.version - 1;
        }
    }
    free(buffer);
    if (code != 0)
        return code;
    cp_pager_stats(pager, &stats);
    if (stats.allocated_pages != 1 + 2 * count + extras)
        all_right = wrong(count, "allocated pages are not those in use", stats.allocated_pages,
                          1 + 2 * count + extras);
    return all_right ? (int64_t)changes : CP_EFORMAT;
}

bool pairs_forge(const char *directory, unsigned offset, uint64_t value)
{
    unsigned char block[4096];
    char path[200];
    bool done = true;
    snprintf(path, sizeof path, "%s/data", directory);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    for (unsigned slot = 0; slot < 2 && done; slot++) {
        done = pread(fd, block, sizeof block, slot * 65536) == sizeof block;
        memcpy(block + offset, &value, sizeof value);
        uint64_t checksum = cp_checksum(block, 4088, UINT64_C(0x434c4f434b504c31));
        memcpy(block + 4088, &checksum, sizeof checksum);
        done = done && pwrite(fd, block, sizeof block, slot * 65536) == sizeof block;
    }
    close(fd);
    return done;
}
