/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Everyday tools let loose on the tree: none may delete a snapshot or undefine a domain by accident, none may change a
 * byte of any state; copying tools must get what is there.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "model.h"

#define DISKS "vda:qcow2 vdb:qcow2:external"

/* A machine with a little tree: one - two, one - three, current is three. */
static Model *grown(const World *w)
{
    machine(w, "web", DISKS);
    Model *m = model_new(w, "web", DISKS);
    static const char *const names[] = {"one", "two", "three"};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        if (i == 2)
            model_revert(m, "one");
        model_touch(m);
        model_mkdir(m, names[i]);
    }
    model_touch(m);
    return m;
}

/* Everything a person could lose, as text. */
static const char *everything(const World *w)
{
    return sh_ok(
        w, "ls -A . web web/*; cat web/domain.xml web/*/snapshot.xml web/*/description; readlink web/current "
           "web/*/parent");
}

static const char *const destroyers[] = {
    "rm -rf web",
    "rm -rf web/one",
    "rm -r web/one </dev/null",
    "rm -rf web/*",
    "rm -rf .",
    "rm -d web/one",
    "rm -f web/one/* web/* web/current",
    "busybox rm -rf web",
    "busybox rm -rf web/one",
    "find web -delete",
    "find web/one -delete",
    "find . -mindepth 1 -delete",
    "find web -depth -exec rm -rf {} \\;",
    "find web -type f -exec rm -f {} +",
    "find web -type f -delete",
    "python3 -c 'import shutil; shutil.rmtree(\"web\")'",
    "python3 -c 'import shutil; shutil.rmtree(\"web\", ignore_errors=True)'",
    "python3 -c 'import shutil; shutil.rmtree(\"web/one\")'",
    "python3 -c 'import shutil; shutil.rmtree(\"web/one\", ignore_errors=True)'",
    "python3 -c 'import shutil; shutil.rmtree(\".\", ignore_errors=True)'",
    "perl -MFile::Path=remove_tree -e 'remove_tree(\"web\")'",
    "perl -MFile::Path=remove_tree -e 'remove_tree(\"web/one\")'",
    "mkdir ../empty; rsync -r --delete ../empty/ web/",
    "mkdir ../empty; rsync -r --delete --force ../empty/ web/one/",
    "mkdir ../src; echo x >../src/domain.xml; rsync -a --delete ../src/ web/",
    "mkdir ../src; echo x >../src/new; rsync -a --inplace ../src/ web/",
    "git -C web init",
    "git init web",
    "mkdir -p web/.git web/.Trash-0 .Trash-0",
    "mkdir ../dest; mv web/one ../dest/",
    "mkdir ../dest; mv web ../dest/",
    "mkdir /dev/shm/domsnapfs-test.$$ && mv web/one /dev/shm/domsnapfs-test.$$/; rm -rf "
    "/dev/shm/domsnapfs-test.$$",
    "mv web/one web/two",
    "mv web/one web/two web/three",
    "mv web/one web/active",
    "mv web/one/vda.qcow2 web/",
    "mv web/one/snapshot.xml web/two/snapshot.xml",
    "ln web/one/snapshot.xml web/link",
    "cp -r web other",
    "cp -a web/one web/two",
    "cp web/one/vdb.qcow2 web/active/vdb.qcow2",
    "cp /dev/null web/active/vdb.qcow2",
    "cp --remove-destination ../mnt/web/tree web/one/snapshot.xml",
    "install -m 644 /etc/passwd web/domain.xml",
    "install -d web/.x",
    "sed -i s/kvm/xen/ web/state",
    "sed -i s/a/b/ web/one/vdb.qcow2",
    "vim.tiny -es -u NONE -c 'normal x' -c wq web/one/vdb.qcow2",
    "vim.tiny -es -u NONE -c 'normal x' -c wq web/tree",
    "echo x > web/tree",
    "echo x > web/log",
    "echo x > web/state",
    "echo x > jobs",
    "echo x > web/new",
    "echo x > web/one/new",
    "touch web/new web/one/new new",
    "truncate -s 0 web/one/vdb.qcow2 web/active/vdb.qcow2 web/tree",
    "truncate -s 1G web/active/vdb.qcow2",
    "dd if=/dev/zero of=web/active/vdb.qcow2 bs=4k count=1 conv=notrunc",
    "tee web/active/vdb.qcow2 web/tree </dev/null",
    "fallocate -l 2M web/active/vdb.qcow2",
    "chmod -R 777 web",
    "chmod -R a-w web/one",
    "chown -R 1:1 web",
    "qemu-img snapshot -c x web/active/vda.qcow2",
    "qemu-img commit -f qcow2 web/active/vdb.qcow2",
    "qemu-img resize -f qcow2 web/active/vda.qcow2 2M",
    "qemu-io -f qcow2 -c 'write 0 4k' web/active/vda.qcow2",
    "tar -cf ../x.tar web; tar -xf ../x.tar",
    "tar -cf ../x.tar --remove-files web",
    "unlink web/one",
    "unlink web/current",
    "mkfifo web/pipe; mknod web/dev c 1 3",
    "python3 -c 'import os; os.setxattr(\"web/one\", \"user.x\", b\"y\")'",
};

