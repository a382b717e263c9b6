/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writer: what one open writes into a ctl file, domain.xml, snapshot.xml or description, and what that does.
 * Has its own lock, which it holds while it acts: call it in jobs only.
 */
#pragma once

#include "fs.h"

typedef struct Writer Writer;

/* @truncated: the open asked for O_TRUNC, so what is there counts as gone for this open. */
Writer *writer_new(Fs *fs, fuse_ino_t ino, gboolean truncated);
void writer_free(Writer *writer);

/*
 * Take @len bytes at @offset and do what they complete. Returns how many were taken, all or fewer (then a
 * command behind them failed, and the next write or flush is told its errno); 0 with *ret_errno when the
 * first failed.
 */
gsize writer_write(Writer *writer, guint64 offset, const char *data, gsize len, GCancellable *cancel,
                   int *ret_errno);

/* A descriptor was closed. Returns 0 or an errno. */
int writer_flush(Writer *writer, GCancellable *cancel);

/* The open file is cut to @size bytes: 0 starts afresh. Never acts. Returns 0 or an errno. */
int writer_truncate(Writer *writer, guint64 size);

/* Nobody will write any more: say in the log what was left incomplete. */
void writer_end(Writer *writer);

/* Put @content in the place of the text @ino at once, as renaming a file onto it does. Returns 0 or an errno.
 */
int writer_replace(Fs *fs, fuse_ino_t ino, GBytes *content, GCancellable *cancel);
