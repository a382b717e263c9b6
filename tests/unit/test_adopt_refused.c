/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Imported domains that are not adopted: the images are not what was imported, or libvirt still has a hand in them. */
#include "import_world.h"
#include "runner.h"

/* After the import libvirt has taken another snapshot, and then undefined the machine. */
static void spoil_with_overlay(Both *both)
{
    g_autofree char *path = world_path(both->world, "a.s4");
    overlay_on(both->world, "a.s3", "", "", path);
}

static void spoil_with_json_name(Both *both)
{
    g_autofree char *path = world_path(both->world, "a.s4");
    overlay_on(both->world, "a.s3",
               "json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"", "\"}}", path);
}

static void spoil_with_qed(Both *both)
{
    g_autofree char *path = world_path(both->world, "a.s4");
    g_autofree char *base = world_path(both->world, "a.s3");
    tool("qemu-img", "create", "-q", "-f", "qed", "-F", "qcow2", "-b", base, path, NULL);
}

/* In the directory where another disk's layers lie. */
static void spoil_elsewhere(Both *both)
{
    g_autofree char *dir = world_path(both->world, "more");
    g_autofree char *path = g_build_filename(dir, "c.s4", NULL);
    overlay_on(both->world, "a.s3", "", "", path);
}

static void spoil_state(Both *both)
{
    g_autofree char *path = world_path(both->world, "a.s2");
    write_pattern(path, 99, "512k 64k");
}

/* The same bytes, another file. */
static void spoil_by_copy(Both *both)
{
    g_autofree char *path = world_path(both->world, "a.s2");
    g_autofree char *copy = world_path(both->world, "copy");
    tool("cp", "-p", path, copy, NULL);
    ck_assert_int_eq(rename(copy, path), 0);
}

static void spoil_active(Both *both)
{
    g_autofree char *path = world_path(both->world, "a.s3");
    g_autofree char *copy = world_path(both->world, "copy");
    tool("cp", "-p", path, copy, NULL);
    ck_assert_int_eq(rename(copy, path), 0);
}

static void spoil_by_unlink(Both *both)
{
    g_autofree char *path = world_path(both->world, "a.s2");
    ck_assert_int_eq(unlink(path), 0);
}

static void spoil_active_by_unlink(Both *both)
{
    g_autofree char *path = world_path(both->world, "a.s3");
    ck_assert_int_eq(unlink(path), 0);
}

/* The machine is still there, called otherwise. */
static void spoil_by_name(Both *both)
{
    g_free(both->web->name);
    both->web->name = g_strdup("else");
    libvirt_machine_define(both->web);
}

/* A file that only libvirt may understand; and one that cannot be read at all. */
static void spoil_by_garbage(Both *both)
{
    g_autofree char *path = g_build_filename(both->host->definitions, "odd.xml", NULL);
    g_autofree char *text =
        g_strdup_printf("<!DOCTYPE domain><domain><uuid>%s</uuid></domain>", both->web->uuid);
    ck_assert(g_file_set_contents(path, text, -1, NULL));
}

static void spoil_by_size(Both *both)
{
    g_autofree char *path = g_build_filename(both->host->definitions, "odd.xml", NULL);
    g_autofree char *much = g_strnfill(1024 * 1024 + 1, ' ');
    ck_assert(g_file_set_contents(path, much, -1, NULL));
}

/* The disk with libvirt's files is not mounted at the moment. */
static void spoil_by_absence(Both *both)
{
    g_autofree char *away = g_strconcat(both->host->definitions, ".away", NULL);
    ck_assert_int_eq(rename(both->host->definitions, away), 0);
}

static void spoil_by_left_snapshots(Both *both)
{
    g_autofree char *text =
        g_strdup_printf("<domainsnapshot><domain><uuid>%s</uuid></domain></domainsnapshot>", both->web->uuid);
    libvirt_machine_put(both->web, "s9.xml", text);
}

static const struct {
    void (*spoil)(Both *both);
    const char *text;
} spoilers[] = {
    {spoil_with_overlay, "a.s4', which was not imported, stands on '"},
    {spoil_with_json_name, "a.s4', which was not imported, stands on '"},
    {spoil_with_qed, "a.s4', which was not imported, stands on '"},
    {spoil_elsewhere, "more/c.s4', which was not imported, stands on '"},
    {spoil_state, "a.s2' was changed since the import: import it again"},
    {spoil_by_copy, "a.s2' is another file since the import: import it again"},
    {spoil_active, "a.s3' is another file since the import: import it again"},
    {spoil_by_unlink, "a.s2' is gone since the import: import it again"},
    {spoil_active_by_unlink, "a.s3' is gone since the import: import it again"},
    {spoil_by_name, "else.xml'): first, there, virsh undefine"},
    {spoil_by_garbage, "odd.xml'): first, there, virsh undefine"},
    {spoil_by_size, "whether libvirt still defines it cannot be known: "},
    {spoil_by_absence, "whether libvirt still defines it cannot be known: "},
    {spoil_by_left_snapshots, "libvirt keeps snapshots of it ('"},
};

/* Names and modes of the images. */
static char *image_modes(World *world)
{
    g_autoptr(GDir) dir = g_dir_open(world->images, 0, NULL);
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    for (const char *entry = g_dir_read_name(dir); entry; entry = g_dir_read_name(dir))
        g_ptr_array_add(lines, g_strdup_printf("%s %o", entry, mode_of(world, entry)));
    g_ptr_array_sort(lines, compare_texts);
    g_ptr_array_add(lines, NULL);
    return g_strjoinv("\n", (char **)lines->pdata);
}

