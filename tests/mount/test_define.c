/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Define, redefine, rename, undefine: by gesture, by command, by every tool that writes a file. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "model.h"

#define UUID "8b4a4b52-3c5f-4f0e-9a57-6f6b1a3c2d10"

/* The document of machine "web" in a file outside the mount, its image made. */
static const char *document_file(const World *w, const char *disks)
{
    make_image(w, "web-vda.qcow2", "qcow2");
    const char *file = in_dir(w, "web.xml");
    ck_assert(g_file_set_contents(file, machine_xml(w, "web", UUID, disks), -1, NULL));
    return file;
}

static const char *const writers[] = {
    "cp ../web.xml ctl",
    "busybox cp ../web.xml ctl",
    "cat ../web.xml > ctl",
    "cat ../web.xml >> ctl",
    "tee ctl < ../web.xml > ../out",
    "dd if=../web.xml of=ctl bs=7 2>/dev/null",
    "dd if=../web.xml of=ctl bs=64k conv=notrunc 2>/dev/null",
    "while IFS= read -r line; do printf '%s\\n' \"$line\"; done < ../web.xml > ctl",
    "{ echo 'define -'; cat ../web.xml; } > ctl",
    "printf '%s' \"$(cat ../web.xml)\" > ctl",
    "python3 -c 'open(\"ctl\", \"w\").write(open(\"../web.xml\").read())'",
    "python3 -c 'import sys\nf = open(\"ctl\", \"wb\", 0)\nfor c in open(\"../web.xml\", \"rb\").read(): "
    "f.write(bytes([c]))'",
    "perl -e 'open(F, \">ctl\") or die; print F `cat ../web.xml`; close(F) or die'",
};

START_TEST(defined_by_any_writer)
{
    g_autoptr(World) w = world_new(NULL);
    document_file(w, "vda:qcow2");
    sh_ok(w, writers[_i]);
    ck_assert_str_eq(names_in(w, "."), "ctl jobs log web");
    ck_assert_str_eq(xpath(w, text_of(w, "web/domain.xml"), "/domain/uuid"), UUID);
    ck_assert_str_eq(active_path(w, "web", "vda"), image(w, "web-vda.qcow2"));
}
END_TEST

START_TEST(a_document_of_virt_install)
{
    g_autoptr(World) w = world_new(NULL);
    g_autofree char *sample = NULL;
    g_autofree char *path = g_build_filename(g_getenv("EXAMPLES"), "fedora.xml", NULL);
    ck_assert(g_file_get_contents(path, &sample, NULL, NULL));
    g_auto(GStrv) parts = g_strsplit(sample, "/var/lib/libvirt/images", -1);
    g_autofree char *mine = g_strjoinv(w->images, parts);
    make_image(w, "fedora.qcow2", "qcow2");
    ck_assert_int_eq(put(w, "ctl", mine), 0);
    /* carried verbatim */
    ck_assert_str_eq(text_of(w, "fedora/domain.xml"), mine);
    run_ok(w, "mkdir", "fedora/clean");
    const char *xml = text_of(w, "fedora/clean/snapshot.xml");
    ck_assert_str_eq(xpath(w, xml, "//disks/disk[@name='vda']/@snapshot"), "internal");
    ck_assert_str_eq(xpath(w, xml, "//disks/disk[@name='sda']/@snapshot"), "no");
    ck_has(xml, "fedoraproject.org/fedora/37");
}
END_TEST

START_TEST(uuid_is_made_and_kept)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2");
    const char *uuid = xpath(w, text_of(w, "web/domain.xml"), "/domain/uuid");
    ck_assert(g_uuid_string_is_valid(uuid));
    world_stop(w);
    world_start(w, NULL);
    ck_assert_str_eq(xpath(w, text_of(w, "web/domain.xml"), "/domain/uuid"), uuid);
}
END_TEST

static const char *with_vcpus(const World *w, const char *xml, const char *n)
{
    g_auto(GStrv) parts = g_strsplit(xml, ">1</vcpu>", 2);
    ck_assert_uint_eq(g_strv_length(parts), 2);
    return keepf(w, "%s>%s</vcpu>%s", parts[0], n, parts[1]);
}

