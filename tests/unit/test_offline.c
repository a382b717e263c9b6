/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The offline backend with real images: what a machine would read afterwards, and what must not have changed.
 */
#include "images.h"
#include "lockprobe.h"
#include "offline.h"
#include "runner.h"

#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>

#define MIB (1024 * 1024)

static Backend *backend;

static void setup(void)
{
    backend = offline_backend_new(NULL);
}

static void teardown(void)
{
    backend->ops->free(backend);
}

static void touch(const char *path, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fchmod(fd, mode), 0);
    close(fd);
}

static ImageInfo *inspect(const char *path, ImageFormat format)
{
    ImageInfo *info = NULL;
    GError *error = NULL;
    ASSERT_OK(backend->ops->inspect(backend, path, format, &info, &error), error);
    return info;
}

static void create_ok(const OverlaySpec *spec)
{
    GError *error = NULL;
    ASSERT_OK(backend->ops->overlay_create(backend, spec, NULL, &error), error);
}

static void tag_ok(const char *path, const char *tag)
{
    GError *error = NULL;
    ASSERT_OK(backend->ops->tag_create(backend, path, tag, NULL, &error), error);
}

static void apply_ok(const char *path, const char *tag)
{
    GError *error = NULL;
    ASSERT_OK(backend->ops->tag_apply(backend, path, tag, NULL, &error), error);
}

static void delete_ok(const char *path, const char *tag)
{
    GError *error = NULL;
    ASSERT_OK(backend->ops->tag_delete(backend, path, tag, NULL, &error), error);
}

static void copy_out_ok(const char *path, const char *tag, const OverlaySpec *spec)
{
    GError *error = NULL;
    ASSERT_OK(backend->ops->copy_out(backend, path, tag, spec, NULL, &error), error);
}

static void assert_same(const char *path, const char *format, const char *hash)
{
    g_autofree char *now = content_hash(path, format, NULL);
    ck_assert_msg(strcmp(now, hash) == 0, "%s does not hold what it should", path);
}

static void assert_check_clean(const char *path)
{
    tool("qemu-img", "check", "-q", "-f", "qcow2", path, NULL);
}

/* ---- inspect ---- */

START_TEST(test_inspect_raw)
{
    g_autofree char *path = PATH("disk.raw"), *absent = PATH("absent");
    GError *error = NULL;
    touch(path, 0600);
    ck_assert_int_eq(truncate(path, 1000), 0);
    g_autoptr(ImageInfo) info = inspect(path, FORMAT_RAW);
    ck_assert_uint_eq(info->virtual_size, 1024); /* as qemu-img says */
    ck_assert_uint_eq(info->cluster_size, 0);
    ck_assert_uint_eq(info->tags->len, 0);
    ImageInfo *none = NULL;
    ck_assert(!backend->ops->inspect(backend, absent, FORMAT_RAW, &none, &error));
    expect_error(&error, ENOENT, absent);
    ck_assert(!backend->ops->inspect(backend, path, FORMAT_NONE, &none, &error));
    expect_error(&error, EINVAL, "format");
    ck_assert(!backend->ops->inspect(backend, path, FORMAT_QCOW2, &none, &error));
    expect_error(&error, EINVAL, "not a qcow2 image");
    ck_assert_ptr_null(none);
}
END_TEST

/* ---- overlay_create ---- */

static const char *const odd_names[] = {
    "plain", "sp ace",  "quo'te\"d", "com,ma", "col:on",      "new\nline",         "\xc3\xbcml\xc3\xa4ut",
    "-dash", "json:{}", "nbd:x",     "100%s",  "back\\slash", "a,backing_file=zz", "$(id)",
};

