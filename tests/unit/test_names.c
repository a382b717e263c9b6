/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "names.h"
#include "runner.h"

#define D NAME_DOMAIN
#define S NAME_SNAPSHOT

/* 0: allowed. */
static int result_new(const char *name, NameKind kind)
{
    g_autoptr(GError) error = NULL;
    if (name_check_new(name, kind, &error)) {
        ck_assert_ptr_null(error);
        return 0;
    }
    ck_assert_ptr_nonnull(error);
    ck_assert_ptr_null(strchr(error->message, '\n'));
    return snap_errno(error);
}

static int result_document(const char *name, NameKind kind)
{
    g_autoptr(GError) error = NULL;
    if (name_check_document(name, kind, &error)) {
        ck_assert_ptr_null(error);
        return 0;
    }
    return snap_errno(error);
}

static const struct {
    const char *name;
    NameKind kind;
    int as_new;
    int in_document;
} checks[] = {
    {"clean", S, 0, 0},
    {"a b", S, 0, 0},
    {"-x", S, 0, 0},
    {"1", S, 0, 0},
    {"daily.1", S, 0, 0},
    {"50%", S, 0, 0},
    {"\xd0\x94\xd0\xb0", S, 0, 0},
    {"", S, EINVAL, EINVAL},
    {".", S, EINVAL, EINVAL},
    {"..", S, EINVAL, EINVAL},
    {".hidden", S, EPERM, EINVAL},
    {"a/b", S, EPERM, EINVAL},
    {"domain.xml", S, EPERM, 0},
    {"state", S, EPERM, 0},
    {"current", S, EPERM, 0},
    {"tree", S, EPERM, 0},
    {"usage", S, EPERM, 0},
    {"log", S, EPERM, 0},
    {"ctl", S, EPERM, 0},
    {"active", S, EPERM, 0},
    {"Active", S, 0, 0},
    {"jobs", S, 0, 0},
    {"line\nbreak", S, EILSEQ, 0},
    {"tab\there", S, EILSEQ, 0},
    {"bell\a", S, EILSEQ, EILSEQ},
    {"del\x7f", S, EILSEQ, 0},
    {"c1\xc2\x85", S, EILSEQ, 0},
    {"not\xff utf-8", S, EILSEQ, EILSEQ},
    {"cut\xc3", S, EILSEQ, EILSEQ},
    {"surrogate\xed\xa0\x80", S, EILSEQ, EILSEQ},
    {"non\xef\xbf\xbe", S, EILSEQ, EILSEQ},
    {"ctl", D, EPERM, 0},
    {"jobs", D, EPERM, 0},
    {"log", D, EPERM, 0},
    {"active", D, 0, 0},
    {".vm", D, EPERM, 0},
    {"..", D, EINVAL, 0},
    {"a/b", D, EPERM, EINVAL},
    {"line\nbreak", D, EILSEQ, EINVAL},
    {"  ", D, 0, EINVAL},
};

START_TEST(check)
{
    ck_assert_msg(result_new(checks[_i].name, checks[_i].kind) == checks[_i].as_new, "new '%s': %d",
                  checks[_i].name, result_new(checks[_i].name, checks[_i].kind));
    ck_assert_msg(result_document(checks[_i].name, checks[_i].kind) == checks[_i].in_document,
                  "document '%s': %d", checks[_i].name, result_document(checks[_i].name, checks[_i].kind));
}
END_TEST

/* It is the entry that must fit, and escapes make it longer than the name. */
START_TEST(length)
{
    g_autofree char *fits = g_strnfill(255, 'x');
    g_autofree char *over = g_strnfill(256, 'x');
    g_autofree char *percent = g_strnfill(86, '%'); /* 258 as an entry */
    g_autofree char *percent_fits = g_strnfill(85, '%');
    ck_assert_int_eq(result_new(fits, S), 0);
    ck_assert_int_eq(result_new(over, S), ENAMETOOLONG);
    ck_assert_int_eq(result_new(percent, S), ENAMETOOLONG);
    ck_assert_int_eq(result_new(percent_fits, S), 0);
    ck_assert_int_eq(result_document(fits, S), 0);
    ck_assert_int_eq(result_document(over, S), ENAMETOOLONG);
    ck_assert_int_eq(result_document(percent, D), ENAMETOOLONG);
    ck_assert_int_eq(result_document(percent_fits, D), 0);
}
END_TEST

