/* SPDX-License-Identifier: GPL-2.0-or-later */
/* examples/move-domain.sh: a domain with its snapshots goes to another store, or stays where it is. */
#include <glib/gstdio.h>

#include "model.h"

#define NAME "it's 50% \"x\" \xc3\xbc"
#define ENTRY "it's 50%25 \"x\" \xc3\xbc"

static Ran move(const World *w, const char *entry, const World *to)
{
    const char *script = keepf(w, "%s/move-domain.sh", g_getenv("EXAMPLES"));
    return ran(w, "sh", script, at(w, "%s", entry), to->mnt, NULL);
}

/* All that a reader sees of the domain "web", but its log. */
static const char *everything(const World *w)
{
    return sh_ok(w, "cd web && cat tree domain.xml && readlink current && for s in */; do s=./${s%/}; "
                    "[ -L \"$s\" ] || [ ! -e \"$s/snapshot.xml\" ] || { ls \"$s\"; cat \"$s/snapshot.xml\"; "
                    "readlink \"$s/parent\"; cat \"$s\"/*.qcow2 2>/dev/null | sha256sum; }; done");
}

/* A tree with branches, internal and external, and odd names. */
static void make_tree(const World *w, const char *domain)
{
    machine(w, domain, "vda:qcow2 vdb:qcow2");
    ck_works(g_mkdir(at(w, "%s/base", domain), 0755));
    ck_works(g_mkdir(at(w, "%s/two words 'q' \"d\"", domain), 0755));
    command(w, domain, "create '-dash' --diskspec vda,snapshot=external --description 'a <text> & more'");
    ck_works(g_mkdir(at(w, "%s/100%%25", domain), 0755));
    command(w, domain, "revert base");
    command(w, domain, "create branch --diskspec vdb,snapshot=external");
}

START_TEST(there_and_back)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(World) to = world_new(NULL);
    make_tree(w, "web");
    const char *before = everything(w);
    const char *images = contents(w);
    Ran result = move(w, "web", to);
    ck_assert_msg(result.rc == 0, "%s", result.err);
    ck_assert_str_eq(result.err, "");
    ck_assert(!exists(w, "web"));
    ck_assert_str_eq(everything(to), before);
    ck_assert_str_eq(contents(w), images);
    command(to, "web", "revert 100%%"); /* they are states there, not only names */
    ck_works(g_mkdir(at(to, "web/new"), 0755));
    ck_works(g_rmdir(at(to, "web/new")));
    command(to, "web", "revert branch");
    result = move(to, "web", w);
    ck_assert_msg(result.rc == 0, "%s", result.err);
    ck_assert(!exists(to, "web"));
    ck_assert_str_eq(link_of(w, "web/current"), "branch");
    command(w, "web", "revert base");
}
END_TEST

/* A domain of any name. */
START_TEST(odd_domain)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(World) to = world_new(NULL);
    machine(w, "web", "vda:qcow2");
    ck_works(g_rename(at(w, "web"), at(w, "%s", ENTRY)));
    ck_works(g_mkdir(at(w, "%s/one", ENTRY), 0755));
    Ran result = move(w, ENTRY, to);
    ck_assert_msg(result.rc == 0, "%s", result.err);
    ck_assert(!exists(w, ENTRY));
    ck_assert_str_eq(link_of(to, ENTRY "/current"), "one");
    ck_assert_str_eq(xpath(to, text_of(to, ENTRY "/domain.xml"), "/domain/name"), NAME);
}
END_TEST

/* The other side refuses: the definition, or the third snapshot. All is here again. */
START_TEST(put_back)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(World) to = world_new(NULL);
    make_tree(w, "web");
    const char *before = everything(w);
    const char *xml = text_of(w, "web/domain.xml");
    g_autoptr(GString) same_uuid = g_string_new(xml);
    g_string_replace(same_uuid, "<name>web<", "<name>other<", 1);
    ck_assert_int_eq(put(to, "ctl", same_uuid->str), 0);
    Ran result = move(w, "web", to);
    ck_assert_int_eq(result.rc, 1);
    ck_has(result.err, "is that of the domain 'other'");
    ck_has(result.err, "refuses it: it is put back");
    ck_assert_str_eq(everything(w), before);
    ck_works(g_rmdir(at(to, "other")));
    /* There, somebody writes what a snapshot here stands on. */
    const char *frozen = xpath(w, text_of(w, "web/branch/snapshot.xml"),
                               "//domain/devices/disk[target/@dev='vdb']/source/@file");
    const char *disk =
        keepf(w,
              "<domain type='kvm'><name>thief</name><devices><disk type='file'><driver type='qcow2'/>"
              "<source file='%s'/><target dev='vda'/></disk></devices></domain>",
              frozen);
    ck_assert_int_eq(put(to, "ctl", disk), 0);
    result = move(w, "web", to);
    ck_assert_int_eq(result.rc, 1);
    ck_has(result.err, "refuses it: it is put back");
    ck_assert(!exists(to, "web"));
    ck_assert_str_eq(everything(w), before);
    command(w, "web", "revert base");
}
END_TEST

START_TEST(refused)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(World) to = world_new(NULL);
    make_tree(w, "web");
    machine(to, "web", "vda:qcow2");
    Ran result = move(w, "web", to);
    ck_assert_int_eq(result.rc, 1);
    ck_has(result.err, "already: nothing was changed\n");
    ck_works(g_rmdir(at(to, "web")));
    Holder holder = hold(w, active_path(w, "web", "vda"), "qcow2", FALSE);
    result = move(w, "web", to);
    ck_assert_int_eq(result.rc, 1);
    ck_has(result.err, "the machine is not off: nothing was changed\n");
    release(holder);
    result = move(w, "web", w);
    ck_assert_int_eq(result.rc, 1);
    result = ran(w, "sh", keepf(w, "%s/move-domain.sh", g_getenv("EXAMPLES")), "web", NULL);
    ck_assert_int_eq(result.rc, 2);
    ck_works(g_rename(at(w, "web/base"), at(w, "web/renamed"))); /* its tags are still called base */
    const char *before = everything(w);
    result = move(w, "web", to);
    ck_assert_int_eq(result.rc, 1);
    ck_has(result.err, "snapshot 'renamed': disk 'vda': '");
    ck_has(result.err, "has no internal snapshot of that name\n");
    ck_assert_str_eq(everything(w), before);
    ck_assert(!exists(to, "web"));
    ck_works(g_rename(at(w, "web/renamed"), at(w, "web/base")));
    result = move(w, "web", to);
    ck_assert_msg(result.rc == 0, "%s", result.err);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("move");
    TCase *tcase = add_case(suite, "move");
    tcase_add_test(tcase, there_and_back);
    tcase_add_test(tcase, odd_domain);
    tcase_add_test(tcase, put_back);
    tcase_add_test(tcase, refused);
    return suite;
}

int main(void)
{
    return mount_main(suite());
}
