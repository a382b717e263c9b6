/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Domains come, change, get another name and go; what an image chain may look like. */
#include "engine_world.h"
#include "fedora_xml.h"
#include "runner.h"

static char *one_disk(World *world, const char *name, const char *format, const char *file, const char *inside)
{
    g_autofree char *path = world_path(world, file);
    g_autofree char *disk = disk_element("vda", format, path, "", inside);
    return domain_document(name, disk);
}

static void assert_refused(World *world, const char *xml, int code, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *before = world_names(world, NULL);
    ck_assert_msg(!world_try_define(world, xml, &error), "was taken: %s", xml);
    expect_error(&error, code, text);
    g_autofree char *after = world_names(world, NULL);
    ck_assert_str_eq(after, before);
}

static void assert_taken(World *world, const char *xml)
{
    g_autoptr(GError) error = NULL;
    ASSERT_OK(world_try_define(world, xml, &error), error);
}

/* --- define, redefine, undefine, rename --- */

START_TEST(a_real_machine)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_autofree char *document = fedora_document();
    assert_taken(world, document); /* its images are not there: as with virsh */
    g_autofree char *text = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "fedora"));
    ck_assert_str_eq(text, document);
    guint64 size;
    gint64 when;
    ck_assert(world->engine->ops->text_size(world->engine, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "fedora"), &size,
                                            &when));
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
    g_autofree char *other = one_disk(world, "other", "qcow2", "c.qcow2", "");
    g_autoptr(GString) same_name = g_string_new(other);
    g_autoptr(GString) same_uuid = g_string_new(web);
    g_string_replace(same_name, "<name>other<", "<name>web<", 0);
    g_string_replace(same_uuid, "<name>web<", "<name>other<", 0);
    assert_refused(world, same_name->str, EEXIST, "domain 'web' exists already with the uuid '");
    assert_refused(world, same_uuid->str, EEXIST, "is that of the domain 'web'");
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
        {"<!DOCTYPE domain [<!ENTITY e 'x'>]><domain type='kvm'><name>&e;</name></domain>", EINVAL, "DOCTYPE"},
        {"<domain type='kvm'><os><type>hvm</type></os></domain>", EINVAL, "name"},
        {"<domain type='kvm'><name>.hidden</name><os><type>hvm</type></os></domain>", EPERM, NULL},
        {"<domain type='kvm'><name>jobs</name><os><type>hvm</type></os></domain>", EPERM, NULL},
        {"<domain type='kvm'><name>a/b</name><os><type>hvm</type></os></domain>", EINVAL, "'/'"},
        {"<domain type='kvm'><name>x</name><uuid>5</uuid><os><type>hvm</type></os></domain>", EINVAL, "uuid"},
    };
    g_autoptr(World) world = world_web(PATH("world"));
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++)
        assert_refused(world, bad[i].xml, bad[i].code, bad[i].text);
    g_autofree char *much = g_strnfill(1024 * 1024, ' ');
    g_autofree char *long_document = g_strconcat("<domain type='kvm'><name>x</name>", much, "</domain>", NULL);
    assert_refused(world, long_document, E2BIG, NULL);
    g_autofree char *vmdk = one_disk(world, "x", "vmdk", "a.qcow2", "");
    assert_refused(world, vmdk, EOPNOTSUPP, "vda");
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
    gboolean gone = world->engine->ops->undefine(world->engine, world_domain(world, "web"), FALSE, NULL, &error);
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
    } bad[] = {{"taken", EEXIST}, {"web", EEXIST}, {".x", EPERM}, {"ctl", EPERM}, {"a/b", EPERM}, {"", EINVAL}};
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
    g_autofree char *other = one_disk(world, "another", "qcow2", "c.qcow2", "");
    g_autoptr(GString) old_name = g_string_new(other);
    g_string_replace(old_name, "<name>another<", "<name>web<", 0);
    assert_taken(world, old_name->str); /* the old name is free */
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
    } bad[] = {{"s1", EEXIST}, {"s2", EEXIST}, {".x", EPERM}, {"log", EPERM}, {"a/b", EPERM}, {"a\nb", EILSEQ}};
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
    g_autofree char *c = one_disk(world, "web", "qcow2", "c.qcow2", "");
    assert_taken(world, c);
    ck_assert_uint_eq(world_domain(world, "web"), id);
    g_autoptr(GPtrArray) disks = world->engine->ops->disks(world->engine, id);
    ck_assert_uint_eq(disks->len, 1);
    g_autofree char *s1_now = world_text(world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(world, "web", "s1"));
    ck_assert_str_eq(s1_now, s1);
    g_autofree char *wrong = one_disk(world, "web", "raw", "c.qcow2", "");
    g_autofree char *before = world_digest(world, "web");
    assert_refused(world, wrong, EINVAL, "disk 'vda': ");
    g_autofree char *after = world_digest(world, "web");
    ck_assert_str_eq(after, before);
    g_autofree char *then = world_hash(world, "web", "s1", "vda");
    g_autofree char *expected = pattern_hash(1, 1);
    ck_assert_str_eq(then, expected);
}
END_TEST

