/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Deleting in every tree shape: the name goes, what others need stays byte for byte; tags and their stragglers. */
#include "engine_world.h"
#include "runner.h"

static void assert_parent(World *world, const char *name, const char *parent)
{
    g_autofree char *is = world_parent(world, "web", name);
    ck_assert_msg(strcmp(is, parent) == 0, "the parent of '%s' is '%s', not '%s'", name, is, parent);
}

static void assert_names(World *world, const char *names, const char *current)
{
    g_autofree char *is = world_names(world, "web");
    g_autofree char *is_current = world_current(world, "web");
    ck_assert_str_eq(is, names);
    ck_assert_str_eq(is_current, current);
}

static void delete_with(World *world, const char *name, DeleteFlags flags)
{
    g_autoptr(GError) error = NULL;
    ASSERT_OK(world_try_delete(world, "web", name, flags, &error), error);
}

/*
 * base - a1 - a2      (external all)
 *      \ b1 - b2      b1 internal, b2 external
 *      \ c1           internal, current
 */
static World *grown(char *dir)
{
    World *world = world_web(dir);
    world_create(world, "web", "base", BOTH_EXTERNAL);
    world_write(world, "web", "vda", 11);
    world_create(world, "web", "a1", BOTH_EXTERNAL);
    world_write(world, "web", "vda", 12);
    world_create(world, "web", "a2", BOTH_EXTERNAL);
    world_revert(world, "web", "base");
    world_write(world, "web", "vda", 21);
    world_create(world, "web", "b1", NULL);
    world_write(world, "web", "vda", 22);
    world_create(world, "web", "b2", BOTH_EXTERNAL);
    world_revert(world, "web", "base");
    world_write(world, "web", "vda", 31);
    world_create(world, "web", "c1", NULL);
    world_write(world, "web", "vda", 32);
    return world;
}

static const struct {
    const char *name;
    int pattern;
} states[] = {{"base", 1}, {"a1", 11}, {"a2", 12}, {"b1", 21}, {"b2", 22}, {"c1", 31}, {NULL, 32}};

/* Each state that is still there has its content. */
static void assert_states(World *world)
{
    for (gsize i = 0; i < G_N_ELEMENTS(states); i++) {
        if (states[i].name && !world_snapshot(world, "web", states[i].name))
            continue;
        g_autofree char *is = world_hash(world, "web", states[i].name, "vda");
        g_autofree char *should = pattern_hash(states[i].pattern, 1);
        ck_assert_msg(strcmp(is, should) == 0, "'%s' has changed", states[i].name ? states[i].name : "now");
    }
    world_check_clean(world, "web");
}

/* One after the other, in an order of its own each time; every other state is looked at after each. */
START_TEST(any_order)
{
    static const char *const orders[] = {"base a1 b1 c1 a2 b2", "c1 b2 a2 b1 a1 base", "b1 base a2 c1 b2 a1",
                                         "a1 b2 base c1 b1 a2"};
    g_autofree char *number = g_strdup_printf("%d", _i);
    g_autoptr(World) world = grown(PATH(number));
    g_auto(GStrv) order = g_strsplit(orders[_i], " ", -1);
    assert_states(world);
    for (guint i = 0; order[i]; i++) {
        world_delete(world, "web", order[i]);
        ck_assert_uint_eq(world_snapshot(world, "web", order[i]), 0);
        assert_states(world);
        if (i == 2)
            world_reopen(world);
        if (order[i + 1] && i % 2) { /* what is left can be gone back to, and forth */
            world_revert(world, "web", order[i + 1]);
            for (gsize k = 0; k < G_N_ELEMENTS(states); k++)
                if (states[k].name && strcmp(states[k].name, order[i + 1]) == 0) {
                    g_autofree char *is = world_hash(world, "web", NULL, "vda");
                    g_autofree char *should = pattern_hash(states[k].pattern, 1);
                    ck_assert_str_eq(is, should);
                }
            world_write(world, "web", "vda", 32);
        }
    }
    assert_names(world, "", "-");
    world_create(world, "web", "root", NULL);
    assert_parent(world, "root", "-");
    world_reopen(world);
    world_check_clean(world, "web");
}
END_TEST

START_TEST(parents)
{
    g_autoptr(World) world = grown(PATH("world"));
    assert_names(world, "base a1 a2 b1 b2 c1", "c1");
    world_delete(world, "web", "b1"); /* a middle one */
    assert_parent(world, "b2", "base");
    world_delete(world, "web", "c1"); /* the current one: its parent is */
    assert_names(world, "base a1 a2 b2", "base");
    world_delete(world, "web", "base"); /* a root with several children: each is a root; nothing is current */
    assert_names(world, "a1 a2 b2", "-");
    assert_parent(world, "a1", "-");
    assert_parent(world, "b2", "-");
    assert_parent(world, "a2", "a1");
    g_autofree char *xml = world_text(world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(world, "web", "a1"));
    ck_assert_ptr_null(strstr(xml, "<parent>"));
    world_reopen(world);
    assert_parent(world, "a2", "a1");
    assert_names(world, "a1 a2 b2", "-");
}
END_TEST

