/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What several programs assert of a world (engine_world.h). */
#include "engine_world.h"

#include "import.h"

static void tell(gpointer told, gboolean bad, const char *sentence)
{
    g_string_append_printf(told, "%s%s\n", bad ? "! " : "", sentence);
}

char *world_try_import(World *world, const char *dir, GError **error)
{
    GString *told = g_string_new(NULL);
    gboolean ok = import_libvirt(world->engine, dir, tell, told, error);
    return g_string_free(told, !ok);
}

void world_import(World *world, const char *dir, const char *told)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *said = world_try_import(world, dir, &error);
    ck_assert_msg(said != NULL, "import: %s", error ? error->message : "?");
    ck_assert_str_eq(said, told);
}

void world_assert_read_only(World *world, const char *domain, const char *why)
{
    g_autoptr(GError) error = NULL;
    ck_assert(!world_try_create(world, domain, "x", NULL, &error));
    expect_error(&error, EROFS, "is read-only");
    g_autofree char *tree = world_tree(world, domain);
    g_autofree char *log = world_log(world, domain);
    ck_assert_msg(strstr(tree, "read-only: ") != NULL, "%s", tree);
    ck_assert_msg(strstr(log, "read-only: ") != NULL, "%s", log);
    ck_assert_msg(!why || (strstr(tree, why) && strstr(log, why)), "%s\n%s", tree, log);
}

/* A second domain beside "web", to see that nothing of it is touched. */
World *world_two_domains(char *dir)
{
    World *world = world_web(dir);
    g_free(world_image(world, "c.qcow2", 3));
    world_define(world, "other", "c.qcow2", NULL);
    world_create(world, "web", "s1", NULL);
    world_create(world, "web", "s2", BOTH_EXTERNAL);
    world_create(world, "web", "s3", NULL);
    world_create(world, "other", "s1", NULL);
    return world;
}

void world_assert_other_works(World *world)
{
    world_revert(world, "other", "s1");
    world_create(world, "other", NULL, NULL);
    world_check_clean(world, "other");
}

void world_assert_hash(World *world, const char *snapshot, const char *target, int first, int second)
{
    g_autofree char *is = world_hash(world, "web", snapshot, target);
    g_autofree char *should = pattern_hash(first, second);
    ck_assert_msg(strcmp(is, should) == 0, "%s of %s is not %d %d", target, snapshot ? snapshot : "now",
                  first, second);
}

/* A create that fails, for that reason, and changes nothing. */
void world_assert_create_refused(World *world, const char *name, const char *specs, int code,
                                 const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *before = world_digest(world, "web");
    ck_assert_msg(!world_try_create(world, "web", name, specs, &error), "'%s' %s was taken", name ? name : "",
                  specs ? specs : "");
    expect_error(&error, code, text);
    g_autofree char *after = world_digest(world, "web");
    ck_assert_str_eq(after, before);
    world_check_clean(world, "web");
}

char *one_disk_document(World *world, const char *name, const char *format, const char *file,
                        const char *inside)
{
    g_autofree char *path = world_path(world, file);
    g_autofree char *disk = disk_element("vda", format, path, "", inside);
    return domain_document(name, disk);
}

void world_assert_define_refused(World *world, const char *xml, int code, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *before = world_names(world, NULL);
    ck_assert_msg(!world_try_define(world, xml, &error), "was taken: %s", xml);
    expect_error(&error, code, text);
    g_autofree char *after = world_names(world, NULL);
    ck_assert_str_eq(after, before);
}

void world_assert_define_taken(World *world, const char *xml)
{
    g_autoptr(GError) error = NULL;
    ASSERT_OK(world_try_define(world, xml, &error), error);
}
