/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bad input: an errno for the caller, a sentence in the log, and nothing changed. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

#include "model.h"

#define LIST "active ctl domain.xml log state tree usage"

static const char *document(const World *w, const char *name, const char *disk)
{
    return keepf(
        w,
        "<domain type='kvm'>\n<name>%s</name>\n<memory>1</memory>\n<os><type>hvm</type></os>\n<devices>\n%s\n"
        "</devices>\n</domain>\n",
        name, disk);
}

static const char *disk_of(const World *w, const char *path, const char *format)
{
    return keepf(w,
                 "<disk type='file' device='disk'><driver name='qemu' type='%s'/><source file='%s'/>"
                 "<target dev='vda'/></disk>",
                 format, path);
}

/* The document must be refused, with a sentence in the mount's log that has @sentence; nothing is defined. */
static void refused(const World *w, const char *text, const char *sentence)
{
    int err = put(w, "ctl", text);
    ck_assert_msg(err != 0, "taken: %.200s", text);
    ck_assert_str_eq(names_in(w, "."), "ctl jobs log");
    ck_has(text_of(w, "log"), sentence);
}

static const struct {
    const char *text, *sentence;
} bad_xml[] = {
    {"<domain type='kvm'>\n<name>x</name>\n<memory>1</memory>\n</domian>\n", "line 4"},
    {"<domain type='kvm'>\n<name>x</name>\n<devices>\n<disk &></disk></devices>\n</domain>\n", "line 4"},
    {"<domain type='kvm'>\n<memory>1</memory>\n</domain>\n", "name"},
    {"<network>\n<name>x</name>\n</network>\n", "domain"},
    {"<!DOCTYPE domain [<!ENTITY e SYSTEM 'file:///etc/hostname'>]>\n<domain "
     "type='kvm'><name>&e;</name></domain>\n",
     "DOCTYPE"},
    {"<!DOCTYPE domain>\n<domain type='kvm'><name>x</name></domain>\n", "DOCTYPE"},
    {"<domain type='kvm'><name>x\xff</name></domain>\n", "line 1"},
    {"<domain type='kvm'><name>x</name><uuid>12</uuid></domain>\n", "uuid"},
    {"<domain type='kvm'><name>x</name><devices><disk type='file' device='disk'><driver type='qcow2'/>"
     "<source file='/a'/></disk></devices></domain>\n",
     "target"},
    {"<domain type='kvm'><name>x</name><devices><disk type='file' device='disk'><driver type='qcow2'/>"
     "<source file='a'/><target dev='vda'/></disk></devices></domain>\n",
     "vda"},
    {"<domain type='kvm'><name>x</name><devices><disk type='file' device='disk'><driver type='vmdk'/>"
     "<source file='/a'/><target dev='vda'/></disk></devices></domain>\n",
     "vmdk"},
    {"<domain type='kvm'><name>x</name><devices><disk type='file' device='disk'><driver type='raw'/><source "
     "file='/a'/>"
     "<target dev='vda'/></disk><disk type='file' device='disk'><driver type='raw'/><source file='/b'/>"
     "<target dev='vda'/></disk></devices></domain>\n",
     "vda"},
    {"<domain type='kvm'><name>x</name><devices><disk type='file' device='disk' snapshot='maybe'><driver "
     "type='raw'/>"
     "<source file='/a'/><target dev='vda'/></disk></devices></domain>\n",
     "maybe"},
};

START_TEST(bad_documents)
{
    g_autoptr(World) w = world_new(NULL);
    refused(w, bad_xml[_i].text, bad_xml[_i].sentence);
    world_stop(w);
    world_start(w, NULL);
    ck_assert_str_eq(names_in(w, "."), "ctl jobs log");
}
END_TEST

START_TEST(too_long_documents)
{
    g_autoptr(World) w = world_new(NULL);
    g_autofree char *spaces = g_strnfill(1024 * 1024, ' ');
    refused(w, keepf(w, "<domain type='kvm'>%s<name>x</name></domain>", spaces), "");
    g_autoptr(GString) deep = g_string_new("<domain type='kvm'><name>x</name>");
    for (guint i = 0; i < 20000; i++)
        g_string_append(deep, "<a>");
    for (guint i = 0; i < 20000; i++)
        g_string_append(deep, "</a>");
    g_string_append(deep, "</domain>");
    refused(w, deep->str, "");
    /* entities that multiply */
    refused(w,
            "<!DOCTYPE domain [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;'>]>"
            "<domain type='kvm'><name>&b;</name></domain>",
            "DOCTYPE");
    /* and it is as good as before */
    machine(w, "web", "vda:qcow2");
    run_ok(w, "mkdir", "web/one");
}
END_TEST

