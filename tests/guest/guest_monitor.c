/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "guest_fail.h"
#include "guest_monitor.h"

#define PATIENCE (60 * G_USEC_PER_SEC)

/* One more piece of input, or an error. */
static gboolean read_some(GuestMonitor *m, gint64 end, GError **error)
{
    char buffer[4096];
    gint64 left = (end - g_get_monotonic_time()) / 1000;
    struct pollfd wait = {.fd = m->fd, .events = POLLIN};
    if (left <= 0 || poll(&wait, 1, (int)left) == 0) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "QEMU says nothing");
        return FALSE;
    }
    ssize_t len = recv(m->fd, buffer, sizeof buffer, 0);
    if (len < 0 && errno == EINTR)
        return TRUE;
    if (len <= 0) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_CLOSED, "QEMU has gone");
        return FALSE;
    }
    g_string_append_len(m->input, buffer, len);
    return TRUE;
}

/* The next message, whatever it is; an event is kept in m->events as well. New reference. */
static json_t *read_message(GuestMonitor *m, gint64 end, GError **error)
{
    char *eol;
    while (!(eol = memchr(m->input->str, '\n', m->input->len)))
        if (!read_some(m, end, error))
            return NULL;
    json_t *message = json_loadb(m->input->str, (gsize)(eol - m->input->str), 0, NULL);
    g_string_erase(m->input, 0, eol + 1 - m->input->str);
    if (!message)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "QEMU says what is no JSON");
    else if (json_object_get(message, "event"))
        json_array_append(m->events, message);
    return message;
}

static gboolean connect_to(GuestMonitor *m, const char *path, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct ucred peer = {0};
    socklen_t len = sizeof peer;
    gint64 end = g_get_monotonic_time() + PATIENCE;
    if (g_strlcpy(address.sun_path, path, sizeof address.sun_path) >= sizeof address.sun_path) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FILENAME_TOO_LONG, "too long for a socket: '%s'", path);
        return FALSE;
    }
    while (connect(m->fd, (struct sockaddr *)&address, sizeof address) < 0) {
        if (g_get_monotonic_time() > end) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "nobody listens at '%s'", path);
            return FALSE;
        }
        g_usleep(2000);
    }
    if (getsockopt(m->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0)
        m->pid = peer.pid;
    return TRUE;
}

GuestMonitor *guest_monitor_open(const char *socket_path, GError **error)
{
    g_autoptr(GuestMonitor) m = g_new0(GuestMonitor, 1);
    m->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    m->input = g_string_new(NULL);
    m->events = json_array();
    if (!connect_to(m, socket_path, error))
        return NULL;
    json_t *greeting = read_message(m, g_get_monotonic_time() + PATIENCE, error);
    if (!greeting)
        return NULL;
    json_decref(greeting);
    json_t *answer = guest_monitor_call(m, error, "qmp_capabilities", NULL);
    if (!answer)
        return NULL;
    json_decref(answer);
    return g_steal_pointer(&m);
}

void guest_monitor_close(GuestMonitor *m)
{
    if (!m)
        return;
    if (m->fd >= 0)
        close(m->fd);
    g_string_free(m->input, TRUE);
    json_decref(m->events);
    g_free(m);
}

/* Send @command (taken over), with @fd when it is not negative. */
static gboolean say(GuestMonitor *m, json_t *command, int fd, GError **error)
{
    char *text = json_dumps(command, JSON_COMPACT);
    char control[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec part = {.iov_base = text, .iov_len = strlen(text)};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        *header = (struct cmsghdr){
            .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
        memcpy(CMSG_DATA(header), &fd, sizeof fd);
    }
    gboolean ok = sendmsg(m->fd, &message, MSG_NOSIGNAL) == (ssize_t)part.iov_len;
    if (!ok)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_CLOSED, "QEMU has gone");
    free(text);
    json_decref(command);
    return ok;
}

/* The answer to the command @id; events that come before it are kept. */
static json_t *hear(GuestMonitor *m, guint id, GError **error)
{
    gint64 end = g_get_monotonic_time() + PATIENCE;
    for (;;) {
        json_t *message = read_message(m, end, error);
        if (!message)
            return NULL;
        json_t *ours = json_object_get(message, "id");
        if (!ours || json_integer_value(ours) != (json_int_t)id) {
            json_decref(message);
            continue;
        }
        json_t *result = json_incref(json_object_get(message, "return"));
        if (!result)
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "%s",
                        json_string_value(json_object_get(json_object_get(message, "error"), "desc")));
        json_decref(message);
        return result;
    }
}

