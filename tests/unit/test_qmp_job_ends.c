/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Jobs that do not come to their end by themselves: cancelled, killed, left behind; what the disks hold then is compared. */
#include "qmp_disks.h"
#include "runner.h"

#include <signal.h>

static void cancel_at_once(gpointer cancel, double part)
{
    g_cancellable_cancel(cancel);
}

START_TEST(test_cancel)
{
    g_autofree char *socket = PATH("q");
    g_autoptr(World) world = world_new(socket);
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    BackendProgress progress = {cancel_at_once, cancel}; /* it is in the middle when it says so */
    QmpJobSpec spec = {.id = "stream-1", .progress = &progress}, slow = {.id = "stream-2"};
    QmpWait wait = qmp_wait(0, cancel), brief = qmp_wait(500, NULL);
    GError *error = NULL;
    ck_assert(
        !qmp_job_run(world->qmp, "block-stream", stream_arguments(world, 1 << 20), &spec, &wait, &error));
    expect_error(&error, EINTR, "cancelled");
    no_jobs(world);
    ck_assert(
        !qmp_job_run(world->qmp, "block-stream", stream_arguments(world, 1 << 20), &slow, &brief, &error));
    expect_error(&error, ETIMEDOUT, NULL);
    no_jobs(world);
    /* before it begins */
    ck_assert(!qmp_job_run(world->qmp, "block-stream", stream_arguments(world, 0), &spec, &wait, &error));
    expect_error(&error, EINTR, "cancelled");
    no_jobs(world);
    content_is_the_same(world, world->top);
    g_autofree char *backing = backing_of(world->top);
    ck_assert_str_eq(backing, "./middle.qcow2");
}
END_TEST

static void kill_machine(gpointer machine, double part)
{
    ck_assert(part < 1);
    if (part > 0)
        machine_kill(machine);
}

START_TEST(test_killed_in_the_middle)
{
    static const char *const commands[] = {"block-stream", "block-commit"};
    g_autofree char *socket = in_scratch(commands[_i], "q");
    g_autoptr(World) world = world_new(socket);
    BackendProgress progress = {kill_machine, world->machine};
    QmpJobSpec spec = {.id = "j", .progress = &progress};
    QmpWait wait = seconds(60);
    GError *error = NULL;
    json_t *arguments = stream_arguments(world, 1 << 20);
    if (_i == 1) /* from the middle one */
        json_object_set_new(arguments, "top", json_string(world->middle));
    ck_assert(!qmp_job_run(world->qmp, commands[_i], arguments, &spec, &wait, &error));
    expect_error(&error, ECONNRESET, "QEMU has ended");
    content_is_the_same(world, world->top);
}
END_TEST

typedef struct {
    Machine *machine;
    gulong usec;
} Killer;

static gpointer kill_later(gpointer data)
{
    const Killer *killer = data;
    g_usleep(killer->usec);
    machine_kill(killer->machine);
    return NULL;
}

/* While QEMU saves it answers nothing: the command itself waits. */
START_TEST(test_killed_while_it_saves)
{
    g_autofree char *name = g_strdup_printf("saves-%d", _i);
    g_autofree char *socket = in_scratch(name, "q");
    g_autoptr(World) world = world_new(socket);
    Killer killer = {world->machine, 2000 + 15000 * (gulong)_i};
    QmpJobSpec spec = {.id = "save-1"};
    QmpWait wait = seconds(60);
    g_autoptr(GError) error = NULL;
    GThread *thread = g_thread_new("kill", kill_later, &killer);
    gboolean saved =
        qmp_job_run(world->qmp, "snapshot-save", save_arguments("s1", "vdafmt"), &spec, &wait, &error);
    g_thread_join(thread);
    ck_assert_msg(saved || error->code == ECONNRESET, "%s", saved ? "" : error->message);
    content_is_the_same(world, world->top);
}
END_TEST

static json_t *slow_stream(World *world, const char *id)
{
    json_t *arguments = stream_arguments(world, 1 << 20);
    json_object_set_new(arguments, "job-id", json_string(id));
    json_object_set_new(arguments, "auto-dismiss", json_false());
    json_object_set_new(arguments, "auto-finalize", json_false());
    return arguments;
}