START_TEST(image_that_is_not_of_its_format)
{
    g_autoptr(World) w = world_new(NULL);
    const char *raw = make_image(w, "plain.raw", "raw");
    const char *junk = image(w, "junk.qcow2");
    ck_assert(g_file_set_contents(
        junk, "QFI\xfb this is not a qcow2 header at all, only its first bytes........", -1, NULL));
    refused(w, document(w, "x", disk_of(w, raw, "qcow2")), "plain.raw");
    refused(w, document(w, "x", disk_of(w, junk, "qcow2")), "junk.qcow2");
    refused(w, document(w, "x", disk_of(w, w->images, "raw")), "images");
    refused(w, document(w, "x", disk_of(w, "/dev/null", "raw")), "/dev/null");
}
END_TEST

/* A qcow2 that the definition calls raw is a raw disk whose content is a qcow2: nothing of it is ever interpreted. */
START_TEST(qcow2_called_raw)
{
    g_autoptr(World) w = world_new(NULL);
    const char *secret = image(w, "secret.raw"), *evil = image(w, "evil.img");
    ck_assert(g_file_set_contents(secret, "top secret, 512 bytes or so", -1, NULL));
    run_ok(w, "qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", secret, "-F", "raw", evil, "1M");
    const char *before = hash_of(w, evil);
    int err = put(w, "ctl", document(w, "x", disk_of(w, evil, "raw")));
    if (err != 0)
        return;
    run_ok(w, "mkdir", "x/one");
    ck_assert_str_eq(xpath(w, text_of(w, "x/one/snapshot.xml"), "//disks/disk/@snapshot"), "external");
    ck_assert_str_eq(hash_of(w, at(w, "x/one/vda.raw")), before);
    const char *raw = in_dir(w, "content.raw");
    run_ok(w, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", active_path(w, "x", "vda"), raw);
    g_autofree char *content = NULL;
    ck_assert(g_file_get_contents(raw, &content, NULL, NULL));
    ck_assert_int_eq(memcmp(content, "QFI\xfb", 4), 0);
}
END_TEST

static const char *const evil_backing[] = {
    "/etc/passwd",
    "json:{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"/etc/passwd\"}}",
    "nbd://localhost:1/x",
    "../../../../../../etc/passwd",
    "missing.qcow2",
};

START_TEST(backing_files_nobody_named)
{
    g_autoptr(World) w = world_new(NULL);
    const char *evil = image(w, "evil.qcow2");
    run_ok(w, "qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", evil_backing[_i], "-F", "raw", evil,
           "1M");
    if (strcmp(evil_backing[_i], "missing.qcow2") != 0)
        refused(w, document(w, "x", disk_of(w, evil, "qcow2")), "evil.qcow2");
    else if (put(w, "ctl", document(w, "x", disk_of(w, evil, "qcow2"))) == 0)
        ck_has(text_of(w, "x/log"), "missing.qcow2");
}
END_TEST

START_TEST(external_data_files)
{
    g_autoptr(World) w = world_new(NULL);
    const char *image_path = image(w, "data.qcow2");
    run_ok(w, "qemu-img", "create", "-q", "-f", "qcow2", "-o", keepf(w, "data_file=%s", image(w, "data.raw")),
           image_path, "1M");
    int err = put(w, "ctl", document(w, "x", disk_of(w, image_path, "qcow2")));
    if (err != 0) {
        ck_has(text_of(w, "log"), "data");
        return;
    }
    ck_assert_int_eq(mkdir(at(w, "x/one"), 0777), -1);
    ck_has(text_of(w, "x/log"), "data");
}
END_TEST

START_TEST(header_changed_behind_our_back)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2");
    ck_assert(g_file_set_contents(in_dir(w, "other.raw"), "something else", -1, NULL));
    run_ok(w, "qemu-img", "rebase", "-u", "-f", "qcow2", "-b", in_dir(w, "other.raw"), "-F", "raw",
           image(w, "web-vda.qcow2"));
    ck_assert_int_eq(mkdir(at(w, "web/one"), 0777), -1);
    ck_has(text_of(w, "web/log"), "other.raw");
    ck_assert_str_eq(names_in(w, "web"), LIST);
}
END_TEST