START_TEST(test_overlay_with_odd_names)
{
    g_autofree char *base_name = g_strconcat(odd_names[_i], ".base", NULL);
    g_autofree char *base = PATH(base_name), *path = PATH(odd_names[_i]);
    g_autofree char *backing = g_strconcat("./", base_name, NULL);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "--", base, "1M", NULL);
    write_pattern(base, 7, "100k 300k");
    touch(path, 0640);
    struct stat before, after;
    ck_assert_int_eq(stat(path, &before), 0);
    OverlaySpec spec = {path, FORMAT_QCOW2, MIB, backing, FORMAT_QCOW2};
    create_ok(&spec);
    create_ok(&spec); /* may be repeated */
    ck_assert_int_eq(stat(path, &after), 0);
    ck_assert_uint_eq(before.st_ino, after.st_ino);
    ck_assert_uint_eq(before.st_mode, after.st_mode);
    g_autoptr(ImageInfo) info = inspect(path, FORMAT_QCOW2);
    ck_assert_str_eq(info->backing_name, backing);
    ck_assert_int_eq(info->backing_format, FORMAT_QCOW2);
    ck_assert_uint_eq(info->virtual_size, MIB);
    g_autofree char *hash = content_hash(base, "qcow2", NULL);
    assert_same(path, "qcow2", hash);
    tag_ok(path, "tag");
    write_pattern(path, 9, "0 64k");
    apply_ok(path, "tag");
    assert_same(path, "qcow2", hash);
    delete_ok(path, "tag");
    assert_check_clean(path);
}
END_TEST

START_TEST(test_overlay_formats)
{
    g_autofree char *base = PATH("base.raw"), *qed = PATH("overlay.qed"), *qcow2 = PATH("overlay.qcow2");
    g_autofree char *alone = PATH("alone.qcow2");
    touch(base, 0600);
    ck_assert(g_file_set_contents(base, "QFI\xfb a guest can write this into its raw disk", -1, NULL));
    ck_assert_int_eq(truncate(base, 100 * 1024), 0);
    g_autofree char *hash = content_hash(base, "raw", NULL);
    touch(qed, 0600);
    create_ok(&(OverlaySpec){qed, FORMAT_QED, 100 * 1024, "./base.raw", FORMAT_RAW});
    assert_same(qed, "qed", hash);
    touch(qcow2, 0600);
    create_ok(&(OverlaySpec){qcow2, FORMAT_QCOW2, 100 * 1024, "./base.raw", FORMAT_RAW});
    assert_same(qcow2, "qcow2", hash);
    touch(alone, 0600);
    create_ok(&(OverlaySpec){alone, FORMAT_QCOW2, 100 * 1024, NULL, FORMAT_NONE});
    g_autoptr(ImageInfo) info = inspect(alone, FORMAT_QCOW2);
    ck_assert_ptr_null(info->backing_name);
}
END_TEST

START_TEST(test_overlay_refused)
{
    g_autofree char *absent = PATH("absent"), *path = PATH("overlay"), *link = PATH("link");
    g_autofree char *precious = PATH("precious");
    GError *error = NULL;
    touch(path, 0600);
    ck_assert(g_file_set_contents(precious, "precious", -1, NULL));
    ck_assert_int_eq(symlink(precious, link), 0);
    OverlaySpec spec = {absent, FORMAT_QCOW2, MIB, "./base", FORMAT_RAW};
    ck_assert(!backend->ops->overlay_create(backend, &spec, NULL, &error));
    expect_error(&error, ENOENT, absent);
    ck_assert(!g_file_test(absent, G_FILE_TEST_EXISTS));
    spec.path = link;
    ck_assert(!backend->ops->overlay_create(backend, &spec, NULL, &error));
    expect_error(&error, EINVAL, "not a regular file");
    spec.path = path;
    spec.backing_name = "base.2026-11-20T12:00:00"; /* QEMU would look for protocol "base.2026-11-20T12" */
    ck_assert(!backend->ops->overlay_create(backend, &spec, NULL, &error));
    expect_error(&error, EINVAL, "protocol");
    spec.backing_name = "./base";
    spec.backing_format = FORMAT_NONE;
    ck_assert(!backend->ops->overlay_create(backend, &spec, NULL, &error));
    expect_error(&error, EINVAL, "format");
    g_autofree char *name = g_strnfill(1024, 'x');
    name[0] = '/';
    spec.backing_name = name;
    spec.backing_format = FORMAT_RAW;
    ck_assert(!backend->ops->overlay_create(backend, &spec, NULL, &error));
    expect_error(&error, ENAMETOOLONG, NULL);
    g_autofree char *content = NULL;
    ck_assert(g_file_get_contents(precious, &content, NULL, NULL));
    ck_assert_str_eq(content, "precious");
}
END_TEST

/* ---- tags ---- */

static const char *const odd_tags[] = {"tag", "1",   "2",           "-d",        "--",
                                       "-a",  "a b", "sn\xc3\xa4p", "new\nline", "\xff"};

