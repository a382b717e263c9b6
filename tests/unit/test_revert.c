/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Going back: internal in place, internal under overlays, external, mixed, and disks that come and go. */
#include "engine_world.h"
#include "runner.h"

static void assert_hash(World *world, const char *snapshot, const char *target, int first, int second)
{
    g_autofree char *is = world_hash(world, "web", snapshot, target);
    g_autofree char *should = pattern_hash(first, second);
    ck_assert_msg(strcmp(is, should) == 0, "%s of %s is not %d %d", target, snapshot ? snapshot : "now",
                  first, second);
}

static void assert_current(World *world, const char *name)
{
    g_autofree char *current = world_current(world, "web");
    ck_assert_str_eq(current, name);
}

static void assert_refused(World *world, const char *name, int code, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *before = world_digest(world, "web");
    ck_assert(!world_try_revert(world, "web", name, &error));
    expect_error(&error, code, text);
    g_autofree char *after = world_digest(world, "web");
    ck_assert_str_eq(after, before);
}

/* Define "web" anew with these <disk> elements (freed here), NULL at the end. */
static void redefine(World *world, ...) G_GNUC_NULL_TERMINATED;
static void redefine(World *world, ...)
{
    g_autoptr(GString) disks = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    va_list args;
    va_start(args, world);
    for (char *disk = va_arg(args, char *); disk; disk = va_arg(args, char *)) {
        g_string_append(disks, disk);
        g_free(disk);
    }
    va_end(args);
    g_autofree char *xml = domain_document("web", disks->str);
    ASSERT_OK(world_try_define(world, xml, &error), error);
}

static char *present_disk(World *world, const char *target)
{
    g_autofree char *path = world_layer(world, "web", NULL, target, NULL);
    return disk_element(target, "qcow2", path, "", "");
}

START_TEST(in_place)
{
    g_autoptr(World) world = world_web(PATH("world"));
    world_create(world, "web", "s1", NULL);
    world_write(world, "web", "vda", 11);
    world_write(world, "web", "vdb", 12);
    world_create(world, "web", "s2", NULL);
    world_write(world, "web", "vda", 21);
    world_revert(world, "web", "s1");
    assert_current(world, "s1");
    assert_hash(world, NULL, "vda", 1, 1);
    assert_hash(world, NULL, "vdb", 2, 2);
    assert_hash(world, "s2", "vda", 11, 1);
    world_write(world, "web", "vda", 31);
    world_create(world, "web", "s3", NULL);
    g_autofree char *parent = world_parent(world, "web", "s3");
    ck_assert_str_eq(parent, "s1");
    world_revert(world, "web", "s2");
    assert_hash(world, NULL, "vda", 11, 1);
    assert_hash(world, NULL, "vdb", 12, 2);
    assert_hash(world, "s3", "vda", 31, 1);
    g_autofree char *a = world_path(world, "a.qcow2");
    g_autofree char *layer = world_layer(world, "web", NULL, "vda", NULL);
    g_autofree char *tags = image_tags(a);
    ck_assert_str_eq(layer, a);
    ck_assert_str_eq(tags, "(hidden) s1 s2 s3"); /* one for undo; nothing of the revert before stays */
    world_check_clean(world, "web");
}
END_TEST

START_TEST(external)
{
    g_autoptr(World) world = world_web(PATH("world"));
    world_create(world, "web", "s1", BOTH_EXTERNAL);
    world_write(world, "web", "vda", 11);
    world_create(world, "web", "s2", BOTH_EXTERNAL);
    world_write(world, "web", "vda", 21);
    g_autofree char *old = world_layer(world, "web", NULL, "vda", NULL);
    g_autofree char *old_hash = file_hash(old);
    world_revert(world, "web", "s1");
    assert_current(world, "s1");
    assert_hash(world, NULL, "vda", 1, 1);
    assert_hash(world, "s2", "vda", 11, 1);
    g_autofree char *old_now = file_hash(old);
    ck_assert_str_eq(old_now, old_hash);
    world_write(world, "web", "vda", 31);
    world_revert(world, "web", "s1"); /* to the one that is current: drop the changes since */
    assert_hash(world, NULL, "vda", 1, 1);
    world_revert(world, "web", "s2");
    assert_hash(world, NULL, "vda", 11, 1);
    assert_current(world, "s2");
    world_check_clean(world, "web");
}
END_TEST

