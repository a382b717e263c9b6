/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The documents of tests/golden/: each file there is a test case (its README says what they are). What libvirt reads
 * and prints is the contract; here it stands in files, and no libvirt is needed.
 */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "runner.h"
#include "snapshot.h"

/* --- files --- */

/* The cases of one directory: names without the suffix of their input, sorted. */
typedef struct {
    const char *dir;    /* below GOLDEN_DIR */
    const char *input;  /* suffix */
    const char *output; /* suffix of the file beside it */
    GPtrArray *names;
} Cases;

static Cases redefine_cases = {"redefine", ".in.xml", ".out.xml", NULL};
static Cases create_cases = {"create", ".xml", ".txt", NULL};
static Cases domain_cases = {"domain", ".in.xml", ".out.xml", NULL};
static Cases refused_redefine = {"refused/redefine", ".xml", ".txt", NULL};
static Cases refused_create = {"refused/create", ".xml", ".txt", NULL};
static Cases refused_domain = {"refused/domain", ".xml", ".txt", NULL};

static gint compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void find_cases(Cases *cases)
{
    g_autofree char *path = g_build_filename(GOLDEN_DIR, cases->dir, NULL);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    cases->names = g_ptr_array_new_with_free_func(g_free);
    const char *file;
    while (dir != NULL && (file = g_dir_read_name(dir)) != NULL) {
        if (g_str_has_suffix(file, cases->input))
            g_ptr_array_add(cases->names, g_strndup(file, strlen(file) - strlen(cases->input)));
    }
    g_ptr_array_sort(cases->names, compare_names);
}

/* The text of the file @name@suffix. Asserts that it is there. Caller frees. */
static char *read_case(const Cases *cases, const char *name, const char *suffix, gsize *ret_len)
{
    g_autofree char *file = g_strconcat(name, suffix, NULL);
    g_autofree char *path = g_build_filename(GOLDEN_DIR, cases->dir, file, NULL);
    g_autoptr(GError) error = NULL;
    char *text = NULL;
    gboolean ok = g_file_get_contents(path, &text, ret_len, &error);
    ck_assert_msg(ok, "%s", ok ? "" : error->message);
    return text;
}

/* Line by line, so that a failure shows the line. */
static void assert_same(const char *name, const char *is, const char *should)
{
    g_auto(GStrv) is_lines = g_strsplit(is, "\n", -1);
    g_auto(GStrv) lines = g_strsplit(should, "\n", -1);
    guint i = 0;
    while (is_lines[i] != NULL && lines[i] != NULL && strcmp(is_lines[i], lines[i]) == 0)
        i++;
    ck_assert_msg(is_lines[i] == NULL && lines[i] == NULL, "%s, line %u: '%s' should be '%s'", name, i + 1,
                  is_lines[i] ? is_lines[i] : "(the end)", lines[i] ? lines[i] : "(the end)");
}

/* Nothing lies there that no test reads. */
static void check_strays(const Cases *cases)
{
    g_autofree char *path = g_build_filename(GOLDEN_DIR, cases->dir, NULL);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    ck_assert_msg(dir != NULL, "%s is not there", path);
    guint files = 0;
    while (g_dir_read_name(dir) != NULL)
        files++;
    ck_assert_msg(cases->names->len > 0 && files == 2 * cases->names->len, "%s: %u files, %u cases",
                  cases->dir, files, cases->names->len);
}

START_TEST(no_strays)
{
    check_strays(&redefine_cases);
    check_strays(&create_cases);
    check_strays(&domain_cases);
    check_strays(&refused_redefine);
    check_strays(&refused_create);
    check_strays(&refused_domain);
}
END_TEST

/* --- documents that are taken --- */

typedef char *(*Rewrite)(const char *text, gsize len, GError **error);

static char *rewrite_snapshot(const char *text, gsize len, GError **error)
{
    g_autoptr(SnapshotDef) def = snapshot_def_parse(text, len, error);
    return def != NULL ? snapshot_def_format(def) : NULL;
}

static char *rewrite_domain(const char *text, gsize len, GError **error)
{
    g_autoptr(DomainDef) def = domain_def_parse(text, len, error);
    return def != NULL ? domain_def_format(def) : NULL;
}

/* In gives out; out gives out again. */
static void check_rewrite(const Cases *cases, const char *name, Rewrite rewrite)
{
    gsize len, should_len;
    g_autofree char *text = read_case(cases, name, cases->input, &len);
    g_autofree char *should = read_case(cases, name, cases->output, &should_len);
    g_autoptr(GError) error = NULL;
    g_autofree char *is = rewrite(text, len, &error);
    ck_assert_msg(is != NULL, "%s: %s", name, error ? error->message : "?");
    assert_same(name, is, should);
    g_autofree char *again = rewrite(should, should_len, &error);
    ck_assert_msg(again != NULL, "%s, read again: %s", name, error ? error->message : "?");
    assert_same(name, again, should);
}

START_TEST(redefine)
{
    check_rewrite(&redefine_cases, redefine_cases.names->pdata[_i], rewrite_snapshot);
}
END_TEST