static json_t *converse(GuestMonitor *m, int fd, GError **error, const char *command, json_t *arguments)
{
    guint id = ++m->last_id;
    json_t *message = json_pack("{s:s, s:i}", "execute", command, "id", id);
    if (arguments)
        json_object_set_new(message, "arguments", arguments);
    return say(m, message, fd, error) ? hear(m, id, error) : NULL;
}

static json_t *pack(const char *command, const char *format, va_list args)
{
    if (!format)
        return NULL;
    json_error_t wrong;
    json_t *arguments = json_vpack_ex(&wrong, 0, format, args);
    if (!arguments)
        guest_fail("arguments of %s: %s", command, wrong.text);
    return arguments;
}

json_t *guest_monitor_call(GuestMonitor *m, GError **error, const char *command, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    json_t *arguments = pack(command, format, args);
    va_end(args);
    return converse(m, -1, error, command, arguments);
}

void guest_monitor_do(GuestMonitor *m, const char *command, const char *format, ...)
{
    g_autoptr(GError) error = NULL;
    va_list args;
    va_start(args, format);
    json_t *result = converse(m, -1, &error, command, pack(command, format, args));
    va_end(args);
    if (!result)
        guest_fail("%s: %s", command, error->message);
    json_decref(result);
}

char *guest_monitor_human(GuestMonitor *m, const char *line, GError **error)
{
    json_t *result = guest_monitor_call(m, error, "human-monitor-command", "{s:s}", "command-line", line);
    char *text = result ? g_strdup(json_string_value(result)) : NULL;
    json_decref(result);
    return text;
}

/* The error of the concluded job @id, or NULL. Caller frees. */
static char *job_error(GuestMonitor *m, const char *id)
{
    char *text = NULL;
    gsize i;
    json_t *job, *jobs = guest_monitor_call(m, NULL, "query-jobs", NULL);
    json_array_foreach (jobs, i, job)
        if (g_strcmp0(json_string_value(json_object_get(job, "id")), id) == 0)
            text = g_strdup(json_string_value(json_object_get(job, "error")));
    json_decref(jobs);
    return text;
}

gboolean guest_monitor_job(GuestMonitor *m, GError **error, const char *id, const char *command,
                           const char *format, ...)
{
    va_list args;
    va_start(args, format);
    gsize seen = json_array_size(m->events);
    json_t *result = converse(m, -1, error, command, pack(command, format, args));
    va_end(args);
    if (!result)
        return FALSE;
    json_decref(result);
    for (const char *status = NULL; g_strcmp0(status, "concluded") != 0;) {
        json_t *event = guest_monitor_event(m, "JOB_STATUS_CHANGE", seen, error);
        if (!event)
            return FALSE;
        while (json_array_get(m->events, seen++) != event)
            ;
        json_t *data = json_object_get(event, "data");
        status = g_strcmp0(json_string_value(json_object_get(data, "id")), id) == 0
                     ? json_string_value(json_object_get(data, "status"))
                     : NULL;
    }
    g_autofree char *failure = job_error(m, id);
    guest_monitor_do(m, "job-dismiss", "{s:s}", "id", id);
    if (failure)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "%s: %s", command, failure);
    return !failure;
}

gboolean guest_monitor_give(GuestMonitor *m, int fd, const char *name, GError **error)
{
    json_t *result = converse(m, fd, error, "getfd", json_pack("{s:s}", "fdname", name));
    json_decref(result);
    return result != NULL;
}

char *guest_monitor_status(GuestMonitor *m, GError **error)
{
    json_t *result = guest_monitor_call(m, error, "query-status", NULL);
    char *status = result ? g_strdup(json_string_value(json_object_get(result, "status"))) : NULL;
    json_decref(result);
    return status;
}

json_t *guest_monitor_event(GuestMonitor *m, const char *name, gsize seen, GError **error)
{
    gint64 end = g_get_monotonic_time() + PATIENCE;
    for (;;) {
        for (; seen < json_array_size(m->events); seen++) {
            json_t *event = json_array_get(m->events, seen);
            if (g_strcmp0(json_string_value(json_object_get(event, "event")), name) == 0)
                return event;
        }
        json_t *message = read_message(m, end, error);
        if (!message)
            return NULL;
        json_decref(message);
    }
}

gint64 guest_monitor_time(json_t *event)
{
    json_t *stamp = json_object_get(event, "timestamp");
    return json_integer_value(json_object_get(stamp, "seconds")) * G_USEC_PER_SEC +
           json_integer_value(json_object_get(stamp, "microseconds"));
}
