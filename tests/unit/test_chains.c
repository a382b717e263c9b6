/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the images of a definition may be, and what may lie below them: hostile until shown otherwise. */
#include "engine_world.h"
#include "runner.h"

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
    g_autofree char *xml = one_disk_document(world, "web", "qcow2", "top.qcow2", "");
    world_assert_define_taken(world, xml);
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
    g_autofree char *plain = one_disk_document(world, "web", "qcow2", "top.qcow2", "");
    world_assert_define_refused(
        world, plain, EPERM,
        "name it in <backingStore>, move it next to the image, or mount with -o backing=");
    g_autofree char *element =
        g_strdup_printf("<backingStore type='file'><format type='qcow2'/><source file='%s'/>"
                        "<backingStore/></backingStore>",
                        base);
    g_autofree char *named = one_disk_document(world, "web", "qcow2", "top.qcow2", element);
    world_assert_define_taken(world, named);
    g_autofree char *wrong =
        g_strdup_printf("<backingStore type='file'><format type='qcow2'/><source file='%s.other'/>"
                        "<backingStore/></backingStore>",
                        base);
    g_autofree char *misnamed = one_disk_document(world, "two", "qcow2", "top.qcow2", wrong);
    world_assert_define_refused(world, misnamed, EPERM, "in another directory");
    char *dirs[] = {dir, NULL};
    world_close(world);
    world->options.backing_dirs = dirs;
    world_open(world);
    g_autofree char *allowed = one_disk_document(world, "three", "qcow2", "top.qcow2", "");
    world_assert_define_taken(world, allowed);
    g_autoptr(GError) error = NULL;
    ASSERT_OK(world->engine->ops->undefine(world->engine, world_domain(world, "three"), FALSE, NULL, &error),
              error);
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
        {"json:{\"driver\":\"raw\",\"file.filename\":\"/etc/shadow\"}", "raw", EPERM,
         "only plain files are taken"},
        {"nbd://localhost/x", "raw", EPERM, "only plain files"},
        {"/etc/passwd", "raw", EPERM, "in another directory"},
        {"../../../../etc/passwd", "raw", EPERM, "in another directory"},
        {"./bad.qcow2", "qcow2", ELOOP, "is a loop"},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *path = world_path(world, "bad.qcow2");
        overlay(world, "bad.qcow2", "./base.qcow2", "qcow2");
        tool("qemu-img", "rebase", "-q", "-u", "-f", "qcow2", "-b", bad[i].base, "-F", bad[i].format, path,
             NULL);
        g_autofree char *xml = one_disk_document(world, "web", "qcow2", "bad.qcow2", "");
        world_assert_define_refused(world, xml, bad[i].code, bad[i].text);
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
    g_autofree char *plain = one_disk_document(world, "web", "qcow2", "top.qcow2", "");
    world_assert_define_refused(world, plain, EINVAL, "does not say which format its backing file");
    g_autofree char *element =
        g_strdup_printf("<backingStore type='file'><format type='qcow2'/><source file='%s'/>"
                        "<backingStore/></backingStore>",
                        base);
    g_autofree char *named = one_disk_document(world, "web", "qcow2", "top.qcow2", element);
    world_assert_define_taken(world, named);
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
    g_autofree char *as_raw = one_disk_document(world, "x", "raw", "a.qcow2", "");
    g_autofree char *as_qcow2 = one_disk_document(world, "x", "qcow2", "r.img", "");
    g_autofree char *data_file = one_disk_document(world, "x", "qcow2", "split.qcow2", "");
    world_assert_define_refused(world, as_raw, EINVAL, "declared as raw but is a qcow2 image");
    world_assert_define_refused(world, as_qcow2, EINVAL, "disk 'vda'");
    world_assert_define_refused(world, data_file, EOPNOTSUPP, "keeps its data in another file");
    g_autofree char *directory = one_disk_document(world, "x", "raw", ".", "");
    g_autofree char *fifo_path = world_path(world, "fifo");
    ck_assert_int_eq(mkfifo(fifo_path, 0600), 0);
    g_autofree char *fifo = one_disk_document(world, "x", "raw", "fifo", "");
    world_assert_define_refused(world, directory, EINVAL, "neither a regular file nor a block device");
    world_assert_define_refused(world, fifo, EINVAL, "neither a regular file nor a block device");
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
    g_autofree char *xml = one_disk_document(world, "web", "qcow2", "good/a.qcow2", "");
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
    g_autofree char *direct = one_disk_document(world, "web", "qcow2", "mnt/a.qcow2", "");
    g_autofree char *dotted = one_disk_document(world, "web", "qcow2", "../img/./mnt/a.qcow2", "");
    g_autofree char *linked = one_disk_document(world, "web", "qcow2", "link/a.qcow2", "");
    world_assert_define_refused(world, direct, EINVAL, "lies in this mount itself");
    world_assert_define_refused(world, dotted, EINVAL, "lies in this mount itself");
    world_assert_define_refused(world, linked, EINVAL, "lies in this mount itself");
    world_define(world, "web", "mnt2", NULL);
    g_autofree char *spec = g_strdup_printf("vda,file=%s/x", mount);
    g_autoptr(GError) error = NULL;
    ck_assert(!world_try_create(world, "web", "s1", spec, &error));
    expect_error(&error, EINVAL, "lies in this mount itself");
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("chains");
    TCase *tcase = scratch_case(suite, "chains");
    tcase_add_test(tcase, own_directory);
    tcase_add_test(tcase, other_directory);
    tcase_add_test(tcase, hostile_chains);
    tcase_add_test(tcase, unnamed_format);
    tcase_add_test(tcase, strange_images);
    tcase_add_test(tcase, symlinks);
    tcase_add_test(tcase, not_utf8);
    tcase_add_test(tcase, inside_the_mount);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
