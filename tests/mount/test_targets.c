/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where create puts overlays, and two of its options, by what people type: devices, exports, prepared overlays. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "machine.h"

enum { DEVICE_SIZE = 8 * 1024 * 1024 };

static World *web(const char *disks)
{
    World *w = world_new(NULL);
    machine(w, "web", disks);
    image_write(w, image(w, "web-vda.qcow2"), "qcow2", 1, 0, 65536);
    return w;
}

/* The hash of what a guest would read of @path. */
static const char *content(const World *w, const char *path, const char *format)
{
    run_ok(w, "qemu-img", "convert", "-f", format, "-O", "raw", path, in_dir(w, "content"));
    return hash_of(w, in_dir(w, "content"));
}

static void assert_same(const char *a, const char *b)
{
    ck_assert_str_eq(a, b);
}

/* --- loop devices --- */

static gboolean no_loops(void)
{
    if (geteuid() == 0 && access("/dev/loop-control", F_OK) == 0)
        return FALSE;
    printf("# not tried: no loop devices here\n");
    return TRUE;
}

static const char *attach(const World *w, const char *file)
{
    const char *path = image(w, file);
    run_ok(w, "truncate", "-s", keepf(w, "%d", DEVICE_SIZE), path);
    g_autofree char *name = g_strdup(run_ok(w, "losetup", "--find", "--show", path));
    return keep(w, g_strchomp(name));
}

/* Those of this program's worlds, also after a test that failed. */
static void detach_all(void)
{
    g_autofree char *prefix = world_prefix();
    g_autofree char *all = NULL;
    if (!g_spawn_command_line_sync("losetup --list --noheadings --output NAME,BACK-FILE", &all, NULL, NULL,
                                   NULL))
        return;
    g_auto(GStrv) lines = g_strsplit(all, "\n", -1);
    for (guint i = 0; lines[i] != NULL; i++) {
        g_autofree char *name = g_strndup(lines[i], strcspn(lines[i], " "));
        const char *argv[] = {"losetup", "--detach", name, NULL};
        if (strstr(lines[i], prefix) != NULL)
            g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
    }
}

START_TEST(an_overlay_on_a_device)
{
    if (no_loops())
        return;
    g_autoptr(World) w = web("vda:qcow2 vdb:raw");
    const char *device = attach(w, "device");
    const char *before = content(w, image(w, "web-vda.qcow2"), "qcow2");
    /* the type must be said; what is there is not overwritten */
    command_fails(w, "web", EINVAL, "create one --diskspec vda,file=%s --diskspec vdb,snapshot=no", device);
    ck_has(text_of(w, "web/log"), "is a block device, not of type 'file'");
    run_ok(w, "mkfs.ext4", "-q", device);
    const char *made = hash_of(w, device);
    command_fails(w, "web", EEXIST,
                  "create one --diskspec vda,stype=block,file=%s --diskspec vdb,snapshot=no", device);
    ck_has(text_of(w, "web/log"),
           "is not blank: there is something in its first 1 MiB, and nothing is ever overwritten");
    assert_same(hash_of(w, device), made);
    /* the sentence says how */
    run_ok(w, "dd", "if=/dev/zero", keepf(w, "of=%s", device), "bs=1M", "count=1", "conv=fsync",
           "status=none");
    command(w, "web", "create one --diskspec vda,stype=block,file=%s --diskspec vdb,snapshot=no", device);
    assert_same(active_path(w, "web", "vda"), device);
    assert_same(content(w, device, "qcow2"), before);
    ck_has(text_of(w, "web/one/snapshot.xml"), keepf(w, "<source dev='%s'/>", device));

    /* the mount shows it like a file */
    struct stat st = stat_of(w, "web/active/vda.qcow2");
    ck_assert_int_eq(st.st_size, DEVICE_SIZE);
    ck_assert_int_eq(st.st_blocks, DEVICE_SIZE / 512);
    ck_has(run_ok(w, "ls", "-l", "web/active/vda.qcow2"), keepf(w, " %d ", DEVICE_SIZE));
    run_ok(w, "cmp", device, "web/active/vda.qcow2");
    ck_has(run_ok(w, "qemu-img", "info", "--backing-chain", "web/active/vda.qcow2"), "web-vda.qcow2");
    assert_same(content(w, at(w, "web/active/vda.qcow2"), "qcow2"), before);

    /* a state in it, and back; one on top of it, and back */
    image_write(w, device, "qcow2", 2, 0, 65536);
    const char *second = content(w, device, "qcow2");
    command(w, "web", "create two --diskspec vdb,snapshot=no");
    image_write(w, device, "qcow2", 3, 0, 65536);
    run_ok(w, "ln", "-sfn", "two", "web/current");
    assert_same(content(w, device, "qcow2"), second);
    command_fails(w, "web", EOPNOTSUPP,
                  "create three --diskspec vda,snapshot=external --diskspec vdb,snapshot=no");
    ck_has(text_of(w, "web/log"), "disk 'vda' is a block device: say where its overlay goes");
    command(w, "web", "create three --diskspec vda,file=%s --diskspec vdb,snapshot=no", image(w, "over"));
    run_ok(w, "cmp", device, "web/three/vda.qcow2");
    world_stop(w);
    world_start(w, NULL);
    ck_assert_int_eq(stat_of(w, "web/three/vda.qcow2").st_size, DEVICE_SIZE);
    assert_same(content(w, at(w, "web/three/vda.qcow2"), "qcow2"), second);
    run_ok(w, "ln", "-sfn", "one", "web/current");
    assert_same(content(w, active_path(w, "web", "vda"), "qcow2"), before);
    run_ok(w, "ln", "-sfn", "three", "web/current");
    assert_same(content(w, active_path(w, "web", "vda"), "qcow2"), second);
    run_ok(w, "rmdir", "web/two");
    assert_same(tags_of(w, device), "");
    assert_same(content(w, active_path(w, "web", "vda"), "qcow2"), second);
}
END_TEST

