/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A monitor that does what QEMU would not, or not when a test wants it: none of it blocks, crashes or is believed. */
#include "qmp_world.h"
#include "runner.h"

#define QUERY "< query-status\n"
#define ANSWER(id) "> {\"return\": {\"status\": \"running\"}, \"id\": \"" id "\"}\n"
#define STOP_EVENT "> {\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"STOP\"}\n"

/* Before there is a connection. */
static const struct {
    const char *script;
    int code;
    const char *text;
} beginnings[] = {
    {".\n", ETIMEDOUT, "QEMU does not answer"}, /* silent */
    {"", ECONNRESET, "QEMU has ended"},         /* closes at once */
    {"- {\"QMP\": {\"ver", ECONNRESET, "QEMU has ended"},
    {"- {\"QMP\": {\"ver\n.\n", ETIMEDOUT, NULL},
    {"> SSH-2.0-OpenSSH_9.2\n.\n", EPROTO, "no QMP"},
    {"> []\n.\n", EPROTO, "no greeting, answer, error or event"},
    {"> {\"QMP\": 1}\n.\n", EPROTO, NULL},
    {"> {\"return\": {}, \"id\": \"1\"}\n.\n", EPROTO, "does not begin with QMP's greeting"},
    {STOP_EVENT ".\n", EPROTO, "does not begin with QMP's greeting"},
    {GREETING GREETING ".\n", EPROTO, "greets a second time"},
    {GREETING "< qmp_capabilities\n.\n", ETIMEDOUT, "QEMU qmp_capabilities: QEMU does not answer"},
    {GREETING "< qmp_capabilities\n", ECONNRESET, NULL},
    {GREETING "< qmp_capabilities\n> {\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}, \"id\": "
              "\"1\"}\n.\n",
     EIO, "QEMU qmp_capabilities: no"},
    {"*17000000 x\n.\n", EPROTO, "a line of more than 16777216 bytes"},
    {"> {\"QMP\": {\"version\": {\"a\": \"\xff\"}}}\n.\n", EPROTO, NULL},
};

START_TEST(test_beginning)
{
    g_autofree char *path = PATH("q");
    const char *scripts[] = {beginnings[_i].script, NULL};
    Server *server = server_start(path, scripts);
    QmpWait wait = qmp_wait(beginnings[_i].code == ETIMEDOUT ? 200 : 60000, NULL);
    GError *error = NULL;
    Qmp *qmp = qmp_connect(path, NULL, &wait, &error);
    ck_assert_ptr_null(qmp);
    expect_error(&error, beginnings[_i].code, beginnings[_i].text);
    (void)server_end(server); /* what it did not come to say does not matter */
}
END_TEST

