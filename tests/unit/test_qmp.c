/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The monitor of a real QEMU: greeting, commands, errors, events, descriptors, several threads, and its death. */
#include "qmp_world.h"
#include "runner.h"

#include <signal.h>
#include <sys/wait.h>

START_TEST(test_commands)
{
    g_autofree char *path = PATH("q");
    g_autoptr(Machine) machine = machine_start(path, NULL);
    g_autoptr(Qmp) qmp = qmp_to(path);
    ck_assert_uint_ge(qmp_version(qmp), 70200);
    g_autoptr(json_t) uuid = must_run(qmp, "query-uuid", NULL);
    ck_assert_str_eq(json_string_value(json_object_get(uuid, "UUID")), TEST_UUID);
    json_decref(must_run(qmp, "stop", NULL));
    g_autoptr(json_t) status = must_run(qmp, "query-status", NULL);
    ck_assert_str_eq(json_string_value(json_object_get(status, "status")), "paused");
    g_autoptr(json_t) commands = must_run(qmp, "query-qmp-schema", NULL); /* more than one read */
    ck_assert_uint_gt(json_array_size(commands), 500);
}
END_TEST

static const struct {
    const char *command;
    const char *arguments;
    int code;
    const char *text;
} failures[] = {
    {"frobnicate", "{}", EOPNOTSUPP,
     "QEMU frobnicate: The command frobnicate has not been found (CommandNotFound)"},
    {"stop", "{\"a\": 1}", EIO, "QEMU stop: Parameter 'a' is unexpected"},
    {"block-job-cancel", "{\"device\": \"j\"}", ENODEV, "Block job 'j' not found (DeviceNotActive)"},
    {"job-cancel", "{\"id\": \"j\"}", ENOENT, "QEMU job-cancel: Job not found"},
    {"blockdev-add", "{\"driver\": \"file\", \"node-name\": \"n\", \"filename\": \"/nonexistent/a\"}", ENOENT,
     "Could not open '/nonexistent/a': No such file or directory"},
    {"blockdev-add", "{\"driver\": \"file\", \"node-name\": \"n\", \"filename\": \"/dev/null\"}", EIO,
     "driver requires '/dev/null' to be a"},
    {"getfd", "{\"fdname\": \"f\"}", EIO, "No file descriptor supplied via SCM_RIGHTS"},
};

START_TEST(test_failures)
{
    g_autofree char *path = PATH("q");
    g_autoptr(Machine) machine = machine_start(path, NULL);
    g_autoptr(Qmp) qmp = qmp_to(path);
    QmpWait wait = seconds(20);
    for (guint i = 0; i < G_N_ELEMENTS(failures); i++) {
        GError *error = NULL;
        json_t *arguments = json_loads(failures[i].arguments, 0, NULL);
        ck_assert_ptr_null(qmp_run(qmp, failures[i].command, arguments, &wait, &error));
        expect_error(&error, failures[i].code, failures[i].text);
    }
    GError *error = NULL;
    ck_assert(!qmp_do(qmp, "stop", json_pack("{s:s}", "a", "\xff"), &wait, &error));
    expect_error(&error, EINVAL, "QEMU stop: its arguments are not UTF-8");
    json_decref(must_run(qmp, "query-status", NULL)); /* nothing of that did harm */
}
END_TEST

typedef struct {
    GMutex lock;
    GString *names;
    gint64 usec;
    int code; /* of the end; 0: not heard */
    guint n_ends;
} Heard;

static void hear(gpointer user, const char *name, json_t *data, gint64 usec)
{
    Heard *heard = user;
    g_mutex_lock(&heard->lock);
    g_string_append_printf(heard->names, "%s ", name);
    heard->usec = usec;
    ck_assert(json_is_object(data));
    g_mutex_unlock(&heard->lock);
}

static void hear_end(gpointer user, const GError *why)
{
    Heard *heard = user;
    g_mutex_lock(&heard->lock);
    heard->code = why->code;
    heard->n_ends++;
    g_mutex_unlock(&heard->lock);
}

