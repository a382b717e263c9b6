/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a guest is let write and what not, chains that are no longer what they were, and faults that pass. */
#include <sys/syscall.h>

#include "engine_world.h"
#include "runner.h"

static void assert_hash(World *world, const char *domain, const char *snapshot, const char *target, int first,
                        int second)
{
    g_autofree char *is = world_hash(world, domain, snapshot, target);
    g_autofree char *should = pattern_hash(first, second);
    ck_assert_msg(strcmp(is, should) == 0, "%s of %s at %s is not %d %d", target, domain,
                  snapshot ? snapshot : "now", first, second);
}

static char *present_disk(World *world, const char *target)
{
    g_autofree char *path = world_layer(world, "web", NULL, target, NULL);
    return disk_element(target, "qcow2", path, "", "");
}

/* Define @name with these <disk> elements. */
static void define(World *world, const char *name, const char *first, const char *second)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *disks = g_strconcat(first, second, NULL);
    g_autofree char *xml = domain_document(name, disks);
    ASSERT_OK(world_try_define(world, xml, &error), error);
}

/* "web" has vda alone from now on. */
static void drop_vdb(World *world)
{
    g_autofree char *vda = present_disk(world, "vda");
    define(world, "web", vda, NULL);
}

static void overlay_on(const char *path, const char *below)
{
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", below, "-F", "qcow2", path, NULL);
}

static void assert_names(World *world, const char *domain, const char *names)
{
    g_autofree char *is = world_names(world, domain);
    ck_assert_str_eq(is, names);
}

/* --- a disk that took no part in the snapshot --- */

/* It left the domain, and its image is frozen by now: it comes back on an overlay. */
START_TEST(came_back_frozen)
{
    g_autoptr(World) world = world_web(PATH(_i ? "after a restart" : "at once"));
    g_autofree char *b = world_path(world, "b.qcow2");
    world_create(world, "web", "s1", "vdb,snapshot=no");
    world_write(world, "web", "vdb", 12);
    world_create(world, "web", "s2", BOTH_EXTERNAL);
    world_write(world, "web", "vdb", 22); /* what is above s2 leaves with the disk */
    drop_vdb(world);
    if (_i)
        world_reopen(world);
    g_autofree char *frozen = file_hash(b);
    world_revert(world, "web", "s1");
    g_autofree char *active = world_layer(world, "web", NULL, "vdb", NULL);
    struct stat below, above;
    ck_assert(stat(b, &below) == 0 && stat(active, &above) == 0);
    ck_assert_uint_ne(below.st_ino, above.st_ino);
    ck_assert_uint_eq(file_mode(b), 0444);
    assert_hash(world, "web", NULL, "vda", 1, 1);
    assert_hash(world, "web", NULL, "vdb", 12, 2);
    world_write(world, "web", "vdb", 42);
    assert_hash(world, "web", "s2", "vdb", 12, 2);
    g_autofree char *still = file_hash(b);
    ck_assert_str_eq(still, frozen);
    world_reopen(world);
    assert_hash(world, "web", NULL, "vdb", 42, 2);
    world_check_clean(world, "web");
}
END_TEST

/* Another domain has it by now, and has a snapshot on it. */
START_TEST(came_back_elsewhere)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    world_create(world, "web", "s1", "vdb,snapshot=no");
    drop_vdb(world);
    world_define(world, "other", "b.qcow2", NULL);
    world_create(world, "other", "o1", "vda,snapshot=external");
    g_autofree char *active = world_layer(world, "other", NULL, "vda", NULL);
    g_autofree char *before = world_digest(world, "web");
    ck_assert(!world_try_revert(world, "web", "s1", &error));
    expect_error(&error, EBUSY, active);
    g_autofree char *after = world_digest(world, "web");
    ck_assert_str_eq(after, before);
    assert_hash(world, "other", "o1", "vda", 2, 2);
    world_check_clean(world, "web");
}
END_TEST