/* The definition is that of then, under the name and uuid of today. */
START_TEST(definition)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    world_create(world, "web", "s1", NULL);
    g_autofree char *xml = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "web"));
    g_autoptr(GString) more = g_string_new(xml);
    g_string_replace(more, "<memory unit='KiB'>65536</memory>", "<memory unit='KiB'>131072</memory>", 0);
    ASSERT_OK(world_try_define(world, more->str, &error), error);
    ASSERT_OK(world_try_rename(world, "web", NULL, "other", &error), error);
    world_revert(world, "other", "s1");
    g_autofree char *now = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "other"));
    g_autoptr(GString) expected = g_string_new(xml);
    g_string_replace(expected, "<name>web</name>", "<name>other</name>", 0);
    ck_assert_str_eq(now, expected->str);
}
END_TEST

/* Internal states in a file that is frozen by now: it is not touched, the state is copied out. */
START_TEST(under_overlays)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *a = world_path(world, "a.qcow2");
    world_create(world, "web", "s1", NULL);
    world_write(world, "web", "vda", 11);
    world_create(world, "web", "s2", BOTH_EXTERNAL);
    world_write(world, "web", "vda", 21);
    g_autofree char *frozen = file_hash(a);
    world_revert(world, "web", "s1");
    g_autofree char *still = file_hash(a);
    ck_assert_str_eq(still, frozen);
    ck_assert_uint_eq(file_mode(a), 0444);
    g_autofree char *layer = world_layer(world, "web", NULL, "vda", NULL);
    ck_assert_str_ne(layer, a);
    assert_hash(world, NULL, "vda", 1, 1);
    assert_hash(world, "s2", "vda", 11, 1);
    world_write(world, "web", "vda", 31);
    world_create(world, "web", "s3", NULL);
    world_revert(world, "web", "s2");
    assert_hash(world, NULL, "vda", 11, 1);
    world_revert(world, "web", "s3");
    assert_hash(world, NULL, "vda", 31, 1);
    world_reopen(world);
    assert_hash(world, "s1", "vda", 1, 1);
    world_check_clean(world, "web");
}
END_TEST

/* The same with a chain below, and with clusters smaller and larger than an overlay's. */
START_TEST(cluster_sizes)
{
    static const char *const sizes[] = {"cluster_size=4k", "cluster_size=2M",
                                        "cluster_size=64k,extended_l2=on"};
    g_autoptr(World) world = world_new(PATH(_i == 0 ? "4k" : _i == 1 ? "2m" : "extended"));
    g_free(world_image(world, "base.qcow2", 1));
    g_autofree char *top = world_path(world, "top.qcow2");
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", sizes[_i], "-b", "base.qcow2", "-F", "qcow2", top,
         NULL);
    write_pattern(top, 5, "32k 32k");
    world_define(world, "web", "top.qcow2", NULL);
    g_autofree char *first = world_hash(world, "web", NULL, "vda");
    world_create(world, "web", "s1", NULL);
    write_pattern(top, 6, "60k 8k");
    g_autofree char *second = world_hash(world, "web", NULL, "vda");
    world_create(world, "web", "s2", "vda,snapshot=external");
    world_write(world, "web", "vda", 7);
    world_revert(world, "web", "s1");
    g_autofree char *now = world_hash(world, "web", NULL, "vda");
    g_autofree char *kept = world_hash(world, "web", "s2", "vda");
    ck_assert_str_eq(now, first);
    ck_assert_str_eq(kept, second);
    g_autofree char *active = world_layer(world, "web", NULL, "vda", NULL);
    g_autofree char *info = tool_output("qemu-img", "info", "--output=json", active, NULL);
    ck_assert_ptr_nonnull(strstr(info, "\"backing-filename\": \"./base.qcow2\""));
    world_check_clean(world, "web");
}
END_TEST

