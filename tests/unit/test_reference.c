/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The documents of libvirt's own texts on snapshots (tests/golden/, reference-*), not only parsed but lived through:
 * the page's example with real images, and the machines whose images are on somebody else's host.
 */
#include "engine_world.h"
#include "runner.h"

static char *golden(const char *file)
{
    g_autofree char *path = g_build_filename(GOLDEN_DIR, file, NULL);
    char *text;
    ck_assert_msg(g_file_get_contents(path, &text, NULL, NULL), "%s", path);
    return text;
}

/* @text with each @from replaced. Frees @text. */
static char *with(char *text, const char *from, const char *to)
{
    GString *out = g_string_new(text);
    ck_assert_msg(g_string_replace(out, from, to, 0) > 0, "'%s' is not in %s", from, text);
    g_free(text);
    return g_string_free(out, FALSE);
}

static char *shown(World *world, const char *domain, const char *snapshot)
{
    EngineId id = snapshot ? world_snapshot(world, domain, snapshot) : world_domain(world, domain);
    return world_text(world, snapshot ? ENGINE_TEXT_SNAPSHOT_XML : ENGINE_TEXT_DOMAIN_XML, id);
}

static void define(World *world, const char *xml)
{
    g_autoptr(GError) error = NULL;
    ASSERT_OK(world_try_define(world, xml, &error), error);
}

static void redefine(World *world, const char *domain, const char *xml)
{
    g_autoptr(GError) error = NULL;
    ASSERT_OK(world->engine->ops->redefine(world->engine, world_domain(world, domain), 0, xml, strlen(xml),
                                           TRUE, NULL, &error),
              error);
}

/* --- the page's example --- */

/* A document of the page, about images of this world. */
static char *page(World *world, const char *file)
{
    g_autofree char *dir = g_strconcat(world->images, "/", NULL);
    return with(golden(file), "/path/to/", dir);
}

/* The machine as the page's output records it: as it was before the snapshot. */
static void define_page(World *world)
{
    g_free(world_raw(world, "old", 1));
    g_free(world_raw(world, "old2", 2));
    g_autofree char *out = page(world, "redefine/reference-page-with-type.out.xml");
    g_autoptr(SnapshotDef) def = snapshot_def_parse(out, strlen(out), NULL);
    g_autofree char *xml = domain_def_format(def->domain);
    define(world, xml);
}

/* "bare-os-install", the parent: a name for a state that no disk of this example took part in. */
static void add_parent(World *world)
{
    g_autofree char *domain = shown(world, "fedora", NULL);
    g_autofree char *xml = g_strconcat("<domainsnapshot><name>bare-os-install</name><state>shutoff</state>"
                                       "<creationTime>1270477000</creationTime><disks><disk name='vda' "
                                       "snapshot='no'/><disk name='vdb' snapshot='no'/></disks>",
                                       domain, "</domainsnapshot>", NULL);
    redefine(world, "fedora", xml);
}

static void create_page(World *world)
{
    g_autofree char *xml = page(world, "create/reference-page.xml");
    g_autoptr(CreateRequest) request = snapshot_parse_create(xml, strlen(xml), NULL);
    g_autoptr(GError) error = NULL;
    ASSERT_OK(
        world->engine->ops->create(world->engine, world_domain(world, "fedora"), request, NULL, NULL, &error),
        error);
}

/* "/path/to/old is the read-only backing file to the new active file": its content is the state, and the guest's. */
static void assert_page_content(World *world, const char *snapshot)
{
    g_autofree char *old = world_path(world, "old");
    g_autofree char *content = pattern_hash(1, 1);
    g_autofree char *then = world_hash(world, "fedora", snapshot, "vda");
    g_autofree char *now = world_hash(world, "fedora", NULL, "vda");
    g_autofree char *layer = world_layer(world, "fedora", snapshot, "vda", NULL);
    ck_assert_str_eq(then, content);
    ck_assert_str_eq(now, content);
    ck_assert_str_eq(layer, old);
    ck_assert_uint_eq(file_mode(old), 0444);
    g_autofree char *new = world_path(world, "new");
    ck_assert_str_eq(image_format(new), "qcow2");
}

