/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Texts: the content of the small files, made when they are opened. */
#pragma once

#include "fs.h"

/* Length in bytes and time of last change, from memory; *ret_time is left alone when there is no better one.
 * FALSE: gone. */
gboolean text_stat(Fs *fs, fuse_ino_t ino, guint64 *ret_size, gint64 *ret_time);

/* The content. Caller unrefs. EINTR: of what takes a while. */
GBytes *text_content(Fs *fs, fuse_ino_t ino, GCancellable *cancel, GError **error);

/* Answer a READ of a file whose whole content is @bytes. */
void text_reply(fuse_req_t req, GBytes *bytes, gsize size, off_t offset);
