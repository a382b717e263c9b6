/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading qcow2 headers: against what qemu-img says of real images, and against hostile ones. */
#include "images.h"
#include "qcow2.h"
#include "runner.h"

#include <jansson.h>

static Qcow2Image *read_qcow2(const char *path, GError **error)
{
    g_autoptr(ImageFile) file = image_file_open(path, error);
    return file ? qcow2_read(file, error) : NULL;
}

static Qcow2Image *read_ok(const char *path)
{
    GError *error = NULL;
    Qcow2Image *image = read_qcow2(path, &error);
    ASSERT_OK(image != NULL, error);
    return image;
}

static void poke_number(const char *path, off_t offset, guint64 number, gsize len)
{
    guint64 big = GUINT64_TO_BE(number);
    poke(path, offset, (const char *)&big + (sizeof big - len), len);
}

static guint64 peek64(const char *path, off_t offset)
{
    guint64 big = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(pread(fd, &big, sizeof big, offset), sizeof big);
    close(fd);
    return GUINT64_FROM_BE(big);
}

/* What qemu-img says of @path must be what we read. */
static void compare_with_qemu_img(const char *path, const Qcow2Image *image)
{
    g_autofree char *text = tool_output("qemu-img", "info", "-f", "qcow2", "--output=json", path, NULL);
    json_t *info = json_loads(text, 0, NULL);
    ck_assert_ptr_nonnull(info);
    ck_assert_uint_eq(image->info->virtual_size,
                      (guint64)json_integer_value(json_object_get(info, "virtual-size")));
    ck_assert_uint_eq(image->info->cluster_size,
                      (guint64)json_integer_value(json_object_get(info, "cluster-size")));
    ck_assert_pstr_eq(image->info->backing_name,
                      json_string_value(json_object_get(info, "backing-filename")));
    json_t *specific = json_object_get(json_object_get(info, "format-specific"), "data");
    ck_assert_int_eq(image->extended_l2, json_is_true(json_object_get(specific, "extended-l2")));
    ck_assert_uint_eq(image->info->n_bitmaps, json_array_size(json_object_get(specific, "bitmaps")));
    ck_assert_pstr_eq(image->info->data_file, json_string_value(json_object_get(specific, "data-file")));
    json_t *tags = json_object_get(info, "snapshots");
    ck_assert_uint_eq(image->info->tags->len, json_array_size(tags));
    for (guint i = 0; i < image->info->tags->len; i++) {
        const ImageTag *tag = g_ptr_array_index(image->info->tags, i);
        json_t *theirs = json_array_get(tags, i);
        ck_assert_str_eq(tag->id, json_string_value(json_object_get(theirs, "id")));
        ck_assert_str_eq(tag->name, json_string_value(json_object_get(theirs, "name")));
        ck_assert_uint_eq(tag->date_sec, (guint64)json_integer_value(json_object_get(theirs, "date-sec")));
        ck_assert_uint_eq(tag->date_nsec, (guint64)json_integer_value(json_object_get(theirs, "date-nsec")));
        ck_assert_uint_eq(tag->vm_state_size,
                          (guint64)json_integer_value(json_object_get(theirs, "vm-state-size")));
    }
    json_decref(info);
}

static const char *const geometries[] = {
    "cluster_size=512",
    "cluster_size=4k",
    "cluster_size=64k",
    "cluster_size=2M",
    "compat=0.10",
    "extended_l2=on",
    "cluster_size=2M,extended_l2=on",
    "lazy_refcounts=on",
    "refcount_bits=1",
    "refcount_bits=64",
    "compression_type=zstd",
};

