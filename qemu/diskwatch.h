/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * DiskWatch: a reader of content that others may write at any time: has nobody? Asked before and after each use; whoever
 * writes has the image open for writing then, or the file has other times.
 */
#pragma once

#include <sys/stat.h>

#include "imagefile.h"

typedef struct {
    const ImageFile *file;
    struct stat was;
    gint written; /* once TRUE, for good */
} DiskWatch;

/* Begin to watch @file, which stays the caller's. EBUSY: somebody has it open for writing. */
gboolean disk_watch_begin(DiskWatch *watch, const ImageFile *file, GError **error);

/* EIO when somebody has it open for writing, or ever wrote it since the beginning. */
gboolean disk_watch_check(DiskWatch *watch, GError **error);
