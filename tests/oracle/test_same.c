/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The same domain and the same sequence of snapshots in libvirt and here: the same documents after every step. */
#include "twin.h"

#define DISKS "vda:qcow2 vdb:qcow2 "
#define DRIVES "sda:raw:cdrom:ro sdb:raw:cdrom:ro:empty fda:raw:floppy:empty"

/* Take a snapshot after the guest has written something. */
static void take(Twin *t, const char *name)
{
    twin_touch(t);
    twin_create(t, name, NULL);
}

static void take_external(Twin *t, const char *name)
{
    twin_touch(t);
    twin_create(t, name, "--disk-only", "--diskspec", "vda,snapshot=external", NULL);
}

static void finish(Twin *t)
{
    twin_compare_contents(t);
    twin_validate(t);
}

START_TEST(internal_ones_in_a_row)
{
    static const char *const disks[] = {"vda:qcow2", DISKS DRIVES, DISKS "vdc:qcow2"};
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, disks[_i], NULL);
    take(t, "one");
    take(t, "two");
    take(t, "three");
    finish(t);
    twin_delete(t, "two", NULL);
    twin_delete(t, "three", NULL);
    take(t, "four");
    twin_delete(t, "one", NULL);
    twin_delete(t, "four", NULL);
    take(t, "five");
    finish(t);
}
END_TEST

START_TEST(external_ones_in_a_row)
{
    static const char *const disks[] = {"vda:qcow2", DISKS DRIVES, DISKS "vdc:raw"};
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, disks[_i], NULL);
    take_external(t, "one");
    take_external(t, "two");
    take_external(t, "three");
    finish(t);
}
END_TEST

START_TEST(branches_by_revert)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, DISKS DRIVES, NULL);
    take(t, "root");
    take(t, "left");
    take(t, "left-leaf");
    twin_revert(t, "root");
    take(t, "right");
    take(t, "right-leaf");
    twin_revert(t, "root");
    take(t, "middle");
    twin_revert(t, "left-leaf");
    finish(t);
    twin_delete(t, "left", NULL); /* its leaf is current and gets another parent */
    twin_delete(t, "root", NULL); /* three roots */
    twin_revert(t, "right");
    twin_delete(t, "right", NULL); /* was current, and a root: none is current now */
    take(t, "new-root");
    finish(t);
}
END_TEST

START_TEST(delete_with_children)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, DISKS, NULL);
    static const char *const tree[][2] = {{"a", NULL}, {"b", NULL}, {"c", NULL},
                                          {"d", "a"},  {"e", NULL}, {"f", "a"}};
    for (guint i = 0; i < G_N_ELEMENTS(tree); i++) {
        if (tree[i][1] != NULL)
            twin_revert(t, tree[i][1]);
        take(t, tree[i][0]);
    }
    twin_delete(t, "d", "--children-only");
    twin_delete(t, "b", "--children");
    twin_revert(t, "d");
    twin_delete(t, "a", "--children-only"); /* with the current one */
    finish(t);
    take(t, "g");
    twin_delete(t, "a", "--children");
    take(t, "h");
    finish(t);
}
END_TEST

START_TEST(metadata_goes_images_stay)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, DISKS, NULL);
    take(t, "a");
    take(t, "b");
    take_external(t, "c");
    take_external(t, "d");
    twin_delete(t, "b", "--metadata");
    twin_delete(t, "d", "--metadata");
    finish(t);
    twin_delete(t, "c", "--metadata");
    twin_delete(t, "a", "--metadata");
    finish(t);
}
END_TEST

START_TEST(internal_and_external_on_each_other)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, DISKS DRIVES, NULL);
    take(t, "int1");
    take(t, "int2");
    take_external(t, "ext1");
    take(t, "int3"); /* in the overlay */
    take(t, "int4");
    take_external(t, "ext2");
    take_external(t, "ext3");
    take(t, "int5");
    finish(t);
    twin_revert(t, "int5");
    take(t, "int6");
    twin_delete(t, "int5", NULL);
    finish(t);
}
END_TEST

