/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Several at once: one changing job a domain, any number of domains, looking never waits; cancel and wait. */
#include "engine_world.h"
#include "runner.h"

/* A gesture in a thread of its own. */
typedef struct {
    World *world;
    const char *domain, *snapshot;
    GCancellable *cancel;
    gboolean ok;
    GError *error;
    GThread *thread;
} Gesture;

static gpointer create_in_thread(gpointer data)
{
    Gesture *gesture = data;
    g_autoptr(CreateRequest) request = create_request_new();
    request->name = g_strdup(gesture->snapshot);
    gesture->ok = gesture->world->engine->ops->create(gesture->world->engine,
                                                      world_domain(gesture->world, gesture->domain), request,
                                                      gesture->cancel, NULL, &gesture->error);
    return NULL;
}

static Gesture *begin(World *world, const char *domain, const char *snapshot, GCancellable *cancel)
{
    Gesture *gesture = g_new0(Gesture, 1);
    *gesture = (Gesture){.world = world, .domain = domain, .snapshot = snapshot, .cancel = cancel};
    gesture->thread = g_thread_new("gesture", create_in_thread, gesture);
    return gesture;
}

/* Wait for its end; whether it succeeded. The error, if any, into *error. */
static gboolean end(Gesture *gesture, GError **error)
{
    g_thread_join(gesture->thread);
    gboolean ok = gesture->ok;
    if (gesture->error)
        g_propagate_error(error, gesture->error);
    g_free(gesture);
    return ok;
}

static World *two_domains(char *dir)
{
    World *world = world_web(dir);
    g_free(world_image(world, "c.qcow2", 3));
    world_define(world, "other", "c.qcow2", NULL);
    return world;
}

static gboolean try_describe(World *world, const char *snapshot, GError **error)
{
    return world->engine->ops->describe(world->engine, world_snapshot(world, "web", snapshot), "x", NULL,
                                        error);
}

/* While one job works, every other one on the domain is refused, all looking goes on, other domains work. */
START_TEST(one_job)
{
    g_autoptr(World) world = two_domains(PATH("world"));
    g_autoptr(GError) error = NULL;
    const EngineOps *ops = world->engine->ops;
    world_create(world, "web", "s1", NULL);
    EngineId id = world_domain(world, "web");
    g_autofree char *xml = world_text(world, ENGINE_TEXT_DOMAIN_XML, id);
    g_autofree char *document =
        world_text(world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(world, "web", "s1"));
    g_autofree char *idle = world_text(world, ENGINE_TEXT_JOBS, 0);
    ck_assert_str_eq(idle, "");
    gate_close(CALL_TAG_CREATE, "a.qcow2");
    Gesture *job = begin(world, "web", "s2", NULL);
    gate_wait(1);

    RevertRequest revert = {.name = (char *)"s1"};
    gboolean done[] = {
        world_try_create(world, "web", "s3", NULL, &error),
        ops->revert(world->engine, id, &revert, NULL, NULL),
        world_try_delete(world, "web", "s1", DELETE_ONE, NULL),
        world_try_rename(world, "web", "s1", "x", NULL),
        world_try_rename(world, "web", NULL, "x", NULL),
        world_try_rename(world, "other", NULL, "web", NULL),
        world_try_define(world, xml, NULL),
        ops->undefine(world->engine, id, TRUE, NULL, NULL),
        ops->redefine(world->engine, id, 0, document, strlen(document), FALSE, NULL, NULL),
        try_describe(world, "s1", NULL),
    };
    g_autofree char *names = world_names(world, "web");
    g_autofree char *tree = world_tree(world, "web");
    g_autofree char *jobs = world_text(world, ENGINE_TEXT_JOBS, 0);
    guint64 size;
    gint64 when;
    gboolean sized = ops->text_size(world->engine, ENGINE_TEXT_JOBS, 0, &size, &when);
    world_create(world, "other", "s1", NULL);
    world_delete(world, "other", "s1");
    gate_open();
    g_autoptr(GError) why = NULL;
    gboolean ok = end(job, &why);

    ASSERT_OK(ok, why);
    for (gsize i = 0; i < G_N_ELEMENTS(done); i++)
        ck_assert_msg(!done[i], "the %zuth was done", i);
    expect_error(&error, EBUSY, "is at work on 'web' (create 's2')");
    ck_assert_str_eq(names, "s1");
    ck_assert_str_eq(tree, "s1\n  +- (you are here)\n");
    ck_assert_msg(strstr(jobs, " web: create 's2', ") != NULL, "%s", jobs);
    ck_assert(sized && size == strlen(jobs));
    g_autofree char *after = world_names(world, "web");
    g_autofree char *none = world_text(world, ENGINE_TEXT_JOBS, 0);
    ck_assert_str_eq(after, "s1 s2");
    ck_assert_str_eq(none, "");
    world_revert(world, "web", "s1");
    world_check_clean(world, "web");
}
END_TEST

