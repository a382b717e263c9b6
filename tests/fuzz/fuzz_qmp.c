/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What comes over a QMP socket: the messages are the same however the bytes are cut, up to the first that is none, and each
 * is what its kind promises. The first byte of the input says how to cut and how long a line may be, the rest is the bytes.
 */
#include <string.h>

#include "fuzz.h"
#include "qmp_message.h"

static void check_message(const QmpMessage *message)
{
    MUST((message->kind == QMP_FAILURE) == (message->text != NULL));
    MUST((message->kind == QMP_FAILURE) == (message->data == NULL));
    MUST((message->name != NULL) == (message->kind == QMP_FAILURE || message->kind == QMP_EVENT));
    MUST(message->kind != QMP_EVENT || (json_is_object(message->data) && message->usec >= -1));
    MUST(message->kind != QMP_GREETING || json_is_object(message->data));
    MUST(!message->name || g_utf8_validate(message->name, -1, NULL));
    MUST(!message->text || g_utf8_validate(message->text, -1, NULL));
}

static void note(GString *seen, const QmpMessage *message)
{
    char *data = message->data ? json_dumps(message->data, JSON_ENCODE_ANY | JSON_SORT_KEYS) : NULL;
    g_string_append_printf(seen, "%d %" G_GUINT64_FORMAT " %s %s %s %" G_GINT64_FORMAT "\n", message->kind,
                           message->id, message->name, message->text, data, message->usec);
    free(data);
}

/* All messages that come of it and, last, the error. */
static char *feed_bytes(const char *bytes, gsize len, gsize piece, gsize line_bytes)
{
    g_autoptr(QmpFeed) feed = qmp_feed_new(line_bytes);
    GString *seen = g_string_new(NULL);
    for (gsize at = 0; at < len; at += piece) {
        qmp_feed_add(feed, bytes + at, MIN(piece, len - at));
        for (;;) {
            g_autoptr(QmpMessage) message = NULL;
            g_autoptr(GError) error = NULL;
            gboolean good = qmp_feed_next(feed, &message, &error);
            MUST(good == (error == NULL) && (good || !message));
            if (!good) {
                must_be_either(NULL, error);
                g_string_append(seen, error->message);
                return g_string_free(seen, FALSE);
            }
            if (!message)
                break;
            check_message(message);
            note(seen, message);
        }
    }
    return g_string_free(seen, FALSE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    const char *bytes = (const char *)data + 1;
    gsize len = size - 1, line_bytes = data[0] & 0x80 ? 64 : QMP_LINE_BYTES;
    g_autofree char *whole = feed_bytes(bytes, len, len, line_bytes);
    g_autofree char *cut = feed_bytes(bytes, len, data[0] % 64 + 1u, line_bytes);
    MUST(strcmp(whole, cut) == 0);
    return 0;
}
