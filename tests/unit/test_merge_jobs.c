/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a user sees of merges: jobs while they run, the log, cancel, and that whatever else is asked for goes first. */
#include "runner.h"
#include "story.h"

/* A snapshot s1 of "web" is gone; two megabytes of its overlay are to be moved. @idle_ms: when that begins by itself. */
static World *world_with_work(char *dir)
{
    World *world = world_new(dir);
    g_free(world_image(world, "a.qcow2", 1));
    world_define(world, "web", "a.qcow2", NULL);
    world_create(world, "web", "s1", "vda,snapshot=external");
    world_write(world, "web", "vda", 11);
    world_create(world, "web", "s2", "vda,snapshot=external");
    world_write(world, "web", "vda", 12);
    world_delete(world, "web", "s1");
    return world;
}

static void be_quick(World *world)
{
    world->options.merge_idle_ms = 20;
    world_reopen(world);
}

static char *jobs_text(World *world)
{
    return world_text(world, ENGINE_TEXT_JOBS, 0);
}

/* Wait until there are no jobs. */
static void await_idle(World *world)
{
    for (guint i = 0; i < 2000; i++) {
        g_autofree char *jobs = jobs_text(world);
        if (!*jobs)
            return;
        g_usleep(5000);
    }
    ck_abort_msg("a job does not end");
}

static void assert_right(World *world)
{
    world_assert_hash(world, "s2", "vda", 11, 1);
    world_assert_hash(world, NULL, "vda", 12, 1);
    world_check_clean(world, "web");
}

/* The n-th line of the log from the end, 0 being the last, without its time. Caller frees. */
static char *last_line(World *world, guint n)
{
    g_autofree char *log = world_log(world, "web");
    g_auto(GStrv) lines = g_strsplit(g_strchomp(log), "\n", -1);
    guint len = g_strv_length(lines);
    ck_assert_uint_gt(len, n);
    return g_strdup(lines[len - 1 - n] + strlen("2026-01-01 00:00:00 +0000 "));
}

START_TEST(by_itself)
{
    g_autoptr(World) world = world_with_work(PATH("world"));
    gate_close(CALL_COMMIT, NULL);
    be_quick(world);
    gate_wait(1);
    g_autofree char *jobs = jobs_text(world);
    g_autoptr(GRegex) line = g_regex_new(
        "^\\d+ web: merge 'a.s1' into 'a.qcow2', \\d+ s, 0/\\d+ bytes \\(0%\\)[^\\n]*\\n$", 0, 0, NULL);
    ck_assert_msg(g_regex_match(line, jobs, 0, NULL), "%s", jobs);
    gate_open();
    world_await_files(world, "a.qcow2 a.s2");
    await_idle(world);
    g_autofree char *said = last_line(world, 0);
    ck_assert_str_eq(said, "merge: 'a.s1' into 'a.qcow2'");
    assert_right(world);
}
END_TEST

static gpointer create_s3(gpointer world)
{
    world_create(world, "web", "s3", "vda,snapshot=external");
    return NULL;
}

/* Whatever is asked for cancels what runs and waits for its end; the merge comes later. */
START_TEST(user_goes_first)
{
    g_autoptr(World) world = world_with_work(PATH("world"));
    gate_close(CALL_COMMIT, NULL);
    be_quick(world);
    gate_wait(1);
    GThread *user = g_thread_new("user", create_s3, world);
    gboolean aside = FALSE;
    for (guint i = 0; i < 2000 && !aside; i++, g_usleep(5000)) {
        g_autofree char *jobs = jobs_text(world);
        aside = strstr(jobs, "being cancelled") != NULL;
    }
    gate_open();
    g_thread_join(user);
    ck_assert(aside);
    g_autofree char *current = world_current(world, "web");
    ck_assert_str_eq(current, "s3");
    world_await_files(world, "a.qcow2 a.s2 a.s3");
    await_idle(world);
    assert_right(world);
    world_assert_hash(world, "s3", "vda", 12, 1);
    g_autofree char *log = world_log(world, "web");
    ck_assert_msg(!strstr(log, "cancelled"), "%s", log);
}
END_TEST

static guint job_number(World *world)
{
    g_autofree char *jobs = jobs_text(world);
    guint number = (guint)g_ascii_strtoull(jobs, NULL, 10);
    ck_assert_uint_gt(number, 0);
    return number;
}

