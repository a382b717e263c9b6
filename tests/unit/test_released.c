/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the user keeps by hand: create --no-metadata and delete --metadata leave it behind, and nothing touches it after. */
#include "engine_world.h"
#include "runner.h"

static gboolean take(World *world, const char *name, const char *specs, GError **error)
{
    g_autoptr(CreateRequest) request = world_request(name, specs);
    request->no_metadata = TRUE;
    return world_try_request(world, "web", request, error);
}

static void must_take(World *world, const char *name, const char *specs)
{
    g_autoptr(GError) error = NULL;
    ASSERT_OK(take(world, name, specs, &error), error);
}

static const Layer *known(World *world, const char *file)
{
    const Core *core = (Core *)world->engine;
    g_autofree char *path = world_path(world, file);
    return domain_find_layer(g_hash_table_lookup(core->by_name, "web"), path);
}

static void assert_released(World *world, const char *file, gboolean frozen)
{
    const Layer *layer = known(world, file);
    ck_assert_msg(layer && layer->released && !layer->made && layer->frozen == frozen, "%s", file);
}

static void assert_tags(World *world, const char *file, const char *tags)
{
    g_autofree char *path = world_path(world, file);
    g_autofree char *is = image_tags(path);
    ck_assert_str_eq(is, tags);
}

static void assert_names(World *world, const char *names, const char *current)
{
    g_autofree char *is = world_names(world, "web");
    g_autofree char *is_current = world_current(world, "web");
    ck_assert_str_eq(is, names);
    ck_assert_str_eq(is_current, current);
}

/* --- create --no-metadata --- */

START_TEST(internal)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    world_create(world, "web", "s1", NULL);
    g_autofree char *xml = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "web"));
    must_take(world, "a/b", NULL); /* any tag that qcow2 can hold */
    must_take(world, ".hidden", "vdb,snapshot=no");
    must_take(world, "active", "vdb,snapshot=no"); /* reserved only as a snapshot's name */
    must_take(world, "two\nlines", "vdb,snapshot=no");
    assert_tags(world, "a.qcow2", ".hidden a/b active s1 two\nlines");
    assert_tags(world, "b.qcow2", "a/b s1");
    for (guint i = 0; i < 2; i++, world_reopen(world)) {
        g_autofree char *now = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "web"));
        ck_assert_str_eq(now, xml);
        assert_names(world, "s1", "s1");
        assert_released(world, "a.qcow2", FALSE);
    }
    /* its own state is what was */
    world_write(world, "web", "vda", 11);
    g_autofree char *a = world_path(world, "a.qcow2");
    g_autofree char *then = content_hash(a, "qcow2", "a/b");
    g_autofree char *expected = pattern_hash(1, 1);
    ck_assert_str_eq(then, expected);
    /* the next snapshot's parent is the one before */
    world_create(world, "web", "s2", NULL);
    g_autofree char *parent = world_parent(world, "web", "s2");
    ck_assert_str_eq(parent, "s1");
    world_revert(world, "web", "s1");
    world_delete(world, "web", "s1");
    world_delete(world, "web", "s2");
    assert_tags(world, "a.qcow2", ".hidden a/b active two\nlines");
    assert_tags(world, "b.qcow2", "a/b");
    world_check_clean(world, "web");
}
END_TEST

START_TEST(bad_names)
{
    g_autofree char *longest = g_strnfill(255, 'x');
    g_autofree char *over = g_strnfill(256, 'x');
    const struct {
        const char *name;
        int code;
        const char *text;
    } bad[] = {{"a/b", EEXIST, "disk 'vda': the image has an internal snapshot 'a/b' already"},
               {"12", EINVAL, "digits only"},
               {over, ENAMETOOLONG, "255"},
               {"\xff", EILSEQ, "UTF-8"}};
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    must_take(world, "a/b", NULL);
    must_take(world, longest, NULL);
    g_autofree char *before = world_digest(world, "web");
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        ck_assert_msg(!take(world, bad[i].name, NULL, &error), "'%s' was taken", bad[i].name);
        expect_error(&error, bad[i].code, bad[i].text);
    }
    g_autofree char *after = world_digest(world, "web");
    ck_assert_str_eq(after, before);
    must_take(world, NULL, "vda,snapshot=no"); /* the time: then a suffix or prefix is nobody's wish */
    must_take(world, "", "vda,snapshot=no");
    g_autofree char *b = world_path(world, "b.qcow2");
    g_autofree char *tags = image_tags(b);
    g_auto(GStrv) each = g_strsplit(tags, " ", -1);
    ck_assert_uint_eq(g_strv_length(each), 4);
    assert_names(world, "", "-");
}
END_TEST