/* Whoever needs the file's own content keeps it: another domain's overlay or disk, a clone made by hand. */
START_TEST(needed_by_others)
{
    static const char *const cases[] = {"stands on it", "has it", "clone"};
    g_autoptr(World) world = world_web(PATH(cases[_i]));
    g_autofree char *a = world_path(world, "a.qcow2");
    world_create(world, "web", "s1", "vdb,snapshot=no");
    world_write(world, "web", "vda", 11);
    g_autofree char *over = world_path(world, "over.qcow2");
    if (_i != 1)
        tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", a, "-F", "qcow2", over, NULL);
    if (_i == 0)
        world_define(world, "other", "over.qcow2", NULL);
    if (_i == 1)
        world_define(world, "other", "a.qcow2", NULL);
    world_revert(world, "web", "s1");
    assert_hash(world, NULL, "vda", 1, 1);
    g_autofree char *theirs = content_hash(_i == 1 ? a : over, "qcow2", NULL);
    g_autofree char *expected = pattern_hash(11, 1);
    ck_assert_str_eq(theirs, expected);
    world_check_clean(world, "web");
}
END_TEST

START_TEST(mixed)
{
    g_autoptr(World) world = world_web(PATH("world"));
    world_create(world, "web", "m1", "vda,snapshot=external vdb,snapshot=internal");
    world_write(world, "web", "vda", 11);
    world_write(world, "web", "vdb", 12);
    world_create(world, "web", "m2", "vda,snapshot=internal vdb,snapshot=external");
    world_write(world, "web", "vda", 21);
    world_write(world, "web", "vdb", 22);
    world_create(world, "web", "m3", NULL);
    static const struct {
        const char *name;
        int a, b;
    } states[] = {{"m1", 1, 2}, {"m3", 21, 22}, {"m2", 11, 12}, {"m1", 1, 2}, {"m2", 11, 12}, {"m3", 21, 22}};
    for (gsize i = 0; i < G_N_ELEMENTS(states); i++) {
        world_revert(world, "web", states[i].name);
        assert_hash(world, NULL, "vda", states[i].a, 1);
        assert_hash(world, NULL, "vdb", states[i].b, 2);
        assert_hash(world, "m1", "vda", 1, 1);
        assert_hash(world, "m2", "vdb", 12, 2);
        assert_hash(world, "m3", "vda", 21, 1);
        world_write(world, "web", "vda", 90 + (int)i);
    }
    world_check_clean(world, "web");
}
END_TEST

/* --- disks that come and go --- */

START_TEST(took_no_part)
{
    g_autoptr(World) world = world_web(PATH("world"));
    world_create(world, "web", "s1", "vdb,snapshot=no");
    world_write(world, "web", "vda", 11);
    world_write(world, "web", "vdb", 12);
    world_revert(world, "web", "s1");
    assert_hash(world, NULL, "vda", 1, 1);
    assert_hash(world, NULL, "vdb", 12, 2); /* stays as it is */
    world_create(world, "web", "s2", "vda,snapshot=no vdb,snapshot=external");
    world_write(world, "web", "vdb", 22);
    world_revert(world, "web", "s1");
    assert_hash(world, NULL, "vdb", 22, 2); /* also where its layer is another one now */
    g_autofree char *b = world_path(world, "b.qcow2");
    g_autofree char *active = world_layer(world, "web", NULL, "vdb", NULL);
    ck_assert_str_ne(active, b);
    assert_hash(world, "s2", "vdb", 12, 2);
}
END_TEST

START_TEST(added_later)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *c = world_image(world, "c.qcow2", 3);
    g_autofree char *before = file_hash(c);
    world_create(world, "web", "s1", NULL);
    redefine(world, present_disk(world, "vda"), present_disk(world, "vdb"),
             disk_element("vdc", "qcow2", c, "", ""), NULL);
    world_create(world, "web", "s2", NULL);
    world_revert(world, "web", "s1");
    g_autofree char *xml = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "web"));
    ck_assert_ptr_null(strstr(xml, "vdc"));
    g_autofree char *kept = file_hash(c);
    ck_assert(access(c, R_OK) == 0 && strlen(before) == strlen(kept));
    world_revert(world, "web", "s2");
    assert_hash(world, NULL, "vdc", 3, 3);
}
END_TEST

