/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "copyfile.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "fault.h"
#include "imagefile.h"
#include "lockprobe.h"

#define CHUNK_BYTES (1024 * 1024) /* between two looks at the cancellable */

typedef struct {
    const ImageFile *source;
    int target;
    const char *target_path;
    GCancellable *cancel;
    char *buffer; /* CHUNK_BYTES */
} Copy;

static gboolean write_all(const Copy *copy, gsize len, guint64 offset, GError **error)
{
    for (gsize done = 0; done < len;) {
        ssize_t n = FAULT("copyfile.write")
                        ? -1
                        : pwrite(copy->target, copy->buffer + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            snap_set_errno(error, errno, "cannot write '%s'", copy->target_path);
            return FALSE;
        }
        done += (gsize)n;
    }
    return TRUE;
}

static gboolean copy_range(const Copy *copy, guint64 offset, guint64 end, GError **error)
{
    while (offset < end) {
        gsize len = (gsize)MIN(end - offset, CHUNK_BYTES);
        if (g_cancellable_is_cancelled(copy->cancel)) {
            snap_set_error(error, EINTR, "copy '%s': cancelled", copy->source->path);
            return FALSE;
        }
        if (!image_file_read(copy->source, offset, copy->buffer, len, "data", error) ||
            !write_all(copy, len, offset, error))
            return FALSE;
        offset += len;
    }
    return TRUE;
}

/* Copy the parts that hold data; a file system (or block device) that knows no holes shows one part. */
static gboolean copy_data(const Copy *copy, GError **error)
{
    guint64 size = copy->source->size;
    for (guint64 offset = 0; offset < size;) {
        off_t data = lseek(copy->source->fd, (off_t)offset, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            return TRUE; /* only a hole is left */
        off_t hole = data < 0 ? -1 : lseek(copy->source->fd, data, SEEK_HOLE);
        guint64 start = data < 0 ? offset : (guint64)data;
        guint64 end = hole < 0 ? size : MIN((guint64)hole, size);
        if (start >= size)
            return TRUE;
        if (!copy_range(copy, start, end, error))
            return FALSE;
        offset = MAX(end, start + 1);
    }
    return TRUE;
}

static gboolean copy_into(const Copy *copy, GError **error)
{
    if (ftruncate(copy->target, 0) < 0) {
        snap_set_errno(error, errno, "cannot empty '%s'", copy->target_path);
        return FALSE;
    }
    if (ioctl(copy->target, FICLONE, copy->source->fd) == 0)
        return TRUE;
    if (ftruncate(copy->target, (off_t)copy->source->size) < 0) {
        snap_set_errno(error, errno, "cannot make '%s' that large", copy->target_path);
        return FALSE;
    }
    return copy_data(copy, error);
}

gboolean copyfile(const char *source, const char *target, GCancellable *cancel, GError **error)
{
    g_autoptr(ImageFile) from = image_file_open(source, error);
    if (!from || !lockprobe_keep_writers_out(from->fd, source, error))
        return FALSE;
    int to = open(target, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (to < 0) {
        snap_set_errno(error, errno, "cannot open '%s'", target);
        return FALSE;
    }
    struct stat st;
    g_autofree char *buffer = g_malloc(CHUNK_BYTES);
    Copy copy = {from, to, target, cancel, buffer};
    gboolean ok = fstat(to, &st) == 0 && S_ISREG(st.st_mode);
    if (!ok)
        snap_set_error(error, EINVAL, "'%s' is not a regular file", target);
    else
        ok = copy_into(&copy, error);
    close(to);
    return ok;
}
