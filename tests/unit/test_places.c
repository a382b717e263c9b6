/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Taking snapshots: where overlays go, kinds of disk, and all or nothing over the disks. */
#include "engine_world.h"
#include "runner.h"

/* --- where overlays go --- */

START_TEST(explicit_paths)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *sub = world_path(world, "sub");
    g_autofree char *there = world_raw(world, "there", 9);
    g_autofree char *link = world_path(world, "link");
    g_autofree char *a = world_path(world, "a.qcow2");
    ck_assert_int_eq(mkdir(sub, 0755), 0);
    ck_assert_int_eq(symlink("sub", link), 0);
    g_autofree char *exists = g_strdup_printf("vda,file=%s", there);
    g_autofree char *itself = g_strdup_printf("vda,file=%s", a);
    g_autofree char *nowhere = g_strdup_printf("vda,file=%s/none/x", world->images);
    g_autofree char *twice =
        g_strdup_printf("vda,file=%s/x vdb,file=%s/sub/../x", world->images, world->images);
    world_assert_create_refused(world, "s1", exists, EEXIST, "disk 'vda': '");
    world_assert_create_refused(world, "s1", itself, EEXIST, "disk 'vda'");
    world_assert_create_refused(world, "s1", nowhere, ENOENT, "disk 'vda'");
    world_assert_create_refused(world, "s1", twice, EEXIST, "disk 'vdb'");

    g_autofree char *specs = g_strdup_printf("vda,file=%s/x vdb,file=%s/link/y", sub, world->images);
    world_create(world, "web", "s1", specs);
    g_autofree char *x = world_path(world, "sub/x");
    g_autofree char *y = world_path(world, "sub/y");
    g_autofree char *active_a = world_layer(world, "web", NULL, "vda", NULL);
    g_autofree char *active_b = world_layer(world, "web", NULL, "vdb", NULL);
    ck_assert_str_eq(active_a, x);
    ck_assert_str_eq(active_b, y); /* real: a symlink pointed elsewhere later changes nothing */
    world_assert_hash(world, NULL, "vda", 1, 1);
    world_write(world, "web", "vda", 70);
    world_create(world, "web", "s2", BOTH_EXTERNAL); /* the next one lies beside that one */
    g_autofree char *next = world_layer(world, "web", NULL, "vda", NULL);
    ck_assert(g_str_has_prefix(next, sub));
    world_assert_hash(world, "s2", "vda", 70, 1);
    world_revert(world, "web", "s1");
    world_assert_hash(world, NULL, "vda", 1, 1);
    world_check_clean(world, "web");
}
END_TEST

/* What is somebody's already, also where it is not there at the moment, and what nothing can be made in. */
START_TEST(impossible_paths)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *b = world_path(world, "b.qcow2");
    g_autofree char *c = world_image(world, "c.qcow2", 3);
    g_autofree char *mount = g_build_filename(world->dir, "mnt", NULL);
    world_define(world, "other", "c.qcow2", NULL);
    world_create(world, "web", "s1", BOTH_EXTERNAL);
    world_revert(world, "web", "s1"); /* a.s1 is left over; a.s1-1 is active */
    g_autofree char *old = world_path(world, "a.s1");
    ck_assert(unlink(c) == 0 && unlink(old) == 0);
    world_close(world);
    world->options.mountpoint = mount;
    world_open(world);
    g_autofree char *other_disk = g_strdup_printf("vda,file=%s vdb,snapshot=no", b);
    g_autofree char *other_domain = g_strdup_printf("vda,file=%s vdb,snapshot=no", c);
    g_autofree char *left_over = g_strdup_printf("vda,file=%s vdb,snapshot=no", old);
    g_autofree char *in_mount = g_strdup_printf("vda,file=%s/x vdb,snapshot=no", mount);
    g_autofree char *round_about = g_strdup_printf("vda,file=%s/../mnt/x vdb,snapshot=no", world->images);
    world_assert_create_refused(world, "s2", other_disk, EEXIST,
                                "exists already, and nothing is ever overwritten");
    world_assert_create_refused(world, "s2", other_domain, EEXIST, "is an image of domain 'other' already");
    world_assert_create_refused(world, "s2", left_over, EEXIST, "is an image of domain 'web' already");
    world_assert_create_refused(world, "s2", in_mount, EINVAL, "lies in this mount itself");
    world_assert_create_refused(world, "s2", round_about, EINVAL, "lies in this mount itself");
    static const char *const relative[] = {"<source file='x'/>", "<source file='./x'/>"};
    for (gsize i = 0; i < G_N_ELEMENTS(relative); i++) {
        g_autofree char *xml = g_strdup_printf(
            "<domainsnapshot><disks><disk name='vda'>%s</disk></disks></domainsnapshot>", relative[i]);
        ck_assert_ptr_null(snapshot_parse_create(xml, strlen(xml), &error));
        expect_error(&error, EINVAL, "is not an absolute path");
    }
    /* an empty file that is there may be anybody's: libvirt takes it, here it wants to be prepared */
    g_autofree char *empty = g_build_filename(world->dir, "empty", NULL);
    g_autofree char *on_empty = g_strdup_printf("vda,file=%s vdb,snapshot=no", empty);
    ck_assert(g_file_set_contents(empty, "", 0, NULL));
    world_assert_create_refused(world, "s2", on_empty, EEXIST, "exists already");
}
END_TEST

