/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who may do what while a disk is read, and what a reader does when somebody else writes. */
#include "disk_calls.h"
#include "lockprobe.h"
#include "runner.h"

/* 1 MiB on 64 KiB clusters, whose first 128 KiB are @pattern. */
static void make_image(const char *path, int pattern)
{
    tool("qemu-img", "create", "-q", "-f", "qcow2", path, "1M", NULL);
    write_pattern(path, pattern, "0 128k");
}

static void make_overlay(const char *path, const char *base, int pattern)
{
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", path, NULL);
    write_pattern(path, pattern, "64k 64k");
}

/* --- frozen --- */

static void assert_cannot_be_written(const char *path)
{
    GError *error = NULL;
    ck_assert_int_eq(backend->ops->take(backend, path, &error), -1);
    expect_error(&error, EBUSY, path);
    ck_assert(!backend->ops->tag_create(backend, path, "tag", NULL, &error));
    expect_error(&error, EBUSY, path);
    ck_assert_int_eq(use_of(path), USE_READER);
}

static void assert_free(const char *path)
{
    GError *error = NULL;
    int fd = backend->ops->take(backend, path, &error);
    ASSERT_OK(fd >= 0, error);
    close(fd);
}

START_TEST(frozen)
{
    g_autofree char *base = PATH("base"), *top = PATH("top");
    make_image(base, 1);
    make_overlay(top, base, 2);
    DiskReader *reader = disk_open(LAYERS(QCOW2(top), QCOW2(base)), DISK_FROZEN, NULL);
    assert_cannot_be_written(base);
    assert_cannot_be_written(top);
    Holder other = hold(top, TRUE); /* who only reads is welcome */
    let_go(&other);
    disk_holds(reader, 0, 65536, 1);
    disk_holds(reader, 65536, 65536, 2);
    disk_reader_free(reader);
    assert_free(base);
    assert_free(top);
}
END_TEST

START_TEST(frozen_but_written)
{
    g_autofree char *base = PATH("base"), *top = PATH("top");
    make_image(base, 1);
    make_overlay(top, base, 2);
    Holder writer = hold(top, FALSE);
    disk_is_refused(LAYERS(QCOW2(top), QCOW2(base)), DISK_FROZEN, NULL, EBUSY, top);
    DiskReader *lower = disk_open(LAYERS(QCOW2(base)), DISK_FROZEN, NULL);
    disk_holds(lower, 65536, 65536, 1);
    disk_reader_free(lower);
    let_go(&writer);
    writer = hold(base, FALSE);
    disk_is_refused(LAYERS(QCOW2(top), QCOW2(base)), DISK_FROZEN, NULL, EBUSY, base);
    let_go(&writer);
}
END_TEST

/* What has lost its name is read to the end. */
START_TEST(unlinked)
{
    g_autofree char *base = PATH("base"), *top = PATH("top");
    make_image(base, 1);
    make_overlay(top, base, 2);
    DiskReader *reader = disk_open(LAYERS(QCOW2(top), QCOW2(base)), DISK_FROZEN, NULL);
    ck_assert_int_eq(unlink(base), 0);
    ck_assert_int_eq(unlink(top), 0);
    make_image(base, 9);
    disk_holds(reader, 0, 65536, 1);
    disk_holds(reader, 65536, 65536, 2);
    disk_reader_free(reader);
}
END_TEST

/* --- internal snapshots --- */

static void assert_tag_stays(const char *path, const char *tag)
{
    GError *error = NULL;
    g_autofree char *before = file_hash(path);
    ck_assert(!backend->ops->tag_delete(backend, path, tag, NULL, &error));
    expect_error(&error, EBUSY, path);
    g_autofree char *after = file_hash(path);
    ck_assert_str_eq(after, before);
}

START_TEST(tag_is_not_deleted)
{
    g_autofree char *path = PATH("image");
    make_image(path, 1);
    tag_ok(path, "one");
    write_pattern(path, 2, "0 128k");
    tag_ok(path, "two");
    DiskReader *reader = disk_open(LAYERS(QCOW2(path)), DISK_TAG, "one");
    DiskReader *other = disk_open(LAYERS(QCOW2(path)), DISK_TAG, "two");
    assert_tag_stays(path, "one");
    write_pattern(path, 3, "0 128k"); /* its machine goes on, and so do its snapshots */
    tag_ok(path, "three");
    apply_ok(path, "one");
    disk_holds(reader, 0, 131072, 1);
    disk_holds(other, 0, 131072, 2);
    disk_reader_free(reader);
    delete_ok(path, "one"); /* another one is read, and stays */
    assert_tag_stays(path, "two");
    disk_holds(other, 0, 131072, 2);
    disk_reader_free(other);
    delete_ok(path, "two");
    assert_check_clean(path);
}
END_TEST

