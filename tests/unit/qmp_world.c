/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp_world.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

/* It ends with the test that started it, also when that dies. */
static void die_with_test(gpointer parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != GPOINTER_TO_INT(parent))
        _exit(1);
}

QmpWait seconds(guint n)
{
    return qmp_wait(n * 1000, NULL);
}

/* Until it listens; a QEMU that ends instead has said why. */
static void await_monitor(const Machine *machine)
{
    QmpWait wait = seconds(60);
    for (;;) {
        g_autoptr(GError) error = NULL;
        g_autoptr(Qmp) qmp = qmp_connect(machine->socket, NULL, &wait, &error);
        if (qmp)
            return;
        ck_assert_msg(error->code == ENOENT || error->code == ECONNREFUSED, "%s", error->message);
        ck_assert_msg(waitpid(machine->pid, NULL, WNOHANG) == 0, "QEMU did not start");
        ck_assert(wait.until > g_get_monotonic_time());
        g_usleep(5000);
    }
}

Machine *machine_start(const char *path, const char *const *words)
{
    g_autofree char *monitor = g_strdup_printf("socket,id=m0,path=%s,server=on,wait=off", path);
    const char *common[] = {"qemu-system-x86_64",
                            "-machine",
                            "pc,accel=tcg",
                            "-m",
                            "32",
                            "-display",
                            "none",
                            "-nodefaults",
                            "-no-user-config",
                            "-uuid",
                            TEST_UUID,
                            "-chardev",
                            monitor,
                            "-mon",
                            "chardev=m0,mode=control"};
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    for (guint i = 0; i < G_N_ELEMENTS(common); i++)
        g_ptr_array_add(argv, (gpointer)common[i]);
    for (guint i = 0; words && words[i]; i++)
        g_ptr_array_add(argv, (gpointer)words[i]);
    g_ptr_array_add(argv, NULL);

    Machine *machine = g_new0(Machine, 1);
    g_autoptr(GError) error = NULL;
    machine->socket = g_strdup(path);
    gboolean ok =
        g_spawn_async(NULL, (char **)argv->pdata, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD,
                      die_with_test, GINT_TO_POINTER(getpid()), &machine->pid, &error);
    ck_assert_msg(ok, "%s", ok ? "" : error->message);
    await_monitor(machine);
    return machine;
}

Machine *machine_with_disks(const char *path, const char *const *images)
{
    g_autoptr(GPtrArray) words = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; images[i]; i++) {
        char letter = (char)('a' + i);
        g_ptr_array_add(words, g_strdup("-blockdev"));
        g_ptr_array_add(words,
                        g_strdup_printf("{\"driver\": \"qcow2\", \"node-name\": \"vd%cfmt\", \"file\": "
                                        "{\"driver\": \"file\", \"filename\": \"%s\"}}",
                                        letter, images[i]));
        g_ptr_array_add(words, g_strdup("-device"));
        g_ptr_array_add(words, g_strdup_printf("virtio-blk-pci,drive=vd%cfmt,id=vd%c", letter, letter));
    }
    g_ptr_array_add(words, NULL);
    return machine_start(path, (const char *const *)words->pdata);
}

void machine_kill(Machine *machine)
{
    if (machine->pid <= 0)
        return;
    kill(machine->pid, SIGKILL);
    waitpid(machine->pid, NULL, 0);
    machine->pid = 0;
}

/* The kernel lists QEMU's end of a connection under the socket's name, as state 03. */
static gboolean has_client(const char *path)
{
    g_autofree char *table = NULL, *end = g_strdup_printf(" %s\n", path);
    ck_assert(g_file_get_contents("/proc/net/unix", &table, NULL, NULL));
    for (const char *at = strstr(table, end); at; at = strstr(at + 1, end)) {
        const char *line = g_strrstr_len(table, at - table, "\n");
        if (line && g_strstr_len(line, at - line, " 0001 03 "))
            return TRUE;
    }
    return FALSE;
}

void machine_await_no_client(Machine *machine)
{
    for (guint i = 0; i < 4000 && has_client(machine->socket); i++)
        g_usleep(5000);
    ck_assert(!has_client(machine->socket));
}