/* Begun by one connection, followed by another: a daemon that starts again. */
START_TEST(test_follow)
{
    g_autofree char *socket = PATH("q");
    g_autoptr(World) world = world_new(socket);
    Hook hook = {world};
    QmpJobSpec spec = {.id = "old", .before_end = stop_machine, .user = &hook};
    QmpWait wait = seconds(60);
    GError *error = NULL;
    ASSERT_OK(qmp_do(world->qmp, "block-stream", slow_stream(world, "old"), &wait, &error), error);
    qmp_close(world->qmp);
    world->qmp = qmp_to(world->socket);
    g_autoptr(GPtrArray) jobs = qmp_jobs(world->qmp, &wait, &error);
    ASSERT_OK(jobs != NULL, error);
    ck_assert_uint_eq(jobs->len, 1);
    const QmpJob *job = jobs->pdata[0];
    ck_assert_str_eq(job->id, "old");
    ck_assert_str_eq(job->type, "stream");
    ck_assert_uint_gt(job->total, 0);
    json_decref(must_run(world->qmp, "block-job-set-speed", "{\"device\": \"old\", \"speed\": 0}"));
    ASSERT_OK(qmp_job_follow(world->qmp, &spec, &wait, &error), error);
    ck_assert_uint_eq(hook.n, 1);
    no_jobs(world);
    content_is_the_same(world, world->top);
}
END_TEST

/* A QEMU that does nothing at all: neither done nor stopped, and it says so. Later it can be cancelled. */
START_TEST(test_does_not_stop)
{
    g_autofree char *socket = PATH("q");
    g_autoptr(World) world = world_new(socket);
    QmpJobSpec spec = {.id = "old", .grace_ms = 300};
    QmpWait wait = seconds(60), brief = qmp_wait(300, NULL);
    GError *error = NULL;
    gboolean done = TRUE;
    ASSERT_OK(qmp_do(world->qmp, "block-stream", slow_stream(world, "old"), &wait, &error), error);
    machine_freeze(world->machine);
    ck_assert(!qmp_job_follow(world->qmp, &spec, &brief, &error));
    expect_error(&error, EINPROGRESS, "QEMU job 'old': it was told to stop and does not");
    brief = qmp_wait(300, NULL);
    ck_assert(!qmp_job_cancel(world->qmp, "old", &brief, &done, &error));
    expect_error(&error, EINPROGRESS, NULL);
    kill(world->machine->pid, SIGCONT);
    ASSERT_OK(qmp_job_cancel(world->qmp, "old", &wait, &done, &error), error);
    ck_assert(!done);
    ASSERT_OK(qmp_job_cancel(world->qmp, "old", &wait, &done, &error), error); /* there is none */
    no_jobs(world);
    content_is_the_same(world, world->top);
}
END_TEST

static void cancel_once(gpointer user, double part)
{
    World **world = user;
    if (*world)
        json_decref(must_run((*world)->qmp, "job-cancel", "{\"id\": \"j\"}"));
    *world = NULL;
}

START_TEST(test_cancelled_by_somebody_else)
{
    g_autofree char *socket = PATH("q");
    g_autoptr(World) world = world_new(socket);
    World *once = world;
    BackendProgress progress = {cancel_once, &once};
    QmpJobSpec spec = {.id = "j", .progress = &progress};
    QmpWait wait = seconds(60);
    GError *error = NULL;
    ck_assert(
        !qmp_job_run(world->qmp, "block-stream", stream_arguments(world, 1 << 20), &spec, &wait, &error));
    expect_error(&error, ECANCELED, "QEMU block-stream: Operation canceled");
    no_jobs(world);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("qmp_job_ends");
    TCase *tcase = scratch_case(suite, "qmp_job_ends");
    tcase_add_test(tcase, test_cancel);
    tcase_add_loop_test(tcase, test_killed_in_the_middle, 0, 2);
    tcase_add_loop_test(tcase, test_killed_while_it_saves, 0, 3);
    tcase_add_test(tcase, test_follow);
    tcase_add_test(tcase, test_does_not_stop);
    tcase_add_test(tcase, test_cancelled_by_somebody_else);
    return run_suite(suite);
}
