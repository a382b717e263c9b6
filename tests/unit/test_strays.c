/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Images' own tags against the metadata: what does not fit is said in tree and log, at once and after a restart. */
#include "engine_world.h"
#include "runner.h"

static void assert_tree(World *world, const char *line, gboolean there)
{
    g_autofree char *tree = world_tree(world, "web");
    ck_assert_msg((strstr(tree, line) != NULL) == there, "'%s' is %sin\n%s", line, there ? "not " : "", tree);
}

/* In tree now and after a restart, and in the log as often as that (the restart says it again). */
static void assert_said(World *world, const char *line)
{
    for (guint i = 1; i <= 2; i++) {
        g_autofree char *log = world_log(world, "web");
        g_auto(GStrv) parts = g_strsplit(log, line, -1);
        ck_assert_msg(g_strv_length(parts) == i + 1, "%u times '%s' in\n%s", g_strv_length(parts) - 1, line,
                      log);
        assert_tree(world, line, TRUE);
        if (i == 1)
            world_reopen(world);
    }
}

static void assert_unsaid(World *world, const char *line)
{
    for (guint i = 0; i < 2; i++, world_reopen(world))
        assert_tree(world, line, FALSE);
}

static void redefine(World *world, const char *name, const char *xml)
{
    g_autoptr(GError) error = NULL;
    ASSERT_OK(world->engine->ops->redefine(world->engine, world_domain(world, "web"), 0, xml, strlen(xml), 0,
                                           NULL, &error),
              error);
    ck_assert_uint_ne(world_snapshot(world, "web", name), 0);
}

/* The document of @name taken out of @xml, one of another snapshot. Caller frees. */
static char *named(const char *xml, const char *from, const char *name)
{
    GString *out = g_string_new(xml);
    g_autofree char *old = g_strdup_printf("<name>%s</name>", from),
                    *new = g_strdup_printf("<name>%s</name>", name);
    ck_assert_uint_eq(g_string_replace(out, old, new, 1), 1);
    return g_string_free(out, FALSE);
}

/* --- tags that nothing names --- */

/* Made by hand, seen by the next operation and by the next start; gone again likewise. */
START_TEST(unnamed)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *a = world_path(world, "a.qcow2");
    g_autofree char *line = g_strdup_printf("unnamed: '%s' has the internal snapshot 'by hand' (id 1, 2", a);
    tool("qemu-img", "snapshot", "-c", "by hand", a, NULL);
    assert_tree(world, "unnamed", FALSE); /* nobody looked */
    if (_i)
        world_reopen(world);
    else
        world_create(world, "web", "s1", NULL);
    assert_said(world, line);
    assert_tree(world, "), which no snapshot of this domain names\n", TRUE);
    world_create(world, "web", "s2", NULL);
    assert_tree(world, line, TRUE);
    tool("qemu-img", "snapshot", "-d", "by hand", a, NULL);
    world_delete(world, "web", "s2");
    assert_unsaid(world, "unnamed");
    world_check_clean(world, "web");
}
END_TEST

/* The tag in which a revert keeps what it threw away is out of sight, unless somebody takes it away. */
START_TEST(kept_for_undo)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *a = world_path(world, "a.qcow2");
    world_create(world, "web", "s1", NULL);
    world_revert(world, "web", "s1");
    assert_tree(world, "unnamed", FALSE);
    world_reopen(world);
    assert_tree(world, "unnamed", FALSE);
    world_close(world);
    g_autofree char *list = tool_output("qemu-img", "snapshot", "-l", a, NULL);
    ck_assert_ptr_nonnull(strstr(list, "domsnapfs-"));
    g_autofree char *hidden = g_strndup(strstr(list, "domsnapfs-"), strlen("domsnapfs-") + 36);
    tool("qemu-img", "snapshot", "-d", hidden, a, NULL);
    world_open(world);
    assert_tree(world, "no tag: what the last revert threw away of vda: ", TRUE);
}
END_TEST

