/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Running children: what they get, what limits them, how they end, what their messages become. */
#include "images.h"
#include "process.h"
#include "runner.h"

#include <signal.h>
#include <sys/wait.h>

#define SPEC(...)                                                                                            \
    {                                                                                                        \
        .argv = (const char *const[]){__VA_ARGS__, NULL}, .what = "the child", .pass_fd = PROCESS_NO_FD,     \
        .timeout_s = 60, .output_bytes = 1 << 20                                                             \
    }

static ProcessResult *run_ok(const ProcessSpec *spec)
{
    ProcessResult *result = NULL;
    GError *error = NULL;
    ASSERT_OK(process_run(spec, NULL, &result, &error), error);
    return result;
}

static double seconds_since(gint64 start)
{
    return (double)(g_get_monotonic_time() - start) / G_USEC_PER_SEC;
}

static gboolean process_gone(const char *pid_text)
{
    pid_t pid = (pid_t)atoi(pid_text);
    ck_assert_int_gt(pid, 1);
    for (int i = 0; i < 200; i++) { /* it may wait for its new parent to reap it */
        g_autofree char *path = g_strdup_printf("/proc/%d/stat", pid);
        g_autofree char *stat = NULL;
        if (!g_file_get_contents(path, &stat, NULL, NULL) || strstr(stat, ") Z"))
            return TRUE;
        g_usleep(10000);
    }
    return FALSE;
}

START_TEST(test_output_and_status)
{
    ProcessSpec spec = SPEC("sh", "-c", "printf 'out\\0put'; echo oops >&2; exit 7");
    g_autoptr(ProcessResult) result = run_ok(&spec);
    ck_assert_int_eq(result->status, 7);
    ck_assert_uint_eq(result->output->len, 7);
    ck_assert_mem_eq(result->output->str, "out\0put", 7);
    ck_assert_str_eq(result->errors->str, "oops\n");
}
END_TEST

START_TEST(test_words_reach_the_child_unchanged)
{
    ProcessSpec spec = SPEC("printf", "%s|", "$(id)", "a b", "'\"", "*", "", "new\nline", "\xff");
    g_autoptr(ProcessResult) result = run_ok(&spec);
    ck_assert_str_eq(result->output->str, "$(id)|a b|'\"|*||new\nline|\xff|");
}
END_TEST

START_TEST(test_environment_is_small)
{
    g_setenv("QEMU_SECRET", "x", TRUE);
    g_setenv("LC_MESSAGES", "de_DE.UTF-8", TRUE);
    ProcessSpec spec = SPEC("env");
    g_autoptr(ProcessResult) result = run_ok(&spec);
    g_auto(GStrv) lines = g_strsplit(g_strchomp(result->output->str), "\n", -1);
    ck_assert_uint_eq(g_strv_length(lines), 2);
    ck_assert(g_strv_contains((const char *const *)lines, "LC_ALL=C"));
    ck_assert(g_str_has_prefix(lines[0], "PATH=") || g_str_has_prefix(lines[1], "PATH="));
}
END_TEST

START_TEST(test_stdin_is_empty)
{
    ProcessSpec spec = SPEC("cat");
    g_autoptr(ProcessResult) result = run_ok(&spec);
    ck_assert_int_eq(result->status, 0);
    ck_assert_uint_eq(result->output->len, 0);
}
END_TEST

START_TEST(test_directory)
{
    ProcessSpec spec = SPEC("pwd");
    g_autoptr(ProcessResult) root = run_ok(&spec);
    ck_assert_str_eq(root->output->str, "/\n");
    spec.directory = scratch;
    g_autoptr(ProcessResult) there = run_ok(&spec);
    ck_assert_str_eq(g_strchomp(there->output->str), scratch);
}
END_TEST

START_TEST(test_descriptors_are_closed)
{
    int leak = open("/", O_RDONLY | O_DIRECTORY); /* without O_CLOEXEC */
    ck_assert_int_ge(leak, 0);
    ck_assert_int_eq(dup2(leak, 77), 77);
    /* no shell here: it would have pipes of its own */
    ProcessSpec spec = SPEC("ls", "/proc/self/fd");
    g_autoptr(ProcessResult) result = run_ok(&spec);
    ck_assert_str_eq(result->output->str, "0\n1\n2\n3\n"); /* 3: the directory that ls reads */
    close(leak);
    close(77);
}
END_TEST

START_TEST(test_one_descriptor_is_passed)
{
    g_autofree char *path = PATH("passed");
    ck_assert(g_file_set_contents(path, "through descriptor three", -1, NULL));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ProcessSpec spec = SPEC("cat", "/proc/self/fd/3");
    spec.pass_fd = fd;
    g_autoptr(ProcessResult) result = run_ok(&spec);
    ck_assert_str_eq(result->output->str, "through descriptor three");
    close(fd);
}
END_TEST

