/* SPDX-License-Identifier: GPL-2.0-or-later */
/* With a real libvirt: its machines imported from its own directories, shown in place, taken over; ours told to virsh. */
#include <glib/gstdio.h>
#include <unistd.h>

#include "machine.h"
#include "virt.h"

#define VIRT_HOME "DOMSNAPFS_TEST_LIBVIRT" /* the directory that libvirtd keeps all in (virt.c) */
#define NOBODY "65534"

/* What libvirtd's user calls its configuration. */
static const char *config(const World *w)
{
    return keepf(w, "%s/config/libvirt", g_getenv(VIRT_HOME));
}

/* An image of libvirtd's user, in a directory in which he may make more. */
static const char *their_image(const World *w, const char *name)
{
    const char *path = make_image(w, name, "qcow2");
    virt_own(path);
    virt_own(w->images);
    return path;
}

static void guest_writes(const World *w, const char *path, guint8 byte)
{
    image_write(w, path, "qcow2", byte, 0, 65536);
}

/* Where the disk is by what libvirt says. */
static const char *their_disk(const World *w, const char *target)
{
    const char *xml = virsh_ok(w, "dumpxml", "--inactive", "web");
    return xpath(w, xml, keepf(w, "//disk[target/@dev='%s']/source/@file", target));
}

/* libvirt's machine "web": s1 internal, "two words" and -s3 external, s4 internal; vda holds 1, 2, 3, 4, and 5 now. */
static const char *const names[] = {"s1", "two words", "-s3", "s4"};

static void make_theirs(const World *w)
{
    const char *xml =
        keepf(w,
              "<domain type='qemu'><name>web</name><memory unit='KiB'>65536</memory><os><type "
              "arch='x86_64' machine='pc'>hvm</type></os><devices><disk type='file' device='disk'>"
              "<driver name='qemu' type='qcow2'/><source file='%s'/><target dev='vda' bus='virtio'/></disk>"
              "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='%s'/>"
              "<target dev='vdb' bus='virtio'/></disk><graphics type='vnc' passwd='secret'/></devices>"
              "</domain>",
              their_image(w, "a.qcow2"), their_image(w, "b.qcow2"));
    const char *file = in_dir(w, "web.xml");
    ck_assert(g_file_set_contents(file, xml, -1, NULL));
    ck_works(chmod(w->dir, 0755));
    virsh_ok(w, "define", file);
    for (guint8 i = 0; i < G_N_ELEMENTS(names); i++) {
        const char *name = keepf(w, "--name=%s", names[i]);
        guest_writes(w, their_disk(w, "vda"), i + 1);
        if (i == 0 || i == 3)
            virsh_ok(w, "snapshot-create-as", "web", name, "--description=<it> & more");
        else
            virsh_ok(w, "snapshot-create-as", "web", name, "--disk-only");
    }
    guest_writes(w, their_disk(w, "vda"), 5);
}

static void undefine_theirs(const World *w)
{
    virsh_ok(w, "undefine", "web", "--snapshots-metadata");
}

/* The same documents, the same tree, the same current one. */
static void expect_theirs(const World *w)
{
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        const char *theirs = virsh_ok(w, "snapshot-dumpxml", "web", "--security-info",
                                      keepf(w, "--snapshotname=%s", names[i]));
        g_autofree char *is = g_strchomp(g_strdup(text_of(w, keepf(w, "web/%s/snapshot.xml", names[i]))));
        g_autofree char *should = g_strchomp(g_strdup(theirs));
        ck_assert_str_eq(is, should);
    }
    ck_assert_str_eq(link_of(w, "web/current"), "s4");
    ck_assert_str_eq(link_of(w, "web/-s3/parent"), "../two words");
}

static void import(const World *w)
{
    Ran result = ran(w, w->program, "--import-libvirt", config(w), w->store, NULL);
    ck_assert_msg(result.rc == 0, "%d: %s", result.rc, result.err);
    ck_assert_str_eq(result.out, "web: 4 snapshots, current 's4'\n");
}

