/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of DESIGN 2, gesture by gesture: what each does, and the errno where it can't. */
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utime.h>

#include "model.h"

/* A machine with an internal snapshot `one` and an external one `two` on it; `one`'s file is frozen under `two`. */
static World *two_snapshots(void)
{
    World *w = world_new(NULL);
    machine(w, "web", "vda:qcow2");
    run_ok(w, "mkdir", "web/one");
    command(w, "web", "create two --diskspec vda,snapshot=external");
    return w;
}

static int make_link(const World *w, const char *text, const char *name)
{
    return symlink(text, at(w, "%s", name));
}

static int revert_to(const World *w, const char *text)
{
    if (make_link(w, text, "web/tmp.link") < 0)
        return errno;
    if (rename(at(w, "web/tmp.link"), at(w, "web/current")) == 0)
        return 0;
    int err = errno;
    unlink(at(w, "web/tmp.link"));
    return err;
}

START_TEST(mkdir_errnos)
{
    g_autoptr(World) w = two_snapshots();
    ck_errno(mkdir(at(w, "web/one"), 0777), EEXIST);
    ck_errno(mkdir(at(w, "web/.hidden"), 0777), EPERM);
    ck_errno(mkdir(at(w, "web/active"), 0777), EEXIST);
    ck_errno(mkdir(at(w, "web/usage"), 0777), EEXIST);
    ck_errno(mkdir(at(w, "web/ctl"), 0777), EEXIST);
    ck_errno(mkdir(at(w, "new"), 0777), EPERM);
    ck_errno(mkdir(at(w, "web/one/below"), 0777), EPERM);
    ck_errno(mkdir(at(w, "web/active/below"), 0777), EPERM);
    ck_assert_str_eq(names_in(w, "web"), "active ctl current domain.xml log one state tree two usage");
}
END_TEST

START_TEST(mkdir_of_current_when_there_is_none)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2");
    ck_errno(mkdir(at(w, "web/current"), 0777), EPERM);
    ck_assert_str_eq(names_in(w, "web"), "active ctl domain.xml log state tree usage");
}
END_TEST

START_TEST(mkdir_with_nothing_to_snapshot)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2:no sda:raw");
    ck_errno(mkdir(at(w, "web/one"), 0777), EOPNOTSUPP);
    ck_has(text_of(w, "web/log"), "nothing to snapshot");
    ck_assert_str_eq(names_in(w, "web"), "active ctl domain.xml log state tree usage");
}
END_TEST

START_TEST(mkdir_of_a_running_machine)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2 vdb:qcow2");
    const char *before = fingerprint(w, w->images);
    Holder writer = hold(w, image(w, "web-vdb.qcow2"), "qcow2", FALSE);
    ck_errno(mkdir(at(w, "web/one"), 0777), EBUSY);
    ck_has(text_of(w, "web/log"), "a program writes its image");
    release(writer);
    ck_assert_str_eq(fingerprint(w, w->images), before);
    ck_works(mkdir(at(w, "web/one"), 0777));
}
END_TEST

START_TEST(mkdir_p_is_quiet_about_what_exists)
{
    g_autoptr(World) w = two_snapshots();
    run_ok(w, "mkdir", "-p", "web/one");
    run_ok(w, "mkdir", "-p", "web/three");
    run_fails(w, "mkdir", "-p", "web/four/five");
    ck_assert_str_eq(names_in(w, "web"),
                     "active ctl current domain.xml four log one state three tree two usage");
}
END_TEST

START_TEST(rmdir_errnos)
{
    g_autoptr(World) w = two_snapshots();
    ck_errno(rmdir(at(w, "web/active")), EPERM);
    ck_errno(rmdir(at(w, "web/none")), ENOENT);
    ck_errno(rmdir(at(w, "web/tree")), ENOTDIR);
    ck_errno(rmdir(at(w, "web/current")), ENOTDIR);
    ck_errno(rmdir(at(w, "web")), ENOTEMPTY);
    ck_works(rmdir(at(w, "web/one")));
    ck_assert_str_eq(names_in(w, "web"), "active ctl current domain.xml log state tree two usage");
    ck_assert(!exists(w, "web/two/parent"));
}
END_TEST

