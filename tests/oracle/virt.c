/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "virt.h"

#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { START_SECONDS = 60, STOP_SECONDS = 20, NOBODY = 65534 };
#define PREFIX "domsnapfs-libvirt."
#define HOME "DOMSNAPFS_TEST_LIBVIRT" /* its directory, for the forked tests */
/* It ends by itself when nobody talks to it for so long: if even the signal of a killed test should fail. */
#define IDLE_SECONDS "120"

static const struct {
    const char *variable;
    const char *dir;
} rooms[] = {
    {"HOME", "home"},          {"XDG_CONFIG_HOME", "config"}, {"XDG_CACHE_HOME", "cache"},
    {"XDG_DATA_HOME", "data"}, {"XDG_RUNTIME_DIR", "run"},
};

static gboolean own(const char *path)
{
    return geteuid() != 0 || chown(path, NOBODY, NOBODY) == 0;
}

void virt_own(const char *path)
{
    ck_assert_msg(own(path), "%s: %s", path, g_strerror(errno));
}

/* "HOME=/tmp/.../home": what keeps libvirt within its directory. Caller frees. */
static char **settings(const char *dir)
{
    g_autoptr(GStrvBuilder) all = g_strv_builder_new();
    for (guint i = 0; i < G_N_ELEMENTS(rooms); i++) {
        g_autofree char *setting = g_strdup_printf("%s=%s/%s", rooms[i].variable, dir, rooms[i].dir);
        g_strv_builder_add(all, setting);
    }
    /* virsh must never start a daemon of its own, which would outlive us. */
    g_strv_builder_add(all, "LIBVIRT_AUTOSTART=0");
    return g_strv_builder_end(all);
}

/* The words that run a program as libvirt's user in its environment. */
static void add_entry(GPtrArray *argv, const char *dir)
{
    static const char *const become[] = {"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"};
    for (guint i = 0; geteuid() == 0 && i < G_N_ELEMENTS(become); i++)
        g_ptr_array_add(argv, g_strdup(become[i]));
    g_ptr_array_add(argv, g_strdup("env"));
    g_ptr_array_add(argv, g_strdup("--chdir=/")); /* the tests' mount is not for this user */
    g_auto(GStrv) all = settings(dir);
    for (guint i = 0; all[i] != NULL; i++)
        g_ptr_array_add(argv, g_strdup(all[i]));
}

static GPtrArray *virsh_words(const char *dir, const char *const *words)
{
    static const char *const program[] = {"virsh", "-q", "-c", "qemu:///session"};
    GPtrArray *argv = g_ptr_array_new_with_free_func(g_free);
    add_entry(argv, dir);
    for (guint i = 0; i < G_N_ELEMENTS(program); i++)
        g_ptr_array_add(argv, g_strdup(program[i]));
    for (guint i = 0; words[i] != NULL; i++)
        g_ptr_array_add(argv, g_strdup(words[i]));
    g_ptr_array_add(argv, NULL);
    return argv;
}

Ran quick_argv(const World *w, const char *const *argv)
{
    g_autofree char *out = NULL, *err = NULL;
    g_autoptr(GError) error = NULL;
    int status = 0;
    /* With these flags GLib calls posix_spawn. */
    gboolean ok =
        g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_LEAVE_DESCRIPTORS_OPEN, NULL,
                     NULL, &out, &err, &status, &error);
    ck_assert_msg(ok, "%s: %s", argv[0], error != NULL ? error->message : "");
    int rc = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return (Ran){.rc = rc, .out = keep(w, out), .err = keep(w, err)};
}

Ran virsh_argv(const World *w, const char *const *words)
{
    g_autoptr(GPtrArray) argv = virsh_words(g_getenv(HOME), words);
    return quick_argv(w, (const char *const *)argv->pdata);
}

