/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Live: an open text that is made anew by each read from its beginning, as in cgroupfs: who keeps state open and reads it
 * again sees what is so now. Making it may mean to ask a machine that does not answer, or to read the tables of many images, so that
 * is done in a job: only the reader waits, and may be interrupted. Has its own lock.
 */
#pragma once

#include "fs.h"

typedef struct Live Live;

Live *live_new(Fs *fs, fuse_ino_t ino);
void live_free(Live *live);

/* Answer a READ. */
void live_read(Live *live, fuse_req_t req, gsize size, off_t offset);

/* Length of what was read last; of a text not read yet, what the engine says. */
guint64 live_size(Live *live);