/* Generated names: stem.SNAPSHOT, replaced, not piled up; the header names the base as ./name. */
START_TEST(generated_paths)
{
    g_autoptr(World) world = world_web(PATH("world"));
    world_create(world, "web", "s1", BOTH_EXTERNAL);
    world_create(world, "web", "s2", BOTH_EXTERNAL);
    g_autofree char *active = world_layer(world, "web", NULL, "vda", NULL);
    g_autofree char *expected = world_path(world, "a.s2");
    ck_assert_str_eq(active, expected);
    g_autofree char *info = tool_output("qemu-img", "info", "--output=json", active, NULL);
    ck_assert_ptr_nonnull(strstr(info, "\"backing-filename\": \"./a.s1\""));
    ck_assert_ptr_nonnull(strstr(info, "\"backing-filename-format\": \"qcow2\""));
    g_autofree char *xml = world_text(world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(world, "web", "s2"));
    ck_assert_ptr_nonnull(strstr(xml, "/a.s2'/>")); /* the overlay that came after */
    /* owner and mode are those of the image below, not wider */
    g_autofree char *a = world_path(world, "a.qcow2");
    ck_assert_uint_eq(file_mode(a), 0444);
    ck_assert_uint_eq(file_mode(active), 0644);
}
END_TEST

START_TEST(mode_and_owner)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *a = world_path(world, "a.qcow2");
    ck_assert_int_eq(chmod(a, 0600), 0);
    if (geteuid() == 0)
        ck_assert_int_eq(chown(a, 12, 34), 0);
    world_create(world, "web", "s1", "vda,snapshot=external");
    world_create(world, "web", "s2", "vda,snapshot=external");
    g_autofree char *active = world_layer(world, "web", NULL, "vda", NULL);
    struct stat st;
    ck_assert_int_eq(stat(active, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0600);
    ck_assert(geteuid() != 0 || (st.st_uid == 12 && st.st_gid == 34));
    ck_assert_uint_eq(file_mode(a), 0400);
}
END_TEST

/* --- kinds of disk --- */

/* raw below, qed above: what an overlay may stand on and be. */
START_TEST(raw_and_qed)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *raw = world_raw(world, "r.img", 5);
    g_autofree char *disk = disk_element("vda", "raw", raw, "", "");
    g_autofree char *xml = domain_document("web", disk);
    ASSERT_OK(world_try_define(world, xml, &error), error);
    world_assert_create_refused(world, "s1", "vda,snapshot=internal", EOPNOTSUPP, "only qcow2 images");
    world_create(world, "web", "s1", NULL);
    g_autofree char *first = world_layer(world, "web", NULL, "vda", NULL);
    g_autofree char *expected = world_path(world, "r.s1");
    ck_assert_str_eq(first, expected);
    world_write(world, "web", "vda", 6);
    world_create(world, "web", "s2", "vda,driver=qed");
    world_create(world, "web", "s3", NULL); /* on the qed layer */
    world_assert_hash(world, "s1", "vda", 5, 5);
    world_assert_hash(world, "s2", "vda", 6, 5);
    world_assert_hash(world, "s3", "vda", 6, 5);
    world_revert(world, "web", "s1");
    world_assert_hash(world, NULL, "vda", 5, 5);
    world_revert(world, "web", "s3");
    world_assert_hash(world, NULL, "vda", 6, 5);
    world_check_clean(world, "web");
}
END_TEST