Ran virsh(const World *w, ...)
{
    g_autoptr(GPtrArray) words = g_ptr_array_new();
    va_list args;
    va_start(args, w);
    for (const char *arg = va_arg(args, const char *); arg != NULL; arg = va_arg(args, const char *))
        g_ptr_array_add(words, (gpointer)arg);
    va_end(args);
    g_ptr_array_add(words, NULL);
    return virsh_argv(w, (const char *const *)words->pdata);
}

static gboolean answers(const char *dir)
{
    static const char *const version[] = {"version", NULL};
    g_autoptr(GPtrArray) argv = virsh_words(dir, version);
    int status = -1;
    return g_spawn_sync(NULL, (char **)argv->pdata, NULL,
                        G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL | G_SPAWN_STDERR_TO_DEV_NULL, NULL,
                        NULL, NULL, NULL, &status, NULL) &&
           status == 0;
}

/* In the child: never returns. */
static void become_libvirtd(const char *program, const char *dir)
{
    g_autofree char *log = g_strconcat(dir, "/log", NULL);
    g_auto(GStrv) all = settings(dir);
    int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    dup2(null, STDIN_FILENO);
    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    for (guint i = 0; all[i] != NULL; i++) {
        g_auto(GStrv) pair = g_strsplit(all[i], "=", 2);
        g_setenv(pair[0], pair[1], TRUE);
    }
    if (chdir("/") < 0 ||
        (geteuid() == 0 && (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
                            setresuid(NOBODY, NOBODY, NOBODY) < 0)))
        _exit(126);
    /* After the change of user, which would clear it. */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    execl(program, program, "--timeout", IDLE_SECONDS, (char *)NULL);
    _exit(127);
}

static gboolean has_ended(pid_t pid, int seconds)
{
    gint64 end = g_get_monotonic_time() + seconds * G_USEC_PER_SEC;
    while (waitpid(pid, NULL, WNOHANG) == 0) {
        if (g_get_monotonic_time() >= end)
            return FALSE;
        g_usleep(5000);
    }
    return TRUE;
}

/* Is the process with that pid, as a file says it, a QEMU with files in @dir? */
static gboolean is_guest(const char *pid, const char *dir)
{
    g_autofree char *path = g_strdup_printf("/proc/%s/cmdline", pid);
    g_autofree char *line = NULL;
    gsize len;
    return g_file_get_contents(path, &line, &len, NULL) &&
           g_strstr_len(line, (gssize)len, "qemu-system") != NULL &&
           memmem(line, len, dir, strlen(dir)) != NULL;
}

/* End the machines that a failed test left running: libvirtd lets them live on. */
static void end_guests(const char *dir)
{
    g_autofree char *run = g_build_filename(dir, "run/libvirt/qemu/run", NULL);
    g_autoptr(GDir) open_dir = g_dir_open(run, 0, NULL);
    const char *name;
    while (open_dir != NULL && (name = g_dir_read_name(open_dir)) != NULL) {
        g_autofree char *file = g_build_filename(run, name, NULL);
        g_autofree char *pid = NULL;
        if (!g_str_has_suffix(name, ".pid") || !g_file_get_contents(file, &pid, NULL, NULL))
            continue;
        if (atoi(pid) > 1 && is_guest(g_strstrip(pid), dir))
            kill((pid_t)atoi(pid), SIGKILL);
    }
}

static void stop(pid_t pid, const char *dir)
{
    kill(pid, SIGTERM);
    if (!has_ended(pid, STOP_SECONDS)) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    end_guests(dir);
}

static void remove_dir(const char *dir)
{
    const char *argv[] = {"rm", "-rf", "--one-file-system", dir, NULL};
    g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
}

