/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp_message.h"

#include <errno.h>
#include <string.h>

#include "error.h"

struct QmpFeed {
    GByteArray *bytes;
    gsize start;   /* of the line that is next */
    gsize scanned; /* up to there it has no end: a long line is not searched again with each piece */
    gsize line_bytes;
};

void qmp_message_free(QmpMessage *message)
{
    if (!message)
        return;
    g_free(message->name);
    g_free(message->text);
    json_decref(message->data);
    g_free(message);
}

json_t *qmp_message_id(guint64 number)
{
    g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT, number);
    return json_string(text);
}

/* 0: not one that qmp_message_id() makes. */
static guint64 number_of_id(const json_t *id)
{
    guint64 number = 0;
    const char *text = json_string_value(id);
    if (!text || text[0] == '0' || !g_ascii_string_to_unsigned(text, 10, 1, G_MAXUINT64, &number, NULL))
        return 0;
    return number;
}

static json_t *parse_json(const char *line, gsize len, GError **error)
{
    json_error_t why;
    json_t *json = json_loadb(line, len, JSON_REJECT_DUPLICATES, &why);
    if (!json && json_error_code(&why) == json_error_numeric_overflow)
        json = json_loadb(line, len, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &why);
    if (json)
        return json;
    g_autofree char *readable = g_utf8_make_valid(why.text, -1);
    snap_set_error(error, EPROTO, "a line that is no QMP: %s", readable);
    return NULL;
}

static gint64 time_of(const json_t *stamp)
{
    double seconds = json_number_value(json_object_get(stamp, "seconds"));
    double usec = json_number_value(json_object_get(stamp, "microseconds"));
    if (!(seconds >= 0 && seconds < 1e12) || !(usec >= 0 && usec < 1e6))
        return -1;
    return (gint64)seconds * G_USEC_PER_SEC + (gint64)usec;
}

static gboolean read_greeting(const json_t *qmp, QmpMessage *message)
{
    message->kind = QMP_GREETING;
    message->data = json_incref(json_object_get(qmp, "version"));
    return json_is_object(message->data);
}

static gboolean read_answer(json_t *returned, QmpMessage *message)
{
    message->kind = QMP_ANSWER;
    message->data = json_incref(returned);
    return TRUE;
}

static gboolean read_failure(json_t *failure, QmpMessage *message)
{
    const char *class = NULL, *text = NULL;
    message->kind = QMP_FAILURE;
    if (json_unpack(failure, "{s:s, s:s}", "class", &class, "desc", &text) < 0)
        return FALSE;
    message->name = g_strdup(class);
    message->text = g_strdup(text);
    return TRUE;
}

static gboolean read_event(json_t *json, QmpMessage *message)
{
    json_t *data = json_object_get(json, "data");
    message->kind = QMP_EVENT;
    message->name = g_strdup(json_string_value(json_object_get(json, "event")));
    message->data = data ? json_incref(data) : json_object();
    message->usec = time_of(json_object_get(json, "timestamp"));
    return message->name && json_is_object(message->data);
}

/* Exactly one of the four words says what it is. */
static gboolean read_message(json_t *json, QmpMessage *message)
{
    json_t *greeting = json_object_get(json, "QMP"), *returned = json_object_get(json, "return");
    json_t *failure = json_object_get(json, "error"), *event = json_object_get(json, "event");
    if (!!greeting + !!returned + !!failure + !!event != 1)
        return FALSE;
    message->id = number_of_id(json_object_get(json, "id"));
    if (greeting)
        return read_greeting(greeting, message);
    if (returned)
        return read_answer(returned, message);
    return failure ? read_failure(failure, message) : read_event(json, message);
}

QmpMessage *qmp_message_parse(const char *line, gsize len, GError **error)
{
    g_autoptr(json_t) json = parse_json(line, len, error);
    if (!json)
        return NULL;
    g_autoptr(QmpMessage) message = g_new0(QmpMessage, 1);
    if (!json_is_object(json) || !read_message(json, message)) {
        snap_set_error(error, EPROTO, "a line that is no greeting, answer, error or event of QMP");
        return NULL;
    }
    return g_steal_pointer(&message);
}

QmpFeed *qmp_feed_new(gsize line_bytes)
{
    QmpFeed *feed = g_new0(QmpFeed, 1);
    feed->bytes = g_byte_array_new();
    feed->line_bytes = line_bytes;
    return feed;
}

void qmp_feed_free(QmpFeed *feed)
{
    if (!feed)
        return;
    g_byte_array_unref(feed->bytes);
    g_free(feed);
}

void qmp_feed_add(QmpFeed *feed, const char *data, gsize len)
{
    if (feed->start > 0) {
        g_byte_array_remove_range(feed->bytes, 0, (guint)feed->start);
        feed->start = 0;
    }
    g_byte_array_append(feed->bytes, (const guint8 *)data, (guint)len);
}

static gboolean is_blank(const char *line, gsize len)
{
    for (gsize i = 0; i < len; i++)
        if (!g_ascii_isspace(line[i]))
            return FALSE;
    return TRUE;
}

/* *ret_line: the next line with something on it, NULL: it has no end yet. */
static gboolean next_line(QmpFeed *feed, const char **ret_line, gsize *ret_len, GError **error)
{
    for (;;) {
        const char *line = (const char *)feed->bytes->data + feed->start;
        gsize there = feed->bytes->len - feed->start;
        const char *end =
            there > feed->scanned ? memchr(line + feed->scanned, '\n', there - feed->scanned) : NULL;
        gsize len = end ? (gsize)(end - line) : there;
        if (len > feed->line_bytes) {
            snap_set_error(error, EPROTO, "a line of more than %" G_GSIZE_FORMAT " bytes", feed->line_bytes);
            return FALSE;
        }
        feed->scanned = end ? 0 : there;
        if (!end) {
            *ret_line = NULL;
            return TRUE;
        }
        feed->start += len + 1;
        if (!is_blank(line, len)) {
            *ret_line = line;
            *ret_len = len;
            return TRUE;
        }
    }
}

gboolean qmp_feed_next(QmpFeed *feed, QmpMessage **ret_message, GError **error)
{
    const char *line = NULL;
    gsize len = 0;
    if (!next_line(feed, &line, &len, error))
        return FALSE;
    QmpMessage *message = line ? qmp_message_parse(line, len, error) : NULL;
    if (line && !message)
        return FALSE;
    *ret_message = message;
    return TRUE;
}
