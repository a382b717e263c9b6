/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Snapshots' documents from outside: redefine, rename and re-parent by document, descriptions, what comes from libvirt. */
#include "engine_world.h"
#include "runner.h"

static char *document_of(World *world, const char *snapshot)
{
    return world_text(world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(world, "web", snapshot));
}

static gboolean try_redefine(World *world, const char *snapshot, const char *xml, gboolean current,
                             GError **error)
{
    EngineId id = snapshot ? world_snapshot(world, "web", snapshot) : 0;
    return world->engine->ops->redefine(world->engine, world_domain(world, "web"), id, xml, strlen(xml),
                                        current, NULL, error);
}

static void redefine(World *world, const char *snapshot, const char *xml, gboolean current)
{
    g_autoptr(GError) error = NULL;
    ASSERT_OK(try_redefine(world, snapshot, xml, current, &error), error);
}

static void assert_refused(World *world, const char *snapshot, const char *xml, int code, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *before = world_digest(world, "web");
    ck_assert_msg(!try_redefine(world, snapshot, xml, FALSE, &error), "was taken: %s", xml);
    expect_error(&error, code, text);
    g_autofree char *after = world_digest(world, "web");
    ck_assert_str_eq(after, before);
}

/* @text with the first @from replaced; asserts that it is there. Frees @text. */
static char *with(char *text, const char *from, const char *to)
{
    GString *out = g_string_new(text);
    ck_assert_msg(g_string_replace(out, from, to, 1) == 1, "'%s' is not in %s", from, text);
    g_free(text);
    return g_string_free(out, FALSE);
}

static World *three(char *dir)
{
    World *world = world_web(dir);
    world_create(world, "web", "s1", NULL);
    world_write(world, "web", "vda", 11);
    world_create(world, "web", "s2", BOTH_EXTERNAL);
    world_write(world, "web", "vda", 12);
    world_create(world, "web", "s3", NULL);
    return world;
}

static void assert_hash(World *world, const char *snapshot, int first)
{
    g_autofree char *is = world_hash(world, "web", snapshot, "vda");
    g_autofree char *should = pattern_hash(first, 1);
    ck_assert_str_eq(is, should);
}

/* The document that is shown, written back, changes nothing. */
START_TEST(same_again)
{
    g_autoptr(World) world = three(PATH("world"));
    g_autofree char *before = world_digest(world, "web");
    for (guint i = 0; i < 3; i++) {
        g_autofree char *name = g_strdup_printf("s%u", i + 1);
        g_autofree char *xml = document_of(world, name);
        redefine(world, i % 2 ? name : NULL, xml, FALSE);
    }
    g_autofree char *after = world_digest(world, "web");
    ck_assert_str_eq(after, before);
    world_reopen(world);
    g_autofree char *again = world_digest(world, "web");
    ck_assert_str_eq(again, before);
}
END_TEST

START_TEST(rename_by_document)
{
    g_autoptr(World) world = three(PATH("world"));
    EngineId id = world_snapshot(world, "web", "s2");
    g_autofree char *xml = with(document_of(world, "s2"), "<name>s2</name>", "<name>neu</name>");
    redefine(world, "s2", xml, FALSE);
    ck_assert_uint_eq(world_snapshot(world, "web", "neu"), id);
    ck_assert_uint_eq(world_snapshot(world, "web", "s2"), 0);
    for (guint i = 0; i < 2; i++, world_reopen(world)) {
        g_autofree char *parent = world_parent(world, "web", "s3");
        g_autofree char *names = world_names(world, "web");
        ck_assert_str_eq(parent, "neu");
        ck_assert(strcmp(names, "s1 neu s3") == 0);
        assert_hash(world, "neu", 11);
        world_check_clean(world, "web");
    }
    g_autofree char *taken = with(document_of(world, "neu"), "<name>neu</name>", "<name>s3</name>");
    assert_refused(world, "neu", taken, EEXIST, "there is a snapshot 's3' already");
    g_autofree char *reserved = with(document_of(world, "neu"), "<name>neu</name>", "<name>a/b</name>");
    assert_refused(world, "neu", reserved, EINVAL, NULL);
    world_revert(world, "web", "neu");
    assert_hash(world, NULL, 11);
}
END_TEST

