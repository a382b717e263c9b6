/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Images that are unusual, and ones whose numbers are wrong: each wrong number is named. */
#include "disk_calls.h"
#include "runner.h"

/* Where things are in a new image with clusters of 64 KiB (qemu-img writes them in this order). */
#define CLUSTER 65536
#define L1_AT (3 * CLUSTER)
#define L2_AT (4 * CLUSTER)
#define OFFSET_OF(number) ((guint64)(number)*CLUSTER)

static void poke64(const char *path, off_t offset, guint64 number)
{
    guint64 big = GUINT64_TO_BE(number);
    poke(path, offset, &big, sizeof big);
}

static guint64 peek64(const char *path, off_t offset)
{
    guint64 big = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(pread(fd, &big, sizeof big, offset), sizeof big);
    close(fd);
    return GUINT64_FROM_BE(big);
}

/* 1 MiB; the first cluster is data, the second compressed. */
static char *make_image(char *path, const char *options)
{
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, "1M", NULL);
    write_pattern(path, 1, "0 64k");
    write_pattern(path, 2, "-c 64k 64k");
    ck_assert_uint_eq(peek64(path, 40), L1_AT);
    ck_assert_uint_eq(peek64(path, L1_AT) & ~((guint64)1 << 63), L2_AT);
    return path;
}

static void assert_read_fails(const char *path, const char *why)
{
    GError *error = NULL;
    DiskExtent extent;
    DiskReader *reader = disk_open(LAYERS(QCOW2(path)), DISK_FROZEN, NULL);
    ck_assert(!disk_reads(reader, 0, 4096, 1, &error));
    expect_error(&error, EIO, why);
    ck_assert(!reader->ops->extent(reader, 0, &extent, &error));
    expect_error(&error, EIO, why);
    disk_reader_free(reader);
}

static const struct {
    const char *options;
    off_t offset;
    guint64 number;
    const char *why; /* with "!": it is not even opened */
} damages[] = {
    {"compat=1.1", 36, (guint64)0 << 32, "!L1 table has 0 entries, but 1 are needed"},
    {"compat=1.1", 36, (guint64)0xffffffff << 32, "!L1 table has 4294967295 entries"},
    {"compat=1.1", 40, L1_AT + 512, "!offset 197120 of its L1 table is within a cluster"},
    {"compat=1.1", 40, OFFSET_OF(1000), "!is not within the file"},
    {"compat=1.1", 40, (guint64)1 << 63, "!is not within the file"},
    {"compat=1.1", 40, 0, "!L1 table is where the header is"},
    {"compat=1.1", 24, (guint64)1 << 40, "!entries, but 2048 are needed for 1099511627776 bytes"},
    {"compat=1.1", 72, 2, "!marked it as corrupt"},
    {"compat=1.1", L1_AT, L2_AT | 1, "entry 0 of its L1 table is 0x40001"},
    {"compat=1.1", L1_AT, L2_AT + 512, "entry 0 of its L1 table is 0x40200"},
    {"compat=1.1", L1_AT, L2_AT | (guint64)1 << 62, "entry 0 of its L1 table is 0x4000000000040000"},
    {"compat=1.1", L1_AT, OFFSET_OF(1000), "the L2 table lies outside the file"},
    {"compat=1.1", L1_AT, (guint64)0xffffffffff << 16, "the L2 table lies outside the file"},
    {"compat=1.1", L2_AT, OFFSET_OF(5) + 512, "0x50200 for the disk's byte 0 points into a cluster"},
    {"compat=1.1", L2_AT, OFFSET_OF(5) | 2, "0x50002 for the disk's byte 0 has bits that mean nothing"},
    {"compat=1.1", L2_AT, OFFSET_OF(5) | (guint64)1 << 61, "has bits that mean nothing"},
    {"compat=0.10", L2_AT, OFFSET_OF(5) | 1, "has bits that mean nothing"},
    {"extended_l2=on", L2_AT, OFFSET_OF(5) | 1, "has bits that mean nothing"},
    {"extended_l2=on", L2_AT + 8, (guint64)1 << 32 | 1, "both allocated and zeros"},
    {"extended_l2=on", L2_AT, 0, "allocated, but not where"},
    {"extended_l2=on", L2_AT + 24, 1, "but the cluster is compressed"},
};