/* qed all the way: taken, gone back to, deleted, defined again, over a restart. */
START_TEST(qed)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    static const char *const names[] = {"s1", "s2", "s3"};
    for (guint i = 0; i < 3; i++) {
        world_create(world, "web", names[i], "vda,driver=qed vdb,snapshot=no");
        world_write(world, "web", "vda", 61 + (int)i);
    }
    g_autofree char *active = world_layer(world, "web", NULL, "vda", NULL);
    ck_assert_str_eq(image_format(active), "qed");
    g_autofree char *xml = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "web"));
    g_autofree char *s3 = world_text(world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(world, "web", "s3"));
    ck_assert_ptr_nonnull(strstr(xml, "<driver name='qemu' type='qed'/>"));
    ck_assert_ptr_nonnull(strstr(s3, "<driver type='qed'/>"));
    world_assert_create_refused(world, "in", "vda,snapshot=internal vdb,snapshot=no", EOPNOTSUPP,
                                "only qcow2");
    world_reopen(world);
    ASSERT_OK(world_try_define(world, xml, &error), error);
    for (guint i = 3; i > 0; i--) {
        world_revert(world, "web", names[i - 1]);
        world_assert_hash(world, NULL, "vda", i == 1 ? 1 : 59 + (int)i, 1);
        world_assert_hash(world, "s3", "vda", 62, 1);
    }
    world_revert(world, "web", "s3");
    world_write(world, "web", "vda", 66);
    world_create(world, "web", "s4", "vda,driver=qed vdb,snapshot=no"); /* qed on qcow2 on qed */
    world_delete(world, "web", "s2");
    world_delete(world, "web", "s1");
    world_reopen(world);
    world_assert_hash(world, "s3", "vda", 62, 1);
    world_assert_hash(world, "s4", "vda", 66, 1);
    world_check_clean(world, "web");
    static const char cache[] =
        "<domainsnapshot><disks><disk name='vda'><driver type='qed'><metadata_cache>"
        "<max_size>1</max_size></metadata_cache></driver></disk></disks></domainsnapshot>";
    ck_assert_ptr_null(snapshot_parse_create(cache, strlen(cache), &error));
    expect_error(&error, EOPNOTSUPP, "only a qcow2 image has one");
}
END_TEST

/* What a document says of an overlay besides its name is in the snapshot's document and in the new definition. */
START_TEST(cache_and_labels)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *over = world_path(world, "over");
    g_autofree char *document =
        g_strdup_printf("<domainsnapshot><name>s1</name><disks><disk name='vda'><driver type='qcow2'>"
                        "<metadata_cache><max_size unit='KiB'>64</max_size></metadata_cache></driver>"
                        "<source file='%s'><seclabel model='dac' relabel='no'/></source></disk>"
                        "<disk name='vdb' snapshot='no'/></disks></domainsnapshot>",
                        over);
    g_autoptr(CreateRequest) request = snapshot_parse_create(document, strlen(document), &error);
    ASSERT_OK(request && world_try_request(world, "web", request, &error), error);
    g_autofree char *xml = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "web"));
    g_autofree char *s1 = world_text(world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(world, "web", "s1"));
    const char *const texts[] = {xml, s1};
    for (guint i = 0; i < 2; i++) {
        const char *image = strstr(texts[i], "/over'>");
        ck_assert_msg(image && strstr(image, "<seclabel model='dac' relabel='no'/>"), "%s", texts[i]);
        ck_assert_msg(strstr(texts[i], "<max_size unit='bytes'>65536</max_size>"), "%s", texts[i]);
    }
    /* as with libvirt it goes with the image that it was asked for */
    world_create(world, "web", "s2", "vda,snapshot=external vdb,snapshot=no");
    g_autofree char *second = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "web"));
    ck_assert_ptr_null(strstr(second, "<metadata_cache>"));
}
END_TEST