START_TEST(parents)
{
    g_autoptr(World) world = three(PATH("world"));
    g_autofree char *unknown = with(document_of(world, "s3"), "<name>s2</name>", "<name>none</name>");
    g_autofree char *itself = with(document_of(world, "s3"), "<name>s2</name>", "<name>s3</name>");
    g_autofree char *loop = with(document_of(world, "s2"), "<name>s1</name>", "<name>s3</name>");
    assert_refused(world, "s3", unknown, EINVAL, "line 4: <parent>: there is no snapshot 'none'");
    assert_refused(world, "s3", itself, EINVAL, "line 4: <parent>: the snapshot cannot be its own parent");
    assert_refused(world, "s2", loop, EINVAL, "line 4: <parent>: 's3' descends from it");
    g_autofree char *moved = with(document_of(world, "s3"), "<name>s2</name>", "<name>s1</name>");
    redefine(world, "s3", moved, FALSE);
    g_autofree char *parent = world_parent(world, "web", "s3");
    ck_assert_str_eq(parent, "s1");
    g_autofree char *root =
        with(document_of(world, "s3"), "  <parent>\n    <name>s1</name>\n  </parent>\n", "");
    redefine(world, "s3", root, FALSE);
    world_reopen(world);
    g_autofree char *none = world_parent(world, "web", "s3");
    ck_assert_str_eq(none, "-");
    assert_hash(world, "s3", 12);
}
END_TEST

START_TEST(bad_documents)
{
    static const struct {
        const char *from, *to;
        int code;
    } bad[] = {
        {"<uuid>", "<uuid>00000000-", EINVAL},
        {"<state>shutoff</state>", "<state>running</state>", EINVAL},
        {"<state>shutoff</state>", "<state>disk-snapshot</state>", EINVAL},
        {"<state>shutoff</state>", "<state>blocked</state>", EINVAL},
        {"<state>shutoff</state>", "", EINVAL},
        {"<name>s1</name>", "", EINVAL},
        {"<memory snapshot='no'/>", "<memory snapshot='internal'/>", EINVAL},
        {"<disk name='vda'", "<disk name='vdz'", EOPNOTSUPP},
        {"<disk name='vda' snapshot='internal'/>", "<disk name='vdb' snapshot='internal'/>", EOPNOTSUPP},
        {"</domainsnapshot>", "", EINVAL},
    };
    g_autoptr(World) world = three(PATH("world"));
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *xml = with(document_of(world, "s1"), bad[i].from, bad[i].to);
        g_autoptr(GError) error = NULL;
        ck_assert_msg(!try_redefine(world, "s1", xml, FALSE, &error), "'%s' was taken", bad[i].to);
        ck_assert_msg(error->code == bad[i].code || error->code == EINVAL, "'%s': %d %s", bad[i].to,
                      error->code, error->message);
    }
    /* another machine's document */
    g_autofree char *uuid = domain_uuid_normalize("12345678-1234-1234-1234-123456789012");
    GString *other = g_string_new(NULL);
    g_autofree char *xml = document_of(world, "s1");
    char *at = strstr(xml, "<uuid>");
    g_string_append_len(other, xml, at - xml + 6);
    g_string_append(other, uuid);
    g_string_append(other, at + 6 + 36);
    g_autofree char *text = g_string_free(other, FALSE);
    assert_refused(world, NULL, text, EINVAL, "is about the domain with the uuid '12345678-");
    g_autoptr(GError) error = NULL;
    ck_assert(!world->engine->ops->redefine(world->engine, world_domain(world, "web"), 4711, xml, strlen(xml),
                                            FALSE, NULL, &error));
    expect_error(&error, ENOENT, NULL);
}
END_TEST

START_TEST(current_one)
{
    g_autoptr(World) world = three(PATH("world"));
    g_autofree char *xml = document_of(world, "s1");
    redefine(world, NULL, xml, TRUE); /* only the pointer moves */
    g_autofree char *name = world_current(world, "web");
    ck_assert_str_eq(name, "s1");
    assert_hash(world, NULL, 12);
    g_autofree char *without = document_of(world, "s2");
    redefine(world, "s2", without, FALSE);
    world_reopen(world);
    g_autofree char *still = world_current(world, "web");
    ck_assert_str_eq(still, "s1");
}
END_TEST