/* --- chains --- */

static void overlay(World *world, const char *file, const char *base, const char *format)
{
    g_autofree char *path = world_path(world, file);
    tool("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", base, "-F", format, path, "1M", NULL);
}

START_TEST(own_directory)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_free(world_raw(world, "base.img", 1));
    overlay(world, "middle.qcow2", "./base.img", "raw");
    overlay(world, "top.qcow2", "middle.qcow2", "qcow2");
    g_autofree char *xml = one_disk(world, "web", "qcow2", "top.qcow2", "");
    assert_taken(world, xml);
    EngineId id = world_domain(world, "web");
    const EngineOps *ops = world->engine->ops;
    ck_assert_uint_ne(ops->chain_file(world->engine, id, "base.img"), 0);
    ck_assert_uint_ne(ops->chain_file(world->engine, id, "middle.qcow2"), 0);
    ck_assert_uint_eq(ops->chain_file(world->engine, id, "other.qcow2"), 0);
    world_create(world, "web", "s1", NULL);
    world_create(world, "web", "s2", "vda,snapshot=external");
    ck_assert_uint_ne(ops->chain_file(world->engine, world_snapshot(world, "web", "s2"), "base.img"), 0);
    ck_assert_uint_ne(ops->chain_file(world->engine, id, "top.qcow2"), 0);
    ck_assert_uint_eq(ops->chain_file(world->engine, world_snapshot(world, "web", "s2"), "top.s2"), 0);
}
END_TEST

/* Below a disk only what its directory, the definition or the mount allows; the refusal says which of these to do. */
START_TEST(other_directory)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_autofree char *dir = world_path(world, "templates");
    ck_assert_int_eq(mkdir(dir, 0755), 0);
    g_autofree char *base = world_image(world, "templates/base.qcow2", 1);
    overlay(world, "top.qcow2", "templates/base.qcow2", "qcow2");
    g_autofree char *plain = one_disk(world, "web", "qcow2", "top.qcow2", "");
    assert_refused(world, plain, EPERM, "name it in <backingStore>, move it next to the image, or mount with -o backing=");
    g_autofree char *element = g_strdup_printf("<backingStore type='file'><format type='qcow2'/><source file='%s'/>"
                                               "<backingStore/></backingStore>", base);
    g_autofree char *named = one_disk(world, "web", "qcow2", "top.qcow2", element);
    assert_taken(world, named);
    g_autofree char *wrong = g_strdup_printf("<backingStore type='file'><format type='qcow2'/><source file='%s.other'/>"
                                             "<backingStore/></backingStore>", base);
    g_autofree char *misnamed = one_disk(world, "two", "qcow2", "top.qcow2", wrong);
    assert_refused(world, misnamed, EPERM, "in another directory");
    char *dirs[] = {dir, NULL};
    world_close(world);
    world->options.backing_dirs = dirs;
    world_open(world);
    g_autofree char *allowed = one_disk(world, "three", "qcow2", "top.qcow2", "");
    assert_taken(world, allowed);
    g_autoptr(GError) error = NULL;
    ASSERT_OK(world->engine->ops->undefine(world->engine, world_domain(world, "three"), FALSE, NULL, &error), error);
    world_create(world, "web", "s1", NULL);
}
END_TEST

