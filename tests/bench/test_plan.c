/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "plan.h"

static struct bench_plan plan;
static char message[2000]; /* what parse wrote to standard error */

/* Parse a command line, words separated by blanks. */
static int parse(const char *line)
{
    static char words[1000];
    char *argv[40];
    int argc = 0;
    int pipes[2], saved = dup(STDERR_FILENO);
    snprintf(words, sizeof words, "%s", line);
    for (char *word = strtok(words, " "); word != NULL; word = strtok(NULL, " "))
        argv[argc++] = word;
    argv[argc] = NULL;
    assert_int_equal(pipe(pipes), 0);
    fflush(stderr);
    dup2(pipes[1], STDERR_FILENO);
    close(pipes[1]);
    bench_plan_defaults(&plan);
    int code = bench_plan_parse(&plan, argc, argv);
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    ssize_t n = read(pipes[0], message, sizeof message - 1);
    message[n > 0 ? n : 0] = '\0';
    close(pipes[0]);
    return code;
}

static void parse_full_line_fills_the_plan(void **state)
{
    (void)state;
    assert_int_equal(
        parse("run --engines raw,pool --workload read-random,read-scan --dist "
              "uniform,zipf:0.99 --size 8G,1G --mem 1G --page-size 16K --threads 1,8,32 "
              "--depth 1,32 --access optimistic,fix,batch --batch 8 --seconds 0.5 "
              "--repeat 5 --dir /x --json out.json --seed 9 --advice normal --quiet"),
        0);
    assert_int_equal(plan.engine_count, 2);
    assert_string_equal(plan.engines[1]->name, "pool");
    assert_int_equal(plan.workload_count, 2);
    assert_int_equal(plan.workloads[1], BENCH_READ_SCAN);
    assert_int_equal(plan.dist_count, 2);
    assert_true(plan.dists[1].zipf && plan.dists[1].theta > 0.98 && plan.dists[1].theta < 1);
    assert_int_equal(plan.sizes[0], UINT64_C(8) << 30);
    assert_int_equal(plan.mems[1], UINT64_C(1) << 30);
    assert_int_equal(plan.page_size, 16384);
    assert_int_equal(plan.threads[2], 32);
    assert_int_equal(plan.depth_count, 2);
    assert_int_equal(plan.access_count, 3);
    assert_int_equal(plan.batch, 8);
    assert_int_equal(plan.repeat, 5);
    assert_int_equal(plan.seed, 9);
    assert_int_equal(bench_plan_advice(&plan, BENCH_READ_SCAN), BENCH_ADVICE_NORMAL);
    assert_true(plan.quiet);
    assert_string_equal(plan.dir, "/x");
}

/* Rows that are the same could not be told apart by compare. */
static void parse_a_value_twice_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *line, *option, *value;
    } cases[] = {
        {"run --threads 1,8,1", "--threads", "\"1\""},
        {"run --depth 4,4", "--depth", "\"4\""},
        {"run --rate 100,0100", "--rate", "\"0100\""},
        {"run --access fix,optimistic,fix", "--access", "\"fix\""},
        {"run --workload commit,commit", "--workload", "\"commit\""},
        {"run --engines raw,raw", "--engines", "\"raw\""},
        {"run --dist uniform,zipf:0", "--dist", "\"zipf:0\""},
        {"run --dist zipf:0.9,zipf:0.90", "--dist", "\"zipf:0.90\""},
        {"run --log-size 64M,65536K", "--log-size", "\"65536K\""},
        {"run --size 1G,1024M --mem 1G", "--size", "\"1 GiB\""},
        {"run --size 1G,2G,1G --mem 1G,2G,1G", "--size", "\"1 GiB\""},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(parse(cases[i].line), 2);
        assert_non_null(strstr(message, cases[i].option));
        assert_non_null(strstr(message, cases[i].value));
        assert_non_null(strstr(message, "once"));
    }
    /* the same size on other memory is another row */
    assert_int_equal(parse("run --size 1G,1G --mem 1G,2G"), 0);
    assert_int_equal(parse("run --size 1G,2G --mem 1G,1G"), 0);
    assert_int_equal(parse("run --dist zipf:0,zipf:0.9"), 0);
}