START_TEST(rmdir_of_a_running_machine)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2");
    run_ok(w, "mkdir", "web/one");
    Holder writer = hold(w, image(w, "web-vda.qcow2"), "qcow2", FALSE);
    ck_errno(rmdir(at(w, "web/one")), EBUSY);
    ck_errno(rename(at(w, "web"), at(w, "shop")), EBUSY);
    ck_assert_int_eq(revert_to(w, "one"), EBUSY);
    release(writer);
    ck_assert_int_eq(revert_to(w, "one"), 0);
    ck_works(rmdir(at(w, "web/one")));
    Holder again = hold(w, image(w, "web-vda.qcow2"), "qcow2", FALSE);
    ck_errno(rmdir(at(w, "web")), EBUSY);
    release(again);
}
END_TEST

START_TEST(rename_errnos)
{
    g_autoptr(World) w = two_snapshots();
    machine(w, "db", "vda:qcow2");
    const char *one = at(w, "web/one");
    g_autofree char *longest = g_strnfill(256, 'n');
    static const struct {
        const char *from, *to;
        unsigned flags;
        int want;
    } table[] = {
        {"web/one", "web/two", 0, EEXIST},
        {"web/one", "web/two", RENAME_NOREPLACE, EEXIST},
        {"web/one", "web/two", RENAME_EXCHANGE, EINVAL},
        {"web/one", "web/three", RENAME_WHITEOUT, EINVAL},
        {"web/one", "web/.three", 0, EPERM},
        {"web/one", "web/usage", 0, ENOTDIR},
        {"web/one", "web/active", 0, EEXIST},
        {"web/one", "web/current", 0, ENOTDIR},
        {"web/one", "web/two/one", 0, EPERM},
        {"web/one", "db/one", 0, EPERM},
        {"web/one", "one", 0, EPERM},
        {"web/one", "web/active/one", 0, EPERM},
        {"web/active", "web/other", 0, EPERM},
        {"web/tree", "web/other", 0, EPERM},
        {"web/current", "web/other", 0, EPERM},
        {"web/one/vda.qcow2", "web/one/x", 0, ENOENT},
        {"web/one/snapshot.xml", "web/one/x", 0, EPERM},
        {"web/two/vda.qcow2", "web/two/x", 0, EPERM},
        {"web/two/vda.qcow2", "web/x", 0, EPERM},
        {"web", "db/web", 0, EPERM},
        {"web", "db", 0, EEXIST},
        {"web", "ctl", 0, ENOTDIR},
        {"web", ".web", 0, EPERM},
        {"ctl", "other", 0, EPERM},
    };
    for (guint i = 0; i < G_N_ELEMENTS(table); i++) {
        int result = renameat2(AT_FDCWD, at(w, "%s", table[i].from), AT_FDCWD, at(w, "%s", table[i].to),
                               table[i].flags);
        ck_assert_msg(result == -1 && errno == table[i].want, "rename %s %s %u: %d %s, expected %s",
                      table[i].from, table[i].to, table[i].flags, result, g_strerror(errno),
                      g_strerror(table[i].want));
    }
    ck_errno(rename(one, at(w, "web/%s", longest)), ENAMETOOLONG);
    ck_errno(rename(one, at(w, "web/\xff")), EILSEQ);
    ck_errno(rename(one, at(w, "web/a\nb")), EILSEQ);
    ck_assert_str_eq(names_in(w, "web"), "active ctl current domain.xml log one state tree two usage");
    ck_works(renameat2(AT_FDCWD, one, AT_FDCWD, at(w, "web/three"), RENAME_NOREPLACE));
    ck_works(rename(at(w, "web/three"), at(w, "web/three")));
}
END_TEST

START_TEST(rename_moves_links)
{
    g_autoptr(World) w = two_snapshots();
    run_ok(w, "mv", "web/one", "web/first");
    ck_assert_str_eq(link_of(w, "web/two/parent"), "../first");
    ck_assert_str_eq(xpath(w, text_of(w, "web/first/snapshot.xml"), "/domainsnapshot/name"), "first");
    ck_assert_str_eq(xpath(w, text_of(w, "web/two/snapshot.xml"), "/domainsnapshot/parent/name"), "first");
    run_ok(w, "mv", "web/two", "web/second");
    ck_assert_str_eq(link_of(w, "web/current"), "second");
    ck_assert_str_eq(link_of(w, "web/active/parent"), "../second");
    ck_has(text_of(w, "web/tree"), "first");
    ck_has_not(text_of(w, "web/tree"), "one");
}
END_TEST

