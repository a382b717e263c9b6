/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Document: what one open of domain.xml or snapshot.xml writes. It acts in the write that completes the root
 * element, so that tools which lose the error of close (echo, printf, Python) see it (facts/fuse.md 2.5). One
 * caller at a time.
 */
#pragma once

#include <glib.h>

typedef struct Document Document;
typedef gboolean (*DocumentRun)(gpointer user, const char *xml, gsize len, GError **error);

Document *document_new(void);
void document_free(Document *document);

/* Start afresh: the file was truncated. */
void document_reset(Document *document);

/* How many bytes were written since the start. */
guint64 document_size(const Document *document);

/*
 * Take @len bytes at @offset. Offset 0 starts afresh, any other must be where the last write ended: EINVAL.
 * @run is called in the write that completes the document; what follows may only be white space and comments.
 */
gboolean document_write(Document *document, guint64 offset, const char *data, gsize len, DocumentRun run,
                        gpointer user, GError **error);

/* A descriptor was closed: EINVAL when the document has begun and not ended. It is kept; the next write may
 * go on. */
gboolean document_flush(Document *document, GError **error);