START_TEST(test_own_group)
{
    ProcessSpec spec = SPEC("cat", "/proc/self/stat");
    g_autoptr(ProcessResult) result = run_ok(&spec);
    int pid = 0, group = 0; /* PID (cat) STATE PARENT GROUP */
    ck_assert_int_eq(sscanf(result->output->str, "%d (cat) %*c %*d %d", &pid, &group), 2);
    ck_assert_int_gt(pid, 1);
    ck_assert_int_eq(pid, group);
}
END_TEST

START_TEST(test_default_signals)
{
    sigset_t mask, old;
    sigfillset(&mask);
    pthread_sigmask(SIG_SETMASK, &mask, &old);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGTERM, SIG_IGN);
    ProcessSpec spec =
        SPEC("grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"); /* a shell clears them itself */
    g_autoptr(ProcessResult) result = run_ok(&spec);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    ck_assert_str_eq(result->output->str, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}
END_TEST

START_TEST(test_no_core)
{
    ProcessSpec spec = SPEC("sh", "-c", "ulimit -c");
    g_autoptr(ProcessResult) result = run_ok(&spec);
    ck_assert_str_eq(result->output->str, "0\n");
}
END_TEST

START_TEST(test_timeout)
{
    ProcessSpec spec = SPEC("sleep", "100");
    spec.timeout_s = 1;
    ProcessResult *result = NULL;
    GError *error = NULL;
    gint64 start = g_get_monotonic_time();
    ck_assert(!process_run(&spec, NULL, &result, &error));
    expect_error(&error, ETIMEDOUT, "the child: not done after 1 seconds");
    ck_assert_ptr_null(result);
    ck_assert(seconds_since(start) >= 0.9 && seconds_since(start) < 3);
}
END_TEST

START_TEST(test_deaf_child_is_killed_with_its_children)
{
    g_autofree char *path = PATH("pid");
    ProcessSpec spec =
        SPEC("sh", "-c", "trap '' TERM; sleep 100 & echo $! > \"$0\"; while :; do sleep 1; done", path);
    spec.timeout_s = 1;
    ProcessResult *result = NULL;
    GError *error = NULL;
    gint64 start = g_get_monotonic_time();
    ck_assert(!process_run(&spec, NULL, &result, &error));
    expect_error(&error, ETIMEDOUT, NULL);
    ck_assert(seconds_since(start) < 10);
    g_autofree char *pid = NULL;
    ck_assert(g_file_get_contents(path, &pid, NULL, NULL));
    ck_assert(process_gone(pid));
}
END_TEST

static gpointer cancel_soon(gpointer cancel)
{
    g_usleep(300000);
    g_cancellable_cancel(cancel);
    return NULL;
}

START_TEST(test_cancel)
{
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    GThread *thread = g_thread_new("cancel", cancel_soon, cancel);
    ProcessSpec spec = SPEC("sleep", "100");
    ProcessResult *result = NULL;
    GError *error = NULL;
    gint64 start = g_get_monotonic_time();
    ck_assert(!process_run(&spec, cancel, &result, &error));
    expect_error(&error, EINTR, "cancelled");
    ck_assert(seconds_since(start) < 2);
    g_thread_join(thread);
}
END_TEST

START_TEST(test_cancelled_too_late_is_done)
{
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    GThread *thread = g_thread_new("cancel", cancel_soon, cancel);
    ProcessSpec spec = SPEC("sh", "-c", "trap 'echo done; exit 0' TERM; sleep 100 & wait");
    ProcessResult *result = NULL;
    GError *error = NULL;
    ASSERT_OK(process_run(&spec, cancel, &result, &error), error);
    ck_assert_int_eq(result->status, 0);
    process_result_free(result);
    g_thread_join(thread);
}
END_TEST

START_TEST(test_cancelled_before_it_starts)
{
    g_autofree char *path = PATH("marker");
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    g_cancellable_cancel(cancel);
    ProcessSpec spec = SPEC("touch", path);
    ProcessResult *result = NULL;
    GError *error = NULL;
    ck_assert(!process_run(&spec, cancel, &result, &error));
    expect_error(&error, EINTR, NULL);
    ck_assert(!g_file_test(path, G_FILE_TEST_EXISTS));
}
END_TEST

START_TEST(test_memory_limit)
{
    ProcessSpec spec = SPEC("dd", "if=/dev/zero", "of=/dev/null", "bs=512M", "count=1");
    spec.memory_bytes = 256u << 20;
    g_autoptr(ProcessResult) small = run_ok(&spec);
    ck_assert_int_ne(small->status, 0);
    ck_assert_ptr_nonnull(strstr(small->errors->str, "memory exhausted"));
    spec.memory_bytes = 1u << 30;
    g_autoptr(ProcessResult) large = run_ok(&spec);
    ck_assert_int_eq(large->status, 0);
}
END_TEST

