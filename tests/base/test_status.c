/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include <clockpool/base/error.h>
#include <clockpool/status.h>
#include <clockpool/version.h>

#define OWN_CODE_FIRST CP_ECHECKSUM
#define OWN_CODE_LAST  CP_EUNWRITTEN

static void status_own_codes_have_distinct_names_and_texts(void **state)
{
    (void)state;
    for (int code = OWN_CODE_FIRST; code >= OWN_CODE_LAST; code--) {
        assert_memory_equal(cp_status_name(code), "CP_E", 4);
        assert_string_not_equal(cp_status_name(code), "CP_EUNKNOWN");
        assert_string_not_equal(cp_status_text(code), "Unknown status code");
        for (int other = code - 1; other >= OWN_CODE_LAST; other--) {
            assert_string_not_equal(cp_status_name(code), cp_status_name(other));
            assert_string_not_equal(cp_status_text(code), cp_status_text(other));
        }
    }
    assert_string_equal(cp_status_name(CP_OK), "CP_OK");
    assert_string_equal(cp_status_name(CP_EGATE), "CP_EGATE");
}

static void status_os_codes_are_named_by_the_system(void **state)
{
    (void)state;
    assert_string_equal(cp_status_name(-ENOSPC), "ENOSPC");
    assert_string_equal(cp_status_text(-ENOSPC), strerror(ENOSPC));
    assert_string_equal(cp_status_name(-EIO), "EIO");
}

static void status_unknown_codes_are_named_so(void **state)
{
    const int unknown[] = {1, EIO, 4096, INT_MAX, INT_MIN, -4000, -4096, OWN_CODE_LAST - 1, -9999};
    (void)state;
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        assert_string_equal(cp_status_name(unknown[i]), "CP_EUNKNOWN");
        assert_string_equal(cp_status_text(unknown[i]), "Unknown status code");
    }
}

static void status_set_records_everything_and_keeps_errno(void **state)
{
    (void)state;
    errno = ERANGE;
    int code =
        cp_error_set(CP_ECHECKSUM, "/data/store", 7, 99, "restore", "reading %d bytes", 4096);
    assert_int_equal(errno, ERANGE);
    assert_int_equal(code, CP_ECHECKSUM);
    const struct cp_error *e = cp_error_info();
    assert_int_equal(e->code, CP_ECHECKSUM);
    assert_int_equal(e->page, 7);
    assert_int_equal(e->lsn, 99);
    assert_string_equal(e->path, "/data/store");
    assert_string_equal(e->what, "reading 4096 bytes");
    assert_string_equal(e->hint, "restore");
}

static void status_set_without_hint_takes_the_systems(void **state)
{
    (void)state;
    (void)cp_error_set(-ENOSPC, NULL, CP_NO_PAGE, CP_NO_LSN, NULL, "growing");
    assert_string_equal(cp_error_info()->path, "");
    assert_string_equal(cp_error_info()->hint, cp_error_os_hint(-ENOSPC));
    assert_string_not_equal(cp_error_info()->hint, "");
    assert_string_equal(cp_error_os_hint(CP_EPINNED), "");
}

static void status_long_path_keeps_its_end(void **state)
{
    char path[1000];
    (void)state;
    memset(path, 'd', sizeof path);
    memcpy(path + sizeof path - 6, "/data", 6);
    (void)cp_error_set(-EIO, path, 1, CP_NO_LSN, NULL, "reading");
    const struct cp_error *e = cp_error_info();
    assert_int_equal(strlen(e->path), sizeof e->path - 1);
    assert_string_equal(e->path + sizeof e->path - 1 - 5, "/data");
    assert_string_equal(e->path, path + sizeof path - sizeof e->path);
}

static void status_long_texts_are_cut_and_terminated(void **state)
{
    char text[1000];
    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    (void)cp_error_set(-EIO, "p", 1, CP_NO_LSN, text, "%s", text);
    const struct cp_error *e = cp_error_info();
    assert_int_equal(strlen(e->what), sizeof e->what - 1);
    assert_int_equal(strlen(e->hint), sizeof e->hint - 1);
}