START_TEST(mv_into_a_snapshot_is_refused)
{
    g_autoptr(World) w = two_snapshots();
    run_fails(w, "mv", "web/one", "web/two");
    run_fails(w, "mv", "web/one", "web/current");
    run_fails(w, "mv", "-T", "web/one", "web/current");
    ck_assert_str_eq(names_in(w, "web"), "active ctl current domain.xml log one state tree two usage");
    ck_assert_str_eq(link_of(w, "web/current"), "two");
}
END_TEST

static const char *const reverters[] = {
    "ln -sfn one web/current",
    "ln -sfT one web/current",
    "ln -sfn ./one web/current",
    "ln -sfn one/ web/current",
    "ln -sfn \"$PWD/web/one\" web/current",
    "cd web; ln -sfn one current",
    "python3 -c 'import os; os.symlink(\"one\", \"web/x\"); os.replace(\"web/x\", \"web/current\")'",
    "perl -e 'symlink(\"one\", \"web/x\") or die; rename(\"web/x\", \"web/current\") or die'",
    "echo revert one > web/ctl",
    "printf 'revert one' > web/ctl",
};

START_TEST(reverted_by)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2 vdb:qcow2:external");
    g_autoptr(Model) m = model_new(w, "web", "vda:qcow2 vdb:qcow2:external");
    model_touch(m);
    model_mkdir(m, "one");
    model_touch(m);
    model_mkdir(m, "two");
    model_touch(m);
    sh_ok(w, reverters[_i]);
    model_reverted(m, "one");
    model_verify(m);
}
END_TEST

START_TEST(revert_to_the_current_one_drops_changes)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2 vdb:qcow2:external");
    g_autoptr(Model) m = model_new(w, "web", "vda:qcow2 vdb:qcow2:external");
    model_touch(m);
    model_mkdir(m, "one");
    for (guint i = 0; i < 3; i++) {
        model_touch(m);
        model_revert(m, "one");
        model_verify(m);
    }
}
END_TEST

START_TEST(revert_errnos)
{
    g_autoptr(World) w = two_snapshots();
    const char *before = fingerprint(w, w->images);
    ck_assert_int_eq(revert_to(w, "nobody"), ENOENT);
    ck_assert_int_eq(revert_to(w, "active"), ENOENT);
    ck_assert_int_ne(revert_to(w, "../web/one/snapshot.xml"), 0);
    ck_assert_int_ne(revert_to(w, "/etc/passwd"), 0);
    ck_assert_int_ne(revert_to(w, ".."), 0);
    run_fails(w, "ln", "-sfn", "nobody", "web/current");
    /* without -n ln follows the link and would make a link inside the snapshot */
    run_fails(w, "ln", "-sf", "one", "web/current");
    /* busybox removes first, which is refused: harmless */
    run_fails(w, "busybox", "ln", "-sfn", "one", "web/current");
    run_fails(w, "rm", "web/current");
    run_fails(w, "rm", "-f", "web/current");
    run_fails(w, "mv", "web/current", "web/other");
    ck_assert_str_eq(link_of(w, "web/current"), "two");
    ck_assert_str_eq(names_in(w, "web"), "active ctl current domain.xml log one state tree two usage");
    ck_assert_str_eq(fingerprint(w, w->images), before);
}
END_TEST

START_TEST(passing_links_are_hidden)
{
    g_autoptr(World) w = two_snapshots();
    run_ok(w, "ln", "-s", "one", "web/aside");
    ck_assert_str_eq(link_of(w, "web/aside"), "one");
    ck_assert_str_eq(names_in(w, "web"), "active ctl current domain.xml log one state tree two usage");
    ck_works(unlink(at(w, "web/aside")));
    ck_assert(!exists(w, "web/aside"));
    ck_errno(make_link(w, "one", "web/one/x"), EPERM);
    ck_errno(make_link(w, "one", "link"), EPERM);
    ck_errno(make_link(w, "one", "web/two"), EEXIST);
    ck_assert_str_eq(link_of(w, "web/current"), "two");
}
END_TEST

