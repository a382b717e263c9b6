/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading qed headers: real ones and hostile ones. */
#include "images.h"
#include "qed.h"
#include "runner.h"

static ImageInfo *read_qed(const char *path, GError **error)
{
    g_autoptr(ImageFile) file = image_file_open(path, error);
    return file ? qed_read(file, error) : NULL;
}

START_TEST(test_qed)
{
    g_autofree char *path = PATH("image.qed");
    GError *error = NULL;
    tool("qemu-img", "create", "-q", "-u", "-f", "qed", "-b", "./b,a:se", "-F", "raw", path, "10M", NULL);
    g_autoptr(ImageInfo) raw = read_qed(path, &error);
    ASSERT_OK(raw != NULL, error);
    ck_assert_str_eq(raw->backing_name, "./b,a:se");
    ck_assert_int_eq(raw->backing_format, FORMAT_RAW);
    ck_assert_uint_eq(raw->virtual_size, 10 << 20);
    ck_assert_uint_eq(raw->cluster_size, 65536);
    ck_assert_uint_eq(raw->tags->len, 0);
    ck_assert(!raw->dirty);
    tool("qemu-img", "create", "-q", "-u", "-f", "qed", "-b", "./base", "-F", "qcow2", path, "10M", NULL);
    g_autoptr(ImageInfo) qcow2 = read_qed(path, &error);
    ASSERT_OK(qcow2 != NULL, error);
    ck_assert_int_eq(qcow2->backing_format, FORMAT_NONE);
    poke(path, 16, "\x02", 1);
    g_autoptr(ImageInfo) dirty = read_qed(path, &error);
    ck_assert(dirty->dirty && !dirty->backing_name);
    tool("qemu-img", "create", "-q", "-f", "qcow2", path, "10M", NULL);
    ck_assert_ptr_null(read_qed(path, &error));
    expect_error(&error, EINVAL, "not a qed image");
}
END_TEST

static const struct {
    const char *what;
    off_t offset;
    gsize len;
    const char *bytes;
    int code;
} hostile_qed[] = {
    {"magic", 0, 1, "q", EINVAL},
    {"cluster size 0", 4, 4, "\0\0\0\0", EIO},
    {"cluster size odd", 4, 4, "\1\0\1\0", EIO},
    {"cluster size huge", 4, 4, "\0\0\0\x80", EIO},
    {"table size 0", 8, 4, "\0\0\0\0", EIO},
    {"table size 32", 8, 4, "\x20\0\0\0", EIO},
    {"unknown feature", 16, 1, "\x09", EOPNOTSUPP},
    {"size", 48, 8, "\xff\xff\xff\xff\xff\xff\xff\xff", EIO},
    {"backing offset", 56, 4, "\xff\xff\xff\xff", EIO},
    {"backing size", 60, 4, "\xff\xff\xff\xff", EIO},
    {"backing size 1024", 60, 4, "\0\4\0\0", EIO},
    {"backing size 0", 60, 4, "\0\0\0\0", EIO},
    {"NUL in the backing name", 66, 1, "\0", EIO},
};

START_TEST(test_hostile_qed)
{
    g_autofree char *path = PATH("image.qed");
    GError *error = NULL;
    tool("qemu-img", "create", "-q", "-u", "-f", "qed", "-b", "./base", "-F", "raw", path, "10M", NULL);
    poke(path, hostile_qed[_i].offset, hostile_qed[_i].bytes, hostile_qed[_i].len);
    ImageInfo *info = read_qed(path, &error);
    ck_assert_msg(info == NULL, "%s was taken", hostile_qed[_i].what);
    expect_error(&error, hostile_qed[_i].code, path);
}
END_TEST

START_TEST(test_cut_off_qed)
{
    g_autofree char *path = PATH("image.qed");
    tool("qemu-img", "create", "-q", "-u", "-f", "qed", "-b", "./base", "-F", "raw", path, "10M", NULL);
    for (off_t len = 100; len >= 0; len--) {
        ck_assert_int_eq(truncate(path, len), 0);
        g_autoptr(GError) error = NULL;
        g_autoptr(ImageInfo) info = read_qed(path, &error);
        ck_assert(!info == !!error);
        ck_assert_int_eq(info != NULL, len >= 70); /* 64 bytes of header, 6 of name */
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("qed");
    TCase *images = scratch_case(s, "qed");
    tcase_add_test(images, test_qed);
    tcase_add_loop_test(images, test_hostile_qed, 0, G_N_ELEMENTS(hostile_qed));
    tcase_add_test(images, test_cut_off_qed);
    return s;
}

int main(void)
{
    return run_suite(suite());
}
