/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "run_ear.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "qmp_message.h"
#include "qmp_socket.h"
#include "run_actions.h"

enum { CONNECT_MS = 5, COMMAND_CAPABILITIES = 1, COMMAND_UUID, COMMAND_STATUS, COMMAND_OTHER };

struct RunEar {
    int fd;
    char *path;
    char *uuid;
    QmpFeed *feed;
    pid_t pid;
    RunActions actions;
    gboolean greeted, ours, known;
    RunState state;
};

/* --- life --- */

static pid_t pid_of(int fd)
{
    struct ucred peer = {0};
    socklen_t len = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 ? peer.pid : 0;
}

RunEar *run_ear_open(const char *path, const char *uuid, GError **error)
{
    QmpWait wait = qmp_wait(CONNECT_MS, NULL);
    int fd = qmp_socket_connect(path, &wait, error);
    if (fd < 0)
        return NULL;
    RunEar *ear = g_new0(RunEar, 1);
    ear->fd = fd;
    ear->path = g_strdup(path);
    ear->uuid = g_strdup(uuid);
    ear->feed = qmp_feed_new(QMP_LINE_BYTES);
    ear->pid = pid_of(fd);
    ear->actions = run_actions_of(ear->pid);
    return ear;
}

void run_ear_close(RunEar *ear)
{
    if (!ear)
        return;
    close(ear->fd);
    qmp_feed_free(ear->feed);
    g_free(ear->path);
    g_free(ear->uuid);
    g_free(ear);
}

int run_ear_fd(const RunEar *ear)
{
    return ear->fd;
}

pid_t run_ear_pid(const RunEar *ear)
{
    return ear->pid;
}

gboolean run_ear_is_greeted(const RunEar *ear)
{
    return ear->greeted;
}

gboolean run_ear_is_taken(const RunEar *ear)
{
    return !ear->greeted && qmp_socket_is_taken(ear->fd, ear->path);
}

gboolean run_ear_state(const RunEar *ear, RunState *ret_state)
{
    if (ear->known)
        *ret_state = ear->state;
    return ear->known;
}

/* --- what is said --- */

/* A few words go out at once, or QEMU does not read any more, and is of no use. */
static gboolean send_command(RunEar *ear, const char *command, guint64 id)
{
    g_autoptr(json_t) number = qmp_message_id(id);
    g_autofree char *line =
        g_strdup_printf("{\"execute\":\"%s\",\"id\":\"%s\"}\n", command, json_string_value(number));
    return send(ear->fd, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)strlen(line);
}

static gboolean greet(RunEar *ear)
{
    ear->greeted = TRUE;
    return send_command(ear, "qmp_capabilities", COMMAND_CAPABILITIES) &&
           send_command(ear, "query-uuid", COMMAND_UUID) && send_command(ear, "query-status", COMMAND_STATUS);
}

static gboolean restart(RunEar *ear)
{
    return send_command(ear, "system_reset", COMMAND_OTHER) && send_command(ear, "cont", COMMAND_OTHER);
}

/* --- what is heard --- */

static void set_state(RunEar *ear, RunState state)
{
    ear->state = ear->ours ? state : RUN_UNKNOWN;
    ear->known = TRUE;
}

/* It may have stopped there before we listened. */
static gboolean take_status(RunEar *ear, const json_t *data)
{
    const char *status = json_string_value(json_object_get(data, "status"));
    if (!status)
        return FALSE;
    set_state(ear, strcmp(status, "running") == 0 ? RUN_RUNNING : RUN_PAUSED);
    gboolean ended = (strcmp(status, "shutdown") == 0 && ear->actions.on_poweroff == LAUNCH_RESTART) ||
                     (strcmp(status, "guest-panicked") == 0 && ear->actions.on_crash == LAUNCH_RESTART);
    return !ended || !ear->ours || restart(ear);
}

static gboolean take_answer(RunEar *ear, const QmpMessage *message)
{
    if (message->id == COMMAND_UUID) {
        const char *uuid = json_string_value(json_object_get(message->data, "UUID"));
        ear->ours = uuid && g_ascii_strcasecmp(uuid, ear->uuid) == 0;
    }
    return message->id != COMMAND_STATUS || take_status(ear, message->data);
}

static gboolean take_event(RunEar *ear, const QmpMessage *message)
{
    const char *reason = json_string_value(json_object_get(message->data, "reason"));
    if (!ear->known)
        return TRUE; /* the answer to come is newer */
    if (strcmp(message->name, "STOP") == 0)
        set_state(ear, RUN_PAUSED);
    else if (strcmp(message->name, "RESUME") == 0)
        set_state(ear, RUN_RUNNING);
    else if (ear->ours && strcmp(message->name, "SHUTDOWN") == 0 && g_strcmp0(reason, "guest-shutdown") == 0)
        return ear->actions.on_poweroff != LAUNCH_RESTART || restart(ear);
    else if (ear->ours && strcmp(message->name, "GUEST_PANICKED") == 0)
        return ear->actions.on_crash != LAUNCH_RESTART || restart(ear);
    return TRUE;
}

static gboolean take_message(RunEar *ear, const QmpMessage *message)
{
    switch (message->kind) {
    case QMP_GREETING:
        return ear->greeted || greet(ear);
    case QMP_ANSWER:
        return take_answer(ear, message);
    case QMP_EVENT:
        return take_event(ear, message);
    case QMP_FAILURE:
        return message->id >= COMMAND_OTHER; /* another restart was faster, say */
    }
    return FALSE;
}

static gboolean take_bytes(RunEar *ear, const char *bytes, gsize len)
{
    qmp_feed_add(ear->feed, bytes, len);
    for (;;) {
        g_autoptr(QmpMessage) message = NULL;
        if (!qmp_feed_next(ear->feed, &message, NULL))
            return FALSE;
        if (!message)
            return TRUE;
        if (!take_message(ear, message))
            return FALSE;
    }
}

gboolean run_ear_hear(RunEar *ear)
{
    char bytes[4096];
    for (;;) {
        ssize_t n = recv(ear->fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        if (!take_bytes(ear, bytes, (gsize)n))
            return FALSE;
    }
}
