/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A monitor that does what QEMU would not, or not when a test wants it: none of it blocks, crashes or is believed. */
#include "qmp_job.h"
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
    QmpWait wait = qmp_wait(beginnings[_i].code == ETIMEDOUT ? 1000 : 60000, NULL);
    GError *error = NULL;
    Qmp *qmp = qmp_connect(path, NULL, &wait, &error);
    ck_assert_ptr_null(qmp);
    expect_error(&error, beginnings[_i].code, beginnings[_i].text);
    (void)server_end(server); /* what it did not come to say does not matter */
}
END_TEST

/* After a good beginning, the answer to one query-status (command 2). 0: it is good. '!': what the error does not say. */
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
    {QUERY
     "> {\"event\": \"SHUTDOWN\", \"data\": {\"reason\": \"guest-panic\"}}\n> {\"event\": \"RESUME\"}\n",
     ECONNRESET, "!guest-panic"},
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
    QmpWait wait = qmp_wait(answers[_i].code == ETIMEDOUT ? 1000 : 60000, NULL);
    GError *error = NULL;
    g_autoptr(json_t) status = qmp_run(qmp, "query-status", json_object(), &wait, &error);
    if (answers[_i].code == 0) {
        ck_assert_msg(status != NULL, "%s", error ? error->message : "no error");
        ck_assert_str_eq(json_string_value(json_object_get(status, "status")), "running");
    } else {
        const char *text = answers[_i].text;
        gboolean unsaid = text && text[0] == '!';
        ck_assert_ptr_null(status);
        ck_assert(!unsaid || !strstr(error->message, text + 1));
        expect_error(&error, answers[_i].code, unsaid ? NULL : text);
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
    QmpWait brief = qmp_wait(1000, NULL), wait = seconds(60);
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
    QmpWait brief = qmp_wait(1000, NULL), wait = seconds(60);
    GError *error = NULL;
    ck_assert(!qmp_getfd(qmp, "a", STDIN_FILENO, &brief, &error));
    expect_error(&error, ETIMEDOUT, "QEMU getfd");
    ck_assert(!qmp_getfd(qmp, "b", STDIN_FILENO, &wait, &error));
    expect_error(&error, ECONNRESET, "not known whether QEMU has a descriptor");
    qmp_close(qmp);
    ck_assert(server_end(server));
}
END_TEST

#define DONE(id) "> {\"return\": {}, \"id\": \"" id "\"}\n"
#define REFUSED(text, id)                                                                                    \
    "> {\"error\": {\"class\": \"GenericError\", \"desc\": \"" text "\"}, \"id\": \"" id "\"}\n"
#define STARTED "< block-commit\n" DONE("2")
#define JOBS(list, id) "< query-jobs\n> {\"return\": [" list "], \"id\": \"" id "\"}\n"
#define JOB(status, more)                                                                                    \
    "{\"id\": \"j\", \"type\": \"commit\", \"status\": \"" status                                            \
    "\", \"current-progress\": 1, \"total-progress\": 2" more "}"
#define OTHER_JOB "{\"id\": \"k\", \"type\": \"commit\", \"status\": \"running\"}"
#define CANCELED ", \"error\": \"Operation canceled\""

/* The course of a job, after a good beginning. 0: it has done its work. */
static const struct {
    const char *script;
    int code;
    const char *text;
} jobs[] = {
    {STARTED JOBS(OTHER_JOB "," JOB("concluded", ""), "3") "< job-dismiss\n" DONE("4"), 0, NULL},
    {STARTED JOBS(JOB("concluded", ""), "3") "< job-dismiss\n", 0, NULL}, /* and died */
    {STARTED JOBS(JOB("concluded", ", \"error\": \"a: Permission denied\""), "3") "< job-dismiss\n" DONE("4"),
     EACCES, "QEMU block-commit: a: Permission denied"},
    {STARTED JOBS(JOB("running", ""), "3") JOBS(OTHER_JOB, "4"), EIO,
     "QEMU block-commit: somebody else has dismissed it"},
    {STARTED JOBS("7", "3"), EPROTO, "QEMU query-jobs: its answer is no list of jobs"},
    {STARTED "< query-jobs\n" DONE("3"), EPROTO, "QEMU query-jobs: its answer is no list of jobs"},
    {STARTED, ECONNRESET, NULL},
    {"< block-commit\n" REFUSED("Job ID 'j' already in use", "2"), EEXIST, "QEMU block-commit: Job ID"},
    /* ready, but not at the moment */
    {STARTED JOBS(JOB("ready", ""), "3") "< job-complete\n" REFUSED(
         "Job 'j' in state 'standby' cannot accept command verb 'complete'", "4")
         JOBS(JOB("standby", ""), "5") JOBS(JOB("ready", ""), "6") "< job-complete\n" DONE("7")
             JOBS(JOB("ready", ""), "8") JOBS(JOB("pending", ""), "9") "< job-finalize\n" DONE("10")
                 JOBS(JOB("pending", ""), "11") JOBS(JOB("concluded", ""), "12") "< job-dismiss\n" DONE("13"),
     0, NULL},
    /* it cannot be completed at all: cancelled, and why */
    {STARTED JOBS(JOB("ready", ""), "3") "< job-complete\n" REFUSED("Node 'a' is busy",
                                                                    "4") "< job-cancel\n" DONE("5")
         JOBS(JOB("concluded", CANCELED), "6") "< job-dismiss\n" DONE("7"),
     EBUSY, "QEMU job-complete: Node 'a' is busy"},
    {STARTED JOBS(JOB("ready", ""), "3") "< job-complete\n" REFUSED("out of luck",
                                                                    "4") "< job-cancel\n" DONE("5")
         JOBS(JOB("aborting", ""), "6") JOBS(JOB("concluded", CANCELED), "7") "< job-dismiss\n" DONE("8"),
     EIO, "QEMU job-complete: out of luck"},
    /* told to stop, and taken away: it may have done its work */
    {STARTED JOBS(JOB("ready", ""), "3") "< job-complete\n" REFUSED("out of luck", "4") "< job-cancel\n" DONE(
         "5") JOBS(OTHER_JOB, "6"),
     EIO, "how it ended is not known"},
    /* told to stop, and done all the same */
    {STARTED JOBS(JOB("pending", ""), "3") "< job-finalize\n" REFUSED("out of luck",
                                                                      "4") "< job-cancel\n" REFUSED("no", "5")
         JOBS(JOB("concluded", ""), "6") "< job-dismiss\n" DONE("7"),
     0, NULL},
    {STARTED JOBS(JOB("concluded", CANCELED), "3") "< job-dismiss\n" DONE("4"), ECANCELED, NULL},
};

