/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copying internal states out: what a machine would read of the copy, and that the source stays as it was. */
#include "backend_calls.h"
#include "runner.h"

/* One shape of image for copy_out. Sizes in units of 512 bytes. */
static const struct {
    const char *geometry;
    guint64 size;
    guint64 base_size; /* 0: no backing file */
    const char *base_geometry;
} shapes[] = {
    {"cluster_size=64k", 6144, 6144, "cluster_size=64k"},
    {"cluster_size=64k", 6145, 6144, "cluster_size=2M"},
    {"cluster_size=4k", 6001, 3000, "cluster_size=64k"},
    {"cluster_size=512", 6001, 9000, "cluster_size=64k"},
    {"cluster_size=2M", 12287, 12000, "cluster_size=512"},
    {"extended_l2=on", 6001, 5000, "cluster_size=64k"},
    {"cluster_size=2M,extended_l2=on", 12001, 12001, "cluster_size=4k"},
    {"compat=0.10", 6144, 6144, "cluster_size=64k"},
    {"cluster_size=64k", 6144, 0, NULL},
    {"cluster_size=1M", 6001, 0, NULL},
    {"extended_l2=on", 6001, 0, NULL},
    {"compat=0.10", 6001, 0, NULL},
};

/* Twelve writes that the seed decides, data, zeros as data, zero clusters; and one at the very end. */
static void scribble(const char *path, guint64 sectors, guint32 seed, gboolean zero_clusters)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(argv, g_strdup("qemu-io"));
    for (int i = 0; i < 13; i++) {
        guint64 offset = i == 12 ? sectors - 1 : (guint64)g_rand_int_range(rand, 0, (gint32)sectors - 300);
        int count = i == 12 ? 1 : g_rand_int_range(rand, 1, 300);
        int kind = g_rand_int_range(rand, 0, 5);
        g_autofree char *pattern = g_strdup_printf("-P %d", kind == 1 ? 0 : i + 1);
        g_ptr_array_add(argv, g_strdup("-c"));
        g_ptr_array_add(argv, g_strdup_printf("write %s %" G_GUINT64_FORMAT " %d",
                                              kind == 0 && zero_clusters ? "-z" : pattern, offset * 512,
                                              count * 512));
    }
    g_ptr_array_add(argv, g_strdup("-f"));
    g_ptr_array_add(argv, g_strdup("qcow2"));
    g_ptr_array_add(argv, g_strdup(path));
    g_ptr_array_add(argv, NULL);
    ck_assert_int_eq(run_argv((char **)argv->pdata, NULL), 0);
}

static guint64 occupied(const char *path)
{
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    return (guint64)st.st_blocks * 512;
}

static void make_base(const char *base, const char *geometry, guint64 sectors)
{
    g_autofree char *size = g_strdup_printf("%" G_GUINT64_FORMAT, sectors * 512);
    g_autofree char *all = g_strdup_printf("0 %" G_GUINT64_FORMAT, sectors * 512);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", geometry, base, size, NULL);
    write_pattern(base, 0xb0, all);
}

START_TEST(test_copy_out)
{
    g_autofree char *base = PATH("base.qcow2"), *path = PATH("image.qcow2"), *out = PATH("out,1:.qcow2");
    g_autofree char *size = g_strdup_printf("%" G_GUINT64_FORMAT, shapes[_i].size * 512);
    const char *backing = shapes[_i].base_size ? "./base.qcow2" : NULL;
    unlink(base);
    unlink(path);
    unlink(out);
    if (backing) {
        make_base(base, shapes[_i].base_geometry, shapes[_i].base_size);
        tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", shapes[_i].geometry, "-b", base, "-F", "qcow2",
             path, size, NULL);
    } else {
        tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", shapes[_i].geometry, path, size, NULL);
    }
    scribble(path, shapes[_i].size, (guint32)_i, strcmp(shapes[_i].geometry, "compat=0.10") != 0);
    tag_ok(path, "2"); /* its id is 1 */
    tag_ok(path, "1");
    g_autofree char *want = content_hash(path, "qcow2", NULL);
    guint64 enough = occupied(path);
    write_pattern(path, 0xee, "0 2M");
    g_autofree char *present = content_hash(path, "qcow2", NULL);
    ck_assert_int_eq(chmod(path, 0444), 0);
    g_autofree char *bytes = file_hash(path);
    touch(out, 0640);
    OverlaySpec spec = {out, FORMAT_QCOW2, shapes[_i].size * 512, backing,
                        backing ? FORMAT_QCOW2 : FORMAT_NONE};
    copy_out_ok(path, "2", &spec);
    assert_same(out, "qcow2", want);
    copy_out_ok(path, "2", &spec); /* may be repeated */
    assert_same(out, "qcow2", want);
    assert_check_clean(out);
    ck_assert_uint_le(occupied(out), enough);
    g_autoptr(ImageInfo) info = inspect(out, FORMAT_QCOW2);
    ck_assert_pstr_eq(info->backing_name, backing);
    ck_assert_int_eq(info->backing_format, backing ? FORMAT_QCOW2 : FORMAT_NONE);
    ck_assert_uint_eq(info->virtual_size, shapes[_i].size * 512);
    ck_assert_uint_eq(info->tags->len, 0);
    struct stat st;
    ck_assert_int_eq(stat(out, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0640);
    g_autofree char *bytes_now = file_hash(path);
    ck_assert_str_eq(bytes, bytes_now);
    assert_same(path, "qcow2", present);
}
END_TEST