/* A machine with a disk that is a device: mkdir where it can, and a sentence where it cannot. */
START_TEST(a_disk_that_is_a_device)
{
    if (no_loops())
        return;
    g_autoptr(World) w = world_new(NULL);
    const char *device = attach(w, "device");
    const char *const formats[] = {"raw", "qcow2"};
    for (guint i = 0; i < 2; i++) {
        const char *name = formats[i];
        if (i == 1)
            run_ok(w, "qemu-img", "create", "-q", "-f", "qcow2", device, "1M");
        ck_assert_int_eq(
            put(w, "ctl",
                keepf(w,
                      "<domain type='kvm'><name>%s</name><memory>1</memory><os><type>hvm</type></os>"
                      "<devices><disk type='block' device='disk'><driver name='qemu' type='%s'/>"
                      "<source dev='%s'/><target dev='vda'/></disk></devices></domain>",
                      name, name, device)),
            0);
        struct stat st = stat_of(w, keepf(w, "%s/active/vda.%s", name, name));
        ck_assert_int_eq(st.st_size, DEVICE_SIZE);
        if (i == 0)
            ck_errno(mkdir(at(w, "raw/one"), 0755), EOPNOTSUPP);
        else
            ck_works(mkdir(at(w, "qcow2/one"), 0755));
        if (i == 0) {
            ck_has(text_of(w, "raw/log"), "disk 'vda' is a block device: say where its overlay goes");
            ck_works(rmdir(at(w, "raw")));
        }
    }
    assert_same(tags_of(w, device), "one");
}
END_TEST

/* --- an NBD export --- */