START_TEST(test_geometries)
{
    g_autofree char *path = PATH("image.qcow2");
    /* one bit counts to one: such an image can have no tags */
    gboolean tags = strcmp(geometries[_i], "refcount_bits=1") != 0;
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", geometries[_i], path, "10485760", NULL);
    for (int i = 0; tags && i < 5; i++) {
        g_autofree char *name = g_strdup_printf("tag %d", i);
        tool("qemu-img", "snapshot", "-c", name, path, NULL);
    }
    g_autoptr(Qcow2Image) image = read_ok(path);
    ck_assert_uint_eq(image->info->tags->len, tags ? 5 : 0);
    ck_assert_uint_eq(image->info->virtual_size, 10485760);
    compare_with_qemu_img(path, image);
}
END_TEST

static const struct {
    const char *name;
    const char *format;
    ImageFormat expected;
} backings[] = {
    {"./base.qcow2", "qcow2", FORMAT_QCOW2},
    {"/a dir/b:c,d", "raw", FORMAT_RAW},
    {"./b\xc3\xa4se\n'\"", "qed", FORMAT_QED},
    {"./other", "vmdk", FORMAT_NONE},
};

START_TEST(test_backing)
{
    g_autofree char *path = PATH("image.qcow2");
    tool("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", backings[_i].name, "-F", backings[_i].format,
         path, "1M", NULL);
    g_autoptr(Qcow2Image) image = read_ok(path);
    ck_assert_str_eq(image->info->backing_name, backings[_i].name);
    ck_assert_int_eq(image->info->backing_format, backings[_i].expected);
    compare_with_qemu_img(path, image);
}
END_TEST

START_TEST(test_backing_name_of_full_length)
{
    g_autofree char *path = PATH("image.qcow2");
    g_autofree char *name = g_strnfill(1023, 'x');
    name[0] = '/';
    tool("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", name, "-F", "raw", path, "1M", NULL);
    g_autoptr(Qcow2Image) image = read_ok(path);
    ck_assert_str_eq(image->info->backing_name, name);
}
END_TEST

START_TEST(test_odd_tags)
{
    static const char *const names[] = {"1",           "-d",        "--", "a b",     "",
                                        "sn\xc3\xa4p", "new\nline", "1",  "\xff\xfe"};
    g_autofree char *path = PATH("image.qcow2");
    tool("qemu-img", "create", "-q", "-f", "qcow2", path, "1M", NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
        tool("qemu-img", "snapshot", "-c", names[i], path, NULL);
    g_autoptr(Qcow2Image) image = read_ok(path);
    ck_assert_uint_eq(image->info->tags->len, G_N_ELEMENTS(names));
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        const ImageTag *tag = g_ptr_array_index(image->info->tags, i);
        g_autofree char *id = g_strdup_printf("%zu", i + 1);
        ck_assert_str_eq(tag->name, names[i]); /* bytes, where qemu-img's JSON says U+FFFD */
        ck_assert_str_eq(tag->id, id);
    }
    GError *error = NULL;
    ck_assert_uint_eq(qcow2_count_tags(image, "1"), 2);
    ck_assert_uint_eq(qcow2_count_tags(image, "absent"), 0);
    ck_assert_ptr_eq(qcow2_only_tag(image, path, "--", &error), g_ptr_array_index(image->info->tags, 2));
    ck_assert_ptr_null(qcow2_only_tag(image, path, "1", &error));
    expect_error(&error, EINVAL, "several tags");
    ck_assert_ptr_null(qcow2_only_tag(image, path, "absent", &error));
    expect_error(&error, ENOENT, "absent");
}
END_TEST

START_TEST(test_tag_sizes)
{
    g_autofree char *path = PATH("image.qcow2");
    tool("qemu-img", "create", "-q", "-f", "qcow2", path, "1M", NULL);
    tool("qemu-img", "snapshot", "-c", "small", path, NULL);
    tool("qemu-img", "resize", "-q", path, "3M", NULL);
    tool("qemu-img", "snapshot", "-c", "large", path, NULL);
    tool("qemu-img", "resize", "-q", "--shrink", path, "2M", NULL);
    g_autoptr(Qcow2Image) image = read_ok(path);
    ck_assert_uint_eq(image->info->virtual_size, 2 << 20);
    ck_assert_uint_eq(qcow2_tag_state(image, g_ptr_array_index(image->info->tags, 0))->size, 1 << 20);
    ck_assert_uint_eq(qcow2_tag_state(image, g_ptr_array_index(image->info->tags, 1))->size, 3 << 20);
}
END_TEST