/* The whole command may fail or succeed, as long as nothing is lost or changed. */
START_TEST(nothing_is_lost)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Model) m = grown(w);
    const char *before = everything(w), *images = fingerprint(w, w->images);
    ran_sh(w, destroyers[_i]);
    ck_assert_str_eq(everything(w), before);
    ck_assert_str_eq(fingerprint(w, w->images), images);
    model_verify(m);
}
END_TEST

/* And these must not claim that it worked. */
START_TEST(failure_is_reported)
{
    static const char *const scripts[] = {
        "rm -rf web",
        "rm -rf web/one",
        "busybox rm -rf web/one",
        "find web/one -delete",
        "find web -delete",
        "python3 -c 'import shutil; shutil.rmtree(\"web/one\")'",
        "mkdir ../dest; mv web/one ../dest/",
        "git init web",
        "mv web/one web/two",
        "echo x > web/tree",
        "echo x > web/new",
        "cp /dev/null web/active/vdb.qcow2",
        "truncate -s 0 web/one/vdb.qcow2",
        "sed -i s/a/b/ web/one/vdb.qcow2",
        "rm -f web/current",
        "chmod 777 web/one",
        "chown 1 web/one",
        "ln web/tree web/x",
        "cp -r web/one web/active/x",
    };
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Model) m = grown(w);
    for (guint i = 0; i < G_N_ELEMENTS(scripts); i++)
        sh_fails(w, scripts[i]);
    model_verify(m);
}
END_TEST

/* mv to another file system copies, then removes the source: a copy that is not kept would lose it. */
START_TEST(nothing_is_taken_and_dropped)
{
    static const char *const scripts[] = {
        "mv ../precious web/",
        "mv ../precious web/one/",
        "mv ../precious .",
        "mv ../.precious web/",
        "cp ../precious web/",
        "mv ../precious web/active/",
        "rsync --remove-source-files ../precious web/",
        "install ../precious web/precious",
    };
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Model) m = grown(w);
    for (guint i = 0; i < G_N_ELEMENTS(scripts); i++) {
        sh_ok(w, "echo keep > ../precious; echo keep > ../.precious");
        sh_fails(w, scripts[i]);
        ck_assert_str_eq(sh_ok(w, "cat ../precious ../.precious"), "keep\nkeep\n");
    }
    model_verify(m);
}
END_TEST

/* The mkdir of a recursive copy is a mkdir like any other: it takes a snapshot, then the files are refused. */
START_TEST(copied_directories)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Model) m = grown(w);
    run_fails(w, "cp", "-r", "web/one", "web/four");
    model_took(m, "four");
    model_verify(m);
}
END_TEST

START_TEST(archives_hold_what_is_there)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Model) m = grown(w);
    sh_ok(w, "cat web/usage web/*/changes >/dev/null"); /* tar asks for the size, which is known only then */
    sh_ok(w, "mkdir ../a ../b ../c ../d ../e; tar -Scf ../x.tar web; tar -C ../a -xf ../x.tar");
    sh_ok(w, "diff -r --no-dereference web ../a/web");
    sh_ok(w, "cp -a web ../b/ && diff -r --no-dereference web ../b/web");
    sh_ok(w, "rsync -a web ../c/ && diff -r --no-dereference web ../c/web");
    sh_ok(w, "cp -r --sparse=always web ../d/ && diff -r --no-dereference web ../d/web");
    sh_ok(w, "rsync -aS --inplace web ../e/ && diff -r --no-dereference web ../e/web");
    sh_ok(w, "busybox cp -a web ../e/copy && diff -r --no-dereference web ../e/copy");
    /* the times go along */
    sh_ok(w, "test \"$(stat -c %Y web/one)\" = \"$(stat -c %Y ../b/web/one)\"");
    model_verify(m);
}
END_TEST

START_TEST(readers_terminate)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Model) m = grown(w);
    const char *before = everything(w);
    sh_ok(w, "find . -ls >/dev/null; find -L web -maxdepth 6 >/dev/null; ls -lRa . >/dev/null; ls -RL web "
             ">/dev/null;"
             "grep -r domainsnapshot web/*/snapshot.xml >/dev/null; du -a . >/dev/null; du -L web >/dev/null;"
             "wc -c web/*/*.xml >/dev/null; file -b web/one/snapshot.xml >/dev/null 2>&1; md5sum web/one/* "
             "2>/dev/null"
             ">/dev/null; cat web/*/vd* > /dev/null");
    ck_assert_str_eq(everything(w), before);
}
END_TEST

