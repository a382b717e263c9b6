/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lockprobe.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "error.h"
#include "imagefile.h"

enum {
    BYTE_READS = 100,
    BYTE_WRITES = 101,
    BYTE_RESIZES = 103,
    BYTE_NO_WRITERS = 201,
    BYTE_NO_RESIZERS = 203,
    BYTE_TAGS = 65536, /* two for each tag: it is read, it is deleted */
    N_TAG_BYTES = 65536,
};

/* Would a write lock on @byte meet another one's lock? It is only asked, never taken. */
static gboolean probe(int fd, off_t byte, const char *path, gboolean *ret_held, GError **error)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    if (fcntl(fd, F_OFD_GETLK, &lock) < 0) {
        snap_set_errno(error, errno, "cannot ask for the locks on '%s'", path);
        return FALSE;
    }
    *ret_held = lock.l_type != F_UNLCK;
    return TRUE;
}

/* `qemu-img create` holds byte 101 and 103 without 100. */
gboolean lockprobe_is_written(int fd, const char *path, gboolean *ret_held, GError **error)
{
    gboolean writes, resizes;
    if (!probe(fd, BYTE_WRITES, path, &writes, error) || !probe(fd, BYTE_RESIZES, path, &resizes, error))
        return FALSE;
    *ret_held = writes || resizes;
    return TRUE;
}

gboolean lockprobe_in_use(const char *path, ImageUse *ret_use, GError **error)
{
    g_autoptr(ImageFile) file = image_file_open(path, error);
    if (!file)
        return FALSE;
    gboolean writer, reader;
    if (!lockprobe_is_written(file->fd, path, &writer, error) ||
        !probe(file->fd, BYTE_READS, path, &reader, error))
        return FALSE;
    *ret_use = writer ? USE_WRITER : reader ? USE_READER : USE_NONE;
    return TRUE;
}

static gboolean hold_byte(int fd, off_t byte, const char *path, GError **error)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
        return TRUE;
    snap_set_errno(error, errno == EAGAIN ? EBUSY : errno, "cannot lock '%s'", path);
    return FALSE;
}

static gboolean check_no_writer(int fd, const char *path, GError **error)
{
    gboolean writer;
    if (!lockprobe_is_written(fd, path, &writer, error))
        return FALSE;
    if (writer)
        snap_set_error(error, EBUSY, "'%s' is open for writing in another process", path);
    return !writer;
}

gboolean lockprobe_keep_writers_out(int fd, const char *path, GError **error)
{
    if (!hold_byte(fd, BYTE_NO_WRITERS, path, error) || !hold_byte(fd, BYTE_NO_RESIZERS, path, error))
        return FALSE;
    /* only now: a writer that came before these locks is seen here, one that comes after sees them */
    return check_no_writer(fd, path, error);
}

gboolean lockprobe_read(int fd, const char *path, GError **error)
{
    return hold_byte(fd, BYTE_READS, path, error) && check_no_writer(fd, path, error);
}

gboolean lockprobe_take(int fd, const char *path, GError **error)
{
    gboolean reader;
    /* As one who writes: whoever would read shares no writing, and stays out. */
    if (!lockprobe_keep_writers_out(fd, path, error) || !hold_byte(fd, BYTE_WRITES, path, error) ||
        !probe(fd, BYTE_READS, path, &reader, error))
        return FALSE;
    if (reader)
        snap_set_error(error, EBUSY, "'%s' is open in another process", path);
    return !reader;
}

static gboolean check_free(int fd, off_t byte, const char *path, const char *doing, GError **error)
{
    gboolean held;
    if (!probe(fd, byte, path, &held, error))
        return FALSE;
    if (held)
        snap_set_error(error, EBUSY, "somebody %s an internal snapshot of '%s'", doing, path);
    return !held;
}

/* Two tags may have the same ones: then one waits where it need not. */
static off_t tag_byte(const char *tag)
{
    return BYTE_TAGS + 2 * (off_t)(g_str_hash(tag) % N_TAG_BYTES);
}

gboolean lockprobe_read_tag(int fd, const char *path, const char *tag, GError **error)
{
    return hold_byte(fd, tag_byte(tag), path, error) &&
           check_free(fd, tag_byte(tag) + 1, path, "deletes", error);
}

gboolean lockprobe_drop_tag(int fd, const char *path, const char *tag, GError **error)
{
    return hold_byte(fd, tag_byte(tag) + 1, path, error) &&
           check_free(fd, tag_byte(tag), path, "reads", error);
}
