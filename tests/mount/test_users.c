/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Users: a normal user's own mount, strangers at root's, and images that belong to somebody. Needs root to become them. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "model.h"

enum { USER = 65534, STRANGER = 1 };

static const char *as_user(const World *w, int user, const char *script)
{
    return keepf(w, "exec setpriv --reuid=%d --regid=%d --clear-groups -- sh -c '%s'", user, user, script);
}

/* Run a script (without single quotes in it) as @user. */
static Ran ran_as(const World *w, int user, const char *script)
{
    return ran_sh(w, as_user(w, user, script));
}

static const char *ok_as(const World *w, int user, const char *script)
{
    return ran_expect_ok(ran_as(w, user, script), script);
}

START_TEST(strangers_are_kept_out)
{
    g_autoptr(World) w = world_new("allow_other");
    machine(w, "web", "vda:qcow2");
    run_ok(w, "mkdir", "web/one");
    const char *before = fingerprint(w, w->images);
    static const char *const scripts[] = {
        "mkdir web/two",
        "rmdir web/one",
        "mv web/one web/uno",
        "ln -sfn one web/current",
        "echo create two > web/ctl",
        "echo undefine web > ctl",
        "echo x > web/one/description",
        "rmdir web",
        "touch web/ctl",
        "cp web/domain.xml ctl",
    };
    for (guint i = 0; i < G_N_ELEMENTS(scripts); i++)
        ran_expect_failure(ran_as(w, STRANGER, scripts[i]), scripts[i]);
    ck_assert_str_eq(names_in(w, "web"), "active ctl current domain.xml log one state tree usage");
    ck_assert_str_eq(fingerprint(w, w->images), before);
    ck_has(ran_as(w, STRANGER, "mkdir web/two").err, "Permission denied");
}
END_TEST

START_TEST(nobody_enters_without_allow_other)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2");
    Ran result = ran_sh(w, keepf(w, "cd /; %s", as_user(w, STRANGER, keepf(w, "ls %s", w->mnt))));
    ran_expect_failure(result, "ls");
    ck_has(result.err, "Permission denied");
}
END_TEST

START_TEST(a_group_may_work)
{
    g_autoptr(World) w = world_new("allow_other,gid=1,umask=007");
    machine(w, "web", "vda:qcow2");
    ok_as(w, STRANGER,
          "mkdir web/two && echo create three > web/ctl && ln -sfn two web/current && rmdir web/three");
    ck_assert_str_eq(link_of(w, "web/current"), "two");
    ran_expect_failure(ran_as(w, USER, "ls web"), "ls");
}
END_TEST

/* What is made for a disk belongs to whom the disk belongs, and is no wider. */
START_TEST(images_keep_their_owner)
{
    struct stat st;
    g_autoptr(World) w = world_new(NULL);
    ck_works(chown(w->images, USER, USER));
    machine(w, "web", "vda:qcow2:external");
    ck_works(chown(image(w, "web-vda.qcow2"), USER, USER));
    ck_works(chmod(image(w, "web-vda.qcow2"), 0640));
    g_autoptr(Model) m = model_new(w, "web", "vda:qcow2");
    model_touch(m);
    model_mkdir(m, "one");
    ck_works(stat(image(w, "web-vda.one"), &st));
    ck_assert_uint_eq(st.st_uid, USER);
    ck_assert_uint_eq(st.st_gid, USER);
    ck_assert_int_eq(st.st_mode & 07777, 0640);
    model_touch(m);
    model_create(m, "two", "--diskspec vda,snapshot=internal");
    model_revert(m, "one");
    ck_works(stat(active_path(w, "web", "vda"), &st));
    ck_assert_uint_eq(st.st_uid, USER);
    ck_assert_int_eq(st.st_mode & 07777, 0640);
    model_revert(m, "two");
    model_verify(m);
    ck_works(stat(active_path(w, "web", "vda"), &st));
    ck_assert_uint_eq(st.st_uid, USER);
}
END_TEST

