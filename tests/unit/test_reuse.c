/* SPDX-License-Identifier: GPL-2.0-or-later */
/* create --reuse-external: an overlay that somebody made is used as it is, or refused for what is wrong with it. */
#include "engine_world.h"
#include "runner.h"

static gboolean reuse(World *world, const char *name, const char *specs, GError **error)
{
    g_autoptr(CreateRequest) request = world_request(name, specs);
    request->reuse_external = TRUE;
    return world_try_request(world, "web", request, error);
}

static void overlay_on(const char *path, const char *below, const char *format)
{
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", below, "-F", format, path, NULL);
}

/* A path outside of img/: what lies there need not be a sound image. Caller frees. */
static char *outside(World *world, const char *file)
{
    return g_build_filename(world->dir, file, NULL);
}

static const Layer *known(World *world, const char *path)
{
    const Core *core = (Core *)world->engine;
    return domain_find_layer(g_hash_table_lookup(core->by_name, "web"), path);
}

static gboolean is_made(World *world, const char *path)
{
    const Layer *layer = known(world, path);
    ck_assert_msg(layer != NULL, "'%s' is not known", path);
    return layer->made;
}

START_TEST(used_as_it_is)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *a = world_path(world, "a.qcow2");
    g_autofree char *over = outside(world, "over"); /* in a directory that nothing else vouches for */
    g_autofree char *specs = g_strdup_printf("vda,file=%s vdb,snapshot=no", over);
    overlay_on(over, a, "qcow2");
    write_pattern(over, 77, "0 64k"); /* the user's own content in it stays */
    struct stat before, after;
    ck_assert_int_eq(stat(over, &before), 0);
    g_autofree char *bytes = file_hash(over);
    ASSERT_OK(reuse(world, "s1", specs, &error), error);
    ck_assert_int_eq(stat(over, &after), 0);
    ck_assert(before.st_ino == after.st_ino && before.st_mode == after.st_mode);
    g_autofree char *same = file_hash(over);
    ck_assert_str_eq(same, bytes);
    for (guint i = 0; i < 2; i++, world_reopen(world)) {
        g_autofree char *active = world_layer(world, "web", NULL, "vda", NULL);
        g_autofree char *xml =
            world_text(world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(world, "web", "s1"));
        ck_assert_str_eq(active, over);
        ck_assert_ptr_nonnull(strstr(xml, "/over'/>"));
        world_assert_hash(world, NULL, "vda", 77, 1);
        world_assert_hash(world, "s1", "vda", 1, 1);
        ck_assert_uint_eq(file_mode(a), 0444);
        ck_assert(!is_made(world, over)); /* never unlinked by us */
    }
    /* it is a layer like any other: the definition is written again, states are taken, gone back to and deleted */
    g_autofree char *definition = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "web"));
    ASSERT_OK(world_try_define(world, definition, &error), error);
    world_create(world, "web", "s2", "vda,snapshot=external vdb,snapshot=no");
    world_write(world, "web", "vda", 78);
    world_revert(world, "web", "s1");
    world_assert_hash(world, NULL, "vda", 1, 1);
    world_revert(world, "web", "s2");
    world_assert_hash(world, NULL, "vda", 77, 1);
    world_delete(world, "web", "s2");
    world_delete(world, "web", "s1");
    world_assert_hash(world, NULL, "vda", 77, 1);
    world_check_clean(world, "web");
}
END_TEST

/* Without a path: stem.NAME, without a suffix, must be there. */
START_TEST(generated_name)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *a = world_path(world, "a.qcow2");
    g_autofree char *b = world_path(world, "b.qcow2");
    g_autofree char *as = world_path(world, "a.s1");
    g_autofree char *bs = world_path(world, "b.s1");
    g_autofree char *suffixed = world_path(world, "b.s1-1");
    overlay_on(as, "./a.qcow2", "qcow2");
    overlay_on(suffixed, b, "qcow2");
    g_autofree char *before = world_digest(world, "web");
    ck_assert(!reuse(world, "s1", BOTH_EXTERNAL, &error));
    ck_assert_ptr_nonnull(strstr(error->message, bs));
    expect_error(&error, ENOENT, "disk 'vdb': ");
    g_autofree char *after = world_digest(world, "web");
    ck_assert_str_eq(after, before);
    overlay_on(bs, b, "qcow2");
    ASSERT_OK(reuse(world, "s1", BOTH_EXTERNAL, &error), error);
    g_autofree char *active = world_layer(world, "web", NULL, "vdb", NULL);
    ck_assert_str_eq(active, bs);
    /* the next generated name replaces the suffix, as after an overlay of our own */
    world_create(world, "web", "s2", BOTH_EXTERNAL);
    g_autofree char *next = world_layer(world, "web", NULL, "vda", NULL);
    g_autofree char *expected = world_path(world, "a.s2");
    ck_assert_str_eq(next, expected);
    world_assert_hash(world, "s2", "vda", 1, 1);
    world_check_clean(world, "web");
}
END_TEST

