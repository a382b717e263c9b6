/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "stream.h"

#include <errno.h>
#include <string.h>

#include "error.h"
#include "xml.h"

/* Longer lines are an attack or a mistake: the longest useful command holds some paths. */
#define LINE_MAX_BYTES 65536

/* As much of a line as the log repeats. */
#define WHAT_MAX_BYTES 120

struct Stream {
    CtlScope scope;
    GString *line;    /* the line that has begun */
    Command *command; /* waits for its document */
    XmlFeed *feed;    /* not NULL: inside a document, of command or bare */
    GString *doc;     /* the document as far as it came */
    char *what;       /* for the log */
};

Stream *stream_new(CtlScope scope)
{
    Stream *stream = g_new0(Stream, 1);
    stream->scope = scope;
    stream->line = g_string_new(NULL);
    stream->doc = g_string_new(NULL);
    stream->what = g_strdup("command");
    return stream;
}

/* Back to the start of a line: neither a line nor a document has begun. */
static void forget(Stream *stream)
{
    g_string_truncate(stream->line, 0);
    g_string_truncate(stream->doc, 0);
    g_clear_pointer(&stream->command, command_free);
    g_clear_pointer(&stream->feed, xml_feed_free);
}

void stream_free(Stream *stream)
{
    if (stream == NULL)
        return;
    forget(stream);
    g_string_free(stream->line, TRUE);
    g_string_free(stream->doc, TRUE);
    g_free(stream->what);
    g_free(stream);
}

gboolean stream_waiting(const Stream *stream)
{
    return stream->command != NULL || stream->doc->len > 0;
}

const char *stream_what(const Stream *stream)
{
    return stream->what;
}

static void set_what(Stream *stream, const char *text)
{
    g_autofree char *head = g_strndup(text, WHAT_MAX_BYTES);
    g_strstrip(head);
    g_free(stream->what);
    stream->what = g_utf8_make_valid(head, -1);
}

gboolean text_is_misc(const char *text, gsize len)
{
    static const char open[] = "<!--";
    const char *end = text + len;
    for (;;) {
        while (text < end && g_ascii_isspace(*text))
            text++;
        gsize left = (gsize)(end - text);
        if (strncmp(text, open, MIN(left, sizeof open - 1)) != 0)
            return FALSE;
        if (left < sizeof open - 1)
            return TRUE;
        text += sizeof open - 1;
        const char *close = memmem(text, (gsize)(end - text), "-->", 3);
        if (close == NULL)
            return TRUE;
        text = close + 3;
    }
}

static void begin_document(Stream *stream)
{
    stream->feed = xml_feed_new();
    if (stream->command == NULL)
        set_what(stream, stream->scope == CTL_DOMAIN ? "create from a document" : "define");
}

/* The line is complete: run it, or wait for its document. *ret_ran: a command ran. */
static gboolean end_line(Stream *stream, StreamRun run, gpointer user, gboolean *ret_ran, GError **error)
{
    Command *parsed = NULL;
    set_what(stream, stream->line->str);
    if (memchr(stream->line->str, '\0', stream->line->len) != NULL) {
        snap_set_error(error, EINVAL, "the command holds a zero byte");
        return FALSE;
    }
    if (!ctl_parse(stream->scope, stream->line->str, &parsed, error))
        return FALSE;
    g_string_truncate(stream->line, 0);
    g_autoptr(Command) command = parsed;
    if (command == NULL)
        return TRUE;
    if (command->document) {
        stream->command = g_steal_pointer(&command);
        return TRUE;
    }
    if (!run(user, command, NULL, 0, error))
        return FALSE;
    *ret_ran = TRUE;
    return TRUE;
}

static gboolean feed_line(Stream *stream, const char *data, gsize len, StreamRun run, gpointer user,
                          gsize *ret_used, gboolean *ret_ran, GError **error)
{
    const char *newline = memchr(data, '\n', len);
    gsize part = newline == NULL ? len : (gsize)(newline - data);
    if (part > LINE_MAX_BYTES - stream->line->len) {
        set_what(stream, "command");
        snap_set_error(error, EINVAL, "a command is longer than %d bytes", LINE_MAX_BYTES);
        return FALSE;
    }
    g_string_append_len(stream->line, data, (gssize)part);
    if (newline != NULL && !end_line(stream, run, user, ret_ran, error))
        return FALSE;
    *ret_used = newline == NULL ? part : part + 1;
    return TRUE;
}

static gboolean feed_document(Stream *stream, const char *data, gsize len, StreamRun run, gpointer user,
                              gsize *ret_used, gboolean *ret_ran, GError **error)
{
    gsize used;
    gboolean done;
    if (!xml_feed(stream->feed, data, len, &used, &done, error))
        return FALSE;
    g_string_append_len(stream->doc, data, (gssize)used);
    if (done) {
        if (!run(user, stream->command, stream->doc->str, stream->doc->len, error))
            return FALSE;
        forget(stream);
        *ret_ran = TRUE;
    }
    *ret_used = used;
    return TRUE;
}

/* Take some of the bytes: *ret_used of them, at least one. */
static gboolean step(Stream *stream, const char *data, gsize len, StreamRun run, gpointer user,
                     gsize *ret_used, gboolean *ret_ran, GError **error)
{
    if (stream->feed != NULL)
        return feed_document(stream, data, len, run, user, ret_used, ret_ran, error);
    if (stream->line->len > 0)
        return feed_line(stream, data, len, run, user, ret_used, ret_ran, error);
    if (g_ascii_isspace(*data)) {
        *ret_used = 1;
        return TRUE;
    }
    if (*data == '<') {
        begin_document(stream);
        return feed_document(stream, data, len, run, user, ret_used, ret_ran, error);
    }
    if (stream->command != NULL) {
        snap_set_error(error, EINVAL, "no XML document follows its line");
        return FALSE;
    }
    return feed_line(stream, data, len, run, user, ret_used, ret_ran, error);
}

gsize stream_write(Stream *stream, const char *data, gsize len, StreamRun run, gpointer user, GError **error)
{
    gsize at = 0;
    gsize done = 0; /* up to here all that was complete has run */
    while (at < len) {
        gsize used;
        gboolean ran = FALSE;
        if (!step(stream, data + at, len - at, run, user, &used, &ran, error)) {
            forget(stream);
            return done;
        }
        at += used;
        if (ran)
            done = at;
    }
    return len;
}

gboolean stream_flush(Stream *stream, StreamRun run, gpointer user, GError **error)
{
    if (stream->feed != NULL && stream->command == NULL && text_is_misc(stream->doc->str, stream->doc->len)) {
        forget(stream); /* a comment that stood behind the document */
        return TRUE;
    }
    if (stream->feed != NULL) {
        snap_set_error(error, EINVAL, "the document ends before its root element does");
        return FALSE;
    }
    if (stream->line->len == 0)
        return TRUE;
    gboolean ran;
    if (end_line(stream, run, user, &ran, error))
        return TRUE;
    forget(stream);
    return FALSE;
}
