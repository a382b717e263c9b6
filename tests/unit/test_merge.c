/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Layers that no state needs any more go, and everything else stays as it is. */
#include "engine_world.h"
#include "runner.h"

/* The files in img/, sorted, "a b c". Caller frees. */
static char *files(World *world)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GDir) dir = g_dir_open(world->images, 0, NULL);
    for (const char *entry; (entry = g_dir_read_name(dir));)
        g_ptr_array_add(names, g_strdup(entry));
    g_ptr_array_sort(names, compare_texts);
    g_ptr_array_add(names, NULL);
    return g_strjoinv(" ", (char **)names->pdata);
}

static void assert_files(World *world, const char *expected)
{
    g_autofree char *now = files(world);
    ck_assert_str_eq(now, expected);
}

/* One disk, three external snapshots; each state begins with its own pattern. */
static World *world_chain(char *dir)
{
    World *world = world_new(dir);
    g_free(world_image(world, "a.qcow2", 1));
    world_define(world, "web", "a.qcow2", NULL);
    for (int i = 1; i <= 3; i++) {
        g_autofree char *name = g_strdup_printf("s%d", i);
        world_write(world, "web", "vda", 10 + i);
        world_create(world, "web", name, "vda,snapshot=external");
    }
    world_write(world, "web", "vda", 20);
    return world;
}

static void assert_state(World *world, const char *snapshot, int first)
{
    world_assert_hash(world, snapshot, "vda", first, 1);
}

START_TEST(middle)
{
    g_autoptr(World) world = world_chain(PATH("world"));
    world_delete(world, "web", "s2");
    world_merge(world, "web");
    assert_files(world, "a.qcow2 a.s2 a.s3");
    assert_state(world, "s1", 11);
    assert_state(world, "s3", 13);
    assert_state(world, NULL, 20);
    world_check_clean(world, "web");
    world_reopen(world);
    world_check_clean(world, "web");
    assert_state(world, "s3", 13);
    world_revert(world, "web", "s3");
    assert_state(world, NULL, 13);
}
END_TEST

START_TEST(root)
{
    g_autoptr(World) world = world_chain(PATH("world"));
    world_delete(world, "web", "s1");
    world_merge(world, "web");

    assert_files(world, "a.qcow2 a.s2 a.s3");
    assert_state(world, "s2", 12);
    assert_state(world, "s3", 13);
    assert_state(world, NULL, 20);
    world_check_clean(world, "web");
    world_reopen(world);
    world_check_clean(world, "web");
    assert_state(world, "s2", 12);
}
END_TEST

START_TEST(all)
{
    g_autoptr(World) world = world_chain(PATH("world"));
    g_autofree char *image = world_path(world, "a.qcow2");
    guint mode = 0644;
    world_delete(world, "web", "s1");
    world_delete(world, "web", "s2");
    world_delete(world, "web", "s3");
    world_merge(world, "web");
    assert_files(world, "a.qcow2");
    assert_state(world, NULL, 20);
    ck_assert_uint_eq(file_mode(image), mode);
    world_check_clean(world, "web");
    g_autofree char *xml = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "web"));
    ck_assert_ptr_nonnull(strstr(xml, image));
    world_reopen(world);
    world_create(world, "web", "again", "vda,snapshot=external");
    assert_state(world, "again", 20);
}
END_TEST

START_TEST(undone)
{
    g_autoptr(World) world = world_chain(PATH("world"));
    world_revert(world, "web", "s1");
    assert_state(world, NULL, 11);
    world_write(world, "web", "vda", 33);
    world_reopen(world);
    world_merge(world, "web");
    world_undo(world, "web");
    assert_state(world, NULL, 20);
    g_autofree char *current = world_current(world, "web");
    ck_assert_str_eq(current, "s3");
    world_merge(world, "web");
    assert_files(world, "a.qcow2 a.s1 a.s2 a.s3");
    world_check_clean(world, "web");
    g_autoptr(GError) error = NULL;
    ck_assert(!world_try_undo(world, "web", &error));
    ck_assert_int_eq(error->code, ENOENT);
}
END_TEST

/* The internal state lies in another file than the one that was written until then: that one waits. */
START_TEST(undone_to_another_file)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_free(world_image(world, "a.qcow2", 1));
    world_define(world, "web", "a.qcow2", NULL);
    world_create(world, "web", "s1", "vda,snapshot=external");
    world_create(world, "web", "s2", "vda,snapshot=internal");
    world_revert(world, "web", "s1");
    world_write(world, "web", "vda", 30);
    world_revert(world, "web", "s2");
    assert_state(world, NULL, 1);
    world_merge(world, "web");
    world_reopen(world);
    world_undo(world, "web");
    assert_state(world, NULL, 30);
    world_merge(world, "web");
    assert_state(world, NULL, 30);
    assert_state(world, "s2", 1);
    world_check_clean(world, "web");
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("merge");
    TCase *tcase = scratch_case(suite, "merge");
    tcase_add_test(tcase, middle);
    tcase_add_test(tcase, root);
    tcase_add_test(tcase, all);
    tcase_add_test(tcase, undone);
    tcase_add_test(tcase, undone_to_another_file);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
