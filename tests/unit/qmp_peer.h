/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A client of QMP for tests: one connection, one command at a time. */
#pragma once

#include <jansson.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "images.h"

typedef struct {
    FILE *in;
    int fd;
    gboolean (*alive)(gpointer); /* is QEMU? It says its last words when not */
    gpointer user;
} QmpPeer;

/* Connect; wait for @seconds at most, here and for each answer. */
static inline QmpPeer qmp_peer_open(const char *path, gboolean (*alive)(gpointer), gpointer user, int seconds)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = seconds};
    gint64 end = g_get_monotonic_time() + seconds * G_USEC_PER_SEC;
    ck_assert_uint_lt(strlen(path), sizeof address.sun_path);
    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    while (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        ck_assert_msg(alive(user), "QEMU has ended");
        ck_assert_msg(g_get_monotonic_time() < end, "nobody listens at '%s'", path);
        g_usleep(5000);
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return (QmpPeer){fdopen(fd, "r"), fd, alive, user};
}

/* The connection has ended: has QEMU, too? */
static inline gboolean qmp_peer_lost(QmpPeer *peer)
{
    gint64 end = g_get_monotonic_time() + G_USEC_PER_SEC;
    while (peer->alive(peer->user) && g_get_monotonic_time() < end)
        g_usleep(5000);
    return !peer->alive(peer->user);
}

/* The next message. Caller unrefs. */
static inline json_t *qmp_peer_read(QmpPeer *peer)
{
    json_error_t problem;
    json_t *message = json_loadf(peer->in, JSON_DISABLE_EOF_CHECK, &problem);
    if (!message)
        ck_abort_msg("no answer: %s%s", problem.text, qmp_peer_lost(peer) ? "; QEMU has ended" : "");
    return message;
}

/* Send @text; what it returned (NULL: an error, which is printed into *ret_error). Events are passed over. */
static inline json_t *qmp_peer_ask(QmpPeer *peer, const char *text, char **ret_error)
{
    ck_assert_int_eq(send(peer->fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
    for (;;) {
        json_t *message = qmp_peer_read(peer);
        json_t *result = json_incref(json_object_get(message, "return"));
        json_t *error = json_object_get(message, "error");
        if (error && ret_error)
            *ret_error = g_strdup(json_string_value(json_object_get(error, "desc")));
        gboolean answer = result || error;
        json_decref(message);
        if (answer)
            return result;
    }
}

/* The same, for what must succeed. Caller unrefs. */
static inline json_t *qmp_peer_must(QmpPeer *peer, const char *text)
{
    g_autofree char *error = NULL;
    json_t *result = qmp_peer_ask(peer, text, &error);
    ck_assert_msg(result != NULL, "%s: %s", text, error ? error : "?");
    return result;
}

static inline void qmp_peer_greet(QmpPeer *peer)
{
    json_t *greeting = qmp_peer_read(peer);
    ck_assert(json_object_get(greeting, "QMP") != NULL);
    json_decref(greeting);
    json_decref(qmp_peer_must(peer, "{\"execute\":\"qmp_capabilities\"}"));
}
