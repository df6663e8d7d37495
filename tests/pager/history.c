/* SPDX-License-Identifier: MIT */
#include "history.h"

static uint64_t word_of(uint64_t page, uint32_t version, uint32_t index)
{
    uint64_t state = page * UINT64_C(0x100000001b3) + index;
    if (index % 16 == 0)
        state ^= (uint64_t)version << 40;
    return index == 0 ? version : next_random(&state);
}

void history_fill(void *data, uint32_t payload, uint64_t page, uint32_t version)
{
    uint64_t *words = data;
    for (uint32_t i = 0; i < payload / 8; i++)
        words[i] = word_of(page, version, i);
}

uint32_t history_version(const void *data, uint32_t payload, uint64_t page)
{
    const uint64_t *words = data;
    uint32_t version = (uint32_t)words[0];
    for (uint32_t i = 0; i < payload / 8; i++) {
        if (words[i] != word_of(page, version, i))
            return SEEN_WRONG;
    }
    return version == 0 ? SEEN_WRONG : version;
}

void history_init(struct history *history, uint64_t first, uint32_t allocated)
{
    assert_true(allocated <= HISTORY_PAGES);
    memset(history, 0, sizeof *history);
    history->first = first;
    for (uint32_t i = 0; i < allocated; i++)
        history->version[0][i] = 1;
}

uint32_t history_begin(struct history *history)
{
    assert_true(history->count + 1 < HISTORY_ROWS);
    memcpy(history->version[history->count + 1], history->version[history->count],
           sizeof history->version[0]);
    return history->count + 2;
}

void history_set(struct history *history, uint64_t page, uint32_t version)
{
    assert_true(page - history->first < HISTORY_PAGES);
    history->version[history->count + 1][page - history->first] = version;
}

void history_commit(struct history *history, bool acked)
{
    history->count++;
    if (acked)
        history->acked = history->count;
}

uint32_t history_now(const struct history *history, uint64_t page)
{
    return history->version[history->count][page - history->first];
}

static uint32_t look_at(struct cp_pager *pager, uint64_t page, struct seen *seen)
{
    struct cp_fix fix;
    int code = cp_pager_is_allocated(pager, page);
    if (code == 0)
        return 0;
    if (code > 0)
        code = cp_pager_fix(pager, page, CP_SHARED, &fix);
    if (code < 0) {
        seen->first_error = seen->errors++ == 0 ? code : seen->first_error;
        return SEEN_ERROR;
    }
    uint32_t version = history_version(fix.data, cp_pager_payload_size(pager), page);
    cp_pager_unfix(pager, &fix);
    return version;
}

void history_look(const struct history *history, struct cp_pager *pager, struct seen *seen)
{
    seen->errors = 0;
    seen->first_error = 0;
    for (uint32_t i = 0; i < HISTORY_PAGES; i++)
        seen->version[i] = look_at(pager, history->first + i, seen);
}

static bool fits(uint32_t version, uint32_t expected, bool errors_allowed)
{
    return version == expected || (errors_allowed && version == SEEN_ERROR);
}

int64_t history_match(const struct history *history, const struct seen *seen, bool errors_allowed)
{
    for (int64_t k = history->count; k >= (int64_t)history->acked; k--) {
        uint32_t i = 0;
        while (i < HISTORY_PAGES && fits(seen->version[i], history->version[k][i], errors_allowed))
            i++;
        if (i == HISTORY_PAGES)
            return k;
    }
    return -1;
}

bool history_whole(const struct history *history, const struct seen *seen, uint32_t *out_stale)
{
    *out_stale = 0;
    for (uint32_t i = 0; i < HISTORY_PAGES; i++) {
        uint32_t k = 0, version = seen->version[i];
        while (k <= history->count && history->version[k][i] != version)
            k++;
        if (k > history->count && version != SEEN_ERROR)
            return false;
        *out_stale += version != SEEN_ERROR && version != history->version[history->count][i];
    }
    return true;
}

void history_explain(const struct history *history, const struct seen *seen)
{
    unsigned lines = 0;
    print_error("transactions: %u, acknowledged: %u; %u errors, the first %s\n", history->count,
                history->acked, seen->errors, cp_status_name(seen->first_error));
    for (uint32_t i = 0; i < HISTORY_PAGES && lines < 12; i++) {
        uint32_t low = history->version[history->acked][i], got = seen->version[i];
        uint32_t high = history->version[history->count][i];
        if (got == high && low == high)
            continue;
        print_error("  page %llu: %s%u, after the acknowledged ones %u, after all %u\n",
                    (unsigned long long)(history->first + i),
                    got == SEEN_ERROR   ? "error "
                    : got == SEEN_WRONG ? "WRONG "
                                        : "",
                    got, low, high);
        lines++;
    }
}
