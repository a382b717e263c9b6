/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "world.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runner.h"

enum { MOUNT_SECONDS = 30, EXIT_SECONDS = 60, SANITIZER_EXIT = 99 };
#define FUSE_MAGIC 0x65735546
#define PREFIX "domsnapfs-test."
#define RUN "run"
#define OWNER "DOMSNAPFS_TEST_OWNER" /* pid of the test program, for its forked tests */

const char *keep(const World *w, const char *text)
{
    return g_string_chunk_insert(w->strings, text);
}

static const char *keep_in(const World *w, const char *dir, const char *format, va_list args)
{
    g_autofree char *name = g_strdup_vprintf(format, args);
    g_autofree char *path = g_strconcat(dir, "/", name, NULL);
    return keep(w, path);
}

const char *at(const World *w, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const char *path = keep_in(w, w->mnt, format, args);
    va_end(args);
    return path;
}

const char *in_dir(const World *w, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const char *path = keep_in(w, w->dir, format, args);
    va_end(args);
    return path;
}

const char *image(const World *w, const char *name)
{
    return in_dir(w, "images/%s", name);
}

const char *keepf(const World *w, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    return keep(w, text);
}

gboolean world_is_mounted(const World *w)
{
    struct statfs fs;
    return statfs(w->mnt, &fs) == 0 && (unsigned long)fs.f_type == FUSE_MAGIC;
}

static const char *log_text(const World *w)
{
    g_autofree char *text = NULL;
    if (!g_file_get_contents(in_dir(w, "daemon.log"), &text, NULL, NULL))
        return "";
    return keep(w, text);
}

char *world_prefix(void)
{
    const char *owner = g_getenv(OWNER);
    return g_strdup_printf("%s/" PREFIX "%s.", g_get_tmp_dir(), owner != NULL ? owner : "0");
}

World *world_new_idle(void)
{
    World *w = g_new0(World, 1);
    const char *program = g_getenv("DOMSNAPFS");
    ck_assert_msg(program != NULL, "DOMSNAPFS must name the daemon (meson test does that)");
    w->strings = g_string_chunk_new(4096);
    w->program = g_strdup(program);
    g_autofree char *prefix = world_prefix();
    w->dir = g_strconcat(prefix, "XXXXXX", NULL);
    ck_assert_ptr_nonnull(g_mkdtemp_full(w->dir, 0755));
    w->images = g_build_filename(w->dir, "images", NULL);
    w->store = g_build_filename(w->dir, "store", NULL);
    w->mnt = g_build_filename(w->dir, "mnt", NULL);
    ck_works(g_mkdir(w->images, 0755));
    ck_works(g_mkdir(w->mnt, 0755));
    return w;
}

World *world_new(const char *options)
{
    World *w = world_new_idle();
    world_start(w, options);
    return w;
}

/* In the child, before exec. Its own process group: libcheck kills the test's, and the daemon shall unmount itself. */
static void become_daemon(gpointer data)
{
    const char *log = data;
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
}

void world_launch(World *w, const char *options)
{
    ck_assert_int_eq(w->daemon, 0);
    /* Sockets of its own: other worlds have machines of the same name. */
    const char *words =
        keepf(w, "qmp=%s/" RUN "%s%s", w->dir, options != NULL ? "," : "", options != NULL ? options : "");
    const char *argv[] = {w->program, w->store, w->mnt, "-f", "-o", words, NULL};
    g_auto(GStrv) env = g_get_environ();
    g_autofree char *asan = g_strdup_printf("log_path=%s/san:exitcode=%d", w->dir, SANITIZER_EXIT);
    g_autofree char *ubsan = g_strdup_printf("log_path=%s/san:exitcode=%d:print_stacktrace=1:halt_on_error=1",
                                             w->dir, SANITIZER_EXIT);
    env = g_environ_setenv(env, "ASAN_OPTIONS", asan, TRUE);
    env = g_environ_setenv(env, "UBSAN_OPTIONS", ubsan, TRUE);
    g_autoptr(GError) error = NULL;
    GPid pid;
    gboolean ok = g_spawn_async(w->dir, (char **)argv, env, G_SPAWN_DO_NOT_REAP_CHILD, become_daemon,
                                (gpointer)in_dir(w, "daemon.log"), &pid, &error);
    ck_assert_msg(ok, "%s", error != NULL ? error->message : "");
    w->daemon = pid;
    g_autofree char *number = g_strdup_printf("%d", (int)pid);
    ck_assert(g_file_set_contents(in_dir(w, "daemon.pid"), number, -1, NULL));
}

/* Its wait status, or -1 when it has not ended within @seconds. */
static int wait_daemon(World *w, int seconds)
{
    gint64 end = g_get_monotonic_time() + seconds * G_USEC_PER_SEC;
    int status;
    while (waitpid(w->daemon, &status, WNOHANG) == 0) {
        if (g_get_monotonic_time() > end)
            return -1;
        g_usleep(2000);
    }
    w->daemon = 0;
    g_unlink(in_dir(w, "daemon.pid"));
    return status;
}