/* Seen at the start or while the store is open: nothing is touched. Taken out it can be, in any case. */
START_TEST(not_what_was_imported)
{
    gboolean meanwhile = _i % 2;
    g_autofree char *number = g_strdup_printf("world%d", _i);
    g_auto(Both) both = both_new(PATH(number));
    World *world = both.world;
    g_autoptr(GError) error = NULL;
    g_autofree char *more = world_path(world, "more");
    ck_assert_int_eq(mkdir(more, 0755), 0);
    g_autofree char *c = world_image(world, "more/c.qcow2", 3);
    both.web->disks[2] = g_strdup(c);
    libvirt_machine_define(both.web);
    import_world_three(both.web);
    world_import(world, both.host->root, THREE);
    if (meanwhile)
        world_reopen(world);
    else
        world_close(world);
    libvirt_machine_undefine(both.web);
    spoilers[_i / 2].spoil(&both);
    g_autofree char *before = image_modes(world);
    if (!meanwhile)
        world_open(world);
    world_assert_read_only(world, "web", spoilers[_i / 2].text);
    ck_assert(!world_try_revert(world, "web", "s1", &error));
    expect_error(&error, EROFS, spoilers[_i / 2].text);
    world_reopen(world);
    world_assert_read_only(world, "web", spoilers[_i / 2].text);
    g_autofree char *after = image_modes(world);
    ck_assert_str_eq(after, before);
    const EngineOps *ops = world->engine->ops;
    ASSERT_OK(ops->undefine(world->engine, world_domain(world, "web"), TRUE, NULL, &error), error);
    g_autofree char *names = world_names(world, NULL);
    ck_assert_str_eq(names, "");
    g_autofree char *then = image_modes(world);
    ck_assert_str_eq(then, before);
}
END_TEST

/* What was wrong is put right: then it is adopted. */
START_TEST(after_all)
{
    g_auto(Both) both = both_undefined(PATH("world"));
    World *world = both.world;
    spoil_with_overlay(&both);
    world_open(world);
    world_assert_read_only(world, "web", "a.s4', which was not imported");
    g_autofree char *path = world_path(world, "a.s4");
    ck_assert_int_eq(unlink(path), 0);
    import_world_use(world);
    both_assert_adopted(&both);
}
END_TEST

/* Spoiled, but libvirt defines it again, and it is imported again. */
START_TEST(imported_again)
{
    g_auto(Both) both = both_new(PATH("world"));
    World *world = both.world;
    import_world_three(both.web);
    world_import(world, both.host->root, THREE);
    world_close(world);
    spoil_by_copy(&both);
    world_open(world);
    world_assert_read_only(world, "web", "a.s2' is another file since the import: import it again");
    world_import(world, both.host->root, THREE);
    world_reopen(world);
    libvirt_machine_undefine(both.web);
    import_world_use(world);
    both_assert_adopted(&both);
}
END_TEST

/* What the guest writes is a snapshot's state: never ours to write. */
START_TEST(state_is_written)
{
    g_auto(Both) both = both_new(PATH("world"));
    World *world = both.world;
    g_autofree char *a = g_strdup(both.web->disks[0]);
    libvirt_machine_snapshot(both.web, "s1", "ee");
    g_free(both.web->disks[0]);
    both.web->disks[0] = g_strdup(a);
    libvirt_machine_define(both.web);
    g_free(both_import(&both));
    libvirt_machine_undefine(both.web);
    world_reopen(world);
    world_assert_read_only(world, "web", "disk 'vda': states of snapshots stand on '");
    ck_assert_uint_eq(mode_of(world, "b.qcow2"), 0644);
}
END_TEST

/* It runs on, without a definition; or somebody reads what it writes, perhaps a machine that stands on it. */
START_TEST(running)
{
    g_auto(Both) both = both_undefined(PATH("world"));
    World *world = both.world;
    g_autoptr(GError) error = NULL;
    Writer *writer = writer_begin(world, both.web->disks[0]);
    world_open(world);
    ck_assert(!world_try_create(world, "web", "x", NULL, &error));
    expect_error(&error, EBUSY, "domain is running: disk 'vda'");
    g_autofree char *tree = world_tree(world, "web");
    assert_has(tree, "read-only: domain is running: disk 'vda'");
    both_assert_untouched(&both);
    writer_end(writer);
    g_autofree char *base = world_path(world, "a.s2"); /* a frozen layer that somebody writes */
    writer = writer_begin(world, base);
    ck_assert(!world_try_create(world, "web", "x", NULL, &error));
    expect_error(&error, EBUSY, "another process writes '");
    both_assert_untouched(&both);
    writer_end(writer);
    g_autofree char *log = world_log(world, "web");
    assert_has(log, "read-only: domain is running");
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("adopt_refused");
    TCase *tcase = scratch_case(suite, "refused");
    tcase_add_loop_test(tcase, not_what_was_imported, 0, 2 * G_N_ELEMENTS(spoilers));
    tcase_add_test(tcase, after_all);
    tcase_add_test(tcase, imported_again);
    tcase_add_test(tcase, state_is_written);
    tcase_add_test(tcase, running);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
