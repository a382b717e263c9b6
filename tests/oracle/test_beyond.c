/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where we differ from libvirt 9 on purpose, each with its reason. What libvirt does here is only asserted as far as that
 * shows that there is a difference.
 */
#include "twin.h"

#define DISKS "vda:qcow2 vdb:qcow2 "

/* The modes of the disks in our document. */
static const char *our_modes(const Twin *t, const char *snapshot)
{
    const char *xml = twin_our_xml(t, snapshot);
    return keepf(t->w, "%s %s", xpath(t->w, xml, "//disks/disk[1]/@snapshot"),
                 xpath(t->w, xml, "//disks/disk[2]/@snapshot"));
}

/* libvirt cannot mix internal and external, nor leave out a disk beside internal ones, and never falls back. */
START_TEST(mixed_and_partial)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, DISKS, NULL);
    twin_beyond(t, "internal external", "one", "--diskspec", "vdb,snapshot=external", NULL);
    twin_beyond(t, "internal no", "two", "--diskspec", "vdb,snapshot=no", NULL);
    twin_beyond(t, "internal external", "three", "--disk-only", "--diskspec", "vda,snapshot=internal",
                "--diskspec", "vdb,snapshot=external", NULL);
}
END_TEST

START_TEST(raw_disks)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, "vda:qcow2 vdb:raw fda:raw:floppy:empty", NULL);
    twin_beyond(t, "external external no", "one", NULL);
    twin_beyond(t, "internal external no", "two", "--diskspec", "vda,snapshot=internal", "--diskspec",
                "vdb,snapshot=external", NULL);
    /* an empty drive that is listed: the default finds it internal */
    twin_beyond(t, "internal no no", "three", "--diskspec", "fda", "--diskspec", "vdb,snapshot=no", NULL);
}
END_TEST

/* The domain's word holds, also where the others are internal, and for a disk that is listed without one. */
START_TEST(the_domains_word)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, "vda:qcow2:external vdb:qcow2", NULL);
    twin_beyond(t, "external internal", "one", NULL);
    command(w, t->domain, "create two --diskspec vda --diskspec vdb");
    ck_assert_str_eq(our_modes(t, "two"), "external internal"); /* libvirt: both internal */
}
END_TEST

/* The combination table (DESIGN 6): a machine that is off, nothing said of disks: internal. libvirt: external. */
START_TEST(disk_only_alone)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, DISKS, NULL);
    virsh_ok(w, "snapshot-create-as", t->domain, "one", "--disk-only");
    command(w, t->domain, "create one --disk-only");
    ck_assert_str_eq(our_modes(t, "one"), "internal internal");
    ck_has(twin_their_xml(t, "one"), "<disk name='vda' snapshot='external' type='file'>");
}
END_TEST

/* libvirt records internal states and takes none, for it was asked for --disk-only. */
START_TEST(disk_only_internal)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, DISKS, NULL);
    twin_touch(t);
    twin_create(t, "one", "--disk-only", "--diskspec", "vda,snapshot=internal", "--diskspec",
                "vdb,snapshot=internal", NULL);
    twin_touch(t);
    twin_check_our_states(t);
}
END_TEST

START_TEST(two_unnamed_in_one_second)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, "vda:qcow2", NULL);
    ck_assert_int_eq(put(w, keepf(w, "%s/ctl", t->domain), "create\ncreate\ncreate\n"), 0);
    ck_assert_uint_eq(stat_of(w, t->domain).st_nlink, 2 + 3 + 1); /* its own, the snapshots, active */
}
END_TEST

/* qemu-img, and so libvirt, takes a tag of digits for an id when it applies it: here such a name gets another tag. */
START_TEST(names_of_digits)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, "vda:qcow2", NULL);
    twin_touch(t);
    twin_create(t, "two", NULL);
    twin_touch(t);
    twin_create(t, "1", NULL);
    ck_assert_str_eq(tags_of(w, in_dir(w, "ours/disk-vda.qcow2")), "snap-1\ntwo");
    ck_assert_str_eq(tags_of(w, in_dir(w, "virt/disk-vda.qcow2")), "1\ntwo");
    virsh_ok(w, "snapshot-revert", t->domain, "1"); /* to "two", whose id is 1 */
    command(w, t->domain, "revert 1");
    ck_assert_str_eq(twin_holds(t, twin_our_xml(t, NULL), "vda"), twin_remembered(t, "1", "vda"));
    ck_assert_str_eq(twin_holds(t, twin_their_xml(t, NULL), "vda"), twin_remembered(t, "two", "vda"));
}
END_TEST

/* Nothing that exists is ever written into, be it empty; and no two disks into one file. */
START_TEST(files_that_are_there)
{
    static const char *const words[][4] = {
        {"--diskspec", "vda,file=@DIR@/there", NULL},
        {"--diskspec", "vda,file=@DIR@/same", "--diskspec", "vdb,file=@DIR@/same"},
    };
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, DISKS, NULL);
    static const char *const sides[] = {"ours", "virt"};
    for (guint i = 0; i < G_N_ELEMENTS(sides); i++) {
        ck_assert(g_file_set_contents(in_dir(w, "%s/there", sides[i]), "", 0, NULL));
        virt_own(in_dir(w, "%s/there", sides[i]));
    }
    twin_safer(t, "one", "--disk-only", words[_i][0], words[_i][1], words[_i][2], words[_i][3], NULL);
}
END_TEST