START_TEST(damaged)
{
    g_autofree char *path = make_image(PATH("image"), damages[_i].options);
    const char *why = damages[_i].why;
    poke64(path, damages[_i].offset, damages[_i].number);
    if (why[0] == '!')
        disk_is_refused(LAYERS(QCOW2(path)), DISK_FROZEN, NULL, EIO, why + 1);
    else
        assert_read_fails(path, why);
}
END_TEST

/* The same numbers of a tag. */
static const struct {
    off_t offset; /* in the snapshot table */
    guint64 number;
    const char *why;
} tag_damages[] = {
    {0, L1_AT + 512, "is within a cluster"},
    {0, OFFSET_OF(1000), "is not within the file"},
    {8, (guint64)0 << 32 | 1 << 16 | 3 /* the lengths of id and name */, "has 0 entries, but 1 are needed"},
    {48, (guint64)1 << 40, "but 2048 are needed"},
};

START_TEST(damaged_tag)
{
    g_autofree char *path = make_image(PATH("image"), "compat=1.1");
    tag_ok(path, "tag");
    guint64 table = peek64(path, 64);
    disk_reader_free(disk_open(LAYERS(QCOW2(path)), DISK_TAG, "tag"));
    poke64(path, (off_t)table + tag_damages[_i].offset, tag_damages[_i].number);
    disk_is_refused(LAYERS(QCOW2(path)), DISK_TAG, "tag", EIO, tag_damages[_i].why);
    disk_reader_free(disk_open(LAYERS(QCOW2(path)), DISK_FROZEN, NULL));
}
END_TEST

/* The other clusters are read as ever. */
static void assert_second_is_lost(const char *path)
{
    GError *error = NULL;
    DiskReader *reader = disk_open(LAYERS(QCOW2(path)), DISK_FROZEN, NULL);
    ck_assert(!disk_reads(reader, CLUSTER - 512, 1024, 2, &error));
    expect_error(&error, EIO, "does not unpack to 65536 bytes");
    disk_holds(reader, 0, CLUSTER, 1);
    disk_holds(reader, 2 * CLUSTER, CLUSTER, 0);
    disk_reader_free(reader);
}

static const char *const compressions[] = {"compression_type=zlib", "compression_type=zstd"};

START_TEST(packed_wrong)
{
    g_autofree char *path = make_image(PATH("image"), compressions[_i]);
    guint64 entry = peek64(path, L2_AT + 8);
    off_t at = (off_t)(entry & (((guint64)1 << 54) - 1));
    DiskReader *reader = disk_open(LAYERS(QCOW2(path)), DISK_FROZEN, NULL);
    disk_holds(reader, CLUSTER, CLUSTER, 2);
    disk_reader_free(reader);
    g_autofree char *saved = NULL;
    gsize len;
    ck_assert(g_file_get_contents(path, &saved, &len, NULL));
    poke(path, at, "\xff\xff\xff\xff\xff\xff\xff\xff", 8); /* nonsense */
    assert_second_is_lost(path);
    ck_assert(g_file_set_contents(path, saved, (gssize)len, NULL));
    poke64(path, L2_AT + 8, (guint64)1 << 62 | OFFSET_OF(5)); /* another cluster's bytes */
    assert_second_is_lost(path);
    ck_assert(g_file_set_contents(path, saved, (gssize)len, NULL));
    poke64(path, L2_AT + 8, (guint64)1 << 62 | OFFSET_OF(100000)); /* behind the end */
    assert_second_is_lost(path);
}
END_TEST

/* --- unusual, but right --- */

/* What of a cluster is not in the file is zeros, as QEMU reads it. */
START_TEST(short_files)
{
    g_autofree char *path = PATH("image"), *raw = PATH("raw"), *top = PATH("top");
    tool("qemu-img", "create", "-q", "-f", "qcow2", path, "1M", NULL);
    write_pattern(path, 1, "0 128k");
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(truncate(path, st.st_size - 70000), 0);
    DiskReader *reader = disk_open(LAYERS(QCOW2(path)), DISK_FROZEN, NULL);
    disk_holds(reader, 0, 131072 - 70000, 1);
    disk_holds(reader, 131072 - 70000, 70000, 0);
    disk_reader_free(reader);
    touch(raw, 0600);
    poke(raw, 0, "xxxxxxxxxx", 10);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", raw, "-F", "raw", top, "1M", NULL);
    reader = disk_open(LAYERS(QCOW2(top), RAW(raw)), DISK_FROZEN, NULL);
    disk_holds(reader, 0, 10, 'x');
    disk_holds(reader, 10, 1048566, 0);
    disk_reader_free(reader);
    reader = disk_open(LAYERS(RAW(raw)), DISK_FROZEN, NULL);
    ck_assert_uint_eq(reader->size, 512);
    disk_holds(reader, 10, 502, 0);
    disk_reader_free(reader);
}
END_TEST