START_TEST(anything_else_is_refused)
{
    g_autoptr(World) w = two_snapshots();
    const char *before = fingerprint(w, w->images);
    ck_errno(unlink(at(w, "web/tree")), EPERM);
    ck_errno(unlink(at(w, "web/one/snapshot.xml")), EPERM);
    ck_errno(unlink(at(w, "web/two/vda.qcow2")), EPERM);
    ck_errno(unlink(at(w, "web/two/parent")), EPERM);
    ck_errno(unlink(at(w, "ctl")), EPERM);
    ck_errno(link(at(w, "web/tree"), at(w, "web/tree2")), EPERM);
    ck_errno(mknod(at(w, "web/pipe"), S_IFIFO | 0600, 0), EPERM);
    ck_errno(mknod(at(w, "web/one/file"), S_IFREG | 0600, 0), EPERM);
    ck_errno(open(at(w, "web/one/file"), O_CREAT | O_WRONLY | O_CLOEXEC, 0666), EPERM);
    ck_errno(open(at(w, "file"), O_CREAT | O_WRONLY | O_CLOEXEC, 0666), EPERM);
    ck_errno(chmod(at(w, "web/one"), 0700), EPERM);
    ck_errno(chown(at(w, "web/one"), 1, 1), EPERM);
    ck_errno(truncate(at(w, "web/two/vda.qcow2"), 0), EPERM);
    ck_assert_str_eq(names_in(w, "web"), "active ctl current domain.xml log one state tree two usage");
    ck_assert_str_eq(fingerprint(w, w->images), before);
}
END_TEST

START_TEST(attributes_set_as_they_are)
{
    g_autoptr(World) w = two_snapshots();
    struct stat st = stat_of(w, "web/one/snapshot.xml");
    /* cp -p and rsync set what is there already; touch sets times of what can be written */
    ck_works(chmod(at(w, "web/one/snapshot.xml"), st.st_mode & 07777));
    ck_works(chown(at(w, "web/one/snapshot.xml"), st.st_uid, st.st_gid));
    run_ok(w, "touch", "web/ctl", "web/domain.xml", "web/one/description");
    run_ok(w, "chmod", "--reference=web/two", "web/one");
}
END_TEST

/* In a process of its own: 0, or the errno. */
static int rmdir_elsewhere(const char *path)
{
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(rmdir(path) == 0 ? 0 : errno);
    waitpid(pid, &status, 0);
    return WEXITSTATUS(status);
}

START_TEST(refused_unlink_guards_the_directory)
{
    g_autoptr(World) w = two_snapshots();
    run_ok(w, "mkdir", "web/three");
    ck_errno(unlink(at(w, "web/three/snapshot.xml")), EPERM);
    ck_errno(rmdir(at(w, "web/three")), ENOTEMPTY);
    ck_errno(rmdir(at(w, "web")), ENOTEMPTY);
    /* others and other directories are not meant */
    ck_assert_int_eq(rmdir_elsewhere(at(w, "web/three")), 0);
    ck_works(rmdir(at(w, "web/two")));
    /* it ends by itself */
    ck_errno(unlink(at(w, "web/one/snapshot.xml")), EPERM);
    ck_errno(rmdir(at(w, "web/one")), ENOTEMPTY);
    ck_eventually(rmdir(at(w, "web/one")) == 0, 30);
}
END_TEST

START_TEST(refused_unlink_guards_the_domain)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2");
    ck_errno(unlink(at(w, "web/domain.xml")), EPERM);
    ck_errno(rmdir(at(w, "web")), ENOTEMPTY);
    ck_assert_int_eq(rmdir_elsewhere(at(w, "web")), 0);
}
END_TEST

static const char *const describers[] = {
    "echo 'from the shell' > web/one/description",
    "printf 'from the shell\\n' > web/one/description",
    "printf 'from the shell\\n' | tee web/one/description",
    "echo 'from the shell' > ../text; cp ../text web/one/description",
    "echo 'from the shell' > ../text; dd if=../text of=web/one/description 2>/dev/null",
    "python3 -c 'print(\"from the shell\", file=open(\"web/one/description\", \"w\"))'",
    "echo 'from the shell' > ../text; busybox cp ../text web/one/description",
};

START_TEST(described_by)
{
    g_autoptr(World) w = two_snapshots();
    sh_ok(
        w,
        "echo 'a much longer description that was there before, in two lines\nreally' > web/one/description");
    sh_ok(w, describers[_i]);
    ck_assert_str_eq(description_of(w, "web/one"), "from the shell");
    world_stop(w);
    world_start(w, NULL);
    ck_assert_str_eq(description_of(w, "web/one"), "from the shell");
}
END_TEST

