/* SPDX-License-Identifier: MIT */
#include "helpers.h"

#include <time.h>

enum cp_engine test_engine;
static char base[256];
static char paths[8][320]; /* results of in_directory, in turn */
static unsigned next_path, store_number;

int make_directory(void **state)
{
    (void)state;
    const char *parent = getenv("TMPDIR");
    snprintf(base, sizeof base, "%s/pager-test-XXXXXX", parent != NULL ? parent : ".");
    return mkdtemp(base) != NULL ? 0 : -1;
}

int remove_directory(void **state)
{
    (void)state;
    remove_tree(base);
    return 0;
}

unsigned count_entries(const char *path)
{
    unsigned count = 0;
    DIR *stream = opendir(path);
    const struct dirent *entry;
    while (stream != NULL && (entry = readdir(stream)) != NULL)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    if (stream != NULL)
        closedir(stream);
    return count;
}

const char *in_directory(const char *name)
{
    char *path = paths[next_path++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", base, name);
    return path;
}

const char *store_path(void)
{
    char name[32];
    snprintf(name, sizeof name, "store%u", store_number);
    return in_directory(name);
}

const char *new_store(void)
{
    remove_tree(store_path());
    store_number++;
    return store_path();
}

const char *data_path(void)
{
    char name[32];
    snprintf(name, sizeof name, "store%u/data", store_number);
    return in_directory(name);
}

uint64_t test_seed(void)
{
    const char *text = getenv("CP_TEST_SEED");
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t seed = text != NULL ? strtoull(text, NULL, 10)
                                 : (uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec << 20;
    print_message("seed: CP_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed | 1;
}

uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t below(uint64_t *state, uint64_t limit)
{
    return next_random(state) % limit;
}

void assert_status(int64_t got, int64_t expected, const char *call, const char *file, int line)
{
    if (got == expected)
        return;
    char text[800];
    print_error("%s gave %lld (%s), expected %lld (%s)\n  last error: %s\n", call, (long long)got,
                cp_status_name((int)got), (long long)expected, cp_status_name((int)expected),
                cp_error_format(text, sizeof text));
    _fail(file, line);
}

struct cp_pager_options options_of(uint32_t page_size, uint64_t budget_bytes)
{
    return (struct cp_pager_options){
        .engine = test_engine,
        .page_size = page_size,
        .budget_bytes = budget_bytes != 0 ? budget_bytes : UINT64_C(4) << 20,
        .log_segment_bytes = 64u << 10, /* stores are made by the hundred */
        .log_buffer_bytes = 1u << 20,
    };
}

struct cp_pager *create_store(const char *path, uint32_t page_size, uint64_t budget_bytes)
{
    struct cp_pager *pager = NULL;
    struct cp_pager_options options = options_of(page_size, budget_bytes);
    options.create = true;
    assert_ok(cp_pager_open(path, &options, &pager));
    return pager;
}

struct cp_pager *open_store(const char *path)
{
    struct cp_pager *pager = NULL;
    struct cp_pager_options options = options_of(0, 0);
    assert_ok(cp_pager_open(path, &options, &pager));
    return pager;
}

int try_open(const struct cp_pager_options *options, const char *path)
{
    struct cp_pager *pager = NULL;
    int code = cp_pager_open(path, options, &pager);
    if (code == 0)
        assert_ok(cp_pager_close(pager));
    return code;
}

void fill_page(void *data, uint32_t payload, uint64_t page, uint64_t version)
{
    uint64_t *words = data, state = page * UINT64_C(0x100000001b3) + version;
    for (uint32_t i = 0; i < payload / 8; i++)
        words[i] = next_random(&state);
}

bool page_is(const void *data, uint32_t payload, uint64_t page, uint64_t version)
{
    const uint64_t *words = data;
    uint64_t state = page * UINT64_C(0x100000001b3) + version;
    for (uint32_t i = 0; i < payload / 8; i++) {
        if (words[i] != next_random(&state))
            return false;
    }
    return true;
}

uint64_t allocate_filled(struct cp_pager *pager, uint64_t version)
{
    struct cp_fix fix;
    assert_ok(cp_pager_allocate(pager, &fix));
    uint64_t page = fix.page;
    fill_page(fix.data, cp_pager_payload_size(pager), page, version);
    cp_pager_unfix(pager, &fix);
    return page;
}

void update_page(struct cp_pager *pager, uint64_t page, uint64_t version)
{
    struct cp_fix fix;
    assert_ok(cp_pager_fix(pager, page, CP_EXCLUSIVE, &fix));
    fill_page(fix.data, cp_pager_payload_size(pager), page, version);
    assert_ok(cp_pager_mark_dirty(pager, &fix));
    cp_pager_unfix(pager, &fix);
}

void commit_page(struct cp_pager *pager, uint64_t page, uint64_t version)
{
    struct cp_mtr *mtr;
    void *data;
    assert_ok(cp_mtr_begin(pager, &mtr));
    assert_ok(cp_mtr_fix(mtr, page, CP_EXCLUSIVE, &data));
    fill_page(data, cp_pager_payload_size(pager), page, version);
    assert_ok(cp_mtr_commit(mtr, CP_COMMIT_DURABLE, NULL));
}

bool check_page(struct cp_pager *pager, uint64_t page, uint64_t version)
{
    struct cp_fix fix;
    assert_ok(cp_pager_fix(pager, page, CP_SHARED, &fix));
    bool good = page_is(fix.data, cp_pager_payload_size(pager), page, version);
    cp_pager_unfix(pager, &fix);
    return good;
}

void read_file(const char *path, uint64_t offset, void *buffer, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, buffer, size, (off_t)offset), size);
    close(fd);
}

void write_file(const char *path, uint64_t offset, const void *buffer, size_t size)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, buffer, size, (off_t)offset), size);
    close(fd);
}

void flip_bit(const char *path, uint64_t offset, unsigned bit)
{
    unsigned char byte;
    read_file(path, offset, &byte, 1);
    byte = (unsigned char)(byte ^ 1u << bit);
    write_file(path, offset, &byte, 1);
}

uint64_t file_size(const char *path)
{
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    return (uint64_t)status.st_size;
}