START_TEST(empty)
{
    g_autofree char *path = PATH("image"), *raw = PATH("raw");
    GError *error = NULL;
    DiskExtent extent;
    char byte;
    tool("qemu-img", "create", "-q", "-f", "qcow2", path, "0", NULL);
    touch(raw, 0600);
    const DiskLayer *chains[] = {LAYERS(QCOW2(path)), LAYERS(RAW(raw))};
    for (guint i = 0; i < 2; i++) {
        DiskReader *reader = disk_open(chains[i], DISK_FROZEN, NULL);
        ck_assert_uint_eq(reader->size, 0);
        ASSERT_OK(reader->ops->read(reader, &byte, 0, 0, &error), error);
        ck_assert(!reader->ops->read(reader, &byte, 1, 0, &error));
        expect_error(&error, EINVAL, "beyond the end");
        ck_assert(!reader->ops->extent(reader, 0, &extent, &error));
        expect_error(&error, EINVAL, "beyond the end");
        disk_reader_free(reader);
    }
}
END_TEST

/* Nothing is taken in proportion to what an image says of itself. */
START_TEST(huge)
{
    g_autofree char *path = PATH("image");
    guint64 size = (guint64)60 << 40;
    g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT, size);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=2M", path, text, NULL);
    write_pattern(path, 5, "50T 64k");
    DiskReader *reader = disk_open(LAYERS(QCOW2(path)), DISK_FROZEN, NULL);
    DiskExtent extent;
    GError *error = NULL;
    guint64 data = 0, at = 0;
    guint calls = 0;
    for (guint64 offset = 0; offset < size; offset += extent.length, calls++) {
        ASSERT_OK(reader->ops->extent(reader, offset, &extent, &error), error);
        if (extent.data) {
            at = data ? at : offset;
            data += extent.length;
        }
    }
    ck_assert_uint_eq(at, (guint64)50 << 40);
    ck_assert_uint_ge(data, 65536);
    ck_assert_uint_le(data, 2 << 20);
    ck_assert_uint_lt(calls, 10000);
    disk_holds(reader, at, 65536, 5);
    disk_reader_free(reader);
}
END_TEST

/* What this reader leaves to QEMU. */
START_TEST(not_native)
{
    g_autofree char *qed = PATH("qed"), *aes = PATH("aes"), *luks = PATH("luks"),
                    *external = PATH("external"), *data = PATH("data");
    g_autofree char *options = g_strdup_printf("data_file=%s", data);
    tool("qemu-img", "create", "-q", "-f", "qed", qed, "1M", NULL);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, external, "1M", NULL);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "--object", "secret,id=s,data=x", "-o",
         "encrypt.format=aes,encrypt.key-secret=s", aes, "1M", NULL);
    tool("cp", aes, luks, NULL);
    poke(luks, 32, "\0\0\0\2", 4); /* under load QEMU may refuse to make one */
    DiskLayer layer = {.path = qed, .format = FORMAT_QED};
    g_autoptr(GError) error = NULL;
    guint64 size;
    ck_assert(backend->ops->disk_size(backend, &(DiskChain){&layer, 1, DISK_FROZEN, NULL}, &size, &error));
    ck_assert_uint_eq(size, MIB);
    disk_is_refused(LAYERS(QCOW2(aes)), DISK_FROZEN, NULL, EOPNOTSUPP, aes);
    disk_is_refused(LAYERS(QCOW2(luks)), DISK_FROZEN, NULL, EOPNOTSUPP, luks);
    disk_is_refused(LAYERS(QCOW2(external)), DISK_FROZEN, NULL, EOPNOTSUPP, external);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("diskreader odd");
    TCase *wrong = backend_case(s, "wrong");
    tcase_add_loop_test(wrong, damaged, 0, G_N_ELEMENTS(damages));
    tcase_add_loop_test(wrong, damaged_tag, 0, G_N_ELEMENTS(tag_damages));
    tcase_add_loop_test(wrong, packed_wrong, 0, G_N_ELEMENTS(compressions));
    TCase *odd = backend_case(s, "odd");
    tcase_add_test(odd, short_files);
    tcase_add_test(odd, empty);
    tcase_add_test(odd, huge);
    tcase_add_test(odd, not_native);
    return s;
}

int main(void)
{
    return run_suite(suite());
}