/* On a raw disk, and qed: its header can say no more of the backing file than "raw". */
START_TEST(other_formats)
{
    static const struct {
        const char *below, *over, *says; /* says: what the overlay's header is told */
        const char *why;                 /* NULL: taken */
    } cases[] = {
        {"raw", "qcow2", "raw", NULL},     {"raw", "qed", "raw", NULL},
        {"qcow2", "qed", "qcow2", NULL},   {"raw", "qcow2", "qcow2", "is of type qcow2, but it is raw"},
        {"raw", "qed", "qcow2", "is raw"}, {"qcow2", "qed", "raw", "of type raw, but it is qcow2"}};
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *name = g_strdup_printf("world%zu", i);
        g_autoptr(World) world = world_new(PATH(name));
        g_autoptr(GError) error = NULL;
        gboolean raw = strcmp(cases[i].below, "raw") == 0;
        g_autofree char *below = raw ? world_raw(world, "disk", 5) : world_image(world, "disk", 5);
        g_autofree char *over = outside(world, "over");
        g_autofree char *xml = one_disk_document(world, "web", cases[i].below, "disk", "");
        g_autofree char *specs = g_strdup_printf("vda,driver=%s,file=%s", cases[i].over, over);
        world_assert_define_taken(world, xml);
        tool("qemu-img", "create", "-q", "-u", "-f", cases[i].over, "-b", below, "-F", cases[i].says, over,
             "1M", NULL);
        gboolean taken = reuse(world, "s1", specs, &error);
        ck_assert_msg(taken == !cases[i].why, "%zu: %s", i, error ? error->message : "taken");
        if (!taken) {
            expect_error(&error, EINVAL, cases[i].why);
            ck_assert_uint_eq(file_mode(below), 0644);
            continue;
        }
        world_reopen(world);
        world_assert_hash(world, NULL, "vda", 5, 5);
        world_write(world, "web", "vda", 6);
        world_create(world, "web", "s2", NULL);
        world_revert(world, "web", "s1");
        world_assert_hash(world, NULL, "vda", 5, 5);
        world_revert(world, "web", "s2");
        world_assert_hash(world, NULL, "vda", 6, 5);
    }
}
END_TEST

/* --- what is wrong with it --- */

typedef struct {
    const char *name;
    void (*make)(World *world, const char *over, const char *a);
    int code;
    const char *text;
} Wrong;

static void make_nothing(World *world, const char *over, const char *a)
{
}

static void make_raw(World *world, const char *over, const char *a)
{
    tool("qemu-img", "create", "-q", "-f", "raw", over, "1M", NULL);
}

static void make_empty(World *world, const char *over, const char *a)
{
    ck_assert(g_file_set_contents(over, "", 0, NULL));
}

static void make_qed(World *world, const char *over, const char *a)
{
    tool("qemu-img", "create", "-q", "-f", "qed", "-b", a, "-F", "qcow2", over, NULL);
}

static void make_flat(World *world, const char *over, const char *a)
{
    tool("qemu-img", "create", "-q", "-f", "qcow2", over, "1M", NULL);
}

static void make_on_other(World *world, const char *over, const char *a)
{
    g_autofree char *b = world_path(world, "b.qcow2");
    overlay_on(over, b, "qcow2");
}

static void make_on_copy(World *world, const char *over, const char *a)
{
    g_autofree char *copy = outside(world, "copy.qcow2"); /* the same bytes in another file */
    tool("cp", a, copy, NULL);
    overlay_on(over, copy, "qcow2");
}

static void make_on_missing(World *world, const char *over, const char *a)
{
    tool("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", "/nowhere/x", "-F", "qcow2", over, "1M",
         NULL);
}

