/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * RawView: an open vda.raw: what a disk holds in a state, read through the engine. What waits for others, or may be much to
 * look through, is done in a job. Why a read failed goes into the log once an open. May be used by several threads at once.
 */
#pragma once

#include <diskreader.h>

#include "fs.h"

typedef struct RawView RawView;

/* Open the view @ino. It may take a while: call it in a job. Why it fails is reported already. */
RawView *rawview_new(Fs *fs, fuse_ino_t ino, GCancellable *cancel, GError **error);
void rawview_free(RawView *view);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RawView, rawview_free)

guint64 rawview_size(const RawView *view);

/* Answer a READ, and an LSEEK. The answer is the last use of @view: its release may come while it is being given. */
void rawview_read(RawView *view, fuse_req_t req, gsize size, off_t offset);
void rawview_seek(RawView *view, fuse_req_t req, off_t offset, int whence);