/* The user of a directory may put a symlink where our file would go: it is not followed. */
START_TEST(planted_links_are_not_followed)
{
    g_autoptr(World) w = world_new(NULL);
    const char *victim = in_dir(w, "victim");
    ck_assert(g_file_set_contents(victim, "untouched", -1, NULL));
    machine(w, "web", "vda:qcow2:external");
    ck_works(symlink(victim, image(w, "web-vda.one")));
    ck_works(symlink(in_dir(w, "absent"), image(w, "web-vda.two")));
    run_ok(w, "mkdir", "web/one", "web/two");
    g_autofree char *text = NULL;
    ck_assert(g_file_get_contents(victim, &text, NULL, NULL));
    ck_assert_str_eq(text, "untouched");
    ck_assert(!g_file_test(in_dir(w, "absent"), G_FILE_TEST_EXISTS));
    ck_assert_int_ne(
        put(w, "web/ctl", keepf(w, "create x --diskspec vda,file=%s\n", image(w, "web-vda.two"))), 0);
}
END_TEST

/* A mount of their own through fusermount3, with everything in their own directory. */
START_TEST(a_normal_user)
{
    g_autoptr(World) w = world_new_idle();
    const char *home = in_dir(w, "home"), *program = in_dir(w, "home/domsnapfs");
    ck_works(mkdir(home, 0755));
    run_ok(w, "cp", w->program, program);
    ck_works(chmod(program, 0755));
    run_ok(w, "cp", "-p", make_image(w, "disk.qcow2", "qcow2"), in_dir(w, "home/disk.qcow2"));
    const char *xml =
        keepf(w,
              "<domain type=\"kvm\"><name>web</name><memory>1</memory><os><type>hvm</type></os><devices>"
              "<disk type=\"file\" device=\"disk\"><driver name=\"qemu\" type=\"qcow2\"/>"
              "<source file=\"%s/disk.qcow2\"/><target dev=\"vda\"/></disk></devices></domain>",
              home);
    ck_assert(g_file_set_contents(in_dir(w, "home/web.xml"), xml, -1, NULL));
    run_ok(w, "chown", "-R", "65534:65534", home);
    const char *script =
        keepf(w,
              "export HOME=%s; unset XDG_STATE_HOME; cd %s; mkdir vm; fail() { fusermount3 -uz vm; exit 1; };"
              "./domsnapfs vm || exit 1;"
              "cp web.xml vm/ctl || fail; mkdir vm/web/one || fail;"
              "echo create two --diskspec vda,snapshot=external > vm/web/ctl || fail;"
              "ln -sfn one vm/web/current || fail; test \"$(readlink vm/web/current)\" = one || fail;"
              "qemu-img info --backing-chain -f qcow2 vm/web/two/vda.qcow2 >/dev/null || fail;"
              "rmdir vm/web/one vm/web/two vm/web || fail; ls vm;"
              "fusermount3 -u vm || fail; test -d .local/state/domsnapfs || exit 2",
              home, home);
    /* Debian's udev opens /dev/fuse to everybody; where no udev is, in a namespace of its own, the test does. */
    struct stat device;
    ck_works(stat("/dev/fuse", &device));
    const char *user = as_user(w, USER, script);
    Ran result = (device.st_mode & 0006) == 0006
                     ? ran_sh(w, user)
                     : ran(w, "unshare", "-m", "--propagation", "private", "sh", "-c",
                           keepf(w,
                                 "mkdir dev && mount -t tmpfs dev dev && mknod -m 666 dev/fuse c 10 229 &&"
                                 "mount --bind dev/fuse /dev/fuse && %s",
                                 user),
                           NULL);
    ck_assert_msg(result.rc == 0, "exit %d: %s %s", result.rc, result.out, result.err);
    ck_assert_str_eq(result.out, "ctl\njobs\nlog\n");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("users");
    if (geteuid() != 0)
        return s;
    TCase *users = add_case(s, "users");
    tcase_add_test(users, strangers_are_kept_out);
    tcase_add_test(users, nobody_enters_without_allow_other);
    tcase_add_test(users, a_group_may_work);
    tcase_add_test(users, a_normal_user);
    TCase *images = add_case(s, "images");
    tcase_add_test(images, images_keep_their_owner);
    tcase_add_test(images, planted_links_are_not_followed);
    return s;
}

int main(void)
{
    return mount_main(suite());
}