/* After a good beginning, the answer to one query-status (command 2). 0: it is good. */
static const struct {
    const char *script;
    int code;
    const char *text;
} answers[] = {
    {QUERY ANSWER("2") ".\n", 0, NULL},
    {QUERY STOP_EVENT STOP_EVENT ANSWER("2") ".\n", 0, NULL}, /* events in front */
    {QUERY "- {\"return\": {\"stat\n- us\": \"running\"}, \"id\":\n>  \"2\"}\n.\n", 0, NULL}, /* in pieces */
    {QUERY "> \n> \r\n" ANSWER("2") ".\n", 0, NULL},
    {QUERY ANSWER("2"), 0, NULL}, /* answers, and is gone */
    {QUERY "> {\"return\": {\"status\": \"running\", \"n\": 18446744073709551615}, \"id\": \"2\"}\n.\n", 0,
     NULL},
    {QUERY, ECONNRESET, "QEMU query-status: QEMU has ended"},
    {QUERY "- {\"return\": {}, \"id\": \"2\"}\n", ECONNRESET, NULL}, /* all but the end of the line */
    {QUERY ANSWER("3") ".\n", EPROTO, "answers a command that was not sent"},
    {QUERY ANSWER("1") ".\n", EPROTO, "answers a command that was not sent"}, /* a second time */
    {QUERY "> {\"return\": {}}\n.\n", EPROTO, "answers a command that was not sent"},
    {QUERY "> {\"return\": {}, \"id\": 2}\n.\n", EPROTO, "answers a command that was not sent"},
    {QUERY "> {\"error\": {\"class\": \"GenericError\", \"desc\": \"what?\"}}\n.\n", EPROTO,
     "QEMU did not understand us: what?"},
    {QUERY "> {\"error\": {\"class\": 1, \"desc\": \"what?\"}, \"id\": \"2\"}\n.\n", EPROTO, NULL},
    {QUERY "> {\"return\": {}, \"error\": {}, \"id\": \"2\"}\n.\n", EPROTO, NULL},
    {QUERY "> }{\n.\n", EPROTO, "a line that is no QMP"},
    {QUERY "*17000000 [\n.\n", EPROTO, "a line of more than"},
    {QUERY "*100000 [\n> \n.\n", EPROTO, "a line that is no QMP"}, /* deep */
    {QUERY ".\n", ETIMEDOUT, NULL},
    {QUERY STOP_EVENT ".\n", ETIMEDOUT, NULL},
    {QUERY "> {\"event\": \"SHUTDOWN\", \"data\": {\"reason\": \"guest-panic\"}}\n", ECONNRESET,
     "guest-panic"},
    {QUERY "> {\"event\": \"SHUTDOWN\", \"data\": {\"reason\": 7}}\n", ECONNRESET, "QEMU has ended"},
    {QUERY "> {\"event\": 7}\n.\n", EPROTO, NULL},
    {QUERY "> {\"error\": {\"class\": \"DeviceNotFound\", \"desc\": \"no 100%s here\"}, \"id\": \"2\"}\n.\n",
     ENODEV, "QEMU query-status: no 100%s here (DeviceNotFound)"},
    {QUERY "> {\"error\": {\"class\": \"GenericError\", \"desc\": \"write: No space left on device\"}, "
           "\"id\": \"2\"}\n.\n",
     ENOSPC, "QEMU query-status: write: No space left on device"},
    {QUERY "> {\"error\": {\"class\": \"GenericError\", \"desc\": \"Node 'a' is busy: node is used\"}, "
           "\"id\": \"2\"}\n.\n",
     EBUSY, NULL},
    {QUERY "> {\"error\": {\"class\": \"GenericError\", \"desc\": \"Failed to get \\\"write\\\" lock\"}, "
           "\"id\": \"2\"}\n.\n",
     EBUSY, NULL},
};

START_TEST(test_answer)
{
    g_autofree char *path = PATH("q"), *script = g_strconcat(HELLO, answers[_i].script, NULL);
    const char *scripts[] = {script, NULL};
    Server *server = server_start(path, scripts);
    Qmp *qmp = qmp_to(path);
    QmpWait wait = qmp_wait(answers[_i].code == ETIMEDOUT ? 200 : 60000, NULL);
    GError *error = NULL;
    g_autoptr(json_t) status = qmp_run(qmp, "query-status", json_object(), &wait, &error);
    if (answers[_i].code == 0) {
        ck_assert_msg(status != NULL, "%s", error ? error->message : "no error");
        ck_assert_str_eq(json_string_value(json_object_get(status, "status")), "running");
    } else {
        ck_assert_ptr_null(status);
        expect_error(&error, answers[_i].code, answers[_i].text);
    }
    qmp_close(qmp);
    server_end(server);
}
END_TEST

/* What was given up is answered late, and twice. */
START_TEST(test_late_answers)
{
    g_autofree char *path = PATH("q");
    const char *scripts[] = {
        HELLO QUERY "< stop\n" ANSWER("2") "> {\"return\": {}, \"id\": \"3\"}\n< cont\n" ANSWER("2") ".\n",
        NULL};
    Server *server = server_start(path, scripts);
    Qmp *qmp = qmp_to(path);
    QmpWait brief = qmp_wait(200, NULL), wait = seconds(60);
    GError *error = NULL;
    ck_assert(!qmp_do(qmp, "query-status", json_object(), &brief, &error));
    expect_error(&error, ETIMEDOUT, NULL);
    ASSERT_OK(qmp_do(qmp, "stop", json_object(), &wait, &error), error);
    ck_assert(!qmp_do(qmp, "cont", json_object(), &wait, &error));
    expect_error(&error, EPROTO, "QEMU cont: the monitor");
    qmp_close(qmp);
    ck_assert(server_end(server));
}
END_TEST