/* A directory that is moved stays whole: libvirt's names are absolute. */
START_TEST(backing_names)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, "vda:qcow2", NULL);
    twin_create(t, "one", "--disk-only", "--diskspec", "vda,snapshot=external", NULL);
    ck_assert_str_eq(backing_of(w, in_dir(w, "ours/disk-vda.one"), "qcow2"), "./disk-vda.qcow2");
    ck_assert_str_eq(backing_of(w, in_dir(w, "virt/disk-vda.one"), "qcow2"),
                     in_dir(w, "virt/disk-vda.qcow2"));
}
END_TEST

/* libvirt 9 cannot revert to an external one (later ones can, with other names for the new files). */
START_TEST(revert_to_external)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, "vda:qcow2", NULL);
    twin_touch(t);
    twin_create(t, "one", "--disk-only", "--diskspec", "vda,snapshot=external", NULL);
    twin_touch(t);
    twin_create(t, "two", "--disk-only", "--diskspec", "vda,snapshot=external", NULL);
    command(w, t->domain, "revert one");
    ck_assert_str_eq(twin_our_current(t), "one");
    ck_assert_str_eq(twin_holds(t, twin_our_xml(t, NULL), "vda"), twin_remembered(t, "one", "vda"));
    twin_check_our_states(t);
}
END_TEST

/*
 * An internal state below an external one: libvirt applies it to the file that the overlay stands on, whose content is the
 * external one's state, and that is lost. We copy the state out: the domain has another file then, nothing else differs.
 */
START_TEST(revert_below_an_overlay)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, "vda:qcow2", NULL);
    twin_touch(t);
    twin_create(t, "int", NULL);
    twin_touch(t);
    twin_create(t, "ext", "--disk-only", "--diskspec", "vda,snapshot=external", NULL);
    twin_differs(t, "disk-vda.int'", "disk-vda.qcow2'");
    twin_revert(t, "int");
    ck_assert_str_eq(twin_holds(t, twin_our_xml(t, NULL), "vda"), twin_remembered(t, "int", "vda"));
    twin_check_our_states(t);
}
END_TEST

/* What takes no part stays as it is on revert: a disc that is in the drive now stays in it. */
START_TEST(media_stay_in_the_drive)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, "vda:qcow2 sda:raw:cdrom:ro", NULL);
    twin_create(t, "one", NULL);
    g_autoptr(GString) xml = g_string_new(t->their_domain);
    g_autofree char *disc = g_strdup_printf("      <source file='%s'/>\n", in_dir(w, "virt/disk-sda.raw"));
    ck_assert_uint_eq(g_string_replace(xml, disc, "", 1), 1);
    twin_define(t, xml->str);
    virsh_ok(w, "snapshot-revert", t->domain, "one");
    command(w, t->domain, "revert one");
    ck_has(twin_their_xml(t, NULL), disc);
    ck_has_not(twin_our_xml(t, NULL), "disk-sda.raw");
}
END_TEST

/* A name that every gesture can use: no control characters, and not that of a file of every domain. */
START_TEST(names_refused_here)
{
    static const char *const names[] = {"line\nbreak", "active", "ctl", "log", "domain.xml"};
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, "vda:qcow2", NULL);
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *escaped = g_markup_escape_text(names[i], -1);
        const char *xml = keepf(w, "<domainsnapshot><name>%s</name></domainsnapshot>", escaped);
        virsh_ok(w, "snapshot-create", t->domain, twin_put_file(t, xml));
        ck_assert_int_ne(put(w, keepf(w, "%s/ctl", t->domain), xml), 0);
    }
    ck_assert_str_eq(tags_of(w, in_dir(w, "ours/disk-vda.qcow2")), "");
}
END_TEST

/* libvirt cannot read its own document of an internal one when a writable drive was empty. */
START_TEST(redefine_with_an_empty_floppy)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, "vda:qcow2 fda:raw:floppy:empty", NULL);
    twin_create(t, "one", NULL);
    virsh_fails(w, "snapshot-create", t->domain, twin_put_file(t, twin_their_xml(t, "one")), "--redefine");
    const char *ours = twin_our_xml(t, "one");
    command(w, t->domain, "delete one --metadata");
    ck_assert_int_eq(put(w, keepf(w, "%s/ctl", t->domain), keepf(w, "redefine -\n%s", ours)), 0);
    ck_assert_str_eq(twin_our_xml(t, "one"), ours);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("beyond");
    TCase *modes = add_case(s, "modes");
    tcase_add_test(modes, mixed_and_partial);
    tcase_add_test(modes, raw_disks);
    tcase_add_test(modes, the_domains_word);
    tcase_add_test(modes, disk_only_alone);
    tcase_add_test(modes, disk_only_internal);
    TCase *files = add_case(s, "names and files");
    tcase_add_test(files, two_unnamed_in_one_second);
    tcase_add_test(files, names_of_digits);
    tcase_add_loop_test(files, files_that_are_there, 0, 2);
    tcase_add_test(files, backing_names);
    tcase_add_test(files, names_refused_here);
    tcase_add_test(files, redefine_with_an_empty_floppy);
    TCase *reverts = add_case(s, "revert");
    tcase_add_test(reverts, revert_to_external);
    tcase_add_test(reverts, revert_below_an_overlay);
    tcase_add_test(reverts, media_stay_in_the_drive);
    return s;
}

int main(void)
{
    return virt_main(suite);
}