START_TEST(test_too_much_output)
{
    ProcessSpec spec = SPEC("cat", "/dev/zero");
    ProcessResult *result = NULL;
    GError *error = NULL;
    ck_assert(!process_run(&spec, NULL, &result, &error));
    expect_error(&error, EOVERFLOW, "printed more than");
    ProcessSpec exact = SPEC("head", "-c", "1048576", "/dev/zero");
    g_autoptr(ProcessResult) full = run_ok(&exact);
    ck_assert_uint_eq(full->output->len, 1048576);
}
END_TEST

START_TEST(test_long_errors_keep_both_ends)
{
    ProcessSpec spec = SPEC("sh", "-c", "seq 1 200000 >&2");
    g_autoptr(ProcessResult) result = run_ok(&spec);
    ck_assert_int_eq(result->status, 0);
    ck_assert(g_str_has_prefix(result->errors->str, "1\n2\n3\n"));
    ck_assert(g_str_has_suffix(result->errors->str, "199999\n200000\n"));
    ck_assert_uint_lt(result->errors->len, 100000);
}
END_TEST

START_TEST(test_grandchild_with_our_pipes)
{
    ProcessSpec spec = SPEC("sh", "-c", "sleep 100 & echo $!");
    gint64 start = g_get_monotonic_time();
    g_autoptr(ProcessResult) result = run_ok(&spec);
    ck_assert(seconds_since(start) < 5);
    ck_assert(process_gone(result->output->str));
}
END_TEST

START_TEST(test_bad_ends)
{
    ProcessResult *result = NULL;
    GError *error = NULL;
    ProcessSpec killed = SPEC("sh", "-c", "kill -9 $$");
    ck_assert(!process_run(&killed, NULL, &result, &error));
    expect_error(&error, EIO, "the child: killed by signal 9");
    ProcessSpec missing = SPEC("domsnapfs-no-such-program");
    ck_assert(!process_run(&missing, NULL, &result, &error));
    expect_error(&error, EIO, "domsnapfs-no-such-program");
}
END_TEST

START_TEST(test_identity)
{
    if (geteuid() != 0 && skip("another identity: not root"))
        return;
    ProcessSpec spec = SPEC("sh", "-c", "id -u; id -g; id -G; grep CapEff /proc/self/status");
    spec.identity = (ProcessIdentity){TRUE, 54321, 54322};
    g_autoptr(ProcessResult) result = run_ok(&spec);
    ck_assert_str_eq(result->output->str, "54321\n54322\n54322\nCapEff:\t0000000000000000\n");
}
END_TEST

START_TEST(test_identity_of_directory)
{
    g_autofree char *path = PATH("image");
    ProcessIdentity identity = {0};
    GError *error = NULL;
    ASSERT_OK(process_identity_for(path, &identity, &error), error);
    ck_assert(!identity.set);
    ck_assert(!process_identity_for("/nonexistent-directory/image", &identity, &error));
    expect_error(&error, ENOENT, "/nonexistent-directory");
    if (geteuid() != 0 && skip("a directory of somebody else: not root"))
        return;
    g_autofree char *directory = g_path_get_dirname(path);
    ck_assert_int_eq(chown(directory, 54321, 54322), 0);
    ASSERT_OK(process_identity_for(path, &identity, &error), error);
    ck_assert(identity.set);
    ck_assert_uint_eq(identity.uid, 54321);
    ck_assert_uint_eq(identity.gid, 54322);
}
END_TEST

static gpointer run_many(gpointer data)
{
    for (int i = 0; i < 40; i++) {
        g_autofree char *word = g_strdup_printf("%d-%d", GPOINTER_TO_INT(data), i);
        ProcessSpec spec = SPEC("printf", "%s", word);
        g_autoptr(ProcessResult) result = NULL;
        if (!process_run(&spec, NULL, &result, NULL) || strcmp(result->output->str, word) != 0)
            return (gpointer) "wrong";
    }
    return NULL;
}

START_TEST(test_many_threads)
{
    GThread *threads[8];
    for (int i = 0; i < 8; i++)
        threads[i] = g_thread_new("many", run_many, GINT_TO_POINTER(i));
    for (int i = 0; i < 8; i++)
        ck_assert_ptr_null(g_thread_join(threads[i]));
}
END_TEST