START_TEST(test_events)
{
    g_autofree char *path = PATH("q");
    g_autoptr(Machine) machine = machine_start(path, NULL);
    Heard heard = {.names = g_string_new(NULL)};
    QmpListener listener = {hear, hear_end, &heard};
    QmpWait wait = seconds(20);
    GError *error = NULL;
    Qmp *qmp = qmp_connect(path, &listener, &wait, &error);
    ASSERT_OK(qmp != NULL, error);
    gint64 before = g_get_real_time();
    guint64 seen = 0;
    json_decref(must_run(qmp, "stop", NULL));
    /* an event may come before the answer or after it */
    ASSERT_OK(qmp_wait_event(qmp, &seen, 20000, &wait, &error), error);
    json_decref(must_run(qmp, "cont", NULL));
    ASSERT_OK(qmp_wait_event(qmp, &seen, 20000, &wait, &error), error);
    ck_assert_uint_eq(seen, 2);
    gint64 start = g_get_monotonic_time();
    ASSERT_OK(qmp_wait_event(qmp, &seen, 50, &wait, &error), error); /* none came */
    ck_assert_int_ge(g_get_monotonic_time() - start, 50000);
    qmp_close(qmp);
    ck_assert_str_eq(heard.names->str, "STOP RESUME ");
    ck_assert(heard.usec >= before - G_USEC_PER_SEC && heard.usec <= g_get_real_time() + G_USEC_PER_SEC);
    ck_assert_int_eq(heard.code, 0); /* we closed it */
    g_string_free(heard.names, TRUE);
}
END_TEST

START_TEST(test_quit)
{
    g_autofree char *path = PATH("q");
    g_autoptr(Machine) machine = machine_start(path, NULL);
    Heard heard = {.names = g_string_new(NULL)};
    QmpListener listener = {hear, hear_end, &heard};
    QmpWait wait = seconds(20);
    GError *error = NULL;
    Qmp *qmp = qmp_connect(path, &listener, &wait, &error);
    ASSERT_OK(qmp != NULL, error);
    json_decref(must_run(qmp, "quit", NULL));
    guint64 seen = 0;
    while (qmp_wait_event(qmp, &seen, 20000, &wait, &error))
        ;
    expect_error(&error, ECONNRESET, "host-qmp-quit");
    ck_assert(!qmp_do(qmp, "query-status", json_object(), &wait, &error));
    expect_error(&error, ECONNRESET, "QEMU query-status: QEMU has ended");
    ck_assert_int_eq(waitpid(machine->pid, NULL, 0), machine->pid);
    machine->pid = 0;
    ck_assert_ptr_null(qmp_connect(path, NULL, &wait, &error)); /* it takes its socket with it */
    expect_error(&error, ENOENT, path);
    qmp_close(qmp);
    ck_assert_str_eq(heard.names->str, "SHUTDOWN ");
    ck_assert_int_eq(heard.code, ECONNRESET);
    ck_assert_uint_eq(heard.n_ends, 1);
    g_string_free(heard.names, TRUE);
}
END_TEST

static gpointer kill_soon(gpointer machine)
{
    g_usleep(300000);
    machine_kill(machine);
    return NULL;
}

/* Killed while a command waits: a stopped QEMU answers nothing. */
START_TEST(test_killed)
{
    g_autofree char *path = PATH("q");
    g_autoptr(Machine) machine = machine_start(path, NULL);
    g_autoptr(Qmp) qmp = qmp_to(path);
    QmpWait wait = qmp_wait(0, NULL);
    GError *error = NULL;
    machine_freeze(machine);
    GThread *thread = g_thread_new("kill", kill_soon, machine);
    ck_assert(!qmp_do(qmp, "query-status", json_object(), &wait, &error));
    expect_error(&error, ECONNRESET, "QEMU query-status: QEMU has ended, or closed its monitor");
    g_thread_join(thread);
    ck_assert_ptr_null(qmp_connect(path, NULL, &wait, &error)); /* the socket's file is left */
    expect_error(&error, ECONNREFUSED, path);
}
END_TEST

static gpointer cancel_soon(gpointer cancel)
{
    g_usleep(200000);
    g_cancellable_cancel(cancel);
    return NULL;
}

