/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Jobs of a real QEMU, on real images, that come to their end by themselves; what the disks hold then is compared. */
#include "qmp_disks.h"
#include "runner.h"

static json_t *tag_arguments(const char *tag)
{
    return json_pack("{s:s, s:[s]}", "tag", tag, "devices", "vdafmt");
}

START_TEST(test_snapshot_jobs)
{
    g_autofree char *socket = PATH("q");
    g_autoptr(World) world = world_new(socket);
    QmpWait wait = seconds(60);
    QmpJobSpec save = {.id = "save-1"}, again = {.id = "save-2"}, load = {.id = "load-1"},
               delete = {.id = "d"};
    GError *error = NULL;
    ASSERT_OK(qmp_job_run(world->qmp, "snapshot-save", save_arguments("s1", "vdafmt"), &save, &wait, &error),
              error);
    ck_assert(
        !qmp_job_run(world->qmp, "snapshot-save", save_arguments("s1", "vdafmt"), &again, &wait, &error));
    expect_error(&error, EEXIST, "QEMU snapshot-save: Snapshot 's1' already exists in one or more devices");
    /* the name can be used again: it was dismissed */
    ck_assert(!qmp_job_run(world->qmp, "snapshot-save", save_arguments("s1", "none"), &again, &wait, &error));
    expect_error(&error, ENOENT, "QEMU snapshot-save: ");
    json_decref(must_run(world->qmp, "stop", NULL));
    json_t *arguments = save_arguments("s1", "vdafmt");
    ASSERT_OK(qmp_job_run(world->qmp, "snapshot-load", arguments, &load, &wait, &error), error);
    arguments = save_arguments("nothing", "vdafmt");
    ck_assert(!qmp_job_run(world->qmp, "snapshot-load", arguments, &load, &wait, &error));
    expect_error(&error, ENOENT, "nothing");
    g_autofree char *tags = tags_of(world->top);
    ck_assert_ptr_nonnull(strstr(tags, "s1"));
    ASSERT_OK(qmp_job_run(world->qmp, "snapshot-delete", tag_arguments("s1"), &delete, &wait, &error), error);
    no_jobs(world);
    content_is_the_same(world, world->top);
    g_autofree char *left = tags_of(world->top);
    ck_assert_str_eq(left, "");
}
END_TEST

START_TEST(test_refused)
{
    g_autofree char *socket = PATH("q");
    g_autoptr(World) world = world_new(socket);
    QmpWait wait = seconds(60);
    QmpJobSpec spec = {.id = "j"}, bad_id = {.id = "1 2"};
    GError *error = NULL;
    ck_assert(
        !qmp_job_run(world->qmp, "block-commit", json_pack("{s:s}", "device", "none"), &spec, &wait, &error));
    expect_error(&error, ENODEV, "QEMU block-commit: Device 'none' not found (DeviceNotFound)");
    ck_assert(!qmp_job_run(world->qmp, "block-commit", json_pack("{s:s}", "device", "vdafmt"), &bad_id, &wait,
                           &error));
    expect_error(&error, EIO, "Invalid job ID '1 2'");
    ck_assert(
        !qmp_job_run(world->qmp, "block-commit", json_pack("{s:s}", "device", "\xff"), &spec, &wait, &error));
    expect_error(&error, EINVAL, "not UTF-8");
    ck_assert(!qmp_job_follow(world->qmp, &spec, &wait, &error));
    expect_error(&error, ENOENT, "QEMU job 'j'");
    no_jobs(world);
}
END_TEST

typedef struct {
    double last;
    guint n, n_between;
    gboolean backwards;
} Progress;

static void note_progress(gpointer user, double part)
{
    Progress *progress = user;
    progress->backwards = progress->backwards || part < progress->last || part > 1;
    progress->n++;
    progress->n_between += part > 0 && part < 1;
    progress->last = part;
}

/* Into the middle one, which then is what the machine writes: needs job-complete. */
START_TEST(test_commit_active)
{
    g_autofree char *socket = PATH("q");
    g_autoptr(World) world = world_new(socket);
    QmpWait wait = seconds(60);
    GError *error = NULL;
    Progress seen = {0};
    BackendProgress progress = {note_progress, &seen};
    QmpJobSpec spec = {.id = "commit-1", .progress = &progress};
    json_t *arguments = json_pack("{s:s, s:s}", "device", "vdafmt", "base", world->middle);
    ASSERT_OK(qmp_job_run(world->qmp, "block-commit", arguments, &spec, &wait, &error), error);
    ck_assert(!seen.backwards && seen.last == 1.0);
    g_autoptr(json_t) blocks = must_run(world->qmp, "query-block", NULL);
    g_autofree char *text = json_dumps(blocks, JSON_COMPACT);
    ck_assert_ptr_nonnull(strstr(text, "middle.qcow2"));
    ck_assert_ptr_null(strstr(text, "top.qcow2"));
    no_jobs(world);
    json_decref(must_run(world->qmp, "quit", NULL));
    content_is_the_same(world, world->middle);
}
END_TEST

