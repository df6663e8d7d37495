/* SPDX-License-Identifier: MIT */
/*
 * The simulated policies (bench/trace): each against a naive model of its paper, on short random
 * sequences; MIN against trying all victims; and what holds for every sequence.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <clockpool/base/thread.h>

#include "random.h"
#include "simulate.h"

#define PAGES_MAX  48u
#define LENGTH_MAX 600u
#define SEQUENCES  150u

static uint32_t accesses[LENGTH_MAX];
static uint32_t page_count, access_count, frames;

static uint64_t seed_of_test(void)
{
    const char *given = getenv("CP_TEST_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : cp_now_ns();
    print_message("CP_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

/* Pieces of loops, of uniform and of skewed accesses, over pages numbered by their first access. */
static void make_sequence(struct bench_random *random, uint32_t pages, uint32_t length)
{
    uint32_t names[PAGES_MAX];
    uint32_t at = 0;
    memset(names, 0xff, sizeof names);
    page_count = 0;
    while (at < length) {
        uint64_t kind = bench_random_below(random, 3);
        uint32_t first = (uint32_t)bench_random_below(random, pages);
        uint32_t piece = 1 + (uint32_t)bench_random_below(random, 2 * pages);
        for (uint32_t i = 0; i < piece && at < length; i++) {
            uint64_t page = kind == 0 ? (first + i) % pages
                            : kind == 1
                                ? bench_random_below(random, pages)
                                : bench_random_below(random, 1 + bench_random_below(random, pages));
            if (names[page] == UINT32_MAX)
                names[page] = page_count++;
            accesses[at++] = names[page];
        }
    }
    access_count = length;
}

static uint64_t misses_of(const struct trace_policy *policy)
{
    const struct trace_sequence sequence = {
        .accesses = accesses, .access_count = access_count, .page_count = page_count};
    struct trace_count count;
    assert_int_equal(trace_simulate(policy, &sequence, frames, &count), 0);
    return count.misses;
}

/* ---- naive lists: arrays, the oldest first
 * -------------------------------------------------------
 */

struct row {
    uint32_t items[3 * PAGES_MAX];
    uint32_t count;
};

static uint32_t find(const struct row *row, uint32_t page)
{
    for (uint32_t i = 0; i < row->count; i++)
        if (row->items[i] == page)
            return i;
    return UINT32_MAX;
}

static bool has(const struct row *row, uint32_t page)
{
    return find(row, page) != UINT32_MAX;
}

static uint32_t drop_at(struct row *row, uint32_t at)
{
    uint32_t page = row->items[at];
    memmove(&row->items[at], &row->items[at + 1], (row->count - at - 1) * sizeof(uint32_t));
    row->count--;
    return page;
}

static void drop(struct row *row, uint32_t page)
{
    uint32_t at = find(row, page);
    if (at != UINT32_MAX)
        (void)drop_at(row, at);
}

static void push(struct row *row, uint32_t page)
{
    assert_true(row->count < 3 * PAGES_MAX);
    row->items[row->count++] = page;
}

/* ---- models: the misses of a policy, by its paper
 * ------------------------------------------------
 */

static uint64_t model_lru(void)
{
    struct row row = {.count = 0};
    uint64_t misses = 0;
    for (uint32_t i = 0; i < access_count; i++) {
        misses += !has(&row, accesses[i]);
        drop(&row, accesses[i]);
        if (row.count == frames)
            (void)drop_at(&row, 0);
        push(&row, accesses[i]);
    }
    return misses;
}

/* A ring of frames and a hand, as in a text book. */
static uint64_t model_clock(void)
{
    uint32_t held[PAGES_MAX], used = 0, hand = 0;
    bool marks[PAGES_MAX] = {false};
    uint64_t misses = 0;
    for (uint32_t i = 0; i < access_count; i++) {
        uint32_t f = 0;
        while (f < used && held[f] != accesses[i])
            f++;
        if (f < used) {
            marks[f] = true;
            continue;
        }
        misses++;
        if (used < frames) {
            f = used++;
        } else {
            while (marks[hand]) {
                marks[hand] = false;
                hand = (hand + 1) % frames;
            }
            f = hand;
            hand = (hand + 1) % frames;
        }
        held[f] = accesses[i];
        marks[f] = false;
    }
    return misses;
}

