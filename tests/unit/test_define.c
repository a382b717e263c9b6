/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Domains come, change, get another name and go. (Their images: test_chains.) */
#include "engine_world.h"
#include "fedora_xml.h"
#include "runner.h"

/* --- define, redefine, undefine, rename --- */

START_TEST(a_real_machine)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_autofree char *document = fedora_document();
    world_assert_define_taken(world, document); /* its images are not there: as with virsh */
    g_autofree char *text = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "fedora"));
    ck_assert_str_eq(text, document);
    guint64 size;
    gint64 when;
    ck_assert(world->engine->ops->text_size(world->engine, ENGINE_TEXT_DOMAIN_XML,
                                            world_domain(world, "fedora"), &size, &when));
    ck_assert_uint_eq(size, strlen(document));
    g_autofree char *log = world_log(world, "fedora");
    ck_assert_ptr_nonnull(strstr(log, "missing image: '/var/lib/libvirt/images/fedora.clean'"));
    g_autofree char *file = world_store_file(world, "domains/fedora/domain.xml");
    g_autofree char *store = g_strdup(world->options.store);
    ck_assert_uint_eq(file_mode(file), 0600);
    ck_assert_uint_eq(file_mode(store), 0700);
    world_reopen(world);
    g_autofree char *again = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "fedora"));
    ck_assert_str_eq(again, document);
}
END_TEST

START_TEST(clashes)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_free(world_image(world, "c.qcow2", 3));
    g_autofree char *web = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "web"));
    g_autofree char *other = one_disk_document(world, "other", "qcow2", "c.qcow2", "");
    g_autoptr(GString) same_name = g_string_new(other);
    g_autoptr(GString) same_uuid = g_string_new(web);
    g_string_replace(same_name, "<name>other<", "<name>web<", 0);
    g_string_replace(same_uuid, "<name>web<", "<name>other<", 0);
    world_assert_define_refused(world, same_name->str, EEXIST, "domain 'web' exists already with the uuid '");
    world_assert_define_refused(world, same_uuid->str, EEXIST, "is that of the domain 'web'");
    const EngineOps *ops = world->engine->ops;
    EngineId id = world_domain(world, "web");
    /* written into the domain's own file */
    ck_assert(!ops->define(world->engine, id, same_name->str, same_name->len, NULL, NULL, &error));
    expect_error(&error, EINVAL, "is not this domain's");
    ck_assert(!ops->define(world->engine, id, same_uuid->str, same_uuid->len, NULL, NULL, &error));
    expect_error(&error, EINVAL, "the name is changed with mv");
    EngineId same = 0;
    ASSERT_OK(ops->define(world->engine, id, web, strlen(web), NULL, &same, &error), error);
    ck_assert_uint_eq(same, id);
}
END_TEST

START_TEST(bad_documents)
{
    static const struct {
        const char *xml;
        int code;
        const char *text;
    } bad[] = {
        {"", EINVAL, NULL},
        {"<domain", EINVAL, "ends before"},
        {"<domainsnapshot/>", EINVAL, NULL},
        {"<!DOCTYPE domain [<!ENTITY e 'x'>]><domain type='kvm'><name>&e;</name></domain>", EINVAL,
         "DOCTYPE"},
        {"<domain type='kvm'><os><type>hvm</type></os></domain>", EINVAL, "name"},
        {"<domain type='kvm'><name>.hidden</name><os><type>hvm</type></os></domain>", EPERM, NULL},
        {"<domain type='kvm'><name>jobs</name><os><type>hvm</type></os></domain>", EPERM, NULL},
        {"<domain type='kvm'><name>a/b</name><os><type>hvm</type></os></domain>", EINVAL, "'/'"},
        {"<domain type='kvm'><name>x</name><uuid>5</uuid><os><type>hvm</type></os></domain>", EINVAL, "uuid"},
    };
    g_autoptr(World) world = world_web(PATH("world"));
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++)
        world_assert_define_refused(world, bad[i].xml, bad[i].code, bad[i].text);
    g_autofree char *much = g_strnfill(1024 * 1024, ' ');
    g_autofree char *long_document =
        g_strconcat("<domain type='kvm'><name>x</name>", much, "</domain>", NULL);
    world_assert_define_refused(world, long_document, E2BIG, NULL);
    g_autofree char *vmdk = one_disk_document(world, "x", "vmdk", "a.qcow2", "");
    world_assert_define_refused(world, vmdk, EOPNOTSUPP, "vda");
}
END_TEST