START_TEST(an_overlay_on_an_export)
{
    g_autoptr(World) w = web("vda:qcow2 vdb:raw");
    const char *socket = in_dir(w, "nbd.sock");
    const char *uri = keepf(w, "nbd+unix:///exp?socket=%s", socket);
    run_ok(w, "truncate", "-s", "4M", in_dir(w, "export"));
    const char *argv[] = {"qemu-nbd",          "-t", "-e", "4", "-f", "raw", "-x", "exp", "-k", socket,
                          in_dir(w, "export"), NULL};
    int in;
    pid_t server = background(w, argv, &in);
    ck_eventually(ran(w, "qemu-img", "info", "-f", "raw", uri, NULL).rc == 0, 20);

    const char *before = content(w, image(w, "web-vda.qcow2"), "qcow2");
    const char *document = keepf(w,
                                 "create one -\n<domainsnapshot><disks><disk name='vda' type='network'>"
                                 "<driver type='qcow2'/><source protocol='nbd' name='exp'>"
                                 "<host transport='unix' socket='%s'/></source></disk>"
                                 "<disk name='vdb' snapshot='no'/></disks></domainsnapshot>\n",
                                 socket);
    ck_assert_int_eq(put(w, "web/ctl", document), 0);
    assert_same(content(w, uri, "qcow2"), before);
    ck_assert_str_eq(names_in(w, "web/active"), "parent vdb.raw");
    ck_assert_str_eq(names_in(w, "web/one"), "changes description snapshot.xml vda.qcow2 vda.raw");
    ck_assert_str_eq(xpath(w, text_of(w, "web/domain.xml"), "//disk[target/@dev='vda']/source/host/@socket"),
                     socket);

    /* no snapshot leaves it out without a word */
    ck_errno(mkdir(at(w, "web/two"), 0755), EOPNOTSUPP);
    ck_has(text_of(w, "web/log"), "--diskspec vda,snapshot=no");
    command(w, "web", "create two --diskspec vda,snapshot=no");
    world_stop(w);
    world_start(w, NULL);
    ck_has_not(text_of(w, "web/tree"), "missing");
    ck_assert_str_eq(names_in(w, "web/active"), "parent vdb.qcow2 vdb.raw");
    run_ok(w, "ln", "-sfn", "one", "web/current");
    assert_same(content(w, active_path(w, "web", "vda"), "qcow2"), before);
    run_ok(w, "rmdir", "web/two", "web/one");
    run_ok(w, "rmdir", "web");
    assert_same(content(w, uri, "qcow2"), before);
    ck_works(kill(server, SIGKILL));
    close(in);
    background_wait(server);
}
END_TEST

START_TEST(other_protocols_are_refused)
{
    static const char *const protocols[] = {"rbd", "gluster", "iscsi", "ssh", "https"};
    g_autoptr(World) w = web("vda:qcow2");
    const char *all = fingerprint(w, w->images);
    for (guint i = 0; i < G_N_ELEMENTS(protocols); i++) {
        const char *document =
            keepf(w,
                  "<domainsnapshot><disks><disk name='vda' type='network'>"
                  "<source protocol='%s' name='pool/x'><host name='h'/></source></disk></disks>"
                  "</domainsnapshot>\n",
                  protocols[i]);
        ck_assert_int_eq(put(w, "web/ctl", document), EOPNOTSUPP);
        ck_has(text_of(w, "web/log"), keepf(w, "an overlay by protocol '%s' is not supported", protocols[i]));
    }
    assert_same(fingerprint(w, w->images), all);
}
END_TEST

/* A machine whose disk is elsewhere: said, with the remedy, and the remedy works. */
START_TEST(silent_network_disks)
{
    static const char *const disks[][2] = {
        {"network", "<source protocol='rbd' name='p/i'><host name='h'/></source>"},
        {"volume", "<source pool='p' volume='v'/>"},
        {"nvme", "<source type='pci' managed='yes' namespace='1'><address domain='0' bus='1' slot='0' "
                 "function='0'/></source>"},
        {"dir", "<source dir='/srv'/>"}};
    g_autoptr(World) w = world_new(NULL);
    make_image(w, "a.qcow2", "qcow2");
    for (guint i = 0; i < G_N_ELEMENTS(disks); i++) {
        const char *name = disks[i][0];
        const char *xml =
            keepf(w,
                  "<domain type='kvm'><name>%s</name><memory>1</memory><os><type>hvm</type></os><devices>"
                  "<disk type='file' device='disk'><driver type='qcow2'/><source file='%s'/>"
                  "<target dev='vda'/></disk><disk type='%s' device='disk'><driver type='raw'/>%s"
                  "<target dev='vdb'/></disk></devices></domain>",
                  name, image(w, "a.qcow2"), name, disks[i][1]);
        ck_assert_int_eq(put(w, "ctl", xml), 0);
        ck_errno(mkdir(at(w, "%s/one", name), 0755), EOPNOTSUPP);
        ck_has(
            text_of(w, keepf(w, "%s/log", name)),
            keepf(w,
                  "disk 'vdb' is of type '%s', of which no snapshot can be taken: leave it out (--diskspec "
                  "vdb,snapshot=no, or snapshot='no' in the domain's <disk>)",
                  name));
        command(w, name, "create one --diskspec vdb,snapshot=no");
        ck_works(rmdir(at(w, "%s/one", name)));
        ck_works(rmdir(at(w, "%s", name)));
    }
}
END_TEST