static void make_on_protocol(World *world, const char *over, const char *a)
{
    tool("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", "nbd://localhost/x", "-F", "raw", over, "1M",
         NULL);
}

static void make_other_format(World *world, const char *over, const char *a)
{
    tool("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", a, "-F", "raw", over, "1M", NULL);
}

static void make_larger(World *world, const char *over, const char *a)
{
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", a, "-F", "qcow2", over, "2M", NULL);
}

static void make_dirty(World *world, const char *over, const char *a)
{
    overlay_on(over, a, "qcow2");
    poke(over, 79, "\1", 1); /* the incompatible feature bit */
}

static void make_data_file(World *world, const char *over, const char *a)
{
    g_autofree char *data = outside(world, "data");
    g_autofree char *option = g_strdup_printf("data_file=%s", data);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", option, "-b", a, "-F", "qcow2", over, NULL);
}

static void make_encrypted(World *world, const char *over, const char *a)
{
    tool("qemu-img", "create", "-q", "-f", "qcow2", "--object", "secret,id=k,data=secret", "-o",
         "encrypt.format=aes,encrypt.key-secret=k", "-b", a, "-F", "qcow2", over, NULL);
}

static void make_stood_on(World *world, const char *over, const char *a)
{
    g_autofree char *above = outside(world, "above.qcow2");
    overlay_on(over, a, "qcow2");
    overlay_on(above, over, "qcow2");
}

static void make_frozen(World *world, const char *over, const char *a)
{
    overlay_on(over, a, "qcow2");
    ck_assert_int_eq(chmod(over, 0444), 0);
}

static void make_other_domains(World *world, const char *over, const char *a)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *disk = disk_element("vda", "qcow2", over, "", "");
    g_autofree char *xml = domain_document("other", disk);
    tool("qemu-img", "create", "-q", "-f", "qcow2", over, "1M", NULL);
    ASSERT_OK(world_try_define(world, xml, &error), error);
}

static void make_directory(World *world, const char *over, const char *a)
{
    ck_assert_int_eq(mkdir(over, 0755), 0);
}

static const Wrong wrong[] = {
    {"nothing", make_nothing, ENOENT, "with --reuse-external the overlay must be there already"},
    {"raw", make_raw, EINVAL, "is not a qcow2 image"},
    {"empty", make_empty, EINVAL, "is not a qcow2 image"},
    {"qed", make_qed, EINVAL, "is not a qcow2 image"},
    {"flat", make_flat, EINVAL, "has the backing file 'none'"},
    {"on-another-disk", make_on_other, EINVAL, "b.qcow2', an overlay of this disk must have '"},
    {"on-a-copy", make_on_copy, EINVAL, "an overlay of this disk must have '"},
    {"on-nothing", make_on_missing, EINVAL, "has the backing file '/nowhere/x'"},
    {"on-a-protocol", make_on_protocol, EPERM, "only plain files are taken"},
    {"other-format", make_other_format, EINVAL, "of type raw, but it is qcow2"},
    {"larger", make_larger, EINVAL, "has a virtual size of 2097152 bytes, the disk has 1048576"},
    {"dirty", make_dirty, EIO, "is marked dirty"},
    {"data-file", make_data_file, EOPNOTSUPP, "keeps its data in another file"},
    {"encrypted", make_encrypted, EOPNOTSUPP, "is encrypted"},
    {"stood-on", make_stood_on, EBUSY, "another image beside it has '"},
    {"frozen", make_frozen, EACCES, "has no write bits"},
    {"other-domain", make_other_domains, EEXIST, "is an image of domain 'other' already"},
    {"directory", make_directory, EINVAL, "is neither a regular file nor a block device"},
};

START_TEST(each_wrong)
{
    const Wrong *w = &wrong[_i];
    g_autoptr(World) world = world_web(PATH(w->name));
    g_autoptr(GError) error = NULL;
    g_autofree char *a = world_path(world, "a.qcow2");
    g_autofree char *over = outside(world, "over");
    g_autofree char *specs = g_strdup_printf("vda,file=%s vdb,snapshot=external", over);
    g_autofree char *ready = world_path(world, "b.s1");
    overlay_on(ready, "./b.qcow2", "qcow2");
    w->make(world, over, a);
    g_autofree char *before = world_digest(world, "web");
    ck_assert_msg(!reuse(world, "s1", specs, &error), "%s: was taken", w->name);
    expect_error(&error, w->code, w->text);
    g_autofree char *after = world_digest(world, "web");
    ck_assert_str_eq(after, before);
    world_check_clean(world, "web");
}
END_TEST