gboolean world_try_start(World *w, const char *options, int *ret_status)
{
    world_launch(w, options);
    gint64 end = g_get_monotonic_time() + MOUNT_SECONDS * G_USEC_PER_SEC;
    while (!world_is_mounted(w)) {
        *ret_status = wait_daemon(w, 0);
        world_check_clean(w);
        if (*ret_status != -1)
            return FALSE;
        ck_assert_msg(g_get_monotonic_time() < end, "no mount after %d s: %s", MOUNT_SECONDS, log_text(w));
        g_usleep(2000);
    }
    return TRUE;
}

void world_start(World *w, const char *options)
{
    int status;
    ck_assert_msg(world_try_start(w, options, &status),
                  "the daemon ended (status %x) instead of mounting: %s", (unsigned)status, log_text(w));
}

int world_start_fails(World *w, const char *options, const char **ret_log)
{
    g_unlink(in_dir(w, "daemon.log"));
    world_launch(w, options);
    int status = wait_daemon(w, EXIT_SECONDS);
    ck_assert_msg(status != -1, "the daemon still runs");
    ck_assert_msg(WIFEXITED(status), "the daemon died: status %x", (unsigned)status);
    world_check_clean(w);
    if (ret_log != NULL)
        *ret_log = log_text(w);
    return WEXITSTATUS(status);
}

void world_check_clean(const World *w)
{
    g_autoptr(GDir) dir = g_dir_open(w->dir, 0, NULL);
    const char *name;
    while ((name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *text = NULL;
        if (!g_str_has_prefix(name, "san."))
            continue;
        g_file_get_contents(in_dir(w, "%s", name), &text, NULL, NULL);
        ck_abort_msg("a sanitizer reports: %s", text);
    }
}

static void expect_good_end(World *w)
{
    int status = wait_daemon(w, EXIT_SECONDS);
    world_check_clean(w);
    ck_assert_msg(status != -1, "the daemon does not end");
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the daemon ends with status %x: %s",
                  (unsigned)status, log_text(w));
    ck_assert_msg(!world_is_mounted(w), "still mounted");
}

static int unmount(const char *mnt)
{
    if (geteuid() == 0)
        return umount2(mnt, 0);
    const char *argv[] = {"fusermount3", "-u", mnt, NULL};
    int status;
    if (!g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, &status,
                      NULL) ||
        status != 0) {
        errno = EBUSY;
        return -1;
    }
    return 0;
}

void world_stop(World *w)
{
    /* A tool's last close may still be on its way through the kernel: EBUSY for an instant. */
    gint64 end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
    while (unmount(w->mnt) < 0) {
        ck_assert_msg(errno == EBUSY && g_get_monotonic_time() < end, "umount: %s", g_strerror(errno));
        g_usleep(20000);
    }
    expect_good_end(w);
}

void world_signal(World *w, int signal)
{
    ck_works(kill(w->daemon, signal));
    expect_good_end(w);
}

void world_kill(World *w)
{
    ck_works(kill(w->daemon, SIGKILL));
    ck_assert_int_ne(wait_daemon(w, EXIT_SECONDS), -1);
    ck_works(umount2(w->mnt, MNT_DETACH));
}

int world_died(World *w)
{
    int status = wait_daemon(w, EXIT_SECONDS);
    world_check_clean(w);
    ck_assert_msg(status != -1, "the daemon still runs");
    ck_works(umount2(w->mnt, MNT_DETACH));
    return status;
}

/* Remove @path and all below it; never crosses into a mount. */
static void remove_tree(const char *path)
{
    const char *argv[] = {"rm", "-rf", "--one-file-system", path, NULL};
    g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
}

gboolean process_gone(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int)pid);
    g_autofree char *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, NULL))
        return TRUE;
    const char *name_end = strrchr(text, ')');
    return name_end == NULL || g_str_has_prefix(name_end, ") Z");
}

/* End the machines whose sockets are in @dir/run: they outlive the daemon. By the pids that QEMU noted, if they are still it. */
static void end_machines(const char *dir)
{
    g_autofree char *run = g_build_filename(dir, RUN, NULL);
    g_autoptr(GDir) files = g_dir_open(run, 0, NULL);
    const char *name;
    while (files != NULL && (name = g_dir_read_name(files)) != NULL) {
        g_autofree char *file = g_build_filename(run, name, NULL);
        g_autofree char *text = NULL, *line = NULL;
        gsize len = 0;
        if (!g_str_has_suffix(name, ".pid") || !g_file_get_contents(file, &text, NULL, NULL))
            continue;
        pid_t pid = (pid_t)atoi(text);
        g_autofree char *command = g_strdup_printf("/proc/%d/cmdline", (int)pid);
        if (pid <= 1 || !g_file_get_contents(command, &line, &len, NULL) ||
            memmem(line, len, run, strlen(run)) == NULL)
            continue;
        kill(pid, SIGKILL);
        for (int i = 0; i < 500 && !process_gone(pid); i++)
            g_usleep(10000);
    }
}