/* Ids and names that look like each other's, each with a content of its own (facts/qemu.md A1). */
START_TEST(test_tags)
{
    g_autofree char *path = PATH("image.qcow2");
    char *hashes[G_N_ELEMENTS(odd_tags)];
    touch(path, 0600);
    /* its backing file does not exist: no call here opens the chain */
    create_ok(&(OverlaySpec){path, FORMAT_QCOW2, MIB, NULL, FORMAT_NONE});
    for (gsize i = 0; i < G_N_ELEMENTS(odd_tags); i++) {
        g_autofree char *where = g_strdup_printf("%zu 64k", i * 65536);
        write_pattern(path, (int)i + 1, where);
        tag_ok(path, odd_tags[i]);
        hashes[i] = content_hash(path, "qcow2", NULL);
    }
    write_pattern(path, 99, "0 1M");
    for (gsize i = G_N_ELEMENTS(odd_tags); i-- > 0;) {
        apply_ok(path, odd_tags[i]);
        assert_same(path, "qcow2", hashes[i]);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(odd_tags); i += 2) {
        delete_ok(path, odd_tags[i]);
        delete_ok(path, odd_tags[i]); /* already gone: fine */
    }
    g_autoptr(ImageInfo) info = inspect(path, FORMAT_QCOW2);
    ck_assert_uint_eq(info->tags->len, G_N_ELEMENTS(odd_tags) / 2);
    for (gsize i = 1; i < G_N_ELEMENTS(odd_tags); i += 2) {
        const ImageTag *tag = g_ptr_array_index(info->tags, i / 2);
        ck_assert_str_eq(tag->name, odd_tags[i]);
        apply_ok(path, odd_tags[i]);
        assert_same(path, "qcow2", hashes[i]);
    }
    assert_check_clean(path);
    for (gsize i = 0; i < G_N_ELEMENTS(hashes); i++)
        g_free(hashes[i]);
}
END_TEST

START_TEST(test_tags_refused)
{
    g_autofree char *path = PATH("image.qcow2"), *raw = PATH("disk.raw"), *latin = PATH("latin\xe9.qcow2");
    g_autofree char *longest = g_strnfill(255, 'x'), *too_long = g_strnfill(256, 'x');
    GError *error = NULL;
    tool("qemu-img", "create", "-q", "-f", "qcow2", path, "1M", NULL);
    tag_ok(path, longest);
    apply_ok(path, longest);
    ck_assert(!backend->ops->tag_create(backend, path, too_long, NULL, &error));
    expect_error(&error, ENAMETOOLONG, NULL);
    ck_assert(!backend->ops->tag_create(backend, path, "", NULL, &error));
    expect_error(&error, EINVAL, NULL);
    ck_assert(!backend->ops->tag_apply(backend, path, "1", NULL, &error)); /* an id, no name */
    expect_error(&error, ENOENT, "no tag '1'");
    tool("qemu-img", "snapshot", "-c", "twin", path, NULL);
    tool("qemu-img", "snapshot", "-c", "twin", path, NULL);
    ck_assert(!backend->ops->tag_delete(backend, path, "twin", NULL, &error));
    expect_error(&error, EINVAL, "several");
    ck_assert(!backend->ops->tag_apply(backend, path, "twin", NULL, &error));
    expect_error(&error, EINVAL, "several");
    g_autoptr(ImageInfo) info = inspect(path, FORMAT_QCOW2);
    ck_assert_uint_eq(info->tags->len, 3);
    touch(raw, 0600);
    ck_assert_int_eq(truncate(raw, MIB), 0);
    ck_assert(!backend->ops->tag_create(backend, raw, "tag", NULL, &error)); /* is not probed */
    expect_error(&error, EIO, "not in qcow2 format");
    tool("qemu-img", "create", "-q", "-f", "qcow2", latin, "1M", NULL);
    ck_assert(!backend->ops->tag_create(backend, latin, "tag", NULL, &error));
    expect_error(&error, EILSEQ, NULL);
}
END_TEST