START_TEST(hostile_chains)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_free(world_image(world, "base.qcow2", 1));
    static const struct {
        const char *base, *format;
        int code;
        const char *text;
    } bad[] = {
        {"json:{\"driver\":\"raw\",\"file.filename\":\"/etc/shadow\"}", "raw", EPERM, "only plain files are taken"},
        {"nbd://localhost/x", "raw", EPERM, "only plain files"},
        {"/etc/passwd", "raw", EPERM, "in another directory"},
        {"../../../../etc/passwd", "raw", EPERM, "in another directory"},
        {"./bad.qcow2", "qcow2", ELOOP, "is a loop"},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *path = world_path(world, "bad.qcow2");
        overlay(world, "bad.qcow2", "./base.qcow2", "qcow2");
        tool("qemu-img", "rebase", "-q", "-u", "-f", "qcow2", "-b", bad[i].base, "-F", bad[i].format, path, NULL);
        g_autofree char *xml = one_disk(world, "web", "qcow2", "bad.qcow2", "");
        assert_refused(world, xml, bad[i].code, bad[i].text);
        ck_assert_int_eq(unlink(path), 0);
    }
}
END_TEST

/* The header's "backing format" extension, made into one that nobody knows. */
static void forget_format(const char *path)
{
    static const char extension[] = {(char)0xE2, 0x79, 0x2A, (char)0xCA};
    g_autofree char *data = NULL;
    gsize len;
    ck_assert(g_file_get_contents(path, &data, &len, NULL));
    char *at = memmem(data, 4096, extension, 4);
    ck_assert_ptr_nonnull(at);
    at[0] = 0x11;
    ck_assert(g_file_set_contents(path, data, (gssize)len, NULL));
}

START_TEST(unnamed_format)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_autofree char *base = world_image(world, "base.qcow2", 1);
    g_autofree char *path = world_path(world, "top.qcow2");
    overlay(world, "top.qcow2", "./base.qcow2", "qcow2");
    forget_format(path);
    g_autofree char *plain = one_disk(world, "web", "qcow2", "top.qcow2", "");
    assert_refused(world, plain, EINVAL, "does not say which format its backing file");
    g_autofree char *element = g_strdup_printf("<backingStore type='file'><format type='qcow2'/><source file='%s'/>"
                                               "<backingStore/></backingStore>", base);
    g_autofree char *named = one_disk(world, "web", "qcow2", "top.qcow2", element);
    assert_taken(world, named);
    world_create(world, "web", "s1", NULL);
    world_revert(world, "web", "s1");
}
END_TEST

START_TEST(strange_images)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_free(world_image(world, "a.qcow2", 1));
    g_free(world_raw(world, "r.img", 2));
    g_autofree char *data = world_path(world, "data.raw");
    g_autofree char *option = g_strdup_printf("data_file=%s", data);
    g_autofree char *split = world_path(world, "split.qcow2");
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", option, split, "1M", NULL);
    g_autofree char *as_raw = one_disk(world, "x", "raw", "a.qcow2", "");
    g_autofree char *as_qcow2 = one_disk(world, "x", "qcow2", "r.img", "");
    g_autofree char *data_file = one_disk(world, "x", "qcow2", "split.qcow2", "");
    assert_refused(world, as_raw, EINVAL, "declared as raw but is a qcow2 image");
    assert_refused(world, as_qcow2, EINVAL, "disk 'vda'");
    assert_refused(world, data_file, EOPNOTSUPP, "keeps its data in another file");
    g_autofree char *directory = one_disk(world, "x", "raw", ".", "");
    g_autofree char *fifo_path = world_path(world, "fifo");
    ck_assert_int_eq(mkfifo(fifo_path, 0600), 0);
    g_autofree char *fifo = one_disk(world, "x", "raw", "fifo", "");
    assert_refused(world, directory, EINVAL, "neither a regular file nor a block device");
    assert_refused(world, fifo, EINVAL, "neither a regular file nor a block device");
}
END_TEST