/* Many tags, or persistent bitmaps: external by itself; many tags asked for are taken, bitmaps never. */
START_TEST(no_internal_by_default)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *a = world_path(world, "a.qcow2");
    tool("qemu-img", "bitmap", "--add", a, "b0", NULL);
    world_assert_create_refused(world, "s1", "vda,snapshot=internal", EOPNOTSUPP, "bitmaps");
    world_create(world, "web", "s1", "vdb,snapshot=no");
    g_autofree char *active = world_layer(world, "web", NULL, "vda", NULL);
    ck_assert_str_ne(active, a);

    for (guint i = 0; i < 64; i++) {
        g_autofree char *b = world_path(world, "b.qcow2");
        g_autofree char *tag = g_strdup_printf("t%u", i);
        tool("qemu-img", "snapshot", "-c", tag, b, NULL);
    }
    world_create(world, "web", "asked", "vda,snapshot=no vdb,snapshot=internal");
    world_create(world, "web", "silent", "vda,snapshot=no");
    g_autofree char *asked = NULL, *silent = NULL;
    g_free(world_layer(world, "web", "asked", "vdb", &asked));
    g_free(world_layer(world, "web", "silent", "vdb", &silent));
    ck_assert_str_eq(asked, "asked");
    ck_assert_ptr_null(silent);
}
END_TEST

/* The mount's snapshot= is for mkdir only, and only where request and definition are silent. */
START_TEST(plain_default)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *a = world_image(world, "a.qcow2", 1);
    g_autofree char *b = world_image(world, "b.qcow2", 2);
    g_autofree char *vda = disk_element("vda", "qcow2", a, "", "");
    g_autofree char *vdb = disk_element("vdb", "qcow2", b, " snapshot='internal'", "");
    g_autofree char *disks = g_strconcat(vda, vdb, NULL);
    g_autofree char *xml = domain_document("web", disks);
    world_close(world);
    world->options.snapshot = MODE_EXTERNAL;
    world_open(world);
    ASSERT_OK(world_try_define(world, xml, &error), error);
    g_autoptr(CreateRequest) request = create_request_new();
    request->name = g_strdup("plain");
    request->plain = TRUE;
    ASSERT_OK(
        world->engine->ops->create(world->engine, world_domain(world, "web"), request, NULL, NULL, &error),
        error);
    world_create(world, "web", "command", NULL);
    static const struct {
        const char *snapshot, *disk;
        gboolean internal;
    } expected[] = {
        {"plain", "vda", FALSE}, {"plain", "vdb", TRUE}, {"command", "vda", TRUE}, {"command", "vdb", TRUE}};
    for (gsize i = 0; i < G_N_ELEMENTS(expected); i++) {
        g_autofree char *tag = NULL;
        g_free(world_layer(world, "web", expected[i].snapshot, expected[i].disk, &tag));
        ck_assert_int_eq(tag != NULL, expected[i].internal);
    }
}
END_TEST

/* Only some disks: the others are not touched, and the document says so. */
START_TEST(subsets)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *b = world_path(world, "b.qcow2");
    g_autofree char *before = file_hash(b);
    world_create(world, "web", "s1", "vdb,snapshot=no");
    world_create(world, "web", "s2", "vda,snapshot=external vdb,snapshot=manual");
    g_autofree char *after = file_hash(b);
    ck_assert_str_eq(after, before);
    ck_assert_uint_eq(file_mode(b), 0644);
    for (guint i = 0; i < 2; i++) {
        EngineId id = world_snapshot(world, "web", i ? "s2" : "s1");
        g_autoptr(GPtrArray) disks = world->engine->ops->disks(world->engine, id);
        g_autofree char *xml = world_text(world, ENGINE_TEXT_SNAPSHOT_XML, id);
        ck_assert_uint_eq(disks->len, 1);
        ck_assert_str_eq(((EngineDisk *)disks->pdata[0])->target, "vda");
        ck_assert_int_eq(((EngineDisk *)disks->pdata[0])->layer != 0,
                         i); /* an internal state has no file of its own */
        ck_assert_ptr_nonnull(
            strstr(xml, i ? "<disk name='vdb' snapshot='manual'/>" : "<disk name='vdb' snapshot='no'/>"));
    }
}
END_TEST

/* Two disks, or two domains, with one image: it is nobody's alone to freeze or to tag. */
START_TEST(shared_images)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    world_define(world, "other", "b.qcow2", NULL);
    world_assert_create_refused(world, "s1", NULL, EBUSY, "disk 'vdb': '");
    world_assert_create_refused(world, "s1", BOTH_EXTERNAL, EBUSY, "is also a disk of domain 'other'");
    world_create(world, "web", "s1", "vdb,snapshot=no");
    ck_assert(world->engine->ops->undefine(world->engine, world_domain(world, "other"), FALSE, NULL, &error));
    world_create(world, "web", "s2", NULL);

    g_autofree char *c = world_image(world, "c.qcow2", 3);
    g_autofree char *vda = disk_element("vda", "qcow2", c, "", "");
    g_autofree char *vdb = disk_element("vdb", "qcow2", c, "", "");
    g_autofree char *disks = g_strconcat(vda, vdb, NULL);
    g_autofree char *xml = domain_document("twin", disks);
    if (!world_try_define(world, xml, &error))
        return; /* refused at once: fine, too */
    for (guint i = 0; i < 2; i++) {
        g_autofree char *before = world_digest(world, "twin");
        ck_assert(!world_try_create(world, "twin", "s1", i ? BOTH_EXTERNAL : NULL, &error));
        g_clear_error(&error);
        g_autofree char *after = world_digest(world, "twin");
        ck_assert_str_eq(after, before);
    }
}
END_TEST