/* An image that brings its tags along: told when it is defined, until documents name them. */
START_TEST(brought_along)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *c = world_image(world, "c.qcow2", 3);
    world_create(world, "web", "s1", NULL);
    g_autofree char *xml = world_text(world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(world, "web", "s1"));
    g_autofree char *then = named(xml, "s1", "then");
    g_autofree char *b = world_path(world, "b.qcow2");
    tool("qemu-img", "snapshot", "-c", "then", c, NULL);
    world_define(world, "web", "c.qcow2", "b.qcow2", NULL);
    g_autofree char *line = g_strdup_printf("unnamed: '%s' has the internal snapshot 'then'", c);
    assert_said(world, line);
    /* its document says that it was in a.qcow2: so that is what does not fit */
    g_autofree char *a = world_path(world, "a.qcow2");
    redefine(world, "then", then);
    g_autofree char *lost =
        g_strdup_printf("no tag: snapshot 'then' of vda: '%s' has no internal snapshot 'then'", a);
    g_autofree char *lost_b =
        g_strdup_printf("no tag: snapshot 'then' of vdb: '%s' has no internal snapshot 'then'", b);
    assert_said(world, lost);
    assert_tree(world, lost_b, TRUE);
    GString *right = g_string_new(then);
    g_string_replace(right, a, c, 0);
    g_string_replace(right, "<disk name='vdb' snapshot='internal'/>", "<disk name='vdb' snapshot='no'/>", 0);
    redefine(world, "then", right->str);
    g_string_free(right, TRUE);
    assert_unsaid(world, "unnamed");
    assert_unsaid(world, "no tag");
    world_assert_hash(world, "then", "vda", 3, 3);
}
END_TEST

/* A new domain says it too. */
START_TEST(defined)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_autofree char *a = world_image(world, "a.qcow2", 1);
    tool("qemu-img", "snapshot", "-c", "old", a, NULL);
    world_define(world, "web", "a.qcow2", NULL);
    assert_said(world, "has the internal snapshot 'old' (id 1, ");
}
END_TEST

/* Forgotten with --metadata: its tags stay, and are said to, in a frozen file too. */
START_TEST(released)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *a = world_path(world, "a.qcow2");
    world_create(world, "web", "s1", NULL);
    if (_i)
        world_create(world, "web", "s2", BOTH_EXTERNAL);
    assert_tree(world, "unnamed", FALSE);
    ASSERT_OK(world_try_delete(world, "web", "s1", DELETE_METADATA, &error), error);
    g_autofree char *line = g_strdup_printf("unnamed: '%s' has the internal snapshot 's1' (id 1, ", a);
    assert_said(world, line);
}
END_TEST

/* --- tags that are not there, or twice --- */

START_TEST(lost)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *a = world_path(world, "a.qcow2");
    g_autofree char *line =
        g_strdup_printf("no tag: snapshot 's1' of vda: '%s' has no internal snapshot 's1'\n", a);
    g_autofree char *logged = g_strndup(line, strlen(line) - 1);
    world_create(world, "web", "s1", NULL);
    world_write(world, "web", "vda", 11);
    world_create(world, "web", "s2", NULL);
    tool("qemu-img", "snapshot", "-d", "s1", a, NULL);
    world_reopen(world);
    assert_tree(world, line, TRUE);
    assert_said(world, logged);
    g_autofree char *b = world_path(world, "b.qcow2");
    g_autofree char *before = file_hash(b);
    ck_assert(!world_try_revert(world, "web", "s1", &error));
    g_autofree char *why = g_strdup_printf("disk 'vda': '%s' has no internal snapshot 's1' any more", a);
    expect_error(&error, EIO, why);
    g_autofree char *after = file_hash(b); /* the other disk, whose tag is there */
    ck_assert_str_eq(after, before);
    world_assert_hash(world, NULL, "vda", 11, 1);
    world_revert(world, "web", "s2"); /* the others are well */
    world_assert_hash(world, NULL, "vda", 11, 1);
    world_delete(world, "web", "s1");
    assert_unsaid(world, "no tag");
    g_autofree char *tags = image_tags(b);
    ck_assert_str_eq(tags, "s2"); /* of the disk that had it, it went */
    world_check_clean(world, "web");
}
END_TEST