/* Nobody can say whether QEMU has taken a descriptor: another one must not be mixed up with it. */
START_TEST(test_descriptor_of_unknown_fate)
{
    g_autofree char *path = PATH("q");
    const char *scripts[] = {HELLO "< getfd\n.\n", NULL};
    Server *server = server_start(path, scripts);
    Qmp *qmp = qmp_to(path);
    QmpWait brief = qmp_wait(200, NULL), wait = seconds(60);
    GError *error = NULL;
    ck_assert(!qmp_getfd(qmp, "a", STDIN_FILENO, &brief, &error));
    expect_error(&error, ETIMEDOUT, "QEMU getfd");
    ck_assert(!qmp_getfd(qmp, "b", STDIN_FILENO, &wait, &error));
    expect_error(&error, ECONNRESET, "not known whether QEMU has a descriptor");
    qmp_close(qmp);
    ck_assert(server_end(server));
}
END_TEST

static void call_back(gpointer user, const char *name, json_t *data, gint64 usec)
{
    Qmp **qmp = user;
    QmpWait wait = seconds(60);
    g_autoptr(GError) error = NULL;
    ck_assert(!qmp_do(g_atomic_pointer_get(qmp), "stop", json_object(), &wait, &error));
    ck_assert_int_eq(error->code, EDEADLK);
}

START_TEST(test_a_listener_cannot_wait)
{
    g_autofree char *path = PATH("q");
    const char *scripts[] = {
        HELLO "< go\n" STOP_EVENT "> {\"return\": {}, \"id\": \"2\"}\n" ANSWER("2") ".\n", NULL};
    Server *server = server_start(path, scripts);
    Qmp *self = NULL;
    QmpListener listener = {.event = call_back, .user = &self};
    QmpWait wait = seconds(60);
    GError *error = NULL;
    Qmp *qmp = qmp_connect(path, &listener, &wait, &error);
    ASSERT_OK(qmp != NULL, error);
    g_atomic_pointer_set(&self, qmp);
    ASSERT_OK(qmp_do(qmp, "go", json_object(), &wait, &error), error);
    qmp_close(qmp);
    ck_assert(server_end(server));
}
END_TEST

static gpointer cancel_soon(gpointer cancel)
{
    g_usleep(100000);
    g_cancellable_cancel(cancel);
    return NULL;
}

START_TEST(test_cancelled_while_it_connects)
{
    g_autofree char *path = PATH("q");
    const char *scripts[] = {".\n", NULL};
    Server *server = server_start(path, scripts);
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    QmpWait wait = qmp_wait(0, cancel);
    GError *error = NULL;
    GThread *thread = g_thread_new("cancel", cancel_soon, cancel);
    ck_assert_ptr_null(qmp_connect(path, NULL, &wait, &error));
    expect_error(&error, EINTR, "cancelled");
    g_thread_join(thread);
    ck_assert(server_end(server));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("qmp_hostile");
    TCase *tcase = scratch_case(suite, "qmp_hostile");
    tcase_add_loop_test(tcase, test_beginning, 0, (int)G_N_ELEMENTS(beginnings));
    tcase_add_loop_test(tcase, test_answer, 0, (int)G_N_ELEMENTS(answers));
    tcase_add_test(tcase, test_late_answers);
    tcase_add_test(tcase, test_descriptor_of_unknown_fate);
    tcase_add_test(tcase, test_a_listener_cannot_wait);
    tcase_add_test(tcase, test_cancelled_while_it_connects);
    return run_suite(suite);
}