/* A name that a snapshot has is free for an overlay of nobody's; a slash cannot be in a file's name. */
START_TEST(external)
{
    g_autoptr(World) world = world_web(PATH("world"));
    world_create(world, "web", "s1", NULL);
    world_write(world, "web", "vda", 11);
    must_take(world, "s1", BOTH_EXTERNAL);
    g_autofree char *active = world_layer(world, "web", NULL, "vda", NULL);
    g_autofree char *expected = world_path(world, "a.s1");
    ck_assert_str_eq(active, expected);
    world_write(world, "web", "vda", 12);
    for (guint i = 0; i < 2; i++, world_reopen(world)) {
        assert_names(world, "s1", "s1");
        assert_released(world, "a.qcow2", TRUE);
        ck_assert(known(world, "a.s1")->made && !known(world, "a.s1")->released);
        world_assert_hash(world, NULL, "vda", 12, 1);
    }
    g_autofree char *a = world_path(world, "a.qcow2");
    g_autofree char *kept = content_hash(a, "qcow2", NULL);
    g_autofree char *then = pattern_hash(11, 1);
    ck_assert_str_eq(kept, then);
    ck_assert_uint_eq(file_mode(a), 0444);
    must_take(world, "x/y", BOTH_EXTERNAL);
    g_autofree char *slash = world_layer(world, "web", NULL, "vda", NULL);
    g_autofree char *mapped = world_path(world, "a.x_y");
    ck_assert_str_eq(slash, mapped);
    g_autofree char *log = world_log(world, "web");
    ck_assert_ptr_nonnull(strstr(log, "create 'x/y' without metadata: vda external, what was is '"));
    /* the state in the kept file is copied out, not applied to it */
    g_autofree char *bytes = file_hash(a);
    world_revert(world, "web", "s1");
    world_assert_hash(world, NULL, "vda", 1, 1);
    g_autofree char *same = file_hash(a);
    ck_assert_str_eq(same, bytes);
    world_check_clean(world, "web");
}
END_TEST

/* Deleting the last snapshot in a kept frozen file leaves the file as it is. */
START_TEST(kept_file_keeps_tags)
{
    g_autoptr(World) world = world_web(PATH("world"));
    world_create(world, "web", "s1", NULL);
    must_take(world, "kept", BOTH_EXTERNAL);
    g_autofree char *a = world_path(world, "a.qcow2");
    g_autofree char *bytes = file_hash(a);
    world_delete(world, "web", "s1");
    world_reopen(world);
    world_create(world, "web", "s2", NULL);
    g_autofree char *same = file_hash(a);
    ck_assert_str_eq(same, bytes);
    assert_tags(world, "a.qcow2", "s1");
    ck_assert_uint_eq(file_mode(a), 0444);
    world_check_clean(world, "web");
}
END_TEST

/* Layers that nothing needs any more are given back, but not while the present state stands on them. */
START_TEST(given_back)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *a = world_path(world, "a.qcow2");
    must_take(world, "kept", "vda,snapshot=external vdb,snapshot=no");
    world_create(world, "web", "s1", "vda,snapshot=external vdb,snapshot=no");
    world_delete(world, "web", "s1");
    ck_assert_uint_eq(file_mode(a), 0444);
    assert_released(world, "a.qcow2", TRUE);
    world_reopen(world);
    world_write(world, "web", "vda", 13);
    g_autofree char *kept = content_hash(a, "qcow2", NULL);
    g_autofree char *then = pattern_hash(1, 1);
    ck_assert_str_eq(kept, then);
    /* a definition that would have the guest write it is refused */
    g_autofree char *disk = disk_element("vda", "qcow2", a, "", "");
    g_autofree char *xml = domain_document("web", disk);
    ck_assert(!world_try_define(world, xml, &error));
    expect_error(&error, EBUSY, "is a frozen layer");
}
END_TEST

