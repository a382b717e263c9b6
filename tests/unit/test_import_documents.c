/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Import: odd documents and names, and where libvirt's files are. */
#include "import_world.h"
#include "runner.h"

/* --- documents --- */

/* From before libvirt stored the whole <domain>: the states are the tags of that name. */
START_TEST(uuid_only)
{
    g_auto(Both) both = both_new(PATH("world"));
    import_world_three(both.web); /* the tag s1 lies below two overlays */
    g_autofree char *text = g_strdup_printf("<domainsnapshot><name>s1</name><state>shutoff</state>"
                                            "<creationTime>5</creationTime><domain><uuid>%s</uuid></domain>"
                                            "<active>0</active></domainsnapshot>",
                                            both.web->uuid);
    libvirt_machine_put(both.web, "s1.xml", text);
    g_autoptr(GString) lost = g_string_new(text);
    g_string_replace(lost, "<name>s1<", "<name>lost<", 0);
    libvirt_machine_put(both.web, "lost.xml", lost->str);
    g_autofree char *told = both_import(&both);
    ck_assert_str_eq(
        told, "! web: snapshot 'lost' has no whole <domain>, and no image has an internal snapshot of that "
              "name\nweb: 4 snapshots, current 's3'\n");
    both_assert_snapshots(&both, "lost s1 s2 s3", "s3");
    import_world_assert_states(both.world);
    g_autofree char *is =
        world_text(both.world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(both.world, "web", "s1"));
    assert_has(is, "<domain>\n    <uuid>");
    libvirt_machine_undefine(both.web);
    world_reopen(both.world);
    g_autoptr(GError) error = NULL;
    ck_assert(!world_try_revert(both.world, "web", "s1", &error));
    expect_error(&error, EPERM, "--force");
    const EngineOps *ops = both.world->engine->ops;
    RevertRequest request = {.name = (char *)"s1", .force = TRUE};
    ASSERT_OK(ops->revert(both.world->engine, world_domain(both.world, "web"), &request, NULL, &error),
              error);
    world_assert_hash(both.world, NULL, "vda", 1, 1);
}
END_TEST

/* A machine that ran: memory, <inactiveDomain>, cookie, <revertDisks>. All is carried; reverting needs the memory. */
START_TEST(carried)
{
    g_auto(Both) both = both_new(PATH("world"));
    libvirt_machine_snapshot(both.web, "ram", "ee");
    libvirt_machine_snapshot(both.web, "top", "ee");
    libvirt_machine_edit(both.web, "ram", "<state>shutoff<", "<state>running<");
    libvirt_machine_edit(both.web, "ram", "<memory snapshot='no'/>",
                         "<memory snapshot='external' file='/ram/file'/>");
    g_autofree char *revert =
        g_strdup("  </disks>\n  <revertDisks>\n    <disk name='vda' snapshot='external' "
                 "type='file'>\n      <driver type='qcow2'/>\n"
                 "      <source file='/x/a.171'/>\n    </disk>\n  </revertDisks>\n");
    libvirt_machine_edit(both.web, "ram", "  </disks>\n", revert);
    g_autofree char *more =
        g_strdup_printf("  <inactiveDomain type='kvm'>\n    <name>web</name>\n    <uuid>%s</uuid>\n"
                        "  </inactiveDomain>\n  <cookie>\n    <slirpHelper/>\n  </cookie>\n"
                        "  <active>0<",
                        both.web->uuid);
    libvirt_machine_edit(both.web, "ram", "  <active>0<", more);
    world_import(both.world, both.host->root, "web: 2 snapshots, current 'top'\n");
    g_autofree char *is =
        world_text(both.world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(both.world, "web", "ram"));
    g_autofree char *should = libvirt_machine_dump(both.web, "ram");
    ck_assert_str_eq(is, should);
    libvirt_machine_undefine(both.web);
    world_reopen(both.world);
    g_autoptr(GError) error = NULL;
    ck_assert(!world_try_revert(both.world, "web", "ram", &error));
    expect_error(&error, ENOENT, "save image '/ram/file'");
    world_check_clean(both.world, "web");
}
END_TEST

/* Images that were gone before are missing, as after a define; that is no reason not to be adopted. */
START_TEST(missing_image)
{
    g_auto(Both) both = both_new(PATH("world"));
    import_world_three(both.web);
    libvirt_machine_edit(both.web, "s1", "/a.qcow2'", "/nowhere/a.qcow2'");
    libvirt_machine_edit(both.web, "s3", "/b.s2'", "/gone.qcow2'");
    g_autofree char *told = both_import(&both);
    assert_has(told, "nowhere/a.qcow2'\n");
    assert_has(told, "! web: missing image: '");
    assert_has(told, "\n" THREE);
    g_autofree char *tree = world_tree(both.world, "web");
    assert_has(tree, "img/nowhere/a.qcow2\n");
    assert_has(tree, "img/gone.qcow2\n");
    libvirt_machine_undefine(both.web);
    world_reopen(both.world);
    world_create(both.world, "web", "s4", NULL);
    g_autoptr(GError) error = NULL;
    ck_assert(!world_try_revert(both.world, "web", "s1", &error));
    expect_error(&error, ENOENT, "disk 'vda'");
    world_check_clean(both.world, "web");
}
END_TEST