/* It has no image any more: the one of then, which is frozen, must not come back. */
START_TEST(stays_without_image)
{
    static const char *const now[] = {
        "    <disk type='file' device='cdrom'>\n      <target dev='vdb' bus='sata'/>\n"
        "      <readonly/>\n    </disk>\n",
        "    <disk type='network' device='disk'>\n      <driver name='qemu' type='raw'/>\n"
        "      <source protocol='nbd' name='export-7'>\n        <host name='nbd.example'/>\n"
        "      </source>\n      <target dev='vdb' bus='virtio'/>\n    </disk>\n"};
    g_autoptr(World) world = world_web(PATH(_i ? "network" : "empty"));
    g_autofree char *b = world_path(world, "b.qcow2");
    world_create(world, "web", "s1", "vdb,snapshot=no");
    world_create(world, "web", "s2", BOTH_EXTERNAL);
    world_write(world, "web", "vda", 11);
    g_autofree char *vda = present_disk(world, "vda");
    define(world, "web", vda, now[_i]);
    g_autofree char *frozen = file_hash(b);
    world_revert(world, "web", "s1");
    for (guint i = 0; i < 2; i++, world_reopen(world)) {
        g_autofree char *xml = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "web"));
        ck_assert_ptr_nonnull(strstr(xml, "<target dev='vdb'"));
        ck_assert_msg(!strstr(xml, "b.qcow2") && !strstr(xml, "b.s"), "%s", xml);
        ck_assert_msg((strstr(xml, "name='export-7'") != NULL) == (_i == 1), "%s", xml);
    }
    assert_hash(world, "web", NULL, "vda", 1, 1);
    assert_hash(world, "web", "s2", "vdb", 2, 2);
    g_autofree char *still = file_hash(b);
    ck_assert_str_eq(still, frozen);
    ck_assert_uint_eq(file_mode(b), 0444);
    world_check_clean(world, "web");
}
END_TEST

/* A drive whose medium was taken out stays empty. */
START_TEST(emptied_drive)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *medium = world_raw(world, "medium.iso", 7);
    g_autofree char *vda = present_disk(world, "vda");
    g_autofree char *full = g_strdup_printf(
        "    <disk type='file' device='cdrom'>\n      <driver name='qemu' type='raw'/>\n"
        "      <source file='%s'/>\n      <target dev='sda' bus='sata'/>\n      <readonly/>\n    </disk>\n",
        medium);
    define(world, "web", vda, full);
    world_create(world, "web", "s1", NULL);
    define(world, "web", vda,
           "    <disk type='file' device='cdrom'>\n      <driver name='qemu' type='raw'/>\n"
           "      <target dev='sda' bus='sata'/>\n      <readonly/>\n    </disk>\n");
    world_revert(world, "web", "s1");
    g_autofree char *xml = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "web"));
    ck_assert_msg(strstr(xml, "<target dev='sda'") && !strstr(xml, "medium.iso"), "%s", xml);
}
END_TEST

/* --- images that other domains have --- */

/* A snapshot's document that claims what another domain's guest writes, by several names. */
START_TEST(claims_an_active_image)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *o = world_image(world, "o.qcow2", 5);
    g_autofree char *linked = world_path(world, "hard link");
    g_autofree char *symbolic = world_path(world, "symlink");
    world_define(world, "other", "o.qcow2", NULL);
    ck_assert_int_eq(chmod(o, 0660), 0);
    ck_assert_int_eq(syscall(SYS_link, o, linked), 0);
    ck_assert_int_eq(symlink("o.qcow2", symbolic), 0);
    g_autofree char *before = world_digest(world, "web");
    g_autofree char *bytes = file_hash(o);
    const char *const paths[] = {o, linked, symbolic};
    for (gsize i = 0; i < G_N_ELEMENTS(paths); i++) {
        g_autofree char *disk = disk_element("vda", "qcow2", paths[i], "", "");
        g_autofree char *domain = domain_document("web", disk);
        g_autofree char *xml = g_strdup_printf(
            "<domainsnapshot><name>e</name><state>shutoff</state><creationTime>6</creationTime><disks>"
            "<disk name='vda' snapshot='external'><source file='%s/e'/></disk></disks>%s</domainsnapshot>",
            world->images, domain);
        ck_assert_msg(!world->engine->ops->redefine(world->engine, world_domain(world, "web"), 0, xml,
                                                    strlen(xml), FALSE, NULL, &error),
                      "'%s' was taken", paths[i]);
        expect_error(&error, EBUSY, "is also a disk of domain 'other'");
        ck_assert_uint_eq(file_mode(o), 0660);
    }
    g_autofree char *still = file_hash(o);
    g_autofree char *after = world_digest(world, "web");
    ck_assert_str_eq(still, bytes);
    ck_assert_str_eq(after, before);
    world_write(world, "other", "vda", 6);
    world_check_clean(world, "other");
}
END_TEST

