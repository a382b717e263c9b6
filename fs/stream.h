/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stream: what one open of a ctl file writes, cut into commands and documents (DESIGN 2: a command is
 * complete at its newline, without one at flush; a document follows only a line that ends in " -"; a bare
 * document is complete when its root element ends; the writes of one open are joined). It knows no file
 * system. One caller at a time.
 */
#pragma once

#include "ctl.h"

typedef struct Stream Stream;

/* Run one command. @command is NULL for a bare document; @doc (may be NULL) is the document of @len bytes. */
typedef gboolean (*StreamRun)(gpointer user, const Command *command, const char *doc, gsize len,
                              GError **error);

Stream *stream_new(CtlScope scope);
void stream_free(Stream *stream);

/*
 * Take @len more bytes and run, in order, what they complete. Returns how many bytes are taken: all, or, with
 * @error set, those up to the command that failed (0 when it is the first). What stands behind a failed
 * command is dropped.
 */
gsize stream_write(Stream *stream, const char *data, gsize len, StreamRun run, gpointer user, GError **error);

/*
 * A descriptor was closed: run a line that has no newline. A document that has begun and not ended is EINVAL,
 * and is kept: another process may go on with it. A line that announced a document which has not begun is
 * kept too.
 */
gboolean stream_flush(Stream *stream, StreamRun run, gpointer user, GError **error);

/* Is a command still waiting for (the rest of) its document? */
gboolean stream_waiting(const Stream *stream);

/* The command that was run last, or that waits: a short text for the log, never NULL. */
const char *stream_what(const Stream *stream);

/* TRUE when @text holds nothing but white space and comments, the last of which may still be open: what may
 * follow the root element of a document. */
gboolean text_is_misc(const char *text, gsize len);