START_TEST(test_job)
{
    g_autofree char *path = PATH("q"), *script = g_strconcat(HELLO, jobs[_i].script, NULL);
    const char *scripts[] = {script, NULL};
    Server *server = server_start(path, scripts);
    Qmp *qmp = qmp_to(path);
    QmpJobSpec spec = {.id = "j"};
    QmpWait wait = seconds(60);
    GError *error = NULL;
    gboolean done = qmp_job_run(qmp, "block-commit", json_object(), &spec, &wait, &error);
    if (jobs[_i].code == 0)
        ASSERT_OK(done, error);
    else
        expect_error(&error, jobs[_i].code, jobs[_i].text);
    qmp_close(qmp);
    ck_assert(server_end(server));
}
END_TEST

static gboolean count(gpointer user, GError **error)
{
    *(guint *)user += 1;
    return TRUE;
}

/* "finalize" comes at a bad moment: who has the last word has it once. */
START_TEST(test_last_word_once)
{
    static const char *const scripts[] = {
        HELLO "< auto-finalize\":false\n" DONE("2") JOBS(JOB("pending", ""), "3") "< job-finalize\n" REFUSED(
            "Job 'j' in state 'paused' cannot accept command verb 'finalize'", "4")
            JOBS(JOB("pending", ""), "5") "< job-finalize\n" DONE("6")
                JOBS(JOB("concluded", ""), "7") "< job-dismiss\n" DONE("8"),
        NULL};
    g_autofree char *path = PATH("q");
    Server *server = server_start(path, scripts);
    Qmp *qmp = qmp_to(path);
    guint n = 0;
    QmpJobSpec spec = {.id = "j", .before_end = count, .user = &n};
    QmpWait wait = seconds(60);
    GError *error = NULL;
    ASSERT_OK(qmp_job_run(qmp, "block-stream", json_object(), &spec, &wait, &error), error);
    ck_assert_uint_eq(n, 1);
    qmp_close(qmp);
    ck_assert(server_end(server));
}
END_TEST

/* Whether it was started is not known: it is looked for, and cancelled. */
START_TEST(test_job_of_unknown_beginning)
{
    static const char *const scripts[] = {HELLO "< block-commit\n< job-cancel\n" DONE("2")
                                              REFUSED("Job not found", "3") JOBS("", "4") ".\n",
                                          HELLO "< block-commit\n< job-cancel\n" DONE("2") DONE("3")
                                              JOBS(JOB("concluded", ""), "4") "< job-dismiss\n",
                                          HELLO "< block-commit\n< job-cancel\n.\n", NULL};
    static const int codes[] = {ETIMEDOUT, 0, EINPROGRESS};
    g_autofree char *path = PATH("q");
    Server *server = server_start(path, scripts);
    for (guint i = 0; i < G_N_ELEMENTS(codes); i++) {
        Qmp *qmp = qmp_to(path);
        QmpJobSpec spec = {.id = "j", .grace_ms = codes[i] == EINPROGRESS ? 200 : 60000};
        QmpWait brief = qmp_wait(1000, NULL);
        GError *error = NULL;
        gboolean done = qmp_job_run(qmp, "block-commit", json_object(), &spec, &brief, &error);
        ck_assert_int_eq(done, codes[i] == 0);
        if (!done)
            expect_error(&error, codes[i], "QEMU block-commit: ");
        qmp_close(qmp);
    }
    ck_assert(server_end(server));
}
END_TEST

static void call_back(gpointer user, const char *name, json_t *data, gint64 usec)
{
    Qmp **qmp = user;
    QmpWait wait = seconds(60);
    GError *error = NULL;
    guint64 seen = 0;
    ck_assert(!qmp_do(g_atomic_pointer_get(qmp), "stop", json_object(), &wait, &error));
    expect_error(&error, EDEADLK, "QEMU stop: a listener cannot wait");
    ck_assert(!qmp_wait_event(g_atomic_pointer_get(qmp), &seen, 60000, &wait, &error));
    expect_error(&error, EDEADLK, NULL);
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
    tcase_add_loop_test(tcase, test_job, 0, (int)G_N_ELEMENTS(jobs));
    tcase_add_test(tcase, test_last_word_once);
    tcase_add_test(tcase, test_job_of_unknown_beginning);
    tcase_add_test(tcase, test_a_listener_cannot_wait);
    tcase_add_test(tcase, test_cancelled_while_it_connects);
    return run_suite(suite);
}