START_TEST(test_copy_out_seeds)
{
    g_autofree char *base = PATH("base.qcow2"), *path = PATH("image.qcow2"), *out = PATH("out.qcow2");
    unlink(base);
    unlink(path);
    unlink(out);
    make_base(base, "cluster_size=64k", 4000);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", _i % 2 ? "extended_l2=on" : "cluster_size=256k",
         "-b", base, "-F", "qcow2", path, "2097152", NULL);
    scribble(path, 4096, (guint32)_i + 1000, TRUE);
    tag_ok(path, "tag");
    g_autofree char *want = content_hash(path, "qcow2", NULL);
    scribble(path, 4096, (guint32)_i + 2000, TRUE);
    touch(out, 0600);
    copy_out_ok(path, "tag", &(OverlaySpec){out, FORMAT_QCOW2, 2 * MIB, "./base.qcow2", FORMAT_QCOW2});
    assert_same(out, "qcow2", want);
    assert_check_clean(out);
}
END_TEST

/* A huge, nearly empty image: what the state has not, the copy must not have either, nor tables for it. */
START_TEST(test_copy_out_sparse)
{
    g_autofree char *path = PATH("image.qcow2"), *out = PATH("out.qcow2");
    const char *backing = _i ? "./not-there" : NULL;
    unlink(path);
    unlink(out);
    touch(path, 0600);
    create_ok(&(OverlaySpec){path, FORMAT_QCOW2, 1024ull * 1024 * MIB, backing, FORMAT_QCOW2});
    tag_ok(path, "tag");
    touch(out, 0600);
    copy_out_ok(path, "tag", &(OverlaySpec){out, FORMAT_QCOW2, 1024ull * 1024 * MIB, backing, FORMAT_QCOW2});
    ck_assert_uint_le(occupied(out), occupied(path) + 65536);
}
END_TEST

START_TEST(test_copy_out_compressed)
{
    g_autofree char *plain = PATH("plain.qcow2"), *path = PATH("image.qcow2"), *out = PATH("out.qcow2");
    tool("qemu-img", "create", "-q", "-f", "qcow2", plain, "2M", NULL);
    write_pattern(plain, 0x11, "100k 700k");
    tool("qemu-img", "convert", "-c", "-f", "qcow2", "-O", "qcow2", plain, path, NULL);
    tag_ok(path, "tag");
    g_autofree char *want = content_hash(path, "qcow2", NULL);
    write_pattern(path, 0x22, "0 2M");
    touch(out, 0600);
    copy_out_ok(path, "tag", &(OverlaySpec){out, FORMAT_QCOW2, 2 * MIB, NULL, FORMAT_NONE});
    assert_same(out, "qcow2", want);
}
END_TEST

/* The image was resized after the state was taken: the state has its own size (and `-l` would get it wrong).
 */
static const struct {
    const char *at_tag;
    const char *now;
    gboolean backing;
} resized[] = {{"2M", "4M", TRUE}, {"4M", "2M", TRUE}, {"2M", "4M", FALSE}, {"4M", "2M", FALSE}};