/* The words of the file system instead of commands. */
START_TEST(by_gestures)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, DISKS "sda:raw:cdrom:ro sdb:raw:cdrom:ro:empty", NULL);
    static const char *const names[] = {"one", "two", "three"};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        run_ok(w, "mkdir", keepf(w, "%s/%s", t->domain, names[i]));
        virsh_ok(w, "snapshot-create-as", t->domain, names[i]);
        twin_compare(t);
    }
    run_ok(w, "ln", "-sfn", "two", keepf(w, "%s/current", t->domain));
    virsh_ok(w, "snapshot-revert", t->domain, "two");
    twin_compare(t);
    run_ok(w, "rmdir", keepf(w, "%s/two", t->domain));
    virsh_ok(w, "snapshot-delete", t->domain, "two");
    twin_compare(t);
    /* virsh's words to be current without a revert: its document redefined */
    virsh_ok(w, "snapshot-current", t->domain, "three");
    const char *xml = twin_our_xml(t, "three");
    ck_assert_int_eq(put(w, keepf(w, "%s/ctl", t->domain), keepf(w, "redefine --current -\n%s", xml)), 0);
    twin_compare(t);
    take(t, "four");
    ck_assert_str_eq(link_of(w, keepf(w, "%s/four/parent", t->domain)), "../three");
    twin_validate(t);
}
END_TEST

START_TEST(disks_that_say_it_themselves)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, "vda:qcow2:external vdb:raw:external vdc:qcow2:external " DRIVES, NULL);
    /* all disks are external by definition: no word needed */
    take(t, "one");
    take(t, "two");
    finish(t);
}
END_TEST

START_TEST(disks_that_are_left_out)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, "vda:qcow2 vdb:raw:no vdc:qcow2:ro vdd:qcow2:no:ro " DRIVES, NULL);
    take_external(t, "one");
    take_external(t, "two");
    finish(t);
}
END_TEST

START_TEST(readonly_disks_are_left_out)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, "vda:qcow2 vdb:raw:ro vdc:qcow2:ro " DRIVES, NULL);
    take(t, "one");
    take_external(t, "two");
    take(t, "three");
    finish(t);
}
END_TEST

START_TEST(a_floppy_with_media_takes_part)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, "vda:qcow2 fda:qcow2:floppy", NULL);
    take(t, "one");
    take_external(t, "two");
    finish(t);
}
END_TEST

START_TEST(a_shareable_disk)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, "vda:qcow2 vdb:raw:share:no", NULL);
    take_external(t, "one");
    twin_refuse(t, "two", "--disk-only", "--diskspec", "vdb,snapshot=external", NULL);
    finish(t);
}
END_TEST

START_TEST(unnamed)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, "vda:qcow2", NULL);
    take(t, "");
    time_t first = (time_t)g_ascii_strtoll(twin_our_current(t), NULL, 10);
    take(t, "named");
    twin_touch(t);
    ck_eventually(time(NULL) > first, 3); /* two in one second fail there */
    twin_create(t, "", "--disk-only", "--diskspec", "vda,snapshot=external", NULL);
    finish(t);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("same");
    TCase *rows = add_case(s, "sequences");
    tcase_add_loop_test(rows, internal_ones_in_a_row, 0, 3);
    tcase_add_loop_test(rows, external_ones_in_a_row, 0, 3);
    tcase_add_test(rows, branches_by_revert);
    tcase_add_test(rows, delete_with_children);
    tcase_add_test(rows, metadata_goes_images_stay);
    tcase_add_test(rows, internal_and_external_on_each_other);
    tcase_add_test(rows, by_gestures);
    TCase *disks = add_case(s, "disks");
    tcase_add_test(disks, disks_that_say_it_themselves);
    tcase_add_test(disks, disks_that_are_left_out);
    tcase_add_test(disks, readonly_disks_are_left_out);
    tcase_add_test(disks, a_floppy_with_media_takes_part);
    tcase_add_test(disks, a_shareable_disk);
    tcase_add_test(disks, unnamed);
    return s;
}

int main(void)
{
    return virt_main(suite);
}
