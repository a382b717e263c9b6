/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What things may be called: names that are refused, odd ones that work from creation to deletion, and how they look. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "model.h"

static World *web(const char *disks)
{
    World *w = world_new(NULL);
    machine(w, "web", disks);
    return w;
}

START_TEST(refused_names)
{
    static const struct {
        const char *name;
        int want;
    } table[] = {
        {".hidden", EPERM},  {"..two", EPERM},         {".git", EPERM},      {".Trash-0", EPERM},
        {"current", EPERM},  {"usage", EPERM},         {"a\nb", EILSEQ},     {"a\tb", EILSEQ},
        {"\x01", EILSEQ},    {"a\x7f", EILSEQ},        {"\xc2\x85", EILSEQ}, {"\xff\xfe", EILSEQ},
        {"caf\xe9", EILSEQ}, {"\xed\xa0\x80", EILSEQ}, {"\xc0\xaf", EILSEQ}, {"\xf4\x90\x80\x80", EILSEQ},
    };
    g_autoptr(World) w = web("vda:qcow2");
    const char *before = fingerprint(w, w->images);
    for (guint i = 0; i < G_N_ELEMENTS(table); i++) {
        int result = mkdir(at(w, "web/%s", table[i].name), 0777);
        ck_assert_msg(result == -1 && errno == table[i].want, "mkdir '%s': %d %s, expected %s", table[i].name,
                      result, g_strerror(errno), g_strerror(table[i].want));
    }
    g_autofree char *longest = g_strnfill(256, 'x'), *longer = g_strnfill(1000, 'x');
    ck_errno(mkdir(at(w, "web/%s", longest), 0777), ENAMETOOLONG);
    ck_errno(mkdir(at(w, "web/%s", longer), 0777), ENAMETOOLONG);
    command_fails(w, "web", ENAMETOOLONG, "create %s", longest);
    command_fails(w, "web", EPERM, "create .hidden");
    command_fails(w, "web", EPERM, "create active");
    command_fails(w, "web", EPERM, "create a/b");
    ck_assert_int_ne(put(w, "web/ctl", "create ''\n"), 0);
    ck_assert_int_ne(put(w, "web/ctl", "<domainsnapshot><name>a/b</name></domainsnapshot>"), 0);
    ck_assert_int_ne(put(w, "web/ctl", "<domainsnapshot><name>a&#10;b</name></domainsnapshot>"), 0);
    ck_assert_int_ne(put(w, "web/ctl", "<domainsnapshot><name>tree</name></domainsnapshot>"), 0);
    ck_assert_str_eq(names_in(w, "web"), "active ctl domain.xml log state tree usage");
    ck_assert_str_eq(fingerprint(w, w->images), before);
}
END_TEST

static const char *const odd[] = {
    "with space",
    " lead and trail ",
    "it's",
    "\"quoted\"",
    "back\\slash",
    "a,b",
    "a,,b=c",
    "we:ird",
    "json:{}",
    "nbd:x",
    "-leading",
    "--help",
    "#hash",
    "$HOME",
    "*",
    "?[a]",
    "{x}",
    "~",
    "a=b",
    "(p)",
    "a;b|c&d",
    "<xml>&amp;",
    "é\xcc\x81",
    "日本語",
    "☃",
    "😀",
    "1",
    "007",
    "-1",
    "1e3",
    "snapshot.xml",
    "vda.qcow2",
    "CON",
    "a.b.c",
    "domain",
    "ACTIVE",
};

/* From creation to deletion, internal and external at once, with the content checked. */
START_TEST(odd_names_live)
{
    const char *name = odd[_i];
    g_autoptr(World) w = web("vda:qcow2:internal vdb:qcow2:external");
    g_autoptr(Model) m = model_new(w, "web", "vda:qcow2 vdb:qcow2");
    model_touch(m);
    model_mkdir(m, "before");
    model_touch(m);
    model_mkdir(m, name);
    model_touch(m);
    model_verify(m);
    model_revert(m, name);
    model_verify(m);
    model_mv(m, name, "plain");
    model_mv(m, "plain", name);
    world_stop(w);
    world_start(w, NULL);
    model_verify(m);
    model_rmdir(m, name);
    model_verify(m);
}
END_TEST

START_TEST(longest_names_live)
{
    g_autoptr(World) w = web("vda:qcow2:internal vdb:qcow2:external");
    g_autoptr(Model) m = model_new(w, "web", "vda:qcow2 vdb:qcow2");
    g_autofree char *ascii = g_strnfill(255, 'n'), *other = g_strnfill(255, 'n');
    g_autoptr(GString) wide = g_string_new(NULL);
    while (wide->len < 253)
        g_string_append(wide, "語");
    other[254] = 'm';
    const char *const names[] = {ascii, other, wide->str};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        model_touch(m);
        model_mkdir(m, names[i]);
    }
    model_touch(m);
    model_verify(m);
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        model_revert(m, names[i]);
        model_verify(m);
    }
    world_stop(w);
    world_start(w, NULL);
    model_rmdir(m, ascii);
    model_verify(m);
}
END_TEST