static const struct {
    const char *errors;
    int code;
    const char *message;
} messages[] = {
    {"qemu-img: /a/b: Could not resize file: No space left on device\n", ENOSPC,
     "qemu-img x: /a/b: Could not resize file: No space left on device"},
    {"qemu-img: Could not change the backing file to 'b': No space left in the file header\n", ENOSPC, NULL},
    {"qemu-img: Could not open 'o': Failed to get \"write\" lock\nIs another process using the image [o]?\n",
     EBUSY, "qemu-img x: Could not open 'o': Failed to get \"write\" lock"},
    {"qemu-img: Could not open 'o': Failed to get shared \"write\" lock\nIs another ...?\n", EBUSY, NULL},
    {"qemu-img: Could not open '/a': Could not open '/a': Permission denied\n", EACCES, NULL},
    {"qemu-img: Could not open '/a': Could not open '/a': No such file or directory\n", ENOENT, NULL},
    {"qemu-img: Could not create snapshot 's': -95 (Operation not supported)\n", EOPNOTSUPP, NULL},
    {"qemu-img: warning: something\nqemu-img: bad: Read-only file system\nqemu-img: warning: else\n", EROFS,
     "qemu-img x: bad: Read-only file system"},
    {"qemu-img: 'No space left on device' is an odd name\n", EIO, NULL},
    {"plain words\n\n", EIO, "qemu-img x: plain words"},
    {"qemu-img: bad byte \xff\n", EIO, "qemu-img x: bad byte \xef\xbf\xbd"},
    {"", EIO, "qemu-img x: failed without a word"},
    {"qemu-img: warning: only this\n", EIO, "qemu-img x: failed without a word"},
};

START_TEST(test_complaints)
{
    ck_assert(!process_complained("qemu-img", ""));
    ck_assert(!process_complained("qemu-img", "qemu-img: warning: a thing\nsomething else: broke\n"));
    ck_assert(process_complained("qemu-img",
                                 "qemu-img: warning: a thing\n"
                                 "qemu-img: Failed to flush the L2 table cache: Input/output error\n"));
}
END_TEST

START_TEST(test_messages)
{
    GError *error = NULL;
    process_set_error("qemu-img x", "qemu-img", messages[_i].errors, &error);
    if (messages[_i].message)
        ck_assert_str_eq(error->message, messages[_i].message);
    expect_error(&error, messages[_i].code, NULL);
}
END_TEST

/* Killed in the middle: what it was waiting for ends as well. */
START_TEST(test_dies_with_its_parent)
{
    g_autofree char *note = PATH("pid");
    g_autofree char *script = g_strdup_printf(
        "trap '' TERM HUP INT; echo $$ > %s.new; mv %s.new %s; exec sleep 300", note, note, note);
    g_autofree char *text = NULL;
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        ProcessSpec spec = SPEC("sh", "-c", script);
        run_ok(&spec);
        _exit(0);
    }
    for (guint i = 0; i < 2000 && access(note, F_OK) < 0; i++)
        g_usleep(5000);
    ck_assert(g_file_get_contents(note, &text, NULL, NULL));
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    ck_assert(process_gone(text));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("process");
    TCase *runs = scratch_case(s, "what a child gets");
    tcase_add_test(runs, test_output_and_status);
    tcase_add_test(runs, test_words_reach_the_child_unchanged);
    tcase_add_test(runs, test_environment_is_small);
    tcase_add_test(runs, test_stdin_is_empty);
    tcase_add_test(runs, test_directory);
    tcase_add_test(runs, test_descriptors_are_closed);
    tcase_add_test(runs, test_one_descriptor_is_passed);
    tcase_add_test(runs, test_own_group);
    tcase_add_test(runs, test_default_signals);
    tcase_add_test(runs, test_no_core);
    tcase_add_test(runs, test_identity);
    tcase_add_test(runs, test_identity_of_directory);
    tcase_add_test(runs, test_many_threads);
    TCase *ends = scratch_case(s, "how a child ends");
    tcase_add_test(ends, test_timeout);
    tcase_add_test(ends, test_deaf_child_is_killed_with_its_children);
    tcase_add_test(ends, test_dies_with_its_parent);
    tcase_add_test(ends, test_cancel);
    tcase_add_test(ends, test_cancelled_too_late_is_done);
    tcase_add_test(ends, test_cancelled_before_it_starts);
    tcase_add_test(ends, test_memory_limit);
    tcase_add_test(ends, test_too_much_output);
    tcase_add_test(ends, test_long_errors_keep_both_ends);
    tcase_add_test(ends, test_grandchild_with_our_pipes);
    tcase_add_test(ends, test_bad_ends);
    tcase_add_test(ends, test_complaints);
    tcase_add_loop_test(ends, test_messages, 0, G_N_ELEMENTS(messages));
    return s;
}

int main(void)
{
    return run_suite(suite());
}