/* An image below another domain's, one and two layers down, without any snapshot. */
START_TEST(below_another_domain)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *base = world_image(world, "base.qcow2", 1);
    g_autofree char *middle = world_path(world, "middle.qcow2");
    g_autofree char *top = world_path(world, "top.qcow2");
    g_autofree char *symbolic = world_path(world, "symlink");
    overlay_on(middle, "base.qcow2");
    overlay_on(top, "middle.qcow2");
    ck_assert_int_eq(symlink("base.qcow2", symbolic), 0);
    world_define(world, "over", "top.qcow2", NULL);
    const char *const paths[] = {base, middle, symbolic};
    for (gsize i = 0; i < 2 * G_N_ELEMENTS(paths); i++) {
        g_autofree char *disk = disk_element("vda", "qcow2", paths[i / 2], "", "");
        g_autofree char *xml = domain_document("under", disk);
        ck_assert_msg(!world_try_define(world, xml, &error), "'%s' was taken", paths[i / 2]);
        expect_error(&error, EBUSY, top);
        assert_names(world, NULL, "over");
        if (i % 2)
            world_reopen(world); /* what the store says is enough */
    }
    assert_hash(world, "over", NULL, "vda", 1, 1);
    g_free(world_image(world, "c.qcow2", 3));
    world_define(world, "over", "c.qcow2", NULL); /* nothing stands on it any more */
    world_define(world, "under", "base.qcow2", NULL);
    assert_names(world, NULL, "over under");
}
END_TEST

/* --- documents --- */

/* Short as it comes, but too long to be read again once it is escaped. */
START_TEST(escaped_too_long)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *c = world_image(world, "c.qcow2", 3);
    g_autofree char *disk = disk_element("vda", "qcow2", c, "", "");
    g_autofree char *web = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "web"));
    g_autofree char *quoted = domain_document("quoted", disk);
    g_autofree char *before = world_digest(world, "web");
    for (guint i = 0; i < 2; i++) {
        g_autofree char *quotes = g_strnfill(400000, '"');
        g_autofree char *element = g_strconcat("<description>", quotes, "</description>\n  <os>", NULL);
        g_autoptr(GString) xml = g_string_new(i ? web : quoted);
        ck_assert_uint_eq(g_string_replace(xml, "<os>", element, 1), 1);
        ck_assert(!world_try_define(world, xml->str, &error));
        expect_error(&error, E2BIG, NULL);
        assert_names(world, NULL, "web");
    }
    g_autofree char *dir = world_store_file(world, "domains/quoted");
    ck_assert_int_lt(access(dir, F_OK), 0);
    world_reopen(world);
    assert_names(world, NULL, "web");
    g_autofree char *after = world_digest(world, "web");
    ck_assert_str_eq(after, before);

    g_autofree char *fewer = g_strnfill(100000, '"'); /* what is taken is there again */
    g_autofree char *element = g_strconcat("<description>", fewer, "</description>\n  <os>", NULL);
    g_autoptr(GString) xml = g_string_new(quoted);
    g_string_replace(xml, "<os>", element, 1);
    ASSERT_OK(world_try_define(world, xml->str, &error), error);
    world_reopen(world);
    assert_names(world, NULL, "quoted web");
}
END_TEST

/* --- chains that changed by hand --- */

START_TEST(loop)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *low = world_image(world, "low.qcow2", 1);
    g_autofree char *high = world_path(world, "high.qcow2");
    overlay_on(high, "low.qcow2");
    tool("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", "high.qcow2", "-F", "qcow2", low, NULL);
    const char *const paths[] = {low, high};
    for (gsize i = 0; i < G_N_ELEMENTS(paths); i++) {
        g_autofree char *disk = disk_element("vda", "qcow2", paths[i], "", "");
        g_autofree char *xml = domain_document("web", disk);
        ck_assert(!world_try_define(world, xml, &error));
        expect_error(&error, ELOOP, "disk 'vda': its backing chain is a loop");
    }
    assert_names(world, NULL, "");
}
END_TEST