START_TEST(undefine)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    const EngineOps *ops = world->engine->ops;
    EngineId id = world_domain(world, "web");
    g_autofree char *a = world_path(world, "a.qcow2");
    world_create(world, "web", "s1", NULL);
    world_create(world, "web", "s2", "vda,snapshot=external");
    ck_assert(!ops->undefine(world->engine, id, FALSE, NULL, &error));
    expect_error(&error, ENOTEMPTY, "it has 2 snapshots");
    Writer *writer = writer_begin(world, a);
    gboolean gone = ops->undefine(world->engine, id, TRUE, NULL, &error);
    writer_end(writer);
    ck_assert(gone || snap_errno(error) == EBUSY); /* the frozen layer is not what runs */
    g_clear_error(&error);
    g_autofree char *before = file_hash(a);
    if (!gone)
        ASSERT_OK(ops->undefine(world->engine, id, TRUE, NULL, &error), error);
    ck_assert_uint_eq(world_domain(world, "web"), 0);
    g_autofree char *after = file_hash(a);
    g_autofree char *log = world_log(world, NULL);
    g_autofree char *dir = world_store_file(world, "domains/web");
    ck_assert_str_eq(after, before);
    ck_assert_ptr_nonnull(strstr(log, "undefine 'web'"));
    ck_assert_int_lt(access(dir, F_OK), 0);
    ck_assert(!ops->undefine(world->engine, id, FALSE, NULL, &error));
    expect_error(&error, ENOENT, NULL);
    EngineLook look;
    ck_assert(!ops->look(world->engine, id, &look));
    /* defined again, it is another one */
    world_define(world, "web", "b.qcow2", NULL);
    ck_assert_uint_ne(world_domain(world, "web"), id);
    g_autofree char *names = world_names(world, "web");
    ck_assert_str_eq(names, "");
}
END_TEST

START_TEST(undefine_running)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *a = world_path(world, "a.qcow2");
    Writer *writer = writer_begin(world, a);
    gboolean gone =
        world->engine->ops->undefine(world->engine, world_domain(world, "web"), FALSE, NULL, &error);
    gboolean renamed = world_try_rename(world, "web", NULL, "other", NULL);
    g_autofree char *xml = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "web"));
    gboolean changed = world_try_define(world, xml, NULL);
    writer_end(writer);
    ck_assert(!gone && !renamed && !changed);
    expect_error(&error, EBUSY, "domain is running");
    ck_assert_uint_ne(world_domain(world, "web"), 0);
}
END_TEST

START_TEST(rename_domain)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    world_create(world, "web", "s1", NULL);
    g_free(world_image(world, "c.qcow2", 3));
    world_define(world, "taken", "c.qcow2", NULL);
    EngineId id = world_domain(world, "web"), snapshot = world_snapshot(world, "web", "s1");
    static const struct {
        const char *to;
        int code;
    } bad[] = {{"taken", EEXIST}, {"web", EEXIST}, {".x", EPERM},
               {"ctl", EPERM},    {"a/b", EPERM},  {"", EINVAL}};
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        ck_assert_msg(!world_try_rename(world, "web", NULL, bad[i].to, &error), "'%s' was taken", bad[i].to);
        expect_error(&error, bad[i].code, NULL);
    }
    ASSERT_OK(world_try_rename(world, "web", NULL, "new name", &error), error);
    ck_assert_uint_eq(world_domain(world, "new name"), id);
    ck_assert_uint_eq(world_domain(world, "web"), 0);
    ck_assert_uint_eq(world_snapshot(world, "new name", "s1"), snapshot);
    g_autofree char *xml = world_text(world, ENGINE_TEXT_DOMAIN_XML, id);
    ck_assert_ptr_nonnull(strstr(xml, "<name>new name</name>"));
    world_reopen(world);
    g_autofree char *names = world_names(world, NULL);
    ck_assert_str_eq(names, "new name taken");
    world_revert(world, "new name", "s1");
    g_autofree char *other = one_disk_document(world, "another", "qcow2", "c.qcow2", "");
    g_autoptr(GString) old_name = g_string_new(other);
    g_string_replace(old_name, "<name>another<", "<name>web<", 0);
    world_assert_define_taken(world, old_name->str); /* the old name is free */
}
END_TEST