/* A frozen layer that somebody changed: its domain refuses to go on, and says why. */
START_TEST(frozen_layer_was_written)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2:external");
    machine(w, "db", "vda:qcow2");
    run_ok(w, "mkdir", "web/one");
    const char *base = image(w, "web-vda.qcow2");
    ck_works(chmod(base, 0644));
    image_write(w, base, "qcow2", 66, 0, 65536);
    world_stop(w);
    world_start(w, NULL);
    ck_assert_int_eq(mkdir(at(w, "web/two"), 0777), -1);
    ck_has(text_of(w, "web/log"), "web-vda.qcow2");
    ck_assert_str_eq(names_in(w, "web"), "active ctl current domain.xml log one state tree usage");
    run_ok(w, "mkdir", "db/one");
}
END_TEST

START_TEST(image_in_use)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2 vdb:qcow2");
    run_ok(w, "mkdir", "web/one");
    const char *before = fingerprint(w, w->images);
    Holder writer = hold(w, image(w, "web-vdb.qcow2"), "qcow2", FALSE);
    command_fails(w, "web", EBUSY, "create two");
    ck_has(text_of(w, "web/log"), "a program writes its image");
    command_fails(w, "web", EBUSY, "revert one");
    command_fails(w, "web", EBUSY, "delete one");
    command_fails(w, "web", EBUSY,
                  "create two --diskspec vda,snapshot=external --diskspec vdb,snapshot=external");
    release(writer);
    ck_assert_str_eq(fingerprint(w, w->images), before);
    command(w, "web", "create two");
}
END_TEST

START_TEST(bad_snapshot_documents)
{
    static const char *const bodies[] = {
        "<disks><disk name='vdz' snapshot='external'/></disks>",
        "<disks><disk name='vda' snapshot='sometimes'/></disks>",
        "<disks><disk snapshot='external'/></disks>",
        "<disks><disk name='vda' snapshot='external'/><disk name='vda' snapshot='external'/></disks>",
        "<disks><disk name='vda' snapshot='internal'><source file='/tmp/x'/></disk></disks>",
        "<disks><disk name='vda' snapshot='external'><source file='relative'/></disk></disks>",
        "<disks><disk name='vda' snapshot='external'><driver type='raw'/></disk></disks>",
        "<disks><disk name='vda' snapshot='external'><driver type='vmdk'/></disk></disks>",
        "<disks><disk name='vda' snapshot='external' type='network'><source protocol='nbd' "
        "name='x'/></disk></disks>",
        "<disks><disk name='vda' snapshot='no'/><disk name='vdb' snapshot='no'/></disks>",
        "<disks><disk name='vdr' snapshot='internal'/></disks>",
        "<memory snapshot='internal'/>",
        "<memory snapshot='external' file='/tmp/memory'/>",
        "<memory snapshot='external'/>",
        "<memory snapshot='perhaps'/>",
    };
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2 vdb:qcow2 vdr:raw:no");
    const char *before = fingerprint(w, w->images);
    for (guint i = 0; i < G_N_ELEMENTS(bodies); i++) {
        int err = put(w, "web/ctl",
                      keepf(w, "<domainsnapshot><name>bad%u</name>%s</domainsnapshot>\n", i, bodies[i]));
        ck_assert_msg(err == EINVAL || err == EOPNOTSUPP, "%s: %s", bodies[i], g_strerror(err));
        ck_assert_msg(!exists(w, keepf(w, "web/bad%u", i)), "%s", bodies[i]);
    }
    ck_assert_str_eq(names_in(w, "web"), LIST);
    ck_assert_str_eq(fingerprint(w, w->images), before);
    ck_has(text_of(w, "web/log"), "vdz");
}
END_TEST

/* Two disks that shall get the same overlay would end up on one file. */
START_TEST(one_overlay_for_two_disks)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2 vdb:qcow2");
    const char *before = fingerprint(w, w->images);
    ck_assert_int_ne(put(w, "web/ctl",
                         keepf(w, "create one --diskspec vda,file=%s --diskspec vdb,file=%s\n",
                               image(w, "same"), image(w, "same"))),
                     0);
    ck_assert_str_eq(names_in(w, "web"), LIST);
    ck_assert_str_eq(fingerprint(w, w->images), before);
}
END_TEST

/* --- all or nothing: the third of four disks fails --- */

static const char *const four = "vda:qcow2 vdb:qcow2 vdc:qcow2 vdd:qcow2";

/* Creating must fail with @want and leave everything as it was; when the reason is gone, it works. */
static void fails_whole(const World *w, const char *options, int want)
{
    const char *before = contents(w), *xml = text_of(w, "web/domain.xml");
    command_fails(w, "web", want, "create one %s", options);
    ck_assert_str_eq(names_in(w, "web"), LIST);
    ck_assert_str_eq(contents(w), before);
    ck_assert_str_eq(text_of(w, "web/domain.xml"), xml);
    ck_has(text_of(w, "web/log"), "vdc");
}