START_TEST(tag_that_is_being_deleted)
{
    g_autofree char *path = PATH("image");
    GError *error = NULL;
    make_image(path, 1);
    tag_ok(path, "one");
    tag_ok(path, "two");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ASSERT_OK(lockprobe_drop_tag(fd, path, "one", &error), error);
    disk_reader_free(disk_open(LAYERS(QCOW2(path)), DISK_TAG, "two"));
    disk_is_refused(LAYERS(QCOW2(path)), DISK_TAG, "one", EBUSY, "deletes an internal snapshot");
    close(fd);
    disk_reader_free(disk_open(LAYERS(QCOW2(path)), DISK_TAG, "one"));
}
END_TEST

/* What the tag stands on is frozen, the image that has it is not. */
START_TEST(tag_below_a_writer)
{
    g_autofree char *base = PATH("base"), *top = PATH("top");
    make_image(base, 1);
    make_overlay(top, base, 2);
    tag_ok(top, "one");
    Holder writer = hold(top, FALSE);
    DiskReader *reader = disk_open(LAYERS(QCOW2(top), QCOW2(base)), DISK_TAG, "one");
    disk_holds(reader, 0, 65536, 1);
    disk_holds(reader, 65536, 65536, 2);
    let_go(&writer);
    writer = hold(top, FALSE); /* a machine starts */
    let_go(&writer);
    assert_cannot_be_written(base);
    disk_reader_free(reader);
    assert_free(base);
}
END_TEST

typedef struct {
    const char *path;
    gint stop;
} Churn;

/* The table of snapshots moves all the time, and clusters are used again. */
static gpointer churn(gpointer data)
{
    Churn *work = data;
    while (!g_atomic_int_get(&work->stop)) {
        tool("qemu-img", "snapshot", "-c", "passing", work->path, NULL);
        write_pattern(work->path, 7, "0 256k");
        tool("qemu-img", "snapshot", "-d", "passing", work->path, NULL);
        write_pattern(work->path, 8, "64k 256k");
    }
    return NULL;
}

START_TEST(tag_of_an_image_that_lives)
{
    g_autofree char *path = PATH("image");
    make_image(path, 1);
    tag_ok(path, "one");
    Churn work = {.path = path};
    GThread *thread = g_thread_new("churn", churn, &work);
    gint64 end = g_get_monotonic_time() + 2 * G_USEC_PER_SEC;
    guint opened = 0;
    while (g_get_monotonic_time() < end || opened == 0) {
        GError *error = NULL;
        DiskReader *reader = disk_try_open(LAYERS(QCOW2(path)), DISK_TAG, "one", &error);
        ASSERT_OK(reader != NULL, error);
        disk_holds(reader, 0, 131072, 1);
        disk_holds(reader, 131072, 131072, 0);
        disk_reader_free(reader);
        opened++;
    }
    g_atomic_int_set(&work.stop, TRUE);
    g_thread_join(thread);
}
END_TEST

START_TEST(tags_not_there)
{
    g_autofree char *path = PATH("image"), *raw = PATH("raw");
    make_image(path, 1);
    tag_ok(path, "same");
    tool("qemu-img", "snapshot", "-c", "same", path, NULL);
    touch(raw, 0600);
    disk_is_refused(LAYERS(QCOW2(path)), DISK_TAG, "none", ENOENT, "has no tag 'none'");
    disk_is_refused(LAYERS(QCOW2(path)), DISK_TAG, "same", EINVAL, "several");
    disk_is_refused(LAYERS(RAW(raw)), DISK_TAG, "none", EIO, "no internal snapshots");
}
END_TEST

/* --- active --- */

static void assert_over(DiskReader *reader)
{
    GError *error = NULL;
    DiskExtent extent;
    ck_assert(!disk_reads(reader, 0, 512, 1, &error));
    expect_error(&error, EIO, "opened for writing");
    ck_assert(!reader->ops->extent(reader, 0, &extent, &error));
    expect_error(&error, EIO, "opened for writing");
}