START_TEST(test_bitmaps_and_data_file)
{
    g_autofree char *bitmaps = PATH("bitmaps.qcow2");
    tool("qemu-img", "create", "-q", "-f", "qcow2", bitmaps, "1M", NULL);
    tool("qemu-img", "bitmap", "--add", bitmaps, "one", NULL);
    tool("qemu-img", "bitmap", "--add", bitmaps, "two", NULL);
    g_autoptr(Qcow2Image) with_bitmaps = read_ok(bitmaps);
    ck_assert_uint_eq(with_bitmaps->info->n_bitmaps, 2);
    compare_with_qemu_img(bitmaps, with_bitmaps);
    poke_number(bitmaps, 88, 0, 8); /* autoclear bit gone: they are stale */
    g_autoptr(Qcow2Image) stale = read_ok(bitmaps);
    ck_assert_uint_eq(stale->info->n_bitmaps, 0);

    g_autofree char *path = PATH("image.qcow2"), *data = PATH("data.raw");
    g_autofree char *option = g_strdup_printf("data_file=%s", data);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", option, path, "1M", NULL);
    g_autoptr(Qcow2Image) outside = read_ok(path);
    ck_assert_str_eq(outside->info->data_file, data);
    compare_with_qemu_img(path, outside);
}
END_TEST

START_TEST(test_feature_bits)
{
    g_autofree char *path = PATH("image.qcow2");
    tool("qemu-img", "create", "-q", "-f", "qcow2", path, "1M", NULL);
    g_autoptr(Qcow2Image) plain = read_ok(path);
    ck_assert(!plain->info->dirty && !plain->info->encrypted && !plain->info->data_file);
    for (guint bit = 0; bit < 2; bit++) { /* dirty, corrupt */
        poke_number(path, 72, 1u << bit, 8);
        g_autoptr(Qcow2Image) image = read_ok(path);
        ck_assert(image->info->dirty);
    }
    poke_number(path, 72, 4, 8); /* a data file that the header does not name */
    g_autoptr(Qcow2Image) nameless = read_ok(path);
    ck_assert_str_eq(nameless->info->data_file, "");
    poke_number(path, 72, 0, 8);
    poke_number(path, 32, 1, 4);
    g_autoptr(Qcow2Image) encrypted = read_ok(path);
    ck_assert(encrypted->info->encrypted);
}
END_TEST