/* The definition points back at what a snapshot stands on, as people do by hand: it can be looked at. */
START_TEST(state_is_written)
{
    g_auto(Both) both = both_new(PATH("world"));
    g_autofree char *a = g_strdup(both.web->disks[0]);
    libvirt_machine_snapshot(both.web, "s1", "ee");
    g_free(both.web->disks[0]);
    both.web->disks[0] = g_strdup(a);
    libvirt_machine_define(both.web);
    g_autofree char *told = both_import(&both);
    g_autofree char *sentence = g_strdup_printf(
        "! web: states of snapshots stand on '%s', which the domain writes: it can only be looked at\n", a);
    assert_has(told, sentence);
    both_assert_snapshots(&both, "s1", "s1");
    world_assert_hash(both.world, "s1", "vda", 1, 1);
}
END_TEST

/* --- names of domains --- */

START_TEST(names)
{
    g_auto(Both) both = both_new(PATH("world"));
    static const char *const odd[] = {"..", "ctl", ".dot", "a b 'c' \"d\"", "-dash", "50%25", "\xc3\xbc"};
    libvirt_machine_snapshot(both.web, "s1", "ii");
    for (gsize i = 0; i < G_N_ELEMENTS(odd); i++) {
        g_autoptr(LibvirtMachine) machine = libvirt_machine_new(both.host, odd[i], NULL);
        if (i > 0)
            libvirt_machine_snapshot(machine, "x", "");
    }
    g_autofree char *told = both_import(&both);
    assert_has(told, "..: no snapshots\n"); /* and not those of all the others */
    for (gsize i = 1; i < G_N_ELEMENTS(odd); i++) {
        g_autofree char *line = g_strdup_printf("%s: 1 snapshot, current 'x'\n", odd[i]);
        assert_has(told, line);
    }
    world_reopen(both.world);
    for (gsize i = 0; i < G_N_ELEMENTS(odd); i++) {
        ck_assert_msg(world_domain(both.world, odd[i]) != 0, "'%s' is not there", odd[i]);
        world_assert_read_only(both.world, odd[i], "libvirt defines it");
    }
    g_autofree char *outside = world_store_file(both.world, "domain.xml");
    ck_assert(access(outside, F_OK) < 0);
}
END_TEST

/* --- where the files are --- */

START_TEST(layouts)
{
    static const char *const trees[][2] = {{"etc/libvirt/qemu", "var/lib/libvirt/qemu/snapshot"},
                                           {"etc/qemu", "lib/qemu/snapshot"},
                                           {"qemu", "qemu/snapshot"},
                                           {".", "snapshot"}};
    g_autofree char *number = g_strdup_printf("world%d", _i);
    g_auto(Both) both = both_new(PATH(number));
    libvirt_machine_snapshot(both.web, "s1", "ii");
    g_autofree char *root = g_build_filename(both.world->dir, "another root", NULL);
    g_autofree char *definitions = g_build_filename(root, trees[_i][0], NULL);
    g_autofree char *snapshots = g_build_filename(root, trees[_i][1], NULL);
    g_autofree char *above = g_path_get_dirname(snapshots);
    ck_assert_int_eq(g_mkdir_with_parents(definitions, 0755), 0);
    ck_assert_int_eq(g_mkdir_with_parents(above, 0755), 0);
    tool("cp", "-a", both.host->snapshots, snapshots, NULL);
    g_autofree char *from = libvirt_machine_file(both.web);
    tool("cp", "-a", from, definitions, NULL);
    world_import(both.world, root, "web: 1 snapshot, current 's1'\n");
    world_reopen(both.world);
    g_autofree char *file =
        g_build_filename(root, strcmp(trees[_i][0], ".") == 0 ? "" : trees[_i][0], "web.xml", NULL);
    world_assert_read_only(both.world, "web", file);
}
END_TEST

START_TEST(no_directory)
{
    g_auto(Both) both = both_new(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *file = libvirt_machine_file(both.web);
    ck_assert_ptr_null(world_try_import(both.world, "/nowhere/at/all", &error));
    expect_error(&error, ENOENT, "'/nowhere/at/all");
    ck_assert_ptr_null(world_try_import(both.world, file, &error));
    expect_error(&error, ENOTDIR, "web.xml");
    g_autofree char *snapshots = g_strdup(both.host->snapshots);
    ck_assert_int_eq(rmdir(snapshots), 0);
    g_autofree char *told = both_import(&both); /* a copy of half of it */
    assert_has(told, "! no snapshots are read: ");
    assert_has(told, "\nweb: no snapshots\n");
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("import_documents");
    TCase *documents = scratch_case(suite, "documents");
    tcase_add_test(documents, uuid_only);
    tcase_add_test(documents, carried);
    tcase_add_test(documents, missing_image);
    tcase_add_test(documents, state_is_written);
    tcase_add_test(documents, names);
    tcase_add_loop_test(documents, layouts, 0, 4);
    tcase_add_test(documents, no_directory);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