static uint64_t model_sieve(void)
{
    struct row row = {.count = 0};
    bool marks[PAGES_MAX] = {false};
    uint32_t hand = 0; /* index of the next to look at; beyond the end: the oldest */
    uint64_t misses = 0;
    for (uint32_t i = 0; i < access_count; i++) {
        if (has(&row, accesses[i])) {
            marks[accesses[i]] = true;
            continue;
        }
        misses++;
        if (row.count == frames) {
            hand = hand < row.count ? hand : 0;
            while (marks[row.items[hand]]) {
                marks[row.items[hand]] = false;
                hand = (hand + 1) % row.count;
            }
            bool newest = hand + 1 == row.count;
            (void)drop_at(&row, hand);
            hand = newest ? UINT32_MAX : hand; /* from the oldest next, whatever comes now */
        }
        marks[accesses[i]] = false;
        push(&row, accesses[i]);
    }
    return misses;
}

static uint64_t model_2q(void)
{
    struct row in = {.count = 0}, out = {.count = 0}, hot = {.count = 0};
    uint32_t in_limit = frames >= 4 ? frames / 4 : 1, out_limit = frames >= 2 ? frames / 2 : 1;
    uint64_t misses = 0;
    for (uint32_t i = 0; i < access_count; i++) {
        uint32_t page = accesses[i];
        if (has(&hot, page)) {
            drop(&hot, page);
            push(&hot, page);
            continue;
        }
        if (has(&in, page))
            continue;
        misses++;
        bool known = has(&out, page);
        drop(&out, page);
        if (in.count + hot.count == frames) {
            if (in.count > in_limit || hot.count == 0) {
                push(&out, drop_at(&in, 0));
                if (out.count > out_limit)
                    (void)drop_at(&out, 0);
            } else {
                (void)drop_at(&hot, 0);
            }
        }
        push(known ? &hot : &in, page);
    }
    return misses;
}

static void arc_replace(struct row *t1, struct row *t2, struct row *b1, struct row *b2, double p,
                        bool in_b2)
{
    if (t1->count >= 1 && (t1->count > p || (in_b2 && t1->count == p)))
        push(b1, drop_at(t1, 0));
    else if (t2->count > 0)
        push(b2, drop_at(t2, 0));
    else
        push(b1, drop_at(t1, 0));
}

static uint64_t model_arc(void)
{
    struct row t1 = {.count = 0}, t2 = {.count = 0}, b1 = {.count = 0}, b2 = {.count = 0};
    double p = 0, c = frames;
    uint64_t misses = 0;
    for (uint32_t i = 0; i < access_count; i++) {
        uint32_t page = accesses[i];
        double ones = b1.count, twos = b2.count;
        if (has(&t1, page) || has(&t2, page)) {
            drop(&t1, page);
            drop(&t2, page);
            push(&t2, page);
            continue;
        }
        misses++;
        if (has(&b1, page)) {
            double by = twos / ones > 1 ? twos / ones : 1;
            p = p + by < c ? p + by : c;
            arc_replace(&t1, &t2, &b1, &b2, p, false);
            drop(&b1, page);
            push(&t2, page);
        } else if (has(&b2, page)) {
            double by = ones / twos > 1 ? ones / twos : 1;
            p = p - by > 0 ? p - by : 0;
            arc_replace(&t1, &t2, &b1, &b2, p, true);
            drop(&b2, page);
            push(&t2, page);
        } else {
            if (t1.count + b1.count == frames) {
                if (t1.count < frames) {
                    (void)drop_at(&b1, 0);
                    arc_replace(&t1, &t2, &b1, &b2, p, false);
                } else {
                    (void)drop_at(&t1, 0);
                }
            } else if (t1.count + t2.count + b1.count + b2.count >= frames) {
                if (t1.count + t2.count + b1.count + b2.count == 2 * frames)
                    (void)drop_at(&b2, 0);
                if (t1.count + t2.count == frames)
                    arc_replace(&t1, &t2, &b1, &b2, p, false);
            }
            push(&t1, page);
        }
    }
    return misses;
}

