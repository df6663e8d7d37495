/* SPDX-License-Identifier: MIT */
/* Pages that a power failure leaves half written, and the images in the log that mend them. */
#include "helpers.h"

#include "internal.h"

#include <clockpool/backup.h>

#define PAGE_BYTES 4096u

static void write_back(struct cp_pager *pager)
{
    assert_ok(pager->engine->ops->flush(pager->engine, NULL, NULL));
}

/* Of a write over the page only the first half has arrived. */
static void tear(const char *data, uint64_t page, const void *before)
{
    write_file(data, page * PAGE_BYTES + PAGE_BYTES / 2, (const char *)before + PAGE_BYTES / 2,
               PAGE_BYTES / 2);
}

/*
 * A device that writes pages whole needs no images, and the store is moved from there to one that
 * does. Seen with the same file: the session's writes are as they would be on such a device.
 */
static void pages_written_without_images_get_one_elsewhere(void **state)
{
    (void)state;
    char before[PAGE_BYTES];
    struct cp_pager *pager = create_store(new_store(), PAGE_BYTES, UINT64_C(1) << 20);
    pager->images.needed = false;
    pager->untorn_writes = true;
    uint64_t page = allocate_filled(pager, 1);
    assert_ok(cp_pager_sync(pager));
    commit_page(pager, page, 2);
    write_back(pager);
    assert_int_equal(atomic_load(&pager->images.logged), 0);
    cp_pager_abandon(pager);

    pager = open_store(store_path());
    assert_true(pager->images.needed);
    read_file(data_path(), page * PAGE_BYTES, before, sizeof before);
    commit_page(pager, page, 3);
    write_back(pager);
    cp_pager_abandon(pager);
    tear(data_path(), page, before);

    pager = open_store(store_path());
    assert_true(check_page(pager, page, 3));
    assert_ok(cp_pager_close(pager));
}

/* Where images are needed from the beginning; and once for each checkpoint, not at each write. */
static void pages_get_an_image_once_a_checkpoint(void **state)
{
    (void)state;
    char before[PAGE_BYTES];
    struct cp_pager *pager = create_store(new_store(), PAGE_BYTES, UINT64_C(1) << 20);
    uint64_t page = allocate_filled(pager, 1);
    assert_ok(cp_pager_sync(pager));
    assert_ok(cp_pager_checkpoint(pager)); /* behind the images of the first */
    const uint64_t logged = atomic_load(&pager->images.logged);
    for (uint64_t version = 2; version < 5; version++) {
        read_file(data_path(), page * PAGE_BYTES, before, sizeof before);
        commit_page(pager, page, version);
        write_back(pager);
        assert_int_equal(atomic_load(&pager->images.logged), logged + 1);
    }
    cp_pager_abandon(pager);
    tear(data_path(), page, before);

    pager = open_store(store_path());
    assert_true(check_page(pager, page, 4));
    assert_ok(cp_pager_close(pager));
}

/* Nobody has written it since: it is whole all the same. */
static void freed_page_keeps_its_image_for_the_run_that_gets_its_number(void **state)
{
    (void)state;
    char before[PAGE_BYTES];
    uint64_t again;
    struct cp_pager *pager = create_store(new_store(), PAGE_BYTES, UINT64_C(1) << 20);
    uint64_t page = allocate_filled(pager, 1);
    uint64_t other = allocate_filled(pager, 1);
    assert_ok(cp_pager_sync(pager));
    assert_ok(cp_pager_checkpoint(pager)); /* behind the images of the first */
    read_file(data_path(), page * PAGE_BYTES, before, sizeof before);
    commit_page(pager, page, 2);
    write_back(pager);
    assert_ok(cp_pager_free(pager, page, 1));
    assert_ok(cp_pager_allocate_run(pager, 1, &again));
    assert_int_equal(again, page);
    commit_page(pager, other, 2);
    cp_pager_abandon(pager);
    tear(data_path(), page, before);

    pager = open_store(store_path());
    assert_int_equal(cp_pager_is_allocated(pager, page), 1);
    assert_int_equal(cp_pager_check(pager, NULL, NULL, NULL), 0);
    assert_ok(cp_pager_close(pager));
}

/* One session between two pieces of a copy, on a device that writes pages whole. */
static int write_without_images(void *ctx, const struct cp_backup_progress *progress)
{
    uint64_t *page = ctx;
    if (*page == 0 || progress->data_bytes_done > *page * PAGE_BYTES)
        return 0;
    struct cp_pager *pager = open_store(store_path());
    pager->images.needed = false;
    pager->untorn_writes = true;
    commit_page(pager, *page, 2);
    assert_ok(cp_pager_close(pager));
    *page = 0;
    return 0;
}

/* The session has come to its end, so the store's superblock tells nothing of how it wrote. */
static void copied_pages_written_without_images_get_one_elsewhere(void **state)
{
    (void)state;
    char before[PAGE_BYTES], copy[400], data[440];
    uint64_t page = 0;
    struct cp_pager *pager = create_store(new_store(), PAGE_BYTES, UINT64_C(1) << 20);
    while (page * PAGE_BYTES < CP_IO_MAX_TRANSFER_BYTES * UINT64_C(3) / 2)
        page = allocate_filled(pager, 1);
    assert_ok(cp_pager_close(pager));
    uint64_t written = page;
    const struct cp_backup_options options = {.progress = write_without_images, .ctx = &written};
    snprintf(copy, sizeof copy, "%s-copy", store_path());
    snprintf(data, sizeof data, "%s/data", copy);
    assert_ok(cp_backup(store_path(), copy, &options, NULL));
    assert_int_equal(written, 0);

    pager = open_store(copy);
    assert_true(pager->images.needed);
    assert_true(check_page(pager, page, 2));
    read_file(data, page * PAGE_BYTES, before, sizeof before);
    commit_page(pager, page, 3);
    write_back(pager);
    cp_pager_abandon(pager);
    tear(data, page, before);

    pager = open_store(copy);
    assert_true(check_page(pager, page, 3));
    assert_ok(cp_pager_close(pager));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_get_an_image_once_a_checkpoint),
        cmocka_unit_test(freed_page_keeps_its_image_for_the_run_that_gets_its_number),
        cmocka_unit_test(pages_written_without_images_get_one_elsewhere),
        cmocka_unit_test(copied_pages_written_without_images_get_one_elsewhere),
    };
    return RUN_ENGINE(CP_ENGINE_POOL, tests);
}