/* One field with a value that no image has. */
static const struct {
    const char *what;
    off_t offset;
    gsize len;
    guint64 value;
    int code;
} hostile[] = {
    {"magic", 0, 4, 0x514649fa, EINVAL},
    {"version 1", 4, 4, 1, EOPNOTSUPP},
    {"version 4", 4, 4, 4, EOPNOTSUPP},
    {"backing offset in the header", 8, 8, 4, EIO},
    {"backing offset behind the cluster", 8, 8, 65537, EIO},
    {"backing offset wraps", 8, 8, G_MAXUINT64 - 3, EIO},
    {"backing size over 1023", 16, 4, 1024, EIO},
    {"backing size huge", 16, 4, G_MAXUINT32, EIO},
    {"cluster bits 0", 20, 4, 0, EIO},
    {"cluster bits 8", 20, 4, 8, EIO},
    {"cluster bits 22", 20, 4, 22, EIO},
    {"cluster bits 64", 20, 4, 64, EIO},
    {"cluster bits -1", 20, 4, G_MAXUINT32, EIO},
    {"size -1", 24, 8, G_MAXUINT64, EIO},
    {"size 2^63-1", 24, 8, G_MAXINT64, EIO},
    {"crypt method", 32, 4, 3, EOPNOTSUPP},
    {"snapshots -1", 60, 4, G_MAXUINT32, EIO},
    {"snapshots 65537", 60, 4, 65537, EIO},
    {"snapshots 65536", 60, 4, 65536, EIO},
    {"snapshots one more", 60, 4, 3, EIO},
    {"snapshot offset 0", 64, 8, 0, EIO},
    {"snapshot offset not aligned", 64, 8, 65544, EIO},
    {"snapshot offset behind the end", 64, 8, 1ull << 40, EIO},
    {"snapshot offset wraps", 64, 8, G_MAXUINT64 - 65535, EIO},
    {"unknown incompatible bit 5", 72, 8, 1 << 5, EOPNOTSUPP},
    {"unknown incompatible bit 63", 72, 8, 1ull << 63, EOPNOTSUPP},
    {"compression bit without a type", 72, 8, 8, EIO},
    {"refcount order", 96, 4, 7, EOPNOTSUPP},
    {"header length short", 100, 4, 103, EIO},
    {"header length long", 100, 4, 65537, EIO},
    {"header length huge", 100, 4, G_MAXUINT32, EIO},
    {"compression type without the bit", 104, 1, 1, EIO},
    {"compression type unknown", 104, 1, 2, EOPNOTSUPP},
    {"extension length", 116, 4, 70000, EIO},
    {"extension length huge", 116, 4, G_MAXUINT32, EIO},
    {"backing format too long", 116, 4, 16, EIO},
    {"backing format with a NUL", 121, 1, 0, EIO},
};

/* An image with a backing name, its format as first extension (at 112) and two tags. */
static void make_victim(const char *path)
{
    tool("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", "./base.img", "-F", "qcow2", path, "1M",
         NULL);
    g_autofree char *json = g_strdup_printf("json:{\"driver\":\"qcow2\",\"backing\":null,"
                                            "\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}}",
                                            path);
    tool("qemu-img", "snapshot", "-c", "one", json, NULL);
    tool("qemu-img", "snapshot", "-c", "two", json, NULL);
}

START_TEST(test_hostile_header)
{
    g_autofree char *path = PATH("image.qcow2");
    GError *error = NULL;
    make_victim(path);
    g_autoptr(Qcow2Image) good = read_ok(path);
    ck_assert_uint_eq(good->info->tags->len, 2);
    ck_assert_int_eq(good->info->backing_format, FORMAT_QCOW2);
    poke_number(path, hostile[_i].offset, hostile[_i].value, hostile[_i].len);
    Qcow2Image *image = read_qcow2(path, &error);
    ck_assert_msg(image == NULL, "%s was taken", hostile[_i].what);
    expect_error(&error, hostile[_i].code, path);
}
END_TEST

/* The same in the first entry of the snapshot table. */
static const struct {
    const char *what;
    off_t offset;
    gsize len;
    guint64 value;
} hostile_tags[] = {
    {"id length", 12, 2, 65535},          {"name length", 14, 2, 65535},
    {"extra over 1024", 36, 4, 1025},     {"extra huge", 36, 4, G_MAXUINT32},
    {"virtual size", 48, 8, G_MAXUINT64}, {"NUL in the id", 64, 1, 0},
    {"NUL in the name", 66, 1, 0},
};

START_TEST(test_hostile_tag)
{
    g_autofree char *path = PATH("image.qcow2");
    GError *error = NULL;
    make_victim(path);
    off_t table = (off_t)peek64(path, 64);
    poke_number(path, table + hostile_tags[_i].offset, hostile_tags[_i].value, hostile_tags[_i].len);
    Qcow2Image *image = read_qcow2(path, &error);
    ck_assert_msg(image == NULL, "%s was taken", hostile_tags[_i].what);
    expect_error(&error, EIO, "damaged");
}
END_TEST

START_TEST(test_nul_in_backing_name)
{
    g_autofree char *path = PATH("image.qcow2");
    GError *error = NULL;
    make_victim(path);
    poke(path, (off_t)peek64(path, 8) + 3, "", 1);
    ck_assert_ptr_null(read_qcow2(path, &error));
    expect_error(&error, EIO, "NUL");
}
END_TEST