static uint64_t model_s3fifo(void)
{
    struct row small = {.count = 0}, main_queue = {.count = 0}, names = {.count = 0};
    uint32_t small_limit = frames >= 10 ? frames / 10 : 1;
    uint32_t freq[PAGES_MAX] = {0};
    uint64_t misses = 0;
    for (uint32_t i = 0; i < access_count; i++) {
        uint32_t page = accesses[i];
        if (has(&small, page) || has(&main_queue, page)) {
            freq[page] = freq[page] < 3 ? freq[page] + 1 : 3;
            continue;
        }
        misses++;
        bool known = has(&names, page);
        drop(&names, page);
        while (small.count + main_queue.count == frames) {
            if (small.count >= small_limit || main_queue.count == 0) {
                uint32_t old = drop_at(&small, 0);
                if (freq[old] >= 2) {
                    freq[old] = 0;
                    push(&main_queue, old);
                } else {
                    push(&names, old);
                    if (names.count > frames - small_limit)
                        (void)drop_at(&names, 0);
                }
            } else {
                uint32_t old = drop_at(&main_queue, 0);
                if (freq[old]-- > 0)
                    push(&main_queue, old);
                else
                    freq[old] = 0;
            }
        }
        freq[page] = 0;
        push(known ? &main_queue : &small, page);
    }
    return misses;
}

struct lirs_model {
    struct row stack, queue, gone; /* gone: not resident but in the stack, by departure */
    bool lir[PAGES_MAX];
};

/* The stack's bottom must be LIR. */
static void lirs_prune(struct lirs_model *m)
{
    while (m->stack.count > 0 && !m->lir[m->stack.items[0]])
        drop(&m->gone, drop_at(&m->stack, 0));
}

static void lirs_promote(struct lirs_model *m, uint32_t page)
{
    m->lir[page] = true;
    uint32_t bottom = m->stack.items[0];
    m->lir[bottom] = false;
    push(&m->queue, bottom);
    lirs_prune(m);
}

/* For two frames or more. */
static uint64_t model_lirs(void)
{
    struct lirs_model m = {.stack = {.count = 0}};
    uint32_t queue_limit = frames >= 100 ? frames / 100 : 1, lir_count = 0;
    uint64_t misses = 0;
    for (uint32_t i = 0; i < access_count; i++) {
        uint32_t page = accesses[i];
        bool stacked = has(&m.stack, page);
        if (m.lir[page]) {
            drop(&m.stack, page);
            push(&m.stack, page);
            lirs_prune(&m);
            continue;
        }
        if (has(&m.queue, page)) {
            drop(&m.stack, page);
            push(&m.stack, page);
            drop(&m.queue, page);
            if (stacked)
                lirs_promote(&m, page);
            else
                push(&m.queue, page);
            continue;
        }
        misses++;
        if (lir_count < frames - queue_limit) {
            m.lir[page] = true;
            lir_count++;
            push(&m.stack, page);
            continue;
        }
        if (m.queue.count == queue_limit) {
            uint32_t victim = drop_at(&m.queue, 0);
            if (has(&m.stack, victim))
                push(&m.gone, victim);
            if (m.gone.count > 2 * frames) {
                drop(&m.stack, m.gone.items[0]);
                (void)drop_at(&m.gone, 0);
            }
        }
        bool known = has(&m.gone, page);
        drop(&m.gone, page);
        drop(&m.stack, page);
        push(&m.stack, page);
        if (known)
            lirs_promote(&m, page);
        else
            push(&m.queue, page);
    }
    return misses;
}