/* Two domains in two threads, both at the gate at the same time. */
START_TEST(two_at_once)
{
    g_autoptr(World) world = two_domains(PATH("world"));
    g_autoptr(GError) error = NULL;
    gate_close(CALL_TAG_CREATE, NULL);
    Gesture *first = begin(world, "web", "s1", NULL);
    Gesture *second = begin(world, "other", "s1", NULL);
    gate_wait(3); /* two disks and one */
    g_autofree char *jobs = world_text(world, ENGINE_TEXT_JOBS, 0);
    gate_open();
    ASSERT_OK(end(first, &error), error);
    ASSERT_OK(end(second, &error), error);
    g_auto(GStrv) lines = g_strsplit(jobs, "\n", -1);
    ck_assert_uint_eq(g_strv_length(lines), 3);
    world_check_clean(world, "web");
    world_check_clean(world, "other");
}
END_TEST

/* Many snapshots of four domains from four threads, looked at by a fifth all the time. */
typedef struct {
    World *world;
    const char *domain;
    guint failures;
} Load;

static gpointer work(gpointer data)
{
    Load *load = data;
    for (guint i = 0; i < 6; i++) {
        g_autofree char *name = g_strdup_printf("s%u", i);
        g_autoptr(GError) error = NULL;
        load->failures += !world_try_create(load->world, load->domain, name,
                                            i % 2 ? "vda,snapshot=external" : NULL, &error);
        if (i == 3)
            load->failures += !world_try_revert(load->world, load->domain, "s1", &error);
    }
    load->failures += !world_try_delete(load->world, load->domain, "s1", DELETE_ONE, NULL);
    return NULL;
}

static gint looking_ends;

/* Everything there is to look at of one domain, once. */
static void look_around(World *world, const char *domain)
{
    const EngineOps *ops = world->engine->ops;
    EngineId id = world_domain(world, domain);
    g_autoptr(GPtrArray) list = ops->list(world->engine, id);
    for (guint i = 0; i < list->len; i++) {
        EngineLook look;
        const EngineEntry *entry = list->pdata[i];
        (void)ops->look(world->engine, entry->id, &look);
        g_ptr_array_unref(ops->disks(world->engine, entry->id));
        GBytes *xml = ops->text(world->engine, ENGINE_TEXT_SNAPSHOT_XML, entry->id, NULL, NULL);
        g_clear_pointer(&xml, g_bytes_unref); /* may be gone by now */
    }
    g_free(world_tree(world, domain));
}

static gpointer keep_looking(gpointer data)
{
    static const char *const domains[] = {"d0", "d1", "d2", "d3"};
    while (!g_atomic_int_get(&looking_ends)) {
        for (guint i = 0; i < G_N_ELEMENTS(domains); i++)
            look_around(data, domains[i]);
        g_usleep(1000);
    }
    return NULL;
}