START_TEST(test_impatience)
{
    g_autofree char *path = PATH("q");
    g_autoptr(Machine) machine = machine_start(path, NULL);
    g_autoptr(Qmp) qmp = qmp_to(path);
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    QmpWait brief = qmp_wait(1000, NULL), cancelled = qmp_wait(0, cancel);
    GError *error = NULL;
    guint64 seen = 0;
    machine_freeze(machine);
    ck_assert(!qmp_do(qmp, "stop", json_object(), &brief, &error));
    expect_error(&error, ETIMEDOUT, "QEMU stop: QEMU does not answer");
    GThread *thread = g_thread_new("cancel", cancel_soon, cancel);
    ck_assert(!qmp_do(qmp, "query-status", json_object(), &cancelled, &error));
    expect_error(&error, EINTR, "QEMU query-status: cancelled");
    g_thread_join(thread);
    ck_assert(!qmp_do(qmp, "cont", json_object(), &cancelled, &error)); /* not even sent */
    expect_error(&error, EINTR, NULL);
    ck_assert(!qmp_wait_event(qmp, &seen, 1000, &cancelled, &error));
    expect_error(&error, EINTR, NULL);
    kill(machine->pid, SIGCONT);
    /* late answers are nobody's; the first command was done all the same */
    g_autoptr(json_t) status = must_run(qmp, "query-status", NULL);
    ck_assert_str_eq(json_string_value(json_object_get(status, "status")), "paused");
}
END_TEST

/* More than a socket takes, into a QEMU that does not read. */
START_TEST(test_stuck_in_the_middle)
{
    g_autofree char *path = PATH("q");
    g_autoptr(Machine) machine = machine_start(path, NULL);
    g_autoptr(Qmp) qmp = qmp_to(path);
    QmpWait brief = qmp_wait(1000, NULL);
    GError *error = NULL;
    g_autofree char *much = g_strnfill(4 << 20, 'a');
    machine_freeze(machine);
    ck_assert(!qmp_do(qmp, "getfd", json_pack("{s:s}", "fdname", much), &brief, &error));
    expect_error(&error, ETIMEDOUT, "QEMU getfd: QEMU does not answer");
    QmpWait wait = seconds(20);
    ck_assert(!qmp_do(qmp, "query-status", json_object(), &wait, &error));
    expect_error(&error, ECONNRESET, "QEMU query-status: a command was sent in part");
    kill(machine->pid, SIGCONT);
    g_autoptr(Qmp) again = qmp_to(path);
    json_decref(must_run(again, "query-status", NULL));
}
END_TEST

START_TEST(test_nobody_silent_busy)
{
    g_autofree char *path = PATH("q"), *none = PATH("none"), *file = PATH("file");
    QmpWait brief = qmp_wait(1000, NULL);
    GError *error = NULL;
    ck_assert_ptr_null(qmp_connect(none, NULL, &brief, &error));
    expect_error(&error, ENOENT, none);
    ck_assert(g_file_set_contents(file, "", 0, NULL));
    ck_assert_ptr_null(qmp_connect(file, NULL, &brief, &error));
    expect_error(&error, EINVAL, "it is no socket");

    g_autoptr(Machine) machine = machine_start(path, NULL);
    Qmp *first = qmp_to(path);
    for (guint i = 0; i < 6; i++) { /* those that gave up stay in QEMU's queue: in the end it is full */
        brief = qmp_wait(300, NULL);
        ck_assert_ptr_null(qmp_connect(path, NULL, &brief, &error));
        expect_error(&error, EBUSY, i == 0 ? "another monitor client is connected" : NULL);
    }
    qmp_close(first);
    qmp_close(qmp_to(path)); /* and is free again */

    machine_await_no_client(machine);
    machine_freeze(machine);
    brief = qmp_wait(1000, NULL);
    ck_assert_ptr_null(qmp_connect(path, NULL, &brief, &error));
    expect_error(&error, ETIMEDOUT, "QEMU does not answer");
}
END_TEST