START_TEST(redefined_by_domain_xml)
{
    g_autoptr(World) w = world_new(NULL);
    document_file(w, "vda:qcow2");
    run_ok(w, "cp", "../web.xml", "ctl");
    ck_assert_int_eq(put(w, "web/domain.xml", with_vcpus(w, text_of(w, "web/domain.xml"), "4")), 0);
    ck_assert_str_eq(xpath(w, text_of(w, "web/domain.xml"), "/domain/vcpu"), "4");
    sh_ok(w, "sed 's/>4</>8</' web/domain.xml > ../eight.xml; cp ../eight.xml web/domain.xml");
    ck_assert_str_eq(xpath(w, text_of(w, "web/domain.xml"), "/domain/vcpu"), "8");
    /* shorter than what was there: no tail of the old text stays */
    ck_assert_int_eq(put(w, "web/domain.xml", with_vcpus(w, machine_xml(w, "web", UUID, "vda:qcow2"), "2")),
                     0);
    ck_assert_str_eq(xpath(w, text_of(w, "web/domain.xml"), "/domain/vcpu"), "2");
    /* and by ctl, as virsh define does */
    ck_assert_int_eq(put(w, "ctl", with_vcpus(w, machine_xml(w, "web", UUID, "vda:qcow2"), "3")), 0);
    ck_assert_str_eq(xpath(w, text_of(w, "web/domain.xml"), "/domain/vcpu"), "3");
    ck_assert_str_eq(names_in(w, "."), "ctl jobs log web");
}
END_TEST

START_TEST(redefining_refuses_nonsense)
{
    g_autoptr(World) w = world_new(NULL);
    document_file(w, "vda:qcow2");
    run_ok(w, "cp", "../web.xml", "ctl");
    const char *before = text_of(w, "web/domain.xml");
    ck_assert_int_eq(put(w, "web/domain.xml", "<domain type='kvm'>\n<name>web</name>\n</domian>\n"), EINVAL);
    ck_has(text_of(w, "web/log"), "line 3");
    /* another machine's document */
    ck_assert_int_eq(
        put(w, "web/domain.xml", machine_xml(w, "web", "00000000-1111-2222-3333-444444444444", "vda:qcow2")),
        EINVAL);
    /* half a document: said at close */
    ck_assert_int_ne(put(w, "web/domain.xml", "<domain type='kvm'><name>web</name>"), 0);
    ck_assert_str_eq(text_of(w, "web/domain.xml"), before);
}
END_TEST

START_TEST(nothing_acts_without_data)
{
    g_autoptr(World) w = world_new(NULL);
    document_file(w, "vda:qcow2");
    run_ok(w, "cp", "../web.xml", "ctl");
    run_ok(w, "mkdir", "web/one");
    const char *script = "cat web/domain.xml web/log web/one/snapshot.xml web/one/description; ls . web";
    const char *before = sh_ok(w, script);
    sh_ok(
        w,
        ": > web/domain.xml; : > web/ctl; : > ctl; : > web/one/snapshot.xml; : > web/one/description; : >> "
        "web/ctl;"
        "touch web/domain.xml web/ctl ctl web/one/description web/one/snapshot.xml;"
        "truncate -s 0 web/domain.xml web/ctl web/one/snapshot.xml web/one/description; printf '' > web/ctl");
    ck_assert_str_eq(sh_ok(w, script), before);
}
END_TEST

START_TEST(undefined_by_rmdir)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2:external");
    run_ok(w, "mkdir", "web/one");
    ck_errno(rmdir(at(w, "web")), ENOTEMPTY);
    run_ok(w, "rmdir", "web/one");
    const char *before = fingerprint(w, w->images);
    run_ok(w, "rmdir", "web");
    ck_assert_str_eq(names_in(w, "."), "ctl jobs log");
    ck_assert_str_eq(fingerprint(w, w->images), before);
    world_stop(w);
    world_start(w, NULL);
    ck_assert_str_eq(names_in(w, "."), "ctl jobs log");
}
END_TEST