/* The loop closes below a layer that is recorded already and whose header is not read again. */
START_TEST(loop_below_a_frozen_layer)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *low = world_image(world, "low.qcow2", 1);
    g_autofree char *high = world_path(world, "high.qcow2");
    overlay_on(high, "low.qcow2");
    world_define(world, "web", "high.qcow2", NULL);
    world_create(world, "web", "s1", "vda,snapshot=external");
    tool("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", "high.qcow2", "-F", "qcow2", low, NULL);
    g_autofree char *disk = disk_element("vda", "qcow2", low, "", "");
    g_autofree char *xml = domain_document("web", disk);
    ck_assert(!world_try_define(world, xml, &error));
    ck_assert_msg(error->code == ELOOP || error->code == EBUSY, "%s", error->message);
    g_clear_error(&error);
    /* a disk to read only: nothing else would refuse it */
    g_autofree char *vda = present_disk(world, "vda");
    g_autofree char *reader = disk_element("vdb", "qcow2", low, "", "<readonly/>");
    g_autofree char *both = g_strconcat(vda, reader, NULL);
    g_autofree char *with_reader = domain_document("web", both);
    ck_assert(!world_try_define(world, with_reader, &error));
    expect_error(&error, ELOOP, "its backing chain is a loop");
    g_autofree char *now = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "web"));
    ck_assert_ptr_null(strstr(now, "vdb"));
}
END_TEST

START_TEST(frozen_layer_changed)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *a = world_path(world, "a.qcow2");
    world_create(world, "web", "s1", BOTH_EXTERNAL);
    world_create(world, "web", "s2", BOTH_EXTERNAL); /* a.qcow2 is two layers down */
    g_autofree char *fine = world_tree(world, "web");
    ck_assert_ptr_null(strstr(fine, "read-only"));
    g_autofree char *data = NULL;
    gsize len;
    ck_assert(g_file_get_contents(a, &data, &len, NULL));
    poke(a, (off_t)len, "x", 1); /* root may */
    ck_assert(!world_try_create(world, "web", "s3", _i ? BOTH_EXTERNAL : NULL, &error));
    expect_error(&error, EIO, "a.qcow2' was changed from outside");
    g_autofree char *tree = world_tree(world, "web");
    ck_assert_msg(strstr(tree, "read-only: ") && strstr(tree, "a.qcow2' was changed from outside"), "%s",
                  tree);
    assert_names(world, "web", "s1 s2");
    ck_assert(!world_try_create(world, "web", "s3", NULL, &error));
    expect_error(&error, EROFS, "a.qcow2' was changed from outside");
    ck_assert(!world_try_delete(world, "web", "s2", DELETE_ONE, &error));
    expect_error(&error, EROFS, "is read-only");
}
END_TEST

START_TEST(layer_gone)
{
    static const char *const which[] = {"a.qcow2", "a.s1", "a.s2"}; /* the last one is active */
    g_autoptr(World) world = world_web(PATH(which[_i]));
    g_autoptr(GError) error = NULL;
    world_create(world, "web", "s1", BOTH_EXTERNAL);
    world_create(world, "web", "s2", BOTH_EXTERNAL);
    g_autofree char *path = world_layer(world, "web", _i == 0 ? "s1" : _i == 1 ? "s2" : NULL, "vda", NULL);
    g_autofree char *aside = world_path(world, "aside");
    ck_assert_int_eq(rename(path, aside), 0);
    const char *const specs[] = {NULL, BOTH_EXTERNAL};
    for (gsize i = 0; i < G_N_ELEMENTS(specs); i++) {
        ck_assert(!world_try_create(world, "web", "s3", specs[i], &error));
        expect_error(&error, ENOENT, path);
        assert_names(world, "web", "s1 s2");
    }
    ck_assert_int_eq(rename(aside, path), 0);
    world_create(world, "web", "s3", BOTH_EXTERNAL); /* nothing is held against it */
    assert_hash(world, "web", "s3", "vda", 1, 1);
    world_check_clean(world, "web");
}
END_TEST

/* --- faults that pass --- */

