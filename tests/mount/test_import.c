/* SPDX-License-Identifier: GPL-2.0-or-later */
/* libvirt's machines in the mount: imported and read-only, ours when libvirt has let go, or shown where they are. */
#include <glib/gstdio.h>
#include <signal.h>
#include <unistd.h>

#include "libvirt_host.h"
#include "machine.h"

typedef struct {
    LibvirtHost *host;
    LibvirtMachine *web;
} Libvirt;

/* A host with the machine "web": s1 internal, s2 external; vda and vdb hold 1 at s1, 2 at s2, 3 now. */
static Libvirt libvirt_new(const World *w)
{
    Libvirt libvirt = {.host = libvirt_host_new(in_dir(w, "host"))};
    const char *a = make_image(w, "a.qcow2", "qcow2");
    const char *b = make_image(w, "b.qcow2", "qcow2");
    libvirt.web = libvirt_machine_new(libvirt.host, "web", a, b, NULL);
    for (guint8 i = 1; i <= 3; i++) {
        for (guint disk = 0; disk < 2; disk++)
            image_write(w, libvirt.web->disks[disk], "qcow2", i, 0, 65536);
        if (i < 3)
            libvirt_machine_snapshot(libvirt.web, i == 1 ? "s1" : "s2", i == 1 ? "ii" : "ee");
    }
    return libvirt;
}

static void libvirt_clear(Libvirt *libvirt)
{
    libvirt_machine_free(libvirt->web);
    libvirt_host_free(libvirt->host);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Libvirt, libvirt_clear)

static Ran import(const World *w, const char *dir)
{
    return ran(w, w->program, "--import-libvirt", dir, w->store, NULL);
}

static void import_all(const World *w, const Libvirt *libvirt)
{
    Ran result = import(w, libvirt->host->root);
    ck_assert_msg(result.rc == 0, "%d: %s", result.rc, result.err);
    ck_assert_str_eq(result.out, "web: 2 snapshots, current 's2'\n");
    ck_assert_str_eq(result.err, "");
}

/* libvirt's files and the images: names, modes, sizes, times, contents. */
static const char *untouchable(const World *w)
{
    return sh_ok(w, keepf(w,
                          "cd '%s' && find host images -printf '%%p %%m %%s %%T@ %%C@\\n' | sort && "
                          "find host images -type f -exec sha256sum {} + | sort",
                          w->dir));
}