/* Tags of an overlay whose backing file is not there. */
START_TEST(test_chain_is_not_opened)
{
    g_autofree char *path = PATH("overlay.qcow2"), *out = PATH("out.qcow2");
    touch(path, 0600);
    touch(out, 0600);
    create_ok(&(OverlaySpec){path, FORMAT_QCOW2, MIB, "./not-there", FORMAT_QCOW2});
    tag_ok(path, "tag");
    apply_ok(path, "tag");
    copy_out_ok(path, "tag", &(OverlaySpec){out, FORMAT_QCOW2, MIB, "./not-there", FORMAT_QCOW2});
    delete_ok(path, "tag");
    GError *error = NULL;
    ASSERT_OK(backend->ops->repair(backend, path, &error), error);
}
END_TEST

START_TEST(test_bitmaps_forbid_apply)
{
    g_autofree char *path = PATH("image.qcow2");
    GError *error = NULL;
    tool("qemu-img", "create", "-q", "-f", "qcow2", path, "1M", NULL);
    tool("qemu-img", "bitmap", "--add", path, "bitmap", NULL);
    tag_ok(path, "tag");
    ck_assert(!backend->ops->tag_apply(backend, path, "tag", NULL, &error));
    expect_error(&error, EIO, "qemu-img snapshot: ");
    delete_ok(path, "tag");
}
END_TEST

START_TEST(test_cancelled_first)
{
    g_autofree char *path = PATH("image.qcow2");
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    GError *error = NULL;
    tool("qemu-img", "create", "-q", "-f", "qcow2", path, "1M", NULL);
    g_cancellable_cancel(cancel);
    ck_assert(!backend->ops->tag_create(backend, path, "tag", cancel, &error));
    expect_error(&error, EINTR, "qemu-img snapshot: cancelled");
    g_autoptr(ImageInfo) info = inspect(path, FORMAT_QCOW2);
    ck_assert_uint_eq(info->tags->len, 0);
}
END_TEST

/* ---- in_use ---- */

static ImageUse use_of(const char *path)
{
    ImageUse use = USE_NONE;
    GError *error = NULL;
    ASSERT_OK(backend->ops->in_use(backend, path, &use, &error), error);
    return use;
}

/* A program that holds images open until it is told to go. libcheck ends it when the test fails. */
typedef struct {
    GPid pid;
    int in;
} Holder;

static Holder hold(const char *path, gboolean read_only)
{
    char *argv[] = {(char *)"qemu-io",
                    (char *)"-f",
                    (char *)"qcow2",
                    (char *)path,
                    (char *)(read_only ? "-r" : NULL),
                    NULL};
    Holder holder = {0};
    GError *error = NULL;
    ASSERT_OK(
        g_spawn_async_with_pipes(NULL, argv, NULL,
                                 G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDOUT_TO_DEV_NULL,
                                 NULL, NULL, &holder.pid, &holder.in, NULL, NULL, &error),
        error);
    for (int i = 0; i < 1000 && use_of(path) == USE_NONE; i++)
        g_usleep(5000);
    g_usleep(50000); /* from the first lock to the last one */
    return holder;
}

static void let_go(Holder *holder)
{
    close(holder->in);
    ck_assert_int_eq(waitpid(holder->pid, NULL, 0), holder->pid);
}

START_TEST(test_in_use)
{
    g_autofree char *base = PATH("base.qcow2"), *top = PATH("top.qcow2"), *absent = PATH("absent");
    GError *error = NULL;
    ImageUse use;
    tool("qemu-img", "create", "-q", "-f", "qcow2", base, "1M", NULL);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", top, NULL);
    ck_assert_int_eq(use_of(top), USE_NONE);
    Holder writer = hold(top, FALSE);
    ck_assert_int_eq(use_of(top), USE_WRITER);
    ck_assert_int_eq(use_of(base), USE_READER);
    ck_assert(!backend->ops->tag_create(backend, top, "tag", NULL, &error));
    ck_assert_ptr_null(strstr(error->message, "json:"));
    expect_error(&error, EBUSY, top);
    ck_assert(!backend->ops->tag_create(backend, base, "tag", NULL, &error));
    expect_error(&error, EBUSY, base);
    let_go(&writer);
    ck_assert_int_eq(use_of(top), USE_NONE);
    Holder reader = hold(top, TRUE);
    ck_assert_int_eq(use_of(top), USE_READER);
    ck_assert_int_eq(use_of(base), USE_READER);
    let_go(&reader);
    ck_assert_int_eq(use_of(base), USE_NONE);
    ck_assert(!backend->ops->in_use(backend, absent, &use, &error));
    expect_error(&error, ENOENT, absent);
}
END_TEST

