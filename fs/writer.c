/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "writer.h"

#include <errno.h>
#include <string.h>

#include "command.h"
#include "document.h"
#include "error.h"
#include "node.h"
#include "stream.h"
#include "text.h"
#include "xml.h"

struct Writer {
    Fs *fs;
    fuse_ino_t ino;
    GMutex lock;
    gboolean fresh;     /* nothing written yet, and not truncated: an append goes on from the text there is */
    Stream *stream;     /* of a ctl file, else NULL */
    Document *document; /* of domain.xml and snapshot.xml, else NULL */
    GString *text;      /* of a description */
    int owed;           /* errno of a command behind the bytes that a short write took */
    int failed;         /* errno of a command: what this open writes after it may be the rest of it, and is not run */
    gboolean told;      /* that a document is incomplete is in the log already */
};

/* What the run callbacks need. */
typedef struct {
    Writer *writer;
    GCancellable *cancel;
} Act;

Writer *writer_new(Fs *fs, fuse_ino_t ino, gboolean truncated)
{
    Writer *writer = g_new0(Writer, 1);
    g_mutex_init(&writer->lock);
    writer->fs = fs;
    writer->ino = ino;
    writer->fresh = !truncated;
    if (node_is_ctl(ino))
        writer->stream = stream_new(node_kind(ino) == NODE_CTL ? CTL_DOMAIN : CTL_MOUNT);
    else if (node_kind(ino) == NODE_DESCRIPTION)
        writer->text = g_string_new(NULL);
    else
        writer->document = document_new();
    return writer;
}

void writer_free(Writer *writer)
{
    if (writer == NULL)
        return;
    stream_free(writer->stream);
    document_free(writer->document);
    if (writer->text != NULL)
        g_string_free(writer->text, TRUE);
    g_mutex_clear(&writer->lock);
    g_free(writer);
}

static int report(Writer *writer, const GError *error)
{
    EngineId domain = node_domain(writer->fs, writer->ino);
    if (writer->stream != NULL)
        return fs_report(writer->fs, domain, stream_what(writer->stream), error);
    const char *file = node_spec(node_kind(writer->ino))->name;
    g_autofree char *name = writer->fs->engine->ops->name(writer->fs->engine, node_id(writer->ino));
    gboolean of_domain = node_kind(writer->ino) == NODE_DOMAIN_XML;
    g_autofree char *what = of_domain ? g_strdup_printf("write %s", file)
                                      : g_strdup_printf("write %s of '%s'", file, name == NULL ? "?" : name);
    return fs_report(writer->fs, domain, what, error);
}

static gboolean run_command(gpointer user, const Command *command, const char *doc, gsize len, GError **error)
{
    const Act *act = user;
    if (g_cancellable_is_cancelled(act->cancel)) {
        snap_set_error(error, EINTR, "interrupted before it began");
        return FALSE;
    }
    EngineId domain = node_id(act->writer->ino); /* 0 for the mount's */
    return command_run(act->writer->fs, domain, command, doc, len, act->cancel, error);
}

static gboolean run_document(gpointer user, const char *xml, gsize len, GError **error)
{
    const Act *act = user;
    Engine *engine = act->writer->fs->engine;
    EngineId id = node_id(act->writer->ino);
    if (node_kind(act->writer->ino) == NODE_DOMAIN_XML)
        return engine->ops->define(engine, id, xml, len, act->cancel, NULL, error);
    EngineLook now;
    if (!engine->ops->look(engine, id, &now)) {
        snap_set_error(error, ENOENT, "the snapshot is gone");
        return FALSE;
    }
    return engine->ops->redefine(engine, now.domain, id, xml, len, 0, act->cancel, error);
}

/* Does the text end within a character, which the next write may complete (DESIGN 2: writes are joined)? */
static gboolean ends_in_character(const GString *text)
{
    const char *end;
    if (g_utf8_validate_len(text->str, text->len, &end))
        return FALSE;
    gsize left = text->len - (gsize)(end - text->str);
    return left <= 3 && *end != '\0' && g_utf8_get_char_validated(end, (gssize)left) == (gunichar)-2;
}

/* Set the description to what @text holds, less one newline at its end. */
static gboolean describe(Act *act, const GString *text, GError **error)
{
    gsize len = text->len;
    if (memchr(text->str, '\0', len) != NULL) {
        snap_set_error(error, EINVAL, "the description holds a zero byte");
        return FALSE;
    }
    if (len > 0 && text->str[len - 1] == '\n')
        len--;
    g_autofree char *description = g_strndup(text->str, len);
    if (!g_utf8_validate(description, -1, NULL)) {
        snap_set_error(error, EILSEQ, "the description is not UTF-8");
        return FALSE;
    }
    Engine *engine = act->writer->fs->engine;
    return engine->ops->describe(engine, node_id(act->writer->ino), description, act->cancel, error);
}