START_TEST(undefined_by_command)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2");
    machine(w, "db", "vda:qcow2:external");
    command(w, NULL, "undefine web");
    ck_assert(!exists(w, "web"));
    run_ok(w, "mkdir", "db/one");
    command_fails(w, NULL, ENOTEMPTY, "undefine db");
    command_fails(w, NULL, ENOENT, "undefine nobody");
    const char *before = hash_of(w, image(w, "db-vda.qcow2"));
    command(w, NULL, "undefine db --snapshots-metadata");
    ck_assert_str_eq(names_in(w, "."), "ctl jobs log");
    ck_assert_str_eq(hash_of(w, image(w, "db-vda.qcow2")), before);
    ck_works(access(image(w, "db-vda.one"), F_OK));
}
END_TEST

START_TEST(renamed_domain_keeps_all)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2:external");
    machine(w, "db", "vda:qcow2");
    run_ok(w, "mkdir", "web/one");
    const char *uuid = xpath(w, text_of(w, "web/domain.xml"), "/domain/uuid");
    ino_t inode = stat_of(w, "web").st_ino;
    run_fails(w, "mv", "-T", "web", "db");
    ck_errno(rename(at(w, "web"), at(w, "db")), EEXIST);
    run_ok(w, "mv", "web", "shop");
    ck_assert_str_eq(names_in(w, "."), "ctl db jobs log shop");
    ck_assert_uint_eq(stat_of(w, "shop").st_ino, inode);
    const char *xml = text_of(w, "shop/domain.xml");
    ck_assert_str_eq(xpath(w, xml, "/domain/name"), "shop");
    ck_assert_str_eq(xpath(w, xml, "/domain/uuid"), uuid);
    ck_assert_str_eq(link_of(w, "shop/current"), "one");
    world_stop(w);
    world_start(w, NULL);
    ck_assert_str_eq(names_in(w, "."), "ctl db jobs log shop");
    ck_assert_str_eq(link_of(w, "shop/current"), "one");
    Holder writer = hold(w, image(w, "db-vda.qcow2"), "qcow2", FALSE);
    ck_errno(rename(at(w, "db"), at(w, "data")), EBUSY);
    release(writer);
    run_ok(w, "mv", "db", "data");
}
END_TEST

START_TEST(clashes_are_refused)
{
    g_autoptr(World) w = world_new(NULL);
    document_file(w, "vda:qcow2");
    run_ok(w, "cp", "../web.xml", "ctl");
    run_ok(w, "mkdir", "web/one");
    const char *before = text_of(w, "web/domain.xml");
    /* the name of a domain with snapshots under another uuid; its uuid under another name */
    ck_assert_int_ne(
        put(w, "ctl", machine_xml(w, "web", "00000000-1111-2222-3333-444444444444", "vda:qcow2")), 0);
    ck_assert_int_ne(put(w, "ctl", machine_xml(w, "other", UUID, "vda:qcow2")), 0);
    ck_assert_str_eq(names_in(w, "."), "ctl jobs log web");
    ck_assert_str_eq(text_of(w, "web/domain.xml"), before);
}
END_TEST

START_TEST(missing_images_can_be_defined)
{
    g_autoptr(World) w = world_new(NULL);
    document_file(w, "vda:qcow2");
    ck_works(unlink(image(w, "web-vda.qcow2")));
    run_ok(w, "cp", "../web.xml", "ctl");
    ck_has(text_of(w, "web/tree"), "web-vda.qcow2");
    ck_has(text_of(w, "web/log"), "web-vda.qcow2");
    ck_assert_int_eq(mkdir(at(w, "web/one"), 0777), -1);
    ck_has(text_of(w, "web/log"), "one");
    ck_assert_str_eq(names_in(w, "web"), "active ctl domain.xml log state tree usage");
    /* and once it is there, it works */
    make_image(w, "web-vda.qcow2", "qcow2");
    run_ok(w, "mkdir", "web/one");
}
END_TEST