static void works_then(const World *w, const char *options)
{
    g_autoptr(Model) m = model_new(w, "web", four);
    model_create(m, "one", options);
    model_touch(m);
    model_verify(m);
}

START_TEST(third_overlay_exists)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", four);
    const char *taken = image(w, "taken.file");
    ck_assert(g_file_set_contents(taken, "something of somebody", -1, NULL));
    const char *options = keepf(w,
                                "--diskspec vda,snapshot=external --diskspec vdb,snapshot=internal "
                                "--diskspec vdc,snapshot=external,file=%s --diskspec vdd,snapshot=external",
                                taken);
    fails_whole(w, options, EEXIST);
    ck_works(unlink(taken));
    works_then(w, options);
}
END_TEST

START_TEST(third_overlay_has_no_directory)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", four);
    fails_whole(w,
                keepf(w,
                      "--diskspec vda,snapshot=external --diskspec vdb,snapshot=internal "
                      "--diskspec vdc,snapshot=external,file=%s --diskspec vdd,snapshot=external",
                      image(w, "nowhere/x.qcow2")),
                ENOENT);
}
END_TEST

START_TEST(third_image_is_gone)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", four);
    ck_works(rename(image(w, "web-vdc.qcow2"), image(w, "aside")));
    fails_whole(w, "", ENOENT);
    ck_works(rename(image(w, "aside"), image(w, "web-vdc.qcow2")));
    works_then(w, "");
}
END_TEST

START_TEST(third_image_is_corrupt)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", four);
    /* the refcount table's offset points beyond the file: qemu-img refuses to snapshot it */
    const char *path = image(w, "web-vdc.qcow2"), *good = in_dir(w, "good.qcow2");
    static const char broken[8] = {0, 0, 0, 1, 0, 0, 0, 0};
    run_ok(w, "cp", path, good);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(pwrite(fd, broken, 8, 48), 8);
    close(fd);
    ck_assert_int_eq(mkdir(at(w, "web/one"), 0777), -1);
    ck_has(text_of(w, "web/log"), "vdc");
    ck_assert_str_eq(names_in(w, "web"), LIST);
    run_ok(w, "cp", good, path);
    ck_assert_str_eq(tags_of(w, image(w, "web-vda.qcow2")), "");
    ck_assert_str_eq(tags_of(w, image(w, "web-vdb.qcow2")), "");
    ck_assert_str_eq(tags_of(w, path), "");
    works_then(w, "");
}
END_TEST

/* A machine whose vdc lies on a file system of its own, mounted on images/vdc. */
static void machine_with_vdc_elsewhere(const World *w, const char *modes)
{
    g_autoptr(GString) disks = g_string_new(NULL);
    static const char *const targets[] = {"vda", "vdb", "vdc", "vdd"};
    for (guint i = 0; i < G_N_ELEMENTS(targets); i++) {
        const char *name = keepf(
            w, "%s.qcow2", strcmp(targets[i], "vdc") == 0 ? "vdc/disk-vdc" : keepf(w, "disk-%s", targets[i]));
        g_string_append_printf(disks,
                               "<disk type='file' device='disk'%s><driver name='qemu' type='qcow2'/>"
                               "<source file='%s'/><target dev='%s'/></disk>\n",
                               modes, make_image(w, name, "qcow2"), targets[i]);
    }
    ck_assert_int_eq(put(w, "ctl", document(w, "web", disks->str)), 0);
}

START_TEST(third_directory_is_read_only)
{
    const char *modes = _i == 0 ? " snapshot='external'" : " snapshot='internal'";
    g_autoptr(World) w = world_new(NULL);
    const char *dir = image(w, "vdc");
    ck_works(mkdir(dir, 0755));
    ck_works(mount("tmpfs", dir, "tmpfs", 0, "size=4m"));
    machine_with_vdc_elsewhere(w, modes);
    ck_works(mount(NULL, dir, NULL, MS_REMOUNT | MS_RDONLY, NULL));
    fails_whole(w, "", EROFS);
    ck_works(mount(NULL, dir, NULL, MS_REMOUNT, NULL));
    works_then(w, "");
    ck_works(umount2(dir, MNT_DETACH));
}
END_TEST

