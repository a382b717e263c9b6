/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A tree of snapshots, of whose store only the documents are left: rebuilt, parents first, in a new store on the same images. */
#include <glib/gstdio.h>

#include "engine_world.h"
#include "runner.h"

#include <sys/syscall.h>

typedef struct {
    char *name;
    char *xml;
    char *parent;  /* "-": none */
    char *hash[2]; /* of vda and vdb; NULL: took no part */
} Exported;

static const char *const targets[] = {"vda", "vdb"};

static void exported_free(gpointer data)
{
    Exported *exported = data;
    g_free(exported->name);
    g_free(exported->xml);
    g_free(exported->parent);
    g_free(exported->hash[0]);
    g_free(exported->hash[1]);
    g_free(exported);
}

static char *state_hash(World *world, const char *name, const char *target)
{
    g_autofree char *xml = world_text(world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(world, "web", name));
    g_autofree char *none = g_strdup_printf("<disk name='%s' snapshot='no'/>", target);
    return strstr(xml, none) ? NULL : world_hash(world, "web", name, target);
}

/* All snapshots, oldest first: so parents come before their children. */
static GPtrArray *export_tree(World *world)
{
    GPtrArray *tree = g_ptr_array_new_with_free_func(exported_free);
    g_autoptr(GPtrArray) entries = world->engine->ops->list(world->engine, world_domain(world, "web"));
    for (guint i = 0; i < entries->len; i++) {
        const EngineEntry *entry = entries->pdata[i];
        Exported *exported = g_new0(Exported, 1);
        exported->name = g_strdup(entry->name);
        exported->xml = world_text(world, ENGINE_TEXT_SNAPSHOT_XML, entry->id);
        exported->parent = world_parent(world, "web", entry->name);
        for (guint k = 0; k < 2; k++)
            exported->hash[k] = state_hash(world, entry->name, targets[k]);
        g_ptr_array_add(tree, exported);
    }
    return tree;
}

/*
 *  root (internal)
 *    over (external)
 *      1234 (internal, on the overlays)
 *        half (vda external, vdb internal)
 *    other (vdb external, vda not at all)
 *      deep (external)             <- current
 */
static World *grown(char *dir)
{
    World *world = world_web(dir);
    world_create(world, "web", "root", NULL);
    world_write(world, "web", "vda", 11);
    world_write(world, "web", "vdb", 12);
    world_create(world, "web", "over", BOTH_EXTERNAL);
    world_write(world, "web", "vda", 13);
    world_create(world, "web", "1234", NULL);
    world_write(world, "web", "vdb", 14);
    world_create(world, "web", "half", "vda,snapshot=external vdb,snapshot=internal");
    world_write(world, "web", "vda", 15);
    world_revert(world, "web", "root");
    world_write(world, "web", "vdb", 16);
    world_create(world, "web", "other", "vda,snapshot=no vdb,snapshot=external");
    world_write(world, "web", "vda", 17);
    world_create(world, "web", "deep", BOTH_EXTERNAL);
    world_write(world, "web", "vdb", 18);
    return world;
}

/* Close the store, which is lost, and open an empty one that has its number: else the images would be another's. */
static void new_store(World *world, const char *definition)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *lost = world_store_file(world, "uuid");
    world_close(world);
    g_free((char *)world->options.store);
    world->options.store = g_build_filename(world->dir, "new store", NULL);
    g_autofree char *file = world_store_file(world, "uuid");
    ck_assert_int_eq(g_mkdir(world->options.store, 0700), 0);
    tool("cp", lost, file, NULL);
    world_open(world);
    ASSERT_OK(world_try_define(world, definition, &error), error);
}

static void put_back(World *world, const char *xml, gboolean current)
{
    g_autoptr(GError) error = NULL;
    ASSERT_OK(world->engine->ops->redefine(world->engine, world_domain(world, "web"), 0, xml, strlen(xml),
                                           current ? REDEFINE_CURRENT : 0, NULL, &error),
              error);
}

static void assert_states(World *world, const GPtrArray *tree)
{
    for (guint i = 0; i < tree->len; i++) {
        const Exported *exported = tree->pdata[i];
        g_autofree char *parent = world_parent(world, "web", exported->name);
        ck_assert_str_eq(parent, exported->parent);
        for (guint k = 0; k < 2; k++) {
            g_autofree char *hash = state_hash(world, exported->name, targets[k]);
            ck_assert_msg(g_strcmp0(hash, exported->hash[k]) == 0, "%s %s", exported->name, targets[k]);
        }
    }
}

/* Each state becomes the present one, whatever was reverted to before, and stays what it is. */
static void assert_reverts(World *world, const GPtrArray *tree)
{
    for (guint i = 0; i < 2 * tree->len; i++) {
        const Exported *exported = tree->pdata[i < tree->len ? i : 2 * tree->len - 1 - i];
        world_revert(world, "web", exported->name);
        for (guint k = 0; k < 2; k++) {
            g_autofree char *now = exported->hash[k] ? world_hash(world, "web", NULL, targets[k]) : NULL;
            ck_assert_msg(g_strcmp0(now, exported->hash[k]) == 0, "%s %s", exported->name, targets[k]);
        }
        world_write(world, "web", "vda", 30 + (int)i);
        world_write(world, "web", "vdb", 60 + (int)i);
    }
    assert_states(world, tree);
    world_check_clean(world, "web");
}