START_TEST(twice)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *b = world_path(world, "b.qcow2");
    g_autofree char *line =
        g_strdup_printf("several tags: snapshot 's1' of vdb: '%s' has 2 internal snapshots 's1'", b);
    world_create(world, "web", "s1", NULL);
    world_write(world, "web", "vdb", 12);
    tool("qemu-img", "snapshot", "-c", "s1", b, NULL);
    world_reopen(world);
    assert_tree(world, line, TRUE);
    ck_assert(!world_try_revert(world, "web", "s1", &error));
    expect_error(&error, EIO, "has two internal snapshots 's1'");
    world_assert_hash(world, NULL, "vdb", 12, 2);
    world_delete(world, "web", "s1"); /* which one was ours cannot be known: both stay, and are told */
    g_autofree char *tags = image_tags(b);
    ck_assert_str_eq(tags, "s1 s1");
    g_autofree char *first = g_strdup_printf("owed: '%s' still has the internal snapshot 's1' (id 1, ", b);
    g_autofree char *second = g_strdup_printf("owed: '%s' still has the internal snapshot 's1' (id 2, ", b);
    for (guint i = 0; i < 2; i++, world_reopen(world)) {
        assert_tree(world, first, TRUE);
        assert_tree(world, second, TRUE);
        assert_tree(world, "several", FALSE);
    }
}
END_TEST

/* A raw image cannot have any. */
START_TEST(raw)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *a = world_raw(world, "a.raw", 1);
    g_autofree char *domain = one_disk_document(world, "web", "raw", "a.raw", "");
    world_assert_define_taken(world, domain);
    g_autofree char *xml = g_strdup_printf("<domainsnapshot><name>s</name><state>shutoff</state>"
                                           "<creationTime>5</creationTime>%s</domainsnapshot>",
                                           domain);
    redefine(world, "s", xml);
    assert_said(world, "no tag: snapshot 's' of vda: '");
    ck_assert(!world_try_revert(world, "web", "s", &error));
    expect_error(&error, EIO, "has no internal snapshot 's'");
    world_delete(world, "web", "s");
    assert_unsaid(world, "no tag");
}
END_TEST

/* --- what we still owe --- */

START_TEST(owed)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *a = world_path(world, "a.qcow2");
    g_autofree char *line = g_strdup_printf("owed: '%s' still has the internal snapshot 's1' (id 1, ", a);
    world_create(world, "web", "s1", NULL);
    if (_i)
        world_create(world, "web", "s2", BOTH_EXTERNAL); /* now it is a frozen file's */
    spy_fail(CALL_TAG_DELETE, "a.qcow2", EIO);
    world_delete(world, "web", "s1");
    assert_said(world, line);
    assert_tree(world, "unnamed", FALSE);
    spy_fail(0, NULL, 0);
    world_create(world, "web", "s3", NULL);
    assert_unsaid(world, "owed");
    world_check_clean(world, "web");
}
END_TEST

/* --- frozen files --- */

