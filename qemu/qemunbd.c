/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qemunbd.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "error.h"

#define MEMORY_BYTES (4ull * 1024 * 1024 * 1024)
#define MAX_ERRORS 16384

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* Listen at @path, and be the first ones who connect there. */
static gboolean meet(QemuNbd *server, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (g_strlcpy(address.sun_path, path, sizeof address.sun_path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return FALSE;
    }
    server->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (server->listener < 0 || bind(server->listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(server->listener, QEMUNBD_LINKS) < 0)
        return FALSE;
    for (guint i = 0; i < QEMUNBD_LINKS; i++) {
        server->sockets[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (server->sockets[i] < 0 ||
            connect(server->sockets[i], (struct sockaddr *)&address, sizeof address) < 0)
            return FALSE;
    }
    return TRUE;
}

/* A socket cannot be listened at without a name: for this moment it has one, in a directory of ours alone. */
static gboolean make_sockets(QemuNbd *server, GError **error)
{
    g_autofree char *dir = g_dir_make_tmp("domsnapfs-nbd-XXXXXX", error);
    if (!dir)
        return FALSE;
    g_autofree char *path = g_build_filename(dir, "s", NULL);
    gboolean ok = meet(server, path);
    if (!ok)
        snap_set_errno(error, errno, "cannot make a socket for qemu-nbd in '%s'", dir);
    (void)unlink(path);
    (void)rmdir(dir);
    return ok;
}

QemuNbd *qemunbd_new(const char *name, gint64 patience, GError **error)
{
    g_autoptr(QemuNbd) server = g_new0(QemuNbd, 1);
    server->references = 1;
    server->child = (ProcessChild){.pidfd = -1, .errors = -1};
    server->errors = g_string_new(NULL);
    server->name = g_strdup(name);
    server->listener = -1;
    for (guint i = 0; i < QEMUNBD_LINKS; i++)
        server->sockets[i] = -1;
    for (guint i = 0; i < QEMUNBD_LINKS; i++)
        if (!nbd_link_init(&server->links[i], server->name, patience, NULL, error))
            return NULL;
    return make_sockets(server, error) ? g_steal_pointer(&server) : NULL;
}

void qemunbd_unref(QemuNbd *server)
{
    if (!server || !g_atomic_int_dec_and_test(&server->references))
        return;
    qemunbd_leave(server);
    for (guint i = 0; i < QEMUNBD_LINKS; i++)
        close_fd(&server->sockets[i]);
    close_fd(&server->listener);
    close_fd(&server->child.pidfd);
    close_fd(&server->child.errors);
    g_string_free(server->errors, TRUE);
    g_free(server->name);
    g_free(server);
}

/* Without --persistent: it ends when the last connection does. */
gboolean qemunbd_spawn(QemuNbd *server, const char *program, const NbdServing *serving, GError **error)
{
    static const char shared[] = "--shared=" G_STRINGIFY(QEMUNBD_LINKS);
    const char *const argv[] = {program, "--read-only", shared, serving->image, NULL};
    g_autofree int *fds = g_new(int, serving->n_fds + 1);
    fds[0] = server->listener;
    for (guint i = 0; i < serving->n_fds; i++)
        fds[i + 1] = serving->fds[i];
    const ProcessBirth birth = {
        .argv = argv,
        .what = "qemu-nbd",
        .fds = fds,
        .n_fds = serving->n_fds + 1,
        .listens = TRUE,
        .memory_bytes = MEMORY_BYTES,
        .identity = serving->identity,
    };
    gboolean ok = process_spawn(&birth, &server->child, NULL, error);
    close_fd(&server->listener); /* with the process, the connections fail */
    return ok;
}

static gboolean connect_link(NbdLink *link, int *fd, GError **error)
{
    if (nbd_add_meta_context(link->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) < 0) {
        nbd_link_set_error(link, error);
        return FALSE;
    }
    int begun = nbd_aio_connect_socket(link->nbd, *fd);
    *fd = -1; /* libnbd's, and closed by it also when that failed */
    return nbd_link_connect(link, begun, error);
}

gboolean qemunbd_connect(QemuNbd *server, GError **error)
{
    for (guint i = 0; i < QEMUNBD_LINKS; i++) {
        if (!connect_link(&server->links[i], &server->sockets[i], error))
            return FALSE;
        server->free[server->n_free++] = &server->links[i];
    }
    return TRUE;
}

void qemunbd_listen(QemuNbd *server)
{
    char buffer[4096];
    ssize_t n = 1;
    while (server->child.errors >= 0 && (n = read(server->child.errors, buffer, sizeof buffer)) > 0) {
        g_string_append_len(server->errors, buffer, n);
        if (server->errors->len > MAX_ERRORS)
            g_string_erase(server->errors, 0, (gssize)(server->errors->len - MAX_ERRORS));
    }
    if (n == 0)
        close_fd(&server->child.errors);
}

void qemunbd_leave(QemuNbd *server)
{
    for (guint i = 0; i < QEMUNBD_LINKS; i++)
        nbd_link_leave(&server->links[i]);
    server->left = TRUE;
}