static void parse_bad_values_name_option_and_value(void **state)
{
    (void)state;
    static const struct {
        const char *line, *option, *value;
    } cases[] = {
        {"run --size 8Q", "--size", "8Q"},
        {"run --size 8G,,1G", "--size", "8G"},
        {"run --size 1", "\"1 B\"", "at least 256 KiB"},
        {"run --size 1M --page-size 64K", "\"1 MiB\"", "at least 4 MiB"},
        {"run --mem x", "--mem", "x"},
        {"run --mem 1M", "--mem", "1 MiB"},
        {"run --mem 1G,2G,3G", "--mem", "3 values for 2 sizes"},
        {"run --page-size 5K", "--page-size", "5K"},
        {"run --page-size 2K", "--page-size", "2K"},
        {"run --threads 0", "--threads", "0"},
        {"run --threads 257", "--threads", "257"},
        {"run --depth 1025", "--depth", "1025"},
        {"run --access quick", "--access", "quick"},
        {"run --engines raw,wool", "--engines", "wool"},
        {"run --engines raw,raw", "--engines", "raw"},
        {"run --dist zipf", "--dist", "zipf"},
        {"run --dist zipf:11", "--dist", "zipf:11"},
        {"run --workload write", "--workload", "commit-relaxed, mixed or recover"},
        {"run --write-share 1.5", "--write-share", "1.5"},
        {"run --log-size 12Q", "--log-size", "12Q"},
        {"run --engines all,raw", "--engines", "all"},
        {"run --advice never", "--advice", "never"},
        {"run --repeat 0", "--repeat", "0"},
        {"run --seconds 0", "--seconds", "0"},
        {"run --rate 0", "--rate", "from 1 to 1000000000"},
        {"run --rate 5,1e3", "--rate", "1e3"},
        {"run --rate 5 --workload commit,read-scan", "--rate", "read-scan has none"},
        {"run --workload recover --rate 5", "--rate", "recover has none"},
        {"run --rate 5 --access fix,batch", "--rate", "one by one"},
        {"run --access optimistic,fix,batch --threads 1,2,3,4,5,6,7,8,9,10,11 --depth "
         "1,2,3,4,5,6,7,8",
         "3 x 11 x 8 = 264", "256"},
        {"run --threads 1,2,3,4,5,6,7,8,9,10,11,12 --rate 1,2,3,4,5,6,7,8,9,10,11 --access "
         "fix,optimistic",
         "2 x 12 x 11 = 264", "256"},
        {"run --engines floor --workload commit", "\"commit\"", "none of the engines (floor)"},
        {"run --engines floor --workload read-random,update-random", "\"update-random\"",
         "such as raw or pool"},
        {"run --engines floor --workload recover", "\"recover\"", "none of the engines (floor)"},
        {"run --batch 4", "--batch: \"4\"", "--access batch"},
        {"run --batch 4 --access fix,batch --workload commit", "--batch: \"4\"", "read-random"},
        {"run --write-share 0.5 --workload commit", "--write-share: \"0.5\"", "--workload mixed"},
        {"run --log-size 1G --workload mixed", "--log-size: \"1G\"", "--workload recover"},
        {"run --seed -1", "--seed", "-1"},
        {"run --nonsense 1", "--nonsense", "unknown"},
        {"run --size", "--size", "needs a value"},
        {"run extra", "extra", "not an option"},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(parse(cases[i].line), 2);
        if (strstr(message, cases[i].option) == NULL || strstr(message, cases[i].value) == NULL)
            fail_msg("%s: the message is: %s", cases[i].line, message);
    }
}

static void defaults_one_size_that_fits_and_one_that_does_not(void **state)
{
    (void)state;
    assert_int_equal(parse("run"), 0);
    assert_true(plan.engine_count >= 3);
    assert_int_equal(plan.size_count, 2);
    assert_true(bench_plan_fits(plan.sizes[0], plan.mems[0]));
    assert_false(bench_plan_fits(plan.sizes[1], plan.mems[1]));
    assert_int_equal(bench_plan_advice(&plan, BENCH_READ_RANDOM), BENCH_ADVICE_RANDOM);
    assert_int_equal(bench_plan_advice(&plan, BENCH_READ_SCAN), BENCH_ADVICE_SEQUENTIAL);
}

static void cells_depth_and_access_only_where_they_mean_something(void **state)
{
    (void)state;
    struct bench_cell cells[BENCH_CELLS_MAX];
    assert_int_equal(parse("run --threads 1,2 --depth 1,8,32 --access optimistic,fix"), 0);
    assert_int_equal(bench_plan_cells(&plan, &bench_engine_pool, BENCH_READ_RANDOM, cells), 12);
    assert_int_equal(bench_plan_cells(&plan, &bench_engine_raw, BENCH_READ_RANDOM, cells), 6);
    assert_int_equal(bench_plan_cells(&plan, &bench_engine_mmap, BENCH_READ_RANDOM, cells), 4);
    assert_int_equal(cells[3].depth, 1);
    assert_int_equal(bench_plan_cells(&plan, &bench_engine_pool, BENCH_READ_SCAN, cells), 2);
    assert_int_equal(bench_plan_cells(&plan, &bench_engine_pool, BENCH_UPDATE_RANDOM, cells), 6);
}