/* Wrapping an error in another is what a caller does first with cp_error_info(). */
static void status_set_from_the_last_errors_own_strings_works(void **state)
{
    (void)state;
    (void)cp_error_set(-EIO, "/data/store", 7, CP_NO_LSN, "look", "reading");
    const struct cp_error *e = cp_error_info();
    (void)cp_error_set(CP_EFAILED, e->path + 5, e->page, e->lsn, e->hint + 1, "syncing after %s",
                       e->what);
    assert_string_equal(e->path, "/store");
    assert_string_equal(e->hint, "ook");
    assert_string_equal(e->what, "syncing after reading");
    assert_int_equal(e->page, 7);
}

static void status_format_leaves_out_what_is_not_known(void **state)
{
    char text[256];
    (void)state;
    (void)cp_error_set(CP_ECHECKSUM, "/s/data", 7, 1, "restore", "reading");
    assert_string_equal(cp_error_format(text, sizeof text),
                        "/s/data: page 7: reading: Checksum does not match: torn or damaged "
                        "(CP_ECHECKSUM); restore");
    (void)cp_error_set(CP_EPINNED, NULL, CP_NO_PAGE, CP_NO_LSN, NULL, "closing");
    assert_string_equal(cp_error_format(text, sizeof text),
                        "closing: A page concerned is pinned (CP_EPINNED)");
    (void)cp_error_set(CP_EPINNED, NULL, 0, CP_NO_LSN, NULL, "%s", "");
    assert_string_equal(cp_error_format(text, sizeof text),
                        "page 0: A page concerned is pinned (CP_EPINNED)");
}

static void status_format_fits_any_buffer(void **state)
{
    char text[256];
    (void)state;
    (void)cp_error_set(CP_ECHECKSUM, "/s/data", 7, 1, "restore", "reading");
    for (size_t size = 1; size < sizeof text; size++) {
        memset(text, '#', sizeof text);
        assert_ptr_equal(cp_error_format(text, size), text);
        assert_true(strlen(text) < size);
        assert_int_equal(text[size], '#');
    }
}

static void status_restore_brings_back_a_saved_error(void **state)
{
    (void)state;
    (void)cp_error_set(CP_EMISPLACED, "/s/data", 5, 6, "h", "reading");
    struct cp_error saved = *cp_error_info();
    (void)cp_error_set(-EIO, "/other", 1, 1, "x", "y");
    assert_int_equal(cp_error_restore(&saved), CP_EMISPLACED);
    assert_memory_equal(cp_error_info(), &saved, sizeof saved);
}

struct seen {
    struct cp_error before;
    struct cp_error after;
};

static void *set_in_another_thread(void *argument)
{
    struct seen *seen = argument;
    seen->before = *cp_error_info();
    (void)cp_error_set(-ENOENT, "/thread", 2, 3, "h", "opening");
    seen->after = *cp_error_info();
    return NULL;
}

static void status_last_error_belongs_to_one_thread(void **state)
{
    struct seen seen;
    pthread_t thread;
    (void)state;
    (void)cp_error_set(CP_EGATE, "/main", 1, 1, "h", "writing");
    assert_int_equal(pthread_create(&thread, NULL, set_in_another_thread, &seen), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(seen.before.code, CP_OK);
    assert_true(seen.before.page == CP_NO_PAGE);
    assert_true(seen.before.lsn == CP_NO_LSN);
    assert_string_equal(seen.before.path, "");
    assert_int_equal(seen.after.code, -ENOENT);
    assert_string_equal(seen.after.path, "/thread");
    assert_int_equal(cp_error_info()->code, CP_EGATE);
    assert_string_equal(cp_error_info()->path, "/main");
}

static void status_version_is_the_headers(void **state)
{
    (void)state;
    assert_string_equal(cp_version(), CP_TEST_VERSION);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_own_codes_have_distinct_names_and_texts),
        cmocka_unit_test(status_os_codes_are_named_by_the_system),
        cmocka_unit_test(status_unknown_codes_are_named_so),
        cmocka_unit_test(status_set_records_everything_and_keeps_errno),
        cmocka_unit_test(status_set_without_hint_takes_the_systems),
        cmocka_unit_test(status_long_path_keeps_its_end),
        cmocka_unit_test(status_long_texts_are_cut_and_terminated),
        cmocka_unit_test(status_set_from_the_last_errors_own_strings_works),
        cmocka_unit_test(status_format_leaves_out_what_is_not_known),
        cmocka_unit_test(status_format_fits_any_buffer),
        cmocka_unit_test(status_restore_brings_back_a_saved_error),
        cmocka_unit_test(status_last_error_belongs_to_one_thread),
        cmocka_unit_test(status_version_is_the_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