START_TEST(frozen_layers_are_refused)
{
    g_autoptr(World) w = world_new(NULL);
    document_file(w, "vda:qcow2:external");
    run_ok(w, "cp", "../web.xml", "ctl");
    run_ok(w, "mkdir", "web/one");
    const char *before = text_of(w, "web/domain.xml");
    /* the document of before the snapshot points at what is frozen now: by domain.xml, by ctl, by another machine */
    ck_assert_int_ne(put(w, "web/domain.xml", machine_xml(w, "web", UUID, "vda:qcow2")), 0);
    ck_has(text_of(w, "web/log"), "web-vda.one");
    ck_assert_int_ne(put(w, "ctl", machine_xml(w, "web", UUID, "vda:qcow2")), 0);
    g_auto(GStrv) parts = g_strsplit(machine_xml(w, "web", NULL, "vda:qcow2"), "<name>web</name>", 2);
    ck_assert_int_ne(put(w, "ctl", keepf(w, "%s<name>thief</name>%s", parts[0], parts[1])), 0);
    ck_has(text_of(w, "log"), "web-vda.one");
    ck_assert_str_eq(text_of(w, "web/domain.xml"), before);
    ck_assert_str_eq(names_in(w, "."), "ctl jobs log web");
}
END_TEST

/* A disk on a base in another directory: taken when the definition names it or the option allows it, else refused. */
static const char *overlay_elsewhere(const World *w, const char *backing_store)
{
    ck_works(mkdir(in_dir(w, "templates"), 0755));
    run_ok(w, "qemu-img", "create", "-q", "-f", "qcow2", in_dir(w, "templates/base.qcow2"), "1M");
    run_ok(w, "qemu-img", "create", "-q", "-f", "qcow2", "-b", in_dir(w, "templates/base.qcow2"), "-F",
           "qcow2", image(w, "web-vda.qcow2"));
    g_auto(GStrv) parts = g_strsplit(machine_xml(w, "web", UUID, "vda:qcow2"), "<target", 2);
    return keepf(w, "%s%s<target%s", parts[0], backing_store, parts[1]);
}

START_TEST(unknown_backing_is_refused)
{
    g_autoptr(World) w = world_new(NULL);
    ck_assert_int_ne(put(w, "ctl", overlay_elsewhere(w, "")), 0);
    ck_has(text_of(w, "log"), "base.qcow2");
    ck_has(text_of(w, "log"), "backingStore");
    ck_assert_str_eq(names_in(w, "."), "ctl jobs log");
}
END_TEST

START_TEST(named_backing_is_taken)
{
    g_autoptr(World) w = world_new(NULL);
    const char *store =
        keepf(w,
              "<backingStore type='file'><format type='qcow2'/><source file='%s'/><backingStore/>"
              "</backingStore>",
              in_dir(w, "templates/base.qcow2"));
    ck_assert_int_eq(put(w, "ctl", overlay_elsewhere(w, store)), 0);
    const char *before = hash_of(w, in_dir(w, "templates/base.qcow2"));
    g_autoptr(Model) m = model_new(w, "web", "vda:qcow2");
    model_touch(m);
    model_mkdir(m, "one");
    model_touch(m);
    model_create(m, "two", "--diskspec vda,snapshot=external");
    model_touch(m);
    model_verify(m);
    model_revert(m, "one");
    model_verify(m);
    ck_assert_str_eq(hash_of(w, in_dir(w, "templates/base.qcow2")), before);
}
END_TEST

START_TEST(backing_below_an_allowed_directory)
{
    g_autoptr(World) w = world_new_idle();
    world_start(w, keepf(w, "backing=%s:/nonexistent", in_dir(w, "templates")));
    ck_assert_int_eq(put(w, "ctl", overlay_elsewhere(w, "")), 0);
    run_ok(w, "mkdir", "web/one");
}
END_TEST

START_TEST(backing_next_to_the_image)
{
    g_autoptr(World) w = world_new(NULL);
    run_ok(w, "qemu-img", "create", "-q", "-f", "raw", image(w, "base.img"), "1M");
    run_ok(w, "qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.img", "-F", "raw",
           image(w, "web-vda.qcow2"));
    ck_assert_int_eq(put(w, "ctl", machine_xml(w, "web", UUID, "vda:qcow2")), 0);
    run_ok(w, "mkdir", "web/one");
    ck_has(run_ok(w, "qemu-img", "info", "--backing-chain", "-f", "qcow2", "web/active/vda.qcow2"),
           "base.img");
}
END_TEST