static void compare(const struct trace_policy *policy, uint64_t (*model)(void), uint32_t least)
{
    struct bench_random random;
    bench_random_init(&random, seed_of_test(), 0);
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        uint32_t pages = 2 + (uint32_t)bench_random_below(&random, PAGES_MAX - 2);
        make_sequence(&random, pages, 1 + (uint32_t)bench_random_below(&random, LENGTH_MAX));
        frames = least + (uint32_t)bench_random_below(&random, pages);
        uint64_t got = misses_of(policy), wanted = model();
        if (got != wanted)
            fail_msg("%s: sequence %u, %u frames: %llu misses, the model has %llu", policy->name, i,
                     frames, (unsigned long long)got, (unsigned long long)wanted);
    }
}

static void trace_policies_lru_as_model(void **state)
{
    (void)state;
    compare(&trace_policy_lru, model_lru, 1);
}

static void trace_policies_clock_as_model(void **state)
{
    (void)state;
    compare(&trace_policy_clock, model_clock, 1);
}

static void trace_policies_sieve_as_model(void **state)
{
    (void)state;
    compare(&trace_policy_sieve, model_sieve, 1);
}

static void trace_policies_2q_as_model(void **state)
{
    (void)state;
    compare(&trace_policy_2q, model_2q, 1);
}

static void trace_policies_arc_as_model(void **state)
{
    (void)state;
    compare(&trace_policy_arc, model_arc, 1);
}

static void trace_policies_s3fifo_as_model(void **state)
{
    (void)state;
    compare(&trace_policy_s3fifo, model_s3fifo, 1);
}

static void trace_policies_lirs_as_model(void **state)
{
    (void)state;
    compare(&trace_policy_lirs, model_lirs, 2);
}

/* ---- MIN
 * -----------------------------------------------------------------------------------------
 */

/* The fewest misses from access `at` on, with these pages (bits) resident: all victims tried. */
static uint64_t fewest(uint32_t at, uint32_t resident)
{
    while (at < access_count && (resident >> accesses[at] & 1) != 0)
        at++;
    if (at == access_count)
        return 0;
    uint32_t page = 1u << accesses[at];
    if ((uint32_t)__builtin_popcount(resident) < frames)
        return 1 + fewest(at + 1, resident | page);
    uint64_t best = UINT64_MAX;
    for (uint32_t left = resident; left != 0; left &= left - 1) {
        uint64_t misses = 1 + fewest(at + 1, (resident & ~(left & -left)) | page);
        best = misses < best ? misses : best;
    }
    return best;
}

static void trace_policies_min_as_brute_force(void **state)
{
    (void)state;
    struct bench_random random;
    bench_random_init(&random, seed_of_test(), 1);
    for (uint32_t i = 0; i < 300; i++) {
        make_sequence(&random, 3 + (uint32_t)bench_random_below(&random, 4), 18);
        frames = 1 + (uint32_t)bench_random_below(&random, 3);
        assert_int_equal(misses_of(&trace_policy_min), fewest(0, 0));
    }
}

/* ---- what holds for all
 * --------------------------------------------------------------------------
 */

static void trace_policies_none_beats_min(void **state)
{
    (void)state;
    struct bench_random random;
    bench_random_init(&random, seed_of_test(), 2);
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        make_sequence(&random, 2 + (uint32_t)bench_random_below(&random, PAGES_MAX - 2),
                      LENGTH_MAX);
        frames = 1 + (uint32_t)bench_random_below(&random, page_count);
        uint64_t least = misses_of(&trace_policy_min);
        for (unsigned p = 0; p < TRACE_POLICIES; p++) {
            uint64_t misses = misses_of(trace_policies[p]);
            assert_true(misses >= least);
            assert_true(misses <= access_count);
        }
    }
}

