/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Open: an open file, as file.c makes it and attr.c tells of it. */
#pragma once

#include "live.h"
#include "rawview.h"
#include "writer.h"

/* An open file: fi->fh. Unchanged while it is open, but for what locks for itself. */
typedef struct {
    Fs *fs;
    int fd;             /* of an image, or -1 */
    PassedFile *passed; /* how that is read, see passthrough.h */
    RawView *view;      /* of a disk's content, or NULL */
    struct stat st;     /* of both: what it was shown as */
    GBytes *text;       /* what reading gives, or NULL */
    Live *live;         /* what makes that anew each time, or NULL */
    Writer *writer;     /* when it is open for writing */
    guint64 scratch;    /* id, or 0 */
} File;

static inline File *file_of(const struct fuse_file_info *fi)
{
    return (File *)(uintptr_t)fi->fh;
}

void file_free(File *file);