/* 65536 tags of 130 KiB each: refused at 64 MiB, not read to the end. The file is sparse. */
START_TEST(test_table_too_long)
{
    g_autofree char *path = PATH("image.qcow2");
    GError *error = NULL;
    make_victim(path);
    ck_assert_int_eq(truncate(path, 1ll << 34), 0);
    off_t table = 1 << 30;
    poke_number(path, 60, 2000, 4);
    poke_number(path, 64, (guint64)table, 8);
    g_autofree char *name = g_strnfill(65535, 'n');
    for (int i = 0; i < 1100; i++) {
        off_t entry = table + (off_t)i * (40 + 65535 + 1); /* 40 + name, padded to 8 */
        poke_number(path, entry + 14, 65535, 2);
        poke(path, entry + 40, name, 65535);
    }
    ck_assert_ptr_null(read_qcow2(path, &error));
    expect_error(&error, EIO, "snapshot table is over");
    poke_number(path, 60, 1000, 4);
    g_autoptr(Qcow2Image) image = read_ok(path);
    ck_assert_uint_eq(image->info->tags->len, 1000);
}
END_TEST

START_TEST(test_too_many_extensions)
{
    g_autofree char *path = PATH("image.qcow2");
    GError *error = NULL;
    tool("qemu-img", "create", "-q", "-f", "qcow2", path, "1M", NULL);
    g_autofree char *empty = g_malloc0(65536 - 112);
    for (gsize i = 0; i + 8 <= 65536 - 112; i += 8)
        empty[i] = 'x';
    poke(path, 112, empty, 65536 - 112);
    ck_assert_ptr_null(read_qcow2(path, &error));
    expect_error(&error, EIO, "too many");
}
END_TEST

/* Cut to @len, the image is an error or a whole header; never more. The sanitizers watch. */
static void cut_to(const char *path, off_t len, off_t table)
{
    g_autoptr(GError) error = NULL;
    ck_assert_int_eq(truncate(path, len), 0);
    g_autoptr(Qcow2Image) image = read_qcow2(path, &error);
    ck_assert(!image == !!error);
    if (len < table + 2 * 40)
        ck_assert_ptr_null(image);
    if (len < 8)
        ck_assert_int_eq(error->code, EINVAL);
}

START_TEST(test_cut_off)
{
    g_autofree char *path = PATH("image.qcow2");
    make_victim(path);
    off_t table = (off_t)peek64(path, 64);
    for (off_t len = table + 400; len >= table; len--)
        cut_to(path, len, table);
    for (off_t len = 700; len >= 0; len--)
        cut_to(path, len, table);
}
END_TEST

/* Bytes of header and snapshot table overwritten at random (always the same way). */
START_TEST(test_random_bytes)
{
    g_autofree char *path = PATH("image.qcow2");
    make_victim(path);
    off_t table = (off_t)peek64(path, 64);
    g_autoptr(GRand) rand = g_rand_new_with_seed(20);
    guint taken = 0;
    for (int round = 0; round < 20000; round++) {
        char saved[3], bytes[3];
        off_t where[3];
        int fd = open(path, O_RDWR | O_CLOEXEC);
        for (int i = 0; i < 3; i++) {
            where[i] = g_rand_int_range(rand, 0, 140) + (g_rand_boolean(rand) ? table : 0);
            bytes[i] = g_rand_boolean(rand) ? (char)g_rand_int(rand) : g_rand_boolean(rand) ? '\xff' : 0;
            ck_assert_int_eq(pread(fd, &saved[i], 1, where[i]), 1);
            ck_assert_int_eq(pwrite(fd, &bytes[i], 1, where[i]), 1);
        }
        g_autoptr(GError) error = NULL;
        g_autoptr(Qcow2Image) image = read_qcow2(path, &error);
        ck_assert(!image == !!error);
        taken += image != NULL;
        for (int i = 2; i >= 0; i--)
            ck_assert_int_eq(pwrite(fd, &saved[i], 1, where[i]), 1);
        close(fd);
    }
    ck_assert_uint_gt(taken, 1000);
    ck_assert_uint_lt(taken, 19000);
    g_autoptr(Qcow2Image) whole = read_ok(path);
    ck_assert_uint_eq(whole->info->tags->len, 2);
}
END_TEST