/* What is known of them stands in the store: they are not opened, only when that is missing or they are not frozen. */
START_TEST(frozen)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *a = world_path(world, "a.qcow2");
    g_autofree char *line = g_strdup_printf("unnamed: '%s' has the internal snapshot 'mine' (id 1, ", a);
    tool("qemu-img", "snapshot", "-c", "mine", a, NULL);
    world_create(world, "web", "s1", NULL);
    world_create(world, "web", "s2", BOTH_EXTERNAL);
    assert_tree(world, line, TRUE);
    g_autofree char *tree = world_tree(world, "web");
    spy_fail(CALL_INSPECT, "a.qcow2", EIO);
    world_reopen(world);
    g_autofree char *again = world_tree(world, "web");
    ck_assert_str_eq(again, tree);
    /* a store from before */
    world_close(world);
    g_autofree char *file = world_store_file(world, "domains/web/snapshots/s2.json");
    g_autofree char *text = NULL;
    ck_assert(g_file_get_contents(file, &text, NULL, NULL));
    g_autoptr(GString) old = g_string_new(text);
    ck_assert_uint_gt(g_string_replace(old, "\"tags\"", "\"unknown\"", 0), 0);
    ck_assert(g_file_set_contents(file, old->str, -1, NULL));
    world_open(world);
    assert_tree(world, "unreadable: '", TRUE); /* the spy's doing: it was opened */
    spy_fail(0, NULL, 0);
    world_reopen(world);
    assert_tree(world, line, TRUE);
    assert_tree(world, "unreadable", FALSE);
}
END_TEST

/* An image whose header is destroyed while nobody looks: said, and nothing else is hurt. */
START_TEST(unreadable)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *a = world_path(world, "a.qcow2");
    world_create(world, "web", "s1", NULL);
    world_close(world);
    int fd = open(a, O_WRONLY | O_CLOEXEC);
    ck_assert_int_eq((int)pwrite(fd, "XXXX", 4, 0), 4);
    close(fd);
    world_open(world);
    g_autofree char *line = g_strdup_printf("unreadable: '%s': ", a);
    assert_said(world, line);
    assert_tree(world, "no tag", FALSE); /* that is not known */
    world_delete(world, "web", "s1");
}
END_TEST

/* --- many, and malicious --- */

static void put_number(GByteArray *bytes, guint64 value, guint size)
{
    for (guint i = size; i > 0; i--) {
        guint8 byte = i > 8 ? 0 : (guint8)(value >> (8 * (i - 1)));
        g_byte_array_append(bytes, &byte, 1);
    }
}

/* A table of @n tags at the end of the qcow2 image @path; name_of gives their names (caller frees). */
static void add_tags(const char *path, guint n, char *(*name_of)(guint))
{
    g_autoptr(GByteArray) table = g_byte_array_new();
    for (guint i = 0; i < n; i++) {
        g_autofree char *name = name_of(i);
        g_autofree char *id = g_strdup_printf("%u", i + 1);
        put_number(table, 0x30000, 8); /* L1 table: never read here */
        put_number(table, 1, 4);
        put_number(table, strlen(id), 2);
        put_number(table, strlen(name), 2);
        put_number(table, 1000000000 + i, 4);
        put_number(table, 0, 4 + 8 + 4);
        put_number(table, 16, 4);
        put_number(table, 0, 8);
        put_number(table, 1024 * 1024, 8);
        g_byte_array_append(table, (const guint8 *)id, (guint)strlen(id));
        g_byte_array_append(table, (const guint8 *)name, (guint)strlen(name));
        put_number(table, 0, (8 - table->len % 8) % 8);
    }
    g_autoptr(GByteArray) header = g_byte_array_new();
    struct stat st;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert(fd >= 0 && fstat(fd, &st) == 0);
    guint64 at = ((guint64)st.st_size + 65535) / 65536 * 65536;
    put_number(header, n, 4);
    put_number(header, at, 8);
    ck_assert_int_eq((int)pwrite(fd, header->data, header->len, 60), 12);
    ck_assert_int_eq((int)pwrite(fd, table->data, table->len, (off_t)at), (int)table->len);
    close(fd);
}

static char *plain_name(guint i)
{
    return g_strdup_printf("tag %u", i);
}