/* Whole documents: byte for byte the same again, and the tree as it was drawn. */
START_TEST(whole)
{
    g_autoptr(World) world = grown(PATH("world"));
    g_autoptr(GPtrArray) tree = export_tree(world);
    g_autofree char *definition = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "web"));
    g_autofree char *drawn = world_tree(world, "web");
    g_autofree char *digest = world_digest(world, "web");
    new_store(world, definition);
    for (guint i = 0; i < tree->len; i++)
        put_back(world, ((Exported *)tree->pdata[i])->xml, i == tree->len - 1);
    for (guint i = 0; i < 2; i++, world_reopen(world)) {
        g_autofree char *again = world_tree(world, "web");
        g_autofree char *same = world_digest(world, "web");
        ck_assert_str_eq(again, drawn);
        ck_assert_str_eq(same, digest);
    }
    assert_states(world, tree);
    assert_reverts(world, tree);
}
END_TEST

/* Children first: told that there is no such parent, nothing is changed. */
START_TEST(children_first)
{
    g_autoptr(World) world = grown(PATH("world"));
    g_autoptr(GPtrArray) tree = export_tree(world);
    g_autofree char *definition = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "web"));
    g_autoptr(GError) error = NULL;
    new_store(world, definition);
    const char *xml = ((Exported *)tree->pdata[1])->xml;
    ck_assert(!world->engine->ops->redefine(world->engine, world_domain(world, "web"), 0, xml, strlen(xml), 0,
                                            NULL, &error));
    expect_error(&error, EINVAL, "<parent>: there is no snapshot 'root'");
    g_autofree char *names = world_names(world, "web");
    ck_assert_str_eq(names, "");
}
END_TEST

/* The element called @name of a dump, with all in it, or "". Caller frees. */
static char *element(const char *xml, const char *name)
{
    g_autofree char *start = g_strdup_printf("  <%s>", name), *end = g_strdup_printf("</%s>\n", name);
    const char *from = strstr(xml, start), *to = from ? strstr(from, end) : NULL;
    return to ? g_strndup(from, (gsize)(to - from) + strlen(end)) : g_strdup("");
}

/*
 * The least that libvirt takes (facts 10.1): of the machine what it must have and the disks, of the snapshot's disks
 * how they took part. The overlays get libvirt's names for them.
 */
static char *minimal(const Exported *exported)
{
    g_autoptr(SnapshotDef) def = snapshot_def_parse(exported->xml, strlen(exported->xml), NULL);
    g_autofree char *parent = element(exported->xml, "parent");
    GString *out = g_string_new("<domainsnapshot>");
    g_string_append_printf(out, "<disks>");
    for (guint i = 0; i < def->disks->len; i++) {
        const SnapshotDisk *disk = def->disks->pdata[i];
        g_string_append_printf(out, "<disk name='%s' snapshot='%s'/>", disk->name,
                               snap_mode_to_string(disk->mode));
    }
    g_string_append_printf(out,
                           "</disks><creationTime>%d</creationTime><state>shutoff</state><name>%s</name>%s"
                           "<domain type='kvm'><name>anything</name><uuid>%s</uuid><memory>65536</memory>"
                           "<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>",
                           1000, def->name, parent, def->domain->uuid);
    for (guint i = 0; i < def->domain->disks->len; i++) {
        const DiskDef *disk = def->domain->disks->pdata[i];
        g_string_append_printf(out,
                               "<disk><driver type='qcow2'/><source file='%s'/><target dev='%s'/></disk>",
                               disk->source, disk->target);
    }
    g_string_append(out, "</devices></domain></domainsnapshot>");
    return g_string_free(out, FALSE);
}

START_TEST(least)
{
    g_autoptr(World) world = grown(PATH("world"));
    g_autoptr(GPtrArray) tree = export_tree(world);
    g_autofree char *definition = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "web"));
    new_store(world, definition);
    for (guint i = 0; i < tree->len; i++) {
        g_autofree char *xml = minimal(tree->pdata[i]);
        put_back(world, xml, FALSE);
    }
    assert_states(world, tree);
    world_reopen(world);
    assert_states(world, tree);
    assert_reverts(world, tree);
    g_autofree char *names = world_names(world, "web"); /* all of one second: in the order they came */
    ck_assert_str_eq(names, "root over 1234 half other deep");
}
END_TEST

/* Images in another directory, as on another host: documents and definition say the new paths. */
START_TEST(elsewhere)
{
    g_autoptr(World) world = grown(PATH("world"));
    g_autoptr(GPtrArray) tree = export_tree(world);
    g_autofree char *definition = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "web"));
    g_autofree char *there = g_build_filename(world->dir, "there", NULL);
    g_autofree char *old = g_strdup(world->images);
    world_close(world);
    ck_assert_int_eq((int)syscall(SYS_renameat2, AT_FDCWD, world->images, AT_FDCWD, there, 0), 0);
    g_free(world->images);
    world->images = g_steal_pointer(&there);
    g_autoptr(GString) moved = g_string_new(definition);
    g_string_replace(moved, old, world->images, 0);
    new_store(world, moved->str);
    for (guint i = 0; i < tree->len; i++) {
        g_autoptr(GString) xml = g_string_new(((Exported *)tree->pdata[i])->xml);
        g_string_replace(xml, old, world->images, 0);
        put_back(world, xml->str, FALSE);
    }
    assert_states(world, tree);
    assert_reverts(world, tree);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("rebuild");
    TCase *tcase = scratch_case(suite, "rebuild");
    tcase_set_timeout(tcase, 300);
    tcase_add_test(tcase, whole);
    tcase_add_test(tcase, children_first);
    tcase_add_test(tcase, least);
    tcase_add_test(tcase, elsewhere);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
