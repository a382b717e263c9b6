/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The scripts in examples/ that look into a snapshot: one file out of it, two compared, one booted, one cloned. */
#include <glib/gstdio.h>
#include <unistd.h>

#include "machine.h"

#define NOBODY "65534"
#define ODD "a \"quoted\" name"

/* The script @name of examples/. */
static const char *script(const World *w, const char *name)
{
    return keepf(w, "%s/%s", g_getenv("EXAMPLES"), name);
}

/* Let the active image of "web" hold a partition with an ext4 file system: /motd says @motd. */
static void fill(const World *w, const char *motd)
{
    sh_ok(w, keepf(w,
                   "cd .. && PATH=$PATH:/usr/sbin:/sbin && rm -rf files disk && mkdir -p files/dir && "
                   "echo %s >files/motd && echo odd >'files/dir/" ODD "' && truncate -s 40M disk && "
                   "printf 'label: dos\n2048,\n' | sfdisk -q disk && "
                   "mkfs.ext4 -q -d files -E offset=1048576,root_owner=0:0 disk 38M 2>&1",
                   motd));
    run_ok(w, "qemu-img", "convert", "-n", "-f", "raw", "-O", "qcow2", in_dir(w, "disk"),
           active_path(w, "web", "vda"));
}

/* Snapshots "one", internal, and "two", external, with another /motd. */
static World *web_of(const char *options)
{
    World *w = world_new(options);
    run_ok(w, "qemu-img", "create", "-q", "-f", "qcow2", image(w, "web-vda.qcow2"), "40M");
    ck_assert_int_eq(put(w, "ctl", machine_xml(w, "web", NULL, "vda:qcow2")), 0);
    fill(w, "first");
    ck_works(g_mkdir(at(w, "web/one"), 0755));
    fill(w, "second");
    command(w, "web", "create two --diskspec vda,snapshot=external");
    return w;
}

START_TEST(fetch)
{
    g_autoptr(World) w = web_of(NULL);
    const char *fetch_file = script(w, "fetch-file.sh"), *to = in_dir(w, "got");
    run_ok(w, "sh", fetch_file, "web/one", "/motd", to);
    ck_assert_str_eq(sh_ok(w, "cat ../got"), "first\n");
    Ran again = ran(w, "sh", fetch_file, "web/two", "/motd", to, NULL);
    ck_assert_int_eq(again.rc, 1);
    ck_has(again.err, "is there already");
    ck_assert_str_eq(sh_ok(w, "cat ../got && rm ../got"), "first\n");
    run_ok(w, "sh", fetch_file, "web/two", "motd", to);
    ck_assert_str_eq(sh_ok(w, "cat ../got && rm ../got"), "second\n");
    run_ok(w, "sh", fetch_file, "web/active", "/dir/" ODD, in_dir(w, "."));
    ck_assert_str_eq(sh_ok(w, "cat '../" ODD "'"), "odd\n");
    Ran missing = ran(w, "sh", fetch_file, "web/one", "/nothing", to, NULL);
    ck_assert_int_eq(missing.rc, 1);
    ck_has(missing.err, "has '/nothing'");
    ck_assert_int_eq(access(to, F_OK), -1);
}
END_TEST

static void compares(const World *w, const char *as)
{
    const char *compare = keepf(w, "%s sh %s", as, script(w, "compare.sh"));
    Ran differ = ran_sh(w, keepf(w, "%s web/one web/two", compare));
    ck_assert_msg(differ.rc == 1, "%d: %s", differ.rc, differ.err);
    ck_assert_str_eq(differ.out, "vda.raw at 1048576: Files one/motd and other/motd differ\n");
    Ran equal = ran_sh(w, keepf(w, "%s web/two web/active/", compare));
    ck_assert_msg(equal.rc == 0, "%d: %s%s", equal.rc, equal.out, equal.err);
    ck_assert_str_eq(equal.out, "");
    ck_assert_int_eq(ran_sh(w, keepf(w, "%s web/one web/none", compare)).rc, 2);
}

/* A disk, and a file system, that only the second has is a difference like one that only the first has. */
static void finds_what_one_has(const World *w)
{
    const char *compare = script(w, "compare.sh");
    sh_ok(w, "mkdir ../less ../more && cp web/one/vda.raw ../less && cp web/one/vda.raw ../more && "
             "cp web/one/vda.raw ../more/vdb.raw");
    const char *lines = "Only in ../more: vdb.raw\nOnly in ../more: vdb.raw at 1048576\n";
    Ran more = ran_sh(w, keepf(w, "sh %s ../less ../more", compare));
    ck_assert_str_eq(more.out, lines);
    ck_assert_int_eq(more.rc, 1);
    Ran less = ran_sh(w, keepf(w, "sh %s ../more ../less", compare));
    ck_assert_str_eq(less.out, lines);
    ck_assert_int_eq(less.rc, 1);
}

START_TEST(compare)
{
    g_autoptr(World) w = web_of("allow_other,umask=022");
    compares(w, "");
    finds_what_one_has(w);
    sh_ok(w, "chmod 755 .. && mkdir -m 777 ../tmp");
    compares(w, "TMPDIR=$PWD/../tmp setpriv --reuid " NOBODY " --clear-groups --");
    ck_assert_str_eq(sh_ok(w, "ls ../tmp"), "");
}
END_TEST

START_TEST(clones)
{
    g_autoptr(World) w = web_of("merge_idle=1");
    const char *clone_sh = script(w, "clone.sh");
    const char *linked = g_strchomp((char *)run_ok(w, "sh", clone_sh, "web/two", "new"));
    ck_assert_str_eq(linked, image(w, "new-vda.qcow2"));
    ck_assert_str_ne(backing_of(w, linked, "qcow2"), "");
    const char *copy = g_strchomp((char *)run_ok(w, "sh", clone_sh, "web/one", "copy"));
    ck_assert_str_eq(backing_of(w, copy, "qcow2"), "");
    run_ok(w, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", "web/one/vda.raw", copy);
    run_ok(w, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", "web/two/vda.raw", linked);
    ck_assert_int_eq(ran(w, "sh", clone_sh, "web/two", "new", NULL).rc, 1);
    ck_assert_int_eq(ran(w, "sh", clone_sh, "web/two", "../new", NULL).rc, 2);

    sh_ok(w, "cp web/two/vda.raw ../two.raw");
    fill(w, "third");
    ck_works(g_rmdir(at(w, "web/two")));
    command(w, "web", "wait");
    run_ok(w, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", in_dir(w, "two.raw"), linked);
}
END_TEST

START_TEST(boot)
{
    g_autoptr(World) w = web_of(NULL);
    const char *before = hash_of(w, at(w, "web/two/vda.raw"));
    Ran booted = ran_sh(
        w, keepf(w, "printf 'info block\\nquit\\n' | sh %s web/two -m 64 -S -display none -monitor stdio",
                 script(w, "boot.sh")));
    ck_assert_msg(booted.rc == 0, "%s", booted.err);
    ck_has(booted.out, at(w, "web/two/vda.raw"));
    ck_has(booted.out, "virtio0");
    ck_assert_str_eq(hash_of(w, at(w, "web/two/vda.raw")), before);
    ck_assert_int_eq(ran(w, "sh", script(w, "boot.sh"), "web", NULL).rc, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("examples");
    TCase *tests = add_case(suite, "examples");
    tcase_add_test(tests, fetch);
    tcase_add_test(tests, compare);
    tcase_add_test(tests, clones);
    tcase_add_test(tests, boot);
    return mount_main(suite);
}
