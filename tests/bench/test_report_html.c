/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include "report/html.h"

static struct html html;

static int teardown(void **state)
{
    (void)state;
    html_fini(&html);
    return 0;
}

static void html_text_escapes_what_is_markup(void **state)
{
    (void)state;
    html_text(&html, "a<b>&\"'c");
    assert_string_equal(html.data, "a&lt;b&gt;&amp;&quot;&#39;c");
}

static void html_text_null_or_empty_writes_nothing(void **state)
{
    (void)state;
    html_raw(&html, "x");
    html_text(&html, NULL);
    html_text(&html, "");
    assert_string_equal(html.data, "x");
}

static void html_text_leaves_other_letters_alone(void **state)
{
    (void)state;
    html_text(&html, "µs – 漢 \\ / =");
    assert_string_equal(html.data, "µs – 漢 \\ / =");
}

static void html_format_escapes_what_it_formatted(void **state)
{
    (void)state;
    html_format(&html, "%s %d", "<i>", 7);
    assert_string_equal(html.data, "&lt;i&gt; 7");
}

static void html_element_escapes_its_text(void **state)
{
    (void)state;
    html_element(&html, "b", "<");
    assert_string_equal(html.data, "<b>&lt;</b>");
}

/* A string that tries to end the script element, and one that begins a comment in it. */
static void html_json_has_no_markup_and_is_the_same(void **state)
{
    (void)state;
    static const char text[] = "</script><script>alert(1)</script><!--";
    json_t *json = json_pack("{s:s,s:[s]}", text, text, "list", text);
    html_json(&html, json);
    assert_null(strchr(html.data, '<'));
    json_t *back = json_loads(html.data, 0, NULL);
    assert_true(json_equal(json, back));
    json_decref(back);
    json_decref(json);
}

static void html_grows_and_counts(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 10000; i++)
        html_raw(&html, "0123456789");
    assert_int_equal(html.length, 100000);
    assert_int_equal(strlen(html.data), 100000);
    assert_false(html.failed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(html_text_escapes_what_is_markup, teardown),
        cmocka_unit_test_teardown(html_text_null_or_empty_writes_nothing, teardown),
        cmocka_unit_test_teardown(html_text_leaves_other_letters_alone, teardown),
        cmocka_unit_test_teardown(html_format_escapes_what_it_formatted, teardown),
        cmocka_unit_test_teardown(html_element_escapes_its_text, teardown),
        cmocka_unit_test_teardown(html_json_has_no_markup_and_is_the_same, teardown),
        cmocka_unit_test_teardown(html_grows_and_counts, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
