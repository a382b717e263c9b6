/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The URI by which an export is known: one place, one URI. (What is refused, with its sentence: test_network.) */
#include <check.h>
#include <string.h>

#include "remote.h"
#include "runner.h"
#include "xml.h"

static const struct {
    const char *source; /* of <source protocol='nbd' ...> */
    const char *uri;
} cases[] = {
    {"name='exp'><host name='h'/>", "nbd://h:10809/exp"},
    {"name='exp'><host transport='tcp' name='H.Example' port='10809'/>", "nbd://h.example:10809/exp"},
    {"><host name='10.0.0.1' port='1'/>", "nbd://10.0.0.1:1/"},
    {"name='/a b?c#d%'><host name='::1' port='2'/>", "nbd://[::1]:2//a%20b%3Fc%23d%25"},
    {"name='a/b&amp;c'><host name='h'/><seclabel model='dac'/>", "nbd://h:10809/a/b%26c"},
    {"name='e'><host name='h@i/j:80'/>", "nbd://[h%40i%2Fj:80]:10809/e"}, /* never a path or another host */
    {"name='e'><host transport='unix' socket='/run/../tmp/s'/>", "nbd+unix:///e?socket=/tmp/s"},
    {"><host transport='unix' socket='/a b&amp;c?d'/>", "nbd+unix:///?socket=/a%20b%26c%3Fd"},
};

START_TEST(each)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = g_strdup_printf("<source protocol='nbd' %s</source>", cases[_i].source);
    g_autoptr(xmlDoc) doc = xml_parse(text, strlen(text), "source", &error);
    ck_assert_msg(doc != NULL, "%s", error ? error->message : "?");
    g_autofree char *uri = remote_uri(xmlDocGetRootElement(doc), &error);
    ck_assert_msg(uri != NULL, "%s", error ? error->message : "?");
    ck_assert_str_eq(uri, cases[_i].uri);
    ck_assert(remote_is_uri(uri));
}
END_TEST

START_TEST(paths_are_none)
{
    static const char *const paths[] = {"/nbd://h/e", "nbd", "nbd:/x", "", "/dev/nbd0", "nbds://h/e"};
    for (gsize i = 0; i < G_N_ELEMENTS(paths); i++)
        ck_assert(!remote_is_uri(paths[i]));
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("remote");
    TCase *tcase = tcase_create("uri");
    tcase_add_loop_test(tcase, each, 0, G_N_ELEMENTS(cases));
    tcase_add_test(tcase, paths_are_none);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