/* With a frame for each page, each is missed once; with one frame, whenever the page changes. */
static void trace_policies_extreme_sizes(void **state)
{
    (void)state;
    struct bench_random random;
    bench_random_init(&random, seed_of_test(), 3);
    for (uint32_t i = 0; i < 20; i++) {
        make_sequence(&random, 2 + (uint32_t)bench_random_below(&random, PAGES_MAX - 2),
                      LENGTH_MAX);
        uint64_t changes = 1;
        for (uint32_t at = 1; at < access_count; at++)
            changes += accesses[at] != accesses[at - 1];
        for (unsigned p = 0; p < TRACE_POLICIES; p++) {
            frames = page_count + i;
            assert_int_equal(misses_of(trace_policies[p]), page_count);
            frames = 1;
            assert_int_equal(misses_of(trace_policies[p]), changes);
        }
    }
}

/* A larger pool holds all that a smaller one does: LRU and MIN never get worse. */
static void trace_policies_inclusion_of_lru_and_min(void **state)
{
    (void)state;
    struct bench_random random;
    bench_random_init(&random, seed_of_test(), 4);
    for (uint32_t i = 0; i < 40; i++) {
        make_sequence(&random, 2 + (uint32_t)bench_random_below(&random, PAGES_MAX - 2),
                      LENGTH_MAX);
        uint64_t lru = UINT64_MAX, least = UINT64_MAX;
        for (frames = 1; frames <= page_count; frames++) {
            assert_true(misses_of(&trace_policy_lru) <= lru);
            assert_true(misses_of(&trace_policy_min) <= least);
            lru = misses_of(&trace_policy_lru);
            least = misses_of(&trace_policy_min);
        }
    }
}

/* What the pool's policy is for. The sequences are made up by the command's own generator. */
static void trace_policies_pool_beats_clock_on_scan_and_loop(void **state)
{
    (void)state;
    const char *const names[2] = {"synthetic:scan", "synthetic:loop"};
    for (unsigned i = 0; i < 2; i++) {
        struct trace_sequence sequence;
        struct trace_count pool, clock, least;
        char text[256];
        assert_int_equal(trace_sequence_open(names[i], 1, &sequence, text, sizeof text), 0);
        uint32_t size = sequence.page_count / 10;
        assert_int_equal(trace_simulate(&trace_policy_clockpool, &sequence, size, &pool), 0);
        assert_int_equal(trace_simulate(&trace_policy_clock, &sequence, size, &clock), 0);
        assert_int_equal(trace_simulate(&trace_policy_min, &sequence, size, &least), 0);
        print_message("%s: %llu misses, CLOCK %llu, MIN %llu, %.2f steps a miss\n", names[i],
                      (unsigned long long)pool.misses, (unsigned long long)clock.misses,
                      (unsigned long long)least.misses, (double)pool.steps / (double)pool.misses);
        /* Of what is to be gained, most. */
        assert_true(2 * (clock.misses - pool.misses) > clock.misses - least.misses);
        assert_true(pool.steps < 3 * pool.misses);
        trace_sequence_close(&sequence);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trace_policies_lru_as_model),
        cmocka_unit_test(trace_policies_clock_as_model),
        cmocka_unit_test(trace_policies_sieve_as_model),
        cmocka_unit_test(trace_policies_2q_as_model),
        cmocka_unit_test(trace_policies_arc_as_model),
        cmocka_unit_test(trace_policies_s3fifo_as_model),
        cmocka_unit_test(trace_policies_lirs_as_model),
        cmocka_unit_test(trace_policies_min_as_brute_force),
        cmocka_unit_test(trace_policies_none_beats_min),
        cmocka_unit_test(trace_policies_extreme_sizes),
        cmocka_unit_test(trace_policies_inclusion_of_lru_and_min),
        cmocka_unit_test(trace_policies_pool_beats_clock_on_scan_and_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