/* What the page shows, but for the time, and that this machine was off. */
START_TEST(page_example)
{
    g_autoptr(World) world = world_new(PATH("world"));
    define_page(world);
    add_parent(world);
    create_page(world);
    g_autofree char *name = world_current(world, "fedora");
    for (guint i = 0; i < 2; i++, world_reopen(world)) {
        g_autofree char *snapshot = shown(world, "fedora", name);
        g_autofree char *domain = shown(world, "fedora", NULL);
        g_autofree char *domain_should = page(world, "domain/reference-page.out.xml");
        g_autofree char *should =
            with(with(page(world, "redefine/reference-page-with-type.out.xml"), "1270477159", name),
                 "<state>running</state>", "<state>shutoff</state>");
        ck_assert_str_eq(snapshot, should);
        ck_assert_str_eq(domain, domain_should);
        assert_page_content(world, name);
    }
    world_check_clean(world, "fedora");
}
END_TEST

/* --- machines whose images are not here --- */

static const struct {
    const char *file, *missing;
} elsewhere[] = {
    {"domain/reference-disk-snapshot", "/dev/HostVG/QEMUGuest3"},
    {"domain/reference-disk-transient", "/dev/HostVG/QEMUGuest1"},
};

START_TEST(defined_without_images)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_autofree char *in_file = g_strconcat(elsewhere[_i].file, ".in.xml", NULL);
    g_autofree char *out_file = g_strconcat(elsewhere[_i].file, ".out.xml", NULL);
    g_autofree char *in = golden(in_file);
    g_autofree char *out = golden(out_file);
    define(world, in);
    for (guint i = 0; i < 2; i++, world_reopen(world)) {
        g_autofree char *xml = shown(world, "QEMUGuest1", NULL);
        g_autofree char *log = world_log(world, "QEMUGuest1");
        g_autofree char *tree = world_tree(world, "QEMUGuest1");
        ck_assert_str_eq(xml, out);
        ck_assert_msg(strstr(log, elsewhere[_i].missing) != NULL, "%s", log);
        ck_assert_msg(strstr(tree, elsewhere[_i].missing) != NULL, "%s", tree);
    }
    g_autoptr(GError) error = NULL;
    ck_assert(!world_try_create(world, "QEMUGuest1", "s", NULL, &error));
    ck_assert_msg(strstr(error->message, "disk 'hda'") != NULL, "%s", error->message);
}
END_TEST

/* The machine of the QEMUGuest1 snapshot as it is after it: external disks are on their overlays. */
static char *guest_after(const SnapshotDef *def)
{
    g_autoptr(DomainDef) after = domain_def_copy(def->domain);
    for (guint i = 0; i < def->disks->len; i++) {
        const SnapshotDisk *disk = def->disks->pdata[i];
        if (disk->source)
            domain_def_set_source(after, domain_def_find_disk(after, disk->name), disk->type, disk->source,
                                  disk->format, NULL);
    }
    return domain_def_format(after);
}

START_TEST(redefined_without_images)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_autofree char *in = golden("redefine/reference-qemuguest1.in.xml");
    g_autofree char *out = golden("redefine/reference-qemuguest1.out.xml");
    g_autoptr(SnapshotDef) def = snapshot_def_parse(in, strlen(in), NULL);
    g_autofree char *after = guest_after(def);
    define(world, after);
    g_autoptr(SnapshotDef) parent = snapshot_def_parse(in, strlen(in), NULL);
    g_free(parent->name);
    parent->name = g_steal_pointer(&parent->parent);
    for (guint i = 0; i < parent->disks->len; i++) {
        SnapshotDisk *disk = parent->disks->pdata[i];
        snapshot_disk_set_source(disk, DISK_FILE, NULL);
        disk->format = FORMAT_NONE;
        disk->mode = MODE_NO;
    }
    g_autofree char *earlier = snapshot_def_format(parent);
    redefine(world, "QEMUGuest1", earlier);
    redefine(world, "QEMUGuest1", in);
    for (guint i = 0; i < 2; i++, world_reopen(world)) {
        g_autofree char *xml = shown(world, "QEMUGuest1", "my snap name");
        g_autofree char *tree = world_tree(world, "QEMUGuest1");
        ck_assert_str_eq(xml, out);
        ck_assert_msg(strstr(tree, "earlier_snap") && strstr(tree, "/dev/HostVG/QEMUGuest4"), "%s", tree);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("reference");
    TCase *tcase = scratch_case(suite, "reference");
    tcase_add_test(tcase, page_example);
    tcase_add_loop_test(tcase, defined_without_images, 0, G_N_ELEMENTS(elsewhere));
    tcase_add_test(tcase, redefined_without_images);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