/* The daemon's own "no writers" locks keep writers out and do not look like a user. */
START_TEST(test_own_locks)
{
    g_autofree char *path = PATH("image.qcow2");
    GError *error = NULL;
    tool("qemu-img", "create", "-q", "-f", "qcow2", path, "1M", NULL);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ASSERT_OK(lockprobe_keep_writers_out(fd, path, &error), error);
    ck_assert_int_eq(use_of(path), USE_NONE);
    ck_assert(!backend->ops->tag_create(backend, path, "tag", NULL, &error));
    expect_error(&error, EBUSY, NULL);
    g_autofree char *hash = content_hash(path, "qcow2", NULL); /* readers are welcome */
    close(fd);
    tag_ok(path, "tag");
    Holder writer = hold(path, FALSE);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert(!lockprobe_keep_writers_out(fd, path, &error));
    expect_error(&error, EBUSY, path);
    close(fd);
    let_go(&writer);
}
END_TEST

/* ---- copy_out ---- */

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

#define SOON_US 40000

static gpointer cancel_soon(gpointer cancel)
{
    g_usleep(SOON_US);
    g_cancellable_cancel(cancel);
    return NULL;
}

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

/* ---- repair ---- */

/* Take the "copied" flag from the first L1 entry: what a killed snapshot operation leaves (facts/qemu.md A4).
 */
static void break_flags(const char *path)
{
    guint64 offset, entry;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(pread(fd, &offset, 8, 40), 8);
    offset = GUINT64_FROM_BE(offset);
    ck_assert_int_eq(pread(fd, &entry, 8, (off_t)offset), 8);
    ck_assert(GUINT64_FROM_BE(entry) >> 63);
    entry &= GUINT64_TO_BE(G_MAXINT64);
    ck_assert_int_eq(pwrite(fd, &entry, 8, (off_t)offset), 8);
    close(fd);
}

START_TEST(test_repair)
{
    g_autofree char *path = PATH("image.qcow2");
    GError *error = NULL;
    tool("qemu-img", "create", "-q", "-f", "qcow2", path, "1M", NULL);
    write_pattern(path, 3, "0 300k");
    g_autofree char *hash = content_hash(path, "qcow2", NULL);
    break_flags(path);
    char *check[] = {(char *)"qemu-img", (char *)"check", (char *)"-q", path, NULL};
    ck_assert_int_eq(run_argv(check, NULL), 2);
    ASSERT_OK(backend->ops->repair(backend, path, &error), error);
    assert_check_clean(path);
    assert_same(path, "qcow2", hash);
    ASSERT_OK(backend->ops->repair(backend, path, &error), error); /* nothing to do */
    ck_assert(g_file_set_contents(path, "no image", -1, NULL));
    ck_assert(!backend->ops->repair(backend, path, &error));
    expect_error(&error, EIO, "qemu-img check: ");
}
END_TEST

/* Tag operations killed in the middle: after repair and a second try the content is one of the two. */
START_TEST(test_killed_then_repaired)
{
    g_autofree char *path = PATH("image.qcow2");
    GError *error = NULL;
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=512", path, "8M", NULL);
    write_pattern(path, 1, "0 8M");
    g_autofree char *old = content_hash(path, "qcow2", NULL);
    tag_ok(path, "keep");
    write_pattern(path, 2, "0 8M");
    g_autofree char *present = content_hash(path, "qcow2", NULL);
    for (int i = 0; i < 12; i++) {
        g_autoptr(GCancellable) cancel = g_cancellable_new();
        GThread *thread = g_thread_new("cancel", cancel_soon, cancel);
        g_usleep((gulong)(SOON_US - 1500 * i));
        if (i % 2 == 0)
            (void)backend->ops->tag_create(backend, path, "extra", cancel, NULL);
        else
            (void)backend->ops->tag_delete(backend, path, "extra", cancel, NULL);
        g_thread_join(thread);
        ASSERT_OK(backend->ops->repair(backend, path, &error), error);
        assert_same(path, "qcow2", present);
        if (i % 2)
            delete_ok(path, "extra");
    }
    apply_ok(path, "keep");
    assert_same(path, "qcow2", old);
}
END_TEST

/* ---- identities, modes, full disks ---- */