static const char *untouchable(const World *w)
{
    return sh_ok(w, keepf(w,
                          "find '%s/qemu' '%s' -printf '%%p %%m %%U %%s %%T@ %%C@\\n' | sort && "
                          "find '%s/qemu' '%s' -type f -exec sha256sum {} + | sort",
                          config(w), w->images, config(w), w->images));
}

static void expect_byte(const World *w, const char *file, guint8 byte)
{
    const char *raw = in_dir(w, "content.raw");
    g_autofree char *data = NULL;
    gsize len;
    run_ok(w, "qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", file, raw);
    ck_assert(g_file_get_contents(raw, &data, &len, NULL));
    ck_assert_msg((guint8)data[0] == byte, "%s begins with %u, not with %u", file, (guint8)data[0], byte);
}

START_TEST(imported)
{
    g_autoptr(World) w = world_new_idle();
    make_theirs(w);
    const char *before = untouchable(w);
    import(w);
    world_start(w, NULL);
    expect_theirs(w);
    expect_byte(w, at(w, "web/two words/vda.qcow2"), 2);
    expect_byte(w, at(w, "web/-s3/vda.qcow2"), 3);
    ck_errno(g_mkdir(at(w, "web/new"), 0755), EROFS);
    ck_assert_str_eq(untouchable(w), before);
    undefine_theirs(w);
    for (guint8 i = 0; i < G_N_ELEMENTS(names); i++) {
        command(w, "web", "revert '%s'", names[i]);
        expect_byte(w, active_path(w, "web", "vda"), i + 1);
        guest_writes(w, active_path(w, "web", "vda"), 99);
    }
    expect_byte(w, at(w, "web/-s3/vda.qcow2"), 3);
    ck_works(g_rmdir(at(w, "web/s1")));
    ck_works(g_mkdir(at(w, "web/ours"), 0755));
}
END_TEST

START_TEST(in_place)
{
    g_autoptr(World) w = world_new_idle();
    make_theirs(w);
    const char *before = untouchable(w);
    g_free(w->store);
    w->store = g_strdup("none");
    world_start(w, keepf(w, "ro,libvirt=%s", config(w)));
    ck_assert_str_eq(link_of(w, "web/current"), "s4");
    expect_byte(w, at(w, "web/two words/vda.qcow2"), 2);
    ck_has_not(text_of(w, "web/s1/snapshot.xml"), "secret");
    world_stop(w);
    ck_assert_str_eq(untouchable(w), before);
    undefine_theirs(w);
}
END_TEST

/* libvirt goes on after the import, deleting and taking: nothing is adopted that is not what was imported. */
START_TEST(libvirt_went_on)
{
    g_autoptr(World) w = world_new_idle();
    make_theirs(w);
    import(w);
    virsh_ok(w, "snapshot-create-as", "web", "more", "--disk-only");
    guest_writes(w, their_disk(w, "vda"), 6);
    const char *newest = their_disk(w, "vda");
    undefine_theirs(w);
    world_start(w, NULL);
    ck_errno(g_mkdir(at(w, "web/new"), 0755), EROFS);
    ck_has(text_of(w, "web/tree"), "a.more', which was not imported, stands on '");
    expect_byte(w, newest, 6);
}
END_TEST

/* A user's own session, without saying where. */
START_TEST(session)
{
    g_autoptr(World) w = world_new_idle();
    make_theirs(w);
    ck_works(g_mkdir(in_dir(w, "theirs"), 0700));
    virt_own(in_dir(w, "theirs"));
    const char *setting = keepf(w, "XDG_CONFIG_HOME=%s/config", g_getenv(VIRT_HOME));
    const char *store = in_dir(w, "theirs/store");
    Ran result = geteuid() == 0 ? ran(w, "setpriv", "--reuid=" NOBODY, "--regid=" NOBODY, "--clear-groups",
                                      "--", "env", setting, w->program, "--import-libvirt", "", store, NULL)
                                : ran(w, "env", setting, w->program, "--import-libvirt", "", store, NULL);
    ck_assert_msg(result.rc == 0, "%d: %s", result.rc, result.err);
    ck_assert_str_eq(result.out, "web: 4 snapshots, current 's4'\n");
    undefine_theirs(w);
}
END_TEST

