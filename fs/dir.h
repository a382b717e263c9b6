/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Open directories: a list of names made when reading starts, so that every reader sees each name once. */
#pragma once

#include "fs.h"

typedef struct Dir Dir;

/* NULL: there is no such directory. */
Dir *dir_open(Fs *fs, fuse_ino_t ino);
void dir_free(Dir *dir);

/* Answer a readdir, or (@plus) a readdirplus. Offset 0 lists afresh, as rewinddir wants it. */
void dir_read(Fs *fs, Dir *dir, fuse_req_t req, gsize size, off_t offset, gboolean plus);