/* Deleted as names only, and put back by their documents: the same states are there again. */
START_TEST(out_and_in)
{
    g_autoptr(World) world = three(PATH("world"));
    g_autoptr(GError) error = NULL;
    char *documents[3];
    for (guint i = 0; i < 3; i++) {
        g_autofree char *name = g_strdup_printf("s%u", i + 1);
        documents[i] = document_of(world, name);
    }
    ASSERT_OK(world_try_delete(world, "web", "s1", DELETE_CHILDREN | DELETE_METADATA, &error), error);
    world_reopen(world);
    for (guint i = 0; i < 3; i++) {
        redefine(world, NULL, documents[i], i == 2);
        g_autofree char *name = g_strdup_printf("s%u", i + 1);
        g_autofree char *now = document_of(world, name);
        ck_assert_str_eq(now, documents[i]);
        g_free(documents[i]);
    }
    world_reopen(world);
    assert_hash(world, "s1", 1);
    assert_hash(world, "s2", 11);
    assert_hash(world, "s3", 12);
    g_autofree char *current = world_current(world, "web");
    ck_assert_str_eq(current, "s3");
    world_revert(world, "web", "s1");
    assert_hash(world, NULL, 1);
    world_revert(world, "web", "s2");
    assert_hash(world, NULL, 11);
    world_check_clean(world, "web");
}
END_TEST

/* libvirt's minimal document; one whose image is not there; what the domain writes now can be no snapshot's state. */
START_TEST(from_elsewhere)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *domain = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "web"));
    g_autofree char *a = world_path(world, "a.qcow2");
    tool("qemu-img", "snapshot", "-c", "7", a, NULL);
    world_write(world, "web", "vda", 11);
    g_autofree char *internal =
        g_strdup_printf("<domainsnapshot><name>7</name><state>shutoff</state>"
                        "<creationTime>5</creationTime><disks><disk name='vda' snapshot='internal'/>"
                        "<disk name='vdb' snapshot='no'/></disks>%s</domainsnapshot>",
                        domain);
    redefine(world, NULL, internal, FALSE);
    assert_hash(world, "7", 1);
    world_revert(world, "web", "7"); /* by name, although "7" looks like an id */
    assert_hash(world, NULL, 1);
    g_autofree char *active =
        g_strdup_printf("<domainsnapshot><name>e</name><state>shutoff</state>"
                        "<creationTime>6</creationTime><disks><disk name='vda' snapshot='external'>"
                        "<source file='%s/none'/></disk><disk name='vdb' snapshot='no'/></disks>%s"
                        "</domainsnapshot>",
                        world->images, domain);
    assert_refused(world, NULL, active, EINVAL, "first point the domain at the overlay");
    g_autofree char *gone = with(g_strdup(active), a, "/nowhere/at/all.qcow2");
    redefine(world, NULL, gone, FALSE);
    g_autofree char *tree = world_tree(world, "web");
    ck_assert_ptr_nonnull(strstr(tree, "missing: /nowhere/at/all.qcow2"));
    g_autoptr(GError) error = NULL;
    ck_assert(!world_try_revert(world, "web", "e", &error));
    expect_error(&error, ENOENT, "disk 'vda'");
    world_reopen(world);
    world_check_clean(world, "web");
}
END_TEST

/* A document without <domain> inherits the one that is stored; for a new snapshot there is none. */
START_TEST(without_domain)
{
    g_autoptr(World) world = three(PATH("world"));
    g_autofree char *xml = document_of(world, "s1");
    char *from = strstr(xml, "  <domain ");
    GString *less = g_string_new_len(xml, from - xml);
    g_string_append(less, "</domainsnapshot>\n");
    g_autofree char *without = g_string_free(less, FALSE);
    redefine(world, "s1", without, FALSE);
    g_autofree char *now = document_of(world, "s1");
    ck_assert_str_eq(now, xml);
    assert_hash(world, "s1", 1);
    g_autofree char *fresh = with(g_strdup(without), "<name>s1</name>", "<name>fresh</name>");
    assert_refused(world, NULL, fresh, EINVAL, "<domain>");
}
END_TEST