START_TEST(in_use)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *a = world_path(world, "a.qcow2");
    g_autofree char *over = world_path(world, "over");
    g_autofree char *specs = g_strdup_printf("vda,file=%s vdb,snapshot=no", over);
    overlay_on(over, a, "qcow2");
    Writer *writer = writer_begin(world, over);
    gboolean taken = reuse(world, "s1", specs, &error);
    writer_end(writer);
    ck_assert(!taken);
    expect_error(&error, EBUSY, "another process has '");
    ASSERT_OK(reuse(world, "s1", specs, &error), error);
}
END_TEST

/* The domain's own layers, a disk's image for another one, one overlay for two disks, the mount, no external disk. */
START_TEST(taken_already)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *a = world_path(world, "a.qcow2");
    g_autofree char *b = world_path(world, "b.qcow2");
    g_autofree char *over = world_path(world, "over");
    world_create(world, "web", "s1", "vda,snapshot=external vdb,snapshot=no");
    g_autofree char *old = world_layer(world, "web", NULL, "vda", NULL);
    world_revert(world, "web", "s1"); /* the overlay of before is nobody's now, but still known */
    overlay_on(over, a, "qcow2");
    g_autofree char *own = g_strdup_printf("vda,file=%s vdb,snapshot=no", old);
    g_autofree char *frozen = g_strdup_printf("vda,file=%s vdb,snapshot=no", a);
    g_autofree char *others = g_strdup_printf("vda,file=%s vdb,snapshot=no", b);
    g_autofree char *twice = g_strdup_printf("vda,file=%s vdb,file=%s", over, over);
    g_autofree char *mount = g_strdup_printf("vda,file=%s/mnt/over vdb,snapshot=no", world->dir);
    const char *const specs[] = {own, frozen, others};
    for (gsize i = 0; i < G_N_ELEMENTS(specs); i++) {
        ck_assert_msg(!reuse(world, "s2", specs[i], &error), "%s", specs[i]);
        expect_error(&error, EEXIST, "is an image of domain 'web' already");
    }
    ck_assert(!reuse(world, "s2", twice, &error));
    ck_assert_msg(error->code == EINVAL || error->code == EEXIST, "%s", error->message);
    g_clear_error(&error);
    ck_assert(!reuse(world, "s2", "vda,snapshot=internal vdb,snapshot=internal", &error));
    expect_error(&error, EINVAL, "no disk is external");
    world_close(world);
    g_autofree char *point = g_build_filename(world->dir, "mnt", NULL);
    world->options.mountpoint = point;
    world_open(world);
    ck_assert(!reuse(world, "s2", mount, &error));
    expect_error(&error, EINVAL, "lies in this mount itself");
    world_check_clean(world, "web");
}
END_TEST

/* The header may name the layer by another name of the same file: it is compared by device and inode, for good. */
START_TEST(by_another_name)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *a = world_path(world, "a.qcow2");
    g_autofree char *link_path = outside(world, "a-again.qcow2");
    g_autofree char *over = outside(world, "over");
    g_autofree char *specs = g_strdup_printf("vda,file=%s vdb,snapshot=no", over);
    ck_assert_int_eq(link(a, link_path), 0);
    overlay_on(over, link_path, "qcow2");
    ASSERT_OK(reuse(world, "s1", specs, &error), error);
    world_reopen(world);
    world_create(world, "web", "s2", "vda,snapshot=external vdb,snapshot=no");
    world_revert(world, "web", "s1");
    world_revert(world, "web", "s2");
    world_assert_hash(world, NULL, "vda", 1, 1);
    world_check_clean(world, "web");
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("reuse");
    TCase *tcase = scratch_case(suite, "reuse");
    tcase_add_test(tcase, used_as_it_is);
    tcase_add_test(tcase, generated_name);
    tcase_add_test(tcase, other_formats);
    tcase_add_loop_test(tcase, each_wrong, 0, G_N_ELEMENTS(wrong));
    tcase_add_test(tcase, in_use);
    tcase_add_test(tcase, taken_already);
    tcase_add_test(tcase, by_another_name);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