START_TEST(whole_trees)
{
    g_autoptr(World) world = grown(PATH("world"));
    delete_with(world, "a1", DELETE_CHILDREN);
    assert_names(world, "base b1 b2 c1", "c1");
    assert_states(world);
    delete_with(world, "b1", DELETE_CHILDREN_ONLY);
    assert_names(world, "base b1 c1", "c1");
    assert_states(world);
    delete_with(world, "base", DELETE_CHILDREN_ONLY); /* current was among them: moves up */
    assert_names(world, "base", "base");
    assert_states(world);
    world_create(world, "web", "again", NULL);
    delete_with(world, "base", DELETE_CHILDREN);
    assert_names(world, "", "-");
    world_reopen(world);
    assert_states(world);
}
END_TEST

/* The tag of an internal state goes with its name, also out of a frozen file; that is not a change from outside. */
START_TEST(tags_go)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *a = world_path(world, "a.qcow2");
    world_create(world, "web", "s1", NULL);
    world_create(world, "web", "s2", NULL);
    world_create(world, "web", "s3", BOTH_EXTERNAL);
    world_delete(world, "web", "s1");
    g_autofree char *tags = image_tags(a);
    ck_assert_str_eq(tags, "s2");
    ck_assert_uint_eq(file_mode(a), 0444);
    world_check_clean(world, "web");
    world_reopen(world);
    world_check_clean(world, "web");
    world_revert(world, "web", "s3");
    world_delete(world, "web", "s3");
    world_delete(world, "web", "s2");
    g_autofree char *none = image_tags(a);
    ck_assert_str_eq(none, "");
    world_reopen(world);
    world_check_clean(world, "web");
}
END_TEST

/* No file is ever unlinked. */
START_TEST(files_stay)
{
    g_autoptr(World) world = grown(PATH("world"));
    g_autoptr(GDir) dir = g_dir_open(world->images, 0, NULL);
    delete_with(world, "base", DELETE_CHILDREN);
    for (const char *entry = g_dir_read_name(dir); entry; entry = g_dir_read_name(dir)) {
        g_autofree char *path = world_path(world, entry);
        ck_assert_msg(access(path, F_OK) == 0, "'%s' is gone", entry);
    }
    assert_states(world);
}
END_TEST

/* --- tags that could not be dropped --- */

START_TEST(later)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *a = world_path(world, "a.qcow2");
    world_create(world, "web", "s1", "vdb,snapshot=no");
    world_create(world, "web", "s2", "vdb,snapshot=no");
    spy_fail(CALL_TAG_DELETE, NULL, EBUSY);
    world_delete(world, "web", "s1"); /* has happened all the same */
    spy_fail(0, NULL, 0);
    assert_names(world, "s2", "s2");
    g_autofree char *both = image_tags(a);
    ck_assert_str_eq(both, "s1 s2");
    world_reopen(world); /* remembered */
    world_create(world, "web", "s3", "vdb,snapshot=no");
    g_autofree char *rest = image_tags(a);
    ck_assert_str_eq(rest, "s2 s3");
    world_check_clean(world, "web");
}
END_TEST

/* A straggler's name is used again: the new snapshot's tag is not dropped in its place. */
START_TEST(straggler_named_again)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *a = world_path(world, "a.qcow2");
    world_create(world, "web", "s1", "vdb,snapshot=no");
    spy_fail(CALL_TAG_DELETE, NULL, EBUSY);
    world_delete(world, "web", "s1");
    spy_fail(0, NULL, 0);
    tool("qemu-img", "snapshot", "-d", "s1", a, NULL); /* somebody has cleaned up by hand */
    world_write(world, "web", "vda", 77);
    world_create(world, "web", "s1", "vdb,snapshot=no");
    world_create(world, "web", "s2", "vdb,snapshot=no");
    g_autofree char *tags = image_tags(a);
    ck_assert_str_eq(tags, "s1 s2");
    g_autofree char *is = world_hash(world, "web", "s1", "vda");
    g_autofree char *should = pattern_hash(77, 1);
    ck_assert_str_eq(is, should);
}
END_TEST

/* A file that another domain has too is not written; the tag goes when that one is gone. */
START_TEST(shared_file)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *a = world_path(world, "a.qcow2");
    world_create(world, "web", "s1", "vdb,snapshot=no");
    world_define(world, "other", "a.qcow2", NULL);
    g_autofree char *before = file_hash(a);
    world_delete(world, "web", "s1");
    g_autofree char *after = file_hash(a);
    ck_assert_str_eq(after, before);
    world_reopen(world);
    ASSERT_OK(world->engine->ops->undefine(world->engine, world_domain(world, "other"), FALSE, NULL, &error),
              error);
    world_create(world, "web", "s2", "vda,snapshot=no");
    g_autofree char *tags = image_tags(a);
    ck_assert_str_eq(tags, "");
}
END_TEST