static void use_everything(const char *dir_of)
{
    g_autofree char *base = g_strconcat(dir_of, "-base", NULL), *path = g_strconcat(dir_of, "-top", NULL);
    g_autofree char *out = g_strconcat(dir_of, "-out", NULL);
    g_autofree char *name = g_path_get_basename(base);
    g_autofree char *backing = g_strconcat("./", name, NULL);
    touch(path, 0600);
    touch(out, 0600);
    create_ok(&(OverlaySpec){path, FORMAT_QCOW2, MIB, backing, FORMAT_QCOW2});
    tag_ok(path, "tag");
    apply_ok(path, "tag");
    copy_out_ok(path, "tag", &(OverlaySpec){out, FORMAT_QCOW2, MIB, backing, FORMAT_QCOW2});
    delete_ok(path, "tag");
    GError *error = NULL;
    ASSERT_OK(backend->ops->repair(backend, path, &error), error);
    assert_check_clean(path);
}

START_TEST(test_as_normal_user)
{
    g_autofree char *image = PATH("image"), *base = PATH("image-base");
    g_autofree char *dir = g_path_get_dirname(image);
    GError *error = NULL;
    tool("qemu-img", "create", "-q", "-f", "qcow2", base, "1M", NULL);
    ck_assert_int_eq(chmod(base, 0444), 0);
    if (geteuid() == 0) { /* this process is this test's only */
        ck_assert_int_eq(chmod(scratch, 0755), 0);
        ck_assert_int_eq(chown(dir, 54321, 54321), 0);
        ck_assert_int_eq(setgroups(0, NULL), 0);
        ck_assert_int_eq(setresgid(54321, 54321, 54321), 0);
        ck_assert_int_eq(setresuid(54321, 54321, 54321), 0);
    }
    use_everything(image);
    g_autofree char *top = PATH("image-top");
    ck_assert_int_eq(chmod(top, 0444), 0);
    ck_assert(!backend->ops->tag_create(backend, top, "tag", NULL, &error));
    expect_error(&error, EACCES, top);
}
END_TEST

START_TEST(test_root_and_modes)
{
    g_autofree char *path = PATH("image.qcow2");
    if (geteuid() != 0 && skip("read-only files as root: not root"))
        return;
    tool("qemu-img", "create", "-q", "-f", "qcow2", path, "1M", NULL);
    tag_ok(path, "tag");
    ck_assert_int_eq(chmod(path, 0), 0);
    apply_ok(path, "tag");
    delete_ok(path, "tag");
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0);
}
END_TEST

/* In somebody's directory root's child is that somebody: it cannot touch what that one cannot. */
START_TEST(test_directory_of_another_user)
{
    g_autofree char *image = PATH("image"), *base = PATH("image-base"), *roots = PATH("roots.qcow2");
    g_autofree char *dir = g_path_get_dirname(image);
    GError *error = NULL;
    if (geteuid() != 0 && skip("a directory of another user: not root"))
        return;
    ck_assert_int_eq(chmod(scratch, 0755), 0);
    tool("qemu-img", "create", "-q", "-f", "qcow2", base, "1M", NULL);
    tool("qemu-img", "create", "-q", "-f", "qcow2", roots, "1M", NULL);
    ck_assert_int_eq(chmod(roots, 0600), 0);
    ck_assert_int_eq(chown(dir, 54321, 54322), 0);
    ck_assert(!backend->ops->tag_create(backend, roots, "tag", NULL, &error));
    expect_error(&error, EACCES, roots);
    static const char *const names[] = {"image-base", "image-top", "image-out"};
    for (gsize i = 1; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_build_filename(dir, names[i], NULL);
        touch(path, 0600);
        ck_assert_int_eq(chown(path, 54321, 54322), 0);
    }
    g_autofree char *top = PATH("image-top"), *out = PATH("image-out");
    create_ok(&(OverlaySpec){top, FORMAT_QCOW2, MIB, "./image-base", FORMAT_QCOW2});
    tag_ok(top, "tag");
    apply_ok(top, "tag");
    copy_out_ok(top, "tag", &(OverlaySpec){out, FORMAT_QCOW2, MIB, "./image-base", FORMAT_QCOW2});
    delete_ok(top, "tag");
    struct stat st;
    ck_assert_int_eq(stat(out, &st), 0);
    ck_assert_uint_eq(st.st_uid, 54321);
}
END_TEST

