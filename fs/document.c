/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "document.h"

#include <errno.h>

#include "error.h"
#include "stream.h"
#include "xml.h"

struct Document {
    GString *text; /* the document as far as it came, then what follows it */
    gsize end;     /* where the document ends in text; 0: not yet */
    XmlFeed *feed;
    gboolean failed; /* refused: nothing more is taken until it starts afresh */
};

Document *document_new(void)
{
    Document *document = g_new0(Document, 1);
    document->text = g_string_new(NULL);
    return document;
}

void document_free(Document *document)
{
    if (document == NULL)
        return;
    g_clear_pointer(&document->feed, xml_feed_free);
    g_string_free(document->text, TRUE);
    g_free(document);
}

void document_reset(Document *document)
{
    g_clear_pointer(&document->feed, xml_feed_free);
    g_string_truncate(document->text, 0);
    document->end = 0;
    document->failed = FALSE;
}

guint64 document_size(const Document *document)
{
    return document->text->len;
}

static gboolean check_tail(Document *document, GError **error)
{
    GString *text = document->text;
    if (text->len <= 2 * XML_MAX_BYTES && text_is_misc(text->str + document->end, text->len - document->end))
        return TRUE;
    snap_set_error(error, EINVAL, "something follows the end of the document");
    return FALSE;
}

static gboolean take(Document *document, const char *data, gsize len, DocumentRun run, gpointer user,
                     GError **error)
{
    gsize used;
    gboolean done = FALSE;
    gsize before = document->text->len;
    g_string_append_len(document->text, data, (gssize)len);
    if (document->end > 0)
        return check_tail(document, error);
    if (document->feed == NULL)
        document->feed = xml_feed_new();
    if (!xml_feed(document->feed, data, len, &used, &done, error))
        return FALSE;
    if (!done)
        return TRUE;
    document->end = before + used;
    return check_tail(document, error) && run(user, document->text->str, document->end, error);
}

gboolean document_write(Document *document, guint64 offset, const char *data, gsize len, DocumentRun run,
                        gpointer user, GError **error)
{
    if (offset == 0)
        document_reset(document);
    if (document->failed || offset != document->text->len) {
        snap_set_error(error, EINVAL, "a document is written from its beginning, in one go");
        return FALSE;
    }
    if (take(document, data, len, run, user, error))
        return TRUE;
    document->failed = TRUE;
    return FALSE;
}

gboolean document_flush(Document *document, GError **error)
{
    if (document->failed || document->end > 0 || text_is_misc(document->text->str, document->text->len))
        return TRUE;
    snap_set_error(error, EINVAL, "the document ends before its root element does");
    return FALSE;
}