/* A document that only just fits cannot be written under a longer name: then nothing happens at all. */
START_TEST(rename_too_long)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *small = domain_document("web", "");
    g_autofree char *filler = g_strnfill(XML_MAX_BYTES - strlen(small) - strlen("  <title></title>\n"), 'x');
    const char *at = strstr(small, "  <devices");
    g_autofree char *xml =
        g_strdup_printf("%.*s  <title>%s</title>\n%s", (int)(at - small), small, filler, at);
    world_assert_define_taken(world, xml);
    ck_assert(!world_try_rename(world, "web", NULL, "webs", &error));
    expect_error(&error, E2BIG, "longer than");
    ck_assert(world_try_rename(world, "web", NULL, "w", NULL));
    world_reopen(world);
    g_autofree char *names = world_names(world, NULL);
    ck_assert_str_eq(names, "w");
    world_check_clean(world, "w");
}
END_TEST

START_TEST(rename_snapshot)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    world_create(world, "web", "s1", NULL);
    world_create(world, "web", "s2", "vda,snapshot=external vdb,snapshot=external");
    world_create(world, "web", "s3", NULL);
    static const struct {
        const char *to;
        int code;
    } bad[] = {{"s1", EEXIST}, {"s2", EEXIST}, {".x", EPERM},
               {"log", EPERM}, {"a/b", EPERM}, {"a\nb", EILSEQ}};
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        ck_assert(!world_try_rename(world, "web", "s2", bad[i].to, &error));
        expect_error(&error, bad[i].code, NULL);
    }
    EngineId id = world_snapshot(world, "web", "s2");
    g_autofree char *hash = world_hash(world, "web", "s2", "vda");
    ASSERT_OK(world_try_rename(world, "web", "s2", "50%", &error), error);
    ck_assert_uint_eq(world_snapshot(world, "web", "50%"), id);
    ASSERT_OK(world_try_rename(world, "web", "s3", "top", &error), error);
    for (guint i = 0; i < 2; i++, world_reopen(world)) {
        g_autofree char *parent = world_parent(world, "web", "top");
        g_autofree char *current = world_current(world, "web");
        g_autofree char *now = world_hash(world, "web", "50%", "vda");
        ck_assert_str_eq(parent, "50%");
        ck_assert_str_eq(current, "top");
        ck_assert_str_eq(now, hash);
        world_check_clean(world, "web");
    }
    world_revert(world, "web", "50%");
    world_revert(world, "web", "top");
    ck_assert(!world->engine->ops->rename(world->engine, 77, "x", NULL, &error));
    expect_error(&error, ENOENT, NULL);
}
END_TEST

/* Snapshots keep their own copy; a changed definition drops and takes disks, and looks at what it takes. */
START_TEST(redefine)
{
    g_autoptr(World) world = world_web(PATH("world"));
    world_create(world, "web", "s1", NULL);
    g_autofree char *s1 = world_text(world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(world, "web", "s1"));
    g_free(world_image(world, "c.qcow2", 3));
    EngineId id = world_domain(world, "web");
    g_autofree char *c = one_disk_document(world, "web", "qcow2", "c.qcow2", "");
    world_assert_define_taken(world, c);
    ck_assert_uint_eq(world_domain(world, "web"), id);
    g_autoptr(GPtrArray) disks = world->engine->ops->disks(world->engine, id);
    ck_assert_uint_eq(disks->len, 1);
    g_autofree char *s1_now = world_text(world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(world, "web", "s1"));
    ck_assert_str_eq(s1_now, s1);
    g_autofree char *wrong = one_disk_document(world, "web", "raw", "c.qcow2", "");
    g_autofree char *before = world_digest(world, "web");
    world_assert_define_refused(world, wrong, EINVAL, "disk 'vda': ");
    g_autofree char *after = world_digest(world, "web");
    ck_assert_str_eq(after, before);
    g_autofree char *then = world_hash(world, "web", "s1", "vda");
    g_autofree char *expected = pattern_hash(1, 1);
    ck_assert_str_eq(then, expected);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("define");
    TCase *tcase = scratch_case(suite, "define");
    tcase_add_test(tcase, a_real_machine);
    tcase_add_test(tcase, clashes);
    tcase_add_test(tcase, bad_documents);
    tcase_add_test(tcase, undefine);
    tcase_add_test(tcase, undefine_running);
    tcase_add_test(tcase, rename_domain);
    tcase_add_test(tcase, rename_too_long);
    tcase_add_test(tcase, rename_snapshot);
    tcase_add_test(tcase, redefine);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