void machine_freeze(Machine *machine)
{
    siginfo_t info;
    kill(machine->pid, SIGSTOP);
    ck_assert_int_eq(waitid(P_PID, (id_t)machine->pid, &info, WSTOPPED), 0);
}

void machine_free(Machine *machine)
{
    if (!machine)
        return;
    machine_kill(machine);
    g_free(machine->socket);
    g_free(machine);
}

Qmp *qmp_to(const char *path)
{
    GError *error = NULL;
    QmpWait wait = seconds(20);
    Qmp *qmp = qmp_connect(path, NULL, &wait, &error);
    ck_assert_msg(qmp != NULL, "%s", error ? error->message : "no error");
    return qmp;
}

json_t *must_run(Qmp *qmp, const char *command, const char *arguments)
{
    GError *error = NULL;
    QmpWait wait = seconds(60);
    json_t *answer =
        qmp_run(qmp, command, arguments ? json_loads(arguments, 0, NULL) : json_object(), &wait, &error);
    ck_assert_msg(answer != NULL, "%s", error ? error->message : "no error");
    return answer;
}

/* --- the server -------------------------------------------------------------------------------------------------- */

struct Server {
    int fd;
    char *path;
    const char *const *scripts;
    GThread *thread;
};

static void send_text(int fd, const char *text, gboolean newline)
{
    g_autofree char *line = g_strconcat(text, newline ? "\n" : "", NULL);
    (void)!send(fd, line, strlen(line), MSG_NOSIGNAL); /* a client that is gone is for the test to see */
}

/* One character, @n times. */
static void send_often(int fd, gint64 n, const char *text)
{
    g_autofree char *block = g_strnfill(65536, text[0]);
    for (ssize_t sent = 1; n > 0 && sent > 0; n -= sent)
        sent = send(fd, block, (gsize)MIN(n, 65536), MSG_NOSIGNAL);
}

static gboolean read_line(int fd, const char *words)
{
    g_autoptr(GString) line = g_string_new(NULL);
    char c = 0;
    while (recv(fd, &c, 1, 0) == 1 && c != '\n')
        g_string_append_c(line, c);
    return c == '\n' && strstr(line->str, words) != NULL;
}

static gboolean play_line(int fd, const char *line)
{
    char *rest = NULL, c = 0;
    gint64 n = 0;
    switch (line[0]) {
    case '>':
        send_text(fd, line + 2, TRUE);
        return TRUE;
    case '-':
        send_text(fd, line + 2, FALSE);
        return TRUE;
    case '<':
        return read_line(fd, line + 2);
    case '*':
        n = g_ascii_strtoll(line + 1, &rest, 10);
        send_often(fd, n, rest + 1);
        return TRUE;
    case '.':
        while (recv(fd, &c, 1, 0) == 1)
            ;
        return TRUE;
    default:
        return line[0] == '\0';
    }
}

static gpointer serve(gpointer data)
{
    Server *server = data;
    const char *bad = NULL;
    for (guint i = 0; server->scripts[i]; i++) {
        int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            return (gpointer) "nobody came";
        g_auto(GStrv) lines = g_strsplit(server->scripts[i], "\n", -1);
        for (guint k = 0; lines[k] && !bad; k++)
            if (!play_line(fd, lines[k]))
                bad = g_intern_string(lines[k]);
        close(fd);
    }
    shutdown(server->fd, SHUT_RDWR); /* nobody listens any more */
    return (gpointer)bad;
}

Server *server_start(const char *path, const char *const *scripts)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    g_strlcpy(name.sun_path, path, sizeof name.sun_path);
    Server *server = g_new0(Server, 1);
    server->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)unlink(path);
    ck_assert_int_eq(bind(server->fd, (struct sockaddr *)&name, sizeof name), 0);
    ck_assert_int_eq(listen(server->fd, 1), 0);
    server->path = g_strdup(path);
    server->scripts = scripts;
    server->thread = g_thread_new("server", serve, server);
    return server;
}

gboolean server_end(Server *server)
{
    shutdown(server->fd, SHUT_RDWR);
    const char *bad = g_thread_join(server->thread);
    if (bad)
        printf("# the server at '%s'\n", bad);
    close(server->fd);
    unlink(server->path);
    g_free(server->path);
    g_free(server);
    return bad == NULL;
}