/* Copied up; QEMU killed as soon as the job is over. */
START_TEST(test_stream)
{
    g_autofree char *socket = PATH("q");
    g_autoptr(World) world = world_new(socket);
    Hook hook = {world};
    Progress seen = {0};
    BackendProgress progress = {note_progress, &seen};
    QmpJobSpec spec = {.id = "stream-1", .before_end = stop_machine, .user = &hook, .progress = &progress};
    QmpWait wait = seconds(60);
    GError *error = NULL;
    ASSERT_OK(qmp_job_run(world->qmp, "block-stream", stream_arguments(world, 8 << 20), &spec, &wait, &error),
              error);
    ck_assert_uint_eq(hook.n, 1);
    ck_assert(!seen.backwards && seen.last == 1.0);
    ck_assert_uint_ge(seen.n_between, 1); /* half a second or more, at this speed */
    content_is_the_same(world, world->top);
    g_autofree char *backing = backing_of(world->top);
    ck_assert_str_eq(backing, "./base.qcow2");
}
END_TEST

/* A commit of the active layer waits twice: ready, and pending. */
START_TEST(test_commit_with_a_last_word)
{
    g_autofree char *socket = PATH("q");
    g_autoptr(World) world = world_new(socket);
    Hook hook = {world};
    QmpJobSpec spec = {.id = "commit-1", .before_end = stop_machine, .user = &hook};
    QmpWait wait = seconds(60);
    GError *error = NULL;
    json_t *arguments = json_pack("{s:s}", "device", "vdafmt"); /* all the way down */
    ASSERT_OK(qmp_job_run(world->qmp, "block-commit", arguments, &spec, &wait, &error), error);
    ck_assert_uint_eq(hook.n, 1);
    no_jobs(world);
    content_is_the_same(world, world->base);
}
END_TEST

START_TEST(test_last_word_is_no)
{
    g_autofree char *socket = PATH("q");
    g_autoptr(World) world = world_new(socket);
    Hook hook = {world, .refuse = TRUE};
    const char *commands[] = {"block-stream", "block-commit"};
    QmpWait wait = seconds(60);
    GError *error = NULL;
    for (guint i = 0; i < G_N_ELEMENTS(commands); i++) {
        QmpJobSpec spec = {.id = "no", .before_end = stop_machine, .user = &hook};
        json_t *arguments = json_pack("{s:s, s:s}", "device", "vdafmt", "base", world->middle);
        ck_assert(!qmp_job_run(world->qmp, commands[i], arguments, &spec, &wait, &error));
        expect_error(&error, EROFS, "not now");
        ck_assert_uint_eq(hook.n, i + 1);
        no_jobs(world);
    }
    QmpJobSpec wrong = {.id = "no", .before_end = stop_machine, .user = &hook};
    ck_assert(!qmp_job_run(world->qmp, "snapshot-delete", tag_arguments("a"), &wrong, &wait, &error));
    expect_error(&error, EINVAL, NULL);
    g_autofree char *backing = NULL;
    content_is_the_same(world, world->top);
    backing = backing_of(world->top);
    ck_assert_str_eq(backing, "./middle.qcow2");
}
END_TEST

/* The disk below breaks: the job's own words. */
START_TEST(test_disk_full)
{
    g_autofree char *socket = PATH("q"), *dir = g_path_get_dirname(socket);
    g_autofree char *base = layer(dir, "base.qcow2", NULL, 0x11, "0 1M");
    g_autofree char *top = layer(dir, "top.qcow2", "base.qcow2", 0x22, "0 2M");
    g_autofree char *below = g_strdup_printf(
        "{\"driver\": \"qcow2\", \"node-name\": \"basefmt\", \"file\": {\"driver\": \"blkdebug\", "
        "\"image\": {\"driver\": \"file\", \"filename\": \"%s\"}, "
        "\"inject-error\": [{\"event\": \"write_aio\", \"errno\": 28}]}}",
        base);
    g_autofree char *disk =
        g_strdup_printf("{\"driver\": \"qcow2\", \"node-name\": \"vdafmt\", \"backing\": \"basefmt\", "
                        "\"file\": {\"driver\": \"file\", \"filename\": \"%s\"}}",
                        top);
    const char *words[] = {"-blockdev", below, "-blockdev", disk, "-device", "virtio-blk-pci,drive=vdafmt",
                           NULL};
    g_autoptr(Machine) machine = machine_start(socket, words);
    g_autoptr(Qmp) qmp = qmp_to(socket);
    QmpJobSpec spec = {.id = "commit-1"};
    QmpWait wait = seconds(60);
    GError *error = NULL;
    json_t *arguments = json_pack("{s:s, s:s}", "device", "vdafmt", "base-node", "basefmt");
    ck_assert(!qmp_job_run(qmp, "block-commit", arguments, &spec, &wait, &error));
    expect_error(&error, ENOSPC, "QEMU block-commit: No space left on device");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("qmp_job");
    TCase *tcase = scratch_case(suite, "qmp_job");
    tcase_add_test(tcase, test_snapshot_jobs);
    tcase_add_test(tcase, test_refused);
    tcase_add_test(tcase, test_commit_active);
    tcase_add_test(tcase, test_stream);
    tcase_add_test(tcase, test_commit_with_a_last_word);
    tcase_add_test(tcase, test_last_word_is_no);
    tcase_add_test(tcase, test_disk_full);
    return run_suite(suite);
}