static const struct {
    const char *name;
    NameKind kind;
    const char *entry;
} escapes[] = {
    {"clean", S, "clean"},       {"100%", S, "100%25"},
    {"%41", S, "%2541"},         {".hidden", S, "%2Ehidden"},
    {"a.b", S, "a.b"},           {".", D, "%2E"},
    {"..", D, "%2E."},           {"log", S, "%6Cog"},
    {"log", D, "%6Cog"},         {"active", S, "%61ctive"},
    {"active", D, "active"},     {"logs", S, "logs"},
    {"a/b", S, "a%2Fb"},         {"a\nb", S, "a%0Ab"},
    {"a\x7f", S, "a%7F"},        {"a\xc2\x85z", S, "a%C2%85z"},
    {"\xc2\xa0", S, "\xc2\xa0"}, {"caf\xc3\xa9", S, "caf\xc3\xa9"},
};

START_TEST(entry)
{
    g_autofree char *shown = name_to_entry(escapes[_i].name, escapes[_i].kind);
    ck_assert_str_eq(shown, escapes[_i].entry);
    g_autofree char *back = name_from_entry(escapes[_i].entry, escapes[_i].kind);
    ck_assert_str_eq(back, escapes[_i].name);
}
END_TEST

/* What a person may type that is nobody's escape: it stands for itself. */
static const char *const literal[] = {"100%", "%",     "%%",   "%4",  "%zz",    "%41",  "a%2fb", "%2E.%",
                                      "%00",  "a%00b", "%25%", "%6c", "%6Cogs", "x%2E", "%61",   "%C2%85%"};

START_TEST(lone_percent)
{
    g_autofree char *name = name_from_entry(literal[_i], S);
    ck_assert_str_eq(name, literal[_i]);
}
END_TEST

/* No two names share an entry, and each is found again under its own. */
START_TEST(round_trip)
{
    static const char alphabet[] = "%./a2EeF0\n\x7f\xc2\x85log";
    g_autoptr(GRand) random = g_rand_new_with_seed(1);
    g_autoptr(GHashTable) entries = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    for (int i = 0; i < 20000; i++) {
        char name[8] = "";
        int n = g_rand_int_range(random, 1, 7);
        for (int k = 0; k < n; k++)
            name[k] = alphabet[g_rand_int_range(random, 0, sizeof(alphabet) - 1)];
        NameKind kind = i % 2 == 0 ? D : S;
        g_autofree char *shown = name_to_entry(name, kind);
        g_autofree char *back = name_from_entry(shown, kind);
        ck_assert_str_eq(back, name);
        ck_assert_ptr_null(strchr(shown, '/'));
        ck_assert_int_ne(shown[0], '.');
        g_autofree char *key = g_strdup_printf("%d%s", kind, shown);
        const char *other = g_hash_table_lookup(entries, key);
        ck_assert(other == NULL || g_str_equal(other, name));
        g_hash_table_insert(entries, g_steal_pointer(&key), g_strdup(name));
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("names");
    TCase *tcase = tcase_create("names");
    tcase_add_loop_test(tcase, check, 0, G_N_ELEMENTS(checks));
    tcase_add_test(tcase, length);
    tcase_add_loop_test(tcase, entry, 0, G_N_ELEMENTS(escapes));
    tcase_add_loop_test(tcase, lone_percent, 0, G_N_ELEMENTS(literal));
    tcase_add_test(tcase, round_trip);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
