/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The two ctl files: where a command ends, what it says when it fails, documents that follow, all their options. */
#include <fcntl.h>
#include <unistd.h>

#include "model.h"

static World *web(void)
{
    World *w = world_new(NULL);
    machine(w, "web", "vda:qcow2");
    return w;
}

/* Names of the snapshots of web: what is no file of every domain. */
static const char *snapshots(const World *w)
{
    g_auto(GStrv) names = g_strsplit(names_in(w, "web"), " ", -1);
    g_autoptr(GString) result = g_string_new(NULL);
    static const char *const fixed[] = {"active", "ctl",  "current", "domain.xml", "log",
                                        "state",  "tree", "usage",   NULL};
    for (guint i = 0; names[i] != NULL; i++)
        if (!g_strv_contains(fixed, names[i]))
            g_string_append_printf(result, "%s%s", result->len > 0 ? " " : "", names[i]);
    return keep(w, result->str);
}

START_TEST(a_newline_ends_a_command)
{
    g_autoptr(World) w = web();
    int fd = open(at(w, "web/ctl"), O_WRONLY | O_CLOEXEC);
    ck_works(fd);
    ck_assert_int_eq(write(fd, "create on", 9), 9);
    ck_assert_str_eq(snapshots(w), "");
    ck_assert_int_eq(write(fd, "e --description 'a", 18), 18);
    ck_assert_int_eq(write(fd, " b'\ncre", 7), 7);
    /* done by the write, before any close */
    ck_assert_str_eq(snapshots(w), "one");
    ck_assert_int_eq(write(fd, "ate two\n", 8), 8);
    ck_assert_str_eq(snapshots(w), "one two");
    ck_works(close(fd));
    ck_assert_str_eq(description_of(w, "web/one"), "a b");
}
END_TEST

START_TEST(errors_come_from_the_write)
{
    g_autoptr(World) w = web();
    int fd = open(at(w, "web/ctl"), O_WRONLY | O_CLOEXEC);
    ck_works(fd);
    ck_assert_int_eq(write(fd, "create one\n", 11), 11);
    ck_errno(write(fd, "create one\n", 11), EEXIST);
    /* what this open writes after that is not run: it could be the rest of the same script */
    ck_errno(write(fd, "create two\n", 11), EEXIST);
    close(fd);
    ck_assert_str_eq(snapshots(w), "one");
    command_fails(w, "web", EINVAL, "bogus");
    command_fails(w, "web", ENOENT, "delete nobody");
    ck_has(text_of(w, "web/log"), "bogus");
    ck_has(text_of(w, "web/log"), "nobody");
    sh_fails(w, "echo bogus > web/ctl");
    sh_fails(w, "printf 'bogus\\n' > web/ctl");
    run_fails(w, "bash", "-c", "echo bogus > web/ctl");
    run_fails(w, "python3", "-c", "with open('web/ctl', 'w') as f: f.write('bogus\\n')");
    run_fails(w, "perl", "-e", "open(F, '>web/ctl'); print F \"bogus\\n\"; close(F) or exit 3");
}
END_TEST

START_TEST(without_newline_close_acts)
{
    g_autoptr(World) w = web();
    ck_assert_int_eq(put(w, "web/ctl", "create one"), 0);
    ck_assert_str_eq(snapshots(w), "one");
    int fd = open(at(w, "web/ctl"), O_WRONLY | O_CLOEXEC);
    ck_assert_int_eq(write(fd, "create one", 10), 10);
    ck_errno(close(fd), EEXIST);
}
END_TEST

START_TEST(several_commands_in_one_write)
{
    g_autoptr(World) w = web();
    ck_assert_int_eq(put(w, "web/ctl", "create a\n\n# a comment\n  create b\ncreate c\n"), 0);
    ck_assert_str_eq(snapshots(w), "a b c");
    sh_ok(w, "printf 'delete a\\ndelete b\\n' > web/ctl");
    ck_assert_str_eq(snapshots(w), "c");
    /* the first that fails ends it */
    sh_fails(w, "printf 'create d\\ncreate d\\ncreate e\\n' > web/ctl");
    ck_assert_str_eq(snapshots(w), "c d");
}
END_TEST

START_TEST(words_are_quoted_as_in_a_shell)
{
    g_autoptr(World) w = web();
    command(w, "web", "create 'with space' --description \"it's \\\"here\\\"\"");
    command(w, "web", "create back\\ slash");
    command(w, "web", "create -- --lead");
    command(w, "web", "create --description=joined eq");
    command(w, "web", "create description bare nodash");
    ck_assert_str_eq(description_of(w, "web/with space"), "it's \"here\"");
    ck_assert_str_eq(description_of(w, "web/eq"), "joined");
    ck_assert_str_eq(description_of(w, "web/nodash"), "bare");
    ck_assert_str_eq(snapshots(w), "--lead back slash eq nodash with space");
    command_fails(w, "web", EINVAL, "create 'open");
    command_fails(w, "web", EINVAL, "create a b");
    command_fails(w, "web", EINVAL, "create a --nonsense");
    command_fails(w, "web", EINVAL, "create a --description");
    command_fails(w, "web", EINVAL, "delete");
    command_fails(w, "web", EINVAL, "revert");
    command_fails(w, "web", EINVAL, "delete eq --children --children-only");
    command_fails(w, NULL, EINVAL, "create x");
    command_fails(w, "web", EINVAL, "define -");
    command_fails(w, NULL, EINVAL, "define");
    command_fails(w, NULL, ENOENT, "cancel 99");
    ck_assert_str_eq(snapshots(w), "--lead back slash eq nodash with space");
}
END_TEST