START_TEST(test_copy_out_of_another_size)
{
    g_autofree char *base = PATH("base.qcow2"), *path = PATH("image.qcow2"), *out = PATH("out.qcow2");
    unlink(base);
    unlink(path);
    unlink(out);
    make_base(base, "cluster_size=64k", 8192);
    if (resized[_i].backing)
        tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", "./base.qcow2", "-F", "qcow2", path,
             resized[_i].at_tag, NULL);
    else
        tool("qemu-img", "create", "-q", "-f", "qcow2", path, resized[_i].at_tag, NULL);
    write_pattern(path, 1, "100k 300k");
    write_pattern(path, 2, "1536k 512k");
    if (resized[_i].at_tag[0] == '4')
        write_pattern(path, 4, "3M 500k"); /* beyond the later end */
    g_autofree char *want = content_hash(path, "qcow2", NULL);
    tag_ok(path, "other");
    tag_ok(path, "tag");
    tool("qemu-img", "resize", "-q", "--shrink", "-f", "qcow2", path, resized[_i].now, NULL);
    write_pattern(path, 3, "0 2M");
    tag_ok(path, "later");
    g_autofree char *bytes = file_hash(path);
    ck_assert_int_eq(chmod(path, 0444), 0);
    touch(out, 0640);
    OverlaySpec spec = {out, FORMAT_QCOW2, 0, resized[_i].backing ? "././base.qcow2" : NULL, FORMAT_QCOW2};
    copy_out_ok(path, "tag", &spec);
    copy_out_ok(path, "tag", &spec);
    assert_same(out, "qcow2", want);
    assert_check_clean(out);
    g_autoptr(ImageInfo) info = inspect(out, FORMAT_QCOW2);
    ck_assert_uint_eq(info->virtual_size, resized[_i].at_tag[0] == '2' ? 2 * MIB : 4 * MIB);
    ck_assert_pstr_eq(info->backing_name, spec.backing_name);
    ck_assert_uint_eq(info->tags->len, 0);
    struct stat st;
    ck_assert_int_eq(stat(out, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0640);
    g_autofree char *bytes_now = file_hash(path);
    ck_assert_str_eq(bytes, bytes_now);
}
END_TEST

START_TEST(test_copy_out_refused)
{
    g_autofree char *path = PATH("image.qcow2"), *out = PATH("out.qcow2"), *absent = PATH("absent");
    GError *error = NULL;
    tool("qemu-img", "create", "-q", "-f", "qcow2", path, "1M", NULL);
    tag_ok(path, "tag");
    touch(out, 0600);
    OverlaySpec spec = {out, FORMAT_QCOW2, MIB, NULL, FORMAT_NONE};
    ck_assert(!backend->ops->copy_out(backend, path, "none", &spec, NULL, &error));
    expect_error(&error, ENOENT, "none");
    spec.backing_name = "./base";
    spec.backing_format = FORMAT_QCOW2;
    ck_assert(!backend->ops->copy_out(backend, path, "tag", &spec, NULL, &error));
    expect_error(&error, EINVAL, "backing file");
    spec = (OverlaySpec){out, FORMAT_QED, MIB, NULL, FORMAT_NONE};
    ck_assert(!backend->ops->copy_out(backend, path, "tag", &spec, NULL, &error));
    expect_error(&error, EOPNOTSUPP, NULL);
    spec = (OverlaySpec){absent, FORMAT_QCOW2, MIB, NULL, FORMAT_NONE};
    ck_assert(!backend->ops->copy_out(backend, path, "tag", &spec, NULL, &error));
    expect_error(&error, ENOENT, absent);
    Holder writer = hold(path, FALSE);
    spec.path = out;
    ck_assert(!backend->ops->copy_out(backend, path, "tag", &spec, NULL, &error));
    ck_assert_ptr_null(strstr(error->message, "json:"));
    expect_error(&error, EBUSY, path);
    let_go(&writer);
}
END_TEST

START_TEST(test_copy_out_cancelled)
{
    g_autofree char *path = PATH("image.qcow2"), *out = PATH("out.qcow2");
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    GError *error = NULL;
    tool("qemu-img", "create", "-q", "-f", "qcow2", path, "512M", NULL);
    write_pattern(path, 1, "0 256M");
    tag_ok(path, "tag");
    touch(out, 0600);
    GThread *thread = g_thread_new("cancel", cancel_soon, cancel);
    OverlaySpec spec = {out, FORMAT_QCOW2, 512 * MIB, NULL, FORMAT_NONE};
    ck_assert(!backend->ops->copy_out(backend, path, "tag", &spec, cancel, &error));
    expect_error(&error, EINTR, "cancelled");
    g_thread_join(thread);
    ck_assert_int_eq(use_of(path), USE_NONE); /* nothing goes on behind our back */
    ck_assert_int_eq(use_of(out), USE_NONE);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("copyout");
    TCase *copies = backend_case(s, "copies");
    tcase_add_loop_test(copies, test_copy_out, 0, G_N_ELEMENTS(shapes));
    tcase_add_loop_test(copies, test_copy_out_seeds, 0, 8);
    tcase_add_loop_test(copies, test_copy_out_sparse, 0, 2);
    tcase_add_test(copies, test_copy_out_compressed);
    tcase_add_loop_test(copies, test_copy_out_of_another_size, 0, G_N_ELEMENTS(resized));
    tcase_add_test(copies, test_copy_out_refused);
    tcase_add_test(copies, test_copy_out_cancelled);
    return s;
}

int main(void)
{
    return run_suite(suite());
}
