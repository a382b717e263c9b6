/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The offline backend with real images: headers, overlays, tags, locks. */
#include "backend_calls.h"
#include "lockprobe.h"
#include "runner.h"

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

static const char *const odd_tags[] = {"tag", "1",   "2",           "-d",        "--",
                                       "-a",  "a b", "sn\xc3\xa4p", "new\nline", "\xff"};

/* Ids and names that look like each other's, each with a content of its own (facts/qemu.md A1). */
START_TEST(test_tags)
{
    g_autofree char *path = PATH("image.qcow2");
    char *hashes[G_N_ELEMENTS(odd_tags)];
    touch(path, 0600);
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

START_TEST(test_tags_on_a_block_device)
{
    g_autofree char *path = PATH("image.qcow2"), *losetup = g_find_program_in_path("losetup");
    char *attach[] = {(char *)"losetup", (char *)"--find", (char *)"--show", path, NULL};
    g_autofree char *device = NULL;
    GError *error = NULL;
    tool("qemu-img", "create", "-q", "-f", "qcow2", path, "1M", NULL);
    write_pattern(path, 1, "0 1M");
    ck_assert_int_eq(truncate(path, 8 * MIB), 0);
    g_autofree char *want = content_hash(path, "qcow2", NULL);
    if ((!losetup || geteuid() != 0 || run_argv(attach, &device) != 0) &&
        skip("a block device: no loop device here"))
        return;
    g_strchomp(device);
    gboolean tagged = backend->ops->tag_create(backend, device, "tag", NULL, &error);
    char *write[] = {(char *)"qemu-io",
                     (char *)"-f",
                     (char *)"qcow2",
                     (char *)"-c",
                     (char *)"write -P 2 0 1M",
                     device,
                     NULL};
    int written = run_argv(write, NULL);
    gboolean applied = tagged && backend->ops->tag_apply(backend, device, "tag", NULL, &error);
    gboolean deleted = applied && backend->ops->tag_delete(backend, device, "tag", NULL, &error);
    tool("losetup", "--detach", device, NULL); /* before anything can fail: it would outlive us */
    ASSERT_OK(deleted, error);
    ck_assert_int_eq(written, 0);
    assert_same(path, "qcow2", want);
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
    tool("qemu-img", "check", "-q", "-f", "qcow2", path, NULL); /* readers are welcome */
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
    tcase_add_test(tags, test_tags_on_a_block_device);
    tcase_add_test(tags, test_bitmaps_forbid_apply);
    tcase_add_test(tags, test_cancelled_first);
    tcase_add_test(tags, test_in_use);
    tcase_add_test(tags, test_own_locks);
    return s;
}

int main(void)
{
    return run_suite(suite());
}