START_TEST(documents_arrive_in_any_pieces)
{
    static const char text[] =
        "create -\n<domainsnapshot>\n  <name>n%03d</name>\n  <description>d</description>\n"
        "</domainsnapshot>\n";
    g_autoptr(World) w = web();
    size_t length = strlen(keepf(w, text, 0));
    for (size_t cut = 1; cut < length; cut += 9) {
        const char *piece = keepf(w, text, (int)cut);
        int fd = open(at(w, "web/ctl"), O_WRONLY | O_CLOEXEC);
        ck_assert_int_eq(write(fd, piece, cut), cut);
        ck_assert_int_eq(write(fd, piece + cut, length - cut), length - cut);
        ck_works(close(fd));
        const char *name = keepf(w, "web/n%03d", (int)cut);
        ck_assert(exists(w, name));
        ck_assert_str_eq(description_of(w, name), "d");
        ck_works(rmdir(at(w, "%s", name)));
    }
}
END_TEST

START_TEST(a_shell_writes_a_document_line_by_line)
{
    g_autoptr(World) w = web();
    sh_ok(w, "{ echo 'create --diskspec vda,snapshot=external -'; echo '<domainsnapshot>'; echo "
             "'<name>doc</name>';"
             "echo '</domainsnapshot>'; echo 'create after'; } > web/ctl");
    ck_assert_str_eq(snapshots(w), "after doc");
    sh_ok(w, "printf '%s\\n' '<domainsnapshot>' '  <name>bare</name>' '</domainsnapshot>' > web/ctl");
    ck_assert_str_eq(snapshots(w), "after bare doc");
    sh_ok(w, "cat > web/ctl <<E\n<?xml version='1.0'?>\n<!-- hello -->\n<domainsnapshot/>\nE");
    ck_assert_uint_eq(strlen(snapshots(w)), strlen("0123456789 after bare doc"));
    command_fails(w, "web", EINVAL, "create x -\nno document");
    /* cut short: nothing is taken, and the close says so */
    int err = put(w, "web/ctl", "create -\n<domainsnapshot><name>half</name>");
    ck_assert_int_eq(err, EINVAL);
    ck_assert(!exists(w, "web/half"));
}
END_TEST

START_TEST(unnamed_snapshots)
{
    g_autoptr(World) w = web();
    g_autoptr(Model) m = model_new(w, "web", "vda:qcow2");
    enum { N = 4 };
    for (guint i = 0; i < N; i++) {
        model_touch(m);
        command(w, "web", "create");
        /* the new one is the current one */
        model_took(m, link_of(w, "web/current"));
    }
    ck_assert_uint_eq(model_count(m), N);
    model_verify(m);
    g_auto(GStrv) names = g_strsplit(snapshots(w), " ", -1);
    ck_assert_uint_eq(g_strv_length(names), N);
    for (guint i = 0; i < N; i++)
        ck_assert(g_ascii_isdigit(names[i][0]));
}
END_TEST

START_TEST(two_unnamed_at_once)
{
    g_autoptr(World) w = web();
    sh_ok(w, "printf 'create\\ncreate\\ncreate\\n' > web/ctl");
    g_auto(GStrv) names = g_strsplit(snapshots(w), " ", -1);
    ck_assert_uint_eq(g_strv_length(names), 3);
}
END_TEST

START_TEST(delete_with_its_children)
{
    g_autoptr(World) w = web();
    g_autoptr(Model) m = model_new(w, "web", "vda:qcow2");
    static const char *const tree[][2] = {{"a", NULL}, {"b", "a"}, {"c", "b"}, {"d", "a"}, {"e", NULL}};
    for (guint i = 0; i < G_N_ELEMENTS(tree); i++) {
        if (tree[i][1] != NULL)
            model_revert(m, tree[i][1]);
        model_touch(m);
        model_create(m, tree[i][0], i % 2 == 0 ? "--diskspec vda,snapshot=external" : "");
    }
    model_verify(m);
    command(w, "web", "delete b --children");
    model_deleted(m, "c");
    model_deleted(m, "b");
    model_verify(m);
    model_revert(m, "a");
    model_touch(m);
    command(w, "web", "delete a --children-only");
    model_deleted(m, "e");
    model_deleted(m, "d");
    model_verify(m);
    command(w, "web", "delete a");
    model_deleted(m, "a");
    model_verify(m);
}
END_TEST