void world_free(World *w)
{
    if (w->daemon != 0)
        world_stop(w);
    end_machines(w->dir);
    remove_tree(w->dir);
    g_string_chunk_free(w->strings);
    g_free(w->dir);
    g_free(w->images);
    g_free(w->store);
    g_free(w->mnt);
    g_free(w->program);
    g_free(w);
}

/* End the daemon that a failed test left in @dir, by the pid it noted there, if that is still this program. */
static void end_daemon(const char *dir)
{
    g_autofree char *file = g_build_filename(dir, "daemon.pid", NULL);
    g_autofree char *text = NULL;
    if (!g_file_get_contents(file, &text, NULL, NULL))
        return;
    g_autofree char *exe = g_strdup_printf("/proc/%s/exe", text);
    for (int i = 0; i < 500; i++) {
        g_autofree char *target = g_file_read_link(exe, NULL);
        if (target == NULL || strstr(target, "/domsnapfs") == NULL)
            return;
        if (i == 300)
            kill((pid_t)atoi(text), SIGKILL);
        g_usleep(10000);
    }
}

/* Detach every mount below @dir, the deepest first. */
static void detach_mounts(const char *dir)
{
    g_autofree char *mounts = NULL;
    g_autofree char *below = g_strconcat(dir, "/", NULL);
    g_file_get_contents("/proc/self/mounts", &mounts, NULL, NULL);
    g_auto(GStrv) lines = g_strsplit(mounts != NULL ? mounts : "", "\n", -1);
    for (guint i = g_strv_length(lines); i-- > 0;) {
        g_auto(GStrv) words = g_strsplit(lines[i], " ", 3);
        if (g_strv_length(words) > 1 && g_str_has_prefix(words[1], below))
            umount2(words[1], MNT_DETACH);
    }
}

/* What the daemon of a failed test said, and a sanitizer of it. */
static void tell_logs(const char *dir)
{
    g_autoptr(GDir) files = g_dir_open(dir, 0, NULL);
    const char *name;
    while (files != NULL && (name = g_dir_read_name(files)) != NULL) {
        g_autofree char *path = g_build_filename(dir, name, NULL);
        g_autofree char *text = NULL;
        if ((strcmp(name, "daemon.log") == 0 || g_str_has_prefix(name, "san.")) &&
            g_file_get_contents(path, &text, NULL, NULL) && *text != '\0')
            fprintf(stderr, "---- %s of a test that failed:\n%s----\n", name, text);
    }
}

static void sweep_one(const char *dir, gboolean tell)
{
    end_daemon(dir);
    end_machines(dir);
    detach_mounts(dir);
    if (tell)
        tell_logs(dir);
    remove_tree(dir);
}

/* Sweep up after the failed tests of this program, and of programs that are gone. */
static void sweep(void)
{
    g_autoptr(GDir) tmp = g_dir_open(g_get_tmp_dir(), 0, NULL);
    const char *name;
    while (tmp != NULL && (name = g_dir_read_name(tmp)) != NULL) {
        if (!g_str_has_prefix(name, PREFIX))
            continue;
        pid_t owner = (pid_t)atoi(name + strlen(PREFIX));
        if (owner != getpid() && owner > 0 && kill(owner, 0) == 0)
            continue;
        g_autofree char *dir = g_build_filename(g_get_tmp_dir(), name, NULL);
        sweep_one(dir, owner == getpid());
    }
}

/*
 * TAP is read line by line, libcheck's messages have several lines: a child copies what this program prints, what is no
 * line of TAP as a comment. Returns its pid.
 */
static pid_t filter_tap(void)
{
    int pipe_fd[2];
    if (pipe(pipe_fd) < 0)
        return -1;
    pid_t pid = fork();
    if (pid != 0) {
        dup2(pipe_fd[1], STDOUT_FILENO);
        close(pipe_fd[0]);
        close(pipe_fd[1]);
        return pid;
    }
    close(pipe_fd[1]);
    FILE *in = fdopen(pipe_fd[0], "r");
    char *line = NULL;
    size_t size = 0;
    while (in != NULL && getline(&line, &size, in) > 0) {
        gboolean tap = g_str_has_prefix(line, "ok ") || g_str_has_prefix(line, "not ok ") ||
                       g_str_has_prefix(line, "1..") || line[0] == '#';
        printf("%s%s", tap ? "" : "# ", line);
        fflush(stdout);
    }
    _exit(0);
}

int mount_main(Suite *suite)
{
    pid_t filter = filter_tap();
    g_autofree char *pid = g_strdup_printf("%d", (int)getpid());
    g_setenv(OWNER, pid, TRUE);
    g_setenv("LC_ALL", "C.UTF-8", TRUE);
    g_setenv("CK_MAX_MSG_SIZE", "1048576", TRUE);
    g_unsetenv("XDG_STATE_HOME");
    int result = run_suite(suite);
    sweep();
    fflush(stdout);
    close(STDOUT_FILENO);
    waitpid(filter, NULL, 0);
    return result;
}

TCase *add_case(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);
    tcase_set_timeout(tcase, 120);
    suite_add_tcase(suite, tcase);
    return tcase;
}