static void parse_durable_workloads_fill_the_plan(void **state)
{
    (void)state;
    assert_int_equal(parse("run --workload commit,commit-relaxed,mixed,recover --engines all "
                           "--write-share 0.05 --log-size 64M,1G"),
                     0);
    assert_int_equal(plan.workloads[3], BENCH_RECOVER);
    assert_true(plan.write_share > 0.049 && plan.write_share < 0.051);
    assert_int_equal(plan.log_sizes[1], UINT64_C(1) << 30);
    assert_true(plan.engine_count >= 3);
    for (unsigned i = 0; i < plan.engine_count; i++)
        assert_null(plan.engines[i]->not_built);
}

static void cells_commits_have_threads_and_recovery_has_logs(void **state)
{
    (void)state;
    struct bench_cell cells[BENCH_CELLS_MAX];
    assert_int_equal(
        parse("run --workload commit,recover --threads 1,8,32 --depth 1,32 --log-size 1M,2M"), 0);
    assert_int_equal(bench_plan_cells(&plan, &bench_engine_pool, BENCH_COMMIT, cells), 3);
    assert_int_equal(cells[2].threads, 32);
    assert_int_equal(cells[2].depth, 1);
    assert_int_equal(bench_plan_cells(&plan, &bench_engine_pool, BENCH_RECOVER, cells), 2);
    assert_int_equal(cells[1].log_bytes, 2 << 20);
    assert_int_equal(bench_plan_cells(&plan, &bench_engine_raw, BENCH_RECOVER, cells), 2);
    struct bench_engine without_log = bench_engine_pool;
    without_log.log_bytes = NULL;
    assert_int_equal(bench_plan_cells(&plan, &without_log, BENCH_RECOVER, cells), 1);
    assert_int_equal(cells[0].log_bytes, 0);
    struct bench_engine without_commits = bench_engine_pool;
    without_commits.commit = NULL;
    assert_int_equal(bench_plan_cells(&plan, &without_commits, BENCH_MIXED, cells), 0);
    without_commits.update = NULL;
    assert_int_equal(bench_plan_cells(&plan, &without_commits, BENCH_UPDATE_RANDOM, cells), 0);
}

static void cells_rates_take_the_place_of_depths(void **state)
{
    (void)state;
    struct bench_cell cells[BENCH_CELLS_MAX];
    assert_int_equal(parse("run --threads 1,8 --depth 1,8,32"), 0);
    assert_int_equal(bench_plan_cells(&plan, &bench_engine_pool, BENCH_READ_RANDOM, cells), 6);
    assert_int_equal(cells[5].rate, 0);
    assert_int_equal(parse("run --threads 1,8 --depth 1,8,32 --rate 100,20000"), 0);
    assert_int_equal(bench_plan_cells(&plan, &bench_engine_pool, BENCH_READ_RANDOM, cells), 4);
    assert_int_equal(cells[2].threads, 8);
    assert_int_equal(cells[2].rate, 100);
    assert_int_equal(cells[3].rate, 20000);
    assert_int_equal(cells[3].depth, 1);
    assert_int_equal(bench_plan_cells(&plan, &bench_engine_mmap, BENCH_COMMIT, cells), 4);
}

static void durability_is_the_engines_own_when_relaxed(void **state)
{
    (void)state;
    struct bench_engine careless = bench_engine_pool;
    careless.relaxed = BENCH_DURABILITY_NONE;
    assert_int_equal(bench_plan_durability(&careless, BENCH_COMMIT), BENCH_DURABILITY_FULL);
    assert_int_equal(bench_plan_durability(&careless, BENCH_MIXED), BENCH_DURABILITY_FULL);
    assert_int_equal(bench_plan_durability(&careless, BENCH_COMMIT_RELAXED), BENCH_DURABILITY_NONE);
    assert_int_equal(bench_plan_durability(&careless, BENCH_UPDATE_RANDOM), BENCH_DURABILITY_NONE);
    assert_int_equal(bench_plan_durability(&bench_engine_pool, BENCH_COMMIT_RELAXED),
                     BENCH_DURABILITY_RELAXED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse_full_line_fills_the_plan),
        cmocka_unit_test(parse_a_value_twice_is_refused),
        cmocka_unit_test(parse_bad_values_name_option_and_value),
        cmocka_unit_test(defaults_one_size_that_fits_and_one_that_does_not),
        cmocka_unit_test(cells_depth_and_access_only_where_they_mean_something),
        cmocka_unit_test(parse_durable_workloads_fill_the_plan),
        cmocka_unit_test(cells_commits_have_threads_and_recovery_has_logs),
        cmocka_unit_test(cells_rates_take_the_place_of_depths),
        cmocka_unit_test(durability_is_the_engines_own_when_relaxed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