START_TEST(domain)
{
    check_rewrite(&domain_cases, domain_cases.names->pdata[_i], rewrite_domain);
}
END_TEST

/* The quick look at a stored document sees what the whole parse sees. */
START_TEST(quick_look)
{
    const char *name = redefine_cases.names->pdata[_i];
    gsize len;
    g_autofree char *text = read_case(&redefine_cases, name, redefine_cases.output, &len);
    g_autoptr(SnapshotDef) whole = snapshot_def_parse(text, len, NULL);
    g_autoptr(SnapshotDef) head = snapshot_def_parse_head(text, len, NULL);
    ck_assert_msg(whole != NULL && head != NULL, "%s", name);
    g_clear_pointer(&whole->domain, domain_def_free);
    g_clear_pointer(&head->domain, domain_def_free);
    g_clear_pointer(&whole->domain_uuid, g_free);
    g_clear_pointer(&head->domain_uuid, g_free);
    whole->inactive_domain = head->inactive_domain = whole->cookie = head->cookie = NULL;
    g_autofree char *should = snapshot_def_format(whole);
    g_autofree char *is = snapshot_def_format(head);
    assert_same(name, is, should);
}
END_TEST

/* --- what a document asks for --- */

static void append_text(GString *out, const char *name, const char *text)
{
    if (text == NULL)
        return;
    g_autofree char *quoted = g_strescape(text, NULL);
    g_string_append_printf(out, " %s=\"%s\"", name, quoted);
}

static void append_disk(GString *out, const SnapshotDisk *disk)
{
    g_string_append(out, "disk");
    append_text(out, "name", disk->name);
    g_string_append_printf(out, " mode=%s type=%s format=%s", snap_mode_to_string(disk->mode),
                           disk_type_to_string(disk->type), image_format_to_string(disk->format));
    if (disk->cache_size != 0)
        g_string_append_printf(out, " cache=%" G_GUINT64_FORMAT, disk->cache_size);
    append_text(out, "source", disk->source);
    g_string_append_c(out, '\n');
    if (disk->source_node != NULL)
        xml_write_node(out, disk->source_node, 2);
}

/* One line for the snapshot, one for its memory, one for each disk; @request as text. Caller frees. */
static char *describe_request(const CreateRequest *request)
{
    GString *out = g_string_new("snapshot");
    append_text(out, "name", request->name);
    append_text(out, "description", request->description);
    if (request->disk_only || request->live || request->quiesce || request->halt || request->plain)
        g_string_append(out, " with a flag");
    g_string_append_printf(out, "\nmemory mode=%s", snap_mode_to_string(request->memory));
    append_text(out, "file", request->memory_file);
    g_string_append_c(out, '\n');
    for (guint i = 0; i < request->disks->len; i++)
        append_disk(out, request->disks->pdata[i]);
    return g_string_free(out, FALSE);
}