/* The script, as libvirtd's user. */
static Ran to_virsh(const World *w)
{
    const char *home = g_getenv(VIRT_HOME);
    const char *script = keepf(w, "%s/to-virsh.sh", g_getenv("EXAMPLES"));
    const char *env =
        keepf(w,
              "HOME=%s/home XDG_CONFIG_HOME=%s/config XDG_CACHE_HOME=%s/cache XDG_DATA_HOME=%s/data "
              "XDG_RUNTIME_DIR=%s/run LIBVIRT_AUTOSTART=0",
              home, home, home, home, home);
    const char *user =
        geteuid() == 0 ? "setpriv --reuid=" NOBODY " --regid=" NOBODY " --clear-groups --" : "";
    return ran_sh(w, keepf(w, "cd / && exec %s env %s sh '%s' '%s' -q -c qemu:///session", user, env, script,
                           at(w, "web")));
}

START_TEST(to_libvirt)
{
    g_autoptr(World) w = world_new(geteuid() == 0 ? "allow_other,umask=0,uid=" NOBODY : NULL);
    const char *xml =
        keepf(w,
              "<domain type='qemu'><name>web</name><memory unit='KiB'>65536</memory><os><type "
              "arch='x86_64' machine='pc'>hvm</type></os><devices><disk type='file' device='disk'>"
              "<driver name='qemu' type='qcow2'/><source file='%s'/><target dev='vda' bus='virtio'/></disk>"
              "</devices></domain>",
              their_image(w, "a,b.qcow2"));
    ck_works(chmod(w->dir, 0755));
    ck_assert_int_eq(put(w, "ctl", xml), 0);
    ck_works(g_mkdir(at(w, "web/it's \"1\" & \xc3\xbc"), 0755));
    ck_works(g_mkdir(at(w, "web/50%%25"), 0755));
    command(w, "web", "create '-dash' --diskspec vda,snapshot=external");
    ck_works(g_mkdir(at(w, "web/inside"), 0755));
    command(w, "web", "revert '50%%'");
    for (guint i = 0; i < 2; i++) { /* again does no harm */
        Ran result = to_virsh(w);
        ck_assert_msg(result.rc == 0, "%d: %s", result.rc, result.err);
        const char *tree = virsh_ok(w, "snapshot-list", "web", "--tree");
        ck_has(tree, "it's \"1\" & \xc3\xbc\n  |\n  +- 50%\n");
        ck_has(tree, "+- -dash\n");
        ck_has(virsh_ok(w, "snapshot-current", "web", "--name"), "50%");
    }
    const char *theirs = virsh_ok(w, "snapshot-dumpxml", "web", "--snapshotname=-dash");
    const char *ours = text_of(w, "web/-dash/snapshot.xml");
    ck_assert_str_eq(xpath(w, theirs, "//disks/disk/source/@file"),
                     xpath(w, ours, "//disks/disk/source/@file"));
    ck_assert_str_eq(xpath(w, theirs, "//parent/name"), "50%");
    virsh_ok(w, "snapshot-revert", "web", "inside"); /* they are states there too */
    undefine_theirs(w);
    /* a renamed one: its tag is called as before */
    ck_works(g_rename(at(w, "web/50%%25"), at(w, "web/renamed")));
    Ran result = to_virsh(w);
    ck_assert_int_eq(result.rc, 3);
    ck_has(result.err, "to-virsh.sh: snapshot 'renamed': disk 'vda': '");
    ck_has(result.err, "has no internal snapshot of that name\n");
    ck_has_not(result.err, "it's");
    /* another definition there */
    command(w, "web", "revert '-dash'");
    result = to_virsh(w);
    ck_assert_int_eq(result.rc, 1);
    ck_has(result.err, "it is defined there with other images");
    undefine_theirs(w);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("oracle_import");
    TCase *tcase = add_case(suite, "import");
    tcase_add_test(tcase, imported);
    tcase_add_test(tcase, in_place);
    tcase_add_test(tcase, libvirt_went_on);
    tcase_add_test(tcase, session);
    tcase_add_test(tcase, to_libvirt);
    return suite;
}

int main(void)
{
    return virt_main(suite);
}
