/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QMP's lines, as they come in: bytes of any cut go into a QmpFeed, whole messages come out. Nothing from the socket is
 * trusted: a line has a limit, a message that is none of the four kinds is an error, and after an error the feed is of no
 * more use, because nobody knows what the next line would answer.
 *
 * Neither has a lock; each has one owner.
 */
#pragma once

#include <glib.h>
#include <jansson.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(json_t, json_decref)

/*
 * The longest line taken. The longest that QEMU really sends, query-named-block-nodes with flat, has 1 to 2 KiB a layer
 * and 150 bytes an internal snapshot.
 */
#define QMP_LINE_BYTES (16u << 20)

typedef enum {
    QMP_GREETING, /* data: the version, {"qemu": {"major": ...}, "package": ...} */
    QMP_ANSWER,   /* id, data: what the command returned */
    QMP_FAILURE,  /* id, name: the error's class, text: its description */
    QMP_EVENT     /* name, data (an object, maybe empty), usec */
} QmpKind;

typedef struct {
    QmpKind kind;
    guint64 id; /* of the command that this answers; 0: it says none, or one that is not ours */
    char *name;
    char *text;
    json_t *data;
    gint64 usec; /* wall clock, microseconds since 1970; -1: QEMU did not know */
} QmpMessage;

void qmp_message_free(QmpMessage *message);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmpMessage, qmp_message_free)

/*
 * One line's message. EPROTO: it is none. A whole number beyond 64 bit with sign (QEMU has unsigned ones) makes all numbers
 * of its message reals.
 */
QmpMessage *qmp_message_parse(const char *line, gsize len, GError **error);

/* The id of command number @number as it goes over the wire (a string: it keeps its form whatever becomes of numbers). */
json_t *qmp_message_id(guint64 number);

typedef struct QmpFeed QmpFeed;

/* @line_bytes: the longest line taken, its end not counted. */
QmpFeed *qmp_feed_new(gsize line_bytes);
void qmp_feed_free(QmpFeed *feed);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmpFeed, qmp_feed_free)

/* What was received. To be followed by qmp_feed_next() until that has no more. */
void qmp_feed_add(QmpFeed *feed, const char *data, gsize len);

/* *ret_message: the next one, or NULL when more bytes are needed. EPROTO. */
gboolean qmp_feed_next(QmpFeed *feed, QmpMessage **ret_message, GError **error);