START_TEST(create)
{
    const char *name = create_cases.names->pdata[_i];
    gsize len;
    g_autofree char *text = read_case(&create_cases, name, create_cases.input, &len);
    g_autofree char *should = read_case(&create_cases, name, create_cases.output, NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(CreateRequest) request = snapshot_parse_create(text, len, &error);
    ck_assert_msg(request != NULL, "%s: %s", name, error ? error->message : "?");
    g_autofree char *is = describe_request(request);
    assert_same(name, is, should);
}
END_TEST

/* --- documents that are refused --- */

static const char *errno_name(int err)
{
    switch (err) {
    case EINVAL:
        return "EINVAL";
    case EOPNOTSUPP:
        return "EOPNOTSUPP";
    case ENAMETOOLONG:
        return "ENAMETOOLONG";
    case E2BIG:
        return "E2BIG";
    default:
        return "another errno";
    }
}

/* @error as it stands in the files of refused/: "ERRNO: sentence". One line, UTF-8. Caller frees. */
static char *describe_error(const GError *error)
{
    ck_assert(g_utf8_validate(error->message, -1, NULL));
    ck_assert_ptr_null(strchr(error->message, '\n'));
    return g_strdup_printf("%s: %s\n", errno_name(snap_errno(error)), error->message);
}

static void assert_refused(const Cases *cases, const char *name, gboolean taken, const GError *error)
{
    g_autofree char *should = read_case(cases, name, cases->output, NULL);
    ck_assert_msg(!taken && error != NULL, "%s was taken", name);
    g_autofree char *is = describe_error(error);
    assert_same(name, is, should);
}

START_TEST(refuse_redefine)
{
    const char *name = refused_redefine.names->pdata[_i];
    gsize len;
    g_autofree char *text = read_case(&refused_redefine, name, refused_redefine.input, &len);
    g_autoptr(GError) error = NULL;
    g_autoptr(GError) head_error = NULL;
    g_autoptr(SnapshotDef) def = snapshot_def_parse(text, len, &error);
    g_autoptr(SnapshotDef) head = snapshot_def_parse_head(text, len, &head_error);
    assert_refused(&refused_redefine, name, def != NULL, error);
    if (head == NULL)
        assert_refused(&refused_redefine, name, FALSE, head_error);
}
END_TEST

START_TEST(refuse_create)
{
    const char *name = refused_create.names->pdata[_i];
    gsize len;
    g_autofree char *text = read_case(&refused_create, name, refused_create.input, &len);
    g_autoptr(GError) error = NULL;
    g_autoptr(CreateRequest) request = snapshot_parse_create(text, len, &error);
    assert_refused(&refused_create, name, request != NULL, error);
}
END_TEST

START_TEST(refuse_domain)
{
    const char *name = refused_domain.names->pdata[_i];
    gsize len;
    g_autofree char *text = read_case(&refused_domain, name, refused_domain.input, &len);
    g_autoptr(GError) error = NULL;
    g_autoptr(DomainDef) def = domain_def_parse(text, len, &error);
    assert_refused(&refused_domain, name, def != NULL, error);
}
END_TEST

/* --- sizes: these would be long files --- */

/* The document "everything", with a description that makes it @size bytes long. Caller frees. */
static char *document_of_size(gsize size)
{
    gsize len;
    g_autofree char *text = read_case(&redefine_cases, "everything", ".out.xml", &len);
    char *at = strstr(text, "</description>");
    ck_assert_ptr_nonnull(at);
    g_autofree char *filler = g_strnfill(size - len, 'x');
    GString *out = g_string_new_len(text, at - text);
    g_string_append(out, filler);
    g_string_append(out, at);
    return g_string_free(out, FALSE);
}

START_TEST(longest)
{
    g_autofree char *text = document_of_size(XML_MAX_BYTES);
    g_autoptr(GError) error = NULL;
    g_autofree char *again = rewrite_snapshot(text, XML_MAX_BYTES, &error);
    ck_assert_msg(again != NULL, "%s", error ? error->message : "?");
    ck_assert(strcmp(text, again) == 0);
    g_autoptr(CreateRequest) request = snapshot_parse_create(text, XML_MAX_BYTES, NULL);
    ck_assert_ptr_nonnull(request);
}
END_TEST

START_TEST(too_long)
{
    gsize len = XML_MAX_BYTES + 1;
    g_autofree char *text = document_of_size(len);
    g_autoptr(GError) error = NULL;
    ck_assert_ptr_null(rewrite_snapshot(text, len, &error));
    g_autofree char *is = describe_error(error);
    ck_assert_str_eq(is, "E2BIG: the XML is longer than 1048576 bytes\n");
    ck_assert_ptr_null(snapshot_def_parse_head(text, len, NULL));
    ck_assert_ptr_null(snapshot_parse_create(text, len, NULL));
    ck_assert_ptr_null(rewrite_domain(text, len, NULL));
}
END_TEST

/* A domain in which elements are nested @depth deep, itself included. Caller frees. */
static char *nested(guint depth)
{
    GString *text = g_string_new("<domain type='kvm'>\n  <name>d</name>\n"
                                 "  <uuid>31a85633-b9ac-4798-afcc-33c9afe8bef1</uuid>\n");
    for (guint i = 1; i < depth - 1; i++)
        g_string_append_printf(text, "%*s<a>\n", (int)(2 * i), "");
    g_string_append_printf(text, "%*s<a/>\n", (int)(2 * (depth - 1)), "");
    for (guint i = depth - 2; i > 0; i--)
        g_string_append_printf(text, "%*s</a>\n", (int)(2 * i), "");
    g_string_append(text, "</domain>\n");
    return g_string_free(text, FALSE);
}

START_TEST(deepest)
{
    g_autofree char *text = nested(256);
    g_autofree char *deeper = nested(257);
    g_autoptr(GError) error = NULL;
    g_autofree char *again = rewrite_domain(text, strlen(text), NULL);
    ck_assert_ptr_nonnull(again);
    assert_same("deepest", again, text);
    ck_assert_ptr_null(rewrite_domain(deeper, strlen(deeper), &error));
    g_autofree char *is = describe_error(error);
    ck_assert_str_eq(is, "EINVAL: line 259: elements are nested too deeply\n");
}
END_TEST

/* --- */

static void add_cases(Suite *suite, Cases *cases, const TTest *test)
{
    find_cases(cases);
    TCase *tcase = tcase_create(cases->dir);
    tcase_add_loop_test(tcase, test, 0, (int)cases->names->len);
    if (cases == &redefine_cases)
        tcase_add_loop_test(tcase, quick_look, 0, (int)cases->names->len);
    suite_add_tcase(suite, tcase);
}

static Suite *suite(void)
{
    Suite *suite = suite_create("golden");
    add_cases(suite, &redefine_cases, redefine);
    add_cases(suite, &create_cases, create);
    add_cases(suite, &domain_cases, domain);
    add_cases(suite, &refused_redefine, refuse_redefine);
    add_cases(suite, &refused_create, refuse_create);
    add_cases(suite, &refused_domain, refuse_domain);
    TCase *tcase = tcase_create("golden");
    tcase_add_test(tcase, no_strays);
    tcase_add_test(tcase, longest);
    tcase_add_test(tcase, too_long);
    tcase_add_test(tcase, deepest);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