/* rmdir is the one word that deletes: said to a snapshot directly, without an unlink first, it is a request. */
START_TEST(rmdir_is_meant)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Model) m = grown(w);
    run_ok(w, "busybox", "rmdir", "web/two");
    model_deleted(m, "two");
    model_verify(m);
    run_ok(w, "python3", "-c", "import os; os.rmdir('web/one')");
    model_deleted(m, "one");
    model_verify(m);
    run_ok(w, "find", "web", "-mindepth", "1", "-maxdepth", "1", "-type", "d", "-name", "thr*", "-prune",
           "-exec", "rmdir", "{}", ";");
    model_deleted(m, "three");
    model_verify(m);
}
END_TEST

static const char *const editors[] = {
    "sed 's/old/new/' web/one/description > ../x; cp -p ../x web/one/description",
    "vim.tiny -es -u NONE -c '%s/old/new/' -c wq web/one/description",
    "printf '%s\\n' ',s/old/new/' w q | busybox ed -s web/one/description 2>/dev/null || "
    "busybox sed 's/old/new/' web/one/description > ../x && cat ../x > web/one/description",
    "perl -e 'open(F, \"+<web/one/description\"); $t = <F>; $t =~ s/old/new/; seek(F, 0, 0); print F $t; "
    "truncate(F, tell(F)); close F or die'",
    "cp --no-preserve=mode web/one/description ../x; chmod u+w ../x; sed -i s/old/new/ ../x; "
    "install -m 600 -T ../x ../y; cat ../y > web/one/description",
};

START_TEST(edited_by)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Model) m = grown(w);
    ck_assert_int_eq(put(w, "web/one/description", "an old text\n"), 0);
    sh_ok(w, editors[_i]);
    ck_assert_str_eq(text_of(w, "web/one/description"), "an new text\n");
    model_verify(m);
}
END_TEST

/* Editors that write a new file and rename it over: works, or fails saying so; never half. */
START_TEST(edited_in_place)
{
    static const char *const scripts[] = {
        "sed -i 's/old/new/' web/one/description",
        "busybox sed -i 's/old/new/' web/one/description",
        "perl -i -pe 's/old/new/' web/one/description",
        "sed -i 's,>1</vcpu>,>2</vcpu>,' web/domain.xml",
        "printf 'an new text\\n' > ../description; rsync -aI ../description web/one/",
        "printf 'an new text\\n' > ../description; rsync -aI --inplace ../description web/one/",
        "printf 'an new text\\n' > ../description; install ../description web/one/description",
        "vim.tiny -es -u NONE -c '%s/>1</>2</' -c wq web/domain.xml",
    };
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Model) m = grown(w);
    for (guint i = 0; i < G_N_ELEMENTS(scripts); i++) {
        ck_assert_int_eq(put(w, "web/one/description", "an old text\n"), 0);
        const char *xml = text_of(w, "web/domain.xml");
        Ran result = ran_sh(w, scripts[i]);
        gboolean changed = strcmp(text_of(w, "web/one/description"), "an new text\n") == 0 ||
                           strcmp(text_of(w, "web/domain.xml"), xml) != 0;
        gboolean kept = strcmp(text_of(w, "web/one/description"), "an old text\n") == 0 &&
                        strcmp(text_of(w, "web/domain.xml"), xml) == 0;
        ck_assert_msg(changed || kept, "%s: something between", scripts[i]);
        /* perl -i says so and exits 0 */
        ck_assert_msg(result.rc == 0 ? changed || *result.err != '\0' : kept, "%s: exit %d but %s: %s",
                      scripts[i], result.rc, changed ? "changed" : "not changed", result.err);
        model_verify(m);
    }
    ck_assert_str_eq(names_in(w, "web/one"), "changes description snapshot.xml vda.raw vdb.qcow2 vdb.raw");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("tools");
    TCase *lose = add_case(s, "destroyers");
    tcase_add_loop_test(lose, nothing_is_lost, 0, G_N_ELEMENTS(destroyers));
    tcase_add_test(lose, failure_is_reported);
    tcase_add_test(lose, nothing_is_taken_and_dropped);
    tcase_add_test(lose, copied_directories);
    tcase_add_test(lose, rmdir_is_meant);
    TCase *copy = add_case(s, "readers");
    tcase_add_test(copy, archives_hold_what_is_there);
    tcase_add_test(copy, readers_terminate);
    TCase *edit = add_case(s, "editors");
    tcase_add_loop_test(edit, edited_by, 0, G_N_ELEMENTS(editors));
    tcase_add_test(edit, edited_in_place);
    return s;
}

int main(void)
{
    return mount_main(suite());
}
