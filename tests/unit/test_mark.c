/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Images of another store: looked at, never changed (mark.h). */
#include <sys/xattr.h>
#include <unistd.h>

#include "engine_world.h"
#include "runner.h"

#define ATTRIBUTE "user.domsnapfs.store"

static gboolean has_mark(const char *path)
{
    return lgetxattr(path, ATTRIBUTE, NULL, 0) > 0;
}

static gboolean no_attributes(const char *path)
{
    return lsetxattr(path, "user.test", "x", 1, 0) < 0 && skip("no extended attributes here");
}

/* Another store with a domain of the same name and the same image. */
static World *rival(World *world, char *dir)
{
    World *other = world_new(dir);
    g_autofree char *path = world_path(world, "a.qcow2");
    g_autofree char *disk = disk_element("vda", "qcow2", path, "", "");
    g_autofree char *xml = domain_document("web", disk);
    g_autoptr(GError) error = NULL;
    ASSERT_OK(world_try_define(other, xml, &error), error);
    return other;
}

START_TEST(follows_the_images)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *a = world_path(world, "a.qcow2");
    if (no_attributes(a))
        return;
    ck_assert(has_mark(a));
    world_create(world, "web", "s1", "vda,snapshot=external vdb,snapshot=internal");
    world_create(world, "web", "s2", "vda,snapshot=external vdb,snapshot=no");
    g_autofree char *overlay = world_path(world, "a.s2");
    ck_assert(has_mark(overlay));
    world_delete(world, "web", "s1");
    world_merge(world, "web");
    world_create(world, "web", "s3", "vda,snapshot=internal vdb,snapshot=no");
    g_autoptr(GError) error = NULL;
    ASSERT_OK(world->engine->ops->undefine(world->engine, world_domain(world, "web"), TRUE, NULL, &error),
              error);
    ck_assert(!has_mark(a));
    ck_assert(!has_mark(overlay));
}
END_TEST

START_TEST(another_store)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *a = world_path(world, "a.qcow2");
    if (no_attributes(a))
        return;
    g_autoptr(World) other = rival(world, PATH("other"));
    g_autoptr(GError) error = NULL;
    static const char *const specs[] = {NULL, "vda,snapshot=external"};
    for (gsize i = 0; i < G_N_ELEMENTS(specs); i++) {
        ck_assert(!world_try_create(other, "web", "s1", specs[i], &error));
        expect_error(&error, EROFS, "belongs to the store");
    }
    g_autofree char *log = world_log(other, "web");
    ck_assert_msg(strstr(log, "disk 'vda': '") && strstr(log, "belongs to the store"), "%s", log);
    g_autofree char *hash = world_hash(other, "web", NULL, "vda");
    g_autofree char *expected = pattern_hash(1, 1);
    ck_assert_str_eq(hash, expected);
    ASSERT_OK(other->engine->ops->undefine(other->engine, world_domain(other, "web"), TRUE, NULL, &error),
              error);
    ck_assert(has_mark(a)); /* not theirs to take away */
    world_create(world, "web", "s1", NULL);
}
END_TEST

/* The first one has gone: undefined, or, its store lost, by hand. */
START_TEST(given_away)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *a = world_path(world, "a.qcow2");
    if (no_attributes(a))
        return;
    g_autoptr(GError) error = NULL;
    if (_i == 0)
        ASSERT_OK(
            world->engine->ops->undefine(world->engine, world_domain(world, "web"), FALSE, NULL, &error),
            error);
    else
        ck_assert_int_eq(lremovexattr(a, ATTRIBUTE), 0);
    g_autoptr(World) other = rival(world, PATH("other"));
    world_create(other, "web", "s1", "vda,snapshot=external");
    ck_assert(has_mark(a));
}
END_TEST

/* A copy with all attributes is nobody's: it has an inode of its own. */
START_TEST(copied)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(World) other = world_new(PATH("other"));
    g_autofree char *a = world_path(world, "a.qcow2");
    g_autofree char *copy = world_path(other, "a.qcow2");
    if (no_attributes(a))
        return;
    tool("cp", "-a", a, copy, NULL);
    ck_assert(has_mark(copy));
    world_define(other, "web", "a.qcow2", NULL);
    world_create(other, "web", "s1", NULL);
}
END_TEST

/* The store itself is another one after its uuid has gone, and says so of one it cannot read. */
START_TEST(store_uuid)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *file = world_store_file(world, "uuid");
    g_autofree char *first = NULL, *second = NULL;
    ck_assert(g_file_get_contents(file, &first, NULL, NULL));
    world_reopen(world);
    ck_assert(g_file_get_contents(file, &second, NULL, NULL));
    ck_assert_str_eq(first, second);
    world_close(world);
    ck_assert(g_file_set_contents(file, "nothing\n", -1, NULL));
    g_autoptr(GError) error = NULL;
    ck_assert_ptr_null(core_engine_new(&world->options, offline_backend_new(NULL), &error));
    expect_error(&error, EINVAL, "holds no uuid");
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("mark");
    TCase *tcase = scratch_case(suite, "mark");
    tcase_add_test(tcase, follows_the_images);
    tcase_add_test(tcase, another_store);
    tcase_add_loop_test(tcase, given_away, 0, 2);
    tcase_add_test(tcase, copied);
    tcase_add_test(tcase, store_uuid);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