START_TEST(test_no_images)
{
    g_autofree char *fifo = PATH("fifo"), *link = PATH("link"), *image = PATH("image.qcow2"),
                    *empty = PATH("empty");
    g_autofree char *absent = PATH("absent");
    GError *error = NULL;
    tool("qemu-img", "create", "-q", "-f", "qcow2", image, "1M", NULL);
    ck_assert_int_eq(mkfifo(fifo, 0600), 0);
    ck_assert_int_eq(symlink(image, link), 0);
    ck_assert(g_file_set_contents(empty, "", 0, NULL));
    ck_assert_ptr_null(read_qcow2(fifo, &error)); /* must not wait for a writer */
    expect_error(&error, EINVAL, "neither");
    ck_assert_ptr_null(read_qcow2(scratch, &error));
    expect_error(&error, EINVAL, "neither");
    ck_assert_ptr_null(read_qcow2(link, &error));
    expect_error(&error, ELOOP, NULL);
    ck_assert_ptr_null(read_qcow2(absent, &error));
    expect_error(&error, ENOENT, absent);
    ck_assert_ptr_null(read_qcow2(empty, &error));
    expect_error(&error, EINVAL, "not a qcow2 image");
}
END_TEST

START_TEST(test_block_device)
{
    g_autofree char *path = PATH("image.qcow2");
    tool("qemu-img", "create", "-q", "-f", "qcow2", path, "1M", NULL);
    ck_assert_int_eq(truncate(path, 1 << 20), 0);
    tool("qemu-img", "snapshot", "-c", "tag", path, NULL);
    char *argv[] = {(char *)"losetup", (char *)"--find", (char *)"--show", path, NULL};
    g_autofree char *device = NULL;
    g_autofree char *losetup = g_find_program_in_path("losetup");
    if ((!losetup || geteuid() != 0 || run_argv(argv, &device) != 0) &&
        skip("a block device: no loop device here"))
        return;
    g_strchomp(device);
    GError *error = NULL;
    Qcow2Image *image = read_qcow2(device, &error);
    tool("losetup", "--detach", device, NULL);
    ASSERT_OK(image != NULL, error);
    ck_assert_uint_eq(image->info->virtual_size, 1 << 20);
    ck_assert_uint_eq(image->info->tags->len, 1);
    qcow2_image_free(image);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("qcow2");
    TCase *real = scratch_case(s, "real images");
    tcase_add_loop_test(real, test_geometries, 0, G_N_ELEMENTS(geometries));
    tcase_add_loop_test(real, test_backing, 0, G_N_ELEMENTS(backings));
    tcase_add_test(real, test_backing_name_of_full_length);
    tcase_add_test(real, test_odd_tags);
    tcase_add_test(real, test_tag_sizes);
    tcase_add_test(real, test_bitmaps_and_data_file);
    tcase_add_test(real, test_feature_bits);
    tcase_add_test(real, test_block_device);
    TCase *bad = scratch_case(s, "hostile images");
    tcase_add_loop_test(bad, test_hostile_header, 0, G_N_ELEMENTS(hostile));
    tcase_add_loop_test(bad, test_hostile_tag, 0, G_N_ELEMENTS(hostile_tags));
    tcase_add_test(bad, test_nul_in_backing_name);
    tcase_add_test(bad, test_table_too_long);
    tcase_add_test(bad, test_too_many_extensions);
    tcase_add_test(bad, test_cut_off);
    tcase_add_test(bad, test_random_bytes);
    tcase_add_test(bad, test_no_images);
    return s;
}

int main(void)
{
    return run_suite(suite());
}