/* `>>`: go on from the text that is there, when the first write is at its end. */
static gboolean begin_append(Writer *writer, guint64 offset, GError **error)
{
    g_autoptr(GBytes) before = text_content(writer->fs, writer->ino, NULL, error);
    if (before == NULL)
        return FALSE;
    if (g_bytes_get_size(before) == offset)
        g_string_append_len(writer->text, g_bytes_get_data(before, NULL), (gssize)g_bytes_get_size(before));
    return TRUE;
}

static gboolean write_text(Act *act, guint64 offset, const char *data, gsize len, GError **error)
{
    Writer *writer = act->writer;
    GString *text = writer->text;
    if (offset == 0)
        g_string_truncate(text, 0);
    else if (writer->fresh && !begin_append(writer, offset, error))
        return FALSE;
    writer->fresh = FALSE;
    if (offset != text->len) {
        snap_set_error(error, EINVAL, "a description is written from its beginning, in one go");
        return FALSE;
    }
    if (len > XML_MAX_BYTES - MIN(text->len, XML_MAX_BYTES)) {
        snap_set_error(error, EFBIG, "a description has at most %d bytes", XML_MAX_BYTES);
        return FALSE;
    }
    g_string_append_len(text, data, (gssize)len);
    if (ends_in_character(text) || describe(act, text, error))
        return TRUE;
    g_string_truncate(text, offset);
    return FALSE;
}

static gsize write_any(Act *act, guint64 offset, const char *data, gsize len, GError **error)
{
    Writer *writer = act->writer;
    /* A ctl file takes any offset: it is a stream. */
    if (writer->stream != NULL)
        return stream_write(writer->stream, data, len, run_command, act, error);
    gboolean taken = writer->document != NULL
                         ? document_write(writer->document, offset, data, len, run_document, act, error)
                         : write_text(act, offset, data, len, error);
    return taken ? len : 0;
}

gsize writer_write(Writer *writer, guint64 offset, const char *data, gsize len, GCancellable *cancel,
                   int *ret_errno)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&writer->lock);
    g_autoptr(GError) error = NULL;
    Act act = {.writer = writer, .cancel = cancel};
    if (writer->owed != 0) {
        *ret_errno = writer->owed;
        writer->owed = 0;
        return 0;
    }
    if (writer->failed != 0) {
        *ret_errno = writer->failed;
        return 0;
    }
    writer->told = FALSE;
    gsize taken = write_any(&act, offset, data, len, &error);
    if (error == NULL)
        return taken;
    int err = report(writer, error);
    if (writer->stream != NULL)
        writer->failed = err;
    if (taken > 0)
        writer->owed = err;
    else
        *ret_errno = err;
    return taken;
}

static gboolean flush_any(Act *act, GError **error)
{
    Writer *writer = act->writer;
    if (writer->stream != NULL)
        return stream_flush(writer->stream, run_command, act, error);
    if (writer->document != NULL)
        return document_flush(writer->document, error);
    if (!ends_in_character(writer->text))
        return TRUE;
    snap_set_error(error, EILSEQ, "the description ends within a character");
    return FALSE;
}

int writer_flush(Writer *writer, GCancellable *cancel)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&writer->lock);
    g_autoptr(GError) error = NULL;
    Act act = {.writer = writer, .cancel = cancel};
    if (writer->owed != 0) {
        int owed = writer->owed;
        writer->owed = 0;
        return owed;
    }
    if (writer->failed != 0 || flush_any(&act, &error))
        return 0; /* a failure was told by the write */
    /* The same incomplete document at every close of a duplicate: one line in the log is enough. */
    gboolean told = writer->told;
    writer->told = TRUE;
    return told ? snap_errno(error) : report(writer, error);
}

int writer_truncate(Writer *writer, guint64 size)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&writer->lock);
    guint64 written = writer->document != NULL ? document_size(writer->document)
                      : writer->text != NULL   ? writer->text->len
                                               : 0;
    if (size == written) {
        writer->fresh = FALSE;
        return 0;
    }
    if (size > 0)
        return EPERM;
    writer->fresh = FALSE;
    if (writer->document != NULL)
        document_reset(writer->document);
    else
        g_string_truncate(writer->text, 0);
    return 0;
}

void writer_end(Writer *writer)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&writer->lock);
    if (writer->told || writer->failed != 0 || writer->stream == NULL || !stream_waiting(writer->stream))
        return;
    g_autoptr(GError) error = NULL;
    snap_set_error(&error, EINVAL, "its document did not follow");
    report(writer, error);
}

int writer_replace(Fs *fs, fuse_ino_t ino, GBytes *content, GCancellable *cancel)
{
    Writer *writer = writer_new(fs, ino, TRUE);
    gsize len;
    const char *data = g_bytes_get_data(content, &len);
    int err = 0;
    g_autoptr(GError) error = NULL;
    if (writer->document != NULL && text_is_misc(len == 0 ? "" : data, len))
        snap_set_error(&error, EINVAL, "the file holds no document");
    if (error != NULL)
        err = report(writer, error);
    else if (writer_write(writer, 0, len == 0 ? "" : data, len, cancel, &err) == len && err == 0)
        err = writer_flush(writer, cancel);
    writer_free(writer);
    return err;
}
