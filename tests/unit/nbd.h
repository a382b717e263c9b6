/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A real NBD server for tests: qemu-nbd, exporting one raw file as "exp". It ends with the test, however that ends. */
#pragma once

#include <arpa/inet.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "images.h"

typedef struct {
    pid_t pid;
    char *socket; /* NULL: by TCP on port */
    guint port;
    char *image;
} NbdServer;

static inline gboolean nbd_answers(const NbdServer *server)
{
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    struct sockaddr_in inet = {.sin_family = AF_INET,
                               .sin_port = htons((guint16)server->port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(server->socket ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (server->socket)
        g_strlcpy(local.sun_path, server->socket, sizeof local.sun_path);
    gboolean ok = server->socket ? connect(fd, (struct sockaddr *)&local, sizeof local) == 0
                                 : connect(fd, (struct sockaddr *)&inet, sizeof inet) == 0;
    close(fd);
    return ok;
}

/* A port that is free at this moment. */
static inline guint nbd_free_port(void)
{
    struct sockaddr_in inet = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof inet;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert(bind(fd, (struct sockaddr *)&inet, len) == 0 &&
              getsockname(fd, (struct sockaddr *)&inet, &len) == 0);
    close(fd);
    return ntohs(inet.sin_port);
}

/* Serve @server->image again after nbd_stop, at the same place. @read_only, or not. */
static inline void nbd_serve(NbdServer *server, gboolean read_only)
{
    g_autofree char *port = g_strdup_printf("%u", server->port);
    pid_t parent = getpid();
    fflush(NULL);
    server->pid = fork();
    ck_assert_int_ge(server->pid, 0);
    if (server->pid == 0) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
            _exit(1);
        int null = open("/dev/null", O_RDWR | O_CLOEXEC); /* it complains of every client that just leaves */
        dup2(null, STDERR_FILENO);
        const char *mode = read_only ? "--read-only" : "--persistent";
        if (server->socket)
            execlp("qemu-nbd", "qemu-nbd", mode, "--persistent", "--shared=8", "--format=raw",
                   "--export-name=exp", "--socket", server->socket, server->image, NULL);
        else
            execlp("qemu-nbd", "qemu-nbd", mode, "--persistent", "--shared=8", "--format=raw",
                   "--export-name=exp", "--bind=127.0.0.1", "--port", port, server->image, NULL);
        _exit(127);
    }
    gint64 end = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;
    while (!nbd_answers(server)) {
        ck_assert_msg(g_get_monotonic_time() < end && waitpid(server->pid, NULL, WNOHANG) == 0,
                      "qemu-nbd does not serve '%s'", server->image);
        g_usleep(5000);
    }
}

/* Serve the file @image (made, of @size zeros, when it is missing) at @socket, or by TCP when that is NULL. */
static inline NbdServer *nbd_start(const char *image, off_t size, const char *socket)
{
    NbdServer *server = g_new0(NbdServer, 1);
    int fd = open(image, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    ck_assert(fd >= 0 && ftruncate(fd, size) == 0);
    close(fd);
    server->image = g_strdup(image);
    server->socket = g_strdup(socket);
    server->port = socket ? 0 : nbd_free_port();
    nbd_serve(server, FALSE);
    return server;
}

static inline void nbd_stop(NbdServer *server)
{
    if (server->pid > 0 && kill(server->pid, SIGKILL) == 0)
        waitpid(server->pid, NULL, 0);
    server->pid = 0;
    if (server->socket)
        unlink(server->socket);
}

static inline void nbd_free(NbdServer *server)
{
    nbd_stop(server);
    g_free(server->image);
    g_free(server->socket);
    g_free(server);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NbdServer, nbd_free)

/* As QEMU's tools are told. Caller frees. */
static inline char *nbd_uri(const NbdServer *server)
{
    return server->socket ? g_strdup_printf("nbd+unix:///exp?socket=%s", server->socket)
                          : g_strdup_printf("nbd://127.0.0.1:%u/exp", server->port);
}

/* The <source> of a definition. Caller frees. */
static inline char *nbd_source(const NbdServer *server)
{
    return server->socket ? g_strdup_printf("<source protocol='nbd' name='exp'>\n"
                                            "        <host transport='unix' socket='%s'/>\n"
                                            "      </source>",
                                            server->socket)
                          : g_strdup_printf("<source protocol='nbd' name='exp'>\n"
                                            "        <host name='127.0.0.1' port='%u'/>\n"
                                            "      </source>",
                                            server->port);
}