START_TEST(removed_since)
{
    g_autoptr(World) world = world_web(PATH("world"));
    world_create(world, "web", "both", NULL);
    world_create(world, "web", "only", "vdb,snapshot=no");
    redefine(world, present_disk(world, "vda"), NULL);
    world_reopen(world);
    world_revert(world, "web", "both");
    assert_hash(world, NULL, "vdb", 2, 2);
    redefine(world, present_disk(world, "vda"), NULL);
    world_delete(world, "web", "both"); /* now nothing of the store names its image */
    world_reopen(world);
    world_revert(world, "web", "only");
    assert_hash(world, NULL, "vdb", 2, 2);
    world_create(world, "web", "again", BOTH_EXTERNAL); /* and it works like any other disk */
    assert_hash(world, "again", "vdb", 2, 2);
    world_check_clean(world, "web");
}
END_TEST

/* A disk that took no part, left the domain, and whose image is frozen by now: never handed to the guest. */
START_TEST(removed_and_frozen)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *b = world_path(world, "b.qcow2");
    world_create(world, "web", "s1", "vdb,snapshot=no");
    world_create(world, "web", "s2", BOTH_EXTERNAL);
    redefine(world, present_disk(world, "vda"), NULL);
    world_reopen(world);
    world_revert(world, "web", "s1");
    g_autofree char *active = world_layer(world, "web", NULL, "vdb", NULL);
    ck_assert_str_ne(active, b);
    world_write(world, "web", "vdb", 42);
    assert_hash(world, "s2", "vdb", 2, 2);
    assert_hash(world, NULL, "vdb", 42, 2);
    world_check_clean(world, "web");
}
END_TEST

/* --- what fails --- */

START_TEST(refused)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *b = world_path(world, "b.qcow2");
    world_create(world, "web", "s1", NULL);
    assert_refused(world, "none", ENOENT, "no such snapshot");
    for (guint i = 0; i < 2; i++) {
        RevertRequest request = {.name = (char *)"s1", .running = i == 0, .paused = i == 1};
        ck_assert(
            !world->engine->ops->revert(world->engine, world_domain(world, "web"), &request, NULL, &error));
        expect_error(&error, EOPNOTSUPP, "machines cannot be started here");
    }
    world_write(world, "web", "vda", 11);
    Writer *writer = writer_begin(world, b);
    ck_assert(!world_try_revert(world, "web", "s1", &error));
    writer_end(writer);
    expect_error(&error, EBUSY, "domain is running");
    assert_hash(world, NULL, "vda", 11, 1);
}
END_TEST

/* The second disk fails: the first one's present state comes back, changes since included. */
START_TEST(second_disk_fails)
{
    static const guint calls[] = {CALL_TAG_CREATE, CALL_TAG_APPLY};
    g_autoptr(World) world = world_web(PATH("world"));
    world_create(world, "web", "s1", NULL);
    world_write(world, "web", "vda", 11);
    world_write(world, "web", "vdb", 12);
    spy_fail(calls[0], "b.qcow2", ENOSPC);
    assert_refused(world, "s1", ENOSPC, "disk 'vdb': ");
    spy_fail(0, NULL, 0);
    assert_hash(world, NULL, "vda", 11, 1);

    world_create(world, "web", "s2", BOTH_EXTERNAL);
    world_write(world, "web", "vda", 21);
    spy_fail(CALL_COPY_OUT, "b.qcow2", EIO);
    assert_refused(world, "s1", EIO, "disk 'vdb': ");
    spy_fail(CALL_OVERLAY, NULL, EIO);
    assert_refused(world, "s2", EIO, "disk 'vd");
    spy_fail(0, NULL, 0);
    assert_hash(world, NULL, "vda", 21, 1);
    world_revert(world, "web", "s1");
    assert_hash(world, NULL, "vda", 1, 1);
    world_check_clean(world, "web");
}
END_TEST