START_TEST(many)
{
    g_autoptr(World) world = world_new(PATH("world"));
    Load loads[4];
    GThread *threads[4];
    for (guint i = 0; i < 4; i++) {
        static const char *const domains[] = {"d0", "d1", "d2", "d3"};
        g_autofree char *file = g_strdup_printf("%u.qcow2", i);
        g_free(world_image(world, file, 1));
        world_define(world, domains[i], file, NULL);
        loads[i] = (Load){world, domains[i], 0};
    }
    GThread *eyes = g_thread_new("eyes", keep_looking, world);
    for (guint i = 0; i < 4; i++)
        threads[i] = g_thread_new("work", work, &loads[i]);
    for (guint i = 0; i < 4; i++)
        g_thread_join(threads[i]);
    g_atomic_int_set(&looking_ends, 1);
    g_thread_join(eyes);
    for (guint i = 0; i < 4; i++) {
        g_autofree char *names = world_names(world, loads[i].domain);
        ck_assert_uint_eq(loads[i].failures, 0);
        ck_assert_str_eq(names, "s0 s2 s3 s4 s5");
        world_check_clean(world, loads[i].domain);
    }
}
END_TEST

/* --- cancel --- */

START_TEST(cancelled_by_number)
{
    g_autoptr(World) world = two_domains(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *before = world_digest(world, "web");
    const EngineOps *ops = world->engine->ops;
    gate_close(CALL_TAG_CREATE, "b.qcow2"); /* vda's is done by then, or at work */
    Gesture *job = begin(world, "web", "s1", NULL);
    gate_wait(1);
    g_autofree char *jobs = world_text(world, ENGINE_TEXT_JOBS, 0);
    guint number = (guint)g_ascii_strtoull(jobs, NULL, 10);
    gboolean none = ops->cancel(world->engine, number + 1, &error);
    gboolean cancelled = ops->cancel(world->engine, number, NULL);
    g_autofree char *marked = world_text(world, ENGINE_TEXT_JOBS, 0);
    gate_open();
    g_autoptr(GError) why = NULL;
    gboolean ok = end(job, &why);
    ck_assert(!none && cancelled);
    expect_error(&error, ENOENT, "there is no job");
    ck_assert_ptr_nonnull(strstr(marked, "being cancelled"));
    ck_assert(!ok);
    expect_error(&why, EINTR, NULL);
    g_autofree char *after = world_digest(world, "web");
    ck_assert_str_eq(after, before);
    world_create(world, "web", "s1", NULL);
    world_check_clean(world, "web");
}
END_TEST

/* Too late: what has been committed has happened. */
START_TEST(cancelled_too_late)
{
    g_autoptr(World) world = two_domains(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    world_create(world, "web", "s1", NULL);
    gate_close(CALL_TAG_DELETE, NULL);
    world->engine->ops->set_gone(world->engine, NULL, NULL);
    Gesture *job = begin(world, "web", "s2", cancel);
    ASSERT_OK(end(job, &error), error);
    g_cancellable_cancel(cancel);
    gate_open();
    g_autofree char *names = world_names(world, "web");
    ck_assert_str_eq(names, "s1 s2");
    /* one that has fired before anything began: nothing is done */
    job = begin(world, "web", "s3", cancel);
    ck_assert(!end(job, &error));
    expect_error(&error, EINTR, NULL);
    g_autofree char *same = world_names(world, "web");
    ck_assert_str_eq(same, "s1 s2");
    world_check_clean(world, "web");
}
END_TEST

/* --- wait --- */

typedef struct {
    World *world;
    GCancellable *cancel;
    gboolean ok;
    GError *error;
    gint ended;
} Wait;

static gpointer wait_in_thread(gpointer data)
{
    Wait *wait = data;
    wait->ok = wait->world->engine->ops->wait(wait->world->engine, world_domain(wait->world, "web"),
                                              wait->cancel, &wait->error);
    g_atomic_int_set(&wait->ended, 1);
    return NULL;
}

START_TEST(waiting)
{
    g_autoptr(World) world = two_domains(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    const EngineOps *ops = world->engine->ops;
    ASSERT_OK(ops->wait(world->engine, world_domain(world, "web"), NULL, &error), error);
    ASSERT_OK(ops->wait(world->engine, 12345, NULL, &error), error);
    gate_close(CALL_TAG_CREATE, NULL);
    Gesture *job = begin(world, "web", "s1", NULL);
    gate_wait(1);
    Wait patient = {.world = world}, hasty = {.world = world, .cancel = cancel};
    GThread *first = g_thread_new("wait", wait_in_thread, &patient);
    GThread *second = g_thread_new("wait", wait_in_thread, &hasty);
    gboolean other = ops->wait(world->engine, world_domain(world, "other"), NULL, NULL);
    g_cancellable_cancel(cancel);
    g_thread_join(second);
    gint too_early = g_atomic_int_get(&patient.ended);
    gate_open();
    gboolean ok = end(job, &error);
    g_thread_join(first);
    ASSERT_OK(ok, error);
    ck_assert(other && !too_early && patient.ok && !hasty.ok);
    expect_error(&hasty.error, EINTR, "interrupted");
}
END_TEST

/* --- who is told --- */

static void remember(gpointer user, EngineId where, const char *name)
{
    g_string_append_printf(user, "%s%s ", where ? "" : "/", name);
}

START_TEST(told)
{
    g_autoptr(World) world = two_domains(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autoptr(GString) gone = g_string_new(NULL);
    const EngineOps *ops = world->engine->ops;
    ops->set_gone(world->engine, remember, gone);
    world_create(world, "web", "s1", NULL);
    world_create(world, "web", "s2", NULL);
    ck_assert_str_eq(gone->str, "");
    ASSERT_OK(world_try_rename(world, "web", "s2", "neu", &error), error);
    world_delete(world, "web", "s1");
    ASSERT_OK(world_try_rename(world, "web", NULL, "web2", &error), error);
    ck_assert(!world_try_create(world, "web2", "neu", NULL, NULL));
    ASSERT_OK(ops->undefine(world->engine, world_domain(world, "other"), FALSE, NULL, &error), error);
    ck_assert_str_eq(gone->str, "s2 s1 /web /other ");
}
END_TEST

/* Reports: one line a failure, in the domain's log or the mount's; whatever bytes a name has. */
START_TEST(reports)
{
    g_autoptr(World) world = two_domains(PATH("world"));
    g_autoptr(GError) why = NULL;
    snap_set_error(&why, EIO, "two\nlines \x1b and \x7f");
    const EngineOps *ops = world->engine->ops;
    ops->report(world->engine, world_domain(world, "web"), "create 's1'", why);
    ops->report(world->engine, 0, "define", why);
    ops->report(world->engine, 12345, "delete", why);
    g_autofree char *log = world_log(world, "web");
    g_autofree char *mount = world_log(world, NULL);
    ck_assert_ptr_nonnull(strstr(log, " FAILED create 's1': two lines   and  \n"));
    ck_assert_ptr_nonnull(strstr(mount, " FAILED define: two lines"));
    ck_assert_ptr_nonnull(strstr(mount, " FAILED delete: two lines"));
    guint64 size;
    gint64 when;
    ck_assert(ops->text_size(world->engine, ENGINE_TEXT_LOG, world_domain(world, "web"), &size, &when));
    ck_assert_uint_eq(size, strlen(log));
    /* bounded: the older half goes, from a line's beginning on */
    g_autofree char *much = g_strnfill(1000, 'x');
    for (guint i = 0; i < 1200; i++)
        ops->report(world->engine, world_domain(world, "web"), much, why);
    g_autofree char *bounded = world_log(world, "web");
    ck_assert_uint_lt(strlen(bounded), 1024 * 1024 + 2000);
    ck_assert_uint_gt(strlen(bounded), 400 * 1024);
    ck_assert(g_ascii_isdigit(bounded[0]));
    ck_assert(ops->text_size(world->engine, ENGINE_TEXT_LOG, world_domain(world, "web"), &size, &when));
    ck_assert_uint_eq(size, strlen(bounded));
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("parallel");
    TCase *tcase = scratch_case(suite, "parallel");
    tcase_add_test(tcase, one_job);
    tcase_add_test(tcase, two_at_once);
    tcase_add_test(tcase, many);
    tcase_add_test(tcase, cancelled_by_number);
    tcase_add_test(tcase, cancelled_too_late);
    tcase_add_test(tcase, waiting);
    tcase_add_test(tcase, told);
    tcase_add_test(tcase, reports);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