/* --- all or nothing --- */

static World *four_disks(char *dir)
{
    World *world = world_new(dir);
    g_autofree char *sub = world_path(world, "third");
    ck_assert_int_eq(mkdir(sub, 0755), 0);
    g_free(world_image(world, "a.qcow2", 1));
    g_free(world_image(world, "b.qcow2", 2));
    g_free(world_image(world, "third/c.qcow2", 3));
    g_free(world_image(world, "d.qcow2", 4));
    world_define(world, "web", "a.qcow2", "b.qcow2", "third/c.qcow2", "d.qcow2", NULL);
    return world;
}

START_TEST(third_of_four)
{
    static const char *const specs[] = {
        NULL, BOTH_EXTERNAL " vdc,snapshot=external vdd,snapshot=external",
        "vda,snapshot=external vdb,snapshot=internal vdc,snapshot=external vdd,snapshot=internal",
        "vda,snapshot=external vdb,snapshot=internal vdc,snapshot=internal vdd,snapshot=external"};
    g_autoptr(World) world = four_disks(PATH("world"));
    for (gsize i = 0; i < G_N_ELEMENTS(specs); i++) {
        spy_fail(CALL_OVERLAY | CALL_TAG_CREATE, "/third/", ENOSPC);
        world_assert_create_refused(world, "s1", specs[i], ENOSPC, "disk 'vdc': ");
        spy_fail(0, NULL, 0);
    }
    /* for real: the image of one is gone */
    g_autofree char *c = world_path(world, "third/c.qcow2");
    world_create(world, "web", "s1", NULL);
    ck_assert_int_eq(unlink(c), 0);
    g_autoptr(GError) error = NULL;
    ck_assert(!world_try_create(world, "web", "s2", specs[1], &error));
    expect_error(&error, ENOENT, "disk 'vdc'");
    g_autofree char *names = world_names(world, "web");
    ck_assert_str_eq(names, "s1");
    g_autofree char *a = world_path(world, "a.qcow2");
    ck_assert_uint_eq(file_mode(a), 0644);
}
END_TEST

/* An image that is not there hinders only what needs it. */
START_TEST(missing_image)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *b = world_path(world, "b.qcow2");
    ck_assert_int_eq(unlink(b), 0);
    g_autoptr(GError) error = NULL;
    ck_assert(!world_try_create(world, "web", "s1", NULL, &error));
    expect_error(&error, ENOENT, "disk 'vdb'");
    world_create(world, "web", "s1", "vdb,snapshot=no");
    world_assert_hash(world, "s1", "vda", 1, 1);
    world_reopen(world);
    g_autofree char *tree = world_tree(world, "web");
    g_autofree char *log = world_log(world, "web");
    g_autofree char *missing = g_strconcat("missing: ", b, NULL);
    ck_assert_ptr_nonnull(strstr(tree, missing));
    ck_assert_ptr_nonnull(strstr(log, "missing image: '"));
    world_revert(world, "web", "s1");
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("places");
    TCase *tcase = scratch_case(suite, "places");
    tcase_add_test(tcase, explicit_paths);
    tcase_add_test(tcase, generated_paths);
    tcase_add_test(tcase, mode_and_owner);
    tcase_add_test(tcase, impossible_paths);
    tcase_add_test(tcase, raw_and_qed);
    tcase_add_test(tcase, qed);
    tcase_add_test(tcase, cache_and_labels);
    tcase_add_test(tcase, no_internal_by_default);
    tcase_add_test(tcase, plain_default);
    tcase_add_test(tcase, subsets);
    tcase_add_test(tcase, shared_images);
    tcase_add_test(tcase, third_of_four);
    tcase_add_test(tcase, missing_image);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