START_TEST(descriptions_keep_their_bytes)
{
    g_autoptr(World) w = two_snapshots();
    static const char text[] = "  <b>&amp; 'quoted' \"too\"\tTab\n\nlast line, ünïcode ☃ ]]> ";
    ck_assert_int_eq(put(w, "web/one/description", text), 0);
    ck_assert_str_eq(description_of(w, "web/one"), text);
    ck_assert_int_ne(put(w, "web/one/description", "bell \a"), 0);
    ck_assert_int_ne(put(w, "web/one/description", "latin1 \xe9"), 0);
    ck_assert_str_eq(description_of(w, "web/one"), text);
    world_stop(w);
    world_start(w, NULL);
    ck_assert_str_eq(description_of(w, "web/one"), text);
}
END_TEST

START_TEST(snapshot_xml_redefines)
{
    g_autoptr(World) w = two_snapshots();
    sh_ok(w, "sed 's,<state>,<description>by xml</description>&,' web/one/snapshot.xml > ../new.xml;"
             "cp ../new.xml web/one/snapshot.xml");
    ck_assert_str_eq(description_of(w, "web/one"), "by xml");
    /* a new name in it renames */
    sh_ok(w, "sed 's,<name>one</name>,<name>uno</name>,' web/one/snapshot.xml > ../new.xml;"
             "cat ../new.xml > web/one/snapshot.xml");
    ck_assert_str_eq(names_in(w, "web"), "active ctl current domain.xml log state tree two uno usage");
    ck_assert_str_eq(link_of(w, "web/two/parent"), "../uno");
    const char *before = text_of(w, "web/uno/snapshot.xml");
    ck_assert_int_eq(
        put(w, "web/uno/snapshot.xml", "<domainsnapshot>\n<name>uno</name>\n</domainsnapshot>\n"), EINVAL);
    ck_assert_int_eq(put(w, "web/uno/snapshot.xml", "<domainsnapshot>\n<name>uno</name>\n<oops\n"), EINVAL);
    ck_has(text_of(w, "web/log"), "line");
    ck_assert_str_eq(text_of(w, "web/uno/snapshot.xml"), before);
    /* its parent below itself */
    sh_fails(w,
             "sed 's,<creationTime>,<parent><name>two</name></parent>&,' web/uno/snapshot.xml > ../new.xml;"
             "cp ../new.xml web/uno/snapshot.xml");
    ck_assert_str_eq(text_of(w, "web/uno/snapshot.xml"), before);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("gestures");
    TCase *create = add_case(s, "mkdir");
    tcase_add_test(create, mkdir_errnos);
    tcase_add_test(create, mkdir_of_current_when_there_is_none);
    tcase_add_test(create, mkdir_with_nothing_to_snapshot);
    tcase_add_test(create, mkdir_of_a_running_machine);
    tcase_add_test(create, mkdir_p_is_quiet_about_what_exists);
    TCase *delete = add_case(s, "rmdir");
    tcase_add_test(delete, rmdir_errnos);
    tcase_add_test(delete, rmdir_of_a_running_machine);
    tcase_add_test(delete, refused_unlink_guards_the_directory);
    tcase_add_test(delete, refused_unlink_guards_the_domain);
    TCase *move = add_case(s, "rename");
    tcase_add_test(move, rename_errnos);
    tcase_add_test(move, rename_moves_links);
    tcase_add_test(move, mv_into_a_snapshot_is_refused);
    TCase *revert = add_case(s, "revert");
    tcase_add_loop_test(revert, reverted_by, 0, G_N_ELEMENTS(reverters));
    tcase_add_test(revert, revert_to_the_current_one_drops_changes);
    tcase_add_test(revert, revert_errnos);
    tcase_add_test(revert, passing_links_are_hidden);
    TCase *edit = add_case(s, "write");
    tcase_add_loop_test(edit, described_by, 0, G_N_ELEMENTS(describers));
    tcase_add_test(edit, descriptions_keep_their_bytes);
    tcase_add_test(edit, snapshot_xml_redefines);
    TCase *other = add_case(s, "anything else");
    tcase_add_test(other, anything_else_is_refused);
    tcase_add_test(other, attributes_set_as_they_are);
    return s;
}

int main(void)
{
    return mount_main(suite());
}