START_TEST(thousands)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_autofree char *a = world_image(world, "a.qcow2", 1);
    add_tags(a, 5000, plain_name);
    world_define(world, "web", "a.qcow2", NULL);
    for (guint i = 0; i < 2; i++) {
        world_reopen(world);
        g_autofree char *tree = world_tree(world, "web");
        ck_assert_msg(strlen(tree) < 16 * 1024, "%zu bytes", strlen(tree));
        assert_tree(world, "internal snapshot 'tag 0' (id 1, 2001-09-0", TRUE);
        assert_tree(world, "unnamed: 4960 more\n", TRUE);
        g_autofree char *log = world_log(world, "web");
        ck_assert_msg(strlen(log) < 48 * 1024, "%zu bytes", strlen(log));
        ck_assert_ptr_nonnull(strstr(log, "unnamed: 4960 more\n"));
    }
    /* an operation tells no old news */
    g_autofree char *before = world_log(world, "web");
    world_create(world, "web", "s1", "vda,snapshot=external");
    g_autofree char *after = world_log(world, "web");
    ck_assert_ptr_null(strstr(after + strlen(before), "unnamed"));
    assert_tree(world, "unnamed: 4960 more\n", TRUE);
}
END_TEST

static char *evil_name(guint i)
{
    static const char *const names[] = {"line\nbreak", "\xff\xfe", "\x1b[2J",    "",
                                        "quo'te",      "../..",    "caf\xc3\xa9"};
    return i < G_N_ELEMENTS(names) ? g_strdup(names[i]) : g_strnfill(60000, 'x');
}

START_TEST(evil)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_autofree char *a = world_image(world, "a.qcow2", 1);
    add_tags(a, 8, evil_name);
    world_define(world, "web", "a.qcow2", NULL);
    for (guint i = 0; i < 3; i++) {
        g_autofree char *tree = world_tree(world, "web");
        g_auto(GStrv) lines = g_strsplit(tree, "\n", -1);
        guint told = 0;
        ck_assert(g_utf8_validate(tree, -1, NULL));
        for (guint k = 0; lines[k]; k++)
            told += g_str_has_prefix(lines[k], "unnamed: '");
        ck_assert_uint_eq(told, 8);
        ck_assert_msg(strlen(tree) < 4096, "%s", tree);
        assert_tree(world, "'line?break' (id 1, ", TRUE);
        assert_tree(world, "'?[2J'", TRUE);
        assert_tree(world, "'caf\xc3\xa9'", TRUE);
        if (i == 0) /* into the store, and out of it */
            world_create(world, "web", "s1", "vda,snapshot=external");
        else
            world_reopen(world);
    }
    spy_fail(CALL_INSPECT, "a.qcow2", EIO);
    world_reopen(world);
    spy_fail(0, NULL, 0);
    assert_tree(world, "'line?break' (id 1, ", TRUE);
    assert_tree(world, "unreadable", FALSE);
}
END_TEST

/* Thousands of images that are not there are counted, too. */
START_TEST(missing)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_autoptr(GString) disks = g_string_new(NULL);
    for (guint i = 0; i < 300; i++)
        g_string_append_printf(disks, "<disk><source file='/nowhere/%03u'/><target dev='vd%u'/></disk>", i,
                               i);
    g_autofree char *xml = domain_document("web", disks->str);
    world_assert_define_taken(world, xml);
    assert_tree(world, "missing: /nowhere/000\nmissing: /nowhere/001\n", TRUE);
    assert_tree(world, "missing: 260 more\n", TRUE);
    g_autofree char *log = world_log(world, "web");
    ck_assert_ptr_nonnull(strstr(log, "missing images: 260 more\n"));
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("strays");
    TCase *tcase = scratch_case(suite, "strays");
    tcase_add_loop_test(tcase, unnamed, 0, 2);
    tcase_add_test(tcase, kept_for_undo);
    tcase_add_test(tcase, brought_along);
    tcase_add_test(tcase, defined);
    tcase_add_loop_test(tcase, released, 0, 2);
    tcase_add_test(tcase, lost);
    tcase_add_test(tcase, twice);
    tcase_add_test(tcase, raw);
    tcase_add_loop_test(tcase, owed, 0, 2);
    tcase_add_test(tcase, frozen);
    tcase_add_test(tcase, unreadable);
    tcase_add_test(tcase, thousands);
    tcase_add_test(tcase, evil);
    tcase_add_test(tcase, missing);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
