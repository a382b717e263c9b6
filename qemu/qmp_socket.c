/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "error.h"

#define QUEUE_POLL_MS 10

QmpWait qmp_wait(guint ms, GCancellable *cancel)
{
    return (QmpWait){ms ? g_get_monotonic_time() + (gint64)ms * 1000 : G_MAXINT64, cancel};
}

QmpWait qmp_wait_part(const QmpWait *wait, guint ms)
{
    return (QmpWait){MIN(g_get_monotonic_time() + (gint64)ms * 1000, wait->until), wait->cancel};
}

gboolean qmp_wait_check(const QmpWait *wait, const char *what, GError **error)
{
    if (g_cancellable_is_cancelled(wait->cancel)) {
        snap_set_error(error, EINTR, "%s: cancelled", what);
        return FALSE;
    }
    if (wait->until <= g_get_monotonic_time()) {
        snap_set_error(error, ETIMEDOUT, "%s: QEMU does not answer", what);
        return FALSE;
    }
    return TRUE;
}

static int milliseconds_left(const QmpWait *wait)
{
    if (wait->until == G_MAXINT64)
        return -1;
    return (int)CLAMP((wait->until - g_get_monotonic_time() + 999) / 1000, 0, G_MAXINT);
}

/* Until something happens to @fd (-1: only that time passes, @ms at most). */
static void pause_on(int fd, short events, const QmpWait *wait, int ms)
{
    int left = milliseconds_left(wait);
    int cancel_fd = g_cancellable_get_fd(wait->cancel); /* -1 without a cancellable */
    struct pollfd fds[] = {{.fd = fd, .events = events}, {.fd = cancel_fd, .events = POLLIN}};
    (void)poll(fds, G_N_ELEMENTS(fds), left < 0 || (ms >= 0 && ms < left) ? ms : left);
    if (cancel_fd >= 0)
        g_cancellable_release_fd(wait->cancel);
}

/* What @path names, opened without touching it: its magic link is short however long @path is, and always the same file. */
static int open_place(const char *path, GError **error)
{
    struct stat st;
    int place = open(path, O_PATH | O_CLOEXEC);
    if (place < 0) {
        snap_set_errno(error, errno, "QMP socket '%s'", path);
        return -1;
    }
    if (fstat(place, &st) == 0 && S_ISSOCK(st.st_mode))
        return place;
    snap_set_error(error, EINVAL, "QMP socket '%s': it is no socket", path);
    close(place);
    return -1;
}

/* A full queue has no poll(): look again, for as long as the caller has time. */
static gboolean connect_to(int fd, int place, const char *path, const QmpWait *wait, GError **error)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    g_snprintf(name.sun_path, sizeof name.sun_path, "/proc/self/fd/%d", place);
    while (connect(fd, (struct sockaddr *)&name, sizeof name) < 0) {
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN) {
            snap_set_errno(error, errno, "QMP socket '%s'", path);
            return FALSE;
        }
        g_autoptr(GError) over = NULL;
        if (!qmp_wait_check(wait, "connecting", &over)) {
            snap_set_error(error, over->code == ETIMEDOUT ? EBUSY : over->code,
                           over->code == ETIMEDOUT ? "QMP socket '%s': others wait there already"
                                                   : "QMP socket '%s': cancelled",
                           path);
            return FALSE;
        }
        pause_on(-1, 0, wait, QUEUE_POLL_MS);
    }
    return TRUE;
}

int qmp_socket_connect(const char *path, const QmpWait *wait, GError **error)
{
    int place = open_place(path, error);
    if (place < 0)
        return -1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        snap_set_errno(error, errno, "QMP socket '%s'", path);
    } else if (!connect_to(fd, place, path, wait, error)) {
        close(fd);
        fd = -1;
    }
    close(place);
    return fd;
}

/* One sendmsg(); @pass goes with it. */
static ssize_t send_some(int fd, const char *data, gsize len, int pass)
{
    union {
        struct cmsghdr header; /* for its alignment */
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec vector = {.iov_base = (void *)data, .iov_len = len};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    if (pass >= 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof pass);
        memcpy(CMSG_DATA(header), &pass, sizeof pass);
    }
    return sendmsg(fd, &message, MSG_NOSIGNAL);
}

gboolean qmp_socket_send(int fd, const char *what, const char *data, gsize len, int pass, const QmpWait *wait,
                         gsize *ret_sent, GError **error)
{
    gsize sent = 0;
    while (sent < len) {
        ssize_t n = -1;
        gboolean goes_on = qmp_wait_check(wait, what, error);
        if (goes_on && (n = send_some(fd, data + sent, len - sent, sent == 0 ? pass : -1)) < 0 &&
            errno != EINTR && errno != EAGAIN) {
            snap_set_errno(error, errno == EPIPE ? ECONNRESET : errno, "%s", what);
            goes_on = FALSE;
        }
        if (!goes_on) {
            *ret_sent = sent;
            return FALSE;
        }
        sent += n > 0 ? (gsize)n : 0;
        if (n < 0)
            pause_on(fd, POLLOUT, wait, -1);
    }
    return TRUE;
}

/* The name that the server gave its socket, which is what the kernel lists it under. Caller frees. */
static char *name_of_server(int fd, const char *path)
{
    struct sockaddr_un name = {0};
    socklen_t len = sizeof name;
    if (getpeername(fd, (struct sockaddr *)&name, &len) < 0 || name.sun_path[0] == '\0')
        return g_strdup(path);
    return g_strndup(name.sun_path, sizeof name.sun_path);
}

/* Number @n (0: the first) of the fields that spaces divide, and all that follows. */
static const char *field(const char *line, guint n)
{
    for (; n > 0; n--) {
        line += strcspn(line, " ");
        line += strspn(line, " ");
    }
    return line;
}

/*
 * The kernel lists the server's end of each connection under the server's name: state 02 while it waits in the queue, 03
 * once it was accepted. One of each: one is served, and it is not all.
 *
 * address: references protocol flags type state inode name
 */
gboolean qmp_socket_is_taken(int fd, const char *path)
{
    g_autofree char *name = name_of_server(fd, path), *table = NULL;
    gboolean waiting = FALSE, served = FALSE;
    if (!g_file_get_contents("/proc/net/unix", &table, NULL, NULL))
        return FALSE;
    g_auto(GStrv) lines = g_strsplit(table, "\n", -1);
    for (guint i = 0; lines[i]; i++) {
        const char *state = field(lines[i], 5);
        if (strcmp(field(lines[i], 7), name) == 0) {
            waiting = waiting || g_str_has_prefix(state, "02 ");
            served = served || g_str_has_prefix(state, "03 ");
        }
    }
    return waiting && served;
}