/* Neither done nor undone: read-only while the fault lasts, mended by the next operation. */
START_TEST(stuck_and_mended)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    world_create(world, "web", "s1", NULL);
    world_write(world, "web", "vda", 11);
    world_write(world, "web", "vdb", 12);
    spy_fail(CALL_TAG_APPLY | CALL_TAG_DELETE | CALL_REPAIR, "b.qcow2", ENOSPC);
    ck_assert(!world_try_revert(world, "web", "s1", &error));
    expect_error(&error, ENOSPC, "disk 'vdb': ");
    g_autofree char *tree = world_tree(world, "web");
    ck_assert_msg(strstr(tree, "read-only: ") != NULL, "%s", tree);
    for (guint i = 0; i < 2; i++) {
        ck_assert(!world_try_create(world, "web", "s2", NULL, &error));
        expect_error(&error, EROFS, "is still under way");
    }
    assert_names(world, "web", "s1");
    spy_fail(0, NULL, 0);
    if (_i == 0)
        world_create(world, "web", "s2", NULL);
    else
        world_revert(world, "web", "s1");
    world_check_clean(world, "web");
    assert_hash(world, "web", NULL, "vda", _i ? 1 : 11, 1);
    assert_hash(world, "web", NULL, "vdb", _i ? 2 : 12, 2);
    assert_hash(world, "web", "s1", "vda", 1, 1);
    assert_hash(world, "web", "s1", "vdb", 2, 2);
    static const char *const images[] = {"a.qcow2", "b.qcow2"};
    for (gsize i = 0; i < G_N_ELEMENTS(images); i++) {
        g_autofree char *path = world_path(world, images[i]);
        g_autofree char *tags = image_tags(path);
        ck_assert_str_eq(tags, _i ? "(hidden) s1" : "s1 s2"); /* what the failed revert kept is gone */
    }
    world_reopen(world);
    world_check_clean(world, "web");
}
END_TEST

/* --- write bits --- */

/* A snapshot's document that names @file as vda's external state, taken. */
static void claim(World *world, const char *name, const char *path)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *disk = disk_element("vda", "qcow2", path, "", "");
    g_autofree char *domain = domain_document("web", disk);
    g_autofree char *xml = g_strdup_printf(
        "<domainsnapshot><name>%s</name><state>shutoff</state><creationTime>6</creationTime><disks>"
        "<disk name='vda' snapshot='external'><source file='%s/%s'/></disk></disks>%s</domainsnapshot>",
        name, world->images, name, domain);
    ASSERT_OK(world->engine->ops->redefine(world->engine, world_domain(world, "web"), 0, xml, strlen(xml),
                                           FALSE, NULL, &error),
              error);
}

/* A document points a snapshot at another image: the first one gets its mode back, and may be written again. */
START_TEST(mode_comes_back_by_document)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *c = world_image(world, "c.qcow2", 3);
    g_autofree char *d = world_image(world, "d.qcow2", 4);
    ck_assert_int_eq(chmod(c, 0660), 0);
    claim(world, "e", c);
    ck_assert_uint_eq(file_mode(c), 0440);
    claim(world, "e", d);
    ck_assert_uint_eq(file_mode(c), 0660);
    ck_assert_uint_eq(file_mode(d) & 0222, 0);
    write_pattern(c, 9, "0 64k");
    world_create(world, "web", "s1", NULL); /* whose prune might find it again */
    world_reopen(world);
    assert_hash(world, "web", "e", "vda", 4, 4);
    world_check_clean(world, "web");
}
END_TEST

/* --- states that would change under their snapshot --- */

/* A disk that stands on the domain's other disk's image: its state would be written by that one. */
START_TEST(below_is_written)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_autofree char *base = world_image(world, "base.qcow2", 1);
    g_autofree char *over = world_path(world, "over.qcow2");
    overlay_on(over, "base.qcow2");
    g_autofree char *vda = disk_element("vda", "qcow2", over, "", "");
    g_autofree char *vdb = disk_element("vdb", "qcow2", base, "", "");
    g_autofree char *both = g_strconcat(vda, vdb, NULL);
    g_autofree char *xml = domain_document("web", both);
    world_assert_define_taken(world, xml);
    g_autofree char *before = world_digest(world, "web");
    for (guint i = 0; i < 2; i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *specs =
            g_strdup_printf("vda,snapshot=%s vdb,snapshot=no", i ? "internal" : "external");
        ck_assert(!world_try_create(world, "web", "s1", specs, &error));
        expect_error(&error, EINVAL, "base.qcow2', which it stands on, is what the domain writes now");
    }
    g_autofree char *after = world_digest(world, "web");
    ck_assert_str_eq(after, before);
    world_write(world, "web", "vdb", 9);
    world_check_clean(world, "web");
}
END_TEST