/* A tag that could not be dropped, was dropped by hand, and is the user's now: it is no straggler any more. */
START_TEST(straggler_kept)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *a = world_path(world, "a.qcow2");
    world_create(world, "web", "s1", "vdb,snapshot=no");
    spy_fail(CALL_TAG_DELETE, NULL, EIO);
    world_delete(world, "web", "s1");
    spy_fail(0, NULL, 0);
    tool("qemu-img", "snapshot", "-d", "s1", a, NULL);
    must_take(world, "s1", "vdb,snapshot=no");
    world_reopen(world);
    for (guint i = 0; i < 3; i++) {
        g_autofree char *name = g_strdup_printf("later%u", i);
        world_create(world, "web", name, "vda,snapshot=no");
    }
    assert_tags(world, "a.qcow2", "s1");
    world_check_clean(world, "web");
}
END_TEST

/* --- delete --metadata --- */

/* What lies below a released layer is needed by whoever keeps it: released with it, whatever names it has. */
START_TEST(all_below)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    static const char *const names[] = {"s1", "s2", "s3"};
    for (guint i = 0; i < 3; i++) {
        world_create(world, "web", names[i], "vda,snapshot=external vdb,snapshot=no");
        world_write(world, "web", "vda", 20 + (int)i);
    }
    ck_assert(known(world, "a.s1")->made && !known(world, "a.s1")->released);
    ASSERT_OK(world_try_delete(world, "web", "s3", DELETE_METADATA, &error), error);
    for (guint i = 0; i < 2; i++, world_reopen(world)) {
        assert_released(world, "a.s2", TRUE); /* the state of s3 */
        assert_released(world, "a.s1", TRUE);
        assert_released(world, "a.qcow2", TRUE);
        ck_assert(known(world, "a.s3")->made && !known(world, "a.s3")->released);
    }
    world_delete(world, "web", "s1");
    world_delete(world, "web", "s2");
    world_reopen(world);
    assert_released(world, "a.s1", TRUE);
    g_autofree char *kept = world_path(world, "a.s2");
    g_autofree char *content = content_hash(kept, "qcow2", NULL);
    g_autofree char *then = pattern_hash(21, 1);
    ck_assert_str_eq(content, then);
    world_check_clean(world, "web");
}
END_TEST

/* An internal state that is kept: its file is not ours to unlink, but what else is in it comes and goes. */
START_TEST(kept_tag)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    world_create(world, "web", "s1", NULL);
    world_create(world, "web", "s2", NULL);
    ASSERT_OK(world_try_delete(world, "web", "s1", DELETE_METADATA, &error), error);
    assert_released(world, "a.qcow2", FALSE);
    world_delete(world, "web", "s2");
    assert_tags(world, "a.qcow2", "s1");
    world_create(world, "web", "s1", NULL); /* the tag of that name is not ours: another one is made */
    assert_tags(world, "a.qcow2", "s1 s1-1");
    world_delete(world, "web", "s1");
    assert_tags(world, "a.qcow2", "s1");
    world_check_clean(world, "web");
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("released");
    TCase *tcase = scratch_case(suite, "no metadata");
    tcase_add_test(tcase, internal);
    tcase_add_test(tcase, bad_names);
    tcase_add_test(tcase, external);
    tcase_add_test(tcase, kept_file_keeps_tags);
    tcase_add_test(tcase, given_back);
    tcase_add_test(tcase, straggler_kept);
    tcase_add_test(tcase, all_below);
    tcase_add_test(tcase, kept_tag);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