START_TEST(active_and_a_writer)
{
    g_autofree char *path = PATH("image");
    make_image(path, 1);
    Holder writer = hold(path, FALSE);
    disk_is_refused(LAYERS(QCOW2(path)), DISK_ACTIVE, NULL, EBUSY, path);
    let_go(&writer);
    DiskReader *reader = disk_open(LAYERS(QCOW2(path)), DISK_ACTIVE, NULL);
    disk_holds(reader, 0, 131072, 1);
    ck_assert_int_eq(use_of(path), USE_NONE);
    writer = hold(path, FALSE); /* nothing keeps the machine from starting */
    assert_over(reader);
    let_go(&writer);
    assert_over(reader);
    disk_reader_free(reader);
}
END_TEST

START_TEST(active_and_one_who_came_and_went)
{
    g_autofree char *path = PATH("image");
    make_image(path, 1);
    DiskReader *reader = disk_open(LAYERS(QCOW2(path)), DISK_ACTIVE, NULL);
    write_pattern(path, 1, "0 64k");
    assert_over(reader);
    disk_reader_free(reader);
    reader = disk_open(LAYERS(QCOW2(path)), DISK_ACTIVE, NULL);
    tool("qemu-img", "info", "-f", "qcow2", path, NULL);
    disk_holds(reader, 0, 131072, 1);
    disk_reader_free(reader);
}
END_TEST

START_TEST(active_stands_on_what_is_frozen)
{
    g_autofree char *base = PATH("base"), *top = PATH("top");
    make_image(base, 1);
    make_overlay(top, base, 2);
    DiskReader *reader = disk_open(LAYERS(QCOW2(top), QCOW2(base)), DISK_ACTIVE, NULL);
    assert_cannot_be_written(base);
    disk_holds(reader, 65536, 65536, 2);
    disk_reader_free(reader);
}
END_TEST

/* --- the chain --- */

START_TEST(another_file)
{
    g_autofree char *path = PATH("image"), *other = PATH("other");
    FileLook look;
    make_image(path, 1);
    make_image(other, 2);
    ck_assert(file_look(path, &look, NULL));
    DiskLayer layer = {.path = path, .format = FORMAT_QCOW2, .id = look.id};
    disk_reader_free(disk_open(LAYERS(layer), DISK_FROZEN, NULL));
    ck_assert_int_eq(rename(other, path), 0);
    disk_is_refused(LAYERS(layer), DISK_FROZEN, NULL, ESTALE, path);
    ck_assert_int_eq(unlink(path), 0);
    disk_is_refused(LAYERS(layer), DISK_FROZEN, NULL, ENOENT, path);
}
END_TEST

START_TEST(headers_disagree)
{
    g_autofree char *base = PATH("base"), *top = PATH("top"), *raw = PATH("raw");
    make_image(base, 1);
    make_overlay(top, base, 2);
    touch(raw, 0600);
    disk_is_refused(LAYERS(QCOW2(top)), DISK_FROZEN, NULL, EIO, "stands on");
    disk_is_refused(LAYERS(QCOW2(base), QCOW2(top)), DISK_FROZEN, NULL, EIO, "stands alone");
    disk_is_refused(LAYERS(RAW(raw), QCOW2(base)), DISK_FROZEN, NULL, EIO, "stands on nothing");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("diskreader locks");
    TCase *states = backend_case(s, "states");
    tcase_add_test(states, frozen);
    tcase_add_test(states, frozen_but_written);
    tcase_add_test(states, unlinked);
    tcase_add_test(states, active_and_a_writer);
    tcase_add_test(states, active_and_one_who_came_and_went);
    tcase_add_test(states, active_stands_on_what_is_frozen);
    TCase *tags = backend_case(s, "tags");
    tcase_add_test(tags, tag_is_not_deleted);
    tcase_add_test(tags, tag_that_is_being_deleted);
    tcase_add_test(tags, tag_below_a_writer);
    tcase_add_test(tags, tag_of_an_image_that_lives);
    tcase_add_test(tags, tags_not_there);
    TCase *chain = backend_case(s, "chain");
    tcase_add_test(chain, another_file);
    tcase_add_test(chain, headers_disagree);
    return s;
}

int main(void)
{
    return run_suite(suite());
}