START_TEST(test_full_disk)
{
    g_autofree char *dir = PATH("full");
    g_autofree char *path = g_build_filename(dir, "image.qcow2", NULL),
                    *out = g_build_filename(dir, "out", NULL);
    GError *error = NULL;
    ck_assert_int_eq(mkdir(dir, 0755), 0);
    /* a mount namespace of this test's process: gone with it */
    if ((unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
         mount("tmpfs", dir, "tmpfs", 0, "size=1m") < 0) &&
        skip("a full disk: mounting is not permitted"))
        return;
    touch(path, 0600);
    create_ok(&(OverlaySpec){path, FORMAT_QCOW2, 4 * MIB, NULL, FORMAT_NONE});
    write_pattern(path, 1, "0 512k");
    tag_ok(path, "tag");
    g_autofree char *filler = g_build_filename(dir, "filler", NULL);
    touch(out, 0600);
    OverlaySpec spec = {out, FORMAT_QCOW2, 4 * MIB, NULL, FORMAT_NONE};
    ck_assert(!backend->ops->copy_out(backend, path, "tag", &spec, NULL, &error));
    expect_error(&error, ENOSPC, "No space left on device");
    ck_assert_int_eq(truncate(out, 0), 0);
    char *fill[] = {(char *)"dd", (char *)"if=/dev/zero", NULL, (char *)"status=none", NULL};
    g_autofree char *of = g_strconcat("of=", filler, NULL);
    fill[2] = of;
    ck_assert_int_ne(run_argv(fill, NULL), 0);
    ck_assert(!backend->ops->overlay_create(backend, &spec, NULL, &error));
    expect_error(&error, ENOSPC, out);
    ck_assert(!backend->ops->tag_create(backend, path, "more", NULL, &error));
    expect_error(&error, ENOSPC, "qemu-img snapshot: ");
    unlink(filler);
    ASSERT_OK(backend->ops->repair(backend, path, &error), error);
    g_autoptr(ImageInfo) info = inspect(path, FORMAT_QCOW2);
    ck_assert_uint_eq(info->tags->len, 1);
}
END_TEST

static TCase *backend_case(Suite *s, const char *name)
{
    TCase *tcase = scratch_case(s, name);
    tcase_add_checked_fixture(tcase, setup, teardown);
    return tcase;
}

static Suite *suite(void)
{
    Suite *s = suite_create("offline");
    TCase *overlays = backend_case(s, "overlays");
    tcase_add_test(overlays, test_inspect_raw);
    tcase_add_loop_test(overlays, test_overlay_with_odd_names, 0, G_N_ELEMENTS(odd_names));
    tcase_add_test(overlays, test_overlay_formats);
    tcase_add_test(overlays, test_overlay_refused);
    TCase *tags = backend_case(s, "tags");
    tcase_add_test(tags, test_tags);
    tcase_add_test(tags, test_tags_refused);
    tcase_add_test(tags, test_chain_is_not_opened);
    tcase_add_test(tags, test_bitmaps_forbid_apply);
    tcase_add_test(tags, test_cancelled_first);
    tcase_add_test(tags, test_in_use);
    tcase_add_test(tags, test_own_locks);
    TCase *copies = backend_case(s, "copies");
    tcase_add_loop_test(copies, test_copy_out, 0, G_N_ELEMENTS(shapes));
    tcase_add_loop_test(copies, test_copy_out_seeds, 0, 8);
    tcase_add_loop_test(copies, test_copy_out_sparse, 0, 2);
    tcase_add_test(copies, test_copy_out_compressed);
    tcase_add_loop_test(copies, test_copy_out_of_another_size, 0, G_N_ELEMENTS(resized));
    tcase_add_test(copies, test_copy_out_refused);
    tcase_add_test(copies, test_copy_out_cancelled);
    TCase *trouble = backend_case(s, "trouble");
    tcase_add_test(trouble, test_repair);
    tcase_add_test(trouble, test_killed_then_repaired);
    tcase_add_test(trouble, test_as_normal_user);
    tcase_add_test(trouble, test_root_and_modes);
    tcase_add_test(trouble, test_directory_of_another_user);
    tcase_add_test(trouble, test_full_disk);
    return s;
}

int main(void)
{
    return run_suite(suite());
}