/* Somebody reads the state: its name goes, its tag when nobody does any more. */
START_TEST(tag_that_is_read)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *a = world_path(world, "a.qcow2"), *b = world_path(world, "b.qcow2"), *tag = NULL;
    GError *error = NULL;
    guint8 byte = 0;
    world_create(world, "web", "s1", NULL);
    world_write(world, "web", "vda", 9);
    g_autofree char *path = world_layer(world, "web", "s1", "vda", &tag);
    ck_assert_str_eq(path, a);
    Backend *backend = offline_backend_new(NULL);
    DiskLayer layer = {.path = path, .format = FORMAT_QCOW2};
    DiskReader *reader = backend->ops->open_disk(backend, &(DiskChain){&layer, 1, DISK_TAG, tag}, &error);
    ASSERT_OK(reader != NULL, error);
    world_delete(world, "web", "s1");
    g_autofree char *names = world_names(world, "web"), *tags = image_tags(a), *others = image_tags(b);
    ck_assert_str_eq(names, "");
    ck_assert_str_eq(tags, "s1");
    ck_assert_str_eq(others, "");
    world_reopen(world);
    world_create(world, "web", "s2", "vda,snapshot=external vdb,snapshot=no");
    world_write(world, "web", "vda", 8);
    ASSERT_OK(reader->ops->read(reader, &byte, 1, 0, &error), error);
    ck_assert_uint_eq(byte, 1);
    disk_reader_free(reader);
    backend->ops->free(backend);
    world_create(world, "web", "s3", "vda,snapshot=no vdb,snapshot=external");
    g_autofree char *now = image_tags(a);
    ck_assert_str_eq(now, "");
    world_check_clean(world, "web");
}
END_TEST

/* --- release --- */

START_TEST(metadata_only)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *a = world_path(world, "a.qcow2");
    g_autofree char *b = world_path(world, "b.qcow2");
    world_create(world, "web", "s1", NULL);
    world_create(world, "web", "s2", BOTH_EXTERNAL);
    g_autofree char *active = world_layer(world, "web", NULL, "vdb", NULL);
    Writer *writer = writer_begin(world, active);
    delete_with(world, "s1", DELETE_METADATA); /* also while the domain runs */
    g_autoptr(GError) error = NULL;
    gboolean deleted = world_try_delete(world, "web", "s2", DELETE_ONE, &error);
    writer_end(writer);
    ck_assert(!deleted);
    expect_error(&error, EBUSY, "domain is running");
    g_autofree char *tags = image_tags(a);
    ck_assert_str_eq(tags, "s1");
    delete_with(world, "s2", DELETE_METADATA);
    world_create(world, "web", "s3", "vda,snapshot=internal vdb,snapshot=internal");
    world_delete(world, "web", "s3");
    world_reopen(world);
    g_autofree char *still = image_tags(b);
    ck_assert_str_eq(still, "s1");
    world_check_clean(world, "web");
}
END_TEST

/* A released layer is nobody's to merge or unlink, for good: the store says so after a restart too. */
START_TEST(released_for_good)
{
    g_autoptr(World) world = world_web(PATH("world"));
    world_create(world, "web", "s1", "vdb,snapshot=no vda,snapshot=external"); /* a.s1 is ours */
    world_create(world, "web", "s2", "vdb,snapshot=no");                       /* a tag in it */
    world_create(world, "web", "between", "vdb,snapshot=no");                  /* the only child of that */
    world_create(world, "web", "s3",
                 "vdb,snapshot=no vda,snapshot=external"); /* and frozen, recorded with s3 */
    g_autofree char *layer = world_layer(world, "web", "s2", "vda", NULL);
    delete_with(world, "s2", DELETE_METADATA);
    world_reopen(world);
    const Core *core = (Core *)world->engine;
    const Domain *domain = g_hash_table_lookup(core->by_name, "web");
    ck_assert(!domain_find_layer(domain, layer)->made);
    ck_assert(domain_find_layer(domain, layer)->frozen);
}
END_TEST

START_TEST(refused)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    world_create(world, "web", "s1", NULL);
    EngineId id = world_snapshot(world, "web", "s1");
    world_delete(world, "web", "s1");
    ck_assert(!world->engine->ops->delete (world->engine, id, DELETE_ONE, NULL, &error));
    expect_error(&error, ENOENT, NULL);
    ck_assert(!world->engine->ops->delete (world->engine, 0, DELETE_ONE, NULL, &error));
    expect_error(&error, ENOENT, NULL);
    ck_assert(
        !world->engine->ops->delete (world->engine, world_domain(world, "web"), DELETE_ONE, NULL, &error));
    expect_error(&error, ENOENT, NULL);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("delete");
    TCase *tcase = scratch_case(suite, "delete");
    tcase_add_loop_test(tcase, any_order, 0, 4);
    tcase_add_test(tcase, parents);
    tcase_add_test(tcase, whole_trees);
    tcase_add_test(tcase, tags_go);
    tcase_add_test(tcase, files_stay);
    tcase_add_test(tcase, later);
    tcase_add_test(tcase, straggler_named_again);
    tcase_add_test(tcase, tag_that_is_read);
    tcase_add_test(tcase, shared_file);
    tcase_add_test(tcase, metadata_only);
    tcase_add_test(tcase, released_for_good);
    tcase_add_test(tcase, refused);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