START_TEST(delete_metadata_leaves_all)
{
    g_autoptr(World) w = web();
    run_ok(w, "mkdir", "web/inside");
    command(w, "web", "create outside --diskspec vda,snapshot=external");
    const char *before = fingerprint(w, w->images);
    command(w, "web", "delete inside --metadata");
    command(w, "web", "delete outside --metadata");
    ck_assert_str_eq(snapshots(w), "");
    ck_assert_str_eq(tags_of(w, image(w, "web-vda.qcow2")), "inside");
    ck_assert_str_eq(fingerprint(w, w->images), before);
}
END_TEST

START_TEST(redefined_after_metadata_delete)
{
    g_autoptr(World) w = web();
    g_autoptr(Model) m = model_new(w, "web", "vda:qcow2");
    model_touch(m);
    model_mkdir(m, "one");
    model_touch(m);
    model_create(m, "two", "--diskspec vda,snapshot=external");
    model_touch(m);
    sh_ok(w, "cp web/one/snapshot.xml ../one.xml; cp web/two/snapshot.xml ../two.xml;"
             "printf 'delete one --children --metadata\\n' > web/ctl");
    ck_assert_str_eq(snapshots(w), "");
    sh_ok(w, "{ echo 'redefine -'; cat ../one.xml; echo 'redefine --current -'; cat ../two.xml; } > web/ctl");
    ck_assert_str_eq(link_of(w, "web/current"), "two");
    model_verify(m);
    model_revert(m, "one");
    model_verify(m);
    model_revert(m, "two");
    model_verify(m);
}
END_TEST

START_TEST(create_options)
{
    g_autoptr(World) w = web();
    command(w, "web", "create one --atomic --disk-only --halt");
    command_fails(w, "web", EOPNOTSUPP, "create two --memspec %s", in_dir(w, "memory"));
    command_fails(w, "web", EINVAL, "create two --diskspec");
    command_fails(w, "web", EINVAL, "create two --diskspec vda,snapshot=maybe");
    command_fails(w, "web", EINVAL,
                  "create two --diskspec vda,snapshot=internal --diskspec vda,snapshot=external");
    ck_assert_str_eq(snapshots(w), "one");
    ck_assert(!g_file_test(in_dir(w, "memory"), G_FILE_TEST_EXISTS));
    command(w, "web", "wait");
}
END_TEST

START_TEST(reading_prints_the_help)
{
    static const char *const words[] = {"create", "redefine",   "revert",         "delete",
                                        "wait",   "--diskspec", "--children-only"};
    g_autoptr(World) w = web();
    for (guint i = 0; i < G_N_ELEMENTS(words); i++)
        ck_has(text_of(w, "web/ctl"), words[i]);
    ck_has(text_of(w, "ctl"), "define");
    ck_has(text_of(w, "ctl"), "undefine");
    ck_has(text_of(w, "ctl"), "cancel");
}
END_TEST

START_TEST(long_and_odd_lines)
{
    g_autoptr(World) w = web();
    g_autofree char *blob = g_strnfill(200000, 'x');
    ck_assert_int_ne(put(w, "web/ctl", blob), 0);
    ck_assert_int_ne(put_bytes(w, "web/ctl", "create a\0b\n", 11), 0);
    ck_assert_int_ne(put(w, "web/ctl", "create \xff\n"), 0);
    ck_assert_int_eq(put(w, "web/ctl", "create one\r\n") == 0, exists(w, "web/one"));
    ck_assert_int_eq(put(w, "web/ctl", "\n\n   \n\t\n"), 0);
    ck_assert_int_eq(put(w, "web/ctl", keepf(w, "create two --description '%.*s'\n", 30000, blob)), 0);
    ck_assert_uint_eq(strlen(description_of(w, "web/two")), 30000);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("commands");
    TCase *ends = add_case(s, "where a command ends");
    tcase_add_test(ends, a_newline_ends_a_command);
    tcase_add_test(ends, errors_come_from_the_write);
    tcase_add_test(ends, without_newline_close_acts);
    tcase_add_test(ends, several_commands_in_one_write);
    tcase_add_test(ends, documents_arrive_in_any_pieces);
    tcase_add_test(ends, a_shell_writes_a_document_line_by_line);
    TCase *words = add_case(s, "words");
    tcase_add_test(words, words_are_quoted_as_in_a_shell);
    tcase_add_test(words, long_and_odd_lines);
    tcase_add_test(words, reading_prints_the_help);
    TCase *options = add_case(s, "commands");
    tcase_add_test(options, unnamed_snapshots);
    tcase_add_test(options, two_unnamed_at_once);
    tcase_add_test(options, create_options);
    tcase_add_test(options, delete_with_its_children);
    tcase_add_test(options, delete_metadata_leaves_all);
    tcase_add_test(options, redefined_after_metadata_delete);
    return s;
}

int main(void)
{
    return mount_main(suite());
}