/* What programs left that were killed themselves. */
static void sweep(void)
{
    g_autoptr(GDir) tmp = g_dir_open(g_get_tmp_dir(), 0, NULL);
    const char *name;
    while (tmp != NULL && (name = g_dir_read_name(tmp)) != NULL) {
        if (!g_str_has_prefix(name, PREFIX) || kill((pid_t)atoi(name + strlen(PREFIX)), 0) == 0)
            continue;
        g_autofree char *dir = g_build_filename(g_get_tmp_dir(), name, NULL);
        end_guests(dir);
        remove_dir(dir);
    }
}

/* A guest's messages go into a file: no virtlogd is started for them. */
static gboolean configure(const char *dir)
{
    g_autofree char *config = g_build_filename(dir, "config/libvirt", NULL);
    g_autofree char *file = g_build_filename(config, "qemu.conf", NULL);
    return mkdir(config, 0700) == 0 && own(config) &&
           g_file_set_contents(file, "stdio_handler = \"file\"\n", -1, NULL) && own(file);
}

static char *make_dir(void)
{
    char *dir = g_strdup_printf("%s/" PREFIX "%d.XXXXXX", g_get_tmp_dir(), (int)getpid());
    gboolean ok = g_mkdtemp_full(dir, 0700) != NULL && own(dir);
    for (guint i = 0; i < G_N_ELEMENTS(rooms); i++) {
        g_autofree char *room = g_build_filename(dir, rooms[i].dir, NULL);
        ok = ok && mkdir(room, 0700) == 0 && own(room);
    }
    if (!ok || !configure(dir))
        g_error("%s: %s", dir, g_strerror(errno));
    return dir;
}

/* Its last words, in one line. Caller frees. */
static char *last_words(const char *dir)
{
    g_autofree char *log = g_build_filename(dir, "log", NULL);
    g_autofree char *text = NULL;
    if (!g_file_get_contents(log, &text, NULL, NULL))
        return g_strdup("it said nothing");
    g_strchomp(text);
    const char *line = strrchr(text, '\n');
    return g_strdup(line != NULL ? line + 1 : text);
}

/* The program that is the daemon, or NULL and what is missing. Caller frees. */
static char *find_programs(const char **ret_missing)
{
    static const char *const others[] = {"virsh", "qemu-system-x86_64", "virt-xml-validate", "xmllint",
                                         "setpriv"};
    g_autofree char *path = g_strconcat(g_getenv("PATH"), ":/usr/sbin:/sbin", NULL);
    g_setenv("PATH", path, TRUE);
    for (guint i = 0; i < G_N_ELEMENTS(others); i++) {
        g_autofree char *found = g_find_program_in_path(others[i]);
        *ret_missing = others[i];
        if (found == NULL)
            return NULL;
    }
    *ret_missing = "libvirtd";
    return g_find_program_in_path("libvirtd");
}

static int skip(const char *what, const char *why)
{
    printf("1..0 # SKIP %s %s\n", what, why);
    return EXIT_SUCCESS;
}

static int run(Suite *(*suite)(void), const char *program, const char *dir)
{
    pid_t pid = fork();
    if (pid == 0)
        become_libvirtd(program, dir);
    gint64 end = g_get_monotonic_time() + START_SECONDS * G_USEC_PER_SEC;
    while (!answers(dir)) {
        g_autofree char *words = last_words(dir);
        if (has_ended(pid, 0))
            return skip("libvirtd ends at once:", words);
        if (g_get_monotonic_time() > end) {
            printf("1..1\nnot ok 1 - libvirtd runs but does not answer: %s\n", words);
            stop(pid, dir);
            return EXIT_FAILURE;
        }
        g_usleep(50000);
    }
    g_setenv(HOME, dir, TRUE);
    int result = mount_main(suite());
    stop(pid, dir);
    return result;
}

int virt_main(Suite *(*suite)(void))
{
    const char *missing;
    g_autofree char *program = find_programs(&missing);
    if (program == NULL)
        return skip("not installed:", missing);
    sweep();
    g_autofree char *dir = make_dir();
    int result = run(suite, program, dir);
    remove_dir(dir);
    return result;
}