/* Tags that somebody else's qemu-img took away or made twice. */
START_TEST(strange_tags)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *b = world_path(world, "b.qcow2");
    world_create(world, "web", "s1", NULL);
    world_write(world, "web", "vda", 11);
    tool("qemu-img", "snapshot", "-c", "s1", b, NULL);
    assert_refused(world, "s1", EIO, "disk 'vdb': '");
    tool("qemu-img", "snapshot", "-d", "s1", b, NULL);
    tool("qemu-img", "snapshot", "-d", "s1", b, NULL);
    g_autoptr(GError) error = NULL;
    ck_assert(!world_try_revert(world, "web", "s1", &error));
    expect_error(&error, EIO, "has no internal snapshot 's1' any more");
    assert_hash(world, NULL, "vda", 11, 1);
    world_delete(world, "web", "s1"); /* a lost state can still be deleted */
    world_check_clean(world, "web");
}
END_TEST

START_TEST(bitmaps)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *a = world_path(world, "a.qcow2");
    world_create(world, "web", "s1", NULL);
    tool("qemu-img", "bitmap", "--add", a, "b0", NULL);
    world_write(world, "web", "vda", 11);
    assert_refused(world, "s1", EOPNOTSUPP, "qemu-img bitmap --remove");
    tool("qemu-img", "bitmap", "--remove", a, "b0", NULL);
    world_revert(world, "web", "s1");
    assert_hash(world, NULL, "vda", 1, 1);
}
END_TEST

/* The image grew since: the state has the size that it had. */
START_TEST(resized)
{
    g_autoptr(World) world = world_web(PATH(_i ? "external" : "internal"));
    world_create(world, "web", "s1", NULL);
    if (_i)
        world_create(world, "web", "s2", BOTH_EXTERNAL);
    g_autofree char *active = world_layer(world, "web", NULL, "vda", NULL);
    tool("qemu-img", "resize", "-q", "-f", "qcow2", active, "2M", NULL);
    write_pattern(active, 9, "1536k 64k");
    world_revert(world, "web", "s1");
    assert_hash(world, NULL, "vda", 1, 1);
    world_check_clean(world, "web");
}
END_TEST

/* A disk that was taken out comes back in a copy: what its image holds by now is the user's. */
START_TEST(taken_out)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *a = world_path(world, "a.qcow2");
    g_autofree char *b = world_path(world, "b.qcow2");
    world_create(world, "web", "s1", NULL);
    world_write(world, "web", "vdb", 22);
    g_autofree char *disk = disk_element("vda", "qcow2", a, "", "");
    g_autofree char *xml = domain_document("web", disk);
    ASSERT_OK(world_try_define(world, xml, &error), error);
    g_autofree char *before = content_hash(b, "qcow2", NULL);
    world_revert(world, "web", "s1");
    world_assert_hash(world, NULL, "vdb", 2, 2);
    world_write(world, "web", "vdb", 23);
    g_autofree char *after = content_hash(b, "qcow2", NULL);
    ck_assert_str_eq(after, before);
    world_assert_hash(world, "s1", "vdb", 2, 2);
    world_check_clean(world, "web");
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("revert");
    TCase *tcase = scratch_case(suite, "revert");
    tcase_add_test(tcase, taken_out);
    tcase_add_test(tcase, in_place);
    tcase_add_test(tcase, external);
    tcase_add_test(tcase, definition);
    tcase_add_test(tcase, under_overlays);
    tcase_add_loop_test(tcase, cluster_sizes, 0, 3);
    tcase_add_loop_test(tcase, needed_by_others, 0, 3);
    tcase_add_test(tcase, mixed);
    tcase_add_test(tcase, took_no_part);
    tcase_add_test(tcase, added_later);
    tcase_add_test(tcase, removed_since);
    tcase_add_test(tcase, removed_and_frozen);
    tcase_add_test(tcase, refused);
    tcase_add_test(tcase, second_disk_fails);
    tcase_add_test(tcase, strange_tags);
    tcase_add_test(tcase, bitmaps);
    tcase_add_loop_test(tcase, resized, 0, 2);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