/* A cancelled merge is not begun again behind the user's back: only after the next change, or a restart. */
START_TEST(cancelled)
{
    g_autoptr(World) world = world_with_work(PATH(_i ? "restart" : "change"));
    g_autoptr(GError) error = NULL;
    gate_close(CALL_COMMIT, NULL);
    be_quick(world);
    gate_wait(1);
    ASSERT_OK(world->engine->ops->cancel(world->engine, job_number(world), &error), error);
    g_autofree char *cancelling = jobs_text(world);
    ck_assert_msg(strstr(cancelling, "being cancelled"), "%s", cancelling);
    gate_open();
    await_idle(world);
    g_usleep(500 * 1000); /* many times the idle time: it would have begun again */
    g_autofree char *files = world_files(world);
    ck_assert_str_eq(files, "a.qcow2 a.s1 a.s2");
    world_merge(world, "web"); /* nothing to wait for */
    g_autofree char *still = world_files(world);
    ck_assert_str_eq(still, "a.qcow2 a.s1 a.s2");
    assert_right(world);
    g_autofree char *said = last_line(world, 0);
    ck_assert_msg(strstr(said, "merge 'a.s1' into 'a.qcow2': cancelled") != NULL, "%s", said);
    if (_i == 0)
        world_create(world, "web", "s3", "vda,snapshot=internal");
    else
        world_reopen(world);
    world_await_files(world, "a.qcow2 a.s2");
    await_idle(world);
    assert_right(world);
}
END_TEST

/* A merge has begun to write into what once was a state: it cannot become one again, whatever a document says. */
START_TEST(never_a_state_again)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_free(world_image(world, "a.qcow2", 1));
    world_define(world, "web", "a.qcow2", NULL);
    world_create(world, "web", "s1", "vda,snapshot=external");
    world_write(world, "web", "vda", 11);
    world_create(world, "web", "s2", "vda,snapshot=external");
    EngineId domain = world_domain(world, "web");
    g_autofree char *s1 = world_text(world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(world, "web", "s1"));
    world_delete(world, "web", "s1");
    ASSERT_OK(world->engine->ops->redefine(world->engine, domain, 0, s1, strlen(s1), 0, NULL, &error), error);
    world_assert_hash(world, "s1", "vda", 1, 1); /* as long as nothing was merged it can */
    world_delete(world, "web", "s1");
    spy_fail(CALL_COMMIT, "a.s1", ENOSPC);
    world_merge(world, "web");
    spy_fail(0, NULL, 0);
    for (guint i = 0; i < 2; i++, world_reopen(world)) {
        domain = world_domain(world, "web");
        ck_assert(!world->engine->ops->redefine(world->engine, domain, 0, s1, strlen(s1), 0, NULL, &error));
        expect_error(&error, EIO, "a merge has begun to write into it");
    }
    world_merge(world, "web");
    world_assert_hash(world, "s2", "vda", 11, 1);
    world_check_clean(world, "web");
}
END_TEST

/* A failure is said once, does not stop the other merges, and is tried again after the next change. */
START_TEST(failing)
{
    g_autoptr(World) world = world_with_work(PATH("world"));
    spy_fail(CALL_COMMIT, "a.s1", ENOSPC);
    world_create(world, "web", "s3", "vda,snapshot=external");
    world_create(world, "web", "s4", "vda,snapshot=external");
    world_delete(world, "web", "s3");
    world_merge(world, "web");
    spy_fail(0, NULL, 0);
    g_autofree char *files = world_files(world);
    ck_assert_str_eq(files, "a.qcow2 a.s1 a.s3 a.s4");
    g_autofree char *log = world_log(world, "web");
    const char *said = strstr(log, "not merged: 'a.s1' into 'a.qcow2': ");
    ck_assert_msg(said && !strstr(said + 1, "not merged"), "%s", log);
    assert_right(world);
    world_reopen(world);
    world_merge(world, "web");
    g_autofree char *less = world_files(world);
    ck_assert_str_eq(less, "a.qcow2 a.s3 a.s4");
    assert_right(world);
}
END_TEST

/* Somebody has an image open: said, and done when they are gone. */
START_TEST(open_elsewhere)
{
    g_autoptr(World) world = world_with_work(PATH("world"));
    g_autofree char *active = world_layer(world, "web", NULL, "vda", NULL);
    world->options.merge_idle_ms = 20;
    Writer *writer = writer_begin(world, active);
    world_reopen(world);
    for (guint i = 0; i < 2000; i++, g_usleep(5000)) {
        g_autofree char *log = world_log(world, "web");
        if (strstr(log, "not merged"))
            break;
    }
    g_autofree char *said = last_line(world, 0);
    g_autofree char *files = world_files(world);
    writer_end(writer);
    ck_assert_msg(strstr(said, "not merged: 'a.s1' into 'a.qcow2': "), "%s", said);
    ck_assert_str_eq(files, "a.qcow2 a.s1 a.s2");
    world_await_files(world,
                      "a.qcow2 a.s2"); /* it is tried again by itself, 2, 4, ... times the idle time later */
    await_idle(world);
    assert_right(world);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("merge jobs");
    TCase *tcase = scratch_case(suite, "jobs");
    tcase_add_test(tcase, by_itself);
    tcase_add_test(tcase, user_goes_first);
    tcase_add_loop_test(tcase, cancelled, 0, 2);
    tcase_add_test(tcase, never_a_state_again);
    tcase_add_test(tcase, failing);
    tcase_add_test(tcase, open_elsewhere);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
