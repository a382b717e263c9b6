/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The offline backend in trouble: killed operations, missing rights, other users' directories, a full disk.
 */
#include "backend_calls.h"
#include "own_mounts.h"
#include "runner.h"

#include <grp.h>
#include <sys/mount.h>

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
    if (!own_tmpfs(dir, "size=1m") && skip("a full disk: mounting is not permitted"))
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

static Suite *suite(void)
{
    Suite *s = suite_create("trouble");
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