/* What the image or the state begins with, and that the rest is zero. @file: in the mount, or a path. */
static void expect_byte(const World *w, const char *file, guint8 byte)
{
    const char *raw = in_dir(w, "content.raw");
    g_autofree char *data = NULL;
    gsize len;
    run_ok(w, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", file, raw);
    ck_assert(g_file_get_contents(raw, &data, &len, NULL));
    ck_assert_uint_eq(len, DISK_SIZE);
    g_autofree char *expected = g_malloc0(len);
    memset(expected, byte, 65536);
    ck_assert_msg(memcmp(data, expected, len) == 0, "%s: not %u, it begins with %u", file, byte,
                  (guint8)data[0]);
}

static void expect_changes_refused(const World *w, int code)
{
    ck_errno(g_mkdir(at(w, "web/new"), 0755), code);
    ck_errno(g_rmdir(at(w, "web/s1")), code);
    ck_errno(g_rename(at(w, "web/s1"), at(w, "web/other")), code);
    ck_errno(g_rename(at(w, "web"), at(w, "other")), code);
    ck_assert_int_eq(put(w, "web/s1/description", "text\n"), code);
    command_fails(w, "web", code, "revert s1");
    command_fails(w, "web", code, "delete s1 --metadata");
    ck_assert_int_eq(put(w, "web/domain.xml", text_of(w, "web/domain.xml")), code);
    ck_assert_int_eq(put(w, "web/s2/snapshot.xml", text_of(w, "web/s2/snapshot.xml")), code);
}

START_TEST(read_only_while_defined)
{
    g_autoptr(World) w = world_new_idle();
    g_auto(Libvirt) libvirt = libvirt_new(w);
    const char *before = untouchable(w);
    import_all(w, &libvirt);
    world_start(w, NULL);
    ck_assert_str_eq(names_in(w, "web"), "active ctl current domain.xml log s1 s2 state tree usage");
    ck_assert_str_eq(link_of(w, "web/current"), "s2");
    ck_assert_str_eq(link_of(w, "web/s2/parent"), "../s1");
    expect_byte(w, at(w, "web/s2/vda.qcow2"), 2);
    expect_byte(w, at(w, "web/active/vdb.qcow2"), 3);
    g_autofree char *dump = libvirt_machine_dump(libvirt.web, "s2");
    ck_assert_str_eq(text_of(w, "web/s2/snapshot.xml"), dump);
    const char *sentence = keepf(w,
                                 "read-only: libvirt defines it ('%s/web.xml'): first, there, virsh undefine "
                                 "--snapshots-metadata 'web'\n",
                                 libvirt.host->definitions);
    ck_has(text_of(w, "web/tree"), sentence);
    ck_has(text_of(w, "web/log"), sentence);
    expect_changes_refused(w, EROFS);
    ck_has(text_of(w, "web/log"), "FAILED create 'new': domain 'web' is read-only: libvirt defines it");
    ck_errno(g_rmdir(at(w, "web")), ENOTEMPTY);
    command(w, "", "undefine web --snapshots-metadata");
    ck_assert(!exists(w, "web"));
    ck_assert_str_eq(untouchable(w), before);
}
END_TEST

/* Each state read, gone back to, and every old one still there. */
static void expect_ours(const World *w)
{
    ck_works(g_mkdir(at(w, "web/mine"), 0755));
    ck_has_not(text_of(w, "web/tree"), "read-only");
    command(w, "web", "revert s1");
    expect_byte(w, active_path(w, "web", "vda"), 1);
    expect_byte(w, active_path(w, "web", "vdb"), 1);
    image_write(w, active_path(w, "web", "vda"), "qcow2", 77, 0, 65536);
    command(w, "web", "revert s2");
    expect_byte(w, active_path(w, "web", "vda"), 2);
    image_write(w, active_path(w, "web", "vda"), "qcow2", 78, 0, 65536);
    command(w, "web", "revert mine");
    expect_byte(w, active_path(w, "web", "vdb"), 3);
    expect_byte(w, at(w, "web/s2/vda.qcow2"), 2);
    ck_works(g_rmdir(at(w, "web/mine")));
    ck_works(g_rmdir(at(w, "web/s1")));
    expect_byte(w, at(w, "web/s2/vdb.qcow2"), 2);
}

START_TEST(ours_when_undefined)
{
    g_autoptr(World) w = world_new_idle();
    g_auto(Libvirt) libvirt = libvirt_new(w);
    import_all(w, &libvirt);
    if (_i == 0) { /* while it is mounted, or not */
        world_start(w, NULL);
        ck_errno(g_mkdir(at(w, "web/new"), 0755), EROFS);
        libvirt_machine_undefine(libvirt.web);
    } else {
        libvirt_machine_undefine(libvirt.web);
        world_start(w, NULL);
    }
    expect_ours(w);
    ck_has(text_of(w, "web/log"), " adopted: libvirt does not define it any more\n");
    world_stop(w);
    world_start(w, NULL);
    expect_byte(w, at(w, "web/s2/vda.qcow2"), 2);
    ck_works(g_mkdir(at(w, "web/later"), 0755));
}
END_TEST

/* libvirt took another snapshot after the import: what it stands on is not ours to write. */
START_TEST(not_what_was_imported)
{
    g_autoptr(World) w = world_new_idle();
    g_auto(Libvirt) libvirt = libvirt_new(w);
    import_all(w, &libvirt);
    libvirt_machine_snapshot(libvirt.web, "s3", "ee");
    image_write(w, libvirt.web->disks[0], "qcow2", 4, 0, 65536);
    libvirt_machine_undefine(libvirt.web);
    world_start(w, NULL);
    ck_has(text_of(w, "web/tree"), "a.s3', which was not imported, stands on '");
    expect_changes_refused(w, EROFS);
    expect_byte(w, libvirt.web->disks[0], 4);
    command(w, "", "undefine web --snapshots-metadata");
    expect_byte(w, libvirt.web->disks[0], 4);
}
END_TEST

START_TEST(exit_codes)
{
    g_autoptr(World) w = world_new_idle();
    g_auto(Libvirt) libvirt = libvirt_new(w);
    const char *help = run_ok(w, w->program, "--help");
    ck_has(help, "--import-libvirt");
    ck_has(help, "libvirt[=DIR]");
    Ran result = import(w, in_dir(w, "nowhere"));
    ck_assert_int_eq(result.rc, 2);
    ck_has(result.err, "nowhere' with libvirt's definitions\n");
    result = ran(w, w->program, "--import-libvirt", "a", "b", "c", NULL);
    ck_assert_int_eq(result.rc, 1);
    libvirt_machine_put(libvirt.web, "bad.xml", "<domainsnapshot/>");
    result = import(w, libvirt.host->root);
    ck_assert_int_eq(result.rc, 4);
    ck_assert_str_eq(result.out, "web: 2 snapshots, current 's2'\n");
    ck_has(result.err, "domsnapfs: web: '");
    ck_has(result.err, "/bad.xml': ");
    ck_has(result.err, ": skipped\n");
    world_start(w, NULL);
    result = import(w, libvirt.host->root);
    ck_assert_int_eq(result.rc, 2);
    ck_has(result.err, "is in use by process ");
    ck_assert_str_eq(names_in(w, "web"), "active ctl current domain.xml log s1 s2 state tree usage");
}
END_TEST

/* A template in another directory: allowed as for a definition. */
START_TEST(backing_directories)
{
    g_autoptr(World) w = world_new_idle();
    g_auto(Libvirt) libvirt = libvirt_new(w);
    const char *templates = in_dir(w, "templates");
    ck_works(g_mkdir(templates, 0755));
    const char *base = in_dir(w, "templates/base.qcow2");
    run_ok(w, "qemu-img", "create", "-q", "-f", "qcow2", base, "1M");
    run_ok(w, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, image(w, "top.qcow2"));
    g_autoptr(LibvirtMachine) top = libvirt_machine_new(libvirt.host, "top", image(w, "top.qcow2"), NULL);
    Ran result = import(w, libvirt.host->root);
    ck_assert_int_eq(result.rc, 4);
    ck_has(result.err, "top: disk 'vda': ");
    ck_has(result.err, "-o backing=DIR");
    const char *option = keepf(w, "backing=%s", templates);
    result = ran(w, w->program, "-o", option, "--import-libvirt", libvirt.host->root, w->store, NULL);
    ck_assert_int_eq(result.rc, 0);
    ck_assert_str_eq(result.out, "top: no snapshots\nweb: 2 snapshots, current 's2'\n");
}
END_TEST

/* --- in place --- */

/* The directory of the store behind the mount. */
static const char *view_of(const World *w)
{
    g_autofree char *mounts = NULL;
    ck_assert(g_file_get_contents("/proc/self/mounts", &mounts, NULL, NULL));
    g_auto(GStrv) lines = g_strsplit(mounts, "\n", -1);
    for (guint i = 0; lines[i] != NULL; i++) {
        g_auto(GStrv) words = g_strsplit(lines[i], " ", 3);
        if (g_strv_length(words) > 1 && strcmp(words[1], w->mnt) == 0)
            return keep(w, words[0]);
    }
    ck_abort_msg("it is not mounted");
}

/* "none" is no STORE, as in fstab(5). */
static void start_view(World *w, const char *options)
{
    g_free(w->store);
    w->store = g_strdup("none");
    world_start(w, options);
}

START_TEST(in_place)
{
    g_autoptr(World) w = world_new_idle();
    g_auto(Libvirt) libvirt = libvirt_new(w);
    g_free(libvirt.web->extra);
    libvirt.web->extra = g_strdup("    <graphics type='vnc' passwd='hidden'/>\n");
    libvirt_machine_define(libvirt.web);
    libvirt_machine_put(libvirt.web, "bad", "<domainsnapshot/>");
    const char *before = untouchable(w);
    const char *options = keepf(w, "ro,libvirt=%s", libvirt.host->root);
    start_view(w, options);
    const char *view = view_of(w);
    struct stat st;
    ck_works(stat(view, &st));
    ck_assert_uint_eq(st.st_mode & 07777, 0700);
    ck_assert_str_eq(names_in(w, "web"), "active ctl current domain.xml log s1 s2 state tree usage");
    expect_byte(w, at(w, "web/s2/vda.qcow2"), 2);
    expect_byte(w, at(w, "web/active/vda.qcow2"), 3);
    ck_has(text_of(w, "web/domain.xml"), "<graphics type='vnc'/>");
    ck_has(text_of(w, "web/log"), "/bad': line 1: ");
    ck_errno(g_mkdir(at(w, "web/new"), 0755), EROFS);
    ck_errno(g_rmdir(at(w, "web")), EROFS);
    world_stop(w);
    ck_assert(!g_file_test(view, G_FILE_TEST_EXISTS));
    ck_assert_str_eq(untouchable(w), before);
    ck_assert(!g_file_test(in_dir(w, "store"), G_FILE_TEST_EXISTS));
}
END_TEST

/* What a killed one leaves goes at the next start; what a living one has does not. */
START_TEST(views_of_the_dead)
{
    g_autoptr(World) w = world_new_idle();
    g_autoptr(World) other = world_new_idle();
    g_auto(Libvirt) libvirt = libvirt_new(w);
    const char *options = keepf(w, "ro,libvirt=%s", libvirt.host->root);
    start_view(w, options);
    start_view(other, options);
    const char *view = view_of(w);
    const char *living = view_of(other);
    ck_assert_str_ne(view, living);
    world_kill(w);
    ck_assert(g_file_test(view, G_FILE_TEST_IS_DIR));
    world_start(w, options);
    ck_assert(!g_file_test(view, G_FILE_TEST_EXISTS));
    ck_assert(g_file_test(living, G_FILE_TEST_IS_DIR));
    expect_byte(w, at(w, "web/s2/vda.qcow2"), 2);
    expect_byte(other, at(other, "web/s2/vda.qcow2"), 2);
}
END_TEST

START_TEST(view_options)
{
    static const struct {
        const char *options;
        gboolean store;
        int code;
        const char *text;
    } bad[] = {
        {"libvirt", FALSE, 1, "needs ro"},
        {"ro,libvirt,rw", FALSE, 1, "needs ro"},
        {"ro,libvirt", TRUE, 1, "there is no STORE: leave out '"},
        {"ro,libvirt=/nowhere/at/all", FALSE, 2, "no directory '/nowhere/at/all'"},
    };
    g_autoptr(World) w = world_new_idle();
    g_autofree char *store = g_strdup(w->store);
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        const char *log;
        g_free(w->store);
        w->store = g_strdup(bad[i].store ? store : "none");
        ck_assert_int_eq(world_start_fails(w, bad[i].options, &log), bad[i].code);
        ck_has(log, bad[i].text);
    }
    ck_assert(!g_file_test(store, G_FILE_TEST_EXISTS));
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("import");
    TCase *tcase = add_case(suite, "import");
    tcase_add_test(tcase, read_only_while_defined);
    tcase_add_loop_test(tcase, ours_when_undefined, 0, 2);
    tcase_add_test(tcase, not_what_was_imported);
    tcase_add_test(tcase, exit_codes);
    tcase_add_test(tcase, backing_directories);
    TCase *view = add_case(suite, "in place");
    tcase_add_test(view, in_place);
    tcase_add_test(view, views_of_the_dead);
    tcase_add_test(view, view_options);
    return suite;
}

int main(void)
{
    return mount_main(suite());
}