START_TEST(links_are_resolved_at_define)
{
    g_autoptr(World) w = world_new(NULL);
    make_image(w, "real.qcow2", "qcow2");
    ck_works(symlink(image(w, "real.qcow2"), image(w, "web-vda.qcow2")));
    ck_assert_int_eq(put(w, "ctl", machine_xml(w, "web", UUID, "vda:qcow2:external")), 0);
    run_ok(w, "mkdir", "web/one");
    /* the overlay is next to the real path */
    ck_assert_str_eq(active_path(w, "web", "vda"), image(w, "real.one"));
    ck_assert_str_eq(backing_of(w, image(w, "real.one"), "qcow2"), "./real.qcow2");
}
END_TEST

static const char *with_graphics(const World *w, const char *attributes)
{
    g_auto(GStrv) parts = g_strsplit(machine_xml(w, "web", UUID, "vda:qcow2"), "  </devices>", 2);
    return keepf(w, "%s    <graphics type='vnc' port='-1'%s/>\n  </devices>%s", parts[0], attributes,
                 parts[1]);
}

START_TEST(secrets_are_guarded)
{
    g_autoptr(World) w = world_new(NULL);
    make_image(w, "web-vda.qcow2", "qcow2");
    ck_assert_int_eq(put(w, "ctl", with_graphics(w, " passwd='hush'")), 0);
    ck_assert_int_eq(stat_of(w, "web/domain.xml").st_mode & 0077, 0);
    run_ok(w, "mkdir", "web/one");
    ck_assert_int_eq(stat_of(w, "web/one/snapshot.xml").st_mode & 0077, 0);
    ck_assert_str_eq(xpath(w, text_of(w, "web/domain.xml"), "//graphics/@passwd"), "hush");
    /* a document without it keeps the old one, one with another changes it */
    ck_assert_int_eq(put(w, "web/domain.xml", with_graphics(w, "")), 0);
    ck_assert_str_eq(xpath(w, text_of(w, "web/domain.xml"), "//graphics/@passwd"), "hush");
    ck_assert_int_eq(put(w, "web/domain.xml", with_graphics(w, " passwd='other'")), 0);
    ck_assert_str_eq(xpath(w, text_of(w, "web/domain.xml"), "//graphics/@passwd"), "other");
    world_stop(w);
    world_start(w, "ro");
    ck_has_not(text_of(w, "web/domain.xml"), "other");
    ck_has_not(text_of(w, "web/one/snapshot.xml"), "hush");
    ck_has(text_of(w, "web/domain.xml"), "vnc");
}
END_TEST

START_TEST(no_image_inside_the_mount)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2");
    const char *inside = at(w, "web/active/vda.qcow2");
    ck_assert_int_ne(
        put(w, "ctl",
            keepf(w,
                  "<domain type='kvm'><name>loop</name><memory>1</memory><os><type>hvm</type></os>"
                  "<devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
                  "<source file='%s'/><target dev='vda'/></disk></devices></domain>",
                  inside)),
        0);
    ck_assert_str_eq(names_in(w, "."), "ctl jobs log web");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("define");
    TCase *define = add_case(s, "define");
    tcase_add_loop_test(define, defined_by_any_writer, 0, G_N_ELEMENTS(writers));
    tcase_add_test(define, a_document_of_virt_install);
    tcase_add_test(define, uuid_is_made_and_kept);
    tcase_add_test(define, clashes_are_refused);
    tcase_add_test(define, missing_images_can_be_defined);
    tcase_add_test(define, frozen_layers_are_refused);
    tcase_add_test(define, links_are_resolved_at_define);
    tcase_add_test(define, secrets_are_guarded);
    tcase_add_test(define, no_image_inside_the_mount);
    TCase *backing = add_case(s, "backing files");
    tcase_add_test(backing, unknown_backing_is_refused);
    tcase_add_test(backing, named_backing_is_taken);
    tcase_add_test(backing, backing_below_an_allowed_directory);
    tcase_add_test(backing, backing_next_to_the_image);
    TCase *change = add_case(s, "redefine, rename, undefine");
    tcase_add_test(change, redefined_by_domain_xml);
    tcase_add_test(change, redefining_refuses_nonsense);
    tcase_add_test(change, nothing_acts_without_data);
    tcase_add_test(change, undefined_by_rmdir);
    tcase_add_test(change, undefined_by_command);
    tcase_add_test(change, renamed_domain_keeps_all);
    return s;
}

int main(void)
{
    return mount_main(suite());
}