/* --- options --- */

START_TEST(reuse_external)
{
    g_autoptr(World) w = web("vda:qcow2");
    const char *over = image(w, "prepared");
    run_ok(w, "qemu-img", "create", "-q", "-f", "qcow2", "-b", "web-vda.qcow2", "-F", "qcow2", over);
    const char *bytes = hash_of(w, over);
    command_fails(w, "web", EEXIST, "create one --diskspec vda,file=%s", over);
    ck_has(text_of(w, "web/log"), "an overlay that is there to be used wants --reuse-external");
    command_fails(w, "web", ENOENT, "create one --diskspec vda,file=%s --reuse-external", image(w, "none"));
    command_fails(w, "web", EINVAL, "create one --diskspec vda,driver=qed,file=%s --reuse-external", over);
    command(w, "web", "create one --diskspec vda,file=%s --reuse-external", over);
    assert_same(active_path(w, "web", "vda"), over);
    assert_same(hash_of(w, over), bytes);
    run_ok(w, "cmp", over, "web/active/vda.qcow2");
}
END_TEST

START_TEST(no_metadata)
{
    g_autoptr(World) w = web("vda:qcow2 vdb:qcow2");
    command(w, "web", "create one");
    const char *names = names_in(w, "web");
    command(w, "web", "create a/b --no-metadata --diskspec vda,snapshot=external");
    assert_same(names_in(w, "web"), names);
    assert_same(link_of(w, "web/current"), "one");
    ck_has(tags_of(w, image(w, "web-vdb.qcow2")), "a/b");
    assert_same(active_path(w, "web", "vda"), image(w, "web-vda.a_b"));
    ck_has(text_of(w, "web/tree"), "one\n  +- (you are here)\n");
    ck_has(text_of(w, "web/log"), "create 'a/b' without metadata: vda external, what was is '");
    command_fails(w, "web", EEXIST, "create a/b --no-metadata --diskspec vda,snapshot=no");
    /* what was left behind is nobody's to touch */
    const char *kept = hash_of(w, image(w, "web-vda.qcow2"));
    run_ok(w, "rmdir", "web/one");
    command(w, "web", "create two");
    run_ok(w, "rmdir", "web/two");
    assert_same(hash_of(w, image(w, "web-vda.qcow2")), kept);
    assert_same(tags_of(w, image(w, "web-vdb.qcow2")), "a/b");
}
END_TEST

START_TEST(the_help_says_so)
{
    g_autoptr(World) w = web("vda:qcow2");
    ck_has(text_of(w, "web/ctl"), "--reuse-external");
    ck_has(text_of(w, "web/ctl"), "--no-metadata");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("targets");
    TCase *devices = add_case(s, "devices");
    tcase_add_unchecked_fixture(devices, NULL, detach_all);
    tcase_add_test(devices, an_overlay_on_a_device);
    tcase_add_test(devices, a_disk_that_is_a_device);
    TCase *network = add_case(s, "network");
    tcase_add_test(network, an_overlay_on_an_export);
    tcase_add_test(network, other_protocols_are_refused);
    tcase_add_test(network, silent_network_disks);
    TCase *options = add_case(s, "options");
    tcase_add_test(options, reuse_external);
    tcase_add_test(options, no_metadata);
    tcase_add_test(options, the_help_says_so);
    return s;
}

int main(void)
{
    return mount_main(suite());
}