START_TEST(percent_is_escaped)
{
    g_autoptr(World) w = web("vda:qcow2");
    run_ok(w, "mkdir", "web/100%");
    ck_has(names_in(w, "web"), "100%25");
    ck_assert_str_eq(link_of(w, "web/current"), "100%25");
    ck_assert_str_eq(xpath(w, text_of(w, "web/100%25/snapshot.xml"), "/domainsnapshot/name"), "100%");
    /* by the name and by the entry */
    run_ok(w, "ln", "-sfn", "100%25", "web/current");
    run_ok(w, "rmdir", "web/100%25");
    ck_assert_str_eq(names_in(w, "web"), "active ctl domain.xml log state tree usage");
}
END_TEST

START_TEST(imported_names_are_escaped)
{
    g_autoptr(World) w = web("vda:qcow2");
    run_ok(w, "mkdir", "web/one");
    sh_ok(w, "sed 's,<name>one</name>,<name>tree</name>,' web/one/snapshot.xml > ../tree.xml;"
             "{ echo 'redefine -'; cat ../tree.xml; } > web/ctl");
    ck_assert_str_eq(names_in(w, "web"), "%74ree active ctl current domain.xml log one state tree usage");
    ck_assert_str_eq(xpath(w, text_of(w, "web/%74ree/snapshot.xml"), "/domainsnapshot/name"), "tree");
    run_ok(w, "mv", "web/%74ree", "web/imported");
    ck_assert(exists(w, "web/imported"));
}
END_TEST

START_TEST(odd_domain_names)
{
    static const char *const names[] = {"with space", "it's", "a,b", "we:ird", "日本", "50%", "-x", "1"};
    static const char *const entries[] = {"with space", "it's", "a,b", "we:ird", "日本", "50%25", "-x", "1"};
    g_autoptr(World) w = world_new(NULL);
    make_image(w, "disk.qcow2", "qcow2");
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        machine(w, names[i], "vda:qcow2");
        ck_assert_msg(exists(w, entries[i]), "%s", entries[i]);
        run_ok(w, "mkdir", "--", keepf(w, "%s/one", entries[i]));
        ck_assert_str_eq(link_of(w, keepf(w, "%s/current", entries[i])), "one");
    }
    world_stop(w);
    world_start(w, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        run_ok(w, "rmdir", "--", keepf(w, "%s/one", entries[i]));
        run_ok(w, "rmdir", "--", entries[i]);
    }
    ck_assert_str_eq(names_in(w, "."), "ctl jobs log");
}
END_TEST

START_TEST(refused_domain_names)
{
    g_autofree char *longest = g_strnfill(256, 'x');
    const char *const names[] = {"", "a/b", "ctl", "jobs", "log", ".hidden", longest};
    g_autoptr(World) w = world_new(NULL);
    make_image(w, "x.qcow2", "qcow2");
    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        ck_assert_int_ne(put(w, "ctl",
                             keepf(w,
                                   "<domain type='kvm'><name>%s</name><memory>1</memory><os><type>hvm</type>"
                                   "</os><devices/></domain>",
                                   names[i])),
                         0);
    ck_assert_str_eq(names_in(w, "."), "ctl jobs log");
    machine(w, "web", "vda:qcow2");
    ck_errno(rename(at(w, "web"), at(w, "%s", longest)), ENAMETOOLONG);
    ck_errno(rename(at(w, "web"), at(w, "a\tb")), EILSEQ);
    ck_errno(rename(at(w, "web"), at(w, ".web")), EPERM);
}
END_TEST

START_TEST(odd_image_paths)
{
    static const char *const dirs[] = {"with space", "co:lon", "a,b", "it's",   "100%",
                                       "é",          "<&>",    "-x",  "json:{}"};
    g_autoptr(World) w = world_new(NULL);
    for (guint i = 0; i < G_N_ELEMENTS(dirs); i++) {
        const char *dir = image(w, dirs[i]);
        const char *file = keepf(w, "%s/d,i:s'k.qcow2", dir);
        const char *name = keepf(w, "vm%u", i);
        ck_works(mkdir(dir, 0755));
        run_ok(w, "qemu-img", "create", "-q", "-f", "qcow2", file, "1M");
        g_autofree char *escaped = g_markup_escape_text(file, -1);
        ck_assert_int_eq(
            put(w, "ctl",
                keepf(w,
                      "<domain type='kvm'><name>%s</name><memory>1</memory><os><type>hvm</type></os>"
                      "<devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
                      "<source file='%s'/><target dev='vda'/></disk></devices></domain>",
                      name, escaped)),
            0);
        g_autoptr(Model) m = model_new(w, name, "vda:qcow2");
        model_touch(m);
        model_mkdir(m, "in");
        model_touch(m);
        model_create(m, "ex", "--diskspec vda,snapshot=external");
        model_touch(m);
        model_create(m, "ex2", "--diskspec vda,snapshot=external");
        model_verify(m);
        model_revert(m, "in");
        model_verify(m);
        model_rmdir(m, "in");
        model_verify(m);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("names");
    TCase *refused = add_case(s, "refused");
    tcase_add_test(refused, refused_names);
    tcase_add_test(refused, refused_domain_names);
    TCase *live = add_case(s, "odd");
    tcase_add_loop_test(live, odd_names_live, 0, G_N_ELEMENTS(odd));
    tcase_add_test(live, longest_names_live);
    tcase_add_test(live, odd_domain_names);
    tcase_add_test(live, odd_image_paths);
    TCase *escaped = add_case(s, "escaped");
    tcase_add_test(escaped, percent_is_escaped);
    tcase_add_test(escaped, imported_names_are_escaped);
    return s;
}

int main(void)
{
    return mount_main(suite());
}
