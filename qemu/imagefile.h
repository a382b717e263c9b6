/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ImageFile: an image opened to have its header read. Everything in it is hostile: each read is checked
 * against the size, no position is used for seeking, and only regular files, block devices and NBD exports are
 * opened at all.
 */
#pragma once

#include "place.h"

typedef struct {
    int fd;       /* -1: it is a place */
    Place *place; /* an NBD export, or NULL */
    guint64 size; /* bytes, when it was opened; a block device's size */
    char *path;
} ImageFile;

/*
 * Open @path (absolute, no symlink) read-only, or the export with that URI. ENOENT, EACCES, ELOOP; EINVAL: neither
 * file nor block device.
 */
ImageFile *image_file_open(const char *path, GError **error);
void image_file_close(ImageFile *file);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ImageFile, image_file_close)

/* Take the size anew: it is a file that grows. */
gboolean image_file_measure(ImageFile *file, GError **error);

/* Read exactly @len bytes at @offset. EIO, calling @what damaged, when they are not all inside the file. */
gboolean image_file_read(const ImageFile *file, guint64 offset, void *buffer, gsize len, const char *what,
                         GError **error);

/* Read up to @len bytes at @offset: *ret_got, fewer only at the end of the file. Of a file that is no place. EIO. */
gboolean image_file_read_some(const ImageFile *file, guint64 offset, void *buffer, gsize len, gsize *ret_got,
                              GError **error);

/*
 * Read a name of @len bytes at @offset: a new string, without a NUL inside (EIO otherwise: what QEMU would
 * read of such a name is not what is written there). NULL when it fails.
 */
char *image_file_read_name(const ImageFile *file, guint64 offset, gsize len, const char *what,
                           GError **error);

/* The virtual size of a raw image: QEMU counts whole sectors, and reads zeros where the last one is not there. */
guint64 image_file_raw_size(const ImageFile *file);

/* Set @error to an EIO that says what is damaged. */
void image_file_damaged(const ImageFile *file, GError **error, const char *format, ...) G_GNUC_PRINTF(3, 4);