/* A clone of a machine that is there to be cloned, and is never started: it has snapshots as any other. */
START_TEST(below_is_a_template)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_free(world_image(world, "base.qcow2", 1));
    g_autofree char *over = world_path(world, "over.qcow2");
    overlay_on(over, "base.qcow2");
    world_define(world, "template", "base.qcow2", NULL);
    world_define(world, "web", "over.qcow2", NULL);
    world_create(world, "web", "s1", "vda,snapshot=external");
    g_autofree char *document =
        world_text(world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(world, "web", "s1"));
    g_autoptr(GError) error = NULL;
    ASSERT_OK(world_try_delete(world, "web", "s1", DELETE_METADATA, &error), error);
    ASSERT_OK(world->engine->ops->redefine(world->engine, world_domain(world, "web"), 0, document,
                                           strlen(document), 0, NULL, &error),
              error);
    assert_hash(world, "web", "s1", "vda", 1, 1);
    world_check_clean(world, "web");
}
END_TEST

/* The last snapshot that needs an image goes: it gets its mode back, and may be written again. */
START_TEST(mode_comes_back)
{
    g_autoptr(World) world = world_web(PATH(_i ? "after a restart" : "at once"));
    g_autofree char *c = world_image(world, "c.qcow2", 3);
    ck_assert_int_eq(chmod(c, 0660), 0);
    g_autofree char *bytes = file_hash(c);
    claim(world, "e1", c);
    claim(world, "e2", c);
    ck_assert_uint_eq(file_mode(c), 0440);
    world_delete(world, "web", "e1");
    ck_assert_uint_eq(file_mode(c), 0440); /* still needed */
    assert_hash(world, "web", "e2", "vda", 3, 3);
    if (_i)
        world_reopen(world);
    world_delete(world, "web", "e2");
    ck_assert_uint_eq(file_mode(c), 0660);
    g_autofree char *still = file_hash(c);
    ck_assert_str_eq(still, bytes);
    world_check_clean(world, "web");
    world_define(world, "other", "c.qcow2", NULL);
    world_write(world, "other", "vda", 9);
    world_reopen(world);
    world_check_clean(world, "web");
}
END_TEST

/* Another domain's states stand on it too: it stays frozen. */
START_TEST(mode_stays)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *c = world_image(world, "c.qcow2", 3);
    g_autofree char *over = world_path(world, "over.qcow2");
    claim(world, "e1", c);
    overlay_on(over, "c.qcow2");
    world_define(world, "other", "over.qcow2", NULL);
    world_delete(world, "web", "e1");
    ck_assert_uint_eq(file_mode(c), 0444);
    assert_hash(world, "other", NULL, "vda", 3, 3);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("admit");
    TCase *tcase = scratch_case(suite, "admit");
    tcase_add_loop_test(tcase, came_back_frozen, 0, 2);
    tcase_add_test(tcase, came_back_elsewhere);
    tcase_add_loop_test(tcase, stays_without_image, 0, 2);
    tcase_add_test(tcase, emptied_drive);
    tcase_add_test(tcase, claims_an_active_image);
    tcase_add_test(tcase, below_another_domain);
    tcase_add_test(tcase, escaped_too_long);
    TCase *chains = scratch_case(suite, "chains by hand");
    tcase_add_test(chains, loop);
    tcase_add_test(chains, loop_below_a_frozen_layer);
    tcase_add_loop_test(chains, frozen_layer_changed, 0, 2);
    tcase_add_loop_test(chains, layer_gone, 0, 3);
    TCase *faults = scratch_case(suite, "faults");
    tcase_add_loop_test(faults, stuck_and_mended, 0, 2);
    tcase_add_loop_test(faults, mode_comes_back, 0, 2);
    tcase_add_test(faults, mode_comes_back_by_document);
    tcase_add_test(faults, below_is_written);
    tcase_add_test(faults, below_is_a_template);
    tcase_add_test(faults, mode_stays);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