START_TEST(test_long_path)
{
    g_autofree char *dir = PATH("d"), *name = g_strnfill(200, 'n');
    g_autofree char *long_dir = g_build_filename(dir, name, NULL),
                    *path = g_build_filename(long_dir, name, NULL);
    ck_assert_int_eq(g_mkdir_with_parents(long_dir, 0755), 0);
    g_autofree char *short_path = PATH("q");
    g_autoptr(Machine) machine = machine_start(short_path, NULL);
    ck_assert_int_eq(link(short_path, path), 0);
    g_autoptr(Qmp) qmp = qmp_to(path);
    json_decref(must_run(qmp, "query-status", NULL));
    QmpWait brief = qmp_wait(300, NULL);
    GError *error = NULL;
    ck_assert_ptr_null(qmp_connect(path, NULL, &brief, &error)); /* known by the name that QEMU gave it */
    expect_error(&error, EBUSY, "another monitor client is connected");
}
END_TEST

static gpointer run_many(gpointer qmp)
{
    QmpWait wait = seconds(60);
    for (int i = 0; i < 200; i++) {
        /* the answer must be that of this command */
        g_autofree char *name = g_strdup_printf("%p-%d", (void *)g_thread_self(), i);
        g_autoptr(GError) error = NULL;
        if (qmp_do(qmp, name, json_object(), &wait, &error) || !strstr(error->message, name))
            return (gpointer) "wrong answer";
        g_autoptr(json_t) uuid = qmp_run(qmp, "query-uuid", json_object(), &wait, NULL);
        if (!json_object_get(uuid, "UUID"))
            return (gpointer) "no answer";
    }
    return NULL;
}

START_TEST(test_many_threads)
{
    g_autofree char *path = PATH("q");
    g_autoptr(Machine) machine = machine_start(path, NULL);
    g_autoptr(Qmp) qmp = qmp_to(path);
    GThread *threads[4];
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("many", run_many, qmp);
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        ck_assert_ptr_null(g_thread_join(threads[i]));
}
END_TEST

/* A machine's memory through a descriptor of ours; the name can be used again. */
START_TEST(test_getfd)
{
    g_autofree char *path = PATH("q"), *memory = PATH("memory");
    g_autoptr(Machine) machine = machine_start(path, NULL);
    g_autoptr(Qmp) qmp = qmp_to(path);
    QmpWait wait = seconds(60);
    GError *error = NULL;
    int wrong = open("/dev/null", O_RDWR | O_CLOEXEC);
    int fd = open(memory, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    ASSERT_OK(qmp_getfd(qmp, "mem", wrong, &wait, &error), error);
    ASSERT_OK(qmp_getfd(qmp, "mem", fd, &wait, &error), error);
    close(wrong);
    json_decref(must_run(qmp, "migrate", "{\"uri\": \"fd:mem\"}"));
    for (guint64 seen = 0;;) {
        g_autoptr(json_t) state = must_run(qmp, "query-migrate", NULL);
        const char *status = json_string_value(json_object_get(state, "status"));
        ck_assert_str_ne(status, "failed");
        if (strcmp(status, "completed") == 0)
            break;
        ASSERT_OK(qmp_wait_event(qmp, &seen, 20, &wait, &error), error);
    }
    char magic[4] = {0};
    ck_assert_int_eq(pread(fd, magic, sizeof magic, 0), sizeof magic);
    ck_assert_mem_eq(magic, "QEVM", sizeof magic);
    close(fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("qmp");
    TCase *tcase = scratch_case(suite, "qmp");
    tcase_add_test(tcase, test_commands);
    tcase_add_test(tcase, test_failures);
    tcase_add_test(tcase, test_events);
    tcase_add_test(tcase, test_quit);
    tcase_add_test(tcase, test_killed);
    tcase_add_test(tcase, test_impatience);
    tcase_add_test(tcase, test_stuck_in_the_middle);
    tcase_add_test(tcase, test_nobody_silent_busy);
    tcase_add_test(tcase, test_long_path);
    tcase_add_test(tcase, test_many_threads);
    tcase_add_test(tcase, test_getfd);
    return run_suite(suite);
}
