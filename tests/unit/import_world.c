/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "import_world.h"

Both both_new(char *dir)
{
    Both both = {.world = world_new(dir)};
    g_autofree char *root = g_build_filename(dir, "host", NULL);
    g_autofree char *a = world_image(both.world, "a.qcow2", 1);
    g_autofree char *b = world_image(both.world, "b.qcow2", 2);
    both.host = libvirt_host_new(root);
    both.web = libvirt_machine_new(both.host, "web", a, b, NULL);
    return both;
}

void both_clear(Both *both)
{
    libvirt_machine_free(both->web);
    libvirt_host_free(both->host);
    world_free(both->world);
}

void assert_has(const char *text, const char *part)
{
    ck_assert_msg(strstr(text, part) != NULL, "no '%s' in: %s", part, text);
}

char *both_import(const Both *both)
{
    g_autoptr(GError) error = NULL;
    char *told = world_try_import(both->world, both->host->root, &error);
    ck_assert_msg(told != NULL, "%s", error ? error->message : "?");
    return told;
}

void both_assert_snapshots(const Both *both, const char *names, const char *current)
{
    for (guint i = 0; i < 2; i++, world_reopen(both->world)) {
        g_autofree char *is = world_names(both->world, "web");
        g_autofree char *now = world_current(both->world, "web");
        ck_assert_str_eq(is, names);
        ck_assert_str_eq(now, current);
        g_autofree char *tree = world_tree(both->world, "web");
        assert_has(tree, "read-only: libvirt defines it"); /* and not: damaged */
    }
}

void import_world_write(const LibvirtMachine *machine, int pattern)
{
    write_pattern(machine->disks[0], pattern, "0 64k");
}

void import_world_three(LibvirtMachine *web)
{
    libvirt_machine_snapshot(web, "s1", "ii");
    import_world_write(web, 11);
    libvirt_machine_snapshot(web, "s2", "ee");
    import_world_write(web, 12);
    libvirt_machine_snapshot(web, "s3", "ei");
    import_world_write(web, 13);
}

void import_world_assert_states(World *world)
{
    world_assert_hash(world, "s1", "vda", 1, 1);
    world_assert_hash(world, "s1", "vdb", 2, 2);
    world_assert_hash(world, "s2", "vda", 11, 1);
    world_assert_hash(world, "s2", "vdb", 2, 2);
    world_assert_hash(world, "s3", "vda", 12, 1);
    world_assert_hash(world, "s3", "vdb", 2, 2);
    world_assert_hash(world, NULL, "vda", 13, 1);
    world_assert_hash(world, NULL, "vdb", 2, 2);
}

guint mode_of(World *world, const char *file)
{
    g_autofree char *path = world_path(world, file);
    return file_mode(path);
}

Both both_undefined(char *dir)
{
    Both both = both_new(dir);
    import_world_three(both.web);
    world_import(both.world, both.host->root, THREE);
    libvirt_machine_undefine(both.web);
    world_close(both.world);
    return both;
}

void both_assert_adopted(const Both *both)
{
    World *world = both->world;
    world_check_clean(world, "web");
    ck_assert_uint_eq(mode_of(world, "a.qcow2"), 0444);
    ck_assert_uint_eq(mode_of(world, "a.s2"), 0444);
    ck_assert_uint_eq(mode_of(world, "b.qcow2"), 0444);
    ck_assert_uint_eq(mode_of(world, "a.s3"), 0644);
    ck_assert_uint_eq(mode_of(world, "b.s2"), 0644); /* s3 is a tag in it, and the guest writes it */
}

void both_assert_untouched(const Both *both)
{
    static const char *const files[] = {"a.qcow2", "a.s2", "a.s3", "b.qcow2", "b.s2"};
    for (gsize i = 0; i < G_N_ELEMENTS(files); i++)
        ck_assert_uint_eq(mode_of(both->world, files[i]), 0644);
}

void import_world_use(World *world)
{
    import_world_assert_states(world);
    world_create(world, "web", "here", NULL);
    world_revert(world, "web", "s1");
    world_assert_hash(world, NULL, "vda", 1, 1);
    world_write(world, "web", "vda", 77);
    world_revert(world, "web", "s2");
    world_assert_hash(world, NULL, "vda", 11, 1);
    world_write(world, "web", "vda", 78);
    world_revert(world, "web", "s3");
    world_assert_hash(world, NULL, "vda", 12, 1);
    world_revert(world, "web", "here");
    world_delete(world, "web", "here");
    import_world_assert_states(world);
    world_check_clean(world, "web");
}

void overlay_on(World *world, const char *base, const char *before, const char *after, const char *path)
{
    g_autofree char *name = world_path(world, base);
    g_autofree char *backing = g_strconcat(before, name, after, NULL);
    tool("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", backing, path, "1M", NULL);
}