/* A snapshot of old, whose document has of the machine just the uuid: shown, kept and printed so, until it is completed. */
START_TEST(legacy)
{
    g_autoptr(World) world = three(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *whole = document_of(world, "s1");
    g_autoptr(SnapshotDef) def = snapshot_def_parse(whole, strlen(whole), NULL);
    def->domain_uuid = g_strdup(def->domain->uuid);
    g_clear_pointer(&def->domain, domain_def_free);
    g_autofree char *old = snapshot_def_format(def);
    g_autofree char *file = world_store_file(world, "domains/web/snapshots/s1.xml");
    world_close(world);
    ck_assert(g_file_set_contents(file, old, -1, NULL));
    world_open(world);
    redefine(world, "s1", old, FALSE);
    ASSERT_OK(world->engine->ops->describe(world->engine, world_snapshot(world, "web", "s1"), "of old", NULL,
                                           &error),
              error);
    g_autofree char *shown = document_of(world, "s1");
    g_autofree char *expected =
        with(g_strdup(old), "  <state>", "  <description>of old</description>\n  <state>");
    ck_assert_str_eq(shown, expected);
    assert_hash(world, "s1", 1);
    ck_assert(!world_try_revert(world, "web", "s1", &error));
    expect_error(&error, EPERM, "does not say what the domain was like");
    RevertRequest forced = {.name = (char *)"s1", .force = TRUE};
    ASSERT_OK(world->engine->ops->revert(world->engine, world_domain(world, "web"), &forced, NULL, &error),
              error);
    assert_hash(world, NULL, 1);
    redefine(world, "s1", whole, FALSE);
    world_reopen(world);
    g_autofree char *again = document_of(world, "s1");
    ck_assert_str_eq(again, whole);
    assert_hash(world, "s1", 1);
    world_revert(world, "web", "s1");
    world_check_clean(world, "web");
}
END_TEST

START_TEST(describe)
{
    static const char *const texts[] = {"short", "two\nlines\n\n", " <&>'\" ü\t", ""};
    g_autoptr(World) world = three(PATH("world"));
    const EngineOps *ops = world->engine->ops;
    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL;
        EngineId id = world_snapshot(world, "web", "s2");
        ASSERT_OK(ops->describe(world->engine, id, texts[i], NULL, &error), error);
        for (guint k = 0; k < 2; k++, world_reopen(world)) {
            g_autofree char *said =
                world_text(world, ENGINE_TEXT_DESCRIPTION, world_snapshot(world, "web", "s2"));
            g_autofree char *expected = *texts[i] ? g_strconcat(texts[i], "\n", NULL) : g_strdup("");
            guint64 size;
            gint64 when;
            ck_assert_str_eq(said, expected);
            ck_assert(ops->text_size(world->engine, ENGINE_TEXT_DESCRIPTION,
                                     world_snapshot(world, "web", "s2"), &size, &when));
            ck_assert_uint_eq(size, strlen(expected));
        }
    }
    static const struct {
        const char *text;
        int code;
    } bad[] = {{"\x01", EILSEQ}, {"\xff", EILSEQ}};
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        ck_assert(
            !ops->describe(world->engine, world_snapshot(world, "web", "s2"), bad[i].text, NULL, &error));
        expect_error(&error, bad[i].code, NULL);
    }
    g_autofree char *much = g_strnfill(600 * 1024, 'x');
    g_autofree char *escaped = g_strnfill(400 * 1024, '&'); /* five times as long in the document */
    g_autoptr(GError) error = NULL;
    ck_assert(!ops->describe(world->engine, world_snapshot(world, "web", "s2"), much, NULL, &error));
    expect_error(&error, E2BIG, NULL);
    ck_assert(!ops->describe(world->engine, world_snapshot(world, "web", "s2"), escaped, NULL, &error));
    expect_error(&error, E2BIG, NULL);
    ck_assert(!ops->describe(world->engine, 99, "x", NULL, &error));
    expect_error(&error, ENOENT, NULL);
    world_reopen(world);
    world_check_clean(world, "web");
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("redefine");
    TCase *tcase = scratch_case(suite, "redefine");
    tcase_add_test(tcase, same_again);
    tcase_add_test(tcase, rename_by_document);
    tcase_add_test(tcase, parents);
    tcase_add_test(tcase, bad_documents);
    tcase_add_test(tcase, current_one);
    tcase_add_test(tcase, out_and_in);
    tcase_add_test(tcase, from_elsewhere);
    tcase_add_test(tcase, without_domain);
    tcase_add_test(tcase, legacy);
    tcase_add_test(tcase, describe);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