/* Symlinks are resolved at define; where they lead later changes nothing. */
START_TEST(symlinks)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_autofree char *a = world_image(world, "a.qcow2", 1);
    g_free(world_image(world, "b.qcow2", 2));
    g_autofree char *link = world_path(world, "link");
    ck_assert_int_eq(symlink("a.qcow2", link), 0);
    world_define(world, "web", "link", NULL);
    g_autofree char *layer = world_layer(world, "web", NULL, "vda", NULL);
    ck_assert_str_eq(layer, a);
    ck_assert_int_eq(unlink(link), 0);
    ck_assert_int_eq(symlink("b.qcow2", link), 0);
    world_create(world, "web", "s1", NULL);
    g_autofree char *hash = world_hash(world, "web", "s1", "vda");
    g_autofree char *expected = pattern_hash(1, 1);
    ck_assert_str_eq(hash, expected);
}
END_TEST

/* A path whose bytes no document could hold. */
START_TEST(not_utf8)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_autofree char *dir = world_path(world, "bad\xff");
    g_autofree char *link = world_path(world, "good");
    ck_assert_int_eq(mkdir(dir, 0755), 0);
    ck_assert_int_eq(symlink("bad\xff", link), 0);
    g_free(world_image(world, "good/a.qcow2", 1));
    g_autofree char *xml = one_disk(world, "web", "qcow2", "good/a.qcow2", "");
    g_autoptr(GError) error = NULL;
    ck_assert(!world_try_define(world, xml, &error));
    ck_assert(error->code == EILSEQ || error->code == EINVAL);
    world_reopen(world);
}
END_TEST

START_TEST(inside_the_mount)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_autofree char *mount = world_path(world, "mnt");
    g_autofree char *link = world_path(world, "link");
    ck_assert_int_eq(mkdir(mount, 0755), 0);
    ck_assert_int_eq(symlink("mnt", link), 0);
    g_free(world_image(world, "mnt/a.qcow2", 1));
    g_free(world_image(world, "mnt2", 1));
    world_close(world);
    world->options.mountpoint = mount;
    world_open(world);
    g_autofree char *direct = one_disk(world, "web", "qcow2", "mnt/a.qcow2", "");
    g_autofree char *dotted = one_disk(world, "web", "qcow2", "../img/./mnt/a.qcow2", "");
    g_autofree char *linked = one_disk(world, "web", "qcow2", "link/a.qcow2", "");
    assert_refused(world, direct, EINVAL, "lies in this mount itself");
    assert_refused(world, dotted, EINVAL, "lies in this mount itself");
    assert_refused(world, linked, EINVAL, "lies in this mount itself");
    world_define(world, "web", "mnt2", NULL);
    g_autofree char *spec = g_strdup_printf("vda,file=%s/x", mount);
    g_autoptr(GError) error = NULL;
    ck_assert(!world_try_create(world, "web", "s1", spec, &error));
    expect_error(&error, EINVAL, "lies in this mount itself");
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
    tcase_add_test(tcase, rename_snapshot);
    tcase_add_test(tcase, redefine);
    TCase *chains = scratch_case(suite, "chains");
    tcase_add_test(chains, own_directory);
    tcase_add_test(chains, other_directory);
    tcase_add_test(chains, hostile_chains);
    tcase_add_test(chains, unnamed_format);
    tcase_add_test(chains, strange_images);
    tcase_add_test(chains, symlinks);
    tcase_add_test(chains, not_utf8);
    tcase_add_test(chains, inside_the_mount);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