START_TEST(third_file_system_is_full)
{
    const char *modes = _i == 0 ? " snapshot='external'" : " snapshot='internal'";
    g_autoptr(World) w = world_new(NULL);
    const char *dir = image(w, "vdc"), *fill = image(w, "vdc/fill");
    ck_works(mkdir(dir, 0755));
    ck_works(mount("tmpfs", dir, "tmpfs", 0, "size=2m"));
    machine_with_vdc_elsewhere(w, modes);
    ran(w, "dd", "if=/dev/zero", keepf(w, "of=%s", fill), "bs=4k", NULL);
    fails_whole(w, "", ENOSPC);
    ck_works(unlink(fill));
    works_then(w, "");
    ck_works(umount2(dir, MNT_DETACH));
}
END_TEST

START_TEST(store_is_full)
{
    g_autoptr(World) w = world_new_idle();
    ck_works(mkdir(w->store, 0700));
    ck_works(mount("tmpfs", w->store, "tmpfs", 0, "size=1m,mode=700"));
    world_start(w, NULL);
    machine(w, "web", "vda:qcow2 vdb:qcow2:external");
    g_autoptr(Model) m = model_new(w, "web", "vda:qcow2 vdb:qcow2");
    model_touch(m);
    model_mkdir(m, "one");
    model_touch(m);
    ran(w, "dd", "if=/dev/zero", keepf(w, "of=%s/fill", w->store), "bs=4k", NULL);
    const char *images = fingerprint(w, w->images);
    ck_errno(mkdir(at(w, "web/two"), 0777), ENOSPC);
    ck_assert_str_eq(fingerprint(w, w->images), images);
    model_verify(m);
    ck_works(unlink(keepf(w, "%s/fill", w->store)));
    model_mkdir(m, "two");
    model_verify(m);
    world_stop(w);
    world_start(w, NULL);
    model_verify(m);
    world_stop(w);
    ck_works(umount2(w->store, MNT_DETACH));
}
END_TEST

/* Revert to an internal state under an overlay copies it out: no room for that. */
START_TEST(no_room_for_a_revert)
{
    g_autoptr(World) w = world_new(NULL);
    const char *dir = image(w, "vdc"), *fill = image(w, "vdc/fill");
    ck_works(mkdir(dir, 0755));
    ck_works(mount("tmpfs", dir, "tmpfs", 0, "size=8m"));
    machine_with_vdc_elsewhere(w, "");
    g_autoptr(Model) m = model_new(w, "web", four);
    model_touch(m);
    model_mkdir(m, "in");
    model_touch(m);
    model_create(m, "ex",
                 "--diskspec vda,snapshot=external --diskspec vdb,snapshot=external "
                 "--diskspec vdc,snapshot=external --diskspec vdd,snapshot=external");
    model_touch(m);
    ran(w, "dd", "if=/dev/zero", keepf(w, "of=%s", fill), "bs=4k", NULL);
    const char *images = fingerprint(w, w->images);
    command_fails(w, "web", ENOSPC, "revert in");
    ck_assert_str_eq(fingerprint(w, w->images), images);
    model_verify(m);
    ck_works(unlink(fill));
    model_revert(m, "in");
    model_verify(m);
    ck_works(umount2(dir, MNT_DETACH));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("badinput");
    TCase *xml = add_case(s, "documents");
    tcase_add_loop_test(xml, bad_documents, 0, G_N_ELEMENTS(bad_xml));
    tcase_add_test(xml, too_long_documents);
    tcase_add_test(xml, bad_snapshot_documents);
    tcase_add_test(xml, one_overlay_for_two_disks);
    TCase *images = add_case(s, "images");
    tcase_add_test(images, image_that_is_not_of_its_format);
    tcase_add_test(images, qcow2_called_raw);
    tcase_add_loop_test(images, backing_files_nobody_named, 0, G_N_ELEMENTS(evil_backing));
    tcase_add_test(images, external_data_files);
    tcase_add_test(images, header_changed_behind_our_back);
    tcase_add_test(images, frozen_layer_was_written);
    tcase_add_test(images, image_in_use);
    TCase *whole = add_case(s, "all or nothing");
    tcase_add_test(whole, third_overlay_exists);
    tcase_add_test(whole, third_overlay_has_no_directory);
    tcase_add_test(whole, third_image_is_gone);
    tcase_add_test(whole, third_image_is_corrupt);
    if (geteuid() == 0) {
        tcase_add_loop_test(whole, third_directory_is_read_only, 0, 2);
        tcase_add_loop_test(whole, third_file_system_is_full, 0, 2);
        tcase_add_test(whole, store_is_full);
        tcase_add_test(whole, no_room_for_a_revert);
    }
    return s;
}

int main(void)
{
    return mount_main(suite());
}
