/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "imagefile.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "files.h"
#include "remote.h"

/* The size of an open regular file or block device. */
static gboolean file_size(int fd, const char *path, guint64 *ret_size, GError **error)
{
    struct stat st;
    if (fstat(fd, &st) < 0) {
        snap_set_errno(error, errno, "cannot look at '%s'", path);
        return FALSE;
    }
    off_t size = S_ISREG(st.st_mode) ? st.st_size : lseek(fd, 0, SEEK_END);
    if (size < 0) {
        snap_set_errno(error, errno, "cannot tell the size of '%s'", path);
        return FALSE;
    }
    *ret_size = (guint64)size;
    return TRUE;
}

static ImageFile *open_export(const char *uri, GError **error)
{
    Place *place = place_open(uri, PLACE_READ, NULL, error);
    if (!place)
        return NULL;
    ImageFile *file = g_new0(ImageFile, 1);
    file->fd = -1;
    file->place = place;
    file->size = place->size;
    file->path = g_strdup(uri);
    return file;
}

ImageFile *image_file_open(const char *path, GError **error)
{
    if (remote_is_uri(path))
        return open_export(path, error);
    int fd = file_open_image(path, O_RDONLY, error);
    if (fd < 0)
        return NULL;
    guint64 size;
    if (!file_size(fd, path, &size, error)) {
        close(fd);
        return NULL;
    }
    ImageFile *file = g_new0(ImageFile, 1);
    file->fd = fd;
    file->size = size;
    file->path = g_strdup(path);
    return file;
}

gboolean image_file_measure(ImageFile *file, GError **error)
{
    return file->place || file_size(file->fd, file->path, &file->size, error);
}

void image_file_close(ImageFile *file)
{
    if (!file)
        return;
    if (file->fd >= 0) /* else it was handed on */
        close(file->fd);
    place_close(file->place);
    g_free(file->path);
    g_free(file);
}

gboolean image_file_read_some(const ImageFile *file, guint64 offset, void *buffer, gsize len, gsize *ret_got,
                              GError **error)
{
    gsize got = 0;
    while (got < len) {
        ssize_t n = pread(file->fd, (char *)buffer + got, len - got, (off_t)(offset + got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            snap_set_errno(error, errno, "cannot read '%s'", file->path);
            return FALSE;
        }
        if (n == 0)
            break;
        got += (gsize)n;
    }
    *ret_got = got;
    return TRUE;
}

gboolean image_file_read(const ImageFile *file, guint64 offset, void *buffer, gsize len, const char *what,
                         GError **error)
{
    gsize got;
    if (offset > file->size || len > file->size - offset) {
        image_file_damaged(file, error, "the %s lies outside the file", what);
        return FALSE;
    }
    if (file->place)
        return file->place->ops->read(file->place, offset, buffer, len, error);
    if (!image_file_read_some(file, offset, buffer, len, &got, error))
        return FALSE;
    if (got < len)
        image_file_damaged(file, error, "it became shorter while it was read");
    return got == len;
}

char *image_file_read_name(const ImageFile *file, guint64 offset, gsize len, const char *what, GError **error)
{
    g_autofree char *name = g_malloc0(len + 1);
    if (!image_file_read(file, offset, name, len, what, error))
        return NULL;
    if (memchr(name, '\0', len)) {
        image_file_damaged(file, error, "the %s holds a NUL byte", what);
        return NULL;
    }
    return g_steal_pointer(&name);
}

void image_file_damaged(const ImageFile *file, GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    snap_set_error(error, EIO, "'%s' is damaged: %s", file->path, text);
}

guint64 image_file_raw_size(const ImageFile *file)
{
    return (file->size + 511) & ~(guint64)511;
}
